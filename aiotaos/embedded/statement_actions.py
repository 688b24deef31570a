"""The actions of prepared statements at ``/ws``: stmt2, and stmt v1."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias, TypeVar

import anyio
import anyio.to_thread
import msgspec

from ..errors import ProtocolError
from ..protocol import frames, messages
from ..protocol.bound import parse_bind
from ..types import Precision, TypeCode
from .arguments import UNKNOWN, BinaryHandler, Handler, parse_arguments, sendable
from .columns import Column, byte_length
from .engine import Engine, Rows, State, guarded
from .faults import Fault, unsupported
from .statements import Statement, misused
from .steps import Steps
from .template import BIND_COLUMN, BIND_NAME, BIND_TAG

_Found = TypeVar("_Found")
_StepArgs: TypeAlias = messages.StatementArgs | messages.PrepareArgs | messages.TableNameArgs
_NAME_BYTES = 271


class _TagsArgs(messages.StatementArgs):
    """Arguments of ``set_tags``."""

    tags: list[Any] = msgspec.field(default_factory=list)


class _ColumnsArgs(messages.StatementArgs):
    """Arguments of ``bind``."""

    columns: list[list[Any]] = msgspec.field(default_factory=list)


class _IndexArgs(messages.StatementArgs):
    """Arguments of ``stmt_get_param``."""

    index: int = 0


class _ParameterReply(messages.StatementReply):
    """Reply to ``stmt_get_param``."""

    index: int = 0
    data_type: int = 0
    length: int = 0


@dataclass(slots=True)
class _Entry:
    """A statement of the socket's; a :class:`Steps` if it is one of stmt v1.

    Attributes:
        results: Ids of the results that end with it.
    """

    statement: Statement
    lock: anyio.Lock = field(default_factory=anyio.Lock)
    results: list[int] = field(default_factory=list)


class StatementActions:
    """The statements of one socket.

    Args:
        engine: What executes them.
        state: What the session remembers.
        keep: Enters a result that the client may fetch from, and returns its id.
        drop: Frees such a result.
    """

    def __init__(
        self,
        engine: Engine,
        state: State,
        keep: Callable[[Rows], int],
        drop: Callable[[int], Awaitable[None]],
    ) -> None:
        self._engine = engine
        self._state = state
        self._keep = keep
        self._drop = drop
        self._entries: dict[int, _Entry] = {}
        self._last_id = 0
        args = messages.StatementArgs
        self.handlers: dict[str, Handler] = {
            "stmt2_init": self._init2,
            "stmt2_prepare": partial(self._json, Statement, messages.PrepareArgs, _prepare2),
            "stmt2_exec": partial(self._json, Statement, args, _execute),
            "stmt2_result": partial(self._result, Statement),
            "stmt2_close": self._close2,
            "init": self._init1,
            "prepare": partial(self._json, Steps, messages.PrepareArgs, _prepare1),
            "set_table_name": partial(self._json, Steps, messages.TableNameArgs, _set_table_name),
            "set_tags": partial(self._json, Steps, _TagsArgs, _set_tags),
            "bind": partial(self._json, Steps, _ColumnsArgs, _bind_rows),
            "add_batch": partial(self._json, Steps, args, _add_batch),
            "exec": partial(self._json, Steps, args, _execute),
            "get_tag_fields": partial(self._json, Steps, args, _tag_fields),
            "get_col_fields": partial(self._json, Steps, args, _column_fields),
            "stmt_num_params": partial(self._json, Steps, args, _count),
            "stmt_get_param": partial(self._json, Steps, _IndexArgs, _parameter),
            "use_result": partial(self._result, Steps),
            "close": self._close1,
        }
        self.binary_handlers: dict[int, tuple[str, BinaryHandler]] = {
            frames.Action.STMT2_BIND: ("stmt2_bind", partial(self._binary, Statement, _bind2)),
            frames.Action.SET_TAGS: ("set_tags", partial(self._binary, Steps, _set_tags_raw)),
            frames.Action.BIND: ("bind", partial(self._binary, Steps, _bind_rows_raw)),
        }

    async def close(self) -> None:
        """Free all statements."""
        for id in list(self._entries):
            await self._free(id)

    async def _free(self, id: int) -> None:
        entry = self._entries.pop(id, None)
        if entry is not None:
            for result in entry.results:
                await self._drop(result)
            async with entry.lock:
                await anyio.to_thread.run_sync(entry.statement.close)

    def _init(self, statement: Statement) -> messages.Envelope:
        self._last_id += 1
        self._entries[self._last_id] = _Entry(statement)
        return messages.StatementReply(stmt_id=self._last_id)

    async def _init2(self, raw: msgspec.Raw) -> messages.Envelope:
        args = parse_arguments(raw, messages.Stmt2InitArgs, "unmarshal stmt2_init request error")
        return self._init(Statement(self._engine, self._state, args.req_id))

    async def _init1(self, raw: msgspec.Raw) -> messages.Envelope:
        args = parse_arguments(raw, messages.ReqIdArgs, "unmarshal init request error")
        return self._init(Steps(self._engine, self._state, args.req_id))

    async def _run(
        self, kind: type[Statement], id: int, step: Callable[[_Entry], _Found]
    ) -> _Found:
        """Run a step in a worker thread, while no other step of the statement runs."""
        entry = self._find(kind, id)
        async with entry.lock:
            if id not in self._entries:
                raise Fault(UNKNOWN, "stmt has been freed")
            return await anyio.to_thread.run_sync(_guarded, step, entry)

    def _find(self, kind: type[Statement], id: int) -> _Entry:
        entry = self._entries.get(id)
        if entry is None or type(entry.statement) is not kind:
            raise Fault(UNKNOWN, "stmt is nil" if kind is Steps else "stmt2 is nil")
        return entry

    async def _json(
        self,
        kind: type[Statement],
        type: type[_StepArgs],
        step: Callable[[Any, Any], messages.StatementReply],
        raw: msgspec.Raw,
    ) -> messages.Envelope:
        args = parse_arguments(raw, type, "unmarshal stmt request error")
        try:
            reply = await self._run(kind, args.stmt_id, lambda entry: step(entry.statement, args))
        except Fault as fault:
            reply = messages.StatementReply(fault.code, sendable(fault.message))
        reply.stmt_id = args.stmt_id
        return reply

    async def _binary(
        self,
        kind: type[Statement],
        step: Callable[[Any, memoryview], None],
        request: frames.Request,
    ) -> messages.Envelope:
        reply = messages.StatementReply(stmt_id=request.id)
        try:
            await self._run(kind, request.id, lambda entry: step(entry.statement, request.body))
        except Fault as fault:
            reply.code, reply.message = fault.code, sendable(fault.message)
        return reply

    async def _result(self, kind: type[Statement], raw: msgspec.Raw) -> messages.Envelope:
        args = parse_arguments(raw, messages.StatementArgs, "unmarshal stmt request error")
        try:
            rows = await self._run(kind, args.stmt_id, lambda entry: _take_rows(entry.statement))
        except Fault as fault:
            message = sendable(fault.message)
            return messages.StatementReply(fault.code, message, stmt_id=args.stmt_id)
        id = self._keep(rows)
        entry = self._entries.get(args.stmt_id)
        if kind is Steps and entry is not None:
            entry.results.append(id)
        names, types, _, precisions, scales = messages.result_description(rows.fields)
        return messages.StatementResultReply(
            stmt_id=args.stmt_id,
            id=id,
            result_id=id,
            fields_count=len(names),
            fields_names=names,
            fields_types=types,
            # unlike those of a query these count the prefixes of strings
            fields_lengths=[byte_length(one.type, one.length) for one in rows.fields],
            precision=rows.precision,
            fields_precisions=precisions,
            fields_scales=scales,
        )

    async def _close2(self, raw: msgspec.Raw) -> messages.Envelope:
        return await self._close(Statement, raw)

    async def _close1(self, raw: msgspec.Raw) -> messages.Envelope | None:
        reply = await self._close(Steps, raw)
        return reply if reply.code else None

    async def _close(self, kind: type[Statement], raw: msgspec.Raw) -> messages.Envelope:
        """Free a statement; one that does not exist is no error, one of the other family is."""
        args = parse_arguments(raw, messages.StatementArgs, "unmarshal stmt request error")
        reply = messages.StatementReply(stmt_id=args.stmt_id)
        try:
            if args.stmt_id in self._entries:
                self._find(kind, args.stmt_id)
                await self._free(args.stmt_id)
        except Fault as fault:
            reply.code, reply.message = fault.code, fault.message
        return reply


def _guarded(step: Callable[[_Entry], _Found], entry: _Entry) -> _Found:
    with guarded():
        try:
            return step(entry)
        except ProtocolError as error:
            raise Fault(UNKNOWN, error.message) from None


def _prepare2(statement: Statement, args: messages.PrepareArgs) -> messages.StatementReply:
    statement.prepare(args.sql)
    reply = messages.PrepareReply(is_insert=statement.is_insert)
    if args.get_fields and statement.is_insert:
        template = statement.template()
        precision = statement.precision(template)
        reply.fields = [_info(column, precision, kind) for kind, column in template.slots]
        reply.fields_count = len(reply.fields)
    elif args.get_fields:
        reply.fields_count = statement.parameters
    return reply


def _bind2(statement: Statement, body: memoryview) -> None:
    column, tables = parse_bind(body)
    if column != -1:
        raise unsupported("binding single columns or rows")
    statement.bind(tables)


def _execute(statement: Statement, _: messages.StatementArgs) -> messages.StatementReply:
    return messages.ExecReply(affected=statement.execute())


def _take_rows(statement: Statement) -> Rows:
    if statement.is_insert:
        raise Fault(UNKNOWN, "stmt is insert, no result set")
    return statement.take_rows()


def _prepare1(steps: Steps, args: messages.PrepareArgs) -> messages.StatementReply:
    steps.prepare(args.sql)
    return messages.PrepareReply(is_insert=steps.is_insert)


def _set_table_name(steps: Steps, args: messages.TableNameArgs) -> messages.StatementReply:
    steps.set_table_name(args.name)
    return messages.StatementReply()


def _set_tags(steps: Steps, args: _TagsArgs) -> messages.StatementReply:
    steps.set_tags(args.tags)
    return messages.StatementReply()


def _set_tags_raw(steps: Steps, body: memoryview) -> None:
    steps.set_tags(body)


def _bind_rows(steps: Steps, args: _ColumnsArgs) -> messages.StatementReply:
    steps.bind_rows(args.columns)
    return messages.StatementReply()


def _bind_rows_raw(steps: Steps, body: memoryview) -> None:
    steps.bind_rows(body)


def _add_batch(steps: Steps, _: messages.StatementArgs) -> messages.StatementReply:
    steps.add_batch()
    return messages.StatementReply()


def _tag_fields(steps: Steps, _: messages.StatementArgs) -> messages.StatementReply:
    return _fields(steps, BIND_TAG)


def _column_fields(steps: Steps, _: messages.StatementArgs) -> messages.StatementReply:
    return _fields(steps, BIND_COLUMN)


def _fields(steps: Steps, kind: int) -> messages.StatementReply:
    template = steps.known_template()
    precision = steps.precision(template)
    infos = [_info(column, precision) for column in template.of_kind(kind)]
    return messages.ParametersReply(fields=infos or None)


def _count(steps: Steps, _: messages.StatementArgs) -> messages.StatementReply:
    if not steps.is_insert:
        return messages.ParameterCountReply(num_params=steps.parameters)
    columns = steps.known_template().of_kind(BIND_COLUMN)
    return messages.ParameterCountReply(num_params=len(columns))


def _parameter(steps: Steps, args: _IndexArgs) -> messages.StatementReply:
    columns = steps.known_template().of_kind(BIND_COLUMN)
    if not 0 <= args.index < len(columns):
        raise misused()
    type = columns[args.index].type
    length = byte_length(type.code, type.length)
    return _ParameterReply(index=args.index, data_type=type.code, length=length)


def _info(column: Column, precision: Precision, kind: int = 0) -> messages.ParameterInfo:
    type = column.type
    if kind == BIND_NAME:
        return messages.ParameterInfo(column.name, type.code, bytes=_NAME_BYTES, bind_type=kind)
    is_time = type.code is TypeCode.TIMESTAMP
    return messages.ParameterInfo(
        column.name,
        type.code,
        precision if is_time else type.precision,
        type.scale,
        byte_length(type.code, type.length),
        kind,
    )

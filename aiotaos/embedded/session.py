"""A WebSocket conversation at ``/ws``."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC

import anyio
import anyio.abc
import anyio.to_thread
import msgspec
from aiohttp import WSMessage, WSMsgType, web

from ..errors import ProtocolError
from ..protocol import frames, messages
from ..protocol.encode import encode_block
from . import times
from .access import Access
from .arguments import UNKNOWN, BinaryHandler, Handler, parse_arguments, sendable
from .columns import byte_length
from .engine import Engine, Rows, State, Update
from .faults import Fault
from .lines import count_lines
from .sql import VERSION
from .statement_actions import StatementActions

_NIL = "result is nil"
_NOT_CONNECTED = "server not connected"
_SERVICE_OK = 2
_OPTIONS = range(-1, 5)
_OPTION_CLEAR = -1
_REFUSED_BINARY: dict[int, str] = {
    frames.Action.WRITE_RAW: "write_raw",
    frames.Action.WRITE_RAW_BLOCK: "write_raw_block",
    frames.Action.WRITE_RAW_BLOCK_WITH_FIELDS: "write_raw_block_with_fields",
    frames.Action.VALIDATE_SQL: "validate_sql",
}
_REFUSED_JSON = frozenset({"get_connection_info"})
_URGENT_STARTS = ("kill", "show queries")
_LOOKED_AT = 200


@dataclass(slots=True)
class _Result:
    """A result that the client may still fetch from.

    Attributes:
        limiter: Of the threads that read it; None for those that all share.
        block: What ``fetch`` read for the ``fetch_block`` that follows.
    """

    rows: Rows
    limiter: anyio.CapacityLimiter | None = None
    lock: anyio.Lock = field(default_factory=anyio.Lock)
    block: bytes | None = None


class Session:
    """One socket: its connection, its results, and the requests that run at the moment.

    Each request is a task of its own, so answers come in the order in which they are ready.
    """

    def __init__(self, engine: Engine, access: Access, socket: web.WebSocketResponse) -> None:
        self._engine = engine
        self._access = access
        self._socket = socket
        self._state = State()
        self._connected = False
        self._results: dict[int, _Result] = {}
        self._last_id = 0
        # where slow statements have all threads, what stops them must not wait for one
        self._urgent = anyio.CapacityLimiter(4)
        self._handlers: dict[str, Handler] = {
            "version": self._version,
            "conn": self._conn,
            "check_server_status": self._check_server_status,
            "query": self._query,
            "fetch": self._fetch,
            "fetch_block": self._fetch_block,
            "free_result": self._free_result,
            "num_fields": self._num_fields,
            "get_current_db": self._get_current_db,
            "get_server_info": self._get_server_info,
            "options_connection": self._options_connection,
            "insert": self._insert,
        }
        self._statements = StatementActions(engine, self._state, self._keep, self._drop)
        self._handlers |= self._statements.handlers

    async def run(self) -> None:
        """Answer until the socket closes, then free everything."""
        try:
            async with anyio.create_task_group() as group:
                async for message in self._socket:
                    group.start_soon(self._answer, message)
                group.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await self._statements.close()
                for id in list(self._results):
                    await self._drop(id)
                self._engine.runs.leave(self._state.client)

    async def _answer(self, message: WSMessage) -> None:
        with suppress(ConnectionError):  # the client went away, nobody waits for this
            if message.type is WSMsgType.TEXT:
                await self._answer_text(message.data)
            elif message.type is WSMsgType.BINARY:
                await self._answer_binary(message.data)

    async def _send(self, reply: messages.Envelope, action: str, req_id: int, began: int) -> None:
        reply.action, reply.req_id = action, req_id
        reply.timing = time.perf_counter_ns() - began
        await self._socket.send_str(messages.reply(reply))

    async def _answer_text(self, data: str) -> None:
        began = time.perf_counter_ns()
        req_id = 0
        action = ""
        reply: messages.Envelope | None
        try:
            request = parse_arguments(data.encode(), messages.Request, "unmarshal request error")
            action = request.action
            if not action:
                raise Fault(UNKNOWN, "request no action")
            wrong = f"unmarshal {action} request error"
            req_id = parse_arguments(request.args, messages.ReqIdArgs, wrong).req_id
            if not self._connected and action not in ("version", "conn", "check_server_status"):
                raise Fault(UNKNOWN, _NOT_CONNECTED)
            handler = self._handlers.get(action)
            if handler is None:
                if action in _REFUSED_JSON:
                    raise Fault(UNKNOWN, f"not supported by the embedded server: {action}")
                raise Fault(UNKNOWN, f"unknown action {action}")
            reply = await handler(request.args)
        except Fault as fault:
            reply = messages.Envelope(fault.code, sendable(fault.message))
        if reply is not None:
            await self._send(reply, action, req_id, began)

    async def _answer_binary(self, data: bytes) -> None:
        began = time.perf_counter_ns()
        try:
            request = frames.parse_request(data)
        except ProtocolError:
            refusal = messages.Envelope(UNKNOWN, "message length is too short")
            await self._send(refusal, "", 0, began)
            return
        if request.action == frames.Action.FETCH and self._connected:
            await self._fetch_raw(request, began)
            return
        name, handler = self._binary(request.action)
        reply: messages.Envelope
        try:
            if not self._connected:
                raise Fault(UNKNOWN, _NOT_CONNECTED)
            if handler is None:
                raise Fault(UNKNOWN, _refused_binary(request.action, name))
            reply = await handler(request)
        except Fault as fault:
            reply = messages.Envelope(fault.code, sendable(fault.message))
        await self._send(reply, name, request.req_id, began)

    def _binary(self, action: int) -> tuple[str, BinaryHandler | None]:
        """How the replies to a binary request are called, and what answers it."""
        if action == frames.Action.QUERY:
            return "binary_query", self._query_binary
        if action == frames.Action.FETCH:
            return "fetch_raw_block", None
        if action in self._statements.binary_handlers:
            return self._statements.binary_handlers[action]
        return _REFUSED_BINARY.get(action, ""), None

    async def _query_binary(self, request: frames.Request) -> messages.Envelope:
        return await self._run(_sql_of(request), request.req_id)

    async def _run(self, sql: str, req_id: int) -> messages.QueryReply:
        sql = sql.strip()
        limiter = self._urgent if _is_urgent(sql) else None
        result = await anyio.to_thread.run_sync(
            self._engine.execute, sql, self._state, req_id, limiter=limiter
        )
        if isinstance(result, Update):
            return messages.QueryReply(is_update=True, affected_rows=result.affected)
        names, types, lengths, precisions, scales = messages.result_description(result.fields)
        return messages.QueryReply(
            id=self._keep(result, limiter),
            fields_count=len(names),
            fields_names=names,
            fields_types=types,
            fields_lengths=lengths,
            precision=result.precision,
            fields_precisions=precisions,
            fields_scales=scales,
        )

    def _keep(self, rows: Rows, limiter: anyio.CapacityLimiter | None = None) -> int:
        self._last_id += 1
        self._results[self._last_id] = _Result(rows, limiter)
        return self._last_id

    def _find(self, id: int) -> _Result:
        result = self._results.get(id)
        if result is None:
            raise Fault(UNKNOWN, _NIL)
        return result

    async def _next_block(self, id: int) -> tuple[int, bytes] | None:
        """Rows and bytes of the next block; at the end, or on an error, the result is freed."""
        result = self._find(id)
        async with result.lock:
            if id not in self._results:
                raise Fault(UNKNOWN, _NIL)
            try:
                block = await anyio.to_thread.run_sync(
                    _encoded_block, result.rows, limiter=result.limiter
                )
            except Fault:
                await self._drop(id)
                raise
        if block is None:
            await self._drop(id)
        return block

    async def _drop(self, id: int) -> None:
        result = self._results.pop(id, None)
        if result is not None:
            await anyio.to_thread.run_sync(result.rows.close, limiter=result.limiter)

    async def _fetch_raw(self, request: frames.Request, began: int) -> None:
        code, text, block = 0, "", None
        try:
            block = await self._next_block(request.id)
        except Fault as fault:
            code, text = fault.code, fault.message
        reply = frames.fetch_reply(
            request.req_id,
            request.id,
            block=block[1] if block is not None else None,
            code=code,
            message=text,
            timing=time.perf_counter_ns() - began,
        )
        await self._socket.send_bytes(reply)

    async def _version(self, _: msgspec.Raw) -> messages.Envelope:
        return messages.VersionReply(version=VERSION)

    async def _conn(self, raw: msgspec.Raw) -> messages.Envelope:
        args = parse_arguments(raw, messages.ConnArgs, "unmarshal connect request error")
        if self._connected:
            raise Fault(UNKNOWN, "duplicate connections")
        if args.mode == 0:
            raise Fault(UNKNOWN, "not supported by the embedded server: BI mode")
        if args.mode is not None:
            raise Fault(UNKNOWN, f"unexpected mode:{args.mode}")
        if args.bearer_token or args.totp_code:
            raise Fault(UNKNOWN, "not supported by the embedded server: login with a token")
        self._access.check(args.user, args.password)
        if args.db and not self._engine.has_database(args.db):
            raise Fault(0x0388, "Database not exist")
        if args.tz:
            self._set_zone(args.tz)
        self._state.database = args.db
        host, port, *_ = self._socket.get_extra_info("peername") or ("", 0)
        self._state.client = self._engine.runs.join(
            args.user, args.app, args.ip or host, f"{host}:{port}"
        )
        self._connected = True
        return messages.VersionReply(version=VERSION)

    def _set_zone(self, name: str | None) -> None:
        zone = times.find_zone(name or "")
        if zone is None:
            raise Fault(0x0118, "Invalid parameters")
        self._state.zone = zone

    async def _check_server_status(self, _: msgspec.Raw) -> messages.Envelope:
        return messages.StatusReply(status=_SERVICE_OK)

    async def _query(self, raw: msgspec.Raw) -> messages.Envelope:
        args = parse_arguments(raw, messages.SqlArgs, "unmarshal query request error")
        return await self._run(args.sql, args.req_id)

    async def _fetch(self, raw: msgspec.Raw) -> messages.Envelope:
        id = parse_arguments(raw, messages.ResultArgs, "unmarshal fetch request error").id
        result = self._find(id)
        block = await self._next_block(id)
        if block is None:
            return messages.FetchReply(id=id, completed=True)
        result.block = block[1]
        lengths = [byte_length(one.type, one.length) for one in result.rows.fields]
        return messages.FetchReply(id=id, lengths=lengths, rows=block[0])

    async def _fetch_block(self, raw: msgspec.Raw) -> None:
        id = parse_arguments(raw, messages.ResultArgs, "unmarshal fetch block request error").id
        result = self._find(id)
        if result.block is None:
            raise Fault(UNKNOWN, "block is nil")
        await self._socket.send_bytes(frames.old_block_reply(id, result.block))

    async def _free_result(self, raw: msgspec.Raw) -> None:
        await self._drop(
            parse_arguments(raw, messages.ResultArgs, "unmarshal free result request error").id
        )

    async def _num_fields(self, raw: msgspec.Raw) -> messages.Envelope:
        id = parse_arguments(
            raw, messages.ResultIdArgs, "unmarshal num fields request error"
        ).result_id
        return messages.NumFieldsReply(num_fields=len(self._find(id).rows.fields))

    async def _get_current_db(self, _: msgspec.Raw) -> messages.Envelope:
        return messages.DatabaseReply(db=self._state.database)

    async def _get_server_info(self, _: msgspec.Raw) -> messages.Envelope:
        return messages.InfoReply(info=f"ver:{VERSION}\nbuild:aiotaos embedded\ngitinfo:")

    async def _insert(self, raw: msgspec.Raw) -> messages.Envelope:
        args = parse_arguments(
            raw, messages.InsertArgs, "unmarshal schemaless insert request error"
        )
        if args.protocol == 0:
            raise Fault(UNKNOWN, "schemaless write protocol is null")
        affected = await anyio.to_thread.run_sync(
            self._engine.insert_points,
            self._state.database,
            args.data,
            args.protocol,
            args.precision,
            args.table_name_key or "",
        )
        total = count_lines(args.data, args.protocol)
        return messages.InsertReply(affected_rows=affected, total_rows=total)

    async def _options_connection(self, raw: msgspec.Raw) -> messages.Envelope:
        args = parse_arguments(
            raw, messages.OptionsArgs, "unmarshal options connection request error"
        )
        for option in args.options:
            if option.option not in _OPTIONS:
                raise Fault(0x0118, "Invalid parameters")
            if option.option == messages.OPTION_TIMEZONE:
                self._set_zone(option.value)
            elif option.option == _OPTION_CLEAR:
                self._state.zone = UTC
        return messages.Envelope()


def _is_urgent(sql: str) -> bool:
    """Whether a statement is about those that run, as far as its beginning tells."""
    start = sql[:_LOOKED_AT].lower()
    return start.startswith(_URGENT_STARTS) or "perf_queries" in start


def _sql_of(request: frames.Request) -> str:
    try:
        return frames.parse_query_body(request.body)
    except ProtocolError as error:
        raise Fault(UNKNOWN, error.message) from None


def _refused_binary(action: int, name: str) -> str:
    if name:
        return f"not supported by the embedded server: {name}"
    return f"unknown binary action {action}"


def _encoded_block(rows: Rows) -> tuple[int, bytes] | None:
    """Read and encode a block; it runs in a worker thread."""
    columns = rows.next_block()
    if columns is None:
        return None
    return len(columns[0]), encode_block(rows.fields, columns)

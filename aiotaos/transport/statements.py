"""Prepared statements of a WebSocket session: stmt2, and stmt v1 where the server has no stmt2.

Each step of a statement waits for the answer to the one before: the server serves messages in any
order. A statement whose step failed, timed out or was cancelled is closed on the server, because
it cannot be known in which state it is; whoever holds it prepares another.
"""

from __future__ import annotations

from collections.abc import Callable

from ..errors import UNKNOWN_CODE, Error, ProtocolError, StatementError
from ..protocol import messages
from ..protocol.bind import Binding, bind_request, set_tags_request, stmt2_bind_request
from ..protocol.sql import (
    binds_table_name,
    creates_table,
    first_word,
    placeholders,
    without_leading_comments,
)
from ..types import FieldKind, StatementField, TypeCode
from .base import Deadline, ServerStatement, next_req_id
from .calls import Call, Calls, Reply, read_late

_KINDS = {0: FieldKind.COLUMN, 1: FieldKind.COLUMN, 2: FieldKind.TAG, 4: FieldKind.TBNAME}
_PREFIXED = frozenset({TypeCode.VARCHAR, TypeCode.VARBINARY, TypeCode.GEOMETRY})
_BLOB = 4 * 1024 * 1024  # the server tells the size of a pointer
_ANY_TABLE = "aiotaos"  # stmt v1 tells the fields of a super table only when a table is named
_TBNAME = StatementField("tbname", FieldKind.TBNAME, TypeCode.VARCHAR, 269)


class Statements:
    """The prepared statements of one session.

    Args:
        calls: The session's requests.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._has_stmt2 = True

    async def prepare(self, sql: str, deadline: Deadline, req_id: int) -> ServerStatement:
        """Prepare a statement; see :meth:`aiotaos.transport.base.Transport.prepare`."""
        sql = without_leading_comments(sql)
        if self._has_stmt2:
            try:
                return await self._prepare2(sql, deadline, req_id)
            except Error as error:
                if error.code != UNKNOWN_CODE or "unknown action" not in error.message:
                    raise
                self._has_stmt2 = False
        return await self._prepare1(sql, deadline, req_id)

    async def bind(self, statement: ServerStatement, binding: Binding, deadline: Deadline) -> None:
        """Send rows; see :meth:`aiotaos.transport.base.Transport.bind`."""
        if statement.version == 2:
            req_id = next_req_id()
            frame = stmt2_bind_request(req_id, statement.id, binding)
            await self._send(statement, req_id, frame, deadline)
            return
        for table in range(len(binding.ends)):
            await self._bind1(statement, binding, table, deadline)

    async def execute(self, statement: ServerStatement, req_id: int, deadline: Deadline) -> int:
        """Execute; see :meth:`aiotaos.transport.base.Transport.execute_statement`."""
        action = "stmt2_exec" if statement.version == 2 else "exec"
        reply = await self._step(
            statement,
            action,
            messages.StatementArgs(req_id, statement.id),
            messages.ExecReply,
            deadline,
            executes=True,
        )
        return reply.affected

    async def result(
        self, statement: ServerStatement, req_id: int, deadline: Deadline
    ) -> messages.StatementResultReply:
        """Ask for the result of an executed query."""
        action = "stmt2_result" if statement.version == 2 else "use_result"
        arguments = messages.StatementArgs(req_id, statement.id)
        return await self._step(
            statement,
            action,
            arguments,
            messages.StatementResultReply,
            deadline,
            late=self._free_late,
        )

    def close(self, statement: ServerStatement) -> None:
        """Let the server drop a statement; harmless when it is closed."""
        if not statement.closed:
            statement.closed = True
            self._send_close(statement.version, statement.id)

    # stmt2.

    async def _prepare2(self, sql: str, deadline: Deadline, req_id: int) -> ServerStatement:
        statement = await self._init("stmt2_init", 2, sql, deadline, req_id)
        arguments = messages.PrepareArgs(next_req_id(), statement.id, sql, get_fields=True)
        reply = await self._step(
            statement, "stmt2_prepare", arguments, messages.PrepareReply, deadline
        )
        statement.is_insert = bool(reply.is_insert)
        try:
            statement.fields = tuple(map(_field, reply.fields or ()))
        except (KeyError, ValueError):
            self.close(statement)
            raise ProtocolError("unknown type of a parameter", sql=sql) from None
        statement.parameter_count = reply.fields_count
        return statement

    async def _init(
        self, action: str, version: int, sql: str, deadline: Deadline, req_id: int
    ) -> ServerStatement:
        arguments: messages.Arguments = messages.ReqIdArgs(req_id)
        if version == 2:
            arguments = messages.Stmt2InitArgs(req_id, single_stb_insert=True)

        def close(reply: Reply) -> None:
            message = read_late(reply, messages.StatementReply)
            if message is not None:
                self._send_close(version, message.stmt_id)

        call = Call(req_id, sql=sql, late=close)
        frame = messages.request(action, arguments)
        reply = await self._calls.run(call, frame, messages.StatementReply, deadline)
        return ServerStatement(reply.stmt_id, version, sql)

    # stmt v1.

    async def _prepare1(self, sql: str, deadline: Deadline, req_id: int) -> ServerStatement:
        statement = await self._init("init", 1, sql, deadline, req_id)
        arguments = messages.PrepareArgs(next_req_id(), statement.id, sql)
        reply = await self._step(statement, "prepare", arguments, messages.PrepareReply, deadline)
        statement.parameter_count = len(placeholders(sql))
        statement.is_insert = reply.is_insert is True or (
            reply.is_insert is None and first_word(sql) == "insert"
        )
        if statement.is_insert:
            try:
                statement.fields = await self._fields1(statement, deadline)
            except BaseException:
                self.close(statement)
                raise
        return statement

    async def _fields1(
        self, statement: ServerStatement, deadline: Deadline
    ) -> tuple[StatementField, ...]:
        fields: list[StatementField] = []
        if binds_table_name(statement.sql):
            await self._name_table(statement, _ANY_TABLE, deadline)
            fields.append(_TBNAME)
        actions = [("get_col_fields", FieldKind.COLUMN)]
        if creates_table(statement.sql):
            actions.insert(0, ("get_tag_fields", FieldKind.TAG))
        for action, kind in actions:
            reply = await self._step(
                statement,
                action,
                messages.StatementArgs(next_req_id(), statement.id),
                messages.ParametersReply,
                deadline,
            )
            fields += [_field(info, kind) for info in reply.fields or ()]
        return tuple(fields)

    async def _name_table(self, statement: ServerStatement, name: str, deadline: Deadline) -> None:
        arguments = messages.TableNameArgs(next_req_id(), statement.id, name)
        await self._step(statement, "set_table_name", arguments, messages.StatementReply, deadline)

    async def _bind1(
        self, statement: ServerStatement, binding: Binding, table: int, deadline: Deadline
    ) -> None:
        if binding.names is not None:
            await self._name_table(statement, binding.names[table], deadline)
        if binding.tags:
            req_id = next_req_id()
            frame = set_tags_request(req_id, statement.id, binding, table)
            await self._send(statement, req_id, frame, deadline)
        req_id = next_req_id()
        frame = bind_request(req_id, statement.id, binding, table)
        await self._send(statement, req_id, frame, deadline)
        arguments = messages.StatementArgs(next_req_id(), statement.id)
        await self._step(statement, "add_batch", arguments, messages.StatementReply, deadline)

    # Steps.

    async def _step(
        self,
        statement: ServerStatement,
        action: str,
        arguments: messages.Arguments,
        reply: type[messages.EnvelopeT],
        deadline: Deadline,
        *,
        executes: bool = False,
        late: Callable[[Reply], None] | None = None,
    ) -> messages.EnvelopeT:
        frame = messages.request(action, arguments)
        return await self._run(statement, arguments.req_id, frame, reply, deadline, executes, late)

    async def _send(
        self, statement: ServerStatement, req_id: int, frame: bytes, deadline: Deadline
    ) -> None:
        await self._run(statement, req_id, frame, messages.StatementReply, deadline, False)

    async def _run(
        self,
        statement: ServerStatement,
        req_id: int,
        frame: bytes | str,
        reply: type[messages.EnvelopeT],
        deadline: Deadline,
        executes: bool,
        late: Callable[[Reply], None] | None = None,
    ) -> messages.EnvelopeT:
        if statement.closed:
            raise StatementError("the statement is closed", sql=statement.sql)
        version, id = statement.version, statement.id

        def end(answer: Reply) -> None:
            if late is not None:
                late(answer)
            self._send_close(version, id)

        call = Call(req_id, sql=statement.sql, late=end, is_statement=executes)
        try:
            return await self._calls.run(call, frame, reply, deadline)
        except BaseException:
            if self._calls.is_waiting(call):
                statement.closed = True  # the late answer closes it on the server
            self.close(statement)
            raise

    def _free_late(self, reply: Reply) -> None:
        """Free the result that nobody waits for any more."""
        message = read_late(reply, messages.StatementResultReply)
        if message is not None:
            arguments = messages.ResultArgs(next_req_id(), message.id or message.result_id)
            self._calls.send("free_result", arguments)

    def _send_close(self, version: int, id: int) -> None:
        action = "stmt2_close" if version == 2 else "close"
        self._calls.send(action, messages.StatementArgs(next_req_id(), id))


def _field(info: messages.ParameterInfo, kind: FieldKind | None = None) -> StatementField:
    """The field of a parameter.

    Raises:
        ValueError: Its type is unknown.
    """
    type = TypeCode(info.field_type)
    length = info.bytes
    if type is TypeCode.NCHAR:
        length = (info.bytes - 2) // 4
    elif type in (TypeCode.BLOB, TypeCode.MEDIUMBLOB):
        length = _BLOB
    elif type in _PREFIXED:
        length = info.bytes - 2
    return StatementField(
        info.name, kind or _KINDS[info.bind_type], type, length, info.precision, info.scale
    )

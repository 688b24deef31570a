"""The WebSocket road: a session with taosAdapter's ``/ws``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..errors import InterfaceError, ProtocolError, ResultError
from ..options import Address, Options
from ..protocol import frames, messages
from ..protocol.bind import Binding
from ..protocol.block import Block, parse_block
from .base import Deadline, ServerResult, ServerStatement, next_req_id, parsed_version
from .calls import Call, Calls, Reply, read_late, text_of
from .framing import Message
from .servers import Place
from .statements import Statements

_BINARY_SINCE = (3, 3, 2, 0)


class WebSocketTransport:
    """A session over WebSocket; see :class:`aiotaos.transport.base.Transport`.

    Args:
        options: How to log in.
        place: The server, and the session's place there.

    Attributes:
        instances: The servers of the cluster, as the server told them.
        link: The socket.
    """

    def __init__(self, options: Options, place: Place) -> None:
        self._options = options
        self._address = address = place.address
        self.instances: list[str] = []
        self._version = ""
        self._binary = True
        self._calls = Calls(options, address, "/ws", place.leave)
        self._statements = Statements(self._calls)
        self.link = self._calls.link

    def __repr__(self) -> str:
        return f"<WebSocketTransport {self._calls!r}>"

    @property
    def address(self) -> Address:
        return self._address

    @property
    def endpoint(self) -> str:
        return self._calls.endpoint

    @property
    def server_version(self) -> str:
        return self._version

    @property
    def closed(self) -> bool:
        return self._calls.ended

    # The session.

    async def login(self, deadline: Deadline) -> None:
        """Ask for the version and log in.

        Raises:
            AuthenticationError: The server refuses the credentials.
            Error: It refuses the session, for example because the database does not exist.
        """
        options = self._options
        version = await self._calls.ask(
            "version", messages.ReqIdArgs(), messages.VersionReply, deadline, req_id=0
        )
        self._version = version.version
        self._binary = parsed_version(version.version) >= _BINARY_SINCE
        req_id = next_req_id()
        arguments = messages.ConnArgs(
            req_id=req_id,
            user=options.user,
            password=options.password,
            db=options.database or "",
            mode=0 if options.conn_mode == 1 else None,
            tz=options.timezone or "",
            app=options.user_app or "",
            ip=options.user_ip or "",
            connector="aiotaos",
            totp_code=options.totp_code or "",
            bearer_token=options.bearer_token or "",
            list_instances=options.adapter_ha,
        )
        login = await self._calls.ask(
            "conn", arguments, messages.LoginReply, deadline, req_id=req_id
        )
        self._version = login.version or self._version
        self.instances = login.list_instances or []

    def still_running(self, req_id: int) -> Callable[[], bool]:
        return self._calls.still_running(req_id)

    def is_fetching(self, result: ServerResult) -> bool:
        call: Call | None = result.ahead
        return call is not None and self._calls.is_waiting(call)

    async def set_timezone(self, name: str | None, req_id: int, deadline: Deadline) -> None:
        options = [messages.ConnectionOption(messages.OPTION_TIMEZONE, name)]
        arguments = messages.OptionsArgs(req_id, options)
        await self._calls.ask(
            "options_connection", arguments, messages.Envelope, deadline, req_id=req_id
        )

    async def current_database(self, deadline: Deadline) -> str | None:
        req_id = next_req_id()
        reply = await self._calls.ask(
            "get_current_db",
            messages.ReqIdArgs(req_id),
            messages.DatabaseReply,
            deadline,
            req_id=req_id,
        )
        return reply.db or None

    async def close(self, timeout: float) -> None:
        await self._calls.say_goodbye(timeout)

    def terminate(self) -> None:
        self._calls.abandon()
        self.link.abort()

    def drop(self, reason: Exception) -> None:
        self._calls.lose(reason)

    # Statements and results.

    async def query(self, sql: str, req_id: int, deadline: Deadline) -> ServerResult:
        self._calls.check_open(req_id, sql)
        try:
            if self._binary:
                frame: bytes | str = frames.query_request(req_id, sql)
            else:
                frame = messages.request("query", messages.SqlArgs(req_id, sql))
        except UnicodeError as error:
            raise InterfaceError(f"sql: it cannot be sent as UTF-8: {error}") from error
        call = Call(req_id, sql=sql, late=self._late_query, is_statement=True)
        reply = await self._calls.run(call, frame, messages.QueryReply, deadline)
        return self._result(reply, reply.id, req_id, sql)

    def _result(
        self,
        reply: messages.QueryReply,
        id: int,
        req_id: int,
        sql: str,
        statement: ServerStatement | None = None,
    ) -> ServerResult:
        try:
            return ServerResult(
                transport=self,
                id=id,
                req_id=req_id,
                sql=sql,
                is_update=reply.is_update,
                affected_rows=reply.affected_rows,
                fields=reply.fields(),
                precision=reply.precision,
                timing=reply.timing,
                finished=reply.is_update,
                statement=statement,
            )
        except ProtocolError as error:
            if not reply.is_update:
                self._send_free_id(id)
            raise self._calls.annotate(error, req_id, sql) from None

    def request_block(self, result: ServerResult) -> None:
        if result.finished or result.ahead is not None or self.closed:
            return
        call = self._fetch_call(result)
        if self._binary:
            self._calls.start(call, frames.fetch_request(call.req_id, result.id))
        else:
            self._calls.start(
                call, messages.request("fetch", messages.ResultArgs(call.req_id, result.id))
            )

    async def next_block(self, result: ServerResult, deadline: Deadline) -> Block | None:
        if result.given_up:
            raise ResultError("the result was given up", req_id=result.req_id, sql=result.sql)
        if result.finished:
            return None
        try:
            self._calls.check_open(result.req_id, result.sql, has_run=True)
            raw = await self._fetch(result, deadline)
            if raw is None:
                result.finished = True
                if result.owns_statement:
                    self._close_with(result)
                return None
            return parse_block(raw, fields=result.fields, precision=result.precision)
        except ProtocolError as error:
            self.free(result)
            raise self._calls.annotate(error, result.req_id, result.sql) from None
        except BaseException:
            self.free(result)
            raise

    def free(self, result: ServerResult) -> None:
        if result.finished:
            return
        result.finished = result.given_up = True
        call: Call | None = result.ahead
        if call is None or not self._calls.is_waiting(call):
            self._send_free(result)
        elif not call.reply.done():  # its answer is still to come and frees the result
            call.reply.set_exception(
                ResultError("the result was closed while it was read", req_id=result.req_id)
            )

    async def _fetch(self, result: ServerResult, deadline: Deadline) -> Message | None:
        """The next raw block of a result, None at its end."""
        self.request_block(result)
        reply = await self._wait_for_block(result, deadline)
        if not isinstance(reply, frames.FetchReply):
            step = messages.parse(text_of(reply), messages.FetchReply)
            self._check(step, result)
            if step.completed:
                return None
            # The block is ready; its answer is a binary frame without req_id, or JSON with it.
            call = self._fetch_call(result, result_id=result.id)
            arguments = messages.ResultArgs(call.req_id, result.id)
            self._calls.start(call, messages.request("fetch_block", arguments))
            reply = await self._wait_for_block(result, deadline)
        if not isinstance(reply, frames.FetchReply):
            self._check(messages.parse(text_of(reply), messages.Envelope), result)
            raise ProtocolError("the server answered fetch_block without a block")
        self._check(reply, result)
        return reply.block

    def _fetch_call(self, result: ServerResult, result_id: int | None = None) -> Call:
        call = Call(
            next_req_id(),
            origin=result.req_id,
            sql=result.sql,
            late=lambda reply: self._late_fetch(result, reply),
            result_id=result_id,
        )
        # The answer may come, or the link break, while nobody waits for the next block.
        call.reply.add_done_callback(_retrieve)
        result.ahead = call
        return call

    async def _wait_for_block(self, result: ServerResult, deadline: Deadline) -> Reply:
        call: Call = result.ahead
        reply = await self._calls.wait(call, deadline)
        result.ahead = None
        return reply

    def _check(self, reply: messages.Envelope | frames.FetchReply, result: ServerResult) -> None:
        if reply.code:
            result.finished = True  # the server has freed it
            self._close_with(result)
            raise self._calls.refusal(reply.code, reply.message, result.req_id, result.sql)

    def _late_query(self, reply: Reply) -> None:
        message = read_late(reply, messages.QueryReply)
        if message is not None and not message.is_update:
            self._send_free_id(message.id)

    def _late_fetch(self, result: ServerResult, reply: Reply) -> None:
        if isinstance(reply, frames.FetchReply) and reply.block is None:
            self._close_with(result)
        else:
            self._send_free(result)

    def _send_free(self, result: ServerResult) -> None:
        self._send_free_id(result.id)
        self._close_with(result)

    def _send_free_id(self, result_id: int) -> None:
        """Let the server drop a result; it does not answer, and does not mind unknown ids."""
        self._calls.send("free_result", messages.ResultArgs(next_req_id(), result_id))

    def _close_with(self, result: ServerResult) -> None:
        """Close the statement of a result that was not read to its end."""
        if result.statement is not None:
            self._statements.close(result.statement)

    # Prepared statements and schemaless writing.

    async def prepare(self, sql: str, deadline: Deadline, req_id: int) -> ServerStatement:
        return await self._statements.prepare(sql, deadline, req_id)

    async def bind(self, statement: ServerStatement, binding: Binding, deadline: Deadline) -> None:
        await self._statements.bind(statement, binding, deadline)

    async def execute_statement(
        self, statement: ServerStatement, req_id: int, deadline: Deadline
    ) -> int:
        return await self._statements.execute(statement, req_id, deadline)

    async def statement_result(
        self, statement: ServerStatement, req_id: int, deadline: Deadline
    ) -> ServerResult:
        reply = await self._statements.result(statement, req_id, deadline)
        id = reply.id or reply.result_id
        try:
            return self._result(reply, id, req_id, statement.sql, statement)
        except BaseException:
            self._statements.close(statement)
            raise

    def close_statement(self, statement: ServerStatement) -> None:
        self._statements.close(statement)

    async def schemaless_insert(self, arguments: messages.InsertArgs, deadline: Deadline) -> int:
        call = Call(arguments.req_id, is_statement=True)
        frame = messages.request("insert", arguments)
        reply = await self._calls.run(call, frame, messages.InsertReply, deadline)
        return reply.affected_rows


def _retrieve(reply: asyncio.Future[Reply]) -> None:
    if not reply.cancelled():
        reply.exception()

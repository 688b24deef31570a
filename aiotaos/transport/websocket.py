"""The WebSocket road: a session with taosAdapter's ``/ws``.

A session is concurrent: the server runs each message on its own and answers out of order, so
replies are matched by ``req_id``. There is no cancel message; a call that is given up stays known
until its late answer comes, and what that answer holds is freed then.
"""

from __future__ import annotations

import asyncio
import builtins
import logging
import re
from collections.abc import Callable
from typing import TypeAlias, TypeVar
from urllib.parse import quote

from ..errors import (
    ConnectionLost,
    Error,
    InterfaceError,
    ProtocolError,
    ResultError,
    TimeoutError,
    server_error,
)
from ..options import Address, Options
from ..protocol import frames, messages
from ..protocol.block import Block, parse_block
from .base import Deadline, ServerResult, next_req_id
from .link import Link, Message

MAX_STATEMENTS = 512
"""Statements of one session that may wait for their answers; further ones queue on this side."""

_BINARY_SINCE = (3, 3, 2, 0)
_CLOSE_WHILE_BUSY = 0.3  # seconds for the closing handshake while answers are outstanding
_logger = logging.getLogger("aiotaos.websocket")

_Reply: TypeAlias = Message | frames.FetchReply
_Typed = TypeVar("_Typed", bound=messages.Envelope)


class _Call:
    """A request that waits for its answer.

    Attributes:
        req_id: Its id.
        origin: Id of the request that the user knows: for a fetch, the statement's.
        sql: The statement it belongs to, for errors.
        late: Takes the answer of a call that was given up.
        is_statement: Whether it runs a statement, and holds one of the session's slots.
        reply: The answer; done before it came when the call was given up.
        result_id: The result whose block it fetches, answered by a frame without ``req_id``.
    """

    __slots__ = ("is_statement", "late", "origin", "reply", "req_id", "result_id", "sql")

    def __init__(
        self,
        req_id: int,
        *,
        origin: int | None = None,
        sql: str | None = None,
        late: Callable[[_Reply], None] | None = None,
        is_statement: bool = False,
        result_id: int | None = None,
    ) -> None:
        self.req_id = req_id
        self.origin = req_id if origin is None else origin
        self.sql = sql
        self.late = late
        self.is_statement = is_statement
        self.result_id = result_id
        self.reply: asyncio.Future[_Reply] = asyncio.get_running_loop().create_future()


class WebSocketTransport:
    """A session over WebSocket; see :class:`aiotaos.transport.base.Transport`.

    Args:
        options: How to log in.
        address: The server.
    """

    def __init__(self, options: Options, address: Address) -> None:
        self._options = options
        self._endpoint = options.endpoint(address)
        self._calls: dict[int, _Call] = {}
        self._blocks: dict[int, _Call] = {}
        self._slots = asyncio.Semaphore(MAX_STATEMENTS)
        self._version = ""
        self._binary = True
        self._lost: Exception | None = None
        self._closed = False
        token = f"?token={quote(options.token)}" if options.token else ""
        self.link = Link(
            f"{self._endpoint}/ws{token}",
            compression=options.compression,
            on_text=self._on_text,
            on_binary=self._on_binary,
            on_lost=self._on_lost,
        )

    def __repr__(self) -> str:
        state = "closed" if self._closed else "lost" if self._lost else "open"
        return f"<WebSocketTransport {self._endpoint} {state}, {len(self._calls)} calls>"

    @property
    def endpoint(self) -> str:
        return self._endpoint

    @property
    def server_version(self) -> str:
        return self._version

    @property
    def closed(self) -> bool:
        return self._closed or self._lost is not None

    # The session.

    async def login(self, deadline: Deadline) -> None:
        """Ask for the version and log in.

        Raises:
            AuthenticationError: The server refuses the credentials.
            Error: It refuses the session, for example because the database does not exist.
        """
        options = self._options
        version = await self._ask(
            "version", messages.ReqIdArgs(), messages.VersionReply, deadline, req_id=0
        )
        self._version = version.version
        self._binary = _parse_version(version.version) >= _BINARY_SINCE
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
        )
        login = await self._ask("conn", arguments, messages.VersionReply, deadline, req_id=req_id)
        self._version = login.version or self._version

    async def current_database(self, deadline: Deadline) -> str | None:
        req_id = next_req_id()
        reply = await self._ask(
            "get_current_db",
            messages.ReqIdArgs(req_id),
            messages.DatabaseReply,
            deadline,
            req_id=req_id,
        )
        return reply.db or None

    async def close(self, timeout: float) -> None:
        if self._calls:
            # taosAdapter answers the closing handshake only when its running statements are done.
            timeout = min(timeout, _CLOSE_WHILE_BUSY)
        self._abandon_calls()
        try:
            async with asyncio.timeout(timeout):
                await self.link.close()
        except builtins.TimeoutError:
            _logger.debug("%s: no closing handshake within %s s", self._endpoint, timeout)
        finally:
            self.link.abort()

    def terminate(self) -> None:
        self._abandon_calls()
        self.link.abort()

    def _abandon_calls(self) -> None:
        self._closed = True
        self._fail_calls(
            lambda call: InterfaceError(
                "the connection was closed during the call",
                req_id=call.origin,
                sql=call.sql,
                endpoint=self._endpoint,
                may_have_run=True if call.is_statement else None,
            )
        )

    # Statements and results.

    async def query(self, sql: str, req_id: int, deadline: Deadline) -> ServerResult:
        self._check_open(req_id, sql)
        try:
            if self._binary:
                frame: bytes | str = frames.query_request(req_id, sql)
            else:
                frame = messages.request("query", messages.SqlArgs(req_id, sql))
        except UnicodeError as error:
            raise InterfaceError(f"sql: it cannot be sent as UTF-8: {error}") from error
        call = _Call(req_id, sql=sql, late=self._late_query, is_statement=True)
        await self._take_slot(call, deadline)
        self._start(call, frame)
        try:
            reply = self._read(await self._wait(call, deadline), messages.QueryReply, call)
        except ProtocolError as error:
            raise self._annotate(error, req_id, sql) from None
        except BaseException:
            if call.reply.done() and not call.reply.cancelled() and not call.reply.exception():
                self._late_query(call.reply.result())  # it came in the same turn of the loop
            raise
        try:
            return ServerResult(
                id=reply.id,
                req_id=req_id,
                sql=sql,
                is_update=reply.is_update,
                affected_rows=reply.affected_rows,
                fields=reply.fields(),
                precision=reply.precision,
                timing=reply.timing,
                finished=reply.is_update,
            )
        except ProtocolError as error:
            if not reply.is_update:
                self._send_free(reply.id)
            raise self._annotate(error, req_id, sql) from None

    def request_block(self, result: ServerResult) -> None:
        if result.finished or result.ahead is not None or self.closed:
            return
        call = self._fetch_call(result)
        if self._binary:
            self._start(call, frames.fetch_request(call.req_id, result.id))
        else:
            self._start(
                call, messages.request("fetch", messages.ResultArgs(call.req_id, result.id))
            )

    async def next_block(self, result: ServerResult, deadline: Deadline) -> Block | None:
        if result.finished:
            return None
        try:
            self._check_open(result.req_id, result.sql, has_run=True)
            raw = await self._fetch(result, deadline)
            if raw is None:
                result.finished = True
                return None
            return parse_block(raw, fields=result.fields, precision=result.precision)
        except ProtocolError as error:
            self.free(result)
            raise self._annotate(error, result.req_id, result.sql) from None
        except BaseException:
            self.free(result)
            raise

    def free(self, result: ServerResult) -> None:
        if result.finished:
            return
        result.finished = True
        call: _Call | None = result.ahead
        if call is None or self._calls.get(call.req_id) is not call:
            self._send_free(result.id)
        elif not call.reply.done():  # its answer is still to come and frees the result
            call.reply.set_exception(
                ResultError("the result was closed while it was read", req_id=result.req_id)
            )

    async def _fetch(self, result: ServerResult, deadline: Deadline) -> Message | None:
        """The next raw block of a result, None at its end."""
        self.request_block(result)
        reply = await self._wait_for_block(result, deadline)
        if not isinstance(reply, frames.FetchReply):
            step = messages.parse(reply, messages.FetchReply)
            self._check(step, result)
            if step.completed:
                return None
            # The block is ready; its answer is a binary frame without req_id, or JSON with it.
            call = self._fetch_call(result, result_id=result.id)
            arguments = messages.ResultArgs(call.req_id, result.id)
            self._start(call, messages.request("fetch_block", arguments))
            reply = await self._wait_for_block(result, deadline)
        if not isinstance(reply, frames.FetchReply):
            self._check(messages.parse(reply, messages.Envelope), result)
            raise ProtocolError("the server answered fetch_block without a block")
        self._check(reply, result)
        return reply.block

    def _fetch_call(self, result: ServerResult, result_id: int | None = None) -> _Call:
        call = _Call(
            next_req_id(),
            origin=result.req_id,
            sql=result.sql,
            late=lambda reply: self._late_fetch(result.id, reply),
            result_id=result_id,
        )
        # The answer may come, or the link break, while nobody waits for the next block.
        call.reply.add_done_callback(_retrieve)
        result.ahead = call
        return call

    async def _wait_for_block(self, result: ServerResult, deadline: Deadline) -> _Reply:
        call: _Call = result.ahead
        reply = await self._wait(call, deadline)
        result.ahead = None
        return reply

    def _check(self, reply: messages.Envelope | frames.FetchReply, result: ServerResult) -> None:
        if reply.code:
            result.finished = True  # the server has freed it
            raise self._refusal(reply.code, reply.message, result.req_id, result.sql)

    # Calls.

    async def _ask(
        self,
        action: str,
        arguments: messages.Arguments,
        reply: type[_Typed],
        deadline: Deadline,
        *,
        req_id: int,
    ) -> _Typed:
        self._check_open(req_id, None)
        call = _Call(req_id)
        self._start(call, messages.request(action, arguments))
        try:
            return self._read(await self._wait(call, deadline), reply, call)
        except ProtocolError as error:
            raise self._annotate(error, req_id, None) from None

    async def _take_slot(self, call: _Call, deadline: Deadline) -> None:
        """Wait until the statement may be sent: a free slot, and room in the write buffer."""
        try:
            if self._slots.locked():
                async with asyncio.timeout_at(deadline.when):
                    await self._slots.acquire()
            else:
                await self._slots.acquire()
        except builtins.TimeoutError:
            raise self._unsent(
                call, deadline, f"{MAX_STATEMENTS} statements of this session wait for answers"
            ) from None
        try:
            if self.link.congested:
                limit = deadline.sooner(self._options.write_timeout)
                try:
                    async with asyncio.timeout_at(limit.when):
                        await self.link.writable()
                except builtins.TimeoutError:
                    raise self._unsent(call, limit, "the server does not read") from None
            self._check_open(call.req_id, call.sql)
            if call.req_id in self._calls:
                raise InterfaceError(
                    f"req_id {call.req_id} is in use by a running call", req_id=call.req_id
                )
        except BaseException:
            self._slots.release()
            raise

    def _unsent(self, call: _Call, deadline: Deadline, why: str) -> TimeoutError:
        return TimeoutError(
            f"the statement could not be sent within {deadline.seconds:g} s: {why}",
            req_id=call.req_id,
            sql=call.sql,
            endpoint=self._endpoint,
            may_have_run=False,
        )

    def _start(self, call: _Call, frame: bytes | str) -> None:
        self._calls[call.req_id] = call
        if call.result_id is not None:
            self._blocks[call.result_id] = call
        if isinstance(frame, str):
            self.link.send_text(frame.encode())
        else:
            self.link.send_binary(frame)

    async def _wait(self, call: _Call, deadline: Deadline) -> _Reply:
        if deadline.when is None:
            return await call.reply
        # A bare timer: asyncio.timeout() costs a small query several times as much.
        timer = call.reply.get_loop().call_at(deadline.when, self._expire, call, deadline)
        try:
            return await call.reply
        finally:
            timer.cancel()

    def _expire(self, call: _Call, deadline: Deadline) -> None:
        if not call.reply.done():
            awaited = "answer" if call.origin == call.req_id else "block"
            call.reply.set_exception(
                TimeoutError(
                    f"no {awaited} within {deadline.seconds:g} s",
                    req_id=call.origin,
                    sql=call.sql,
                    endpoint=self._endpoint,
                    may_have_run=True if call.is_statement else None,
                )
            )
            call.reply.exception()  # the waiter may have been cancelled in the same turn

    def _read(self, raw: _Reply, reply: type[_Typed], call: _Call) -> _Typed:
        if isinstance(raw, frames.FetchReply):
            raise ProtocolError("the server answered with a block where none was asked for")
        message = messages.parse(raw, reply)
        if message.code:
            raise self._refusal(message.code, message.message, call.req_id, call.sql)
        return message

    # What arrives.

    def _on_text(self, data: Message) -> None:
        try:
            req_id = messages.parse(data, messages.Envelope).req_id
        except ProtocolError as error:
            self._break(error)
            return
        self._deliver(self._calls.get(req_id), data)

    def _on_binary(self, data: Message) -> None:
        try:
            reply = frames.parse_reply(data)
        except ProtocolError as error:
            self._break(error)
            return
        by_result = reply.req_id == 0
        self._deliver(
            (self._blocks if by_result else self._calls).get(
                reply.result_id if by_result else reply.req_id
            ),
            reply,
        )

    def _deliver(self, call: _Call | None, reply: _Reply) -> None:
        if call is None:
            _logger.debug("%s: an answer to nothing that was asked", self._endpoint)
            return
        del self._calls[call.req_id]
        if call.result_id is not None:
            del self._blocks[call.result_id]
        if call.is_statement:
            self._slots.release()
        if not call.reply.done():
            call.reply.set_result(reply)
        elif call.late is not None:
            call.late(reply)

    def _late_query(self, reply: _Reply) -> None:
        if isinstance(reply, frames.FetchReply):
            return
        try:
            message = messages.parse(reply, messages.QueryReply)
        except ProtocolError:
            return
        if not message.code and not message.is_update:
            self._send_free(message.id)

    def _late_fetch(self, result_id: int, reply: _Reply) -> None:
        if not (isinstance(reply, frames.FetchReply) and reply.block is None):
            self._send_free(result_id)

    def _send_free(self, result_id: int) -> None:
        """Let the server drop a result; it does not answer, and does not mind unknown ids."""
        if not self.closed:
            frame = messages.request("free_result", messages.ResultArgs(next_req_id(), result_id))
            self.link.send_text(frame.encode())

    # The end.

    def _break(self, error: ProtocolError) -> None:
        """The stream of messages cannot be trusted any more."""
        self._on_lost(error)
        self.link.abort()

    def _on_lost(self, reason: Exception) -> None:
        if self.closed:
            return
        self._lost = reason
        _logger.debug("%s: session lost: %s", self._endpoint, reason)
        self._fail_calls(self._lost_error)

    def _lost_error(self, call: _Call) -> ConnectionLost:
        error = ConnectionLost(
            f"the connection was lost during the call: {self._lost}",
            req_id=call.origin,
            sql=call.sql,
            endpoint=self._endpoint,
            may_have_run=True if call.is_statement else None,
        )
        error.__cause__ = self._lost
        return error

    def _fail_calls(self, error: Callable[[_Call], Error]) -> None:
        calls = list(self._calls.values())
        self._calls.clear()
        self._blocks.clear()
        for call in calls:
            if call.is_statement:
                self._slots.release()
            if not call.reply.done():
                call.reply.set_exception(error(call))
                call.reply.exception()  # whoever waits has it; nobody need wait

    def _check_open(self, req_id: int, sql: str | None, *, has_run: bool = False) -> None:
        if self._closed:
            raise InterfaceError("the connection is closed", req_id=req_id, sql=sql)
        if self._lost is not None:
            moment = "before its rows were read" if has_run else "before the call"
            raise ConnectionLost(
                f"the connection was lost {moment}: {self._lost}",
                req_id=req_id,
                sql=sql,
                endpoint=self._endpoint,
                may_have_run=None if has_run else False,
            ) from self._lost

    def _refusal(self, code: int, message: str, req_id: int, sql: str | None) -> Error:
        return server_error(code, message, req_id=req_id, sql=sql, endpoint=self._endpoint)

    def _annotate(self, error: Error, req_id: int, sql: str | None) -> Error:
        return type(error)(error.message, req_id=req_id, sql=sql, endpoint=self._endpoint)


def _retrieve(reply: asyncio.Future[_Reply]) -> None:
    if not reply.cancelled():
        reply.exception()


def _parse_version(text: str) -> tuple[int, ...]:
    """The first four numbers of a version such as ``3.3.7.5.alpha``."""
    numbers = [int(number) for number in re.findall(r"(?:^|[.-])(\d+)", text)]
    return tuple([*numbers, 0, 0, 0, 0][:4])

"""Requests of a WebSocket session and their answers.

A session is concurrent: the server runs each message on its own and answers out of order, so
replies are matched by ``req_id``. There is no cancel message; a call that is given up stays known
until its late answer comes, and what that answer holds is freed then.
"""

from __future__ import annotations

import asyncio
import builtins
import logging
from collections.abc import Callable
from typing import TypeAlias, TypeVar
from urllib.parse import quote

from ..errors import (
    Error,
    InterfaceError,
    ProtocolError,
    TimeoutError,
    server_error,
)
from ..options import Address, Options
from ..protocol import frames, messages
from ..protocol.tmq import RawReply
from .alarm import Alarm
from .base import Deadline
from .framing import Message
from .link import Link
from .standing import Standing

MAX_STATEMENTS = 512
"""Statements of one session that may wait for their answers; further ones queue on this side."""

_CLOSE_WHILE_BUSY = 0.3  # seconds for the closing handshake while answers are outstanding
Reply: TypeAlias = Message | frames.FetchReply | RawReply
_Typed = TypeVar("_Typed", bound=messages.Envelope)
_logger = logging.getLogger("aiotaos.websocket")


class Call:
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

    __slots__ = (
        "is_statement",
        "late",
        "origin",
        "reply",
        "req_id",
        "result_id",
        "sql",
    )

    def __init__(
        self,
        req_id: int,
        *,
        origin: int | None = None,
        sql: str | None = None,
        late: Callable[[Reply], None] | None = None,
        is_statement: bool = False,
        result_id: int | None = None,
    ) -> None:
        self.req_id = req_id
        self.origin = req_id if origin is None else origin
        self.sql = sql
        self.late = late
        self.is_statement = is_statement
        self.result_id = result_id
        self.reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()


def text_of(reply: Reply) -> Message:
    """A reply as the JSON that it should be.

    Raises:
        ProtocolError: It is a block, or a message of a subscription.
    """
    if isinstance(reply, (frames.FetchReply, RawReply)):
        raise ProtocolError("the server answered with a block where none was asked for")
    return reply


def read_late(reply: Reply, cls: type[_Typed]) -> _Typed | None:
    """What a late answer granted; None if it is a refusal, a block, or cannot be read."""
    try:
        message = messages.parse(text_of(reply), cls)
    except ProtocolError:
        return None
    return None if message.code else message


class Calls(Standing):
    """The requests of one session that wait for their answers.

    Args:
        options: How the server is reached.
        address: The server.
        path: Where the session is opened, for example ``/ws``.
        on_end: Called once when the session has ended, however it ended.

    Attributes:
        link: The socket.
    """

    def __init__(
        self, options: Options, address: Address, path: str, on_end: Callable[[], None]
    ) -> None:
        super().__init__(options.endpoint(address))
        self._on_end = on_end
        self._write_timeout = options.write_timeout
        self._calls: dict[int, Call] = {}
        self._blocks: dict[int, Call] = {}
        self._slots = asyncio.Semaphore(MAX_STATEMENTS)
        self._alarm = Alarm()
        token = f"?token={quote(options.token)}" if options.token else ""
        self.link = Link(
            f"{self.endpoint}{path}{token}",
            compression=options.compression,
            keep_alive=options.keep_alive,
            on_text=self._on_text,
            on_binary=self._on_binary,
            on_lost=self._on_lost,
        )

    def __repr__(self) -> str:
        state = "closed" if self.is_closed else "lost" if self.lost else "open"
        return f"{self.endpoint} {state}, {len(self._calls)} calls"

    def __len__(self) -> int:
        return len(self._calls)

    def still_running(self, req_id: int) -> Callable[[], bool]:
        """Whether the answer to a request of now is still to come, to be asked later on."""
        call = self._calls.get(req_id)
        return lambda: call is not None and self.is_waiting(call)

    def is_waiting(self, call: Call) -> bool:
        """Whether the answer to a call is still to come."""
        return self._calls.get(call.req_id) is call

    async def ask(
        self,
        action: str,
        arguments: messages.Arguments,
        reply: type[_Typed],
        deadline: Deadline,
        *,
        req_id: int,
    ) -> _Typed:
        """Send a JSON request and wait for its reply."""
        return await self.run(Call(req_id), messages.request(action, arguments), reply, deadline)

    async def run(
        self, call: Call, frame: bytes | str, reply: type[_Typed], deadline: Deadline
    ) -> _Typed:
        """Send a request and wait for its reply; statements wait for a slot first.

        When it fails or is cancelled, ``call.late`` gets the answer that may still come.

        Raises:
            Error: The server refuses; or there is no answer in time, or none that can be read.
        """
        if call.is_statement:
            await self._take_slot(call, deadline)
        else:
            await self._wait_for_room(call, deadline)
        self.start(call, frame)
        try:
            answer = await self.wait(call, deadline)
        except BaseException:
            late = call.reply
            if call.late and late.done() and not late.cancelled() and not late.exception():
                call.late(late.result())  # it came in the same turn of the loop
            raise
        try:
            return self._read(answer, reply, call)
        except ProtocolError as error:
            raise self.annotate(error, call.req_id, call.sql) from None

    async def _take_slot(self, call: Call, deadline: Deadline) -> None:
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
            await self._wait_for_room(call, deadline)
        except BaseException:
            self._slots.release()
            raise

    async def _wait_for_room(self, call: Call, deadline: Deadline) -> None:
        """Wait until the request may be sent: the write buffer has room."""
        if self.link.congested:
            limit = deadline.sooner(self._write_timeout)
            try:
                async with asyncio.timeout_at(limit.when):
                    await self.link.writable()
            except builtins.TimeoutError:
                raise self._unsent(call, limit, "the server does not read") from None
        self.check_open(call.req_id, call.sql)
        if call.req_id in self._calls:
            raise InterfaceError(
                f"req_id {call.req_id} is in use by a running call", req_id=call.req_id
            )

    def _unsent(self, call: Call, deadline: Deadline, why: str) -> TimeoutError:
        return TimeoutError(
            f"the statement could not be sent within {deadline.seconds:g} s: {why}",
            req_id=call.req_id,
            sql=call.sql,
            endpoint=self.endpoint,
            may_have_run=False,
        )

    def start(self, call: Call, frame: bytes | str) -> None:
        """Send a request; its answer goes to ``call.reply``."""
        others_wait = bool(self._calls)
        self._calls[call.req_id] = call
        if call.result_id is not None:
            self._blocks[call.result_id] = call
        if isinstance(frame, str):
            self.link.send_text(frame.encode(), soon=others_wait)
        else:
            self.link.send_binary(frame, soon=others_wait)

    async def wait(self, call: Call, deadline: Deadline) -> Reply:
        """Wait for the answer.

        Raises:
            TimeoutError: It did not come in time.
            ConnectionLost: The link broke.
            InterfaceError: The connection was closed.
        """
        return await self._alarm.within(deadline, call.reply, lambda: self._overdue(call, deadline))

    def _overdue(self, call: Call, deadline: Deadline) -> TimeoutError:
        awaited = "answer" if call.origin == call.req_id else "block"
        return TimeoutError(
            f"no {awaited} within {deadline.seconds:g} s",
            req_id=call.origin,
            sql=call.sql,
            endpoint=self.endpoint,
            may_have_run=True if call.is_statement else None,
        )

    def _read(self, raw: Reply, reply: type[_Typed], call: Call) -> _Typed:
        message = messages.parse(text_of(raw), reply)
        if message.code:
            raise self.refusal(message.code, message.message, call.req_id, call.sql)
        return message

    # What arrives.

    def _on_text(self, data: Message) -> None:
        try:
            req_id = messages.parse(data, messages.Envelope).req_id
        except ProtocolError as error:
            self.lose(error)
            return
        self._deliver(self._calls.get(req_id), data)

    def _on_binary(self, data: Message) -> None:
        try:
            reply = frames.parse_reply(data)
        except ProtocolError as error:
            self.lose(error)
            return
        by_result = reply.req_id == 0
        self._deliver(
            (self._blocks if by_result else self._calls).get(
                reply.result_id if by_result else reply.req_id
            ),
            reply,
        )

    def _deliver(self, call: Call | None, reply: Reply) -> None:
        if call is None:
            _logger.debug("%s: an answer to nothing that was asked", self.endpoint)
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

    # The end.

    def send(self, action: str, arguments: messages.Arguments) -> None:
        """Send a request to which no answer matters."""
        if not self.ended:
            self.link.send_text(messages.request(action, arguments).encode(), soon=True)

    def abandon(self) -> None:
        """Fail what waits, because the session is being closed."""
        self.is_closed = True
        self._on_end()
        self._fail_calls(self.closed_error)

    async def say_goodbye(self, timeout: float) -> None:
        """End the session in an orderly manner, within ``timeout`` seconds."""
        if self._calls:
            # taosAdapter answers the closing handshake only when its running statements are done.
            timeout = min(timeout, _CLOSE_WHILE_BUSY)
        self.abandon()
        try:
            async with asyncio.timeout(timeout):
                await self.link.close()
        except builtins.TimeoutError:
            _logger.debug("%s: no closing handshake within %s s", self.endpoint, timeout)
        finally:
            self.link.abort()

    def lose(self, error: Exception) -> None:
        """Drop the session, which cannot be used any more."""
        self._on_lost(error)
        self.link.abort()

    def _on_lost(self, reason: Exception) -> None:
        if self.ended:
            return
        self.lost = reason
        self._on_end()
        _logger.info("%s: session lost: %s", self.endpoint, reason)
        self._fail_calls(self.lost_error)

    def _fail_calls(self, error: Callable[[int, str | None, bool | None], Error]) -> None:
        self._alarm.stop()
        calls = list(self._calls.values())
        self._calls.clear()
        self._blocks.clear()
        for call in calls:
            if call.is_statement:
                self._slots.release()
            if not call.reply.done():
                may_have_run = True if call.is_statement else None
                call.reply.set_exception(error(call.origin, call.sql, may_have_run))
                call.reply.exception()  # whoever waits has it; nobody need wait

    def refusal(self, code: int, message: str, req_id: int, sql: str | None) -> Error:
        """The exception for a server's refusal."""
        return server_error(code, message, req_id=req_id, sql=sql, endpoint=self.endpoint)

    def annotate(self, error: Error, req_id: int, sql: str | None) -> Error:
        """An error with the request that it belongs to."""
        return type(error)(error.message, req_id=req_id, sql=sql, endpoint=self.endpoint)

"""The continuous subscription of 2.x: a SELECT that is asked again and again for what is new.

The library keeps, in a file of the client, how far a subscription has come, under the name that it
is given. From 3.0 on there are topics and consumers (TMQ) in its place.
"""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Callable
from datetime import tzinfo
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from ...errors import DataError, Error, InterfaceError, NotSupportedError, ProtocolError
from ...errors import TimeoutError as LateError
from ...home import Home
from ...options import Options, seconds, whole_number
from ...protocol.block import Block, parse_block
from ...protocol.encode import encode_block
from ...protocol.rows import RowDecoder
from ...types import Field, Precision
from ..base import Deadline, Transport, next_req_id
from .calls import Failure
from .connection import Connection
from .handles import Handle
from .rows import value_reader
from .session import NativeTransport
from .structs import TAOS_SUBSCRIBE_CALLBACK
from .topics import Refused
from .worker import Worker

T = TypeVar("T")

_CLOSE_TIMEOUT = 5.0


async def subscribe(
    transport: Transport,
    options: Options,
    tz: tzinfo,
    restart: bool,
    topic: str,
    sql: str,
    interval: int,
    deadline: Deadline,
) -> ContinuousSubscription:
    """Subscribe over a session; see :meth:`aiotaos.Connection.subscribe`.

    Args:
        transport: The session.
        options: How it was opened.
        tz: The time zone of datetimes.
        restart: Begin with what is there, and not where the subscription ended before.
        topic: Its name, under which the library keeps how far it has come.
        sql: One SELECT of rows as they are, without aggregates.
        interval: ms between two times that the server is asked.
        deadline: How long may be waited.

    Raises:
        NotSupportedError: The session is not over a libtaos of 2.x.
        InterfaceError: An argument is malformed.
        TimeoutError: libtaos did not answer in time.
        Error: The server refuses the statement.
    """
    if not isinstance(transport, NativeTransport):
        raise NotSupportedError(
            "continuous subscriptions need libtaos of TDengine 2.x; subscribe to a topic with "
            "aiotaos.Consumer"
        )
    connection = transport.connection
    if not connection.taosc.has("taos_subscribe"):
        raise NotSupportedError(
            f"libtaos {connection.taosc.version_text} has no continuous subscriptions, which were "
            "taken out in 3.0; subscribe to a topic with aiotaos.Consumer"
        )
    whole_number("interval", interval, 1)
    for name, text in (("topic", topic), ("sql", sql)):
        if not isinstance(text, str) or not text or "\0" in text:
            raise InterfaceError(f"{name}: expected a text without NUL characters, got {text!r}")
    connection.check_open(next_req_id(), sql)
    made = ContinuousSubscription(connection, options, tz, topic, sql, interval)
    try:
        await made._open(restart, deadline)
    except BaseException:
        made._end(keep_progress=True)
        raise
    return made


class ContinuousSubscription:
    """The new rows of a SELECT: ``async for block in subscription``.

    One task reads at a time. It keeps its connection's session of libtaos alive until it is closed,
    but reads no more once the connection is closed or lost.

    Attributes:
        topic: Its name.
        sql: The statement.
        interval: ms between two times that the server is asked.
    """

    def __init__(
        self,
        connection: Connection,
        options: Options,
        tz: tzinfo,
        topic: str,
        sql: str,
        interval: int,
    ) -> None:
        self.topic = topic
        self.sql = sql
        self.interval = interval
        self._connection = connection
        self._taosc = connection.taosc
        self._options = options
        self._tz = tz
        self._req_id = next_req_id()
        self._home = Home()
        self._worker = Worker("aiotaos-native-subscription")
        self._handle: Handle | None = None
        self._closed = False
        self._is_reading = False
        self._last = 0  # the number of what the application got
        self._kept: tuple[int, Block] | None = None  # what the thread has read last

    def __repr__(self) -> str:
        return f"<ContinuousSubscription {self.topic!r}{' closed' if self._closed else ''}>"

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    async def consume(self, *, timeout: float | None = None) -> Block:
        """The rows that are new since the last call; they may be none.

        The library waits until ``interval`` has passed since then. What was read for a call that
        was cancelled, or late, is what the next call gets.

        Args:
            timeout: Seconds; the interval and the connection's ``read_timeout`` if not given.

        Raises:
            TimeoutError: They did not come in time.
            InterfaceError: It is closed, or its connection; or another task reads it.
            Error: The server refuses the statement.
        """
        limit = self._options.read_timeout + self.interval / 1000
        deadline = Deadline(limit if timeout is None else seconds("timeout", timeout))
        self._check()
        if self._is_reading:
            raise InterfaceError("another task is reading this subscription")
        self._is_reading = True
        try:
            number, block = await self._call(partial(self._consumed, self._last), deadline)
        finally:
            self._is_reading = False
        self._last = number
        decoder = RowDecoder(block.fields, block.precision, self._tz, self._options.timestamp)
        return block.decoded_by(decoder)

    async def __aiter__(self) -> AsyncIterator[Block]:
        while not self._closed:
            try:
                block = await self.consume()
            except InterfaceError:
                if self._closed:  # meanwhile
                    return
                raise
            if len(block):
                yield block

    async def close(self, keep_progress: bool = True, *, timeout: float | None = None) -> None:
        """End it; a call that is reading fails. May be called again.

        Args:
            keep_progress: Whether a subscription of this name goes on from here some day.
            timeout: Seconds that are waited for the library, 5 if not given. It cannot be
                interrupted while it waits for the interval to pass, and ends it then.
        """
        limit = _CLOSE_TIMEOUT if timeout is None else seconds("timeout", timeout)
        if self._closed:
            return
        self._home.check(repr(self))
        self._end(keep_progress)
        await self._worker.ended(limit)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        if getattr(self, "_closed", True) or self._home.is_forked:
            return
        warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
        self._end(keep_progress=True)

    # Inside.

    def _check(self) -> None:
        if self._closed:
            raise InterfaceError(f"the subscription {self.topic!r} is closed")
        self._home.check("the subscription")
        self._connection.check_open(self._req_id, self.sql)

    def _end(self, keep_progress: bool) -> None:
        self._closed = True
        self._worker.end(self._cut_off, partial(self._unsubscribe, keep_progress))

    def _cut_off(self) -> Error:
        return InterfaceError("the subscription was closed during the call", sql=self.sql)

    async def _open(self, restart: bool, deadline: Deadline) -> None:
        await self._call(partial(self._subscribe, restart), deadline)

    async def _call(self, call: Callable[[], T], deadline: Deadline) -> T:
        try:
            return await self._worker.ask(call, deadline, partial(self._late, deadline))
        except Refused as refused:
            failure = Failure(refused.code, refused.text)
            raise self._connection.refusal(failure, self._req_id, self.sql) from None

    def _late(self, deadline: Deadline) -> Error:
        return LateError(
            f"no rows within {deadline.seconds:g} s",
            sql=self.sql,
            endpoint=self._connection.endpoint,
        )

    # On the thread.

    def _subscribe(self, restart: bool) -> None:
        held = self._connection.handle
        if not held.hold():
            raise InterfaceError("the connection is closed", sql=self.sql)
        taosc = self._taosc
        sub = taosc.taos_subscribe(
            held.address,
            int(restart),
            self.topic.encode(),
            self.sql.encode(),
            TAOS_SUBSCRIBE_CALLBACK(),
            None,
            self.interval,
        )
        if sub is None:
            failure = taosc.error()
            held.release()
            raise Refused(*failure)
        self._handle = Handle(sub, lambda _: held.release())

    def _unsubscribe(self, keep_progress: bool) -> None:
        handle = self._handle
        if handle is not None and handle.hold():
            self._taosc.taos_unsubscribe(handle.address, int(keep_progress))
            handle.release()
            handle.close()

    def _consumed(self, last: int) -> tuple[int, Block]:
        """What the call with the number behind ``last`` gets."""
        if self._kept is not None and self._kept[0] != last:
            return self._kept
        self._kept = None
        handle, taosc = self._handle, self._taosc
        assert handle is not None
        result = taosc.taos_consume(handle.address)
        if result is None:
            raise Refused(*taosc.error())
        self._kept = last + 1, self._block(result)  # the result is the subscription's
        return self._kept

    def _block(self, result: int) -> Block:
        taosc = self._taosc
        fields = taosc.fields(result)
        precision = Precision(taosc.taos_result_precision(result))
        columns = self._columns(result, fields)
        try:
            data = encode_block(fields, columns)
        except DataError as error:
            raise ProtocolError(error.message, sql=self.sql) from None
        return parse_block(data, fields=fields, precision=precision)

    def _columns(self, result: int, fields: tuple[Field, ...]) -> list[list[Any]]:
        taosc = self._taosc
        readers = list(map(value_reader, fields))
        columns: list[list[Any]] = [[] for _ in fields]
        while row := taosc.taos_fetch_row(result):
            lengths = taosc.taos_fetch_lengths(result)
            for index, column in enumerate(columns):
                address = row[index]
                value = None if address is None else readers[index](address, lengths[index])
                column.append(value)
        code, text = taosc.error(result)
        if code:
            raise Refused(code, text)
        return columns

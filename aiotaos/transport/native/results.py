"""Statements of a session over libtaos, and their results."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from ...errors import (
    DataError,
    Error,
    InterfaceError,
    ProtocolError,
    ResultError,
    TimeoutError,
)
from ...options import CancelMode
from ...protocol.block import Block, parse_block
from ...protocol.encode import encode_block
from ...protocol.sql import reads
from ...types import Precision
from ..alarm import fail
from ..base import RUNS_LONG, Deadline, ServerResult, Transport
from .calls import Data, Failure, Fetch, Query, Reading
from .connection import Connection, EndOfCall
from .handles import Handle

_LONG_SQL = 32_768  # bytes from which on a statement is not parsed on the loop: each takes 0.1 us
_FULL_BLOCK = 4096  # rows that TDengine puts into a block, while it has more


class Results:
    """The statements of a session that wait for their answers, and the results that are open.

    Args:
        transport: The session.
        connection: Its connection.
        cancel: What becomes of queries that are given up.

    Attributes:
        others_run: Whether there is something else on the connection that would be hit if all of
            its queries were stopped.
    """

    def __init__(self, transport: Transport, connection: Connection, cancel: CancelMode) -> None:
        self._transport = transport
        self._connection = connection
        self._library = connection.library
        self._taosc = connection.taosc
        self._bridge = connection.bridge
        self._alarm = connection.alarm
        self._endpoint = connection.endpoint
        self._stops_after = {"kill": 0.0, "auto": RUNS_LONG}.get(cancel, math.inf)
        self._can_stop = connection.taosc.has("taos_kill_query")
        self.others_run: Callable[[], bool] = lambda: False
        self._calls: dict[int, Query] = {}
        self._awaited = 0  # calls that were not given up, or change something
        self._readings: set[Reading] = set()
        self._count = 0

    def __len__(self) -> int:
        return len(self._calls)

    def still_running(self, req_id: int) -> Callable[[], bool]:
        """Whether the answer to a request of now is still to come, to be asked later on."""
        call = self._calls.get(req_id)
        return lambda: call is not None and self._calls.get(req_id) is call

    def is_fetching(self, result: ServerResult) -> bool:
        """Whether a block of a result is asked for and has not come."""
        return result.ahead in self._readings and result.ahead.is_fetching

    def end(self, error: EndOfCall) -> Callable[[], None]:
        """Fail what waits; gives what frees the results, to be called on a thread."""
        is_lost = self._connection.lost is not None  # then there is nothing to be stopped
        calls, self._calls = list(self._calls.values()), {}
        readings, self._readings = list(self._readings), set()
        self._awaited = 0
        for call in calls:
            if not call.reply.done():
                fail(call.reply, error(call.req_id, call.sql, True))
        for reading in readings:
            if reading.fetch is not None and not reading.fetch.reply.done():
                fail(reading.fetch.reply, error(reading.req_id, reading.sql, None))

        def free() -> None:
            for reading in readings:
                if reading.is_fetching and reading.may_be_stopped and not is_lost:
                    self._stop(reading.handle)
                else:
                    reading.handle.close()
            if calls:
                self._connection.stop_queries()

        return free

    def abandon(self) -> None:
        """Free the results; their loop has ended, so that nobody waits for anything."""
        for reading in self._readings:
            reading.handle.close()

    async def query(self, sql: str, req_id: int, deadline: Deadline) -> ServerResult:
        """Run one statement; see :meth:`aiotaos.transport.base.Transport.query`."""
        self._connection.check_open(req_id, sql)
        try:
            data = sql.encode()
        except UnicodeError as error:
            raise InterfaceError(f"sql: it cannot be sent as UTF-8: {error}") from error
        if b"\0" in data:
            raise InterfaceError("sql: it has a NUL character, which would end it", sql=sql)
        if req_id in self._calls:
            raise InterfaceError(f"req_id {req_id} is in use by a running call", req_id=req_id)
        call = Query(self._bridge, self._library, self._answered, req_id, sql, data)
        self._calls[req_id] = call
        self._awaited += 1
        self._start(call, len(data))
        reply = call.reply
        try:
            if reply.done():  # at once; other tasks have their turn all the same
                await asyncio.sleep(0)
            return await self._alarm.within(deadline, reply, lambda: self._late(call, deadline))
        except GeneratorExit:  # there is no loop any more
            call.is_given_up = True
            raise
        except BaseException:
            self._give_up(call, deadline.elapsed)
            raise

    def _start(self, call: Query, size: int) -> None:
        handle = self._connection.handle
        handle.hold()  # the callback may come within the call, and end the session

        def start() -> None:
            try:
                call.start(handle.address)
            finally:
                handle.release()

        def start_on_thread() -> None:
            try:
                if call.reply.done():
                    handle.release()
                else:
                    start()
                    return
            except BaseException as error:
                call.fail(error)
            self._bridge.put(call)

        if size >= _LONG_SQL:
            self._bridge.submit(start_on_thread)
            return
        try:
            start()
        except BaseException:
            self._forget(call)
            call.is_given_up = True  # it may have begun
            call.reply.cancel()
            raise

    def _forget(self, call: Query) -> None:
        if self._calls.get(call.req_id) is call:
            del self._calls[call.req_id]
            if call.is_awaited:
                self._awaited -= 1

    def _give_up(self, call: Query, seconds: float) -> None:
        """Nobody waits for an answer any more, after so many seconds.

        A query that is to be stopped then is stopped here, if that hits no other; otherwise that is
        left to who stops queries of all roads.
        """
        call.is_given_up = True
        reply = call.reply
        if reply.done() and not reply.cancelled() and reply.exception() is None:
            self.free(reply.result())  # it came in the same turn of the loop
        if self._calls.get(call.req_id) is not call or not reads(call.sql):
            return
        call.is_awaited = False
        self._awaited -= 1
        if seconds >= self._stops_after:
            call.may_be_stopped = True
        if self._awaited or self._readings or self.others_run() or not self._can_stop:
            return
        if all(other.may_be_stopped for other in self._calls.values()):
            self._calls.clear()  # nothing else need be done to stop them
            # Here and not on a thread, so that it cannot hit a query that begins meanwhile.
            self._connection.stop_queries()

    def _answered(self, call: Query) -> None:
        """An answer has come."""
        self._forget(call)
        reply, handle, failure = call.reply, call.handle, call.failure
        if reply.done():
            if call.has_rows and handle is not None:
                self._bridge.soon(handle.close)
        elif isinstance(failure, Failure):
            fail(reply, self._connection.refusal(failure, call.req_id, call.sql, True))
        elif failure is not None:
            fail(reply, failure)
        else:
            try:
                reply.set_result(self._result(call, handle if call.has_rows else None))
            except Exception as error:
                if isinstance(error, Error):
                    error.req_id, error.endpoint = call.req_id, self._endpoint
                fail(reply, error)
                if handle is not None:
                    self._bridge.soon(handle.close)

    def _result(self, call: Query, handle: Handle | None) -> ServerResult:
        """The result of a statement; without a handle it has no rows."""
        if handle is None:
            return ServerResult(
                self._transport, 0, call.req_id, call.sql, True, call.affected_rows, (),
                Precision.MILLISECOND, timing=0, finished=True,
            )  # fmt: skip
        reading = Reading(handle, call.req_id, call.sql)
        reading.fetch = call.fetch
        return self._opened(reading)

    def opened(self, handle: Handle, req_id: int, sql: str) -> ServerResult:
        """The result of a prepared statement, which the caller sets; freed by closing its handle.

        Raises:
            NotSupportedError: A column is of an unknown type.
        """
        reading = Reading(handle, req_id, sql)
        reading.may_be_stopped = False
        return self._opened(reading)

    def _opened(self, reading: Reading) -> ServerResult:
        handle = reading.handle
        self._count += 1
        result = ServerResult(
            self._transport,
            self._count,
            reading.req_id,
            reading.sql,
            False,
            0,
            self._library.fields(handle.address),
            Precision(self._library.precision(handle.address)),
            timing=0,
            ahead=reading,
        )
        self._readings.add(reading)
        return result

    def request_block(self, result: ServerResult) -> None:
        """Ask for the next block; see :meth:`aiotaos.transport.base.Transport.request_block`."""
        if result.finished or self._connection.ended:
            return
        reading: Reading = result.ahead
        if reading.fetch is None:
            reading.fetch = fetch = Fetch(
                self._bridge, self._library, reading.handle, result.fields
            )
            try:
                fetch.start()
            except BaseException:
                reading.fetch = None
                raise

    async def next_block(self, result: ServerResult, deadline: Deadline) -> Block | None:
        """Wait for it; see :meth:`aiotaos.transport.base.Transport.next_block`."""
        if result.given_up:
            raise ResultError("the result was given up", req_id=result.req_id, sql=result.sql)
        if result.finished:
            return None
        try:
            self._connection.check_open(result.req_id, result.sql, has_run=True)
            reading: Reading = result.ahead
            self.request_block(result)
            fetch = reading.fetch
            assert fetch is not None
            data = await self._alarm.within(
                deadline, fetch.reply, lambda: self._late_block(result, deadline)
            )
            reading.fetch = None
            if isinstance(data, Failure):
                self._finish(result)
                raise self._connection.refusal(data, result.req_id, result.sql)
            if data is None:
                self._finish(result)
                return None
            block = _block(data, result)
            reading.is_short = len(block) < _FULL_BLOCK
            return block
        except ProtocolError as error:
            self.free(result)
            raise ProtocolError(
                error.message, req_id=result.req_id, sql=result.sql, endpoint=self._endpoint
            ) from None
        except BaseException:
            self.free(result)
            raise

    def _finish(self, result: ServerResult) -> None:
        """The result has come to its end, and was freed by its last callback."""
        result.finished = True
        self._readings.discard(result.ahead)
        if result.owns_statement and result.statement is not None:
            self._transport.close_statement(result.statement)

    def free(self, result: ServerResult) -> None:
        """Give a result up; see :meth:`aiotaos.transport.base.Transport.free`."""
        if result.finished:
            return
        result.finished = result.given_up = True
        if result.statement is not None:
            self._transport.close_statement(result.statement)
        reading: Reading = result.ahead
        if reading not in self._readings:  # it was freed with the session
            return
        self._readings.discard(reading)
        fetch = reading.fetch
        if fetch is None or fetch.is_delivered:
            if fetch is None and reading.is_short:
                reading.handle.close()  # there is nothing to be stopped on the server
            else:
                self._bridge.soon(reading.handle.close)
            return
        if not fetch.reply.done():
            fail(
                fetch.reply,
                ResultError("the result was closed while it was read", req_id=result.req_id),
            )
        if reading.may_be_stopped:
            self._bridge.soon(lambda: self._stop(reading.handle))
        else:
            self._bridge.soon(reading.handle.close)

    def _stop(self, handle: Handle) -> None:
        """Stop a query whose block is awaited, and let go of it; on a thread.

        It is freed when its callback has come, or here if the block was not asked for yet.
        """
        if handle.hold():
            self._taosc.taos_stop_query(handle.address)
            handle.release()
        handle.close()

    def _late(self, call: Query, deadline: Deadline) -> Error:
        return TimeoutError(
            f"no answer within {deadline.seconds:g} s",
            req_id=call.req_id,
            sql=call.sql,
            endpoint=self._endpoint,
            may_have_run=True,
        )

    def _late_block(self, result: ServerResult, deadline: Deadline) -> Error:
        return TimeoutError(
            f"no block within {deadline.seconds:g} s",
            req_id=result.req_id,
            sql=result.sql,
            endpoint=self._endpoint,
        )


def _block(data: Data, result: ServerResult) -> Block:
    if not isinstance(data, bytes):
        try:
            data = encode_block(result.fields, data)
        except DataError as error:
            raise ProtocolError(error.message) from None
    return parse_block(data, fields=result.fields, precision=result.precision)

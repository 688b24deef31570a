"""A writer: single rows in, batches out."""

from __future__ import annotations

import asyncio
import builtins
import inspect
import logging
import math
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

from .errors import (
    AuthenticationError,
    DataError,
    Error,
    InterfaceError,
    OperationalError,
    TimeoutError,
    WriteError,
)
from .insert import Target
from .options import seconds, whole_number
from .sources import Row
from .tasks import ended

if TYPE_CHECKING:
    from .verbs import Verbs

OnError: TypeAlias = Callable[[list[Row], Error], Awaitable[None] | None]

_FIRST_DELAY = 0.1  # seconds before the first repetition
_LAST_DELAY = 5.0
_CANCELLED = 5.0  # seconds that a cancelled task may still take to write what is pending
_MOST_ATTEMPTS = 1000  # for a batch that was refused
_MOST_IN_VAIN = 40  # more than it takes to come down to a single row of a large batch
_MANY_WRONG = 8  # rows with wrong values, after which a batch is cut into halves
_MARK = 0.005  # seconds; the age of rows is known to this
_logger = logging.getLogger("aiotaos.writer")


class WriterOptions(TypedDict, total=False):
    """The keyword arguments of :class:`Writer`."""

    max_rows: int
    max_delay: float
    max_pending: int
    max_retries: int
    on_error: OnError | None
    timeout: float | None


@dataclass(frozen=True, slots=True)
class WriterStats:
    """What a writer has done.

    Attributes:
        rows: Rows that the server has acknowledged.
        batches: Batches that it has acknowledged.
        retries: Repetitions of batches that failed.
        failed: Rows that could not be written and were reported.
        pending: Rows that were given to the writer and are neither.
        oldest_age: Seconds that the oldest of the pending rows has waited; 0 if there is none.
    """

    rows: int
    batches: int
    retries: int
    failed: int
    pending: int
    oldest_age: float


class _Isolation:
    """Finds the rows that the server refuses in a batch, and writes those beside them.

    The halves are tried in their order, then the halves of those that are refused, and so on. When
    nothing gets through for long, larger parts are given up.
    """

    def __init__(
        self,
        attempt: Callable[[list[Row]], Awaitable[Error | None]],
        report: Callable[[list[Row], Error], Awaitable[None]],
    ) -> None:
        self._attempt = attempt
        self._report = report
        self._attempts = self._in_vain = 0

    async def run(self, rows: list[Row], error: Error) -> None:
        """Write what can be written of refused rows, and report the rest."""
        half = len(rows) // 2
        hopeless = self._in_vain >= _MOST_IN_VAIN or self._attempts >= _MOST_ATTEMPTS
        if not half or hopeless or isinstance(error, OperationalError):
            await self._report(rows, error)
            return
        for part in (rows[:half], rows[half:]):
            self._attempts += 1
            self._in_vain += 1
            refusal = await self._attempt(part)
            if refusal is None:
                self._in_vain = 0
            else:
                await self.run(part, refusal)


class Writer:
    """Gathers rows and writes them in batches; made by :meth:`Connection.writer`.

    A batch is written when there are ``max_rows`` rows or the oldest is ``max_delay`` old, one
    batch after the other, so that rows of a sub-table keep their order. A row that was taken by
    :meth:`write` is either acknowledged by the server, or reported: given to ``on_error``, or
    attached to the :class:`WriteError` that the next call raises. :meth:`flush` and the end of
    ``async with`` return when all rows are one or the other.

    What fails for a passing reason is repeated: every row carries its time, and writing it twice
    stores it once. Of a batch that the server refuses, smaller and smaller parts are tried, to find
    the rows that are at fault.

    Args:
        connection: The connection or pool that it writes to.
        target: What it writes to.
        max_rows: Rows of a batch.
        max_delay: Seconds that a row may wait for its batch.
        max_pending: Rows taken and not yet written, beyond which :meth:`write` waits.
        max_retries: Repetitions of a batch that fails for a passing reason.
        on_error: Function or coroutine function that gets the rows that could not be written, and
            the error.
        timeout: Seconds that one attempt may take; the connection's ``read_timeout`` if not given.
    """

    def __init__(
        self,
        connection: Verbs[Any],
        target: Target,
        *,
        max_rows: int = 10_000,
        max_delay: float = 1.0,
        max_pending: int = 100_000,
        max_retries: int = 10,
        on_error: OnError | None = None,
        timeout: float | None = None,
    ) -> None:
        self._connection = connection
        self._target = target
        self._max_rows = whole_number("max_rows", max_rows, 1)
        self._max_delay = seconds("max_delay", max_delay)
        self._max_pending = whole_number("max_pending", max_pending, 1)
        self._max_retries = whole_number("max_retries", max_retries)
        self._on_error = on_error
        self._timeout = None if timeout is None else seconds("timeout", timeout)
        if on_error is not None and not callable(on_error):
            raise InterfaceError(f"on_error: expected a function, got {on_error!r}")
        self._rows: list[Row] = []
        self._flying: list[Row] = []
        self._reported: Counter[int] = Counter()  # ids of rows of the batch that is being written
        self._is_down = False
        self._marks: deque[tuple[int, float]] = deque()
        self._accepted = self._done = self._flush_to = 0
        self._written = self._batches = self._retries = self._failed = 0
        self._failure: WriteError | None = None
        self._wake = asyncio.Event()
        self._progress = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "new" if self._task is None else "open"
        return f"<Writer {self._target.table} {state}, {self.pending} rows pending>"

    @property
    def pending(self) -> int:
        """Rows that are taken and neither acknowledged nor reported."""
        return self._accepted - self._done

    @property
    def stats(self) -> WriterStats:
        """What it has done so far."""
        age = 0.0
        if self._marks:
            age = asyncio.get_running_loop().time() - self._marks[0][1]
        return WriterStats(
            self._written, self._batches, self._retries, self._failed, self.pending, age
        )

    async def write(self, row: Row) -> None:
        """Take a row: a mapping, a dataclass instance or a tuple. Waits while too many are pending.

        Raises:
            StatementError: It is no row, or lacks the sub-table's name or a tag; it is not taken.
            WriteError: Earlier rows, attached to it, could not be written; this one is not taken.
        """
        await self.write_many((row,))

    async def write_many(self, rows: Iterable[Row]) -> None:
        """Take rows, all or none; errors as :meth:`write`."""
        given = rows if isinstance(rows, (list, tuple)) else list(rows)
        self._check_caller()
        self._check_open()
        for row in given:
            self._target.check_row(row)
        self._raise_failure()
        while self.pending and self.pending + len(given) > self._max_pending:
            await self._progress.wait()
            self._check_open()
            self._raise_failure()
        self._take(given)

    async def flush(self, *, timeout: float | None = None) -> None:
        """Write what is pending, and wait until it is acknowledged or reported.

        Args:
            timeout: Seconds; without end if not given.

        Raises:
            WriteError: Rows, attached to it, could not be written.
            TimeoutError: Rows are still pending.
        """
        self._check_caller()
        self._check_open()
        target = self._flush_to = self._accepted
        self._wake.set()
        limit = None if timeout is None else seconds("timeout", timeout)
        try:
            async with asyncio.timeout(limit):
                while self._done < target:
                    await self._progress.wait()
                    self._check_alive()
        except builtins.TimeoutError:
            raise TimeoutError(
                f"not flushed within {timeout:g} s: {self.pending} rows are pending"
            ) from None
        self._raise_failure()

    async def aclose(self, *, timeout: float | None = None) -> None:
        """Write what is pending and end. May be called again.

        Args:
            timeout: Seconds after which what is left is reported as not written; without end if
                not given.

        Raises:
            WriteError: Rows, attached to it, could not be written.
        """
        limit = None if timeout is None else seconds("timeout", timeout)
        self._check_caller()
        self._closed = True
        self._wake.set()
        if self._task is not None:
            await self._finish(self._task, limit)
        self._raise_failure()

    async def __aenter__(self) -> Writer:
        if self._task is not None or self._closed:
            raise InterfaceError("a writer is used once")
        self._connection._check()
        self._task = asyncio.create_task(self._run(), name=repr(self))
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is None or isinstance(exc, Exception):
            try:
                await self.aclose()
            except asyncio.CancelledError as cancelled:
                self._tell(cancelled)
                raise
            return
        try:  # a cancelled task must come to its end
            await self.aclose(timeout=_CANCELLED)
        except WriteError as error:
            self._failure = error
            self._tell(exc)
        except asyncio.CancelledError:
            self._tell(exc)
            raise

    def _tell(self, exc: BaseException) -> None:
        """Tell of rows that could not be written, where no WriteError can be raised."""
        if self._failure is not None:
            exc.add_note(str(self._failure))
            _logger.error("%r: %s", self, self._failure)

    # Taking.

    def _check_caller(self) -> None:
        if self._task is not None and asyncio.current_task() is self._task:
            raise InterfaceError("on_error cannot use the writer, which waits for it")

    def _check_open(self) -> None:
        if self._closed:
            raise InterfaceError("the writer is closed")
        if self._task is None:
            raise InterfaceError("the writer is not open: enter it with async with")
        self._check_alive()

    def _check_alive(self) -> None:
        if self._task is not None and self._task.done() and not self._closed:
            raise InterfaceError("the writer has ended; close it to learn why")

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _take(self, rows: Sequence[Row]) -> None:
        now = asyncio.get_running_loop().time()
        if not self._marks or now - self._marks[-1][1] > _MARK:
            self._marks.append((self._accepted, now))
        if not self._rows or len(self._rows) + len(rows) >= self._max_rows:
            self._wake.set()
        self._rows += rows
        self._accepted += len(rows)

    # Writing.

    async def _run(self) -> None:
        try:
            await self._write_batches()
        finally:
            self._wake_waiting()

    async def _write_batches(self) -> None:
        while await self._is_due():
            self._flying = self._rows[: self._max_rows]
            self._rows = self._rows[self._max_rows :]
            count = len(self._flying)
            await self._write(list(self._flying))
            self._flying = []
            self._reported.clear()
            self._count_done(count)

    async def _is_due(self) -> bool:
        """Wait until there is a batch to write; False when there is none and will be none."""
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            if self._rows:
                wait = self._marks[0][1] + self._max_delay - loop.time()
                full = len(self._rows) >= self._max_rows
                if full or wait <= 0 or self._closed or self._flush_to > self._done:
                    return True
            elif self._closed:
                return False
            timer = None
            if self._rows and math.isfinite(wait):
                timer = loop.call_later(wait, self._wake.set)
            try:
                await self._wake.wait()
            finally:
                if timer is not None:
                    timer.cancel()

    def _count_done(self, rows: int) -> None:
        self._done += rows
        while len(self._marks) > 1 and self._marks[1][0] <= self._done:
            self._marks.popleft()
        if not self.pending:
            self._marks.clear()
        self._wake_waiting()

    def _wake_waiting(self) -> None:
        progress, self._progress = self._progress, asyncio.Event()
        progress.set()

    async def _write(self, rows: list[Row]) -> None:
        error = await self._attempt(rows)
        if error is not None:
            await _Isolation(self._attempt, self._report).run(rows, error)

    async def _attempt(self, rows: list[Row]) -> Error | None:
        """Write rows, as often as it takes; the error if they are not written.

        Rows with a value that does not fit are reported and taken out.
        """
        delay = _FIRST_DELAY
        retries = self._max_retries if self._is_down else 0
        wrong = 0
        while rows:
            try:
                await self._connection._insert(self._target, rows, len(rows), self._timeout)
            except DataError as error:
                if error.row is None:
                    return error
                # Its number among the rows that happened to be written together tells nobody.
                error.say(error.message.replace(f", row {error.row}:", ":", 1))
                await self._report([rows.pop(error.row)], error)
                wrong += 1
                if wrong < _MANY_WRONG or len(rows) < _MANY_WRONG:
                    continue
                half = len(rows) // 2  # which is encoded in less time than the whole
                await self._write(rows[:half])
                await self._write(rows[half:])
                return None
            except Error as error:
                if not self._may_pass(error) or retries == self._max_retries:
                    # The next batches are tried once each, until one gets through.
                    self._is_down = isinstance(error, OperationalError)
                    return error
                retries += 1
                self._retries += 1
                _logger.debug("%r: repeated in %.1f s: %s", self, delay, error)
                await asyncio.sleep(delay * random.uniform(0.5, 1))
                delay = min(2 * delay, _LAST_DELAY)
                continue
            self._is_down = False
            self._written += len(rows)
            self._batches += 1
            break
        return None

    def _may_pass(self, error: Error) -> bool:
        if self._connection.closed or isinstance(error, AuthenticationError):
            return False
        return isinstance(error, OperationalError)

    async def _report(self, rows: list[Row], error: Error) -> None:
        self._failed += len(rows)
        self._reported.update(map(id, rows))
        if self._on_error is None:
            self._keep(rows, error)
            return
        try:
            answer = self._on_error(rows, error)
            if inspect.isawaitable(answer):
                await answer
        except BaseException as failure:
            self._keep(rows, error)
            task = asyncio.current_task()
            is_cancelled = task is not None and task.cancelling()
            if is_cancelled or not isinstance(failure, (Exception, asyncio.CancelledError)):
                raise
            _logger.exception("%r: on_error failed", self)

    def _keep(self, rows: list[Row], error: Error) -> None:
        if self._failure is None:
            self._failure = WriteError(f"not written: {error.message}", code=error.code)
            self._failure.__cause__ = error
        self._failure.rows += rows

    async def _finish(self, task: asyncio.Task[None], timeout: float | None) -> None:
        try:
            await asyncio.wait([task], timeout=timeout)
        finally:
            try:
                if not task.done():
                    task.cancel()
                    await ended([task])
            finally:
                await self._report_left(None if task.cancelled() else task.exception())

    async def _report_left(self, cause: BaseException | None) -> None:
        """Report what the end of the task left undecided."""
        left = []
        for row in self._flying:
            if self._reported[id(row)]:
                self._reported[id(row)] -= 1
            else:
                left.append(row)
        left += self._rows
        self._flying, self._rows = [], []
        self._count_done(self.pending)
        if left:
            error = TimeoutError(
                f"the writer ended before {len(left)} rows were acknowledged", may_have_run=True
            )
            error.__cause__ = cause
            with suppress(builtins.TimeoutError):  # then the WriteError has them
                async with asyncio.timeout(_CANCELLED):
                    await self._report(left, error)

"""A result: rows and blocks as they come, with one block of read-ahead."""

from __future__ import annotations

import asyncio
import builtins
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .errors import Error, InterfaceError, ResultError
from .options import seconds, whole_number
from .protocol.block import Block
from .protocol.rows import RowDecoder
from .protocol.tables import Tables
from .row_factories import R, RowFactory, RowMaker, dict_row, tuple_row
from .tabular import Tabular
from .transport.base import Deadline, ServerResult
from .types import Field, Precision

if TYPE_CHECKING:
    from .run import Run

T = TypeVar("T")

_PIECE = 100_000
"""Values that are decoded at a time: some milliseconds."""


# Classes, because a generator of contextlib costs several times as much, for each block.


class _BeingRead:
    """Keeps other tasks out of a result.

    Raises:
        InterfaceError: Another one is reading.
    """

    __slots__ = ("_result",)

    def __init__(self, result: Result[Any]) -> None:
        self._result = result

    def __enter__(self) -> None:
        result = self._result
        if result._reading:
            raise InterfaceError("another task is reading this result", req_id=result.req_id)
        result._reading = True

    def __exit__(self, *error: object) -> None:
        self._result._reading = False


class _GivenUpOnError:
    """Gives a result up when something is raised."""

    __slots__ = ("_result",)

    def __init__(self, result: Result[Any]) -> None:
        self._result = result

    def __enter__(self) -> None:
        pass

    def __exit__(self, type: type[BaseException] | None, *error: object) -> None:
        if type is not None:
            self._result._give_up()


class Result(Tabular, Generic[R]):
    """What a statement returned; made by :meth:`Connection.query`.

    Iterate it for rows, or :meth:`blocks` for columns; while one block is read the next is on its
    way, so at most two are held. A result is read by one task at a time. It is freed on the server
    when its last row has come, on an error, when a call on it is cancelled or times out, on
    :meth:`aclose`, and when it is dropped.

    Attributes:
        fields: The columns; empty for statements that return no rows.
        req_id: Identifier of the request, also in the server's log.
        is_update: Whether the statement returns no rows (INSERT, DDL, USE).
        affected_rows: Number of rows written; 0 for queries.
    """

    def __init__(
        self,
        result: ServerResult,
        run: Run,
        decoder: RowDecoder,
        row_factory: RowFactory[R],
        timeout: float,
    ) -> None:
        self._result = result
        self._run = run
        self._on_end: Callable[[], None] | None = None
        self._decoder = decoder
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._maker: RowMaker[R] | None = None
        self._rows: Iterator[R] = iter(())
        self._left = 0
        self._pieces: deque[Block] = deque()
        self._made: Tables | None = None
        self._count = 0
        self._done = result.finished
        self._closed = False
        self._reading = False
        self.fields: tuple[Field, ...] = result.fields
        self.req_id = result.req_id
        self.is_update = result.is_update
        self.affected_rows = result.affected_rows
        if row_factory is not tuple_row:
            try:
                self._maker = row_factory(self.fields)
            except BaseException:
                result.transport.free(result)
                raise

    @property
    def precision(self) -> Precision:
        """Unit of its TIMESTAMPs; over REST ms until one has come that is not NULL."""
        return self._result.precision

    @property
    def timing(self) -> int:
        """Time the server took for the statement, ns; over REST 0 until the last row has come."""
        return self._result.timing

    @property
    def field_count(self) -> int:
        """Number of columns."""
        return len(self.fields)

    @property
    def closed(self) -> bool:
        """Whether the result was closed before its end; then reading raises ResultError."""
        return self._closed

    @property
    def row_count(self) -> int | None:
        """Number of rows, known when the last block has come; None before."""
        return self._count if self._done else None

    def __repr__(self) -> str:
        if self.is_update:
            return f"<Result {self.affected_rows} rows affected>"
        state = "closed" if self._closed else "complete" if self._done else "open"
        return f"<Result {len(self.fields)} columns, {self._count} rows read, {state}>"

    async def blocks(self) -> AsyncGenerator[Block, None]:
        """The blocks that are not read yet, as columns.

        Raises:
            ResultError: The result is closed, or rows of the present block were already taken.
            TimeoutError: A block took longer than the connection's ``read_timeout``.
        """
        self._check_whole()
        while (block := await self._next_block(Deadline(self._timeout))) is not None:
            yield block

    async def __aiter__(self) -> AsyncIterator[R]:
        while True:
            while self._left:
                self._left -= 1
                yield next(self._rows)
            if not await self._load(Deadline(self._timeout)):
                return

    async def fetchone(self, *, timeout: float | None = None) -> R | None:
        """The next row, None after the last one.

        Args:
            timeout: Seconds; the connection's ``read_timeout`` if not given.
        """
        if not self._left and not await self._load(self._deadline(timeout)):
            return None
        self._left -= 1
        return next(self._rows)

    async def fetchmany(self, size: int, *, timeout: float | None = None) -> list[R]:
        """Up to ``size`` of the next rows; fewer only at the end.

        Args:
            size: Number of rows, at least 1.
            timeout: Seconds, for all of it.
        """
        whole_number("size", size, 1)
        deadline = self._deadline(timeout)
        rows: list[R] = []
        while len(rows) < size:
            if not self._left and not await self._load(deadline):
                break
            wanted = min(size - len(rows), self._left)
            self._left -= wanted
            rows += islice(self._rows, wanted)
        return rows

    async def fetchall(self, *, timeout: float | None = None) -> list[R]:
        """All rows that are not read yet.

        Args:
            timeout: Seconds, for all of it.
        """
        return await self._fetch_all(self._deadline(timeout))

    async def fetch_all_into_dict(self, *, timeout: float | None = None) -> list[dict[str, Any]]:
        """All rows that are not read yet, as dicts by column name, whatever the row factory.

        Raises:
            ResultError: Some rows of the present block were already taken.
        """
        deadline = self._deadline(timeout)
        self._check_whole()
        make = dict_row(self.fields)
        dicts: list[dict[str, Any]] = []
        while (piece := await self._next_piece(deadline)) is not None:
            with self._given_up_on_error():
                dicts += map(make, self._decoder.iterate(piece))
        return dicts

    async def aclose(self) -> None:
        """Give up what is not read; the server drops the result. May be called again."""
        self._give_up()

    async def __aenter__(self) -> Result[R]:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._give_up()

    def __del__(self) -> None:
        # Python may drop the last reference in any thread, and after the loop's end.
        if self._loop.is_closed():
            return
        if not self._result.finished:
            self._loop.call_soon_threadsafe(self._result.transport.free, self._result)
        if self._on_end is not None:
            self._loop.call_soon_threadsafe(self._on_end)

    def _columns(self) -> Result[R]:
        return self

    def _give_up(self) -> None:
        if not self._done:
            self._closed = True
            self._rows, self._left = iter(()), 0
            self._pieces.clear()
        self._result.transport.free(self._result)
        self._end()

    def _when_over(self, call: Callable[[], None]) -> None:
        """Have something called when the last row has come, or the result is closed or dropped."""
        self._on_end = call
        if self._done or self._closed:
            self._end()

    def _end(self) -> None:
        """There is nothing more to come."""
        if self._on_end is not None:
            on_end, self._on_end = self._on_end, None
            on_end()

    def _deadline(self, timeout: float | None) -> Deadline:
        return Deadline(self._timeout if timeout is None else seconds("timeout", timeout))

    def _check_whole(self) -> None:
        """Check that blocks can be given out.

        Raises:
            ResultError: Some rows of the present one are given out.
        """
        if self._left or self._pieces:
            raise ResultError("some rows of the present block are read; read the rest as rows")

    def _tables(self) -> Tables:
        """What blocks become; over REST the unit of TIMESTAMPs may be known late."""
        if self._made is None or self._made.precision is not self.precision:
            self._made = Tables(self.fields, self.precision, self._decoder.tz)
        return self._made

    async def _load(self, deadline: Deadline, *, ahead: bool = True) -> bool:
        """Replace the rows at hand, all of which are read, by those that come next."""
        self._rows = iter(())
        while not self._left:
            piece = await self._next_piece(deadline, ahead=ahead)
            if piece is None:
                return False
            with self._given_up_on_error():
                self._rows = self._make(piece)
            self._left = len(piece)
        return True

    async def _next_piece(self, deadline: Deadline, *, ahead: bool = True) -> Block | None:
        """The next rows that can be decoded without keeping the loop from others for long."""
        if not self._pieces:
            block = await self._next_block(deadline, ahead=ahead)
            size = max(_PIECE // max(len(self.fields), 1) & ~7, 8)
            if block is None or len(block) <= size:
                return block
            stops = range(size, len(block) + size, size)
            self._pieces.extend(block.cut(stop - size, min(stop, len(block))) for stop in stops)
        else:
            with self._being_read(), self._given_up_on_error():
                await asyncio.sleep(0)
            self._check_not_closed()
        return self._pieces.popleft()

    def _being_read(self) -> _BeingRead:
        """Keep other tasks out."""
        return _BeingRead(self)

    def _check_not_closed(self) -> None:
        if self._closed:
            raise ResultError("the result is closed", req_id=self.req_id)

    def _given_up_on_error(self) -> _GivenUpOnError:
        return _GivenUpOnError(self)

    async def _fetch_all(self, deadline: Deadline) -> list[R]:
        return await self._read_all(deadline, self._read_rest)

    async def _take_blocks(self, deadline: Deadline, take: Callable[[Block], T]) -> list[T]:
        """All blocks that are not read yet, each made into something when it comes.

        Raises:
            ResultError: Some rows of the present block were already taken.
        """

        async def read(deadline: Deadline) -> list[T]:
            taken = []
            while (block := await self._next_block(deadline)) is not None:
                with self._given_up_on_error():
                    taken.append(take(block))
            return taken

        self._check_whole()
        return await self._read_all(deadline, read)

    async def _read_all(
        self, deadline: Deadline, read: Callable[[Deadline], Awaitable[list[T]]]
    ) -> list[T]:
        """Read to the end; the statement is run again where that may help."""
        if self._count:
            return await read(deadline)
        on_end, self._on_end = self._on_end, None  # nothing is over while it can be repeated
        try:
            while True:
                try:
                    return await read(deadline)
                except Error as error:
                    await self._repeat(error, deadline)
        finally:
            self._on_end = on_end
            if self._done or self._closed:
                self._end()

    async def _read_rest(self, deadline: Deadline) -> list[R]:
        rows = list(self._rows)
        self._left = 0
        while await self._load(deadline):
            rows += self._rows
            self._left = 0
        return rows

    async def _read_first(self, deadline: Deadline) -> R | None:
        """The first row; the rest is given up."""
        found = await self._load(deadline, ahead=False)
        row = next(self._rows) if found else None
        self._give_up()
        return row

    def _make(self, piece: Block) -> Iterator[R]:
        # Tuples are made one by one: a list of them would have the garbage collector run for each
        # few hundred, and now and then over everything there is.
        rows = self._decoder.iterate(piece)
        if self._maker is None:
            return rows  # type: ignore[return-value]  # tuple_row: R is Row
        make = self._maker
        return iter([make(row) for row in rows])  # map() would end at a StopIteration of its own

    async def _next_block(self, deadline: Deadline, *, ahead: bool = True) -> Block | None:
        self._check_not_closed()
        if self._done:
            return None
        with self._being_read():
            try:
                block = await self._fetch(deadline)
            except BaseException:
                self._closed = True
                self._end()
                raise
        if block is None:
            self._done = True
            self._end()
            return None
        self._count += len(block)
        if ahead:
            self._result.transport.request_block(self._result)
        return block.decoded_by(self._decoder)

    async def _fetch(self, deadline: Deadline) -> Block | None:
        """The next block; before the first one the statement is run again, where that may help."""
        while True:
            result = self._result
            try:
                return await result.transport.next_block(result, deadline)
            except (asyncio.CancelledError, builtins.TimeoutError):
                self._run.left(result, deadline)
                raise
            except Error as error:
                if self._count:
                    raise
                await self._repeat(error, deadline)

    async def _repeat(self, error: Error, deadline: Deadline) -> None:
        """Run the statement again; raises ``error`` if it is not to be."""
        again = await self._run.again(error, deadline)
        if again.fields != self.fields or again.precision is not self.precision:
            again.transport.free(again)
            raise error
        self._result, self._count = again, 0
        self._closed = self._done = False

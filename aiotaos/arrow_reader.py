"""A result as a pyarrow reader: it blocks the thread that reads it, while the loop goes on."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from .errors import InterfaceError
from .protocol.block import Block
from .protocol.extras import imported
from .protocol.listed import ListedBlock
from .protocol.tables import Dictionary
from .transport.base import Deadline
from .types import TypeCode

if TYPE_CHECKING:
    import pyarrow

    from .result import Result

_PATIENCE = 5.0
"""Seconds without a turn of the loop after which it is taken for waiting for the reader."""

_WRONG_THREAD = (
    "the event loop waits for a reader whose batches it should bring; "
    "read it in another thread, with asyncio.to_thread()"
)


async def open_reader(result: Result[Any], dictionary: Dictionary) -> pyarrow.RecordBatchReader:
    """See :meth:`aiotaos.Result.arrow_reader`."""
    result._check_whole()
    batches = _Batches(result, dictionary)
    await batches.begin()
    reader: pyarrow.RecordBatchReader = imported("pyarrow").RecordBatchReader.from_batches(
        result._tables().schema_with(dictionary), batches
    )
    return reader


class _Batches:
    """The batches of a result, for a thread that is not the loop's.

    Dropping them gives the result up.
    """

    def __init__(self, result: Result[Any], dictionary: Dictionary) -> None:
        self._result = result
        self._dictionary = dictionary
        self._loop = asyncio.get_running_loop()
        self._begun: deque[Block] = deque()

    async def begin(self) -> None:
        """Read until the unit of TIMESTAMPs is known, which a schema cannot do without.

        Over REST it is not before the first that is not NULL; mostly that is the first of all.
        """
        while (block := await self._next_block()) is not None:
            self._begun.append(block)
            if _tells_unit(block):
                return

    def __iter__(self) -> _Batches:
        return self

    def __next__(self) -> pyarrow.RecordBatch:
        self._check_thread()
        block = self._begun.popleft() if self._begun else self._wait()
        if block is None:
            raise StopIteration
        try:
            return self._result._tables().batch(block, self._dictionary)
        except BaseException:
            self._give_up()
            raise

    def __del__(self) -> None:
        self._give_up()

    def _give_up(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and the result with it
            self._loop.call_soon_threadsafe(self._result._give_up)

    async def _next_block(self) -> Block | None:
        return await self._result._next_block(Deadline(self._result._timeout))

    def _wait(self) -> Block | None:
        """Have the loop bring the next block.

        Raises:
            InterfaceError: The loop has ended; or it does not turn, because it waits for what has
                started this thread.
        """
        begun = threading.Event()

        async def bring() -> Block | None:
            begun.set()
            return await self._next_block()

        bringing: Coroutine[Any, Any, Block | None] = bring()
        try:
            future = asyncio.run_coroutine_threadsafe(bringing, self._loop)
        except RuntimeError:
            bringing.close()
            raise InterfaceError("the event loop of the reader has ended") from None
        if not begun.wait(_PATIENCE):
            future.cancel()
            raise InterfaceError(_WRONG_THREAD)
        return future.result()

    def _check_thread(self) -> None:
        with contextlib.suppress(RuntimeError):
            if asyncio.get_running_loop() is self._loop:
                raise InterfaceError(_WRONG_THREAD)


def _tells_unit(block: Block) -> bool:
    if not isinstance(block, ListedBlock):  # not over REST
        return True
    times = [column for column in block.columns if column.type is TypeCode.TIMESTAMP]
    return not times or any(
        nulls is None or not nulls.all() for nulls in (column.nulls for column in times)
    )

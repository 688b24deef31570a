"""A thread for one object of libtaos, which makes all of its calls, one after the other.

What waits for a server, and cannot be begun with a callback, needs a thread; consumers (TMQ) want
the same one for all of their calls.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from ...errors import Error
from ..alarm import Alarm, fail
from ..base import Deadline

T = TypeVar("T")


class Worker:
    """The thread, and who waits for it on the loop that made it.

    At the end of the process it ends by itself, when its call does.

    Args:
        name: Of the thread, which begins with the first call.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, name)
        self._waiting: dict[asyncio.Future[Any], Future[Any]] = {}
        self._last: Future[object] | None = None
        self._alarm = Alarm()

    def __len__(self) -> int:
        return len(self._waiting)

    async def ask(self, call: Callable[[], T], deadline: Deadline, late: Callable[[], Error]) -> T:
        """Make a call on the thread.

        One that is cancelled, or late, is not begun any more; if it has begun, it goes on, and its
        answer is thrown away.

        Args:
            call: The call; what it raises is raised here.
            deadline: How long its answer is waited for.
            late: Makes the error for the end of that.
        """
        reply: asyncio.Future[T] = self._loop.create_future()
        work = self._thread.submit(call)
        self._waiting[reply] = work
        work.add_done_callback(partial(self._answered, reply))
        try:
            return await self._alarm.within(deadline, reply, late)
        finally:
            self._waiting.pop(reply, None)
            work.cancel()

    def _answered(self, reply: asyncio.Future[Any], work: Future[Any]) -> None:
        if not work.cancelled():
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(_give, reply, work)

    def end(self, error: Callable[[], Error], last: Callable[[], object]) -> None:
        """Fail all who wait, and have a last call made: as soon as the present one has ended."""
        if self._last is not None:
            return
        waiting, self._waiting = self._waiting, {}
        for reply, work in waiting.items():
            work.cancel()
            if not reply.done():
                fail(reply, error())
        self._alarm.stop()
        self._last = self._thread.submit(last)
        self._thread.shutdown(wait=False)

    async def ended(self, timeout: float) -> bool:
        """Wait until the thread has ended, after :meth:`end`; False if it has not in time."""
        assert self._last is not None
        await asyncio.wait([asyncio.wrap_future(self._last)], timeout=timeout)
        if not self._last.done():
            return False
        self._thread.shutdown(wait=True)  # it has nothing left to do
        return True


def _give(reply: asyncio.Future[Any], work: Future[Any]) -> None:
    if reply.done():
        return
    error = work.exception()
    if error is not None:
        fail(reply, error)
    else:
        reply.set_result(work.result())

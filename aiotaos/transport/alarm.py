"""Time-outs of replies: one timer for many of them.

A timer for each would cost a small query a tenth of its time.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any, TypeVar

from .base import Deadline

T = TypeVar("T")

_PAUSES = 10  # times as long as it takes to look at all replies


def fail(reply: asyncio.Future[Any], error: BaseException) -> None:
    """Give an error to who waits, if there is anybody, and still a loop."""
    if reply.get_loop().is_closed():
        return
    reply.set_exception(error)
    reply.exception()  # whoever waits has it; nobody need wait


class Alarm:
    """Replies that are waited for, and until when.

    A reply is waited for by one task at a time.
    """

    def __init__(self) -> None:
        self._waits: dict[asyncio.Future[Any], tuple[float, Callable[[], Exception]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._at = math.inf

    async def within(
        self, deadline: Deadline, reply: asyncio.Future[T], late: Callable[[], Exception]
    ) -> T:
        """Wait for a reply; when the time is over, it fails.

        Args:
            deadline: How long.
            reply: The reply.
            late: Makes the error for then.
        """
        when = deadline.when
        if when is None or reply.done():
            return await reply
        if when < self._at:
            self._set(when)
        self._waits[reply] = when, late
        try:
            return await reply
        finally:
            del self._waits[reply]

    def stop(self) -> None:
        """Nobody waits any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._at = None, math.inf

    def _set(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._at = when
        self._timer = asyncio.get_running_loop().call_at(when, self._ring)

    def _ring(self) -> None:
        """Fail the replies whose time is over, and wait for the next one's."""
        clock = asyncio.get_running_loop().time
        began = clock()
        now, self._at = max(self._at, began), math.inf
        self._timer = None
        following = math.inf
        for reply, (when, late) in list(self._waits.items()):
            if reply.done():
                continue
            if when > now:
                following = min(following, when)
            else:
                fail(reply, late())
        if following < math.inf:
            # All are looked at each time; with thousands, a tenth of the loop's time may go there.
            ended = clock()
            self._set(max(following, ended + _PAUSES * (ended - began)))

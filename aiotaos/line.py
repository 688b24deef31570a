"""The tasks that wait for a session of a pool, in the order in which they came."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from .errors import copied
from .member import Member
from .transport.alarm import Alarm
from .transport.base import Deadline


class Place:
    """A place in the line.

    Attributes:
        future: The session, when it comes.
        since: When it was taken, on the loop's clock.
    """

    __slots__ = ("future", "since")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.future: asyncio.Future[Member] = loop.create_future()
        self.since = loop.time()


class Line:
    """Tasks that wait."""

    def __init__(self) -> None:
        self._places: OrderedDict[Place, None] = OrderedDict()
        self._alarm = Alarm()

    def __len__(self) -> int:
        return len(self._places)

    @property
    def unserved(self) -> int:
        """Those who have nothing yet."""
        return sum(not place.future.done() for place in self._places)

    def join(self) -> Place:
        """Take the last place."""
        place = Place(asyncio.get_running_loop())
        self._places[place] = None
        return place

    async def wait(
        self,
        place: Place,
        deadline: Deadline,
        too_late: Callable[[], Exception],
        give_back: Callable[[Member], None],
    ) -> Member:
        """Wait for a session.

        Args:
            place: From :meth:`join`.
            deadline: How long.
            too_late: Makes the error for then.
            give_back: Takes a session that came when the task had been cancelled.

        Raises:
            Exception: What :meth:`refuse` was told.
        """
        future = place.future

        try:
            return await self._alarm.within(deadline, future, too_late)
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                give_back(future.result())  # it came in the same turn of the loop
            raise
        finally:
            self._places.pop(place, None)

    def end(self) -> None:
        """Nobody is to wait any more; those who do were refused."""
        self._alarm.stop()

    def hand(self, member: Member) -> bool:
        """Give a session to the first; False if there is nobody."""
        while self._places:
            future = self._places.popitem(last=False)[0].future
            if not future.done():
                future.set_result(member)
                return True
        return False

    def refuse(self, error: Exception, *, since: float, only_first: bool) -> None:
        """Send those away, or the first of them, who have waited since then."""
        for place in [place for place in self._places if place.since <= since]:
            del self._places[place]
            if not place.future.done():
                place.future.set_exception(copied(error))
                if only_first:
                    return

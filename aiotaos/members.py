"""The sessions of a pool: which there are, and who gets them.

What is decided is decided in plain functions, between two turns of the event loop; what has to be
awaited for it (opening, putting back, closing) is done by tasks that are owned here.
"""

from __future__ import annotations

import asyncio
import builtins
import logging
import math
import random
import weakref
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from .care import Care
from .connection import CLOSE_TIMEOUT
from .errors import InterfaceError, PoolFull, TimeoutError
from .home import Home
from .kill import Killer
from .line import Line
from .member import Limits, Member, PoolStats
from .options import Address, Options, Road
from .session import Session
from .tasks import ended
from .transport.base import Deadline
from .transport.servers import Servers

if TYPE_CHECKING:
    from .embedded.shared import Hold

T = TypeVar("T")

_LONGEST_TICK = 1.0  # seconds between two looks at what is idle
_SHORTEST_TICK = 0.01
_JITTER = 0.1
_logger = logging.getLogger("aiotaos.pool")


class Members:
    """The sessions of a pool.

    Args:
        options: How they are opened.
        limits: How many, and for how long.
        care: Who configures them, and puts them back.

    Attributes:
        limits: How many, and for how long.
        home: Where they belong; None before :meth:`start`.
        closed: Whether there are to be none any more.
        acquired: Sessions lent so far.
        wait_time: Seconds that tasks have waited for them.
    """

    def __init__(
        self,
        options: Options,
        limits: Limits,
        care: Care,
    ) -> None:
        self._options = options
        self._care = care
        self.limits = limits
        self.home: Home | None = None
        self.closed = False
        self.acquired = 0
        self.wait_time = 0.0
        self._hold: Hold | None = None
        self._servers = Servers(options.addresses)
        self._killer = Killer(options, self._servers)
        self._idle: list[Member] = []
        self._used: set[Member] = set()
        self._opening = 0
        self._waiting = Line()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._openers: set[asyncio.Task[Exception | None]] = set()
        self._generation = 0
        self._heavy: Address | None = None  # a server that has too many
        self._moving = False
        self._timer: asyncio.TimerHandle | None = None
        self._returned: asyncio.Event | None = None
        self._failure: Exception | None = None
        self._opened = self._ended = self._lost = self._errors = 0

    def __repr__(self) -> str:
        return (
            f"{len(self._used)} of {self.limits.max_size} used, {len(self._idle)} idle, "
            f"{self._opening} being opened, {len(self._waiting)} waiting"
        )

    @property
    def _size(self) -> int:
        return len(self._idle) + len(self._used) + self._opening

    def stats(self) -> PoolStats:
        """What there is, and what was done."""
        return PoolStats(
            min_size=self.limits.min_size,
            max_size=self.limits.max_size,
            size=self._size,
            idle=len(self._idle),
            used=len(self._used),
            opening=self._opening,
            waiting=len(self._waiting),
            acquired=self.acquired,
            wait_time=self.wait_time,
            opened=self._opened,
            closed=self._ended,
            lost=self._lost,
            errors=self._errors,
        )

    # Beginning and end.

    async def start(self) -> None:
        """Open as many sessions as there are to be at least.

        Raises:
            Error: One could not be opened; all are closed.
        """
        self.home = Home()
        self._schedule()
        try:
            if self._options.road is Road.EMBEDDED:  # its data must outlive a session
                from .embedded.shared import hold_embedded

                _, self._hold = await hold_embedded(self._options)
            tasks = [] if self.closed else [self._grow() for _ in range(self.limits.min_size)]
            if tasks:
                await asyncio.wait(tasks)
            if self.closed:
                raise InterfaceError("the pool was closed while it was opened")
            for failure in [task.result() for task in tasks]:
                if failure is not None:
                    raise failure
        except BaseException:
            self.terminate()
            raise

    async def close(self, deadline: Deadline) -> None:
        """Close them; those that are used when they are given back, or at the deadline."""
        if asyncio.current_task() in self._tasks:
            raise InterfaceError("a pool cannot be closed by its own configure or reset")
        self._shut()
        try:
            for member in self._idle[:]:
                self._idle.remove(member)
                self._end(member)
            if self._used:
                await self._until_returned(deadline)
            await self._killer.close()
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=deadline.remaining)
        finally:
            self._drop_all()
            await ended(self._tasks.copy())
            if self._hold is not None:
                await self._hold.release()

    def terminate(self) -> None:
        """Drop them at once."""
        self._shut()
        self._drop_all()
        if self._hold is not None:
            self._hold.release_soon()

    def _shut(self) -> None:
        """Take no more; those who wait go away."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._openers:
            task.cancel()
        closed = InterfaceError("the pool was closed")
        self._waiting.refuse(closed, since=math.inf, only_first=False)
        self._waiting.end()

    async def _until_returned(self, deadline: Deadline) -> None:
        self._returned = asyncio.Event()
        try:
            async with asyncio.timeout_at(deadline.when):
                await self._returned.wait()
        except builtins.TimeoutError:
            places = [member.taken_at for member in self._used if member.taken_at]
            _logger.warning(
                "connections that were not returned within %g s: %d%s",
                deadline.seconds,
                len(self._used),
                f"; taken at: {'; '.join(places)}" if places else "",
            )

    def _drop_all(self) -> None:
        for member in [*self._idle, *self._used]:
            self._ended += 1
            member.session.terminate()
        self._idle.clear()
        self._used.clear()
        self._note_returned()
        self._killer.terminate()
        for task in self._tasks:
            task.cancel()

    # Lending.

    async def borrow(self, deadline: Deadline) -> Member:
        """A session; those who wait for one get it in the order in which they came.

        Raises:
            TimeoutError: There was none in time.
            PoolFull: Too many wait.
            Error: A session had to be opened, and could not be.
        """
        member = None if self._waiting else self._take()
        if member is None:
            try:
                member = await self._wait(deadline)
            finally:
                self.wait_time += deadline.elapsed
        return member

    def too_late(self, deadline: Deadline, cause: BaseException | None) -> TimeoutError:
        """The error for a deadline that has passed."""
        why = self._servers.reason() if self._opening else ""
        error = TimeoutError(
            f"no connection within {deadline.seconds:.3g} s: {self!r}{why}", may_have_run=False
        )
        error.__cause__ = cause or (self._servers.failure if why else None)
        return error

    def _take(self) -> Member | None:
        """An idle session that can be used."""
        now = self._loop.time()
        while self._idle:
            member = self._idle.pop()
            if not member.is_lost and now < member.expires:
                self._used.add(member)
                return member
            self._lost += member.is_lost
            self._end(member)
        return None

    async def _wait(self, deadline: Deadline) -> Member:
        """Wait in line for a session."""
        if self.closed:
            raise InterfaceError("the pool is closed")
        in_line = len(self._waiting) - self._opening
        full = self._size >= self.limits.max_size
        if self.limits.max_waiting is not None and full and in_line >= self.limits.max_waiting:
            raise PoolFull(f"no connection: too many wait already: {self!r}", may_have_run=False)
        place = self._waiting.join()
        self._serve()
        return await self._waiting.wait(
            place, deadline, lambda: self.too_late(deadline, self._failure), self.put_back
        )

    # Giving back.

    def put_back(self, member: Member) -> None:
        """A session comes back from its borrower."""
        if member not in self._used:  # it was dropped meanwhile
            return
        self._lost += member.session.losses - member.losses
        member.losses = member.session.losses
        member.taken_at = None
        if self._is_over(member):
            self._lost += member.is_lost
            self._end(member)
            self._serve()
        elif self._care.is_needed(member):
            self._spawn(self._clean(member))
        elif (target := self._better_place(member)) is not None:
            self._used.discard(member)
            self._begin_move(member, target)
        else:
            self._offer(member)

    def _is_over(self, member: Member) -> bool:
        """Whether a session is not to be used any more."""
        if self.closed or member.retired or member.session.closed or member.is_lost:
            return True
        session = member.session
        cannot_be_undone = session.database != member.database and member.database is None
        return (
            cannot_be_undone
            or not session.is_sure
            or self._loop.time() >= member.expires
            or self._size > self.limits.max_size
        )

    async def _clean(self, member: Member) -> None:
        """Put the state of a session back."""
        try:
            await self._care.put_back(member)
        except BaseException as error:
            if member in self._used:
                self._end(member)
            if not isinstance(error, Exception):
                raise
            _logger.warning("%r: a session could not be put back, it is replaced: %s", self, error)
        else:
            if member.is_changed or self._is_over(member):
                self._end(member)
            else:
                self._offer(member)
        finally:
            self._serve()

    def _offer(self, member: Member) -> None:
        """Give a session to the one who waits for longest, or let it be idle."""
        self._used.add(member)
        if self._waiting.hand(member):
            return
        self._used.discard(member)
        member.idle_since = self._loop.time()
        self._idle.append(member)
        self._note_returned()

    def _note_returned(self) -> None:
        if self._returned is not None and not self._used:
            self._returned.set()

    def forget(self, member: Member) -> None:
        """A borrower has closed the session itself."""
        if member in self._used:
            self._used.discard(member)
            self._ended += 1
            self._note_returned()
            self._serve()

    def drop(self, member: Member) -> None:
        """End the session of a connection that nobody has any more."""
        self.forget(member)
        member.session.terminate()

    def _end(self, member: Member) -> None:
        """Close a session, which is not idle any more."""
        self._used.discard(member)
        self._ended += 1
        self._note_returned()
        if member.is_lost:
            member.session.terminate()
        else:
            self._spawn(member.session.close(CLOSE_TIMEOUT))

    # Opening.

    def _serve(self) -> None:
        """Open sessions for those who wait, as far as the pool may grow."""
        if self.closed:
            return
        while self._waiting and (member := self._take()) is not None:
            self._offer(member)
        while self._size < self.limits.max_size and self._opening < self._waiting.unserved:
            self._grow()

    def _grow(self) -> asyncio.Task[Exception | None]:
        self._opening += 1
        task = self._spawn(self._open_member())
        self._openers.add(task)
        task.add_done_callback(self._openers.discard)
        return task

    async def _open_member(self) -> Exception | None:
        """Open a session for who waits; gives why it could not be opened."""
        began, generation = self._loop.time(), self._generation
        try:
            member = await self._new_member(None)
        except BaseException as error:
            self._opening -= 1
            if self.closed:
                raise
            failure = (
                error
                if isinstance(error, Exception)
                else InterfaceError(f"no session could be opened: {error!r}")
            )
            self._errors += 1
            self._failure = failure
            _logger.debug("%r: no session: %s", self, failure)
            # If others may still come back, only the first of those who waited is told.
            self._waiting.refuse(failure, since=began, only_first=bool(self._used or self._idle))
            self._serve()
            if failure is not error:
                raise
            return failure
        self._opening -= 1
        self._failure = None
        self._admit(member, generation)
        return None

    def _admit(self, member: Member, generation: int) -> None:
        is_too_many = self._size >= self.limits.max_size
        if self.closed or is_too_many or generation != self._generation:
            self._end(member)
            self._serve()
        else:
            self._offer(member)

    async def _new_member(self, only: Address | None) -> Member:
        session = await Session.open(self._options, self._servers, self._killer, only)
        self._opened += 1
        lifetime = self.limits.max_lifetime * random.uniform(1 - _JITTER, 1)
        member = Member(session, self._loop.time() + lifetime)
        try:
            await self._care.prepare(member)
        except BaseException:
            self._ended += 1
            session.terminate()
            raise
        return member

    # Upkeep.

    def _schedule(self) -> None:
        wait = min(self.limits.max_idle / 4, self.limits.max_lifetime / 4, _LONGEST_TICK)
        wait = max(wait, _SHORTEST_TICK) * random.uniform(1 - _JITTER, 1)
        self._timer = self._loop.call_later(wait, _tick, weakref.ref(self))

    def _look_after(self) -> None:
        """Close what is lost, old, or idle for long; open what is too few; spread the load."""
        now = self._loop.time()
        for member in self._idle[:]:
            idle_for_long = (
                now - member.idle_since >= self.limits.max_idle
                and self._size > self.limits.min_size
            )
            if member.is_lost or now >= member.expires or idle_for_long:
                self._idle.remove(member)
                self._lost += member.is_lost
                self._end(member)
        self._fill()
        self._heavy = None
        if len(self._servers) > 1 and not self._moving:
            for member in [*self._idle, *self._used]:
                if self._servers.lighter_than(member.address) is not None:
                    self._heavy = member.address
                    break
            for member in self._idle:
                if (target := self._better_place(member)) is not None:
                    self._idle.remove(member)
                    self._begin_move(member, target)
                    break
        self._schedule()

    def _better_place(self, member: Member) -> Address | None:
        """The server that a session is to move to, if its own is one that has too many."""
        if self._moving or member.address != self._heavy:
            return None
        return self._servers.lighter_than(member.address)

    def _begin_move(self, member: Member, target: Address) -> None:
        """Replace a session, which nobody has, by one of a server that has fewer."""
        self._heavy, self._moving = None, True
        self._opening += 1
        self._spawn(self._move(member, target, self._generation))

    async def _move(self, member: Member, target: Address, generation: int) -> None:
        try:
            fresh = await self._new_member(target)
        except BaseException as error:
            self._opening -= 1
            if not isinstance(error, Exception):
                self._ended += 1
                member.session.terminate()
                raise
            _logger.debug("%r: %s takes no session: %s", self, target, error)
            self._admit(member, generation)
        else:
            self._opening -= 1
            self._end(member)
            self._admit(fresh, generation)
        finally:
            self._moving = False

    def resize(self, min_size: int | None, max_size: int | None) -> None:
        """Change how many there are; those too many are closed when they are given back."""
        limits = self.limits
        limits.resize(
            limits.min_size if min_size is None else min_size,
            limits.max_size if max_size is None else max_size,
        )
        if self.home is None or self.closed:
            return
        while self._size > limits.max_size and self._idle:
            self._end(self._idle.pop(0))
        self._fill()
        self._serve()

    def drain(self) -> None:
        """Replace all: idle ones now, those that are used when they are given back."""
        self._generation += 1
        for member in self._used:
            member.retired = True
        idle, self._idle = self._idle, []
        for member in idle:
            self._end(member)
        self._fill()

    def _fill(self) -> None:
        while self._size < self.limits.min_size:
            self._grow()

    # Inside.

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        assert self.home is not None
        return self.home.loop

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _logger.error("%r: %s", self, error, exc_info=error)


def _tick(reference: weakref.ref[Members]) -> None:
    members = reference()
    if members is not None and not members.closed:
        members._look_after()

"""A pool of connections.

What is decided is decided in plain functions, between two turns of the event loop; what has to be
awaited for it (opening, putting back, closing) is done by tasks that the pool owns.
"""

from __future__ import annotations

import asyncio
import builtins
import copy
import logging
import random
import warnings
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypedDict, TypeVar, Unpack, overload

from .binding import Shape
from .connection import Connection
from .errors import InterfaceError, PoolFull, TimeoutError
from .home import Home
from .hooks import Hooks
from .insert import Target
from .options import Address, OptionArguments, Options, Road, seconds, whole_number
from .pooled import Acquiring, Member, PooledConnection, PoolStats
from .protocol.bind import Binding
from .protocol.block import Row
from .protocol.messages import InsertArgs
from .result import Result
from .row_factories import R, RowFactory, tuple_row
from .session import Session
from .sources import Data
from .tasks import ended
from .transport.base import Deadline
from .transport.retry import Backoff
from .transport.servers import Servers
from .verbs import Verbs

if TYPE_CHECKING:
    from .embedded.shared import Hold

T = TypeVar("T")

Check: TypeAlias = Callable[[Connection[Any]], Awaitable[object]]

_CLOSE_TIMEOUT = 5.0
_LONGEST_TICK = 1.0  # seconds between two looks at what is idle
_SHORTEST_TICK = 0.01
_JITTER = 0.1
_logger = logging.getLogger("aiotaos.pool")


class PoolArguments(TypedDict, total=False):
    """The keyword arguments of :func:`create_pool` that are not options of its connections."""

    min_size: int
    max_size: int
    max_waiting: int | None
    acquire_timeout: float
    max_idle: float
    max_lifetime: float
    check: Check | None
    configure: Check | None
    reset: Check | None
    hooks: Hooks | None


class _Arguments(PoolArguments, OptionArguments, total=False):
    pass


@overload
def create_pool(dsn: str | None = None, /, **arguments: Unpack[_Arguments]) -> Pool[Row]: ...
@overload
def create_pool(
    dsn: str | None = None, /, *, row_factory: RowFactory[R], **arguments: Unpack[_Arguments]
) -> Pool[R]: ...
def create_pool(
    dsn: str | None = None,
    /,
    *,
    row_factory: RowFactory[Any] = tuple_row,
    min_size: int = 0,
    max_size: int = 10,
    max_waiting: int | None = None,
    acquire_timeout: float = 30.0,
    max_idle: float = 600.0,
    max_lifetime: float = 3600.0,
    check: Check | None = None,
    configure: Check | None = None,
    reset: Check | None = None,
    hooks: Hooks | None = None,
    **options: Unpack[OptionArguments],
) -> Pool[Any]:
    """Make a pool of connections; nothing is opened before ``async with pool`` or ``await pool``.

    Args:
        dsn: As for :func:`aiotaos.connect`.
        row_factory: What rows are.
        min_size: Sessions that are opened at once and kept.
        max_size: Sessions that there may be.
        max_waiting: Tasks that may wait for a connection; more get :class:`PoolFull`. None: any
            number.
        acquire_timeout: Seconds to wait for a connection.
        max_idle: Seconds after which a session that is not used is closed.
        max_lifetime: Seconds after which a session is replaced, less up to 10 %.
        check: Coroutine function that gets a connection before it is lent; if it raises, the
            session is replaced. :meth:`Pool.check_connection` is one.
        configure: Coroutine function that gets the connection of each new session, and of each that
            was lost and opened again.
        reset: Coroutine function that gets a connection after it was returned; if it raises, the
            session is replaced.
        hooks: Called before and after each statement.
        options: Options of the connections, see :class:`aiotaos.Options`.

    Raises:
        InterfaceError: An argument is unknown or malformed.
    """
    return Pool(
        Options.make(dsn, **options),
        row_factory,
        min_size=min_size,
        max_size=max_size,
        max_waiting=max_waiting,
        acquire_timeout=acquire_timeout,
        max_idle=max_idle,
        max_lifetime=max_lifetime,
        check=check,
        configure=configure,
        reset=reset,
        hooks=hooks,
    )


class Pool(Verbs[R]):
    """Connections to borrow; made by :func:`create_pool`.

    Tasks that wait for one are served in the order in which they came. A session is opened when it
    is needed; one that broke is replaced. A database or time zone that a borrower has set is put
    back. The verbs of a connection work on the pool as well: each takes a connection for itself.

    Attributes:
        row_factory: What rows are.
    """

    def __init__(
        self,
        options: Options,
        row_factory: RowFactory[R],
        *,
        min_size: int,
        max_size: int,
        max_waiting: int | None,
        acquire_timeout: float,
        max_idle: float,
        max_lifetime: float,
        check: Check | None,
        configure: Check | None,
        reset: Check | None,
        hooks: Hooks | None,
    ) -> None:
        self._min_size, self._max_size = _sizes(min_size, max_size)
        self._max_waiting = (
            None if max_waiting is None else whole_number("max_waiting", max_waiting)
        )
        self._acquire_timeout = seconds("acquire_timeout", acquire_timeout)
        self._max_idle = seconds("max_idle", max_idle)
        self._max_lifetime = seconds("max_lifetime", max_lifetime)
        for name, function in (("check", check), ("configure", configure), ("reset", reset)):
            if function is not None and not callable(function):
                raise InterfaceError(f"{name}: expected a coroutine function, got {function!r}")
        self._check_lent, self._configure, self._reset = check, configure, reset
        self._options = options
        self._hooks = hooks
        self.row_factory = row_factory
        self._home: Home | None = None
        self._hold: Hold | None = None
        self._closed = False
        self._servers = Servers(options.addresses)
        self._idle: list[Member] = []
        self._used: set[Member] = set()
        self._opening = 0
        self._waiting: deque[asyncio.Future[Member]] = deque()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._openers: set[asyncio.Task[None]] = set()
        self._moving = False
        self._timer: asyncio.TimerHandle | None = None
        self._returned: asyncio.Event | None = None
        self._failure: Exception | None = None
        self._acquired = self._opened = self._ended = self._lost = self._errors = 0
        self._wait_time = 0.0

    def __repr__(self) -> str:
        endpoints = ", ".join(map(self._options.endpoint, self._options.addresses))
        state = "closed" if self._closed else "new" if self._home is None else "open"
        return f"<Pool {endpoints} {state}: {self._figures()}>"

    def _figures(self) -> str:
        return (
            f"{len(self._used)} of {self._max_size} used, {len(self._idle)} idle, "
            f"{self._opening} being opened, {len(self._waiting)} waiting"
        )

    @property
    def closed(self) -> bool:
        """Whether the pool was closed."""
        return self._closed

    @property
    def _size(self) -> int:
        return len(self._idle) + len(self._used) + self._opening

    def get_stats(self) -> PoolStats:
        """What the pool holds, and what it has done."""
        return PoolStats(
            min_size=self._min_size,
            max_size=self._max_size,
            size=self._size,
            idle=len(self._idle),
            used=len(self._used),
            opening=self._opening,
            waiting=len(self._waiting),
            acquired=self._acquired,
            wait_time=self._wait_time,
            opened=self._opened,
            closed=self._ended,
            lost=self._lost,
            errors=self._errors,
        )

    # Beginning and end.

    async def open(self) -> Self:
        """Open ``min_size`` sessions; ``async with pool`` and ``await pool`` do this too.

        Raises:
            InterfaceError: It was opened before.
            Error: A session could not be opened; the pool is closed.
        """
        if self._home is not None or self._closed:
            raise InterfaceError("a pool is opened once")
        self._home = Home()
        self._schedule()
        try:
            if self._options.road is Road.EMBEDDED:  # its data must outlive a session
                from .embedded.shared import hold_embedded

                _, self._hold = await hold_embedded(self._options)
            tasks = [self._grow() for _ in range(self._min_size)]
            if tasks:
                await asyncio.wait(tasks)
            if self._size < self._min_size and self._failure is not None:
                raise self._failure
        except BaseException:
            self.terminate()
            raise
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        return self.open().__await__()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self, *, timeout: float | None = None) -> None:
        """Close all sessions; those that are borrowed when they are returned. May be called again.

        Tasks that wait for a connection get an InterfaceError.

        Args:
            timeout: Seconds to wait for those that are borrowed, and for saying goodbye; 5 if not
                given. What is left then is dropped.
        """
        deadline = Deadline(_CLOSE_TIMEOUT if timeout is None else seconds("timeout", timeout))
        if self._home is None or self._closed:
            self._closed = True
            return
        self._home.check("the pool")
        self._shut()
        try:
            for member in self._idle[:]:
                self._idle.remove(member)
                self._end(member)
            if self._used:
                await self._until_returned(deadline)
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=deadline.remaining)
        finally:
            self._drop_all()
            await ended(self._tasks.copy())
            if self._hold is not None:
                await self._hold.release()

    def terminate(self) -> None:
        """Drop all sessions at once. May be called again."""
        if self._home is None or self._home.is_gone:
            self._closed = True
            return
        self._shut()
        self._drop_all()
        if self._hold is not None:
            self._hold.release_soon()

    def __del__(self) -> None:
        home = getattr(self, "_home", None)
        if home is None or self._closed or home.is_gone:
            return
        warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
        for member in self._idle:
            home.loop.call_soon_threadsafe(member.session.terminate)
        if self._hold is not None:
            home.loop.call_soon_threadsafe(self._hold.release_soon)

    def _shut(self) -> None:
        """Take no more; those who wait go away."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._openers:
            task.cancel()
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(InterfaceError("the pool was closed"))

    async def _until_returned(self, deadline: Deadline) -> None:
        self._returned = asyncio.Event()
        try:
            async with asyncio.timeout_at(deadline.when):
                await self._returned.wait()
        except builtins.TimeoutError:
            places = [member.taken_at for member in self._used if member.taken_at]
            _logger.warning(
                "%d connections were not returned within %g s%s",
                len(self._used),
                deadline.seconds,
                f"; taken at: {'; '.join(places)}" if places else "",
            )

    def _drop_all(self) -> None:
        for member in [*self._idle, *self._used]:
            self._ended += 1
            member.session.terminate()
        self._idle.clear()
        self._used.clear()
        for task in self._tasks:
            task.cancel()

    # Borrowing.

    def acquire(self, *, timeout: float | None = None) -> Acquiring[R]:
        """Borrow a connection: ``async with pool.acquire() as conn``, or await it and release it.

        Args:
            timeout: Seconds to wait for it; the pool's ``acquire_timeout`` if not given.

        Raises:
            TimeoutError: There was none in time; the message has the pool's figures.
            PoolFull: ``max_waiting`` tasks wait already.
            InterfaceError: The pool is not open, or belongs to another loop or process.
            Error: A session had to be opened, and could not be.
        """
        return Acquiring(self, None if timeout is None else seconds("timeout", timeout))

    async def release(self, connection: Connection[Any]) -> None:
        """Give a connection back that was acquired by ``await``. May be repeated.

        Raises:
            InterfaceError: It is not of this pool.
        """
        if not isinstance(connection, PooledConnection) or connection._pool is not self:
            raise InterfaceError(f"connection: expected one of this pool, got {connection!r}")
        connection.release()

    @staticmethod
    async def check_connection(connection: Connection[Any]) -> None:
        """Ask the server for a sign of life; to be given as ``check``."""
        await connection.execute("select 1")

    async def _acquire(self, timeout: float | None) -> PooledConnection[R]:
        self._check()
        if not self._waiting and self._check_lent is None and (member := self._take()) is not None:
            return self._lend(member)
        limit = self._acquire_timeout if timeout is None else timeout
        deadline = Deadline(limit)
        try:
            if self._check_lent is None:
                return self._lend(await self._wait(deadline))
            return await self._acquire_checked(self._check_lent, deadline)
        finally:
            self._wait_time += deadline.elapsed

    async def _acquire_checked(self, check: Check, deadline: Deadline) -> PooledConnection[R]:
        backoff = Backoff(self._options)
        while True:
            member = None if self._waiting else self._take()
            connection = self._lend(member or await self._wait(deadline))
            try:
                async with asyncio.timeout_at(deadline.when):
                    await check(connection)
            except Exception as error:
                connection.terminate()
                _logger.debug("%r: a session did not pass its check: %s", self, error)
                pause = backoff.next()
                if pause >= deadline.remaining:
                    raise self._too_late(deadline, error) from error
                await asyncio.sleep(pause)
            except BaseException:
                connection.release()
                raise
            else:
                return connection

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
        in_line = len(self._waiting) - self._opening
        full = self._size >= self._max_size
        if self._max_waiting is not None and full and in_line >= self._max_waiting:
            raise PoolFull(f"no connection: too many wait already: {self._figures()}")
        waiter: asyncio.Future[Member] = self._loop.create_future()
        self._waiting.append(waiter)
        self._serve()
        timer = None
        if deadline.when is not None:
            timer = self._loop.call_at(deadline.when, self._expire, waiter, deadline)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._put_back(waiter.result())  # it came in the same turn of the loop
            raise
        finally:
            if timer is not None:
                timer.cancel()
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def _expire(self, waiter: asyncio.Future[Member], deadline: Deadline) -> None:
        if not waiter.done():
            waiter.set_exception(self._too_late(deadline, self._failure))

    def _too_late(self, deadline: Deadline, cause: BaseException | None) -> TimeoutError:
        error = TimeoutError(
            f"no connection within {deadline.seconds:g} s: {self._figures()}", may_have_run=False
        )
        error.__cause__ = cause
        return error

    def _lend(self, member: Member) -> PooledConnection[R]:
        self._acquired += 1
        return PooledConnection(self, member)

    # Giving back.

    def _put_back(self, member: Member) -> None:
        """A session comes back from its borrower."""
        self._lost += member.session.losses - member.losses
        member.losses = member.session.losses
        member.taken_at = None
        if self._is_over(member):
            self._lost += member.is_lost
            self._used.discard(member)
            self._end(member)
            self._serve()
        elif member.is_changed or self._reset is not None:
            self._spawn(self._clean(member))
        else:
            self._offer(member)

    def _is_over(self, member: Member) -> bool:
        """Whether a session is not to be used any more."""
        if self._closed or member.retired or member.session.closed or member.is_lost:
            return True
        session = member.session
        cannot_be_undone = session.database != member.database and member.database is None
        return (
            cannot_be_undone
            or not session.database_is_sure
            or self._loop.time() >= member.expires
            or self._size > self._max_size
        )

    async def _clean(self, member: Member) -> None:
        """Put the state of a session back."""
        session = member.session
        connection = Connection(session, self.row_factory, self._hooks)
        try:
            async with asyncio.timeout(self._options.connect_timeout):
                if session.database != member.database and member.database is not None:
                    await connection.select_db(member.database)
                    session.database = member.database
                if session.options.timezone != member.timezone:
                    await connection.set_timezone(member.timezone)
                if self._reset is not None:
                    await self._reset(connection)
        except BaseException as error:
            if member in self._used:
                self._used.discard(member)
                self._end(member)
            if not isinstance(error, Exception):
                raise
            _logger.warning("%r: a session could not be put back, it is replaced: %s", self, error)
        else:
            if member.is_changed or self._is_over(member):
                self._used.discard(member)
                self._end(member)
            else:
                self._offer(member)
        finally:
            connection._closed = True
            self._serve()

    def _offer(self, member: Member) -> None:
        """Give a session to the one who waits for longest, or let it be idle."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                self._used.add(member)
                waiter.set_result(member)
                return
        self._used.discard(member)
        member.idle_since = self._loop.time()
        self._idle.append(member)
        self._note_returned()

    def _note_returned(self) -> None:
        if self._returned is not None and not self._used:
            self._returned.set()

    def _forget(self, member: Member) -> None:
        """A borrower has closed the session itself."""
        if member in self._used:
            self._used.discard(member)
            self._ended += 1
            self._note_returned()
            self._serve()

    def _drop(self, member: Member) -> None:
        """End the session of a connection that nobody has any more."""
        self._forget(member)
        member.session.terminate()

    def _end(self, member: Member) -> None:
        """Close a session that is neither idle nor used any more."""
        self._ended += 1
        self._note_returned()
        if member.is_lost:
            member.session.terminate()
        else:
            self._spawn(member.session.close(_CLOSE_TIMEOUT))

    # Opening.

    def _serve(self) -> None:
        """Open sessions for those who wait, as far as the pool may grow."""
        if self._closed:
            return
        while self._waiting and (member := self._take()) is not None:
            self._offer(member)
        waiting = sum(not waiter.done() for waiter in self._waiting)
        while self._opening < waiting and self._size < self._max_size:
            self._grow()

    def _grow(self) -> asyncio.Task[None]:
        self._opening += 1
        task = self._spawn(self._open_member())
        self._openers.add(task)
        task.add_done_callback(self._openers.discard)
        return task

    async def _open_member(self) -> None:
        try:
            member = await self._new_member(None)
        except BaseException as error:
            self._opening -= 1
            if not isinstance(error, Exception):
                raise
            self._errors += 1
            self._failure = error
            _logger.debug("%r: no session: %s", self, error)
            self._refuse(error)
            self._serve()
            return
        self._opening -= 1
        self._failure = None
        self._admit(member)

    def _admit(self, member: Member) -> None:
        if self._closed:
            self._end(member)
        else:
            self._offer(member)

    async def _new_member(self, only: Address | None) -> Member:
        session = await Session.open(self._options, self._servers, only)
        self._opened += 1
        lifetime = self._max_lifetime * random.uniform(1 - _JITTER, 1)
        member = Member(session, self._loop.time() + lifetime)
        try:
            if self._configure is not None:
                session.on_restored = lambda: self._configured(member)
                await self._configured(member)
        except BaseException:
            self._ended += 1
            session.terminate()
            raise
        return member

    async def _configured(self, member: Member) -> None:
        """Have a session configured; it is put back to what it is then."""
        assert self._configure is not None
        connection = Connection(member.session, self.row_factory, self._hooks)
        try:
            await self._configure(connection)
        finally:
            connection._closed = True
        member.note_state()

    def _refuse(self, error: Exception) -> None:
        """Tell those who wait that there is no session: one, if others may still come back."""
        some_are_there = bool(self._used or self._idle)
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                told = copy.copy(error)
                told.__cause__ = error.__cause__
                waiter.set_exception(told)
                if some_are_there:
                    return

    # Upkeep.

    def _schedule(self) -> None:
        wait = min(self._max_idle / 4, self._max_lifetime / 4, _LONGEST_TICK)
        wait = max(wait, _SHORTEST_TICK) * random.uniform(1 - _JITTER, 1)
        self._timer = self._loop.call_later(wait, _tick, weakref.ref(self))

    def _look_after(self) -> None:
        """Close what is lost, old, or idle for long; open what is too few; spread the load."""
        now = self._loop.time()
        for member in self._idle[:]:
            idle_for_long = (
                now - member.idle_since >= self._max_idle and self._size > self._min_size
            )
            if member.is_lost or now >= member.expires or idle_for_long:
                self._idle.remove(member)
                self._lost += member.is_lost
                self._end(member)
        while self._size < self._min_size:
            self._grow()
        if len(self._servers) > 1 and not self._moving:
            for member in [*self._idle, *self._used]:
                target = self._servers.lighter_than(member.session.transport.address)
                if target is not None and not member.retired:
                    self._moving = True
                    self._spawn(self._move(member, target))
                    break
        self._schedule()

    async def _move(self, member: Member, target: Address) -> None:
        """Replace a session of a loaded server by one of a server that has fewer."""
        try:
            fresh = await self._new_member(target)
        except Exception as error:
            _logger.debug("%r: %s takes no session: %s", self, target, error)
            return
        finally:
            self._moving = False
        if member in self._idle:
            self._idle.remove(member)
            self._end(member)
        elif member in self._used:
            member.retired = True
        self._admit(fresh)

    def resize(self, *, min_size: int | None = None, max_size: int | None = None) -> None:
        """Change how many sessions there are; those too many are closed when they are returned.

        Raises:
            InterfaceError: A size cannot be one.
        """
        self._min_size, self._max_size = _sizes(
            self._min_size if min_size is None else min_size,
            self._max_size if max_size is None else max_size,
        )
        if self._home is not None and not self._closed:
            self._home.check("the pool")
            while self._size > self._max_size and self._idle:
                self._end(self._idle.pop(0))
            while self._size < self._min_size:
                self._grow()
            self._serve()

    async def drain(self) -> None:
        """Replace all sessions: idle ones now, borrowed ones when they are returned.

        For when credentials have changed, or servers are to be taken out.
        """
        self._check()
        for member in self._used:
            member.retired = True
        idle, self._idle = self._idle, []
        for member in idle:
            self._end(member)
        while self._size < self._min_size:
            self._grow()

    # Inside.

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        assert self._home is not None
        return self._home.loop

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _logger.error("%r: %s", self, error, exc_info=error)

    def _check(self) -> None:
        if self._closed:
            raise InterfaceError("the pool is closed")
        if self._home is None:
            raise InterfaceError("the pool is not open: enter it with async with, or await it")
        self._home.check("the pool")

    # The verbs.

    async def _lent(self, deadline: Deadline) -> PooledConnection[R]:
        return await self._acquire(min(self._acquire_timeout, deadline.remaining))

    async def _with(
        self, deadline: Deadline, use: Callable[[PooledConnection[R]], Awaitable[T]]
    ) -> T:
        connection = await self._lent(deadline)
        try:
            return await use(connection)
        finally:
            connection.release()

    async def _execute(
        self, sql: str, params: Sequence[Any], req_id: int, deadline: Deadline
    ) -> int:
        return await self._with(
            deadline, lambda connection: connection._execute(sql, params, req_id, deadline)
        )

    async def _open(
        self,
        sql: str,
        params: Sequence[Any],
        req_id: int,
        deadline: Deadline,
        row_factory: RowFactory[Any] | None,
    ) -> Result[Any]:
        connection = await self._lent(deadline)
        try:
            result = await connection._open(sql, params, req_id, deadline, row_factory)
        except BaseException:
            connection.release()
            raise
        result._when_over(connection.release)
        return result

    async def _write(
        self,
        sql: str,
        make: Callable[[Shape], Iterable[Binding]],
        req_id: int,
        deadline: Deadline,
    ) -> int:
        return await self._with(
            deadline, lambda connection: connection._write(sql, make, req_id, deadline)
        )

    async def _insert(self, target: Target, data: Data, size: int, timeout: float | None) -> int:
        return await self._with(
            Deadline(self._acquire_timeout),
            lambda connection: connection._insert(target, data, size, timeout),
        )

    async def _write_lines(self, arguments: InsertArgs, deadline: Deadline) -> int:
        return await self._with(
            deadline, lambda connection: connection._write_lines(arguments, deadline)
        )


def _tick(reference: weakref.ref[Pool[Any]]) -> None:
    pool = reference()
    if pool is not None and not pool.closed:
        pool._look_after()


def _sizes(min_size: int, max_size: int) -> tuple[int, int]:
    least, most = whole_number("min_size", min_size), whole_number("max_size", max_size, 1)
    if least > most:
        raise InterfaceError(f"min_size: expected at most max_size, {most}, got {least}")
    return least, most

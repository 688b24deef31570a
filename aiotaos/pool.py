"""A pool of connections."""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypedDict, TypeVar, Unpack, overload

from .binding import Shape
from .care import Care
from .column_verbs import ColumnVerbs
from .connection import CLOSE_TIMEOUT, Connection
from .errors import InterfaceError
from .hooks import Hooks, check_hooks
from .insert import Target
from .member import Callback, Limits, PoolStats, called
from .members import Members
from .options import OptionArguments, Options, seconds
from .pooled import Acquiring, PooledConnection
from .protocol.bind import Binding
from .protocol.block import Row
from .protocol.messages import InsertArgs
from .result import Result
from .row_factories import R, RowFactory, tuple_row
from .session import Session
from .sources import Data
from .transport.base import Deadline
from .transport.retry import Backoff

if TYPE_CHECKING:
    pass

T = TypeVar("T")

_logger = logging.getLogger("aiotaos.pool")


class PoolArguments(TypedDict, total=False):
    """The keyword arguments of :func:`create_pool` that are not options of its connections."""

    min_size: int
    max_size: int
    max_waiting: int | None
    acquire_timeout: float
    max_idle: float
    max_lifetime: float
    check: Callback | None
    configure: Callback | None
    reset: Callback | None
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
    check: Callback | None = None,
    configure: Callback | None = None,
    reset: Callback | None = None,
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


class Pool(ColumnVerbs[R]):
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
        check: Callback | None,
        configure: Callback | None,
        reset: Callback | None,
        hooks: Hooks | None,
    ) -> None:
        for name, function in (("check", check), ("configure", configure), ("reset", reset)):
            if function is not None and not callable(function):
                raise InterfaceError(f"{name}: expected a coroutine function, got {function!r}")
        check_hooks(hooks)
        limits = Limits(min_size, max_size, max_waiting, acquire_timeout, max_idle, max_lifetime)
        care = Care(self._connection, configure, reset, options.connect_timeout)
        self._members = Members(options, limits, care)
        self._check_lent = check
        self._options = options
        self._hooks = hooks
        self.row_factory = row_factory

    def _connection(self, session: Session) -> Connection[R]:
        return Connection(session, self.row_factory, self._hooks)

    def __repr__(self) -> str:
        endpoints = ", ".join(map(self._options.endpoint, self._options.addresses))
        state = "closed" if self.closed else "new" if self._members.home is None else "open"
        return f"<Pool {endpoints} {state}: {self._members!r}>"

    @property
    def closed(self) -> bool:
        """Whether the pool was closed."""
        return self._members.closed

    def get_stats(self) -> PoolStats:
        """What the pool holds, and what it has done."""
        return self._members.stats()

    # Beginning and end.

    async def open(self) -> Self:
        """Open ``min_size`` sessions; ``async with pool`` and ``await pool`` do this too.

        Raises:
            InterfaceError: It was opened before.
            Error: A session could not be opened; the pool is closed.
        """
        if self._members.home is not None or self.closed:
            raise InterfaceError("a pool is opened once")
        await self._members.start()
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
        deadline = Deadline(CLOSE_TIMEOUT if timeout is None else seconds("timeout", timeout))
        home = self._members.home
        if home is None or self.closed:
            self._members.closed = True
            return
        home.check("the pool")
        await self._members.close(deadline)

    def terminate(self) -> None:
        """Drop all sessions at once. May be called again."""
        home = self._members.home
        if home is None or home.is_gone:
            self._members.closed = True
        else:
            self._members.terminate()

    def __del__(self) -> None:
        members = getattr(self, "_members", None)
        if members is None or members.home is None or members.closed or members.home.is_gone:
            return
        warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
        members.home.loop.call_soon_threadsafe(members.terminate)

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
        deadline = Deadline(self._members.limits.acquire_timeout if timeout is None else timeout)
        if self._check_lent is not None:
            return await self._acquire_checked(self._check_lent, deadline)
        return self._lent_out(PooledConnection(self, await self._members.borrow(deadline)))

    def _lent_out(self, connection: PooledConnection[R]) -> PooledConnection[R]:
        self._members.acquired += 1
        return connection

    async def _acquire_checked(self, check: Callback, deadline: Deadline) -> PooledConnection[R]:
        backoff = Backoff(self._options)
        while True:
            connection = PooledConnection(self, await self._members.borrow(deadline))
            try:
                async with asyncio.timeout_at(deadline.when):
                    await called("check", check, connection)
            except InterfaceError:
                connection.terminate()
                raise
            except Exception as error:
                connection.terminate()
                _logger.debug("%r: a session did not pass its check: %s", self, error)
                pause = backoff.next()
                if pause >= deadline.remaining:
                    raise self._members.too_late(deadline, error) from error
                await asyncio.sleep(pause)
            except BaseException:
                connection.release()
                raise
            else:
                return self._lent_out(connection)

    # Upkeep.

    def resize(self, *, min_size: int | None = None, max_size: int | None = None) -> None:
        """Change how many sessions there are; those too many are closed when they are returned.

        Raises:
            InterfaceError: A size cannot be one.
        """
        home = self._members.home
        if home is not None and not self.closed:
            home.check("the pool")
        self._members.resize(min_size, max_size)

    async def drain(self) -> None:
        """Replace all sessions: idle ones now, borrowed ones when they are returned.

        For when credentials have changed, or servers are to be taken out.
        """
        self._check()
        self._members.drain()

    # Inside.

    def _check(self) -> None:
        home = self._members.home
        if self.closed:
            raise InterfaceError("the pool is closed")
        if home is None:
            raise InterfaceError("the pool is not open: enter it with async with, or await it")
        home.check("the pool")

    # The verbs.

    async def _lent(self, deadline: Deadline) -> PooledConnection[R]:
        return await self._acquire(min(self._members.limits.acquire_timeout, deadline.remaining))

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
        connection.lend_to(result)
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
            self._deadline(timeout),
            lambda connection: connection._insert(target, data, size, timeout),
        )

    async def _write_lines(self, arguments: InsertArgs, deadline: Deadline) -> int:
        return await self._with(
            deadline, lambda connection: connection._write_lines(arguments, deadline)
        )

"""Connection: one session with a server, for any number of tasks."""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload
from zoneinfo import ZoneInfo

from .binding import Shape
from .column_verbs import ColumnVerbs
from .cursor import Cursor
from .errors import InterfaceError
from .hooks import Hooks
from .insert import Target, insert
from .official_statement import OfficialStatement
from .options import seconds, timezone_name
from .prepared import Handle
from .protocol.bind import Binding
from .protocol.messages import InsertArgs
from .protocol.rows import RowDecoder
from .result import Result
from .row_factories import R, RowFactory
from .run import Run, attempts_at, execute_bound, write, write_lines
from .session import Session
from .sources import Data
from .statement import Statement
from .transport.base import Deadline, ServerResult, Transport
from .transport.retry import Attempts
from .verbs import check_sql
from .version import __version__

if TYPE_CHECKING:
    from .transport.native.continuous import ContinuousSubscription

S = TypeVar("S")
T = TypeVar("T")

CLOSE_TIMEOUT = 5.0
"""Seconds for saying goodbye."""


class Connection(ColumnVerbs[R]):
    """A session with a server; made by :func:`connect`.

    Any number of tasks may use it at once: statements run concurrently on the server, so one that
    depends on another must wait for it. A call that is cancelled or times out leaves it usable, and
    one that is lost is opened again by its next call. It belongs to the event loop that opened it.

    Attributes:
        row_factory: What rows are.
    """

    def __init__(
        self, session: Session, row_factory: RowFactory[R], hooks: Hooks | None = None
    ) -> None:
        self._session = session
        self._options = session.options
        self._hooks = hooks
        self._home = session.home
        self._closed = False
        self.row_factory = row_factory

    def __repr__(self) -> str:
        database = f"/{self.database}" if self.database else ""
        state = "closed" if self._closed else self._session.state
        return f"<{type(self).__name__} {self.endpoint}{database} {state}>"

    # What it is.

    @property
    def server_version(self) -> str:
        """Version of the server, as ``3.3.7.5``."""
        return self._session.transport.server_version

    @property
    def client_info(self) -> str:
        """Name and version of this client."""
        return f"aiotaos {__version__}"

    @property
    def endpoint(self) -> str:
        """``scheme://host:port`` of the server."""
        return self._session.transport.endpoint

    @property
    def database(self) -> str | None:
        """The current database: of the DSN, of :meth:`select_db`, or of a ``USE``."""
        return self._session.database

    @property
    def timezone(self) -> str | None:
        """Name of the session's time zone; None: the server's."""
        return self._session.options.timezone

    @property
    def closed(self) -> bool:
        """Whether the connection cannot be used any more: it was closed.

        One whose link broke is not: its next call opens it again.
        """
        return self._closed

    # More verbs.

    @overload
    def cursor(self) -> Cursor[R]: ...
    @overload
    def cursor(self, *, row_factory: RowFactory[S]) -> Cursor[S]: ...
    def cursor(self, *, row_factory: RowFactory[Any] | None = None) -> Cursor[Any]:
        """A PEP 249 cursor, with awaits: ``async with conn.cursor() as cur``."""
        self._check()
        return Cursor(self, row_factory or self.row_factory)

    async def prepare(self, sql: str, *, timeout: float | None = None) -> Statement[R]:
        """Prepare an INSERT or a query, to bind rows or parameters to it as often as needed.

        Args:
            sql: One statement with ``?`` for values, and for the name of a table.
            timeout: Seconds; the connection's ``read_timeout`` if not given.

        Raises:
            Error: The server refuses the statement.
        """
        self._check()
        handle = Handle(self._session, check_sql(sql))
        deadline = self._deadline(timeout)
        await self._repeated(lambda _: handle.prepared(deadline), deadline)
        statement = Statement(self, handle, self.row_factory)
        self._hold(statement)
        return statement

    def stmt2_statement(self) -> OfficialStatement[R]:
        """A prepared statement with the official clients' method names."""
        self._check()
        self._check_binds("a prepared statement")
        return OfficialStatement(self)

    def statement(self) -> OfficialStatement[R]:
        """The same as :meth:`stmt2_statement`: the better of the server's interfaces is taken."""
        return self.stmt2_statement()

    async def subscribe(
        self,
        restart: bool,
        topic: str,
        sql: str,
        interval: int,
        *,
        timeout: float | None = None,
    ) -> ContinuousSubscription:
        """The continuous subscription of TDengine 2.x: a SELECT, again and again, for new rows.

        It needs the native road and a libtaos of 2.x, which does the asking, and keeps on this
        machine how far it has come. From 3.0 on there are topics, and :class:`aiotaos.Consumer`.

        Args:
            restart: Begin with what is there, and not where the subscription ended before.
            topic: Its name, under which libtaos keeps how far it has come.
            sql: One SELECT of rows as they are, without aggregates.
            interval: ms between two times that the server is asked, at least 1.
            timeout: Seconds; the connection's ``read_timeout`` if not given.

        Returns:
            The subscription: ``async for block in subscription``, ``consume()``, ``close()``. It
            is the caller's to close, and reads no more once this connection is closed or lost.

        Raises:
            NotSupportedError: The connection is not over a libtaos of 2.x.
            InterfaceError: An argument is malformed.
            TimeoutError: libtaos did not answer in time.
            Error: The server refuses the statement.
        """
        self._check()
        from .transport.native.continuous import subscribe  # ctypes, where it is needed

        session, deadline = self._session, self._deadline(timeout)
        transport = await session.live(deadline)
        return await subscribe(
            transport, session.options, session.tz, restart, topic, sql, interval, deadline
        )

    async def select_db(self, database: str, *, timeout: float | None = None) -> None:
        """Make a database the current one.

        Args:
            database: Its name, taken literally.
            timeout: Seconds; the connection's ``read_timeout`` if not given.

        Raises:
            ProgrammingError: It does not exist.
            InterfaceError: The name is empty or has a back-tick in it.
        """
        if not isinstance(database, str) or not database or "`" in database:
            raise InterfaceError(f"database: expected a name without back-ticks, got {database!r}")
        await self.execute(f"use `{database}`", timeout=timeout)

    async def set_timezone(
        self, name: str | ZoneInfo | None, *, timeout: float | None = None
    ) -> None:
        """Change the time zone of the session: that of times in SQL, and of datetimes.

        Args:
            name: IANA name; None for the server's in SQL and this machine's for datetimes.
            timeout: Seconds; the connection's ``read_timeout`` if not given.

        Raises:
            InterfaceError: There is no such time zone.
            Error: The server refuses it (servers before 3.3.5 do not know how).
        """
        self._check()
        checked = None if name is None else timezone_name("name", name)
        await self._session.set_timezone(checked, self._deadline(timeout))

    # The end.

    async def close(self, *, timeout: float | None = None) -> None:
        """Close the connection; calls that are running fail. May be called again.

        Args:
            timeout: Seconds for saying goodbye, 5 if not given; after them the link is dropped.
        """
        if self._closed:
            return
        limit = CLOSE_TIMEOUT if timeout is None else seconds("timeout", timeout)
        self._home.check(self._name)
        self._closed = True
        self._leave()
        await self._session.close(limit)

    def terminate(self) -> None:
        """Drop the connection at once, without waiting. May be called again."""
        is_first, self._closed = not self._closed, True
        if self._home.is_gone:
            return
        if is_first:
            self._leave()
        self._session.terminate()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        if getattr(self, "_closed", True) or self._home.is_gone:
            return
        warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
        self._home.loop.call_soon_threadsafe(self._session.terminate)

    # Inside.

    def _leave(self) -> None:
        """The session is about to end."""

    @property
    def _name(self) -> str:
        return f"the connection to {self.endpoint}"

    def _check(self) -> None:
        if self._closed:
            raise InterfaceError(f"{self._name} is closed")
        self._home.check("the connection")

    async def _execute(
        self, sql: str, params: Sequence[Any], req_id: int, deadline: Deadline
    ) -> int:
        self._check()
        result = await Run(
            self._session, self._hooks, sql, params, req_id, deadline, self._check
        ).start()
        result.transport.free(result)
        return result.affected_rows

    async def _open(
        self,
        sql: str,
        params: Sequence[Any],
        req_id: int,
        deadline: Deadline,
        row_factory: RowFactory[Any] | None,
    ) -> Result[Any]:
        self._check()
        run = Run(self._session, self._hooks, sql, params, req_id, deadline, self._check)
        return self._result(await run.start(), run, row_factory)

    async def _open_prepared(
        self,
        handle: Handle,
        params: Sequence[Any],
        req_id: int,
        deadline: Deadline,
        row_factory: RowFactory[S],
    ) -> Result[S]:
        """Run a prepared query."""
        run = Run(
            self._session, self._hooks, handle.sql, params, req_id, deadline, self._check, handle
        )
        return self._result(await run.start(), run, row_factory)

    async def _execute_bound(self, handle: Handle, req_id: int, deadline: Deadline) -> int:
        """Write what is bound to a prepared INSERT; it is bound once, so it is not repeated."""
        return await execute_bound(self._session, self._hooks, handle, req_id, deadline)

    async def _repeated(
        self, operation: Callable[[Transport], Awaitable[T]], deadline: Deadline
    ) -> T:
        """Do something that has no effect until it is executed."""
        attempts = attempts_at(self._session, deadline, self._check, safe=True)
        return await self._session.run(operation, attempts)

    def _result(
        self, result: ServerResult, run: Run, row_factory: RowFactory[Any] | None
    ) -> Result[Any]:
        if self._closed:  # meanwhile
            result.transport.free(result)
            self._check()
        decoder = RowDecoder(
            result.fields, result.precision, self._session.tz, self._options.timestamp
        )
        made = Result(
            result, run, decoder, row_factory or self.row_factory, self._options.read_timeout
        )
        self._hold(made)
        return made

    def _hold(self, held: Result[Any] | Statement[Any]) -> None:
        """Take note of what ends with the connection; a session that is closed ends it anyway."""

    async def _write(
        self,
        sql: str,
        make: Callable[[Shape], Iterable[Binding]],
        req_id: int,
        deadline: Deadline,
        turn: Callable[[], Awaitable[None]] | None = None,
        *,
        in_thread: bool = False,
    ) -> int:
        self._check()
        return await write(
            self._session,
            self._hooks,
            sql,
            make,
            req_id,
            self._writing(deadline),
            turn,
            in_thread=in_thread,
        )

    def _writing(self, deadline: Deadline) -> Attempts:
        safe = self._options.retry_writes
        return attempts_at(self._session, deadline, self._check, safe=safe)

    async def _insert(self, target: Target, data: Data, size: int, timeout: float | None) -> int:
        return await insert(self, target, data, size, timeout)

    async def _write_lines(self, arguments: InsertArgs, deadline: Deadline) -> int:
        return await write_lines(self._session, self._hooks, arguments, self._writing(deadline))

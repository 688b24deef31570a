"""A session that survives: the transport of the moment, and what it takes to have another."""

from __future__ import annotations

import asyncio
import builtins
import dataclasses
import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from datetime import tzinfo
from typing import TYPE_CHECKING, TypeVar

from .errors import (
    ConnectionError,
    Error,
    InterfaceError,
    NotSupportedError,
    ProgrammingError,
    TimeoutError,
    copied,
)
from .home import Home
from .kill import Killer
from .options import Address, Options, Road
from .prepared import StatementCache
from .transport.base import RUNS_LONG, Deadline, ServerResult, Transport, next_req_id
from .transport.dial import open_session
from .transport.retry import SESSION_GONE, Attempts, Backoff
from .transport.servers import Servers

if TYPE_CHECKING:
    from .embedded.shared import Hold

T = TypeVar("T")

_NO_DATABASE = frozenset({0x0383, 0x0388})
_restoring: ContextVar[object] = ContextVar("aiotaos_restoring", default=None)
_logger = logging.getLogger("aiotaos.session")


class _Lateness:
    """Requests that were given up, and may still come to run."""

    def __init__(self) -> None:
        self._still_running: list[Callable[[], bool]] = []

    def __bool__(self) -> bool:
        self._still_running = [call for call in self._still_running if call()]
        return bool(self._still_running)

    def add(self, transport: Transport, req_id: int) -> None:
        """One more, if it was not answered."""
        self._still_running.append(transport.still_running(req_id))

    def clear(self) -> None:
        """There are none: the session that they were sent on is gone."""
        self._still_running.clear()


class Session:
    """A session with one of several servers, opened again when it is lost.

    Args:
        options: How to open it.
        servers: Where.
        transport: The session as it stands now.
        hold: Its hold on an embedded server.
        killer: Who stops its queries; one of its own if not given.

    Attributes:
        home: The event loop and the process that it belongs to.
        options: How to open it; with the present time zone.
        transport: The session as it stands now; it may be lost.
        prepared: The INSERTs that are kept prepared.
        database: The current database, as far as known.
        database_is_sure: False when a USE was given up before its answer came.
        timezone_is_sure: False when a change of the time zone was.
        losses: How often it was lost and opened again.
        on_restored: Awaited each time the session was opened again, before other calls go on.
    """

    def __init__(
        self,
        options: Options,
        servers: Servers,
        transport: Transport,
        hold: Hold | None = None,
        killer: Killer | None = None,
    ) -> None:
        self.home = Home()
        self.options = options
        self._servers = servers
        self._hold = hold
        self.transport = transport
        self.prepared = StatementCache(self)
        self.database = options.database
        self.database_is_sure = self.timezone_is_sure = True
        self.tz: tzinfo = options.tz
        self.on_restored: Callable[[], Awaitable[None]] | None = None
        self._task: asyncio.Task[None] | None = None
        self._killer = killer or Killer(options, servers)
        self._owns_killer = killer is None
        self._zone_lock = asyncio.Lock()
        self._zone_is_changing = False
        self._uses = 0  # that run
        self._lateness = _Lateness()
        self._zone_lateness = _Lateness()
        self.losses = 0
        self._closed = False

    @classmethod
    async def open(
        cls,
        options: Options,
        servers: Servers,
        killer: Killer | None = None,
        only: Address | None = None,
    ) -> Session:
        """Open a session; arguments and errors as :func:`~aiotaos.transport.dial.open_session`."""
        if options.road is not Road.EMBEDDED:
            return cls(options, servers, await open_session(options, servers, only), killer=killer)
        from .embedded.shared import open_embedded

        transport, target, hold = await open_embedded(options)
        return cls(target, Servers(target.addresses), transport, hold)

    def __repr__(self) -> str:
        return f"<Session {self.transport.endpoint} {self.state}>"

    @property
    def closed(self) -> bool:
        """Whether it was closed by this side."""
        return self._closed

    @property
    def state(self) -> str:
        """``open``, ``lost``, ``reconnecting`` or ``closed``."""
        if self._closed:
            return "closed"
        if self._task is not None:
            return "reconnecting"
        return "lost" if self.transport.closed else "open"

    async def run(self, operation: Callable[[Transport], Awaitable[T]], attempts: Attempts) -> T:
        """Run something on the session, and again where that is safe and may help.

        Raises:
            Error: That of the last attempt.
        """
        while True:
            transport = self.transport
            try:
                if transport.closed or self._task is not None or not self.timezone_is_sure:
                    transport = await self.live(attempts.deadline)
                return await operation(transport)
            except Error as error:
                if error.code in SESSION_GONE:
                    transport.drop(error)
                await attempts.pause(error)
                _logger.debug("%r: attempt %d after: %s", self, attempts.count, error)

    async def live(self, deadline: Deadline) -> Transport:
        """The session's transport, opened again if it was lost.

        Raises:
            ConnectionError: No server could be reached.
            TimeoutError: Not within the deadline.
            InterfaceError: The session was closed.
        """
        if self._task is not None and _restoring.get() is self._task:  # on_restored itself
            if self.transport.closed:
                raise ConnectionError(
                    "the connection was lost again while it was restored",
                    endpoint=self.transport.endpoint,
                )
            return self.transport
        backoff, losses = Backoff(self.options), 0
        while not self._closed and (self.transport.closed or self._task is not None):
            if losses > self.options.conn_retries:
                raise ConnectionError(
                    f"the connection was lost {losses} times as soon as it was opened",
                    endpoint=self.transport.endpoint,
                    may_have_run=False,
                )
            if losses:
                await asyncio.sleep(min(backoff.next(), deadline.remaining))
            losses += 1
            await self._reopened(deadline)
        if self._closed:
            raise InterfaceError(
                "the connection was closed during the call", endpoint=self.transport.endpoint
            )
        if not self.timezone_is_sure and not self._zone_is_changing:
            await self._settle_timezone(deadline)
        return self.transport

    async def _reopened(self, deadline: Deadline) -> None:
        """Wait for the session to be opened again."""
        if self._task is None and self.transport.closed:
            self._task = asyncio.create_task(self._restore(), name=f"{self!r}: reconnect")
            self._task.add_done_callback(self._restored)
        task = self._task
        if task is None:
            return
        limit = None if deadline.when is None else deadline.remaining
        await asyncio.wait([task], timeout=limit)
        if not task.done():
            late = TimeoutError(
                f"the connection was lost, and there was none again within {deadline.seconds:g} s"
                + self._servers.reason(),
                endpoint=self.transport.endpoint,
                may_have_run=False,
            )
            late.__cause__ = self._servers.failure
            raise late
        if not task.cancelled() and (error := task.exception()) is not None:
            if isinstance(error, ConnectionError) and error.may_have_run is None:
                error.may_have_run = False
            raise copied(error) if isinstance(error, Exception) else error

    async def _settle_timezone(self, deadline: Deadline) -> None:
        """Have the server take the time zone that this side believes in."""
        async with self._zone_lock:
            if not self.timezone_is_sure:
                await self._tell_timezone(self.transport, self.options.timezone, deadline)

    async def _tell_timezone(
        self, transport: Transport, name: str | None, deadline: Deadline
    ) -> None:
        req_id = next_req_id()
        self.timezone_is_sure = False  # until the server has said so
        try:
            await transport.set_timezone(name, req_id, deadline)
        except BaseException as error:
            self._zone_lateness.add(transport, req_id)
            if not isinstance(error, Error):
                raise
            if error.code is None and not isinstance(error, NotSupportedError):
                raise
            self.timezone_is_sure = not self._zone_lateness  # it was refused
            raise
        self.timezone_is_sure = not self._zone_lateness

    def _restored(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled():
            task.exception()  # whoever waits has it; nobody need wait

    async def _restore(self) -> None:
        _restoring.set(asyncio.current_task())
        lost = self.transport.endpoint
        options = dataclasses.replace(self.options, database=self.database)
        try:
            transport = await open_session(options, self._servers)
        except ProgrammingError as error:
            if error.code not in _NO_DATABASE or self.database is None:
                raise
            _logger.warning("%s: the database %r is gone: %s", lost, self.database, error)
            options = dataclasses.replace(options, database=None)
            transport = await open_session(options, self._servers)
        self.transport = transport
        self.losses += 1
        self.database = options.database
        self.database_is_sure = self.timezone_is_sure = True
        self._lateness.clear()
        self._zone_lateness.clear()
        self.prepared.clear()
        _logger.info("%s was lost, reconnected to %s", lost, transport.endpoint)
        if self.on_restored is not None:
            limit = asyncio.timeout(self.options.connect_timeout)
            try:
                async with limit:
                    await self.on_restored()
            except BaseException as error:
                transport.terminate()
                if isinstance(error, builtins.TimeoutError) and limit.expired():
                    raise TimeoutError(
                        f"on_reconnect did not end within {self.options.connect_timeout:g} s",
                        endpoint=transport.endpoint,
                    ) from None
                raise

    # State.

    @property
    def state_of_names(self) -> tuple[str | None, str | None]:
        """What statements depend on: the database and the time zone."""
        return self.database, self.options.timezone

    async def use(
        self, transport: Transport, sql: str, req_id: int, deadline: Deadline
    ) -> ServerResult:
        """Run a USE."""
        self.prepared.clear()
        self.database_is_sure = False  # until the server has said so
        self._uses += 1
        try:
            result = await transport.query(sql, req_id, deadline)
        except BaseException:
            self._lateness.add(transport, req_id)
            raise
        finally:
            self._uses -= 1
        await self.ask_database(transport, deadline)
        return result

    async def ask_database(self, transport: Transport, deadline: Deadline) -> None:
        """Learn the current database from the server; it is sure if no USE is on its way."""
        self.database = await transport.current_database(deadline)
        self.database_is_sure = not self._uses and not self._lateness

    async def set_timezone(self, name: str | None, deadline: Deadline) -> None:
        """Change the time zone, on both sides."""
        options = dataclasses.replace(self.options, timezone=name)

        async def change(transport: Transport) -> None:
            async with self._zone_lock:
                self._zone_is_changing = True
                try:
                    await self._tell_timezone(transport, name, deadline)
                finally:
                    self._zone_is_changing = False

        attempts = Attempts(self.options, deadline, safe=True)
        await self.run(change, attempts)
        self.options, self.tz = options, options.tz
        self.prepared.clear()

    @property
    def is_sure(self) -> bool:
        """Whether database and time zone are what they seem."""
        return self.database_is_sure and self.timezone_is_sure

    # Stopping.

    def stop(self, req_id: int, seconds: float, is_running: Callable[[], bool]) -> None:
        """Stop a query on the server that was given up after ``seconds``, if the options say so."""
        mode = self.options.cancel
        if mode == "kill" or (mode == "auto" and seconds >= RUNS_LONG):
            self._killer.stop(req_id, is_running)

    # The end.

    async def close(self, timeout: float) -> None:
        """End in an orderly manner, within ``timeout`` seconds."""
        self._closed = True
        try:
            if self._owns_killer:
                await self._killer.close()
        finally:
            task = self._task
            if task is not None:
                task.cancel()
            try:
                await self.transport.close(timeout)
                if task is not None:
                    await asyncio.wait([task], timeout=timeout)
            finally:
                if self._hold is not None:
                    await self._hold.release()

    def terminate(self) -> None:
        """End at once."""
        self._closed = True
        if self._owns_killer:
            self._killer.terminate()
        if self._task is not None:
            self._task.cancel()
        self.transport.terminate()
        if self._hold is not None:
            self._hold.release_soon()

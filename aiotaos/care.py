"""What a pool does with a session that nobody has borrowed: configure it, put its state back."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Callable
from functools import partial
from typing import Any

from .connection import Connection
from .errors import InterfaceError, TimeoutError
from .member import Callback, Member, called
from .row_factories import tuple_row
from .session import Session


class Care:
    """Configures sessions, and puts back what their borrowers have changed.

    Args:
        connect: Makes a connection of a session, for the callbacks.
        configure: Called with each new session, and with each that was opened again.
        reset: Called with each that was given back.
        limit: Seconds that a callback may take, and putting back.
    """

    def __init__(
        self,
        connect: Callable[[Session], Connection[Any]],
        configure: Callback | None,
        reset: Callback | None,
        limit: float,
    ) -> None:
        self._connect = connect
        self._configure, self._reset = configure, reset
        self._limit = limit

    async def prepare(self, member: Member) -> None:
        """Configure a new session; what it is then is what it is put back to."""
        if self._configure is not None:
            session = member.session
            await self._call("configure", self._configure, session)
            member.note_state()
            session.on_restored = partial(self._configure_again, self._configure, session)

    async def _configure_again(self, configure: Callback, session: Session) -> None:
        """Configure a session that was opened again, and leave it as its borrower had it."""
        database, timezone = session.database, session.options.timezone
        await self._call("configure", configure, session)
        await self._set_state(session, database, timezone)

    def is_needed(self, member: Member) -> bool:
        """Whether something is to be done with a session that was given back."""
        return member.is_changed or self._reset is not None

    async def put_back(self, member: Member) -> None:
        """Put the state of a session back."""
        async with asyncio.timeout(self._limit):
            await self._set_state(member.session, member.database, member.timezone)
        if self._reset is not None:
            await self._call("reset", self._reset, member.session)

    async def _set_state(
        self, session: Session, database: str | None, timezone: str | None
    ) -> None:
        """Give a session a database, if there is to be one, and a time zone."""
        connection = Connection(session, tuple_row)  # without hooks: nobody asked for this
        try:
            if session.database != database and database is not None:
                await connection.select_db(database)
                session.database = database
            if session.options.timezone != timezone:
                await connection.set_timezone(timezone)
        finally:
            connection._closed = True

    async def _call(self, name: str, callback: Callback, session: Session) -> None:
        connection = self._connect(session)
        limit = asyncio.timeout(self._limit)
        try:
            async with limit:
                await called(name, callback, connection)
        except builtins.TimeoutError:
            if not limit.expired():
                raise
            raise TimeoutError(f"{name} did not end within {self._limit:g} s") from None
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise InterfaceError(f"{name} was cancelled by itself") from error
        finally:
            connection._closed = True
        if session.closed:
            raise InterfaceError(f"{name} has closed the connection")

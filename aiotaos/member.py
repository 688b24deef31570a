"""One session of a pool; how many there may be, and what is called with them."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from .connection import Connection
from .errors import InterfaceError
from .options import Address, seconds, whole_number
from .session import Session

Callback: TypeAlias = Callable[[Connection[Any]], Awaitable[object]]


class Member:
    """A session of a pool.

    Attributes:
        session: The session.
        expires: When it is to be replaced, on the loop's clock.
        idle_since: When it was put back, on the loop's clock.
        database: The database that it is put back to.
        timezone: The time zone that it is put back to.
        losses: How often it had been lost when that was last counted.
        retired: Whether it is closed instead of being put back.
        taken_at: Where it was borrowed, if asyncio's debug mode is on.
    """

    __slots__ = (
        "database", "expires", "idle_since", "losses", "retired", "session", "taken_at", "timezone",
    )  # fmt: skip

    def __init__(self, session: Session, expires: float) -> None:
        self.session = session
        self.expires = expires
        self.idle_since = 0.0
        self.losses = 0
        self.retired = False
        self.taken_at: str | None = None
        self.note_state()

    def note_state(self) -> None:
        """What the session is now is what it is put back to."""
        self.database = self.session.database
        self.timezone = self.session.options.timezone

    @property
    def address(self) -> Address:
        """Its server."""
        return self.session.transport.address

    @property
    def is_lost(self) -> bool:
        """Whether its link is broken."""
        return self.session.transport.closed

    @property
    def is_changed(self) -> bool:
        """Whether a borrower has left another database or time zone."""
        session = self.session
        return (
            session.database != self.database
            or session.options.timezone != self.timezone
            or not session.is_sure
        )


class Limits:
    """How many sessions, and for how long; attributes are those of :func:`create_pool`.

    Raises:
        InterfaceError: A value cannot be what it is.
    """

    def __init__(
        self,
        min_size: int,
        max_size: int,
        max_waiting: int | None,
        acquire_timeout: float,
        max_idle: float,
        max_lifetime: float,
    ) -> None:
        self.resize(min_size, max_size)
        self.max_waiting = None if max_waiting is None else whole_number("max_waiting", max_waiting)
        self.acquire_timeout = seconds("acquire_timeout", acquire_timeout)
        self.max_idle = seconds("max_idle", max_idle)
        self.max_lifetime = seconds("max_lifetime", max_lifetime)

    def resize(self, min_size: int, max_size: int) -> None:
        """Change the sizes."""
        least = whole_number("min_size", min_size)
        most = whole_number("max_size", max_size, 1)
        if least > most:
            raise InterfaceError(f"min_size: expected at most max_size, {most}, got {least}")
        self.min_size, self.max_size = least, most


@dataclass(frozen=True, slots=True)
class PoolStats:
    """What a pool holds, and what it has done.

    Attributes:
        min_size: Sessions that it keeps.
        max_size: Sessions that it may have.
        size: Sessions that it has, those that are being opened included.
        idle: Sessions that wait to be used.
        used: Sessions that are borrowed, or being put back.
        opening: Sessions that are being opened.
        waiting: Tasks that wait for a connection.
        acquired: Connections lent so far.
        wait_time: Seconds that tasks have waited for them, in sum.
        opened: Sessions opened so far.
        closed: Sessions closed so far, for whatever reason.
        lost: Sessions that broke; opened again in place, or replaced.
        errors: Attempts to open a session that failed.
    """

    min_size: int
    max_size: int
    size: int
    idle: int
    used: int
    opening: int
    waiting: int
    acquired: int
    wait_time: float
    opened: int
    closed: int
    lost: int
    errors: int


async def called(name: str, callback: Callback, connection: Connection[Any]) -> None:
    """Call a function of the user's.

    Raises:
        InterfaceError: It is not a coroutine function.
    """
    answer = callback(connection)
    if not inspect.isawaitable(answer):
        raise InterfaceError(f"{name}: expected a coroutine function, got {callback!r}")
    await answer

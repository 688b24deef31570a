"""What a pool lends: connections that go back to it."""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
import warnings
from collections.abc import Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic
from weakref import WeakSet

from .connection import Connection
from .errors import InterfaceError
from .member import Member
from .result import Result
from .row_factories import R
from .statement import Statement

if TYPE_CHECKING:
    from .pool import Pool

_LINES = 3  # that tell where a connection was taken
_OWN = (os.path.dirname(__file__), os.path.dirname(asyncio.__file__))


class PooledConnection(Connection[R]):
    """A connection that was borrowed from a pool; :meth:`close` ends its session for good."""

    def __init__(self, pool: Pool[R], member: Member) -> None:
        super().__init__(member.session, pool.row_factory, pool._hooks)
        self._pool = pool
        self._member = member
        self._released = False
        self._is_lent_to_result = False
        self._held: WeakSet[Result[Any] | Statement[Any]] = WeakSet()
        if self._home.loop.get_debug():
            member.taken_at = _where()

    def __repr__(self) -> str:
        if self._released:
            return f"<PooledConnection {self.endpoint} released>"
        return super().__repr__()

    def release(self) -> None:
        """Give it back to the pool; its unread results and its statements end. May be repeated."""
        if not self._closed:
            self._home.check("the connection")
            self._closed = self._released = True
            self._let_go()
            self._pool._members.put_back(self._member)

    def terminate(self) -> None:
        """Drop its session at once, unless it was given back. May be called again."""
        if not self._released:
            super().terminate()

    def _leave(self) -> None:
        self._let_go()
        self._pool._members.forget(self._member)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def __del__(self) -> None:
        if getattr(self, "_closed", True) or not hasattr(self, "_member") or self._home.is_gone:
            return
        members, loop = self._pool._members, self._home.loop
        if self._is_lent_to_result:  # which is gone as well
            loop.call_soon_threadsafe(members.put_back, self._member)
            return
        place = self._member.taken_at
        where = f"taken at: {place}" if place else "PYTHONASYNCIODEBUG=1 tells where it was taken"
        try:
            warnings.warn(
                f"{self!r} was never returned to its pool; {where}",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )
        finally:
            loop.call_soon_threadsafe(members.drop, self._member)

    def lend_to(self, result: Result[Any]) -> None:
        """Give it back when the result is over."""
        self._is_lent_to_result = True
        result._when_over(self.release)

    def _check(self) -> None:
        if self._released:
            raise InterfaceError("the connection was released to its pool; acquire another")
        super()._check()

    def _hold(self, held: Result[Any] | Statement[Any]) -> None:
        self._held.add(held)

    def _let_go(self) -> None:
        for held in list(self._held):
            held._give_up()


class Acquiring(Generic[R]):
    """What :meth:`Pool.acquire` returns: await it, or enter it with ``async with``."""

    __slots__ = ("_connection", "_pool", "_timeout")

    def __init__(self, pool: Pool[R], timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout
        self._connection: PooledConnection[R] | None = None

    def __await__(self) -> Generator[Any, None, PooledConnection[R]]:
        return self._pool._acquire(self._timeout).__await__()

    async def __aenter__(self) -> PooledConnection[R]:
        self._connection = connection = await self._pool._acquire(self._timeout)
        return connection

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._connection is not None:
            self._connection.release()


def _where() -> str:
    """The lines that are executed, innermost first; those of this package and asyncio left out."""
    lines = []
    for frame, line in traceback.walk_stack(sys._getframe(1)):
        code = frame.f_code
        if not code.co_filename.startswith(_OWN):
            lines.append(f"{code.co_filename}:{line} in {code.co_name}")
    return ", ".join(lines[:_LINES])

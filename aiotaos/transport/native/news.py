"""What libtaos tells of the user of a connection: that it was dropped.

The heartbeat of libtaos learns of it, within some seconds, and calls back on a thread of its own.
What the dropped user may still do over the connection then is a matter of chance: libtaos 3.3.7
answers ``select 1`` and refuses to read tables. As over WebSocket, where taosAdapter does so, the
session ends.

As with other callbacks, user data is a number in a table.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import weakref
from typing import Protocol

from ...errors import AuthenticationError
from ...home import after_fork
from .structs import TAOS_NOTIFY_FN, NotifyType
from .taosc import Taosc

_INVALID_USER = 0x0351


class Told(Protocol):
    """A session that can be told."""

    @property
    def endpoint(self) -> str: ...
    def drop(self, reason: Exception) -> None: ...


_numbers = itertools.count(1)
_watched: dict[int, tuple[asyncio.AbstractEventLoop, weakref.ref[Told]]] = {}


def watch(taosc: Taosc, connection: int, session: Told) -> int:
    """Have a session dropped when its user is; does nothing where the library cannot tell.

    To be called on the session's loop.

    Returns:
        What :func:`forget` takes; the session need not be kept for it.
    """
    number = next(_numbers)
    if taosc.has("taos_set_notify_cb"):
        _watched[number] = asyncio.get_running_loop(), weakref.ref(session)
        if taosc.taos_set_notify_cb(connection, _CALLBACK, number, NotifyType.USER_DROPPED):
            forget(number)
    return number


def forget(number: int) -> None:
    """The session has ended."""
    _watched.pop(number, None)


def _notified(number: int | None, ext: int | None, type: int) -> None:
    """The callback of all connections; nothing may be raised out of it."""
    watched = _watched.pop(number or 0, None)
    if watched is not None:
        loop, session = watched
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(_tell, session)


def _tell(told: weakref.ref[Told]) -> None:
    session = told()
    if session is not None:
        session.drop(
            AuthenticationError(
                "the user was dropped", code=_INVALID_USER, endpoint=session.endpoint
            )
        )


_CALLBACK = TAOS_NOTIFY_FN(_notified)
after_fork(_watched.clear)

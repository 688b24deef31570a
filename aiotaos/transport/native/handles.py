"""Handles of libtaos that several threads use, each destroyed once."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ...home import after_fork

# For the counts alone: nothing of libtaos is called under it. Objects may be dropped, and their
# handles closed, by the thread that has it.
_lock = threading.RLock()
_process = 0


class Handle:
    """An object of libtaos, destroyed when the last who uses it lets go.

    Its owner is the first, and lets go with :meth:`close`. In a process that was forked off nothing
    is destroyed: there it is the parent's.

    Args:
        address: Its address.
        destroy: Called once with the address, on the thread of who lets go last.

    Attributes:
        address: Its address; only to be used by its owner, and between :meth:`hold` and
            :meth:`release`.
    """

    __slots__ = ("_destroy", "_is_closed", "_process", "_users", "address")

    def __init__(self, address: int, destroy: Callable[[int], object]) -> None:
        self.address = address
        self._destroy = destroy
        self._users = 1
        self._is_closed = False
        self._process = _process

    @property
    def closed(self) -> bool:
        """Whether its owner has let go."""
        return self._is_closed

    def hold(self) -> bool:
        """Use it until :meth:`release`; False if its owner has let go."""
        with _lock:
            if self._is_closed or self._process != _process:
                return False
            self._users += 1
        return True

    def release(self) -> None:
        """The counterpart of :meth:`hold`."""
        with _lock:
            self._users -= 1
            is_last = not self._users and self._process == _process
        if is_last:
            self._destroy(self.address)

    def close(self) -> None:
        """Let go as its owner. May be called again."""
        with _lock:
            if self._is_closed:
                return
            self._is_closed = True
        self.release()


def _forked() -> None:
    global _lock, _process
    _lock = threading.RLock()  # a thread of the parent may have held it
    _process += 1


after_fork(_forked)

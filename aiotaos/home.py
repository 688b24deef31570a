"""Where something belongs: an event loop and a process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from .errors import InterfaceError


def after_fork(call: Callable[[], None]) -> None:
    """Have something called in each process that is forked off, where there are such."""
    if hasattr(os, "register_at_fork"):  # not on Windows
        os.register_at_fork(after_in_child=call)


class Home:
    """The event loop and the process that made something; it cannot be used elsewhere.

    Attributes:
        loop: The event loop.
    """

    __slots__ = ("_pid", "loop")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._pid = os.getpid()

    def check(self, what: str) -> None:
        """Check that this is the place.

        Raises:
            InterfaceError: It is another event loop, or a process that was forked off.
        """
        try:
            if asyncio.get_running_loop() is self.loop:
                return
        except RuntimeError:
            pass
        if self.is_forked:
            raise InterfaceError(f"{what} was opened before a fork; open another in this process")
        raise InterfaceError(f"{what} belongs to another event loop; open one in this loop")

    @property
    def is_forked(self) -> bool:
        """Whether this is another process."""
        return os.getpid() != self._pid

    @property
    def is_gone(self) -> bool:
        """Whether there is no such place any more: the loop is closed, or this is a fork."""
        return self.loop.is_closed() or self.is_forked

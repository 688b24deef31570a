"""Callbacks of libtaos that need no Python: they count up an eventfd, which the loop waits for.

A callback into Python needs the GIL on a thread of libtaos, and a thread state made for this one
call; small queries spend most of their time on that. So where it can be had, libtaos is given a
function of the C library instead of one of Python's: ``eventfd_write(int fd, uint64_t value)``
takes the first two arguments of ``fp(void *param, TAOS_RES *res, int code)``, of which ``param`` is
the number of an eventfd, so that the address of the result is what can be read there. The third
argument stays in its register (this holds for the calling conventions of 64-bit Linux); what it
says, the result is asked for. libtaos' own functions that wait do no more in their callbacks than
this (``syncQueryFn`` and ``syncFetchFn`` in ``clientImpl.c`` of TDengine 3.3.7).

A callback without a result leaves nothing there: it is not to be used where one may come.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import select
import sys
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from ...errors import Error
from .structs import TAOS_ASYNC_FN

if TYPE_CHECKING:
    from .prototypes import Callback

SLOTS = 128
"""How many calls of a loop can be under way by signals, each with a file descriptor; 0: none."""


class Signalled(Protocol):
    """A call whose callback leaves the address of a result."""

    def arrive(self, result: int) -> None:
        """Take what has come, and deliver it; on the loop."""

    def arrive_late(self, result: int) -> None:
        """Free what has come; on any thread, there is no loop any more."""


class NotBegun(Exception):
    """libtaos has refused to begin something, so that there will be no callback."""


NOT_BEGUN = (ctypes.ArgumentError, Error, NotBegun)
"""What is raised where a call was not begun. After anything else, as that of a signal handler that
runs when the function has returned, its callback may come, and needs what it was given."""


def _counting() -> Callback | None:
    """``eventfd_write`` as a callback of libtaos, None where it cannot be one."""
    if sys.platform != "linux" or not hasattr(os, "eventfd"):
        return None
    if ctypes.sizeof(ctypes.c_void_p) != ctypes.sizeof(ctypes.c_uint64):
        return None
    try:
        function = ctypes.CDLL(None).eventfd_write
    except (AttributeError, OSError):
        return None
    return ctypes.cast(function, TAOS_ASYNC_FN)


COUNTING = _counting()


class Signals:
    """The calls of a loop that are under way by signals.

    Used on the thread of its loop alone, but for :attr:`unanswered`.

    Args:
        loop: The loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: dict[int, Signalled] = {}
        self._free: list[int] = []
        self._depth = 0  # of what is being delivered
        self._has_ended = False
        self._epoll = select.epoll()
        # One descriptor for all: the loop has nothing to do for a slot that comes and goes.
        loop.add_reader(self._epoll.fileno(), self._ready)

    @property
    def unanswered(self) -> int:
        """How many callbacks have not come; may be asked for on any thread."""
        return len(self._calls) - len(self._epoll.poll(0)) if self._calls else 0

    def begin(self, call: Signalled, start: Callable[[Callback, int], object]) -> bool:
        """Start a call, whose callback may come within; False if there is no room for it.

        ``start`` is as that of :meth:`.bridge.Bridge.begin`.
        """
        if self._has_ended:
            return False
        if self._free:
            slot = self._free.pop()
        elif len(self._calls) < SLOTS:
            try:
                slot = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            except OSError:  # there are no more descriptors
                return False
            self._epoll.register(slot, select.EPOLLIN)
        else:
            return False
        self._calls[slot] = call
        assert COUNTING is not None
        try:
            start(COUNTING, slot)
        except NOT_BEGUN:
            del self._calls[slot]
            self._free.append(slot)
            raise
        self._deliver((slot,))
        return True

    def _ready(self) -> None:
        self._deliver([slot for slot, _ in self._epoll.poll(0)])

    def _deliver(self, slots: Iterable[int]) -> None:
        self._depth += 1
        try:
            for slot in slots:
                # What is delivered may end the last session of the loop, and so this.
                if not self._has_ended and (answer := self._take(slot)) is not None:
                    call, result = answer
                    call.arrive(result)
        finally:
            self._depth -= 1
            if self._has_ended and not self._depth:
                self._finish()

    def _take(self, slot: int) -> tuple[Signalled, int] | None:
        try:
            result = os.eventfd_read(slot)
        except BlockingIOError:
            return None
        call = self._calls.pop(slot)
        self._free.append(slot)
        return call, result

    def end(self) -> None:
        """The loop needs it no more, or has ended; callbacks that are still to come are awaited."""
        if self._has_ended:
            return
        self._has_ended = True
        if not self._loop.is_closed():
            self._loop.remove_reader(self._epoll.fileno())
        if not self._depth:
            self._finish()

    def disarm(self) -> None:
        """In a process that was forked off: what comes is the parent's."""
        self._has_ended = True
        self._depth = 1  # never to be finished
        self._calls.clear()

    def _finish(self) -> None:
        if self._calls:
            threading.Thread(target=self._outlive, name="aiotaos-native-late", daemon=True).start()
        else:
            self._close()

    def _outlive(self) -> None:
        # Until then the descriptors must not be closed: others would get their numbers.
        while self._calls:
            for slot, _ in self._epoll.poll():
                if (answer := self._take(slot)) is not None:
                    call, result = answer
                    call.arrive_late(result)
        self._close()

    def _close(self) -> None:
        self._epoll.close()
        for slot in self._free:
            os.close(slot)

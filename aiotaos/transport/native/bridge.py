"""From the threads of libtaos to event loops.

libtaos calls back on threads of its own, or on the calling thread before the call returns (seen
with 3.3.7.5). All calls go with one C callback, which lives as long as the process; what it is
called for stands in a table, under a number that is the call's user data. On the foreign thread a
call copies what libtaos does not keep, and is put into the loop's mailbox, which wakes the loop
once for all that has come meanwhile. Where they can be had, signals are used instead (see
:mod:`.signals`): with them all of it happens on the loop.

No callback may come while the interpreter ends: a foreign thread that wants the GIL then is
killed, or crashes. So before that, what still runs is stopped, and its callbacks are awaited.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from ...errors import InterfaceError
from ...home import after_fork
from .handles import Handle
from .prototypes import Callback
from .signals import COUNTING, NOT_BEGUN, Signals
from .structs import TAOS_ASYNC_FN
from .taosc import Taosc

P = ParamSpec("P")
T = TypeVar("T")

_WAITING = 16  # threads of a loop for what waits for servers, and may do so for 20 s
_WORKING = 4  # threads of a loop for what is short, but not short enough for the loop
_PATIENCE = 1.0  # seconds that the end of the process waits for callbacks
_STEP = 0.002
_logger = logging.getLogger("aiotaos.native")

_numbers = itertools.count(1)
_pending: dict[int, Call] = {}
"""The calls whose callbacks have not returned."""
_connections: dict[Handle, Taosc] = {}
"""The connections that are open, for the end of the process."""
_libraries: dict[int, Taosc] = {}
"""The libraries that have been used."""
_bridges: dict[asyncio.AbstractEventLoop, Bridge] = {}
_lock = threading.RLock()
_is_ending = False


class Call:
    """A call of libtaos that calls back.

    Attributes:
        bridge: The way to its loop.
    """

    __slots__ = ("bridge",)

    def __init__(self, bridge: Bridge) -> None:
        self.bridge = bridge

    def told(self, result: int) -> int:
        """What a signal leaves out: the last argument of the callback."""
        raise NotImplementedError

    def take(self, result: int | None, code: int) -> None:
        """Copy what the callback brings; on the thread of the callback, must not wait."""
        raise NotImplementedError

    def fail(self, error: BaseException) -> None:
        """Take note that :meth:`take` has failed."""
        raise NotImplementedError

    def deliver(self) -> None:
        """Give it to who waits; on the loop."""
        raise NotImplementedError

    def lose(self) -> None:
        """Free what it brought; on any thread, where there is no loop any more to deliver it."""
        raise NotImplementedError

    def tidy(self) -> None:
        """Free what nobody needs; on the thread of the callback, maybe before it is delivered."""
        raise NotImplementedError

    def arrive(self, result: int) -> None:
        """Its signal has come; on the loop."""
        try:
            self._take_signal(result)
            self.deliver()
            self.tidy()
        except Exception:
            _logger.exception("an answer of libtaos could not be delivered")

    def arrive_late(self, result: int) -> None:
        """Its signal has come, and there is no loop any more; on any thread."""
        try:
            self._take_signal(result)
            self.lose()
            self.tidy()
        except Exception:
            _logger.exception("what libtaos has brought too late")

    def _take_signal(self, result: int) -> None:
        try:
            self.take(result, self.told(result))
        except BaseException as error:
            self.fail(error)


class Bridge:
    """What the native sessions of an event loop share: its mailbox and its threads.

    Made by :meth:`enter`, and ended by the :meth:`leave` of the last session.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = threading.get_ident()
        self._mailbox: deque[Call] = deque()
        self._is_awake = False
        self._chores: deque[Callable[[], object]] = deque()
        self._is_tidying = False
        self._users = 0
        self._busy = 0  # calls on its threads
        self._waiting = ThreadPoolExecutor(_WAITING, "aiotaos-native-waiting")
        self._working = ThreadPoolExecutor(_WORKING, "aiotaos-native")
        self._signals: Signals | None = None
        if COUNTING is not None:
            with contextlib.suppress(OSError):  # there are no more descriptors
                self._signals = Signals(loop)

    @classmethod
    def enter(cls) -> Bridge:
        """The running loop's, for one session more."""
        loop = asyncio.get_running_loop()
        with _lock:
            for other in [other for other in _bridges if other.is_closed()]:
                _bridges.pop(other)._end(wait=False)
            bridge = _bridges.get(loop)
            if bridge is None:
                bridge = _bridges[loop] = cls(loop)
            bridge._users += 1
        return bridge

    def leave(self, *, wait: bool = False) -> None:
        """One session less; after the last one the threads end.

        With ``wait`` they have ended when this returns, unless they have something to do.
        """
        with _lock:
            self._users -= 1
            if self._users or _bridges.get(self._loop) is not self:
                return
            del _bridges[self._loop]
        self._end(wait=wait)

    def _end(self, *, wait: bool) -> None:
        wait = wait and not self._busy
        self._waiting.shutdown(wait=wait)
        self._working.shutdown(wait=wait)
        if self._loop.is_closed():
            self._lose()
        if self._signals is None or _is_ending:
            return
        if threading.get_ident() == self._thread or self._loop.is_closed():
            self._signals.end()
            return
        try:
            self._loop.call_soon_threadsafe(self._signals.end)
        except RuntimeError:  # it has ended meanwhile
            self._signals.end()

    def disarm(self) -> None:
        """In a process that was forked off."""
        if self._signals is not None:
            self._signals.disarm()

    @property
    def unanswered(self) -> int:
        """How many signals have not come."""
        return 0 if self._signals is None else self._signals.unanswered

    # Threads.

    def waiting(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run what waits for a server on a thread, apart from what is short.

        Raises:
            RuntimeError: The threads have ended.
        """
        return self._submit(self._waiting, call, *args, **kwargs)

    @staticmethod
    def apart(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run what may last longer than the process is to live, on a thread of its own.

        The process ends without it: libtaos waits for minutes where somebody listens who is not
        taosd.
        """
        work: Future[T] = Future()
        work.set_running_or_notify_cancel()

        def run() -> None:
            try:
                found = call(*args, **kwargs)
            except BaseException as error:
                work.set_exception(error)
            else:
                work.set_result(found)

        threading.Thread(target=run, name="aiotaos-native-connecting", daemon=True).start()
        return work

    def submit(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run what is short on a thread.

        Raises:
            RuntimeError: The threads have ended.
        """
        return self._submit(self._working, call, *args, **kwargs)

    def _submit(
        self,
        threads: ThreadPoolExecutor,
        call: Callable[P, T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Future[T]:
        def run() -> T:
            try:
                return call(*args, **kwargs)
            finally:
                with _lock:
                    self._busy -= 1

        work = threads.submit(run)
        with _lock:
            self._busy += 1
        return work

    def soon(self, call: Callable[[], object]) -> None:
        """Run what is short on a thread, whenever; here and now if the threads have ended."""
        self._chores.append(call)
        if not self._is_tidying:
            self._is_tidying = True
            try:
                self.submit(self._tidy)
            except RuntimeError:
                self._tidy()

    def _tidy(self) -> None:
        self._is_tidying = False  # first: what comes from here on has another turn
        while self._chores:
            try:
                call = self._chores.popleft()
            except IndexError:  # another thread was faster
                return
            try:
                call()
            except Exception:
                _logger.exception("what a connection had left could not be freed")

    # Calls.

    def future(self) -> asyncio.Future[Any]:
        """A future of the loop; may be asked for on any thread."""
        return self._loop.create_future()

    def begin(
        self, call: Call, start: Callable[[Callback, int], object], *, by_signal: bool = False
    ) -> None:
        """Start a call.

        ``start`` gets the callback and its user data, and calls libtaos; it must raise one of
        :data:`.signals.NOT_BEGUN` if it has not done so. With ``by_signal`` the callback may be a
        signal: it always has a result.

        Raises:
            InterfaceError: The process is ending.
        """
        if _is_ending:
            raise InterfaceError("the process is ending; libtaos is not asked any more")
        if (
            by_signal
            and self._signals is not None
            and threading.get_ident() == self._thread
            and self._signals.begin(call, start)
        ):
            return
        number = next(_numbers)
        _pending[number] = call
        try:
            start(_CALLBACK, number)
        except NOT_BEGUN:
            _pending.pop(number, None)
            raise

    def put(self, call: Call) -> None:
        """Have a call delivered on the loop; if that has ended, it is lost."""
        if threading.get_ident() == self._thread:
            call.deliver()
            return
        self._mailbox.append(call)
        if not self._is_awake or self._loop.is_closed():
            self._is_awake = True
            try:
                self._loop.call_soon_threadsafe(self._empty)
            except RuntimeError:
                self._lose()

    def _empty(self) -> None:
        self._is_awake = False  # first: what comes from here on wakes again
        mailbox = self._mailbox
        while mailbox:
            call = mailbox.popleft()
            try:
                call.deliver()
            except Exception:
                _logger.exception("an answer of libtaos could not be delivered")

    def _lose(self) -> None:
        """Free what will not be delivered any more."""
        with contextlib.suppress(IndexError):  # another thread may be at it as well
            while True:
                self._mailbox.popleft().lose()


def _arrive(number: int | None, result: int | None, code: int) -> None:
    """The callback of all calls; nothing may be raised out of it."""
    call = _pending.get(number or 0)
    if call is None:
        return
    try:
        try:
            call.take(result, code)
        except BaseException as error:
            call.fail(error)
        if _is_ending:
            call.lose()
        else:
            call.bridge.put(call)
        call.tidy()
    except BaseException:
        _logger.exception("a callback of libtaos")
    finally:
        _pending.pop(number or 0, None)


_CALLBACK = TAOS_ASYNC_FN(_arrive)


# The end of the process.


def opened(connection: Handle, taosc: Taosc) -> None:
    """Take note of a connection."""
    if not _libraries:
        atexit.register(_at_exit)
    _libraries[id(taosc)] = taosc
    _connections[connection] = taosc


def closed(connection: Handle) -> None:
    """A connection is not used any more."""
    _connections.pop(connection, None)


def _unanswered() -> int:
    return len(_pending) + sum(bridge.unanswered for bridge in list(_bridges.values()))


def _at_exit() -> None:
    """Before the interpreter ends: stop what runs, and wait until no thread is to call back."""
    global _is_ending
    _is_ending = True
    for connection, taosc in list(_connections.items()):
        if _unanswered() and taosc.has("taos_kill_query") and connection.hold():
            taosc.taos_kill_query(connection.address)
            connection.release()
    until = time.monotonic() + _PATIENCE
    while _unanswered() and time.monotonic() < until:
        time.sleep(_STEP)
    for connection in list(_connections):
        connection.close()
    if _pending:  # it joins the threads that would call
        for taosc in _libraries.values():
            taosc.taos_cleanup()
    time.sleep(_STEP)  # the last callback has left the table, and now leaves Python


def _forked() -> None:
    """In a process that was forked off, nothing that was begun ends."""
    global _lock
    _lock = threading.RLock()
    for bridge in _bridges.values():
        bridge.disarm()
    _pending.clear()
    _connections.clear()
    _libraries.clear()
    atexit.unregister(_at_exit)
    _bridges.clear()


after_fork(_forked)

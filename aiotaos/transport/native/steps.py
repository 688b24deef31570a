"""What waits for a server in libtaos, and therefore runs on a thread: steps.

A step that was given up ends by itself, and what it brings is closed then.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from ...errors import Error, InterfaceError, TimeoutError
from ..alarm import fail
from ..base import Deadline
from .bridge import Bridge, Call
from .calls import Failure
from .connection import Connection, EndOfCall
from .handles import Handle
from .signals import NotBegun

T = TypeVar("T")


class Refused(NotBegun):
    """libtaos has refused something.

    Attributes:
        failure: What it says.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


class Step(Call):
    """A call, or several, on a thread.

    Args:
        bridge: The way to the loop.
        ended: Gets the step on the loop, at its end.
        handle: What it uses, held until then; None if it uses none.
        req_id: Id of the request.
        sql: The statement.
        executes: Whether something may be written by it.
        late: Closes what it brings when nobody waits for it any more; on a thread.
        receive: For a step that ends with a callback: makes what it brings of the callback's
            arguments.

    Attributes:
        reply: What the caller waits for; done before the end when the step was given up.
        value: What it brings.
        error: Why it failed.
    """

    __slots__ = (
        "_ended", "_receive", "error", "executes", "handle", "late", "reply", "req_id", "sql",
        "value", "work",
    )  # fmt: skip

    def __init__(
        self,
        bridge: Bridge,
        ended: Callable[[Step], None],
        handle: Handle | None,
        req_id: int,
        sql: str | None,
        *,
        executes: bool,
        late: Callable[[Any], object] | None,
        receive: Callable[[int | None, int], object] | None,
    ) -> None:
        super().__init__(bridge)
        self._ended = ended
        self._receive = receive
        self.handle = handle
        self.req_id = req_id
        self.sql = sql
        self.executes = executes
        self.late = late
        self.work: Callable[[], object] | None = None
        self.reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.value: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        """Do it, on a thread."""
        work, self.work = self.work, None
        try:
            if work is not None and not self.reply.done():
                value = work()
                if self._receive is not None:
                    return  # its callback will come, or has come and brought the value
                self.value = value
        except BaseException as error:
            self.error = error
        self.bridge.put(self)

    def take(self, result: int | None, code: int) -> None:
        assert self._receive is not None
        self.value = self._receive(result, code)

    def fail(self, error: BaseException) -> None:
        self.error = error

    def deliver(self) -> None:
        self._ended(self)

    def lose(self) -> None:
        # Not on this thread: in its own callback a statement would wait for itself.
        with contextlib.suppress(RuntimeError):  # the process is ending
            threading.Thread(target=self.drop, daemon=True).start()

    def tidy(self) -> None:
        """Nothing: who waits for it closes it."""

    def drop(self) -> None:
        """Close what nobody waits for; on a thread."""
        value, self.value = self.value, None
        if value is not None and self.late is not None:
            self.late(value)
        if self.handle is not None:
            self.handle.release()


class Steps:
    """The steps of a session that are under way.

    Args:
        connection: Its connection.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._bridge = connection.bridge
        self._running: set[Step] = set()

    def __len__(self) -> int:
        return len(self._running)

    def still_running(self, req_id: int) -> Callable[[], bool]:
        """Whether a request of now is being executed, to be asked later on."""
        found = next((s for s in self._running if s.executes and s.req_id == req_id), None)
        return lambda: found in self._running

    def end(self, error: EndOfCall) -> Callable[[], None]:
        """Fail what waits; gives what stops what is executed, to be called on a thread."""
        executes = False
        for step in self._running:
            executes = executes or step.executes
            if not step.reply.done():
                fail(step.reply, error(step.req_id, step.sql, True if step.executes else None))

        def stop() -> None:
            if executes:
                self._connection.stop_queries()

        return stop

    async def run(
        self,
        req_id: int,
        sql: str | None,
        work: Callable[[Step], T],
        deadline: Deadline,
        *,
        handle: Handle | None = None,
        executes: bool = False,
        late: Callable[[T], object] | None = None,
        receive: Callable[[int | None, int], T] | None = None,
    ) -> T:
        """Run ``work`` on a thread; for arguments and their meaning see :class:`Step`.

        Raises:
            Error: libtaos refuses; or it was not done in time, or the connection ended.
        """
        self._connection.check_open(req_id, sql)
        if handle is not None and not handle.hold():
            raise InterfaceError("it is closed", req_id=req_id, sql=sql)
        step = Step(
            self._bridge, self._ended, handle, req_id, sql,
            executes=executes, late=late, receive=receive,
        )  # fmt: skip
        step.work = lambda: work(step)
        self._running.add(step)
        try:
            self._bridge.waiting(step.run)
        except BaseException:
            self._running.discard(step)
            self._bridge.soon(step.drop)
            raise
        reply = step.reply
        try:
            result: T = await self._connection.alarm.within(
                deadline, reply, lambda: self._late(step, deadline)
            )
            return result
        except BaseException:
            if late and reply.done() and not reply.cancelled() and reply.exception() is None:
                value = reply.result()  # it came in the same turn of the loop
                self._bridge.soon(lambda: late(value))
            raise

    def _ended(self, step: Step) -> None:
        self._running.discard(step)
        reply, error = step.reply, step.error
        if reply.done():
            self._bridge.soon(step.drop)
            return
        if step.handle is not None:
            step.handle.release()  # not the last: who gives a step up, closes it afterwards
        if isinstance(error, Refused):
            may_have_run = True if step.executes else None
            fail(
                reply, self._connection.refusal(error.failure, step.req_id, step.sql, may_have_run)
            )
        elif error is not None:
            if isinstance(error, Error):
                error.req_id, error.endpoint = step.req_id, self._connection.endpoint
            fail(reply, error)
        else:
            reply.set_result(step.value)

    def _late(self, step: Step, deadline: Deadline) -> Error:
        return TimeoutError(
            f"no answer within {deadline.seconds:g} s",
            req_id=step.req_id,
            sql=step.sql,
            endpoint=self._connection.endpoint,
            may_have_run=True if step.executes else None,
        )

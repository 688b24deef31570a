"""Thousands of calls that are cancelled or time out at any moment leave nothing behind.

``AIOTAOS_STORM`` is their number.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import gc
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import aiotaos

STORM = int(os.environ.get("AIOTAOS_STORM", "10000"))
TASKS = 200
CONNECTIONS = 8
ROWS = 4200  # of the table that is read: more than one block
FEW = 20
PATIENCE = 10.0  # seconds for what is given up to be gone
PREPARED = 2  # statements that a session keeps: that of insert, and that with parameters

pytestmark = pytest.mark.timeout(60 + STORM / 100)


class Held:
    """The server, and what it holds."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        assert process.stdin is not None
        self._answers, self._questions = process.stdout, process.stdin
        self.dsn = self._answers.readline().strip()

    def now(self) -> dict[str, int]:
        self._questions.write("\n")
        self._questions.flush()
        return json.loads(self._answers.readline())

    async def quiet(self, sessions: int) -> dict[str, int]:
        """What it holds when it has so many sessions and does nothing, or patience has ended."""
        held: dict[str, int] = {}

        def is_quiet() -> bool:
            held.update(self.now())
            return (
                held["sessions"] == sessions
                and not held["requests"]
                and not held["results"]
                and held["statements"] <= PREPARED * sessions
            )

        await until(is_quiet)
        return held


@pytest.fixture
def server() -> Iterator[Held]:
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("watched_server.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        yield Held(process)
        process.communicate()
    assert process.returncode == 0


def sockets() -> set[str]:
    """The sockets of this process, where the system can tell."""
    found = set()
    try:
        for name in os.listdir("/proc/self/fd"):
            try:
                found.add(os.readlink(f"/proc/self/fd/{name}"))
            except OSError:  # that of the listing itself
                continue
    except FileNotFoundError:
        pass
    return {name for name in found if name.startswith("socket:")}


async def until(condition: Callable[[], Any]) -> bool:
    """Whether something becomes so while there is patience."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            return False
        gc.collect()
        await asyncio.sleep(0.02)
    return True


class Moment:
    """A moment in which a call is cancelled: some turns of the loop, or some time, after it began.

    Attributes:
        used: Whether the cancellation took place.
    """

    def __init__(self, cancel: Callable[[], object], turns: int, seconds: float) -> None:
        self._cancel = cancel
        self._turns = turns
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._over = False
        self.used = False

    def begin(self) -> None:
        if self._seconds:
            self._loop.call_later(self._seconds, self._come)
        else:
            self._loop.call_soon(self._turn)

    def end(self) -> None:
        self._over = True

    def _turn(self) -> None:
        self._turns -= 1
        if self._turns < 0:
            self._come()
        elif not self._over:
            self._loop.call_soon(self._turn)

    def _come(self) -> None:
        if not self._over:
            self._over = True
            self.used = self._cancel() is not False  # False: the task was done


class Watch(aiotaos.Hooks):
    """Sees statements begin and end.

    Attributes:
        begun: Number of statements.
        ended: Number of those that succeeded, or failed.
        waiting: Moments that begin with the next statement of a task.
    """

    def __init__(self) -> None:
        self.begun = self.ended = 0
        self.waiting: dict[asyncio.Task[Any], Moment] = {}

    def query_start(self, query: Any) -> None:
        self.begun += 1
        task = asyncio.current_task()
        assert task is not None
        moment = self.waiting.pop(task, None)
        if moment is not None:
            moment.begin()

    def query_end(self, query: Any) -> None:
        self.ended += 1

    def query_error(self, query: Any, error: BaseException) -> None:
        self.ended += 1


class Storm:
    """Calls upon a pool.

    Args:
        pool: The pool.
        watch: Its hooks.

    Attributes:
        outcomes: What became of the calls: their number by verb and outcome.
        faults: What ought not to be.
        written: Rows of inserts that came to their end.
        unsent: Rows of inserts of which the client says that they have not run.
    """

    def __init__(self, pool: Any, watch: Watch) -> None:
        self.pool = pool
        self.watch = watch
        self.chance = random.Random(20_240_901)
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.faults: list[str] = []
        self.written: set[int] = set()
        self.unsent: set[int] = set()
        self.calls = 0
        self.disturbed = 0
        self.verbs: list[Callable[..., Awaitable[object]]] = [
            self.fetch,
            self.fetchval,
            self.parameter,
            self.partly,
            self.dropped,
            self.execute,
            self.execute_bound,
            self.insert,
            self.acquire,
            self.acquire_and_release,
            self.change,
        ]

    # What is called; the keyword is the time-out, if there is one.

    async def fetch(self, number: int, **limit: float) -> None:
        rows = await self.pool.fetch(f"select v from r where v < {FEW}", **limit)
        self.expect(rows, [(value,) for value in range(FEW)])

    async def fetchval(self, number: int, **limit: float) -> None:
        self.expect(await self.pool.fetchval(f"select {number}", **limit), number)

    async def parameter(self, number: int, **limit: float) -> None:
        value = number % ROWS
        self.expect(
            await self.pool.fetchrow("select v from r where v = ?", value, **limit), (value,)
        )

    async def partly(self, number: int, **limit: float) -> None:
        async with await self.pool.query("select v from r", **limit) as result:
            self.expect(await result.fetchmany(FEW), [(value,) for value in range(FEW)])

    async def dropped(self, number: int, **limit: float) -> None:
        result = await self.pool.query("select v from r", **limit)
        if number % 2:
            async for row in result:
                self.expect(row, (0,))
                break

    async def execute(self, number: int, **limit: float) -> None:
        await self.write(
            [number],
            lambda rows: self.pool.execute(f"insert into w values ({rows[0][0]}, 1)", **limit),
        )

    async def execute_bound(self, number: int, **limit: float) -> None:
        await self.write(
            [number],
            lambda rows: self.pool.execute("insert into w values (?, ?)", *rows[0], **limit),
        )

    async def insert(self, number: int, **limit: float) -> None:
        await self.write(
            [number + part for part in range(3)],
            lambda rows: self.pool.insert("w", rows, columns=["ts", "v"], **limit),
        )

    async def acquire(self, number: int, **limit: float) -> None:
        async with self.pool.acquire(**limit) as conn:
            await conn.fetch(f"select v from r where v < {FEW}", **limit)
            self.expect(await conn.fetchval(f"select {number}", **limit), number)

    async def acquire_and_release(self, number: int, **limit: float) -> None:
        conn = await self.pool.acquire(**limit)
        try:
            self.expect(await conn.fetchval(f"select {number}", **limit), number)
        finally:
            await self.pool.release(conn)

    async def change(self, number: int, **limit: float) -> None:
        """What a borrower changes is put back, or the others would not find the tables."""
        async with self.pool.acquire(**limit) as conn:
            if number % 20:
                await conn.select_db("elsewhere", **limit)
            else:
                await conn.set_timezone("Asia/Tokyo", **limit)
            self.expect(await conn.fetchval(f"select {number}", **limit), number)

    async def write(
        self, numbers: list[int], send: Callable[[list[tuple[int, int]]], Awaitable[int]]
    ) -> None:
        try:
            count = await send([(number, 1) for number in numbers])
        except aiotaos.Error as error:
            if error.may_have_run is False:
                self.unsent.update(numbers)
            raise
        self.expect(count, len(numbers))
        self.written.update(numbers)

    def expect(self, value: object, expected: object) -> None:
        if value != expected:
            self.faults.append(f"{value!r} instead of {expected!r}")

    # How they are disturbed.

    def next(self) -> tuple[str, Callable[..., Awaitable[object]], int]:
        """A verb with its name, and a number of its own."""
        self.calls += 1
        verb = self.chance.choice(self.verbs)
        return verb.__name__, verb, 10 * self.calls

    def seconds(self) -> float:
        """Not long; calls wait for a connection more than for the server."""
        return self.chance.choice([0.0005, 0.005, 0.03, 0.1]) * self.chance.random()

    def moment(self, task: asyncio.Task[Any], cancel: Callable[[], object]) -> Moment:
        """A moment for a task to be cancelled: now and then only when its statement runs."""
        short = self.chance.random() < 0.5
        turns = self.chance.randrange(12)
        moment = Moment(cancel, turns, 0 if short else self.seconds())
        if self.chance.random() < 0.3:
            self.watch.waiting[task] = moment
        else:
            moment.begin()
        return moment

    def done(self, name: str, outcome: str) -> None:
        self.outcomes[name, outcome] += 1
        self.disturbed += outcome in ("cancelled", "timed out")

    def failed(self, name: str, error: BaseException, *, may_time_out: bool) -> None:
        """A call ended with an exception that is no cancellation."""
        if may_time_out and isinstance(error, builtins.TimeoutError):
            self.done(name, "timed out")
        else:
            self.faults.append(f"{name}: {error!r}")

    async def work(self) -> None:
        """Cancel tasks, and use asyncio's time-outs."""
        while self.disturbed < STORM:
            name, verb, number = self.next()
            kind = self.chance.choices(["cancel", "timeout", "limit", "leave"], [6, 2, 2, 0.7])[0]
            if kind == "limit":
                call = verb(number, timeout=self.seconds())
            elif kind == "timeout":
                call = self.within(self.seconds(), verb(number))
            else:
                call = verb(number)
            task = asyncio.ensure_future(call)
            moment = self.moment(task, task.cancel) if kind == "cancel" else None
            await asyncio.wait([task])
            was_cancelled = False
            if moment is not None:
                moment.end()
                self.watch.waiting.pop(task, None)
                was_cancelled = moment.used
            if task.cancelled():
                self.done(name, "cancelled")
                if not was_cancelled:
                    self.faults.append(f"{name}: cancelled by nobody")
            elif was_cancelled:
                self.faults.append(f"{name}: its cancellation was swallowed: {task!r}")
            elif (error := task.exception()) is not None:
                self.failed(name, error, may_time_out=kind in ("timeout", "limit"))
            else:
                self.done(name, "finished")

    async def within(self, seconds: float, call: Awaitable[object]) -> None:
        async with asyncio.timeout(seconds):
            await call

    async def work_in_scopes(self) -> None:
        """Cancel anyio's scopes: whatever a cancelled call awaits is cancelled again."""
        task = asyncio.current_task()
        assert task is not None
        while self.disturbed < STORM:
            name, verb, number = self.next()
            kind = self.chance.choices(["cancel", "timeout", "limit", "leave"], [6, 2, 2, 0.7])[0]
            limit = {"timeout": self.seconds()} if kind == "limit" else {}
            moment = None
            has_finished = False
            try:
                with anyio.CancelScope() as scope:
                    if kind == "timeout":
                        scope.deadline = anyio.current_time() + self.seconds()
                    elif kind == "cancel":
                        moment = self.moment(task, scope.cancel)
                    try:
                        await verb(number, **limit)
                        has_finished = True
                    finally:
                        if moment is not None:
                            moment.end()
                            self.watch.waiting.pop(task, None)
            except Exception as error:
                self.failed(name, error, may_time_out=kind == "limit")
                if scope.cancel_called:
                    self.faults.append(f"{name}: its cancellation was swallowed: {error!r}")
                continue
            if scope.cancelled_caught:
                self.done(name, "timed out" if kind == "timeout" else "cancelled")
            else:
                self.done(name, "finished")
                if not has_finished:
                    self.faults.append(f"{name}: neither finished nor cancelled")
        if task.cancelling():
            self.faults.append("a task is still being cancelled")


async def rage(storm: Storm, *, in_scopes: bool) -> None:
    if in_scopes:
        async with anyio.create_task_group() as anyio_group:
            for _ in range(TASKS):
                anyio_group.start_soon(storm.work_in_scopes)
    else:
        async with asyncio.TaskGroup() as group:
            for _ in range(TASKS):
                group.create_task(storm.work())


async def prepare(dsn: str) -> None:
    """The tables: ``r`` is read, ``w`` is written."""
    async with aiotaos.connect(dsn) as conn:
        await conn.execute("create database elsewhere")
        await conn.execute("create database storm keep 36500")
        await conn.select_db("storm")
        await conn.execute("create table r (ts timestamp, v int)")
        await conn.execute("create table w (ts timestamp, v int)")
        await conn.insert("r", {"ts": list(range(ROWS)), "v": list(range(ROWS))})


async def outlast(server: Held, *, in_scopes: bool = False) -> None:
    """Let the storm rage, and see that nothing is left."""
    await prepare(server.dsn)
    this = asyncio.current_task()
    sockets_before = sockets()
    watch = Watch()
    async with aiotaos.create_pool(
        server.dsn,
        database="storm",
        max_size=CONNECTIONS,
        acquire_timeout=PATIENCE,
        hooks=watch,
        timestamp="int",
    ) as pool:
        storm = Storm(pool, watch)
        await rage(storm, in_scopes=in_scopes)
        assert storm.faults == []
        outcomes = Counter[str]()
        for (_, outcome), count in storm.outcomes.items():
            outcomes[outcome] += count
        assert outcomes.total() == storm.calls
        for verb in storm.verbs:  # that each of them was met by everything
            for outcome in ("cancelled", "timed out", "finished"):
                assert storm.outcomes[verb.__name__, outcome] or STORM < 5000

        await until(lambda: not pool.get_stats().used)
        stats = pool.get_stats()
        assert (stats.used, stats.waiting, stats.opening, stats.lost) == (0, 0, 0, 0), stats
        assert stats.idle == stats.size <= CONNECTIONS
        await until(lambda: watch.begun == watch.ended)
        assert watch.begun == watch.ended > 0
        async with contextlib.AsyncExitStack() as stack:  # then all that was sent has been read
            for _ in range(stats.size):
                conn = await stack.enter_async_context(pool.acquire())
                assert await conn.fetchval("select 1") == 1
        held = await server.quiet(stats.size)
        assert (held["sessions"], held["requests"], held["results"]) == (stats.size, 0, 0)
        assert held["statements"] <= PREPARED * stats.size

        stored = {number for (number,) in await pool.fetch("select ts from w")}
        assert storm.written - stored == set()
        assert storm.unsent & stored == set()
        assert len(await pool.fetch("select v from r")) == ROWS
    await until(lambda: asyncio.all_tasks() == {this} and not sockets() - sockets_before)
    assert asyncio.all_tasks() - {this} == set()
    assert sockets() - sockets_before == set()
    assert set((await server.quiet(0)).values()) == {0}


def test_tasks_that_are_cancelled(server: Held) -> None:
    asyncio.run(outlast(server))


def test_scopes_of_anyio(server: Held) -> None:
    async def main() -> None:
        await outlast(server, in_scopes=True)

    anyio.run(main, backend="asyncio")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no uvloop")
@pytest.mark.parametrize("in_scopes", [False, True], ids=["tasks", "scopes"])
def test_uvloop(server: Held, *, in_scopes: bool) -> None:
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(outlast(server, in_scopes=in_scopes))

"""A pool whose network fails in every way: each call ends in time, and afterwards all is well.

The server is an embedded one in a process of its own; between it and the pool stands a proxy.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
import random
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

import aiotaos
from aiotaos import AuthenticationError, InterfaceError, OperationalError
from tests.trouble import HTTP_PAGE, SSH_BANNER, OldAdapter, Proxy, Speaker, http_answer

LIMIT = 0.15  # seconds that a call may take while something is wrong
ACQUIRE = 0.8  # seconds that a pool waits for a connection, where the call does not say
SLACK = 0.5  # for a machine that is busy
HEALED = 5.0  # seconds that it may take when all is well, or only slow
T = 1_700_000_000_000
ROWS = 300
OPTIONS = {
    "connect_timeout": HEALED,
    "write_timeout": LIMIT,
    "conn_retries": 2,
    "retry_backoff_ms": 5,
    "retry_backoff_max_ms": 20,
}
_numbers = itertools.count()


@pytest.fixture(scope="module")
def server_port():
    """An embedded server in another process, with a table to read."""
    with subprocess.Popen(
        [sys.executable, "-m", "aiotaos.embedded", "--port", "0"],
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        dsn = next(word for word in process.stdout.readline().split() if word.startswith("ws://"))
        with concurrent.futures.ThreadPoolExecutor() as executor:
            executor.submit(asyncio.run, _fill(dsn)).result()
        yield urlsplit(dsn).port
        process.terminate()
        process.stdout.read()
    assert process.returncode == 0


async def _fill(dsn):
    async with aiotaos.connect(dsn) as conn:
        await conn.execute("create database d")
        await conn.execute("create table d.numbers (ts timestamp, v int)")
        await conn.insert("d.numbers", [(T + number, number) for number in range(ROWS)])
        await conn.execute("create table d.written (ts timestamp, v int)")


@pytest.fixture
async def proxy(clean, server_port):
    async with Proxy(server_port) as proxy:
        yield proxy


@pytest.fixture
async def straight(clean, server_port):
    """A connection that no trouble reaches."""
    async with aiotaos.connect(f"ws://root:taosdata@127.0.0.1:{server_port}/d") as conn:
        yield conn


def make_pool(port, **options):
    dsn = f"ws://root:taosdata@127.0.0.1:{port}/d"
    settings = {"max_size": 2, "acquire_timeout": ACQUIRE} | OPTIONS | options
    return aiotaos.create_pool(dsn, **settings)


@pytest.fixture
async def pool(proxy):
    """A pool of two; at the end nobody has anything of it, and nobody waits."""
    async with make_pool(proxy.port) as pool:
        yield pool
        await proxy.heal()
        if not pool.closed:
            await check_idle(pool)
    assert pool.closed


async def check_idle(pool):
    stats = pool.get_stats()
    assert (stats.used, stats.waiting) == (0, 0)
    assert stats.size <= 2


async def warm(pool):
    """Have both sessions open."""
    async with pool.acquire() as first, pool.acquire() as second:
        assert await first.fetchval("select 1", timeout=HEALED) == 1
        assert await second.fetchval("select 1", timeout=HEALED) == 1
    assert pool.get_stats().size == 2


# What is done, and whether it was done right.


class Query:
    """Rows are streamed.

    Args:
        limit: Seconds that each step may take.

    Attributes:
        steps: How many steps there are.
    """

    steps = 2

    def __init__(self, limit=LIMIT):
        self.limit = limit

    async def run(self, pool):
        async with await pool.query("select v from d.numbers", timeout=self.limit) as result:
            return await result.fetchall(timeout=self.limit)

    async def check(self, straight, result, error):
        assert error is not None or result == [(v,) for v in range(ROWS)]


class Fetch(Query):
    """Rows are read at once, with a parameter."""

    steps = 1

    async def run(self, pool):
        return await pool.fetch("select v from d.numbers where v >= ?", 0, timeout=self.limit)


class Execute:
    """A row is written as SQL; afterwards it is there if it was said to be, and not if not."""

    steps = 1
    rows = 1

    def __init__(self, limit=LIMIT):
        self.limit = limit
        self.value = next(_numbers)
        self.first = T + 10 * self.value

    async def run(self, pool):
        return await pool.execute(
            f"insert into d.written values ({self.first}, {self.value})", timeout=self.limit
        )

    async def check(self, straight, result, error):
        sql = f"select count(*) from d.written where v = {self.value}"
        there = await straight.fetchval(sql, timeout=HEALED)
        if error is None:
            assert result == there == self.rows
        elif error.may_have_run is False:
            assert there == 0
        else:
            assert there in (0, self.rows)


class Insert(Execute):
    """Rows are written by insert(), whose limit is that of a batch."""

    steps = 1 + ACQUIRE / LIMIT
    rows = 3

    async def run(self, pool):
        rows = [(self.first + number, self.value) for number in range(self.rows)]
        return await pool.insert("d.written", rows, timeout=self.limit)


class Acquire(Query):
    """A connection is borrowed, used and given back."""

    async def run(self, pool):
        async with pool.acquire(timeout=self.limit) as conn:
            return await conn.fetchval("select 1", timeout=self.limit)

    async def check(self, straight, result, error):
        assert error is not None or result == 1


class Close(Query):
    """The pool is closed."""

    steps = 1

    async def run(self, pool):
        await pool.close(timeout=self.limit)
        return pool.closed

    async def check(self, straight, result, error):
        assert (result, error) == (True, None)


CALLS = [Query, Fetch, Execute, Insert, Acquire, Close]

# What goes wrong.

FAULTS = {
    "cut": lambda proxy: proxy.cut(),
    "cut_once": lambda proxy: proxy.cut(once=True),
    "cut_in_a_frame": lambda proxy: proxy.cut(after=150),
    "hold": lambda proxy: proxy.delay(),
    "slow": lambda proxy: proxy.delay(0.005),
    "stall": lambda proxy: proxy.stall(),
    "swallow": lambda proxy: proxy.swallow(),
    "garbage": lambda proxy: proxy.garbage(),
    "half_close": lambda proxy: proxy.half_close(),
    "refuse": lambda proxy: proxy.refuse(),
    "trickle": lambda proxy: proxy.trickle(64),
}
HARMLESS = {"slow", "trickle"}
"""Those that only take time: the call has a result."""


async def end_of(doing, pool):
    """How a call ended: its result, or its error; it must be one of ours, and in time."""
    loop = asyncio.get_running_loop()
    limit = doing.steps * doing.limit + SLACK
    start = loop.time()
    result = error = None
    try:
        async with asyncio.timeout(limit + 5):
            result = await doing.run(pool)
    except OperationalError as raised:
        error = raised
    assert loop.time() - start < limit
    return result, error


async def check_healed(pool):
    """As many calls as there are sessions, and more, all at once.

    A session that was being opened meanwhile may still fail, for those who wait for it.
    """
    async with asyncio.timeout(HEALED):
        while pool.get_stats().opening:  # noqa: ASYNC110 - a pool has no event
            await asyncio.sleep(0.001)
    calls = (pool.fetchval("select count(*) from d.numbers", timeout=HEALED) for _ in range(4))
    assert await asyncio.gather(*calls) == [ROWS] * 4


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__.lower())
@pytest.mark.parametrize("moment", ["cold", "idle", "running"])
async def test_faults(pool, proxy, straight, fault, call, moment):
    """Before there is a session, while there are two idle ones, and in the middle of the call."""
    doing = call(HEALED if fault in HARMLESS else LIMIT)
    if moment != "cold":
        await warm(pool)
    if moment == "running":
        up = proxy.up
        task = asyncio.ensure_future(end_of(doing, pool))
        await proxy.until(lambda: proxy.up > up)
        FAULTS[fault](proxy)
        result, error = await task
    else:
        FAULTS[fault](proxy)
        result, error = await end_of(doing, pool)
    if fault in HARMLESS:
        assert error is None
    await proxy.heal()
    await doing.check(straight, result, error)
    if call is Close:
        with pytest.raises(InterfaceError):
            await pool.fetchval("select 1")
    else:
        await check_healed(pool)


@pytest.mark.parametrize("fault", [name for name in FAULTS if name not in HARMLESS])
async def test_faults_while_others_wait(pool, proxy, straight, fault):
    """Ten tasks share two sessions; all of them come to an end, none before its time."""
    await warm(pool)
    calls = [kind() for kind in (Query, Fetch, Execute, Insert, Acquire) for _ in range(2)]
    up = proxy.up
    tasks = [asyncio.ensure_future(end_of(call, pool)) for call in calls]
    await proxy.until(lambda: proxy.up > up)
    FAULTS[fault](proxy)
    ends = await asyncio.gather(*tasks)
    await proxy.heal()
    for call, (result, error) in zip(calls, ends, strict=True):
        await call.check(straight, result, error)
    await check_healed(pool)


@pytest.mark.parametrize("fault", ["hold", "stall", "swallow", "refuse", "half_close"])
@pytest.mark.parametrize("moment", ["cold", "idle"])
async def test_cancelled_in_a_fault(pool, proxy, straight, fault, moment):
    """Cancellation does not wait for the network, and takes nothing away from others."""
    if moment == "idle":
        await warm(pool)
    FAULTS[fault](proxy)
    calls = [kind() for kind in CALLS if kind is not Close]
    tasks = [asyncio.ensure_future(call.run(pool)) for call in calls]
    for _ in range(10):
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    _, pending = await asyncio.wait(tasks, timeout=SLACK)
    assert not pending
    assert pool.get_stats().used == 0
    await proxy.heal()
    for task, call in zip(tasks, calls, strict=True):
        if not task.cancelled() and task.exception() is None:
            await call.check(straight, task.result(), None)
    await check_healed(pool)


async def test_the_server_is_away_for_a_while(pool, proxy):
    """A pool outlives that, and notices when it is over; each call is told meanwhile."""
    for _ in range(3):
        await warm(pool)
        proxy.refuse()
        for _ in range(3):
            with pytest.raises(aiotaos.ConnectionError):
                await pool.fetchval("select 1", timeout=LIMIT)
        assert pool.get_stats().used == 0
        await proxy.heal()
        await check_healed(pool)


async def test_terminate_in_a_fault(proxy):
    """It does not wait for anything."""
    for name in ("hold", "stall", "swallow", "half_close", "refuse"):
        pool = make_pool(proxy.port)
        await pool.open()
        await warm(pool)
        FAULTS[name](proxy)
        task = asyncio.ensure_future(pool.fetchval("select 1", timeout=HEALED))
        for _ in range(5):
            await asyncio.sleep(0)
        pool.terminate()
        with pytest.raises(aiotaos.Error):
            await asyncio.wait_for(task, SLACK)
        assert pool.closed
        await proxy.heal()


# Cut at every place.


async def down_of(pool, proxy, call):
    """How many bytes the server says to a call."""
    before = proxy.down
    await call.run(pool)
    return proxy.down - before


@pytest.mark.parametrize("call", [Query, Fetch], ids=["query", "fetch"])
async def test_a_read_is_cut_anywhere(pool, proxy, straight, call):
    """Nothing of the only block can have been handed out: it is repeated, and right."""
    await warm(pool)
    total = await down_of(pool, proxy, call(HEALED))
    for after in range(1, total, max(total // 30, 1)):
        proxy.cut(after=after, once=True)
        doing = call(HEALED)
        result, error = await end_of(doing, pool)
        if call is Fetch:
            assert error is None
        await doing.check(straight, result, error)
    await proxy.heal()
    await check_healed(pool)


@pytest.mark.parametrize("call", [Execute, Insert], ids=["execute", "insert"])
async def test_a_write_is_cut_anywhere(pool, proxy, straight, call):
    """What is said of it is true: written, not written, or not known."""
    await warm(pool)
    total = await down_of(pool, proxy, call(HEALED))
    known = []
    for after in range(1, total + 1, max(total // 25, 1)):
        proxy.cut(after=after, once=True)
        doing = call(HEALED)
        result, error = await end_of(doing, pool)
        known.append(error is None)
        await doing.check(straight, result, error)
    assert False in known
    await proxy.heal()
    await check_healed(pool)


async def test_logins_are_cut_anywhere(proxy):
    """With attempts left, the next one serves."""
    async with make_pool(proxy.port) as pool:
        total = await down_of(pool, proxy, Acquire(HEALED))
    for after in range(1, total, max(total // 25, 1)):
        proxy.cut(after=after, once=True)
        async with make_pool(proxy.port) as pool:
            result, error = await end_of(Acquire(HEALED), pool)
            assert (result, error) == (1, None)


async def test_many_kinds_of_garbage(proxy):
    """What cannot be a message ends the session, and the next call has another."""
    sql = "select v from d.numbers"
    dsn = f"ws://root:taosdata@127.0.0.1:{proxy.port}/d"
    async with aiotaos.connect(dsn, **OPTIONS | {"conn_retries": 0}) as conn:
        for seed in range(40):
            proxy.garbage(seed)
            with pytest.raises(OperationalError):
                await conn.fetch(sql, timeout=LIMIT)
            await proxy.heal(reset=False)
            assert len(await conn.fetch(sql, timeout=HEALED)) == ROWS
    assert proxy.accepted == 41


# Everything at once.


@pytest.mark.parametrize("seed", range(2))
async def test_storm(pool, proxy, straight, seed):
    """Tasks that come and go, some cancelled, while the network changes its mind."""
    chance = random.Random(seed)
    loop = asyncio.get_running_loop()
    until = loop.time() + 0.8
    ends = []

    async def user(number):
        while loop.time() < until:
            doing = chance.choice([Query, Fetch, Execute, Insert, Acquire])()
            task = asyncio.ensure_future(end_of(doing, pool))
            if chance.random() < 0.2:
                await asyncio.wait([task], timeout=chance.random() * 0.02)
                task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                ends.append((doing, *task.result()))
            await asyncio.sleep(0)

    async def weather():
        while loop.time() < until:
            FAULTS[chance.choice(list(FAULTS))](proxy)
            await asyncio.sleep(chance.random() * 0.03)
            await proxy.heal()
            await asyncio.sleep(chance.random() * 0.05)

    await asyncio.gather(weather(), *(user(number) for number in range(8)))
    await proxy.heal()
    assert {error is None for _, _, error in ends} == {True, False}
    for doing, result, error in ends:
        await doing.check(straight, result, error)
    await check_healed(pool)


# Servers that are none of ours.


async def refused(port, **options):
    """The error of acquiring, which is that of every verb."""
    async with make_pool(port, **{"conn_retries": 0} | options) as pool:
        _, error = await end_of(Acquire(), pool)
        _, same = await end_of(Fetch(), pool)
        assert error is not None
        assert type(error) is type(same)
        assert error.http_status == same.http_status
        await check_idle(pool)
    return error


@pytest.mark.parametrize(
    ("status", "headers", "cls"),
    [
        (404, {}, aiotaos.ConnectionError),
        (401, {"www_authenticate": "Basic"}, AuthenticationError),
        (403, {}, AuthenticationError),
        (503, {"retry_after": "120"}, aiotaos.ConnectionError),
        (503, {}, aiotaos.ConnectionError),
        (429, {"retry_after": "Wed, 21 Oct 2015 07:28:00 GMT"}, aiotaos.ConnectionError),
    ],
)
@pytest.mark.parametrize("retries", [0, 2])
async def test_http_statuses(clean, status, headers, cls, retries):
    async with Speaker(http_answer(status, "no", **headers)) as speaker:
        error = await refused(speaker.port, conn_retries=retries)
    assert type(error) is cls
    assert error.http_status == status
    if status == 503 and headers:
        assert len(speaker.requests) == 2  # it said when it wants to be asked again


@pytest.mark.parametrize(
    ("answer", "at_once", "status"),
    [(SSH_BANNER, True, None), (HTTP_PAGE, False, 200), (b"", False, None), (b"", True, None)],
    ids=["ssh", "page", "nothing", "nothing_at_all"],
)
async def test_something_else(clean, answer, at_once, status):
    async with Speaker(answer, at_once=at_once) as speaker:
        error = await refused(speaker.port)
    assert type(error) is aiotaos.ConnectionError
    assert error.http_status == status


async def test_a_server_that_knows_no_sessions(clean):
    """An adapter of long ago: it says its version, and cannot do more."""
    async with OldAdapter() as old, make_pool(old.port) as pool:
        with pytest.raises(aiotaos.Error, match=r"unknown action|2\.6\.0\.0"):
            await pool.fetchval("select 1", timeout=LIMIT)
        assert pool.get_stats().used == 0
    assert "version" in old.actions


async def test_a_version_that_is_too_old(server):
    """The session is opened as to any adapter; what it can do shows."""
    server.version = "2.6.0.0"
    async with make_pool(server.port) as pool:
        assert await end_of(Acquire(HEALED), pool) == (1, None)
        await check_idle(pool)


async def test_the_server_comes_to_its_senses(proxy, server_port):
    """What was another server is ours from the next call on."""
    async with Speaker(http_answer(503)) as speaker, make_pool(proxy.port) as pool:
        proxy.target_port = speaker.port
        _, error = await end_of(Acquire(), pool)
        assert error is not None
        assert error.http_status == 503
        proxy.target_port = server_port
        await check_healed(pool)

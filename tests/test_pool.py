"""The pool: what it lends and to whom, what it takes back, what it opens and closes by itself."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import re
import socket
import sys
import threading

import pytest

import aiotaos
from aiotaos import (
    AuthenticationError,
    ConnectionLost,
    InterfaceError,
    PoolFull,
    PoolStats,
    ProgrammingError,
    ResultError,
    dict_row,
)
from aiotaos.options import Address
from aiotaos.transport.servers import served

T = 1_700_000_000_000
HERE = re.escape(__file__)
CLOSED = r"^the pool is closed$"
WAS_CLOSED = r"^the pool was closed$"
RELEASED = "the connection was released to its pool; acquire another"
SOON = 0.04  # a max_idle with which a pool looks after its sessions most often


async def turns(condition):
    """Let the loop turn until something is so on this side."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not come to be so")


def with_retries(dsn):
    return dsn.replace("conn_retries=0", "conn_retries=3&retry_backoff_ms=1")


def in_database(dsn, name):
    return dsn.replace("?", f"/{name}?")


def figures(pool):
    """size, idle, used, opening, waiting"""
    stats = pool.get_stats()
    return stats.size, stats.idle, stats.used, stats.opening, stats.waiting


def drop(box):
    """Drop what is in a box for good."""
    box.clear()
    gc.collect()


def living(server):
    return [session for session in server.sessions if not session.ended]


async def waiters(pool, number, **options):
    """Tasks that wait for a connection, in the order in which they came."""
    there = pool.get_stats().waiting
    tasks = []
    for index in range(number):
        tasks.append(asyncio.create_task(pool._acquire(options.get("timeout"))))
        await turns(lambda n=there + index + 1: pool.get_stats().waiting == n)
    return tasks


def zones(server):
    """Have a server take time zones; gives what it was told, with the number of the session."""
    told = []

    async def answer(session, request):
        (option,) = request.args["options"]
        told.append((server.sessions.index(session), option["value"]))
        return [session._text(request)]

    server.handlers["options_connection"] = answer
    return told


# Arguments.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        *(
            ({name: value}, f"{name}: expected a whole number from {least}, got {value!r}")
            for name, least in (("min_size", 0), ("max_size", 1), ("max_waiting", 0))
            for value in (-1, "1", 1.5, True)
        ),
        ({"min_size": None}, "min_size: expected a whole number from 0, got None"),
        ({"max_size": 0}, "max_size: expected a whole number from 1, got 0"),
        ({"min_size": 11}, "min_size: expected at most max_size, 10, got 11"),
        ({"min_size": 3, "max_size": 2}, "min_size: expected at most max_size, 2, got 3"),
        *(
            ({name: value}, f"{name}: expected a positive number of seconds, got {value!r}")
            for name in ("acquire_timeout", "max_idle", "max_lifetime")
            for value in (0, -1.5, "never", None, math.nan, False)
        ),
        *(
            ({name: value}, f"{name}: expected a coroutine function, got {value!r}")
            for name in ("check", "configure", "reset")
            for value in (5, "select 1")
        ),
        ({"hots": "localhost"}, "unknown option 'hots'"),
        ({"on_reconnect": print}, "unknown option 'on_reconnect'"),
        ({"read_timeout": -1}, "read_timeout: expected a positive number of seconds, got -1"),
        ({"database": ""}, "database: expected"),
    ],
)
def test_arguments_are_checked_at_once(arguments, message):
    with pytest.raises(InterfaceError, match=re.escape(message)):
        aiotaos.create_pool("ws://localhost", **arguments)


@pytest.mark.parametrize("dsn", ["localhost", "mysql://localhost", 5])
def test_a_bad_dsn(dsn):
    with pytest.raises(InterfaceError, match=r"dsn: expected|driver 'mysql' is unknown"):
        aiotaos.create_pool(dsn)


def test_the_least_and_the_most_that_arguments_may_be():
    pool = aiotaos.create_pool(
        "ws://localhost",
        min_size=1,
        max_size=1,
        max_waiting=0,
        acquire_timeout=math.inf,
        max_idle=math.inf,
        max_lifetime=1e-9,
        check=None,
        configure=None,
        reset=None,
    )
    assert (pool.get_stats().min_size, pool.get_stats().max_size) == (1, 1)


def test_nothing_is_done_before_it_is_opened():
    """There is no event loop here, and no server."""
    pool = aiotaos.create_pool("ws://127.0.0.1:1,127.0.0.1:2", min_size=2)
    assert not pool.closed
    assert repr(pool) == (
        "<Pool ws://127.0.0.1:1, ws://127.0.0.1:2 new: "
        "0 of 10 used, 0 idle, 0 being opened, 0 waiting>"
    )
    assert pool.get_stats() == PoolStats(
        min_size=2, max_size=10, size=0, idle=0, used=0, opening=0, waiting=0,
        acquired=0, wait_time=0.0, opened=0, closed=0, lost=0, errors=0,
    )  # fmt: skip


async def test_made_without_a_loop_and_opened_in_one(server):
    pool = await asyncio.to_thread(aiotaos.create_pool, server.dsn, min_size=1)
    assert server.sessions == []
    async with pool:
        assert await pool.fetchval("select 1") == 1


async def test_the_environment(server, monkeypatch):
    monkeypatch.setenv("AIOTAOS_DSN", server.dsn + "&user_app=env")
    async with aiotaos.create_pool(min_size=1):
        assert server.logged_in[0]["app"] == "env"


# Opening and closing.


async def test_ways_to_open(server):
    async with aiotaos.create_pool(server.dsn, min_size=1) as first:
        assert await first.fetchval("select 1") == 1
    second = await aiotaos.create_pool(server.dsn, min_size=1)
    assert await second.fetchval("select 1") == 1
    await second.close()
    third = aiotaos.create_pool(server.dsn, min_size=1)
    assert await third.open() is third
    assert not third.closed
    await third.close()
    await third.close()
    assert (first.closed, second.closed, third.closed) == (True, True, True)
    await server.until(lambda: not living(server))
    assert [session.websocket.protocol.close_code for session in server.sessions] == [1000] * 3


async def use(pool, name):
    match name:
        case "async with":
            async with pool.acquire():
                pass
        case "acquire":
            await pool.acquire()
        case "insert":
            await pool.insert("t", [(1, 2)])
        case "writer":
            async with pool.writer("t", tbname="name"):
                pass
        case "schemaless_insert":
            await pool.schemaless_insert("m v=1 1")
        case "drain":
            await pool.drain()
        case "executemany":
            await pool.executemany("insert into t values (?, ?)", [(1, 2)])
        case _:
            await getattr(pool, name)("select 1")


USES = (
    "async with", "acquire", "drain", "execute", "executemany", "query", "fetch", "fetchrow",
    "fetchval", "insert", "writer", "schemaless_insert",
)  # fmt: skip


@pytest.mark.parametrize("name", USES)
async def test_a_pool_that_is_not_open(server, name):
    pool = aiotaos.create_pool(server.dsn)
    not_open = "^the pool is not open: enter it with async with, or await it$"
    with pytest.raises(InterfaceError, match=not_open):
        await use(pool, name)
    await pool.open()
    await pool.close()
    with pytest.raises(InterfaceError, match=CLOSED):
        await use(pool, name)
    assert server.sessions == []


async def test_a_pool_is_opened_once(server):
    async with aiotaos.create_pool(server.dsn) as pool:
        with pytest.raises(InterfaceError, match="a pool is opened once"):
            await pool.open()
        with pytest.raises(InterfaceError, match="a pool is opened once"):
            await pool
        assert await pool.fetchval("select 1") == 1
    with pytest.raises(InterfaceError, match="a pool is opened once"):
        async with pool:
            pass
    never = aiotaos.create_pool(server.dsn)
    await never.close()
    assert never.closed
    with pytest.raises(InterfaceError, match="a pool is opened once"):
        await never.open()


async def test_min_size_is_opened_at_once(server):
    gate = server.hold("conn")
    opening = asyncio.ensure_future(aiotaos.create_pool(server.dsn, min_size=3).open())
    await server.until(lambda: gate.arrived == 3)  # all of them together
    assert not opening.done()
    gate.open()
    pool = await opening
    assert figures(pool) == (3, 3, 0, 0, 0)
    await pool.close()
    assert len(server.sessions) == 3


async def test_none_is_opened_before_it_is_needed(server):
    async with aiotaos.create_pool(server.dsn) as pool:
        assert server.sessions == []
        for _ in range(3):
            assert await pool.fetchval("select 1") == 1
        assert figures(pool) == (1, 1, 0, 0, 0)
    assert len(server.sessions) == 1


async def test_the_first_session_that_cannot_be_opened_ends_the_opening(server):
    server.logins = [(0x0357, "Authentication failure")] * 3
    pool = aiotaos.create_pool(server.dsn, min_size=3)
    with pytest.raises(AuthenticationError, match="Authentication failure"):
        await pool.open()
    assert pool.closed
    assert figures(pool) == (0, 0, 0, 0, 0)
    await server.until(lambda: not living(server))
    with pytest.raises(InterfaceError, match=CLOSED):
        await pool.acquire()


@pytest.mark.parametrize("refused", [0, 1, 2])
async def test_one_of_the_first_sessions_cannot_be_opened(server, refused):
    """Whichever it is."""
    server.logins = [(0, "")] * refused + [(0x0357, "Authentication failure")]
    pool = aiotaos.create_pool(server.dsn, min_size=3)
    try:
        with pytest.raises(AuthenticationError, match="Authentication failure"):
            await pool.open()
    finally:
        await pool.close()
    assert pool.closed
    await server.until(lambda: not living(server))


async def test_opening_is_cancelled(server):
    gate = server.hold("conn", skip=1)
    pool = aiotaos.create_pool(server.dsn, min_size=3)
    opening = asyncio.create_task(pool.open())
    await server.until(lambda: gate.arrived == 3)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert pool.closed
    await server.until(lambda: not living(server))


async def test_no_server(unused_port):
    dsn = f"ws://127.0.0.1:{unused_port}?conn_retries=0"
    pool = aiotaos.create_pool(dsn, min_size=1)
    with pytest.raises(aiotaos.ConnectionError, match="connection refused"):
        await pool.open()
    async with aiotaos.create_pool(dsn) as pool:
        for _ in range(2):
            with pytest.raises(aiotaos.ConnectionError, match="connection refused"):
                await pool.fetchval("select 1")
        assert figures(pool) == (0, 0, 0, 0, 0)
        assert (pool.get_stats().errors, pool.get_stats().opened) == (2, 0)


@pytest.fixture
def unused_port(clean):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


# Waiting.


async def test_first_come_first_served(server):
    order = []

    async def borrow(number):
        async with pool.acquire():
            order.append(number)

    async with aiotaos.create_pool(server.dsn, max_size=1) as pool:
        async with pool.acquire():
            tasks = [asyncio.create_task(borrow(number)) for number in range(5)]
            await turns(lambda: pool.get_stats().waiting == 5)
        await borrow("again")  # the one that gave it back does not overtake them
        await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, 4, "again"]
    assert len(server.sessions) == 1


async def test_first_come_first_served_while_sessions_are_opened(server):
    gate = server.hold("conn")
    async with aiotaos.create_pool(server.dsn, max_size=2) as pool:
        tasks = await waiters(pool, 4)
        await server.until(lambda: gate.arrived == 2)
        assert figures(pool) == (2, 0, 0, 2, 4)
        gate.open()
        connections = await asyncio.gather(*tasks[:2])
        assert [task.done() for task in tasks] == [True, True, False, False]
        for connection, task in zip(connections, tasks[2:], strict=True):
            await pool.release(connection)
            await pool.release(await task)


async def test_a_waiting_task_is_cancelled(server):
    async with aiotaos.create_pool(server.dsn, max_size=1) as pool:
        async with pool.acquire():
            first, second, third = await waiters(pool, 3)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            assert pool.get_stats().waiting == 2
        connection = await first
        assert not third.done()
        await pool.release(connection)
        await pool.release(await third)
        assert figures(pool) == (1, 1, 0, 0, 0)
    assert len(server.sessions) == 1


@pytest.mark.parametrize("cancelled", [1, 2])
async def test_cancelled_in_the_turn_in_which_a_connection_comes(server, cancelled):
    async with aiotaos.create_pool(server.dsn, max_size=1) as pool:
        connection = await pool.acquire()
        tasks = await waiters(pool, 3)
        await pool.release(connection)  # the first one has it now, and does not know it yet
        for task in tasks[:cancelled]:
            task.cancel()
        for task in tasks[:cancelled]:
            with pytest.raises(asyncio.CancelledError):
                await task
        for task in tasks[cancelled:]:
            await pool.release(await task)
        assert figures(pool) == (1, 1, 0, 0, 0)
        assert pool.get_stats().acquired == 1 + 3 - cancelled
    assert len(server.sessions) == 1


async def test_cancelled_while_a_session_is_opened_for_it(server):
    gate = server.hold("conn")
    async with aiotaos.create_pool(server.dsn, max_size=1) as pool:
        (task,) = await waiters(pool, 1)
        await gate.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert figures(pool) == (1, 0, 0, 1, 0)
        (task,) = await waiters(pool, 1)
        assert figures(pool) == (1, 0, 0, 1, 1)  # that one will do
        gate.open()
        await pool.release(await task)
    assert len(server.sessions) == 1


async def test_waiting_too_long(server):
    async with aiotaos.create_pool(server.dsn, max_size=2) as pool:
        async with pool.acquire(), pool.acquire():
            (other,) = await waiters(pool, 1)
            with pytest.raises(aiotaos.TimeoutError) as raised:
                await pool.acquire(timeout=0.05)
            assert str(raised.value) == (
                "no connection within 0.05 s: 2 of 2 used, 0 idle, 0 being opened, 2 waiting"
            )
            assert raised.value.may_have_run is False
            assert isinstance(raised.value, TimeoutError)
            assert pool.get_stats().waiting == 1
            assert pool.get_stats().wait_time >= 0.05
        await pool.release(await other)
        assert pool.get_stats().acquired == 3


async def test_waiting_too_long_for_a_session_that_is_opened(server):
    gate = server.hold("conn")
    async with aiotaos.create_pool(server.dsn, acquire_timeout=0.05) as pool:
        with pytest.raises(aiotaos.TimeoutError) as raised:
            async with pool.acquire():
                pass
        assert str(raised.value) == (
            "no connection within 0.05 s: 0 of 10 used, 0 idle, 1 being opened, 1 waiting"
        )
        gate.open()
        await turns(lambda: pool.get_stats().idle == 1)
    assert len(server.sessions) == 1


async def test_the_limit_of_a_call_holds_for_waiting_too(server):
    async with aiotaos.create_pool(server.dsn, max_size=1) as pool, pool.acquire():
        for call in (pool.fetch, pool.execute, pool.query):
            with pytest.raises(aiotaos.TimeoutError) as raised:
                await call("select 1", timeout=0.05)
            assert raised.value.may_have_run is False
            assert str(raised.value).endswith(": 1 of 1 used, 0 idle, 0 being opened, 1 waiting")
    assert server.session.seen("query") == []


async def test_the_limit_of_a_call_is_told_as_it_was_given(server):
    async with aiotaos.create_pool(server.dsn, max_size=1) as pool, pool.acquire():
        with pytest.raises(aiotaos.TimeoutError, match=r"^no connection within 0\.05 s: 1 of 1"):
            await pool.fetch("select 1", timeout=0.05)


async def test_no_limit(server):
    async with aiotaos.create_pool(server.dsn, max_size=1, acquire_timeout=math.inf) as pool:
        async with pool.acquire():
            first, second = await waiters(pool, 2, timeout=math.inf)
        await pool.release(await first)
        await pool.release(await second)


@pytest.mark.parametrize("timeout", [0, -1, "never", math.nan, True])
async def test_a_bad_timeout(server, timeout):
    async with aiotaos.create_pool(server.dsn) as pool:
        with pytest.raises(InterfaceError, match="timeout: expected a positive number of seconds"):
            pool.acquire(timeout=timeout)
        with pytest.raises(InterfaceError, match="timeout: expected a positive number of seconds"):
            await pool.close(timeout=timeout)
        assert not pool.closed
    assert server.sessions == []


@pytest.mark.parametrize("allowed", [0, 2])
async def test_too_many_wait(server, allowed):
    gate = server.hold("conn")
    async with aiotaos.create_pool(server.dsn, max_size=2, max_waiting=allowed) as pool:
        opened_for = await waiters(pool, 2)  # a session is opened for each: they do not count
        waiting = await waiters(pool, allowed)
        full = (
            "no connection: too many wait already: "
            f"0 of 2 used, 0 idle, 2 being opened, {2 + allowed} waiting"
        )
        with pytest.raises(PoolFull, match=f"^{full}$"):
            await pool.acquire()
        gate.open()
        connections = await asyncio.gather(*opened_for)
        with pytest.raises(PoolFull, match=f"2 of 2 used, .*, {allowed} waiting"):
            await pool.fetch("select 1")
        for connection in connections:
            await pool.release(connection)
        for task in waiting:
            await pool.release(await task)
        assert await pool.fetchval("select 1") == 1
    assert issubclass(PoolFull, aiotaos.OperationalError)


async def test_one_that_gave_up_makes_room_for_another_to_wait(server):
    async with aiotaos.create_pool(server.dsn, max_size=1, max_waiting=1) as pool:
        async with pool.acquire():
            (first,) = await waiters(pool, 1)
            with pytest.raises(PoolFull):
                await pool.acquire()
            first.cancel()
            await asyncio.wait([first])
            (second,) = await waiters(pool, 1)
        await pool.release(await second)


async def test_max_size_and_many_tasks(server):
    used = []

    async def borrow():
        async with pool.acquire() as connection:
            used.append(pool.get_stats().used)
            assert await connection.fetchval("select 1") == 1

    async with aiotaos.create_pool(server.dsn, max_size=5) as pool:
        await asyncio.gather(*(borrow() for _ in range(100)))
        assert max(used) == 5
        assert figures(pool) == (5, 5, 0, 0, 0)
        stats = pool.get_stats()
        assert (stats.acquired, stats.opened, stats.closed) == (100, 5, 0)
    assert len(server.sessions) == 5
    assert sum(len(session.seen("query")) for session in server.sessions) == 100


async def test_a_failure_to_open_is_told_to_those_who_waited_for_it(server):
    gate = server.hold("conn")
    server.logins = [(0x0357, "Authentication failure")] * 2
    async with aiotaos.create_pool(server.dsn, max_size=2) as pool:
        tasks = await waiters(pool, 4)
        await server.until(lambda: gate.arrived == 2)
        gate.open()
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(error) for error in errors[:2]] == [AuthenticationError] * 2
        assert errors[0] is not errors[1]  # each has its own, with its own traceback
        for connection in errors[2:]:  # for whom others were opened
            assert await connection.fetchval("select 1") == 1
            await pool.release(connection)


async def test_a_failure_to_open_is_told_to_one_while_others_may_come_back(server):
    async with aiotaos.create_pool(server.dsn, max_size=2) as pool, pool.acquire():
        server.logins = [(0x0357, "Authentication failure")]
        gate = server.hold("conn")
        first, second = await waiters(pool, 2)
        gate.open()
        with pytest.raises(AuthenticationError):
            await first
        connection = await second  # for whom another was opened
        assert figures(pool) == (2, 0, 2, 0, 0)
        await pool.release(connection)


# After a connection was given back.


async def test_a_released_connection(server):
    server.integers("rows", [1, 2], [3], [4])
    async with aiotaos.create_pool(server.dsn, max_size=1) as pool:
        async with pool.acquire() as connection:
            cursor = connection.cursor()
            await cursor.execute("rows")
            assert await cursor.fetchone() == (1,)
            result = await connection.query("rows")
            assert await result.fetchone() == (1,)
            untouched = await connection.query("rows")
            statement = connection.stmt2_statement()
            assert not connection.closed
            assert repr(connection) == f"<PooledConnection {server.endpoint} open>"
        assert connection.closed
        assert repr(connection) == f"<PooledConnection {server.endpoint} released>"
        with pytest.raises(ResultError, match="the result is closed"):
            await cursor.fetchall()
        for call in (
            connection.execute,
            connection.query,
            connection.fetch,
            connection.fetchrow,
            connection.fetchval,
            connection.prepare,
            connection.set_timezone,
            connection.select_db,
            cursor.execute,
            statement.prepare,
        ):
            with pytest.raises(InterfaceError, match=f"^{RELEASED}"):
                await call("Asia/Tokyo")
        for use in (connection.cursor, connection.stmt2_statement, connection.statement):
            with pytest.raises(InterfaceError, match=f"^{RELEASED}"):
                use()
        with pytest.raises(InterfaceError, match=f"^{RELEASED}"):
            await connection.insert("t", [(1, 2)])
        with pytest.raises(InterfaceError, match=f"^{RELEASED}"):
            await connection.schemaless_insert("m v=1 1")
        with pytest.raises(InterfaceError, match=f"^{RELEASED}"):
            async with connection.writer("t", tbname="name"):
                pass
        with pytest.raises(InterfaceError, match=f"^{RELEASED}"):
            await connection.executemany("insert into t values (?)", [(1,)])
        with pytest.raises(ResultError, match="the result is closed"):
            await anext(aiter(result))
        with pytest.raises(ResultError, match="the result is closed"):
            await anext(untouched.blocks())
        await connection.close()  # does nothing
        await server.until(lambda: server.session.freed == ["rows"] * 3)
        assert await pool.fetchval("select 1") == 1
    assert len(server.sessions) == 1


async def test_a_released_connection_cannot_end_the_session_of_another(server):
    async with aiotaos.create_pool(server.dsn, max_size=1) as pool:
        async with pool.acquire() as former:
            pass
        async with pool.acquire() as connection:
            former.terminate()
            await former.close()
            await pool.release(former)
            assert connection._session.state == "open"
            assert await connection.fetchval("select 1") == 1
        assert figures(pool) == (1, 1, 0, 0, 0)
        assert (pool.get_stats().opened, pool.get_stats().lost) == (1, 0)
    assert len(server.sessions) == 1


async def test_a_result_that_was_read_is_not_given_up(server):
    server.integers("rows", [1, 2])
    async with aiotaos.create_pool(server.dsn) as pool:
        async with pool.acquire() as connection:
            result = await connection.query("rows")
            assert await result.fetchall() == [(1,), (2,)]
        assert (result.closed, result.row_count) == (False, 2)
        assert await result.fetchone() is None


async def test_a_result_that_another_task_reads_when_the_connection_is_released(server):
    server.integers("rows", [1], [2])
    gate = server.hold("fetch_raw_block", "rows")
    async with aiotaos.create_pool(server.dsn) as pool:
        async with pool.acquire() as connection:
            result = await connection.query("rows")
            reading = asyncio.create_task(result.fetchall())
            await gate.reached.wait()
        with pytest.raises(ResultError, match="the result was closed while it was read"):
            await reading
        gate.open()
        await server.until(lambda: server.session.freed == ["rows"])
        assert await pool.fetchval("select 1") == 1


async def test_a_call_that_runs_when_the_connection_is_released(server):
    """What it gets is given up: nobody holds the connection any more."""
    server.integers("rows", [1], [2])
    gate = server.hold("query", "rows")
    async with aiotaos.create_pool(server.dsn) as pool:
        async with pool.acquire() as connection:
            running = asyncio.create_task(connection.query("rows"))
            await gate.reached.wait()
        gate.open()
        with pytest.raises((InterfaceError, ResultError)):
            await (await running).fetchall()
        await server.until(lambda: server.session.freed == ["rows"])


async def test_a_writer_that_is_left_open(clean):
    async with aiotaos.create_pool("embedded://", database="d", max_size=1) as pool:
        await pool.execute("create table m (ts timestamp, v int) tags (g int)")
        async with pool.acquire() as connection:
            writer = await connection.writer("m", tbname="name", tags=["g"]).__aenter__()
            await writer.write({"name": "a", "g": 1, "ts": T, "v": 1})
            await writer.flush()
            await writer.write({"name": "a", "g": 1, "ts": T + 1, "v": 2})
        with pytest.raises(aiotaos.WriteError, match=RELEASED) as raised:
            await writer.aclose()
        assert raised.value.rows == [{"name": "a", "g": 1, "ts": T + 1, "v": 2}]
        assert await pool.fetchval("select count(*) from m") == 1


async def test_a_prepared_statement_is_given_up(clean):
    async with aiotaos.create_pool("embedded://", database="d", max_size=1) as pool:
        await pool.execute("create table t (ts timestamp, v int)")
        async with pool.acquire() as connection:
            statement = await connection.prepare("insert into t values (?, ?)")
            await statement.bind([[T], [1]])
            query = await connection.prepare("select v from t where v > ?")
        assert (statement.closed, statement.bound, query.closed) == (True, 0, True)
        with pytest.raises(InterfaceError, match=f"^{RELEASED}"):
            await statement.execute()
        with pytest.raises(InterfaceError, match=f"^{RELEASED}"):
            await statement.bind([[T], [1]])
        with pytest.raises(InterfaceError, match=f"^{RELEASED}"):
            await query.fetch(0)
        assert await pool.fetchval("select count(*) from t") == 0


async def test_released_twice(server):
    async with aiotaos.create_pool(server.dsn, max_size=1) as pool:
        async with pool.acquire() as first:
            await pool.release(first)
            second = await pool.acquire()
            await pool.release(first)  # it is not the second's to give back
            assert figures(pool) == (1, 0, 1, 0, 0)
        assert figures(pool) == (1, 0, 1, 0, 0)
        assert await second.fetchval("select 1") == 1
        await pool.release(second)
        assert figures(pool) == (1, 1, 0, 0, 0)


async def test_a_connection_of_another_pool(server, conn):
    async with (
        aiotaos.create_pool(server.dsn) as pool,
        aiotaos.create_pool(server.dsn) as other,
        other.acquire() as foreign,
    ):
        for stranger in (foreign, conn, None, pool.acquire()):
            with pytest.raises(InterfaceError, match="connection: expected one of this pool, got"):
                await pool.release(stranger)
        assert await foreign.fetchval("select 1") == 1
        assert figures(other) == (1, 0, 1, 0, 0)


async def test_an_error_in_the_body_gives_it_back(server):
    async with aiotaos.create_pool(server.dsn) as pool:
        with pytest.raises(ZeroDivisionError):
            async with pool.acquire():
                raise ZeroDivisionError
        with pytest.raises(ZeroDivisionError):
            async with await pool.acquire():
                raise ZeroDivisionError
        assert figures(pool) == (1, 1, 0, 0, 0)
    other = aiotaos.create_pool(server.dsn, min_size=1)
    with pytest.raises(ZeroDivisionError):
        async with other:
            raise ZeroDivisionError
    assert other.closed


async def test_a_cancelled_borrower_gives_it_back(server):
    server.integers("slow", [1])
    gate = server.hold("query", "slow")

    async def borrow():
        async with pool.acquire() as connection:
            await connection.fetch("slow")

    async with aiotaos.create_pool(server.dsn) as pool:
        task = asyncio.create_task(borrow())
        await gate.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert figures(pool) == (1, 1, 0, 0, 0)
        assert await pool.fetchval("select 1") == 1
        gate.open()
        await server.until(lambda: server.session.freed == ["slow"])
    assert len(server.sessions) == 1


async def test_a_borrower_closes_it(server):
    async with aiotaos.create_pool(server.dsn, max_size=1) as pool:
        connection = await pool.acquire()
        (waiting,) = await waiters(pool, 1)
        await connection.close()
        await connection.close()
        await pool.release(connection)
        assert connection.closed
        assert repr(connection) == f"<PooledConnection {server.endpoint} closed>"
        with pytest.raises(InterfaceError, match="is closed"):
            await connection.fetch("select 1")
        other = await waiting
        assert await other.fetchval("select 1") == 1
        await pool.release(other)
        assert figures(pool) == (1, 1, 0, 0, 0)
        stats = pool.get_stats()
        assert (stats.opened, stats.closed, stats.lost) == (2, 1, 0)
    assert [session.websocket.protocol.close_code for session in server.sessions] == [1000] * 2


async def test_a_bad_timeout_for_the_close_of_a_borrowed_one(server):
    """Nothing has happened then: it is borrowed still."""
    async with aiotaos.create_pool(server.dsn, max_size=1) as pool:
        async with pool.acquire() as connection:
            with pytest.raises(InterfaceError, match="timeout: expected a positive number"):
                await connection.close(timeout=0)
            assert not connection.closed
            assert await connection.fetchval("select 1") == 1
            assert figures(pool) == (1, 0, 1, 0, 0)
        assert figures(pool) == (1, 1, 0, 0, 0)
        assert pool.get_stats().closed == 0


async def test_a_borrower_terminates_it(server):
    server.may_leave = True
    server.integers("rows", [1], [2])
    async with aiotaos.create_pool(server.dsn, max_size=1) as pool:
        connection = await pool.acquire()
        await connection.query("rows")
        (waiting,) = await waiters(pool, 1)
        connection.terminate()
        connection.terminate()
        await pool.release(connection)
        assert connection.closed
        await server.until(lambda: server.sessions[0].ended)
        other = await waiting
        assert await other.fetchval("select 1") == 1
        await pool.release(other)
        assert figures(pool) == (1, 1, 0, 0, 0)
        assert (pool.get_stats().opened, pool.get_stats().closed) == (2, 1)


# The state of a session is put back.


async def test_use_is_put_back(server):
    dsn = in_database(server.dsn, "power")
    async with aiotaos.create_pool(dsn, max_size=1) as pool:
        async with pool.acquire() as connection:
            await connection.execute("use water")
            assert connection.database == "water"
        async with pool.acquire() as connection:
            assert connection.database == "power"
            await connection.select_db("gas")
        async with pool.acquire() as connection:
            assert connection.database == "power"
    assert len(server.sessions) == 1
    assert [request.sql for request in server.session.seen("query")] == [
        "use water", "use `power`", "use `gas`", "use `power`",
    ]  # fmt: skip


async def test_a_database_that_the_server_spells_otherwise(server):
    async with aiotaos.create_pool(in_database(server.dsn, "Power"), max_size=1) as pool:
        for _ in range(2):
            await pool.execute("use water")
        async with pool.acquire() as connection:
            assert connection.database == "Power"
    assert len(server.sessions) == 1


async def test_what_is_not_changed_is_not_put_back(server):
    async with aiotaos.create_pool(in_database(server.dsn, "power"), max_size=1) as pool:
        for _ in range(3):
            assert await pool.fetchval("select 1") == 1
        async with pool.acquire() as connection:
            await connection.execute("use power")
    assert [request.sql for request in server.session.seen("query")] == ["select 1"] * 3 + [
        "use power"
    ]
    assert len(server.sessions) == 1


async def test_use_cannot_be_undone_without_a_database(server):
    async with aiotaos.create_pool(server.dsn, max_size=1) as pool:
        await pool.execute("use water")
        async with pool.acquire() as connection:
            assert connection.database is None
            assert await connection.fetchval("select 1") == 1
        assert (pool.get_stats().opened, pool.get_stats().closed) == (2, 1)
        await server.until(lambda: server.sessions[0].ended)
    assert [session.database for session in server.sessions] == ["water", ""]


async def test_a_database_that_is_gone(server, caplog):
    async with aiotaos.create_pool(in_database(server.dsn, "power"), max_size=1) as pool:
        async with pool.acquire() as connection:
            await connection.execute("use water")
            server.refuse("use `power`", 0x0388, "Database not exist")
        async with pool.acquire() as connection:
            assert connection.database == "power"
    assert len(server.sessions) == 2
    (record,) = [record for record in caplog.records if record.name == "aiotaos.pool"]
    assert record.levelname == "WARNING"
    assert "a session could not be put back, it is replaced: [0x0388] Database not exist" in (
        record.getMessage()
    )


async def test_use_is_cancelled_in_flight(server):
    gate = server.hold("get_current_db")
    async with aiotaos.create_pool(in_database(server.dsn, "power"), max_size=1) as pool:
        async with pool.acquire() as connection:
            task = asyncio.create_task(connection.execute("use water"))
            await gate.reached.wait()
            task.cancel()
            await asyncio.wait([task])
        gate.open()
        async with pool.acquire() as connection:
            assert connection.database == "power"
        assert server.session.database == "power"
    assert len(server.sessions) == 2


async def test_use_runs_when_the_connection_is_released(server):
    gate = server.hold("query", "use water")
    async with aiotaos.create_pool(in_database(server.dsn, "power"), max_size=1) as pool:
        async with pool.acquire() as connection:
            task = asyncio.create_task(connection.execute("use water"))
            await gate.reached.wait()
        gate.open()
        await asyncio.wait([task])
        async with pool.acquire() as connection:
            assert connection.database == "power"
            assert server.session.database == "power"
        if task.exception() is not None:
            assert isinstance(task.exception(), InterfaceError)
    assert len(server.sessions) == 2


@pytest.mark.parametrize("zone", [None, "Europe/Paris"])
async def test_the_time_zone_is_put_back(server, zone):
    told = zones(server)
    async with aiotaos.create_pool(server.dsn, max_size=1, timezone=zone) as pool:
        async with pool.acquire() as connection:
            await connection.set_timezone("Asia/Tokyo")
            assert connection.timezone == "Asia/Tokyo"
        async with pool.acquire() as connection:
            assert connection.timezone == zone
            await connection.set_timezone("Asia/Tokyo")
            await connection.set_timezone(zone)
        async with pool.acquire() as connection:
            assert connection.timezone == zone
    assert told == [(0, "Asia/Tokyo"), (0, zone), (0, "Asia/Tokyo"), (0, zone)]


async def test_set_timezone_is_cancelled_in_flight(server):
    """The server may have it: it is put back, or the session is replaced."""
    told = zones(server)
    gate = server.hold("options_connection")
    async with aiotaos.create_pool(server.dsn, max_size=1) as pool:
        async with pool.acquire() as connection:
            task = asyncio.create_task(connection.set_timezone("Asia/Tokyo"))
            await gate.reached.wait()
            task.cancel()
            await asyncio.wait([task])
        gate.open()
        await server.until(lambda: told or server.sessions[0].ended)
        async with pool.acquire() as connection:
            assert connection.timezone is None
            assert len(server.sessions) == 2 or told == [(0, "Asia/Tokyo"), (0, None)]


async def test_the_row_factory_is_put_back(server):
    server.integers("rows", [1])
    async with aiotaos.create_pool(server.dsn, max_size=1, row_factory=dict_row) as pool:
        async with pool.acquire() as connection:
            assert await connection.fetch("rows") == [{"v": 1}]
            connection.row_factory = aiotaos.tuple_row
            assert await connection.fetch("rows") == [(1,)]
        async with pool.acquire() as connection:
            assert await connection.fetch("rows") == [{"v": 1}]
        assert await pool.fetch("rows") == [{"v": 1}]
        assert await pool.fetch("rows", row_factory=aiotaos.tuple_row) == [(1,)]


# check, configure, reset.


async def test_check_passes(server):
    checked = []

    async def check(connection):
        checked.append(connection)
        assert await connection.fetchval("select 1") == 1

    async with aiotaos.create_pool(server.dsn, check=check) as pool:
        async with pool.acquire() as first:
            assert checked == [first]
        async with pool.acquire() as second:
            assert checked == [first, second]
        assert await pool.fetchval("select 1") == 1
    assert len(checked) == 3
    assert len(server.sessions) == 1


async def test_the_ready_check(server):
    check = aiotaos.Pool.check_connection
    async with aiotaos.create_pool(server.dsn, check=check) as pool:
        async with pool.acquire():
            assert [request.sql for request in server.session.seen("query")] == ["select 1"]
        async with pool.acquire():
            assert len(server.session.seen("query")) == 2


async def test_check_raises(server):
    """The session is replaced, and nobody notices."""
    checked = []

    async def check(connection):
        checked.append(connection)
        if len(checked) in (2, 3):
            raise ValueError("not today")

    async with aiotaos.create_pool(with_retries(server.dsn), check=check, max_size=1) as pool:
        async with pool.acquire() as connection:
            pass
        async with pool.acquire() as connection:
            assert connection is checked[3]
            assert await connection.fetchval("select 1") == 1
        stats = pool.get_stats()
        assert (stats.opened, stats.closed, stats.size) == (3, 2, 1)
        assert stats.acquired == 2  # those that did not pass were not lent to anybody
    assert [session.ended for session in server.sessions] == [True] * 3


async def test_check_always_raises(server):
    async def check(connection):
        raise ValueError("never")

    async with aiotaos.create_pool(
        with_retries(server.dsn), check=check, max_size=1, acquire_timeout=0.5
    ) as pool:
        with pytest.raises(aiotaos.TimeoutError, match=r"^no connection within 0\.5 s: "):
            await pool.acquire()
        await turns(lambda: not pool.get_stats().opening)
        assert 2 < len(server.sessions) < 100
    await server.until(lambda: not living(server))


async def test_check_raises_and_there_is_no_time_for_another(server):
    async def check(connection):
        raise ValueError("never")

    slow = {"retry_backoff_ms": 60_000, "retry_backoff_max_ms": 60_000}
    async with aiotaos.create_pool(server.dsn, check=check, max_size=1, **slow) as pool:
        with pytest.raises(aiotaos.TimeoutError, match=r"^no connection within 5 s: ") as raised:
            await pool.acquire(timeout=5)
        assert str(raised.value.__cause__) == "never"
        assert figures(pool) == (0, 0, 0, 0, 0)
    assert len(server.sessions) == 1


async def test_the_pool_is_closed_while_a_check_runs(server):
    failing = asyncio.Event()

    async def check(connection):
        await failing.wait()
        raise ValueError("too late")

    pool = await aiotaos.create_pool(with_retries(server.dsn), check=check)
    task = asyncio.create_task(pool._acquire(2))
    await turns(lambda: pool.get_stats().used == 1)
    await pool.close(timeout=0.01)
    failing.set()
    with pytest.raises(InterfaceError, match="closed"):
        await task


async def test_check_hangs(server):
    async def check(connection):
        await connection.fetch("slow")

    server.integers("slow", [1])
    gate = server.hold("query", "slow")
    async with aiotaos.create_pool(server.dsn, check=check, max_size=1, min_size=1) as pool:
        with pytest.raises(aiotaos.TimeoutError, match=r"^no connection within 0\.3 s: "):
            await pool.acquire(timeout=0.3)
        assert figures(pool) == (0, 0, 0, 0, 0)
        gate.open()
        server.may_leave = True
        async with pool.acquire() as connection:
            assert await connection.fetchval("select 1") == 1
    assert len(server.sessions) == 2


async def test_check_is_cancelled(server):
    async def check(connection):
        await connection.fetch("slow")

    server.integers("slow", [1])
    gate = server.hold("query", "slow")
    async with aiotaos.create_pool(server.dsn, check=check, max_size=1) as pool:
        task = asyncio.create_task(pool._acquire(None))
        await gate.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert figures(pool) == (1, 1, 0, 0, 0)
        gate.open()
        await pool.release(await pool.acquire())
    assert len(server.sessions) == 1


async def test_configure(server):
    """Once for each session; what it sets is what a session is put back to."""
    told = zones(server)
    configured = []

    async def configure(connection):
        configured.append(connection)
        await connection.execute("use water")
        await connection.set_timezone("Asia/Tokyo")

    dsn = in_database(server.dsn, "power")
    async with aiotaos.create_pool(dsn, configure=configure, max_size=1) as pool:
        async with pool.acquire() as connection:
            assert (connection.database, connection.timezone) == ("water", "Asia/Tokyo")
        async with pool.acquire() as connection:
            await connection.execute("use gas")
            await connection.set_timezone(None)
        async with pool.acquire() as connection:
            assert (connection.database, connection.timezone) == ("water", "Asia/Tokyo")
    assert len(configured) == 1
    assert configured[0].closed  # it was for that moment
    assert told == [(0, "Asia/Tokyo"), (0, None), (0, "Asia/Tokyo")]
    assert [request.sql for request in server.session.seen("query")] == [
        "use water", "use gas", "use `water`",
    ]  # fmt: skip


async def test_configure_after_a_reconnect(server):
    async def configure(connection):
        await connection.execute("configure")

    server.affect("configure", 0)
    dsn = with_retries(server.dsn)
    async with aiotaos.create_pool(dsn, configure=configure, max_size=1) as pool:
        async with pool.acquire() as connection:
            server.session.abort()
            assert await connection.fetchval("select 1") == 1
        assert pool.get_stats().lost == 1
        assert pool.get_stats().opened == 1
        assert await pool.fetchval("select 1") == 1
    assert [[request.sql for request in session.seen("query")] for session in server.sessions][
        1
    ] == ["configure", "select 1", "select 1"]
    assert server.sessions[0].seen("query")[0].sql == "configure"
    assert len(server.sessions) == 2


async def test_a_reconnect_does_not_make_a_borrowers_state_the_pools(server):
    """With ``configure``, that has nothing to do with it."""
    zones(server)

    async def configure(connection):
        await connection.execute("configure")

    server.affect("configure", 0)
    dsn = in_database(with_retries(server.dsn), "power")
    async with aiotaos.create_pool(dsn, configure=configure, max_size=1) as pool:
        async with pool.acquire() as connection:
            await connection.execute("use water")
            await connection.set_timezone("Asia/Tokyo")
            server.session.abort()
            assert await connection.fetchval("select 1") == 1
            assert (connection.database, connection.timezone) == ("water", "Asia/Tokyo")
        async with pool.acquire() as connection:
            assert (connection.database, connection.timezone) == ("power", None)


async def test_configure_raises(server):
    async def configure(connection):
        raise ValueError("not like this")

    async with aiotaos.create_pool(server.dsn, configure=configure) as pool:
        with pytest.raises(ValueError, match="not like this"):
            await pool.acquire()
        assert figures(pool) == (0, 0, 0, 0, 0)
        stats = pool.get_stats()
        assert (stats.opened, stats.closed, stats.errors) == (1, 1, 1)
        await server.until(lambda: not living(server))
    pool = aiotaos.create_pool(server.dsn, configure=configure, min_size=1)
    with pytest.raises(ValueError, match="not like this"):
        await pool.open()
    assert pool.closed
    await server.until(lambda: not living(server))


class TwoFacts(Exception):
    """An exception that ``copy.copy`` cannot make again."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


async def test_configure_raises_what_cannot_be_copied(server):
    async def configure(connection):
        raise TwoFacts("this", "that")

    async with aiotaos.create_pool(server.dsn, configure=configure) as pool:
        with pytest.raises(TwoFacts, match="this and that"):
            await pool.acquire(timeout=1)


async def test_reset(server):
    given_back = []

    async def reset(connection):
        given_back.append(connection)
        await connection.execute("reset")

    server.affect("reset", 0)
    async with aiotaos.create_pool(server.dsn, reset=reset, max_size=1) as pool:
        async with pool.acquire():
            assert given_back == []
        assert await pool.fetchval("select 1") == 1
        async with pool.acquire():
            assert len(given_back) == 2
    assert [request.sql for request in server.session.seen("query")] == [
        "reset", "select 1", "reset", "reset",
    ]  # fmt: skip
    assert given_back[0].closed
    assert len(server.sessions) == 1


async def test_reset_comes_after_the_state_is_put_back(server):
    async def reset(connection):
        assert connection.database == "power"
        await connection.execute("reset")

    server.affect("reset", 0)
    async with aiotaos.create_pool(
        in_database(server.dsn, "power"), reset=reset, max_size=1
    ) as pool:
        await pool.execute("use water")
        await pool.execute("reset")
    assert [request.sql for request in server.session.seen("query")] == [
        "use water", "use `power`", "reset", "reset", "reset",
    ]  # fmt: skip


async def test_reset_raises(server, caplog):
    async def reset(connection):
        if len(server.sessions) == 1:
            raise ValueError("beyond repair")

    async with aiotaos.create_pool(server.dsn, reset=reset, max_size=1) as pool:
        assert await pool.fetchval("select 1") == 1
        assert await pool.fetchval("select 1") == 1
        await turns(lambda: figures(pool) == (1, 1, 0, 0, 0))
        assert (pool.get_stats().opened, pool.get_stats().closed) == (2, 1)
        await server.until(lambda: server.sessions[0].ended)
    (record,) = [record for record in caplog.records if record.name == "aiotaos.pool"]
    assert record.getMessage().endswith(
        "a session could not be put back, it is replaced: beyond repair"
    )


async def test_reset_hangs(server, caplog):
    async def reset(connection):
        if len(server.sessions) == 1:
            await asyncio.Event().wait()

    async with aiotaos.create_pool(
        server.dsn, reset=reset, max_size=1, connect_timeout=0.5
    ) as pool:
        assert await pool.fetchval("select 1") == 1
        assert figures(pool) == (1, 0, 1, 0, 0)
        assert await pool.fetchval("select 1", timeout=5) == 1
        assert pool.get_stats().opened == 2
        await server.until(lambda: server.sessions[0].ended)
    assert "a session could not be put back, it is replaced" in caplog.text


async def test_reset_leaves_another_database(server):
    async def reset(connection):
        if len(server.sessions) == 1:
            await connection.execute("use water")

    async with aiotaos.create_pool(
        in_database(server.dsn, "power"), reset=reset, max_size=1
    ) as pool:
        assert await pool.fetchval("select 1") == 1
        async with pool.acquire() as connection:
            assert connection.database == "power"
    assert len(server.sessions) == 2


# Upkeep: lost, idle, old.


async def lose(server, pool):
    """Cut the line of the session that came last; the pool's idle one knows it then."""
    await server.until(lambda: not server.session.results)
    server.session.abort()
    await turns(lambda: any(member.is_lost for member in pool._members._idle))


async def test_a_broken_idle_session_is_replaced_by_acquire(server):
    async with aiotaos.create_pool(server.dsn) as pool:
        assert await pool.fetchval("select 1") == 1
        await lose(server, pool)
        async with pool.acquire() as connection:
            assert figures(pool) == (1, 0, 1, 0, 0)
            assert await connection.fetchval("select 1") == 1
        stats = pool.get_stats()
        assert (stats.opened, stats.closed, stats.lost) == (2, 1, 1)
    assert len(server.sessions) == 2


async def test_one_of_several_idle_sessions_is_broken(server):
    async with aiotaos.create_pool(server.dsn, min_size=2) as pool:
        await lose(server, pool)
        async with pool.acquire() as connection:
            assert await connection.fetchval("select 1") == 1
    assert len(server.sessions[0].seen("query")) == 1


async def test_a_session_that_is_lost_while_it_is_borrowed_opens_itself_again(server):
    async with aiotaos.create_pool(in_database(server.dsn, "power"), max_size=1) as pool:
        async with pool.acquire() as connection:
            server.session.abort()
            await turns(lambda: connection._session.state == "lost")
            assert not connection.closed
            assert await connection.fetchval("select 1") == 1
            await server.until(lambda: not server.session.results)
            server.session.abort()
            await turns(lambda: connection._session.state == "lost")
            assert await connection.fetchval("select 1") == 1
        assert figures(pool) == (1, 1, 0, 0, 0)
        assert await pool.fetchval("select 1") == 1
        stats = pool.get_stats()
        assert (stats.opened, stats.closed, stats.lost) == (1, 0, 2)
    assert len(server.sessions) == 3


async def test_a_session_that_is_lost_comes_back_lost(server):
    async with aiotaos.create_pool(server.dsn, max_size=1) as pool:
        async with pool.acquire() as connection:
            (waiting,) = await waiters(pool, 1)
            server.session.abort()
            await turns(lambda: connection._session.state == "lost")
        await pool.release(await waiting)
        stats = pool.get_stats()
        assert (stats.opened, stats.closed, stats.lost) == (2, 1, 1)
    assert len(server.sessions) == 2


async def test_min_size_is_kept_after_losses(server):
    async with aiotaos.create_pool(server.dsn, min_size=2, max_idle=SOON) as pool:
        for session in server.sessions[:]:
            session.abort()
        await server.until(lambda: len(server.logged_in) == 4)
        await turns(lambda: figures(pool) == (2, 2, 0, 0, 0))
        stats = pool.get_stats()
        assert (stats.opened, stats.closed, stats.lost, stats.errors) == (4, 2, 2, 0)


async def test_min_size_is_kept_when_the_server_was_away(server):
    async with aiotaos.create_pool(server.dsn, min_size=1, max_idle=SOON) as pool:
        server.logins = [(0x0125, "not ready")] * 2
        server.session.abort()
        await server.until(lambda: len(server.logged_in) == 4)
        await turns(lambda: figures(pool) == (1, 1, 0, 0, 0))
        assert pool.get_stats().errors == 2
        assert await pool.fetchval("select 1") == 1


async def test_idle_sessions_are_closed_down_to_min_size(server):
    async with aiotaos.create_pool(server.dsn, min_size=1, max_size=4, max_idle=SOON) as pool:
        for connection in [await pool.acquire() for _ in range(4)]:
            await pool.release(connection)
        assert len(server.sessions) == 4
        await server.until(lambda: len(living(server)) == 1)
        async with aiotaos.create_pool(server.dsn, min_size=1, max_size=1, max_idle=SOON) as other:
            other.resize(min_size=0)
            await server.until(lambda: server.session.ended)  # so much time has gone by
        assert len(living(server)) == 1
        assert figures(pool) == (1, 1, 0, 0, 0)
        stats = pool.get_stats()
        assert (stats.opened, stats.closed, stats.lost) == (4, 3, 0)
        assert await pool.fetchval("select 1") == 1
    assert len(server.sessions) == 5


async def test_what_is_used_is_not_idle(server):
    async with (
        aiotaos.create_pool(server.dsn, max_idle=SOON) as pool,
        pool.acquire() as connection,
    ):
        async with aiotaos.create_pool(server.dsn, max_idle=SOON) as other:
            assert await other.fetchval("select 1") == 1
            await server.until(lambda: server.sessions[1].ended)
        assert await connection.fetchval("select 1") == 1
        assert len(server.sessions) == 2


async def test_an_old_idle_session_is_replaced(server):
    async with aiotaos.create_pool(server.dsn, min_size=1, max_lifetime=0.1) as pool:
        await server.until(lambda: len(server.logged_in) == 3)
        await server.until(lambda: server.sessions[0].ended and server.sessions[1].ended)
        assert await pool.fetchval("select 1") == 1
        assert pool.get_stats().lost == 0
        assert pool.get_stats().errors == 0


async def test_an_old_session_is_replaced_when_it_is_given_back(server):
    async with aiotaos.create_pool(server.dsn, max_size=1, max_lifetime=1e-6) as pool:
        async with pool.acquire() as connection:
            assert await connection.fetchval("select 1") == 1
            assert not server.session.ended
        assert figures(pool) == (0, 0, 0, 0, 0)
        await server.until(lambda: server.session.ended)
        async with pool.acquire():
            assert len(server.sessions) == 2


async def test_sessions_do_not_all_grow_old_at_once(server):
    async with aiotaos.create_pool(server.dsn, min_size=30, max_size=30, max_lifetime=1000) as pool:
        now = asyncio.get_running_loop().time()
        left = sorted(member.expires - now for member in pool._members._idle)
        assert 890 < left[0] < 950 < left[-1] <= 1000
        assert len(set(left)) == 30


async def test_without_limits_of_age(server):
    async with aiotaos.create_pool(
        server.dsn, min_size=1, max_idle=math.inf, max_lifetime=math.inf
    ) as pool:
        assert pool._members._idle[0].expires == math.inf
        pool._members._look_after()
        assert figures(pool) == (1, 1, 0, 0, 0)
        assert await pool.fetchval("select 1") == 1
    assert len(server.sessions) == 1


# Other sizes, other sessions.


async def test_more_are_allowed(server):
    async with aiotaos.create_pool(server.dsn, max_size=1) as pool:
        connection = await pool.acquire()
        first, second, third = await waiters(pool, 3)
        pool.resize(max_size=3)
        assert figures(pool) == (3, 0, 1, 2, 3)
        for task in (first, second):
            await pool.release(await task)
        await pool.release(await third)
        await pool.release(connection)
        pool.resize(min_size=2)
        assert (pool.get_stats().min_size, pool.get_stats().max_size) == (2, 3)
    assert len(server.sessions) == 3


async def test_more_are_wanted(server):
    async with aiotaos.create_pool(server.dsn) as pool:
        pool.resize(min_size=2)
        assert figures(pool) == (2, 0, 0, 2, 0)
        await turns(lambda: figures(pool) == (2, 2, 0, 0, 0))


async def test_fewer_are_allowed(server):
    async with aiotaos.create_pool(server.dsn, min_size=1, max_size=5) as pool:
        connections = [await pool.acquire() for _ in range(4)]
        await pool.release(connections[0])
        pool.resize(max_size=2)
        await server.until(lambda: server.sessions[0].ended)  # the idle one, at once
        assert figures(pool) == (3, 0, 3, 0, 0)
        await pool.release(connections[1])
        await server.until(lambda: server.sessions[1].ended)
        assert figures(pool) == (2, 0, 2, 0, 0)
        await pool.release(connections[2])
        await pool.release(connections[3])
        assert figures(pool) == (2, 2, 0, 0, 0)
        assert pool.get_stats().closed == 2


async def test_fewer_are_allowed_than_are_being_opened(server):
    gate = server.hold("conn")
    async with aiotaos.create_pool(server.dsn, max_size=3) as pool:
        tasks = await waiters(pool, 3)
        await server.until(lambda: gate.arrived == 3)
        pool.resize(max_size=1)
        for task in tasks[1:]:
            task.cancel()
        await asyncio.wait(tasks[1:])
        gate.open()
        await pool.release(await tasks[0])
        await turns(lambda: not pool.get_stats().opening)
        assert figures(pool) == (1, 1, 0, 0, 0)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"max_size": 0}, "max_size: expected a whole number from 1, got 0"),
        ({"min_size": -1}, "min_size: expected a whole number from 0, got -1"),
        ({"min_size": 4}, "min_size: expected at most max_size, 3, got 4"),
        ({"max_size": 1}, "min_size: expected at most max_size, 1, got 2"),
        ({"min_size": 2.0}, "min_size: expected a whole number from 0, got 2.0"),
    ],
)
async def test_sizes_that_cannot_be(server, sizes, message):
    async with aiotaos.create_pool(server.dsn, min_size=2, max_size=3) as pool:
        with pytest.raises(InterfaceError, match=f"^{message}$"):
            pool.resize(**sizes)
        assert (pool.get_stats().min_size, pool.get_stats().max_size) == (2, 3)
        assert figures(pool) == (2, 2, 0, 0, 0)


async def test_resized_before_it_is_opened(server):
    pool = aiotaos.create_pool(server.dsn)
    pool.resize(min_size=2, max_size=2)
    async with pool:
        assert figures(pool) == (2, 2, 0, 0, 0)


async def test_drain(server):
    async with aiotaos.create_pool(server.dsn, min_size=1) as pool:
        borrowed, idle = await pool.acquire(), await pool.acquire()
        await pool.release(idle)
        await pool.drain()
        await server.until(lambda: server.sessions[1].ended)
        assert not server.sessions[0].ended
        assert await borrowed.fetchval("select 1") == 1
        async with pool.acquire() as connection:
            assert await connection.fetchval("select 1") == 1
            assert len(server.sessions) == 3
        await pool.release(borrowed)
        await server.until(lambda: server.sessions[0].ended)
        assert figures(pool) == (1, 1, 0, 0, 0)
        assert (pool.get_stats().opened, pool.get_stats().closed) == (3, 2)


async def test_drain_keeps_min_size(server):
    async with aiotaos.create_pool(server.dsn, min_size=2) as pool:
        await pool.drain()
        assert figures(pool) == (2, 0, 0, 2, 0)
        await server.until(lambda: len(server.logged_in) == 4 and len(living(server)) == 2)
        await turns(lambda: figures(pool) == (2, 2, 0, 0, 0))


# The end.


async def test_close_waits_for_what_is_borrowed(server):
    pool = await aiotaos.create_pool(server.dsn, min_size=2)
    connection = await pool.acquire()
    closing = asyncio.create_task(pool.close())
    await server.until(lambda: len(living(server)) == 1)  # the idle one is closed at once
    assert pool.closed
    assert not closing.done()
    assert await connection.fetchval("select 1") == 1
    with pytest.raises(InterfaceError, match=CLOSED):
        await pool.acquire()
    await pool.release(connection)
    await closing
    assert figures(pool) == (0, 0, 0, 0, 0)
    assert [session.websocket.protocol.close_code for session in server.sessions] == [1000] * 2
    assert pool.get_stats().closed == 2


async def test_close_without_end(server):
    pool = await aiotaos.create_pool(server.dsn, min_size=2)
    connection = await pool.acquire()
    closing = asyncio.create_task(pool.close(timeout=math.inf))
    await server.until(lambda: len(living(server)) == 1)
    await connection.close()
    await closing


async def test_close_does_not_wait_for_ever(server, caplog):
    pool = await aiotaos.create_pool(server.dsn)
    first, second = await pool.acquire(), await pool.acquire()
    await pool.close(timeout=0.05)
    await server.until(lambda: not living(server))
    (record,) = [record for record in caplog.records if record.name == "aiotaos.pool"]
    assert record.levelname == "WARNING"
    assert record.getMessage() == "connections that were not returned within 0.05 s: 2"
    for connection in (first, second):
        with pytest.raises(InterfaceError, match="closed"):
            await connection.fetch("select 1")
        await pool.release(connection)
    assert figures(pool) == (0, 0, 0, 0, 0)


async def test_what_was_dropped_counts_once(server):
    pool = await aiotaos.create_pool(server.dsn)
    first, second = await pool.acquire(), await pool.acquire()
    await pool.close(timeout=0.01)
    await pool.release(first)
    await second.close()
    stats = pool.get_stats()
    assert (stats.opened, stats.closed, stats.lost) == (2, 2, 0)


async def test_close_tells_where_connections_were_taken(server, caplog):
    asyncio.get_running_loop().set_debug(True)
    pool = await aiotaos.create_pool(server.dsn)
    connection = await pool.acquire()
    line = sys._getframe().f_lineno - 1
    await pool.close(timeout=0.01)
    (record,) = [record for record in caplog.records if record.name == "aiotaos.pool"]
    assert record.getMessage().startswith(
        "connections that were not returned within 0.01 s: 1; taken at: "
        f"{__file__}:{line} in test_close_tells_where_connections_were_taken"
    )
    await pool.release(connection)


async def test_close_tells_where_results_were_taken(server, caplog):
    """The caller of a verb of the pool has a connection too."""
    server.may_leave = True
    server.integers("rows", [1], [2])
    asyncio.get_running_loop().set_debug(True)
    pool = await aiotaos.create_pool(server.dsn)
    result = await pool.query("rows")
    line = sys._getframe().f_lineno - 1
    await pool.close(timeout=0.01)
    assert f"{__file__}:{line} in test_close_tells_where_results_were_taken" in caplog.text
    await result.aclose()


async def test_close_fails_those_who_wait(server):
    pool = await aiotaos.create_pool(server.dsn, max_size=1)
    connection = await pool.acquire()
    tasks = await waiters(pool, 2)
    closing = asyncio.create_task(pool.close())
    for task in tasks:
        with pytest.raises(InterfaceError, match=WAS_CLOSED):
            await task
    assert not closing.done()
    await pool.release(connection)
    await closing


async def test_closed_while_sessions_are_opened(server):
    gate = server.hold("conn")
    pool = await aiotaos.create_pool(server.dsn)
    (task,) = await waiters(pool, 1)
    await gate.reached.wait()
    await pool.close(timeout=math.inf)
    with pytest.raises(InterfaceError, match=WAS_CLOSED):
        await task
    assert figures(pool) == (0, 0, 0, 0, 0)
    await server.until(lambda: not living(server))


@pytest.mark.parametrize("end", ["close", "terminate"])
async def test_closed_while_it_is_opened(server, end):
    gate = server.hold("conn", skip=1)
    pool = aiotaos.create_pool(server.dsn, min_size=2)
    opening = asyncio.create_task(pool.open())
    await gate.reached.wait()
    if end == "close":
        await pool.close()
    else:
        pool.terminate()
    with pytest.raises(InterfaceError, match="closed"):
        await opening
    await server.until(lambda: not living(server))
    assert figures(pool) == (0, 0, 0, 0, 0)


async def test_closing_is_cancelled(server):
    pool = await aiotaos.create_pool(server.dsn)
    connection = await pool.acquire()
    closing = asyncio.create_task(pool.close())
    await turns(lambda: pool.closed)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await server.until(lambda: not living(server))
    await pool.release(connection)


async def test_closed_while_state_is_put_back(server):
    gate = server.hold("query", "use `power`")
    pool = await aiotaos.create_pool(in_database(server.dsn, "power"))
    await pool.execute("use water")
    await gate.reached.wait()
    closing = asyncio.create_task(pool.close())
    await turns(lambda: pool.closed)
    gate.open()
    await closing
    assert figures(pool) == (0, 0, 0, 0, 0)
    assert (pool.get_stats().opened, pool.get_stats().closed) == (1, 1)


async def test_nothing_of_a_pool_runs_on_after_close(server):
    started, ended = asyncio.Event(), []

    async def reset(connection):
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(connection)

    pool = await aiotaos.create_pool(server.dsn, reset=reset)
    assert await pool.fetchval("select 1") == 1
    await started.wait()
    await pool.close(timeout=0.01)
    assert len(ended) == 1


async def test_closed_while_state_cannot_be_put_back(server):
    gate = server.hold("query", "use `power`")
    pool = await aiotaos.create_pool(in_database(server.dsn, "power"))
    await pool.execute("use water")
    await gate.reached.wait()
    await pool.close(timeout=0.01)
    assert figures(pool) == (0, 0, 0, 0, 0)
    assert (pool.get_stats().opened, pool.get_stats().closed) == (1, 1)
    await server.until(lambda: not living(server))


async def test_terminate(server):
    server.may_leave = True
    server.integers("rows", [1], [2])
    pool = await aiotaos.create_pool(server.dsn, max_size=2)
    connection, idle = await pool.acquire(), await pool.acquire()
    await connection.query("rows")
    await pool.release(idle)
    pool.terminate()
    pool.terminate()
    assert pool.closed
    assert figures(pool) == (0, 0, 0, 0, 0)
    with pytest.raises(InterfaceError, match="closed"):
        await connection.fetch("select 1")
    with pytest.raises(InterfaceError, match=CLOSED):
        await pool.acquire()
    await pool.release(connection)
    await pool.close()
    await server.until(lambda: not living(server))
    never = aiotaos.create_pool(server.dsn)
    never.terminate()
    assert never.closed


async def test_terminate_fails_those_who_wait(server):
    pool = await aiotaos.create_pool(server.dsn, max_size=1)
    connection = await pool.acquire()
    (task,) = await waiters(pool, 1)
    pool.terminate()
    with pytest.raises(InterfaceError, match=WAS_CLOSED):
        await task
    await connection.close()


async def test_terminate_ends_a_close_that_waits(server):
    pool = await aiotaos.create_pool(server.dsn)
    connection = await pool.acquire()
    closing = asyncio.create_task(pool.close(timeout=10))
    await turns(lambda: pool.closed)
    pool.terminate()
    done, _ = await asyncio.wait([closing], timeout=2)
    await pool.release(connection)
    await closing
    assert done == {closing}


async def test_a_pool_that_is_never_closed_warns(server):
    box = [await aiotaos.create_pool(server.dsn, min_size=2)]
    gc.collect()
    unclosed = (
        rf"unclosed <Pool {server.endpoint} open: "
        "0 of 10 used, 2 idle, 0 being opened, 0 waiting>"
    )
    with pytest.warns(ResourceWarning, match=unclosed):
        drop(box)
    await server.until(lambda: not living(server))


async def test_a_pool_with_configure_that_is_never_closed_warns(server):
    async def configure(connection):
        assert await connection.fetchval("select 1") == 1

    box = [await aiotaos.create_pool(server.dsn, min_size=1, configure=configure)]
    with pytest.warns(ResourceWarning, match=r"unclosed <Pool .* 1 idle"):
        drop(box)
    await server.until(lambda: not living(server))


async def test_a_pool_of_a_loop_that_is_gone(server):
    async def leave():
        pool = await aiotaos.create_pool(server.dsn)
        assert await pool.fetchval("select 1") == 1
        await pool.drain()
        await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()})
        return pool

    pool = await asyncio.to_thread(asyncio.run, leave())
    pool.terminate()
    assert pool.closed
    box = [await asyncio.to_thread(asyncio.run, leave())]
    box.clear()
    gc.collect()


async def test_a_connection_that_is_never_released_warns(server):
    async with aiotaos.create_pool(server.dsn, max_size=1) as pool:
        box = [await pool.acquire()]
        (waiting,) = await waiters(pool, 1)
        with pytest.warns(ResourceWarning) as warned:
            drop(box)
        (warning,) = warned
        assert str(warning.message) == (
            f"<PooledConnection {server.endpoint} open> was never returned to its pool; "
            "PYTHONASYNCIODEBUG=1 tells where it was taken"
        )
        await server.until(lambda: server.sessions[0].ended)
        connection = await waiting
        assert await connection.fetchval("select 1") == 1
        await pool.release(connection)
        assert figures(pool) == (1, 1, 0, 0, 0)
        assert (pool.get_stats().opened, pool.get_stats().closed) == (2, 1)


@pytest.mark.parametrize("way", ["await", "async with", "check"])
async def test_it_warns_with_the_place(server, way):
    asyncio.get_running_loop().set_debug(True)
    check = aiotaos.Pool.check_connection if way == "check" else None
    async with aiotaos.create_pool(server.dsn, max_size=1, check=check) as pool:
        if way == "async with":
            acquiring = pool.acquire()
            box = [await acquiring.__aenter__()]
            line = sys._getframe().f_lineno - 1
            del acquiring
        else:
            box = [await pool.acquire()]
            line = sys._getframe().f_lineno - 1
        with pytest.warns(ResourceWarning, match=f"taken at: .*{HERE}:{line} in test_it_warns_"):
            drop(box)
        await server.until(lambda: server.session.ended)
        async with pool.acquire():
            pass


# Loops and forks.


async def test_another_event_loop(server):
    foreign = "^the pool belongs to another event loop; open one in this loop$"

    async def call(name):
        with pytest.raises(InterfaceError, match=foreign):
            await use(pool, name)

    async def others(call):
        with pytest.raises(InterfaceError, match=foreign):
            await call()

    async def resize():
        pool.resize(max_size=3)

    async with aiotaos.create_pool(server.dsn) as pool:
        assert await pool.fetchval("select 1") == 1
        for name in USES:
            await asyncio.to_thread(asyncio.run, call(name))
        for function in (pool.close, resize):
            await asyncio.to_thread(asyncio.run, others(function))
        assert not pool.closed
        assert await pool.fetchval("select 1") == 1
    assert len(server.session.seen("query")) == 2


async def test_what_another_event_loop_may_not_resize_is_not_resized(server):
    async def resize():
        with pytest.raises(InterfaceError, match="another event loop"):
            pool.resize(max_size=3)

    async with aiotaos.create_pool(server.dsn) as pool:
        await asyncio.to_thread(asyncio.run, resize())
        assert pool.get_stats().max_size == 10


@pytest.mark.parametrize("way", ["release", "close"])
async def test_a_borrowed_connection_and_another_event_loop(server, way):
    async def give_back(connection):
        with pytest.raises(InterfaceError, match="another event loop"):
            await (connection.close() if way == "close" else pool.release(connection))

    async with aiotaos.create_pool(server.dsn, max_size=1) as pool:
        async with pool.acquire() as connection:
            await asyncio.to_thread(asyncio.run, give_back(connection))
            assert figures(pool) == (1, 0, 1, 0, 0)
            assert await connection.fetchval("select 1") == 1
        assert figures(pool) == (1, 1, 0, 0, 0)


async def test_a_pool_in_each_thread(server):
    barrier = threading.Barrier(3)

    async def client():
        async with aiotaos.create_pool(server.dsn, max_size=2) as pool:
            barrier.wait(10)
            return await asyncio.gather(*(pool.fetchval("select 1") for _ in range(20)))

    answers = await asyncio.gather(
        *(asyncio.to_thread(lambda: asyncio.run(client())) for _ in range(3))
    )
    assert answers == [[1] * 20] * 3
    assert len(server.sessions) == 6


FORKING = """
import asyncio, gc, os, sys
import aiotaos

async def told(name, call):
    try:
        await call()
    except aiotaos.InterfaceError as error:
        print(name, error.message)

async def child(pool, connection):
    await told("acquire", pool.acquire)
    await told("fetch", lambda: pool.fetch("select 1"))
    await told("close", pool.close)
    await told("drain", pool.drain)
    await told("connection", lambda: connection.fetch("select 1"))
    pool.terminate()
    connection.terminate()
    async with aiotaos.create_pool(sys.argv[1]) as own:
        print("own", await own.fetchval("select 1"))

async def main():
    async with aiotaos.create_pool(sys.argv[1], min_size=2) as pool:
        async with pool.acquire() as connection:
            pid = os.fork()
            if not pid:
                status = 1
                try:
                    asyncio.run(child(pool, connection))
                    del pool, connection
                    gc.collect()
                    sys.stdout.flush()
                    status = 0
                finally:
                    os._exit(status)
            print("child", os.waitpid(pid, 0)[1])
            print("connection", await connection.fetchval("select 1"))
        print("pool", await pool.fetchval("select 1"))
        print("stats", pool.get_stats().size, pool.get_stats().opened, pool.get_stats().lost)

asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
async def test_a_fork(server):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", FORKING, server.dsn,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, complaints = await process.communicate()
    assert complaints.decode() == ""
    forked = "was opened before a fork; open another in this process"
    assert output.decode().splitlines() == [
        f"acquire the pool {forked}",
        f"fetch the pool {forked}",
        f"close the pool {forked}",
        f"drain the pool {forked}",
        f"connection the connection {forked}",
        "own 1",
        "child 0",
        "connection 1",
        "pool 1",
        "stats 2 2 0",
    ]
    assert process.returncode == 0


# The verbs.


async def test_verbs(server):
    server.integers("rows", [1, 2], [3])
    server.affect("create", 0)
    server.affect("insert", 12)
    server.refuse("wrong", 0x2600, "syntax error")
    async with aiotaos.create_pool(server.dsn, max_size=1) as pool:
        assert await pool.execute("insert") == 12
        assert await pool.execute("rows") == 0
        assert await pool.executemany("create", [(), ()]) == 0
        assert await pool.fetch("rows") == [(1,), (2,), (3,)]
        assert await pool.fetch("insert") == []
        assert await pool.fetch("rows", row_factory=dict_row) == [{"v": 1}, {"v": 2}, {"v": 3}]
        assert await pool.fetchrow("rows") == (1,)
        assert await pool.fetchrow("rows", row_factory=dict_row) == {"v": 1}
        assert await pool.fetchval("rows") == 1
        with pytest.raises(InterfaceError, match="column: expected 0 to 0, got 1"):
            await pool.fetchval("rows", column=1)
        for call in (pool.execute, pool.query, pool.fetch, pool.fetchrow, pool.fetchval):
            with pytest.raises(ProgrammingError, match="syntax error"):
                await call("wrong")
            with pytest.raises(InterfaceError, match="sql: expected a string, got int"):
                await call(5)
            with pytest.raises(InterfaceError, match="req_id: expected an integer"):
                await call("rows", req_id=0)
            with pytest.raises(InterfaceError, match="timeout: expected a positive number"):
                await call("rows", timeout=0)
            assert figures(pool) == (1, 1, 0, 0, 0)
        assert await pool.execute("insert", req_id=77) == 12
        assert server.session.seen("query")[-1].req_id == 77
    assert len(server.sessions) == 1


async def test_verbs_run_at_once_on_several_sessions(server):
    server.integers("rows", [1])
    gate = server.hold("query", "rows")
    async with aiotaos.create_pool(server.dsn, max_size=3) as pool:
        tasks = [asyncio.create_task(pool.fetch("rows")) for _ in range(4)]
        await server.until(lambda: gate.arrived == 3)
        assert figures(pool) == (3, 0, 3, 0, 1)
        gate.open()
        assert await asyncio.gather(*tasks) == [[(1,)]] * 4


@pytest.mark.parametrize("name", ["fetch", "fetchrow", "fetchval"])
@pytest.mark.parametrize("action", ["query", "fetch_raw_block"])
async def test_a_verb_is_cancelled_or_times_out(server, name, action):
    server.integers("slow", [1], [2])
    gate = server.hold(action, "slow")
    async with aiotaos.create_pool(server.dsn, max_size=1, min_size=1) as pool:
        with pytest.raises(aiotaos.TimeoutError, match=r"no (answer|block) within"):
            await getattr(pool, name)("slow", timeout=0.1)
        assert figures(pool) == (1, 1, 0, 0, 0)
        task = asyncio.create_task(getattr(pool, name)("slow"))
        await server.until(lambda: gate.arrived == 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert figures(pool) == (1, 1, 0, 0, 0)
        assert await pool.fetchval("select 1") == 1
        gate.open()
        await server.until(lambda: server.session.freed == ["slow"] * 2)
    assert len(server.sessions) == 1


async def test_a_verb_whose_row_factory_fails(server):
    server.integers("rows", [1], [2])

    def refuse(fields):
        raise ZeroDivisionError

    def stumble(fields):
        def make(row):
            raise ZeroDivisionError

        return make

    async with aiotaos.create_pool(server.dsn, max_size=1) as pool:
        for factory in (refuse, stumble):
            with pytest.raises(ZeroDivisionError):
                await pool.fetch("rows", row_factory=factory)
            assert figures(pool) == (1, 1, 0, 0, 0)
        await server.until(lambda: server.session.freed == ["rows"] * 2)


async def test_a_result_is_read_to_its_end(server):
    server.integers("rows", [1, 2], [3])
    async with aiotaos.create_pool(server.dsn, max_size=1) as pool:
        result = await pool.query("rows")
        assert figures(pool) == (1, 0, 1, 0, 0)
        rows = []
        async for row in result:
            rows.append(row)
            assert figures(pool) == (1, 0, 1, 0, 0)
        assert rows == [(1,), (2,), (3,)]
        assert figures(pool) == (1, 1, 0, 0, 0)
        assert (await (await pool.query("rows", row_factory=dict_row)).fetchone()) == {"v": 1}
        gc.collect()
        assert await (await pool.query("rows")).fetchall() == [(1,), (2,), (3,)]
        assert [len(block) async for block in (await pool.query("rows")).blocks()] == [2, 1]
        assert await (await pool.query("rows")).fetchmany(5) == [(1,), (2,), (3,)]
        assert await pool.fetchval("select 1") == 1
        await result.aclose()
        assert figures(pool) == (1, 1, 0, 0, 0)


async def test_a_result_without_rows_needs_no_connection(server):
    server.affect("insert", 12)
    async with aiotaos.create_pool(server.dsn) as pool:
        result = await pool.query("insert")
        assert result.affected_rows == 12
        assert figures(pool) == (1, 1, 0, 0, 0)


async def test_a_result_is_closed(server):
    server.integers("rows", [1, 2], [3], [4])
    async with aiotaos.create_pool(server.dsn, max_size=1) as pool:
        result = await pool.query("rows")
        (waiting,) = await waiters(pool, 1)
        await result.aclose()
        await pool.release(await waiting)
        async with await pool.query("rows") as result:
            assert await result.fetchone() == (1,)
        assert figures(pool) == (1, 1, 0, 0, 0)
        with pytest.raises(ResultError, match="the result is closed"):
            await result.fetchone()
        await server.until(lambda: server.session.freed == ["rows"] * 2)
    assert len(server.sessions) == 1


async def test_a_result_is_dropped(server):
    server.integers("rows", [1, 2], [3], [4])
    async with aiotaos.create_pool(server.dsn, max_size=1) as pool:
        async for row in await pool.query("rows"):
            assert row == (1,)
            break
        gc.collect()
        (waiting,) = [asyncio.create_task(pool._acquire(None))]
        await pool.release(await waiting)
        await server.until(lambda: server.session.freed == ["rows"])
        assert figures(pool) == (1, 1, 0, 0, 0)
    assert len(server.sessions) == 1


async def test_the_reading_of_a_result_is_cancelled(server):
    server.integers("rows", [1], [2], [3])
    gate = server.hold("fetch_raw_block", "rows", skip=1)
    async with aiotaos.create_pool(server.dsn, max_size=1) as pool:
        result = await pool.query("rows")
        assert await result.fetchone() == (1,)
        reading = asyncio.create_task(result.fetchone())
        await gate.reached.wait()
        await turns(lambda: result._reading)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert figures(pool) == (1, 1, 0, 0, 0)
        assert await pool.fetchval("select 1") == 1
        gate.open()
        await server.until(lambda: server.session.freed == ["rows"])


async def test_the_opening_of_a_result_is_cancelled(server):
    server.integers("rows", [1], [2])
    gate = server.hold("query", "rows")
    async with aiotaos.create_pool(server.dsn, max_size=1) as pool:
        task = asyncio.create_task(pool.query("rows"))
        await gate.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert figures(pool) == (1, 1, 0, 0, 0)
        gate.open()
        await server.until(lambda: server.session.freed == ["rows"])


async def test_a_result_whose_link_breaks(server):
    server.integers("rows", [1], [2], [3])
    gate = server.hold("fetch_raw_block", "rows", skip=1)
    async with aiotaos.create_pool(server.dsn, max_size=1) as pool:
        server.may_leave = True
        result = await pool.query("rows")
        assert await result.fetchone() == (1,)
        await gate.reached.wait()
        server.session.abort()
        with pytest.raises(ConnectionLost):
            await result.fetchall()
        gate.open()
        assert await pool.fetchval("select 1") == 1
        assert pool.get_stats().lost == 1
    assert len(server.sessions) == 2


async def test_a_pool_is_closed_with_a_result_unread(server, caplog):
    server.may_leave = True
    server.integers("rows", [1], [2], [3])
    pool = await aiotaos.create_pool(server.dsn)
    result = await pool.query("rows")
    await pool.close(timeout=0.01)
    with pytest.raises((InterfaceError, ResultError)):
        await result.fetchall()
    assert "connections that were not returned within 0.01 s: 1" in caplog.text


async def test_schemaless_insert(server):
    async def answer(session, request):
        return [session._text(request, affected_rows=3, total_rows=4)]

    server.handlers["insert"] = answer
    async with aiotaos.create_pool(in_database(server.dsn, "power")) as pool:
        assert await pool.schemaless_insert("m v=1 1", precision="us", req_id=77) == 3
        assert figures(pool) == (1, 1, 0, 0, 0)
        with pytest.raises(InterfaceError, match="precision"):
            await pool.schemaless_insert("m v=1 1", precision="weeks")
    (request,) = server.session.seen("insert")
    assert (request.req_id, request.args["data"], request.args["precision"]) == (
        77, "m v=1 1", "u",
    )  # fmt: skip


async def test_stats(server):
    async with aiotaos.create_pool(server.dsn, min_size=1, max_size=2) as pool:
        empty = PoolStats(
            min_size=1, max_size=2, size=1, idle=1, used=0, opening=0, waiting=0,
            acquired=0, wait_time=0.0, opened=1, closed=0, lost=0, errors=0,
        )  # fmt: skip
        assert pool.get_stats() == empty
        async with pool.acquire() as first:
            stats = pool.get_stats()
            assert (stats.size, stats.idle, stats.used, stats.acquired) == (1, 0, 1, 1)
            assert stats.wait_time == 0.0  # one was idle
            assert repr(pool) == (
                f"<Pool {server.endpoint} open: 1 of 2 used, 0 idle, 0 being opened, 0 waiting>"
            )
            gate = server.hold("conn")
            tasks = await waiters(pool, 2)
            assert figures(pool) == (2, 0, 1, 1, 2)
            gate.open()
            second = await tasks[0]
            assert figures(pool) == (2, 0, 2, 0, 1)
            await second.close()
            third = await tasks[1]
            await pool.release(third)
            assert await first.fetchval("select 1") == 1
        stats = pool.get_stats()
        assert stats.wait_time > 0
        assert (stats.acquired, stats.opened, stats.closed, stats.lost, stats.errors) == (
            3, 3, 1, 0, 0,
        )  # fmt: skip
    stats = pool.get_stats()
    assert (stats.size, stats.opened, stats.closed) == (0, 3, 3)
    assert repr(pool) == (
        f"<Pool {server.endpoint} closed: 0 of 2 used, 0 idle, 0 being opened, 0 waiting>"
    )
    with pytest.raises(AttributeError):
        stats.size = 5


# The embedded server.


async def test_writing(clean):
    async with aiotaos.create_pool("embedded://", database="d", timestamp="int") as pool:
        await pool.execute("create table t (ts timestamp, v int)")
        await pool.execute("create table m (ts timestamp, v double) tags (g int)")
        sql = "insert into t values (?, ?)"
        assert await pool.execute(sql, T, 1) == 1
        assert await pool.executemany(sql, [(T + n, n) for n in range(2, 5)]) == 3
        assert await pool.fetch("select ts, v from t where v > ?", 2) == [(T + 3, 3), (T + 4, 4)]
        assert await pool.fetchval("select v from t where ts = ?", T) == 1
        rows = [(f"d{n % 3}", n % 3, T + n, n / 2) for n in range(9)]
        assert await pool.insert("m", rows, tbname="name", tags=["g"], batch_rows=2) == 9
        assert await pool.fetchval("select count(*) from m") == 9
        async with pool.writer("m", tbname="name", tags=["g"], max_rows=5) as writer:
            for n in range(9, 20):
                await writer.write({"name": "w", "g": 9, "ts": T + n, "v": n})
        assert writer.stats.rows == 11
        assert await pool.fetchval("select count(*) from m where g = 9") == 11
        assert await pool.schemaless_insert(f"s,g=a v=1 {T}\ns,g=b v=2 {T}") == 2
        assert await pool.fetch("select v, g from s order by v") == [(1.0, "a"), (2.0, "b")]
        with pytest.raises(aiotaos.DataError):
            await pool.insert("t", [(T, "no number")])
        assert pool.get_stats().used == 0


async def test_many_tasks_and_the_embedded_server(clean):
    async with aiotaos.create_pool(
        "embedded://", database="d", timestamp="int", min_size=2, max_size=4
    ) as pool:
        await pool.execute("create table t (ts timestamp, v int)")

        async def write(number):
            assert await pool.execute("insert into t values (?, ?)", T + number, number) == 1
            async with pool.acquire() as connection:
                assert connection.database == "d"
                sql = "select v from t where ts = ?"
                assert await connection.fetchval(sql, T + number) == number

        await asyncio.gather(*(write(number) for number in range(50)))
        assert await pool.fetchval("select count(*) from t") == 50
        assert pool.get_stats().size == 4


async def test_a_database_of_the_embedded_server_is_put_back(clean):
    async with aiotaos.create_pool("embedded://", database="d", max_size=1) as pool:
        await pool.execute("create database other")
        await pool.execute("use other")
        async with pool.acquire() as connection:
            assert connection.database == "d"
        assert pool.get_stats().opened == 1


async def test_the_data_of_the_embedded_server_lives_as_long_as_the_pool(clean):
    async with aiotaos.create_pool("embedded://", database="d", max_size=1) as pool:
        await pool.execute("create table t (ts timestamp, v int)")
        assert await pool.execute("insert into t values (?, ?)", T, 1) == 1
        await pool.drain()
        assert await pool.fetchval("select v from t") == 1
        async with pool.acquire() as connection:
            await connection.close()
        assert await pool.fetchval("select v from t") == 1


# Several servers.


def knows(server, *others):
    """Have a server name the servers of its cluster."""

    async def login(session, request):
        server.logged_in.append(request.args)
        instances = None
        if request.args.get("list_instances"):
            instances = [f"127.0.0.1:{other.port}" for other in others]
        return [session._text(request, version="3.3.8.0", list_instances=instances)]

    server.handlers["conn"] = login


def both(first, second):
    return first.dsn.replace(str(first.port), f"{first.port},127.0.0.1:{second.port}")


async def test_sessions_are_spread(start_server):
    first, second = await start_server(), await start_server()
    async with aiotaos.create_pool(both(first, second)) as pool:
        connections = [await pool.acquire() for _ in range(6)]
        assert [len(first.sessions), len(second.sessions)] == [3, 3]
        for connection in connections:
            await pool.release(connection)
        assert repr(pool) == (
            f"<Pool {first.endpoint}, {second.endpoint} open: "
            "0 of 10 used, 6 idle, 0 being opened, 0 waiting>"
        )


async def test_pools_spread_their_sessions_together(start_server):
    first, second = await start_server(), await start_server()
    async with (
        aiotaos.create_pool(first.dsn, min_size=4),
        aiotaos.create_pool(both(first, second), min_size=4),
    ):
        assert [len(first.sessions), len(second.sessions)] == [4, 4]


@pytest.mark.parametrize(("wanted", "sessions"), [(True, [1, 1]), (False, [2, 0])])
async def test_servers_are_learned(start_server, wanted, sessions):
    first, second = await start_server(), await start_server()
    knows(first, first, second)
    async with (
        aiotaos.create_pool(first.dsn, adapter_ha=wanted) as pool,
        pool.acquire(),
        pool.acquire(),
    ):
        assert [len(first.sessions), len(second.sessions)] == sessions


async def test_idle_sessions_move_to_a_server_that_has_fewer(start_server):
    first, second = await start_server(), await start_server()
    knows(first, second)
    async with aiotaos.create_pool(first.dsn, adapter_ha=True, min_size=4, max_idle=SOON) as pool:
        assert len(first.sessions) == 4  # the other one was not known before
        await second.until(lambda: len(second.logged_in) == 2)
        await first.until(lambda: len(living(first)) == 2)
        await turns(lambda: figures(pool) == (4, 4, 0, 0, 0))
        stats = pool.get_stats()
        assert (stats.opened, stats.closed, stats.lost) == (6, 2, 0)
        async with aiotaos.create_pool(first.dsn, max_idle=SOON) as other:
            assert await other.fetchval("select 1") == 1
            await first.until(lambda: first.session.ended)  # so much time has gone by
        assert pool.get_stats().opened == 6
    assert len(second.sessions) == 2


async def test_a_borrowed_session_moves_when_it_is_given_back(start_server):
    first, second = await start_server(), await start_server()
    knows(first, second)
    async with aiotaos.create_pool(first.dsn, adapter_ha=True, max_idle=SOON) as pool:
        gate = first.hold("conn")
        tasks = await waiters(pool, 2)
        await first.until(lambda: gate.arrived == 2)
        gate.open()
        for connection in await asyncio.gather(*tasks):
            assert connection.endpoint == first.endpoint
            assert await connection.fetchval("select 1") == 1
            await pool.release(connection)
        await second.until(lambda: second.logged_in)
        await first.until(lambda: len(living(first)) <= 1)


async def test_no_more_than_max_size_are_lent_while_a_session_moves(start_server):
    first, second = await start_server(), await start_server()
    knows(first, second)
    async with (
        aiotaos.create_pool(
            first.dsn, adapter_ha=True, min_size=2, max_size=2, max_idle=SOON
        ) as pool,
        pool.acquire(),
        pool.acquire(),
    ):
        with pytest.raises(aiotaos.TimeoutError):
            async with pool.acquire(timeout=0.3):
                pass


async def test_a_session_that_cannot_move_stays(start_server):
    first, second = await start_server(), await start_server()
    knows(first, second)
    second.logins = [(0x0125, "not ready")]
    async with aiotaos.create_pool(first.dsn, adapter_ha=True, min_size=2, max_idle=SOON) as pool:
        await second.until(lambda: second.logged_in)
        await second.until(lambda: second.session.ended)
        assert len(living(first)) == 2
        served(Address("127.0.0.1", second.port))  # as after a second
        await second.until(lambda: len(second.logged_in) == 2)
        await first.until(lambda: len(living(first)) == 1)
        assert await pool.fetchval("select 1") == 1


async def test_a_pool_is_closed_while_a_session_moves(start_server):
    first, second = await start_server(), await start_server()
    knows(first, second)
    gate = second.hold("conn")
    pool = await aiotaos.create_pool(first.dsn, adapter_ha=True, min_size=2, max_idle=SOON)
    await gate.reached.wait()
    closing = asyncio.create_task(pool.close())
    await first.until(lambda: not living(first))
    gate.open()
    await closing
    assert figures(pool) == (0, 0, 0, 0, 0)
    await second.until(lambda: not living(second))


async def test_a_server_that_fails_is_set_aside(start_server):
    first, second = await start_server(), await start_server()
    second.logins = [(0x0125, "not ready")] * 9
    async with aiotaos.create_pool(both(first, second)) as pool:
        connections = [await pool.acquire() for _ in range(4)]
        assert len(first.sessions) == 4
        assert len(second.logged_in) == 1
        second.logins = []
        served(Address("127.0.0.1", second.port))  # as after a second
        connections += [await pool.acquire() for _ in range(2)]
        assert len(second.logged_in) == 3
        for connection in connections:
            await pool.release(connection)


async def test_a_server_goes_away(start_server):
    first, second = await start_server(), await start_server()
    async with aiotaos.create_pool(both(first, second), min_size=4, max_idle=SOON) as pool:
        assert [len(first.sessions), len(second.sessions)] == [2, 2]
        await second.stop()
        await first.until(lambda: len(first.logged_in) == 4)
        await turns(lambda: figures(pool) == (4, 4, 0, 0, 0))
        for _ in range(4):
            assert await pool.fetchval("select 1") == 1

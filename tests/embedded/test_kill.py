"""What runs is listed, and KILL QUERY stops it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import anyio.to_thread
import pytest

import aiotaos
from aiotaos import OperationalError, ProgrammingError, TimeoutError
from aiotaos.errors import DatabaseError

KILLED = 0x022D
ROWS = 40_000
ALL_PAIRS = "big a, big b where a.ts = b.ts and pow(a.v * b.v, 0.3) > sqrt(abs(a.v + b.v))"
SLOW = f"select sum(a.v) from {ALL_PAIRS}"
LIST = "select query_id, kill_id from performance_schema.perf_queries"
COLUMNS = """
    kill_id query_id conn_id app pid user end_point create_time exec_usec stable_query sub_query
    sub_num sub_status sql user_app user_ip
"""


async def fill(conn: Any) -> None:
    """Make a table on which ``SLOW`` takes the better part of a minute."""
    await conn.execute("create table big (ts timestamp, v int)")
    for start in range(0, ROWS, 20_000):
        rows = " ".join(f"({number},{number})" for number in range(start, start + 20_000))
        await conn.execute(f"insert into big values {rows}")


async def until(ask: Callable[[], Awaitable[Any]]) -> Any:
    """Ask again until the answer is true; the server tells nothing by itself."""
    async with asyncio.timeout(30):
        while not (answer := await ask()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return answer


@pytest.fixture
async def conn(server):
    """A connection that looks and kills."""
    async with aiotaos.connect(server.dsn) as conn:
        await conn.execute("create database d")
        await conn.execute("use d")
        await fill(conn)
        yield conn


@pytest.fixture
async def busy(server, conn):
    """A connection that is kept waiting."""
    async with aiotaos.connect(server.dsn, database="d", user_app="busy") as busy:
        yield busy


async def running(conn: Any) -> dict[int, str]:
    """What runs, by the request's id."""
    return dict(await conn.fetch(LIST))


async def found(conn: Any, task: asyncio.Task[Any], req_id: int) -> str:
    """The server's id of a request that is under way."""

    async def ask() -> str | None:
        assert not task.done(), task
        return (await running(conn)).get(req_id)

    return await until(ask)


async def ended(conn: Any) -> None:
    async def ask() -> bool:
        return not await running(conn)

    await until(ask)


async def kill(conn: Any, task: asyncio.Task[Any], req_id: int) -> str:
    kill_id = await found(conn, task, req_id)
    assert await conn.execute(f"kill query '{kill_id}'") == 0
    return kill_id


async def refusal(call: Awaitable[Any]) -> int | None:
    with pytest.raises(DatabaseError) as caught:
        await call
    return caught.value.code


async def test_what_is_told(conn, busy):
    task = asyncio.create_task(busy.fetch(SLOW, req_id=2**63 - 5))
    kill_id = await found(conn, task, 2**63 - 5)
    names = COLUMNS.split()
    for sql in ("select * from performance_schema.perf_queries", "show queries"):
        result = await conn.query(sql)
        assert [field.name for field in result.fields] == names
        (row,) = [dict(zip(names, row, strict=True)) for row in await result.fetchall()]
        assert row["kill_id"] == kill_id == f"{row['conn_id']:x}:{kill_id.partition(':')[2]}"
        assert (row["query_id"], row["sql"], row["user"]) == (2**63 - 5, SLOW, "root")
        assert (row["pid"], row["user_app"], row["user_ip"]) == (os.getpid(), "busy", "127.0.0.1")
        assert row["end_point"].startswith("127.0.0.1:")
        assert row["exec_usec"] > 0
    await kill(conn, task, 2**63 - 5)
    assert await refusal(task) == KILLED


async def test_killed_by_another(conn, busy):
    task = asyncio.create_task(busy.fetch(SLOW, req_id=7))
    kill_id = await kill(conn, task, 7)
    assert await running(conn) == {}
    with pytest.raises(OperationalError, match="Query killed") as caught:
        await task
    assert (caught.value.code, caught.value.req_id) == (KILLED, 7)
    assert await conn.execute(f"kill query '{kill_id}'") == 0  # it has ended
    assert await busy.fetchval("select count(*) from big") == ROWS
    await ended(conn)


async def test_one_of_two_of_a_session(conn, busy):
    one, two = (asyncio.create_task(busy.fetch(SLOW, req_id=number)) for number in (1, 2))
    await found(conn, one, 1)
    await kill(conn, two, 2)
    assert await refusal(two) == KILLED
    assert list(await running(conn)) == [1]
    await kill(conn, one, 1)
    assert await refusal(one) == KILLED


async def test_ids_that_are_none(conn):
    assert await refusal(conn.execute("kill query 'abc:1'")) == 0x030E
    assert await refusal(conn.execute("kill query 'abc'")) == 0x030C
    assert await refusal(conn.execute("kill query ''")) == 0x030C
    assert await refusal(conn.execute("kill query abc")) == 0x2600
    assert await refusal(conn.execute("kill query '0:1' x")) == 0x2600
    assert await refusal(conn.execute("kill query")) == 0x2601
    assert await refusal(conn.execute("show queries 1")) == 0x2600
    with pytest.raises(ProgrammingError, match="not supported by the embedded server: KILL"):
        await conn.execute("kill transaction 1")


async def test_those_of_a_session_that_is_closed(server, conn):
    async with aiotaos.connect(server.dsn, database="d") as busy:
        task = asyncio.create_task(busy.fetch(SLOW, req_id=7))
        kill_id = await kill(conn, task, 7)
        assert await refusal(task) == KILLED

    async def is_unknown() -> bool:
        try:
            await conn.execute(f"kill query '{kill_id}'")
        except ProgrammingError as error:
            return error.code == 0x030E
        return False

    await until(is_unknown)


async def test_a_cancelled_query(server, conn):
    async with aiotaos.connect(server.dsn, database="d", cancel="kill") as busy:
        task = asyncio.create_task(busy.fetch(SLOW, req_id=7))
        await found(conn, task, 7)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await ended(conn)
        assert await busy.fetchval("select 1") == 1


async def test_a_query_that_took_too_long(server, conn):
    async with aiotaos.connect(server.dsn, database="d", cancel="kill") as busy:
        with pytest.raises(TimeoutError):
            await busy.fetch(SLOW, timeout=0.2)
        await ended(conn)


async def test_one_that_is_left_goes_on(server, conn):
    async with aiotaos.connect(server.dsn, database="d", cancel="leave") as busy:
        with pytest.raises(TimeoutError):
            await busy.fetch(SLOW, req_id=7, timeout=0.2)
        (kill_id,) = (await running(conn)).values()
        await conn.execute(f"kill query '{kill_id}'")
        assert await running(conn) == {}


async def test_the_shared_server():
    async with (
        aiotaos.connect("embedded:///d", cancel="kill") as busy,
        aiotaos.connect("embedded:///d") as conn,
    ):
        await fill(conn)
        task = asyncio.create_task(busy.fetch(SLOW, req_id=7))
        await found(conn, task, 7)
        task.cancel()
        await asyncio.wait([task])
        await ended(conn)


async def test_more_than_there_are_threads(server, conn):
    """What is to stop them finds a way."""
    anyio.to_thread.current_default_thread_limiter().total_tokens = 3
    async with aiotaos.connect(server.dsn, database="d", cancel="kill") as busy:
        tasks = [asyncio.create_task(busy.fetch(SLOW)) for _ in range(5)]

        async def takes_all() -> bool:
            return len(await running(conn)) == 3

        await until(takes_all)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await ended(conn)
        assert await busy.fetchval("select 1") == 1


async def test_a_prepared_query(server, conn):
    async with aiotaos.connect(server.dsn, database="d", cancel="kill") as busy:
        for end in ("cancel", "kill"):
            task = asyncio.create_task(busy.fetch(SLOW + " and a.v > ?", 5, req_id=7))
            await found(conn, task, 7)
            if end == "cancel":
                task.cancel()
                await asyncio.wait([task])
                await ended(conn)
            else:
                await kill(conn, task, 7)
                assert await refusal(task) == KILLED
        assert await busy.fetch("select v from big where v = ?", 5) == [(5,)]
        await ended(conn)


async def test_a_query_over_rest(conn, rest):
    task = asyncio.create_task(rest(SLOW, "d", req_id="7"))
    await kill(conn, task, 7)
    answer = await task
    assert (answer["code"], answer["desc"]) == (KILLED, "Query killed")
    assert (await rest("show queries"))["rows"] == 0


async def test_a_result_that_is_read(conn, busy):
    """It is listed until its last block; when it is killed, no more blocks come."""
    async with await busy.query("select v from big", req_id=7) as result:
        assert await result.fetchone() == (0,)
        assert list(await running(conn)) == [7]
        assert len(await result.fetchall()) == ROWS - 1
        assert await running(conn) == {}
    async with await busy.query("select v from big", req_id=8) as result:
        (kill_id,) = (await running(conn)).values()
        await conn.execute(f"kill query '{kill_id}'")
        assert await running(conn) == {}
        assert await refusal(result.fetchall()) == KILLED
    async with await busy.query("select v from big", req_id=9) as result:
        assert await result.fetchone() == (0,)
    await ended(conn)  # freed
    assert await busy.fetchval("select 1") == 1


async def test_an_insert(conn, busy):
    await conn.execute("create table copy (ts timestamp, v int)")
    statement = f"insert into copy select a.ts, a.v from {ALL_PAIRS}"
    first = asyncio.create_task(busy.execute(statement, req_id=1))
    await found(conn, first, 1)
    second = asyncio.create_task(busy.execute("insert into copy values (1, 1)", req_id=2))
    await kill(conn, second, 2)  # it waits for the first
    await kill(conn, first, 1)
    assert await refusal(first) == KILLED
    assert await refusal(second) == KILLED
    assert await running(conn) == {}
    assert await conn.fetchval("select count(*) from copy") == 0
    assert await busy.execute("insert into copy values (2, 2)") == 1


@pytest.mark.parametrize(
    "sql",
    ["nonsense", "select nosuch from big", "select 1; select 2", "use nosuch", "drop table nosuch"],
)
async def test_what_fails_is_not_listed(conn, busy, sql):
    with pytest.raises(DatabaseError):
        await busy.execute(sql)
    assert await running(conn) == {}

"""Queries that are given up are stopped on the server, through KILL QUERY by their request id."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import aiotaos
from aiotaos import TimeoutError


async def gone(until: Any, slow: Any, req_id: int) -> None:
    async def is_gone() -> bool:
        return await slow.found(req_id) is None

    await until(is_gone)
    slow.forget(req_id)


async def stays(slow: Any, req_id: int) -> None:
    """It runs for longer than stopping it would take."""
    for _ in range(50):
        assert await slow.found(req_id)


async def give_up(conn: Any, slow: Any, until: Any) -> int:
    """Cancel the slow query when the server knows of it; the caller is not delayed."""
    req_id = slow.req_id()
    task = asyncio.create_task(conn.fetch(slow.sql, req_id=req_id))
    await until(lambda: slow.found(req_id))
    task.cancel()
    async with asyncio.timeout(0.5):
        with pytest.raises(asyncio.CancelledError):
            await task
    return req_id


async def test_a_cancelled_query_is_killed(
    connect: Any, database: str, slow: Any, until: Any
) -> None:
    conn = await connect(database=database, cancel="kill")
    await gone(until, slow, await give_up(conn, slow, until))
    assert await conn.fetchval("select 1") == 1


async def test_one_that_the_server_does_not_list_yet(
    connect: Any, database: str, slow: Any, until: Any
) -> None:
    """Beside a result that is open: alone on its connection, libtaos stops it at once."""
    conn = await connect(database=database, cancel="kill")
    result = await conn.query("select v from slow0 order by ts")
    req_id = slow.req_id()
    with pytest.raises(TimeoutError):
        await conn.fetch(slow.sql, req_id=req_id, timeout=0.1)
    running = conn._session.transport.still_running(req_id)
    assert running()

    async def answered() -> bool:
        return not running()

    await until(answered)  # long before it would have ended
    await gone(until, slow, req_id)
    assert await result.fetchall() == [(v,) for v in range(400)]


async def test_one_that_ran_for_long_is_killed_by_default(
    connect: Any, database: str, slow: Any, until: Any
) -> None:
    conn = await connect(database=database)
    req_id = slow.req_id()
    with pytest.raises(TimeoutError):
        await conn.fetch(slow.sql, req_id=req_id, timeout=2.2)
    await gone(until, slow, req_id)


async def test_one_that_did_not_is_left(connect: Any, database: str, slow: Any, until: Any) -> None:
    conn = await connect(database=database)
    req_id = slow.req_id()
    with pytest.raises(TimeoutError):
        await conn.fetch(slow.sql, req_id=req_id, timeout=0.1)
    await until(lambda: slow.found(req_id))
    await stays(slow, req_id)
    await slow.kill(req_id)


async def test_leave(connect: Any, database: str, slow: Any, until: Any) -> None:
    conn = await connect(database=database, cancel="leave")
    req_id = await give_up(conn, slow, until)
    await stays(slow, req_id)
    await slow.kill(req_id)


async def test_it_is_killed_though_the_connection_is_closed_at_once(
    connect: Any, database: str, slow: Any, until: Any
) -> None:
    conn = await connect(database=database, cancel="kill")
    req_id = await give_up(conn, slow, until)
    await conn.close()
    await gone(until, slow, req_id)


async def test_a_pool(dsn: str, database: str, slow: Any, until: Any) -> None:
    async with aiotaos.create_pool(dsn, database=database, cancel="kill") as pool:
        await gone(until, slow, await give_up(pool, slow, until))
        assert await pool.fetchval("select 1") == 1
        assert pool.get_stats().used == 0


async def test_with_parameters(connect: Any, database: str, slow: Any, until: Any) -> None:
    conn = await connect(database=database, cancel="kill")
    req_id = slow.req_id()
    task = asyncio.create_task(conn.fetch(slow.sql + " and a.v < ?", 300, req_id=req_id))
    await until(lambda: slow.found(req_id))
    task.cancel()
    await asyncio.wait([task])
    await gone(until, slow, req_id)

"""Queries that take long: given up, timed out, killed; and the connection afterwards."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aiotaos import InterfaceError, OperationalError, TimeoutError


async def assert_usable(conn: Any) -> None:
    assert await conn.fetchval("select count(*) from slow0") == 400
    assert await conn.execute("insert into slow0 values (1, 1)") == 1
    assert await conn.execute("delete from slow0 where ts = 1") == 1


async def test_time_out(conn: Any, slow: Any) -> None:
    for run in (conn.execute, conn.fetch):
        req_id = slow.req_id()
        with pytest.raises(TimeoutError) as info:
            await run(slow.sql, req_id=req_id, timeout=0.1)
        error = info.value
        assert (error.req_id, error.sql, error.may_have_run) == (req_id, slow.sql, True)
        await assert_usable(conn)
    await slow.stop()
    await assert_usable(conn)


async def test_time_out_of_the_connection(connect: Any, database: str, slow: Any) -> None:
    conn = await connect(database=database, read_timeout=0.2)
    with pytest.raises(TimeoutError):
        await conn.fetch(slow.sql, req_id=slow.req_id())
    await assert_usable(conn)


async def test_asyncio_timeout(conn: Any, slow: Any) -> None:
    with pytest.raises(asyncio.TimeoutError):
        async with asyncio.timeout(0.1):
            await conn.fetch(slow.sql, req_id=slow.req_id())
    await assert_usable(conn)


async def test_cancelled(conn: Any, slow: Any) -> None:
    req_id = slow.req_id()
    task = asyncio.create_task(conn.fetch(slow.sql, req_id=req_id))
    others = await asyncio.gather(*(conn.fetchval(f"select {n}") for n in range(20)))
    assert others == list(range(20))
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await assert_usable(conn)
    await slow.kill(req_id)
    await assert_usable(conn)


async def test_killed(conn: Any, slow: Any, until: Any) -> None:
    """The request id is what the server lists a query under."""
    req_id = slow.req_id()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(_error_of(conn.fetch(slow.sql, req_id=req_id)))
        await slow.kill(req_id)
    error = task.result()
    assert isinstance(error, OperationalError)
    assert (error.code, error.req_id) == (0x022D, req_id)

    async def gone() -> bool:
        return await slow.found(req_id) is None

    await until(gone)
    await assert_usable(conn)


async def test_late_answer_is_freed(conn: Any, slow: Any, until: Any) -> None:
    """A query that was given up ends on its own: nothing stays on the server."""
    req_id = slow.req_id()
    few = f"{slow.sql} and a.v < 30"  # some seconds
    with pytest.raises(TimeoutError):
        await conn.query(few, req_id=req_id, timeout=0.05)
    await until(lambda: slow.found(req_id))

    async def gone() -> bool:
        return await slow.found(req_id) is None

    await until(gone, seconds=60)
    slow.forget(req_id)
    await assert_usable(conn)


async def test_closed_while_a_query_runs(connect: Any, database: str, slow: Any, road: str) -> None:
    conn = await connect(database=database)
    req_id = slow.req_id()
    task = asyncio.create_task(_error_of(conn.fetch(slow.sql, req_id=req_id)))
    assert await conn.fetchval("select 1") == 1
    async with asyncio.timeout(5):
        await conn.close(timeout=0.5)  # taosAdapter says goodbye when its query has ended
        assert isinstance(await task, InterfaceError | OperationalError)
    if road == "native":  # libtaos stops it, and lists nothing of a connection that is closed
        slow.forget(req_id)


async def _error_of(awaitable: Any) -> Exception | None:
    try:
        await awaitable
    except Exception as error:
        return error
    return None

"""Cursors: PEP 249 with awaits."""

from __future__ import annotations

import asyncio

import pytest

import aiotaos
from aiotaos import Field, InterfaceError, ProgrammingError, TypeCode, dict_row


@pytest.fixture
def rows(server):
    server.integers("rows", [1, 2, 3], [4, 5], [6])
    return [(1,), (2,), (3,), (4,), (5,), (6,)]


async def test_before_the_first_statement(conn):
    cursor = conn.cursor()
    assert cursor.connection is conn
    assert cursor.description is None
    assert cursor.rowcount == -1
    assert cursor.arraysize == 1
    assert cursor.result is None
    assert not cursor.closed
    assert repr(cursor) == "<Cursor idle>"
    for read in (cursor.fetchone, cursor.fetchmany, cursor.fetchall):
        with pytest.raises(ProgrammingError, match="no statement was executed on this cursor"):
            await read()
    with pytest.raises(ProgrammingError, match="no statement was executed"):
        async for _ in cursor:
            pass
    await cursor.close()


async def test_a_query(any_conn, rows):
    async with any_conn.cursor() as cursor:
        assert await cursor.execute("rows") is cursor
        assert cursor.rowcount == -1
        assert repr(cursor) == "<Cursor <Result 1 columns, 0 rows read, open>>"
        assert await cursor.fetchone() == rows[0]
        assert await cursor.fetchmany(3) == rows[1:4]
        assert cursor.rowcount == -1
        assert await cursor.fetchall() == rows[4:]
        assert cursor.rowcount == 6
        assert await cursor.fetchone() is None
        assert await cursor.fetchmany() == []
        assert await cursor.fetchall() == []
    assert cursor.closed
    assert repr(cursor) == "<Cursor closed>"


async def test_iteration(any_conn, rows):
    async with any_conn.cursor() as cursor:
        await cursor.execute("rows")
        assert [row async for row in cursor] == rows
        assert cursor.rowcount == 6


async def test_arraysize(conn, rows):
    async with conn.cursor() as cursor:
        await cursor.execute("rows")
        assert await cursor.fetchmany() == rows[:1]
        cursor.arraysize = 4
        assert await cursor.fetchmany() == rows[1:5]
        assert await cursor.fetchmany(2) == rows[5:]


async def test_description(server, conn):
    fields = [
        Field("ts", TypeCode.TIMESTAMP, 8),
        Field("name", TypeCode.NCHAR, 12),
        Field("price", TypeCode.DECIMAL64, 8, 10, 3),
        Field("big", TypeCode.DECIMAL, 16, 38, 0),
    ]
    server.rows("described", fields)
    async with conn.cursor() as cursor:
        await cursor.execute("described")
        assert cursor.description == [
            ("ts", TypeCode.TIMESTAMP, None, 8, None, None, None),
            ("name", TypeCode.NCHAR, None, 12, None, None, None),
            ("price", TypeCode.DECIMAL64, None, 8, 10, 3, None),
            ("big", TypeCode.DECIMAL, None, 16, 38, 0, None),
        ]
        assert await cursor.fetchall() == []
        assert cursor.description[0][1] == 9


async def test_an_update(server, any_conn):
    server.affect("insert", 8)
    async with any_conn.cursor() as cursor:
        await cursor.execute("insert")
        assert cursor.description is None
        assert cursor.rowcount == 8
        assert repr(cursor) == "<Cursor <Result 8 rows affected>>"
        for read in (cursor.fetchone, cursor.fetchmany, cursor.fetchall):
            with pytest.raises(ProgrammingError, match="the last statement returned no rows"):
                await read()


async def test_the_next_statement_gives_up_the_last(server, any_conn, rows):
    async with any_conn.cursor() as cursor:
        await cursor.execute("rows", req_id=12, timeout=5)
        assert cursor.result.req_id == 12
        assert await cursor.fetchone() == rows[0]
        await cursor.execute("select 1")
        await server.until(lambda: server.session.freed == ["rows"])
        assert await cursor.fetchall() == [(1,)]
        server.refuse("wrong", 0x2600, "no")
        with pytest.raises(ProgrammingError):
            await cursor.execute("wrong")
        assert cursor.description is None
        await cursor.execute("rows")
        assert await cursor.fetchall() == rows


async def test_closing_gives_up_the_rest(server, any_conn, rows):
    cursor = any_conn.cursor()
    await cursor.execute("rows")
    await cursor.close()
    await cursor.close()
    await server.until(lambda: server.session.freed == ["rows"])
    for call in (cursor.fetchone, cursor.fetchmany, cursor.fetchall):
        with pytest.raises(InterfaceError, match="the cursor is closed"):
            await call()
    with pytest.raises(InterfaceError, match="the cursor is closed"):
        await cursor.execute("rows")
    with pytest.raises(InterfaceError, match="the cursor is closed"):
        cursor.__aiter__()


async def test_closing_while_a_statement_runs(server, any_conn, rows):
    gate = server.hold("query", "rows")
    cursor = any_conn.cursor()
    task = asyncio.ensure_future(cursor.execute("rows", req_id=3))
    await gate.reached.wait()
    await cursor.close()
    gate.open()
    with pytest.raises(InterfaceError, match="the cursor was closed during the call") as raised:
        await task
    assert raised.value.req_id == 3
    await server.until(lambda: server.session.freed == ["rows"])
    assert cursor.result is None


async def test_an_error_in_the_body_gives_up_the_rest(server, conn, rows):
    async def fail():
        async with conn.cursor() as cursor:
            await cursor.execute("rows")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    await server.until(lambda: server.session.freed == ["rows"])


async def test_row_factories(server, conn, rows):
    async with conn.cursor(row_factory=dict_row) as cursor:
        assert cursor.row_factory is dict_row
        await cursor.execute("rows")
        assert await cursor.fetchmany(2) == [{"v": 1}, {"v": 2}]
    conn.row_factory = dict_row
    async with conn.cursor() as cursor:
        await cursor.execute("rows")
        assert await cursor.fetchone() == {"v": 1}


async def test_sizes_are_of_no_concern(conn):
    cursor = conn.cursor()
    assert cursor.setinputsizes([1, 2]) is None
    assert cursor.setoutputsize(5) is None
    assert cursor.setoutputsize(5, 1) is None


async def test_cursors_are_read_in_turns(server, any_conn):
    names = "abcde"
    for name in names:
        server.integers(name, [ord(name), 1], [2], [3])
    cursors = [any_conn.cursor() for _ in names]
    await asyncio.gather(
        *(cursor.execute(name) for cursor, name in zip(cursors, names, strict=True))
    )
    firsts = [await cursor.fetchone() for cursor in cursors]
    assert firsts == [(ord(name),) for name in names]
    for value in (1, 2, 3):
        for cursor in reversed(cursors):
            assert await cursor.fetchone() == (value,)
    assert [await cursor.fetchone() for cursor in cursors] == [None] * 5
    assert [cursor.rowcount for cursor in cursors] == [4] * 5


async def test_cursors_in_tasks(server, any_conn):
    for number in range(30):
        server.integers(f"rows {number}", [number], [number + 100], [number + 200])

    async def read(number):
        async with any_conn.cursor() as cursor:
            await cursor.execute(f"rows {number}")
            return [value async for (value,) in cursor]

    everything = await asyncio.gather(*map(read, range(30)))
    assert everything == [[n, n + 100, n + 200] for n in range(30)]


async def test_two_tasks_cannot_read_one_cursor(server, any_conn, rows):
    gate = server.hold("fetch", "rows")
    async with any_conn.cursor() as cursor:
        await cursor.execute("rows")
        first = asyncio.ensure_future(cursor.fetchall())
        await gate.reached.wait()
        with pytest.raises(InterfaceError, match="another task is reading this result"):
            await cursor.fetchone()
        gate.open()
        assert await first == rows


async def test_a_fetch_that_is_cancelled(server, any_conn, rows):
    gate = server.hold("fetch", "rows")
    async with any_conn.cursor() as cursor:
        await cursor.execute("rows")
        task = asyncio.ensure_future(cursor.fetchall())
        await gate.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(aiotaos.ResultError, match="the result is closed"):
            await cursor.fetchone()
        gate.open()
        await server.until(lambda: server.session.freed == ["rows"])
        await cursor.execute("rows")
        assert await cursor.fetchall(timeout=5) == rows


async def test_a_fetch_that_times_out(server, any_conn, rows):
    gate = server.hold("fetch", "rows")
    async with any_conn.cursor() as cursor:
        await cursor.execute("rows")
        with pytest.raises(aiotaos.TimeoutError, match=r"no block within 0\.02 s"):
            await cursor.fetchmany(3, timeout=0.02)
        gate.open()
        await server.until(lambda: server.session.freed == ["rows"])
        await cursor.execute("select 1")
        assert await cursor.fetchone(timeout=5) == (1,)

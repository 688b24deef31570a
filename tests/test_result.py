"""Results: rows and blocks as they come, how much is held, and when the server may drop them."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import tracemalloc
from datetime import UTC, datetime
from operator import itemgetter

import numpy as np
import pytest

import aiotaos
from aiotaos import Field, InterfaceError, Precision, ResultError, TypeCode, dict_row
from aiotaos.protocol.encode import encode_block

BIGINT = Field("v", TypeCode.BIGINT, 8)


@pytest.fixture
def rows(server):
    server.integers("rows", [1, 2, 3], [4, 5], [6])
    return [(1,), (2,), (3,), (4,), (5,), (6,)]


# What it says of itself.


async def test_facts(server, any_conn):
    fields = [Field("ts", TypeCode.TIMESTAMP, 8), Field("s", TypeCode.VARCHAR, 30)]
    server.rows("facts", fields, [[1_709_251_200_001_000], ["x"]], precision=1)
    result = await any_conn.query("facts", req_id=17)
    assert result.fields == tuple(fields)
    assert result.field_count == 2
    assert result.precision is Precision.MICROSECOND
    assert result.req_id == 17
    assert result.timing == 1234
    assert (result.is_update, result.affected_rows) == (False, 0)
    assert result.row_count is None
    assert repr(result) == "<Result 2 columns, 0 rows read, open>"
    (row,) = await result.fetchall()
    assert row == (datetime(2024, 3, 1, 0, 0, 0, 1000, UTC), "x")
    assert result.row_count == 1
    assert not result.closed
    assert repr(result) == "<Result 2 columns, 1 rows read, complete>"


async def test_an_update(server, any_conn):
    server.affect("insert", 5)
    result = await any_conn.query("insert")
    assert (result.is_update, result.affected_rows) == (True, 5)
    assert (result.fields, result.field_count, result.row_count) == ((), 0, 0)
    assert repr(result) == "<Result 5 rows affected>"
    assert await result.fetchone() is None
    assert await result.fetchall() == []
    assert [row async for row in result] == []
    assert [block async for block in result.blocks()] == []
    await result.aclose()
    assert not result.closed


async def test_a_result_without_rows(server, any_conn):
    server.integers("nothing")
    result = await any_conn.query("nothing")
    assert await result.fetchone() is None
    assert await result.fetchmany(3) == []
    assert await result.fetchall() == []
    assert result.row_count == 0
    assert server.session.freed == []


async def test_a_block_without_rows(server, conn):
    server.integers("rows", [], [1], [], [2])
    assert await conn.fetch("rows") == [(1,), (2,)]


# Ways to read it.


async def test_iteration(any_conn, rows):
    assert [row async for row in await any_conn.query("rows")] == rows


async def test_iteration_may_be_interrupted_and_resumed(conn, rows):
    result = await conn.query("rows")
    seen = []
    async for row in result:
        seen.append(row)
        if len(seen) == 2:
            break
    assert await result.fetchone() == rows[2]
    assert await result.fetchmany(2) == rows[3:5]
    assert [row async for row in result] == rows[5:]


async def test_fetchone(any_conn, rows):
    result = await any_conn.query("rows")
    assert [await result.fetchone() for _ in range(8)] == [*rows, None, None]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6, 100])
async def test_fetchmany(any_conn, rows, size):
    result = await any_conn.query("rows")
    parts = []
    while part := await result.fetchmany(size):
        parts.append(part)
    assert parts == [rows[at : at + size] for at in range(0, 6, size)]


async def test_fetchall_gives_the_rest(any_conn, rows):
    result = await any_conn.query("rows")
    assert await result.fetchone() == rows[0]
    assert await result.fetchall() == rows[1:]
    assert await result.fetchall() == []
    assert result.row_count == 6


async def test_blocks(any_conn, rows):
    result = await any_conn.query("rows")
    blocks = [block async for block in result.blocks()]
    assert [len(block) for block in blocks] == [3, 2, 1]
    assert [block.columns[0].values.tolist() for block in blocks] == [[1, 2, 3], [4, 5], [6]]
    assert [row for block in blocks for row in block] == rows
    assert blocks[0].rows() == rows[:3]
    assert repr(blocks[0]) == "<Block 3 rows x 1 columns>"
    assert result.row_count == 6


async def test_blocks_behind_rows(any_conn, rows):
    result = await any_conn.query("rows")
    assert await result.fetchone() == rows[0]
    with pytest.raises(ResultError, match="some rows of the present block are read"):
        async for _ in result.blocks():
            pass
    with pytest.raises(ResultError, match="some rows of the present block are read"):
        await result.fetch_all_into_dict()
    assert await result.fetchmany(2) == rows[1:3]
    assert [len(block) async for block in result.blocks()] == [2, 1]


async def test_rows_behind_blocks(any_conn, rows):
    result = await any_conn.query("rows")
    async for block in result.blocks():
        assert len(block) == 3
        break
    assert await result.fetchall() == rows[3:]


@pytest.mark.parametrize("factory", [None, dict_row, lambda fields: list])
async def test_fetch_all_into_dict(server, any_conn, factory):
    fields = [BIGINT, Field("s", TypeCode.NCHAR, 4)]
    server.rows("named", fields, [[1, 2], ["a", None]], [[3], ["涛"]])
    result = await any_conn.query("named", row_factory=factory)
    assert await result.fetch_all_into_dict() == [
        {"v": 1, "s": "a"},
        {"v": 2, "s": None},
        {"v": 3, "s": "涛"},
    ]
    assert await result.fetch_all_into_dict() == []


@pytest.mark.parametrize("size", [0, -1, 1.0, "2", None, True])
async def test_a_bad_size(any_conn, rows, size):
    result = await any_conn.query("rows")
    with pytest.raises(InterfaceError, match="size: expected a whole number from 1"):
        await result.fetchmany(size)
    assert await result.fetchall() == rows


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), "soon", True, [1]])
async def test_a_bad_timeout(any_conn, rows, timeout):
    result = await any_conn.query("rows")
    for read in (result.fetchone, result.fetchall, result.fetch_all_into_dict):
        with pytest.raises(InterfaceError, match="timeout: expected a positive number of seconds"):
            await read(timeout=timeout)
    assert await result.fetchall() == rows


async def test_a_timeout_that_is_long_enough(any_conn, rows):
    result = await any_conn.query("rows", timeout=30)
    assert await result.fetchone(timeout=30) == rows[0]
    assert await result.fetchmany(2, timeout=float("inf")) == rows[1:3]
    assert await result.fetchall(timeout="30") == rows[3:]


# How much is held.


async def test_the_next_block_is_asked_for_while_one_is_read(server, conn, rows):
    result = await conn.query("rows")
    assert server.session.seen("fetch") == []
    assert await result.fetchone() == (1,)
    await server.until(lambda: len(server.session.seen("fetch")) == 2)
    assert await result.fetchmany(2) == [(2,), (3,)]
    assert await conn.fetchval("select 1") == 1
    assert len(server.session.seen("fetch")) == 3  # that of `select 1`; no third block yet
    assert await result.fetchone() == (4,)
    await server.until(lambda: len(server.session.seen("fetch")) == 4)
    assert await result.fetchall() == [(5,), (6,)]


async def test_blocks_are_asked_for_one_at_a_time(server, conn):
    """The server notes if a second fetch of a result comes before the first is answered."""
    server.integers("rows", *([number] for number in range(100)))
    results = [await conn.query("rows") for _ in range(5)]
    everything = await asyncio.gather(*(result.fetchall() for result in results))
    assert everything == [[(number,) for number in range(100)]] * 5
    assert server.errors == []


ROWS, PER_BLOCK = 5_000_000, 10_000


@pytest.fixture
def five_million(server):
    """Blocks are made once; the server counts how far it was ahead of the reader."""
    raw = encode_block([BIGINT], [np.arange(PER_BLOCK)])

    def blocks():
        for _ in range(ROWS // PER_BLOCK):
            yield raw

    server.raw("five million", [BIGINT], blocks)
    return len(raw)


async def test_five_million_rows_in_the_memory_of_a_few_blocks(server, conn, five_million):
    total = count = 0
    gc.collect()
    tracemalloc.start()
    try:
        result = await conn.query("five million")
        async for block in result.blocks():
            count += len(block)
            total += int(block.columns[0].values.sum())
            (held,) = server.session.results.values() or [None]
            if held is not None:
                assert held.sent * PER_BLOCK - count <= PER_BLOCK  # one block ahead at most
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == result.row_count == ROWS
    assert total == ROWS // PER_BLOCK * (PER_BLOCK * (PER_BLOCK - 1) // 2)
    assert peak < 16 * five_million  # the server's own buffers are among it
    fetches = len(server.session.seen("fetch"))
    assert fetches == ROWS // PER_BLOCK + 1


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads /proc")
async def test_five_million_rows_as_tuples(server, conn, five_million):
    count = total = 0
    gc.collect()
    before, most = resident(), 0
    result = await conn.query("five million")
    while rows := await result.fetchmany(15_000):
        count += len(rows)
        total += sum(map(itemgetter(0), rows))
        most = max(most, resident())
    assert count == ROWS
    assert total == ROWS // PER_BLOCK * (PER_BLOCK * (PER_BLOCK - 1) // 2)
    assert most - before < 40_000_000  # all rows would be some 400 MB


# When the server may drop it.


async def test_exhaustion_frees_it_without_a_word(server, any_conn, rows):
    assert await any_conn.fetch("rows") == rows
    assert [row async for row in await any_conn.query("rows")] == rows
    assert server.session.results == {}
    assert server.session.seen("free_result") == []


async def test_aclose_frees_it(server, any_conn, rows):
    result = await any_conn.query("rows")
    await result.aclose()
    await result.aclose()
    assert result.closed
    assert repr(result) == "<Result 1 columns, 0 rows read, closed>"
    await server.until(lambda: server.session.freed == ["rows"])
    for read in (result.fetchone, result.fetchall, result.fetch_all_into_dict):
        with pytest.raises(ResultError, match="the result is closed") as raised:
            await read()
        assert raised.value.req_id == result.req_id
    with pytest.raises(ResultError, match="the result is closed"):
        async for _ in result:
            pass
    assert len(server.session.seen("free_result")) == 1


async def test_aclose_after_the_end_changes_nothing(server, any_conn, rows):
    result = await any_conn.query("rows")
    assert await result.fetchall() == rows
    await result.aclose()
    assert not result.closed
    assert await result.fetchone() is None
    assert server.session.seen("free_result") == []


async def test_aclose_in_the_middle(server, any_conn, rows):
    """What is still on its way, too, is given back."""
    result = await any_conn.query("rows")
    assert await result.fetchone() == rows[0]
    await result.aclose()
    await server.until(lambda: server.session.freed == ["rows"])
    with pytest.raises(ResultError):
        await result.fetchone()


async def test_the_end_of_a_with_block_frees_it(server, any_conn, rows):
    async with await any_conn.query("rows") as result:
        assert await result.fetchone() == rows[0]
    assert result.closed
    await server.until(lambda: server.session.freed == ["rows"])


async def test_an_error_in_a_with_block_frees_it(server, any_conn, rows):
    with pytest.raises(ZeroDivisionError):
        async with await any_conn.query("rows"):
            raise ZeroDivisionError
    await server.until(lambda: server.session.freed == ["rows"])


async def test_breaking_and_dropping_frees_it(server, any_conn, rows):
    async for row in await any_conn.query("rows"):
        assert row == rows[0]
        break
    gc.collect()
    await server.until(lambda: server.session.freed == ["rows"])


async def test_dropping_it_unread_frees_it(server, any_conn, rows):
    await any_conn.query("rows")
    gc.collect()
    await server.until(lambda: server.session.freed == ["rows"])


async def test_dropping_it_in_another_thread_frees_it(server, conn, rows):
    box = [await conn.query("rows")]
    await asyncio.to_thread(box.clear)
    await server.until(lambda: server.session.freed == ["rows"])


@pytest.mark.parametrize("call", ["execute", "fetchrow", "fetchval"])
async def test_what_reads_little_frees_the_rest(server, any_conn, rows, call):
    assert await getattr(any_conn, call)("rows") in (0, (1,), 1)
    await server.until(lambda: server.session.freed == ["rows"])
    assert len(server.session.seen("fetch_raw_block") or server.session.seen("fetch")) <= 2


async def test_a_value_that_cannot_be_converted_frees_it(server, any_conn):
    fields = [Field("ts", TypeCode.TIMESTAMP, 8)]
    server.rows("rows", fields, [[1, 2]], [[2**62]], [[3]])
    result = await any_conn.query("rows")
    assert await result.fetchmany(2) == [
        (datetime.fromtimestamp(0.001, UTC),),
        (datetime.fromtimestamp(0.002, UTC),),
    ]
    with pytest.raises(aiotaos.DataError, match="outside what a datetime holds"):
        await result.fetchone()
    assert result.closed
    await server.until(lambda: server.session.freed == ["rows"])


# Several readers.


async def test_two_tasks_cannot_read_one_result(server, any_conn, rows):
    gate = server.hold("fetch", "rows")
    result = await any_conn.query("rows", req_id=9)
    first = asyncio.ensure_future(result.fetchall())
    await gate.reached.wait()
    for read in (result.fetchone, result.fetchall, result.fetch_all_into_dict):
        with pytest.raises(InterfaceError, match="another task is reading this result") as raised:
            await read()
        assert raised.value.req_id == 9
    gate.open()
    assert await first == rows


async def test_closing_it_while_a_task_reads(server, any_conn, rows):
    """The reader hears of it as an error; it is not cancelled itself."""
    gate = server.hold("fetch", "rows")
    result = await any_conn.query("rows", req_id=9)
    reader = asyncio.ensure_future(result.fetchall())
    await gate.reached.wait()
    await result.aclose()
    with pytest.raises(ResultError, match="closed while it was read") as raised:
        await reader
    assert raised.value.req_id == 9
    gate.open()
    await server.until(lambda: server.session.freed == ["rows"])


async def test_results_are_read_in_turns(server, any_conn):
    for name in "abc":
        server.integers(name, [ord(name)], [ord(name) + 100], [ord(name) + 200])
    results = [await any_conn.query(name) for name in "abc"]
    for plus in (0, 100, 200):
        for result, name in zip(results, "abc", strict=True):
            assert await result.fetchone() == (ord(name) + plus,)
    assert [await result.fetchone() for result in results] == [None] * 3

"""Results of many blocks, cursors and row factories."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

import aiotaos
from aiotaos import InterfaceError, ProgrammingError, ResultError, TypeCode
from aiotaos.row_factories import class_row, dict_row, namedtuple_row, tuple_row

START = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
MANY = 100_000
SOME = 13_000  # four blocks


def expected_row(v: int) -> tuple[Any, ...]:
    return START + timedelta(milliseconds=v), v, f"row {v}" if v % 7 else None


async def test_many_blocks_streamed(conn: Any, numbers: Any) -> None:
    await numbers(conn, "t", MANY)
    result = await conn.query("select * from t order by ts")
    assert result.row_count is None
    v = 0
    async for row in result:
        assert row == expected_row(v)
        v += 1
    assert v == MANY == result.row_count
    assert await result.fetchone() is None

    result = await conn.query("select * from t order by ts")
    lengths = [len(block) async for block in result.blocks()]
    assert sum(lengths) == MANY
    assert len(lengths) > 10

    rows = await conn.fetch("select * from t order by ts desc")
    assert rows == [expected_row(v) for v in reversed(range(MANY))]


@pytest.mark.parametrize("size", [1, 1000, 4095, 4096, 4097, 5000, SOME, SOME + 1])
async def test_fetchmany_across_blocks(conn: Any, numbers: Any, size: int) -> None:
    await numbers(conn, "t", SOME)
    async with conn.cursor() as cursor:
        await cursor.execute("select v from t order by ts")
        assert cursor.rowcount == -1
        position = 0
        while rows := await cursor.fetchmany(size):
            assert len(rows) == min(size, SOME - position)
            assert [row[0] for row in rows] == list(range(position, position + len(rows)))
            position += len(rows)
        assert position == SOME == cursor.rowcount
        assert await cursor.fetchmany(size) == []


async def test_ways_of_reading_mixed(conn: Any, numbers: Any) -> None:
    await numbers(conn, "t", SOME)
    result = await conn.query("select v from t order by ts")
    assert await result.fetchone() == (0,)
    assert len(await result.fetchmany(4095)) == 4095  # the end of a block
    async for row in result:
        assert row == (4096,)
        break
    with pytest.raises(ResultError):
        async for _ in result.blocks():
            pass
    assert (await result.fetchmany(2)) == [(4097,), (4098,)]
    rest = await result.fetchall()
    assert rest == [(v,) for v in range(4099, SOME)]
    assert await result.fetchall() == []


async def test_interleaved_cursors(conn: Any, numbers: Any) -> None:
    await numbers(conn, "t", SOME)
    cursors = [conn.cursor() for _ in range(8)]
    for step, cursor in enumerate(cursors):
        await cursor.execute(f"select v * {step + 1}, v from t order by ts")
    positions = [0] * len(cursors)
    while any(position < SOME for position in positions):
        for step, cursor in enumerate(cursors):
            rows = await cursor.fetchmany(1000 + 300 * step)
            begin = positions[step]
            assert rows == [(v * (step + 1), v) for v in range(begin, begin + len(rows))]
            positions[step] += len(rows)
    for cursor in cursors:
        await cursor.close()


async def test_cursors_read_by_many_tasks(conn: Any, numbers: Any) -> None:
    await numbers(conn, "t", SOME)

    async def read(modulus: int) -> int:
        total = 0
        async with conn.cursor() as cursor:
            await cursor.execute(f"select v from t where v % {modulus} = 0 order by ts")
            async for (v,) in cursor:
                total += v
        return total

    moduli = range(1, 21)
    totals = await asyncio.gather(*map(read, moduli))
    assert totals == [sum(range(0, SOME, modulus)) for modulus in moduli]


async def test_200_queries_at_once(conn: Any, numbers: Any) -> None:
    await numbers(conn, "t", SOME)
    answers = await asyncio.gather(
        *(
            conn.fetch(f"select v, {index} from t where v >= {index * 10} limit 20")
            for index in range(200)
        )
    )
    for index, rows in enumerate(answers):
        assert rows == [(v, index) for v in range(index * 10, index * 10 + 20)]
    whole = await asyncio.gather(*(conn.fetch("select v from t order by ts") for _ in range(10)))
    assert whole == [[(v,) for v in range(SOME)]] * 10


async def test_concurrent_writes(conn: Any) -> None:
    await conn.execute("create stable s (ts timestamp, v int) tags (g int)")
    written = await asyncio.gather(
        *(
            conn.execute(f"insert into s{g} using s tags ({g}) values (1, {g}) (2, {g})")
            for g in range(100)
        )
    )
    assert written == [2] * 100
    assert await conn.fetchrow("select count(*), sum(v) from s") == (200, 2 * sum(range(100)))


async def test_reading_cancelled_in_the_middle(conn: Any, numbers: Any) -> None:
    await numbers(conn, "t", MANY)
    result = await conn.query("select * from t order by ts")
    reached = asyncio.Event()
    count = 0

    async def read() -> None:
        nonlocal count
        async for _ in result:
            count += 1
            if count == 20_000:
                reached.set()
                await asyncio.Event().wait()

    task = asyncio.create_task(read())
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await conn.fetchval("select count(*) from t") == MANY
    # It was not cancelled while it waited for the result: that can be read on.
    assert await result.fetchone() == expected_row(count)
    await result.aclose()
    with pytest.raises(ResultError):
        await result.fetchone()
    assert await conn.fetchval("select max(v) from t") == MANY - 1


async def test_fetch_cancelled_at_every_stage(conn: Any, numbers: Any) -> None:
    await numbers(conn, "t", SOME)
    for steps in range(40):
        task = asyncio.create_task(conn.fetch("select v from t order by ts"))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    assert await conn.fetch("select v from t order by ts") == [(v,) for v in range(SOME)]


async def test_results_closed_early_do_not_stay(
    conn: Any, connect: Any, database: str, numbers: Any, until: Any
) -> None:
    """What the server still holds is listed as a running query."""
    await numbers(conn, "t", SOME)
    watcher = await connect(database=database)

    async def held() -> set[int]:
        rows = await watcher.fetch("select query_id from performance_schema.perf_queries")
        return {row[0] for row in rows}

    results = [await conn.query("select * from t") for _ in range(100)]
    ids = {result.req_id for result in results}

    async def all_listed() -> bool:
        return ids <= await held()

    await until(all_listed)
    for number, result in enumerate(results):
        if number % 3 == 0:
            assert await result.fetchone() is not None
        elif number % 3 == 1:
            async for _ in result.blocks():
                break
        await result.aclose()
        assert result.closed

    async def none_listed() -> bool:
        return not ids & await held()

    await until(none_listed)
    for _ in range(300):
        await (await conn.query("select * from t")).aclose()
        assert await conn.fetchrow("select v from t order by ts") == (0,)
    dropped = [await conn.query("select * from t") for _ in range(20)]
    ids = {result.req_id for result in dropped}
    dropped.clear()
    await until(none_listed)
    assert len(await conn.fetch("select * from t")) == SOME


async def test_row_factories(conn: Any, connect: Any, numbers: Any) -> None:
    await numbers(conn, "t", 5000)
    sql = "select v, text, ts from t order by ts"
    rows = await conn.fetch(sql, row_factory=dict_row)
    assert rows[1] == {"v": 1, "text": "row 1", "ts": START + timedelta(milliseconds=1)}
    assert len(rows) == 5000

    rows = await conn.fetch(sql, row_factory=namedtuple_row)
    assert (rows[7].v, rows[7].text) == (7, None)
    row = await conn.fetchrow(
        "select count(*), _wstart from t interval(1h)", row_factory=namedtuple_row
    )
    assert row._fields == ("count_", "f_wstart")

    @dataclass
    class Reading:
        v: int
        text: str | None
        ts: datetime

    row = await conn.fetchrow(sql, row_factory=class_row(Reading))
    assert row == Reading(0, None, START)

    class Struct(msgspec.Struct):
        v: int
        text: str | None

    rows = await conn.fetch("select v, text from t order by ts", row_factory=class_row(Struct))
    assert rows[4999] == Struct(4999, "row 4999")
    with pytest.raises(InterfaceError, match="'ts'"):
        await conn.fetch(sql, row_factory=class_row(Struct))

    def first_only(fields: Any) -> Any:
        return lambda values: values[0]

    async with conn.cursor(row_factory=first_only) as cursor:
        await cursor.execute(sql)
        assert await cursor.fetchmany(3) == [0, 1, 2]

    dicts = await connect(database=conn.database, row_factory=dict_row)
    assert await dicts.fetchrow("select v from t order by ts") == {"v": 0}
    assert await dicts.fetchrow("select v from t order by ts", row_factory=tuple_row) == (0,)
    assert await dicts.fetchval("select v from t order by ts") == 0


async def test_fetch_all_into_dict(conn: Any, numbers: Any) -> None:
    await numbers(conn, "t", 5000)
    result = await conn.query("select v from t order by ts")
    assert await result.fetch_all_into_dict() == [{"v": v} for v in range(5000)]


async def test_cursor_of_a_query(conn: Any, numbers: Any) -> None:
    await numbers(conn, "t", 10)
    await conn.execute("create table d (ts timestamp, v decimal(20,4), s varchar(7))")
    async with conn.cursor() as cursor:
        assert cursor.description is None
        assert cursor.rowcount == -1
        with pytest.raises(ProgrammingError):
            await cursor.fetchone()
        assert await cursor.execute("insert into d values (1, 1.5, 'a') (2, 2, 'b')") is cursor
        assert cursor.rowcount == 2
        assert cursor.description is None
        with pytest.raises(ProgrammingError):
            await cursor.fetchone()
        await cursor.execute("select * from d order by ts")
        assert cursor.description == [
            ("ts", TypeCode.TIMESTAMP, None, 8, None, None, None),
            ("v", TypeCode.DECIMAL, None, 16, 20, 4, None),
            ("s", TypeCode.VARCHAR, None, 7, None, None, None),
        ]
        assert (await cursor.fetchone())[2] == "a"
        assert len(await cursor.fetchall()) == 1
        assert cursor.rowcount == 2
        await cursor.execute("select v from t")
        assert await cursor.fetchmany() == [(0,)]
        with pytest.raises(ProgrammingError):
            await cursor.execute("select nothing from t")
        assert await (await cursor.execute("select 1")).fetchall() == [(1,)]
    with pytest.raises(InterfaceError):
        await cursor.execute("select 1")


async def test_result_of_a_closed_connection(dsn: str, conn: Any, numbers: Any) -> None:
    await numbers(conn, "t", SOME)
    async with aiotaos.connect(dsn, database=conn.database) as other:
        result = await other.query("select v from t order by ts")
        assert await result.fetchone() == (0,)
    with pytest.raises(InterfaceError):
        await result.fetchall()
    with pytest.raises(InterfaceError):
        await other.fetchval("select 1")

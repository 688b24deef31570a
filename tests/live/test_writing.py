"""Bulk insert and the writer, on a real server."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import aiotaos
from aiotaos import DataError, ProgrammingError, WriteError

T = 1_700_000_000_000
FAR = 10**18  # no database keeps this time
NAMES = ("name", "loc", "site", "ts", "v")
OPTIONS: dict[str, Any] = {"tbname": "name", "tags": ["loc", "site"]}
ROWS = [
    ("b", "上海", 2, T, 1.5),
    ("a", "x", 1, T, 2.5),
    ("b", "上海", 2, T + 1, 3.5),
    ("c", None, 3, T, -0.5),
    ("a", "x", 1, T + 1, 4.5),
]
STORED = [ROWS[1], ROWS[4], ROWS[0], ROWS[2], ROWS[3]]
COLUMNS: dict[str, Any] = dict(zip(NAMES, map(list, zip(*ROWS, strict=True)), strict=True))
ARROW = pa.table(COLUMNS | {"ts": pa.array(COLUMNS["ts"], pa.timestamp("ms"))})
TAKEN = {
    "tuples": lambda: ROWS,
    "dicts": lambda: [dict(zip(NAMES, row, strict=True)) for row in ROWS],
    "lists": lambda: COLUMNS,
    "structured": lambda: np.array(
        ROWS, [("name", "U3"), ("loc", "O"), ("site", "i4"), ("ts", "M8[ms]"), ("v", "f8")]
    ),
    "Arrow": lambda: ARROW,
    "reader": lambda: ARROW.to_reader(max_chunksize=2),
    "polars": lambda: pl.DataFrame(ARROW),
    "pandas": lambda: pd.DataFrame(COLUMNS | {"ts": pd.to_datetime(COLUMNS["ts"], unit="ms")}),
}


@pytest.fixture
async def conn(connect: Any, database: str) -> Any:
    conn = await connect(database=database, timestamp="int")
    await conn.execute("create table t (ts timestamp, v int, s varchar(8))")
    await conn.execute("create table m (ts timestamp, v double) tags (loc nchar(8), site int)")
    return conn


async def meters(conn: Any) -> list[Any]:
    return await conn.fetch("select tbname, loc, site, ts, v from m order by tbname, ts")


@pytest.mark.parametrize("batch_rows", [2, 100])
@pytest.mark.parametrize("make", TAKEN.values(), ids=TAKEN.keys())
async def test_every_form(conn: Any, make: Any, batch_rows: int) -> None:
    assert await conn.insert("m", make(), **OPTIONS, batch_rows=batch_rows) == 5
    assert await meters(conn) == STORED


async def test_tables_that_are_there(conn: Any) -> None:
    await conn.execute("create table old using m tags ('old', 0)")
    rows = [("new", "first", 1, T, 1.0), ("old", "no", 2, T, 2.0), ("new", "no", 3, T + 1, 3.0)]
    assert await conn.insert("m", rows, **OPTIONS) == 3
    more = [("new", T + 2, 4.0), ("old", T + 2, 5.0)]
    assert await conn.insert("m", more, tbname="n", columns=["n", "ts", "v"]) == 2
    assert await meters(conn) == [
        ("new", "first", 1, T, 1.0),
        ("new", "first", 1, T + 1, 3.0),
        ("new", "first", 1, T + 2, 4.0),
        ("old", "old", 0, T, 2.0),
        ("old", "old", 0, T + 2, 5.0),
    ]


async def test_a_sub_table_that_is_not_there_needs_tags(conn: Any) -> None:
    with pytest.raises(ProgrammingError) as caught:
        await conn.insert("m", [("new", T, 1.0)], tbname="n", columns=["n", "ts", "v"])
    assert caught.value.code == 0x2603
    assert await meters(conn) == []


async def test_the_last_of_equal_times_stays(conn: Any) -> None:
    rows = [(name, "x", 1, T, float(turn)) for turn in range(50) for name in "ab"]
    for batch_rows in (7, 1000):
        await conn.insert("m", rows[::-1] + rows, **OPTIONS, batch_rows=batch_rows)
        assert await conn.fetch("select tbname, v from m order by tbname") == [
            ("a", 49.0),
            ("b", 49.0),
        ]


@pytest.mark.parametrize("is_qualified", [False, True])
async def test_names_of_sub_tables(conn: Any, database: str, is_qualified: bool) -> None:
    names = ["1", "UPPER", "a?b", "a`b", "it's", "plain", "select", "with space", "x-y", "涛思"]
    rows = [(name, "x", row, T, 0.0) for row, name in enumerate(names)]
    table = f"{database}.m" if is_qualified else "m"
    assert await conn.insert(table, rows, **OPTIONS) == len(names)
    found = await conn.fetch("select tbname from m order by site")
    assert [name for (name,) in found] == names


async def test_names_of_tables(conn: Any, database: str) -> None:
    await conn.execute("create table `T` (ts timestamp, `my v` int)")
    for number, name in enumerate(["T", f"{database}.T", f"`{database}`.`T`"]):
        assert await conn.insert(name, {"ts": [T + number], "my v": [number]}) == 1
    assert await conn.fetch("select `my v` from `T`") == [(0,), (1,), (2,)]


async def test_another_database(conn: Any, make_database: Any) -> None:
    other = await make_database("ns")
    await conn.execute(f"create table {other}.m (ts timestamp, v int) tags (g int)")
    row = ("a", 1, T * 10**6 + 5, 2)
    assert await conn.insert(f"{other}.m", [row], tbname="n", tags=["g"]) == 1
    assert await conn.fetch(f"select tbname, g, ts, v from {other}.m") == [row]
    assert await meters(conn) == []


@pytest.mark.parametrize("tables", [0, 1, 3, 5000])
async def test_many_rows(conn: Any, tables: int) -> None:
    """More of one table, and of all, than go in one message."""
    rows = 150_000
    numbers = np.arange(rows)
    data: dict[str, Any] = {"ts": T + numbers, "v": numbers}
    options: dict[str, Any] = {}
    if tables:
        data["name"] = np.char.add("t", (numbers % tables).astype(str))
        data |= {"loc": data["name"], "site": numbers % tables}
        options = OPTIONS
    table = "m" if tables else "t"
    assert await conn.insert(table, data, **options, batch_rows=100_000) == rows
    found = await conn.fetchrow(f"select count(*), sum(v), min(v), max(v) from {table}")
    assert found == (rows, rows * (rows - 1) // 2, 0, rows - 1)
    if tables:
        wrong = "select count(*) from m where loc != tbname or cast(loc as nchar(8)) is null"
        assert await conn.fetchval(wrong) == 0
        counted = "select count(*) from (select distinct tbname, site from m)"
        assert await conn.fetchval(counted) == tables


async def test_decimals_and_points(conn: Any) -> None:
    await conn.execute(
        "create table d (ts timestamp, d decimal(10,2), e decimal(38,10), g geometry(100))"
    )
    point = struct.pack("<BIdd", 1, 1, 1.5, -2.5)
    rows = [
        (T, Decimal("12345678.90"), Decimal("-1.0000000001"), point),
        (T + 1, None, Decimal("9" * 28 + ".0000000000"), None),
    ]
    assert await conn.insert("d", rows) == 2
    assert await conn.fetch("select * from d") == rows
    with pytest.raises(DataError, match=r"column 'd', row 1: .* is not a value of DECIMAL\(10,2\)"):
        await conn.insert("d", [(T, "1.5", 0, None), (T, "1.555", 0, None)])


async def test_a_table_that_is_made_anew(conn: Any) -> None:
    for columns, row in (
        ("ts timestamp, v int", ("a", 1, T, 5)),
        ("ts timestamp, s nchar(9), w double", ("a", 2, T, "five", 5.5)),
        ("ts timestamp, v int", ("a", 3, T, 6)),
    ):
        await conn.execute(f"create table anew ({columns}) tags (g int)")
        assert await conn.insert("anew", [row], tbname="n", tags=["g"]) == 1
        assert await conn.fetch("select g, * from anew") == [(*row[1:], row[1])]
        await conn.execute("drop table anew")


async def test_a_column_that_is_added(conn: Any) -> None:
    assert await conn.insert("m", ROWS[:1], **OPTIONS) == 1
    await conn.execute("alter table m add column w int")
    assert await conn.insert("m", [("b", "x", 1, T + 5, 0.5, 7)], **OPTIONS) == 1
    assert await conn.fetch("select ts, v, w from m order by ts") == [
        (T, 1.5, None),
        (T + 5, 0.5, 7),
    ]


async def test_a_later_batch_that_is_refused(conn: Any) -> None:
    rows = [(T + row, row, "s") for row in range(45)]
    rows[33] = (FAR, 33, "s")
    with pytest.raises(DataError) as caught:
        await conn.insert("t", rows, batch_rows=10)
    assert caught.value.code == 0x060B
    assert caught.value.__notes__ == ["30 rows of earlier batches were written"]
    assert await conn.fetchval("select count(*) from t") == 30


@pytest.mark.parametrize("row", [("new", "x" * 9, 1, T, 0.5), ("a", "x", 1, T, "0.5")])
async def test_bad_input_writes_nothing(conn: Any, row: Any) -> None:
    with pytest.raises(DataError, match="row 5: "):
        await conn.insert("m", [*ROWS, row], **OPTIONS)
    assert await conn.fetchval("select count(*) from m") == 0


async def test_cancelled_at_any_moment(conn: Any) -> None:
    data = [(f"t{row % 7}", "x", 1, T + row, 0.5) for row in range(40)]
    cancelled = 0
    for turns in (int(1.15**step) for step in range(110)):
        task = asyncio.create_task(conn.insert("m", iter(data), **OPTIONS, batch_rows=10))
        for _ in range(turns):
            await asyncio.sleep(0)
        if not task.cancel():
            break
        try:
            await task
        except asyncio.CancelledError:
            cancelled += 1
    assert cancelled > 10
    assert await conn.insert("m", data, **OPTIONS) == 40
    assert await conn.fetchval("select count(*) from m") == 40


async def test_how_far_it_reads_ahead(conn: Any) -> None:
    async def source() -> AsyncIterator[Any]:
        for batch in range(8):
            there = await conn.fetchval("select count(*) from t")
            assert max(0, batch - 2) * 10 <= there <= batch * 10
            yield {"ts": [T + batch * 10 + row for row in range(10)], "v": [1] * 10}

    assert await conn.insert("t", source(), columns=["ts", "v"]) == 80


async def test_the_writer(conn: Any) -> None:
    async with conn.writer("m", **OPTIONS, max_rows=100, max_pending=300) as writer:

        async def write(name: str) -> None:
            for number in range(500):
                await writer.write(
                    {"name": name, "loc": name, "site": 1, "ts": T + number // 2, "v": number}
                )

        await asyncio.gather(*map(write, "abcd"))
        await writer.flush()
        assert writer.stats == aiotaos.WriterStats(2000, 20, 0, 0, 0, 0.0)
        assert await conn.fetchval("select count(*) from m") == 1000
    assert await conn.fetchval("select sum(v) from m") == 4 * sum(range(1, 500, 2))


async def test_the_writer_and_age(conn: Any, until: Any) -> None:
    async with conn.writer("t", max_delay=0.01) as writer:
        await writer.write((T, 1, "s"))
        assert await until(lambda: conn.fetchval("select count(*) from t")) == 1


async def test_the_writer_and_rows_that_the_server_refuses(conn: Any) -> None:
    with pytest.raises(WriteError) as caught:  # noqa: PT012
        async with conn.writer("m", **OPTIONS) as writer:
            for number in range(16):
                time = FAR if number == 11 else T + number
                await writer.write((f"t{number % 3}", "x", 1, time, float(number)))
    assert caught.value.rows == [("t2", "x", 1, FAR, 11.0)]
    assert caught.value.code == 0x060B
    assert await conn.fetchval("select count(*) from m") == 15


async def test_the_writer_and_a_connection_that_is_lost(conn: Any, connect: Any) -> None:
    """Every row is acknowledged or reported."""
    other = await connect(database=conn.database)
    reported: list[Any] = []
    options: dict[str, Any] = {"on_error": lambda rows, _: reported.extend(rows), "max_rows": 5}
    async with other.writer("t", **options) as writer:
        for number in range(50):
            await writer.write((T + number, number, "s"))
            if writer.stats.rows >= 20:
                other.terminate()
    assert writer.stats.rows + len(reported) == 50
    there = {v for (v,) in await conn.fetch("select v from t")}
    assert there | {v for _, v, _ in reported} == set(range(50))

"""Writing over libtaos, to a real taosd: bound rows, parameters and lines, all read back.

make live AIOTAOS_TEST_NATIVE_DSN='taos://root:taosdata@localhost:6030?library_path=...'
"""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

import aiotaos
from aiotaos import (
    DatabaseError,
    ProgrammingError,
    SchemalessError,
    SchemalessProtocol,
    StatementError,
    TableRows,
    TimeoutError,
)
from aiotaos.transport.native import statements
from tests.live.conftest import SLOW
from tests.type_matrix import COLUMNS, DIGITS, PRECISIONS, START, TAGS, differences

T = 1_700_000_000_000
NAMED = "insert into ? using m tags(?, ?) values(?, ?)"


@pytest.fixture(scope="session")
def dsn(native_dsn: str) -> str:
    """The server; this road alone."""
    return native_dsn


@pytest.fixture
async def conn(connect: Any, database: str) -> Any:
    conn = await connect(database=database, timestamp="int")
    await conn.execute("create table t (ts timestamp, v int, s varchar(8), n nchar(8))")
    await conn.execute("create table m (ts timestamp, v double) tags (loc nchar(8), site int)")
    return conn


@pytest.fixture
def first_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The statements of libraries that have no stmt2."""
    monkeypatch.setattr(statements, "has_stmt2", lambda library: False)


# Parameters.


@pytest.mark.parametrize("generation", [1, 2])
async def test_parameters(
    connect: Any, database: str, generation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "has_stmt2", lambda library: generation == 2)
    conn = await connect(database=database, timestamp="int")
    await conn.execute("create table t (ts timestamp, v int, s varchar(8), n nchar(8))")
    insert = "insert into t values(?, ?, ?, ?)"
    assert await conn.execute(insert, T, 1, "a", "涛思 🚀") == 1
    assert await conn.execute(insert, datetime(2024, 3, 1, tzinfo=UTC), None, None, None) == 1
    rows = [(T + row, row, "x" * (row % 9), None if row % 3 else "é") for row in range(1, 1000)]
    assert await conn.executemany(insert, rows) == 999
    found = await conn.fetch("select * from t order by ts")
    assert found[0] == (T, 1, "a", "涛思 🚀")
    assert found[1:1000] == rows
    assert found[1000] == (START * 1000, None, None, None)
    where = "select v from t where v >= ? and v < ? and n = ?"
    assert await conn.fetch(where, 3, 9.5, "é") == [(3,), (6,), (9,)]
    assert await conn.fetch("select count(*) from t where v > ?", None) in ([], [(0,)])
    assert await conn.fetchval("select v from t where s = ? limit 1", "' or 1=1 --") is None
    times = "select count(*) from t where ts < ?"
    moment = datetime.fromtimestamp(T // 1000, UTC) + timedelta(milliseconds=10)
    assert await conn.fetchval(times, moment) == 10
    for wrong in ("insert into nowhere values(?)", "select * from nowhere where a = ?"):
        with pytest.raises(DatabaseError):
            await conn.execute(wrong, 1)
    assert await conn.fetchval("select count(*) from t where v < ?", 5) == 5


async def test_a_value_that_the_server_refuses(conn: Any) -> None:
    with pytest.raises(DatabaseError) as caught:
        await conn.execute("insert into t values(?, ?, ?, ?)", 10**18, 1, "a", "b")
    assert caught.value.code == 0x060B
    assert await conn.execute("insert into t values(?, ?, ?, ?)", T, 1, "a", "b") == 1


# Every type.


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("tables", [0, 1, 40])
async def test_every_type(connect: Any, make_database: Any, precision: str, tables: int) -> None:
    conn = await connect(database=await make_database(precision), timestamp="int")
    columns = ", ".join(f"{name} {column.sql}" for name, column in COLUMNS.items())
    tags = ", ".join(f"g{name} {COLUMNS[name].sql}" for name in TAGS)
    await conn.execute(
        f"create table e (ts timestamp, {columns})" + (f" tags ({tags})" if tables else "")
    )
    kinds = ["low", "high", "usual", "empty"]
    second = 10 ** DIGITS[precision]

    def values(names: Any, place: int) -> list[Any]:
        if place == 4:
            return [None] * len(names)
        return [getattr(COLUMNS[name], kinds[place])[1] for name in names]

    rows = [(START * second + row, *values(COLUMNS, row % 5)) for row in range(5 * (tables or 1))]
    if not tables:
        assert await conn.insert("e", rows) == 5
        assert differences(await conn.fetch("select * from e"), rows, ["ts", *COLUMNS]) == []
        return
    # A table has the tags of its first row, which all of its rows give here.
    given = [
        (f"t{row % tables}", *values(TAGS, row % tables % 5), *of_row)
        for row, of_row in enumerate(rows)
    ]
    names = ["name", *(f"g{name}" for name in TAGS)]
    assert await conn.insert(
        "e", given, tbname="name", tags=names[1:], columns=[*names, "ts", *COLUMNS]
    ) == len(rows)
    found = await conn.fetch(
        f"select tbname, {', '.join(names[1:])}, ts, {', '.join(COLUMNS)} from e order by ts"
    )
    assert differences(found, given, [*names, "ts", *COLUMNS]) == []


async def test_every_type_in_the_first_generation(
    connect: Any, database: str, first_generation: None
) -> None:
    names = list(TAGS)
    conn = await connect(database=database, timestamp="int")
    columns = ", ".join(f"{name} {COLUMNS[name].sql}" for name in names)
    tags = ", ".join(f"g{name} {COLUMNS[name].sql}" for name in names)
    await conn.execute(f"create table e (ts timestamp, {columns}) tags ({tags})")
    marks = ", ".join("?" * len(names))
    sql = f"insert into ? using e tags({marks}) values(?, {marks})"
    kinds = ["low", "high", "usual", "empty"]
    rows = [
        *([getattr(COLUMNS[name], kind)[1] for name in names] for kind in kinds),
        [None] * len(names),
    ]
    ts = [T + row for row in range(5)]
    tables = [
        TableRows([ts, *map(list, zip(*rows, strict=True))], f"t{place}", tags)
        for place, tags in enumerate(rows)
    ]
    async with await conn.prepare(sql) as statement:
        await statement.bind_tables(tables)
        assert await statement.execute() == 25
    for place, tags in enumerate(rows):
        expected = [(T + row, *values, *tags) for row, values in enumerate(rows)]
        found = await conn.fetch(
            f"select ts, {', '.join(names)}, "
            f"{', '.join(f'g{name}' for name in names)} from t{place}"
        )
        assert differences(found, expected, ["ts", *names, *names]) == []


async def test_decimals_that_are_not_told(conn: Any) -> None:
    """libtaos 3.3.7 tells no digits, and takes a DECIMAL as the integer that it is in a block."""
    await conn.execute("create table d (ts timestamp, d decimal(10,2), e decimal(38,10))")
    rows = [(T, Decimal("12345678.90"), Decimal("-1.0000000001")), (T + 1, None, Decimal(0))]
    assert await conn.insert("d", rows) == 2
    assert (
        differences(
            await conn.fetch("select * from d"),
            [rows[0], (T + 1, None, Decimal("0E-10"))],
            ["ts", "d", "e"],
        )
        == []
    )


async def test_json_tags(conn: Any) -> None:
    await conn.execute("create table j (ts timestamp, v int) tags (doc json)")
    rows = [("a", {"k": "é", "n": 1}, T, 1), ("b", None, T, 2)]
    assert await conn.insert("j", rows, tbname="n", tags=["doc"]) == 2
    assert await conn.fetchval("select doc->'k' from j where tbname = 'a'") == '"é"'
    assert await conn.fetchval("select doc from j where tbname = 'b'") is None


# Many rows.


@pytest.mark.parametrize("tables", [0, 1, 5000])
async def test_many_rows(conn: Any, tables: int) -> None:
    rows = 150_000
    numbers = np.arange(rows)
    data: dict[str, Any] = {"ts": T + numbers, "v": numbers}
    options: dict[str, Any] = {}
    if tables:
        data["name"] = np.char.add("t", (numbers % tables).astype(str))
        data |= {"loc": data["name"], "site": numbers % tables}
        options = {"tbname": "name", "tags": ["loc", "site"]}
    table = "m" if tables else "t"
    assert await conn.insert(table, data, **options, batch_rows=100_000) == rows
    found = await conn.fetchrow(f"select count(*), sum(v), min(v), max(v) from {table}")
    assert found == (rows, rows * (rows - 1) // 2, 0, rows - 1)
    if tables:
        wrong = "select count(*) from m where loc != tbname or cast(loc as nchar(8)) is null"
        assert await conn.fetchval(wrong) == 0


async def test_the_writer(conn: Any) -> None:
    options: dict[str, Any] = {"tbname": "name", "tags": ["loc", "site"]}
    async with conn.writer("m", **options, max_rows=100, max_pending=300) as writer:

        async def write(name: str) -> None:
            for number in range(500):
                await writer.write(
                    {"name": name, "loc": name, "site": 1, "ts": T + number, "v": number}
                )

        await asyncio.gather(*map(write, "abcd"))
        await writer.flush()
        assert await conn.fetchval("select count(*) from m") == 2000
    assert await conn.fetchval("select sum(v) from m") == 4 * sum(range(500))


# Prepared statements.


async def prepared_statements(conn: Any) -> None:
    async with await conn.prepare(NAMED) as statement:
        assert [field.name for field in statement.fields][1:] == ["loc", "site", "ts", "v"]
        for turn in range(3):
            for name in "ab":
                await statement.bind(
                    [[T + turn, T + 10 + turn], [turn, None]], tbname=name, tags=["涛思", 5]
                )
            assert await statement.execute() == 4
        await statement.bind_rows([("c", None, None, T, 1.5), ("a", "x", 1, T + 50, 2.5)])
        assert await statement.execute() == 2
        with pytest.raises(StatementError, match="nothing is bound"):
            await statement.execute()
    assert await conn.fetch(
        "select tbname, loc, site, count(*), sum(v) from m "
        "group by tbname, loc, site order by tbname"
    ) == [("a", "涛思", 5, 7, 5.5), ("b", "涛思", 5, 6, 3.0), ("c", None, None, 1, 1.5)]
    async with await conn.prepare("select ts, v from m where v >= ? order by ts, v") as query:
        assert query.parameter_count == 1
        for _ in range(3):
            assert await query.fetch(2) == [(T + 2, 2.0), (T + 2, 2.0), (T + 50, 2.5)]
        result = await query.query(0)
        assert await result.fetchone() == (T, 0.0)
        assert await query.fetch(2.5) == [(T + 50, 2.5)]
        await result.aclose()


async def test_prepared_statements(conn: Any) -> None:
    await prepared_statements(conn)


async def test_prepared_statements_of_the_first_generation(
    first_generation: None, connect: Any, database: str
) -> None:
    conn = await connect(database=database, timestamp="int")
    await conn.execute("create table m (ts timestamp, v double) tags (loc nchar(8), site int)")
    await prepared_statements(conn)


async def test_long_results_of_parameters(conn: Any) -> None:
    rows = [(T + row, row, None, "n") for row in range(20_000)]
    assert await conn.insert("t", rows) == 20_000
    found = await conn.fetch("select v from t where v >= ? order by ts", 100)
    assert found == [(row,) for row in range(100, 20_000)]
    for _ in range(20):
        result = await conn.query("select v from t where v >= ? order by ts", 100)
        assert await result.fetchone() == (100,)
        await result.aclose()


async def test_statements_at_once(connect: Any, conn: Any) -> None:
    async def write(name: str) -> int:
        rows = [(name, name, 1, T + row, row) for row in range(500)]
        async with await conn.prepare(NAMED) as statement:
            for start in range(0, 500, 50):
                await statement.bind_rows(rows[start : start + 50])
                assert await statement.execute() == 50
        return len(await conn.fetch("select v from m where tbname = ?", name))

    assert await asyncio.gather(*(write(f"t{n}") for n in range(20))) == [500] * 20


async def test_cancelled_at_any_moment(conn: Any) -> None:
    chance = random.Random(7)
    cancelled = 0
    for turn in range(60):
        task = asyncio.create_task(conn.insert("t", [(T + turn, turn, "s", "n")]))
        await asyncio.sleep(chance.random() * 0.004)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            cancelled += 1
    assert cancelled > 5
    rows = [(T + row, row, "s", "n") for row in range(100)]
    assert await conn.insert("t", rows) == 100
    assert await conn.fetchval("select count(*) from t") == 100


async def test_a_slow_query_with_parameters(conn: Any, connect: Any, numbers: Any) -> None:
    await numbers(conn, "slow", 3_000)
    sql = SLOW.replace("a.ts = b.ts and b.ts = c.ts", "a.v < b.v and b.v < c.v and a.v > ?")
    with pytest.raises((TimeoutError, DatabaseError)):
        await conn.fetch(sql, 5, timeout=0.3)
    task = asyncio.create_task(conn.fetch(sql, 5))
    await asyncio.sleep(0.2)
    await conn.close()
    with pytest.raises(aiotaos.Error):
        await task


# Schemaless lines.


async def test_lines(conn: Any) -> None:
    lines = [f'weather,city=x t="é{row}",v={row}i64 {T + row}' for row in range(100)]
    assert await conn.schemaless_insert(lines, SchemalessProtocol.LINE, "ms") == 100
    found = await conn.fetch("select _ts, t, v, city from weather order by _ts")
    assert found == [(T + row, f"é{row}", row, "x") for row in range(100)]


async def test_telnet(conn: Any) -> None:
    lines = [f"rain {T + row} {row}.5 city=x" for row in range(10)]
    assert await conn.schemaless_insert(lines, SchemalessProtocol.TELNET, "ms") == 10
    assert await conn.fetch("select _ts, _value, city from rain order by _ts") == [
        (T + row, row + 0.5, "x") for row in range(10)
    ]


async def test_json(conn: Any) -> None:
    document = (
        f'[{{"metric": "wind", "timestamp": {T},\n"value": 1.5, "tags": {{"city": "é"}}}},'
        f'{{"metric": "wind", "timestamp": {T + 1}, "value": 2.5, "tags": {{"city": "é"}}}}]'
    )
    assert await conn.schemaless_insert(document, SchemalessProtocol.JSON, "ms") == 2
    assert await conn.fetch("select _ts, _value, city from wind order by _ts") == [
        (T, 1.5, "é"),
        (T + 1, 2.5, "é"),
    ]


async def test_more_of_lines(conn: Any) -> None:
    line = f"named,id=child,g=1 v=1 {T}"
    assert await conn.schemaless_insert(line, precision="ms", ttl=30, table_name_key="id") == 1
    assert await conn.fetchval("select distinct tbname from named") == "child"
    for precision, factor in (("s", 1000), ("us", 1)):
        moment = T // 1000 if precision == "s" else (T + 7) * 1000
        assert await conn.schemaless_insert(f"p{precision} v=1 {moment}", precision=precision) == 1
        expected = T if factor == 1000 else T + 7
        assert await conn.fetchval(f"select _ts from p{precision}") == expected


@pytest.mark.parametrize("protocol", list(SchemalessProtocol))
async def test_lines_that_are_refused(conn: Any, protocol: SchemalessProtocol) -> None:
    with pytest.raises(SchemalessError) as caught:
        await conn.schemaless_insert("broken", protocol)
    assert caught.value.code
    assert await conn.schemaless_insert(f"fine v=1 {T}", precision="ms") == 1


async def test_without_a_database(connect: Any) -> None:
    conn = await connect()
    with pytest.raises(ProgrammingError):
        await conn.schemaless_insert(f"m v=1 {T}")

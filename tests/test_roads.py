"""Both roads to the embedded server: the same statements give the same values."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

import aiotaos
from aiotaos import NotSupportedError, Precision, SchemalessProtocol, dict_row
from aiotaos.embedded import Server
from tests.roads import ask, columns, compare
from tests.type_matrix import COLUMNS, DIGITS, PRECISIONS, START, TAGS, differences, write_all

ZONES = ["America/New_York", "Europe/London", "Asia/Kolkata", "Australia/Lord_Howe", "UTC"]
TIMESTAMPS = ["datetime", "int", "datetime64"]
Both = Callable[..., Awaitable[tuple[Any, Any]]]
# Around changes of the clock.
CHANGES = {
    "New York, March": datetime(2024, 3, 10, 7, tzinfo=UTC),
    "New York, November": datetime(2024, 11, 3, 6, tzinfo=UTC),
    "London, March": datetime(2024, 3, 31, 1, tzinfo=UTC),
    "London, October": datetime(2024, 10, 27, 1, tzinfo=UTC),
    "Lord Howe, April": datetime(2024, 4, 6, 15, tzinfo=UTC),
    "Kolkata, 1945": datetime(1945, 10, 14, 17, 30, tzinfo=UTC),
}


@pytest.fixture
async def both(clean: None) -> AsyncIterator[Both]:
    """Connections over WebSocket and over REST, with the same options."""
    async with Server() as server, AsyncExitStack() as stack:

        async def open_both(**options: Any) -> tuple[Any, Any]:
            dsn = server.dsn
            dsns = (dsn, dsn.replace("ws://", "http://", 1))
            one, other = [
                await stack.enter_async_context(aiotaos.connect(dsn, **options)) for dsn in dsns
            ]
            return one, other

        yield open_both


async def filled(both: Both, precision: str) -> list[tuple[Any, ...]]:
    """A database ``d`` with the table ``everything``; returns its rows, times as ticks."""
    writer, _ = await both(timestamp="int")
    await writer.execute(f"create database d keep 36500 precision '{precision}'")
    await writer.select_db("d")
    return await write_all(writer, precision)


@pytest.mark.parametrize("precision", PRECISIONS)
async def test_every_type_as_it_was_written(both: Both, precision: str) -> None:
    expected = await filled(both, precision)
    for conn in await both(database="d", timestamp="int"):
        result = await conn.query("select * from everything order by ts")
        assert result.precision.unit == precision
        assert differences(await result.fetchall(), expected, ["ts", *COLUMNS]) == []
        for row in expected:  # blocks of one row, some of them without any value
            rows = await conn.fetch(f"select * from everything where ts = {row[0]}")
            assert differences(rows, [row], ["ts", *COLUMNS]) == []


@pytest.mark.parametrize("timestamp", TIMESTAMPS)
@pytest.mark.parametrize("precision", PRECISIONS)
async def test_every_type(both: Both, precision: str, timestamp: str) -> None:
    await filled(both, precision)
    one, other = await both(database="d", timestamp=timestamp, timezone="UTC")
    names = ", ".join(name for name in COLUMNS if name != "t" or timestamp != "datetime")
    answer = await compare(one, other, f"select ts, {names} from everything order by ts")
    assert answer.precision is Precision(PRECISIONS.index(precision))
    assert len(answer.rows) == 5
    for name in names.split(", "):
        await compare(one, other, f"select {name} from everything order by ts")
        await compare(one, other, f"select {name} from everything where {name} is null")
    await compare(one, other, f"select {names} from everything where ts < 0")
    await compare(
        one, other, "select count(*), sum(i4), avg(f8), first(ts), last(ts) from everything"
    )


@pytest.mark.parametrize("precision", PRECISIONS)
async def test_every_type_written_over_rest(both: Both, precision: str) -> None:
    _, writer = await both(timestamp="int")
    await writer.execute(f"create database d keep 36500 precision '{precision}'")
    await writer.select_db("d")
    expected = await write_all(writer, precision)
    for conn in await both(database="d", timestamp="int"):
        rows = await conn.fetch("select * from everything order by ts")
        assert differences(rows, expected, ["ts", *COLUMNS]) == []


async def test_tags_of_every_type(both: Both) -> None:
    one, other = await both()
    await one.execute("create database d")
    for conn in (one, other):
        await conn.select_db("d")
    await one.execute(
        "create stable s (ts timestamp, v int) tags ("
        + ", ".join(f"{name} {COLUMNS[name].sql}" for name in TAGS if name != "t")
        + ")"
    )
    names = [name for name in TAGS if name != "t"]
    for row, kind in enumerate(["low", "high", "usual", "empty"]):
        literals = ", ".join(getattr(COLUMNS[name], kind)[0] for name in names)
        sql = f"insert into s{row} using s tags ({literals}) values ({row}, {row})"
        assert await other.execute(sql) == 1
    nulls = ", ".join(["null"] * len(names))
    await other.execute(f"insert into s4 using s tags ({nulls}) values (4, 4)")
    answer = await compare(one, other, f"select v, tbname, {', '.join(names)} from s order by v")
    assert len(answer.rows) == 5


async def test_json_tags(both: Both) -> None:
    one, other = await both()
    await one.execute("create database d")
    for conn in (one, other):
        await conn.select_db("d")
    await one.execute("create stable j (ts timestamp, v int) tags (info json)")
    documents = ['{"name":"],[","rpm":1500.5,"on":true,"nested":null}', '{"a":"涛 🚀"}', "{}"]
    for row, document in enumerate(documents):
        await one.execute(f"insert into j{row} using j tags ('{document}') values ({row}, {row})")
    await one.execute("insert into j9 using j tags (null) values (9, 9)")
    answer = await compare(one, other, "select v, info from j order by v")
    assert len(answer.rows) == 4


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("zone", ZONES)
async def test_time_zones(both: Both, zone: str, precision: str) -> None:
    """Instants around changes of the clock, with fractions."""
    writer, _ = await both(timestamp="int")
    await writer.execute(f"create database d keep 36500 precision '{precision}'")
    await writer.select_db("d")
    second = 10 ** DIGITS[precision]
    await writer.execute("create table t (ts timestamp, v timestamp)")
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    moments = [
        (change - epoch) // timedelta(seconds=1) * second + step * 900 * second + step
        for change in CHANGES.values()
        for step in range(-9, 10)
    ]
    values = " ".join(f"({START * second + n}, {tick})" for n, tick in enumerate(moments))
    assert await writer.execute(f"insert into t values {values}") == len(moments)
    for timestamp in TIMESTAMPS:
        one, other = await both(database="d", timezone=zone, timestamp=timestamp)
        await compare(one, other, "select v from t order by ts")
        found = [v for (v,) in await other.fetch("select v from t order by ts")]
        if timestamp == "datetime64":
            assert found == [np.datetime64(tick, precision) for tick in moments]
        elif timestamp == "int" or precision == "ns":
            assert found == moments
        else:
            micro = timedelta(microseconds=1 if precision == "us" else 1000)
            wanted = [(epoch + tick * micro).astimezone(ZoneInfo(zone)) for tick in moments]
            assert [repr((v, v.fold)) for v in found] == [repr((v, v.fold)) for v in wanted]


@pytest.mark.parametrize("zone", ZONES)
async def test_texts_are_of_the_zone(both: Both, zone: str) -> None:
    one, other = await both(timezone=zone)
    await other.execute("create database d")
    for conn in (one, other):
        await conn.select_db("d")
    await other.execute("create table t (ts timestamp, v timestamp)")
    await other.execute(
        "insert into t values ('2024-01-15 10:20:30.5', '2024-07-15 10:20:30.5') "
        "('2024-01-15T10:20:31Z', '2024-07-15T10:20:31+05:30')"
    )
    await compare(one, other, "select * from t order by ts")
    tz = ZoneInfo(zone)
    own = (
        datetime(2024, 1, 15, 10, 20, 30, 500_000, tz),
        datetime(2024, 7, 15, 10, 20, 30, 500_000, tz),
    )
    assert own in await other.fetch("select * from t")
    found = await other.fetch("select ts from t where v = ?", own[1])
    assert found == [(own[0],)]


async def test_old_instants(both: Both) -> None:
    """Offsets had seconds then, which RFC 3339 cannot write; the last years that there are."""
    writer, _ = await both()
    await writer.execute("create database d keep 36500 precision 'ms'")
    await writer.select_db("d")
    await writer.execute("create table t (ts timestamp, v timestamp)")
    moments = [
        datetime(1700, 1, 1, tzinfo=UTC),
        datetime(1883, 11, 18, 16, 59, 59, tzinfo=UTC),
        datetime(1, 1, 2, tzinfo=UTC),
        datetime(9999, 12, 30, 23, 59, 59, 999000, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999000, tzinfo=UTC),
    ]
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    for row, moment in enumerate(moments):
        tick = (moment - epoch) // timedelta(milliseconds=1)
        await writer.execute(f"insert into t values ({START * 1000 + row}, {tick})")
    for zone in ZONES:
        one, other = await both(database="d", timezone=zone)
        await compare(one, other, "select v from t order by ts")
        found = await other.fetch("select v from t order by ts")
        assert [v.astimezone(UTC) for (v,) in found] == moments


async def test_many_rows(both: Both) -> None:
    writer, _ = await both()
    await writer.execute("create database d keep 36500")
    await writer.select_db("d")
    await writer.execute("create table t (ts timestamp, v int, s varchar(20), d double)")
    count = 20_000
    base = START * 1000
    await writer.insert(
        "t",
        {
            "ts": np.arange(base, base + count),
            "v": [None if n % 7 == 0 else n for n in range(count)],
            "s": [None if n % 11 == 0 else f"],[{n}" for n in range(count)],
            "d": np.arange(count) / 3,
        },
    )
    for options in ({}, {"read_buffer_size": 5000}, {"compression": True}):
        one, _ = await both(database="d", timestamp="int")
        _, other = await both(database="d", timestamp="int", **options)
        answer = await ask(one, "select * from t order by ts")
        assert await ask(other, "select * from t order by ts") == answer
        assert await columns(other, "select * from t") == await columns(one, "select * from t")
        assert answer.row_count == count


@pytest.mark.parametrize(
    "sql",
    [
        "select 1",
        "select 'a', 1.5, null, true, -1, 18446744073709551615, 'é🚀'",
        "select 1, 'a', 1",
        "select server_version()",
        "show databases",
        "select * from d.t",
        "select * from d.t where v > 100",
        "select v from d.t order by ts desc limit 1",
        "describe d.t",
        "select count(*) from d.t",
    ],
)
async def test_queries(both: Both, sql: str) -> None:
    one, other = await both(timezone="UTC")
    await one.execute("create database d")
    await one.execute("create table d.t (ts timestamp, v int)")
    assert await other.execute("insert into d.t values (1, 1) (2, null)") == 2
    await compare(one, other, sql)


@pytest.mark.parametrize(
    "sql",
    [
        "selec",
        "select * from nosuch.t",
        "select * from d.nosuch",
        "use nosuch",
        "create database d",
        "insert into d.t values ('abc', 1)",
        "drop database nosuch",
    ],
)
async def test_refusals(both: Both, sql: str) -> None:
    one, other = await both()
    await one.execute("create database d")
    await one.execute("create table d.t (ts timestamp, v int)")
    errors = []
    for conn in (one, other):
        with pytest.raises(aiotaos.Error) as raised:
            await conn.execute(sql, req_id=5)
        error = raised.value
        errors.append((type(error), error.code, error.message, error.sql, error.req_id))
    assert errors[1] == errors[0]


async def test_writes_and_databases(both: Both) -> None:
    one, other = await both()
    for conn in (one, other):
        name = f"d{conn.endpoint[:2]}"
        assert await conn.execute(f"create database {name}") == 0
        assert await conn.execute(f"use {name}") == 0
        assert conn.database == name
        assert await conn.execute("create table t (ts timestamp, v int, s varchar(20))") == 0
        assert await conn.execute("insert into t values (1, 1, 'a') (2, 2, null)") == 2
        assert await conn.execute("insert into t values (?, ?, ?)", 3, 3, "it's \\ ?") == 1
        rows = [(n, None if n % 2 else n, f"text {n}'\\") for n in range(4, 500)]
        assert await conn.executemany("insert into t values (?, ?, ?)", rows) == len(rows)
        found = await conn.fetch("select cast(ts as bigint), v, s from t order by ts")
        assert found == [(1, 1, "a"), (2, 2, None), (3, 3, "it's \\ ?"), *rows]
        sql = "select s from t where v = ?"
        assert await conn.fetch(sql, 3) == [("it's \\ ?",)]
        assert await conn.fetchval("select v from t where s = ?", "it's \\ ?") == 3
        assert await conn.execute("delete from t where ts = 1") == 1
        await conn.set_timezone("Asia/Tokyo")
        (moment,) = await conn.fetchrow("select ts from t where v = 2")
        assert moment.isoformat() == "1970-01-01T09:00:00.002000+09:00"


async def test_parameters_of_every_kind(both: Both) -> None:
    one, other = await both(timezone="UTC")
    await one.execute("create database d keep 36500 precision 'us'")
    for conn in (one, other):
        await conn.select_db("d")
    await one.execute(
        "create table t (ts timestamp, b bool, i bigint, f double, s varchar(50), n nchar(50), "
        "vb varbinary(50), d decimal(20,4))"
    )
    base = datetime(2024, 3, 10, 1, 59, 59, 123456, ZoneInfo("America/New_York"))
    for row, conn in enumerate((one, other)):
        params = (
            *(base + timedelta(microseconds=row), True, -(2**62), 0.1, "'\"\\\n\t?涛", "🚀'"),
            *(b"\0\xff'", Decimal("-12.3400")),
        )
        assert await conn.execute("insert into t values (?, ?, ?, ?, ?, ?, ?, ?)", *params) == 1
        nulls = (base + timedelta(seconds=1, microseconds=row), *[None] * 7)
        assert await conn.execute("insert into t values (?, ?, ?, ?, ?, ?, ?, ?)", *nulls) == 1
    answer = await compare(one, other, "select * from t order by ts")
    assert len(answer.rows) == 4
    rows = await other.fetch("select b, i, f, s, n, vb, d from t order by ts")
    assert rows[0] == rows[1]
    assert rows[2] == rows[3] == (None,) * 7
    found = await other.fetch("select i from t where ts = ? and s = ?", base, "'\"\\\n\t?涛")
    assert found == [(-(2**62),)]


async def test_lines(both: Both) -> None:
    one, other = await both(timezone="UTC")
    for conn in (one, other):
        name = f"d{conn.endpoint[:2]}"
        await conn.execute(f"create database {name} precision 'ns'")
        await conn.select_db(name)
        base = START * 1000
        text = f'm,host=a v=1.5,s="涛" {base}\nm,host=b v=2.5 {base + 1}'
        written = await conn.schemaless_insert(text, SchemalessProtocol.LINE, "ms")
        assert written == 2
        telnet = f"telnet {START} 1 host=a\ntelnet {START + 1} 2 host=b"
        assert await conn.schemaless_insert(telnet, SchemalessProtocol.TELNET) == 2
        document = f'[{{"metric":"j","timestamp":{START},"value":1,"tags":{{"host":"a"}}}}]'
        assert await conn.schemaless_insert(document, SchemalessProtocol.JSON) == 1
        assert await conn.schemaless_insert([], SchemalessProtocol.LINE) == 0
        with pytest.raises(aiotaos.SchemalessError):
            await conn.schemaless_insert("broken")
    one, other = await both(database=one.database, timezone="UTC")
    await compare(one, other, "select * from m order by _ts")
    assert len(await other.fetch("select * from dht.m")) == 2
    assert len(await other.fetch("select * from dht.telnet")) == 2
    rows = [await conn.fetch("select v, s, `host` from m order by _ts") for conn in (one, other)]
    assert rows[1] == rows[0] == [(1.5, "涛", "a"), (2.5, None, "b")]


async def test_what_rest_has_not(both: Both) -> None:
    _, other = await both()
    with pytest.raises(NotSupportedError, match="ws://"):
        await other.insert("t", [(1, 2)])


async def test_rows_as_dictionaries(both: Both) -> None:
    one, other = await both()
    await one.execute("create database d")
    await one.execute("create table d.t (ts timestamp, v int)")
    await one.execute("insert into d.t values (1, 1) (2, null)")
    found = [
        await conn.fetch("select v, ts from d.t order by ts", row_factory=dict_row)
        for conn in (one, other)
    ]
    assert found[1] == found[0]
    assert [list(row) for row in found[1]] == [["v", "ts"]] * 2


async def test_a_pool(both: Both) -> None:
    one, other = await both()
    await one.execute("create database d")
    await one.execute("create table d.t (ts timestamp, v int)")
    async with aiotaos.create_pool(other.endpoint, max_size=3, database="d") as pool:
        assert await pool.execute("insert into t values (1, 1)") == 1
        assert await pool.fetch("select v from t") == [(1,)]
        async with pool.acquire() as conn:
            await conn.execute("insert into t values (2, 2)")
    assert await one.fetchval("select count(*) from d.t") == 2

"""Every type at every precision: extremes, ordinary values, empty ones and NULLs."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from aiotaos import DataError, Field, Precision, TypeCode
from tests.type_matrix import (
    COLUMNS,
    DIGITS,
    PRECISIONS,
    START,
    TAGS,
    TEXT,
    differences,
    write_all,
)


@pytest.mark.parametrize("precision", PRECISIONS)
async def test_every_type(connect: Any, make_database: Any, precision: str) -> None:
    database = await make_database(precision)
    conn = await connect(database=database, timestamp="int")
    expected = await write_all(conn, precision)

    result = await conn.query("select * from everything order by ts")
    assert result.precision.unit == precision
    assert result.fields[0] == Field("ts", TypeCode.TIMESTAMP, 8)
    for field, (name, column) in zip(result.fields[1:], COLUMNS.items(), strict=True):
        assert (field.name, field.type, field.length) == (
            name,
            column.field.type,
            column.field.length,
        )
        assert (field.precision, field.scale) == (column.field.precision, column.field.scale)
    assert differences(await result.fetchall(), expected, ["ts", *COLUMNS]) == []

    for row in expected:  # blocks of one row, some of them without any value
        rows = await conn.fetch(f"select * from everything where ts = {row[0]}")
        assert differences(rows, [row], ["ts", *COLUMNS]) == []


@pytest.mark.parametrize("precision", PRECISIONS)
async def test_official_clients_read_the_same(
    connect: Any,
    make_database: Any,
    precision: str,
    official: Callable[..., Awaitable[None]],
    request: pytest.FixtureRequest,
) -> None:
    database = await make_database(precision)
    conn = await connect(database=database, timestamp="int")
    await write_all(conn, precision)
    # The extremes of TIMESTAMP, and long blobs, are more than those clients read.
    names = ", ".join(name for name in COLUMNS if name not in ("t", "x"))
    await official(conn, database, f"select ts, {names} from everything order by ts")
    await official(conn, database, "select ts, t from everything where t = -1 or t = 0 order by ts")
    await official(conn, database, "select ts, x from everything where i4 >= 0 order by ts")
    await official(
        conn, database, "select sum(i4), avg(f8), max(d38), min(d18), count(*) from everything"
    )


@pytest.mark.parametrize("precision", PRECISIONS)
async def test_datetimes(connect: Any, make_database: Any, precision: str) -> None:
    database = await make_database(precision)
    conn = await connect(database=database, timezone="Asia/Shanghai")
    digits = DIGITS[precision]
    await conn.execute("create table t (ts timestamp, v timestamp)")
    fraction = "123456789"[:digits]
    written = {
        f"'2024-03-01 08:00:00.{fraction}'": START * 10**digits + int(fraction),
        "'1970-01-01T00:00:00Z'": 0,
        "-1": -1,
        "'2262-04-11T23:47:16+00:00'": 9_223_372_036 * 10**digits,
        f"-8520336000{'0' * digits}": -8_520_336_000 * 10**digits,  # 1700
    }
    for row, literal in enumerate(written):
        await conn.execute(f"insert into t values ({START * 10**digits + row}, {literal})")
    values = [row[0] for row in await conn.fetch("select v from t order by ts")]
    if precision == "ns":
        assert values == list(written.values())
        return
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    step = timedelta(microseconds=1 if precision == "us" else 1000)
    assert values == [epoch + value * step for value in written.values()]
    assert all(value.tzinfo == ZoneInfo("Asia/Shanghai") for value in values)
    assert values[0].isoformat() == f"2024-03-01T08:00:00.{fraction.ljust(6, '0')}+08:00"


@pytest.mark.parametrize("precision", PRECISIONS)
async def test_datetime64(connect: Any, make_database: Any, precision: str) -> None:
    conn = await connect(database=await make_database(precision), timestamp="datetime64")
    await conn.execute("create table t (ts timestamp, v timestamp)")
    moment = START * 10 ** DIGITS[precision]
    await conn.execute(f"insert into t values ({moment}, -1) ({moment + 1}, null)")
    assert await conn.fetch("select * from t") == [
        (np.datetime64(moment, precision), np.datetime64(-1, precision)),
        (np.datetime64(moment + 1, precision), None),
    ]


@pytest.mark.parametrize("precision", ["ms", "us"])
async def test_timestamps_outside_datetime(
    connect: Any, make_database: Any, precision: str
) -> None:
    conn = await connect(database=await make_database(precision), timezone="UTC")
    await conn.execute("create table t (ts timestamp, v timestamp)")
    last = int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())
    first = int(datetime(1, 1, 1, tzinfo=UTC).timestamp())
    second = 10 ** DIGITS[precision]
    await conn.execute(
        f"insert into t values (1, {last * second}) (2, {first * second}) (3, {2**63 - 1})"
    )
    assert await conn.fetch("select v from t where ts < 3 order by ts") == [
        (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),),
        (datetime(1, 1, 1, tzinfo=UTC),),
    ]
    with pytest.raises(DataError, match="'v'"):
        await conn.fetch("select v from t")
    assert await conn.fetchval("select 1") == 1


@pytest.mark.parametrize("precision", PRECISIONS)
async def test_tags_of_every_type(connect: Any, make_database: Any, precision: str) -> None:
    conn = await connect(database=await make_database(precision), timestamp="int")
    await conn.execute(
        "create stable s (ts timestamp, v int) tags ("
        + ", ".join(f"{name} {COLUMNS[name].sql}" for name in TAGS)
        + ")"
    )
    expected = []
    for row, kind in enumerate(["low", "high", "usual", "empty"]):
        pairs = [getattr(COLUMNS[name], kind) for name in TAGS]
        literals = ", ".join(pair[0] for pair in pairs)
        await conn.execute(f"insert into s{row} using s tags ({literals}) values (now, {row})")
        expected.append((row, *(pair[1] for pair in pairs)))
    nulls = ", ".join(["null"] * len(TAGS))
    await conn.execute(f"insert into s4 using s tags ({nulls}) values (now, 4)")
    expected.append((4, *[None] * len(TAGS)))
    rows = await conn.fetch(f"select v, {', '.join(TAGS)} from s order by v")
    assert differences(rows, expected, ["v", *TAGS]) == []


async def test_json_tags(
    conn: Any, database: str, official: Callable[..., Awaitable[None]]
) -> None:
    documents = [
        '{"name": "pump", "rpm": 1500, "on": true, "nested": null}',
        '{"name": "' + TEXT + '"}',
        '{"name": ""}',
        "{}",
        None,
    ]
    await conn.execute("create stable j (ts timestamp, v int) tags (info json)")
    for row, document in enumerate(documents):
        tag = "null" if document is None else f"'{document}'"
        await conn.execute(f"insert into j{row} using j tags ({tag}) values ({row}, {row})")
    sql = "select v, info, info->'name', info->'rpm', info->'on', info->'nested' from j order by v"
    result = await conn.query(sql)
    assert [field.type for field in result.fields[1:]] == [TypeCode.JSON] * 5
    rows = [
        (v, *(None if text is None else json.loads(text) for text in texts))
        async for v, *texts in result
    ]
    assert rows == [
        (0, json.loads(documents[0]), "pump", 1500.0, True, None),
        (1, {"name": TEXT}, TEXT, None, None, None),
        (2, {"name": ""}, "", None, None, None),
        (3, None, None, None, None, None),
        (4, None, None, None, None, None),
    ]
    await official(conn, database, "select v, info, info->'name', info->'rpm' from j order by v")


async def test_constants_and_computed_values(conn: Any) -> None:
    row = await conn.fetchrow("select 1, 'a', 1.5, null, true, -1, 18446744073709551615, 'é🚀'")
    assert row == (1, "a", 1.5, None, True, -1, 18446744073709551615, "é🚀")
    await conn.execute("create table t (ts timestamp, f float, d double)")
    await conn.execute("insert into t values (1, 1.5, 2) (2, null, null)")
    assert await conn.fetch("select f / 0, sqrt(-1), d * 1e308, -d * 1e308 from t order by ts") == [
        (None, None, math.inf, -math.inf),
        (None, None, None, None),
    ]


async def test_empty_results(conn: Any) -> None:
    await conn.execute(
        "create table t (ts timestamp, "
        + ", ".join(f"{name} {column.sql}" for name, column in COLUMNS.items())
        + ")"
    )
    result = await conn.query("select * from t")
    assert len(result.fields) == len(COLUMNS) + 1
    assert await result.fetchall() == []
    assert result.row_count == 0
    assert await conn.fetchrow("select * from t") is None
    assert await conn.fetchval("select * from t") is None


async def test_columns_of_nulls_alone(conn: Any) -> None:
    await conn.execute(
        "create table t (ts timestamp, i int, s varchar(9), n nchar(9), d decimal(9,2))"
    )
    rows = 9000
    await conn.execute("insert into t (ts) values " + " ".join(f"({ts})" for ts in range(rows)))
    assert await conn.fetch("select i, s, n, d from t") == [(None, None, None, None)] * rows


async def test_columns_as_arrays(conn: Any, numbers: Any) -> None:
    await numbers(conn, "t", 10_000)
    result = await conn.query("select ts, v from t order by ts")
    assert result.precision is Precision.MILLISECOND
    blocks = [block async for block in result.blocks()]
    assert len(blocks) > 1
    ts, v = (np.concatenate([block.columns[index].values for block in blocks]) for index in (0, 1))
    assert v.dtype == np.int32
    np.testing.assert_array_equal(v, np.arange(10_000))
    np.testing.assert_array_equal(ts, 1_700_000_000_000 + np.arange(10_000))


async def test_varchar_that_is_no_utf8(conn: Any) -> None:
    text = await conn.fetchval("select cast('é🚀' as varchar(4))")  # the server cuts bytes
    assert text.encode("utf-8", "surrogateescape") == "é🚀".encode()[:4]

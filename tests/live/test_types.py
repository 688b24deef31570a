"""Every type at every precision: extremes, ordinary values, empty ones and NULLs."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from aiotaos import DataError, Field, Precision, TypeCode

PRECISIONS = ["ms", "us", "ns"]
DIGITS = {"ms": 3, "us": 6, "ns": 9}
START = 1_709_251_200  # 2024-03-01T00:00:00Z
TEXT = "涛思 🚀 naïve \U0010ffff"


def point(x: float, y: float) -> bytes:
    return struct.pack("<BIdd", 1, 1, x, y)


def line(*points: tuple[float, float]) -> bytes:
    return struct.pack("<BII", 1, 2, len(points)) + b"".join(struct.pack("<dd", *p) for p in points)


class Column(NamedTuple):
    """A column of one type: pairs of SQL literal and Python value."""

    sql: str
    field: Field
    low: tuple[str, Any]
    high: tuple[str, Any]
    usual: tuple[str, Any]
    empty: tuple[str, Any]


def column(sql: str, type: TypeCode, length: int, *values: tuple[str, Any], **more: int) -> Column:
    return Column(sql, Field("", type, length, **more), *values)


def integer(sql: str, type: TypeCode, length: int, low: int, high: int) -> Column:
    return column(sql, type, length, *((str(value), value) for value in (low, high, 42, 0)))


def decimal(digits: int, scale: int) -> Column:
    nines = "9" * (digits - scale) + ("." + "9" * scale if scale else "")
    nines = "0" + nines if digits == scale else nines
    step = "0." + "1".rjust(scale, "0") if scale else "1"
    zero = str(Decimal(0).quantize(Decimal(1).scaleb(-scale)))
    return column(
        f"decimal({digits},{scale})",
        TypeCode.DECIMAL64 if digits <= 18 else TypeCode.DECIMAL,
        8 if digits <= 18 else 16,
        *(
            (f"{sign}{text}", Decimal(f"{sign}{text}"))
            for sign, text in (("-", nines), ("", nines))
        ),
        (step, Decimal(step)),
        ("0", Decimal(zero)),
        precision=digits,
        scale=scale,
    )


COLUMNS = {
    "b": column(
        "bool", TypeCode.BOOL, 1, ("false", False), ("true", True), ("true", True), ("0", False)
    ),
    "i1": integer("tinyint", TypeCode.TINYINT, 1, -(2**7), 2**7 - 1),
    "i2": integer("smallint", TypeCode.SMALLINT, 2, -(2**15), 2**15 - 1),
    "i4": integer("int", TypeCode.INT, 4, -(2**31), 2**31 - 1),
    "i8": integer("bigint", TypeCode.BIGINT, 8, -(2**63), 2**63 - 1),
    "u1": integer("tinyint unsigned", TypeCode.UTINYINT, 1, 0, 2**8 - 1),
    "u2": integer("smallint unsigned", TypeCode.USMALLINT, 2, 0, 2**16 - 1),
    "u4": integer("int unsigned", TypeCode.UINT, 4, 0, 2**32 - 1),
    "u8": integer("bigint unsigned", TypeCode.UBIGINT, 8, 0, 2**64 - 1),
    "f4": column(
        "float",
        TypeCode.FLOAT,
        4,
        ("-3.4028234e38", float(np.float32("-3.4028234e38"))),
        ("3.4028234e38", float(np.float32("3.4028234e38"))),
        ("0.1", float(np.float32("0.1"))),
        ("-0.0", -0.0),
    ),
    "f8": column(
        "double",
        TypeCode.DOUBLE,
        8,
        ("-1.7976931348623157e308", -1.7976931348623157e308),
        ("1.7976931348623157e308", 1.7976931348623157e308),
        ("2.2250738585072014e-308", 2.2250738585072014e-308),
        ("-0.0", -0.0),
    ),
    "s": column(
        "varchar(100)",
        TypeCode.VARCHAR,
        100,
        ("'" + "a" * 100 + "'", "a" * 100),
        (r"""'it\'s "quoted" \\ \t%_'""", 'it\'s "quoted" \\ \t%_'),
        (f"'{TEXT}'", TEXT),
        ("''", ""),
    ),
    "n": column(
        "nchar(20)",
        TypeCode.NCHAR,
        20,
        ("'" + "\U0010ffff" * 20 + "'", "\U0010ffff" * 20),
        ("'0123456789'", "0123456789"),
        (f"'{TEXT}'", TEXT),
        ("''", ""),
    ),
    "vb": column(
        "varbinary(20)",
        TypeCode.VARBINARY,
        20,
        (r"'\x" + "00" * 20 + "'", bytes(20)),
        (r"'\xFFfe0a'", b"\xff\xfe\x0a"),
        ("'text'", b"text"),
        (r"'\x'", b""),
    ),
    "g": column(
        "geometry(200)",
        TypeCode.GEOMETRY,
        200,
        ("'POINT(-180 -90)'", point(-180, -90)),
        ("'LINESTRING(0 0, 1.5 -1, 2 4)'", line((0, 0), (1.5, -1), (2, 4))),
        ("'POINT(1.0 -2.5)'", point(1, -2.5)),
        ("'POINT(0 0)'", point(0, 0)),
    ),
    "d5": decimal(5, 0),
    "d18": decimal(18, 4),
    "d19": decimal(19, 0),
    "d38": decimal(38, 10),
    "d38f": decimal(38, 38),
    "x": column(
        "blob",
        TypeCode.BLOB,
        4194304,
        (r"'\x" + "a55a" * 40_000 + "'", b"\xa5\x5a" * 40_000),
        (r"'\x00ff'", b"\0\xff"),
        ("'text'", b"text"),
        ("''", b""),
    ),
    "t": column(
        "timestamp",
        TypeCode.TIMESTAMP,
        8,
        ("-9223372036854775808", -(2**63)),
        ("9223372036854775807", 2**63 - 1),
        ("-1", -1),
        ("0", 0),
    ),
}
TAGS = [name for name in COLUMNS if name not in ("x", "d5", "d18", "d19", "d38", "d38f")]


def same(got: Any, expected: Any) -> bool:
    """Equal, of one type, with one sign of zero and one number of decimals."""
    if isinstance(expected, Decimal):
        return isinstance(got, Decimal) and got.as_tuple() == expected.as_tuple()
    if isinstance(expected, float):
        return got == expected and math.copysign(1, got) == math.copysign(1, expected)
    return type(got) is type(expected) and got == expected


def differences(
    rows: list[tuple[Any, ...]], expected: list[tuple[Any, ...]], names: list[str]
) -> list[tuple[int, str, Any, Any]]:
    assert len(rows) == len(expected)
    return [
        (index, name, got, wanted)
        for index, (row, other) in enumerate(zip(rows, expected, strict=True))
        for name, got, wanted in zip(names, row, other, strict=True)
        if not same(got, wanted)
    ]


async def write_all(conn: Any, precision: str) -> list[tuple[Any, ...]]:
    """Make the table ``everything`` and return its rows as they must be read."""
    await conn.execute(
        "create table everything (ts timestamp, "
        + ", ".join(f"{name} {column.sql}" for name, column in COLUMNS.items())
        + ")"
    )
    second = 10 ** DIGITS[precision]
    expected = []
    for row, kind in enumerate(["low", "high", "usual", "empty"]):
        pairs = [getattr(column, kind) for column in COLUMNS.values()]
        moment = START * second + row
        literals = ", ".join(pair[0] for pair in pairs)
        assert await conn.execute(f"insert into everything values ({moment}, {literals})") == 1
        expected.append((moment, *(pair[1] for pair in pairs)))
    assert await conn.execute(f"insert into everything (ts) values ({START * second + 4})") == 1
    return [*expected, (START * second + 4, *[None] * len(COLUMNS))]


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

"""A table of every type: extremes, ordinary values, empty ones and NULLs; SQL and Python."""

from __future__ import annotations

import math
import struct
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

from aiotaos import Field, TypeCode

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

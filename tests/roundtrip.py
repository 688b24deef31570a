"""What is written must be read back: the cases, the same for the embedded and a real server."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from decimal import Decimal
from itertools import count
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from aiotaos import Connection

UNITS = ["ms", "us", "ns"]
TICKS = {"ms": 10**3, "us": 10**6, "ns": 10**9}
SOURCES = ["list", "numpy", "arrow"]
ROWS = [1, 7, 8, 9, 1000]
TABLES = [0, 1, 7]  # 0: a table of its own, not of a super table
PATTERNS = {
    "none": lambda row, rows: False,
    "all": lambda row, rows: True,
    "first": lambda row, rows: row == 0,
    "last": lambda row, rows: row == rows - 1,
    "alternating": lambda row, rows: row % 2 == 1,
}
TEXT = "涛思 🚀 naïve \U0010ffff"
_START = 1_700_000_000
_numbers = count()


def point(x: float, y: float) -> bytes:
    return struct.pack("<BIdd", 1, 1, x, y)


def line(points: Sequence[tuple[float, float]]) -> bytes:
    return struct.pack("<BII", 1, 2, len(points)) + b"".join(struct.pack("<dd", *p) for p in points)


class Kind(NamedTuple):
    """A type that can be written.

    Attributes:
        sql: The type in CREATE TABLE.
        samples: Values, among them the extremes and what is empty.
        any: Strategy of all values.
        dtype: Type of a numpy array of them.
        arrow: Type of an Arrow array of them; None where it depends on the precision.
        tag: Whether a tag may be of it.
    """

    sql: str
    samples: Sequence[Any]
    any: st.SearchStrategy[Any]
    dtype: str
    arrow: pa.DataType | None
    tag: bool = True


def _integer(sql: str, bits: int, dtype: str, arrow: pa.DataType) -> Kind:
    low, high = (0, 2**bits - 1) if dtype[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return Kind(sql, [low, high, 0, 1, 42], st.integers(low, high), dtype, arrow)


def _real(sql: str, width: int, largest: float, arrow: pa.DataType) -> Kind:
    any = st.floats(width=width, allow_nan=False, allow_infinity=False, allow_subnormal=False)
    samples = [largest, -largest, 0.0, -0.0, 1.5, float(np.float32("0.1"))]
    return Kind(sql, samples, any, f"f{width // 8}", arrow)


def _decimal(digits: int, scale: int) -> Kind:
    def number(integer: int) -> Decimal:
        return Decimal((int(integer < 0), tuple(map(int, str(abs(integer)))), -scale))

    limit = 10**digits - 1
    samples = [number(value) for value in (limit, -limit, 0, 1, -1)]
    any = st.integers(-limit, limit).map(number)
    arrow = pa.decimal128(digits, scale)
    return Kind(f"decimal({digits},{scale})", samples, any, "O", arrow, tag=False)


_characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
_coordinates = st.floats(allow_nan=False, allow_infinity=False)
_points = st.tuples(_coordinates, _coordinates)
_geometries = st.one_of(
    _points.map(lambda at: point(*at)), st.lists(_points, min_size=2, max_size=4).map(line)
)
_instants = st.integers(-(2**63) + 1, 2**63 - 1)  # one less is numpy's NaT

KINDS = {
    "b": Kind("bool", [True, False], st.booleans(), "?", pa.bool_()),
    "i1": _integer("tinyint", 8, "i1", pa.int8()),
    "i2": _integer("smallint", 16, "i2", pa.int16()),
    "i4": _integer("int", 32, "i4", pa.int32()),
    "i8": _integer("bigint", 64, "i8", pa.int64()),
    "u1": _integer("tinyint unsigned", 8, "u1", pa.uint8()),
    "u2": _integer("smallint unsigned", 16, "u2", pa.uint16()),
    "u4": _integer("int unsigned", 32, "u4", pa.uint32()),
    "u8": _integer("bigint unsigned", 64, "u8", pa.uint64()),
    "f4": _real("float", 32, float(np.finfo("f4").max), pa.float32()),
    "f8": _real("double", 64, 1.7976931348623157e308, pa.float64()),
    "s": Kind(
        "varchar(100)",
        ["", "a" * 100, TEXT, 'it\'s "quoted" \\ \t%_?`', "\n"],
        st.text(_characters, max_size=25),
        "O",
        pa.string(),
    ),
    "n": Kind(
        "nchar(20)",
        ["", "\U0010ffff" * 20, TEXT, "0123456789", "it's"],
        st.text(_characters, max_size=20),
        "O",
        pa.large_string(),
    ),
    "t": Kind("timestamp", [0, -1, 1, 2**63 - 1, 1 - 2**63], _instants, "i8", None),
    "vb": Kind(
        "varbinary(20)",
        [b"", bytes(20), b"\xff\xfe\x0a", b"text", b"\\x00"],
        st.binary(max_size=20),
        "O",
        pa.binary(),
    ),
    "g": Kind(
        "geometry(200)",
        [point(0, 0), point(-180, -90), line([(0, 0), (1.5, -1), (2, 4)]), point(1, -2.5)],
        _geometries,
        "O",
        pa.large_binary(),
    ),
    "d18": _decimal(18, 4),
    "d38": _decimal(38, 10),
    "d0": _decimal(5, 0),
    "x": Kind(
        "blob",
        [b"", b"\0\xff", b"text"],
        st.binary(max_size=5000),
        "O",
        pa.binary(),
        tag=False,
    ),
}
TAGS = [name for name, kind in KINDS.items() if kind.tag]

POOLS = st.fixed_dictionaries(
    {name: st.lists(st.none() | kind.any, min_size=1, max_size=6) for name, kind in KINDS.items()}
)


class Case(NamedTuple):
    """Data of one insert.

    Attributes:
        unit: Precision of the database.
        source: In what the columns are given.
        columns: The values of each column.
        tables: For each row the number of its sub-table; none where the table is no super table.
        tags: For each tag its value in each sub-table, under the names of ``TAGS``.
    """

    unit: str
    source: str
    columns: dict[str, list[Any]]
    tables: list[int]
    tags: dict[str, list[Any]]


def of_pattern(unit: str, source: str, rows: int, tables: int, pattern: str) -> Case:
    """Samples of every type, with NULLs in some rows, and in the tags of some sub-tables."""

    def values(kind: Kind, number: int) -> list[Any]:
        is_null = PATTERNS[pattern]
        pool = kind.samples
        return [None if is_null(i, number) else pool[i % len(pool)] for i in range(number)]

    used = min(rows, tables)
    return Case(
        unit,
        source,
        {name: values(kind, rows) for name, kind in KINDS.items()},
        [row % tables for row in range(rows)] if tables else [],
        {name: values(KINDS[name], used) for name in TAGS},
    )


def combinations(rows: int) -> list[tuple[str, int, str]]:
    """Precision, number of tables and pattern: all pairs of the last two."""
    pairs = [(tables, pattern) for tables in TABLES for pattern in PATTERNS]
    return [(UNITS[(i + i // 3 + rows) % 3], *pair) for i, pair in enumerate(pairs)]


def of_pools(unit: str, source: str, rows: int, tables: int, pools: dict[str, list[Any]]) -> Case:
    """Some values of every type, over and over."""

    def values(name: str, number: int) -> list[Any]:
        pool = pools[name]
        return [pool[i % len(pool)] for i in range(number)]

    return Case(
        unit,
        source,
        {name: values(name, rows) for name in KINDS},
        [row * row % tables for row in range(rows)] if tables else [],
        {name: values(name, tables) for name in TAGS},
    )


def given(case: Case, name: str, values: list[Any]) -> Any:
    """Values of a type in what the case's source is made of."""
    is_time = name == "ts"
    kind = KINDS["t" if is_time else name]
    if case.source == "list":
        return values
    if case.source == "numpy":
        if kind.dtype == "O":
            filled = np.empty(len(values), object)
            filled[:] = values
        else:
            filled = np.array([0 if value is None else value for value in values], kind.dtype)
        mask = [value is None for value in values]
        if any(mask):
            return np.ma.masked_array(filled, mask)
        return filled.view(f"M8[{case.unit}]") if is_time else filled
    type = pa.timestamp(case.unit) if kind.arrow is None else kind.arrow
    return pa.array([values[-1], *values], type).slice(1)  # which has an offset


def same(got: Any, expected: Any) -> bool:
    """Equal, of one type, with one sign of zero and one number of decimals."""
    if isinstance(expected, Decimal):
        return isinstance(got, Decimal) and got.as_tuple() == expected.as_tuple()
    if isinstance(expected, float):
        return got == expected and math.copysign(1, got) == math.copysign(1, expected)
    return type(got) is type(expected) and got == expected


async def check(conn: Connection[Any], database: str, case: Case) -> None:
    """Write the data of a case to new tables, and read it back.

    Args:
        conn: A connection that reads times as numbers.
        database: A database of the case's precision.
        case: The data.
    """
    stable = f"{database}.rt{next(_numbers)}"
    rows = len(case.columns["b"])
    start = _START * TICKS[case.unit]
    times = list(range(start, start + rows))
    described = ", ".join(f"{name} {kind.sql}" for name, kind in KINDS.items())
    create = f"create table {stable} (ts timestamp, {described})"
    data = {"ts": given(case, "ts", times)}
    data |= {name: given(case, name, values) for name, values in case.columns.items()}
    selected = ["ts", *KINDS]
    expected = [[times[row], *(case.columns[name][row] for name in KINDS)] for row in range(rows)]
    options: dict[str, Any] = {}
    if case.tables:
        create += " tags (" + ", ".join(f"tag_{name} {KINDS[name].sql}" for name in TAGS) + ")"
        options = {"tbname": "name", "tags": [f"tag_{name}" for name in TAGS]}
        names = [f"{stable.partition('.')[2]}_{table}" for table in case.tables]
        data["name"] = given(case, "s", names)
        for name in TAGS:
            column = [case.tags[name][table] for table in case.tables]
            data[f"tag_{name}"] = given(case, name, column)
        selected += ["tbname", *(f"tag_{name}" for name in TAGS)]
        for row, table in enumerate(case.tables):
            expected[row] += [names[row], *(case.tags[name][table] for name in TAGS)]
    await conn.execute(create)
    assert await conn.insert(stable, data, **options) == rows
    result = await conn.query(f"select {', '.join(selected)} from {stable} order by ts")
    assert result.precision.unit == case.unit
    found = await result.fetchall()
    assert len(found) == rows
    differences = [
        (index, name, got, wanted)
        for index, (row, other) in enumerate(zip(found, expected, strict=True))
        for name, got, wanted in zip(selected, row, other, strict=True)
        if not same(got, wanted)
    ]
    assert differences == []

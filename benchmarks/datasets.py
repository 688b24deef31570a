"""The tables that ``bench.py`` reads, for a TDengine and for the server of canned blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from contest import START, STEP, fill, make_stable, stable_columns

import aiotaos
from aiotaos.types import Field, TypeCode

DATABASE = "bench_columns"
TEXTS = 1_000

Values = npt.NDArray[Any]
Columns = dict[str, Values]
Sums = tuple[int, int]

_LENGTHS = {
    TypeCode.BOOL: 1,
    TypeCode.SMALLINT: 2,
    TypeCode.INT: 4,
    TypeCode.BIGINT: 8,
    TypeCode.FLOAT: 4,
    TypeCode.DOUBLE: 8,
    TypeCode.TIMESTAMP: 8,
}
_WORDS = (
    "pump", "Süd", "temperature", "Halle", "ok", "réglage", "vibration", "北", "out of range",
    "Ventil", "m³/h", "π", "calibration due", "x", "überprüft", "датчик",
)  # fmt: skip


@dataclass(frozen=True)
class DataSet:
    """A table with so many rows.

    Attributes:
        name: Of the table.
        rows: Number of rows.
        fields: Its columns.
        make: Makes the columns.
        summed: Name of the column that is summed up to check an answer.
        measured: What is summed up of each value of this column.
        total: The sum.
    """

    name: str
    rows: int
    fields: tuple[Field, ...]
    make: Callable[[int], Columns]
    summed: str
    measured: Callable[[Any], int]
    total: int

    @property
    def sql(self) -> str:
        return f"select * from {DATABASE}.{self.name}"

    @property
    def warm_up(self) -> str:
        """The same with few rows."""
        return f"{self.sql} limit 5"

    def repeated(self, times: int) -> str:
        """A query that returns the table so many times."""
        return " union all ".join([self.sql] * times)

    def place(self) -> int:
        """Of the column that is summed up."""
        return [field.name for field in self.fields].index(self.summed)

    def sums(self, times: int = 1) -> Sums:
        """Number of rows and sum of the column, if the table is read so many times."""
        return times * self.rows, times * self.total

    def sums_of(self, rows: Iterable[Sequence[Any]]) -> Sums:
        """Number of rows and sum of the column, of rows that were read."""
        place, measured = self.place(), self.measured
        count = total = 0
        for row in rows:
            count += 1
            total += measured(row[place])
        return count, total

    def check(self, found: Sums, times: int = 1) -> None:
        """Stop if this is not what the table holds."""
        if found != self.sums(times):
            raise SystemExit(f"{self.name}: count and sum are {found}, not {self.sums(times)}")


def _field(name: str, code: TypeCode, length: int = 0) -> Field:
    return Field(name, code, length or _LENGTHS[code])


def _itself(value: int) -> int:
    return value


def _or_nothing(value: int | None) -> int:
    return value or 0


def _times(number: npt.NDArray[np.int64]) -> Values:
    return START + STEP * number


# Seven columns, as contest.fill() writes them.

_COLUMNS = (
    _field("ts", TypeCode.TIMESTAMP),
    _field("f", TypeCode.FLOAT),
    _field("v", TypeCode.INT),
    _field("d", TypeCode.DOUBLE),
    _field("s", TypeCode.VARCHAR, 16),
    _field("g", TypeCode.INT),
    _field("p", TypeCode.NCHAR, 24),
)


def columns(rows: int) -> DataSet:
    """Seven columns, two of them tags."""
    return DataSet("m", rows, _COLUMNS, stable_columns, "v", _itself, rows * (rows - 1) // 2)


# A hundred columns.

_WIDE = (
    _field("ts", TypeCode.TIMESTAMP),
    *(_field(f"i{i}", TypeCode.INT) for i in range(30)),
    *(_field(f"d{i}", TypeCode.DOUBLE) for i in range(50)),
    *(_field(f"f{i}", TypeCode.FLOAT) for i in range(10)),
    *(_field(f"l{i}", TypeCode.BIGINT) for i in range(5)),
    *(_field(f"b{i}", TypeCode.BOOL) for i in range(4)),
)


def _wide(rows: int) -> Columns:
    number = np.arange(rows)
    made: Columns = {"ts": _times(number)}
    made |= {f"i{i}": ((1 + 31 * i) * number).astype(np.int32) for i in range(30)}
    made |= {f"d{i}": number / (3 + i) for i in range(50)}
    made |= {f"f{i}": (number / (7 + i)).astype(np.float32) for i in range(10)}
    made |= {f"l{i}": number * 10**i for i in range(5)}
    made |= {f"b{i}": number % (i + 2) == 0 for i in range(4)}
    return made


def wide(rows: int) -> DataSet:
    """100 columns of numbers."""
    return DataSet("wide", rows, _WIDE, _wide, "i0", _itself, rows * (rows - 1) // 2)


# Text.

_STRINGS = (
    _field("ts", TypeCode.TIMESTAMP),
    *(_field(f"s{i}", TypeCode.VARCHAR, 32) for i in range(3)),
    *(_field(f"n{i}", TypeCode.NCHAR, 32) for i in range(2)),
)


def _texts(seed: int, *, is_ascii: bool) -> Values:
    """Texts of up to 32 bytes, where they are ASCII, or 32 characters."""
    random = np.random.default_rng(seed)
    words = [word for word in _WORDS if word.isascii()] if is_ascii else list(_WORDS)
    made = []
    for i in range(TEXTS):
        chosen = random.choice(len(words), size=random.integers(1, 4))
        made.append(" ".join([*(words[one] for one in chosen), str(i)])[-32:].strip())
    return np.array(made)


def _strings(rows: int) -> Columns:
    number = np.arange(rows)
    made: Columns = {"ts": _times(number)}
    for i in range(3):
        made[f"s{i}"] = _texts(i, is_ascii=True)[(7 + i) * number % TEXTS]
    for i in range(2):
        made[f"n{i}"] = _texts(10 + i, is_ascii=False)[(11 + i) * number % TEXTS]
    return made


def strings(rows: int) -> DataSet:
    """Three VARCHARs and two NCHARs of varied text."""
    lengths = np.strings.str_len(_texts(10, is_ascii=False))
    total = int(lengths[11 * np.arange(rows) % TEXTS].sum())
    return DataSet("strings", rows, _STRINGS, _strings, "n0", len, total)


# NULLs.

_NULLS = (
    _field("ts", TypeCode.TIMESTAMP),
    *(_field(f"i{i}", TypeCode.INT) for i in range(3)),
    *(_field(f"d{i}", TypeCode.DOUBLE) for i in range(3)),
    *(_field(f"l{i}", TypeCode.BIGINT) for i in range(2)),
    _field("b", TypeCode.BOOL),
    _field("s", TypeCode.VARCHAR, 16),
)


def _nulls(rows: int) -> Columns:
    number = np.arange(rows)

    def half(values: Values, shift: int) -> Values:
        return np.ma.masked_array(values, mask=(number + shift) % 2 == 1)

    made: Columns = {"ts": _times(number)}
    made |= {f"i{i}": half(((1 + i) * number).astype(np.int32), i) for i in range(3)}
    made |= {f"d{i}": half(number / (3 + i), i) for i in range(3)}
    made |= {f"l{i}": half(number * 1000, i) for i in range(2)}
    made["b"] = half(number % 3 == 0, 0)
    made["s"] = half(np.array([f"state {i}" for i in range(1000)])[number % 1000], 1)
    return made


def nulls(rows: int) -> DataSet:
    """Ten columns half of whose values are NULL."""
    evens = (rows + 1) // 2
    return DataSet("gaps", rows, _NULLS, _nulls, "i0", _or_nothing, evens * (evens - 1))


_MADE: dict[str, tuple[Callable[[int], DataSet], int]] = {
    "m": (columns, 1),
    "wide": (wide, 20),
    "strings": (strings, 4),
    "gaps": (nulls, 2),
}


def named(name: str, rows: int) -> DataSet:
    """A table, if ``m`` has so many rows: those with larger rows have fewer of them."""
    make, part = _MADE[name]
    return make(max(1, rows // part))


def all_of(rows: int) -> tuple[DataSet, ...]:
    """All tables, if ``m`` has so many rows."""
    return tuple(named(name, rows) for name in _MADE)


async def make_database(dsn: str, sets: Sequence[DataSet]) -> None:
    """Make the database in a TDengine, with these tables."""
    async with aiotaos.connect(dsn) as conn:
        await conn.execute(f"drop database if exists {DATABASE}")
        await conn.execute(f"create database {DATABASE} keep 36500 vgroups 2")
        await conn.select_db(DATABASE)
        for data in sets:
            if data.name == "m":
                await make_stable(conn)
                await fill(conn, data.rows)
                continue
            described = ", ".join(f"{field.name} {field.type_name}" for field in data.fields)
            await conn.execute(f"create table {data.name} ({described})")
            await conn.insert(data.name, data.make(data.rows))


async def drop_database(dsn: str) -> None:
    async with aiotaos.connect(dsn) as conn:
        await conn.execute(f"drop database if exists {DATABASE}")

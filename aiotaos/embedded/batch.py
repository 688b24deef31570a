"""Rows on their way into DuckDB, column by column."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias

import duckdb
import numpy as np
import numpy.typing as npt

from ..types import DECIMALS, TypeCode
from .catalog import Table
from .columns import FLOATS, Column

Array: TypeAlias = "npt.NDArray[np.generic]"
Values: TypeAlias = Sequence[object]

_DTYPES: dict[TypeCode, str] = {
    TypeCode.BOOL: "?",
    TypeCode.TINYINT: "i1",
    TypeCode.SMALLINT: "i2",
    TypeCode.INT: "i4",
    TypeCode.BIGINT: "i8",
    TypeCode.TIMESTAMP: "i8",
    TypeCode.UTINYINT: "u1",
    TypeCode.USMALLINT: "u2",
    TypeCode.UINT: "u4",
    TypeCode.UBIGINT: "u8",
    TypeCode.FLOAT: "f4",
    TypeCode.DOUBLE: "f8",
}


@dataclass(slots=True)
class Batch:
    """Rows of one table that name the same columns; the first column is the time."""

    table: Table
    columns: tuple[Column, ...]
    children: list[int] = field(default_factory=list)
    values: list[list[object]] = field(default_factory=list)
    with_nan: set[Column] = field(default_factory=set)

    def add(self, child: int, values: Sequence[Values]) -> None:
        """Add rows of a sub-table, given as columns."""
        if not self.values:
            self.values = [[] for _ in self.columns]
        self.children += [child] * len(values[0])
        for mine, more in zip(self.values, values, strict=True):
            mine += more

    def keys(self) -> set[tuple[int, object]]:
        """Sub-table and time of each row."""
        return set(zip(self.children, self.values[0], strict=True))

    def write(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Store the rows; one with the time of a stored row changes the columns that it names."""
        self._merge_same_times()
        table = self.table.data
        cursor.register("batch", self.arrays())
        try:
            low, high = min(self.values[0]), max(self.values[0])  # type: ignore[type-var]
            time = self.columns[0].stored
            same = (
                f"{table}.tid = batch.tid AND {table}.{time} = batch.{time}"
                f" AND {table}.{time} BETWEEN {low} AND {high}"
            )
            names = ", ".join(column.stored for column in self.columns)
            values = ", ".join(map(self.stored, self.columns))
            insert = f"INSERT INTO {table} (tid, {names}) SELECT tid, {values} FROM batch"
            if len(self.columns) == len(self.table.columns):
                cursor.execute(f"DELETE FROM {table} USING batch WHERE {same}")
                cursor.execute(insert)
                return
            changes = ", ".join(
                f"{column.stored} = {self.stored(column)}" for column in self.columns[1:]
            )
            cursor.execute(f"{insert} WHERE NOT EXISTS (SELECT 1 FROM {table} WHERE {same})")
            if changes:
                cursor.execute(f"UPDATE {table} SET {changes} FROM batch WHERE {same}")
        finally:
            with suppress(duckdb.Error):  # after an error the transaction takes nothing more
                cursor.unregister("batch")

    def _merge_same_times(self) -> None:
        """Make one row of those with the same time: of each column its last value that is set."""
        if len(self.keys()) == len(self.children):
            return
        merged: dict[tuple[int, object], list[object]] = {}
        for child, *row in zip(self.children, *self.values, strict=True):
            earlier = merged.setdefault((child, row[0]), row)
            for place, value in enumerate(row):
                if value is not None:
                    earlier[place] = value
        self.children = [child for child, _ in merged]
        self.values = [list(column) for column in zip(*merged.values(), strict=True)]

    def arrays(self) -> dict[str, Array]:
        """The rows as DuckDB takes them, to be registered as ``batch``."""
        arrays: dict[str, Array] = {"tid": np.array(self.children, dtype="i8")}
        for column, values in zip(self.columns, self.values, strict=True):
            array = arrays[column.stored] = _array(column, values)
            if column.type.code in FLOATS and np.isnan(array).any():
                # DuckDB takes NaN in an array for NULL
                self.with_nan.add(column)
                arrays[f"{column.stored}nan"] = np.ma.filled(np.isnan(array), False)
        return arrays

    def stored(self, column: Column) -> str:
        """The value of a column as the table wants it."""
        name = f"batch.{column.stored}"
        if column in self.with_nan:
            return f"CASE WHEN {name}nan THEN CAST('NaN' AS {column.type.duckdb}) ELSE {name} END"
        return f"CAST({name} AS {column.type.duckdb})" if column.type.code in DECIMALS else name


def _array(column: Column, values: list[object]) -> Array:
    dtype = _DTYPES.get(column.type.code)
    if dtype is None:
        array = np.empty(len(values), dtype=object)
        array[:] = values
        return array
    if None not in values:
        return np.array(values, dtype=dtype)
    mask = [value is None for value in values]
    filled = [0 if value is None else value for value in values]
    return np.ma.masked_array(np.array(filled, dtype=dtype), mask=mask)

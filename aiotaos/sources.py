"""What a bulk insert takes, to batches of columns."""

from __future__ import annotations

import dataclasses
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from .errors import DataError, InterfaceError, StatementError
from .protocol.arrow import is_arrow, is_arrow_table, record_batches

Row: TypeAlias = Any
"""A tuple, a list, a mapping or a dataclass instance."""

Data: TypeAlias = Any
"""Rows or columns; see :meth:`aiotaos.Connection.insert`."""


class Batch(NamedTuple):
    """Some rows, as columns.

    Attributes:
        names: Name of each column; None where rows are told apart by place only.
        columns: The values of each column.
        rows: Number of rows.
        has_gaps: Whether the rows were mappings, which may lack what is NULL.
    """

    names: tuple[str, ...] | None
    columns: Sequence[Any]
    rows: int
    has_gaps: bool = False


async def batches(data: Data, size: int) -> AsyncGenerator[Batch]:
    """Cut data into batches of up to ``size`` rows, reading no more of it than a batch ahead.

    Raises:
        InterfaceError: It is nothing that can be inserted.
        DataError: A row is none, or is not as long as those before it.
        StatementError: Columns do not go together.
    """
    if isinstance(data, AsyncIterable):
        try:
            async for batch in _from_async(data, size):
                yield batch
        finally:
            if isinstance(data, AsyncGenerator):
                await data.aclose()
        return
    for batch in _from_sync(data, size):
        yield batch


def _from_sync(data: Data, size: int) -> Iterator[Batch]:
    whole = _columnar(data, size)
    if whole is not None:
        yield from whole
        return
    if isinstance(data, Mapping):
        raise InterfaceError(
            "data: expected columns in the dict, found values; one row goes in a list"
        )
    if isinstance(data, (str, bytes)) or not isinstance(data, Iterable):
        raise InterfaceError(
            "data: expected rows, a dict of columns, a structured numpy array, Arrow data, or an "
            f"iterator of these, got {type(data).__name__}"
        )
    if isinstance(data, (list, tuple)):
        for start in range(0, len(data), size):
            rows = data[start : start + size]
            if len(set(map(type, rows))) == 1 and _part(rows[0], size) is None:
                yield from row_batches(rows)
            else:
                yield from _from_items(rows, size)
        return
    yield from _from_items(data, size)


def _from_items(items: Iterable[Any], size: int) -> Iterator[Batch]:
    gathered = _Gathered(size)
    for item in items:
        yield from gathered.add(item)
    yield from gathered.rest()


async def _from_async(items: AsyncIterable[Any], size: int) -> AsyncIterator[Batch]:
    gathered = _Gathered(size)
    async for item in items:
        for batch in gathered.add(item):
            yield batch
    for batch in gathered.rest():
        yield batch


class _Gathered:
    """Rows that come one by one, until there are enough for a batch."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._rows: list[Row] = []

    def add(self, item: Any) -> Iterable[Batch]:
        """The batches that are full with an item: a row, or what holds several."""
        part = None if type(item) is tuple else _part(item, self._size)
        if part is not None:
            return chain(self.rest(), part)
        self._rows.append(item)
        return self.rest() if len(self._rows) >= self._size else ()

    def rest(self) -> Iterator[Batch]:
        """The batches of what is left."""
        rows, self._rows = self._rows, []
        return row_batches(rows)


def _part(item: Any, size: int) -> Iterator[Batch] | None:
    """The batches of an item that is more than a row."""
    whole = _columnar(item, size)
    if whole is None and isinstance(item, list) and item and _is_row(item[0]):
        return _from_sync(item, size)
    return whole


def _is_row(item: Any) -> bool:
    return isinstance(item, (tuple, list, Mapping)) or dataclasses.is_dataclass(item)


def _columnar(data: Any, size: int) -> Iterator[Batch] | None:
    """The batches of what holds columns; None of what does not."""
    if isinstance(data, np.ndarray):
        if data.dtype.names is None:
            raise InterfaceError("data: a numpy array must be structured: its fields are columns")
        return _structured(data, size)
    if isinstance(data, Mapping):
        return _named(data, size) if _holds_columns(data) else None
    if is_arrow_table(data):
        return _arrow(data, size)
    return None


def _holds_columns(data: Mapping[str, Any]) -> bool:
    return bool(data) and all(
        (isinstance(values, Sequence) and not isinstance(values, (str, bytes)))
        or hasattr(values, "__array__")
        or is_arrow(values)
        for values in data.values()
        if not isinstance(values, np.generic)
    )


def _structured(data: np.ndarray[Any, Any], size: int) -> Iterator[Batch]:
    names = tuple(data.dtype.names or ())
    for start in range(0, len(data), size):
        part = data[start : start + size]
        yield Batch(names, [part[name] for name in names], len(part))


def _named(data: Mapping[str, Any], size: int) -> Iterator[Batch]:
    names = tuple(data)
    columns = list(data.values())
    for name, values in data.items():
        if not hasattr(values, "__len__") or getattr(values, "ndim", 1) == 0:
            raise StatementError(f"column {name!r}: expected a column of values, got {values!r}")
    rows = len(columns[0])
    for name, values in data.items():
        if len(values) != rows:
            raise StatementError(
                f"columns of unequal length: {names[0]!r} has {rows} values, {name!r} has "
                f"{len(values)}"
            )
    for start in range(0, rows, size):
        count = min(size, rows - start)
        if count == rows:
            yield Batch(names, columns, rows)
        else:
            parts = [values[start : start + count] for values in columns]
            yield Batch(names, parts, count)


def _arrow(data: Any, size: int) -> Iterator[Batch]:
    for batch in record_batches(data):
        names = tuple(batch.schema.names)
        for start in range(0, batch.num_rows, size):
            part = batch.slice(start, size)
            yield Batch(names, part.columns, part.num_rows)


# Rows.


def row_batches(rows: Sequence[Row]) -> Iterator[Batch]:
    """Rows to columns: a batch for each stretch of rows of one kind."""
    start = 0
    if len(set(map(type, rows))) > 1:
        kinds = list(map(_kind, rows))
        for place in range(1, len(rows)):
            if kinds[place] is not kinds[start]:
                yield _batch(rows[start:place])
                start = place
    if rows:
        yield _batch(rows[start:] if start else rows)


def _kind(row: Row) -> type:
    return Mapping if isinstance(row, Mapping) else type(row)


def _batch(rows: Sequence[Row]) -> Batch:
    first = rows[0]
    if isinstance(first, Mapping):
        names = tuple(dict.fromkeys(chain.from_iterable(rows)))
        return Batch(names, [[row.get(name) for row in rows] for name in names], len(rows), True)
    if names := dataclass_names(type(first)):
        return Batch(names, [list(map(attrgetter(name), rows)) for name in names], len(rows))
    if not isinstance(first, (tuple, list)):
        raise _row_error(0, f"expected a tuple, a list, a mapping or a dataclass, got {first!r}")
    try:
        columns = list(zip(*rows, strict=True))
    except ValueError:
        wrong = next(place for place, row in enumerate(rows) if len(row) != len(first))
        raise _row_error(
            wrong, f"it has {len(rows[wrong])} values, those before it {len(first)}"
        ) from None
    return Batch(getattr(first, "_fields", None), columns, len(rows))


def _row_error(row: int, problem: str) -> DataError:
    error = DataError(f"row {row}: {problem}")
    error.row = row
    return error


_dataclasses: dict[type[Any], tuple[str, ...]] = {}


def dataclass_names(kind: type[Any]) -> tuple[str, ...]:
    """The field names of a dataclass; empty for another type."""
    names = _dataclasses.get(kind)
    if names is None:
        fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
        names = _dataclasses[kind] = tuple(field.name for field in fields)
    return names

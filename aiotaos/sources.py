"""What a bulk insert takes, to batches of columns."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from operator import attrgetter
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from .errors import InterfaceError, StatementError
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
    """

    names: tuple[str, ...] | None
    columns: Sequence[Any]
    rows: int


async def batches(data: Data, size: int) -> AsyncIterator[Batch]:
    """Cut data into batches of up to ``size`` rows, reading no more of it than a batch ahead.

    Raises:
        InterfaceError: It is nothing that can be inserted.
        StatementError: Rows or columns do not go together.
    """
    if isinstance(data, AsyncIterable):
        async for batch in _from_async(data, size):
            yield batch
        return
    for batch in _from_sync(data, size):
        yield batch


def _from_sync(data: Data, size: int) -> Iterator[Batch]:
    whole = _columnar(data, size)
    if whole is not None:
        yield from whole
        return
    if isinstance(data, (str, bytes, Mapping)) or not isinstance(data, Iterable):
        raise InterfaceError(
            "data: expected rows, a dict of columns, a structured numpy array, Arrow data, or an "
            f"iterator of these, got {type(data).__name__}"
        )
    if isinstance(data, (list, tuple)):
        for start in range(0, len(data), size):
            yield from _from_items(data[start : start + size], size)
        return
    rows: list[Row] = []
    for item in data:
        part = None if type(item) is tuple else _part(item, size)
        if part is None:
            rows.append(item)
        if rows and (part is not None or len(rows) >= size):
            yield from row_batches(rows)
            rows = []
        yield from part or ()
    yield from row_batches(rows)


def _from_items(items: Sequence[Any], size: int) -> Iterator[Batch]:
    if len(set(map(type, items))) == 1 and _part(items[0], size) is None:
        yield from row_batches(items)
        return
    for item in items:
        part = _part(item, size)
        yield from row_batches([item]) if part is None else part


async def _from_async(data: AsyncIterable[Any], size: int) -> AsyncIterator[Batch]:
    rows: list[Row] = []
    async for item in data:
        part = _part(item, size)
        if part is None:
            rows.append(item)
        if rows and (part is not None or len(rows) >= size):
            for batch in row_batches(rows):
                yield batch
            rows = []
        for batch in part or ():
            yield batch
    for batch in row_batches(rows):
        yield batch


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
        isinstance(values, (list, tuple)) or hasattr(values, "__array__") or is_arrow(values)
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
    while start < len(rows):
        kind = type(rows[start])
        end = len(rows)
        if set(map(type, rows)) != {kind}:
            end = next((i for i in range(start, end) if type(rows[i]) is not kind), end)
        yield _batch(rows[start:end] if end - start < len(rows) else rows, start)
        start = end


def _batch(rows: Sequence[Row], start: int) -> Batch:
    first = rows[0]
    if isinstance(first, Mapping):
        names = tuple(dict.fromkeys(chain.from_iterable(rows)))
        get = type(first).get
        return Batch(names, [list(map(get, rows, repeat(name))) for name in names], len(rows))
    if dataclasses.is_dataclass(first):
        names = dataclass_names(type(first))
        return Batch(names, [list(map(attrgetter(name), rows)) for name in names], len(rows))
    if not isinstance(first, (tuple, list)):
        raise StatementError(
            f"row {start}: expected a tuple, a list, a mapping or a dataclass, got {first!r}"
        )
    try:
        columns = list(zip(*rows, strict=True))
    except ValueError:
        wrong = next(i for i, row in enumerate(rows) if len(row) != len(first))
        raise StatementError(
            f"row {start + wrong} has {len(rows[wrong])} values, row {start} has {len(first)}"
        ) from None
    return Batch(getattr(first, "_fields", None), columns, len(rows))


_dataclasses: dict[type[Any], tuple[str, ...]] = {}


def dataclass_names(kind: type[Any]) -> tuple[str, ...]:
    """The field names of a dataclass; empty for another type."""
    names = _dataclasses.get(kind)
    if names is None:
        fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
        names = _dataclasses[kind] = tuple(field.name for field in fields)
    return names

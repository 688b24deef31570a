"""Sections of a stmt2 bind: a block for each column of each table.

The layout is ``bind data`` of taosAdapter's ``stmt2binary.go``: for each table a u32 with the bytes
of its blocks, then the blocks, those of the first table first. A block is ``u32`` its length,
``i32`` type, ``i32`` number of values, a NULL flag for each, ``u8`` whether lengths follow, the
``i32`` lengths, ``i32`` length of the data, the data.

Tables of many rows are cut out of the columns one by one. With few rows each, as when many devices
send a row, the cutting would cost more than the copying; then all blocks of a column are placed at
once, by arrays of positions.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ..types import TypeCode
from .block import Buffer
from .columns import Bytes, Column, Fixed, Variable

Positions: TypeAlias = npt.NDArray[np.int64]
_Block: TypeAlias = tuple[int, tuple[Buffer, ...]]  # its size, and its pieces

_BLOCK = struct.Struct("<Iii")  # length, type, number of values
_LENGTH = struct.Struct("<i")
_HEAD = 17  # bytes of a block beside flags, lengths and data
_FEW_ROWS = 16


def section(
    types: Sequence[TypeCode], columns: Sequence[Column], ends: Sequence[int]
) -> list[Buffer]:
    """The blocks of all tables, in pieces that are to be joined; none if there are no columns.

    Args:
        types: Type code of each column.
        columns: The columns, the rows of the first table first.
        ends: Index behind the last row of each table.
    """
    if not columns:
        return []
    if len(ends) > 1 and ends[-1] < _FEW_ROWS * len(ends):
        return [_placed(types, columns, ends)]
    blocks = [
        _fixed_blocks(type, column, ends)
        if isinstance(column, Fixed)
        else _variable_blocks(type, column, ends)
        for type, column in zip(types, columns, strict=True)
    ]
    sizes = []
    pieces: list[Buffer] = []
    for table in zip(*blocks, strict=True):
        sizes.append(sum([size for size, _ in table]))
        for _, parts in table:
            pieces += parts
    return [struct.pack(f"<{len(sizes)}I", *sizes), *pieces]


def _fixed_blocks(type: TypeCode, column: Fixed, ends: Sequence[int]) -> list[_Block]:
    width = column.values.dtype.itemsize
    data = np.ascontiguousarray(column.values).view(np.uint8).data
    nulls = _flags(column).tobytes()
    blocks: list[_Block] = []
    start = 0
    for end in ends:
        rows = end - start
        is_null = nulls[start:end]
        values = data[start * width : end * width] if b"\0" in is_null else b""
        size = _HEAD + rows + len(values)
        tail = b"\0" + _LENGTH.pack(len(values))
        blocks.append((size, (_BLOCK.pack(size, type, rows), is_null, tail, values)))
        start = end
    return blocks


def _variable_blocks(type: TypeCode, column: Variable, ends: Sequence[int]) -> list[_Block]:
    data = np.ascontiguousarray(column.data).data
    lengths = np.ascontiguousarray(column.lengths, "<i4").view(np.uint8).data
    nulls = _flags(column).tobytes()
    limits = _byte_ends(column, np.asarray(ends)).tolist()
    blocks: list[_Block] = []
    start = first = 0
    for end, last in zip(ends, limits, strict=True):
        rows = end - start
        size = _HEAD + 5 * rows + last - first
        parts = (
            _BLOCK.pack(size, type, rows) + nulls[start:end] + b"\1",
            lengths[4 * start : 4 * end],
            _LENGTH.pack(last - first),
            data[first:last],
        )
        blocks.append((size, parts))
        start, first = end, last
    return blocks


def _flags(column: Column) -> Bytes:
    if column.nulls is None:
        return np.zeros(len(column), np.uint8)
    return column.nulls.view(np.uint8)


def _byte_ends(column: Variable, ends: Positions) -> Positions:
    """Where the data of each table ends."""
    sums = np.zeros(len(column) + 1, np.int64)
    np.cumsum(column.lengths, out=sums[1:])
    return sums[ends]


# All blocks at once.


def _placed(types: Sequence[TypeCode], columns: Sequence[Column], ends: Sequence[int]) -> bytes:
    ends_of = np.asarray(ends, np.int64)
    counts = np.diff(ends_of, prepend=0)
    sizes = [_data_sizes(column, ends_of, counts) for column in columns]
    lengths = [
        _HEAD + counts * (5 if isinstance(column, Variable) else 1) + size
        for column, size in zip(columns, sizes, strict=True)
    ]
    tables = np.sum(lengths, axis=0)
    out = np.empty(4 * len(ends) + int(tables.sum()), np.uint8)
    out[: 4 * len(ends)] = _raw(tables, "<u4").reshape(-1)
    place = 4 * len(ends) + np.cumsum(tables) - tables
    for type, column, size, length in zip(types, columns, sizes, lengths, strict=True):
        _place(out, place, type, column, counts, size, length)
        place = place + length
    return out.tobytes()


def _data_sizes(column: Column, ends: Positions, counts: Positions) -> Positions:
    """Bytes of each table's data; 0 where all values are NULL."""
    if isinstance(column, Variable):
        return np.diff(_byte_ends(column, ends), prepend=0)
    sizes = counts * column.values.dtype.itemsize
    if column.nulls is not None:
        present = np.add.reduceat(~column.nulls, ends - counts, dtype=np.int64)
        sizes = np.where(present > 0, sizes, 0)
    return sizes


def _place(
    out: Bytes,
    place: Positions,
    type: TypeCode,
    column: Column,
    counts: Positions,
    sizes: Positions,
    lengths: Positions,
) -> None:
    """Write a column's block of each table at its place."""
    _write(out, place, _raw(lengths, "<u4"))
    _write(out, place + 4, _raw(np.full(len(place), type), "<i4"))
    _write(out, place + 8, _raw(counts, "<i4"))
    starts = np.cumsum(counts) - counts
    rows = np.arange(len(column), dtype=np.int64)
    place = place + 12
    out[np.repeat(place - starts, counts) + rows] = _flags(column)
    place = place + counts
    out[place] = isinstance(column, Variable)
    place = place + 1
    if isinstance(column, Variable):
        _write(out, np.repeat(place - 4 * starts, counts) + 4 * rows, _raw(column.lengths, "<i4"))
        place = place + 4 * counts
    _write(out, place, _raw(sizes, "<i4"))
    place = place + 4
    if isinstance(column, Variable):
        begins = np.cumsum(sizes) - sizes
        out[np.repeat(place - begins, sizes) + np.arange(len(column.data))] = column.data
        return
    width = column.values.dtype.itemsize
    positions = np.repeat(place - width * starts, counts) + width * rows
    values = column.values
    if column.nulls is not None:
        present = np.repeat(sizes > 0, counts)
        positions, values = positions[present], values[present]
    _write(out, positions, np.ascontiguousarray(values).view(np.uint8).reshape(-1, width))


def _raw(values: npt.NDArray[np.int64] | npt.NDArray[np.int32], dtype: str) -> Bytes:
    """The bytes of integers, shape (n, 4)."""
    return values.astype(dtype).view(np.uint8).reshape(-1, 4)


def _write(out: Bytes, positions: Positions, values: Bytes) -> None:
    """Write rows of bytes at their positions."""
    for byte in range(values.shape[1]):
        out[positions + byte] = values[:, byte]

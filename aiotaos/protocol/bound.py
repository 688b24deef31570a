"""Bound parameters as the server reads them: the payload of stmt2 binds, and stmt v1's raw blocks.

A stmt2 payload is tables, each with its name, its tags and its columns; every tag and every
column is a block of its own. Stmt v1 sends one raw block for the tags or the columns of one table.
Both are checked whole before a value is used: all integers are little-endian and unaligned.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ..errors import ProtocolError
from ..types import DECIMALS, TypeCode
from .block import DTYPES, HEADER, SCHEMA, Buffer

_BIND = struct.Struct("<Hi")  # version, index of the column
_PAYLOAD = struct.Struct("<7I")  # length, tables, tags, columns; offsets of names, tags, columns
_BLOCK = struct.Struct("<Iii")  # length, type, values
_INT = struct.Struct("<i")
_PREFIX = struct.Struct("<H")
_VERSION = 1
_FIXED: dict[TypeCode, np.dtype[Any]] = {
    code: dtype
    for code, dtype in DTYPES.items()
    if code is not TypeCode.NULL and code not in DECIMALS
}
_TEXTS = DECIMALS | {TypeCode.VARCHAR, TypeCode.NCHAR, TypeCode.JSON}
_BYTES = frozenset(
    {TypeCode.VARBINARY, TypeCode.GEOMETRY, TypeCode.BLOB, TypeCode.MEDIUMBLOB},
)
_BLOCK_TEXTS = frozenset({TypeCode.VARCHAR, TypeCode.NCHAR, TypeCode.JSON})
_BLOCK_BYTES = frozenset({TypeCode.VARBINARY, TypeCode.GEOMETRY})


class BoundColumn(NamedTuple):
    """The values of one column, or of one tag.

    Attributes:
        type: Type of the values as sent.
        values: None for NULL; bool, int, float, str (also for DECIMAL), bytes; ticks for
            TIMESTAMP. Bytes that are not UTF-8 are surrogates in a str.
        absent: Rows that say nothing about the column, which then keeps its value; they are
            None in ``values``.
    """

    type: TypeCode
    values: list[Any]
    absent: frozenset[int] = frozenset()


class BoundTable(NamedTuple):
    """What is bound to one table.

    Attributes:
        name: Its name; None where the statement names it.
        tags: One value each; empty where none are bound.
        columns: All of the same number of rows.
    """

    name: str | None
    tags: list[BoundColumn]
    columns: list[BoundColumn]


class Bind(NamedTuple):
    """A stmt2 bind; ``column`` is the only column it is about, or -1 for all."""

    column: int
    tables: list[BoundTable]


def parse_bind(body: Buffer) -> Bind:
    """Read a stmt2 bind from what follows the request's header.

    Raises:
        ProtocolError: It is truncated or inconsistent, or holds a type that cannot be bound.
    """
    view = memoryview(body)
    if len(view) < _BIND.size:
        raise ProtocolError("message length is too short")
    version, column = _BIND.unpack_from(view)
    if version != _VERSION:
        raise ProtocolError("unknown stmt2 bind version")
    return Bind(column, _parse_payload(view[_BIND.size :]))


def _parse_payload(view: memoryview) -> list[BoundTable]:
    if len(view) < _PAYLOAD.size:
        raise ProtocolError("message length is too short")
    length, count, tags, columns, names_at, tags_at, columns_at = _PAYLOAD.unpack_from(view)
    if length != len(view):
        raise ProtocolError(f"total length not match, expect {length}, but get {len(view)}")
    if count == 0:
        raise ProtocolError("table count is 0")
    for what, number, offset in (("tag", tags, tags_at), ("col", columns, columns_at)):
        if number == 0 and offset:
            raise ProtocolError(f"{what} count is 0, but {what}s offset is not 0")
        if number and not offset:
            raise ProtocolError(f"{what} count is {number}, but {what}s offset is 0")
    names: list[str] | list[None] = [None] * min(count, len(view))
    if names_at:
        names = _parse_names(view, names_at, count)
    bound_tags = _parse_section(view, "tags", tags_at, count, tags)
    bound_columns = _parse_section(view, "cols", columns_at, count, columns)
    return list(map(BoundTable, names, bound_tags, bound_columns))


def _parse_names(view: memoryview, offset: int, count: int) -> list[str]:
    position = offset + 2 * count
    _check_end(view, "table names", offset, position)
    names = []
    for index, length in enumerate(np.frombuffer(view, "<u2", count, offset).tolist()):
        if length == 0:
            raise ProtocolError(f"table name length is 0, tableIndex: {index}")
        end = position + length
        _check_end(view, "table names", offset, end)
        if view[end - 1] != 0:
            raise ProtocolError(f"table name does not end with 0, tableIndex: {index}")
        names.append(_text(bytes(view[position : end - 1])))
        position = end
    return names


def _parse_section(
    view: memoryview, what: str, offset: int, count: int, width: int
) -> list[list[BoundColumn]]:
    """The tags, or the columns, of each table."""
    if not offset:
        return [[] for _ in range(min(count, len(view)))]
    position = offset + 4 * count
    _check_end(view, what, offset, position)
    found = []
    for index, length in enumerate(np.frombuffer(view, "<u4", count, offset).tolist()):
        if length == 0:
            raise ProtocolError(f"{what} length is 0, tableIndex: {index}")
        end = position + length
        _check_end(view, what, offset, end)
        found.append(_parse_blocks(view[position:end], index, width))
        position = end
    return found


def _parse_blocks(view: memoryview, table: int, width: int) -> list[BoundColumn]:
    columns = []
    position = 0
    for field in range(width):
        rest = view[position:]
        where = f"tableIndex: {table}, fieldIndex: {field}"
        if len(rest) < _BLOCK.size:
            raise ProtocolError(f"bind data length error, {where}")
        length, _, _ = _BLOCK.unpack_from(rest)
        if not _BLOCK.size <= length <= len(rest):
            raise ProtocolError(f"bind data length error, {where}")
        columns.append(_parse_block(rest[:length], where))
        position += length
    if position != len(view):
        raise ProtocolError(f"bind data length error, tableIndex: {table}")
    return columns


def _parse_block(view: memoryview, where: str) -> BoundColumn:
    wrong = ProtocolError(f"bind data length error, {where}")
    length, number, rows = _BLOCK.unpack_from(view)
    if rows < 0 or length < _BLOCK.size + rows + 5:
        raise wrong
    type = _type(number)
    flags = np.frombuffer(view, "u1", rows, _BLOCK.size)
    position = _BLOCK.size + rows
    has_lengths = view[position] != 0
    position += 1
    lengths_at = position
    position += 4 * rows if has_lengths else 0
    if position + _INT.size > length:
        raise wrong
    (size,) = _INT.unpack_from(view, position)
    position += _INT.size
    if size < 0 or position + size != length:
        raise wrong
    data = view[position:]
    absent = frozenset(np.flatnonzero(flags > 1).tolist()) if rows else frozenset()
    if type in _FIXED:
        return BoundColumn(type, _fixed_values(type, flags, data, wrong), absent)
    if not has_lengths:
        raise wrong
    lengths = np.frombuffer(view, "<i4", rows, lengths_at)
    if not (type in _TEXTS or type in _BYTES):
        raise ProtocolError(f"unsupported type {number}, {where}")
    return BoundColumn(type, _variable_values(type, flags, lengths, data, wrong), absent)


def _type(number: int) -> TypeCode:
    try:
        return TypeCode(number)
    except ValueError:
        raise ProtocolError(f"unknown type {number}") from None


def _fixed_values(
    type: TypeCode, flags: np.ndarray[Any, Any], data: memoryview, wrong: ProtocolError
) -> list[Any]:
    if flags.all() and not data:  # clients leave out a buffer that holds only NULL
        return [None] * len(flags)
    dtype = _FIXED[type]
    if len(data) != len(flags) * dtype.itemsize:
        raise wrong
    return _with_nulls(type, np.frombuffer(data, dtype, len(flags)), flags != 0)


def _with_nulls(
    type: TypeCode, values: np.ndarray[Any, Any], nulls: np.ndarray[Any, Any]
) -> list[Any]:
    if type is TypeCode.BOOL:
        values = values != 0
    if not nulls.any():
        return list(values.tolist())
    objects = values.astype(object)
    objects[nulls] = None
    return list(objects.tolist())


def _variable_values(
    type: TypeCode,
    flags: np.ndarray[Any, Any],
    lengths: np.ndarray[Any, Any],
    data: memoryview,
    wrong: ProtocolError,
) -> list[Any]:
    present = flags == 0
    kept = lengths[present].astype("i8")
    if (kept < 0).any() or kept.sum() != len(data):
        raise wrong
    edges = [0, *np.cumsum(kept).tolist()]
    raw = bytes(data)
    found: list[Any]
    if type in _BYTES:
        found = [raw[start:end] for start, end in pairwise(edges)]
    elif raw.isascii():
        text = raw.decode()
        found = [text[start:end] for start, end in pairwise(edges)]
    else:
        found = [_text(raw[start:end]) for start, end in pairwise(edges)]
    if len(found) == len(flags):
        return found
    values = iter(found)
    return [next(values) if is_present else None for is_present in present.tolist()]


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _check_end(view: memoryview, what: str, offset: int, end: int) -> None:
    if offset < _PAYLOAD.size or end > len(view):
        raise ProtocolError(f"{what} out of range, offset {offset}, end {end} of {len(view)}")


def parse_raw_block(data: Buffer, types: Sequence[TypeCode] | None = None) -> list[BoundColumn]:
    """Read a raw block of stmt v1: the tags or the columns of one table.

    Args:
        data: The block; its flag segment, its length and what follows it do not matter.
        types: The types to read it by; those that the block names if left out.

    Raises:
        ProtocolError: It is truncated, not of ``types``' width, or holds a type that cannot be
            bound this way.
    """
    view = memoryview(data)
    if len(view) < HEADER.size:
        raise ProtocolError("message length is too short")
    _, _, rows, width, _, _ = HEADER.unpack_from(view)
    position = HEADER.size
    if rows < 0 or width < 0 or position + width * (SCHEMA.size + 4) > len(view):
        raise ProtocolError(f"truncated block: {rows} rows, {width} columns, {len(view)} bytes")
    if types is None:
        types = [_type(SCHEMA.unpack_from(view, position + 5 * i)[0]) for i in range(width)]
    elif len(types) != width:
        raise ProtocolError(f"stmt column count not match, expect {len(types)}, but get {width}")
    position += SCHEMA.size * width
    lengths = np.frombuffer(view, "<i4", width, position).tolist()
    position += 4 * width
    columns = []
    for type, length in zip(types, lengths, strict=True):
        if not (type in _FIXED or type in _BLOCK_TEXTS or type in _BLOCK_BYTES):
            raise ProtocolError(f"unsupported data type {int(type)}")
        start = position + ((rows + 7) // 8 if type in _FIXED else 4 * rows)
        end = start + length
        if length < 0 or end > len(view):
            raise ProtocolError(f"truncated block: a column of {length} bytes")
        columns.append(_block_column(type, rows, view[position:start], view[start:end]))
        position = end
    return columns


def _block_column(type: TypeCode, rows: int, head: memoryview, data: memoryview) -> BoundColumn:
    """One column; ``head`` is its bitmap or its offsets."""
    if type in _FIXED:
        dtype = _FIXED[type]
        if len(data) != rows * dtype.itemsize:
            raise ProtocolError(f"truncated block: {rows} rows in {len(data)} bytes")
        nulls = np.unpackbits(np.frombuffer(head, "u1"), count=rows).view(np.bool_)
        return BoundColumn(type, _with_nulls(type, np.frombuffer(data, dtype), nulls))
    raw = bytes(data)
    offsets = np.frombuffer(head, "<i4").tolist()
    values = [None if offset < 0 else _block_value(type, raw, offset) for offset in offsets]
    return BoundColumn(type, values)


def _block_value(type: TypeCode, raw: bytes, offset: int) -> str | bytes:
    start = offset + _PREFIX.size
    if start > len(raw):
        raise ProtocolError(f"truncated block: a value at {offset} of {len(raw)} bytes")
    end = start + _PREFIX.unpack_from(raw, offset)[0]
    if end > len(raw):
        raise ProtocolError(f"truncated block: a value up to {end} of {len(raw)} bytes")
    value = raw[start:end]
    if type in _BLOCK_BYTES:
        return value
    if type is not TypeCode.NCHAR:
        return _text(value)
    try:
        return value.decode("utf-32-le")
    except UnicodeDecodeError:
        raise ProtocolError("a value that is not UTF-32") from None

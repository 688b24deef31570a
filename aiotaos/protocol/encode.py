"""Columns to raw blocks: the counterpart of :mod:`aiotaos.protocol.block`."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from ..types import DECIMALS, Field, TypeCode
from .block import DTYPES, HEADER, PREFIXES, SCHEMA
from .columns import (
    Bytes,
    Column,
    Fixed,
    Lengths,
    Values,
    Variable,
    characters,
    make_column,
)
from .values import Described, bad_value

Starts: TypeAlias = npt.NDArray[np.int64]

_FLAG_SCHEMA_PRESENT = 0x80000000
_JSON_BYTES = 16384


def encode_block(fields: Sequence[Field], columns: Sequence[Values], *, version: int = 1) -> bytes:
    """Make a raw block of columns.

    Args:
        fields: The columns: type, declared length, and precision and scale of DECIMALs.
        columns: For each field its values, all of one length, as
            :func:`~aiotaos.protocol.columns.make_column` takes them; TIMESTAMPs are ticks.
        version: 1 as in query results, 2 as in subscriptions.

    Raises:
        DataError: A value does not fit its column, or the columns differ in length; the message
            names column, row and value.
    """
    if len(fields) != len(columns):
        raise DataError(f"{len(columns)} columns for {len(fields)} fields")
    rows = len(columns[0]) if columns else 0
    schema = bytearray()
    lengths: list[int] = []
    bodies: list[bytes] = []
    for field, values in zip(fields, columns, strict=True):
        if len(values) != rows:
            raise DataError(
                f"column {field.name!r} has {len(values)} values, the first column has {rows}"
            )
        column = make_column(field, values)
        _check_prefix(field, column, values)
        head, data = encode_column(field, column)
        schema += SCHEMA.pack(field.type, _schema_bytes(field))
        lengths.append(len(data))
        bodies += (head, data)
    total = HEADER.size + 9 * len(fields) + sum(map(len, bodies)) + 1
    header = HEADER.pack(version, total, rows, len(fields), _FLAG_SCHEMA_PRESENT, 0)
    return b"".join((header, schema, struct.pack(f"<{len(lengths)}i", *lengths), *bodies, b"\0"))


def encode_column(field: Described, column: Column) -> tuple[bytes, bytes]:
    """The two parts of a column in a block: NULL bitmap or offsets, and the data.

    Args:
        field: What the column holds.
        column: Its values.
    """
    if isinstance(column, Fixed):
        nulls = np.zeros(len(column), np.bool_) if column.nulls is None else column.nulls
        return np.packbits(nulls).tobytes(), column.values.tobytes()
    prefix = PREFIXES[field.type]
    data, lengths = column.data, column.lengths
    if field.type is TypeCode.NCHAR:
        data, lengths = _utf32(column)
    present = lengths if column.nulls is None else lengths[~column.nulls]
    offsets, body = _with_prefixes(data, present, prefix)
    if column.nulls is not None:
        spread = np.full(len(column), -1, "<i4")
        spread[~column.nulls] = offsets
        offsets = spread
    return offsets.astype("<i4").tobytes(), body.tobytes()


def _check_prefix(field: Field, column: Column, values: Values) -> None:
    """Check that the length prefix can tell every value's length."""
    if not isinstance(column, Variable) or not len(column):
        return
    lengths = column.lengths
    if field.type is TypeCode.NCHAR:
        lengths = characters(column) * 4
    if int(lengths.max()) > np.iinfo(PREFIXES[field.type]).max:
        row = int(np.argmax(lengths))
        raise bad_value(field, row, values[row], f"is not a value of {field.type_name}")


def _with_prefixes(data: Bytes, lengths: Lengths, prefix: np.dtype[Any]) -> tuple[Starts, Bytes]:
    """Put its length before each value; the starts of the prefixes and the bytes."""
    size = prefix.itemsize
    sizes = lengths.astype(np.int64) + size
    ends = np.cumsum(sizes)
    starts = ends - sizes
    body = np.empty(int(ends[-1]) if len(ends) else 0, np.uint8)
    is_prefix = np.zeros(len(body), np.bool_)
    places = starts[:, None] + np.arange(size)
    body[places] = lengths.astype(prefix).view(np.uint8).reshape(len(lengths), size)
    is_prefix[places] = True
    body[~is_prefix] = data
    return starts, body


def _utf32(column: Variable) -> tuple[Bytes, Lengths]:
    """NCHAR as blocks hold it: four bytes a character."""
    text = column.data.tobytes().decode("utf-8", "surrogatepass")
    data = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint8)
    return data, characters(column) * 4


def _schema_bytes(field: Field) -> int:
    """The ``bytes`` of a column's schema, as ``blockEncode`` writes it."""
    if field.type in DECIMALS:
        return DTYPES[field.type].itemsize << 24 | field.precision << 8 | field.scale
    if field.type is TypeCode.NCHAR:
        return field.length * 4 + 2
    if field.type is TypeCode.JSON:
        return _JSON_BYTES
    if field.type in PREFIXES:
        return field.length + PREFIXES[field.type].itemsize
    return DTYPES[field.type].itemsize

"""Columns of a block in Arrow's memory layout, with numpy alone.

Values of fixed width are the block's own bytes, or a copy where these are not aligned; bitmaps,
texts and BOOLs are rewritten in one pass each.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from ..types import TypeCode
from .block import Column, FixedColumn, Mask, VariableColumn

_ALIGNMENT = {TypeCode.DECIMAL: 16}  # bytes; that of others is their width
_NULL_DOCUMENT = np.frombuffer(b"null", np.uint8)

Bytes: TypeAlias = npt.NDArray[np.uint8]


class Part(NamedTuple):
    """One column in Arrow's layout.

    Attributes:
        rows: Number of rows.
        null_count: Number of NULLs.
        buffers: The validity bitmap, None if no row is NULL; of text and binary columns the
            offsets, i4 of shape (rows + 1,); the data. Of a NULL column none at all.
    """

    rows: int
    null_count: int
    buffers: tuple[npt.NDArray[Any] | None, ...]


def arrange(column: Column, name: str) -> Part:
    """A column in Arrow's layout.

    Args:
        column: The column.
        name: What errors call it.

    Raises:
        DataError: A text is not Unicode, which Arrow's strings must be.
        ProtocolError: The block is inconsistent.
    """
    if isinstance(column, VariableColumn):
        return _arrange_variable(column, name)
    return _arrange_fixed(column)


def _arrange_fixed(column: FixedColumn) -> Part:
    rows = len(column)
    if column.type is TypeCode.NULL:
        return Part(rows, rows, ())
    nulls = column.nulls
    values = column.values
    if column.type is TypeCode.BOOL:
        values = np.packbits(values != 0, bitorder="little")
    elif column.type is TypeCode.DECIMAL64:
        wide = np.empty((rows, 2), "<i8")
        wide[:, 0] = values
        wide[:, 1] = values >> 63
        values = wide
    elif values.__array_interface__["data"][0] % _ALIGNMENT.get(column.type, values.itemsize):
        values = values.copy()
    return Part(rows, _count(nulls), (_validity(nulls), values))


def _arrange_variable(column: VariableColumn, name: str) -> Part:
    data, lengths, nulls = column.packed()
    if column.type is TypeCode.NCHAR:
        data, lengths = _utf8_of_utf32(data, lengths, name)
    elif column.type in (TypeCode.VARCHAR, TypeCode.JSON):
        _check_utf8(data, lengths, name)
    if column.type is TypeCode.JSON:
        nulls = _with_null_documents(data, lengths, nulls)
    offsets = np.zeros(len(column) + 1, np.int32)
    if nulls is None or len(lengths) == len(column):
        np.cumsum(lengths, out=offsets[1:])
    else:
        spread = np.zeros(len(column), np.int64)
        spread[~nulls] = lengths
        np.cumsum(spread, out=offsets[1:])
    return Part(len(column), _count(nulls), (_validity(nulls), offsets, data))


def _count(nulls: Mask | None) -> int:
    return 0 if nulls is None else int(np.count_nonzero(nulls))


def _validity(nulls: Mask | None) -> Bytes | None:
    return None if nulls is None else np.packbits(~nulls, bitorder="little")


def _check_utf8(data: Bytes, lengths: npt.NDArray[np.int64], name: str) -> None:
    if not len(data) or data.max() < 0x80:
        return
    try:
        data.tobytes().decode()
    except UnicodeDecodeError:
        raise not_unicode(name) from None
    starts = (np.cumsum(lengths) - lengths)[lengths > 0]
    if ((data[starts] & 0xC0) == 0x80).any():  # a character that two values share
        raise not_unicode(name)


def _utf8_of_utf32(
    data: Bytes, lengths: npt.NDArray[np.int64], name: str
) -> tuple[Bytes, npt.NDArray[np.int64]]:
    if (lengths & 3).any():
        raise not_unicode(name)
    points = np.frombuffer(data.tobytes(), "<u4")
    characters = lengths >> 2
    if not len(points) or points.max() < 0x80:
        return points.astype(np.uint8), characters
    try:
        text = data.tobytes().decode("utf-32-le").encode()
    except UnicodeDecodeError:  # half of a surrogate pair, or beyond the last code point
        raise not_unicode(name) from None
    widths = np.ones(len(points), np.int64)
    for wider in (0x80, 0x800, 0x10000):
        widths += points >= wider
    ends = np.concatenate(([0], np.cumsum(widths)))[np.cumsum(characters)]
    return np.frombuffer(text, np.uint8), np.diff(ends, prepend=0)


def not_unicode(name: str) -> DataError:
    """The error for a text that Arrow and polars cannot hold."""
    return DataError(
        f"column {name!r} has a text that is not Unicode, as Arrow and polars want it; read it as "
        "rows, or, if it is VARCHAR, as bytes with cast(… as varbinary)"
    )


def _with_null_documents(
    data: Bytes, lengths: npt.NDArray[np.int64], nulls: Mask | None
) -> Mask | None:
    """A JSON ``null`` is NULL, as in rows; its text stays where it is, behind the bitmap."""
    starts = np.cumsum(lengths) - lengths
    found = np.flatnonzero(lengths == len(_NULL_DOCUMENT))
    texts = data[starts[found][:, None] + np.arange(len(_NULL_DOCUMENT))]
    found = found[(texts == _NULL_DOCUMENT).all(axis=1)]
    if not len(found):
        return nulls
    if nulls is None:
        nulls = np.zeros(len(lengths), np.bool_)
    nulls[np.flatnonzero(~nulls)[found]] = True
    return nulls

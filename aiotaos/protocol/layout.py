"""Columns of a block in Arrow's memory layout, with numpy alone.

Values of fixed width are the block's own bytes, or a copy where these are not aligned; bitmaps,
texts and BOOLs are rewritten in one pass each.
"""

from __future__ import annotations

import codecs
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import DataError, ProtocolError
from ..types import TypeCode
from .block import Column, FixedColumn, Mask, VariableColumn
from .runs import find_runs, is_contiguous

_ALIGNMENT = {TypeCode.DECIMAL: 16}  # bytes; that of others is their width
_NULL_DOCUMENT = np.frombuffer(b"null", np.uint8)

Bytes: TypeAlias = npt.NDArray[np.uint8]
Lengths: TypeAlias = npt.NDArray[np.int64]


class Part(NamedTuple):
    """One column in Arrow's layout.

    Attributes:
        rows: Number of rows.
        null_count: Number of NULLs.
        buffers: The validity bitmap, None if no row is NULL; of text and binary columns the
            offsets, i4 of shape (rows + 1,); the data. A NULL column has no data.
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
        return Part(rows, rows, (None,))
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
    if column.type is TypeCode.NCHAR:
        data, lengths, nulls = _nchars(column, name)
    else:
        data, lengths, nulls = column.packed()
    if column.type in (TypeCode.VARCHAR, TypeCode.JSON):
        _check_utf8(data, lengths, name)
    offsets = np.zeros(len(column) + 1, np.int32)
    if nulls is None or len(lengths) == len(column):
        np.cumsum(lengths, out=offsets[1:])
    else:
        spread = np.zeros(len(column), np.int64)
        spread[~nulls] = lengths
        np.cumsum(spread, out=offsets[1:])
    if column.type is TypeCode.JSON:
        nulls = _with_null_documents(data, lengths, nulls)
    return Part(len(column), _count(nulls), (_validity(nulls), offsets, data))


def _count(nulls: Mask | None) -> int:
    return 0 if nulls is None else int(np.count_nonzero(nulls))


def _validity(nulls: Mask | None) -> Bytes | None:
    return None if nulls is None else np.packbits(~nulls, bitorder="little")


def _check_utf8(data: Bytes, lengths: Lengths, name: str) -> None:
    if not len(data) or data.max() < 0x80:
        return
    try:
        codecs.utf_8_decode(data.data, "strict", True)
    except UnicodeDecodeError:
        raise not_unicode(name) from None
    starts = (np.cumsum(lengths) - lengths)[lengths > 0]
    if ((data[starts] & 0xC0) == 0x80).any():  # a character that two values share
        raise not_unicode(name)


def _nchars(column: VariableColumn, name: str) -> tuple[Bytes, Lengths, Mask | None]:
    """Texts in UTF-8, one behind the other; those that repeat are converted once."""
    starts, ends, nulls = column.spans()
    firsts = None
    if len(starts) > 1 and is_contiguous(starts, ends):
        firsts = find_runs(column.data, starts, ends)
    if firsts is None:
        data, lengths, _ = column.packed()
        return *_utf8_of_utf32(data, lengths, name), nulls
    counts = np.diff(firsts, append=len(starts))
    texts = [
        _encoded(column.data[start:end], name)
        for start, end in zip(starts[firsts].tolist(), ends[firsts].tolist(), strict=True)
    ]
    repeated = b"".join([text * n for text, n in zip(texts, counts.tolist(), strict=True)])
    lengths = np.repeat(np.array(list(map(len, texts)), np.int64), counts)
    return np.frombuffer(repeated, np.uint8), lengths, nulls


def _encoded(text: Bytes, name: str) -> bytes:
    """UTF-32 as UTF-8.

    Raises:
        DataError: It holds half of a surrogate pair, something beyond the last code point, or a
            part of a character.
    """
    try:
        return codecs.utf_32_le_decode(text.data, "strict", True)[0].encode()
    except UnicodeDecodeError:
        raise not_unicode(name) from None


def _utf8_of_utf32(data: Bytes, lengths: Lengths, name: str) -> tuple[Bytes, Lengths]:
    if (lengths & 3).any():
        raise ProtocolError("inconsistent block: an NCHAR value is not a multiple of 4 bytes long")
    points = np.frombuffer(data.data, "<u4")
    characters = lengths >> 2
    highest = points.max(initial=0)
    if highest < 0x80:
        return points.astype(np.uint8), characters
    text = _encoded(data, name)
    more = (points >= 0x80).view(np.uint8)  # bytes of each character behind its first
    if highest >= 0x800:
        more += points >= 0x800
        more += points >= 0x10000
    before = np.zeros(len(more) + 1, np.int32)
    np.cumsum(more, dtype=np.int32, out=before[1:])
    added = np.diff(before[np.cumsum(characters)], prepend=0)
    return np.frombuffer(text, np.uint8), characters + added


def not_unicode(name: str) -> DataError:
    """The error for a text that Arrow and polars cannot hold."""
    return DataError(
        f"column {name!r} has a text that is not Unicode, as Arrow, pandas and polars want it; "
        "read it as rows, or, if it is VARCHAR, as bytes with cast(… as varbinary)"
    )


def _with_null_documents(data: Bytes, lengths: Lengths, nulls: Mask | None) -> Mask | None:
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

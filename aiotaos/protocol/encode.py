"""Columns to raw blocks: the counterpart of :mod:`aiotaos.protocol.block`."""

from __future__ import annotations

import decimal
import struct
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from ..types import DECIMALS, Field, TypeCode
from .block import DTYPES, HEADER, PREFIXES, SCHEMA

ColumnValues: TypeAlias = Sequence[object] | npt.NDArray[Any]

_FLAG_SCHEMA_PRESENT = 0x80000000
_JSON_BYTES = 16384
_EXACT = decimal.Context(
    prec=80,
    Emin=-999_999,
    Emax=999_999,
    traps=[decimal.InvalidOperation, decimal.Inexact],
)
_INTEGERS = (int, np.integer, np.bool_)
_NUMBERS: dict[str, tuple[type, ...]] = {
    "u": _INTEGERS,
    "i": _INTEGERS,
    "f": (*_INTEGERS, float, np.floating, decimal.Decimal),
}
"""What a column of each kind of dtype takes; numpy alone would cut 1.5 and read "12"."""
_ARRAYS = {"u": "bui", "i": "bui", "f": "buif"}


def encode_block(
    fields: Sequence[Field], columns: Sequence[ColumnValues], *, version: int = 1
) -> bytes:
    """Make a raw block of columns.

    Args:
        fields: The columns: type, declared length, and precision and scale of DECIMALs.
        columns: For each field its values, all of one length: None for NULL, ``bool``, ``int``,
            ``float``, ``int`` ticks for TIMESTAMP, ``str`` for VARCHAR, NCHAR and JSON, ``bytes``
            for VARBINARY, GEOMETRY and BLOB, ``Decimal``; or a numpy array of such values,
            masked where NULL.
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
        head, data = _variable(field, values) if field.type in PREFIXES else _fixed(field, values)
        schema += SCHEMA.pack(field.type, _schema_bytes(field))
        lengths.append(len(data))
        bodies += (head, data)
    total = HEADER.size + 9 * len(fields) + sum(map(len, bodies)) + 1
    header = HEADER.pack(version, total, rows, len(fields), _FLAG_SCHEMA_PRESENT, 0)
    return b"".join((header, schema, struct.pack(f"<{len(lengths)}i", *lengths), *bodies, b"\0"))


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


def _fixed(field: Field, values: ColumnValues) -> tuple[bytes, bytes]:
    dtype = DTYPES[field.type]
    if isinstance(values, np.ndarray):
        if field.type not in DECIMALS and values.dtype.kind in _ARRAYS.get(dtype.kind, ""):
            return _cast(field, values, dtype)
        return _listed(field, values.tolist(), dtype)
    return _listed(field, values, dtype)


def _listed(field: Field, values: Sequence[object], dtype: np.dtype[Any]) -> tuple[bytes, bytes]:
    mask = np.fromiter((value is None for value in values), np.bool_, len(values))
    bitmap = np.packbits(mask).tobytes()
    if field.type is TypeCode.NULL:
        if not mask.all():
            row = int(np.argmin(mask))
            raise _error(field, row, values[row])
        return bitmap, b""
    if field.type in DECIMALS:
        return bitmap, _unscaled(field, values)
    allowed = _NUMBERS[dtype.kind]

    def convert(values: Sequence[object]) -> npt.NDArray[Any]:
        if not all(issubclass(kind, allowed) for kind in set(map(type, values))):
            raise TypeError
        with np.errstate(over="raise"):
            return np.array(values, dtype)

    try:
        array = convert([0 if value is None else value for value in values])
    except (ArithmeticError, TypeError, ValueError):
        raise _culprit(field, values, lambda value: convert([value])) from None
    return bitmap, array.tobytes()


def _cast(field: Field, values: npt.NDArray[Any], dtype: np.dtype[Any]) -> tuple[bytes, bytes]:
    if values.ndim != 1:
        raise DataError(f"column {field.name!r} is an array of {values.ndim} dimensions")
    mask = np.ma.getmaskarray(values)
    data = np.ma.getdata(values)
    if data.dtype.kind == "b":
        data = data.view(np.uint8)
    with np.errstate(over="ignore"):
        array = data.astype(dtype, copy=False)
    if dtype.kind == "f":
        wrong = np.isinf(array) & np.isfinite(data)
    else:
        bounds = np.iinfo(dtype)
        wrong = (data < bounds.min) | (data > bounds.max)
    wrong &= ~mask
    if wrong.any():
        row = int(np.argmax(wrong))
        raise _error(field, row, data[row].item())
    return np.packbits(mask).tobytes(), array.tobytes()


def _unscaled(field: Field, values: Sequence[object]) -> bytes:
    size = DTYPES[field.type].itemsize
    limit = 10 ** (field.precision or 38)

    def encode(value: object) -> bytes:
        if value is None:
            return bytes(size)
        if not isinstance(value, (decimal.Decimal, int)):
            raise TypeError
        scaled = _EXACT.scaleb(decimal.Decimal(value), field.scale)
        if not scaled.is_finite() or scaled != scaled.to_integral_value():
            raise ValueError
        if not -limit < scaled < limit:
            raise OverflowError
        return int(scaled).to_bytes(size, "little", signed=True)

    try:
        return b"".join(map(encode, values))
    except (ArithmeticError, TypeError, ValueError):
        raise _culprit(field, values, encode) from None


def _variable(field: Field, values: ColumnValues) -> tuple[bytes, bytes]:
    prefix = struct.Struct("<I" if PREFIXES[field.type].itemsize == 4 else "<H")
    encoding = "utf-32-le" if field.type is TypeCode.NCHAR else "utf-8"
    errors = "surrogatepass" if field.type is TypeCode.NCHAR else "surrogateescape"

    def encode(value: object) -> bytes:
        if isinstance(value, str):
            raw = value.encode(encoding, errors)
        elif isinstance(value, (bytes, bytearray, memoryview)) and encoding == "utf-8":
            raw = bytes(value)
        else:
            raise TypeError
        return prefix.pack(len(raw)) + raw

    if isinstance(values, np.ndarray):
        values = values.tolist()
    offsets = np.full(len(values), -1, "<i4")
    pieces: list[bytes] = []
    position = 0
    for row, value in enumerate(values):
        if value is None:
            continue
        try:
            piece = encode(value)
        except (TypeError, ValueError, struct.error):
            raise _error(field, row, value) from None
        offsets[row] = position
        position += len(piece)
        pieces.append(piece)
    return offsets.tobytes(), b"".join(pieces)


def _culprit(field: Field, values: Sequence[object], encode: Any) -> DataError:
    """Find the first value that cannot be encoded."""
    for row, value in enumerate(values):
        if value is None:
            continue
        try:
            encode(value)
        except (ArithmeticError, TypeError, ValueError):
            return _error(field, row, value)
    return DataError(f"column {field.name!r} cannot be encoded as {field.type_name}")


def _error(field: Field, row: int, value: object) -> DataError:
    try:
        shown = repr(value)
    except ValueError:  # an int of thousands of digits
        shown = f"<{type(value).__name__}>"
    shown = shown if len(shown) <= 60 else shown[:59] + "…"
    return DataError(
        f"column {field.name!r}, row {row}: {shown} is not a value of {field.type_name}"
    )

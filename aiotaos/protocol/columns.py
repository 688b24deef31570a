"""Values to typed columns, checked: the first half of all encoding.

A column is made once from whatever holds its values and is then only cut and reordered with array
operations, so that writing costs no Python call per value where the source is an array.
"""

from __future__ import annotations

import array
import decimal
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import repeat
from operator import attrgetter, is_
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from ..errors import DataError
from ..types import DECIMALS, Precision, TypeCode
from .block import DTYPES, PREFIXES, Mask, gather
from .times import ticks_of_datetime64, ticks_of_datetimes, ticks_of_one
from .values import INTEGERS, TEXTS, Described, Refused, bad_value

Values: TypeAlias = Sequence[object] | npt.NDArray[Any]
Bytes: TypeAlias = npt.NDArray[np.uint8]
Lengths: TypeAlias = npt.NDArray[np.int32]
Order: TypeAlias = npt.NDArray[np.intp]


class Fixed:
    """Values of fixed width.

    Attributes:
        values: Array of shape (rows,) of the type's dtype; 0 where NULL.
        nulls: Which rows are NULL, shape (rows,); None when no row is.
    """

    __slots__ = ("nulls", "values")

    def __init__(self, values: npt.NDArray[Any], nulls: Mask | None) -> None:
        self.values = values
        self.nulls = nulls

    def __len__(self) -> int:
        return len(self.values)

    def take(self, order: Order) -> Fixed:
        """The rows in another order."""
        nulls = None if self.nulls is None else self.nulls[order]
        return Fixed(self.values[order], nulls)

    def cut(self, rows: slice) -> Fixed:
        """Some adjacent rows."""
        return Fixed(self.values[rows], None if self.nulls is None else self.nulls[rows])


class Variable:
    """Values of varying length.

    Attributes:
        lengths: Bytes of each value, array i4 of shape (rows,); 0 where NULL.
        data: The values one after the other, array u1.
        nulls: Which rows are NULL, shape (rows,); None when no row is.
    """

    __slots__ = ("data", "lengths", "nulls")

    def __init__(self, lengths: Lengths, data: Bytes, nulls: Mask | None) -> None:
        self.lengths = lengths
        self.data = data
        self.nulls = nulls

    def __len__(self) -> int:
        return len(self.lengths)

    def take(self, order: Order) -> Variable:
        """The rows in another order."""
        lengths = self.lengths[order]
        starts = np.cumsum(self.lengths, dtype=np.int64) - self.lengths
        nulls = None if self.nulls is None else self.nulls[order]
        return Variable(lengths, gather(self.data, starts[order], lengths), nulls)

    def cut(self, rows: slice) -> Variable:
        """Some adjacent rows."""
        first = int(self.lengths[: rows.start].sum(dtype=np.int64))
        lengths = self.lengths[rows]
        data = self.data[first : first + int(lengths.sum(dtype=np.int64))]
        return Variable(lengths, data, None if self.nulls is None else self.nulls[rows])


Column: TypeAlias = Fixed | Variable


def concatenate(columns: Sequence[Column]) -> Column:
    """One column of several of the same kind."""
    first = columns[0]
    if len(columns) == 1:
        return first
    nulls = None
    if any(column.nulls is not None for column in columns):
        nulls = np.concatenate(
            [
                np.zeros(len(column), np.bool_) if column.nulls is None else column.nulls
                for column in columns
            ]
        )
    if isinstance(first, Fixed):
        fixed = [column.values for column in columns if isinstance(column, Fixed)]
        return Fixed(np.concatenate(fixed), nulls)
    variable = [column for column in columns if isinstance(column, Variable)]
    lengths = np.concatenate([column.lengths for column in variable])
    return Variable(lengths, np.concatenate([column.data for column in variable]), nulls)


def make_column(field: Described, values: Values) -> Column:
    """Make a column of its values.

    Args:
        field: What the column holds.
        values: None for NULL; ``bool``; ``int``; ``float``; for TIMESTAMP an aware ``datetime`` or
            ``datetime64``, cut to the column's precision, or ``int`` ticks in it; ``str`` for
            VARCHAR, NCHAR and JSON, for JSON also what it can hold; ``bytes`` for VARBINARY,
            GEOMETRY, BLOB and VARCHAR; ``Decimal``, ``int`` or ``str`` for DECIMAL. Or a numpy
            array of these, masked where NULL.

    Raises:
        DataError: A value does not fit; the message names column, row and value.
    """
    if isinstance(values, np.ndarray):
        if values.ndim != 1:
            raise DataError(f"column {field.name!r} is an array of {values.ndim} dimensions")
        column = _from_array(field, values)
        if column is not None:
            return column
        values = list(values) if values.dtype.kind in "mM" else values.tolist()
    return _from_list(field, values)


def check_lengths(field: Described, column: Column) -> None:
    """Check that no value is longer than a declared length, and that NCHAR is text.

    Raises:
        DataError: One is; the message names column, row, value and both lengths.
    """
    if not isinstance(column, Variable) or not len(column) or field.type in DECIMALS:
        return
    if field.type is TypeCode.NCHAR:
        _check_text(field, column)
    limit = field.length
    lengths = column.lengths
    if int(lengths.max()) <= limit:
        return
    unit = "bytes"
    if field.type is TypeCode.NCHAR:
        unit = "characters"
        lengths = characters(column)
        if int(lengths.max()) <= limit:
            return
    row = int(np.argmax(lengths > limit))
    value = bytes(column.cut(slice(row, row + 1)).data)
    shown = value.decode("utf-8", "replace") if field.type in TEXTS else value
    problem = f"has {lengths[row]} {unit}, more than {field.type_name} takes"
    raise bad_value(field, row, shown, problem)


def _check_text(field: Described, column: Variable) -> None:
    try:
        column.data.tobytes().decode()
    except UnicodeDecodeError as error:
        row = int(np.searchsorted(np.cumsum(column.lengths), error.start, side="right"))
        value = bytes(column.cut(slice(row, row + 1)).data).decode("utf-8", "surrogatepass")
        raise bad_value(field, row, value, "cannot be sent as UTF-8") from None


def characters(column: Variable) -> Lengths:
    """Characters of each value: bytes that do not continue one."""
    begins = np.zeros(len(column.data) + 1, np.int64)
    np.cumsum((column.data & 0xC0) != 0x80, out=begins[1:])
    ends = np.cumsum(column.lengths, dtype=np.int64)
    counts: Lengths = (begins[ends] - begins[ends - column.lengths]).astype(np.int32)
    return counts


# Lists.


def _from_list(
    field: Described, values: Sequence[object], convert: _Converter | None = None
) -> Column:
    fast = _FAST.get(field.type)
    if fast is not None and convert is None:
        try:
            return fast(field, values)
        except (Refused, ArithmeticError, TypeError, ValueError):
            pass  # there are NULLs, other types, or what cannot be taken
    kinds = set(map(type, values))
    present: Sequence[Any] = values
    nulls = None
    if type(None) in kinds:
        kinds.discard(type(None))
        nulls = np.fromiter(map(is_, values, repeat(None)), np.bool_, len(values))
        present = [value for value in values if value is not None]
    convert = convert or _CONVERTERS[field.type]
    try:
        column = convert(field, present, kinds)
    except (Refused, ArithmeticError, TypeError, ValueError) as error:
        raise _culprit(field, values, convert, error) from None
    return column if nulls is None else _spread(column, nulls)


def _spread(column: Column, nulls: Mask) -> Column:
    """Put the values that are there between the NULLs."""
    if isinstance(column, Fixed):
        values = np.zeros(len(nulls), column.values.dtype)
        values[~nulls] = column.values
        return Fixed(values, nulls)
    lengths = np.zeros(len(nulls), np.int32)
    lengths[~nulls] = column.lengths
    return Variable(lengths, column.data, nulls)


_Converter: TypeAlias = "Callable[[Described, Sequence[Any], set[type]], Column]"


def _culprit(
    field: Described, values: Sequence[object], convert: _Converter, error: Exception
) -> DataError:
    """Find the first value that the converter does not take."""
    for row, value in enumerate(values):
        if value is None:
            continue
        try:
            convert(field, [value], {type(value)})
        except (Refused, ArithmeticError, TypeError, ValueError) as refusal:
            problem = str(refusal) if isinstance(refusal, Refused) else ""
            return bad_value(field, row, value, problem or f"is not a value of {field.type_name}")
    return DataError(f"column {field.name!r} cannot be encoded as {field.type_name}: {error}")


def _require(kinds: Iterable[type], allowed: tuple[type, ...], expected: str) -> None:
    for kind in kinds:
        if not issubclass(kind, allowed) or issubclass(kind, np.timedelta64):
            raise Refused(f"is not a value of {expected}")


_NUMBERS = (*INTEGERS, float, np.floating, decimal.Decimal)
_ARRAY_CODES = {"i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I"}


def _no_values(field: Described, values: Sequence[Any], kinds: set[type]) -> Column:
    if values:
        raise Refused("is not a value of NULL")
    return Fixed(np.empty(0, DTYPES[TypeCode.NULL]), None)


def _booleans(field: Described, values: Sequence[Any], kinds: set[type]) -> Column:
    _require(kinds, INTEGERS, "BOOL")
    values = _plain_integers(values, kinds)
    found = np.frombuffer(bytes(values), np.uint8)
    if found.size and found.max() > 1:
        raise Refused("is not a value of BOOL: expected True or False")
    return Fixed(found, None)


def _plain_integers(values: Sequence[Any], kinds: set[type]) -> Sequence[Any]:
    """numpy's bools are no integers to Python."""
    return list(map(int, values)) if np.bool_ in kinds else values


def _integers(field: Described, values: Sequence[Any], kinds: set[type]) -> Column:
    _require(kinds, INTEGERS, field.type_name)
    values = _plain_integers(values, kinds)
    return Fixed(_integer_array(values, DTYPES[field.type]), None)


def _integer_array(values: Sequence[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    code = _ARRAY_CODES.get(dtype.str[1:], "Q")
    native = np.frombuffer(array.array(code, values), np.dtype(dtype.str[1:]))
    return native.astype(dtype, copy=False)


def _floats(field: Described, values: Sequence[Any], kinds: set[type]) -> Column:
    _require(kinds, _NUMBERS, field.type_name)
    wide = np.frombuffer(array.array("d", values), np.float64)
    if decimal.Decimal in kinds and any(map(_overflows, values, np.isinf(wide).tolist())):
        raise OverflowError
    return Fixed(_narrowed(wide, DTYPES[field.type]), None)


def _overflows(value: object, is_infinite: bool) -> bool:
    return is_infinite and isinstance(value, decimal.Decimal) and value.is_finite()


def _narrowed(wide: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    with np.errstate(over="ignore"):
        values = wide.astype(dtype, copy=False)
    if dtype.itemsize < wide.dtype.itemsize and (np.isinf(values) & np.isfinite(wide)).any():
        raise OverflowError
    return values


def _texts(field: Described, values: Sequence[Any], kinds: set[type]) -> Column:
    if kinds == {str}:
        # What was not UTF-8 is read with surrogateescape; NCHAR is kept decoded.
        errors = "surrogatepass" if field.type is TypeCode.NCHAR else "surrogateescape"
        return joined_bytes([value.encode("utf-8", errors) for value in values])
    allowed: tuple[type, ...] = (str, bytes, bytearray, memoryview)
    if field.type is TypeCode.NCHAR:
        allowed = (str,)
    _require(kinds, allowed, f"{field.type_name}: expected {allowed[0].__name__}")
    return joined_bytes(
        [
            value.encode("utf-8", "surrogateescape") if isinstance(value, str) else bytes(value)
            for value in values
        ]
    )


def _binaries(field: Described, values: Sequence[Any], kinds: set[type]) -> Column:
    _require(kinds, (bytes, bytearray, memoryview), f"{field.type_name}: expected bytes")
    return joined_bytes(list(map(bytes, values)))


def _documents(field: Described, values: Sequence[Any], kinds: set[type]) -> Column:
    _require(kinds, (str, dict), "JSON: expected its text or a dict")
    return joined_bytes(
        [
            value.encode("utf-8", "surrogateescape") if isinstance(value, str) else _json(value)
            for value in values
        ]
    )


def _json(value: object) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise Refused(f"is not JSON: {error}") from None


def joined_bytes(values: Sequence[bytes]) -> Variable:
    """A column of byte strings."""
    lengths = np.fromiter(map(len, values), np.int32, len(values))
    return Variable(lengths, _bytes(b"".join(values)), None)


def _bytes(data: bytes) -> Bytes:
    return np.frombuffer(data, np.uint8)


_MAX_DIGITS = 76
_EXACT = decimal.Context(
    prec=80,
    Emin=-999_999,
    Emax=999_999,
    traps=[decimal.InvalidOperation, decimal.Inexact],
)


def _scaled(field: Described, value: object) -> decimal.Decimal:
    """A DECIMAL's value as the integer that stands for it.

    Raises:
        Refused: It is no number, not finite, or has more digits than the column.
    """
    if isinstance(value, bool) or not isinstance(value, (decimal.Decimal, int, str)):
        raise Refused(f"is not a value of {field.type_name}: expected Decimal, int or str")
    try:
        scaled = _EXACT.scaleb(decimal.Decimal(value), field.scale)
        whole = scaled.is_finite() and scaled == scaled.to_integral_value()
    except decimal.DecimalException:
        whole = False
    limit = 10 ** (field.precision or 38)
    if not whole or not -limit < scaled < limit:
        raise Refused(f"is not a value of {field.type_name}")
    return scaled


def _decimals(field: Described, values: Sequence[Any], kinds: set[type]) -> Column:
    size = DTYPES[field.type].itemsize
    raw = b"".join(
        int(_scaled(field, value)).to_bytes(size, "little", signed=True) for value in values
    )
    return Fixed(np.frombuffer(raw, DTYPES[field.type]), None)


def decimal_texts(field: Described, values: Sequence[object]) -> Column:
    """A DECIMAL column as text, which is how it is bound.

    Args:
        field: What the column holds. The server does not always tell its digits: a precision of 0
            checks none.
        values: ``Decimal``, ``int``, or a number as ``str``; None for NULL.

    Raises:
        DataError: A value does not fit; the message names column, row and value.
    """
    return _from_list(field, values, _decimal_texts)


def _decimal_texts(field: Described, values: Sequence[Any], kinds: set[type]) -> Column:
    texts = []
    for value in values:
        if field.precision:
            _scaled(field, value)
        elif isinstance(value, bool) or not isinstance(value, (decimal.Decimal, int, str)):
            raise Refused("is not a value of DECIMAL: expected Decimal, int or str")
        try:
            number = decimal.Decimal(value)
        except decimal.DecimalException:
            raise Refused("is not a value of DECIMAL") from None
        if not number.is_finite() or abs(number.adjusted()) > _MAX_DIGITS:
            raise Refused("is not a value of DECIMAL")
        texts.append(f"{number:f}".encode())
    return joined_bytes(texts)


def _timestamps(field: Described, values: Sequence[Any], kinds: set[type]) -> Column:
    if all(issubclass(kind, INTEGERS) and kind is not bool for kind in kinds):
        return Fixed(_integer_array(values, DTYPES[TypeCode.TIMESTAMP]), None)
    precision = Precision(field.precision)
    if kinds == {datetime}:
        if None in set(map(attrgetter("tzinfo"), values)):
            raise Refused("has no time zone: expected an aware datetime")
        return Fixed(ticks_of_datetimes(values, precision), None)
    return Fixed(
        _integer_array(
            [ticks_of_one(value, precision) for value in values], DTYPES[TypeCode.TIMESTAMP]
        ),
        None,
    )


_CONVERTERS: dict[TypeCode, _Converter] = {
    TypeCode.NULL: _no_values,
    TypeCode.BOOL: _booleans,
    TypeCode.FLOAT: _floats,
    TypeCode.DOUBLE: _floats,
    TypeCode.TIMESTAMP: _timestamps,
    TypeCode.VARCHAR: _texts,
    TypeCode.NCHAR: _texts,
    TypeCode.JSON: _documents,
    TypeCode.VARBINARY: _binaries,
    TypeCode.GEOMETRY: _binaries,
    TypeCode.BLOB: _binaries,
    TypeCode.MEDIUMBLOB: _binaries,
    TypeCode.DECIMAL: _decimals,
    TypeCode.DECIMAL64: _decimals,
}
_CONVERTERS |= dict.fromkeys(set(TypeCode) - set(_CONVERTERS), _integers)


# Lists without NULLs of the one type that is expected; the constructors refuse others.


def _fast_integers(field: Described, values: Sequence[Any]) -> Column:
    return Fixed(_integer_array(values, DTYPES[field.type]), None)


def _fast_ticks(field: Described, values: Sequence[Any]) -> Column:
    ticks = _integer_array(values, DTYPES[TypeCode.TIMESTAMP])
    if len(ticks) and ticks.min() <= 1:
        raise TypeError  # 0 and 1 may be bools, which are no times
    return Fixed(ticks, None)


def _fast_floats(field: Described, values: Sequence[Any]) -> Column:
    if values and type(values[0]) is not float:
        raise TypeError
    wide = np.frombuffer(array.array("d", values), np.float64)
    if not np.isfinite(wide).all():
        raise ValueError  # what else may have become infinite, or no number
    return Fixed(_narrowed(wide, DTYPES[field.type]), None)


def _fast_texts(field: Described, values: Sequence[Any]) -> Column:
    """Texts encoded together: between them stand NULs, which tell where each ends."""
    joined = _bytes("\0".join(values).encode())
    ends = np.flatnonzero(joined == 0)
    if len(ends) != len(values) - 1:
        raise ValueError  # none, or one with a NUL of its own
    lengths = np.diff(ends, prepend=-1, append=len(joined)) - 1
    return Variable(lengths.astype(np.int32), joined[joined != 0], None)


_FAST: dict[TypeCode, Callable[[Described, Sequence[Any]], Column]] = {
    TypeCode.FLOAT: _fast_floats,
    TypeCode.DOUBLE: _fast_floats,
    TypeCode.VARCHAR: _fast_texts,
    TypeCode.NCHAR: _fast_texts,
    TypeCode.TIMESTAMP: _fast_ticks,
} | {kind: _fast_integers for kind, convert in _CONVERTERS.items() if convert is _integers}


# Arrays.


def _from_array(field: Described, values: npt.NDArray[Any]) -> Column | None:
    """A column of an array of the right kind; None where its items must be looked at."""
    nulls: Mask | None = None
    if isinstance(values, np.ma.MaskedArray):
        nulls = np.ma.getmaskarray(values)
        nulls = nulls if nulls.any() else None
    data = np.ma.getdata(values)
    kind = data.dtype.kind
    if field.type in PREFIXES:
        return _from_strings(field, data) if kind in "US" and nulls is None else None
    if field.type is TypeCode.TIMESTAMP and kind == "M":
        return _from_datetime64(field, data, nulls)
    if field.type in DECIMALS or field.type is TypeCode.NULL:
        return None
    dtype = DTYPES[field.type]
    if kind not in ("buif" if dtype.kind == "f" else "ui" if _is_time(field) else "bui"):
        return None
    if kind == "b":
        data = data.view(np.uint8)
    if nulls is not None:
        data = np.where(nulls, data.dtype.type(0), data)
    return Fixed(_cast(field, data, dtype), nulls)


def _is_time(field: Described) -> bool:
    return field.type is TypeCode.TIMESTAMP


def _cast(field: Described, data: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            values = data.astype(dtype, copy=False)
        wrong = np.isinf(values) & np.isfinite(data) if values is not data else None
    else:
        bounds = np.iinfo(dtype)
        low, high = (0, 1) if field.type is TypeCode.BOOL else (bounds.min, bounds.max)
        values = data.astype(dtype, copy=False)
        present = np.iinfo(data.dtype)
        inside = low <= present.min and present.max <= high
        wrong = None if inside else (data < low) | (data > high)
    if wrong is not None and wrong.any():
        row = int(np.argmax(wrong))
        raise bad_value(field, row, data[row].item(), f"is not a value of {field.type_name}")
    return np.ascontiguousarray(values)


def _from_datetime64(field: Described, data: npt.NDArray[Any], nulls: Mask | None) -> Column:
    absent = np.isnat(data)
    if absent.any():
        nulls = absent if nulls is None else nulls | absent
    if nulls is not None:
        data = np.where(nulls, np.zeros(1, data.dtype), data)
    try:
        return Fixed(ticks_of_datetime64(data, Precision(field.precision)), nulls)
    except OverflowError:
        row = int(np.argmax(np.abs(data.astype("datetime64[s]").view(np.int64))))
        raise bad_value(field, row, data[row], f"is not a value of {field.type_name}") from None


def _from_strings(field: Described, data: npt.NDArray[Any]) -> Column | None:
    """A column of numpy's strings of equal width; None unless they can be taken as bytes."""
    width = data.dtype.itemsize
    if data.dtype.kind == "U":
        if field.type not in TEXTS:
            return None
        codes = np.ascontiguousarray(data).view(np.uint32).reshape(len(data), width // 4)
        if codes.size and codes.max() > 127:
            return None
        cells = codes.astype(np.uint8)
    elif field.type in TEXTS and field.type is not TypeCode.VARCHAR:
        return None
    else:
        cells = np.ascontiguousarray(data).view(np.uint8).reshape(len(data), width)
    filled = cells != 0
    if (filled[:, 1:] > filled[:, :-1]).any():  # a NUL inside a value; others are numpy's padding
        lengths = np.strings.str_len(data).astype(np.int32)
        inside = np.arange(cells.shape[1], dtype=np.int32) < lengths[:, None]
        return Variable(lengths, cells[inside], None)
    lengths = np.zeros(len(data), np.int32)
    for place in range(cells.shape[1]):
        lengths += filled[:, place]
    return Variable(lengths, cells.reshape(-1)[filled.reshape(-1)], None)

"""Bound values: what a column takes of them, and how a query reads them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC

import numpy as np

from ..protocol.bound import BoundColumn
from ..types import DECIMALS, Precision, TypeCode
from . import times
from .columns import FLOATS, INTEGERS, SIZED, TEXTS, Column
from .faults import Fault, too_long, unsupported
from .literals import INTEGER_RANGES, BadValueError, decimal_text, json_text
from .parser import Words

_MAX_ROWS = 32767
_BLOB_TYPES = frozenset({TypeCode.BLOB, TypeCode.MEDIUMBLOB})


def check_rows(columns: Sequence[BoundColumn], *, limit: int = _MAX_ROWS) -> int:
    """The number of rows, which is the same in all columns.

    Raises:
        Fault: It is not, or it is 0 or too large.
    """
    rows = len(columns[0].values)
    if not 1 <= rows <= limit:
        raise Fault(0x0236, "bind number out of range or not match")
    if any(len(column.values) != rows for column in columns):
        raise Fault(0x0200, "row number in each bind param should be the same")
    return rows


def column_values(column: Column, bound: BoundColumn) -> list[object]:
    """What a column or a tag stores of the values bound to it.

    Raises:
        Fault: They are of another type, or too long.
        UnicodeError: A text is not UTF-8.
    """
    if bound.type is not column.type.code and bound.values != [None]:
        raise Fault(0x0200, "column type mis-match with buffer type")
    return _checked(column, bound.values)


def _checked(column: Column, values: list[object]) -> list[object]:
    code, limit = column.type.code, column.type.length
    if code in SIZED or code in _BLOB_TYPES:
        if max(map(_size if code is TypeCode.VARCHAR else _count, values)) > limit:
            raise too_long(column.name)
        if code is TypeCode.NCHAR:
            "".join(value for value in values if isinstance(value, str)).encode()
    elif code is TypeCode.JSON:
        return [_json(value) for value in values]
    elif code in DECIMALS:
        return [None if value is None else decimal_text(str(value), column) for value in values]
    return values


def _size(value: object) -> int:
    return len(value.encode()) if isinstance(value, str) else 0


def _count(value: object) -> int:
    return len(value) if isinstance(value, str | bytes) else 0


def _json(value: object) -> str | None:
    if value is None:
        return None
    try:
        return json_text(str(value))
    except BadValueError as error:
        raise Fault(0x0200, error.why) from None


def json_values(column: Column, values: Sequence[object], precision: Precision) -> BoundColumn:
    """Values as JSON writes them for stmt v1.

    Raises:
        Fault: One does not suit the column.
    """
    code = column.type.code
    return BoundColumn(code, [_json_value(code, value, precision) for value in values])


def _json_value(code: TypeCode, value: object, precision: Precision) -> object:
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if code is TypeCode.BOOL and isinstance(value, bool):
        return value
    if code in INTEGERS and isinstance(value, int) and is_number:
        low, high = INTEGER_RANGES[code]
        if low <= value <= high:
            return value
    if code in FLOATS and isinstance(value, int | float) and is_number:
        return float(value)
    if code in TEXTS | {TypeCode.JSON} and isinstance(value, str):
        return value
    if code in (TypeCode.VARBINARY, TypeCode.GEOMETRY) and isinstance(value, str):
        try:
            return bytes.fromhex(value)
        except ValueError:
            raise _unsuitable(code, value) from None
    if code is TypeCode.TIMESTAMP:
        ticks = times.parse_time(value, UTC, precision) if isinstance(value, str) else value
        if isinstance(ticks, int) and not isinstance(ticks, bool) and -(2**63) <= ticks < 2**63:
            return ticks
    raise _unsuitable(code, value)


def _unsuitable(code: TypeCode, value: object) -> Fault:
    return Fault(0xFFFF, f"invalid value for {code.sql_name}: {value!r:.100}")


def words_of(bound: BoundColumn) -> Words:
    """The words that a query reads in the place of ``?``.

    Raises:
        Fault: No literal stands for such a value.
    """
    (value,) = bound.values
    if value is None:
        return (("word", "null"),)
    if bound.type is TypeCode.BOOL:
        return (("word", "true" if value else "false"),)
    if bound.type in INTEGERS:
        return _number(str(value))
    if bound.type is TypeCode.TIMESTAMP:
        return (
            ("word", "cast"),
            ("sign", "("),
            *_number(str(value)),
            ("word", "as"),
            ("word", "timestamp"),
            ("sign", ")"),
        )
    if bound.type in FLOATS:
        if not math.isfinite(value):
            raise unsupported(f"{value} in a query")
        return _number(str(np.float32(value)) if bound.type is TypeCode.FLOAT else repr(value))
    if bound.type in DECIMALS:
        return _number(str(value))
    if bound.type in TEXTS | {TypeCode.JSON}:
        return (("string", value),)
    if bound.type is TypeCode.VARBINARY:
        return (("string", f"\\x{value.hex()}"),)
    raise unsupported(f"{bound.type.sql_name} as parameter of a query")


def _number(text: str) -> Words:
    if text.startswith("-"):
        return (("sign", "-"), ("number", text[1:]))
    return (("number", text),)

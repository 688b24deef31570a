"""Columns as JSON: the text of each cell, written as taosAdapter writes it."""

from __future__ import annotations

import decimal
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import msgspec
import numpy as np

from ..types import DECIMALS, Field, Precision, TypeCode
from .columns import TEXTS
from .timetext import TimeFormat

Values: TypeAlias = Sequence[Any]
Cells: TypeAlias = list[bytes]
CellWriter: TypeAlias = Callable[[Values], Cells]

_BINARY = frozenset({TypeCode.VARBINARY, TypeCode.GEOMETRY, TypeCode.BLOB})
_NULL = b"null"
_SMALLEST_PLAIN = decimal.Decimal("1e-6")
_EXPONENT_FROM = decimal.Decimal("1e21")
_ESCAPE = re.compile(rb"\\(.)")
_LONG_ESCAPES = {b"b": rb"\u0008", b"f": rb"\u000c"}
_encode = msgspec.json.encode


def cell_writer(field: Field, precision: Precision, time_format: TimeFormat) -> CellWriter:
    """What writes the columns of a field."""
    code = field.type
    if code is TypeCode.TIMESTAMP:
        return partial(_nullable, partial(_times, time_format, precision))
    if code is TypeCode.FLOAT:
        return partial(_nullable, _floats)
    if code is TypeCode.DOUBLE:
        return partial(_nullable, _doubles)
    if code in TEXTS:
        return _texts
    if code in _BINARY:
        return partial(_nullable, _binaries)
    if code in DECIMALS:
        return partial(_nullable, _decimals)
    if code is TypeCode.JSON:
        return partial(_nullable, _documents)
    return _plain


def _nullable(write: CellWriter, values: Values) -> Cells:
    """A column where ``write`` is not told of NULLs."""
    present = [value for value in values if value is not None]
    if not present:
        return [_NULL] * len(values)
    cells = write(present)
    if len(present) == len(values):
        return cells
    rest = iter(cells)
    return [_NULL if value is None else next(rest) for value in values]


def _plain(values: Values) -> Cells:
    """Integers and booleans: no comma is in them."""
    return _encode(values)[1:-1].split(b",")


def _times(time_format: TimeFormat, precision: Precision, values: Values) -> Cells:
    return _split(time_format(np.array(values, np.int64), precision))


def _floats(values: Values) -> Cells:
    """The shortest text of 32 bits."""
    return _split([_number(str(value)) for value in np.array(values, np.float32)])


def _doubles(values: Values) -> Cells:
    return _split([_number(repr(float(value))) for value in values])


def _split(texts: list[str]) -> Cells:
    """Encode texts that have no comma."""
    return ",".join(texts).encode().split(b",")


def _number(text: str) -> str:
    """A number as Go writes it: whole ones without a point, exponents far from 1 alone."""
    if text.endswith(".0"):
        return text[:-2]
    if "e" in text or "n" in text:
        return _unusual_number(text)
    return text


def _unusual_number(text: str) -> str:
    value = decimal.Decimal(text)
    if not value.is_finite():
        return "null"
    if _SMALLEST_PLAIN <= abs(value) < _EXPONENT_FROM:
        return format(value, "f")  # the shortest digits, then zeros
    return text


def _texts(values: Values) -> Cells:
    cells = list(map(_encode, values))
    together = b"".join(cells)
    if rb"\b" in together or rb"\f" in together:
        return [_ESCAPE.sub(_long_escape, cell) for cell in cells]
    return cells


def _long_escape(match: re.Match[bytes]) -> bytes:
    return _LONG_ESCAPES.get(match[1], match[0])


def _binaries(values: Values) -> Cells:
    return [f'"{value.hex()}"'.encode() for value in values]


def _decimals(values: Values) -> Cells:
    return [f'"{value:f}"'.encode() for value in values]


def _documents(values: Values) -> Cells:
    return [value.encode() for value in values]

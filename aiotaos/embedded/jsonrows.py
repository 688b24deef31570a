"""Rows as the JSON of REST answers."""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TypeAlias

import msgspec
import numpy as np

from ..types import DECIMALS, Field, Precision, TypeCode
from .columns import INT
from .engine import Rows, Update

Values: TypeAlias = Sequence[object]
Converter: TypeAlias = Callable[[Values], Values]

_DIGITS = {Precision.MILLISECOND: 3, Precision.MICROSECOND: 6, Precision.NANOSECOND: 9}
_BINARY = frozenset({TypeCode.VARBINARY, TypeCode.GEOMETRY, TypeCode.BLOB})
_EXPONENT_FROM = 1e21
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_encode = msgspec.json.encode


class RowWriter:
    """Writes a result: :meth:`head`, each :meth:`next_chunk`, :meth:`tail`."""

    def __init__(self, result: Rows | Update, zone: tzinfo, *, with_meta: bool) -> None:
        if isinstance(result, Update):
            self._result = Rows(
                [INT.field("affected_rows")], Precision.MILLISECOND, None, [(result.affected,)]
            )
        else:
            self._result = result
        fields = self._result.fields
        self._converters = [_converter(f, self._result.precision, zone) for f in fields]
        self._names = [_encode(field.name) + b":" for field in fields] if with_meta else None
        self._count = 0

    def head(self) -> bytes:
        meta = [[field.name, _type_name(field), field.length] for field in self._result.fields]
        return b'{"code":0,"column_meta":' + _encode(meta) + b',"data":['

    def next_chunk(self) -> bytes | None:
        """The rows of the next block; None at the end.

        Raises:
            Fault: Reading failed.
        """
        block = self._result.next_block()
        if block is None:
            return None
        columns = [convert(c) for convert, c in zip(self._converters, block, strict=True)]
        rows = list(zip(*columns, strict=True))
        text = _encode(rows)[1:-1] if self._names is None else self._objects(rows, self._names)
        comma = b"," if self._count else b""
        self._count += len(rows)
        return comma + text

    def _objects(self, rows: Sequence[Values], names: Sequence[bytes]) -> bytes:
        """Rows as objects, with equal keys where columns have equal names."""
        return b",".join(
            b"{" + b",".join(n + _encode(v) for n, v in zip(names, row, strict=True)) + b"}"
            for row in rows
        )

    def tail(self, timing: int | None) -> bytes:
        end = f',"timing":{timing}' if timing is not None else ""
        return f'],"rows":{self._count}{end}}}'.encode()


def _type_name(field: Field) -> str:
    if field.type in DECIMALS:
        return f"DECIMAL({field.precision},{field.scale})"
    return field.type.sql_name


def _converter(field: Field, precision: Precision, zone: tzinfo) -> Converter:
    code = field.type
    if code is TypeCode.TIMESTAMP:
        return _each(lambda v: rfc3339(v, precision, zone) if isinstance(v, int) else v)
    if code is TypeCode.FLOAT:
        return _each(lambda value: _number(float(str(np.float32(value)))))  # type: ignore[arg-type]
    if code is TypeCode.DOUBLE:
        return _each(lambda value: _number(value) if isinstance(value, float) else value)
    if code in _BINARY:
        return _each(lambda value: value.hex() if isinstance(value, bytes) else value)
    if code in DECIMALS:
        return _each(lambda v: format(v, "f") if isinstance(v, decimal.Decimal) else v)
    if code is TypeCode.JSON:
        return _each(lambda value: msgspec.Raw(str(value).encode()))
    return lambda values: values


def _each(convert: Callable[[object], object]) -> Converter:
    return lambda values: [None if value is None else convert(value) for value in values]


def _number(value: float) -> float | int | None:
    """A number as Go writes it: whole ones without a point, no NaN and no infinity."""
    if not math.isfinite(value):
        return None
    if not value.is_integer() or abs(value) >= _EXPONENT_FROM:
        return value
    return int(decimal.Decimal(repr(value)))  # the shortest digits, then zeros


def rfc3339(ticks: int, precision: Precision, zone: tzinfo) -> str:
    """A time with 3, 6 or 9 digits of the second's fraction."""
    digits = _DIGITS[precision]
    seconds, fraction = divmod(ticks, precision.ticks_per_second)
    try:
        moment = (_EPOCH + timedelta(seconds=seconds)).astimezone(zone)
    except OverflowError:
        return f"{np.datetime64(seconds, 's')}.{fraction:0{digits}}Z"
    wall = moment.replace(tzinfo=None).isoformat(timespec="seconds")
    offset = moment.utcoffset() or timedelta(0)
    if not offset:
        return f"{wall}.{fraction:0{digits}}Z"
    minutes = offset // timedelta(minutes=1)
    sign = "-" if minutes < 0 else "+"
    return f"{wall}.{fraction:0{digits}}{sign}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"

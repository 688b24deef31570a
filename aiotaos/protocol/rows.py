"""Blocks to rows: Python values made by column operations, tuples by one ``zip``."""

from __future__ import annotations

import decimal
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, timedelta, tzinfo
from itertools import pairwise, repeat
from operator import add
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import DataError, ProtocolError
from ..types import Field, Precision, TypeCode
from .block import Block, Column, FixedColumn, Mask, Row, VariableColumn
from .runs import find_runs, is_contiguous
from .zones import zone_for

TimestampAs: TypeAlias = Literal["datetime", "int", "datetime64"]
Values: TypeAlias = list[Any]
Places: TypeAlias = npt.NDArray[np.int64]
Converter: TypeAlias = Callable[[Column], Values]

# Wall clocks that a datetime can hold, from 0001-01-01 to 9999-12-31, in microseconds.
_FIRST_WALL = -62_135_596_800_000_000
_LAST_WALL = 253_402_300_799_999_999
_DAY = 86_400_000_000  # no zone is farther from UTC
_EXACT = decimal.Context(prec=80, Emin=-999_999, Emax=999_999)
_PREFIX = 2  # bytes before each value of a text column


class RowDecoder:
    """Makes rows of Python values out of the blocks of one result.

    Args:
        fields: The columns of the result.
        precision: Unit of its TIMESTAMPs.
        tz: Zone that aware datetimes are given in.
        timestamp: ``"datetime"``: aware datetimes for ms and us, ``int`` ticks for ns, which a
            datetime cannot hold; ``"int"``: ticks always; ``"datetime64"``: numpy scalars.
    """

    __slots__ = ("_converters", "_fields", "_precision", "_timestamp", "tz")

    def __init__(
        self,
        fields: Sequence[Field],
        precision: Precision,
        tz: tzinfo = UTC,
        timestamp: TimestampAs = "datetime",
    ) -> None:
        self._fields = fields
        self.tz = tz
        self._timestamp: TimestampAs = timestamp
        self._use(precision)

    def _use(self, precision: Precision) -> None:
        self._precision = precision
        self._converters: list[Converter] = [
            _converter(field, precision, self.tz, self._timestamp) for field in self._fields
        ]

    def columns(self, block: Block) -> list[Sequence[Any]]:
        """The values of each column.

        Raises:
            DataError: A TIMESTAMP is outside what a datetime holds.
            ProtocolError: The block is inconsistent.
        """
        if block.precision is not self._precision:  # REST tells it with the first TIMESTAMP
            self._use(block.precision)
        return [
            convert(part) if isinstance(part, Column) else part
            for convert, part in zip(self._converters, block.parts, strict=True)
        ]

    def rows(self, block: Block) -> list[Row]:
        """The rows as tuples; raises like :meth:`columns`."""
        return list(self.iterate(block))

    def iterate(self, block: Block) -> Iterator[Row]:
        """The rows as tuples, which are made as they are taken; raises at once, as :meth:`rows`."""
        return zip(*self.columns(block), strict=True)


def _converter(field: Field, precision: Precision, tz: tzinfo, timestamp: TimestampAs) -> Converter:
    type = field.type
    if type is TypeCode.TIMESTAMP:
        if timestamp == "datetime64":
            return _datetime64s(precision)
        if timestamp == "datetime" and precision is not Precision.NANOSECOND:
            return _datetimes(field.name, precision, tz)
    return _CONVERTERS[type]


def plain_values(column: Column) -> Values:
    """Values of a column as rows have them, TIMESTAMPs as ticks; raises like a decoder."""
    return _CONVERTERS[column.type](column)


def _listed(values: npt.NDArray[Any], nulls: Mask | None) -> Values:
    """An array as a list, with None where the mask says NULL."""
    if nulls is None:
        listed: Values = values.tolist()
        return listed
    present = np.flatnonzero(~nulls)
    objects = np.empty(len(values), dtype=object)
    objects[present] = values[present]
    return objects.tolist()


def spread(values: Values, nulls: Mask | None) -> Values:
    """Place values that exist only for the rows that are not NULL; the others become None."""
    if nulls is None:
        return values
    objects = np.full(len(nulls), None, dtype=object)
    if values:
        present = np.empty(len(values), dtype=object)
        present[:] = values
        objects[~nulls] = present
    return objects.tolist()


def _numbers(column: Column) -> Values:
    assert isinstance(column, FixedColumn)
    return _listed(column.values, column.nulls)


def _bools(column: Column) -> Values:
    assert isinstance(column, FixedColumn)
    return _listed(column.values != 0, column.nulls)


def _present(column: FixedColumn) -> tuple[npt.NDArray[Any], Mask | None]:
    """The values of the rows that are not NULL."""
    nulls = column.nulls
    return (column.values if nulls is None else column.values[~nulls]), nulls


def _nothing(column: Column) -> Values:
    return [None] * len(column)


def _datetime64s(precision: Precision) -> Converter:
    dtype = np.dtype(f"<M8[{precision.unit}]")

    def convert(column: Column) -> Values:
        assert isinstance(column, FixedColumn)
        values, nulls = _present(column)
        return spread(list(values.view(dtype)), nulls)

    return convert


def _datetimes(name: str, precision: Precision, tz: tzinfo) -> Converter:
    zone = zone_for(tz)
    per_second = precision.ticks_per_second
    to_microseconds = 1_000_000 // per_second
    first, last = _FIRST_WALL // to_microseconds, _LAST_WALL // to_microseconds
    day = _DAY // to_microseconds
    epoch = zone.epoch

    def check(ticks: npt.NDArray[np.int64]) -> None:
        wall, _ = zone.wall_clock(np.clip(ticks, first - day, last + day) * to_microseconds)
        outside = (wall < _FIRST_WALL) | (wall > _LAST_WALL)
        if outside.any():
            raise DataError(
                f"TIMESTAMP {int(ticks[outside][0])} {precision.unit} of column {name!r} is "
                "outside what a datetime holds; connect with timestamp='int' or "
                "timestamp='datetime64'"
            )

    def convert(column: Column) -> Values:
        assert isinstance(column, FixedColumn)
        ticks, nulls = _present(column)
        if not len(ticks):
            return [None] * len(column)
        if int(ticks.min()) < first + day or int(ticks.max()) > last - day:
            check(ticks)
        wall, folds = zone.wall_clock(ticks * to_microseconds)
        since: list[timedelta] = wall.view("m8[us]").tolist()
        values: Values = list(map(add, repeat(epoch), since))
        for index in folds.tolist():
            values[index] = values[index].replace(fold=1)
        return spread(values, nulls)

    return convert


def _decimals(column: Column) -> Values:
    assert isinstance(column, FixedColumn)
    values, nulls = _present(column)
    if column.type is TypeCode.DECIMAL:
        high = values["high"].astype(object)
        unscaled: Values = ((high << 64) + values["low"].astype(object)).tolist()
    else:
        unscaled = values.tolist()
    scaled = map(_EXACT.scaleb, map(decimal.Decimal, unscaled), repeat(-column.scale))
    return spread(list(scaled), nulls)


def _texts(column: Column) -> Values:
    """VARCHAR and JSON: one decoding for the whole column, then one split at the NULs between.

    TDengine does not validate VARCHAR; bytes that are not UTF-8 become lone surrogates, so that
    ``text.encode("utf-8", "surrogateescape")`` gives them back.
    """
    assert isinstance(column, VariableColumn)
    starts, ends, nulls = column.spans()
    if len(starts) > 1 and is_contiguous(starts, ends):
        firsts = find_runs(column.data, starts, ends)
        if firsts is not None:
            return spread(_repeated(column, starts, ends, firsts, _utf8), nulls)
        packed = column.data[starts[0] - _PREFIX : ends[-1]].copy()
        packed[starts - starts[0]] = 0
        packed[starts - starts[0] + 1] = 0
        if np.count_nonzero(packed) == len(packed) - _PREFIX * len(starts):
            return spread(_utf8(packed[_PREFIX:].tobytes()).split("\0\0"), nulls)
    return spread(_one_by_one(column, starts, ends, _utf8), nulls)


def _utf8(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _json(column: Column) -> Values:
    """JSON text as ``str``; a JSON ``null`` is None like an SQL NULL."""
    return [None if text == "null" else text for text in _texts(column)]


def _nchars(column: Column) -> Values:
    """NCHAR: UTF-32, decoded at once and cut by code points."""
    assert isinstance(column, VariableColumn)
    starts, ends, nulls = column.spans()
    if ((ends - starts) & 3).any():
        raise ProtocolError("inconsistent block: an NCHAR value is not a multiple of 4 bytes long")
    if len(starts) > 1 and is_contiguous(starts, ends):
        firsts = find_runs(column.data, starts, ends)
        if firsts is not None:
            return spread(_repeated(column, starts, ends, firsts, _utf32), nulls)
        data, lengths, _ = column.packed()
        text = _utf32(data.tobytes())
        stops = [0, *np.cumsum(lengths >> 2).tolist()]
        return spread([text[a:b] for a, b in pairwise(stops)], nulls)
    return spread(_one_by_one(column, starts, ends, _utf32), nulls)


def _utf32(raw: bytes) -> str:
    try:
        return raw.decode("utf-32-le", "surrogatepass")
    except UnicodeDecodeError:
        return "".join(
            chr(point) if point <= 0x10FFFF else "\ufffd"
            for point in np.frombuffer(raw, "<u4").tolist()
        )


def _binaries(column: Column) -> Values:
    assert isinstance(column, VariableColumn)
    starts, ends, nulls = column.spans()
    return spread(_one_by_one(column, starts, ends, bytes), nulls)


def _one_by_one(
    column: VariableColumn, starts: Places, ends: Places, decode: Callable[[bytes], Any]
) -> Values:
    raw = column.data.tobytes()
    return [decode(raw[a:b]) for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]


def _repeated(
    column: VariableColumn,
    starts: Places,
    ends: Places,
    firsts: Values,
    decode: Callable[[bytes], Any],
) -> Values:
    """Decode the first value of each run; the others are the same object."""
    repeated: Values = []
    counts = np.diff(firsts, append=len(starts)).tolist()
    for value, count in zip(
        _one_by_one(column, starts[firsts], ends[firsts], decode), counts, strict=True
    ):
        repeated += [value] * count
    return repeated


_CONVERTERS: dict[TypeCode, Converter] = dict.fromkeys(TypeCode, _numbers)
_CONVERTERS.update(
    {
        TypeCode.NULL: _nothing,
        TypeCode.BOOL: _bools,
        TypeCode.DECIMAL: _decimals,
        TypeCode.DECIMAL64: _decimals,
        TypeCode.VARCHAR: _texts,
        TypeCode.JSON: _json,
        TypeCode.NCHAR: _nchars,
        TypeCode.VARBINARY: _binaries,
        TypeCode.GEOMETRY: _binaries,
        TypeCode.BLOB: _binaries,
        TypeCode.MEDIUMBLOB: _binaries,
    }
)

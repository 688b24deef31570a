"""Instants to ticks: ``datetime``, ``datetime64`` and integers to TIMESTAMPs of a precision."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from ..types import Precision
from .values import INTEGERS, Refused

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FLOAT_IS_EXACT = 4e9  # seconds from 1970 up to which a float tells microseconds apart


def ticks_of_datetimes(values: Sequence[datetime], precision: Precision) -> npt.NDArray[np.int64]:
    seconds = np.fromiter(map(datetime.timestamp, values), np.float64, len(values))
    if np.abs(seconds).max(initial=0) < _FLOAT_IS_EXACT:
        microseconds = np.rint(seconds * 1e6).astype(np.int64)
    else:
        microseconds = np.array([(value - _EPOCH) // _MICROSECOND for value in values], np.int64)
    return _rescaled(microseconds, 1_000_000, precision)


def _rescaled(
    ticks: npt.NDArray[np.int64], per_second: int, precision: Precision
) -> npt.NDArray[np.int64]:
    """Ticks of another unit; finer ones are cut off.

    Raises:
        OverflowError: The time is beyond what 64 bits of nanoseconds hold.
    """
    wanted = precision.ticks_per_second
    if wanted <= per_second:
        return ticks // (per_second // wanted) if wanted < per_second else ticks
    factor = wanted // per_second
    if ticks.size and max(abs(int(ticks.min())), abs(int(ticks.max()))) > (2**63 - 1) // factor:
        raise OverflowError
    return ticks * factor


def ticks_of_one(value: object, precision: Precision) -> int:
    """The ticks of one instant of any of the types that tell one."""
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise Refused("has no time zone: expected an aware datetime")
        nanoseconds = (value - _EPOCH) // _MICROSECOND * 1000
        nanoseconds += getattr(value, "nanosecond", 0)  # a pandas Timestamp has them
        return nanoseconds * precision.ticks_per_second // 1_000_000_000
    if isinstance(value, np.datetime64):
        return int(ticks_of_datetime64(np.array([value]), precision)[0])
    if isinstance(value, INTEGERS) and not isinstance(value, bool):
        return int(value)
    raise Refused(
        "is not a value of TIMESTAMP: expected an aware datetime, a datetime64 or integer ticks"
    )


def ticks_of(value: object, precision: Precision) -> int:
    """The ticks of one instant: an aware ``datetime``, a ``datetime64`` or an ``int``.

    Raises:
        DataError: It is none of these.
    """
    try:
        return ticks_of_one(value, precision)
    except (Refused, OverflowError) as error:
        raise DataError(f"timestamp: {value!r} {error}") from None


def iso_utc(value: datetime | np.datetime64, what: str) -> str:
    """An instant as TDengine reads it in SQL, in any precision: ``2024-03-01T00:00:00.5Z``.

    Args:
        value: An aware ``datetime`` or a ``datetime64``, which counts as UTC.
        what: What it is, for errors.

    Raises:
        DataError: It has no time zone, is no time, or lies beyond what can be written.
    """
    try:
        if isinstance(value, np.datetime64):
            return f"{_in_known_unit(np.array([value]))[0]}Z"
        if value.utcoffset() is None:
            raise DataError(f"{what}: {value!r} has no time zone: expected an aware datetime")
        return value.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"
    except (Refused, ArithmeticError, TypeError, ValueError):
        raise DataError(f"{what}: {value!r} is not a time that SQL can hold") from None


_COARSE = frozenset({"Y", "M", "W", "D", "h", "m", "s"})
_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def ticks_of_datetime64(values: npt.NDArray[Any], precision: Precision) -> npt.NDArray[np.int64]:
    """Ticks of a column of ``datetime64``; finer units are cut off.

    Raises:
        Refused: One is NaT.
        OverflowError: One is beyond 64 bits.
    """
    values = _in_known_unit(values)
    unit = np.datetime_data(values.dtype)[0]
    return _rescaled(values.view(np.int64), _UNITS[unit], precision)


def _in_known_unit(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same in s, ms, us or ns, in this machine's byte order."""
    if np.isnat(values).any():
        raise Refused("is not a value of TIMESTAMP: expected None for NULL")
    unit, count = np.datetime_data(values.dtype)
    if unit in _UNITS and count == 1:
        return values.astype(f"datetime64[{unit}]")
    made = values.astype("datetime64[s]" if unit in _COARSE else "datetime64[ns]")
    if unit in _COARSE | set(_UNITS) and (made.astype(values.dtype) != values).any():
        raise OverflowError  # which numpy does not tell
    return made

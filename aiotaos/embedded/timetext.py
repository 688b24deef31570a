"""Times as the text of REST answers, a column at once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ..types import Precision

Ticks: TypeAlias = npt.NDArray[np.int64]
TimeFormat: TypeAlias = Callable[[Ticks, Precision], list[str]]
"""Writes times, in ticks of the precision, as JSON."""

_DIGITS = {Precision.MILLISECOND: 3, Precision.MICROSECOND: 6, Precision.NANOSECOND: 9}
_UNIT_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_NO_TIME = -(2**63)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def rfc3339(zone: tzinfo) -> TimeFormat:
    """``"2024-03-01T08:00:00.000+08:00"``: 3, 6 or 9 digits of the second's fraction, a zone."""
    return _utc if zone is UTC else partial(_zoned, zone)


def plain(ticks: Ticks, precision: Precision) -> list[str]:
    """``"2024-03-01 00:00:00.000"``: UTC that does not say so."""
    return [f'"{text.replace("T", " ")}"' for text in _wall(ticks, precision.unit)]


def rfc3339_short(ticks: Ticks, precision: Precision) -> list[str]:
    """``"2024-03-01T00:00:00.5Z"``: a fraction without zeros at its end, as Go's RFC3339Nano."""
    walls = _wall(ticks, precision.unit)
    return [f'"{text.rstrip("0").rstrip(".")}Z"' for text in walls]


def numbers(ticks: Ticks, _: Precision) -> list[str]:
    """``1709251200000``: the ticks themselves."""
    return [str(one) for one in ticks.tolist()]


def _wall(ticks: Ticks, unit: str) -> list[str]:
    texts: list[str] = np.datetime_as_string(ticks.view(f"M8[{unit}]")).tolist()
    for place in np.flatnonzero(ticks == _NO_TIME).tolist():  # numpy's NaT, but a time here
        texts[place] = _first(unit)
    return texts


def _first(unit: str) -> str:
    """The first time of 64 bits."""
    second, fraction = divmod(_NO_TIME, 10 ** _UNIT_DIGITS[unit])
    wall = str(np.datetime64(second, "s"))
    return f"{wall}.{fraction:0{_UNIT_DIGITS[unit]}}" if _UNIT_DIGITS[unit] else wall


def _utc(ticks: Ticks, precision: Precision) -> list[str]:
    return [f'"{text}Z"' for text in _wall(ticks, precision.unit)]


def _zoned(zone: tzinfo, ticks: Ticks, precision: Precision) -> list[str]:
    """The fraction is apart, as the last times of 64 bits could not be moved east."""
    digits = _DIGITS[precision]
    seconds, fractions = np.divmod(ticks, precision.ticks_per_second)
    different, places = np.unique(seconds, return_inverse=True)
    offsets = np.array([_offset(second, zone) for second in different.tolist()], np.int64)[places]
    suffixes = {offset: _suffix(offset) for offset in set(offsets.tolist())}
    return [
        f'"{wall}.{fraction:0{digits}}{suffixes[offset]}"'
        for wall, fraction, offset in zip(
            _wall(seconds + offsets, "s"), fractions.tolist(), offsets.tolist(), strict=True
        )
    ]


def _offset(second: int, zone: tzinfo) -> int:
    """Seconds east of Greenwich; 0 for times that the calendar of Python does not reach."""
    try:
        offset = (_EPOCH + timedelta(seconds=second)).astimezone(zone).utcoffset()
    except OverflowError:
        return 0
    return (offset or timedelta(0)) // timedelta(seconds=1)


def _suffix(offset: int) -> str:
    if not offset:
        return "Z"
    hours, minutes = divmod(abs(offset) // 60, 60)
    return f"{'-' if offset < 0 else '+'}{hours:02}:{minutes:02}"

"""Timestamps and durations as TDengine's SQL writes them."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ..types import Precision

_TEXT = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})"
    r"(?:[ T](\d{1,2}):(\d{1,2}):(\d{1,2})(?:\.(\d{1,9}))?)?"
    r"(Z|z|[+-](?:0\d|1[0-4]):?[0-5]\d)?",
    re.ASCII,
)
_OFFSET = re.compile(r"Z|z|[+-]\d{2}:?\d{2}", re.ASCII)
_KEPT_DAYS = 36_500
_LAST_SECOND = 31_556_995_200  # TDengine's limits, source/libs/parser/src/parInsertSql.c
_LAST_NANOSECONDS = 9_214_646_400_000_000_000
_UNIT_NS = {
    "b": 1,
    "u": 1_000,
    "a": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
    "w": 604_800_000_000_000,
}
_EPOCH = datetime(1970, 1, 1)
_SECOND_NS = 1_000_000_000


def tick_ns(precision: Precision) -> int:
    """Nanoseconds of one tick."""
    return _SECOND_NS // precision.ticks_per_second


def key_range(precision: Precision) -> tuple[int, int]:
    """First and last time that a row may have: a hundred years ago, and TDengine's end of time."""
    per_second = precision.ticks_per_second
    last = _LAST_NANOSECONDS if precision is Precision.NANOSECOND else _LAST_SECOND * per_second
    return now(precision) - _KEPT_DAYS * 86_400 * per_second, last


def parse_time(text: str, zone: tzinfo, precision: Precision) -> int | None:
    """Read a date and time; where it names no zone, it is the wall clock of ``zone``.

    Returns:
        Ticks, or None if it is no time: unreadable, or skipped by the clock in spring.
    """
    match = _TEXT.fullmatch(text.strip())
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, offset = match.groups()
    try:
        wall = datetime(
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0)
        )
    except ValueError:
        return None
    if offset is None:
        shift = _offset_at(wall, zone)
        if shift is None:
            return None
    else:
        shift = fixed_offset(offset) or 0
    seconds = (wall - _EPOCH) // timedelta(seconds=1) - shift
    ns = int((fraction or "").ljust(9, "0"))
    return seconds * precision.ticks_per_second + ns // tick_ns(precision)


def _offset_at(wall: datetime, zone: tzinfo) -> int | None:
    offset = wall.replace(tzinfo=zone).utcoffset() or timedelta(0)
    back = (wall - offset).replace(tzinfo=UTC).astimezone(zone)
    if back.replace(tzinfo=None) != wall:
        return None
    return offset // timedelta(seconds=1)


def fixed_offset(text: str) -> int | None:
    """Seconds east of Greenwich of ``Z``, ``+08:00`` or ``+0800``; None for anything else."""
    if not _OFFSET.fullmatch(text):
        return None
    if text in "Zz":
        return 0
    digits = text[1:].replace(":", "")
    seconds = int(digits[:2]) * 3600 + int(digits[2:]) * 60
    return -seconds if text[0] == "-" else seconds


def duration(text: str, precision: Precision) -> int | None:
    """Ticks of ``10s``; None for months and years, which have no fixed length.

    A duration shorter than a tick is 0.
    """
    unit = _UNIT_NS.get(text[-1])
    if unit is None:
        return None
    return int(text[:-1]) * unit // tick_ns(precision)


def now(precision: Precision) -> int:
    return time.time_ns() // tick_ns(precision)


def today(zone: tzinfo, precision: Precision) -> int:
    """The last midnight in ``zone``."""
    midnight = datetime.now(zone).replace(hour=0, minute=0, second=0, microsecond=0)
    return int(midnight.timestamp()) * precision.ticks_per_second


def find_zone(name: str) -> tzinfo | None:
    """The IANA zone of this name; None if there is none."""
    if name in ("", "UTC"):
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def zone_name(zone: tzinfo) -> str:
    return zone.key if isinstance(zone, ZoneInfo) else "UTC"


def describe_zone(zone: tzinfo) -> str:
    """What ``timezone()`` answers: ``Asia/Shanghai (CST, +0800)``."""
    moment = datetime.now(zone)
    return f"{zone_name(zone)} ({moment:%Z, %z})"


def standard_offset(zone: tzinfo) -> int:
    """Seconds east of Greenwich at present."""
    return (datetime.now(zone).utcoffset() or timedelta(0)) // timedelta(seconds=1)

"""Offsets of time zones over whole columns of instants.

``zoneinfo`` answers for one datetime at a time. :class:`Zone` asks it once a day of data, keeps
what it learned, and gives the wall-clock time of a column with array operations.
"""

from __future__ import annotations

import bisect
import os
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from operator import itemgetter
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

Instants = npt.NDArray[np.int64]

_DAY = 86_400_000_000
_CHUNK = 400 * _DAY  # the zone is explored chunk by chunk
_SECOND = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST = (datetime(1, 1, 3, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_LAST = (datetime(9999, 12, 29, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_MANY_CHUNKS = 64  # beyond these (70 years), asking for each value is cheaper than exploring


class Zone:
    """A time zone, prepared for columns.

    Args:
        tz: Any ``tzinfo``.
    """

    def __init__(self, tz: tzinfo) -> None:
        self.tz = tz
        self.epoch = datetime(1970, 1, 1, tzinfo=tz)
        self._chunks: dict[int, list[tuple[int, int, int]]] = {}
        self._constant = self._offset(0) if isinstance(tz, timezone) else None

    def wall_clock(self, instants: Instants) -> tuple[Instants, npt.NDArray[np.intp]]:
        """Wall-clock time of instants.

        Args:
            instants: Microseconds since 1970-01-01T00:00:00Z, shape (n,).

        Returns:
            Microseconds since 1970-01-01T00:00:00 of the wall clock, shape (n,), and the indexes
            of those that are the second pass of an hour that occurs twice (``fold=1``).
        """
        if self._constant is not None:
            return instants + self._constant, np.empty(0, np.intp)
        low, high = int(instants.min()), int(instants.max())
        if high // _CHUNK - low // _CHUNK > _MANY_CHUNKS:
            return self._one_by_one(instants)
        segments = self._segments(low, high)
        if len(segments) == 1 and segments[0][2] <= low:
            return instants + segments[0][1], np.empty(0, np.intp)
        starts, offsets, fold_ends = np.array(segments, np.int64).T
        index = np.searchsorted(starts, instants, side="right") - 1
        return instants + offsets[index], np.flatnonzero(instants < fold_ends[index])

    def _one_by_one(self, instants: Instants) -> tuple[Instants, npt.NDArray[np.intp]]:
        local = [self._local(instant) for instant in instants.tolist()]
        offsets = np.array([_microseconds(moment) for moment in local], np.int64)
        return instants + offsets, np.flatnonzero([moment.fold for moment in local])

    def _segments(self, low: int, high: int) -> list[tuple[int, int, int]]:
        """Stretches of constant offset from low to high: (start, offset, end of the fold)."""
        keys = range(low // _CHUNK, high // _CHUNK + 1)
        segments = [segment for key in keys for segment in self._chunk(key)]
        begin = bisect.bisect_right(segments, low, key=itemgetter(0)) - 1
        end = bisect.bisect_right(segments, high, key=itemgetter(0))
        return segments[begin:end]

    def _chunk(self, key: int) -> list[tuple[int, int, int]]:
        found = self._chunks.get(key)
        if found is None:
            found = self._chunks[key] = self._explore(key * _CHUNK, (key + 1) * _CHUNK)
        return found

    def _explore(self, start: int, stop: int) -> list[tuple[int, int, int]]:
        before, earlier = self._offset(start), self._offset(start - _DAY)
        fold_end = start
        if before < earlier:  # the hour that occurs twice may reach over the border
            fold_end = self._change(start - _DAY, start, earlier) + earlier - before
        segments = [(start, before, max(fold_end, start))]
        for day in range(start, stop, _DAY):
            after = self._offset(day + _DAY)
            if after != before:
                change = self._change(day, day + _DAY, before)
                segments.append((change, after, change + max(before - after, 0)))
                before = after
        return segments

    def _change(self, low: int, high: int, before: int) -> int:
        """The first second between low and high at which the offset is no longer ``before``."""
        while high - low > _SECOND:
            middle = (low + high) // (2 * _SECOND) * _SECOND
            if self._offset(middle) == before:
                low = middle
            else:
                high = middle
        return high

    def _offset(self, instant: int) -> int:
        return _microseconds(self._local(instant))

    def _local(self, instant: int) -> datetime:
        instant = min(max(instant, _FIRST), _LAST)
        return (_EPOCH + timedelta(microseconds=instant)).astimezone(self.tz)


def _microseconds(moment: datetime) -> int:
    """The offset of a moment from UTC."""
    return (moment.utcoffset() or timedelta()) // timedelta(microseconds=1)


def zone_for(tz: tzinfo) -> Zone:
    """The prepared zone of a ``tzinfo``, shared by all connections that use it."""
    try:
        return _shared_zone(tz)
    except TypeError:  # dateutil's zones cannot be hashed
        return Zone(tz)


@lru_cache(maxsize=64)
def _shared_zone(tz: tzinfo) -> Zone:
    return Zone(tz)


def local_timezone() -> tzinfo:
    """The time zone of this machine, with its rules where they can be found.

    Looks at the ``TZ`` variable, then at ``/etc/localtime``; where neither names a zone, the
    present offset from UTC is taken.
    """
    name = os.environ.get("TZ", "").lstrip(":")
    if name:
        try:
            return ZoneInfo(name)
        except (KeyError, OSError, ValueError):
            return datetime.now().astimezone().tzinfo or UTC
    try:
        path = os.path.realpath("/etc/localtime")
        _, found, key = path.partition("/zoneinfo/")
        if found:
            return ZoneInfo(key)
        with open(path, "rb") as file:
            return ZoneInfo.from_file(file, key="localtime")
    except (KeyError, OSError, ValueError):
        return datetime.now().astimezone().tzinfo or UTC

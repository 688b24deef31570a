from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aiotaos.protocol import zones
from aiotaos.protocol.zones import Zone, local_timezone, zone_for

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NAIVE_EPOCH = datetime(1970, 1, 1)
NAMES = [
    "America/New_York",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Pacific/Apia",
    "Europe/Dublin",
    "Asia/Shanghai",
    "UTC",
]
OFFSETS = [timezone(timedelta(0)), timezone(timedelta(hours=5, minutes=45)), UTC]
FIRST = -62_135_596_800 + 2 * 86_400
LAST = 253_402_300_799 - 2 * 86_400


def check(zone: Zone, seconds: list[int], microseconds: int = 0) -> None:
    """Compare with what datetime and zoneinfo say, one instant at a time."""
    instants = [second * 1_000_000 + microseconds for second in seconds]
    wall, folds = zone.wall_clock(np.array(instants, np.int64))
    expected = [
        (EPOCH + timedelta(microseconds=instant)).astimezone(zone.tz) for instant in instants
    ]
    expected_wall = [
        (moment.replace(tzinfo=None) - NAIVE_EPOCH) // timedelta(microseconds=1)
        for moment in expected
    ]
    differing = np.flatnonzero(wall != np.array(expected_wall))
    assert not len(differing), f"{instants[differing[0]]}: expected {expected[differing[0]]}"
    assert folds.tolist() == [row for row, moment in enumerate(expected) if moment.fold]
    # A datetime made of wall clock and fold has the right offset.
    for row in range(0, len(expected), 97):
        made = (NAIVE_EPOCH + timedelta(microseconds=int(wall[row]))).replace(
            tzinfo=zone.tz, fold=expected[row].fold
        )
        assert made.utcoffset() == expected[row].utcoffset()


def utc(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp())


CHANGES = {
    "New York, spring": ("America/New_York", utc(2024, 3, 10, 7)),
    "New York, autumn": ("America/New_York", utc(2024, 11, 3, 6)),
    "New York, local mean time ends": ("America/New_York", utc(1883, 11, 18, 17)),
    "New York, war time": ("America/New_York", utc(1942, 2, 9, 7)),
    "New York, after the tables of zoneinfo": ("America/New_York", utc(2999, 11, 3, 6)),
    "Lord Howe, half an hour forward": ("Australia/Lord_Howe", utc(2024, 10, 5, 15, 30)),
    "Lord Howe, half an hour back": ("Australia/Lord_Howe", utc(2024, 4, 6, 15)),
    "Casablanca, Ramadan begins": ("Africa/Casablanca", utc(2024, 3, 10, 2)),
    "Casablanca, Ramadan ends": ("Africa/Casablanca", utc(2024, 4, 14, 2)),
    "Apia, a day left out": ("Pacific/Apia", utc(2011, 12, 30, 10)),
    "Apia, a day had twice": ("Pacific/Apia", utc(1892, 7, 4, 23, 26, 56)),
    "Dublin, spring": ("Europe/Dublin", utc(2024, 3, 31, 1)),
    "Dublin, autumn": ("Europe/Dublin", utc(2024, 10, 27, 1)),
    "Kolkata, war time ends": ("Asia/Kolkata", utc(1945, 10, 14, 17, 30)),
    "Azores, on the border of a chunk": ("Atlantic/Azores", utc(1942, 8, 16)),
    "Kwajalein, a day left out": ("Pacific/Kwajalein", utc(1993, 8, 21, 12)),
}


@pytest.mark.parametrize(("name", "change"), CHANGES.values(), ids=list(CHANGES))
def test_second_by_second_around_a_change(name, change):
    seconds = list(range(change - 4000, change + 4000))
    check(Zone(ZoneInfo(name)), seconds)
    check(Zone(ZoneInfo(name)), seconds[::-1], microseconds=999_999)


@pytest.mark.parametrize(("name", "change"), CHANGES.values(), ids=list(CHANGES))
def test_days_around_a_change(name, change):
    check(Zone(ZoneInfo(name)), [change + minute * 60 for minute in range(-3000, 3000)])


@pytest.mark.parametrize(("name", "change"), CHANGES.values(), ids=list(CHANGES))
@pytest.mark.parametrize("distance", [-1, 0, 1, 1799, 1800, 3599, 3600])
def test_one_row_near_a_change(name, change, distance):
    check(Zone(ZoneInfo(name)), [change + distance])


@pytest.mark.parametrize("name", [*NAMES, "Atlantic/Azores"])
def test_around_the_borders_of_chunks(name):
    days = 400 * 86_400
    seconds = [
        border * days + distance
        for border in range(-60, 40)
        for distance in (-86_400, -3600, -1, 0, 1, 1800, 3599, 3600, 86_400)
    ]
    check(Zone(ZoneInfo(name)), seconds)


@pytest.mark.parametrize("name", NAMES)
def test_a_column_of_centuries(name):
    check(Zone(ZoneInfo(name)), [*range(utc(1800, 1, 1), utc(2300, 1, 1), 7_654_321)])


@pytest.mark.parametrize("tz", [ZoneInfo("America/New_York"), ZoneInfo("Europe/Dublin"), *OFFSETS])
def test_a_column_of_all_times(tz):
    seconds = [*range(FIRST, LAST, 2_345_678_901), FIRST, LAST]
    check(Zone(tz), seconds)
    check(Zone(tz), seconds[::-1])


@pytest.mark.parametrize("name", NAMES)
def test_unsorted_instants(name):
    random = np.random.default_rng(7)
    seconds = random.integers(utc(2000, 1, 1), utc(2030, 1, 1), 3000).tolist()
    zone = Zone(ZoneInfo(name))
    check(zone, seconds)
    check(zone, sorted(seconds, reverse=True))


@pytest.mark.parametrize("tz", [*map(ZoneInfo, NAMES), *OFFSETS])
def test_any_instants(tz):
    zone = Zone(tz)

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.integers(FIRST, LAST), min_size=1, max_size=4), st.integers(0, 999_999))
    @example([FIRST, LAST], 0)
    @example([0, -1], 999_999)
    def compare(seconds: list[int], microseconds: int) -> None:
        check(zone, seconds, microseconds)

    compare()


def test_what_was_learned_is_kept():
    zone = Zone(ZoneInfo("Europe/Dublin"))
    asked = []
    learn = zone._offset
    zone._offset = lambda instant: asked.append(instant) or learn(instant)
    check(zone, [0, 1000])
    assert asked
    asked.clear()
    check(zone, [2000, 86_400])
    assert not asked


class Plus(tzinfo):
    """A zone that cannot be hashed, like those of dateutil."""

    __hash__ = None

    def __eq__(self, other):
        return isinstance(other, Plus)

    def utcoffset(self, when):
        return timedelta(hours=2)

    def dst(self, when):
        return timedelta(0)


def test_any_tzinfo():
    check(zone_for(Plus()), [0, utc(2024, 3, 1), utc(1900, 1, 1)])


def test_zones_are_shared():
    assert zone_for(ZoneInfo("Asia/Tokyo")) is zone_for(ZoneInfo("Asia/Tokyo"))
    assert zone_for(UTC).tz is UTC


# The zone of this machine


def now_offset() -> timedelta | None:
    return datetime.now().astimezone().utcoffset()


@pytest.mark.parametrize("value", ["Europe/Berlin", ":Europe/Berlin"])
def test_zone_of_the_environment(value, monkeypatch):
    monkeypatch.setenv("TZ", value)
    assert local_timezone() is ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize("value", ["XYZ-3", "EST5EDT,M3.2.0,M11.1.0", "Nowhere/City", "/etc/zone"])
def test_environment_that_names_no_zone(value, monkeypatch):
    monkeypatch.setenv("TZ", value)
    time.tzset()
    try:
        assert datetime.now(local_timezone()).utcoffset() == now_offset()
    finally:
        monkeypatch.undo()
        time.tzset()


def test_zone_of_a_link(monkeypatch):
    monkeypatch.delenv("TZ", raising=False)
    monkeypatch.setattr(zones.os.path, "realpath", lambda path: "/usr/share/zoneinfo/Asia/Tokyo")
    assert local_timezone() is ZoneInfo("Asia/Tokyo")


def test_link_to_an_unknown_zone(monkeypatch):
    monkeypatch.setenv("TZ", "")
    monkeypatch.setattr(zones.os.path, "realpath", lambda path: "/usr/share/zoneinfo/Nowhere")
    assert datetime.now(local_timezone()).utcoffset() == now_offset()


def tzif(offset: int, name: bytes) -> bytes:
    """A zone file of one constant offset (RFC 8536, version 1)."""
    header = b"TZif" + bytes(16)
    counts = b"".join(count.to_bytes(4, "big") for count in (0, 0, 0, 0, 1, len(name) + 1))
    return header + counts + offset.to_bytes(4, "big", signed=True) + b"\0\0" + name + b"\0"


def test_zone_of_a_plain_file(monkeypatch, tmp_path: Path):
    path = tmp_path / "localtime"
    path.write_bytes(tzif(-12_600, b"NST"))
    monkeypatch.delenv("TZ", raising=False)
    monkeypatch.setattr(zones.os.path, "realpath", lambda name: str(path))
    zone = local_timezone()
    assert datetime(2024, 1, 1, tzinfo=zone).utcoffset() == timedelta(hours=-3, minutes=-30)
    assert isinstance(zone, ZoneInfo)


@pytest.mark.parametrize("content", [None, b"", b"no zone"])
def test_file_that_is_no_zone(content, monkeypatch, tmp_path: Path):
    path = tmp_path / "localtime"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.delenv("TZ", raising=False)
    monkeypatch.setattr(zones.os.path, "realpath", lambda name: str(path))
    assert datetime.now(local_timezone()).utcoffset() == now_offset()

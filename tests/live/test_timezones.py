"""The session's time zone, on the server and on this side, with changes of the clock."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

ZONES = ["UTC", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]
QUARTER = timedelta(minutes=15)
# Around changes of the clock; Lord Howe's is one of half an hour.
CHANGES = {
    "New York, March": datetime(2024, 3, 10, 7, tzinfo=UTC),
    "New York, November": datetime(2024, 11, 3, 6, tzinfo=UTC),
    "Lord Howe, April": datetime(2024, 4, 6, 15, tzinfo=UTC),
    "Lord Howe, October": datetime(2024, 10, 5, 15, 30, tzinfo=UTC),
    "Kolkata, 1945": datetime(1945, 10, 14, 17, 30, tzinfo=UTC),
}


def milliseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


@pytest.mark.parametrize("zone", ZONES)
async def test_the_server_knows_the_zone(connect: Any, zone: str) -> None:
    conn = await connect(timezone=zone)
    name = await conn.fetchval("select timezone()")
    assert name.split(" ")[0] == zone
    dates = {datetime.now(ZoneInfo(zone)).date()}
    today = await conn.fetchval("select today()")
    dates.add(datetime.now(ZoneInfo(zone)).date())  # another one at midnight
    assert today.date() in dates
    assert today.timetz() == time(tzinfo=ZoneInfo(zone))


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "Asia/Kathmandu", "America/Phoenix"])
async def test_truncated_to_the_day(connect: Any, zone: str) -> None:
    """Zones of one offset; the server truncates with that of today, whatever the season."""
    conn = await connect(timezone=zone)
    moment = datetime(2024, 3, 15, 12, 34, 56, tzinfo=UTC)
    local, universal = await conn.fetchrow(
        f"select timetruncate({milliseconds(moment)}, 1d, 1), "
        f"timetruncate({milliseconds(moment)}, 1d, 0)"
    )
    midnight = datetime.combine(moment.astimezone(ZoneInfo(zone)), time(), ZoneInfo(zone))
    assert local.astimezone(UTC) == midnight.astimezone(UTC)
    assert universal.astimezone(UTC) == datetime(2024, 3, 15, tzinfo=UTC)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("change", CHANGES)
async def test_changes_of_the_clock(conn: Any, connect: Any, zone: str, change: str) -> None:
    moments = [CHANGES[change] + step * QUARTER for step in range(-12, 13)]
    await conn.execute("create table t (ts timestamp, v int)")
    await conn.execute(
        "insert into t values " + " ".join(f"({milliseconds(moment)}, 0)" for moment in moments)
    )
    local = await connect(timezone=zone, database=conn.database)
    rows = await local.fetch("select ts, cast(ts as bigint) from t order by ts")
    tz = ZoneInfo(zone)
    expected = [moment.astimezone(tz) for moment in moments]
    assert [row[1] for row in rows] == [milliseconds(moment) for moment in moments]
    for (ts, _), wanted in zip(rows, expected, strict=True):
        assert (ts.replace(tzinfo=None), ts.fold) == (wanted.replace(tzinfo=None), wanted.fold)
        assert ts.tzinfo == tz
        assert ts.utcoffset() == wanted.utcoffset()
    # What the other side makes of them: of constants, since it computes columns in its own zone.
    shown = await local.fetchrow(
        "select "
        + ", ".join(
            f"to_char(cast({milliseconds(moment)} as timestamp), 'yyyy-mm-dd hh24:mi:ss')"
            for moment in moments
        )
    )
    assert shown == tuple(f"{wanted:%Y-%m-%d %H:%M:%S}" for wanted in expected)


@pytest.mark.parametrize("zone", ZONES)
async def test_texts_are_of_the_session(conn: Any, connect: Any, zone: str) -> None:
    local = await connect(timezone=zone, database=conn.database)
    await local.execute("create table t (ts timestamp, v timestamp)")
    await local.execute(
        "insert into t values ('2024-01-15 10:20:30.5', '2024-07-15 10:20:30.5') "
        "('2024-01-15T10:20:31Z', '2024-07-15T10:20:31+05:30')"
    )
    tz = ZoneInfo(zone)
    rows = await local.fetch("select * from t order by v")
    own = (
        datetime(2024, 1, 15, 10, 20, 30, 500_000, tz),
        datetime(2024, 7, 15, 10, 20, 30, 500_000, tz),
    )
    absolute = (
        datetime(2024, 1, 15, 10, 20, 31, tzinfo=UTC),
        datetime(2024, 7, 15, 4, 50, 31, tzinfo=UTC),
    )
    assert sorted(rows) == sorted([own, absolute])
    found = await local.fetch("select ts from t where v = '2024-07-15 10:20:30.5'")
    assert found == [(own[0],)]
    # The same instants, seen from another zone.
    assert sorted(await conn.fetch("select * from t")) == sorted([own, absolute])


async def test_sessions_do_not_mix(connect: Any) -> None:
    sessions = {zone: await connect(timezone=zone) for zone in ZONES}
    for _ in range(3):
        for zone, conn in sessions.items():
            text = await conn.fetchval("select to_char(cast(0 as timestamp), 'yyyy-mm-dd hh24:mi')")
            start = datetime(1970, 1, 1, tzinfo=UTC).astimezone(ZoneInfo(zone))
            assert text == f"{start:%Y-%m-%d %H:%M}"

"""Texts of instants to ticks, compared with a calculation by whole numbers."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from itertools import permutations
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aiotaos.errors import ProtocolError
from aiotaos.protocol.instants import ticks_of_texts
from aiotaos.types import Precision

MS, US, NS = Precision.MILLISECOND, Precision.MICROSECOND, Precision.NANOSECOND
PER_SECOND = {MS: 10**3, US: 10**6, NS: 10**9}
DAYS_IN_400_YEARS = 146_097


def ticks_of(text: str, precision: Precision) -> int:
    """The ticks of a text, by the calendar of ``datetime`` and integers of any size."""
    day, _, clock = text.partition("T")
    year, month, dom = day.rsplit("-", 2)
    cycles, year_of_cycle = divmod(int(year), 400)
    days = date(2000 + year_of_cycle, int(month), int(dom)).toordinal()
    days += (cycles - 5) * DAYS_IN_400_YEARS - date(1970, 1, 1).toordinal()
    east = 0
    if clock.endswith("Z"):
        clock = clock[:-1]
    else:
        east = int(clock[-5:-3]) * 60 + int(clock[-2:])
        east = -east if clock[-6] == "-" else east
        clock = clock[:-6]
    clock, _, fraction = clock.partition(".")
    hour, minute, second = map(int, clock.split(":"))
    seconds = ((days * 24 + hour) * 60 + minute - east) * 60 + second
    ticks = seconds * PER_SECOND[precision]
    if fraction:
        ticks += int(fraction) * PER_SECOND[precision] // 10 ** len(fraction)
    return ticks


def check(texts, precision):
    """The ticks are those of the other calculation, of the precision given."""
    ticks, found = ticks_of_texts(texts)
    assert found is precision
    assert ticks.dtype == np.int64
    assert ticks.tolist() == [ticks_of(text, precision) for text in texts]


def test_the_other_calculation():
    """What the tests compare with, compared with ``datetime``."""
    for year in (1, 4, 100, 400, 1969, 1970, 2000, 2024, 9999):
        moment = datetime(year, 2, 28, 23, 59, 58, 123456, tzinfo=UTC)
        since = moment - datetime(1970, 1, 1, tzinfo=UTC)
        assert ticks_of(moment.isoformat(), US) == since // timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("text", "ticks", "precision"),
    [
        ("1970-01-01T00:00:00.000Z", 0, MS),
        ("1970-01-01T00:00:00Z", 0, MS),
        ("1969-12-31T23:59:59.999Z", -1, MS),
        ("1969-12-31T23:59:59.999999Z", -1, US),
        ("1969-12-31T23:59:59.999999999Z", -1, NS),
        ("2024-03-01T00:00:00.001Z", 1709251200001, MS),
        ("2024-03-01T08:00:00.001+08:00", 1709251200001, MS),
        ("2024-02-29T18:30:00.001-05:30", 1709251200001, MS),
        ("2024-03-01T00:00:00.000001Z", 1709251200000001, US),
        ("2024-03-01T00:00:00.000000001Z", 1709251200000000001, NS),
        ("2024-03-01T00:00:00.000000001-00:00", 1709251200000000001, NS),
        ("2024-03-01T05:45:00.999999999+05:45", 1709251200999999999, NS),
        # What Go writes where zeros at the end are dropped.
        ("2024-03-01T00:00:00.4Z", 1709251200400, MS),
        ("2024-03-01T00:00:00.42Z", 1709251200420, MS),
        ("2024-03-01T00:00:00.4201Z", 1709251200420100, US),
        ("2024-03-01T00:00:00.42013Z", 1709251200420130, US),
        ("2024-03-01T00:00:00.4201301Z", 1709251200420130100, NS),
        ("2024-03-01T00:00:00.42013019Z", 1709251200420130190, NS),
        # Years that no datetime has.
        ("0000-01-01T00:00:00.000Z", -62167219200000, MS),
        ("0000-02-29T00:00:00.000Z", -62162121600000, MS),
        ("-0001-12-31T23:59:59.999Z", -62167219200001, MS),
        ("-0001-12-31T23:59:59.999-01:00", -62167215600001, MS),
        ("9999-12-31T23:59:59.999Z", 253402300799999, MS),
        ("10000-01-01T00:00:00.000Z", 253402300800000, MS),
        ("+10000-01-01T00:00:00.000Z", 253402300800000, MS),
        ("10000-01-01T00:00:00.000000Z", 253402300800000000, US),
        ("10000-01-01T08:00:00.000+08:00", 253402300800000, MS),
        # The ends of 64 bits.
        ("292278994-08-17T07:12:55.807Z", 2**63 - 1, MS),
        ("-292275055-05-16T16:47:04.192Z", -(2**63), MS),
        ("294247-01-10T04:00:54.775807Z", 2**63 - 1, US),
        ("-290308-12-21T19:59:05.224192Z", -(2**63), US),
        ("2262-04-11T23:47:16.854775807Z", 2**63 - 1, NS),
        ("2262-04-12T07:47:16.854775807+08:00", 2**63 - 1, NS),
        ("1677-09-21T00:12:43.145224192Z", -(2**63), NS),
        ("1677-09-20T19:12:43.145224192-05:00", -(2**63), NS),
    ],
)
def test_one_instant(text, ticks, precision):
    found, unit = ticks_of_texts([text])
    assert (found.tolist(), unit) == ([ticks], precision)
    assert ticks_of(text, precision) == ticks
    # Among others it is the same.
    common = {MS: ".001Z", US: ".000001Z", NS: ".000000001Z"}[precision]
    other = f"1970-01-01T00:00:00{common}"
    found, unit = ticks_of_texts([other, text, other, text])
    assert (found.tolist(), unit) == ([1, ticks, 1, ticks], precision)


def test_no_instants():
    ticks, precision = ticks_of_texts([])
    assert (ticks.tolist(), ticks.dtype, precision) == ([], np.int64, MS)
    assert ticks_of_texts([], NS)[1] is NS


@pytest.mark.parametrize("given", [MS, US, NS])
@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("2024-03-01T00:00:00Z", MS),
        ("2024-03-01T00:00:00.123+01:00", MS),
        ("10000-03-01T00:00:00.123Z", MS),
        ("2024-03-01T00:00:00.123456Z", US),
        ("2024-03-01T00:00:00.123456789Z", NS),
    ],
)
def test_the_least_precision(given, text, own):
    if text.startswith("1") and given is NS:
        with pytest.raises(ProtocolError, match="a time beyond 64 bits of ns: '10000-03-01T"):
            ticks_of_texts([text], given)
        return
    ticks, found = ticks_of_texts([text], given)
    assert found is max(given, own)
    assert ticks.tolist() == [ticks_of(text, found)]


FORMS = [
    "2024-03-01T00:00:00Z",
    "2024-03-01T00:00:00.5Z",
    "2024-03-01T00:00:00.25+01:00",
    "2024-03-31T03:00:00.123456+02:00",
    "2024-03-31T01:59:59.1234567-00:30",
    "2024-10-27T02:30:00.000000009+01:00",
]


@pytest.mark.parametrize("texts", list(permutations(FORMS, 3)))
def test_forms_in_one_column(texts):
    digits = [len(text[19:-1].split("+")[0].split("-")[0]) - 1 for text in texts]
    check(texts, NS if max(digits) > 6 else US if max(digits) > 3 else MS)


def test_summer_and_winter_in_one_column():
    """A zone that is UTC in winter: ``Z`` and an offset stand among each other."""
    texts = [
        "2024-03-31T00:59:59.999Z",
        "2024-03-31T02:00:00.000+01:00",
        "2024-10-27T01:59:59.999+01:00",
        "2024-10-27T01:00:00.000Z",
    ]
    found, _ = ticks_of_texts(texts)
    assert found.tolist() == [1711846799999, 1711846800000, 1729990799999, 1729990800000]
    check(texts * 100, MS)


def test_offsets_of_one_width():
    """Offsets change at a change of the clocks; one piece of a column may hold both."""
    check(["2024-03-10T01:59:59.999-05:00", "2024-03-10T03:00:00.000-04:00"] * 3, MS)
    check(["2024-03-10T01:59:59.999+05:30", "2024-03-10T03:00:00.000-09:30"] * 3, MS)


def test_years_of_all_widths_in_one_column():
    texts = ["0000-01-01", "-0001-03-01", "10000-02-29", "292278994-01-01", "2024-02-29"]
    check([f"{text}T12:34:56.789{zone}" for text in texts for zone in ("Z", "-11:30")], MS)
    check([f"{text}T12:34:56.789012Z" for text in texts if len(text) < 14], US)


def test_years_around_the_ends_of_nanoseconds():
    """Those of four digits are all of one form; only some of them have 64 bits."""
    texts = [
        f"{year}-{day}T00:00:00.000000001{zone}"
        for year, day in [
            (1677, "12-31"),
            (1678, "01-01"),
            (2024, "02-29"),
            (2261, "12-31"),
            (2262, "01-01"),
        ]
        for zone in ("Z", "+23:59", "-23:59")
    ]
    for text in texts:
        check([text], NS)
    check(texts, NS)


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("292278994-08-17T07:12:55.808Z", "ms"),
        ("292278994-08-17T07:12:55.807-00:01", "ms"),
        ("-292275055-05-16T16:47:04.191Z", "ms"),
        ("294247-01-10T04:00:54.775808Z", "us"),
        ("-290308-12-21T19:59:05.224191Z", "us"),
        ("2262-04-11T23:47:16.854775808Z", "ns"),
        ("2262-04-11T23:47:16.854775807-00:01", "ns"),
        ("1677-09-21T00:12:43.145224191Z", "ns"),
        ("9999-12-31T23:59:59.999999999Z", "ns"),
        ("0001-01-01T00:00:00.000000000Z", "ns"),
    ],
)
def test_beyond_64_bits(text, unit):
    for texts in ([text], ["2024-03-01T00:00:00.001Z", text], [text, "2024-03-01T00:00:00Z"]):
        with pytest.raises(ProtocolError) as caught:
            ticks_of_texts(texts)
        assert str(caught.value) == f"a time beyond 64 bits of {unit}: {text!r}"


def test_a_fraction_that_makes_another_too_far():
    """Nanoseconds in one row are nanoseconds in all."""
    texts = ["9999-12-31T23:59:59.999Z", "2024-03-01T00:00:00.000000001Z"]
    with pytest.raises(ProtocolError, match="beyond 64 bits of ns: '9999-12-31"):
        ticks_of_texts(texts)
    check(texts[:1], MS)


GOOD = "2024-03-01T00:00:00.001Z"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Z",
        "now",
        "2024",
        "2024-03-01",
        "2024-03-01T00:00:00",
        "2024-03-01T00:00:00.001",
        "2024-03-01 00:00:00.001",
        "2024-03-01 00:00:00.001Z",
        "2024-03-01t00:00:00.001Z",
        "2024-03-01T00:00:00.001z",
        "2024-03-01T00:00:00.Z",
        "2024-03-01T00:00:00.+01:00",
        "2024-03-01T00:00:00.0000000001Z",
        "2024-03-01T00:00:00,001Z",
        "2024-03-01T00:00:00:001Z",
        "2024/03/01T00:00:00.001Z",
        "2024-03-01T00.00.00.001Z",
        "2024-3-1T00:00:00.001Z",
        "024-03-01T00:00:00.001Z",
        "2024-03-01T00:00Z",
        "2024-03-01T00:00:00.001+0100",
        "2024-03-01T00:00:00.001+01",
        "2024-03-01T00:00:00.001*01:00",
        "2024-03-01T00:00:00.001+01.00",
        "2024-03-01T00:00:00.001+0a:00",
        "2024-03-01T00:00:00.001+01:0:",
        "2024-03-01T00:00:00.001ZZ",
        " 2024-03-01T00:00:00.001Z",
        "2024-03-01T00:00:00.001Z ",
        "2024-03-01T00:00:00.001\n",
        "2024-03-01T00:00:00.00\0Z",
        "２０２４-03-01T00:00:00.001Z",
        "2024-03-01T00:00:00.00１Z",
        "2024-03-01T00:00:00.00\udcffZ",
        "2024-03-01T00:00:00.0/1Z",
        "2024-03-01T00:00:00.0:1Z",
        "-2024--3-01T00:00:00.001Z",
        "1234567890-03-01T00:00:00.001Z",
        "NaT",
        "2024-03-01T00:00:00.001+08:00" * 20,
    ],
)
@pytest.mark.parametrize("others", ["alone", "first", "last"])
def test_texts_of_another_form(text, others):
    texts = {"alone": [text], "first": [text, GOOD], "last": [GOOD, GOOD, text]}[others]
    with pytest.raises(ProtocolError) as caught:
        ticks_of_texts(texts)
    assert str(caught.value) == f"expected a time as RFC 3339 writes it, got {text[:60]!r}"


@pytest.mark.parametrize(
    "day",
    [
        *("2024-02-30", "2023-02-29", "2100-02-29", "2024-04-31", "2024-13-01", "2024-00-01"),
        *("2024-01-00", "2024-01-32", "10000-02-30", "-0001-02-29", "0001-02-29"),
    ],
)
@pytest.mark.parametrize("zone", ["Z", "+01:00"])
@pytest.mark.parametrize("fraction", [".001", ".000000001"])
def test_days_that_are_not(day, zone, fraction):
    text = f"{day}T00:00:00{fraction}{zone}"
    for texts in ([text], [GOOD, text]):
        with pytest.raises(ProtocolError) as caught:
            ticks_of_texts(texts)
        assert str(caught.value) == f"there is no such day: {text!r}"


@pytest.mark.parametrize("clock", ["24:00:00", "99:00:00", "23:60:00", "23:59:60", "23:59:61"])
@pytest.mark.parametrize("year", ["2024", "10000"])
def test_times_of_day_that_are_not(clock, year):
    text = f"{year}-12-31T{clock}.001Z"
    for texts in ([text], [GOOD, text]):
        with pytest.raises(ProtocolError) as caught:
            ticks_of_texts(texts)
        assert str(caught.value) == f"there is no such time of day: {text!r}"


ZONES = st.just("Z") | st.builds(
    "{}{:02}:{:02}".format, st.sampled_from("+-"), st.integers(0, 23), st.integers(0, 59)
)


def texts_of(years: st.SearchStrategy[int], digits: st.SearchStrategy[int]):
    """Instants of some years, with some number of digits behind the point."""

    @st.composite
    def text(draw):
        year = draw(years)
        moment = draw(st.datetimes(datetime(2000, 1, 1), datetime(2399, 12, 31)))
        moment = moment.replace(day=min(moment.day, 28))
        sign, width = ("-", 5) if year < 0 else ("", 4)
        fraction = draw(st.text("0123456789", min_size=(size := draw(digits)), max_size=size))
        clock = moment.strftime("-%m-%dT%H:%M:%S")
        point = "." if fraction else ""
        return f"{sign}{abs(year):0{width - len(sign)}}{clock}{point}{fraction}{draw(ZONES)}"

    return text()


@settings(max_examples=300, deadline=None)
@given(st.lists(texts_of(st.integers(1678, 2261), st.integers(0, 9)), max_size=8))
@example(["1970-01-01T00:00:00.999999999-23:59"])
def test_exact_to_the_nanosecond(texts):
    ticks, precision = ticks_of_texts(texts, NS)
    assert precision is NS
    assert ticks.tolist() == [ticks_of(text, NS) for text in texts]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(texts_of(st.integers(-290_000, 290_000), st.sampled_from([0, 3, 5, 6])), max_size=8)
)
def test_far_years(texts):
    ticks, precision = ticks_of_texts(texts, US)
    assert precision is US
    assert ticks.tolist() == [ticks_of(text, US) for text in texts]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=8),
    st.sampled_from([UTC, timezone(timedelta(hours=8)), timezone(-timedelta(minutes=90))]),
)
def test_there_and_back(ticks, zone):
    """Nanoseconds of all 64 bits, written by ``datetime`` and integers."""
    texts = []
    for tick in ticks:
        seconds, nanoseconds = divmod(tick, 10**9)
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
        local = moment.astimezone(zone).isoformat()
        texts.append(f"{local[:19]}.{nanoseconds:09}{local[19:].replace('+00:00', 'Z')}")
    found, precision = ticks_of_texts(texts)
    assert (found.tolist(), precision) == (ticks, NS)


@pytest.mark.parametrize(
    ("zone", "text", "seconds"),
    [
        # Local mean time: New York 4:56:02 behind Greenwich, London 1:15, Kolkata 5:53:28 ahead.
        ("America/New_York", "1699-12-31T19:03:58.000-04:56", -8520336000),
        ("Europe/London", "1699-12-31T23:58:45.000-00:01", -8520336000),
        ("Asia/Kolkata", "1700-01-01T05:53:28.000+05:53", -8520336000),
        ("Asia/Kolkata", "1970-01-01T05:30:00.000+05:30", 0),
        ("America/New_York", "1918-10-27T01:30:00.000-04:00", -1615141800),  # before the clock
        ("America/New_York", "1918-10-27T01:30:00.000-05:00", -1615138200),  # goes back, and after
        ("America/New_York", "1900-01-01T00:00:00.000Z", -2208988800),
        ("America/New_York", "1900-01-01T00:00:00.000+01:00", -2208992400),  # of another zone
        ("America/New_York", "-0001-12-31T19:03:58.000-04:56", -62167219202),
        ("America/New_York", "2024-03-01T00:00:00.000-05:00", 1709269200),
    ],
)
def test_seconds_that_offsets_leave_out(zone, text, seconds):
    ticks, _ = ticks_of_texts([text], zone=ZoneInfo(zone))
    assert ticks.tolist() == [seconds * 1000]

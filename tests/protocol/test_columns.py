"""Values to typed columns: what is taken, what is refused, how a column is cut and reordered."""

from __future__ import annotations

import math
import struct
from array import array
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiotaos import DataError, FieldKind, StatementError, StatementField, TypeCode
from aiotaos.protocol.bind import bind_column
from aiotaos.protocol.columns import Fixed, Variable, concatenate, make_column
from aiotaos.protocol.times import ticks_of
from aiotaos.types import Precision

T = TypeCode
MS, US, NS = Precision
NEW_YEAR = datetime(2024, 1, 1, tzinfo=UTC)
INTEGERS = {
    T.TINYINT: ("b", -(2**7), 2**7 - 1),
    T.SMALLINT: ("h", -(2**15), 2**15 - 1),
    T.INT: ("i", -(2**31), 2**31 - 1),
    T.BIGINT: ("q", -(2**63), 2**63 - 1),
    T.UTINYINT: ("B", 0, 2**8 - 1),
    T.USMALLINT: ("H", 0, 2**16 - 1),
    T.UINT: ("I", 0, 2**32 - 1),
    T.UBIGINT: ("Q", 0, 2**64 - 1),
}


def field(type: TypeCode, length: int = 0, precision: int = 0, scale: int = 0) -> StatementField:
    return StatementField("c", FieldKind.COLUMN, type, length, precision, scale)


def content(column: Fixed | Variable) -> list[object]:
    """What is in a column: numbers, bytes, None."""
    nulls = [False] * len(column) if column.nulls is None else column.nulls.tolist()
    if isinstance(column, Fixed):
        values: list[object] = column.values.tolist()
    else:
        values, start = [], 0
        for length in column.lengths.tolist():
            values.append(column.data[start : start + length].tobytes())
            start += length
        assert start == len(column.data)
    return [None if null else value for null, value in zip(nulls, values, strict=True)]


def made(described: StatementField, values: object) -> list[object]:
    return content(bind_column(described, values))


# What is taken.


@pytest.mark.parametrize("type", INTEGERS)
def test_integers(type):
    code, low, high = INTEGERS[type]
    column = bind_column(field(type), [low, None, high, np.int8(1), False])
    assert column.values.tobytes() == struct.pack(f"<5{code}", low, 0, high, 1, 0)
    assert content(column) == [low, None, high, 1, 0]
    for wrong in (low - 1, high + 1):
        with pytest.raises(DataError) as caught:
            bind_column(field(type), [None, low, wrong])
        assert str(caught.value) == f"column 'c', row 2: {wrong} is not a value of {type.sql_name}"
        assert (caught.value.column, caught.value.row) == ("c", 2)


@pytest.mark.parametrize("type", INTEGERS)
def test_integer_arrays(type):
    code, low, high = INTEGERS[type]
    values = np.array([low, 0, high], np.dtype(code).newbyteorder(">"))
    column = bind_column(field(type), values)
    assert column.values.tobytes() == struct.pack(f"<3{code}", low, 0, high)
    wide = np.int64 if low < 0 and type is not T.BIGINT else np.uint64
    if type is not T.UBIGINT:
        with pytest.raises(DataError, match=f"row 1: {high + 1} is not a value of"):
            bind_column(field(type), np.array([0, high + 1, high + 2], wide))


@pytest.mark.parametrize(
    ("described", "values", "expected"),
    [
        (field(T.BOOL), [True, None, 0, 1], [1, None, 0, 1]),
        (field(T.BOOL), np.array([True, False]), [1, 0]),
        (field(T.BOOL), np.array([0, 1], "i8"), [0, 1]),
        (field(T.DOUBLE), [1, 1.5, None, Decimal("0.25"), np.float32(2)], [1, 1.5, None, 0.25, 2]),
        (field(T.FLOAT), np.array([1.5, np.inf]), [1.5, float("inf")]),
        (field(T.DOUBLE), np.array([1.5]), [1.5]),
        (field(T.DOUBLE), np.array([True, False]), [1.0, 0.0]),
        (field(T.VARCHAR, 6), ["a", b"\xff\0", bytearray(b"b")], [b"a", b"\xff\0", b"b"]),
        (field(T.VARCHAR, 6), ["\udcff涛", ""], [b"\xff\xe6\xb6\x9b", b""]),
        (field(T.NCHAR, 2), ["𝄞𝄞", "涛", ""], ["𝄞𝄞".encode(), "涛".encode(), b""]),
        (field(T.NCHAR, 2), [None, None], [None, None]),
        (field(T.VARBINARY, 3), [b"\0\xff", memoryview(b"x"), None], [b"\0\xff", b"x", None]),
        (field(T.GEOMETRY, 21), [b"\1"], [b"\1"]),
        (field(T.BLOB, 9), [bytearray(b"z")], [b"z"]),
        (field(T.JSON, 99), ['{"a":1}', {"b": [1, None]}], [b'{"a":1}', b'{"b":[1,null]}']),
        (field(T.NULL), [None, None], [None, None]),
        (field(T.INT), (1, 2), [1, 2]),
        (field(T.INT), range(2), [0, 1]),
        (field(T.INT), array("h", [7]), [7]),
        (field(T.INT), np.array([1, None], object), [1, None]),
        (field(T.INT), np.ma.masked_array([2**40, 1], [True, False]), [None, 1]),
        (field(T.INT), np.ma.masked_array([3, 1], [False, False]), [3, 1]),
        (field(T.VARCHAR, 3), np.ma.masked_array(["a", "b"], [False, True]), [b"a", None]),
    ],
    ids=repr,
)  # fmt: skip
def test_values(described, values, expected):
    assert made(described, values) == expected


def test_decimals_are_integers_in_blocks():
    column = make_column(field(T.DECIMAL64, 8, 10, 2), ["1.2", Decimal("-1.25"), 5, None, "1E+2"])
    assert content(column) == [120, -125, 500, None, 10000]
    wide = make_column(field(T.DECIMAL, 16, 38, 0), [10**38 - 1, -1])
    assert wide.values.tobytes() == (10**38 - 1).to_bytes(16, "little") + b"\xff" * 16


@pytest.mark.parametrize("described", [field(T.DECIMAL, 16, 10, 2), field(T.DECIMAL)])
def test_decimals_are_text_in_bindings(described):
    values = ["1.20", Decimal("-1E+2"), 5, None]
    for source in (values, tuple(values), np.array(values, object)):
        assert made(described, source) == [b"1.20", b"-100", b"5", None]


def test_what_makes_itself_an_array():
    class Series:
        def __array__(self, dtype=None, copy=None):
            return np.array([1, 2], "i2")

    assert made(field(T.INT), Series()) == [1, 2]


@pytest.mark.parametrize(
    ("type", "array", "expected"),
    [
        (T.VARCHAR, np.array(["abc", "", "a"]), [b"abc", b"", b"a"]),
        (T.NCHAR, np.array(["涛", "ab"]), ["涛".encode(), b"ab"]),
        (T.NCHAR, np.array(["ab", "c", "de"])[::2], [b"ab", b"de"]),
        (T.VARCHAR, np.array([b"a\0b", b"\xff"]), [b"a\0b", b"\xff"]),
        (T.VARBINARY, np.array([b"ab", b""]), [b"ab", b""]),
        (T.VARCHAR, np.array([], "U3"), []),
        (T.VARCHAR, np.array(["a", None], object), [b"a", None]),
    ],
)
def test_arrays_of_strings(type, array, expected):
    assert made(field(type, 9), array) == expected


# Times.


@pytest.mark.parametrize(
    ("precision", "value", "ticks"),
    [
        (MS, NEW_YEAR, 1_704_067_200_000),
        (MS, NEW_YEAR + timedelta(microseconds=1999), 1_704_067_200_001),
        (US, NEW_YEAR + timedelta(microseconds=7), 1_704_067_200_000_007),
        (NS, NEW_YEAR + timedelta(microseconds=7), 1_704_067_200_000_007_000),
        (MS, datetime(2024, 1, 1, 8, tzinfo=timezone(timedelta(hours=8))), 1_704_067_200_000),
        (MS, datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), -1),
        (US, datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), 253_402_300_799_999_999),
        (US, datetime(1, 1, 1, tzinfo=UTC), -62_135_596_800_000_000),
        (MS, -5, -5),
        (MS, np.int64(5), 5),
        (MS, np.datetime64("2024-01-01"), 1_704_067_200_000),
        (MS, np.datetime64("1969-12-31T23:59:59.999999999"), -1),
        (US, np.datetime64("2024-01-01T00:00:00.000007999"), 1_704_067_200_000_007),
        (NS, np.datetime64("2024-01-01T00:00:00.000000007"), 1_704_067_200_000_000_007),
        (NS, np.datetime64(2, "h"), 7_200_000_000_000),
        (NS, np.datetime64(5_999, "ps"), 5),
        (NS, np.datetime64(3, "10us"), 30_000),
    ],
)
def test_times(precision, value, ticks):
    described = field(T.TIMESTAMP, 8, precision)
    assert made(described, [value]) == [ticks]
    assert made(described, [value, 1, None]) == [ticks, 1, None]  # of several types
    assert ticks_of(value, precision) == ticks
    if isinstance(value, np.datetime64):
        assert made(described, np.array([value])) == [ticks]


def test_nanoseconds_of_a_pandas_timestamp():
    pandas = pytest.importorskip("pandas")
    values = [pandas.Timestamp("2024-01-01T00:00:00.000000009Z"), None]
    assert made(field(T.TIMESTAMP, 8, NS), values) == [1_704_067_200_000_000_009, None]


def test_not_a_time_in_an_array_is_null():
    times = np.array(["2024-01-01", "NaT", "2024-01-02"], "M8[s]")
    described = field(T.TIMESTAMP)
    assert made(described, times) == [1_704_067_200_000, None, 1_704_153_600_000]
    masked = np.ma.masked_array(times, [True, False, False])
    assert made(described, masked) == [None, None, 1_704_153_600_000]


# What is refused.

NO_TIME = "of TIMESTAMP: expected an aware datetime, a datetime64 or integer ticks"
NO_ZONE = "has no time zone: expected an aware datetime"
NAIVE = datetime(2024, 1, 1)
TS, TS_NS = field(T.TIMESTAMP), field(T.TIMESTAMP, 8, NS)
V2, N1, B2 = field(T.VARCHAR, 2), field(T.NCHAR, 1), field(T.VARBINARY, 2)
BAD_VALUES = [
    (field(T.INT), [1, "2"], 1, "'2' is not a value of INT"),
    (field(T.INT), [1.0], 0, "1.0 is not a value of INT"),
    (field(T.INT), [float("nan")], 0, "nan is not a value of INT"),
    (field(T.INT), [None, b"x"], 1, "b'x' is not a value of INT"),
    (field(T.INT), np.array([1.0]), 0, "1.0 is not a value of INT"),
    (field(T.INT), [10**5000], 0, "<int> is not a value of INT"),
    (field(T.BOOL), [True, 2], 1, "2 is not a value of BOOL: expected True or False"),
    (field(T.BOOL), [-1], 0, "-1 is not a value of BOOL"),
    (field(T.BOOL), ["true"], 0, "'true' is not a value of BOOL"),
    (field(T.BOOL), np.array([1, 2]), 1, "2 is not a value of BOOL"),
    (field(T.FLOAT), [1.0, 1e39], 1, "1e+39 is not a value of FLOAT"),
    (field(T.FLOAT), np.array([1.0, -1e39]), 1, "-1e+39 is not a value of FLOAT"),
    (field(T.DOUBLE), ["1"], 0, "'1' is not a value of DOUBLE"),
    (field(T.DOUBLE), [10**400], 0, f"1{'0' * 58}… is not a value of DOUBLE"),
    (V2, [1], 0, "1 is not a value of VARCHAR(2): expected str"),
    (V2, ["\ud800"], 0, r"'\ud800' is not a value of VARCHAR(2)"),
    (V2, ["ab", "涛"], 1, "'涛' has 3 bytes, more than VARCHAR(2) takes"),
    (V2, np.array(["ab", "abc"]), 1, "'abc' has 3 bytes, more than VARCHAR(2) takes"),
    (V2, [b"\xffab"], 0, "'\ufffdab' has 3 bytes, more than VARCHAR(2) takes"),
    (N1, ["涛", None, "ab"], 2, "'ab' has 2 characters, more than NCHAR(1) takes"),
    (N1, ["𝄞", "𝄞𝄞"], 1, "'𝄞𝄞' has 2 characters, more than NCHAR(1) takes"),
    (N1, ["e\u0301"], 0, "'e\u0301' has 2 characters, more than NCHAR(1) takes"),
    (N1, ["a", "\ud800"], 1, r"'\ud800' cannot be sent as UTF-8"),
    (N1, [b"a"], 0, "b'a' is not a value of NCHAR(1): expected str"),
    (N1, np.array([b"a"]), 0, "b'a' is not a value of NCHAR(1): expected str"),
    (B2, [b"abc"], 0, "b'abc' has 3 bytes, more than VARBINARY(2) takes"),
    (B2, ["ab"], 0, "'ab' is not a value of VARBINARY(2): expected bytes"),
    (B2, np.array(["ab"]), 0, "'ab' is not a value of VARBINARY(2): expected bytes"),
    (field(T.JSON, 9), [1], 0, "1 is not a value of JSON: expected its text or a dict"),
    (
        field(T.JSON, 9),
        [{None: 1}],
        0,
        "{None: 1} is not JSON: Only dicts with str-like or number-like keys are supported",
    ),
    (field(T.JSON, 4), ['{"a":1}'], 0, """'{"a":1}' has 7 bytes, more than JSON takes"""),
    (field(T.NULL), [None, 1], 1, "1 is not a value of NULL"),
    (TS, [True], 0, f"True is not a value {NO_TIME}"),
    (TS, ["2024"], 0, f"'2024' is not a value {NO_TIME}"),
    (TS, np.array([1.5]), 0, f"1.5 is not a value {NO_TIME}"),
    (TS, np.array([True]), 0, f"True is not a value {NO_TIME}"),
    (TS, [2**63], 0, "9223372036854775808 is not a value of TIMESTAMP"),
    (TS, np.array([2**63], "u8"), 0, "9223372036854775808 is not a value of TIMESTAMP"),
    (TS, [NEW_YEAR, NAIVE], 1, f"datetime.datetime(2024, 1, 1, 0, 0) {NO_ZONE}"),
    (TS, [1, NAIVE], 1, f"datetime.datetime(2024, 1, 1, 0, 0) {NO_ZONE}"),
    (
        TS,
        [np.datetime64("NaT", "s")],
        0,
        "np.datetime64('NaT','s') is not a value of TIMESTAMP: expected None for NULL",
    ),
    (
        TS_NS,
        [0, np.datetime64("2300-01-01")],
        1,
        "np.datetime64('2300-01-01') is not a value of TIMESTAMP",
    ),
    (
        TS_NS,
        np.array(["2024-01-01", "0001-01-01"], "M8[D]"),
        1,
        "np.datetime64('0001-01-01') is not a value of TIMESTAMP",
    ),
    (
        TS_NS,
        [datetime(2300, 1, 1, tzinfo=UTC)],
        0,
        "datetime.datetime(2300, 1, 1, 0, 0, tzinfo=datetime.timezon… is not a value of TIMESTAMP",
    ),
]


@pytest.mark.parametrize(
    ("described", "values", "row", "problem"), BAD_VALUES, ids=[case[3] for case in BAD_VALUES]
)
def test_bad_values(described, values, row, problem):
    with pytest.raises(DataError) as caught:
        bind_column(described, values)
    assert str(caught.value) == f"column 'c', row {row}: {problem}"
    assert (caught.value.column, caught.value.row) == ("c", row)


BAD_DECIMALS = [
    ("1.234", ""),
    (100, ""),
    ("x", ""),
    (Decimal("NaN"), ""),
    ("-Infinity", ""),
    ("1e999999", ""),
    (1.5, ": expected Decimal, int or str"),
    (True, ": expected Decimal, int or str"),
]


@pytest.mark.parametrize(("value", "hint"), BAD_DECIMALS)
@pytest.mark.parametrize("make", [make_column, bind_column])
def test_bad_decimals(make, value, hint):
    with pytest.raises(DataError) as caught:
        make(field(T.DECIMAL64, 8, 4, 2), ["1.2", None, value])
    expected = f"column 'c', row 2: {value!r} is not a value of DECIMAL(4,2){hint}"
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("value", "hint"),
    [*BAD_DECIMALS[2:6], ("1e-77", ""), *BAD_DECIMALS[6:]],
)
def test_bad_decimals_of_unknown_digits(value, hint):
    with pytest.raises(DataError) as caught:
        bind_column(field(T.DECIMAL), [1, value])
    assert str(caught.value) == f"column 'c', row 1: {value!r} is not a value of DECIMAL{hint}"


def test_a_bad_tag_is_called_a_tag():
    tag = StatementField("place", FieldKind.TAG, T.NCHAR, 2)
    with pytest.raises(DataError, match=r"^tag 'place', row 0: 'abc' has 3 characters"):
        bind_column(tag, ["abc"])


@pytest.mark.parametrize("values", [5, "ab", b"ab", None, {1, 2}, iter([1])], ids=repr)
def test_no_column(values):
    with pytest.raises(StatementError) as caught:
        bind_column(field(T.VARCHAR, 9), values)
    expected = "column 'c': expected a list, a numpy array or an Arrow array of values, got "
    assert str(caught.value) == expected + type(values).__name__


def test_arrays_of_two_dimensions():
    with pytest.raises(DataError, match=r"^column 'c' is an array of 2 dimensions$"):
        bind_column(field(T.INT), np.zeros((2, 2), "i4"))


@pytest.mark.parametrize("value", ["2024", None, 1.5, True, datetime(2024, 1, 1)], ids=repr)
def test_no_ticks(value):
    with pytest.raises(DataError, match=r"^timestamp: .*expected an aware datetime"):
        ticks_of(value, MS)


def test_ticks_out_of_reach():
    with pytest.raises(DataError, match="2300-01-01"):
        ticks_of(np.datetime64("2300-01-01"), NS)


# Cutting, reordering, joining.

BYTES = st.none() | st.binary(max_size=5)
NUMBERS = st.none() | st.integers(-(2**63), 2**63 - 1)


@settings(max_examples=150, deadline=None)
@given(st.lists(BYTES, max_size=8) | st.lists(NUMBERS, max_size=8), st.data())
def test_cut_and_take(values, data):
    described = field(T.VARBINARY if any(type(v) is bytes for v in values) else T.BIGINT)
    column = make_column(described, values)
    first = data.draw(st.integers(0, len(values)))
    last = data.draw(st.integers(first, len(values)))
    assert content(column.cut(slice(first, last))) == values[first:last]
    order = data.draw(
        st.lists(st.integers(0, len(values) - 1), max_size=8) if values else st.just([])
    )
    assert content(column.take(np.array(order, np.intp))) == [values[row] for row in order]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(BYTES, max_size=4), min_size=1, max_size=4))
def test_concatenate_variable(parts):
    columns = [make_column(field(T.VARBINARY), part) for part in parts]
    assert content(concatenate(columns)) == list(chain(*parts))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(NUMBERS, max_size=4), min_size=1, max_size=4))
def test_concatenate_fixed(parts):
    columns = [make_column(field(T.BIGINT), part) for part in parts]
    assert content(concatenate(columns)) == list(chain(*parts))


# Round trips against the standard library.


@settings(max_examples=150, deadline=None)
@given(st.lists(st.datetimes(timezones=st.just(UTC)), max_size=4), st.sampled_from([MS, US]))
def test_datetimes(values, precision):
    unit = timedelta(microseconds=1000 if precision is MS else 1)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    expected = [(value - epoch) // unit for value in values]
    assert made(field(T.TIMESTAMP, 8, precision), values) == expected


@settings(max_examples=150, deadline=None)
@given(st.lists(st.none() | st.text(st.characters(codec="utf-8"), max_size=5), max_size=5))
def test_texts(values):
    expected = [None if value is None else value.encode() for value in values]
    assert made(field(T.NCHAR, 5), values) == expected
    assert made(field(T.VARCHAR, 20), np.array(values, object)) == expected


@settings(max_examples=150, deadline=None)
@given(st.lists(st.none() | st.decimals(-99, 99, places=3), max_size=5))
def test_decimals(values):
    expected = [None if value is None else int(value * 1000) for value in values]
    assert content(make_column(field(T.DECIMAL64, 8, 5, 3), values)) == expected


@pytest.mark.parametrize(
    "times",
    [np.array([2**62], "M8[D]"), np.array([2**61], "M8[10us]"), [np.datetime64(2**62, "h")]],
    ids=["days", "tens of microseconds", "a scalar"],
)
def test_times_beyond_64_bits(times):
    with pytest.raises(DataError, match=r"column 'c', row 0: .* is not a value of TIMESTAMP"):
        make_column(field(T.TIMESTAMP), times)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (T.DOUBLE, [Decimal("1e400")]),
        (T.DOUBLE, [np.datetime64(5, "ns")]),
        (T.DOUBLE, [np.timedelta64(5, "ns")]),
        (T.BIGINT, np.array([5], "m8[ns]")),
        (T.BIGINT, np.array([5], "m8[ms]")),
        (T.BIGINT, [np.timedelta64(5, "ns")]),
    ],
    ids=repr,
)
def test_what_turns_into_a_number_by_itself(kind, values):
    with pytest.raises(DataError, match="is not a value of"):
        make_column(field(kind), values)


@pytest.mark.parametrize("kind", [T.FLOAT, T.DOUBLE])
def test_infinity_and_nan_in_lists(kind):
    column = make_column(field(kind), [1.5, math.inf, -math.inf, math.nan])
    assert [str(value) for value in column.values.tolist()] == ["1.5", "inf", "-inf", "nan"]

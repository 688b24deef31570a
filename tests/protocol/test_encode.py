from __future__ import annotations

import math
import struct
import sys
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiotaos.errors import DataError
from aiotaos.protocol import frames, messages
from aiotaos.protocol.block import parse_block
from aiotaos.protocol.encode import encode_block
from aiotaos.protocol.rows import RowDecoder
from aiotaos.types import Field, Precision, TypeCode

T = TypeCode
INTEGERS = {
    T.TINYINT: ("b", -(2**7), 2**7 - 1),
    T.SMALLINT: ("h", -(2**15), 2**15 - 1),
    T.INT: ("i", -(2**31), 2**31 - 1),
    T.BIGINT: ("q", -(2**63), 2**63 - 1),
    T.TIMESTAMP: ("q", -(2**63), 2**63 - 1),
    T.UTINYINT: ("B", 0, 2**8 - 1),
    T.USMALLINT: ("H", 0, 2**16 - 1),
    T.UINT: ("I", 0, 2**32 - 1),
    T.UBIGINT: ("Q", 0, 2**64 - 1),
}


def field(type: TypeCode, length: int = 8, precision: int = 0, scale: int = 0) -> Field:
    return Field("c", type, length, precision, scale)


def body(type: TypeCode, values: object, *sizes: int) -> bytes:
    """What stands behind the header, the schema and the length of a block of one column."""
    block = encode_block([field(type, *sizes)], [values])
    assert struct.unpack_from("<ii", block, 4) == (len(block), len(values))
    return block[28 + 9 : -1]


def back(fields: list[Field], columns: list[object]) -> list[tuple[object, ...]]:
    block = parse_block(encode_block(fields, columns), fields=fields)
    return RowDecoder(fields, Precision.MILLISECOND, timestamp="int").rows(block)


# Layout

EXAMPLE_FIELDS = [
    Field("ts", T.TIMESTAMP, 8),
    Field("v", T.INT, 4),
    Field("s", T.VARCHAR, 10),
    Field("n", T.NCHAR, 10),
]
EXAMPLE_COLUMNS = [
    [1700000000000, 1700000000001],
    [-7, None],
    ["hello", None],
    ["é😀", ""],
]


def test_example_byte_for_byte(example):
    assert encode_block(EXAMPLE_FIELDS, EXAMPLE_COLUMNS) == example


def test_recorded_block_byte_for_byte(recording):
    """A block of the server's, decoded and made again, is the same."""
    received = recording("types_ms").frames("s>c")
    start = next(
        index
        for index, frame in enumerate(received)
        if isinstance(frame, str) and '"fields_count":16' in frame
    )
    reply = messages.parse(received[start], messages.QueryReply)
    raw = frames.parse_reply(received[start + 1]).block
    block = parse_block(raw, fields=reply.fields())
    decoder = RowDecoder(block.fields, block.precision, timestamp="int")
    made = encode_block(block.fields, decoder.columns(block))
    assert made == raw


def test_version_of_subscriptions(example):
    assert encode_block(EXAMPLE_FIELDS, EXAMPLE_COLUMNS, version=2) == b"\2" + example[1:]


@pytest.mark.parametrize(
    ("type", "sizes", "declared"),
    [
        (T.NULL, (0,), 0),
        (T.BOOL, (1,), 1),
        (T.BIGINT, (8,), 8),
        (T.VARCHAR, (64,), 66),
        (T.VARBINARY, (64,), 66),
        (T.GEOMETRY, (100,), 102),
        (T.NCHAR, (10,), 42),
        (T.JSON, (4095,), 16384),
        (T.BLOB, (4194304,), 4194308),
        (T.DECIMAL, (16, 20, 4), int.from_bytes(bytes.fromhex("04140010"), "little")),
        (T.DECIMAL64, (8, 10, 2), int.from_bytes(bytes.fromhex("020a0008"), "little")),
    ],
)
def test_schema(type, sizes, declared):
    block = encode_block([field(type, *sizes)], [[None]])
    assert struct.unpack_from("<bi", block, 28) == (type, declared)


@pytest.mark.parametrize("type", INTEGERS)
def test_integers(type):
    code, low, high = INTEGERS[type]
    assert body(type, [low, None, high]) == b"\x40" + struct.pack(f"<3{code}", low, 0, high)


def test_floats():
    assert body(T.FLOAT, [1.5, None, math.inf]) == b"\x40" + struct.pack("<3f", 1.5, 0, math.inf)
    top = sys.float_info.max
    assert body(T.DOUBLE, [top, 5e-324, 3]) == b"\0" + struct.pack("<3d", top, 5e-324, 3)


def test_booleans():
    assert body(T.BOOL, [True, False, None]) == b"\x20\1\0\0"


def test_decimals():
    values = [Decimal("1234.5678"), Decimal("-0.0001"), None, 3]
    assert body(T.DECIMAL, values, 16, 20, 4) == (
        b"\x20" + bytes.fromhex("4e61bc00") + bytes(12) + b"\xff" * 16 + bytes(16)
        + (30000).to_bytes(16, "little")
    )  # fmt: skip
    assert body(T.DECIMAL64, [Decimal("-1.50")], 8, 10, 2) == b"\0" + struct.pack("<q", -150)


def test_nulls_without_type():
    assert body(T.NULL, [None] * 9, 0) == b"\xff\x80"


def test_texts_and_bytes():
    assert body(T.VARCHAR, ["é", None, ""]) == (
        struct.pack("<3i", 0, -1, 4) + b"\2\0" + "é".encode() + b"\0\0"
    )
    assert body(T.NCHAR, ["é😀"]) == bytes.fromhex("00000000 0800 e9000000 00f60100")
    assert body(T.BLOB, [b"ab"]) == bytes.fromhex("00000000 02000000") + b"ab"
    for value in (b"ab", bytearray(b"ab"), memoryview(b"ab")):
        assert body(T.VARBINARY, [value]) == bytes.fromhex("00000000 0200") + b"ab"


def test_surrogates_give_the_bytes_back():
    raw = b"a\xff\xc3"
    assert body(T.VARCHAR, [raw.decode("utf-8", "surrogateescape")])[6:] == raw
    assert body(T.NCHAR, ["\ud800"])[6:] == struct.pack("<I", 0xD800)


def test_no_rows():
    fields = [Field(type.name, type, 8, 5, 2) for type in TypeCode]
    assert back(fields, [[] for _ in fields]) == []


# numpy


@pytest.mark.parametrize("type", [type for type in INTEGERS if type is not T.TIMESTAMP])
@pytest.mark.parametrize("dtype", ["i1", "u1", "<i2", ">i2", "<i8", "<u8", "?"])
def test_integer_arrays(type, dtype):
    code, *_ = INTEGERS[type]
    array = np.array([1, 0, 1], dtype)
    assert body(type, array) == b"\0" + struct.pack(f"<3{code}", 1, 0, 1)


@pytest.mark.parametrize(("type", "code"), [(T.FLOAT, "f"), (T.DOUBLE, "d")])
@pytest.mark.parametrize("dtype", ["f2", "<f4", "<f8", ">f8", "i4", "u8"])
def test_float_arrays(type, code, dtype):
    assert body(type, np.array([1, 3], dtype)) == b"\0" + struct.pack(f"<2{code}", 1, 3)


def test_arrays_keep_infinity_and_nan():
    array = np.array([math.inf, -math.inf, math.nan])
    assert back([field(T.FLOAT)], [array])[:2] == [(math.inf,), (-math.inf,)]
    assert math.isnan(back([field(T.FLOAT)], [array])[2][0])


def test_masked_arrays():
    array = np.ma.masked_array([1, 300, 3], [False, True, False])
    assert back([field(T.TINYINT)], [array]) == [(1,), (None,), (3,)]
    array = np.ma.masked_array([1.5, 1e300], [False, True])
    assert back([field(T.FLOAT)], [array]) == [(1.5,), (None,)]
    assert back([field(T.INT)], [np.ma.masked_array([1, 2])]) == [(1,), (2,)]


def test_arrays_of_objects():
    assert back([field(T.INT)], [np.array([1, None], object)]) == [(1,), (None,)]
    assert back([field(T.VARCHAR)], [np.array(["a", None], object)]) == [("a",), (None,)]
    assert back([field(T.VARCHAR)], [np.array(["a", "bc"])]) == [("a",), ("bc",)]
    masked = np.ma.masked_array(["a", "b"], [True, False])
    assert back([field(T.NCHAR)], [masked]) == [(None,), ("b",)]
    decimals = np.array([Decimal("1.5"), None], object)
    assert back([field(T.DECIMAL, 16, 20, 2)], [decimals]) == [(Decimal("1.50"),), (None,)]
    assert back([field(T.DECIMAL64, 8, 9, 2)], [np.array([3])]) == [(Decimal(3),)]
    assert back([field(T.NULL, 0)], [np.ma.masked_all(2)]) == [(None,), (None,)]


# Refusals

WRONG = [
    *[(type, (), high + 1) for type, (_, _, high) in INTEGERS.items()],
    *[(type, (), low - 1) for type, (_, low, _) in INTEGERS.items()],
    *[(type, (), 1.5) for type in INTEGERS],
    *[(type, (), "12") for type in INTEGERS],
    (T.INT, (), b"12"),
    (T.INT, (), Decimal(1)),
    (T.INT, (), math.nan),
    (T.INT, (), [1]),
    (T.INT, (), [1, 2]),
    (T.BIGINT, (), 10**40),
    (T.TIMESTAMP, (), True),
    (T.TIMESTAMP, (), np.datetime64("NaT", "s")),
    (T.BOOL, (), "true"),
    (T.BOOL, (), 0.5),
    (T.BOOL, (), 256),
    (T.FLOAT, (), 1e300),
    (T.FLOAT, (), "1.5"),
    (T.DOUBLE, (), 10**400),
    (T.DOUBLE, (), 1j),
    (T.DOUBLE, (), [1.0]),
    (T.NULL, (), 1),
    (T.VARCHAR, (), 1),
    (T.VARCHAR, (), "x" * 65536),
    (T.VARCHAR, (), "\ud800"),
    (T.NCHAR, (), "x" * 16384),
    (T.NCHAR, (), b"abcd"),
    (T.JSON, (), 1),
    (T.VARBINARY, (), bytes(65536)),
    (T.VARBINARY, (), 5),
    (T.GEOMETRY, (), object()),
    (T.BLOB, (), 1.5),
    (T.DECIMAL, (16, 38, 0), 10**38),
    (T.DECIMAL, (16, 38, 0), -(10**38)),
    (T.DECIMAL, (16, 20, 4), Decimal("12345678901234567.0000")),
    (T.DECIMAL, (16, 20, 4), Decimal("0.00001")),
    (T.DECIMAL, (16, 20, 4), Decimal("1." + "0" * 90 + "1")),
    (T.DECIMAL, (16, 20, 4), Decimal("NaN")),
    (T.DECIMAL, (16, 20, 4), Decimal("sNaN")),
    (T.DECIMAL, (16, 20, 4), Decimal("-Infinity")),
    (T.DECIMAL, (16, 20, 4), Decimal("1E+999999")),
    (T.DECIMAL, (16, 20, 4), Decimal("1E-999999")),
    (T.DECIMAL, (16, 20, 4), 1.5),
    (T.DECIMAL, (16, 20, 4), "one"),
    (T.DECIMAL, (16, 20, 4), True),
    (T.DECIMAL64, (8, 10, 2), Decimal("123456789.00")),
    (T.DECIMAL64, (8, 0, 0), 2**63),
]


def shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


@pytest.mark.parametrize(("type", "sizes", "value"), WRONG, ids=repr)
def test_wrong_values_are_named(type, sizes, value):
    target = field(type, *sizes)
    good = None
    with pytest.raises(DataError) as caught:
        encode_block([field(T.INT), target], [[1, 2, 3, 4], [good, good, value, value]])
    expected = f"column 'c', row 2: {shown(value)} is not a value of {target.type_name}"
    message = str(caught.value)
    assert message == expected or message.startswith(f"{expected}: expected ")
    assert (caught.value.column, caught.value.row) == ("c", 2)


@pytest.mark.parametrize(
    ("type", "array", "row", "value"),
    [
        (T.TINYINT, np.array([1, 128, 300]), 1, "128"),
        (T.TINYINT, np.array([1, -129], "i2"), 1, "-129"),
        (T.UTINYINT, np.array([-1], "i8"), 0, "-1"),
        (T.BIGINT, np.array([0, 2**63], "u8"), 1, str(2**63)),
        (T.UBIGINT, np.array([0, -1], "i8"), 1, "-1"),
        (T.INT, np.array([1.5]), 0, "1.5"),
        (T.INT, np.array([math.nan]), 0, "nan"),
        (T.FLOAT, np.array([0.5, 1e300]), 1, "1e+300"),
        (T.FLOAT, np.array([0.5, -1e300]), 1, "-1e+300"),
        (T.INT, np.array(["a"]), 0, "'a'"),
        (T.DOUBLE, np.array([1j]), 0, "1j"),
        (T.TINYINT, np.ma.masked_array([300, 400], [True, False]), 1, "400"),
        (T.INT, np.ma.masked_array([1.5, 2.5], [True, False]), 1, "2.5"),
        (T.DECIMAL, np.array([1.5]), 0, "1.5"),
        (T.NULL, np.array([7]), 0, "7"),
        (T.VARCHAR, np.array([7]), 0, "7"),
    ],
)
def test_wrong_values_in_arrays_are_named(type, array, row, value):
    with pytest.raises(DataError) as caught:
        encode_block([field(type, 8, 20, 4)], [array])
    assert str(caught.value).startswith(f"column 'c', row {row}: {value} is not a value of ")


def test_arrays_of_more_dimensions():
    with pytest.raises(DataError, match="column 'c' is an array of 2 dimensions"):
        encode_block([field(T.INT)], [np.zeros((2, 2), "i4")])


def test_value_too_long_to_print():
    with pytest.raises(DataError, match="row 0: <int> is not a value of BIGINT"):
        encode_block([field(T.BIGINT)], [[10**6000]])


class Moody(Decimal):
    """Refuses to be a float the first time."""

    asked = 0

    def __float__(self):
        self.asked += 1
        if self.asked == 1:
            raise ValueError
        return 1.0


def test_column_without_a_culprit():
    with pytest.raises(DataError, match="column 'c' cannot be encoded as DOUBLE"):
        encode_block([field(T.DOUBLE)], [[Moody(1)]])


def test_columns_of_different_lengths():
    fields = [Field("a", T.INT, 4), Field("b", T.INT, 4)]
    with pytest.raises(DataError, match="column 'b' has 1 values, the first column has 2"):
        encode_block(fields, [[1, 2], [1]])


def test_columns_and_fields_of_different_number():
    with pytest.raises(DataError, match="1 columns for 2 fields"):
        encode_block([field(T.INT), field(T.INT)], [[1]])


# Anything that was encoded is decoded

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["\0", "a\0", "\0a", "a\0\0b", "🚀", ""]
)
BYTES = st.binary(max_size=8)
ANY_POINT = st.text(max_size=8)  # with lone surrogates


def unscaled(digits: int, scale: int) -> st.SearchStrategy[Decimal]:
    top = 10**digits - 1
    return st.integers(-top, top).map(
        lambda value: Decimal((int(value < 0), tuple(map(int, str(abs(value)))), -scale))
    )


COLUMNS: list[tuple[Field, st.SearchStrategy[object]]] = [
    (field(T.NULL, 0), st.none()),
    (field(T.BOOL, 1), st.booleans()),
    *[(field(type), st.integers(low, high)) for type, (_, low, high) in INTEGERS.items()],
    (field(T.FLOAT, 4), st.floats(width=32, allow_nan=False)),
    (field(T.DOUBLE), st.floats(allow_nan=False)),
    (field(T.VARCHAR, 64), TEXT),
    (field(T.VARCHAR, 64), BYTES.map(lambda raw: raw.decode("utf-8", "surrogateescape"))),
    (field(T.NCHAR, 16), ANY_POINT),
    (field(T.JSON, 4095), TEXT.filter(lambda text: text != "null")),
    (field(T.VARBINARY, 64), BYTES),
    (field(T.GEOMETRY, 64), BYTES),
    (field(T.BLOB, 4194304), BYTES),
    (field(T.MEDIUMBLOB, 4194304), BYTES),
    (field(T.DECIMAL, 16, 38, 10), unscaled(38, 10)),
    (field(T.DECIMAL, 16, 19, 0), unscaled(19, 0)),
    (field(T.DECIMAL64, 8, 18, 18), unscaled(18, 18)),
]


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[Field], list[list[object]]]:
    chosen = draw(st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=6))
    rows = draw(st.integers(0, 20))
    columns = [
        draw(
            st.lists(
                st.one_of(values, values, values, st.none())
                if draw(st.booleans()) else values,
                min_size=rows,
                max_size=rows,
            )
        )
        for _, values in chosen
    ]  # fmt: skip
    return [field for field, _ in chosen], columns


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(tables())
def test_round_trip(table):
    fields, columns = table
    rows = back(fields, columns)
    assert rows == list(zip(*columns, strict=True))
    for row, original in zip(rows, zip(*columns, strict=True), strict=True):
        assert [type(value) for value in row] == [type(value) for value in original]
        assert list(map(repr, row)) == list(map(repr, original))


@pytest.mark.parametrize(("field", "values"), COLUMNS, ids=lambda given: repr(given)[:40])
@pytest.mark.parametrize("rows", [1, 8, 4096])
def test_round_trip_of_many_rows(field, values, rows):
    @settings(max_examples=1, deadline=None, database=None)
    @given(st.lists(values, min_size=7, max_size=7))
    def check(some: list[object]) -> None:
        column = [None if row % 11 == 3 else some[row % 7] for row in range(rows)]
        assert back([field], [column]) == [(value,) for value in column]

    check()

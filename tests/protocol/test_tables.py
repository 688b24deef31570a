"""Blocks as numpy arrays, Arrow, pandas and polars, against values that stand here."""

from __future__ import annotations

import gc
import importlib.resources
import math
import struct
import sys
import weakref
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Context, Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pandas.testing import assert_frame_equal
from polars.testing import assert_frame_equal as assert_polars_equal

from aiotaos.errors import DataError, InterfaceError
from aiotaos.protocol.block import Block, parse_block
from aiotaos.protocol.rows import RowDecoder
from aiotaos.protocol.tables import Tables, pandas_frame
from aiotaos.types import Field, Precision, TypeCode

MS, US, NS = Precision.MILLISECOND, Precision.MICROSECOND, Precision.NANOSECOND
WIDE = Context(prec=60)


class Kind(NamedTuple):
    """A type: nine values, and what columns of it are elsewhere."""

    type: TypeCode
    code: str  # of struct: of a value, or of the length prefix where the width varies
    values: list[Any]
    arrow: pa.DataType
    polars: Any
    numpy: str
    pandas: tuple[str, str]  # without and with NULLs
    nullable: str  # with dtype_backend="numpy_nullable"
    raw: Callable[[Any], Any] = lambda value: value
    declared: int = 0
    digits: tuple[int, int] = (0, 0)

    @property
    def field(self) -> Field:
        return Field("c", self.type, 8, *self.digits)


def integers(type: TypeCode, code: str, arrow: pa.DataType, polars: Any, nullable: str) -> Kind:
    limits = np.iinfo(str(arrow))
    low, high = int(limits.min), int(limits.max)
    values = [low, high, 0, 1, 7, 42, 100, high - 1, low + 1]
    return Kind(type, code, values, arrow, polars, str(arrow), (str(arrow), "float64"), nullable)


def texts(type: TypeCode, encoding: str, values: list[str]) -> Kind:
    def raw(text: str) -> bytes:
        return text.encode(encoding)

    kind = Kind(type, "<H", values, pa.string(), pl.String, "object", ("str", "str"), "string")
    return kind._replace(raw=raw)


def binaries(type: TypeCode, prefix: str) -> Kind:
    values = [b"", b"\0", b"\xff\xfe", b"text", b"a" * 300, b"", b"\x80", b"\0\0", b"end"]
    plain = ("object", "object")
    return Kind(type, prefix, values, pa.binary(), pl.Binary, "object", plain, "object")


def decimals(type: TypeCode, precision: int, scale: int, *values: str) -> Kind:
    def raw(value: Decimal) -> Any:
        unscaled = int(value.scaleb(scale, WIDE))
        if type is TypeCode.DECIMAL64:
            return unscaled
        return unscaled.to_bytes(16, "little", signed=True)

    return Kind(
        type,
        "q" if type is TypeCode.DECIMAL64 else "16s",
        list(map(Decimal, values)),
        pa.decimal128(precision, scale),
        pl.Decimal(precision, scale),
        "object",
        ("object", "object"),
        "object",
        raw,
        precision << 8 | scale,
        (precision, scale),
    )


def timestamps(unit: str) -> Kind:
    values = [0, -1, 1, 1_709_251_200_001, -2_208_988_800_000, 86_400_000, 10**12, -999, 999]
    shown = f"datetime64[{unit}, UTC]"
    return Kind(
        TypeCode.TIMESTAMP,
        "q",
        values,
        pa.timestamp(unit, "UTC"),
        pl.Datetime(unit, "UTC"),
        f"datetime64[{unit}]",
        (shown, shown),
        shown,
    )


ASCII = ["", "a", "1 2", "\0", "x" * 99, "~", "\n", '"', "end"]
UNICODE = ["", "a", "naïve", "涛思", "🚀", "\U0010ffff", "\0é\0", "é" * 50, "\ufeff|\u2028"]
JSON = ['{"a":1}', '""', "[]", '"null"', "true", "nule", "0.50", '{"a":"涛 🚀"}', " null"]
POINT = struct.pack("<BIdd", 1, 1, 1.0, -2.5)
BOOLS = [True, False, True, True, False, False, True, False, True]
FLOATS = [-0.0, 0.1, 5e-324, 1.5, -1e308, math.inf, -math.inf, 1e300, 3.0]
REALS = [-0.0, 0.5, 2.0**-149, 1.5, -(2.0**127), math.inf, -math.inf, 0.25, 3.0]
NINES = ["0.00", "-0.01", f"{'9' * 36}.99", f"-{'9' * 36}.99", "1.00", f"{2**64}.00"]
NINES += [f"-{2**64}.01", "-1.00", "0.01"]
SHORT = ["0.000", "-0.001", "1.500", "-1.500", "9" * 15 + ".999", "-" + "9" * 15 + ".999"]
SHORT += ["4294967.296", "-4294967.297", "0.010"]
PLAIN = ("float32", "float32"), ("float64", "float64")

KINDS = {
    "NULL": Kind(
        TypeCode.NULL, "0s", [None] * 9, pa.null(), pl.Null, "object", ("object",) * 2, "object"
    ),
    "BOOL": Kind(
        TypeCode.BOOL, "B", BOOLS, pa.bool_(), pl.Boolean, "bool", ("bool", "object"), "boolean"
    ),
    "TINYINT": integers(TypeCode.TINYINT, "b", pa.int8(), pl.Int8, "Int8"),
    "SMALLINT": integers(TypeCode.SMALLINT, "h", pa.int16(), pl.Int16, "Int16"),
    "INT": integers(TypeCode.INT, "i", pa.int32(), pl.Int32, "Int32"),
    "BIGINT": integers(TypeCode.BIGINT, "q", pa.int64(), pl.Int64, "Int64"),
    "UTINYINT": integers(TypeCode.UTINYINT, "B", pa.uint8(), pl.UInt8, "UInt8"),
    "USMALLINT": integers(TypeCode.USMALLINT, "H", pa.uint16(), pl.UInt16, "UInt16"),
    "UINT": integers(TypeCode.UINT, "I", pa.uint32(), pl.UInt32, "UInt32"),
    "UBIGINT": integers(TypeCode.UBIGINT, "Q", pa.uint64(), pl.UInt64, "UInt64"),
    "FLOAT": Kind(
        TypeCode.FLOAT, "f", REALS, pa.float32(), pl.Float32, "float32", PLAIN[0], "Float32"
    ),
    "DOUBLE": Kind(
        TypeCode.DOUBLE, "d", FLOATS, pa.float64(), pl.Float64, "float64", PLAIN[1], "Float64"
    ),
    "VARCHAR": texts(TypeCode.VARCHAR, "utf-8", UNICODE),
    "VARCHAR, ASCII": texts(TypeCode.VARCHAR, "utf-8", ASCII),
    "NCHAR": texts(TypeCode.NCHAR, "utf-32-le", UNICODE),
    "NCHAR, ASCII": texts(TypeCode.NCHAR, "utf-32-le", ASCII),
    "JSON": texts(TypeCode.JSON, "utf-8", JSON),
    "VARBINARY": binaries(TypeCode.VARBINARY, "<H"),
    "GEOMETRY": binaries(TypeCode.GEOMETRY, "<H")._replace(values=[POINT, b"", POINT] * 3),
    "BLOB": binaries(TypeCode.BLOB, "<I"),
    "MEDIUMBLOB": binaries(TypeCode.MEDIUMBLOB, "<I"),
    "DECIMAL": decimals(TypeCode.DECIMAL, 38, 2, *NINES),
    "DECIMAL64": decimals(TypeCode.DECIMAL64, 18, 3, *SHORT),
    "TIMESTAMP, ms": timestamps("ms"),
    "TIMESTAMP, us": timestamps("us"),
    "TIMESTAMP, ns": timestamps("ns"),
}
PATTERNS: dict[str, Callable[[list[Any]], list[Any]]] = {
    "no NULL": lambda values: values,
    "some NULL": lambda values: [None, *values[1:4], None, *values[5:8], None],
    "all NULL": lambda values: [None] * 9,
    "no rows": lambda values: [],
    "one row": lambda values: values[3:4],
    "one NULL": lambda values: [None],
    "eight rows": lambda values: values[:8],
    "eight rows and NULLs": lambda values: [*values[:7], None],
    "many rows": lambda values: [*values, None] * 20,
}
UNITS = {"ms": MS, "us": US, "ns": NS}


def precision_of(kind: Kind) -> Precision:
    return UNITS.get(getattr(kind.arrow, "unit", "us"), US)


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


@pytest.fixture(params=PATTERNS)
def values(request, kind):
    return PATTERNS[request.param](kind.values)


@pytest.fixture
def body(fixed, variable, raw_column):
    """The column of a block, made with struct alone."""

    def make(kind, values):
        raw = [None if value is None else kind.raw(value) for value in values]
        if kind.type is TypeCode.NULL:
            return raw_column(0, 0, bytes((len(values) + 7) // 8), b"")
        if kind.code.startswith("<"):
            return variable(kind.type, raw, prefix=kind.code)
        return fixed(kind.type, kind.code, raw, declared=kind.declared)

    return make


@pytest.fixture
def block_of(body, raw_block):
    def make(kind, values, **options) -> Block:
        raw = raw_block([body(kind, values)], len(values))
        options = {"fields": [kind.field], "precision": precision_of(kind)} | options
        return parse_block(raw, **options)

    return make


@pytest.fixture
def block(kind, values, block_of):
    return block_of(kind, values)


@pytest.fixture
def no_pyarrow(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)


def arrow_field(kind: Kind) -> pa.Field:
    metadata = {"ARROW:extension:name": "geoarrow.wkb", "ARROW:extension:metadata": "{}"}
    return pa.field("c", kind.arrow, metadata=metadata if kind.type == TypeCode.GEOMETRY else None)


def polars_frame(kind: Kind, values: list[Any]) -> pl.DataFrame:
    if kind.type is TypeCode.TIMESTAMP:
        return pl.DataFrame({"c": pl.Series(values, dtype=pl.Int64).cast(kind.polars)})
    return pl.DataFrame({"c": pl.Series(values, dtype=kind.polars)})


# Every type.


def test_numpy(kind, values, block):
    [(name, array)] = block.to_numpy().items()
    assert name == "c"
    assert array.shape == (len(values),)
    assert array.dtype == kind.numpy
    assert isinstance(array, np.ma.MaskedArray) == (None in values or kind.type is TypeCode.NULL)
    if None in values:
        assert array.mask.tolist() == [value is None for value in values]
    if kind.type is TypeCode.TIMESTAMP:
        array = array.astype("i8")
    assert repr(array.tolist()) == repr(values)


def test_arrow(kind, values, block):
    batch = block.to_arrow()
    batch.validate(full=True)
    assert batch.schema.equals(pa.schema([arrow_field(kind)]), check_metadata=True)
    expected = pa.array(values, kind.arrow)
    assert batch.column(0).equals(expected)
    assert batch.column(0).null_count == values.count(None)
    if kind.type is not TypeCode.TIMESTAMP:
        assert repr(batch.column(0).to_pylist()) == repr(values)
    assert pa.record_batch(block).equals(batch)
    assert pa.schema(block).equals(batch.schema, check_metadata=True)


NULLABLE = {
    pa.bool_(): pd.BooleanDtype(),
    pa.int8(): pd.Int8Dtype(),
    pa.int16(): pd.Int16Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.uint8(): pd.UInt8Dtype(),
    pa.uint16(): pd.UInt16Dtype(),
    pa.uint32(): pd.UInt32Dtype(),
    pa.uint64(): pd.UInt64Dtype(),
    pa.float32(): pd.Float32Dtype(),
    pa.float64(): pd.Float64Dtype(),
    pa.string(): pd.StringDtype(),
}
MAPPERS = {None: None, "numpy_nullable": NULLABLE.get, "pyarrow": pd.ArrowDtype}


@pytest.mark.parametrize("backend", MAPPERS)
def test_pandas(kind, values, block, backend):
    frame = block.to_pandas(dtype_backend=backend)
    table = pa.table({"c": pa.array(values, kind.arrow)})
    assert_frame_equal(frame, table.to_pandas(types_mapper=MAPPERS[backend]))
    if backend is None and values:
        assert str(frame.dtypes["c"]) == kind.pandas[None in values] or set(values) == {None}
    if backend == "numpy_nullable":
        assert str(frame.dtypes["c"]) == kind.nullable
    if backend == "pyarrow":
        assert frame.dtypes["c"] == pd.ArrowDtype(kind.arrow)
        if kind.type is not TypeCode.TIMESTAMP:
            assert frame["c"].array.__arrow_array__().to_pylist() == values


def test_polars(kind, values, block):
    frame = block.to_polars()
    assert_polars_equal(frame, polars_frame(kind, values), check_exact=True)
    if kind.type is not TypeCode.TIMESTAMP:
        assert repr(frame["c"].to_list()) == repr(values)


def test_polars_without_pyarrow(kind, values, block, no_pyarrow):
    frame = block.to_polars()
    assert_polars_equal(frame, polars_frame(kind, values), check_exact=True)
    assert frame.schema == {"c": kind.polars}
    if kind.type is not TypeCode.TIMESTAMP:
        assert repr(frame["c"].to_list()) == repr(values)


def test_rows_say_the_same(kind, values, block):
    decoder = RowDecoder(block.fields, block.precision, timestamp="int")
    assert repr(decoder.rows(block)) == repr([(value,) for value in values])


PRIMITIVES = [
    kind.arrow
    for kind in KINDS.values()
    if pa.types.is_integer(kind.arrow)
    or pa.types.is_floating(kind.arrow)
    or pa.types.is_temporal(kind.arrow)
    or pa.types.is_decimal(kind.arrow)
]


@pytest.mark.parametrize("shift", range(16))
def test_blocks_that_are_not_aligned(body, raw_block, shift):
    """All types side by side, at every address; a block is as aligned as the frame it is in."""
    kinds = [kind for kind in KINDS.values() if precision_of(kind) is US]
    values = [PATTERNS["some NULL"](kind.values) for kind in kinds]
    raw = raw_block([body(kind, each) for kind, each in zip(kinds, values, strict=True)], 9)
    fields = [replace(kind.field, name=str(place)) for place, kind in enumerate(kinds)]
    buffer = bytearray(64 + len(raw))
    start = -np.frombuffer(buffer, np.uint8).__array_interface__["data"][0] % 16 + shift
    buffer[start : start + len(raw)] = raw
    view = memoryview(buffer)[start : start + len(raw)]
    block = parse_block(view, fields=fields, precision=US)
    batch = block.to_arrow()
    batch.validate(full=True)
    for column, kind, each in zip(batch.columns, kinds, values, strict=True):
        assert column.equals(pa.array(each, kind.arrow))
        if kind.arrow in PRIMITIVES:
            assert column.buffers()[1].address % kind.arrow.byte_width == 0
    assert [column.to_list() for column in block.to_polars()[["0", "1"]]] == values[:2]


# Arrays are views where they can be.


@pytest.mark.parametrize("shift", range(8))
def test_numbers_are_views_where_they_are_aligned(raw_block, fixed, shift):
    raw = raw_block([fixed(5, "q", [1, 2, 3])], 3)
    buffer = bytearray(64 + len(raw))
    whole = np.frombuffer(buffer, np.uint8)
    begin = whole.__array_interface__["data"][0]
    start = (-begin - (len(raw) - 25)) % 8 + shift  # 25: the values and the byte behind them
    buffer[start : start + len(raw)] = raw
    block = parse_block(memoryview(buffer)[start : start + len(raw)])
    [column] = block.to_arrow().columns
    assert column.to_pylist() == [1, 2, 3]
    inside = begin <= column.buffers()[1].address < begin + len(buffer)
    assert inside == (shift == 0)
    [array] = block.to_numpy().values()
    assert np.shares_memory(array, whole)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


class Buffer(bytearray):
    """One that tells whether it is still there."""


def plain_dict(made: Any) -> dict[str, Any]:
    if isinstance(made, dict):
        return {name: array.tolist() for name, array in made.items()}
    return made.to_pydict() if isinstance(made, pa.RecordBatch) else made.to_dict(as_series=False)


@pytest.mark.parametrize("form", ["numpy", "arrow", "polars"])
def test_what_is_made_of_a_block_outlives_it(raw_block, fixed, variable, form):
    columns = [fixed(4, "i", list(range(99))), variable(16, [b"\xff" * 50] * 99)]
    fields = [
        Field("v", TypeCode.INT, 4),
        Field("b", TypeCode.VARBINARY, 50),
        Field("w", TypeCode.BIGINT, 8),
    ]
    raw = Buffer(raw_block([*columns, fixed(5, "q", [None, *range(98)])], 99))
    alive = weakref.ref(raw)
    block = parse_block(raw, fields=fields)
    made = getattr(block, f"to_{form}")()
    del raw, block
    gc.collect()
    assert plain_dict(made) == {
        "v": list(range(99)),
        "b": [b"\xff" * 50] * 99,
        "w": [None, *range(98)],
    }
    del made
    gc.collect()
    assert alive() is None


def test_arrays_alone_keep_the_buffer(raw_block, fixed):
    buffer = Buffer(bytes(8) + raw_block([fixed(2, "b", list(range(100)))], 100))
    alive = weakref.ref(buffer)
    column = parse_block(memoryview(buffer)[8:]).to_arrow().column(0)
    del buffer
    gc.collect()
    assert alive() is not None
    assert column.to_pylist() == list(range(100))
    part = column.slice(90)
    del column
    gc.collect()
    assert part.to_pylist() == list(range(90, 100))
    del part
    gc.collect()
    assert alive() is None


# NaN.


def test_not_a_number_is_no_null(block_of, no_pyarrow):
    for kind in (KINDS["FLOAT"], KINDS["DOUBLE"]):
        block = block_of(kind, [math.nan, None, 1.5])
        assert repr(block.to_polars()["c"].to_list()) == "[nan, None, 1.5]"
        assert repr(block.to_numpy()["c"].tolist()) == "[nan, None, 1.5]"


def test_not_a_number_is_no_null_in_arrow(block_of):
    for kind in (KINDS["FLOAT"], KINDS["DOUBLE"]):
        block = block_of(kind, [math.nan, None, 1.5])
        assert repr(block.to_arrow()["c"].to_pylist()) == "[nan, None, 1.5]"
        assert repr(block.to_polars()["c"].to_list()) == "[nan, None, 1.5]"


# BOOL.


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 15, 16, 17, 65])
def test_bools_across_bytes(rows, block_of):
    values = [(None, True, False, True, True)[row % 5] for row in range(rows)]
    batch = block_of(KINDS["BOOL"], values).to_arrow()
    batch.validate(full=True)
    assert batch["c"].to_pylist() == values


def test_bools_that_are_not_one(fixed, raw_block):
    block = parse_block(raw_block([fixed(1, "B", [0, 1, 2, 255, None], garbage=0xFF)], 5))
    assert block.to_arrow().column(0).to_pylist() == [False, True, True, True, None]
    assert block.to_numpy()[""].tolist() == [False, True, True, True, None]


# Times.


INSTANTS = [datetime(2024, 3, 10, 6, 59, 59, tzinfo=UTC), datetime(1901, 1, 1, tzinfo=UTC)]


def zones():
    with importlib.resources.files("tzdata.zoneinfo").joinpath("Europe/Vienna").open("rb") as file:
        keyless = ZoneInfo.from_file(file)
    with importlib.resources.files("tzdata.zoneinfo").joinpath("Europe/Vienna").open("rb") as file:
        local = ZoneInfo.from_file(file, key="localtime")
    return {
        "New York": (ZoneInfo("America/New_York"), "America/New_York"),
        "UTC": (UTC, "UTC"),
        "UTC by name": (ZoneInfo("UTC"), "UTC"),
        "fixed": (timezone(timedelta(hours=5, minutes=30)), "UTC"),
        "without a key": (keyless, "UTC"),
        "localtime": (local, "UTC"),
    }


@pytest.mark.parametrize("zone", zones())
@pytest.mark.parametrize("precision", [MS, US, NS])
def test_zones(block_of, zone, precision, monkeypatch):
    tz, name = zones()[zone]
    per_second = precision.ticks_per_second
    ticks = [int(instant.timestamp()) * per_second for instant in INSTANTS]
    block = block_of(timestamps(precision.unit), [*ticks, None])
    block.decoded_by(RowDecoder(block.fields, precision, tz))
    batch = block.to_arrow()
    assert batch.schema.field("c").type == pa.timestamp(precision.unit, name)
    for table in (batch, block.to_pandas()):
        found = [table["c"][place] for place in range(2)]
        shown = [pd.Timestamp(one.as_py() if table is batch else one) for one in found]
        assert shown == INSTANTS
        assert {str(one.tz) for one in shown} == {name}
    frame = block.to_polars()
    assert frame.schema == {"c": pl.Datetime(precision.unit, name)}
    assert frame["c"].dt.convert_time_zone("UTC").to_list() == [*INSTANTS, None]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pyarrow", None)
        assert_polars_equal(block.to_polars(), frame)
    array = block.to_numpy()["c"]
    assert array.dtype == f"M8[{precision.unit}]"
    assert array[0] == np.datetime64("2024-03-10T06:59:59", precision.unit)


def test_times_that_a_datetime_cannot_hold(block_of):
    ticks = [2**63 - 1, -(2**63) + 1, None]
    for unit in UNITS:
        block = block_of(timestamps(unit), ticks)
        assert block.to_arrow()["c"].cast(pa.int64()).to_pylist() == ticks
        assert block.to_polars()["c"].cast(pl.Int64).to_list() == ticks
        assert block.to_numpy()["c"].astype("i8").tolist() == ticks


# Text that is not Unicode.


NOT_UTF8 = [b"\xff", b"\xc3", b"\x80", b"\xed\xa0\x80", b"a\xffb", b"\xf4\x90\x80\x80", b"\xc0\x80"]
NOT_UTF32 = [0xD800, 0xDFFF, 0x110000, 0xFFFFFFFF]
BESIDE = [[], [b""], [None], [b"ok", None]]


@pytest.mark.parametrize("text", NOT_UTF8)
@pytest.mark.parametrize("beside", BESIDE)
@pytest.mark.parametrize("type", [TypeCode.VARCHAR, TypeCode.JSON])
def test_text_that_is_not_utf8(text, beside, type, variable, raw_block, monkeypatch):
    raw = raw_block([variable(type, [text, *beside])], 1 + len(beside))
    block = parse_block(raw, fields=[Field("c", type, 9)])
    for convert in (block.to_arrow, block.to_pandas, block.to_polars):
        with pytest.raises(DataError, match="column 'c' has a text that is not Unicode"):
            convert()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(DataError, match="column 'c' has a text that is not Unicode"):
            block.to_polars()
    assert block.to_numpy()["c"][0].encode("utf-8", "surrogateescape") == text


@pytest.mark.parametrize("character", ["é", "涛", "🚀"])
@pytest.mark.parametrize("between", [[], [b""], [None]])
def test_a_character_that_two_values_share(character, between, variable, raw_block):
    encoded = character.encode()
    for cut in range(1, len(encoded)):
        values = [b"a" + encoded[:cut], *between, encoded[cut:] + b"b"]
        block = parse_block(raw_block([variable(8, values)], len(values)))
        with pytest.raises(DataError, match="not Unicode"):
            block.to_arrow()
    values = [b"a" + encoded, *between, encoded + b"b"]
    block = parse_block(raw_block([variable(8, values)], len(values)))
    expected = [None if value is None else value.decode() for value in values]
    assert block.to_arrow().column(0).to_pylist() == expected


@pytest.mark.parametrize("point", NOT_UTF32)
@pytest.mark.parametrize("beside", BESIDE[:3])
def test_nchar_that_is_not_unicode(point, beside, variable, raw_block):
    values = ["é".encode("utf-32-le") + struct.pack("<I", point), *beside]
    block = parse_block(raw_block([variable(10, values)], len(values)))
    for convert in (block.to_arrow, block.to_pandas, block.to_polars):
        with pytest.raises(DataError, match="column '' has a text that is not Unicode"):
            convert()


@pytest.mark.parametrize("point", NOT_UTF32[:2])
def test_lone_surrogates_without_pyarrow(point, variable, raw_block, no_pyarrow):
    block = parse_block(raw_block([variable(10, [struct.pack("<I", point)])], 1))
    with pytest.raises(DataError, match="not Unicode"):
        block.to_polars()


# Where the values of a text column stand.


PLACES = [
    ([0, 3, 8], [b"a", b"bcd", b""]),
    ([8, 3, 0], [b"", b"bcd", b"a"]),
    ([3, 3, 3], [b"bcd", b"bcd", b"bcd"]),
    ([3, -1, 0], [b"bcd", None, b"a"]),
    ([-1, 8, -2], [None, b"", None]),
    ([0, 0, 8], [b"a", b"a", b""]),
    ([3, 8, -1], [b"bcd", b"", None]),
]


@pytest.mark.parametrize(("offsets", "expected"), PLACES)
@pytest.mark.parametrize("type", [8, 15, 16, 20])
def test_offsets_in_any_order(offsets, expected, type, raw_block, raw_column):
    data = b"\1\0a" + b"\3\0bcd" + b"\0\0"
    block = parse_block(raw_block([raw_column(type, 0, struct.pack("<3i", *offsets), data)], 3))
    batch = block.to_arrow()
    batch.validate(full=True)
    if type in (8, 15):
        expected = [None if value is None else value.decode() for value in expected]
    assert batch.column(0).to_pylist() == expected
    assert block.to_polars().to_series().to_list() == expected
    assert block.to_numpy()[""].tolist() == expected


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 1, 1), (2, 2, -1), (0, 2, 1)])
def test_nchar_in_any_order(order, raw_block, raw_column):
    texts = ["é🚀", "a", ""]
    data, at = b"", []
    for text in texts:
        at.append(len(data))
        raw = text.encode("utf-32-le")
        data += struct.pack("<H", len(raw)) + raw
    head = struct.pack("<3i", *(-1 if place < 0 else at[place] for place in order))
    batch = parse_block(raw_block([raw_column(10, 0, head, data)], 3)).to_arrow()
    batch.validate(full=True)
    expected = [None if place < 0 else texts[place] for place in order]
    assert batch.column(0).to_pylist() == expected


# JSON.


@pytest.mark.parametrize(
    "documents",
    [
        ["null"],
        ["null", "null"],
        ["{}", "null", "[]"],
        ["null", None, "{}"],
        [None, "null"],
        [None, "{}", "null", "nul", "nulL", '"null"', None, "null", "true"],
        ["true", None, "nill", "0000"],
    ],
)
def test_a_json_null_is_null(documents, variable, raw_block, monkeypatch):
    values = [None if text is None else text.encode() for text in documents]
    block = parse_block(raw_block([variable(15, values)], len(values)))
    expected = [None if text == "null" else text for text in documents]
    batch = block.to_arrow()
    batch.validate(full=True)
    assert batch.column(0).to_pylist() == expected
    assert batch.column(0).null_count == expected.count(None)
    assert block.to_polars().to_series().to_list() == expected
    assert block.to_numpy()[""].tolist() == expected
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert block.to_polars().to_series().to_list() == expected


# Dictionaries.


FIELDS = [
    Field("s", TypeCode.VARCHAR, 9),
    Field("v", TypeCode.INT, 4),
    Field("n", TypeCode.NCHAR, 9),
    Field("j", TypeCode.JSON, 9),
    Field("b", TypeCode.VARBINARY, 9),
]


@pytest.fixture
def mixed(variable, fixed, raw_block):
    def make(*words, fields=FIELDS):
        texts = [None if word is None else word.encode() for word in words]
        wide = [None if word is None else word.encode("utf-32-le") for word in words]
        columns = [
            variable(8, texts),
            fixed(4, "i", list(range(len(words)))),
            variable(10, wide),
            variable(15, texts),
            variable(16, texts),
        ]
        return parse_block(raw_block(columns, len(words)), fields=fields)

    return make


WORDS = ["b", "a", None, "b", "é"]
ENCODED = {
    True: ["s", "n", "j"],
    False: [],
    ("s",): ["s"],
    ("j", "s"): ["s", "j"],
    (): [],
    frozenset({"n"}): ["n"],
}


@pytest.mark.parametrize("dictionary", ENCODED)
def test_dictionaries(mixed, dictionary):
    block = mixed(*WORDS)
    batch = block.to_arrow(dictionary=dictionary)
    batch.validate(full=True)
    encoded = ENCODED[dictionary]
    for name in "svnjb":
        plain = {"v": pa.int32(), "b": pa.binary()}.get(name, pa.string())
        expected = pa.dictionary(pa.int32(), plain) if name in encoded else plain
        assert batch.schema.field(name).type == expected
        assert batch[name].type == expected
    for name in "snj":
        assert batch[name].to_pylist() == WORDS
    if encoded:
        assert batch[encoded[0]].dictionary.to_pylist() == ["b", "a", "é"]
    frame = block.to_pandas(dictionary=dictionary)
    assert [name for name in frame if frame[name].dtype == "category"] == encoded
    assert frame["s"].isna().tolist() == [False, False, True, False, False]
    assert frame["s"].tolist()[:2] == ["b", "a"]
    described = block.tables().schema_with(dictionary)
    assert described.equals(batch.schema, check_metadata=True)


@pytest.mark.parametrize("dictionary", ENCODED)
@pytest.mark.parametrize("has_pyarrow", [True, False])
def test_categories(mixed, dictionary, has_pyarrow, monkeypatch):
    block = mixed(*WORDS)
    if not has_pyarrow:
        monkeypatch.setitem(sys.modules, "pyarrow", None)
    frame = block.to_polars(dictionary=dictionary)
    found = [name for name, dtype in frame.schema.items() if dtype == pl.Categorical]
    assert found == ENCODED[dictionary]
    assert [frame[name].to_list() for name in "snj"] == [WORDS] * 3
    assert frame["v"].to_list() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("backend", ["numpy_nullable", "pyarrow"])
def test_categories_of_backends(mixed, backend):
    frame = mixed(*WORDS).to_pandas(dictionary=["s"], dtype_backend=backend)
    expected = pa.dictionary(pa.int32(), pa.string())
    wanted = {"numpy_nullable": "category", "pyarrow": pd.ArrowDtype(expected)}[backend]
    assert frame["s"].dtype == wanted
    assert [None if pd.isna(text) else text for text in frame["s"]] == WORDS


@pytest.mark.parametrize(
    ("dictionary", "problem"),
    [
        ("s", r"dictionary: expected True, or names of columns in a list, got 's'"),
        (["x"], r"dictionary: 'x' is no text column; there are 's', 'n', 'j'"),
        (["s", "v"], r"dictionary: 'v' is no text column"),
        (["b"], r"dictionary: 'b' is no text column"),
        ([1], r"dictionary: 1 is no text column"),
        (5, r"dictionary: expected"),
        (None, r"dictionary: expected"),
        (iter(["s"]), r"dictionary: expected"),
    ],
)
def test_dictionaries_of_what_is_no_text(mixed, dictionary, problem):
    block = mixed(*WORDS)
    for convert in (block.to_arrow, block.to_pandas, block.to_polars):
        with pytest.raises(InterfaceError, match=problem):
            convert(dictionary=dictionary)


def test_dictionaries_where_there_is_no_text(block_of):
    block = block_of(KINDS["INT"], [1])
    with pytest.raises(InterfaceError, match="'c' is no text column; there are none"):
        block.to_arrow(dictionary=["c"])
    assert block.to_arrow(dictionary=True).equals(block.to_arrow())


# DECIMALs that are announced otherwise.


@pytest.mark.parametrize("announced", [(0, 0), (10, 1), (38, 2)])
def test_scale_of_the_block_wins_over_the_announced_one(fixed, raw_block, announced, monkeypatch):
    """Older libtaos announces precision and scale 0 for some expressions."""
    raw = raw_block([fixed(21, "q", [12345, None], declared=0x08000A02)], 2)
    block = parse_block(raw, fields=[Field("d", TypeCode.DECIMAL64, 8, *announced)])
    expected = [Decimal("123.45"), None]
    assert block.to_numpy()["d"].tolist() == expected
    batch = block.to_arrow()
    batch.validate(full=True)
    assert batch["d"].to_pylist() == expected
    assert block.to_polars()["d"].to_list() == expected
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert block.to_polars()["d"].to_list() == expected


# Names.


def test_two_columns_of_one_name(mixed):
    names = ["a", "b", "a", "c", "d"]
    fields = [replace(field, name=name) for field, name in zip(FIELDS, names, strict=True)]
    block = mixed("x", None, fields=fields)
    with pytest.raises(InterfaceError, match=r"two columns are called 'a', and to_numpy\(\) has"):
        block.to_numpy()
    with pytest.raises(InterfaceError, match=r"two columns are called 'a', and to_polars\(\) has"):
        block.to_polars()
    batch = block.to_arrow(dictionary=["a"])
    batch.validate(full=True)
    assert batch.schema.names == names
    assert [pa.types.is_dictionary(type) for type in batch.schema.types] == [
        True, False, True, False, False,
    ]  # fmt: skip
    assert list(block.to_pandas()) == names


def test_names_that_are_no_identifiers(block_of):
    kind = KINDS["INT"]
    for name in ("", "last_row(涛)", "a.b", "index"):
        block = block_of(kind, [1, None], fields=[replace(kind.field, name=name)])
        assert list(block.to_numpy()) == [name]
        assert block.to_arrow().schema.names == [name]
        assert list(block.to_pandas()) == [name]
        assert block.to_polars().columns == [name or "column_0"]  # polars' own way


# Several blocks.


def several(block_of, kind, *parts):
    blocks = [block_of(kind, part) for part in parts]
    return Tables([kind.field], precision_of(kind)), blocks


@pytest.mark.parametrize("nulls", [(False, False), (True, False), (False, True), (True, True)])
def test_blocks_joined(kind, block_of, nulls, monkeypatch):
    with_nulls = PATTERNS["some NULL"](kind.values)
    parts = [with_nulls if null else kind.values for null in nulls] + [kind.values[:1]]
    values = [value for part in parts for value in part]
    tables, blocks = several(block_of, kind, *parts)
    [array] = tables.numpy(blocks).values()
    assert array.dtype == kind.numpy
    assert isinstance(array, np.ma.MaskedArray) == (None in values)
    plain = array.astype("i8") if kind.type is TypeCode.TIMESTAMP else array
    assert repr(plain.tolist()) == repr(values)
    table = tables.table(map(tables.batch, blocks))
    table.validate(full=True)
    assert table.column(0).num_chunks == 3
    assert table.column(0).combine_chunks().equals(pa.array(values, kind.arrow))
    assert_polars_equal(tables.polars(blocks), polars_frame(kind, values))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert_polars_equal(tables.polars(blocks), polars_frame(kind, values))


def test_no_blocks(kind, monkeypatch):
    tables = Tables([kind.field], precision_of(kind))
    [array] = tables.numpy([]).values()
    assert array.shape == (0,)
    assert array.dtype == kind.numpy
    table = tables.table([])
    table.validate(full=True)
    assert table.schema.equals(pa.schema([arrow_field(kind)]), check_metadata=True)
    assert table.num_rows == 0
    assert_polars_equal(tables.polars([]), polars_frame(kind, []))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert_polars_equal(tables.polars([]), polars_frame(kind, []))


def test_no_columns():
    tables = Tables((), MS)
    assert tables.numpy([]) == {}
    assert tables.table([]).num_columns == 0
    assert tables.polars([]).shape == (0, 0)


def test_one_dictionary_for_all_batches(mixed):
    blocks = [mixed("a", "b"), mixed("b", None, "c")]
    tables = blocks[0].tables()
    table = tables.table(map(tables.batch, blocks), ["s", "n"])
    table.validate(full=True)
    for name in "sn":
        chunks = table[name].chunks
        assert [chunk.dictionary.to_pylist() for chunk in chunks] == [["a", "b", "c"]] * 2
        assert table[name].to_pylist() == ["a", "b", "b", None, "c"]
    assert table.schema.field("j").type == pa.string()
    frame = tables.polars(blocks, ["s"])
    assert frame["s"].to_list() == ["a", "b", "b", None, "c"]


def test_dictionaries_of_no_blocks():
    tables = Tables(FIELDS, MS)
    table = tables.table([], True)
    table.validate(full=True)
    assert table.schema == tables.schema_with(True)
    assert tables.polars([], ["n"]).schema["n"] == pl.Categorical


def test_batches_with_another_unit_of_time(block_of):
    """Over REST the unit is known late; what came before has no TIMESTAMP that is not NULL."""
    early = block_of(timestamps("ms"), [None] * 3)
    late = block_of(timestamps("us"), [1, None])
    tables = Tables([early.fields[0]], US)
    table = tables.table([early.to_arrow(), late.to_arrow()])
    table.validate(full=True)
    assert table.schema.field("c").type == pa.timestamp("us", "UTC")
    assert table["c"].cast(pa.int64()).to_pylist() == [None] * 3 + [1, None]
    array = tables.numpy([early, late])["c"]
    assert array.dtype == "M8[us]"
    assert array.astype("i8").tolist() == [None] * 3 + [1, None]


# Libraries that are not there.


@pytest.mark.parametrize(
    ("library", "convert", "extra"),
    [
        ("pyarrow", "to_arrow", "arrow"),
        ("pyarrow", "to_pandas", "arrow"),
        ("pandas", "to_pandas", "pandas"),
        ("polars", "to_polars", "polars"),
    ],
)
def test_missing_libraries(block_of, monkeypatch, library, convert, extra):
    block = block_of(KINDS["INT"], [1])
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InterfaceError) as caught:
        getattr(block, convert)()
    assert str(caught.value) == f"{library} is not installed: pip install 'aiotaos[{extra}]'"
    assert block.to_numpy()["c"].tolist() == [1]


def test_arrow_capsules_without_pyarrow(block_of, no_pyarrow):
    block = block_of(KINDS["INT"], [1])
    for call in (block.__arrow_c_schema__, block.__arrow_c_array__):
        with pytest.raises(InterfaceError, match=r"pip install 'aiotaos\[arrow\]'"):
            call()


@pytest.mark.parametrize("backend", ["numpy", "", "Pyarrow", 1, True])
def test_backends_there_are_not(block_of, backend):
    with pytest.raises(InterfaceError) as caught:
        block_of(KINDS["INT"], [1]).to_pandas(dtype_backend=backend)
    assert str(caught.value) == (
        f"dtype_backend: expected 'numpy_nullable', 'pyarrow' or None, got {backend!r}"
    )


# Other libraries.


def test_arrow_capsules(block_of):
    block = block_of(KINDS["INT"], [1, None, 3])
    assert pa.array(pa.record_batch(block).column(0)).to_pylist() == [1, None, 3]
    assert pl.DataFrame(block)["c"].to_list() == [1, None, 3]
    wide = pa.schema([pa.field("c", pa.int64())])
    assert pa.record_batch(block, schema=wide)["c"].to_pylist() == [1, None, 3]
    assert pa.record_batch(block, schema=wide).schema == wide


# Recordings.


@pytest.mark.parametrize("name", ["types_ms", "types_us", "types_ns", "decimals_blobs"])
def test_recorded_blocks(name, recording):
    """Rows of these are compared with what the official client made of them elsewhere."""
    from aiotaos.protocol import messages
    from aiotaos.protocol.frames import parse_reply

    reply, seen = None, 0
    for frame in recording(name).frames("s>c"):
        if isinstance(frame, str):
            if '"fields_names":[' in frame:
                reply = messages.parse(frame, messages.QueryReply)
            continue
        if (raw := parse_reply(frame).block) is None:
            continue
        seen += 1
        fields = [replace(field, name=f"c{n}") for n, field in enumerate(reply.fields())]
        block = parse_block(raw, fields=fields, precision=reply.precision)
        rows = RowDecoder(fields, block.precision, timestamp="int").rows(block)
        batch = block.to_arrow()
        batch.validate(full=True)
        frame = block.to_polars()
        array = block.to_numpy()
        for place, field in enumerate(fields):
            expected = [row[place] for row in rows]
            column, series = batch.column(place), frame.to_series(place)
            values = array[field.name]
            if field.type is TypeCode.TIMESTAMP:
                column, series = column.cast(pa.int64()), series.cast(pl.Int64)
                values = values.astype("i8")
            assert repr(column.to_pylist()) == repr(expected)
            assert repr(series.to_list()) == repr(expected)
            assert repr(values.tolist()) == repr(expected)
    assert seen


@pytest.mark.parametrize("backend", [None, "numpy_nullable", "pyarrow"])
def test_two_columns_of_one_name_in_pandas(backend):
    """pyarrow looks types up by name; each column keeps its own all the same."""
    table = pa.table([pa.array([2**53 + 1, 2]), pa.array(["x", "3"])], names=["a", "a"])
    frame = pandas_frame(table, backend)
    assert list(frame.columns) == ["a", "a"]
    assert frame.iloc[:, 0].tolist() == [2**53 + 1, 2]
    assert frame.iloc[:, 1].tolist() == ["x", "3"]

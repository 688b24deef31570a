from __future__ import annotations

import struct
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np
import pandas
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiotaos.errors import DataError, ProtocolError
from aiotaos.protocol.block import (
    Block,
    FixedColumn,
    VariableColumn,
    decimal_size,
    gather,
    parse_block,
)
from aiotaos.protocol.frames import parse_reply
from aiotaos.protocol.rows import RowDecoder
from aiotaos.types import Field, Precision, TypeCode

FIELDS = (
    Field("ts", TypeCode.TIMESTAMP, 8),
    Field("v", TypeCode.INT, 4),
    Field("s", TypeCode.VARCHAR, 10),
    Field("n", TypeCode.NCHAR, 10),
)


def patched(data: bytes, code: str, position: int, value: int) -> bytes:
    changed = bytearray(data)
    struct.pack_into("<" + code, changed, position, value)
    return bytes(changed)


# The worked example


def test_example_columns(example):
    block = parse_block(example, fields=FIELDS)
    ts, v, s, n = block.columns
    assert ts.values.tolist() == [1700000000000, 1700000000001]
    assert ts.nulls is None
    assert v.values.tolist() == [-7, 0]
    assert v.nulls.tolist() == [False, True]
    assert s.offsets.tolist() == [0, -1]
    assert s.data.tobytes() == b"\x05\0hello"
    assert s.nulls.tolist() == [False, True]
    assert n.offsets.tolist() == [0, 10]
    assert n.nulls is None
    assert [len(column) for column in block.columns] == [2, 2, 2, 2]


def test_example_rows(example, decode):
    rows = decode(example, timestamp="int")
    assert rows == [(1700000000000, -7, "hello", "é😀"), (1700000000001, None, None, "")]


def test_fields_come_from_the_query(example):
    assert parse_block(example, fields=FIELDS).fields == FIELDS


def test_fields_come_from_the_schema_otherwise(example):
    assert parse_block(example).fields == tuple(
        Field("", field.type, field.length) for field in FIELDS
    )


@pytest.mark.parametrize(
    ("type", "declared", "expected"),
    [
        (TypeCode.BOOL, 1, Field("", TypeCode.BOOL, 1)),
        (TypeCode.VARCHAR, 66, Field("", TypeCode.VARCHAR, 64)),
        (TypeCode.VARBINARY, 66, Field("", TypeCode.VARBINARY, 64)),
        (TypeCode.GEOMETRY, 102, Field("", TypeCode.GEOMETRY, 100)),
        (TypeCode.NCHAR, 130, Field("", TypeCode.NCHAR, 32)),
        (TypeCode.NCHAR, 0, Field("", TypeCode.NCHAR, 0)),
        (TypeCode.VARCHAR, 0, Field("", TypeCode.VARCHAR, 0)),
        (TypeCode.JSON, 16384, Field("", TypeCode.JSON, 4095)),
        (TypeCode.BLOB, 4194308, Field("", TypeCode.BLOB, 4194304)),
        (TypeCode.DECIMAL, 0x10001404, Field("", TypeCode.DECIMAL, 16, 20, 4)),
        (TypeCode.DECIMAL64, 0x08000A02, Field("", TypeCode.DECIMAL64, 8, 10, 2)),
    ],
)
def test_field_of_a_schema(type, declared, expected, raw_block, raw_column):
    data = raw_block([raw_column(type, declared, b"", b"")], 0)
    assert parse_block(data).fields == (expected,)


def test_decimal_size_of_the_bytes_in_a_block():
    assert decimal_size(int.from_bytes(bytes.fromhex("04140010"), "little")) == (20, 4)
    assert decimal_size(int.from_bytes(bytes.fromhex("020a0008"), "little")) == (10, 2)


def test_scale_of_the_block_wins_over_the_announced_one(raw_block, fixed):
    """Older libtaos announces precision and scale 0 for some expressions."""
    data = raw_block([fixed(21, "q", [12345], declared=0x08000A02)], 1)
    block = parse_block(data, fields=[Field("d", TypeCode.DECIMAL64, 8, 0, 0)])
    assert (block.columns[0].precision, block.columns[0].scale) == (10, 2)
    [(value,)] = RowDecoder(block.fields, block.precision).rows(block)
    assert str(value) == "123.45"


# Views


def test_columns_are_views_of_the_frame(example):
    frame = struct.pack("<QQ", 5, 1) + example
    whole = np.frombuffer(frame, np.uint8)
    block = parse_block(parse_reply(frame).block)
    for column in block.columns:
        if isinstance(column, FixedColumn):
            assert np.shares_memory(column.values, whole)
        else:
            assert np.shares_memory(column.offsets, whole)
            assert np.shares_memory(column.data, whole)


@pytest.mark.parametrize("buffer", [bytes, bytearray, memoryview])
def test_views_are_read_only(buffer, example):
    block = parse_block(buffer(example))
    with pytest.raises(ValueError, match="read-only"):
        block.columns[0].values[0] = 1


def test_block_of_subscriptions(example):
    assert len(parse_block(patched(example, "i", 0, 2))) == 2


# Block


def test_block_presents_itself(example):
    block = parse_block(example, precision=1)
    assert block.precision is Precision.MICROSECOND
    assert len(block) == 2
    assert repr(block) == "<Block 2 rows x 4 columns>"
    assert repr(block.columns[1]) == "<FixedColumn INT, 2 rows>"
    assert repr(block.columns[2]) == "<VariableColumn VARCHAR, 2 rows>"


def test_block_without_decoder_has_no_rows(example):
    with pytest.raises(TypeError, match="RowDecoder"):
        parse_block(example).rows()


def test_block_with_decoder_is_iterable(example):
    decoder = RowDecoder(FIELDS, Precision.MILLISECOND, timestamp="int")
    block = parse_block(example, fields=FIELDS)
    assert block.decoded_by(decoder) is block
    assert [row[1] for row in block] == [-7, None]
    assert block.rows() == list(block)


# NULLs

NULL_PATTERNS = {
    "none": lambda row, rows: False,
    "all": lambda row, rows: True,
    "first": lambda row, rows: row == 0,
    "last": lambda row, rows: row == rows - 1,
    "sparse": lambda row, rows: row % 37 == 5,
    "dense": lambda row, rows: row % 3 != 1,
}


@pytest.mark.parametrize("rows", [1, 2, 7, 8, 9, 16, 17, 200])
@pytest.mark.parametrize("pattern", NULL_PATTERNS)
def test_null_masks(pattern, rows, raw_block, fixed, variable):
    nulls = [NULL_PATTERNS[pattern](row, rows) for row in range(rows)]
    data = raw_block(
        [
            fixed(4, "i", [None if null else row for row, null in enumerate(nulls)]),
            variable(8, [None if null else b"x" * (row % 5) for row, null in enumerate(nulls)]),
        ],
        rows,
    )
    expected = nulls if any(nulls) else None
    for column in parse_block(data).columns:
        mask = column.nulls
        assert (mask if mask is None else mask.tolist()) == expected


@pytest.mark.parametrize("rows", [1, 3, 7, 9, 15])
def test_bits_behind_the_last_row_mean_nothing(rows, raw_block, raw_column):
    unused = 8 * ((rows + 7) // 8) - rows
    bitmap = ((1 << unused) - 1).to_bytes((rows + 7) // 8, "big")
    data = raw_block([raw_column(2, 1, bitmap, bytes(rows))], rows)
    assert parse_block(data).columns[0].nulls is None


def test_type_null_is_null_whatever_the_bitmap_says(raw_block, raw_column):
    block = parse_block(raw_block([raw_column(0, 0, b"\0\0", b"")], 9))
    assert block.columns[0].nulls.tolist() == [True] * 9
    assert RowDecoder(block.fields, block.precision).rows(block) == [(None,)] * 9


# Variable columns


def spans(column: VariableColumn) -> list[bytes]:
    starts, ends, _ = column.spans()
    return [column.data[a:b].tobytes() for a, b in zip(starts, ends, strict=True)]


@pytest.mark.parametrize(
    ("offsets", "expected"),
    [
        ([0, 3, 8], [b"a", b"bcd", b""]),
        ([8, 3, 0], [b"", b"bcd", b"a"]),
        ([3, 3, 3], [b"bcd", b"bcd", b"bcd"]),
        ([3, -1, 0], [b"bcd", b"a"]),
        ([-1, -1, -1], []),
        ([-2, 0, -(2**31)], [b"a"]),
    ],
)
def test_offsets_in_any_order(offsets, expected, raw_block, raw_column):
    data = b"\1\0a" + b"\3\0bcd" + b"\0\0"
    column = raw_column(8, 0, struct.pack("<3i", *offsets), data)
    assert spans(parse_block(raw_block([column], 3)).columns[0]) == expected


def test_prefix_of_four_bytes(raw_block, variable):
    big = bytes(range(256)) * 300
    column = variable(18, [big, b"", big[:70_000]], prefix="<I")
    assert spans(parse_block(raw_block([column], 3)).columns[0]) == [big, b"", big[:70_000]]


@pytest.mark.parametrize("type", [8, 10, 15, 16, 18, 19, 20])
@pytest.mark.parametrize("offset", [0, 1, 5, 2**31 - 1])
def test_value_beyond_its_column(type, offset, raw_block, raw_column):
    column = raw_column(type, 0, struct.pack("<i", offset), b"\xff\xff\xff\xff")
    block = parse_block(raw_block([column], 1))
    with pytest.raises(ProtocolError, match=r"inconsistent block: a .* value"):
        RowDecoder(block.fields, block.precision).rows(block)


@pytest.mark.parametrize(
    ("type", "data"),
    [(8, b"\3\0ab"), (16, b"\0\1" + bytes(255)), (18, b"\0\0\1\0" + bytes(65535))],
)
def test_value_one_byte_longer_than_its_column(type, data, raw_block, raw_column):
    column = raw_column(type, 0, bytes(4), data)
    with pytest.raises(ProtocolError, match=f"ends at {len(data) + 1} of a column of {len(data)}"):
        parse_block(raw_block([column], 1)).columns[0].spans()


def test_value_that_ends_with_its_column(raw_block, raw_column):
    column = raw_column(8, 0, struct.pack("<i", 1), b"?\2\0ab")
    assert spans(parse_block(raw_block([column], 1)).columns[0]) == [b"ab"]


# Refusals


def test_every_truncation_is_refused(originals):
    for original in originals:
        for size in range(len(original)):
            with pytest.raises(ProtocolError):
                parse_block(original[:size])
            if 8 <= size < len(original) - 1:  # also when the announced size agrees
                with pytest.raises(ProtocolError):
                    parse_block(patched(original[:size], "i", 4, size))


def test_block_of_an_older_server_has_no_trailing_byte(originals, decode):
    for original in originals:
        older = patched(original[:-1], "i", 4, len(original) - 1)
        assert decode(older, timestamp="int") == decode(original, timestamp="int")


def test_trailing_bytes_are_refused(example):
    with pytest.raises(ProtocolError, match="announces 126 bytes and has 127"):
        parse_block(example + b"\0")
    with pytest.raises(ProtocolError, match="columns end at 125, the block at 127"):
        parse_block(patched(example + b"\0", "i", 4, 127))


@pytest.mark.parametrize(
    ("code", "position", "value", "message"),
    [
        ("i", 0, 0, "unknown block version 0"),
        ("i", 0, 3, "unknown block version 3"),
        ("i", 0, -1, "unknown block version -1"),
        ("i", 4, 125, "announces 125 bytes and has 126"),
        ("i", 4, -126, "announces -126 bytes"),
        ("i", 8, -1, "-1 rows"),
        ("i", 8, 0, "inconsistent block"),
        ("i", 8, 1, "inconsistent block: 1 rows of TIMESTAMP"),
        ("i", 8, 3, "inconsistent block: 3 rows of TIMESTAMP"),
        ("i", 8, 9, "inconsistent block: 9 rows"),
        ("i", 8, 2**31 - 1, "inconsistent block"),
        ("i", 12, 0, "0 columns"),
        ("i", 12, -4, "-4 columns"),
        ("i", 12, 2**31 - 1, "2147483647 columns"),
        ("i", 12, 12, "12 columns"),
        ("i", 12, 3, "inconsistent|truncated|unknown type"),
        ("i", 12, 5, "inconsistent|truncated|unknown type"),
        ("b", 28, 22, "column 0 of the block has unknown type 22"),
        ("b", 33, -1, "column 1 of the block has unknown type -1"),
        ("b", 33, 2, "inconsistent block: 2 rows of TINYINT in 8 bytes, expected 2"),
        ("b", 33, 8, "truncated|inconsistent"),
        ("b", 38, 4, "inconsistent block: 2 rows of INT in 7 bytes"),
        ("i", 48, 15, "2 rows of TIMESTAMP in 15 bytes, expected 16"),
        ("i", 48, -1, "truncated block"),
        ("i", 48, 2**31 - 1, "truncated block"),
        ("i", 56, 6, "columns end at 124"),
        ("i", 56, 9, "truncated block"),
        ("i", 60, 14, "truncated block"),
        ("i", 60, 11, "columns end at 124"),
        ("i", 60, -(2**31), "truncated block"),
    ],
)
def test_corrupt_numbers_are_refused(code, position, value, message, example):
    with pytest.raises(ProtocolError, match=message):
        parse_block(patched(example, code, position, value))


def test_lengths_in_big_endian_order_are_refused(example):
    """A block of taosd itself, which no adapter passes on."""
    swapped = bytearray(example)
    for position in range(48, 64, 4):
        swapped[position : position + 4] = swapped[position : position + 4][::-1]
    with pytest.raises(ProtocolError):
        parse_block(bytes(swapped))


def test_block_that_the_query_did_not_announce(example):
    with pytest.raises(ProtocolError, match="has 4 columns, the query announced 3"):
        parse_block(example, fields=FIELDS[:3])
    other = (*FIELDS[:1], Field("v", TypeCode.BIGINT, 8), *FIELDS[2:])
    with pytest.raises(ProtocolError, match=r"column 1 of the block is INT, .* announced BIGINT"):
        parse_block(example, fields=other)


# Random damage


@st.composite
def damaged(draw: st.DrawFn, originals: list[bytes]) -> bytes:
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 4))):
        position = draw(st.integers(0, len(data) - 1))
        match draw(st.sampled_from(["flip", "set", "word", "cut", "insert"])):
            case "flip":
                data[position] ^= 1 << draw(st.integers(0, 7))
            case "set":
                data[position] = draw(st.integers(0, 255))
            case "word":
                data[position : position + 4] = draw(
                    st.sampled_from([b"\xff" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x80", bytes(4)])
                )
            case "cut":
                del data[position:]
            case "insert":
                data[position:position] = draw(st.binary(max_size=9))
        if not data:
            return b""
    if draw(st.booleans()) and len(data) >= 8:  # let it pass the first check
        struct.pack_into("<i", data, 4, len(data))
    return bytes(data)


def check_decoding(data: bytes) -> None:
    try:
        block = parse_block(data)
        rows = RowDecoder(block.fields, block.precision).rows(block)
    except (ProtocolError, DataError):
        return
    assert isinstance(block, Block)
    assert len(rows) == len(block)
    assert {len(row) for row in rows} <= {len(block.columns)}


@pytest.fixture(scope="session")
def originals(recording, example):
    """The example and one recorded block with every plain type, DECIMALs and BLOBs."""
    found = [example]
    for name in ("types_ms", "decimals_blobs", "tags_json", "connect"):
        for frame in recording(name).frames("s>c"):
            if isinstance(frame, bytes) and (block := parse_reply(frame).block) is not None:
                found.append(bytes(block))
    assert len(found) > 8
    return found


@settings(
    max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damaged_blocks_are_refused_or_decoded(data, originals):
    check_decoding(data.draw(damaged(originals)))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data):
    with pytest.raises(ProtocolError):
        parse_block(data)


@settings(max_examples=300, deadline=None)
@given(body=st.binary(max_size=60), type=st.integers(0, 22), rows=st.integers(0, 12))
def test_random_bodies_are_refused_or_decoded(body, type, rows, raw_block, raw_column):
    head = 4 * rows if type in (8, 10, 15, 16, 18, 19, 20) else (rows + 7) // 8
    check_decoding(raw_block([raw_column(type, 0, body[:head], body[head:])], rows))


def test_every_byte_of_the_example_changed(example):
    for position in range(len(example)):
        for value in (0x00, 0x01, 0x7F, 0x80, 0xFF):
            changed = bytearray(example)
            changed[position] = value
            check_decoding(bytes(changed))


def test_more_rows_than_a_block_can_have():
    """A column of type NULL has room for any number of them in a few bytes."""
    rows = 2**22 + 1
    bitmap = bytes((rows + 7) // 8)
    total = 28 + 9 + len(bitmap) + 1
    head = struct.pack("<iiiiIQ", 1, total, rows, 1, 0x80000000, 0)
    raw = head + struct.pack("<bii", 0, 0, 0) + bitmap + b"\0"
    with pytest.raises(ProtocolError, match=f"{rows} rows"):
        parse_block(raw)


# Values one behind the other


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], b""),
        ([None], b""),
        ([b""], b""),
        ([b"", b""], b""),
        ([b"a"], b"a"),
        ([b"a", b"b", b"c"], b"abc"),
        ([b"ab", None, b"cd"], b"abcd"),
        ([b"a", b"", b"bcd"], b"abcd"),
        ([None, b"\0\1", None, b"\2", None], b"\0\1\2"),
    ],
)
@pytest.mark.parametrize(("type", "prefix"), [(8, "<H"), (10, "<H"), (16, "<H"), (18, "<I")])
def test_packed(values, expected, type, prefix, raw_block, variable):
    [column] = parse_block(raw_block([variable(type, values, prefix=prefix)], len(values))).columns
    data, lengths, nulls = column.packed()
    assert data.dtype == np.uint8
    assert data.flags.c_contiguous
    assert data.tobytes() == expected
    assert lengths.tolist() == [len(value) for value in values if value is not None]
    mask = [value is None for value in values]
    assert (nulls.tolist() if nulls is not None else [False] * len(values)) == mask


@pytest.mark.parametrize(
    ("offsets", "expected"),
    [([8, 3, 0], b"bcda"), ([3, 3, 3], b"bcd" * 3), ([3, -1, 0], b"bcda"), ([0, 8, 3], b"abcd")],
)
def test_packed_in_any_order(offsets, expected, raw_block, raw_column):
    raw = raw_column(8, 0, struct.pack("<3i", *offsets), b"\1\0a" + b"\3\0bcd" + b"\0\0")
    data, lengths, _ = parse_block(raw_block([raw], 3)).columns[0].packed()
    assert data.tobytes() == expected
    assert int(lengths.sum()) == len(expected)


def test_gather():
    data = np.frombuffer(b"0123456789", np.uint8)
    starts = np.array([7, 0, 3, 3, 9])
    lengths = np.array([2, 0, 3, 3, 1])
    assert gather(data, starts, lengths).tobytes() == b"783453459"
    assert gather(data, starts[1:2], lengths[1:2]).tobytes() == b""
    assert gather(data, starts[:0], lengths[:0]).tobytes() == b""
    assert gather(data, starts, lengths.astype(np.int32)).tobytes() == b"783453459"


# Pieces


@pytest.mark.parametrize("rows", [1, 8, 9, 40])
@pytest.mark.parametrize("size", [8, 16, 48])
def test_cut(rows, size, raw_block, fixed, variable):
    numbers = [None if row % 3 == 1 else row for row in range(rows)]
    words = [None if row % 5 == 2 else b"%d" % row for row in range(rows)]
    sums = [None if row % 4 == 3 else 10 * row for row in range(rows)]
    columns = [fixed(4, "i", numbers), variable(8, words)]
    columns.append(fixed(21, "q", sums, declared=0x08000A01))
    block = parse_block(raw_block(columns, rows), precision=1)
    block.decoded_by(RowDecoder(block.fields, block.precision))
    expected = [
        (number, word and word.decode(), None if total is None else Decimal(total) / 10)
        for number, word, total in zip(numbers, words, sums, strict=True)
    ]
    pieces = [block.cut(at, min(at + size, rows)) for at in range(0, rows, size)]
    assert sum(map(len, pieces)) == rows
    assert [row for piece in pieces for row in piece.rows()] == expected == block.rows()
    for piece in pieces:
        assert (piece.fields, piece.precision) == (block.fields, block.precision)
        assert (piece.columns[2].precision, piece.columns[2].scale) == (10, 1)
        for part, whole in zip(piece.columns[:1], block.columns[:1], strict=True):
            assert np.shares_memory(part.values, whole.values)
        assert piece.columns[1].data is block.columns[1].data
    nothing = block.cut(0, 0)
    assert (len(nothing), nothing.rows()) == (0, [])


def test_a_piece_without_a_decoder_has_no_rows(example):
    with pytest.raises(TypeError, match="RowDecoder"):
        parse_block(example).cut(0, 1).rows()


# Tables; more of them is in test_tables.py


def test_the_example_as_tables(example):
    block = parse_block(example, fields=FIELDS)
    batch = block.to_arrow(dictionary=["s"])
    batch.validate(full=True)
    ticks = [1700000000000, 1700000000001]
    assert batch["ts"].cast("int64").to_pylist() == ticks
    assert [batch[name].to_pylist() for name in "vsn"] == [[-7, None], ["hello", None], ["é😀", ""]]
    assert str(batch.schema.field("ts").type) == "timestamp[ms, tz=UTC]"
    arrays = block.to_numpy()
    assert list(arrays) == ["ts", "v", "s", "n"]
    assert arrays["ts"].tolist() == [datetime(2023, 11, 14, 22, 13, 20, n) for n in (0, 1000)]
    assert arrays["v"].tolist() == [-7, None]
    frame = block.to_pandas(dtype_backend="numpy_nullable", dictionary=["n"])
    assert frame["v"].tolist() == [-7, pandas.NA]
    assert frame["n"].dtype == "category"
    assert block.to_polars().to_dict(as_series=False) == {
        "ts": [datetime(2023, 11, 14, 22, 13, 20, n, UTC) for n in (0, 1000)],
        "v": [-7, None],
        "s": ["hello", None],
        "n": ["é😀", ""],
    }


def test_tables_have_the_zone_of_the_decoder(example):
    zone = ZoneInfo("Asia/Kolkata")
    block = parse_block(example, fields=FIELDS)
    block.decoded_by(RowDecoder(FIELDS, Precision.MILLISECOND, zone))
    assert block.to_arrow().schema.field("ts").type.tz == "Asia/Kolkata"
    assert block.cut(0, 1).to_arrow().schema.field("ts").type.tz == "Asia/Kolkata"
    assert pyarrow.schema(block).field("ts").type.tz == "Asia/Kolkata"
    assert pyarrow.record_batch(block).equals(block.to_arrow())


def test_values_that_overlap_are_not_joined_beyond_32_bits(raw_block, raw_column):
    rows, size = 40_000, 60_000
    offsets = np.zeros(rows, "<i4").tobytes()
    raw = raw_column(TypeCode.VARBINARY, size + 2, offsets, struct.pack("<H", size) + bytes(size))
    column = parse_block(raw_block([raw], rows)).columns[0]
    with pytest.raises(ProtocolError, match="VARBINARY values of 2400000000 bytes in a column of"):
        column.packed()


@pytest.mark.parametrize(("digits", "scale"), [(39, 2), (10, 11), (200, 0)])
def test_decimals_of_impossible_digits(digits, scale, raw_block, raw_column):
    raw = raw_column(TypeCode.DECIMAL, 16 << 24 | digits << 8 | scale, bytes(1), bytes(16))
    with pytest.raises(ProtocolError, match=rf"DECIMAL column of \({digits},{scale}\) digits"):
        parse_block(raw_block([raw], 1))

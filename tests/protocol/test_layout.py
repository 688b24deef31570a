"""Columns in Arrow's layout, buffer by buffer."""

from __future__ import annotations

import struct
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiotaos.errors import DataError, ProtocolError
from aiotaos.protocol.block import parse_block
from aiotaos.protocol.layout import Part, arrange
from aiotaos.types import TypeCode
from tests.protocol.test_rows import repeating

VARCHAR, NCHAR, JSON, VARBINARY, BLOB = 8, 10, 15, 16, 18


@pytest.fixture(scope="session")
def arranged(raw_block):
    """A column, arranged."""

    def make(column, rows) -> Part:
        return arrange(parse_block(raw_block([column], rows)).columns[0], "c")

    return make


def plain(part: Part) -> tuple:
    """What a part holds, with its data as bytes."""
    validity, *others, data = part.buffers
    offsets = [buffer.tolist() for buffer in others]
    bits = None if validity is None else validity.tobytes()
    return (part.rows, part.null_count, bits, *offsets, np.asarray(data).tobytes())


def test_numbers(arranged, fixed):
    assert plain(arranged(fixed(3, "h", [1, -2, 3]), 3)) == (
        3, 0, None, struct.pack("<3h", 1, -2, 3),
    )  # fmt: skip
    column = fixed(3, "h", [1, None, 3, *range(6)], garbage=0x55)
    data = struct.pack("<9h", 1, 0x5555, 3, *range(6))
    assert plain(arranged(column, 9)) == (9, 1, b"\xfd\x01", data)


def test_the_bitmap_of_arrow_begins_with_the_lowest_bit_and_says_what_is_there(arranged, fixed):
    for row in range(17):
        values = [0] * 17
        values[row] = None
        rows, null_count, bits, _ = plain(arranged(fixed(2, "b", values), 17))
        assert (rows, null_count) == (17, 1)
        assert int.from_bytes(bits, "little") == ((1 << 17) - 1) ^ (1 << row)


def test_null_has_no_values(arranged, raw_column):
    part = arranged(raw_column(0, 0, b"\0\0", b""), 9)
    assert (part.rows, part.null_count) == (9, 9)
    assert [buffer for buffer in part.buffers if buffer is not None] == []


def test_bools_are_bits(arranged, fixed):
    values = [1, 0, 0, 1, 0, 0, 0, 0, 255, 2]
    assert plain(arranged(fixed(1, "B", values), 10)) == (10, 0, None, b"\x09\x03")
    assert plain(arranged(fixed(1, "B", []), 0)) == (0, 0, None, b"")


@pytest.mark.parametrize("value", [0, 1, -1, 2**63 - 1, -(2**63)])
def test_decimals_of_64_bits_become_wide(arranged, fixed, value):
    column = fixed(21, "q", [value, None], declared=0x08000A02)
    rows, null_count, bits, data = plain(arranged(column, 2))
    assert (rows, null_count, bits) == (2, 1, b"\x01")
    assert data[:16] == value.to_bytes(16, "little", signed=True)
    assert len(data) == 32


@pytest.mark.parametrize("value", [0, 1, -1, 10**38 - 1, 1 - 10**38, 2**64, -(2**64)])
def test_decimals_of_128_bits(arranged, fixed, value):
    raw = value.to_bytes(16, "little", signed=True)
    part = arranged(fixed(17, "16s", [raw, raw], declared=0x10002602), 2)
    assert plain(part) == (2, 0, None, raw * 2)
    assert part.buffers[1].__array_interface__["data"][0] % 16 == 0


def values_of(part: Part) -> list[bytes | None]:
    """The values of a text column, taken apart one by one."""
    validity, offsets, data = part.buffers
    raw, places = data.tobytes(), offsets.tolist()
    there = [True] * part.rows
    if validity is not None:
        bits = int.from_bytes(validity.tobytes(), "little")
        there = [bool(bits >> row & 1) for row in range(part.rows)]
    assert there.count(False) == part.null_count
    return [
        raw[begin:end] if here else None
        for (begin, end), here in zip(pairwise(places), there, strict=True)
    ]


# Texts.


@pytest.mark.parametrize(
    ("values", "offsets", "data"),
    [
        ([], [0], b""),
        ([b""], [0, 0], b""),
        ([b"", b""], [0, 0, 0], b""),
        ([b"a", b"bcd"], [0, 1, 4], b"abcd"),
        ([b"a", b"b", b"c"], [0, 1, 2, 3], b"abc"),
        ([b"ab", b"cd"], [0, 2, 4], b"abcd"),
        ([None], [0, 0], b""),
        ([None, b"a", None, b"bc", None], [0, 0, 1, 1, 3, 3], b"abc"),
        ([b"x", None, b"y"], [0, 1, 1, 2], b"xy"),
    ],
)
@pytest.mark.parametrize("type", [VARCHAR, JSON, VARBINARY, BLOB])
def test_texts(arranged, variable, type, values, offsets, data):
    column = variable(type, values, prefix="<I" if type == BLOB else "<H")
    part = arranged(column, len(values))
    nulls = [value is None for value in values]
    bits = sum((not null) << row for row, null in enumerate(nulls)).to_bytes(1, "little")
    bitmap = bits if any(nulls) else None
    assert plain(part) == (len(values), sum(nulls), bitmap, offsets, data)
    assert part.buffers[1].dtype == np.int32
    for buffer in part.buffers[1:]:
        assert buffer.flags.c_contiguous


@pytest.mark.parametrize(
    ("texts", "offsets"),
    [
        ([""], [0, 0]),
        (["a", "bc"], [0, 1, 3]),
        (["é", "", "涛", "🚀", "a"], [0, 2, 2, 5, 9, 10]),
        (["\U0010ffff" * 3, None, "\x7f\x80\u07ff\u0800\uffff\U00010000"], [0, 12, 12, 27]),
        ([None, "éa", None], [0, 0, 3, 3]),
    ],
)
def test_nchars_become_utf8(arranged, variable, texts, offsets):
    raw = [None if text is None else text.encode("utf-32-le") for text in texts]
    rows, null_count, _, found, data = plain(arranged(variable(NCHAR, raw), len(raw)))
    assert (rows, null_count) == (len(texts), texts.count(None))
    assert found == offsets
    assert data == "".join(text or "" for text in texts).encode()


@pytest.mark.parametrize(
    "texts",
    [
        ["a device"] * 500,
        [""] * 500,
        ["涛思 🚀"] * 300 + ["naïve"] * 300,
        [(None, "é", "bb", "🚀")[row // 100 % 4] for row in range(1000)],
        [None if row % 3 else f"Gerät {row // 300}" for row in range(3000)],
        ["a"] * 499 + ["é"] + ["a"] * 500,
        [f"Gerät {row // 2}" for row in range(1000)],
        ["é" if row % 62 in (0, 1) else str(row % 10) for row in range(1000)],
    ],
)
def test_nchars_that_repeat(arranged, variable, texts):
    raw = [None if text is None else text.encode("utf-32-le") for text in texts]
    part = arranged(variable(NCHAR, raw), len(raw))
    assert (part.rows, part.null_count) == (len(texts), texts.count(None))
    assert values_of(part) == [None if text is None else text.encode() for text in texts]


@pytest.mark.parametrize(
    "raw", [struct.pack("<I", 0xD800), struct.pack("<I", 0x110000), b"a\0\0\0\0", b"\0"]
)
def test_nchars_that_repeat_and_are_not_unicode(arranged, variable, raw):
    for values in ([raw] * 100, [b"a\0\0\0"] * 100 + [raw] * 100, [raw, None] * 50):
        with pytest.raises(DataError, match="column 'c' has a text that is not Unicode"):
            arranged(variable(NCHAR, values), len(values))


@pytest.mark.parametrize("type", [VARCHAR, NCHAR, VARBINARY])
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_random_columns(type, arranged, variable, data):
    """Each value is what it is by itself, or the column is refused where rows have no text."""
    values = data.draw(repeating(type))
    try:
        if type == VARCHAR:
            expected = [raw if raw is None else raw.decode().encode() for raw in values]
        elif type == NCHAR:
            expected = [None if raw is None else raw.decode("utf-32-le").encode() for raw in values]
        else:
            expected = values
    except UnicodeDecodeError:
        with pytest.raises(DataError, match="not Unicode"):
            arranged(variable(type, values), len(values))
    else:
        part = arranged(variable(type, values), len(values))
        assert values_of(part) == expected
        for buffer in part.buffers[1:]:
            assert buffer.flags.c_contiguous


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_nchar_of_broken_characters(arranged, variable, size):
    with pytest.raises(ProtocolError, match="an NCHAR value is not a multiple of 4 bytes long"):
        arranged(variable(NCHAR, [bytes(4), bytes(size)]), 2)


def test_values_beyond_their_column(arranged, raw_column):
    for type in (VARCHAR, NCHAR, JSON, VARBINARY, BLOB):
        with pytest.raises(ProtocolError, match=f"inconsistent block: a {TypeCode(type).name}"):
            arranged(raw_column(type, 0, struct.pack("<i", 5), b"abcd"), 1)


def test_a_json_null_keeps_its_text_behind_the_bitmap(arranged, variable):
    column = variable(JSON, [b"null", None, b"{}", b"null"])
    rows, null_count, bits, offsets, data = plain(arranged(column, 4))
    assert (rows, null_count, bits) == (4, 3, b"\x04")
    assert data[offsets[2] : offsets[3]] == b"{}"
    assert offsets == sorted(offsets)
    assert offsets[-1] <= len(data)


def test_a_column_is_left_as_it_is(raw_block, variable):
    """What is arranged twice is the same twice."""
    raw = raw_block([variable(JSON, [b"null", None, b"{}", b"null"])], 4)
    [column] = parse_block(raw).columns
    assert plain(arrange(column, "c")) == plain(arrange(column, "c"))
    assert column.nulls.tolist() == [False, True, False, False]


def test_part_of_a_column(raw_block, fixed, variable):
    """Where a piece of a column begins its bitmap begins."""
    values = [None if row % 5 == 1 else row for row in range(40)]
    texts = [None if row is None else b"%d" % row for row in values]
    raw = raw_block([fixed(4, "i", values), variable(VARCHAR, texts)], 40)
    numbers, words = parse_block(raw).columns
    for start, stop in ((0, 8), (8, 11), (32, 40), (16, 16)):
        mask = [value is None for value in values[start:stop]]
        for column in (numbers.cut(start, stop), words.cut(start, stop)):
            part = arrange(column, "c")
            assert (part.rows, part.null_count) == (stop - start, sum(mask))
            if any(mask):
                bits = np.unpackbits(part.buffers[0], count=stop - start, bitorder="little")
                assert (bits == 0).tolist() == mask
            else:
                assert part.buffers[0] is None
        joined = b"".join(text for text in texts[start:stop] if text is not None)
        assert part.buffers[2].tobytes() == joined

from __future__ import annotations

import base64
import struct
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiotaos.errors import DataError, ProtocolError
from aiotaos.protocol.block import Block, FixedColumn
from aiotaos.protocol.rows import RowDecoder
from aiotaos.protocol.tmq import (
    MessageParser,
    RawType,
    TableBlock,
    parse_reply,
)
from aiotaos.types import Field, Precision, TypeCode

FRAME_HEAD = bytes.fromhex(
    """
    ff ff ff ff ff ff ff ff 08 00 00 00 00 00 00 00 01 00 40 e2 01 00 00 00 00 00
    07 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00 02 00 8a 00 00 00
    """
)
RAW_BLOCK = bytes.fromhex(
    """
    02 00 00 00 3d 00 00 00 01 00 00 00 02 00 00 00 00 00 00 80 00 00 00 00 00 00 00 00
    09 08 00 00 00 04 04 00 00 00 08 00 00 00 04 00 00 00
    00 00 68 e5 cf 8b 01 00 00 00 07 00 00 00 00
    """
)
MESSAGE = (
    bytes.fromhex(
        """
        64 12 00 00 00 11 04 00 00 00 00 00 00 00 11 05 00 00 00 00 00 00 00
        01 00 00 00 01 01 4f
        01 00 00 00 00 00 00 00 00 00 00 00 00 00 00 01 00 00
        """
    )
    + RAW_BLOCK
    + bytes.fromhex(
        """
        04 02 09 01 10 02 03 74 73 00 04 00 08 04 02 76 00 03 74 31 00
        00 00 00 00 00 00 00 00
        """
    )
)
FIELDS = (Field("ts", TypeCode.TIMESTAMP, 8), Field("v", TypeCode.INT, 4))
HEAD = MESSAGE[:23]
SLEEP = bytes(8)


def varint(value: int) -> bytes:
    encoded = b""
    while value > 0x7F:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])


def zigzag(value: int) -> bytes:
    return varint(value << 1 ^ value >> 31)


def string(text: bytes) -> bytes:
    return varint(len(text) + 1) + text + b"\0"


class Part(NamedTuple):
    """A block of a message: columns of the schema are type, bytes and name."""

    raw: bytes
    schema: list[tuple[int, int, bytes]] | None = None
    table: bytes | None = None
    precision: int = 0
    format: int = 1
    compressed: int = 0


def build_message(*parts: Part, head: bytes = HEAD, tail: bytes = SLEEP) -> bytes:
    body = struct.pack("<i", len(parts))
    if parts:
        body += bytes([parts[0].table is not None, parts[0].schema is not None])
    for part in parts:
        prefix = struct.pack("<q", part.format) + struct.pack(">q", 1)
        prefix += struct.pack("<bb", part.compressed, part.precision)
        body += varint(len(prefix) + len(part.raw)) + prefix + part.raw
        if part.schema is not None:
            body += zigzag(len(part.schema)) + zigzag(3)
            for number, (type, size, name) in enumerate(part.schema, 1):
                body += bytes([type, 0]) + zigzag(size) + zigzag(number) + string(name)
        if part.table is not None:
            body += string(part.table)
    return head + body + tail


def build_frame(raw: bytes, raw_type: int = 2) -> bytes:
    head = struct.pack("<QQHQQII", 2**64 - 1, 8, 1, 123, 7, 0, 0)
    return head + struct.pack("<QHI", 1, raw_type, len(raw)) + raw


def rows_of(block: Block) -> list[tuple[Any, ...]]:
    return RowDecoder(block.fields, block.precision, timestamp="int").rows(block)


def read(data: bytes, raw_type: int = 2) -> list[tuple[Any, ...]]:
    """All that a message says: tables, precisions, fields and rows."""
    return [
        (block.table, block.precision, block.fields, rows_of(block))
        for block in MessageParser().parse(data, raw_type).blocks
    ]


EXAMPLE = [("t1", Precision.MILLISECOND, FIELDS, [(1_700_000_000_000, 7)])]


@pytest.fixture(scope="session")
def parts(raw_block, raw_column, fixed, variable) -> list[Part]:
    """Blocks of three tables with different columns."""
    meters = raw_block([fixed(9, "q", [1, 2, 3]), fixed(6, "f", [1.5, None, -2.5])], 3, version=2)
    nchars = variable(10, ["涛".encode("utf-32-le"), None])._replace(declared=66)
    varchars = variable(8, [b"abc", b""])._replace(declared=34)
    notes = raw_block([fixed(9, "q", [4, 5]), varchars, nchars], 2, version=2)
    prices = raw_block(
        [
            fixed(9, "q", [6]),
            fixed(21, "q", [12345], declared=0x08000A02),
            fixed(17, "qq", [], declared=0x10001404)._replace(
                head=b"\0", data=struct.pack("<qq", -50000, -1)
            ),
        ],
        1,
        version=2,
    )
    return [
        Part(meters, [(9, 8, b"ts"), (6, 4, b"current")], b"d0"),
        Part(notes, [(9, 8, b"ts"), (8, 34, b"s"), (10, 66, "说".encode())], "站".encode(), 1),
        Part(prices, [(9, 8, b"ts"), (21, 8, b"price"), (17, 16, b"sum")], b"d0", 2),
    ]


@pytest.fixture(scope="session")
def recorded(recording) -> list[bytes]:
    """Recorded answers to ``fetch_raw_data``."""
    return [
        base64.b64decode(event["b64"])
        for event in recording("tmq_data").events
        if event["path"] == "/rest/tmq" and event["kind"] == "binary"
    ]


# Frames


def test_reply():
    frame = FRAME_HEAD + MESSAGE
    reply = parse_reply(frame)
    assert reply[:6] == (7, 123456, 0, "", 1, RawType.DATA)
    assert reply.data == MESSAGE
    assert np.shares_memory(np.frombuffer(reply.data, "u1"), np.frombuffer(frame, "u1"))


@pytest.mark.parametrize("buffer", [bytes, bytearray, memoryview])
def test_buffers(buffer):
    reply = parse_reply(buffer(FRAME_HEAD + MESSAGE))
    [block] = MessageParser().parse(reply.data, reply.raw_type).blocks
    assert rows_of(block) == [(1_700_000_000_000, 7)]
    with pytest.raises(ValueError, match="read-only"):
        block.columns[0].values[0] = 1


def test_reply_with_an_error():
    text = "message has been freed 涛".encode()
    head = struct.pack("<QQHQQII", 2**64 - 1, 8, 1, 5, 7, 0xFFFF, len(text))
    frame = head + text + struct.pack("<Q", 9)
    assert parse_reply(frame) == (7, 5, 0xFFFF, text.decode(), 9, 0, b"")
    for size in range(len(frame)):
        with pytest.raises(ProtocolError):
            parse_reply(frame[:size])
    with pytest.raises(ProtocolError, match="announces 0 bytes of raw data and has 1"):
        parse_reply(frame + b"\0")


def test_old_reply():
    frame = struct.pack("<QQQQIH", 5, 7, 1, 3, len(MESSAGE), 4) + MESSAGE
    assert parse_reply(frame) == (7, 5, 0, "", 1, RawType.METADATA, MESSAGE)
    for size in range(len(frame)):
        with pytest.raises(ProtocolError):
            parse_reply(frame[:size])
    with pytest.raises(ProtocolError, match="announces 138 bytes of raw data and has 139"):
        parse_reply(frame + b"\0")
    with pytest.raises(ProtocolError, match="unknown binary frame: action 7"):
        parse_reply(struct.pack("<QQQQIH", 5, 7, 1, 7, 0, 2))


def test_every_truncation_of_a_reply_is_refused():
    frame = FRAME_HEAD + MESSAGE
    for size in range(len(frame)):
        with pytest.raises(ProtocolError):
            parse_reply(frame[:size])
    with pytest.raises(ProtocolError, match="announces 138 bytes of raw data and has 139"):
        parse_reply(frame + b"\0")


@pytest.mark.parametrize(
    ("code", "position", "value", "message"),
    [
        ("Q", 8, 7, "unknown binary frame: action 7, version 1"),
        ("H", 16, 2, "unknown binary frame: action 8, version 2"),
        ("I", 34, 1, "announces 0 bytes of raw data and has 144"),
        ("I", 38, 2**32 - 1, "truncated binary frame: a message of 4294967295 bytes in 194"),
        ("I", 38, 139, "truncated binary frame: 194 bytes without raw data"),
        ("I", 52, 2**32 - 1, "announces 4294967295 bytes of raw data and has 138"),
        ("I", 52, 137, "announces 137 bytes of raw data and has 138"),
    ],
)
def test_inconsistent_replies_are_refused(code, position, value, message):
    frame = bytearray(FRAME_HEAD + MESSAGE)
    struct.pack_into("<" + code, frame, position, value)
    with pytest.raises(ProtocolError, match=message):
        parse_reply(frame)


# Messages


def test_example():
    assert len(MESSAGE) == 138
    assert read(MESSAGE) == EXAMPLE


def test_example_is_what_the_tests_build():
    schema = [(9, 8, b"ts"), (4, 4, b"v")]
    built = build_message(Part(RAW_BLOCK, schema, b"t1"))
    assert built.replace(b"\4\6\x09\0", b"\4\2\x09\1") == MESSAGE  # schema version, flags


def test_old_heads():
    """Two bare offsets, of the log and of snapshots, instead of a version and a length."""
    log, snapshot = b"\1" + bytes(8), b"\2" + bytes(16)
    for head in (log + log, snapshot + b"\3" + bytes(16), log + snapshot):
        assert read(head + MESSAGE[23:]) == EXAMPLE


@pytest.mark.parametrize("version", [100, 127])
@pytest.mark.parametrize("skipped", [b"", b"\1", bytes(range(100))])
def test_new_heads(version, skipped):
    head = bytes([version]) + struct.pack("<i", len(skipped)) + skipped
    assert read(head + MESSAGE[23:]) == EXAMPLE


@pytest.mark.parametrize("kind", [0, 4, 0x11, 99, 128, 255])
def test_unknown_heads_are_refused(kind):
    for head in (bytes([kind]) + bytes(17), b"\1" + bytes(8) + bytes([kind]) + bytes(8)):
        with pytest.raises(ProtocolError, match=f"offset of type {kind}"):
            read(head + MESSAGE[23:])


def test_no_blocks():
    assert read(build_message()) == []
    assert read(build_message(tail=b"")) == []
    assert read(build_message(tail=struct.pack("<i", 0)), RawType.METADATA) == []


def test_several_blocks_of_different_tables(parts):
    assert read(build_message(*parts)) == [
        (
            "d0",
            Precision.MILLISECOND,
            (Field("ts", TypeCode.TIMESTAMP, 8), Field("current", TypeCode.FLOAT, 4)),
            [(1, 1.5), (2, None), (3, -2.5)],
        ),
        (
            "站",
            Precision.MICROSECOND,
            (
                Field("ts", TypeCode.TIMESTAMP, 8),
                Field("s", TypeCode.VARCHAR, 32),
                Field("说", TypeCode.NCHAR, 16),
            ),
            [(4, "abc", "涛"), (5, "", None)],
        ),
        (
            "d0",
            Precision.NANOSECOND,
            (
                Field("ts", TypeCode.TIMESTAMP, 8),
                Field("price", TypeCode.DECIMAL64, 8, 10, 2),
                Field("sum", TypeCode.DECIMAL, 16, 20, 4),
            ),
            [(6, Decimal("123.45"), -5)],
        ),
    ]


def test_decimals_keep_their_digits(parts):
    [block] = MessageParser().parse(build_message(parts[2]), 2).blocks
    assert [str(value) for value in rows_of(block)[0][1:]] == ["123.45", "-5.0000"]


def test_without_table_names(parts):
    blocks = (
        MessageParser()
        .parse(build_message(*(part._replace(table=None) for part in parts)), 2)
        .blocks
    )
    assert [block.table for block in blocks] == [None] * 3
    assert [len(block) for block in blocks] == [3, 2, 1]


def test_without_schemas(parts):
    """The columns have types, lengths and digits still, but no names."""
    named = MessageParser().parse(build_message(*parts), 2).blocks
    for bare in (
        [part._replace(schema=None) for part in parts],
        [part._replace(schema=None, table=None) for part in parts],
    ):
        blocks = MessageParser().parse(build_message(*bare), 2).blocks
        for block, same in zip(blocks, named, strict=True):
            assert {field.name for field in block.fields} == {""}
            assert [field.type for field in block.fields] == [field.type for field in same.fields]
            assert rows_of(block) == rows_of(same)


def test_blocks_of_older_servers_have_no_trailing_byte(parts):
    older = []
    for part in parts:
        raw = bytearray(part.raw[:-1])
        struct.pack_into("<i", raw, 4, len(raw))
        older.append(part._replace(raw=bytes(raw)))
    assert read(build_message(*older)) == read(build_message(*parts))


def test_names_that_are_not_utf8(parts):
    part = parts[0]._replace(table=b"\xff", schema=[(9, 8, b"\xe6"), (6, 4, b"")])
    [block] = MessageParser().parse(build_message(part), 2).blocks
    assert block.table.encode("utf-8", "surrogateescape") == b"\xff"
    assert [field.name for field in block.fields] == ["\udce6", ""]


def test_metadata_has_the_created_tables_behind_its_blocks(parts):
    for created in ([], [b""], [b"x" * 300, b"yz"]):
        tail = struct.pack("<i", len(created))
        tail += b"".join(varint(len(one)) + one for one in created)
        data = build_message(*parts, tail=tail)
        assert read(data, RawType.METADATA) == read(build_message(*parts))
        for size in range(len(data)):
            with pytest.raises(ProtocolError):
                read(data[:size], RawType.METADATA)
        with pytest.raises(ProtocolError, match="inconsistent message: its parts end at"):
            read(data + b"\0", RawType.METADATA)
    for count in (-1, -(2**31), 2**31 - 1):
        with pytest.raises(ProtocolError, match=r"a count of|truncated"):
            read(build_message(*parts, tail=struct.pack("<i", count)), RawType.METADATA)


def test_a_pause_may_be_left_out(parts):
    data = build_message(*parts)
    assert read(data[:-8]) == read(data)
    assert read(build_message(*parts, tail=b"\xff" * 8)) == read(data)
    with pytest.raises(ProtocolError, match="inconsistent message: its parts end at"):
        read(data + b"\0")


@pytest.mark.parametrize("raw_type", [0, 1, 3, RawType.BATCH_META, RawType.RAW, 531, -1])
def test_opaque_messages_are_refused(raw_type):
    with pytest.raises(ProtocolError, match=rf"raw type {int(raw_type)} .* fetch_json_meta"):
        MessageParser().parse(MESSAGE, raw_type)


# Blocks


def test_blocks_are_views_of_the_frame(parts):
    frame = build_frame(build_message(*parts))
    whole = np.frombuffer(frame, np.uint8)
    reply = parse_reply(frame)
    for block in MessageParser().parse(reply.data, reply.raw_type).blocks:
        for column in block.columns:
            if isinstance(column, FixedColumn):
                assert np.shares_memory(column.values, whole)
            else:
                assert np.shares_memory(column.offsets, whole)
                assert np.shares_memory(column.data, whole)


def test_block_is_a_block(parts):
    named, *_ = MessageParser().parse(build_message(*parts), 2).blocks
    assert isinstance(named, TableBlock)
    assert isinstance(named, Block)
    assert repr(named) == "<TableBlock of 'd0' 3 rows x 2 columns>"
    decoder = RowDecoder(named.fields, named.precision, timestamp="int")
    assert named.decoded_by(decoder) is named
    assert list(named) == named.rows() == [(1, 1.5), (2, None), (3, -2.5)]
    [bare] = MessageParser().parse(build_message(parts[0]._replace(table=None)), 2).blocks
    assert repr(bare) == "<TableBlock 3 rows x 2 columns>"


# Schemas


def test_schemas_are_read_once(parts):
    parser = MessageParser()
    first = parser.parse(build_message(*parts, *parts), 2).blocks
    again = parser.parse(build_message(*reversed(parts)), 2).blocks
    for index in range(3):
        assert first[index].fields is first[index + 3].fields
        assert first[index].fields is again[2 - index].fields


def test_schemas_of_the_same_types_are_told_apart(parts):
    """Also where one begins like the other."""
    parser = MessageParser()
    for _ in range(2):
        for names in ([b"ts", b"a"], [b"ts", b"ab"], [b"ts", b"b"], [b"t", b"sa"], [b"ts", b""]):
            schema = [(9, 8, names[0]), (6, 4, names[1])]
            [block] = parser.parse(build_message(parts[0]._replace(schema=schema)), 2).blocks
            assert [field.name.encode() for field in block.fields] == names


def test_digits_of_decimals_are_part_of_a_schema(raw_block, fixed):
    parser = MessageParser()
    for scale in (2, 3, 2):
        raw = raw_block([fixed(21, "q", [12345], declared=0x08000A00 | scale)], 1, version=2)
        [block] = parser.parse(build_message(Part(raw, [(21, 8, b"d")], b"t")), 2).blocks
        assert block.fields == (Field("d", TypeCode.DECIMAL64, 8, 10, scale),)


def test_few_schemas_are_remembered(parts):
    parser = MessageParser()
    for number in range(300):
        schema = [(9, 8, b"ts"), (6, 4, b"c%d" % number)]
        [block] = parser.parse(build_message(parts[0]._replace(schema=schema)), 2).blocks
        assert block.fields[1].name == f"c{number}"
        assert sum(map(len, parser._schemas.values())) <= 128


# Recordings


def value_of(value: Any) -> Any:
    match value:
        case {"datetime": text}:
            return datetime.fromisoformat(text)
        case {"float": text}:
            return float(text)
        case {"hex": text}:
            return bytes.fromhex(text)
    return value


def test_recorded_messages(recording, recorded):
    """Topics of a query, of a stable and of a database, as the official client decoded them."""
    expected = [entry for entry in recording("tmq_data").expected if "blocks" in entry]
    assert len(expected) == len(recorded) == 9
    parser = MessageParser()
    for entry, frame in zip(expected, recorded, strict=True):
        reply = parse_reply(frame)
        assert (reply.code, reply.raw_type) == (0, RawType.DATA)
        blocks = parser.parse(reply.data, reply.raw_type).blocks
        assert [len(block) for block in blocks] == [block["nrows"] for block in entry["blocks"]]
        for block, said in zip(blocks, entry["blocks"], strict=True):
            assert len(block.columns) == said["ncols"]
            block.decoded_by(RowDecoder(block.fields, block.precision))
            assert block.rows() == [tuple(map(value_of, row)) for row in said["rows"]]


def test_recorded_tables_and_fields(recorded):
    """Only topics of a query leave out the tables, whatever was asked for."""
    tables: list[list[str | None]] = []
    for frame in recorded:
        blocks = MessageParser().parse(parse_reply(frame).data, 2).blocks
        tables.append([block.table for block in blocks])
        for block in blocks:
            told = [f"{field.name} {field.type_name}" for field in block.fields]
            if block.table is None:
                assert told == ["ts TIMESTAMP", "i INT", "vc VARCHAR(32)", "loc NCHAR(16)"]
            else:
                assert told[::15] == ["ts TIMESTAMP", "g GEOMETRY(100)"]
                assert told[12:15] == ["vc VARCHAR(32)", "nc NCHAR(32)", "vb VARBINARY(32)"]
    three = ["d0", "d1", "d2"]
    assert tables == [[None], [None] * 3, [None] * 3, ["d3"], three, three, three, ["d3"], three]


# Damage


def test_every_truncation_is_refused(parts, recorded):
    messages = [MESSAGE, build_message(*parts), b"\1" + bytes(8) + b"\1" + bytes(8) + MESSAGE[23:]]
    messages += [bytes(parse_reply(frame).data) for frame in recorded[:4]]
    for data in messages:
        for size in range(len(data)):
            if size == len(data) - len(SLEEP):
                continue  # an old server's
            with pytest.raises(ProtocolError):
                read(data[:size])


@pytest.mark.parametrize(
    ("position", "changed", "message"),
    [
        (1, "ff ff ff ff", "a count of -1"),
        (1, "ff ff ff 7f", "truncated message: 138 bytes"),
        (23, "ff ff ff ff", "a count of -1"),
        (23, "00 00 00 00", "parts end at 35, the message at 138"),
        (23, "02 00 00 00", "truncated|inconsistent"),
        (23, "ff ff ff 7f", "truncated|inconsistent"),
        (27, "02", "flags 2, 1"),
        (28, "ff", "flags 1, 255"),
        (27, "00", "inconsistent message: its parts end"),
        (28, "00", "inconsistent|truncated"),
        (29, "7f", "truncated message: 127 bytes at 30 of 138"),
        (29, "00", "a block of 0 bytes"),
        (29, "11", "a block of 17 bytes"),
        (29, "12", "truncated message"),
        (29, "50", "inconsistent|truncated"),
        (29, "ff ff ff ff 7f", "truncated message: 34359738367 bytes"),
        (29, "ff ff ff ff ff", "an integer of more than 5 bytes"),
        (30, "00", "unknown block format 0, compression 0"),
        (30, "02", "unknown block format 2, compression 0"),
        (46, "01", "unknown block format 1, compression 1"),
        (47, "03", "precision 3"),
        (47, "ff", "precision -1"),
        (48, "03", "unknown block version 3"),
        (52, "3e", "it announces 62 bytes and has 61"),
        (60, "01", "a schema of 2 columns for a block of 1"),
        (60, "ff ff ff ff", "a schema of 2 columns for a block of"),
        (60, "00 00 00 00", "a schema of 2 columns for a block of 0"),
        (76, "16", "block has unknown type 22"),
        (109, "06", "a schema of 3 columns for a block of 2"),
        (109, "03", "a schema of -2 columns for a block of 2"),
        (111, "05", "block is TIMESTAMP, the query announced BIGINT"),
        (111, "16", "column 'ts' has unknown type 22"),
        (115, "00", "a name without an end"),
        (115, "02", "a name without an end"),
        (115, "7f", "truncated message: 127 bytes"),
        (118, "78", "a name without an end"),
        (126, "02", "a name without an end"),
        (129, "78", "a name without an end"),
    ],
)
def test_inconsistent_messages_are_refused(position, changed, message):
    data = bytearray(MESSAGE)
    patch = bytes.fromhex(changed)
    data[position : position + len(patch)] = patch
    with pytest.raises(ProtocolError, match=message):
        read(bytes(data))


@st.composite
def damaged(draw: st.DrawFn, originals: list[bytes]) -> bytes:
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 4))):
        position = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["flip", "set", "word", "cut", "insert"])):
            case "flip" if position < len(data):
                data[position] ^= 1 << draw(st.integers(0, 7))
            case "set" if position < len(data):
                data[position] = draw(st.integers(0, 255))
            case "word":
                data[position : position + 4] = draw(
                    st.sampled_from([b"\xff" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x80", bytes(4)])
                )
            case "cut":
                del data[position:]
            case "insert":
                data[position:position] = draw(st.binary(max_size=9))
    return bytes(data)


def check(parser: MessageParser, data: bytes, raw_type: int) -> None:
    try:
        blocks = parser.parse(data, raw_type).blocks
        decoded = [rows_of(block) for block in blocks]
    except (ProtocolError, DataError):
        return
    for block, rows in zip(blocks, decoded, strict=True):
        assert len(rows) == len(block)
        assert len(block.fields) == len(block.columns)
        assert {len(row) for row in rows} <= {len(block.columns)}


@settings(
    max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damaged_messages_are_refused_or_decoded(data, parts, recorded):
    """And leave no trace in the parser."""
    good = build_message(*parts)
    created = good[:-8] + struct.pack("<i", 1) + b"\3abc"
    originals = [MESSAGE, good, created]
    originals += [bytes(parse_reply(frame).data) for frame in recorded[:4]]
    parser = MessageParser()
    for _ in range(data.draw(st.integers(1, 2))):
        check(parser, data.draw(damaged(originals)), data.draw(st.sampled_from([2, 4])))
    assert [rows_of(block) for block in parser.parse(MESSAGE, 2).blocks] == [
        [(1_700_000_000_000, 7)]
    ]
    again = [
        (one.table, one.precision, one.fields, rows_of(one)) for one in parser.parse(good, 2).blocks
    ]
    assert again == read(good)


def test_every_byte_changed(parts):
    for original in (MESSAGE, build_message(*parts)):
        parser = MessageParser()
        for position in range(len(original)):
            for value in (0x00, 0x01, 0x7F, 0x80, 0xFF):
                changed = bytearray(original)
                changed[position] = value
                check(parser, bytes(changed), 2)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([2, 4]))
def test_random_messages(data, raw_type):
    check(MessageParser(), data, raw_type)
    check(MessageParser(), HEAD + data, raw_type)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80), st.booleans())
def test_random_frames(data, new):
    frame = b"\xff" * 8 + struct.pack("<QH", 8, 1) + data if new else data
    try:
        reply = parse_reply(frame)
    except ProtocolError:
        return
    assert reply.data == frame[len(frame) - len(reply.data) :]


@pytest.mark.parametrize(
    ("head", "end"),
    [
        ("64 12000000 11 0400000000000000 11 0500000000000000", 5),
        ("64 12000000 01 0400000000000000 01 ffffffff00000000", 2**32 - 1),
        ("01 0400000000000000 01 0600000000000000", 6),
        ("02" + "00" * 16 + "01 0700000000000000", 7),
        ("01 0400000000000000 02" + "00" * 16, None),  # a snapshot
        ("64 12000000 fe 0400000000000000 11 0500000000000000", None),
        ("64 12000000 11 0400000000000000 ff 0500000000000000", None),
        ("64 22000000 12" + "00" * 16 + "12" + "00" * 16, None),
        ("64 00000000", None),
    ],
)
def test_the_offset_behind_a_message(parts, head, end):
    parsed = MessageParser().parse(build_message(parts[0], head=bytes.fromhex(head)), 2)
    assert parsed.end == end
    assert len(parsed.blocks) == 1

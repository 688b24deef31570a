"""Reading what clients bind: the documented example, the recordings, and everything broken."""

from __future__ import annotations

import base64
import json
import math
import random
import struct
from contextlib import suppress
from pathlib import Path

import pytest

from aiotaos import ProtocolError, TypeCode
from aiotaos.protocol import frames
from aiotaos.protocol.bound import BoundColumn, BoundTable, parse_bind, parse_raw_block

CAPTURES = Path(__file__).parent.parent / "data" / "captures"
HEAD = struct.pack("<Hi", 1, -1)
TIMES = "23000000 09000000 02000000 00 00 00 10000000 0068e5cf8b010000 e86be5cf8b010000"  # no NULL
INSERT = HEAD + bytes.fromhex(
    "4c010000 02000000 02000000 03000000 1c000000 2c000000 8e000000"
    "0600 0600 643130303100 643130303200"
    "2e000000 2c000000"
    "16000000 04000000 01000000 00 00 04000000 02000000"
    "18000000 08000000 01000000 00 01 02000000 02000000 5346"
    "16000000 04000000 01000000 00 00 04000000 03000000"
    "16000000 08000000 01000000 01 01 00000000 00000000"
    "5b000000 5b000000" + TIMES + "1b000000 06000000 02000000 00 01 00 08000000 00002841 00000000"
    "1d000000 0a000000 02000000 00 01 01 02000000 00000000 02000000 6162"
    + TIMES
    + "1b000000 06000000 02000000 00 00 00 08000000 0000803f 00000040"
    "1d000000 0a000000 02000000 01 00 01 00000000 02000000 02000000 c3a9"
)
QUERY = HEAD + bytes.fromhex(
    "4e000000 01000000 00000000 02000000 00000000 00000000 1c000000 2e000000"
    "16000000 04000000 01000000 00 00 04000000 05000000"
    "18000000 08000000 01000000 00 01 02000000 02000000 6162"
)
TICKS = [1700000000000, 1700000001000]


def block(
    type: TypeCode, flags: bytes, buffer: bytes = b"", lengths: list[int] | None = None
) -> bytes:
    """A bind block."""
    head = struct.pack("<ii", type, len(flags)) + flags
    if lengths is None:
        head += b"\0"
    else:
        head += b"\1" + struct.pack(f"<{len(lengths)}i", *lengths)
    body = head + struct.pack("<i", len(buffer)) + buffer
    return struct.pack("<I", len(body) + 4) + body


def query(*blocks: bytes) -> bytes:
    """A bind of one table with these columns."""
    columns = b"".join(blocks)
    head = struct.pack("<7I", 32 + len(columns), 1, 0, len(blocks), 0, 0, 28)
    return HEAD + head + struct.pack("<I", len(columns)) + columns


def only(body: bytes) -> BoundColumn:
    return parse_bind(body).tables[0].columns[0]


def test_the_documented_insert() -> None:
    times = BoundColumn(TypeCode.TIMESTAMP, TICKS)
    assert parse_bind(INSERT) == (
        -1,
        [
            BoundTable(
                "d1001",
                [BoundColumn(TypeCode.INT, [2]), BoundColumn(TypeCode.VARCHAR, ["SF"])],
                [
                    times,
                    BoundColumn(TypeCode.FLOAT, [10.5, None]),
                    BoundColumn(TypeCode.NCHAR, ["ab", None]),
                ],
            ),
            BoundTable(
                "d1002",
                [BoundColumn(TypeCode.INT, [3]), BoundColumn(TypeCode.VARCHAR, [None])],
                [
                    times,
                    BoundColumn(TypeCode.FLOAT, [1.0, 2.0]),
                    BoundColumn(TypeCode.NCHAR, [None, "é"]),
                ],
            ),
        ],
    )


def test_the_documented_query() -> None:
    (table,) = parse_bind(QUERY).tables
    assert table == BoundTable(
        None, [], [BoundColumn(TypeCode.INT, [5]), BoundColumn(TypeCode.VARCHAR, ["ab"])]
    )


@pytest.mark.parametrize(
    ("type", "buffer", "values"),
    [
        (TypeCode.BOOL, b"\0\1\2", [False, True, True]),
        (TypeCode.TINYINT, b"\x80\0\x7f", [-128, 0, 127]),
        (TypeCode.UBIGINT, b"\xff" * 8 + bytes(16), [2**64 - 1, 0, 0]),
        (TypeCode.DOUBLE, struct.pack("<3d", math.inf, -0.0, 1e300), [math.inf, -0.0, 1e300]),
    ],
)
def test_numbers(type: TypeCode, buffer: bytes, values: list[object]) -> None:
    column = only(query(block(type, bytes(3), buffer)))
    assert column == BoundColumn(type, values)
    assert [one.__class__ for one in column.values] == [one.__class__ for one in values]


def test_nan_stays_nan() -> None:
    assert math.isnan(only(query(block(TypeCode.FLOAT, b"\0", b"\0\0\xc0\x7f"))).values[0])


def test_nothing_but_null_without_a_buffer() -> None:
    assert only(query(block(TypeCode.BIGINT, b"\1\1"))).values == [None, None]


def test_rows_that_say_nothing() -> None:
    column = only(query(block(TypeCode.TINYINT, b"\0\2\1", b"\5\6\7")))
    assert column == BoundColumn(TypeCode.TINYINT, [5, None, None], frozenset({1}))


def test_bytes() -> None:
    column = only(query(block(TypeCode.VARBINARY, b"\0\1\0", b"\0\xff", [2, 0, 0])))
    assert column.values == [b"\0\xff", None, b""]


def test_text_that_is_not_utf8() -> None:
    column = only(query(block(TypeCode.VARCHAR, b"\0", b"\xff", [1])))
    assert column.values == ["\udcff"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"\1", "message length is too short"),
        (HEAD, "message length is too short"),
        (struct.pack("<Hi", 2, -1), "unknown stmt2 bind version"),
        (QUERY + b"\0", "total length not match, expect 78, but get 79"),
        (query(block(TypeCode.INT, b"\0", b"\0\0\0")), "tableIndex: 0, fieldIndex: 0"),
        (query(block(TypeCode.VARCHAR, b"\0", b"ab")), "bind data length error"),
        (query(block(TypeCode.VARCHAR, b"\0", b"ab", [3])), "bind data length error"),
        (query(block(TypeCode.VARCHAR, b"\0", b"ab", [-1])), "bind data length error"),
        (query(block(TypeCode.NULL, b"\1", b"", [0])), "unsupported type 0"),
        (query(b"\0" * 12), "bind data length error"),
        (HEAD + struct.pack("<7I", 28, 0, 0, 0, 0, 0, 0), "table count is 0"),
        (HEAD + struct.pack("<7I", 28, 1, 0, 0, 0, 28, 0), "tag count is 0, but tags offset"),
        (HEAD + struct.pack("<7I", 28, 1, 0, 1, 0, 0, 0), "col count is 1, but cols offset is 0"),
        (HEAD + struct.pack("<7I", 28, 2**32 - 1, 0, 1, 0, 0, 28), "cols out of range"),
        (HEAD + struct.pack("<7IH", 30, 1, 0, 0, 28, 0, 0, 0), "table name length is 0"),
        (HEAD + struct.pack("<7IH", 31, 1, 0, 0, 28, 0, 0, 1) + b"a", "does not end with 0"),
        (HEAD + struct.pack("<7II", 32, 1, 0, 1, 0, 0, 28, 0), "cols length is 0"),
    ],
)
def test_broken_binds(body: bytes, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        parse_bind(body)


def test_an_unknown_type() -> None:
    with pytest.raises(ProtocolError, match="unknown type 99"):
        parse_bind(query(block(99, b"\0", b"\0")))  # type: ignore[arg-type]


@pytest.mark.parametrize("body", [INSERT, QUERY])
def test_a_bind_cut_anywhere(body: bytes) -> None:
    for length in range(len(body)):
        with pytest.raises(ProtocolError):
            parse_bind(body[:length])
        if length >= 34:
            fixed = body[:6] + struct.pack("<I", length - 6) + body[10:length]
            with pytest.raises(ProtocolError):
                parse_bind(fixed)


@pytest.mark.parametrize("body", [INSERT, QUERY])
def test_a_bind_with_wrong_bytes(body: bytes) -> None:
    """Whatever is changed, it is read or refused, and nothing else happens."""
    chance = random.Random(7)
    for _ in range(3000):
        wrong = bytearray(body)
        for _ in range(chance.randint(1, 4)):
            wrong[chance.randrange(10, len(body))] = chance.choice([0, 1, 2, 127, 128, 255])
        with suppress(ProtocolError):
            parse_bind(wrong)


def raw_block(*columns: tuple[int, bytes, bytes], rows: int = 2) -> bytes:
    """A raw block of type, bitmap or offsets, and data of each column."""
    infos = b"".join(struct.pack("<bi", type, 0) for type, _, _ in columns)
    lengths = struct.pack(f"<{len(columns)}i", *(len(data) for _, _, data in columns))
    data = b"".join(head + data for _, head, data in columns)
    total = 28 + len(infos) + len(lengths) + len(data)
    return struct.pack("<iiiiIQ", 1, total, rows, len(columns), 0, 0) + infos + lengths + data


NCHAR = (TypeCode.NCHAR, struct.pack("<2i", 0, -1), b"\x08\0" + "a涛".encode("utf-32-le"))
INTS = (TypeCode.INT, b"\x40", struct.pack("<2i", -1, 0))


def test_a_raw_block() -> None:
    assert parse_raw_block(raw_block(NCHAR, INTS)) == [
        BoundColumn(TypeCode.NCHAR, ["a涛", None]),
        BoundColumn(TypeCode.INT, [-1, None]),
    ]


def test_a_raw_block_read_by_the_types_of_the_table() -> None:
    (column,) = parse_raw_block(raw_block((TypeCode.INT, *INTS[1:])), [TypeCode.UINT])
    assert column == BoundColumn(TypeCode.UINT, [2**32 - 1, None])


def test_a_recorded_raw_block() -> None:
    lines = (CAPTURES / "stmt1.wire.jsonl").read_text().splitlines()
    sent = [json.loads(line) for line in lines]
    requests = [
        frames.parse_request(base64.b64decode(event["b64"]))
        for event in sent
        if event["kind"] == "binary" and event["dir"] == "c>s"
    ]
    (bind,) = [one for one in requests if one.action == frames.Action.BIND]
    assert parse_raw_block(bind.body) == [
        BoundColumn(TypeCode.TIMESTAMP, [1709251200000, 1709251200001]),
        BoundColumn(TypeCode.INT, [1, None]),
        BoundColumn(TypeCode.VARCHAR, ["a", None]),
    ]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "message length is too short"),
        (raw_block((TypeCode.INT, b"\0", b"\0\0\0")), "2 rows in 3 bytes"),
        (raw_block((TypeCode.VARCHAR, struct.pack("<2i", 0, 9), b"\1\0a")), "a value at 9"),
        (raw_block((TypeCode.VARCHAR, struct.pack("<2i", 0, -1), b"\2\0a")), "a value up to 4"),
        (raw_block((TypeCode.NCHAR, struct.pack("<2i", 0, -1), b"\1\0a")), "not UTF-32"),
        (raw_block((TypeCode.DECIMAL, b"\0", bytes(32))), "unsupported data type 17"),
        (struct.pack("<iiiiIQ", 1, 28, 2**31 - 1, 2**31 - 1, 0, 0), "truncated block"),
    ],
)
def test_broken_raw_blocks(body: bytes, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        parse_raw_block(body)


def test_a_raw_block_of_another_width() -> None:
    with pytest.raises(ProtocolError, match="column count not match, expect 1, but get 2"):
        parse_raw_block(raw_block(NCHAR, INTS), [TypeCode.NCHAR])


def test_a_raw_block_cut_or_changed() -> None:
    body = raw_block(NCHAR, INTS)
    for length in range(len(body)):
        with pytest.raises(ProtocolError):
            parse_raw_block(body[:length])
    chance = random.Random(8)
    for _ in range(3000):
        wrong = bytearray(body)
        wrong[chance.randrange(len(body))] = chance.randrange(256)
        with suppress(ProtocolError):
            parse_raw_block(wrong)


def test_a_raw_block_of_bytes() -> None:
    body = struct.pack("<2i", 0, -1), b"\x02\0\x00\xff"
    assert parse_raw_block(raw_block((TypeCode.VARBINARY, *body))) == [
        BoundColumn(TypeCode.VARBINARY, [b"\x00\xff", None])
    ]

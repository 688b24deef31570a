"""The binary replies of ``/rest/tmq``, byte for byte."""

from __future__ import annotations

import pytest

from aiotaos import Field, Precision, TypeCode
from aiotaos.embedded import tmq_frames
from aiotaos.embedded.tmq_frames import Block, SchemaColumn
from aiotaos.protocol.encode import encode_block

# one row of a table t1: ts 1700000000000, v 7; another client's parser reads it
MESSAGE = bytes.fromhex(
    "64 12000000 11 0400000000000000 11 0500000000000000"
    "01000000 01 01"
    "4f 0100000000000000 0000000000000001 00 00"
    "02000000 3d000000 01000000 02000000 00000080 0000000000000000"
    "09 08000000 04 04000000 08000000 04000000"
    "00 0068e5cf8b010000 00 07000000 00"
    "04 02 09 01 10 02 03 747300 04 00 08 04 02 7600"
    "03 743100 0000000000000000"
)
FIELDS = [Field("ts", TypeCode.TIMESTAMP, 8), Field("v", TypeCode.INT, 4)]


def block() -> Block:
    raw = encode_block(FIELDS, [[1700000000000], [7]], version=2)
    columns = (SchemaColumn(FIELDS[0], 1, 1), SchemaColumn(FIELDS[1], 2, 0))
    return Block(raw, 1, Precision.MILLISECOND, columns, "t1", schema_version=1)


def test_a_message():
    assert len(MESSAGE) == 138
    assert tmq_frames.message(4, 5, [block()], with_names=True) == MESSAGE


def test_a_message_without_names_and_one_about_new_tables():
    raw = tmq_frames.message(4, 5, [block()], with_names=False)
    assert raw == MESSAGE[:27] + b"\0\1" + MESSAGE[29:-12] + bytes(8)
    raw = tmq_frames.message(4, 5, [block()], with_names=True, raw_type=tmq_frames.METADATA)
    assert raw == MESSAGE[:-8] + bytes(4)


def test_a_message_without_blocks():
    raw = tmq_frames.message(4, 5, [], with_names=True)
    assert raw == MESSAGE[:23] + bytes(4) + bytes(8)


def test_the_frame_of_fetch_raw_data():
    frame = tmq_frames.raw_data_reply(7, 1, raw=MESSAGE, timing=123456)
    assert frame == MESSAGE_FRAME + MESSAGE
    frame = tmq_frames.raw_data_reply(7, 2, code=0xFFFF, error="nö", timing=1)
    assert frame == bytes.fromhex(
        "ffffffffffffffff 0800000000000000 0100 0100000000000000 0700000000000000"
        "ffff0000 03000000 6ec3b6 0200000000000000"
    )


MESSAGE_FRAME = bytes.fromhex(
    "ffffffffffffffff 0800000000000000 0100 40e2010000000000 0700000000000000"
    "00000000 00000000 0100000000000000 0200 8a000000"
)


def test_the_older_frames():
    assert tmq_frames.raw_reply(7, 1, 4, b"raw", 123456) == bytes.fromhex(
        "40e2010000000000 0700000000000000 0100000000000000 0300000000000000 03000000 0400 726177"
    )
    assert tmq_frames.block_reply(7, 1, b"raw", 123456) == bytes.fromhex(
        "40e2010000000000 0700000000000000 0100000000000000 726177"
    )


@pytest.mark.parametrize(
    ("number", "plain", "folded"),
    [
        (0, "00", "00"),
        (1, "01", "02"),
        (127, "7f", "fe01"),
        (128, "8001", "8002"),
        (300, "ac02", "d804"),
        (2**31 - 1, "ffffffff07", "feffffff0f"),
    ],
)
def test_numbers(number, plain, folded):
    assert tmq_frames.uvarint(number).hex() == plain
    assert tmq_frames.zigzag(number).hex() == folded


def test_negative_numbers_and_texts():
    assert tmq_frames.zigzag(-1) == b"\x01"
    assert tmq_frames.zigzag(-(2**31)).hex() == "ffffffff0f"
    assert tmq_frames.cstr("表") == b"\x04\xe8\xa1\xa8\0"

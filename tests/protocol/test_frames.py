from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiotaos.errors import ProtocolError
from aiotaos.protocol.frames import (
    Action,
    FetchReply,
    Request,
    fetch_reply,
    fetch_request,
    old_block_reply,
    parse_query_body,
    parse_reply,
    parse_request,
    query_request,
)

ONES = "ff" * 8
QUERY = bytes.fromhex(
    "0100000000000000 0000000000000000 0600000000000000 0100 08000000 73656c6563742031"
)
FETCH = bytes.fromhex("0100000000000000 0100000000000000 0700000000000000 0100")
BLOCK_HEAD = bytes.fromhex(
    f"{ONES} 0700000000000000 0100 40e2010000000000 0100000000000000 00000000 00000000"
    "0100000000000000 00 7e000000"
)
FINISHED = bytes.fromhex(
    f"{ONES} 0700000000000000 0100 e803000000000000 0200000000000000 00000000 00000000"
    "0100000000000000 01"
)
ERROR = bytes.fromhex(
    f"{ONES} 0700000000000000 0100 e803000000000000 0300000000000000 ffff0000 0d000000"
    "726573756c74206973206e696c 0100000000000000 01"
)


def view(block: memoryview | None) -> bytes | None:
    return None if block is None else bytes(block)


# Requests


def test_query_request():
    assert query_request(1, "select 1") == QUERY
    assert parse_request(QUERY) == Request(1, 0, Action.QUERY, QUERY[24:])
    assert parse_query_body(QUERY[24:]) == "select 1"


def test_fetch_request():
    assert fetch_request(1, 1) == FETCH
    assert parse_request(FETCH) == Request(1, 1, Action.FETCH, b"\1\0")


def test_identifiers_of_64_bits():
    top = 2**64 - 1
    assert fetch_request(top, top)[:16] == b"\xff" * 16
    assert parse_request(fetch_request(top, top - 1))[:2] == (top, top - 1)


@pytest.mark.parametrize("sql", ["select '涛🚀'", "select 'a\0b'", "x" * 70_000, "select '\udcff'"])
def test_query_text(sql):
    frame = query_request(7, sql)
    raw = sql.encode("utf-8", "surrogateescape")
    assert frame[24:30] == struct.pack("<HI", 1, len(raw))
    assert frame[30:] == raw
    assert parse_query_body(parse_request(frame).body) == sql


def test_bytes_behind_the_query_are_ignored():
    assert parse_query_body(QUERY[24:] + b"rest") == "select 1"


def test_truncated_requests():
    for size in range(24):
        with pytest.raises(ProtocolError, match=f"truncated request: {size} bytes"):
            parse_request(QUERY[:size])
    for size in range(24, len(QUERY)):
        with pytest.raises(ProtocolError, match=r"too short|uncompleted message"):
            parse_query_body(parse_request(QUERY[:size]).body)


def test_empty_query_is_refused_like_taosadapter_does():
    with pytest.raises(ProtocolError, match="message length is too short"):
        parse_query_body(query_request(1, "")[24:])


def test_query_of_another_version():
    with pytest.raises(ProtocolError, match="unknown binary query version 2"):
        parse_query_body(b"\2" + QUERY[25:])


def test_recorded_requests(recording):
    """Frames of the official client are made again from what they say."""
    seen = 0
    for name in ("connect", "types_ms", "tags_json", "many_blocks", "errors"):
        for frame in recording(name).frames("c>s"):
            if isinstance(frame, str):
                continue
            request = parse_request(frame)
            if request.action == Action.FETCH:
                assert fetch_request(request.req_id, request.id) == frame
            elif len(frame) > 30:
                assert request.action == Action.QUERY
                assert query_request(request.req_id, parse_query_body(request.body)) == frame
            seen += 1
    assert seen > 50


# Replies


def test_block_reply(example):
    frame = BLOCK_HEAD + example
    assert len(frame) == 181
    assert fetch_reply(1, 1, block=example, timing=123456) == frame
    reply = parse_reply(frame)
    assert reply[:5] == (1, 1, 123456, 0, "")
    assert view(reply.block) == example


def test_finished_reply():
    assert fetch_reply(2, 1, timing=1000) == FINISHED
    assert parse_reply(FINISHED) == FetchReply(2, 1, 1000, 0, "", None)


def test_error_reply():
    assert fetch_reply(3, 1, code=0xFFFF, message="result is nil", timing=1000) == ERROR
    assert parse_reply(ERROR) == FetchReply(3, 1, 1000, 0xFFFF, "result is nil", None)


def test_message_is_utf8():
    frame = fetch_reply(3, 1, code=1, message="涛")
    assert parse_reply(frame).message == "涛"
    assert parse_reply(frame.replace("涛".encode(), b"\xff\xffx")).message == "\ufffd\ufffdx"


def test_message_before_a_block(example):
    frame = bytearray(BLOCK_HEAD)
    struct.pack_into("<I", frame, 38, 2)
    reply = parse_reply(bytes(frame[:42]) + b"ok" + bytes(frame[42:]) + example)
    assert (reply.message, view(reply.block)) == ("ok", example)


def test_code_without_the_finished_flag():
    frame = ERROR[:-1] + b"\0"
    assert parse_reply(frame) == FetchReply(3, 1, 1000, 0xFFFF, "result is nil", None)


def test_old_block_reply(example):
    frame = struct.pack("<QQ", 123, 9) + example
    assert old_block_reply(9, example, timing=123) == frame
    reply = parse_reply(frame)
    assert reply[:5] == (0, 9, 123, 0, "")
    assert view(reply.block) == example


@pytest.mark.parametrize("buffer", [bytes, bytearray, memoryview])
def test_blocks_are_views_of_the_frame(buffer, example):
    for frame in (BLOCK_HEAD + example, old_block_reply(1, example)):
        data = buffer(frame)
        block = parse_reply(data).block
        assert np.shares_memory(np.frombuffer(block, np.uint8), np.frombuffer(data, np.uint8))
        assert bytes(block) == example


def test_every_truncation_is_refused(example):
    for frame in (BLOCK_HEAD + example, FINISHED, ERROR):
        for size in range(len(frame)):
            with pytest.raises(ProtocolError, match=r"truncated|inconsistent"):
                parse_reply(frame[:size])
    for size in range(16):
        with pytest.raises(ProtocolError, match="truncated binary frame"):
            parse_reply(old_block_reply(1, example)[:size])


@pytest.mark.parametrize(
    ("code", "position", "value", "message"),
    [
        ("Q", 8, 8, "unknown binary frame: action 8, version 1"),
        ("H", 16, 2, "unknown binary frame: action 7, version 2"),
        ("I", 38, 1, "inconsistent|truncated"),
        ("I", 38, 2**32 - 1, "a message of 4294967295 bytes in 181"),
        ("b", 50, 1, "130 bytes behind the end of a result"),
        ("I", 34, 1, "130 bytes behind the end of a result"),
        ("I", 51, 125, "announces a block of 125 bytes and has 126"),
        ("I", 51, 127, "announces a block of 127 bytes and has 126"),
        ("I", 51, 2**32 - 1, "announces a block of 4294967295 bytes"),
    ],
)
def test_corrupt_numbers_are_refused(code, position, value, message, example):
    frame = bytearray(BLOCK_HEAD + example)
    struct.pack_into("<" + code, frame, position, value)
    with pytest.raises(ProtocolError, match=message):
        parse_reply(bytes(frame))


def test_recorded_replies(recording):
    """Frames of the real server are made again from what they say."""
    seen = 0
    for name in ("connect", "types_us", "decimals_blobs", "many_blocks", "json_ws"):
        for frame in recording(name).frames("s>c"):
            if isinstance(frame, str):
                continue
            req_id, result_id, timing, code, message, block = parse_reply(frame)
            if frame[:8] == b"\xff" * 8:
                made = fetch_reply(
                    req_id, result_id, block=block, code=code, message=message, timing=timing
                )
            else:
                made = old_block_reply(result_id, block, timing=timing)
            assert made == frame
            seen += 1
    assert seen > 15


# Random damage


@settings(max_examples=500, deadline=None)
@given(
    frame=st.sampled_from([BLOCK_HEAD + bytes(126), FINISHED, ERROR, QUERY, FETCH]),
    edits=st.lists(st.tuples(st.integers(0, 60), st.binary(max_size=8)), max_size=4),
    size=st.integers(0, 200),
)
def test_damaged_frames(frame, edits, size):
    data = bytearray(frame)
    for position, piece in edits:
        data[position : position + len(piece)] = piece
    check(bytes(data[:size]))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80), st.booleans())
def test_random_frames(data, ones):
    check(b"\xff" * 8 + data if ones else data)


def check(data: bytes) -> None:
    try:
        reply = parse_reply(data)
    except ProtocolError:
        pass
    else:
        assert reply.block is None or bytes(reply.block) == data[len(data) - len(reply.block) :]
    try:
        sql = parse_query_body(parse_request(data).body)
    except ProtocolError:
        pass
    else:
        assert sql.encode("utf-8", "surrogateescape") in data

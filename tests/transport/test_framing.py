"""Frames, against those that the websockets package makes and reads."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import PayloadTooBig
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from aiotaos.transport.framing import BINARY, MAX_MESSAGE, OTHER, TEXT, Masks, Splitter

LENGTHS = [0, 1, 125, 126, 127, 65535, 65536, 200_000]


def feed(splitter: Splitter, data: bytes) -> list[tuple[int, bytes]]:
    """Have bytes received, as many at a time as there is room for."""
    found = []
    while True:
        buffer = splitter.buffer()
        assert len(buffer) > 0
        size = min(len(buffer), len(data))
        buffer[:size] = data[:size]
        frames = splitter.received(size)
        for _, message in frames:
            assert memoryview(message).readonly
        found += [(opcode, bytes(message)) for opcode, message in frames]
        data = data[size:]
        if not data:
            return found


def whole(opcode: int, data: bytes, **facts: bool) -> bytes:
    return Frame(Opcode(opcode), data, **facts).serialize(mask=False)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_messages(opcode: int, length: int) -> None:
    data = bytes(n % 251 for n in range(length))
    assert feed(Splitter(), whole(opcode, data)) == [(opcode, data)]


frames = st.lists(
    st.tuples(
        st.sampled_from([TEXT, BINARY, Opcode.PING, Opcode.PONG]),
        st.one_of(st.binary(max_size=130), st.integers(65530, 65540).map(bytes)),
    ).filter(lambda frame: frame[0] in (TEXT, BINARY) or len(frame[1]) < 126),
    max_size=6,
)


@given(frames, st.lists(st.integers(1, 70_000), max_size=12))
def test_any_pieces(sent: list[tuple[int, bytes]], cuts: list[int]) -> None:
    stream = b"".join(whole(opcode, data) for opcode, data in sent)
    splitter, found, start = Splitter(), [], 0
    for cut in [*cuts, len(stream)]:
        found += feed(splitter, stream[start : start + cut])
        start += cut
    expected = [
        (opcode, data) if opcode in (TEXT, BINARY) else (OTHER, whole(opcode, data))
        for opcode, data in sent
    ]
    assert [(opcode, bytes(message)) for opcode, message in found] == expected


def test_messages_do_not_change_when_more_comes() -> None:
    splitter = Splitter()
    data = [bytes([n]) * size for n, size in enumerate([3, 70_000, 5, 65_536, 65_535, 200_000])]
    stream, kept = b"".join(whole(BINARY, one) for one in data), []
    while stream:
        buffer = splitter.buffer()
        size = min(len(buffer), len(stream), 40_000)
        buffer[:size] = stream[:size]
        kept += splitter.received(size)
        stream = stream[size:]
    assert [bytes(message) for _, message in kept] == data


def test_one_byte_after_the_other() -> None:
    stream = whole(TEXT, b"one") + whole(Opcode.PING, b"!") + whole(BINARY, bytes(300))
    splitter = Splitter()
    found = [frame for byte in stream for frame in feed(splitter, bytes([byte]))]
    assert found == [(TEXT, b"one"), (OTHER, whole(Opcode.PING, b"!")), (BINARY, bytes(300))]


def test_fragments_are_left_to_the_core() -> None:
    """And whole messages in between, which are against the rules."""
    parts = [
        whole(TEXT, b"a", fin=False),
        whole(Opcode.PING, b"?"),
        whole(Opcode.CONT, b"b", fin=False),
        whole(BINARY, b"wrong"),
        whole(Opcode.CONT, b"c"),
    ]
    splitter = Splitter()
    assert feed(splitter, b"".join(parts[:3])) == [(OTHER, part) for part in parts[:3]]
    assert feed(splitter, parts[3]) == [(OTHER, parts[3])]
    assert feed(splitter, whole(TEXT, b"d", fin=False)) == [(OTHER, whole(TEXT, b"d", fin=False))]
    assert feed(splitter, parts[4]) == [(OTHER, parts[4])]
    assert feed(splitter, whole(TEXT, b"e")) == [(TEXT, b"e")]


@pytest.mark.parametrize("first", [0xC2, 0xA2, 0x92, 0xC1, 0x83, 0x88])
def test_other_frames_are_left_to_the_core(first: int) -> None:
    """Reserved bits (compression), unknown opcodes, a close."""
    frame = bytes([first]) + whole(BINARY, b"xy")[1:]
    assert feed(Splitter(), frame) == [(OTHER, frame)]


def test_a_server_that_masks() -> None:
    frame = Frame(Opcode.TEXT, b"abc").serialize(mask=True)
    assert feed(Splitter(), frame) == [(OTHER, frame)]


def test_a_message_that_is_too_long() -> None:
    """The core gets its beginning at once, and refuses it."""
    head = struct.pack(">BBQ", 0x82, 127, MAX_MESSAGE + 1)
    assert feed(Splitter(), head + b"xyz") == [(OTHER, head + b"xyz")]
    reader = StreamReader()
    reader.feed_data(head)
    with pytest.raises(PayloadTooBig):
        next(Frame.parse(reader.read_exact, mask=False, max_size=MAX_MESSAGE))


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_what_is_sent(opcode: int, length: int) -> None:
    data = bytes(n % 251 for n in range(length))
    reader = StreamReader()
    reader.feed_data(Masks().frame(opcode, data))
    parsing = Frame.parse(reader.read_exact, mask=True, max_size=None)
    with pytest.raises(StopIteration) as done:
        next(parsing)
    frame = done.value.value
    assert (frame.opcode, bytes(frame.data), frame.fin) == (opcode, data, True)


def test_keys_differ() -> None:
    masks = Masks()
    keys = {masks.frame(TEXT, b"")[2:6] for _ in range(1000)}
    assert len(keys) > 990

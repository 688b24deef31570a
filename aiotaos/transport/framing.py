"""The WebSocket frames that nearly all are: whole messages, sent and received without detours.

What is anything else (control frames, fragments, compressed frames, nonsense) is left to the core
of ``websockets``, which gets it frame by frame. RFC 6455, section 5.2.
"""

from __future__ import annotations

import os
import struct

from websockets.frames import apply_mask  # type: ignore[attr-defined]  # it is C where there is some

Message = bytes | bytearray | memoryview

TEXT = 1
BINARY = 2
OTHER = 0
"""Not a whole message: a frame for the core."""

MAX_MESSAGE = 2**31
"""Bytes of a message; more is a header that was garbled."""

_FIN = 0x80
_MASKED = 0x80
_TWO_BYTES, _EIGHT_BYTES = 126, 127  # lengths that follow in so many bytes
_MASKS = 1024  # bytes of randomness drawn at a time


class Splitter:
    """Cuts the stream of a server into frames."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._wanted = 0
        self._in_fragments = False

    def feed(self, data: bytes) -> list[tuple[int, Message]]:
        """The frames that are complete now.

        Returns:
            ``TEXT`` or ``BINARY`` with the message, read-only; or ``OTHER`` with a frame as it came
            (of one that is longer than ``MAX_MESSAGE``, its beginning).
        """
        rest = self._rest
        source: bytes | bytearray = data
        if rest:
            rest += data
            if len(rest) < self._wanted:
                return []
            source, self._rest = rest, bytearray()
        frames: list[tuple[int, Message]] = []
        start, end = 0, len(source)
        self._wanted = 0
        while end - start >= 2:
            first, length = source[start], source[start + 1]
            body = start + 2
            if length & _MASKED:
                body += 4
                length &= ~_MASKED
            if length == _TWO_BYTES:
                if end - body < 2:
                    break
                (length,) = struct.unpack_from(">H", source, body)
                body += 2
            elif length == _EIGHT_BYTES:
                if end - body < 8:
                    break
                (length,) = struct.unpack_from(">Q", source, body)
                body += 8
                if length > MAX_MESSAGE:
                    frames.append((OTHER, bytes(source[start:])))
                    return frames
            stop = body + length
            if stop > end:
                self._wanted = stop - start
                break
            opcode = first & ~_FIN
            is_message = first & _FIN and opcode in (TEXT, BINARY)
            if is_message and not self._in_fragments and not source[start + 1] & _MASKED:
                frames.append((opcode, memoryview(source)[body:stop].toreadonly()))
            else:
                frames.append((OTHER, bytes(source[start:stop])))
                if opcode <= BINARY:
                    self._in_fragments = not first & _FIN
            start = stop
        if start < end:
            self._rest = bytearray(memoryview(source)[start:])
        return frames


class Masks:
    """Masking keys; a client masks what it sends, with a key that cannot be foreseen."""

    def __init__(self) -> None:
        self._random = b""
        self._used = 0

    def frame(self, opcode: int, data: bytes) -> bytes:
        """The frame of a whole message."""
        if self._used == len(self._random):
            self._random, self._used = os.urandom(_MASKS), 0
        key = self._random[self._used : self._used + 4]
        self._used += 4
        length = len(data)
        if length < _TWO_BYTES:
            head = struct.pack(">BB", _FIN | opcode, _MASKED | length)
        elif length < 65536:
            head = struct.pack(">BBH", _FIN | opcode, _MASKED | _TWO_BYTES, length)
        else:
            head = struct.pack(">BBQ", _FIN | opcode, _MASKED | _EIGHT_BYTES, length)
        return b"".join((head, key, apply_mask(data, key)))

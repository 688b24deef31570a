"""The WebSocket frames that nearly all are: whole messages, sent and received without detours.

What is anything else (control frames, fragments, compressed frames, nonsense) is left to the core
of ``websockets``, which gets it frame by frame. RFC 6455, section 5.2.
"""

from __future__ import annotations

import os
import struct

import numpy as np
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
_SHORT = 65_536  # bytes of a frame from which on it has a place of its own
_MASKS = 1024  # bytes of randomness drawn at a time


class Splitter:
    """Cuts the stream of a server into frames.

    What is received goes where :meth:`buffer` says: a long frame straight to where its message
    stays, anything else to a place from which it is copied.
    """

    def __init__(self) -> None:
        self._short = memoryview(bytearray(_SHORT))
        self._target = self._short
        self._filled = 0
        self._in_fragments = False

    def buffer(self) -> memoryview:
        """Where the next bytes go; not empty."""
        return self._target[self._filled :]

    def take(self, size: int) -> bytes:
        """So many bytes that have just been received, which are no frames."""
        return bytes(self._target[self._filled : self._filled + size])

    def received(self, size: int) -> list[tuple[int, Message]]:
        """The frames that are complete now.

        Args:
            size: Bytes that were put into :meth:`buffer`.

        Returns:
            ``TEXT`` or ``BINARY`` with the message, read-only; or ``OTHER`` with a frame as it came
            (of one that is longer than ``MAX_MESSAGE``, its beginning).
        """
        self._filled += size
        if self._target is not self._short:
            if self._filled < len(self._target):
                return []
            source, self._target = self._target, self._short
        else:
            source = memoryview(bytes(self._short[: self._filled]))
        frames, start, wanted = self._cut(source)
        rest = source[start:]
        if wanted > _SHORT:
            self._target = np.empty(wanted, np.uint8).data
        self._target[: len(rest)] = rest
        self._filled = len(rest)
        return frames

    def _cut(self, source: memoryview) -> tuple[list[tuple[int, Message]], int, int]:
        """The frames in some bytes, where the rest begins, and how long its frame will be."""
        frames: list[tuple[int, Message]] = []
        start, end, wanted = 0, len(source), 0
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
                    return frames, end, 0
            stop = body + length
            if stop > end:
                wanted = stop - start
                break
            opcode = first & ~_FIN
            is_message = first & _FIN and opcode in (TEXT, BINARY)
            if is_message and not self._in_fragments and not source[start + 1] & _MASKED:
                frames.append((opcode, source[body:stop].toreadonly()))
            else:
                frames.append((OTHER, bytes(source[start:stop])))
                if opcode <= BINARY:
                    self._in_fragments = not first & _FIN
            start = stop
        return frames, start, wanted


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

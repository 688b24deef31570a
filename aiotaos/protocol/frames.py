"""Binary WebSocket frames: requests of taosAdapter's ``/ws`` and their binary answers.

Every frame begins with little-endian u64s. A request is ``req_id, id, action, body``; the answer
to a binary fetch begins with all ones, that of a JSON ``fetch_block`` with the server's time.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from ..errors import ProtocolError
from .block import Buffer


class Action(IntEnum):
    """Actions of binary requests."""

    SET_TAGS = 1
    BIND = 2
    WRITE_RAW = 3
    WRITE_RAW_BLOCK = 4
    WRITE_RAW_BLOCK_WITH_FIELDS = 5
    QUERY = 6
    FETCH = 7
    STMT2_BIND = 9
    VALIDATE_SQL = 10


_REQUEST = struct.Struct("<QQQ")
_QUERY = struct.Struct("<QQQHI")
_FETCH = struct.Struct("<QQQH")
_REPLY = struct.Struct("<QQHQQII")  # flag, action, version, timing, req_id, code, message length
_REPLY_TAIL = struct.Struct("<QB")  # result id, finished
_LENGTH = struct.Struct("<I")
_OLD_BLOCK = struct.Struct("<QQ")  # timing, result id
_ALL_ONES = 0xFFFF_FFFF_FFFF_FFFF
_VERSION = 1


class Request(NamedTuple):
    """A binary request as the server reads it."""

    req_id: int
    id: int
    action: int
    body: memoryview


class FetchReply(NamedTuple):
    """Answer to a fetch.

    Attributes:
        req_id: The request's id; 0 in answers to a JSON ``fetch_block``, which carry none.
        result_id: The result.
        timing: Time the server took, ns.
        code: 0, or the error's code.
        message: The error's text.
        block: The raw block; None when the result is finished, or after an error.
    """

    req_id: int
    result_id: int
    timing: int
    code: int
    message: str
    block: memoryview | None


def query_request(req_id: int, sql: str) -> bytes:
    """Frame of a binary query (action 6; adapter 3.3.2.0 and newer)."""
    raw = sql.encode("utf-8", "surrogateescape")
    return _QUERY.pack(req_id, 0, Action.QUERY, _VERSION, len(raw)) + raw


def fetch_request(req_id: int, result_id: int) -> bytes:
    """Frame that asks for the next block of a result (action 7)."""
    return _FETCH.pack(req_id, result_id, Action.FETCH, _VERSION)


def parse_request(data: Buffer) -> Request:
    """Read a binary request.

    Raises:
        ProtocolError: It is shorter than its header.
    """
    view = memoryview(data)
    if len(view) < _REQUEST.size:
        raise ProtocolError(f"truncated request: {len(view)} bytes")
    req_id, id, action = _REQUEST.unpack_from(view)
    return Request(req_id, id, action, view[_REQUEST.size :])


def parse_query_body(body: Buffer) -> str:
    """Read the SQL of a binary query from what follows the request's header.

    Raises:
        ProtocolError: The body is shorter than it says, or its version is unknown.
    """
    view = memoryview(body)
    if len(view) < 7:
        raise ProtocolError("message length is too short")
    version, length = struct.unpack_from("<HI", view)
    if version != _VERSION:
        raise ProtocolError(f"unknown binary query version {version}")
    raw = view[6 : 6 + length]
    if len(raw) < length:
        raise ProtocolError(f"uncompleted message, {len(raw)} of {length} bytes")
    return bytes(raw).decode("utf-8", "surrogateescape")


def fetch_reply(
    req_id: int,
    result_id: int,
    *,
    block: bytes | None = None,
    code: int = 0,
    message: str = "",
    timing: int = 0,
) -> bytes:
    """Frame that answers a binary fetch: a block, the end of the result, or an error."""
    text = message.encode()
    head = _REPLY.pack(_ALL_ONES, Action.FETCH, _VERSION, timing, req_id, code, len(text))
    tail = _REPLY_TAIL.pack(result_id, block is None)
    if block is None:
        return b"".join((head, text, tail))
    return b"".join((head, text, tail, _LENGTH.pack(len(block)), block))


def old_block_reply(result_id: int, block: bytes, *, timing: int = 0) -> bytes:
    """Frame that answers a JSON ``fetch_block``."""
    return _OLD_BLOCK.pack(timing, result_id) + block


def parse_reply(data: Buffer) -> FetchReply:
    """Read a binary frame from the server, without copying its block.

    Raises:
        ProtocolError: The frame is truncated, inconsistent, or of another action.
    """
    view = memoryview(data)
    size = len(view)
    if size >= 8 and _first(view) != _ALL_ONES:
        if size < _OLD_BLOCK.size:
            raise ProtocolError(f"truncated binary frame: {size} bytes")
        timing, result_id = _OLD_BLOCK.unpack_from(view)
        return FetchReply(0, result_id, timing, 0, "", view[_OLD_BLOCK.size :])
    if size < _REPLY.size + _REPLY_TAIL.size:
        raise ProtocolError(f"truncated binary frame: {size} bytes")
    _, action, version, timing, req_id, code, text_size = _REPLY.unpack_from(view)
    if action != Action.FETCH or version != _VERSION:
        raise ProtocolError(f"unknown binary frame: action {action}, version {version}")
    position = _REPLY.size + text_size
    if position + _REPLY_TAIL.size > size:
        raise ProtocolError(f"truncated binary frame: a message of {text_size} bytes in {size}")
    message = bytes(view[_REPLY.size : position]).decode("utf-8", "replace")
    result_id, finished = _REPLY_TAIL.unpack_from(view, position)
    position += _REPLY_TAIL.size
    if finished or code:
        if position != size:
            raise ProtocolError(
                f"inconsistent binary frame: {size - position} bytes behind the end of a result"
            )
        return FetchReply(req_id, result_id, timing, code, message, None)
    if position + _LENGTH.size > size:
        raise ProtocolError(f"truncated binary frame: {size} bytes without a block")
    (length,) = _LENGTH.unpack_from(view, position)
    block = view[position + _LENGTH.size :]
    if len(block) != length:
        raise ProtocolError(
            f"inconsistent binary frame: it announces a block of {length} bytes "
            f"and has {len(block)}"
        )
    return FetchReply(req_id, result_id, timing, 0, message, block)


def _first(view: memoryview) -> int:
    return int.from_bytes(view[:8], "little")

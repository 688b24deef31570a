"""The binary replies of ``/rest/tmq``."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..types import Field, Precision
from .columns import byte_length

DATA = 2
"""Raw type of a message with rows."""
METADATA = 4
"""Raw type of a message with rows and the sub-tables that were made for them."""

_NEW_STYLE = 0xFFFF_FFFF_FFFF_FFFF
_FETCH_RAW_DATA = 8
_FETCH_RAW = 3
_FRAME_VERSION = 1
_MESSAGE_VERSION = 100
_OFFSET_OF_LOG = 0x11  # format version 1, kind 1
_BLOCK_FORMAT = 1


class SchemaColumn(NamedTuple):
    """A column in the schema of a block; ``number`` counts from 1."""

    field: Field
    number: int
    flags: int


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of one sub-table.

    Attributes:
        raw: The raw block of version 2.
        rows: Their number.
        precision: Unit of the times.
        columns: The schema.
        table: Name of the sub-table.
        schema_version: Always 0 in what a TDengine 3.3.7 sends.
    """

    raw: bytes
    rows: int
    precision: Precision
    columns: tuple[SchemaColumn, ...]
    table: str
    schema_version: int = 0


def uvarint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; the high bit says that more follow."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def zigzag(number: int) -> bytes:
    """A number of 32 bits that may be negative, as :func:`uvarint`."""
    return uvarint((number << 1) ^ (number >> 31))


def cstr(text: str) -> bytes:
    """A text with its length, which counts the final NUL."""
    data = text.encode() + b"\0"
    return uvarint(len(data)) + data


def message(
    begin: int, end: int, blocks: Sequence[Block], *, with_names: bool, raw_type: int = DATA
) -> bytes:
    """Make a message with rows.

    Args:
        begin: The version at which reading began.
        end: The version at which it goes on.
        blocks: The rows.
        with_names: Whether each block carries the name of its table.
        raw_type: :data:`DATA`, or :data:`METADATA`, whose list of new tables is left empty.
    """
    offsets = b"".join(struct.pack("<Bq", _OFFSET_OF_LOG, version) for version in (begin, end))
    parts = [struct.pack("<Bi", _MESSAGE_VERSION, len(offsets)), offsets]
    parts.append(struct.pack("<i", len(blocks)))
    if blocks:
        parts.append(struct.pack("<??", with_names, True))
    for block in blocks:
        parts.append(_encoded(block))
        if with_names:
            parts.append(cstr(block.table))
    parts.append(struct.pack("<i", 0) if raw_type == METADATA else struct.pack("<q", 0))
    return b"".join(parts)


def _encoded(block: Block) -> bytes:
    """A block with its schema."""
    rows = struct.pack(">q", block.rows)  # the one number that libtaos leaves in network order
    prefix = struct.pack("<q", _BLOCK_FORMAT) + rows + struct.pack("<bb", 0, block.precision)
    parts = [uvarint(len(prefix) + len(block.raw)), prefix, block.raw]
    parts += [zigzag(len(block.columns)), zigzag(block.schema_version)]
    for field, number, flags in block.columns:
        size = byte_length(field.type, field.length)
        parts += [bytes((field.type, flags)), zigzag(size), zigzag(number), cstr(field.name)]
    return b"".join(parts)


def raw_data_reply(
    req_id: int,
    message_id: int,
    *,
    raw_type: int = DATA,
    raw: bytes = b"",
    code: int = 0,
    error: str = "",
    timing: int = 0,
) -> bytes:
    """Answer ``fetch_raw_data``, with a whole message or, if ``code`` is not 0, an error.

    Args:
        timing: What it took, in ns.
    """
    text = error.encode()
    head = struct.pack(
        "<QQHQQII",
        _NEW_STYLE, _FETCH_RAW_DATA, _FRAME_VERSION, timing, req_id, code, len(text),
    )  # fmt: skip
    head += text + struct.pack("<Q", message_id)
    return head if code else head + struct.pack("<HI", raw_type, len(raw)) + raw


def raw_reply(req_id: int, message_id: int, raw_type: int, raw: bytes, timing: int = 0) -> bytes:
    """Answer ``fetch_raw`` with a whole message."""
    head = struct.pack("<QQQQIH", timing, req_id, message_id, _FETCH_RAW, len(raw), raw_type)
    return head + raw


def block_reply(req_id: int, message_id: int, raw: bytes, timing: int = 0) -> bytes:
    """Answer ``fetch_block`` with a raw block."""
    return struct.pack("<QQQ", timing, req_id, message_id) + raw

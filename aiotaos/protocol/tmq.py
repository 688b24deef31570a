"""Subscriptions (TMQ): binary frames of taosAdapter's ``/rest/tmq``, and the messages in them.

A message holds blocks of several tables, each with columns of its own. Its layout is that of
``tEncodeMqDataRsp`` in TDengine's ``source/common/src/msg/tmsg.c``, behind a head that libtaos
writes: fixed integers are little-endian; a *varint* has 7 bits a byte, the lowest first, and is
zigzag-coded where it can be negative; a *string* is a varint length, its bytes and a NUL, which
the length counts. The frames are those of ``controller/ws/tmq/tmq.go`` in taosAdapter.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple, TypeAlias

from ..errors import ProtocolError
from ..types import DECIMALS, Field, Precision, TypeCode
from .block import HEADER, SCHEMA, Block, Buffer, Column, make_field, parse_block

_Schema: TypeAlias = tuple[bytes, tuple[Field, ...]]

_REPLY = struct.Struct("<QQHQQII")  # flag, action, version, timing, req_id, code, message length
_MESSAGE_ID = struct.Struct("<Q")
_RAW = struct.Struct("<HI")  # raw type, length
_OLD_RAW = struct.Struct("<QQQQIH")  # timing, req_id, message id, action, length, raw type
_FETCH_RAW, _FETCH_RAW_DATA = 3, 8  # the actions that the frames name
_VERSION = 1
_ALL_ONES = b"\xff" * 8

_COUNT = struct.Struct("<i")
_PREFIX = struct.Struct("<qqbb")  # format, rows (big-endian), compressed, precision
_FORMAT = 1
_SLEEP_TIME = 8
_HEAD_WITH_LENGTH = range(100, 128)
_OFFSETS = {1: 8, 2: 16, 3: 16}  # bytes of an offset behind its type
_WAL = 1  # the kind of an offset that is a version of the write-ahead log
_VERSION_AT = struct.Struct("<q")
_KNOWN_SCHEMAS = 128


class RawType(IntEnum):
    """What the raw data of a message is; other values are codes of DDL requests."""

    DATA = 2
    METADATA = 4
    BATCH_META = 5
    RAW = 6


class RawReply(NamedTuple):
    """Answer to ``fetch_raw_data`` and ``fetch_raw``: a whole message.

    Attributes:
        req_id: The request's id.
        timing: Time the server took, ns.
        code: 0, or the error's code.
        message: The error's text.
        message_id: The message.
        raw_type: A :class:`RawType`, or another value; 0 after an error.
        data: What :meth:`MessageParser.parse` reads, a view of the frame; empty after an error.
    """

    req_id: int
    timing: int
    code: int
    message: str
    message_id: int
    raw_type: int
    data: memoryview


def parse_reply(data: Buffer) -> RawReply:
    """Read the answer to ``fetch_raw_data`` or ``fetch_raw``, without copying the message.

    Raises:
        ProtocolError: The frame is truncated, inconsistent, or of another action.
    """
    view = memoryview(data)
    size = len(view)
    if size >= len(_ALL_ONES) and view[:8] != _ALL_ONES:
        return _parse_old_reply(view)
    if size < _REPLY.size + _MESSAGE_ID.size:
        raise ProtocolError(f"truncated binary frame: {size} bytes")
    _, action, version, timing, req_id, code, text_size = _REPLY.unpack_from(view)
    if action != _FETCH_RAW_DATA or version != _VERSION:
        raise ProtocolError(f"unknown binary frame: action {action}, version {version}")
    position = _REPLY.size + text_size
    if position + _MESSAGE_ID.size > size:
        raise ProtocolError(f"truncated binary frame: a message of {text_size} bytes in {size}")
    message = str(view[_REPLY.size : position], "utf-8", "replace")
    (message_id,) = _MESSAGE_ID.unpack_from(view, position)
    position += _MESSAGE_ID.size
    raw_type, length = 0, 0
    if not code:
        if position + _RAW.size > size:
            raise ProtocolError(f"truncated binary frame: {size} bytes without raw data")
        raw_type, length = _RAW.unpack_from(view, position)
        position += _RAW.size
    raw = _rest(view, position, length)
    return RawReply(req_id, timing, code, message, message_id, raw_type, raw)


def _parse_old_reply(view: memoryview) -> RawReply:
    """Read the answer to ``fetch_raw``, which answers errors in JSON."""
    if len(view) < _OLD_RAW.size:
        raise ProtocolError(f"truncated binary frame: {len(view)} bytes")
    timing, req_id, message_id, action, length, raw_type = _OLD_RAW.unpack_from(view)
    if action != _FETCH_RAW:
        raise ProtocolError(f"unknown binary frame: action {action}")
    raw = _rest(view, _OLD_RAW.size, length)
    return RawReply(req_id, timing, 0, "", message_id, raw_type, raw)


def _rest(view: memoryview, position: int, length: int) -> memoryview:
    raw = view[position:]
    if len(raw) != length:
        raise ProtocolError(
            f"inconsistent binary frame: it announces {length} bytes of raw data and has {len(raw)}"
        )
    return raw


class TableBlock(Block):
    """Rows of a message that belong to one table.

    Attributes:
        table: Name of the table; None where the server does not tell it, as for topics of a query.
        raw: The raw block.
    """

    __slots__ = ("raw", "table")

    def __init__(
        self,
        fields: Sequence[Field],
        precision: Precision,
        columns: Sequence[Column],
        rows: int,
        table: str | None,
        raw: memoryview,
    ) -> None:
        super().__init__(fields, precision, columns, rows)
        self.table = table
        self.raw = raw

    def __repr__(self) -> str:
        whose = "" if self.table is None else f" of {self.table!r}"
        return f"<TableBlock{whose} {len(self)} rows x {len(self.columns)} columns>"


class Parsed(NamedTuple):
    """What a message holds.

    Attributes:
        blocks: Its rows.
        end: The offset of what follows it in its vgroup; None in a snapshot, which has no offsets.
    """

    blocks: list[TableBlock]
    end: int | None


class MessageParser:
    """Reads the messages of one consumer; remembers the schemas, which they repeat."""

    __slots__ = ("_known", "_schemas")

    def __init__(self) -> None:
        # By the types in the raw block, which stand before it: encoded schemas that followed.
        self._schemas: dict[bytes, list[_Schema]] = {}
        self._known = 0

    def parse(self, data: Buffer, raw_type: int) -> Parsed:
        """Make blocks of a message's raw data, without copying.

        Args:
            data: The raw data. It must stay unchanged as long as the blocks are used.
            raw_type: What it is: :attr:`RawType.DATA` or :attr:`RawType.METADATA`.

        Raises:
            ProtocolError: The message is truncated or inconsistent, or of another type.
        """
        if raw_type not in (RawType.DATA, RawType.METADATA):
            raise ProtocolError(
                f"a message of raw type {raw_type} has no blocks to read; "
                "ask for its JSON with fetch_json_meta"
            )
        view = memoryview(data).toreadonly()
        try:
            position, end = _read_head(view)
            blocks, position = self._blocks(view, position)
            position = _skip_tail(view, position, raw_type)
        except (IndexError, struct.error):  # reading behind the end
            raise ProtocolError(f"truncated message: {len(view)} bytes") from None
        if position != len(view):
            raise ProtocolError(
                f"inconsistent message: its parts end at {position}, the message at {len(view)}"
            )
        return Parsed(blocks, end)

    def _blocks(self, view: memoryview, position: int) -> tuple[list[TableBlock], int]:
        count, position = _count(view, position)
        blocks: list[TableBlock] = []
        if count:  # otherwise the flags are left out
            with_table, with_schema = view[position], view[position + 1]
            position += 2
            if with_table > 1 or with_schema > 1:
                raise ProtocolError(f"inconsistent message: flags {with_table}, {with_schema}")
            for _ in range(count):
                block, position = self._block(view, position, with_table, with_schema)
                blocks.append(block)
        return blocks, position

    def _block(
        self, view: memoryview, position: int, with_table: int, with_schema: int
    ) -> tuple[TableBlock, int]:
        start, end = _span(view, position)
        if end - start < _PREFIX.size:
            raise ProtocolError(f"truncated message: a block of {end - start} bytes")
        # The rows are told again in the raw block.
        format, _, compressed, precision = _PREFIX.unpack_from(view, start)
        if format != _FORMAT or compressed:
            raise ProtocolError(f"unknown block format {format}, compression {compressed}")
        if not 0 <= precision <= 2:
            raise ProtocolError(f"inconsistent message: precision {precision}")
        raw = view[start + _PREFIX.size : end]
        fields: tuple[Field, ...] | None = None
        table: str | None = None
        if with_schema:
            fields, end = self._schema(view, end, raw)
        if with_table:
            table, end = _string(view, end)
        block = parse_block(raw, fields=fields, precision=precision)
        made = TableBlock(block.fields, block.precision, block.columns, len(block), table, raw)
        return made, end

    def _schema(
        self, view: memoryview, position: int, raw: memoryview
    ) -> tuple[tuple[Field, ...], int]:
        """The columns of a raw block by the schema behind it.

        An encoded schema tells its own end, so that bytes which begin with those of a known one
        are that one.
        """
        columns = HEADER.unpack_from(raw)[3]
        types = bytes(raw[HEADER.size : HEADER.size + SCHEMA.size * columns])
        for encoded, fields in self._schemas.get(types, ()):
            end = position + len(encoded)
            if view[position:end] == encoded:
                return fields, end
        fields, end = _read_schema(view, position, types)
        if self._known == _KNOWN_SCHEMAS:
            self._schemas.clear()
            self._known = 0
        self._schemas.setdefault(types, []).append((bytes(view[position:end]), fields))
        self._known += 1
        return fields, end


def _read_schema(view: memoryview, position: int, types: bytes) -> tuple[tuple[Field, ...], int]:
    """Read names and lengths; ``types`` are those of the raw block, which knows the DECIMALs."""
    count, position = _zigzag(view, position)
    _, position = _zigzag(view, position)  # the schema's version
    if count * SCHEMA.size != len(types):
        raise ProtocolError(
            f"inconsistent message: a schema of {count} columns for a block of "
            f"{len(types) // SCHEMA.size}"
        )
    fields: list[Field] = []
    for _, declared in SCHEMA.iter_unpack(types):
        code = view[position]
        size, position = _zigzag(view, position + 2)  # behind the flags
        _, position = _zigzag(view, position)  # the column's id
        name, position = _string(view, position)
        try:
            type = TypeCode(code)
        except ValueError:
            raise ProtocolError(f"column {name!r} has unknown type {code}") from None
        fields.append(make_field(name, type, declared if type in DECIMALS else size))
    return tuple(fields), position


def _read_head(view: memoryview) -> tuple[int, int | None]:
    """Where the number of blocks stands, and the second of the two offsets before it.

    The first is that of the request, the second that of what comes next.
    """
    if view[0] in _HEAD_WITH_LENGTH:
        length, start = _count(view, 1)
        return start + length, _second_offset(view[start : start + length])
    position = 0
    for _ in range(2):  # older libtaos
        kind = view[position]
        if kind not in _OFFSETS:
            raise ProtocolError(f"unknown message: an offset of type {kind}")
        last, position = position, position + 1 + _OFFSETS[kind]
    return position, _wal_offset(view[last:position])


def _second_offset(offsets: memoryview) -> int | None:
    """The second of two offsets, if both are of the write-ahead log.

    Their types have the version of the format in the upper half.
    """
    if len(offsets) != 2 * (1 + _OFFSETS[_WAL]) or offsets[0] & 0xF != _WAL:
        return None
    return _wal_offset(offsets[1 + _OFFSETS[_WAL] :])


def _wal_offset(offset: memoryview) -> int | None:
    if offset[0] & 0xF != _WAL or offset[0] >= 0x80:  # -1 latest, -2 earliest, -3 none
        return None
    version: int = _VERSION_AT.unpack_from(offset, 1)[0]
    return version


def _skip_tail(view: memoryview, position: int, raw_type: int) -> int:
    """The end of what follows the blocks."""
    if raw_type == RawType.METADATA:  # the tables that were created, for replication
        count, position = _count(view, position)
        for _ in range(count):
            _, position = _span(view, position)
    elif position < len(view):  # a pause that libtaos keeps itself; old servers send none
        position += _SLEEP_TIME
    return position


def _count(view: memoryview, position: int) -> tuple[int, int]:
    (count,) = _COUNT.unpack_from(view, position)
    if count < 0:
        raise ProtocolError(f"inconsistent message: a count of {count}")
    return count, position + _COUNT.size


def _varint(view: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 35, 7):
        byte = view[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ProtocolError("inconsistent message: an integer of more than 5 bytes")


def _zigzag(view: memoryview, position: int) -> tuple[int, int]:
    value, position = _varint(view, position)
    return value >> 1 ^ -(value & 1), position


def _span(view: memoryview, position: int) -> tuple[int, int]:
    """Start and end of bytes behind their length."""
    length, start = _varint(view, position)
    if start + length > len(view):
        raise ProtocolError(f"truncated message: {length} bytes at {start} of {len(view)}")
    return start, start + length


def _string(view: memoryview, position: int) -> tuple[str, int]:
    start, end = _span(view, position)
    if start == end or view[end - 1]:
        raise ProtocolError("inconsistent message: a name without an end")
    return str(view[start : end - 1], "utf-8", "surrogateescape"), end

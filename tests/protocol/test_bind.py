from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from aiotaos.binding import Shape, TableRows
from aiotaos.protocol.bind import bind_request, query_parameters, stmt2_bind_request
from aiotaos.protocol.messages import PrepareReply, parse
from aiotaos.transport.statements import _field
from aiotaos.types import FieldKind, StatementField, TypeCode

POINT = bytes.fromhex("0101000000000000000000f03f0000000000000040")
BASE = 1709251200000


def prepared_fields(recorded) -> list[StatementField]:
    reply = next(
        frame
        for frame in recorded.frames("s>c")
        if isinstance(frame, str) and '"stmt2_prepare"' in frame and '"bind_type"' in frame
    )
    return [_field(info) for info in parse(reply, PrepareReply).fields]


def columns(base: int) -> list[object]:
    return [
        [base, base + 1, base + 2],
        [True, None, False],
        [-1, None, 1],
        [-1, None, 1],
        [-1, None, 1],
        [-1, None, 1],
        [0, None, 2**8 - 1],
        [0, None, 2**16 - 1],
        [0, None, 2**32 - 1],
        [0, None, 2**64 - 1],
        [1.5, None, -2.5],
        [1.25, None, -2.25],
        ["a", None, ""],
        ["涛", None, ""],
        [b"\x00\xff", None, b""],
        [POINT, None, POINT],
    ]


def bind_frames(recorded) -> list[bytes]:
    return [
        frame
        for frame in recorded.frames("c>s")
        if isinstance(frame, bytes) and frame[16] in (2, 9)
    ]


def test_recorded_insert_byte_for_byte(recording):
    """What the official client sent for two tables with every type, made again."""
    recorded = recording("stmt2")
    frame = bind_frames(recorded)[0]
    req_id, stmt_id = struct.unpack_from("<QQ", frame)
    tables = [
        TableRows(columns(BASE), "d1", ["上海", 7]),
        TableRows(columns(BASE + 100_000), "d2", ["", -7]),
    ]
    (binding,) = Shape(prepared_fields(recorded)).bind_tables(tables)
    assert stmt2_bind_request(req_id, stmt_id, binding) == frame

"""What the official client sent to write into a real TDengine, and what aiotaos sends."""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

import aiotaos
from aiotaos import (
    ProgrammingError,
    SchemalessError,
    SchemalessProtocol,
    TableRows,
)
from tests.recorded_values import BASE, columns

CAPTURES = Path(__file__).parent / "data" / "captures"
ACTIONS = {1: "set_tags", 2: "bind", 9: "stmt2_bind"}
STEPS = re.compile(r'"action":\s*"(stmt2_\w+|init|prepare|set_\w+|add_batch|exec|insert)"')

Frame = str | bytes


def is_write(frame: Frame) -> bool:
    if isinstance(frame, bytes):
        return frame[16] in (1, 2, 9)
    return STEPS.search(frame) is not None


def plain(frame: Frame) -> object:
    """A frame without its request id, which is the client's choice."""
    if isinstance(frame, bytes):
        return frame[8:]
    message = json.loads(frame)
    message["args"].pop("req_id")
    return message


def answered(frame: Frame, request: Frame) -> Frame:
    """A recorded reply, made the answer to another request."""
    if isinstance(request, bytes):
        (req_id,) = struct.unpack_from("<Q", request)
    else:
        req_id = json.loads(request)["args"]["req_id"]
    if isinstance(frame, bytes):
        return frame[:26] + struct.pack("<Q", req_id) + frame[34:]
    return re.sub(r'"req_id":\d+', f'"req_id":{req_id}', frame, count=1)


class Recorded:
    """The writing side of a recording, and a server that plays its other side.

    Attributes:
        sent: What the official client sent.
        received: What aiotaos sent, as far as it belongs to writing.
        extra: Answers, by action, to what the official client did not ask.
    """

    def __init__(self, name: str) -> None:
        lines = (CAPTURES / f"{name}.wire.jsonl").read_text().splitlines()
        self.sent: list[Frame] = []
        self.replies: dict[str, list[str]] = {}
        self.fetches: list[bytes] = []
        self.received: list[Frame] = []
        self.extra: dict[str, dict[str, Any]] = {}
        for line in lines:
            event = json.loads(line)
            if event["kind"] not in ("text", "binary"):
                continue
            is_text = event["kind"] == "text"
            frame: Frame = event["data"] if is_text else base64.b64decode(event["b64"])
            if event["dir"] == "c>s" and is_write(frame):
                self.sent.append(frame)
            elif event["dir"] == "s>c" and isinstance(frame, str):
                self.replies.setdefault(json.loads(frame)["action"], []).append(frame)
            elif not is_text and event["dir"] == "s>c":
                self.fetches.append(frame)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[aiotaos.Connection[Any]]:
        async with serve(self._serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            dsn = f"ws://root:taosdata@127.0.0.1:{port}/cap"
            async with aiotaos.connect(dsn, timezone="UTC") as conn:
                yield conn

    async def _serve(self, socket: ServerConnection) -> None:
        async for frame in socket:
            if isinstance(frame, bytes) and frame[16] == 7:
                await socket.send(answered(self.fetches[-1], frame))
                continue
            if is_write(frame):
                self.received.append(frame)
            action = ACTIONS[frame[16]] if isinstance(frame, bytes) else json.loads(frame)["action"]
            if action == "version":
                await socket.send('{"action":"version","req_id":0,"version":"3.3.7.5"}')
            elif replies := self.replies.get(action):
                await socket.send(answered(replies.pop(0), frame))
            elif action in self.extra:
                await socket.send(
                    answered(json.dumps(self.extra[action], separators=(",", ":")), frame)
                )


def parameters(frame: bytes) -> list[tuple[int, bytes]]:
    """Type and bytes of each parameter of a bound query."""
    payload = frame[30:]
    (position,) = struct.unpack_from("<I", payload, 24)
    position += 4
    found = []
    while position < len(payload):
        length, kind, count = struct.unpack_from("<Iii", payload, position)
        is_null, has_length = payload[position + 12], payload[position + 13]
        assert (count, is_null) == (1, 0)
        begin = position + 18 + 4 * has_length
        found.append((kind, payload[begin : position + length]))
        position += length
    return found


async def test_stmt2_sends_and_understands_what_was_recorded():
    recorded = Recorded("stmt2")
    async with recorded.serving() as conn:
        sql = "insert into ? using s tags (?, ?) values (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
        insert = await conn.prepare(sql)
        assert [field.type_name for field in insert.fields][:4] == [
            "VARCHAR(269)",
            "NCHAR(16)",
            "INT",
            "TIMESTAMP",
        ]
        await insert.bind_tables(
            [
                TableRows(columns(BASE), "d1", ["上海", 7]),
                TableRows(columns(BASE + 100_000), "d2", ["", -7]),
            ]
        )
        assert await insert.execute() == 6
    assert list(map(plain, recorded.received[:4])) == list(map(plain, recorded.sent[:4]))


async def test_stmt2_query_and_refusals():
    recorded = Recorded("stmt2")
    for action in ("stmt2_init", "stmt2_prepare", "stmt2_bind", "stmt2_exec", "stmt2_close"):
        del recorded.replies[action][0]  # those of the insert
    async with recorded.serving() as conn:
        query = await conn.prepare("select ts, i, vc from s where i > ? and loc = ?")
        assert (query.is_insert, query.parameter_count) == (False, 2)
        result = await query.query(0, "上海")
        assert [field.name for field in result.fields] == ["ts", "i", "vc"]
        assert await result.fetchall() == []
        await query.aclose()
        with pytest.raises(ProgrammingError, match=r"\[0x022B\] Table does not exist"):
            await conn.prepare("insert into nosuch values (?, ?)")
        recorded.replies["stmt2_init"] = ['{"code":0,"action":"stmt2_init","req_id":0,"stmt_id":3}']
        with pytest.raises(ProgrammingError, match=r"stmt only support 'SELECT' or 'INSERT'"):
            await conn.prepare("selec ?")
    theirs, ours = recorded.sent[5:], recorded.received
    prepared = [plain(frame) for frame in ours if '"stmt2_prepare"' in str(frame)]
    assert prepared == [plain(frame) for frame in theirs if '"stmt2_prepare"' in str(frame)]
    # Legal choices: the official client was told INT and NCHAR for the two parameters.
    (their_bind,) = (frame for frame in theirs if isinstance(frame, bytes))
    (our_bind,) = (frame for frame in ours if isinstance(frame, bytes))
    text = "上海".encode()
    assert parameters(their_bind) == [(4, struct.pack("<i", 0)), (10, text)]
    assert parameters(our_bind) == [(5, struct.pack("<q", 0)), (8, text)]


async def test_stmt1_sends_what_was_recorded():
    recorded = Recorded("stmt1")
    recorded.extra = {
        "stmt2_init": {"code": 65535, "message": "unknown action stmt2_init", "req_id": 0},
        "get_tag_fields": {
            "req_id": 0,
            "fields": [{"name": "loc", "field_type": 8, "bytes": 18}],
        },
        "get_col_fields": {
            "req_id": 0,
            "fields": [
                {"name": "ts", "field_type": 9, "bytes": 8},
                {"name": "v", "field_type": 4, "bytes": 4},
                {"name": "s", "field_type": 8, "bytes": 10},
            ],
        },
    }
    recorded.replies["set_table_name"] *= 2
    async with recorded.serving() as conn:
        insert = await conn.prepare("insert into ? using s tags(?) values(?,?,?)")
        await insert.bind([[BASE, BASE + 1], [1, None], ["a", None]], tbname="d1", tags=["x"])
        assert await insert.execute() == 2
    ours = recorded.received
    named = [plain(frame) for frame in ours if '"set_table_name"' in str(frame)]
    theirs = {
        key: [frame for frame in recorded.sent if key in str(frame)]
        for key in ("prepare", "set_table_name", "add_batch", '"exec"')
    }
    # The fields of a super table are told when any table is named.
    assert named[1:] == list(map(plain, theirs["set_table_name"]))
    for key in ("prepare", "add_batch", '"exec"'):
        assert [plain(f) for f in ours if key in str(f)] == list(map(plain, theirs[key]))
    their_bind = next(frame for frame in recorded.sent if isinstance(frame, bytes))
    our_tags, our_bind = (frame for frame in ours if isinstance(frame, bytes))
    assert our_bind[8:24] == their_bind[8:24]
    their_block, our_block = bytearray(their_bind[24:]), bytearray(our_bind[24:])
    # Legal choices: the flags, which nobody reads, and the declared bytes of the VARCHAR.
    assert their_block[16:20] == b"\xff" * 4
    assert our_block[16:20] == bytes(4)
    assert their_block[39:43] == struct.pack("<i", 1)
    assert our_block[39:43] == bytes(4)
    for block in (their_block, our_block):
        block[16:20] = block[39:43] = bytes(4)
    assert our_block == their_block
    # Their tags went as JSON, ours as a block.
    assert plain(next(f for f in recorded.sent if '"set_tags"' in str(f)))["args"]["tags"] == ["x"]
    header = struct.pack("<iiiiIQ", 1, 28 + 5 + 4 + 4 + 3, 1, 1, 0, 0)
    body = struct.pack("<bi", 8, 0) + struct.pack("<i", 3) + struct.pack("<i", 0)
    assert our_tags[24:] == header + body + b"\1\0x"


async def test_schemaless_sends_what_was_recorded():
    recorded = Recorded("schemaless")
    calls = [json.loads(frame)["args"] for frame in recorded.sent]
    affected = []
    async with recorded.serving() as conn:
        for call in calls[:-1]:
            affected.append(
                await conn.schemaless_insert(
                    call["data"].split("\n") if call["protocol"] < 3 else call["data"],
                    SchemalessProtocol(call["protocol"]),
                    call["precision"],
                    ttl=call["ttl"],
                    req_id=call["req_id"],
                )
            )
        with pytest.raises(
            SchemalessError, match="SML line invalid data: without fields"
        ) as caught:
            await conn.schemaless_insert(calls[-1]["data"], req_id=1005)
    assert affected == [2, 1, 2, 2]
    assert caught.value.code == 0x3002
    assert [json.loads(f) for f in recorded.received] == [json.loads(f) for f in recorded.sent]


async def test_schemaless_precisions_and_names():
    recorded = Recorded("schemaless_ws")
    async with recorded.serving() as conn:
        await conn.schemaless_insert("us1,host=a v=1i64 1709251200000001", precision="us", req_id=2)
        await conn.schemaless_insert(
            "us3,host=a,tb=custom v=1i64 1709251200000", ttl=2, table_name_key="tb", req_id=4
        )
    theirs = [json.loads(frame)["args"] for frame in recorded.sent]
    ours = [json.loads(frame)["args"] for frame in recorded.received]
    assert ours[0] == {**theirs[0], "table_name_key": None}
    assert ours[0]["precision"] == "u"
    assert ours[1] == theirs[2]

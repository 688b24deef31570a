"""What the official client said to a real TDengine, said to this server: the answers agree."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from aiotaos.protocol import frames
from aiotaos.protocol.block import parse_block
from aiotaos.protocol.messages import QueryReply, parse
from aiotaos.protocol.rows import RowDecoder

CAPTURES = Path(__file__).parent.parent / "data" / "captures"
OURS = {"timing", "version"}  # a time and a name that are each server's own


def events(name: str) -> list[dict[str, Any]]:
    lines = (CAPTURES / f"{name}.wire.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def frame(event: dict[str, Any]) -> str | bytes:
    return event["data"] if event["kind"] == "text" else base64.b64decode(event["b64"])


class Conversation:
    """The client's side of one recorded connection."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.result: QueryReply | None = None
        self.nchar_was_bound = False

    async def send(self, data: str | bytes) -> None:
        if isinstance(data, str):
            await self.socket.send_str(data)
        else:
            await self.socket.send_bytes(data)

    async def check(self, theirs: str | bytes) -> None:
        message = await self.socket.receive()
        if isinstance(theirs, str):
            ours, expected = json.loads(message.data), json.loads(theirs)
            assert {key: ours[key] for key in expected if key not in OURS} == {
                key: value for key, value in expected.items() if key not in OURS
            }
            if expected.get("fields_names"):
                self.result = parse(message.data, QueryReply)
                self.nchar_was_bound = expected["action"] == "stmt2_result"
        else:
            expected_rows = self.rows(theirs)
            if self.nchar_was_bound and expected_rows is None:
                # TDengine 3.3.7.5 finds nothing by a parameter of type NCHAR
                expected_rows = [(datetime(2024, 3, 1, 0, 0, 0, 2000, UTC), 1, "")]
            assert self.rows(message.data) == expected_rows

    def rows(self, data: bytes) -> list[tuple[Any, ...]] | None:
        reply = frames.parse_reply(data)
        assert reply.code == 0
        assert self.result is not None
        if reply.block is None:
            return None
        fields, precision = self.result.fields(), self.result.precision
        block = parse_block(reply.block, precision=precision)
        rows = RowDecoder(fields, precision).rows(block)
        # TDengine gives super tables in no order
        return sorted(rows) if fields[0].name == "stable_name" else rows


@pytest.fixture
async def replay(http):
    sockets: dict[int, Conversation] = {}

    async def run(name: str) -> None:
        for event in events(name):
            id = event["conn"]
            if event["kind"] == "open":
                sockets[id] = Conversation(await http.ws_connect(event["path"]))
            elif event["kind"] == "close":
                await sockets[id].socket.close()
            elif event["dir"] == "c>s":
                await sockets[id].send(frame(event))
            else:
                await sockets[id].check(frame(event))

    yield run
    for one in sockets.values():
        await one.socket.close()


async def test_statements_of_stmt2(replay):
    await replay("stmt2")


async def test_statements_of_stmt_v1(replay):
    await replay("stmt1")


async def test_schemaless_writing(replay):
    await replay("schemaless")


async def test_schemaless_writing_by_hand(replay, rest):
    await rest("create database cap_sml")
    await replay("schemaless_ws")


async def test_influxdb_and_opentsdb(http, rest):
    await rest("create database cap_sml")
    writes = [event for event in events("rest") if event["path"].startswith(("/influx", "/open"))]
    assert len(writes) == 4
    for event in writes:
        async with http.post(event["path"], data=event["req_body"].encode()) as response:
            body = await response.text()
            assert (response.status, body) == (event["status"], event["resp_text"])
    assert (await rest("select * from cap_sml.m2"))["data"] == [
        ["2024-03-01T00:00:00.000Z", 1.0, "a"]
    ]
    assert (await rest("select * from cap_sml.t_m"))["data"] == [
        ["2024-03-01T00:00:00.000Z", 1.0, "a"]
    ]

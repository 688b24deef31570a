"""Recorded subscriptions at a real TDengine, replayed over real sockets, through the Consumer.

The server answers with the recorded frames, in whatever order the client asks; ids are rewritten,
the rest is not. Which messages there are is read from the frames, what they hold from what an
official client made of them.
"""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from aiotaos import Consumer, MessageKind
from tests.subscribing import Polled, Subscriptions, with_ids

CAPTURES = Path(__file__).parent / "data" / "captures"
TYPES = [
    "TIMESTAMP", "BOOL", "TINYINT", "SMALLINT", "INT", "BIGINT", "TINYINT UNSIGNED",
    "SMALLINT UNSIGNED", "INT UNSIGNED", "BIGINT UNSIGNED", "FLOAT", "DOUBLE", "VARCHAR(32)",
    "NCHAR(32)", "VARBINARY(32)", "GEOMETRY(100)",
]  # fmt: skip
NAMES = [
    "ts", "b", "ti", "si", "i", "bi", "uti", "usi", "ui", "ubi", "f", "d", "vc", "nc", "vb", "g",
]  # fmt: skip


class Recorded(Subscriptions):
    """Polls bring the recorded messages of one topic, with the recorded frames."""

    def __init__(self, server: Any, name: str, topic: str) -> None:
        super().__init__(server)
        lines = (CAPTURES / f"{name}.wire.jsonl").read_text().splitlines()
        events = [json.loads(line) for line in lines]
        subscribed = next(
            event["conn"]
            for event in events
            if event.get("path") == "/rest/tmq" and f'"topics":["{topic}"]' in event.get("data", "")
        )
        self.replies: dict[str, str] = {}
        self.until_seek: list[Polled] = []
        self.after_seek: list[Polled] = []
        frames: list[bytes] = []
        told: list[tuple[dict[str, Any], bool]] = []
        sought = False
        for event in events:
            if event["conn"] != subscribed or event.get("dir") != "s>c":
                continue
            if event["kind"] == "binary":
                frames.append(base64.b64decode(event["b64"]))
            elif event["kind"] == "text":
                reply = json.loads(event["data"])
                self.replies.setdefault(reply["action"], event["data"])
                sought = sought or reply["action"] == "seek"
                if reply.get("have_message"):
                    told.append((reply, sought))
        for reply, is_after in told:
            has_rows = reply["message_type"] == 1
            one = Polled(
                reply["offset"],
                0,
                frames.pop(0) if has_rows else b"",
                reply["topic"],
                reply["database"],
                reply["vgroup_id"],
                reply["message_type"],
            )
            (self.after_seek if is_after else self.until_seek).append(one)
        assert frames == []
        self.add(*self.until_seek)

    def _rewritten(self, request: Any) -> list[str]:
        self.server.changed()
        reply = json.loads(self.replies[request.action])
        before = f'"req_id":{reply["req_id"]},'
        assert before in self.replies[request.action]
        return [self.replies[request.action].replace(before, f'"req_id":{request.req_id},', 1)]

    async def _fetch_raw_data(self, session: Any, request: Any) -> list[Any]:
        self.server.changed()
        return [with_ids(self._current[session].raw, request.req_id, request.args["message_id"])]

    async def _seek(self, session: Any, request: Any) -> list[Any]:
        await super()._seek(session, request)
        self.add(*self.after_seek)
        return self._rewritten(request)

    async def _subscribe(self, session: Any, request: Any) -> list[Any]:
        await super()._subscribe(session, request)
        return self._rewritten(request)

    async def _commit_offset(self, session: Any, request: Any) -> list[Any]:
        (ours,) = await super()._commit_offset(session, request)
        if "commit_offset" in self.replies:
            assert json.loads(ours).keys() == json.loads(self.replies["commit_offset"]).keys()
        return [ours]

    async def _assignment(self, session: Any, request: Any) -> list[Any]:
        if "assignment" in self.replies:
            return self._rewritten(request)
        return self._reply(request, assignment=[{"vgroup_id": 35, "offset": 0, "end": 8}])


def value_of(value: Any) -> Any:
    """A value as the recordings write it."""
    match value:
        case {"datetime": text}:
            return datetime.fromisoformat(text)
        case {"float": text}:
            return float(text)
        case {"hex": text}:
            return bytes.fromhex(text)
    return value


def expected(name: str, topic: str) -> tuple[list[Any], list[Any], dict[str, Any]]:
    """Of a topic: the messages before the seek and after it, and the other answers."""
    before: list[Any] = []
    after: list[Any] = []
    others: dict[str, Any] = {}
    at = ""
    for item in json.loads((CAPTURES / f"{name}.expected.json").read_text()):
        at = item.get("topic", at)
        if at != topic:
            continue
        if "blocks" in item:
            place = ((item.get("message") or {}).get("vgroup"), item["blocks"])
            (after if "seek" in others else before).append(place)
        else:
            for key, value in item.items():
                others.setdefault(key, value)
    return before, after, others


def check(message: Any, topic: str, blocks: list[Any]) -> None:
    assert (message.topic, message.database) == (topic, "cap_tmq")
    assert message.kind is MessageKind.DATA
    rows = [[tuple(map(value_of, row)) for row in block["rows"]] for block in blocks]
    assert [block.rows() for block in message] == rows
    assert [len(block) for block in message] == [block["nrows"] for block in blocks]
    assert [len(block.fields) for block in message] == [block["ncols"] for block in blocks]
    assert message.rows() == [row for block in rows for row in block]
    assert len(message) == sum(map(len, rows))


@pytest.mark.parametrize(
    ("topic", "ends", "tables"),
    [
        ("cap_q", {33: 6, 34: 4}, {33: [None] * 3, 34: [None]}),
        ("cap_s", {33: 10, 34: 7}, {33: ["d0", "d1", "d2"], 34: ["d3"]}),
        ("cap_d", {33: 14, 34: 10}, {33: ["d0", "d1", "d2"], 34: ["d3"]}),
    ],
)
async def test_rows(server, topic, ends, tables):
    recorded = Recorded(server, "tmq_data", topic)
    before, after, others = expected("tmq_data", topic)
    async with Consumer(
        server.dsn, group_id="g", auto_offset_reset="earliest", timezone="UTC"
    ) as consumer:
        await consumer.subscribe(topic)
        places = frozenset({(topic, 33), (topic, 34)})
        assert await consumer.wait_assigned() == places
        messages = [await consumer.poll(5) for _ in before]
        for message, (vgroup, blocks) in zip(messages, before, strict=True):
            check(message, topic, blocks)
            assert message.vgroup_id == vgroup
            assert (message.offset, message.end) == (0, ends[vgroup])
            assert message.next_offset == ends[vgroup]
            assert not message.is_cut
            assert [block.table for block in message] == tables[vgroup]
            await consumer.commit(message)
        assert sorted(recorded.commits) == [(topic, *item) for item in ends.items()]
        assert await consumer.committed() == {(topic, v): end for v, end in ends.items()}
        assert await consumer.position() == {(topic, v): end for v, end in ends.items()}
        ((_, ranges),) = others["assignment"]
        last = {vgroup: end for vgroup, _, _, end in ranges}
        assert await consumer.lag() == {(topic, v): last[v] - end for v, end in ends.items()}
        assert await consumer.list_topics() == others.get("list_topics", [topic])
        sought_topic, vgroup, offset = others["seek"]
        await consumer.seek(sought_topic, vgroup, offset)
        assert recorded.sought == [(topic, 33, 0)]
        ((_, blocks),) = after
        again = await consumer.poll(5)
        check(again, topic, blocks)
        assert (again.vgroup_id, again.offset) == (33, 0)
        assert again.end == last[33]  # by then the server had written something of its own
        assert await consumer.poll(0.01) is None


async def test_columns(server):
    Recorded(server, "tmq_data", "cap_s")
    async with Consumer(server.dsn, group_id="g") as consumer:
        await consumer.subscribe("cap_s")
        for message in [await consumer.poll(5) for _ in range(2)]:
            for block in message:
                assert [field.name for field in block.fields] == NAMES
                assert [field.type_name for field in block.fields] == TYPES
    Recorded(server, "tmq_data", "cap_q")
    async with Consumer(server.dsn, group_id="g") as consumer:
        await consumer.subscribe("cap_q")
        fields = (await consumer.poll(5)).blocks[0].fields
        assert [field.name for field in fields] == ["ts", "i", "vc", "loc"]
        assert [field.type_name for field in fields] == [
            "TIMESTAMP",
            "INT",
            "VARCHAR(32)",
            "NCHAR(16)",
        ]


async def test_changes_of_tables(server):
    """The official client did not ask for their JSON; what stands here is as it writes it."""
    recorded = Recorded(server, "tmq_meta", "cap_m")
    made = {"type": "create", "tableName": "s", "tableType": "super"}
    dropped = {"type": "drop", "tableNameList": ["a"]}
    recorded.waiting = [
        recorded.until_seek[0]._replace(metas={"tmq_meta_version": "1.0", "metas": [made]}),
        recorded.until_seek[1]._replace(metas=dropped),
    ]
    messages = [
        item["message"]
        for item in json.loads((CAPTURES / "tmq_meta.expected.json").read_text())
        if "message" in item
    ]
    async with Consumer(server.dsn, group_id="gm") as consumer:
        await consumer.subscribe("cap_m")
        first, second = [await consumer.poll(5) for _ in range(2)]
        for one, told in zip((first, second), messages, strict=True):
            assert [one.topic, one.database, one.vgroup_id] == told
            assert one.kind is MessageKind.META
            assert (one.blocks, one.rows(), len(one)) == ([], [], 0)
        assert [(one.offset, one.end, one.next_offset) for one in (first, second)] == [
            (3, 3, 3),
            (7, 7, 7),
        ]
        assert (first.metas, second.metas) == ([made], [dropped])
        await consumer.poll(0)
    assert recorded.commits == [("cap_m", 35, 7)]


async def test_any_order(server):
    """Everything is asked at once, while messages are read."""
    Recorded(server, "tmq_data", "cap_d")
    async with Consumer(server.dsn, group_id="g", auto_commit_interval_ms=1) as consumer:
        await consumer.subscribe("cap_d")
        places = [("cap_d", 33), ("cap_d", 34)]
        first, second, lag, topics, committed = await asyncio.gather(
            consumer.poll(5),
            consumer.wait_assigned(),
            consumer.lag(places),
            consumer.list_topics(),
            consumer.committed(places),
        )
        assert len(first) == 9
        assert second == frozenset(places)
        assert lag.keys() == committed.keys() == set(places)
        assert topics == ["cap_d"]
        assert len(await consumer.poll(5)) == 3


def test_frames_are_rewritten_in_their_ids_alone():
    recorded = [
        base64.b64decode(json.loads(line)["b64"])
        for line in (CAPTURES / "tmq_data.wire.jsonl").read_text().splitlines()
        if '"kind": "binary"' in line and '"s>c"' in line
    ]
    frame = next(one for one in recorded if one.startswith(b"\xff" * 8))
    changed = with_ids(frame, 77, 78)
    assert struct.unpack_from("<Q", changed, 26) == (77,)
    assert struct.unpack_from("<Q", changed, 42) == (78,)
    assert with_ids(changed, *(struct.unpack_from("<Q", frame, at)[0] for at in (26, 42))) == frame

"""A taosAdapter's ``/rest/tmq`` that says what a test tells it, on top of the server of tests."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from aiotaos import Field, Precision, TypeCode
from aiotaos.embedded.tmq_frames import Block, SchemaColumn, message, raw_data_reply
from aiotaos.protocol.encode import encode_block

FIELDS = (Field("ts", TypeCode.TIMESTAMP, 8), Field("v", TypeCode.INT, 4))
T0 = 1709251200000


def block(values: Sequence[int], table: str = "") -> Block:
    """Rows ``(T0 + v, v)`` as they stand in a message."""
    raw = encode_block(FIELDS, [[T0 + v for v in values], values], version=2)
    schema = tuple(SchemaColumn(field, place, 0) for place, field in enumerate(FIELDS, start=1))
    return Block(raw, len(values), Precision.MILLISECOND, schema, table)


class Polled(NamedTuple):
    """A message that a poll brings; ``raw`` is what ``fetch_raw_data`` sends."""

    offset: int
    end: int
    raw: bytes = b""
    topic: str = "q"
    database: str = "d"
    vgroup_id: int = 2
    type: int = 1
    metas: Any = None
    raw_type: int = 2

    @classmethod
    def of(cls, offset: int, end: int, *blocks: Sequence[int]) -> Polled:
        """A message of a topic on a query, whose blocks are given as their values."""
        made = [block(values) for values in blocks]
        return cls(offset, end, message(offset, end, made, with_names=False))


class Subscriptions:
    """Answers the actions of ``/rest/tmq`` for all sessions of a server.

    Attributes:
        subscribed: Arguments of each ``subscribe``, without its ``req_id``.
        committed: Offset by vgroup.
        commits: Topic, vgroup and offset of each ``commit_offset``.
        sought: The same of each ``seek``.
        acknowledged: Message ids of each ``commit``.
        polls: Number of polls.
        vgroups: What ``assignment`` tells: offset, begin and end by vgroup.
        refusals: Code and text that the next polls get, before messages.
    """

    def __init__(self, server: Any, polled: Iterable[Polled] = ()) -> None:
        self.server = server
        self.waiting = list(polled)
        self.subscribed: list[dict[str, Any]] = []
        self.committed: dict[tuple[str, int], int] = {}
        self.commits: list[tuple[str, int, int]] = []
        self.sought: list[tuple[str, int, int]] = []
        self.acknowledged: list[int] = []
        self.polls = 0
        self.vgroups = {2: (0, 0, 100)}
        self.refusals: list[tuple[int, str]] = []
        self._ids: dict[Any, int] = {}
        self._current: dict[Any, Polled] = {}
        self._added = asyncio.Event()
        server.handlers |= {
            name: getattr(self, f"_{name}")
            for name in (
                "subscribe", "poll", "fetch_raw_data", "fetch_json_meta", "commit",
                "commit_offset", "seek", "assignment", "committed", "position", "list_topics",
                "unsubscribe",
            )
        }  # fmt: skip

    def add(self, *polled: Polled) -> None:
        self.waiting += polled
        self._added.set()

    def _reply(self, request: Any, **more: Any) -> list[str]:
        self.server.changed()
        base = {"code": 0, "message": "", "action": request.action, "req_id": request.req_id}
        return [json.dumps(base | {"timing": 77} | more)]

    async def _subscribe(self, session: Any, request: Any) -> list[Any]:
        self.subscribed.append({k: v for k, v in request.args.items() if k != "req_id"})
        return self._reply(request, version="3.3.7.5")

    async def _poll(self, session: Any, request: Any) -> list[Any]:
        self.polls += 1
        self.server.changed()
        if self.refusals:
            code, text = self.refusals.pop(0)
            return self._reply(request, code=code, message=text)
        if not self.waiting:
            self._added.clear()
            try:
                async with asyncio.timeout(request.args["blocking_time"] / 1000):
                    await self._added.wait()
            except TimeoutError:
                nothing = {"topic": "", "database": "", "vgroup_id": 0, "message_type": 0}
                nothing |= {"message_id": 0, "offset": 0}
                return self._reply(request, have_message=False, **nothing)
        one = self._current[session] = self.waiting.pop(0)
        self._ids[session] = self._ids.get(session, 0) + 1
        return self._reply(
            request,
            have_message=True,
            topic=one.topic,
            database=one.database,
            vgroup_id=one.vgroup_id,
            message_type=one.type,
            message_id=self._ids[session],
            offset=one.offset,
        )

    async def _fetch_raw_data(self, session: Any, request: Any) -> list[Any]:
        one, id = self._current[session], request.args["message_id"]
        assert id == self._ids[session]
        self.server.changed()
        return [raw_data_reply(request.req_id, id, raw_type=one.raw_type, raw=one.raw)]

    async def _fetch_json_meta(self, session: Any, request: Any) -> list[Any]:
        id = request.args["message_id"]
        assert id == self._ids[session]
        return self._reply(request, message_id=id, data=self._current[session].metas)

    async def _commit(self, session: Any, request: Any) -> list[Any]:
        self.acknowledged.append(request.args["message_id"])
        return self._reply(request, message_id=request.args["message_id"])

    async def _commit_offset(self, session: Any, request: Any) -> list[Any]:
        place = {name: request.args[name] for name in ("topic", "vgroup_id", "offset")}
        topic, vgroup_id, offset = place.values()
        self.commits.append((topic, vgroup_id, offset))
        self.committed[topic, vgroup_id] = offset
        return self._reply(request, **place)

    async def _seek(self, session: Any, request: Any) -> list[Any]:
        args = request.args
        self.sought.append((args["topic"], args["vgroup_id"], args["offset"]))
        return self._reply(request)

    async def _assignment(self, session: Any, request: Any) -> list[Any]:
        found = [
            {"vgroup_id": vgroup_id, "offset": offset, "begin": begin, "end": end}
            for vgroup_id, (offset, begin, end) in self.vgroups.items()
        ]
        return self._reply(request, assignment=found)

    async def _committed(self, session: Any, request: Any) -> list[Any]:
        places = [(one["topic"], one["vgroup_id"]) for one in request.args["topic_vgroup_ids"]]
        offsets = [self.committed.get(place, -2147467247) for place in places]
        return self._reply(request, committed=offsets)

    async def _position(self, session: Any, request: Any) -> list[Any]:
        return self._reply(request, position=[0 for _ in request.args["topic_vgroup_ids"]])

    async def _list_topics(self, session: Any, request: Any) -> list[Any]:
        return self._reply(request, topics=self.subscribed[-1]["topics"])

    async def _unsubscribe(self, session: Any, request: Any) -> list[Any]:
        return self._reply(request)


def with_ids(frame: bytes, req_id: int, message_id: int) -> bytes:
    """A recorded answer to ``fetch_raw_data`` with other ids."""
    changed = bytearray(frame)
    struct.pack_into("<Q", changed, 26, req_id)
    (size,) = struct.unpack_from("<I", frame, 38)
    struct.pack_into("<Q", changed, 42 + size, message_id)
    return bytes(changed)

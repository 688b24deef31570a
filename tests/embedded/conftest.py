"""A server for each test, and short ways to talk to it."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from aiotaos import Field, Precision, TypeCode
from aiotaos.embedded import Server
from aiotaos.embedded.engine import Engine, Rows, State, Update
from aiotaos.protocol import frames
from aiotaos.protocol.block import parse_block
from aiotaos.protocol.messages import QueryReply
from aiotaos.protocol.rows import RowDecoder

DATA = Path(__file__).parent.parent / "data" / "conformance"
AUTH = {"Authorization": "Basic cm9vdDp0YW9zZGF0YQ=="}
Rest = Callable[..., Awaitable[dict[str, Any]]]
Run = Callable[..., Any]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server() as server:
        yield server


@pytest.fixture
async def http(server: Server) -> AsyncIterator[aiohttp.ClientSession]:
    base = f"http://127.0.0.1:{server.port}"
    async with aiohttp.ClientSession(base, headers=AUTH) as session:
        yield session


@pytest.fixture
def rest(http: aiohttp.ClientSession) -> Rest:
    """Run a statement over REST; returns the answer with its HTTP status."""

    async def run(sql: str, db: str = "", **params: str) -> dict[str, Any]:
        path = f"/rest/sql/{db}" if db else "/rest/sql"
        async with http.post(path, data=sql.encode(), params=params) as response:
            answer: dict[str, Any] = json.loads(await response.read())
            return {"http": response.status, **answer}

    return run


class Socket:
    """A client that speaks in dictionaries."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def send(self, action: str, **args: Any) -> None:
        await self.socket.send_json({"action": action, "args": args})

    async def receive(self) -> dict[str, Any]:
        return json.loads(await self.socket.receive_str())

    async def ask(self, action: str, **args: Any) -> dict[str, Any]:
        await self.send(action, **args)
        return await self.receive()

    async def query(self, sql: str, req_id: int = 1) -> dict[str, Any]:
        await self.socket.send_bytes(frames.query_request(req_id, sql))
        return await self.receive()

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """All rows of a query, which fit into one block; times are numbers."""
        return await self.result(await self.query(sql))

    async def result(self, reply: dict[str, Any]) -> list[tuple[Any, ...]]:
        """All rows of a result that a reply announces."""
        assert reply["code"] == 0, reply
        result = msgspec.convert(reply, QueryReply)
        block = (await self.fetch(result.id)).block
        if block is None:
            return []
        assert (await self.fetch(result.id)).block is None
        fields = result.fields()
        return RowDecoder(fields, result.precision, timestamp="int").rows(
            parse_block(block, precision=result.precision)
        )

    async def fetch(self, id: int, req_id: int = 1) -> frames.FetchReply:
        await self.socket.send_bytes(frames.fetch_request(req_id, id))
        return frames.parse_reply(await self.socket.receive_bytes())


@pytest.fixture
async def fresh(http: aiohttp.ClientSession) -> AsyncIterator[Socket]:
    async with http.ws_connect("/ws") as socket:
        yield Socket(socket)


class Subscriber(Socket):
    """A client at ``/rest/tmq``: one consumer."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        super().__init__(socket)
        self.req_id = 0
        self.last = 0

    async def ask(self, action: str, **args: Any) -> dict[str, Any]:
        """The answer, but for what it took."""
        self.req_id += 1
        await self.send(action, req_id=self.req_id, **args)
        return await self.told()

    async def told(self) -> dict[str, Any]:
        reply = await self.receive()
        assert reply.pop("timing") >= 0
        return reply

    async def do(self, action: str, **args: Any) -> dict[str, Any]:
        reply = await self.ask(action, **args)
        assert (reply["code"], reply["message"]) == (0, ""), reply
        return reply

    async def subscribe(self, *topics: str, group_id: str = "g", **options: Any) -> dict[str, Any]:
        given = {"offset_rest": "earliest", "auto_commit": "false", "enable_batch_meta": "1"}
        login = {"user": "root", "password": "taosdata", "group_id": group_id}
        return await self.ask("subscribe", **login, topics=topics, **{**given, **options})

    async def poll(self, blocking_time: int = 0) -> dict[str, Any]:
        """The next message, if there is one."""
        reply = await self.do("poll", blocking_time=blocking_time, message_id=self.last)
        self.last = reply["message_id"] or self.last
        return reply

    async def raw(self, action: str, id: int) -> bytes:
        self.req_id += 1
        await self.send(action, req_id=self.req_id, message_id=id)
        return await self.socket.receive_bytes()

    async def blocks(self, id: int) -> list[tuple[str, list[str], list[tuple[Any, ...]]]]:
        """The blocks of a message: table, columns and rows; times are numbers."""
        found = []
        while not (head := await self.do("fetch", message_id=id))["completed"]:
            frame = await self.raw("fetch_block", id)
            fields = tuple(
                map(
                    Field,
                    head["fields_names"],
                    map(TypeCode, head["fields_types"]),
                    head["fields_lengths"],
                )
            )
            precision = Precision(head["precision"])
            block = parse_block(frame[24:], precision=precision)
            rows = RowDecoder(fields, precision, timestamp="int").rows(block)
            assert len(rows) == head["rows"]
            found.append((head["table_name"], head["fields_names"], rows))
        return found

    async def metas(self, id: int) -> Any:
        return (await self.do("fetch_json_meta", message_id=id))["data"]

    async def drain(self) -> list[tuple[str, list[str], list[tuple[Any, ...]]]]:
        """The blocks of all messages that are there; changes of what exists are passed over."""
        found = []
        while (message := await self.poll())["have_message"]:
            if message["message_type"] != 2:
                found += await self.blocks(message["message_id"])
        return found


@pytest.fixture
async def subscriber(
    http: aiohttp.ClientSession,
) -> AsyncIterator[Callable[[], Awaitable[Subscriber]]]:
    """Open sockets at ``/rest/tmq``."""
    async with contextlib.AsyncExitStack() as stack:

        async def connect() -> Subscriber:
            return Subscriber(await stack.enter_async_context(http.ws_connect("/rest/tmq")))

        yield connect


@pytest.fixture
def sql(rest: Rest) -> Callable[..., Awaitable[Any]]:
    """Run statements that succeed; returns the rows of the last one."""

    async def run(*statements: str) -> Any:
        for statement in statements:
            answer = await rest(statement)
            assert answer["code"] == 0, (statement, answer)
        return answer["data"]

    return run


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine()
    yield engine
    engine.close()


@pytest.fixture
def run(engine: Engine) -> Run:
    """Run statements on the engine: the number of rows affected, or the rows."""
    state = State()

    def execute(sql: str) -> Any:
        result = engine.execute(sql, state)
        if isinstance(result, Update):
            return result.affected
        return read(result)

    execute("create database test")
    execute("use test")
    return execute


def read(result: Rows) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    while (block := result.next_block()) is not None:
        rows += zip(*block, strict=True)
    return rows


@pytest.fixture
def same() -> Callable[[Any, Any], bool]:
    """Equality of answers; floats may differ in the last digits, as sums depend on their order."""
    return _same


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, float) or isinstance(b, float):
        numbers = isinstance(a, int | float) and isinstance(b, int | float)
        return numbers and math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-12)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)


@pytest.fixture
def recorded() -> Callable[[str], list[dict[str, Any]]]:
    """What a real TDengine answered, one statement a line."""

    def load(name: str) -> list[dict[str, Any]]:
        lines = (DATA / name).read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    return load

"""A small taosAdapter for tests, on a loopback port, and the fixtures that start it.

It is written from the protocol's description on top of the server of ``websockets``, with ``json``
and ``struct`` alone; nothing of the client's frames or messages is in it. Only blocks are made with
:func:`aiotaos.protocol.encode.encode_block`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import re
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

import aiotaos
from aiotaos import Field, TypeCode
from aiotaos.protocol.encode import encode_block

DATA = Path(__file__).parent / "data"
_ONES = 0xFFFF_FFFF_FFFF_FFFF
_QUIET = logging.getLogger("tests.server")
_QUIET.setLevel(logging.CRITICAL)  # it logs whole frames, the test of the client's logs reads all


class Request:
    """What the client asks: JSON or binary."""

    def __init__(self, message: str | bytes) -> None:
        self.message = message
        self.sql: str | None = None
        if isinstance(message, str):
            body = json.loads(message)
            self.action: str = body["action"]
            self.args: dict[str, Any] = body.get("args", {})
            self.req_id: int = self.args.get("req_id", 0)
            self.id: int = self.args.get("id", 0)
            self.sql = self.args.get("sql")
            self.binary = False
            return
        self.req_id, self.id, action, version = struct.unpack_from("<QQQH", message)
        assert version == 1
        self.args = {}
        self.binary = True
        if action == 6:
            (length,) = struct.unpack_from("<I", message, 26)
            assert len(message) == 30 + length
            self.action, self.sql = "binary_query", message[30:].decode()
        else:
            assert (action, len(message)) == (7, 26)
            self.action = "fetch_raw_block"


class Gate:
    """Holds requests of one kind until it is opened."""

    def __init__(self, action: str, sql: str | None, skip: int) -> None:
        self.action = action
        self.sql = sql
        self.skip = skip
        self.arrived = 0
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    def open(self) -> None:
        self.opened.set()


class Answer:
    """What the server says to a statement: a refusal, a number of rows, or blocks of rows."""

    def __init__(
        self,
        *,
        fields: Sequence[Field] = (),
        blocks: Callable[[], Iterable[bytes]] = list,
        precision: int = 0,
        affected: int | None = None,
        code: int = 0,
        message: str = "",
        extra: dict[str, Any] | None = None,
        fetch_error: tuple[int, str] | None = None,
    ) -> None:
        self.fields = fields
        self.blocks = blocks
        self.precision = precision
        self.affected = affected
        self.code = code
        self.message = message
        self.extra = extra or {}
        self.fetch_error = fetch_error

    @property
    def has_rows(self) -> bool:
        return not self.code and self.affected is None

    def reply(self, action: str, req_id: int, id: int) -> str:
        base = {
            "code": self.code,
            "message": self.message,
            "action": action,
            "req_id": req_id,
            "timing": 1234,
        }
        if self.code:
            return json.dumps(base | self.extra)
        columns = {
            "fields_names": [field.name for field in self.fields],
            "fields_types": [int(field.type) for field in self.fields],
            "fields_lengths": [field.length for field in self.fields],
            "fields_precisions": [field.precision for field in self.fields],
            "fields_scales": [field.scale for field in self.fields],
        }
        if not self.has_rows:
            columns = dict.fromkeys(columns)
        described = {
            "id": id,
            "is_update": not self.has_rows,
            "affected_rows": self.affected or 0,
            "fields_count": len(self.fields),
            "precision": self.precision,
        }
        return json.dumps(base | described | columns | self.extra)

    def served(self) -> Iterator[bytes]:
        return iter(self.blocks())


class Result:
    """A result as the server holds it."""

    def __init__(self, sql: str, answer: Answer) -> None:
        self.sql = sql
        self.answer = answer
        self.blocks = answer.served()
        self.waiting: bytes | None = None
        self.outstanding = 0
        self.sent = 0


def fetch_reply(
    req_id: int, id: int, *, block: bytes | None = None, code: int = 0, message: str = ""
) -> bytes:
    text = message.encode()
    head = struct.pack("<QQHQQII", _ONES, 7, 1, 999, req_id, code, len(text))
    tail = struct.pack("<QB", id, block is None)
    return head + text + tail + (b"" if block is None else struct.pack("<I", len(block)) + block)


class Session:
    """One client that is connected."""

    def __init__(self, server: FakeServer, websocket: ServerConnection) -> None:
        self.server = server
        self.websocket = websocket
        self.requests: list[Request] = []
        self.results: dict[int, Result] = {}
        self.freed: list[str] = []
        self.left: dict[int, str] = {}
        self.database = ""
        self.ended = False
        self._ids = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()

    # What a test does with it.

    def seen(self, action: str) -> list[Request]:
        return [request for request in self.requests if action in request.action]

    def abort(self) -> None:
        """Cut the line."""
        self.websocket.transport.abort()

    async def send(self, *messages: Any) -> None:
        with contextlib.suppress(ConnectionClosed):
            for message in messages:
                await self.websocket.send(message)

    # What the server does.

    def receive(self, request: Request) -> None:
        self.requests.append(request)
        if request.action == "free_result":
            result = self.results.pop(request.id, None)
            if result is not None and result.sql != "select 1":  # that is how tests look for life
                self.freed.append(result.sql)
        else:
            task = asyncio.ensure_future(self._answer(request))
            self._tasks.add(task)
            task.add_done_callback(self._answered)
        self.server.changed()

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.server.errors.append(repr(error))
        self.server.changed()

    async def end(self) -> None:
        self.left = {id: result.sql for id, result in self.results.items()}
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.ended = True
        self.server.changed()

    async def _answer(self, request: Request) -> None:
        result = self.results.get(request.id)
        if request.action.startswith("fetch") and result is not None:
            result.outstanding += 1
            if result.outstanding > 1:
                self.server.errors.append(f"two fetches of {result.sql!r} at once")
        sql = result.sql if result is not None else request.sql
        for gate in self.server.gates:
            if (
                not gate.opened.is_set()
                and gate.action in request.action
                and gate.sql in (None, sql)
            ):
                gate.arrived += 1
                if gate.arrived > gate.skip:
                    gate.reached.set()
                    self.server.changed()
                    await gate.opened.wait()
        replies = await self._replies(request)
        if result is not None:
            result.outstanding -= 1
        if sql in self.server.shuffled:
            await self.server.shuffle(self, replies)
        else:
            await self.send(*replies)

    async def _replies(self, request: Request) -> list[Any]:
        handler = self.server.handlers.get(request.action)
        if handler is not None:
            return await handler(self, request)
        match request.action:
            case "version":
                return [self._text(request, version=self.server.version)]
            case "conn":
                return [self._login(request)]
            case "get_current_db":
                return [self._text(request, db=self.database)]
            case "query" | "binary_query":
                return [self._query(request)]
            case "fetch_raw_block":
                return [self._fetch(request)]
            case "fetch":
                return [self._old_fetch(request)]
            case "fetch_block":
                return [self._old_block(request)]
        raise AssertionError(f"unknown action {request.action}")

    def _text(self, request: Request, code: int = 0, message: str = "", **more: Any) -> str:
        base = {"code": code, "message": message, "action": request.action}
        return json.dumps(base | {"req_id": request.req_id, "timing": 77} | more)

    def _login(self, request: Request) -> str:
        code, message = self.server.logins.pop(0) if self.server.logins else (0, "")
        self.server.logged_in.append(request.args)
        if code:
            return self._text(request, code, message)
        self.database = request.args.get("db", "")
        return self._text(request, version=self.server.version)

    def _query(self, request: Request) -> str:
        assert request.sql is not None
        answer = self.server.answer(request.sql)
        used = re.fullmatch(r"\s*use `?(\w+)`?", request.sql, re.I)
        if used and not answer.code:
            self.database = used[1].lower()
        id = 0
        if answer.has_rows:
            id = next(self._ids)
            self.results[id] = Result(request.sql, answer)
        return answer.reply(request.action, request.req_id, id)

    def _next(self, id: int) -> tuple[bytes | None, int, str]:
        """The next block, or the end, or a refusal."""
        result = self.results.get(id)
        if result is None:
            return None, 0xFFFF, "result is nil"
        block = next(result.blocks, None)
        if block is not None:
            result.sent += 1
            return block, 0, ""
        del self.results[id]
        return None, *(result.answer.fetch_error or (0, ""))

    def _fetch(self, request: Request) -> bytes:
        block, code, message = self._next(request.id)
        return fetch_reply(request.req_id, request.id, block=block, code=code, message=message)

    def _old_fetch(self, request: Request) -> str:
        block, code, message = self._next(request.id)
        if code:
            return self._text(request, code, message)
        if block is not None:
            self.results[request.id].waiting = block
        rows = struct.unpack_from("<i", block, 8)[0] if block else 0
        return self._text(request, id=request.id, completed=block is None, lengths=None, rows=rows)

    def _old_block(self, request: Request) -> Any:
        result = self.results.get(request.id)
        if result is None or result.waiting is None:
            return self._text(request, 0xFFFF, "block is nil")
        block, result.waiting = result.waiting, None
        return struct.pack("<QQ", 555, request.id) + block


class FakeServer:
    """A server that does what a test tells it, and keeps account of what the clients do.

    Attributes:
        version: What it says it is.
        logins: What the next logins are told, as (code, message); then all are let in.
        gates: Holds, made by :meth:`hold`.
        handlers: Action to a coroutine function that makes the replies itself.
        shuffled: Statements whose answers are kept until :meth:`shuffle` has them all.
        errors: What clients did wrong.
        may_leave: Whether sessions may end with results that were neither finished nor freed.
    """

    def __init__(self) -> None:
        self.version = "3.3.8.0"
        self.logins: list[tuple[int, str]] = []
        self.logged_in: list[dict[str, Any]] = []
        self.sessions: list[Session] = []
        self.paths: list[str] = []
        self.gates: list[Gate] = []
        self.handlers: dict[str, Callable[[Session, Request], Awaitable[list[Any]]]] = {}
        self.shuffled: frozenset[str] = frozenset()
        self.errors: list[str] = []
        self.may_leave = False
        self.port = 0
        self._answers: dict[str, Answer] = {}
        self._kept: list[tuple[Session, list[Any]]] = []
        self._waiting: list[tuple[Callable[[], Any], asyncio.Future[None]]] = []
        self._server: Server | None = None
        self.rows("select 1", [Field("1", TypeCode.BIGINT, 8)], [[1]])

    async def start(self, port: int = 0, **options: Any) -> FakeServer:
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            port,
            **{
                "process_request": self._note_path,
                "compression": None,
                "ping_interval": None,
                "max_size": None,
                "close_timeout": 1,
                "logger": _QUIET,
            }
            | options,
        )
        (socket,) = self._server.sockets
        self.port = socket.getsockname()[1]
        return self

    async def stop(self) -> None:
        if self._server is not None:
            for gate in self.gates:
                gate.open()
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    @property
    def dsn(self) -> str:
        return f"ws://root:taosdata@127.0.0.1:{self.port}?conn_retries=0"

    @property
    def endpoint(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def session(self) -> Session:
        """The session of the client that came last."""
        return self.sessions[-1]

    # Answers.

    def rows(
        self,
        sql: str,
        fields: Sequence[Field],
        *blocks: Sequence[Any],
        precision: int = 0,
        **more: Any,
    ) -> None:
        """Answer a statement with blocks, each given as its columns."""
        raw = [encode_block(fields, columns) for columns in blocks]
        self.raw(sql, fields, lambda: raw, precision=precision, **more)

    def raw(
        self, sql: str, fields: Sequence[Field], blocks: Callable[[], Iterable[bytes]], **more: Any
    ) -> None:
        self._answers[sql] = Answer(fields=fields, blocks=blocks, **more)

    def integers(self, sql: str, *blocks: Sequence[int | None], **more: Any) -> None:
        """Answer a statement with blocks of one BIGINT column ``v``."""
        field = Field("v", TypeCode.BIGINT, 8)
        self.rows(sql, [field], *([values] for values in blocks), **more)

    def affect(self, sql: str, rows: int) -> None:
        self._answers[sql] = Answer(affected=rows)

    def refuse(self, sql: str, code: int, message: str) -> None:
        self._answers[sql] = Answer(code=code, message=message)

    def reply(self, sql: str, answer: Any) -> None:
        self._answers[sql] = answer

    def answer(self, sql: str) -> Any:
        found = self._answers.get(sql)
        if found is not None:
            return found
        if sql.lower().lstrip().startswith("use "):
            return Answer(affected=0)
        return Answer(code=0x2600, message=f'syntax error near "{sql[:20]}"')

    def hold(self, action: str, sql: str | None = None, *, skip: int = 0) -> Gate:
        """Keep requests of an action (of a statement) back; the first ``skip`` pass."""
        gate = Gate(action, sql, skip)
        self.gates.append(gate)
        return gate

    async def shuffle(self, session: Session, replies: list[Any]) -> None:
        """Keep replies until all the shuffled statements have theirs; then send the last first."""
        self._kept.append((session, replies))
        if len(self._kept) == len(self.shuffled):
            kept, self._kept = self._kept, []
            self.shuffled = frozenset()
            for session, replies in reversed(kept):
                await session.send(*replies)

    # Account.

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait for something to be so on the server."""
        if not condition():
            future = asyncio.get_running_loop().create_future()
            self._waiting.append((condition, future))
            await future

    def changed(self) -> None:
        for condition, future in self._waiting:
            if not future.done() and condition():
                future.set_result(None)
        self._waiting = [item for item in self._waiting if not item[1].done()]

    def check(self) -> None:
        assert self.errors == []
        if not self.may_leave:
            assert [session.left for session in self.sessions if session.left] == []

    def _note_path(self, connection: ServerConnection, request: Any) -> None:
        self.paths.append(request.path)
        self.changed()

    async def _serve(self, websocket: ServerConnection) -> None:
        session = Session(self, websocket)
        self.sessions.append(session)
        self.changed()
        try:
            async for message in websocket:
                session.receive(Request(message))
        except ConnectionClosed:
            pass
        except Exception as error:
            self.errors.append(repr(error))
            raise
        finally:
            await session.end()


def open_sockets() -> Counter[str]:
    """The sockets of this process, where the system can tell."""
    found: Counter[str] = Counter()
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                target = os.readlink(f"/proc/self/fd/{name}")
                if target.startswith("socket:"):
                    found[target] += 1
    return found


async def turns(condition: Callable[[], bool]) -> None:
    """Let the loop turn until something is so; what is closing needs some turns to be closed."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)


@pytest.fixture
async def clean() -> AsyncIterator[None]:
    """After the test there is no task and no socket that was not there before."""
    before = open_sockets()
    yield
    this = asyncio.current_task()

    def tasks() -> list[asyncio.Task[Any]]:
        return [task for task in asyncio.all_tasks() if task is not this]

    await turns(lambda: not tasks() and not open_sockets() - before)
    assert tasks() == []
    assert open_sockets() - before == Counter()


@pytest.fixture
async def start_server(clean: None) -> AsyncIterator[Callable[..., Awaitable[FakeServer]]]:
    """Start servers; they are checked and stopped after the test."""
    servers: list[FakeServer] = []

    async def start(**options: Any) -> FakeServer:
        servers.append(FakeServer())
        return await servers[-1].start(**options)

    yield start
    for server in servers:
        await server.stop()
    for server in servers:
        server.check()


@pytest.fixture
async def server(start_server: Callable[..., Awaitable[FakeServer]]) -> FakeServer:
    return await start_server()


@pytest.fixture
async def conn(server: FakeServer) -> AsyncIterator[aiotaos.Connection[Any]]:
    """A connection to the server; at the end of the test it still works, if it is not closed."""
    async with aiotaos.connect(server.dsn) as connection:
        yield connection
        if not connection.closed:
            assert await connection.fetchval("select 1", timeout=5) == 1


@pytest.fixture(params=["3.3.8.0", "3.3.1.0"], ids=["binary", "json"])
async def any_conn(
    server: FakeServer, request: pytest.FixtureRequest
) -> AsyncIterator[aiotaos.Connection[Any]]:
    """The same with a present adapter, and with one that knows JSON queries alone."""
    server.version = request.param
    async with aiotaos.connect(server.dsn) as connection:
        yield connection
        if not connection.closed:
            assert await connection.fetchval("select 1", timeout=5) == 1


@pytest.fixture
async def tcp_server(clean: None) -> AsyncIterator[Callable[..., Awaitable[int]]]:
    """Start servers that speak bytes: ``port = await tcp_server(handler)``."""
    servers: list[asyncio.Server] = []
    writers: list[asyncio.StreamWriter] = []

    async def start(handler: Callable[..., Awaitable[None]], **options: Any) -> int:
        async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await handler(reader, writer)
            writer.close()

        servers.append(await asyncio.start_server(serve_one, "127.0.0.1", 0, **options))
        return int(servers[-1].sockets[0].getsockname()[1])

    yield start
    for server in servers:
        server.close()
    for writer in writers:
        writer.transport.abort()
    for server in servers:
        await server.wait_closed()


@pytest.fixture(scope="session")
def server_parts() -> Any:
    """The parts of the server that tests make answers of."""

    class Parts:
        server = FakeServer
        answer = Answer
        reply = staticmethod(fetch_reply)
        turns = staticmethod(turns)

    return Parts


@pytest.fixture
def embedded_dsn() -> Iterator[str]:
    """An embedded server in a process of its own."""
    with subprocess.Popen(
        [sys.executable, "-m", "aiotaos.embedded", "--port", "0"],
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        yield next(word for word in line.split() if word.startswith("ws://"))
        process.terminate()
        process.stdout.read()
    assert process.returncode == 0

"""A small HTTP/1.1 server for tests, on a loopback socket; it answers what a test tells it.

It is written with ``asyncio`` streams and ``json`` alone. It can send an answer in pieces, hold it
at any byte, end it too early or not at all, and it keeps account of connections and requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import re
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

HOST = "127.0.0.1"
VERSION = "3.3.7.5"
TURNS = 4  # of the loop, in which a piece reaches the client by itself
_REASONS = {200: "OK", 204: "No Content", 401: "Unauthorized", 404: "Not Found"}
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: what is closed is reset
_PIECE = 1 << 20


class Request:
    """What a client asked.

    Attributes:
        method: ``GET`` or ``POST``.
        target: Path and query as they came.
        path: The path as it came, percent-encoded.
        query: The parameters, decoded.
        headers: The headers, with names in lower case.
        raw: The body as it came.
        connection: Number of the connection, from 1.
        left: Whether the client went away before it had the whole answer.
    """

    def __init__(
        self, method: str, target: str, headers: dict[str, str], raw: bytes, connection: int
    ) -> None:
        self.method = method
        self.target = target
        parts = urlsplit(target)
        self.path = parts.path
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        self.query = dict(pairs)
        assert len(pairs) == len(self.query), f"a parameter stands twice in {target}"
        self.headers = headers
        self.raw = raw
        self.connection = connection
        self.left = False

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.target} {self.raw[:60]!r}>"

    @property
    def is_gzipped(self) -> bool:
        return self.headers.get("content-encoding") == "gzip"

    @property
    def body(self) -> bytes:
        return gzip.decompress(self.raw) if self.is_gzipped else self.raw

    @property
    def sql(self) -> str:
        return self.body.decode()


class Gate:
    """Holds an answer until it is opened, or until the client goes away."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    def open(self) -> None:
        self.opened.set()


@dataclass
class Reply:
    """An answer.

    Attributes:
        body: Its body.
        status: Its status.
        headers: Headers besides those that the framing needs.
        framing: ``"chunked"``, ``"length"``, or ``"close"``: until the end of the connection.
        pieces: Sizes of the pieces in which the body is sent, each in a turn of the loop of its
            own; the last size goes on to the end.
        holds: For positions of the body (-1: before the status) where it waits.
        cut: How many bytes of the body are sent before the connection is ended; -1: nothing.
        reset: Whether it is reset then, and not closed.
        compressible: Whether it is gzipped for clients that take it, as taosAdapter does.
        raw: What is sent instead of all this, before the connection is ended.
    """

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    framing: str = "chunked"
    pieces: Sequence[int] = ()
    holds: dict[int, Gate] = field(default_factory=dict)
    cut: int | None = None
    reset: bool = False
    compressible: bool = True
    raw: bytes | None = None


Answer = Reply | bytes | list[Any] | Callable[[Request], Awaitable[Any]]


# Bodies as taosAdapter writes them.


def dumps(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def rows(
    columns: Sequence[tuple[str, str, int]],
    data: Iterable[Sequence[Any]],
    *,
    timing: int | None = None,
) -> bytes:
    """The answer to a query."""
    listed = [list(row) for row in data]
    end = "" if timing is None else f',"timing":{timing}'
    return (
        f'{{"code":0,"column_meta":{dumps([list(one) for one in columns])},'
        f'"data":{dumps(listed)},"rows":{len(listed)}{end}}}'
    ).encode()


def integers(*values: int | None, timing: int | None = None) -> bytes:
    """The answer to a query for one BIGINT column ``v``."""
    return rows([("v", "BIGINT", 8)], [[value] for value in values], timing=timing)


def affected(count: int, *, timing: int | None = None) -> bytes:
    """The answer to a statement without rows."""
    return rows([("affected_rows", "INT", 4)], [[count]], timing=timing)


def refusal(code: int, text: str, *, timing: int | None = 4711) -> bytes:
    """A refused statement."""
    body: dict[str, Any] = {"code": code, "desc": text}
    return dumps(body if timing is None else body | {"timing": timing}).encode()


def legacy_rows(
    columns: Sequence[tuple[str, int, int]], data: Iterable[Sequence[Any]]
) -> dict[str, Any]:
    """The answer of a server of 2.x to a query."""
    listed = [list(row) for row in data]
    return {
        "status": "succ",
        "head": [one[0] for one in columns],
        "column_meta": [list(one) for one in columns],
        "data": listed,
        "rows": len(listed),
    }


def legacy(columns: Sequence[tuple[str, int, int]], data: Iterable[Sequence[Any]]) -> bytes:
    return dumps(legacy_rows(columns, data)).encode()


def legacy_affected(count: int) -> bytes:
    return legacy([("affected_rows", 4, 4)], [[count]])


def legacy_refusal(code: int, text: str) -> bytes:
    return dumps({"status": "error", "code": code, "desc": text}).encode()


class HttpServer:
    """A server that does what a test tells it.

    Attributes:
        version: What it says it is.
        is_legacy: Whether it is one of 2.x.
        answers: Statement to its answer; a list is used up from its beginning, its last one stays.
        paths: Path to the answer of every request to it.
        requests: All that came.
        connections: How many connections there were.
        errors: What clients did wrong, and what failed here.
        port: Where it listens; kept when it is stopped and started again.
    """

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.version = VERSION
        self.is_legacy = False
        self.answers: dict[str, Answer] = {}
        self.paths: dict[str, Answer] = {}
        self.requests: list[Request] = []
        self.connections = 0
        self.errors: list[str] = []
        self.port = port
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}
        self._waiting: list[tuple[Callable[[], Any], asyncio.Future[None]]] = []

    async def start(self) -> Self:
        self._server = await asyncio.start_server(self._serve, HOST, self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Reset all connections and listen no more; it can be started again."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            self.cut()
            for task in self._open.values():
                task.cancel()
            await asyncio.gather(*self._open.values(), return_exceptions=True)
            await server.wait_closed()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def dsn(self) -> str:
        return f"http://root:taosdata@{HOST}:{self.port}?conn_retries=0"

    @property
    def endpoint(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def open_connections(self) -> int:
        """How many connections stand."""
        return len(self._open)

    @property
    def statements(self) -> list[str]:
        """The statements that came, those of the opening left out."""
        return [
            request.sql
            for request in self.requests
            if request.path.startswith("/rest/sql") and request.sql != "select server_version()"
        ]

    def request(self, sql: str) -> Request:
        """The last request with a statement."""
        return next(request for request in reversed(self.requests) if request.body == sql.encode())

    def asked(self, sql: str) -> int:
        """How often a statement came."""
        return sum(request.body == sql.encode() for request in self.requests)

    def cut(self) -> None:
        """Reset all connections."""
        for writer in self._open:
            _reset(writer)

    def close_idle(self) -> None:
        """Close all connections, as a server does that has waited too long."""
        for writer in self._open:
            writer.close()

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait for something to be so on the server."""
        if not condition():
            future = asyncio.get_running_loop().create_future()
            self._waiting.append((condition, future))
            await future

    def check(self) -> None:
        assert self.errors == []

    def _changed(self) -> None:
        for condition, future in self._waiting:
            if not future.done() and condition():
                future.set_result(None)
        self._waiting = [item for item in self._waiting if not item[1].done()]

    # Requests.

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        task = asyncio.current_task()
        assert task is not None
        self._open[writer] = task
        self._changed()
        try:
            while (request := await self._read(reader, writer, number)) is not None:
                self.requests.append(request)
                self._changed()
                reply = await self._reply(request)
                if not await self._send(reader, writer, request, reply):
                    break
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        except asyncio.CancelledError:
            pass  # by stop(); asyncio.start_server() would log it
        except Exception as error:
            self.errors.append(repr(error))
        finally:
            writer.close()
            del self._open[writer]
            self._changed()

    async def _read(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> Request | None:
        head = await reader.read(1)
        if not head:
            return None
        if not head.isalpha():  # no HTTP: a client that wants TLS
            writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            return None
        head += await reader.readuntil(b"\r\n\r\n")
        first, *lines = head[:-4].decode("latin-1").split("\r\n")
        method, target, version = first.split(" ")
        assert version == "HTTP/1.1"
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            assert name.lower() not in headers, f"{name} stands twice"
            headers[name.lower()] = value.strip()
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(await reader.readuntil(b"\r\n"), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readexactly(2)
        else:
            body = await reader.readexactly(int(headers.get("content-length", "0")))
        return Request(method, target, headers, body, number)

    # Answers.

    async def _reply(self, request: Request) -> Reply:
        answer: Any = self.paths.get(request.path)
        if answer is None and request.method == "POST":
            with contextlib.suppress(UnicodeDecodeError):
                answer = self.answers.get(request.sql)
        if answer is None:
            answer = self._ordinary(request)
        while not isinstance(answer, (Reply, bytes)):
            if isinstance(answer, list):
                answer = answer.pop(0) if len(answer) > 1 else answer[0]
            else:
                answer = await answer(request)
        if isinstance(answer, Reply):
            return answer
        return Reply(answer, headers={"Content-Type": "application/json; charset=utf-8"})

    def _ordinary(self, request: Request) -> Answer:
        database = request.path.partition("/rest/sql")[2]
        known = request.method == "POST" and re.fullmatch(r"(?:utc|t)?(?:/[^/]+)?", database)
        if not known or (database[:1] not in ("", "/") and not self.is_legacy):
            return Reply(
                b"404 page not found", 404, {"Content-Type": "text/plain"}, framing="length"
            )
        sql = request.sql
        if sql == "select server_version()":
            if self.is_legacy:
                return legacy([("server_version()", 8, 8)], [[self.version]])
            return rows([("server_version()", "VARCHAR", len(self.version))], [[self.version]])
        if re.match(r"\s*use\b", sql, re.I):
            return legacy_affected(0) if self.is_legacy else affected(0)
        if sql == "select 1":
            return (
                legacy([("1", 5, 8)], [[1]])
                if self.is_legacy
                else rows([("1", "BIGINT", 8)], [[1]])
            )
        text = f'syntax error near "{sql[:20]}"'
        if self.is_legacy:
            return legacy_refusal(0x0216, text)
        return Reply(
            refusal(0x2600, text), headers={"Content-Type": "application/json"}, framing="length"
        )

    async def _send(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        request: Request,
        reply: Reply,
    ) -> bool:
        """Send an answer; whether another request may come on the connection."""
        try:
            goes_on = await self._answer(reader, writer, request, reply)
        except ConnectionError:
            request.left = True
            self._changed()
            raise
        if request.left:
            self._changed()
        return goes_on and request.headers.get("connection") != "close"

    async def _answer(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        request: Request,
        reply: Reply,
    ) -> bool:
        holds = dict(reply.holds)
        if -1 in holds and not await self._held(reader, request, holds.pop(-1)):
            return False
        if reply.raw is not None or reply.cut == -1:
            writer.write(reply.raw or b"")
            return self._end(writer, reply)
        body, headers = reply.body, dict(reply.headers)
        if reply.compressible and body and "gzip" in request.headers.get("accept-encoding", ""):
            body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
        is_chunked = reply.framing == "chunked" and reply.status != 204
        if is_chunked:
            headers["Transfer-Encoding"] = "chunked"
        elif reply.framing != "close" and reply.status != 204:
            headers["Content-Length"] = str(len(body))
        if reply.framing == "close":
            headers["Connection"] = "close"
        reason = _REASONS.get(reply.status, "Whatever")
        lines = [f"HTTP/1.1 {reply.status} {reason}", *(f"{k}: {v}" for k, v in headers.items())]
        writer.write("".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1"))
        end = len(body) if reply.cut is None else reply.cut
        sizes = list(reply.pieces)
        size = _PIECE
        start = 0
        while True:
            if start in holds:
                await writer.drain()
                if not await self._held(reader, request, holds.pop(start)):
                    return False
            if start >= end:
                break
            if sizes:
                size = sizes.pop(0)
            stop = min(start + size, end, *(place for place in holds if place > start))
            piece = body[start:stop]
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece)
            await writer.drain()
            if reply.pieces:
                for _ in range(TURNS):
                    await asyncio.sleep(0)
            start = stop
        if reply.cut is not None:
            return self._end(writer, reply)
        if is_chunked:
            writer.write(b"0\r\n\r\n")
        await writer.drain()
        return reply.framing != "close" and headers.get("Connection") != "close"

    def _end(self, writer: asyncio.StreamWriter, reply: Reply) -> bool:
        if reply.reset:
            _reset(writer)
        return False

    async def _held(self, reader: asyncio.StreamReader, request: Request, gate: Gate) -> bool:
        """Wait for a gate to be opened; False if the client went away before."""
        gate.reached.set()
        self._changed()
        opened = asyncio.ensure_future(gate.opened.wait())
        left = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait([opened, left], return_when=asyncio.FIRST_COMPLETED)
            if not left.done():
                return True
            with contextlib.suppress(ConnectionError):
                if left.result():
                    self.errors.append("a request came before the answer to the one before")
            request.left = True
            return False
        finally:
            for task in (opened, left):
                task.cancel()
            await asyncio.gather(opened, left, return_exceptions=True)


def _reset(writer: asyncio.StreamWriter) -> None:
    if not writer.transport.is_closing():
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        writer.transport.abort()


def database_of(request: Request) -> str | None:
    """The database that the path names."""
    name = request.path.removeprefix("/rest/sql")
    return unquote(name[1:]) if name else None

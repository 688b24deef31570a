"""A proxy that makes trouble between a client and a server, and servers that are none of ours.

All of it is real sockets on the loopback. The proxy has no task and no queue of its own loop: what
arrives is passed on in the call in which it arrives, unless the present trouble is another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import json
import logging
import math
import random
import socket
import struct
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Any, cast

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

HOST = "127.0.0.1"
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: what is closed is reset
_QUIET = logging.getLogger("tests.trouble")
_QUIET.setLevel(logging.CRITICAL)


class Mode(Enum):
    """What becomes of the bytes; see the methods of :class:`Proxy` of the same names."""

    PASS = "pass"
    CUT = "cut"
    DELAY = "delay"
    STALL = "stall"
    SWALLOW = "swallow"
    GARBAGE = "garbage"
    HALF_CLOSE = "half_close"
    REFUSE = "refuse"
    TRICKLE = "trickle"


_BOTH_WAYS = frozenset({Mode.DELAY, Mode.STALL, Mode.SWALLOW})


class _Pipe:
    """One direction of a connection.

    Attributes:
        out: Where the bytes go; None until that side is connected.
        waiting: What has come and not gone, each piece with the time at which it came.
        lossy: Whether bytes of it were swallowed or replaced.
    """

    def __init__(self, proxy: Proxy, pair: _Pair, *, from_server: bool) -> None:
        self._proxy = proxy
        self._pair = pair
        self._from_server = from_server
        self._timer: asyncio.Handle | None = None
        self._ended = False
        self._closes = False
        self._shut = False
        self.out: asyncio.Transport | None = None
        self.waiting: deque[tuple[float, bytes]] = deque()
        self.lossy = False

    @property
    def done(self) -> bool:
        """Whether its source has ended and the other side was told."""
        return self._shut

    def feed(self, data: bytes) -> None:
        self.waiting.append((self._proxy.time(), data))
        if self._timer is None:
            self.pump()

    def end(self, *, close: bool = False) -> None:
        """Nothing more comes; ``close``: and nothing is taken any more."""
        self._ended = True
        self._closes = self._closes or close
        if self._timer is None:
            self.pump()

    def shut(self) -> None:
        """Send FIN; whatever still comes is dropped."""
        if not self._shut and self.out is not None and not self.out.is_closing():
            self._shut = True
            with contextlib.suppress(OSError):  # the other side has reset it in this very moment
                self.out.write_eof()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def pump(self) -> None:
        """Pass on what may pass now."""
        self.stop()
        out = self.out
        if out is None:
            return
        while self.waiting:
            if self._shut or out.is_closing():
                self.waiting.clear()
            elif not self._step():
                return
        if self._ended and self._mode is not Mode.STALL:
            self.shut()
            if self._closes:
                out.close()
            self._pair.check()

    @property
    def _mode(self) -> Mode:
        mode = self._proxy.mode
        return mode if self._from_server or mode in _BOTH_WAYS else Mode.PASS

    def _step(self) -> bool:
        """Deal with the first piece that waits; False if the rest has to wait."""
        proxy = self._proxy
        came, data = self.waiting[0]
        match self._mode:
            case Mode.STALL:
                return False
            case Mode.DELAY:
                rest = came + proxy.seconds - proxy.time()
                if rest > 0:
                    if math.isfinite(rest):
                        self._timer = proxy.later(rest, self.pump)
                    return False
            case Mode.SWALLOW:
                self.waiting.clear()
                self.lossy = True
                return True
            case Mode.GARBAGE:
                data = proxy.random.randbytes(len(data))
                self.lossy = True
            case Mode.TRICKLE:
                head, tail = data[: proxy.size], data[proxy.size :]
                self._write(head)
                self.waiting.popleft()
                if tail:
                    self.waiting.appendleft((came, tail))
                self._timer = proxy.later(proxy.seconds, self.pump)
                return False
            case Mode.CUT:
                self._write(data[: proxy.allowance])
                proxy.allowance -= min(len(data), proxy.allowance)
                if proxy.allowance:
                    self.waiting.popleft()
                    return True
                proxy.cut_now()
                return False
        self.waiting.popleft()
        self._write(data)
        return True

    def _write(self, data: bytes) -> None:
        assert self.out is not None
        self._proxy.count(len(data), from_server=self._from_server)
        self.out.write(data)


class _Side(asyncio.Protocol):
    """One socket of a connection: what it reads goes into one pipe, the other pipe writes to it."""

    def __init__(self, pair: _Pair, source: _Pipe, sink: _Pipe) -> None:
        self._pair = pair
        self._source = source
        self._sink = sink
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = self._sink.out = cast("asyncio.Transport", transport)
        self._pair.made(self)

    def data_received(self, data: bytes) -> None:
        self._source.feed(data)

    def eof_received(self) -> bool:
        self._source.end()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._sink.stop()
        self._sink.waiting.clear()
        self.transport = None
        self._pair.lost(self._source, reset=exc is not None)


class _Pair:
    """A client's connection, and the one to the server that belongs to it."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self.up = _Pipe(proxy, self, from_server=False)
        self.down = _Pipe(proxy, self, from_server=True)
        self.client = _Side(self, self.up, self.down)
        self.server = _Side(self, self.down, self.up)
        self.dial: asyncio.Task[None] | None = None

    @property
    def lossy(self) -> bool:
        return self.up.lossy or self.down.lossy

    def made(self, side: _Side) -> None:
        if side is self.client:
            self._proxy.joined(self)
            if self._proxy.mode is Mode.CUT and not self._proxy.allowance:
                self.abort()
                return
            self.dial = asyncio.ensure_future(self._dial())
        self.obey()

    async def _dial(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: self.server, HOST, self._proxy.target_port
            )
        except OSError:
            self.abort()
        finally:
            self.dial = None

    def lost(self, pipe: _Pipe, *, reset: bool) -> None:
        """One side is gone; ``pipe`` is what it fed."""
        if reset:
            self.abort()
        else:
            pipe.end(close=True)
        if self.client.transport is None and self.dial is not None:
            self.dial.cancel()
        if self.client.transport is None and self.server.transport is None:
            self._proxy.left(self)

    def check(self) -> None:
        """Close what has ended in both directions."""
        if self.up.done and self.down.done:
            for side in (self.client, self.server):
                if side.transport is not None:
                    side.transport.close()

    def obey(self) -> None:
        """Do what the present mode wants."""
        for side in (self.client, self.server):
            if side.transport is not None:
                if self._proxy.mode is Mode.STALL:
                    side.transport.pause_reading()
                else:
                    side.transport.resume_reading()
        if self._proxy.mode is Mode.HALF_CLOSE:
            self.down.shut()
        self.up.pump()
        self.down.pump()

    def abort(self) -> None:
        """Reset both sides."""
        for side in (self.client, self.server):
            if side.transport is not None:
                if not side.transport.is_closing():
                    side.transport.get_extra_info("socket").setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, _RESET
                    )
                side.transport.abort()
        if self.dial is not None:
            self.dial.cancel()


class Proxy:
    """Stands between clients and a server, and makes trouble when it is told to.

    Each kind of trouble is a method; it counts at once, for the connections that stand and for new
    ones, until the next such call. :meth:`heal` ends it. The port stays the same.

    Args:
        target_port: The server's port on the loopback.

    Attributes:
        port: The port that clients connect to.
        mode: The present trouble.
        accepted: How many connections there were.
        up: Bytes passed on to the server.
        down: Bytes passed on to clients, garbage included.
        seconds: How long a piece is held, or the pause between two.
        size: Bytes of the pieces of a trickle.
        allowance: Bytes that the server may still say before the cut.
        random: Where garbage comes from.
    """

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        self.mode = Mode.PASS
        self.accepted = 0
        self.up = 0
        self.down = 0
        self.seconds = 0.0
        self.size = 1
        self.allowance = 0
        self.random = random.Random(0)
        self._then_pass = False
        self._pairs: set[_Pair] = set()
        self._reserve: socket.socket | None = None
        self._listener: asyncio.Server | None = None
        self._waiting: list[tuple[Callable[[], Any], asyncio.Future[None]]] = []

    def __len__(self) -> int:
        """How many connections stand, on either side."""
        return len(self._pairs)

    async def start(self) -> Proxy:
        # A socket that is bound and does not listen keeps the port while it is refused.
        self._reserve = socket.socket()
        self._reserve.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserve.bind((HOST, 0))
        self.port = self._reserve.getsockname()[1]
        await self._listen()
        return self

    async def stop(self) -> None:
        """Reset all connections, give the port back."""
        self.refuse()
        await self.until(lambda: not self._pairs)
        if self._reserve is not None:
            self._reserve.close()
            self._reserve = None

    async def __aenter__(self) -> Proxy:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait for something to be so here: a number of bytes, of connections."""
        if not condition():
            future = asyncio.get_running_loop().create_future()
            self._waiting.append((condition, future))
            await future

    # Trouble.

    async def heal(self, *, reset: bool = True) -> None:
        """Pass everything on again, first of all what was held; listen again.

        Args:
            reset: Reset the connections of which bytes were swallowed or replaced, as a network
                does that has forgotten them; otherwise they go on without these bytes.
        """
        spoilt = [pair for pair in self._pairs if pair.lossy] if reset else []
        self._switch(Mode.PASS)
        for pair in spoilt:
            pair.abort()
        await self._listen()

    def cut(self, *, after: int = 0, once: bool = False) -> None:
        """Reset both sides of every connection.

        Args:
            after: Not before the server has said so many bytes more, on all connections together.
            once: Connections that come afterwards pass; otherwise they are reset, too.
        """
        self.allowance = after
        self._then_pass = once
        self._switch(Mode.CUT)
        if not after:
            self.cut_now()

    def delay(self, seconds: float = math.inf) -> None:
        """Hold every piece of both directions for so long; without an end until it is healed."""
        self.seconds = seconds
        self._switch(Mode.DELAY)

    def stall(self) -> None:
        """Connections are accepted, but nothing is read any more, from neither side."""
        self._switch(Mode.STALL)

    def swallow(self) -> None:
        """Everything is read, and nothing arrives; nor does it later."""
        self._switch(Mode.SWALLOW)

    def garbage(self, seed: int = 0) -> None:
        """Replace what the server says by as many bytes by chance."""
        self.random = random.Random(seed)
        self._switch(Mode.GARBAGE)

    def half_close(self) -> None:
        """Say that the server says no more, and go on taking what the client says."""
        self._switch(Mode.HALF_CLOSE)

    def refuse(self) -> None:
        """Reset all connections and listen no more: new ones are refused."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self._switch(Mode.REFUSE)
        for pair in list(self._pairs):
            pair.abort()

    def trickle(self, size: int = 1, seconds: float = 0.0) -> None:
        """Let what the server says through in small pieces, one in each turn of the loop.

        Args:
            size: Bytes of a piece.
            seconds: Pause between two pieces.
        """
        self.size = size
        self.seconds = seconds
        self._switch(Mode.TRICKLE)

    # What the connections tell.

    def time(self) -> float:
        return asyncio.get_running_loop().time()

    def later(self, seconds: float, call: Callable[[], None]) -> asyncio.Handle:
        loop = asyncio.get_running_loop()
        return loop.call_later(seconds, call) if seconds else loop.call_soon(call)

    def count(self, size: int, *, from_server: bool) -> None:
        if from_server:
            self.down += size
        else:
            self.up += size
        self._changed()

    def joined(self, pair: _Pair) -> None:
        self.accepted += 1
        self._pairs.add(pair)
        if self.mode is Mode.REFUSE:  # the queue of a listener that is closed by now
            pair.abort()
        self._changed()

    def left(self, pair: _Pair) -> None:
        self._pairs.discard(pair)
        self._changed()

    def cut_now(self) -> None:
        """The moment of a cut."""
        if self._then_pass:
            self.mode = Mode.PASS
        for pair in list(self._pairs):
            pair.abort()

    # Inside.

    def _switch(self, mode: Mode) -> None:
        self.mode = mode
        for pair in list(self._pairs):
            pair.obey()

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = await asyncio.get_running_loop().create_server(
                lambda: _Pair(self).client, HOST, self.port, reuse_address=True
            )

    def _changed(self) -> None:
        for condition, future in self._waiting:
            if not future.done() and condition():
                future.set_result(None)
        self._waiting = [item for item in self._waiting if not item[1].done()]


# Servers that are none of ours.


def http_answer(status: int, body: str = "", **headers: str) -> bytes:
    """The bytes of an HTTP answer; ``retry_after="3"`` becomes the header ``Retry-After: 3``."""
    lines = [f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}"]
    named = {name.replace("_", "-").title(): value for name, value in headers.items()}
    for name, value in (named | {"Content-Length": str(len(body.encode()))}).items():
        lines.append(f"{name}: {value}")
    return "\r\n".join([*lines, "", body]).encode()


SSH_BANNER = b"SSH-2.0-OpenSSH_9.6\r\n"
HTTP_PAGE = http_answer(200, "<html><h1>It works!</h1></html>", content_type="text/html")


class Speaker:
    """Says the same bytes to everyone, and closes.

    Args:
        answer: The bytes.
        at_once: Whether it speaks first, as SSH does; otherwise it waits for a request.

    Attributes:
        port: Where it listens.
        requests: What was asked.
    """

    def __init__(self, answer: bytes, *, at_once: bool = False) -> None:
        self._answer = answer
        self._at_once = at_once
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self.port = 0
        self.requests: list[bytes] = []

    async def __aenter__(self) -> Speaker:
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                if self._at_once:
                    writer.write(self._answer)
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                if not self._at_once:
                    writer.write(self._answer)
                writer.write_eof()
                await reader.read()
        except asyncio.CancelledError:
            pass  # the server stops
        finally:
            writer.transport.abort()


class OldAdapter:
    """Speaks WebSocket, but knows nothing besides ``version``, and says one that is too old.

    Args:
        version: What it says.

    Attributes:
        port: Where it listens.
        actions: What it was asked.
    """

    def __init__(self, version: str = "2.6.0.0") -> None:
        self._version = version
        self._server: Server | None = None
        self.port = 0
        self.actions: list[str] = []

    async def __aenter__(self) -> OldAdapter:
        self._server = await serve(
            self._serve, HOST, 0, compression=None, ping_interval=None, logger=_QUIET
        )
        (listener,) = self._server.sockets
        self.port = listener.getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, websocket: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in websocket:
                body = json.loads(message)
                action = body["action"]
                self.actions.append(action)
                answer = {"action": action, "req_id": body.get("args", {}).get("req_id", 0)}
                if action == "version":
                    answer |= {"code": 0, "message": "", "version": self._version}
                else:
                    answer |= {"code": 0xFFFF, "message": f"unknown action {action}"}
                await websocket.send(json.dumps(answer))

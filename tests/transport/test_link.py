"""One WebSocket on a socket: the link alone, without a session above it."""

from __future__ import annotations

import asyncio
import logging
import math

import pytest
from websockets.exceptions import InvalidHandshake, InvalidMessage, InvalidStatus

from aiotaos.transport.link import Link


class Ears:
    """What a link told."""

    def __init__(self):
        self.messages = []
        self.lost = []
        self.heard = asyncio.Event()

    def text(self, data):
        self.messages.append(bytes(data).decode())
        self.heard.set()

    def binary(self, data):
        self.messages.append(bytes(data))
        self.heard.set()

    async def next(self):
        await self.heard.wait()
        self.heard.clear()
        return self.messages[-1]


@pytest.fixture
async def ears():
    return Ears()


@pytest.fixture
async def dial(clean, ears):
    links = []

    async def connect(port, *, path="/ws", compression=False):
        link = Link(
            f"ws://127.0.0.1:{port}{path}",
            compression=compression,
            keep_alive=math.inf,
            on_text=ears.text,
            on_binary=ears.binary,
            on_lost=ears.lost.append,
        )
        links.append(link)
        await asyncio.get_running_loop().create_connection(lambda: link, "127.0.0.1", port)
        await link.open()
        return link

    yield connect
    for link in links:
        link.abort()
        if link._transport is not None:
            await link._ended


@pytest.fixture
async def peer(start_server):
    return await start_server()


async def test_messages(peer, dial, ears):
    link = await dial(peer.port)
    assert not link.congested
    await link.writable()
    await peer.until(lambda: peer.sessions)
    websocket = peer.session.websocket
    await websocket.send("text ✓")
    assert await ears.next() == "text ✓"
    await websocket.send(b"\x00\xff")
    assert await ears.next() == b"\x00\xff"
    await websocket.send([b"one ", b"two ", b"three"])
    assert await ears.next() == b"one two three"
    await websocket.send(["ein ", "", "zwei"])
    assert await ears.next() == "ein zwei"
    link.send_text(b'{"action":"version","args":{"req_id":5}}')
    assert '"version": "3.3.8.0"' in await ears.next()
    link.send_binary(bytes(16) + (7).to_bytes(8, "little") + b"\x01\x00")
    assert (await ears.next()).endswith(b"result is nil" + bytes(8) + b"\x01")
    await link.close()
    assert [str(reason) for reason in ears.lost] == ["the server closed the session (code 1000)"]
    assert websocket.protocol.close_code == 1000


async def test_closing_twice_and_at_once(peer, dial, ears):
    link = await dial(peer.port)
    await asyncio.gather(link.close(), _closing(link))
    await link.close()
    link.abort()
    assert len(ears.lost) == 1


async def _closing(link):
    await asyncio.shield(link._ended)


async def test_abort(peer, dial, ears):
    link = await dial(peer.port)
    link.abort()
    await link.close()
    assert [str(reason) for reason in ears.lost] == ["the connection was closed by the other side"]


async def test_an_abort_before_there_is_a_connection(ears):
    link = Link(
        "ws://127.0.0.1:1/ws",
        compression=False,
        keep_alive=math.inf,
        on_text=ears.text,
        on_binary=ears.binary,
        on_lost=ears.lost.append,
    )
    link.abort()
    assert ears.lost == []


async def test_the_reason_is_the_error_of_the_socket(peer, dial, ears):
    link = await dial(peer.port)
    await peer.until(lambda: peer.sessions)
    peer.session.abort()
    await link._ended
    (reason,) = ears.lost
    assert isinstance(reason, ConnectionResetError)


async def test_a_close_behind_messages(peer, dial, ears):
    """What stands before the goodbye in one segment is delivered, what stands behind is not."""
    link = await dial(peer.port)
    await peer.until(lambda: peer.sessions)
    peer.session.websocket.transport.write(b"\x81\x02ab\x88\x02\x03\xe9\x81\x02cd")
    await link._ended
    assert ears.messages == ["ab"]
    assert [str(reason) for reason in ears.lost] == ["the server closed the session (code 1001)"]


async def test_a_server_that_stays_after_its_goodbye(dial, ears, peer, monkeypatch, server_parts):
    """The connection is dropped when the server does not close it."""
    monkeypatch.setattr("aiotaos.transport.link._LINGER", 0.05)
    link = await dial(peer.port)
    await peer.until(lambda: peer.sessions)
    transport = peer.session.websocket.transport
    transport.pause_reading()
    link.send_text(b"x" * 8_000_000)
    assert link.congested
    transport.write(b"\x88\x00")
    await server_parts.turns(lambda: ears.lost)
    await link.close()
    await link.writable()
    assert [str(reason) for reason in ears.lost] == ["the server closed the session (code 1005)"]
    transport.resume_reading()
    await peer.until(lambda: peer.session.ended)


async def handshake_error(dial, port):
    with pytest.raises(Exception) as raised:  # noqa: PT011 - its type is what is asked for
        await dial(port)
    return raised.value


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nno!", InvalidStatus),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", InvalidStatus),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", InvalidHandshake),
        (b"SSH-2.0-OpenSSH_9.6\r\n", InvalidMessage),
        (b"HTTP/1.1 404 Not Fou", InvalidMessage),
        (b"", InvalidMessage),
        (b"\x00" * 100_000, InvalidHandshake),
    ],
)
async def test_a_handshake_that_fails(tcp_server, dial, ears, answer, error):
    async def handler(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)

    port = await tcp_server(handler)
    assert isinstance(await handshake_error(dial, port), error)
    await asyncio.sleep(0)
    assert len(ears.lost) <= 1


async def test_a_connection_reset_in_the_handshake(tcp_server, dial):
    async def handler(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    port = await tcp_server(handler)
    assert isinstance(await handshake_error(dial, port), (ConnectionResetError, InvalidMessage))


async def test_an_opening_that_is_cancelled(tcp_server, dial, ears):
    connected = asyncio.Event()

    async def handler(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        connected.set()
        await reader.read()

    port = await tcp_server(handler)
    task = asyncio.ensure_future(dial(port))
    await connected.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_request(tcp_server, dial):
    requests = []

    async def handler(reader, writer):
        requests.append((await reader.readuntil(b"\r\n\r\n")).decode())

    port = await tcp_server(handler)
    for compression in (False, True):
        with pytest.raises((InvalidMessage, ConnectionError)):
            await dial(port, path="/ws?token=abc", compression=compression)
    plain, compressed = requests
    assert plain.startswith("GET /ws?token=abc HTTP/1.1\r\n")
    assert "\r\nConnection: Upgrade\r\n" in plain
    assert "\r\nSec-WebSocket-Version: 13\r\n" in plain
    assert "Sec-WebSocket-Extensions" not in plain
    assert "Accept-Encoding" not in plain
    assert "\r\nSec-WebSocket-Extensions: permessage-deflate" in compressed
    assert "server_max_window_bits" not in compressed


async def test_frames_are_not_logged(peer, dial, ears, caplog):
    caplog.set_level(logging.DEBUG)
    link = await dial(peer.port, path="/ws?token=hidden")
    link.send_text(b'{"action":"version","args":{"secret":"hidden"}}')
    await ears.next()
    await link.close()
    assert "hidden" not in caplog.text

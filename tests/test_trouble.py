"""The proxy that makes trouble, by itself: what its troubles are on the wire."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.trouble import (
    HTTP_PAGE,
    SSH_BANNER,
    Mode,
    OldAdapter,
    Proxy,
    Speaker,
    http_answer,
)


class Echo:
    """Says everything again, and keeps what it was told."""

    def __init__(self):
        self.heard = b""
        self.ended = asyncio.Event()
        self.changed = asyncio.Event()

    async def __call__(self, reader, writer):
        try:
            while data := await reader.read(1 << 16):
                self.heard += data
                self.changed.set()
                writer.write(data)
        finally:
            self.ended.set()

    async def until(self, heard):
        while self.heard != heard:
            self.changed.clear()
            await self.changed.wait()


@pytest.fixture
async def echo(clean):
    return Echo()


@pytest.fixture
async def proxy(echo, tcp_server):
    async with Proxy(await tcp_server(echo)) as proxy:
        yield proxy
    assert len(proxy) == 0


@pytest.fixture
async def dial(proxy):
    """Open connections through the proxy."""
    writers = []

    async def connect():
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writers.append(writer)
        return reader, writer

    yield connect
    for writer in writers:
        writer.transport.abort()


async def say(stream, data):
    """Send bytes, and read as many."""
    reader, writer = stream
    writer.write(data)
    return await reader.readexactly(len(data))


async def end_of(stream):
    """What is read up to the end, and whether the end was a reset."""
    reader, _ = stream
    data = b""
    while True:
        try:
            piece = await reader.read(1 << 16)
        except ConnectionResetError:
            return data, "reset"
        if not piece:
            return data, "closed"
        data += piece


async def turns(number=50):
    for _ in range(number):
        await asyncio.sleep(0)


async def test_pass(proxy, dial, echo):
    first, second = await dial(), await dial()
    assert await say(first, b"hello") == b"hello"
    big = random.Random(1).randbytes(3_000_000)
    assert await say(second, big) == big
    assert (proxy.accepted, len(proxy), proxy.up, proxy.down) == (2, 2, 3_000_005, 3_000_005)
    first[1].write_eof()
    assert await end_of(first) == (b"", "closed")
    await proxy.until(lambda: len(proxy) == 1)
    await echo.ended.wait()


async def test_the_server_closes(tcp_server, clean):
    async def bye(reader, writer):
        writer.write(b"bye")

    async with Proxy(await tcp_server(bye)) as proxy:
        stream = await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await end_of(stream) == (b"bye", "closed")
        stream[1].close()
        await proxy.until(lambda: not len(proxy))


async def test_the_server_is_not_there(tcp_server, clean):
    proxy = Proxy(1)
    async with proxy:
        stream = await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await end_of(stream) == (b"", "reset")
        stream[1].close()


async def test_cut(proxy, dial, echo):
    stream = await dial()
    assert await say(stream, b"hello") == b"hello"
    proxy.cut()
    assert await end_of(stream) == (b"", "reset")
    await echo.ended.wait()
    assert await end_of(await dial()) == (b"", "reset")
    await proxy.heal()
    assert await say(await dial(), b"hello") == b"hello"


async def test_cut_once(proxy, dial):
    stream = await dial()
    assert await say(stream, b"hello") == b"hello"
    proxy.cut(once=True)
    assert await end_of(stream) == (b"", "reset")
    assert await say(await dial(), b"hello") == b"hello"


@pytest.mark.parametrize("once", [False, True])
async def test_cut_after_some_bytes(proxy, dial, once):
    stream, other = await dial(), await dial()
    assert await say(stream, b"hello") == b"hello"
    proxy.cut(after=7, once=once)
    assert await say(stream, b"abc") == b"abc"
    stream[1].write(b"defghi")
    assert await end_of(stream) == (b"defg", "reset")
    assert await end_of(other) == (b"", "reset")
    assert proxy.mode is (Mode.PASS if once else Mode.CUT)
    new = await dial()
    if once:
        assert await say(new, b"hello") == b"hello"
    else:
        assert await end_of(new) == (b"", "reset")


async def test_delay_until_healed(proxy, dial, echo):
    stream = await dial()
    assert await say(stream, b"hello") == b"hello"
    proxy.delay()
    new = await dial()
    stream[1].write(b"a")
    new[1].write(b"b")
    await turns()
    assert echo.heard == b"hello"
    await proxy.heal()
    assert await say(stream, b"c") == b"a"
    assert await stream[0].readexactly(1) == b"c"
    assert await new[0].readexactly(1) == b"b"


async def test_delay_for_some_time(proxy, dial):
    stream = await dial()
    assert await say(stream, b"hello") == b"hello"
    loop = asyncio.get_running_loop()
    proxy.delay(0.02)
    start = loop.time()
    assert await say(stream, b"there and back") == b"there and back"
    assert 0.039 < loop.time() - start < 2


async def test_stall(proxy, dial, echo):
    stream = await dial()
    assert await say(stream, b"hello") == b"hello"
    proxy.stall()
    new = await dial()
    stream[1].write(b"a" * 10_000_000)
    new[1].write(b"b")
    await turns()
    assert (echo.heard, proxy.up) == (b"hello", 5)
    assert stream[1].transport.get_write_buffer_size()  # the client feels it
    await proxy.heal()
    assert await stream[0].readexactly(10_000_000) == b"a" * 10_000_000
    assert await new[0].readexactly(1) == b"b"


async def test_swallow(proxy, dial, echo):
    stream, quiet = await dial(), await dial()
    assert await say(stream, b"hello") == b"hello"
    proxy.swallow()
    stream[1].write(b"a" * 1_000_000)
    await stream[1].drain()
    await turns()
    assert (echo.heard, proxy.up, proxy.down) == (b"hello", 5, 5)
    await proxy.heal()
    assert await end_of(stream) == (b"", "reset")
    assert await say(quiet, b"c") == b"c"


async def test_garbage(proxy, dial, echo):
    stream = await dial()
    proxy.garbage(7)
    first = await say(stream, b"hello world")
    assert first == random.Random(7).randbytes(11)
    assert echo.heard == b"hello world"
    await proxy.heal(reset=False)
    assert await say(stream, b"hello world") == b"hello world"
    await proxy.heal()
    assert await end_of(stream) == (b"", "reset")


async def test_half_close(proxy, dial, echo):
    stream = await dial()
    assert await say(stream, b"hello") == b"hello"
    proxy.half_close()
    assert await end_of(stream) == (b"", "closed")
    stream[1].write(b"more")
    await echo.until(b"hellomore")
    new = await dial()
    assert await end_of(new) == (b"", "closed")
    await proxy.heal()
    assert await say(await dial(), b"hello") == b"hello"


async def test_refuse(proxy, dial, echo):
    stream = await dial()
    assert await say(stream, b"hello") == b"hello"
    port = proxy.port
    proxy.refuse()
    assert await end_of(stream) == (b"", "reset")
    for _ in range(2):
        with pytest.raises(ConnectionRefusedError):
            await dial()
    await proxy.heal()
    assert proxy.port == port
    assert await say(await dial(), b"hello") == b"hello"


async def test_trickle(proxy, dial):
    stream = reader, writer = await dial()
    assert await say(stream, b"hello") == b"hello"
    proxy.trickle(2)
    writer.write(b"abcdefg")
    pieces = []
    while b"".join(pieces) != b"abcdefg":
        pieces.append(await reader.read(100))
    assert max(map(len, pieces)) < 7
    loop = asyncio.get_running_loop()
    proxy.trickle(3, 0.01)
    start = loop.time()
    assert await say(stream, b"abcdefg") == b"abcdefg"
    assert loop.time() - start > 0.019
    proxy.trickle(1, 60)
    writer.write(b"rest")
    assert await reader.read(100) == b"r"
    await proxy.heal()
    assert await reader.readexactly(3) == b"est"


async def test_stop_in_each_mode(tcp_server, echo):
    """Nothing is left, whatever the trouble was."""
    port = await tcp_server(echo)
    for mode in Mode:
        proxy = await Proxy(port).start()
        stream = await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await say(stream, b"hello") == b"hello"
        if mode is not Mode.PASS:
            getattr(proxy, mode.value)()
        stream[1].write(b"more")
        await turns(3)
        await proxy.stop()
        assert len(proxy) == 0
        stream[1].transport.abort()


# The servers.


async def ask(port, request=b"GET /ws HTTP/1.1\r\n\r\n"):
    stream = await asyncio.open_connection("127.0.0.1", port)
    stream[1].write(request)
    try:
        return (await end_of(stream))[0]
    finally:
        stream[1].close()


def test_http_answer():
    assert http_answer(503, "later", retry_after="3") == (
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 3\r\nContent-Length: 5\r\n\r\nlater"
    )


@pytest.mark.parametrize(("answer", "at_once"), [(HTTP_PAGE, False), (SSH_BANNER, True)])
async def test_speaker(clean, answer, at_once):
    async with Speaker(answer, at_once=at_once) as speaker:
        assert await ask(speaker.port) == answer
        assert await ask(speaker.port) == answer
        assert speaker.requests == [b"GET /ws HTTP/1.1\r\n\r\n"] * 2
        stream = await asyncio.open_connection("127.0.0.1", speaker.port)
        await turns(3)
    stream[1].close()  # it says nothing, and keeps nobody


async def test_old_adapter(clean):
    from websockets.asyncio.client import connect

    async with OldAdapter() as old, connect(f"ws://127.0.0.1:{old.port}/ws") as websocket:
        await websocket.send('{"action":"version","args":{"req_id":3}}')
        assert '"version": "2.6.0.0"' in await websocket.recv()
        await websocket.send('{"action":"conn","args":{"req_id":4}}')
        assert "unknown action conn" in await websocket.recv()
        assert old.actions == ["version", "conn"]

"""Opening sessions: addresses, retries, time-outs, refusals."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import http
import logging
import math
import re
import socket

import pytest

import aiotaos
from aiotaos import AuthenticationError, ProgrammingError


@pytest.fixture
def dead_port():
    """A port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def deaf_port():
    """A port that takes no connection and refuses none: its queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        yield port


@pytest.fixture
async def silent(tcp_server):
    """A port that takes connections and says nothing, and when it got a request."""
    asked = asyncio.Event()

    async def handler(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()

    return await tcp_server(handler), asked


async def refused(*arguments, **options):
    with pytest.raises(aiotaos.Error) as raised:
        await aiotaos.connect(*arguments, **options)
    return raised.value


# The login.


async def test_the_login(server):
    async with aiotaos.connect(
        server.dsn,
        user="me",
        password="päss@:/?#[]%",
        database="power",
        timezone="Asia/Kolkata",
        user_app="tests",
        user_ip="10.0.0.7",
        conn_mode=1,
        totp_code="123456",
        bearer_token="bearer",
    ) as conn:
        assert conn.database == "power"
        assert conn.endpoint == server.endpoint
        assert conn.server_version == "3.3.8.0"
    (login,) = server.logged_in
    assert login.pop("req_id") > 0
    assert login == {
        "user": "me",
        "password": "päss@:/?#[]%",
        "db": "power",
        "tz": "Asia/Kolkata",
        "app": "tests",
        "ip": "10.0.0.7",
        "connector": "aiotaos",
        "mode": 0,
        "totp_code": "123456",
        "bearer_token": "bearer",
    }
    assert server.session.requests[0].action == "version"
    assert server.paths == ["/ws"]


async def test_the_login_without_options(server):
    async with aiotaos.connect(host="127.0.0.1", port=server.port) as conn:
        assert await conn.fetchval("select 1") == 1
    (login,) = server.logged_in
    del login["req_id"]
    assert login == {"user": "root", "password": "taosdata", "connector": "aiotaos"}


async def test_a_cloud_token_is_in_the_url(server):
    async with aiotaos.connect(server.dsn, token="a&b=c d/é"):
        pass
    assert server.paths == ["/ws?token=a%26b%3Dc%20d/%C3%A9"]


async def test_a_wrong_password_is_final(server):
    server.logins = [(0x0357, "Authentication failure")]
    error = await refused(server.dsn, conn_retries=5, retry_backoff_ms=0)
    assert isinstance(error, AuthenticationError)
    assert isinstance(error, builtins.ConnectionError)
    assert (error.code, error.message) == (0x0357, "Authentication failure")
    assert error.endpoint == server.endpoint
    assert len(server.sessions) == 1
    assert "taosdata" not in str(error) + repr(error)
    async with aiotaos.connect(server.dsn) as conn:
        assert await conn.fetchval("select 1") == 1


async def test_a_database_that_does_not_exist(server):
    server.logins = [(0x0388, "Database not exist")]
    error = await refused(server.dsn, database="nosuch", conn_retries=5, retry_backoff_ms=0)
    assert isinstance(error, ProgrammingError)
    assert (error.code, error.message) == (0x0388, "Database not exist")
    assert len(server.sessions) == 1


async def test_an_address_that_is_not_in_the_white_list(server):
    server.logins = [(0xFFFF, "ip not in whitelist")]
    error = await refused(server.dsn)
    assert (error.code, error.message) == (0xFFFF, "ip not in whitelist")


async def test_an_unreadable_answer_to_the_login(server):
    async def answer(session, request):
        return ['{"version":7,"req_id":0}']

    server.handlers = {"version": answer}
    assert isinstance(await refused(server.dsn), aiotaos.ProtocolError)
    await server.until(lambda: server.session.ended)


# Refused handshakes.


@pytest.mark.parametrize(
    ("status", "cls", "told"),
    [
        (400, aiotaos.ConnectionError, "is it taosAdapter's port, 6041?"),
        (401, AuthenticationError, "the credentials were refused"),
        (403, AuthenticationError, "access was refused"),
        (404, aiotaos.ConnectionError, "there is no /ws here"),
        (307, aiotaos.ConnectionError, "use wss://"),
    ],
)
async def test_a_final_http_status(start_server, status, cls, told):
    answered = []

    def refuse(connection, request):
        answered.append(request.path)
        if len(answered) == 1:
            return connection.respond(http.HTTPStatus(status), "more <about> it\n")
        return None

    server = await start_server(process_request=refuse)
    error = await refused(server.dsn, conn_retries=5, retry_backoff_ms=0)
    assert type(error) is cls
    assert error.http_status == status
    assert error.endpoint == server.endpoint
    assert error.message.startswith(f"HTTP status {status}: ")
    assert error.message.endswith("; it says: more <about> it")
    assert told in error.message
    assert len(answered) == 1
    async with aiotaos.connect(server.dsn) as conn:
        assert await conn.fetchval("select 1") == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_a_passing_http_status_is_retried(start_server, status):
    answered = []

    def refuse(connection, request):
        answered.append(request.path)
        if len(answered) < 4:
            return connection.respond(http.HTTPStatus(status), "")
        return None

    server = await start_server(process_request=refuse)
    async with aiotaos.connect(server.dsn, conn_retries=3, retry_backoff_ms=1) as conn:
        assert await conn.fetchval("select 1") == 1
    assert len(answered) == 4
    answered.clear()
    error = await refused(server.dsn, conn_retries=2, retry_backoff_ms=1)
    assert type(error) is aiotaos.ConnectionError
    assert error.http_status == status
    assert error.message.startswith(f"no session with {server.endpoint}: HTTP status {status}: ")
    assert "(3 attempts in " in error.message
    assert len(answered) == 3


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", "no WebSocket handshake: did not receive a valid HTTP"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "no WebSocket handshake: "),
        (b"", "no WebSocket handshake: did not receive a valid HTTP"),
    ],
)
async def test_something_else_than_a_websocket(tcp_server, answer, told):
    async def handler(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)

    port = await tcp_server(handler)
    error = await refused(f"ws://127.0.0.1:{port}", conn_retries=0)
    assert type(error) is aiotaos.ConnectionError
    assert told in error.message
    assert f"no session with ws://127.0.0.1:{port}: " in error.message
    assert error.__cause__.endpoint == f"ws://127.0.0.1:{port}"


async def test_a_web_server(tcp_server):
    """It is not asked again."""
    asked = 0

    async def handler(reader, writer):
        nonlocal asked
        asked += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    error = await refused(f"ws://127.0.0.1:{await tcp_server(handler)}", conn_retries=5)
    assert type(error) is aiotaos.ConnectionError
    assert error.message == "HTTP status 200: expected a WebSocket handshake; it says: ok"
    assert error.http_status == 200
    assert asked == 1


async def test_the_line_breaks_in_the_login(server):
    async def cut(session, request):
        session.abort()
        return []

    server.handlers = {"conn": cut}
    error = await refused(server.dsn, conn_retries=2, retry_backoff_ms=1)
    assert type(error) is aiotaos.ConnectionError
    assert "the connection was lost during the call" in error.message
    assert len(server.sessions) == 3


async def test_nobody_listens(dead_port, clean):
    error = await refused(f"ws://127.0.0.1:{dead_port}", conn_retries=1, retry_backoff_ms=1)
    assert type(error) is aiotaos.ConnectionError
    assert f"no session with ws://127.0.0.1:{dead_port}: connection refused" in error.message
    assert "is taosAdapter running? (2 attempts in 0." in error.message
    assert isinstance(error.__cause__.__cause__, ConnectionRefusedError)


async def test_a_name_that_cannot_be_resolved(clean):
    host = "no-such-host.invalid"
    error = await refused(host=host, conn_retries=0)
    assert type(error) is aiotaos.ConnectionError
    assert error.message.startswith(f"no session with ws://{host}:6041: ")
    assert error.__cause__.endpoint == f"ws://{host}:6041"


# Time.


async def test_a_silent_server(silent):
    port, _ = silent
    error = await refused(f"ws://127.0.0.1:{port}", connect_timeout=0.05, conn_retries=0)
    assert isinstance(error, aiotaos.TimeoutError)
    assert isinstance(error, builtins.TimeoutError)
    assert re.fullmatch(
        rf"no session with ws://127\.0\.0\.1:{port}: no answer within 0\.0[45]\d* s "
        r"\(1 attempt in \d\.\d s\)",
        error.message,
    )


async def test_a_server_that_is_silent_after_the_handshake(server):
    gate = server.hold("version")
    error = await refused(server.dsn, connect_timeout=0.05)
    assert isinstance(error, aiotaos.TimeoutError)
    gate.open()
    await server.until(lambda: server.session.ended)
    async with aiotaos.connect(server.dsn) as conn:
        assert await conn.fetchval("select 1") == 1


async def test_a_deaf_port(deaf_port, clean):
    error = await refused(f"ws://127.0.0.1:{deaf_port}", connect_timeout=0.1, conn_retries=0)
    assert isinstance(error, aiotaos.TimeoutError)


async def test_no_attempt_begins_after_the_end(dead_port, clean):
    """The pause would be longer than what is left: the last error is told at once."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    error = await refused(
        f"ws://127.0.0.1:{dead_port}",
        connect_timeout=5,
        conn_retries=3,
        retry_backoff_ms=60_000,
        retry_backoff_max_ms=60_000,
    )
    assert loop.time() - start < 2
    assert type(error) is aiotaos.ConnectionError
    assert "(1 attempt in" in error.message


async def test_no_time_at_all(clean):
    """Reading the certificates took longer than there was."""
    error = await refused("wss://127.0.0.1:1", connect_timeout=1e-9)
    assert isinstance(error, aiotaos.TimeoutError)
    assert error.message.startswith(
        "no session with wss://127.0.0.1:1: no time for an attempt (0 attempts in 0."
    )


async def test_without_a_limit(dead_port, server):
    error = await refused(
        f"ws://127.0.0.1:{dead_port}",
        connect_timeout=math.inf,
        conn_retries=1,
        retry_backoff_ms=1,
    )
    assert "(2 attempts in 0." in error.message
    async with aiotaos.connect(server.dsn, connect_timeout=math.inf, read_timeout=math.inf) as conn:
        assert await conn.fetchval("select 1") == 1


async def test_the_pauses_double_up_to_a_limit(dead_port, clean, monkeypatch):
    """5 retries from 10 ms to 20 ms: 10 + 20 + 20 + 20 + 20 ms, each up to 20 % off."""
    pauses = []
    real = asyncio.sleep

    async def note(pause):
        pauses.append(pause)
        await real(0)

    monkeypatch.setattr("aiotaos.transport.dial.asyncio.sleep", note)
    await refused(
        f"ws://127.0.0.1:{dead_port}",
        conn_retries=5,
        retry_backoff_ms=10,
        retry_backoff_max_ms=20,
    )
    for pause, expected in zip(pauses, (0.01, 0.02, 0.02, 0.02, 0.02), strict=True):
        assert 0.8 * expected <= pause <= 1.2 * expected
    pauses.clear()
    await refused(
        f"ws://127.0.0.1:{dead_port}",
        conn_retries=1,
        retry_backoff_ms=1000,
        retry_backoff_max_ms=5,
    )
    assert 0.004 <= pauses[0] <= 0.006


# Cancellation.


async def cancel(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancelled_in_the_tcp_connect(deaf_port, clean):
    task = asyncio.ensure_future(_connect(f"ws://127.0.0.1:{deaf_port}"))
    for _ in range(5):
        await asyncio.sleep(0)
    await cancel(task)


async def _connect(dsn):
    async with aiotaos.connect(dsn):
        pytest.fail("there is a session")


async def test_cancelled_in_the_handshake(silent):
    port, asked = silent
    task = asyncio.ensure_future(_connect(f"ws://127.0.0.1:{port}"))
    await asked.wait()
    await cancel(task)


@pytest.mark.parametrize("action", ["version", "conn"])
async def test_cancelled_in_the_login(server, action):
    gate = server.hold(action)
    task = asyncio.ensure_future(_connect(server.dsn))
    await gate.reached.wait()
    await cancel(task)
    await server.until(lambda: server.session.ended)
    gate.open()
    async with aiotaos.connect(server.dsn) as conn:
        assert await conn.fetchval("select 1") == 1


async def test_cancelled_in_a_pause(dead_port, clean):
    task = asyncio.ensure_future(
        aiotaos.connect(
            f"ws://127.0.0.1:{dead_port}",
            connect_timeout=math.inf,
            retry_backoff_ms=60_000,
            retry_backoff_max_ms=60_000,
        )._open()
    )
    await asyncio.to_thread(lambda: None)
    await cancel(task)


# Several addresses.


async def test_the_first_address_is_dead(server, dead_port):
    dsn = f"ws://127.0.0.1:{dead_port},127.0.0.1:{server.port}"
    async with aiotaos.connect(dsn, conn_retries=0) as conn:
        assert conn.endpoint == server.endpoint
        assert await conn.fetchval("select 1") == 1


async def test_the_first_address_is_silent(server, silent):
    """It gets its share of the time, not all of it."""
    port, _ = silent
    dsn = f"ws://127.0.0.1:{port},127.0.0.1:{server.port}"
    async with aiotaos.connect(dsn, connect_timeout=0.6) as conn:
        assert conn.endpoint == server.endpoint


async def test_all_addresses_are_dead(dead_port, clean):
    dsn = f"ws://127.0.0.1:{dead_port},127.0.0.2:{dead_port}"
    error = await refused(dsn, conn_retries=1, retry_backoff_ms=1)
    endpoints = f"ws://127.0.0.1:{dead_port}, ws://127.0.0.2:{dead_port}"
    assert error.message.startswith(f"no session with {endpoints}: ")
    assert "(4 attempts in " in error.message


async def test_all_addresses_are_silent(silent):
    port, _ = silent
    dsn = f"ws://127.0.0.1:{port},localhost:{port}"
    error = await refused(dsn, connect_timeout=0.1, conn_retries=3, retry_backoff_ms=0)
    assert isinstance(error, aiotaos.TimeoutError)


async def test_attempts_are_logged(dead_port, clean, caplog):
    caplog.set_level(logging.DEBUG, "aiotaos")
    await refused(f"ws://127.0.0.1:{dead_port}", conn_retries=1, retry_backoff_ms=1)
    lines = [record.getMessage() for record in caplog.records if record.name == "aiotaos.connect"]
    starts = ["attempt 1: ", "attempt 2: ", f"no session with ws://127.0.0.1:{dead_port}: "]
    assert len(lines) == 3
    assert all(map(str.startswith, lines, starts))
    assert [record.levelname for record in caplog.records][-1] == "WARNING"


async def test_an_address_without_an_adapter_is_passed_over(start_server):
    """It is asked once; the other address is tried again until it serves."""
    asked = {"other": 0, "adapter": 0}

    def not_an_adapter(connection, request):
        asked["other"] += 1
        return connection.respond(http.HTTPStatus.NOT_FOUND, "")

    def late(connection, request):
        asked["adapter"] += 1
        if asked["adapter"] < 3:
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "")
        return None

    other = await start_server(process_request=not_an_adapter)
    adapter = await start_server(process_request=late)
    hosts = ",".join(server.endpoint.removeprefix("ws://") for server in (other, adapter))
    async with aiotaos.connect(f"ws://{hosts}", retry_backoff_ms=0) as conn:
        assert conn.endpoint == adapter.endpoint
    assert asked == {"other": 1, "adapter": 3}

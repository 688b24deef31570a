"""Starting, stopping, and what is left behind."""

from __future__ import annotations

import asyncio
import builtins
import signal
import socket
import sys

import aiohttp
import pytest

import aiotaos
import aiotaos.embedded
from aiotaos.embedded import Server
from aiotaos.errors import InterfaceError, NotSupportedError
from aiotaos.protocol import frames

AUTH = {"Authorization": "Basic cm9vdDp0YW9zZGF0YQ=="}
SLOW = (
    "select sum(a.v) from big a, big b"
    " where a.ts = b.ts and pow(a.v * b.v, 0.3) > sqrt(abs(a.v + b.v))"
)


async def test_a_server_starts_stops_and_starts_again():
    server = Server()
    assert repr(server) == "<Server stopped>"
    with pytest.raises(InterfaceError):
        _ = server.dsn
    await server.start()
    assert server.dsn == f"ws://root:taosdata@127.0.0.1:{server.port}"
    with pytest.raises(InterfaceError):
        await server.start()
    port = server.port
    await server.stop()
    await server.stop()
    with pytest.raises(OSError, match=r"refused|Connect"):
        await asyncio.open_connection("127.0.0.1", port)
    async with server:
        assert server.port > 0


async def test_a_taken_port(server):
    other = Server(port=server.port)
    with pytest.raises(OSError, match="address already in use"):
        await other.start()
    assert repr(other) == "<Server stopped>"


async def test_data_outlive_the_server(tmp_path):
    path = str(tmp_path / "data.db")
    async with Server(data=path) as server, aiotaos.connect(server.dsn) as conn:
        await conn.execute("create database d precision 'us'")
        await conn.execute("use d")
        await conn.execute("create stable s (ts timestamp, v int) tags (g varchar(8))")
        await conn.execute("insert into a using s tags ('x') values (1, 1) (2, 2)")
        await conn.execute("create table b using s tags ('y')")
        await conn.execute("create table n (ts timestamp, v int)")
        await conn.execute("insert into n values (1, 7)")
        await conn.execute("alter table s add column w int")
        await conn.execute("alter table s rename tag g grp")
        await conn.execute("create table gone (ts timestamp, v int)")
        await conn.execute("drop table gone")
    async with Server(data=path) as server, aiotaos.connect(server.dsn) as conn:
        await conn.execute("use d")
        assert await conn.fetch("select tbname, v, w, grp from s order by v") == [
            ("a", 1, None, "x"),
            ("a", 2, None, "x"),
        ]
        await conn.execute("insert into c using s tags ('z') values (3, 3, 3)")
        rows = await conn.fetch("select tbname, count(*) from s group by tbname order by tbname")
        assert rows == [("a", 2), ("b", 0), ("c", 1)]
        assert await conn.fetch("select v from n") == [(7,)]
        assert sorted(await conn.fetch("show tables")) == [("a",), ("b",), ("c",), ("n",)]


async def test_stopping_ends_what_runs():
    async with Server() as server, aiohttp.ClientSession(headers=AUTH) as http:
        url = f"http://127.0.0.1:{server.port}"
        async with http.ws_connect(f"{url}/ws") as socket:
            await socket.send_json(
                {"action": "conn", "args": {"user": "root", "password": "taosdata"}}
            )
            await socket.receive()
            rows = ", ".join(f"({i}, {i})" for i in range(20_000))
            statements = (
                "create database d",
                "use d",
                "create table big (ts timestamp, v int)",
                f"insert into big values {rows}",
            )
            for sql in statements:
                await socket.send_bytes(frames.query_request(1, sql))
                assert '"code":0' in await socket.receive_str()
            for number in range(8):
                await socket.send_bytes(frames.query_request(number, SLOW))
            await socket.send_bytes(frames.query_request(9, "select v from big"))
            assert '"code":0' in await socket.receive_str()
            await asyncio.wait_for(server.stop(), 10)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_clients_that_go_away_in_the_handshake(server, caplog):
    """They are no fault of the server's."""
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    request = (
        f"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{key}\r\n"
    )
    for _ in range(20):
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request.encode())
        writer.transport.abort()
    async with aiotaos.connect(server.dsn) as conn:
        assert await conn.fetchval("select 1") == 1
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_client_that_goes_away_leaves_nothing(server):
    for _ in range(3):
        async with aiohttp.ClientSession() as http:
            socket = await http.ws_connect(f"http://127.0.0.1:{server.port}/ws")
            await socket.send_json(
                {"action": "conn", "args": {"user": "root", "password": "taosdata"}}
            )
            await socket.receive()
            for number in range(5):
                await socket.send_bytes(frames.query_request(number, "select 1"))
            await socket.receive()
            await socket.close()
    store = server._engine.store
    await server.stop()
    assert store._cursors == {}


async def test_the_command(tmp_path):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "aiotaos.embedded", "--port", "0"),
        *("--data", str(tmp_path / "data.db")),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    dsn = (await process.stdout.readline()).decode().strip()
    async with aiotaos.connect(dsn) as conn:
        assert await conn.fetchval("select 1") == 1
        process.send_signal(signal.SIGTERM)
        _, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")


@pytest.mark.parametrize("wrong", ["port", "data"])
async def test_the_command_that_cannot_start(tmp_path, wrong):
    (tmp_path / "data.db").write_text("no database")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1] if wrong == "port" else 0
        data = ["--data", str(tmp_path / "data.db")] if wrong == "data" else []
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-m", "aiotaos.embedded", "--port", str(port)),
            *data,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
    assert (process.returncode, output) == (1, b"")
    (line,) = errors.decode().splitlines()
    assert line.startswith("python -m aiotaos.embedded: ")
    assert ("address already in use" if wrong == "port" else "cannot be opened") in line


def test_without_duckdb(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "duckdb":
            raise ModuleNotFoundError("No module named 'duckdb'", name="duckdb")
        return real(name, *args, **kwargs)

    for name in list(sys.modules):
        if name == "duckdb" or name.startswith("aiotaos.embedded."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(NotSupportedError, match=r'pip install "aiotaos\[embedded\]"'):
        _ = aiotaos.embedded.Server
    with pytest.raises(AttributeError):
        _ = aiotaos.embedded.nosuch

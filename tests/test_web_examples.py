"""The web services of the examples, over ASGI and HTTP: answers, limits, the end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import httpx
import pytest
from aiohttp.test_utils import TestClient, TestServer

from aiotaos.embedded import Server
from examples import aiohttp_app, fastapi_app
from tests.trouble import Proxy

EXAMPLES = Path(__file__).parents[1] / "examples"
READINGS = [
    {
        "device": f"meter{number % 2}",
        "location": "Oakland",
        "ts": f"2024-03-01T00:00:0{number}+01:00",
        "voltage": 220 + number,
    }
    for number in range(4)
]


class Client:
    """Asks a service; an answer is (status, document, headers)."""

    def __init__(self, request, pool):
        self._request = request
        self.pool = pool

    async def get(self, path):
        return await self._request("GET", path, None)

    async def post(self, path, document):
        return await self._request("POST", path, document)


@contextlib.asynccontextmanager
async def fastapi_client():
    app = fastapi_app.app
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as http,
    ):

        async def request(method, path, document):
            answer = await http.request(method, path, json=document)
            return answer.status_code, answer.json(), answer.headers

        yield Client(request, app.state.pool)


@contextlib.asynccontextmanager
async def aiohttp_client():
    app = aiohttp_app.make_app()
    async with TestClient(TestServer(app)) as http:

        async def request(method, path, document):
            async with http.request(method, path, json=document) as answer:
                is_json = answer.content_type == "application/json"
                told = await (answer.json() if is_json else answer.text())
                return answer.status, told, answer.headers

        yield Client(request, app[aiohttp_app.POOL])


SERVICES = {"fastapi": (fastapi_app, fastapi_client), "aiohttp": (aiohttp_app, aiohttp_client)}


@pytest.fixture(params=SERVICES)
def service(request):
    """The module of an example, and how to ask it."""
    return SERVICES[request.param]


@pytest.fixture
async def proxy(clean, service, monkeypatch):
    """Between the service and its server."""
    module, _ = service
    monkeypatch.setattr(module, "LIMIT", 60.0)
    async with Server() as server, Proxy(server.port) as proxy:
        monkeypatch.setattr(module, "DSN", f"ws://127.0.0.1:{proxy.port}?conn_retries=0")
        yield proxy


@pytest.fixture
async def client(proxy, service):
    _, make_client = service
    async with make_client() as client:
        yield client


@pytest.fixture
def limited(client, service, monkeypatch):
    """Ask for readings, with little time for it."""
    module, _ = service

    async def get():
        with monkeypatch.context() as patch:
            patch.setattr(module, "LIMIT", 0.05)
            return await client.get("/readings/meter0")

    return get


async def test_readings(client):
    status, told, _ = await client.post("/readings", READINGS)
    assert (status, told) == (201, 4)
    status, told, _ = await client.get("/readings/meter1")
    assert status == 200
    assert [row["voltage"] for row in told] == [223, 221]
    assert told[0]["location"] == "Oakland"
    assert (await client.get("/readings/none"))[:2] == (200, [])


@pytest.mark.parametrize(
    "change", [{"device": "d'1"}, {"voltage": "many"}, {"ts": "2024-03-01T00:00:00"}]
)
async def test_readings_that_cannot_be(client, change):
    status, _, _ = await client.post("/readings", [READINGS[0] | change])
    assert status == 422


async def test_health(client):
    status, told, _ = await client.get("/health")
    assert status == 200
    assert (told["size"], told["idle"], told["used"], told["max_size"]) == (1, 1, 0, 10)


async def test_embedded_by_default(clean, service, monkeypatch):
    module, make_client = service
    monkeypatch.setattr(module, "DSN", "embedded://")
    async with make_client() as client:
        assert (await client.post("/readings", READINGS))[0] == 201
        assert len((await client.get("/readings/meter0"))[1]) == 2
        pool = client.pool
    assert pool.closed


async def test_a_query_that_takes_too_long(client, limited, proxy):
    proxy.swallow()
    status, _, headers = await limited()
    assert status == 504
    assert "Retry-After" not in headers
    await proxy.heal()
    assert (await client.get("/health"))[0] == 200


async def test_no_connection_in_time(client, limited):
    client.pool.resize(max_size=1)
    async with client.pool.acquire():
        status, _, headers = await limited()
        assert status == 503
        assert headers["Retry-After"] == "1"
    assert (await client.get("/readings/meter0"))[0] == 200


async def test_too_many_wait(client, server_parts):
    """The 101st is turned away at once; the others are served."""

    async def wait():
        async with client.pool.acquire(timeout=60) as conn:
            return await conn.fetchval("select 1")

    client.pool.resize(max_size=1)
    async with client.pool.acquire():
        waiting = [asyncio.ensure_future(wait()) for _ in range(100)]
        await server_parts.turns(lambda: client.pool.get_stats().waiting == 100)
        status, _, headers = await client.get("/readings/meter0")
        assert status == 503
        assert headers["Retry-After"] == "1"
    assert await asyncio.gather(*waiting) == [1] * 100


async def test_the_server_is_away_and_comes_back(client, proxy):
    assert (await client.post("/readings", READINGS))[0] == 201
    proxy.refuse()
    status, _, headers = await client.get("/readings/meter0")
    assert status == 503
    assert headers["Retry-After"] == "1"
    await proxy.heal()
    status, told, _ = await client.get("/readings/meter0")
    assert (status, len(told)) == (200, 2)


@pytest.mark.parametrize("name", ["fastapi_app", "aiohttp_app"])
def test_as_a_program(name):
    """It serves, on the port that it names, until it is interrupted."""
    environment = {key: value for key, value in os.environ.items() if key != "AIOTAOS_DSN"}
    with subprocess.Popen(
        [sys.executable, "-u", "-W", "error", EXAMPLES / f"{name}.py"],
        env=environment | {"PORT": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    ) as process:
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        try:
            said = ""
            for line in process.stdout:
                said += line
                if found := re.search(r"http://127\.0\.0\.1:[1-9]\d*", said):
                    with urllib.request.urlopen(f"{found[0]}/health", timeout=30) as answer:
                        assert b'"idle":1' in answer.read().replace(b" ", b"")
                    break
            else:
                pytest.fail(said)
        finally:
            process.terminate()
            process.stdout.read()
            watchdog.cancel()

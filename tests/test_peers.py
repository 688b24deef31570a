"""The official clients speak to the embedded server, and read what aiotaos reads.

They block, and taosws keeps the GIL while it waits: its server runs as a process of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web

import aiotaos
from aiotaos.embedded import Server

taosws = pytest.importorskip("taosws")
taosrest = pytest.importorskip("taosrest")

SETUP = [
    "create database peers precision 'ms'",
    "create stable peers.m (ts timestamp, b bool, i int, big bigint unsigned, f float, d double, "
    "s varchar(20), n nchar(20)) tags (loc nchar(16), grp int)",
    "insert into peers.a using peers.m tags ('北京', 1) values "
    "(1709251200000, true, -2147483648, 18446744073709551615, 1.5, 0.1, 'it''s', '涛思 🚀') "
    "(1709251200001, null, null, null, null, null, null, null) "
    "peers.c using peers.m tags (null, null) values "
    "(1709251200002, false, 7, 0, -1.5, 1e300, '', '')",
]
QUERY = "select ts, b, i, big, f, d, s, n, loc, grp, tbname from peers.m order by ts"
EXPECTED = [
    (True, -2147483648, 18446744073709551615, 1.5, 0.1, "it's", "涛思 🚀", "北京", 1, "a"),
    (None, None, None, None, None, None, None, "北京", 1, "a"),
    (False, 7, 0, -1.5, 1e300, "", "", None, None, "c"),
]
TIMES = [datetime(2024, 3, 1, 0, 0, 0, ms * 1000, tzinfo=UTC) for ms in range(3)]


async def read(embedded_dsn: str) -> list[tuple[Any, ...]]:
    async with aiotaos.connect(embedded_dsn, timezone="UTC") as conn:
        return await conn.fetch(QUERY)


async def test_taosws(embedded_dsn: str) -> None:
    conn = taosws.connect(embedded_dsn)
    for sql, affected in zip(SETUP, [0, 0, 3], strict=True):
        assert conn.execute(sql) == affected
    theirs = [tuple(row) for row in conn.query(QUERY)]
    with pytest.raises(taosws.QueryError, match="0x2603"):
        conn.query("select * from peers.nosuch")
    conn.close()
    ours = await read(embedded_dsn)
    assert [row[1:] for row in theirs] == [row[1:] for row in ours] == EXPECTED
    assert [row[0] for row in ours] == TIMES
    assert [datetime.fromisoformat(row[0].replace(" +", "+")) for row in theirs] == TIMES


async def test_taosrest(embedded_dsn: str) -> None:
    parts = urlsplit(embedded_dsn)
    conn = taosrest.connect(url=f"http://{parts.hostname}:{parts.port}", timezone="UTC")
    for sql in SETUP:
        conn.query(sql)
    theirs = [tuple(row) for row in conn.query(QUERY).data]
    with pytest.raises(taosrest.errors.Error, match="Table does not exist"):
        conn.query("select * from peers.nosuch")
    conn.close()
    ours = await read(embedded_dsn)
    assert [row[1:] for row in theirs] == [row[1:] for row in ours] == EXPECTED
    assert [row[0] for row in theirs] == [row[0] for row in ours] == TIMES


REST_EXPECTED = [(time, *row) for time, row in zip(TIMES, EXPECTED, strict=True)]


def use_taosrest(url: str, **options: Any) -> None:
    """Write and read with the official client, by connection and by cursor."""
    conn = taosrest.connect(url=url, timezone="UTC", **options)
    assert [conn.execute(sql) for sql in SETUP] == [0, 0, 3]
    assert [tuple(row) for row in conn.query(QUERY).data] == REST_EXPECTED
    with pytest.raises(taosrest.errors.Error, match="Table does not exist"):
        conn.query("select * from peers.nosuch")
    cursor = conn.cursor()
    cursor.execute(QUERY)
    assert cursor.rowcount == 3
    assert [column[0] for column in cursor.description] == [
        "ts", "b", "i", "big", "f", "d", "s", "n", "loc", "grp", "tbname",
    ]  # fmt: skip
    assert [tuple(row) for row in cursor.fetchall()] == REST_EXPECTED
    cursor.execute("insert into peers.a values (1709251200009, true, 1, 1, 1, 1, '', '')")
    assert cursor.rowcount == 1
    conn.close()
    conn = taosrest.connect(url=url, timezone="Asia/Shanghai", database="peers", **options)
    (row,) = conn.query("select ts, i from m where i = 7")
    assert (row[0].isoformat(), row[1]) == ("2024-03-01T08:00:00.002000+08:00", 7)
    raw = taosrest.connect(url=url, convert_timestamp=False, **options)
    (count,) = raw.query("select count(*) from peers.m").data[0]
    assert count == 4


async def test_taosrest_with_a_password() -> None:
    async with Server() as server:
        url = f"http://127.0.0.1:{server.port}"
        await asyncio.to_thread(use_taosrest, url, user="root", password="taosdata")
        client = taosrest.RestClient(url, user="root", password="wrong")
        with pytest.raises(taosrest.errors.ConnectError, match="Authentication failure"):
            await asyncio.to_thread(client.sql, "select 1")
        client = taosrest.RestClient(url, convert_timestamp=False)
        answer = await asyncio.to_thread(client.sql, "select ts from peers.m where i = 7", 77)
        assert answer == {
            "code": 0,
            "column_meta": [["ts", "TIMESTAMP", 8]],
            "data": [["2024-03-01T00:00:00.002Z"]],
            "rows": 1,
        }


async def test_taosrest_and_a_server_of_2x() -> None:
    async with Server(legacy=True) as server:
        url = f"http://127.0.0.1:{server.port}"
        await asyncio.to_thread(use_taosrest, url, user="root", password="taosdata")
        conn = taosrest.connect(url=url, convert_timestamp=False)
        assert await asyncio.to_thread(lambda: conn.server_info) == "2.6.0.34"
        result = await asyncio.to_thread(conn.query, "select ts, i from peers.m where i = 7")
        assert (result.status, result.rows) == ("succ", 1)
        assert result.data == [["2024-03-01 00:00:00.002", 7]]
        assert result.fields == [
            {"name": "ts", "type": 9, "bytes": 8},
            {"name": "i", "type": 4, "bytes": 4},
        ]
        client = taosrest.RestClient(url, user="root", password="wrong")
        with pytest.raises(taosrest.errors.ConnectError, match="Authentication failure"):
            await asyncio.to_thread(client.sql, "select 1")


async def test_taosrest_with_a_token_of_the_cloud(gateway: str) -> None:
    """The gateway of the cloud turns the token of the URL into a login."""
    await asyncio.to_thread(use_taosrest, gateway, token="of-the-cloud")
    client = taosrest.RestClient(gateway, token="another")
    with pytest.raises(taosrest.errors.HTTPError, match="authorization error"):
        await asyncio.to_thread(client.sql, "select 1")


async def test_taosrest_with_a_token_and_no_gateway() -> None:
    async with Server() as server:
        client = taosrest.RestClient(f"http://127.0.0.1:{server.port}", "of-the-cloud")
        with pytest.raises(taosrest.errors.HTTPError, match="authorization error"):
            await asyncio.to_thread(client.sql, "select 1")


@pytest.fixture
async def gateway() -> AsyncIterator[str]:
    """An embedded server behind what knows one token."""
    async with Server() as server, aiohttp.ClientSession() as session:

        async def forward(request: web.Request) -> web.Response:
            token = request.query.get("token")
            headers = {"Authorization": "Basic cm9vdDp0YW9zZGF0YQ=="}
            if token != "of-the-cloud":
                headers.clear()
            url = f"http://127.0.0.1:{server.port}{request.path}"
            data = await request.read()
            async with session.post(url, data=data, headers=headers) as response:
                return web.Response(status=response.status, body=await response.read())

        app = web.Application()
        app.router.add_post("/{path:.*}", forward)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        await runner.cleanup()


async def test_what_aiotaos_wrote_the_others_read(embedded_dsn: str) -> None:
    async with aiotaos.connect(embedded_dsn, timezone="UTC") as conn:
        for sql in SETUP:
            await conn.execute(sql)
    theirs = taosws.connect(embedded_dsn)
    assert [tuple(row)[1:] for row in theirs.query(QUERY)] == EXPECTED
    theirs.close()

"""REST as a TDengine 2.x speaks it."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest

from aiotaos.embedded import Server

AUTH = {"Authorization": "Basic cm9vdDp0YW9zZGF0YQ=="}
VERSION = (
    '{"status":"succ","head":["server_version()"],"column_meta":[["server_version()",8,8]],'
    '"data":[["2.6.0.34"]],"rows":1}'
)
Ask = Callable[..., Awaitable[str]]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server(legacy=True) as server:
        yield server


@pytest.fixture
async def http(server: Server) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:
        yield session


@pytest.fixture
def ask(http: aiohttp.ClientSession) -> Ask:
    """The text of the answer to a statement, whose HTTP status is always 200."""

    async def run(sql: str, path: str = "/rest/sql", header: str | None = None) -> str:
        headers = AUTH if header is None else {"Authorization": header} if header else {}
        async with http.post(path, data=sql.encode(), headers=headers) as response:
            assert response.status == 200
            assert response.headers["Content-Type"] == "application/json; charset=utf-8"
            return await response.text()

    return run


async def test_results_and_updates(ask):
    update = '{"status":"succ","head":["affected_rows"],"column_meta":[["affected_rows",4,4]],'
    assert await ask("create database d") == update + '"rows":1,"data":[[0]]}'
    await ask(
        "create table t (ts timestamp, i int, f float, s binary(8), n nchar(4))", "/rest/sql/d"
    )
    sql = "insert into t values (1, -1, 0.1, 'a\"b', '涛') (2, null, null, null, null)"
    assert await ask(sql, "/rest/sql/d") == update + '"rows":1,"data":[[2]]}'
    assert await ask("select * from t order by ts", "/rest/sql/d") == (
        '{"status":"succ","head":["ts","i","f","s","n"],"column_meta":[["ts",9,8],["i",4,4],'
        '["f",6,4],["s",8,8],["n",10,4]],"data":['
        '["1970-01-01 00:00:00.001",-1,0.1,"a\\"b","涛"],'
        '["1970-01-01 00:00:00.002",null,null,null,null]],"rows":2}'
    )
    assert await ask("select * from t where ts > 9", "/rest/sqlt/d") == (
        '{"status":"succ","head":["ts","i","f","s","n"],"column_meta":[["ts",9,8],["i",4,4],'
        '["f",6,4],["s",8,8],["n",10,4]],"data":[],"rows":0}'
    )


@pytest.mark.parametrize(
    ("precision", "ticks", "local", "utc"),
    [
        ("ms", 1709251200000, "2024-03-01 00:00:00.000", "2024-03-01T00:00:00Z"),
        ("ms", 1709251200500, "2024-03-01 00:00:00.500", "2024-03-01T00:00:00.5Z"),
        ("ms", 1709251210020, "2024-03-01 00:00:10.020", "2024-03-01T00:00:10.02Z"),
        ("ms", -1, "1969-12-31 23:59:59.999", "1969-12-31T23:59:59.999Z"),
        ("us", 1709251200000000, "2024-03-01 00:00:00.000000", "2024-03-01T00:00:00Z"),
        ("us", 1709251200123450, "2024-03-01 00:00:00.123450", "2024-03-01T00:00:00.12345Z"),
        (
            "ns",
            1709251200000000001,
            "2024-03-01 00:00:00.000000001",
            "2024-03-01T00:00:00.000000001Z",
        ),
        ("ns", 1709251200100000000, "2024-03-01 00:00:00.100000000", "2024-03-01T00:00:00.1Z"),
    ],
)
async def test_times(ask, precision, ticks, local, utc):
    await ask(f"create database d precision '{precision}'")
    await ask("create table d.t (ts timestamp, v timestamp)")
    await ask(f"insert into d.t values ({ticks}, null)")
    for path, value in (("sql", local), ("sqlt", ticks), ("sqlutc", utc)):
        for sql, db in (("select * from d.t", ""), ("select * from t", "/d")):
            answer = json.loads(await ask(sql, f"/rest/{path}{db}"))
            assert answer["data"] == [[value, None]]


@pytest.mark.parametrize(
    ("header", "code", "desc"),
    [
        ("", 0x1105, "no auth info input"),
        ("Digest x", 0x1122, "invalid type of Authorization"),
        ("Basic !", 0x1124, "invalid basic Authorization"),
        ("Taosd x", 0x1125, "invalid taosd Authorization"),
        ("Basic bm86bm8=", 0x0351, "Invalid user"),
        ("Basic cm9vdDpubw==", 0x0357, "Authentication failure"),
    ],
)
async def test_wrong_credentials(ask, header, code, desc):
    assert json.loads(await ask("select 1", header=header)) == {
        "status": "error",
        "code": code,
        "desc": desc,
    }


async def test_wrong_statements(ask):
    assert await ask("") == '{"status":"error","code":4358,"desc":"request is empty"}'
    assert await ask(" \n") == '{"status":"error","code":4359,"desc":"no sql input"}'
    assert await ask("selec <") == (
        '{"status":"error","code":9728,"desc":"syntax error near \\"selec \\u003c\\""}'
    )
    assert await ask("select * from no.t") == (
        '{"status":"error","code":904,"desc":"Database not exist"}'
    )
    assert await ask("create database d", "/rest/sql/d") != ""
    assert await ask("select * from t", "/rest/sqlutc/d") == (
        '{"status":"error","code":9731,"desc":"Table does not exist"}'
    )


async def test_login_gives_a_token_that_expires(server, http, ask):
    async with http.get("/rest/login/root/taosdata") as response:
        body = await response.json()
    token = body.pop("desc")
    assert (response.status, body) == (200, {"status": "succ", "code": 0})
    assert await ask("select server_version()", header=f"Taosd {token}") == VERSION
    server.expire_tokens()
    assert await ask("select 1", header=f"Taosd {token}") == (
        '{"status":"error","code":4389,"desc":"invalid taosd Authorization"}'
    )
    async with http.get("/rest/login/root/taosdata") as response:
        token = (await response.json())["desc"]
    assert await ask("select server_version()", header=f"Taosd {token}") == VERSION


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("root/wrong", '{"status":"error","code":3,"desc":"Authentication failure"}'),
        ("root/" + 25 * "x", '{"status":"error","code":4362,"desc":"generate taosd token error"}'),
    ],
)
async def test_refused_logins(http, path, text):
    async with http.get(f"/rest/login/{path}") as response:
        assert (response.status, await response.text()) == (200, text)


async def test_the_version(ask):
    assert await ask("select server_version()") == VERSION
    assert '"SERVER_VERSION( )"' in await ask("SELECT SERVER_VERSION( ) ;")


async def test_parameters_are_ignored(ask):
    path = "/rest/sql?tz=Nowhere/Bad&conn_tz=x&req_id=x&row_with_meta=maybe&timing=true"
    answer = await ask("select cast(0 as timestamp) as v", path)
    assert answer.endswith('"data":[["1970-01-01 00:00:00.000"]],"rows":1}')


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/ws"), ("GET", "/rest/ws"), ("GET", "/rest/sql"), ("GET", "/rest/sqlt/d")],
)
async def test_unknown_paths(http, method, path):
    async with http.request(method, path, headers=AUTH) as response:
        assert (response.status, await response.text()) == (404, "404 page not found")


async def test_compression(http):
    headers = AUTH | {"Accept-Encoding": "gzip"}
    async with http.post("/rest/sql", data=b"select server_version()", headers=headers) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        assert await response.text() == VERSION
    headers["Accept-Encoding"] = "identity"
    async with http.post("/rest/sql", data=b"select server_version()", headers=headers) as response:
        assert "Content-Encoding" not in response.headers
        assert await response.text() == VERSION


async def test_what_else_a_server_has_is_there(http, ask):
    async with http.get("/-/ping") as response:
        assert response.status == 200
    line = b"m,h=a v=1 1709251200000"
    path = "/influxdb/v1/write?db=d&precision=ms"
    async with http.post(path, data=line, headers=AUTH) as response:
        assert response.status == 204
    path = "/opentsdb/v1/put/telnet/d"
    async with http.post(path, data=b"t.m 1709251200 1 h=a", headers=AUTH) as response:
        assert response.status == 204
    assert (await ask("select * from d.m", "/rest/sqlutc")).endswith(
        '"data":[["2024-03-01T00:00:00Z",1,"a"]],"rows":1}'
    )


async def test_many_rows_are_whole(ask):
    await ask("create database d")
    await ask("create table d.t (ts timestamp, v int)")
    rows = " ".join(f"({i}, {i})" for i in range(10_000))
    await ask(f"insert into d.t values {rows}")
    answer = json.loads(await ask("select * from d.t order by ts", "/rest/sqlt"))
    assert answer["rows"] == 10_000
    assert answer["data"] == [[i, i] for i in range(10_000)]


async def test_the_dsn_is_that_of_rest(server):
    assert server.dsn == f"http://root:taosdata@127.0.0.1:{server.port}"


def test_the_program():
    with subprocess.Popen(
        [sys.executable, "-m", "aiotaos.embedded", "--port", "0", "--legacy"],
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        dsn = process.stdout.readline().strip()
        assert dsn.startswith("http://root:taosdata@127.0.0.1:")
        url = f"http://{dsn.rpartition('@')[2]}/rest/sql"
        request = urllib.request.Request(url, b"select server_version()", AUTH)
        with urllib.request.urlopen(request, timeout=10) as response:
            assert response.read().decode() == VERSION
        process.terminate()
        process.stdout.read()
    assert process.returncode == 0

"""``/rest/sql`` and ``/rest/login``: who may come in, parameters, and the forms of values."""

from __future__ import annotations

import gzip

import aiohttp
import pytest

SELECT = {"code": 0, "column_meta": [["1", "BIGINT", 8]], "data": [[1]], "rows": 1}


@pytest.mark.parametrize(
    ("header", "status", "code", "desc"),
    [
        (None, 401, 0x1105, "no auth info input"),
        ("Digest x", 401, 0x1122, "invalid auth type"),
        ("Basic !", 401, 0x1124, "invalid basic Authorization"),
        ("Basic cm9vdDo=", 401, 0x1124, "invalid basic Authorization"),
        ("Taosd x", 401, 0x1125, "invalid taosd Authorization"),
        ("Basic bm86bm8=", 200, 0x0351, "Invalid user"),
        ("Basic cm9vdDpubw==", 200, 0x0357, "Authentication failure"),
    ],
)
async def test_wrong_credentials(server, header, status, code, desc):
    headers = {"Authorization": header} if header is not None else {}
    url = f"http://127.0.0.1:{server.port}/rest/sql"
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(url, data=b"select 1") as response,
    ):
        body = await response.json()
    assert (response.status, body["code"], body["desc"]) == (status, code, desc)
    assert body["timing"] > 0


async def test_login_gives_a_token(server, http):
    async with http.get("/rest/login/root/taosdata") as response:
        token = (await response.json())["desc"]
    url = f"http://127.0.0.1:{server.port}/rest/sql"
    headers = {"Authorization": f"Taosd {token}"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=b"select 1", headers=headers) as response,
    ):
        assert await response.json() == SELECT
    async with http.get("/rest/login/root/wrong") as response:
        body = await response.json()
    assert response.status == 401
    assert (body["code"], body["desc"]) == (3, "Authentication failure")


@pytest.mark.parametrize(
    ("params", "body", "code", "desc"),
    [
        ({}, b"", 0x1106, "request is empty"),
        ({}, b"  \n", 0x1107, "no sql input"),
        ({"tz": "Nowhere/Bad"}, b"select 1", 0xFFFF, "unknown time zone Nowhere/Bad"),
        ({"req_id": "x"}, b"select 1", 0xFFFF, "illegal param, req_id must be numeric"),
        ({"row_with_meta": "maybe"}, b"select 1", 0xFFFF, "illegal param, row_with_meta"),
    ],
)
async def test_bad_requests(http, params, body, code, desc):
    async with http.post("/rest/sql", data=body, params=params) as response:
        answer = await response.json()
    assert response.status == 400
    assert answer["code"] == code
    assert answer["desc"].startswith(desc)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/rest/sql"), ("POST", "/rest/sqlt"), ("POST", "/rest/nosuch")]
)
async def test_unknown_paths(http, method, path):
    async with http.request(method, path, data=b"select 1") as response:
        assert (response.status, await response.text()) == (404, "404 page not found")


async def test_ping(http):
    async with http.get("/-/ping") as response:
        assert (response.status, await response.read()) == (200, b"")


async def test_keys_come_in_order_and_the_body_is_chunked(http):
    async with http.post("/rest/sql", data=b"select 1, 1", params={"timing": "true"}) as response:
        text = await response.text()
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    assert response.headers["Transfer-Encoding"] == "chunked"
    start = '{"code":0,"column_meta":[["1","BIGINT",8],["1","BIGINT",8]],"data":[[1,1]],"rows":1,'
    assert text.startswith(start + '"timing":')


async def test_rows_as_objects_keep_equal_names(http):
    params = {"row_with_meta": "1"}
    async with http.post("/rest/sql", data=b"select 1, 'a', 1", params=params) as response:
        assert '"data":[{"1":1,"\'a\'":"a","1":1}]' in await response.text()


async def test_an_update_is_a_row(rest):
    answer = await rest("create database d")
    assert answer["column_meta"] == [["affected_rows", "INT", 4]]
    assert (answer["data"], answer["rows"]) == ([[0]], 1)
    answer = await rest("create database if not exists d", row_with_meta="true")
    assert answer["data"] == [{"affected_rows": 0}]


async def test_a_database_in_the_path_may_be_missing(rest):
    assert (await rest("select database()", "nosuch"))["data"] == [[None]]
    assert (await rest("create database nosuch", "nosuch"))["code"] == 0
    assert (await rest("use nosuch"))["code"] == 0
    assert (await rest("select * from t"))["code"] == 0x2616


async def test_compression(http):
    async with http.post("/rest/sql", data=b"select 1") as response:
        assert response.headers["Content-Encoding"] == "gzip"
        assert await response.json() == SELECT
    headers = {"Accept-Encoding": "identity", "Content-Encoding": "gzip"}
    body = gzip.compress(b"select 1")
    async with http.post("/rest/sql", data=body, headers=headers) as response:
        assert "Content-Encoding" not in response.headers
        assert await response.json() == SELECT


async def test_forms_of_values(rest):
    await rest("create database d")
    await rest("create table t (ts timestamp, f float, d double, vb varbinary(4), s nchar(8))", "d")
    await rest(
        r"insert into t values (1, 0.1, 1e300, '\x00ff', '\"\\ü\n') (2, 16777216, 1e21, null, '')",
        "d",
    )
    answer = await rest("select f, d, vb, s, f * 0 from t", "d")
    assert answer["data"] == [
        [0.1, 1e300, "00ff", '"\\ü\n', 0],
        [16777216, 1e21, None, "", 0],
    ]


@pytest.mark.parametrize(
    ("precision", "ticks", "zone", "text"),
    [
        ("ms", 1709251200001, "", "2024-03-01T00:00:00.001Z"),
        ("ms", 1709251200001, "Asia/Shanghai", "2024-03-01T08:00:00.001+08:00"),
        ("us", 1719792000000001, "America/New_York", "2024-06-30T20:00:00.000001-04:00"),
        ("ns", 1709251200000000001, "Asia/Kolkata", "2024-03-01T05:30:00.000000001+05:30"),
        ("ms", -1, "", "1969-12-31T23:59:59.999Z"),
    ],
)
async def test_times(rest, precision, ticks, zone, text):
    await rest(f"create database d precision '{precision}'")
    await rest("create table t (ts timestamp, v int)", "d")
    await rest(f"insert into t values ({ticks}, 1)", "d")
    for name in ("tz", "conn_tz"):
        assert (await rest("select ts from t", "d", **{name: zone}))["data"] == [[text]]


async def test_conn_tz_is_the_zone_of_the_statement_and_tz_is_not(rest):
    sql = "select cast('2024-07-01 00:00:00' as timestamp)"
    assert (await rest(sql, tz="Asia/Shanghai"))["data"] == [["2024-07-01T08:00:00.000+08:00"]]
    assert (await rest(sql, conn_tz="Asia/Shanghai"))["data"] == [["2024-07-01T00:00:00.000+08:00"]]


async def test_many_rows_are_whole(rest):
    await rest("create database d")
    await rest("create table t (ts timestamp, v int)", "d")
    rows = " ".join(f"({i}, {i})" for i in range(10_000))
    assert (await rest(f"insert into t values {rows}", "d"))["data"] == [[10_000]]
    answer = await rest("select v from t order by ts", "d")
    assert answer["rows"] == 10_000
    assert answer["data"] == [[i] for i in range(10_000)]

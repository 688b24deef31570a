"""``/rest/sql`` and ``/rest/login``: who may come in, parameters, and the forms of values."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from datetime import UTC
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import aiohttp
import numpy as np
import pytest
from yarl import URL

from aiotaos import Field, Precision, TypeCode
from aiotaos.embedded.jsoncells import cell_writer
from aiotaos.embedded.timetext import rfc3339

CAPTURES = Path(__file__).parent.parent / "data" / "captures"
SELECT = {"code": 0, "column_meta": [["1", "BIGINT", 8]], "data": [[1]], "rows": 1}
NO_NUMBER = "illegal param, req_id must be numeric strconv.ParseInt:"
NO_FLAG = (
    "illegal param, row_with_meta must be boolean strconv.ParseBool: "
    'parsing "maybe": invalid syntax'
)


@pytest.mark.parametrize(
    ("header", "status", "code", "desc"),
    [
        (None, 401, 0x1105, "no auth info input"),
        ("", 401, 0x1105, "no auth info input"),
        ("Digest x", 401, 0x1122, "invalid type of Authorization"),
        ("Bearer abc", 401, 0x1122, "invalid type of Authorization"),
        ("basic cm9vdDp0YW9zZGF0YQ==", 401, 0x1122, "invalid type of Authorization"),
        ("Basic", 401, 0x1122, "invalid type of Authorization"),
        ("Taosd", 401, 0x1122, "invalid type of Authorization"),
        ("Basic !", 401, 0x1124, "invalid basic Authorization"),
        ("Basic cm9vdDo=", 401, 0x1124, "invalid basic Authorization"),
        ("Basic OnRhb3NkYXRh", 401, 0x1124, "invalid basic Authorization"),
        ("Basic cm9vdA==", 401, 0x1124, "invalid basic Authorization"),
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


async def test_a_token_in_the_query_is_no_login(server):
    url = f"http://127.0.0.1:{server.port}/rest/sql"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=b"select 1", params={"token": "abc"}) as response,
    ):
        assert (response.status, (await response.json())["code"]) == (401, 0x1105)
    headers = {"Authorization": "Basic cm9vdDp0YW9zZGF0YQ=="}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(url, data=b"select 1", params={"token": "abc"}) as response,
    ):
        assert await response.json() == SELECT


async def login(http: aiohttp.ClientSession) -> str:
    async with http.get("/rest/login/root/taosdata") as response:
        body = await response.json()
    assert (response.status, sorted(body), body["code"]) == (200, ["code", "desc"], 0)
    return str(body["desc"])


async def with_token(server, token: str) -> tuple[int, dict[str, Any]]:
    url = f"http://127.0.0.1:{server.port}/rest/sql"
    headers = {"Authorization": f"Taosd {token}"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=b"select 1", headers=headers) as response,
    ):
        return response.status, await response.json()


async def test_login_gives_a_token(server, http):
    assert await with_token(server, await login(http)) == (200, SELECT)


@pytest.mark.parametrize(
    ("path", "status", "code", "desc"),
    [
        ("root/wrong", 401, 3, "Authentication failure"),
        ("nobody/taosdata", 401, 3, "Authentication failure"),
        ("abcdefghijklmnopqrstuvwxy/p", 400, 0x110A, "generate taosd token error"),
    ],
)
async def test_refused_logins(http, path, status, code, desc):
    async with http.get(f"/rest/login/{path}") as response:
        body = await response.json()
    assert (response.status, body["code"], body["desc"]) == (status, code, desc)
    assert body["timing"] > 0


async def test_tokens_expire(server, http):
    old = await login(http)
    server.expire_tokens()
    status, body = await with_token(server, old)
    assert (status, body["code"], body["desc"]) == (401, 0x1125, "invalid taosd Authorization")
    new = await login(http)
    assert new != old
    assert await with_token(server, new) == (200, SELECT)
    assert (await with_token(server, old))[0] == 401


@pytest.mark.parametrize(
    ("params", "body", "code", "desc"),
    [
        ({}, b"", 0x1106, "request is empty"),
        ({}, b"  \n", 0x1107, "no sql input"),
        ({"tz": "Nowhere/Bad"}, b"select 1", 0xFFFF, "unknown time zone Nowhere/Bad"),
        ({"conn_tz": "No", "tz": "UTC"}, b"select 1", 0xFFFF, "unknown time zone No"),
        ({"req_id": "x"}, b"select 1", 0xFFFF, f'{NO_NUMBER} parsing "x": invalid syntax'),
        ({"req_id": "1_0"}, b"select 1", 0xFFFF, f'{NO_NUMBER} parsing "1_0": invalid syntax'),
        (
            {"req_id": "9223372036854775808"},
            b"select 1",
            0xFFFF,
            f'{NO_NUMBER} parsing "9223372036854775808": value out of range',
        ),
        ({"row_with_meta": "maybe"}, b"select 1", 0xFFFF, NO_FLAG),
    ],
)
async def test_bad_requests(http, params, body, code, desc):
    async with http.post("/rest/sql", data=body, params=params) as response:
        answer = await response.json()
    assert (response.status, answer["code"], answer["desc"]) == (400, code, desc)
    assert answer["timing"] > 0


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/rest/sql"),
        ("GET", "/rest/sql/d"),
        ("POST", "/rest/sqlt"),
        ("POST", "/rest/sqlt/d"),
        ("POST", "/rest/sqlutc"),
        ("POST", "/rest/sqlutc/d"),
        ("POST", "/rest/nosuch"),
    ],
)
async def test_unknown_paths(http, method, path):
    async with http.request(method, path, data=b"select 1") as response:
        assert (response.status, await response.text()) == (404, "404 page not found")
        assert response.headers["Content-Type"] == "text/plain"


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


async def test_errors_are_compressed_too(http):
    async with http.post("/rest/sql", data=b"") as response:
        assert (response.status, response.headers["Content-Encoding"]) == (400, "gzip")
        assert (await response.json())["code"] == 0x1106


async def test_a_request_that_is_no_gzip_is_refused(http):
    headers = {"Content-Encoding": "gzip"}
    async with http.post("/rest/sql", data=b"select 1", headers=headers) as response:
        assert response.status == 400
        assert (await response.json())["desc"] == "invalid content length"


@pytest.mark.parametrize(
    ("name", "path"), [("Größe 1", "Gr%C3%B6%C3%9Fe%201"), ("a+b?c#d%", "a+b%3Fc%23d%25")]
)
async def test_a_database_in_the_path_is_decoded(http, name, path):
    await (await http.post("/rest/sql", data=f"create database `{name}`".encode())).read()
    url = URL(f"/rest/sql/{path}", encoded=True)
    async with http.post(url, data=b"select database()") as response:
        assert (await response.json())["data"] == [[name]]


async def test_flags(rest):
    for text in ("1", "t", "T", "TRUE", "true", "True"):
        assert (await rest("select 1 v", row_with_meta=text))["data"] == [{"v": 1}]
    for text in ("", "0", "f", "F", "FALSE", "false", "False"):
        assert (await rest("select 1 v", row_with_meta=text))["data"] == [[1]]
    for text in ("1", "True", "TRUE", ""):
        assert "timing" not in await rest("select 1", timing=text)
    assert (await rest("create database d", timing="true"))["timing"] > 0


async def test_who_asks_is_listed(server, rest):
    """An answer that nobody reads does not end, so another request sees its statement."""
    await rest("create database d")
    await rest("create table t (ts timestamp, s varchar(8000))", "d")
    rows = " ".join(f"({ts}, '{'x' * 8000}')" for ts in range(100))
    assert (await rest(f"insert into t values {rows}", "d"))["data"] == [[100]]
    sql = "select " + "s, " * 59 + "s from t"
    request = (
        "POST /rest/sql/d?req_id=77&app=meter&ip=10.0.0.9 HTTP/1.1\r\nHost: x\r\n"
        "Authorization: Basic cm9vdDp0YW9zZGF0YQ==\r\n"
        f"Content-Length: {len(sql)}\r\n\r\n{sql}"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
    address = writer.get_extra_info("sockname")
    writer.write(request.encode())
    assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    answer = await rest(
        "select query_id, user, end_point, sql, user_app, user_ip "
        "from performance_schema.perf_queries"
    )
    assert answer["data"] == [[77, "root", f"127.0.0.1:{address[1]}", sql, "meter", "10.0.0.9"]]
    writer.close()
    await writer.wait_closed()


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


async def test_an_empty_conn_tz_is_utc_and_wins(rest):
    sql = "select cast(0 as timestamp)"
    answer = await rest(sql, conn_tz="", tz="Asia/Shanghai")
    assert answer["data"] == [["1970-01-01T00:00:00.000Z"]]


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


def cells(type: TypeCode, *values: object, scale: int = 0) -> list[str]:
    field = Field("c", type, 8, 38, scale)
    write = cell_writer(field, Precision.MILLISECOND, rfc3339(UTC))
    return [cell.decode() for cell in write(values)]


def test_numbers_are_written_as_go_writes_them():
    assert cells(TypeCode.DOUBLE, 0.1, 1.0, -0.0, 1e16, 1.2e20, 1e21) == [
        "0.1", "1", "-0", "10000000000000000", "120000000000000000000", "1e+21",
    ]  # fmt: skip
    assert cells(TypeCode.DOUBLE, 1e-4, 1.5e-5, 1e-6, 9.9e-7) == [
        "0.0001", "0.000015", "0.000001", "9.9e-07",
    ]  # fmt: skip
    assert cells(TypeCode.DOUBLE, 5e-324, -1.7976931348623157e308) == [
        "5e-324",
        "-1.7976931348623157e+308",
    ]
    assert cells(TypeCode.FLOAT, 0.1, 3.4028234663852886e38, 16777216.0, 1e-6, 1e-7, 1e20) == [
        "0.1", "3.4028235e+38", "16777216", "0.000001", "1e-07", "100000000000000000000",
    ]  # fmt: skip
    for type in (TypeCode.FLOAT, TypeCode.DOUBLE):
        values = (float("nan"), None, float("inf"), 2.5, float("-inf"))
        assert cells(type, *values) == ["null", "null", "null", "2.5", "null"]


def test_integers_are_exact():
    assert cells(TypeCode.UBIGINT, 18446744073709551615, None) == ["18446744073709551615", "null"]
    assert cells(TypeCode.BIGINT, -9223372036854775808, 9223372036854775807) == [
        "-9223372036854775808",
        "9223372036854775807",
    ]
    assert cells(TypeCode.BOOL, True, False, None) == ["true", "false", "null"]


def test_texts_are_escaped_as_go_escapes_them():
    assert cells(TypeCode.VARCHAR, 'a"\\/\x00\x1f\x7f<&', "\b\f\n\r\t", "\\b\\\f", None) == [
        r'"a\"\\/\u0000\u001f' + '\x7f<&"',
        r'"\u0008\u000c\n\r\t"',
        r'"\\b\\\u000c"',
        "null",
    ]


def test_other_types():
    assert cells(TypeCode.VARBINARY, b"\x7f\x82\x90", b"", None) == ['"7f8290"', '""', "null"]
    assert cells(TypeCode.DECIMAL, Decimal("-0.0100"), Decimal("1E+3"), None, scale=4) == [
        '"-0.0100"',
        '"1000"',
        "null",
    ]
    assert cells(TypeCode.JSON, '{"a":[1,null]}', None) == ['{"a":[1,null]}', "null"]
    assert cells(TypeCode.NCHAR, None, None) == ["null", "null"]
    assert cells(TypeCode.TIMESTAMP, None, 0) == ["null", '"1970-01-01T00:00:00.000Z"']


@pytest.mark.parametrize(
    ("precision", "zone", "ticks", "text"),
    [
        (Precision.NANOSECOND, "UTC", 2**63 - 1, "2262-04-11T23:47:16.854775807Z"),
        (Precision.NANOSECOND, "Asia/Tokyo", 2**63 - 1, "2262-04-12T08:47:16.854775807+09:00"),
        (Precision.MILLISECOND, "UTC", 2**63 - 1, "292278994-08-17T07:12:55.807Z"),
        (Precision.MILLISECOND, "Asia/Tokyo", 2**63 - 1, "292278994-08-17T07:12:55.807Z"),
        (Precision.MICROSECOND, "Europe/Berlin", -1, "1970-01-01T00:59:59.999999+01:00"),
        (Precision.MILLISECOND, "America/New_York", -(10**13), "1653-02-10T01:17:18.000-04:56"),
        (Precision.MILLISECOND, "Europe/London", 0, "1970-01-01T01:00:00.000+01:00"),
        (Precision.MILLISECOND, "Europe/London", 10**12, "2001-09-09T02:46:40.000+01:00"),
        (Precision.MILLISECOND, "Europe/London", 10**12 + 10**10, "2002-01-02T19:33:20.000Z"),
    ],
)
def test_times_are_exact(precision, zone, ticks, text):
    write = rfc3339(UTC if zone == "UTC" else ZoneInfo(zone))
    assert write(np.array([ticks], np.int64), precision) == [f'"{text}"']


def recorded_sql(name: str) -> list[str]:
    """The statements that made the tables of a recording."""
    lines = json.loads((CAPTURES / f"{name}.expected.json").read_text(encoding="utf-8"))
    return [line["sql"] for line in lines if line["sql"].startswith(("create", "insert"))]


def recorded_requests() -> list[dict[str, Any]]:
    """What can be asked here too: not for a token, nor for the databases of other recordings."""
    lines = (CAPTURES / "rest.wire.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        event
        for event in map(json.loads, lines)
        if event["path"] != "/rest/login/root/taosdata"
        and not event["req_headers"].get("Authorization", "").startswith("Taosd")
        and event["req_body"] != "show databases"
        and not event["path"].startswith(("/influxdb", "/opentsdb"))
    ]


async def test_answers_are_those_of_tdengine_byte_by_byte(server, rest):
    for name in ("types_ms", "types_us", "types_ns", "decimals_blobs", "tags_json"):
        for sql in recorded_sql(name):
            assert (await rest(sql))["code"] == 0, sql
    requests = recorded_requests()
    assert len(requests) == 27
    base = f"http://127.0.0.1:{server.port}"
    async with aiohttp.ClientSession(skip_auto_headers=["Accept-Encoding"]) as session:
        for event in requests:
            headers = event["req_headers"]
            sent = {key: headers[key] for key in ("Authorization",) if key in headers}
            url = URL(base + event["path"], encoded=True)
            async with session.request(
                event["method"], url, data=event["req_body"].encode(), headers=sent
            ) as response:
                body = await response.read()
            kinds = ("Content-Type", "Transfer-Encoding")
            assert {key: response.headers[key] for key in kinds if key in response.headers} == {
                key: value for key, value in event["resp_headers"].items() if key in kinds
            }, event["path"]
            assert (response.status, untimed(body)) == (
                event["status"],
                untimed(event["resp_text"].encode()),
            )


def untimed(body: bytes) -> bytes:
    return re.sub(rb'"timing":\d+', b'"timing":0', body)


async def test_a_hundred_thousand_rows_of_seven_columns(rest):
    await rest("create database d")
    await rest(
        "create table t (ts timestamp, i int, b bigint, f float, d double, s varchar(9))", "d"
    )
    for start in range(0, 100_000, 20_000):
        rows = " ".join(f"({i}, {i}, {-i}, {i}.5, 0.25, 's')" for i in range(start, start + 20_000))
        assert (await rest(f"insert into t values {rows}", "d"))["data"] == [[20_000]]
    answer = await rest("select *, tbname from t order by ts", "d")
    assert answer["rows"] == len(answer["data"]) == 100_000
    assert answer["data"][65_432] == [
        "1970-01-01T00:01:05.432Z", 65_432, -65_432, 65_432.5, 0.25, "s", "t",
    ]  # fmt: skip

"""The REST road over real sockets: what is asked, what is made of the answers, and trouble."""

from __future__ import annotations

import asyncio
import base64
import builtins
import contextlib
import gc
import json
import logging
import random
import re
import ssl
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from urllib.parse import unquote
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import trustme

import aiotaos
from aiotaos import (
    AuthenticationError,
    ConnectionError,
    ConnectionLost,
    DatabaseError,
    DataError,
    Field,
    IntegrityError,
    InterfaceError,
    NotSupportedError,
    OperationalError,
    Precision,
    ProgrammingError,
    ProtocolError,
    ResultError,
    SchemalessError,
    SchemalessProtocol,
    StatementError,
    TypeCode,
    dict_row,
)
from tests.transport.speaking_http import (
    Gate,
    HttpServer,
    Reply,
    affected,
    database_of,
    dumps,
    integers,
    legacy,
    legacy_affected,
    legacy_refusal,
    legacy_rows,
    refusal,
    rows,
)

VERSION_SQL = "select server_version()"
READ = "select v from t"
WRITE = "insert into t values (1, 2)"
BASIC = "Basic cm9vdDp0YW9zZGF0YQ=="
QUICK = {"conn_retries": 3, "retry_backoff_ms": 1, "retry_backoff_max_ms": 4}
V = [("v", "BIGINT", 8)]
START = 1_709_251_200  # 2024-03-01T00:00:00Z
SECRET = "s3cr3t&pa ss%word"
# Texts in which the signs of JSON stand for nothing.
TEXTS = [
    *("],[", "]]", "[", "]", '"data":[', '"rows":3}', "}", "{", "}}]}", ",", "null", "\\", '"'),
    *('\\"', "ends with \\", 'ends with "', "\\\\", '\\\\"],["', "\0", "a\0b", "\x01\x1f\x7f"),
    *("\b\f\n\r\t", "🚀", "涛思 🚀 naïve \U0010ffff", "\u2028\u2029", "é" * 40, "", " ", "\\u0041"),
    *("]" * 50, '"' * 50, "\\" * 51, "`'?`", "2024-03-01T00:00:00Z", "1", "NaN"),
]


@pytest.fixture
async def server(clean):
    async with HttpServer() as server:
        yield server
    server.check()


@pytest.fixture
async def other(clean):
    """Another server."""
    async with HttpServer() as server:
        yield server
    server.check()


@pytest.fixture
async def connect(server):
    """Open connections; they work at the end of the test, and are closed then."""
    opened = []

    async def open_one(**options):
        opened.append(await aiotaos.connect(server.dsn, **{"timezone": "UTC"} | options))
        return opened[-1]

    yield open_one
    for conn in opened:
        if not conn.closed:
            assert await conn.fetchval("select 1", timeout=5) == 1
        await conn.close()


@pytest.fixture
async def conn(connect):
    return await connect()


@pytest.fixture
def turns(server_parts):
    return server_parts.turns


async def cancel(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def typed(values):
    """In a form in which 1 is not True, nor 0.0 is -0.0."""
    return list(map(repr, values))


def html(status, **headers):
    return Reply(b"<html>nginx says no</html>", status, headers | {"Content-Type": "text/html"})


def drop(box):
    """Drop what is in a box for good."""
    box.clear()
    gc.collect()


def told(error):
    """All that an error tells: texts and attributes of it, of its causes and its contexts."""
    texts = []
    while error is not None:
        texts += [str(error), repr(error), repr(error.args), repr(vars(error))]
        error = error.__cause__ or error.__context__
    return "\n".join(texts)


# Opening.


async def test_opening(server):
    async with aiotaos.connect(server.dsn) as conn:
        assert conn.server_version == "3.3.7.5"
        assert conn.endpoint == server.endpoint
        assert conn.database is None
        assert repr(conn) == f"<Connection {server.endpoint} open>"
        assert not conn.closed
    (request,) = server.requests
    assert (request.method, request.path, request.sql) == ("POST", "/rest/sql", VERSION_SQL)
    assert conn.closed
    with pytest.raises(InterfaceError, match="closed"):
        await conn.fetch(READ)


async def test_opening_with_a_database(server):
    async with aiotaos.connect(server.dsn, database="power") as conn:
        assert conn.database == "power"
        assert conn.server_version == "3.3.7.5"
    first, second = server.requests
    assert (first.method, first.path, first.sql) == ("POST", "/rest/sql", VERSION_SQL)
    assert (second.method, second.path, second.sql) == ("POST", "/rest/sql", "use `power`")


@pytest.mark.parametrize("driver", ["http", "taosrest", "taosrest+http", "taos+http"])
async def test_drivers(server, driver):
    dsn = server.dsn.replace("http", driver, 1)
    async with aiotaos.connect(dsn) as conn:
        assert await conn.fetch("select 1") == [(1,)]
        assert conn.endpoint == server.endpoint


async def test_a_database_that_does_not_exist(server):
    server.answers["use `nosuch`"] = refusal(0x0388, "Database not exist")
    with pytest.raises(ProgrammingError) as raised:
        await aiotaos.connect(server.dsn, database="nosuch", **QUICK)
    assert (raised.value.code, raised.value.message) == (0x0388, "Database not exist")
    assert raised.value.endpoint == server.endpoint
    assert server.asked("use `nosuch`") == 1


@pytest.mark.parametrize("status", [200, 401])
@pytest.mark.parametrize("code", [0x0357, 0x0351])
async def test_a_wrong_password(server, code, status):
    server.answers[VERSION_SQL] = Reply(refusal(code, "Authentication failure"), status)
    with pytest.raises(AuthenticationError) as raised:
        await aiotaos.connect(server.dsn, password=SECRET, **QUICK)
    assert raised.value.code == code
    assert "Authentication failure" in raised.value.message
    assert server.asked(VERSION_SQL) == 1
    assert SECRET not in told(raised.value)


async def test_opening_is_repeated(server):
    server.answers[VERSION_SQL] = [
        html(503),
        Reply(b"", cut=-1),
        Reply(b'{"code":0,"col', cut=5),
        Reply(rows([("server_version()", "VARCHAR", 7)], [["3.3.7.6"]])),
    ]
    async with aiotaos.connect(server.dsn, **QUICK) as conn:
        assert conn.server_version == "3.3.7.6"
    assert server.asked(VERSION_SQL) == 4


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_opening_fails(server, status):
    server.answers[VERSION_SQL] = html(status)
    with pytest.raises(ConnectionError, match="nginx says no") as raised:
        await aiotaos.connect(server.dsn, **QUICK)
    assert raised.value.http_status == status
    assert raised.value.may_have_run is False
    assert server.asked(VERSION_SQL) == 1 + QUICK["conn_retries"]


@pytest.mark.parametrize("status", [301, 302, 307, 308, 404])
async def test_where_there_is_no_adapter(server, status):
    """It is not asked again; and a redirection is not followed."""
    server.answers[VERSION_SQL] = html(status, Location="/rest/sql")
    with pytest.raises(ConnectionError, match=f"HTTP status {status}") as raised:
        await aiotaos.connect(server.dsn, **QUICK)
    assert raised.value.http_status == status
    assert len(server.requests) == 1


async def test_nobody_listens(server):
    dsn = server.dsn
    await server.stop()
    with pytest.raises(ConnectionError, match="connection refused") as raised:
        await aiotaos.connect(dsn)
    assert raised.value.may_have_run is False
    assert raised.value.endpoint == server.endpoint


@pytest.mark.parametrize("database", [None, "power"])
async def test_opening_takes_too_long(server, database):
    gate = Gate()
    sql = "use `power`" if database else VERSION_SQL
    server.answers[sql] = Reply(affected(0), holds={-1: gate})
    with pytest.raises(aiotaos.TimeoutError) as raised:
        await aiotaos.connect(server.dsn, database=database, connect_timeout=0.1)
    assert isinstance(raised.value, builtins.TimeoutError)
    await server.until(lambda: not server.open_connections)


@pytest.mark.parametrize("place", [-1, 0, 30])
async def test_opening_is_cancelled(server, place):
    gate = Gate()
    server.answers[VERSION_SQL] = Reply(
        rows([("server_version()", "VARCHAR", 7)], [["3.3.7.5"]]), holds={place: gate}
    )
    task = asyncio.ensure_future(aiotaos.connect(server.dsn)._open())
    await gate.reached.wait()
    await cancel(task)
    await server.until(lambda: not server.open_connections)


async def test_a_server_that_speaks_something_else(tcp_server):
    async def speak(reader, writer):
        await reader.read(100)
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
        await writer.drain()

    port = await tcp_server(speak)
    with pytest.raises(OperationalError) as raised:
        await aiotaos.connect(f"http://127.0.0.1:{port}?conn_retries=0")
    assert raised.value.endpoint == f"http://127.0.0.1:{port}"


@pytest.mark.parametrize(
    "options", [{"totp_code": "123456"}, {"conn_mode": 1}, {"adapter_ha": True}]
)
async def test_options_that_need_websocket(server, options):
    with pytest.raises(NotSupportedError, match="WebSocket") as raised:
        await aiotaos.connect(server.dsn, **options)
    (name,) = options
    assert name in raised.value.message
    assert "123456" not in told(raised.value)
    assert server.requests == []


@pytest.mark.parametrize(
    "options",
    [
        {"rest_auth": "digest"},
        {"rest_auth": ""},
        {"rest_auth": 5},
        {"read_buffer_size": 0},
        {"read_buffer_size": -1},
        {"read_buffer_size": "many"},
        {"read_buffer_size": 1.5},
        {"compression": "perhaps"},
    ],
)
def test_bad_options(options):
    (name,) = options
    with pytest.raises(InterfaceError, match=name):
        aiotaos.connect("http://localhost", **options)


async def test_the_server_tells_no_version(server):
    server.answers[VERSION_SQL] = refusal(0x2600, "syntax error near")
    with pytest.raises(ProgrammingError):
        await aiotaos.connect(server.dsn)


# What is asked.


async def test_a_statement(server, connect):
    conn = await connect(timezone=None)
    server.answers[READ] = integers(1)
    await conn.fetch(READ, req_id=77)
    request = server.request(READ)
    assert (request.method, request.path) == ("POST", "/rest/sql")
    assert request.query == {"req_id": "77", "timing": "true"}
    assert request.raw == READ.encode()
    assert request.headers["authorization"] == BASIC
    assert request.headers["accept-encoding"] == "identity"
    assert "content-encoding" not in request.headers
    assert request.headers["host"] == f"127.0.0.1:{server.port}"


async def test_every_parameter(server, connect):
    conn = await connect(
        timezone="Asia/Shanghai", user_app="tests & more", user_ip="10.0.0.7", database="power"
    )
    for _ in range(2):
        await conn.fetch("select 1", req_id=2**63 - 1)
        request = server.request("select 1")
        assert request.path == "/rest/sql/power"
        assert request.query == {
            "req_id": "9223372036854775807",
            "timing": "true",
            "conn_tz": "Asia/Shanghai",
            "app": "tests & more",
            "ip": "10.0.0.7",
        }


async def test_request_ids_are_positive_and_distinct(server, conn):
    server.answers[WRITE] = affected(1)
    await asyncio.gather(*(conn.execute(WRITE) for _ in range(30)))
    ids = [int(request.query["req_id"]) for request in server.requests if request.sql == WRITE]
    assert len(set(ids)) == 30
    assert all(0 < id < 2**63 for id in ids)


async def test_statements_are_sent_as_utf8(server, conn):
    sql = "select '涛思 🚀 + & %20 \\n' from t"
    server.answers[sql] = integers(1)
    assert await conn.fetch(sql) == [(1,)]
    assert server.request(sql).raw == sql.encode()


@pytest.mark.parametrize(
    "name",
    [
        "Power",
        "a b",
        "涛",
        "100%",
        "%2F",
        "a?b#c",
        "a&b=c+d",
        "a/b",
        "a;b",
        "a:b@c",
        "..",
        "~!*'()",
    ],
)
async def test_names_of_databases_are_encoded(server, connect, name):
    """One segment of the path, whatever is in it."""
    conn = await connect(database=name)
    assert conn.database == name
    await conn.fetch("select 1")
    request = server.request("select 1")
    assert request.path.count("/") == 3
    assert database_of(request) == name
    assert re.fullmatch(r"/rest/sql/(?:[\w.~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+", request.path)
    assert "tz" in request.target.partition("?")[2]
    assert server.statements[0] == f"use `{name}`"


async def test_credentials_are_encoded(server, connect):
    await connect(user="us:er".replace(":", ""), password="涛:p@ss/w ?&")
    expected = "Basic " + base64.b64encode("user:涛:p@ss/w ?&".encode()).decode()
    assert server.requests[-1].headers["authorization"] == expected


async def test_a_bearer_token(server, connect):
    conn = await connect(bearer_token="abc.def-ghi")
    await conn.fetch("select 1")
    for request in server.requests:
        assert request.headers["authorization"] == "Bearer abc.def-ghi"
        assert "token" not in request.query


async def test_a_cloud_token(server, connect):
    conn = await connect(token="a+b/c=&d e", database="power")
    await conn.fetch("select 1", req_id=5)
    for request in server.requests:
        assert "authorization" not in request.headers
        assert request.query["token"] == "a+b/c=&d e"
    assert server.request("select 1").query["req_id"] == "5"


async def test_nothing_of_the_server_is_kept(server, conn):
    """It has no sessions: a cookie is none of ours."""
    server.answers[READ] = Reply(integers(1), headers={"Set-Cookie": "a=b; Path=/"})
    await conn.fetch(READ)
    await conn.fetch(READ)
    assert all("cookie" not in request.headers for request in server.requests)


async def test_connections_are_kept(server, conn):
    for _ in range(10):
        assert await conn.fetch("select 1") == [(1,)]
        server.answers[READ] = refusal(0x2600, "no")
        with pytest.raises(ProgrammingError):
            await conn.fetch(READ)
    assert server.connections == 1


async def test_a_proxy_of_the_environment_is_not_asked(server, connect, other, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, other.endpoint)
    conn = await connect()
    assert await conn.fetchval("select 1") == 1
    assert other.requests == []


async def test_a_netrc_is_not_read(server, connect, monkeypatch, tmp_path):
    path = tmp_path / "netrc"
    path.write_text("machine 127.0.0.1 login mallory password mallory")
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))
    conn = await connect(token="cloud")
    await conn.fetchval("select 1")
    assert all("authorization" not in request.headers for request in server.requests)


# Compression.


async def test_compressed_answers(server, connect):
    conn = await connect(compression=True)
    server.answers[READ] = integers(*range(1000))
    assert await conn.fetch(READ) == [(v,) for v in range(1000)]
    assert "gzip" in server.request(READ).headers["accept-encoding"]


async def test_a_server_that_does_not_compress(server, connect):
    conn = await connect(compression=True)
    server.answers[READ] = Reply(integers(1, 2), compressible=False)
    assert await conn.fetch(READ) == [(1,), (2,)]


@pytest.mark.parametrize(
    ("parameter", "asked"),
    [
        ("disableCompression=false", True),
        ("disableCompression=true", False),
        ("compression=true", True),
        ("compression=false", False),
    ],
)
async def test_compression_in_the_dsn(server, parameter, asked):
    async with aiotaos.connect(f"{server.dsn}&{parameter}"):
        assert ("gzip" in server.requests[0].headers["accept-encoding"]) is asked


@pytest.mark.parametrize(
    ("options", "size", "is_gzipped"),
    [
        ({"compression": True}, 10_000, True),
        ({"compression": True}, 4097, True),
        ({"compression": True}, 1000, False),
        ({}, 100_000, False),
    ],
)
async def test_compressed_requests(server, connect, options, size, is_gzipped):
    conn = await connect(**options)
    sql = "insert into t values ('涛".ljust(size - 4, "x") + "')"
    assert len(sql.encode()) == size
    server.answers[sql] = affected(1)
    assert await conn.execute(sql) == 1
    request = server.request(sql)
    assert request.is_gzipped is is_gzipped
    assert request.body == sql.encode()
    assert (len(request.raw) < size) is is_gzipped


async def test_compression_of_both_at_once(server, connect):
    """The answer of taosAdapter 3.3.7.5 to a compressed request that asks for a compressed answer.

    It is plain, and behind it stands the end of an empty gzip stream.
    """
    conn = await connect(compression=True)
    empty_stream = bytes.fromhex("1f8b08000000000000ff010000ffff0000000000000000")
    padding = " " * 5000

    def answer(body):
        async def give(request):
            assert request.is_gzipped
            both = "gzip" in request.headers["accept-encoding"]
            return Reply(body + empty_stream if both else body, compressible=False)

        return give

    server.answers[WRITE + padding] = answer(affected(7, timing=42498523))
    assert await conn.execute(WRITE + padding) == 7
    server.answers[READ + padding] = answer(integers(1, 2))
    assert await conn.fetch(READ + padding) == [(1,), (2,)]


async def test_a_long_request_is_not_in_the_way_of_others(server, connect):
    conn = await connect(compression=True)
    sql = f"insert into t values ('{'x' * 1_000_000}')"
    server.answers[sql] = affected(1)
    assert await asyncio.gather(conn.execute(sql), conn.fetchval("select 1")) == [1, 1]


@pytest.mark.parametrize("body", [b"no gzip at all", b"\x1f\x8b\x08\0 broken", b""])
async def test_broken_compression(server, connect, body):
    conn = await connect(compression=True)
    server.answers[READ] = Reply(body, headers={"Content-Encoding": "gzip"}, compressible=False)
    with pytest.raises(OperationalError) as raised:
        await conn.fetch(READ)
    assert isinstance(raised.value, (ProtocolError, ConnectionLost))


# Logins for a token.


def login(token):
    return dumps({"code": 0, "desc": token}).encode()


def guarded(server, tokens):
    """Let in those alone whose token is the present one; ``tokens`` are given one by one."""
    ordinary = server._ordinary
    given = []

    async def give(request):
        given.append(tokens.pop(0))
        return login(given[-1])

    server.paths["/rest/login/root/taosdata"] = give

    def check(request):
        if request.headers.get("authorization") != f"Taosd {guarded.valid}":
            return Reply(refusal(0x1125, "invalid taosd Authorization"), 401)
        return ordinary(request)

    server._ordinary = check
    return given


async def test_a_token_is_got_once(server, connect):
    server.paths["/rest/login/root/taosdata"] = login("tok/en+=")
    conn = await connect(rest_auth="taosd")
    await conn.fetch("select 1")
    await conn.fetch("select 1")
    first, *rest = server.requests
    assert (first.method, first.path) == ("GET", "/rest/login/root/taosdata")
    assert len(rest) == 3
    for request in rest:
        assert request.headers["authorization"] == "Taosd tok/en+="
        assert request.path == "/rest/sql"


async def test_a_login_is_encoded(server, connect):
    user, password = "ro ot", "p@ss w?rd%&#涛"
    reached = []

    async def give(request):
        reached.append(request)
        return login("token")

    ordinary = server._ordinary
    server._ordinary = lambda request: give if "/login/" in request.path else ordinary(request)
    await connect(rest_auth="taosd", user=user, password=password)
    (request,) = reached
    *_, name, word = request.path.split("/")
    assert request.path.count("/") == 4
    assert (unquote(name), unquote(word)) == (user, password)
    assert request.target.isascii()


async def test_rest_auth_in_the_dsn(server):
    server.paths["/rest/login/root/taosdata"] = login("token")
    async with aiotaos.connect(f"{server.dsn}&rest_auth=taosd"):
        assert server.requests[-1].headers["authorization"] == "Taosd token"


async def test_a_token_is_renewed(server, connect):
    guarded.valid = "first"
    given = guarded(server, ["first", "second", "third"])
    conn = await connect(rest_auth="taosd")
    assert await conn.fetchval("select 1") == 1
    guarded.valid = "second"
    assert await conn.fetchval("select 1") == 1
    assert given == ["first", "second"]
    assert await conn.fetchval("select 1") == 1
    assert server.asked("select 1") == 4
    assert given == ["first", "second"]


async def test_a_write_is_repeated_with_a_new_token(server, connect):
    """It was refused at the door: it has not run."""
    server.paths["/rest/login/root/taosdata"] = [login("first"), login("second")]
    conn = await connect(rest_auth="taosd")
    server.answers[WRITE] = [Reply(refusal(0x1125, "no"), 401), affected(2)]
    assert await conn.execute(WRITE) == 2
    assert server.asked(WRITE) == 2
    assert server.request(WRITE).headers["authorization"] == "Taosd second"


async def test_a_token_is_renewed_once(server, connect):
    server.paths["/rest/login/root/taosdata"] = login("token")
    conn = await connect(rest_auth="taosd", **QUICK)
    server.answers[READ] = Reply(refusal(0x1125, "invalid taosd Authorization"), 401)
    with pytest.raises(AuthenticationError) as raised:
        await conn.fetch(READ)
    assert (raised.value.code, raised.value.http_status) == (0x1125, 401)
    assert server.asked(READ) == 2
    logins = [request for request in server.requests if request.method == "GET"]
    assert len(logins) == 2


async def test_the_password_has_changed(server, connect):
    """The token is refused, and so is the login for another."""
    server.paths["/rest/login/root/taosdata"] = [
        login("token"),
        Reply(refusal(3, "Authentication failure"), 401),
        login("token"),
    ]
    conn = await connect(rest_auth="taosd")
    server.answers[READ] = Reply(refusal(0x1125, "no"), 401)
    with pytest.raises(AuthenticationError):
        await conn.fetch(READ)
    assert server.asked(READ) == 1


async def test_many_tasks_and_an_old_token(server, connect):
    guarded.valid = "first"
    guarded(server, ["first", *["second"] * 20])
    conn = await connect(rest_auth="taosd")
    guarded.valid = "second"
    assert await asyncio.gather(*(conn.fetchval("select 1") for _ in range(20))) == [1] * 20


async def test_with_basic_a_401_is_final(server, conn):
    server.answers[READ] = Reply(refusal(0x1105, "no auth info input"), 401)
    with pytest.raises(AuthenticationError):
        await conn.fetch(READ)
    assert server.asked(READ) == 1


async def test_a_password_that_has_no_place_in_a_path(server):
    with pytest.raises(InterfaceError, match="basic") as raised:
        await aiotaos.connect(server.dsn, rest_auth="taosd", password="a/secret")
    assert "secret" not in told(raised.value)
    assert server.requests == []


@pytest.mark.parametrize(
    ("answer", "cls", "code", "status"),
    [
        (Reply(refusal(3, "Authentication failure"), 401), AuthenticationError, 3, 401),
        (Reply(refusal(0x110A, "bad length"), 400), AuthenticationError, 0x110A, 400),
        (Reply(refusal(0xFFFF, "white list"), 403), AuthenticationError, 0xFFFF, 403),
        (Reply(refusal(0xFFFF, "pool is full"), 503), OperationalError, None, 503),
        (html(404), ConnectionError, None, 404),
        (html(502), ConnectionError, None, 502),
        (Reply(b"<html>"), OperationalError, None, None),
        (Reply(b'{"code":0}'), OperationalError, None, None),
        (Reply(b'{"code":0,"desc":5}'), OperationalError, None, None),
        (Reply(b'{"code":0,"desc":"a\\r\\nb"}'), OperationalError, None, None),
        (Reply(b'{"code":0,"desc":"to', cut=5), OperationalError, None, None),
        (Reply(cut=-1), ConnectionError, None, None),
        (html(301, Location="/rest/login/root/taosdata"), ConnectionError, None, 301),
    ],
)
async def test_a_login_that_fails(server, answer, cls, code, status):
    server.paths["/rest/login/root/taosdata"] = answer
    with pytest.raises(cls) as raised:
        await aiotaos.connect(server.dsn, rest_auth="taosd")
    if code is not None:
        assert raised.value.code == code
    if status is not None:
        assert raised.value.http_status == status
    assert "taosdata" not in told(raised.value).replace("/taosdata", "")
    assert all(request.method == "GET" for request in server.requests)


# The current database.


async def test_use_is_sent_and_kept(server, conn):
    assert await conn.execute("use power") == 0
    assert conn.database == "power"
    request = server.request("use power")
    assert request.method == "POST"
    await conn.fetch("select 1")
    assert server.request("select 1").path == "/rest/sql/power"
    await conn.select_db("Water")
    assert conn.database == "Water"
    assert server.asked("use `Water`") == 1
    await conn.fetch("select 1")
    assert server.request("select 1").path == "/rest/sql/Water"
    assert repr(conn) == f"<Connection {server.endpoint}/Water open>"


@pytest.mark.parametrize(
    ("sql", "database"),
    [
        ("USE Power", "power"),
        ("use `Power`", "Power"),
        ("  use\n\tpower  ", "power"),
        ("use power;", "power"),
        ("/* to */ use -- now\n power", "power"),
        ("use `a b`", "a b"),
        ("USE `涛`;", "涛"),
        ("use`power`", "power"),
    ],
)
async def test_forms_of_use(server, conn, sql, database):
    server.answers[sql] = affected(0)
    await conn.execute(sql)
    assert conn.database == database
    await conn.fetch("select 1")
    assert database_of(server.request("select 1")) == database


async def test_use_through_a_cursor_and_a_query(server, conn):
    async with conn.cursor() as cursor:
        await cursor.execute("use water")
    assert conn.database == "water"
    result = await conn.query("use power")
    assert (result.is_update, result.affected_rows) == (True, 0)
    assert conn.database == "power"


async def test_a_missing_database_is_told(server, connect):
    conn = await connect(database="power")
    server.answers["use `nosuch`"] = server.answers["use nosuch"] = refusal(0x0388, "no such")
    for call in (lambda: conn.select_db("nosuch"), lambda: conn.execute("use nosuch")):
        with pytest.raises(ProgrammingError) as raised:
            await call()
        assert raised.value.code == 0x0388
        assert conn.database == "power"
    await conn.fetch("select 1")
    assert server.request("select 1").path == "/rest/sql/power"


async def test_a_use_that_is_cancelled(server, connect):
    conn = await connect(database="power")
    gate = Gate()
    server.answers["use water"] = Reply(affected(0), holds={-1: gate})
    task = asyncio.ensure_future(conn.execute("use water"))
    await gate.reached.wait()
    await cancel(task)
    await conn.fetch("select 1")
    assert server.request("select 1").path == f"/rest/sql/{conn.database}"


async def test_words_that_are_no_use(server, conn):
    for sql in ("select 'use power'", "user power", "insert into use values (1)"):
        server.answers[sql] = affected(0)
        await conn.execute(sql)
        assert conn.database is None


@pytest.mark.parametrize("name", ["", "a`b", 5, None])
async def test_names_that_cannot_be(server, conn, name):
    with pytest.raises(InterfaceError, match="database"):
        await conn.select_db(name)
    assert server.statements == []


@pytest.mark.parametrize("code", [0x0217, 0x2616, 0x0380])
async def test_the_remedy_is_named(server, conn, code):
    server.answers[READ] = refusal(code, "Database not specified")
    with pytest.raises(ProgrammingError) as raised:
        await conn.fetch(READ)
    assert type(raised.value) is ProgrammingError
    assert raised.value.code == code
    assert raised.value.message.startswith("Database not specified")
    assert "select_db" in raised.value.message


# Parameters.


async def test_parameters_become_literals(server, conn):
    expected = (
        r"select * from t where a = 5 and b = 'it\'s \\ ?' and c = NULL and d = true "
        r"and e = 1.5 and f = '\x00ff' and g = '?'"
    )
    server.answers[expected] = integers(1)
    sql = (
        "select * from t where a = ? and b = ? and c = ? and d = ? and e = ? and f = ? and g = '?'"
    )
    params = (5, "it's \\ ?", None, True, 1.5, b"\0\xff")
    assert await conn.fetch(sql, *params) == [(1,)]
    assert await conn.fetchrow(sql, *params) == (1,)
    assert await conn.fetchval(sql, *params) == 1
    result = await conn.query(sql, *params)
    assert await result.fetchall() == [(1,)]
    async with conn.cursor() as cursor:
        await cursor.execute(sql, params)
        assert await cursor.fetchall() == [(1,)]
    assert set(server.statements) == {expected}


async def test_parameters_of_a_write(server, conn):
    server.answers["insert into t values (1, 'a')"] = affected(1)
    assert await conn.execute("insert into t values (?, ?)", 1, "a") == 1
    assert server.statements == ["insert into t values (1, 'a')"]


async def test_instants_as_parameters(server, conn):
    moment = datetime(2024, 3, 1, 8, 0, 0, 500_000, timezone(timedelta(hours=8)))

    async def answer(request):
        (text,) = re.findall(r"'([^']+)'", request.sql)
        assert datetime.fromisoformat(text.replace("Z", "+00:00")) == moment
        return affected(1)

    ordinary = server._ordinary
    server._ordinary = lambda request: (
        answer if request.sql.startswith("insert") else ordinary(request)
    )
    assert await conn.execute("insert into t values (?)", moment) == 1
    assert (
        await conn.execute(
            "insert into t values (?)",
            np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "us"),
        )
        == 1
    )


@pytest.mark.parametrize(
    ("params", "cls"),
    [
        ((1,), StatementError),
        ((1, 2, 3), StatementError),
        ((1, object()), StatementError),
        ((1, float("nan")), DataError),
        ((1, "a\0b"), DataError),
    ],
)
async def test_parameters_that_cannot_be(server, conn, params, cls):
    for sql in ("select ? from t where a = ?", "insert into t values (?, ?)"):
        with pytest.raises(cls):
            await conn.execute(sql, *params)
        with pytest.raises(cls):
            await conn.fetch(sql, *params)
    with pytest.raises(cls):
        await conn.executemany("insert into t values (?, ?)", [(1, 2), params])
    assert server.statements == []


def counting(server):
    """Answer INSERTs with the number of rows in them; gives the rows that came."""
    came = []
    ordinary = server._ordinary

    async def answer(request):
        head, _, tail = request.sql.partition(" values ")
        assert head == "insert into t"
        found = re.findall(r"\(\s*(-?\d+)\s*,\s*'((?:[^'\\]|\\.)*)'\s*\)", tail)
        came.extend((int(number), text) for number, text in found)
        assert re.sub(r"\(\s*-?\d+\s*,\s*'(?:[^'\\]|\\.)*'\s*\)|[\s,]", "", tail) == ""
        return affected(len(found))

    server._ordinary = lambda request: (
        answer if request.body.startswith(b"insert") else ordinary(request)
    )
    return came


async def test_executemany_is_one_insert(server, conn):
    came = counting(server)
    rows = [(1, "a"), (2, "it), (9, 'no"), (3, "")]
    assert await conn.executemany("insert into t values (?, ?)", rows) == 3
    assert came == [(1, "a"), (2, r"it), (9, \'no"), (3, "")]
    assert len(server.statements) == 1


async def test_executemany_of_very_many_rows(server, conn):
    """A statement of more than 1 MiB would be refused by the server."""
    came = counting(server)
    rows = [(number, "涛" * 20) for number in range(40_000)]
    assert await conn.executemany("insert into t values (?, ?)", iter(rows)) == 40_000
    assert came == rows
    assert max(len(sql.encode()) for sql in server.statements) <= 2**20
    assert 2 < len(server.statements) < 100


async def test_executemany_without_rows(server, conn):
    assert await conn.executemany("insert into t values (?, ?)", []) == 0
    assert server.statements == []


async def test_executemany_checks_all_before_it_sends(server, conn):
    counting(server)
    with pytest.raises(DataError):
        await conn.executemany("insert into t values (?, ?)", [(1, "a"), (2, "b\0")])
    with pytest.raises(StatementError):
        await conn.executemany("insert into t values (?, ?)", [(1, "a"), (2,)])
    assert server.statements == []


async def test_executemany_of_other_statements(server, conn):
    server.answers["delete from t where v = 1"] = affected(3)
    server.answers["delete from t where v = 2"] = affected(4)
    assert await conn.executemany("delete from t where v = ?", [(1,), (2,)]) == 7


async def write_with_writer(conn):
    async with conn.writer("t") as writer:
        await writer.write((1, 2))


async def use_official(conn):
    statement = conn.stmt2_statement()
    await statement.prepare(WRITE)


@pytest.mark.parametrize(
    "call",
    [
        lambda conn: conn.prepare("insert into t values (?, ?)"),
        lambda conn: conn.insert("t", [(1, 2)]),
        write_with_writer,
        use_official,
    ],
    ids=["prepare", "insert", "writer", "stmt2_statement"],
)
async def test_what_needs_websocket(server, conn, call):
    with pytest.raises(NotSupportedError, match="ws://") as raised:
        await call(conn)
    assert "WebSocket" in raised.value.message
    assert server.statements == []


# Time zones.


async def test_set_timezone(server, connect):
    text = "2024-07-01T12:00:00.000Z"
    shifted = "2024-07-01T21:00:00.000+09:00"
    conn = await connect(timezone=None)
    await conn.set_timezone("Asia/Tokyo")
    assert conn.timezone == "Asia/Tokyo"
    server.answers[READ] = rows([("ts", "TIMESTAMP", 8)], [[shifted]])
    (moment,) = await conn.fetchrow(READ)
    assert moment.isoformat() == "2024-07-01T21:00:00+09:00"
    assert moment.tzinfo == ZoneInfo("Asia/Tokyo")
    assert server.request(READ).query["conn_tz"] == "Asia/Tokyo"
    await conn.set_timezone(None)
    server.answers[READ] = rows([("ts", "TIMESTAMP", 8)], [[text]])
    (moment,) = await conn.fetchrow(READ)
    assert moment == datetime(2024, 7, 1, 12, tzinfo=UTC)
    assert "conn_tz" not in server.request(READ).query
    with pytest.raises(InterfaceError, match="Nowhere"):
        await conn.set_timezone("Nowhere/Bad")
    assert conn.timezone is None


async def test_instants_are_given_in_the_zone(server, connect):
    """Whatever zone they are written in."""
    conn = await connect(timezone="America/New_York")
    texts = [
        "2024-11-03T01:30:00.000-04:00",
        "2024-11-03T01:30:00.000-05:00",
        "2024-03-10T06:59:59.999Z",
        "2024-03-10T12:30:00.000+05:30",
    ]
    server.answers[READ] = rows([("ts", "TIMESTAMP", 8)], [[text] for text in texts])
    found = [ts for (ts,) in await conn.fetch(READ)]
    assert [ts.isoformat() for ts in found] == [
        "2024-11-03T01:30:00-04:00",
        "2024-11-03T01:30:00-05:00",
        "2024-03-10T01:59:59.999000-05:00",
        "2024-03-10T03:00:00-04:00",
    ]
    assert [ts.fold for ts in found] == [0, 1, 0, 0]
    assert {ts.tzinfo for ts in found} == {ZoneInfo("America/New_York")}


# Schemaless writing.


@pytest.fixture
async def lines_conn(connect):
    return await connect(database="Power", user_app="tests")


NO_CONTENT = Reply(status=204)


async def test_influx_lines(server, lines_conn):
    server.paths["/influxdb/v1/write"] = NO_CONTENT
    await lines_conn.schemaless_insert(
        ["a b=1 1", "涛 b=2 2".encode()],
        SchemalessProtocol.LINE,
        "us",
        ttl=2,
        req_id=77,
        table_name_key="host",
    )
    request = server.requests[-1]
    assert (request.method, request.path) == ("POST", "/influxdb/v1/write")
    assert request.sql == "a b=1 1\n涛 b=2 2"
    query = request.query
    assert query["db"] in ("Power", "`Power`")
    assert query["precision"] in ("u", "μ")  # "us" is none of the server's
    assert (query["ttl"], query["req_id"]) == ("2", "77")
    assert (query["table_name_key"], query["app"]) == ("host", "tests")
    assert not {"u", "p"} & set(query)
    assert request.headers["authorization"] == BASIC


@pytest.mark.parametrize("precision", ["h", "m", "s", "ms", "ns"])
async def test_precisions_of_lines(server, lines_conn, precision):
    server.paths["/influxdb/v1/write"] = NO_CONTENT
    await lines_conn.schemaless_insert("a b=1 1", precision=precision)
    query = server.requests[-1].query
    assert query["precision"] == precision
    assert query.get("ttl", "0") == "0"
    assert "table_name_key" not in query
    assert int(query["req_id"]) > 0


@pytest.mark.parametrize(
    ("protocol", "name", "text"),
    [
        (SchemalessProtocol.TELNET, "telnet", "m 1 1 a=b\nm 2 2 a=b"),
        (SchemalessProtocol.JSON, "json", '{"metric":"m","timestamp":1,"value":1}'),
    ],
)
async def test_opentsdb(server, lines_conn, protocol, name, text):
    ordinary = server._ordinary
    server._ordinary = lambda request: (
        NO_CONTENT if request.path.startswith("/opentsdb") else ordinary(request)
    )
    await lines_conn.schemaless_insert(text, protocol, ttl=3, req_id=9, table_name_key="k")
    request = server.requests[-1]
    assert request.method == "POST"
    head, _, database = request.path.rpartition("/")
    assert head == f"/opentsdb/v1/put/{name}"
    assert unquote(database) in ("Power", "`Power`")
    assert request.sql == text
    assert (request.query["ttl"], request.query["req_id"]) == ("3", "9")
    assert request.query["table_name_key"] == "k"
    assert request.headers["authorization"] == BASIC


async def test_lines_and_other_credentials(server, connect):
    """These endpoints take Basic and Bearer, and not the token of a login."""
    server.paths["/influxdb/v1/write"] = NO_CONTENT
    server.paths["/rest/login/root/taosdata"] = login("token")
    for options, expected in (
        ({"rest_auth": "taosd"}, BASIC),
        ({"bearer_token": "abc"}, "Bearer abc"),
        ({"token": "cloud"}, None),
    ):
        conn = await connect(database="power", **options)
        await conn.schemaless_insert("a b=1 1")
        request = server.requests[-1]
        assert request.path == "/influxdb/v1/write"
        assert request.headers.get("authorization") == expected
        assert request.query.get("token") == options.get("token")


async def test_lines_without_a_database(server, conn):
    for protocol in SchemalessProtocol:
        with pytest.raises(ProgrammingError) as raised:
            await conn.schemaless_insert("a", protocol)
        assert raised.value.code == 0x2616
        assert "select_db" in raised.value.message
    assert len(server.requests) == 1


async def test_lines_of_a_database_of_later(server, conn):
    server.paths["/influxdb/v1/write"] = NO_CONTENT
    await conn.execute("use water")
    await conn.schemaless_insert("a b=1 1")
    assert server.requests[-1].query["db"] in ("water", "`water`")


@pytest.mark.parametrize("protocol", list(SchemalessProtocol))
@pytest.mark.parametrize(
    ("status", "body", "cls", "code"),
    [
        (
            500,
            b'{"code":"internal error","message":"[0x3002] SML line cols is empty"}',
            SchemalessError,
            0x3002,
        ),
        (500, b'{"code":500,"message":"[0x3002] SML line cols is empty"}', SchemalessError, 0x3002),
        (500, b'{"code":500,"message":"[0x21b] SML line cols is empty"}', SchemalessError, 0x021B),
        (
            401,
            b'{"code":"forbidden","message":"SML line cols is empty"}',
            AuthenticationError,
            None,
        ),
        (401, b'{"code":401,"message":"SML line cols is empty"}', AuthenticationError, None),
        (403, b'{"code":403,"message":"SML line cols is empty"}', AuthenticationError, None),
        (404, b"SML line cols is empty", ConnectionError, None),
        (503, b'"SML line cols is empty"', ConnectionError, None),
        (502, b"<html>SML line cols is empty", ConnectionError, None),
    ],
)
async def test_lines_that_are_refused(server, lines_conn, protocol, status, body, cls, code):
    paths = {1: "/influxdb/v1/write", 2: "/opentsdb/v1/put/telnet/", 3: "/opentsdb/v1/put/json/"}
    ordinary = server._ordinary
    server._ordinary = lambda request: (
        Reply(body, status) if request.path.startswith(paths[protocol]) else ordinary(request)
    )
    with pytest.raises(cls, match="SML line cols is empty") as raised:
        await lines_conn.schemaless_insert("broken", protocol, req_id=5)
    assert raised.value.code == code
    assert raised.value.http_status == status
    assert raised.value.req_id == 5


async def test_lines_and_a_lost_connection(server, lines_conn):
    server.paths["/influxdb/v1/write"] = Reply(cut=-1)
    with pytest.raises(ConnectionLost) as raised:
        await lines_conn.schemaless_insert("a b=1 1")
    assert raised.value.may_have_run is True


async def test_lines_that_take_too_long(server, lines_conn):
    gate = Gate()
    server.paths["/influxdb/v1/write"] = Reply(status=204, holds={-1: gate})
    with pytest.raises(aiotaos.TimeoutError) as raised:
        await lines_conn.schemaless_insert("a b=1 1", timeout=0.05)
    assert raised.value.may_have_run is True


# Results.


async def test_a_query_and_its_timing(server, conn):
    gate = Gate()
    body = integers(1, 2, 3, timing=987_654)
    server.answers[READ] = Reply(body, holds={len(body) - 10: gate})
    result = await conn.query(READ)
    assert result.fields == (Field("v", TypeCode.BIGINT, 8),)
    assert result.timing == 0
    gate.open()
    assert await result.fetchall() == [(1,), (2,), (3,)]
    assert result.timing == 987_654
    assert result.row_count == 3


async def test_a_write_and_its_timing(server, conn):
    server.answers[WRITE] = affected(5, timing=1234)
    result = await conn.query(WRITE)
    assert (result.is_update, result.affected_rows, result.timing) == (True, 5, 1234)
    assert result.fields == ()
    assert await result.fetchall() == []


async def test_a_column_of_the_name_affected_rows(server, conn):
    """A query for such a column looks as a write does, but for its type or its rows."""
    body = rows([("affected_rows", "BIGINT", 8)], [[7], [8]])
    server.answers[READ] = body
    assert await conn.fetch(READ) == [(7,), (8,)]
    server.answers[READ] = rows([("affected_rows", "INT", 4), ("v", "INT", 4)], [[7, 8]])
    assert await conn.fetch(READ) == [(7, 8)]


async def test_a_query_without_rows(server, conn):
    server.answers[READ] = rows([("ts", "TIMESTAMP", 8), ("v", "INT", 4)], [])
    result = await conn.query(READ)
    assert [field.name for field in result.fields] == ["ts", "v"]
    assert result.precision is Precision.MILLISECOND
    assert await result.fetchall() == []
    assert result.row_count == 0
    assert await conn.fetchrow(READ) is None
    assert await conn.fetchval(READ) is None
    assert await conn.execute(READ) == 0


async def test_rows_are_handed_out_before_the_last_has_come(server, connect):
    """A block is made as soon as enough of the answer is there."""
    conn = await connect(read_buffer_size=1000)
    body = integers(*range(1_000_000, 1_001_000))
    gate = Gate()
    server.answers[READ] = Reply(body, holds={len(body) - 3000: gate})
    result = await conn.query(READ)
    found = [await result.fetchone(timeout=5) for _ in range(100)]
    assert found == [(1_000_000 + number,) for number in range(100)]
    assert not gate.opened.is_set()
    gate.open()
    assert len(await result.fetchall()) == 900


@pytest.mark.parametrize("size", [1, 7, 100, 5000, 10_000_000])
async def test_sizes_of_blocks(server, connect, size):
    conn = await connect(read_buffer_size=size)
    server.answers[READ] = Reply(integers(*range(2000)), pieces=[700])
    blocks = [block async for block in (await conn.query(READ)).blocks()]
    assert all(map(len, blocks))
    assert [row for block in blocks for row in block.rows()] == [(v,) for v in range(2000)]
    if size <= 5000:
        assert len(blocks) > 1
    assert await conn.fetch(READ) == [(v,) for v in range(2000)]


@pytest.mark.parametrize("name", ["read_buffer_size", "readBufferSize"])
async def test_read_buffer_size_in_the_dsn(server, name):
    """That much is gathered, if it comes quickly, before it is made into a block."""
    body = integers(*range(2000))
    server.answers[READ] = Reply(body, pieces=[100])
    counts = []
    for size in (1, 5000):
        async with aiotaos.connect(f"{server.dsn}&{name}={size}") as conn:
            blocks = [block async for block in (await conn.query(READ)).blocks()]
            assert sum(map(len, blocks)) == 2000
            counts.append(len(blocks))
    assert 1 < counts[1] < counts[0]


async def test_columns_of_blocks(server, conn):
    columns = [("ts", "TIMESTAMP", 8), ("i", "INT", 4), ("f", "FLOAT", 4), ("b", "BOOL", 1)]
    server.answers[READ] = rows(
        columns,
        [
            ["2024-03-01T00:00:00.001Z", 1, 0.5, True],
            [None, None, None, None],
            ["2024-03-01T00:00:00.003Z", -3, -1.5, False],
        ],
    )
    (block,) = [block async for block in (await conn.query(READ)).blocks()]
    values = [column.values for column in block.columns]
    assert [array.dtype for array in values] == ["<i8", "<i4", "<f4", "u1"]
    kept = [0, 2]
    assert values[0][kept].tolist() == [START * 1000 + 1, START * 1000 + 3]
    assert values[1][kept].tolist() == [1, -3]
    assert values[2][kept].tolist() == [0.5, -1.5]
    assert values[3][kept].tolist() == [1, 0]
    for column in block.columns:
        assert column.nulls.tolist() == [False, True, False]
    assert block.rows()[1] == (None, None, None, None)
    server.answers[READ] = rows(columns, [["2024-03-01T00:00:00.001Z", 1, 0.5, True]])
    (block,) = [block async for block in (await conn.query(READ)).blocks()]
    assert [column.nulls for column in block.columns] == [None] * 4


async def test_a_result_is_given_up(server, conn, turns):
    gate = Gate()
    body = integers(*range(100_000))
    server.answers[READ] = Reply(body, holds={600_000: gate})
    result = await conn.query(READ)
    assert await result.fetchone() == (0,)
    await result.aclose()
    with pytest.raises(ResultError, match="closed"):
        await result.fetchone()
    await server.until(lambda: server.open_connections == 0 or server.request(READ).left)
    assert await conn.fetchval("select 1") == 1


async def test_results_that_are_dropped(server, conn):
    """Their connections are not kept for ever."""
    gates = [Gate() for _ in range(5)]
    body = integers(*range(100_000))
    for gate in gates:
        server.answers[READ] = Reply(body, holds={600_000: gate})
        result = await conn.query(READ)
        await gate.reached.wait()
        assert await result.fetchone() == (0,)
        del result
        gc.collect()
    await server.until(lambda: all(r.left for r in server.requests if r.sql == READ))
    assert await conn.fetchval("select 1") == 1


async def test_fetchrow_gives_the_rest_up(server, conn):
    gate = Gate()
    server.answers[READ] = Reply(integers(*range(100_000)), holds={600_000: gate})
    assert await conn.fetchrow(READ, timeout=5) == (0,)
    await server.until(lambda: server.request(READ).left)


async def test_many_statements_at_once(server, conn):
    """The last that was asked is answered first."""
    gates = []
    for number in range(30):
        gates.append(Gate())
        server.answers[f"select {number} from t"] = Reply(
            integers(number, number + 100), holds={-1: gates[-1]}
        )
    tasks = [asyncio.ensure_future(conn.fetch(f"select {number} from t")) for number in range(30)]
    for gate in gates:
        await gate.reached.wait()
    for gate in reversed(gates):
        gate.open()
    assert await asyncio.gather(*tasks) == [[(n,), (n + 100,)] for n in range(30)]


async def test_more_statements_than_a_client_of_http_has_sockets(server, connect):
    conn = await connect()
    gate = Gate()
    server.answers[READ] = Reply(integers(1), holds={-1: gate})
    tasks = [asyncio.ensure_future(conn.fetch(READ)) for _ in range(150)]
    try:
        async with asyncio.timeout(5):
            await server.until(lambda: server.asked(READ) == 150)
    finally:
        gate.open()
        assert await asyncio.gather(*tasks) == [[(1,)]] * 150


async def test_many_results_that_are_not_read(server, connect):
    """They do not hold up other statements."""
    conn = await connect()
    gate = Gate()
    server.answers[READ] = Reply(BIG, holds={600_000: gate})
    results = [await conn.query(READ, timeout=5) for _ in range(99)]
    try:
        assert await conn.fetchval("select 1", timeout=5) == 1
        results += [await conn.query(READ, timeout=5) for _ in range(5)]
        assert await conn.fetchval("select 1", timeout=5) == 1
    finally:
        for result in results:
            await result.aclose()


async def test_a_slow_reader_holds_the_server_up(server, connect):
    """Not more is read than somebody wants to have: the rest waits in the sockets."""
    conn = await connect(read_buffer_size=10_000)
    body = integers(*range(3_000_000))
    gate = Gate()
    server.answers[READ] = Reply(body, holds={20_000_000: gate})
    result = await conn.query(READ)
    assert await result.fetchone() == (0,)
    for _ in range(300):
        await conn.fetchval("select 1")
    assert not gate.reached.is_set()
    await result.aclose()


# Forms of the answer.


SMALL_COLUMNS = [("ts", "TIMESTAMP", 8), ("v", "INT", 4), ("s", "VARCHAR", 50)]
SMALL = rows(
    SMALL_COLUMNS,
    [
        ["2024-03-01T00:00:00.001Z", 1, '],["'],
        [None, None, None],
        ["2024-03-01T00:00:00.003Z", -345, "\\涛}"],
    ],
    timing=12345,
)
SMALL_ROWS = [
    (datetime(2024, 3, 1, 0, 0, 0, 1000, UTC), 1, '],["'),
    (None, None, None),
    (datetime(2024, 3, 1, 0, 0, 0, 3000, UTC), -345, "\\涛}"),
]


@pytest.mark.parametrize("compression", [False, True])
@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
async def test_byte_by_byte(server, connect, framing, compression):
    conn = await connect(compression=compression, read_buffer_size=20)
    server.answers[READ] = Reply(SMALL, framing=framing, pieces=[1])
    result = await conn.query(READ)
    assert await result.fetchall() == SMALL_ROWS
    assert result.timing == 12345
    assert await conn.fetch(READ) == SMALL_ROWS


@pytest.mark.parametrize("seed", range(12))
async def test_in_pieces_by_chance(server, connect, seed):
    chance = random.Random(seed)
    columns = [("ts", "TIMESTAMP", 8), ("s", "VARCHAR", 99), ("n", "NCHAR", 99), ("d", "DOUBLE", 8)]
    data = [
        [
            f"2024-03-01T00:00:{chance.randrange(60):02}.{chance.randrange(1000):03}Z",
            *(chance.choice([*TEXTS, None]) for _ in range(2)),
            chance.choice([None, chance.uniform(-1e9, 1e9), chance.uniform(-1e-9, 1e-9)]),
        ]
        for _ in range(chance.randrange(1, 80))
    ]
    body = rows(columns, data)
    sizes = []
    while sum(sizes) < len(body):
        sizes.append(chance.choice([1, 2, 3, 10, 50, 500, 5000]))
    conn = await connect(read_buffer_size=chance.choice([1, 64, 1000, 262144]))
    server.answers[READ] = Reply(body, pieces=sizes, framing=chance.choice(["chunked", "length"]))
    found = await conn.fetch(READ)
    assert [row[1:] for row in found] == [tuple(row[1:]) for row in data]
    assert [row[0] for row in found] == [datetime.fromisoformat(row[0]) for row in data]


@pytest.mark.parametrize("is_ascii", [False, True])
@pytest.mark.parametrize("type", ["VARCHAR", "NCHAR"])
async def test_texts(server, connect, type, is_ascii):
    meta = [["s", type, 99], ["i", "INT", 4]]
    value = {"code": 0, "column_meta": meta, "data": [[s, i] for i, s in enumerate(TEXTS)]}
    text = json.dumps(value | {"rows": len(TEXTS)}, ensure_ascii=is_ascii)
    server.answers[READ] = text.encode()
    for size in (1, 262144):
        conn = await connect(read_buffer_size=size)
        assert await conn.fetch(READ) == [(s, i) for i, s in enumerate(TEXTS)]


async def test_names_of_columns(server, conn):
    columns = [(text, "INT", 4) for text in TEXTS]
    server.answers[READ] = rows(columns, [range(len(TEXTS)), [None] * len(TEXTS)])
    result = await conn.query(READ)
    assert [field.name for field in result.fields] == TEXTS
    assert await result.fetchall() == [tuple(range(len(TEXTS))), (None,) * len(TEXTS)]


@pytest.mark.parametrize("with_objects", [False, True])
@pytest.mark.parametrize(
    "style",
    [
        {"indent": 2},
        {"indent": "\t"},
        {"separators": (" , ", " : ")},
        {"separators": (",\r\n", ":")},
        {"separators": (",", ":")},
    ],
)
async def test_white_space(server, connect, style, with_objects):
    data = [[text, index, None] for index, text in enumerate(TEXTS)]
    names = ["s", "i", "d"]
    value = {
        "code": 0,
        "column_meta": [["s", "VARCHAR", 99], ["i", "INT", 4], ["d", "DOUBLE", 8]],
        "data": [dict(zip(names, row, strict=True)) for row in data] if with_objects else data,
        "rows": len(data),
        "timing": 55,
    }
    body = f"\n {json.dumps(value, **style)} \r\n\t".encode()
    for size in (1, 200, 262144):
        conn = await connect(read_buffer_size=size)
        server.answers[READ] = Reply(body, pieces=[1] if size == 1 else [33, 500])
        result = await conn.query(READ)
        assert await result.fetchall() == [tuple(row) for row in data]
        assert result.timing == 55


async def test_white_space_and_no_rows(server, conn):
    server.answers[READ] = (
        b'{ "code" : 0 , "column_meta" : [ [ "v" , "INT" , 4 ] ] , "data" : [ ] , "rows" : 0 }'
    )
    assert await conn.fetch(READ) == []


async def test_rows_as_objects(server, conn):
    """With names that have signs in them."""
    server.answers[READ] = (
        b'{"code":0,"column_meta":[["1","BIGINT",8],["\'],[\'","VARCHAR",3],["}","BIGINT",8]],'
        b'"data":[{"1":1,"\'],[\'":"],[","}":3},{"1":null,"\'],[\'":null,"}":null}],"rows":2}'
    )
    assert await conn.fetch(READ) == [(1, "],[", 3), (None, None, None)]


async def test_rows_as_objects_with_equal_names(server, conn):
    """As of ``select 1, 'a', 1``: JSON keeps one of two, which ends the reading at least."""
    server.answers[READ] = (
        b'{"code":0,"column_meta":[["1","BIGINT",8],["\'a\'","VARCHAR",1],["1","BIGINT",8]],'
        b'"data":[{"1":1,"\'a\'":"a","1":1},{"1":2,"\'a\'":null,"1":3}],"rows":2}'
    )
    with pytest.raises(ProtocolError, match="expected rows as objects of 1, 'a', 1"):
        await conn.fetch(READ)


async def test_varchar_that_is_not_utf8(server, connect):
    meta = b'{"code":0,"column_meta":[["s","VARCHAR",9],["i","INT",4]],"data":['
    server.answers[READ] = Reply(
        meta
        + b'["\xff\xfe],[\\n",1],["\xe6\xb6\x9b",2],["\xe6\xb6",3],[null,4],["\xe6\xb6\x9b\x80",5]'
        + b',["\xed\xa0\x80",6],["\xc3\\"\xc3",7]],"rows":7}'
    )
    for size in (1, 262144):
        conn = await connect(read_buffer_size=size)
        found = await conn.fetch(READ)
        assert [i for _, i in found] == [1, 2, 3, 4, 5, 6, 7]
        assert [s and s.encode("utf-8", "surrogateescape") for s, _ in found] == [
            *(b"\xff\xfe],[\n", "涛".encode(), b"\xe6\xb6", None, "涛".encode() + b"\x80"),
            *(b"\xed\xa0\x80", b'\xc3"\xc3'),
        ]


async def test_bytes_that_are_not_utf8_and_escapes(server, conn):
    """What stands for bytes meanwhile must not be taken for a character that is really there."""
    codes = [0xF0000, 0xF0080, 0xFFF00, 0xE000, 0x10FFFF, 0xF807F, 0xDC80 - 0xD800 + 0x10000]
    texts = "".join(map(chr, codes))
    escaped = json.dumps(texts).encode()
    server.answers[READ] = Reply(
        b'{"code":0,"column_meta":[["s","VARCHAR",99],["n","NCHAR",99]],"data":[["\xff",%b],[%b,"a"]],'
        b'"rows":2}' % (escaped, dumps(texts).encode())
    )
    with contextlib.suppress(ProtocolError):  # it may be refused, too
        assert await conn.fetch(READ) == [("\udcff", texts), (texts, "a")]


async def test_a_name_that_is_not_utf8(server, conn):
    """TDengine cuts names after 64 bytes, also in the middle of a character."""
    server.answers[READ] = (
        b'{"code":0,"column_meta":[["\'a\xe6\xb6\x9b\xe6\xb6","INT",4]],"data":[[5]],"rows":1}'
    )
    result = await conn.query(READ)
    assert result.fields[0].name.startswith("'a涛")
    assert await result.fetchall() == [(5,)]


async def test_a_refusal_that_is_not_utf8(server, conn):
    server.answers[READ] = b'{"code":9728,"desc":"syntax error near \\"\xe6\xb6\\"","timing":1}'
    with pytest.raises(ProgrammingError, match="syntax error near") as raised:
        await conn.fetch(READ)
    assert raised.value.code == 0x2600


async def test_numbers(server, conn):
    columns = [
        *(("u8", "BIGINT UNSIGNED", 8), ("i8", "BIGINT", 8), ("f4", "FLOAT", 4)),
        ("f8", "DOUBLE", 8),
    ]
    meta = dumps(columns)
    server.answers[READ] = (
        '{"code":0,"column_meta":' + meta + ',"data":['
        "[18446744073709551615,-9223372036854775808,0.1,0.1],"
        "[9223372036854775808,9223372036854775807,3.4028235e+38,1.7976931348623157e+308],"
        "[0,0,-0,-0],"
        "[9007199254740993,9007199254740993,16777216,1e+21],"
        "[1,-1,1e-07,5e-324],"
        "[2,-2,2,9007199254740993]"
        '],"rows":6}'
    ).encode()
    assert typed(await conn.fetch(READ)) == typed(
        [
            (2**64 - 1, -(2**63), float(np.float32("0.1")), 0.1),
            (2**63, 2**63 - 1, float(np.float32("3.4028235e38")), 1.7976931348623157e308),
            (0, 0, -0.0, -0.0),
            (9007199254740993, 9007199254740993, 16777216.0, 1e21),
            (1, -1, float(np.float32("1e-7")), 5e-324),
            (2, -2, 2.0, 9007199254740992.0),
        ]
    )


async def test_every_other_type(server, conn):
    columns = [
        ("b", "BOOL", 1),
        ("u1", "TINYINT UNSIGNED", 1),
        ("vb", "VARBINARY", 9),
        ("g", "GEOMETRY", 99),
        ("x", "BLOB", 4194304),
        ("j", "JSON", 4095),
        ("d", "DECIMAL(10,3)", 8),
        ("e", "DECIMAL(38,0)", 16),
        ("n", "NULL", 0),
    ]
    nines = "9" * 38
    server.answers[READ] = rows(
        columns,
        [
            [True, 255, "00ff", "0101", "", {"a": '],["'}, "-0.010", nines, None],
            [False, 0, "", "", "a5" * 9000, "text", "1234567.000", f"-{nines}", None],
            [None] * 9,
        ],
    )
    result = await conn.query(READ)
    assert [field.type for field in result.fields] == [
        *(TypeCode.BOOL, TypeCode.UTINYINT, TypeCode.VARBINARY, TypeCode.GEOMETRY),
        *(TypeCode.BLOB, TypeCode.JSON, TypeCode.DECIMAL64, TypeCode.DECIMAL, TypeCode.NULL),
    ]
    assert typed(await result.fetchall()) == typed(
        [
            (
                *(True, 255, b"\0\xff", b"\1\1", b"", '{"a":"],[\\""}'),
                *(Decimal("-0.010"), Decimal(nines), None),
            ),
            (
                *(False, 0, b"", b"", b"\xa5" * 9000, '"text"'),
                *(Decimal("1234567.000"), Decimal(f"-{nines}"), None),
            ),
            (None,) * 9,
        ]
    )


async def test_documents(server, connect):
    """JSON may have all in it that an answer has."""
    documents = [
        {"data": [[1], [2]], "rows": 3},
        {"a": {"b": [1, {"c": "]}"}]}, "d": "\\"},
        [],
        [[], [[]], {}],
        "],[",
        1.5,
        True,
        None,
        {},
    ]
    server.answers[READ] = rows(
        [("j", "JSON", 4095), ("i", "INT", 4)], [[one, i] for i, one in enumerate(documents)]
    )
    body = server.answers[READ]
    for size, sizes in ((262144, []), (1, []), (1, [1]), (1, [40])):
        server.answers[READ] = Reply(body, pieces=sizes)
        conn = await connect(read_buffer_size=size)
        found = await conn.fetch(READ)
        assert [i for _, i in found] == list(range(len(documents)))
        assert [s if s is None else json.loads(s) for s, _ in found] == documents


INSTANTS = {
    "2024-03-01T00:00:00.001Z": ("ms", START * 10**3 + 1),
    "2024-03-01T00:00:00.000001Z": ("us", START * 10**6 + 1),
    "2024-03-01T00:00:00.000000001Z": ("ns", START * 10**9 + 1),
    "2024-03-01T08:00:00.001+08:00": ("ms", START * 10**3 + 1),
    "2024-02-29T18:29:59.999-05:30": ("ms", START * 10**3 - 1),
    "2024-02-29T12:00:00.000-12:00": ("ms", START * 10**3),
    "2024-03-01T14:00:00.000+14:00": ("ms", START * 10**3),
    "1970-01-01T00:00:00.000Z": ("ms", 0),
    "1969-12-31T23:59:59.999Z": ("ms", -1),
    "1969-12-31T23:59:59.999999999Z": ("ns", -1),
    "1900-02-28T23:59:59.999Z": ("ms", -2203891200001),
    "2000-02-29T00:00:00.000Z": ("ms", 951782400000),
    "0001-01-01T00:00:00.000Z": ("ms", -62135596800000),
    "9999-12-31T23:59:59.999Z": ("ms", 253402300799999),
    "0000-01-01T00:00:00.000Z": ("ms", -62167219200000),
    "-0001-01-01T00:00:00.000Z": ("ms", -62198755200000),
    "10000-01-01T00:00:00.000Z": ("ms", 253402300800000),
    "292278994-08-17T07:12:55.807Z": ("ms", 2**63 - 1),
    "-292275055-05-16T16:47:04.192Z": ("ms", -(2**63)),
    "294247-01-10T04:00:54.775807Z": ("us", 2**63 - 1),
    "-290308-12-21T19:59:05.224192Z": ("us", -(2**63)),
    "2262-04-11T23:47:16.854775807Z": ("ns", 2**63 - 1),
    "1677-09-21T00:12:43.145224192Z": ("ns", -(2**63)),
    "2262-04-12T07:47:16.854775807+08:00": ("ns", 2**63 - 1),
}


@pytest.mark.parametrize("text", INSTANTS)
async def test_instants(server, connect, text):
    unit, ticks = INSTANTS[text]
    conn = await connect(timestamp="int")
    server.answers[READ] = rows([("ts", "TIMESTAMP", 8)], [[text], [None], [text]])
    result = await conn.query(READ)
    assert result.precision.unit == unit
    assert await result.fetchall() == [(ticks,), (None,), (ticks,)]


async def test_instants_of_all_shapes_in_one_column(server, connect):
    conn = await connect(timestamp="int")
    known = {text: ticks for text, (unit, ticks) in INSTANTS.items() if unit == "ms"}
    server.answers[READ] = rows([("ts", "TIMESTAMP", 8)], [[text] for text in known])
    assert await conn.fetch(READ) == [(ticks,) for ticks in known.values()]


async def test_a_precision_that_is_told_late(server, connect):
    """The first columns and rows are NULL; the first instant comes in a later block."""
    columns = [("a", "TIMESTAMP", 8), ("v", "INT", 4), ("b", "TIMESTAMP", 8)]
    late = [[None, 1, None]] * 3000 + [[None, 2, "2024-03-01T00:00:00.000000001Z"]]
    expected = [(None, 1, None)] * 3000 + [(None, 2, START * 10**9 + 1)]
    server.answers[READ] = rows(columns, late)
    for size in (100, 262144):
        conn = await connect(read_buffer_size=size, timestamp="int")
        assert await conn.fetch(READ) == expected
        result = await conn.query(READ)
        assert [row async for row in result] == expected
        assert result.precision is Precision.NANOSECOND
    conn = await connect(read_buffer_size=100, timestamp="datetime64")
    found = await conn.fetch(READ)
    assert typed(found[-1:]) == typed([(None, 2, np.datetime64(START * 10**9 + 1, "ns"))])


async def test_a_long_row(server, connect):
    """A BLOB of 4 MiB is longer than what is gathered at a time."""
    blob = bytes(range(256)) * 2**14
    server.answers[READ] = rows([("x", "BLOB", 4194304)], [[blob.hex()], [None], [blob.hex()]])
    conn = await connect(read_buffer_size=1000)
    assert await conn.fetch(READ) == [(blob,), (None,), (blob,)]


@pytest.mark.parametrize(
    "start",
    [
        b'{"code":0,"column_meta":[["s","VARCHAR",9]],"data":[["',
        b'{"code":0,"column_meta":[["s","VARCHAR",9]],"data":[["a"],["',
        b'{"code":0,"column_meta":[["',
        b'{"code":0,"column_meta":[["s","VARCHAR",9]],"data":[["a"]],"rows":1,"timing":',
        b'{"code":9728,"desc":"',
        b"[" * 1000,
        b"",
    ],
    ids=["row", "second row", "head", "tail", "refusal", "nesting", "spaces"],
)
async def test_what_has_no_end(server, conn, start):
    """Not more than 64 MiB of a head or of one row are taken."""
    filler = {b"[": b"[", b"": b" "}.get(start[-1:], b"1" if start[-1:] == b":" else b"x")
    server.answers[READ] = Reply(start + filler * (65 << 20))
    with pytest.raises(ProtocolError) as raised:
        await conn.fetch(READ)
    assert raised.value.http_status == 200
    assert len(raised.value.message) < 1000


# Bad answers.


BAD_STATUS = [
    (Reply(status=401), AuthenticationError, None, "401"),
    (html(401), AuthenticationError, None, "nginx says no"),
    (Reply(refusal(0x1105, "no auth info input"), 401), AuthenticationError, 0x1105, "no auth"),
    (Reply(refusal(0x0357, "wrong"), 401), AuthenticationError, 0x0357, "wrong"),
    (Reply(refusal(3, "Authentication failure"), 401), AuthenticationError, 3, "failure"),
    (Reply(status=403), AuthenticationError, None, "403"),
    (html(403), AuthenticationError, None, "nginx says no"),
    (Reply(refusal(0xFFFF, "whitelist"), 403), AuthenticationError, 0xFFFF, "whitelist"),
    *(
        (html(s, Location="http://elsewhere/"), ConnectionError, None, f"HTTP status {s}: the serv")
        for s in (301, 302, 303, 307, 308)
    ),
    (Reply(status=301), ConnectionError, None, "https://"),
    (Reply(refusal(0x2600, "syntax error near"), 400), ProgrammingError, 0x2600, "syntax error"),
    (Reply(refusal(0x0216, "syntax", timing=None), 400), ProgrammingError, 0x0216, "syntax"),
    (Reply(refusal(0x1107, "no sql input"), 400), ProgrammingError, 0x1107, "no sql input"),
    (Reply(refusal(0x0388, "not exist"), 500), ProgrammingError, 0x0388, "not exist"),
    (Reply(refusal(0x0603, "exists"), 500), IntegrityError, 0x0603, "exists"),
    (Reply(refusal(0x060B, "range"), 400), DataError, 0x060B, "range"),
    (Reply(refusal(0x000B, "Unable"), 502), OperationalError, 0x000B, "Unable"),
    (Reply(refusal(0xFFFF, "queue full"), 503), OperationalError, 0xFFFF, "queue full"),
    (Reply(b'{"code":"bad","message":"no"}', 400), ConnectionError, None, "no"),
    (Reply(b'{"status":"down"}', 500), ConnectionError, None, "down"),
    (Reply(b'{"code":0,"desc":"fine"}', 500), ConnectionError, None, "fine"),
    (Reply(b'"memory exceeds threshold"', 503), ConnectionError, None, "memory exceeds threshold"),
    (Reply(b"404 page not found", 404), ConnectionError, None, "404 page not found"),
    *((html(status), ConnectionError, None, "nginx says no") for status in (404, 405, 413, 429)),
    *((html(status), ConnectionError, None, "nginx says no") for status in (500, 502, 503, 504)),
    *((Reply(status=status), ConnectionError, None, str(status)) for status in (404, 500, 503)),
    (Reply(b'{"code":9728,"desc":"cut', 500), ConnectionError, None, "cut"),
    (Reply(b"\xff\xfe\0", 502), ConnectionError, None, "502"),
    (Reply(integers(1), 500), ConnectionError, None, "500"),
]


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
@pytest.mark.parametrize(("reply", "cls", "code", "text"), BAD_STATUS)
async def test_bad_statuses(server, conn, reply, cls, code, text, framing):
    reply = Reply(reply.body, reply.status, reply.headers, framing=framing)
    server.answers[READ] = server.answers[WRITE] = reply
    for call, sql in ((conn.fetch, READ), (conn.query, READ), (conn.execute, WRITE)):
        with pytest.raises(cls) as raised:
            await call(sql, req_id=42)
        error = raised.value
        assert type(error) is cls
        assert (error.code, error.http_status) == (code, reply.status)
        assert text in error.message
        assert (error.req_id, error.endpoint, error.sql) == (42, server.endpoint, sql)
        assert server.asked(sql) == sum(request.sql == sql for request in server.requests)
        assert await conn.fetchval("select 1") == 1


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("120", 120.0), ("0", 0.0), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("-5", None), ("", None)],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_when_to_ask_again(server, conn, status, header, seconds):
    server.answers[WRITE] = html(status, **{"Retry-After": header})
    with pytest.raises(ConnectionError) as raised:
        await conn.execute(WRITE)
    assert raised.value.retry_after == seconds


@pytest.mark.parametrize("status", [200, 502])
async def test_not_much_of_the_body_is_told(server, conn, status):
    server.answers[READ] = Reply(b"x" * 100_000, status)
    with pytest.raises(DatabaseError) as raised:
        await conn.fetch(READ)
    found = max(map(len, re.findall("x+", raised.value.message)))
    assert 50 <= found <= 200


def whole(data, columns=V, rows=None, **more):
    """A body of 200 whose data is given as JSON."""
    count = data.count(b"],[") + 1 if rows is None else rows
    return b'{"code":0,"column_meta":%b,"data":%b,"rows":%d}' % (
        dumps(columns).encode(),
        data,
        count,
    )


def column(type, length=8):
    return [("a", type, length)]


NOT_EXPECTED = {
    "html": b"<html>welcome</html>",
    "nothing": b"",
    "space": b"  ",
    "null": b"null",
    "a number": b"5",
    "a string": b'"memory exceeds threshold"',
    "a list": b"[]",
    "an empty object": b"{}",
    "code alone": b'{"code":0}',
    "code is text": b'{"code":"0","column_meta":[["v","BIGINT",8]],"data":[[1]],"rows":1}',
    "code is a fraction": b'{"code":0.5,"column_meta":[["v","BIGINT",8]],"data":[[1]],"rows":1}',
    "code is null": b'{"code":null,"column_meta":[["v","BIGINT",8]],"data":[[1]],"rows":1}',
    "no columns": b'{"code":0,"data":[[1]],"rows":1}',
    "columns are null": b'{"code":0,"column_meta":null,"data":[[1]],"rows":1}',
    "columns are text": b'{"code":0,"column_meta":"v","data":[[1]],"rows":1}',
    "a column is text": b'{"code":0,"column_meta":["v"],"data":[[1]],"rows":1}',
    "a column is short": b'{"code":0,"column_meta":[["v","BIGINT"]],"data":[[1]],"rows":1}',
    "a length is text": b'{"code":0,"column_meta":[["v","BIGINT","8"]],"data":[[1]],"rows":1}',
    "a name is null": b'{"code":0,"column_meta":[[null,"BIGINT",8]],"data":[[1]],"rows":1}',
    "unknown type": whole(b"[[1]]", column("HUGEINT")),
    "unknown decimal": whole(b'[["1"]]', column("DECIMAL(x,y)")),
    "no data": b'{"code":0,"column_meta":[["v","BIGINT",8]],"rows":1}',
    "data is null": b'{"code":0,"column_meta":[["v","BIGINT",8]],"data":null,"rows":1}',
    "data is an object": b'{"code":0,"column_meta":[["v","BIGINT",8]],"data":{"v":1},"rows":1}',
    "rows is text": b'{"code":0,"column_meta":[["v","BIGINT",8]],"data":[[1]],"rows":"1"}',
    "fewer rows": whole(b"[[1],[2]]", rows=3),
    "more rows": whole(b"[[1],[2]]", rows=1),
    "rows of none": whole(b"[]", rows=1),
    "none of one row": whole(b"[[1]]", rows=0),
    "a short row": whole(b"[[1],[]]"),
    "a long row": whole(b"[[1],[2,3]]", rows=2),
    "a row of one column too few": whole(b"[[1,2],[3]]", [*V, *V], rows=2),
    "rows that are even in sum": whole(b"[[1,2,3],[4]]", [*V, *V], rows=2),
    "a row is a number": whole(b"[1]"),
    "a row is null": whole(b"[[1],null]", rows=2),
    "a row is text": whole(b'[[1],"[2]"]', rows=2),
    "an object lacks a key": whole(b'[{"w":1}]'),
    "an empty object as row": whole(b"[{}]"),
    "an object has more keys": whole(b'[{"v":1,"w":2}]'),
    "garbage behind it": integers(1) + b"x",
    "another document behind it": integers(1) + integers(2),
    "garbage between rows": whole(b"[[1]x[2]]", rows=2),
    "no comma": whole(b"[[1][2]]", rows=2),
    "two commas": whole(b"[[1],,[2]]", rows=2),
    "a comma at the end": whole(b"[[1],[2],]", rows=2),
    "a comma at the beginning": whole(b"[,[1]]"),
    "a comma in a row": whole(b"[[1,]]"),
    "a value without quotes": whole(b"[[abc]]", column("VARCHAR")),
    "a line break in a text": whole(b'[["a\nb"]]', column("VARCHAR")),
    "an unknown escape": whole(b'[["a\\qb"]]', column("VARCHAR")),
    "an escape that is cut off": whole(b'[["a\\u12"]]', column("VARCHAR")),
    "NaN": whole(b"[[NaN]]", column("DOUBLE")),
    "Infinity": whole(b"[[-Infinity]]", column("DOUBLE")),
    "a number with a zero": whole(b"[[01]]"),
    "a number with a plus": whole(b"[[+1]]"),
    "single quotes": whole(b"[['a']]", column("VARCHAR")),
}
WRONG_VALUES = {
    "BOOL": [b"5", b'"true"', b"0.5", b"[]", b"{}"],
    "TINYINT": [b"128", b"-129", b"1.5", b'"1"', b"true", b"[1]", b"1e2"],
    "SMALLINT": [b"32768", b'"a"', b"false"],
    "INT": [b"2147483648", b"-2147483649", b"{}"],
    "BIGINT": [b"9223372036854775808", b"-9223372036854775809", b"1.5", b'"1"', b"true"],
    "TINYINT UNSIGNED": [b"-1", b"256"],
    "INT UNSIGNED": [b"-1", b"4294967296"],
    "BIGINT UNSIGNED": [b"-1", b"18446744073709551616", b'"18446744073709551615"'],
    "FLOAT": [b'"1.5"', b"true", b"[1.5]"],
    "DOUBLE": [b'"1.5"', b"true", b"{}"],
    "VARCHAR": [b"5", b"true", b'["a"]', b'{"a":1}'],
    "NCHAR": [b"5", b"true", b'["a"]'],
    "TIMESTAMP": [
        *(b"1709251200000", b'""', b'"now"', b'"2024-03-01"', b'"2024-03-01 00:00:00.000"'),
        *(b'"2024-13-01T00:00:00.000Z"', b'"2024-02-30T00:00:00.000Z"', b'"2024-03-01T25:00:00Z"'),
        *(b'"2024-03-01T00:60:00.000Z"', b'"2024-03-01T00:00:00.000"', b"true"),
        *(b'"2024-03-01T00:00:00.000+0800"', b'"2024-03-01T00:00:00.000Zx"'),
        *(b'"2024-03-01T00:00:00.0000000001Z"', b'"2024-0\xc2\xb2-01T00:00:00.000Z"'),
        *(b'"2024-03-01T00:00:00.00\xff0Z"', b'"999999999999-01-01T00:00:00.000Z"'),
    ],
    "VARBINARY": [b'"zz"', b'"0"', b'"0x00"', b'" 00"', b"5", b'"\xc3\xa9\xc3\xa9"'],
    "GEOMETRY": [b'"zz"', b'"0 1"'],
    "BLOB": [b'"zz"', b'"0"', b"[]"],
    "DECIMAL(10,3)": [
        *(b'"abc"', b'""', b"[]", b"true", b'"1.2345"', b'"12345678.000"', b'"NaN"', b'"Infinity"'),
        *(b'"--1.000"', b'"1.000x"'),
    ],
}


def check_not_expected(error):
    assert type(error) is ProtocolError
    assert error.http_status == 200
    assert error.code is None
    assert error.req_id == 42


@pytest.mark.parametrize("size", [1, 262144])
@pytest.mark.parametrize("name", NOT_EXPECTED)
async def test_not_the_json_that_was_expected(server, connect, name, size):
    conn = await connect(read_buffer_size=size)
    body = NOT_EXPECTED[name]
    server.answers[READ] = Reply(body, framing="length")
    with pytest.raises(ProtocolError) as raised:
        await conn.fetch(READ, req_id=42)
    check_not_expected(raised.value)
    assert body[:20].decode().strip() in raised.value.message
    server.answers[READ] = Reply(body, pieces=[1])
    with pytest.raises(ProtocolError) as raised:
        await conn.fetch(READ, req_id=42)
    check_not_expected(raised.value)


@pytest.mark.parametrize("type", WRONG_VALUES)
async def test_values_of_a_wrong_type(server, conn, type):
    good = {
        "BOOL": b"true",
        "TIMESTAMP": b'"2024-03-01T00:00:00.000Z"',
        "DECIMAL(10,3)": b'"1.000"',
    }
    fine = good.get(
        type, b'"00"' if type in ("VARBINARY", "GEOMETRY", "BLOB", "VARCHAR", "NCHAR") else b"1"
    )
    server.answers[READ] = whole(b"[[%b],[null],[%b]]" % (fine, fine), column(type), rows=3)
    assert len(await conn.fetch(READ)) == 3
    taken = []
    for value in WRONG_VALUES[type]:
        for data in (b"[[%b]]" % value, b"[[%b],[%b]]" % (fine, value), b"[[null],[%b]]" % value):
            server.answers[READ] = whole(data, column(type))
            try:
                found = await conn.fetch(READ, req_id=42)
            except ProtocolError as error:
                check_not_expected(error)
            else:
                taken.append((data, found))
    assert taken == []


async def test_a_write_that_is_answered_with_nonsense(server, conn):
    for body in (
        b"<html>",
        affected(1)[:-3],
        b'{"code":0}',
        b"",
        whole(b'[["1"]]', [("affected_rows", "INT", 4)]),
    ):
        server.answers[WRITE] = body
        with pytest.raises(ProtocolError) as raised:
            await conn.execute(WRITE, req_id=42)
        check_not_expected(raised.value)


async def read_all(conn, collected):
    async for row in await conn.query(READ, req_id=42):
        collected.append(row)


@pytest.mark.parametrize("size", [1, 60, 262144])
@pytest.mark.parametrize("framing", ["chunked", "length"])
async def test_lost_at_every_byte(server, connect, framing, size):
    """Not all of the body comes; what was read before is right."""
    conn = await connect(read_buffer_size=size)
    for cut in range(-1, len(SMALL)):
        server.answers[READ] = Reply(SMALL, framing=framing, cut=cut)
        with pytest.raises(ConnectionLost) as raised:
            await conn.fetch(READ, req_id=42)
        assert (raised.value.req_id, raised.value.sql) == (42, READ), cut
        collected = []
        with pytest.raises(ConnectionLost):
            await read_all(conn, collected)
        assert collected == SMALL_ROWS[: len(collected)], cut
    server.answers[READ] = Reply(SMALL, framing=framing)
    assert await conn.fetch(READ) == SMALL_ROWS


@pytest.mark.parametrize("size", [1, 60, 262144])
async def test_reset_at_some_bytes(server, connect, size):
    conn = await connect(read_buffer_size=size)
    for cut in range(-1, len(SMALL), 7):
        server.answers[READ] = Reply(SMALL, cut=cut, reset=True)
        with pytest.raises(ConnectionLost):
            await conn.fetch(READ)


@pytest.mark.parametrize("size", [1, 60, 262144])
@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
async def test_a_document_that_ends_at_every_byte(server, connect, framing, size):
    """All of HTTP is as it should be."""
    conn = await connect(read_buffer_size=size)
    for end in range(len(SMALL)):
        server.answers[READ] = Reply(SMALL[:end], framing=framing)
        with pytest.raises(ProtocolError) as raised:
            await conn.fetch(READ, req_id=42)
        check_not_expected(raised.value)
        collected = []
        with pytest.raises(ProtocolError) as raised:
            await read_all(conn, collected)
        check_not_expected(raised.value)
        assert collected == SMALL_ROWS[: len(collected)], end
    server.answers[READ] = Reply(SMALL, framing=framing)
    assert await conn.fetch(READ) == SMALL_ROWS


@pytest.mark.parametrize("body", [refusal(0x2600, "no"), affected(3)])
async def test_short_answers_that_end_at_every_byte(server, conn, body):
    for end in range(len(body)):
        server.answers[WRITE] = Reply(body[:end])
        with pytest.raises(ProtocolError) as raised:
            await conn.execute(WRITE, req_id=42)
        check_not_expected(raised.value)
        server.answers[WRITE] = Reply(body, cut=end)
        with pytest.raises(ConnectionLost) as raised:
            await conn.execute(WRITE, req_id=42)
        assert raised.value.may_have_run is True


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(
    SMALL
)


async def test_heads_that_end_at_every_byte(server, conn):
    for end in range(len(HEAD)):
        server.answers[READ] = Reply(raw=HEAD[:end])
        with pytest.raises(ConnectionError):
            await conn.fetch(READ)
    server.answers[READ] = Reply(raw=HEAD + SMALL)
    assert await conn.fetch(READ) == SMALL_ROWS


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"\0" * 100,
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    ],
)
async def test_no_http(server, conn, raw):
    server.answers[READ] = server.answers[WRITE] = Reply(raw=raw)
    with pytest.raises(OperationalError) as raised:
        await conn.fetch(READ, req_id=42)
    assert isinstance(raised.value, (ConnectionError, ProtocolError))
    assert (raised.value.req_id, raised.value.endpoint) == (42, server.endpoint)
    with pytest.raises(OperationalError) as raised:
        await conn.execute(WRITE)
    assert raised.value.may_have_run is not False


# What is repeated.


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_reads_are_repeated(server, connect, status):
    conn = await connect(**QUICK)
    server.answers[READ] = [html(status), html(status), integers(1)]
    assert await conn.fetch(READ) == [(1,)]
    assert server.asked(READ) == 3


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_reads_are_repeated_as_often_as_is_allowed(server, connect, status):
    conn = await connect(**QUICK)
    server.answers[READ] = html(status)
    with pytest.raises(ConnectionError) as raised:
        await conn.fetch(READ)
    assert raised.value.http_status == status
    assert server.asked(READ) == 1 + QUICK["conn_retries"]


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_writes_are_not_repeated(server, connect, status):
    conn = await connect(**QUICK)
    server.answers[WRITE] = [html(status), affected(1)]
    with pytest.raises(ConnectionError):
        await conn.execute(WRITE)
    assert server.asked(WRITE) == 1


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 413])
async def test_other_statuses_are_final(server, connect, status):
    conn = await connect(**QUICK, retry_writes=True)
    server.answers[READ] = server.answers[WRITE] = html(status)
    for call in (conn.fetch(READ), conn.execute(WRITE)):
        with pytest.raises(ConnectionError):
            await call
    assert (server.asked(READ), server.asked(WRITE)) == (1, 1)


@pytest.mark.parametrize("cut", [-1, 0, 5, 40, len(SMALL) - 1])
async def test_a_read_that_is_cut_off_is_repeated(server, connect, cut):
    conn = await connect(**QUICK, read_buffer_size=1)
    server.answers[READ] = [Reply(SMALL, cut=cut), Reply(SMALL)]
    assert await conn.fetch(READ) == SMALL_ROWS
    assert server.asked(READ) == 2


@pytest.mark.parametrize("call", ["fetchrow", "iterate"])
async def test_other_calls_are_repeated(server, connect, call):
    conn = await connect(**QUICK)
    server.answers[READ] = [Reply(SMALL, cut=5), Reply(SMALL, cut=-1), Reply(SMALL)]
    if call == "fetchrow":
        assert await conn.fetchrow(READ) == SMALL_ROWS[0]
    else:
        assert [row async for row in await conn.query(READ)] == SMALL_ROWS
    assert server.asked(READ) == 3


async def test_rows_that_were_handed_out_are_not_repeated(server, connect):
    conn = await connect(**QUICK, read_buffer_size=100)
    body = integers(*range(5000))
    server.answers[READ] = [Reply(body, cut=20_000), Reply(body)]
    collected = []
    with pytest.raises(ConnectionLost) as raised:
        await read_all(conn, collected)
    assert collected == [(v,) for v in range(len(collected))]
    assert 0 < len(collected) < 5000
    assert raised.value.sql == READ
    assert server.asked(READ) == 1


@pytest.mark.parametrize("cut", [-1, 0, 5, 40])
async def test_a_write_that_is_cut_off(server, connect, cut):
    conn = await connect(**QUICK)
    server.answers[WRITE] = [Reply(affected(1), cut=cut), affected(2)]
    with pytest.raises(ConnectionLost) as raised:
        await conn.execute(WRITE)
    assert raised.value.may_have_run is True
    assert server.asked(WRITE) == 1
    assert await conn.execute(WRITE) == 2


async def test_a_write_is_repeated_if_the_user_says_so(server, connect):
    conn = await connect(**QUICK, retry_writes=True)
    server.answers[WRITE] = [Reply(affected(1), cut=-1), affected(2)]
    assert await conn.execute(WRITE) == 2


@pytest.mark.parametrize("code", [0x000B, 0x0125, 0x0531, 0xFFFE])
async def test_passing_codes_of_reads(server, connect, code):
    conn = await connect(**QUICK)
    server.answers[READ] = [refusal(code, "not now"), integers(1)]
    assert await conn.fetch(READ) == [(1,)]


@pytest.mark.parametrize("code", [0xFFFE, 0x03D3, 0x0386])
async def test_codes_that_say_that_nothing_has_run(server, connect, code):
    conn = await connect(**QUICK)
    server.answers[WRITE] = [refusal(code, "not now"), affected(1)]
    assert await conn.execute(WRITE) == 1


@pytest.mark.parametrize("call", ["fetch", "execute"])
async def test_a_connection_that_the_server_closed_while_it_was_idle(server, connect, turns, call):
    """It is noticed before anything is sent."""
    conn = await connect()
    server.answers[WRITE] = affected(1)
    assert server.open_connections == 1
    server.close_idle()
    await server.until(lambda: not server.open_connections)
    await turns(lambda: False)
    if call == "fetch":
        assert await conn.fetch("select 1") == [(1,)]
    else:
        assert await conn.execute(WRITE) == 1
    assert server.connections == 2


# Calls that are given up.


BIG = integers(*range(100_000))
PHASES = {"status": -1, "head": 20, "first row": 60, "rows": 300_000, "end": len(BIG) - 3}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("call", ["fetch", "iterate", "cursor", "blocks"])
async def test_cancelled(server, connect, call, phase):
    conn = await connect(read_buffer_size=10_000)
    gate = Gate()
    server.answers[READ] = Reply(BIG, holds={PHASES[phase]: gate})
    collected = []

    async def run():
        if call == "fetch":
            await conn.fetch(READ)
        elif call == "cursor":
            async with conn.cursor() as cursor:
                await cursor.execute(READ)
                await cursor.fetchall()
        elif call == "iterate":
            await read_all(conn, collected)
        else:
            async for block in (await conn.query(READ)).blocks():
                collected.extend(block.rows())

    task = asyncio.ensure_future(run())
    await gate.reached.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    await cancel(task)
    assert await conn.fetchval("select 1") == 1
    await server.until(lambda: server.request(READ).left)
    assert server.open_connections <= 1
    assert collected == [(v,) for v in range(len(collected))]
    assert len(collected) < 100_000


@pytest.mark.parametrize("phase", ["status", "head", "end"])
async def test_a_write_is_cancelled(server, conn, phase):
    gate = Gate()
    body = affected(1)
    place = {"status": -1, "head": 5, "end": len(body) - 1}[phase]
    server.answers[WRITE] = Reply(body, holds={place: gate})
    task = asyncio.ensure_future(conn.execute(WRITE))
    await gate.reached.wait()
    await cancel(task)
    await server.until(lambda: server.request(WRITE).left)
    assert server.asked(WRITE) == 1


async def test_cancelled_before_anything_is_sent(server, conn):
    task = asyncio.ensure_future(conn.fetch(READ))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert server.asked(READ) == 0


async def test_cancelled_at_every_turn(server, conn):
    """Wherever the call stands: afterwards the connection works, and nothing is left."""
    server.answers[READ] = Reply(SMALL, pieces=[10])
    for count in range(120):
        task = asyncio.ensure_future(conn.fetch(READ))
        for _ in range(count):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            assert await task == SMALL_ROWS
        assert await conn.fetchval("select 1") == 1


async def test_one_of_many_is_cancelled(server, conn):
    gates = [Gate() for _ in range(3)]
    for number, gate in enumerate(gates):
        server.answers[f"select {number} from t"] = Reply(integers(number), holds={30: gate})
    tasks = [asyncio.ensure_future(conn.fetch(f"select {n} from t")) for n in range(3)]
    for gate in gates:
        await gate.reached.wait()
    await cancel(tasks[1])
    for gate in gates:
        gate.open()
    assert await tasks[0] == [(0,)]
    assert await tasks[2] == [(2,)]


@pytest.mark.parametrize("phase", PHASES)
async def test_no_answer_in_time(server, connect, phase):
    conn = await connect(**QUICK, read_buffer_size=10_000)
    gate = Gate()
    server.answers[READ] = Reply(BIG, holds={PHASES[phase]: gate})
    with pytest.raises(aiotaos.TimeoutError) as raised:
        await conn.fetch(READ, timeout=0.15, req_id=9)
    error = raised.value
    assert isinstance(error, builtins.TimeoutError)
    assert (error.req_id, error.sql, error.endpoint) == (9, READ, server.endpoint)
    assert "0.15 s" in error.message
    await server.until(lambda: server.request(READ).left)
    assert server.asked(READ) == 1


async def test_a_write_without_an_answer_in_time(server, conn):
    gate = Gate()
    server.answers[WRITE] = Reply(affected(1), holds={-1: gate})
    with pytest.raises(aiotaos.TimeoutError) as raised:
        await conn.execute(WRITE, timeout=0.05)
    assert raised.value.may_have_run is True
    await server.until(lambda: server.request(WRITE).left)


async def test_read_timeout_is_the_default(server, connect):
    conn = await connect(read_timeout=0.2)
    gate = Gate()
    server.answers[READ] = Reply(SMALL, holds={-1: gate})
    with pytest.raises(aiotaos.TimeoutError, match=r"0\.2 s"):
        await conn.fetch(READ)


async def test_a_block_that_takes_too_long(server, connect):
    conn = await connect(read_buffer_size=1000)
    gate = Gate()
    server.answers[READ] = Reply(BIG, holds={300_000: gate})
    result = await conn.query(READ)
    with pytest.raises(aiotaos.TimeoutError):
        await result.fetchmany(100_000, timeout=0.1)
    assert result.closed
    with pytest.raises(ResultError):
        await result.fetchone()
    await server.until(lambda: server.request(READ).left)


async def test_repetitions_have_one_deadline(server, connect):
    conn = await connect(conn_retries=100_000, retry_backoff_ms=1, retry_backoff_max_ms=1)
    server.answers[READ] = Reply(cut=-1)
    loop = asyncio.get_running_loop()
    start = loop.time()
    with pytest.raises(OperationalError):
        await conn.fetch(READ, timeout=0.2)
    assert loop.time() - start < 2


async def test_closed_while_a_call_runs(server, connect):
    conn = await connect()
    gate = Gate()
    server.answers[READ] = Reply(BIG, holds={300_000: gate})
    task = asyncio.ensure_future(conn.fetch(READ))
    await gate.reached.wait()
    await conn.close()
    with pytest.raises((InterfaceError, OperationalError)):
        await task
    await server.until(lambda: not server.open_connections)


async def test_terminated_while_a_call_runs(server, connect):
    conn = await connect()
    gate = Gate()
    server.answers[READ] = Reply(BIG, holds={300_000: gate})
    task = asyncio.ensure_future(conn.fetch(READ))
    await gate.reached.wait()
    conn.terminate()
    with pytest.raises((InterfaceError, OperationalError)):
        await task
    await server.until(lambda: not server.open_connections)


async def test_a_connection_that_is_dropped(server):
    box = [await aiotaos.connect(server.dsn)]
    await box[0].fetchval("select 1")
    with pytest.warns(ResourceWarning, match="unclosed"):
        drop(box)
    await server.until(lambda: not server.open_connections)


async def test_what_is_given_up_is_stopped(server, connect):
    """With cancel="kill": it is looked for under its id, and stopped."""
    conn = await connect(cancel="kill")
    gate = Gate()
    server.answers[READ] = Reply(integers(1), holds={-1: gate})
    looked = (
        "select query_id, kill_id from performance_schema.perf_queries where query_id in (4711)"
    )
    server.answers[looked] = rows(
        [("query_id", "BIGINT UNSIGNED", 8), ("kill_id", "VARCHAR", 26)], [[4711, "a:1"]]
    )
    server.answers["kill query 'a:1'"] = affected(0)
    task = asyncio.ensure_future(conn.fetch(READ, req_id=4711))
    await gate.reached.wait()
    await cancel(task)
    async with asyncio.timeout(5):
        await server.until(lambda: server.asked("kill query 'a:1'"))


# The pool.


async def test_sessions_of_a_pool_share_one_client(server):
    async with aiotaos.create_pool(server.dsn, max_size=5) as pool:
        conns = [await pool.acquire() for _ in range(5)]
        for conn in conns:
            assert await conn.fetchval("select 1") == 1
        assert server.connections == 1
        for conn in conns:
            await pool.release(conn)
    await server.until(lambda: not server.open_connections)


async def test_a_pool_works_at_once(server):
    gates = [Gate() for _ in range(8)]
    for number, gate in enumerate(gates):
        server.answers[f"select {number} from t"] = Reply(integers(number), holds={30: gate})
    async with aiotaos.create_pool(server.dsn, max_size=8) as pool:
        tasks = [asyncio.ensure_future(pool.fetch(f"select {n} from t")) for n in range(8)]
        for gate in gates:
            await gate.reached.wait()
        for gate in gates:
            gate.open()
        assert await asyncio.gather(*tasks) == [[(n,)] for n in range(8)]
        assert server.open_connections >= 8
    await server.until(lambda: not server.open_connections)


async def test_sessions_of_a_pool_do_not_mix(server):
    """Each has a database and a time zone of its own, which are put back."""
    async with aiotaos.create_pool(server.dsn, max_size=2, database="power") as pool:
        first, second = await pool.acquire(), await pool.acquire()
        await first.select_db("water")
        await first.set_timezone("Asia/Tokyo")
        await second.fetch("select 1")
        assert server.request("select 1").path == "/rest/sql/power"
        assert "conn_tz" not in server.request("select 1").query
        await first.fetch("select 1")
        assert server.request("select 1").path == "/rest/sql/water"
        assert server.request("select 1").query["conn_tz"] == "Asia/Tokyo"
        await pool.release(first)
        await pool.release(second)
        for _ in range(2):
            async with pool.acquire() as conn:
                assert conn.database == "power"
                await conn.fetch("select 1")
            assert server.request("select 1").path == "/rest/sql/power"
            assert "conn_tz" not in server.request("select 1").query


async def test_verbs_of_a_pool(server):
    server.answers[READ] = Reply(SMALL)
    server.answers[WRITE] = affected(3)
    server.paths["/influxdb/v1/write"] = NO_CONTENT
    async with aiotaos.create_pool(server.dsn, database="power", timezone="UTC") as pool:
        assert await pool.execute(WRITE) == 3
        assert await pool.fetch(READ) == SMALL_ROWS
        assert await pool.fetchrow(READ) == SMALL_ROWS[0]
        async with await pool.query(READ) as result:
            assert [row async for row in result] == SMALL_ROWS
        await pool.schemaless_insert("a b=1 1")
        with pytest.raises(NotSupportedError, match="ws://"):
            await pool.insert("t", [(1, 2)])
        assert pool.get_stats().used == 0


async def test_a_pool_is_closed_while_a_call_runs(server):
    gate = Gate()
    server.answers[READ] = Reply(BIG, holds={300_000: gate})
    pool = aiotaos.create_pool(server.dsn)
    await pool.open()
    task = asyncio.ensure_future(pool.fetch(READ))
    await gate.reached.wait()
    await pool.close(timeout=0.05)
    with pytest.raises(aiotaos.Error):
        await task
    await server.until(lambda: not server.open_connections)


async def test_a_pool_is_terminated(server):
    gate = Gate()
    server.answers[READ] = Reply(BIG, holds={300_000: gate})
    pool = aiotaos.create_pool(server.dsn)
    await pool.open()
    task = asyncio.ensure_future(pool.fetch(READ))
    await gate.reached.wait()
    pool.terminate()
    with pytest.raises(aiotaos.Error):
        await task
    await server.until(lambda: not server.open_connections)


async def test_a_pool_and_a_server_that_is_started_again(server):
    async with aiotaos.create_pool(server.dsn, max_size=2) as pool:
        assert await pool.fetchval("select 1") == 1
        await server.stop()
        with pytest.raises(ConnectionError):
            await pool.fetchval("select 1", timeout=5)
        await server.start()
        assert await pool.fetchval("select 1", timeout=5) == 1


async def test_a_pool_and_a_wrong_password(server):
    server.answers[VERSION_SQL] = refusal(0x0357, "Authentication failure")
    async with aiotaos.create_pool(server.dsn) as pool:
        with pytest.raises(AuthenticationError):
            await pool.fetchval("select 1", timeout=5)


# A server that goes and comes back, and others.


async def test_a_server_that_is_started_again(server, connect):
    conn = await connect()
    await conn.execute("use water")
    await conn.set_timezone("Asia/Tokyo")
    await server.stop()
    for call, sql in ((conn.fetch, READ), (conn.execute, WRITE)):
        with pytest.raises(ConnectionError) as raised:
            await call(sql, timeout=5)
        assert raised.value.may_have_run is not True
    assert not conn.closed
    await server.start()
    assert await conn.fetchval("select 1") == 1
    request = server.request("select 1")
    assert request.path == "/rest/sql/water"
    assert request.query["conn_tz"] == "Asia/Tokyo"
    assert conn.database == "water"
    server.answers[WRITE] = affected(1)
    assert await conn.execute(WRITE) == 1


async def test_a_server_that_is_back_in_time(server, connect):
    """The call goes on when there is a server again, within its deadline."""
    conn = await connect(conn_retries=1000, retry_backoff_ms=5, retry_backoff_max_ms=5)
    await server.stop()
    task = asyncio.ensure_future(conn.fetchval("select 1", timeout=10))
    for _ in range(5):
        await asyncio.sleep(0)
    await server.start()
    assert await task == 1


async def test_the_second_address(server, other):
    """The first one is not there."""
    dsn = f"http://root:taosdata@127.0.0.1:{server.port},127.0.0.1:{other.port}?conn_retries=0"
    await server.stop()
    for _ in range(5):
        async with aiotaos.connect(dsn) as conn:
            assert conn.endpoint == other.endpoint
            assert await conn.fetchval("select 1") == 1


async def test_fail_over(server, other):
    dsn = f"http://root:taosdata@127.0.0.1:{server.port},127.0.0.1:{other.port}"
    async with aiotaos.connect(dsn, database="power", **QUICK) as conn:
        first = server if conn.endpoint == server.endpoint else other
        second = other if first is server else server
        await conn.execute("use water")
        await first.stop()
        assert await conn.fetchval("select 1", timeout=10) == 1
        assert conn.endpoint == second.endpoint
        assert second.request("select 1").path == "/rest/sql/water"


async def test_fail_over_when_a_gateway_has_no_server(server, other):
    server.answers[VERSION_SQL] = html(503)
    dsn = f"http://root:taosdata@127.0.0.1:{server.port},127.0.0.1:{other.port}"
    for _ in range(4):
        async with aiotaos.connect(dsn, **QUICK) as conn:
            assert conn.endpoint == other.endpoint


# Where credentials go, and where not.


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "options",
    [{}, {"token": "cl0ud-token"}, {"bearer_token": "b3arer-token"}, {"rest_auth": "taosd"}],
)
async def test_a_redirection_is_not_followed(server, other, connect, status, options):
    server.paths["/rest/login/root/taosdata"] = login("token")
    conn = await connect(**options)
    server.answers[READ] = server.answers[WRITE] = html(
        status, Location=f"{other.endpoint}/rest/sql"
    )
    for call, sql in ((conn.fetch, READ), (conn.execute, WRITE)):
        with pytest.raises(ConnectionError, match="https://") as raised:
            await call(sql)
        assert raised.value.http_status == status
        assert "redirects" in raised.value.message
    assert (server.asked(READ), server.asked(WRITE)) == (1, 1)
    assert other.requests == []
    assert other.connections == 0


SECRETS = [
    {"password": SECRET},
    {"token": SECRET},
    {"bearer_token": "b3arer.s3cr3t"},
    {"password": SECRET, "rest_auth": "taosd"},
]


async def echo(request):
    """What a gateway may say: the whole request."""
    head = f"no route for {request.target} {request.headers}"
    return Reply(head.encode(), 502)


async def cut(request):
    return Reply(SMALL, cut=9)


async def refuse(request):
    return refusal(0x2600, "syntax error")


async def nonsense(request):
    return Reply(b"<html>" + request.target.encode())


async def raw_nonsense(request):
    return Reply(raw=b"HTTP/1.1 xyz " + request.target.encode() + b"\r\n\r\n")


async def redirect(request):
    return html(301, Location=f"https://elsewhere{request.target}")


@pytest.mark.parametrize("trouble", [echo, cut, refuse, nonsense, raw_nonsense, redirect])
@pytest.mark.parametrize("options", SECRETS, ids=lambda options: "-".join(options))
async def test_secrets_are_not_told(server, caplog, options, trouble):
    token = "t0k3n-of-the-login"
    ordinary = server._ordinary
    server._ordinary = lambda request: (
        login(token) if "/login/" in request.path else ordinary(request)
    )
    secret = options.get("token") or options.get("bearer_token") or SECRET
    forms = {
        secret,
        json.dumps(secret)[1:-1],
        base64.b64encode(f"root:{secret}".encode()).decode(),
        *re.findall(r"s3cr3t", secret),
        token,
    }
    texts = []
    with caplog.at_level(logging.DEBUG):
        connecting = aiotaos.connect(server.dsn, **options)
        texts.append(repr(connecting))
        async with connecting as conn:
            texts += [repr(conn), repr(conn._session), repr(conn._session.transport)]
            texts.append(repr(conn._options))
            server.answers[READ] = server.answers[WRITE] = trouble
            for call, sql in ((conn.fetch, READ), (conn.execute, WRITE)):
                with pytest.raises(aiotaos.Error) as raised:
                    await call(sql)
                texts.append(told(raised.value))
            texts += [repr(asyncio.all_tasks())]
        server.answers[VERSION_SQL] = trouble
        with pytest.raises(aiotaos.Error) as raised:
            await aiotaos.connect(server.dsn, **options)
        texts.append(told(raised.value))
    texts += [record.getMessage() for record in caplog.records]
    for text in texts:
        for form in forms:
            assert form not in text


async def test_secrets_of_a_login_that_breaks(server, caplog):
    options = {"password": SECRET, "rest_auth": "taosd"}
    ordinary = server._ordinary
    for trouble in (echo, cut, nonsense, raw_nonsense, redirect):
        server._ordinary = lambda request, trouble=trouble: (
            trouble if "/login/" in request.path else ordinary(request)
        )
        with caplog.at_level(logging.DEBUG), pytest.raises(aiotaos.Error) as raised:
            await aiotaos.connect(server.dsn, **options)
        assert "s3cr3t" not in told(raised.value)
    await server.stop()
    with caplog.at_level(logging.DEBUG), pytest.raises(aiotaos.Error) as raised:
        await aiotaos.connect(server.dsn, **options)
    assert "s3cr3t" not in told(raised.value)
    assert "s3cr3t" not in caplog.text


# TLS.


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
async def tls_server(clean, authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    async with HttpServer(tls=context) as server:
        yield server
    server.check()


@pytest.mark.parametrize("driver", ["https", "taosrest+https", "taos+https"])
async def test_tls(tls_server, authority, driver):
    tls_server.answers[READ] = Reply(SMALL)
    dsn = tls_server.dsn.replace("http", driver, 1)
    pem = authority.cert_pem.bytes().decode()
    async with aiotaos.connect(dsn, tls_ca=pem, timezone="UTC") as conn:
        assert conn.endpoint == f"https://127.0.0.1:{tls_server.port}"
        assert await conn.fetch(READ) == SMALL_ROWS
    async with aiotaos.connect(dsn, tls_mode="none", timezone="UTC") as conn:
        assert await conn.fetch(READ) == SMALL_ROWS


async def test_a_certificate_of_a_stranger(tls_server):
    dsn = tls_server.dsn.replace("http", "https", 1)
    with pytest.raises(ConnectionError, match="certificate was refused"):
        await aiotaos.connect(dsn)
    assert tls_server.requests == []


async def test_no_tls_where_it_is_wanted(server):
    with pytest.raises(ConnectionError, match="http://") as raised:
        await aiotaos.connect(server.dsn.replace("http", "https", 1))
    assert "TLS" in raised.value.message


# Servers of 2.x.


LEGACY_TS = [("ts", 9, 8), ("v", 4, 4)]


@pytest.fixture
def old(server):
    server.is_legacy = True
    server.version = "2.6.0.32"
    return server


async def test_a_legacy_server(old, connect):
    conn = await connect(database="power", user_app="tests", timezone="Asia/Shanghai")
    assert conn.server_version == "2.6.0.32"
    old.answers[READ] = legacy(
        [
            *(("ts", 9, 8), ("b", 1, 1), ("i1", 2, 1), ("i2", 3, 2), ("i4", 4, 4), ("i8", 5, 8)),
            *(("f4", 6, 4), ("f8", 7, 8), ("s", 8, 9), ("n", 10, 9), ("u1", 11, 1), ("u8", 14, 8)),
        ],
        [
            [
                *("2024-03-01T00:00:00.001Z", True, -1, -2, -3, -4, 0.1, 0.1, '],["', "涛"),
                *(255, 2**64 - 1),
            ],
            [None] * 12,
        ],
    )
    result = await conn.query(READ)
    assert [(field.name, field.type) for field in result.fields] == [
        ("ts", TypeCode.TIMESTAMP),
        ("b", TypeCode.BOOL),
        ("i1", TypeCode.TINYINT),
        ("i2", TypeCode.SMALLINT),
        ("i4", TypeCode.INT),
        ("i8", TypeCode.BIGINT),
        ("f4", TypeCode.FLOAT),
        ("f8", TypeCode.DOUBLE),
        ("s", TypeCode.VARCHAR),
        ("n", TypeCode.NCHAR),
        ("u1", TypeCode.UTINYINT),
        ("u8", TypeCode.UBIGINT),
    ]
    assert [field.length for field in result.fields][-4:] == [9, 9, 1, 8]
    assert result.precision is Precision.MILLISECOND
    moment = datetime(2024, 3, 1, 8, 0, 0, 1000, ZoneInfo("Asia/Shanghai"))
    assert typed(await result.fetchall()) == typed(
        [
            (
                *(moment, True, -1, -2, -3, -4, float(np.float32("0.1")), 0.1, '],["', "涛", 255),
                2**64 - 1,
            ),
            (None,) * 12,
        ]
    )
    request = old.request(READ)
    assert request.path == "/rest/sqlutc/power"
    assert request.query == {}
    assert request.headers["authorization"] == BASIC


async def test_a_legacy_server_and_a_token(old, connect):
    conn = await connect(token="cloud")
    await conn.fetch("select 1", req_id=5)
    assert old.request("select 1").query == {"token": "cloud"}


async def test_a_legacy_server_gives_ticks(old, connect):
    conn = await connect(timestamp="int", database="power")
    old.answers[READ] = legacy(LEGACY_TS, [[1709251200001, 1], [None, None], [-1, 2]])
    assert await conn.fetch(READ) == [(1709251200001, 1), (None, None), (-1, 2)]
    assert old.request(READ).path == "/rest/sqlt/power"
    await conn.execute("use water")
    await conn.fetch(READ)
    assert old.request(READ).path == "/rest/sqlt/water"


@pytest.mark.parametrize(
    ("texts", "unit", "ticks"),
    [
        (["2024-03-01T00:00:00Z", "2024-03-01T00:00:00.1Z"], "ms", [0, 100]),
        (["2024-03-01T00:00:00Z", "2024-03-01T00:00:01Z"], "ms", [0, 1000]),
        (["2024-03-01T00:00:00.12Z", None, "2024-03-01T00:00:00.123Z"], "ms", [120, None, 123]),
        (["2024-03-01T00:00:00.1Z", "2024-03-01T00:00:00.0001Z"], "us", [100_000, 100]),
        (["2024-03-01T00:00:00Z", "2024-03-01T00:00:00.123456Z"], "us", [0, 123_456]),
        (["2024-03-01T00:00:00.0000001Z", "2024-03-01T00:00:00.5Z"], "ns", [100, 500_000_000]),
        (["2024-03-01T08:00:00.25+08:00", "2024-02-29T19:00:00-05:00"], "ms", [250, 0]),
    ],
)
async def test_fractions_that_are_trimmed(old, connect, texts, unit, ticks):
    conn = await connect(timestamp="datetime64")
    old.answers[READ] = legacy([("ts", 9, 8)], [[text] for text in texts])
    result = await conn.query(READ)
    assert result.precision.unit == unit
    second = {"ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    assert typed(await result.fetchall()) == typed(
        (None if tick is None else np.datetime64(START * second + tick, unit),) for tick in ticks
    )
    assert old.request(READ).path == "/rest/sqlutc"


@pytest.mark.parametrize("timestamp", ["datetime", "datetime64"])
async def test_fractions_that_are_longer_in_later_blocks(old, connect, timestamp):
    """The first block has whole seconds alone: later instants are cut to ms, and not another."""
    conn = await connect(timestamp=timestamp, read_buffer_size=1)
    texts = ["2024-03-01T00:00:00Z"] * 500 + ["2024-03-01T00:00:00.123456Z", "2024-03-01T00:00:01Z"]
    old.answers[READ] = Reply(legacy([("ts", 9, 8)], [[text] for text in texts]), pieces=[600])
    for call in ("fetch", "iterate"):
        if call == "fetch":
            found = [ts for (ts,) in await conn.fetch(READ)]
        else:
            found = [ts async for (ts,) in await conn.query(READ)]
        if timestamp == "datetime":
            start = datetime(2024, 3, 1, tzinfo=UTC)
            gaps = [ts - start for ts in found]
            micro = timedelta(microseconds=1)
            gaps = [gap // micro for gap in gaps]
        else:
            start = np.datetime64("2024-03-01T00:00:00", "us")
            gaps = [int((ts - start).astype("m8[us]").astype(int)) for ts in found]
        assert gaps[:500] == [0] * 500
        assert gaps[500] in (123_000, 123_456)
        assert gaps[501] == 1_000_000


async def test_a_legacy_server_writes(old, connect):
    conn = await connect(compression=True)
    sql = f"insert into t values ('{'x' * 10_000}')"
    old.answers[sql] = legacy_affected(3)
    assert await conn.execute(sql) == 3
    assert not old.request(sql).is_gzipped
    result = await conn.query(sql)
    assert (result.is_update, result.affected_rows) == (True, 3)


@pytest.mark.parametrize(
    ("code", "cls"),
    [
        (0x0216, ProgrammingError),
        (0x0217, ProgrammingError),
        (0x0357, AuthenticationError),
        (0x0362, ProgrammingError),
        (0x80000216 - 2**32, ProgrammingError),
    ],
)
async def test_a_legacy_server_refuses(old, connect, code, cls):
    conn = await connect()
    old.answers[READ] = legacy_refusal(code, "Refused, alas")
    with pytest.raises(cls, match="Refused, alas") as raised:
        await conn.fetch(READ)
    assert raised.value.code == code & 0xFFFF
    assert ("select_db" in raised.value.message) is (code == 0x0217)


async def test_a_legacy_server_refuses_the_login(old):
    old.answers[VERSION_SQL] = legacy_refusal(0x0357, "Authentication failure")
    with pytest.raises(AuthenticationError) as raised:
        await aiotaos.connect(old.dsn)
    assert raised.value.code == 0x0357


async def test_a_legacy_server_without_the_database(old):
    old.answers["use `nosuch`"] = legacy_refusal(0x0381, "Invalid database name")
    with pytest.raises(DatabaseError, match="Invalid database name"):
        await aiotaos.connect(old.dsn, database="nosuch")


async def test_a_legacy_answer_in_pieces(old, connect):
    data = [["2024-03-01T00:00:00.001Z", number] for number in range(200)]
    for order in (None, ["status", "head", "column_meta", "rows", "data"]):
        value = legacy_rows(LEGACY_TS, data)
        value = value if order is None else {key: value[key] for key in order}
        old.answers[READ] = Reply(dumps(value).encode(), pieces=[7])
        for size in (1, 500, 262144):
            conn = await connect(read_buffer_size=size)
            assert [v for _, v in await conn.fetch(READ)] == list(range(200))


async def test_a_legacy_answer_that_ends_at_every_byte(old, connect):
    conn = await connect()
    body = legacy(LEGACY_TS, [["2024-03-01T00:00:00.001Z", 1], [None, 23]])
    for end in range(len(body)):
        old.answers[READ] = Reply(body[:end])
        with pytest.raises(ProtocolError):
            await conn.fetch(READ)
        old.answers[READ] = Reply(body, cut=end)
        with pytest.raises(ConnectionLost):
            await conn.fetch(READ)


async def test_a_legacy_server_tells_fewer_rows(old, connect):
    conn = await connect()
    for count in (0, 1, 3):
        value = legacy_rows([("v", 4, 4)], [[1], [2]]) | {"rows": count}
        old.answers[READ] = dumps(value).encode()
        with pytest.raises(ProtocolError):
            await conn.fetch(READ)


async def test_an_unknown_status(old, connect):
    conn = await connect()
    old.answers[READ] = b'{"status":"perhaps","code":1,"desc":"x"}'
    with pytest.raises(DatabaseError):
        await conn.fetch(READ)


async def test_a_database_of_a_legacy_server_is_encoded(old, connect):
    conn = await connect(database="a b/涛")
    await conn.fetch("select 1")
    assert old.request("select 1").path == "/rest/sqlutc/a%20b%2F%E6%B6%9B"


# Connections are what they are over the other road.


async def test_rows_in_other_forms(server, conn):
    server.answers[READ] = Reply(SMALL)
    assert await conn.fetch(READ, row_factory=dict_row) == [
        dict(zip(("ts", "v", "s"), row, strict=True)) for row in SMALL_ROWS
    ]
    async with conn.cursor() as cursor:
        await cursor.execute(READ)
        assert [one[0] for one in cursor.description] == ["ts", "v", "s"]
        assert await cursor.fetchone() == SMALL_ROWS[0]
        assert await cursor.fetchmany(5) == SMALL_ROWS[1:]
        assert cursor.rowcount == 3


async def test_a_result_is_read_by_one_task(server, connect):
    conn = await connect(read_buffer_size=100)
    gate = Gate()
    server.answers[READ] = Reply(BIG, holds={300_000: gate})
    result = await conn.query(READ)
    first = asyncio.ensure_future(result.fetchall())
    await gate.reached.wait()
    for _ in range(100):
        await asyncio.sleep(0)
    with pytest.raises(InterfaceError, match="another task"):
        await result.fetchone()
    gate.open()
    assert len(await first) == 100_000


async def test_hooks_see_statements(server):
    seen = []

    class Watching(aiotaos.Hooks):
        def query_end(self, query):
            seen.append((query.sql, query.database, query.endpoint, query.rows, query.attempts))

        def query_error(self, query, error):
            seen.append((query.sql, type(error)))

    server.answers[WRITE] = affected(3)
    async with aiotaos.connect(server.dsn, database="power", hooks=Watching()) as conn:
        await conn.execute(WRITE)
        with pytest.raises(ProgrammingError):
            await conn.execute("selec")
    assert seen == [
        (WRITE, "power", server.endpoint, 3, 1),
        ("selec", ProgrammingError),
    ]


async def test_another_loop(server):
    async with aiotaos.connect(server.dsn) as conn:

        def elsewhere():
            async def use():
                with pytest.raises(InterfaceError, match="another event loop"):
                    await conn.fetch("select 1")

            asyncio.run(use())

        await asyncio.to_thread(elsewhere)
        assert await conn.fetchval("select 1") == 1

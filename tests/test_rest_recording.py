"""A real taosAdapter's answers over HTTP, byte by byte as they were recorded, given to the client.

What must come of them stands here as literals, and, where the same table was read over the other
road, in what an official client made of that.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import numpy as np
import pytest

import aiotaos
from aiotaos import (
    AuthenticationError,
    ConnectionError,
    Field,
    OperationalError,
    Precision,
    ProgrammingError,
    ProtocolError,
    SchemalessError,
    SchemalessProtocol,
    TypeCode,
    dict_row,
)
from tests.transport.speaking_http import HttpServer, Reply, Request

CAPTURES = Path(__file__).parent / "data" / "captures"
LINES = (CAPTURES / "rest.wire.jsonl").read_text(encoding="utf-8").splitlines()
EXPECTED = json.loads((CAPTURES / "rest.expected.json").read_text(encoding="utf-8"))

TOKEN = "/KfeAzX/f9na8qdtNZmtONryp201ma04bEl8LcvLUd7a8qdtNZmtONryp201ma04"
BASIC = "Basic cm9vdDp0YW9zZGF0YQ=="
TABLE = "select * from cap_ms.t order by ts"
UTC = ZoneInfo("UTC")
START = datetime(2024, 3, 1, tzinfo=UTC)
START_NS = 1_709_251_200_000_000_000

FIELDS = (
    Field("ts", TypeCode.TIMESTAMP, 8),
    Field("b", TypeCode.BOOL, 1),
    Field("ti", TypeCode.TINYINT, 1),
    Field("si", TypeCode.SMALLINT, 2),
    Field("i", TypeCode.INT, 4),
    Field("bi", TypeCode.BIGINT, 8),
    Field("uti", TypeCode.UTINYINT, 1),
    Field("usi", TypeCode.USMALLINT, 2),
    Field("ui", TypeCode.UINT, 4),
    Field("ubi", TypeCode.UBIGINT, 8),
    Field("f", TypeCode.FLOAT, 4),
    Field("d", TypeCode.DOUBLE, 8),
    Field("vc", TypeCode.VARCHAR, 32),
    Field("nc", TypeCode.NCHAR, 32),
    Field("vb", TypeCode.VARBINARY, 32),
    Field("g", TypeCode.GEOMETRY, 100),
)
LOW = (
    *(True, -128, -32768, -2147483648, -9223372036854775807, 0, 0, 0, 0),
    *(-1.5, -1.7976931348623157e308, "", "", b""),
    bytes.fromhex("0101000000000000000000f03f0000000000000040"),
)
HIGH = (
    *(False, 127, 32767, 2147483647, 9223372036854775807, 255, 65535),
    *(4294967295, 18446744073709551615, float(np.float32("3.4028235e38"))),
    *(2.2250738585072014e-308, "ASCII ~!@#", "涛思数据 🚀 naïve", b"\x00\xff\x10"),
    bytes.fromhex(
        "01020000000200000000000000000000000000000000000000000000000000f03f000000000000f03f"
    ),
)
NULLS = (None,) * 15


def table(zone: Any = UTC) -> list[tuple[Any, ...]]:
    """The rows of ``cap_ms.t``."""
    moments = [START.replace(microsecond=ms * 1000).astimezone(zone) for ms in (1, 2, 3)]
    return [(ts, *row) for ts, row in zip(moments, (LOW, HIGH, NULLS), strict=True)]


def typed(rows: list[Any]) -> list[str]:
    """Rows in a form in which 1 is not True, nor 0.0 is -0.0, nor 1.0 is 1."""
    return list(map(repr, rows))


class Exchange:
    """One recorded request, and its answer."""

    def __init__(self, line: str) -> None:
        event = json.loads(line)
        self.method: str = event["method"]
        self.path: str = urlsplit(event["path"]).path
        self.query: str = urlsplit(event["path"]).query
        self.sql: str = event["req_body"]
        self.status: int = event["status"]
        self.body = base64.b64decode(event["resp_b64"])
        headers: dict[str, str] = event["resp_headers"]
        self.reply = Reply(
            self.body,
            self.status,
            {name: value for name, value in headers.items() if name in ("Content-Type", "Date")},
            framing="chunked" if "Transfer-Encoding" in headers else "length",
            compressible=False,
        )


EXCHANGES = [Exchange(line) for line in LINES]
covered: list[int] = []


def replays(*numbers: int) -> Callable[[Any], Any]:
    """Mark a test with the exchanges that it replays, by their place in the recording."""
    covered.extend(numbers)
    return pytest.mark.parametrize("numbers", [numbers], ids=["-".join(map(str, numbers))])


class Recorded:
    """A server that answers with the exchanges of one test; every one of them must be used.

    Attributes:
        requests: What came in their place, by their numbers.
    """

    def __init__(self, server: HttpServer, numbers: tuple[int, ...]) -> None:
        self.server = server
        self.requests: dict[int, Request] = {}
        self._numbers = numbers
        self._left = list(numbers)

    def next(self, sql: str | None = None, path: str | None = None) -> Exchange:
        """Answer the next request for a statement, or to a path, with the next exchange."""
        number = self._left.pop(0)
        exchange = EXCHANGES[number]

        async def answer(request: Request) -> Reply:
            self.requests[number] = request
            if sql is None:
                assert request.sql == exchange.sql
            return exchange.reply

        if path is not None:
            self.server.paths[path] = answer
        else:
            self.server.answers[exchange.sql if sql is None else sql] = answer
        return exchange

    def check(self) -> None:
        assert self._left == []
        assert sorted(self.requests) == sorted(self._numbers)


@pytest.fixture
async def server(clean: None) -> AsyncIterator[HttpServer]:
    async with HttpServer() as server:
        yield server
    server.check()


@pytest.fixture
def recorded(server: HttpServer, numbers: tuple[int, ...]) -> Any:
    recorded = Recorded(server, numbers)
    yield recorded
    recorded.check()


@pytest.fixture
async def conn(server: HttpServer) -> AsyncIterator[aiotaos.Connection[Any]]:
    """In UTC; at the end of the test it still works."""
    async with aiotaos.connect(server.dsn, timezone="UTC") as conn:
        yield conn
        server.answers.pop("select 1", None)
        assert await conn.fetchval("select 1", timeout=5) == 1


def check_http_headers(request: Request, authorization: str | None = BASIC) -> None:
    assert request.headers.get("authorization") == authorization
    assert request.headers["accept-encoding"] == "identity"


# Logins.


@replays(0, 2)
async def test_a_token_from_the_login(server, recorded):
    recorded.next(path="/rest/login/root/taosdata")
    async with aiotaos.connect(server.dsn, rest_auth="taosd") as conn:
        recorded.next()
        result = await conn.query("select 1")
        assert result.fields == (Field("1", TypeCode.BIGINT, 8),)
        assert typed(await result.fetchall()) == ["(1,)"]
    check_http_headers(recorded.requests[2], f"Taosd {TOKEN}")


@replays(1)
async def test_a_login_that_is_refused(server, recorded):
    recorded.next(path="/rest/login/root/wrong")
    with pytest.raises(AuthenticationError) as raised:
        await aiotaos.connect(server.dsn, password="wrong", rest_auth="taosd")
    error = raised.value
    assert (error.code, error.http_status) == (3, 401)
    assert "Authentication failure" in error.message
    assert error.endpoint == server.endpoint


@replays(3)
async def test_no_credentials(conn, server, recorded):
    recorded.next()
    with pytest.raises(AuthenticationError) as raised:
        await conn.fetch("select 1", req_id=5)
    error = raised.value
    assert (error.code, error.http_status, error.req_id) == (0x1105, 401, 5)
    assert "no auth info input" in error.message


@replays(4)
async def test_an_unknown_user(server, recorded):
    recorded.next(sql="select server_version()")
    with pytest.raises(AuthenticationError) as raised:
        await aiotaos.connect(server.dsn, user="no", password="no")
    assert (raised.value.code, raised.value.message) == (0x0351, "Invalid user")
    check_http_headers(recorded.requests[4], "Basic bm86bm8=")


@replays(4)
async def test_a_user_that_is_unknown_by_now(conn, recorded):
    recorded.next()
    with pytest.raises(AuthenticationError) as raised:
        await conn.fetch("select 1")
    assert (raised.value.code, raised.value.message) == (0x0351, "Invalid user")


@replays(5)
async def test_a_token_of_the_cloud(server, recorded):
    exchange = recorded.next(sql="select server_version()")
    with pytest.raises(AuthenticationError) as raised:
        await aiotaos.connect(server.dsn, token="nosuch")
    assert (raised.value.code, raised.value.http_status) == (0x1105, 401)
    assert "no auth info input" in raised.value.message
    assert exchange.query == "token=nosuch"
    request = recorded.requests[5]
    assert request.query["token"] == "nosuch"
    check_http_headers(request, None)


# Values.


@replays(6)
async def test_every_type(conn, recorded):
    recorded.next()
    result = await conn.query(TABLE)
    assert result.fields == FIELDS
    assert result.precision is Precision.MILLISECOND
    assert (result.is_update, result.affected_rows) == (False, 0)
    assert typed(await result.fetchall()) == typed(table())
    assert result.row_count == 3
    assert typed([row async for row in await conn.query(TABLE)]) == typed(table())
    assert typed(await conn.fetch(TABLE)) == typed(table())
    assert typed([await conn.fetchrow(TABLE)]) == typed(table()[:1])
    assert await conn.fetchval(TABLE, column=12) == ""
    async with conn.cursor() as cursor:
        await cursor.execute(TABLE)
        assert [column[0] for column in cursor.description] == [field.name for field in FIELDS]
        assert typed(await cursor.fetchall()) == typed(table())
        assert cursor.rowcount == 3
    check_http_headers(recorded.requests[6])
    assert recorded.requests[6].query["conn_tz"] == "UTC"


@replays(6)
async def test_the_other_road_has_the_same(conn, recorded):
    """The same table was recorded over WebSocket, and read by an official client."""
    recorded.next()
    statements = json.loads((CAPTURES / "types_ms.expected.json").read_text(encoding="utf-8"))
    theirs = next(one for one in statements if one.get("sql") == TABLE)
    result = await conn.query(TABLE)
    assert [
        [field.name, field.type.sql_name.replace("VARCHAR", "BINARY"), field.length]
        for field in result.fields
    ] == theirs["fields"]
    rows = await result.fetchall()
    assert len(rows) == len(theirs["rows"])
    for row, other in zip(rows, theirs["rows"], strict=True):
        for value, told in zip(row[1:], other[1:], strict=True):
            if isinstance(told, dict):
                ((kind, text),) = told.items()
                told = {"float": float, "hex": bytes.fromhex}[kind](text)
            assert value == told
        assert row[0].strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] in other[0]


@replays(9)
async def test_a_database_in_the_path(server, recorded):
    recorded.next()
    async with aiotaos.connect(server.dsn, database="cap_ms", timezone="UTC") as conn:
        assert conn.database == "cap_ms"
        assert typed(await conn.fetch(TABLE)) == typed(table())
    assert recorded.requests[9].path == "/rest/sql/cap_ms"


@replays(10)
async def test_another_time_zone(server, recorded):
    recorded.next()
    zone = ZoneInfo("Asia/Shanghai")
    async with aiotaos.connect(server.dsn, timezone="Asia/Shanghai") as conn:
        rows = await conn.fetch(TABLE)
    assert typed(rows) == typed(table(zone))
    assert rows[0][0].isoformat() == "2024-03-01T08:00:00.001000+08:00"
    assert recorded.requests[10].query["conn_tz"] == "Asia/Shanghai"


@replays(10)
@pytest.mark.parametrize("timestamp", ["int", "datetime64"])
async def test_another_time_zone_as_ticks(server, recorded, timestamp):
    recorded.next()
    ticks = [START_NS // 10**6 + ms for ms in (1, 2, 3)]
    expected = ticks if timestamp == "int" else [np.datetime64(tick, "ms") for tick in ticks]
    async with aiotaos.connect(server.dsn, timezone="Asia/Shanghai", timestamp=timestamp) as conn:
        assert typed([row[0] for row in await conn.fetch(TABLE)]) == typed(expected)


@replays(11)
async def test_a_request_id(conn, recorded):
    exchange = recorded.next()
    result = await conn.query(TABLE, req_id=77)
    assert result.req_id == 77
    assert typed(await result.fetchall()) == typed(table())
    assert exchange.query == "req_id=77"
    assert recorded.requests[11].query["req_id"] == "77"


@replays(12)
async def test_rows_as_objects(conn, recorded):
    recorded.next()
    result = await conn.query(TABLE)
    assert result.fields == FIELDS
    assert typed(await result.fetchall()) == typed(table())
    names = [field.name for field in FIELDS]
    assert await conn.fetch(TABLE, row_factory=dict_row) == [
        dict(zip(names, row, strict=True)) for row in table()
    ]


@replays(14, 16)
async def test_microseconds_and_nanoseconds(conn, server, recorded):
    us, ns = (f"select ts from cap_{unit}.t order by ts" for unit in ("us", "ns"))
    recorded.next()
    result = await conn.query(us)
    assert result.precision is Precision.MICROSECOND
    assert typed(await result.fetchall()) == typed(
        [(START.replace(microsecond=tick),) for tick in (1, 2, 3)]
    )
    recorded.next()
    result = await conn.query(ns)
    assert result.precision is Precision.NANOSECOND
    assert typed(await result.fetchall()) == typed([(START_NS + tick,) for tick in (1, 2, 3)])
    async with aiotaos.connect(server.dsn, timestamp="int", timezone="UTC") as other:
        assert await other.fetch(us) == [(START_NS // 1000 + tick,) for tick in (1, 2, 3)]
        assert await other.fetch(ns) == [(START_NS + tick,) for tick in (1, 2, 3)]
    async with aiotaos.connect(server.dsn, timestamp="datetime64", timezone="UTC") as other:
        assert typed(await other.fetch(us)) == typed(
            [(np.datetime64(START_NS // 1000 + tick, "us"),) for tick in (1, 2, 3)]
        )
        assert typed(await other.fetch(ns)) == typed(
            [(np.datetime64(START_NS + tick, "ns"),) for tick in (1, 2, 3)]
        )


@replays(18)
async def test_decimals(conn, recorded):
    recorded.next()
    result = await conn.query("select * from cap_dec.t order by ts")
    assert result.fields == (
        Field("ts", TypeCode.TIMESTAMP, 8),
        Field("d64", TypeCode.DECIMAL64, 8, 10, 3),
        Field("d128", TypeCode.DECIMAL, 16, 38, 10),
        Field("d18", TypeCode.DECIMAL64, 8, 18, 18),
        Field("d1", TypeCode.DECIMAL, 16, 19, 0),
    )
    assert typed([row[1:] for row in await result.fetchall()]) == typed(
        [
            (
                Decimal("-1234567.891"),
                Decimal("-1234567890123456789012345678.0123456789"),
                Decimal("0.000000000000000001"),
                Decimal("-1234567890123456789"),
            ),
            (
                Decimal("0.001"),
                Decimal("0.0000000001"),
                Decimal("-0.500000000000000000"),
                Decimal("0"),
            ),
            (None, None, None, None),
        ]
    )


@replays(19)
async def test_json_is_its_text(conn, recorded):
    recorded.next()
    result = await conn.query("select * from cap_tag.js order by ts")
    assert result.fields[1:] == (
        Field("v", TypeCode.INT, 4),
        Field("info", TypeCode.JSON, 4095),
    )
    (first, text), second = [row[1:] for row in await result.fetchall()]
    assert (first, second) == (1, (2, None))
    assert text == '{"n":null,"name":"泵","on":true,"rpm":1500.5}'


@replays(23)
async def test_a_database_that_does_not_exist(server, recorded):
    """It is in the path, and the statement does not need it."""
    async with aiotaos.connect(server.dsn) as conn:
        await conn.select_db("nosuchdb")
        recorded.next()
        assert await conn.fetch("select 1") == [(1,)]
    assert recorded.requests[23].path == "/rest/sql/nosuchdb"


@replays(26)
async def test_show_databases(conn, recorded):
    recorded.next()
    result = await conn.query("show databases")
    assert result.fields == (Field("name", TypeCode.VARCHAR, 64),)
    assert [name for (name,) in await result.fetchall()] == [
        *("information_schema", "performance_schema", "cap_sml", "cap_ms", "cap_meta", "cap_dec"),
        *("cap_st2", "cap_st1", "cap_ns", "cap_us", "cap_tag", "cap_tmq", "cap_many"),
    ]


# Statements without rows.


@replays(24)
async def test_use(conn, recorded):
    recorded.next()
    assert await conn.execute("use cap_ms") == 0
    assert conn.database == "cap_ms"


@replays(25)
async def test_an_insert(conn, recorded):
    exchange = recorded.next()
    assert await conn.execute(exchange.sql) == 1
    result = await conn.query(exchange.sql)
    assert (result.is_update, result.affected_rows, result.fields) == (True, 1, ())
    assert await result.fetchall() == []


# Refusals.


@replays(20)
async def test_no_database(conn, recorded):
    recorded.next()
    with pytest.raises(ProgrammingError) as raised:
        await conn.fetch("select * from t", req_id=9)
    error = raised.value
    assert (error.code, error.req_id, error.sql) == (0x2616, 9, "select * from t")
    assert error.message.startswith("Database not specified")
    assert "select_db" in error.message
    assert error.endpoint == conn.endpoint


@replays(21)
async def test_a_syntax_error(conn, recorded):
    recorded.next()
    for call in (conn.execute, conn.query, conn.fetch, conn.cursor().execute):
        with pytest.raises(ProgrammingError) as raised:
            await call("selec", req_id=4711)
        error = raised.value
        assert (error.code, error.message) == (0x2600, 'syntax error near "selec"')
        assert (error.req_id, error.sql, error.endpoint) == (4711, "selec", conn.endpoint)
        assert error.may_have_run is None


@replays(22)
async def test_an_empty_statement(conn, recorded):
    recorded.next()
    with pytest.raises(ProgrammingError) as raised:
        await conn.execute("")
    assert (raised.value.code, raised.value.http_status) == (0x1106, 400)
    assert "request is empty" in raised.value.message


@replays(13)
async def test_an_unknown_time_zone(conn, recorded):
    recorded.next()
    with pytest.raises(OperationalError) as raised:
        await conn.fetch(TABLE)
    assert type(raised.value) is OperationalError
    assert (raised.value.code, raised.value.http_status) == (0xFFFF, 400)
    assert "unknown time zone Nowhere/Bad" in raised.value.message


@replays(7, 8, 15, 17, 28, 29)
async def test_paths_that_there_are_not(conn, recorded, numbers):
    for number in numbers:
        assert recorded.next(sql="select v from t").status == 404
        with pytest.raises(ConnectionError) as raised:
            await conn.fetch("select v from t")
        error = raised.value
        assert type(error) is ConnectionError
        assert (error.code, error.http_status) == (None, 404)
        assert "404" in error.message
        assert "404 page not found" in error.message
        assert number in recorded.requests


@replays(27)
async def test_an_empty_body_is_no_answer(conn, recorded):
    recorded.next(sql="select v from t")
    with pytest.raises(ProtocolError) as raised:
        await conn.fetch("select v from t")
    assert raised.value.http_status == 200


# Schemaless writing.


@replays(30, 32, 33)
async def test_lines(server, recorded):
    async with aiotaos.connect(server.dsn, database="cap_sml") as conn:
        exchange = recorded.next(path="/influxdb/v1/write")
        await conn.schemaless_insert(exchange.sql, SchemalessProtocol.LINE, "ms", req_id=7)
        exchange = recorded.next(path="/opentsdb/v1/put/telnet/cap_sml")
        await conn.schemaless_insert(exchange.sql, SchemalessProtocol.TELNET)
        exchange = recorded.next(path="/opentsdb/v1/put/json/cap_sml")
        await conn.schemaless_insert(exchange.sql, SchemalessProtocol.JSON)
        assert await conn.fetchval("select 1") == 1
    query = recorded.requests[30].query
    assert (query["db"], query["precision"], query["req_id"]) == ("cap_sml", "ms", "7")
    for request in recorded.requests.values():
        check_http_headers(request)


@replays(31)
async def test_a_line_that_is_refused(server, recorded):
    async with aiotaos.connect(server.dsn, database="cap_sml") as conn:
        recorded.next(path="/influxdb/v1/write")
        with pytest.raises(SchemalessError) as raised:
            await conn.schemaless_insert("broken", precision="ms", req_id=8)
        error = raised.value
        assert (error.code, error.req_id) == (0x3002, 8)
        assert "SML line cols is empty" in error.message
        assert "broken" in error.message
        assert await conn.fetchval("select 1") == 1


def test_no_exchange_is_left_out():
    assert len(EXCHANGES) == len(EXPECTED) == 34
    assert sorted(set(covered)) == list(range(34))


def test_the_recording_is_what_the_independent_client_saw():
    for exchange, expected in zip(EXCHANGES, EXPECTED, strict=True):
        path = exchange.path + (f"?{exchange.query}" if exchange.query else "")
        assert (path, exchange.sql) == (expected["path"], expected["sql"] or "")
        assert (exchange.status, exchange.body.decode()) == (expected["status"], expected["body"])

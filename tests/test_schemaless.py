"""Schemaless writing: its lines and arguments, what is sent, and what comes to stand."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

import aiotaos
from aiotaos import DataError, InterfaceError, SchemalessError, SchemalessProtocol, line

CAPTURES = Path(__file__).parent / "data" / "captures"
MOMENT = datetime(2024, 3, 1, tzinfo=UTC)


@pytest.fixture
async def db():
    async with aiotaos.connect("embedded://") as connection:
        await connection.execute("create database d precision 'ms'")
        await connection.execute("use d")
        yield connection


@pytest.fixture
def sent(server):
    """What the adapter got: the arguments of each ``insert``."""
    server.handlers["insert"] = answer
    return lambda: [request.args for request in server.session.seen("insert")]


async def answer(session, request):
    reply = {"code": 0, "message": "", "action": "insert", "req_id": request.req_id}
    return [json.dumps(reply | {"affected_rows": 3, "total_rows": 4})]


# What is sent.


async def test_arguments(conn, sent):
    assert await conn.schemaless_insert("a b=1 1") == 3
    assert await conn.schemaless_insert(
        ["a b=1 1", "涛 b=2 2".encode()], precision="us", ttl=2, req_id=77, table_name_key="host"
    )
    text = "\n".join(["a b=1 1", "涛 b=2 2"])
    first, second = sent()
    req_id = first.pop("req_id")
    assert 0 < req_id < 2**63
    assert first == {
        "protocol": 1,
        "precision": "ms",
        "ttl": 0,
        "data": "a b=1 1",
        "table_name_key": None,
    }
    assert second == {
        "req_id": 77,
        "protocol": 1,
        "precision": "u",  # what the server knows microseconds as
        "ttl": 2,
        "data": text,
        "table_name_key": "host",
    }


@pytest.mark.parametrize("precision", ["h", "m", "s", "ms", "ns"])
async def test_precisions(conn, sent, precision):
    await conn.schemaless_insert("a b=1 1", precision=precision)
    assert sent()[0]["precision"] == precision


@pytest.mark.parametrize("given", [SchemalessProtocol.TELNET, 2])
async def test_protocols(conn, sent, given):
    await conn.schemaless_insert(iter(["m 1 1 a=b", b"m 2 2 a=b"]), given)
    assert sent()[0]["protocol"] == 2
    assert sent()[0]["data"] == "m 1 1 a=b\nm 2 2 a=b"


async def test_the_recorded_refusal(conn, server):
    """An answer of the real server to a protocol that there is not."""
    lines = (CAPTURES / "schemaless_ws.wire.jsonl").read_text().splitlines()
    recorded = next(json.loads(e["data"]) for e in map(json.loads, lines) if "12288" in str(e))

    async def refuse(session, request):
        return [json.dumps(recorded | {"req_id": request.req_id})]

    server.handlers["insert"] = refuse
    with pytest.raises(SchemalessError, match="protocol invalidate") as caught:
        await conn.schemaless_insert("x", req_id=5)
    assert (caught.value.code, caught.value.req_id) == (0x3000, 5)


async def test_no_answer_in_time(conn, server, sent):
    gate = server.hold("insert")
    with pytest.raises(aiotaos.TimeoutError) as caught:
        await conn.schemaless_insert("a b=1 1", timeout=0.05)
    assert caught.value.may_have_run is True
    gate.open()


@pytest.mark.parametrize(
    ("lines", "arguments", "message"),
    [
        (5, {}, "lines: expected text or several, got int"),
        (["a", 5], {}, "line 1: expected str or bytes, got 5"),
        (
            b"\xff",
            {},
            "line 0: it is not UTF-8: 'utf-8' codec can't decode byte 0xff in position 0",
        ),
        ("\ud800", {}, "line 0: it cannot be sent as UTF-8: 'utf-8' codec can't encode character"),
        ("a", {"protocol": 4}, "protocol: expected LINE, TELNET or JSON of SchemalessProtocol"),
        (
            "a",
            {"protocol": "LINE"},
            "protocol: expected LINE, TELNET or JSON of SchemalessProtocol",
        ),
        (["{}", "{}"], {"protocol": 3}, "lines: expected one JSON document, got 2"),
        ([], {"protocol": 3}, "lines: expected one JSON document, got 0"),
        ("a", {"precision": "d"}, "precision: expected 'h', 'm', 's', 'ms', 'us' or 'ns', got 'd'"),
        ("a", {"ttl": -1}, "ttl: expected a whole number of days from 0, got -1"),
        ("a", {"ttl": True}, "ttl: expected a whole number of days from 0, got True"),
        ("a", {"ttl": 1.5}, "ttl: expected a whole number of days from 0, got 1.5"),
        ("a", {"ttl": 2**31}, "ttl: expected a whole number of days from 0, got 2147483648"),
        ("a", {"req_id": 0}, "req_id: expected an integer from 1 to 2**63 - 1, got 0"),
        ("a", {"table_name_key": 5}, "table_name_key: expected the name of a tag, got 5"),
    ],
)
async def test_bad_arguments(conn, sent, lines, arguments, message):
    with pytest.raises(InterfaceError) as caught:
        await conn.schemaless_insert(lines, **arguments)
    assert str(caught.value).startswith(message)
    assert sent() == []


async def test_a_closed_connection(conn, sent):
    await conn.close()
    with pytest.raises(InterfaceError, match="is closed"):
        await conn.schemaless_insert("a b=1 1")
    assert sent() == []


# Lines.


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("m", {"a": 1}), "m a=1i64"),
        (("m", {"a": True, "b": np.False_}), "m a=true,b=false"),
        (("m", {"a": -(2**63), "b": 2**64 - 1}), f"m a={-(2**63)}i64,b={2**64 - 1}u64"),
        (("m", {"a": 1.5, "b": 1e300, "c": np.float32(0.5)}), "m a=1.5f64,b=1e+300f64,c=0.5f32"),
        (("m", {"a": np.int8(-1), "b": np.uint16(1)}), "m a=-1i8,b=1u16"),
        (("m", {"a": np.int64(1), "b": np.uint64(1)}), "m a=1i64,b=1u64"),
        (("m", {"a": 'x "y" \\ ,=涛'}), 'm a="x \\"y\\" \\\\ ,=涛"'),
        (("m", {"a": b"\x00\xff", "b": bytearray(b"")}), r'm a=B"\x00ff",b=B"\x"'),
        (("m", {"a": None, "b": 1}), "m b=1i64"),
        (("m", {"a": 1}, {"t": "x", "u": 5, "v": None, "w": ""}), "m,t=x,u=5 a=1i64"),
        (("m x,y", {"k ,=": 1}, {"t =": "a,b c=d"}), r"m\ x\,y,t\ \==a\,b\ c\=d k\ \,\==1i64"),
        (("m", {"a": 1}, None, 5), "m a=1i64 5"),
        (("m", {"a": 1}, {}, np.int64(5)), "m a=1i64 5"),
        (("m", {"a": 1}, {}, MOMENT), "m a=1i64 1709251200000"),
        (("m", {"a": 1}, {}, np.datetime64("2024-03-01")), "m a=1i64 1709251200000"),
    ],
)
def test_lines(arguments, text):
    assert line(*arguments) == text


@pytest.mark.parametrize(
    ("precision", "ticks"),
    [
        ("h", 474792),
        ("m", 28487520),
        ("s", 1709251200),
        ("ms", 1709251200000),
        ("us", 1709251200000000),
        ("u", 1709251200000000),
        ("ns", 1709251200000000000),
    ],
)
def test_timestamps_of_lines(precision, ticks):
    assert line("m", {"a": 1}, timestamp=MOMENT, precision=precision) == f"m a=1i64 {ticks}"


def test_an_unknown_precision_of_a_line():
    with pytest.raises(InterfaceError, match=r"^precision: expected 'h', .* got 'd'$"):
        line("m", {"a": 1}, timestamp=1, precision="d")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", {"a": 1}), "measurement: expected text in one line, got ''"),
        (("a\nb", {"a": 1}), r"measurement: expected text in one line, got 'a\nb'"),
        ((None, {"a": 1}), "measurement: expected text in one line, got None"),
        (("m", {}), "fields: expected at least one value, got {}"),
        (("m", {"a": None}), "fields: expected at least one value, got {'a': None}"),
        (("m", {"": 1}), "field: expected text in one line, got ''"),
        (("m", {"a\\": 1}), r"field: 'a\\' has a backslash before a separator"),
        (("m", {"a": 1}, {"t": "x\ny"}), r"tag: expected text in one line, got 'x\ny'"),
        (
            ("m", {"a": 1}, {"t": "x\\"}),
            r"tag: 'x\\' has a backslash before a separator",
        ),
        (("m", {"a": 2**64}), "field 'a': 18446744073709551616 has more than 64 bits"),
        (("m", {"a": float("nan")}), "field 'a': nan cannot be written"),
        (("m", {"a": np.float32("inf")}), "field 'a': np.float32(inf) cannot be written"),
        (("m", {"a": "x\ny"}), r"field 'a': 'x\ny' has a NUL or a line break, which ends the line"),
        (
            ("m", {"a": Decimal(1)}),
            "field 'a': Decimal('1') cannot be written; expected bool, int, float, str or bytes",
        ),
        (
            ("m", {"a": 1}, {}, datetime(2024, 1, 1)),
            "timestamp: datetime.datetime(2024, 1, 1, 0, 0) has no time zone: expected an aware",
        ),
        (("m", {"a": 1}, {}, True), "timestamp: True is not a value of TIMESTAMP: expected an"),
        (("m", {"a": 1}, {}, "now"), "timestamp: 'now' is not a value of TIMESTAMP: expected an"),
        (("m", {"a": 1}, {}, np.datetime64("NaT")), "timestamp: np.datetime64('NaT"),
    ],
)
def test_bad_lines(arguments, message):
    with pytest.raises(DataError) as caught:
        line(*arguments)
    assert str(caught.value).startswith(message)


# What comes to stand.


async def test_lines_come_back(db):
    fields = {
        "text": 'it\'s "x", a=b \\ 涛',
        "raw": b"\x00\xff",
        "large": 2**63 - 1,
        "huge": np.uint64(2**64 - 1),
        "small": np.int8(-128),
        "float": 0.1,
        "single": np.float32(1.5),
        "yes": True,
    }
    text = line("my m,x", fields, {"place": "a b,c=d", "n": 5}, MOMENT)
    assert await db.schemaless_insert([text]) == 1
    row = await db.fetchrow("select * from `my m,x`", row_factory=aiotaos.dict_row)
    assert row.pop("_ts") == MOMENT
    assert row == fields | {"place": "a b,c=d", "n": "5"}


@pytest.mark.parametrize("precision", ["s", "ms", "us", "ns"])
async def test_timestamps_come_back(db, precision):
    text = line("m", {"a": 1}, timestamp=MOMENT, precision=precision)
    assert await db.schemaless_insert(text, precision=precision) == 1
    assert await db.fetchval("select _ts from m") == MOMENT


async def test_the_other_protocols(db):
    telnet = ["tel 1709251200 1.5 host=a", "tel 1709251201 2.5 host=a"]
    assert await db.schemaless_insert(telnet, SchemalessProtocol.TELNET) == 2
    assert await db.fetch("select _value, host from tel") == [(1.5, "a"), (2.5, "a")]
    document = {"metric": "js", "timestamp": 1709251200, "value": 3, "tags": {"host": "a"}}
    assert await db.schemaless_insert(json.dumps(document), SchemalessProtocol.JSON) == 1
    assert await db.fetchval("select _ts from js") == MOMENT


async def test_table_names_and_days_to_live(db):
    text = line("m", {"a": 1}, {"host": "h1"}, MOMENT)
    assert await db.schemaless_insert(text, ttl=3, table_name_key="host") == 1
    assert await db.fetchval("select tbname from m") == "h1"


async def test_a_refused_line(db):
    with pytest.raises(SchemalessError) as caught:
        await db.schemaless_insert("no line at all")
    assert caught.value.code is not None
    assert await db.fetch("show stables") == []


async def test_the_only_line_is_named(db):
    with pytest.raises(SchemalessError) as caught:
        await db.schemaless_insert("broken line")
    assert caught.value.message.endswith("; the line: broken line")


async def test_no_lines(db):
    assert await db.schemaless_insert([]) == 0


async def test_a_dict_is_no_lines(db):
    with pytest.raises(InterfaceError, match="lines: expected text or several, got dict"):
        await db.schemaless_insert({"m v=1": 1})


@pytest.mark.parametrize(
    "arguments",
    [
        ("m", {"f": 1}, {"g": "a\\,evil\\=1"}),
        ("m\\,role=admin", {"f": 1}),
        ("m\\", {"f": 1}),
        ("m", {"f": 1}, {"g": "a\\\\b"}),
        ("\\\\m", {"f": 1}),
        ("m\0", {"f": 1}),
        ("#m", {"f": 1}),
        ("m", {"f": "a\0b"}),
    ],
    ids=repr,
)
def test_what_line_protocol_cannot_hold(arguments):
    with pytest.raises(DataError):
        line(*arguments)


def test_integers_of_the_platform():
    assert line("m", {"f": np.longlong(5)}) == "m f=5i64"

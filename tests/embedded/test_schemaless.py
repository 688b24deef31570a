"""Schemaless writing: the three formats, and what they make."""

from __future__ import annotations

import hashlib
import json
import struct
import time

import pytest

from aiotaos.embedded.engine import Engine, State
from aiotaos.embedded.faults import Fault

LINE, TELNET, JSON = 1, 2, 3
T0 = 1709251200000


@pytest.fixture
def write(engine, run):
    def insert(data, protocol=LINE, precision="ms", name_tag="", database="test"):
        return engine.insert_points(database, data, protocol, precision, name_tag)

    return insert


def described(run, table):
    return [tuple(row[:4]) for row in run(f"describe `{table}`")]


def test_types_of_fields(write, run):
    assert (
        write(
            "t,tag=x d=1,d64=-1.5e3f64,f=2.5f32,i8=-128i8,u8=255u8,i16=1i16,u16=1u16,i32=-1i32,"
            "u32=1u32,i64=1i64,i=2i,u64=18446744073709551615u64,u=3U,b1=t,b2=TRUE,b3=False,"
            's="x",n=L"宽x",vb=B"\\x00ff",vt=B"ab",g=G"POINT(1 2)" 1709251200000'
        )
        == 1
    )
    assert described(run, "t") == [
        ("_ts", "TIMESTAMP", 8, ""),
        ("d", "DOUBLE", 8, ""),
        ("d64", "DOUBLE", 8, ""),
        ("f", "FLOAT", 4, ""),
        ("i8", "TINYINT", 1, ""),
        ("u8", "TINYINT UNSIGNED", 1, ""),
        ("i16", "SMALLINT", 2, ""),
        ("u16", "SMALLINT UNSIGNED", 2, ""),
        ("i32", "INT", 4, ""),
        ("u32", "INT UNSIGNED", 4, ""),
        ("i64", "BIGINT", 8, ""),
        ("i", "BIGINT", 8, ""),
        ("u64", "BIGINT UNSIGNED", 8, ""),
        ("u", "BIGINT UNSIGNED", 8, ""),
        ("b1", "BOOL", 1, ""),
        ("b2", "BOOL", 1, ""),
        ("b3", "BOOL", 1, ""),
        ("s", "VARCHAR", 2, ""),
        ("n", "NCHAR", 8, ""),
        ("vb", "VARBINARY", 4, ""),
        ("vt", "VARBINARY", 4, ""),
        ("g", "GEOMETRY", 32, ""),
        ("tag", "NCHAR", 2, "TAG"),
    ]
    (row,) = run("select * from t")
    assert row == (
        *(T0, 1.0, -1500.0, 2.5, -128, 255, 1, 1, -1, 1, 1, 2, 2**64 - 1, 3),
        *(True, True, False, "x", "宽x", b"\0\xff", b"ab", struct.pack("<BIdd", 1, 1, 1, 2), "x"),
    )


def test_escapes_and_comments(write, run):
    lines = (
        "# a comment\n\n"
        'my\\,m\\ 1,k\\=\\,1=a\\ b\\,c\\=d\\e f\\ 1="q\\"\\\\ , =#",v=1 1709251200000\n'
    )
    assert write(lines) == 1
    assert run("select `k=,1`, `f 1`, v from `my,m 1`") == [("a b,c=d\\e", 'q"\\ , =#', 1.0)]


@pytest.mark.parametrize(
    ("precision", "text", "ticks"),
    [
        ("h", "474792", T0),
        ("m", "28487520", T0),
        ("s", "1709251200", T0),
        ("ms", "1709251200000", T0),
        ("u", "1709251200000999", T0),
        ("ns", "1709251200000999999", T0),
        ("", "1709251200000999999", T0),
        ("nosuch", "1709251200000999999", T0),
        ("ms", "1709251200000 and what follows", T0),
    ],
)
def test_times_of_lines(write, run, precision, text, ticks):
    write(f"t,k=a v=1 {text}", precision=precision)
    assert run("select _ts from t") == [(ticks,)]


@pytest.mark.parametrize("end", ["", " 0", "  "])
def test_a_line_without_a_time_is_of_now(write, run, end):
    write(f"t,k=a v=1{end}")
    ((ticks,),) = run("select _ts from t")
    assert abs(ticks - time.time() * 1000) < 10_000


def test_columns_tags_and_widths_grow(write, run):
    write('t,a=1 v=1,s="ab" 1')
    write('t,a=12345,b=x w=2i32,s="12345678" 2\nt v=3 3')
    assert described(run, "t") == [
        ("_ts", "TIMESTAMP", 8, ""),
        ("v", "DOUBLE", 8, ""),
        ("s", "VARCHAR", 16, ""),
        ("w", "INT", 4, ""),
        ("a", "NCHAR", 8, "TAG"),
        ("b", "NCHAR", 2, "TAG"),
    ]
    assert run("select _ts, v, s, w, a, b from t order by _ts") == [
        (1, 1.0, "ab", None, "1", None),
        (2, None, "12345678", 2, "12345", "x"),
        (3, 3.0, None, None, None, None),
    ]
    write("t,a=1 v=9 1")
    assert run("select v, s from t where _ts = 1") == [(9.0, "ab")]


def test_names_of_sub_tables(write, run):
    write("my.m,b=2,a=1 v=1 1\nbare v=1 1")
    named = "t_" + hashlib.md5(b"my_m,a=1,b=2").hexdigest()
    assert run("select tbname from my_m") == [(named,)]
    assert run("select tbname, _tag_null from bare") == [
        ("t_" + hashlib.md5(b"bare").hexdigest(), None)
    ]
    typed = {"i": {"value": 7, "type": "int"}, "b": True, "d": 1, "s": "x"}
    point = {"metric": "j", "timestamp": 1709251200, "value": 1, "tags": typed}
    write(json.dumps(point), JSON)
    key = b"j,b=\1,d=" + struct.pack("<d", 1) + b",i=\7\0\0\0,s=x"
    assert run("select tbname from j") == [("t_" + hashlib.md5(key).hexdigest(),)]


def test_a_tag_that_names_the_sub_table(write, run):
    write("t,name=my.tb,k=a v=1 1\nt,name=my.tb,k=b v=2 2\nt,k=c v=3 3", name_tag="name")
    named = "t_" + hashlib.md5(b"t,k=c").hexdigest()
    assert run("select tbname, k, v from t order by _ts") == [
        ("my_tb", "a", 1.0),
        ("my_tb", "a", 2.0),
        (named, "c", 3.0),
    ]
    assert [row[0] for row in described(run, "t")] == ["_ts", "v", "k"]


def test_telnet(write, run):
    assert (
        write('sys.c 1709251200 1.5 h=a c=0\nsys.c 1709251200001 2 h=b\nt 0 L"x" h=a', TELNET) == 3
    )
    assert run("select _ts, _value, h, c from sys_c order by _ts") == [
        (T0, 1.5, "a", "0"),
        (T0 + 1, 2.0, "b", None),
    ]
    assert run("select _value, h from t") == [("x", "a")]


def test_json(write, run):
    points = [
        {"metric": "a.b", "timestamp": 1709251200, "value": 1, "tags": {"s": "é", "n": 2.5}},
        {
            "metric": "a.b",
            "timestamp": {"value": 1709251200001000, "type": "us"},
            "value": {"value": 2.5, "type": "double"},
            "tags": {"s": {"value": "x", "type": "binary"}, "ok": False},
        },
    ]
    assert write(json.dumps(points), JSON) == 2
    assert run("select _ts, _value, s, n, ok from a_b order by _ts") == [
        (T0, 1.0, "é", 2.5, None),
        (T0 + 1, 2.5, "x", None, False),
    ]
    for name, value, stored in (
        ("bigint", 5, 5),
        ("u", "x", None),
        ("NChar", "宽", "宽"),
        ("bool", True, True),
        ("i8", -128, -128),
    ):
        point = {"metric": f"m{name}", "timestamp": 0, "tags": {"k": "v"}}
        point["value"] = {"value": value, "type": name}
        if stored is None:
            with pytest.raises(Fault, match="Invalid JSON data type"):
                write(json.dumps(point), JSON)
        else:
            write(json.dumps(point), JSON)
            assert run(f"select _value from `m{name}`") == [(stored,)]


@pytest.mark.parametrize(
    ("data", "protocol", "code", "message"),
    [
        ("broken", LINE, 0x3002, "SML line cols is empty"),
        ("a b c", LINE, 0x3002, "SML line invalid data: c"),
        ("a,b c=1", LINE, 0x3002, "SML line invalid data: c=1"),
        ("a,b= c=1", LINE, 0x3002, "SML line invalid value: c=1"),
        ("a,b=1=2 c=1", LINE, 0x3002, "SML line invalid data:=2 c=1"),
        ("a,=1 c=1", LINE, 0x3002, "SML line invalid key or key is too long than 64:=1 c=1"),
        ("a c= 1", LINE, 0x3002, "SML line invalid value: 1"),
        ('a c="x 1', LINE, 0x3002, 'SML line unbalanced quotes:"x 1'),
        ('a c=L"x 1', LINE, 0x3002, 'SML line unbalanced quotes:L"x 1'),
        ("a c=x 1", LINE, 0x0224, "SML line parse value failed:x 1"),
        ("a c=1q 1", LINE, 0x0224, "SML line parse value failed:1q 1"),
        ("a c=128i8 1", LINE, 0x0224, "SML line parse value failed:128i8 1"),
        ("a c=1e39f32 1", LINE, 0x0224, "SML line parse value failed:1e39f32 1"),
        ('a c=G"nowhere" 1', LINE, 0x0224, 'SML line parse value failed:G"nowhere" 1'),
        ("a c=1 x", LINE, 0x3002, "SML line invalid timestamp:x"),
        ("a c=1 -1", LINE, 0x0133, "Invalid timestamp format"),
        ("a c=1,c=2 1", LINE, 0x021D, "SML duplicate key:c"),
        ("a,c=1 c=2 1", LINE, 0x021D, "SML duplicate key:c"),
        (",a=1 c=1", LINE, 0x021B, "SML line measure is empty or too large than 192"),
        ("x", TELNET, 0x3002, "SML telnet invalid data:x"),
        ("x 1 1", TELNET, 0x0224, "SML telnet invalid data:x 1 1"),
        ("x 12 1 a=b", TELNET, 0x0133, "Invalid timestamp format"),
        ("x 1709251200 1 a", TELNET, 0x3002, "SML telnet invalid data:a"),
        ("x 1709251200 1 a=1 a=2", TELNET, 0x021D, "SML duplicate key:a"),
        ('a c=B"\\x0" 1', LINE, 0x0224, 'SML line parse value failed:B"\\x0" 1'),
        ("a c=1e999i8 1", LINE, 0x0224, "SML line parse value failed:1e999i8 1"),
        ("{", JSON, 0x0221, "Invalid JSON format"),
        (
            '{"metric": "", "timestamp": 0, "value": 1, "tags": {"k": 1}}',
            JSON,
            0x021B,
            "SML json invalid metric:",
        ),
        (
            '{"metric": "m", "timestamp": 0, "value": 1, "tags": {"": 1}}',
            JSON,
            0x021B,
            "SML json invalid tag key",
        ),
        (
            '{"metric": "m", "timestamp": 0, "value": null, "tags": {"k": 1}}',
            JSON,
            0x0222,
            "Invalid JSON data type",
        ),
        (
            '{"metric": "m", "timestamp": {"value": 1, "type": "y"}, "value": 1, "tags": {}}',
            JSON,
            0x0222,
            "Invalid JSON data type",
        ),
        (
            '{"metric": "m", "timestamp": {"value": -1, "type": "s"}, "value": 1, "tags": {}}',
            JSON,
            0x0133,
            "Invalid timestamp format",
        ),
        ("7", JSON, 0x0221, "Invalid JSON format"),
        ('{"metric": "m"}', JSON, 0x0221, "Invalid JSON format"),
        (
            '{"metric": "m", "timestamp": "x", "value": 1, "tags": {"k": 1}}',
            JSON,
            0x0222,
            "Invalid JSON data type",
        ),
        (
            '{"metric": "m", "timestamp": 5, "value": 1, "tags": {"k": 1}}',
            JSON,
            0x0133,
            "Invalid timestamp format",
        ),
        ("x", 9, 0x3000, "protocol invalidate"),
    ],
)
def test_what_is_wrong(write, run, data, protocol, code, message):
    with pytest.raises(Fault) as caught:
        write(data, protocol)
    assert (caught.value.code, caught.value.message) == (code, message)
    assert run("show stables") == []


def test_a_value_of_another_type(write):
    write("t,k=a v=1 1")
    for line in ("t,k=a v=1i64 2", "t,v=a w=1 2", "t w=1 2\nt w=2i8 3"):
        with pytest.raises(Fault) as caught:
            write(line)
        assert caught.value.code == 0x3004


def test_tables_that_are_in_the_way(write, run):
    run("create table n (ts timestamp, v double)")
    with pytest.raises(Fault) as caught:
        write("n,k=a v=1 1")
    assert caught.value.code == 0x3005
    with pytest.raises(Fault, match="Table does not exist"):
        write("t,name=n v=1 1", name_tag="name")


def test_without_a_database(write):
    for database, message in (("", "Database not specified"), ("nosuch", "Database not exist")):
        with pytest.raises(Fault, match=message):
            write("t v=1 1", database=database)


def test_too_long_a_string(write):
    with pytest.raises(Fault) as caught:
        write(f't s="{"x" * 65518}" 1')
    assert caught.value.code == 0x2653


def test_many_lines(write, run):
    lines = "\n".join(
        f't,host=h{row % 100} v={row},s="text {row}",n={row}i64 {T0 + row}' for row in range(10_000)
    )
    assert write(lines) == 10_000
    assert run("select count(*), sum(n) from t") == [(10_000, 49_995_000)]


async def test_databases_are_made_by_http(http, rest):
    line = b"m,k=a v=1 1709251200000000001"
    async with http.post("/influxdb/v1/write", params={"db": "new"}, data=line) as response:
        assert (response.status, await response.text()) == (204, "")
    assert (await rest("select * from new.m"))["data"] == [
        ["2024-03-01T00:00:00.000000001Z", 1.0, "a"]
    ]
    async with http.post("/opentsdb/v1/put/telnet/new2", data=b"x 1 2") as response:
        assert response.status == 500
        assert await response.json() == {"code": 0x0224, "message": "SML telnet invalid data:x 1 2"}


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/influxdb/v1/write?db=x&u=root&p=bad", {"code": "unauthorized"}),
        ("/influxdb/v1/write?db=x", {"code": "unauthorized"}),
        ("/opentsdb/v1/put/json/x", {"code": 0x1105}),
    ],
)
async def test_who_may_write_by_http(http, path, answer):
    async with http.post(path, data=b"m v=1", headers={"Authorization": ""}) as response:
        assert response.status == 401
        assert (await response.json())["code"] == answer["code"]
    path = "/influxdb/v1/write?db=x&u=root&p=taosdata&table_name_key=t"
    async with http.post(path, data=b"m,t=a v=1", headers={"Authorization": ""}) as response:
        assert response.status == 204
    async with http.post("/influxdb/v1/write", data=b"m v=1") as response:
        assert (response.status, (await response.json())["message"]) == (400, "db is required")


def test_what_was_made_lasts(tmp_path):
    path = str(tmp_path / "data")
    for number, line in enumerate(["t,k=a v=1 1", 't,k=abc v=2,s="x" 2', "t,k=a w=t 3"]):
        engine = Engine(path)
        if number == 0:
            engine.execute("create database d", State())
        assert engine.insert_points("d", line, LINE, "ms", "") == 1
        engine.close()
    engine = Engine(path)
    result = engine.execute("select v, s, w, k from d.t order by _ts", State())
    block = result.next_block()
    assert [list(column) for column in block] == [
        [1.0, 2.0, None],
        [None, "x", None],
        [None, None, True],
        ["a", "abc", "a"],
    ]
    result.close()
    engine.close()


async def test_the_action(fresh):
    await fresh.ask("conn", req_id=1, user="root", password="taosdata")
    reply = await fresh.ask("insert", req_id=2, protocol=1, precision="ms", data="t v=1 1")
    assert (reply["code"], reply["message"]) == (0x2616, "Database not specified")
    await fresh.query("create database d")
    await fresh.query("use d")
    reply = await fresh.ask("insert", req_id=3, data="t v=1 1")
    assert (reply["code"], reply["message"]) == (65535, "schemaless write protocol is null")
    assert (reply["action"], reply["req_id"]) == ("insert", 3)
    data = "# no line\nt v=1 1\nt v=2 1\n\nt v=3 2\n"
    reply = await fresh.ask("insert", req_id=4, protocol=1, precision="ms", data=data, ttl=1)
    assert (reply["code"], reply["affected_rows"], reply["total_rows"]) == (0, 2, 4)
    assert await fresh.rows("select v from t order by _ts") == [(2.0,), (3.0,)]
    reply = await fresh.ask("insert", req_id=5, protocol="x")
    assert reply["message"] == "unmarshal schemaless insert request error"

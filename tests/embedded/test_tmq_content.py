"""What the messages of topics hold: rows of every origin, and changes of what exists."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

import aiotaos

CAPTURES = Path(__file__).parent.parent / "data" / "captures"
T0 = 1709251200000
TS = {"name": "ts", "type": 9, "isPrimarykey": False}
TS |= {"encode": "delta-i", "compress": "lz4", "level": "medium"}
V = {"name": "v", "type": 4, "isPrimarykey": False}
V |= {"encode": "simple8b", "compress": "lz4", "level": "medium"}
N = {"name": "n", "type": 10, "length": 10, "isPrimarykey": False}
N |= {"encode": "disabled", "compress": "zstd", "level": "medium"}
STABLE = {
    "type": "create",
    "tableType": "super",
    "tableName": "s",
    "columns": [TS, V, N],
    "tags": [{"name": "t", "type": 4}, {"name": "loc", "type": 8, "length": 8}],
}


def altered(table: str, kind: int, column: str, **more: object) -> dict[str, object]:
    head = {"type": "alter", "tableType": "normal" if table == "nt" else "super"}
    return {**head, "tableName": table, "alterType": kind, "colName": column, **more}


def set_tag(**change: object) -> dict[str, object]:
    return {"type": "alter", "tableType": "child", "tableName": "a", **change}


def tags_of(name: str, *values: object) -> dict[str, object]:
    """A sub-table of ``s`` with an INT and a VARCHAR as tags."""
    types = {"t": 4, "loc": 8}
    tags = [
        {"name": tag, "type": type, "value": value}
        for (tag, type), value in zip(types.items(), values, strict=True)
        if value is not None
    ]
    return {"tableName": name, "using": "s", "tagNum": 2, "tags": tags}


def child(*described: dict[str, object]) -> dict[str, object]:
    more = list(described) if len(described) > 1 else []
    return {"type": "create", "tableType": "child", **described[0], "createList": more}


# each statement with what a TDengine 3.3.7 told of it
CHANGES = [
    ("create stable d.s (ts timestamp, v int, n nchar(10)) tags (t int, loc varchar(8))", STABLE),
    ("create table d.a using d.s tags (1, 'x')", child(tags_of("a", 1, '"x"'))),
    (
        "create table d.nt (ts timestamp, v int, d decimal(10,2), b varbinary(7))",
        {
            "type": "create",
            "tableType": "normal",
            "tableName": "nt",
            "columns": [
                TS,
                V,
                {
                    "name": "d",
                    "type": 21,
                    "isPrimarykey": False,
                    "encode": "disabled",
                    "compress": "zstd",
                    "level": "medium",
                },
                {
                    "name": "b",
                    "type": 16,
                    "length": 7,
                    "isPrimarykey": False,
                    "encode": "disabled",
                    "compress": "zstd",
                    "level": "medium",
                },
            ],
            "tags": [],
        },
    ),
    (
        "create table d.a2 using d.s (t) tags (1) d.a3 using d.s tags (2, 'y')",
        child(tags_of("a2", 1, None), tags_of("a3", 2, '"y"')),
    ),
    ("alter table d.s add column w double", altered("s", 5, "w", colType=7)),
    ("alter table d.s drop column w", altered("s", 6, "w")),
    (
        "alter table d.s modify column n nchar(12)",
        altered("s", 7, "n", colType=10, colLength=12),
    ),
    ("alter table d.s add tag tt int", altered("s", 1, "tt", colType=4)),
    ("alter table d.s rename tag tt ttt", altered("s", 3, "tt", colNewName="ttt")),
    ("alter table d.s drop tag ttt", altered("s", 2, "ttt")),
    (
        "alter table d.s modify tag loc varchar(20)",
        altered("s", 8, "loc", colType=8, colLength=20),
    ),
    (
        "alter table d.a set tag loc='new'",
        set_tag(alterType=4, colName="loc", colValue='"new"', colValueNull=False),
    ),
    (
        "alter table d.a set tag loc='new2', t=5",
        set_tag(
            alterType=15,
            tags=[
                {"colName": "loc", "colValue": '"new2"', "colValueNull": False},
                {"colName": "t", "colValue": "5", "colValueNull": False},
            ],
        ),
    ),
    (
        "alter table d.a set tag loc=null",
        set_tag(alterType=4, colName="loc", colValueNull=True),
    ),
    ("alter table d.nt add column x float", altered("nt", 5, "x", colType=6)),
    ("alter table d.nt rename column x y", altered("nt", 10, "x", colNewName="y")),
    ("alter table d.nt drop column y", altered("nt", 6, "y")),
    ("drop table d.a2", {"type": "drop", "tableNameList": ["a2"]}),
    ("drop table d.nt", {"type": "drop", "tableNameList": ["nt"]}),
    ("drop stable d.s", {"type": "drop", "tableType": "super", "tableName": "s"}),
]


@pytest.fixture
async def db(sql):
    await sql("create database d vgroups 1")
    return sql


@pytest.fixture
async def stable(db):
    await db("create stable d.s (ts timestamp, v int, n nchar(10)) tags (t int, loc varchar(8))")
    return db


@pytest.fixture
async def sub(subscriber):
    return await subscriber()


async def test_changes_one_by_one(sub, db):
    await db("create topic m with meta as database d")
    await db(*(statement for statement, _ in CHANGES))
    await sub.subscribe("m", enable_batch_meta="0")
    for place, (statement, meta) in enumerate(CHANGES, start=1):
        message = await sub.poll()
        assert (message["message_type"], message["offset"]) == (2, place), statement
        assert await sub.metas(message["message_id"]) == meta, statement
    assert not (await sub.poll())["have_message"]


async def test_changes_together(sub, db):
    await db("create topic m with meta as database d")
    await db(*(statement for statement, _ in CHANGES))
    await sub.subscribe("m")
    message = await sub.poll()
    assert (message["message_type"], message["offset"]) == (2, len(CHANGES))
    metas = [meta for _, meta in CHANGES]
    assert await sub.metas(1) == {"tmq_meta_version": "1.0", "metas": metas}
    for action in ("fetch", "fetch_block"):
        assert (await sub.ask(action, message_id=1))["message"] == "message type is not data"
    refusal = "not supported by the embedded server: meta in binary form"
    assert (await sub.ask("fetch_raw", message_id=1))["message"] == refusal
    assert refusal.encode() in await sub.raw("fetch_raw_data", 1)
    assert (await sub.ask("fetch_json_meta", message_id=9))["message"] == "message ID are not equal"


async def test_tags_of_every_kind(sub, db):
    await db("create topic m with meta as database d")
    await db(
        "create stable d.s (ts timestamp, v int) tags (b bool, f double, vb varbinary(8), "
        "at timestamp, nc nchar(8))",
        rf"create table d.a using d.s tags (true, 0.1, '\x00fa', {T0}, '站\"q')",
        r"alter table d.a set tag b = false, f = 2.5, vb = '\x01', nc = '新', at = 7",
    )
    await sub.subscribe("m")
    await sub.poll()
    _, made, changed = (await sub.metas(1))["metas"]
    assert [tag["value"] for tag in made["tags"]] == [1, 0.1, r'"\x00FA"', T0, '"站"q"']
    told = {one["colName"]: one["colValue"] for one in changed["tags"]}
    assert told == {
        "b": "false",
        "f": "2.500000e+00",
        "vb": r'"\x01"',
        "nc": '"新"',
        "at": "7",
    }


async def test_every_vgroup_tells_of_a_super_table_and_one_of_a_sub_table(sub, sql):
    await sql("create database d", "create topic m with meta as database d", CHANGES[0][0])
    await sql(CHANGES[1][0])
    await sub.subscribe("m")
    found = []
    for _ in range(2):
        message = await sub.poll()
        found.append((await sub.metas(message["message_id"]))["metas"])
    assert sorted(found, key=len) == [[CHANGES[0][1]], [CHANGES[0][1], CHANGES[1][1]]]


async def test_rows_with_the_tables_that_they_made(sub, stable):
    await stable(
        "create topic m with meta as stable d.s",
        f"insert into d.b using d.s (t) tags (1) values ({T0}, 1, 'one') d.c using d.s tags "
        f"(2, 'loc') (ts, v) values ({T0}, 2)",
        f"insert into d.s (tbname, ts, v, t) values ('k', {T0}, 3, 4)",
        f"insert into d.b values ({T0 + 1}, 4, null)",
        "alter table d.s add column w int",
        f"insert into d.b values ({T0 + 2}, 5, null, 6)",
    )
    await sub.subscribe("m")
    assert [(await sub.poll())["message_type"]] == [2]
    message = await sub.poll()
    assert (message["message_type"], message["offset"]) == (3, 1)
    assert await sub.metas(2) == child(
        tags_of("b", 1, None), tags_of("c", 2, '"loc"'), tags_of("k", 4, None)
    )
    assert await sub.blocks(2) == [
        ("b", ["ts", "v", "n"], [(T0, 1, "one")]),
        ("c", ["ts", "v"], [(T0, 2)]),
        ("k", ["ts", "v"], [(T0, 3)]),
        ("b", ["ts", "v", "n"], [(T0 + 1, 4, None)]),
    ]
    frame = await sub.raw("fetch_raw_data", 2)
    assert frame[50:52] == b"\x04\0"
    assert frame[-6:] == b"b\0" + bytes(4)
    assert (await sub.poll())["message_type"] == 2
    assert (await sub.metas(3))["metas"] == [altered("s", 5, "w", colType=4)]
    assert (await sub.poll())["message_type"] == 1
    assert await sub.blocks(4) == [("b", ["ts", "v", "n", "w"], [(T0 + 2, 5, None, 6)])]


async def test_a_table_that_is_made_without_rows(sub, stable):
    await stable(
        f"insert into d.a using d.s tags (1, 'x') values ({T0}, 1, null)",
        "create topic m with meta as stable d.s",
    )
    await sub.subscribe("m")
    assert [(await sub.poll())["message_type"] for _ in range(2)] == [2, 1]
    await stable("insert into d.e using d.s tags (7, 'e') select ts, v, n from d.a where v > 1")
    await stable("create table d.f using d.s tags (8, null)")
    assert [(await sub.poll())["message_type"] for _ in range(2)] == [2, 2]
    assert (await sub.metas(4))["metas"] == [child(tags_of("f", 8, None))]
    await sub.do("seek", topic="m", vgroup_id=(await vgroups(sub, "m"))[0], offset=3)
    sub.last = 4
    await sub.poll()
    assert (await sub.metas(5))["metas"] == [child(tags_of("e", 7, '"e"'))]
    await sub.poll()
    await stable(f"insert into d.e values ({T0}, 1, null)")
    assert await sub.drain() == [("e", ["ts", "v", "n"], [(T0, 1, None)])]


async def test_rows_alone_and_changes_alone(subscriber, stable):
    await stable("create topic r as stable d.s", "create topic o only meta as stable d.s")
    await stable(
        "create stable d.other (ts timestamp, v int) tags (t int)",
        f"insert into d.a using d.s tags (1, 'x') values ({T0}, 1, null)",
        f"insert into d.z using d.other tags (1) values ({T0}, 1)",
        f"delete from d.a where ts = {T0}",
    )
    rows, changes = await subscriber(), await subscriber()
    await rows.subscribe("r")
    assert await rows.drain() == [("a", ["ts", "v", "n"], [(T0, 1, None)])]
    await changes.subscribe("o")
    message = await changes.poll()
    assert message["message_type"] == 2
    assert (await changes.metas(1))["metas"] == [STABLE, child(tags_of("a", 1, '"x"'))]
    assert not (await changes.poll())["have_message"]


async def test_deletions(sub, stable):
    await stable("create topic m with meta as database d")
    await stable(
        f"insert into d.a using d.s tags (1, 'x') values ({T0}, 1, null) ({T0 + 1}, 2, null) "
        f"({T0 + 2}, 3, null) d.b using d.s tags (2, 'y') values ({T0}, 1, null)",
        f"delete from d.s where ts < {T0 + 2}",
        f"delete from d.b where ts > {T0}",
    )
    await sub.subscribe("m")
    assert [(await sub.poll())["message_type"] for _ in range(3)] == [2, 3, 2]
    assert (await sub.metas(3))["metas"] == [
        {
            "type": "delete",
            "sql": f"delete from `a` where `ts` >= {T0} and `ts` <= {T0 + 1}",
        },
        {"type": "delete", "sql": f"delete from `b` where `ts` >= {T0} and `ts` <= {T0}"},
    ]


async def test_schemaless_rows_and_their_tables(sub, http, db):
    await db("create topic m with meta as database d")
    for lines in ("il,loc=x v=1i 1000000000", 'il,loc=longer v=2i,s="txt" 2000000000'):
        async with http.post("/influxdb/v1/write?db=d", data=lines) as response:
            assert response.status == 204
    await sub.subscribe("m")
    assert [(await sub.poll())["message_type"] for _ in range(2)] == [2, 3]
    (block,) = await sub.blocks(2)
    assert block[1:] == (["_ts", "v"], [(1000, 1)])
    assert (await sub.metas(2))["tags"] == [{"name": "loc", "type": 10, "value": '"x"'}]
    await sub.poll()
    metas = (await sub.metas(3))["metas"]
    assert [(m["alterType"], m["colName"]) for m in metas] == [(5, "s"), (8, "loc")]
    await sub.poll()
    assert [block[1:] for block in await sub.blocks(4)] == [(["_ts", "v", "s"], [(2000, 2, "txt")])]


# Rows.


def blocks_of(frame: bytes) -> Iterator[bytes]:
    """The blocks in an answer to ``fetch_raw_data``, with schema and name, to be compared."""
    raw = frame[56:]
    count = int.from_bytes(raw[23:27], "little")
    named, position = raw[27], 29

    def number() -> int:
        nonlocal position
        result = shift = 0
        while True:
            byte = raw[position]
            position += 1
            result |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return result

    def skip_text() -> None:
        nonlocal position
        size = number()
        position += size

    for _ in range(count):
        start = position
        size = number()
        position += size
        columns = number() >> 1
        number()
        for _ in range(columns):
            position += 2
            number()
            number()
            skip_text()
        if named:
            skip_text()
        yield raw[start:position]
    assert raw[position:] == bytes(8)


def recorded_blocks(topic: str) -> set[bytes]:
    """The blocks of a topic's messages from a real server."""
    lines = (CAPTURES / "tmq_data.wire.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    found: set[bytes] = set()
    current = ""
    for asked, event in itertools.pairwise(events):
        if event["path"] == "/rest/tmq" and event["kind"] == "binary":
            request = json.loads(asked["data"])
            assert request["action"] == "fetch_raw_data"
            if current == topic:
                found.update(blocks_of(base64.b64decode(event["b64"])))
        elif '"have_message":true' in (event.get("data") or ""):
            current = json.loads(event["data"])["topic"]
    return found


@pytest.mark.parametrize("topic", ["cap_q", "cap_s", "cap_d"])
async def test_the_blocks_of_a_recording(sub, sql, topic):
    expected = json.loads((CAPTURES / "tmq_data.expected.json").read_text(encoding="utf-8"))
    await sql(*(entry["sql"] for entry in expected if "sql" in entry))
    await sub.subscribe(topic)
    found: list[bytes] = []
    while (message := await sub.poll())["have_message"]:
        found += blocks_of(await sub.raw("fetch_raw_data", message["message_id"]))
    assert len(found) == 4
    assert set(found) == recorded_blocks(topic)


async def test_columns_come_and_go(sub, stable):
    await stable("create topic r as stable d.s", "create topic q as select ts, n, t from d.s")
    await stable(
        f"insert into d.a using d.s tags (1, 'x') values ({T0}, 1, 'one')",
        "alter table d.s add column w int",
        f"insert into d.a values ({T0 + 1}, 2, 'two', 3)",
        "alter table d.s drop column v",
        f"insert into d.a values ({T0 + 2}, 'three', 4)",
        "alter table d.s modify column n nchar(20)",
        f"insert into d.a (n, ts) values ('as long as can be', {T0 + 3})",
    )
    await sub.subscribe("r")
    assert await sub.drain() == [
        ("a", ["ts", "v", "n"], [(T0, 1, "one")]),
        ("a", ["ts", "v", "n", "w"], [(T0 + 1, 2, "two", 3)]),
        ("a", ["ts", "n", "w"], [(T0 + 2, "three", 4)]),
        ("a", ["ts", "n"], [(T0 + 3, "as long as can be")]),
    ]
    await sub.do("unsubscribe")
    await sub.subscribe("q")
    rows = [(T0, "one", 1), (T0 + 1, "two", 1), (T0 + 2, "three", 1)]
    rows.append((T0 + 3, "as long as can be", 1))
    assert await sub.drain() == [("", ["ts", "n", "t"], [row]) for row in rows]


async def test_a_star_is_what_it_was_when_the_topic_was_made(sub, stable):
    await stable("create topic q as select * from d.s", "alter table d.s add column w int")
    await stable(f"insert into d.a using d.s tags (1, 'x') (ts, w) values ({T0}, 1)")
    await sub.subscribe("q")
    assert await sub.drain() == [("", ["ts", "v", "n", "t", "loc"], [(T0, None, None, 1, "x")])]


async def test_expressions(sub, stable):
    await stable(
        "create topic q as select v * 2 as w, upper(n), ts from d.s where loc = 'x' and n like 'o%'"
    )
    await stable(
        f"insert into d.a using d.s tags (1, 'x') values ({T0}, 1, 'one') ({T0 + 1}, 2, 'two') "
        f"({T0 + 2}, null, 'or') d.b using d.s tags (1, 'y') values ({T0}, 1, 'one')"
    )
    await sub.subscribe("q")
    rows = [(2.0, "ONE", T0), (None, "OR", T0 + 2)]
    assert await sub.drain() == [("", ["w", "upper(n)", "ts"], rows)]


async def test_topics_about_one_table(subscriber, stable):
    await stable(
        "create table d.nt (ts timestamp, v int)",
        f"insert into d.a using d.s tags (1, 'x') values ({T0}, 1, 'a')",
        "create topic qa as select * from d.a",
        "create topic qn as select v from d.nt where v > 1",
        f"insert into d.a values ({T0 + 1}, 2, 'a') d.b using d.s tags (2, 'y') values "
        f"({T0}, 3, 'b') d.nt values ({T0}, 1) ({T0 + 1}, 2)",
    )
    first, second = await subscriber(), await subscriber()
    await first.subscribe("qa")
    columns = ["ts", "v", "n"]
    assert await first.drain() == [
        ("", columns, [(T0, 1, "a")]),
        ("", columns, [(T0 + 1, 2, "a")]),
    ]
    await second.subscribe("qn")
    assert await second.drain() == [("", ["v"], [(2,)])]
    await stable("drop table d.a", "drop table d.b", f"insert into d.nt values ({T0}, 9)")
    await first.do("seek", topic="qa", vgroup_id=(await vgroups(first, "qa"))[0], offset=0)
    assert await first.drain() == []
    assert await second.drain() == [("", ["v"], [(9,)])]


async def vgroups(sub, topic):
    return [one["vgroup_id"] for one in (await sub.do("assignment", topic=topic))["assignment"]]


async def test_a_condition_on_tags(sub, stable):
    await stable("create topic t as stable d.s where t > 1 and loc = 'x'")
    await stable(
        f"insert into d.a using d.s tags (1, 'x') values ({T0}, 1, null) "
        f"d.b using d.s tags (2, 'x') values ({T0}, 2, null) "
        f"d.c using d.s tags (2, 'y') values ({T0}, 3, null)"
    )
    await sub.subscribe("t")
    assert await sub.drain() == [("b", ["ts", "v", "n"], [(T0, 2, None)])]


@pytest.mark.parametrize(("precision", "unit"), [("ms", 1), ("us", 1000), ("ns", 1_000_000)])
async def test_precisions(sub, sql, precision, unit):
    await sql(
        f"create database d vgroups 1 precision '{precision}'",
        "create table d.n (ts timestamp, v int, other timestamp)",
        "create topic r as database d",
        "create topic q as select ts, other from d.n",
        f"insert into d.n values ({T0 * unit + 1}, 1, {T0 * unit + 2})",
    )
    await sub.subscribe("r", "q")
    rows = {tuple(row) for _, _, rows in await sub.drain() for row in rows}
    assert rows == {(T0 * unit + 1, 1, T0 * unit + 2), (T0 * unit + 1, T0 * unit + 2)}


async def test_values_of_every_type(sub, server, sql):
    values = [T0, True, -1, -2, -3, -4, 1, 2, 3, 4, 1.5, 0.1, "text", "涛思 🚀", b"\0\xff"]
    values += [Decimal("1.50"), Decimal("12345678901234567890.5")]
    columns = (
        "ts timestamp, b bool, t1 tinyint, t2 smallint, t3 int, t4 bigint, u1 tinyint unsigned, "
        "u2 smallint unsigned, u3 int unsigned, u4 bigint unsigned, f float, d double, "
        "vc varchar(8), nc nchar(8), vb varbinary(8), d1 decimal(10,2), d2 decimal(38,1)"
    )
    written = "true, -1, -2, -3, -4, 1, 2, 3, 4, 1.5, 0.1, 'text', '涛思 🚀', '\\x00ff', '1.5', "
    written += "'12345678901234567890.5'"
    await sql(
        "create database d vgroups 1",
        f"create stable d.s ({columns}) tags (j json)",
        "create topic q as select * from d.s",
        "create topic r as database d",
        f"""insert into d.a using d.s tags ('{{"k":1}}') values ({T0}, {written})""",
        f"insert into d.a values ({T0 + 1}, {', '.join(['null'] * 16)})",
    )
    async with aiotaos.connect(f"{server.dsn}/d") as conn:
        nan = float("nan")
        await conn.insert("a", {"ts": [T0 + 2], "f": [nan], "d": [nan]})
    rows = {"q": [], "r": []}
    await sub.subscribe("q", "r")
    while (message := await sub.poll())["have_message"]:
        raw = await sub.raw("fetch_raw_data", message["message_id"])
        rows[message["topic"]] += decoded(raw, message["topic"] == "q")
    assert rows["r"][:2] == [values, [T0 + 1] + [None] * 16]
    assert rows["q"][:2] == [[*values, '{"k":1}'], [T0 + 1] + [None] * 16 + ['{"k":1}']]
    assert [str(value) for value in rows["r"][2]] == [str(T0 + 2), "nan", "nan"]
    assert [str(value) for value in rows["q"][2][10:12]] == ["nan", "nan"]


def decoded(frame: bytes, with_json: bool) -> list[list[object]]:
    """All rows of an answer to ``fetch_raw_data``."""
    from aiotaos.protocol.block import parse_block
    from aiotaos.protocol.rows import RowDecoder
    from aiotaos.types import Field, Precision, TypeCode

    rows: list[list[object]] = []
    for block in blocks_of(frame):
        size = block[0] & 0x7F | block[1] << 7 if block[0] > 0x7F else block[0]
        raw = block[(2 if block[0] > 0x7F else 1) + 18 :][: size - 18]
        parsed = parse_block(raw, precision=Precision.MILLISECOND)
        fields = []
        for place in range(int.from_bytes(raw[12:16], "little")):
            code = raw[28 + 5 * place]
            scale, digits = raw[29 + 5 * place], raw[30 + 5 * place]
            fields.append(Field(f"c{place}", TypeCode(code), 8, digits, scale))
        decoder = RowDecoder(tuple(fields), Precision.MILLISECOND, timestamp="int")
        rows += [list(row) for row in decoder.rows(parsed)]
    return rows


# Where rows come from.


async def test_every_way_of_writing(sub, server, stable):
    await stable("create topic r as stable d.s")
    async with aiotaos.connect(f"{server.dsn}/d") as conn:
        await conn.execute(f"insert into a using s tags (1, 'x') values ({T0}, 1, 'sql')")
        await conn.insert("a", {"ts": [T0 + 1], "v": [2], "n": ["columns"]})
        await conn.executemany("insert into a values (?, ?, ?)", [(T0 + 2, 3, "bound")])
        await conn.execute("create table b using s tags (2, 'y')")
        await conn.execute("insert into b select ts, v, n from a where v = 1")
        await conn.execute(f"insert into s (tbname, ts, v, t) values ('c', {T0}, 4, 3)")
    await sub.subscribe("r")
    found = [(name, row[0] - T0, row[1:]) for name, _, rows in await sub.drain() for row in rows]
    assert found == [
        ("a", 0, (1, "sql")),
        ("a", 1, (2, "columns")),
        ("a", 2, (3, "bound")),
        ("b", 0, (1, "sql")),
        ("c", 0, (4,)),
    ]


async def test_rows_of_a_statement_are_merged_and_in_order(sub, stable):
    await stable("create topic r as database d")
    await stable(
        f"insert into d.a using d.s tags (1, 'x') values ({T0 + 3}, 3, 'three') "
        f"({T0 + 1}, 1, 'one') ({T0 + 1}, null, 'uno')"
    )
    await sub.subscribe("r")
    rows = [(T0 + 1, 1, "uno"), (T0 + 3, 3, "three")]
    assert await sub.drain() == [("a", ["ts", "v", "n"], rows)]


async def test_rows_written_before_the_first_topic(sub, stable):
    await stable(
        f"insert into d.a using d.s tags (1, 'x') values ({T0}, 1, 'one') ({T0 + 1}, 2, 'two')",
        f"insert into d.a (ts, v) values ({T0}, 10)",
        f"delete from d.a where ts = {T0 + 1}",
        "create table d.nt (ts timestamp, v int)",
        f"insert into d.nt values ({T0}, 7)",
        "create topic m with meta as database d",
        f"insert into d.a (ts, v) values ({T0}, 11)",
    )
    await sub.subscribe("m")
    assert (await sub.poll())["message_type"] == 2
    metas = (await sub.metas(1))["metas"]
    assert metas == [STABLE, child(tags_of("a", 1, '"x"'))]
    assert await sub.drain() == [
        ("a", ["ts", "v", "n"], [(T0, 10, "one")]),
        ("nt", ["ts", "v"], [(T0, 7)]),
        ("a", ["ts", "v"], [(T0, 11)]),
    ]


async def test_rows_of_tables_that_are_gone(sub, stable):
    await stable(
        "create topic m with meta as database d",
        "create topic q as select v, t from d.s",
        f"insert into d.a using d.s tags (1, 'x') values ({T0}, 1, null)",
        f"insert into d.b using d.s tags (2, 'x') values ({T0}, 2, null)",
        "drop table d.a",
        f"insert into d.a using d.s tags (3, 'x') values ({T0}, 3, null)",
    )
    await sub.subscribe("m", "q")
    found = await sub.drain()
    assert [(name, rows) for name, _, rows in found if name] == [
        ("b", [(T0, 2, None)]),
        ("a", [(T0, 3, None)]),
    ]
    assert [rows for name, _, rows in found if not name] == [[(2, 2)], [(3, 3)]]


async def test_a_statement_that_fails_leaves_nothing(sub, rest, stable):
    await stable("create topic m with meta as database d")
    answer = await rest(
        f"insert into d.a using d.s tags (1, 'x') values ({T0}, 1, null) d.nosuch values (1)"
    )
    assert answer["code"] == 0x2603
    assert (await rest("create table d.s (ts timestamp, v int)"))["code"] == 0x0603
    await stable(f"insert into d.b using d.s tags (2, 'y') values ({T0}, 2, null)")
    await sub.subscribe("m")
    assert [(await sub.poll())["offset"] for _ in range(2)] == [1, 1]
    assert await sub.blocks(2) == [("b", ["ts", "v", "n"], [(T0, 2, None)])]


@pytest.mark.parametrize(
    "topic", ["create topic t as stable d.s", "create topic t as select v from d.s"]
)
async def test_messages_are_of_limited_size(sub, stable, topic):
    await stable(topic)
    for first in range(0, 50, 5):
        rows = "".join(f"({T0 + v}, {v}, null)" for v in range(first, first + 5))
        await stable(f"insert into d.a using d.s tags (1, 'x') values {rows}")
    await sub.subscribe("t", config={"min.poll.rows": "11"})
    sizes = []
    while (message := await sub.poll())["have_message"]:
        sizes.append(sum(len(rows) for _, _, rows in await sub.blocks(message["message_id"])))
    assert sizes == [15, 15, 15, 5]

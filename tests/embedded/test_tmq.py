"""Subscriptions at ``/rest/tmq``, in the protocol's own words."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest

from aiotaos.protocol.tmq_messages import NO_OFFSET

T0 = 1709251200000
SETUP = [
    "create database d vgroups 1",
    "create stable d.s (ts timestamp, v int, n nchar(10)) tags (t int, loc varchar(8))",
]
NOTHING = {
    "have_message": False,
    "topic": "",
    "database": "",
    "vgroup_id": 0,
    "message_type": 0,
    "message_id": 0,
    "offset": 0,
}


@pytest.fixture
async def db(sql):
    await sql(*SETUP)
    return sql


@pytest.fixture
async def sub(subscriber, db):
    """A consumer, not yet subscribed, beside a database with a topic about its super table."""
    await db("create topic q as select ts, v, tbname, t from d.s where v > 0")
    return await subscriber()


async def insert(db, *values, table="a", tag=1):
    rows = "".join(f"({T0 + v}, {v}, 'n{v}')" for v in values)
    await db(f"insert into d.{table} using d.s tags ({tag}, 'x') values {rows}")


def values(blocks):
    """The second column of all rows."""
    return [row[1] for _, _, rows in blocks for row in rows]


def refused(code, message, **more):
    return {"code": code, "message": message, **more}


# What gets no answer, and what comes before a subscription.


async def test_what_cannot_be_read_gets_no_answer(subscriber):
    tmq = await subscriber()
    for text in (
        "nonsense",
        "[]",
        '{"action": "version", "args": {"req_id": "x"}}',
        '{"action": "nosuch", "args": {"req_id": 1}}',
        '{"action": "conn", "args": {"req_id": 1, "user": "root", "password": "taosdata"}}',
        '{"action": "subscribe", "args": {"req_id": 1, "topics": "t"}}',
    ):
        await tmq.socket.send_str(text)
    await tmq.socket.send_bytes(bytes(34))
    await tmq.socket.send_str('{"action": "version"}')
    reply = await tmq.told()
    version = reply.pop("version")
    assert reply == {"code": 0, "message": "", "action": "version", "req_id": 0}
    assert version.startswith("3.3.7")


@pytest.mark.parametrize(
    ("action", "more"),
    [
        ("fetch", {"message_id": 7}),
        ("fetch_block", {"message_id": 7}),
        ("fetch_raw", {"message_id": 7}),
        ("fetch_json_meta", {"message_id": 7}),
        ("commit", {}),
        ("commit_offset", {}),
        ("seek", {}),
        ("assignment", {}),
        ("committed", {}),
        ("position", {}),
        ("list_topics", {}),
        ("unsubscribe", {}),
    ],
)
async def test_without_a_subscription(subscriber, action, more):
    reply = await (await subscriber()).ask(action, message_id=7)
    assert reply == refused(0xFFFF, "tmq not init", action=action, req_id=1, **more)


async def test_a_poll_waits_for_the_subscription(sub, db):
    await insert(db, 1)
    await sub.send("poll", req_id=70, blocking_time=0, message_id=0)
    assert (await sub.subscribe("q"))["code"] == 0
    reply = await sub.told()
    assert (reply["action"], reply["req_id"], reply["have_message"]) == ("poll", 70, True)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ({"topics": ["nosuch"]}, 0x03E1, "Topic not exist"),
        ({"topics": ["Q"]}, 0x03E1, "Topic not exist"),
        ({"user": "nobody"}, 0xFFFF, "init tscObj failed"),
        ({"password": "wrong"}, 0xFFFF, "init tscObj failed"),
        ({"group_id": ""}, 0xFFFF, "malloc tmq element failed or group is empty"),
        ({"group_id": "a:b"}, 0x0118, "invalid value for key 'group.id': a:b"),
        ({"offset_rest": "middle"}, 0x0118, "invalid value for key 'auto.offset.reset': middle"),
        ({"offset_reset": "x"}, 0x0118, "invalid value for key 'auto.offset.reset': x"),
        ({"auto_commit": "maybe"}, 0xFFFF, 'strconv.ParseBool: parsing "maybe": invalid syntax'),
        (
            {"auto_commit_interval_ms": "x"},
            0xFFFF,
            'strconv.ParseInt: parsing "x": invalid syntax',
        ),
        (
            {"with_table_name": "maybe"},
            0x0118,
            "invalid value for key 'msg.with.table.name': maybe",
        ),
        ({"session_timeout_ms": "1"}, 0x0118, "invalid value for key 'session.timeout.ms': 1"),
        ({"max_poll_interval_ms": "1"}, 0x0118, "invalid value for key 'max.poll.interval.ms': 1"),
        ({"config": {"nosuch.key": "1"}}, 0x0118, "unknown configuration key: nosuch.key"),
        (
            {"config": {"td.connect.token": "t"}},
            0x0118,
            "unknown configuration key: td.connect.token",
        ),
        ({"config": {"min.poll.rows": "0"}}, 0x0118, "invalid value for key 'min.poll.rows': 0"),
        (
            {"config": {"heartbeat.interval.ms": "1"}},
            0x0118,
            "invalid value for key 'heartbeat.interval.ms': 1",
        ),
        (
            {"snapshot_enable": "true"},
            0xFFFF,
            "not supported by the embedded server: experimental.snapshot.enable",
        ),
        (
            {"config": {"enable.replay": "true"}},
            0xFFFF,
            "not supported by the embedded server: enable.replay",
        ),
        (
            {"msg_consume_rawdata": "1"},
            0xFFFF,
            "not supported by the embedded server: msg.consume.rawdata",
        ),
    ],
)
async def test_subscriptions_that_are_refused(sub, options, code, message):
    good = {"user": "root", "password": "taosdata", "group_id": "g", "topics": ["q"]}
    reply = await sub.ask("subscribe", **{**good, **options})
    assert reply == refused(code, message, action="subscribe", req_id=1)
    assert (await sub.ask("list_topics"))["message"] == "tmq not init"
    assert (await sub.ask("subscribe", **good))["code"] == 0


async def test_options_that_are_taken(sub, db):
    reply = await sub.subscribe(
        "q",
        "q",
        group_id="g" * 193,
        client_id="c" * 256,
        auto_commit_interval_ms="7",
        with_table_name="true",
        config={"td.connect.user": "nobody", "auto.offset.reset": "none", "fetch.max.wait.ms": "5"},
    )
    assert reply["code"] == 0
    assert (await sub.do("list_topics"))["topics"] == ["q"]
    ((_, group, client, user, _, status, topic, *_, parameters, polled),) = await db(
        "show consumers"
    )
    assert (group, client, user, status) == ("g" * 192, "c" * 255, "root", "ready")
    assert (topic, polled) == ("q", None)
    assert parameters == "tbname:1,commit:0,interval:7ms,reset:none"


# A session with rows.


async def test_a_session(sub, db):
    await insert(db, 1, 2)
    await insert(db, 0)
    await insert(db, 3, table="b", tag=2)
    subscribed = await sub.subscribe("q")
    version = subscribed.pop("version")
    assert subscribed == {"code": 0, "message": "", "action": "subscribe", "req_id": 1}
    assert version.startswith("3.3.7")
    again = await sub.subscribe("q")
    assert again == refused(
        0xFFFF, "tmq should have unsubscribed first", action="subscribe", req_id=2
    )
    poll = await sub.ask("poll", blocking_time=500, message_id=0)
    vgroup = poll["vgroup_id"]
    assert poll == {
        "code": 0,
        "message": "",
        "action": "poll",
        "req_id": 3,
        "have_message": True,
        "topic": "q",
        "database": "d",
        "vgroup_id": vgroup,
        "message_type": 1,
        "message_id": 1,
        "offset": 0,
    }
    names = ["ts", "v", "tbname", "t"]
    rows = [[(T0 + 1, 1, "a", 1), (T0 + 2, 2, "a", 1)], [(T0 + 3, 3, "b", 2)]]
    assert await sub.blocks(1) == [("", names, some) for some in rows]
    end = await sub.do("fetch", message_id=1)
    assert end == {
        "code": 0,
        "message": "",
        "action": "fetch",
        "req_id": end["req_id"],
        "message_id": 1,
        "completed": True,
        "table_name": "",
        "rows": 0,
        "fields_count": 0,
        "fields_names": None,
        "fields_types": None,
        "fields_lengths": None,
        "precision": 0,
    }
    commit = await sub.do("commit", message_id=1)
    assert commit.pop("req_id") > 3
    assert commit == {"code": 0, "message": "", "action": "commit", "message_id": 1}
    empty = await sub.do("poll", blocking_time=1, message_id=1)
    assert empty.items() >= NOTHING.items()
    assert (await sub.do("unsubscribe")).keys() == {"code", "message", "action", "req_id"}
    assert (await sub.do("list_topics"))["topics"] == []


async def test_the_bytes_of_a_message(sub, db):
    await insert(db, 7)
    await sub.subscribe("q")
    await sub.poll()
    block = bytes.fromhex(
        "02000000 5b000000 01000000 04000000 00000080 0000000000000000"
        "09 08000000 04 04000000 08 10010000 04 04000000"
        "08000000 04000000 03000000 04000000"
        "00 07844ff78d010000 00 07000000 00000000 0100 61 00 01000000 00"
    )
    message = bytes.fromhex(
        "64 12000000 11 0000000000000000 11 0200000000000000 01000000 00 01"
        "6d 0100000000000000 0000000000000001 00 00"
    )
    schema = bytes.fromhex(
        "08 00 09001002 03 747300 04000804 02 7600 0800a00406 07 74626e616d6500 04000808 02 7400"
        "0000000000000000"
    )
    raw = message + block + schema
    new = await sub.raw("fetch_raw_data", 1)
    assert new[:18].hex() == "ffffffffffffffff08000000000000000100"
    assert new[26:34] == sub.req_id.to_bytes(8, "little")
    assert new[34:56].hex(" ") == (
        f"00 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00 02 00 {len(raw):02x} 00 00 00"
    )
    assert new[56:] == raw
    old = await sub.raw("fetch_raw", 1)
    assert old[8:16] == sub.req_id.to_bytes(8, "little")
    assert old[16:38].hex(" ") == (
        f"01 00 00 00 00 00 00 00 03 00 00 00 00 00 00 00 {len(raw):02x} 00 00 00 02 00"
    )
    assert old[38:] == raw
    head = await sub.do("fetch", message_id=1)
    assert (head["fields_types"], head["fields_lengths"]) == ([9, 4, 8, 4], [8, 4, 270, 4])
    one = await sub.raw("fetch_block", 1)
    assert one[8:] == sub.req_id.to_bytes(8, "little") + bytes.fromhex("0100000000000000") + block


async def test_messages_that_cannot_be_had(sub, db):
    await insert(db, 1)
    await sub.subscribe("q")
    for action in ("fetch", "fetch_block", "fetch_raw", "fetch_json_meta"):
        reply = await sub.ask(action, message_id=0)
        assert (reply["code"], reply["message"]) == (0xFFFF, "message has been freed")
        assert reply["message_id"] == 0
    error = await sub.raw("fetch_raw_data", 0)
    assert error[34:] == (b"\xff\xff\0\0" + b"\x16\0\0\0" + b"message has been freed" + bytes(8))
    await sub.poll()
    for action, id, message in (
        ("fetch", 2, "message ID are not equal"),
        ("fetch_block", 2, "message is nil"),
        ("fetch_block", 1, "no fetch data"),
        ("fetch_raw", 2, "message ID is not equal"),
        ("fetch_json_meta", 1, "message type can not get meta, type: 1"),
    ):
        reply = await sub.ask(action, message_id=id)
        assert (reply["code"], reply["message"]) == (0xFFFF, message)
        assert reply["message_id"] == id
    error = await sub.raw("fetch_raw_data", 2)
    assert error[34:65] == b"\xff\xff\0\0" + b"\x17\0\0\0" + b"message ID is not equal"
    await sub.do("unsubscribe")
    assert (await sub.ask("fetch", message_id=1))["message"] == "message has been freed"


async def test_a_lost_reply_is_sent_again(sub, db):
    await insert(db, 1)
    await sub.subscribe("q")
    first = await sub.poll()
    again = await sub.do("poll", blocking_time=0, message_id=0)
    assert {**again, "req_id": 0} == {**first, "req_id": 0}
    await insert(db, 2)
    second = await sub.do("poll", blocking_time=0)
    assert (second["message_id"], second["offset"]) == (2, 2)
    assert values(await sub.blocks(2)) == [2]
    # an empty poll frees nothing
    assert not (await sub.do("poll", blocking_time=0, message_id=2))["have_message"]
    assert (await sub.do("poll", blocking_time=0, message_id=1))["message_id"] == 2


# Waiting.


async def test_a_write_wakes_a_poll(sub, db):
    await sub.subscribe("q")
    await sub.send("poll", req_id=70, blocking_time=20_000, message_id=0)
    assert (await sub.ask("version"))["code"] == 0  # the poll has begun, and does not keep it
    await insert(db, 0)  # does not suit the topic
    await insert(db, 5)
    reply = await sub.told()
    assert (reply["req_id"], reply["have_message"]) == (70, True)
    assert values(await sub.blocks(reply["message_id"])) == [5]


async def test_a_poll_without_end_is_given_up_by_closing(sub, subscriber, db):
    await sub.subscribe("q")
    await sub.send("poll", req_id=70, blocking_time=-1, message_id=0)
    await sub.ask("version")
    heir = await subscriber()
    await heir.subscribe("q")
    waiting = asyncio.create_task(heir.do("poll", blocking_time=20_000, message_id=0))
    await sub.socket.close()
    await insert(db, 1)
    assert (await waiting)["have_message"]
    assert len(await db("show consumers")) == 1


async def test_of_several_polls_that_wait_the_last_one_is_answered(sub, db):
    await sub.subscribe("q")
    await sub.send("poll", req_id=70, blocking_time=20_000, message_id=0)
    await sub.ask("version")
    await sub.send("poll", req_id=71, blocking_time=20_000)
    await sub.send("poll", req_id=72, blocking_time=20_000)
    await sub.ask("version")
    await insert(db, 1)
    assert (await sub.told())["req_id"] == 70
    await insert(db, 2)
    assert (await sub.told())["req_id"] == 72
    assert (await sub.do("list_topics"))["topics"] == ["q"]


async def test_a_commit_waits_for_the_poll(sub, db):
    await sub.subscribe("q")
    await sub.send("poll", req_id=70, blocking_time=20_000, message_id=0)
    await sub.ask("version")
    await sub.send("commit", req_id=71, message_id=0)
    await insert(db, 1)
    assert [(await sub.told())["action"] for _ in range(2)] == ["poll", "commit"]


# Offsets.


async def test_offsets(sub, db):
    for v in (1, 2, 3):
        await insert(db, v)
    await sub.subscribe("q")
    vgroup = (await db("show subscriptions"))[0][2]
    place = {"topic": "q", "vgroup_id": vgroup}
    places = {"topic_vgroup_ids": [place]}
    early = refused(0x4010, "Assignment or poll interface need to be called first")
    for reply in (
        await sub.ask("seek", **place, offset=0),
        await sub.ask("commit_offset", **place, offset=0),
        await sub.ask("position", **places),
    ):
        assert reply.items() >= early.items()
    committed = await sub.do("committed", **places)
    assert committed["committed"] == [NO_OFFSET] == [-2147467247]
    assert (await sub.do("commit", message_id=0))["code"] == 0
    assignment = await sub.do("assignment", topic="q")
    assert assignment["assignment"] == [{"vgroup_id": vgroup, "offset": 0, "begin": 0, "end": 4}]
    assert (await sub.do("position", **places))["position"] == [0]
    assert (await sub.do("commit", message_id=0))["code"] == 0
    assert (await sub.do("committed", **places))["committed"] == [NO_OFFSET]
    await sub.poll()
    assert (await sub.do("position", **places))["position"] == [4]
    await sub.do("commit", message_id=1)
    assert (await sub.do("committed", **places))["committed"] == [4]
    sought = await sub.do("seek", **place, offset=2)
    assert sought.keys() == {"code", "message", "action", "req_id"}
    assert (await sub.do("position", **places))["position"] == [2]
    assert (await sub.do("committed", **places))["committed"] == [4]
    again = await sub.poll()
    assert again["offset"] == 2
    assert values(await sub.blocks(again["message_id"])) == [2, 3]
    assert (await sub.do("assignment", topic="q"))["assignment"][0]["offset"] == 2
    done = await sub.do("commit_offset", **place, offset=3)
    assert (done["topic"], done["vgroup_id"], done["offset"]) == ("q", vgroup, 3)
    await sub.do("commit_offset", **place, offset=3)
    assert (await sub.do("committed", **places))["committed"] == [3]
    assert (await sub.do("committed", topic_vgroup_ids=[]))["committed"] == []


async def test_offsets_that_are_refused(sub, db):
    await insert(db, 1)
    await sub.subscribe("q")
    await sub.poll()
    vgroup = (await db("show subscriptions"))[0][2]
    good = {"topic": "q", "vgroup_id": vgroup, "offset": 0}
    for change, code, message in (
        ({"topic": "nosuch"}, 0x4009, "Topic does not belong to this consumer"),
        ({"vgroup_id": 1}, 0x4008, "VgId does not belong to this consumer"),
        ({"offset": 3}, 0x4007, "Offset out of range"),
        ({"offset": -5}, 0x4007, "Offset out of range"),
    ):
        for action in ("seek", "commit_offset"):
            reply = await sub.ask(action, **{**good, **change})
            assert reply.items() >= refused(code, message).items()
    reply = await sub.ask("assignment", topic="nosuch")
    assert reply.items() >= refused(0x4009, "Topic does not belong to this consumer").items()
    for action in ("committed", "position"):
        reply = await sub.ask(action, topic_vgroup_ids=[{"topic": "q", "vgroup_id": 1}])
        assert reply.items() >= refused(0x4008, "VgId does not belong to this consumer").items()
    await sub.do("seek", **{**good, "offset": 2})
    assert not (await sub.poll())["have_message"]


@pytest.mark.parametrize(
    ("reset", "first", "second"),
    [("earliest", [1], [2]), ("latest", [], [2]), ("none", [], []), ("", [], [2])],
)
async def test_where_to_begin(sub, db, reset, first, second):
    await insert(db, 1)
    await sub.subscribe("q", offset_rest=reset)
    assert values(await sub.drain()) == first
    await insert(db, 2)
    assert values(await sub.drain()) == second


async def test_the_newer_name_of_the_reset_wins(sub, db):
    await insert(db, 1)
    await sub.subscribe("q", offset_rest="latest", offset_reset="earliest")
    assert values(await sub.drain()) == [1]


async def test_none_goes_on_from_what_is_committed(sub, subscriber, db):
    await insert(db, 1)
    await sub.subscribe("q")
    await sub.drain()
    await sub.do("commit", message_id=1)
    await sub.do("unsubscribe")
    await insert(db, 2)
    second = await subscriber()
    await second.subscribe("q", offset_rest="none")
    assert values(await second.drain()) == [2]


async def test_polls_commit_what_earlier_ones_read(sub, db):
    await insert(db, 1)
    await sub.subscribe("q", auto_commit="true", auto_commit_interval_ms="0")
    vgroup = (await sub.do("assignment", topic="q"))["assignment"][0]["vgroup_id"]
    places = {"topic_vgroup_ids": [{"topic": "q", "vgroup_id": vgroup}]}
    await sub.poll()
    assert (await sub.do("committed", **places))["committed"] == [NO_OFFSET]
    await sub.poll()
    assert (await sub.do("committed", **places))["committed"] == [2]


async def test_polls_commit_no_more_often_than_asked(sub, db):
    await insert(db, 1)
    await sub.subscribe("q", auto_commit="true", auto_commit_interval_ms="3600000")
    vgroup = (await sub.do("assignment", topic="q"))["assignment"][0]["vgroup_id"]
    await sub.poll()
    await sub.poll()
    places = {"topic_vgroup_ids": [{"topic": "q", "vgroup_id": vgroup}]}
    assert (await sub.do("committed", **places))["committed"] == [NO_OFFSET]


# Groups.


async def members(*consumers):
    """The vgroups of each."""
    return [
        {one["vgroup_id"] for one in (await c.do("assignment", topic="d"))["assignment"]}
        for c in consumers
    ]


async def test_vgroups_are_shared_in_a_group(subscriber, sql):
    await sql(
        "create database d vgroups 4",
        "create stable d.s (ts timestamp, v int, n nchar(10)) tags (t int, loc varchar(8))",
        "create topic d as database d",
    )
    first, second, third, other = [await subscriber() for _ in range(4)]
    await first.subscribe("d")
    (all_of_them,) = await members(first)
    assert len(all_of_them) == 4
    await second.subscribe("d")
    halves = await members(first, second)
    assert [len(half) for half in halves] == [2, 2]
    assert set.union(*halves) == all_of_them
    await third.subscribe("d")
    parts = await members(first, second, third)
    assert sorted(len(part) for part in parts) == [1, 1, 2]
    assert set.union(*parts) == all_of_them
    assert all(part <= half for part, half in zip(parts, halves, strict=False))
    await other.subscribe("d", group_id="other")
    assert await members(other) == [all_of_them]
    await first.do("unsubscribe")
    assert set.union(*await members(second, third)) == all_of_them
    for v in range(20):
        await insert(sql, v, table=f"t{v}")
    await second.socket.close()
    seen = []
    while len(seen) < 20:
        message = await third.poll(20_000)
        seen += values(await third.blocks(message["message_id"]))
    assert sorted(seen) == list(range(20))
    assert await members(third) == [all_of_them]


async def test_more_consumers_than_vgroups(subscriber, sub):
    await sub.subscribe("q")
    idle = await subscriber()
    await idle.subscribe("q")
    assert (await idle.do("assignment", topic="q"))["assignment"] == []
    assert not (await idle.poll())["have_message"]
    await sub.send("unsubscribe", req_id=1)
    poll = await idle.do("poll", blocking_time=1, message_id=0)
    assert not poll["have_message"]
    assert len((await idle.do("assignment", topic="q"))["assignment"]) == 1


async def test_a_vgroup_that_changes_hands_goes_on_from_what_is_committed(sub, subscriber, db):
    await insert(db, 1)
    await sub.subscribe("q")
    assert values(await sub.drain()) == [1]
    await sub.do("commit", message_id=1)
    await insert(db, 2)
    assert values(await sub.drain()) == [2]
    heir = await subscriber()
    await heir.subscribe("q")
    waiting = asyncio.create_task(heir.do("poll", blocking_time=20_000, message_id=0))
    await sub.socket.close()
    message = await waiting
    assert values(await heir.blocks(message["message_id"])) == [2]


async def test_each_group_reads_each_row_once(subscriber, sql):
    await sql(
        "create database d vgroups 2",
        "create stable d.s (ts timestamp, v int, n nchar(10)) tags (t int, loc varchar(8))",
        "create topic d as stable d.s",
    )
    first, second, other = [await subscriber() for _ in range(3)]
    await first.subscribe("d")
    await second.subscribe("d")
    await other.subscribe("d", group_id="other")
    for v in range(20):
        await insert(sql, v, table=f"t{v}")
    halves = [values(await one.drain()) for one in (first, second)]
    assert all(halves)
    assert sorted(halves[0] + halves[1]) == list(range(20))
    assert sorted(values(await other.drain())) == list(range(20))
    await first.do("commit", message_id=0)
    await second.do("commit", message_id=0)
    await first.do("unsubscribe")
    for v in range(20, 30):
        await insert(sql, v, table=f"t{v}")
    assert sorted(values(await second.drain())) == list(range(20, 30))
    assert await first.drain() == []


async def test_writers_and_consumers_at_once(subscriber, sql):
    await sql(
        "create database d vgroups 4",
        "create stable d.s (ts timestamp, v int, n nchar(10)) tags (t int, loc varchar(8))",
        "create topic d as stable d.s",
    )
    consumers = [await subscriber() for _ in range(2)]
    for one in consumers:
        await one.subscribe("d")
    seen = []

    async def write(first):
        for v in range(first, first + 25):
            await insert(sql, v, table=f"t{v % 7}")

    async def read(one):
        while len(seen) < 100:
            message = await one.poll(50)
            if message["have_message"]:
                seen.extend(values(await one.blocks(message["message_id"])))

    await asyncio.gather(*map(write, range(0, 100, 25)), *map(read, consumers))
    assert sorted(seen) == list(range(100))


async def test_the_server_stops_while_a_poll_waits(sub, server):
    await sub.subscribe("q")
    await sub.send("poll", req_id=70, blocking_time=-1, message_id=0)
    await sub.ask("version")
    await server.stop()
    closing = await sub.socket.receive()
    assert closing.type is aiohttp.WSMsgType.CLOSE
    assert closing.data == aiohttp.WSCloseCode.GOING_AWAY


async def test_one_socket_subscribes_again(sub, db):
    await db("create topic second as database d")
    await insert(db, 1)
    await sub.subscribe("q")
    await sub.poll()
    for _ in range(2):
        assert (await sub.do("unsubscribe"))["code"] == 0
    assert (await sub.do("poll", blocking_time=0))["have_message"] is False
    assert (await sub.ask("assignment", topic="q"))["code"] == 0x4009
    reply = await sub.ask("subscribe", topics=["second"], group_id="ignored")
    assert reply["code"] == 0
    assert (await sub.do("list_topics"))["topics"] == ["second"]
    assert [row[1] for row in await db("show consumers")] == ["g"]
    message = await sub.do("poll", blocking_time=0)
    assert (message["topic"], message["message_id"]) == ("second", 2)


async def test_several_topics(sub, db):
    await db("create topic second as database d")
    await insert(db, 1)
    await sub.subscribe("second", "q")
    assert (await sub.do("list_topics"))["topics"] == ["q", "second"]
    messages = [await sub.poll() for _ in range(3)]
    assert sorted(message["topic"] for message in messages) == ["", "q", "second"]


async def test_topics_and_groups_in_use(sub, rest, db):
    await insert(db, 1)
    await sub.subscribe("q")
    await sub.poll()
    used = await rest("drop topic q")
    assert (used["code"], used["desc"]) == (0x03EB, "Topic subscribed cannot be dropped")
    used = await rest("drop consumer group g on q")
    assert (used["code"], used["desc"]) == (0x03EC, "Consumer group being used by some consumer")
    vgroup, consumer = (await db("show subscriptions"))[0][2:4]
    shown = await db("show subscriptions")
    assert [row[:3] + row[6:] for row in shown] == [["q", "g", vgroup, "wal:2/2", 1]]
    assert consumer == (await db("show consumers"))[0][0]
    await db("drop topic force q")
    assert await db("show subscriptions") == await db("show topics") == []
    lost = await sub.ask("poll", blocking_time=0, message_id=1)
    assert lost.items() >= refused(0x03E6, "Consumer not exist").items()


async def test_a_group_is_forgotten(sub, subscriber, db):
    await insert(db, 1)
    await sub.subscribe("q")
    assert values(await sub.drain()) == [1]
    await sub.do("commit", message_id=1)
    await sub.do("unsubscribe")
    assert (await db("show subscriptions"))[0][3:7] == [None, None, None, "wal:2/2"]
    await db("drop consumer group g on q")
    assert await db("show subscriptions") == []
    again = await subscriber()
    await again.subscribe("q")
    assert values(await again.drain()) == [1]


async def test_requests_as_another_client_writes_them(subscriber, db):
    """The words of the recording, with keys that are of no use here."""
    await db("create topic q as select ts, v from d.s")
    tmq = await subscriber()
    args = (
        '{"req_id":1,"user":"root","password":"taosdata","db":"","connector":"python-ws-v0.7.0",'
        '"group_id":"g1","client_id":"cap","offset_rest":"earliest","snapshot_enable":"false",'
        '"with_table_name":"true","auto_commit":"false","offset_seek":null,"config":null,"tz":null,'
        '"enable_batch_meta":"1","topics":["q"]}'
    )
    await tmq.socket.send_str('{"action":"subscribe","args":' + args + "}")
    assert json.loads(await tmq.socket.receive_str())["code"] == 0

"""The conversation at ``/ws``, frame by frame."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest

from aiotaos.protocol import frames
from aiotaos.protocol.block import parse_block

CONN = {"user": "root", "password": "taosdata"}


@pytest.fixture
async def ws(fresh):
    assert (await fresh.ask("conn", req_id=1, **CONN))["code"] == 0
    await fresh.query("create database d")
    await fresh.query("use d")
    await fresh.query("create table t (ts timestamp, v int, s nchar(4))")
    await fresh.query("insert into t values (1, 10, 'é') (2, null, null) (3, 30, '')")
    return fresh


def facts(reply: dict[str, Any]) -> tuple[int, str, str, int]:
    assert reply["timing"] >= 0
    return reply["code"], reply["message"], reply["action"], reply["req_id"]


async def test_version_before_and_after_conn(fresh):
    await fresh.socket.send_str('{"action":"version"}')
    reply = await fresh.receive()
    assert facts(reply) == (0, "", "version", 0)
    assert reply["version"].startswith("3.3.7.")
    conn = await fresh.ask("conn", req_id=2, **CONN)
    assert facts(conn) == (0, "", "conn", 2)
    assert conn["version"] == reply["version"]
    again = await fresh.ask("conn", req_id=3, **CONN)
    assert facts(again) == (65535, "duplicate connections", "conn", 3)


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ({"user": "nosuch", "password": "bad"}, 0x0351, "Invalid user"),
        ({"user": "root", "password": "bad"}, 0x0357, "Authentication failure"),
        ({**CONN, "db": "nosuchdb"}, 0x0388, "Database not exist"),
        ({**CONN, "tz": "No/Where"}, 0x0118, "Invalid parameters"),
        ({**CONN, "mode": 7}, 65535, "unexpected mode:7"),
    ],
)
async def test_conn_refused_and_tried_again(fresh, args, code, message):
    assert facts(await fresh.ask("conn", req_id=1, **args)) == (code, message, "conn", 1)
    assert (await fresh.ask("conn", req_id=2, **CONN))["code"] == 0


async def test_nothing_works_without_conn(fresh):
    for action in ("query", "fetch", "get_current_db", "nosuchaction"):
        reply = await fresh.ask(action, req_id=5)
        assert facts(reply) == (65535, "server not connected", action, 5)
    assert (await fresh.query("select 1"))["message"] == "server not connected"
    await fresh.socket.send_bytes(frames.fetch_request(9, 1))
    assert facts(await fresh.receive()) == (65535, "server not connected", "fetch_raw_block", 9)
    assert (await fresh.ask("check_server_status", req_id=6))["status"] == 2


async def test_what_cannot_be_read(ws):
    for text, message in (("nonsense", "unmarshal request error"), ("{}", "request no action")):
        await ws.socket.send_str(text)
        assert facts(await ws.receive()) == (65535, message, "", 0)
    reply = await ws.ask("nosuchaction", req_id=49)
    assert facts(reply) == (65535, "unknown action nosuchaction", "nosuchaction", 49)
    assert (await ws.ask("query", req_id="x"))["code"] == 65535
    await ws.socket.send_bytes(struct.pack("<QQQ", 1, 0, 99))
    assert (await ws.receive())["message"] == "unknown binary action 99"
    await ws.socket.send_bytes(b"short")
    assert (await ws.receive())["message"] == "message length is too short"
    reply = await ws.ask("get_connection_info", req_id=3)
    assert "not supported by the embedded server" in reply["message"]


async def test_empty_statements(ws):
    assert facts(await ws.query("", 8)) == (
        65535,
        "message length is too short",
        "binary_query",
        8,
    )
    reply = await ws.ask("query", req_id=50, sql="")
    assert facts(reply) == (9729, "Incomplete SQL statement", "query", 50)


async def test_query_and_fetch(ws):
    reply = await ws.query("select * from t", 7)
    assert facts(reply) == (0, "", "binary_query", 7)
    description = {key: reply[key] for key in reply if key.startswith(("fields", "is_", "prec"))}
    assert description == {
        "is_update": False,
        "fields_count": 3,
        "fields_names": ["ts", "v", "s"],
        "fields_types": [9, 4, 10],
        "fields_lengths": [8, 4, 4],
        "precision": 0,
        "fields_precisions": [0, 0, 0],
        "fields_scales": [0, 0, 0],
    }
    answer = await ws.fetch(reply["id"], 11)
    assert (answer.req_id, answer.result_id, answer.code) == (11, reply["id"], 0)
    assert len(parse_block(answer.block)) == 3
    assert (await ws.fetch(reply["id"])).block is None
    gone = await ws.fetch(reply["id"])
    assert (gone.code, gone.message, gone.block) == (65535, "result is nil", None)


async def test_update(ws):
    reply = await ws.query("insert into t (ts, v) values (4, 4) (5, 5)")
    assert (reply["is_update"], reply["affected_rows"], reply["id"]) == (True, 2, 0)
    assert reply["fields_names"] is None


async def test_json_query_fetch_and_fetch_block(ws):
    id = (await ws.ask("query", req_id=1, sql="select * from t"))["id"]
    assert (await ws.ask("num_fields", req_id=2, result_id=id))["num_fields"] == 3
    assert (await ws.ask("fetch_block", req_id=3, id=id))["message"] == "block is nil"
    reply = await ws.ask("fetch", req_id=4, id=id)
    assert (reply["completed"], reply["rows"], reply["lengths"]) == (False, 3, [8, 4, 18])
    await ws.send("fetch_block", req_id=5, id=id)
    answer = frames.parse_reply(await ws.socket.receive_bytes())
    assert answer.result_id == id
    assert len(parse_block(answer.block)) == 3
    assert (await ws.ask("fetch", req_id=6, id=id))["completed"] is True
    assert (await ws.ask("fetch", req_id=7, id=id))["message"] == "result is nil"


async def test_a_freed_result_is_gone(ws):
    id = (await ws.query("select * from t"))["id"]
    await ws.send("free_result", req_id=2, id=id)
    await ws.send("free_result", req_id=3, id=999)
    assert facts(await ws.ask("fetch", req_id=4, id=id)) == (65535, "result is nil", "fetch", 4)


async def test_session_state(ws):
    assert (await ws.ask("get_current_db", req_id=1))["db"] == "d"
    assert (await ws.query("use nosuch"))["code"] == 0x0388
    assert (await ws.ask("get_current_db", req_id=1))["db"] == "d"
    assert (await ws.ask("get_server_info", req_id=1))["info"].startswith("ver:3.3.7.")
    options = [{"option": 1, "value": "Asia/Shanghai"}, {"option": 3, "value": "test"}]
    assert (await ws.ask("options_connection", req_id=1, options=options))["code"] == 0
    id = (await ws.query("select timezone()"))["id"]
    assert b"Asia/Shanghai (CST, +0800)" in bytes((await ws.fetch(id)).block)
    wrong = await ws.ask("options_connection", req_id=2, options=[{"option": 99, "value": "x"}])
    assert facts(wrong) == (0x0118, "Invalid parameters", "options_connection", 2)


async def test_two_sockets_share_data_and_not_their_state(http, ws):
    async with http.ws_connect("/ws") as socket:
        other = type(ws)(socket)
        await other.ask("conn", req_id=1, **CONN)
        assert (await other.ask("get_current_db", req_id=1))["db"] == ""
        id = (await other.query("select v from d.t"))["id"]
        assert len(parse_block((await other.fetch(id)).block)) == 3


async def test_a_quick_request_overtakes_a_slow_one(ws):
    rows = ", ".join(f"({i}, {i}, 'x')" for i in range(20_000))
    await ws.query(f"insert into t values {rows}")
    slow = "select avg(a.v), stddev(a.v) from t a, t b where a.ts = b.ts and a.s = b.s"
    await ws.socket.send_bytes(frames.query_request(1, slow))
    await ws.send("get_current_db", req_id=2)
    assert [(await ws.receive())["req_id"] for _ in range(2)] == [2, 1]


async def test_many_requests_at_once(ws):
    for number in range(50):
        await ws.socket.send_bytes(frames.query_request(number, f"select {number} from t"))
    replies = [await ws.receive() for _ in range(50)]
    assert sorted(reply["req_id"] for reply in replies) == list(range(50))
    assert {reply["code"] for reply in replies} == {0}
    assert len({reply["id"] for reply in replies}) == 50
    for reply in replies:
        await ws.socket.send_bytes(frames.fetch_request(reply["req_id"], reply["id"]))
    answers = [frames.parse_reply(await ws.socket.receive_bytes()) for _ in range(50)]
    assert all(len(parse_block(answer.block)) == 3 for answer in answers)


async def test_concurrent_inserts_are_all_kept(http, ws):
    async def write(number: int) -> None:
        async with http.ws_connect("/ws") as socket:
            mine = type(ws)(socket)
            await mine.ask("conn", req_id=1, db="d", **CONN)
            for row in range(10):
                reply = await mine.query(f"insert into t (ts, v) values ({number * 100 + row}, 1)")
                assert reply["code"] == 0

    await asyncio.gather(*(write(number) for number in range(1, 6)))
    id = (await ws.query("select count(*) from t where ts >= 100"))["id"]
    assert bytes((await ws.fetch(id)).block)[-9] == 50


async def test_results_are_read_in_blocks(ws):
    rows = ", ".join(f"({i}, {i}, 'x')" for i in range(9000))
    await ws.query(f"insert into t values {rows}")
    id = (await ws.query("select v from t"))["id"]
    sizes = []
    while (answer := await ws.fetch(id)).block is not None:
        sizes.append(len(parse_block(answer.block)))
    assert sizes == [4096, 4096, 808]

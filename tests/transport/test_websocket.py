"""Sessions over real sockets: answers out of order, calls given up, broken lines and messages."""

from __future__ import annotations

import asyncio
import base64
import builtins
import hashlib
import itertools
import json
import re
import struct

import pytest

import aiotaos
from aiotaos import (
    ConnectionLost,
    Field,
    InterfaceError,
    OperationalError,
    ProtocolError,
    ResultError,
    TypeCode,
)
from aiotaos.options import Address, Options
from aiotaos.transport.base import Deadline, parsed_version
from aiotaos.transport.calls import MAX_STATEMENTS
from aiotaos.transport.servers import Place
from aiotaos.transport.websocket import WebSocketTransport


async def cancel(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def text_frame(text):
    """A WebSocket frame as a server sends it, made by hand."""
    payload = text.encode()
    return struct.pack(">BBH", 0x81, 126, len(payload)) + payload


# Many calls at once.


async def test_200_queries_are_answered_out_of_order(server, any_conn):
    statements = [f"select {number} from t" for number in range(200)]
    for number, sql in enumerate(statements):
        server.integers(sql, [number, number + 1000], [number + 2000])
    server.shuffled = frozenset(statements)
    finished = []

    async def ask(sql):
        rows = await any_conn.fetch(sql)
        finished.append(sql)
        return rows

    results = await asyncio.gather(*map(ask, statements))
    assert results == [[(n,), (n + 1000,), (n + 2000,)] for n in range(200)]
    assert finished != statements
    queries = [request.sql for request in server.session.seen("query")]
    assert queries == statements
    assert server.session.results == {}


async def test_a_slow_statement_does_not_hold_up_another(server, any_conn):
    server.integers("slow", [1])
    gate = server.hold("query", "slow")
    slow = asyncio.ensure_future(any_conn.fetch("slow"))
    await gate.reached.wait()
    assert await any_conn.fetchval("select 1") == 1
    assert not slow.done()
    gate.open()
    assert await slow == [(1,)]


async def test_request_ids_are_positive_and_distinct(server, conn):
    server.affect("insert", 1)
    await asyncio.gather(*(conn.execute("insert") for _ in range(50)))
    ids = [request.req_id for request in server.session.seen("query")]
    assert len(set(ids)) == 50
    assert all(0 < id < 2**63 for id in ids)


async def test_a_request_id_is_sent_as_given(server, any_conn):
    result = await any_conn.query("select 1", req_id=2**63 - 1)
    assert server.session.seen("query")[-1].req_id == 2**63 - 1
    assert result.req_id == 2**63 - 1
    await result.aclose()


async def test_a_request_id_in_use_is_refused(server, any_conn):
    server.integers("slow", [1])
    gate = server.hold("query", "slow")
    slow = asyncio.ensure_future(any_conn.fetch("slow", req_id=77))
    await gate.reached.wait()
    with pytest.raises(InterfaceError, match="req_id 77 is in use by a running call"):
        await any_conn.fetch("select 1", req_id=77)
    gate.open()
    assert await slow == [(1,)]
    assert await any_conn.fetchval("select 1", req_id=77) == 1


async def test_frames_are_as_the_protocol_says(server, conn):
    """The example of the protocol's description: ``select 1`` with req_id 1, then its fetch."""
    result = await conn.query("select 1", req_id=1)
    await result.fetchall()
    query, fetch, _ = (request.message for request in server.session.requests[2:])
    assert query == bytes.fromhex(
        "0100000000000000 0000000000000000 0600000000000000 0100 08000000 73656c6563742031"
    )
    assert fetch[8:] == bytes.fromhex("0100000000000000 0700000000000000 0100")


# Calls that are given up.


async def test_a_query_cancelled_before_its_answer(server, any_conn):
    server.integers("slow", [1])
    gate = server.hold("query", "slow")
    task = asyncio.ensure_future(any_conn.query("slow"))
    await gate.reached.wait()
    await cancel(task)
    assert await any_conn.fetchval("select 1") == 1
    gate.open()
    await server.until(lambda: server.session.freed == ["slow"])
    assert server.session.results == {}


async def test_a_query_cancelled_in_the_turn_of_its_answer(server, any_conn):
    """Both answers come in one segment; the task that wakes first cancels the other."""
    server.affect("first", 3)
    server.integers("second", [1])
    asked = []

    async def answer(session, request):
        asked.append(request)
        if request.sql == "select 1":
            return [session._query(request)]
        if len(asked) == 2:
            texts = [session._query(one) for one in sorted(asked, key=lambda one: one.sql)]
            session.websocket.transport.write(b"".join(map(text_frame, texts)))
        return []

    server.handlers = {"query": answer, "binary_query": answer}
    second = None

    async def first():
        assert await any_conn.execute("first") == 3
        second.cancel()

    task = asyncio.ensure_future(first())
    await server.until(lambda: asked)
    second = asyncio.ensure_future(any_conn.query("second"))
    await task
    with pytest.raises(asyncio.CancelledError):
        await second
    await server.until(lambda: server.session.freed == ["second"])


async def test_a_query_that_times_out(server, any_conn):
    server.integers("slow", [1])
    gate = server.hold("query", "slow")
    with pytest.raises(aiotaos.TimeoutError) as raised:
        await any_conn.query("slow", req_id=99, timeout=0.05)
    error = raised.value
    assert isinstance(error, builtins.TimeoutError)
    assert isinstance(error, OperationalError)
    assert error.message == "no answer within 0.05 s"
    assert (error.req_id, error.sql, error.endpoint) == (99, "slow", server.endpoint)
    assert error.may_have_run is True
    assert "the statement may have run" in str(error)
    assert await any_conn.fetchval("select 1") == 1
    gate.open()
    await server.until(lambda: server.session.freed == ["slow"])


@pytest.mark.parametrize("timeout", [0.05, None])
async def test_late_answers_without_a_result(server, any_conn, timeout):
    """Of an update, and of a refusal, nothing has to be freed."""
    server.affect("insert", 1)
    server.refuse("wrong", 0x2600, "syntax error")
    gates = [server.hold("query", sql) for sql in ("insert", "wrong")]
    for sql, gate in zip(("insert", "wrong"), gates, strict=True):
        task = asyncio.ensure_future(any_conn.execute(sql, timeout=timeout))
        await gate.reached.wait()
        if timeout is None:
            await cancel(task)
        else:
            with pytest.raises(aiotaos.TimeoutError):
                await task
        gate.open()
    assert await any_conn.fetchval("select 1") == 1
    assert server.session.freed == []


@pytest.mark.parametrize("skip", [0, 1])
async def test_a_fetch_cancelled_before_its_block(server, any_conn, skip):
    """While the first block is waited for, and while a later one is."""
    server.integers("rows", [1], [2], [3])
    gate = server.hold("fetch", "rows", skip=skip * 2)
    result = await any_conn.query("rows")
    if skip:
        assert await result.fetchone() == (1,)
    task = asyncio.ensure_future(result.fetchall())
    await gate.reached.wait()
    await cancel(task)
    assert result.closed
    with pytest.raises(ResultError, match="the result is closed"):
        await result.fetchone()
    assert await any_conn.fetchval("select 1") == 1
    assert server.session.freed == []  # not before the answer is there
    gate.open()
    await server.until(lambda: server.session.freed)
    assert server.session.results == {}


async def test_a_fetch_cancelled_between_the_two_steps(server):
    """The block of an old adapter is ready, and not yet asked for."""
    server.version = "3.3.1.0"
    server.integers("rows", [1], [2])
    gate = server.hold("fetch_block", "rows")
    async with aiotaos.connect(server.dsn) as conn:
        task = asyncio.ensure_future(conn.fetch("rows"))
        await gate.reached.wait()
        await cancel(task)
        assert await conn.fetchval("select 1") == 1
        gate.open()
        await server.until(lambda: server.session.freed)
        assert await conn.fetchval("select 1") == 1


async def test_a_fetch_that_times_out(server, any_conn):
    server.integers("rows", [1], [2])
    gate = server.hold("fetch", "rows")
    result = await any_conn.query("rows", req_id=5)
    with pytest.raises(aiotaos.TimeoutError) as raised:
        await result.fetchone(timeout=0.05)
    error = raised.value
    assert isinstance(error, builtins.TimeoutError)
    assert error.message == "no block within 0.05 s"
    assert (error.req_id, error.sql, error.endpoint) == (5, "rows", server.endpoint)
    assert error.may_have_run is None
    assert result.closed
    assert await any_conn.fetchval("select 1") == 1
    gate.open()
    await server.until(lambda: server.session.freed)


async def test_one_deadline_for_statement_and_rows(server, any_conn):
    server.integers("rows", [1], [2])
    gate = server.hold("fetch", "rows")
    with pytest.raises(aiotaos.TimeoutError, match=r"no block within 0\.05 s"):
        await any_conn.fetch("rows", timeout=0.05)
    gate.open()
    await server.until(lambda: server.session.freed)


async def test_the_late_answer_to_a_fetch_may_be_the_last(server, any_conn):
    server.integers("nothing")
    gate = server.hold("fetch", "nothing")
    task = asyncio.ensure_future(any_conn.fetch("nothing"))
    await gate.reached.wait()
    await cancel(task)
    gate.open()
    assert await any_conn.fetch("select 1") == [(1,)]
    assert server.session.results == {}
    assert server.session.freed == []


async def fill_slots(server, conn):
    """As many statements as a session may have waiting for answers; returns what ends them."""
    server.affect("insert", 1)
    gate = server.hold("query", "insert")
    tasks = [asyncio.ensure_future(conn.execute("insert")) for _ in range(MAX_STATEMENTS)]
    await server.until(lambda: gate.arrived == MAX_STATEMENTS)

    async def end():
        gate.open()
        assert await asyncio.gather(*tasks) == [1] * MAX_STATEMENTS

    return end


async def test_cancelled_while_it_waits_for_a_slot(server, conn):
    end = await fill_slots(server, conn)
    task = asyncio.ensure_future(conn.execute("insert"))
    await asyncio.sleep(0)  # it stands in the queue
    await cancel(task)
    await end()
    assert len(server.session.seen("query")) == MAX_STATEMENTS
    await (await fill_slots(server, conn))()


async def test_times_out_while_it_waits_for_a_slot(server, conn):
    end = await fill_slots(server, conn)
    with pytest.raises(aiotaos.TimeoutError) as raised:
        await conn.execute("select 1", timeout=0.02)
    assert raised.value.may_have_run is False
    assert raised.value.message == (
        "the statement could not be sent within 0.02 s: "
        "512 statements of this session wait for answers"
    )
    waiting = asyncio.ensure_future(conn.fetchval("select 1"))
    await end()
    assert await waiting == 1


async def test_a_request_id_is_checked_again_when_there_is_a_slot(server, conn):
    end = await fill_slots(server, conn)
    server.integers("slow", [1])
    gate = server.hold("query", "slow")
    first = asyncio.ensure_future(conn.fetch("slow", req_id=7))
    second = asyncio.ensure_future(conn.fetch("slow", req_id=7))
    await asyncio.sleep(0)
    await end()
    with pytest.raises(InterfaceError, match="req_id 7 is in use"):
        await second
    gate.open()
    assert await first == [(1,)]


async def test_lost_while_it_waits_for_a_slot(server, conn):
    server.may_leave = True
    server.affect("insert", 1)
    server.hold("query", "insert")
    tasks = [asyncio.ensure_future(conn.execute("insert")) for _ in range(MAX_STATEMENTS + 3)]
    await server.until(lambda: len(server.session.seen("query")) == MAX_STATEMENTS)
    server.session.abort()
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(error) for error in errors} == {ConnectionLost}
    assert [error.may_have_run for error in errors] == [True] * MAX_STATEMENTS + [False] * 3


async def congest(server, conn):
    """Let the server not read, and send it more than sockets hold; returns what ends that."""
    big = f"insert '{'x' * 16_000_000}'"
    server.affect(big, 7)
    server.session.websocket.transport.pause_reading()
    task = asyncio.ensure_future(conn.execute(big))
    await asyncio.sleep(0)

    async def end():
        server.session.websocket.transport.resume_reading()
        assert await task == 7

    return end


async def test_cancelled_while_the_socket_is_congested(server, any_conn):
    end = await congest(server, any_conn)
    task = asyncio.ensure_future(any_conn.fetchval("select 1"))
    await asyncio.sleep(0)
    await cancel(task)
    await end()
    assert len(server.session.seen("query")) == 1
    assert await any_conn.fetchval("select 1") == 1
    await (await fill_slots(server, any_conn))()  # it gave its slot back


@pytest.mark.parametrize(("own", "general"), [(0.02, 10), (None, 0.02)])
async def test_times_out_while_the_socket_is_congested(server, own, general):
    async with aiotaos.connect(server.dsn, write_timeout=general) as conn:
        end = await congest(server, conn)
        with pytest.raises(aiotaos.TimeoutError) as raised:
            await conn.execute("select 1", timeout=own)
        assert raised.value.may_have_run is False
        assert raised.value.message == (
            "the statement could not be sent within 0.02 s: the server does not read"
        )
        await end()
        assert await conn.fetchval("select 1") == 1
        await (await fill_slots(server, conn))()


async def test_goes_on_when_the_socket_is_free_again(server, conn):
    end = await congest(server, conn)
    waiting = [asyncio.ensure_future(conn.fetchval("select 1")) for _ in range(3)]
    await asyncio.sleep(0)
    await end()
    assert await asyncio.gather(*waiting) == [1, 1, 1]


async def test_lost_while_the_socket_is_congested(server, conn):
    server.may_leave = True
    big = f"insert '{'x' * 16_000_000}'"
    server.session.websocket.transport.pause_reading()
    first = asyncio.ensure_future(conn.execute(big))
    await asyncio.sleep(0)
    second = asyncio.ensure_future(conn.execute("select 1"))
    await asyncio.sleep(0)
    server.session.abort()
    one, two = await asyncio.gather(first, second, return_exceptions=True)
    assert (type(one), one.may_have_run) == (ConnectionLost, True)
    assert (type(two), two.may_have_run) == (ConnectionLost, False)
    assert one.sql == f"insert '{'x' * 191}…"


async def test_half_closed_while_the_socket_is_congested(server, conn):
    """What cannot be written any more keeps nobody waiting."""
    server.may_leave = True
    server.session.websocket.transport.pause_reading()
    task = asyncio.ensure_future(conn.execute(f"insert '{'x' * 16_000_000}'"))
    await asyncio.sleep(0)
    server.session.websocket.transport.write_eof()
    with pytest.raises(ConnectionLost, match="closed by the other side"):
        await task
    conn.terminate()


# The end of a session.


async def test_the_server_dies_in_a_query(server, any_conn):
    gate = server.hold("query", "select 2")
    task = asyncio.ensure_future(any_conn.fetch("select 2", req_id=1234))
    await gate.reached.wait()
    server.session.abort()
    with pytest.raises(ConnectionLost) as raised:
        await task
    error = raised.value
    assert isinstance(error, builtins.ConnectionError)
    assert isinstance(error, aiotaos.ConnectionError)
    assert error.may_have_run is True
    assert (error.req_id, error.sql, error.endpoint) == (1234, "select 2", server.endpoint)
    assert error.message.startswith("the connection was lost during the call: ")
    assert isinstance(error.__cause__, OSError)
    await check_lost(any_conn, server)


async def check_lost(conn, server):
    """A lost connection is opened again by its next call."""
    assert repr(conn) == f"<Connection {server.endpoint} lost>"
    assert not conn.closed
    sessions = len(server.sessions)
    for call in (conn.execute, conn.query, conn.fetch, conn.fetchrow, conn.fetchval):
        await call("select 1")
    assert len(server.sessions) == sessions + 1
    assert repr(conn) == f"<Connection {server.endpoint} open>"
    await conn.close()
    assert repr(conn) == f"<Connection {server.endpoint} closed>"
    with pytest.raises(InterfaceError, match="is closed"):
        await conn.fetch("select 1")


async def test_the_server_dies_in_a_fetch(server, any_conn):
    server.may_leave = True
    server.integers("rows", [1], [2], [3])
    gate = server.hold("fetch", "rows", skip=2)
    result = await any_conn.query("rows", req_id=55)
    assert await result.fetchone() == (1,)
    task = asyncio.ensure_future(result.fetchall())
    await gate.reached.wait()
    server.session.abort()
    with pytest.raises(ConnectionLost) as raised:
        await task
    error = raised.value
    assert (error.req_id, error.sql, error.endpoint) == (55, "rows", server.endpoint)
    assert error.may_have_run is None
    assert result.closed
    await check_lost(any_conn, server)


async def test_the_server_dies_between_two_blocks(server, conn, server_parts):
    """Nobody waits while the line breaks; the next one to ask hears of it."""
    server.may_leave = True
    server.integers("rows", [1], [2], [3])
    server.hold("fetch", "rows", skip=1)
    result = await conn.query("rows", req_id=55)
    assert await result.fetchone() == (1,)
    server.session.abort()
    await server_parts.turns(lambda: repr(conn).endswith(" lost>"))
    assert repr(conn).endswith(" lost>")
    with pytest.raises(ConnectionLost) as raised:
        await result.fetchone()
    assert "lost before its rows were read" in raised.value.message
    assert raised.value.may_have_run is None
    assert raised.value.req_id == 55
    await result.aclose()
    await check_lost(conn, server)


@pytest.mark.parametrize(
    ("close", "told"),
    [
        ((1001, "going away"), "the server closed the session (code 1001, going away)"),
        ((1000,), "the server closed the session (code 1000)"),
    ],
)
async def test_the_server_closes(server, any_conn, close, told):
    gate = server.hold("query", "select 2")
    task = asyncio.ensure_future(any_conn.execute("select 2"))
    await gate.reached.wait()
    await server.session.websocket.close(*close)
    with pytest.raises(ConnectionLost) as raised:
        await task
    assert raised.value.message == f"the connection was lost during the call: {told}"
    assert raised.value.may_have_run is True
    await check_lost(any_conn, server)


async def test_the_server_closes_without_a_code(server, conn):
    """As taosAdapter does when the user is dropped."""
    task = asyncio.ensure_future(conn.execute("select 2"))
    server.hold("query", "select 2")
    await server.until(lambda: server.session.seen("query"))
    server.session.websocket.transport.write(b"\x88\x00")
    with pytest.raises(ConnectionLost, match=r"the server closed the session \(code 1005\)"):
        await task
    await check_lost(conn, server)


GARBAGE = {
    "reserved bits": (b"\xf1\x05hello", "broken WebSocket frame: reserved bits must be 0"),
    "unknown opcode": (b"\x83\x00", "broken WebSocket frame: invalid opcode"),
    "masked": (b"\x82\x81\x00\x00\x00\x00a", "broken WebSocket frame: incorrect masking"),
    "stray continuation": (b"\x80\x00", "broken WebSocket frame: unexpected continuation frame"),
    "text": (b"\x81\x05hello", "unreadable reply: "),
    "no object": (b"\x81\x0212", "unreadable reply: "),
    "wrong types": (b'\x81\x0e{"req_id":"x"}', "unreadable reply: "),
    "no utf-8": (b"\x81\x02\xff\xfe", "unreadable reply: "),
    "empty text": (b"\x81\x00", "unreadable reply: "),
    "short binary": (b"\x82\x09old block", "truncated binary frame: 9 bytes"),
    "empty binary": (b"\x82\x00", "truncated binary frame: 0 bytes"),
    "unknown action": (
        b"\x82\x33" + b"\xff" * 8 + b"\x08" + bytes(42),
        "unknown binary frame: action 8, version 0",
    ),
}


@pytest.mark.parametrize("kind", GARBAGE)
async def test_garbage_ends_the_session(server, any_conn, kind):
    garbage, told = GARBAGE[kind]
    server.hold("query", "select 2")
    task = asyncio.ensure_future(any_conn.execute("select 2"))
    await server.until(lambda: server.session.seen("query"))
    server.session.websocket.transport.write(garbage)
    with pytest.raises(ConnectionLost, match=re.escape(told)) as raised:
        await task
    assert raised.value.may_have_run is True
    await check_lost(any_conn, server)


async def test_answers_to_nothing_are_ignored(server, any_conn, server_parts):
    unknown = json.dumps({"code": 0, "message": "", "action": "query", "req_id": 424242, "id": 9})
    unasked = json.dumps({"code": 65535, "message": "?", "action": "", "req_id": 0})
    block = server_parts.reply(424242, 9, code=1, message="?")
    old_block = struct.pack("<QQ", 5, 77) + b"block"
    await server.session.send(unknown, unasked, block, old_block)
    assert await any_conn.fetchval("select 1") == 1
    assert not any_conn.closed


async def test_closing_fails_what_runs(server, any_conn):
    server.may_leave = True
    server.integers("rows", [1], [2])
    gates = [server.hold("query", "slow"), server.hold("fetch", "rows")]
    query = asyncio.ensure_future(any_conn.fetch("slow", req_id=3))
    fetch = asyncio.ensure_future(any_conn.fetch("rows", req_id=4))
    for gate in gates:
        await gate.reached.wait()
    await any_conn.close()
    for task, req_id, may_have_run in ((query, 3, True), (fetch, 4, None)):
        with pytest.raises(InterfaceError, match="was closed during the call") as raised:
            await task
        assert raised.value.req_id == req_id
        assert raised.value.may_have_run is may_have_run
    assert server.session.websocket.protocol.close_code == 1000
    await any_conn.close()


async def test_terminate_fails_what_runs(server, conn):
    gate = server.hold("query", "slow")
    task = asyncio.ensure_future(conn.fetch("slow"))
    await gate.reached.wait()
    conn.terminate()
    conn.terminate()
    with pytest.raises(InterfaceError, match="was closed during the call"):
        await task
    assert conn.closed
    await server.until(lambda: server.session.ended)
    assert server.session.websocket.protocol.close_code == 1006  # no goodbye
    await conn.close()


async def test_a_result_of_a_closed_connection(server, conn):
    server.may_leave = True
    server.integers("rows", [1], [2])
    result = await conn.query("rows")
    await conn.close()
    with pytest.raises(InterfaceError, match="the connection is closed"):
        await result.fetchone()
    await result.aclose()


async def test_close_is_cancelled(server, conn):
    """A server that does not answer the goodbye: whoever gives up waiting drops the line."""
    server.session.websocket.transport.pause_reading()
    task = asyncio.ensure_future(conn.close())
    await asyncio.sleep(0)
    await cancel(task)
    assert conn.closed
    await conn.close()
    server.session.websocket.transport.resume_reading()
    await server.until(lambda: server.session.ended)


async def test_close_takes_no_longer_than_told(server, conn):
    server.session.websocket.transport.pause_reading()
    start = asyncio.get_running_loop().time()
    await conn.close(timeout=0.05)
    assert 0.04 < asyncio.get_running_loop().time() - start < 2
    server.session.websocket.transport.resume_reading()
    await server.until(lambda: server.session.ended)


async def test_close_while_the_socket_is_congested(server, conn):
    server.may_leave = True
    server.session.websocket.transport.pause_reading()
    task = asyncio.ensure_future(conn.execute(f"insert '{'x' * 16_000_000}'"))
    await asyncio.sleep(0)
    await conn.close(timeout=0.05)
    with pytest.raises(InterfaceError, match="was closed during the call"):
        await task
    server.session.websocket.transport.resume_reading()
    await server.until(lambda: server.session.ended)


# Messages that are not what they should be, in a line that is well.


BIGINT = [Field("v", TypeCode.BIGINT, 8)]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda block: block[:-3], "inconsistent block: it announces"),
        (lambda block: b"", "truncated block"),
        (lambda block: struct.pack("<i", 9) + block[4:], "unknown block version 9"),
        (lambda block: block[:28] + b"\x04" + block[29:], "column 0 of the block is INT"),
        (lambda block: block[:8] + struct.pack("<i", 5) + block[12:], "inconsistent block"),
    ],
)
async def test_a_broken_block(server, any_conn, change, told):
    from aiotaos.protocol.encode import encode_block

    good = encode_block(BIGINT, [[1, 2]])
    server.raw("rows", BIGINT, lambda: [good, change(good), good])
    result = await any_conn.query("rows", req_id=8)
    assert await result.fetchmany(2) == [(1,), (2,)]
    with pytest.raises(ProtocolError, match=told) as raised:
        await result.fetchone()
    error = raised.value
    assert (error.req_id, error.sql, error.endpoint) == (8, "rows", server.endpoint)
    assert result.closed
    await server.until(lambda: server.session.freed == ["rows"])
    assert await any_conn.fetchval("select 1") == 1
    assert not any_conn.closed


async def test_a_broken_value_in_a_block(server, any_conn):
    """It shows when the values are made, long after the block was taken for good."""
    fields = [Field("s", TypeCode.VARCHAR, 10)]
    head = struct.pack("<iiiiIQ", 1, 28 + 9 + 4 + 5 + 1, 1, 1, 0x80000000, 0)
    block = head + struct.pack("<bii", 8, 12, 5) + struct.pack("<i", 0) + b"\x09\x00abc" + b"\0"
    server.raw("rows", fields, lambda: [block, block])
    with pytest.raises(ProtocolError, match="a VARCHAR value ends at 11 of a column of 5 bytes"):
        await any_conn.fetch("rows")
    await server.until(lambda: server.session.freed == ["rows"])


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ({"fields_count": 2}, "inconsistent reply: 2 columns, 1 names"),
        ({"fields_types": [99]}, r"unknown column type among \[99\]"),
        ({"fields_lengths": None}, "inconsistent reply"),
    ],
)
async def test_an_inconsistent_reply(server, any_conn, server_parts, extra, told):
    server.reply("rows", server_parts.answer(fields=BIGINT, extra=extra))
    with pytest.raises(ProtocolError, match=told) as raised:
        await any_conn.query("rows", req_id=12)
    assert (raised.value.req_id, raised.value.endpoint) == (12, server.endpoint)
    await server.until(lambda: server.session.freed == ["rows"])
    server.reply("update", server_parts.answer(affected=3, extra={"fields_count": 2}))
    with pytest.raises(ProtocolError, match="inconsistent reply: 2 columns, 0 names"):
        await any_conn.execute("update")
    assert await any_conn.fetchval("select 1") == 1


@pytest.mark.parametrize("extra", [{"precision": 3}, {"id": "one"}, {"fields_names": [1]}])
async def test_a_reply_of_wrong_types(server, any_conn, server_parts, extra):
    server.reply("update", server_parts.answer(affected=0, extra=extra))
    with pytest.raises(ProtocolError, match="unreadable reply"):
        await any_conn.execute("update")
    assert await any_conn.fetchval("select 1") == 1


async def test_an_unreadable_late_reply(server, any_conn, server_parts):
    server.reply("update", server_parts.answer(affected=0, extra={"id": "one"}))
    gate = server.hold("query", "update")
    task = asyncio.ensure_future(any_conn.execute("update"))
    await gate.reached.wait()
    await cancel(task)
    gate.open()
    assert await any_conn.fetchval("select 1") == 1


@pytest.mark.parametrize("late", [False, True])
async def test_a_block_instead_of_a_reply(server, any_conn, server_parts, late):
    async def answer(session, request):
        if request.sql == "select 1":
            return [session._query(request)]
        return [server_parts.reply(request.req_id, 1)]

    server.handlers = {"binary_query": answer, "query": answer}
    gate = server.hold("query", "odd")
    task = asyncio.ensure_future(any_conn.execute("odd"))
    await gate.reached.wait()
    if late:
        await cancel(task)
        gate.open()
    else:
        gate.open()
        with pytest.raises(ProtocolError, match="a block where none was asked for"):
            await task
    assert await any_conn.fetchval("select 1") == 1


async def test_fetch_refused(server, any_conn):
    server.integers("rows", [1], fetch_error=(0x073B, "query memory exhausted"))
    result = await any_conn.query("rows", req_id=6)
    assert await result.fetchone() == (1,)
    with pytest.raises(OperationalError) as raised:
        await result.fetchone()
    error = raised.value
    assert (error.code, error.message) == (0x073B, "query memory exhausted")
    assert (error.req_id, error.sql, error.endpoint) == (6, "rows", server.endpoint)
    assert str(error) == (f"[0x073B] query memory exhausted (at {server.endpoint}, req_id 6)")
    assert result.closed
    assert server.session.freed == []  # the server did that


async def test_fetch_refused_as_json(server, conn):
    """taosAdapter answers a binary fetch with JSON when it has no connection to TDengine."""
    server.may_leave = True
    server.integers("rows", [1])

    async def answer(session, request):
        return [session._text(request, 0xFFFF, "server not connected")]

    server.handlers = {"fetch_raw_block": answer}
    with pytest.raises(OperationalError, match="server not connected") as raised:
        await conn.fetch("rows")
    assert raised.value.code == 0xFFFF
    server.handlers = {}


@pytest.mark.parametrize(
    ("code", "error", "told"),
    [(0xFFFF, OperationalError, "block is nil"), (0, ProtocolError, "without a block")],
)
async def test_fetch_block_without_a_block(server, code, error, told):
    server.may_leave = True
    server.version = "3.3.1.0"
    server.integers("rows", [1])

    async def answer(session, request):
        return [session._text(request, code, "block is nil")]

    async with aiotaos.connect(server.dsn) as conn:
        server.handlers = {"fetch_block": answer}
        with pytest.raises(error, match=told):
            await conn.fetch("rows")
        server.handlers = {}
        assert await conn.fetchval("select 1") == 1


async def test_the_result_of_another_statement_is_not_taken(server, any_conn):
    """The server forgot the result: a fetch is told that it is nil."""
    server.integers("rows", [1], [2])
    result = await any_conn.query("rows")
    server.session.results.clear()
    with pytest.raises(OperationalError, match="result is nil"):
        await result.fetchone()


# A line that is alive.


async def test_pings_are_answered_while_a_query_waits(server, any_conn):
    server.integers("slow", [1])
    gate = server.hold("query", "slow")
    task = asyncio.ensure_future(any_conn.fetch("slow"))
    await gate.reached.wait()
    for payload in ("", "TAOS", "x" * 125):
        await (await server.session.websocket.ping(payload))
    gate.open()
    assert await task == [(1,)]


async def test_pings_are_answered_while_rows_are_read(server, conn):
    server.integers("rows", *([number] for number in range(50)))
    pongs = []
    rows = []
    async for row in await conn.query("rows"):
        rows.append(row)
        pongs.append(await server.session.websocket.ping(str(row)))
        if len(rows) % 10 == 0:
            await pongs[-1]
    for pong in pongs:
        await pong
    assert rows == [(number,) for number in range(50)]


async def test_pings_between_fragments(server, any_conn):
    """A message in pieces, with a ping in the middle, and an answer to a ping never sent."""
    payload = json.dumps({"code": 0, "req_id": 31, "is_update": True, "affected_rows": 4})

    async def answer(session, request):
        half = len(payload) // 2
        write = session.websocket.transport.write
        write(b"\x01" + bytes([half]) + payload[:half].encode())
        write(b"\x8a\x02no" + b"\x00\x00")
        pong = await session.websocket.ping("between")
        await pong
        write(b"\x80" + bytes([len(payload) - half]) + payload[half:].encode())
        return []

    server.handlers = {"query": answer, "binary_query": answer}
    assert await any_conn.execute("insert", req_id=31) == 4
    server.handlers = {}


async def test_fragmented_messages(server, any_conn):
    server.integers("rows", list(range(1000)), [None])
    plain = {
        action: getattr(server.session, name)
        for action, name in {
            "binary_query": "_query",
            "query": "_query",
            "fetch_raw_block": "_fetch",
            "fetch": "_old_fetch",
            "fetch_block": "_old_block",
        }.items()
    }

    async def answer(session, request):
        message = plain[request.action](request)
        return [[message[at : at + 100] for at in range(0, len(message), 100)]]

    server.handlers = dict.fromkeys(plain, answer)
    assert await any_conn.fetch("rows") == [*((n,) for n in range(1000)), (None,)]


@pytest.mark.parametrize("chunk", [1, 2, 7])
async def test_answers_that_come_byte_by_byte(server, conn, chunk, server_parts):
    transport = server.session.websocket.transport

    async def answer(session, request):
        frame = text_frame(session._query(request))
        for at in range(0, len(frame), chunk):
            transport.write(frame[at : at + chunk])
            await asyncio.sleep(0)
        return []

    server.handlers = {"binary_query": answer}
    assert await conn.fetchval("select 1") == 1
    server.handlers = {}


async def test_messages_of_many_megabytes(server, any_conn):
    fields = [Field("s", TypeCode.VARCHAR, 60_000), Field("v", TypeCode.BIGINT, 8)]
    texts = [f"{number:05}" * 12_000 for number in range(100)]
    server.rows("rows", fields, [texts, list(range(100))], [texts[:1], [7]])
    sql = f"insert '{'涛' * 1_000_000}'"
    server.affect(sql, 1)
    rows, affected = await asyncio.gather(any_conn.fetch("rows"), any_conn.execute(sql))
    assert rows == [*zip(texts, range(100), strict=True), (texts[0], 7)]
    assert affected == 1


@pytest.mark.parametrize("offered", [True, False])
async def test_compression(start_server, offered):
    server = await start_server(compression="deflate")
    values = [7] * 100_000
    server.integers("rows", values, values)
    async with aiotaos.connect(server.dsn, compression=offered) as conn:
        assert await conn.fetch("rows") == [(7,)] * 200_000
        extensions = server.session.websocket.protocol.extensions
        assert [extension.name for extension in extensions] == ["permessage-deflate"] * offered
        assert await conn.fetchval("select 1") == 1


async def test_compression_that_the_server_does_not_have(server):
    async with aiotaos.connect(server.dsn, compression=True) as conn:
        assert await conn.fetchval("select 1") == 1


async def test_a_silent_server_does_not_stall_the_loop(server, conn):
    """The loop turns while a query waits, and while large blocks are read."""
    texts = [f"text number {number}" for number in range(20_000)]
    fields = [Field("v", TypeCode.BIGINT, 8), Field("s", TypeCode.VARCHAR, 32)]
    columns = [list(range(20_000)), texts]
    server.rows("large", fields, *([columns] * 20))
    server.integers("slow", [1])
    gate = server.hold("query", "slow")
    loop = asyncio.get_running_loop()
    ticks = [loop.time()]
    enough = asyncio.Event()

    def tick():
        ticks.append(loop.time())
        if len(ticks) > 60:
            enough.set()
        nonlocal timer
        timer = loop.call_later(0.002, tick)

    timer = loop.call_later(0.002, tick)
    waiting = asyncio.ensure_future(conn.fetch("slow"))
    await gate.reached.wait()
    await enough.wait()
    assert not waiting.done()
    quiet = ticks[:]
    rows = 0
    async for _ in await conn.query("large"):
        rows += 1
    timer.cancel()
    gate.open()
    assert await waiting == [(1,)]
    assert rows == 400_000
    assert len(ticks) - len(quiet) >= 10
    # Generous bounds: other processes may take the processor away.
    assert max(after - before for before, after in itertools.pairwise(quiet)) < 0.5
    assert max(after - before for before, after in itertools.pairwise(ticks)) < 1


# The transport itself.


async def test_repr_and_versions(clean):
    transport = WebSocketTransport(Options(password="secret"), Place(Address("::1", 6041)))
    assert repr(transport) == "<WebSocketTransport ws://[::1]:6041 open, 0 calls>"
    assert transport.server_version == ""
    transport.terminate()
    assert repr(transport) == "<WebSocketTransport ws://[::1]:6041 closed, 0 calls>"
    transport.link._opened.cancel()


async def test_a_finished_result_has_no_more_blocks(server, conn):
    result = await conn.query("select 1")
    assert await result.fetchall() == [(1,)]
    transport = conn._session.transport
    assert await transport.next_block(result._result, Deadline(5)) is None
    transport.request_block(result._result)
    transport.free(result._result)
    assert [request.action for request in server.session.requests[3:]] == ["fetch_raw_block"] * 2


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("3.3.7.5", (3, 3, 7, 5)),
        ("3.3.2.0.alpha", (3, 3, 2, 0)),
        ("3.3.10", (3, 3, 10, 0)),
        ("ver-3.4.1.12", (3, 4, 1, 12)),
        ("3.3.6.13-beta.2", (3, 3, 6, 13)),
        ("2.6", (2, 6, 0, 0)),
        ("", (0, 0, 0, 0)),
        ("unknown", (0, 0, 0, 0)),
    ],
)
def test_versions(text, version):
    assert parsed_version(text) == version


@pytest.mark.parametrize(
    ("version", "action"),
    [("3.3.2.0", "binary_query"), ("3.3.1.9", "query"), ("3.4.0.0.alpha", "binary_query")],
)
async def test_the_version_decides_the_form_of_queries(server, version, action):
    server.version = version
    async with aiotaos.connect(server.dsn) as conn:
        assert await conn.fetchval("select 1") == 1
        assert conn.server_version == version
    assert server.session.requests[2].action == action


async def test_a_late_answer_together_with_the_end():
    """Answer and close frame come in one segment: nothing is freed, nothing is logged."""
    troubles = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: troubles.append(context))
    given_up, answered = asyncio.Event(), asyncio.Event()

    async def serve(reader, writer):
        request = await reader.readuntil(b"\r\n\r\n")
        key = next(
            line.partition(b":")[2].strip()
            for line in request.split(b"\r\n")
            if line.lower().startswith(b"sec-websocket-key")
        )
        digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
        )

        async def receive():
            head = await reader.readexactly(2)
            size = head[1] & 0x7F
            if size == 126:
                (size,) = struct.unpack(">H", await reader.readexactly(2))
            mask = await reader.readexactly(4)
            data = await reader.readexactly(size)
            return bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))

        def frame(opcode, data):
            size = bytes([len(data)]) if len(data) < 126 else struct.pack(">BH", 126, len(data))
            return bytes([0x80 | opcode]) + size + data

        for _ in range(2):  # version, conn
            asked = json.loads(await receive())
            reply = {"code": 0, "action": asked["action"], "req_id": asked["args"]["req_id"]}
            writer.write(frame(1, json.dumps({**reply, "version": "3.3.7.5"}).encode()))
        (req_id,) = struct.unpack_from("<Q", await receive())
        await given_up.wait()
        answer = {"code": 0, "req_id": req_id, "id": 1, "is_update": False}
        writer.write(frame(1, json.dumps(answer).encode()) + frame(8, b"\x03\xe8"))
        await reader.read()
        writer.close()
        answered.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with aiotaos.connect(f"ws://127.0.0.1:{port}") as conn:
            with pytest.raises(aiotaos.TimeoutError):
                await conn.fetch("select 1", timeout=0.05)
            given_up.set()
            await answered.wait()
            assert repr(conn).endswith(" lost>")
    assert troubles == []

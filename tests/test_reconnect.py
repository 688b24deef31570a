"""A connection that outlives its sessions: what is repeated, what is restored, what is told."""

from __future__ import annotations

import asyncio
import builtins
import gc
import logging
import math

import pytest

import aiotaos
from aiotaos import (
    AuthenticationError,
    ConnectionLost,
    Field,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    TypeCode,
)
from aiotaos.embedded import Server
from tests.trouble import Proxy

QUICK = {"conn_retries": 3, "retry_backoff_ms": 1, "retry_backoff_max_ms": 4}
READS = [
    "select v from t",
    "  SELECT v FROM t",
    "/* first */ select v from t",
    "show tables",
    "describe t",
    "desc t",
    "explain select v from t",
]
WRITES = [
    "insert into t values (1, 2)",
    "INSERT INTO t VALUES (1, 2)",
    "create table t (ts timestamp, v int)",
    "drop table t",
    "alter table t add column w int",
    "delete from t",
]
PASSING = [0x000B, 0x0018, 0x0125, 0x0531]
NOT_RUN = [0xFFFE, 0x03D3, 0x0386, 0x0396]


@pytest.fixture
async def connect(server):
    """Open connections that repeat quickly; they work at the end of the test."""
    server.may_leave = True  # what is cut off is left
    opened = []

    async def open_one(**options):
        opened.append(await aiotaos.connect(server.dsn, **QUICK | options))
        return opened[-1]

    yield open_one
    for conn in opened:
        if not conn.closed:
            assert await conn.fetchval("select 1", timeout=5) == 1
        await conn.close()


def lost(conn):
    return " lost" in repr(conn)


async def cut_at(server, gate):
    """Abort the session that has a request held at the gate; the next such request passes."""
    await gate.reached.wait()
    server.gates.remove(gate)
    server.session.abort()


async def cut_idle(server, conn, turns):
    """Abort the session, and let the client notice it."""
    server.session.abort()
    await turns(lambda: lost(conn))
    assert lost(conn)


@pytest.fixture
def turns(server_parts):
    return server_parts.turns


def asked(server, sql):
    """How often a statement came, in all sessions."""
    return sum(
        request.sql == sql for session in server.sessions for request in session.seen("query")
    )


def in_turn(server, sql, *answers):
    """Answer a statement with one after the other; the last one stays."""
    ordinary, waiting = server.answer, list(answers)

    def answer(asked):
        if asked != sql:
            return ordinary(asked)
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]

    server.answer = answer


async def iterate(conn, sql):
    return [row async for row in await conn.query(sql)]


async def with_cursor(conn, sql):
    async with conn.cursor() as cursor:
        await cursor.execute(sql)
        return await cursor.fetchall()


async def fetch(conn, sql):
    return await conn.fetch(sql)


async def block_by_block(conn, sql):
    result = await conn.query(sql)
    return [row async for block in result.blocks() for row in block.rows()]


# What is repeated: reads.


@pytest.mark.parametrize("version", ["3.3.8.0", "3.3.1.0"], ids=["binary", "json"])
@pytest.mark.parametrize("action", ["query", "fetch"])
@pytest.mark.parametrize("call", [fetch, iterate, with_cursor, block_by_block])
async def test_a_read_is_repeated(server, connect, call, action, version):
    """The line breaks while the statement runs, or before its first block has come."""
    server.version = version
    server.integers(READS[0], [1, 2], [3])
    conn = await connect()
    gate = server.hold(action, READS[0])
    task = asyncio.ensure_future(call(conn, READS[0]))
    await cut_at(server, gate)
    assert await task == [(1,), (2,), (3,)]
    assert asked(server, READS[0]) == 2
    assert len(server.sessions) == 2


@pytest.mark.parametrize("sql", READS)
async def test_what_a_read_is(server, connect, sql):
    server.integers(sql, [1])
    conn = await connect()
    gate = server.hold("query", sql)
    task = asyncio.ensure_future(conn.fetchrow(sql))
    await cut_at(server, gate)
    assert await task == (1,)
    assert asked(server, sql) == 2


@pytest.mark.parametrize("skip", [1, 2, 3])
async def test_fetch_is_repeated_as_a_whole(server, connect, skip):
    """It has handed nothing out before its last row has come."""
    server.integers(READS[0], [1, 2], [3], [4])
    conn = await connect()
    gate = server.hold("fetch", READS[0], skip=skip)
    task = asyncio.ensure_future(conn.fetch(READS[0]))
    await cut_at(server, gate)
    assert await task == [(1,), (2,), (3,), (4,)]
    assert len(server.sessions) == 2


async def test_fetchrow_and_fetchval_are_repeated(server, connect):
    server.integers(READS[0], [1, 2], [3])
    conn = await connect()
    for call, expected in ((conn.fetchrow, (1,)), (conn.fetchval, 1)):
        gate = server.hold("fetch", READS[0])
        task = asyncio.ensure_future(call(READS[0]))
        await cut_at(server, gate)
        assert await task == expected


async def test_a_read_is_repeated_as_often_as_is_allowed(server, connect):
    """Each time the line breaks; once more than conn_retries and no more."""
    conn = await connect()
    count = 0

    async def abort(session, request):
        nonlocal count
        count += 1
        session.abort()
        return []

    server.handlers = {"binary_query": abort}
    with pytest.raises(ConnectionLost) as raised:
        await conn.fetch(READS[0])
    assert count == 1 + QUICK["conn_retries"]
    assert not isinstance(raised.value, InterfaceError)
    server.handlers = {}
    assert await conn.fetchval("select 1") == 1


async def test_a_read_is_not_repeated_without_retries(server, connect):
    server.integers(READS[0], [1])
    conn = await connect(conn_retries=0)
    gate = server.hold("query", READS[0])
    task = asyncio.ensure_future(conn.fetch(READS[0]))
    await cut_at(server, gate)
    with pytest.raises(ConnectionLost):
        await task
    assert asked(server, READS[0]) == 1
    assert await conn.fetch(READS[0]) == [(1,)]  # the next call has a session again
    assert len(server.sessions) == 2


async def test_the_deadline_bounds_the_repetitions(server, connect):
    conn = await connect(conn_retries=100_000)

    async def abort(session, request):
        session.abort()
        return []

    server.handlers = {"binary_query": abort}
    loop = asyncio.get_running_loop()
    start = loop.time()
    with pytest.raises(OperationalError):
        await conn.fetch(READS[0], timeout=0.2)
    assert loop.time() - start < 1
    server.handlers = {}
    assert await conn.fetchval("select 1") == 1


# What is repeated: streamed results.


async def test_a_streamed_result_whose_rows_were_handed_out(server, connect):
    server.integers(READS[0], [1, 2], [3], [4])
    conn = await connect()
    gate = server.hold("fetch", READS[0], skip=1)
    rows = []

    async def read():
        async for row in await conn.query(READS[0]):
            rows.append(row)
            if len(rows) == 1:
                await cut_at(server, gate)

    with pytest.raises(ConnectionLost) as raised:
        await read()
    assert rows == [(1,), (2,)]
    assert raised.value.sql == READS[0]
    assert asked(server, READS[0]) == 1
    assert await conn.fetchval("select 1") == 1
    assert len(server.sessions) == 2


async def test_a_lost_result_stays_lost(server, connect):
    """Reading on does not begin again, nor does it end as if there were no more."""
    server.integers(READS[0], [1, 2], [3], [4])
    conn = await connect()
    gate = server.hold("fetch", READS[0], skip=1)
    result = await conn.query(READS[0])
    assert await result.fetchone() == (1,)
    await cut_at(server, gate)
    with pytest.raises(ConnectionLost):
        await result.fetchall()
    with pytest.raises(aiotaos.Error):
        await result.fetchall()
    assert asked(server, READS[0]) == 1


async def test_a_result_that_is_lost_before_it_is_read(server, connect, turns):
    """Nobody waits when the line breaks; the first block is asked for afterwards."""
    server.integers(READS[0], [1, 2], [3])
    conn = await connect()
    server.hold("fetch", READS[0])
    result = await conn.query(READS[0])
    server.gates.clear()
    await cut_idle(server, conn, turns)
    assert [row async for row in result] == [(1,), (2,), (3,)]
    assert asked(server, READS[0]) == 2


async def test_a_result_whose_columns_are_others_by_now(server, connect, server_parts):
    """What was said of the columns must hold for the rows that come."""
    field = [Field("v", TypeCode.BIGINT, 8)]
    other = [Field("w", TypeCode.INT, 4), Field("x", TypeCode.VARCHAR, 4)]
    server.rows("first", field, [[1, 2]])
    server.rows("second", other, [[1, 2], ["a", "b"]])
    in_turn(server, READS[0], server.answer("first"), server.answer("second"))
    conn = await connect()
    gate = server.hold("fetch", READS[0])
    result = await conn.query(READS[0])
    assert [field.name for field in result.fields] == ["v"]
    task = asyncio.ensure_future(result.fetchall())
    await cut_at(server, gate)
    try:
        rows = await task
    except aiotaos.Error:
        return
    assert [field.name for field in result.fields] == ["w", "x"]
    assert rows == [(1, "a"), (2, "b")]


# What is repeated: writes.


@pytest.mark.parametrize("sql", WRITES)
async def test_a_write_is_not_repeated(server, connect, sql):
    server.affect(sql, 12)
    conn = await connect()
    gate = server.hold("query", sql)
    task = asyncio.ensure_future(conn.execute(sql))
    await cut_at(server, gate)
    with pytest.raises(ConnectionLost) as raised:
        await task
    assert raised.value.may_have_run is True
    assert raised.value.sql == sql
    assert asked(server, sql) == 1
    assert await conn.execute(sql) == 12
    assert len(server.sessions) == 2


@pytest.mark.parametrize("sql", WRITES)
async def test_a_write_is_repeated_if_the_user_says_so(server, connect, sql):
    server.affect(sql, 12)
    conn = await connect(retry_writes=True)
    gate = server.hold("query", sql)
    task = asyncio.ensure_future(conn.execute(sql))
    await cut_at(server, gate)
    assert await task == 12
    assert asked(server, sql) == 2


@pytest.mark.parametrize("options", [{}, {"conn_retries": 0}])
async def test_a_write_that_was_never_sent(server, connect, turns, options):
    """The session was lost before the call."""
    server.affect(WRITES[0], 12)
    conn = await connect(**options)
    await cut_idle(server, conn, turns)
    assert not conn.closed
    assert await conn.execute(WRITES[0]) == 12
    assert asked(server, WRITES[0]) == 1
    assert len(server.sessions) == 2


async def test_writes_that_wait_for_room(server, connect):
    """What the socket does not take any more was not sent; it is run on the next session."""
    async with Proxy(server.port) as proxy:
        conn = await connect(port=proxy.port, host="127.0.0.1")
        proxy.stall()
        big = f"insert into t values ('{'x' * 4_000_000}')"
        server.affect(big, 1)
        server.affect(WRITES[0], 12)
        sent = [asyncio.ensure_future(conn.execute(big)) for _ in range(3)]
        for _ in range(5):
            await asyncio.sleep(0)
        waiting = asyncio.ensure_future(conn.execute(WRITES[0]))
        for _ in range(5):
            await asyncio.sleep(0)
        proxy.cut()
        await proxy.heal()
        assert await waiting == 12
        ends = await asyncio.gather(*sent, return_exceptions=True)
        assert isinstance(ends[0], ConnectionLost)
        assert ends[0].may_have_run
        assert all(end == 1 or isinstance(end, ConnectionLost) for end in ends)
        assert asked(server, WRITES[0]) == 1
        await conn.close()


# Codes of the server.


@pytest.mark.parametrize("code", PASSING + NOT_RUN)
async def test_a_passing_code_of_a_read(server, connect, server_parts, code):
    server.integers("rows", [1])
    refusal = server_parts.answer(code=code, message="not now")
    in_turn(server, READS[0], refusal, server.answer("rows"))
    conn = await connect()
    assert await conn.fetch(READS[0]) == [(1,)]
    assert asked(server, READS[0]) == 2


@pytest.mark.parametrize("code", PASSING + NOT_RUN)
async def test_a_passing_code_that_does_not_pass(server, connect, code):
    server.refuse(READS[0], code, "not now")
    conn = await connect()
    with pytest.raises(aiotaos.Error, match="not now") as raised:
        await conn.fetch(READS[0])
    assert raised.value.code == code
    assert asked(server, READS[0]) == 1 + QUICK["conn_retries"]


@pytest.mark.parametrize("code", NOT_RUN)
async def test_a_write_that_the_server_says_has_not_run(server, connect, server_parts, code):
    refusal, written = server_parts.answer(code=code), server_parts.answer(affected=12)
    in_turn(server, WRITES[0], refusal, refusal, written)
    conn = await connect()
    assert await conn.execute(WRITES[0]) == 12
    assert asked(server, WRITES[0]) == 3


@pytest.mark.parametrize("code", PASSING)
async def test_a_passing_code_of_a_write(server, connect, server_parts, code):
    refusal, written = server_parts.answer(code=code), server_parts.answer(affected=12)
    in_turn(server, WRITES[0], refusal, written)
    conn = await connect()
    with pytest.raises(aiotaos.Error) as raised:
        await conn.execute(WRITES[0])
    assert raised.value.code == code
    assert asked(server, WRITES[0]) == 1
    in_turn(server, WRITES[0], refusal, written)
    again = await connect(retry_writes=True)
    assert await again.execute(WRITES[0]) == 12
    assert asked(server, WRITES[0]) == 3


@pytest.mark.parametrize("code", [0x2600, 0x0388, 0x2662, 0x0118, 0x0357])
@pytest.mark.parametrize("sql", [READS[0], WRITES[0]])
async def test_other_codes_are_final(server, connect, sql, code):
    server.refuse(sql, code, "no")
    conn = await connect(retry_writes=True)
    with pytest.raises(aiotaos.Error) as raised:
        await conn.execute(sql)
    assert raised.value.code == code
    assert asked(server, sql) == 1
    assert len(server.sessions) == 1


async def test_a_pause_that_would_be_too_long(server, connect):
    """The refusal is told instead of a time-out, and at once."""
    server.refuse(READS[0], 0x0125, "starting")
    conn = await connect(retry_backoff_ms=60_000, retry_backoff_max_ms=60_000)
    loop = asyncio.get_running_loop()
    start = loop.time()
    with pytest.raises(aiotaos.Error, match="starting"):
        await conn.fetch(READS[0], timeout=5)
    assert loop.time() - start < 2
    assert asked(server, READS[0]) == 1


# What is restored.


async def test_the_login_is_the_same(server, connect, turns):
    conn = await connect(database="power", user_app="tests", user_ip="10.0.0.7", timezone="UTC")
    await cut_idle(server, conn, turns)
    assert await conn.fetchval("select 1") == 1
    first, second = server.logged_in
    assert first.pop("req_id") != second.pop("req_id")
    assert first == second


@pytest.mark.parametrize(
    "change",
    [
        lambda conn: conn.execute("USE Water"),
        lambda conn: conn.execute("  use `water`"),
        lambda conn: conn.select_db("water"),
    ],
    ids=["use", "quoted", "select_db"],
)
async def test_the_database_is_restored(server, connect, turns, change):
    conn = await connect(database="power")
    await change(conn)
    await cut_idle(server, conn, turns)
    assert conn.database == "water"
    assert await conn.fetchval("select 1") == 1
    assert [login["db"] for login in server.logged_in] == ["power", "water"]
    assert (server.session.database, conn.database) == ("water", "water")


async def test_no_database_is_none_again(server, connect, turns):
    conn = await connect()
    await cut_idle(server, conn, turns)
    assert await conn.fetchval("select 1") == 1
    assert not server.logged_in[1].get("db")
    assert conn.database is None


async def test_a_use_that_is_cut(server, connect):
    """It is repeated, and the database is the new one."""
    conn = await connect(database="power")
    gate = server.hold("query", "use water")
    task = asyncio.ensure_future(conn.execute("use water"))
    await cut_at(server, gate)
    await task
    assert (conn.database, server.session.database) == ("water", "water")


async def test_a_database_that_is_gone(server, connect, turns):
    """The call says so, one way or the other, and the connection goes on."""
    conn = await connect(database="power")
    await cut_idle(server, conn, turns)
    server.logins = [(0x0388, "Database not exist")]
    (end,) = await asyncio.gather(conn.fetchval("select 1"), return_exceptions=True)
    if isinstance(end, ProgrammingError):
        assert end.code == 0x0388
    else:
        assert (end, conn.database) == (1, None)


@pytest.fixture
def options_of_sessions(server):
    """What ``options_connection`` was told."""
    told = []

    async def answer(session, request):
        told.append(request.args["options"])
        return [session._text(request)]

    server.handlers["options_connection"] = answer
    return told


async def test_the_time_zone_is_restored(server, connect, turns, options_of_sessions):
    server.rows("times", [Field("ts", TypeCode.TIMESTAMP, 8)], [[1_709_251_200_000]])
    conn = await connect(timezone="UTC")
    await conn.set_timezone("Asia/Tokyo")
    assert len(options_of_sessions) == 1
    assert (await conn.fetchval("times")).isoformat() == "2024-03-01T09:00:00+09:00"
    await cut_idle(server, conn, turns)
    assert (await conn.fetchval("times")).isoformat() == "2024-03-01T09:00:00+09:00"
    assert [login["tz"] for login in server.logged_in] == ["UTC", "Asia/Tokyo"]


async def test_a_time_zone_that_the_server_refuses(server, connect, turns):
    async def refuse(session, request):
        return [session._text(request, 0x0118, "Invalid parameters")]

    server.handlers["options_connection"] = refuse
    conn = await connect(timezone="UTC")
    with pytest.raises(aiotaos.Error, match="Invalid parameters"):
        await conn.set_timezone("Asia/Tokyo")
    await cut_idle(server, conn, turns)
    assert await conn.fetchval("select 1") == 1
    assert [login["tz"] for login in server.logged_in] == ["UTC", "UTC"]


# on_reconnect.


@pytest.mark.parametrize("is_coroutine", [True, False])
async def test_on_reconnect(server, connect, turns, is_coroutine):
    called = []

    def note(conn):
        called.append(conn)

    async def note_later(conn):
        note(conn)

    conn = await connect(on_reconnect=note_later if is_coroutine else note)
    assert await conn.fetchval("select 1") == 1
    assert called == []
    for number in (1, 2):
        await cut_idle(server, conn, turns)
        assert await asyncio.gather(*(conn.fetchval("select 1") for _ in range(5))) == [1] * 5
        assert called == [conn] * number


async def test_on_reconnect_comes_first(server, connect, turns):
    """Others wait until it is done; its own statements do not wait for it."""

    async def set_up(conn):
        await conn.execute("set up")
        await asyncio.sleep(0)
        assert await conn.fetch("rows") == [(1,)]

    server.affect("set up", 0)
    server.integers("rows", [1])
    conn = await connect(on_reconnect=set_up, database="power")
    await cut_idle(server, conn, turns)
    assert await asyncio.gather(*(conn.fetchval("select 1") for _ in range(20))) == [1] * 20
    ran = [request.sql for request in server.session.seen("query")]
    assert ran == ["set up", "rows"] + ["select 1"] * 20
    assert len(server.sessions) == 2


async def test_on_reconnect_raises(server, connect, turns):
    """So do the calls that wait, and the next one tries again."""
    failing = True

    async def fail(conn):
        if failing:
            raise ZeroDivisionError

    conn = await connect(on_reconnect=fail)
    await cut_idle(server, conn, turns)
    ends = await asyncio.gather(
        *(conn.fetchval("select 1") for _ in range(5)), return_exceptions=True
    )
    assert {type(end) for end in ends} == {ZeroDivisionError}
    with pytest.raises(ZeroDivisionError):
        await conn.fetchval("select 1")
    assert len(server.sessions) == 3
    failing = False
    assert await conn.fetchval("select 1") == 1
    assert not conn.closed


async def test_the_session_is_lost_in_on_reconnect(server, connect, turns):
    """That is no dead-lock."""

    async def set_up(conn):
        await conn.execute("set up")

    server.affect("set up", 0)
    conn = await connect(on_reconnect=set_up)
    await cut_idle(server, conn, turns)
    gate = server.hold("query", "set up")
    task = asyncio.ensure_future(conn.fetchval("select 1", timeout=5))
    await cut_at(server, gate)
    try:
        assert await task == 1
    except aiotaos.TimeoutError as error:
        pytest.fail(f"nobody went on: {error}")
    except aiotaos.Error:
        pass
    assert await conn.fetchval("select 1", timeout=5) == 1


# One reconnect for all.


async def test_single_flight(server, connect):
    server.integers(READS[0], [1, 2], [3])
    conn = await connect()
    gate = server.hold("query", READS[0])
    tasks = [asyncio.ensure_future(conn.fetch(READS[0])) for _ in range(100)]
    await server.until(lambda: gate.arrived == 100)
    await cut_at(server, gate)
    assert await asyncio.gather(*tasks) == [[(1,), (2,), (3,)]] * 100
    assert len(server.sessions) == 2
    assert asked(server, READS[0]) == 200


async def test_single_flight_of_new_calls(server, connect, turns):
    conn = await connect()
    await cut_idle(server, conn, turns)
    assert await asyncio.gather(*(conn.fetchval("select 1") for _ in range(100))) == [1] * 100
    assert len(server.sessions) == 2


async def test_a_failure_is_everyones(server, connect, turns, caplog):
    """One round of attempts, not one for each task."""
    caplog.set_level(logging.DEBUG, "aiotaos.connect")
    conn = await connect(conn_retries=1)
    await server.stop()
    await turns(lambda: lost(conn))
    ends = await asyncio.gather(
        *(conn.fetchval("select 1") for _ in range(100)), return_exceptions=True
    )
    assert {type(end) for end in ends} == {aiotaos.ConnectionError}
    attempts = [record for record in caplog.records if record.message.startswith("attempt")]
    assert len(attempts) == 2
    await server.start(server.port)
    assert await conn.fetchval("select 1") == 1


async def test_cancelled_while_others_wait(server, connect, turns):
    """The one who began the reconnect gives up; the others get their session."""
    conn = await connect()
    await cut_idle(server, conn, turns)
    gate = server.hold("conn")
    tasks = [asyncio.ensure_future(conn.fetchval("select 1")) for _ in range(3)]
    await gate.reached.wait()
    tasks[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    gate.open()
    assert await asyncio.gather(*tasks[1:]) == [1, 1]
    assert len(server.sessions) == 2


async def test_timed_out_while_others_wait(server, connect, turns):
    conn = await connect()
    await cut_idle(server, conn, turns)
    gate = server.hold("conn")
    server.affect(WRITES[0], 1)
    hasty = asyncio.ensure_future(conn.execute(WRITES[0], timeout=0.05))
    patient = asyncio.ensure_future(conn.fetchval("select 1"))
    with pytest.raises(aiotaos.TimeoutError) as raised:
        await hasty
    assert not raised.value.may_have_run
    gate.open()
    assert await patient == 1
    assert len(server.sessions) == 2
    assert asked(server, WRITES[0]) == 0


async def test_all_are_cancelled(server, connect, turns):
    """Nobody waits for the session that is being opened; the next call may have it."""
    conn = await connect()
    await cut_idle(server, conn, turns)
    gate = server.hold("conn")
    tasks = [asyncio.ensure_future(conn.fetchval("select 1")) for _ in range(3)]
    await gate.reached.wait()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)
    gate.open()
    assert await conn.fetchval("select 1", timeout=5) == 1


# No server.


async def test_no_server_can_be_reached(server, connect, turns):
    conn = await connect(conn_retries=1)
    await server.stop()
    await turns(lambda: lost(conn))
    for _ in range(2):
        with pytest.raises(aiotaos.ConnectionError) as raised:
            await conn.fetchval("select 1")
        assert isinstance(raised.value, builtins.ConnectionError)
        assert server.endpoint in str(raised.value)
        assert not conn.closed
    with pytest.raises(aiotaos.ConnectionError) as raised:
        await conn.execute(WRITES[0])
    assert not raised.value.may_have_run
    await server.start(server.port)
    assert await conn.fetchval("select 1") == 1
    assert len(server.sessions) == 2


async def test_the_server_comes_back_meanwhile(server, connect, turns):
    """The call waits for it: there are attempts left."""
    conn = await connect(conn_retries=1000, retry_backoff_ms=5, retry_backoff_max_ms=5)
    port = server.port
    await server.stop()
    await turns(lambda: lost(conn))
    task = asyncio.ensure_future(conn.fetchval("select 1"))
    await asyncio.wait([task], timeout=0.02)
    assert not task.done()
    await server.start(port)
    assert await task == 1


async def test_connect_timeout_bounds_the_reconnect(server, connect, turns):
    conn = await connect(connect_timeout=0.1, conn_retries=1000)
    await cut_idle(server, conn, turns)
    gate = server.hold("version")
    loop = asyncio.get_running_loop()
    start = loop.time()
    with pytest.raises(OperationalError) as raised:
        await conn.fetchval("select 1", timeout=10)
    assert isinstance(raised.value, (aiotaos.TimeoutError, aiotaos.ConnectionError))
    assert loop.time() - start < 1
    gate.open()


async def test_the_credentials_have_changed(server, connect, turns):
    conn = await connect()
    await cut_idle(server, conn, turns)
    server.logins = [(0x0357, "Authentication failure")]
    with pytest.raises(AuthenticationError):
        await conn.fetchval("select 1")
    assert len(server.sessions) == 2  # it is not tried again by itself
    assert await conn.fetchval("select 1") == 1


async def test_another_server_takes_over(start_server, turns):
    """The one it was with does not listen any more."""
    servers = [await start_server(), await start_server()]
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    async with aiotaos.connect(f"ws://{hosts}", **QUICK) as conn:
        (first,) = [server for server in servers if server.endpoint == conn.endpoint]
        (second,) = [server for server in servers if server is not first]
        await first.stop()
        await turns(lambda: lost(conn))
        assert await conn.fetchval("select 1") == 1
        assert conn.endpoint == second.endpoint


# Prepared statements, on the embedded server.


@pytest.fixture
async def through(clean):
    """A connection to an embedded server through a proxy, and the proxy."""
    async with (
        Server() as server,
        Proxy(server.port) as proxy,
        aiotaos.connect(f"ws://root:taosdata@127.0.0.1:{proxy.port}", **QUICK) as conn,
    ):
        await conn.execute("create database d")
        await conn.execute("use d")
        await conn.execute("create table t (ts timestamp, v int)")
        yield conn, proxy


async def test_a_statement_is_prepared_again(through, turns):
    conn, proxy = through
    writing = await conn.prepare("insert into t values (?, ?)")
    reading = await conn.prepare("select v from t where v >= ?")
    for number in range(3):
        assert await writing.execute(1_700_000_000_000 + number, number) == 1
        assert await reading.fetch(0) == [(v,) for v in range(number + 1)]
        proxy.cut(once=True)
        await turns(lambda: lost(conn))
        assert lost(conn)
        assert conn.database == "d"
    assert proxy.accepted == 3
    await writing.aclose()
    await reading.aclose()


async def test_rows_that_were_bound_are_lost(through, turns):
    conn, proxy = through
    statement = await conn.prepare("insert into t values (?, ?)")
    await statement.bind_rows([[1_700_000_000_000, 1], [1_700_000_000_001, 2]])
    proxy.cut(once=True)
    await turns(lambda: lost(conn))
    with pytest.raises(ConnectionLost) as raised:
        await statement.execute()
    assert raised.value.may_have_run is False
    assert statement.bound == 0
    await statement.bind_rows([[1_700_000_000_002, 3]])
    assert await statement.execute() == 1
    assert await conn.fetch("select v from t") == [(3,)]
    await statement.aclose()


async def test_rows_that_were_bound_and_the_next_bind(through, turns):
    """What is lost is told by the first call that comes, whichever it is."""
    conn, proxy = through
    statement = await conn.prepare("insert into t values (?, ?)")
    await statement.bind_rows([[1_700_000_000_000, 1]])
    proxy.cut(once=True)
    await turns(lambda: lost(conn))
    with pytest.raises(ConnectionLost) as raised:
        await statement.bind_rows([[1_700_000_000_001, 2]])
    assert raised.value.may_have_run is False
    assert statement.bound == 0
    await statement.aclose()
    assert await conn.fetch("select v from t") == []


async def test_an_insert_with_parameters_after_a_loss(through, turns):
    """Those kept prepared by the connection itself."""
    conn, proxy = through
    for number in range(3):
        sql = "insert into t values (?, ?)"
        assert await conn.execute(sql, 1_700_000_000_000 + number, number) == 1
        assert await conn.fetchval("select count(*) from t where v >= ?", 0) == number + 1
        proxy.cut(once=True)
        await turns(lambda: lost(conn))


# Keep-alive.


async def test_keep_alive(server, connect):
    """The way to the server is dead; it is noticed while a call waits."""
    server.integers(READS[0], [1])
    server.affect(WRITES[0], 1)
    async with Proxy(server.port) as proxy:
        conn = await connect(host="127.0.0.1", port=proxy.port, keep_alive=0.05)
        proxy.swallow()
        reading = asyncio.ensure_future(conn.fetch(READS[0], timeout=10))
        writing = asyncio.ensure_future(conn.execute(WRITES[0], timeout=10))
        with pytest.raises(ConnectionLost, match="no sign of the server") as raised:
            await writing
        assert raised.value.may_have_run
        await proxy.heal()
        assert await reading == [(1,)]
        await conn.close()


async def test_keep_alive_of_an_idle_connection(server, connect, turns):
    """It is lost by the time it is used; the call does not wait for an answer in vain."""
    async with Proxy(server.port) as proxy:
        conn = await connect(host="127.0.0.1", port=proxy.port, keep_alive=0.03)
        proxy.swallow()
        await asyncio.sleep(0.09)
        await turns(lambda: lost(conn))
        assert lost(conn)
        await proxy.heal()
        server.affect(WRITES[0], 1)
        assert await conn.execute(WRITES[0]) == 1
        await conn.close()


async def test_keep_alive_leaves_who_answers(server, connect):
    """A statement that runs for long is no silence."""
    server.integers(READS[0], [1])
    conn = await connect(keep_alive=0.1)
    gate = server.hold("query", READS[0])
    task = asyncio.ensure_future(conn.fetch(READS[0]))
    await asyncio.wait([task], timeout=0.45)
    assert not task.done()
    gate.open()
    assert await task == [(1,)]
    assert len(server.sessions) == 1


async def test_keep_alive_is_off(server, connect):
    async with Proxy(server.port) as proxy:
        conn = await connect(host="127.0.0.1", port=proxy.port, keep_alive=math.inf)
        up = proxy.up
        proxy.stall()
        with pytest.raises(aiotaos.TimeoutError):
            await conn.fetchval("select 1", timeout=0.1)
        await proxy.heal()
        assert await conn.fetchval("select 1") == 1
        assert proxy.up > up
        assert len(server.sessions) == 1
        await conn.close()


# The end.


@pytest.mark.parametrize("action", ["version", "conn"])
@pytest.mark.parametrize("how", ["close", "terminate"])
async def test_closed_during_a_reconnect(server, connect, turns, how, action):
    conn = await connect()
    await cut_idle(server, conn, turns)
    gate = server.hold(action)
    tasks = [asyncio.ensure_future(conn.fetchval("select 1")) for _ in range(3)]
    await gate.reached.wait()
    if how == "close":
        await conn.close()
    else:
        conn.terminate()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(end) for end in ends} == {InterfaceError}
    assert conn.closed
    await server.until(lambda: server.session.ended)
    with pytest.raises(InterfaceError, match="closed"):
        await conn.fetchval("select 1")
    assert len(server.sessions) == 2


async def test_closed_during_a_pause(server, connect, turns):
    conn = await connect(
        retry_backoff_ms=60_000, retry_backoff_max_ms=60_000, connect_timeout=math.inf
    )
    await server.stop()
    await turns(lambda: lost(conn))
    tasks = [asyncio.ensure_future(conn.fetchval("select 1")) for _ in range(3)]
    for _ in range(20):
        await asyncio.sleep(0)
    await conn.close()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(end) for end in ends} == {InterfaceError}


async def test_closed_in_on_reconnect(server, connect, turns):
    """The reconnect is what close() waits for, and it waits for close(): no dead-lock."""

    async def give_up(conn):
        await conn.close()

    conn = await connect(on_reconnect=give_up)
    await cut_idle(server, conn, turns)
    async with asyncio.timeout(10):
        with pytest.raises(aiotaos.Error):
            await conn.fetchval("select 1")
    assert conn.closed


async def test_closed_when_it_is_lost(server, connect, turns):
    conn = await connect()
    await cut_idle(server, conn, turns)
    assert not conn.closed
    await conn.close()
    assert conn.closed
    assert len(server.sessions) == 1


async def test_an_unclosed_connection_that_is_lost_warns(server, connect, turns):
    conn = await aiotaos.connect(server.dsn, **QUICK)
    await cut_idle(server, conn, turns)
    box = [conn]
    del conn
    with pytest.warns(ResourceWarning, match="unclosed <Connection"):
        box.clear()
    await server.until(lambda: server.session.ended)


async def test_dropped_during_a_reconnect(server, turns):
    """Those who waited are gone, and so is the connection: no session is left behind."""
    conn = await aiotaos.connect(server.dsn, **QUICK)
    await cut_idle(server, conn, turns)
    gate = server.hold("conn")
    task = asyncio.ensure_future(conn.fetchval("select 1"))
    await gate.reached.wait()
    task.cancel()
    await asyncio.wait([task])
    box = [conn]
    del conn, task

    def drop():
        box.clear()
        gc.collect()

    with pytest.warns(ResourceWarning, match="unclosed <Connection"):
        drop()
    gate.open()
    await server.until(lambda: server.session.ended)

"""What holds whatever comes between: repetitions, late answers, odd callbacks, other processes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import traceback
import warnings

import pytest

import aiotaos
from aiotaos import ConnectionLost, Field, InterfaceError, ProgrammingError, TypeCode
from aiotaos.embedded import Server
from aiotaos.options import Address
from aiotaos.transport import servers as places
from aiotaos.transport.servers import Place, Servers
from tests.transport.test_statements import Adapter, serving
from tests.trouble import Proxy, Speaker, http_answer

QUICK = {"conn_retries": 3, "retry_backoff_ms": 1, "retry_backoff_max_ms": 4}
T = 1_700_000_000_000
READ = "select v from t"
WRITE = "insert into t values (1, 2)"
LONG = "select long"
LISTED = "select query_id, kill_id from performance_schema.perf_queries"
INSERT = "insert into ? using s tags(?) values(?,?,?)"
ROW = ("d1", "x", T, 1, "a")
SYNTAX = 0x2600
LIMITED = 0xFFFE  # told before anything has been done
PASSING = [0x0020, 0x0125, 0x0531]
has_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


async def turns(condition):
    """Let the loop turn until something is so on this side."""
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not come to be so")


def lost(conn):
    return " lost" in repr(conn)


def dsn_of(server, database=""):
    return f"ws://root:taosdata@127.0.0.1:{server.port}/{database}"


@pytest.fixture
async def connect(server):
    """Open connections that repeat quickly."""
    server.may_leave = True  # what is cut off is left
    opened = []

    async def open_one(database="", **options):
        opened.append(await aiotaos.connect(dsn_of(server, database), **QUICK | options))
        return opened[-1]

    yield open_one
    for conn in opened:
        conn.terminate()


async def cut_at(server, gate):
    """Abort the session that has a request held at the gate; the next such request passes."""
    await gate.reached.wait()
    server.gates.remove(gate)
    server.session.abort()


async def cut_idle(server, conn):
    server.session.abort()
    await turns(lambda: lost(conn))


def asked(server, sql):
    """How often a statement came, in all sessions."""
    return sum(
        request.sql == sql for session in server.sessions for request in session.seen("query")
    )


def replying(server, reply):
    """Have ``reply(sql)`` answer first; what it gives None for is answered as ever."""
    ordinary = server.answer
    server.answer = lambda sql: reply(sql) or ordinary(sql)


def zones(server):
    """Have a server take time zones; gives what it was told."""
    told = []

    async def answer(session, request):
        (option,) = request.args["options"]
        told.append(option["value"])
        return [session._text(request)]

    server.handlers["options_connection"] = answer
    return told


def refuse_statements(server):
    async def answer(session, request):
        return [session._text(request, SYNTAX, "syntax error")]

    server.handlers["stmt2_init"] = answer


async def ends_of(*awaitables):
    """What each of them ends with, in time."""
    async with asyncio.timeout(10):
        return await asyncio.gather(*awaitables, return_exceptions=True)


# A statement ends in the database and time zone that it began in.


@pytest.fixture
async def through(clean):
    """A connection to an embedded server with two databases, in ``a``, and the proxy between."""
    async with (
        Server() as server,
        Proxy(server.port) as proxy,
        aiotaos.connect(f"ws://root:taosdata@127.0.0.1:{proxy.port}", **QUICK) as conn,
    ):
        for number, name in enumerate(("b", "a")):
            await conn.execute(f"create database {name}")
            await conn.execute(f"use {name}")
            await conn.execute("create table t (ts timestamp, v int)")
            await conn.execute(f"insert into t values ({T}, {number})")
        yield conn, proxy


async def to_other_database(conn):
    await conn.execute("use b")


async def to_selected_database(conn):
    await conn.select_db("b")


async def to_other_zone(conn):
    await conn.set_timezone("Asia/Tokyo")


CHANGES = pytest.mark.parametrize(
    "change", [to_other_database, to_selected_database, to_other_zone]
)


async def cut(conn, proxy):
    proxy.cut(once=True)
    await turns(lambda: lost(conn))


async def written(conn):
    return [await conn.fetchval(f"select count(*) from {name}.t") for name in "ab"]


@CHANGES
async def test_a_prepared_insert_writes_where_it_was_prepared(through, change):
    conn, proxy = through
    statement = await conn.prepare("insert into t values (?, ?)")
    assert await statement.execute(T + 1, 5) == 1
    await change(conn)
    await cut(conn, proxy)
    with pytest.raises(ConnectionLost, match="prepare it anew") as raised:
        await statement.execute(T + 2, 6)
    assert raised.value.may_have_run is False
    assert await written(conn) == [2, 1]
    await conn.execute("use a")
    await conn.set_timezone(None)
    assert await statement.execute(T + 2, 6) == 1  # there it may be prepared again
    assert await written(conn) == [3, 1]
    await statement.aclose()


@CHANGES
async def test_a_prepared_query_reads_where_it_was_prepared(through, change):
    conn, proxy = through
    statement = await conn.prepare("select v from t where v < ?")
    assert await statement.fetch(10) == [(1,)]
    await change(conn)
    await cut(conn, proxy)
    with pytest.raises(ConnectionLost, match="prepare it anew"):
        await statement.fetch(10)
    await conn.execute("use a")
    await conn.set_timezone(None)
    assert await statement.fetch(10) == [(1,)]
    await statement.aclose()


@CHANGES
async def test_a_query_is_not_repeated_elsewhere(server, connect, change):
    """The line breaks before its first rows have come."""
    zones(server)
    server.integers(READ, [1])
    conn = await connect("a")
    server.hold("fetch", READ)
    result = await conn.query(READ)
    await change(conn)
    server.gates.clear()
    await cut_idle(server, conn)
    with pytest.raises(ConnectionLost):
        await result.fetchall()
    assert asked(server, READ) == 1


@CHANGES
async def test_a_read_that_waits_is_not_repeated_elsewhere(server, connect, change):
    zones(server)
    server.integers(READ, [1])
    conn = await connect("a")
    gate = server.hold("query", READ)
    task = asyncio.ensure_future(conn.fetch(READ))
    await gate.reached.wait()
    await change(conn)
    await cut_at(server, gate)
    with pytest.raises(ConnectionLost):
        await task
    assert asked(server, READ) == 1


async def test_a_query_is_repeated_where_it_began(server, connect):
    """The database was another one meanwhile."""
    server.integers(READ, [1])
    conn = await connect("a")
    server.hold("fetch", READ)
    result = await conn.query(READ)
    await conn.execute("use b")
    await conn.execute("use a")
    server.gates.clear()
    await cut_idle(server, conn)
    assert await result.fetchall() == [(1,)]
    assert (asked(server, READ), server.session.database) == (2, "a")


async def test_a_write_is_not_repeated_elsewhere(server, connect):
    server.refuse(WRITE, LIMITED, "too many requests")
    conn = await connect("a", retry_backoff_ms=40, retry_backoff_max_ms=40)
    task = asyncio.ensure_future(conn.execute(WRITE))
    await server.until(lambda: asked(server, WRITE))
    await conn.execute("use b")
    with pytest.raises(aiotaos.Error, match="too many requests"):
        await task
    assert asked(server, WRITE) == 1


# The time zone.


async def test_a_call_beside_a_change_of_the_time_zone(server, connect):
    told = zones(server)
    conn = await connect(timezone="UTC")
    gate = server.hold("options_connection")
    changing = asyncio.ensure_future(conn.set_timezone("Asia/Shanghai"))
    await gate.reached.wait()
    beside = [asyncio.ensure_future(conn.fetchval("select 1")) for _ in range(3)]
    await server.until(lambda: gate.arrived > 1 or asked(server, "select 1") == 3)
    gate.open()
    assert await ends_of(changing, *beside) == [None, 1, 1, 1]
    assert await conn.fetchval("select 1") == 1
    assert told[-1] == conn.timezone == "Asia/Shanghai"


async def test_changes_of_the_time_zone_at_once(server, connect):
    """The server gets each when it has answered the one before."""
    told = zones(server)
    conn = await connect(timezone="UTC")
    gate = server.hold("options_connection")
    names = ["Asia/Shanghai", "Europe/Berlin", "Asia/Tokyo"]
    tasks = [asyncio.ensure_future(conn.set_timezone(name)) for name in names]
    await gate.reached.wait()
    assert await conn.fetchval("select 1", timeout=5) == 1
    assert gate.arrived == 1
    gate.open()
    assert await ends_of(*tasks) == [None] * 3
    assert told[-1] == conn.timezone


async def test_a_change_of_the_time_zone_that_was_given_up(server, connect):
    told = zones(server)
    conn = await connect(timezone="UTC")
    gate = server.hold("options_connection")
    task = asyncio.ensure_future(conn.set_timezone("Asia/Shanghai"))
    await gate.reached.wait()
    task.cancel()
    await asyncio.wait([task])
    gate.open()
    await server.until(lambda: told)
    assert await conn.fetchval("select 1") == 1
    assert told[-1] == conn.timezone == "UTC"


# A USE that lands late.


async def use_that_times_out(conn, gate):
    with pytest.raises(aiotaos.TimeoutError):
        await conn.execute("use b", timeout=0.05)


async def use_that_times_out_before_an_insert(conn, gate):
    await use_that_times_out(conn, gate)
    with pytest.raises(ProgrammingError):
        await conn.execute(INSERT, *ROW)


async def use_that_is_cancelled_after_an_insert(conn, gate):
    task = asyncio.ensure_future(conn.execute("use b"))
    await gate.reached.wait()
    with pytest.raises(ProgrammingError):
        await conn.execute(INSERT, *ROW)
    task.cancel()
    await asyncio.wait([task])


async def use_twice(conn, gate):
    """The first is given up, the second is answered."""
    await use_that_times_out(conn, gate)
    await conn.execute("use a")


@pytest.mark.parametrize(
    "use",
    [
        use_that_times_out,
        use_that_times_out_before_an_insert,
        use_that_is_cancelled_after_an_insert,
        use_twice,
    ],
)
async def test_a_lent_session_has_the_database_that_it_says(server, use):
    refuse_statements(server)
    async with aiotaos.create_pool(dsn_of(server, "a"), max_size=1) as pool:
        async with pool.acquire() as conn:
            gate = server.hold("query", "use b")
            await use(conn, gate)
        first = server.session
        gate.open()
        await server.until(lambda: first.ended or first.database == "b")
        async with pool.acquire() as conn:
            assert await conn.fetchval("select 1") == 1
            assert conn.database == server.session.database == "a"
            assert server.session is not first


async def test_a_use_that_is_still_waited_for_when_the_lease_ends(server):
    refuse_statements(server)
    async with aiotaos.create_pool(dsn_of(server, "a"), max_size=1) as pool:
        async with pool.acquire() as conn:
            gate = server.hold("query", "use b")
            task = asyncio.ensure_future(conn.execute("use b"))
            await gate.reached.wait()
            with pytest.raises(ProgrammingError):
                await conn.execute(INSERT, *ROW)
        first = server.session
        async with pool.acquire() as conn:
            gate.open()
            await server.until(lambda: first.ended or first.database == "b")
            assert server.session.database == "a"
            assert conn.database == "a"
        await ends_of(task)


# KILL.


@pytest.fixture
def kills(server, server_parts, monkeypatch):
    """What is listed as running, and a list of the statements that were killed."""
    monkeypatch.setattr("aiotaos.kill._INTERVAL", 0.01)

    class Kills:
        def __init__(self):
            self.looks = 0
            self.killed = []
            self.refused = set()
            self.listed = lambda ids, look: [(id, f"k{id}") for id in ids]

        def answer(self, sql):
            if "perf_queries" in sql:
                self.looks += 1
                ids = [int(id) for id in sql.split("(")[1].rstrip(")").split(",")]
                fields = [
                    Field("query_id", TypeCode.BIGINT, 8),
                    Field("kill_id", TypeCode.VARCHAR, 26),
                ]
                columns = [
                    list(column) for column in zip(*self.listed(ids, self.looks), strict=True)
                ]
                server.rows("listed", fields, columns or [[], []])
                return server.answer("listed")
            if sql.startswith("kill"):
                kill_id = sql.split("'")[1]
                self.killed.append(kill_id)
                server.changed()
                if kill_id in self.refused:
                    return server_parts.answer(code=0x0360, message="Invalid connection id")
                return server_parts.answer(affected=0)
            return None

    kills = Kills()
    replying(server, kills.answer)
    server.integers(LONG, [1])
    return kills


async def test_kill_needs_an_id_of_its_own(server, connect, kills):
    """While two queries have the id, none of them is stopped."""
    looks = []
    conn = await connect(cancel="kill")
    gate = server.hold("query", LONG)

    def listed(ids, look):
        looks.append(list(kills.killed))
        return [(7, "mine"), (7, "other")][: 1 if look > 3 else 2]

    kills.listed = listed
    with pytest.raises(aiotaos.TimeoutError):
        await conn.fetch(LONG, req_id=7, timeout=0.02)
    await server.until(lambda: kills.killed)
    assert looks == [[], [], [], []]
    assert kills.killed == ["mine"]
    gate.open()


async def test_a_retry_under_the_same_id_is_not_killed(server, connect, kills):
    conn = await connect(cancel="kill")
    session = server.session
    first = server.hold("query", LONG)
    looking = server.hold("query", f"{LISTED} where query_id in (7)")
    with pytest.raises(aiotaos.TimeoutError):
        await conn.fetch(LONG, req_id=7, timeout=0.02)
    await looking.reached.wait()
    first.open()
    await server.until(lambda: LONG in session.freed)
    second = server.hold("query", LONG)
    retry = asyncio.ensure_future(conn.fetch(LONG, req_id=7))
    await second.reached.wait()
    looking.open()
    await server.until(lambda: server.sessions[1].ended)
    second.open()
    assert await retry == [(1,)]
    assert (kills.looks, kills.killed) == (1, [])


async def test_a_pool_stops_all_through_one_session(server, kills):
    server.may_leave = True
    gate = server.hold("query", LONG)
    number = 6
    dsn = dsn_of(server) + "?cancel=kill"
    async with aiotaos.create_pool(dsn, max_size=number) as pool:
        calls = [pool.fetch(LONG, req_id=id, timeout=0.1) for id in range(1, number + 1)]
        ends = await ends_of(*calls)
        assert {type(end) for end in ends} == {aiotaos.TimeoutError}
        await server.until(lambda: len(kills.killed) == number)
        assert sorted(kills.killed) == [f"k{id}" for id in range(1, number + 1)]
        assert len(server.sessions) <= number + 1
        gate.open()
        await server.until(lambda: len(server.session.left) == 0)


async def test_a_kill_that_is_refused_is_the_only_one(server, connect, kills):
    kills.refused = {"k1"}
    conn = await connect(cancel="kill")
    gate = server.hold("query", LONG)
    await ends_of(*(conn.fetch(LONG, req_id=id, timeout=0.02) for id in (1, 2, 3)))
    await server.until(lambda: len(server.sessions) == 2 and server.session.ended)
    assert sorted(kills.killed) == ["k1", "k2", "k3"]
    gate.open()


# Forks.

FORKED_IDS = """
import os
from aiotaos.transport.base import next_req_id

next_req_id()
for _ in range(2):
    pid = os.fork()
    if not pid:
        print(next_req_id(), flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
print(next_req_id())
"""

FORKED_LOADS = """
import os
from aiotaos.options import Address
from aiotaos.transport.servers import Place, Servers, failed

a, b, c = (Address(name, 6041) for name in "abc")
kept = [Place(a) for _ in range(4)]
failed(b)
pid = os.fork()
if not pid:
    servers = Servers([a, b, c])
    print("child", servers.lighter_than(a), flush=True)
    kept.clear()  # they are the parent's
    own = [Place(c) for _ in range(2)]
    print("own", servers.lighter_than(c) is not None, servers.lighter_than(a), flush=True)
    os._exit(0)
os.waitpid(pid, 0)
print("parent", Servers([a, b, c]).lighter_than(a) == c)
"""


async def output_of(script):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", script, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    output, complaints = await process.communicate()
    assert complaints.decode() == ""
    return output.decode().splitlines()


@has_fork
async def test_forks_make_request_ids_of_their_own():
    ids = await output_of(FORKED_IDS)
    assert len({*ids}) == 3
    assert all(0 < int(id) < 2**63 for id in ids)
    assert len({int(id) >> 32 for id in ids}) == 3  # nor do they come to be the same later on


@has_fork
async def test_forks_count_sessions_of_their_own():
    lines = await output_of(FORKED_LOADS)
    assert lines == ["child None", "own True None", "parent True"]


# What a call says of the attempts before its last.


async def gone(server, gate):
    server.gates.remove(gate)
    await server.stop()


async def hanging(server, gate):
    server.hold("conn")
    await cut_at(server, gate)


async def refused_login(server, gate):
    server.logins = [(0x0357, "Authentication failure")]
    await cut_at(server, gate)


async def refused_statement(server, gate):
    server.refuse(WRITE, SYNTAX, "syntax error")
    await cut_at(server, gate)


@pytest.mark.parametrize(
    ("then", "kind"),
    [
        (gone, aiotaos.ConnectionError),
        (hanging, aiotaos.TimeoutError),
        (refused_login, aiotaos.AuthenticationError),
        (refused_statement, ProgrammingError),
    ],
)
async def test_what_may_have_run_still_may_have(server, connect, then, kind):
    server.affect(WRITE, 1)
    conn = await connect(retry_writes=True)
    gate = server.hold("query", WRITE)
    task = asyncio.ensure_future(conn.execute(WRITE, timeout=0.3))
    await gate.reached.wait()
    await then(server, gate)
    with pytest.raises(kind) as raised:
        await task
    assert raised.value.may_have_run is True
    assert "may have run" in str(raised.value)
    for gate in server.gates:
        gate.open()


# Prepared INSERTs that the connection keeps.


class Databases(Adapter):
    """Knows in which database each statement was prepared, and where rows were written.

    Attributes:
        database: The present one.
        written_in: The databases that rows were written to.
        once: Actions that are refused the next time they come, with the code.
    """

    def __init__(self):
        super().__init__()
        self.database = "b"
        self.prepared_in = {}
        self.written_in = []
        self.once = {}

    def read(self, message):
        found = super().read(message)
        action, _, _, args = found
        if action == "query" and (sql := args[6:].decode()).startswith("use "):
            self.database = sql.removeprefix("use ")
        return found

    def reply(self, action, id):
        if action in self.once:
            return {"code": self.once.pop(action), "message": "not now"}
        if action == "get_current_db":
            return {"code": 0, "message": "", "db": self.database}
        if action == "stmt2_prepare":
            self.prepared_in[id] = self.database
        if action == "stmt2_exec":
            self.written_in.append(self.prepared_in[id])
        return super().reply(action, id)


@pytest.fixture
async def adapter(clean):
    async with serving(Databases()) as adapter:
        yield adapter


def use_execute(conn):
    return conn.execute(INSERT, *ROW)


def use_executemany(conn):
    return conn.executemany(INSERT, [ROW])


WAYS = pytest.mark.parametrize("way", [use_execute, use_executemany])


@WAYS
@pytest.mark.parametrize("code", PASSING)
@pytest.mark.parametrize("step", ["stmt2_bind", "stmt2_exec"])
async def test_a_kept_statement_is_executed_once(adapter, way, code, step):
    """The server may have written the rows before it said that it could not."""
    async with aiotaos.connect(dsn_of(adapter, "b"), **QUICK) as conn:
        assert await way(conn) == 2
        before = adapter.steps.count(step)
        adapter.once[step] = code
        with pytest.raises(aiotaos.Error, match="not now") as raised:
            await way(conn)
        assert raised.value.code == code
        assert adapter.steps.count(step) == before + 1
        assert await way(conn) == 2


@WAYS
async def test_a_kept_statement_is_executed_again_if_the_user_says_so(adapter, way):
    async with aiotaos.connect(dsn_of(adapter, "b"), retry_writes=True, **QUICK) as conn:
        assert await way(conn) == 2
        adapter.once["stmt2_exec"] = 0x0020
        assert await way(conn) == 2
        assert adapter.steps.count("stmt2_exec") == 3


@WAYS
async def test_no_statement_is_kept_across_a_use(adapter, way):
    """It was prepared in the database of another task's USE, and ended after a third."""
    async with aiotaos.connect(dsn_of(adapter, "b"), **QUICK) as conn:
        init, execution = adapter.hold("stmt2_init"), adapter.hold("stmt2_exec")
        first = asyncio.ensure_future(way(conn))
        await init.reached.wait()
        await conn.execute("use a")
        init.opened.set()
        await execution.reached.wait()
        await conn.execute("use b")
        execution.opened.set()
        await first
        assert conn.database == adapter.database == "b"
        assert await way(conn) == 2
        assert adapter.written_in[-1] == "b"
        assert await way(conn) == 2  # that one is kept
        assert adapter.steps.count("stmt2_init") == 2
        await adapter.until(lambda: len(adapter.open) == 1)


async def test_a_kept_statement_does_not_outlive_its_database(adapter):
    async with aiotaos.connect(dsn_of(adapter, "b"), **QUICK) as conn:
        for name in ("a", "b", "a"):
            await conn.execute(f"use {name}")
            assert await use_execute(conn) == 2
            assert adapter.written_in[-1] == name


# The end of a lease.


@pytest.mark.parametrize("sql", [WRITE, READ])
async def test_a_call_ends_with_its_lease(server, sql):
    """It pauses before it is repeated when the connection is given back."""
    server.refuse(sql, LIMITED, "too many requests")
    options = {"conn_retries": 3, "retry_backoff_ms": 30, "retry_backoff_max_ms": 30}
    async with aiotaos.create_pool(dsn_of(server, "a"), max_size=1, **options) as pool:
        async with pool.acquire() as conn:
            task = asyncio.ensure_future(conn.execute(sql))
            await server.until(lambda: asked(server, sql))
        async with pool.acquire() as other:
            await other.execute("use b")
            (end,) = await ends_of(task)
            assert isinstance(end, InterfaceError)
            assert "released" in str(end)
            assert asked(server, sql) == 1
            assert other.database == server.session.database == "b"


# A server that lets in and closes at once.


async def by_abort(session, request):
    await session.send(session._login(request))
    session.abort()
    return []


async def by_closing(session, request):
    await session.send(session._login(request))
    await session.websocket.close()
    return []


@pytest.mark.parametrize("retries", [0, 3])
@pytest.mark.parametrize("way", [by_abort, by_closing])
@pytest.mark.parametrize("sql", [READ, WRITE])
async def test_few_logins_where_no_session_stands(server, connect, sql, way, retries):
    server.integers(READ, [1])
    server.affect(WRITE, 1)
    conn = await connect(conn_retries=retries)
    server.handlers["conn"] = way
    await cut_idle(server, conn)
    server.logged_in.clear()
    with pytest.raises(aiotaos.ConnectionError):
        await conn.execute(sql, timeout=1)
    assert 1 <= len(server.logged_in) <= retries + 2
    del server.handlers["conn"]
    assert await conn.fetchval("select 1") == 1


async def test_few_logins_where_on_reconnect_is_cancelled(server, connect):
    async def give_up(conn):
        raise asyncio.CancelledError

    server.may_leave = True
    async with aiotaos.connect(dsn_of(server), on_reconnect=give_up, **QUICK) as conn:
        await cut_idle(server, conn)
        server.logged_in.clear()
        with pytest.raises(aiotaos.Error):
            await conn.fetchval("select 1", timeout=1)
        assert 1 <= len(server.logged_in) <= QUICK["conn_retries"] + 2


# Callbacks of a pool.


@pytest.mark.parametrize("name", ["configure", "reset"])
async def test_a_pool_is_not_closed_by_its_own_callback(server, name):
    told = []

    async def close(conn):
        try:
            async with asyncio.timeout(1):
                await pool.close()
        except BaseException as error:
            told.append(error)
            raise

    pool = aiotaos.create_pool(dsn_of(server), acquire_timeout=2, **{name: close})
    async with pool:
        if name == "configure":
            with pytest.raises(InterfaceError, match="by its own configure or reset"):
                await pool.fetchval("select 1")
        else:
            assert await pool.fetchval("select 1") == 1
            await turns(lambda: told and pool.get_stats().size == 0)
        assert [type(error) for error in told] == [InterfaceError]
        assert not pool.closed


class Odd(BaseException):
    pass


@pytest.mark.parametrize("kind", [asyncio.CancelledError, Odd, SystemError])
async def test_who_waits_is_told_what_configure_raised(server, kind):
    failing = True

    async def configure(conn):
        if failing:
            raise kind("no luck")

    dsn = dsn_of(server)
    async with aiotaos.create_pool(dsn, max_size=1, configure=configure, acquire_timeout=2) as pool:
        ends = await ends_of(*(pool.fetchval("select 1") for _ in range(3)))
        wanted = SystemError if kind is SystemError else InterfaceError
        assert {type(end) for end in ends} == {wanted}
        failing = False
        assert await pool.fetchval("select 1") == 1
        assert (pool.get_stats().size, pool.get_stats().waiting) == (1, 0)


# Keep-alive.


async def test_a_slow_upload_is_no_silence(server, connect):
    """The way up takes 2 MB a second; for longer than silence would be borne."""
    size, piece, pause = 1_600_000, 20_000, 0.01
    small = socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384

    async def pump(reader, writer, pause):
        with contextlib.suppress(OSError):
            while data := await reader.read(piece):
                writer.write(data)
                await writer.drain()
                await asyncio.sleep(pause)
        writer.close()

    async def relay(reader, writer):
        up, out = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.gather(pump(reader, out, pause), pump(up, writer, 0))

    with socket.socket() as listener:
        listener.setsockopt(*small)
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        big = f"insert into t values ('{'x' * size}')"
        server.affect(big, 1)
        async with await asyncio.start_server(relay, sock=listener, limit=piece):
            conn = await connect(host="127.0.0.1", port=port, keep_alive=0.15)
            conn._session.transport.link._transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384
            )
            loop = asyncio.get_running_loop()
            start = loop.time()
            assert await conn.execute(big, timeout=10) == 1
            assert loop.time() - start > 0.45  # or it has shown nothing
            assert len(server.sessions) == 1
            await conn.close()


# How many sessions a server has.


async def test_the_sessions_of_a_loop_that_is_gone_do_not_count(start_server):
    first, second = await start_server(), await start_server()
    first.may_leave = True

    def leave():
        loop = asyncio.new_event_loop()

        async def open_some():
            return [await aiotaos.connect(dsn_of(first)) for _ in range(4)]

        opened = loop.run_until_complete(open_some())
        busy = Servers([address, other]).lighter_than(address)
        loop.close()
        del opened
        return busy

    address, other = (Address("127.0.0.1", server.port) for server in (first, second))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        assert await asyncio.to_thread(leave) == other
        gc.collect()
    assert Servers([address, other]).lighter_than(address) is None


def test_threads_count_sessions_together(monkeypatch):
    address = Address("threads", 1)
    before = sys.getswitchinterval()

    def come_and_go():
        for _ in range(8_000):
            Place(address).leave()

    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=come_and_go) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert places._loads[address] == 0


# What nobody has any more.


@pytest.mark.parametrize("way", ["the result itself", "something that has it"])
async def test_a_result_in_a_cycle_gives_its_connection_back(server, way):
    server.integers(READ, [1, 2, 3], [4])
    async with aiotaos.create_pool(dsn_of(server), max_size=1) as pool:
        for _ in range(3):
            result = await pool.query(READ)
            cycle = [result]
            cycle.append(cycle)
            if way == "the result itself":
                result.__dict__["me"] = cycle
            del result, cycle
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                gc.collect()
            assert [str(warning.message) for warning in told] == []
            await turns(lambda: pool.get_stats().idle == 1)
            assert await pool.fetchval("select 1", timeout=5) == 1
        assert pool.get_stats().opened == 1
        await server.until(lambda: server.session.freed == [READ] * 3)


async def test_a_leaked_connection_frees_its_place_where_warnings_are_errors(server, monkeypatch):
    raised = []
    monkeypatch.setattr(sys, "unraisablehook", lambda event: raised.append(event.exc_type))
    async with aiotaos.create_pool(dsn_of(server), max_size=1) as pool:
        conn = await pool.acquire()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            del conn
            gc.collect()
        assert raised == [ResourceWarning]
        await turns(lambda: pool.get_stats().size == 0)
        assert await pool.fetchval("select 1", timeout=5) == 1


# Those who wait for one reconnect.


async def test_everyone_has_an_exception_of_their_own(server, connect):
    conn = await connect(conn_retries=0)
    await server.stop()
    await turns(lambda: lost(conn))
    ends = await ends_of(*(conn.fetchval("select 1") for _ in range(20)))
    assert {type(end) for end in ends} == {aiotaos.ConnectionError}
    assert len({id(end) for end in ends}) == 20
    assert len({str(end) for end in ends}) == 1
    assert all(end.__cause__ is not None for end in ends)
    assert len({len(traceback.extract_tb(end.__traceback__)) for end in ends}) == 1
    ends[0].add_note("mine")
    ends[0].may_have_run = True
    assert not any(hasattr(end, "__notes__") for end in ends[1:])
    assert {end.may_have_run for end in ends[1:]} == {False}


async def test_what_a_write_says_is_not_said_of_a_read_beside_it(server, connect):
    """Both wait for the same reconnect, and only one of them may have run."""
    server.affect(WRITE, 1)
    server.integers(READ, [1])
    conn = await connect(retry_writes=True, conn_retries=1)
    gate = server.hold("query", WRITE)
    writing = asyncio.ensure_future(conn.execute(WRITE))
    await gate.reached.wait()
    await gone(server, gate)
    beside = await ends_of(conn.execute("insert into u values (1, 2)"), writing)
    assert [error.may_have_run for error in beside] == [False, True]


# Secrets.

TOKEN = "s3cr&t/t0ken+x="
QUOTED = "s3cr%26t/t0ken%2Bx%3D"
PIECES = re.compile(r"s3cr|t0ken")


def all_of(error):
    return "".join(traceback.format_exception(error)) + repr(error) + repr(error.__dict__)


@pytest.mark.parametrize("shown", [TOKEN, QUOTED])
@pytest.mark.parametrize("status", [400, 401, 404, 503])
async def test_the_token_is_not_shown_when_the_server_sends_it_back(clean, caplog, shown, status):
    caplog.set_level(logging.DEBUG)
    body = f"The requested URL /ws?token={shown} was not found"
    async with Speaker(http_answer(status, body, location=f"/ws?token={shown}")) as speaker:
        options = {"token": TOKEN, "conn_retries": 1, "retry_backoff_ms": 1}
        with pytest.raises(aiotaos.ConnectionError, match=r"/ws\?token=\*\*\* was not") as raised:
            await aiotaos.connect(dsn_of(speaker), **options)
        assert f"token={QUOTED} ".encode() in speaker.requests[0]
        with pytest.raises(aiotaos.Error) as of_pool:
            async with aiotaos.create_pool(dsn_of(speaker), min_size=1, **options):
                pass
    assert not PIECES.search(all_of(raised.value))
    assert not PIECES.search(all_of(of_pool.value))
    assert not PIECES.search(caplog.text)


async def test_the_token_is_not_cut_in_two(clean):
    """Of a long text only the beginning is told; a token at that place is not told in part."""
    body = "x" * 193 + TOKEN
    async with Speaker(http_answer(404, body)) as speaker:
        with pytest.raises(aiotaos.ConnectionError) as raised:
            await aiotaos.connect(dsn_of(speaker), token=TOKEN, conn_retries=0)
    assert "xxx***" in str(raised.value)
    assert not PIECES.search(all_of(raised.value))


async def test_the_token_is_not_shown_by_a_connection(server, caplog):
    caplog.set_level(logging.DEBUG)
    server.may_leave = True
    async with aiotaos.connect(dsn_of(server), token=TOKEN, **QUICK) as conn:
        assert server.paths == [f"/ws?token={QUOTED}"]
        await cut_idle(server, conn)
        assert await conn.fetchval("select 1") == 1
        await server.stop()
        await turns(lambda: lost(conn))
        with pytest.raises(aiotaos.ConnectionError) as raised:
            await conn.fetchval("select 1")
        assert not PIECES.search(all_of(raised.value) + repr(conn))
    assert "reconnected" in caplog.text
    assert not PIECES.search(caplog.text)

"""Connections: how they are opened, used by many, and closed."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import threading
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

import aiotaos
from aiotaos import Field, InterfaceError, ProgrammingError, TypeCode, dict_row

TS = Field("ts", TypeCode.TIMESTAMP, 8)


# Opening and closing.


async def test_ways_to_open(server):
    async with aiotaos.connect(server.dsn) as first:
        assert await first.fetchval("select 1") == 1
    assert first.closed
    second = await aiotaos.connect(server.dsn)
    async with second as same:
        assert same is second
        assert await second.fetchval("select 1") == 1
    assert second.closed
    third = await aiotaos.connect(server.dsn)
    assert not third.closed
    await third.close()
    await third.close()
    assert third.closed
    assert all(session.websocket.protocol.close_code == 1000 for session in server.sessions)


async def test_the_environment(server, monkeypatch):
    monkeypatch.setenv("AIOTAOS_DSN", server.dsn + "&user_app=env")
    async with aiotaos.connect() as conn:
        assert await conn.fetchval("select 1") == 1
    assert server.logged_in[0]["app"] == "env"


def test_options_are_checked_at_once():
    with pytest.raises(InterfaceError, match="unknown option 'hots'"):
        aiotaos.connect(hots="localhost")


async def test_facts(server):
    async with aiotaos.connect(server.dsn, database="power") as conn:
        assert conn.endpoint == server.endpoint
        assert conn.server_version == "3.3.8.0"
        assert conn.client_info == f"aiotaos {aiotaos.__version__}"
        assert conn.database == "power"
        assert repr(conn) == f"<Connection {server.endpoint}/power open>"
    assert repr(conn) == f"<Connection {server.endpoint}/power closed>"


async def test_the_version_may_come_with_the_login_alone(server):
    async def answer(session, request):
        return [session._text(request, version="")]

    server.handlers = {"version": answer}
    async with aiotaos.connect(server.dsn) as conn:
        assert conn.server_version == "3.3.8.0"


async def test_after_close_nothing_works(server, conn):
    await conn.close()
    for call in (conn.execute, conn.query, conn.fetch, conn.fetchrow, conn.fetchval):
        with pytest.raises(InterfaceError, match=f"the connection to {server.endpoint} is closed"):
            await call("select 1")
    with pytest.raises(InterfaceError, match="is closed"):
        await conn.select_db("power")
    with pytest.raises(InterfaceError, match="is closed"):
        conn.cursor()


async def test_an_error_in_the_body_closes_it(server):
    with pytest.raises(ZeroDivisionError):
        async with aiotaos.connect(server.dsn) as conn:
            raise ZeroDivisionError
    assert conn.closed
    with pytest.raises(ZeroDivisionError):
        async with await aiotaos.connect(server.dsn) as conn:
            raise ZeroDivisionError
    assert conn.closed


async def test_a_bad_timeout_for_close(conn):
    with pytest.raises(InterfaceError, match="timeout: expected a positive number of seconds"):
        await conn.close(timeout=0)
    assert not conn.closed


async def test_an_unclosed_connection_warns(server):
    conn = await aiotaos.connect(server.dsn)
    box = [conn]
    del conn
    with pytest.warns(ResourceWarning, match=rf"unclosed <Connection {server.endpoint} open>"):
        box.clear()
    await server.until(lambda: server.session.ended)


async def test_an_unclosed_connection_of_a_loop_that_is_gone(server):
    """There is nothing left to close then; asyncio itself warns of open sockets."""

    async def leave():
        conn = await aiotaos.connect(server.dsn)
        conn._session.transport.terminate()
        await conn._session.transport.link._ended
        return conn

    box = [await asyncio.to_thread(asyncio.run, leave())]
    box.clear()
    gc.collect()


# Statements.


async def test_execute(server, any_conn):
    server.affect("insert", 12)
    server.affect("create", 0)
    server.integers("rows", [1])
    assert await any_conn.execute("insert") == 12
    assert await any_conn.execute("create") == 0
    assert await any_conn.execute("rows") == 0
    await server.until(lambda: server.session.freed == ["rows"])


async def test_fetch(server, any_conn):
    server.integers("rows", [1, 2], [None])
    server.affect("insert", 12)
    assert await any_conn.fetch("rows") == [(1,), (2,), (None,)]
    assert await any_conn.fetch("rows", row_factory=dict_row) == [{"v": 1}, {"v": 2}, {"v": None}]
    assert await any_conn.fetch("insert") == []


async def test_fetchrow(server, any_conn):
    server.integers("rows", [1, 2], [3])
    server.integers("nothing")
    server.affect("insert", 12)
    assert await any_conn.fetchrow("rows") == (1,)
    assert await any_conn.fetchrow("rows", row_factory=dict_row) == {"v": 1}
    assert await any_conn.fetchrow("nothing") is None
    assert await any_conn.fetchrow("insert") is None


async def test_fetchval(server, any_conn):
    fields = [Field("a", TypeCode.INT, 4), Field("b", TypeCode.VARCHAR, 4)]
    server.rows("rows", fields, [[1, 2], ["x", "y"]])
    server.rows("nothing", fields)
    server.affect("insert", 12)
    any_conn.row_factory = dict_row
    assert await any_conn.fetchval("rows") == 1
    assert await any_conn.fetchval("rows", column=1) == "x"
    assert await any_conn.fetchval("nothing") is None
    assert await any_conn.fetchval("insert", column=3) is None


@pytest.mark.parametrize("column", [2, 10**20])
async def test_a_column_that_does_not_exist(server, any_conn, column):
    fields = [Field("a", TypeCode.INT, 4), Field("b", TypeCode.VARCHAR, 4)]
    server.rows("rows", fields, [[1, 2], ["x", "y"]])
    with pytest.raises(InterfaceError, match=f"column: expected 0 to 1, got {column}"):
        await any_conn.fetchval("rows", column=column)
    await server.until(lambda: server.session.freed == ["rows"])


@pytest.mark.parametrize("column", ["a", None, 1.0, True, -1])
async def test_a_column_that_is_no_number(server, conn, column):
    with pytest.raises(InterfaceError, match="column: expected a whole number from 0"):
        await conn.fetchval("select 1", column=column)
    assert server.session.seen("query") == []


async def test_sql_is_sent_as_it_is(server, any_conn):
    sql = "  insert into `涛` values ('%s', \"{}\", '\\x00', '🚀\n\t', ?) ;; "
    server.affect(sql, 1)
    assert await any_conn.execute(sql) == 1
    assert server.session.seen("query")[-1].sql == sql


@pytest.mark.parametrize("call", ["execute", "query", "fetch", "fetchrow", "fetchval"])
async def test_bad_arguments_are_refused_at_once(server, conn, call):
    method = getattr(conn, call)
    for sql in (None, b"select 1", 1, ["select 1"]):
        with pytest.raises(
            InterfaceError, match=f"sql: expected a string, got {type(sql).__name__}"
        ):
            await method(sql)
    for req_id in (0, -1, 2**63, "1", 1.0, True):
        with pytest.raises(InterfaceError, match=r"req_id: expected an integer from 1 to 2\*\*63"):
            await method("select 1", req_id=req_id)
    for timeout in (0, -1, float("nan"), "never", False):
        with pytest.raises(InterfaceError, match="timeout: expected a positive number of seconds"):
            await method("select 1", timeout=timeout)
    assert len(server.session.requests) == 2  # version and conn


async def test_sql_that_is_no_text(server, any_conn):
    """More often than there are slots: none of them is lost."""
    for _ in range(600):
        with pytest.raises(InterfaceError, match="sql: it cannot be sent as UTF-8"):
            await any_conn.execute("select '\ud800'")
    assert len(server.session.requests) == 2


async def test_a_refusal_does_no_harm(server, any_conn):
    server.refuse("wrong", 0x2600, 'syntax error near "wrong"\n')
    for _ in range(3):
        with pytest.raises(ProgrammingError) as raised:
            await any_conn.fetch("wrong", req_id=31)
        assert str(raised.value) == (
            f'[0x2600] syntax error near "wrong" (at {server.endpoint}, req_id 31)'
        )
        assert await any_conn.fetchval("select 1") == 1


# The current database.


async def test_select_db(server, any_conn):
    assert any_conn.database is None
    await any_conn.select_db("Power")
    assert server.session.seen("query")[-1].sql == "use `Power`"
    assert any_conn.database == "power"  # the server's word
    assert repr(any_conn) == f"<Connection {server.endpoint}/power open>"


@pytest.mark.parametrize("name", ["", "a`b", None, 5])
async def test_a_bad_name_of_a_database(server, conn, name):
    with pytest.raises(InterfaceError, match="database: expected a name without back-ticks"):
        await conn.select_db(name)
    assert server.session.seen("query") == []


async def test_use_changes_the_database(server, any_conn):
    await any_conn.execute("  USE water")
    assert any_conn.database == "water"
    server.refuse("use nosuch", 0x0388, "Database not exist")
    with pytest.raises(ProgrammingError):
        await any_conn.execute("use nosuch")
    assert any_conn.database == "water"
    server.affect("user", 0)
    await any_conn.execute("user")
    async with any_conn.cursor() as cursor:
        await cursor.execute("use `gas`")
    assert any_conn.database == "gas"


async def test_a_lost_answer_to_the_question_for_the_database(server, conn):
    gate = server.hold("get_current_db")
    with pytest.raises(aiotaos.TimeoutError):
        await conn.execute("use water", timeout=0.05)
    gate.open()
    assert await conn.fetchval("select 1") == 1


async def test_an_unreadable_answer_to_the_question_for_the_database(server, conn):
    async def answer(session, request):
        return [session._text(request, db=5)]

    server.handlers = {"get_current_db": answer}
    with pytest.raises(aiotaos.ProtocolError, match="unreadable reply") as raised:
        await conn.execute("use water")
    assert raised.value.endpoint == server.endpoint


# Loops and threads.


async def test_one_loop_after_another(server):
    async def client(number):
        async with aiotaos.connect(server.dsn) as conn:
            assert await conn.fetchval("select 1") == 1
            return await asyncio.gather(*(conn.fetch("rows") for _ in range(number)))

    server.integers("rows", [1], [2])
    for number in (1, 5):
        rows = await asyncio.to_thread(lambda number=number: asyncio.run(client(number)))
        assert rows == [[(1,), (2,)]] * number


async def test_a_loop_in_each_thread(server):
    server.integers("rows", *([number] for number in range(20)))
    barrier = threading.Barrier(4)

    async def client():
        async with aiotaos.connect(server.dsn) as conn:
            barrier.wait(10)
            return [await conn.fetch("rows") for _ in range(5)]

    everything = await asyncio.gather(
        *(asyncio.to_thread(lambda: asyncio.run(client())) for _ in range(4))
    )
    assert everything == [[[(number,) for number in range(20)]] * 5] * 4
    assert len(server.sessions) == 4


async def test_a_connection_belongs_to_its_loop(server, conn):
    async def foreign(call, *arguments):
        with pytest.raises(InterfaceError, match="belongs to another event loop"):
            await call(*arguments)

    async def foreign_cursor():
        conn.cursor()

    for call in (conn.execute, conn.query, conn.fetch, conn.fetchrow, conn.fetchval):
        await asyncio.to_thread(asyncio.run, foreign(call, "select 1"))
    await asyncio.to_thread(asyncio.run, foreign(conn.close))
    await asyncio.to_thread(asyncio.run, foreign(foreign_cursor))
    assert await conn.fetchval("select 1") == 1
    assert len(server.session.seen("query")) == 1


async def test_task_groups_and_timeouts_of_asyncio(server, any_conn):
    """A sibling that fails, and a limit from outside: ordinary cancellation."""
    server.integers("slow", [1])
    gate = server.hold("query", "slow")

    async def fail():
        await gate.reached.wait()
        raise ZeroDivisionError

    async def fetch_and_fail():
        async with asyncio.TaskGroup() as group:
            group.create_task(any_conn.fetch("slow"))
            group.create_task(fail())

    with pytest.raises(BaseExceptionGroup) as raised:
        await fetch_and_fail()
    assert raised.group_contains(ZeroDivisionError)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await any_conn.fetch("slow")
    assert await any_conn.fetchval("select 1") == 1
    gate.open()
    await server.until(lambda: server.session.freed == ["slow"] * 2)


# Time.


def facts(moment):
    return moment.replace(tzinfo=None), moment.fold, moment.utcoffset(), str(moment.tzinfo)


CHANGES = {
    "America/New_York": [
        datetime(2024, 3, 10, 7, tzinfo=UTC),
        datetime(2024, 11, 3, 6, tzinfo=UTC),
    ],
    "Asia/Kolkata": [datetime(2024, 3, 10, 7, tzinfo=UTC), datetime(1945, 10, 14, 17, tzinfo=UTC)],
    "Australia/Lord_Howe": [
        datetime(2024, 4, 6, 15, tzinfo=UTC),
        datetime(2024, 10, 5, 15, 30, tzinfo=UTC),
    ],
}


@pytest.mark.parametrize("precision", [0, 1])
@pytest.mark.parametrize("zone", CHANGES)
async def test_time_zones(server, zone, precision):
    """Every ten minutes for four hours around each change, as ``zoneinfo`` has it."""
    moments = [
        change + timedelta(minutes=10 * step, milliseconds=step % 3)
        for change in CHANGES[zone]
        for step in range(-12, 13)
    ]
    unit = timedelta(milliseconds=1) if precision == 0 else timedelta(microseconds=1)
    ticks = [(moment - datetime(1970, 1, 1, tzinfo=UTC)) // unit for moment in moments]
    server.rows("times", [TS], [[*ticks[::-1], None]], [ticks], precision=precision)
    expected = [moment.astimezone(ZoneInfo(zone)) for moment in moments]
    assert any(moment.fold for moment in expected)
    async with aiotaos.connect(server.dsn, timezone=zone) as conn:
        rows = await conn.fetch("times")
        assert server.logged_in[0]["tz"] == zone
    values = [value for (value,) in rows]
    assert values.pop(len(ticks)) is None
    assert list(map(facts, values)) == list(map(facts, expected[::-1] + expected))
    assert [value.timestamp() for value in values[len(ticks) :]] == [
        moment.timestamp() for moment in moments
    ]


async def test_an_hour_that_occurs_twice(server):
    """New York, 2024-11-03: half past one, in summer and in winter time."""
    server.rows("times", [TS], [[1_730_611_800_000, 1_730_615_400_000]])
    async with aiotaos.connect(server.dsn, timezone=ZoneInfo("America/New_York")) as conn:
        (summer,), (winter,) = await conn.fetch("times")
    assert summer.isoformat() == "2024-11-03T01:30:00-04:00"
    assert winter.isoformat() == "2024-11-03T01:30:00-05:00"
    assert (summer.fold, winter.fold) == (0, 1)


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("Asia/Kolkata", "2024-03-01T05:30:00.001000+05:30"),
        ("Australia/Lord_Howe", "2024-03-01T11:00:00.001000+11:00"),
        ("UTC", "2024-03-01T00:00:00.001000+00:00"),
    ],
)
async def test_the_local_zone_is_the_default(server, monkeypatch, variable, text):
    monkeypatch.setenv("TZ", variable)
    server.rows("times", [TS], [[1_709_251_200_001]])
    async with aiotaos.connect(server.dsn) as conn:
        assert (await conn.fetchval("times")).isoformat() == text
    assert "tz" not in server.logged_in[0]


@pytest.mark.parametrize("timestamp", ["int", int])
async def test_timestamps_as_int(server, timestamp):
    for precision in (0, 1, 2):
        server.rows(f"times {precision}", [TS], [[-1, None, 2**62]], precision=precision)
    async with aiotaos.connect(server.dsn, timestamp=timestamp) as conn:
        for precision in (0, 1, 2):
            rows = await conn.fetch(f"times {precision}")
            assert rows == [(-1,), (None,), (2**62,)]
            assert [type(value) for (value,) in rows] == [int, type(None), int]


@pytest.mark.parametrize("timestamp", ["datetime64", np.datetime64])
async def test_timestamps_as_datetime64(server, timestamp):
    ticks = 1_709_251_200_000_000_000
    for precision, unit in enumerate(("ms", "us", "ns")):
        value = ticks // 10 ** (6 - 3 * precision) + 7
        server.rows(unit, [TS], [[value, None]], precision=precision)
    async with aiotaos.connect(server.dsn, timestamp=timestamp) as conn:
        for unit, text in (
            ("ms", "2024-03-01T00:00:00.007"),
            ("us", "2024-03-01T00:00:00.000007"),
            ("ns", "2024-03-01T00:00:00.000000007"),
        ):
            (value,), (nothing,) = await conn.fetch(unit)
            assert value == np.datetime64(text)
            assert value.dtype == np.dtype(f"M8[{unit}]")
            assert nothing is None


async def test_nanoseconds_are_int_because_a_datetime_cannot_hold_them(server, conn):
    server.rows("times", [TS], [[1_709_251_200_000_000_007, None]], precision=2)
    assert await conn.fetch("times") == [(1_709_251_200_000_000_007,), (None,)]


# Secrets.


SECRETS = {
    "password": "pw-S3CR3T",
    "token": "tk-S3CR3T",
    "bearer_token": "bt-S3CR3T",
    "totp_code": "tc-S3CR3T",
}


async def test_secrets_are_not_logged(server, caplog):
    """A whole session, and all that may go wrong, with everything logged that can be."""
    caplog.set_level(logging.DEBUG)
    for name in ("aiotaos", "websockets", "websockets.client", "asyncio"):
        caplog.set_level(logging.DEBUG, name)
    texts = []
    server.may_leave = True
    server.logins = [(0x0357, "Authentication failure")]
    server.refuse("create user u pass 'sq-S3CR3T'", 0x2600, "no")
    server.integers("rows", [1], [2])
    with pytest.raises(aiotaos.AuthenticationError) as refused:
        await aiotaos.connect(server.dsn, **SECRETS)
    texts.append(f"{refused.value} {refused.value!r} {vars(refused.value)}")
    async with aiotaos.connect(server.dsn, compression=True, **SECRETS) as conn:
        assert await conn.fetch("rows") == [(1,), (2,)]
        with pytest.raises(ProgrammingError) as wrong:
            await conn.execute("create user u pass 'sq-S3CR3T'")
        texts.append(f"{wrong.value} {wrong.value!r} {vars(wrong.value)}")
        await server.session.websocket.ping()
        await server.session.send('{"req_id":5}')
        server.hold("query", "slow")
        slow = asyncio.ensure_future(conn.execute("slow"))
        await server.until(lambda: server.session.seen("query")[-1].sql == "slow")
        server.session.websocket.transport.write(b"\xf1\x05hello")
        with pytest.raises(aiotaos.ConnectionLost) as lost:
            await slow
        texts.append(
            f"{lost.value} {lost.value!r} {vars(lost.value)} {conn!r} {conn._session.transport!r}"
        )
        texts.append(repr(conn._options))
    await server.stop()
    with pytest.raises(aiotaos.ConnectionError) as dead:
        await aiotaos.connect(server.dsn, **SECRETS)
    error = dead.value
    while error is not None:
        texts.append(f"{error} {error!r} {vars(error)}")
        error = error.__cause__ or error.__context__
    texts.append(caplog.text)
    assert "aiotaos.websocket" in caplog.text
    assert not [text for text in texts if "S3CR3T" in text]
    assert {args.get("password") for args in server.logged_in} == {"pw-S3CR3T"}
    assert server.paths[0] == "/ws?token=tk-S3CR3T"


async def test_nothing_is_logged_by_default(server, caplog):
    async with aiotaos.connect(server.dsn) as conn:
        assert await conn.fetchval("select 1") == 1
    assert [record for record in caplog.records if not record.name.startswith("tests")] == []


# The module.


def test_pep_249():
    assert aiotaos.apilevel == "2.0"
    assert aiotaos.threadsafety == 1
    assert aiotaos.paramstyle == "qmark"
    assert re.fullmatch(r"\d+\.\d+(\.\d+)?\S*", aiotaos.__version__)
    tree = {
        aiotaos.InterfaceError: aiotaos.Error,
        aiotaos.DatabaseError: aiotaos.Error,
        aiotaos.DataError: aiotaos.DatabaseError,
        aiotaos.OperationalError: aiotaos.DatabaseError,
        aiotaos.IntegrityError: aiotaos.DatabaseError,
        aiotaos.InternalError: aiotaos.DatabaseError,
        aiotaos.ProgrammingError: aiotaos.DatabaseError,
        aiotaos.NotSupportedError: aiotaos.DatabaseError,
    }
    for cls, base in tree.items():
        assert cls.__base__ is base
    assert issubclass(aiotaos.Error, Exception)
    assert issubclass(aiotaos.Warning, Exception)
    for name in aiotaos.__all__:
        assert hasattr(aiotaos, name)


def test_what_is_not_awaited_says_so():
    assert repr(aiotaos.connect("ws://root:secret@db1,db2:6042")) == (
        "<Connecting to ws://db1:6041, ws://db2:6042; await it, or enter it with async with>"
    )

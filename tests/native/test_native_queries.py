"""Sessions and queries over libtaos, on the stand-in."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import os
import random
from pathlib import Path
from typing import Any

import pytest

import aiotaos
from aiotaos import (
    AuthenticationError,
    ConnectionError,
    ConnectionLost,
    Field,
    InterfaceError,
    NotSupportedError,
    Precision,
    ProgrammingError,
    ProtocolError,
    ResultError,
    TimeoutError,
    TypeCode,
)
from aiotaos.protocol.encode import encode_block
from aiotaos.transport.base import Deadline
from aiotaos.transport.native import news, opening, signals
from aiotaos.transport.native.calls import Library
from aiotaos.transport.native.loading import load
from tests.native.conftest import Native, native_threads
from tests.native.standin import Flavour, Standin, generated
from tests.type_matrix import COLUMNS, differences

COUNT = int(os.environ.get("AIOTAOS_NATIVE_QUERIES", "6000"))
CANCELLED = int(os.environ.get("AIOTAOS_NATIVE_CANCELLED", "2000"))
NEVER = "select 1 /* never */"


async def error_of(awaitable: Any) -> Exception | None:
    try:
        await awaitable
    except Exception as error:
        return error
    return None


async def until(condition: Any) -> None:
    """Wait for what other threads bring about."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the library has no event
            await asyncio.sleep(0.001)


@pytest.fixture(autouse=True, params=[signals.SLOTS, 1, 0], ids=["signals", "both", "callbacks"])
def slots(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many calls can be under way by signals; the others are by callbacks of Python's."""
    monkeypatch.setattr(signals, "SLOTS", request.param)
    return int(request.param)


# Sessions.


async def test_a_session(any_native: Native) -> None:
    conn = await any_native.connect()
    assert conn.endpoint == f"taos://127.0.0.1:{any_native.port}"
    assert conn.server_version.startswith(
        "2." if any_native.standin.flavour is Flavour.TWO else "3."
    )
    assert conn.database == "test"
    assert await conn.fetchval("select 7") == 7
    assert repr(conn).startswith("<Connection taos://127.0.0.1:")
    (connected,) = any_native.standin.log("connect")
    assert connected["user"] == "root"


async def test_the_end_of_a_session(native: Native) -> None:
    conn = await native.connect()
    await conn.execute(f"insert into t values {'(1, 2) ' * 6000}")  # too long for the loop
    assert native_threads() != []
    await conn.close()
    assert native.standin.count("connections") == 0
    await until(lambda: native_threads() == [])
    with pytest.raises(InterfaceError, match="closed"):
        await conn.fetchval("select 1")


async def test_terminated(native: Native) -> None:
    conn = await native.connect()
    task = asyncio.create_task(error_of(conn.fetchval(NEVER)))
    await until(lambda: native.standin.count("outstanding") == 1)
    conn.terminate()
    error = await task
    assert isinstance(error, InterfaceError)
    assert (error.sql, error.may_have_run) == (NEVER, True)
    await until(lambda: native_threads() == [])


async def test_closed_with_queries_under_way(native: Native) -> None:
    conn = await native.connect()
    tasks = [asyncio.create_task(error_of(conn.fetchval(NEVER))) for _ in range(5)]
    result = await conn.query("select 1 /* rows=10 block=5 fetch_after=1 fetch_never */")
    assert (await result.fetchone())[1] == 0
    await until(lambda: native.standin.count("outstanding") == 6)
    await conn.close()
    assert len(native.standin.log("kill")) == 1  # closing alone stops nothing
    assert all(isinstance(error, InterfaceError) for error in await asyncio.gather(*tasks))
    with pytest.raises(InterfaceError):
        await result.fetchall()


@pytest.mark.parametrize(
    ("code", "kind"),
    [(0x0357, AuthenticationError), (0x0388, ProgrammingError), (0x000B, ConnectionError)],
)
async def test_refused_login(native: Native, code: int, kind: type[Exception]) -> None:
    native.standin.rule("taos_connect", code=code, message="because")
    with pytest.raises(kind, match="because"):
        await aiotaos.connect(native.dsn())


async def test_nobody_listens(native: Native, unused_tcp_port: int) -> None:
    native.port = unused_tcp_port
    with pytest.raises(ConnectionError, match="is taosd running"):
        await aiotaos.connect(native.dsn())
    assert native.standin.log("connect") == []


async def test_a_connection_that_comes_too_late_is_closed(native: Native) -> None:
    native.standin.rule("taos_connect", hold=True)
    with pytest.raises(TimeoutError):
        await aiotaos.connect(native.dsn(connect_timeout=0.05))
    native.standin.release("taos_connect")
    await until(lambda: native_threads() == [])
    assert native.standin.count("connections") == 0


async def test_a_cancelled_connect(native: Native) -> None:
    native.standin.rule("taos_connect", hold=True)
    task = asyncio.create_task(error_of(aiotaos.connect(native.dsn())))
    await until(lambda: native_threads() != [])
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    native.standin.release("taos_connect")
    await until(lambda: native_threads() == [])
    assert native.standin.count("connections") == 0


@pytest.mark.parametrize(
    "options", [{"token": "t"}, {"adapter_ha": True}, {"totp_code": "1"}, {"bearer_token": "b"}]
)
async def test_what_cannot_be_had(native: Native, options: dict[str, Any]) -> None:
    with pytest.raises(NotSupportedError):
        await aiotaos.connect(native.dsn(), **options)


async def test_options_of_the_connection(native: Native) -> None:
    conn = await native.connect(timezone="Asia/Tokyo", user_app="shop", user_ip="10.0.0.1")
    told = {event["option"]: event["value"] for event in native.standin.log("connection_option")}
    assert told == {1: "Asia/Tokyo", 2: "10.0.0.1", 3: "shop"}
    await conn.set_timezone("UTC")
    assert native.standin.log("connection_option")[-1]["value"] == "UTC"


async def test_the_current_database(any_native: Native) -> None:
    conn = await any_native.connect()
    await conn.execute("create database other")
    await conn.execute("use other")
    assert conn.database == "other"
    transport = conn._session.transport
    assert await transport.current_database(Deadline(5)) == "other"


AUTH = "54f4b2fea6d9b5fd4f2dbd1ef3a0cd05"


async def test_a_dropped_user(native: Native) -> None:
    conn = await native.connect()
    transport = conn._session.transport
    task = asyncio.create_task(error_of(conn.execute("insert into t values (1) /* never */")))
    await until(lambda: native.standin.count("outstanding") == 1)
    assert native.standin.notify(transport.connection.address, 2)  # type: ignore[attr-defined]
    error = await task
    assert isinstance(error, ConnectionLost)
    assert "the user was dropped" in error.message
    assert repr(conn).endswith(" lost>")
    native.standin.rule("taos_connect", code=0x0351)
    with pytest.raises(AuthenticationError):
        await conn.fetchval("select 1")
    assert await conn.fetchval("select 7") == 7
    await conn.close()
    assert news._watched == {}


async def test_auth_in_place_of_the_password(native: Native) -> None:
    conn = await native.connect(password="wrong", auth=AUTH.upper())
    assert await conn.fetchval("select 7") == 7
    assert AUTH not in repr(conn)
    with pytest.raises(AuthenticationError) as raised:
        await aiotaos.connect(native.dsn(), auth="0" * 32)
    assert "0" * 32 not in repr(raised.value) + str(raised.value)
    with pytest.raises(NotSupportedError, match="auth and totp_code"):
        await aiotaos.connect(native.dsn(), auth=AUTH, totp_code="123456")


async def test_auth_of_a_consumer(native: Native) -> None:
    consumer = aiotaos.Consumer(native.dsn(), group_id="g", auth=AUTH)
    with pytest.raises(NotSupportedError, match="auth cannot be had by a consumer"):
        await consumer.subscribe(["topic"])
    await consumer.close()


async def test_the_driver_is_that_of_the_process(native: Native) -> None:
    conn = await native.connect(client_driver="native")
    assert await conn.fetchval("select 7") == 7
    with pytest.raises(InterfaceError, match="driver: 'websocket' is wanted, but 'native' is set"):
        await aiotaos.connect(native.dsn(), client_driver="websocket")


async def test_libraries_without_drivers(old_standin: Standin, open_port: int, clean: None) -> None:
    dsn = f"taos://127.0.0.1:{open_port}?library_path={old_standin.path}"
    with pytest.raises(NotSupportedError, match=r"driver: libtaos 3\.0.* has none but its own"):
        await aiotaos.connect(dsn, client_driver="websocket")
    await (await aiotaos.connect(dsn, client_driver="native")).close()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("auth", AUTH),
        ("client_driver", "websocket"),
        ("charset", "UTF-8"),
        *((name, "x") for name in ("library_path", "config_dir", "locale")),
    ],
)
def test_options_of_other_roads(name: str, value: str) -> None:
    with pytest.raises(InterfaceError, match=f"{name} is an option of taos:// alone"):
        aiotaos.connect("ws://localhost", **{name: value})


async def test_the_encoding_is_always_told(native: Native) -> None:
    await native.connect()
    assert load(native.standin.path).settings["charset"] == "UTF-8"
    await native.connect(charset="utf8")


@pytest.mark.parametrize("value", ["GBK", "ISO-8859-1", "", 7])
def test_other_encodings(value: Any) -> None:
    with pytest.raises(InterfaceError, match=f"charset: expected UTF-8, .* got {value!r}"):
        aiotaos.connect("taos://localhost", charset=value)


async def test_the_port_of_another_server(native: Native, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_ADAPTER_PORT", native.port)
    native.standin.rule("taos_connect", hold=True)
    with pytest.raises(TimeoutError, match="taos:// wants taosd's, 6030"):
        await native.connect(connect_timeout=0.05)
    native.standin.release("taos_connect")
    await until(lambda: native.standin.count("connections") == 0)


# Queries.


async def test_every_type(native: Native) -> None:
    columns = list(COLUMNS.items())
    fields = [Field("ts", TypeCode.TIMESTAMP, 8)]
    fields += [dataclasses.replace(column.field, name=name) for name, column in columns]
    kinds = ("low", "high", "usual", "empty")
    rows = [
        (row, *(getattr(column, kind)[1] for _, column in columns))
        for row, kind in enumerate(kinds)
    ]
    rows.append((4, *[None] * len(columns)))
    native.standin.rows("select everything", fields, list(zip(*rows, strict=True)), precision=2)
    conn = await native.connect(timestamp="int")
    result = await conn.query("select everything")
    assert result.fields == tuple(fields)
    assert result.precision is Precision.NANOSECOND
    assert differences(await result.fetchall(), rows, [field.name for field in fields]) == []


@pytest.mark.parametrize("directives", ["", "inline", "fetch_inline", "inline fetch_inline"])
async def test_rows(any_native: Native, directives: str) -> None:
    conn = await any_native.connect(timestamp="int")
    rows = await conn.fetch(f"select * from t /* rows=1000 cols=5 block=64 {directives} */")
    assert rows == generated(1000, 5)


async def test_no_rows(any_native: Native) -> None:
    conn = await any_native.connect()
    result = await conn.query("select * from t /* rows=0 cols=3 fetch_inline */")
    assert len(result.fields) == 3
    assert await result.fetchall() == []


async def test_writes(any_native: Native) -> None:
    conn = await any_native.connect()
    assert await conn.execute("insert into t values (1, 2) /* affected=17 */") == 17
    result = await conn.query("create table u (ts timestamp, v int)")
    assert (result.is_update, result.affected_rows, result.fields) == (True, 0, ())


async def test_others_have_their_turn(native: Native) -> None:
    """Also while all that is asked is answered at once."""
    conn = await native.connect()
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    for _ in range(100):
        await conn.fetchval("select 1 /* inline fetch_inline */")
    task.cancel()
    assert turns >= 100


async def test_large_sql_leaves_the_loop_its_turns(native: Native) -> None:
    conn = await native.connect()
    sql = f"insert into t values {'(1, 2) ' * 20_000}"
    assert await conn.execute(sql) == 1
    assert native.standin.written() == [sql]
    assert isinstance(await error_of(conn.fetch("x" * 50_000)), ProgrammingError)


@pytest.mark.parametrize("how", ["", " inline", " null", " inline null"])
async def test_a_refused_statement(
    any_native: Native, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "null" in how:  # the websocket driver's, which has callbacks alone
        monkeypatch.setattr(signals, "SLOTS", 0)
    conn = await any_native.connect()
    with pytest.raises(ProgrammingError, match="no such table") as info:
        await conn.fetch(f'select v from t /* error=0x2662:"no such table"{how} */')
    assert (info.value.code, info.value.endpoint) == (0x2662, conn.endpoint)
    assert await conn.fetchval("select 1") == 1


async def test_a_connection_that_its_server_has_closed(native: Native) -> None:
    """Then callbacks have no result, which a signal could not tell."""
    conn = await native.connect()
    native.standin.rule("taos_get_server_info", code=0x020B)
    with pytest.raises(ConnectionLost):
        await conn.execute("insert into t values (1) /* error=0x020b null inline */", timeout=5)
    assert await conn.fetchval("select 1") == 1
    assert len(native.standin.log("connect")) == 2


@pytest.mark.parametrize("quiet", ["", " fetch_quiet"])
async def test_a_fetch_that_fails(any_native: Native, quiet: str) -> None:
    conn = await any_native.connect(timestamp="int")
    result = await conn.query(
        f'select v from t /* rows=30 block=10 fetch_after=2 fetch_error=0x0700:"gone"{quiet} */'
    )
    assert await result.fetchmany(20) == generated(20, 2)
    with pytest.raises(ProgrammingError, match="gone") as info:
        await result.fetchone()
    assert info.value.req_id == result.req_id
    assert await conn.fetchval("select 1") == 1


async def test_a_statement_that_cannot_be_sent(native: Native) -> None:
    conn = await native.connect()
    for sql in ("select '\0'", "select '\udc00'"):
        with pytest.raises(InterfaceError):
            await conn.fetch(sql)
    assert await conn.fetchval("select 1") == 1


async def test_a_broken_block(native: Native) -> None:
    field = Field("v", TypeCode.INT, 4)
    broken = bytearray(encode_block([field], [[1, 2]]))
    broken[0] = 9
    native.standin.answer("select v", [field], [bytes(broken)])
    conn = await native.connect()
    with pytest.raises(ProtocolError, match="version 9") as info:
        await conn.fetch("select v")
    assert info.value.sql == "select v"
    assert await conn.fetchval("select 1") == 1


async def test_a_result_is_given_up(native: Native) -> None:
    conn = await native.connect()
    sql = "select v from t /* rows=20 block=10 fetch_after=1 fetch_never */"
    async with await conn.query(sql) as result:
        await result.fetchone()
    with pytest.raises(ResultError):
        await result.fetchone()
    await until(lambda: native.standin.count("results") == 0)
    del result
    result = await conn.query("select v from t /* rows=20 block=10 */")
    del result
    gc.collect()
    await until(lambda: native.standin.count("results") == 0)


async def test_time_outs(any_native: Native) -> None:
    conn = await any_native.connect()
    with pytest.raises(TimeoutError) as info:
        await conn.fetch("select 1 /* hold=a */", timeout=0.02)
    assert info.value.may_have_run
    any_native.standin.release("a")
    with pytest.raises(TimeoutError, match="no block"):
        await conn.fetch("select 1 /* rows=1 fetch_hold=b */", timeout=0.02)
    any_native.standin.release("b")
    await until(lambda: any_native.standin.count("results") == 0)
    assert await conn.fetchval("select 1") == 1


async def test_a_query_alone_is_stopped(native: Native) -> None:
    conn = await native.connect(cancel="kill")
    with pytest.raises(TimeoutError):
        await conn.fetch(NEVER, timeout=0.02)
    await until(lambda: native.standin.count("outstanding") == 0)
    assert len(native.standin.log("connect")) == 1  # nothing else was needed


async def test_others_are_not_stopped(native: Native) -> None:
    conn = await native.connect()
    other = asyncio.create_task(conn.fetchval("select 5 /* hold=c */"))
    with pytest.raises(TimeoutError):
        await conn.fetch(NEVER, timeout=0.02)
    assert native.standin.count("outstanding") == 2
    native.standin.release("c")
    assert await other == 5


async def test_a_cancelled_query(any_native: Native) -> None:
    conn = await any_native.connect()
    task = asyncio.create_task(conn.fetch("select 1 /* hold=a */"))
    await until(lambda: any_native.standin.count("outstanding") == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await conn.fetchval("select 1") == 1
    any_native.standin.release("a")
    await until(lambda: any_native.standin.left() == {"connections": 1})


async def test_the_same_req_id_twice(native: Native) -> None:
    conn = await native.connect()
    task = asyncio.create_task(conn.fetch("select 1 /* hold=a */", req_id=5))
    await until(lambda: native.standin.count("outstanding") == 1)
    with pytest.raises(InterfaceError, match="req_id 5 is in use"):
        await conn.fetch("select 2", req_id=5)
    native.standin.release("a")
    assert await task == [(1,)]
    assert native.standin.log("query")[-1]["reqid"] == 5


# Losses.


@pytest.mark.parametrize("code", [0x000B, 0x0018, 0x0213])
async def test_a_lost_connection_is_opened_again(native: Native, code: int) -> None:
    conn = await native.connect(conn_retries=3, retry_backoff_ms=1)
    await conn.execute("create database other")
    await conn.execute("use other")
    standing = asyncio.create_task(error_of(conn.execute("insert into t values (1) /* hold=a */")))
    await until(lambda: native.standin.count("outstanding") == 1)
    error = await error_of(conn.execute(f"insert into t values (2) /* error={code:#x} */"))
    assert isinstance(error, ConnectionLost) or (error is not None and error.code == code)
    lost = await standing
    assert isinstance(lost, ConnectionLost)
    assert lost.may_have_run
    assert await conn.fetchval("select 1") == 1
    assert conn.database == "other"
    assert len(native.standin.log("connect")) == 2
    native.standin.release("a")


async def test_a_read_is_repeated(native: Native) -> None:
    conn = await native.connect(conn_retries=1, retry_backoff_ms=1)
    task = asyncio.create_task(conn.fetchval("select 3 /* hold=a */"))
    await until(lambda: native.standin.count("outstanding") == 1)
    await error_of(conn.execute("insert into t values (2) /* error=0x000b */"))
    await until(lambda: native.standin.count("outstanding") == 2)  # the first goes on as well
    native.standin.release("a")
    assert await task == 3


@pytest.mark.parametrize("count", [2, 20, 100])
async def test_lost_with_others_under_way(native: Native, count: int) -> None:
    """All of them say so, in one turn of the loop: the first ends the session for the others."""
    before = len(os.listdir("/dev/fd"))
    for _ in range(10):
        conn = await native.connect(conn_retries=0)
        sql = "insert into t values (1) /* hold=a error=0x000b */"
        tasks = [asyncio.create_task(error_of(conn.execute(sql))) for _ in range(count)]
        await until(lambda: native.standin.count("outstanding") == count)
        native.standin.release("a")
        errors = await asyncio.gather(*tasks)
        assert all(isinstance(error, ConnectionLost) for error in errors)
        await conn.close()
        await until(lambda: native.standin.count("outstanding") == 0)
        await until(lambda: native_threads() == [])
    assert native.standin.left() == {}
    assert native.standin.log("kill") == []  # libtaos must not be asked to, of a lost connection
    assert len(os.listdir("/dev/fd")) <= before


async def test_a_signal_handler_that_raises(native: Native, monkeypatch: Any) -> None:
    """A call that was begun keeps its place until it is answered, whatever is raised meanwhile."""

    class Interrupted(BaseException):
        pass

    conn = await native.connect()
    query = conn._session.transport._results._taosc.taos_query_a_with_reqid
    interrupted: list[int] = []

    def interrupt(*arguments: Any) -> None:
        query(*arguments)
        if b"hold" in arguments[1]:
            interrupted.append(1)
            raise Interrupted

    taosc = conn._session.transport._results._taosc
    monkeypatch.setitem(taosc.__dict__, "taos_query_a_with_reqid", interrupt)
    for _ in range(3):
        with pytest.raises(Interrupted):
            await conn.fetch("select 5 /* hold=a */")
    for n in range(20):
        assert await conn.fetchval(f"select {n}") == n
    assert len(interrupted) == 3
    native.standin.release("a")
    await until(lambda: native.standin.count("results") == 0)
    for n in range(20):
        assert await conn.fetchval(f"select {n}") == n


# Many at once.


def resident() -> int:
    """Memory that the process has, bytes; 0 where nobody tells."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except FileNotFoundError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


async def test_many_queries(native: Native) -> None:
    native.standin.stop_logging()
    connections = [await native.connect() for _ in range(8)]

    async def work(number: int, count: int) -> None:
        conn = connections[number % 8]
        for n in range(number, count, 64):
            assert await conn.fetchval(f"select {n}") == n

    async def share(count: int) -> None:
        await asyncio.gather(*(work(number, count) for number in range(64)))
        await until(lambda: native.standin.count("results") == 0)

    await share(COUNT // 2)
    threads, memory = set(native_threads()), resident()
    await share(COUNT // 2)
    assert native.standin.count("queries") >= COUNT
    assert set(native_threads()) <= threads
    assert resident() - memory < 8_000_000


async def test_the_pool(native: Native) -> None:
    async with aiotaos.create_pool(native.dsn(), min_size=2, max_size=4) as pool:
        values = await asyncio.gather(*(pool.fetchval(f"select {n}") for n in range(200)))
    assert values == list(range(200))


@pytest.mark.timeout(60)
async def test_cancelled_at_any_moment(native: Native) -> None:
    native.standin.stop_logging()
    chance = random.Random(7)
    connections = [await native.connect() for _ in range(4)]
    statements = [
        "select 1",
        "select 1 /* inline */",
        "select 1 /* delay=1ms */",
        "select v from t /* rows=40 block=8 */",
        "select v from t /* rows=40 block=8 fetch_delay=300us */",
        "select v from t /* rows=40 block=8 fetch_inline */",
        "insert into t values (1, 2) /* delay=500us */",
        f"insert into t values {'(1, 2) ' * 6000}",
        "select v from t /* error=0x2662 delay=200us */",
    ]

    async def one(number: int) -> None:
        conn = connections[number % 4]
        sql = chance.choice(statements)
        task = asyncio.create_task(conn.fetch(sql))
        for _ in range(chance.randrange(6)):
            await asyncio.sleep(0)
        if chance.random() < 0.5:
            await asyncio.sleep(chance.random() * 0.002)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    for start in range(0, CANCELLED, 50):
        await asyncio.gather(*map(one, range(start, min(start + 50, CANCELLED))))
    await until(lambda: native.standin.count("outstanding") == 0)
    await until(lambda: native.standin.count("results") == 0)
    for conn in connections:
        assert await conn.fetchval("select 1") == 1


async def test_a_large_result_is_read_in_blocks(native: Native) -> None:
    conn = await native.connect()
    result = await conn.query("select * from t /* rows=200000 cols=3 block=4096 */")
    count = 0
    async for block in result.blocks():
        count += len(block)
        assert native.standin.count("results") <= 1
    assert count == 200_000


async def test_a_loop_of_its_own_in_each_thread(native: Native) -> None:
    async def work(base: int) -> list[int]:
        async with aiotaos.connect(native.dsn()) as conn:
            return list(
                await asyncio.gather(*(conn.fetchval(f"select {base + n}") for n in range(50)))
            )

    answers = await asyncio.gather(
        *(asyncio.to_thread(lambda base=base: asyncio.run(work(base))) for base in (0, 100, 200))
    )
    assert answers == [list(range(base, base + 50)) for base in (0, 100, 200)]
    await asyncio.get_running_loop().shutdown_default_executor()


def test_the_loop_has_ended(standin: Any, open_port: int) -> None:
    """What comes then is freed where it comes."""

    async def leave() -> Any:
        dsn = f"taos://127.0.0.1:{open_port}?library_path={standin.path}"
        conn = await aiotaos.connect(dsn)
        task = asyncio.create_task(conn.fetch("select 1 /* hold=a */"))
        await until(lambda: standin.count("outstanding") == 1)
        task.cancel()
        return conn

    conn = asyncio.run(leave())
    standin.release("a")
    standin.wait("outstanding", 0)
    del conn
    gc.collect()
    standin.wait("results", 0)
    assert standin.left() == {}
    assert standin.misuse() == {}


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_callback_after_the_loop(standin: Any, open_port: int) -> None:
    """Its result is freed, though there was nobody left when it came."""

    async def leave() -> None:
        dsn = f"taos://127.0.0.1:{open_port}?library_path={standin.path}"
        conn = await aiotaos.connect(dsn, cancel="leave")
        tasks = [asyncio.create_task(conn.fetch(f"select 1 /* hold={h} */")) for h in "ab"]
        await until(lambda: standin.count("outstanding") == len(tasks))

    asyncio.run(leave())
    gc.collect()
    standin.release("a")
    standin.release("b")
    standin.wait("outstanding", 0)
    standin.wait("results", 0)
    standin.wait("connections", 0)
    assert standin.misuse() == {}


def test_who_has_signals(standin: Standin, standin_2x: Standin) -> None:
    taosc = load(standin.path)
    assert Library(taosc).has_signals == (signals.COUNTING is not None)
    assert not Library(load(standin_2x.path)).has_signals

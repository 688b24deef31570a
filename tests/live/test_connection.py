"""Sessions: options, databases, statements without rows, and errors."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

import aiotaos
from aiotaos import (
    AuthenticationError,
    ConnectionError,
    DataError,
    Error,
    IntegrityError,
    InterfaceError,
    OperationalError,
    Options,
    ProgrammingError,
)


@pytest.fixture
def dead_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


async def test_what_a_connection_tells(conn: Any, database: str, dsn: str) -> None:
    options = Options.make(dsn)
    assert conn.endpoint == options.endpoint(options.addresses[0])
    assert conn.server_version.split(".")[:1] == ["3"]
    assert await conn.fetchval("select server_version()") == conn.server_version
    assert repr(conn) == f"<Connection {conn.endpoint}/{database} open>"
    assert not conn.closed
    await conn.close()
    await conn.close()
    assert conn.closed
    with pytest.raises(InterfaceError, match="closed"):
        await conn.fetchval("select 1")


async def test_terminated(conn: Any, connect: Any) -> None:
    conn.terminate()
    assert conn.closed
    with pytest.raises(InterfaceError):
        await conn.execute("select 1")
    assert await (await connect()).fetchval("select 1") == 1


async def test_affected_rows(conn: Any) -> None:
    assert await conn.execute("create stable s (ts timestamp, v int) tags (g int)") == 0
    assert await conn.execute("create table s1 using s tags (1)") == 0
    assert await conn.execute("insert into s1 values (1, 1) (2, 2) (3, 3)") == 3
    assert await conn.execute("insert into s1 values (3, 4)") == 1
    sql = "insert into s2 using s tags (2) values (1, 1) (2, 2) s1 values (9, 9)"
    assert await conn.execute(sql) == 3
    result = await conn.query("insert into s1 values (10, 10)")
    assert (result.is_update, result.affected_rows, result.fields) == (True, 1, ())
    assert await result.fetchall() == []
    assert repr(result) == "<Result 1 rows affected>"
    assert await conn.execute("select * from s") == 0
    assert await conn.execute("delete from s1 where ts >= 3") == 3
    assert await conn.execute("alter table s add column w double") == 0
    assert await conn.execute("insert into s1 select ts, v, 1.5 from s2") == 2
    assert await conn.fetchval("select count(*) from s") == 4


async def test_long_statement(conn: Any) -> None:
    """Just under the server's megabyte, and over it."""
    await conn.execute("create table t (ts timestamp, v varchar(16000))")
    values = [f"({ts}, '{'x' * 16000}')" for ts in range(65)]
    sql = f"insert into t values {' '.join(values)}"
    assert 1_000_000 < len(sql) < 2**20
    assert await conn.execute(sql) == 65
    with pytest.raises(Error) as info:
        await conn.execute(f"insert into t values {' '.join(values * 2)}")
    assert info.value.code == 0x0219
    assert await conn.fetch("select v from t limit 1") == [("x" * 16000,)]


async def test_databases(connect: Any, make_database: Any) -> None:
    first, second = await make_database(), await make_database("us")
    conn = await connect()
    assert conn.database is None
    with pytest.raises(ProgrammingError, match="not specified") as info:
        await conn.execute("create table t (ts timestamp, v int)")
    assert info.value.code == 0x2616
    await conn.select_db(first)
    assert conn.database == first == await conn.fetchval("select database()")
    await conn.execute("create table t (ts timestamp, v int)")
    await conn.execute(f"  USE `{second}` ;")
    assert conn.database == second
    await conn.execute(f"use {first.upper()}")  # names are of lower case
    assert conn.database == first == await conn.fetchval("select database()")
    for failing in (conn.select_db("nosuchdatabase"), conn.execute("use nosuchdatabase")):
        with pytest.raises(ProgrammingError) as info:
            await failing
        assert info.value.code == 0x0388
    assert conn.database == first
    assert await conn.fetch("select * from t") == []
    for name in ("", "a`b"):
        with pytest.raises(InterfaceError):
            await conn.select_db(name)

    other = await connect(database=second)
    assert other.database == second == await other.fetchval("select database()")
    cursor = await other.cursor().execute(f"use {first}")
    assert other.database == first
    await cursor.close()


@pytest.mark.parametrize(
    ("sql", "code", "cls"),
    [
        ("selec 1", 0x2600, ProgrammingError),
        ("select * from t where", 0x2601, ProgrammingError),
        ("select", 0x2601, ProgrammingError),
        ("  ", 0x2601, ProgrammingError),
        ("select nosuch from t", 0x2602, ProgrammingError),
        ("select * from nosuch", 0x2603, ProgrammingError),
        ("drop table nosuch", 0x2603, ProgrammingError),
        ("insert into nosuch values (now, 1)", 0x2603, ProgrammingError),
        ("select * from nosuchdatabase.t", 0x0388, ProgrammingError),
        ("drop database nosuchdatabase", 0x0388, ProgrammingError),
        ("select nosuch(v) from t", 0x0374, ProgrammingError),
        ("select sum(s) from t", 0x2802, ProgrammingError),
        ("create table t (ts timestamp, v int)", 0x0603, IntegrityError),
        ("create table bad (v int, ts timestamp)", 0x2641, ProgrammingError),
        ("insert into t values (now, 'abc', 'x')", 0x0216, ProgrammingError),
        ("insert into t values (now, 1, 'too long')", 0x2653, DataError),
        ("insert into t (ts, d) values (now, 100)", 0x013D, DataError),
        ("kill query '0:0'", None, Error),
    ],
)
async def test_refused_statements(conn: Any, sql: str, code: int | None, cls: type[Error]) -> None:
    await conn.execute("create table t (ts timestamp, v int, s varchar(3), d decimal(3,2))")
    for run in (conn.execute, conn.query, conn.fetch, conn.fetchrow, conn.fetchval):
        with pytest.raises(cls) as info:
            await run(sql, req_id=4711)
        error = info.value
        if code is not None:
            assert (error.code, type(error)) == (code, cls)
        assert error.code
        assert error.message
        assert (error.req_id, error.sql, error.endpoint) == (4711, sql, conn.endpoint)
        assert await conn.fetchval("select 1") == 1


async def test_empty_statement(conn: Any, road: str) -> None:
    """taosAdapter takes the request for a broken one; taosd misses the statement."""
    refusal = {
        "websocket": (OperationalError, 0xFFFF, "message length is too short"),
        "native": (ProgrammingError, 0x2601, "Incomplete SQL statement"),
    }
    with pytest.raises(Error) as info:
        await conn.execute("")
    error = info.value
    assert (type(error), error.code, error.message) == refusal[road]
    assert await conn.fetchval("select 1") == 1


async def test_existing_database(conn: Any, database: str) -> None:
    with pytest.raises(IntegrityError) as info:
        await conn.execute(f"create database {database}")
    assert info.value.code == 0x0381


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"password": "not the password"}, 0x0357),
        ({"user": "nosuchuser"}, 0x0351),
        ({"password": ""}, 0x0208),
    ],
)
async def test_refused_credentials(connect: Any, options: dict[str, str], code: int) -> None:
    with pytest.raises(AuthenticationError) as info:
        await connect(**options)
    assert info.value.code == code
    assert "not the password" not in f"{info.value} {info.value!r}"


async def test_unknown_database_in_the_dsn(connect: Any) -> None:
    with pytest.raises(ProgrammingError) as info:
        await connect(database="nosuchdatabase")
    assert info.value.code == 0x0388


async def test_nobody_there(connect: Any, dead_port: int) -> None:
    with pytest.raises(ConnectionError):
        await connect(host="127.0.0.1", port=dead_port, conn_retries=1, retry_backoff_ms=1)


async def test_dead_address_first(connect: Any, dsn: str, dead_port: int) -> None:
    alive = str(Options.make(dsn).addresses[0])
    for _ in range(5):
        conn = await connect(host=f"127.0.0.1:{dead_port},{alive}", retry_backoff_ms=1)
        assert conn.endpoint.endswith(alive)
        assert await conn.fetchval("select 1") == 1


async def test_user_dropped_while_connected(
    conn: Any, connect: Any, database: str, until: Any
) -> None:
    """Then the server closes the session."""
    user = f"u{database[-12:]}"
    await conn.execute(f"create user {user} pass 'Secret_12345!'")
    other = await connect(user=user, password="Secret_12345!")
    assert (await other.fetchval("select current_user()")).startswith(f"{user}@")
    await conn.execute(f"drop user {user}")

    async def lost() -> bool:
        return repr(other).endswith(" lost>")

    await until(lost)
    with pytest.raises(AuthenticationError):
        await other.execute("select 1")
    assert not other.closed
    with pytest.raises(AuthenticationError):
        await connect(user=user, password="Secret_12345!")


async def test_compression(connect: Any, conn: Any, numbers: Any) -> None:
    await numbers(conn, "t", 20_000)
    await conn.execute("insert into t values (1, -1, '涛思 🚀')")
    squeezed = await connect(database=conn.database, timezone="UTC", compression=True)
    sql = "select * from t order by ts"
    assert await squeezed.fetch(sql) == await conn.fetch(sql)
    assert await squeezed.execute("insert into t values (2, -2, null)") == 1
    answers = await asyncio.gather(*(squeezed.fetch(sql) for _ in range(5)))
    assert {len(rows) for rows in answers} == {20_002}


async def test_application_and_address_are_shown(connect: Any, until: Any) -> None:
    conn = await connect(user_app="aiotaos live tests", user_ip="192.0.2.77")

    async def shown() -> bool:
        rows = await conn.fetch("show connections", row_factory=aiotaos.dict_row)
        told = {(row["user_app"], row["user_ip"]) for row in rows}
        return ("aiotaos live tests", "192.0.2.77") in told

    assert await until(shown)


async def test_bi_mode(conn: Any, connect: Any) -> None:
    """There, ``*`` of a super table includes the name of the table."""
    await conn.execute("create stable s (ts timestamp, v int) tags (g int)")
    await conn.execute("insert into s1 using s tags (1) values (1, 1)")
    bi = await connect(database=conn.database, conn_mode=1)
    names = {}
    for session in (conn, bi):
        result = await session.query("select * from s")
        names[session] = [field.name for field in result.fields]
        await result.aclose()
    assert names[conn] == ["ts", "v", "g"]
    assert names[bi] == ["ts", "v", "g", "tbname"]


async def test_wrong_arguments(conn: Any) -> None:
    for call in (
        conn.execute(b"select 1"),
        conn.execute("select 1", req_id=0),
        conn.execute("select 1", req_id=2**63),
        conn.execute("select 1", timeout=0),
        conn.fetchval("select 1", column=1),
    ):
        with pytest.raises(InterfaceError):
            await call
    assert await conn.fetchval("select 1, 2", column=1, req_id=2**63 - 1) == 2


async def test_many_connections(connect: Any) -> None:
    conns = await asyncio.gather(*(connect() for _ in range(30)))
    assert await asyncio.gather(*(conn.fetchval("select 1") for conn in conns)) == [1] * 30
    with pytest.raises(OperationalError):
        await conns[0].execute("select * from information_schema.ins_tables", timeout=1e-9)

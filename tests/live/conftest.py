"""A real server; a database of its own for every test, which runs over each road that is given.

make live AIOTAOS_TEST_DSN=ws://root:taosdata@localhost:6041 \\
    AIOTAOS_TEST_NATIVE_DSN=taos://root:taosdata@localhost:6030
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any, TypeAlias

import numpy as np
import pytest

import aiotaos
from aiotaos import Connection, Precision, TypeCode

Connect: TypeAlias = Callable[..., Awaitable[Connection[Any]]]
Database: TypeAlias = Callable[..., Awaitable[str]]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SLOW = "select count(*) from slow a, slow b, slow c where a.ts = b.ts and b.ts = c.ts"


@pytest.fixture(scope="session")
def adapter_dsn() -> str:
    """The server over WebSocket; without one nothing of that road can run."""
    value = os.environ.get("AIOTAOS_TEST_DSN")
    if not value:
        pytest.skip(
            "needs a real TDengine: set AIOTAOS_TEST_DSN, as in ws://root:taosdata@localhost:6041"
        )
    return value


@pytest.fixture(scope="session")
def native_dsn() -> str:
    """The same server over libtaos; without one nothing of that road can run."""
    value = os.environ.get("AIOTAOS_TEST_NATIVE_DSN")
    if not value:
        pytest.skip(
            "needs a real TDengine and libtaos: set AIOTAOS_TEST_NATIVE_DSN, as in "
            "taos://root:taosdata@localhost:6030"
        )
    return value


@pytest.fixture(scope="session")
def rest_dsn(adapter_dsn: str) -> str:
    """The same server over HTTP."""
    scheme, _, rest = adapter_dsn.partition("://")
    return f"{'https' if scheme.endswith('wss') else 'http'}://{rest}"


@pytest.fixture(scope="session", params=["websocket", "native"])
def road(request: pytest.FixtureRequest) -> str:
    """The road that a test takes; every one takes both, one after the other."""
    value: str = request.param
    return value


@pytest.fixture(scope="session")
def dsn(road: str, request: pytest.FixtureRequest) -> str:
    """The server over the road of the test."""
    value: str = request.getfixturevalue("native_dsn" if road == "native" else "adapter_dsn")
    return value


@pytest.fixture
async def connect(dsn: str) -> AsyncIterator[Connect]:
    """Opens connections; arguments as those of ``aiotaos.connect``; closed after the test."""
    async with AsyncExitStack() as stack:

        async def open_connection(**options: Any) -> Connection[Any]:
            return await stack.enter_async_context(aiotaos.connect(dsn, **options))

        yield open_connection


@pytest.fixture
async def make_database(dsn: str) -> AsyncIterator[Database]:
    """Makes databases with names that nobody else has; dropped after the test."""
    made: list[str] = []
    async with aiotaos.connect(dsn) as conn:

        async def make(precision: str = "ms") -> str:
            name = f"aiotaos_live_{secrets.token_hex(6)}"
            made.append(name)
            await conn.execute(
                f"create database {name} vgroups 1 keep 36500 precision '{precision}'"
            )
            return name

        yield make
    async with aiotaos.connect(dsn) as conn:  # the first one may be gone by now
        for name in made:
            await conn.execute(f"drop database if exists {name}")


@pytest.fixture
async def database(make_database: Database) -> str:
    """A database of milliseconds."""
    return await make_database()


@pytest.fixture
async def conn(connect: Connect, database: str) -> Connection[Any]:
    """A connection with ``database`` as the current one, in UTC."""
    return await connect(database=database, timezone="UTC")


@pytest.fixture
def until() -> Callable[..., Awaitable[Any]]:
    """Asks again until the answer is true; for what the server tells only by and by."""

    async def wait(ask: Callable[[], Awaitable[Any]], *, seconds: float = 30) -> Any:
        async with asyncio.timeout(seconds):
            while not (answer := await ask()):  # noqa: ASYNC110 - the server has no event
                await asyncio.sleep(0.1)
        return answer

    return wait


@pytest.fixture
def numbers() -> Callable[..., Awaitable[None]]:
    """Makes a table ``(ts, v int, text nchar(20))`` of many rows; v is 0, 1, 2, ..."""

    async def make(conn: Connection[Any], table: str, rows: int) -> None:
        await conn.execute(f"create table {table} (ts timestamp, v int, text nchar(20))")
        written = 0
        for start in range(0, rows, 10_000):
            batch = range(start, min(start + 10_000, rows))
            texts = (f"'row {v}'" if v % 7 else "null" for v in batch)
            values = (
                f"({1_700_000_000_000 + v},{v},{text})"
                for v, text in zip(batch, texts, strict=True)
            )
            written += await conn.execute(f"insert into {table} values {' '.join(values)}")
        assert written == rows

    return make


class SlowQuery:
    """A statement that runs for a minute or more if it is not stopped."""

    sql = SLOW

    def __init__(self, conn: Connection[Any], until: Callable[..., Awaitable[Any]]) -> None:
        self._conn = conn
        self._until = until
        self._ids = count(secrets.randbits(61) + 1)
        self._used: list[int] = []

    def req_id(self) -> int:
        """A request id under which it can be found."""
        self._used.append(next(self._ids))
        return self._used[-1]

    async def found(self, req_id: int) -> str | None:
        """The server's id of the running statement, None if it does not run."""
        return await self._conn.fetchval(
            f"select kill_id from performance_schema.perf_queries where query_id = {req_id}"
        )

    async def kill(self, req_id: int) -> None:
        """Stop it as soon as the server knows that it runs."""
        kill_id = await self._until(lambda: self.found(req_id))
        await self._conn.execute(f"kill query '{kill_id}'")
        self.forget(req_id)

    def forget(self, req_id: int) -> None:
        """It has ended."""
        self._used.remove(req_id)

    async def stop(self) -> None:
        """Stop all that still run."""
        for req_id in [*self._used]:
            await self.kill(req_id)


@pytest.fixture
async def slow(
    connect: Connect, database: str, until: Callable[..., Awaitable[Any]]
) -> AsyncIterator[SlowQuery]:
    """A slow statement on the tables of ``database``: 300 to the third power, 400 times."""
    conn = await connect(database=database)
    await conn.execute("create stable slow (ts timestamp, v int) tags (g int)")
    moments = " ".join(f"({1_700_000_000_000 + v},{v})" for v in range(400))
    for start in range(0, 300, 50):
        await conn.execute(
            "insert into "
            + " ".join(
                f"slow{g} using slow tags ({g}) values {moments}" for g in range(start, start + 50)
            )
        )
    query = SlowQuery(conn, until)
    yield query
    await query.stop()


def ticks(value: Any, precision: Precision) -> int:
    """A TIMESTAMP, in whatever form a client gives it, as ticks."""
    if isinstance(value, int):
        return value
    fraction = ""
    if isinstance(value, str):  # as 2024-03-01T00:00:00.123456789Z; a datetime has no ns
        head, _, tail = value.partition(".")
        fraction = tail[: len(tail) - len(tail.lstrip("0123456789"))]
        value = datetime.fromisoformat(head + tail[len(fraction) :].replace("Z", "+00:00"))
    assert isinstance(value, datetime)
    per_second = precision.ticks_per_second
    seconds, rest = divmod(value - EPOCH, timedelta(seconds=1))
    micro = rest // timedelta(microseconds=1)
    part = int(fraction.ljust(9, "0")) * per_second if fraction else micro * 1000 * per_second
    return seconds * per_second + part // 1_000_000_000


def neutral(value: Any, type: TypeCode, precision: Precision, json_text: bool) -> Any:
    """A value in a form that does not depend on the client."""
    if value is None:
        return None
    match type:
        case TypeCode.TIMESTAMP:
            return ticks(value, precision)
        case TypeCode.FLOAT:
            return float(np.float32(value))
        case TypeCode.DECIMAL | TypeCode.DECIMAL64:
            return Decimal(value).as_tuple()
        case TypeCode.JSON:
            return json.loads(value) if json_text else value
        case TypeCode.VARBINARY | TypeCode.BLOB | TypeCode.GEOMETRY:
            return bytes.fromhex(value) if isinstance(value, str) else bytes(value)
    return value


def neutral_rows(
    rows: Sequence[Sequence[Any]],
    types: Sequence[TypeCode],
    precision: Precision,
    *,
    json_text: bool = True,
) -> list[tuple[Any, ...]]:
    """Rows in a form that does not depend on the client.

    Args:
        rows: The rows.
        types: Their types.
        precision: Unit of the TIMESTAMPs.
        json_text: Whether JSON is still text; the REST road has it parsed.
    """
    return [
        tuple(
            neutral(value, type, precision, json_text)
            for value, type in zip(row, types, strict=True)
        )
        for row in rows
    ]


@pytest.fixture(name="neutral_rows")
def _neutral_rows() -> Callable[..., list[tuple[Any, ...]]]:
    return neutral_rows


def ask_taosws(taosws: Any, dsn: str, database: str, sql: str) -> list[Any]:
    cursor = taosws.connect(dsn).cursor()
    cursor.execute(f"use {database}")
    cursor.execute(sql)
    return list(cursor.fetchall())


def ask_taosrest(taosrest: Any, dsn: str, database: str, sql: str) -> list[Any]:
    options = aiotaos.Options.make(dsn)
    client = taosrest.connect(
        url=f"{'https' if options.tls else 'http'}://{options.addresses[0]}",
        user=options.user,
        password=options.password,
        database=database,
        convert_timestamp=False,
    )
    return list(client.query(sql).data)


@pytest.fixture(params=["taosws", "taosrest"])
def official(request: pytest.FixtureRequest, adapter_dsn: str) -> Callable[..., Awaitable[None]]:
    """Asserts that an official client reads the same rows over its own road."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        module = pytest.importorskip(request.param)
    ask = {"taosws": ask_taosws, "taosrest": ask_taosrest}[request.param]

    async def compare(conn: Connection[Any], database: str, sql: str) -> None:
        result = await conn.query(sql)
        types = [field.type for field in result.fields]
        ours = neutral_rows(await result.fetchall(), types, result.precision)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows = await asyncio.to_thread(ask, module, adapter_dsn, database, sql)
        json_text = module.__name__ != "taosrest"
        assert neutral_rows(rows, types, result.precision, json_text=json_text) == ours
        assert ours, "there is something to compare"

    return compare

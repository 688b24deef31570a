"""The continuous subscription of 2.x, on the stand-in."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

import aiotaos
from aiotaos import (
    ConnectionLost,
    ContinuousSubscription,
    Error,
    Field,
    InterfaceError,
    NotSupportedError,
    ProgrammingError,
    TimeoutError,
    TypeCode,
)
from aiotaos.protocol.encode import encode_block
from tests.native.conftest import Native, _native, native_threads
from tests.native.standin import Standin, generated
from tests.native.test_native_queries import until

Subscribe = Callable[..., Awaitable[ContinuousSubscription]]

V = [Field("ts", TypeCode.TIMESTAMP, 8), Field("v", TypeCode.BIGINT, 8)]
SQL = "select * from t"


@pytest.fixture
async def native_2x(standin_2x: Standin, open_port: int, clean: None) -> AsyncIterator[Native]:
    """Connections over the library of 2.6; after the test nothing is left of them."""
    async for each in _native(standin_2x, open_port):
        yield each


@pytest.fixture
async def conn(native_2x: Native) -> aiotaos.Connection[Any]:
    return await native_2x.connect(timezone="UTC")


def subscribing(conn: aiotaos.Connection[Any]) -> Subscribe:
    async def made(
        restart: bool = False,
        topic: str = "topic",
        sql: str = SQL,
        interval: int = 1,
        *,
        timeout: float = 5,
    ) -> ContinuousSubscription:
        return await conn.subscribe(restart, topic, sql, interval, timeout=timeout)

    return made


@pytest.fixture
def make(conn: aiotaos.Connection[Any]) -> Subscribe:
    return subscribing(conn)


def answer(standin: Standin, *values: list[int]) -> None:
    """What the statement brings, an interval at a time."""
    standin.answer(SQL, V, [encode_block(V, [each, each]) for each in values])


def taken(block: Any) -> list[int]:
    return [row[1] for row in block.rows()]


async def test_rows(native_2x: Native, make: Subscribe) -> None:
    answer(native_2x.standin, [1, 2], [3])
    async with await make() as sub:
        assert repr(sub) == "<ContinuousSubscription 'topic'>"
        block = await sub.consume()
        assert block.rows() == [
            (datetime(1970, 1, 1, 0, 0, 0, 1000 * v, tzinfo=UTC), v) for v in (1, 2)
        ]
        assert block.fields == tuple(V)
        assert taken(await sub.consume()) == [3]
        assert len(await sub.consume()) == 0
    assert sub.closed
    await sub.close()
    assert not [name for name in native_threads() if "subscription" in name]


async def test_every_type(make: Subscribe) -> None:
    sub = await make(sql="select * from t /* rows=15 cols=5 block=10 */", interval=1)
    found = [row for block in (await sub.consume(), await sub.consume()) for row in block.rows()]
    assert [row[1:] for row in found] == [row[1:] for row in generated(15, 5)]
    await sub.close()


async def test_iteration(native_2x: Native, make: Subscribe) -> None:
    answer(native_2x.standin, [1], [], [2])
    sub = await make()
    found: list[int] = []
    async for block in sub:
        found += taken(block)
        if len(found) == 2:
            break
    assert found == [1, 2]
    following = asyncio.create_task(anext(aiter(sub), None))
    await asyncio.sleep(0)
    await sub.close()
    assert await following is None


@pytest.mark.parametrize("keep", [True, False])
async def test_keep_progress(native_2x: Native, make: Subscribe, keep: bool) -> None:
    answer(native_2x.standin, [1], [2], [3])
    sub = await make()
    assert taken(await sub.consume()) == [1]
    await sub.close(keep)
    sub = await make()
    assert taken(await sub.consume()) == ([2] if keep else [1])
    await sub.close()
    sub = await make(restart=True)
    assert taken(await sub.consume()) == [1]
    await sub.close()


async def test_what_is_read_for_nobody_comes_next(native_2x: Native, make: Subscribe) -> None:
    answer(native_2x.standin, [1], [2])
    sub = await make()
    native_2x.standin.rule("taos_consume", hold=True)
    task = asyncio.create_task(sub.consume())
    await until(lambda: native_2x.standin.count("held") == 1)
    with pytest.raises(InterfaceError, match="another task"):
        await sub.consume()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(TimeoutError, match=r"no rows within 0\.02 s"):
        await sub.consume(timeout=0.02)
    native_2x.standin.release("taos_consume")
    assert taken(await sub.consume()) == [1]
    assert taken(await sub.consume()) == [2]
    await sub.close()


async def test_closed_while_it_waits(native_2x: Native, make: Subscribe) -> None:
    answer(native_2x.standin, [1])
    sub = await make()
    native_2x.standin.rule("taos_consume", hold=True)
    task = asyncio.create_task(sub.consume())
    await until(lambda: native_2x.standin.count("held") == 1)
    await sub.close(timeout=0.01)
    with pytest.raises(InterfaceError, match="closed during the call"):
        await task
    with pytest.raises(InterfaceError, match="is closed"):
        await sub.consume()
    assert native_2x.standin.count("subscriptions") == 1
    native_2x.standin.release("taos_consume")
    await until(lambda: native_2x.standin.count("subscriptions") == 0)


async def test_errors(native_2x: Native, make: Subscribe) -> None:
    native_2x.standin.refuse(SQL, 0x0362, "no such table")
    sub = await make()
    with pytest.raises(Error, match="no such table") as caught:
        await sub.consume()
    assert (caught.value.code, caught.value.sql) == (0x0362, SQL)
    answer(native_2x.standin, [1])
    await sub.close()
    with pytest.raises(ProgrammingError):
        await make(sql="insert into t values (now, 1)")
    native_2x.standin.rule("taos_subscribe", code=0x0118)
    with pytest.raises(Error, match="0x0118"):
        await make()
    wrongs = [{"interval": wrong} for wrong in (0, 0.5, "1")]
    wrongs += [{"topic": wrong} for wrong in ("", b"a", "a\0")]
    for wrong in (*wrongs, {"sql": "select\0"}):
        with pytest.raises(InterfaceError):
            await make(**wrong)


async def test_a_connection_that_ends(
    native_2x: Native, conn: aiotaos.Connection[Any], make: Subscribe
) -> None:
    sub = await make()
    await conn.close()
    with pytest.raises(InterfaceError, match="closed"):
        await sub.consume()
    assert native_2x.standin.count("connections") == 1  # it is in use
    await sub.close()
    assert native_2x.standin.left() == {}


async def test_a_connection_that_is_lost(native_2x: Native, make: Subscribe) -> None:
    sub = await make()
    native_2x.standin.rule("taos_consume", code=0x000B)
    with pytest.raises(ConnectionLost):
        await sub.consume()
    with pytest.raises(ConnectionLost):
        await sub.consume()
    await sub.close()


async def test_nobody_closes_it(native_2x: Native, make: Subscribe) -> None:
    sub = await make()
    with pytest.warns(ResourceWarning, match="unclosed"):  # noqa: PT031
        del sub
        gc.collect()
    await until(lambda: native_2x.standin.count("subscriptions") == 0)


async def test_subscribing_takes_too_long(native_2x: Native, make: Subscribe) -> None:
    native_2x.standin.rule("taos_subscribe", hold=True)
    with pytest.raises(TimeoutError):
        await make(timeout=0.02)
    native_2x.standin.release("taos_subscribe")
    await until(lambda: native_2x.standin.count("subscriptions") == 0)


async def test_libraries_without_it(native: Native) -> None:
    with pytest.raises(NotSupportedError, match=r"3\.3\.7\.0 .* aiotaos.Consumer"):
        await subscribing(await native.connect())()


async def test_other_roads(server: Any) -> None:
    async with aiotaos.connect(server.dsn) as conn:
        with pytest.raises(NotSupportedError, match=r"aiotaos\.Consumer"):
            await conn.subscribe(True, "topic", SQL, 1000)
    with pytest.raises(InterfaceError, match="is closed"):
        await conn.subscribe(True, "topic", SQL, 1000)


async def test_a_lost_connection_is_opened_again(
    native_2x: Native, conn: aiotaos.Connection[Any], make: Subscribe
) -> None:
    answer(native_2x.standin, [1])
    conn._session.transport.drop(OSError("gone"))
    sub = await make()
    assert taken(await sub.consume()) == [1]
    await sub.close()


async def test_over_a_pool(native_2x: Native) -> None:
    answer(native_2x.standin, [1])
    async with aiotaos.create_pool(native_2x.dsn(), max_size=1) as pool, pool.acquire() as conn:
        sub = await conn.subscribe(True, "topic", SQL, 1)
        assert isinstance(sub, ContinuousSubscription)
        assert taken(await sub.consume()) == [1]
        await sub.close()

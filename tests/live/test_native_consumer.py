"""Subscriptions over the native road, at a real server given by AIOTAOS_TEST_NATIVE_DSN.

``test_consumer.py`` runs over it as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from aiotaos import AuthenticationError, Consumer, DatabaseError, Message, MessageKind, TmqError

T0 = 1709251200000
ROWS = 100_000
MakeTopic = Callable[[str], Awaitable[str]]
Make = Callable[..., Consumer]


@pytest.fixture(scope="session")
def dsn(native_dsn: str) -> str:
    """The server; this road alone."""
    return native_dsn


@pytest.fixture
async def conn(connect: Any, make_database: Any) -> Any:
    """A connection, with a super table in a database of its own of two vgroups."""
    name = await make_database()
    conn = await connect(timezone="UTC")
    await conn.execute(f"drop database {name}")
    await conn.execute(f"create database {name} vgroups 2 keep 36500")
    await conn.execute(f"use {name}")
    await conn.execute("create stable s (ts timestamp, v int, n nchar(8)) tags (t int)")
    return conn


@pytest.fixture
async def make_topic(conn: Any) -> AsyncIterator[MakeTopic]:
    """Makes topics with names that nobody else has; dropped after the test."""
    made: list[str] = []

    async def make(definition: str) -> str:
        made.append(f"aiotaos_live_{secrets.token_hex(6)}")
        await conn.execute(f"create topic {made[-1]} {definition}")
        return made[-1]

    yield make
    async with asyncio.timeout(10):
        for name in made:
            while True:
                with contextlib.suppress(DatabaseError):  # its last consumer has just gone
                    await conn.execute(f"drop topic if exists {name}")
                    break
                await asyncio.sleep(0.2)


@pytest.fixture
async def make(dsn: str, make_topic: MakeTopic) -> AsyncIterator[Make]:
    """Make consumers of one group, closed before their topics are dropped."""
    group = f"g{secrets.token_hex(6)}"
    async with AsyncExitStack() as stack:

        def consumer(**options: Any) -> Consumer:
            given = {"group_id": group, "auto_offset_reset": "earliest", "timezone": "UTC"}
            made = Consumer(dsn, **(given | options))
            stack.push_async_callback(made.close)
            return made

        yield consumer
    async with asyncio.timeout(10):  # those that could not subscribe end by themselves
        while any("native-consumer" in each.name for each in threading.enumerate()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def write(conn: Any, *values: int) -> None:
    """A row in a table for each value, of several tables in both vgroups."""
    for v in values:
        table = f"t{v % 5} using s tags ({v % 5})"
        await conn.execute(f"insert into {table} values ({T0 + v}, {v}, 'é😀{v}')")


async def take(consumer: Consumer, count: int) -> list[Message]:
    """The messages that have so many rows."""
    found: list[Message] = []
    async with asyncio.timeout(20):
        while sum(map(len, found)) < count:
            message = await consumer.poll(15)
            assert message is not None, f"nothing more after {found}"
            found.append(message)
    return found


def values(messages: list[Message]) -> list[int]:
    return sorted(row[1] for message in messages for row in message.rows())


@pytest.mark.parametrize("kind", ["query", "stable", "database"])
async def test_topics(conn: Any, make: Make, make_topic: MakeTopic, kind: str) -> None:
    definition = {
        "query": "as select ts, v, n from s",
        "stable": "as stable s",
        "database": f"as database {conn.database}",
    }
    topic = await make_topic(definition[kind])
    await write(conn, *range(10))
    consumer = make()
    await consumer.subscribe(topic)
    messages = await take(consumer, 10)
    assert values(messages) == list(range(10))
    for message in messages:
        assert (message.topic, message.database) == (topic, conn.database)
        assert message.kind is MessageKind.DATA
        for block in message:
            assert (block.table is None) is (kind == "query")
            assert [field.name for field in block.fields] == ["ts", "v", "n"]
            for ts, v, n in block.rows():
                assert (ts.timestamp() * 1000, n) == (T0 + v, f"é😀{v}")
                assert block.table in (None, f"t{v % 5}")
    assert await consumer.list_topics() == [topic]


async def test_with_meta(conn: Any, make: Make, make_topic: MakeTopic) -> None:
    topic = await make_topic(f"with meta as database {conn.database}")
    await write(conn, *range(5))
    await conn.execute("alter table s add column w int")
    consumer = make()
    await consumer.subscribe(topic)
    created: set[str] = set()
    altered, rows = 0, 0
    async with asyncio.timeout(20):
        while rows < 5 or not altered:
            message = await consumer.poll(15)
            assert message is not None
            rows += len(message)
            for meta in message.metas:
                altered += meta["type"] == "alter"
                each: Any = meta.get("createList") or [meta]
                if meta["type"] == "create":
                    created |= {one["tableName"] for one in each}
    assert created == {"s", *(f"t{each}" for each in range(5))}


async def test_commit_and_go_on(conn: Any, make: Make, make_topic: MakeTopic) -> None:
    topic = await make_topic("as stable s")
    await write(conn, *range(10))
    first = make(enable_auto_commit=False, min_poll_rows=1)
    await first.subscribe(topic)
    seen = await take(first, 6)
    await first.commit()
    behind = await first.position()
    read = {message.place for message in seen}
    assert await first.committed(read) == {place: behind[place] for place in read}
    await first.close()
    second = make(enable_auto_commit=False)
    await second.subscribe(topic)
    rest = await take(second, 10 - sum(map(len, seen)))
    assert values(seen + rest) == list(range(10))


async def test_positions(conn: Any, make: Make, make_topic: MakeTopic) -> None:
    topic = await make_topic("as select ts, v from s")
    await write(conn, *range(10))
    consumer = make()
    await consumer.subscribe(topic)
    assert {topic} == {name for name, _ in await consumer.wait_assigned(15)}
    await take(consumer, 10)
    assert set((await consumer.lag()).values()) == {0}
    await consumer.seek_to_beginning()
    assert values(await take(consumer, 10)) == list(range(10))
    await consumer.seek_to_end()
    await write(conn, 10)
    assert values(await take(consumer, 1)) == [10]
    (vgroup, *_) = {vgroup for _, vgroup in await consumer.assignment()}
    with pytest.raises(TmqError) as caught:
        await consumer.seek(topic, vgroup, 10**6)
    assert caught.value.code == 0x4007


async def test_members_of_a_group(conn: Any, make: Make, make_topic: MakeTopic) -> None:
    topic = await make_topic("as select ts, v from s")
    pair = make(), make()
    await asyncio.gather(*(each.subscribe(topic) for each in pair))
    async with asyncio.timeout(20):
        while not all([await each.assignment() for each in pair]):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    parts = [await each.assignment() for each in pair]
    assert not parts[0] & parts[1]
    await write(conn, *range(10))
    found: list[int] = []
    async with asyncio.timeout(20):
        while len(found) < 10:
            for each in pair:
                message = await each.poll(0.2)
                found += [] if message is None else values([message])
    assert sorted(found) == list(range(10))


async def test_many_rows(conn: Any, make: Make, make_topic: MakeTopic) -> None:
    topic = await make_topic("as select ts, v from s")
    for start in range(0, ROWS, 10_000):
        rows = " ".join(f"({T0 + v}, {v}, null)" for v in range(start, start + 10_000))
        table = f"t{start // 10_000}"
        await conn.execute(f"insert into {table} using s tags (0) values {rows}")
    consumer = make()
    await consumer.subscribe(topic)
    assert values(await take(consumer, ROWS)) == list(range(ROWS))


async def test_refusals(make: Make) -> None:
    with pytest.raises(TmqError) as caught:
        await make().subscribe("aiotaos_no_such_topic")
    assert caught.value.code == 0x03E1
    with pytest.raises(AuthenticationError):
        await make(password="wrong").subscribe("aiotaos_no_such_topic")

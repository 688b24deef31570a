"""Subscriptions at a real server."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from datetime import UTC, datetime, timedelta

import pytest

import aiotaos
from aiotaos import (
    AuthenticationError,
    ConnectionError,
    Consumer,
    DatabaseError,
    MessageKind,
    TmqError,
)
from tests.live import links
from tests.trouble import Proxy

T0 = 1709251200000
START = datetime(2024, 3, 1, tzinfo=UTC)


@pytest.fixture
async def conn(connect, database):
    conn = await connect(database=database, timezone="UTC")
    await conn.execute("create stable s (ts timestamp, v int) tags (t int)")
    return conn


@pytest.fixture
async def make_topic(conn, until):
    """Makes topics with names that nobody else has; dropped after the test."""
    made = []

    async def make(definition):
        made.append(f"aiotaos_live_{secrets.token_hex(6)}")
        await conn.execute(f"create topic {made[-1]} {definition}")
        return made[-1]

    async def dropped(name):
        with contextlib.suppress(DatabaseError):  # its last consumer has just gone
            await conn.execute(f"drop topic if exists {name}")
            return True

    yield make
    for name in made:
        await until(lambda name=name: dropped(name))


@pytest.fixture
async def make(dsn, make_topic):
    """Make consumers of a group that nobody else has; closed before their topics are dropped."""
    made = []
    group = f"g{secrets.token_hex(6)}"

    def consumer(source=None, **options):
        given = {"group_id": group, "auto_offset_reset": "earliest", "timezone": "UTC"}
        made.append(Consumer(source or dsn, **given | options))
        return made[-1]

    yield consumer
    for one in made:
        await one.close()


@pytest.fixture
def write(conn):
    async def insert(*values, table="a"):
        for v in values:
            await conn.execute(f"insert into {table} using s tags (1) values ({T0 + v}, {v})")

    return insert


def values(messages):
    return [row[1] for message in messages for row in message.rows()]


async def take(consumer, count):
    """Messages, until they have so many rows."""
    found = []
    async with asyncio.timeout(30):
        while sum(map(len, found)) < count:
            found += await consumer.getmany(5)
    return found


async def test_reading(conn, database, make, make_topic, write):
    topic = await make_topic("as select ts, v, tbname from s where v > 0")
    await write(0, 1, 2)
    async with make() as consumer:
        await consumer.subscribe(topic)
        (place,) = await consumer.wait_assigned()
        assert place[0] == topic
        messages = await take(consumer, 2)
        assert [row for one in messages for row in one.rows()] == [
            (START + timedelta(milliseconds=1), 1, "a"),
            (START + timedelta(milliseconds=2), 2, "a"),
        ]
        message = messages[0]
        assert (message.topic, message.database) == (topic, database)
        assert (message.place, message.kind) == (place, MessageKind.DATA)
        assert [field.name for field in message.blocks[0].fields] == ["ts", "v", "tbname"]
        assert message.end > message.offset == 0
        assert await consumer.list_topics() == [topic]
        task = asyncio.ensure_future(consumer.poll(20))
        await write(3)
        assert values([await task]) == [3]


async def test_tables_with_schemas_of_their_own(conn, make, make_topic, write):
    topic = await make_topic(f"as database {conn.database}")
    await conn.execute("create table plain (ts timestamp, name nchar(8), d double)")
    await conn.execute(f"insert into plain values ({T0}, '涛思', 1.5)")
    await write(1)
    await conn.execute("alter table s add column w bool")
    await conn.execute(f"insert into a values ({T0 + 2}, 2, true)")
    async with make() as consumer:
        await consumer.subscribe(topic)
        blocks = [block for one in await take(consumer, 3) for block in one]
    assert sorted(
        (block.table, [field.name for field in block.fields], block.rows()) for block in blocks
    ) == [
        ("a", ["ts", "v"], [(START + timedelta(milliseconds=1), 1)]),
        ("a", ["ts", "v", "w"], [(START + timedelta(milliseconds=2), 2, True)]),
        ("plain", ["ts", "name", "d"], [(START, "涛思", 1.5)]),
    ]


async def test_changes_of_tables(conn, make, make_topic, write):
    topic = await make_topic("with meta as stable s")
    await write(1)
    await conn.execute("alter table s add column w double")
    async with make() as consumer:
        await consumer.subscribe(topic)
        messages = []
        async with asyncio.timeout(30):
            while not any(
                meta.get("colName") == "w" for message in messages for meta in message.metas
            ):
                messages += await consumer.getmany(5)
    metas = [meta for message in messages for meta in message.metas]
    assert ("create", "a") in [(meta["type"], meta.get("tableName")) for meta in metas]
    assert metas[-1]["type"] == "alter"
    assert metas[-1]["tableName"] == "s"
    assert {message.kind for message in messages} <= set(MessageKind)
    assert values(messages) == [1]


async def test_commit_and_restart(make, make_topic, write):
    topic = await make_topic("as stable s")
    await write(*range(6))
    async with make(min_poll_rows=1) as consumer:
        await consumer.subscribe(topic)
        messages = await take(consumer, 6)
        assert values(messages) == [0, 1, 2, 3, 4, 5]
        (place,) = await consumer.assignment()
        assert await consumer.committed() == {place: None}
        await consumer.commit(messages[2])
        assert await consumer.committed() == {place: messages[2].end}
        assert await consumer.position() == {place: messages[5].end}
        await consumer.close(commit=False)
    async with make(min_poll_rows=1) as consumer:
        await consumer.subscribe(topic)
        assert values(await take(consumer, 3)) == [3, 4, 5]
        await consumer.close(commit=True)
    await write(6)
    async with make() as consumer:
        await consumer.subscribe(topic)
        assert values(await take(consumer, 1)) == [6]


async def test_seek(make, make_topic, write):
    topic = await make_topic("as stable s")
    await write(1, 2, 3)
    async with make(min_poll_rows=1) as consumer:
        await consumer.subscribe(topic)
        first, second, _ = await take(consumer, 3)
        (place,) = await consumer.assignment()
        await consumer.seek(*place, second.offset)
        assert values(await take(consumer, 2)) == [2, 3]
        await consumer.seek_to_beginning()
        assert values(await take(consumer, 3)) == [1, 2, 3]
        await consumer.seek(*place, first.end)
        assert (await consumer.lag())[place] > 0
        await consumer.seek_to_end()
        assert (await consumer.lag())[place] == 0
        await write(4)
        assert values(await take(consumer, 1)) == [4]
        with pytest.raises(TmqError) as raised:
            await consumer.seek(*place, 10**9)
        assert raised.value.code == 0x4007


async def test_auto_commit(make, make_topic, write, until):
    topic = await make_topic("as stable s")
    await write(1, 2)
    async with make(min_poll_rows=1, auto_commit_interval_ms=1) as consumer:
        await consumer.subscribe(topic)
        first, second = [await consumer.poll(10) for _ in range(2)]

        async def committed():
            return (await consumer.committed())[second.place]

        assert await until(committed) == first.end
        assert await consumer.poll(0.01) is None
        await until(lambda: is_equal(committed, second.end))


async def is_equal(ask, value):
    return await ask() == value


async def test_an_insert_that_is_cut(conn, make, make_topic):
    """A query's messages end in the middle of an INSERT; what is committed does not."""
    topic = await make_topic("as select ts, v from s")
    rows = [f"c{v} using s tags ({v}) values ({T0 + v}, {v})" for v in range(8)]
    await conn.execute(f"insert into {' '.join(rows)}")
    found = []
    for count in (3, 2, 8):
        async with make(min_poll_rows=1) as consumer:
            await consumer.subscribe(topic)
            for _ in range(count):
                message = await consumer.poll(3)
                if message is not None:
                    found += values([message])
            await consumer.close(commit=True)
    assert sorted(set(found)) == list(range(8)), "no gap"


async def test_an_insert_that_is_cut_by_time(conn, make, make_topic):
    """The server ends a message after ``fetch.max.wait.ms``, too, however few rows it has."""
    topic = await make_topic("as select ts, v from s")
    tables = 3000
    for start in range(0, tables, 500):
        made = (f"c{v} using s tags ({v})" for v in range(start, start + 500))
        await conn.execute(f"create table {' '.join(made)}")
    rows = (f"c{v} values ({T0}, {v})" for v in range(tables))
    await conn.execute(f"insert into {' '.join(rows)}")
    async with make(fetch_max_wait_ms=1) as consumer:
        await consumer.subscribe(topic)
        message = await consumer.poll(10)
        await consumer.commit(message)
        await consumer.close(commit=False)
    found = {*values([message])}
    async with make() as consumer:
        await consumer.subscribe(topic)
        while (message := await consumer.poll(3)) is not None:
            found |= {*values([message])}
    assert tables - len(found) == 0, "no gap"


@pytest.fixture
async def pair(connect, make_topic, make, until):
    """A topic of two vgroups, its database, and two members that read one of them each."""
    name = f"aiotaos_live_{secrets.token_hex(6)}"
    conn = await connect(timezone="UTC")
    await conn.execute(f"create database {name} vgroups 2")
    await conn.execute(f"create stable {name}.s (ts timestamp, v int) tags (t int)")
    topic = await make_topic(f"as stable {name}.s")
    first, second = make(), make()
    await first.subscribe(topic)
    assert len(await first.wait_assigned()) == 2
    await second.subscribe(topic)
    (theirs,) = await second.wait_assigned()
    await until(lambda: has(first, 1))
    assert await first.assignment() != {theirs}
    for v in range(20):
        await conn.execute(f"insert into {name}.t{v} using {name}.s tags (1) values (now, {v})")
    yield first, second
    await first.close()
    await second.close()
    await conn.execute(f"drop topic if exists force {topic}")
    await conn.execute(f"drop database {name}")


async def has(consumer, vgroups):
    return len(await consumer.assignment()) == vgroups


async def read_both(first, second):
    found = []
    async with asyncio.timeout(30):
        while len(found) < 20:
            found += values([*await first.getmany(1), *await second.getmany(1)])
    return found


async def test_members_of_a_group(pair, until):
    first, second = pair
    assert sorted(await read_both(first, second)) == list(range(20))
    await second.commit()
    await first.close(commit=True)
    await until(lambda: has(second, 2))
    assert await second.poll(1) is None, "nothing comes twice"


async def test_commit_while_another_leaves(pair):
    first, second = pair
    await read_both(first, second)
    await first.close(commit=True)
    await second.commit()
    await second.close(commit=True)


@pytest.fixture
async def link(road, dsn):
    """A DSN, and what cuts the connections that are made with it."""
    address = aiotaos.Options.make(dsn).addresses[0]
    if road == "native":
        cuts = []
        yield dsn, lambda: cuts.append(links.cut(address.port))
        assert cuts[0] > 0
        return
    if address.host not in ("localhost", "127.0.0.1"):
        pytest.skip("the proxy needs a server on this machine")
    async with Proxy(address.port) as proxy:
        through = dsn.replace(f"{address.host}:{address.port}", f"127.0.0.1:{proxy.port}")
        yield through, lambda: proxy.cut(once=True)


async def test_a_cut_link(link, make, make_topic, write):
    through, cut = link
    topic = await make_topic("as stable s")
    await write(*range(5))
    async with make(through, min_poll_rows=1, retry_backoff_ms=1) as consumer:
        await consumer.subscribe(topic)
        message = await consumer.poll(10)
        assert values([message]) == [0]
        cut()
        await write(*range(5, 8))
        assert values(await take(consumer, 7)) == [1, 2, 3, 4, 5, 6, 7]
        await consumer.commit()


async def test_refusals(dsn, make, make_topic):
    consumer = make()
    with pytest.raises(TmqError) as raised:
        await consumer.subscribe("aiotaos_live_nosuch")
    assert raised.value.code == 0x03E1
    with pytest.raises((AuthenticationError, TmqError)) as refused:
        await make(password="geheim").subscribe("aiotaos_live_nosuch")
    assert "geheim" not in str(refused.value)
    topic = await make_topic("as stable s")
    await consumer.subscribe(topic)
    assert consumer.state == "subscribed"
    with pytest.raises(TmqError, match=r"nosuch\.key"):
        await make({"group.id": "g", "nosuch.key": "1"}, host="127.0.0.1").subscribe(topic)


async def test_time_outs_and_the_end(make, make_topic, write):
    topic = await make_topic("as stable s")
    consumer = make()
    await consumer.subscribe(topic)
    assert await consumer.poll(0) is None
    assert await consumer.poll(0.05) is None
    with pytest.raises((aiotaos.TimeoutError, ConnectionError)):
        await consumer.list_topics(timeout=0.000001)
    task = asyncio.ensure_future(consumer.poll(60))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await write(1)
    assert values(await take(consumer, 1)) == [1]
    ended = asyncio.ensure_future(anext(aiter(consumer), None))
    await asyncio.sleep(0)
    await consumer.unsubscribe()
    assert await ended is None
    await consumer.subscribe(topic)
    assert consumer.subscription() == [topic]

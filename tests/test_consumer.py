"""Consumer, against the embedded server over real sockets."""

from __future__ import annotations

import asyncio
import builtins
import gc
import logging
import threading
from datetime import UTC, datetime, timedelta

import pytest

import aiotaos
from aiotaos import (
    ConnectionError,
    Consumer,
    Error,
    InterfaceError,
    Message,
    MessageKind,
    TimeoutError,
    TmqError,
)
from aiotaos.embedded import Server
from tests.subscribing import Polled, Subscriptions
from tests.trouble import Proxy

T0 = 1709251200000
START = datetime(2024, 3, 1, tzinfo=UTC)
QUICK = {"conn_retries": 3, "retry_backoff_ms": 1, "retry_backoff_max_ms": 4}
EACH = {"min_poll_rows": 1}  # a message for each INSERT


@pytest.fixture
def fake(server):
    """The server of tests, which says what it is told; its messages of a topic on a query."""
    return server


@pytest.fixture
async def embedded(clean):
    async with Server() as server:
        yield server


@pytest.fixture
async def sql(embedded):
    """Run statements; there is a super table in a database of one vgroup."""
    async with aiotaos.connect(embedded.dsn) as conn:

        async def run(*statements):
            for statement in statements:
                await conn.execute(statement)

        await run(
            "create database d vgroups 1",
            "create stable d.s (ts timestamp, v int) tags (t int)",
            "create topic q as select ts, v from d.s",
            "create topic s as stable d.s",
        )
        yield run


@pytest.fixture
async def two(sql):
    """Another database, of two vgroups, with a topic ``w``: t0 in the first, t2 in the second."""
    await sql(
        "create database e vgroups 2",
        "create stable e.s (ts timestamp, v int) tags (t int)",
        "create topic w as stable e.s",
        "create table e.t0 using e.s tags (0)",
        "create table e.t2 using e.s tags (2)",
    )

    async def write(*values):
        """Even numbers into the one vgroup, odd ones into the other."""
        for v in values:
            await sql(f"insert into e.t{v % 2 * 2} values ({T0 + v}, {v})")

    return write


@pytest.fixture
def write(sql):
    async def insert(*values, table="t0"):
        """An INSERT for each value."""
        for v in values:
            await sql(f"insert into d.{table} using d.s tags (1) values ({T0 + v}, {v})")

    return insert


@pytest.fixture
async def make(embedded):
    """Make consumers, which begin at the earliest; closed after the test."""
    made = []

    def consumer(dsn=None, **options):
        given = {"group_id": "g", "auto_offset_reset": "earliest", "timezone": "UTC", **QUICK}
        made.append(Consumer(dsn or embedded.dsn, **given | options))
        return made[-1]

    yield consumer
    for one in made:
        await one.close(timeout=1)


@pytest.fixture
def subscribe(make, sql):
    async def subscribed(*topics, **options):
        consumer = make(**options)
        await consumer.subscribe(topics, timeout=5)
        return consumer

    return subscribed


@pytest.fixture
def turns(server_parts):
    return server_parts.turns


@pytest.fixture
async def proxy(embedded):
    async with Proxy(embedded.port) as proxy:
        yield proxy


def through(proxy):
    return f"ws://root:taosdata@127.0.0.1:{proxy.port}"


def values(*messages):
    return [row[1] for message in messages for row in message.rows()]


async def take(consumer, count):
    """The values of the next messages, until there are so many."""
    found = []
    async with asyncio.timeout(10):
        while len(found) < count:
            message = await consumer.poll(5)
            assert message is not None, f"nothing more after {found}"
            found += values(message)
    return found


async def nothing(consumer):
    return await consumer.poll(0.01) is None


# Subscribing.


async def test_subscribing(make, write):
    consumer = make()
    assert (consumer.group_id, consumer.state, consumer.closed) == ("g", "idle", False)
    assert consumer.subscription() == []
    assert consumer.last_poll is None
    assert repr(consumer) == "<Consumer of group 'g' idle>"
    await consumer.subscribe("q")
    assert (consumer.state, consumer.subscription()) == ("subscribed", ["q"])
    assert repr(consumer) == "<Consumer of group 'g' subscribed>"
    assert await consumer.list_topics() == ["q"]
    await write(1)
    message = await consumer.poll(5)
    assert values(message) == [1]
    assert abs(datetime.now(UTC) - consumer.last_poll) < timedelta(seconds=5)
    await consumer.subscribe(["s", "q"])
    assert consumer.subscription() == ["s", "q"]
    assert await consumer.list_topics() == ["q", "s"]
    await consumer.unsubscribe()
    assert (consumer.state, consumer.subscription()) == ("idle", [])
    await consumer.unsubscribe()
    await consumer.close()
    assert (consumer.state, consumer.closed) == ("closed", True)
    assert repr(consumer) == "<Consumer of group 'g' closed>"
    await consumer.close()


async def test_topics_by_any_iterable(make, sql):
    consumer = make()
    await consumer.subscribe(name for name in ("q", "s"))
    assert consumer.subscription() == ["q", "s"]


@pytest.mark.parametrize("topics", ["", [], [""], ["q", 5], [None]])
async def test_what_is_no_topic(make, topics):
    with pytest.raises(InterfaceError, match="topics: expected names of topics"):
        await make().subscribe(topics)


async def test_an_unknown_topic(make, sql, write):
    consumer = make()
    with pytest.raises(TmqError, match="Topic not exist") as raised:
        await consumer.subscribe(["q", "nosuch"])
    assert raised.value.code == 0x03E1
    assert raised.value.endpoint.startswith("ws://127.0.0.1:")
    assert consumer.state == "idle"
    await write(1)
    await consumer.subscribe("q")
    assert await take(consumer, 1) == [1]


async def test_an_unknown_topic_in_place_of_a_known_one(subscribe):
    consumer = await subscribe("q")
    with pytest.raises(TmqError):
        await consumer.subscribe("nosuch")
    assert (consumer.state, consumer.subscription()) == ("idle", [])


async def test_an_option_that_the_server_refuses(make, sql, embedded):
    with pytest.raises(TmqError, match=r"unknown configuration key: nosuch\.key") as raised:
        await make(f"{embedded.dsn}?nosuch.key=1").subscribe("q")
    assert raised.value.code == 0x0118


async def test_a_wrong_password(make, embedded, sql):
    consumer = make(password="geheim")
    with pytest.raises(aiotaos.AuthenticationError) as raised:
        await consumer.subscribe("q")
    assert raised.value.code == 0x0357
    assert "geheim" not in str(raised.value)
    assert consumer.state == "idle"


async def test_not_subscribed(make):
    consumer = make()
    calls = [
        consumer.poll,
        consumer.getmany,
        consumer.commit,
        consumer.committed,
        consumer.position,
        consumer.lag,
        consumer.assignment,
        consumer.wait_assigned,
        consumer.seek_to_beginning,
        consumer.seek_to_end,
        consumer.list_topics,
        lambda: consumer.seek("q", 2, 0),
        lambda: consumer.commit_offset("q", 2, 0),
        lambda: anext(aiter(consumer)),
    ]
    for call in calls:
        with pytest.raises(InterfaceError, match="not subscribed"):
            await call()
    for call in (consumer.pause, consumer.resume):
        with pytest.raises(InterfaceError, match="not subscribed"):
            call()


async def test_closed(subscribe):
    consumer = await subscribe("q")
    await consumer.close()
    calls = [
        consumer.poll,
        consumer.getmany,
        consumer.commit,
        consumer.committed,
        consumer.position,
        consumer.lag,
        consumer.assignment,
        consumer.wait_assigned,
        consumer.list_topics,
        consumer.unsubscribe,
        consumer.__aenter__,
        lambda: consumer.subscribe("q"),
        lambda: consumer.seek("q", 2, 0),
        lambda: anext(aiter(consumer)),
    ]
    for call in calls:
        with pytest.raises(InterfaceError, match="the consumer is closed"):
            await call()


async def test_another_loop(subscribe):
    consumer = await subscribe("q")
    raised = []

    def elsewhere():
        for call in (consumer.poll, consumer.close, lambda: consumer.subscribe("q")):
            try:
                asyncio.run(call())
            except InterfaceError as error:
                raised.append(error.message)

    await asyncio.to_thread(elsewhere)
    assert len(raised) == 3
    assert all("belongs to another event loop" in message for message in raised)
    assert await nothing(consumer)


async def test_it_is_made_without_a_loop(embedded, sql, write):
    made = []
    thread = threading.Thread(target=lambda: made.append(Consumer(embedded.dsn, group_id="g")))
    thread.start()
    await asyncio.to_thread(thread.join)
    async with made[0] as consumer:
        await consumer.subscribe("q")
        await consumer.wait_assigned()
    assert consumer.closed


async def test_wrong_arguments(subscribe):
    consumer = await subscribe("q")
    for call in (
        lambda: consumer.commit("q"),
        lambda: consumer.commit({"q": 1}),
        lambda: consumer.commit({("q", 2): -1}),
        lambda: consumer.commit({("q", 2): "1"}),
        lambda: consumer.seek("q", "2", 0),
        lambda: consumer.seek(2, 2, 0),
        lambda: consumer.seek("q", 2, -1),
        lambda: consumer.seek("q", 2, 1.5),
        lambda: consumer.committed([("q",)]),
        lambda: consumer.position(["q"]),
        lambda: consumer.poll(-1),
        lambda: consumer.poll("x"),
        lambda: consumer.getmany(0, 0),
        lambda: consumer.getmany(0, "1"),
        lambda: consumer.wait_assigned(timeout=0),
    ):
        with pytest.raises(InterfaceError, match="expected"):
            await call()
    assert await nothing(consumer)


# Reading.


async def test_what_a_message_is(subscribe, write):
    await write(1, 2)
    consumer = await subscribe("q")
    message = await consumer.poll(5)
    assert isinstance(message, Message)
    assert (message.topic, message.database, message.vgroup_id) == ("q", "d", 2)
    assert message.place == ("q", 2)
    assert (message.offset, message.end, message.next_offset) == (0, 3, 3)
    assert message.kind is MessageKind.DATA
    assert message.metas == []
    assert message.is_cut is False
    assert len(message) == 2
    assert message.size > 100
    assert repr(message) == "<Message data of 'q', vgroup 2, offset 0, 2 rows>"
    ms = timedelta(milliseconds=1)
    assert message.rows() == [(START + ms, 1), (START + 2 * ms, 2)]
    blocks = list(message)
    assert blocks == list(message.blocks)
    assert [[field.name for field in block.fields] for block in blocks] == [["ts", "v"]] * 2
    assert [block.rows() for block in blocks] == [[(START + ms, 1)], [(START + 2 * ms, 2)]]
    assert [block.table for block in blocks] == [None, None]
    assert await nothing(consumer)


async def test_tables_have_names_and_schemas_of_their_own(subscribe, sql, write):
    await sql(
        "create topic d as database d",
        "create stable d.other (ts timestamp, name nchar(8), d double) tags (t int)",
        f"insert into d.o1 using d.other tags (1) values ({T0}, '涛思', 1.5)",
        "create table d.plain (ts timestamp, b bool)",
        f"insert into d.plain values ({T0}, true)",
    )
    await write(1)
    consumer = await subscribe("d")
    message = await consumer.poll(5)
    found = {block.table: (block.fields, block.rows()) for block in message}
    assert {
        table: ([field.name for field in fields], rows) for table, (fields, rows) in found.items()
    } == {
        "o1": (["ts", "name", "d"], [(START, "涛思", 1.5)]),
        "plain": (["ts", "b"], [(START, True)]),
        "t0": (["ts", "v"], [(START + timedelta(milliseconds=1), 1)]),
    }
    assert len(message) == 3
    assert len(message.rows()) == 3


async def test_a_schema_changes_in_mid_stream(subscribe, sql, write):
    consumer = await subscribe("s")
    await write(1)
    first = await consumer.poll(5)
    await sql(
        "alter table d.s add column w nchar(4)",
        f"insert into d.t0 values ({T0 + 2}, 2, 'neu')",
    )
    second = await consumer.poll(5)
    await sql("alter table d.s drop column w", f"insert into d.t0 values ({T0 + 3}, 3)")
    third = await consumer.poll(5)
    columns = [[field.name for field in one.blocks[0].fields] for one in (first, second, third)]
    assert columns == [["ts", "v"], ["ts", "v", "w"], ["ts", "v"]]
    assert [one.rows()[0][1:] for one in (first, second, third)] == [(1,), (2, "neu"), (3,)]


@pytest.mark.parametrize("precision", ["ms", "us", "ns"])
async def test_precisions(subscribe, sql, precision):
    await sql(
        f"create database p vgroups 1 precision '{precision}'",
        "create table p.n (ts timestamp, v timestamp)",
        "create topic p as database p",
        "insert into p.n values ('2024-03-01T00:00:00.123456789Z', '2024-03-01T00:00:01Z')",
    )
    consumer = await subscribe("p")
    (row,) = (await consumer.poll(5)).rows()
    second = timedelta(seconds=1)
    assert (
        row
        == {
            "ms": (START + timedelta(milliseconds=123), START + second),
            "us": (START + timedelta(microseconds=123456), START + second),
            "ns": (1709251200123456789, 1709251201000000000),  # more than a datetime holds
        }[precision]
    )
    ticks = await subscribe("p", group_id="other", timestamp="int")
    (row,) = (await ticks.poll(5)).rows()
    assert (
        row
        == {
            "ms": (1709251200123, 1709251201000),
            "us": (1709251200123456, 1709251201000000),
            "ns": (1709251200123456789, 1709251201000000000),
        }[precision]
    )


async def test_the_zone_of_datetimes(subscribe, write):
    await write(0)
    consumer = await subscribe("q", timezone="Asia/Shanghai")
    ((ts, _),) = (await consumer.poll(5)).rows()
    assert ts == START
    assert ts.isoformat() == "2024-03-01T08:00:00+08:00"


async def test_changes_of_tables(subscribe, sql):
    await sql(
        "create database m vgroups 1",
        "create topic m with meta as database m",
        "create stable m.s (ts timestamp, v int) tags (t int)",
        f"insert into m.a using m.s tags (7) values ({T0}, 1)",
        "alter table m.s add column w double",
    )
    consumer = await subscribe("m")
    messages = [await consumer.poll(5) for _ in range(3)]
    assert [one.kind for one in messages] == [
        MessageKind.META,
        MessageKind.METADATA,
        MessageKind.META,
    ]
    assert [one.kind for one in messages] == ["meta", "metadata", "meta"]
    assert [len(one) for one in messages] == [0, 1, 0]
    assert all(messages), "also those without rows"
    made, filled, altered = (one.metas for one in messages)
    assert [(meta["type"], meta["tableType"], meta["tableName"]) for meta in made] == [
        ("create", "super", "s")
    ]
    assert [(meta["type"], meta["tableType"], meta["tableName"]) for meta in filled] == [
        ("create", "child", "a")
    ]
    assert filled[0]["tags"] == [{"name": "t", "type": 4, "value": 7}]
    assert altered[0]["alterType"] == 5
    assert (altered[0]["colName"], altered[0]["colType"]) == ("w", 7)
    assert messages[1].rows() == [(START, 1)]
    assert [block.table for block in messages[1]] == ["a"]
    assert [(one.offset, one.end) for one in messages] == [(1, 1), (1, 2), (3, 3)]
    await consumer.commit(messages[0])
    assert await consumer.committed() == {("m", 3): 1}


async def test_changes_in_one_message(subscribe, sql):
    await sql(
        "create database m vgroups 1",
        "create topic m only meta as database m",
        "create stable m.s (ts timestamp, v int) tags (t int)",
        "create table m.a using m.s tags (7)",
    )
    consumer = await subscribe("m", msg_enable_batchmeta=True)
    message = await consumer.poll(5)
    assert [meta["tableName"] for meta in message.metas] == ["s", "a"]


async def test_several_topics(subscribe, two, write):
    await write(1)
    await two(2, 3)
    consumer = await subscribe("q", "s", "w")
    messages = [await consumer.poll(5) for _ in range(4)]
    assert sorted((one.topic, *values(one)) for one in messages) == [
        ("q", 1),
        ("s", 1),
        ("w", 2),
        ("w", 3),
    ]
    assert await consumer.assignment() == {("q", 2), ("s", 2), ("w", 3), ("w", 4)}


async def test_poll_without_waiting(subscribe, write):
    consumer = await subscribe("q")
    assert await consumer.poll(0) is None
    await write(1)
    async with asyncio.timeout(5):
        while (message := await consumer.poll(0)) is None:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert values(message) == [1]
    assert await consumer.poll(0) is None


async def test_poll_returns_in_time(subscribe):
    consumer = await subscribe("q")
    loop = asyncio.get_running_loop()
    begin = loop.time()
    assert await consumer.poll(0.05) is None
    assert 0.04 < loop.time() - begin < 0.4


async def test_poll_waits_as_long_as_the_read_timeout(subscribe):
    consumer = await subscribe("q", read_timeout=0.3)
    async with asyncio.timeout(2):
        assert await consumer.poll() is None


async def test_poll_is_woken(subscribe, write):
    consumer = await subscribe("q")
    task = asyncio.ensure_future(consumer.poll(20))
    await write(1)
    async with asyncio.timeout(5):
        assert values(await task) == [1]


async def test_getmany(subscribe, write, turns):
    await write(1, 2, 3)
    consumer = await subscribe("s", **EACH)
    assert await consumer.getmany(0) == []
    found = []
    async with asyncio.timeout(5):
        while len(found) < 3:
            found += await consumer.getmany(5)
    assert [values(one) for one in found] == [[1], [2], [3]]
    assert await consumer.getmany(0.01) == []


async def test_getmany_with_a_limit(fake):
    subscriptions = Subscriptions(fake)
    subscriptions.add(
        Polled.of(0, 1, [1, 2, 3]), Polled.of(1, 2, [4]), Polled.of(2, 3, [5]), Polled.of(3, 4, [6])
    )
    async with Consumer(fake.dsn, group_id="g") as consumer:
        await consumer.subscribe("q")
        await fake.until(lambda: subscriptions.polls == 5)
        assert [len(one) for one in await consumer.getmany(5, max_rows=2)] == [3]
        assert [len(one) for one in await consumer.getmany(5, max_rows=2)] == [1, 1]
        assert [len(one) for one in await consumer.getmany(0)] == [1]


async def test_iteration(subscribe, write):
    await write(1)
    consumer = await subscribe("s")
    found = []
    async with asyncio.timeout(10):
        async for message in consumer:
            found += values(message)
            if found == [1]:
                await write(2)
            else:
                break
    assert found == [1, 2]


@pytest.mark.parametrize("how", ["unsubscribe", "close"])
async def test_iteration_ends(subscribe, write, turns, how):
    await write(1)
    consumer = await subscribe("s")
    found = []

    async def read():
        async for message in consumer:
            found.append(values(message))

    task = asyncio.ensure_future(read())
    await turns(lambda: found)
    async with asyncio.timeout(5):
        while not found:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await getattr(consumer, how)()
        await task
    assert found == [[1]]


@pytest.mark.parametrize("how", ["unsubscribe", "close"])
async def test_iteration_ends_from_within(subscribe, write, how):
    await write(1, 2, 3)
    consumer = await subscribe("s", **EACH)
    found = []
    async with asyncio.timeout(5):
        async for message in consumer:
            found += values(message)
            await getattr(consumer, how)()
    assert found == [1]


async def test_iteration_ends_when_other_topics_are_subscribed(subscribe, write):
    consumer = await subscribe("s")
    task = asyncio.ensure_future(anext(aiter(consumer), "the end"))
    await asyncio.sleep(0)
    await consumer.subscribe("q")
    async with asyncio.timeout(5):
        assert await task == "the end"
    await write(1)
    assert await take(consumer, 1) == [1]


async def test_poll_ends_with_the_subscription(subscribe):
    consumer = await subscribe("s")
    task = asyncio.ensure_future(consumer.poll(60))
    await asyncio.sleep(0)
    await consumer.close()
    async with asyncio.timeout(5):
        assert await task is None


async def test_two_readers_at_once(subscribe, write):
    consumer = await subscribe("s")
    task = asyncio.ensure_future(consumer.poll(20))
    await asyncio.sleep(0)
    for call in (lambda: consumer.poll(0), consumer.getmany, lambda: anext(aiter(consumer))):
        with pytest.raises(InterfaceError, match="another task is reading"):
            await call()
    await write(1)
    assert values(await task) == [1]


async def test_reading_ahead_is_bounded(fake):
    subscriptions = Subscriptions(fake)
    subscriptions.add(*(Polled.of(n, n + 1, [n]) for n in range(5)))
    async with Consumer(fake.dsn, group_id="g", read_ahead=1) as consumer:
        await consumer.subscribe("q")
        for left in (4, 3, 2, 1, 0):
            await fake.until(lambda left=left: len(subscriptions.waiting) == left)
            await consumer.list_topics()
            assert len(subscriptions.waiting) == left
            assert values(await consumer.poll(5)) == [4 - left]


async def test_reading_ahead_counts_bytes(fake):
    size = len(Polled.of(0, 1, [0]).raw)
    subscriptions = Subscriptions(fake)
    subscriptions.add(*(Polled.of(n, n + 1, [n]) for n in range(5)))
    async with Consumer(fake.dsn, group_id="g", read_ahead=2 * size + 1) as consumer:
        await consumer.subscribe("q")
        await fake.until(lambda: len(subscriptions.waiting) == 2)
        await consumer.list_topics()
        assert len(subscriptions.waiting) == 2
        assert [values(await consumer.poll(5)) for _ in range(5)] == [[0], [1], [2], [3], [4]]


async def test_pause_and_resume(subscribe, write):
    await write(1, 2)
    consumer = await subscribe("s", **EACH)
    assert await take(consumer, 1) == [1]
    consumer.pause()
    assert await consumer.poll(0) is None
    assert await consumer.poll(0.05) is None
    assert await consumer.getmany(0) == []
    task = asyncio.ensure_future(consumer.poll(20))
    await asyncio.sleep(0)
    consumer.resume()
    async with asyncio.timeout(5):
        assert values(await task) == [2]


async def test_who_pauses_at_once_is_told_of_vgroups(subscribe, write):
    await write(1)
    consumer = await subscribe("s")
    consumer.pause()
    assert await consumer.wait_assigned(timeout=3) == {("s", 2)}
    consumer.resume()
    assert await take(consumer, 1) == [1]


async def test_who_pauses_stays_a_member(fake):
    """A sign of life is given three times in max.poll.interval.ms; its message is put back."""
    subscriptions = Subscriptions(fake)
    async with Consumer(fake.dsn, group_id="g", max_poll_interval_ms=1000) as consumer:
        await consumer.subscribe("q")
        await fake.until(lambda: subscriptions.polls == 1)
        consumer.pause()
        await fake.until(lambda: subscriptions.polls == 2)
        subscriptions.add(Polled.of(3, 4, [1]))
        async with asyncio.timeout(5):
            await fake.until(lambda: subscriptions.sought)
        assert subscriptions.sought == [("q", 2, 3)]
        assert await consumer.poll(0) is None


# Positions.


async def test_commit_a_message(subscribe, write):
    await write(1, 2, 3)
    consumer = await subscribe("s", **EACH)
    first, second, _ = [await consumer.poll(5) for _ in range(3)]
    assert await consumer.committed() == {("s", 2): None}
    await consumer.commit(second)
    assert await consumer.committed() == {("s", 2): 3}
    await consumer.commit(first)
    assert await consumer.committed() == {("s", 2): 2}
    await consumer.commit(first)
    assert await consumer.committed([("s", 2)]) == {("s", 2): 2}


async def test_commit_all(subscribe, two):
    await two(1, 2, 3, 4)
    consumer = await subscribe("w", **EACH)
    await consumer.commit()
    await consumer.wait_assigned()
    assert await consumer.committed() == {("w", 3): None, ("w", 4): None}
    await take(consumer, 4)
    await consumer.commit()
    assert await consumer.committed() == {("w", 3): 4, ("w", 4): 4}


async def test_commit_leaves_out_what_was_only_read_ahead(fake):
    subscriptions = Subscriptions(fake)
    subscriptions.add(*(Polled.of(n, n + 1, [n]) for n in range(3)))
    async with Consumer(fake.dsn, group_id="g") as consumer:
        await consumer.subscribe("q")
        await fake.until(lambda: subscriptions.polls == 4)
        assert values(await consumer.poll(0)) == [0]
        await consumer.commit()
        assert subscriptions.commits == [("q", 2, 1)]
        await consumer.commit()
        assert subscriptions.commits == [("q", 2, 1)], "nothing new"
        await consumer.commit({("q", 2): 1})
        assert subscriptions.commits == [("q", 2, 1)] * 2
    assert subscriptions.commits == [("q", 2, 1)] * 2, "the message was still held"


async def test_commit_offsets(subscribe, two):
    await two(1, 2, 3, 4)
    consumer = await subscribe("w")
    await consumer.wait_assigned()
    await consumer.commit({("w", 3): 1, ("w", 4): 2})
    assert await consumer.committed() == {("w", 3): 1, ("w", 4): 2}
    await consumer.commit_offset("w", 3, 2)
    assert await consumer.committed([("w", 3)]) == {("w", 3): 2}
    with pytest.raises(TmqError, match="Offset out of range") as raised:
        await consumer.commit_offset("w", 3, 99)
    assert raised.value.code == 0x4007
    with pytest.raises(TmqError) as raised:
        await consumer.commit({("w", 77): 1})
    assert raised.value.code == 0x4008
    with pytest.raises(TmqError) as raised:
        await consumer.commit({("nosuch", 3): 1})
    assert raised.value.code == 0x4009
    await consumer.commit({})


async def test_positions(subscribe, write):
    await write(1, 2, 3)
    consumer = await subscribe("s", **EACH)
    await consumer.wait_assigned()
    assert await consumer.position() == {("s", 2): 0}
    assert await consumer.lag() == {("s", 2): 4}
    assert await take(consumer, 1) == [1]
    assert await consumer.position() == {("s", 2): 2}
    assert await consumer.position([("s", 2)]) == {("s", 2): 2}
    assert await consumer.lag() == {("s", 2): 2}
    assert await take(consumer, 2) == [2, 3]
    assert await consumer.lag() == {("s", 2): 0}
    await write(4)
    assert await consumer.lag([("s", 2)]) == {("s", 2): 1}
    assert await consumer.position([]) == await consumer.committed([]) == {}
    for call in (consumer.position, consumer.committed, consumer.lag, consumer.seek_to_end):
        with pytest.raises(TmqError) as raised:
            await call([("s", 77)])
        assert raised.value.code == 0x4008


async def test_seek(subscribe, write):
    await write(1, 2, 3)
    consumer = await subscribe("s", **EACH)
    assert await take(consumer, 2) == [1, 2]
    await consumer.seek("s", 2, 2)
    assert await consumer.position() == {("s", 2): 2}
    assert await take(consumer, 2) == [2, 3]
    await consumer.seek_to_beginning()
    assert await consumer.position() == {("s", 2): 0}
    assert await take(consumer, 3) == [1, 2, 3]
    await consumer.seek_to_beginning([("s", 2)])
    await consumer.seek_to_end()
    assert await consumer.position() == {("s", 2): 4}
    await write(4)
    assert await take(consumer, 1) == [4]
    assert await consumer.committed() == {("s", 2): None}


async def test_seek_elsewhere(subscribe, write):
    await write(1, 2)
    consumer = await subscribe("s", **EACH)
    assert await take(consumer, 1) == [1]
    for topic, vgroup_id, offset, code in [
        ("s", 2, 99, 0x4007),
        ("s", 77, 0, 0x4008),
        ("nosuch", 2, 0, 0x4009),
    ]:
        with pytest.raises(TmqError) as raised:
            await consumer.seek(topic, vgroup_id, offset)
        assert raised.value.code == code
    assert await take(consumer, 1) == [2]


async def test_who_seeks_back_is_not_done(subscribe, write):
    """What is read again is committed by itself only when it is done with again."""
    await write(1, 2)
    consumer = await subscribe("s", **EACH)
    first = await consumer.poll(5)
    await consumer.seek(first.topic, first.vgroup_id, first.offset)
    assert values(await consumer.poll(5)) == [1]
    await consumer.close()
    heir = await subscribe("s", **EACH)
    assert await take(heir, 2) == [1, 2]


# Vgroups and members.


async def test_on_assigned(make, two):
    """Functions and coroutine functions; they may seek."""
    await two(1, 2, 3, 4)
    told = []

    async def assigned(places):
        told.append(("assigned", places))
        for topic, vgroup_id in places:
            await consumer.seek(topic, vgroup_id, 3)

    consumer = make(on_assigned=assigned, on_revoked=lambda places: told.append(("no", places)))
    await consumer.subscribe("w")
    assert await consumer.wait_assigned() == {("w", 3), ("w", 4)}
    assert sorted(await take(consumer, 2)) == [3, 4]
    assert told == [("assigned", frozenset({("w", 3), ("w", 4)}))]
    await consumer.unsubscribe()


async def test_on_assigned_as_a_plain_function(make, two):
    told = []
    consumer = make(on_assigned=told.append)
    await consumer.subscribe("w")
    await consumer.wait_assigned()
    await two(1)
    await take(consumer, 1)
    assert told == [frozenset({("w", 3), ("w", 4)})]


async def test_what_on_assigned_raises_reaches_the_reader(make, two):
    def assigned(places):
        raise ValueError("on purpose")

    consumer = make(on_assigned=assigned)
    await consumer.subscribe("w")
    async with asyncio.timeout(5):
        with pytest.raises(ValueError, match="on purpose"):
            await consumer.poll(3)
    assert consumer.state == "failed"


async def test_what_a_coroutine_function_raises_reaches_the_reader(make, two):
    async def assigned(places):
        await consumer.list_topics()
        raise aiotaos.DataError("on purpose")

    consumer = make(on_assigned=assigned)
    await consumer.subscribe("w")
    async with asyncio.timeout(5):
        with pytest.raises(aiotaos.DataError, match="on purpose"):
            await consumer.poll(3)


async def test_everything_may_be_asked_in_a_callback(make, two):
    told = {}
    ready = asyncio.Event()

    async def assigned(places):
        told["position"] = await consumer.position(places)
        told["committed"] = await consumer.committed(places)
        told["lag"] = await consumer.lag(places)
        told["assignment"] = await consumer.assignment()
        await consumer.commit(dict.fromkeys(places, 1))
        await consumer.seek_to_end(places)
        ready.set()

    consumer = make(on_assigned=assigned)
    await two(1, 2)
    await consumer.subscribe("w")
    async with asyncio.timeout(5):
        await ready.wait()
    places = [("w", 3), ("w", 4)]
    assert told == {
        "position": dict.fromkeys(places, 0),
        "committed": dict.fromkeys(places),
        "lag": dict.fromkeys(places, 3),
        "assignment": frozenset(places),
    }
    assert await consumer.committed() == dict.fromkeys(places, 1)
    assert await nothing(consumer)
    await two(3)
    assert await take(consumer, 1) == [3]


@pytest.mark.timeout(10)
@pytest.mark.parametrize("how", ["unsubscribe", "close"])
async def test_a_callback_that_ends_the_subscription(make, two, how):
    """It would wait for its own end; the iterator tells of it, as of all that callbacks raise."""
    consumer = make(on_assigned=lambda places: getattr(consumer, how)())
    await consumer.subscribe("w")
    async with asyncio.timeout(5):
        with pytest.raises(InterfaceError, match="inside of on_assigned"):
            await consumer.poll(4)
    assert consumer.state == "failed"


async def test_what_was_read_ahead_of_another_member(fake):
    """A vgroup that is revoked is the other's from there on."""
    subscriptions = Subscriptions(fake)
    subscriptions.vgroups = {2: (0, 0, 9), 3: (0, 0, 9)}
    subscriptions.add(Polled.of(0, 1, [1]), *(Polled.of(n, n + 1, [n]) for n in (4, 5)))
    subscriptions.waiting[1:] = [one._replace(vgroup_id=3) for one in subscriptions.waiting[1:]]
    told = []
    async with Consumer(fake.dsn, group_id="g", on_revoked=told.append) as consumer:
        await consumer.subscribe("q")
        await fake.until(lambda: subscriptions.polls == 4)
        assert values(await consumer.poll(5)) == [1]
        assert values(await consumer.poll(5)) == [4]
        del subscriptions.vgroups[3]
        async with asyncio.timeout(10):
            while not told or await consumer.assignment() != {("q", 2)}:
                await consumer.list_topics()
        assert told == [frozenset({("q", 3)})]
        assert await consumer.poll(0.01) is None
        await consumer.commit()
        assert subscriptions.commits == [("q", 2, 1)]


async def test_wait_assigned_has_an_end(subscribe, sql):
    await subscribe("s")
    idle = await subscribe("s")
    with pytest.raises(TimeoutError):
        await idle.wait_assigned(timeout=0.3)
    assert await idle.assignment() == frozenset()


async def test_wait_assigned_ends_with_the_subscription(subscribe, sql):
    await subscribe("s")
    idle = await subscribe("s")
    task = asyncio.ensure_future(idle.wait_assigned(timeout=20))
    await asyncio.sleep(0)
    await idle.close()
    async with asyncio.timeout(3):
        with pytest.raises(Error):
            await task


async def test_each_row_once_in_a_group(subscribe, two):
    first, second = [await subscribe("w") for _ in range(2)]
    other = await subscribe("w", group_id="other")
    await first.wait_assigned()
    await second.wait_assigned()
    await two(*range(20))
    halves = [await take(first, 10), await take(second, 10)]
    assert sorted(halves[0] + halves[1]) == list(range(20))
    assert {v % 2 for v in halves[0]} != {v % 2 for v in halves[1]}
    assert sorted(await take(other, 20)) == list(range(20))
    assert await nothing(first)
    assert await nothing(second)
    assert await nothing(other)


async def test_members_come_and_go(subscribe, two):
    told = []
    first = await subscribe(
        "w",
        on_assigned=lambda places: told.append(("+", sorted(v for _, v in places))),
        on_revoked=lambda places: told.append(("-", sorted(v for _, v in places))),
        client_id="first",
    )
    await first.wait_assigned()
    await two(*range(10))
    assert sorted(await take(first, 10)) == list(range(10))
    await first.commit()
    second = await subscribe("w", client_id="second")
    (place,) = await second.wait_assigned()
    await two(*range(10, 20))
    assert len(await take(second, 5)) == 5
    assert len(await take(first, 5)) == 5
    async with asyncio.timeout(10):
        while len(told) < 2:
            await first.poll(0.05)
    assert told == [("+", [3, 4]), ("-", [place[1]])]
    await first.commit()
    await second.close(commit=True)
    await two(*range(20, 30))
    assert sorted(await take(first, 10)) == list(range(20, 30))
    async with asyncio.timeout(10):
        while len(told) < 3:
            await first.poll(0.05)
    assert told[2] == ("+", [place[1]])
    await first.commit()
    assert await first.committed() == {("w", 3): 17, ("w", 4): 17}


async def test_commit_after_a_vgroup_was_given_up(subscribe, two):
    """What another member reads now is no reason not to commit the others."""
    first = await subscribe("w")
    await two(1, 2)
    await take(first, 2)
    second = await subscribe("w")
    (theirs,) = await second.wait_assigned()
    async with asyncio.timeout(10):
        while len(await first.assignment()) == 2:
            await first.poll(0.05)
    (mine,) = await first.assignment()
    assert mine != theirs
    await first.commit()
    assert await first.committed() == {mine: 3}


@pytest.mark.parametrize("code", [0x03E6, 0x4002])
async def test_who_is_thrown_out_comes_back(fake, code):
    """It has not polled for too long."""
    subscriptions = Subscriptions(fake, [Polled.of(0, 1, [1])])
    async with Consumer(fake.dsn, group_id="g", **QUICK) as consumer:
        await consumer.subscribe("q")
        assert await take(consumer, 1) == [1]
        subscriptions.refusals.append((code, "no"))
        await fake.until(lambda: len(subscriptions.subscribed) == 2)
        subscriptions.add(Polled.of(1, 2, [2]))
        assert await take(consumer, 1) == [2]
    assert subscriptions.sought == [("q", 2, 1)]


@pytest.mark.parametrize("code", [0x03EA, 0x4010])
async def test_a_group_that_is_not_ready(fake, code):
    """It is asked again on the same session."""
    subscriptions = Subscriptions(fake)
    subscriptions.refusals += [(code, "no")] * 2
    async with Consumer(fake.dsn, group_id="g", **QUICK) as consumer:
        await consumer.subscribe("q")
        subscriptions.add(Polled.of(0, 1, [1]))
        assert await take(consumer, 1) == [1]
    assert subscriptions.refusals == []
    assert len(fake.sessions) == 1


async def test_a_poll_that_is_refused(fake):
    """What was read before comes first."""
    subscriptions = Subscriptions(fake, [Polled.of(0, 1, [1]), Polled.of(1, 2, [2])])
    async with Consumer(fake.dsn, group_id="g", **QUICK) as consumer:
        await consumer.subscribe("q")
        await fake.until(lambda: subscriptions.polls == 3)
        subscriptions.refusals.append((0x4003, "on purpose"))
        async with asyncio.timeout(5):
            while consumer.state != "failed":  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert await take(consumer, 2) == [1, 2]
        for _ in range(2):
            with pytest.raises(TmqError, match="on purpose") as raised:
                await consumer.poll(5)
            assert raised.value.code == 0x4003


# The end, and what is committed by itself.


@pytest.fixture
async def committed_of(embedded):
    """What is committed, as the server shows it of a group without members."""
    async with aiotaos.connect(embedded.dsn) as conn:

        async def show(topic="s"):
            return [row[6] for row in await conn.fetch("show subscriptions") if row[0] == topic]

        yield show


@pytest.mark.parametrize(
    ("options", "commit", "expected"),
    [
        ({}, None, "wal:2/2"),
        ({}, True, "wal:3/3"),
        ({}, False, None),
        ({"enable_auto_commit": False}, None, None),
        ({"enable_auto_commit": False}, True, "wal:3/3"),
        ({"enable_auto_commit": False}, False, None),
    ],
)
@pytest.mark.parametrize("how", ["close", "unsubscribe"])
async def test_what_the_end_commits(subscribe, write, committed_of, how, options, commit, expected):
    """Of three messages the first is done with, the second is held, the third was read ahead."""
    await write(1, 2, 3)
    consumer = await subscribe("s", **EACH, **options)
    assert await take(consumer, 2) == [1, 2]
    await getattr(consumer, how)(commit=commit)
    assert await committed_of() == [expected]


async def test_leaving_the_context_commits_what_is_done(make, write, committed_of):
    await write(1, 2, 3)
    async with make(**EACH) as consumer:
        await consumer.subscribe("s")
        assert await take(consumer, 3) == [1, 2, 3]
    assert await committed_of() == ["wal:3/3"]


async def test_auto_commit(subscribe, write):
    await write(1, 2, 3)
    consumer = await subscribe("s", **EACH, auto_commit_interval_ms=1)
    assert await take(consumer, 2) == [1, 2]
    async with asyncio.timeout(5):
        while await consumer.committed() == {("s", 2): None}:
            pass
    assert await consumer.committed() == {("s", 2): 2}
    assert await nothing(consumer) is False
    async with asyncio.timeout(5):
        while await consumer.committed() == {("s", 2): 2}:
            pass
    assert await consumer.committed() == {("s", 2): 3}


async def test_auto_commit_takes_its_time(fake):
    subscriptions = Subscriptions(fake)
    subscriptions.add(*(Polled.of(n, n + 1, [n]) for n in range(3)))
    async with Consumer(fake.dsn, group_id="g", auto_commit_interval_ms=3_600_000) as consumer:
        await consumer.subscribe("q")
        assert await take(consumer, 3) == [0, 1, 2]
        assert await consumer.poll(0.01) is None
        assert subscriptions.commits == []
    assert subscriptions.commits == [("q", 2, 3)]


async def test_auto_commit_outlives_a_refusal(fake, caplog):
    subscriptions = Subscriptions(fake)
    refusals = iter([True])

    async def refuse_once(session, request):
        if next(refusals, False):
            body = '{"code":16393,"message":"no","action":"commit_offset","req_id":%d}'
            return [body % request.req_id]
        return await subscriptions._commit_offset(session, request)

    fake.handlers["commit_offset"] = refuse_once
    subscriptions.add(Polled.of(0, 1, [0]))
    async with Consumer(fake.dsn, group_id="g", auto_commit_interval_ms=1) as consumer:
        await consumer.subscribe("q")
        assert await take(consumer, 1) == [0]
        assert await consumer.poll(0) is None
        async with asyncio.timeout(5):
            while "not committed" not in caplog.text:  # noqa: ASYNC110
                await asyncio.sleep(0)
        subscriptions.add(Polled.of(1, 2, [1]))
        assert await take(consumer, 1) == [1]
        assert await consumer.poll(0) is None
        await fake.until(lambda: subscriptions.commits)
    assert {*subscriptions.commits} == {("q", 2, 2)}


async def test_a_restart_goes_on(subscribe, write):
    await write(*range(10))
    found = []
    for count in (3, 4, 3):
        consumer = await subscribe("s", **EACH)
        found += await take(consumer, count)
        await consumer.close(commit=True)
    assert found == list(range(10))


async def test_what_was_not_committed_comes_again(subscribe, write):
    await write(1, 2, 3)
    consumer = await subscribe("s", **EACH)
    first = await consumer.poll(5)
    assert await take(consumer, 2) == [2, 3]
    await consumer.commit(first)
    await consumer.close(commit=False)
    assert await take(await subscribe("s", **EACH), 2) == [2, 3]


async def test_offset_resets(subscribe, write):
    await write(1)
    latest = await subscribe("s", group_id="l", auto_offset_reset="latest")
    default = await subscribe("s", group_id="d", auto_offset_reset=None)
    none = await subscribe("s", group_id="n", auto_offset_reset="none")
    for one in (latest, default, none):
        await one.wait_assigned()
    await write(2)
    assert await take(latest, 1) == [2]
    assert await take(default, 1) == [2]
    assert await nothing(none)


async def test_close_that_cannot_commit(subscribe, write, proxy):
    """It is closed all the same."""
    await write(1)
    consumer = await subscribe("s", dsn=through(proxy))
    assert await take(consumer, 1) == [1]
    proxy.stall()
    with pytest.raises(Error):
        await consumer.close(commit=True, timeout=0.1)
    assert consumer.closed


async def test_close_without_an_answer(subscribe, write, proxy, caplog):
    await write(1)
    consumer = await subscribe("s", dsn=through(proxy))
    assert await take(consumer, 1) == [1]
    assert await nothing(consumer)
    proxy.stall()
    async with asyncio.timeout(3):
        await consumer.close(timeout=0.1)
    assert consumer.closed
    assert "not committed at the end" in caplog.text


async def test_close_that_is_cancelled_leaves_nothing(subscribe, write, proxy, turns):
    await write(1)
    consumer = await subscribe("s", dsn=through(proxy))
    assert await take(consumer, 1) == [1]
    proxy.stall()
    task = asyncio.ensure_future(consumer.close(timeout=20))
    for _ in range(20):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await proxy.heal()
    async with asyncio.timeout(3):
        await proxy.until(lambda: len(proxy) == 0)


async def test_subscribing_twice_at_once_leaves_nothing(make, sql):
    consumer = make()
    await asyncio.gather(consumer.subscribe("q"), consumer.subscribe("s"), return_exceptions=True)
    await consumer.close()
    names = [task.get_name() for task in asyncio.all_tasks()]
    assert [name for name in names if name.startswith("aiotaos: ")] == []


async def test_close_while_it_subscribes(make, sql):
    consumer = make()
    task = asyncio.ensure_future(consumer.subscribe("q"))
    await asyncio.sleep(0)
    await consumer.close()
    with pytest.raises(InterfaceError, match="the consumer is closed"):
        await task


def drop(held):
    held.clear()
    gc.collect()


async def test_dropped(embedded, sql, write, turns):
    await write(1)
    consumer = Consumer(embedded.dsn, group_id="g", auto_offset_reset="earliest")
    await consumer.subscribe("s")
    assert await take(consumer, 1) == [1]
    held = [consumer]
    del consumer
    with pytest.warns(ResourceWarning, match="unclosed <Consumer of group 'g' subscribed>"):
        drop(held)


async def test_dropped_without_a_subscription(embedded, sql):
    consumer = Consumer(embedded.dsn, group_id="g")
    await consumer.subscribe("s")
    await consumer.close()
    del consumer
    Consumer(embedded.dsn, group_id="g")
    gc.collect()


# Losses.


async def test_a_cut_link_leaves_no_gap(subscribe, write, proxy):
    await write(*range(5))
    consumer = await subscribe("s", dsn=through(proxy), **EACH)
    assert await take(consumer, 2) == [0, 1]
    proxy.cut(once=True)
    await write(*range(5, 8))
    assert await take(consumer, 6) == [2, 3, 4, 5, 6, 7]
    assert consumer.state == "subscribed"
    assert await nothing(consumer)
    assert proxy.accepted == 2


@pytest.mark.parametrize("after", [1, 50, 150, 300, 500, 800, 1200, 2000, 3000])
async def test_a_link_that_is_cut_anywhere(subscribe, write, proxy, after):
    consumer = await subscribe("s", dsn=through(proxy), **EACH)
    proxy.cut(after=after, once=True)
    await write(*range(12))
    assert await take(consumer, 12) == list(range(12))


async def test_cut_again_and_again(subscribe, write, proxy):
    consumer = await subscribe("s", "q", dsn=through(proxy), **EACH)
    found = []
    for v in range(6):
        await write(v)
        async with asyncio.timeout(10):
            while sorted(found) != sorted([*range(v + 1), *range(v + 1)]):
                found += values(*await consumer.getmany(1))
        proxy.cut(once=True)


async def test_what_somebody_else_has_committed_meanwhile(subscribe, write, proxy):
    """After a loss another member has read on; what it has committed does not come again."""
    await write(1, 2, 3)
    consumer = await subscribe("s", dsn=through(proxy), **EACH, conn_retries=10_000)
    assert await take(consumer, 1) == [1]
    proxy.refuse()
    other = await subscribe("s", **EACH)
    assert await take(other, 3) == [1, 2, 3]
    await other.close(commit=True)
    await proxy.heal()
    await write(4)
    assert await take(consumer, 1) == [4]


async def test_who_is_full_reconnects_too(subscribe, write, proxy):
    """Nothing is to be polled, but the application may want to commit."""
    await write(1, 2, 3)
    consumer = await subscribe("s", dsn=through(proxy), read_ahead=1, **EACH)
    message = await consumer.poll(5)
    assert values(message) == [1]
    consumer.pause()
    proxy.cut(once=True)
    async with asyncio.timeout(5):
        while consumer.state == "subscribed":  # noqa: ASYNC110
            await asyncio.sleep(0)
        await consumer.commit(message, timeout=4)
    assert await consumer.committed([("s", 2)], timeout=4) == {("s", 2): 2}
    consumer.resume()
    assert await take(consumer, 2) == [2, 3]


async def test_callbacks_after_a_loss(subscribe, write, proxy):
    told = []
    consumer = await subscribe(
        "s",
        dsn=through(proxy),
        on_assigned=lambda places: told.append("assigned"),
        on_revoked=lambda places: told.append("revoked"),
    )
    await write(1)
    assert await take(consumer, 1) == [1]
    proxy.cut(once=True)
    await write(2)
    assert await take(consumer, 1) == [2]
    assert told == ["assigned", "revoked", "assigned"]


async def iterating(consumer):
    return [message async for message in consumer]


async def polling(consumer):
    return [await consumer.poll(5) for _ in range(100)]


async def getting(consumer):
    return [await consumer.getmany(5) for _ in range(100)]


@pytest.mark.parametrize("reading", [iterating, polling, getting])
async def test_a_server_that_goes_for_good(subscribe, write, embedded, reading):
    await write(1, 2)
    consumer = await subscribe("s", **EACH)
    assert await take(consumer, 1) == [1]
    await embedded.stop()
    async with asyncio.timeout(10):
        with pytest.raises(ConnectionError):
            await reading(consumer)
    assert consumer.state == "failed"
    with pytest.raises(ConnectionError):
        await consumer.poll(0)
    with pytest.raises(ConnectionError):
        await consumer.commit({("s", 2): 1})
    await consumer.close()


async def test_a_server_that_comes_back(clean):
    """The embedded server forgets its groups; the consumer begins anew."""
    async with Server() as server:
        port = server.port
        async with aiotaos.connect(server.dsn) as conn:
            for statement in (
                "create database d vgroups 1",
                "create table d.t (ts timestamp, v int)",
                "create topic q as select ts, v from d.t",
            ):
                await conn.execute(statement)
        dsn = server.dsn
        consumer = Consumer(
            dsn, group_id="g", auto_offset_reset="earliest", retry_backoff_ms=10, conn_retries=99
        )
        await consumer.subscribe("q")
    again = Server(port)
    async with again, consumer:
        with pytest.raises(TmqError, match="Topic not exist"):
            await consumer.poll(10)
        assert consumer.state == "failed"


async def test_a_failed_consumer_subscribes_again(subscribe, write, proxy):
    consumer = await subscribe("s", dsn=through(proxy), conn_retries=0)
    proxy.refuse()
    with pytest.raises(ConnectionError):
        await consumer.poll(10)
    with pytest.raises(ConnectionError):
        await consumer.subscribe("s")
    await proxy.heal()
    await write(1)
    await consumer.subscribe("s")
    assert await take(consumer, 1) == [1]


async def test_another_server_of_the_dsn(make, embedded, write, proxy):
    """A server that is away, and one that goes away."""
    await write(1)
    consumer = make(f"ws://127.0.0.1:1,127.0.0.1:{proxy.port},127.0.0.1:{embedded.port}", **EACH)
    await consumer.subscribe("s")
    assert await take(consumer, 1) == [1]
    proxy.refuse()
    await write(2)
    assert await take(consumer, 1) == [2]
    assert consumer.state == "subscribed"


async def test_compression(subscribe, write):
    await write(1)
    assert await take(await subscribe("s", compression=True), 1) == [1]


async def test_many_rows(subscribe, sql):
    """Of several tables, in INSERTs of different sizes."""
    for first in range(0, 20_000, 2_500):
        rows = " ".join(f"({T0 + v}, {v})" for v in range(first, first + 2_500))
        await sql(f"insert into d.t{first % 3} using d.s tags ({first}) values {rows}")
    for topic in ("q", "s"):
        consumer = await subscribe(topic, group_id=topic)
        assert await take(consumer, 20_000) == list(range(20_000))
        assert await nothing(consumer)


async def test_no_server(clean):
    async with Consumer("ws://127.0.0.1:1", group_id="g", **QUICK) as consumer:
        with pytest.raises(ConnectionError):
            await consumer.subscribe("q")
        assert consumer.state == "idle"


async def test_cuts_within_an_insert_and_a_loss(fake):
    """The rest of the INSERT would be lost for who goes on at the offset that was told."""
    subscriptions = Subscriptions(fake)
    subscriptions.vgroups = {2: (0, 0, 3)}
    subscriptions.add(Polled.of(0, 1, [1], [2]))
    async with Consumer(fake.dsn.partition("?")[0], group_id="g", **EACH, **QUICK) as consumer:
        await consumer.subscribe("q")
        first = await consumer.poll(5)
        assert values(first) == [1, 2]
        assert first.is_cut
        assert (first.offset, first.end, first.next_offset) == (0, 1, 0)
        assert await consumer.position() == {("q", 2): 1}
        await consumer.commit(first)
        assert subscriptions.commits == [("q", 2, 0)]
        fake.session.abort()
        # polled anywhere, then sought, then polled again from there
        subscriptions.add(Polled.of(1, 2, [9]), Polled.of(0, 1, [1]), Polled.of(1, 1, [2], [3]))
        second = await consumer.poll(5)
        assert subscriptions.sought == [("q", 2, 0)]
        assert values(second) == [3]
        subscriptions.add(Polled.of(1, 2, [4], [5]))
        third = await consumer.poll(5)
        assert (values(third), third.next_offset) == ([4, 5], 1)


async def test_a_sign_of_life_within_an_insert_that_came_before(fake):
    """What comes a second time is left out, and still must not be sought behind."""
    subscriptions = Subscriptions(fake)
    subscriptions.add(Polled.of(0, 1, [1], [2]))
    options = {"max_poll_interval_ms": 1000, **EACH, **QUICK}
    async with Consumer(fake.dsn.partition("?")[0], group_id="g", **options) as consumer:
        await consumer.subscribe("q")
        assert values(await consumer.poll(5)) == [1, 2]
        fake.session.abort()
        subscriptions.add(Polled.of(0, 1, [1], [2]))
        await fake.until(lambda: subscriptions.sought and not subscriptions.waiting)
        await consumer.list_topics()  # answered behind the fetch
        consumer.pause()
        polls = subscriptions.polls
        subscriptions.add(Polled.of(1, 1, [3]))
        await fake.until(lambda: subscriptions.polls > polls + 1)
        consumer.resume()
        assert subscriptions.sought == [("q", 2, 0)]
        assert values(await consumer.poll(5)) == [3]


async def test_a_message_that_is_cut_by_time(fake):
    """The server also ends a message after ``fetch.max.wait.ms``, however few rows it has."""
    subscriptions = Subscriptions(fake)
    subscriptions.add(Polled.of(0, 1, [1]), Polled.of(1, 1, [2]))
    async with Consumer(fake.dsn, group_id="g", fetch_max_wait_ms=1) as consumer:
        await consumer.subscribe("q")
        first, second = [await consumer.poll(5) for _ in range(2)]
        assert values(first, second) == [1, 2]
        await consumer.commit(first)
        assert subscriptions.commits == [("q", 2, 0)], "the rest would be lost"


async def test_a_message_of_a_snapshot(fake):
    """It has no offset: it is committed with all that was polled, and nothing is polled ahead."""
    subscriptions = Subscriptions(fake)
    raw = Polled.of(0, 1, [1]).raw
    zeroed = raw[:5] + b"\x12" + bytes(16) + b"\x12" + bytes(16) + raw[23:]
    snapshot = raw[:1] + (34).to_bytes(4, "little") + zeroed[5:]
    one = Polled(-2147467258, 0, snapshot)
    subscriptions.add(one, one, Polled.of(0, 1, [2]))
    async with Consumer(fake.dsn, group_id="g", enable_auto_commit=False) as consumer:
        await consumer.subscribe("q")
        first = await consumer.poll(5)
        assert (first.offset, first.end, first.next_offset) == (None, None, None)
        assert values(first) == [1]
        await consumer.list_topics()
        assert len(subscriptions.waiting) == 2
        await consumer.commit(first)
        assert subscriptions.acknowledged == [1]
        assert values(await consumer.poll(5)) == [1]
        with pytest.raises(TmqError, match="a message of a snapshot has no offset"):
            await consumer.commit(first)
        await consumer.commit()
        assert subscriptions.acknowledged == [1, 2]
        assert values(await consumer.poll(5)) == [2]
        assert subscriptions.commits == []


# Time-outs and cancellation.

CALLS = {
    "list_topics": lambda consumer, **more: consumer.list_topics(**more),
    "commit": lambda consumer, **more: consumer.commit({("s", 2): 1}, **more),
    "commit_offset": lambda consumer, **more: consumer.commit_offset("s", 2, 1, **more),
    "committed": lambda consumer, **more: consumer.committed([("s", 2)], **more),
    "position": lambda consumer, **more: consumer.position([("s", 2)], **more),
    "lag": lambda consumer, **more: consumer.lag([("s", 2)], **more),
    "seek": lambda consumer, **more: consumer.seek("s", 2, 1, **more),
    "seek_to_beginning": lambda consumer, **more: consumer.seek_to_beginning([("s", 2)], **more),
    "seek_to_end": lambda consumer, **more: consumer.seek_to_end([("s", 2)], **more),
    "subscribe": lambda consumer, **more: consumer.subscribe("s", **more),
}


@pytest.mark.parametrize("name", CALLS)
async def test_time_outs(subscribe, write, proxy, name):
    await write(1)
    consumer = await subscribe("s", dsn=through(proxy), connect_timeout=1)
    await consumer.wait_assigned()
    proxy.delay()
    async with asyncio.timeout(4):
        with pytest.raises((TimeoutError, ConnectionError)):
            await CALLS[name](consumer, timeout=0.05)
    await proxy.heal()
    async with asyncio.timeout(5):
        await consumer.subscribe("s") if name == "subscribe" else await CALLS[name](consumer)
    await consumer.seek("s", 2, 0)
    assert await take(consumer, 1) == [1]


@pytest.mark.parametrize("name", CALLS)
async def test_cancellation(subscribe, write, proxy, name):
    await write(1)
    consumer = await subscribe("s", dsn=through(proxy))
    await consumer.wait_assigned()
    proxy.delay()
    task = asyncio.ensure_future(CALLS[name](consumer))
    for _ in range(30):
        await asyncio.sleep(0)
    task.cancel()
    async with asyncio.timeout(8):
        with pytest.raises(asyncio.CancelledError):
            await task
    await proxy.heal()
    async with asyncio.timeout(5):
        await consumer.subscribe("s") if name == "subscribe" else await CALLS[name](consumer)
    await consumer.seek("s", 2, 0)
    assert await take(consumer, 1) == [1]


async def test_a_poll_that_is_cancelled_loses_nothing(subscribe, write):
    consumer = await subscribe("s", **EACH)
    for v in range(5):
        task = asyncio.ensure_future(consumer.poll(20))
        await asyncio.sleep(0)
        await write(v)
        task.cancel()
        results = await asyncio.gather(task, return_exceptions=True)
        found = values(*(one for one in results if isinstance(one, Message)))
        assert found + await take(consumer, 1 - len(found)) == [v]


async def test_wait_for_is_a_time_out_as_well(subscribe, write):
    consumer = await subscribe("s")
    with pytest.raises(builtins.TimeoutError):
        await asyncio.wait_for(anext(aiter(consumer)), 0.05)
    await write(1)
    assert await take(consumer, 1) == [1]


# The server in the process.


async def test_embedded_dsn(clean):
    """A consumer and a connection share one server, in whatever order they come and go."""
    consumer = Consumer("embedded://?group.id=g&auto.offset.reset=earliest&timezone=UTC")
    async with consumer:
        async with aiotaos.connect("embedded:///power") as conn:
            await conn.execute("create table t (ts timestamp, v int)")
            await conn.execute("create topic q as select ts, v from power.t")
            await consumer.subscribe("q")
            await conn.execute("insert into t values (1709251200000, 1)")
            assert (await consumer.poll(5)).rows() == [(START, 1)]
            await consumer.subscribe("q")
        async with aiotaos.connect("embedded:///power") as conn:
            await conn.execute("insert into t values (1709251200001, 2)")
        assert values(await consumer.poll(5)) == [1]
        assert values(await consumer.poll(5)) == [2]


async def test_an_embedded_server_without_the_topic(clean):
    consumer = Consumer("embedded://", group_id="g")
    with pytest.raises(TmqError, match="Topic not exist"):
        await consumer.subscribe("q")
    await consumer.close()


async def test_logs(subscribe, write, proxy, caplog):
    """A loss is told, nothing else is at the level of warnings."""
    caplog.set_level(logging.INFO)
    consumer = await subscribe("s", dsn=through(proxy))
    await write(1)
    assert await take(consumer, 1) == [1]
    proxy.cut(once=True)
    await write(2)
    assert await take(consumer, 1) == [2]
    told = [record for record in caplog.records if record.name == "aiotaos.consumer"]
    assert [record.levelname for record in told] == ["INFO", "INFO"]
    assert "reads again from ws://127.0.0.1" in told[1].getMessage()

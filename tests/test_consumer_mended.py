"""What a consumer once got wrong: ends at odd moments, seeks and losses, callbacks that fail."""

from __future__ import annotations

import asyncio

import pytest

import aiotaos
from aiotaos import ConnectionLost, Consumer, Error, InterfaceError, TimeoutError, TmqError
from aiotaos.embedded import Server, shared
from tests.subscribing import Polled, Subscriptions
from tests.test_consumer import EACH, QUICK, T0, take, through, values
from tests.trouble import Proxy


@pytest.fixture
async def embedded(clean):
    async with Server() as server:
        yield server


@pytest.fixture
async def sql(embedded):
    """Run statements; there is a topic ``q`` on a super table in a database of one vgroup."""
    async with aiotaos.connect(embedded.dsn) as conn:

        async def run(*statements):
            for statement in statements:
                await conn.execute(statement)

        await run(
            "create database d vgroups 1",
            "create stable d.s (ts timestamp, v int) tags (t int)",
            "create topic q as select ts, v from d.s",
        )
        yield run


@pytest.fixture
def write(sql):
    async def insert(*values):
        """An INSERT for each value."""
        for v in values:
            await sql(f"insert into d.t0 using d.s tags (1) values ({T0 + v}, {v})")

    return insert


@pytest.fixture
async def proxy(embedded):
    async with Proxy(embedded.port) as proxy:
        yield proxy


@pytest.fixture
async def make(embedded):
    """Make consumers, which begin at the earliest; closed after the test."""
    made = []

    def consumer(dsn=None, **options):
        given = {"group_id": "g", "auto_offset_reset": "earliest", **QUICK}
        made.append(Consumer(dsn or embedded.dsn, **given | options))
        return made[-1]

    yield consumer
    for one in made:
        await one.close(commit=False, timeout=1)


@pytest.fixture
def subscribe(make, sql):
    async def subscribed(*topics, **options):
        consumer = make(**options)
        await consumer.subscribe(topics, timeout=5)
        return consumer

    return subscribed


def own_tasks():
    names = [task.get_name() for task in asyncio.all_tasks()]
    return [name for name in names if name.startswith("aiotaos: ")]


async def no_task_is_left():
    async with asyncio.timeout(2):
        while own_tasks():  # noqa: ASYNC110
            await asyncio.sleep(0)


def held_servers():
    """The servers of ``embedded://`` in this loop: the number of users of each."""
    loop = asyncio.get_running_loop()
    return [one.users for (home, _), one in shared._servers.items() if home is loop]


def elapsed_since(start):
    return asyncio.get_running_loop().time() - start


async def lost(consumer):
    """Let the loop turn until the consumer has noticed that its connection is gone."""
    async with asyncio.timeout(2):
        while consumer.state == "subscribed":  # noqa: ASYNC110
            await asyncio.sleep(0)


# Positions.


@pytest.mark.parametrize("again", [0, 2], ids=["at once", "after two"])
@pytest.mark.parametrize("auto", [True, False], ids=["auto", "manual"])
async def test_a_seek_behind_what_is_committed_survives_a_loss(
    subscribe, write, proxy, auto, again
):
    await write(*range(6))
    options = {"enable_auto_commit": auto, "auto_commit_interval_ms": 50}
    consumer = await subscribe("q", dsn=through(proxy), **EACH, **options)
    assert await take(consumer, 6) == list(range(6))
    await consumer.commit()
    (place,) = await consumer.assignment()
    assert (await consumer.committed())[place] > 0
    await consumer.seek(*place, 0)
    assert await take(consumer, again) == list(range(again))
    proxy.cut(once=True)
    assert await take(consumer, 6 - again) == list(range(again, 6))
    assert proxy.accepted == 2


# Ends.


@pytest.mark.parametrize("count", range(1, 8))
async def test_close_that_is_cancelled_early_leaves_nothing(subscribe, proxy, count):
    consumer = await subscribe("q", dsn=through(proxy))
    task = asyncio.ensure_future(consumer.close())
    for _ in range(count):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(2):
        await proxy.until(lambda: len(proxy) == 0)
    await no_task_is_left()
    assert consumer.closed


@pytest.mark.parametrize(
    ("retries", "state"), [(100_000, "reconnecting"), (0, "failed")], ids=["reconnecting", "failed"]
)
async def test_close_that_is_to_commit_without_a_server(subscribe, write, proxy, retries, state):
    """Who asked for a commit is told that there was none."""
    await write(1)
    options = {"enable_auto_commit": False, "conn_retries": retries}
    consumer = await subscribe("q", dsn=through(proxy), **options)
    assert await take(consumer, 1) == [1]
    proxy.refuse()
    await lost(consumer)
    async with asyncio.timeout(2):
        while consumer.state != state:  # noqa: ASYNC110
            await asyncio.sleep(0)
    with pytest.raises(Error):
        await consumer.close(commit=True, timeout=0.1)
    assert consumer.closed
    await no_task_is_left()


async def test_unsubscribe_that_is_to_commit_without_a_server(subscribe, write, proxy):
    await write(1)
    consumer = await subscribe("q", dsn=through(proxy), enable_auto_commit=False)
    assert await take(consumer, 1) == [1]
    proxy.refuse()
    await lost(consumer)
    with pytest.raises(Error):
        await consumer.unsubscribe(commit=True)
    assert consumer.state == "idle"
    await no_task_is_left()


async def test_close_commits_a_message_of_a_snapshot(server):
    """It has no offset, and was given out all the same."""
    subscriptions = Subscriptions(server)
    raw = Polled.of(0, 1, [1]).raw
    no_offset = b"\x12" + bytes(16)
    subscriptions.add(
        Polled(-2147467258, 0, raw[:1] + (34).to_bytes(4, "little") + no_offset * 2 + raw[23:])
    )
    consumer = Consumer(server.dsn, group_id="g", enable_auto_commit=False)
    await consumer.subscribe("q")
    message = await consumer.poll(2)
    assert (values(message), message.next_offset) == ([1], None)
    await consumer.close(commit=True)
    assert subscriptions.acknowledged == [1]
    assert subscriptions.commits == []


@pytest.mark.parametrize("count", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("exists", [True, False], ids=["topic", "no topic"])
async def test_close_while_it_subscribes_lets_the_embedded_server_go(clean, exists, count):
    async with aiotaos.connect("embedded:///d") as conn:
        if exists:
            await conn.execute("create table t (ts timestamp, v int)")
            await conn.execute("create topic q as select ts, v from d.t")
        consumer = Consumer("embedded://", group_id="g")
        task = asyncio.ensure_future(consumer.subscribe("q"))
        for _ in range(count):
            await asyncio.sleep(0)
        await consumer.close(timeout=1)
        with pytest.raises(Error):
            await task
        assert held_servers() == [1], "the connection alone"
    assert held_servers() == []
    await no_task_is_left()


@pytest.mark.parametrize("count", [1, 2, 4, 8, 16])
async def test_close_while_it_starts_the_embedded_server(clean, count):
    consumer = Consumer("embedded://", group_id="g")
    task = asyncio.ensure_future(consumer.subscribe("nosuch"))
    for _ in range(count):
        await asyncio.sleep(0)
    await consumer.close(timeout=1)
    with pytest.raises(Error):
        await task
    assert held_servers() == []


# Time-outs.


async def test_subscribe_is_in_time_where_nothing_is_answered(make, proxy):
    """Not even the handshake is."""
    proxy.stall()
    consumer = make(through(proxy), connect_timeout=10)
    start = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError):
        await consumer.subscribe("q", timeout=0.2)
    assert 0.15 < elapsed_since(start) < 1
    assert consumer.state == "idle"


async def test_subscribe_is_in_time_where_it_is_not_answered(server):
    async def never(session, request):
        return []

    Subscriptions(server)
    server.handlers["subscribe"] = never
    async with Consumer(server.dsn, group_id="g") as consumer:
        start = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError):
            await consumer.subscribe("q", timeout=0.2)
        assert 0.15 < elapsed_since(start) < 1
        assert consumer.state == "idle"


# Reading ahead.


async def test_changes_of_tables_count_for_what_is_read_ahead(server):
    subscriptions = Subscriptions(server)
    metas = {"type": "create", "tableName": "x" * 10_000}
    subscriptions.add(*(Polled(n, n + 1, type=2, metas=metas) for n in range(10)))
    async with Consumer(server.dsn, group_id="g", read_ahead=25_000) as consumer:
        await consumer.subscribe("q")
        for left in (7, 6, 5):
            async with asyncio.timeout(2):
                await server.until(lambda left=left: len(subscriptions.waiting) <= left)
            await consumer.list_topics()
            await consumer.list_topics()
            assert len(subscriptions.waiting) == left
            assert (await consumer.poll(2)).metas == [metas]


async def test_who_pauses_before_the_first_poll_stays_a_member(server):
    """It has not polled yet, and a sign of life is due all the same."""
    subscriptions = Subscriptions(server)
    async with Consumer(server.dsn, group_id="g", max_poll_interval_ms=1000) as consumer:
        await consumer.subscribe("q")
        consumer.pause()
        assert subscriptions.polls == 0
        async with asyncio.timeout(2):
            await server.until(lambda: subscriptions.polls == 2)
        assert consumer.last_poll is not None
        consumer.resume()
        async with asyncio.timeout(2):
            await server.until(lambda: subscriptions.polls == 3)
        subscriptions.add(Polled.of(0, 1, [1]))
        assert values(await consumer.poll(2)) == [1]


# Callbacks.


async def test_a_callback_that_was_cancelled(make, write):
    """What it awaited was; the iterator tells of it, and does not wait for ever."""

    async def assigned(places):
        task = asyncio.ensure_future(asyncio.Event().wait())
        task.cancel()
        await task

    consumer = make(on_assigned=assigned)
    await consumer.subscribe("q")
    await write(1)
    async with asyncio.timeout(2):
        with pytest.raises(InterfaceError, match="reading was cancelled"):
            async for _ in consumer:
                pass
    assert consumer.state == "failed"


@pytest.mark.parametrize(
    "error",
    [
        TmqError("on purpose", code=0x03EA),
        TmqError("on purpose", code=0x4002),
        TimeoutError("on purpose"),
        ConnectionLost("on purpose"),
    ],
    ids=["not ready", "gone", "time-out", "lost"],
)
async def test_what_a_callback_raises_is_not_taken_for_the_servers(make, write, error):
    """Such errors of the server are overcome by trying again; a callback's is the application's."""
    calls = []

    def assigned(places):
        calls.append(places)
        raise error

    consumer = make(on_assigned=assigned)
    await write(1)
    await consumer.subscribe("q")
    async with asyncio.timeout(2):
        with pytest.raises(type(error), match="on purpose"):
            async for _ in consumer:
                pass
    assert consumer.state == "failed"
    assert len(calls) == 1

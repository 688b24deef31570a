"""Consumers over libtaos, on the stand-in."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest

import aiotaos
from aiotaos import (
    AuthenticationError,
    ConnectionError,
    ConnectionLost,
    Consumer,
    Error,
    Field,
    InterfaceError,
    Message,
    MessageKind,
    NotSupportedError,
    ProtocolError,
    TimeoutError,
    TmqError,
    TypeCode,
)
from aiotaos.consumer_options import ConsumerOptions
from aiotaos.options import Options
from aiotaos.protocol.encode import encode_block
from aiotaos.protocol.tmq import MessageParser
from aiotaos.transport.base import Deadline
from aiotaos.transport.native.subscription import NativeSubscription, open_native_subscription
from aiotaos.transport.native.topics import TopicConsumer
from aiotaos.transport.servers import Servers
from tests.native.conftest import Native, native_threads
from tests.native.standin import Block, Standin
from tests.native.test_native_queries import until

Subscribe = Callable[..., Awaitable[Consumer]]

FIELDS = [Field("ts", TypeCode.TIMESTAMP, 8), Field("v", TypeCode.INT, 4)]
NAMES = [Field("ts", TypeCode.TIMESTAMP, 8), Field("name", TypeCode.NCHAR, 8)]
T0 = 1709251200000
QUICK: dict[str, Any] = {"conn_retries": 3, "retry_backoff_ms": 1, "retry_backoff_max_ms": 4}


def rows(*values: int, table: str | None = None) -> Block:
    columns = [[T0 + v for v in values], list(values)]
    return Block(FIELDS, encode_block(FIELDS, columns, version=2), table)


def texts(*values: str | None, table: str | None = None) -> Block:
    columns = [[T0] * len(values), list(values)]
    return Block(NAMES, encode_block(NAMES, columns, version=2), table)


def values(*messages: Message) -> list[Any]:
    return [row[1] for message in messages for row in message.rows()]


async def take(consumer: Consumer, count: int) -> list[Any]:
    """The values of the next messages, until there are so many."""
    found: list[Any] = []
    async with asyncio.timeout(5):
        while len(found) < count:
            message = await consumer.poll(5)
            assert message is not None, f"nothing more after {found}"
            found += values(message)
    return found


def commits(standin: Standin) -> list[tuple[int, int]]:
    return [(each["vgroup"], each["offset"]) for each in standin.log("commit")]


@pytest.fixture
async def make(native: Native) -> AsyncIterator[Callable[..., Consumer]]:
    """Make consumers, which begin at the earliest; closed after the test."""
    async with AsyncExitStack() as stack:

        def consumer(**options: Any) -> Consumer:
            given = {"group_id": "g", "auto_offset_reset": "earliest", "timestamp": "int"}
            made = Consumer(native.dsn(), **(given | QUICK | options))
            stack.push_async_callback(made.close)
            return made

        yield consumer
    await until(lambda: native.standin.left() == {})


@pytest.fixture
def subscribe(make: Callable[..., Consumer], native: Native) -> Subscribe:
    native.standin.topic("q", "d", 2)

    async def subscribed(*topics: str, **options: Any) -> Consumer:
        consumer = make(**options)
        await consumer.subscribe(topics or ["q"])
        return consumer

    return subscribed


@pytest.fixture
async def session(native: Native) -> AsyncIterator[NativeSubscription]:
    """A session, subscribed to the topic ``q``."""
    native.standin.topic("q", "d")
    made = await opened(native)
    yield made
    await made.close(5)


async def opened(native: Native, *topics: str, **options: Any) -> NativeSubscription:
    told = ConsumerOptions.make(
        native.dsn(), {"group_id": "g", "auto_offset_reset": "earliest"} | options
    )
    address = told.options.addresses[0]
    servers = Servers(told.options.addresses)
    made = await open_native_subscription(told.options, servers, address, None, Deadline(5))
    try:
        await made.subscribe(told.subscribe_arguments(list(topics or ["q"])), Deadline(5))
    except BaseException:
        made.terminate()
        raise
    return made


# What comes.


async def test_rows(native: Native, subscribe: Subscribe) -> None:
    consumer = await subscribe()
    native.standin.message("q", rows(1, 2), rows(3), offset=5)
    message = await consumer.poll(5)
    assert message is not None
    assert (message.topic, message.database, message.vgroup_id) == ("q", "d", 2)
    assert (message.offset, message.end, message.kind) == (5, 6, MessageKind.DATA)
    assert message.rows() == [(T0 + v, v) for v in (1, 2, 3)]
    assert [block.table for block in message] == [None, None]
    assert message.blocks[0].fields == tuple(FIELDS)
    assert await consumer.poll(0) is None
    native.standin.message("q", rows(4), vgroup=3, offset=7)
    assert await take(consumer, 1) == [4]
    assert native.standin.count("results") == 0


async def test_tables_of_their_own(native: Native, subscribe: Subscribe) -> None:
    consumer = await subscribe()
    native.standin.message("q", rows(1, table="t1"), texts("é😀", None, table="t2"), precision=2)
    message = await consumer.poll(5)
    assert message is not None
    assert [(block.table, block.rows()) for block in message] == [
        ("t1", [(T0 + 1, 1)]),
        ("t2", [(T0, "é😀"), (T0, None)]),
    ]
    assert message.blocks[1].fields == tuple(NAMES)
    assert {block.precision for block in message} == {2}


async def test_changes_of_tables(native: Native, subscribe: Subscribe) -> None:
    consumer = await subscribe()
    native.standin.message("q", type=2, json='{"type":"create"}')
    native.standin.message("q", type=2, json='{"metas":[{"type":"drop"},{"type":"alter"}]}')
    native.standin.message("q", rows(1, table="t"), type=3, json='{"type":"create"}')
    one, two, both = [await consumer.poll(5) for _ in range(3)]
    assert one is not None
    assert two is not None
    assert both is not None
    assert (one.kind, one.metas) == (MessageKind.META, [{"type": "create"}])
    assert [meta["type"] for meta in two.metas] == ["drop", "alter"]
    assert (both.kind, both.metas) == (MessageKind.METADATA, [{"type": "create"}])
    assert (values(both), both.end) == ([1], 3)


async def test_a_message_for_replication(native: Native, subscribe: Subscribe) -> None:
    consumer = await subscribe()
    native.standin.message("q", rows(1), type=4)
    with pytest.raises(TmqError, match="type 4"):
        await consumer.poll(5)


async def test_many_messages(native: Native, subscribe: Subscribe) -> None:
    native.standin.topic("many", "d", 3)
    for number in range(900):
        native.standin.message("many", rows(number), vgroup=2 + number % 3)
    consumer = await subscribe("many", read_ahead=2000)
    assert sorted(await take(consumer, 900)) == list(range(900))
    assert await consumer.lag() == {("many", vgroup): 0 for vgroup in (2, 3, 4)}


# What it is told.


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"td.connect.user": "root", "td.connect.pass": "taosdata"}),
        ({"bearer_token": "tok"}, {"td.connect.token": "tok"}),
        (
            {
                "client_id": "c", "session_timeout_ms": 7000, "max_poll_interval_ms": 8000,
                "heartbeat_interval_ms": 1000, "fetch_max_wait_ms": 5, "min_poll_rows": 6,
                "msg_with_table_name": True, "experimental_snapshot_enable": True,
                "enable_replay": False, "msg_enable_batchmeta": True,
                "msg_consume_excluded": True, "enable_auto_commit": True,
            },
            {
                "client.id": "c", "session.timeout.ms": "7000", "max.poll.interval.ms": "8000",
                "heartbeat.interval.ms": "1000", "fetch.max.wait.ms": "5", "min.poll.rows": "6",
                "msg.with.table.name": "true", "experimental.snapshot.enable": "true",
                "enable.replay": "false", "msg.enable.batchmeta": "1",
                "msg.consume.excluded": "1", "enable.auto.commit": "false",
            },
        ),
    ],
)  # fmt: skip
async def test_settings(
    native: Native,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    expected: dict[str, str],
) -> None:
    native.standin.topic("q", "d")
    told: dict[str, str] = {}
    made = TopicConsumer._made

    def spy(self: TopicConsumer, settings: dict[str, str]) -> int:
        told.update(settings)
        return made(self, settings)

    monkeypatch.setattr(TopicConsumer, "_made", spy)
    session = await opened(native, **options)
    await session.close(5)
    common = {
        "td.connect.ip": "127.0.0.1",
        "td.connect.port": str(native.port),
        "group.id": "g",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": "false",
    }
    wanted = common | expected
    assert {key: told.get(key) for key in wanted} == wanted
    assert ("td.connect.pass" in told) is ("td.connect.token" not in told)
    (event,) = native.standin.log("subscribe")
    assert (event["group"], event["topics"]) == ("g", ["q"])


async def test_what_its_connection_is_told(native: Native) -> None:
    native.standin.topic("q", "d")
    session = await opened(native, timezone="UTC", user_app="app", user_ip="10.0.0.1")
    await session.close(5)
    told = {event["value"] for event in native.standin.log("connection_option")}
    assert told == {"UTC", "app", "10.0.0.1"}


@pytest.mark.parametrize(
    ("setting", "match"),
    [
        ({"no.such.key": "1"}, "no.such.key: libtaos 3.3.7.0 has no such key"),
        ({"auto.commit.interval": "x"}, "no such key"),
        ({"msg.consume.rawdata": "often"}, "rawdata: libtaos refuses 'often'"),
        ({"client.id": "a\0b"}, "NUL"),
    ],
)
async def test_settings_that_are_refused(
    native: Native, setting: dict[str, str], match: str
) -> None:
    source = {
        "group.id": "g", "td.connect.ip": "127.0.0.1", "td.connect.port": native.port,
        "driver": "taos", "library_path": str(native.standin.path),
    }  # fmt: skip
    consumer = Consumer(source | setting)
    with pytest.raises((TmqError, InterfaceError), match=match):
        await consumer.subscribe("q")
    await consumer.close()
    await until(lambda: native.standin.left() == {})


@pytest.mark.parametrize("option", [{"token": "t"}, {"totp_code": "123456"}, {"adapter_ha": True}])
async def test_what_it_cannot_do(native: Native, option: dict[str, Any]) -> None:
    options = Options.make(native.dsn(), **option)
    with pytest.raises(NotSupportedError, match=next(iter(option))):
        await open_native_subscription(
            options, Servers(options.addresses), options.addresses[0], None, Deadline(5)
        )


async def test_old_libraries(any_native: Native) -> None:
    consumer = Consumer(any_native.dsn(), group_id="g")
    if any_native.standin.has("tmq_position"):
        any_native.standin.topic("q", "d")
        await consumer.subscribe("q")
    else:
        with pytest.raises(NotSupportedError, match="no subscriptions to topics that can commit"):
            await consumer.subscribe("q")
    await consumer.close()


async def test_nobody_listens(native: Native, unused_tcp_port: int) -> None:
    native.port = unused_tcp_port
    consumer = Consumer(native.dsn(), group_id="g")
    with pytest.raises(ConnectionError, match="is taosd running"):
        await consumer.subscribe("q")
    await consumer.close()


async def test_a_wrong_password(make: Callable[..., Consumer]) -> None:
    consumer = make(password="wrong")
    with pytest.raises(AuthenticationError):
        await consumer.subscribe("q")


async def test_topics(native: Native, subscribe: Subscribe) -> None:
    native.standin.topic("p", "d")
    consumer = await subscribe("q", "p")
    assert await consumer.list_topics() == ["q", "p"]
    await consumer.subscribe("p")
    assert await consumer.list_topics() == ["p"]
    with pytest.raises(TmqError, match=r"topics: nothing"):
        await consumer.subscribe("nothing")


# Offsets.


async def test_commit_and_go_on(native: Native, subscribe: Subscribe) -> None:
    for number in range(4):
        native.standin.message("q", rows(number))
    first = await subscribe(enable_auto_commit=False)
    assert await take(first, 2) == [0, 1]
    await first.commit()
    assert await first.committed([("q", 2), ("q", 3)]) == {("q", 2): 2, ("q", 3): None}
    await first.close()
    second = await subscribe(enable_auto_commit=False)
    message = await second.poll(5)
    assert message is not None
    assert values(message) == [2]
    await second.commit(message)
    await second.commit_offset("q", 2, 1)
    assert commits(native.standin) == [(2, 2), (2, 3), (2, 1)]


async def test_automatic_commits(native: Native, subscribe: Subscribe) -> None:
    for number in range(3):
        native.standin.message("q", rows(number))
    consumer = await subscribe(auto_commit_interval_ms=50)
    assert await take(consumer, 2) == [0, 1]
    await until(lambda: commits(native.standin) == [(2, 1)])  # it is done with the first
    await consumer.close()
    assert set(commits(native.standin)) == {(2, 1)}  # again, if it closed before the first was done


async def test_seek(native: Native, subscribe: Subscribe) -> None:
    for offset in (10, 11, 14):
        native.standin.message("q", rows(offset), offset=offset)
    consumer = await subscribe()
    assert await take(consumer, 3) == [10, 11, 14]
    assert await consumer.position([("q", 2)]) == {("q", 2): 15}
    await consumer.seek("q", 2, 11)
    assert await take(consumer, 2) == [11, 14]
    await consumer.seek_to_beginning()
    assert await take(consumer, 3) == [10, 11, 14]
    await consumer.seek_to_end()
    native.standin.message("q", rows(20))
    assert await take(consumer, 1) == [20]
    assert await consumer.lag() == {("q", 2): 0, ("q", 3): 0}
    for place, code in ((("q", 2, 9), 0x4007), (("q", 9, 0), 0x4008), (("z", 2, 0), 0x4009)):
        with pytest.raises(TmqError) as caught:
            await consumer.seek(*place)
        assert caught.value.code == code


async def test_members_of_a_group(native: Native, subscribe: Subscribe) -> None:
    changes: list[tuple[str, list[int]]] = []

    def note(kind: str) -> Callable[[frozenset[tuple[str, int]]], None]:
        return lambda places: changes.append((kind, sorted(vgroup for _, vgroup in places)))

    one = await subscribe(on_assigned=note("+"), on_revoked=note("-"))
    assert len(await one.wait_assigned(5)) == 2
    two = await subscribe()
    assert await two.wait_assigned(5) == {("q", 3)}
    native.standin.message("q", rows(1), vgroup=2)
    native.standin.message("q", rows(2), vgroup=3)
    assert (await take(one, 1), await take(two, 1)) == ([1], [2])
    await two.commit()
    await two.close()
    native.standin.message("q", rows(3), vgroup=3)
    assert await take(one, 1) == [3]
    assert changes[0] == ("+", [2, 3])


# Failures.


@pytest.mark.parametrize(
    ("call", "code", "kind"),
    [
        ("tmq_consumer_new", 0x0357, AuthenticationError),
        ("tmq_consumer_new", 0x0118, TmqError),
        ("tmq_subscribe", 0x03E1, TmqError),
    ],
)
async def test_refused(
    native: Native, subscribe: Subscribe, call: str, code: int, kind: type[Error]
) -> None:
    native.standin.rule(call, code=code, message="because")
    with pytest.raises(kind) as caught:
        await subscribe()
    assert (caught.value.code, caught.value.endpoint) == (code, f"taos://127.0.0.1:{native.port}")


@pytest.mark.parametrize("call", ["tmq_consumer_new", "tmq_subscribe"])
async def test_no_network_at_first(native: Native, subscribe: Subscribe, call: str) -> None:
    native.standin.rule(call, code=0x000B, times=2)
    consumer = await subscribe()
    native.standin.message("q", rows(1))
    assert await take(consumer, 1) == [1]


@pytest.mark.parametrize(
    "call",
    ["tmq_commit_offset_sync", "tmq_committed", "tmq_position", "tmq_get_topic_assignment"],
)
async def test_calls_that_fail(native: Native, session: NativeSubscription, call: str) -> None:
    deadline, place = Deadline(5), ("q", 2)
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "tmq_commit_offset_sync": lambda: session.commit_offset(*place, 0, deadline),
        "tmq_committed": lambda: session.committed([place], deadline),
        "tmq_position": lambda: session.position([place], deadline),
        "tmq_get_topic_assignment": lambda: session.assignment("q", deadline),
    }
    native.standin.rule(call, code=0x4003)
    with pytest.raises(TmqError) as caught:
        await calls[call]()
    assert caught.value.code == 0x4003
    await calls[call]()


async def test_more_calls_that_fail(native: Native, session: NativeSubscription) -> None:
    native.standin.message("q", rows(1))
    for call, made in (
        ("tmq_consumer_poll", lambda: session.poll(1, 0)),
        ("tmq_offset_seek", lambda: session.seek("q", 2, 0, Deadline(5))),
        ("tmq_commit_sync", lambda: session.commit_all(1, Deadline(5))),
        ("tmq_unsubscribe", lambda: session.unsubscribe(Deadline(5))),
    ):
        native.standin.rule(call, code=0x4003, message="because")
        with pytest.raises(TmqError):
            await made()
    assert (await session.poll(1, 0)).have_message
    native.standin.rule("tmq_consumer_close", code=0x4003)


async def test_an_error_for_good(native: Native, subscribe: Subscribe) -> None:
    consumer = await subscribe()
    native.standin.rule("tmq_consumer_poll", code=0x4003, message="because", times=-1)
    with pytest.raises(TmqError, match="because") as caught:
        await consumer.poll(5)
    assert (caught.value.code, consumer.state) == (0x4003, "failed")


@pytest.mark.parametrize("code", [0x000B, 0x03E6, 0x4002])
async def test_read_on_after_a_loss(native: Native, subscribe: Subscribe, code: int) -> None:
    consumer = await subscribe()
    for number in range(2):
        native.standin.message("q", rows(number))
    assert await take(consumer, 1) == [0]
    native.standin.rule("tmq_consumer_poll", code=code)
    native.standin.message("q", rows(2))
    assert await take(consumer, 2) == [1, 2]  # and not the first again
    await until(lambda: len(native.standin.log("subscribe")) == 2)
    await until(lambda: native.standin.count("consumers") == 1)


async def test_a_message_that_cannot_be_read_comes_again(
    native: Native, subscribe: Subscribe
) -> None:
    consumer = await subscribe()
    native.standin.rule("tmq_get_raw", code=0x0102)
    native.standin.message("q", rows(1))
    assert await take(consumer, 1) == [1]
    native.standin.rule("tmq_get_json_meta", code=0x0102)
    native.standin.message("q", type=2, json="{}")
    message = await consumer.poll(5)
    assert message is not None
    assert (message.kind, message.metas) == (MessageKind.META, [{}])
    await until(lambda: native.standin.count("consumers") == 1)


async def test_unreadable_meta(native: Native, subscribe: Subscribe) -> None:
    consumer = await subscribe()
    native.standin.message("q", type=2, json="nonsense")
    with pytest.raises(ProtocolError, match="unreadable meta"):
        await consumer.poll(5)


# Cancelled, late, closed.


async def test_a_cancelled_poll_loses_nothing(native: Native, session: NativeSubscription) -> None:
    task = asyncio.create_task(session.poll(4000, 0))
    await until(lambda: native.standin.count("polls") == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    native.standin.message("q", rows(1))
    reply = await session.poll(4000, 0)
    again = await session.poll(4000, 0)  # nobody said that it came
    assert reply == again
    raw = await session.fetch(reply.message_id, Deadline(5))
    (block,) = MessageParser().parse(raw.data, raw.raw_type).blocks
    assert block.raw == rows(1).data
    assert native.standin.count("polls") == 1
    assert not (await session.poll(1, reply.message_id)).have_message
    with pytest.raises(TmqError, match="not there any more"):
        await session.fetch(reply.message_id, Deadline(5))
    native.standin.message("q", type=2, json="{}")
    reply = await session.poll(1, reply.message_id)
    with pytest.raises(TmqError, match="has no rows"):
        await session.fetch(reply.message_id, Deadline(5))


async def test_polls_cancelled_at_random(native: Native, session: NativeSubscription) -> None:
    chance = random.Random(7)
    for number in range(100):
        native.standin.message("q", rows(number))
    seen: list[int] = []
    last = 0
    while len(seen) < 100:
        task = asyncio.create_task(session.poll(50, last))
        for _ in range(chance.randrange(6)):
            await asyncio.sleep(0)
        if chance.random() < 0.7:
            task.cancel()
        await asyncio.wait([task])
        if task.cancelled():
            continue
        reply = task.result()
        last = reply.message_id
        raw = await session.fetch(last, Deadline(5))
        assert MessageParser().parse(raw.data, raw.raw_type).end == reply.offset + 1
        seen.append(reply.offset)
    assert seen == list(range(100))
    assert native.standin.count("results") == 0


async def test_a_late_call(native: Native, session: NativeSubscription) -> None:
    native.standin.rule("tmq_committed", hold=True)
    with pytest.raises(TimeoutError, match=r"no answer within 0\.05 s"):
        await session.committed([("q", 2)], Deadline(0.05))
    with pytest.raises(TimeoutError):
        await session.commit_offset("q", 2, 0, Deadline(0.01))  # is not begun any more
    assert not session.closed
    native.standin.release("tmq_committed")
    assert await session.committed([("q", 2)], Deadline(5)) == [None]
    assert commits(native.standin) == []


async def test_a_cancelled_subscribe(native: Native, subscribe: Subscribe) -> None:
    native.standin.rule("tmq_subscribe", hold=True)
    task = asyncio.create_task(subscribe())
    await until(lambda: native.standin.count("held") == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    native.standin.release("tmq_subscribe")
    await until(lambda: native_threads() == [])
    assert native.standin.left() == {}


async def test_subscribe_takes_too_long(native: Native, make: Callable[..., Consumer]) -> None:
    native.standin.topic("q", "d")
    native.standin.rule("tmq_consumer_new", hold=True)
    consumer = make()
    with pytest.raises(TimeoutError):
        await consumer.subscribe("q", timeout=0.1)
    native.standin.release("tmq_consumer_new")
    await until(lambda: native_threads() == [])
    assert native.standin.left() == {}
    await consumer.subscribe("q")


async def test_closed_while_it_polls(native: Native, session: NativeSubscription) -> None:
    polls: Sequence[asyncio.Task[Any]]
    polls = [asyncio.create_task(session.poll(50, 0)) for _ in range(2)]
    await until(lambda: native.standin.count("polls") == 1)
    await session.close(5)
    assert native_threads() == []
    assert native.standin.left() == {}
    for poll in polls:
        with pytest.raises(InterfaceError, match="closed during the call"):
            await poll
    with pytest.raises(InterfaceError, match="is closed"):
        await session.poll(1, 0)
    assert native.standin.count("polls") == 1
    assert repr(session).endswith("closed, 0 calls>")


async def test_closed_while_libtaos_hangs(native: Native, subscribe: Subscribe) -> None:
    consumer = await subscribe(enable_auto_commit=False)
    native.standin.rule("tmq_consumer_poll", hold=True)
    await until(lambda: native.standin.count("held") == 1)
    await consumer.close(timeout=0.05)
    assert native.standin.count("consumers") == 1
    native.standin.release("tmq_consumer_poll")
    await until(lambda: native_threads() == [])
    assert native.standin.left() == {}


async def test_dropped(native: Native, session: NativeSubscription) -> None:
    ended: list[int] = []
    session.on_end = lambda: ended.append(1)
    poll = asyncio.create_task(session.poll(20, 0))
    await until(lambda: native.standin.count("polls") == 1)
    session.drop(OSError("for a reason"))
    with pytest.raises(ConnectionLost, match="for a reason"):
        await poll
    with pytest.raises(ConnectionLost):
        await session.topics(Deadline(5))
    session.drop(OSError("for another"))
    session.terminate()
    assert ended == [1]


async def test_unsubscribed_and_closed(native: Native, subscribe: Subscribe) -> None:
    consumer = await subscribe()
    assert native_threads() == ["aiotaos-native-consumer_0"]
    await consumer.unsubscribe()
    assert native_threads() == []
    await consumer.subscribe("q")
    iterating = asyncio.create_task(anext(aiter(consumer), None))
    await until(lambda: native.standin.count("polls") >= 1)
    await consumer.unsubscribe()
    assert await iterating is None


async def test_nobody_closes_it(native: Native) -> None:
    native.standin.topic("q", "d")
    consumer = Consumer(native.dsn(), group_id="g")
    await consumer.subscribe("q")
    with pytest.warns(ResourceWarning, match="unclosed <Consumer"):  # noqa: PT031
        del consumer
        gc.collect()
    await until(lambda: native_threads() == [])
    assert native.standin.left() == {}


def test_a_loop_that_ends_without_it(standin: Standin, open_port: int) -> None:
    standin.topic("q", "d")
    native = Native(standin, open_port, AsyncExitStack())

    async def leave() -> None:
        session = await opened(native)
        task = asyncio.create_task(session.poll(50, 0))
        await until(lambda: standin.count("polls") == 1)
        task.cancel()

    asyncio.run(leave())
    gc.collect()
    standin.wait("consumers", 0)
    assert standin.left() == {}
    assert standin.misuse() == {}


async def test_connections_beside_it(native: Native, subscribe: Subscribe) -> None:
    consumer = await subscribe()
    async with aiotaos.connect(native.dsn()) as conn:
        assert await conn.fetchval("select 7") == 7
        native.standin.message("q", rows(1))
        assert await take(consumer, 1) == [1]

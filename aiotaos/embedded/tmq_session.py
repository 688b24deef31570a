"""A WebSocket conversation at ``/rest/tmq``: one consumer."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import anyio
import anyio.abc
import anyio.to_thread
import msgspec
from aiohttp import WSMsgType, web

from ..protocol import messages
from ..protocol import tmq_messages as tmq
from ..protocol.messages import Arguments, Envelope, ReqIdArgs
from . import tmq_frames
from .access import Access
from .arguments import UNKNOWN, sendable
from .consumers import Consumer
from .delivery import Delivery
from .engine import Engine, guarded
from .faults import Fault
from .sql import VERSION
from .tmq_frames import Block
from .tmq_options import consumer_options
from .topics import Kind

_Binary: TypeAlias = partial[bytes]
"""A binary reply that lacks nothing but its ``timing``."""
_Reply: TypeAlias = Envelope | _Binary


class _PollArgs(tmq.PollArgs):
    """Arguments of ``poll``; without a ``message_id`` nothing is sent again."""

    message_id: int | None = None  # type: ignore[assignment]


@dataclass(slots=True)
class _Message:
    """What was delivered last.

    Attributes:
        fetched: Number of the blocks that ``fetch`` has gone to.
        block: The last one of them.
    """

    id: int
    delivery: Delivery
    fetched: int = 0
    block: Block | None = None


@dataclass(frozen=True, slots=True)
class _Action:
    """How a request's arguments are read, and what answers it."""

    type: type[Arguments]
    handler: Callable[..., Awaitable[_Reply]]


@dataclass(frozen=True, slots=True)
class _Call:
    """A request with its arguments.

    Attributes:
        began: When it came, in ns.
    """

    action: str
    args: Arguments
    began: int


class TmqSession:
    """One socket: its consumer and the message that it read last.

    Requests are answered one after the other: while a poll waits all but ``version`` wait for it.
    What cannot be read, or has an unknown action, gets no answer at all: so does taosAdapter.
    """

    def __init__(self, engine: Engine, access: Access, socket: web.WebSocketResponse) -> None:
        self._engine = engine
        self._groups = engine.groups
        self._access = access
        self._socket = socket
        self._consumer: Consumer | None = None
        self._is_subscribed = False
        self._message: _Message | None = None
        self._last_id = 0
        self._committed = -math.inf  # when it was done last by itself
        self._lock = anyio.Lock()
        self._woken = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._waiting_poll: _Call | None = None
        self._is_polling = False
        self._tasks: anyio.abc.TaskGroup | None = None
        self._actions = {
            "version": _Action(ReqIdArgs, self._version),
            "subscribe": _Action(tmq.SubscribeArgs, self._subscribe),
            "poll": _Action(_PollArgs, self._poll),
            "fetch": _Action(tmq.MessageArgs, self._fetch),
            "fetch_block": _Action(tmq.MessageArgs, self._fetch_block),
            "fetch_raw": _Action(tmq.MessageArgs, self._fetch_raw),
            "fetch_raw_data": _Action(tmq.MessageArgs, self._fetch_raw_data),
            "fetch_json_meta": _Action(tmq.MessageArgs, self._fetch_json_meta),
            "commit": _Action(tmq.MessageArgs, self._commit),
            "commit_offset": _Action(tmq.OffsetArgs, self._commit_offset),
            "seek": _Action(tmq.OffsetArgs, self._seek),
            "assignment": _Action(tmq.TopicArgs, self._assignment),
            "committed": _Action(tmq.TopicVgroupsArgs, self._committed_offsets),
            "position": _Action(tmq.TopicVgroupsArgs, self._positions),
            "list_topics": _Action(ReqIdArgs, self._list_topics),
            "unsubscribe": _Action(ReqIdArgs, self._unsubscribe),
        }

    async def run(self) -> None:
        """Answer until the socket closes, then leave the group."""
        try:
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                async for message in self._socket:
                    call = self._read(message.data) if message.type is WSMsgType.TEXT else None
                    if call is None:
                        continue
                    if call.action == "poll":
                        self._waiting_poll = call
                        self._start_polling()
                    else:
                        tasks.start_soon(self._answer, call)
                tasks.cancel_scope.cancel()
        finally:
            if self._consumer is not None:
                self._groups.leave(self._consumer)

    def _read(self, data: str) -> _Call | None:
        """Read a request; None if it is to get no answer."""
        began = time.perf_counter_ns()
        with suppress(msgspec.MsgspecError, UnicodeError, RecursionError):
            request = msgspec.json.decode(data, type=messages.Request)
            action = self._actions.get(request.action)
            if action is not None:
                given = msgspec.json.decode(request.args, type=dict[str, object])
                # a null is as good as nothing, which some clients rely on
                present = {key: value for key, value in given.items() if value is not None}
                return _Call(request.action, msgspec.convert(present, action.type), began)
        return None

    def _start_polling(self) -> None:
        """Serve polls, one after the other, once there is a consumer."""
        if self._consumer is not None and self._tasks is not None and not self._is_polling:
            self._is_polling = True
            self._tasks.start_soon(self._serve_polls)

    async def _serve_polls(self) -> None:
        # of several polls that wait the last one alone is answered
        while (call := self._waiting_poll) is not None:
            self._waiting_poll = None
            await self._answer(call)
        self._is_polling = False

    async def _answer(self, call: _Call) -> None:
        try:
            # a poll that waits must not keep others from asking who is there
            async with nullcontext() if call.action == "version" else self._lock:
                reply = await self._actions[call.action].handler(call.args)
        except Fault as fault:
            reply = _refusal(call, fault)
        timing = time.perf_counter_ns() - call.began
        with suppress(ConnectionError):  # the client went away, nobody waits for this
            if isinstance(reply, Envelope):
                reply.action, reply.req_id, reply.timing = call.action, call.args.req_id, timing
                await self._socket.send_str(messages.reply(reply))
            else:
                await self._socket.send_bytes(reply(timing=timing))

    async def _version(self, _: Arguments) -> Envelope:
        return messages.VersionReply(version=VERSION)

    async def _subscribe(self, given: tmq.SubscribeArgs) -> Envelope:
        if self._is_subscribed:
            raise Fault(UNKNOWN, "tmq should have unsubscribed first")
        # one that has unsubscribed keeps its options, whatever it asks for now
        if self._consumer is None:
            options = consumer_options(given)
            try:
                self._access.check(given.user, given.password)
            except Fault:
                raise Fault(UNKNOWN, "init tscObj failed") from None
            self._consumer = self._groups.subscribe(options, given.topics)
        else:
            self._groups.subscribe(self._consumer.options, given.topics, self._consumer)
        self._is_subscribed = True
        self._start_polling()
        return messages.VersionReply(version=VERSION)

    def _member(self) -> Consumer:
        if self._consumer is None:
            raise Fault(UNKNOWN, "tmq not init")
        return self._consumer

    async def _poll(self, given: _PollArgs) -> Envelope:
        consumer = self._member()
        held = self._message
        if held is None or given.message_id is None or given.message_id == held.id:
            self._commit_when_due(consumer)
            delivery = await self._next(consumer, given.blocking_time)
            if delivery is None:
                return tmq.PollReply()
            self._last_id += 1
            held = self._message = _Message(self._last_id, delivery)
        topic = held.delivery.topic
        return tmq.PollReply(
            have_message=True,
            topic=topic.name,
            database=topic.database,
            vgroup_id=held.delivery.vgroup,
            message_type=held.delivery.message_type,
            message_id=held.id,
            offset=held.delivery.offset,
        )

    def _commit_when_due(self, consumer: Consumer) -> None:
        """Commit what earlier polls read, if the consumer wants that, and it is time."""
        interval = consumer.options.commit_interval
        now = time.monotonic()
        if interval is not None and now >= self._committed + interval:
            self._committed = now
            self._groups.commit(consumer)

    async def _next(self, consumer: Consumer, blocking: int) -> Delivery | None:
        """Wait for a message.

        Args:
            blocking: Milliseconds to wait; without an end if it is negative.
        """
        end = math.inf if blocking < 0 else time.monotonic() + blocking / 1000
        self._groups.sweep()
        journal = self._engine.store.journal
        journal.listen(self._wake)
        try:
            while True:
                self._woken.clear()
                expiry = self._groups.hear(consumer)
                delivery = await anyio.to_thread.run_sync(self._take, consumer)
                rest = end - time.monotonic()
                if delivery is not None or rest <= 0:
                    return delivery
                with anyio.move_on_after(min(rest, expiry)):
                    await self._woken.wait()
        finally:
            journal.unlisten(self._wake)

    def _take(self, consumer: Consumer) -> Delivery | None:
        with guarded():
            return self._groups.poll(consumer)

    def _wake(self) -> None:
        """Look for something new; any thread may call it."""
        with suppress(RuntimeError):  # the loop has ended, and with it the socket
            self._loop.call_soon_threadsafe(self._woken.set)

    def _held(self) -> _Message:
        self._member()
        if self._message is None:
            raise Fault(UNKNOWN, "message has been freed")
        return self._message

    def _with_rows(self, id: int, mismatch: str) -> _Message:
        """The message of this id, which has rows."""
        held = self._held()
        if id != held.id:
            raise Fault(UNKNOWN, mismatch)
        if not held.delivery.blocks:
            raise Fault(UNKNOWN, "message type is not data")
        return held

    async def _fetch(self, given: tmq.MessageArgs) -> Envelope:
        held = self._with_rows(given.message_id, "message ID are not equal")
        blocks = held.delivery.blocks
        if held.fetched == len(blocks):
            return tmq.MessageFetchReply(message_id=held.id, completed=True)
        held.block = blocks[held.fetched]
        held.fetched += 1
        fields = [column.field for column in held.block.columns]
        names, types, lengths, _, _ = messages.result_description(fields)
        return tmq.MessageFetchReply(
            message_id=held.id,
            table_name="" if held.delivery.topic.kind is Kind.QUERY else held.block.table,
            rows=held.block.rows,
            fields_count=len(fields),
            fields_names=names,
            fields_types=types,
            fields_lengths=lengths,
            precision=held.block.precision,
        )

    async def _fetch_block(self, given: tmq.MessageArgs) -> _Reply:
        held = self._with_rows(given.message_id, "message is nil")
        if held.block is None:
            raise Fault(UNKNOWN, "no fetch data")
        return partial(tmq_frames.block_reply, given.req_id, held.id, held.block.raw)

    async def _fetch_raw(self, given: tmq.MessageArgs) -> _Reply:
        held = self._raw(given.message_id)
        raw = await anyio.to_thread.run_sync(held.delivery.raw)
        raw_type = held.delivery.raw_type
        return partial(tmq_frames.raw_reply, given.req_id, held.id, raw_type, raw)

    async def _fetch_raw_data(self, given: tmq.MessageArgs) -> _Reply:
        held = self._raw(given.message_id)
        raw = await anyio.to_thread.run_sync(held.delivery.raw)
        return partial(
            tmq_frames.raw_data_reply,
            given.req_id,
            held.id,
            raw_type=held.delivery.raw_type,
            raw=raw,
        )

    def _raw(self, id: int) -> _Message:
        """The message of this id, which can be had as a whole."""
        held = self._held()
        if id != held.id:
            raise Fault(UNKNOWN, "message ID is not equal")
        if not held.delivery.blocks:
            raise Fault(UNKNOWN, "not supported by the embedded server: meta in binary form")
        return held

    async def _fetch_json_meta(self, given: tmq.MessageArgs) -> Envelope:
        held = self._held()
        if not held.delivery.metas:
            kind = held.delivery.message_type
            raise Fault(UNKNOWN, f"message type can not get meta, type: {kind}")
        if given.message_id != held.id:
            raise Fault(UNKNOWN, "message ID are not equal")
        return tmq.JsonMetaReply(message_id=held.id, data=held.delivery.meta())

    async def _commit(self, given: tmq.MessageArgs) -> Envelope:
        self._groups.commit(self._member())
        return tmq.MessageReply(message_id=given.message_id)

    async def _commit_offset(self, given: tmq.OffsetArgs) -> Envelope:
        consumer = self._member()
        self._groups.commit_offset(consumer, given.topic, given.vgroup_id, given.offset)
        return tmq.OffsetReply(topic=given.topic, vgroup_id=given.vgroup_id, offset=given.offset)

    async def _seek(self, given: tmq.OffsetArgs) -> Envelope:
        self._groups.seek(self._member(), given.topic, given.vgroup_id, given.offset)
        return Envelope()

    async def _assignment(self, given: tmq.TopicArgs) -> Envelope:
        found = self._groups.assignment(self._member(), given.topic)
        return tmq.AssignmentReply(
            assignment=[
                tmq.Assignment(vgroup_id=vgroup, offset=offset, begin=0, end=end)
                for vgroup, offset, end in found
            ]
        )

    async def _committed_offsets(self, given: tmq.TopicVgroupsArgs) -> Envelope:
        consumer = self._member()
        offsets = [
            self._groups.committed(consumer, one.topic, one.vgroup_id)
            for one in given.topic_vgroup_ids
        ]
        return tmq.CommittedReply(committed=offsets)

    async def _positions(self, given: tmq.TopicVgroupsArgs) -> Envelope:
        consumer = self._member()
        positions = [
            self._groups.position(consumer, one.topic, one.vgroup_id)
            for one in given.topic_vgroup_ids
        ]
        return tmq.PositionReply(position=positions)

    async def _list_topics(self, _: Arguments) -> Envelope:
        return tmq.TopicsReply(topics=list(self._member().topics))

    async def _unsubscribe(self, _: Arguments) -> Envelope:
        self._groups.leave(self._member())
        self._is_subscribed = False
        self._message = None
        return Envelope()


def _refusal(call: _Call, fault: Fault) -> _Reply:
    """How a request is told of its failure."""
    text = sendable(fault.message)
    if isinstance(call.args, tmq.MessageArgs) and call.action != "commit":
        id = call.args.message_id
        if call.action == "fetch_raw_data":
            return partial(
                tmq_frames.raw_data_reply, call.args.req_id, id, code=fault.code, error=text
            )
        return tmq.MessageReply(fault.code, text, message_id=id)
    return Envelope(fault.code, text)

"""A subscription over WebSocket: one consumer's session with taosAdapter's ``/rest/tmq``.

libtaos runs the calls of a consumer one after the other, and a poll for as long as it waits, so
other requests are answered only behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..errors import AuthenticationError, Error, ProtocolError, TmqError
from ..options import Options
from ..protocol import messages, tmq
from ..protocol import tmq_messages as wire
from .base import Deadline, next_req_id, parsed_version
from .calls import Call, Calls, Reply, text_of
from .framing import Message
from .servers import Place

_RAW_DATA_SINCE = (3, 3, 2, 0)
NO_LOGIN = "init tscObj failed"
"""What libtaos says when the login of a consumer fails, for whatever reason."""

_LATE_FOR_POLL = 10.0  # seconds that the answer to a poll may take longer than the poll


class _Calls(Calls):
    """The requests of a subscription; blocks come in frames of another kind."""

    def _on_binary(self, data: Message) -> None:
        try:
            reply = tmq.parse_reply(data)
        except ProtocolError as error:
            self.lose(error)
            return
        self._deliver(self._calls.get(reply.req_id), reply)

    def refusal(self, code: int, message: str, req_id: int, sql: str | None) -> Error:
        error = super().refusal(code, message, req_id, sql)
        if isinstance(error, AuthenticationError):
            return error
        return TmqError(error.message, code=error.code, req_id=req_id, endpoint=self.endpoint)


class Subscription:
    """The session of one consumer.

    Args:
        options: How to log in.
        place: The server, and the session's place there.

    Attributes:
        instances: The servers of the cluster, as the server told them.
        link: The socket.
        on_end: Called when the session has ended, however it ended.
    """

    def __init__(self, options: Options, place: Place) -> None:
        self.on_end: Callable[[], None] | None = None
        self._place = place
        self.instances: list[str] = []
        self._fetch = "fetch_raw_data"
        self._calls = _Calls(options, place.address, "/rest/tmq", self._ended)
        self.link = self._calls.link

    def __repr__(self) -> str:
        return f"<Subscription {self._calls!r}>"

    def _ended(self) -> None:
        self._place.leave()
        if self.on_end is not None:
            self.on_end()

    @property
    def endpoint(self) -> str:
        """``scheme://host:port``."""
        return self._calls.endpoint

    @property
    def closed(self) -> bool:
        """Whether the session is closed or lost."""
        return self._calls.ended

    async def login(self, deadline: Deadline) -> None:
        """Ask for the version; credentials go with the subscription."""
        version = await self._calls.ask(
            "version", messages.ReqIdArgs(), messages.VersionReply, deadline, req_id=0
        )
        if parsed_version(version.version) < _RAW_DATA_SINCE:
            self._fetch = "fetch_raw"

    async def subscribe(self, arguments: wire.SubscribeArgs, deadline: Deadline) -> None:
        """Subscribe to topics; can take long while the server finds out who reads what."""
        try:
            reply = await self._ask("subscribe", arguments, wire.SubscribeReply, deadline)
        except TmqError as error:
            error.say(f"{error.message} (topics: {', '.join(arguments.topics)})")
            raise
        self.instances = reply.list_instances or []

    async def unsubscribe(self, deadline: Deadline) -> None:
        """Give all topics up."""
        await self._ask("unsubscribe", messages.ReqIdArgs(), messages.Envelope, deadline)

    async def topics(self, deadline: Deadline) -> list[str]:
        """The topics that are subscribed to, as the server knows them."""
        arguments = messages.ReqIdArgs()
        return (await self._ask("list_topics", arguments, wire.TopicsReply, deadline)).topics or []

    async def poll(self, milliseconds: int, last_message: int) -> wire.PollReply:
        """Ask for the next message; those before it cannot be fetched any more.

        Args:
            milliseconds: How long the server waits for one.
            last_message: Id of the last one that came, 0 if there was none.
        """
        deadline = Deadline(milliseconds / 1000 + _LATE_FOR_POLL)
        arguments = wire.PollArgs(blocking_time=milliseconds, message_id=last_message)
        return await self._ask("poll", arguments, wire.PollReply, deadline)

    async def fetch(self, message_id: int, deadline: Deadline) -> tmq.RawReply:
        """The rows of a message, undecoded."""
        arguments = wire.MessageArgs(next_req_id(), message_id)
        call = Call(arguments.req_id)
        self._calls.check_open(call.req_id, None)
        self._calls.start(call, messages.request(self._fetch, arguments))
        reply = await self._calls.wait(call, deadline)
        if isinstance(reply, tmq.RawReply):
            if reply.code:
                raise self._calls.refusal(reply.code, reply.message, call.req_id, None)
            if reply.message_id != message_id:
                raise ProtocolError(
                    f"the server sent message {reply.message_id} for {message_id}",
                    endpoint=self.endpoint,
                )
            return reply
        self._check_refusal(reply, call)
        raise ProtocolError("the server answered a fetch without data", endpoint=self.endpoint)

    def _check_refusal(self, reply: Reply, call: Call) -> None:
        envelope = messages.parse(text_of(reply), messages.Envelope)
        if envelope.code:
            raise self._calls.refusal(envelope.code, envelope.message, call.req_id, None)

    async def fetch_meta(self, message_id: int, deadline: Deadline) -> list[dict[str, object]]:
        """The changes of tables that a message tells of."""
        arguments = wire.MessageArgs(message_id=message_id)
        reply = await self._ask("fetch_json_meta", arguments, wire.JsonMetaReply, deadline)
        return wire.parse_meta(reply.data)

    async def commit_all(self, message_id: int, deadline: Deadline) -> None:
        """Commit the position behind everything that was polled."""
        arguments = wire.MessageArgs(message_id=message_id)
        await self._ask("commit", arguments, wire.MessageReply, deadline)

    async def commit_offset(
        self, topic: str, vgroup_id: int, offset: int, deadline: Deadline
    ) -> None:
        """Commit the offset of what is to be read next from a vgroup."""
        arguments = wire.OffsetArgs(topic=topic, vgroup_id=vgroup_id, offset=offset)
        await self._ask("commit_offset", arguments, wire.OffsetReply, deadline)

    async def seek(self, topic: str, vgroup_id: int, offset: int, deadline: Deadline) -> None:
        """Go on at an offset of a vgroup."""
        arguments = wire.OffsetArgs(topic=topic, vgroup_id=vgroup_id, offset=offset)
        await self._ask("seek", arguments, messages.Envelope, deadline)

    async def assignment(self, topic: str, deadline: Deadline) -> list[wire.Assignment]:
        """The vgroups of a topic that this consumer reads."""
        arguments = wire.TopicArgs(topic=topic)
        reply = await self._ask("assignment", arguments, wire.AssignmentReply, deadline)
        return reply.assignment or []

    async def committed(
        self, places: Sequence[tuple[str, int]], deadline: Deadline
    ) -> list[int | None]:
        """The committed offsets of vgroups; None where there is none."""
        reply = await self._ask("committed", _places(places), wire.CommittedReply, deadline)
        offsets = self._as_many(reply.committed, places)
        return [None if offset == wire.NO_OFFSET else offset for offset in offsets]

    async def position(self, places: Sequence[tuple[str, int]], deadline: Deadline) -> list[int]:
        """The offsets behind what was polled of vgroups."""
        reply = await self._ask("position", _places(places), wire.PositionReply, deadline)
        return self._as_many(reply.position, places)

    def _as_many(self, offsets: list[int] | None, places: Sequence[tuple[str, int]]) -> list[int]:
        if offsets is None or len(offsets) != len(places):
            told = 0 if offsets is None else len(offsets)
            raise ProtocolError(
                f"the server told {told} offsets of {len(places)}", endpoint=self.endpoint
            )
        return offsets

    async def close(self, timeout: float) -> None:
        """End the session, within ``timeout`` seconds; the server lets other members read on."""
        await self._calls.say_goodbye(timeout)

    def terminate(self) -> None:
        """End the session at once."""
        self._calls.abandon()
        self.link.abort()

    def drop(self, reason: Exception) -> None:
        """End the session at once, as if it had been lost for ``reason``."""
        self._calls.lose(reason)

    async def _ask(
        self,
        action: str,
        arguments: messages.Arguments,
        reply: type[messages.EnvelopeT],
        deadline: Deadline,
    ) -> messages.EnvelopeT:
        arguments.req_id = next_req_id()
        return await self._calls.ask(action, arguments, reply, deadline, req_id=arguments.req_id)


def _places(places: Sequence[tuple[str, int]]) -> wire.TopicVgroupsArgs:
    return wire.TopicVgroupsArgs(
        topic_vgroup_ids=[wire.TopicVgroup(topic, vgroup_id) for topic, vgroup_id in places]
    )

"""A subscription over libtaos: one consumer, and the thread that makes its calls.

It offers what the one over WebSocket does (:mod:`aiotaos.transport.subscription`), so that a reader
need not know which it has. The calls of a consumer are made one after the other, and a poll takes
as long as it waits, so others are answered only behind it.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import msgspec

from ...errors import (
    AuthenticationError,
    ConnectionLost,
    Error,
    InterfaceError,
    NotSupportedError,
    ProtocolError,
    TimeoutError,
    TmqError,
    server_error,
)
from ...options import Address, Options
from ...protocol.tmq import RawReply
from ...protocol.tmq_messages import Assignment, PollReply, SubscribeArgs, parse_meta
from ..base import Deadline
from ..servers import Place, Servers
from .connection import LOST
from .reaching import knock, loaded
from .structs import ConnectionOption
from .topics import Polled, Refused, TopicConsumer, Unreadable, check_topics
from .worker import Worker

T = TypeVar("T")

_LATE_FOR_POLL = 10.0  # seconds that a poll may take longer than it was told to
_KEYS = {
    "group_id": "group.id",
    "client_id": "client.id",
    "offset_rest": "auto.offset.reset",
    "offset_reset": "auto.offset.reset",
    "auto_commit": "enable.auto.commit",
    "auto_commit_interval_ms": "auto.commit.interval.ms",
    "snapshot_enable": "experimental.snapshot.enable",
    "with_table_name": "msg.with.table.name",
    "enable_batch_meta": "msg.enable.batchmeta",
    "msg_consume_excluded": "msg.consume.excluded",
    "msg_consume_rawdata": "msg.consume.rawdata",
    "session_timeout_ms": "session.timeout.ms",
    "max_poll_interval_ms": "max.poll.interval.ms",
}
"""libtaos' keys for the fields of ``subscribe``; what is in its ``config`` has them already."""


async def open_native_subscription(
    options: Options,
    servers: Servers,
    address: Address,
    tls: ssl.SSLContext | None,
    deadline: Deadline,
) -> NativeSubscription:
    """Load libtaos, and see whether a taosd listens; it is spoken to by ``subscribe``.

    Raises:
        ConnectionError: Nobody listens.
        TimeoutError: That took too long.
        InterfaceError: libtaos cannot be loaded, or is set up otherwise in this process.
        NotSupportedError: It is too old, or something is asked for that it cannot do.
    """
    for name, is_asked in (
        ("token", options.token),
        ("totp_code", options.totp_code),
        ("auth", options.auth),
        ("adapter_ha", options.adapter_ha),
    ):
        if is_asked:
            raise NotSupportedError(
                f"{name} cannot be had by a consumer over the native road; connect over "
                "WebSocket, with ws://"
            )
    session = NativeSubscription(options, Place(address))
    try:
        await session.login(deadline)
    except BaseException:
        session.terminate()
        raise
    return session


class NativeSubscription:
    """The session of one consumer; see :class:`aiotaos.transport.subscription.Subscription`.

    Args:
        options: How to log in.
        place: The server, and the session's place there.

    Attributes:
        instances: The servers of the cluster; libtaos keeps them to itself.
        on_end: Called when the session has ended, however it ended.
    """

    instances: Sequence[str] = ()

    def __init__(self, options: Options, place: Place) -> None:
        self.on_end: Callable[[], None] | None = None
        self._options = options
        self._place = place
        self._endpoint = options.endpoint(place.address)
        self._worker = Worker("aiotaos-native-consumer")
        self._consumer: TopicConsumer | None = None
        self._is_closed = False
        self._lost: Exception | None = None

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "lost" if self._lost else "open"
        return f"<NativeSubscription {self._endpoint} {state}, {len(self._worker)} calls>"

    @property
    def endpoint(self) -> str:
        """``scheme://host:port``."""
        return self._endpoint

    @property
    def closed(self) -> bool:
        """Whether the session is closed or lost."""
        return self._is_closed or self._lost is not None

    async def login(self, deadline: Deadline) -> None:
        """Load the library; errors as :func:`open_native_subscription`."""
        await knock(self._place.address, self._endpoint, deadline)
        self._consumer = await self._call(partial(_loaded, self._options), deadline)

    async def subscribe(self, arguments: SubscribeArgs, deadline: Deadline) -> None:
        """Make the consumer, and subscribe; can take long.

        Raises:
            TmqError: libtaos refuses an option, or the server a topic.
            AuthenticationError: The server refuses the credentials.
            ConnectionLost: It could not be reached.
        """
        address, options = self._place.address, self._options
        settings = {"td.connect.ip": address.host, "td.connect.port": str(address.port)}
        if options.bearer_token is None:
            settings["td.connect.user"] = arguments.user
            settings["td.connect.pass"] = arguments.password
        for field, key in _KEYS.items():
            value: str = getattr(arguments, field)
            if value:
                settings[key] = value
        settings |= arguments.config
        told = {
            ConnectionOption.TIMEZONE: arguments.tz,
            ConnectionOption.USER_APP: arguments.app,
            ConnectionOption.USER_IP: arguments.ip,
        }
        connection = {option: value for option, value in told.items() if value}
        topics = list(arguments.topics)
        try:
            await self._ask(lambda one: one.subscribe(settings, connection, topics), deadline)
        except TmqError as error:
            error.say(f"{error.message} (topics: {', '.join(topics)})")
            raise

    async def unsubscribe(self, deadline: Deadline) -> None:
        """Give all topics up."""
        await self._ask(TopicConsumer.unsubscribe, deadline)

    async def topics(self, deadline: Deadline) -> list[str]:
        """The topics that are subscribed to, as libtaos knows them."""
        return await self._ask(TopicConsumer.topics, deadline)

    async def poll(self, milliseconds: int, last_message: int) -> PollReply:
        """Wait for the next message; those before it cannot be fetched any more.

        A message that came for a call that was given up is what the next call gets.

        Args:
            milliseconds: How long is waited.
            last_message: Id of the last one that came, 0 if there was none.
        """
        deadline = Deadline(milliseconds / 1000 + _LATE_FOR_POLL)
        polled = await self._ask(lambda one: one.poll(milliseconds, last_message), deadline)
        return PollReply() if polled is None else polled.reply

    async def fetch(self, message_id: int, deadline: Deadline) -> RawReply:
        """The rows of a message, undecoded."""
        raw = self._polled(message_id).raw
        if raw is None:
            raise TmqError(f"message {message_id} has no rows", endpoint=self._endpoint)
        return raw

    async def fetch_meta(self, message_id: int, deadline: Deadline) -> list[dict[str, object]]:
        """The changes of tables that a message tells of."""
        meta = self._polled(message_id).meta
        try:
            return parse_meta(None if meta is None else msgspec.json.decode(meta))
        except (msgspec.DecodeError, ProtocolError) as error:
            raise ProtocolError(
                f"unreadable meta message: {error}", endpoint=self._endpoint
            ) from None

    def _polled(self, message_id: int) -> Polled:
        self._check_open()
        polled = None if self._consumer is None else self._consumer.polled(message_id)
        if polled is None:
            raise TmqError(f"message {message_id} is not there any more", endpoint=self._endpoint)
        return polled

    async def commit_all(self, message_id: int, deadline: Deadline) -> None:
        """Commit the position behind everything that was polled."""
        await self._ask(TopicConsumer.commit_all, deadline)

    async def commit_offset(
        self, topic: str, vgroup_id: int, offset: int, deadline: Deadline
    ) -> None:
        """Commit the offset of what is to be read next from a vgroup."""
        await self._ask(lambda one: one.commit(topic, vgroup_id, offset), deadline)

    async def seek(self, topic: str, vgroup_id: int, offset: int, deadline: Deadline) -> None:
        """Go on at an offset of a vgroup."""
        await self._ask(lambda one: one.seek(topic, vgroup_id, offset), deadline)

    async def assignment(self, topic: str, deadline: Deadline) -> list[Assignment]:
        """The vgroups of a topic that this consumer reads."""
        return await self._ask(lambda one: one.assignment(topic), deadline)

    async def committed(
        self, places: Sequence[tuple[str, int]], deadline: Deadline
    ) -> list[int | None]:
        """The committed offsets of vgroups; None where there is none."""
        wanted = list(places)
        return await self._ask(lambda one: one.committed(wanted), deadline)

    async def position(self, places: Sequence[tuple[str, int]], deadline: Deadline) -> list[int]:
        """The offsets behind what was polled of vgroups."""
        wanted = list(places)
        return await self._ask(lambda one: one.position(wanted), deadline)

    # Calls.

    async def _ask(self, call: Callable[[TopicConsumer], T], deadline: Deadline) -> T:
        consumer = self._consumer
        self._check_open()
        if consumer is None:
            raise InterfaceError("libtaos is not loaded yet", endpoint=self._endpoint)
        return await self._call(partial(call, consumer), deadline)

    async def _call(self, call: Callable[[], T], deadline: Deadline) -> T:
        try:
            return await self._worker.ask(call, deadline, partial(self._late, deadline))
        except Refused as refused:
            raise self._refusal(refused) from None
        except Unreadable as error:
            self.drop(error)  # another session reads it again
            raise self._lost_error() from error

    def _refusal(self, refused: Refused) -> Error:
        error = server_error(refused.code, refused.text, endpoint=self._endpoint)
        if refused.code in LOST:
            self.drop(error)
            return self._lost_error()
        if isinstance(error, AuthenticationError):
            return error
        return TmqError(error.message, code=error.code, endpoint=self._endpoint)

    def _late(self, deadline: Deadline) -> Error:
        return TimeoutError(f"no answer within {deadline.seconds:g} s", endpoint=self._endpoint)

    def _check_open(self) -> None:
        if self._is_closed:
            raise InterfaceError("the connection is closed", endpoint=self._endpoint)
        if self._lost is not None:
            raise self._lost_error()

    def _lost_error(self) -> Error:
        error = ConnectionLost(
            f"the connection was lost: {self._lost}",
            code=getattr(self._lost, "code", None),
            endpoint=self._endpoint,
        )
        error.__cause__ = self._lost
        return error

    def _closed_error(self) -> Error:
        return InterfaceError("the connection was closed during the call", endpoint=self._endpoint)

    # The end.

    async def close(self, timeout: float) -> None:
        """End the session, within ``timeout`` seconds; the server lets other members read on.

        What libtaos still does then goes on in the thread, and then that ends.
        """
        self.terminate()
        await self._worker.ended(timeout)

    def terminate(self) -> None:
        """End the session at once."""
        if not self.closed:
            self._is_closed = True
            self._end(self._closed_error)
        self._is_closed = True

    def drop(self, reason: Exception) -> None:
        """End the session at once, as if it had been lost for ``reason``."""
        if not self.closed:
            self._lost = reason
            self._end(self._lost_error)

    def _end(self, error: Callable[[], Error]) -> None:
        self._place.leave()
        self._worker.end(error, self._close)
        if self.on_end is not None:
            self.on_end()

    def _close(self) -> None:
        if self._consumer is not None:
            self._consumer.close()

    def __del__(self) -> None:
        if not self.closed:  # its loop ended without it
            self._place.leave()
            self._worker.end(self._closed_error, self._close)


def _loaded(options: Options) -> TopicConsumer:
    """Load the library and set it up; waits."""
    taosc = loaded(options)
    check_topics(taosc)
    return TopicConsumer(taosc)

"""A consumer of libtaos (TMQ): its calls, which wait, for the one thread that makes them.

What a poll brings is copied at once, in the form in which taosAdapter sends it on
(``tmq_get_raw``), and freed: nothing of libtaos' is held between two calls but the consumer itself.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from ctypes import POINTER, c_int32, c_void_p
from typing import NamedTuple

from ...errors import InterfaceError, NotSupportedError
from ...protocol.tmq import RawReply
from ...protocol.tmq_messages import NO_OFFSET, Assignment, MessageType, PollReply
from .handles import Handle
from .structs import ConnectionOption, TmqConfResult, tmq_raw_data, tmq_topic_assignment
from .taosc import Taosc, plain_code

_INVALID = 0x0118
_ERROR_BYTES = 1024
_NEEDED = ("tmq_consumer_poll", "tmq_get_raw", "tmq_commit_offset_sync", "tmq_position")
_SECRETS = frozenset({"td.connect.pass", "td.connect.token"})
_WITH_ROWS = (MessageType.DATA, MessageType.METADATA)
_WITH_METAS = (MessageType.META, MessageType.METADATA)


class Refused(Exception):
    """A call has failed.

    Attributes:
        code: As :attr:`aiotaos.Error.code`.
        text: What libtaos says of it.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text


class Unreadable(Exception):
    """A message has come and could not be copied, so that it is lost to this consumer."""


class Polled(NamedTuple):
    """A message.

    Attributes:
        reply: What is said of it.
        raw: Its rows, undecoded; None if it has none.
        meta: Its changes of tables, as JSON; None if it has none.
    """

    reply: PollReply
    raw: RawReply | None
    meta: bytes | None


def check_topics(taosc: Taosc) -> None:
    """Check that a library has consumers that can do what is needed.

    Raises:
        NotSupportedError: It has not.
    """
    if all(map(taosc.has, _NEEDED)):
        return
    remedy = "Connection.subscribe() is what 2.x has" if taosc.version < (3,) else "3.1 has them"
    raise NotSupportedError(
        f"libtaos {taosc.version_text} has no subscriptions to topics that can commit offsets; "
        f"{remedy}"
    )


class TopicConsumer:
    """A tmq_t. All methods may wait, and belong on one thread.

    Where nothing else is said they raise :class:`Refused`.

    Args:
        taosc: The library.
    """

    def __init__(self, taosc: Taosc) -> None:
        self._taosc = taosc
        self._handle: Handle | None = None
        self._polled: Polled | None = None
        self._last_id = 0
        self._type = taosc.quick("tmq_get_res_type")
        self._topic = taosc.quick("tmq_get_topic_name")
        self._database = taosc.quick("tmq_get_db_name")
        self._vgroup = taosc.quick("tmq_get_vgroup_id")
        self._begin = taosc.quick("tmq_get_vgroup_offset")

    @property
    def _tmq(self) -> int:
        if self._handle is None or self._handle.closed:
            raise InterfaceError("the subscription is closed, or has not begun")
        return self._handle.address

    def subscribe(
        self,
        settings: Mapping[str, str],
        connection: Mapping[ConnectionOption, str],
        topics: Sequence[str],
    ) -> None:
        """Make the consumer, and subscribe; takes up to two minutes.

        Args:
            settings: Its configuration, by libtaos' keys.
            connection: What its connection is told besides.
            topics: The topics.
        """
        taosc = self._taosc
        if self._handle is None:
            self._handle = Handle(self._made(settings), taosc.tmq_consumer_close)
        if connection and taosc.has("taos_options_connection"):
            taos = taosc.tmq_get_connect(self._tmq)
            for option, value in connection.items():
                self._check(taosc.taos_options_connection(taos, option, value.encode()))
        names = taosc.tmq_list_new()
        try:
            for name in topics:
                self._check(taosc.tmq_list_append(names, _text_of("topic", name)))
            self._check(taosc.tmq_subscribe(self._tmq, names))
        finally:
            taosc.tmq_list_destroy(names)

    def _made(self, settings: Mapping[str, str]) -> int:
        taosc = self._taosc
        conf = taosc.tmq_conf_new()
        try:
            for key, value in settings.items():
                answer = taosc.tmq_conf_set(conf, _text_of("key", key), _text_of(key, value))
                if answer == TmqConfResult.UNKNOWN:
                    raise Refused(_INVALID, f"{key}: libtaos {taosc.version_text} has no such key")
                if answer != TmqConfResult.OK:
                    shown = "the value" if key in _SECRETS else repr(value)
                    raise Refused(_INVALID, f"{key}: libtaos refuses {shown}")
            told = ctypes.create_string_buffer(_ERROR_BYTES)
            tmq = taosc.tmq_consumer_new(conf, told, _ERROR_BYTES)
            if tmq is None:
                code, text = taosc.error()
                raise Refused(code, told.value.decode(errors="replace") or text)
            return tmq
        finally:
            taosc.tmq_conf_destroy(conf)

    def unsubscribe(self) -> None:
        """Give all topics up."""
        self._check(self._taosc.tmq_unsubscribe(self._tmq))

    def close(self) -> None:
        """End it; the other members of its group take over what it has read. May be called again.

        Raises nothing.
        """
        self._polled = None
        if self._handle is not None:
            self._handle.close()

    def topics(self) -> list[str]:
        """What is subscribed to."""
        names = c_void_p()
        self._check(self._taosc.tmq_subscription(self._tmq, names))
        try:
            count = self._taosc.tmq_list_get_size(names.value)
            if count <= 0:
                return []
            texts = self._taosc.tmq_list_to_c_array(names.value)
            return [_decoded(texts[each]) for each in range(count)]
        finally:
            self._taosc.tmq_list_destroy(names.value)

    # Messages.

    def poll(self, milliseconds: int, last_message: int) -> Polled | None:
        """The next message, None if there is none in time.

        One that a call before has brought and nobody has got (its id is not ``last_message``)
        comes again. It is the only one that is kept.

        Raises:
            Refused: There is none, for some reason.
            Unreadable: It was lost.
        """
        polled = self._polled
        if polled is not None and polled.reply.message_id != last_message:
            return polled
        self._polled = None
        message = self._taosc.tmq_consumer_poll(self._tmq, milliseconds)
        if message is None:
            code, text = self._taosc.error()  # that of this thread
            if code:
                raise Refused(code, text)
            return None
        try:
            self._polled = self._copied(message)
        except Exception as error:
            raise Unreadable(f"a message could not be read: {error}") from error
        finally:
            self._taosc.taos_free_result(message)
        return self._polled

    def polled(self, message_id: int) -> Polled | None:
        """The message with an id, if it is still there; does not wait, for any thread."""
        polled = self._polled
        return polled if polled is not None and polled.reply.message_id == message_id else None

    def _copied(self, message: int) -> Polled:
        kind = self._type(message)
        id = self._last_id + 1
        reply = PollReply(
            have_message=True,
            topic=_decoded(self._topic(message)),
            database=_decoded(self._database(message)),
            vgroup_id=self._vgroup(message),
            message_type=kind,
            message_id=id,
            offset=self._begin(message),
        )
        raw = self._raw(message, id) if kind in _WITH_ROWS else None
        meta = self._meta(message) if kind in _WITH_METAS else None
        self._last_id = id
        return Polled(reply, raw, meta)

    def _raw(self, message: int, id: int) -> RawReply:
        raw = tmq_raw_data()
        self._check(self._taosc.tmq_get_raw(message, raw))
        try:
            data = ctypes.string_at(raw.raw, raw.raw_len) if raw.raw else b""
        finally:
            self._taosc.tmq_free_raw(raw)
        return RawReply(0, 0, 0, "", id, raw.raw_type, memoryview(data))

    def _meta(self, message: int) -> bytes:
        text = self._taosc.tmq_get_json_meta(message)
        if text is None:
            code, told = self._taosc.error()
            raise Refused(code, told)
        try:
            return ctypes.string_at(text)
        finally:
            self._taosc.tmq_free_json_meta(text)

    # Offsets.

    def commit_all(self) -> None:
        """Commit all that was polled."""
        self._check(self._taosc.tmq_commit_sync(self._tmq, None))

    def commit(self, topic: str, vgroup_id: int, offset: int) -> None:
        """Commit the offset of what is to be read next."""
        name = _text_of("topic", topic)
        self._check(self._taosc.tmq_commit_offset_sync(self._tmq, name, vgroup_id, offset))

    def seek(self, topic: str, vgroup_id: int, offset: int) -> None:
        """Go on elsewhere."""
        name = _text_of("topic", topic)
        self._check(self._taosc.tmq_offset_seek(self._tmq, name, vgroup_id, offset))

    def assignment(self, topic: str) -> list[Assignment]:
        """The vgroups of a topic that the consumer has."""
        found, count = POINTER(tmq_topic_assignment)(), c_int32()
        name = _text_of("topic", topic)
        self._check(self._taosc.tmq_get_topic_assignment(self._tmq, name, found, count))
        if not found:
            return []
        try:
            return [
                Assignment(each.vgId, each.currentOffset, each.begin, each.end)
                for each in found[: count.value]
            ]
        finally:
            self._taosc.tmq_free_assignment(found)

    def committed(self, places: Sequence[tuple[str, int]]) -> list[int | None]:
        """The committed offsets of vgroups; None where there is none."""
        offsets = [
            self._taosc.tmq_committed(self._tmq, _text_of("topic", topic), vgroup_id)
            for topic, vgroup_id in places
        ]
        return [None if each == NO_OFFSET else self._offset(each) for each in offsets]

    def position(self, places: Sequence[tuple[str, int]]) -> list[int]:
        """The offsets behind what was polled."""
        return [
            self._offset(self._taosc.tmq_position(self._tmq, _text_of("topic", topic), vgroup_id))
            for topic, vgroup_id in places
        ]

    def _offset(self, answer: int) -> int:
        if answer < 0:
            self._check(answer)
        return answer

    def _check(self, answer: int) -> None:
        if answer:
            text = _decoded(self._taosc.tmq_err2str(answer))
            raise Refused(plain_code(answer), text)


def _text_of(name: str, text: str) -> bytes:
    data = text.encode(errors="surrogateescape")
    if b"\0" in data:
        raise InterfaceError(f"{name}: it has a NUL character, which would end it")
    return data


def _decoded(text: bytes | None) -> str:
    return (text or b"").decode(errors="surrogateescape")

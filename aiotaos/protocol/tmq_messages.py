"""JSON messages of taosAdapter's ``/rest/tmq``, the subscription interface, typed.

Names and types are those of ``controller/ws/tmq/tmq.go`` in taosAdapter. The functions ``request``
and ``parse`` of :mod:`aiotaos.protocol.messages` write and read them; ``version``, ``list_topics``
and ``unsubscribe`` take its ``ReqIdArgs``. A refusal carries the envelope and, where the request
named a message, its id.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Any

import msgspec

from ..errors import ProtocolError
from ..types import Field, Precision
from .messages import Arguments, Envelope, LoginReply, described_fields

MessageId = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
NO_OFFSET = -2147467247
"""Stands in ``committed`` for a vgroup without a committed offset: 0x80004011 as i32."""


class MessageType(IntEnum):
    """What a poll brought (``TMQ_RES_*`` in TDengine's ``taos.h``).

    DATA is fetched as blocks, META as JSON, METADATA as both; RAW is for replication alone.
    """

    DATA = 1
    META = 2
    METADATA = 3
    RAW = 4


class SubscribeArgs(Arguments, omit_defaults=True):
    """Arguments of ``subscribe``; what is empty is left out.

    Flags and numbers are text: ``"true"`` and ``"false"``, ``"1"`` and ``"0"`` for
    ``enable_batch_meta`` and ``msg_consume_*``, times in ms. ``offset_rest`` is the name that all
    adapters know, ``offset_reset`` wins where it is known. ``config`` holds any option of libtaos
    and overrides the others (newer adapters only).
    """

    user: str = ""
    password: str = ""
    db: str = ""
    group_id: str = ""
    client_id: str = ""
    topics: list[str] = msgspec.field(default_factory=list)
    offset_rest: str = ""
    offset_reset: str = ""
    auto_commit: str = ""
    auto_commit_interval_ms: str = ""
    snapshot_enable: str = ""
    with_table_name: str = ""
    enable_batch_meta: str = ""
    msg_consume_excluded: str = ""
    msg_consume_rawdata: str = ""
    session_timeout_ms: str = ""
    max_poll_interval_ms: str = ""
    config: dict[str, str] = msgspec.field(default_factory=dict)
    tz: str = ""
    app: str = ""
    ip: str = ""
    connector: str = ""
    list_instances: bool = False


class PollArgs(Arguments):
    """Arguments of ``poll``.

    Attributes:
        blocking_time: How long the server waits for a message, ms.
        message_id: The last message received, 0 before the first; if the server still holds
            another one, it sends that again.
    """

    blocking_time: int = 0
    message_id: int = 0


class MessageArgs(Arguments):
    """Arguments of ``commit``, ``fetch_raw_data``, ``fetch_json_meta`` and the other fetches."""

    message_id: int = 0


class OffsetArgs(Arguments):
    """Arguments of ``commit_offset`` and ``seek``; ``offset`` is the next one to be read."""

    topic: str = ""
    vgroup_id: int = 0
    offset: int = 0


class TopicArgs(Arguments):
    """Arguments of ``assignment``."""

    topic: str = ""


class TopicVgroup(msgspec.Struct):
    """A vgroup of a topic."""

    topic: str
    vgroup_id: int


class TopicVgroupsArgs(Arguments):
    """Arguments of ``committed`` and ``position``."""

    topic_vgroup_ids: list[TopicVgroup] = msgspec.field(default_factory=list)


class SubscribeReply(LoginReply):
    """Reply to ``subscribe``; ``version`` is the server's."""


class MessageReply(Envelope):
    """Reply to ``commit``, and refusal of a fetch."""

    message_id: MessageId = 0


class PollReply(Envelope):
    """Reply to ``poll``; unless ``have_message``, the rest is empty.

    Attributes:
        message_type: A :class:`MessageType`.
        offset: Where the request began for messages with data, behind the message for META;
            negative for messages of a snapshot, which have none.
    """

    have_message: bool = False
    topic: str = ""
    database: str = ""
    vgroup_id: int = 0
    message_type: int = 0
    message_id: MessageId = 0
    offset: int = 0


class MessageFetchReply(MessageReply):
    """Reply to ``fetch``; unless ``completed``, a block waits for ``fetch_block``."""

    completed: bool = False
    table_name: str = ""
    rows: int = 0
    fields_count: int = 0
    fields_names: list[str] | None = None
    fields_types: list[int] | None = None
    fields_lengths: list[int] | None = None
    precision: Precision = Precision.MILLISECOND

    def fields(self) -> tuple[Field, ...]:
        """The columns of the block, DECIMALs without their digits, which the block tells.

        Raises:
            ProtocolError: Names, types and lengths do not go together, or a type is unknown.
        """
        return described_fields(
            self.fields_count, self.fields_names, self.fields_types, self.fields_lengths
        )


class JsonMetaReply(MessageReply):
    """Reply to ``fetch_json_meta``; see :func:`parse_meta`."""

    data: Any = None


class OffsetReply(Envelope):
    """Reply to ``commit_offset``; that to ``seek`` is a bare envelope."""

    topic: str = ""
    vgroup_id: int = 0
    offset: int = 0


class Assignment(msgspec.Struct):
    """A vgroup that the consumer reads.

    Attributes:
        offset: The next offset to be read.
        begin: The first offset that the server still has.
        end: The offset behind the last one.
    """

    vgroup_id: int = 0
    offset: int = 0
    begin: int = 0
    end: int = 0


class AssignmentReply(Envelope):
    """Reply to ``assignment``."""

    assignment: list[Assignment] | None = None


class CommittedReply(Envelope):
    """Reply to ``committed``: offsets in the order of the request, or :data:`NO_OFFSET`."""

    committed: list[int] | None = None


class PositionReply(Envelope):
    """Reply to ``position``: offsets in the order of the request."""

    position: list[int] | None = None


class TopicsReply(Envelope):
    """Reply to ``list_topics``."""

    topics: list[str] | None = None


def parse_meta(data: object) -> list[dict[str, object]]:
    """The changes of tables in the ``data`` of a :class:`JsonMetaReply`, in their order.

    It is one object, or ``{"tmq_meta_version": …, "metas": […]}``, or null.

    Raises:
        ProtocolError: It is anything else.
    """
    if data is None:
        return []
    metas = data["metas"] if isinstance(data, dict) and "metas" in data else [data]
    if not isinstance(metas, list) or not all(isinstance(meta, dict) for meta in metas):
        raise ProtocolError("unreadable meta message: neither an object nor a list of objects")
    return metas

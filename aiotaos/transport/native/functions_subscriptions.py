"""Declarations of libtaos: subscriptions to topics (3.x), and what 2.x had in their place.

"Waits" is said of functions that block until a server has answered; the others are local. Unless
something else is said, an int that is returned is 0 or a negative code.
"""

# mypy: disable-error-code="empty-body"
# The bodies are the library's.

from __future__ import annotations

from ctypes import POINTER, c_char_p
from typing import Annotated

from . import structs
from .prototypes import (
    Callback,
    CharBuffer,
    CommitFn,
    Functions,
    Handle,
    HandleOut,
    Int,
    Int32,
    Int32Out,
    Int64,
    Pointer,
    Text,
    function,
)

_CONSUMER = "a Consumer (TMQ)"
_STREAM = "create stream, and a Consumer (TMQ) of what it writes"


class TopicFunctions(Functions):
    """Consumers (TMQ). One is used by one thread.

    A message belongs to the caller, who frees it with ``taos_free_result``; its blocks are fetched
    as those of a result, without waiting.
    """

    @function(since="3.0")
    def tmq_conf_new(self) -> Handle:
        """Make a configuration: a tmq_conf_t."""

    @function(since="3.0")
    def tmq_conf_set(self, conf: Handle, key: Text, value: Text) -> Int:
        """Set an entry; gives a :class:`~.structs.TmqConfResult`."""

    @function(since="3.0")
    def tmq_conf_destroy(self, conf: Handle) -> None:
        """Free a configuration; its consumers do not need it."""

    @function(since="3.0")
    def tmq_conf_set_auto_commit_cb(self, conf: Handle, cb: CommitFn, param: Handle) -> None:
        """Have automatic commits told: ``cb(tmq, code, param)``."""

    @function(since="3.0")
    def tmq_list_new(self) -> Handle:
        """Make a list of topics: a tmq_list_t."""

    @function(since="3.0")
    def tmq_list_append(self, list: Handle, topic: Text) -> Int32:
        """Add a topic; the text is copied."""

    @function(since="3.0")
    def tmq_list_destroy(self, list: Handle) -> None:
        """Free a list."""

    @function(since="3.0")
    def tmq_list_get_size(self, list: Handle) -> Int32:
        """Number of topics."""

    @function(since="3.0")
    def tmq_list_to_c_array(self, list: Handle) -> Annotated[Pointer[c_char_p], POINTER(c_char_p)]:
        """The topics; they belong to the list."""

    @function(since="3.0")
    def tmq_consumer_new(self, conf: Handle, errstr: CharBuffer, errstr_len: Int32) -> Handle:
        """Make a consumer: a tmq_t, or None; then ``errstr`` says why. Waits."""

    @function(since="3.0")
    def tmq_subscribe(self, tmq: Handle, topic_list: Handle) -> Int32:
        """Subscribe to topics. Waits, up to two minutes."""

    @function(since="3.0")
    def tmq_unsubscribe(self, tmq: Handle) -> Int32:
        """Subscribe to nothing; commits before, if commits are automatic. Waits."""

    @function(since="3.0")
    def tmq_subscription(self, tmq: Handle, topics: HandleOut) -> Int32:
        """The topics, as a list that is to be freed; give it room that holds NULL."""

    @function(since="3.0")
    def tmq_consumer_poll(self, tmq: Handle, timeout: Int64) -> Handle:
        """The next message: a TAOS_RES. Waits for ``timeout`` ms, below 0 for ever.

        None: there is none, or ``taos_errno(None)`` tells a failure, asked at once on this thread.
        """

    @function(since="3.0")
    def tmq_consumer_close(self, tmq: Handle) -> Int32:
        """Close a consumer; the handle must never be used again. Waits."""

    @function(since="3.0")
    def tmq_commit_sync(self, tmq: Handle, msg: Handle) -> Int32:
        """Commit up to a message, with it; None: all that was polled. Waits."""

    @function(since="3.0")
    def tmq_commit_async(self, tmq: Handle, msg: Handle, cb: CommitFn, param: Handle) -> None:
        """The same; then ``cb(tmq, code, param)``, at once if there is nothing to commit."""

    @function(since="3.1", instead="tmq_commit_sync")
    def tmq_commit_offset_sync(
        self, tmq: Handle, topic: Text, vg_id: Int32, offset: Int64
    ) -> Int32:
        """Commit an offset of a vgroup. Waits."""

    @function(since="3.1", instead="tmq_commit_async")
    def tmq_commit_offset_async(
        self,
        tmq: Handle,
        topic: Text,
        vg_id: Int32,
        offset: Int64,
        cb: CommitFn,
        param: Handle,
    ) -> None:
        """The same; then ``cb(tmq, code, param)``."""

    @function(since="3.0.5")
    def tmq_get_topic_assignment(
        self,
        tmq: Handle,
        topic: Text,
        assignment: Annotated[
            Pointer[structs.tmq_topic_assignment] | None,
            POINTER(POINTER(structs.tmq_topic_assignment)),
        ],
        count: Int32Out,
    ) -> Int32:
        """The vgroups of a topic that the consumer has; free them. Waits."""

    @function(since="3.0.5")
    def tmq_free_assignment(
        self,
        assignment: Annotated[
            Pointer[structs.tmq_topic_assignment], POINTER(structs.tmq_topic_assignment)
        ],
    ) -> None:
        """Free the answer of ``tmq_get_topic_assignment``."""

    @function(since="3.0.5")
    def tmq_offset_seek(self, tmq: Handle, topic: Text, vg_id: Int32, offset: Int64) -> Int32:
        """Go on elsewhere in a vgroup. Waits."""

    @function(since="3.1")
    def tmq_position(self, tmq: Handle, topic: Text, vg_id: Int32) -> Int64:
        """The offset of the next message of a vgroup, or a negative code. Waits."""

    @function(since="3.1")
    def tmq_committed(self, tmq: Handle, topic: Text, vg_id: Int32) -> Int64:
        """The committed offset of a vgroup, or a negative code. Waits."""

    @function(since="3.0")
    def tmq_get_connect(self, tmq: Handle) -> Handle:
        """The consumer's connection; it belongs to the consumer."""

    @function(since="3.0")
    def tmq_get_res_type(self, res: Handle) -> Int:
        """The :class:`~.structs.TmqResultType` of a message."""

    @function(since="3.0")
    def tmq_get_topic_name(self, res: Handle) -> Text:
        """The topic of a message."""

    @function(since="3.0")
    def tmq_get_db_name(self, res: Handle) -> Text:
        """The database of a message."""

    @function(since="3.0")
    def tmq_get_vgroup_id(self, res: Handle) -> Int32:
        """The vgroup of a message."""

    @function(since="3.0.5")
    def tmq_get_vgroup_offset(self, res: Handle) -> Int64:
        """The offset of a message."""

    @function(since="3.0")
    def tmq_get_table_name(self, res: Handle) -> Text:
        """The table of the block fetched last, or None."""

    @function(since="3.0")
    def tmq_err2str(self, code: Int32) -> Text:
        """The text for a code."""


class LegacyFunctions(Functions):
    """What libraries of 2.x have, and those of 3.x have no more.

    A subscription of 2.x asks its SQL again every ``interval`` ms, and gives the rows that are new
    since; the library keeps its progress under the name ``topic``. Either the caller asks, with
    ``taos_consume``, or a thread of the library calls back.
    """

    @function(until="2.6", instead=_CONSUMER)
    def taos_subscribe(
        self,
        taos: Handle,
        restart: Int,
        topic: Text,
        sql: Text,
        fp: Annotated[Callback, structs.TAOS_SUBSCRIBE_CALLBACK],
        param: Handle,
        interval: Int,
    ) -> Handle:
        """Subscribe to the new rows of one SELECT: a TAOS_SUB, or None. Waits.

        ``restart`` other than 0: from the beginning, and not from where it ended before. With a
        ``fp`` other than NULL, ``fp(sub, res, param, code)`` is called every ``interval`` ms, also
        without rows; the result belongs to the subscription.
        """

    @function(until="2.6", instead=_CONSUMER)
    def taos_consume(self, sub: Handle) -> Handle:
        """The new rows: a result that belongs to the subscription; None: it failed.

        Waits until ``interval`` has passed since the last call. Only without a callback.
        """

    @function(until="2.6", instead=_CONSUMER)
    def taos_unsubscribe(self, sub: Handle, keep_progress: Int) -> None:
        """End a subscription; 0: and forget its progress."""

    @function(until="2.6", instead=_STREAM)
    def taos_open_stream(
        self,
        taos: Handle,
        sql: Text,
        fp: Annotated[Callback, structs.TAOS_STREAM_FN],
        stime: Int64,
        param: Handle,
        callback: Annotated[Callback, structs.TAOS_STREAM_CLOSED_FN],
    ) -> Handle:
        """Run a query over windows of time again and again: a TAOS_STREAM, or None.

        ``fp(param, res, row)`` is called for each row, ``callback(param)`` when the server ends
        it. ``stime`` is the beginning, ms since 1970; 0 is now.
        """

    @function(until="2.6", instead=_STREAM)
    def taos_close_stream(self, stream: Handle) -> None:
        """End it."""

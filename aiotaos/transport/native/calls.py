"""Queries and fetches of libtaos: what their callbacks bring, and what becomes of it."""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, cast
from weakref import WeakMethod

from ...errors import ProtocolError
from ...protocol.block import HEADER
from ...types import Field
from .bridge import Bridge, Call
from .handles import Handle
from .prototypes import Callback
from .rows import fetched_columns
from .signals import COUNTING, NOT_BEGUN
from .structs import TAOS_FIELD_E
from .taosc import Taosc, plain_code

_KNOWN = 256  # descriptions of results that are remembered

Data: TypeAlias = bytes | list[list[Any]]
"""A raw block; or columns of values, where the library has rows alone."""


class Failure(NamedTuple):
    """What libtaos says of a failure: a code as in :attr:`aiotaos.Error.code`, and a text."""

    code: int
    message: str


class Library:
    """A library, and what results need of it, as fast as it can be called.

    Attributes:
        taosc: All of its functions.
        has_blocks: Whether it has raw blocks; otherwise it has rows, as those of 2.x.
        has_req_ids: Whether queries carry the id of their request.
        has_signals: Whether callbacks can be signals.
        count_fields: ``taos_num_fields``.
        precision: ``taos_result_precision``.
        affected_rows: ``taos_affected_rows64``, or what there is.
    """

    def __init__(self, taosc: Taosc) -> None:
        self.taosc = taosc
        self.has_blocks = taosc.has("taos_fetch_raw_block_a") and taosc.has("taos_get_raw_block")
        self.has_req_ids = taosc.has("taos_query_a_with_reqid")
        self.count_fields = taosc.quick("taos_num_fields")
        self.precision = taosc.quick("taos_result_precision")
        wide = "taos_affected_rows64"
        self.affected_rows = taosc.quick(wide if taosc.has(wide) else "taos_affected_rows")
        self._errno = taosc.quick("taos_errno")
        self._errstr = taosc.quick("taos_errstr")
        described = "taos_fetch_fields_e"
        self._described = taosc.quick(described) if taosc.has(described) else None
        self._known: dict[bytes, tuple[Field, ...]] = {}
        self._raw_block = taosc.quick("taos_get_raw_block") if self.has_blocks else None
        self.has_signals = (
            COUNTING is not None
            and self.has_blocks
            and taosc.has("taos_is_null_by_column")
            and taosc.settings.get("driver") != "websocket"  # its results come by callbacks alone
        )
        if self.has_signals:
            self._rows, self._is_null = ctypes.c_int(), ctypes.c_bool()
            self._nulls = taosc.quick("taos_is_null_by_column")
        self._server_info = taosc.quick("taos_get_server_info")
        self._server_info.restype = ctypes.c_void_p  # type: ignore[attr-defined]

    def stands(self, connection: int) -> bool:
        """Whether a connection was not closed by its server (KILL CONNECTION), as far as known.

        If it was, there are callbacks without a result, and libtaos 3.3.7 frees results twice when
        it is told to stop its queries.
        """
        return self._server_info(connection) is not None

    def told(self, result: int) -> int:
        """The code that a query's callback has as its last argument."""
        return cast("int", self._errno(result))

    def told_of_fetch(self, result: int) -> int:
        """What a fetch's callback has: a code, or whether there are rows."""
        code: int = self._errno(result)
        if not code:
            self._rows.value = 1  # there is room for so many
            code = self._nulls(result, 0, self._is_null, self._rows) or self._rows.value
        return code

    def failure(self, result: int | None, code: int = 0) -> Failure:
        """What went wrong with a result; for None, with what this thread called last."""
        text: bytes = self._errstr(result) or b""
        code = plain_code(code) or plain_code(self._errno(result))
        return Failure(code, text.decode(errors="replace"))

    def has_failed(self, result: int) -> bool:
        """Whether a result has an error."""
        return bool(self._errno(result))

    def fields(self, result: int) -> tuple[Field, ...]:
        """The columns of a result.

        Raises:
            NotSupportedError: A column is of an unknown type.
        """
        if self._described is None:
            return self.taosc.fields(result)
        size = self.count_fields(result) * ctypes.sizeof(TAOS_FIELD_E)
        key = ctypes.string_at(self._described(result), size)
        found = self._known.get(key)
        if found is None:
            if len(self._known) == _KNOWN:
                self._known.clear()
            found = self._known[key] = self.taosc.fields(result)
        return found

    def block(self, result: int) -> bytes:
        """A copy of the raw block that was fetched last.

        Raises:
            ProtocolError: There is none, or it announces less than its own header.
        """
        assert self._raw_block is not None
        address: int | None = self._raw_block(result)
        length = 0 if address is None else ctypes.c_int32.from_address(address + 4).value
        if address is None or length < HEADER.size:
            raise ProtocolError(f"inconsistent block: it announces {length} bytes")
        return ctypes.string_at(address, length)


class Query(Call):
    """A statement on its way.

    Args:
        bridge: The way to the loop.
        library: The library.
        answered: Gets the call on the loop, when its answer has come; a method, of an object that
            is not kept by the call: sessions whose loop has ended close when nobody has them.
        req_id: Id of the request.
        sql: The statement.
        data: The statement as libtaos gets it. The WebSocket driver reads it after the start, so
            it must live until the callback.

    Attributes:
        handle: The result, also one that has failed; None if there is none.
        has_rows: Whether something can be fetched from it.
        fetch: The way of its first block, which is asked for at once; None where rows are fetched.
        failure: What libtaos says, or what went wrong on this side; None if nothing.
        affected_rows: Number of rows written.
        reply: What the caller waits for; done before the answer came when the call was given up.
        is_awaited: Whether it was not given up, or changes something.
        is_given_up: Whether nobody waits for it any more.
        may_be_stopped: Whether it was given up and is to be stopped.
    """

    __slots__ = (
        "_answered", "_data", "_library", "affected_rows", "failure", "fetch", "handle", "has_rows",
        "is_awaited", "is_given_up", "may_be_stopped", "reply", "req_id", "sql",
    )  # fmt: skip

    def __init__(
        self,
        bridge: Bridge,
        library: Library,
        answered: Callable[[Query], None],
        req_id: int,
        sql: str,
        data: bytes,
    ) -> None:
        super().__init__(bridge)
        self._library = library
        self._answered = WeakMethod(answered)
        self._data = data
        self.req_id = req_id
        self.sql = sql
        self.handle: Handle | None = None
        self.has_rows = False
        self.failure: Failure | BaseException | None = None
        self.affected_rows = 0
        self.reply: asyncio.Future[Any] = bridge.future()
        self.fetch: Fetch | None = None
        self.is_awaited = True
        self.is_given_up = False
        self.may_be_stopped = False

    def start(self, connection: int) -> None:
        """Begin it; libtaos reads the statement on this thread."""
        library, data = self._library, self._data
        taosc = library.taosc

        def start(callback: Callback, number: int) -> None:
            if library.has_req_ids:
                taosc.taos_query_a_with_reqid(connection, data, callback, number, self.req_id)
            else:
                taosc.taos_query_a(connection, data, callback, number)

        by_signal = library.has_signals and library.stands(connection)
        self.bridge.begin(self, start, by_signal=by_signal)

    def told(self, result: int) -> int:
        return self._library.told(result)

    def take(self, result: int | None, code: int) -> None:
        library = self._library
        if result is None:
            self.failure = library.failure(None, code)
            return
        self.handle = Handle(result, library.taosc.taos_free_result)
        if code:
            self.failure = library.failure(result, code)
        elif library.count_fields(result) > 0:
            if library.has_blocks:
                self.fetch = Fetch(self.bridge, library, self.handle)
            self.handle.hold()  # until it is described: the fetch may come to its end before
            self.has_rows = True
        else:
            self.affected_rows = library.affected_rows(result)

    def fail(self, error: BaseException) -> None:
        self.failure, self.has_rows = error, False

    def deliver(self) -> None:
        answered = self._answered()
        if answered is None:
            self.lose()
            return
        try:
            answered(self)
        finally:
            if self.has_rows and self.handle is not None:
                self.handle.release()

    def lose(self) -> None:
        if self.handle is not None:
            self.handle.close()
            if self.has_rows:
                self.handle.release()

    def tidy(self) -> None:
        handle, fetch = self.handle, self.fetch
        if handle is None:
            return
        if not self.has_rows:
            handle.close()
        elif fetch is not None and not self.is_given_up:
            try:
                fetch.start()
            except Exception as error:
                fetch.fail(error)
                handle.close()
                self.bridge.put(fetch)


class Reading:
    """A result whose rows are on their way.

    Attributes:
        handle: The result.
        req_id: Id of the request.
        sql: The statement.
        fetch: The fetch that is under way, or whose block nobody has taken yet.
        is_short: Whether the block before it was the last one, by its size.
        may_be_stopped: Whether a fetch can be stopped. Those of prepared statements cannot: libtaos
            3.3.7 does not call back for them any more.
    """

    __slots__ = ("fetch", "handle", "is_short", "may_be_stopped", "req_id", "sql")

    def __init__(self, handle: Handle, req_id: int, sql: str) -> None:
        self.handle = handle
        self.req_id = req_id
        self.sql = sql
        self.fetch: Fetch | None = None
        self.is_short = False
        self.may_be_stopped = True

    @property
    def is_fetching(self) -> bool:
        """Whether a block was asked for and has not come."""
        return self.fetch is not None and not self.fetch.is_delivered


class Fetch(Call):
    """The way of one block. At its end, or when it fails, the result is freed.

    Args:
        bridge: The way to the loop.
        library: The library.
        handle: The result.
        fields: Its columns; not needed for blocks.

    Attributes:
        reply: What the reader waits for: the block, None at the end; done before it came when the
            result was given up.
        is_delivered: Whether the callback has come, as far as the loop knows.
    """

    __slots__ = ("_data", "_failure", "_fields", "_handle", "_library", "is_delivered", "reply")

    def __init__(
        self, bridge: Bridge, library: Library, handle: Handle, fields: tuple[Field, ...] = ()
    ) -> None:
        super().__init__(bridge)
        self._library = library
        self._handle = handle
        self._fields = fields
        self._data: Data | None = None
        self._failure: Failure | BaseException | None = None
        self.is_delivered = False
        self.reply: asyncio.Future[Data | Failure | None] = bridge.future()

    def start(self) -> None:
        """Begin it, unless the result is closed: then nobody waits for it."""
        handle, taosc = self._handle, self._library.taosc
        if not handle.hold():
            return
        fetch = (
            taosc.taos_fetch_raw_block_a if self._library.has_blocks else taosc.taos_fetch_rows_a
        )
        try:
            self.bridge.begin(
                self,
                lambda callback, number: fetch(handle.address, callback, number),
                by_signal=self._library.has_signals,
            )
        except NOT_BEGUN:
            handle.release()
            raise

    def told(self, result: int) -> int:
        return self._library.told_of_fetch(result)

    def take(self, result: int | None, code: int) -> None:
        library, address = self._library, self._handle.address
        if code < 0:
            self._failure = library.failure(address, code)
        elif code == 0:  # the end, or a failure
            if library.has_failed(address):
                self._failure = library.failure(address)
        elif library.has_blocks:
            self._data = library.block(address)
        else:
            self._data = fetched_columns(library.taosc, address, code, self._fields)

    def fail(self, error: BaseException) -> None:
        self._failure, self._data = error, None

    def deliver(self) -> None:
        self.is_delivered = True
        reply = self.reply
        if reply.done():
            if self._data is not None:  # otherwise it closes itself
                self.bridge.soon(self._handle.close)
        elif isinstance(self._failure, BaseException):
            reply.set_exception(self._failure)
            reply.exception()  # nobody need wait
        else:
            reply.set_result(self._data if self._failure is None else self._failure)

    def lose(self) -> None:
        self._handle.close()

    def tidy(self) -> None:
        if self._data is None:
            self._handle.close()
        self._handle.release()

"""The native road: a connection of libtaos to taosd.

libtaos has its own threads, and its own connections to the servers of a cluster, which it renews
by itself. What answers by callback is called on the loop's thread; what may wait, on threads of
:class:`~.bridge.Bridge`.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from ...errors import NotSupportedError, ProtocolError
from ...options import Address, Options
from ...protocol.bind import Binding
from ...protocol.block import Block, VariableColumn
from ...protocol.messages import InsertArgs
from ..base import Deadline, ServerResult, ServerStatement, next_req_id
from ..servers import Place
from .bridge import Bridge, closed
from .calls import Library
from .connection import Connection, EndOfCall
from .handles import Handle
from .news import forget, watch
from .results import Results
from .schemaless import schemaless_insert
from .statements import NativeStatements
from .steps import Steps
from .structs import ConnectionOption

_NAME_BYTES = 256


class NativeTransport:
    """A session over libtaos; see :class:`aiotaos.transport.base.Transport`.

    Args:
        options: How it was opened.
        place: The server, and the session's place there.
        bridge: What the sessions of the loop share; the session leaves it at its end.
        library: The library.
        handle: The connection; the session closes it.
        version: The server's version.

    Attributes:
        instances: The servers of the cluster; libtaos keeps them to itself.
        connection: Whether it stands, for all that works over it.
    """

    instances: Sequence[str] = ()

    def __init__(
        self,
        options: Options,
        place: Place,
        bridge: Bridge,
        library: Library,
        handle: Handle,
        version: str,
    ) -> None:
        self._place = place
        self._bridge = bridge
        self._library = library
        self._taosc = library.taosc
        self._version = version
        self._endpoint = options.endpoint(place.address)
        self.connection = Connection(handle, library, bridge, self._endpoint, self.drop)
        self._results = Results(self, self.connection, options.cancel)
        self._steps = Steps(self.connection)
        self._statements = NativeStatements(self.connection, self._steps, self._results.opened)
        self._results.others_run = lambda: bool(self._steps)
        self._closing: Future[None] | None = None
        self._has_left = False
        self._watch = watch(self._taosc, handle.address, self)

    def __repr__(self) -> str:
        connection = self.connection
        state = "closed" if connection.is_closed else "lost" if connection.lost else "open"
        return f"<NativeTransport {self._endpoint} {state}, {len(self._results)} calls>"

    def __del__(self) -> None:
        connection: Connection | None = getattr(self, "connection", None)
        if connection is not None and not connection.ended:  # its loop has ended without it
            connection.is_closed = True
            self._close(self._results.abandon, self._statements.end())
            self._leave()

    @property
    def address(self) -> Address:
        return self._place.address

    @property
    def endpoint(self) -> str:
        return self._endpoint

    @property
    def server_version(self) -> str:
        return self._version

    @property
    def closed(self) -> bool:
        return self.connection.ended

    # The session.

    def still_running(self, req_id: int) -> Callable[[], bool]:
        query, step = self._results.still_running(req_id), self._steps.still_running(req_id)
        return lambda: query() or step()

    def is_fetching(self, result: ServerResult) -> bool:
        return self._results.is_fetching(result)

    async def set_timezone(self, name: str | None, req_id: int, deadline: Deadline) -> None:
        self.connection.check_open(req_id, None)
        if not self._taosc.has("taos_options_connection"):
            raise NotSupportedError(
                f"libtaos {self._taosc.version_text} knows no time zone of a connection; "
                "3.3.6 does",
                endpoint=self._endpoint,
            )
        zone = None if name is None else name.encode()
        code = self._taosc.taos_options_connection(
            self.connection.address, ConnectionOption.TIMEZONE, zone
        )
        if code:
            raise self.connection.refusal(self._library.failure(None, code), req_id, None)

    async def current_database(self, deadline: Deadline) -> str | None:
        req_id = next_req_id()
        self.connection.check_open(req_id, None)
        if not self._taosc.has("taos_get_current_db"):
            return await self._asked_database(req_id, deadline)
        name = ctypes.create_string_buffer(_NAME_BYTES)
        required = ctypes.c_int()
        code = self._taosc.taos_get_current_db(self.connection.address, name, _NAME_BYTES, required)
        if code and required.value > _NAME_BYTES:
            name = ctypes.create_string_buffer(required.value)
            code = self._taosc.taos_get_current_db(
                self.connection.address, name, required.value, required
            )
        if code:
            raise self.connection.refusal(self._library.failure(None, code), req_id, None)
        return name.value.decode() or None

    async def _asked_database(self, req_id: int, deadline: Deadline) -> str | None:
        result = await self.query("select database()", req_id, deadline)
        name = b""
        while (block := await self.next_block(result, deadline)) is not None:
            column = block.columns[0]
            if not isinstance(column, VariableColumn):
                raise ProtocolError("select database() gave something else than a text")
            name = column.packed()[0].tobytes()
        return name.decode() or None

    # Its end.

    async def close(self, timeout: float) -> None:
        self._finish()
        closing = self._closing
        assert closing is not None
        try:
            await asyncio.wait([asyncio.wrap_future(closing)], timeout=timeout)
        finally:
            self._leave(wait=closing.done())

    def terminate(self) -> None:
        self._finish()
        self._leave()

    def drop(self, reason: Exception) -> None:
        if not self.closed:
            self.connection.lost = reason
            self._end(self.connection.lost_error)
            self._leave()

    def _finish(self) -> None:
        """It is closed by this side."""
        is_first, self.connection.is_closed = not self.closed, True
        if is_first:
            self._end(self.connection.closed_error)

    def _end(self, error: EndOfCall) -> None:
        """Fail what waits; free what is open, and close the connection, on a thread."""
        self._place.leave()
        self.connection.alarm.stop()
        self._closing = self._bridge.submit(
            self._close,
            self._steps.end(error),
            self._results.end(error),
            self._statements.end(),
        )

    def _close(self, *frees: Callable[[], None]) -> None:
        handle = self.connection.handle
        forget(self._watch)
        try:
            for free in frees:
                free()
        finally:
            handle.close()
            closed(handle)

    def _leave(self, *, wait: bool = False) -> None:
        if not self._has_left:
            self._has_left = True
            self._bridge.leave(wait=wait)

    # Statements and results.

    async def query(self, sql: str, req_id: int, deadline: Deadline) -> ServerResult:
        return await self._results.query(sql, req_id, deadline)

    def request_block(self, result: ServerResult) -> None:
        self._results.request_block(result)

    async def next_block(self, result: ServerResult, deadline: Deadline) -> Block | None:
        return await self._results.next_block(result, deadline)

    def free(self, result: ServerResult) -> None:
        self._results.free(result)

    # Prepared statements and schemaless writing.

    async def prepare(self, sql: str, deadline: Deadline, req_id: int) -> ServerStatement:
        return await self._statements.prepare(sql, deadline, req_id)

    async def bind(self, statement: ServerStatement, binding: Binding, deadline: Deadline) -> None:
        await self._statements.bind(statement, binding, deadline)

    async def execute_statement(
        self, statement: ServerStatement, req_id: int, deadline: Deadline
    ) -> int:
        return await self._statements.execute(statement, req_id, deadline)

    async def statement_result(
        self, statement: ServerStatement, req_id: int, deadline: Deadline
    ) -> ServerResult:
        return self._statements.result(statement, req_id)

    def close_statement(self, statement: ServerStatement) -> None:
        self._statements.close(statement)

    async def schemaless_insert(self, arguments: InsertArgs, deadline: Deadline) -> int:
        return await schemaless_insert(self.connection, self._steps, arguments, deadline)

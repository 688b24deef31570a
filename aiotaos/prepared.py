"""Statements on the server: prepared, prepared again, and kept for the next use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from .asking import ask_rows
from .binding import Shape
from .errors import ConnectionLost, DatabaseError, DataError, NotSupportedError, StatementError
from .protocol.bind import Binding, query_parameters, with_digits
from .protocol.sql import check_count, inserted_table
from .transport.base import Deadline, ServerResult, ServerStatement, Transport, next_req_id
from .transport.retry import PASSING, SESSION_GONE
from .types import DECIMALS, StatementField

if TYPE_CHECKING:
    from .session import Session


class Handle:
    """A prepared statement on the server, made again when the server has it no more.

    Args:
        session: Where it is prepared.
        sql: The statement.

    Attributes:
        sql: The statement.
        server: What the server knows of it.
        shape: The parameters of an INSERT.
        result: The last result of a query.
        is_fresh: Whether it was prepared for the present use.
    """

    def __init__(self, session: Session, sql: str) -> None:
        self._session = session
        self._transport = session.transport
        self._state = session.state_of_names
        self.sql = sql
        self.server: ServerStatement | None = None
        self.shape = Shape(())
        self.result: ServerResult | None = None
        self.is_fresh = False

    @property
    def is_closed(self) -> bool:
        """Whether the server has no such statement: not yet, or no more."""
        return self.server is None or self.server.closed or self._transport.closed

    @property
    def is_insert(self) -> bool:
        """Whether it writes."""
        return self.server is not None and self.server.is_insert

    @property
    def parameter_count(self) -> int:
        """Number of ``?``."""
        if self.server is None:
            return 0
        return len(self.shape.fields) if self.server.is_insert else self.server.parameter_count

    async def prepared(self, deadline: Deadline, req_id: int | None = None) -> ServerStatement:
        """The statement on the present transport of the session, prepared if it is not."""
        transport, server = self._session.transport, self.server
        if server is None or server.closed or transport is not self._transport:
            self.is_fresh = True
            if self._state != self._session.state_of_names:
                raise ConnectionLost(
                    "the statement is gone, and the database or time zone that it was prepared in "
                    "is not the present one: prepare it anew",
                    sql=self.sql,
                    may_have_run=False,
                )
            if transport is not self._transport:
                self._transport, self.server, self.result = transport, None, None
            self.server = server = await transport.prepare(
                self.sql, deadline, req_id or next_req_id()
            )
            try:
                fields = await self._completed(transport, server, deadline)
                self.shape = Shape(fields, server.raw_decimals)
            except BaseException:
                self.close()
                raise
        return server

    async def _completed(
        self, transport: Transport, server: ServerStatement, deadline: Deadline
    ) -> tuple[StatementField, ...]:
        """The fields of an INSERT, with the digits of DECIMALs that the server did not tell.

        taosAdapter 3.3.8 tells 0 for both, and takes DECIMALs as the integers that they are in a
        block; servers that tell them take text.
        """
        if not any(field.type in DECIMALS and not field.precision for field in server.fields):
            return server.fields
        table = inserted_table(self.sql)
        if table is None:
            raise NotSupportedError(
                "this server does not tell the digits of a DECIMAL whose table is a '?'",
                sql=self.sql,
            )
        types = {row[0]: row[1] for row in await ask_rows(transport, f"describe {table}", deadline)}
        server.raw_decimals = True
        return tuple(with_digits(field, types.get(field.name, "")) for field in server.fields)

    async def bind(self, bindings: Iterable[Binding], deadline: Deadline) -> int:
        """Send rows to the prepared statement; gives their number."""
        rows = 0
        for binding in bindings:
            await self._transport.bind(self._present(), binding, deadline)
            rows += binding.ends[-1]
        return rows

    async def execute(self, req_id: int, deadline: Deadline) -> int:
        """Write what is bound; gives the number of rows written."""
        return await self._transport.execute_statement(self._present(), req_id, deadline)

    def _present(self) -> ServerStatement:
        if self.server is None:
            raise StatementError("the statement is not prepared", sql=self.sql)
        return self.server

    async def query(
        self, parameters: Sequence[object], req_id: int, deadline: Deadline
    ) -> ServerResult:
        """Run a query with parameters."""
        if self.result is not None and not self.result.finished:
            # Freeing closes the statement, at once or when the answer to a fetch has come.
            self._transport.free(self.result)
            self.server = None
        server = await self.prepared(deadline, req_id)
        check_count(server.parameter_count, parameters)
        if parameters:
            await self._transport.bind(server, query_parameters(parameters), deadline)
        await self._transport.execute_statement(server, req_id, deadline)
        self.result = await self._transport.statement_result(server, req_id, deadline)
        return self.result

    def close(self) -> None:
        """Let the server drop the statement, and the result that is still read from it."""
        if self.result is not None:
            self._transport.free(self.result)
        if self.server is not None:
            self._transport.close_statement(self.server)


class StatementCache:
    """Prepared INSERTs that wait to be used again; those not used for longest go first.

    Only those whose table is a ``?`` are kept. TDengine finds such a table anew at each bind; a
    statement prepared for a table that was dropped and made anew writes its rows to nowhere, and
    says that it wrote them.

    Args:
        session: Where they are prepared.
        size: How many may wait.
    """

    def __init__(self, session: Session, size: int = 64) -> None:
        self._session = session
        self._size = size
        self._waiting: list[tuple[str | None, Handle]] = []
        self._generation = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def clear(self) -> None:
        """Close all that wait."""
        self._generation += 1  # what is being used now is not kept
        waiting, self._waiting = self._waiting, []
        for _, handle in waiting:
            handle.close()

    async def use(
        self, database: str | None, sql: str, use: Callable[[Handle], Awaitable[int]]
    ) -> int:
        """Use a prepared INSERT, and keep it.

        One that waited may be out of date, if the table was altered. What fails with it is tried
        once more with a fresh one.
        """
        generation = self._generation
        handle = self._take(database, sql)
        try:
            try:
                return await use(handle)
            except DatabaseError as error:
                if handle.is_fresh or not _may_be_stale(error):
                    raise
                handle.close()
                return await use(handle)
        finally:
            if generation == self._generation:
                self._give(database, handle)
            else:
                handle.close()

    def _take(self, database: str | None, sql: str) -> Handle:
        """A handle for a statement of a database: one that waits, or a new one."""
        for place in range(len(self._waiting) - 1, -1, -1):
            known, handle = self._waiting[place]
            if handle.sql == sql and known == database:
                del self._waiting[place]
                handle.is_fresh = False
                return handle
        return Handle(self._session, sql)

    def _give(self, database: str | None, handle: Handle) -> None:
        """Keep a handle for the next use."""
        if handle.is_closed or not handle.shape.has_tbname:
            handle.close()
            return
        self._waiting.append((database, handle))
        if len(self._waiting) > self._size:
            self._waiting.pop(0)[1].close()


def _may_be_stale(error: DatabaseError) -> bool:
    """Whether a statement may have failed because its table is not what it was any more."""
    if isinstance(error, DataError):
        return error.code is None  # found on this side, by what the statement knew of the column
    if error.code in PASSING or error.code in SESSION_GONE:
        return False
    return error.code is not None or isinstance(error, StatementError)

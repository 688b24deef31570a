"""Prepared statements."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic

from .binding import PerParameter, Shape, TableRows
from .errors import ConnectionLost, InterfaceError, StatementError
from .prepared import Handle
from .protocol.bind import Binding
from .result import Result
from .row_factories import R, RowFactory
from .types import StatementField
from .verbs import checked_req_id

if TYPE_CHECKING:
    from .connection import Connection


class Statement(Generic[R]):
    """A prepared INSERT or query; made by :meth:`Connection.prepare`.

    Bind rows as often as needed, then execute. Nothing is sent of a call that has bad input. An
    error of the server loses what is bound and not executed, and the statement prepares itself
    again at its next use. It is used by one task at a time.

    Attributes:
        sql: The statement.
        row_factory: What the rows of a query are.
    """

    def __init__(
        self, connection: Connection[Any], handle: Handle, row_factory: RowFactory[R]
    ) -> None:
        self._connection = connection
        self._handle = handle
        self._loop = asyncio.get_running_loop()
        self._bound = 0
        self._busy = False
        self._closed = False
        self.sql = handle.sql
        self.row_factory = row_factory

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{self._bound} rows bound"
        kind = "INSERT" if self.is_insert else "query"
        return f"<Statement {kind}, {state}>"

    @property
    def fields(self) -> tuple[StatementField, ...]:
        """The parameters of an INSERT in the order of the ``?``; empty for a query."""
        return self._handle.shape.fields

    @property
    def is_insert(self) -> bool:
        """Whether it writes; otherwise it is a query."""
        return self._handle.is_insert

    @property
    def parameter_count(self) -> int:
        """Number of ``?``."""
        return self._handle.parameter_count

    @property
    def bound(self) -> int:
        """Number of rows that are bound and not executed."""
        return self._bound

    @property
    def closed(self) -> bool:
        """Whether the statement is closed."""
        return self._closed

    async def bind(
        self,
        columns: PerParameter,
        *,
        tbname: str | None = None,
        tags: PerParameter = (),
        timeout: float | None = None,
    ) -> None:
        """Bind rows of one table, as columns.

        Args:
            columns: For each ``?`` of a column its values, in their order or by name: lists,
                tuples, numpy arrays (masked where NULL), Arrow arrays.
            tbname: Name of the table, where it is a ``?``.
            tags: A value for each ``?`` of a tag, in their order or by name. They count when the
                table does not exist yet.
            timeout: Seconds; the connection's ``read_timeout`` if not given.

        Raises:
            StatementError: Something is missing, too much, or of unequal length.
            DataError: A value does not fit its column; the message names column, row and value.
        """
        await self.bind_tables([TableRows(columns, tbname, tags)], timeout=timeout)

    async def bind_tables(
        self, tables: Iterable[TableRows], *, timeout: float | None = None
    ) -> None:
        """Bind rows of several tables with their tags at once; errors as :meth:`bind`."""
        given = list(tables)
        await self._bind(lambda shape: shape.bind_tables(given), timeout)

    async def bind_rows(
        self, rows: Iterable[Sequence[Any]], *, timeout: float | None = None
    ) -> None:
        """Bind rows, each with a value for every ``?`` in their order; errors as :meth:`bind`.

        Rows of a table keep their order; its tags are those of its first row.
        """
        given = rows if isinstance(rows, (list, tuple)) else list(rows)
        await self._bind(lambda shape: shape.bind_rows(given), timeout)

    async def execute(
        self, *row: Any, req_id: int | None = None, timeout: float | None = None
    ) -> int:
        """Write what is bound; with arguments, a row with a value for every ``?`` as well.

        Args:
            row: Values of one more row.
            req_id: Identifier for tracing, 1 to 2**63 - 1; made up if not given.
            timeout: Seconds; the connection's ``read_timeout`` if not given.

        Returns:
            Number of rows written.

        Raises:
            StatementError: It is a query, or nothing is bound.
            Error: The server refuses the rows; none of what was bound is bound any more.
        """
        if row:
            await self.bind_rows([row], timeout=timeout)
        id = checked_req_id(req_id)
        deadline = self._connection._deadline(timeout)
        with self._use() as handle:
            if not self.is_insert:
                raise StatementError("the statement is a query; run it with query()", sql=self.sql)
            if not self._bound:
                raise StatementError("nothing is bound", sql=self.sql)
            self._bound = 0
            return await self._connection._execute_bound(handle, id, deadline)

    async def query(
        self, *parameters: Any, req_id: int | None = None, timeout: float | None = None
    ) -> Result[R]:
        """Run a query; a result of an earlier run that is not read to its end is given up.

        Args:
            parameters: A value for each ``?``.
            req_id: Identifier for tracing, 1 to 2**63 - 1; made up if not given.
            timeout: Seconds until the result stands; the connection's ``read_timeout`` if not
                given.

        Raises:
            StatementError: It is an INSERT, or the number of parameters is wrong.
            DataError: A parameter cannot be sent.
        """
        id = checked_req_id(req_id)
        deadline = self._connection._deadline(timeout)
        with self._use() as handle:
            if self.is_insert:
                raise StatementError("the statement is an INSERT; it has no rows", sql=self.sql)
            return await self._connection._open_prepared(
                handle, parameters, id, deadline, self.row_factory
            )

    async def fetch(
        self, *parameters: Any, req_id: int | None = None, timeout: float | None = None
    ) -> list[R]:
        """Run a query and return all its rows; arguments as :meth:`query`."""
        deadline = self._connection._deadline(timeout)
        result = await self.query(*parameters, req_id=req_id, timeout=timeout)
        return await result._fetch_all(deadline)

    async def aclose(self) -> None:
        """Close the statement; what is bound and not executed is dropped. May be called again."""
        self._give_up()

    def _give_up(self) -> None:
        if not self._closed:
            self._closed = True
            self._bound = 0
            self._handle.close()

    async def __aenter__(self) -> Statement[R]:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True) and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._handle.close)

    async def _bind(
        self, make: Callable[[Shape], Iterator[Binding]], timeout: float | None
    ) -> None:
        deadline = self._connection._deadline(timeout)
        with self._use() as handle:

            async def bind(_: object = None) -> int:
                await handle.prepared(deadline)
                if not self.is_insert:
                    raise StatementError(
                        "the statement is a query; give its parameters to query()", sql=self.sql
                    )
                return await handle.bind(make(handle.shape), deadline)

            if self._bound:  # which would be missing after a repetition
                self._bound += await bind()
            else:
                self._bound += await self._connection._repeated(bind, deadline)

    @contextmanager
    def _use(self) -> Iterator[Handle]:
        self._connection._check()
        if self._closed:
            raise StatementError("the statement is closed", sql=self.sql)
        if self._busy:
            raise InterfaceError("another task is using this statement", sql=self.sql)
        if self._bound and self._handle.is_closed:
            rows, self._bound = self._bound, 0
            raise ConnectionLost(
                f"the connection was lost, and with it the {rows} rows that were bound",
                sql=self.sql,
                may_have_run=False,
            )
        self._busy = True
        try:
            yield self._handle
        finally:
            self._busy = False
            if self._handle.is_closed:
                self._bound = 0

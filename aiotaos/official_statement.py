"""Prepared statements under the names that the official clients use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic

from .binding import PerParameter, TableRows
from .errors import StatementError
from .result import Result
from .row_factories import R
from .statement import Statement

if TYPE_CHECKING:
    from .connection import Connection


class OfficialStatement(Generic[R]):
    """A :class:`Statement` with the methods of taospy's and taos-ws-py's, awaited.

    ``prepare``, then for each table ``set_tbname``, ``set_tags``, ``bind_param`` and
    ``add_batch``, then ``execute``; or ``bind`` with several tables at once, as in stmt2. For a
    query ``bind_param`` takes one value for each ``?``, and ``result_set`` follows ``execute``.
    Values are Python's, lists of them, numpy or Arrow arrays. Made by
    :meth:`Connection.stmt2_statement` and :meth:`Connection.statement`.
    """

    def __init__(self, connection: Connection[R]) -> None:
        self._connection = connection
        self._statement: Statement[R] | None = None
        self._tbname: str | None = None
        self._tags: PerParameter = ()
        self._parameters: tuple[Any, ...] = ()
        self._result: Result[R] | None = None
        self._affected = 0

    async def prepare(self, sql: str) -> None:
        """Prepare an INSERT or a query; errors as :meth:`Connection.prepare`."""
        await self.close()
        self._tbname, self._tags, self._parameters = None, (), ()
        self._statement = await self._connection.prepare(sql)

    async def set_tbname(self, name: str) -> None:
        """Name the table of the rows that are bound next; ``database.table`` is allowed."""
        self._prepared()
        self._tbname = name

    async def set_tags(self, tags: PerParameter) -> None:
        """Set the tags of the table of the rows that are bound next."""
        self._prepared()
        self._tags = tags

    async def bind_param(self, values: Sequence[Any]) -> None:
        """Bind rows of one table, as columns; for a query, a value for each ``?``.

        Raises:
            StatementError: Something is missing, too much, or of unequal length.
            DataError: A value does not fit; the message names column, row and value.
        """
        statement = self._prepared()
        if statement.is_insert:
            await statement.bind(values, tbname=self._tbname, tags=self._tags)
        else:
            self._parameters = tuple(map(_single, values))

    async def bind(self, params: Iterable[TableRows]) -> None:
        """Bind rows of several tables; errors as :meth:`bind_param`."""
        await self._prepared().bind_tables(params)

    async def add_batch(self) -> None:
        """Close a table's rows; what :meth:`bind_param` was given is bound already.

        Raises:
            StatementError: Nothing is bound.
        """
        statement = self._prepared()
        if statement.is_insert and not statement.bound:
            raise StatementError("nothing is bound", sql=statement.sql)

    async def execute(self) -> int:
        """Write what is bound, or run the query; gives the number of rows written."""
        statement = self._prepared()
        if statement.is_insert:
            self._affected = await statement.execute()
        else:
            self._affected = 0
            self._result = await statement.query(*self._parameters)
        return self._affected

    async def result_set(self) -> Result[R]:
        """The result of the query that was executed.

        Raises:
            StatementError: No query was executed.
        """
        self._prepared()
        if self._result is None:
            raise StatementError("no query was executed")
        return self._result

    def affect_rows(self) -> int:
        """Rows written by the last :meth:`execute`."""
        return self._affected

    async def close(self) -> None:
        """Close the statement. May be called again."""
        statement, self._statement, self._result = self._statement, None, None
        if statement is not None:
            await statement.aclose()

    async def __aenter__(self) -> OfficialStatement[R]:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _prepared(self) -> Statement[R]:
        if self._statement is None:
            raise StatementError("no statement is prepared")
        return self._statement


def _single(value: Any) -> Any:
    """The official clients bind a parameter of a query as a column of one value."""
    return value[0] if isinstance(value, (list, tuple)) and len(value) == 1 else value

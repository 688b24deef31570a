"""The verbs that a connection and a pool share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar, Unpack, overload

from .binding import Shape
from .errors import DatabaseError, Error, InterfaceError
from .insert import BATCH_ROWS, Target
from .options import Options, seconds, whole_number
from .protocol.bind import Binding
from .protocol.messages import InsertArgs
from .protocol.sql import first_word, render_rows
from .result import Result
from .row_factories import R, RowFactory, tuple_row
from .schemaless import schemaless_arguments, schemaless_refusal
from .sources import Data
from .transport.base import Deadline, next_req_id, not_over_rest
from .types import SchemalessProtocol
from .writer import Writer, WriterOptions

S = TypeVar("S")

_MAX_REQ_ID = 2**63 - 1
_MAX_SQL = 1_000_000
"""Bytes; TDengine takes 1 MiB."""


class Verbs(ABC, Generic[R]):
    """Running statements and writing rows.

    Attributes:
        row_factory: What rows are.
    """

    row_factory: RowFactory[R]
    _options: Options

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether it cannot be used any more."""

    # Statements.

    async def execute(
        self, sql: str, *params: Any, req_id: int | None = None, timeout: float | None = None
    ) -> int:
        """Run a statement for its effect.

        Args:
            sql: One statement; sent as it is if there are no parameters.
            params: A value for each ``?``. An INSERT or a query is prepared on the server and its
                parameters are sent apart from it; in other statements they become literals.
            req_id: Identifier for tracing, 1 to 2**63 - 1; made up if not given.
            timeout: Seconds; the connection's ``read_timeout`` if not given.

        Returns:
            Number of rows written; 0 for statements that write none, and for queries, whose rows
            are dropped.

        Raises:
            Error: The server refuses the statement; the class tells why.
            StatementError: The number of parameters is not that of the ``?``, or one is of a type
                that cannot be sent.
            DataError: A parameter does not fit its column.
            TimeoutError: There was no answer in time; the statement may have run.
            ConnectionLost: The link broke; ``may_have_run`` says whether the statement may have.
        """
        return await self._execute(
            check_sql(sql), params, checked_req_id(req_id), self._deadline(timeout)
        )

    async def executemany(
        self,
        sql: str,
        rows: Iterable[Sequence[Any]],
        *,
        req_id: int | None = None,
        timeout: float | None = None,
    ) -> int:
        """Run a statement once for each row of parameters.

        An INSERT binds all rows at once; bad input is found before any row is sent. Over REST it
        is written with many rows in a statement. Other statements run one by one.

        Args:
            sql: One statement with a ``?`` for each parameter.
            rows: Values for the ``?``, row by row.
            req_id: Identifier for tracing, 1 to 2**63 - 1; made up if not given.
            timeout: Seconds, for the whole; the connection's ``read_timeout`` if not given.

        Returns:
            Number of rows written.

        Raises:
            Error: As :meth:`execute`.
        """
        check_sql(sql)
        deadline = self._deadline(timeout)
        if not isinstance(rows, Iterable) or isinstance(rows, (str, bytes)):
            raise InterfaceError(f"rows: expected rows of parameters, got {rows!r}")
        given = list(rows)
        written = 0
        if first_word(sql) != "insert":
            for row in given:
                written += await self._execute(sql, row, checked_req_id(req_id), deadline)
            return written
        if self._options.road.binds:
            return await self._write(
                sql, lambda shape: shape.bind_rows(given), checked_req_id(req_id), deadline
            )
        for statement in render_rows(sql, given, _MAX_SQL):
            try:
                written += await self._execute(statement.sql, (), checked_req_id(req_id), deadline)
            except Error as error:
                before = f"; the {statement.first} rows before them are written"
                error.say(
                    f"rows {statement.first} to {statement.last}: {error.message}"
                    + (before if statement.first else "")
                )
                raise
        return written

    @overload
    async def query(
        self, sql: str, *params: Any, req_id: int | None = None, timeout: float | None = None
    ) -> Result[R]: ...
    @overload
    async def query(
        self,
        sql: str,
        *params: Any,
        row_factory: RowFactory[S],
        req_id: int | None = None,
        timeout: float | None = None,
    ) -> Result[S]: ...
    async def query(
        self,
        sql: str,
        *params: Any,
        row_factory: RowFactory[Any] | None = None,
        req_id: int | None = None,
        timeout: float | None = None,
    ) -> Result[Any]:
        """Run a statement and return its result, to be streamed.

        Args:
            sql: One statement; sent as it is if there are no parameters.
            params: A value for each ``?``.
            row_factory: What rows are; the connection's if not given.
            req_id: Identifier for tracing, 1 to 2**63 - 1; made up if not given.
            timeout: Seconds until the result stands (not until its last row); the connection's
                ``read_timeout`` if not given.

        Raises:
            Error: As :meth:`execute`.
        """
        return await self._open(
            check_sql(sql), params, checked_req_id(req_id), self._deadline(timeout), row_factory
        )

    @overload
    async def fetch(
        self, sql: str, *params: Any, req_id: int | None = None, timeout: float | None = None
    ) -> list[R]: ...
    @overload
    async def fetch(
        self,
        sql: str,
        *params: Any,
        row_factory: RowFactory[S],
        req_id: int | None = None,
        timeout: float | None = None,
    ) -> list[S]: ...
    async def fetch(
        self,
        sql: str,
        *params: Any,
        row_factory: RowFactory[Any] | None = None,
        req_id: int | None = None,
        timeout: float | None = None,
    ) -> list[Any]:
        """Run a query and return all its rows; arguments as :meth:`query`.

        ``timeout`` covers the whole: the statement and all of its rows.
        """
        deadline = self._deadline(timeout)
        result = await self._open(
            check_sql(sql), params, checked_req_id(req_id), deadline, row_factory
        )
        return await result._fetch_all(deadline)

    @overload
    async def fetchrow(
        self, sql: str, *params: Any, req_id: int | None = None, timeout: float | None = None
    ) -> R | None: ...
    @overload
    async def fetchrow(
        self,
        sql: str,
        *params: Any,
        row_factory: RowFactory[S],
        req_id: int | None = None,
        timeout: float | None = None,
    ) -> S | None: ...
    async def fetchrow(
        self,
        sql: str,
        *params: Any,
        row_factory: RowFactory[Any] | None = None,
        req_id: int | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Run a query and return its first row, None if it has none; the rest is dropped."""
        deadline = self._deadline(timeout)
        result = await self._open(
            check_sql(sql), params, checked_req_id(req_id), deadline, row_factory
        )
        return await result._read_first(deadline)

    async def fetchval(
        self,
        sql: str,
        *params: Any,
        column: int = 0,
        req_id: int | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Run a query and return one value of its first row, None if it has no row.

        Args:
            sql: One statement; sent as it is if there are no parameters.
            params: A value for each ``?``.
            column: Which column, from 0.
            req_id: As :meth:`query`.
            timeout: Seconds, for the whole.

        Raises:
            InterfaceError: The result has no such column.
        """
        whole_number("column", column)
        deadline = self._deadline(timeout)
        result = await self._open(
            check_sql(sql), params, checked_req_id(req_id), deadline, tuple_row
        )
        if not result.is_update and column >= result.field_count:
            await result.aclose()
            raise InterfaceError(f"column: expected 0 to {result.field_count - 1}, got {column!r}")
        row = await result._read_first(deadline)
        return None if row is None else row[column]

    async def insert(
        self,
        table: str,
        data: Data,
        *,
        tbname: str | None = None,
        tags: Sequence[str] = (),
        columns: Sequence[str] | None = None,
        batch_rows: int = BATCH_ROWS,
        timeout: float | None = None,
    ) -> int:
        """Write many rows, from whatever holds them.

        Rows of a super table are grouped by sub-table; sub-tables that do not exist are created
        with the tags of their first row. Data is read and written batch by batch; when a batch
        fails, those before it are written.

        Args:
            table: ``table`` or ``database.table``, as TDengine stores the name; the super table
                if ``tbname`` is given; then TDengine wants a current database in any case.
            data: Rows (tuples, mappings, dataclasses), a dict of columns, a structured numpy array,
                or anything with Arrow's PyCapsule interface (pyarrow, pandas, polars); or an
                iterator or asynchronous iterator of these. What a mapping lacks is NULL.
                It must not be changed before the call returns.
            tbname: Name of the column that holds the sub-tables' names.
            tags: Names of the columns that hold tags; the others are written as columns.
            columns: Names of the values of rows that are tuples. Without it such rows are the
                sub-table's name, its tags, and all columns of the table. Of data with names, the
                columns to write.
            batch_rows: Rows written at a time.
            timeout: Seconds that one batch may take, and the wait for a connection of a pool; the
                connection's ``read_timeout`` if not given.

        Returns:
            Number of rows written.

        Raises:
            DataError: A value does not fit its column; the message names column, row and value.
            StatementError: The data lacks a column, or columns differ in length.
            Error: The server refuses a batch.
        """
        self._check()
        self._check_binds("insert()")
        whole_number("batch_rows", batch_rows, 1)
        return await self._insert(Target(table, tbname, tags, columns), data, batch_rows, timeout)

    def writer(
        self,
        table: str,
        *,
        tbname: str | None = None,
        tags: Sequence[str] = (),
        columns: Sequence[str] | None = None,
        **options: Unpack[WriterOptions],
    ) -> Writer:
        """A writer that gathers single rows and writes them in batches.

        Args:
            table: As :meth:`insert`.
            tbname: As :meth:`insert`.
            tags: As :meth:`insert`.
            columns: As :meth:`insert`.
            options: See :class:`aiotaos.Writer`.

        Raises:
            InterfaceError: An argument cannot be what it is.
        """
        self._check_binds("writer()")
        return Writer(self, Target(table, tbname, tags, columns), **options)

    async def schemaless_insert(
        self,
        lines: str | bytes | Iterable[str | bytes],
        protocol: SchemalessProtocol = SchemalessProtocol.LINE,
        precision: str = "ms",
        *,
        ttl: int | None = None,
        req_id: int | None = None,
        table_name_key: str | None = None,
        timeout: float | None = None,
    ) -> int:
        """Write lines; tables, columns and tags that they name are created.

        The connection needs a current database. Lines are not written all or none: some may stand
        when one is refused; writing them again does no harm.

        Args:
            lines: One text, or several; of JSON one document.
            protocol: What they are.
            precision: Unit of the timestamps of line protocol: ``"h"``, ``"m"``, ``"s"``,
                ``"ms"``, ``"us"`` or ``"ns"``. The other protocols tell by the number of digits.
            ttl: Days that a table made by this call lives; for ever if not given.
            req_id: Identifier for tracing, 1 to 2**63 - 1; made up if not given.
            table_name_key: Name of the tag whose value becomes the sub-table's name.
            timeout: Seconds; the connection's ``read_timeout`` if not given.

        Returns:
            Number of rows written.

        Raises:
            SchemalessError: A line is refused; the message quotes what TDengine could not read.
            InterfaceError: An argument cannot be what it is.
        """
        self._check()
        arguments = schemaless_arguments(
            lines, protocol, precision, ttl, checked_req_id(req_id), table_name_key
        )
        if not arguments.data:
            return 0
        try:
            return await self._write_lines(arguments, self._deadline(timeout))
        except DatabaseError as error:
            raise schemaless_refusal(error, arguments.data) from error.__cause__

    def _check_binds(self, what: str) -> None:
        """Check that rows can be bound.

        Raises:
            NotSupportedError: The road does not carry prepared statements.
        """
        if not self._options.road.binds:
            raise not_over_rest(what, "use executemany(), or")

    # What differs.

    @abstractmethod
    def _check(self) -> None:
        """Check that it can be used here and now."""

    @abstractmethod
    async def _execute(
        self, sql: str, params: Sequence[Any], req_id: int, deadline: Deadline
    ) -> int:
        """Run a statement; gives the number of rows written."""

    @abstractmethod
    async def _open(
        self,
        sql: str,
        params: Sequence[Any],
        req_id: int,
        deadline: Deadline,
        row_factory: RowFactory[Any] | None,
    ) -> Result[Any]:
        """Run a statement; gives its result."""

    @abstractmethod
    async def _write(
        self,
        sql: str,
        make: Callable[[Shape], Iterable[Binding]],
        req_id: int,
        deadline: Deadline,
    ) -> int:
        """Run a prepared INSERT for the rows that ``make`` gives."""

    @abstractmethod
    async def _insert(self, target: Target, data: Data, size: int, timeout: float | None) -> int:
        """Write data, ``size`` rows at a time."""

    @abstractmethod
    async def _write_lines(self, arguments: InsertArgs, deadline: Deadline) -> int:
        """Write schemaless lines."""

    def _deadline(self, timeout: float | None) -> Deadline:
        if timeout is None:
            return Deadline(self._options.read_timeout)
        return Deadline(seconds("timeout", timeout))


def check_sql(sql: object) -> str:
    """Check that a statement is text.

    Raises:
        InterfaceError: It is not.
    """
    if not isinstance(sql, str):
        raise InterfaceError(f"sql: expected a string, got {type(sql).__name__}")
    return sql


def checked_req_id(req_id: int | None) -> int:
    """A request id: the given one, or one made up.

    Raises:
        InterfaceError: It cannot be one.
    """
    if req_id is None:
        return next_req_id()
    if isinstance(req_id, bool) or not isinstance(req_id, int) or not 0 < req_id <= _MAX_REQ_ID:
        raise InterfaceError(f"req_id: expected an integer from 1 to 2**63 - 1, got {req_id!r}")
    return req_id

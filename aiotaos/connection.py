"""connect() and Connection: one session with a server, for any number of tasks."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Unpack, overload

from .binding import Shape
from .cursor import Cursor
from .errors import (
    DatabaseError,
    InterfaceError,
    ProgrammingError,
)
from .insert import BATCH_ROWS, Target, insert
from .official_statement import OfficialStatement
from .options import OptionArguments, Options, Road, seconds
from .prepared import Handle, StatementCache
from .protocol.bind import Binding
from .protocol.block import Row
from .protocol.rows import RowDecoder
from .protocol.sql import check_count, first_word, placeholders, render
from .result import Result
from .row_factories import R, RowFactory, tuple_row
from .schemaless import schemaless_arguments, schemaless_refusal
from .sources import Data
from .statement import Statement
from .transport.base import Deadline, ServerResult, Transport, next_req_id, written_result
from .transport.dial import open_session
from .types import SchemalessProtocol
from .version import __version__
from .writer import Writer, WriterOptions

if TYPE_CHECKING:
    from .embedded.shared import Hold

S = TypeVar("S")

_CLOSE_TIMEOUT = 5.0
_MAX_REQ_ID = 2**63 - 1
_NOT_PREPARED = "stmt only support"


@overload
def connect(dsn: str | None = None, /, **options: Unpack[OptionArguments]) -> Connecting[Row]: ...
@overload
def connect(
    dsn: str | None = None, /, *, row_factory: RowFactory[R], **options: Unpack[OptionArguments]
) -> Connecting[R]: ...
def connect(
    dsn: str | None = None,
    /,
    *,
    row_factory: RowFactory[Any] = tuple_row,
    **options: Unpack[OptionArguments],
) -> Connecting[Any]:
    """Open a connection: ``async with connect(...) as conn`` or ``conn = await connect(...)``.

    Args:
        dsn: ``driver://[user[:password]@]host[:port][,host…][/database][?key=value]``, for example
            ``ws://root:taosdata@localhost:6041/power``; without it and without ``host``, the
            environment's ``AIOTAOS_DSN``, and ``ws://`` if that is not set.
        row_factory: What rows are: :func:`tuple_row`, :func:`dict_row`, :func:`namedtuple_row`,
            :func:`class_row`.
        options: The same as in a DSN, and beating it; see :class:`aiotaos.options.Options`.

    Raises:
        InterfaceError: An option is unknown or malformed (at once).
        ConnectionError: No server could be reached.
        AuthenticationError: The server refuses the credentials.
        TimeoutError: There was no session within ``connect_timeout``.
        NotSupportedError: The driver is not supported.
    """
    return Connecting(Options.make(dsn, **options), row_factory)


class Connecting(Generic[R]):
    """What :func:`connect` returns: await it, or enter it with ``async with``."""

    def __init__(self, options: Options, row_factory: RowFactory[R]) -> None:
        self._options = options
        self._row_factory = row_factory
        self._connection: Connection[R] | None = None

    def __repr__(self) -> str:
        endpoints = ", ".join(map(self._options.endpoint, self._options.addresses))
        return f"<Connecting to {endpoints}; await it, or enter it with async with>"

    def __await__(self) -> Generator[Any, None, Connection[R]]:
        return self._open().__await__()

    async def _open(self) -> Connection[R]:
        if self._options.road is not Road.EMBEDDED:
            return Connection(await open_session(self._options), self._options, self._row_factory)
        from .embedded.shared import open_embedded

        transport, options, hold = await open_embedded(self._options)
        return Connection(transport, options, self._row_factory, hold)

    async def __aenter__(self) -> Connection[R]:
        self._connection = await self._open()
        return self._connection

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._connection is not None:
            await self._connection.close()


class Connection(Generic[R]):
    """A session with a server; made by :func:`connect`.

    Any number of tasks may use it at once: statements run concurrently on the server, so one that
    depends on another must wait for it. A call that is cancelled or times out leaves it usable.
    It belongs to the event loop that opened it.

    Attributes:
        row_factory: What rows are.
    """

    def __init__(
        self,
        transport: Transport,
        options: Options,
        row_factory: RowFactory[R],
        hold: Hold | None = None,
    ) -> None:
        self._transport = transport
        self._hold = hold
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._tz = options.tz
        self._database = options.database
        self._database_is_sure = True
        self._prepared = StatementCache(transport)
        self._closed = False
        self.row_factory = row_factory

    def __repr__(self) -> str:
        database = f"/{self._database}" if self._database else ""
        state = "closed" if self._closed else "lost" if self._transport.closed else "open"
        return f"<Connection {self._transport.endpoint}{database} {state}>"

    # What it is.

    @property
    def server_version(self) -> str:
        """Version of the server, as ``3.3.7.5``."""
        return self._transport.server_version

    @property
    def client_info(self) -> str:
        """Name and version of this client."""
        return f"aiotaos {__version__}"

    @property
    def endpoint(self) -> str:
        """``scheme://host:port`` of the server."""
        return self._transport.endpoint

    @property
    def database(self) -> str | None:
        """The current database: of the DSN, of :meth:`select_db`, or of a ``USE``."""
        return self._database

    @property
    def closed(self) -> bool:
        """Whether the connection cannot be used any more: closed, or lost."""
        return self._closed or self._transport.closed

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
        result = await self._run(sql, params, req_id, self._deadline(timeout))
        self._transport.free(result)
        return result.affected_rows

    async def executemany(
        self,
        sql: str,
        rows: Iterable[Sequence[Any]],
        *,
        req_id: int | None = None,
        timeout: float | None = None,
    ) -> int:
        """Run a statement once for each row of parameters.

        An INSERT binds all rows at once; bad input is found before any row is sent. Other
        statements run one by one.

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
        self._check_sql(sql)
        deadline = self._deadline(timeout)
        if not isinstance(rows, Iterable) or isinstance(rows, (str, bytes)):
            raise InterfaceError(f"rows: expected rows of parameters, got {rows!r}")
        given = list(rows)
        if first_word(sql) != "insert":
            return sum([await self._execute_one(sql, row, req_id, deadline) for row in given])
        return await self._write(
            sql, lambda shape: shape.bind_rows(given), self._req_id(req_id), deadline
        )

    async def _execute_one(
        self, sql: str, row: Sequence[Any], req_id: int | None, deadline: Deadline
    ) -> int:
        result = await self._run(sql, row, req_id, deadline)
        self._transport.free(result)
        return result.affected_rows

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
        return self._result(
            await self._run(sql, params, req_id, self._deadline(timeout)), row_factory
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
        result = self._result(await self._run(sql, params, req_id, deadline), row_factory)
        return await result._read_all(deadline)

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
        result = self._result(await self._run(sql, params, req_id, deadline), row_factory)
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
        if isinstance(column, bool) or not isinstance(column, int):
            raise InterfaceError(f"column: expected a whole number from 0, got {column!r}")
        deadline = self._deadline(timeout)
        result = self._result(await self._run(sql, params, req_id, deadline), tuple_row)
        if not result.is_update and not 0 <= column < result.field_count:
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
                if ``tbname`` is given.
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
            timeout: Seconds that one batch may take; the connection's ``read_timeout`` if not
                given.

        Returns:
            Number of rows written.

        Raises:
            DataError: A value does not fit its column; the message names column, row and value.
            StatementError: The data lacks a column, or columns differ in length.
            Error: The server refuses a batch.
        """
        self._check()
        if isinstance(batch_rows, bool) or not isinstance(batch_rows, int) or batch_rows < 1:
            raise InterfaceError(f"batch_rows: expected a whole number from 1, got {batch_rows!r}")
        target = Target(table, tbname, tags, columns)
        return await insert(self, target, data, batch_rows, timeout)

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
            SchemalessError: A line is refused; the message names it.
            InterfaceError: An argument cannot be what it is.
        """
        self._check()
        arguments = schemaless_arguments(
            lines, protocol, precision, ttl, self._req_id(req_id), table_name_key
        )
        if not arguments.data:
            return 0
        try:
            return await self._transport.schemaless_insert(arguments, self._deadline(timeout))
        except DatabaseError as error:
            raise schemaless_refusal(error, arguments.data) from error.__cause__

    @overload
    def cursor(self) -> Cursor[R]: ...
    @overload
    def cursor(self, *, row_factory: RowFactory[S]) -> Cursor[S]: ...
    def cursor(self, *, row_factory: RowFactory[Any] | None = None) -> Cursor[Any]:
        """A PEP 249 cursor, with awaits: ``async with conn.cursor() as cur``."""
        self._check()
        return Cursor(self, row_factory or self.row_factory)

    async def prepare(self, sql: str, *, timeout: float | None = None) -> Statement[R]:
        """Prepare an INSERT or a query, to bind rows or parameters to it as often as needed.

        Args:
            sql: One statement with ``?`` for values, and for the name of a table.
            timeout: Seconds; the connection's ``read_timeout`` if not given.

        Raises:
            Error: The server refuses the statement.
        """
        self._check()
        self._check_sql(sql)
        handle = Handle(self._transport, sql)
        await handle.prepared(self._deadline(timeout))
        return Statement(self, handle, self.row_factory)

    def stmt2_statement(self) -> OfficialStatement[R]:
        """A prepared statement with the official clients' method names."""
        self._check()
        return OfficialStatement(self)

    def statement(self) -> OfficialStatement[R]:
        """The same as :meth:`stmt2_statement`: the better of the server's interfaces is taken."""
        return self.stmt2_statement()

    async def select_db(self, database: str, *, timeout: float | None = None) -> None:
        """Make a database the current one.

        Args:
            database: Its name, taken literally.
            timeout: Seconds; the connection's ``read_timeout`` if not given.

        Raises:
            ProgrammingError: It does not exist.
            InterfaceError: The name is empty or has a back-tick in it.
        """
        if not isinstance(database, str) or not database or "`" in database:
            raise InterfaceError(f"database: expected a name without back-ticks, got {database!r}")
        await self.execute(f"use `{database}`", timeout=timeout)

    # The end.

    async def close(self, *, timeout: float | None = None) -> None:
        """Close the connection; calls that are running fail. May be called again.

        Args:
            timeout: Seconds for saying goodbye, 5 if not given; after them the link is dropped.
        """
        if self._closed:
            return
        limit = _CLOSE_TIMEOUT if timeout is None else seconds("timeout", timeout)
        self._check_loop()
        self._closed = True
        try:
            await self._transport.close(limit)
        finally:
            if self._hold is not None:
                await self._hold.release()

    def terminate(self) -> None:
        """Drop the connection at once, without waiting. May be called again."""
        self._closed = True
        if not self._loop.is_closed():
            self._end()

    async def __aenter__(self) -> Connection[R]:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        if getattr(self, "_closed", True) or self._loop.is_closed():
            return
        warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
        self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        self._transport.terminate()
        if self._hold is not None:
            self._hold.release_soon()

    # Inside.

    async def _run(
        self, sql: str, params: Sequence[Any], req_id: int | None, deadline: Deadline
    ) -> ServerResult:
        self._check()
        self._check_sql(sql)
        id = self._req_id(req_id)
        if params:
            word = first_word(sql)
            if word == "select" and not any(isinstance(value, Decimal) for value in params):
                result = await self._query(sql, params, id, deadline)
                if result is not None:
                    return result
            if word == "insert":
                check_count(len(placeholders(sql)), params)
                written = await self._write(
                    sql, lambda shape: shape.bind_rows([params]), id, deadline
                )
                return written_result(written, id, sql)
            sql = render(sql, params)
        if first_word(sql) != "use":
            return await self._transport.query(sql, id, deadline)
        self._prepared.clear()
        self._database_is_sure = False  # until the server has said so
        result = await self._transport.query(sql, id, deadline)
        await self._ask_database(deadline)
        return result

    async def _ask_database(self, deadline: Deadline) -> None:
        self._database = await self._transport.current_database(deadline)
        self._database_is_sure = True

    async def _write(
        self,
        sql: str,
        make: Callable[[Shape], Iterable[Binding]],
        req_id: int,
        deadline: Deadline,
        turn: Callable[[], Awaitable[None]] | None = None,
        *,
        in_thread: bool = False,
    ) -> int:
        """Run a prepared INSERT for the rows that ``make`` gives; the number of rows written.

        The rows are encoded and sent, then ``turn`` is awaited, then they are executed. What takes
        long to encode is done in a worker thread, so that the loop can go on meanwhile.
        """

        async def write(handle: Handle) -> int:
            await handle.prepared(deadline)
            if in_thread:
                from anyio import to_thread

                bindings = await to_thread.run_sync(make, handle.shape)
            else:
                bindings = make(handle.shape)
            try:
                if not await handle.bind(bindings, deadline):
                    return 0
                limit = deadline
                if turn is not None:
                    await turn()
                    limit = Deadline(deadline.seconds)
                return await handle.execute(req_id, limit)
            except BaseException:
                handle.close()  # what is bound must not be written by the next use
                raise

        self._check()
        if not self._database_is_sure:  # a USE was cancelled
            await self._ask_database(deadline)
        return await self._prepared.use(self._database, sql, write)

    async def _query(
        self, sql: str, params: Sequence[Any], req_id: int, deadline: Deadline
    ) -> ServerResult | None:
        """Run a query that is prepared for this once; None if it cannot be prepared.

        A DECIMAL cannot be bound, and some queries are refused by the server's prepare though it
        runs them. A prepared query does not notice that its table was made anew.
        """
        handle = Handle(self._transport, sql)
        try:
            result = await handle.query(params, req_id, deadline)
        except BaseException as error:
            handle.close()
            if isinstance(error, ProgrammingError) and _NOT_PREPARED in error.message:
                return None
            raise
        result.owns_statement = True
        return result

    def _check_sql(self, sql: object) -> None:
        if not isinstance(sql, str):
            raise InterfaceError(f"sql: expected a string, got {type(sql).__name__}")

    def _req_id(self, req_id: int | None) -> int:
        if req_id is None:
            return next_req_id()
        if (
            isinstance(req_id, bool)
            or not isinstance(req_id, int)
            or not (0 < req_id <= _MAX_REQ_ID)
        ):
            raise InterfaceError(f"req_id: expected an integer from 1 to 2**63 - 1, got {req_id!r}")
        return req_id

    def _result(self, result: ServerResult, row_factory: RowFactory[S] | None) -> Result[Any]:
        decoder = RowDecoder(result.fields, result.precision, self._tz, self._options.timestamp)
        return Result(
            self._transport,
            result,
            decoder,
            row_factory or self.row_factory,
            self._options.read_timeout,
        )

    def _deadline(self, timeout: float | None) -> Deadline:
        if timeout is None:
            return Deadline(self._options.read_timeout)
        return Deadline(seconds("timeout", timeout))

    def _check(self) -> None:
        if self._closed:
            raise InterfaceError(f"the connection to {self._transport.endpoint} is closed")
        self._check_loop()

    def _check_loop(self) -> None:
        if asyncio.get_running_loop() is not self._loop:
            raise InterfaceError(
                "the connection belongs to another event loop; open one in this loop"
            )

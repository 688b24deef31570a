"""Statements in, results out: the server without its sockets."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from functools import partial

import duckdb

from ..types import Field, Precision
from .alter import alter
from .catalog import SYSTEM_DATABASES
from .ddl import Definitions
from .faults import EXECUTOR, Fault, no_database, no_table, query_killed, unsupported
from .groups import Groups
from .insert import Insert
from .parser import Parser
from .queries import parse_query
from .running import COLUMNS as QUERY_COLUMNS
from .running import Client, Run, Runs
from .schemaless import insert_points
from .select import QueryCompiler
from .show import Listing, Shows
from .sql import VERSION, Context
from .store import Store
from .topic_sql import TopicStatements

BLOCK_ROWS = 4096
MAX_SQL = 1048576
_INTERNAL_ERROR = 0x02FF
_logger = logging.getLogger("aiotaos.embedded")
_INSERT = re.compile(r"\s*insert\b", re.IGNORECASE)


@dataclass(slots=True)
class State:
    """What a session remembers between statements."""

    database: str = ""
    zone: tzinfo = field(default=UTC)
    client: Client = field(default=Client())


@dataclass(frozen=True, slots=True)
class Update:
    """The result of a statement that changes something."""

    affected: int


class Rows:
    """The result of a query, read block by block from its DuckDB cursor.

    Its methods block and may be called from any thread, by one at a time.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        precision: Precision,
        source: tuple[Store, duckdb.DuckDBPyConnection, Run] | None,
        rows: Sequence[Sequence[object]] = (),
    ) -> None:
        self.fields = tuple(fields)
        self.precision = precision
        self._source = source
        self._rows = rows
        self._lock = threading.Lock()

    def next_block(self) -> list[Sequence[object]] | None:
        """The columns of up to 4096 more rows; None at the end, which frees the result."""
        with self._lock:
            if self._source is not None:
                rows: Sequence[Sequence[object]] = _fetched(*self._source[1:])
            else:
                rows, self._rows = self._rows[:BLOCK_ROWS], self._rows[BLOCK_ROWS:]
        if not rows:
            self.close()
            return None
        return list(zip(*rows, strict=True))

    def close(self) -> None:
        """Free the result; may be called again."""
        with self._lock:
            self._rows = ()
            source, self._source = self._source, None
            if source is not None:
                store, cursor, run = source
                store.free(cursor)
                run.end()


def _fetched(cursor: duckdb.DuckDBPyConnection, run: Run) -> Sequence[Sequence[object]]:
    try:
        with run.step(), run.using(cursor):
            return cursor.fetchmany(BLOCK_ROWS)
    except duckdb.Error as error:
        raise _executor_fault(error) from error


def _executor_fault(error: duckdb.Error) -> Fault:
    if isinstance(error, duckdb.CatalogException):  # dropped while the statement was on its way
        return no_table()
    if isinstance(error, duckdb.InterruptException):
        return query_killed()
    return Fault(EXECUTOR, f"Executor internal error: {str(error).splitlines()[0]}")


def check_length(sql: str) -> None:
    """Refuse a statement that is too long.

    Raises:
        Fault: It is.
    """
    if len(sql.encode("utf-8", "surrogatepass")) > MAX_SQL:
        raise Fault(0x0219, "SQL statement too long")


@contextmanager
def guarded() -> Iterator[None]:
    """Turn whatever goes wrong with a statement into a fault that a client can be told.

    Raises:
        Fault: Anything went wrong.
    """
    try:
        yield
    except duckdb.Error as error:
        raise _executor_fault(error) from error
    except RecursionError:
        raise unsupported("a statement of such depth") from None
    except UnicodeError:
        raise unsupported("text that is not UTF-8") from None
    except (ArithmeticError, ValueError):
        raise unsupported("a number of such size") from None
    except Fault:
        raise
    except Exception as error:  # one statement's trouble must not end the others' session
        _logger.exception("the embedded server failed at a statement")
        raise Fault(_INTERNAL_ERROR, f"Internal error: {type(error).__name__}") from error


class Engine:
    """Runs statements; every method blocks, and any number of threads may call them.

    Attributes:
        store: What they read and change.
        runs: Those that run at the moment.
        groups: Who consumes the topics.
    """

    def __init__(self, path: str | None = None) -> None:
        self.store = Store(path)
        self.runs = Runs()
        self.groups = Groups(self.store)
        self._topics = TopicStatements(self.store, self.groups)

    def close(self) -> None:
        self.store.close()

    def interrupt(self) -> None:
        """Stop the statements that run at the moment; they fail."""
        self.store.interrupt()

    def has_database(self, name: str) -> bool:
        return name in self.store.catalog.databases or name in SYSTEM_DATABASES

    def execute(self, sql: str, state: State, req_id: int = 0) -> Update | Rows:
        """Run one statement, which is listed under the id of its request.

        Raises:
            Fault: It is wrong, it failed, or it is beyond this server.
        """
        check_length(sql)
        with guarded(), self.runs.running(sql, state.client, req_id) as run:
            if _INSERT.match(sql):
                return self._insert(sql, state, run)
            return self._run(sql, state, run)

    def _insert(self, sql: str, state: State, run: Run) -> Update:
        with self.store.writing() as cursor, run.using(cursor):
            insert = Insert(self.store, cursor, sql, state.database, state.zone)
            insert.run()
        return Update(insert.affected)

    def _run(self, sql: str, state: State, run: Run) -> Update | Rows:
        parser = Parser(sql)
        if parser.at_word("select") or parser.at_sign("("):
            return self.query(parser, state, run)
        if parser.accept_word("use"):
            name = parser.identifier()
            parser.expect_end()
            if not self.has_database(name):
                raise no_database()
            state.database = name
            return Update(0)
        listing = self._about_topics(parser, state)
        if listing is not None:
            return listing
        definitions = Definitions(self.store, state.database, state.zone, VERSION)
        if parser.accept_word("create"):
            definitions.create(parser)
            return Update(0)
        if parser.accept_word("drop"):
            definitions.drop(parser)
            return Update(0)
        if parser.accept_word("alter"):
            alter(self.store, parser, state.database, state.zone)
            return Update(0)
        if parser.accept_word("delete"):
            return Update(definitions.delete(parser))
        if parser.accept_word("kill", "query"):
            kill_id = parser.expect_kind("string")
            parser.expect_end()
            self.runs.kill(kill_id)
            return Update(0)
        if parser.accept_word("show", "queries"):
            parser.expect_end()
            return _listed(Listing(QUERY_COLUMNS, self.runs.rows(run)))
        shows = Shows(self.store, state.database)
        if parser.accept_word("show"):
            return _listed(shows.show(parser))
        if parser.accept_word("describe") or parser.accept_word("desc"):
            return _listed(shows.describe(parser))
        if parser.token.text in _KNOWN:
            raise unsupported(parser.token.text.upper())
        raise parser.error()

    def _about_topics(self, parser: Parser, state: State) -> Update | Rows | None:
        """Run a statement about topics; None if it is about something else."""
        if parser.accept_word("create", "topic"):
            self._topics.create(parser, state.database, state.zone)
            return Update(0)
        if parser.accept_word("drop", "topic"):
            self._topics.drop(parser)
            return Update(0)
        if parser.accept_word("drop", "consumer", "group"):
            self._topics.drop_group(parser)
            return Update(0)
        for word, show in (
            ("topics", self._topics.topics),
            ("consumers", self._topics.consumers),
            ("subscriptions", self._topics.subscriptions),
        ):
            if parser.accept_word("show", word):
                parser.expect_end()
                return _listed(show())
        return None

    def insert_points(
        self, database: str, data: str, protocol: int, precision: str, name_tag: str
    ) -> int:
        """Write without a schema, see :func:`.schemaless.insert_points`."""
        with guarded():
            return insert_points(self.store, database, data, protocol, precision, name_tag)

    def query(self, parser: Parser, state: State, run: Run) -> Rows:
        """Run a query that is to be read by a parser.

        Raises:
            Fault: It is wrong, or beyond this server.
            duckdb.Error: It failed.
        """
        query = parse_query(parser)
        parser.expect_end()
        context = Context(state.database, state.zone, VERSION, partial(self.runs.rows, run))
        compiled = QueryCompiler(context, self.store.catalog).compile(query)
        fields = [output.type.field(output.name) for output in compiled.outputs]
        cursor = self.store.cursor()
        try:
            with run.using(cursor):
                cursor.execute(compiled.sql, context.parameters.used(compiled.sql))
        except BaseException:
            self.store.free(cursor)
            raise
        run.is_held = True
        return Rows(fields, compiled.precision, (self.store, cursor, run))


_KNOWN = frozenset(
    {
        "alter",
        "balance",
        "compact",
        "explain",
        "flush",
        "grant",
        "kill",
        "merge",
        "pause",
        "redistribute",
        "reset",
        "resume",
        "revoke",
        "split",
        "trim",
        "update",
    }
)


def _listed(listing: Listing) -> Rows:
    fields = [type.field(name) for name, type in listing.columns]
    return Rows(fields, Precision.MILLISECOND, None, listing.rows)

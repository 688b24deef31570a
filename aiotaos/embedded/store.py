"""The DuckDB database behind the catalog: the only module that opens it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import duckdb
import msgspec

from ..types import Precision
from .catalog import Catalog, Child, Table
from .columns import Column
from .faults import Fault
from .log import Journal
from .topics import Topics

_SETTINGS = {
    "threads": "1",  # ties and sums come out alike each time
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
    "TimeZone": "'UTC'",
    "lock_configuration": "true",
}


VGROUPS = 2
"""The vgroups of a database that does not ask for more or less."""
_PATIENCE = 5.0  # seconds that closing waits for a statement to end
_INTERVAL = 0.002


class Store:
    """Tables, rows and the catalog, in memory or in a file.

    Reading needs no lock: DuckDB gives each cursor its own view. Writing happens under
    ``writing()``, one writer at a time, in one transaction for rows and catalog.

    Attributes:
        journal: What was written to databases that have topics.
        topics: The topics, which like the journal last as long as the process.
    """

    def __init__(self, path: str | None) -> None:
        self.catalog = Catalog()
        self.journal = Journal()
        self.topics = Topics()
        self._lock = threading.Lock()
        self._stopping = False
        self._cursors: dict[int, duckdb.DuckDBPyConnection] = {}
        self._connection = duckdb.connect(path or ":memory:")
        for name, value in _SETTINGS.items():
            self._connection.execute(f"SET {name} = {value}")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS databases (name VARCHAR, precision INTEGER);"
            f"ALTER TABLE databases ADD COLUMN IF NOT EXISTS vgroups INTEGER DEFAULT {VGROUPS};"
            "CREATE TABLE IF NOT EXISTS tables (number BIGINT, database VARCHAR, body VARCHAR)"
        )
        self._load()

    def _load(self) -> None:
        run = self._connection.execute
        databases = run("SELECT name, precision, vgroups FROM databases").fetchall()
        for name, precision, vgroups in databases:
            home = self.catalog.new_database(name, Precision(precision), vgroups)
            self.catalog.databases[name] = home
        rows = run("SELECT database, body FROM tables ORDER BY number").fetchall()
        self._next = 1
        for database, body in rows:
            table = msgspec.json.decode(body, type=Table)
            children = run(f"SELECT tbname, tid FROM {table.labels} ORDER BY tid").fetchall()
            table.children = dict(children)
            self._next = max([self._next - 1, table.number, *table.children.values()]) + 1
            self.catalog.databases[database].add(table)

    def close(self) -> None:
        for cursor in list(self._cursors.values()):
            self._end(cursor)
        self._connection.close()

    def _end(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Close a cursor in which a statement may still run.

        DuckDB loses an interrupt that comes just before a statement starts, so it is repeated.
        """
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                self.free(cursor)
            except duckdb.Error:
                if time.monotonic() > until:
                    raise
                with suppress(duckdb.Error):
                    cursor.interrupt()
                time.sleep(_INTERVAL)
            else:
                return

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own on the same data; to be given back to :meth:`free`.

        Raises:
            Fault: The server is about to stop.
        """
        if self._stopping:
            raise Fault(0x0131, "Database is closing down")
        cursor = self._connection.cursor()
        self._cursors[id(cursor)] = cursor
        return cursor

    def free(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Close a cursor."""
        self._cursors.pop(id(cursor), None)
        cursor.close()

    def interrupt(self) -> None:
        """Stop what runs at the moment, and let nothing new begin."""
        self._stopping = True
        for cursor in list(self._cursors.values()):
            cursor.interrupt()

    @contextmanager
    def writing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Hold the write lock and a transaction; commit at the end, roll back on an error.

        The catalog in memory must be changed after the last thing that can fail. What is noted in
        the journal is published with the commit.
        """
        with self._lock:
            cursor = self.cursor()
            try:
                cursor.execute("BEGIN")
                yield cursor
                cursor.execute("COMMIT")
                self.journal.publish()
            except BaseException:
                self.journal.discard()
                with suppress(duckdb.Error):
                    cursor.execute("ROLLBACK")
                raise
            finally:
                self.free(cursor)

    def next_number(self) -> int:
        number = self._next
        self._next += 1
        return number

    def create_table(self, cursor: duckdb.DuckDBPyConnection, table: Table) -> None:
        """Store a new table that has no sub-tables."""
        columns = "".join(f", {column.stored} {column.type.duckdb}" for column in table.columns)
        tags = "".join(f", {tag.stored} {tag.type.duckdb}" for tag in table.tags)
        cursor.execute(f"CREATE TABLE {table.data} (tid BIGINT{columns})")
        cursor.execute(f"CREATE TABLE {table.labels} (tid BIGINT, tbname VARCHAR{tags})")
        cursor.execute(
            "INSERT INTO tables VALUES (?, ?, ?)", [table.number, table.database, _body(table)]
        )

    def update_table(self, cursor: duckdb.DuckDBPyConnection, table: Table) -> None:
        """Store a changed description."""
        cursor.execute("UPDATE tables SET body = ? WHERE number = ?", [_body(table), table.number])

    def drop_table(self, cursor: duckdb.DuckDBPyConnection, table: Table) -> None:
        cursor.execute(f"DROP TABLE {table.data}")
        cursor.execute(f"DROP TABLE {table.labels}")
        cursor.execute("DELETE FROM tables WHERE number = ?", [table.number])

    def add_column(self, cursor: duckdb.DuckDBPyConnection, where: str, column: Column) -> None:
        cursor.execute(f"ALTER TABLE {where} ADD COLUMN {column.stored} {column.type.duckdb}")

    def drop_column(self, cursor: duckdb.DuckDBPyConnection, where: str, column: Column) -> None:
        cursor.execute(f"ALTER TABLE {where} DROP COLUMN {column.stored}")

    def create_child(
        self, cursor: duckdb.DuckDBPyConnection, child: Child, tags: dict[Column, object]
    ) -> None:
        """Store a new sub-table with these tags; the others are NULL."""
        names = "".join(f", {tag.stored}" for tag in tags)
        marks = "".join(", ?" for _ in tags)
        cursor.execute(
            f"INSERT INTO {child.table.labels} (tid, tbname{names}) VALUES (?, ?{marks})",
            [child.number, child.name, *tags.values()],
        )

    def drop_child(self, cursor: duckdb.DuckDBPyConnection, child: Child) -> None:
        for name in (child.table.data, child.table.labels):
            cursor.execute(f"DELETE FROM {name} WHERE tid = ?", [child.number])


def _body(table: Table) -> str:
    bare = msgspec.structs.replace(table, children={})
    return msgspec.json.encode(bare).decode()

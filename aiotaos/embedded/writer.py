"""Rows and new sub-tables of one statement, whatever way they came, on their way to the store."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from . import times
from .batch import Batch, Values
from .catalog import Child, Database, Table
from .columns import TBNAME, Column
from .faults import Fault, no_table, table_exists, table_of_another
from .log import Created
from .names import MAX_NAME, check_name
from .store import Store

NAME_COLUMN = Column("tbname", TBNAME, -1)
"""Stands among columns that are written for the name of the sub-table."""


class Writer:
    """Collects rows and stores all of them at once, inside of a transaction of the store's.

    New sub-tables are not seen by others before :meth:`finish`.
    """

    def __init__(self, store: Store, cursor: duckdb.DuckDBPyConnection) -> None:
        self._store = store
        self._cursor = cursor
        self._batches: list[Batch] = []
        self._created: dict[tuple[str, str], Created] = {}
        self._names: dict[int, str] = {}

    def child(self, home: Database, name: str) -> Child | None:
        """The sub-table or normal table of this name, also a new one."""
        created = self._created.get((home.name, name))
        child = created.child if created is not None else home.child(name)
        if child is not None:
            self._names[child.number] = name
        return child

    def create(self, home: Database, name: str, table: Table, tags: dict[Column, object]) -> Child:
        """Make a new sub-table with these tags; the others are NULL.

        Raises:
            Fault: The name is a super table's, or cannot be one.
        """
        if name in home.supers:
            raise table_exists()
        check_name(name, MAX_NAME)
        child = Child(name, self._store.next_number(), table)
        self._store.create_child(self._cursor, child, tags)
        self._created[home.name, name] = Created.now(child, tags)
        self._names[child.number] = name
        return child

    def add(
        self, table: Table, columns: tuple[Column, ...], child: int, values: Sequence[Values]
    ) -> None:
        """Add rows of a sub-table, given as columns, among them the time, which is never NULL.

        The sub-table was found, or made, by this writer.

        Raises:
            Fault: A time is out of range.
        """
        time = columns.index(table.columns[0])
        low, high = times.key_range(self._store.catalog.databases[table.database].precision)
        if min(values[time]) < low or max(values[time]) > high:  # type: ignore[type-var,operator]
            raise Fault(0x060B, "Timestamp data out of range")
        order = [time, *(index for index in range(len(columns)) if index != time)]
        columns = tuple(columns[index] for index in order)
        batch = next((b for b in reversed(self._batches) if b.table is table), None)
        if batch is None or batch.columns != columns:
            batch = Batch(table, columns)
            self._batches.append(batch)
        batch.add(child, [values[index] for index in order])

    def spread(self, table: Table, columns: tuple[Column, ...], values: Sequence[Values]) -> None:
        """Add rows that name their sub-table in :data:`NAME_COLUMN`, creating it where it is new.

        Raises:
            Fault: A name or a time is NULL or of no use, or the name is another table's.
        """
        home = self._store.catalog.databases[table.database]
        stored = [index for index, column in enumerate(columns) if column in table.columns]
        data = tuple(columns[index] for index in stored)
        tags = {index: column for index, column in enumerate(columns) if column in table.tags}
        by_name: dict[str, list[int]] = {}
        for row, name in enumerate(values[columns.index(NAME_COLUMN)]):
            if not isinstance(name, str) or not name:
                raise Fault(0x0200, "tbname can not be null value")
            by_name.setdefault(name, []).append(row)
        if None in values[columns.index(table.columns[0])]:
            raise Fault(0x0200, "Primary timestamp column should not be null")
        for name, rows in by_name.items():
            first = {tag: values[index][rows[0]] for index, tag in tags.items()}
            child = self.belonging(home, name, table, first)
            picked = [[values[index][row] for row in rows] for index in stored]
            self.add(table, data, child.number, picked)

    def belonging(
        self, home: Database, name: str, table: Table, tags: dict[Column, object]
    ) -> Child:
        """Find or create a sub-table of a super table; one that exists keeps its tags.

        Raises:
            Fault: The name is that of another table.
        """
        child = self.child(home, name)
        if child is None:
            return self.create(home, name, table, tags)
        if child.table is not table:
            raise table_of_another() if child.table.tags else no_table()
        return child

    def finish(self) -> int:
        """Store everything; returns the number of rows, those of the same time counted once."""
        for batch in self._batches:
            batch.write(self._cursor)
        affected = len(set().union(*(batch.keys() for batch in self._batches)))
        for (database, _), created in self._created.items():
            self._store.catalog.databases[database].add_child(created.child)
        self._note()
        return affected

    def _note(self) -> None:
        """Note the rows in the logs of the databases that have any."""
        journal = self._store.journal
        written = {batch.table.database for batch in self._batches}
        for database in written | {name for name, _ in self._created}:
            if journal.keeps(database):
                home = self._store.catalog.databases[database]
                batches = [batch for batch in self._batches if batch.table.database == database]
                created = [one for (name, _), one in self._created.items() if name == database]
                journal.note_rows(home, batches, self._names, created)

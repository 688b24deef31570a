"""How the log of a database begins: with what its tables hold when it gets its first topic."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from .batch import Batch
from .catalog import Child, Database, Table
from .log import Created, Journal
from .meta import created_children, created_table

_ROWS = 4096


def note_contents(journal: Journal, cursor: duckdb.DuckDBPyConnection, home: Database) -> None:
    """Note tables, sub-tables and rows as if they were made and written just now."""
    for table in home.tables():
        if table.is_super:
            journal.note_meta(home, table.number, created_table(table))
            for created in _children(cursor, table):
                meta = created_children([created])
                journal.note_meta(home, table.number, meta, created.child.name)
        else:
            journal.note_meta(home, table.number, created_table(table), table.name)
        names = {number: name for name, number in table.children.items()}
        stored = ", ".join(column.stored for column in table.columns)
        order = f"tid, {table.columns[0].stored}"
        cursor.execute(f"SELECT tid, {stored} FROM {table.data} ORDER BY {order}")
        while rows := cursor.fetchmany(_ROWS):
            journal.note_rows(home, [_batch(table, rows)], names)


def _batch(table: Table, rows: Sequence[Sequence[object]]) -> Batch:
    children, *values = (list(column) for column in zip(*rows, strict=True))
    return Batch(table, tuple(table.columns), children, values)


def _children(cursor: duckdb.DuckDBPyConnection, table: Table) -> list[Created]:
    stored = "".join(f", {tag.stored}" for tag in table.tags)
    sql = f"SELECT tid, tbname{stored} FROM {table.labels} ORDER BY tid"
    return [
        Created.now(Child(name, number, table), dict(zip(table.tags, values, strict=True)))
        for number, name, *values in cursor.execute(sql).fetchall()
    ]

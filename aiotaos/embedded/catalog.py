"""What exists: databases, tables, their columns and tags."""

from __future__ import annotations

import itertools
import zlib
from dataclasses import dataclass, field

import msgspec

from ..types import Precision
from .columns import Column
from .faults import Fault, no_database, no_table

SYSTEM_DATABASES = ("information_schema", "performance_schema")


class Table(msgspec.Struct):
    """A super table, or a normal table, which is stored like a super table with one sub-table.

    Attributes:
        number: Names its tables in DuckDB.
        children: Sub-tables by name, with the number that marks their rows.
        next_column: Number of the next column, so that a dropped one is never taken up again.
    """

    number: int
    database: str
    name: str
    is_super: bool
    columns: list[Column]
    tags: list[Column]
    next_column: int
    children: dict[str, int] = {}

    @property
    def data(self) -> str:
        """The DuckDB table of the rows: ``tid``, then the columns."""
        return f"data{self.number}"

    @property
    def labels(self) -> str:
        """The DuckDB table of the sub-tables: ``tid``, ``tbname``, then the tags."""
        return f"tags{self.number}"

    def column(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)

    def tag(self, name: str) -> Column | None:
        return next((tag for tag in self.tags if tag.name == name), None)


@dataclass(frozen=True, slots=True)
class Child:
    """A sub-table, or a normal table."""

    name: str
    number: int
    table: Table


@dataclass(slots=True)
class Database:
    """A database.

    Attributes:
        vgroups: Numbers of the parts that its tables are spread over.
    """

    name: str
    precision: Precision
    vgroups: tuple[int, ...]
    supers: dict[str, Table] = field(default_factory=dict)
    normals: dict[str, Table] = field(default_factory=dict)
    children: dict[str, Table] = field(default_factory=dict)

    def exists(self, name: str) -> bool:
        return name in self.supers or name in self.normals or name in self.children

    def child(self, name: str) -> Child | None:
        """The sub-table or normal table of this name."""
        table = self.normals.get(name) or self.children.get(name)
        return Child(name, table.children[name], table) if table is not None else None

    def vgroup(self, name: str) -> int:
        """The vgroup of a sub-table or normal table of this name."""
        place = zlib.crc32(name.encode()) * len(self.vgroups) >> 32
        return self.vgroups[place]

    def tables(self) -> list[Table]:
        return [*self.supers.values(), *self.normals.values()]

    def add(self, table: Table) -> None:
        """Enter a table with its sub-tables."""
        if table.is_super:
            self.supers[table.name] = table
            for name in table.children:
                self.children[name] = table
        else:
            self.normals[table.name] = table

    def remove(self, table: Table) -> None:
        """Strike out a table with its sub-tables."""
        if table.is_super:
            del self.supers[table.name]
            for name in table.children:
                self.children.pop(name, None)
        else:
            del self.normals[table.name]

    def add_child(self, child: Child) -> None:
        child.table.children[child.name] = child.number
        self.children[child.name] = child.table

    def remove_child(self, child: Child) -> None:
        del child.table.children[child.name]
        del self.children[child.name]


class Catalog:
    """All databases; changed only by who holds the store's write lock."""

    def __init__(self) -> None:
        self.databases: dict[str, Database] = {}
        self._vgroups = itertools.count(2)  # as in a cluster, whose number 1 is the mnode's

    def new_database(self, name: str, precision: Precision, vgroups: int) -> Database:
        """A database, not yet entered, with so many vgroups of its own."""
        numbers = tuple(next(self._vgroups) for _ in range(vgroups))
        return Database(name, precision, numbers)

    def database(self, name: str | None) -> Database:
        """Find a database; without a name there is none chosen."""
        if not name:
            raise Fault(0x2616, "Database not specified")
        database = self.databases.get(name)
        if database is None:
            raise no_database()
        return database

    def find(self, database: str, name: str) -> Table | Child:
        """Find what a query can read: a super table, a sub-table or a normal table."""
        home = self.database(database)
        found = home.supers.get(name) or home.child(name)
        if found is None:
            raise no_table()
        return found

"""A prepared INSERT: what its ``?`` stand for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from .catalog import Catalog, Database, Table
from .columns import Column
from .faults import Fault, insert_error, no_column, no_database, unsupported
from .parser import Parser
from .writer import NAME_COLUMN

BIND_COLUMN = 1
BIND_TAG = 2
BIND_NAME = 4

Cell: TypeAlias = tuple[Column, str | None]
"""A column and its value as written, or None for ``?``."""
_Row: TypeAlias = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """An INSERT whose table is known.

    Attributes:
        home: Database of the table's name.
        table: The super table, or the table itself.
        name: The table that the rows go to; None where its name is bound.
        tags: Tags of a new sub-table; None where none can be made.
        columns: Columns of the rows, the time among them.
        slots: What each ``?`` is bound to, as bind type and column, in order.
    """

    home: Database
    table: Table
    name: str | None
    tags: tuple[Cell, ...] | None
    columns: tuple[Cell, ...]
    slots: tuple[tuple[int, Column], ...]

    def of_kind(self, kind: int) -> list[Column]:
        """The columns of the ``?`` of one bind type."""
        return [column for slot, column in self.slots if slot == kind]


@dataclass(frozen=True, slots=True)
class PreparedInsert:
    """An INSERT as written, of one table and one row of values.

    Attributes:
        table: Database and name; the name is None for ``?``.
        using: Database and name of the super table; None where it names none.
    """

    table: tuple[str | None, str | None]
    using: tuple[str | None, str] | None
    tag_names: tuple[str, ...] | None
    tag_cells: _Row
    column_names: tuple[str, ...] | None
    cells: _Row

    @property
    def needs_table(self) -> bool:
        """Whether nothing but the bound name tells what table this is about."""
        return self.table[1] is None and self.using is None

    def resolve(self, catalog: Catalog, database: str, name: str | None = None) -> Template:
        """Find out what is to be bound.

        Args:
            catalog: What there is.
            database: The database of names that tell none.
            name: The table that ``?`` stands for, where nothing else tells.

        Raises:
            Fault: The table or a column does not exist, or the numbers of values are wrong.
        """
        home = catalog.database(self.table[0] or database)
        fixed = self.table[1]
        if self.using is not None:
            return self._with_tags(home, catalog.database(self.using[0] or home.name))
        table = home.supers.get(fixed or "")
        if table is not None and self.column_names is not None:
            return self._by_name(home, table, self.column_names)
        child = home.child(fixed or name or "")
        if child is None:
            raise no_bound_table()
        columns = _cells(_columns(child.table, self.column_names), self.cells)
        slots = [(BIND_NAME, NAME_COLUMN)] if fixed is None else []
        return Template(
            home, child.table, fixed, None, columns, (*slots, *_marks(BIND_COLUMN, columns))
        )

    def _with_tags(self, home: Database, super_home: Database) -> Template:
        table = super_home.supers.get(self.using[1]) if self.using is not None else None
        if table is None:
            raise no_bound_table()
        if len(self.tag_cells) != len(self.tag_names or table.tags):
            raise Fault(0x260D, "Tags number not matched")
        tags = _cells(_named(table.tags, self.tag_names), self.tag_cells)
        columns = _cells(_columns(table, self.column_names), self.cells)
        slots = [(BIND_NAME, NAME_COLUMN)] if self.table[1] is None else []
        marks = (*slots, *_marks(BIND_TAG, tags), *_marks(BIND_COLUMN, columns))
        return Template(home, table, self.table[1], tags, columns, marks)

    def _by_name(self, home: Database, table: Table, names: tuple[str, ...]) -> Template:
        """The form that names the sub-table in a column ``tbname``."""
        members = [NAME_COLUMN, *table.columns, *table.tags]
        cells = _cells(_named(members, names), self.cells)
        tags = tuple(cell for cell in cells if cell[0] in table.tags)
        columns = tuple(cell for cell in cells if cell[0] in table.columns)
        written = dict(cells)
        if NAME_COLUMN not in written:
            raise Fault(0x0200, "tbname column should not be null")
        if table.columns[0] not in written:
            raise _no_time()
        slots = []
        for column, token in cells:
            kind = BIND_TAG if column in table.tags else BIND_COLUMN
            if token is None:
                slots.append((BIND_NAME if column == NAME_COLUMN else kind, column))
        token = written[NAME_COLUMN]
        name = None if token is None else token.strip("'\"")
        return Template(home, table, name, tags, columns, tuple(slots))


def no_bound_table() -> Fault:
    """The refusal of a statement about a table that does not exist."""
    return Fault(0x022B, "Table does not exist")


def _no_time() -> Fault:
    return Fault(0x0200, "Primary timestamp column should not be null")


def _named(members: Sequence[Column], names: Sequence[str] | None) -> list[Column]:
    if names is None:
        return list(members)
    found = {member.name: member for member in members}
    for name in names:
        if name not in found:
            raise no_column(name)
    return [found[name] for name in names]


def _columns(table: Table, names: Sequence[str] | None) -> list[Column]:
    columns = _named(table.columns, names)
    if table.columns[0] not in columns:
        raise _no_time()
    return columns


def _cells(columns: Sequence[Column], cells: _Row) -> tuple[Cell, ...]:
    if len(columns) != len(cells):
        raise Fault(0x263F, "Illegal number of columns")
    return tuple(zip(columns, cells, strict=True))


def _marks(kind: int, cells: Sequence[Cell]) -> list[tuple[int, Column]]:
    return [(kind, column) for column, token in cells if token is None]


def parse_insert(parser: Parser) -> PreparedInsert:
    """Read an INSERT from its beginning to its end.

    Raises:
        Fault: It is wrong, or of a form that cannot be prepared here.
    """
    parser.expect_word("insert", "into")
    table: tuple[str | None, str | None] = (None, None)
    if parser.token.kind == "mark":
        parser.advance()
    else:
        table = parser.qualified()
    column_names = _names(parser)
    using = None
    tag_names: tuple[str, ...] | None = None
    tag_cells: _Row = ()
    if parser.accept_word("using"):
        using = parser.qualified()
        tag_names = _names(parser)
        parser.expect_word("tags")
        tag_cells = _row(parser)
        column_names = column_names or _names(parser)
    if parser.at_word("select") or parser.at_word("file"):
        raise unsupported("a prepared INSERT of anything else than VALUES")
    parser.expect_word("values")
    cells = _row(parser)
    if parser.token.kind != "end":
        raise unsupported("a prepared INSERT of more than one row or table")
    return PreparedInsert(table, using, tag_names, tag_cells, column_names, cells)


def _names(parser: Parser) -> tuple[str, ...] | None:
    if not parser.accept_sign("("):
        return None
    names: list[str] = []
    while True:
        name = parser.identifier()
        if name in names:
            raise insert_error("duplicated column name", name)
        names.append(name)
        if not parser.accept_sign(","):
            parser.expect_sign(")")
            return tuple(names)


def _row(parser: Parser) -> _Row:
    parser.expect_sign("(")
    cells = [_cell(parser)]
    while parser.accept_sign(","):
        cells.append(_cell(parser))
    parser.expect_sign(")")
    return tuple(cells)


def _cell(parser: Parser) -> str | None:
    """A value as written, which ``now() + 1s`` is too, or None for ``?``."""
    if parser.token.kind == "mark":
        parser.advance()
        return None
    start = end = parser.token.start
    depth = 0
    while depth or not (parser.at_sign(",") or parser.at_sign(")")):
        depth += parser.at_sign("(") - parser.at_sign(")")
        if parser.token.kind in ("end", "mark"):
            raise parser.error()
        end = parser.advance().end
    if start == end:
        raise parser.error()
    return parser.sql[start:end]


_NAME_PARTS = re.compile(r"(?:^|(?<=\.))(?:`(?:[^`]|``)+`|[^.]*)")


def split_name(name: str) -> tuple[str | None, str]:
    """Database and name of a bound table name: ``tb``, ``db.tb``, both perhaps in back-ticks.

    Raises:
        Fault: The name is empty.
    """
    parts = [
        quoted[1:-1].replace("``", "`") if quoted[:1] == "`" else quoted
        for quoted in _NAME_PARTS.findall(name)
    ]
    database = parts[0] if len(parts) > 1 else None
    table = ".".join(parts[1:] or parts)
    if not table or database == "":
        raise Fault(0x022B, "Table name is empty")
    return database, table


def bound_home(catalog: Catalog, template_home: Database, database: str | None) -> Database:
    """The database of a bound name."""
    if database is None:
        return template_home
    home = catalog.databases.get(database)
    if home is None:
        raise no_database()
    return home

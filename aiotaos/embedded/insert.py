"""INSERT: read without a tree, since a statement may hold a megabyte of values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import tzinfo

import duckdb

from .batch import Values
from .catalog import Catalog, Child, Database, Table
from .columns import Column
from .faults import (
    Fault,
    insert_error,
    no_column,
    no_table,
    syntax_error,
    table_of_another,
    unsupported,
)
from .literals import BadValueError, Clock, convert
from .parser import Parser
from .queries import parse_query
from .quick import quick_values
from .select import QueryCompiler
from .sql import Context
from .store import Store
from .writer import NAME_COLUMN, Writer

_STRING = r"'(?:[^'\\]|\\.|'')*+'|\"(?:[^\"\\]|\\.|\"\")*+\""
_BARE = r"[-+.\w]++(?:\s*+\(\s*+\))?(?:\s*+[-+]\s*+\w++(?:\s*+\(\s*+\))?)?"
_FLAGS = re.DOTALL | re.ASCII
_VALUE = re.compile(rf"\s*(?:{_STRING}|{_BARE})", _FLAGS)
_CELL = re.compile(rf"({_STRING}|{_BARE})\s*+([,)])", _FLAGS)
_ONE = rf"\s*+(?>{_STRING}|{_BARE})\s*+"
_ROW = rf"\s*+,?\s*+\((?:{_ONE},)*+{_ONE}\)"
_ROWS = re.compile(rf"(?:{_ROW})++", _FLAGS)
_TAGS = re.compile(_ROW, _FLAGS)
_ROW_START = re.compile(r"\s*,?\s*\(")
_WORD = re.compile(r"\s*(?:`((?:[^`]|``)+)`|(\w+))", re.ASCII)
_SPACE = re.compile(r"\s*")


@dataclass(slots=True)
class _Target:
    """What one clause ``table [USING …] [(columns)]`` writes to."""

    table: Table
    child: Child | None
    columns: tuple[Column, ...]


@dataclass(slots=True)
class Insert:
    """One statement on its way; nothing is visible to others before all of it is stored."""

    store: Store
    cursor: duckdb.DuckDBPyConnection
    sql: str
    database: str
    zone: tzinfo
    position: int = 0
    affected: int = 0
    writer: Writer = field(init=False)

    def __post_init__(self) -> None:
        self.writer = Writer(self.store, self.cursor)

    def run(self) -> None:
        """Store all rows, and then show the new sub-tables to others."""
        self._expect("insert")
        self._expect("into")
        self._clause()
        while self._rest().strip() not in ("", ";"):
            self._clause()
        self.affected = self.writer.finish()

    @property
    def _catalog(self) -> Catalog:
        return self.store.catalog

    def _rest(self) -> str:
        return self.sql[self.position :]

    def _peek(self) -> str:
        """The next word in lower case, ``""`` if there is none."""
        match = _WORD.match(self.sql, self.position)
        return match[2].lower() if match is not None and match[2] else ""

    def _accept(self, word: str) -> bool:
        match = _WORD.match(self.sql, self.position)
        if match is None or match[2] is None or match[2].lower() != word:
            return False
        self.position = match.end()
        return True

    def _expect(self, word: str) -> None:
        if not self._accept(word):
            raise syntax_error(self._rest())

    def _sign(self, sign: str) -> bool:
        match = _SPACE.match(self.sql, self.position)
        position = match.end() if match is not None else self.position
        if not self.sql.startswith(sign, position):
            return False
        self.position = position + 1
        return True

    def _identifier(self) -> str:
        match = _WORD.match(self.sql, self.position)
        if match is None:
            raise syntax_error(self._rest())
        self.position = match.end()
        return match[1].replace("``", "`") if match[1] else match[2].lower()

    def _clause(self) -> None:
        target = self._target()
        if self._peek() == "select":
            self._from_query(target)
            return
        if self._peek() == "file":
            raise unsupported("INSERT … FILE")
        self._expect("values")
        match = _ROWS.match(self.sql, self.position)
        start = _ROW_START.match(self.sql, self.position if match is None else match.end())
        if start is not None:
            self._explain_row(start.end(), len(target.columns))
        if match is None:
            raise Fault(0x0216, "syntax error near 'no any data points'")
        self._rows(target, match.start(), match.end())
        self.position = match.end()

    def _from_query(self, target: _Target) -> None:
        """The rest of the statement is a query, whose rows are stored."""
        parser = Parser(self._rest())
        self.position = len(self.sql)
        query = parse_query(parser)
        parser.expect_end()
        context = Context(self.database, self.zone)
        compiled = QueryCompiler(context, self._catalog).compile(query)
        if len(compiled.outputs) != len(target.columns):
            raise Fault(0x263F, "Illegal number of columns")
        home = self._catalog.databases[target.table.database]
        for output, column in zip(compiled.outputs, target.columns, strict=True):
            same = output.type.code is column.type.code and output.type.scale == column.type.scale
            if not same or output.type.length > column.type.length:
                raise unsupported("INSERT … SELECT of other types than those of the columns")
        if target.child is None or compiled.precision != home.precision:
            raise unsupported("INSERT … SELECT into a super table, or of another precision")
        parameters = context.parameters.used(compiled.sql)
        rows = self.cursor.execute(compiled.sql, parameters).fetchall()
        if not rows:
            return
        columns: list[Values] = [list(values) for values in zip(*rows, strict=True)]
        if None in columns[target.columns.index(target.table.columns[0])]:
            raise Fault(0x0200, "Primary timestamp column should not be null")
        self.writer.add(target.table, target.columns, target.child.number, columns)

    def _target(self) -> _Target:
        start = self.position
        name = self._identifier()
        database = self.database
        if self._sign("."):
            database, name = name, self._identifier()
        home = self._catalog.database(database)
        rest = self._rest()
        names = self._names() if self._sign("(") else None
        child = self.writer.child(home, name)
        if self._accept("using"):
            child = self._using(home, name, child)
            if names is None and self._sign("("):
                names = self._names()
        elif child is None:
            table = home.supers.get(name)
            if table is None:
                raise no_table()
            if names is None:
                raise insert_error(
                    "(...tbname, ts...) bounded cols is expected for supertable insertion", rest
                )
            return _Target(table, None, self._super_columns(table, names))
        if child is None:
            raise syntax_error(self.sql[start:])
        code = 0x263F if self._peek() == "select" else 0x0200
        return _Target(child.table, child, _columns(child.table, names, code))

    def _names(self) -> list[str]:
        """Column names after an opening parenthesis."""
        names: list[str] = []
        while True:
            name = self._identifier()
            if name in names:
                raise insert_error("duplicated column name", name)
            names.append(name)
            if self._sign(")"):
                return names
            if not self._sign(","):
                raise syntax_error(self._rest())

    def _super_columns(self, table: Table, names: Sequence[str]) -> tuple[Column, ...]:
        columns = []
        for name in names:
            column = NAME_COLUMN if name == "tbname" else table.column(name) or table.tag(name)
            if column is None:
                raise no_column(name)
            columns.append(column)
        if NAME_COLUMN not in columns:
            raise Fault(0x0200, "tbname column should not be null")
        if table.columns[0] not in columns:
            raise Fault(0x0200, "Primary timestamp column should not be null")
        return tuple(columns)

    def _using(self, home: Database, name: str, child: Child | None) -> Child:
        """Find or create the sub-table; the tags of an existing one stay as they are."""
        super_name = self._identifier()
        super_home = home
        if self._sign("."):
            super_home, super_name = self._catalog.database(super_name), self._identifier()
        table = super_home.supers.get(super_name)
        if table is None:
            raise no_table()
        tags = table.tags
        if self._sign("("):
            tags = _tags(table, self._names())
        self._expect("tags")
        match = _TAGS.match(self.sql, self.position)
        if match is None:
            raise syntax_error(self._rest())
        cells = _CELL.findall(self.sql, match.start(), match.end())
        if len(cells) < len(tags):
            raise insert_error("invalid data or symbol", self.sql[match.end() - 1 :])
        if len(cells) > len(tags):
            raise Fault(0x260D, "Tags number not matched")
        values = [
            self._convert(tag, [cell[0]], self._clock(super_home), match.start(), index, 1)[0]
            for index, (tag, cell) in enumerate(zip(tags, cells, strict=True))
        ]
        self.position = match.end()
        if child is None:
            child = self.writer.create(home, name, table, dict(zip(tags, values, strict=True)))
        elif child.table is not table:
            raise table_of_another() if child.table.tags else no_table()
        return child

    def _clock(self, home: Database) -> Clock:
        return Clock.at_present(self.zone, home.precision)

    def _rows(self, target: _Target, start: int, end: int) -> None:
        cells = _CELL.findall(self.sql, start, end)
        width = len(target.columns)
        tokens = [cell[0] for cell in cells]
        closings = [cell[1] for cell in cells]
        rows = closings.count(")")
        if len(cells) != rows * width or closings[width - 1 :: width].count(")") != rows:
            self._explain_width(target, start, end)
        clock = self._clock(self._catalog.databases[target.table.database])
        columns = [
            self._convert(column, tokens[index::width], clock, start, index, width)
            for index, column in enumerate(target.columns)
        ]
        if target.child is not None:
            self._check_time(target, columns, start)
            self.writer.add(target.table, target.columns, target.child.number, columns)
        else:
            self.writer.spread(target.table, target.columns, columns)

    def _check_time(self, target: _Target, columns: Sequence[Values], start: int) -> None:
        index = target.columns.index(target.table.columns[0])
        if None in columns[index]:
            row = columns[index].index(None)
            raise insert_error(
                "Primary timestamp column should not be null",
                self.sql[self._place(start, row * len(columns) + index) :],
            )

    def _convert(
        self,
        column: Column,
        tokens: list[str],
        clock: Clock,
        start: int,
        index: int,
        width: int,
    ) -> Values:
        """Convert the tokens of a column; ``index`` and ``width`` tell where each one stands."""
        quick = quick_values(column, tokens, clock)
        if quick is not None:
            return quick
        values: list[object] = []
        for row, token in enumerate(tokens):
            try:
                values.append(convert(token, column, clock))
            except BadValueError as error:
                place = self._place(start, row * width + index)
                near = token[1:-1] if token[0] in "'\"" else self.sql[place:]
                raise insert_error(error.why, near) from None
        return values

    def _place(self, start: int, cell: int) -> int:
        """Where a cell begins."""
        for index, match in enumerate(_CELL.finditer(self.sql, start)):
            if index == cell:
                return match.start()
        return start

    def _explain_row(self, position: int, width: int) -> None:
        """Refuse a row that cannot be read, at the first place that is wrong."""
        for count in range(1, len(self.sql)):
            match = _VALUE.match(self.sql, position)
            if match is None:
                raise insert_error("invalid data or symbol", self.sql[position:].lstrip())
            self.position = match.end()
            if self._sign(")") or not self._sign(","):
                wanted = ", expected" if count < width else ") expected"
                raise insert_error(wanted, self._rest().lstrip())
            position = self.position

    def _explain_width(self, target: _Target, start: int, end: int) -> None:
        """Refuse rows whose number of values is wrong, or a wrong value in front of that."""
        clock = self._clock(self._catalog.databases[target.table.database])
        count = 0
        for cell, match in enumerate(_CELL.finditer(self.sql, start, end)):
            if count == len(target.columns):
                raise Fault(0x263F, "Illegal number of columns")
            self._convert(target.columns[count], [match[1]], clock, start, cell, 1)
            count += 1
            if match[2] == ")":
                if count < len(target.columns):
                    raise insert_error(", expected", self.sql[match.start(2) :])
                count = 0


def _columns(table: Table, names: Sequence[str] | None, without_time: int) -> tuple[Column, ...]:
    """The columns of these names, or all; ``without_time`` is the error where the time lacks."""
    if names is None:
        return tuple(table.columns)
    columns = []
    for name in names:
        column = table.column(name)
        if column is None:
            raise no_column(name)
        columns.append(column)
    if table.columns[0] not in columns:
        raise Fault(without_time, "Primary timestamp column should not be null")
    return tuple(columns)


def _tags(table: Table, names: Sequence[str]) -> list[Column]:
    tags = []
    for name in names:
        tag = table.tag(name)
        if tag is None:
            raise no_column(name)
        tags.append(tag)
    return tags

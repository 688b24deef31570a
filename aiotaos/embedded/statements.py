"""Prepared statements: prepare, bind, execute, for stmt2 and for stmt v1."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ..protocol.bound import BoundColumn, BoundTable
from ..types import Precision
from .binding import check_rows, column_values, words_of
from .catalog import Child, Database
from .columns import Column
from .ddl import convert_tag
from .engine import Engine, Rows, State, check_length, guarded
from .faults import Fault, no_table, table_of_another
from .literals import Clock
from .parser import Parser, Words
from .queries import parse_query
from .running import Run
from .template import (
    BIND_COLUMN,
    BIND_TAG,
    PreparedInsert,
    Template,
    bound_home,
    no_bound_table,
    parse_insert,
    split_name,
)
from .writer import Writer

_ONLY = "stmt only support 'SELECT' or 'INSERT'"


@dataclass(frozen=True, slots=True)
class _Piece:
    """Rows bound to one table, checked.

    Attributes:
        tags: The tags of a new sub-table; None where none can be made.
        absent: The rows that say nothing about a column, by the column's place.
    """

    template: Template
    home: Database
    name: str
    tags: dict[Column, object] | None
    columns: tuple[Column, ...]
    values: list[list[object]]
    absent: dict[int, frozenset[int]]


class Statement:
    """A statement between its prepare and its end.

    After an error of a bind or an execution it fails until it is prepared again. Its methods
    block, and are called by one at a time. While it executes it is listed under ``req_id``.
    """

    def __init__(self, engine: Engine, state: State, req_id: int) -> None:
        self._engine = engine
        self._state = state
        self._req_id = req_id
        self._reset()

    def _reset(self) -> None:
        self._sql = ""
        self._database = self._state.database
        self._insert: PreparedInsert | None = None
        self._template: Template | None = None
        self._pieces: list[_Piece] = []
        self._words: list[Words] | None = None
        self._rows: Rows | None = None
        self._fault: Fault | None = None
        self.parameters = 0

    @contextmanager
    def _step(self) -> Iterator[None]:
        if self._fault is not None:
            message = (
                f"stmt already failed with err: {self._fault.message}, please use stmt prepare"
            )
            raise Fault(self._fault.code, message)
        try:
            with guarded():
                yield
        except Fault as fault:
            self._fault = fault
            raise

    @property
    def is_insert(self) -> bool:
        return self._insert is not None

    def close(self) -> None:
        """Free what it holds; may be called again."""
        if self._rows is not None:
            self._rows.close()
        self._reset()

    def prepare(self, sql: str) -> None:
        """Read a statement; what was prepared before is forgotten.

        Raises:
            Fault: It is neither a SELECT nor an INSERT, or wrong.
        """
        self.close()
        with self._step():
            check_length(sql)
            parser = Parser(sql)
            self._sql = sql
            self.parameters = parser.marks
            if parser.at_word("select") or parser.at_sign("("):
                _check_query(sql, parser.marks)
                return
            if not parser.at_word("insert"):
                raise Fault(0x2600, _ONLY)
            insert = parse_insert(parser)
            if not insert.needs_table:
                self._template = insert.resolve(self._engine.store.catalog, self._database)
            self._insert = insert

    def template(self) -> Template:
        """What is to be bound.

        Raises:
            Fault: That is known only once the table is, or this is no INSERT.
        """
        with self._step():
            if self._insert is None:
                raise misused()
            if self._template is None:
                raise no_bound_table()
            return self._template

    def template_of(self, name: str) -> Template:
        """As :meth:`template`, but ``?`` stands for this table, where nothing else tells."""
        with self._step():
            if self._insert is None:
                raise misused()
            return self._template or self._resolve(self._insert, name)

    def _resolve(self, insert: PreparedInsert, name: str) -> Template:
        database, bare = split_name(name)
        return insert.resolve(self._engine.store.catalog, database or self._database, bare)

    def bind(self, tables: Sequence[BoundTable]) -> None:
        """Take values for the ``?``; those of an INSERT are added to those bound before.

        Raises:
            Fault: Their number, their types or they themselves do not suit the statement.
        """
        with self._step():
            if self._insert is None:
                self._bind_query(tables)
            else:
                self._pieces += [self._piece(self._insert, table) for table in tables]

    def _bind_query(self, tables: Sequence[BoundTable]) -> None:
        if not self._sql or len(tables) != 1 or tables[0].tags:
            raise misused()
        columns = tables[0].columns
        if len(columns) != self.parameters:
            raise Fault(0x0236, "bind number out of range or not match")
        if columns:
            check_rows(columns, limit=1)
        self._words = [words_of(column) for column in columns]

    def _piece(self, insert: PreparedInsert, table: BoundTable) -> _Piece:
        if table.name is None and (self._template is None or self._template.name is None):
            raise Fault(0x022B, "Table name is not set")
        template = self._template or self._resolve(insert, table.name or "")
        home, name = template.home, template.name
        if name is None:
            database, name = split_name(table.name or "")
            home = bound_home(self._engine.store.catalog, home, database)
        columns, values, absent = self._columns(template, table.columns)
        if None in values[columns.index(template.table.columns[0])]:
            raise Fault(0x267B, "Primary key should not be null")
        tags = self._tags(template, table.tags)
        if tags is None and home.child(name) is None:
            raise no_bound_table()
        return _Piece(template, home, name, tags, columns, values, absent)

    def _columns(
        self, template: Template, bound: Sequence[BoundColumn]
    ) -> tuple[tuple[Column, ...], list[list[object]], dict[int, frozenset[int]]]:
        if len(bound) != len(template.of_kind(BIND_COLUMN)):
            raise Fault(0x0236, "bind number out of range or not match")
        rows = check_rows(bound) if bound else 1
        clock = self._clock(template)
        # the order of the slots is that of the columns
        given = iter(bound)
        values: list[list[object]] = []
        absent = {}
        for place, (column, token) in enumerate(template.columns):
            if token is not None:
                values.append([convert_tag(token, column, clock)] * rows)
                continue
            one = next(given)
            if one.absent:
                absent[place] = one.absent
            values.append(column_values(column, one))
        return tuple(column for column, _ in template.columns), values, absent

    def _tags(
        self, template: Template, bound: Sequence[BoundColumn]
    ) -> dict[Column, object] | None:
        """The tags of a sub-table that may have to be made; None if it cannot be."""
        if template.tags is None:
            return None
        wanted = len(template.of_kind(BIND_TAG))
        if not bound and wanted:
            return None
        if len(bound) != wanted or any(len(one.values) != 1 for one in bound):
            raise Fault(0x0236, "bind number out of range or not match")
        clock = self._clock(template)
        given = iter(bound)
        return {
            tag: column_values(tag, next(given))[0]
            if token is None
            else convert_tag(token, tag, clock)
            for tag, token in template.tags
        }

    def precision(self, template: Template) -> Precision:
        """The unit of the table's times."""
        return self._engine.store.catalog.database(template.table.database).precision

    def _clock(self, template: Template) -> Clock:
        return Clock.at_present(self._state.zone, self.precision(template))

    def execute(self) -> int:
        """Store what is bound, or run the query; returns the number of rows stored.

        Raises:
            Fault: Nothing is bound, or it failed.
        """
        running = self._engine.runs.running(self._sql, self._state.client, self._req_id)
        with self._step(), running as run:
            if self._insert is not None:
                return self._store(self._insert, run)
            if not self._sql or (self._words is None and self.parameters):
                raise misused()
            if self._rows is not None:
                self._rows.close()
            state = State(self._database, self._state.zone)
            parser = Parser(self._sql, self._words or ())
            self._rows = self._engine.query(parser, state, run)
            return 0

    def _store(self, insert: PreparedInsert, run: Run) -> int:
        pieces, self._pieces = self._pieces, []
        if not pieces:
            raise misused()
        store = self._engine.store
        with store.writing() as cursor, run.using(cursor):
            writer = Writer(store, cursor)
            for _, group in itertools.groupby(pieces, key=lambda piece: id(piece.template)):
                same = list(group)
                self._check_unchanged(insert, same[0])
                for piece in same:
                    _write(writer, piece)
            return writer.finish()

    def _check_unchanged(self, insert: PreparedInsert, piece: _Piece) -> None:
        """Refuse values that were checked against what the tables are no longer."""
        name = piece.name if insert.needs_table else None
        database = piece.home.name if insert.needs_table else self._database
        now = insert.resolve(self._engine.store.catalog, database, name)
        then = piece.template
        same = now.table is then.table and now.home is then.home and now.slots == then.slots
        if not same:
            raise Fault(0x0125, "Table schema changed, prepare the statement again")

    def take_rows(self) -> Rows:
        """The result of the query that was executed, which then belongs to the caller.

        Raises:
            Fault: There is none.
        """
        with self._step():
            rows, self._rows = self._rows, None
            if rows is None:
                raise misused()
            return rows


def _check_query(sql: str, marks: int) -> None:
    """Refuse what is no query, whatever is bound to it."""
    first: Fault | None = None
    trials: tuple[Words, ...] = ((("number", "1"),), (("string", "1"),))
    for words in trials:
        parser = Parser(sql, [words] * marks)
        try:
            parse_query(parser)
            parser.expect_end()
            return
        except Fault as fault:
            first = first or fault
    if first is not None:
        raise first


def _write(writer: Writer, piece: _Piece) -> None:
    child = _child(writer, piece)
    if not piece.absent:
        writer.add(child.table, piece.columns, child.number, piece.values)
        return
    for rows, places in _alike(piece):
        columns = tuple(piece.columns[place] for place in places)
        picked = [[piece.values[place][row] for row in rows] for place in places]
        writer.add(child.table, columns, child.number, picked)


def _child(writer: Writer, piece: _Piece) -> Child:
    table = piece.template.table
    child = writer.child(piece.home, piece.name)
    if child is None:
        if piece.tags is None:
            raise no_bound_table()
        if not piece.tags:  # a name in a column, and no tags beside it
            raise no_table()
        return writer.create(piece.home, piece.name, table, piece.tags)
    if child.table is not table:
        raise table_of_another() if child.table.tags else no_table()
    return child


def _alike(piece: _Piece) -> Iterator[tuple[list[int], list[int]]]:
    """Groups of rows that are about the same columns, with the places of these."""
    times = piece.values[piece.columns.index(piece.template.table.columns[0])]
    rows = range(len(times))

    def missing(row: int) -> tuple[int, ...]:
        return tuple(place for place, absent in piece.absent.items() if row in absent)

    # only where times are repeated does it matter which row comes first
    order = sorted(rows, key=missing) if len(set(times)) == len(times) else rows
    for without, group in itertools.groupby(order, key=missing):
        places = [place for place in range(len(piece.columns)) if place not in without]
        yield list(group), places


def misused() -> Fault:
    """The refusal of a step that does not come next."""
    return Fault(0x022A, "Stmt API usage error")

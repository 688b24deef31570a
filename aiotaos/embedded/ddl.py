"""CREATE, DROP, ALTER and DELETE."""

from __future__ import annotations

from datetime import tzinfo

import duckdb

from ..types import Precision, TypeCode
from .catalog import Child, Database, Table
from .columns import SIZED, Column, SqlType
from .expressions import RowCompiler, walk
from .faults import Fault, no_column, no_database, no_table, table_exists, unsupported
from .lexer import Token
from .literals import BadValueError, Clock, convert
from .log import Created
from .meta import created_children, created_table, deleted, dropped_super, dropped_tables
from .names import MAX_NAME, MAX_SHORT_NAME, check_name
from .nodes import Name, Query, TableRef
from .parser import Parser
from .scopes import Compiled, scope_of
from .sql import Context, Scope
from .store import VGROUPS, Store

_PRECISIONS = {"ms": Precision.MILLISECOND, "us": Precision.MICROSECOND, "ns": Precision.NANOSECOND}
_OPTION_WORDS = """
    buffer cachemodel cacheshards cachesize comp duration keep keep_time_offset maxrows minrows
    pages pagesize replica retentions schemaless single_stable ss_chunkpages ss_compact
    ss_keeplocal strict stt_trigger table_prefix table_suffix tsdb_pagesize vgroups wal_fsync_period
    wal_level wal_retention_period wal_retention_size wal_roll_period wal_segment_size
    compact_interval compact_time_offset compact_time_range dnodes encrypt_algorithm
"""
_OPTIONS = frozenset(_OPTION_WORDS.split())
_MAX_LENGTH = 65517
_MIN_COLUMNS = 2
_MAX_VGROUPS = 1024


class Definitions:
    """Runs the statements that change what exists."""

    def __init__(self, store: Store, database: str, zone: tzinfo, version: str) -> None:
        self._store = store
        self._database = database
        self._zone = zone
        self._version = version

    def create(self, parser: Parser) -> None:
        if parser.accept_word("database"):
            self._create_database(parser)
        elif parser.accept_word("stable"):
            self._create_table(parser, is_super=True)
        elif parser.accept_word("table"):
            self._create_table(parser, is_super=False)
        else:
            raise _unknown(parser, "CREATE")

    def drop(self, parser: Parser) -> None:
        if parser.accept_word("database"):
            exists = _if_exists(parser)
            name = parser.identifier()
            parser.expect_end()
            self._drop_database(name, exists)
        elif parser.accept_word("stable"):
            exists = _if_exists(parser)
            database, name = self._qualified(parser)
            parser.expect_end()
            table = database.supers.get(name)
            if table is not None:
                self._drop_table(database, table)
            elif not exists:
                raise Fault(0x0362, "STable not exist")
        elif parser.accept_word("table"):
            self._drop_tables(parser)
        else:
            raise _unknown(parser, "DROP")

    def _qualified(self, parser: Parser) -> tuple[Database, str]:
        database, name = parser.qualified()
        return self._store.catalog.database(database or self._database), name

    def _check_alive(self, database: Database) -> None:
        """Refuse to go on with a database that was dropped before the write lock was had."""
        if self._store.catalog.databases.get(database.name) is not database:
            raise no_database()

    def _create_database(self, parser: Parser) -> None:
        if_not = _if_not_exists(parser)
        name = parser.identifier()
        precision = Precision.MILLISECOND
        vgroups = VGROUPS
        while parser.token.kind != "end":
            option = parser.token.text
            if option != "precision" and option not in _OPTIONS:
                raise parser.error()
            parser.advance()
            value = _option_value(parser)
            if option == "precision":
                if value.kind != "string" or value.text not in _PRECISIONS:
                    raise Fault(0x2619, f"Invalid option precision: {value.text}")
                precision = _PRECISIONS[value.text]
            elif option == "vgroups":
                vgroups = _vgroups(value)
        check_name(name, MAX_SHORT_NAME)
        with self._store.writing() as cursor:
            databases = self._store.catalog.databases
            if name in databases:
                if if_not:
                    return
                raise Fault(0x0381, "Database already exists")
            row = [name, int(precision), vgroups]
            cursor.execute("INSERT INTO databases VALUES (?, ?, ?)", row)
            databases[name] = self._store.catalog.new_database(name, precision, vgroups)

    def _drop_database(self, name: str, exists: bool) -> None:
        with self._store.writing() as cursor:
            database = self._store.catalog.databases.get(name)
            if database is None:
                if exists:
                    return
                raise no_database()
            self._store.topics.check_database(name)
            for table in database.tables():
                self._store.drop_table(cursor, table)
            cursor.execute("DELETE FROM databases WHERE name = ?", [name])
            del self._store.catalog.databases[name]

    def _create_table(self, parser: Parser, *, is_super: bool) -> None:
        if_not = _if_not_exists(parser)
        database, name = self._qualified(parser)
        if not is_super and parser.at_word("using"):
            self._create_children(parser, database, name, if_not)
            return
        columns = _columns(parser, 0)
        tags: list[Column] = []
        if parser.accept_word("tags"):
            tags = _columns(parser, len(columns))
        elif is_super:
            raise parser.error()
        while parser.token.kind != "end":
            if not parser.accept_word("comment"):
                raise _unknown(parser, "the table option")
            parser.expect_kind("string")
        _check_columns(columns, tags)
        check_name(name, MAX_NAME)
        with self._store.writing() as cursor:
            self._check_alive(database)
            if database.exists(name):
                if if_not:
                    return
                raise table_exists()
            table = Table(
                self._store.next_number(),
                database.name,
                name,
                bool(tags),
                columns,
                tags,
                len(columns) + len(tags),
            )
            self._store.create_table(cursor, table)
            if not tags:
                child = Child(name, table.number, table)
                self._store.create_child(cursor, child, {})
                table.children = {name: table.number}
            database.add(table)
            only = None if table.is_super else name
            self._store.journal.note_meta(database, table.number, created_table(table), only)

    def _create_children(self, parser: Parser, database: Database, name: str, if_not: bool) -> None:
        with self._store.writing() as cursor:
            self._check_alive(database)
            created: list[tuple[Database, Created]] = []
            while True:
                parser.expect_word("using")
                home, super_name = self._qualified(parser)
                table = home.supers.get(super_name)
                if table is None:
                    raise no_table()
                tags = self._tags(parser, home, table)
                known = database.exists(name) or any(one.child.name == name for _, one in created)
                if known and not if_not:
                    raise table_exists()
                if not known:
                    check_name(name, MAX_NAME)
                    child = Child(name, self._store.next_number(), table)
                    self._store.create_child(cursor, child, tags)
                    created.append((database, Created.now(child, tags)))
                if parser.token.kind == "end":
                    break
                if_not = _if_not_exists(parser)
                database, name = self._qualified(parser)
            for home, one in created:
                home.add_child(one.child)
            self._note_children(created)

    def _note_children(self, created: list[tuple[Database, Created]]) -> None:
        """Note those of a super table and vgroup together."""
        together: dict[tuple[int, int], list[tuple[Database, Created]]] = {}
        for home, one in created:
            key = (one.child.table.number, home.vgroup(one.child.name))
            together.setdefault(key, []).append((home, one))
        for (number, _), members in together.items():
            home, first = members[0]
            meta = created_children([one for _, one in members])
            self._store.journal.note_meta(home, number, meta, first.child.name)

    def _tags(self, parser: Parser, home: Database, table: Table) -> dict[Column, object]:
        tags = list(table.tags)
        if parser.accept_sign("("):
            tags = []
            while True:
                tag_name = parser.identifier()
                tag = table.tag(tag_name)
                if tag is None:
                    raise no_column(tag_name)
                tags.append(tag)
                if not parser.accept_sign(","):
                    break
            parser.expect_sign(")")
        parser.expect_word("tags")
        parser.expect_sign("(")
        tokens = [tag_token(parser)]
        while parser.accept_sign(","):
            tokens.append(tag_token(parser))
        parser.expect_sign(")")
        if len(tokens) != len(tags):
            raise Fault(0x260D, "Tags number not matched")
        clock = Clock.at_present(self._zone, home.precision)
        return {
            tag: convert_tag(token, tag, clock) for tag, token in zip(tags, tokens, strict=True)
        }

    def _drop_tables(self, parser: Parser) -> None:
        while True:
            exists = _if_exists(parser)
            database, name = self._qualified(parser)
            child = database.child(name)
            table = database.supers.get(name)
            if child is not None and name in database.children:
                with self._store.writing() as cursor:
                    self._store.drop_child(cursor, child)
                    database.remove_child(child)
                    gone = dropped_tables([name])
                    self._store.journal.note_meta(database, child.table.number, gone, name)
            elif child is not None or table is not None:
                self._drop_table(database, table or database.normals[name])
            elif not exists:
                raise no_table()
            if not parser.accept_sign(","):
                parser.expect_end()
                return

    def _drop_table(self, database: Database, table: Table) -> None:
        with self._store.writing() as cursor:
            self._store.topics.check_super(table)
            self._store.drop_table(cursor, table)
            database.remove(table)
            gone = dropped_super(table) if table.is_super else dropped_tables([table.name])
            only = None if table.is_super else table.name
            self._store.journal.note_meta(database, table.number, gone, only)

    def delete(self, parser: Parser) -> int:
        """DELETE, by conditions on the time and on tags; returns the number of rows."""
        parser.expect_word("from")
        database, name = parser.qualified()
        where = parser.expression() if parser.accept_word("where") else None
        parser.expect_end()
        context = Context(self._database, self._zone, self._version)
        catalog = self._store.catalog
        with self._store.writing() as cursor:
            scope = scope_of(context, catalog, TableRef(database, name, None), _no_query)
            found = catalog.find(database or self._database, name)
            table = found.table if isinstance(found, Child) else found
            condition = ""
            if where is not None:
                names = [part for part in walk(where) if isinstance(part, Name)]
                if any(_role(scope, part) == "column" for part in names):
                    raise Fault(
                        0x2655,
                        "The DELETE statement must only have a definite time window range",
                    )
                condition = f" WHERE {RowCompiler(context, scope).condition(where)}"
            time = table.columns[0].stored
            rows = (
                f"SELECT {scope.alias}.tid, {scope.alias}.{time} FROM {scope.relation}{condition}"
            )
            self._note_deleted(cursor, table, rows, context.parameters.used(rows))
            sql = f"DELETE FROM {table.data} WHERE (tid, {time}) IN ({rows})"
            return _count(cursor.execute(sql, context.parameters.used(sql)))

    def _note_deleted(
        self,
        cursor: duckdb.DuckDBPyConnection,
        table: Table,
        rows: str,
        parameters: dict[str, str],
    ) -> None:
        """Note of each sub-table the first and the last time that goes."""
        if not self._store.journal.keeps(table.database):
            return
        home = self._store.catalog.databases[table.database]
        names = {number: name for name, number in table.children.items()}
        sql = (
            f"SELECT tid, min(time), max(time) FROM ({rows}) AS r(tid, time) GROUP BY 1 ORDER BY 1"
        )
        for number, low, high in cursor.execute(sql, parameters).fetchall():
            meta = deleted(names[number], table.columns[0].name, low, high)
            self._store.journal.note_meta(home, table.number, meta, names[number])


def _role(scope: Scope, name: Name) -> str:
    return scope.find(name.table, name.name).role


def _no_query(_: Query) -> Compiled:
    raise unsupported("a query here")


def _count(result: duckdb.DuckDBPyConnection) -> int:
    row = result.fetchone()
    return int(row[0]) if row is not None else 0


def _if_not_exists(parser: Parser) -> bool:
    if not parser.accept_word("if"):
        return False
    parser.expect_word("not", "exists")
    return True


def _if_exists(parser: Parser) -> bool:
    if not parser.accept_word("if"):
        return False
    parser.expect_word("exists")
    return True


def _unknown(parser: Parser, what: str) -> Fault:
    if parser.token.kind == "word":
        return unsupported(f"{what} {parser.token.text.upper()}")
    return parser.error()


def _option_value(parser: Parser) -> Token:
    """The value of a database option; only the first of several matters to anyone."""
    parser.accept_sign("-")
    value = parser.advance()
    if value.kind not in ("string", "number", "duration"):
        raise parser.error()
    while parser.accept_sign(","):
        parser.advance()
    return value


def _vgroups(value: Token) -> int:
    count = int(value.text) if value.text.isdigit() else 0
    if not 1 <= count <= _MAX_VGROUPS:
        raise Fault(
            0x2617,
            f"Invalid option vgroups: {value.text}, valid range: [1, {_MAX_VGROUPS}]",
        )
    return count


def _columns(parser: Parser, first: int) -> list[Column]:
    parser.expect_sign("(")
    columns: list[Column] = []
    while True:
        name = parser.identifier()
        columns.append(Column(name, parser.type(), first + len(columns)))
        if parser.at_word("primary") or parser.at_word("encode") or parser.at_word("compress"):
            raise _unknown(parser, "the column option")
        if not parser.accept_sign(","):
            parser.expect_sign(")")
            return columns


def _check_columns(columns: list[Column], tags: list[Column]) -> None:
    if columns[0].type.code is not TypeCode.TIMESTAMP:
        raise Fault(0x2641, "First column must be timestamp")
    if len(columns) < _MIN_COLUMNS:
        raise Fault(0x263F, "Illegal number of columns")
    names = [column.name for column in columns + tags]
    if len(set(names)) < len(names):
        raise Fault(0x263C, "Duplicated column names")
    for column in columns + tags:
        check_name(column.name, MAX_SHORT_NAME)
        check_length(column.type)
    if any(column.type.code is TypeCode.JSON for column in columns):
        raise unsupported("JSON in a column; it is a type of tags")
    codes = [tag.type.code for tag in tags]
    if TypeCode.JSON in codes and len(tags) > 1:
        raise Fault(0x265F, "Only one tag if there is a json tag")
    if TypeCode.BLOB in codes:
        raise unsupported("BLOB in a tag")


def check_length(type: SqlType) -> None:
    limit = _MAX_LENGTH // 4 if type.code is TypeCode.NCHAR else _MAX_LENGTH
    if type.code in SIZED and not 1 <= type.length <= limit:
        raise Fault(0x2642, "Invalid column length for var length type")


def convert_tag(token: str, tag: Column, clock: Clock) -> object:
    """The value of a tag, given as written."""
    try:
        return convert(token, tag, clock)
    except BadValueError as error:
        near = token[1:-1] if token[0] in "'\"" else token
        raise Fault(0x0216, f"syntax error near '{near}' ({error.why})") from None


def tag_token(parser: Parser) -> str:
    """A tag's value as written."""
    start = parser.token.start
    if not parser.accept_sign("-"):
        parser.accept_sign("+")
    if parser.token.kind not in ("string", "number", "word"):
        raise parser.error()
    end = parser.advance().end
    return parser.sql[start:end]

"""SHOW and DESCRIBE."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..types import DECIMALS, TypeCode
from .catalog import SYSTEM_DATABASES, Catalog, Child, Database, Table
from .columns import INT, INTEGERS, TBNAME, TEXTS, Column, SqlType, text
from .encodings import LEVEL, encoding
from .faults import Fault, no_table, unsupported
from .parser import Parser
from .store import Store
from .system import DATABASE, NAME

_CREATE = text(3145726)
_BLOB_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Listing:
    """An answer that is known at once."""

    columns: Sequence[tuple[str, SqlType]]
    rows: Sequence[Sequence[object]]


class Shows:
    """Answers questions about what exists."""

    def __init__(self, store: Store, database: str) -> None:
        self._store = store
        self._catalog: Catalog = store.catalog
        self._database = database

    def describe(self, parser: Parser) -> Listing:
        database, name = parser.qualified()
        parser.expect_end()
        if (database or self._database) in SYSTEM_DATABASES:
            raise unsupported("DESCRIBE of a system table")
        table = self._table(database, name)
        rows = [_description(column, is_tag=False) for column in table.columns]
        rows += [_description(tag, is_tag=True) for tag in table.tags]
        names = ("note", "encode", "compress", "level")
        lengths = (16, 12, 12, 12)
        columns = [("field", text(325)), ("type", text(20)), ("length", INT)]
        columns += [(n, text(length)) for n, length in zip(names, lengths, strict=True)]
        return Listing(columns, rows)

    def _table(self, database: str | None, name: str) -> Table:
        found = self._catalog.find(database or self._database, name)
        return found.table if isinstance(found, Child) else found

    def show(self, parser: Parser) -> Listing:
        if parser.accept_word("create"):
            return self._create(parser)
        if parser.accept_word("databases"):
            parser.expect_end()
            names = [*SYSTEM_DATABASES, *list(self._catalog.databases)]
            return Listing([("name", DATABASE)], [(name,) for name in names])
        if parser.accept_word("tags"):
            return self._tags(parser)
        if parser.accept_word("table", "tags"):
            return self._table_tags(parser)
        return self._names(parser)

    def _names(self, parser: Parser) -> Listing:
        """SHOW [NORMAL | CHILD] [db.]TABLES and SHOW [db.]STABLES."""
        kind = ""
        for word in ("normal", "child"):
            if parser.accept_word(word):
                kind = word
        name: str | None = None
        if parser.ahead().text == ".":
            name = parser.identifier()
            parser.expect_sign(".")
        database = self._database
        is_super = parser.accept_word("stables")
        if not is_super and not parser.accept_word("tables"):
            if parser.token.kind == "word" and name is None:
                raise unsupported(f"SHOW {parser.token.text.upper()}")
            raise parser.error()
        home = self._catalog.database(name or database)
        pattern = parser.expect_kind("string") if parser.accept_word("like") else "%"
        parser.expect_end()
        names = list(home.supers) if is_super else _tables(home, kind)
        like = _like(pattern)
        title = "stable_name" if is_super else "table_name"
        return Listing([(title, NAME)], [(n,) for n in names if like.fullmatch(n)])

    def _create(self, parser: Parser) -> Listing:
        is_super = parser.accept_word("stable")
        if not is_super and not parser.accept_word("table"):
            raise unsupported(f"SHOW CREATE {parser.token.text.upper()}")
        database, name = parser.qualified()
        parser.expect_end()
        home = self._catalog.database(database or self._database)
        found = self._catalog.find(home.name, name)
        if isinstance(found, Child) and not found.table.is_super:
            found = found.table
        if is_super and not (isinstance(found, Table) and found.is_super):
            raise Fault(0x0362, "STable not exist")
        statement = self._create_child(found) if isinstance(found, Child) else _create_table(found)
        return Listing([("Table", text(193)), ("Create Table", _CREATE)], [(name, statement)])

    def _values(self, child: Child) -> list[object]:
        """The tags of a sub-table."""
        names = ", ".join(tag.stored for tag in child.table.tags)
        cursor = self._store.cursor()
        try:
            row = cursor.execute(
                f"SELECT {names} FROM {child.table.labels} WHERE tid = ?", [child.number]
            ).fetchone()
        finally:
            self._store.free(cursor)
        if row is None:
            raise no_table()
        return list(row)

    def _create_child(self, child: Child) -> str:
        tags = child.table.tags
        names = ", ".join(f"`{tag.name}`" for tag in tags)
        values = ", ".join(
            _written(tag, value) for tag, value in zip(tags, self._values(child), strict=True)
        )
        return f"CREATE TABLE `{child.name}` USING `{child.table.name}` ({names}) TAGS ({values})"

    def _tags(self, parser: Parser) -> Listing:
        parser.expect_word("from")
        database, name = parser.qualified()
        parser.expect_end()
        home = self._catalog.database(database or self._database)
        child = home.child(name)
        if child is None or not child.table.is_super:
            raise unsupported("SHOW TAGS of something else than a sub-table")
        rows = [
            (name, home.name, child.table.name, tag.name, tag.type.sql, _plain(tag, value))
            for tag, value in zip(child.table.tags, self._values(child), strict=True)
        ]
        columns = [("table_name", NAME), ("db_name", DATABASE), ("stable_name", NAME)]
        columns += [("tag_name", text(64)), ("tag_type", text(32)), ("tag_value", text(16384))]
        return Listing(columns, rows)

    def _table_tags(self, parser: Parser) -> Listing:
        parser.expect_word("from")
        database, name = parser.qualified()
        parser.expect_end()
        table = self._table(database, name)
        if not table.is_super:
            raise unsupported("SHOW TABLE TAGS of something else than a super table")
        names = "".join(f", {tag.stored}" for tag in table.tags)
        cursor = self._store.cursor()
        try:
            rows = cursor.execute(
                f"SELECT tbname{names} FROM {table.labels} ORDER BY tid"
            ).fetchall()
        finally:
            self._store.free(cursor)
        return Listing([("tbname", TBNAME), *((tag.name, tag.type) for tag in table.tags)], rows)


def _description(column: Column, *, is_tag: bool) -> tuple[object, ...]:
    type = column.type
    name = type.sql if type.code in DECIMALS else type.code.sql_name
    length = _BLOB_SHOWN if type.code is TypeCode.BLOB else type.length
    if is_tag:
        return (column.name, name, length, "TAG", "disabled", "disabled", "disabled")
    return (column.name, name, length, "", *encoding(type.code), LEVEL)


def _tables(home: Database, kind: str) -> list[str]:
    children = [] if kind == "normal" else list(home.children)
    return children + ([] if kind == "child" else list(home.normals))


def _like(pattern: str) -> re.Pattern[str]:
    """A pattern of LIKE as a regular expression."""
    parts = re.split(r"(\\.|[%_])", pattern)
    signs = {"%": ".*", "_": "."}
    written = (signs.get(part) or re.escape(part.removeprefix("\\")) for part in parts)
    return re.compile("".join(written), re.DOTALL | re.IGNORECASE)


def _create_table(table: Table) -> str:
    columns = ", ".join(f"`{column.name}` {column.type.sql}" for column in table.columns)
    if not table.is_super:
        return f"CREATE TABLE `{table.name}` ({columns})"
    tags = ", ".join(f"`{tag.name}` {tag.type.sql}" for tag in table.tags)
    return f"CREATE STABLE `{table.name}` ({columns}) TAGS ({tags})"


def _written(tag: Column, value: object) -> str:
    plain = _plain(tag, value)
    if plain is None:
        return "NULL"
    return f'"{plain}"' if tag.type.code in TEXTS else plain


def _plain(tag: Column, value: object) -> str | None:
    if value is None:
        return None
    if tag.type.code in TEXTS | INTEGERS:
        return str(value)
    raise unsupported(f"showing a tag of the type {tag.type.code.sql_name}")

"""ALTER TABLE: columns and tags, and the tags of a sub-table."""

from __future__ import annotations

from datetime import tzinfo

import duckdb
import msgspec

from . import meta
from .catalog import Database, Table
from .columns import SIZED, Column
from .ddl import check_length, convert_tag, tag_token
from .faults import Fault, no_column, no_table, unsupported
from .literals import Clock
from .log import Meta
from .parser import Parser
from .store import Store


def alter(store: Store, parser: Parser, database: str, zone: tzinfo) -> None:
    """Run what follows ALTER.

    Raises:
        Fault: It is wrong, or beyond this server.
    """
    if not parser.accept_word("table") and not parser.accept_word("stable"):
        raise unsupported(f"ALTER {parser.token.text.upper()}")
    database_name, name = parser.qualified()
    home = store.catalog.database(database_name or database)
    if parser.accept_word("set", "tag"):
        _set_tags(store, parser, home, name, zone)
        return
    table = home.supers.get(name) or home.normals.get(name)
    if table is None:
        if name in home.children:
            raise unsupported("ALTER of a sub-table's columns")
        raise no_table()
    for verb, change in (("add", _add), ("drop", _drop), ("modify", _modify), ("rename", _rename)):
        if parser.accept_word(verb):
            is_tag = parser.accept_word("tag")
            if not is_tag:
                parser.expect_word("column")
            if is_tag and not table.is_super:
                raise Fault(0x2600, "Tags can only be altered in a super table")
            change(store, parser, table, is_tag)
            return
    raise unsupported(f"ALTER TABLE … {parser.token.text.upper()}")


def _members(table: Table, is_tag: bool) -> list[Column]:
    return table.tags if is_tag else table.columns


def _where(table: Table, is_tag: bool) -> str:
    return table.labels if is_tag else table.data


def _find(table: Table, name: str, is_tag: bool) -> Column:
    column = table.tag(name) if is_tag else table.column(name)
    if column is None:
        raise no_column(name)
    return column


def _add(store: Store, parser: Parser, table: Table, is_tag: bool) -> None:
    name = parser.identifier()
    type = parser.type()
    parser.expect_end()
    check_length(type)
    if table.column(name) is not None:
        raise Fault(0x036B, "Column already exists")
    if table.tag(name) is not None:
        raise Fault(0x0369, "Tag already exists")
    with store.writing() as cursor:
        column = Column(name, type, table.next_column)
        store.add_column(cursor, _where(table, is_tag), column)
        members = [*_members(table, is_tag), column]
        _keep(store, cursor, table, is_tag, members, table.next_column + 1)
        _note(store, table, meta.added(table, column, is_tag=is_tag))


def _drop(store: Store, parser: Parser, table: Table, is_tag: bool) -> None:
    name = parser.identifier()
    parser.expect_end()
    column = _find(table, name, is_tag)
    members = [member for member in _members(table, is_tag) if member != column]
    if column == table.columns[0] or len(members) < (1 if is_tag else 2):
        raise unsupported("dropping this column")
    with store.writing() as cursor:
        store.topics.check_field(table, name)
        store.drop_column(cursor, _where(table, is_tag), column)
        _keep(store, cursor, table, is_tag, members, table.next_column)
        _note(store, table, meta.dropped(table, column, is_tag=is_tag))


def _modify(store: Store, parser: Parser, table: Table, is_tag: bool) -> None:
    column = _find(table, parser.identifier(), is_tag)
    type = parser.type()
    parser.expect_end()
    same = type.code is column.type.code and type.code in SIZED
    if not same or type.length <= column.type.length:
        raise Fault(
            0x264B,
            "Only varbinary/binary/nchar/geometry column length could be modified, and the length"
            " can only be increased, not decreased",
        )
    check_length(type)
    with store.writing() as cursor:
        wider = Column(column.name, type, column.number)
        _replace(store, cursor, table, is_tag, column, wider)
        _note(store, table, meta.widened(table, wider, is_tag=is_tag))


def _rename(store: Store, parser: Parser, table: Table, is_tag: bool) -> None:
    column = _find(table, parser.identifier(), is_tag)
    name = parser.identifier()
    parser.expect_end()
    if table.column(name) is not None or table.tag(name) is not None:
        raise Fault(0x263C, "Duplicated column names")
    if not is_tag and table.is_super:
        raise unsupported("renaming a column of a super table")
    with store.writing() as cursor:
        store.topics.check_field(table, column.name)
        _replace(store, cursor, table, is_tag, column, Column(name, column.type, column.number))
        _note(store, table, meta.renamed(table, column, name, is_tag=is_tag))


def _replace(
    store: Store,
    cursor: duckdb.DuckDBPyConnection,
    table: Table,
    is_tag: bool,
    old: Column,
    new: Column,
) -> None:
    members = [new if member == old else member for member in _members(table, is_tag)]
    _keep(store, cursor, table, is_tag, members, table.next_column)


def _note(store: Store, table: Table, change: Meta) -> None:
    home = store.catalog.databases[table.database]
    store.journal.note_meta(home, table.number, change, None if table.is_super else table.name)


def _keep(
    store: Store,
    cursor: duckdb.DuckDBPyConnection,
    table: Table,
    is_tag: bool,
    members: list[Column],
    next_column: int,
) -> None:
    """Store the changed table, then show it to others."""
    changed = msgspec.structs.replace(table, next_column=next_column)
    if is_tag:
        changed.tags = members
    else:
        changed.columns = members
    store.update_table(cursor, changed)
    table.columns, table.tags = changed.columns, changed.tags
    table.next_column = next_column


def _set_tags(store: Store, parser: Parser, home: Database, name: str, zone: tzinfo) -> None:
    child = home.child(name)
    if child is None or not child.table.is_super:
        raise no_table()
    clock = Clock.at_present(zone, home.precision)
    changes = {}
    while True:
        tag = _find(child.table, parser.identifier(), is_tag=True)
        parser.expect_sign("=")
        changes[tag] = convert_tag(tag_token(parser), tag, clock)
        if not parser.accept_sign(","):
            break
    parser.expect_end()
    with store.writing() as cursor:
        names = ", ".join(f"{tag.stored} = ?" for tag in changes)
        cursor.execute(
            f"UPDATE {child.table.labels} SET {names} WHERE tid = ?",
            [*changes.values(), child.number],
        )
        store.journal.note_meta(home, child.table.number, meta.tags_set(child, changes), name)

"""Schemaless writing: super tables, columns, tags and sub-tables come into being by their use."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import duckdb
import msgspec

from ..types import SchemalessProtocol, TypeCode
from . import times
from .catalog import Database, Table
from .columns import FIXED_SIZE, SIZED, TIMESTAMP, Column, SqlType
from .faults import Fault, no_table, too_long
from .lines import Point, Value, other_type, parse_points, required
from .log import Meta
from .meta import added, created_table, widened
from .store import Store
from .writer import Writer

_TIME = "_ts"
_NO_TAG = "_tag_null"
_MAX_LENGTH = 65517
_MAX_NCHAR = 16379
_Needs = dict[str, tuple[TypeCode, int]]


@dataclass(frozen=True, slots=True)
class _Row:
    """A point with the names of its tables.

    Attributes:
        name: The sub-table.
    """

    table: str
    name: str
    tags: Mapping[str, Value]
    point: Point


def insert_points(
    store: Store, database: str, data: str, protocol: int, precision: str, name_tag: str = ""
) -> int:
    """Write lines; what does not exist is made first.

    Args:
        store: Where to.
        database: The database.
        data: The lines, or the JSON.
        protocol: What they are.
        precision: Unit of the times in InfluxDB lines.
        name_tag: The tag that names the sub-table, and is no tag then.

    Returns:
        The number of rows, those of the same time counted once.

    Raises:
        Fault: There is no such protocol, a line is wrong, or does not suit its table.
    """
    try:
        kind = SchemalessProtocol(protocol)
    except ValueError:
        raise Fault(0x3000, "protocol invalidate") from None
    home = store.catalog.database(database)
    by_table: dict[str, list[_Row]] = {}
    for point in parse_points(data, kind, precision):
        row = _row(point, name_tag)
        by_table.setdefault(row.table, []).append(row)
    for name, members in by_table.items():
        _fit(store, home, name, members)
    with store.writing() as cursor:
        writer = Writer(store, cursor)
        for name, members in by_table.items():
            _write(writer, _alive(store, home), name, members)
        return writer.finish()


def _alive(store: Store, home: Database) -> Database:
    """The database, which may have been dropped before the write lock was had."""
    return store.catalog.database(home.name)


def _row(point: Point, name_tag: str) -> _Row:
    table = point.measurement.replace(".", "_")
    tags = point.tags
    named = tags.get(name_tag)
    if named is not None and str(named.value):
        others = {key: value for key, value in tags.items() if key != name_tag}
        return _Row(table, str(named.value).replace(".", "_"), others, point)
    return _Row(table, child_name(table, tags), tags, point)


def child_name(table: str, tags: Mapping[str, Value]) -> str:
    """The name that TDengine gives a sub-table with these tags."""
    parts = [table.encode()]
    for key, value in sorted(tags.items(), key=lambda item: item[0].encode()):
        parts.append(b"," + key.encode() + b"=" + _bytes(value))
    return "t_" + hashlib.md5(b"".join(parts), usedforsecurity=False).hexdigest()


def _bytes(value: Value) -> bytes:
    content = value.value
    if isinstance(content, str):
        return content.encode()
    if isinstance(content, bytes):
        return content
    if isinstance(content, float):
        return struct.pack("<f" if value.type is TypeCode.FLOAT else "<d", content)
    size = FIXED_SIZE[value.type]
    return int(content).to_bytes(size, "little", signed=content < 0)


def _fit(store: Store, home: Database, name: str, rows: list[_Row]) -> None:
    """Make the super table, or the columns and tags that it lacks, or those that are too short."""
    columns = required(row.point.fields for row in rows)
    tags = required(row.tags for row in rows)
    table = home.supers.get(name)
    if table is not None and _changed(table, columns, tags) is None:
        return
    with store.writing() as cursor:
        home = _alive(store, home)
        table = home.supers.get(name)
        if table is None:
            if home.exists(name):
                raise Fault(0x3005, f"Internal error: {name} is no super table")
            _create(store, cursor, home, name, columns, tags)
            return
        changed = _changed(table, columns, tags)
        if changed is not None:
            _alter(store, cursor, home, table, changed)


def _create(
    store: Store,
    cursor: duckdb.DuckDBPyConnection,
    home: Database,
    name: str,
    columns: _Needs,
    tags: _Needs,
) -> None:
    types = {_TIME: TIMESTAMP}
    types |= {key: _type(key, need) for key, need in columns.items()}
    tag_types = {key: _type(key, need) for key, need in tags.items()}
    tag_types = tag_types or {_NO_TAG: SqlType(TypeCode.NCHAR, 1)}
    members = [
        Column(key, type, number)
        for number, (key, type) in enumerate([*types.items(), *tag_types.items()])
    ]
    count = len(types)
    number = store.next_number()
    table = Table(number, home.name, name, True, members[:count], members[count:], len(members))
    store.create_table(cursor, table)
    home.add(table)
    store.journal.note_meta(home, number, created_table(table))


def _changed(table: Table, columns: _Needs, tags: _Needs) -> Table | None:
    """The table with what is needed added or widened; None if nothing is to be done."""
    number = table.next_column
    both = []
    for members, needs in ((table.columns, columns), (table.tags, tags)):
        changed = {member.name: member for member in members}
        for key, need in needs.items():
            member = changed.get(key)
            if member is None:
                if table.column(key) is not None or table.tag(key) is not None:
                    raise other_type(key)
                changed[key] = Column(key, _type(key, need), number)
                number += 1
            elif member.type.code is not need[0]:
                raise other_type(key)
            elif need[0] in SIZED and need[1] > member.type.length:
                changed[key] = Column(key, _type(key, need), member.number)
        both.append(list(changed.values()))
    if both == [table.columns, table.tags]:
        return None
    return msgspec.structs.replace(table, columns=both[0], tags=both[1], next_column=number)


def _alter(
    store: Store,
    cursor: duckdb.DuckDBPyConnection,
    home: Database,
    table: Table,
    changed: Table,
) -> None:
    for where, members in ((table.data, changed.columns), (table.labels, changed.tags)):
        for member in members:
            if member.number >= table.next_column:
                store.add_column(cursor, where, member)
    store.update_table(cursor, changed)
    for meta in _changes(table, changed):
        store.journal.note_meta(home, table.number, meta)
    table.columns, table.tags = changed.columns, changed.tags
    table.next_column = changed.next_column


def _changes(table: Table, changed: Table) -> Iterator[Meta]:
    """What the consumers of topics read of it."""
    for is_tag, old, new in (
        (False, table.columns, changed.columns),
        (True, table.tags, changed.tags),
    ):
        for member in new:
            if member.number >= table.next_column:
                yield added(table, member, is_tag=is_tag)
            elif member not in old:
                yield widened(table, member, is_tag=is_tag)


def _type(name: str, need: tuple[TypeCode, int]) -> SqlType:
    """The type of a new column; that of a string has room for the next power of two."""
    code, size = need
    if code not in SIZED:
        return SqlType(code, FIXED_SIZE[code])
    limit = _MAX_NCHAR if code is TypeCode.NCHAR else _MAX_LENGTH
    if size > limit:
        raise too_long(name)
    return SqlType(code, min(1 << size.bit_length(), limit))


def _write(writer: Writer, home: Database, name: str, rows: list[_Row]) -> None:
    """Store the rows of a super table, those about the same columns together."""
    table = home.supers.get(name)
    if table is None:
        raise no_table()
    now = times.now(home.precision)
    tick = times.tick_ns(home.precision)
    groups: dict[tuple[str, ...], dict[str, list[_Row]]] = {}
    for row in rows:
        children = groups.setdefault(tuple(row.point.fields), {})
        children.setdefault(row.name, []).append(row)
    for keys, children in groups.items():
        columns = (table.columns[0], *(_member(table.column(key)) for key in keys))
        for child_name, members in children.items():
            tags = {_member(table.tag(key)): tag.value for key, tag in members[0].tags.items()}
            child = writer.belonging(home, child_name, table, dict(tags))
            moments = [now if (at := row.point.time) is None else at // tick for row in members]
            values = [[row.point.fields[key].value for row in members] for key in keys]
            writer.add(table, columns, child.number, [moments, *values])


def _member(column: Column | None) -> Column:
    """A column that was there when the table was fitted."""
    if column is None:
        raise no_table()
    return column

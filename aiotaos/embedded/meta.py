"""Changes of what exists, in the JSON that consumers of topics WITH META read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum

from ..types import TypeCode
from .catalog import Child, Table
from .columns import SIZED, TEXTS, Column
from .encodings import LEVEL, encoding
from .log import Created, Meta


class Alter(IntEnum):
    """What an ALTER did, TDengine's ``TSDB_ALTER_TABLE_*``."""

    ADD_TAG = 1
    DROP_TAG = 2
    RENAME_TAG = 3
    SET_TAG = 4
    ADD_COLUMN = 5
    DROP_COLUMN = 6
    WIDEN_COLUMN = 7
    WIDEN_TAG = 8
    RENAME_COLUMN = 10
    SET_TAGS = 15


def created_table(table: Table) -> Meta:
    """A new super table or normal table."""
    columns = []
    for column in table.columns:
        encode, compress = encoding(column.type.code)
        stored = {"isPrimarykey": False, "encode": encode, "compress": compress, "level": LEVEL}
        columns.append(_described(column) | stored)
    return {
        "type": "create",
        "tableType": _kind(table),
        "tableName": table.name,
        "columns": columns,
        "tags": [_described(tag) for tag in table.tags],
    }


def created_children(created: Sequence[Created]) -> Meta:
    """New sub-tables; the first one stands for itself, and in the list if there are more."""
    described = [_child(one) for one in created]
    more = described if len(described) > 1 else []
    return {"type": "create", "tableType": "child", **described[0], "createList": more}


def dropped_super(table: Table) -> Meta:
    return {"type": "drop", "tableType": "super", "tableName": table.name}


def dropped_tables(names: Sequence[str]) -> Meta:
    """Sub-tables or normal tables that are no more."""
    return {"type": "drop", "tableNameList": list(names)}


def deleted(name: str, time: str, low: int, high: int) -> Meta:
    """Rows of a table that were deleted, from one time to another."""
    sql = f"delete from `{name}` where `{time}` >= {low} and `{time}` <= {high}"
    return {"type": "delete", "sql": sql}


def added(table: Table, column: Column, *, is_tag: bool) -> Meta:
    """A new column or tag."""
    kind = Alter.ADD_TAG if is_tag else Alter.ADD_COLUMN
    return _altered(table, kind, column) | _typed(column)


def dropped(table: Table, column: Column, *, is_tag: bool) -> Meta:
    """A column or tag that is no more."""
    return _altered(table, Alter.DROP_TAG if is_tag else Alter.DROP_COLUMN, column)


def widened(table: Table, column: Column, *, is_tag: bool) -> Meta:
    """A column or tag, as it is now, that takes longer values."""
    kind = Alter.WIDEN_TAG if is_tag else Alter.WIDEN_COLUMN
    return _altered(table, kind, column) | _typed(column)


def renamed(table: Table, column: Column, name: str, *, is_tag: bool) -> Meta:
    """A column or tag, as it was, that has another name now."""
    kind = Alter.RENAME_TAG if is_tag else Alter.RENAME_COLUMN
    return _altered(table, kind, column) | {"colNewName": name}


def tags_set(child: Child, tags: Mapping[Column, object]) -> Meta:
    """New values of a sub-table's tags."""
    changes: list[Meta] = []
    for tag, value in tags.items():
        written = {} if value is None else {"colValue": _text(tag, value)}
        changes.append({"colName": tag.name, **written, "colValueNull": value is None})
    head: Meta = {"type": "alter", "tableType": "child", "tableName": child.name}
    if len(changes) == 1:
        return head | {"alterType": Alter.SET_TAG} | changes[0]
    return head | {"alterType": Alter.SET_TAGS, "tags": changes}


def _kind(table: Table) -> str:
    return "super" if table.is_super else "normal"


def _described(column: Column) -> Meta:
    described: Meta = {"name": column.name, "type": column.type.code}
    if column.type.code in SIZED:
        described["length"] = column.type.length
    return described


def _child(created: Created) -> Meta:
    table = created.child.table
    tags = [
        {"name": tag.name, "type": tag.type.code, "value": _value(tag, value)}
        for tag in created.schema
        if (value := created.tags.get(tag)) is not None
    ]
    return {
        "tableName": created.child.name,
        "using": table.name,
        "tagNum": len(created.schema),
        "tags": tags,
    }


def _value(tag: Column, value: object) -> object:
    """A tag's value: texts and bytes in quotation marks, JSON as it is, else a number."""
    if isinstance(value, bytes):
        return f'"\\x{value.hex().upper()}"'
    if tag.type.code in TEXTS:
        return f'"{value}"'
    if tag.type.code is TypeCode.JSON or not isinstance(value, int | float):
        return str(value)
    return int(value) if isinstance(value, bool) else value


def _text(tag: Column, value: object) -> str:
    """A tag's value where all values are texts."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:e}" if isinstance(value, float) else str(_value(tag, value))


def _altered(table: Table, kind: Alter, column: Column) -> Meta:
    return {
        "type": "alter",
        "tableType": _kind(table),
        "tableName": table.name,
        "alterType": kind,
        "colName": column.name,
    }


def _typed(column: Column) -> Meta:
    typed: Meta = {"colType": column.type.code}
    if column.type.code in SIZED:
        typed["colLength"] = column.type.length
    return typed

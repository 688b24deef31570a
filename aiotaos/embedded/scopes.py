"""FROM: tables, sub-tables, queries and joins as scopes for expressions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from ..types import Precision
from .catalog import Catalog, Child, Table
from .columns import BIGINT, TBNAME, SqlType
from .expressions import RowCompiler, conjuncts
from .faults import unsupported
from .nodes import Binary, Expr, Join, Name, Query, Source, SubQuery, TableRef
from .sql import SEQUENCE, Context, Scope, Visible
from .system import system_scope


@dataclass(frozen=True, slots=True)
class Output:
    """A column of a query's result; DuckDB calls it ``o`` and its place."""

    name: str
    type: SqlType
    role: str = "column"


@dataclass(frozen=True, slots=True)
class Compiled:
    """A query in DuckDB's SQL."""

    sql: str
    outputs: tuple[Output, ...]
    precision: Precision


CompileQuery: TypeAlias = Callable[[Query], Compiled]


def scope_of(
    context: Context, catalog: Catalog, source: Source, compile_query: CompileQuery
) -> Scope:
    """Make the scope of a FROM clause."""
    match source:
        case TableRef():
            return _table_scope(context, catalog, source)
        case SubQuery():
            return _query_scope(context, source, compile_query)
        case Join():
            return _join_scope(context, catalog, source, compile_query)


def _table_scope(context: Context, catalog: Catalog, ref: TableRef) -> Scope:
    database = ref.database or context.database
    if database in ("information_schema", "performance_schema"):
        return system_scope(context, catalog, database, ref.name, ref.alias)
    found = catalog.find(database, ref.name)
    table = found.table if isinstance(found, Child) else found
    alias = context.alias()
    shown = ref.alias or ref.name
    relation = f"({_rows(table, found, context.written)}) AS {alias}"
    visible = [
        Visible(shown, column.name, f"{alias}.{column.stored}", column.type, "column")
        for column in table.columns
    ]
    visible[0] = replace(visible[0], role="time")
    visible += [
        Visible(shown, tag.name, f"{alias}.{tag.stored}", tag.type, "tag") for tag in table.tags
    ]
    visible.append(Visible(shown, "tbname", f"{alias}.tbname", TBNAME, "tbname"))
    is_single = isinstance(found, Child)
    time = visible[0].sql
    order = time if is_single else f"{alias}.tid, {time}"
    if context.written:
        visible.append(Visible(None, SEQUENCE, f"{alias}.seq", BIGINT, "sequence"))
        order = f"{alias}.seq, {order}"
    return Scope(
        relation,
        visible,
        catalog.databases[database].precision,
        is_single,
        order,
        _label_rows(table, found),
        alias,
    )


def _rows(table: Table, found: Table | Child, written: str) -> str:
    columns = ", ".join(f"d.{column.stored}" for column in table.columns)
    columns += ", d.seq" if written else ""
    tags = "".join(f", t.{tag.stored}" for tag in table.tags)
    only = f" WHERE d.tid = {found.number}" if isinstance(found, Child) else ""
    return (
        f"SELECT t.tid, t.tbname{tags}, {columns}"
        f" FROM {written or table.data} AS d JOIN {table.labels} AS t ON d.tid = t.tid{only}"
    )


def _label_rows(table: Table, found: Table | Child) -> str:
    only = f" WHERE tid = {found.number}" if isinstance(found, Child) else ""
    return f"(SELECT * FROM {table.labels}{only})"


def keep_empty(scope: Scope, where: str, label_where: str) -> str:
    """A relation that also has one row for every sub-table without any.

    Args:
        where: The condition on rows, ``""`` for none.
        label_where: Its part that is about tags alone.
    """
    alias = scope.alias
    tags = [c.sql for c in scope.visible if c.role in ("tag", "tbname")]
    data = [c.sql for c in scope.visible if c.role in ("time", "column")]
    inner = f"SELECT {alias}.tid, {', '.join(data)} FROM {scope.relation}"
    names = ", ".join(f"x.{sql.partition('.')[2]}" for sql in data)
    return (
        f"(SELECT {alias}.tid, {', '.join(tags)}, {names} FROM {scope.labels} AS {alias}"
        f" LEFT JOIN ({inner}{where}) AS x ON x.tid = {alias}.tid{label_where}) AS {alias}"
    )


def _query_scope(context: Context, source: SubQuery, compile_query: CompileQuery) -> Scope:
    compiled = compile_query(source.query)
    alias = context.alias()
    visible = [
        Visible(source.alias, output.name, f"{alias}.o{index}", output.type, output.role)
        for index, output in enumerate(compiled.outputs)
    ]
    times = [index for index, column in enumerate(visible) if column.role == "time"]
    for index in times[1:]:
        visible[index] = replace(visible[index], role="column")
    return Scope(f"({compiled.sql}) AS {alias}", visible, compiled.precision, alias=alias)


def _join_scope(
    context: Context, catalog: Catalog, source: Join, compile_query: CompileQuery
) -> Scope:
    left = scope_of(context, catalog, source.left, compile_query)
    right = scope_of(context, catalog, source.right, compile_query)
    if not (left.is_single and right.is_single) or left.precision != right.precision:
        raise unsupported("a JOIN of something else than two plain tables")
    scope = Scope("", left.visible + right.visible, left.precision)
    scope.order = left.order
    if source.on is None:
        scope.relation = f"{left.relation} CROSS JOIN {right.relation}"
        return scope
    check_join(scope, source.on)
    condition = RowCompiler(context, scope).condition(source.on)
    word = "LEFT JOIN" if source.kind == "left" else "JOIN"
    scope.relation = f"{left.relation} {word} {right.relation} ON {condition}"
    return scope


def check_join(scope: Scope, condition: Expr | None) -> None:
    """Refuse a join that does not equate the primary timestamps."""
    for part in conjuncts(condition):
        if not isinstance(part, Binary) or part.operator != "=":
            continue
        if isinstance(part.left, Name) and isinstance(part.right, Name):
            sides = [scope.find(side.table, side.name) for side in (part.left, part.right)]
            if sides[0] != sides[1] and all(side.role == "time" for side in sides):
                return
    raise unsupported("a JOIN without equal primary timestamps")

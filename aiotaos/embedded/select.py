"""SELECT and UNION, translated to one DuckDB statement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..types import Precision, TypeCode
from . import windows
from .aggregates import GroupCompiler, Grouping, aggregate_calls, picked_call
from .catalog import Catalog
from .columns import TEXTS, SqlType
from .expressions import WINDOW_COLUMNS, RowCompiler, conjuncts, walk
from .faults import Fault, no_column, unsupported
from .nodes import Call, Expr, Item, Join, Limit, Literal, Name, Order, Query, Select, Star, Union
from .scopes import Compiled, Output, check_join, keep_empty, scope_of
from .series import SERIES, compile_series
from .sql import Context, Scope, Sql
from .system import check_system

_STAR_CALLS = frozenset({"first", "last", "last_row"})


class QueryCompiler:
    """Translates queries; one statement's worth of aliases and parameters."""

    def __init__(self, context: Context, catalog: Catalog) -> None:
        self.context = context
        self.catalog = catalog

    def compile(self, query: Query) -> Compiled:
        """Translate a query.

        Raises:
            Fault: It is wrong, or beyond this server.
        """
        if isinstance(query, Union):
            return self._union(query)
        return self._select(query)

    def expanded(self, select: Select) -> tuple[Select, Scope]:
        """A SELECT from a table with ``*`` written out, and what its names stand for.

        Raises:
            Fault: There is no such table.
        """
        if select.source is None:
            raise unsupported("SELECT without FROM")
        scope = scope_of(self.context, self.catalog, select.source, self.compile)
        return replace(select, items=tuple(_expand(select.items, scope))), scope

    def _union(self, union: Union) -> Compiled:
        left, right = self.compile(union.left), self.compile(union.right)
        if len(left.outputs) != len(right.outputs):
            raise Fault(0x2634, "Query block has incorrect number of result columns")
        if left.precision != right.precision:
            raise unsupported("UNION of different precisions")
        outputs = tuple(map(_common, left.outputs, right.outputs))
        word = "UNION ALL" if union.all else "UNION"
        sql = f"(SELECT * FROM ({left.sql})) {word} (SELECT * FROM ({right.sql}))"
        terms = [_union_order(order, outputs) for order in union.order]
        if terms:
            sql += f" ORDER BY {', '.join(terms)}"
        return Compiled(sql + limit_text(union.limit), outputs, left.precision)

    def _select(self, select: Select) -> Compiled:
        if select.source is None:
            scope = Scope("", [], Precision.MILLISECOND)
            rows = RowCompiler(self.context, scope)
            return self._finish(select, scope, rows, select.items, "")
        scope = scope_of(self.context, self.catalog, select.source, self.compile)
        items = _expand(select.items, scope)
        if isinstance(select.source, Join) and select.source.on is None:
            check_join(scope, select.where)
        if scope.system:
            check_system(scope, select.where)
        if select.window is not None:
            return windows.compile_window(self, select, scope, items)
        if any(isinstance(i.expr, Call) and i.expr.name in SERIES for i in items):
            return compile_series(self, select, scope, items)
        calls = [call for item in items for call in aggregate_calls(item.expr)]
        if calls or select.group:
            return self._grouped(select, scope, items, calls)
        return self._plain(select, scope, items)

    def where(self, scope: Scope, where: Expr | None) -> str:
        """The WHERE clause."""
        if where is None:
            return ""
        if any(aggregate_calls(part) for part in conjuncts(where)):
            raise Fault(0x260E, "Aggregate functions are not allowed in WHERE")
        return f" WHERE {RowCompiler(self.context, scope).condition(where)}"

    def _plain(self, select: Select, scope: Scope, items: Sequence[Item]) -> Compiled:
        rows = RowCompiler(self.context, scope)
        source = f" FROM {scope.relation}{self.where(scope, select.where)}"
        if select.distinct and not select.partition and self._is_about_names(select, scope, items):
            source = f" FROM {scope.labels} AS {scope.alias}{self.where(scope, select.where)}"
        if select.having is not None:
            raise unsupported("HAVING without groups")
        keys = [rows.compile(key).text for key in select.partition]
        if not keys:
            if select.slimit is not None:
                raise unsupported("SLIMIT without PARTITION BY")
            return self._finish(select, scope, rows, items, source, scope.order)
        if select.distinct:
            raise unsupported("DISTINCT with PARTITION BY")
        order = ", ".join([*keys, *([scope.time.sql] if scope.time is not None else [])])
        return self._finish(select, scope, rows, items, source, order, keys)

    def _is_about_names(self, select: Select, scope: Scope, items: Sequence[Item]) -> bool:
        """Whether tbname is asked for and nothing but tags matters: then empty tables count."""
        exprs = [*(item.expr for item in items), *conjuncts(select.where)]
        names = [part for expr in exprs for part in walk(expr) if isinstance(part, Name)]
        roles = {scope.find(name.table, name.name).role for name in names}
        asked = any(self._is_tbname(scope, item.expr) for item in items)
        return asked and bool(scope.labels) and roles <= {"tag", "tbname"}

    def keys(
        self, exprs: Sequence[Expr], scope: Scope, items: Sequence[Item]
    ) -> list[tuple[Expr, Sql]]:
        """The group keys; an alias stands for its expression."""
        rows = RowCompiler(self.context, scope)
        keys: list[tuple[Expr, Sql]] = []
        for expr in exprs:
            key = expr
            if isinstance(expr, Name) and expr.table is None:
                named = [item.expr for item in items if item.alias == expr.name]
                if named and all(column.name != expr.name for column in scope.visible):
                    key = named[0]
            if isinstance(key, Literal | Star):
                raise unsupported("a constant as a group")
            keys.append((key, rows.compile(key)))
        return keys

    def _grouped(
        self, select: Select, scope: Scope, items: Sequence[Item], calls: Sequence[Call]
    ) -> Compiled:
        if select.group and select.partition:
            raise unsupported("GROUP BY with PARTITION BY")
        if select.slimit is not None or (select.partition and select.limit and not select.order):
            raise unsupported("SLIMIT, or LIMIT in each partition, of groups")
        keys = self.keys(select.group or select.partition, scope, items)
        where = self.where(scope, select.where)
        counting = any(call.name == "count" for call in calls)
        if calls:
            whole = scope.is_single or self._is_about_tables(scope, keys)
            keeps = bool(keys) and counting and whole
        else:
            about = all(self._is_about_tags(scope, part) for part in conjuncts(select.where))
            keeps = about and len(keys) == 1 and self._is_tbname(scope, keys[0][0])
        relation = scope.relation
        if keeps:
            relation, where = self._with_empty(scope, select.where, where), ""
        grouping = Grouping(
            keys,
            has_tags=any(self._is_tbname(scope, key) for key, _ in keys),
            picked=picked_call(items),
            counts_rows=scope.time.sql if keeps and scope.time is not None else "*",
        )
        groups = GroupCompiler(self.context, scope, grouping)
        source = f" FROM {relation}{where}"
        conditions = []
        if not keys or select.partition or self._is_about_tables(scope, keys):
            conditions += existence(groups, items)
        if keys:
            source += f" GROUP BY {', '.join(key.text for _, key in keys)}"
        if select.having is not None:
            conditions.append(groups.condition(select.having))
        if conditions:
            source += f" HAVING {' AND '.join(conditions)}"
        return self._finish(select, scope, groups, items, source)

    def _with_empty(self, scope: Scope, condition: Expr | None, where: str) -> str:
        rows = RowCompiler(self.context, scope)
        about_tags = [
            rows.condition(part)
            for part in conjuncts(condition)
            if self._is_about_tags(scope, part)
        ]
        label_where = f" WHERE {' AND '.join(about_tags)}" if about_tags else ""
        return keep_empty(scope, where, label_where)

    def _is_about_tables(self, scope: Scope, keys: Sequence[tuple[Expr, Sql]]) -> bool:
        """Whether groups are made of whole tables, so that empty tables count too."""
        return bool(scope.labels) and all(self._is_about_tags(scope, key) for key, _ in keys)

    def _is_about_tags(self, scope: Scope, expr: Expr) -> bool:
        names = [part for part in walk(expr) if isinstance(part, Name)]
        return all(scope.find(n.table, n.name).role in ("tag", "tbname") for n in names)

    def _is_tbname(self, scope: Scope, key: Expr) -> bool:
        return isinstance(key, Name) and scope.find(key.table, key.name).role == "tbname"

    def _finish(
        self,
        select: Select,
        scope: Scope,
        compiler: RowCompiler,
        items: Sequence[Item],
        source: str,
        default_order: str = "",
        partitions: Sequence[str] = (),
    ) -> Compiled:
        """Put select list, order and limit around what was translated so far."""
        compiled = [compiler.compile(item.expr) for item in items]
        columns = ", ".join(f"{sql.text} AS o{index}" for index, sql in enumerate(compiled))
        text = f"SELECT {'DISTINCT ' if select.distinct else ''}{columns}{source}"
        terms = [
            order_term(order, items, compiler, is_distinct=select.distinct)
            for order in select.order
        ]
        limit = limit_text(select.limit)
        if partitions:
            text += _qualify(select, scope, partitions)
            limit = limit if terms else ""
        order = ", ".join(terms) or ("" if select.distinct else default_order)
        if order:
            text += f" ORDER BY {order}"
        outputs = tuple(
            Output(item.name, sql.type, role_of(item, scope))
            for item, sql in zip(items, compiled, strict=True)
        )
        return Compiled(text + limit, outputs, scope.precision)


def existence(groups: GroupCompiler, items: Sequence[Item]) -> list[str]:
    """When the answer about all rows, a partition or a window is a row at all.

    Without rows only counts are known; and if first() or last() find nothing, the others that are
    NULL do not make a row either. But what shows a key or a tag is a row in any case.
    """
    calls = [call for item in items for call in aggregate_calls(item.expr)]
    names = {call.name for call in calls}
    if "count" in names or not calls:
        return []
    shown = any(groups.shows_key(item.expr) for item in items)
    if not shown and names & {"first", "last"} and "last_row" not in names:
        return [f"({' OR '.join(f'{groups.compile(c).text} IS NOT NULL' for c in calls)})"]
    return ["count(*) > 0"]


def _qualify(select: Select, scope: Scope, partitions: Sequence[str]) -> str:
    """LIMIT in each partition, and SLIMIT, the limit of partitions."""
    keys = ", ".join(partitions)
    conditions = []
    if select.limit is not None and not select.order:
        if scope.time is None:
            raise unsupported("LIMIT in each partition without a primary timestamp")
        number = f"row_number() OVER (PARTITION BY {keys} ORDER BY {scope.time.sql})"
        conditions.append(_between(number, select.limit))
    if select.slimit is not None:
        conditions.append(_between(f"dense_rank() OVER (ORDER BY {keys})", select.slimit))
    return f" QUALIFY {' AND '.join(conditions)}" if conditions else ""


def _between(number: str, limit: Limit) -> str:
    return f"{number} BETWEEN {limit.offset + 1} AND {limit.offset + limit.count}"


def role_of(item: Item, scope: Scope) -> str:
    if not isinstance(item.expr, Name):
        return "column"
    if item.expr.name in WINDOW_COLUMNS:
        return "time" if item.expr.name == "_wstart" else "column"
    role = scope.find(item.expr.table, item.expr.name).role
    return "time" if role == "time" else "column"


def limit_text(limit: Limit | None) -> str:
    return f" LIMIT {limit.count} OFFSET {limit.offset}" if limit is not None else ""


def order_term(
    order: Order, items: Sequence[Item], compiler: RowCompiler, *, is_distinct: bool = False
) -> str:
    """One term of ORDER BY: a place in the select list, an alias, or an expression."""
    text = None
    expr = order.expr
    if isinstance(expr, Literal):
        place = int(expr.text) if expr.kind == "int" else 0
        if not 1 <= place <= len(items):
            raise unsupported("ORDER BY a constant")
        text = f"o{place - 1}"
    for index, item in enumerate(items):
        alias = isinstance(expr, Name) and expr.table is None and item.alias == expr.name
        if text is None and (alias or item.expr == expr):
            text = f"o{index}"
    if text is None:
        if is_distinct:
            raise unsupported("ORDER BY something that SELECT DISTINCT does not list")
        text = compiler.compile(expr).text
    return text + _direction(order)


def _direction(order: Order) -> str:
    way = "DESC" if order.descending else "ASC"
    return f" {way} NULLS {'FIRST' if order.nulls_first else 'LAST'}"


def _union_order(order: Order, outputs: Sequence[Output]) -> str:
    expr = order.expr
    if isinstance(expr, Literal) and expr.kind == "int" and 1 <= int(expr.text) <= len(outputs):
        return f"o{int(expr.text) - 1}{_direction(order)}"
    if not isinstance(expr, Name):
        raise unsupported("ORDER BY an expression after UNION")
    for index, output in enumerate(outputs):
        if output.name == expr.name:
            return f"o{index}{_direction(order)}"
    raise no_column(expr.name)


def _common(left: Output, right: Output) -> Output:
    """The column that two columns of a UNION make."""
    a, b = left.type, right.type
    if a == b:
        return Output(left.name, a, left.role if left.role == right.role else "column")
    if a.code is not b.code or a.code not in TEXTS | {TypeCode.VARBINARY}:
        raise unsupported("UNION of columns of different types")
    return Output(left.name, SqlType(a.code, max(a.length, b.length)))


def _expand(items: Sequence[Item], scope: Scope) -> list[Item]:
    """Write out ``*``, ``t.*`` and ``last(*)``."""
    expanded = []
    for item in items:
        expr = item.expr
        if isinstance(expr, Star):
            expanded += _star(expr, scope)
        elif isinstance(expr, Call) and expr.name in _STAR_CALLS:
            expanded += _star_call(item, expr, scope)
        else:
            expanded.append(item)
    return expanded


def _star(star: Star, scope: Scope) -> list[Item]:
    if scope.system and scope.system != "perf_queries":  # of the others not all columns are known
        raise unsupported(f"* of {scope.system}")
    roles = ("time", "column") if scope.is_single or not scope.labels else ("time", "column", "tag")
    found = [
        Item(Name(column.table, column.name), column.name, None)
        for column in scope.visible
        if column.role in roles and star.table in (None, column.table)
    ]
    if not found:
        raise no_column("*")
    return found


def _star_call(item: Item, call: Call, scope: Scope) -> list[Item]:
    """``last(*)``, and ``last(a, b)``, which TDengine takes for several calls."""
    args: list[Expr] = []
    for arg in call.args:
        if isinstance(arg, Star):
            args += [
                Name(column.table, column.name)
                for column in scope.visible
                if column.role in ("time", "column") and arg.table in (None, column.table)
            ]
        else:
            args.append(arg)
    if len(args) == 1 and args == list(call.args):
        return [item]
    if not all(isinstance(arg, Name) for arg in args) or item.alias is not None:
        raise unsupported(f"{call.name}() with several expressions or an alias")
    return [
        Item(Call(call.name, (arg,)), f"{call.name}({arg.name})", None)
        for arg in args
        if isinstance(arg, Name)
    ]

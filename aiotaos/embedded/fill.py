"""FILL: what stands in the windows of an INTERVAL that have no rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..types import Precision
from .aggregates import GroupCompiler, aggregate_calls
from .columns import INTEGERS, NUMBERS
from .expressions import RowCompiler, conjuncts
from .faults import Fault, unsupported
from .nodes import Between, Binary, Expr, Item, Literal, Name, Select
from .scopes import Compiled, Output
from .sql import Scope, Sql

if TYPE_CHECKING:
    from .select import QueryCompiler
    from .windows import Interval

_MAX_WINDOWS = 10_000_000
_TURNED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "="}


def fill(
    compiler: QueryCompiler,
    select: Select,
    scope: Scope,
    items: Sequence[Item],
    groups: GroupCompiler,
    interval: Interval,
    source: str,
) -> Compiled:
    """Make a query of all windows in the range of time that WHERE gives.

    Args:
        source: The query without FILL, from FROM on; it is grouped by window.
    """
    low, high = _range(compiler, select.where, scope)
    step = interval.length
    first = _floor(low, interval)
    if (high - first) // step > _MAX_WINDOWS:
        raise Fault(0x263B, "Start(end) time of query range required or time range too large")
    keys = groups.grouping.keys
    start = f"{scope.alias}.w"
    names = ", ".join(f"{key.text} AS k{i}" for i, (_, key) in enumerate(keys))
    compiled = [groups.compile(item.expr) for item in items]
    values = ", ".join(f"{sql.text} AS v{i}" for i, sql in enumerate(compiled))
    grouped = f"SELECT {', '.join(filter(None, [f'{start} AS w', names, values]))}{source}"
    parts = ", ".join(f"k{i}" for i in range(len(keys))) or "1 AS one"
    same = "".join(f" AND g.k{i} IS NOT DISTINCT FROM p.k{i}" for i in range(len(keys)))
    over = f"PARTITION BY {', '.join(f'p.k{i}' for i in range(len(keys)))} " if keys else ""
    fillable = [i for i, item in enumerate(items) if aggregate_calls(item.expr)]
    columns = []
    for index, (item, sql) in enumerate(zip(items, compiled, strict=True)):
        if index in fillable:
            value = _filled(compiler, select, sql, index, fillable, over)
        else:
            value = _known(item, groups, interval)
        columns.append(f"{value} AS o{index}")
    order = ", ".join([*(f"p.k{i}" for i in range(len(keys))), "s.w"])
    from .select import limit_text

    text = (
        f"WITH g AS ({grouped}) SELECT {', '.join(columns)}"
        f" FROM (SELECT DISTINCT {parts} FROM g) AS p"
        f" CROSS JOIN range({first}, {high + 1}, {step}) AS s(w)"
        f" LEFT JOIN g ON g.w = s.w{same} ORDER BY {_order(select, items) or order}"
    )
    outputs = tuple(
        Output(
            item.name,
            sql.type,
            "time" if isinstance(item.expr, Name) and item.expr.name == "_wstart" else "column",
        )
        for item, sql in zip(items, compiled, strict=True)
    )
    return Compiled(text + limit_text(select.limit), outputs, scope.precision)


def _order(select: Select, items: Sequence[Item]) -> str:
    terms = []
    for order in select.order:
        places = [
            index
            for index, item in enumerate(items)
            if item.expr == order.expr
            or (isinstance(order.expr, Name) and item.alias == order.expr.name)
        ]
        if not places:
            raise unsupported("ORDER BY something that is not selected, with FILL")
        way = "DESC" if order.descending else "ASC"
        nulls = "FIRST" if order.nulls_first else "LAST"
        terms.append(f"o{places[0]} {way} NULLS {nulls}")
    return ", ".join(terms)


def _known(item: Item, groups: GroupCompiler, interval: Interval) -> str:
    """What is known of a window without rows: its times, and its partition."""
    expr = item.expr
    if isinstance(expr, Name):
        ends = {
            "_wstart": "s.w",
            "_wend": interval.end("s.w"),
            "_wduration": str(interval.length),
        }
        if expr.name in ends:
            return ends[expr.name]
    for index, (key, _) in enumerate(groups.grouping.keys):
        if key == expr:
            return f"p.k{index}"
    raise unsupported("FILL with this column")


def _filled(
    compiler: QueryCompiler,
    select: Select,
    sql: Sql,
    index: int,
    fillable: Sequence[int],
    over: str,
) -> str:
    window = select.window
    mode = window.fill.mode if window is not None and window.fill is not None else "null"
    value = f"g.v{index}"
    if mode == "null":
        return value
    past = f"({over}ORDER BY s.w ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
    future = f"({over}ORDER BY s.w ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)"
    before = f"last_value({value} IGNORE NULLS) OVER {past}"
    after = f"first_value({value} IGNORE NULLS) OVER {future}"
    if mode == "prev":
        return before
    if mode == "next":
        return after
    if mode == "value":
        constant = _constant(compiler, select, sql, fillable.index(index), len(fillable))
        return f"coalesce({value}, {constant})"
    if sql.type.code not in NUMBERS:
        raise unsupported("FILL(linear) of something else than a number")
    row = f"CASE WHEN g.w IS NOT NULL THEN struct_pack(w := s.w, v := CAST({value} AS DOUBLE)) END"
    left = f"(last_value({row} IGNORE NULLS) OVER {past})"
    right = f"(first_value({row} IGNORE NULLS) OVER {future})"
    slope = f"({right}.v - {left}.v) / ({right}.w - {left}.w)"
    line = f"{left}.v + {slope} * (s.w - {left}.w)"
    if sql.type.code in INTEGERS:
        line = f"trunc({line})"
    return f"CASE WHEN g.w IS NULL THEN CAST({line} AS {sql.type.duckdb}) ELSE {value} END"


def _constant(compiler: QueryCompiler, select: Select, sql: Sql, place: int, count: int) -> str:
    window = select.window
    values = window.fill.values if window is not None and window.fill is not None else ()
    if len(values) != count:
        raise unsupported("FILL(value) with another number of values than columns")
    value = values[place]
    if not isinstance(value, Literal):
        raise unsupported("FILL with an expression")
    kinds = ("int", "null") if sql.type.code in INTEGERS else ("int", "float", "null")
    if sql.type.code not in NUMBERS or value.kind not in kinds:
        raise unsupported("FILL(value) of this type")
    rows = RowCompiler(compiler.context, Scope("", [], Precision.MILLISECOND))
    return f"CAST({rows.compile(value).text} AS {sql.type.duckdb})"


def _floor(ticks: int, interval: Interval) -> int:
    return (ticks - interval.offset) // interval.length * interval.length + interval.offset


def _range(compiler: QueryCompiler, where: Expr | None, scope: Scope) -> tuple[int, int]:
    """First and last tick that the conditions on the primary timestamp allow."""
    low: int | None = None
    high: int | None = None
    for part in conjuncts(where):
        for operator, bound in _bounds(compiler, part, scope):
            if operator in (">", ">=", "="):
                start = bound + (operator == ">")
                low = start if low is None else max(low, start)
            if operator in ("<", "<=", "="):
                end = bound - (operator == "<")
                high = end if high is None else min(high, end)
    if low is None or high is None:
        raise Fault(0x263B, "Start(end) time of query range required or time range too large")
    return low, high


def _bounds(compiler: QueryCompiler, part: Expr, scope: Scope) -> list[tuple[str, int]]:
    if isinstance(part, Between) and not part.negated:
        operand, pairs = part.operand, [(">=", part.low), ("<=", part.high)]
    elif isinstance(part, Binary) and part.operator in _TURNED:
        operand, pairs = part.left, [(part.operator, part.right)]
        if not isinstance(operand, Name):
            operand, pairs = part.right, [(_TURNED[part.operator], part.left)]
    else:
        return []
    if not isinstance(operand, Name) or scope.find(operand.table, operand.name).role != "time":
        return []
    return [(operator, _tick(compiler, bound, scope)) for operator, bound in pairs]


def _tick(compiler: QueryCompiler, bound: Expr, scope: Scope) -> int:
    """The value of a constant time."""
    ticks = RowCompiler(compiler.context, scope).ticks_of(bound)
    if ticks is None:
        raise unsupported("FILL with this range of time")
    return ticks

"""Functions that answer many rows: diff, derivative, csum, mavg, top and bottom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import times
from .columns import BIGINT, DOUBLE, FLOATS, INTEGERS, NUMBERS, UBIGINT, UNSIGNED, SqlType
from .expressions import RowCompiler
from .faults import Fault, bad_parameter, unsupported
from .nodes import Call, Expr, Item, Name, Select
from .scopes import Compiled, Output
from .sql import Scope, Sql

if TYPE_CHECKING:
    from .select import QueryCompiler

SERIES = frozenset({"diff", "derivative", "csum", "mavg", "top", "bottom"})
_MAX_ROWS = 100


def compile_series(
    compiler: QueryCompiler, select: Select, scope: Scope, items: Sequence[Item]
) -> Compiled:
    """Translate a query with one such function over the rows of one table."""
    from .select import limit_text, order_term, role_of

    calls = [
        item.expr for item in items if isinstance(item.expr, Call) and item.expr.name in SERIES
    ]
    call, time = calls[0], scope.time
    extra = select.partition or select.group or select.having or select.distinct or select.slimit
    plain = all(isinstance(item.expr, Name) for item in items if item.expr is not call)
    if time is None or not scope.is_single or len(calls) > 1 or extra or not plain or not call.args:
        raise unsupported(f"{call.name}() in this query")
    rows = RowCompiler(compiler.context, scope)
    value = rows.compile(call.args[0])
    if value.type.code not in NUMBERS:
        raise bad_parameter(call.name)
    if value.literal is not None:
        raise unsupported(f"{call.name}() of a constant")
    result, keep, order = _translate(rows, call, value, time.sql)
    compiled = [result if item.expr is call else rows.compile(item.expr) for item in items]
    columns = ", ".join(f"{sql.text} AS o{index}" for index, sql in enumerate(compiled))
    where = compiler.where(scope, select.where)
    if call.name != "diff":
        present = f"{value.text} IS NOT NULL"
        where = f"{where} AND {present}" if where else f" WHERE {present}"
    terms = [order_term(term, items, rows) for term in select.order]
    text = (
        f"SELECT {columns} FROM {scope.relation}{where} QUALIFY {keep}"
        f" ORDER BY {', '.join(terms) or order}{limit_text(select.limit)}"
    )
    outputs = tuple(
        Output(item.name, sql.type, role_of(item, scope))
        for item, sql in zip(items, compiled, strict=True)
    )
    return Compiled(text, outputs, scope.precision)


def _translate(rows: RowCompiler, call: Call, value: Sql, time: str) -> tuple[Sql, str, str]:
    """The function's value, which rows have one, and their order."""
    name, args = call.name, call.args
    over = f"OVER (ORDER BY {time})"
    double = f"CAST({value.text} AS DOUBLE)"
    has_previous = f"row_number() {over} > 1"
    if name in ("top", "bottom"):
        count = _count(rows, name, args)
        way = "DESC" if name == "top" else "ASC"
        back = "ASC" if name == "top" else "DESC"
        best = f"row_number() OVER (ORDER BY {value.text} {way}, {time}) <= {count}"
        return value, best, f"{value.text} {back}"
    if name == "diff":
        if len(args) != 1:
            raise unsupported("diff() with a second argument")
        before = f"(ORDER BY {time} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
        is_integer = value.type.code in INTEGERS
        number = f"CAST({value.text} AS {'HUGEINT' if is_integer else 'DOUBLE'})"
        difference = f"({number} - last_value({number} IGNORE NULLS) OVER {before})"
        type = BIGINT if is_integer else DOUBLE
        return Sql(f"CAST({difference} AS {type.duckdb})", type), has_previous, time
    if name == "derivative":
        unit, ignore = _derivative(rows, args)
        rate = f"(({double} - lag({double}) {over}) * {unit} / ({time} - lag({time}) {over}))"
        keep = f"{has_previous} AND {rate} >= 0" if ignore else has_previous
        return Sql(rate, DOUBLE), keep, time
    if name == "csum":
        return Sql(*_cumulated(value, over)), "true", time
    count = _count(rows, name, args)
    frame = f"OVER (ORDER BY {time} ROWS BETWEEN {count - 1} PRECEDING AND CURRENT ROW)"
    return Sql(f"avg({double}) {frame}", DOUBLE), f"row_number() {over} >= {count}", time


def _cumulated(value: Sql, over: str) -> tuple[str, SqlType]:
    if value.type.code in FLOATS:
        return f"sum(CAST({value.text} AS DOUBLE)) {over}", DOUBLE
    type = UBIGINT if value.type.code in UNSIGNED else BIGINT
    return f"CAST(sum({value.text}) {over} AS {type.duckdb})", type


def _count(rows: RowCompiler, name: str, args: tuple[Expr, ...]) -> int:
    literal = rows.compile(args[1]).literal if len(args) > 1 else None
    if len(args) != 2 or literal is None or literal.kind != "int":
        raise Fault(0x2801, f"Invalid number of parameters : {name}")
    count = int(literal.text)
    if not 1 <= count <= _MAX_ROWS:
        raise Fault(0x2803, f"Invalid parameter value : {name}")
    return count


def _derivative(rows: RowCompiler, args: tuple[Expr, ...]) -> tuple[int, bool]:
    if len(args) != 3:
        raise Fault(0x2801, "Invalid number of parameters : derivative")
    unit, ignore = (rows.compile(arg).literal for arg in args[1:])
    if unit is None or unit.kind != "duration" or ignore is None or ignore.text not in ("0", "1"):
        raise unsupported("derivative() with these arguments")
    ticks = times.duration(unit.text, rows.precision)
    if not ticks:
        raise unsupported("derivative() with this unit")
    return ticks, ignore.text == "1"

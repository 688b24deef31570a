"""Expressions about a group of rows: aggregates, group keys, and what goes with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..types import DECIMALS, TypeCode
from . import times
from .columns import (
    BIGINT,
    DOUBLE,
    FLOATS,
    INTEGERS,
    NUMBERS,
    TEXTS,
    UBIGINT,
    UNSIGNED,
    SqlType,
    text,
)
from .expressions import RowCompiler, children, walk
from .faults import Fault, bad_parameter, unsupported
from .functions import AGGREGATES, wrapped
from .nodes import Call, Expr, Item, Name, Star
from .sql import Context, Scope, Sql

PICKING = frozenset({"first", "last", "last_row", "min", "max"})
_ORDERED = frozenset({"first", "last", "last_row"})
_LEAST_SQUARES_LENGTH = 126
_PERCENT = 100


def aggregate_calls(expr: Expr) -> list[Call]:
    """The aggregates inside of an expression."""
    return [part for part in walk(expr) if isinstance(part, Call) and part.name in AGGREGATES]


@dataclass(frozen=True, slots=True)
class Grouping:
    """How rows come together.

    Attributes:
        keys: The expressions grouped by, with their translations.
        has_tags: Tags and tbname are the same in all rows of a group.
        window: What ``_wstart`` and its like stand for.
        picked: The only function that picks a row, so that plain columns may be of that row.
        counts_rows: What ``count(*)`` counts: ``*``, or the time where there are rows without one,
            which stand for tables without rows.
    """

    keys: Sequence[tuple[Expr, Sql]] = ()
    has_tags: bool = False
    window: dict[str, Sql] | None = None
    picked: Call | None = None
    counts_rows: str = "*"


def picked_call(items: Sequence[Item]) -> Call | None:
    """The function that picks a row, if there is exactly one aggregate and it does."""
    calls = {call for item in items for call in aggregate_calls(item.expr)}
    picking = [call for call in calls if call.name in PICKING]
    return picking[0] if len(calls) == len(picking) == 1 else None


class GroupCompiler(RowCompiler):
    """Translates expressions over groups."""

    def __init__(self, context: Context, scope: Scope, grouping: Grouping) -> None:
        super().__init__(context, scope)
        self.rows = RowCompiler(context, scope)
        self.grouping = grouping

    def compile(self, expr: Expr) -> Sql:
        key = self._key(expr)
        if key is not None:
            return key
        if isinstance(expr, Call) and expr.name in AGGREGATES:
            return self._aggregate(expr)
        return super().compile(expr)

    def shows_key(self, expr: Expr) -> bool:
        """Whether a key, a tag or tbname stands in the expression outside of aggregates."""
        if isinstance(expr, Call) and expr.name in AGGREGATES:
            return False
        if isinstance(expr, Name):
            if self.grouping.window is not None and expr.name in self.grouping.window:
                return False
            role = self.scope.find(expr.table, expr.name).role
            if role in ("tag", "tbname"):
                return self.grouping.window is None or bool(self.grouping.keys)
            return self._key(expr) is not None
        return self._key(expr) is not None or any(map(self.shows_key, children(expr)))

    def _key(self, expr: Expr) -> Sql | None:
        for key, translated in self.grouping.keys:
            if key == expr:
                return translated
            both = isinstance(key, Name) and isinstance(expr, Name)
            if both and self._is_same(key, expr):
                return translated
        return None

    def _is_same(self, key: Expr, expr: Expr) -> bool:
        if not isinstance(key, Name) or not isinstance(expr, Name) or key.name != expr.name:
            return False
        find = self.scope.find
        return find(key.table, key.name) == find(expr.table, expr.name)

    def name(self, expr: Name) -> Sql:
        window = self.grouping.window
        if window is not None and expr.table is None and expr.name in window:
            return window[expr.name]
        row = self.rows.name(expr)
        column = self.scope.find(expr.table, expr.name)
        role = column.role
        if role in ("tag", "tbname") and self.scope.is_single:
            stored = column.sql.partition(".")[2]
            return Sql(f"(SELECT one.{stored} FROM {self.scope.labels} AS one)", row.type)
        if role in ("tag", "tbname") and self.grouping.has_tags:
            return Sql(f"any_value({row.text})", row.type)
        if self.grouping.picked is not None:
            return self._pick(self.grouping.picked, row)
        if window is not None:
            raise Fault(0x2667, f"Invalid usage of expr: {expr.name}")
        if self.grouping.keys:
            raise Fault(0x260A, "Not a GROUP BY expression")
        raise Fault(0x260C, "Not a single-group group function")

    def _time(self, name: str) -> str:
        time = self.scope.time
        if time is None:
            raise unsupported(f"{name}() without a primary timestamp")
        return time.sql

    def _pick(self, call: Call, row: Sql) -> Sql:
        """The value of a column in the row that the call picks."""
        time = self._time(call.name)
        value = self._argument(call)
        box = f"struct_pack(v := {row.text})"
        if call.name in _ORDERED:
            choose = f"{'arg_min' if call.name == 'first' else 'arg_max'}({box}, {time})"
        elif call.name == "min":
            choose = f"arg_min({box}, struct_pack(a := {value.text}, b := {time}))"
        else:
            choose = f"arg_max({box}, struct_pack(a := {value.text}, b := -{time}))"
        if call.name != "last_row":
            choose += f" FILTER (WHERE {value.text} IS NOT NULL)"
        return Sql(f"struct_extract({choose}, 'v')", row.type)

    def _argument(self, call: Call) -> Sql:
        if len(call.args) != 1:
            raise Fault(0x2801, f"Invalid number of parameters : {call.name}")
        if aggregate_calls(call.args[0]):
            raise Fault(0x260B, "Not allowed to nest aggregate functions")
        if isinstance(call.args[0], Star):
            raise unsupported(f"{call.name}(*) here")
        value = self.rows.compile(call.args[0])
        if value.literal is not None:
            raise unsupported(f"{call.name}() of a constant")
        if self.grouping.counts_rows == "*":
            return value
        present = f"{self.grouping.counts_rows} IS NOT NULL"
        return Sql(f"CASE WHEN {present} THEN {value.text} END", value.type)

    def _aggregate(self, call: Call) -> Sql:
        name = call.name
        if name == "count":
            return self._count(call)
        if name in _PARAMETRIC:
            return self._parametric(call)
        value = self._argument(call)
        code = value.type.code
        if name in _ORDERED:
            return self._ordered(name, value)
        if name in ("min", "max"):
            if code not in NUMBERS | TEXTS | DECIMALS:
                raise bad_parameter(name)
            return Sql(f"{name}({value.text})", value.type)
        if name == "mode":
            return Sql(f"mode({value.text})", value.type)
        if name == "sum":
            return _sum(value)
        allowed = NUMBERS | {TypeCode.TIMESTAMP} if name == "spread" else NUMBERS
        if code not in allowed:
            if code in DECIMALS:
                raise unsupported(f"{name}() of DECIMAL")
            raise bad_parameter(name)
        if name == "avg":
            number = f"CAST({value.text} AS DOUBLE)" if code in FLOATS else value.text
            return Sql(f"avg({number})", DOUBLE)
        if name == "spread":
            return Sql(
                f"(CAST(max({value.text}) AS DOUBLE) - CAST(min({value.text}) AS DOUBLE))", DOUBLE
            )
        return Sql(_deviation(name, value), DOUBLE)

    def _count(self, call: Call) -> Sql:
        if call.args == (Star(None),):
            return Sql(f"count({self.grouping.counts_rows})", BIGINT)
        return Sql(f"count({self._argument(call).text})", BIGINT)

    def _ordered(self, name: str, value: Sql) -> Sql:
        time = self._time(name)
        if name == "last_row":
            box = f"arg_max(struct_pack(v := {value.text}), {time})"
            return Sql(f"struct_extract({box}, 'v')", value.type)
        choose = "arg_min" if name == "first" else "arg_max"
        keep = f"FILTER (WHERE {value.text} IS NOT NULL)"
        return Sql(f"{choose}({value.text}, {time}) {keep}", value.type)

    def _parametric(self, call: Call) -> Sql:
        """percentile, elapsed and leastsquares, of the rows of one table."""
        name = call.name
        if not self.scope.is_single:
            raise unsupported(f"{name}() of several tables")
        if not call.args:
            raise Fault(0x2801, f"Invalid number of parameters : {name}")
        if name == "elapsed":
            return self._elapsed(call)
        value = self._argument(Call(name, call.args[:1]))
        if value.type.code not in NUMBERS:
            raise bad_parameter(name)
        numbers = [self._constant(name, arg) for arg in call.args[1:]]
        if name == "percentile":
            if len(numbers) != 1 or not 0 <= numbers[0] <= _PERCENT:
                raise unsupported("percentile() of several percentages")
            share = numbers[0] / _PERCENT
            return Sql(f"quantile_cont(CAST({value.text} AS DOUBLE), {share!r})", DOUBLE)
        if len(numbers) != 2:
            raise Fault(0x2801, f"Invalid number of parameters : {name}")
        return self._least_squares(value, *numbers)

    def _elapsed(self, call: Call) -> Sql:
        time = self._time(call.name)
        unit: int | None = 1
        if len(call.args) > 1:
            literal = self.rows.compile(call.args[1]).literal
            is_duration = literal is not None and literal.kind == "duration"
            unit = (
                times.duration(literal.text, self.precision)
                if literal is not None and is_duration
                else None
            )
        if not unit or self.rows.compile(call.args[0]).text != time:
            raise unsupported("this use of elapsed()")
        return Sql(f"(CAST(max({time}) - min({time}) AS DOUBLE) / {unit})", DOUBLE)

    def _constant(self, name: str, expr: Expr) -> float:
        literal = self.rows.compile(expr).literal
        if literal is None or literal.kind not in ("int", "float"):
            raise unsupported(f"{name}() with something else than a constant number")
        return float(literal.text)

    def _least_squares(self, value: Sql, start: float, step: float) -> Sql:
        """The line through the values, whose places are counted in the order of time."""
        y = f"list(CAST({value.text} AS DOUBLE) ORDER BY {self._time('leastsquares')})"
        values = f"list_filter({y}, lambda v: v IS NOT NULL)"
        n = f"CAST(len({values}) AS DOUBLE)"
        places = f"list_transform(range(len({values})), lambda i: {start!r} + i * {step!r})"
        sums = {
            "x": f"list_sum({places})",
            "y": f"list_sum({values})",
            "xx": f"list_inner_product({places}, {places})",
            "xy": f"list_inner_product({places}, {values})",
        }
        divisor = f"({n} * {sums['xx']} - {sums['x']} * {sums['x']})"
        slope = f"(({n} * {sums['xy']} - {sums['x']} * {sums['y']}) / {divisor})"
        base = f"(({sums['y']} - {slope} * {sums['x']}) / {n})"
        return Sql(
            f"printf('{{slop:%.6f, intercept:%.6f}}', {slope}, {base})",
            text(_LEAST_SQUARES_LENGTH),
        )


_PARAMETRIC = frozenset({"percentile", "elapsed", "leastsquares"})


def _deviation(name: str, value: Sql) -> str:
    """The deviation by way of the sum of squares; a FLOAT is squared as a FLOAT, as TDengine does.

    That loses digits, and these are the digits that TDengine shows.
    """
    number = f"CAST({value.text} AS HUGEINT)" if value.type.code in INTEGERS else value.text
    square = f"{number} * {number}"
    if value.type.code in FLOATS:
        number, square = f"CAST({number} AS DOUBLE)", f"CAST({square} AS DOUBLE)"
    count = f"CAST(count({value.text}) AS DOUBLE)"
    mean = f"(CAST(sum({number}) AS DOUBLE) / {count})"
    variance = f"abs(CAST(sum({square}) AS DOUBLE) / {count} - {mean} * {mean})"
    return variance if name == "var_pop" else f"sqrt({variance})"


def _sum(value: Sql) -> Sql:
    code = value.type.code
    if code in DECIMALS:
        type = SqlType(TypeCode.DECIMAL, 16, 38, value.type.scale)
        return Sql(f"CAST(sum({value.text}) AS {type.duckdb})", type)
    if code in FLOATS:
        return Sql(f"sum(CAST({value.text} AS DOUBLE))", DOUBLE)
    if code not in INTEGERS:
        raise bad_parameter("sum")
    type = UBIGINT if code in UNSIGNED else BIGINT
    return Sql(wrapped(f"sum({value.text})", type), type)

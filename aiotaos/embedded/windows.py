"""INTERVAL, SESSION, STATE_WINDOW, EVENT_WINDOW and COUNT_WINDOW."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..types import Precision
from . import times
from .aggregates import GroupCompiler, Grouping, picked_call
from .columns import BIGINT, TIMESTAMP
from .expressions import RowCompiler
from .faults import Fault, unsupported
from .fill import fill
from .nodes import Item, Name, Select, Window
from .scopes import Compiled, Output
from .sql import Scope, Sql

if TYPE_CHECKING:
    from .select import QueryCompiler

_MAX_OVERLAP = 100_000


@dataclass(frozen=True, slots=True)
class Cut:
    """Rows cut into windows.

    Attributes:
        relation: The rows, with the column ``w`` that tells windows apart.
        start: Where a window begins, over the rows of a group.
        end: Where it ends.
        state: The expression that is the same in a whole window, if there is one.
    """

    relation: str
    start: str
    end: str


@dataclass(frozen=True, slots=True)
class Interval:
    """Windows of a fixed length, or of whole months, aligned to 1970 in UTC.

    TDengine aligns them to its server's time zone, whatever that of the session is; the zone of
    this server is UTC.
    """

    length: int
    sliding: int
    offset: int
    months: int
    precision: Precision

    def start(self, time: str) -> str:
        """The start of the last window that holds a time."""
        moved = f"({time} - {self.offset})" if self.offset else time
        if not self.months:
            step = self.sliding
            start = f"({moved} - ((({moved} % {step}) + {step}) % {step}))"
        else:
            date = self._date(moved)
            months = f"((year({date}) - 1900) * 12 + month({date}) - 1)"
            first = f"({months} // {self.months} * {self.months})"
            start = self._ticks(
                f"make_timestamp(1900 + {first} // 12, 1 + {first} % 12, 1, 0, 0, 0.0)"
            )
        return f"({start} + {self.offset})" if self.offset else start

    def end(self, start: str) -> str:
        """The end of the window that begins there."""
        if not self.months:
            return f"({start} + {self.length})"
        moved = f"({start} - {self.offset})"
        later = self._ticks(f"({self._date(moved)} + to_months({self.months}))")
        return f"({later} + {self.offset})"

    def _date(self, ticks: str) -> str:
        scale = self.precision.ticks_per_second
        if self.precision is Precision.NANOSECOND:
            return f"make_timestamp({ticks} // 1000)"
        return f"make_timestamp({ticks} * {1_000_000 // scale})"

    def _ticks(self, moment: str) -> str:
        return f"(epoch_ms({moment}) * {self.precision.ticks_per_second // 1000})"


def interval_of(window: Window, precision: Precision) -> Interval:
    """Read the durations of an INTERVAL."""
    length_text, offset_text, sliding_text = window.durations
    offset = times.duration(offset_text, precision) if offset_text else 0
    if offset is None:
        raise unsupported("an offset in months")
    if length_text[-1] in "ny":
        if sliding_text not in ("", length_text):
            raise unsupported("SLIDING with months and years")
        months = int(length_text[:-1]) * (12 if length_text[-1] == "y" else 1)
        if not months or offset >= 28 * 86_400 * precision.ticks_per_second:
            raise unsupported("this INTERVAL")
        return Interval(0, 0, offset, months, precision)
    length = times.duration(length_text, precision) or 0
    sliding = times.duration(sliding_text, precision) if sliding_text else length
    if length <= 0:
        raise Fault(0x2615, f"Interval cannot be less than 1 {precision.unit}")
    if not sliding or offset >= length:
        raise unsupported("this INTERVAL")
    if sliding > length:
        raise Fault(0x2631, "sliding value no larger than the interval value")
    if -(-length // sliding) > _MAX_OVERLAP:
        raise unsupported("so many overlapping windows")
    if offset and sliding != length:
        raise unsupported("an offset with SLIDING")
    return Interval(length, sliding, offset, 0, precision)


def compile_window(
    compiler: QueryCompiler, select: Select, scope: Scope, items: Sequence[Item]
) -> Compiled:
    """Translate a query with a window."""
    window, time = select.window, scope.time
    if window is None or time is None or not scope.alias:
        raise unsupported("a window without a primary timestamp, or over a JOIN")
    if select.group or select.distinct or select.slimit is not None:
        raise unsupported("a window with GROUP BY, DISTINCT or SLIMIT")
    keys = compiler.keys(select.partition, scope, items)
    partition = ", ".join(key.text for _, key in keys)
    relation = f"{scope.relation}{compiler.where(scope, select.where)}"
    interval = None
    if window.kind == "interval":
        interval = interval_of(window, scope.precision)
        cut = _cut_intervals(interval, scope, time.sql, relation)
    else:
        cut = _cut_rows(compiler, window, scope, partition, relation)
    columns = {
        "_wstart": Sql(cut.start, TIMESTAMP),
        "_wend": Sql(cut.end, TIMESTAMP),
        "_wduration": Sql(f"({cut.end} - {cut.start})", BIGINT),
    }
    window_key = Sql(f"{scope.alias}.w", BIGINT)
    all_keys = list(keys)
    if window.kind == "state":
        all_keys.append(
            (window.exprs[0], RowCompiler(compiler.context, scope).compile(window.exprs[0]))
        )
    grouping = Grouping(
        all_keys,
        has_tags=any(
            isinstance(key, Name) and scope.find(key.table, key.name).role == "tbname"
            for key, _ in keys
        ),
        window=columns,
        picked=picked_call(items),
    )
    groups = GroupCompiler(compiler.context, scope, grouping)
    group_by = ", ".join([*(key.text for _, key in all_keys), window_key.text])
    if window.fill is not None:
        if interval is None or not interval.length or interval.sliding != interval.length:
            raise unsupported("FILL of months, or with SLIDING")
        if select.having is not None or (select.limit is not None and keys):
            raise unsupported("FILL with HAVING, or with LIMIT in each partition")
        source = f" FROM {cut.relation} GROUP BY {group_by}"
        return fill(compiler, select, scope, items, groups, interval, source)
    from .select import existence, limit_text, order_term, role_of

    compiled = [groups.compile(item.expr) for item in items]
    text = "SELECT " + ", ".join(f"{sql.text} AS o{i}" for i, sql in enumerate(compiled))
    text += f" FROM {cut.relation} GROUP BY {group_by}"
    conditions = existence(groups, items)
    if select.having is not None:
        conditions.append(groups.condition(select.having))
    if conditions:
        text += f" HAVING {' AND '.join(conditions)}"
    terms = [order_term(order, items, groups) for order in select.order]
    limit = limit_text(select.limit)
    if keys and select.limit is not None and not terms:
        number = f"row_number() OVER (PARTITION BY {partition} ORDER BY {cut.start})"
        low = select.limit.offset
        text += f" QUALIFY {number} BETWEEN {low + 1} AND {low + select.limit.count}"
        limit = ""
    default = ", ".join([*(key.text for _, key in keys), cut.start])
    text += f" ORDER BY {', '.join(terms) or default}"
    outputs = tuple(
        Output(item.name, sql.type, role_of(item, scope))
        for item, sql in zip(items, compiled, strict=True)
    )
    return Compiled(text + limit, outputs, scope.precision)


def _cut_intervals(interval: Interval, scope: Scope, time: str, relation: str) -> Cut:
    alias = scope.alias
    start = interval.start(time)
    if interval.sliding == interval.length:
        rows = f"SELECT {alias}.*, {start} AS w FROM {relation}"
    else:
        count = -(-interval.length // interval.sliding)
        rows = (
            f"SELECT * FROM (SELECT {alias}.*, {time} AS t, {start} - i * {interval.sliding} AS w"
            f" FROM (SELECT * FROM {relation}) AS {alias} CROSS JOIN range({count}) AS s(i))"
            f" WHERE t < w + {interval.length}"
        )
    window = f"{alias}.w"
    return Cut(f"({rows}) AS {alias}", window, interval.end(window))


def _cut_rows(
    compiler: QueryCompiler, window: Window, scope: Scope, partition: str, relation: str
) -> Cut:
    """Windows that the rows themselves make."""
    rows = RowCompiler(compiler.context, scope)
    time = scope.time.sql if scope.time is not None else ""
    alias = scope.alias
    by = f"PARTITION BY {partition} " if partition else ""
    over = f"OVER ({by}ORDER BY {time})"
    if window.kind == "count":
        size = int(window.durations[0])
        if size < 2:
            raise unsupported("COUNT_WINDOW of less than two rows")
        text = f"SELECT {alias}.*, (row_number() {over} - 1) // {size} AS w FROM {relation}"
    elif window.kind == "event":
        text = _event_rows(rows, window, alias, by, time, relation)
    else:
        if window.kind == "session":
            gap = times.duration(window.durations[0], scope.precision)
            if not gap or rows.compile(window.exprs[0]).text != time:
                raise unsupported("this SESSION")
            change = f"{time} - lag({time}) {over} > {gap}"
        else:
            state = rows.compile(window.exprs[0])
            if state.literal is not None:
                raise unsupported("a constant as the state")
            change = f"{state.text} IS DISTINCT FROM lag({state.text}) {over}"
            relation = f"(SELECT * FROM {relation}) AS {alias} WHERE {state.text} IS NOT NULL"
        marked = f"SELECT {alias}.*, CASE WHEN {change} THEN 1 ELSE 0 END AS new FROM {relation}"
        text = f"SELECT *, sum(new) {over} AS w FROM ({marked}) AS {alias}"
    return Cut(f"({text}) AS {alias}", f"min({time})", f"max({time})")


def _event_rows(
    rows: RowCompiler, window: Window, alias: str, by: str, time: str, relation: str
) -> str:
    """An event window runs from a row that starts it to the next row that ends it.

    The rows behind each ending one are a segment; the window is what follows the first start in
    its segment, if the segment has an end.
    """
    start, end = (f"coalesce({rows.condition(expr)}, false)" for expr in window.exprs)
    marked = f"SELECT {alias}.*, {start} AS starts, {end} AS ends FROM {relation}"
    before = "ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING"
    segments = (
        f"SELECT *, coalesce(count(*) FILTER (WHERE ends) OVER ({by}ORDER BY {time} {before}), 0)"
        f" AS w FROM ({marked}) AS {alias}"
    )
    inside = f"PARTITION BY {by.removeprefix('PARTITION BY ').strip() + ', ' if by else ''}w"
    return (
        f"SELECT * FROM ({segments}) AS {alias} QUALIFY bool_or(starts) OVER"
        f" ({inside} ORDER BY {time}) AND bool_or(ends) OVER ({inside})"
    )

"""The figures of ``bench.py``: tables of contestants, and how they are shown."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Protocol

OWN = ("aiotaos,", "aiotaos ")  # how its contestants are called
ONE_COLUMN = 6  # groups of a chart
OWN_COLOUR, OTHER_COLOUR, PEER_COLOUR = "#1f6fb4", "#b9bec5", "#6b727b"


class Named(Protocol):
    """Someone who takes part."""

    @property
    def name(self) -> str: ...
    @property
    def official(self) -> bool: ...


class Timed(Protocol):
    """Seconds, and CPU seconds of the client process."""

    @property
    def wall(self) -> float: ...
    @property
    def cpu(self) -> float: ...


@dataclass(frozen=True)
class Line:
    """What a contestant reached.

    Attributes:
        name: What it is called.
        values: One for each measurement, in the unit of the table.
        cpu: CPU seconds of each, where they count.
        is_peer: Whether the others may be compared with it.
        missing: Why it could not take part.
    """

    name: str
    values: Sequence[float] = ()
    cpu: Sequence[float] = ()
    is_peer: bool = False
    missing: str = ""

    @property
    def value(self) -> float:
        return median(self.values) if self.values else math.nan

    @property
    def cpu_seconds(self) -> float:
        return median(self.cpu) if self.cpu else math.nan

    @property
    def spread(self) -> float:
        """From the lowest to the highest, as a part of the median."""
        if len(self.values) < 2 or not self.value:
            return math.nan
        return (max(self.values) - min(self.values)) / self.value


@dataclass(frozen=True)
class Table:
    """The figures of a scenario.

    Attributes:
        name: Of the scenario.
        what: What was done.
        unit: Of the values.
        lines: The contestants.
        less_is_better: Whether the values are something that is spent.
    """

    name: str
    what: str
    unit: str
    lines: Sequence[Line] = field(default_factory=list)
    less_is_better: bool = False

    @property
    def peer(self) -> Line | None:
        """What the others are compared with: the best of those named for it that took part."""
        peers = [line for line in self.lines if line.is_peer and line.values]
        if not peers:
            return None
        choose = min if self.less_is_better else max
        return choose(peers, key=lambda line: line.value)

    @property
    def drawn(self) -> list[Line]:
        """Those of whom there are figures."""
        return [line for line in self.lines if line.values]

    def ratio(self, line: Line) -> float:
        return _divided(line.value, self.peer.value if self.peer else math.nan)

    def cpu_ratio(self, line: Line) -> float:
        return _divided(line.cpu_seconds, self.peer.cpu_seconds if self.peer else math.nan)

    def cells(self, line: Line) -> list[str]:
        """What the report shows of a contestant, but for its name."""
        if line.missing:
            return [f"not available: {line.missing}", "", "", ""]
        digits = 0 if self.unit.endswith("/s") else 1
        return [
            f"{line.value:,.{digits}f}",
            _shown(self.ratio(line), ".2f"),
            _shown(self.cpu_ratio(line), ".2f"),
            _shown(line.spread, ".0%"),
        ]


def _divided(value: float, other: float) -> float:
    return value / other if other else math.nan


def _shown(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)


def rates(
    name: str,
    what: str,
    unit: str,
    amount: int,
    contestants: Iterable[Named],
    found: Mapping[str, Sequence[Timed]],
    missing: Mapping[str, str],
) -> Table:
    """The table of a scenario in which everyone did the same amount of work."""
    lines = [
        Line(
            one.name,
            [amount / figures.wall for figures in found[one.name]],
            [figures.cpu for figures in found[one.name]],
            one.official,
            missing.get(one.name, ""),
        )
        for one in contestants
    ]
    return Table(name, what, unit, lines)


def as_text(tables: Iterable[Table]) -> str:
    """For the terminal."""
    parts = []
    for table in tables:
        better = ", less is better" if table.less_is_better else ""
        parts.append(f"\n{table.name}: {table.what}{better}")
        parts.append(f"  {'':<46} {table.unit:>13} {'ratio':>7} {'CPU':>6} {'spread':>7}")
        for line in table.lines:
            value, ratio, cpu, spread = table.cells(line)
            name = f"{line.name} *" if line is table.peer else line.name
            rest = f" {value}" if line.missing else f"{value:>14} {ratio:>7} {cpu:>6} {spread:>7}"
            parts.append(f"  {name:<46}{rest}")
    parts.append(
        "\nMedians; ratio, CPU: divided by those of the contestant with *; CPU is that of the\n"
        "client process, all threads; spread: from the lowest to the highest, of the median."
    )
    return "\n".join(parts)


def as_markdown(tables: Iterable[Table]) -> str:
    """For a document."""
    parts = []
    for table in tables:
        better = "; less is better" if table.less_is_better else ""
        parts.append(f"**{table.name}**: {table.what}{better}\n")
        parts.append(f"| | {table.unit} | ratio | CPU | spread |\n|---|---|---|---|---|")
        for line in table.lines:
            name = f"{line.name} (1)" if line is table.peer else line.name
            parts.append(f"| {' | '.join((name, *table.cells(line)))} |")
        parts.append("")
    parts.append("(1) What the ratios of the table are to.")
    return "\n".join(parts)


def as_json(tables: Iterable[Table], about: Mapping[str, Any]) -> str:
    """Everything that was measured."""

    def number(value: float) -> float | None:
        return None if math.isnan(value) else value

    def line(table: Table, one: Line) -> dict[str, Any]:
        return {
            "contestant": one.name,
            "is_peer": one is table.peer,
            "missing": one.missing or None,
            "median": number(one.value),
            "ratio": number(table.ratio(one)),
            "cpu_ratio": number(table.cpu_ratio(one)),
            "spread": number(one.spread),
            "values": list(one.values),
            "cpu_seconds": list(one.cpu),
        }

    scenarios = [
        {
            "scenario": table.name,
            "what": table.what,
            "unit": table.unit,
            "less_is_better": table.less_is_better,
            "contestants": [line(table, one) for one in table.lines],
        }
        for table in tables
    ]
    return json.dumps({"about": about, "scenarios": scenarios}, indent=2)


def draw(tables: Sequence[Table], path: Path, caption: str) -> None:
    """Bars of the ratios, a group for each scenario; many groups stand in two columns.

    Raises:
        ImportError: There is no matplotlib.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    shown = [table for table in tables if table.peer is not None and any(map(_is_own, table.drawn))]
    if not shown:
        raise SystemExit("there is nothing to draw: no scenario has figures of aiotaos and a peer")
    columns = _columns(shown) if len(shown) > ONE_COLUMN else [shown]
    tallest = max(sum(map(_height, column)) for column in columns)
    figure = pyplot.figure(figsize=(7.6 * len(columns), 0.26 * tallest + 0.5), layout="constrained")
    for part, column in zip(
        figure.subfigures(1, len(columns), squeeze=False)[0], columns, strict=True
    ):
        heights = [_height(table) for table in column]
        if tallest > sum(heights):
            heights.append(tallest - sum(heights))
        axes = part.subplots(
            len(heights), 1, gridspec_kw={"height_ratios": heights}, squeeze=False
        )[:, 0]
        for axis, table in zip(axes, column, strict=False):
            _draw_group(axis, table)
        for axis in axes[len(column) :]:
            axis.set_axis_off()
    figure.supxlabel(caption, fontsize=8, color=PEER_COLOUR)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _is_own(line: Line) -> bool:
    return line.name.startswith(OWN)


def _height(table: Table) -> float:
    return len(table.drawn) + 1.6


def _columns(tables: Sequence[Table]) -> list[Sequence[Table]]:
    """Two columns of nearly the same height, in this order."""
    heights = list(map(_height, tables))
    split = min(
        range(1, len(tables)), key=lambda place: max(sum(heights[:place]), sum(heights[place:]))
    )
    return [tables[:split], tables[split:]]


def _draw_group(axis: Any, table: Table) -> None:
    lines, places = table.drawn, range(len(table.drawn))
    ratios = [table.ratio(line) for line in lines]

    def colour(line: Line) -> str:
        if _is_own(line):
            return OWN_COLOUR
        return PEER_COLOUR if line is table.peer else OTHER_COLOUR

    axis.barh(places, ratios, color=list(map(colour, lines)), height=0.72)
    for place, line, ratio in zip(places, lines, ratios, strict=True):
        axis.annotate(
            "1" if line is table.peer else f"{ratio:.2f}",
            (ratio, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            fontweight="bold" if _is_own(line) else "normal",
        )
    axis.axvline(1, color=PEER_COLOUR, linewidth=0.8, linestyle=":", zorder=0)
    axis.set_yticks(places, [line.name for line in lines], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(0, max(ratios) * 1.12)
    axis.set_xticks([])
    axis.tick_params(length=0)
    for side in ("top", "right", "bottom"):
        axis.spines[side].set_visible(False)
    better = ", less is better" if table.less_is_better else ""
    axis.set_title(f"{table.name}: {table.unit}{better}", loc="left", fontsize=9)

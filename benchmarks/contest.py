"""What the reading benchmarks share: the table, the contest, and the report of its figures."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

import aiotaos

T = TypeVar("T")

START = 1_709_251_200_000
STEP = 1_003  # ms from row to row, so that the times have digits behind the second
TABLES = 100


class Figures(NamedTuple):
    """What one measurement gave: seconds, and CPU seconds of this process in this time."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Contestant(Generic[T]):
    """A way to read.

    Attributes:
        name: What it is called in the report.
        read: Reads what is to be read and tells what it took.
        official: Whether it is what the others are compared with.
    """

    name: str
    read: Callable[[T], Figures]
    official: bool = False


async def make_stable(conn: aiotaos.Connection[Any]) -> None:
    """Make the super table ``m`` in the current database: five columns and two tags."""
    await conn.execute(
        "create stable m (ts timestamp, f float, v int, d double, s varchar(16)) "
        "tags (g int, p nchar(24))"
    )


def stable_columns(rows: int) -> dict[str, npt.NDArray[Any]]:
    """The columns and tags of ``m``, of rows of 100 sub-tables, one behind the other."""
    number = np.arange(rows)
    table = number * TABLES // rows
    return {
        "ts": START + STEP * number,
        "f": (number / 7).astype(np.float32),
        "v": number.astype(np.int32),
        "d": number / 3,
        "s": np.array([f"state {i}" for i in range(1000)])[number % 1000],
        "g": table.astype(np.int32),
        "p": np.array([f"Halle {i}, Süd" for i in range(TABLES)])[table],
    }


async def fill(conn: aiotaos.Connection[Any], rows: int) -> None:
    """Write rows into 100 sub-tables of ``m``; ``v`` counts them."""
    columns = stable_columns(rows)
    names = np.array([f"d{i}" for i in range(TABLES)])[columns["g"]]
    await conn.insert("m", {"n": names, **columns}, tbname="n", tags=["g", "p"])


class UnavailableError(Exception):
    """A contestant cannot take part here; the message says why."""


def measure(
    contestants: Sequence[Contestant[T]],
    what: T,
    rows: int,
    rounds: int,
    *,
    unit: str = "rows/s",
    missing: dict[str, str] | None = None,
) -> dict[str, list[Figures]]:
    """Let everyone read in each round; the order turns.

    Args:
        contestants: Who takes part.
        what: What is given to each of them.
        rows: How much that is, for the printed rate.
        rounds: How often everyone reads.
        unit: Of the printed rate.
        missing: Takes the names of those that cannot take part, and why; without it they are not
            expected.
    """
    found: dict[str, list[Figures]] = {contestant.name: [] for contestant in contestants}
    for number in range(rounds):
        for contestant in contestants if number % 2 == 0 else reversed(contestants):
            if missing is not None and contestant.name in missing:
                continue
            gc.collect()
            try:
                figures = contestant.read(what)
            except UnavailableError as error:
                if missing is None:
                    raise
                missing[contestant.name] = str(error)
                continue
            found[contestant.name].append(figures)
            print(
                f"  round {number + 1}  {contestant.name:<34} {rows / figures.wall:>11,.0f} {unit}",
                flush=True,
            )
    return found


def report(
    contestants: Sequence[Contestant[T]], found: dict[str, list[Figures]], rows: int, peer: str
) -> None:
    """Print medians, and their ratios to the official contestant, which is called ``peer``."""

    def figures(name: str) -> tuple[float, float, float]:
        walls = [one.wall for one in found[name]]
        return median(walls), min(walls), median(one.cpu for one in found[name])

    wall, quickest, cpu = figures(next(one.name for one in contestants if one.official))
    print(
        f"\n{'':<34} {'rows/s':>11} {'ratio':>7} {'best':>11} {'ratio':>7} "
        f"{'CPU s':>8} {'ratio':>7}"
    )
    for contestant in contestants:
        own_wall, own_quickest, own_cpu = figures(contestant.name)
        print(
            f"{contestant.name:<34} {rows / own_wall:>11,.0f} {wall / own_wall:>7.2f} "
            f"{rows / own_quickest:>11,.0f} {quickest / own_quickest:>7.2f} "
            f"{own_cpu:>8.3f} {own_cpu / cpu:>7.3f}"
        )
    print(f"rows/s, CPU: medians; ratios to {peer}; CPU is that of this process.\n")

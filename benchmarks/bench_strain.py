"""Memory and stalls while ``bench.py`` streams a result, and what imports take: fresh processes.

Started by ``bench.py``, and by itself with ``--child``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import datasets
import taosws  # type: ignore[import-untyped]
from bench_reading import Connection, iterated, one_by_one
from bench_tables import Line, Table
from contest import UnavailableError
from datasets import DataSet, Sums
from strain import Strain, watched

import aiotaos

PATIENCE = 1800.0
IMPORTS = 10  # processes for each import

TIMED = """
import importlib, json, sys, time
names = json.loads(sys.argv[1])
start = time.perf_counter()
for name in names:
    try:
        importlib.import_module(name)
    except ImportError:
        pass
print(time.perf_counter() - start)
"""
NEEDED = """
import sys, json
before = set(sys.modules)
import aiotaos
new = [name for name in sys.modules if name not in before]
print(json.dumps([name for name in new if name.partition(".")[0] != "aiotaos"]))
"""


# Streaming.


async def arrow_batches(conn: Connection, sql: str, data: DataSet) -> Sums:
    """Record batches as they come."""
    import pyarrow.compute as pc

    result: Any = await conn.query(sql)
    if not hasattr(result, "arrow_batches"):
        raise UnavailableError("this aiotaos has no Result.arrow_batches")
    count = total = 0
    async for batch in result.arrow_batches():
        count += batch.num_rows
        total += pc.sum(batch.column(data.place())).as_py()
    return count, total


def own(
    stream: Callable[[Connection, str, DataSet], Awaitable[Sums]],
) -> Callable[[str, DataSet, int], Awaitable[Strain]]:
    async def run(dsn: str, data: DataSet, times: int) -> Strain:
        async with aiotaos.connect(dsn) as conn:
            await stream(conn, data.warm_up, data)
            found, sums = await watched(lambda: stream(conn, data.repeated(times), data))
        data.check(sums, times)
        return found

    return run


async def official(dsn: str, data: DataSet, times: int) -> Strain:
    """taos-ws-py in a thread, as a program with an event loop has to use it."""
    conn = await asyncio.to_thread(taosws.connect, dsn)
    await asyncio.to_thread(iterated, conn, data.warm_up, data)
    found, sums = await watched(
        lambda: asyncio.to_thread(iterated, conn, data.repeated(times), data)
    )
    data.check(sums, times)
    return found


STREAMS: dict[str, Callable[[str, DataSet, int], Awaitable[Strain]]] = {
    "aiotaos, async for": own(one_by_one),
    "aiotaos, arrow_batches": own(arrow_batches),
    "taos-ws-py, for row, in a thread": official,
}
STREAMS_PEER = "taos-ws-py, for row, in a thread"


def child(dsn: str, name: str, rows: int, times: int) -> None:
    """Measure, and print the figures for :func:`strains`."""

    async def run() -> Strain:
        return await STREAMS[name](dsn, datasets.columns(rows), times)

    try:
        found: dict[str, Any] = asyncio.run(run())._asdict()
    except UnavailableError as error:
        found = {"missing": str(error)}
    print(json.dumps(found))


def measured(dsn: str, name: str, rows: int, times: int) -> Strain:
    """Measure in a fresh process."""
    done = subprocess.run(
        [sys.executable, __file__, f"--child={name}", f"--rows={rows}", f"--times={times}"],
        env=os.environ | {"AIOTAOS_DSN": dsn},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    answer = json.loads(done.stdout)
    if "missing" in answer:
        raise UnavailableError(answer["missing"])
    return Strain(**answer)


def strains(dsn: str, rows: int, times: int, rounds: int) -> list[Table]:
    """Memory and the longest stall of everyone who streams."""
    found: dict[str, list[Strain]] = {name: [] for name in STREAMS}
    missing: dict[str, str] = {}
    for number in range(rounds):
        for name in STREAMS if number % 2 == 0 else reversed(STREAMS):
            if name in missing:
                continue
            try:
                one = measured(dsn, name, rows, times)
            except UnavailableError as error:
                missing[name] = str(error)
                continue
            found[name].append(one)
            print(
                f"  round {number + 1}  {name:<34} {one.growth:>8.1f} MiB "
                f"{one.gap * 1000:>8.1f} ms",
                flush=True,
            )

    def lines(value: Callable[[Strain], float]) -> list[Line]:
        return [
            Line(
                name,
                [value(one) for one in all],
                is_peer=name == STREAMS_PEER,
                missing=missing.get(name, ""),
            )
            for name, all in found.items()
        ]

    what = f"while {rows * times:,} rows are streamed"
    return [
        Table(
            "memory",
            f"growth of the peak of resident memory {what}",
            "MiB",
            lines(lambda one: one.growth),
            less_is_better=True,
        ),
        Table(
            "stall",
            f"longest time in which the event loop ran nothing else {what}",
            "ms",
            lines(lambda one: one.gap * 1000),
            less_is_better=True,
        ),
    ]


# Imports.


def python(cache: str, code: str, *arguments: str) -> str:
    """Run code in a fresh process that keeps compiled modules in this directory."""
    environment = os.environ | {"PYTHONPYCACHEPREFIX": cache}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    return done.stdout


def imports() -> list[Table]:
    """What importing takes: aiotaos, what it imports itself, and taos-ws-py."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as cache:
        asked = {
            "aiotaos": ["aiotaos"],
            "what aiotaos imports": json.loads(python(cache, NEEDED)),
            "taos-ws-py": ["taosws"],
        }
        for number in range(IMPORTS + 1):
            for name, modules in asked.items():
                taken = float(python(cache, TIMED, json.dumps(modules))) * 1000
                if number:  # the first time modules are compiled
                    found.setdefault(name, []).append(taken)
    both: Sequence[tuple[float, float]] = list(
        zip(found["aiotaos"], found["what aiotaos imports"], strict=True)
    )
    lines = [
        Line("aiotaos, with what it imports", found["aiotaos"]),
        Line("aiotaos alone: the difference", [whole - needed for whole, needed in both]),
        Line("numpy, websockets, msgspec, … alone", found["what aiotaos imports"]),
        Line("taos-ws-py", found["taos-ws-py"], is_peer=True),
    ]
    what = f"time of an import, {IMPORTS} fresh processes each"
    return [Table("import", what, "ms", lines, less_is_better=True)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", choices=STREAMS, required=True)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--times", type=int, required=True)
    given = parser.parse_args()
    child(os.environ["AIOTAOS_DSN"], given.child, given.rows, given.times)

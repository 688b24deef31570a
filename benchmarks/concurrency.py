"""How fast small queries are answered, many at a time: aiotaos beside taos-ws-py.

    python benchmarks/concurrency.py [--dsn DSN] [--queries 5000] [--workers 16] [--rounds 5]

Workers (tasks, or threads) share a number of queries, each of which returns one row: over a pool,
over a single connection, and with taos-ws-py over a connection for each thread. Sessions stand and
are warm before the clock starts; every answer is checked. One contestant runs at a time, and the
order turns with each round. Then: what it costs to take an idle connection out of the pool and to
give it back.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import platform
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from statistics import median
from typing import Any, NamedTuple

import taosws  # type: ignore[import-untyped]
import uvloop

import aiotaos

DATABASE = "bench_concurrency"
START = 1_709_251_200_000
TABLES = 100
ROWS = 100  # of a sub-table
WARM_UP = 20  # queries of a worker before the clock starts
PAIRS = 20_000  # acquire and release


class Question(NamedTuple):
    """A kind of query.

    Attributes:
        name: What it is called in the report.
        sql: The query with a number, of which there is one for each query.
        answer: What the row says in the column ``column``.
        column: Counted from the end of the row.
    """

    name: str
    sql: Callable[[int], str]
    answer: Callable[[int], int]
    column: int

    def check(self, number: int, rows: Sequence[Sequence[Any]]) -> None:
        """Stop if the answer is wrong."""
        if len(rows) != 1 or rows[0][self.column] != self.answer(number):
            raise SystemExit(f"{self.sql(number)} returned {rows}")


QUESTIONS = (
    Question("select <n>", lambda n: f"select {n}", lambda n: n, 0),
    Question(
        "select last_row(*) from <sub-table>",
        lambda n: f"select last_row(*) from d{n % TABLES}",
        lambda n: n % TABLES * ROWS + ROWS - 1,
        1,
    ),
)


class Figures(NamedTuple):
    """What one measurement gave: seconds, and CPU seconds of this process in this time."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Contestant:
    """A way to ask.

    Attributes:
        name: What it is called in the report.
        ask: Asks so many queries of a kind and tells what it took.
        official: Whether it is what the others are compared with.
    """

    name: str
    ask: Callable[[str, Question, int], Figures]
    official: bool = False


# aiotaos.

Fetch = Callable[[str], Awaitable[list[Any]]]
Run = Callable[..., Figures]


async def asked(fetch: Fetch, question: Question, queries: int, workers: int) -> Figures:
    """Let tasks share the queries."""

    async def work(numbers: Any) -> None:
        for number in numbers:
            question.check(number, await fetch(question.sql(number)))

    async def share(count: int) -> None:
        numbers = iter(range(count))
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(work(numbers))

    await share(WARM_UP * workers)
    cpu, wall = time.process_time(), time.perf_counter()
    await share(queries)
    return Figures(time.perf_counter() - wall, time.process_time() - cpu)


def over_pool(
    workers: int, run: Run = asyncio.run, size: int | None = None
) -> Callable[[str, Question, int], Figures]:
    """A pool with a connection for each task, or with so many connections."""
    connections = size or workers

    async def ask(dsn: str, question: Question, queries: int) -> Figures:
        async with aiotaos.create_pool(
            dsn, database=DATABASE, min_size=connections, max_size=connections
        ) as pool:
            return await asked(pool.fetch, question, queries, workers)

    return lambda *arguments: run(ask(*arguments))


def over_one_connection(
    workers: int, run: Run = asyncio.run
) -> Callable[[str, Question, int], Figures]:
    """All tasks use the same connection."""

    async def ask(dsn: str, question: Question, queries: int) -> Figures:
        async with aiotaos.connect(dsn, database=DATABASE) as conn:
            return await asked(conn.fetch, question, queries, workers)

    return lambda *arguments: run(ask(*arguments))


# Clients that block.

BlockingFetch = Callable[[str], Sequence[Sequence[Any]]]


def asked_by_threads(
    connected: Callable[[], AbstractContextManager[BlockingFetch]],
    question: Question,
    queries: int,
    workers: int,
) -> Figures:
    """Let threads share the queries, each with a connection of its own."""
    numbers = iter(range(queries))
    lock = threading.Lock()
    times: list[tuple[float, float]] = []

    def note() -> None:
        times.append((time.process_time(), time.perf_counter()))

    # What the last one does who comes there: the main thread may wait long for the lock that
    # waiting threads hold.
    ready = threading.Barrier(workers + 1, action=note)
    faults: list[BaseException] = []

    def next_number() -> int | None:
        with lock:  # an iterator is for one thread at a time
            return next(numbers, None)

    def work() -> None:
        try:
            with connected() as fetch:
                for first in range(WARM_UP):
                    question.check(first, fetch(question.sql(first)))
                ready.wait()
                while (number := next_number()) is not None:
                    question.check(number, fetch(question.sql(number)))
                ready.wait()
        except BaseException as fault:
            faults.append(fault)
            ready.abort()

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    try:
        ready.wait()
        ready.wait()
    except threading.BrokenBarrierError:
        raise SystemExit(f"a thread failed: {faults}") from None
    for thread in threads:
        thread.join()
    (first_cpu, first), (last_cpu, last) = times
    return Figures(last - first, last_cpu - first_cpu)


def official(workers: int) -> Callable[[str, Question, int], Figures]:
    """Threads of taos-ws-py."""

    def ask(dsn: str, question: Question, queries: int) -> Figures:
        @contextmanager
        def connected() -> Iterator[BlockingFetch]:
            conn = taosws.connect(dsn)
            conn.execute(f"use {DATABASE}")
            yield lambda sql: list(conn.query(sql))
            conn.close()

        return asked_by_threads(connected, question, queries, workers)

    return ask


# Measuring.


async def make_database(dsn: str) -> str:
    """Sub-tables with some rows each; the version of the server."""
    async with aiotaos.connect(dsn) as conn:
        await conn.execute(f"drop database if exists {DATABASE}")
        await conn.execute(f"create database {DATABASE} keep 36500 vgroups 2")
        await conn.select_db(DATABASE)
        await conn.execute("create stable m (ts timestamp, v int, d double) tags (g int)")
        rows = [
            (f"d{table}", table, START + place, table * ROWS + place, place / 3)
            for table in range(TABLES)
            for place in range(ROWS)
        ]
        await conn.insert("m", rows, tbname="n", tags=["g"], columns=["n", "g", "ts", "v", "d"])
        return conn.server_version


async def drop_database(dsn: str) -> None:
    async with aiotaos.connect(dsn) as conn:
        await conn.execute(f"drop database {DATABASE}")


def measure(
    dsn: str, contestants: Sequence[Contestant], question: Question, queries: int, rounds: int
) -> dict[str, list[Figures]]:
    """Let everyone ask the queries in each round."""
    found: dict[str, list[Figures]] = {contestant.name: [] for contestant in contestants}
    for number in range(rounds):
        for contestant in contestants if number % 2 == 0 else reversed(contestants):
            gc.collect()
            figures = contestant.ask(dsn, question, queries)
            found[contestant.name].append(figures)
            print(
                f"  round {number + 1}  {contestant.name:<40} {queries / figures.wall:>9,.0f}/s",
                flush=True,
            )
    return found


def report(
    contestants: Sequence[Contestant], found: dict[str, list[Figures]], queries: int
) -> None:
    """Print medians, and their ratios to taos-ws-py."""

    def figures(name: str) -> tuple[float, float, float]:
        walls = [one.wall for one in found[name]]
        return median(walls), min(walls), median(one.cpu for one in found[name])

    wall, quickest, cpu = figures(next(one.name for one in contestants if one.official))
    print(
        f"\n{'':<40} {'queries/s':>10} {'ratio':>6} {'best':>10} {'ratio':>6} "
        f"{'CPU µs/query':>13} {'ratio':>6}"
    )
    for contestant in contestants:
        own_wall, own_quickest, own_cpu = figures(contestant.name)
        print(
            f"{contestant.name:<40} {queries / own_wall:>10,.0f} {wall / own_wall:>6.2f} "
            f"{queries / own_quickest:>10,.0f} {quickest / own_quickest:>6.2f} "
            f"{own_cpu / queries * 1e6:>13.1f} {own_cpu / cpu:>6.2f}"
        )
    print("queries/s, CPU: medians; ratios to taos-ws-py; CPU is that of this process.\n")


async def borrow(dsn: str, workers: int, rounds: int) -> list[tuple[float, float]]:
    """µs of taking an idle connection and giving it back: ``async with``, and the two calls."""
    found = []
    async with aiotaos.create_pool(
        dsn, database=DATABASE, min_size=workers, max_size=workers
    ) as pool:
        await asyncio.gather(*(pool.fetch("select 1") for _ in range(WARM_UP * workers)))
        for _ in range(rounds):
            gc.collect()
            first = time.perf_counter()
            for _ in range(PAIRS):
                async with pool.acquire():
                    pass
            second = time.perf_counter()
            for _ in range(PAIRS):
                await pool.release(await pool.acquire())
            third = time.perf_counter()
            found.append(((second - first) / PAIRS * 1e6, (third - second) / PAIRS * 1e6))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--dsn", default=os.environ.get("AIOTAOS_DSN", "ws://root:taosdata@localhost:6041")
    )
    parser.add_argument("--queries", type=int, default=5_000)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    dsn, workers = arguments.dsn, arguments.workers
    contestants = [
        Contestant(f"aiotaos, pool of {workers}, {workers} tasks", over_pool(workers)),
        Contestant(f"aiotaos, one connection, {workers} tasks", over_one_connection(workers)),
        Contestant("the same pool, uvloop", over_pool(workers, uvloop.run)),
        Contestant("the same connection, uvloop", over_one_connection(workers, uvloop.run)),
        Contestant(f"taos-ws-py, {workers} connections and threads", official(workers), True),
    ]
    server = asyncio.run(make_database(dsn))
    print(
        f"aiotaos {aiotaos.__version__}, taos-ws-py {version('taos-ws-py')}, TDengine {server}, "
        f"Python {platform.python_version()}, {os.cpu_count()} CPUs ({platform.machine()})\n"
    )
    for question in QUESTIONS:
        print(f"{question.name}: {arguments.queries:,} queries, {workers} at a time")
        found = measure(dsn, contestants, question, arguments.queries, arguments.rounds)
        report(contestants, found, arguments.queries)
    pairs = asyncio.run(borrow(dsn, workers, arguments.rounds))
    for place, name in enumerate(("async with pool.acquire()", "acquire() and release()")):
        taken = [pair[place] for pair in pairs]
        print(f"{name:<26} {median(taken):>6.2f} µs (best {min(taken):.2f}), {workers} idle")
    asyncio.run(drop_database(dsn))


if __name__ == "__main__":
    main()

"""What ``bench.py`` measures: the scenarios, each with its contestants."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import bench_reading as reading
import bench_strain
import concurrency
import datasets
import insert
import subscription
import taosrest  # type: ignore[import-untyped]
import taosws  # type: ignore[import-untyped]
from bench_reading import Connection, Target
from bench_tables import Table, rates
from contest import Contestant, Figures, measure

import aiotaos

TASKS = 64
POOL = 16
NATIVE_POOL = 8
WARM_UP = 20  # queries before the clock starts
CONCURRENT = 5  # times as many queries as one after the other
WRITTEN = 5  # times as many rows as are read
STREAMED = 25
STRAIN_ROUNDS = 3  # at most: they take long and differ little
TABLES = 100
# So a client with libtaos in its own process sends nothing at all for select <n>, while over
# WebSocket a message goes to the adapter, which has libtaos, and back.
UNASKED = "; needs no taosd, libtaos computes it"


@dataclass(frozen=True)
class Bench:
    """What is asked for.

    Attributes:
        dsn: Of the server.
        is_canned: Whether it only has canned blocks.
        rows: Of the table that most scenarios read.
        queries: Small queries that are asked one after the other.
        rounds: Measurements of each contestant.
    """

    dsn: str
    is_canned: bool
    rows: int
    queries: int
    rounds: int

    def target(self, name: str) -> Target:
        """A table to read."""
        return Target(self.dsn, self.is_canned, datasets.named(name, self.rows))


@dataclass(frozen=True)
class Race:
    """A scenario in which everyone does the same amount of work.

    Attributes:
        name: Of the scenario.
        what: What is done, with ``{amount}``.
        unit: Of the rate.
        contestants: Who takes part.
        given: What is given to each of them.
        amount: How much work that is.
        around: What has to be there meanwhile.
    """

    name: str
    what: str
    unit: str
    contestants: Sequence[Contestant[Any]]
    given: Callable[[Bench], Any]
    amount: Callable[[Bench], int]
    around: Callable[[Bench], AbstractContextManager[None]] = lambda _: nullcontext()
    needs_server: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def run(self, bench: Bench) -> list[Table]:
        given, amount = self.given(bench), self.amount(bench)
        missing: dict[str, str] = {}
        with self.around(bench):
            found = measure(
                self.contestants, given, amount, bench.rounds, unit=self.unit, missing=missing
            )
        what = self.what.format(amount=f"{amount:,}")
        return [rates(self.name, what, self.unit, amount, self.contestants, found, missing)]


@dataclass(frozen=True)
class Special:
    """A scenario that measures in its own way.

    Attributes:
        names: Of its tables.
        run: Measures.
        needs_server: Whether canned blocks are not enough for it.
    """

    names: tuple[str, ...]
    run: Callable[[Bench], list[Table]]
    needs_server: bool = False


Scenario = Race | Special


# Large results.


def table(
    name: str,
    what: str,
    source: str,
    contestants: Sequence[Contestant[Target]],
) -> Race:
    """A scenario that reads a table."""
    return Race(
        name,
        f"{{amount}} rows, {what}",
        "rows/s",
        contestants,
        lambda bench: bench.target(source),
        lambda bench: bench.target(source).data.rows,
    )


# Small queries.


@dataclass(frozen=True)
class Questions:
    """Small queries, each for a number.

    Attributes:
        target: Where they are asked.
        count: How many.
        question: Of which kind.
    """

    target: Target
    count: int
    question: concurrency.Question = concurrency.QUESTIONS[0]

    def check(self, answers: Sequence[Any]) -> None:
        if list(answers) != list(range(self.count)):
            raise SystemExit("an answer to select <n> is not the number")


def questions(bench: Bench) -> Questions:
    return Questions(bench.target("m"), bench.queries)


def own_small(
    ask: Callable[[Connection, str], Awaitable[Any]], *, over_libtaos: bool = False
) -> Callable[[Questions], Figures]:
    async def run(asked: Questions) -> Figures:
        target = asked.target
        async with aiotaos.connect(target.native_dsn if over_libtaos else target.dsn) as conn:
            for number in range(WARM_UP):
                await ask(conn, f"select {number}")
            cpu, wall = time.process_time(), time.perf_counter()
            answers = [await ask(conn, f"select {number}") for number in range(asked.count)]
            figures = Figures(time.perf_counter() - wall, time.process_time() - cpu)
        asked.check(answers)
        return figures

    return lambda asked: asyncio.run(run(asked))


async def fetchval(conn: Connection, sql: str) -> Any:
    return await conn.fetchval(sql)


async def fetch(conn: Connection, sql: str) -> Any:
    return (await conn.fetch(sql))[0][0]


def other_small(
    connect: Callable[[Target], tuple[Any, Any]], ask: Callable[[Any, str], Any]
) -> Callable[[Questions], Figures]:
    def run(asked: Questions) -> Figures:
        conn, source = connect(asked.target)
        for number in range(WARM_UP):
            ask(source, f"select {number}")
        cpu, wall = time.process_time(), time.perf_counter()
        answers = [ask(source, f"select {number}") for number in range(asked.count)]
        figures = Figures(time.perf_counter() - wall, time.process_time() - cpu)
        conn.close()
        asked.check(answers)
        return figures

    return run


def native_threads(workers: int, database: str | None = None) -> Callable[[Questions], Figures]:
    """Threads of taospy's native client."""

    def run(asked: Questions) -> Figures:
        question = {
            "kind": "ask",
            "question": concurrency.QUESTIONS.index(asked.question),
            "queries": asked.count,
            "workers": workers,
            "database": database,
        }
        answer = reading.with_library("bench_native.py", asked.target, question)
        return Figures(answer["wall"], answer["cpu"])

    return run


def with_cursor(cursor: Any, sql: str) -> Any:
    cursor.execute(sql)
    return cursor.fetchall()[0][0]


def with_new_cursor(conn: Any, sql: str) -> Any:
    return with_cursor(conn.cursor(), sql)


def with_query(conn: Any, sql: str) -> Any:
    return list(conn.query(sql))[0][0]  # noqa: RUF015 - to its end, as the others


def rest_cursor(target: Target) -> tuple[Any, Any]:
    options = target.options
    conn = taosrest.connect(url=target.url, user=options.user, password=options.password)
    return conn, conn.cursor()


def ws_connection(target: Target) -> tuple[Any, Any]:
    conn = taosws.connect(target.dsn)
    return conn, conn


def ws_cursor(target: Target) -> tuple[Any, Any]:
    conn = taosws.connect(target.dsn)
    return conn, conn.cursor()


SMALL = (
    Contestant("aiotaos, fetchval", own_small(fetchval)),
    Contestant("aiotaos, fetch", own_small(fetch)),
    Contestant("aiotaos, native, fetch", own_small(fetch, over_libtaos=True)),
    Contestant("taos-ws-py, one cursor", other_small(ws_cursor, with_cursor), True),
    Contestant("taos-ws-py, new cursors", other_small(ws_connection, with_new_cursor), True),
    Contestant("taos-ws-py, conn.query()", other_small(ws_connection, with_query), True),
    Contestant("taospy, native, one cursor", native_threads(1)),
    Contestant("taosrest, cursor", other_small(rest_cursor, with_cursor)),
)


def at_once(
    ask: Callable[[str, concurrency.Question, int], concurrency.Figures],
    *,
    over_libtaos: bool = False,
) -> Callable[[Questions], Figures]:
    def run(asked: Questions) -> Figures:
        dsn = asked.target.native_dsn if over_libtaos else asked.target.dsn
        found = ask(dsn, asked.question, asked.count)
        return Figures(found.wall, found.cpu)

    return run


def libtaos_alone(asked: Questions) -> Figures:
    """What the library can do at most: nothing is decoded."""
    sql, answer = asked.question.sql, asked.question.answer
    question = {
        "database": concurrency.DATABASE,
        "connections": NATIVE_POOL,
        "at_once": TASKS,
        "warm_up": [sql(number) for number in range(WARM_UP * TASKS)],
        "sql": [sql(number) for number in range(asked.count)],
        "answers": [answer(number) for number in range(asked.count)],
    }
    told = reading.with_library("bench_libtaos.py", asked.target, question)
    return Figures(told["wall"], told["cpu"])


CONCURRENT_ONES = (
    Contestant("aiotaos, one connection", at_once(concurrency.over_one_connection(TASKS))),
    Contestant(f"aiotaos, pool of {POOL}", at_once(concurrency.over_pool(TASKS, size=POOL))),
    Contestant(
        "aiotaos, native, one connection",
        at_once(concurrency.over_one_connection(TASKS), over_libtaos=True),
    ),
    Contestant(
        f"aiotaos, native, pool of {NATIVE_POOL}",
        at_once(concurrency.over_pool(TASKS, size=NATIVE_POOL), over_libtaos=True),
    ),
    Contestant(f"taos-ws-py, {TASKS} threads", at_once(concurrency.official(TASKS)), True),
    Contestant(f"taospy, native, {TASKS} threads", native_threads(TASKS, concurrency.DATABASE)),
    Contestant("libtaos alone", libtaos_alone),
)


def concurrent(name: str, number: int, remark: str, *, needs_server: bool = False) -> Race:
    """A scenario of one of the questions of concurrency.py."""
    question = concurrency.QUESTIONS[number]
    return Race(
        name,
        f"{{amount}} times {question.name}, {TASKS} at a time{remark}",
        "queries/s",
        CONCURRENT_ONES,
        lambda bench: Questions(bench.target("m"), CONCURRENT * bench.queries, question),
        lambda bench: CONCURRENT * bench.queries,
        concurrency_database,
        needs_server,
    )


@contextmanager
def concurrency_database(bench: Bench) -> Iterator[None]:
    if bench.is_canned:
        yield
        return
    asyncio.run(concurrency.make_database(bench.dsn))
    try:
        yield
    finally:
        asyncio.run(concurrency.drop_database(bench.dsn))


# Those that need a TDengine.


def written(bench: Bench) -> list[Table]:
    """Bulk insertion, of insert.py: two ways of aiotaos', and the best batches of taos-ws-py's."""
    rows = max(1, WRITTEN * bench.rows // TABLES) * TABLES
    everyone = insert.bulk_contestants(TABLES, rows // TABLES)
    largest = [one for one in everyone if one.official][-1]
    chosen = [one for one in everyone if one.name.endswith((", numpy", ", Arrow"))] + [largest]
    found = insert.measure(bench.dsn, chosen, rows, 0, bench.rounds)
    what = f"{rows:,} rows into {TABLES} sub-tables"
    return [rates("insert", what, "rows/s", rows, chosen, found, {})]


def subscribed(bench: Bench) -> list[Table]:
    """A topic of all columns, of subscription.py."""
    rows = WRITTEN * bench.rows
    what, topic = next(iter(subscription.TOPICS.items()))
    everyone = subscription.CONTESTANTS
    try:
        asyncio.run(subscription.make_database(bench.dsn, rows))
        log = subscription.Log(bench.dsn, topic, rows)
        found = measure(everyone, log, rows, bench.rounds)
    finally:
        asyncio.run(subscription.drop_all(bench.dsn))
    text = f"{rows:,} rows of a topic as {what}"
    return [rates("subscription", text, "rows/s", rows, everyone, found, {})]


def streamed(bench: Bench) -> list[Table]:
    rounds = min(bench.rounds, STRAIN_ROUNDS)
    return bench_strain.strains(bench.dsn, bench.rows, STREAMED, rounds)


SCENARIOS: Sequence[Scenario] = (
    table("fetchall", "7 columns, as a list of tuples", "m", reading.ROWS),
    table("async for", "7 columns, row by row", "m", reading.STREAM),
    table("arrow", "7 columns, as an Arrow table", "m", reading.ARROW),
    table("pandas", "7 columns, as a DataFrame", "m", reading.PANDAS),
    table("polars", "7 columns, as a DataFrame", "m", reading.POLARS),
    table("numpy", "7 columns, as arrays", "m", reading.NUMPY),
    table("wide", "100 columns, as a list of tuples", "wide", reading.ROWS),
    table("strings", "5 columns of text, as a list of tuples", "strings", reading.ROWS),
    table("nulls", "10 columns, half NULL, as a list of tuples", "gaps", reading.ROWS),
    Race(
        "small",
        f"{{amount}} times select <n>, one after the other{UNASKED}",
        "queries/s",
        SMALL,
        questions,
        lambda bench: bench.queries,
    ),
    concurrent("concurrent", 0, UNASKED),
    concurrent("concurrent last_row", 1, "; the server answers", needs_server=True),
    Special(("insert",), written, needs_server=True),
    Special(("subscription",), subscribed, needs_server=True),
    Special(("memory", "stall"), streamed),
    Special(("import",), lambda _: bench_strain.imports()),
)

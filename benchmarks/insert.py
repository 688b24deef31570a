"""How fast rows are written: aiotaos beside the stmt2 interface of taos-ws-py.

    python benchmarks/insert.py [--dsn DSN] [--rows 2000000] [--tables 100] [--rounds 3]

Every measurement writes new rows into a database of its own, which is dropped behind it; what is
stored is counted and summed up each time. The order of the contestants turns with each round.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import taosws  # type: ignore[import-untyped]

import aiotaos
from aiotaos.binding import Shape, TableRows
from aiotaos.insert import BATCH_ROWS, Target
from aiotaos.protocol.bind import Binding, stmt2_bind_request
from aiotaos.sources import batches
from aiotaos.types import StatementField

DATABASE = "bench_insert"
START = 1_709_251_200_000
TABLE_ROWS = 20_000  # rows of a table in one bind; stmt2 takes 32,767 at most
EXECUTE_ROWS = (20_000, 60_000, 200_000)
SUPER_TABLE = (
    "CREATE STABLE m (ts TIMESTAMP, a INT, b BIGINT, c FLOAT, d DOUBLE, e VARCHAR(16)) TAGS (g INT)"
)
STATEMENT = "INSERT INTO ? USING m (g) TAGS(?) (ts, a, b, c, d, e) VALUES(?,?,?,?,?,?)"
TEXTS = np.array([f"v{i}" for i in range(1000)])

Columns = dict[str, npt.NDArray[Any]]


class Piece(NamedTuple):
    """Rows of one table, as Python lists."""

    name: str
    tag: int
    columns: list[list[Any]]


Batches = list[list[Piece]]


@dataclass(frozen=True)
class Figures:
    """What one measurement gave.

    Attributes:
        wall: Seconds.
        cpu: CPU seconds of this process in this time, all threads.
        converting: CPU seconds of making columns out of Python's values, where it can be told.
        encoding: CPU seconds of conversion and of the bind message; with taos-ws-py those of its
            conversion and of ``bind()``, which sends the message and waits for the answer too.
    """

    wall: float
    cpu: float
    converting: float
    encoding: float


@dataclass(frozen=True)
class Contestant:
    """A way to write the rows.

    Attributes:
        name: What it is called in the report.
        write: Writes all rows and tells what it took.
        official: Whether it is what the others are compared with.
    """

    name: str
    write: Callable[[str], Figures]
    official: bool = False


# The rows.


def name_of(table: int) -> str:
    return f"d{table:05d}"


def flat(tables: npt.NDArray[np.int64], places: npt.NDArray[np.int64], rows: int) -> Columns:
    """Columns of rows, given the table of each row and its place in it."""
    number = tables * rows + places
    return {
        "n": np.array([name_of(table) for table in range(int(tables.max()) + 1)])[tables],
        "g": tables.astype(np.int32),
        "ts": START + places,
        "a": number.astype(np.int32),
        "b": number,
        "c": number.astype(np.float32),
        "d": number.astype(np.float64),
        "e": TEXTS[number % len(TEXTS)],
    }


def pieces(columns: Columns, table_rows: int) -> Iterator[Piece]:
    """Rows that stand table by table, cut into pieces of one table each."""
    names, tags, *values = (column.tolist() for column in columns.values())
    start = 0
    while start < len(names):
        end = min(start + table_rows, len(names))
        end = next((i for i in range(start, end) if names[i] != names[start]), end)
        yield Piece(names[start], tags[start], [column[start:end] for column in values])
        start = end


def grouped(given: Sequence[Piece], rows: int) -> Batches:
    """Batches of at least so many rows, except for the last."""
    found: Batches = [[]]
    count = 0
    for piece in given:
        if count >= rows:
            found.append([])
            count = 0
        found[-1].append(piece)
        count += len(piece.columns[0])
    return found


# aiotaos.


async def fields_of_statement(conn: aiotaos.Connection) -> tuple[StatementField, ...]:
    async with await conn.prepare(STATEMENT) as statement:
        return statement.fields


def encoding_seconds(given: Iterable[Iterable[Binding]]) -> float:
    """CPU seconds of making bind messages, which are dropped, and of what is given lazily."""
    start = time.process_time()
    for bindings in given:
        for binding in bindings:
            stmt2_bind_request(1, 1, binding)
    return time.process_time() - start


async def encode_data(conn: aiotaos.Connection, data: Sequence[Any]) -> float:
    """CPU seconds of what :meth:`aiotaos.Connection.insert` does before it sends."""
    shape = Shape(await fields_of_statement(conn))
    target = Target("m", "n", ["g"], None)
    bound = [
        target.statement(batch)[1] for part in data async for batch in batches(part, BATCH_ROWS)
    ]
    return encoding_seconds(shape.bind_columns(columns, target.table_names) for columns in bound)


def insert(data: Sequence[Any]) -> Callable[[str], Figures]:
    """Write with :meth:`aiotaos.Connection.insert`, one call for each item of the data."""

    async def write(dsn: str) -> Figures:
        async with aiotaos.connect(dsn, database=DATABASE) as conn:
            encoding = await encode_data(conn, data)
            cpu, wall = time.process_time(), time.perf_counter()
            for part in data:
                await conn.insert("m", part, tbname="n", tags=["g"])
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return Figures(wall, cpu, math.nan, encoding)

    return lambda dsn: asyncio.run(write(dsn))


def prepared(data: Batches) -> Callable[[str], Figures]:
    """Write with a prepared statement, the batches as taos-ws-py gets them."""

    def tables(batch: list[Piece]) -> list[TableRows]:
        return [TableRows(piece.columns, piece.name, [piece.tag]) for piece in batch]

    async def write(dsn: str) -> Figures:
        async with aiotaos.connect(dsn, database=DATABASE) as conn:
            shape = Shape(await fields_of_statement(conn))
            encoding = encoding_seconds(shape.bind_tables(tables(batch)) for batch in data)
            cpu, wall = time.process_time(), time.perf_counter()
            async with await conn.prepare(STATEMENT) as statement:
                for batch in data:
                    await statement.bind_tables(tables(batch))
                    await statement.execute()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return Figures(wall, cpu, math.nan, encoding)

    return lambda dsn: asyncio.run(write(dsn))


# taos-ws-py.


def official_view(piece: Piece) -> Any:
    ts, a, b, c, d, e = piece.columns
    return taosws.stmt2_bind_param_view(
        table_name=piece.name,
        tags=[taosws.int_to_tag(piece.tag)],
        columns=[
            taosws.millis_timestamps_to_column(ts),
            taosws.ints_to_column(a),
            taosws.big_ints_to_column(b),
            taosws.floats_to_column(c),
            taosws.doubles_to_column(d),
            taosws.varchar_to_column(e),
        ],
    )


def official(data: Batches) -> Callable[[str], Figures]:
    """Write with taos-ws-py's stmt2."""

    def write(dsn: str) -> Figures:
        conn = taosws.connect(dsn)
        conn.execute(f"use {DATABASE}")
        converting = binding = 0.0
        cpu, wall = time.process_time(), time.perf_counter()
        statement = conn.stmt2_statement()
        statement.prepare(STATEMENT)
        for batch in data:
            first = time.process_time()
            views = [official_view(piece) for piece in batch]
            second = time.process_time()
            statement.bind(views)
            third = time.process_time()
            statement.execute()
            converting += second - first
            binding += third - second
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        statement.close()
        conn.close()
        return Figures(wall, cpu, converting, converting + binding)

    return write


# Measuring.


async def make_database(dsn: str, tables: int) -> None:
    """A fresh database, with so many sub-tables."""
    async with aiotaos.connect(dsn) as conn:
        await conn.execute(f"drop database if exists {DATABASE}")
        await conn.execute(f"create database {DATABASE} keep 36500 vgroups 2")
        await conn.select_db(DATABASE)
        await conn.execute(SUPER_TABLE)
        for start in range(0, tables, 1000):
            made = range(start, min(start + 1000, tables))
            listed = " ".join(f"{name_of(table)} USING m TAGS ({table})" for table in made)
            await conn.execute(f"create table {listed}")


async def check_and_drop(dsn: str, rows: int) -> None:
    async with aiotaos.connect(dsn, database=DATABASE) as conn:
        found = await conn.fetchrow("select count(*), sum(b) from m")
        if found != (rows, rows * (rows - 1) // 2):
            raise SystemExit(f"{rows} rows were written, count and sum of b are {found}")
        await conn.execute(f"drop database {DATABASE}")


def measure(
    dsn: str, contestants: Sequence[Contestant], rows: int, tables: int, rounds: int
) -> dict[str, list[Figures]]:
    """Let everyone write the rows in each round; ``tables`` are made beforehand."""
    found: dict[str, list[Figures]] = {contestant.name: [] for contestant in contestants}
    for number in range(rounds):
        for contestant in contestants if number % 2 == 0 else reversed(contestants):
            asyncio.run(make_database(dsn, tables))
            gc.collect()
            figures = contestant.write(dsn)
            asyncio.run(check_and_drop(dsn, rows))
            found[contestant.name].append(figures)
            print(
                f"  round {number + 1}  {contestant.name:<33} {rows / figures.wall:>10,.0f} rows/s",
                flush=True,
            )
    return found


def report(contestants: Sequence[Contestant], found: dict[str, list[Figures]], rows: int) -> None:
    """Print medians, and their ratios to the best contestant of taos-ws-py."""

    def middle(name: str, what: Callable[[Figures], float]) -> float:
        return median(map(what, found[name]))

    best = min(
        (contestant.name for contestant in contestants if contestant.official),
        key=lambda name: middle(name, lambda figures: figures.wall),
    )
    wall = middle(best, lambda figures: figures.wall)
    quickest = min(figures.wall for figures in found[best])
    encoding = middle(best, lambda figures: figures.encoding)
    print(
        f"\n{'':<33} {'rows/s':>10} {'ratio':>6} {'best':>10} {'ratio':>6} {'CPU s':>7} "
        f"{'encoding':>9} {'ratio':>6}  conversion alone"
    )
    for contestant in contestants:
        name = contestant.name
        own_wall = middle(name, lambda figures: figures.wall)
        own_quickest = min(figures.wall for figures in found[name])
        own_encoding = middle(name, lambda figures: figures.encoding)
        converting = middle(name, lambda figures: figures.converting)
        print(
            f"{name:<33} {rows / own_wall:>10,.0f} {wall / own_wall:>6.2f} "
            f"{rows / own_quickest:>10,.0f} {quickest / own_quickest:>6.2f} "
            f"{middle(name, lambda figures: figures.cpu):>7.3f} "
            f"{own_encoding:>9.3f} {own_encoding / encoding:>6.2f}"
            + ("" if math.isnan(converting) else f"  {converting:.3f}")
        )
    print(f"rows/s, CPU, encoding: medians; ratios to {best}.\n")


def bulk_contestants(tables: int, table_rows: int) -> list[Contestant]:
    """Everyone who writes long stretches of rows for each table, with the rows."""
    places = np.arange(tables * table_rows)
    columns = flat(places // table_rows, places % table_rows, table_rows)
    lists = {name: column.tolist() for name, column in columns.items()}
    by_table = list(pieces(columns, TABLE_ROWS))
    cut = {size: grouped(by_table, size) for size in EXECUTE_ROWS}
    return [
        Contestant("aiotaos insert, numpy", insert([columns])),
        Contestant("aiotaos insert, Arrow", insert([pa.table(columns)])),
        Contestant("aiotaos insert, lists", insert([lists])),
        *(
            Contestant(f"aiotaos statement, lists, {size:,}", prepared(data))
            for size, data in cut.items()
        ),
        *(
            Contestant(f"taos-ws-py, lists, {size:,}", official(data), official=True)
            for size, data in cut.items()
        ),
    ]


def bulk(dsn: str, tables: int, table_rows: int, rounds: int) -> None:
    """Long stretches of rows for each table."""
    contestants = bulk_contestants(tables, table_rows)
    rows = tables * table_rows
    print(f"{rows:,} rows into {tables:,} sub-tables, table by table")
    report(contestants, measure(dsn, contestants, rows, 0, rounds), rows)


def one_row_each(dsn: str, tables: int, table_rows: int, rounds: int) -> None:
    """A row of every table at a time, as devices send them."""
    everyone = np.arange(tables)
    given = [
        flat(everyone, np.full(tables, place, np.int64), table_rows) for place in range(table_rows)
    ]
    lists = [{name: column.tolist() for name, column in columns.items()} for columns in given]
    by_table = [list(pieces(columns, 1)) for columns in given]
    contestants = [
        Contestant("aiotaos insert, numpy", insert(given)),
        Contestant("aiotaos insert, lists", insert(lists)),
        Contestant("aiotaos statement, lists", prepared(by_table)),
        Contestant("taos-ws-py, lists", official(by_table), official=True),
    ]
    rows = tables * table_rows
    print(f"{tables:,} sub-tables (made beforehand) with one row each, {table_rows} times")
    report(contestants, measure(dsn, contestants, rows, tables, rounds), rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--dsn", default=os.environ.get("AIOTAOS_DSN", "ws://root:taosdata@localhost:6041")
    )
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--tables", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    table_rows = max(1, arguments.rows // arguments.tables)
    bulk(arguments.dsn, arguments.tables, table_rows, arguments.rounds)
    one_row_each(arguments.dsn, 100 * arguments.tables, 20, arguments.rounds)


if __name__ == "__main__":
    main()

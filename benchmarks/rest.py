"""How fast a large result is read over REST: aiotaos beside taosrest, and what memory it takes.

    python benchmarks/rest.py [--dsn http://…] [--rows 400000] [--rounds 5]

``select * from m`` gives seven columns. Sessions stand and are warm before the clock starts; number
of rows, sum and span of the times are checked behind it. One contestant runs at a time, and the
order turns with each round. A bare loop that throws the body away tells what the server can give.
Then, in a fresh process each: by how much reading raises the peak of resident memory, also with ten
times the rows, and how long it holds up the event loop.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import platform
import subprocess
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from statistics import median
from typing import Any

import aiohttp
import taosrest  # type: ignore[import-untyped]
from contest import START, STEP, Contestant, Figures, fill, make_stable, measure, report
from strain import Strain, watched

import aiotaos
from aiotaos.options import Options

DATABASE = "bench_rest"
TIMES = 10  # as many rows, where the larger result is asked for
QUERY = "select * from m"
WARM_UP = f"{QUERY} limit 5"

Row = Sequence[Any]
Sums = tuple[int, int]
Taken = Sums | list[Row]


@dataclass(frozen=True)
class Server:
    """Where the rows are.

    Attributes:
        dsn: As given.
        rows: Number of rows of the table.
    """

    dsn: str
    rows: int

    @property
    def options(self) -> Options:
        return Options.make(self.dsn)

    @property
    def url(self) -> str:
        scheme = "https" if self.options.tls else "http"
        return f"{scheme}://{self.options.addresses[0]}"

    def road(self, scheme: str) -> str:
        """The DSN for ``http`` or ``ws``."""
        return f"{scheme}{'s' * self.options.tls}://{self.dsn.partition('://')[2]}"

    def check(self, rows: Iterable[Row]) -> None:
        """Stop if these are not the rows of the table, in whatever order."""
        count = total = 0
        first, last = float("inf"), 0.0
        for row in rows:
            count += 1
            total += row[2]
            first, last = min(first, row[0].timestamp()), max(last, row[0].timestamp())
        found = (count, total, round(first * 1000), round(last * 1000))
        expected = (*self.sums(), START, START + STEP * (self.rows - 1))
        if found != expected:
            raise SystemExit(f"count, sum, first and last are {found}, not {expected}")

    def sums(self, times: int = 1) -> Sums:
        """Number of rows, and sum of the column ``v``, if the table is read so many times."""
        return times * self.rows, times * (self.rows * (self.rows - 1) // 2)


# aiotaos.

Connection = aiotaos.Connection[tuple[Any, ...]]
Take = Callable[[Connection], Awaitable[list[Any]]]


async def fetch(conn: Connection) -> list[Row]:
    return list(await conn.fetch(QUERY))


async def one_by_one(conn: Connection) -> list[Row]:
    return [row async for row in await conn.query(QUERY)]


async def blocks(conn: Connection) -> list[aiotaos.Block]:
    return [block async for block in (await conn.query(QUERY)).blocks()]


async def columns(conn: Connection) -> list[aiotaos.Block]:
    """Blocks whose columns are made as well: over REST that happens when they are asked for."""
    found = []
    async for block in (await conn.query(QUERY)).blocks():
        assert len(block.columns) == len(block.fields)
        found.append(block)
    return found


def own(scheme: str, take: Take, *, compression: bool = False) -> Callable[[Server], Figures]:
    """Read with aiotaos, over ``http`` or ``ws``."""

    async def read(server: Server) -> Figures:
        async with aiotaos.connect(
            server.road(scheme), database=DATABASE, compression=compression
        ) as conn:
            await conn.fetch(WARM_UP)
            cpu, wall = time.process_time(), time.perf_counter()
            taken = await take(conn)
            figures = Figures(time.perf_counter() - wall, time.process_time() - cpu)
        is_blocks = isinstance(taken[0], aiotaos.Block)
        server.check((row for block in taken for row in block) if is_blocks else taken)
        return figures

    return lambda server: asyncio.run(read(server))


# taosrest.


def official_cursor(server: Server) -> Any:
    """A cursor of taosrest with its defaults, which make datetimes without a zone."""
    options = server.options
    cursor = taosrest.connect(
        url=server.url, user=options.user, password=options.password, database=DATABASE
    ).cursor()
    cursor.execute(WARM_UP)
    return cursor


def official(server: Server) -> Figures:
    cursor = official_cursor(server)
    cpu, wall = time.process_time(), time.perf_counter()
    cursor.execute(QUERY)
    rows = cursor.fetchall()
    figures = Figures(time.perf_counter() - wall, time.process_time() - cpu)
    server.check(rows)
    return figures


# What the server can give.


def bare_client(server: Server) -> aiohttp.ClientSession:
    login = aiohttp.encode_basic_auth(server.options.user, server.options.password)
    return aiohttp.ClientSession(
        headers={"Authorization": login, "Accept-Encoding": "identity"},
    )


async def throw_away(client: aiohttp.ClientSession, server: Server, sql: str, rows: int) -> None:
    """Read an answer of so many rows with aiohttp; only its end is looked at."""
    last: deque[bytes] = deque(maxlen=8)
    async with client.post(f"{server.url}/rest/sql/{DATABASE}", data=sql) as answer:
        async for piece in answer.content.iter_any():
            last.append(piece)
    end = b"".join(last)[-100:]
    if b'"rows":%d' % rows not in end:
        raise SystemExit(f"the body ends with {end!r}")


def bare(server: Server) -> Figures:
    """Read the body and throw it away."""

    async def read() -> Figures:
        async with bare_client(server) as client:
            await throw_away(client, server, WARM_UP, min(5, server.rows))
            cpu, wall = time.process_time(), time.perf_counter()
            await throw_away(client, server, QUERY, server.rows)
            return Figures(time.perf_counter() - wall, time.process_time() - cpu)

    return asyncio.run(read())


CONTESTANTS = (
    Contestant("aiotaos, http, fetch", own("http", fetch)),
    Contestant("aiotaos, http, async for", own("http", one_by_one)),
    Contestant("aiotaos, http, blocks", own("http", blocks)),
    Contestant("aiotaos, http, blocks, columns", own("http", columns)),
    Contestant("aiotaos, http, compression, fetch", own("http", fetch, compression=True)),
    Contestant("aiotaos, ws, fetch", own("ws", fetch)),
    Contestant("taosrest, execute and fetchall", official, True),
    Contestant("aiohttp, the body thrown away", bare),
)


# Memory and the event loop, in a process of its own.


async def strain_of(read: Callable[[], Awaitable[Taken]], expected: Sums) -> Strain:
    """Watch a process while it reads; what it took is checked afterwards."""
    found, taken = await watched(read)
    sums = (len(taken), sum(row[2] for row in taken)) if isinstance(taken, list) else taken
    if sums != expected:
        raise SystemExit(f"count and sum are {sums}, not {expected}")
    return found


def larger(times: int) -> str:
    """A query that returns the table so many times."""
    return " union all ".join([QUERY] * times)


async def stream_rows(conn: Connection, sql: str) -> Taken:
    count = total = 0
    async for row in await conn.query(sql):
        count += 1
        total += row[2]
    return count, total


async def stream_blocks(conn: Connection, sql: str) -> Taken:
    count = total = 0
    async for block in (await conn.query(sql)).blocks():
        count += len(block)
        column = block.columns[2]
        assert isinstance(column, aiotaos.FixedColumn)
        total += int(column.values.sum())
    return count, total


async def hold_rows(conn: Connection, sql: str) -> Taken:
    return list(await conn.fetch(sql))


Stream = Callable[[Connection, str], Awaitable[Taken]]


def own_strain(scheme: str, stream: Stream) -> Callable[[Server, int], Awaitable[Strain]]:
    async def run(server: Server, times: int) -> Strain:
        async with aiotaos.connect(server.road(scheme), database=DATABASE) as conn:
            await stream(conn, WARM_UP)
            return await strain_of(lambda: stream(conn, larger(times)), server.sums(times))

    return run


async def official_strain(server: Server, times: int) -> Strain:
    """Taosrest in a thread, as a program with an event loop has to use it."""
    cursor = await asyncio.to_thread(official_cursor, server)

    def work() -> Taken:
        cursor.execute(larger(times))
        rows: list[Row] = cursor.fetchall()
        return rows

    return await strain_of(lambda: asyncio.to_thread(work), server.sums(times))


async def bare_strain(server: Server, times: int) -> Strain:
    """What is lost on a busy machine, whatever reads: the body is thrown away."""
    async with bare_client(server) as client:

        async def read() -> Taken:
            await throw_away(client, server, larger(times), times * server.rows)
            return server.sums(times)

        await throw_away(client, server, WARM_UP, min(5, server.rows))
        return await strain_of(read, server.sums(times))


STRAINS: dict[str, Callable[[Server, int], Awaitable[Strain]]] = {
    "aiotaos, http, async for": own_strain("http", stream_rows),
    "aiotaos, http, blocks, columns": own_strain("http", stream_blocks),
    "aiotaos, ws, async for": own_strain("ws", stream_rows),
    "aiotaos, http, fetch": own_strain("http", hold_rows),
    "taosrest in a thread": official_strain,
    "aiohttp, the body thrown away": bare_strain,
}
STRAINS_OFFICIAL = "taosrest in a thread"


def child(server: Server, name: str, times: int) -> None:
    """Measure, and print the figures for :func:`strain`."""

    async def run() -> Strain:
        return await STRAINS[name](server, times)

    found = asyncio.run(run())
    print(found.growth, found.gap)


def strain(server: Server, name: str, times: int) -> Strain:
    """Measure in a fresh process."""
    done = subprocess.run(
        [
            sys.executable,
            __file__,
            f"--rows={server.rows}",
            f"--child={name}",
            f"--times={times}",
        ],
        env=os.environ | {"AIOTAOS_DSN": server.dsn},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    growth, gap = map(float, done.stdout.split())
    return Strain(growth, gap)


def strains(server: Server, rounds: int) -> None:
    """Measure and print medians, of the larger result a single run, and ratios to taosrest."""
    found: dict[str, list[Strain]] = {name: [] for name in STRAINS}
    for number in range(rounds):
        for name in STRAINS if number % 2 == 0 else reversed(STRAINS):
            found[name].append(strain(server, name, 1))
    large = {name: strain(server, name, TIMES) for name in STRAINS}
    small = {
        name: Strain(median(one.growth for one in all), median(one.gap for one in all))
        for name, all in found.items()
    }
    base = small[STRAINS_OFFICIAL]
    widths = [f"{server.rows:,} rows", f"{TIMES * server.rows:,} rows"]
    print(f"\n{'':<34} {widths[0]:^35}   {widths[1]:^35}")
    heads = f"{'MiB':>8} {'ratio':>7} {'stall ms':>10} {'ratio':>7}"
    print(f"{'':<34} {heads}   {heads}")
    for name in STRAINS:
        halves = [
            f"{one.growth:>8.1f} {one.growth / base.growth:>7.3f} "
            f"{one.gap * 1000:>10.1f} {one.gap / base.gap:>7.3f}"
            for one in (small[name], large[name])
        ]
        print(f"{name:<34} {'   '.join(halves)}")
    print(
        "MiB: growth of the peak of resident memory while reading; stall: the longest time in\n"
        f"which the event loop ran nothing else; ratios to taosrest with {server.rows:,} rows."
    )


# Measuring.


@contextlib.asynccontextmanager
async def connection(server: Server) -> AsyncIterator[Connection]:
    async with aiotaos.connect(server.road("ws")) as conn:
        yield conn


async def make_database(server: Server) -> str:
    """Sub-tables with the rows; the version of the server."""
    async with connection(server) as conn:
        await conn.execute(f"drop database if exists {DATABASE}")
        await conn.execute(f"create database {DATABASE} keep 36500 vgroups 2")
        await conn.select_db(DATABASE)
        await make_stable(conn)
        await fill(conn, server.rows)
        return conn.server_version


async def drop_database(server: Server) -> None:
    async with connection(server) as conn:
        await conn.execute(f"drop database if exists {DATABASE}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--dsn", default=os.environ.get("AIOTAOS_DSN", "http://root:taosdata@localhost:6041")
    )
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", choices=STRAINS, help=argparse.SUPPRESS)
    parser.add_argument("--times", type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    server = Server(arguments.dsn, arguments.rows)
    # requests, beneath taosrest, would ask a proxy for the server.
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = server.options.addresses[0].host
    if arguments.child is not None:
        child(server, arguments.child, arguments.times)
        return
    told = asyncio.run(make_database(server))
    try:
        print(
            f"aiotaos {aiotaos.__version__}, taosrest of taospy {version('taospy')}, "
            f"TDengine {told}, Python {platform.python_version()}, {os.cpu_count()} CPUs "
            f"({platform.machine()})\n\n{QUERY}: {server.rows:,} rows"
        )
        found = measure(CONTESTANTS, server, server.rows, arguments.rounds)
        report(CONTESTANTS, found, server.rows, "taosrest")
        strains(server, arguments.rounds)
    finally:
        asyncio.run(drop_database(server))


if __name__ == "__main__":
    main()

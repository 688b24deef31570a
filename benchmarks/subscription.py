"""How fast a topic is read: aiotaos beside taos-ws-py.

    python benchmarks/subscription.py [--dsn ws://…] [--rows 2000000] [--rounds 3]

Rows of seven columns, two of them tags, are written into a database with two vgroups, and read from
the log by topics ``as select * from m`` and ``as stable m`` (which has no tags). Each measurement
has a group of its own that begins with the first row; the clock runs from the first message that a
poll gives to the last row: what subscribing takes does not count. Number of rows and sum of a
column are checked. One contestant runs at a time, and the order turns with each round. A bare loop
that throws the messages away tells what the server can give.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import platform
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import taosws  # type: ignore[import-untyped]

import aiotaos
from aiotaos.consumer_options import ConsumerOptions
from aiotaos.transport.base import Deadline
from aiotaos.transport.dial import open_subscription
from aiotaos.transport.servers import Servers

DATABASE = "bench_subscription"
START = 1_709_251_200_000
STEP = 1_003  # ms from row to row, so that the times have digits behind the second
TABLES = 100
VALUE = 2  # the place of the column that is summed up
TOPICS = {"select * from m": f"{DATABASE}_query", "stable m": f"{DATABASE}_stable"}
PATIENCE = 60.0  # seconds for the first message, and for each of the following
BLOCKING = 500  # ms that the server waits for a message
EMPTY = 3  # polls without a message after which there are no more
IN_USE = 0x03EB


class Figures(NamedTuple):
    """What one measurement gave: seconds, and CPU seconds of this process in this time."""

    wall: float
    cpu: float


class Clock:
    """Runs from the first message on."""

    def __init__(self) -> None:
        self._cpu = self._wall = 0.0

    def start(self) -> None:
        """A message is there; does nothing if it is not the first one."""
        if not self._wall:
            self._cpu, self._wall = time.process_time(), time.perf_counter()

    def read(self) -> Figures:
        """What has passed."""
        return Figures(time.perf_counter() - self._wall, time.process_time() - self._cpu)


@dataclass(frozen=True)
class Log:
    """What is to be read.

    Attributes:
        dsn: Of the server.
        topic: Name of the topic.
        rows: Number of rows.
    """

    dsn: str
    topic: str
    rows: int

    def check(self, rows: int, total: int | None) -> None:
        """Stop if this is not the number of rows and, where it was taken, the sum of ``v``."""
        expected = self.rows * (self.rows - 1) // 2
        if rows != self.rows or total not in (None, expected):
            raise SystemExit(f"{self.topic}: {rows} rows, sum {total}, not {self.rows}, {expected}")


@dataclass(frozen=True)
class Contestant:
    """A way to read.

    Attributes:
        name: What it is called in the report.
        read: Reads the topic and tells what it took.
        official: Whether it is what the others are compared with.
    """

    name: str
    read: Callable[[Log], Figures]
    official: bool = False


def fresh_group() -> dict[str, str]:
    """Options of a consumer that begins with the first row."""
    return {
        "group.id": f"bench_{secrets.token_hex(6)}",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": "false",
    }


def dsn_with(dsn: str, options: dict[str, str]) -> str:
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return f"{dsn}{'&' if '?' in dsn else '?'}{query}"


# aiotaos.


async def own_rows(log: Log) -> Figures:
    clock, count, total = Clock(), 0, 0
    async with aiotaos.Consumer(dsn_with(log.dsn, fresh_group())) as consumer:
        await consumer.subscribe(log.topic, timeout=PATIENCE)
        while count < log.rows:
            message = await consumer.poll(PATIENCE)
            if message is None:
                break
            clock.start()
            rows = message.rows()
            count += len(rows)
            total += sum(row[VALUE] for row in rows)
        figures = clock.read()
    log.check(count, total)
    return figures


async def own_blocks(log: Log) -> Figures:
    clock, count = Clock(), 0
    async with aiotaos.Consumer(dsn_with(log.dsn, fresh_group())) as consumer:
        await consumer.subscribe(log.topic, timeout=PATIENCE)
        while count < log.rows:
            message = await consumer.poll(PATIENCE)
            if message is None:
                break
            clock.start()
            count += len(message)
        figures = clock.read()
    log.check(count, None)
    return figures


def own(read: Callable[[Log], Awaitable[Figures]]) -> Callable[[Log], Figures]:
    async def run(log: Log) -> Figures:
        return await read(log)

    return lambda log: asyncio.run(run(log))


# taos-ws-py.


@contextlib.contextmanager
def official_consumer(log: Log) -> Iterator[Any]:
    consumer = taosws.Consumer(dsn=dsn_with(log.dsn, fresh_group()))
    try:
        consumer.subscribe([log.topic])
        yield consumer
        consumer.unsubscribe()
    finally:
        consumer.close()


def official_rows(log: Log) -> Figures:
    clock, count, total = Clock(), 0, 0
    with official_consumer(log) as consumer:
        while count < log.rows:
            message = consumer.poll(timeout=PATIENCE)
            if message is None:
                break
            clock.start()
            for block in message:
                rows = block.fetchall()
                count += len(rows)
                total += sum(row[VALUE] for row in rows)
        figures = clock.read()
    log.check(count, total)
    return figures


def official_blocks(log: Log) -> Figures:
    clock, count = Clock(), 0
    with official_consumer(log) as consumer:
        while count < log.rows:
            message = consumer.poll(timeout=PATIENCE)
            if message is None:
                break
            clock.start()
            for block in message:
                count += block.nrows()
        figures = clock.read()
    log.check(count, None)
    return figures


# What the server can give.


async def bare(log: Log) -> Figures:
    """Poll, fetch, throw away; afterwards the position must be the end of the log."""
    told = ConsumerOptions.make(dsn_with(log.dsn, fresh_group()), {})
    session = await open_subscription(told.options, Servers(told.options.addresses))
    clock, figures = Clock(), None
    last_id = empty = 0
    try:
        await session.subscribe(told.subscribe_arguments([log.topic]), Deadline(PATIENCE))
        give_up = time.monotonic() + PATIENCE
        while empty < EMPTY and (last_id or time.monotonic() < give_up):
            reply = await session.poll(BLOCKING, last_id)
            if not reply.have_message:
                empty += bool(last_id)
                continue
            clock.start()
            empty, last_id = 0, reply.message_id
            await session.fetch(last_id, Deadline(PATIENCE))
            figures = clock.read()
        ends = {
            (log.topic, one.vgroup_id): one.end
            for one in await session.assignment(log.topic, Deadline(PATIENCE))
        }
        positions = await session.position(list(ends), Deadline(PATIENCE))
        if figures is None or positions != list(ends.values()):
            raise SystemExit(f"{log.topic}: read up to {positions}, not {ends}")
        await session.unsubscribe(Deadline(PATIENCE))
    finally:
        await session.close(PATIENCE)
    return figures


CONTESTANTS = (
    Contestant("aiotaos, rows", own(own_rows)),
    Contestant("aiotaos, blocks counted", own(own_blocks)),
    Contestant("taos-ws-py, rows", official_rows, True),
    Contestant("taos-ws-py, blocks counted", official_blocks),
    Contestant("aiotaos' session, thrown away", own(bare)),
)


# Measuring.


async def make_database(dsn: str, rows: int) -> str:
    """Topics, and sub-tables with the rows; the version of the server."""
    number = np.arange(rows)
    table = number * TABLES // rows
    columns = {
        "n": np.array([f"d{i}" for i in range(TABLES)])[table],
        "ts": START + STEP * number,
        "f": (number / 7).astype(np.float32),
        "v": number.astype(np.int32),
        "d": number / 3,
        "s": np.array([f"state {i}" for i in range(1000)])[number % 1000],
        "g": table.astype(np.int32),
        "p": np.array([f"Halle {i}, Süd" for i in range(TABLES)])[table],
    }
    await drop_all(dsn)
    async with aiotaos.connect(dsn) as conn:
        await conn.execute(
            f"create database {DATABASE} keep 36500 vgroups 2 wal_retention_period 36000"
        )
        await conn.select_db(DATABASE)
        await conn.execute(
            "create stable m (ts timestamp, f float, v int, d double, s varchar(16)) "
            "tags (g int, p nchar(24))"
        )
        for what, topic in TOPICS.items():
            await conn.execute(f"create topic {topic} as {what}")
        await conn.insert("m", columns, tbname="n", tags=["g", "p"])
        return conn.server_version


async def drop_all(dsn: str) -> None:
    """Drop topics and database; the server needs a while to notice that nobody reads a topic."""
    async with aiotaos.connect(dsn) as conn:
        for topic in TOPICS.values():
            give_up = time.monotonic() + PATIENCE
            while True:
                try:
                    await conn.execute(f"drop topic if exists {topic}")
                except aiotaos.Error as error:
                    if error.code != IN_USE or time.monotonic() > give_up:
                        raise
                    await asyncio.sleep(0.5)
                else:
                    break
        await conn.execute(f"drop database if exists {DATABASE}")


def measure(log: Log, rounds: int) -> dict[str, list[Figures]]:
    """Let everyone read the topic in each round."""
    found: dict[str, list[Figures]] = {contestant.name: [] for contestant in CONTESTANTS}
    for number in range(rounds):
        for contestant in CONTESTANTS if number % 2 == 0 else reversed(CONTESTANTS):
            gc.collect()
            figures = contestant.read(log)
            found[contestant.name].append(figures)
            print(
                f"  round {number + 1}  {contestant.name:<32} "
                f"{log.rows / figures.wall:>11,.0f} rows/s",
                flush=True,
            )
    return found


def report(found: dict[str, list[Figures]], rows: int) -> None:
    """Print medians, and their ratios to the rows of taos-ws-py."""

    def figures(name: str) -> tuple[float, float, float]:
        walls = [one.wall for one in found[name]]
        return median(walls), min(walls), median(one.cpu for one in found[name])

    wall, quickest, cpu = figures(next(one.name for one in CONTESTANTS if one.official))
    print(
        f"\n{'':<32} {'rows/s':>11} {'ratio':>7} {'best':>11} {'ratio':>7} "
        f"{'CPU s':>8} {'ratio':>7}"
    )
    for contestant in CONTESTANTS:
        own_wall, own_quickest, own_cpu = figures(contestant.name)
        print(
            f"{contestant.name:<32} {rows / own_wall:>11,.0f} {wall / own_wall:>7.2f} "
            f"{rows / own_quickest:>11,.0f} {quickest / own_quickest:>7.2f} "
            f"{own_cpu:>8.3f} {own_cpu / cpu:>7.3f}"
        )
    print("rows/s, CPU: medians; ratios to taos-ws-py's rows; CPU is that of this process.\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--dsn", default=os.environ.get("AIOTAOS_DSN", "ws://root:taosdata@localhost:6041")
    )
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    dsn = arguments.dsn
    try:
        server = asyncio.run(make_database(dsn, arguments.rows))
        print(
            f"aiotaos {aiotaos.__version__}, taos-ws-py {version('taos-ws-py')}, "
            f"TDengine {server}, Python {platform.python_version()}, {os.cpu_count()} CPUs "
            f"({platform.machine()})\n"
        )
        for what, topic in TOPICS.items():
            print(f"topic as {what}: {arguments.rows:,} rows")
            report(measure(Log(dsn, topic, arguments.rows), arguments.rounds), arguments.rows)
    finally:
        asyncio.run(drop_all(dsn))


if __name__ == "__main__":
    main()

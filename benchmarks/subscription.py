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
import os
import platform
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import taosws  # type: ignore[import-untyped]
from contest import Contestant, Figures, fill, make_stable, measure, report

import aiotaos
from aiotaos.consumer_options import ConsumerOptions
from aiotaos.transport.base import Deadline
from aiotaos.transport.dial import open_subscription
from aiotaos.transport.servers import Servers

DATABASE = "bench_subscription"
VALUE = 2  # the place of the column that is summed up
TOPICS = {"select * from m": f"{DATABASE}_query", "stable m": f"{DATABASE}_stable"}
PATIENCE = 60.0  # seconds for the first message, and for each of the following
BLOCKING = 500  # ms that the server waits for a message
EMPTY = 3  # polls without a message after which there are no more
IN_USE = 0x03EB


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
    await drop_all(dsn)
    async with aiotaos.connect(dsn) as conn:
        await conn.execute(
            f"create database {DATABASE} keep 36500 vgroups 2 wal_retention_period 36000"
        )
        await conn.select_db(DATABASE)
        await make_stable(conn)
        for what, topic in TOPICS.items():
            await conn.execute(f"create topic {topic} as {what}")
        await fill(conn, rows)
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
            log = Log(dsn, topic, arguments.rows)
            found = measure(CONTESTANTS, log, log.rows, arguments.rounds)
            report(CONTESTANTS, found, log.rows, "taos-ws-py's rows")
    finally:
        asyncio.run(drop_all(dsn))


if __name__ == "__main__":
    main()

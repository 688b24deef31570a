"""Whether writers lose rows when their connections are cut again and again.

    python benchmarks/soak.py [--dsn DSN] [--writers 20] [--seconds 60] [--rate 0]

Tasks write rows through a proxy in this process, whose link to the server is cut every few seconds
(also in the middle of a frame) or stands still. Connections open themselves again, writers repeat
what was not acknowledged; what a writer reports as not written is noted. At the end everything is
read back over a connection of its own: each row that was not reported must be stored as it was
given. The exit code is 1 if one is not.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import random
import resource
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiotaos
from aiotaos.options import Address, Options

DATABASE = "bench_soak"
START = 1_709_251_200_000
TABLES = 5  # sub-tables of a writer
CHUNK = 500  # rows given at a time
READ_TIMEOUT = 3.0
CHUNK_BYTES = 65_536
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset

Row = tuple[str, int, int, int, float, str]


class Proxy:
    """A TCP proxy whose link can be cut and stopped.

    Args:
        server: Where it leads.

    Attributes:
        port: Where it listens.
        done: How often it was cut or stopped, by kind.
    """

    def __init__(self, server: Address) -> None:
        self._server = server
        self._listener: asyncio.Server | None = None
        self._links: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._torn: asyncio.Event | None = None
        self.port = 0
        self.done: Counter[str] = Counter()

    async def open(self) -> None:
        """Listen, at the same port as before."""
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def cut(self, *, reset: bool) -> None:
        """Listen no more, and abort every link; the bytes on their way are lost."""
        if self._listener is not None:
            self._listener.close()
        for link in self._links:
            if reset:
                link.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            link.transport.abort()
        self._flowing.set()
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    async def tear(self) -> None:
        """Cut when half of the next bytes for the server have been sent."""
        self._torn = asyncio.Event()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._torn.wait(), 1.0)
        self._torn = None
        await self.cut(reset=False)

    async def disturb(self) -> None:
        """Cut and stop the link every few seconds until cancelled."""
        chance = random.Random(7)
        while True:
            for kind in ("reset", "torn", "stall"):
                await asyncio.sleep(chance.uniform(1.5, 4))
                pause = chance.uniform(0.2, 1.5)
                if kind == "stall":
                    self._flowing.clear()
                    pause *= 3
                elif kind == "torn":
                    await self.tear()
                else:
                    await self.cut(reset=True)
                self.done[kind] += 1
                await asyncio.sleep(pause)
                if kind == "stall":
                    self._flowing.set()
                else:
                    await self.open()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        links = [writer]
        self._links.add(writer)
        try:
            their_reader, their_writer = await asyncio.open_connection(
                self._server.host, self._server.port
            )
            links.append(their_writer)
            self._links.add(their_writer)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._relay(reader, their_writer, is_request=True))
                group.create_task(self._relay(their_reader, writer, is_request=False))
        except* OSError:
            pass
        finally:
            for link in links:
                self._links.discard(link)
                link.transport.abort()
            self._tasks.discard(task)

    async def _relay(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, is_request: bool
    ) -> None:
        while data := await source.read(CHUNK_BYTES):
            await self._flowing.wait()
            torn = self._torn
            if torn is not None and is_request:
                target.write(data[: len(data) // 2])
                await target.drain()
                torn.set()
                return
            target.write(data)
            await target.drain()
        target.close()


@dataclass
class Ledger:
    """What became of the rows of one task.

    Attributes:
        number: The task's.
        given: Rows that its writers took.
        reported: For each of them 1 if it was reported as not written.
        acknowledged: Rows that its writers count as acknowledged.
        connections: How often it connected.
        faults: What should not have happened.
    """

    number: int
    given: int = 0
    reported: bytearray = field(default_factory=bytearray)
    acknowledged: int = 0
    connections: int = 0
    faults: Counter[str] = field(default_factory=Counter)

    def row(self, place: int) -> Row:
        """The row at a place of the sequence; the place can be told by its time."""
        value = (place * 2_654_435_761 + self.number) & 0x7FFF_FFFF
        table = place % TABLES
        return (
            self.table(table),
            self.number * TABLES + table,
            START + place,
            value,
            value / 3,
            f"{self.number}-{place}",
        )

    def table(self, table: int) -> str:
        """Name of one of its sub-tables."""
        return f"w{self.number}_{table}"

    def take(self, rows: int) -> None:
        """Note rows that a writer took."""
        self.given += rows
        self.reported.extend(bytes(rows))

    def report(self, rows: list[Row]) -> None:
        """Note rows that were not written."""
        for row in rows:
            place = row[2] - START
            self.faults["reported twice"] += self.reported[place]
            self.reported[place] = 1

    def on_error(self, rows: list[Row], error: aiotaos.Error) -> None:
        """What a writer calls."""
        self.report(rows)


async def work(ledger: Ledger, dsn: str, port: int, until: float, rate: float) -> None:
    """Write until the time is up, over as many connections as it takes."""
    while time.monotonic() < until:
        try:
            conn = await aiotaos.connect(
                dsn,
                host="127.0.0.1",
                port=port,
                database=DATABASE,
                connect_timeout=5,
                read_timeout=READ_TIMEOUT,
            )
        except aiotaos.OperationalError:
            await asyncio.sleep(0.1)
            continue
        ledger.connections += 1
        try:
            await write(ledger, conn, until, rate)
        finally:
            await conn.close(timeout=1)


async def write(ledger: Ledger, conn: aiotaos.Connection, until: float, rate: float) -> None:
    """Write until the time is up or the connection is lost."""
    before, reported = ledger.given, ledger.reported.count(1)
    writer = conn.writer(
        "m",
        tbname="n",
        tags=["g"],
        columns=["n", "g", "ts", "v", "d", "s"],
        max_rows=2_000,
        max_pending=10_000,
        max_delay=0.2,
        on_error=ledger.on_error if ledger.number % 2 else None,
    )
    try:
        async with writer:
            try:
                while time.monotonic() < until and not conn.closed:
                    await writer.write_many(
                        [ledger.row(ledger.given + offset) for offset in range(CHUNK)]
                    )
                    ledger.take(CHUNK)
                    await asyncio.sleep(CHUNK / rate if rate else 0)
            except aiotaos.WriteError as error:
                ledger.report(error.rows)
    except aiotaos.WriteError as error:
        ledger.report(error.rows)
    stats = writer.stats
    ledger.acknowledged += stats.rows
    if stats.pending:
        ledger.faults["pending behind the end"] += stats.pending
    if stats.rows + stats.failed != ledger.given - before:
        ledger.faults["neither acknowledged nor reported"] += 1
    if stats.failed != ledger.reported.count(1) - reported:
        ledger.faults["counted as failed, and not reported"] += 1


@dataclass
class Stored:
    """What was read back."""

    rows: int = 0
    missing: int = 0
    wrong: int = 0
    unknown: int = 0


async def check(ledger: Ledger, conn: aiotaos.Connection) -> Stored:
    """Compare what is stored of a task's rows with what it was told."""
    found = Stored()
    exists = await conn.fetchval(
        "select count(*) from information_schema.ins_tables "
        f"where db_name = '{DATABASE}' and table_name like 'w{ledger.number}\\_%'"
    )
    places = bytearray(ledger.given)
    for table in range(TABLES if exists else 0):
        name = ledger.table(table)
        async with await conn.query(f"select tbname, g, ts, v, d, s from {name}") as rows:
            async for row in rows:
                found.rows += 1
                place = row[2] - START
                if not 0 <= place < ledger.given:
                    found.unknown += 1
                    continue
                places[place] = 1
                found.wrong += row != ledger.row(place)
    found.missing = sum(
        not (stored or reported) for stored, reported in zip(places, ledger.reported, strict=True)
    )
    return found


def memory() -> str:
    """Resident memory now, and the most there has been."""
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    now = pages * resource.getpagesize() / 2**20
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return f"{now:.0f} MiB (at most {most:.0f} MiB)"


@contextlib.asynccontextmanager
async def server_at(dsn: str) -> AsyncIterator[str]:
    """The DSN of the server; for ``embedded://``, one is started for the while."""
    if not dsn.startswith("embedded:"):
        yield dsn
        return
    from aiotaos.embedded import Server

    async with Server() as server:
        yield server.dsn


async def load(ledgers: list[Ledger], dsn: str, seconds: float, rate: float) -> Counter[str]:
    """Write through the proxy while it is cut; how often it was."""
    proxy = Proxy(Options.make(dsn).addresses[0])
    await proxy.open()
    disturbing = asyncio.create_task(proxy.disturb())
    until = time.monotonic() + seconds
    async with asyncio.TaskGroup() as group:
        for ledger in ledgers:
            group.create_task(work(ledger, dsn, proxy.port, until, rate))
    disturbing.cancel()
    await asyncio.wait([disturbing])
    await proxy.cut(reset=False)
    return proxy.done


async def soak(dsn: str, writers: int, seconds: float, rate: float) -> bool:
    """Run it and print what came of it; whether every acknowledged row is stored."""
    ledgers = [Ledger(number) for number in range(writers)]
    async with aiotaos.connect(dsn, timestamp="int") as conn:
        await conn.execute(f"drop database if exists {DATABASE}")
        await conn.execute(f"create database {DATABASE} keep 36500")
        await conn.select_db(DATABASE)
        await conn.execute(
            "create stable m (ts timestamp, v int, d double, s varchar(24)) tags (g int)"
        )
        tasks = len(asyncio.all_tasks())
        print("memory at the start    ", memory())
        done = await load(ledgers, dsn, seconds, rate)
        await asyncio.sleep(0.5)
        gc.collect()
        print("memory at the end      ", memory())
        left = len(asyncio.all_tasks()) - tasks
        stored = [await check(ledger, conn) for ledger in ledgers]
        await conn.execute(f"drop database {DATABASE}")
    faults = sum((ledger.faults for ledger in ledgers), Counter[str]())
    missing = sum(item.missing for item in stored)
    wrong = sum(item.wrong + item.unknown for item in stored)
    for what, number in (
        ("rows given", sum(ledger.given for ledger in ledgers)),
        ("  acknowledged", sum(ledger.acknowledged for ledger in ledgers)),
        ("  reported", sum(ledger.reported.count(1) for ledger in ledgers)),
        ("stored", sum(item.rows for item in stored)),
        ("acknowledged, missing", missing),
        ("stored, not as given", wrong),
        ("connections", sum(ledger.connections for ledger in ledgers)),
        *((f"cuts: {kind}", number) for kind, number in done.items()),
        *faults.items(),
        ("tasks left", left),
    ):
        print(f"{what:<23} {number:>12,}")
    return not (missing or wrong or faults or left)


async def run(dsn: str, writers: int, seconds: float, rate: float) -> bool:
    async with server_at(dsn) as server:
        return await soak(server, writers, seconds, rate)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--dsn",
        default=os.environ.get("AIOTAOS_DSN", "ws://root:taosdata@localhost:6041"),
        help="embedded:// starts an embedded server",
    )
    parser.add_argument("--writers", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float, default=0, help="rows/s of a writer; 0: no limit")
    arguments = parser.parse_args()
    fine = asyncio.run(run(arguments.dsn, arguments.writers, arguments.seconds, arguments.rate))
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()

"""A pool goes on while the servers behind it are killed and come back, one after the other.

``AIOTAOS_FAILOVER_SECONDS`` is how long.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import aiotaos

SECONDS = float(os.environ.get("AIOTAOS_FAILOVER_SECONDS", "6"))
SERVERS = 3
READERS = 6
WRITERS = 6
SESSIONS = READERS + WRITERS
ROWS = 100  # of the table that is read
PATIENCE = 20.0  # seconds for the load to be spread again
DATABASE = "failover"

pytestmark = pytest.mark.timeout(60 + 2 * SECONDS)


def free_ports(count: int) -> list[int]:
    """Ports that nobody takes while their server is away.

    They lie below those that systems choose from, lest a client's socket gets one.
    """
    chance = random.Random()
    with contextlib.ExitStack() as stack:
        ports: list[int] = []
        while len(ports) < count:
            probe = stack.enter_context(socket.socket())
            port = chance.randrange(20_000, 32_000)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                ports.append(port)
        return ports


class Node:
    """A server in a process of its own, which can be killed and started again.

    Args:
        port: Where it listens.
        file: Where its data are.

    Attributes:
        kills: How often it was killed.
    """

    def __init__(self, port: int, file: Path) -> None:
        self.port = port
        self.kills = 0
        self._file = file
        self._process: subprocess.Popen[str] | None = None

    @property
    def dsn(self) -> str:
        return f"ws://root:taosdata@127.0.0.1:{self.port}"

    @property
    def endpoint(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it, and return when it serves."""
        command = ["-m", "aiotaos.embedded", "--port", str(self.port), "--data", str(self._file)]
        self._process = await asyncio.to_thread(
            subprocess.Popen,
            [sys.executable, *command],
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        assert self._process.stdout is not None
        line = await asyncio.to_thread(self._process.stdout.readline)
        assert line.startswith("ws://"), line

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
            self.kills += 1


@pytest.fixture
async def nodes(clean: None, tmp_path: Path) -> AsyncIterator[list[Node]]:
    """Servers with the same tables: ``r`` has rows to be read, every writer has its own."""
    found = [
        Node(port, tmp_path / f"{number}.db") for number, port in enumerate(free_ports(SERVERS))
    ]
    try:
        for node in found:
            await node.start()
            async with aiotaos.connect(node.dsn, conn_retries=0) as conn:
                await conn.execute(f"create database {DATABASE} keep 36500 precision 'ns'")
                await conn.select_db(DATABASE)
                await conn.execute("create table r (ts timestamp, v int)")
                await conn.insert("r", {"ts": list(range(ROWS)), "v": list(range(ROWS))})
                await conn.execute("create stable w (ts timestamp, id int) tags (writer int)")
                for writer in range(WRITERS):
                    await conn.execute(f"create table w{writer} using w tags ({writer})")
        yield found
    finally:
        for node in found:
            node.kill()


class Load:
    """What reads and writes, and what it was told.

    Attributes:
        reads: Number of reads that succeeded.
        acknowledged: Writes that succeeded.
        perhaps: Writes that may have run.
        not_run: Writes that have not run.
    """

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self.reads = 0
        self.acknowledged: set[int] = set()
        self.perhaps: set[int] = set()
        self.not_run: set[int] = set()
        self._ids = itertools.count()
        self._expected = [(value,) for value in range(ROWS)]

    async def read(self, number: int) -> None:
        """No read fails while one server lives."""
        while True:
            if number % 2:
                assert await self.pool.fetch("select v from r") == self._expected
            else:
                value = self.reads % ROWS
                assert await self.pool.fetchval("select v from r where v = ?", value) == value
            self.reads += 1

    async def write(self, writer: int) -> None:
        """Rows one by one, in each way that a single one can be written.

        The server takes the time of each, so that one that is written twice is there twice.
        """
        while True:
            id = next(self._ids)
            try:
                if writer % 2:
                    sql = f"insert into w{writer} values (?, ?)"
                    count = await self.pool.execute(sql, time.time_ns(), id)
                else:
                    count = await self.pool.execute(f"insert into w{writer} values (now, {id})")
            except aiotaos.OperationalError as error:
                (self.perhaps if error.may_have_run else self.not_run).add(id)
            else:
                assert count == 1
                self.acknowledged.add(id)


async def disturb(nodes: list[Node]) -> None:
    """Kill the servers in turn, now and then two at once; at the end all are back."""
    chance = random.Random(5)
    end = time.monotonic() + SECONDS
    for turn in itertools.count():
        if turn >= len(nodes) and time.monotonic() > end:
            return
        await asyncio.sleep(chance.uniform(0.2, 0.6))
        down = [nodes[turn % SERVERS]]
        down[0].kill()
        if turn % 2:
            await asyncio.sleep(chance.uniform(0.0, 0.1))
            down.append(nodes[(turn + 1) % SERVERS])
            down[1].kill()
        await asyncio.sleep(chance.uniform(0.1, 0.5))
        await asyncio.gather(*(node.start() for node in down))


async def spread(pool: Any) -> Counter[str]:
    """Where the pool's sessions are, once each server has some of them; the load goes on."""
    end = time.monotonic() + PATIENCE
    while True:
        async with contextlib.AsyncExitStack() as stack:
            found = Counter[str]()
            for _ in range(SESSIONS):
                conn = await stack.enter_async_context(pool.acquire())
                assert await conn.fetchval("select count(*) from r") == ROWS
                found[conn.endpoint] += 1
        if is_spread(found) or time.monotonic() > end:
            return found
        await asyncio.sleep(0.2)


def is_spread(found: Counter[str]) -> bool:
    return len(found) == SERVERS and min(found.values()) >= SESSIONS // SERVERS // 2


async def stop(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_servers_that_are_killed(nodes: list[Node]) -> None:
    addresses = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
    async with aiotaos.create_pool(
        f"ws://root:taosdata@{addresses}/{DATABASE}", max_size=SESSIONS
    ) as pool:
        load = Load(pool)
        readers = [asyncio.create_task(load.read(number)) for number in range(READERS)]
        writers = [asyncio.create_task(load.write(number)) for number in range(WRITERS)]
        try:
            async with asyncio.timeout(30 + 2 * SECONDS):
                await disturb(nodes)
            before_the_end = load.reads
            assert [task for task in (*readers, *writers) if task.done()] == []
            found = await spread(pool)
        finally:
            await stop(writers)
            await stop(readers)
        for task in (*readers, *writers):
            assert task.cancelled(), task.exception()
        assert is_spread(found), found
        assert set(found) == {node.endpoint for node in nodes}
        assert load.reads > before_the_end > 100
        assert len(load.acknowledged) > 100
        assert all(node.kills for node in nodes)

    stored = Counter[int]()
    for node in nodes:
        async with aiotaos.connect(node.dsn, database=DATABASE, conn_retries=0) as conn:
            ids = [id for (id,) in await conn.fetch("select id from w")]
            assert ids
            stored.update(ids)
    assert {id for id in load.acknowledged if stored[id] != 1} == set()
    assert {id for id in load.perhaps if stored[id] > 1} == set()
    assert {id for id in load.not_run if stored[id]} == set()
    assert max(stored.values()) == 1

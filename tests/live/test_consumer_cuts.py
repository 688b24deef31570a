"""As tests/test_consumer_cuts.py, on a real server, where subscribing takes seconds.

A real server cuts a message of a query topic in the middle of what one INSERT wrote.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest

import aiotaos
from aiotaos import Options
from tests.cuts import QUICK, TOPICS, Cutter, Log, Seen, consume, fill, read_on, seeded, survey
from tests.live import links

ROWS = int(os.environ.get("AIOTAOS_CUT_ROWS", "400000"))
CUTS = 8


@pytest.fixture
async def database(dsn: str, until) -> AsyncIterator[str]:
    """Rows and topics; dropped after the test, when the server has forgotten the consumers."""
    name = f"aiotaos_live_{secrets.token_hex(6)}"
    yield name
    async with aiotaos.connect(dsn) as conn:

        async def dropped() -> bool:
            try:
                for kind in TOPICS:
                    await conn.execute(f"drop topic if exists {name}_{kind}")
            except aiotaos.Error:  # it is subscribed to
                return False
            return True

        await until(dropped, seconds=60)
        await conn.execute(f"drop database if exists {name}")


class Links:
    """Takes the place of the proxy, which libtaos would not stay behind.

    Attributes:
        count: How many connections were cut.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self.count = 0

    def cut(self, *, once: bool = True) -> None:
        self.count += links.cut(self._port)


class NativeCutter(Cutter):
    """Cuts what libtaos has open; every fourth time, or always, the consumer is given up as well.

    A topic on a query is read by consumers that are given up alone: when a link breaks libtaos asks
    again at the same offset, and taosd goes on behind what was on its way, so that a part of an
    INSERT is missing (3.3.7.5; with the official client as well).
    """

    gives_up_always = False

    async def run(self) -> None:
        places = sorted(self._chance.sample(range(self._seen.rows * 9 // 10), self._cuts))
        for number, rows in enumerate(places):
            await self._seen.until(rows)
            if self.gives_up_always or number % 4 == 2:
                self.crash.set()
            else:
                self.proxy.cut()
        self.is_done = True


async def consume_natively(
    dsn: str, topic: str, log: Log, chance: random.Random, **options: Any
) -> None:
    """As ``consume``, over libtaos."""
    seen = Seen(log)
    options = QUICK | options | {"group_id": f"{topic}_{secrets.token_hex(4)}"}
    link: Any = Links(Options.make(dsn).addresses[0].port)
    cutter = NativeCutter(link, seen, CUTS, chance)
    cutter.gives_up_always = topic.endswith("_query")
    async with asyncio.TaskGroup() as group:
        cutting = group.create_task(cutter.run())
        while await read_on(dsn, topic, seen, cutter, 40.0, options):
            pass
        seen.check()
        await cutting
    assert link.count > 0
    # What was not committed comes again to the next member of the group, and nothing else.
    await read_on(dsn, topic, seen, cutter, 8.0, options, rest=True)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("auto_commit", [False, True], ids=["commit", "auto_commit"])
@pytest.mark.parametrize("kind", ["query", "stable"])
async def test_no_row_is_missed(
    road: str, dsn: str, database: str, kind: str, auto_commit: bool
) -> None:
    chance = seeded()
    await fill(dsn, database, ROWS, chance)
    log = await survey(dsn, database, ROWS)
    topic = f"{database}_{kind}"
    often = {"auto_commit_interval_ms": 100}
    if road == "native":
        await consume_natively(dsn, topic, log, chance, enable_auto_commit=auto_commit, **often)
    else:
        port = Options.make(dsn).addresses[0].port
        await consume(
            port, topic, log, CUTS, chance, auto_commit=auto_commit, patience=40.0, **often
        )

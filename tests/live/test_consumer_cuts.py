"""As tests/test_consumer_cuts.py, on a real server, where subscribing takes seconds.

A real server cuts a message of a query topic in the middle of what one INSERT wrote.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator

import pytest

import aiotaos
from tests.cuts import TOPICS, consume, fill, seeded, survey

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


@pytest.mark.timeout(300)
@pytest.mark.parametrize("auto_commit", [False, True], ids=["commit", "auto_commit"])
@pytest.mark.parametrize("kind", ["query", "stable"])
async def test_no_row_is_missed(dsn: str, database: str, kind: str, auto_commit: bool) -> None:
    chance = seeded()
    await fill(dsn, database, ROWS, chance)
    await consume(
        aiotaos.Options.make(dsn).addresses[0].port,
        f"{database}_{kind}",
        await survey(dsn, database, ROWS),
        CUTS,
        chance,
        auto_commit=auto_commit,
        patience=40.0,
        auto_commit_interval_ms=100,
    )

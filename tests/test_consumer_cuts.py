"""A consumer's connection is cut 20 times while it reads: no row is missed.

Rows that come twice stand behind the last commit of their vgroup. The server is an embedded one in
a process of its own. AIOTAOS_CUT_ROWS changes the number of rows, AIOTAOS_CUT_SEED repeats a run.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import random
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from tests.cuts import consume, fill, seeded, survey

ROWS = int(os.environ.get("AIOTAOS_CUT_ROWS", "400000"))
CUTS = 20


@pytest.fixture(scope="module")
def served():
    """The port of an embedded server in another process, and where the rows stand in its log."""
    with subprocess.Popen(
        [sys.executable, "-m", "aiotaos.embedded", "--port", "0"],
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        dsn = next(word for word in process.stdout.readline().split() if word.startswith("ws://"))
        with concurrent.futures.ThreadPoolExecutor() as executor:
            log = executor.submit(asyncio.run, _filled(dsn)).result()
        yield urlsplit(dsn).port, log
        process.terminate()
        process.stdout.read()
    assert process.returncode == 0


async def _filled(dsn):
    await fill(dsn, "cuts", ROWS, random.Random(0))
    return await survey(dsn, "cuts", ROWS)


@pytest.mark.parametrize("auto_commit", [False, True], ids=["commit", "auto_commit"])
@pytest.mark.parametrize("kind", ["query", "stable"])
async def test_no_row_is_missed(clean, served, kind, auto_commit):
    port, log = served
    await consume(
        port,
        f"cuts_{kind}",
        log,
        CUTS,
        seeded(),
        auto_commit=auto_commit,
        patience=5.0,
        auto_commit_interval_ms=100,
    )

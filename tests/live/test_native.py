"""What the native road alone has, on a real server, given by AIOTAOS_TEST_NATIVE_DSN.

What the other modules here test runs over it as well.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

import aiotaos
from aiotaos import (
    AuthenticationError,
    ConnectionError,
    InterfaceError,
    Options,
    ProgrammingError,
    TimeoutError,
)
from aiotaos.transport.base import Deadline

COUNT = int(os.environ.get("AIOTAOS_NATIVE_QUERIES", "5000"))
ROWS = 20_000


@pytest.fixture(scope="session")
def dsn(native_dsn: str) -> str:
    """The server; this road alone."""
    return native_dsn


async def gone() -> None:
    """Wait for the threads of native sessions to end."""
    async with asyncio.timeout(5):
        while any(each.name.startswith("aiotaos-native") for each in threading.enumerate()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_no_database(connect: Any) -> None:
    conn = await connect(database=None)
    assert await conn._session.transport.current_database(Deadline(5)) is None


@pytest.mark.parametrize(
    "sql", ["", "selec 1", "select * from nothing", "select v from", "x" * 40_000, "x" * 1_100_000]
)
async def test_refusals(conn: Any, sql: str) -> None:
    for _ in range(3):
        with pytest.raises(ProgrammingError) as info:
            await conn.fetch(sql)
        assert info.value.code
        assert info.value.message
    assert await conn.fetchval("select 1") == 1


async def test_refused_sessions(dsn: str) -> None:
    for options, kind in (
        ({"password": "wrong"}, AuthenticationError),
        ({"user": "nobody"}, AuthenticationError),
        ({"database": "nothing"}, ProgrammingError),
        ({"host": "127.0.0.1", "port": 1, "conn_retries": 0}, ConnectionError),
        ({"host": "nowhere.invalid", "conn_retries": 0}, ConnectionError),
        ({"config_dir": "/"}, InterfaceError),
    ):
        with pytest.raises(kind):
            await aiotaos.connect(dsn, **options)
    await gone()


async def test_auth_in_place_of_the_password(dsn: str) -> None:
    password = Options.make(dsn).password.encode()
    auth = hashlib.md5(password, usedforsecurity=False).hexdigest()
    for given in (auth, auth.upper()):
        async with aiotaos.connect(dsn, auth=given, password="wrong") as conn:
            assert await conn.fetchval("select 1") == 1
    with pytest.raises(AuthenticationError):
        await aiotaos.connect(dsn, auth="0" * 32)
    await gone()


async def test_a_user_dropped_while_connected(conn: Any, connect: Any, database: str) -> None:
    """Then the session ends; one of the user's own name and password can be had again."""
    user = f"u{database[-12:]}"
    await conn.execute(f"create user {user} pass 'Secret_12345!'")
    other = await connect(user=user, password="Secret_12345!")
    transport = other._session.transport
    await conn.execute(f"drop user {user}")
    async with asyncio.timeout(20):
        while not transport.closed:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    with pytest.raises(AuthenticationError):
        await other.execute("select 1")
    await conn.execute(f"create user {user} pass 'Secret_12345!'")
    assert (await other.fetchval("select current_user()")).startswith(f"{user}@")
    await conn.execute(f"drop user {user}")


async def test_the_time_zone(connect: Any) -> None:
    conn = await connect(timezone="Asia/Tokyo")
    text = "select to_char(to_timestamp('2024-01-01 00:00:00', 'yyyy-mm-dd hh24:mi:ss'), 'hh24:mi')"
    sql = "select cast('2024-01-01 00:00:00' as timestamp)"
    tokyo = await conn.fetchval(sql)
    await conn.set_timezone("UTC")
    utc = await conn.fetchval(sql)
    assert (utc - tokyo).total_seconds() == 9 * 3600
    assert await conn.fetchval(text) == "00:00"


async def test_given_up(connect: Any, database: str, slow: Any) -> None:
    conn = await connect(database=database, cancel="kill")
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await conn.fetch(slow.sql, timeout=0.05)
        assert await conn.fetchval("select 1") == 1
    task = asyncio.create_task(conn.fetch(slow.sql))
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await conn.fetchval("select 3") == 3


async def test_many_queries(dsn: str) -> None:
    async with aiotaos.create_pool(dsn, min_size=8, max_size=8) as pool:

        async def work(number: int) -> None:
            for n in range(number, COUNT, 64):
                assert await pool.fetchval(f"select {n}") == n

        await asyncio.gather(*map(work, range(64)))
    await gone()


async def test_cancelled_at_any_moment(connect: Any, database: str, numbers: Any) -> None:
    conn = await connect(database=database)
    await numbers(conn, "n", ROWS)
    chance = random.Random(3)
    statements = ["select 1", "select * from n", "select nothing", "select count(*) from n", "x"]

    async def one(number: int) -> None:
        task = asyncio.create_task(conn.fetch(chance.choice(statements)))
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        await asyncio.sleep(chance.random() * 0.003)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    for _ in range(30):
        await asyncio.gather(*map(one, range(30)))
    assert await conn.fetchval("select count(*) from n") == ROWS
    results = conn._session.transport._results
    async with asyncio.timeout(5):
        while len(results):  # noqa: ASYNC110 - the library has no event
            await asyncio.sleep(0.01)
    assert results._readings == set()


WAYS = {
    "queries run": """
        async def main():
            conn = await aiotaos.connect(dsn)
            for n in range(40):
                asyncio.ensure_future(conn.fetch("select * from information_schema.ins_columns"))
            await asyncio.sleep(0.002)
            print("end", flush=True)
            sys.exit(0)

        asyncio.run(main())
    """,
    "the loop stands still": """
        loop = asyncio.new_event_loop()
        conn = loop.run_until_complete(aiotaos.connect(dsn)._open())
        tasks = [loop.create_task(conn.fetch("show databases")) for _ in range(50)]
        loop.run_until_complete(asyncio.sleep(0.001))
        print("end", flush=True)
    """,
    "a thread goes on": """
        started = threading.Event()

        async def main():
            conn = await aiotaos.connect(dsn)

            async def work():
                while True:
                    await conn.fetchval("select 1")

            tasks = [asyncio.ensure_future(work()) for _ in range(16)]
            await asyncio.sleep(0.05)
            started.set()
            await asyncio.gather(*tasks)

        threading.excepthook = lambda args: None
        threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
        started.wait()
        print("end", flush=True)
    """,
}
PRELUDE = "import asyncio, sys, threading\nimport aiotaos\ndsn = sys.argv[1]\n"


@pytest.mark.parametrize("way", WAYS)
def test_the_end_of_the_process(dsn: str, way: str) -> None:
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", "-c", PRELUDE + textwrap.dedent(WAYS[way]), dsn],
            capture_output=True,
            encoding="utf-8",
            timeout=30,
            check=False,
        )
        assert (done.stdout, done.returncode) == ("end\n", 0), done.stderr
        assert "Fatal" not in done.stderr


def test_the_example(dsn: str) -> None:
    example = Path(__file__).parents[2] / "examples" / "native.py"
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", str(example), "--dsn", dsn],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1:] == [
        "20000 rows bound",
        "sum: 49997500.0 W",
        "1 line",
        "200 tasks on one connection, sum of their answers 19900",
    ]

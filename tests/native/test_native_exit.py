"""The end of the process, and forks, while libtaos is at work: nothing crashes, nothing hangs."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from aiotaos.transport.native.signals import SLOTS
from tests.native.standin import Standin

PRELUDE = """
import asyncio, os, sys, threading, time
import aiotaos
from aiotaos.transport.native import signals

dsn = sys.argv[1]
signals.SLOTS = int(sys.argv[2])


async def opened():
    conn = await aiotaos.connect(dsn, cancel="leave")
    assert await conn.fetchval("select 1") == 1
    return conn
"""

WAYS = {
    "in the loop": """
        async def main():
            conn = await opened()
            for n in range(20):
                asyncio.ensure_future(conn.fetch("select 1 /* never */"))
            result = await conn.query("select 2 /* rows=9 block=3 fetch_after=1 fetch_never */")
            await result.fetchone()
            await asyncio.sleep(0.01)
            print("end", flush=True)
            sys.exit(0)

        asyncio.run(main())
    """,
    "the loop stands still": """
        loop = asyncio.new_event_loop()
        conn = loop.run_until_complete(opened())
        tasks = [loop.create_task(conn.fetch("select 1 /* delay=30ms */")) for _ in range(50)]
        tasks += [loop.create_task(conn.fetch("select 1 /* never */")) for _ in range(50)]
        loop.run_until_complete(asyncio.sleep(0.01))
        print("end", flush=True)
    """,
    "the loop is closed": """
        async def main():
            conn = await opened()
            for n in range(200):
                asyncio.ensure_future(conn.fetch(f"select {n} /* delay={n % 20}ms */"))
            await asyncio.sleep(0.005)
            return conn

        conn = asyncio.run(main())
        print("end", flush=True)
    """,
    "a thread goes on": """
        started = threading.Event()

        async def main():
            connections = [await opened() for _ in range(4)]

            async def work(conn):
                while True:
                    await conn.fetchval("select 1")

            tasks = [asyncio.ensure_future(work(conn)) for conn in connections for _ in range(8)]
            await asyncio.sleep(0.05)
            started.set()
            await asyncio.gather(*tasks)

        threading.excepthook = lambda args: None
        threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
        started.wait()
        print("end", flush=True)
    """,
    "while connecting": """
        async def main():
            await opened()
            for n in range(4):
                asyncio.ensure_future(opened())
            await asyncio.sleep(0)
            print("end", flush=True)
            sys.exit(0)

        asyncio.run(main())
    """,
    "libtaos looks for a server": """
        import ctypes
        ctypes.CDLL(sys.argv[3]).standin_rule(b"taos_connect", 0, None, ctypes.c_int64(-1), 1)

        async def main():
            try:
                await aiotaos.connect(dsn + "&connect_timeout=0.1&conn_retries=0")
            except aiotaos.TimeoutError:
                print("end", flush=True)

        asyncio.run(main())
    """,
    "closed in good order": """
        async def main():
            conn = await opened()
            task = asyncio.ensure_future(conn.fetch("select 1 /* never */"))
            await asyncio.sleep(0.01)
            await conn.close()
            await asyncio.gather(task, return_exceptions=True)

        asyncio.run(main())
        for thread in set(threading.enumerate()) - {threading.main_thread()}:
            thread.join(5)
        assert threading.active_count() == 1
        print("end", flush=True)
    """,
}


def run(
    body: str, dsn: str, slots: int = SLOTS, library: str = ""
) -> subprocess.CompletedProcess[str]:
    program = PRELUDE + textwrap.dedent(body)
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", program, dsn, str(slots), library],
        capture_output=True,
        encoding="utf-8",
        timeout=20,
        check=False,
    )


@pytest.mark.parametrize("slots", [SLOTS, 0], ids=["signals", "callbacks"])
@pytest.mark.parametrize("way", WAYS)
def test_the_end_of_the_process(standin: Standin, open_port: int, way: str, slots: int) -> None:
    dsn = f"taos://127.0.0.1:{open_port}?library_path={standin.path}"
    done = run(WAYS[way], dsn, slots, str(standin.path))
    assert (done.stdout, done.returncode) == ("end\n", 0), done.stderr
    for word in ("Fatal", "Segmentation", "Exception ignored"):
        assert word not in done.stderr


FORK = """
loop = asyncio.new_event_loop()
conn = loop.run_until_complete(opened())
task = loop.create_task(conn.fetch("select 1 /* delay=50ms */"))
loop.run_until_complete(asyncio.sleep(0.005))


async def tried(attempt):
    try:
        await attempt()
    except aiotaos.InterfaceError as error:
        print(error, flush=True)


def forked(child):
    pid = os.fork()
    if not pid:
        child()
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def use():
    asyncio.run(tried(lambda: conn.fetchval("select 1")))
    conn.terminate()
    os._exit(7)


def connect():
    asyncio.run(tried(opened))
    os._exit(8)


def go_on():
    # What comes is the parent's, so that nothing is ever answered here.
    task.cancel()
    loop.call_later(0.2, os._exit, 6)
    loop.run_forever()


forked(use)
forked(connect)
forked(go_on)
assert loop.run_until_complete(task) == [(1,)]
forked(lambda: sys.exit(9))  # which ends the loop's epoll, for both
print("end", flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_fork(standin: Standin, open_port: int) -> None:
    done = run(FORK, f"taos://127.0.0.1:{open_port}?library_path={standin.path}")
    assert done.returncode == 0, done.stderr
    used, seven, opened, eight, six, nine, end = done.stdout.splitlines()
    assert "was opened before a fork" in used
    assert "does not survive a fork" in opened
    assert (seven, eight, six, nine, end) == ("7", "8", "6", "9", "end")


CONFIGURED = """
from aiotaos.options import Options
from aiotaos.transport.native.loading import load


async def main():
    await (await aiotaos.connect(dsn, config_dir="/", charset="UTF-8", locale="C.UTF-8")).close()
    await (await aiotaos.connect(dsn, config_dir="/")).close()
    try:
        await aiotaos.connect(dsn, config_dir="/usr")
    except aiotaos.InterfaceError as error:
        print(error, flush=True)
    print(sorted(load(Options.make(dsn).library_path).settings.items()))


asyncio.run(main())
"""


def test_the_configuration_of_the_process(standin: Standin, open_port: int) -> None:
    done = run(CONFIGURED, f"taos://127.0.0.1:{open_port}?library_path={standin.path}")
    assert done.returncode == 0, done.stderr
    refused, settings = done.stdout.splitlines()
    assert "config_dir: '/usr' is wanted, but '/' is set already" in refused
    assert "('charset', 'UTF-8'), ('config_dir', '/')" in settings
    assert "('locale', 'C.UTF-8')" in settings

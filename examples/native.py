"""Through libtaos to taosd, without taosAdapter: bind, stream, write lines, many tasks at once.

    python examples/native.py --dsn "taos://root:taosdata@localhost:6030"

libtaos is found by itself where TDengine is installed; otherwise "?library_path=…" says where it
is. It makes and drops a database `example_native`.
"""

from __future__ import annotations

import argparse
import asyncio

import aiotaos
from aiotaos.transport.native.loading import load

ROWS = 20_000
TASKS = 200
START = 1_709_251_200_000  # 2024-03-01T00:00:00Z, in milliseconds
DSN = "taos://root:taosdata@localhost:6030"


async def run(dsn: str) -> None:
    async with aiotaos.connect(dsn, timezone="UTC") as conn:
        library = load(aiotaos.Options.make(dsn).library_path)  # the one that conn uses
        print(f"libtaos {library.version_text}, server {conn.server_version}")
        await conn.execute("create database if not exists example_native")
        try:
            await conn.select_db("example_native")
            await report(conn)
        finally:
            await conn.execute("drop database example_native")


async def report(conn: aiotaos.Connection[aiotaos.Row]) -> None:
    await conn.execute("create table power (ts timestamp, watt double)")
    rows = [(START + i * 1000, i / 4) for i in range(ROWS)]
    written = await conn.executemany("insert into power values (?, ?)", rows)
    print(f"{written} rows bound")

    total = 0.0
    async for _, watt in await conn.query("select ts, watt from power"):
        total += watt
    print(f"sum: {total} W")

    lines = await conn.schemaless_insert(f"events,kind=start value=1 {START}")
    print(f"{lines} line")

    answers = await asyncio.gather(*(conn.fetchval(f"select {i}") for i in range(TASKS)))
    print(f"{TASKS} tasks on one connection, sum of their answers {sum(answers)}")


def main() -> None:
    parser = argparse.ArgumentParser(description="the native road")
    parser.add_argument("--dsn", help="taos://… of a taosd")
    dsn = parser.parse_args().dsn
    if dsn is None:
        print(f'this needs libtaos and a taosd: python examples/native.py --dsn "{DSN}"')
    else:
        asyncio.run(run(dsn))


if __name__ == "__main__":
    main()

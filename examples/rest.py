"""The same over plain HTTP: write, read as a stream, and see what REST cannot do.

    python examples/rest.py [--dsn http://root:taosdata@localhost:6041]

Without a DSN it starts the embedded server. It makes and drops a database `example_rest`.
"""

from __future__ import annotations

import argparse
import asyncio
from contextlib import AsyncExitStack

import aiotaos

ROWS = 20_000
START = 1_709_251_200_000  # 2024-03-01T00:00:00Z, in milliseconds


async def run(dsn: str) -> None:
    async with aiotaos.create_pool(dsn, timezone="UTC", max_size=4) as pool:
        await pool.execute("create database if not exists example_rest")
        try:
            async with pool.acquire() as conn:
                await conn.select_db("example_rest")  # from now on in the path of each request
                await report(conn)
        finally:
            await pool.execute("drop database example_rest")


async def report(conn: aiotaos.Connection[aiotaos.Row]) -> None:
    await conn.execute("create table power (ts timestamp, watt double, note varchar(20))")
    rows = [(START + i * 1000, i / 4, f"line {i % 7}") for i in range(ROWS)]
    written = await conn.executemany("insert into power values (?, ?, ?)", rows)
    print(f"{written} rows written as SQL, {conn.endpoint.partition(':')[0]}")

    most, when = 0.0, None
    async for ts, watt, _ in await conn.query("select * from power where watt > ?", 100):
        if watt > most:
            most, when = watt, ts
    print(f"the most: {most} W at {when}")

    lines = await conn.schemaless_insert(f"events,kind=start value=1 {START}")
    print(f"{lines} line through the InfluxDB endpoint")
    try:
        await conn.prepare("insert into power values (?, ?, ?)")
    except aiotaos.NotSupportedError as error:
        print(error.message)


async def main() -> None:
    parser = argparse.ArgumentParser(description="REST")
    parser.add_argument("--dsn", help="http://… of a taosAdapter")
    dsn = parser.parse_args().dsn
    async with AsyncExitStack() as stack:
        if dsn is None:
            import aiotaos.embedded

            server = await stack.enter_async_context(aiotaos.embedded.Server())
            dsn = server.http_dsn
        await run(dsn)


if __name__ == "__main__":
    asyncio.run(main())

"""Ingest and forward: what one database gets is written into another, through a subscription.

    python examples/forward.py [--dsn ws://root:taosdata@localhost:6041]

Without a DSN it starts the embedded server. It makes and drops the databases `example_in` and
`example_out` and the topic `example_topic`.
"""

from __future__ import annotations

import argparse
import asyncio

import aiotaos

DEVICES = 20
ROWS = 30_000
START = 1_709_251_200_000  # 2024-03-01T00:00:00Z, in milliseconds


async def prepare(conn: aiotaos.Connection[aiotaos.Row]) -> None:
    await clean_up(conn)
    for name in ("example_in", "example_out"):
        await conn.execute(f"create database {name}")
        await conn.execute(
            f"create stable {name}.meters (ts timestamp, watt double) tags (room int)"
        )
    await conn.execute(
        "create topic example_topic as select ts, watt, room, tbname from example_in.meters"
    )


async def clean_up(conn: aiotaos.Connection[aiotaos.Row]) -> None:
    await conn.execute("drop topic if exists example_topic")
    for name in ("example_in", "example_out"):
        await conn.execute(f"drop database if exists {name}")


async def ingest(dsn: str) -> None:
    async with aiotaos.connect(dsn, database="example_in") as conn:
        for first in range(0, ROWS, 5000):
            numbers = range(first, first + 5000)
            rows = [(f"d{i % DEVICES}", i % DEVICES, START + i, i / 4) for i in numbers]
            await conn.insert("meters", rows, tbname="device", tags=["room"])


async def forward(dsn: str) -> int:
    """Read until all rows have come; commit only what is stored on the other side."""
    forwarded = 0
    async with (
        aiotaos.connect(dsn, database="example_out") as target,
        aiotaos.Consumer(
            dsn, group_id="forward", auto_offset_reset="earliest", enable_auto_commit=False
        ) as consumer,
    ):
        await consumer.subscribe(["example_topic"])
        async for message in consumer:
            rows = [(device, room, ts, watt) for ts, watt, room, device in message.rows()]
            forwarded += await target.insert("meters", rows, tbname="device", tags=["room"])
            await consumer.commit(message)
            if forwarded == ROWS:
                break
    return forwarded


async def run(dsn: str) -> None:
    async with aiotaos.connect(dsn) as conn:
        await prepare(conn)
        try:
            async with asyncio.TaskGroup() as group:
                forwarding = group.create_task(forward(dsn))
                group.create_task(ingest(dsn))
            print(f"forwarded: {forwarding.result()} rows")
            for name in ("example_in", "example_out"):
                sums = await conn.fetch(f"select count(*), sum(watt) from {name}.meters")
                for count, watts in sums:
                    print(f"{name}: {count} rows, {watts:.0f} W")
        finally:
            await clean_up(conn)


def main() -> None:
    parser = argparse.ArgumentParser(description="Forwarding through a subscription")
    parser.add_argument("--dsn", default="embedded://")
    asyncio.run(run(parser.parse_args().dsn))


if __name__ == "__main__":
    main()

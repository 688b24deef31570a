"""An ingestion worker: many sensors, one writer, wrong rows reported (AIOTAOS_DSN, or embedded)."""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import aiotaos

DSN = os.environ.get("AIOTAOS_DSN", "embedded://")
START = datetime(2024, 3, 1, tzinfo=UTC)


@dataclass
class Reading:
    device: str
    location: str
    ts: datetime
    current: float
    voltage: int


async def sensor(number: int, writer: aiotaos.Writer) -> None:
    """Send a thousand readings; now and then one that cannot be true."""
    chance = random.Random(number)
    for second in range(1000):
        await writer.write(
            Reading(
                device=f"sensor{number}",
                location=("Oakland", "Fresno")[number % 2],
                ts=START + timedelta(seconds=second),
                current=chance.gauss(10, 1),
                voltage=220 if second % 500 else 10**12,
            )
        )


async def main() -> None:
    wrong: list[Reading] = []

    def report(rows: list[Reading], error: aiotaos.Error) -> None:
        wrong.extend(rows)

    async with aiotaos.connect(DSN) as conn:
        await conn.execute("create database if not exists aiotaos_example")
        await conn.select_db("aiotaos_example")
        await conn.execute("drop table if exists readings")
        await conn.execute(
            "create stable readings (ts timestamp, current float, voltage int) "
            "tags (location varchar(20))"
        )
        async with conn.writer(
            "readings", tbname="device", tags=["location"], max_rows=5000, on_error=report
        ) as writer:
            async with asyncio.TaskGroup() as sensors:
                for number in range(20):
                    sensors.create_task(sensor(number, writer))
            await writer.flush()
            stats = writer.stats
        print(f"{stats.rows} rows in {stats.batches} batches, {stats.failed} reported")
        print("stored:", await conn.fetchval("select count(*) from readings"))
        print("one that was wrong:", wrong[0])


asyncio.run(main())

"""Streaming, cursors and row factories, on the embedded server or any TDengine (AIOTAOS_DSN)."""

from __future__ import annotations

import asyncio
import os
from datetime import datetime

import msgspec

import aiotaos

DSN = os.environ.get("AIOTAOS_DSN", "embedded://")


class Reading(msgspec.Struct):
    ts: datetime
    voltage: int | None
    location: str


async def prepare(conn: aiotaos.Connection) -> None:
    await conn.execute("create database if not exists aiotaos_example")
    await conn.select_db("aiotaos_example")
    await conn.execute(
        "create stable if not exists meters (ts timestamp, current float, voltage int) "
        "tags (location varchar(64))"
    )
    for number, location in enumerate(["Oakland", "Fresno"]):
        rows = " ".join(
            f"({1_709_251_200_000 + i}, {10 + i / 1000}, {i % 240})" for i in range(10_000)
        )
        await conn.execute(f"insert into d{number} using meters tags ('{location}') values {rows}")


async def main() -> None:
    async with aiotaos.connect(DSN, timezone="UTC") as conn:
        await prepare(conn)

        print("the first three, as objects:")
        readings = await conn.fetch(
            "select ts, voltage, location from meters order by ts limit 3",
            row_factory=aiotaos.class_row(Reading),
        )
        print(*readings, sep="\n")

        async with conn.cursor() as cur:
            await cur.execute("select voltage from meters")
            total = 0
            async for (voltage,) in cur:
                total += voltage
            print(f"{cur.rowcount} rows, sum of voltages {total}")

        async with await conn.query("select current from meters") as result:
            async for block in result.blocks():
                column = block.columns[0]
                assert isinstance(column, aiotaos.FixedColumn)
                print(f"a block of {len(block)} rows, mean current {column.values.mean():.3f}")

        await conn.execute("drop database aiotaos_example")


asyncio.run(main())

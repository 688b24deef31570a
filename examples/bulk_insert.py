"""A numpy data set into many sub-tables at once (AIOTAOS_DSN, or embedded)."""

from __future__ import annotations

import asyncio
import os
import time

import numpy as np

import aiotaos

DSN = os.environ.get("AIOTAOS_DSN", "embedded://")
ROWS = 200_000
DEVICES = 20


async def main() -> None:
    rows = np.arange(ROWS)
    device = rows % DEVICES
    data = {
        "device": np.array([f"bulk{number}" for number in range(DEVICES)])[device],
        "location": np.array(["Oakland", "Fresno"])[device % 2],
        "ts": np.datetime64("2024-03-01", "ms") + rows // DEVICES,
        "current": 10 + np.sin(rows / 1000),
        "voltage": np.ma.masked_equal(200 + rows % 40, 239),  # masked values become NULL
    }
    async with aiotaos.connect(DSN) as conn:
        await conn.execute("create database if not exists aiotaos_example")
        await conn.select_db("aiotaos_example")
        await conn.execute("drop table if exists bulk")
        await conn.execute(
            "create stable bulk (ts timestamp, current double, voltage int) "
            "tags (location varchar(20))"
        )
        began = time.perf_counter()
        written = await conn.insert("bulk", data, tbname="device", tags=["location"])
        took = time.perf_counter() - began
        print(f"{written} rows in {took:.1f} s")
        for row in await conn.fetch(
            "select location, count(*), count(voltage) from bulk "
            "group by location order by location"
        ):
            print(*row)


asyncio.run(main())

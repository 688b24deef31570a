"""Columns instead of rows: numpy, Arrow, pandas, polars, and Parquet as a stream.

    python examples/columns.py [--dsn ws://root:taosdata@localhost:6041]

It makes and drops a database `example_columns`. It needs the extras arrow, pandas and polars.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from contextlib import aclosing

import numpy as np
import pyarrow.dataset

import aiotaos

ROWS = 50_000
START = 1_709_251_200_000  # 2024-03-01T00:00:00Z, in milliseconds


async def run(dsn: str) -> None:
    async with aiotaos.create_pool(dsn, timezone="Europe/Berlin", max_size=4) as pool:
        await pool.execute("create database if not exists example_columns keep 36500")
        try:
            async with pool.acquire() as conn:
                await conn.select_db("example_columns")
                await report(conn)
        finally:
            await pool.execute("drop database example_columns")


async def report(conn: aiotaos.Connection[aiotaos.Row]) -> None:
    await conn.execute(
        "create stable meters (ts timestamp, current float, voltage int) tags (room nchar(16))"
    )
    number = np.arange(ROWS)
    data = {
        "device": np.array(["d1", "d2", "d3", "d4"])[number % 4],
        "ts": START + number * 1000,
        "current": 10 + np.sin(number / 1000),
        "voltage": 215 + number % 10,
        "room": np.array(["Küche", "Bad", "Flur", "Büro"])[number % 4],
    }
    await conn.insert("meters", data, tbname="device", tags=["room"])

    arrays = await conn.to_numpy("select ts, current from meters where voltage > ?", 220)
    print(f"numpy: {len(arrays['ts'])} rows, mean current {arrays['current'].mean():.3f}")

    frame = await conn.to_pandas("select * from meters", dictionary=["room"])
    print("pandas:", frame.groupby("room", observed=True)["voltage"].mean().to_dict())

    latest = (await conn.to_polars("select * from meters")).sort("ts").tail(1)
    print("polars:", latest.row(0, named=True))

    rows = 0
    async with aclosing(conn.arrow_batches("select * from meters")) as batches:
        async for batch in batches:
            rows += batch.num_rows
    print(f"Arrow: {rows} rows, {batch.schema.field('ts').type}")

    with tempfile.TemporaryDirectory() as folder:
        async with await conn.query("select * from meters") as result:
            reader = await result.arrow_reader()
            await asyncio.to_thread(pyarrow.dataset.write_dataset, reader, folder, format="parquet")
        stored = await asyncio.to_thread(pyarrow.dataset.dataset(folder).count_rows)
        print(f"Parquet: {stored} rows, never more than two blocks of them in memory")


async def main() -> None:
    parser = argparse.ArgumentParser(description="Columns")
    parser.add_argument("--dsn", default="embedded://", help="ws://… of a taosAdapter")
    await run(parser.parse_args().dsn)


if __name__ == "__main__":
    asyncio.run(main())

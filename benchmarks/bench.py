"""The whole comparison: aiotaos beside the official clients, one scenario after the other.

    python benchmarks/bench.py [--dsn ws://…] [--only fetchall,arrow] [--rounds 5] [--rows 400000]

With ``--dsn`` it reads from, and writes to, this TDengine. Without, it reads from a server of its
own that has nothing but canned blocks (``canned.py``), so that the cost of the clients shows; what
needs a real server is left out then. Every answer is checked. One contestant runs at a time, and
the order turns with each round.

``--profile fetchall`` measures nothing: it runs one contestant under cProfile.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import os
import platform
import pstats
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import datasets
from bench_scenarios import SCENARIOS, Bench, Race, Scenario
from bench_tables import Table, as_json, as_markdown, as_text, draw

import aiotaos
from aiotaos.options import Options

PACKAGES = ("taos-ws-py", "taospy", "numpy", "pyarrow", "pandas", "polars", "websockets")
PATIENCE = 10.0
SHOWN = 25  # functions of a profile
NAMES = [name for scenario in SCENARIOS for name in scenario.names]


@contextmanager
def canned_server(rows: int) -> Iterator[str]:
    """A server of canned blocks in a process of its own; its DSN."""
    command = [sys.executable, str(Path(__file__).with_name("canned.py")), f"--rows={rows}"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            port = process.stdout.readline().strip()
            if not port:
                raise SystemExit("the server of canned blocks did not start")
            yield f"ws://root:taosdata@127.0.0.1:{port}"
        finally:
            assert process.stdin is not None
            process.stdin.close()  # it ends with its input
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def filled_server(dsn: str, rows: int, *, is_filled: bool) -> Iterator[str]:
    """A TDengine that has the tables, where they are needed."""
    if not is_filled:
        yield dsn
        return
    try:
        print(f"filling the tables of {datasets.DATABASE} …", flush=True)
        asyncio.run(datasets.make_database(dsn, datasets.all_of(rows)))
        yield dsn
    finally:
        asyncio.run(datasets.drop_database(dsn))


def processor() -> str:
    """What the processor is called."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


async def server_version(dsn: str) -> str:
    async with aiotaos.connect(dsn) as conn:
        return f"TDengine {conn.server_version}"


def about(bench: Bench) -> dict[str, str]:
    """Versions and machine."""
    told = {"aiotaos": aiotaos.__version__}
    for name in PACKAGES:
        try:
            told[name] = version(name)
        except PackageNotFoundError:
            told[name] = "none"
    told["Python"] = f"{platform.python_implementation()} {platform.python_version()}"
    told["server"] = "canned blocks" if bench.is_canned else asyncio.run(server_version(bench.dsn))
    told["machine"] = f"{os.cpu_count()} CPUs ({processor()}), {platform.system()}"
    told["rounds"] = str(bench.rounds)
    return told


def wanted(only: str) -> list[Scenario]:
    """The scenarios of these names."""
    names = [name.strip() for name in only.split(",") if name.strip()]
    unknown = set(names) - set(NAMES)
    if unknown:
        raise SystemExit(f"no such scenario: {', '.join(sorted(unknown))}; {', '.join(NAMES)}")
    return [one for one in SCENARIOS if not names or set(names) & set(one.names)]


def run(scenarios: Sequence[Scenario], bench: Bench) -> list[Table]:
    """Measure one after the other."""
    tables: list[Table] = []
    for scenario in scenarios:
        title = ", ".join(scenario.names)
        if scenario.needs_server and bench.is_canned:
            print(f"{title}: needs a TDengine (--dsn)\n")
            continue
        print(title, flush=True)
        tables += scenario.run(bench)
        print()
    return tables


def profile(scenario: Scenario, bench: Bench, contestant: str) -> None:
    """Run one contestant under cProfile."""
    if not isinstance(scenario, Race):
        raise SystemExit(f"{', '.join(scenario.names)} cannot be profiled")
    if scenario.needs_server and bench.is_canned:
        raise SystemExit(f"{scenario.name} needs a TDengine (--dsn)")
    found = [one for one in scenario.contestants if contestant in one.name]
    if not found:
        raise SystemExit(f"no such contestant: {contestant}")
    given = scenario.given(bench)
    with scenario.around(bench):
        found[0].read(given)  # imports and caches
        profiler = cProfile.Profile()
        profiler.enable()
        found[0].read(given)
        profiler.disable()
    print(f"{scenario.name}: {found[0].name}; connecting and checking the answer included\n")
    pstats.Stats(profiler).sort_stats("tottime").print_stats(SHOWN)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dsn", default="", help="a TDengine; without it canned blocks are read")
    parser.add_argument("--only", default="", help=f"some of: {', '.join(NAMES)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--queries", type=int, default=2_000)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="draw the ratios")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    parser.add_argument("--profile", choices=NAMES, help="profile a contestant of this scenario")
    parser.add_argument(
        "--contestant", default="aiotaos", help="which one: the first whose name holds this"
    )
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    dsn, is_canned = arguments.dsn, not arguments.dsn
    scenarios = wanted(arguments.profile or arguments.only)
    reads = any(isinstance(one, Race) or "memory" in one.names for one in scenarios)
    serving = (
        canned_server(arguments.rows)
        if is_canned
        else filled_server(dsn, arguments.rows, is_filled=reads)
    )
    with serving as dsn:
        bench = Bench(dsn, is_canned, arguments.rows, arguments.queries, arguments.rounds)
        # requests, beneath taosrest, would ask a proxy for the server.
        os.environ["NO_PROXY"] = os.environ["no_proxy"] = Options.make(dsn).addresses[0].host
        if arguments.profile:
            profile(scenarios[0], bench, arguments.contestant)
            return
        told = about(bench)
        print("; ".join(f"{name} {value}" for name, value in told.items()), "\n")
        tables = run(scenarios, bench)
    print(as_markdown(tables) if arguments.markdown else as_text(tables))
    if arguments.json:
        arguments.json.write_text(as_json(tables, told), encoding="utf-8")
    if arguments.chart:
        against = f"aiotaos {told['aiotaos']}, taos-ws-py {told['taos-ws-py']}, {told['server']}"
        try:
            draw(tables, arguments.chart, f"relative to the darker bar; {against}")
        except ImportError:
            print("no chart: matplotlib is not installed", file=sys.stderr)


if __name__ == "__main__":
    main()

"""How ``bench.py`` reads large results: a contestant for each way and each client."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
import taosrest  # type: ignore[import-untyped]
import taosws  # type: ignore[import-untyped]
import websockets.asyncio.client
from contest import Contestant, Figures, UnavailableError
from datasets import DataSet, Sums

import aiotaos
from aiotaos.options import Options
from aiotaos.protocol import frames

LIBRARY_DIR = "AIOTAOS_BENCH_LIBTAOS"
CONFIG_DIR = "AIOTAOS_BENCH_TAOS_CFG"
FINISHED_AT = 50  # in the answer to a binary fetch without a message
ROWS_AT = 63  # in the same: in the header of its block
NATIVE_PATIENCE = 600.0

Connection = aiotaos.Connection[tuple[Any, ...]]
Sum = Callable[[Any, DataSet], Sums]


@dataclass(frozen=True)
class Target:
    """What is to be read, and where.

    Attributes:
        dsn: Of the server.
        is_canned: Whether it only has canned blocks.
        data: The table.
    """

    dsn: str
    is_canned: bool
    data: DataSet

    @property
    def options(self) -> Options:
        return Options.make(self.dsn)

    @property
    def native_dsn(self) -> str:
        """For libtaos.

        Raises:
            UnavailableError: There is no server, or nobody has said where the library is.
        """
        if self.is_canned:
            raise UnavailableError("speaks to a TDengine only")
        if not (library := os.environ.get(LIBRARY_DIR)):
            raise UnavailableError(f"set {LIBRARY_DIR} to the directory of libtaos")
        options = self.options
        query = {"library_path": library}
        if config := os.environ.get(CONFIG_DIR):
            query["config_dir"] = config
        login = f"{quote(options.user)}:{quote(options.password)}"
        return f"taos://{login}@{options.addresses[0].host}:6030?{urlencode(query)}"

    @property
    def url(self) -> str:
        """For REST."""
        scheme = "https" if self.options.tls else "http"
        return f"{scheme}://{self.options.addresses[0]}"


Reader = Contestant[Target]


# Sums of what was read.


def of_rows(rows: Any, data: DataSet) -> Sums:
    return data.sums_of(rows)


def of_sums(sums: Any, _: DataSet) -> Sums:
    """It was summed up while it came."""
    found: Sums = sums
    return found


def of_count(count: Any, data: DataSet) -> Sums:
    """It was only counted."""
    return count, data.total


def of_arrow(table: Any, data: DataSet) -> Sums:
    import pyarrow.compute as pc

    return table.num_rows, pc.sum(table[data.summed]).as_py()


def of_frame(frame: Any, data: DataSet) -> Sums:
    """Of a frame of pandas or polars."""
    return len(frame), int(frame[data.summed].to_numpy().sum())  # polars adds INTs up as INT


def of_arrays(arrays: Any, data: DataSet) -> Sums:
    column = arrays[data.summed]
    return len(column), int(column.sum())


# aiotaos.


async def fetch(conn: Connection, sql: str, _: DataSet) -> list[Any]:
    return await conn.fetch(sql)


async def one_by_one(conn: Connection, sql: str, data: DataSet) -> Sums:
    """Rows as they come; they are not kept."""
    place, count, total = data.place(), 0, 0
    async for row in await conn.query(sql):
        count += 1
        total += row[place]
    return count, total


async def blocks(conn: Connection, sql: str, _: DataSet) -> int:
    """Blocks as they come, whose values nobody looks at."""
    count = 0
    async for block in (await conn.query(sql)).blocks():
        count += len(block)
    return count


def verb(name: str) -> Callable[[Connection, str, DataSet], Awaitable[Any]]:
    """One of the calls that return everything at once, as ``to_arrow``."""

    async def take(conn: Connection, sql: str, _: DataSet) -> Any:
        if not hasattr(conn, name):
            raise UnavailableError(f"this aiotaos has no Connection.{name}")
        return await getattr(conn, name)(sql)

    return take


def own(
    take: Callable[[Connection, str, DataSet], Awaitable[Any]],
    sums: Sum = of_rows,
    *,
    over_libtaos: bool = False,
) -> Callable[[Target], Figures]:
    """Read with aiotaos, over WebSocket or the native road."""

    async def read(target: Target) -> Figures:
        data = target.data
        async with aiotaos.connect(target.native_dsn if over_libtaos else target.dsn) as conn:
            await take(conn, data.warm_up, data)
            cpu, wall = time.process_time(), time.perf_counter()
            taken = await take(conn, data.sql, data)
            figures = Figures(time.perf_counter() - wall, time.process_time() - cpu)
        data.check(sums(taken, data))
        return figures

    return lambda target: asyncio.run(read(target))


# taos-ws-py.


def cursor_fetchall(cursor: Any, sql: str, _: DataSet) -> list[Any]:
    cursor.execute(sql)
    rows: list[Any] = cursor.fetchall()
    return rows


def listed(conn: Any, sql: str, _: DataSet) -> list[Any]:
    return list(conn.query(sql))


def iterated(conn: Any, sql: str, data: DataSet) -> Sums:
    place, count, total = data.place(), 0, 0
    for row in conn.query(sql):
        count += 1
        total += row[place]
    return count, total


def rows_and_names(cursor: Any, sql: str) -> tuple[list[Any], list[str]]:
    cursor.execute(sql)
    return cursor.fetchall(), [column[0] for column in cursor.description]


def rows_to_arrow(cursor: Any, sql: str, _: DataSet) -> Any:
    import pyarrow as pa

    rows, names = rows_and_names(cursor, sql)
    return pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))


def rows_to_pandas(cursor: Any, sql: str, _: DataSet) -> Any:
    import pandas as pd

    rows, names = rows_and_names(cursor, sql)
    return pd.DataFrame(rows, columns=names)


def dicts_to_pandas(cursor: Any, sql: str, _: DataSet) -> Any:
    import pandas as pd

    cursor.execute(sql)
    return pd.DataFrame(cursor.fetch_all_into_dict())


def rows_to_polars(cursor: Any, sql: str, _: DataSet) -> Any:
    import polars as pl

    rows, names = rows_and_names(cursor, sql)
    return pl.DataFrame(rows, schema=names, orient="row")


def rows_to_numpy(cursor: Any, sql: str, _: DataSet) -> dict[str, Any]:
    rows, names = rows_and_names(cursor, sql)
    columns = zip(*rows, strict=True)
    return {name: np.array(column) for name, column in zip(names, columns, strict=True)}


def official(
    take: Callable[[Any, str, DataSet], Any], sums: Sum = of_rows, *, with_cursor: bool = True
) -> Callable[[Target], Figures]:
    """Read with taos-ws-py, with a cursor (which opens a session of its own) or without."""

    def read(target: Target) -> Figures:
        data = target.data
        conn = taosws.connect(target.dsn)
        source = conn.cursor() if with_cursor else conn
        take(source, data.warm_up, data)
        cpu, wall = time.process_time(), time.perf_counter()
        taken = take(source, data.sql, data)
        figures = Figures(time.perf_counter() - wall, time.process_time() - cpu)
        conn.close()
        data.check(sums(taken, data))
        return figures

    return read


# taospy: REST, and the native library.


def rest(target: Target) -> Figures:
    """taosrest with its defaults, which make datetimes without a zone."""
    options, data = target.options, target.data
    cursor = taosrest.connect(url=target.url, user=options.user, password=options.password).cursor()
    cursor.execute(data.warm_up)
    cpu, wall = time.process_time(), time.perf_counter()
    cursor.execute(data.sql)
    rows = cursor.fetchall()
    figures = Figures(time.perf_counter() - wall, time.process_time() - cpu)
    data.check(data.sums_of(rows))
    return figures


def with_library(script: str, target: Target, question: Mapping[str, Any]) -> dict[str, Any]:
    """What a script answers in a process of its own, which finds TDengine's library.

    Raises:
        UnavailableError: It cannot take part.
    """
    if target.is_canned:
        raise UnavailableError("speaks to a TDengine only")
    options = target.options
    environment = dict(os.environ)
    if library := os.environ.get(LIBRARY_DIR):
        paths = [library, *filter(None, [environment.get("LD_LIBRARY_PATH")])]
        environment["LD_LIBRARY_PATH"] = os.pathsep.join(paths)
    login = {
        "host": options.addresses[0].host,
        "user": options.user,
        "password": options.password,
        "config": os.environ.get(CONFIG_DIR),
    }
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name(script))],
        input=json.dumps({**login, **question}),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=NATIVE_PATIENCE,
    )
    last = (done.stdout.strip().splitlines() or [""])[-1]
    answer: dict[str, Any] = {"missing": "its process ended"}
    if last.startswith("{"):
        answer = json.loads(last)
    elif done.returncode > 0:  # not a crash: something was wrong, as an answer
        raise SystemExit(f"{script}: {done.stderr.strip()}")
    if "missing" in answer:
        raise UnavailableError(answer["missing"])
    return answer


def native(target: Target) -> Figures:
    """taospy's native client."""
    data = target.data
    question = {
        "kind": "read",
        "warm_up": data.warm_up,
        "sql": data.sql,
        "summed": data.place(),
        "is_text": data.measured is len,
    }
    answer = with_library("bench_native.py", target, question)
    data.check((answer["count"], answer["total"]))
    return Figures(answer["wall"], answer["cpu"])


# What arrives, thrown away.


def bare(target: Target) -> Figures:
    """A loop with websockets that asks for the frames and throws them away, one ahead."""

    async def ask(socket: Any, sql: str) -> int:
        await socket.send(frames.query_request(1, sql))
        result = json.loads(await socket.recv())
        fetch = frames.fetch_request(2, result["id"])
        await socket.send(fetch)
        count = 0
        while not (message := await socket.recv(decode=False))[FINISHED_AT]:
            await socket.send(fetch)
            count += int.from_bytes(message[ROWS_AT : ROWS_AT + 4], "little")
        return count

    async def read() -> Figures:
        options, data = target.options, target.data
        scheme = "wss" if options.tls else "ws"
        login = {"req_id": 1, "user": options.user, "password": options.password}
        async with websockets.asyncio.client.connect(
            f"{scheme}://{options.addresses[0]}/ws", compression=None, max_size=None, proxy=None
        ) as socket:
            await socket.send(json.dumps({"action": "conn", "args": login}))
            told = json.loads(await socket.recv())
            if told["code"]:
                raise SystemExit(f"login: {told}")
            await ask(socket, data.warm_up)
            cpu, wall = time.process_time(), time.perf_counter()
            count = await ask(socket, data.sql)
            figures = Figures(time.perf_counter() - wall, time.process_time() - cpu)
        data.check(of_count(count, data))
        return figures

    return asyncio.run(read())


# Who takes part.

ROWS: Sequence[Reader] = (
    Reader("aiotaos, fetch", own(fetch)),
    Reader("aiotaos, native, fetch", own(fetch, over_libtaos=True)),
    Reader("taos-ws-py, cursor, fetchall", official(cursor_fetchall), True),
    Reader("taos-ws-py, list(conn.query())", official(listed, with_cursor=False), True),
    Reader("taospy, native, cursor, fetchall", native),
    Reader("taosrest, cursor, fetchall", rest),
)
STREAM: Sequence[Reader] = (
    Reader("aiotaos, async for", own(one_by_one, of_sums)),
    Reader(
        "taos-ws-py, for row in conn.query()", official(iterated, of_sums, with_cursor=False), True
    ),
)
ARROW: Sequence[Reader] = (
    Reader("aiotaos, to_arrow", own(verb("to_arrow"), of_arrow)),
    Reader("blocks of aiotaos, thrown away", own(blocks, of_count), True),
    Reader("messages of websockets, thrown away", bare),
    Reader("taos-ws-py, fetchall, pyarrow.table", official(rows_to_arrow, of_arrow)),
)
PANDAS: Sequence[Reader] = (
    Reader("aiotaos, to_pandas", own(verb("to_pandas"), of_frame)),
    Reader("taos-ws-py, fetchall, DataFrame", official(rows_to_pandas, of_frame), True),
    Reader("taos-ws-py, fetch_all_into_dict, DataFrame", official(dicts_to_pandas, of_frame), True),
)
POLARS: Sequence[Reader] = (
    Reader("aiotaos, to_polars", own(verb("to_polars"), of_frame)),
    Reader("taos-ws-py, fetchall, DataFrame", official(rows_to_polars, of_frame), True),
)
NUMPY: Sequence[Reader] = (
    Reader("aiotaos, to_numpy", own(verb("to_numpy"), of_arrays)),
    Reader("taos-ws-py, fetchall, numpy.array", official(rows_to_numpy, of_arrays), True),
)

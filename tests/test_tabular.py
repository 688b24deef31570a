"""Results, cursors, connections and pools: their columns for numpy, Arrow, pandas and polars."""

from __future__ import annotations

import asyncio
import builtins
import gc
import subprocess
import sys
import threading
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pyarrow import parquet

import aiotaos
from aiotaos import (
    DataError,
    Field,
    InterfaceError,
    ProgrammingError,
    ResultError,
    TypeCode,
)
from aiotaos.embedded import Server
from aiotaos.protocol.encode import encode_block
from aiotaos.protocol.tables import Tables
from tests.conftest import FakeServer
from tests.transport.speaking_http import Gate, HttpServer, Reply, rows
from tests.type_matrix import COLUMNS, PRECISIONS, write_all

FIELDS = [
    Field("ts", TypeCode.TIMESTAMP, 8),
    Field("v", TypeCode.INT, 4),
    Field("s", TypeCode.VARCHAR, 9),
]
BLOCKS = [
    [[1, 2, 3], [1, None, 3], ["a", "b", None]],
    [[4, 5], [4, 5], ["a", "涛"]],
    [[6], [None], [""]],
]
PARTS = [dict(zip(("ts", "v", "s"), block, strict=True)) for block in BLOCKS]
WHOLE = {name: [value for part in PARTS for value in part[name]] for name in ("ts", "v", "s")}
FORMS = ["numpy", "arrow", "pandas", "polars"]
TYPES = {
    "numpy": dict,
    "arrow": (pa.Table, pa.RecordBatch),
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
}
SOURCES = ["result", "cursor", "connection", "pool"]


def plain(made):
    """What was made as lists, with times as ticks and missing values as None."""
    if isinstance(made, dict):
        return {
            name: (array.astype("i8") if array.dtype.kind == "M" else array).tolist()
            for name, array in made.items()
        }
    if isinstance(made, pd.DataFrame):
        made = pa.Table.from_pandas(made, preserve_index=False)
    if isinstance(made, pl.DataFrame):
        made = pa.Table.from_pydict({name: made[name].to_list() for name in made.columns})
    table = pa.Table.from_batches([made]) if isinstance(made, pa.RecordBatch) else made
    table.validate(full=True)
    columns = {name: table[name] for name in table.column_names}
    for name, column in columns.items():
        if pa.types.is_timestamp(column.type):
            columns[name] = column.cast(pa.timestamp("ms")).cast(pa.int64())
    return {name: column.to_pylist() for name, column in columns.items()}


async def turns(condition):
    """Let the loop turn until something is so on this side."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not come to be so")


class Source:
    """Where a statement's columns come from; a pool of one connection, whose slot is free."""

    def __init__(self, kind, conn, pool):
        self.kind = kind
        self.conn = conn
        self.pool = pool
        self.cursor = None
        self.result = None

    async def _opened(self, sql):
        if self.kind == "result":
            self.result = await self.conn.query(sql)
            return self.result
        self.cursor = self.conn.cursor()
        await self.cursor.execute(sql)
        self.result = self.cursor.result
        return self.cursor

    async def whole(self, form, sql="table", **options):
        if self.kind in ("connection", "pool"):
            owner = self.conn if self.kind == "connection" else self.pool
            return await getattr(owner, f"to_{form}")(sql, **options)
        return await getattr(await self._opened(sql), f"to_{form}")(**options)

    async def batches(self, form, sql="table", **options):
        """The asynchronous generator itself."""
        if self.kind in ("connection", "pool"):
            owner = self.conn if self.kind == "connection" else self.pool
            return getattr(owner, f"{form}_batches")(sql, **options)
        return getattr(await self._opened(sql), f"{form}_batches")(**options)

    def check(self):
        """The slot of the pool is free, and nothing is left open."""
        assert self.pool.get_stats().used == 0
        if self.result is not None:
            assert self.result.closed or self.result.row_count is not None


@pytest.fixture
async def source(request, server, conn):
    server.rows("table", FIELDS, *BLOCKS)
    async with aiotaos.create_pool(server.dsn, max_size=1) as pool:
        one = Source(request.param, conn, pool)
        yield one
        one.check()
        assert await pool.fetchval("select 1", timeout=5) == 1


every_source = pytest.mark.parametrize("source", SOURCES, indirect=True)
every_form = pytest.mark.parametrize("form", FORMS)
opened_ones = pytest.mark.parametrize("source", ["result", "cursor"], indirect=True)
lending_ones = pytest.mark.parametrize("source", ["connection", "pool"], indirect=True)


async def taken(reader):
    return await asyncio.to_thread(reader.read_next_batch)


async def freed(server, number=1, sql="table"):
    """Wait until the sessions have freed the statement's results; there are no others."""

    def count():
        return sum(session.freed.count(sql) for session in server.sessions)

    await asyncio.wait_for(server.until(lambda: count() >= number), 5)
    assert count() == number
    assert [list(session.results.values()) for session in server.sessions if session.results] == []


# All rows at once.


@every_source
@every_form
async def test_all_rows(server, source, form):
    made = await source.whole(form)
    assert isinstance(made, TYPES[form])
    found = plain(made)
    if form == "pandas":  # integers with NULLs are floats
        assert np.isnan(found["v"][1]) if found["v"][1] is not None else True
        found["v"] = [None if v is None or np.isnan(v) else int(v) for v in found["v"]]
    assert found == WHOLE
    assert [session.freed for session in server.sessions if session.freed] == []


@every_form
async def test_with_an_adapter_that_knows_json_queries_alone(server, any_conn, form):
    server.rows("table", FIELDS, *BLOCKS)
    made = plain(await getattr(any_conn, f"to_{form}")("table"))
    assert made["s"] == WHOLE["s"]
    assert made["ts"] == WHOLE["ts"]
    batches = [plain(one) async for one in getattr(any_conn, f"{form}_batches")("table")]
    assert [one["ts"] for one in batches] == [part["ts"] for part in PARTS]


@every_source
async def test_what_the_forms_are(source):
    table = await source.whole("arrow", dictionary=["s"])
    assert table.schema == pa.schema(
        {
            "ts": pa.timestamp("ms", table.schema.field("ts").type.tz),
            "v": pa.int32(),
            "s": pa.dictionary(pa.int32(), pa.string()),
        }
    )
    assert [chunk.dictionary.to_pylist() for chunk in table["s"].chunks] == [
        ["a", "b", "涛", ""]
    ] * 3
    frame = await source.whole("pandas", dtype_backend="numpy_nullable", dictionary=True)
    assert str(frame["v"].dtype) == "Int32"
    assert str(frame["s"].dtype) == "category"
    frame = await source.whole("pandas", dtype_backend="pyarrow")
    assert frame["s"].dtype == pd.ArrowDtype(pa.string())
    frame = await source.whole("polars", dictionary=["s"])
    assert frame.schema["s"] == pl.Categorical
    arrays = await source.whole("numpy")
    assert [str(array.dtype) for array in arrays.values()] == ["datetime64[ms]", "int32", "object"]


@lending_ones
@every_form
async def test_request_ids(server, source, form):
    made = await source.whole(form, req_id=77, timeout=5)
    assert plain(made)["s"] == WHOLE["s"]
    assert [one async for one in await source.batches(form, req_id=78, timeout=5)] != []
    asked = [request for session in server.sessions for request in session.requests]
    assert [request.req_id for request in asked if request.sql == "table"] == [77, 78]


# In batches.


@every_source
@every_form
async def test_batches(server, source, form):
    options = {"dtype_backend": "numpy_nullable"} if form == "pandas" else {}
    made = []
    async for batch in await source.batches(form, **options):
        assert isinstance(batch, TYPES[form])
        made.append(plain(batch))
    assert made == PARTS
    assert [session.freed for session in server.sessions if session.freed] == []


@every_source
async def test_each_batch_has_a_dictionary_of_its_own(source):
    found = [batch async for batch in await source.batches("arrow", dictionary=["s"])]
    assert [one["s"].dictionary.to_pylist() for one in found] == [["a", "b"], ["a", "涛"], [""]]
    assert len({str(one.schema) for one in found}) == 1
    frames = [one async for one in await source.batches("pandas", dictionary=True)]
    assert [list(one["s"].cat.categories) for one in frames] == [["a", "b"], ["a", "涛"], [""]]
    frames = [one async for one in await source.batches("polars", dictionary=True)]
    assert [one.schema["s"] for one in frames] == [pl.Categorical] * 3


# Rows and columns of one result.


@opened_ones
@every_form
async def test_rows_that_are_taken(server, source, form):
    opened = await source._opened("table")
    assert (await opened.fetchone())[1:] == (1, "a")
    with pytest.raises(ResultError, match="some rows of the present block are read"):
        await getattr(opened, f"to_{form}")()
    with pytest.raises(ResultError, match="some rows of the present block are read"):
        async for _ in getattr(opened, f"{form}_batches")():
            pass
    with pytest.raises(ResultError, match="some rows of the present block are read"):
        await opened.arrow_reader()
    assert [row[1] for row in await opened.fetchmany(2)] == [None, 3]
    rest = {name: PARTS[1][name] + PARTS[2][name] for name in WHOLE}
    options = {"dtype_backend": "numpy_nullable"} if form == "pandas" else {}
    assert plain(await getattr(opened, f"to_{form}")(**options)) == rest
    nothing = await getattr(opened, f"to_{form}")(**options)
    assert plain(nothing) == {"ts": [], "v": [], "s": []}
    assert source.result.row_count == 6
    assert server.session.freed == []


@opened_ones
@every_form
async def test_batches_and_then_rows(source, form):
    opened = await source._opened("table")
    async with aclosing(getattr(opened, f"{form}_batches")()) as batches:
        assert plain(await anext(batches))["s"] == PARTS[0]["s"]
    assert [row[2] for row in await opened.fetchmany(2)] == PARTS[1]["s"]
    async for batch in getattr(opened, f"{form}_batches")():
        assert plain(batch)["s"] == PARTS[2]["s"]
    assert await opened.fetchone() is None


@opened_ones
async def test_a_closed_result(server, source):
    opened = await source._opened("table")
    await source.result.aclose()
    for form in FORMS:
        with pytest.raises(ResultError, match="the result is closed"):
            await getattr(opened, f"to_{form}")()
    with pytest.raises(ResultError, match="the result is closed"):
        await opened.arrow_reader()
    await freed(server)


async def test_two_tasks_cannot_read_one_result(server, conn):
    server.rows("table", FIELDS, *BLOCKS)
    gate = server.hold("fetch", "table")
    result = await conn.query("table")
    first = asyncio.ensure_future(result.to_arrow())
    await gate.reached.wait()
    for form in FORMS:
        with pytest.raises(InterfaceError, match="another task is reading this result"):
            await getattr(result, f"to_{form}")()
    gate.open()
    assert plain(await first) == WHOLE


# Statements without rows.


@every_source
@every_form
async def test_a_result_without_rows(server, source, form):
    server.rows("nothing", FIELDS)
    made = await source.whole(form, "nothing")
    assert isinstance(made, TYPES[form])
    assert plain(made) == {"ts": [], "v": [], "s": []}
    assert [one async for one in await source.batches(form, "nothing")] == []
    if form == "arrow":
        assert made.schema.types[1:] == [pa.int32(), pa.string()]
    if form == "numpy":
        assert [str(one.dtype) for one in made.values()] == ["datetime64[ms]", "int32", "object"]


@every_form
async def test_blocks_without_rows(server, conn, form):
    empty = [[], [], []]
    server.rows("table", FIELDS, empty, BLOCKS[1], empty)
    assert plain(await getattr(conn, f"to_{form}")("table")) == PARTS[1]


@every_form
@pytest.mark.parametrize("source", ["result", "connection", "pool"], indirect=True)
async def test_an_insert(server, source, form):
    server.affect("insert", 5)
    assert plain(await source.whole(form, "insert")) == {}
    assert [one async for one in await source.batches(form, "insert")] == []


@every_form
async def test_a_cursor_has_to_have_rows(server, conn, form):
    server.affect("insert", 5)
    async with conn.cursor() as cursor:
        for problem in ("no statement was executed on this cursor", "returned no rows"):
            with pytest.raises(ProgrammingError, match=problem):
                await getattr(cursor, f"to_{form}")()
            with pytest.raises(ProgrammingError, match=problem):
                await anext(getattr(cursor, f"{form}_batches")())
            with pytest.raises(ProgrammingError, match=problem):
                await cursor.arrow_reader()
            await cursor.execute("insert")
    with pytest.raises(InterfaceError, match="the cursor is closed"):
        await getattr(cursor, f"to_{form}")()


@every_source
async def test_refused_statements(server, source):
    server.refuse("bad", 0x2600, "syntax error")
    for form in FORMS:
        with pytest.raises(ProgrammingError, match="syntax error"):
            await source.whole(form, "bad")
        with pytest.raises(ProgrammingError, match="syntax error"):
            await anext(await source.batches(form, "bad"))


# Cancelled, and too slow.


@every_source
@every_form
@pytest.mark.parametrize("skip", [0, 1, 2])
async def test_cancelled_while_it_reads(server, source, form, skip):
    gate = server.hold("fetch_raw_block", "table", skip=skip)
    task = asyncio.ensure_future(source.whole(form))
    await gate.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    source.check()
    gate.open()
    await freed(server)


@every_source
@every_form
async def test_cancelled_while_it_reads_batches(server, source, form):
    gate = server.hold("fetch_raw_block", "table", skip=1)
    seen = []

    async def read():
        async for batch in await source.batches(form):
            seen.append(plain(batch)["s"])

    task = asyncio.ensure_future(read())
    await gate.reached.wait()
    await turns(lambda: seen)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == [PARTS[0]["s"]]
    await turns(lambda: source.pool.get_stats().used == 0)
    source.check()
    gate.open()
    await freed(server)


@every_source
@every_form
async def test_time_outs(server, source, form):
    gate = server.hold("fetch_raw_block", "table", skip=1)
    with pytest.raises(aiotaos.TimeoutError) as raised:
        await source.whole(form, timeout=0.05)
    assert isinstance(raised.value, builtins.TimeoutError)
    source.check()
    gate.open()
    await freed(server)


@every_form
async def test_batches_that_take_too_long(server, form):
    server.rows("table", FIELDS, *BLOCKS)
    gate = server.hold("fetch_raw_block", "table", skip=1)
    async with aiotaos.connect(server.dsn, read_timeout=0.05) as conn:
        batches = getattr(conn, f"{form}_batches")("table")
        assert plain(await anext(batches))["s"] == PARTS[0]["s"]
        with pytest.raises(aiotaos.TimeoutError):
            await anext(batches)
        gate.open()
        await freed(server)
        assert await conn.fetchval("select 1", timeout=5) == 1


@opened_ones
@every_form
async def test_a_bad_timeout(source, form):
    opened = await source._opened("table")
    with pytest.raises(InterfaceError, match="timeout: expected a positive number of seconds"):
        await getattr(opened, f"to_{form}")(timeout=0)
    assert plain(await getattr(opened, f"to_{form}")(timeout=5))["s"] == WHOLE["s"]


@every_source
async def test_much_is_converted_in_another_thread(source, monkeypatch):
    threads = set()

    def noted(name):
        convert = getattr(aiotaos.tabular, name, None) or getattr(Tables, name)

        def run(*arguments, **options):
            threads.add(threading.current_thread())
            return convert(*arguments, **options)

        return run

    monkeypatch.setattr("aiotaos.tabular._SOON", 17)  # 6 rows of 3 columns are more
    monkeypatch.setattr("aiotaos.tabular.pandas_frame", noted("pandas_frame"))
    for name in ("numpy", "polars"):
        monkeypatch.setattr(Tables, name, noted(name))
    for form in ("numpy", "pandas", "polars"):
        threads.clear()
        assert plain(await source.whole(form))["s"] == WHOLE["s"]
        assert threads
        assert threading.current_thread() not in threads
    table = await source.whole("arrow", dictionary=["s"])
    assert table["s"].chunk(2).dictionary.to_pylist() == ["a", "b", "涛", ""]
    monkeypatch.setattr("aiotaos.tabular._SOON", 18)
    for form in ("numpy", "pandas", "polars"):
        threads.clear()
        await source.whole(form)
        assert threads == {threading.current_thread()}


@every_source
async def test_cancelled_while_it_is_converted(source, monkeypatch):
    """The thread goes on to its end; the result is read, and the connection free."""
    loop, started, go_on = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def convert(table, backend):
        loop.call_soon_threadsafe(started.set)
        assert go_on.wait(5)

    monkeypatch.setattr("aiotaos.tabular._SOON", 0)
    monkeypatch.setattr("aiotaos.tabular.pandas_frame", convert)
    task = asyncio.ensure_future(source.whole("pandas"))
    await started.wait()
    assert source.pool.get_stats().used == 0
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    source.check()
    assert await source.conn.fetchval("select 1") == 1
    go_on.set()


# What is asked for wrongly.


BAD = [
    ("arrow", {"dictionary": ["x"]}, "'x' is no text column; there are 's'"),
    ("pandas", {"dictionary": ["v"]}, "'v' is no text column; there are 's'"),
    ("polars", {"dictionary": ["v"]}, "'v' is no text column; there are 's'"),
    ("arrow", {"dictionary": "s"}, "names of columns in a list, got 's'"),
    ("pandas", {"dictionary": "s"}, "names of columns in a list, got 's'"),
    ("polars", {"dictionary": "s"}, "names of columns in a list, got 's'"),
    ("pandas", {"dtype_backend": "numpy"}, "dtype_backend: expected"),
]


@every_source
@pytest.mark.parametrize(("form", "options", "problem"), BAD)
async def test_bad_options(server, source, form, options, problem):
    with pytest.raises(InterfaceError, match=problem):
        await source.whole(form, **options)
    source.check()
    if form != "pandas" or "dictionary" in options or source.result is not None:
        await freed(server)  # otherwise nothing was sent
    assert [session.seen("fetch") for session in server.sessions if session.seen("fetch")] == []


@every_source
@pytest.mark.parametrize(("form", "options", "problem"), BAD)
async def test_bad_options_of_batches(server, source, form, options, problem):
    batches = await source.batches(form, **options)
    with pytest.raises(InterfaceError, match=problem):
        await anext(batches)
    source.check()
    await freed(server)


@opened_ones
@pytest.mark.parametrize(("form", "options", "problem"), [BAD[0], BAD[3]])
async def test_bad_options_of_a_reader(server, source, form, options, problem):
    opened = await source._opened("table")
    with pytest.raises(InterfaceError, match=problem):
        await opened.arrow_reader(**options)
    source.check()
    await freed(server)


@every_source
async def test_two_columns_of_one_name(server, source):
    fields = [FIELDS[1], FIELDS[1]]
    server.rows("twice", fields, [[1], [2]], [[3], [4]])
    for number, form in enumerate(["numpy", "polars"], 1):
        with pytest.raises(InterfaceError, match=rf"'v', and to_{form}\(\) has one of each name"):
            await source.whole(form, "twice")
        source.check()
        await freed(server, number, "twice")
    table = await source.whole("arrow", "twice")
    assert table.columns[1].to_pylist() == [2, 4]
    assert (await source.whole("pandas", "twice")).to_numpy().tolist() == [[1, 2], [3, 4]]


@every_source
@pytest.mark.parametrize("form", ["arrow", "pandas", "polars"])
async def test_a_text_that_is_not_unicode(server, source, form):
    server.rows("texts", FIELDS[2:], [["a"]], [["\udcff"]], [["b"]])
    with pytest.raises(DataError, match="column 's' has a text that is not Unicode"):
        await source.whole(form, "texts")
    source.check()
    with pytest.raises(DataError, match="column 's' has a text that is not Unicode"):
        [one async for one in await source.batches(form, "texts")]
    await turns(lambda: source.pool.get_stats().used == 0)
    source.check()
    await asyncio.wait_for(
        server.until(lambda: all(not session.results for session in server.sessions)), 5
    )
    assert plain(await source.whole("numpy", "texts")) == {"s": ["a", "\udcff", "b"]}


# Libraries that are not there.


LIBRARIES = [
    ("pyarrow", "arrow", "arrow"),
    ("pyarrow", "pandas", "arrow"),
    ("pandas", "pandas", "pandas"),
    ("polars", "polars", "polars"),
]


class Missing:
    """Finds no module of some name."""

    def __init__(self, name):
        self.name = name

    def find_spec(self, name, path=None, target=None):
        if name == self.name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.fixture
def remove(monkeypatch):
    """Have a library as if it were not installed."""

    def run(name):
        monkeypatch.delitem(sys.modules, name)
        monkeypatch.setattr(sys, "meta_path", [Missing(name), *sys.meta_path])

    return run


@every_source
@pytest.mark.parametrize(("library", "form", "extra"), LIBRARIES)
async def test_missing_libraries(server, source, remove, library, form, extra):
    remove(library)
    text = f"{library} is not installed: pip install 'aiotaos[{extra}]'"
    with pytest.raises(InterfaceError) as caught:
        await source.whole(form)
    assert str(caught.value) == text
    source.check()
    was_sent = int(source.result is not None)  # of connections and pools it is seen before
    await freed(server, was_sent)
    batches = await source.batches(form)
    with pytest.raises(InterfaceError) as caught:
        await anext(batches)
    assert str(caught.value) == text
    source.check()
    await freed(server, was_sent + 1)
    assert (await source.whole("numpy"))["s"].tolist() == WHOLE["s"]


@opened_ones
async def test_a_reader_without_pyarrow(server, source, remove):
    opened = await source._opened("table")
    remove("pyarrow")
    with pytest.raises(InterfaceError, match=r"pip install 'aiotaos\[arrow\]'"):
        await opened.arrow_reader()
    source.check()
    await freed(server)


@every_source
async def test_polars_without_pyarrow(source, monkeypatch):
    expected = await source.whole("polars")
    parts = [one async for one in await source.batches("polars", dictionary=["s"])]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pyarrow", None)
        assert (await source.whole("polars")).equals(expected)
        assert (await source.whole("polars")).schema == expected.schema
        again = [one async for one in await source.batches("polars", dictionary=["s"])]
    assert [one["s"].to_list() for one in again] == [one["s"].to_list() for one in parts]


def test_libraries_are_imported_when_they_are_asked_for(embedded_dsn):
    """Also where a connection is open and rows are read."""
    code = """
import asyncio, sys, aiotaos

LIBRARIES = ("pyarrow", "pandas", "polars", "duckdb")

async def main():
    async with aiotaos.connect(sys.argv[1]) as conn:
        await conn.fetch("select 1")
        await conn.to_numpy("select 1")
        print(*[name for name in LIBRARIES if name in sys.modules])
        await conn.to_arrow("select 1")
        print(*[name for name in LIBRARIES if name in sys.modules])

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, embedded_dsn],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["", "pyarrow"]


# Left before the end.


@lending_ones
@every_form
async def test_batches_that_are_closed(server, source, form):
    async with aclosing(await source.batches(form)) as batches:
        async for batch in batches:
            assert plain(batch)["s"] == PARTS[0]["s"]
            assert source.pool.get_stats().used == (source.kind == "pool")
            break
    source.check()
    await freed(server)


@lending_ones
@every_form
async def test_batches_that_are_dropped(server, source, form):
    async for batch in await source.batches(form):
        assert plain(batch)["s"] == PARTS[0]["s"]
        break
    gc.collect()
    await turns(lambda: source.pool.get_stats().used == 0)
    await freed(server)


@lending_ones
@every_form
async def test_an_error_between_batches(server, source, form):
    batches = await source.batches(form)

    async def read():
        async with aclosing(batches):
            async for _ in batches:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await read()
    source.check()
    await freed(server)


@lending_ones
@every_form
async def test_batches_that_are_never_read(server, source, form):
    """Nothing is asked before the first one is."""
    await source.batches(form)
    gc.collect()
    source.check()
    assert [one for session in server.sessions for one in session.seen("query")] == []


# A reader, in another thread.


@opened_ones
async def test_a_reader(server, source):
    opened = await source._opened("table")
    reader = await opened.arrow_reader()
    assert isinstance(reader, pa.RecordBatchReader)
    assert reader.schema.names == ["ts", "v", "s"]
    table = await asyncio.to_thread(reader.read_all)
    assert plain(table) == WHOLE
    assert [len(chunk) for chunk in table["v"].chunks] == [3, 2, 1]
    await turns(lambda: source.result.row_count == 6)
    assert server.session.freed == []


@opened_ones
async def test_a_reader_with_dictionaries(source):
    reader = await (await source._opened("table")).arrow_reader(dictionary=True)
    assert reader.schema.field("s").type == pa.dictionary(pa.int32(), pa.string())
    batches = await asyncio.to_thread(list, reader)
    assert [one["s"].dictionary.to_pylist() for one in batches] == [["a", "b"], ["a", "涛"], [""]]
    assert [plain(one) for one in batches] == PARTS


@opened_ones
async def test_a_reader_of_nothing(server, source):
    server.rows("nothing", FIELDS)
    reader = await (await source._opened("nothing")).arrow_reader()
    assert plain(await asyncio.to_thread(reader.read_all)) == {"ts": [], "v": [], "s": []}


async def test_a_reader_of_an_insert(server, conn):
    server.affect("insert", 5)
    reader = await (await conn.query("insert")).arrow_reader()
    assert (await asyncio.to_thread(reader.read_all)).num_columns == 0


async def test_a_reader_of_the_rest(server, conn):
    server.rows("table", FIELDS, *BLOCKS)
    result = await conn.query("table")
    assert len(await result.fetchmany(3)) == 3
    table = await asyncio.to_thread((await result.arrow_reader()).read_all)
    assert table["s"].to_pylist() == PARTS[1]["s"] + PARTS[2]["s"]


@opened_ones
async def test_duckdb_reads(source):
    def query(reader):
        with duckdb.connect() as database:
            database.register("readings", reader)
            return database.execute(
                "select coalesce(s, 'none'), count(*), sum(v) from readings group by all order by 1"
            ).fetchall()

    reader = await (await source._opened("table")).arrow_reader()
    assert await asyncio.to_thread(query, reader) == [
        ("", 1, None),
        ("a", 2, 5),
        ("b", 1, None),
        ("none", 1, 3),
        ("涛", 1, 5),
    ]


async def test_parquet_is_written(server, conn, tmp_path):
    server.rows("table", FIELDS, *BLOCKS)

    def write(reader):
        with parquet.ParquetWriter(tmp_path / "table.parquet", reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch)

    reader = await (await conn.query("table")).arrow_reader()
    await asyncio.to_thread(write, reader)
    assert plain(parquet.read_table(tmp_path / "table.parquet")) == WHOLE


@opened_ones
async def test_a_reader_in_the_thread_of_the_loop(server, source):
    """It would wait for itself; another thread can read it still."""
    opened = await source._opened("table")
    reader = await opened.arrow_reader()
    with pytest.raises(InterfaceError, match=r"read it in another thread, with asyncio\.to_thread"):
        reader.read_next_batch()
    assert plain(await taken(reader)) == PARTS[0]
    with pytest.raises(InterfaceError, match="the event loop waits for a reader"):
        reader.read_all()
    assert plain(await taken(reader)) == PARTS[1]
    del reader
    gc.collect()
    await freed(server)
    assert source.result.closed


@opened_ones
async def test_a_reader_that_is_dropped(server, source):
    opened = await source._opened("table")
    box = [await opened.arrow_reader()]
    assert plain(await taken(box[0])) == PARTS[0]
    box.clear()
    gc.collect()
    await freed(server)
    assert source.result.closed


async def test_a_reader_that_is_dropped_unread(server, conn):
    server.rows("table", FIELDS, *BLOCKS)
    box = [await (await conn.query("table")).arrow_reader()]
    box.clear()
    gc.collect()
    await freed(server)


async def test_a_reader_that_is_dropped_in_its_thread(server, conn):
    server.rows("table", FIELDS, *BLOCKS)

    def read(box):
        reader = box.pop()
        batch = reader.read_next_batch()
        assert plain(reader.read_next_batch()) == PARTS[1]
        return batch

    box = [await (await conn.query("table")).arrow_reader()]
    assert plain(await asyncio.to_thread(read, box)) == PARTS[0]
    await freed(server)


async def test_a_reader_of_a_result_that_is_closed(server, conn):
    server.rows("table", FIELDS, *BLOCKS)
    result = await conn.query("table")
    reader = await result.arrow_reader()
    await result.aclose()
    assert plain(await taken(reader)) == PARTS[0]
    with pytest.raises(ResultError, match="the result is closed"):
        await taken(reader)
    await freed(server)


async def test_a_reader_that_meets_an_error(server, conn):
    server.rows("texts", FIELDS[2:], [["a"]], [["\udcff"]], [["b"]])
    reader = await (await conn.query("texts")).arrow_reader()
    with pytest.raises(DataError, match="column 's' has a text that is not Unicode"):
        await asyncio.to_thread(reader.read_all)
    await freed(server, 1, "texts")
    server.rows("broken", FIELDS[1:2], [[1]], fetch_error=(0x0200, "it broke"))
    reader = await (await conn.query("broken")).arrow_reader()
    with pytest.raises(aiotaos.Error, match="it broke"):
        await asyncio.to_thread(reader.read_all)


async def test_a_reader_whose_first_block_is_an_error(server, conn):
    server.rows("texts", FIELDS[2:], [["\udcff"]], [["b"]])
    reader = await (await conn.query("texts")).arrow_reader()
    with pytest.raises(DataError, match="column 's' has a text that is not Unicode"):
        await taken(reader)
    await freed(server, 1, "texts")


async def test_a_reader_that_is_not_read_to_its_end_in_time(server):
    server.rows("table", FIELDS, *BLOCKS)
    gate = server.hold("fetch_raw_block", "table", skip=1)
    async with aiotaos.connect(server.dsn, read_timeout=0.05) as conn:
        reader = await (await conn.query("table")).arrow_reader()
        with pytest.raises(aiotaos.TimeoutError):
            await asyncio.to_thread(reader.read_all)
        gate.open()
        await freed(server)
        assert await conn.fetchval("select 1", timeout=5) == 1


async def test_a_reader_of_a_loop_that_is_kept_waiting(server, monkeypatch):
    """Its thread does not wait for ever, and the error is one of this package's."""
    monkeypatch.setattr("aiotaos.arrow_reader._PATIENCE", 0.05)
    server.rows("table", FIELDS, *BLOCKS)
    async with aiotaos.connect(server.dsn, read_timeout=0.05) as conn:
        box = [await (await conn.query("table")).arrow_reader()]
        caught = []

        def read():
            try:
                box[0].read_all()
            except BaseException as error:
                caught.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        thread.join(5)  # with the loop's own thread
        assert not thread.is_alive()
        assert [isinstance(error, InterfaceError) for error in caught] == [True]
        box.clear()
        gc.collect()
        await asyncio.wait_for(server.until(lambda: not server.session.results), 5)
        assert await conn.fetchval("select 1", timeout=5) == 1


async def test_a_reader_may_wait_for_ever(server):
    server.rows("table", FIELDS, *BLOCKS)
    async with aiotaos.connect(server.dsn, read_timeout=float("inf")) as conn:
        reader = await (await conn.query("table")).arrow_reader()
        assert plain(await asyncio.to_thread(reader.read_all)) == WHOLE


async def test_a_connection_that_is_lost_while_a_reader_waits(server, conn):
    server.rows("table", FIELDS, *BLOCKS)
    server.may_leave = True
    gate = server.hold("fetch_raw_block", "table", skip=1)
    reader = await (await conn.query("table")).arrow_reader()
    task = asyncio.ensure_future(asyncio.to_thread(reader.read_all))
    await gate.reached.wait()
    server.session.abort()
    with pytest.raises(aiotaos.ConnectionLost):
        await task
    gate.open()
    await conn.close()


def opened_in_a_loop(started):
    """A reader, of which one batch is read, of a loop that has ended."""

    async def main():
        server = await FakeServer().start()
        server.rows("table", FIELDS, *BLOCKS)
        async with aiotaos.connect(server.dsn) as conn:
            reader = await (await conn.query("table")).arrow_reader()
            if started:
                assert plain(await taken(reader)) == PARTS[0]
        await server.stop()
        return reader

    return asyncio.run(main())


@pytest.mark.parametrize("started", [True, False])
def test_a_reader_behind_the_end_of_its_loop(started):
    reader = opened_in_a_loop(started)
    if not started:
        assert plain(reader.read_next_batch()) == PARTS[0]
    with pytest.raises(InterfaceError, match="the event loop of the reader has ended"):
        reader.read_next_batch()
    gc.collect()  # nothing is left that was never awaited


@pytest.mark.parametrize("started", [True, False])
def test_a_reader_that_is_dropped_behind_the_end_of_its_loop(started):
    reader = opened_in_a_loop(started)
    del reader
    gc.collect()


async def test_a_reader_in_another_loop(server, conn):
    """Its thread may have a loop of its own."""
    server.rows("table", FIELDS, *BLOCKS)
    reader = await (await conn.query("table")).arrow_reader()

    async def read():
        return reader.read_all()

    assert plain(await asyncio.to_thread(asyncio.run, read())) == WHOLE


# Wide blocks, whose rows are made in pieces.


COUNT, WIDTH = 3000, 200
NUMBERS = list(range(COUNT))
WIDE = [Field(f"c{place}", TypeCode.INT, 4) for place in range(WIDTH)]


@pytest.fixture(scope="module")
def wide_block():
    return encode_block(WIDE, [np.arange(COUNT) + place for place in range(WIDTH)])


@pytest.fixture
def wide(server, wide_block):
    server.raw("wide", WIDE, lambda: [wide_block])


@pytest.fixture
def wider(server, wide_block):
    """Of this the server has more while the pieces of the first block are read."""
    server.raw("wide", WIDE, lambda: [wide_block] * 4)


def is_wide(found):
    assert [row[0] for row in found] == NUMBERS
    assert [row[-1] for row in found] == [number + WIDTH - 1 for number in NUMBERS]
    return {len(row) for row in found} == {WIDTH}


async def between(result):
    """Turns of the loop until a task that reads is between two pieces."""
    await turns_of_sockets(lambda: bool(result._pieces))


async def turns_of_sockets(condition):
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_others_have_turns_between_pieces(conn, wide):
    result = await conn.query("wide")
    task = asyncio.ensure_future(result.fetchall())
    await between(result)
    seen = set()
    while not task.done():
        seen.add(len(result._pieces))
        await asyncio.sleep(0)
    assert is_wide(await task)
    assert len(seen) > 4
    assert result.row_count == COUNT


async def test_wide_rows_in_every_way(any_conn, wide):
    assert is_wide(await any_conn.fetch("wide"))
    assert is_wide([row async for row in await any_conn.query("wide")])
    result = await any_conn.query("wide")
    assert is_wide([await result.fetchone() for _ in range(COUNT)])
    assert await result.fetchone() is None
    result = await any_conn.query("wide")
    parts = []
    while part := await result.fetchmany(701):
        parts.append(part)
    assert [len(part) for part in parts] == [701] * 4 + [COUNT - 4 * 701]
    assert is_wide([row for part in parts for row in part])
    dicts = await (await any_conn.query("wide")).fetch_all_into_dict()
    assert is_wide([tuple(one.values()) for one in dicts])
    assert (await any_conn.fetchrow("wide"))[:2] == (0, 1)
    assert await any_conn.fetchval("wide") == 0


async def test_wide_rows_in_mixed_ways(server, conn, wide):
    result = await conn.query("wide")
    found = [await result.fetchone()]
    found += await result.fetchmany(500)
    async for row in result:
        found.append(row)
        if len(found) == 1234:
            break
    found += await result.fetchmany(1)
    found += await result.fetchall()
    assert is_wide(found)
    assert (await result.fetchone(), await result.fetchall()) == (None, [])
    assert server.session.freed == []


async def test_columns_between_pieces(conn, wide):
    result = await conn.query("wide")
    first = await result.fetchone()
    size = COUNT - sum(map(len, result._pieces))
    assert 1 < size < COUNT
    found = [first, *await result.fetchmany(size - 1)]  # the piece, to its last row
    for read in (result.to_arrow, result.fetch_all_into_dict, result.arrow_reader):
        with pytest.raises(ResultError, match="some rows of the present block are read"):
            await read()
    with pytest.raises(ResultError, match="some rows of the present block are read"):
        await anext(result.blocks())
    found += await result.fetchall()
    assert is_wide(found)
    assert [block async for block in result.blocks()] == []


async def test_wide_blocks_as_columns(conn, wide):
    """They come in one piece."""
    result = await conn.query("wide")
    assert [len(block) async for block in result.blocks()] == [COUNT]
    table = await conn.to_arrow("wide")
    assert (table.num_rows, table.num_columns, table["c0"].num_chunks) == (COUNT, WIDTH, 1)
    assert table["c199"].to_pylist()[-1] == COUNT + WIDTH - 2


async def test_several_wide_blocks(server, conn, wide_block):
    server.raw("wide", WIDE, lambda: [wide_block] * 3)
    rows = await conn.fetch("wide")
    assert is_wide(rows[:COUNT])
    assert is_wide(rows[COUNT : 2 * COUNT])
    assert is_wide(rows[2 * COUNT :])


@pytest.mark.parametrize("read", ["fetchall", "fetch_all_into_dict", "fetchmany"])
async def test_cancelled_between_pieces(server, conn, wider, read):
    result = await conn.query("wide")
    options = (COUNT,) if read == "fetchmany" else ()
    task = asyncio.ensure_future(getattr(result, read)(*options))
    await between(result)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert result.closed
    with pytest.raises(ResultError, match="the result is closed"):
        await result.fetchone()
    await freed(server, 1, "wide")


async def test_cancelled_between_pieces_of_an_iteration(server, conn, wider):
    seen = []
    result = await conn.query("wide")

    async def read():
        async for row in result:
            seen.append(row[0])

    task = asyncio.ensure_future(read())
    await between(result)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == NUMBERS[: len(seen)]
    assert len(seen) < COUNT
    await freed(server, 1, "wide")


async def test_closed_between_pieces(server, conn, wider):
    """By another task; the reader hears of it as an error."""
    result = await conn.query("wide")
    task = asyncio.ensure_future(result.fetchall())
    await between(result)
    await result.aclose()
    with pytest.raises(ResultError, match="closed"):
        await task
    await freed(server, 1, "wide")


async def test_two_readers_between_pieces(conn, wide):
    result = await conn.query("wide")
    task = asyncio.ensure_future(result.fetchall())
    await between(result)
    for read in (result.fetchone, result.fetchall):
        with pytest.raises(InterfaceError, match="another task is reading this result"):
            await read()
    assert is_wide(await task)


async def test_left_between_pieces(server, conn, wider):
    async for row in await conn.query("wide"):
        assert row[0] == 0
        break
    gc.collect()
    await freed(server, 1, "wide")


async def test_a_wide_result_of_a_pool(server, wide):
    async with aiotaos.create_pool(server.dsn, max_size=1) as pool:
        assert is_wide(await pool.fetch("wide"))
        task = asyncio.ensure_future(pool.fetch("wide"))
        await turns_of_sockets(lambda: server.session.seen("fetch")[2:])
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert pool.get_stats().used == 0
        assert is_wide(await pool.fetch("wide"))


async def test_a_value_of_a_later_piece_that_cannot_be_converted(server, conn):
    fields = [Field("ts", TypeCode.TIMESTAMP, 8), *WIDE[1:]]
    columns = [[*range(COUNT - 1), 2**62], *[[0] * COUNT] * (WIDTH - 1)]
    server.rows("late", fields, columns, columns, columns)
    result = await conn.query("late")
    assert (await result.fetchone())[0] == datetime(1970, 1, 1, tzinfo=UTC)
    with pytest.raises(DataError, match="outside what a datetime holds"):
        await result.fetchall()
    assert result.closed
    with pytest.raises(ResultError, match="the result is closed"):
        await result.fetchone()
    await freed(server, 1, "late")


@pytest.mark.parametrize("bad", [[2**62, 0], [0, 2**62]])
async def test_dicts_of_what_cannot_be_converted(server, conn, bad):
    server.rows("bad", FIELDS[:1], [bad], [[5]])
    result = await conn.query("bad")
    with pytest.raises(DataError, match="outside what a datetime holds"):
        await result.fetch_all_into_dict()
    assert result.closed
    await freed(server, 1, "bad")


# Every type, over both roads.


@pytest.fixture
async def both(clean):
    """Connections over WebSocket and over REST to one embedded server."""
    async with Server() as server, AsyncExitStack() as stack:

        async def open_both(**options):
            dsns = (server.dsn, server.dsn.replace("ws://", "http://", 1))
            return [
                await stack.enter_async_context(aiotaos.connect(dsn, **options)) for dsn in dsns
            ]

        yield open_both


def close_to(value):
    return repr(value) if isinstance(value, (float, Decimal)) else value


@pytest.mark.parametrize("precision", PRECISIONS)
async def test_every_type_over_both_roads(both, precision):
    writer, _ = await both(timestamp="int", timezone="UTC")
    await writer.execute(f"create database d keep 36500 precision '{precision}'")
    await writer.select_db("d")
    written = await write_all(writer, precision)
    names = ["ts", *COLUMNS]
    expected = {name: [row[place] for row in written] for place, name in enumerate(names)}
    sql = "select * from everything order by ts"
    for conn in await both(database="d", timezone="UTC"):
        table = await conn.to_arrow(sql)
        table.validate(full=True)
        assert table.schema.field("ts").type == pa.timestamp(precision, "UTC")
        arrays = await conn.to_numpy(sql)
        frame = await conn.to_polars(sql)
        for name in names:
            column, series, array = table[name], frame[name], arrays[name]
            if name in ("ts", "t"):
                column, series = column.cast(pa.int64()), series.cast(pl.Int64)
                assert array.dtype == f"M8[{precision}]"
                array = array.astype("i8")
            wanted = list(map(close_to, expected[name]))
            assert list(map(close_to, column.to_pylist())) == wanted, name
            assert list(map(close_to, series.to_list())) == wanted, name
            assert list(map(close_to, array.tolist())) == wanted, name
        short = sql.replace("*", ", ".join(name for name in names if name != "t"))
        pandas = await conn.to_pandas(short, dtype_backend="pyarrow")
        found = pandas["i8"].array.__arrow_array__().to_pylist()
        assert found == expected["i8"]
        assert len(pandas) == 5
        batches = [one async for one in conn.arrow_batches(sql)]
        assert pa.Table.from_batches(batches).equals(table.combine_chunks())
        reader = await (await conn.query(sql)).arrow_reader()
        assert (await asyncio.to_thread(reader.read_all)).equals(table)


async def test_zones(both):
    writer, _ = await both()
    await writer.execute("create database d precision 'us'")
    await writer.execute("create table d.t (ts timestamp, v int)")
    await writer.execute("insert into d.t values ('2024-03-10T07:00:00Z', 1)")
    instant = datetime(2024, 3, 10, 7, tzinfo=UTC)
    for conn in await both(timezone="America/New_York"):
        table = await conn.to_arrow("select ts from d.t")
        assert table.schema.field("ts").type == pa.timestamp("us", "America/New_York")
        assert table["ts"].to_pylist() == [instant]
        frame = await conn.to_pandas("select ts from d.t")
        assert str(frame["ts"].dtype) == "datetime64[us, America/New_York]"
        assert frame["ts"].tolist() == [instant]
        assert (await conn.to_polars("select ts from d.t"))["ts"].to_list() == [instant]
        array = (await conn.to_numpy("select ts from d.t"))["ts"]
        assert array.tolist() == [instant.replace(tzinfo=None)]


async def test_nothing_over_both_roads(both):
    for conn in await both(timezone="UTC"):
        await conn.execute("create database if not exists d precision 'us'")
        await conn.execute("create table if not exists d.t (ts timestamp, v int)")
        table = await conn.to_arrow("select ts, v from d.t")
        assert (table.num_rows, table.schema.names) == (0, ["ts", "v"])
        assert (await conn.to_polars("select ts, v from d.t")).shape == (0, 2)
        assert (await conn.to_pandas("select ts, v from d.t")).shape == (0, 2)
        assert [len(one) for one in (await conn.to_numpy("select ts, v from d.t")).values()] == [
            0,
            0,
        ]
        assert [one async for one in conn.arrow_batches("select ts, v from d.t")] == []
        assert await conn.to_numpy("insert into d.t values (now, 1)") == {}
        await conn.execute("drop table d.t")


async def test_parameters(both):
    writer, _ = await both()
    await writer.execute("create database d")
    await writer.execute("create table d.t (ts timestamp, v int, s nchar(9))")
    await writer.execute("insert into d.t values (1, 1, '涛') (2, 2, 'it''s') (3, 3, null)")
    sql = "select v, s from d.t where v > ? or s = ? order by ts"
    for conn in await both():
        for form in FORMS:
            expected = {"v": [2, 3], "s": ["it's", None]}
            assert plain(await getattr(conn, f"to_{form}")(sql, 2, "it's")) == expected
            batches = getattr(conn, f"{form}_batches")(sql, 2, "it's")
            found = [plain(one) async for one in batches]  # over REST as they happen to come
            joined = {name: [value for one in found for value in one[name]] for name in "vs"}
            assert joined == expected


async def test_statements_in_a_pool_over_rest(both):
    _, rest = await both()
    await rest.execute("create database d")
    await rest.execute("create table d.t (ts timestamp, s nchar(9))")
    await rest.execute("insert into d.t values (1, '涛') (2, null)")
    dsn = f"{rest.endpoint.replace('http://', 'http://root:taosdata@')}/d"
    async with aiotaos.create_pool(dsn, max_size=1) as pool:
        for form in FORMS:
            assert plain(await getattr(pool, f"to_{form}")("select s from t"))["s"] == ["涛", None]
            async with aclosing(getattr(pool, f"{form}_batches")("select s from t")) as batches:
                assert plain(await anext(batches))["s"][0] == "涛"
            assert pool.get_stats().used == 0


# Over REST the unit of TIMESTAMPs is known with the first of them.


MICROS = "2024-03-01T00:00:00.{:06}Z"
TIMES = [1709251200000000 + n for n in range(4)]


@pytest.fixture
async def late(clean):
    """A connection over REST; of ``times`` the first rows have no TIMESTAMP, and come alone."""
    async with HttpServer() as server:
        data = [[None, n] for n in range(20_000)] + [[MICROS.format(n), n] for n in range(4)]
        body = rows([("t", "TIMESTAMP", 8), ("v", "INT", 4)], data)
        gate = Gate()
        server.answers["times"] = Reply(body, holds={body.index(b"2024"): gate}, compressible=False)
        async with aiotaos.connect(server.dsn, timezone="UTC") as conn:
            yield conn, gate
            assert await conn.fetchval("select 1", timeout=5) == 1
    server.check()


async def test_the_unit_that_comes_late(late):
    conn, gate = late
    result = await conn.query("times")
    types = []
    async for batch in result.arrow_batches():
        batch.validate(full=True)
        types.append(str(batch.schema.field("t").type))
        gate.open()
    assert types[0] == "timestamp[ms, tz=UTC]"
    assert types[-1] == "timestamp[us, tz=UTC]"
    table = await conn.to_arrow("times")
    table.validate(full=True)
    assert table.schema.field("t").type == pa.timestamp("us", "UTC")
    assert table["t"].null_count == 20_000
    assert table["t"].cast(pa.int64()).to_pylist()[-4:] == TIMES
    assert (await conn.to_numpy("times"))["t"].astype("i8").tolist()[-5:] == [None, *TIMES]
    frame = await conn.to_polars("times")
    assert frame.schema["t"] == pl.Datetime("us", "UTC")
    assert frame["t"].cast(pl.Int64).to_list()[-5:] == [None, *TIMES]
    pandas = await conn.to_pandas("times")
    assert str(pandas["t"].dtype) == "datetime64[us, UTC]"
    assert pandas["t"].tolist()[-1] == datetime(2024, 3, 1, tzinfo=UTC) + timedelta(microseconds=3)


async def test_a_reader_and_the_unit_that_comes_late(late):
    """A reader has one schema; its batches hold to it, and keep every instant."""
    conn, gate = late
    opening = asyncio.ensure_future((await conn.query("times")).arrow_reader())
    await gate.reached.wait()
    gate.open()
    reader = await opening
    table = await asyncio.to_thread(reader.read_all)
    table.validate(full=True)
    assert table.schema == reader.schema
    assert table["t"].null_count == 20_000
    assert table["t"].cast(pa.timestamp("us")).cast(pa.int64()).to_pylist()[-4:] == TIMES


@every_form
async def test_cancelled_over_rest(late, form):
    conn, gate = late
    task = asyncio.ensure_future(getattr(conn, f"to_{form}")("times"))
    await gate.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.open()
    assert len((await conn.to_numpy("times"))["v"]) == 20_004


@every_form
async def test_too_slow_over_rest(late, form):
    conn, gate = late
    with pytest.raises(aiotaos.TimeoutError):
        await getattr(conn, f"to_{form}")("times", timeout=0.3)
    gate.open()
    assert len((await conn.to_numpy("times"))["v"]) == 20_004


@every_form
async def test_batches_over_rest_that_are_closed(late, form):
    conn, gate = late
    async with aclosing(getattr(conn, f"{form}_batches")("times")) as batches:
        first = plain(await anext(batches))
        assert (first["v"][0], first["t"][0]) == (0, None)
    gate.open()
    assert len((await conn.to_numpy("times"))["v"]) == 20_004


async def test_wide_rows_over_rest(late):
    """Pieces of lists."""
    conn, gate = late
    gate.open()
    result = await conn.query("times")
    found = [await result.fetchone(), *await result.fetchmany(9_000)]
    async for row in result:
        found.append(row)
        if len(found) == 15_000:
            break
    found += await result.fetchall()
    assert [row[1] for row in found] == [*range(20_000), *range(4)]
    assert found[-1][0] == datetime(2024, 3, 1, tzinfo=UTC) + timedelta(microseconds=3)

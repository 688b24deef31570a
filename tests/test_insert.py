"""Bulk insert, into the embedded server: what it takes, what is then there, what it refuses."""

from __future__ import annotations

import asyncio
from collections import namedtuple
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import aiotaos
from aiotaos import DataError, InterfaceError, ProgrammingError, StatementError, insert

T = 1_700_000_000_000
NamedRow = namedtuple("NamedRow", ["name", "loc", "site", "ts", "v"])


@dataclass
class Row:
    name: str
    loc: str | None
    site: int
    ts: int
    v: float


@pytest.fixture
async def conn(clean):
    """A connection with the table ``t`` and the super table ``m``; at the end it still works."""
    async with aiotaos.connect("embedded://", database="d", timestamp="int") as conn:
        await conn.execute("create table t (ts timestamp, v int, s varchar(8))")
        await conn.execute("create table m (ts timestamp, v double) tags (loc nchar(8), site int)")
        yield conn
        assert await conn.insert("d.t", [(T + 999_999, 1, "end")]) == 1


async def meters(conn):
    return await conn.fetch("select tbname, loc, site, ts, v from m order by tbname, ts")


def inserting():
    """The tasks of inserts."""
    tasks = asyncio.all_tasks()
    return [t for t in tasks if t.get_coro().cr_code.co_filename == insert.__file__]


async def some(items):
    for item in items:
        yield item


# What it takes.

NAMES = ("name", "loc", "site", "ts", "v")
ROWS = [
    ("b", "上海", 2, T, 1.5),
    ("a", "x", 1, T, 2.5),
    ("b", "上海", 2, T + 1, 3.5),
    ("c", None, 3, T, -0.5),
    ("a", "x", 1, T + 1, 4.5),
]
STORED = [ROWS[1], ROWS[4], ROWS[0], ROWS[2], ROWS[3]]
COLUMNS = dict(zip(NAMES, map(list, zip(*ROWS, strict=True)), strict=True))
TIMES = pa.array([row[3] for row in ROWS], pa.timestamp("ms"))
ARROW = pa.table(COLUMNS | {"ts": TIMES})
FRAME = pd.DataFrame(COLUMNS | {"ts": pd.to_datetime(COLUMNS["ts"], unit="ms")})
STRUCTURED = np.array(
    ROWS, [("name", "U3"), ("loc", "O"), ("site", "i4"), ("ts", "M8[ms]"), ("v", "f8")]
)
TAKEN = {
    "tuples": lambda: ROWS,
    "tuple of lists": lambda: tuple(map(list, ROWS)),
    "named tuples": lambda: [NamedRow(*row) for row in ROWS],
    "dicts": lambda: [dict(zip(NAMES, row, strict=True)) for row in ROWS],
    "shuffled dicts": lambda: [dict(zip(NAMES[::-1], row[::-1], strict=True)) for row in ROWS],
    "dataclasses": lambda: [Row(*row) for row in ROWS],
    "lists": lambda: COLUMNS,
    "numpy": lambda: {name: np.array(values) for name, values in COLUMNS.items()},
    "Arrow arrays": lambda: {name: pa.array(values) for name, values in COLUMNS.items()},
    "Series": lambda: {name: pd.Series(values) for name, values in COLUMNS.items()},
    "all sorts": lambda: {
        "v": np.array(COLUMNS["v"]),
        "ts": [datetime.fromtimestamp(ts / 1000, UTC) for ts in COLUMNS["ts"]],
        "site": pl.Series(COLUMNS["site"]),
        "loc": COLUMNS["loc"],
        "name": pa.array(COLUMNS["name"]).dictionary_encode(),
    },
    "structured": lambda: STRUCTURED,
    "Arrow table": lambda: ARROW,
    "Arrow chunks": lambda: pa.concat_tables([ARROW.slice(0, 2), ARROW.slice(2)]),
    "record batch": lambda: ARROW.to_batches()[0],
    "reader": lambda: ARROW.to_reader(max_chunksize=2),
    "polars": lambda: pl.DataFrame(ARROW),
    "pandas": lambda: FRAME,
    "pandas' numbers": lambda: FRAME.astype({"site": "Int16", "name": "category"}),
    "generator of rows": lambda: (row for row in ROWS),
    "generator of batches": lambda: (ARROW.slice(at, 1) for at in range(5)),
    "asynchronous rows": lambda: some(ROWS),
    "asynchronous batches": lambda: some([FRAME.iloc[:1], FRAME.iloc[1:]]),
    "mixed": lambda: iter(
        [ROWS[0], Row(*ROWS[1]), ARROW.slice(2, 1), [ROWS[3]], NamedRow(*ROWS[4])]
    ),
}


@pytest.mark.parametrize("batch_rows", [1, 2, 100])
@pytest.mark.parametrize("make", TAKEN.values(), ids=TAKEN.keys())
async def test_every_form(conn, make, batch_rows):
    written = await conn.insert(
        "m", make(), tbname="name", tags=["loc", "site"], columns=NAMES, batch_rows=batch_rows
    )
    assert written == 5
    assert await meters(conn) == STORED


@pytest.mark.parametrize("make", [TAKEN[name] for name in ("tuples", "dicts", "pandas", "mixed")])
async def test_without_columns(conn, make):
    """Tuples are the name, the tags, and all columns; other data has names."""
    assert await conn.insert("m", make(), tbname="name", tags=["loc", "site"]) == 5
    assert await meters(conn) == STORED


async def test_a_table_of_its_own(conn):
    assert await conn.insert("t", [(T, 1, "a"), (T + 1, None, "b")]) == 2
    assert await conn.insert("t", [("c", T + 2)], columns=["s", "ts"]) == 1
    assert (
        await conn.insert("t", {"s": ["d"], "ts": [T + 3], "x": ["no"]}, columns=["ts", "s"]) == 1
    )
    assert await conn.insert("t", [{"ts": T + 4}, {"v": 5, "ts": T + 5}]) == 2
    assert await conn.fetch("select * from t") == [
        (T, 1, "a"),
        (T + 1, None, "b"),
        (T + 2, None, "c"),
        (T + 3, None, "d"),
        (T + 4, None, None),
        (T + 5, 5, None),
    ]


async def test_what_a_mapping_lacks_is_null(conn):
    rows = [
        {"name": "a", "ts": T, "v": 1.5, "site": 1},
        {"name": "b", "ts": T, "loc": "x"},
        {"name": "a", "ts": T + 1},
    ]
    assert await conn.insert("m", rows, tbname="name", tags=["loc", "site"]) == 3
    assert await meters(conn) == [
        ("a", None, 1, T, 1.5),
        ("a", None, 1, T + 1, None),
        ("b", "x", None, T, None),
    ]


@pytest.mark.parametrize(
    "data", [[], {"ts": [], "v": []}, iter(()), some([]), pa.table({"ts": pa.array([], "int64")})]
)
async def test_nothing(conn, data):
    assert await conn.insert("t", data) == 0


async def test_the_last_of_equal_times_stays(conn):
    rows = [(name, T + step, float(turn)) for turn in range(9) for name in "ab" for step in (0, 1)]
    data = [(name, "x", 1, ts, v) for name, ts, v in rows]
    for batch_rows in (1, 5, 100):
        await conn.insert(
            "m", data[::-1] + data, tbname="n", tags=["loc", "site"], batch_rows=batch_rows
        )
        assert await conn.fetch("select tbname, ts, v from m order by tbname, ts") == [
            ("a", T, 8.0),
            ("a", T + 1, 8.0),
            ("b", T, 8.0),
            ("b", T + 1, 8.0),
        ]


async def test_tags_are_those_of_the_first_row(conn):
    """And of a sub-table that is there already, those it has."""
    await conn.execute("create table old using m tags ('old', 0)")
    rows = [
        ("new", "first", 1, T, 1.0),
        ("old", "other", 2, T, 2.0),
        ("new", "later", 3, T + 1, 3.0),
    ]
    assert await conn.insert("m", rows, tbname="n", tags=["loc", "site"]) == 3
    assert await meters(conn) == [
        ("new", "first", 1, T, 1.0),
        ("new", "first", 1, T + 1, 3.0),
        ("old", "old", 0, T, 2.0),
    ]


async def test_some_of_the_tags(conn):
    await conn.insert("m", {"n": ["a"], "site": [7], "ts": [T]}, tbname="n", tags=["site"])
    assert await meters(conn) == [("a", None, 7, T, None)]


async def test_sub_tables_that_are_there_need_no_tags(conn):
    await conn.execute("create table a using m tags ('x', 1) b using m tags ('y', 2)")
    rows = [("b", T, 1.0), ("a", T, 2.0), ("b", T + 1, 3.0)]
    assert await conn.insert("m", rows, tbname="n", columns=["n", "ts", "v"]) == 3
    assert await meters(conn) == [
        ("a", "x", 1, T, 2.0),
        ("b", "y", 2, T, 1.0),
        ("b", "y", 2, T + 1, 3.0),
    ]


@pytest.mark.parametrize("name", ["T", "d.T", "`T`", "`d`.`T`", "d.`T`"])
async def test_names_of_tables(conn, name):
    """They are taken as they are: T is not t."""
    await conn.execute("create table `T` (ts timestamp, v int)")
    assert await conn.insert(name, [(T, 5)]) == 1
    assert await conn.fetch("select * from `T`") == [(T, 5)]
    assert await conn.fetch("select * from t") == []


@pytest.mark.parametrize("table", ["odd name", "d.odd name", "涛", "`d`.`select`", "1"])
async def test_odd_names_of_tables(conn, table):
    quoted = f"`{table.replace('`', '').removeprefix('d.')}`"
    await conn.execute(f"create table {quoted} (ts timestamp, `my v` int)")
    assert await conn.insert(table, {"ts": [T], "my v": [5]}) == 1
    assert await conn.fetch(f"select * from {quoted}") == [(T, 5)]


@pytest.mark.parametrize("table", ["m", "d.m", "`d`.`m`"])
async def test_names_of_sub_tables(conn, table):
    names = sorted(["plain", "Upper", "with space", "涛思", "1", "select", "it's", "a?b", "x-y"])
    rows = [(name, "x", 1, T + row, 0.0) for row, name in enumerate(names)]
    assert await conn.insert(table, rows, tbname="n", tags=["loc", "site"]) == len(names)
    assert sorted(row[0] for row in await meters(conn)) == names


async def test_another_database(conn):
    await conn.execute("create database other precision 'ns'")
    await conn.execute("create table other.m (ts timestamp, v int) tags (g int)")
    await conn.insert("other.m", [("a", 1, T * 10**6 + 5, 2)], tbname="n", tags=["g"])
    assert await conn.fetch("select tbname, g, ts, v from other.m") == [("a", 1, T * 10**6 + 5, 2)]
    assert await meters(conn) == []
    assert conn.database == "d"


async def test_many_rows_of_one_table(conn):
    """More than TDengine takes of one table at a time."""
    rows = 70_000
    data = {"ts": np.arange(T, T + rows), "v": np.arange(rows)}
    assert await conn.insert("t", data, batch_rows=rows) == rows
    assert await conn.fetchrow("select count(*), sum(v), max(v) from t") == (
        rows,
        rows * (rows - 1) // 2,
        rows - 1,
    )
    assert await conn.fetchval("select count(*) from t where ts - v = ?", T) == rows


async def test_a_table_that_changes(conn):
    for columns, row in (
        ("ts timestamp, v int", ("a", 1, T, 5)),
        ("ts timestamp, s nchar(9), w double", ("a", 2, T, "five", 5.5)),
    ):
        await conn.execute(f"create table changing ({columns}) tags (g int)")
        assert await conn.insert("changing", [row], tbname="n", tags=["g"]) == 1
        assert await conn.fetch("select g, * from changing") == [(*row[1:], row[1])]
        await conn.execute("drop table changing")


async def test_inserts_at_once(conn):
    data = [[(f"t{n}", "x", n, T + row, float(row)) for row in range(50)] for n in range(8)]
    written = await asyncio.gather(
        *(
            conn.insert("m", rows, tbname="n", tags=["loc", "site"], batch_rows=7 + n)
            for n, rows in enumerate(data)
        )
    )
    assert written == [50] * 8
    assert await meters(conn) == [row for rows in data for row in rows]


# Streaming.


@pytest.mark.parametrize("as_batches", [False, True])
async def test_how_far_it_reads_ahead(conn, as_batches):
    """While a batch is read, only the two before it may be on their way."""
    size, number = 10, 8

    async def source():
        for batch in range(number):
            rows = [(T + row, row, "s") for row in range(batch * size, (batch + 1) * size)]
            there = await conn.fetchval("select count(*) from t")
            assert max(0, batch - 2) * size <= there <= batch * size
            if as_batches:
                yield pa.table(dict(zip(("ts", "v", "s"), zip(*rows, strict=True), strict=True)))
            else:
                for row in rows:
                    yield row

    assert await conn.insert("t", source(), batch_rows=size) == size * number
    assert await conn.fetchval("select count(*) from t") == size * number


@pytest.mark.parametrize("wrong", [25, 30, 39])
@pytest.mark.parametrize("make", [list, iter, some], ids=lambda make: make.__name__)
async def test_a_bad_value_in_a_later_batch(conn, make, wrong):
    rows = [(T + row, row, "s") for row in range(45)]
    rows[wrong] = (T + wrong, 2**31, "s")
    with pytest.raises(DataError) as caught:
        await conn.insert("t", make(rows), batch_rows=10)
    assert str(caught.value) == f"column 'v', row {wrong}: 2147483648 is not a value of INT"
    assert (caught.value.column, caught.value.row) == ("v", wrong)
    assert await conn.fetchval("select count(*) from t") == wrong // 10 * 10
    assert caught.value.__notes__ == [f"{wrong // 10 * 10} rows of earlier batches were written"]


async def test_the_server_refuses_a_later_batch(conn):
    read = []

    async def source():
        for row in range(9):
            read.append(row)
            yield {"ts": [T + row], "nowhere" if row == 2 else "v": [row]}

    with pytest.raises(ProgrammingError, match="nowhere") as caught:
        await conn.insert("t", source())
    assert caught.value.code == 0x2602
    assert caught.value.__notes__ == ["2 rows of earlier batches were written"]
    assert read == [0, 1, 2, 3, 4]
    assert await conn.fetch("select v from t") == [(0,), (1,)]


async def test_a_source_that_fails(conn):
    async def source():
        for row in range(30):
            yield (T + row, row, "s")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await conn.insert("t", source(), batch_rows=10)
    assert await conn.fetchval("select count(*) from t") >= 20


async def test_cancelled_at_any_moment(conn):
    """The connection is as usable as before, and nothing goes on in the background."""
    data = [(f"t{row % 7}", "x", 1, T + row, 0.5) for row in range(40)]
    done = cancelled = 0
    for turns in (int(1.15**step) for step in range(120)):
        task = asyncio.create_task(
            conn.insert("m", iter(data), tbname="n", tags=["loc", "site"], batch_rows=10)
        )
        for _ in range(turns):
            await asyncio.sleep(0)
        if not task.cancel():
            done += 1
            break
        try:
            await task
        except asyncio.CancelledError:
            cancelled += 1
        assert inserting() == []
        if cancelled % 10 == 0:
            assert await conn.insert("m", data, tbname="n", tags=["loc", "site"]) == 40
            assert await conn.fetchval("select count(*) from m") == 40
    assert done == 1
    assert cancelled > 10
    assert await conn.insert("m", data, tbname="n", tags=["loc", "site"]) == 40


async def test_no_time(conn):
    with pytest.raises(aiotaos.TimeoutError):
        await conn.insert("t", [(T, 1, "a")], timeout=1e-6)
    assert inserting() == []


async def test_cancelled_while_the_source_waits(conn):
    reached, never = asyncio.Event(), asyncio.Event()

    async def source():
        for row in range(20):
            yield (T + row, row, "s")
        reached.set()
        await never.wait()

    task = asyncio.create_task(conn.insert("t", source(), batch_rows=10))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert inserting() == []
    assert await conn.fetchval("select count(*) from t") in (0, 10, 20)


# What it refuses.

OPTIONS = {"tbname": "name", "tags": ["loc", "site"]}
GOOD = [("a", "x", 1, T, 0.5), ("b", "y", 2, T, 1.5), ("a", "x", 1, T + 1, 2.5)]


def changed(place, value):
    """Good rows, and the last one with another value."""
    row = list(GOOD[2])
    row[place] = value
    return [*GOOD[:2], tuple(row)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (changed(4, "x"), "column 'v', row 2: 'x' is not a value of DOUBLE"),
        (changed(3, None), "column 'ts', row 2: None is no time; every row needs one"),
        (changed(3, 2**63), "column 'ts', row 2: 9223372036854775808 is not a value of TIMESTAMP"),
        (changed(0, None), "row 2: table name: expected a string, got None"),
        (changed(0, ""), "row 2: table name: expected 1 to 270 bytes, got ''"),
        (
            [*GOOD, ("c", "x" * 9, 1, T, 0.5)],
            "tag 'loc', row 3: 'xxxxxxxxx' has 9 characters, more than NCHAR(8) takes",
        ),
        ([*GOOD, ("c", "x", 2**31, T, 0.5)], "tag 'site', row 3: 2147483648 is not a value of INT"),
        ([*GOOD, ("c", "x", "1", T, 0.5)], "tag 'site', row 3: '1' is not a value of INT"),
        (
            changed(3, datetime(2024, 1, 1)),
            "column 'ts', row 2: datetime.datetime(2024, 1, 1, 0, 0) has no time zone: expected an "
            "aware datetime",
        ),
    ],
)
async def test_values_that_do_not_fit(conn, rows, message):
    with pytest.raises(DataError) as caught:
        await conn.insert("m", rows, **OPTIONS)
    assert str(caught.value) == message
    assert not hasattr(caught.value, "__notes__")
    assert await meters(conn) == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([(T, 1, "a"), (T + 1, 2)], "row 1: it has 2 values, those before it 3"),
        ([T], f"row 0: expected a tuple, a list, a mapping or a dataclass, got {T}"),
        ({"ts": [T], "v": [1, 2]}, "columns of unequal length: 'ts' has 1 values, 'v' has 2"),
        ({"ts": [T], "v": [1], "s": ["a" * 9]}, None),
    ],
)
async def test_data_of_another_shape(conn, data, message):
    with pytest.raises((StatementError, DataError)) as caught:
        await conn.insert("t", data)
    if message is None:
        message = "column 's', row 0: 'aaaaaaaaa' has 9 bytes, more than VARCHAR(8) takes"
    assert str(caught.value) == message
    assert await conn.fetch("select * from t") == []


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (
            {"name": ["a"], "ts": [T], "v": [1.0]},
            OPTIONS,
            "the data has no column 'loc', 'site'; it has 'name', 'ts', 'v'",
        ),
        (
            COLUMNS,
            {"columns": ["name", "ts", "w"], "tbname": "name"},
            "the data has no column 'w'; it has 'name', 'loc', 'site', 'ts', 'v'",
        ),
        (
            GOOD,
            {**OPTIONS, "columns": ["name", "loc", "site", "ts"]},
            "rows of 5 values for 4 columns: name, loc, site, ts",
        ),
        (
            [("a", "x", 1)],
            OPTIONS,
            "rows of 3 values have none behind the sub-table's name and its tags",
        ),
    ],
)
async def test_data_without_a_column(conn, data, options, message):
    with pytest.raises(StatementError) as caught:
        await conn.insert("m", data, **options)
    assert str(caught.value) == message
    assert await meters(conn) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tags": ["loc"]}, "tags: they belong to sub-tables; tbname must be given as well"),
        ({"tbname": "n", "tags": "loc"}, "tags: expected a sequence of names, got 'loc'"),
        ({"tbname": "n", "tags": [1]}, "tags: expected a sequence of names, got [1]"),
        ({"columns": "ts"}, "columns: expected a sequence of names, got 'ts'"),
        ({"tbname": "n", "columns": ["ts"]}, "columns: expected 'n' among them"),
        (
            {"tbname": "n", "tags": ["loc"], "columns": ["n", "ts"]},
            "columns: expected 'loc' among them",
        ),
        ({"tbname": "n"}, "columns: rows without names need the names of their values"),
        ({"batch_rows": 0}, "batch_rows: expected a whole number from 1, got 0"),
        ({"batch_rows": 1.5}, "batch_rows: expected a whole number from 1, got 1.5"),
        ({"batch_rows": True}, "batch_rows: expected a whole number from 1, got True"),
        ({"timeout": 0}, "timeout: expected a positive number of seconds, got 0"),
        ({"timeout": -1}, "timeout: expected a positive number of seconds, got -1"),
    ],
)
async def test_wrong_arguments(conn, options, message):
    with pytest.raises(InterfaceError) as caught:
        await conn.insert("t", [(T, 1, "a")], **options)
    assert str(caught.value) == message
    assert await conn.fetch("select * from t") == []


@pytest.mark.parametrize("table", ["", "a.b.c", "a`b", ".t", "d.", "`d", "``", None, 5, "t\0"])
async def test_wrong_names_of_tables(conn, table):
    with pytest.raises(StatementError, match=r"^(table|name): expected"):
        await conn.insert(table, [(T, 1, "a")])


@pytest.mark.parametrize("name", ["", "a`b"])
async def test_wrong_names_of_columns(conn, name):
    with pytest.raises(StatementError) as caught:
        await conn.insert("t", {"ts": [T], name: [1]})
    assert str(caught.value) == f"name: expected a string without back-ticks, got {name!r}"


@pytest.mark.parametrize(
    ("table", "options", "code"),
    [("nowhere", {}, 0x022B), ("nowhere.t", {}, 0x0388), ("nowhere", OPTIONS, 0x022B)],
)
async def test_no_such_table(conn, table, options, code):
    data = ARROW if options else {"ts": [T], "v": [1]}
    with pytest.raises((ProgrammingError, StatementError)) as caught:
        await conn.insert(table, data, **options)
    assert caught.value.code == code
    assert await meters(conn) == []


async def test_a_closed_connection():
    async with aiotaos.connect("embedded://") as conn:
        pass
    with pytest.raises(InterfaceError, match="is closed"):
        await conn.insert("t", [(T, 1)])


@pytest.mark.parametrize("wrong", [(T,), 5], ids=["too short", "no row"])
@pytest.mark.parametrize("make", [list, iter])
async def test_rows_before_one_that_is_none_are_written(conn, make, wrong):
    rows = [(T + number, number, "s") for number in range(20)]
    rows[15] = wrong
    with pytest.raises(DataError, match=r"^row 15: ") as caught:
        await conn.insert("t", make(rows), batch_rows=10)
    assert caught.value.row == 15
    assert await conn.fetchval("select count(*) from t") == 10 + 5 * (wrong == 5)
    (note,) = caught.value.__notes__
    assert note == f"{10 + 5 * (wrong == 5)} rows of earlier batches were written"


@pytest.mark.parametrize("batch_rows", [1, 10])
async def test_what_mappings_lack_is_null(conn, batch_rows):
    rows = [
        {"name": "a", "loc": "x", "site": 3, "ts": T, "v": 1.5},
        {"name": "b", "ts": T},
    ]
    assert await conn.insert("m", rows, **OPTIONS, batch_rows=batch_rows) == 2
    assert await conn.insert("t", [{"ts": T}], columns=["ts", "v"]) == 1
    assert await meters(conn) == [("a", "x", 3, T, 1.5), ("b", None, None, T, None)]
    assert await conn.fetch("select * from t") == [(T, None, None)]


async def test_a_source_is_closed(conn):
    ended = []

    async def some():
        try:
            yield (T, 1, "s")
            yield (T + 1, "wrong", "s")
            yield (T + 2, 3, "s")
        finally:
            ended.append(asyncio.current_task())

    with pytest.raises(DataError, match="column 'v', row 1: 'wrong'"):
        await conn.insert("t", some(), batch_rows=1)
    assert ended == [asyncio.current_task()]


async def test_what_was_sent_behind_a_refused_batch_is_not_written(conn):
    """The second batch is bound already when the first is refused."""
    far = 10**18
    for _ in range(3):
        with pytest.raises(DataError) as caught:
            await conn.insert(
                "m", [("a", "x", 1, far, 0.5), ("b", "x", 1, T, 1.5)], **OPTIONS, batch_rows=1
            )
        assert caught.value.code == 0x060B
    assert await conn.insert("m", [("c", "x", 1, T, 2.5)], **OPTIONS) == 1
    assert await meters(conn) == [("c", "x", 1, T, 2.5)]


async def test_masks_of_decimals_and_of_names(conn):
    await conn.execute("create table decimals (ts timestamp, d decimal(10, 2))")
    masked = np.ma.masked_array([1, 2], [True, False])
    assert await conn.insert("decimals", {"ts": [T, T + 1], "d": masked}) == 2
    assert await conn.fetch("select d from decimals") == [(None,), (Decimal("2.00"),)]
    names = np.ma.masked_array(["a", "hidden"], [False, True])
    with pytest.raises(DataError, match="row 1: table name: expected a string, got None"):
        await conn.insert(
            "m",
            {"name": names, "loc": ["x"] * 2, "site": [1] * 2, "ts": [T] * 2, "v": [1.0] * 2},
            **OPTIONS,
        )
    assert await meters(conn) == []


@pytest.mark.parametrize("name", ['"d"', "'d'", "d`d", "d d", "d;d", "d?"])
async def test_names_are_taken_literally(conn, name):
    await conn.insert("m", [(name, "x", 1, T, 0.5)], **OPTIONS)
    assert await meters(conn) == [(name, "x", 1, T, 0.5)]

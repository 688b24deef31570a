"""What a bulk insert takes, cut to batches: names, values and numbers of rows."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiotaos import DataError, InterfaceError, StatementError
from aiotaos.sources import batches, row_batches

NamedRow = namedtuple("NamedRow", ["ts", "v"])


@dataclass
class Row:
    ts: int
    v: int | None


@dataclass(slots=True)
class OtherRow:
    ts: int
    w: str


def plain(values):
    if hasattr(values, "tolist"):
        return values.tolist()
    return values.to_pylist() if isinstance(values, pa.ChunkedArray) else list(values)


def joined(found):
    """Adjacent batches of the same names, as one."""
    parts = []
    for names, columns in found:
        if parts and parts[-1][0] == names:
            columns = [a + b for a, b in zip(parts.pop()[1], columns, strict=True)]
        parts.append((names, columns))
    return parts


async def cut(data, size=100):
    """The batches, with lists for columns."""
    found = [batch async for batch in batches(data, size)]
    assert all(len(column) == batch.rows for batch in found for column in batch.columns)
    return [(batch.names, [plain(column) for column in batch.columns]) for batch in found]


async def some(items):
    for item in items:
        yield item


COLUMNS = {"ts": [1, 2, 3, 4, 5], "v": [10, 20, 30, 40, 50]}
TABLES = {
    "dict of lists": COLUMNS,
    "dict of tuples": {name: tuple(values) for name, values in COLUMNS.items()},
    "dict of numpy": {name: np.array(values) for name, values in COLUMNS.items()},
    "dict of Arrow": {name: pa.array(values) for name, values in COLUMNS.items()},
    "dict of chunks": {name: pa.chunked_array([v[:2], v[2:]]) for name, v in COLUMNS.items()},
    "dict of pandas": {name: pd.Series(values) for name, values in COLUMNS.items()},
    "dict of polars": {name: pl.Series(values) for name, values in COLUMNS.items()},
    "dict of all sorts": {"ts": COLUMNS["ts"], "v": np.array(COLUMNS["v"])},
    "ordered dict": OrderedDict(COLUMNS),
    "structured": np.array(
        list(zip(COLUMNS["ts"], COLUMNS["v"], strict=True)), [("ts", "i8"), ("v", "i4")]
    ),
    "record batch": pa.record_batch(COLUMNS),
    "Arrow table": pa.table(COLUMNS),
    "pandas": pd.DataFrame(COLUMNS),
    "polars": pl.DataFrame(COLUMNS),
}


@pytest.mark.parametrize("data", TABLES.values(), ids=TABLES.keys())
async def test_columns(data):
    names = ("ts", "v")
    assert await cut(data) == [(names, [[1, 2, 3, 4, 5], [10, 20, 30, 40, 50]])]
    assert await cut(data, 5) == [(names, [[1, 2, 3, 4, 5], [10, 20, 30, 40, 50]])]
    assert await cut(data, 2) == [
        (names, [[1, 2], [10, 20]]),
        (names, [[3, 4], [30, 40]]),
        (names, [[5], [50]]),
    ]


async def test_a_pandas_frame_with_another_index():
    data = {"v": pd.Series([1, 2, 3], index=[7, 8, 9])}
    assert await cut(data, 2) == [(("v",), [[1, 2]]), (("v",), [[3]])]


async def test_a_reader_of_batches():
    parts = [pa.record_batch({"v": [1, 2, 3]}), pa.record_batch({"v": [4]})]
    reader = pa.RecordBatchReader.from_batches(parts[0].schema, parts)
    assert await cut(reader, 2) == [(("v",), [[1, 2]]), (("v",), [[3]]), (("v",), [[4]])]


ROWS = {
    "tuples": (None, [(1, 10), (2, 20), (3, 30)]),
    "lists": (None, [[1, 10], [2, 20], [3, 30]]),
    "named tuples": (("ts", "v"), [NamedRow(1, 10), NamedRow(2, 20), NamedRow(3, 30)]),
    "dicts": (("ts", "v"), [{"ts": n, "v": 10 * n} for n in (1, 2, 3)]),
    "dataclasses": (("ts", "v"), [Row(1, 10), Row(2, 20), Row(3, 30)]),
}


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("make", [list, tuple, iter, some], ids=lambda make: make.__name__)
async def test_rows(kind, make):
    names, rows = ROWS[kind]
    assert await cut(make(rows)) == [(names, [[1, 2, 3], [10, 20, 30]])]
    assert await cut(make(rows), 2) == [(names, [[1, 2], [10, 20]]), (names, [[3], [30]])]
    assert await cut(make(rows), 3) == [(names, [[1, 2, 3], [10, 20, 30]])]


async def test_what_a_mapping_lacks():
    rows = [{"ts": 1, "v": 1}, {"w": "b", "ts": 2}, {"ts": 3}]
    assert await cut(rows) == [(("ts", "v", "w"), [[1, 2, 3], [1, None, None], [None, "b", None]])]


@pytest.mark.parametrize("make", [list, iter, some], ids=lambda make: make.__name__)
async def test_rows_of_several_kinds(make):
    rows = [Row(1, 10), Row(2, None), {"ts": 3}, OtherRow(4, "a"), (5, 50), (6, 60), Row(7, 70)]
    assert joined(await cut(make(rows))) == [
        (("ts", "v"), [[1, 2], [10, None]]),
        (("ts",), [[3]]),
        (("ts", "w"), [[4], ["a"]]),
        (None, [[5, 6], [50, 60]]),
        (("ts", "v"), [[7], [70]]),
    ]


@pytest.mark.parametrize("make", [list, iter, some], ids=lambda make: make.__name__)
async def test_batches_and_rows_mixed(make):
    """What came first is written first; a list of rows is a batch."""
    items = [
        (1, 10),
        {"ts": [2, 3], "v": [20, 30]},
        (4, 40),
        (5, 50),
        pa.record_batch({"ts": [6], "v": [60]}),
        [(7, 70), (8, 80)],
        pd.DataFrame({"ts": [9], "v": [90]}),
    ]
    assert joined(await cut(make(items))) == [
        (None, [[1], [10]]),
        (("ts", "v"), [[2, 3], [20, 30]]),
        (None, [[4, 5], [40, 50]]),
        (("ts", "v"), [[6], [60]]),
        (None, [[7, 8], [70, 80]]),
        (("ts", "v"), [[9], [90]]),
    ]


EMPTY = {
    "list": [],
    "tuple": (),
    "iterator": iter([]),
    "columns": {"ts": [], "v": []},
    "numpy": {"ts": np.array([], "i8")},
    "structured": np.empty(0, [("ts", "i8")]),
    "Arrow": pa.table({"ts": pa.array([], pa.int64())}),
    "pandas": pd.DataFrame({"ts": pd.Series([], dtype="i8")}),
    "batches": [{"ts": []}, pa.table({"ts": pa.array([], pa.int64())})],
}


@pytest.mark.parametrize("data", EMPTY.values(), ids=EMPTY.keys())
async def test_nothing(data):
    assert await cut(data) == []


async def test_nothing_of_an_asynchronous_iterator():
    assert await cut(some([])) == []


@pytest.mark.parametrize("rows", [1, 2, 5, 6, 7])
@pytest.mark.parametrize("is_async", [False, True])
async def test_how_far_a_source_is_read(rows, is_async):
    """No further than the rows of a batch."""
    read = []

    def items():
        for number in range(10_000):
            read.append(number)
            yield (number,)

    source = some(items()) if is_async else items()
    cutting = batches(source, rows)
    for number in (1, 2, 3):
        batch = await anext(cutting)
        assert batch.rows == rows
        assert len(read) == number * rows
    await cutting.aclose()


@pytest.mark.parametrize(
    "data",
    [None, 5, "text", b"text", object()],
    ids=repr,
)
async def test_what_is_no_data(data):
    with pytest.raises(InterfaceError, match=r"^data: expected rows, a dict of columns") as caught:
        await cut(data)
    assert str(caught.value).endswith(f"got {type(data).__name__}")


async def test_a_row_that_is_not_in_a_list():
    with pytest.raises(InterfaceError) as caught:
        await cut({"ts": 1, "v": "text"})
    assert str(caught.value) == (
        "data: expected columns in the dict, found values; one row goes in a list"
    )


async def test_an_array_without_fields():
    with pytest.raises(InterfaceError) as caught:
        await cut(np.arange(4))
    assert str(caught.value) == "data: a numpy array must be structured: its fields are columns"


async def test_columns_of_unequal_length():
    with pytest.raises(StatementError) as caught:
        await cut({"ts": [1, 2], "v": np.array([1])})
    assert str(caught.value) == "columns of unequal length: 'ts' has 2 values, 'v' has 1"


@pytest.mark.parametrize("make", [list, iter, some], ids=lambda make: make.__name__)
async def test_rows_of_unequal_length(make):
    with pytest.raises(DataError) as caught:
        await cut(make([(1, 2), (3, 4), (5,)]))
    assert str(caught.value) == "row 2: it has 1 values, those before it 2"
    assert caught.value.row == 2


@pytest.mark.parametrize("make", [list, iter, some], ids=lambda make: make.__name__)
@pytest.mark.parametrize("wrong", [5, "text", None, datetime(2024, 1, 1, tzinfo=UTC)], ids=repr)
async def test_what_is_no_row(make, wrong):
    with pytest.raises(DataError) as caught:
        await cut(make([wrong]))
    assert str(caught.value) == (
        f"row 0: expected a tuple, a list, a mapping or a dataclass, got {wrong!r}"
    )


@given(
    st.lists(
        st.one_of(
            st.tuples(st.integers()),
            st.integers().map(lambda v: Row(v, v)),
            st.fixed_dictionaries({}, optional={"ts": st.integers(), "v": st.integers()}),
        ),
        max_size=30,
    )
)
def test_rows_of_any_kinds_come_out_in_order(rows):
    found = []
    for batch in row_batches(rows):
        assert all(len(column) == batch.rows for column in batch.columns)
        for values in zip(*batch.columns, strict=True):
            if batch.names is None:
                found.append(values)
            else:
                found.append(dict(zip(batch.names, values, strict=True)))
        if not batch.columns:
            found += [{}] * batch.rows
    expected = []
    for row in rows:
        if isinstance(row, Row):
            expected.append({"ts": row.ts, "v": row.v})
        else:
            expected.append(row)
    assert len(found) == len(rows)
    for got, wanted in zip(found, expected, strict=True):
        if isinstance(wanted, tuple):
            assert got == wanted
        else:
            assert {name: value for name, value in got.items() if value is not None} == wanted

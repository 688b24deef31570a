"""Columns of a real server: the values that were written, in every form, over every road."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import aiotaos
from tests.type_matrix import COLUMNS, PRECISIONS, write_all

ROWS = 20_000
START = 1_709_251_200_000


@pytest.fixture(scope="session", params=["websocket", "native", "rest"])
def road(request):
    """The road that is read over; what REST reads is written over WebSocket."""
    return request.param


@pytest.fixture
async def conn(request, road, dsn, make_database):
    """A connection without a database."""
    source = request.getfixturevalue("rest_dsn") if road == "rest" else dsn
    async with aiotaos.connect(source, timezone="Europe/Berlin", timestamp=int) as conn:
        yield conn


def ticks(column: Any) -> list[Any]:
    """The values of an Arrow column, times as ticks."""
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.int64()).to_pylist()
    return column.to_pylist()


@pytest.mark.parametrize("precision", PRECISIONS)
async def test_every_type(conn, connect, make_database, precision):
    database = await make_database(precision)
    writer = await connect(database=database)
    rows = await write_all(writer, precision)
    sql = f"select * from {database}.everything"
    if conn.endpoint.startswith("http"):  # whose server cannot write the earliest times down
        rows = await conn.fetch(sql)
    names = ["ts", *COLUMNS]
    expected = [list(values) for values in zip(*rows, strict=True)]

    table = await conn.to_arrow(sql)
    table.validate(full=True)
    assert table.column_names == names
    assert list(map(ticks, table.columns)) == expected
    assert table.schema.field(0).type == pa.timestamp(precision, "Europe/Berlin")

    polars = (await conn.to_polars(sql)).to_arrow()
    assert list(map(ticks, polars.columns)) == expected

    arrays = await conn.to_numpy(sql)
    for name, values in zip(names, expected, strict=True):
        array = arrays[name]
        assert (array.astype("i8") if array.dtype.kind == "M" else array).tolist() == values

    frame = await conn.to_pandas(sql, dtype_backend="pyarrow")
    assert list(frame.columns) == names
    for name, values in zip(names, expected, strict=True):
        assert frame[name].isna().tolist() == [value is None for value in values]


async def test_streams(conn, connect, make_database):
    database = await make_database()
    writer = await connect(database=database)
    number = np.arange(ROWS)
    await writer.execute(
        "create stable m (ts timestamp, v int, d decimal(20, 3)) tags (room nchar(16))"
    )
    data = {
        "device": np.array(["d1", "d2", "d3"])[number % 3],
        "ts": START + number,
        "v": number,
        "d": [Decimal(n).scaleb(-3) for n in range(ROWS)],
        "room": np.array(["Küche", "涛思", "🚀"])[number % 3],
    }
    await writer.insert("m", data, tbname="device", tags=["room"])
    sql = f"select ts, v, d, room from {database}.m"

    async def check(table: pa.Table) -> None:
        table = table.sort_by("v")
        assert table["v"].to_pylist() == number.tolist()
        assert table["ts"].cast(pa.int64()).to_pylist() == (START + number).tolist()
        assert table["d"].to_pylist() == data["d"]
        assert table["room"].cast(pa.string()).to_pylist() == data["room"].tolist()

    await check(await conn.to_arrow(sql))
    await check(await conn.to_arrow(sql, dictionary=True))
    await check(pa.Table.from_batches([batch async for batch in conn.arrow_batches(sql)]))
    async with await conn.query(sql) as result:
        reader = await result.arrow_reader()
        await check(await asyncio.to_thread(reader.read_all))
    arrays = [batch["v"] async for batch in conn.numpy_batches(sql)]
    assert np.sort(np.concatenate(arrays)).tolist() == number.tolist()
    frame = await conn.to_pandas(sql, dictionary=["room"])
    assert frame["ts"].max() - frame["ts"].min() == timedelta(milliseconds=ROWS - 1)
    assert sorted(frame["room"].cat.categories) == sorted(["Küche", "涛思", "🚀"])


async def test_nothing(conn):
    sql = "select name, create_time from information_schema.ins_databases where name = 'no such'"
    table = await conn.to_arrow(sql)
    assert (table.num_rows, table.column_names) == (0, ["name", "create_time"])
    assert (await conn.to_pandas(sql)).empty
    assert (await conn.to_polars(sql)).shape == (0, 2)
    assert {name: len(array) for name, array in (await conn.to_numpy(sql)).items()} == {
        "name": 0,
        "create_time": 0,
    }

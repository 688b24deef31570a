"""Messages of a subscription as numpy arrays, Arrow, pandas and polars."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import aiotaos
from aiotaos import Consumer, InterfaceError, MessageKind
from aiotaos.embedded import Server
from tests.test_tmq_recording import Recorded, expected

T0 = 1709251200000
START = datetime(2024, 3, 1, tzinfo=UTC)
MS = timedelta(milliseconds=1)
FORMS = ["to_numpy", "to_arrow", "to_pandas", "to_polars"]


@pytest.fixture
async def messages(clean):
    """What a subscription brings after some statements: ``await messages(topic, number, *sql)``."""
    consumers = []
    async with Server() as server, aiotaos.connect(server.dsn) as conn:

        async def run(topic, number, *statements, **options):
            for statement in statements:
                await conn.execute(statement)
            consumer = Consumer(
                server.dsn, group_id="g", auto_offset_reset="earliest", timezone="UTC", **options
            )
            consumers.append(consumer)
            await consumer.subscribe(topic)
            return [await consumer.poll(5) for _ in range(number)]

        yield run
        for consumer in consumers:
            await consumer.close()


STABLE = (
    "create database d vgroups 1",
    "create stable d.s (ts timestamp, v int, name nchar(8)) tags (t int)",
)


@pytest.fixture(params=["query", "stable", "database"])
async def message(request, messages):
    """Two blocks of the same columns, with a NULL, of each kind of topic."""
    topic = {
        "query": "create topic q as select ts, v, name from d.s",
        "stable": "create topic q as stable d.s",
        "database": "create topic q as database d",
    }[request.param]
    (one,) = await messages(
        "q",
        1,
        *STABLE,
        topic,
        f"insert into d.a using d.s tags (1) values ({T0}, 1, '涛') ({T0 + 1}, null, 'x')",
        f"insert into d.b using d.s tags (2) values ({T0 + 2}, 3, null)",
    )
    assert [len(block) for block in one] == [2, 1]
    return one


EXPECTED = {
    "ts": [START, START + MS, START + 2 * MS],
    "v": [1, None, 3],
    "name": ["涛", "x", None],
}


async def test_arrow(message):
    table = message.to_arrow()
    table.validate(full=True)
    assert table.schema == pa.schema(
        {"ts": pa.timestamp("ms", "UTC"), "v": pa.int32(), "name": pa.string()}
    )
    assert table.to_pydict() == EXPECTED
    assert table["v"].num_chunks == 2
    encoded = message.to_arrow(dictionary=["name"])
    encoded.validate(full=True)
    assert encoded.schema.field("name").type == pa.dictionary(pa.int32(), pa.string())
    assert encoded.to_pydict() == EXPECTED


async def test_numpy(message):
    arrays = message.to_numpy()
    assert list(arrays) == ["ts", "v", "name"]
    assert arrays["ts"].dtype == "M8[ms]"
    assert arrays["ts"].astype("i8").tolist() == [T0, T0 + 1, T0 + 2]
    assert arrays["v"].dtype == "i4"
    assert arrays["v"].tolist() == [1, None, 3]
    assert arrays["name"].tolist() == ["涛", "x", None]


async def test_pandas(message):
    frame = message.to_pandas()
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == {
        "ts": "datetime64[ms, UTC]",
        "v": "float64",
        "name": "str",
    }
    assert frame["ts"].tolist() == EXPECTED["ts"]
    assert frame["name"].isna().tolist() == [False, False, True]
    nullable = message.to_pandas(dtype_backend="numpy_nullable", dictionary=True)
    assert str(nullable["v"].dtype) == "Int32"
    assert nullable["v"].tolist() == [1, pd.NA, 3]
    assert str(nullable["name"].dtype) == "category"
    assert message.to_pandas(dtype_backend="pyarrow")["v"].dtype == pd.ArrowDtype(pa.int32())


@pytest.mark.parametrize("has_pyarrow", [True, False])
async def test_polars(message, has_pyarrow, monkeypatch):
    if not has_pyarrow:
        monkeypatch.setitem(sys.modules, "pyarrow", None)
    frame = message.to_polars()
    assert frame.schema == {"ts": pl.Datetime("ms", "UTC"), "v": pl.Int32, "name": pl.String}
    assert frame.to_dict(as_series=False) == EXPECTED
    frame = message.to_polars(dictionary=["name"])
    assert frame.schema["name"] == pl.Categorical
    assert frame.to_dict(as_series=False) == EXPECTED


async def test_blocks_alone(message):
    first, second = message
    assert first.to_arrow().to_pydict() == {name: each[:2] for name, each in EXPECTED.items()}
    assert second.to_polars().to_dict(as_series=False) == {
        name: each[2:] for name, each in EXPECTED.items()
    }
    assert first.to_numpy()["v"].tolist() == [1, None]
    assert second.to_pandas()["v"].tolist() == [3]
    assert pa.record_batch(second).equals(second.to_arrow())


async def test_blocks_of_different_columns(messages):
    (message,) = await messages(
        "q",
        1,
        *STABLE,
        "create topic q as database d",
        f"insert into d.a using d.s tags (1) values ({T0}, 1, '涛')",
        "create table d.plain (ts timestamp, b bool)",
        f"insert into d.plain values ({T0}, true)",
    )
    assert sorted(block.table for block in message) == ["a", "plain"]
    first, second = (block.table for block in message)
    for form in FORMS:
        with pytest.raises(InterfaceError) as caught:
            getattr(message, form)()
        assert str(caught.value) == (
            f"the message has blocks of different columns, of {first!r} and of {second!r}; "
            "convert them one by one"
        )
    found = {block.table: block.to_arrow().to_pydict() for block in message}
    assert found == {
        "a": {"ts": [START], "v": [1], "name": ["涛"]},
        "plain": {"ts": [START], "b": [True]},
    }


async def test_messages_without_rows(messages, monkeypatch):
    made, filled = await messages(
        "m",
        2,
        "create database m vgroups 1",
        "create topic m with meta as database m",
        "create stable m.s (ts timestamp, v int) tags (t int)",
        f"insert into m.a using m.s tags (7) values ({T0}, 1)",
    )
    assert (made.kind, filled.kind) == (MessageKind.META, MessageKind.METADATA)
    assert made.to_numpy() == {}
    assert (made.to_arrow().num_rows, made.to_arrow().num_columns) == (0, 0)
    assert made.to_pandas().shape == (0, 0)
    assert made.to_polars().shape == (0, 0)
    assert made.to_arrow(dictionary=True).num_columns == 0
    with pytest.raises(InterfaceError, match="'s' is no text column; there are none"):
        made.to_arrow(dictionary=["s"])
    assert filled.to_arrow().to_pydict() == {"ts": [START], "v": [1]}
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert made.to_polars().shape == (0, 0)
    with pytest.raises(InterfaceError, match=r"pip install 'aiotaos\[arrow\]'"):
        made.to_arrow()


@pytest.mark.parametrize(
    ("precision", "ticks"),
    [("ms", 1709251200123), ("us", 1709251200123456), ("ns", 1709251200123456789)],
)
async def test_precisions(messages, precision, ticks):
    (message,) = await messages(
        "p",
        1,
        f"create database p vgroups 1 precision '{precision}'",
        "create table p.n (ts timestamp, v timestamp)",
        "create topic p as database p",
        "insert into p.n values ('2024-03-01T00:00:00.123456789Z', null)",
    )
    table = message.to_arrow()
    assert table.schema.types == [pa.timestamp(precision, "UTC")] * 2
    assert table["ts"].cast(pa.int64()).to_pylist() == [ticks]
    assert table["v"].to_pylist() == [None]
    assert message.to_numpy()["ts"].dtype == f"M8[{precision}]"
    assert message.to_polars().schema["ts"] == pl.Datetime(precision, "UTC")


async def test_bad_options(message):
    with pytest.raises(InterfaceError, match="dtype_backend: expected"):
        message.to_pandas(dtype_backend="numpy")
    for form in FORMS[1:]:
        with pytest.raises(InterfaceError, match="'v' is no text column; there are 'name'"):
            getattr(message, form)(dictionary=["v"])
        with pytest.raises(InterfaceError, match="names of columns in a list, got 'name'"):
            getattr(message, form)(dictionary="name")


@pytest.mark.parametrize(
    ("library", "form"),
    [("pyarrow", "to_arrow"), ("pandas", "to_pandas"), ("polars", "to_polars")],
)
async def test_missing_libraries(message, library, form, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InterfaceError, match=rf"^{library} is not installed: pip install"):
        getattr(message, form)()


@pytest.mark.parametrize("topic", ["cap_q", "cap_s", "cap_d"])
async def test_recorded_messages(server, topic):
    """Rows of these are compared with what an official client made of them elsewhere."""
    Recorded(server, "tmq_data", topic)
    before, _, _ = expected("tmq_data", topic)
    async with Consumer(
        server.dsn, group_id="g", auto_offset_reset="earliest", timezone="UTC"
    ) as consumer:
        await consumer.subscribe(topic)
        found = [await consumer.poll(5) for _ in before]
    for message in found:
        rows = message.rows()
        assert len(rows) > 0
        table = message.to_arrow()
        table.validate(full=True)
        columns = list(map(list, zip(*rows, strict=True)))
        assert [column.to_pylist() for column in table.columns] == columns
        assert [series.to_list() for series in message.to_polars()] == columns
        arrays = message.to_numpy()
        assert [array.tolist() for array in arrays.values()][1:] == columns[1:]
        assert len(message.to_pandas()) == len(rows)

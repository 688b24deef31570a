"""Arrow arrays to typed columns."""

from __future__ import annotations

import sys
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiotaos import DataError, FieldKind, InterfaceError, StatementField, TypeCode
from aiotaos.protocol.arrow import (
    arrow_codes,
    arrow_taken,
    is_arrow,
    is_arrow_table,
    plain_array,
    record_batches,
)
from aiotaos.protocol.bind import bind_column
from aiotaos.protocol.columns import Fixed

pa = pytest.importorskip("pyarrow")
T = TypeCode


class Foreign:
    """An array of another library: it offers the capsule alone."""

    def __init__(self, array: object) -> None:
        self.array = array

    def __arrow_c_array__(self, requested_schema=None):
        return self.array.__arrow_c_array__(requested_schema)

    def __len__(self) -> int:
        return len(self.array)


class ForeignStream:
    def __init__(self, source: object) -> None:
        self.source = source

    def __arrow_c_stream__(self, requested_schema=None):
        return self.source.__arrow_c_stream__(requested_schema)


def field(type: TypeCode, length: int = 0, precision: int = 0, scale: int = 0) -> StatementField:
    return StatementField("c", FieldKind.COLUMN, type, length, precision, scale)


def made(described: StatementField, array: object) -> list[object]:
    column = bind_column(described, array)
    nulls = [False] * len(column) if column.nulls is None else column.nulls.tolist()
    if isinstance(column, Fixed):
        return [None if null else v for null, v in zip(nulls, column.values.tolist(), strict=True)]
    parts, start = [], 0
    for null, length in zip(nulls, column.lengths.tolist(), strict=True):
        parts.append(None if null else column.data[start : start + length].tobytes())
        start += length
    assert start == len(column.data)
    return parts


STRINGS = ["x", "涛", None, ""]
BYTES = [None if text is None else text.encode() for text in STRINGS]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
@pytest.mark.parametrize("type", [T.VARCHAR, T.NCHAR, T.JSON])
def test_strings(kind, type):
    array = pa.array(["before", *STRINGS, "after"], kind)
    assert made(field(type, 5), array.slice(1, 4)) == BYTES
    assert made(field(type, 5), array.slice(1, 2)) == BYTES[:2]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()], ids=str)
@pytest.mark.parametrize("type", [T.VARCHAR, T.VARBINARY, T.GEOMETRY, T.BLOB])
def test_binaries(kind, type):
    assert made(field(type, 5), pa.array(BYTES, kind)) == BYTES


def test_binaries_of_one_width():
    assert made(field(T.VARBINARY, 5), pa.array([b"ab", None], pa.binary(2))) == [b"ab", None]


@pytest.mark.parametrize(
    "array",
    [
        pa.array([], pa.string()),
        pa.array([None, None], pa.string()),
        pa.array(["", ""], pa.large_string()),
        pa.nulls(2),
        pa.chunked_array([["a"], [], ["b", None]]),
        pa.chunked_array([], pa.string()),
        pa.array(["a", "b", None, "a"]).dictionary_encode(),
        pa.DictionaryArray.from_arrays([0, 1, 0], ["a", None]),
    ],
    ids=lambda array: str(array.type),
)
def test_strings_of_other_layouts(array):
    expected = [None if text is None else text.encode() for text in array.to_pylist()]
    assert made(field(T.VARCHAR, 5), array) == expected


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.binary(), pa.int32(), pa.timestamp("ms")], ids=str
)
def test_nothing(kind):
    """An empty array need not have buffers."""
    type = {"string": T.VARCHAR, "binary": T.VARBINARY, "int32": T.INT}.get(str(kind), T.TIMESTAMP)
    for array in (pa.array([], kind), pa.chunked_array([], kind), pa.array([None], kind)[1:]):
        assert made(field(type, 5), array) == []


def test_nothing_without_buffers():
    assert made(field(T.INT), pa.Array.from_buffers(pa.int32(), 0, [None, None])) == []


@pytest.mark.parametrize(
    ("type", "array", "expected"),
    [
        (T.INT, pa.array([1, None, -3], pa.int64()), [1, None, -3]),
        (T.INT, pa.array([9, 5, 6], pa.uint8())[1:], [5, 6]),
        (T.INT, pa.array([9, 5, None], pa.int32())[1:], [5, None]),
        (T.DOUBLE, pa.array([1.5, None]), [1.5, None]),
        (T.FLOAT, pa.array([1.5], pa.float16()), [1.5]),
        (T.DOUBLE, pa.array([1, 2], pa.int8()), [1.0, 2.0]),
        (T.BOOL, pa.array([True, False, None])[1:], [0, None]),
        (T.BOOL, pa.array([True, False]), [1, 0]),
        (T.TIMESTAMP, pa.array([1999, None], pa.timestamp("us")), [1, None]),
        (T.TIMESTAMP, pa.array([-1], pa.timestamp("ns", "Asia/Shanghai")), [-1]),
        (T.TIMESTAMP, pa.array([2], pa.timestamp("s")), [2000]),
        (T.TIMESTAMP, pa.array([7], pa.int64()), [7]),
        (T.INT, pa.chunked_array([[1], [None, 2]]), [1, None, 2]),
        (T.DECIMAL, pa.array([Decimal("1.25"), None]), [b"1.25", None]),
    ],
    ids=str,
)
def test_numbers_and_times(type, array, expected):
    assert made(field(type), array) == expected


@pytest.mark.parametrize(
    ("described", "array", "problem"),
    [
        (field(T.INT), pa.array([1, 2**31]), "row 1: 2147483648 is not a value of INT"),
        (field(T.INT), pa.array([None, "a"]), "row 1: 'a' is not a value of INT"),
        (field(T.INT), pa.array([1.0]), "row 0: 1.0 is not a value of INT"),
        (
            field(T.VARBINARY, 5),
            pa.array(["a"]),
            "row 0: 'a' is not a value of VARBINARY(5): expected bytes",
        ),
        (
            field(T.NCHAR, 5),
            pa.array([b"a"]),
            "row 0: b'a' is not a value of NCHAR(5): expected str",
        ),
        (
            field(T.VARCHAR, 2),
            pa.array(["ab", None, "涛"]),
            "row 2: '涛' has 3 bytes, more than VARCHAR(2) takes",
        ),
        (
            field(T.NCHAR, 1),
            pa.array(["𝄞", "𝄞𝄞"]),
            "row 1: '𝄞𝄞' has 2 characters, more than NCHAR(1) takes",
        ),
        (
            field(T.TIMESTAMP, 8, 2),
            pa.array([0, 2**40], pa.timestamp("s")),
            "row 1: np.datetime64('36812-02-20T00:36:16') is not a value of TIMESTAMP",
        ),
        (
            field(T.TIMESTAMP),
            pa.array([1], pa.time64("us")),
            "row 0: datetime.time(0, 0, 0, 1) is not a value of TIMESTAMP: expected an aware "
            "datetime, a datetime64 or integer ticks",
        ),
    ],
    ids=str,
)
def test_bad_values(described, array, problem):
    with pytest.raises(DataError) as caught:
        bind_column(described, array)
    assert str(caught.value) == f"column 'c', {problem}"


def test_a_value_of_more_than_two_gigabytes():
    offsets = pa.py_buffer(np.array([0, 2**31], "<i8").tobytes())
    data = pa.py_buffer(np.zeros(2**31, np.uint8))  # which takes no memory until it is read
    array = pa.Array.from_buffers(pa.large_string(), 1, [None, offsets, data])
    with pytest.raises(DataError, match=r"^column 'c' has a value of 2147483648 bytes$"):
        bind_column(field(T.VARCHAR, 5), array)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.none() | st.text(st.characters(codec="utf-8"), max_size=4), max_size=6),
    st.integers(0, 6),
)
def test_slices(values, start):
    array = pa.array(values, pa.string())[start:]
    expected = [None if value is None else value.encode() for value in values[start:]]
    assert made(field(T.VARCHAR, 16), array) == expected


# What offers Arrow data.


def test_what_is_arrow():
    table = pa.table({"a": [1]})
    for tabular in (table, table.to_batches()[0], table.to_reader(), ForeignStream(table)):
        assert is_arrow(tabular)
        assert is_arrow_table(tabular)
    for single in (pa.array([1]), pa.chunked_array([[1]]), Foreign(pa.array([1]))):
        assert is_arrow(single)
        assert not is_arrow_table(single)
    assert not is_arrow([1])
    assert not is_arrow_table(np.array([1]))


def test_other_libraries():
    assert made(field(T.INT), Foreign(pa.array([1, None]))) == [1, None]
    assert made(field(T.VARCHAR, 3), ForeignStream(pa.chunked_array([["a"], ["b"]]))) == [
        b"a",
        b"b",
    ]


def test_batches():
    batches = [pa.record_batch({"a": [1]}), pa.record_batch({"a": [2, 3]})]
    table = pa.Table.from_batches(batches)
    for source in (table, table.to_reader(), ForeignStream(table)):
        assert [batch.num_rows for batch in record_batches(source)] == [1, 2]
    assert [batch.num_rows for batch in record_batches(batches[1])] == [2]
    (batch,) = record_batches(Foreign(batches[1]))
    assert batch.to_pydict() == {"a": [2, 3]}


def test_plain_array():
    assert plain_array(pa.array(["a"], pa.string_view())).type == pa.large_string()
    assert plain_array(pa.array([b"a"], pa.binary_view())).type == pa.large_binary()
    array = pa.array([1])
    assert plain_array(array) is array


def test_codes():
    for names in (
        pa.array(["b", "a", "b"]),
        pa.chunked_array([["b"], ["a", "b"]]),
        pa.DictionaryArray.from_arrays([2, 0, 2], ["a", "unused", "b"]),
    ):
        tables, codes = arrow_codes(names)
        assert sorted(tables) == ["a", "b"]
        assert [tables[code] for code in codes.tolist()] == ["b", "a", "b"]
    assert arrow_codes(pa.array(["b", None])) is None


def test_taken():
    taken = arrow_taken(pa.chunked_array([["a", "b"], ["c"]]), np.array([2, 0]))
    assert taken.to_pylist() == ["c", "a"]


def test_without_pyarrow(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    array = Foreign(pa.array([1]))
    with pytest.raises(InterfaceError) as caught:
        bind_column(field(T.INT), array)
    assert str(caught.value) == "pyarrow is not installed: pip install 'aiotaos[arrow]'"

"""Rows and columns to bindings: grouping by table, tags, and what is refused."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiotaos import DataError, FieldKind, StatementError, StatementField, TypeCode
from aiotaos.binding import Shape, TableRows

TBNAME = StatementField("tbname", FieldKind.TBNAME, TypeCode.VARCHAR, 269)
LOC = StatementField("loc", FieldKind.TAG, TypeCode.NCHAR, 8)
SITE = StatementField("site", FieldKind.TAG, TypeCode.INT, 4)
TS = StatementField("ts", FieldKind.COLUMN, TypeCode.TIMESTAMP, 8)
V = StatementField("v", FieldKind.COLUMN, TypeCode.INT, 4)
S = StatementField("s", FieldKind.COLUMN, TypeCode.VARCHAR, 8)
AT = StatementField("at", FieldKind.COLUMN, TypeCode.TIMESTAMP, 8)
SHAPE = Shape([TBNAME, LOC, SITE, TS, V, S])


def values(column) -> list:
    """The values of a column."""
    nulls = [False] * len(column) if column.nulls is None else column.nulls.tolist()
    if hasattr(column, "values"):
        found = column.values.tolist()
    else:
        ends = np.cumsum(column.lengths).tolist()
        data = column.data.tobytes()
        sizes = column.lengths.tolist()
        found = [data[end - size : end].decode() for end, size in zip(ends, sizes, strict=True)]
    return [None if null else value for null, value in zip(nulls, found, strict=True)]


def tables(bindings) -> list[tuple]:
    """The tables of bindings: name, tags, rows."""
    found = []
    for binding in bindings:
        columns = [values(column) for column in binding.columns]
        tags = [values(column) for column in binding.tags]
        starts = [0, *binding.ends[:-1]]
        for index, (start, end) in enumerate(zip(starts, binding.ends, strict=True)):
            name = None if binding.names is None else binding.names[index]
            rows = list(zip(*(column[start:end] for column in columns), strict=True))
            found.append((name, tuple(column[index] for column in tags), rows))
    return found


# Forms of the column of names.

NAMES = ["b", "a", "b", "涛", "a", "b"]
NAME_COLUMNS = {
    "list": NAMES,
    "tuple": tuple(NAMES),
    "numpy": np.array(NAMES),
    "objects": np.array(NAMES, object),
    "Arrow": pa.array(NAMES),
    "large Arrow": pa.array(NAMES, pa.large_string()),
    "Arrow view": pa.array(NAMES, pa.string_view()),
    "dictionary": pa.array(NAMES).dictionary_encode(),
    "slice": pa.array(["no", *NAMES, "no"]).slice(1, 6),
    "dictionary's slice": pa.array(["no", *NAMES, "no"]).dictionary_encode().slice(1, 6),
    "chunks": pa.chunked_array([NAMES[:2], NAMES[2:]]),
    "polars": pl.Series(NAMES),
    "categories": pl.Series(NAMES, dtype=pl.Categorical),
}


@pytest.mark.parametrize("names", NAME_COLUMNS.values(), ids=NAME_COLUMNS.keys())
def test_grouping(names):
    """Tables come in the order of their first rows; rows keep their order within a table."""
    data = [names, ["x", "y", "z", None, "w", "u"], range(6), [5, 4, 3, 2, 1, 0], range(6)]
    found = tables(Shape([TBNAME, LOC, SITE, TS, V]).bind_columns(data))
    assert {name: (tags, rows) for name, tags, rows in found} == {
        "b": (("x", 0), [(5, 0), (3, 2), (0, 5)]),
        "a": (("y", 1), [(4, 1), (1, 4)]),
        "涛": ((None, 3), [(2, 3)]),
    }


@pytest.mark.parametrize("make", [list, np.array, pa.array], ids=["list", "numpy", "Arrow"])
def test_runs_of_a_table(make):
    """Names that stand together, as numpy's strings are looked at."""
    names = ["a"] * 20 + ["b"] * 20 + ["a"] * 20
    found = tables(Shape([TBNAME, SITE, TS]).bind_columns([make(names), range(60), range(60)]))
    assert found == [
        ("a", (0,), [(row,) for row in (*range(20), *range(40, 60))]),
        ("b", (20,), [(row,) for row in range(20, 40)]),
    ]


LOCS = ["x", None, "z", "涛思"]
SITES = [None, 2, 3, 4]
TAG_COLUMNS = {
    "list": (LOCS, SITES),
    "tuple": (tuple(LOCS), tuple(SITES)),
    "numpy": (
        np.array(LOCS, object),
        np.ma.masked_array([0, 2, 3, 4], [True, False, False, False]),
    ),
    "Arrow": (pa.array(LOCS), pa.array(SITES)),
    "dictionary": (pa.array(LOCS).dictionary_encode(), pa.array(SITES, pa.int8())),
    "chunks": (pa.chunked_array([LOCS[:1], LOCS[1:]]), pa.chunked_array([SITES[:3], SITES[3:]])),
    "polars": (pl.Series(LOCS), pl.Series(SITES)),
}


@pytest.mark.parametrize(("locs", "sites"), TAG_COLUMNS.values(), ids=TAG_COLUMNS.keys())
def test_tags_are_those_of_the_first_row(locs, sites):
    data = [["b", "a", "b", "c"], locs, sites, [1, 2, 3, 4]]
    assert tables(Shape([TBNAME, LOC, SITE, TS]).bind_columns(data)) == [
        ("b", ("x", None), [(1,), (3,)]),
        ("a", (None, 2), [(2,)]),
        ("c", ("涛思", 4), [(4,)]),
    ]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c", "涛", "d e"]),
            st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
            st.none() | st.integers(-(2**31), 2**31 - 1),
            st.integers(0, 2**62),
            st.none() | st.integers(-(2**31), 2**31 - 1),
            st.none() | st.text("ab涛", max_size=2),
        ),
        min_size=1,
        max_size=40,
    ),
    st.booleans(),
)
def test_any_rows(rows, as_arrow):
    expected = {}
    for name, loc, site, *row in rows:
        expected.setdefault(name, ((loc, site), []))[1].append(tuple(row))
    if as_arrow:
        types = [pa.string(), pa.string(), pa.int64(), pa.int64(), pa.int32(), pa.string()]
        columns = zip(*rows, strict=True)
        arrays = [pa.array(column, type) for column, type in zip(columns, types, strict=True)]
        found = tables(SHAPE.bind_columns(arrays))
    else:
        found = tables(SHAPE.bind_rows(rows))
    assert {name: (tags, rows) for name, tags, rows in found} == expected
    assert len(found) == len(expected)


def test_names_as_they_are_sent():
    found = tables(
        Shape([TBNAME, TS]).bind_columns(
            [["a", "b"], [1, 2]], lambda names: [f"d.`{name}`" for name in names]
        )
    )
    assert found == [("d.`a`", (), [(1,)]), ("d.`b`", (), [(2,)])]


@pytest.mark.parametrize("tags", [["x", 5], ("x", 5), {"site": 5, "loc": "x"}], ids=repr)
@pytest.mark.parametrize(
    "columns", [[[1], [2], ["c"]], {"v": [2], "s": ["c"], "ts": [1]}], ids=repr
)
def test_by_place_and_by_name(tags, columns):
    found = tables(SHAPE.bind_tables([TableRows(columns, "t", tags)]))
    assert found == [("t", ("x", 5), [(1, 2, "c")])]


@pytest.mark.parametrize(
    ("bind", "given"),
    [("bind_rows", []), ("bind_tables", []), ("bind_columns", [[]] * 6)],
)
def test_nothing(bind, given):
    assert list(getattr(SHAPE, bind)(given)) == []


def test_a_generator_of_rows():
    assert tables(Shape([TS, V]).bind_rows((n, -n) for n in range(3))) == [
        (None, (), [(0, 0), (1, -1), (2, -2)])
    ]


# What is refused.


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(1, 2), (3,)], "row 1 has 1 values, the statement takes 2"),
        ([(1, 2, 3)], "row 0 has 3 values, the statement takes 2"),
        ([()], "row 0 has 0 values, the statement takes 2"),
        ([(1, 2), 5], "row 1: expected a sequence of 2 values, got 5"),
        ([(1, 2), None], "row 1: expected a sequence of 2 values, got None"),
        ([(1, 2, 3), "abc"], "row 0 has 3 values, the statement takes 2"),
        (["abc"], "row 0: expected a sequence of 2 values, got 'abc'"),
    ],
)
def test_rows_of_another_shape(rows, message):
    with pytest.raises(StatementError) as caught:
        Shape([TS, V]).bind_rows(rows)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            TableRows([[1], [2]], "t", ["x", 5]),
            "table 't': columns: expected 3 (ts, v, s), got 2",
        ),
        (TableRows([[1], [2], ["c"]], "t", ["x"]), "tags: expected 2 (loc, site), got 1"),
        (TableRows([[1], [2], ["c"]], "t"), "tags: expected 2 (loc, site), got 0"),
        (
            TableRows([[1, 2], [2], ["c"]], "t", ["x", 5]),
            "table 't': columns of unequal length: ts 2, v 1, s 1",
        ),
        (TableRows([[], [], []], "t", ["x", 5]), "table 't': there are no rows"),
        (
            TableRows({"ts": [1], "v": [2]}, "t", ["x", 5]),
            "table 't': columns by name: missing 's'; expected ts, v, s",
        ),
        (
            TableRows([[1], [2], ["c"]], "t", {"loc": "x", "site": 5, "z": 1}),
            "tags by name: unknown 'z'; expected loc, site",
        ),
        (
            TableRows([[1], [2], ["c"]], None, ["x", 5]),
            "table name: expected a string, got None",
        ),
        (
            TableRows([[1], [2], 5], "t", ["x", 5]),
            "table 't': column 's': expected a list, a numpy array or an Arrow array of values, "
            "got int",
        ),
    ],
)
def test_tables_of_another_shape(table, message):
    with pytest.raises(StatementError) as caught:
        SHAPE.bind_tables([table])
    assert str(caught.value) == message


def test_a_name_where_the_statement_has_one():
    with pytest.raises(StatementError) as caught:
        Shape([TS]).bind_tables([TableRows([[1]], "t")])
    assert str(caught.value) == ("tbname: the statement names its table and takes no name, got 't'")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([["a"], ["x"], [1], [1], [1]], "columns: expected 6 (tbname, loc, site, ts, v, s), got 5"),
        (
            [["a"], ["x"], [1], [1, 2], [1], ["s"]],
            "columns of unequal length: tbname 1, loc 1, site 1, ts 2, v 1, s 1",
        ),
    ],
)
def test_columns_of_another_shape(columns, message):
    with pytest.raises(StatementError) as caught:
        SHAPE.bind_columns(columns)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("column", "row", "wrong", "message"),
    [
        ("v", 2, 2**31, "column 'v', row 2: 2147483648 is not a value of INT"),
        ("v", 1, "5", "column 'v', row 1: '5' is not a value of INT"),
        ("s", 3, "a" * 9, "column 's', row 3: 'aaaaaaaaa' has 9 bytes, more than VARCHAR(8) takes"),
        ("ts", 0, None, "column 'ts', row 0: None is no time; every row needs one"),
        (
            "loc",
            1,
            "x" * 9,
            "tag 'loc', row 1: 'xxxxxxxxx' has 9 characters, more than NCHAR(8) takes",
        ),
        ("site", 1, "x", "tag 'site', row 1: 'x' is not a value of INT"),
        ("tbname", 3, "", "row 3: table name: expected 1 to 270 bytes, got ''"),
        ("tbname", 3, None, "row 3: table name: expected a string, got None"),
        ("tbname", 3, 5, "row 3: table name: expected a string, got 5"),
    ],
)
def test_values_that_do_not_fit(column, row, wrong, message):
    """The row is that of what was given, whatever table it belongs to."""
    data = {
        "tbname": ["b", "a", "b", "a"],
        "loc": ["x", "y", "x", "y"],
        "site": [1, 2, 1, 2],
        "ts": [1, 2, 3, 4],
        "v": [1, 2, 3, 4],
        "s": ["a", "b", "c", "d"],
    }
    data[column][row] = wrong
    with pytest.raises(DataError) as caught:
        SHAPE.bind_columns(list(data.values()))
    assert str(caught.value) == message
    assert (caught.value.column, caught.value.row) == (column, row)


def test_a_value_in_one_of_several_tables():
    tables = [TableRows([[1], [5]], "a"), TableRows([[1, 2], [5, "x"]], "b")]
    with pytest.raises(DataError) as caught:
        Shape([TBNAME, TS, V]).bind_tables(tables)
    assert str(caught.value) == "table 'b': column 'v', row 1: 'x' is not a value of INT"
    assert (caught.value.column, caught.value.row) == ("v", 1)


def test_which_of_two_times_must_be_there_is_the_servers_to_say():
    assert tables(Shape([TS, AT]).bind_rows([(1, None), (None, 2)])) == [
        (None, (), [(1, None), (None, 2)])
    ]


@pytest.mark.parametrize("name", [[1], {}, {1}], ids=repr)
def test_names_that_cannot_be_compared(name):
    with pytest.raises(StatementError, match="table name: expected a string, got"):
        Shape([TBNAME, TS]).bind_columns([["a", name], [1, 2]])

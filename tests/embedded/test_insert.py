"""INSERT: what is stored, what is overwritten, and what is refused."""

from __future__ import annotations

from datetime import UTC
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiotaos.embedded.columns import Column, fixed, text
from aiotaos.embedded.engine import State
from aiotaos.embedded.faults import Fault
from aiotaos.embedded.literals import Clock, convert
from aiotaos.embedded.quick import quick_values
from aiotaos.types import Precision, TypeCode


@pytest.fixture
def table(run):
    run("create table t (ts timestamp, a int, b varchar(8))")
    return run


def test_the_same_time_overwrites(table):
    table("insert into t values (1, 1, 'x') (2, 2, 'y')")
    assert table("insert into t values (1, null, 'z')") == 1
    assert table("select * from t") == [(1, None, "z"), (2, 2, "y")]


def test_columns_that_are_not_named_keep_their_value(table):
    table("insert into t values (1, 1, 'x')")
    table("insert into t (ts, a) values (1, 5) (2, 6)")
    assert table("select * from t") == [(1, 5, "x"), (2, 6, None)]
    table("insert into t (b, ts) values (null, 1)")
    assert table("select * from t") == [(1, 5, None), (2, 6, None)]
    table("insert into t (ts) values (1) (3)")
    assert table("select * from t") == [(1, 5, None), (2, 6, None), (3, None, None)]


def test_the_last_of_several_rows_of_one_time_counts(table):
    assert table("insert into t values (1, 1, 'x') (1, 2, 'y') (1, 3, null)") == 1
    assert table("select * from t") == [(1, 3, "y")]
    assert table("insert into t (ts, a) values (1, 7) t (ts, b) values (1, 'w')") == 1
    assert table("select * from t") == [(1, 7, "w")]


def test_nothing_is_stored_if_a_value_is_wrong(table):
    with pytest.raises(Fault, match="invalid int data"):
        table("insert into t values (1, 1, 'x') (2, 'two', 'y')")
    with pytest.raises(Fault, match="Table does not exist"):
        table("insert into t values (1, 1, 'x') nosuch values (1, 1)")
    assert table("select * from t") == []


def test_a_failed_statement_creates_no_sub_table(run):
    run("create stable s (ts timestamp, v int) tags (g int)")
    with pytest.raises(Fault):
        run("insert into c using s tags (1) values (1, 1) nosuch values (1, 1)")
    assert run("show tables") == []
    assert run("insert into c using s tags (1) values (1, 1)") == 1
    assert run("insert into c using s tags (2) values (2, 2)") == 1
    assert run("select tbname, g, v from s order by v") == [("c", 1, 1), ("c", 1, 2)]


def test_rows_that_name_their_sub_table(run):
    run("create stable s (ts timestamp, v int) tags (g int, h varchar(4))")
    run("insert into s (tbname, ts, v, g) values ('c', 1, 1, 7) ('d', 1, 2, 8) ('c', 2, 3, 9)")
    rows = run("select tbname, ts, v, g, h from s order by tbname, ts")
    assert rows == [("c", 1, 1, 7, None), ("c", 2, 3, 7, None), ("d", 1, 2, 8, None)]


def test_a_table_of_another_database(run):
    run("create database other precision 'us'")
    run("create stable other.s (ts timestamp, v int) tags (g int)")
    run("insert into other.c using other.s tags (1) values ('1970-01-01 00:00:01', 1)")
    assert run("select ts from other.c") == [(1_000_000,)]
    with pytest.raises(Fault, match="Table does not exist"):
        run("select * from c")


@pytest.mark.parametrize(
    ("zone", "text", "ticks"),
    [
        (UTC, "2024-03-01 00:00:00", 1709251200000),
        (ZoneInfo("Asia/Shanghai"), "2024-03-01 08:00:00", 1709251200000),
        (ZoneInfo("Asia/Shanghai"), "2024-03-01T00:00:00Z", 1709251200000),
        (ZoneInfo("Asia/Shanghai"), "2024-03-01T01:00:00.5+01:00", 1709251200500),
        (ZoneInfo("America/New_York"), "2024-07-01", 1719806400000),
        (ZoneInfo("America/New_York"), "2024-11-03 01:30:00", 1730611800000),
    ],
)
def test_times_are_those_of_the_session(engine, zone, text, ticks):
    state = State("d", zone)
    engine.execute("create database d", state)
    engine.execute("create table t (ts timestamp, v int)", state)
    engine.execute(f"insert into t values ('{text}', 1)", state)
    rows = engine.execute(f"select cast(ts as bigint) from t where ts = '{text}'", state)
    assert rows.next_block() == [(ticks,)]


def test_a_time_that_the_clock_skips(engine):
    state = State("d", ZoneInfo("America/New_York"))
    engine.execute("create database d", state)
    engine.execute("create table t (ts timestamp, v int)", state)
    with pytest.raises(Fault, match="invalid timestamp"):
        engine.execute("insert into t values ('2024-03-10 02:30:00', 1)", state)


def test_thousands_of_rows_in_one_statement(table):
    rows = "".join(f"({i}, {i % 100}, 'n{i % 1000}')" for i in range(20_000))
    assert table(f"insert into t values {rows}") == 20_000
    assert table("select count(*), sum(a), max(b) from t") == [(20_000, 990_000, "n999")]


def test_a_long_statement_is_refused(table):
    with pytest.raises(Fault, match="too long"):
        table("insert into t values " + "(1, 1, 'x')" * 100_000)


WORDS = ["null", "NULL", "true", "TRUE", "'true'", "1_0", "1.5", "'1.5'", "nan", "now", "''"]
TIMES = [
    "'2024-03-01 00:00:00'",
    "'2024-03-01'",
    "'2024-02-30 00:00:00'",
    "'2024-03-01T00:00:00.5'",
]
TOKENS = st.one_of(
    st.sampled_from(WORDS),
    st.sampled_from(TIMES),
    st.integers(-300, 300).map(str),
    st.integers(-(2**65), 2**65).map(str),
    st.floats(allow_nan=False).map(repr),
    st.text("ab'\" é", max_size=4).map(lambda text: "'" + text.replace("'", "''") + "'"),
)
COLUMNS = [
    Column("c", fixed(code), 0)
    for code in (TypeCode.TINYINT, TypeCode.UBIGINT, TypeCode.FLOAT, TypeCode.TIMESTAMP)
] + [Column("c", fixed(TypeCode.BOOL), 0), Column("c", text(3), 0)]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(COLUMNS), st.lists(TOKENS, min_size=1, max_size=4))
def test_the_quick_road_leads_to_the_same_values(column, tokens):
    clock = Clock(UTC, Precision.MILLISECOND, 0)
    quick = quick_values(column, tokens, clock)
    if quick is not None:
        assert list(quick) == [convert(token, column, clock) for token in tokens]

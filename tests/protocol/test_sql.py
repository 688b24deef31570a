"""Placeholders in SQL text, and literals and names in their places."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiotaos import DataError, StatementError
from aiotaos.protocol.sql import (
    binds_table_name,
    creates_table,
    first_word,
    identifier,
    inserted_table,
    literal,
    placeholders,
    reads,
    render,
    render_rows,
    table_identifier,
    used_database,
    without_leading_comments,
)


@pytest.mark.parametrize(
    ("sql", "places"),
    [
        ("select 1", []),
        ("?", [0]),
        ("select ?, '?', ?", [7, 15]),
        ("select 'it''s ?' , ?", [19]),
        (r"select 'it\'s ?', ?", [18]),
        (r"select '\\', ?", [13]),
        (r'select "\"?", "a""?", ?', [22]),
        ("select `?`, `a``?`, ?", [20]),
        ("select ? -- ?\n, ?", [7, 16]),
        ("select ? -- ?", [7]),
        ("/* ? \n ' */ ?", [12]),
        ("/* ? ", []),
        ("select '?", []),
        ('select "?', []),
        ("select `?", []),
        ("select '-- ?', ?", [15]),
        ("select a-?, b--?", [9]),
    ],
)
def test_placeholders(sql, places):
    assert placeholders(sql) == places


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        ("select 1", "select"),
        ("  \n\tINSERT into t", "insert"),
        ("-- a\n/* b */ -- c\nSelect", "select"),
        ("/* insert */select", "select"),
        ("show_it;", "show_it"),
        ("-- insert", ""),
        ("/* insert", ""),
        ("(select 1)", ""),
        ("", ""),
    ],
)
def test_first_word(sql, word):
    assert first_word(sql) == word


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select 1", True),
        ("  -- a comment\nSELECT now()", True),
        ("(select 1) union all (select 2)", True),
        ("( ( select 1 ) )", True),
        ("show databases", True),
        ("describe t", True),
        ("desc t", True),
        ("explain select 1", True),
        ("/* select */ insert into t values (now, 1)", False),
        ("insert into t select * from s", False),
        ("selection", False),
        ("use d", False),
        ("delete from t", False),
        ("kill query 'x'", False),
        ("", False),
    ],
)
def test_reads(sql, expected):
    """Only what changes nothing may be run twice."""
    assert reads(sql) is expected


@pytest.mark.parametrize(
    ("sql", "binds"),
    [
        ("insert into ? using s tags(?) values(?)", True),
        ("INSERT INTO\n ? values(?)", True),
        ("insert into t values(?)", False),
        ("insert into t values(1)", False),
        ("insert into `into ?` values(?)", False),
        ("insert into t (tbname, ts) values(?, ?)", False),
    ],
)
def test_table_names_to_bind(sql, binds):
    assert binds_table_name(sql) is binds


@pytest.mark.parametrize(
    ("sql", "table", "creates"),
    [
        ("insert into t values(?)", "t", False),
        ("INSERT INTO `d.x`.`T 1` (ts) values(?)", "`d.x`.`T 1`", False),
        ("insert into ? values(?)", None, False),
        ("insert into ? using s tags(?) values(?)", "s", True),
        ("insert into c USING\n d.s (g) tags(?) values(?)", "d.s", True),
        ("insert into ? using `s` tags(?) values(?)", "`s`", True),
        ("insert into t values('using s tags', ?)", "t", False),
        ("insert /* into x */ into t values(?) -- using s", "t", False),
    ],
)
def test_tables_of_inserts(sql, table, creates):
    assert inserted_table(sql) == table
    assert creates_table(sql) is creates


def test_render():
    sql = "alter table t set tag a = ?, b = '?' , c=?"
    assert render(sql, ["it's", None]) == r"alter table t set tag a = 'it\'s', b = '?' , c=NULL"
    assert render("show tables", []) == "show tables"
    assert render("?", ["?"]) == "'?'"


@pytest.mark.parametrize(
    ("parameters", "count"),
    [([], 0), ([1, 2, 3], 3)],
)
def test_wrong_number_of_parameters(parameters, count):
    with pytest.raises(StatementError) as caught:
        render("use ? and ?", parameters)
    assert str(caught.value) == f"the statement has 2 placeholders and got {count} parameters"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "NULL"),
        (True, "true"),
        (np.False_, "false"),
        (-5, "-5"),
        (np.uint64(2**64 - 1), "18446744073709551615"),
        (1.5, "1.5"),
        (1e300, "1e+300"),
        (np.float32(0.5), "0.5"),
        (Decimal("1E+3"), "1000"),
        (Decimal("-0.10"), "-0.10"),
        ("", "''"),
        ("涛 'x' \\ \"y\" `z`", "'涛 \\'x\\' \\\\ \"y\" `z`'"),
        ("a\nb\rc\td", r"'a\nb\rc\td'"),
        (b"\x00\xff", r"'\x00ff'"),
        (bytearray(b"'"), r"'\x27'"),
        (memoryview(b""), r"'\x'"),
        (datetime(2024, 1, 1, 8, tzinfo=timezone(timedelta(hours=8))), "'2024-01-01T00:00:00Z'"),
        (datetime(2024, 1, 1, 0, 0, 0, 7, tzinfo=UTC), "'2024-01-01T00:00:00.000007Z'"),
        (np.datetime64("2024-01-01T00:00:00.000000007"), "'2024-01-01T00:00:00.000000007Z'"),
        (np.datetime64("2024-01-01"), "'2024-01-01T00:00:00Z'"),
    ],
)
def test_literals(value, text):
    assert literal(value) == text


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (float("nan"), "nan cannot be written in SQL"),
        (float("-inf"), "-inf cannot be written in SQL"),
        (np.float64("nan"), "nan cannot be written in SQL"),
        (Decimal("sNaN"), "Decimal('sNaN') cannot be written in SQL"),
        (Decimal("Infinity"), "Decimal('Infinity') cannot be written in SQL"),
        (np.datetime64("NaT", "s"), "np.datetime64('NaT','s') is not a time that SQL can hold"),
        ("a\0b", r"'a\x00b' has a NUL character, which SQL cannot hold"),
        (
            datetime(2024, 1, 1),
            "datetime.datetime(2024, 1, 1, 0, 0) has no time zone: expected an aware datetime",
        ),
    ],
)
def test_values_without_literal(value, problem):
    with pytest.raises(DataError) as caught:
        render("select ?, ?", [1, value])
    assert str(caught.value) == f"parameter 2: {problem}"


@pytest.mark.parametrize("value", [[1], timedelta(1), 1j, object], ids=repr)
def test_types_without_literal(value):
    with pytest.raises(StatementError) as caught:
        literal(value)
    assert str(caught.value) == (
        f"value: {value!r} has no literal; expected None, bool, int, float, Decimal, str, bytes, "
        "an aware datetime or a dict"
    )


def unescaped(text: str) -> str:
    """A string literal as TDengine's parser reads it."""
    assert text[0] == text[-1] == "'"
    known = {"n": "\n", "r": "\r", "t": "\t"}
    return re.sub(r"\\(.)", lambda found: known.get(found[1], found[1]), text[1:-1], flags=re.S)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), max_size=4))
def test_strings_stay_inside_their_literals(values):
    sql = render("select " + ",".join("?" * len(values)), values)
    assert placeholders(sql) == []
    assert [unescaped(text) for text in re.findall(r"'(?:[^'\\]|\\.)*'", sql, re.S)] == values


# Names.


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("t", "`t`"),
        ("d.t", "`d`.`t`"),
        ("`d`.t", "`d`.`t`"),
        ("`d.x`.`T 1`", "`d.x`.`T 1`"),
        ("涛", "`涛`"),
        ("a b", "`a b`"),
    ],
)
def test_tables(name, expected):
    assert table_identifier(name) == expected


@pytest.mark.parametrize("name", ["", ".", "a.", ".a", "a.b.c", "`a", "a`b", "`a`b", "``", None, 5])
def test_no_tables(name):
    with pytest.raises(StatementError) as caught:
        table_identifier(name)
    assert str(caught.value) == f"table: expected 'table' or 'database.table', got {name!r}"


def test_identifier():
    assert identifier("a.b") == "`a.b`"
    for name in ("", "a`b", "a\0", None, b"a"):
        with pytest.raises(StatementError) as caught:
            identifier(name)
        assert str(caught.value) == f"name: expected a string without back-ticks, got {name!r}"


def test_a_row_that_is_not_unpacked():
    with pytest.raises(StatementError) as caught:
        render("delete from t where a = ? and b = ?", [(1, 2)])
    assert str(caught.value) == (
        "the statement has 2 placeholders and got 1 parameters; a row is given as *row"
    )


@pytest.mark.parametrize(
    ("sql", "rest"),
    [
        ("select 1 -- no more", "select 1 -- no more"),
        (" \n-- a\n/* b\n */ insert into t", "insert into t"),
        ("/* never closed", "/* never closed"),
        ("-- nothing", ""),
        ("", ""),
    ],
)
def test_without_leading_comments(sql, rest):
    assert without_leading_comments(sql) == rest


# Databases.


@pytest.mark.parametrize(
    ("sql", "database"),
    [
        ("use d", "d"),
        ("USE Data_1", "data_1"),
        ("use `Data 1`", "Data 1"),
        ("use `d;`;", "d;"),
        (" -- to work\n/* in */ Use\n\td ; \n", "d"),
        ("use d -- the new one", "d"),
        ("use d; -- the new one", "d"),
        ("use d /* the new one */", "d"),
        ("use /* the new one */ d", "d"),
        ("use`d`", "d"),
        ("use", None),
        ("use ``", None),
        ("use `d", None),
        ("use d.t", None),
        ("use d e", None),
        ("used d", None),
        ("user d", None),
        ("-- use d", None),
        ("select 'use d'", None),
        ("", None),
    ],
)
def test_used_databases(sql, database):
    assert used_database(sql) == database


# Names of tables among the parameters.


@pytest.mark.parametrize(
    ("sql", "parameters", "rendered"),
    [
        ("insert into ? values(?, ?)", ["t", 1, "t"], "insert into `t` values(1, 't')"),
        (
            "INSERT INTO ? USING s TAGS(?) VALUES(?)",
            ["d.`T 1`", "a?", None],
            "INSERT INTO `d`.`T 1` USING s TAGS('a?') VALUES(NULL)",
        ),
        ("insert into\n? values(1)", ["a'b"], "insert into\n`a'b` values(1)"),
        ("insert into t values(?)", ["u"], "insert into t values('u')"),
        ("insert into t values('into', ?)", ["u"], "insert into t values('into', 'u')"),
        ("select ? into ?", ["a", "b"], "select 'a' into 'b'"),
    ],
)
def test_rendered_names(sql, parameters, rendered):
    assert render(sql, parameters) == rendered


@pytest.mark.parametrize("name", ["", "a`b", "a.b.c", None, 5])
def test_rendered_names_that_are_none(name):
    with pytest.raises(StatementError) as caught:
        render("insert into ? values(?)", [name, 1])
    assert str(caught.value) == f"table: expected 'table' or 'database.table', got {name!r}"


# Many rows.

ROWS = [(1, "a"), [2, "b)?;"], (3, None)]


@pytest.mark.parametrize(
    ("sql", "statement"),
    [
        (
            "insert into t values (?, ?)",
            "insert into t values (1, 'a') (2, 'b)?;') (3, NULL)",
        ),
        (
            "insert into t (ts, v) VALUES(?,?);",
            "insert into t (ts, v) VALUES(1,'a') (2,'b)?;') (3,NULL)",
        ),
        (
            "insert into t values\n( ?, ? ) -- (so many)\n ; ",
            "insert into t values\n( 1, 'a' ) ( 2, 'b)?;' ) ( 3, NULL )",
        ),
        (
            "insert into t values (now, ?, '),(', /* ) */ ?)",
            "insert into t values (now, 1, '),(', /* ) */ 'a') "
            "(now, 2, '),(', /* ) */ 'b)?;') (now, 3, '),(', /* ) */ NULL)",
        ),
        (
            "insert into t using s tags('values (?)') values (?, ?)",
            "insert into t using s tags('values (?)') values (1, 'a') (2, 'b)?;') (3, NULL)",
        ),
    ],
)
def test_rows_that_share_a_statement(sql, statement):
    assert render_rows(sql, ROWS, 1000) == [(statement, 0, 2)]
    assert render_rows(sql, [], 1000) == []


@pytest.mark.parametrize(
    "sql",
    [
        "insert into t using s tags(?) values (now, ?)",
        "insert into a values (?, 1) b values (?, 2)",
        "insert into a values (now, 1) b values (?, ?)",
        "insert into t values (?, 1) (?, 2)",
        "insert into t values (?, abs(?))",
        "insert into t values (now, ?) b values (?, 2) c using s",
        "insert into t (ts, v) select ?, ? from u",
        "insert into t values (?, 1) where x = ?",
        "insert into t values (?, 1) on ?",
        "insert into t values (? , ?",
        "insert into values ? , ?",
        "select values(1), ?, ?",
        "delete from t where a = ? and b in (?)",
    ],
)
def test_rows_that_share_none(sql):
    before, between, after = sql.split("?")
    assert render_rows(sql, ROWS, 1000) == [
        (f"{before}1{between}'a'{after}", 0, 0),
        (f"{before}2{between}'b)?;'{after}", 1, 1),
        (f"{before}3{between}NULL{after}", 2, 2),
    ]
    assert render_rows(sql, [], 1000) == []


def test_names_like_values_stay():
    """What stands in back-ticks is a name."""
    sql = "insert into `values (x)` values (?, `)`)"
    assert [found.sql for found in render_rows(sql, [(1,), (2,)], 1000)] in (
        ["insert into `values (x)` values (1, `)`) (2, `)`)"],
        ["insert into `values (x)` values (1, `)`)", "insert into `values (x)` values (2, `)`)"],
    )


def test_rows_of_many_tables():
    rendered = render_rows("insert into ? values (?)", [("a", 1), ("d.b", 2)], 1000)
    assert [(found.sql, found.first, found.last) for found in rendered] == [
        ("insert into `a` values (1)", 0, 0),
        ("insert into `d`.`b` values (2)", 1, 1),
    ]


def test_rows_without_parameters():
    sql = "insert into t values (now)"
    assert render_rows(sql, [(), ()], 1000) == [(sql, 0, 0), (sql, 1, 1)]


def test_rows_as_arrays():
    rows = np.array([[1, 2], [3, 4]])
    assert render_rows("insert into t values (?,?)", rows, 1000) == [
        ("insert into t values (1,2) (3,4)", 0, 1)
    ]


def test_long_rows_stand_alone():
    """A row that is longer than a statement shall be cannot be cut."""
    sql = "insert into t values (?)"
    assert render_rows(sql, [(1,), ("x" * 50,), ("y" * 50,), (2,), (3,)], 40) == [
        ("insert into t values (1)", 0, 0),
        (f"insert into t values ('{'x' * 50}')", 1, 1),
        (f"insert into t values ('{'y' * 50}')", 2, 2),
        ("insert into t values (2) (3)", 3, 4),
    ]
    assert render_rows(sql, [(1,), (2,)], 0) == [
        ("insert into t values (1)", 0, 0),
        ("insert into t values (2)", 1, 1),
    ]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(), st.text(st.characters(exclude_characters="\0"), max_size=9))),
    st.integers(0, 200),
)
def test_statements_of_many_rows(rows, size):
    """None is too long in bytes, none could take the row that follows, and all rows are there."""
    head = "insert into `涛` values "
    written = [render("(?, ?)", row) for row in rows]
    statements = render_rows(head + "(?, ?);", rows, size)
    expected = 0
    for sql, first, last in statements:
        assert first == expected
        assert sql == head + " ".join(written[first : last + 1])
        length = len(sql.encode("utf-8", "surrogatepass"))
        assert length <= size or first == last
        expected = last + 1
        if expected < len(rows):  # a blank, and the next row
            longer = length + 1 + len(written[expected].encode("utf-8", "surrogatepass"))
            assert longer > size - 1
    assert expected == len(rows)


@pytest.mark.parametrize(
    ("sql", "row", "error", "problem"),
    [
        (
            "insert into t values (?, ?)",
            (1, math.nan),
            DataError,
            "row 1: parameter 2: nan cannot be written in SQL",
        ),
        (
            "insert into t values (?, ?)",
            (1,),
            StatementError,
            "row 1: the statement has 2 placeholders and got 1 parameters",
        ),
        (
            "insert into ? values (?)",
            ("a.b.c", 1),
            StatementError,
            "row 1: table: expected 'table' or 'database.table', got 'a.b.c'",
        ),
        (
            "insert into ? values (?)",
            ("t", "\0"),
            DataError,
            r"row 1: parameter 2: '\x00' has a NUL character, which SQL cannot hold",
        ),
        (
            "insert into t values (?, ?)",
            "ab",
            StatementError,
            "row 1: expected a sequence of 2 values, got 'ab'",
        ),
        (
            "insert into t values (?, ?)",
            b"ab",
            StatementError,
            "row 1: expected a sequence of 2 values, got b'ab'",
        ),
        (
            "insert into t values (?, ?)",
            5,
            StatementError,
            "row 1: expected a sequence of 2 values, got 5",
        ),
    ],
)
def test_rows_that_cannot_be_written(sql, row, error, problem):
    with pytest.raises(error) as caught:
        render_rows(sql, [("t", 2), row, ("t", 3)], 1000)
    assert str(caught.value) == problem


# JSON.


def test_documents_as_literals():
    assert literal({"n": None, "涛": ["it's", '"', "\\"]}) == (
        r"""'{"n":null,"涛":["it\'s","\\"","\\\\"]}'"""
    )
    assert literal({}) == "'{}'"
    value = {"a": [1.5, True, "\n\0"], "b": {"c": "'?'"}}
    sql = render("insert into t using s tags(?)", [value])
    assert placeholders(sql) == []
    [text] = re.findall(r"'(?:[^'\\]|\\.)*'", sql)
    assert json.loads(unescaped(text)) == value


@pytest.mark.parametrize("value", [{"a": object()}, {"a": "\ud800"}, {"a": 1j}])
def test_documents_that_are_not_json(value):
    with pytest.raises(DataError) as caught:
        render("select ?", [value])
    assert str(caught.value).startswith(f"parameter 1: {value!r} is not JSON: ")


def test_documents_in_themselves():
    value = {}
    value["a"] = value
    with pytest.raises(DataError, match=r"parameter 1: .* is not JSON: "):
        render("select ?", [value])


def test_an_integer_that_no_column_holds():
    assert literal(-(10**76) + 1) == "-" + "9" * 76
    for value in (10**76, -(10**76), 10**5000):
        with pytest.raises(DataError, match="value: an integer of more than 76 digits"):
            literal(value)

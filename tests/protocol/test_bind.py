"""Bind messages: against recordings, and against frames packed by hand."""

from __future__ import annotations

import struct
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import pytest

from aiotaos import DataError, NotSupportedError, StatementError
from aiotaos.binding import Shape, TableRows
from aiotaos.protocol.bind import (
    bind_column,
    bind_request,
    check_name,
    check_names,
    query_parameters,
    set_tags_request,
    stmt2_bind_request,
    with_digits,
)
from aiotaos.protocol.messages import PrepareReply, parse
from aiotaos.transport.statements import _field
from aiotaos.types import FieldKind, StatementField, TypeCode
from tests.recorded_values import BASE, columns


def prepared_fields(recorded) -> list[StatementField]:
    reply = next(
        frame
        for frame in recorded.frames("s>c")
        if isinstance(frame, str) and '"stmt2_prepare"' in frame and '"bind_type"' in frame
    )
    return [_field(info) for info in parse(reply, PrepareReply).fields]


def bind_frames(recorded) -> list[bytes]:
    return [
        frame
        for frame in recorded.frames("c>s")
        if isinstance(frame, bytes) and frame[16] in (2, 9)
    ]


def test_recorded_insert_byte_for_byte(recording):
    """What the official client sent for two tables with every type, made again."""
    recorded = recording("stmt2")
    frame = bind_frames(recorded)[0]
    req_id, stmt_id = struct.unpack_from("<QQ", frame)
    tables = [
        TableRows(columns(BASE), "d1", ["上海", 7]),
        TableRows(columns(BASE + 100_000), "d2", ["", -7]),
    ]
    (binding,) = Shape(prepared_fields(recorded)).bind_tables(tables)
    assert stmt2_bind_request(req_id, stmt_id, binding) == frame


# stmt2 against frames packed by hand.

T = TypeCode
CODES = {T.BOOL: "?", T.INT: "i", T.BIGINT: "q", T.UBIGINT: "Q", T.DOUBLE: "d", T.TIMESTAMP: "q"}
TS = StatementField("ts", FieldKind.COLUMN, T.TIMESTAMP, 8)
V = StatementField("v", FieldKind.COLUMN, T.INT, 4)
S = StatementField("s", FieldKind.COLUMN, T.VARCHAR, 8)
TBNAME = StatementField("tbname", FieldKind.TBNAME, T.VARCHAR, 269)
LOC = StatementField("loc", FieldKind.TAG, T.NCHAR, 4)


def bind_block(type: TypeCode, values: list[object]) -> bytes:
    nulls = bytes(value is None for value in values)
    if type in CODES:
        present = [0 if value is None else value for value in values]
        buffer = struct.pack(f"<{len(values)}{CODES[type]}", *present)
        if all(nulls):
            buffer = b""
        lengths = b"\0"
    else:
        raw = [b"" if value is None else value for value in values]
        buffer = b"".join(raw)
        lengths = b"\1" + struct.pack(f"<{len(raw)}i", *map(len, raw))
    body = struct.pack("<ii", type, len(values)) + nulls + lengths
    body += struct.pack("<i", len(buffer)) + buffer
    return struct.pack("<I", len(body) + 4) + body


def bind_frame(
    names: list[bytes], tags: list[list[bytes]], columns: list[list[bytes]], tables: int
) -> bytes:
    """The frame of a bind, of the blocks of each table."""
    sections = [
        struct.pack(f"<{len(names)}H", *(len(name) + 1 for name in names))
        + b"".join(name + b"\0" for name in names)
    ]
    for blocks in (tags, columns):
        parts = [b"".join(table) for table in blocks]
        sections.append(struct.pack(f"<{len(parts)}I", *map(len, parts)) + b"".join(parts))
    offsets, end = [], 28
    for section in sections:
        offsets.append(end if section else 0)
        end += len(section)
    counts = [len(blocks[0]) if blocks else 0 for blocks in (tags, columns)]
    head = struct.pack("<QQQHi", 7, 3, 9, 1, -1) + struct.pack(
        "<7I", end, tables, *counts, *offsets
    )
    return head + b"".join(sections)


def test_two_tables_of_different_length():
    shape = Shape([TBNAME, LOC, TS, V, S])
    tables = [
        TableRows([[1, 2], [None, None], ["a", None]], "d1", ["上海"]),
        TableRows([np.array([3]), np.array([-4]), np.array(["bc"])], "涛", {"loc": None}),
    ]
    (binding,) = shape.bind_tables(tables)
    assert stmt2_bind_request(7, 3, binding) == bind_frame(
        [b"d1", "涛".encode()],
        [[bind_block(T.NCHAR, ["上海".encode()])], [bind_block(T.NCHAR, [None])]],
        [
            [
                bind_block(T.TIMESTAMP, [1, 2]),
                bind_block(T.INT, [None, None]),
                bind_block(T.VARCHAR, [b"a", None]),
            ],
            [
                bind_block(T.TIMESTAMP, [3]),
                bind_block(T.INT, [-4]),
                bind_block(T.VARCHAR, [b"bc"]),
            ],
        ],
        2,
    )


def test_a_table_that_the_statement_names():
    (binding,) = Shape([TS, V]).bind_rows([(1, 5), (2, None)])
    columns = [[bind_block(T.TIMESTAMP, [1, 2]), bind_block(T.INT, [5, None])]]
    assert stmt2_bind_request(7, 3, binding) == bind_frame([], [], columns, 1)


def test_rows_of_tables_in_turns():
    """Rows keep their order within a table; the tags are those of its first row."""
    rows = [("b", "x", 1, 10), ("a", "y", 1, 20), ("b", "z", 0, 30)]
    (binding,) = Shape([TBNAME, LOC, TS, V]).bind_rows(rows)
    assert stmt2_bind_request(7, 3, binding) == bind_frame(
        [b"b", b"a"],
        [[bind_block(T.NCHAR, [b"x"])], [bind_block(T.NCHAR, [b"y"])]],
        [
            [bind_block(T.TIMESTAMP, [1, 0]), bind_block(T.INT, [10, 30])],
            [bind_block(T.TIMESTAMP, [1]), bind_block(T.INT, [20])],
        ],
        2,
    )


def test_parameters_of_a_query():
    moment = datetime(2024, 1, 1, 8, 0, 0, 5, tzinfo=timezone(timedelta(hours=8)))
    given = [None, True, -1, 2**63, 1.5, "涛", b"\xff", moment, Decimal("1.50")]
    expected = [
        bind_block(T.BIGINT, [None]),
        bind_block(T.BOOL, [True]),
        bind_block(T.BIGINT, [-1]),
        bind_block(T.UBIGINT, [2**63]),
        bind_block(T.DOUBLE, [1.5]),
        bind_block(T.VARCHAR, ["涛".encode()]),
        bind_block(T.VARBINARY, [b"\xff"]),
        bind_block(T.VARCHAR, [b"2024-01-01T00:00:00.000005Z"]),
        bind_block(T.VARCHAR, [b"1.50"]),
    ]
    frame = stmt2_bind_request(7, 3, query_parameters(given))
    assert frame == bind_frame([], [], [expected], 1)


def test_scalars_of_numpy_as_parameters():
    given = [np.int8(1), np.float32(0.5), np.True_, np.str_("a"), np.uint64(2**64 - 1)]
    given.append(np.datetime64("2024-01-01T00:00:00.000000007"))
    expected = [
        bind_block(T.BIGINT, [1]),
        bind_block(T.DOUBLE, [0.5]),
        bind_block(T.BOOL, [True]),
        bind_block(T.VARCHAR, [b"a"]),
        bind_block(T.UBIGINT, [2**64 - 1]),
        bind_block(T.VARCHAR, [b"2024-01-01T00:00:00.000000007Z"]),
    ]
    frame = stmt2_bind_request(7, 3, query_parameters(given))
    assert frame == bind_frame([], [], [expected], 1)


@pytest.mark.parametrize("value", [[1], {}, 1j, object(), timedelta(1)], ids=repr)
def test_parameters_of_other_types(value):
    with pytest.raises(StatementError) as caught:
        query_parameters([1, value])
    assert str(caught.value) == (
        f"parameter 2: {value!r} cannot be bound; expected None, bool, int, float, str, bytes, "
        "an aware datetime or Decimal"
    )


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (
            datetime(2024, 1, 1),
            ": datetime.datetime(2024, 1, 1, 0, 0) has no time zone: expected an aware datetime",
        ),
        (2**64, ": 18446744073709551616 cannot be sent as BIGINT UNSIGNED"),
        (-(2**63) - 1, ": -9223372036854775809 cannot be sent as BIGINT"),
        ("\ud800", r": '\ud800' cannot be sent as VARCHAR(0)"),
        (np.datetime64("NaT", "s"), ": np.datetime64('NaT','s') is not a time that SQL can hold"),
    ],
    ids=["naive", "large", "small", "surrogate", "NaT"],
)
def test_parameters_that_cannot_be_sent(value, problem):
    with pytest.raises(DataError, match=r"^parameter 1") as caught:
        query_parameters([value])
    assert str(caught.value).endswith(problem)


# Names of tables.


@pytest.mark.parametrize("name", ["t", "涛" * 90, "a" * 270, "d.t", "`x y`"])
def test_names(name):
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("name", "got"),
    [
        ("", "''"),
        ("a\0b", r"'a\x00b'"),
        ("a" * 271, "'" + "a" * 59 + "…'"),
        ("涛" * 91, "'" + "涛" * 59 + "…'"),
    ],
)
def test_bad_names(name, got):
    with pytest.raises(StatementError) as caught:
        check_name(name)
    assert str(caught.value) == f"table name: expected 1 to 270 bytes, got {got}"


@pytest.mark.parametrize("name", [None, 5, b"t"])
def test_names_of_other_types(name):
    with pytest.raises(StatementError) as caught:
        check_name(name)
    assert str(caught.value) == f"table name: expected a string, got {name!r}"


@pytest.mark.parametrize("names", [[], ["t"], ["a" * 67, "b"], ["a" * 270, "b"]])
def test_several_names(names):
    assert check_names(names) is None


@pytest.mark.parametrize("wrong", ["", "a\0", "a" * 271, None, 5])
def test_a_bad_name_among_several(wrong):
    with pytest.raises(StatementError, match=r"^table name: expected "):
        check_names(["t", wrong])


# DECIMALs: text, or integers for servers that do not tell the digits.

AMOUNT = StatementField("d", FieldKind.COLUMN, T.DECIMAL64, 8)


@pytest.mark.parametrize("described", ["DECIMAL(10, 2)", "DECIMAL(10,2)"])
def test_digits(described):
    known = with_digits(AMOUNT, described)
    assert (known.precision, known.scale, known.name) == (10, 2, "d")
    assert known.type_name == "DECIMAL(10,2)"


def test_digits_that_are_not_told():
    assert with_digits(AMOUNT, "") == AMOUNT
    assert with_digits(V, "DECIMAL(10, 2)") == V


def test_decimals():
    known = with_digits(AMOUNT, "DECIMAL(10, 2)")
    text = bind_column(known, ["1.5", None, -2])
    assert text.data.tobytes() == b"1.5-2"
    assert text.lengths.tolist() == [3, 0, 2]
    raw = bind_column(known, ("1.5", None, -2), raw_decimals=True)
    assert raw.values.tobytes() == struct.pack("<3q", 150, 0, -200)
    assert raw.nulls.tolist() == [False, True, False]


# Splitting: a table takes 32,767 rows in one bind, a message carries 65,536.


def sizes(bindings) -> list[list[int]]:
    found = []
    for binding in bindings:
        assert {len(column) for column in binding.columns} == {binding.ends[-1]}
        found.append(np.diff([0, *binding.ends]).tolist())
    return found


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (32_767, [[32_767]]),
        (32_768, [[32_767], [1]]),
        (70_000, [[32_767], [32_767], [4_466]]),
    ],
)
def test_many_rows_of_the_statements_table(rows, expected):
    bindings = list(Shape([TS, V]).bind_columns([range(rows), range(rows)]))
    assert sizes(bindings) == expected
    values = np.concatenate([binding.columns[1].values for binding in bindings])
    assert values.tolist() == list(range(rows))


def test_many_rows_of_named_tables():
    count = 210_000
    shape = Shape([TBNAME, LOC, TS, S])
    texts = [f"s{row % 1000}" for row in range(count)]
    tables = [
        TableRows([range(10), texts[:10]], "first", ["x"]),
        TableRows([range(count), texts], "long", ["y"]),
        TableRows([range(5), texts[:5]], "last", [None]),
    ]
    bindings = list(shape.bind_tables(tables))
    assert sizes(bindings) == [[10, *[32_767] * 6], [13_398, 5]]
    assert [binding.names for binding in bindings] == [["first", *["long"] * 6], ["long", "last"]]
    assert [binding.tags[0].data.tobytes() for binding in bindings] == [b"x" + b"y" * 6, b"y"]
    assert bindings[1].tags[0].nulls.tolist() == [False, True]
    data = b"".join(binding.columns[1].data.tobytes() for binding in bindings)
    assert data == "".join([*texts[:10], *texts, *texts[:5]]).encode()


def test_many_tables():
    """Whole tables are put in a message as long as they fit."""
    tables = [TableRows([range(30_000)], f"t{index}") for index in range(7)]
    assert sizes(Shape([TBNAME, TS]).bind_tables(tables)) == [[30_000] * 6, [30_000]]


# stmt v1.


def test_recorded_bind_of_the_older_protocol(recording):
    """What the official client sent, but for the flags and the widths in the schema."""
    frame = bind_frames(recording("stmt1"))[0]
    shape = Shape([TBNAME, LOC, TS, V, S])
    (binding,) = shape.bind_tables(
        [TableRows([[BASE, BASE + 1], [1, None], ["a", None]], "d1", ["x"])]
    )
    ours = bind_request(1, 1, binding, 0)
    assert len(ours) == len(frame)
    differing = {at for at in range(len(frame)) if frame[at] != ours[at]}
    assert differing <= {*range(40, 44), 63}  # flags; the width of the VARCHAR
    assert frame[24 + 28 + 15 :] == ours[24 + 28 + 15 :]


def test_the_older_protocol_table_by_table():
    """One block a table: bits for NULL, four bytes a character of NCHAR."""
    note = StatementField("note", FieldKind.COLUMN, T.NCHAR, 4)
    tables = [
        TableRows([[1], ["x"]], "d1", [None]),
        TableRows([[2, 3, 4], [None, "上", ""]], "d2", ["𝄞"]),
    ]
    (binding,) = Shape([TBNAME, LOC, TS, note]).bind_tables(tables)

    rune = "𝄞".encode("utf-32-le")
    assert set_tags_request(5, 6, binding, 1) == (
        struct.pack("<QQQ", 5, 6, 1)
        + struct.pack("<iiiiIQ", 1, 28 + 5 + 4 + 4 + 6, 1, 1, 0, 0)
        + struct.pack("<bi", 10, 0)
        + struct.pack("<i", 6)
        + struct.pack("<iH", 0, 4)
        + rune
    )
    body = b"\0" + struct.pack("<3q", 2, 3, 4)
    body += struct.pack("<3i", -1, 0, 6) + struct.pack("<H", 4) + "上".encode("utf-32-le") + b"\0\0"
    assert bind_request(5, 6, binding, 1) == (
        struct.pack("<QQQ", 5, 6, 2)
        + struct.pack("<iiiiIQ", 1, 28 + 10 + 8 + len(body), 3, 2, 0, 0)
        + struct.pack("<bibi", 9, 8, 10, 0)
        + struct.pack("<2i", 24, 8)
        + body
    )
    first = bind_request(5, 6, binding, 0)
    assert struct.unpack_from("<i", first, 24 + 8) == (1,)
    assert first.endswith(struct.pack("<i", 0) + struct.pack("<H", 4) + "x".encode("utf-32-le"))


@pytest.mark.parametrize(
    ("described", "value", "name"),
    [
        (StatementField("d", FieldKind.COLUMN, T.DECIMAL64, 8, 10, 2), "1.5", "DECIMAL(10,2)"),
        (StatementField("b", FieldKind.COLUMN, T.BLOB, 9), b"x", "BLOB"),
    ],
)
def test_types_that_the_older_protocol_does_not_know(described, value, name):
    (binding,) = Shape([TS, described]).bind_rows([(1, value)])
    with pytest.raises(NotSupportedError) as caught:
        bind_request(1, 1, binding, 0)
    assert str(caught.value) == (
        f"column {described.name!r}: this server's prepared statements do not know {name}"
    )


@pytest.mark.parametrize("name", ["\ud800", "a\udcffb"])
def test_names_that_cannot_be_sent(name):
    with pytest.raises(StatementError) as caught:
        check_names(["d1", name])
    assert str(caught.value) == f"table name: {name!r} cannot be sent as UTF-8"

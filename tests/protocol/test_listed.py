"""Blocks of lists: their rows, their columns, and what a row decoder makes of both."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pytest

from aiotaos.errors import DataError, ProtocolError
from aiotaos.protocol.block import Block, FixedColumn, VariableColumn, parse_block
from aiotaos.protocol.listed import ListedBlock, fixed_column, ticks_column
from aiotaos.protocol.rows import RowDecoder
from aiotaos.types import Field, Precision, TypeCode

MS, US, NS = Precision.MILLISECOND, Precision.MICROSECOND, Precision.NANOSECOND
TS = Field("ts", TypeCode.TIMESTAMP, 8)
V = Field("v", TypeCode.INT, 4)
S = Field("s", TypeCode.VARCHAR, 16)


def rows_of(block, **options):
    return RowDecoder(block.fields, block.precision, **options).rows(block)


def plain(block):
    """The same columns in a block that has no lists."""
    return Block(block.fields, block.precision, list(block.columns), len(block))


# Rows and columns.


def test_lists_are_rows_as_they_are():
    values, texts = [1, None, -3], ["a", "", None]
    block = ListedBlock([V, S], MS, [values, texts], 3)
    assert len(block) == 3
    assert block.parts == [values, texts]
    assert all(part is given for part, given in zip(block.parts, (values, texts), strict=True))
    decoded = RowDecoder([V, S], MS).columns(block)
    assert decoded[0] is values
    assert decoded[1] is texts
    assert rows_of(block) == [(1, "a"), (None, ""), (-3, None)]


def test_lists_become_columns_once():
    block = ListedBlock([V, S], MS, [(1, None, -3), ["a", "", None]], 3)
    numbers, texts = block.columns
    assert isinstance(numbers, FixedColumn)
    assert numbers.values[[0, 2]].tolist() == [1, -3]
    assert numbers.values.dtype == np.dtype("<i4")
    assert numbers.nulls.tolist() == [False, True, False]
    assert isinstance(texts, VariableColumn)
    assert texts.nulls.tolist() == [False, False, True]
    again = block.columns
    assert again[0] is numbers
    assert again[1] is texts
    assert block.parts[0] is numbers
    assert rows_of(block) == rows_of(plain(block)) == [(1, "a"), (None, ""), (-3, None)]


def test_columns_among_lists_stay():
    ticks = ticks_column(np.array([1, 2]), None)
    block = ListedBlock([TS, V], US, [ticks, [3, 4]], 2)
    expected = [
        (datetime(1970, 1, 1, microsecond=1, tzinfo=UTC), 3),
        (datetime(1970, 1, 1, microsecond=2, tzinfo=UTC), 4),
    ]
    assert rows_of(block) == expected
    assert block.columns[0] is ticks
    assert rows_of(plain(block)) == expected


VALUES = [
    (Field("a", TypeCode.NULL, 0), [None, None]),
    (Field("a", TypeCode.BOOL, 1), [True, None, False]),
    (Field("a", TypeCode.TINYINT, 1), [-128, 127, None]),
    (Field("a", TypeCode.BIGINT, 8), [-(2**63), 2**63 - 1, None]),
    (Field("a", TypeCode.UBIGINT, 8), [0, None, 2**64 - 1]),
    (Field("a", TypeCode.DOUBLE, 8), [-0.0, 5e-324, None, 1e308]),
    (Field("a", TypeCode.VARCHAR, 9), ["", "],[", None, "\0", "\udcff\U000f0000", "涛" * 500]),
    (Field("a", TypeCode.NCHAR, 9), ["", "🚀\0", None, "\udcff"]),
    (Field("a", TypeCode.JSON, 4095), ['{"a":[1]}', None, '""', '{"a":"涛"}']),
    (Field("a", TypeCode.JSON, 4095), ['{"a":"\udcff"}', None]),
    (Field("a", TypeCode.VARBINARY, 9), [b"", b"\0\xff", None]),
    (Field("a", TypeCode.GEOMETRY, 9), [b"\1", None]),
    (Field("a", TypeCode.BLOB, 9), [b"\xab" * 70_000, None, b""]),
    (Field("a", TypeCode.MEDIUMBLOB, 9), [b"", None]),
    (Field("a", TypeCode.DECIMAL64, 8, 10, 3), [Decimal("-1.500"), None, Decimal("0.000")]),
    (Field("a", TypeCode.DECIMAL, 16, 38, 0), [Decimal("9" * 38), None, Decimal("-1")]),
]


@pytest.mark.parametrize(
    ("field", "values"),
    VALUES,
    ids=[f"{field.type.name}-{i}" for i, (field, _) in enumerate(VALUES)],
)
def test_rows_and_columns_agree(field, values):
    for given in (values, [None] * 9, values[::-1], [None, *values] * 5):
        block = ListedBlock([field], MS, [given], len(given))
        assert repr(rows_of(block)) == repr([(value,) for value in given])
        assert repr(rows_of(plain(block))) == repr([(value,) for value in given])


def test_decimals_know_their_size():
    block = ListedBlock([Field("d", TypeCode.DECIMAL64, 8, 10, 3)], MS, [[Decimal("1.5")]], 1)
    [column] = block.columns
    assert (column.precision, column.scale, column.values.tolist()) == (10, 3, [1500])


@pytest.mark.parametrize(
    ("field", "values", "problem"),
    [
        (V, [1, 2**31], "column 'v', row 1: 2147483648 is not a value of INT"),
        (V, ["a"], "column 'v', row 0: 'a' is not a value of INT"),
        (S, [None, 5], "column 's', row 1: 5 is not a value of VARCHAR(16): expected str"),
        (
            Field("d", TypeCode.DECIMAL64, 8, 5, 2),
            [Decimal("1.234")],
            "column 'd', row 0: Decimal('1.234') is not a value of DECIMAL(5,2)",
        ),
        (Field("n", TypeCode.NULL, 0), [None, 1], "column 'n', row 1: 1 is not a value of NULL"),
    ],
)
def test_lists_that_do_not_fit(field, values, problem):
    block = ListedBlock([field], MS, [values], len(values))
    for _ in range(2):
        with pytest.raises(ProtocolError) as caught:
            _ = block.columns
        assert str(caught.value) == problem
        assert block.parts == [values]


# Columns that are made at once.


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 64])
def test_ticks_between_nulls(rows):
    nulls = np.arange(rows) % 3 != 1
    ticks = np.arange(-(2**63), -(2**63) + int((~nulls).sum()))
    column = ticks_column(ticks, nulls)
    assert (column.type, len(column)) == (TypeCode.TIMESTAMP, rows)
    assert column.nulls.tolist() == [index % 3 != 1 for index in range(rows)]
    assert column.values[1::3].tolist() == [-(2**63) + n for n in range((rows + 1) // 3)]


def test_ticks_without_nulls():
    column = ticks_column(np.array([2**63 - 1, 0, -1]), None)
    assert column.nulls is None
    assert column.values.tolist() == [2**63 - 1, 0, -1]
    empty = ticks_column(np.empty(0, np.int64), np.ones(5, np.bool_))
    assert empty.nulls.tolist() == [True] * 5


def test_fixed_columns():
    column = fixed_column(Field("f", TypeCode.FLOAT, 4), [0.1, None, -0.0, 3.4028235e38])
    assert column.type is TypeCode.FLOAT
    assert column.values.dtype == np.dtype("<f4")
    assert column.nulls.tolist() == [False, True, False, False]
    values = column.values.tolist()
    assert values[0] == 0.10000000149011612
    assert math.copysign(1, values[2]) == -1
    assert values[3] == 3.4028234663852886e38
    assert fixed_column(Field("u", TypeCode.UBIGINT, 8), [2**64 - 1]).nulls is None


@pytest.mark.parametrize(
    ("field", "values", "problem"),
    [
        (
            Field("u", TypeCode.UBIGINT, 8),
            [0, 2**64],
            "column 'u', row 1: 18446744073709551616 is not a value of BIGINT UNSIGNED",
        ),
        (Field("f", TypeCode.FLOAT, 4), [None, 1e39], "column 'f', row 1: 1e+39 is not a value"),
    ],
)
def test_fixed_columns_that_do_not_fit(field, values, problem):
    with pytest.raises(ProtocolError) as caught:
        fixed_column(field, values)
    assert str(caught.value).startswith(problem)


# A decoder follows the precision of its blocks.


def times(precision, *ticks):
    return ListedBlock([TS], precision, [ticks_column(np.array(ticks), None)], len(ticks))


def test_a_decoder_follows_the_precision():
    decoder = RowDecoder([TS], MS)
    assert decoder.rows(times(MS, 5)) == [(datetime(1970, 1, 1, microsecond=5000, tzinfo=UTC),)]
    assert decoder.rows(times(US, 5)) == [(datetime(1970, 1, 1, microsecond=5, tzinfo=UTC),)]
    assert decoder.rows(times(NS, 5)) == [(5,)]
    assert decoder.rows(times(MS, 5)) == [(datetime(1970, 1, 1, microsecond=5000, tzinfo=UTC),)]


def test_a_decoder_keeps_its_other_options():
    ticks = RowDecoder([TS], MS, timestamp="int")
    scalars = RowDecoder([TS], MS, timestamp="datetime64")
    for precision in (NS, US, MS):
        assert ticks.rows(times(precision, 7)) == [(7,)]
        [(scalar,)] = scalars.rows(times(precision, 7))
        assert scalar == np.datetime64(7, precision.unit)
        assert scalar.dtype == np.dtype(f"M8[{precision.unit}]")


def test_a_decoder_follows_plain_blocks_too(raw_block, fixed):
    data = raw_block([fixed(9, "q", [5, None])], 2)
    decoder = RowDecoder([TS], NS)
    assert decoder.rows(parse_block(data, precision=2)) == [(5,), (None,)]
    assert decoder.rows(parse_block(data, precision=1)) == [
        (datetime(1970, 1, 1, microsecond=5, tzinfo=UTC),),
        (None,),
    ]


def test_the_parts_of_plain_blocks(raw_block, fixed):
    block = parse_block(raw_block([fixed(4, "i", [1])], 1))
    assert len(block.parts) == 1
    assert block.parts[0] is block.columns[0]


@pytest.mark.parametrize("rows", [8, 9, 21])
def test_pieces(rows):
    """Lists are cut as lists, columns as columns."""
    ticks = ticks_column(np.arange(rows), None)
    values = [None if row % 3 == 1 else row for row in range(rows)]
    texts = tuple(str(row) for row in range(rows))
    block = ListedBlock([TS, V, S], US, [ticks, values, texts], rows)
    block.decoded_by(RowDecoder([TS, V, S], US, timestamp="int"))
    expected = list(zip(range(rows), values, texts, strict=True))
    pieces = [block.cut(at, min(at + 8, rows)) for at in range(0, rows, 8)]
    assert [len(piece) for piece in pieces] == [min(8, rows - at) for at in range(0, rows, 8)]
    assert [row for piece in pieces for row in piece.rows()] == expected
    for piece in pieces:
        assert isinstance(piece, ListedBlock)
        assert isinstance(piece.parts[0], FixedColumn)
        assert isinstance(piece.parts[1], list)
    assert isinstance(pieces[0].columns[1], FixedColumn)
    assert pieces[0].columns[1].values[::3].tolist() == [0, 3, 6]
    assert [row for piece in pieces for row in piece.rows()] == expected
    _ = block.columns
    again = [block.cut(at, min(at + 8, rows)) for at in range(0, rows, 8)]
    assert [row for piece in again for row in piece.rows()] == expected


def test_a_piece_without_a_decoder_has_no_rows():
    with pytest.raises(TypeError, match="RowDecoder"):
        ListedBlock([V], MS, [[1, 2]], 2).cut(0, 2).rows()


@pytest.mark.parametrize(
    ("field", "values"),
    VALUES,
    ids=[f"{field.type.name}-{i}" for i, (field, _) in enumerate(VALUES)],
)
def test_lists_as_tables(field, values):
    block = ListedBlock([field], MS, [values], len(values))
    expected = repr([None if value == "null" else value for value in values])
    assert repr(block.to_numpy()["a"].tolist()) == expected
    if any(isinstance(value, str) and "\udcff" in value for value in values):
        with pytest.raises(DataError, match="column 'a' has a text that is not Unicode"):
            block.to_arrow()
    else:
        batch = block.to_arrow()
        batch.validate(full=True)
        assert repr(batch["a"].to_pylist()) == expected


@pytest.mark.parametrize("parts", [[[1]], [[1], [2], [3]]])
def test_another_number_of_columns(parts):
    block = ListedBlock([V, V], MS, parts, 1)
    with pytest.raises(ValueError, match="zip"):
        RowDecoder([V, V], MS).rows(block)

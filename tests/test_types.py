from __future__ import annotations

import dataclasses

import pytest

from aiotaos.types import DECIMALS, Field, Precision, TypeCode

# Code, name in the header taos.h, name that DESCRIBE shows.
CODES = [
    (0, "NULL", "NULL"),
    (1, "BOOL", "BOOL"),
    (2, "TINYINT", "TINYINT"),
    (3, "SMALLINT", "SMALLINT"),
    (4, "INT", "INT"),
    (5, "BIGINT", "BIGINT"),
    (6, "FLOAT", "FLOAT"),
    (7, "DOUBLE", "DOUBLE"),
    (8, "VARCHAR", "VARCHAR"),
    (9, "TIMESTAMP", "TIMESTAMP"),
    (10, "NCHAR", "NCHAR"),
    (11, "UTINYINT", "TINYINT UNSIGNED"),
    (12, "USMALLINT", "SMALLINT UNSIGNED"),
    (13, "UINT", "INT UNSIGNED"),
    (14, "UBIGINT", "BIGINT UNSIGNED"),
    (15, "JSON", "JSON"),
    (16, "VARBINARY", "VARBINARY"),
    (17, "DECIMAL", "DECIMAL"),
    (18, "BLOB", "BLOB"),
    (19, "MEDIUMBLOB", "MEDIUMBLOB"),
    (20, "GEOMETRY", "GEOMETRY"),
    (21, "DECIMAL64", "DECIMAL"),
]


def test_type_codes():
    assert [(code.value, code.name, code.sql_name) for code in TypeCode] == CODES


@pytest.mark.parametrize("code", [-1, 22, 255])
def test_unknown_type_code(code):
    with pytest.raises(ValueError, match="is not a valid TypeCode"):
        TypeCode(code)


@pytest.mark.parametrize(
    ("code", "unit", "ticks"), [(0, "ms", 10**3), (1, "us", 10**6), (2, "ns", 10**9)]
)
def test_precisions(code, unit, ticks):
    assert Precision(code).unit == unit
    assert Precision(code).ticks_per_second == ticks


@pytest.mark.parametrize(
    ("field", "name"),
    [
        (Field("c", TypeCode.INT, 4), "INT"),
        (Field("c", TypeCode.UBIGINT, 8), "BIGINT UNSIGNED"),
        (Field("c", TypeCode.VARCHAR, 64), "VARCHAR(64)"),
        (Field("c", TypeCode.NCHAR, 10), "NCHAR(10)"),
        (Field("c", TypeCode.VARBINARY, 32), "VARBINARY(32)"),
        (Field("c", TypeCode.GEOMETRY, 100), "GEOMETRY(100)"),
        (Field("c", TypeCode.JSON, 4095), "JSON"),
        (Field("c", TypeCode.BLOB, 4194304), "BLOB"),
        (Field("c", TypeCode.DECIMAL64, 8, 10, 3), "DECIMAL(10,3)"),
        (Field("c", TypeCode.DECIMAL, 16, 38, 0), "DECIMAL(38,0)"),
    ],
)
def test_type_names(field, name):
    assert field.type_name == name


def test_fields_are_values():
    field = Field("c", TypeCode.INT, 4)
    assert field == Field("c", TypeCode.INT, 4, 0, 0)
    assert len({field, Field("c", TypeCode.INT, 4)}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        field.name = "d"


def test_decimals():
    assert {code.value for code in DECIMALS} == {17, 21}

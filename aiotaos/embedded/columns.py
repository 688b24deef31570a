"""Column types: their names in TDengine's SQL and their storage in DuckDB."""

from __future__ import annotations

import msgspec

from ..types import DECIMALS, Field, TypeCode

FIXED_SIZE = {
    TypeCode.BOOL: 1,
    TypeCode.TINYINT: 1,
    TypeCode.SMALLINT: 2,
    TypeCode.INT: 4,
    TypeCode.BIGINT: 8,
    TypeCode.UTINYINT: 1,
    TypeCode.USMALLINT: 2,
    TypeCode.UINT: 4,
    TypeCode.UBIGINT: 8,
    TypeCode.FLOAT: 4,
    TypeCode.DOUBLE: 8,
    TypeCode.TIMESTAMP: 8,
}
INTEGERS = frozenset(
    {
        TypeCode.TINYINT,
        TypeCode.SMALLINT,
        TypeCode.INT,
        TypeCode.BIGINT,
        TypeCode.UTINYINT,
        TypeCode.USMALLINT,
        TypeCode.UINT,
        TypeCode.UBIGINT,
    }
)
UNSIGNED = frozenset({TypeCode.UTINYINT, TypeCode.USMALLINT, TypeCode.UINT, TypeCode.UBIGINT})
FLOATS = frozenset({TypeCode.FLOAT, TypeCode.DOUBLE})
NUMBERS = INTEGERS | FLOATS
TEXTS = frozenset({TypeCode.VARCHAR, TypeCode.NCHAR})
SIZED = TEXTS | {TypeCode.VARBINARY, TypeCode.GEOMETRY}
_DUCKDB = {
    TypeCode.BOOL: "BOOLEAN",
    TypeCode.TINYINT: "TINYINT",
    TypeCode.SMALLINT: "SMALLINT",
    TypeCode.INT: "INTEGER",
    TypeCode.BIGINT: "BIGINT",
    TypeCode.UTINYINT: "UTINYINT",
    TypeCode.USMALLINT: "USMALLINT",
    TypeCode.UINT: "UINTEGER",
    TypeCode.UBIGINT: "UBIGINT",
    TypeCode.FLOAT: "REAL",
    TypeCode.DOUBLE: "DOUBLE",
    TypeCode.TIMESTAMP: "BIGINT",
    TypeCode.VARCHAR: "VARCHAR",
    TypeCode.NCHAR: "VARCHAR",
    TypeCode.JSON: "VARCHAR",
    TypeCode.VARBINARY: "BLOB",
    TypeCode.GEOMETRY: "BLOB",
    TypeCode.BLOB: "BLOB",
}
SQL_WORDS = {
    "bool": TypeCode.BOOL,
    "tinyint": TypeCode.TINYINT,
    "smallint": TypeCode.SMALLINT,
    "int": TypeCode.INT,
    "integer": TypeCode.INT,
    "bigint": TypeCode.BIGINT,
    "float": TypeCode.FLOAT,
    "double": TypeCode.DOUBLE,
    "timestamp": TypeCode.TIMESTAMP,
    "varchar": TypeCode.VARCHAR,
    "binary": TypeCode.VARCHAR,
    "nchar": TypeCode.NCHAR,
    "varbinary": TypeCode.VARBINARY,
    "geometry": TypeCode.GEOMETRY,
    "decimal": TypeCode.DECIMAL,
    "blob": TypeCode.BLOB,
    "json": TypeCode.JSON,
}
UNSIGNED_OF = {
    TypeCode.TINYINT: TypeCode.UTINYINT,
    TypeCode.SMALLINT: TypeCode.USMALLINT,
    TypeCode.INT: TypeCode.UINT,
    TypeCode.BIGINT: TypeCode.UBIGINT,
}
JSON_LENGTH = 4095
BLOB_LENGTH = 4194304
MAX_DECIMAL64 = 18


class SqlType(msgspec.Struct, frozen=True):
    """A type with its declared length, or precision and scale."""

    code: TypeCode
    length: int
    precision: int = 0
    scale: int = 0

    @property
    def duckdb(self) -> str:
        """The DuckDB type that holds its values."""
        if self.code in DECIMALS:
            return f"DECIMAL({self.precision},{self.scale})"
        return _DUCKDB[self.code]

    @property
    def sql(self) -> str:
        """The type as SHOW CREATE and DESCRIBE write it."""
        if self.code in SIZED:
            return f"{self.code.sql_name}({self.length})"
        if self.code in DECIMALS:
            return f"DECIMAL({self.precision}, {self.scale})"
        return self.code.sql_name

    def field(self, name: str) -> Field:
        return Field(name, self.code, self.length, self.precision, self.scale)


class Column(msgspec.Struct, frozen=True):
    """A column or a tag; ``number`` makes its name in DuckDB, which no rename touches."""

    name: str
    type: SqlType
    number: int

    @property
    def stored(self) -> str:
        return f"c{self.number}"


_JSON_BYTES = 16384
_PREFIX_BYTES = {
    TypeCode.VARCHAR: 2,
    TypeCode.VARBINARY: 2,
    TypeCode.GEOMETRY: 2,
    TypeCode.BLOB: 4,
}


def byte_length(code: TypeCode, length: int) -> int:
    """The size of the largest value of a type, its prefix included."""
    if code is TypeCode.JSON:
        return _JSON_BYTES
    if code is TypeCode.NCHAR:
        return length * 4 + 2
    return length + _PREFIX_BYTES.get(code, 0)


def fixed(code: TypeCode) -> SqlType:
    """The type of a fixed width."""
    return SqlType(code, FIXED_SIZE[code])


def text(length: int) -> SqlType:
    return SqlType(TypeCode.VARCHAR, length)


def decimal(precision: int, scale: int) -> SqlType:
    """A DECIMAL, of 64 bits where that suffices."""
    if precision <= MAX_DECIMAL64:
        return SqlType(TypeCode.DECIMAL64, 8, precision, scale)
    return SqlType(TypeCode.DECIMAL, 16, precision, scale)


BOOL = fixed(TypeCode.BOOL)
INT = fixed(TypeCode.INT)
BIGINT = fixed(TypeCode.BIGINT)
UINT = fixed(TypeCode.UINT)
UBIGINT = fixed(TypeCode.UBIGINT)
FLOAT = fixed(TypeCode.FLOAT)
DOUBLE = fixed(TypeCode.DOUBLE)
TIMESTAMP = fixed(TypeCode.TIMESTAMP)
JSON = SqlType(TypeCode.JSON, JSON_LENGTH)
NULL = SqlType(TypeCode.VARCHAR, 0)
TBNAME = text(270)

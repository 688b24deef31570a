"""The vocabulary of TDengine data: type codes, precisions and the description of a column."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class TypeCode(IntEnum):
    """Type codes as they stand in blocks and in replies (TDengine's ``TSDB_DATA_TYPE_*``)."""

    NULL = 0
    BOOL = 1
    TINYINT = 2
    SMALLINT = 3
    INT = 4
    BIGINT = 5
    FLOAT = 6
    DOUBLE = 7
    VARCHAR = 8
    TIMESTAMP = 9
    NCHAR = 10
    UTINYINT = 11
    USMALLINT = 12
    UINT = 13
    UBIGINT = 14
    JSON = 15
    VARBINARY = 16
    DECIMAL = 17
    BLOB = 18
    MEDIUMBLOB = 19
    GEOMETRY = 20
    DECIMAL64 = 21

    @property
    def sql_name(self) -> str:
        """The name TDengine shows for the type, for example ``TINYINT UNSIGNED``."""
        return _SQL_NAMES[self]


_SQL_NAMES = {code: code.name for code in TypeCode} | {
    TypeCode.UTINYINT: "TINYINT UNSIGNED",
    TypeCode.USMALLINT: "SMALLINT UNSIGNED",
    TypeCode.UINT: "INT UNSIGNED",
    TypeCode.UBIGINT: "BIGINT UNSIGNED",
    TypeCode.DECIMAL64: "DECIMAL",
}


class Precision(IntEnum):
    """Unit of a TIMESTAMP; one per result, given by the database."""

    MILLISECOND = 0
    MICROSECOND = 1
    NANOSECOND = 2

    @property
    def unit(self) -> str:
        """``"ms"``, ``"us"`` or ``"ns"``, as in ``create database … precision`` and in numpy."""
        return ("ms", "us", "ns")[self]

    @property
    def ticks_per_second(self) -> int:
        return (1_000, 1_000_000, 1_000_000_000)[self]


@dataclass(frozen=True, slots=True)
class Field:
    """One column of a result.

    Attributes:
        name: Column name or alias.
        type: Type code.
        length: Declared length: bytes for VARCHAR, VARBINARY and GEOMETRY, characters for NCHAR,
            4095 for JSON, 4194304 for BLOB, the fixed size in bytes otherwise.
        precision: Decimal digits of a DECIMAL, 0 otherwise.
        scale: Digits behind the point of a DECIMAL, 0 otherwise.
    """

    name: str
    type: TypeCode
    length: int
    precision: int = 0
    scale: int = 0

    @property
    def type_name(self) -> str:
        """The type as SQL writes it: ``INT``, ``VARCHAR(64)``, ``DECIMAL(10,3)``."""
        name = self.type.sql_name
        if self.type in _SIZED:
            return f"{name}({self.length})"
        if self.type in DECIMALS:
            return f"{name}({self.precision},{self.scale})"
        return name


class FieldKind(StrEnum):
    """What a parameter of a prepared INSERT is bound to."""

    COLUMN = "column"
    TAG = "tag"
    TBNAME = "tbname"


@dataclass(frozen=True, slots=True)
class StatementField:
    """One parameter of a prepared INSERT, in the order of the ``?``.

    Attributes:
        name: Name of the column or tag; ``tbname`` for the table's name.
        kind: Column, tag or table name.
        type: Type code.
        length: As :attr:`Field.length`.
        precision: Unit of a TIMESTAMP; decimal digits of a DECIMAL; 0 otherwise.
        scale: Digits behind the point of a DECIMAL, 0 otherwise.
    """

    name: str
    kind: FieldKind
    type: TypeCode
    length: int
    precision: int = 0
    scale: int = 0

    @property
    def type_name(self) -> str:
        """The type as SQL writes it."""
        return Field(self.name, self.type, self.length, self.precision, self.scale).type_name


class SchemalessProtocol(IntEnum):
    """Text formats of schemaless writing."""

    LINE = 1
    """InfluxDB's line protocol."""
    TELNET = 2
    """OpenTSDB's telnet lines, without ``put``."""
    JSON = 3
    """OpenTSDB's JSON."""


DECIMALS = frozenset({TypeCode.DECIMAL, TypeCode.DECIMAL64})
_SIZED = frozenset({TypeCode.VARCHAR, TypeCode.NCHAR, TypeCode.VARBINARY, TypeCode.GEOMETRY})

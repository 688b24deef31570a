"""How TDengine says that it stores the columns of each type."""

from __future__ import annotations

from ..types import TypeCode
from .columns import INTEGERS

LEVEL = "medium"
_ENCODINGS = {
    TypeCode.TIMESTAMP: ("delta-i", "lz4"),
    TypeCode.FLOAT: ("delta-d", "lz4"),
    TypeCode.DOUBLE: ("delta-d", "lz4"),
    TypeCode.BOOL: ("bit-packing", "zstd"),
    TypeCode.TINYINT: ("simple8b", "zlib"),
    TypeCode.UTINYINT: ("simple8b", "zlib"),
    TypeCode.SMALLINT: ("simple8b", "zlib"),
    TypeCode.USMALLINT: ("simple8b", "zlib"),
    TypeCode.GEOMETRY: ("disabled", "lz4"),
    TypeCode.BLOB: ("disabled", "lz4"),
}


def encoding(code: TypeCode) -> tuple[str, str]:
    """The encoding and the compression of a column."""
    plain = ("simple8b", "lz4") if code in INTEGERS else ("disabled", "zstd")
    return _ENCODINGS.get(code, plain)

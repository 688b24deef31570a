"""Rows of libraries that have no raw blocks, those of 2.x.

A row is an array of addresses, one for each column; the sizes of texts are told beside. Layouts:
``src/inc/taos.h`` of TDengine 2.x, and its Python connector's ``taos/field.py``.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from typing import Any

from ...errors import ProtocolError
from ...protocol.block import PREFIXES
from ...types import Field, TypeCode
from .taosc import Taosc, plain_code

_INVALID_OPERATION = 0x0200
_PATIENCE = 1.0  # seconds that the callback of the query may still take to return
_STEP = 0.0002

_NUMBERS: dict[TypeCode, Any] = {
    TypeCode.BOOL: ctypes.c_bool,
    TypeCode.TINYINT: ctypes.c_int8,
    TypeCode.SMALLINT: ctypes.c_int16,
    TypeCode.INT: ctypes.c_int32,
    TypeCode.BIGINT: ctypes.c_int64,
    TypeCode.FLOAT: ctypes.c_float,
    TypeCode.DOUBLE: ctypes.c_double,
    TypeCode.TIMESTAMP: ctypes.c_int64,
    TypeCode.UTINYINT: ctypes.c_uint8,
    TypeCode.USMALLINT: ctypes.c_uint16,
    TypeCode.UINT: ctypes.c_uint32,
    TypeCode.UBIGINT: ctypes.c_uint64,
}
_BYTES = (TypeCode.VARBINARY, TypeCode.GEOMETRY, TypeCode.BLOB, TypeCode.MEDIUMBLOB)


def fetched_columns(
    taosc: Taosc, result: int, count: int, fields: tuple[Field, ...]
) -> list[list[Any]]:
    """The values of rows that were fetched, column by column, TIMESTAMPs as ticks.

    To be called in the callback of ``taos_fetch_rows_a``, once.

    Args:
        taosc: The library.
        result: The result.
        count: The number of rows; asking for one more would wait.
        fields: The columns.

    Raises:
        ProtocolError: There are fewer rows, or there is a type that 2.x does not have.
    """
    readers = list(map(value_reader, fields))
    columns: list[list[Any]] = [[] for _ in fields]
    for _ in range(count):
        row = _row(taosc, result)
        lengths = taosc.taos_fetch_lengths(result)
        for index, column in enumerate(columns):
            address = row[index]
            value = None if address is None else readers[index](address, lengths[index])
            column.append(value)
    return columns


def _row(taosc: Taosc, result: int) -> Any:
    row = taosc.taos_fetch_row(result)
    until = time.monotonic() + _PATIENCE
    # Until the callback of the query has returned, which may be later than this one is called,
    # rows are refused.
    while not row and plain_code(taosc.taos_errno(None)) == _INVALID_OPERATION:
        if time.monotonic() > until:
            break
        time.sleep(_STEP)
        row = taosc.taos_fetch_row(result)
    if not row:
        raise ProtocolError("libtaos gives fewer rows than it has announced")
    return row


def value_reader(field: Field) -> Callable[[int, int], Any]:
    """What makes a value of a column, of its address and its length in bytes.

    Raises:
        ProtocolError: Rows cannot carry the type.
    """
    kind = _NUMBERS.get(field.type)
    if kind is not None:
        return lambda address, length: kind.from_address(address).value
    if field.type in _BYTES:
        return ctypes.string_at
    if field.type in PREFIXES:
        return lambda address, length: ctypes.string_at(address, length).decode(
            errors="surrogateescape"
        )
    raise ProtocolError(f"column {field.name!r} has a type that rows cannot carry: {field.type!r}")

"""Columns to bind messages: what stmt2 (binary action 9) and stmt v1 (actions 1 and 2) send.

Layouts after taosAdapter's ``driver/wrapper/stmt2binary.go`` and ``controller/ws/stmt``.
"""

from __future__ import annotations

import dataclasses
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import numpy as np

from ..errors import DataError, NotSupportedError, StatementError
from ..types import DECIMALS, FieldKind, StatementField, TypeCode
from .arrow import arrow_column, is_arrow, plain_array
from .block import DTYPES, HEADER, PREFIXES, SCHEMA
from .columns import Column, check_lengths, decimal_texts, make_column
from .encode import encode_column
from .frames import Action
from .sections import section
from .times import iso_utc

MAX_TABLE_ROWS = 32767
"""Rows of one table in one bind; TDengine's C client takes no more."""

_REQUEST = struct.Struct("<QQQ")  # req_id, stmt_id, action
_VERSION = struct.Struct("<Hi")  # version 1, column index: -1 for all of them
_PAYLOAD = struct.Struct("<7I")  # length, tables, tags, columns, offsets of the three sections
_NO_FLAGS = 0
_MAX_NAME = 270
_DIGITS = re.compile(r"DECIMAL\((\d+), ?(\d+)\)")
_NOT_IN_V1 = frozenset({*DECIMALS, TypeCode.BLOB, TypeCode.MEDIUMBLOB})


@dataclass(frozen=True, slots=True)
class Binding:
    """Rows for one bind: of one table, or of several.

    Attributes:
        names: Name of each table; None where the statement names its table.
        tag_fields: The tags.
        tags: For each tag its column, one value for each table.
        fields: The columns; the parameters of a query.
        columns: For each column its values, those of the first table first.
        ends: Index behind the last row of each table.
    """

    names: Sequence[str] | None
    tag_fields: Sequence[StatementField]
    tags: Sequence[Column]
    fields: Sequence[StatementField]
    columns: Sequence[Column]
    ends: Sequence[int]


def with_digits(field: StatementField, described: str) -> StatementField:
    """A DECIMAL field with the digits that DESCRIBE shows: ``DECIMAL(10, 2)``."""
    found = _DIGITS.fullmatch(described)
    if field.type not in DECIMALS or found is None:
        return field
    return dataclasses.replace(field, precision=int(found[1]), scale=int(found[2]))


def bind_column(field: StatementField, values: Any, *, raw_decimals: bool = False) -> Column:
    """A column for binding, checked against what its field takes.

    Args:
        field: What it is bound to.
        values: A list, a tuple, a numpy array, an Arrow array, or what makes itself a numpy array.
        raw_decimals: Whether a DECIMAL becomes the integer that stands for it, and not text.

    Raises:
        DataError: A value does not fit; the message names column, row and value.
        StatementError: It is no column.
    """
    if hasattr(values, "__array__") and not is_arrow(values) and not isinstance(values, np.ndarray):
        values = np.asarray(values)
    is_list = isinstance(values, (Sequence, np.ndarray)) and not isinstance(values, (str, bytes))
    if not is_list and not is_arrow(values):
        raise StatementError(
            f"column {field.name!r}: expected a list, a numpy array or an Arrow array of values, "
            f"got {type(values).__name__}"
        )
    if field.type in DECIMALS:
        given = _listed(values)
        return make_column(field, given) if raw_decimals else decimal_texts(field, given)
    column = arrow_column(field, values) if is_arrow(values) else make_column(field, values)
    check_lengths(field, column)
    return column


def _listed(values: Any) -> list[Any]:
    if is_arrow(values):
        return list(plain_array(values).to_pylist())
    return list(values if isinstance(values, Sequence) else np.asanyarray(values).tolist())


def check_names(names: Sequence[object]) -> None:
    """Check the names of tables.

    Raises:
        StatementError: One cannot be a name.
    """
    try:
        together = "".join(names)  # type: ignore[arg-type]  # which is what is found out
        longest, shortest = max(map(len, names)), min(map(len, names))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        longest = 0
    if not longest or not shortest or 4 * longest > _MAX_NAME or not _is_plain(together):
        for name in names:
            check_name(name)


def _is_plain(text: str) -> bool:
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def check_name(name: object) -> str:
    """Check the name of a table.

    Raises:
        StatementError: It cannot be one.
    """
    if not isinstance(name, str):
        raise StatementError(f"table name: expected a string, got {name!r}")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise StatementError(f"table name: {name!r} cannot be sent as UTF-8") from None
    if "\0" in name or not 0 < size <= _MAX_NAME:
        shown = name if len(name) <= 60 else name[:59] + "…"
        raise StatementError(f"table name: expected 1 to {_MAX_NAME} bytes, got {shown!r}")
    return name


def query_parameters(values: Sequence[object]) -> Binding:
    """The parameters of a query, typed by their values.

    A ``datetime`` goes as text with its offset, which the server reads in any precision.

    Args:
        values: None, ``bool``, ``int``, ``float``, ``str``, ``bytes``, aware ``datetime``,
            ``Decimal``, and numpy's scalars.

    Raises:
        StatementError: A value is of another type.
        DataError: A value cannot be sent.
    """
    fields = []
    columns = []
    for index, given in enumerate(values):
        name = f"parameter {index + 1}"
        value = given
        if isinstance(given, (datetime, np.datetime64)):
            value = iso_utc(given, name)
        elif isinstance(given, np.generic):
            value = given.item()
        field = _parameter_field(name, value)
        if isinstance(value, Decimal):
            value = str(value)
        fields.append(field)
        try:
            columns.append(make_column(field, [value]))
        except DataError:
            raise DataError(
                f"{field.name}: {value!r} cannot be sent as {field.type_name}"
            ) from None
    return Binding(None, (), (), fields, columns, (1,))


def _parameter_field(name: str, value: object) -> StatementField:
    type = next((type for kinds, type in _PARAMETER_TYPES if isinstance(value, kinds)), None)
    if type is None:
        raise StatementError(
            f"{name}: {value!r} cannot be bound; expected None, bool, int, float, str, bytes, "
            "an aware datetime or Decimal"
        )
    if type is TypeCode.BIGINT and isinstance(value, int) and value >= 2**63:
        type = TypeCode.UBIGINT
    return StatementField(name, FieldKind.COLUMN, type, 0)


# The order matters: a bool is an int.
_PARAMETER_TYPES: tuple[tuple[tuple[type, ...], TypeCode], ...] = (
    ((bool,), TypeCode.BOOL),
    ((int, type(None)), TypeCode.BIGINT),
    ((float,), TypeCode.DOUBLE),
    ((str, Decimal), TypeCode.VARCHAR),
    ((bytes, bytearray, memoryview), TypeCode.VARBINARY),
)


# stmt2.


def stmt2_bind_request(req_id: int, stmt_id: int, binding: Binding) -> bytes:
    """The frame of a ``stmt2_bind`` (action 9) with all of a binding's rows."""
    names = _names(binding)
    tables = range(1, len(binding.ends) + 1)
    tags = section([field.type for field in binding.tag_fields], binding.tags, tables)
    columns = section([field.type for field in binding.fields], binding.columns, binding.ends)
    tags_at = _PAYLOAD.size + len(names)
    columns_at = tags_at + sum(map(len, tags))
    total = columns_at + sum(map(len, columns))
    payload = _PAYLOAD.pack(
        total,
        len(binding.ends),
        len(binding.tags),
        len(binding.columns),
        _PAYLOAD.size if names else 0,
        tags_at if tags else 0,
        columns_at if columns else 0,
    )
    head = _REQUEST.pack(req_id, stmt_id, Action.STMT2_BIND) + _VERSION.pack(1, -1)
    return b"".join((head, payload, names, *tags, *columns))


def _names(binding: Binding) -> bytes:
    if binding.names is None:
        return b""
    names = [name.encode() + b"\0" for name in binding.names]
    return struct.pack(f"<{len(names)}H", *map(len, names)) + b"".join(names)


# stmt v1.


def set_tags_request(req_id: int, stmt_id: int, binding: Binding, table: int) -> bytes:
    """The frame of a ``set_tags`` (action 1) for one table of a binding.

    Raises:
        NotSupportedError: stmt v1 does not know the type of a tag.
    """
    rows = slice(table, table + 1)
    block = _block(binding.tag_fields, binding.tags, rows)
    return _REQUEST.pack(req_id, stmt_id, Action.SET_TAGS) + block


def bind_request(req_id: int, stmt_id: int, binding: Binding, table: int) -> bytes:
    """The frame of a ``bind`` (action 2) for one table of a binding.

    Raises:
        NotSupportedError: stmt v1 does not know the type of a column.
    """
    start = binding.ends[table - 1] if table else 0
    block = _block(binding.fields, binding.columns, slice(start, binding.ends[table]))
    return _REQUEST.pack(req_id, stmt_id, Action.BIND) + block


def _block(fields: Sequence[StatementField], columns: Sequence[Column], rows: slice) -> bytes:
    """A block as clients write it: no flags, no lengths in the schema, no trailing byte."""
    schema = bytearray()
    lengths: list[int] = []
    bodies: list[bytes] = []
    for field, column in zip(fields, columns, strict=True):
        if field.type in _NOT_IN_V1:
            raise NotSupportedError(
                f"column {field.name!r}: this server's prepared statements do not know "
                f"{field.type_name}"
            )
        width = 0 if field.type in PREFIXES else DTYPES[field.type].itemsize
        head, data = encode_column(field, column.cut(rows))
        schema += SCHEMA.pack(field.type, width)
        lengths.append(len(data))
        bodies += (head, data)
    total = HEADER.size + 9 * len(fields) + sum(map(len, bodies))
    header = HEADER.pack(1, total, rows.stop - rows.start, len(fields), _NO_FLAGS, 0)
    return b"".join((header, schema, struct.pack(f"<{len(lengths)}i", *lengths), *bodies))

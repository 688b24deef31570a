"""Schemaless writing: its arguments, and lines made of values."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import numpy as np

from .errors import (
    DataError,
    Error,
    InterfaceError,
    ProgrammingError,
    SchemalessError,
    StatementError,
    class_of,
)
from .protocol.messages import InsertArgs
from .protocol.times import ticks_of
from .types import Precision, SchemalessProtocol

# The server knows microseconds as "u" and takes "us" for "not configured".
_PRECISIONS = {"h": "h", "m": "m", "s": "s", "ms": "ms", "us": "u", "u": "u", "ns": "ns"}
_UNITS = {"h": 3600, "m": 60, "s": 1}
_MAX_TTL = 2**31 - 1
_NO_DATABASE = 0x2616
_SHOWN = 200  # characters of a refused line
_MEASUREMENT = re.compile(r"([, ])")
_KEY = re.compile(r"([,= ])")
_AMBIGUOUS = re.compile(r"\\(?:[,= \\]|$)")
_QUOTED = re.compile(r'(["\\])')


def schemaless_arguments(
    lines: str | bytes | Iterable[str | bytes],
    protocol: SchemalessProtocol,
    precision: str,
    ttl: int | None,
    req_id: int,
    table_name_key: str | None,
) -> InsertArgs:
    """The arguments of an ``insert`` message.

    Raises:
        InterfaceError: An argument cannot be what it is.
    """
    try:
        kind = SchemalessProtocol(protocol)
    except ValueError:
        raise InterfaceError(
            f"protocol: expected LINE, TELNET or JSON of SchemalessProtocol, got {protocol!r}"
        ) from None
    if precision not in _PRECISIONS:
        raise InterfaceError(
            f"precision: expected 'h', 'm', 's', 'ms', 'us' or 'ns', got {precision!r}"
        )
    if ttl is not None and (
        isinstance(ttl, bool) or not isinstance(ttl, int) or not 0 <= ttl <= _MAX_TTL
    ):
        raise InterfaceError(f"ttl: expected a whole number of days from 0, got {ttl!r}")
    if table_name_key is not None and not isinstance(table_name_key, str):
        raise InterfaceError(f"table_name_key: expected the name of a tag, got {table_name_key!r}")
    return InsertArgs(
        req_id, kind, _PRECISIONS[precision], ttl or 0, _text(lines, kind), table_name_key
    )


def schemaless_refusal(error: Error, data: str) -> Error:
    """The error for refused lines, naming the line where it is the only one.

    TDengine's parser of lines also uses codes that elsewhere stand for bad SQL.
    """
    code = error.code
    if code is None or class_of(code) not in (SchemalessError, ProgrammingError, StatementError):
        return error
    if code == _NO_DATABASE:
        return error
    shown = data if len(data) <= _SHOWN else data[: _SHOWN - 1] + "…"
    where = f"; the line: {shown}" if "\n" not in data.strip() else ""
    return SchemalessError(
        f"{error.message}{where}",
        code=code,
        req_id=error.req_id,
        endpoint=error.endpoint,
        http_status=error.http_status,
    )


def _text(lines: str | bytes | Iterable[str | bytes], protocol: SchemalessProtocol) -> str:
    if isinstance(lines, (str, bytes)):
        parts = [lines]
    elif isinstance(lines, Iterable) and not isinstance(lines, Mapping):
        parts = list(lines)
    else:
        raise InterfaceError(f"lines: expected text or several, got {type(lines).__name__}")
    if protocol is SchemalessProtocol.JSON and len(parts) != 1:
        raise InterfaceError(f"lines: expected one JSON document, got {len(parts)}")
    return "\n".join([_decoded(index, part) for index, part in enumerate(parts)])


def _decoded(index: int, line: object) -> str:
    if isinstance(line, str):
        try:
            line.encode()
        except UnicodeEncodeError as error:
            raise InterfaceError(f"line {index}: it cannot be sent as UTF-8: {error}") from None
        return line
    if not isinstance(line, bytes):
        raise InterfaceError(f"line {index}: expected str or bytes, got {line!r}")
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise InterfaceError(f"line {index}: it is not UTF-8: {error}") from None


def line(
    measurement: str,
    fields: Mapping[str, Any],
    tags: Mapping[str, Any] | None = None,
    timestamp: datetime | np.datetime64 | int | None = None,
    *,
    precision: str = "ms",
) -> str:
    """A line of InfluxDB's line protocol.

    Args:
        measurement: Name of the super table.
        fields: Values by column: ``bool``, ``int`` (BIGINT), ``float`` (DOUBLE), ``str``
            (VARCHAR), ``bytes`` (VARBINARY), numpy's numbers (the type of their width). None
            leaves the column out.
        tags: Values by tag, written as text; None and ``""`` leave the tag out.
        timestamp: Aware ``datetime``, ``datetime64``, or ``int`` in ``precision``; the server's
            time if not given.
        precision: Unit of the timestamp, which :meth:`Connection.schemaless_insert` must be told
            alike.

    Raises:
        DataError: A value or a name cannot be written.
    """
    head = _escaped("measurement", measurement, _MEASUREMENT)
    if head.startswith("#"):
        raise DataError(f"measurement: {measurement!r} would begin a comment")
    for name, value in (tags or {}).items():
        if value is not None and value != "":
            head += f",{_key('tag', name)}={_key('tag', str(value))}"
    values = [
        f"{_key('field', name)}={_field(name, value)}"
        for name, value in fields.items()
        if value is not None
    ]
    if not values:
        raise DataError(f"fields: expected at least one value, got {dict(fields)!r}")
    text = f"{head} {','.join(values)}"
    return text if timestamp is None else f"{text} {_timestamp(timestamp, precision)}"


def _key(what: str, text: object) -> str:
    return _escaped(what, text, _KEY)


def _escaped(what: str, text: object, special: re.Pattern[str]) -> str:
    if not isinstance(text, str) or not text or "\n" in text or "\0" in text:
        raise DataError(f"{what}: expected text in one line, got {text!r}")
    if _AMBIGUOUS.search(text):
        raise DataError(
            f"{what}: {text!r} has a backslash before a separator, another one or the end, which "
            "line protocol cannot tell from an escape"
        )
    return special.sub(r"\\\1", text)


def _field(name: str, value: object) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, np.integer):
        kind = "u" if isinstance(value, np.unsignedinteger) else "i"
        return f"{value}{kind}{8 * value.dtype.itemsize}"
    if isinstance(value, int):
        if not -(2**63) <= value < 2**64:
            raise DataError(f"field {name!r}: {value!r} has more than 64 bits")
        return f"{value}{'i64' if value < 2**63 else 'u64'}"
    if isinstance(value, (float, np.floating)):
        if not math.isfinite(value):
            raise DataError(f"field {name!r}: {value!r} cannot be written")
        suffix = "f32" if isinstance(value, np.float32) else "f64"
        return f"{value!s}{suffix}"
    if isinstance(value, str):
        return f'"{_quoted(name, value)}"'
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f'B"\\x{bytes(value).hex()}"'
    raise DataError(
        f"field {name!r}: {value!r} cannot be written; expected bool, int, float, str or bytes"
    )


def _quoted(name: str, value: str) -> str:
    if "\n" in value or "\0" in value:
        raise DataError(f"field {name!r}: {value!r} has a NUL or a line break, which ends the line")
    return _QUOTED.sub(r"\\\1", value)


def _timestamp(value: datetime | np.datetime64 | int, precision: str) -> int:
    if precision not in _PRECISIONS:
        raise InterfaceError(
            f"precision: expected 'h', 'm', 's', 'ms', 'us' or 'ns', got {precision!r}"
        )
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return int(value)
    if precision in _UNITS:
        return ticks_of(value, Precision.MILLISECOND) // (1000 * _UNITS[precision])
    unit = {"ms": 0, "us": 1, "u": 1, "ns": 2}[precision]
    return ticks_of(value, Precision(unit))

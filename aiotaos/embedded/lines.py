"""Schemaless writing: InfluxDB lines, OpenTSDB telnet lines and OpenTSDB JSON, read into points."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from ..types import SchemalessProtocol, TypeCode
from . import geometry
from .faults import Fault
from .literals import INTEGER_RANGES
from .names import MAX_NAME, MAX_SHORT_NAME

_BAD_DATA = 0x3002
_BAD_VALUE = 0x0224
_BAD_TIME = 0x0133
_TELNET_VALUE = "_value"
_UNIT_NS = {
    "h": 3_600_000_000_000,
    "m": 60_000_000_000,
    "s": 1_000_000_000,
    "ms": 1_000_000,
    "u": 1_000,
    "μ": 1_000,
    "us": 1_000,
    "ns": 1,
}
_DIGITS_NS = {10: 1_000_000_000, 13: 1_000_000}
_HEAD = re.compile(r"(?:\\ |[^ ])+")
_MEASUREMENT = re.compile(r"(?:\\[, ]|[^, ])+")
_PART = re.compile(r"(?:\\[, =]|[^, =])*")
_FIELD_VALUE = re.compile(r'[LlGgBb]?"(?:\\.|[^"\\])*"(?=[, ]|$)|[^", ]+(?=[, ]|$)', re.DOTALL)
_MEASUREMENT_ESCAPE = re.compile(r"\\([, ])")
_ESCAPE = re.compile(r"\\([, =])")
_TEXT_ESCAPE = re.compile(r'\\(["\\])')
_NUMBER = re.compile(
    r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)([fiu](?:8|16|32|64)?)?", re.ASCII | re.IGNORECASE
)
_BOOL = re.compile(r"(t|true)|f|false", re.IGNORECASE)
_INTEGER = re.compile(r"-?\d+", re.ASCII)
_SUFFIXES = {
    "f32": TypeCode.FLOAT,
    "f64": TypeCode.DOUBLE,
    "i8": TypeCode.TINYINT,
    "u8": TypeCode.UTINYINT,
    "i16": TypeCode.SMALLINT,
    "u16": TypeCode.USMALLINT,
    "i32": TypeCode.INT,
    "u32": TypeCode.UINT,
    "i64": TypeCode.BIGINT,
    "i": TypeCode.BIGINT,
    "u64": TypeCode.UBIGINT,
    "u": TypeCode.UBIGINT,
}
_JSON_TYPES = {
    "bool": TypeCode.BOOL,
    "tinyint": TypeCode.TINYINT,
    "smallint": TypeCode.SMALLINT,
    "int": TypeCode.INT,
    "bigint": TypeCode.BIGINT,
    "float": TypeCode.FLOAT,
    "double": TypeCode.DOUBLE,
    "binary": TypeCode.VARCHAR,
    "varchar": TypeCode.VARCHAR,
    "varbinary": TypeCode.VARBINARY,
    "nchar": TypeCode.NCHAR,
    **{name: code for name, code in _SUFFIXES.items() if name[0] in "if" and len(name) > 1},
}
_FLOAT_MAX = 3.4028234663852886e38


class Value(NamedTuple):
    """A value; a string's size in the schema is that of its UTF-8."""

    type: TypeCode
    value: bool | int | float | str | bytes

    @property
    def size(self) -> int:
        """Bytes of a string or binary, 0 of anything else."""
        if isinstance(self.value, str):
            return len(self.value.encode())
        return len(self.value) if isinstance(self.value, bytes) else 0


_Head: TypeAlias = tuple[str, dict[str, Value]]


@dataclass(frozen=True, slots=True)
class Point:
    """One line.

    Attributes:
        time: Nanoseconds since 1970; None is now.
    """

    measurement: str
    tags: dict[str, Value]
    fields: dict[str, Value]
    time: int | None


def parse_points(data: str, protocol: SchemalessProtocol, precision: str) -> list[Point]:
    """Read all lines, or the JSON.

    Args:
        data: The text.
        protocol: What it is.
        precision: Unit of the times in InfluxDB lines; an unknown one counts as ``ns``.

    Raises:
        Fault: A line is wrong.
    """
    if protocol is SchemalessProtocol.JSON:
        return _parse_json(data)
    lines = [line for line in data.split("\n") if line.strip()]
    if protocol is SchemalessProtocol.TELNET:
        return [_telnet_point(line) for line in lines]
    unit = _UNIT_NS.get(precision, 1)
    heads: dict[str, _Head] = {}
    return [_line_point(line, unit, heads) for line in lines if not line.startswith("#")]


def count_lines(data: str, protocol: int) -> int:
    """The number of lines that TDengine reports, which counts those of JSON too."""
    lines = data.split("\n")
    if not lines[-1]:
        lines.pop()
    if protocol == SchemalessProtocol.LINE:
        return sum(not line.startswith("#") for line in lines)
    return len(lines)


def _fault(why: str, rest: str | None = None, code: int = _BAD_DATA) -> Fault:
    return Fault(code, why if rest is None else f"{why}:{rest}")


def _line_point(line: str, unit: int, heads: dict[str, _Head]) -> Point:
    """Read a line; ``heads`` are those read before, as many lines begin alike."""
    line = line.lstrip(" ")
    position = _end(_HEAD, line, 0)
    head = heads.get(line[:position])
    if head is None:
        head = heads[line[:position]] = _head(line)
    name, tags = head
    position = _skip(line, position)
    fields: dict[str, Value] = {}
    if position == len(line):
        raise _fault("SML line cols is empty")
    while True:
        key, position = _key(line, position)
        found = _FIELD_VALUE.match(line, position)
        if found is None:
            quoted = line[position : position + 2].lstrip("LlGgBb").startswith('"')
            why = "unbalanced quotes" if quoted else "invalid value"
            raise _fault(f"SML line {why}", line[position:])
        _put(fields, key, _value(found[0], line[position:]))
        position = found.end()
        if not line.startswith(",", position):
            break
        position += 1
    _check_apart(tags, fields)
    return Point(name, tags, fields, _line_time(line[position:].split(), unit))


def _head(line: str) -> _Head:
    """The measurement and the tags in front of the first space."""
    match = _MEASUREMENT.match(line)
    name = _MEASUREMENT_ESCAPE.sub(r"\1", match[0]) if match is not None else ""
    if match is None or len(name.encode()) > MAX_NAME:
        raise _fault("SML line measure is empty or too large than 192", code=0x021B)
    position = match.end()
    tags: dict[str, Value] = {}
    while line.startswith(",", position):
        key, position = _key(line, position + 1)
        start = position
        position = _end(_PART, line, start)
        if position == start:
            raise _fault("SML line invalid value", line[start:])
        if line.startswith("=", position):
            raise _fault("SML line invalid data", line[position:])
        text = _ESCAPE.sub(r"\1", line[start:position])
        _put(tags, key, Value(TypeCode.NCHAR, text))
    return name, tags


def _end(pattern: re.Pattern[str], line: str, position: int) -> int:
    match = pattern.match(line, position)
    return match.end() if match is not None else position


def _skip(line: str, position: int) -> int:
    while line.startswith(" ", position):
        position += 1
    return position


def _key(line: str, position: int) -> tuple[str, int]:
    """A key in front of ``=``, and where its value begins."""
    end = _end(_PART, line, position)
    if not line.startswith("=", end):
        raise _fault("SML line invalid data", line[end:])
    key = _ESCAPE.sub(r"\1", line[position:end])
    if not key or len(key.encode()) > MAX_SHORT_NAME:
        raise _fault("SML line invalid key or key is too long than 64", line[position:])
    return key, end + 1


def _put(values: dict[str, Value], key: str, value: Value) -> None:
    if key in values:
        raise _fault("SML duplicate key", key, 0x021D)
    values[key] = value


def _check_apart(tags: Mapping[str, Value], fields: Mapping[str, Value]) -> None:
    both = tags.keys() & fields.keys()
    if both:
        raise _fault("SML duplicate key", min(both), 0x021D)


def _line_time(words: list[str], unit: int) -> int | None:
    if not words or words[0] == "0":
        return None
    if not _INTEGER.fullmatch(words[0]):
        raise _fault("SML line invalid timestamp", words[0])
    time = int(words[0]) * unit
    if time < 0:
        raise Fault(_BAD_TIME, "Invalid timestamp format")
    return time


def _value(text: str, rest: str) -> Value:
    """A field's value, by its quotes or its suffix."""
    if text.endswith('"') and len(text) > 1:
        return _quoted(text, rest)
    word = _BOOL.fullmatch(text)
    if word is not None:
        return Value(TypeCode.BOOL, word[1] is not None)
    match = _NUMBER.fullmatch(text)
    type = _SUFFIXES.get((match[2] or "f64").lower()) if match is not None else None
    number = _number(match[1], type) if match is not None and type is not None else None
    if number is None:
        raise _fault("SML line parse value failed", rest, _BAD_VALUE)
    return number


def _quoted(text: str, rest: str) -> Value:
    start = text.index('"')
    kind = text[:start].lower()
    content = _TEXT_ESCAPE.sub(r"\1", text[start + 1 : -1])
    if kind in ("", "l"):
        return Value(TypeCode.NCHAR if kind else TypeCode.VARCHAR, content)
    if kind == "g":
        shape = geometry.wkb(content)
        if shape is not None:
            return Value(TypeCode.GEOMETRY, shape)
    elif kind == "b":
        raw = _binary(text[start + 1 : -1], content)
        if raw is not None:
            return Value(TypeCode.VARBINARY, raw)
    raise _fault("SML line parse value failed", rest, _BAD_VALUE)


def _binary(written: str, content: str) -> bytes | None:
    if not written.startswith("\\x"):
        return content.encode()
    try:
        return bytes.fromhex(written[2:])
    except ValueError:
        return None


def _number(text: str, type: TypeCode) -> Value | None:
    """A number of a type; None if it is out of range."""
    number = float(text)
    if type not in INTEGER_RANGES:
        limit = _FLOAT_MAX if type is TypeCode.FLOAT else math.inf
        return Value(type, number) if abs(number) < limit else None
    if not math.isfinite(number):
        return None
    low, high = INTEGER_RANGES[type]
    integer = int(text) if text.lstrip("+-").isdigit() else int(number)
    return Value(type, integer) if low <= integer <= high else None


def _telnet_point(line: str) -> Point:
    words = line.split()
    if len(words) < 2:
        raise _fault("SML telnet invalid data", line)
    if len(words) < 4:
        raise _fault("SML telnet invalid data", line, _BAD_VALUE)
    name, time, value, *pairs = words
    if len(name.encode()) > MAX_NAME:
        raise _fault("SML telnet invalid metric", line, 0x021B)
    tags: dict[str, Value] = {}
    for pair in pairs:
        key, sign, text = pair.partition("=")
        if not key or not sign or not text or "=" in text:
            raise _fault("SML telnet invalid data", pair)
        if len(key.encode()) > MAX_SHORT_NAME:
            raise _fault("SML telnet invalid key", pair)
        _put(tags, key, Value(TypeCode.NCHAR, text))
    fields = {_TELNET_VALUE: _value(value, value)}
    _check_apart(tags, fields)
    return Point(name, tags, fields, _digits_time(time))


def _digits_time(text: str) -> int | None:
    """A time of ten digits is in seconds, one of thirteen in milliseconds; 0 is now."""
    if text == "0":
        return None
    unit = _DIGITS_NS.get(len(text))
    if unit is None or not text.isdecimal():
        raise Fault(_BAD_TIME, "Invalid timestamp format")
    return int(text) * unit


def _parse_json(data: str) -> list[Point]:
    try:
        loaded = json.loads(data, parse_int=_json_int)
    except (ValueError, RecursionError):
        raise Fault(0x0221, "Invalid JSON format") from None
    members = loaded if isinstance(loaded, list) else [loaded]
    return [_json_point(member) for member in members]


def _json_int(text: str) -> int | float:
    """TDengine reads every number as a double, so large integers lose digits."""
    number = float(text)
    return int(number) if math.isfinite(number) else number


def _json_point(member: object) -> Point:
    if not isinstance(member, dict):
        raise Fault(0x0221, "Invalid JSON format")
    name, tags = member.get("metric"), member.get("tags")
    if not isinstance(name, str) or not isinstance(tags, dict) or "value" not in member:
        raise Fault(0x0221, "Invalid JSON format")
    if not name or len(name.encode()) > MAX_NAME:
        raise _fault("SML json invalid metric", name, 0x021B)
    if any(not key or len(key.encode()) > MAX_SHORT_NAME for key in tags):
        raise _fault("SML json invalid tag key", code=0x021B)
    values = {key: _json_value(value) for key, value in tags.items()}
    fields = {_TELNET_VALUE: _json_value(member["value"])}
    _check_apart(values, fields)
    return Point(name, values, fields, _json_time(member.get("timestamp")))


def _json_time(value: object) -> int | None:
    unit = None
    if isinstance(value, dict):
        unit = _UNIT_NS.get(str(value.get("type")).lower())
        value = value.get("value")
        if unit is None:
            raise Fault(0x0222, "Invalid JSON data type")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Fault(0x0222, "Invalid JSON data type")
    if unit is None:
        return _digits_time(str(int(value)))
    if value < 0:
        raise Fault(_BAD_TIME, "Invalid timestamp format")
    return int(value) * unit if value else None


def _json_value(value: object) -> Value:
    if isinstance(value, dict):
        return _typed_json_value(value.get("value"), str(value.get("type")).lower())
    if isinstance(value, bool):
        return Value(TypeCode.BOOL, value)
    if isinstance(value, int | float):
        return Value(TypeCode.DOUBLE, float(value))
    if isinstance(value, str):
        return Value(TypeCode.VARCHAR, value)
    raise Fault(0x0222, "Invalid JSON data type")


def _typed_json_value(value: object, name: str) -> Value:
    type = _JSON_TYPES.get(name)
    found: Value | None = None
    if type in (TypeCode.VARCHAR, TypeCode.NCHAR) and isinstance(value, str):
        found = Value(type, value)
    elif type is TypeCode.VARBINARY and isinstance(value, str):
        raw = _binary(value, value)
        found = Value(type, raw) if raw is not None else None
    elif type is TypeCode.BOOL and isinstance(value, bool):
        found = Value(type, value)
    elif type is not None and isinstance(value, int | float) and not isinstance(value, bool):
        found = _number(repr(value), type)
    if found is None:
        raise Fault(0x0222, "Invalid JSON data type")
    return found


def required(values: Iterable[Mapping[str, Value]]) -> dict[str, tuple[TypeCode, int]]:
    """The types that columns must have for all these values, with the size of the longest.

    Raises:
        Fault: One name has values of several types.
    """
    needs: dict[str, tuple[TypeCode, int]] = {}
    for one in values:
        for name, value in one.items():
            type, size = needs.get(name, (value.type, 0))
            if type is not value.type:
                raise other_type(name)
            needs[name] = (type, max(size, value.size))
    return needs


def other_type(name: str) -> Fault:
    """The refusal of a value whose column has another type."""
    return Fault(0x3004, f"Not the same type like before:{name}")

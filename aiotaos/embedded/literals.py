"""Values as INSERT and TAGS write them, turned into what DuckDB stores."""

from __future__ import annotations

import decimal
import json
import math
import re
from dataclasses import dataclass
from datetime import tzinfo

from ..types import DECIMALS, Precision, TypeCode
from . import geometry, times
from .columns import FLOATS, INTEGERS, SIZED, TEXTS, UNSIGNED, Column
from .faults import Fault, too_long, unsupported
from .lexer import unescape

INTEGER_RANGES = {
    TypeCode.TINYINT: (-(2**7), 2**7 - 1),
    TypeCode.SMALLINT: (-(2**15), 2**15 - 1),
    TypeCode.INT: (-(2**31), 2**31 - 1),
    TypeCode.BIGINT: (-(2**63), 2**63 - 1),
    TypeCode.UTINYINT: (0, 2**8 - 1),
    TypeCode.USMALLINT: (0, 2**16 - 1),
    TypeCode.UINT: (0, 2**32 - 1),
    TypeCode.UBIGINT: (0, 2**64 - 1),
}
_TYPE_WORDS = {
    TypeCode.UTINYINT: "unsigned tinyint",
    TypeCode.USMALLINT: "unsigned smallint",
    TypeCode.UINT: "unsigned int",
    TypeCode.UBIGINT: "unsigned bigint",
}
_INTEGER = re.compile(r"[-+]?\d+", re.ASCII)
_HEX = re.compile(r"[-+]?0[xX][0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)
_MOMENT = re.compile(
    r"(?:(now|today)(?:\s*\(\s*\))?|([-+]?\d+)(?![bunasmhdwy]))(?:\s*([-+])\s*(\d+[buasmhdw]))?"
    r"|(\d+[buasmhdw])\s*\+\s*(?:(now|today)(?:\s*\(\s*\))?)",
    re.IGNORECASE,
)
_EXPONENT = re.compile(r"[eE][-+]?\d\d")
_FLOAT_MAX = 3.4028234663852886e38
_JSON_MAX = 4095
_WHOLE_MAX = 2**53
_EXACT = decimal.Context(prec=80, rounding=decimal.ROUND_HALF_UP)


class BadValueError(Exception):
    """A value that its column cannot take; the caller knows where it stands."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True, slots=True)
class Clock:
    """What the meaning of a time depends on."""

    zone: tzinfo
    precision: Precision
    now: int

    @classmethod
    def at_present(cls, zone: tzinfo, precision: Precision) -> Clock:
        return cls(zone, precision, times.now(precision))


def convert(token: str, column: Column, clock: Clock) -> object:
    """Turn a value as written, quotes included, into the one to store.

    Raises:
        BadValueError: It does not suit the type.
        Fault: It is too long, or overflows a DECIMAL.
    """
    code = column.type.code
    quoted = token[0] in "'\""
    text = token[1:-1] if quoted else token
    if text[:4].lower() == "null" and len(text) == 4 and not (quoted and code in TEXTS):
        return None
    if code in SIZED or code in (TypeCode.BLOB, TypeCode.JSON):
        return _variable(text, token[0] if quoted else "", column)
    if code is TypeCode.TIMESTAMP:
        return moment(unescape(text, token[0]) if quoted else text, quoted, clock)
    if not quoted and not _FLOAT.fullmatch(text) and not _HEX.fullmatch(text):
        if text.lower() not in ("true", "false"):
            raise BadValueError("invalid data or symbol")
        if code is not TypeCode.BOOL:
            raise BadValueError(_invalid(code))
    if code is TypeCode.BOOL:
        return _bool(text)
    if code in INTEGERS:
        return _integer(text, code)
    if code in FLOATS:
        return _float(text, code)
    return decimal_text(text, column)


def _invalid(code: TypeCode) -> str:
    if code in FLOATS:
        return "illegal float data"
    if code in DECIMALS:
        return "invalid decimal data"
    return f"invalid {_TYPE_WORDS.get(code, code.name.lower())} data"


def _bool(text: str) -> bool:
    word = text.lower()
    if word in ("true", "false"):
        return word == "true"
    if not _FLOAT.fullmatch(text):
        raise BadValueError("invalid bool data")
    return float(text) != 0


def _integer(text: str, code: TypeCode) -> int:
    low, high = INTEGER_RANGES[code]
    if _INTEGER.fullmatch(text):
        value = int(text)
    elif _HEX.fullmatch(text):
        value = int(text, 16)
    elif _FLOAT.fullmatch(text):
        rounded = decimal.Decimal(text).to_integral_value(decimal.ROUND_HALF_UP)
        value = int(rounded) if rounded.is_finite() else high + 1
    else:
        raise BadValueError(_invalid(code))
    if low <= value <= high:
        return value
    negative = code in UNSIGNED and value < 0
    if negative or code in (TypeCode.BIGINT, TypeCode.UBIGINT):
        raise BadValueError(_invalid(code))
    raise BadValueError(f"{_TYPE_WORDS.get(code, code.name.lower())} data overflow")


def _float(text: str, code: TypeCode) -> float:
    if _HEX.fullmatch(text):
        return float(int(text, 16))
    if not _FLOAT.fullmatch(text):
        raise BadValueError("illegal float data")
    value = float(text)
    if code is TypeCode.FLOAT and abs(value) > _FLOAT_MAX:
        raise BadValueError("illegal float data")
    if math.isinf(value):
        raise BadValueError("illegal double data")
    return value


def decimal_text(text: str, column: Column) -> str:
    """The digits; DuckDB casts them, which is exact once they are rounded here."""
    if not _FLOAT.fullmatch(text) or _EXPONENT.search(text):
        raise unsupported(f"{text!r} as a DECIMAL")
    type = column.type
    value = _EXACT.quantize(decimal.Decimal(text), decimal.Decimal(1).scaleb(-type.scale))
    if value.copy_abs() >= decimal.Decimal(10) ** (type.precision - type.scale):
        raise Fault(0x013D, "Decimal value overflow")
    return format(value, "f")


def _variable(text: str, quote: str, column: Column) -> object:
    type = column.type
    if type.code in TEXTS:
        return _text(text, quote, column)
    if not quote:
        raise BadValueError("invalid data or symbol")
    if type.code is TypeCode.JSON:
        return json_text(unescape(text, quote))
    if type.code is TypeCode.GEOMETRY:
        value = geometry.wkb(unescape(text, quote))
        if value is None:
            raise BadValueError("invalid or unsupported geometry")
    elif text.startswith("\\x"):
        try:
            value = bytes.fromhex(text[2:])
        except ValueError:
            raise Fault(0x266A, f"Invalid varbinary value: {column.name}") from None
    else:
        value = unescape(text, quote).encode()
    if len(value) > type.length:
        raise too_long(column.name)
    return value


def _text(text: str, quote: str, column: Column) -> str:
    if quote:
        text = unescape(text, quote)
    elif not _FLOAT.fullmatch(text) and text.lower() not in ("true", "false"):
        raise BadValueError("invalid data or symbol")
    size = len(text.encode()) if column.type.code is TypeCode.VARCHAR else len(text)
    if size > column.type.length:
        raise too_long(column.name)
    return text


def json_text(text: str) -> str | None:
    """A JSON tag as it is stored.

    Raises:
        BadValueError: It is not an object of plain values, or too long.
    """
    if len(text.encode()) > _JSON_MAX:
        raise BadValueError("json string too long than 4095")
    if not text.strip():
        return None
    try:
        value = json.loads(text, object_pairs_hook=_first_of_each, parse_int=float)
    except ValueError:
        raise BadValueError("json parse error") from None
    if not isinstance(value, dict):
        raise BadValueError("json parse error")
    if any(isinstance(member, dict | list) for member in value.values()):
        raise BadValueError("invalidate json value")
    members = {key: _json_member(member) for key, member in value.items()}
    if not members:
        return None
    return json.dumps(members, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _first_of_each(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Of several members of one name TDengine keeps the first."""
    return dict(reversed(pairs))


def _json_member(value: object) -> object:
    """Every number is a DOUBLE; whole ones are written without a point."""
    whole = isinstance(value, float) and value.is_integer() and abs(value) < _WHOLE_MAX
    return int(value) if whole and isinstance(value, float) else value


def moment(text: str, quoted: bool, clock: Clock) -> int:
    """Ticks of a timestamp: a number, a text, or ``now`` with a duration."""
    if quoted:
        ticks = times.parse_time(text, clock.zone, clock.precision)
        if ticks is not None:
            return ticks
        if not _INTEGER.fullmatch(text):
            raise BadValueError("invalid timestamp")
    match = _MOMENT.fullmatch(text)
    if match is None:
        raise BadValueError("invalid timestamp")
    word, number, sign, length, first_length, second_word = match.groups()
    shift = times.duration(length or first_length or "0s", clock.precision) or 0
    if number is not None:
        start = int(number)
        if not -(2**63) <= start < 2**63:
            raise BadValueError("invalid timestamp")
    elif (word or second_word).lower() == "now":
        start = clock.now
    else:
        start = times.today(clock.zone, clock.precision)
    return start - shift if sign == "-" else start + shift

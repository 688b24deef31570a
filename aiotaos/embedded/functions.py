"""Scalar functions and CAST: result types and DuckDB's words for them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from string import ascii_lowercase, ascii_uppercase
from typing import TYPE_CHECKING, TypeAlias

from ..types import TypeCode
from . import times
from .columns import (
    BIGINT,
    DOUBLE,
    FLOATS,
    INTEGERS,
    NUMBERS,
    TEXTS,
    TIMESTAMP,
    UNSIGNED,
    SqlType,
    text,
)
from .faults import Fault, bad_parameter, unsupported
from .nodes import Call
from .sql import Sql

if TYPE_CHECKING:
    from .expressions import RowCompiler

Function: TypeAlias = "Callable[[RowCompiler, str, list[Sql]], Sql]"

_DAY_UNITS = ("1d", "1w")
_ISO_LENGTH = 62
_OTHER_NAMES = """
    apercentile ascii bottom char concat_ws crc32 cols csum date dayofweek degrees derivative diff
    elapsed exp find_in_set forecast generate_surrogate_key greatest histogram hyperloglog interp
    irate lag lead least leastsquares like_in_set mavg mod mode percentile pi position radians rand
    regexp_in_set repeat replace sample statecount stateduration st_astext st_contains
    st_containsproperly st_covers st_equals st_geomfromtext st_intersects st_makepoint st_touches
    substring substring_index tail timediff to_base64 to_char to_json to_timestamp
    to_unixtimestamp top trim truncate trunc twa unique week weekday weekofyear md5 sha sha1 sha2
    base64 unbase64 hex unhex bin client_version current_user user server_status host
"""
_OTHERS = frozenset(_OTHER_NAMES.split())


def scalar(compiler: RowCompiler, call: Call) -> Sql:
    """Translate a call of a scalar function."""
    function = _FUNCTIONS.get(call.name)
    if function is None:
        if call.name in _OTHERS or call.name in AGGREGATES:
            raise unsupported(f"{call.name}() here")
        raise Fault(0x0374, "Func not exists")
    args = [compiler.compile(arg) for arg in call.args]
    if call.name == "to_char" and times.zone_name(compiler.context.zone) != "UTC":
        return _to_char_in_zone(compiler, call, args)
    return function(compiler, call.name, args)


_AGGREGATE_NAMES = """
    count sum avg min max spread stddev stddev_pop var_pop first last last_row mode percentile
    elapsed leastsquares
"""
AGGREGATES = frozenset(_AGGREGATE_NAMES.split())


def _expect(name: str, args: list[Sql], *counts: int) -> None:
    if len(args) not in counts:
        raise Fault(0x2801, f"Invalid number of parameters : {name}")


def _require(name: str, operand: Sql, codes: frozenset[TypeCode]) -> None:
    if operand.is_null:
        raise unsupported(f"{name}(NULL)")
    if operand.type.code not in codes:
        raise bad_parameter(name)


def _double(operand: Sql) -> str:
    return f"CAST({operand.text} AS DOUBLE)"


def _math(template: str, domain: str = "") -> Function:
    """A function from DOUBLE to DOUBLE; outside of its domain it is NULL."""

    def translate(_: RowCompiler, name: str, args: list[Sql]) -> Sql:
        _expect(name, args, 1)
        _require(name, args[0], NUMBERS)
        x = _double(args[0])
        result = template.format(x=x)
        if domain:
            result = f"CASE WHEN {domain.format(x=x)} THEN {result} END"
        return Sql(result, DOUBLE)

    return translate


def _rounding(_: RowCompiler, name: str, args: list[Sql]) -> Sql:
    """abs, ceil, floor, round, sign: they keep the type."""
    if name == "round" and len(args) == 2:
        raise unsupported("round() to digits")
    _expect(name, args, 1)
    operand = args[0]
    _require(name, operand, NUMBERS)
    if operand.type.code in INTEGERS and name in ("ceil", "floor", "round"):
        return Sql(operand.text, operand.type)
    return Sql(f"CAST({name}({operand.text}) AS {operand.type.duckdb})", operand.type)


def _pow(_: RowCompiler, name: str, args: list[Sql]) -> Sql:
    _expect(name, args, 2)
    for arg in args:
        _require(name, arg, NUMBERS)
    power = f"pow({_double(args[0])}, {_double(args[1])})"
    return Sql(f"CASE WHEN isfinite({power}) THEN {power} END", DOUBLE)


def _log(_: RowCompiler, name: str, args: list[Sql]) -> Sql:
    _expect(name, args, 1, 2)
    for arg in args:
        _require(name, arg, NUMBERS)
    x = _double(args[0])
    result, domain = f"ln({x})", f"{x} > 0"
    if len(args) > 1:
        base = _double(args[1])
        result, domain = f"ln({x}) / ln({base})", f"{x} > 0 AND {base} > 0 AND {base} <> 1"
    return Sql(f"CASE WHEN {domain} THEN {result} END", DOUBLE)


def _case_of(_: RowCompiler, name: str, args: list[Sql]) -> Sql:
    _expect(name, args, 1)
    _require(name, args[0], TEXTS)
    old, new = ascii_uppercase, ascii_lowercase
    if name == "upper":
        old, new = new, old
    return Sql(f"translate({args[0].text}, '{old}', '{new}')", args[0].type)


def _trim(_: RowCompiler, name: str, args: list[Sql]) -> Sql:
    _expect(name, args, 1)
    _require(name, args[0], TEXTS)
    type, literal = args[0].type, args[0].literal
    if literal is not None:
        trimmed = literal.text.lstrip(" ") if name == "ltrim" else literal.text.rstrip(" ")
        type = text(len(trimmed.encode()))
    return Sql(f"{name}({args[0].text}, ' ')", type)


def _length(_: RowCompiler, name: str, args: list[Sql]) -> Sql:
    _expect(name, args, 1)
    _require(name, args[0], TEXTS)
    if name == "char_length":
        size = f"length({args[0].text})"
    elif args[0].type.code is TypeCode.NCHAR:
        size = f"(length({args[0].text}) * 4)"
    else:
        size = f"strlen({args[0].text})"
    return Sql(f"CAST({size} AS BIGINT)", BIGINT)


def _substr(_: RowCompiler, name: str, args: list[Sql]) -> Sql:
    _expect(name, args, 2, 3)
    _require(name, args[0], TEXTS)
    numbers = [_integer(name, arg) for arg in args[1:]]
    if numbers[0] == 0 or min(numbers[1:], default=0) < 0:
        raise unsupported(f"{name}() from 0 or of a negative length")
    tail = "".join(f", {number}" for number in numbers)
    return Sql(f"substr({args[0].text}{tail})", args[0].type)


def _integer(name: str, arg: Sql) -> int:
    if arg.literal is None or arg.literal.kind != "int":
        raise unsupported(f"{name}() with something else than a constant number")
    return int(arg.literal.text)


def _concat(_: RowCompiler, name: str, args: list[Sql]) -> Sql:
    if len(args) < 2:
        raise Fault(0x2801, f"Invalid number of parameters : {name}")
    for arg in args:
        _require(name, arg, TEXTS)
    codes = {arg.type.code for arg in args}
    if codes != {TypeCode.VARCHAR}:
        raise unsupported("concat() of NCHAR")
    length = sum(arg.type.length + 2 for arg in args) - 2
    return Sql(f"({' || '.join(arg.text for arg in args)})", text(length))


def _now(compiler: RowCompiler, name: str, args: list[Sql]) -> Sql:
    _expect(name, args, 0)
    if name == "now":
        ticks = compiler.context.now(compiler.precision)
    else:
        ticks = times.today(compiler.context.zone, compiler.precision)
    return Sql(f"CAST({ticks} AS BIGINT)", TIMESTAMP)


def _constant(read: Callable[[RowCompiler], str | None]) -> Function:
    def translate(compiler: RowCompiler, name: str, args: list[Sql]) -> Sql:
        _expect(name, args, 0)
        value = read(compiler)
        if value is None:
            return Sql("CAST(NULL AS VARCHAR)", text(63))
        return Sql(compiler.context.parameters.text(value), text(len(value.encode())))

    return translate


def _ticks(compiler: RowCompiler, name: str, operand: Sql) -> str:
    literal = operand.literal
    if literal is not None and literal.kind == "string":
        zone = compiler.context.zone
        if name != "cast" and times.zone_name(zone) != "UTC":
            raise unsupported(f"a time as text in {name}(), in another time zone than UTC")
        ticks = times.parse_time(literal.text, zone, compiler.precision)
        if ticks is None:
            raise unsupported(f"the time {literal.text!r} in {name}()")
        return f"CAST({ticks} AS BIGINT)"
    if operand.type.code not in (TypeCode.TIMESTAMP, TypeCode.BIGINT):
        raise bad_parameter(name)
    return operand.text


def _timetruncate(compiler: RowCompiler, name: str, args: list[Sql]) -> Sql:
    """Cut off to a unit; days and weeks are those of the present offset of the session's zone."""
    _expect(name, args, 2, 3)
    ticks = _ticks(compiler, name, args[0])
    unit = args[1].literal
    if unit is None or unit.kind != "duration" or not unit.text.startswith("1"):
        raise unsupported(f"{name}() with this unit")
    length = times.duration(unit.text, compiler.precision)
    if not length or len(unit.text) > len("1d"):
        raise unsupported(f"{name}() with this unit")
    use_zone = len(args) < 3 or _integer(name, args[2]) != 0
    shift = 0
    if unit.text in _DAY_UNITS and use_zone:
        second = compiler.precision.ticks_per_second
        shift = times.standard_offset(compiler.context.zone) * second
    return Sql(f"({ticks} - ({ticks} + {shift}) % {length})", TIMESTAMP)


def _to_iso8601(compiler: RowCompiler, name: str, args: list[Sql]) -> Sql:
    _expect(name, args, 1, 2)
    if args[0].type.code is not TypeCode.TIMESTAMP:
        raise unsupported(f"{name}() of {args[0].type.code.sql_name}")
    if len(args) > 1:
        literal = args[1].literal
        suffix = literal.text if literal is not None else ""
        offset = times.fixed_offset(suffix)
        if offset is None or offset % 3600:
            raise unsupported(f"the zone {suffix!r} in {name}()")
    else:
        offset = times.standard_offset(compiler.context.zone)
        suffix = f"{'-' if offset < 0 else '+'}{abs(offset) // 3600:02}{abs(offset) // 60 % 60:02}"
    second = compiler.precision.ticks_per_second
    ticks = f"({args[0].text} + {offset * second})"
    seconds = f"((({ticks} % {second}) + {second}) % {second})"
    digits = len(str(second)) - 1
    moment = f"make_timestamp(({ticks} - {seconds}) // {second} * 1000000)"
    parameter = compiler.context.parameters.text(suffix)
    fraction = f"lpad(CAST({seconds} AS VARCHAR), {digits}, '0')"
    result = f"(strftime({moment}, '%Y-%m-%dT%H:%M:%S.') || {fraction} || {parameter})"
    return Sql(result, text(_ISO_LENGTH))


def _timediff(compiler: RowCompiler, name: str, args: list[Sql]) -> Sql:
    _expect(name, args, 2, 3)
    difference = f"({_ticks(compiler, name, args[0])} - {_ticks(compiler, name, args[1])})"
    if len(args) == 2:
        return Sql(difference, BIGINT)
    unit = args[2].literal
    length = (
        times.duration(unit.text, compiler.precision)
        if unit is not None and unit.kind == "duration" and unit.text.startswith("1")
        else None
    )
    if not length:
        raise unsupported(f"{name}() with this unit")
    return Sql(f"({difference} // {length})", BIGINT)


def _to_unixtimestamp(compiler: RowCompiler, name: str, args: list[Sql]) -> Sql:
    _expect(name, args, 1)
    if args[0].literal is None:
        raise unsupported(f"{name}() of something else than a constant")
    return Sql(_ticks(compiler, name, args[0]), BIGINT)


_CHAR_FORMATS = {"yyyy-mm-dd hh24:mi:ss": "%Y-%m-%d %H:%M:%S", "yyyy-mm-dd": "%Y-%m-%d"}
_CHAR_LENGTH = 4094


def _to_char(compiler: RowCompiler, name: str, args: list[Sql]) -> Sql:
    """Times as text, in the server's own zone, which is UTC."""
    _expect(name, args, 2)
    literal = args[1].literal
    pattern = _CHAR_FORMATS.get(literal.text) if literal is not None else None
    if pattern is None or args[0].type.code is not TypeCode.TIMESTAMP:
        raise unsupported(f"this use of {name}()")
    second = compiler.precision.ticks_per_second
    ticks = args[0].text
    seconds = f"(({ticks} - ((({ticks} % {second}) + {second}) % {second})) // {second})"
    moment = f"make_timestamp({seconds} * 1000000)"
    return Sql(f"strftime({moment}, '{pattern}')", text(_CHAR_LENGTH))


def _to_char_in_zone(compiler: RowCompiler, call: Call, args: list[Sql]) -> Sql:
    """TDengine's client computes constants, in the zone of the session; its server all else."""
    if not args or compiler.has_columns(call.args[0]):
        return _to_char(compiler, call.name, args)
    ticks = compiler.ticks_of(call.args[0])
    pattern = _CHAR_FORMATS.get(_literal_text(args[-1]))
    if ticks is None or pattern is None or len(args) != 2:
        raise unsupported("this use of to_char()")
    seconds = ticks // compiler.precision.ticks_per_second
    moment = datetime.fromtimestamp(seconds, compiler.context.zone)
    return Sql(compiler.context.parameters.text(moment.strftime(pattern)), text(_CHAR_LENGTH))


def _literal_text(operand: Sql) -> str:
    return operand.literal.text if operand.literal is not None else ""


_FUNCTIONS: dict[str, Function] = {
    "abs": _rounding,
    "ceil": _rounding,
    "floor": _rounding,
    "round": _rounding,
    "sign": _rounding,
    "pow": _pow,
    "power": _pow,
    "log": _log,
    "ln": _math("ln({x})", "{x} > 0"),
    "exp": _math("exp({x})", "{x} < 709"),
    "sqrt": _math("sqrt({x})", "{x} >= 0"),
    "sin": _math("sin({x})"),
    "cos": _math("cos({x})"),
    "tan": _math("tan({x})"),
    "asin": _math("asin({x})", "{x} BETWEEN -1 AND 1"),
    "acos": _math("acos({x})", "{x} BETWEEN -1 AND 1"),
    "atan": _math("atan({x})"),
    "lower": _case_of,
    "upper": _case_of,
    "ltrim": _trim,
    "rtrim": _trim,
    "length": _length,
    "char_length": _length,
    "substr": _substr,
    "concat": _concat,
    "now": _now,
    "today": _now,
    "timetruncate": _timetruncate,
    "timediff": _timediff,
    "to_iso8601": _to_iso8601,
    "to_unixtimestamp": _to_unixtimestamp,
    "to_char": _to_char,
    "timezone": _constant(lambda compiler: times.describe_zone(compiler.context.zone)),
    "database": _constant(lambda compiler: compiler.context.database or None),
    "server_version": _constant(lambda compiler: compiler.context.version),
    "client_version": _constant(lambda compiler: compiler.context.version),
}


def wrapped(value: str, type: SqlType) -> str:
    """An integer as one of another width: what is too large wraps around."""
    size = 2 ** (type.length * 8)
    rest = f"((CAST({value} AS HUGEINT) % {size} + {size}) % {size})"
    if type.code not in UNSIGNED:
        rest = f"CASE WHEN {rest} >= {size // 2} THEN {rest} - {size} ELSE {rest} END"
    return f"CAST({rest} AS {type.duckdb})"


def cast(compiler: RowCompiler, operand: Sql, type: SqlType) -> Sql:
    """Translate CAST; numbers are cut, not rounded, when they become integers."""
    source, target = operand.type.code, type.code
    literal = operand.literal
    if operand.is_null:
        return Sql(f"CAST(NULL AS {type.duckdb})", type)
    if target is TypeCode.TIMESTAMP and literal is not None and literal.kind == "string":
        return Sql(_ticks(compiler, "cast", operand), type)
    simple = NUMBERS | {TypeCode.BOOL, TypeCode.TIMESTAMP}
    if source in simple and target in INTEGERS | {TypeCode.TIMESTAMP}:
        if source in FLOATS:
            return Sql(f"CAST(trunc({operand.text}) AS {type.duckdb})", type)
        return Sql(wrapped(operand.text, type), type)
    if source in NUMBERS | {TypeCode.BOOL} and target in FLOATS | {TypeCode.BOOL}:
        return Sql(f"CAST({operand.text} AS {type.duckdb})", type)
    if source in INTEGERS | TEXTS and target in TEXTS:
        written = f"CAST({operand.text} AS VARCHAR)"
        if target is TypeCode.VARCHAR and source in TEXTS and type.length < operand.type.length:
            raise unsupported("CAST to a shorter VARCHAR")
        return Sql(f"left({written}, {type.length})", type)
    if source is TypeCode.VARBINARY:
        raise bad_parameter("cast")
    raise unsupported(f"CAST from {source.sql_name} to {target.sql_name}")

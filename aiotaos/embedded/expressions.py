"""Expressions about one row, translated to DuckDB."""

from __future__ import annotations

import re
from collections.abc import Iterator
from string import ascii_lowercase, ascii_uppercase

from ..types import DECIMALS, Precision, TypeCode
from . import functions, times
from .columns import (
    BIGINT,
    BOOL,
    DOUBLE,
    FLOATS,
    INTEGERS,
    JSON,
    NULL,
    NUMBERS,
    TEXTS,
    TIMESTAMP,
    UBIGINT,
    SqlType,
    text,
)
from .faults import Fault, invalid_operation, unsupported
from .nodes import (
    Between,
    Binary,
    Call,
    Case,
    Cast,
    Expr,
    In,
    IsNull,
    Literal,
    Name,
    Star,
    Unary,
)
from .sql import Context, Scope, Sql, Visible

_ARITHMETIC = frozenset("+-*/%")
_COMPARISONS = frozenset({"=", "<>", "<", ">", "<=", ">="})
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)
_HEX = re.compile(r"\\x((?:[0-9a-f]{2})*)")
_PLAIN_PATTERN = re.compile(r"[^\\{}()]*")
WINDOW_COLUMNS = frozenset({"_wstart", "_wend", "_wduration"})
_MAX_BIGINT = 2**63 - 1
_MAX_UBIGINT = 2**64 - 1


def children(expr: Expr) -> tuple[Expr, ...]:
    """The operands of an expression."""
    match expr:
        case Call():
            return expr.args
        case Unary() | IsNull() | Cast():
            return (expr.operand,)
        case Binary():
            return (expr.left, expr.right)
        case Between():
            return (expr.operand, expr.low, expr.high)
        case In():
            return (expr.operand, *expr.values)
        case Case():
            parts = [part for branch in expr.branches for part in branch]
            ends = (expr.operand, expr.otherwise)
            return (*parts, *(end for end in ends if end is not None))
        case _:
            return ()


def walk(expr: Expr) -> Iterator[Expr]:
    """The expression and all that is inside of it."""
    yield expr
    for child in children(expr):
        yield from walk(child)


def conjuncts(expr: Expr | None) -> list[Expr]:
    """The conditions that AND connects."""
    if expr is None:
        return []
    if isinstance(expr, Binary) and expr.operator == "and":
        return [*conjuncts(expr.left), *conjuncts(expr.right)]
    return [expr]


class RowCompiler:
    """Translates expressions over the columns of a scope."""

    context: Context
    scope: Scope

    def __init__(self, context: Context, scope: Scope) -> None:
        self.context = context
        self.scope = scope

    @property
    def precision(self) -> Precision:
        return self.scope.precision

    def compile(self, expr: Expr) -> Sql:
        """Translate an expression.

        Raises:
            Fault: It is wrong, or beyond this server.
        """
        match expr:
            case Literal():
                return self._literal(expr)
            case Name():
                return self.name(expr)
            case Call():
                return self.call(expr)
            case Unary():
                return self._unary(expr)
            case Binary():
                return self._binary(expr)
            case Between():
                low = self.compare(">=", self.compile(expr.operand), self.compile(expr.low))
                high = self.compare("<=", self.compile(expr.operand), self.compile(expr.high))
                return _boolean(f"{low} AND {high}", expr.negated)
            case In():
                operand = self.compile(expr.operand)
                if operand.is_member:
                    raise Fault(0x0110, "Unexpected generic error")
                values = [self.compile(value) for value in expr.values]
                if operand.type.code in INTEGERS and any(v.type.code in FLOATS for v in values):
                    raise unsupported("a fraction among the values of IN for an integer")
                equal = [self.compare("=", operand, value) for value in values]
                return _boolean(" OR ".join(equal), expr.negated)
            case IsNull():
                operand = self.compile(expr.operand)
                null = f"{operand.text} IS NULL"
                if operand.is_member:
                    null += f" OR {operand.text} = 'null'"
                return _boolean(null, expr.negated)
            case Case():
                return self._case(expr)
            case Cast():
                return functions.cast(self, self.compile(expr.operand), expr.type)
            case Star():
                raise unsupported("* inside an expression")

    def condition(self, expr: Expr) -> str:
        """Translate a condition of WHERE or HAVING."""
        for part in conjuncts(expr):
            if any(isinstance(inside, Name | Call) for inside in walk(part)):
                continue
            same = isinstance(part, Binary) and part.operator == "=" and part.left == part.right
            if not same and part != Literal("bool", "true"):
                raise unsupported("a condition without columns")
        return self.boolean(self.compile(expr))

    def boolean(self, operand: Sql) -> str:
        if operand.type.code is not TypeCode.BOOL:
            raise unsupported("a condition that is not BOOL")
        return operand.text

    def name(self, expr: Name) -> Sql:
        if expr.name in WINDOW_COLUMNS:
            raise Fault(0x2658, "_WSTART, _WEND and _WDURATION can only be used in window query")
        return self.column(self.scope.find(expr.table, expr.name))

    def column(self, column: Visible) -> Sql:
        return Sql(column.sql, column.type)

    def call(self, expr: Call) -> Sql:
        return functions.scalar(self, expr)

    def _literal(self, literal: Literal) -> Sql:
        kind, content = literal.kind, literal.text
        if kind == "int":
            value = int(content, 0) if content[:2].lower() == "0x" else int(content)
            if value > _MAX_UBIGINT or value < -_MAX_BIGINT - 1:
                raise unsupported("an integer of more than 64 bits")
            type = BIGINT if value <= _MAX_BIGINT else UBIGINT
            return Sql(f"CAST({value} AS {type.duckdb})", type, literal)
        if kind == "float":
            return Sql(f"CAST({float(content)!r} AS DOUBLE)", DOUBLE, literal)
        if kind == "string":
            parameter = self.context.parameters.text(content)
            return Sql(parameter, text(len(content.encode())), literal)
        if kind == "bool":
            return Sql(content, BOOL, literal)
        if kind == "null":
            return Sql("NULL", NULL, literal)
        ticks = times.duration(content, self.precision)
        if ticks is None:
            raise unsupported("months and years as durations in expressions")
        return Sql(f"CAST({ticks} AS BIGINT)", BIGINT, literal)

    def _unary(self, expr: Unary) -> Sql:
        operand = self.compile(expr.operand)
        if expr.operator == "not":
            return _boolean(self.boolean(operand), negated=True)
        if operand.type.code not in NUMBERS:
            raise unsupported(f"- before a {operand.type.code.sql_name}")
        return Sql(f"(-CAST({operand.text} AS DOUBLE))", DOUBLE)

    def _binary(self, expr: Binary) -> Sql:
        operator = expr.operator
        if operator == "->":
            return self._arrow(expr)
        left, right = self.compile(expr.left), self.compile(expr.right)
        if operator in ("and", "or"):
            return Sql(f"({self.boolean(left)} {operator.upper()} {self.boolean(right)})", BOOL)
        if operator in _COMPARISONS:
            return _boolean(self.compare(operator, left, right))
        if operator in _ARITHMETIC:
            return self._arithmetic(operator, left, right)
        if operator in "&|":
            raise unsupported(f"the operator {operator}")
        return self._pattern(operator, left, right)

    def _pattern(self, operator: str, left: Sql, right: Sql) -> Sql:
        literal = right.literal
        if literal is None or literal.kind != "string":
            raise unsupported(f"{operator.upper()} with something else than a text")
        if operator == "contains":
            if left.type.code is not TypeCode.JSON:
                raise invalid_operation()
            path = self.context.parameters.text(_json_path(literal.text))
            return _boolean(f"json_exists({left.text}, {path})")
        if left.is_member:
            raise unsupported(f"{operator.upper()} with JSON")
        if left.type.code not in TEXTS:
            raise invalid_operation()
        if operator.endswith("like"):
            like = f"{_lower(left.text)} LIKE {_lower(right.text)} ESCAPE '\\'"
            if not literal.text.isascii() and literal.text.upper() != literal.text.lower():
                raise unsupported("letters beyond ASCII in LIKE")
            return _boolean(like, operator.startswith("not"))
        if not _PLAIN_PATTERN.fullmatch(literal.text):
            raise unsupported(f"the pattern {literal.text!r} in MATCH")
        return _boolean(f"regexp_matches({left.text}, {right.text})", operator == "nmatch")

    def _arrow(self, expr: Binary) -> Sql:
        """A member of a JSON tag, as text: numbers with nine digits, strings quoted."""
        left = self.compile(expr.left)
        if left.type.code is not TypeCode.JSON or not isinstance(expr.right, Literal):
            raise invalid_operation()
        path = self.context.parameters.text(_json_path(expr.right.text))
        member = f"json_extract({left.text}, {path})"
        number = f"CASE WHEN {_is_number(member)} THEN printf('%.9f', CAST({member} AS DOUBLE))"
        return Sql(f"{number} ELSE CAST({member} AS VARCHAR) END", JSON, is_member=True)

    def compare(self, operator: str, left: Sql, right: Sql) -> str:
        """Translate a comparison, by TDengine's rules for operands of different types."""
        if left.is_null or right.is_null:
            return "CAST(NULL AS BOOLEAN)"
        if left.literal is not None and right.literal is None:
            turned = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
            return self.compare(turned.get(operator, operator), right, left)
        a, b = left.type.code, right.type.code
        if TypeCode.TIMESTAMP in (a, b):
            return f"({self._ticks(left)} {operator} {self._ticks(right)})"
        if a is TypeCode.JSON:
            return _compare_json(operator, left, right)
        if a in TEXTS and b in TEXTS:
            return f"({left.text} {operator} {right.text})"
        if a in DECIMALS:
            return f"({left.text} {operator} {_as_decimal(left, right)})"
        if a is TypeCode.VARBINARY:
            return f"({left.text} {operator} {_as_bytes(right)})"
        if right.literal is not None and right.literal.kind == "string" and a in NUMBERS:
            right = self._number(right)
            b = right.type.code
        if a not in NUMBERS | {TypeCode.BOOL} or b not in NUMBERS | {TypeCode.BOOL}:
            raise unsupported(f"comparing {a.sql_name} with {b.sql_name}")
        if a is b is TypeCode.BOOL:
            return f"({left.text} {operator} {right.text})"
        common = _common_type(left, right)
        return f"(CAST({left.text} AS {common}) {operator} CAST({right.text} AS {common}))"

    def _ticks(self, operand: Sql) -> str:
        """Read an operand as a time."""
        literal = operand.literal
        if literal is not None and literal.kind == "string":
            ticks = times.parse_time(literal.text, self.context.zone, self.precision)
            if ticks is None:
                raise unsupported(f"the time {literal.text!r}")
            return str(ticks)
        if operand.type.code is TypeCode.TIMESTAMP or operand.type.code in INTEGERS:
            return operand.text
        raise unsupported(f"comparing TIMESTAMP with {operand.type.code.sql_name}")

    def has_columns(self, expr: Expr) -> bool:
        return any(isinstance(part, Name) for part in walk(expr))

    def ticks_of(self, expr: Expr) -> int | None:
        """The value of a constant time, also with durations added; None if it is not constant."""
        if isinstance(expr, Binary) and expr.operator in ("+", "-"):
            left, right = self.ticks_of(expr.left), self.ticks_of(expr.right)
            if left is None or right is None:
                return None
            return left + right if expr.operator == "+" else left - right
        if isinstance(expr, Cast) and expr.type.code is TypeCode.TIMESTAMP:
            return self.ticks_of(expr.operand) if isinstance(expr.operand, Literal) else None
        if isinstance(expr, Call) and expr.name in ("now", "today") and not expr.args:
            zone = self.context.zone
            present = expr.name == "now"
            return (
                self.context.now(self.precision) if present else times.today(zone, self.precision)
            )
        if not isinstance(expr, Literal):
            return None
        if expr.kind == "duration":
            return times.duration(expr.text, self.precision)
        if expr.kind == "string":
            return times.parse_time(expr.text, self.context.zone, self.precision)
        return int(expr.text, 0) if expr.kind == "int" else None

    def _number(self, operand: Sql) -> Sql:
        content = operand.literal.text if operand.literal is not None else ""
        if not _NUMBER.fullmatch(content):
            raise unsupported(f"{content!r} as a number")
        kind = "int" if content.lstrip("+-").isdigit() else "float"
        return self._literal(Literal(kind, content))

    def _arithmetic(self, operator: str, left: Sql, right: Sql) -> Sql:
        a, b = left.type.code, right.type.code
        if TypeCode.TIMESTAMP in (a, b):
            if operator == "-" and a is b:
                raise invalid_operation()
            other = b if a is TypeCode.TIMESTAMP else a
            forward = operator == "+" or (operator == "-" and a is TypeCode.TIMESTAMP)
            if not forward or other not in INTEGERS:
                raise unsupported("this arithmetic with TIMESTAMP")
            return Sql(f"({left.text} {operator} {right.text})", TIMESTAMP)
        for side in (left, right):
            if side.type.code not in NUMBERS and not side.is_null:
                raise unsupported(f"arithmetic with {side.type.code.sql_name}")
        divisor = f"CAST({right.text} AS DOUBLE)"
        if operator in "/%":
            divisor = f"nullif({divisor}, 0)"
        return Sql(f"(CAST({left.text} AS DOUBLE) {operator} {divisor})", DOUBLE)

    def _case(self, expr: Case) -> Sql:
        operand = self.compile(expr.operand) if expr.operand is not None else None
        parts, results = [], []
        for condition, result in expr.branches:
            when = self.compile(condition)
            test = self.boolean(when) if operand is None else self.compare("=", operand, when)
            results.append(self.compile(result))
            parts.append(f"WHEN {test} THEN {results[-1].text}")
        if expr.otherwise is not None:
            results.append(self.compile(expr.otherwise))
            parts.append(f"ELSE {results[-1].text}")
        type = self._common([result for result in results if not result.is_null])
        has_null = expr.otherwise is None or any(result.is_null for result in results)
        if has_null and type.code in TEXTS:
            type = SqlType(type.code, max(type.length, 2))
        return Sql(f"CAST(CASE {' '.join(parts)} END AS {type.duckdb})", type)

    def _common(self, results: list[Sql]) -> SqlType:
        if not results:
            return NULL
        codes = {result.type.code for result in results}
        if len(codes) > 1 or codes & (DECIMALS | {TypeCode.JSON}):
            raise unsupported("CASE with results of several types")
        return SqlType(results[0].type.code, max(result.type.length for result in results))


def _boolean(condition: str, negated: bool = False) -> Sql:
    """A predicate, which in TDengine is true or false and never NULL."""
    inner = f"NOT ({condition})" if negated else condition
    return Sql(f"coalesce({inner}, false)", BOOL)


def _lower(text: str) -> str:
    """LIKE takes no notice of case."""
    return f"translate({text}, '{ascii_uppercase}', '{ascii_lowercase}')"


def _common_type(left: Sql, right: Sql) -> str:
    """The DuckDB type in which two numbers are compared."""
    codes = {left.type.code, right.type.code}
    if codes == {TypeCode.FLOAT} or (
        left.type.code is TypeCode.FLOAT and right.literal is not None
    ):
        return "REAL"
    if codes & FLOATS:
        return "DOUBLE"
    return "HUGEINT"


def _as_bytes(operand: Sql) -> str:
    match = _HEX.fullmatch(operand.literal.text) if operand.literal is not None else None
    if match is None:
        raise unsupported(f"comparing VARBINARY with {operand.type.code.sql_name}")
    return f"from_hex('{match[1]}')"


def _as_decimal(left: Sql, right: Sql) -> str:
    if right.type.code in DECIMALS:
        return right.text
    literal = right.literal
    if literal is None or literal.kind not in ("int", "float") or "e" in literal.text.lower():
        raise unsupported(f"comparing DECIMAL with {right.type.code.sql_name}")
    digits = len(literal.text.partition(".")[2])
    return f"CAST({literal.text} AS DECIMAL(38,{max(digits, left.type.scale)}))"


def _json_path(key: str) -> str:
    if '"' in key or "\\" in key or "*" in key:
        raise unsupported(f"the JSON key {key!r}")
    return f'$."{key}"'


def _is_number(member: str) -> str:
    return f"json_type({member}) IN ('BIGINT', 'UBIGINT', 'HUGEINT', 'DOUBLE')"


def _compare_json(operator: str, left: Sql, right: Sql) -> str:
    literal = right.literal
    if literal is None or not left.is_member:
        raise unsupported("comparing JSON with something else than a constant")
    if literal.kind in ("int", "float"):
        return f"(TRY_CAST({left.text} AS DOUBLE) {operator} CAST({right.text} AS DOUBLE))"
    if literal.kind == "string" and operator in ("=", "<>"):
        quoted = f"CAST(to_json({right.text}) AS VARCHAR)"
        return f"({left.text} {operator} {quoted} AND {left.text} LIKE '\"%')"
    raise unsupported("this comparison with JSON")

"""Expressions: a recursive descent over the words of a statement."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from ..types import TypeCode
from .columns import (
    BLOB_LENGTH,
    FIXED_SIZE,
    JSON_LENGTH,
    SIZED,
    SQL_WORDS,
    UNSIGNED_OF,
    SqlType,
    decimal,
)
from .faults import Fault, syntax_error, unsupported
from .lexer import Token, lower, tokenize
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

_CALCULATIONS = frozenset({"+", "-", "*", "/", "%", "&", "|", "->"})
_COMPARISONS = frozenset({"=", "<>", "!=", "<", ">", "<=", ">="})
_RESERVED_WORDS = """
    and anomaly_window anti as asc asof between by case cast contains count_window desc distinct
    else end event_window every exists fill from full group having in inner insert interval into
    is join left like limit match nmatch not null offset on or order outer partition range right
    select semi session sliding slimit soffset state_window then union using values when where
    with
"""
_RESERVED = frozenset(_RESERVED_WORDS.split())
_NO_PARENTHESES = frozenset({"now", "today"})
_MAX_DECIMAL = 38
Words: TypeAlias = tuple[tuple[str, str], ...]


class Parser:
    """Reads a statement word by word; every refusal names the place.

    Args:
        sql: The statement.
        bound: For each ``?`` the words to read in its place, as kind and text.
    """

    def __init__(self, sql: str, bound: Iterable[Words] = ()) -> None:
        self.sql = lower(sql)
        tokens = tokenize(self.sql)
        self.marks = sum(token.kind == "mark" for token in tokens)
        self._tokens = _filled(tokens, bound)
        self._position = 0

    @property
    def token(self) -> Token:
        return self._tokens[self._position]

    def ahead(self, count: int = 1) -> Token:
        """The word ``count`` places further on, or the end."""
        return self._tokens[min(self._position + count, len(self._tokens) - 1)]

    def advance(self) -> Token:
        token = self.token
        if token.kind != "end":
            self._position += 1
        return token

    def error(self) -> Fault:
        return syntax_error(self.sql[self.token.start :])

    def at_word(self, *words: str) -> bool:
        """Whether the next words are these keywords."""
        return all(
            self.ahead(index).kind == "word" and self.ahead(index).text == word
            for index, word in enumerate(words)
        )

    def accept_word(self, *words: str) -> bool:
        """Pass over these keywords, if all of them are next."""
        if not self.at_word(*words):
            return False
        self._position += len(words)
        return True

    def expect_word(self, *words: str) -> None:
        for word in words:
            if not self.accept_word(word):
                raise self.error()

    def at_sign(self, sign: str) -> bool:
        return self.token.kind == "sign" and self.token.text == sign

    def accept_sign(self, sign: str) -> bool:
        if not self.at_sign(sign):
            return False
        self._position += 1
        return True

    def expect_sign(self, sign: str) -> None:
        if not self.accept_sign(sign):
            raise self.error()

    def expect_end(self) -> None:
        if self.token.kind != "end":
            raise self.error()

    def expect_kind(self, kind: str) -> str:
        if self.token.kind != kind:
            raise self.error()
        return self.advance().text

    def expect_int(self) -> int:
        text = self.expect_kind("number")
        if not text.isdigit():
            self._position -= 1
            raise self.error()
        return int(text)

    def identifier(self) -> str:
        """A name: lower case, or as written between back-ticks."""
        if self.token.kind == "quoted":
            return self.advance().text
        if self.token.kind == "word" and self.token.text not in _RESERVED:
            return self.advance().text
        raise self.error()

    def qualified(self) -> tuple[str | None, str]:
        """``name`` or ``database.name``."""
        name = self.identifier()
        if self.accept_sign("."):
            return name, self.identifier()
        return None, name

    def alias(self) -> str | None:
        if self.accept_word("as"):
            return self.identifier()
        if self.token.kind == "quoted" or (
            self.token.kind == "word" and self.token.text not in _RESERVED
        ):
            return self.identifier()
        return None

    def type(self) -> SqlType:
        """A column type, with its length."""
        code = SQL_WORDS.get(self.token.text) if self.token.kind == "word" else None
        if code is None:
            raise self.error()
        self.advance()
        if code in SIZED:
            self.expect_sign("(")
            length = self.expect_int()
            self.expect_sign(")")
            return SqlType(code, length)
        if code is TypeCode.DECIMAL:
            return self._decimal()
        if code is TypeCode.JSON:
            return SqlType(code, JSON_LENGTH)
        if code is TypeCode.BLOB:
            return SqlType(code, BLOB_LENGTH)
        if code in UNSIGNED_OF and self.accept_word("unsigned"):
            code = UNSIGNED_OF[code]
        return SqlType(code, FIXED_SIZE[code])

    def _decimal(self) -> SqlType:
        self.expect_sign("(")
        precision = self.expect_int()
        scale = self.expect_int() if self.accept_sign(",") else 0
        self.expect_sign(")")
        if not 1 <= precision <= _MAX_DECIMAL or scale > precision:
            raise Fault(0x2617, "Invalid decimal precision or scale")
        return decimal(precision, scale)

    def expression(self) -> Expr:
        left = self._conjunction()
        while self.at_word("or"):
            self._check_condition(left)
            self.advance()
            right = self._conjunction()
            self._check_condition(right)
            left = Binary("or", left, right)
        return left

    def _check_condition(self, expr: Expr) -> None:
        """Only a comparison or its like may stand beside AND, OR and NOT."""
        is_value = isinstance(expr, Name | Literal | Call | Case | Cast)
        if is_value or (isinstance(expr, Binary) and expr.operator in _CALCULATIONS):
            raise self.error()

    def _conjunction(self) -> Expr:
        left = self._negation()
        while self.at_word("and"):
            self._check_condition(left)
            self.advance()
            right = self._negation()
            self._check_condition(right)
            left = Binary("and", left, right)
        return left

    def _negation(self) -> Expr:
        if self.accept_word("not"):
            operand = self._negation()
            self._check_condition(operand)
            return Unary("not", operand)
        return self._predicate()

    def _predicate(self) -> Expr:
        left = self._bits()
        if self.token.kind == "sign" and self.token.text in _COMPARISONS:
            operator = self.advance().text
            return Binary("<>" if operator == "!=" else operator, left, self._bits())
        if self.accept_word("is"):
            negated = self.accept_word("not")
            self.expect_word("null")
            return IsNull(left, negated)
        if self.accept_word("contains"):
            return Binary("contains", left, self._bits())
        if self.accept_word("match"):
            return Binary("match", left, self._bits())
        if self.accept_word("nmatch"):
            return Binary("nmatch", left, self._bits())
        negated = self.accept_word("not")
        if self.accept_word("between"):
            low = self._bits()
            self.expect_word("and")
            return Between(left, low, self._bits(), negated)
        if self.accept_word("in"):
            self.expect_sign("(")
            if self.at_word("select"):
                raise unsupported("a query inside IN")
            values = self.expressions()
            self.expect_sign(")")
            return In(left, values, negated)
        if self.accept_word("like"):
            return Binary("not like" if negated else "like", left, self._bits())
        if negated:
            raise self.error()
        return left

    def expressions(self) -> tuple[Expr, ...]:
        """One or more expressions between commas."""
        found = [self.expression()]
        while self.accept_sign(","):
            found.append(self.expression())
        return tuple(found)

    def _bits(self) -> Expr:
        left = self._sum()
        while self.at_sign("&") or self.at_sign("|"):
            operator = self.advance().text
            left = Binary(operator, left, self._sum())
        return left

    def _sum(self) -> Expr:
        left = self._product()
        while self.at_sign("+") or self.at_sign("-"):
            operator = self.advance().text
            left = Binary(operator, left, self._product())
        return left

    def _product(self) -> Expr:
        left = self._signed()
        while self.at_sign("*") or self.at_sign("/") or self.at_sign("%"):
            operator = self.advance().text
            left = Binary(operator, left, self._signed())
        return left

    def _signed(self) -> Expr:
        if self.accept_sign("-"):
            if self.token.kind == "number":
                token = self.advance()
                return Literal(_number_kind(token.text), f"-{token.text}")
            return Unary("-", self._signed())
        if self.accept_sign("+"):
            return self._signed()
        return self._primary()

    def _primary(self) -> Expr:
        token = self.token
        if self.accept_sign("("):
            if self.at_word("select"):
                raise unsupported("a query inside an expression")
            inner = self.expression()
            self.expect_sign(")")
            return inner
        if token.kind == "number":
            self.advance()
            return Literal(_number_kind(token.text), token.text)
        if token.kind in ("string", "duration"):
            self.advance()
            return Literal(token.kind, token.text)
        if token.kind == "sign" and token.text == "*":
            self.advance()
            return Star(None)
        for word, build in (("case", self._case), ("cast", self._cast)):
            if self.at_word(word):
                self.advance()
                return build()
        if token.kind == "word" and token.text in ("true", "false", "null"):
            self.advance()
            word = token.text
            return Literal("null" if word == "null" else "bool", word)
        return self._name()

    def _name(self) -> Expr:
        quoted = self.token.kind == "quoted"
        name = self._function_name()
        if not quoted and self.accept_sign("("):
            if self.at_word("distinct"):
                raise self.error()
            args = () if self.at_sign(")") else self._arguments()
            if self.at_word("in") or self.at_word("from"):
                raise unsupported(f"{name}() with a keyword inside")
            self.expect_sign(")")
            return Call(name, args)
        if self.accept_sign("."):
            if self.accept_sign("*"):
                return Star(name)
            return self._arrow(Name(name, self.identifier()))
        if not quoted and name in _NO_PARENTHESES:
            return Call(name, ())
        return self._arrow(Name(None, name))

    def _arguments(self) -> tuple[Expr, ...]:
        """Arguments of a function, which are values, not conditions."""
        found = [self._bits()]
        while self.accept_sign(","):
            found.append(self._bits())
        return tuple(found)

    def _function_name(self) -> str:
        """A name; in front of a parenthesis it may be a reserved word that names a function."""
        if self.token.kind == "word" and self.ahead().kind == "sign" and self.ahead().text == "(":
            return self.advance().text
        return self.identifier()

    def _arrow(self, name: Name) -> Expr:
        if not self.accept_sign("->"):
            return name
        return Binary("->", name, Literal("string", self.expect_kind("string")))

    def _case(self) -> Expr:
        operand = None if self.at_word("when") else self.expression()
        branches = []
        while self.accept_word("when"):
            condition = self.expression()
            self.expect_word("then")
            branches.append((condition, self.expression()))
        otherwise = self.expression() if self.accept_word("else") else None
        self.expect_word("end")
        if not branches:
            raise self.error()
        return Case(operand, tuple(branches), otherwise)

    def _cast(self) -> Expr:
        self.expect_sign("(")
        operand = self.expression()
        self.expect_word("as")
        type = self.type()
        self.expect_sign(")")
        return Cast(operand, type)


def _filled(tokens: list[Token], bound: Iterable[Words]) -> list[Token]:
    """The words with those that are bound in the place of each ``?``."""
    values = iter(bound)
    filled = []
    for token in tokens:
        words = next(values, None) if token.kind == "mark" else None
        if words is None:
            filled.append(token)
        else:
            filled += [Token(kind, text, token.start, token.end) for kind, text in words]
    return filled


def _number_kind(text: str) -> str:
    return "int" if text.isdigit() or text[:2].lower() == "0x" else "float"

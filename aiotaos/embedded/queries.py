"""Queries: SELECT with all its clauses, and UNION."""

from __future__ import annotations

from .faults import unsupported
from .lexer import has_quoted_name
from .nodes import (
    Expr,
    Fill,
    Item,
    Join,
    Limit,
    Literal,
    Name,
    Order,
    Query,
    Select,
    Source,
    SubQuery,
    TableRef,
    Union,
    Window,
)
from .parser import Parser

_FILLS = ("none", "null", "prev", "next", "linear", "value")


def parse_query(parser: Parser) -> Query:
    """Read a SELECT or a UNION of several."""
    left = _operand(parser)
    if not parser.at_word("union"):
        return left
    while parser.accept_word("union"):
        all = parser.accept_word("all")
        right = _operand(parser)
        order: tuple[Order, ...] = ()
        limit: Limit | None = None
        if isinstance(right, Select):
            # what follows the last SELECT belongs to the whole
            order, limit = right.order, right.limit
            if (order or limit) and parser.at_word("union"):
                raise parser.error()
            right = _without_end(right)
        if isinstance(left, Select) and (left.order or left.limit):
            raise unsupported("ORDER BY or LIMIT inside UNION")
        left = Union(left, right, all, order, limit)
    return left


def _without_end(select: Select) -> Select:
    return Select(
        select.items,
        select.distinct,
        select.source,
        select.where,
        select.partition,
        select.window,
        select.group,
        select.having,
    )


def _operand(parser: Parser) -> Query:
    if parser.accept_sign("("):
        query = parse_query(parser)
        parser.expect_sign(")")
        return query
    parser.expect_word("select")
    return _select(parser)


def _select(parser: Parser) -> Select:
    if parser.at_word("tags") and parser.ahead().kind != "sign":
        raise unsupported("SELECT TAGS")
    distinct = parser.accept_word("distinct")
    items = _items(parser)
    if not parser.accept_word("from"):
        return Select(items, distinct, limit=_limit(parser, "limit", "offset"))
    source = _sources(parser)
    where = parser.expression() if parser.accept_word("where") else None
    partition = _by(parser, "partition")
    window = _window(parser)
    group = _by(parser, "group")
    having = parser.expression() if parser.accept_word("having") else None
    order = _order(parser)
    return Select(
        items,
        distinct,
        source,
        where,
        partition,
        window,
        group,
        having,
        order,
        _limit(parser, "slimit", "soffset"),
        _limit(parser, "limit", "offset"),
    )


def _items(parser: Parser) -> tuple[Item, ...]:
    items = []
    while True:
        start = parser.token.start
        expr = parser.expression()
        end = parser.ahead(-1).end
        item = Item(expr, parser.sql[start:end], parser.alias())
        named = item.alias is not None or isinstance(expr, Name)
        if not named and has_quoted_name(item.text):
            raise unsupported("an expression with back-ticks and without an alias")
        items.append(item)
        if not parser.accept_sign(","):
            return tuple(items)


def _sources(parser: Parser) -> Source:
    source = _joined(parser)
    while parser.accept_sign(","):
        source = Join("inner", source, _joined(parser), None)
    return source


def _joined(parser: Parser) -> Source:
    source = _table(parser)
    while True:
        if parser.accept_word("left"):
            parser.accept_word("outer")
            kind = "left"
        elif parser.accept_word("inner") or parser.at_word("join"):
            kind = "inner"
        else:
            break
        if not parser.accept_word("join"):
            raise unsupported("this kind of JOIN")
        right = _table(parser)
        parser.expect_word("on")
        source = Join(kind, source, right, parser.expression())
    if parser.at_word("right") or parser.at_word("full"):
        raise unsupported("RIGHT and FULL JOIN")
    return source


def _table(parser: Parser) -> Source:
    if parser.accept_sign("("):
        query = parse_query(parser)
        parser.expect_sign(")")
        return SubQuery(query, parser.alias())
    database, name = parser.qualified()
    return TableRef(database, name, parser.alias())


def _by(parser: Parser, word: str) -> tuple[Expr, ...]:
    if not parser.accept_word(word):
        return ()
    parser.expect_word("by")
    return parser.expressions()


def _order(parser: Parser) -> tuple[Order, ...]:
    if not parser.accept_word("order"):
        return ()
    parser.expect_word("by")
    orders = []
    while True:
        expr = parser.expression()
        descending = parser.accept_word("desc")
        if not descending:
            parser.accept_word("asc")
        nulls_first = not descending
        if parser.accept_word("nulls"):
            nulls_first = parser.accept_word("first")
            if not nulls_first:
                parser.expect_word("last")
        orders.append(Order(expr, descending, nulls_first))
        if not parser.accept_sign(","):
            return tuple(orders)


def _limit(parser: Parser, word: str, offset_word: str) -> Limit | None:
    if not parser.accept_word(word):
        return None
    first = parser.expect_int()
    if parser.accept_sign(","):
        return Limit(parser.expect_int(), first)
    return Limit(first, parser.expect_int() if parser.accept_word(offset_word) else 0)


def _window(parser: Parser) -> Window | None:
    if parser.accept_word("interval"):
        return _interval(parser)
    window: Window | None = None
    if parser.accept_word("session"):
        parser.expect_sign("(")
        column = parser.expression()
        parser.expect_sign(",")
        window = Window("session", (parser.expect_kind("duration"),), (column,))
        parser.expect_sign(")")
    elif parser.accept_word("state_window"):
        parser.expect_sign("(")
        window = Window("state", (), (parser.expression(),))
        parser.expect_sign(")")
    elif parser.accept_word("event_window"):
        parser.expect_word("start", "with")
        start = parser.expression()
        parser.expect_word("end", "with")
        window = Window("event", (), (start, parser.expression()))
    elif parser.accept_word("count_window"):
        parser.expect_sign("(")
        window = Window("count", (str(parser.expect_int()),))
        if parser.at_sign(","):
            raise unsupported("a sliding COUNT_WINDOW")
        parser.expect_sign(")")
    return window


def _interval(parser: Parser) -> Window:
    parser.expect_sign("(")
    length = parser.expect_kind("duration")
    offset = ""
    if parser.accept_sign(","):
        if parser.at_word("auto"):
            raise unsupported("INTERVAL with offset AUTO")
        offset = parser.expect_kind("duration")
    parser.expect_sign(")")
    sliding = ""
    if parser.accept_word("sliding"):
        parser.expect_sign("(")
        sliding = parser.expect_kind("duration")
        parser.expect_sign(")")
    return Window("interval", (length, offset, sliding), fill=_fill(parser))


def _fill(parser: Parser) -> Fill | None:
    if not parser.accept_word("fill"):
        return None
    parser.expect_sign("(")
    mode = parser.advance().text
    if mode not in _FILLS:
        raise unsupported(f"FILL({mode})")
    values: tuple[Expr, ...] = ()
    if mode == "value":
        parser.expect_sign(",")
        values = parser.expressions()
        if not all(isinstance(value, Literal) for value in values):
            raise unsupported("FILL with an expression")
    parser.expect_sign(")")
    return None if mode == "none" else Fill(mode, values)

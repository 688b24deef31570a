"""The syntax tree of expressions and queries."""

from __future__ import annotations

from dataclasses import dataclass, field

from .columns import SqlType


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant; ``kind`` is int, float, string, bool, null or duration."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Name:
    """A column, a tag or a pseudo column, perhaps with the name of its table."""

    table: str | None
    name: str


@dataclass(frozen=True, slots=True)
class Star:
    """``*`` or ``t.*``."""

    table: str | None


@dataclass(frozen=True, slots=True)
class Call:
    name: str
    args: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Unary:
    """``-x`` or ``not x``."""

    operator: str
    operand: Expr


@dataclass(frozen=True, slots=True)
class Binary:
    """Arithmetic, comparison, like, match, contains, ``->``, and, or."""

    operator: str
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class Between:
    operand: Expr
    low: Expr
    high: Expr
    negated: bool


@dataclass(frozen=True, slots=True)
class In:
    operand: Expr
    values: tuple[Expr, ...]
    negated: bool


@dataclass(frozen=True, slots=True)
class IsNull:
    operand: Expr
    negated: bool


@dataclass(frozen=True, slots=True)
class Case:
    operand: Expr | None
    branches: tuple[tuple[Expr, Expr], ...]
    otherwise: Expr | None


@dataclass(frozen=True, slots=True)
class Cast:
    operand: Expr
    type: SqlType


Expr = Literal | Name | Star | Call | Unary | Binary | Between | In | IsNull | Case | Cast


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a select list; ``text`` is its source, which names the result column."""

    expr: Expr
    text: str
    alias: str | None

    @property
    def name(self) -> str:
        if self.alias is not None:
            return self.alias
        return (self.expr.name if isinstance(self.expr, Name) else self.text)[:64]


@dataclass(frozen=True, slots=True)
class Order:
    expr: Expr
    descending: bool
    nulls_first: bool


@dataclass(frozen=True, slots=True)
class Limit:
    count: int
    offset: int


@dataclass(frozen=True, slots=True)
class Fill:
    mode: str
    values: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """How rows are cut into windows.

    Attributes:
        kind: interval, session, state, event or count.
        durations: Interval, offset and sliding as written (``""`` where absent), or the gap of a
            session, or the number of rows.
        exprs: The column of a session, the state, or the two conditions of an event window.
        fill: What stands in windows without rows.
    """

    kind: str
    durations: tuple[str, ...]
    exprs: tuple[Expr, ...] = ()
    fill: Fill | None = None


@dataclass(frozen=True, slots=True)
class TableRef:
    database: str | None
    name: str
    alias: str | None


@dataclass(frozen=True, slots=True)
class SubQuery:
    query: Query
    alias: str | None


@dataclass(frozen=True, slots=True)
class Join:
    """``kind`` is inner or left; without ``on`` the condition stands in WHERE."""

    kind: str
    left: Source
    right: Source
    on: Expr | None


Source = TableRef | SubQuery | Join


@dataclass(frozen=True, slots=True)
class Select:
    items: tuple[Item, ...]
    distinct: bool = False
    source: Source | None = None
    where: Expr | None = None
    partition: tuple[Expr, ...] = ()
    window: Window | None = None
    group: tuple[Expr, ...] = ()
    having: Expr | None = None
    order: tuple[Order, ...] = ()
    slimit: Limit | None = None
    limit: Limit | None = None


@dataclass(frozen=True, slots=True)
class Union:
    left: Query
    right: Query
    all: bool
    order: tuple[Order, ...] = field(default=())
    limit: Limit | None = None


Query = Select | Union

"""Pieces of DuckDB SQL with their TDengine types, and the parameters that they refer to."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo

from ..types import Precision
from . import times
from .columns import SqlType
from .faults import Fault, no_column
from .nodes import Literal

VERSION = "3.3.7.0"
"""The version of TDengine that the server answers like."""

SEQUENCE = " seq"
"""The name, which no statement can write, of the ``seq`` of rows from :attr:`Context.written`."""
_PARAMETER = re.compile(r"\$p\d+\b")


@dataclass(frozen=True, slots=True)
class Sql:
    """An expression.

    Attributes:
        literal: The constant it was made of, which may still be read as another type.
        is_member: It is a member of a JSON tag.
    """

    text: str
    type: SqlType
    literal: Literal | None = None
    is_member: bool = False

    @property
    def is_null(self) -> bool:
        return self.literal is not None and self.literal.kind == "null"


class Parameters:
    """Texts of the statement, which reach DuckDB only as parameters.

    Equal texts share one parameter, so that equal expressions stay equal.
    """

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def text(self, value: str) -> str:
        name = self._names.setdefault(value, f"p{len(self._names)}")
        return f"CAST(${name} AS VARCHAR)"

    def used(self, sql: str) -> dict[str, str]:
        """The parameters that occur in a statement."""
        names = set(_PARAMETER.findall(sql))
        return {name: value for value, name in self._names.items() if f"${name}" in names}


@dataclass(frozen=True, slots=True)
class Visible:
    """A column that expressions can name.

    Attributes:
        table: Name or alias of its table.
        role: ``time`` for a primary timestamp, ``column``, ``tag``, or ``tbname``.
    """

    table: str | None
    name: str
    sql: str
    type: SqlType
    role: str


@dataclass(slots=True)
class Scope:
    """What FROM offers.

    Attributes:
        relation: The text to stand behind FROM.
        is_single: The rows are of one table, so tags and tbname are the same in all of them.
        order: The order of rows where the statement asks for none.
        labels: The relation of the tables and their tags, for a super table.
        alias: Name of the relation, if it is a single one.
        system: Name of a system table.
    """

    relation: str
    visible: list[Visible]
    precision: Precision
    is_single: bool = False
    order: str = ""
    labels: str = ""
    alias: str = ""
    system: str = ""

    @property
    def time(self) -> Visible | None:
        return next((column for column in self.visible if column.role == "time"), None)

    def find(self, table: str | None, name: str) -> Visible:
        """Resolve a name.

        Raises:
            Fault: There is no such column, or more than one.
        """
        if name in ("_c0", "_rowts"):
            found = [column for column in self.visible if column.role == "time"]
        else:
            found = [column for column in self.visible if column.name == name]
        if table is not None:
            found = [column for column in found if column.table == table]
        if not found and name == "tbname":
            raise Fault(0x264C, "Invalid tbname pseudo column")
        if not found:
            raise no_column(name)
        if len(found) > 1:
            raise Fault(0x2604, f"Column ambiguously defined: {name}")
        return found[0]


@dataclass(slots=True)
class Context:
    """What a statement is translated under.

    Attributes:
        running: The rows of perf_queries; None where they cannot be had.
        written: A relation to read the rows of the table from, which also has a column ``seq``;
            ``""`` for those that are stored.
    """

    database: str
    zone: tzinfo
    version: str = VERSION
    running: Callable[[], list[Sequence[object]]] | None = None
    parameters: Parameters = field(default_factory=Parameters)
    aliases: int = 0
    moments: dict[Precision, int] = field(default_factory=dict)
    written: str = ""

    def alias(self) -> str:
        """A new name for a relation."""
        self.aliases += 1
        return f"r{self.aliases}"

    def now(self, precision: Precision) -> int:
        """The present, the same in the whole statement."""
        return self.moments.setdefault(precision, times.now(precision))

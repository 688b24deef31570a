"""Topics, and what cannot be changed because of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, tzinfo
from enum import StrEnum

from .catalog import Table
from .faults import Fault
from .nodes import Expr, Select, TableRef


class Kind(StrEnum):
    """What a topic is made of."""

    QUERY = "column"
    STABLE = "stable"
    DATABASE = "db"


class Detail(StrEnum):
    """Whether a topic tells rows, changes of what exists, or both."""

    ROWS = "rows"
    WITH_META = "with meta"
    ONLY_META = "only meta"


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic.

    Attributes:
        table: Number of the table that a query or super table topic is about, 0 for a database.
        ref: The same by name.
        select: The query, with ``*`` written out.
        where: The condition on the tags of a super table topic.
        fields: Columns and tags that it names, which must stay.
        zone: Of the session that made it; times in conditions are read in it.
    """

    name: str
    database: str
    kind: Kind
    detail: Detail = Detail.ROWS
    table: int = 0
    ref: TableRef | None = None
    select: Select | None = None
    where: Expr | None = None
    fields: frozenset[str] = frozenset()
    zone: tzinfo = UTC


class Topics:
    """All topics by name; changed only by who holds the store's write lock."""

    def __init__(self) -> None:
        self._topics: dict[str, Topic] = {}

    def find(self, name: str) -> Topic | None:
        return self._topics.get(name)

    def names(self) -> list[str]:
        return list(self._topics)

    def add(self, topic: Topic) -> None:
        self._topics[topic.name] = topic

    def remove(self, topic: Topic) -> None:
        self._topics.pop(topic.name, None)

    def has_database(self, database: str) -> bool:
        """Whether any topic is about a database or something in it."""
        return any(topic.database == database for topic in list(self._topics.values()))

    def check_database(self, database: str) -> None:
        """Refuse to drop a database that has topics.

        Raises:
            Fault: It has.
        """
        if self.has_database(database):
            raise Fault(0x03ED, "Topic must be dropped first")

    def check_super(self, table: Table) -> None:
        """Refuse to drop a super table that topics are about; other tables may go.

        Raises:
            Fault: One is.
        """
        if table.is_super and self._about(table):
            raise Fault(0x03ED, "Topic must be dropped first")

    def check_field(self, table: Table, name: str) -> None:
        """Refuse to drop or rename a column or tag that topics name.

        Raises:
            Fault: One does.
        """
        if any(name in topic.fields for topic in self._about(table)):
            raise Fault(0x03C4, "Field used by topic")

    def _about(self, table: Table) -> list[Topic]:
        return [topic for topic in list(self._topics.values()) if topic.table == table.number]

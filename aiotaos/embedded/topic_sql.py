"""CREATE TOPIC, DROP TOPIC, DROP CONSUMER GROUP, and SHOW of topics and who reads them."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from datetime import tzinfo

import duckdb

from .access import USER
from .aggregates import aggregate_calls
from .catalog import Catalog, Child, Database
from .columns import BIGINT, INT, TIMESTAMP, SqlType, text
from .consumers import Consumer
from .expressions import RowCompiler, walk
from .faults import Fault
from .groups import Groups, no_topic
from .names import MAX_NAME
from .nodes import Call, Expr, Name, Select, TableRef
from .parser import Parser
from .queries import parse_query
from .scopes import scope_of
from .select import QueryCompiler
from .series import SERIES
from .show import Listing
from .snapshot import note_contents
from .sql import Context, Scope
from .store import Store
from .topics import Detail, Kind, Topic

_TOPIC_COLUMNS = [("topic_name", text(192))]
_CONSUMER_COLUMNS: list[tuple[str, SqlType]] = [
    ("consumer_id", text(32)),
    ("consumer_group", text(193)),
    ("client_id", text(256)),
    ("user", text(24)),
    ("fqdn", text(128)),
    ("status", text(20)),
    ("topics", text(205)),
    ("up_time", TIMESTAMP),
    ("subscribe_time", TIMESTAMP),
    ("rebalance_time", TIMESTAMP),
    ("parameters", text(192)),
    ("poll_time", TIMESTAMP),
]
_SUBSCRIPTION_COLUMNS: list[tuple[str, SqlType]] = [
    ("topic_name", text(205)),
    ("consumer_group", text(193)),
    ("vgroup_id", INT),
    ("consumer_id", text(256)),
    ("user", text(24)),
    ("fqdn", text(128)),
    ("offset", text(64)),
    ("rows", BIGINT),
]


class TopicStatements:
    """Runs the statements about topics; they block."""

    def __init__(self, store: Store, groups: Groups) -> None:
        self._store = store
        self._groups = groups

    @property
    def _catalog(self) -> Catalog:
        return self._store.catalog

    def create(self, parser: Parser, database: str, zone: tzinfo) -> None:
        """Run what follows CREATE TOPIC.

        The first topic of a database begins its logs, with what the tables hold at that moment.

        Raises:
            Fault: It is wrong, or there is such a topic.
        """
        if_not = parser.accept_word("if")
        if if_not:
            parser.expect_word("not", "exists")
        name = parser.identifier()
        detail = _detail(parser)
        parser.expect_word("as")
        if parser.at_word("select") and detail is Detail.ROWS:
            topic = self._query(parser, name, database, zone)
        elif parser.accept_word("database"):
            home = self._catalog.database(parser.identifier())
            topic = Topic(name, home.name, Kind.DATABASE, detail)
        elif parser.accept_word("stable"):
            topic = self._stable(parser, name, detail, database, zone)
        else:
            raise parser.error()
        parser.expect_end()
        if len(name.encode()) > MAX_NAME:
            raise Fault(0x2617, f"Invalid identifier name: {name}")
        with self._store.writing() as cursor:
            if self._store.topics.find(name) is not None:
                if if_not:
                    return
                raise Fault(0x03E0, "Topic already exists")
            self._begin_logs(cursor, self._catalog.database(topic.database))
            self._store.topics.add(topic)

    def _begin_logs(self, cursor: duckdb.DuckDBPyConnection, home: Database) -> None:
        journal = self._store.journal
        if journal.keeps(home.name):
            return
        journal.keep(home)
        try:
            note_contents(journal, cursor, home)
        except BaseException:
            journal.forget(home.name)
            raise

    def _query(self, parser: Parser, name: str, database: str, zone: tzinfo) -> Topic:
        query = parse_query(parser)
        if not isinstance(query, Select) or not isinstance(query.source, TableRef):
            raise _bad_query()
        ref = TableRef(query.source.database or database, query.source.name, query.source.alias)
        clauses = (query.partition, query.window, query.group, query.having, query.order)
        if query.distinct or any(clauses) or query.slimit is not None or query.limit is not None:
            raise _bad_query()
        compiler = QueryCompiler(Context(database, zone), self._catalog)
        select, scope = compiler.expanded(Select(query.items, source=ref, where=query.where))
        if scope.system or any(_is_beyond_rows(item.expr) for item in select.items):
            raise _bad_query()
        compiler.compile(select)  # for what may be wrong with it
        exprs = [item.expr for item in select.items]
        if select.where is not None:
            exprs.append(select.where)
        found = self._catalog.find(ref.database or "", ref.name)
        table = found.table if isinstance(found, Child) else found
        return Topic(
            name,
            table.database,
            Kind.QUERY,
            table=table.number,
            ref=ref,
            select=select,
            fields=_fields(exprs, scope),
            zone=zone,
        )

    def _stable(
        self, parser: Parser, name: str, detail: Detail, database: str, zone: tzinfo
    ) -> Topic:
        named, table_name = parser.qualified()
        where = parser.expression() if parser.accept_word("where") else None
        home = self._catalog.database(named or database)
        table = home.supers.get(table_name)
        if table is None:
            raise Fault(0x0362, "STable not exist")
        ref = TableRef(home.name, table_name, None)
        fields: frozenset[str] = frozenset()
        if where is not None:
            context = Context(home.name, zone)
            scope = scope_of(
                context, self._catalog, ref, QueryCompiler(context, self._catalog).compile
            )
            if any(scope.find(n.table, n.name).role in ("time", "column") for n in _names([where])):
                raise Fault(0x2600, "Columns are forbidden in where clause")
            RowCompiler(context, scope).condition(where)  # for what may be wrong with it
            fields = _fields([where], scope)
        return Topic(
            name, home.name, Kind.STABLE, detail, table.number, ref, None, where, fields, zone
        )

    def drop(self, parser: Parser) -> None:
        """Run what follows DROP TOPIC; with the last topic of a database its logs go.

        Raises:
            Fault: There is no such topic, or it has consumers.
        """
        exists = _if_exists(parser)
        force = parser.at_word("force") and parser.ahead().kind != "end"
        if force:
            parser.advance()
        name = parser.identifier()
        parser.expect_end()
        with self._store.writing():
            topics = self._store.topics
            topic = topics.find(name)
            if topic is None:
                if exists:
                    return
                raise no_topic()
            self._groups.drop_topic(topic, force=force)
            if not topics.has_database(topic.database):
                self._store.journal.forget(topic.database)

    def drop_group(self, parser: Parser) -> None:
        """Run what follows DROP CONSUMER GROUP.

        Raises:
            Fault: There is no such group, or it has consumers.
        """
        exists = _if_exists(parser)
        name = parser.identifier()
        parser.expect_word("on")
        topic = parser.identifier()
        parser.expect_end()
        self._groups.drop_group(name, topic, exists=exists)

    def topics(self) -> Listing:
        """SHOW TOPICS."""
        return Listing(_TOPIC_COLUMNS, [(name,) for name in self._store.topics.names()])

    def consumers(self) -> Listing:
        """SHOW CONSUMERS: a row for each consumer and topic."""
        host = socket.gethostname()
        rows = [
            (
                _id(consumer),
                consumer.options.group,
                consumer.options.client,
                USER,
                host,
                "ready",
                topic,
                consumer.subscribed,
                consumer.subscribed,
                consumer.rebalanced,
                _parameters(consumer),
                consumer.polled,
            )
            for consumer in self._groups.consumers()
            for topic in consumer.topics
        ]
        return Listing(_CONSUMER_COLUMNS, rows)

    def subscriptions(self) -> Listing:
        """SHOW SUBSCRIPTIONS: a row for each topic, group and vgroup."""
        host = socket.gethostname()
        rows = []
        for topic, group, vgroup, owner, offset, count in self._groups.subscriptions():
            who = (None, None, None) if owner is None else (_id(owner), USER, host)
            rows.append((topic, group, vgroup, *who, offset, count))
        return Listing(_SUBSCRIPTION_COLUMNS, rows)


def _detail(parser: Parser) -> Detail:
    for detail in (Detail.WITH_META, Detail.ONLY_META):
        if parser.accept_word(*detail.split()):
            return detail
    return Detail.ROWS


def _if_exists(parser: Parser) -> bool:
    if not parser.accept_word("if"):
        return False
    parser.expect_word("exists")
    return True


def _bad_query() -> Fault:
    return Fault(0x2639, "Invalid topic query")


def _is_beyond_rows(expr: Expr) -> bool:
    """Whether an expression needs other rows than its own."""
    calls = (part for part in walk(expr) if isinstance(part, Call))
    return bool(aggregate_calls(expr)) or any(call.name in SERIES for call in calls)


def _names(exprs: Iterable[Expr]) -> list[Name]:
    return [part for expr in exprs for part in walk(expr) if isinstance(part, Name)]


def _fields(exprs: Iterable[Expr], scope: Scope) -> frozenset[str]:
    """The columns and tags that expressions name."""
    return frozenset(scope.find(name.table, name.name).name for name in _names(exprs))


def _id(consumer: Consumer) -> str:
    return f"0x{consumer.number:x}"


def _parameters(consumer: Consumer) -> str:
    options = consumer.options
    return (
        f"tbname:{options.table_names:d},commit:0,interval:{options.shown_interval}ms,"
        f"reset:{options.reset}"
    )

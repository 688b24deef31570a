"""From a log to the messages of a topic."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..protocol.encode import encode_block
from ..protocol.tmq_messages import MessageType
from ..types import Field
from .batch import Batch
from .catalog import Database, Table
from .columns import Column
from .expressions import RowCompiler
from .faults import unsupported
from .log import Created, Entry, Log, Meta
from .meta import created_children
from .nodes import Item, Name, Query
from .scopes import Compiled, scope_of
from .select import QueryCompiler
from .sql import SEQUENCE, Context
from .store import Store
from .tmq_frames import DATA, METADATA, Block, SchemaColumn, message
from .tmq_options import ConsumerOptions
from .topics import Detail, Kind, Topic

_STABLE_FLAGS = 1
_META_VERSION = "1.0"


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a poll found.

    Attributes:
        begin: The version at which reading began.
        end: The version at which it goes on.
        metas: Changes of what exists; of a message with rows, those that made its sub-tables.
    """

    topic: Topic
    vgroup: int
    begin: int
    end: int
    blocks: Sequence[Block] = ()
    metas: Sequence[Meta] = ()
    is_batch: bool = False

    @property
    def rows(self) -> int:
        return sum(block.rows for block in self.blocks)

    @property
    def message_type(self) -> MessageType:
        if not self.blocks:
            return MessageType.META
        return MessageType.METADATA if self.metas else MessageType.DATA

    @property
    def offset(self) -> int:
        """The offset as ``poll`` tells it: where rows begin, but where changes end."""
        return self.end if self.message_type == MessageType.META else self.begin

    @property
    def raw_type(self) -> int:
        return METADATA if self.message_type == MessageType.METADATA else DATA

    def raw(self) -> bytes:
        """The message, if it has rows."""
        named = self.topic.kind is not Kind.QUERY
        return message(self.begin, self.end, self.blocks, with_names=named, raw_type=self.raw_type)

    def meta(self) -> Meta:
        """The changes of what exists, in JSON."""
        if self.is_batch:
            return {"tmq_meta_version": _META_VERSION, "metas": list(self.metas)}
        return self.metas[0]


class Reader:
    """Reads logs for topics; its methods block, and may be called from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(
        self, topic: Topic, vgroup: int, log: Log, begin: int, options: ConsumerOptions
    ) -> Delivery:
        """Read on; without blocks and changes there was nothing for the topic up to the end.

        Raises:
            Fault: The database was dropped meanwhile, or a query cannot be evaluated.
        """
        home = self._store.catalog.database(topic.database)
        reading = _Reading(topic, home, log, begin, options)
        if topic.kind is Kind.QUERY:
            blocks: list[Block] = []
            while not blocks and (entries := reading.rows_ahead()):
                blocks = self._query(topic, home, entries)
            return Delivery(topic, vgroup, begin, reading.at, blocks)
        reading.collect(self._chosen(topic))
        metas: list[Meta] = reading.metas
        if reading.created:
            metas = [created_children(reading.created)]
        is_batch = options.batch_meta and not reading.blocks
        return Delivery(topic, vgroup, begin, reading.at, reading.blocks, metas, is_batch)

    def _chosen(self, topic: Topic) -> Collection[int] | None:
        """The sub-tables whose tags suit a super table topic; None for all."""
        if topic.where is None or topic.ref is None:
            return None
        context = self._context(topic)
        scope = scope_of(context, self._store.catalog, topic.ref, _no_query)
        condition = RowCompiler(context, scope).condition(topic.where)
        sql = f"SELECT {scope.alias}.tid FROM {scope.labels} AS {scope.alias} WHERE {condition}"
        cursor = self._store.cursor()
        try:
            rows = cursor.execute(sql, context.parameters.used(sql)).fetchall()
        finally:
            self._store.free(cursor)
        return {number for (number,) in rows}

    def _context(self, topic: Topic) -> Context:
        return Context(topic.database, topic.zone)

    def _query(self, topic: Topic, home: Database, entries: Sequence[Entry]) -> list[Block]:
        """Evaluate a query topic on the rows of some entries: a block for each and sub-table."""
        table = _table(home, topic.table)
        if table is None or topic.select is None or not _exists(home, topic):
            return []
        batch, sequence = _joined(table, entries)
        if not sequence:
            return []
        cursor = self._store.cursor()
        try:
            cursor.register("batch", batch.arrays() | {"seq": np.array(sequence, "i8")})
            context = self._context(topic)
            stored = ", ".join(f"{batch.stored(c)} AS {c.stored}" for c in batch.columns)
            context.written = f"(SELECT tid, seq, {stored} FROM batch)"
            hidden = (Item(Name(None, SEQUENCE), "", None), Item(Name(None, "tbname"), "", None))
            select = replace(topic.select, items=(*topic.select.items, *hidden))
            compiled = QueryCompiler(context, self._store.catalog).compile(select)
            parameters = context.parameters.used(compiled.sql)
            rows = cursor.execute(compiled.sql, parameters).fetchall()
        finally:
            self._store.free(cursor)
        fields = [output.type.field(output.name) for output in compiled.outputs[: -len(hidden)]]
        schema = tuple(SchemaColumn(f, place, 0) for place, f in enumerate(fields, start=1))
        blocks = []
        for (_, name), group in itertools.groupby(rows, key=lambda row: row[-len(hidden) :]):
            *columns, _, _ = zip(*group, strict=True)
            raw = encode_block(fields, columns, version=2)
            blocks.append(Block(raw, len(columns[0]), compiled.precision, schema, name))
        return blocks


class _Reading:
    """One walk along a log.

    Attributes:
        at: The version that comes next.
    """

    def __init__(
        self, topic: Topic, home: Database, log: Log, begin: int, options: ConsumerOptions
    ) -> None:
        self._topic = topic
        self._home = home
        self._log = log
        self._end = log.end
        self._options = options
        self.at = begin
        self.blocks: list[Block] = []
        self.metas: list[Meta] = []
        self.created: list[Created] = []

    def rows_ahead(self) -> list[Entry]:
        """The next entries with rows of the topic's table, of about as many as make a message."""
        entries = []
        rows = 0
        while self.at < self._end and rows < self._options.min_rows:
            entry = self._log[self.at]
            self.at += 1
            found = [b for b in entry.batches if b.table.number == self._topic.table]
            if found:
                entries.append(entry)
                rows += sum(len(batch.children) for batch in found)
        return entries

    def collect(self, chosen: Collection[int] | None) -> None:
        """Walk until a message is full, or what comes next belongs into another one."""
        rows = 0
        while self.at < self._end and rows < self._options.min_rows:
            entry = self._log[self.at]
            found = list(self._found(entry, chosen))
            created = self._made(entry, chosen)
            metas = self._told(entry)
            if self._topic.detail is Detail.ONLY_META:
                metas = metas or ([created_children(created)] if created else [])
                found, created = [], []
            # rows and the tables made for them do not go with other changes
            if (metas and (self.blocks or self.created)) or ((found or created) and self.metas):
                return
            self.at += 1
            self.blocks += found
            self.created += created
            self.metas += metas
            rows += sum(block.rows for block in found) + len(metas)
            if metas and not self._options.batch_meta:
                return

    def _told(self, entry: Entry) -> list[Meta]:
        if entry.meta is None or self._topic.detail is Detail.ROWS:
            return []
        if self._topic.detail is Detail.ONLY_META and entry.meta["type"] == "delete":
            return []
        about_all = self._topic.kind is Kind.DATABASE
        return [entry.meta] if about_all or entry.table == self._topic.table else []

    def _made(self, entry: Entry, chosen: Collection[int] | None) -> list[Created]:
        if self._topic.detail is Detail.ROWS:
            return []
        return [
            one
            for one in entry.created
            if self._wants(one.child.table, one.child.number, one.child.name, chosen)
        ]

    def _wants(self, table: Table, number: int, name: str, chosen: Collection[int] | None) -> bool:
        """Whether a sub-table belongs to the topic, and still exists."""
        if self._topic.kind is Kind.STABLE and table.number != self._topic.table:
            return False
        if chosen is not None and number not in chosen:
            return False
        child = self._home.child(name)
        return child is not None and child.number == number

    def _found(self, entry: Entry, chosen: Collection[int] | None) -> Iterator[Block]:
        for batch in entry.batches:
            columns = sorted(range(len(batch.columns)), key=lambda c: batch.columns[c].number)
            fields = [_field(batch.columns[index]) for index in columns]
            schema = tuple(
                SchemaColumn(field, batch.columns[index].number + 1, _STABLE_FLAGS)
                for index, field in zip(columns, fields, strict=True)
            )
            for number, rows in _by_child(batch).items():
                name = entry.names.get(number)
                if name is None or not self._wants(batch.table, number, name, chosen):
                    continue
                values = [[batch.values[index][row] for row in rows] for index in columns]
                raw = encode_block(fields, values, version=2)
                yield Block(raw, len(rows), self._home.precision, schema, name)


def _field(column: Column) -> Field:
    return column.type.field(column.name)


def _by_child(batch: Batch) -> dict[int, list[int]]:
    """The rows of each sub-table, in the order of time."""
    rows: dict[int, list[int]] = {}
    for row, number in enumerate(batch.children):
        rows.setdefault(number, []).append(row)
    times = batch.values[0]
    for members in rows.values():
        members.sort(key=times.__getitem__)  # type: ignore[arg-type]
    return rows


def _joined(table: Table, entries: Sequence[Entry]) -> tuple[Batch, Sequence[int]]:
    """The rows of a table in some entries, in its present columns, and the entry of each."""
    joined = Batch(table, tuple(table.columns))
    sequence: list[int] = []
    for place, entry in enumerate(entries):
        for batch in entry.batches:
            if batch.table.number != table.number:
                continue
            values = {c.number: v for c, v in zip(batch.columns, batch.values, strict=True)}
            for number, rows in _by_child(batch).items():
                if number not in entry.names:
                    continue
                joined.add(number, [_picked(values.get(c.number), rows) for c in table.columns])
                sequence += [place] * len(rows)
    return joined, sequence


def _picked(values: Sequence[object] | None, rows: Sequence[int]) -> list[object]:
    """These rows of a column, which are NULL where it was not written."""
    return [None] * len(rows) if values is None else [values[row] for row in rows]


def _table(home: Database, number: int) -> Table | None:
    """The table, if it still exists."""
    return next((table for table in home.tables() if table.number == number), None)


def _exists(home: Database, topic: Topic) -> bool:
    """Whether what a query topic reads from still exists."""
    if topic.ref is None:
        return False
    return topic.ref.name in home.supers or home.child(topic.ref.name) is not None


def _no_query(_: Query) -> Compiled:
    raise unsupported("a query here")

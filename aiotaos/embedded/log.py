"""What was written to databases that have topics: one log for each vgroup, in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from .batch import Batch
from .catalog import Child, Database
from .columns import Column

Meta: TypeAlias = dict[str, Any]
"""A change of what exists, as consumers read it in JSON."""


@dataclass(frozen=True, slots=True)
class Created:
    """A new sub-table.

    Attributes:
        schema: The tags of its super table at that time.
        tags: The values of those that are not NULL, perhaps of others too.
    """

    child: Child
    schema: Sequence[Column]
    tags: Mapping[Column, object]

    @classmethod
    def now(cls, child: Child, tags: Mapping[Column, object]) -> Created:
        """One that is made at the moment."""
        return cls(child, tuple(child.table.tags), tags)


@dataclass(frozen=True, slots=True)
class Entry:
    """One statement's work in one vgroup: rows, or a change of what exists.

    Attributes:
        batches: The rows as they were stored, which the logs of other vgroups share.
        names: The sub-tables of this vgroup among them, by the number that marks their rows.
        created: Those of them that are new.
        meta: The change of what exists; None for rows.
        table: Number of the super table or normal table that the change is about.
    """

    batches: Sequence[Batch] = ()
    names: Mapping[int, str] = field(default_factory=dict)
    created: Sequence[Created] = ()
    meta: Meta | None = None
    table: int = 0


class Log:
    """The entries of a vgroup; the version of an entry is its place.

    One thread at a time adds to it, any number of them read.
    """

    def __init__(self) -> None:
        self._entries: list[Entry] = []

    def __getitem__(self, version: int) -> Entry:
        return self._entries[version]

    @property
    def end(self) -> int:
        """The version that the next entry will have."""
        return len(self._entries)

    def append(self, entry: Entry) -> None:
        self._entries.append(entry)


class Journal:
    """The logs of all databases that have topics.

    What a transaction notes is seen only once it is published; both happen under the store's
    write lock. Of a database without topics nothing is kept.
    """

    def __init__(self) -> None:
        self._logs: dict[str, dict[int, Log]] = {}
        self._pending: list[tuple[Log, Entry]] = []
        self._listeners: set[Callable[[], None]] = set()

    def keeps(self, database: str) -> bool:
        """Whether the database has logs."""
        return database in self._logs

    def log(self, database: str, vgroup: int) -> Log:
        return self._logs[database][vgroup]

    def keep(self, home: Database) -> None:
        """Begin the logs of a database."""
        self._logs[home.name] = {vgroup: Log() for vgroup in home.vgroups}

    def forget(self, database: str) -> None:
        """Throw the logs of a database away."""
        self._logs.pop(database, None)

    def note_meta(self, home: Database, table: int, meta: Meta, name: str | None = None) -> None:
        """Note a change of a super table or normal table of this number.

        Args:
            name: The table whose vgroup alone is concerned; None where all are.
        """
        for vgroup, log in self._logs.get(home.name, {}).items():
            if name is None or vgroup == home.vgroup(name):
                self._pending.append((log, Entry(meta=meta, table=table)))

    def note_rows(
        self,
        home: Database,
        batches: Sequence[Batch],
        names: Mapping[int, str],
        created: Iterable[Created] = (),
    ) -> None:
        """Note rows of one database, with the names of their sub-tables; these may have no rows."""
        logs = self._logs.get(home.name, {})
        members: dict[int, dict[int, str]] = {}
        for number in set().union(*(batch.children for batch in batches)):
            members.setdefault(home.vgroup(names[number]), {})[number] = names[number]
        fresh: dict[int, list[Created]] = {}
        for one in created:
            members.setdefault(home.vgroup(one.child.name), {})
            fresh.setdefault(home.vgroup(one.child.name), []).append(one)
        for vgroup, theirs in members.items():
            entry = Entry(batches, theirs, fresh.get(vgroup, ()))
            self._pending.append((logs[vgroup], entry))

    def publish(self) -> None:
        """Show what was noted, and wake who waits for it."""
        if self._pending:
            pending, self._pending = self._pending, []
            for log, entry in pending:
                log.append(entry)
            self.wake()

    def discard(self) -> None:
        """Forget what was noted."""
        self._pending.clear()

    def listen(self, listener: Callable[[], None]) -> None:
        """Call something, from any thread, whenever there may be something new."""
        self._listeners.add(listener)

    def unlisten(self, listener: Callable[[], None]) -> None:
        self._listeners.discard(listener)

    def wake(self) -> None:
        """Call all that listen."""
        for listener in tuple(self._listeners):
            listener()

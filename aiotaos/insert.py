"""Bulk insert: batches of columns, three at a time: executed, on its way, being encoded."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from .binding import Shape
from .errors import DataError, InterfaceError, StatementError
from .protocol.bind import Binding
from .protocol.sql import identifier, table_identifier
from .sources import Batch, Data, batches, dataclass_names
from .tasks import ended
from .transport.base import next_req_id

if TYPE_CHECKING:
    from .connection import Connection

BATCH_ROWS = 200_000
_AT_ONCE = 3  # batches: one is executed, one is on its way, one is being encoded
_MANY_ROWS = 5000  # which take a millisecond or more to encode
_PLAIN = re.compile(r"\w*")


class Target:
    """Where rows go, and which of their columns are what.

    Args:
        table: The table, or the super table if ``tbname`` is given.
        tbname: Name of the column that holds the sub-tables' names.
        tags: Names of the columns that hold tags.
        columns: Names of the columns of rows that are tuples; of other data, which to write.

    Raises:
        InterfaceError: The arguments do not go together.
        StatementError: A name cannot be one.
    """

    def __init__(
        self,
        table: str,
        tbname: str | None,
        tags: Sequence[str],
        columns: Sequence[str] | None,
    ) -> None:
        self.table = table_identifier(table)
        self._database = self.table.rpartition(".")[0]
        self.tbname = tbname
        self.tags = _names("tags", tags)
        self.columns = None if columns is None else _names("columns", columns)
        if self.tags and tbname is None:
            raise InterfaceError("tags: they belong to sub-tables; tbname must be given as well")
        for name in (tbname, *self.tags):
            if name is not None and self.columns is not None and name not in self.columns:
                raise InterfaceError(f"columns: expected {name!r} among them")

    def table_names(self, names: list[str]) -> list[str]:
        """Names of sub-tables as they are sent: taken literally, in the super table's database."""
        if self._database:
            return [f"{self._database}.{_quoted(name)}" for name in names]
        if _PLAIN.fullmatch("".join(names)):
            return names
        return [name if _PLAIN.fullmatch(name) else _quoted(name) for name in names]

    def check_row(self, row: object) -> None:
        """Check that a row can be one: it tells its sub-table and its tags.

        Raises:
            StatementError: It cannot.
        """
        if isinstance(row, tuple):
            return
        if isinstance(row, list) and row and isinstance(row[0], (tuple, list, Mapping)):
            raise StatementError("row: got a list of rows, which write_many() takes")
        names = row if isinstance(row, Mapping) else dataclass_names(type(row))
        if not names and not isinstance(row, list):
            raise StatementError(
                f"row: expected a mapping, a dataclass, a tuple or a list, got {row!r}"
            )
        wanted = (self.tbname,) if isinstance(row, Mapping) else (self.tbname, *self.tags)
        for name in wanted:
            if name is not None and name not in names and not isinstance(row, list):
                raise StatementError(f"row: it has no {name!r}: {row!r}")

    def statement(self, batch: Batch) -> tuple[str, list[Any]]:
        """The INSERT for a batch, and its columns in the order of the ``?``.

        Raises:
            StatementError: The batch lacks a column.
        """
        names = self._names_of(batch)
        if names is None:
            return self._by_place(batch)
        by_name = dict(zip(names, batch.columns, strict=True))
        chosen = names if self.columns is None else self.columns
        wanted = (*self.tags, *chosen)
        if batch.has_gaps:
            by_name = {**dict.fromkeys(wanted, [None] * batch.rows), **by_name}
        missing = [n for n in (self.tbname, *wanted) if n and n not in by_name]
        if missing:
            raise StatementError(
                f"the data has no column {', '.join(map(repr, missing))}; "
                f"it has {', '.join(map(repr, names))}"
            )
        rest = [name for name in chosen if name != self.tbname and name not in self.tags]
        listed = ", ".join(map(identifier, rest))
        values = [by_name[name] for name in rest]
        if self.tbname is None:
            return f"INSERT INTO {self.table} ({listed}) VALUES({_marks(rest)})", values
        heads = [by_name[self.tbname], *(by_name[tag] for tag in self.tags)]
        if not self.tags:
            sql = f"INSERT INTO {self.table} (tbname, {listed}) VALUES(?,{_marks(rest)})"
        else:
            sql = f"{self._using()} ({listed}) VALUES({_marks(rest)})"
        return sql, heads + values

    def _by_place(self, batch: Batch) -> tuple[str, list[Any]]:
        """Rows without names: the sub-table's name, its tags, and all columns of the table."""
        columns = list(batch.columns)
        if self.tbname is None:
            return f"INSERT INTO {self.table} VALUES({_marks(columns)})", columns
        if not self.tags:
            raise InterfaceError("columns: rows without names need the names of their values")
        rest = columns[1 + len(self.tags) :]
        if not rest:
            raise StatementError(
                f"rows of {len(columns)} values have none behind the sub-table's name and its tags"
            )
        return f"{self._using()} VALUES({_marks(rest)})", columns

    def _using(self) -> str:
        listed = ", ".join(map(identifier, self.tags))
        return f"INSERT INTO ? USING {self.table} ({listed}) TAGS({_marks(self.tags)})"

    def _names_of(self, batch: Batch) -> tuple[str, ...] | None:
        if batch.names is not None or self.columns is None:
            return batch.names
        if len(self.columns) != len(batch.columns):
            raise StatementError(
                f"rows of {len(batch.columns)} values for {len(self.columns)} columns: "
                f"{', '.join(self.columns)}"
            )
        return self.columns


def _names(what: str, names: Sequence[str]) -> tuple[str, ...]:
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise InterfaceError(f"{what}: expected a sequence of names, got {names!r}")
    return tuple(names)


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _marks(columns: Sequence[Any]) -> str:
    return ",".join("?" * len(columns))


async def insert(
    connection: Connection[Any], target: Target, data: Data, size: int, timeout: float | None
) -> int:
    """Write data batch by batch; see :meth:`aiotaos.Connection.insert`."""
    written = 0
    tasks: deque[asyncio.Task[int]] = deque()
    try:
        async with aclosing(_shifted(batches(data, size))) as source:
            async for start, batch in source:
                earlier = tasks[-1] if tasks else None
                sending = _send(connection, target, batch, start, timeout, earlier)
                tasks.append(asyncio.create_task(sending))
                if len(tasks) == _AT_ONCE:
                    written += await tasks[0]
                    tasks.popleft()
        while tasks:
            written += await tasks[0]
            tasks.popleft()
    except BaseException as error:
        written += await _end(tasks, error)
        if written:
            error.add_note(f"{written} rows of earlier batches were written")
        raise
    return written


async def _end(tasks: Collection[asyncio.Task[int]], error: BaseException) -> int:
    """End the tasks after an error; gives the rows that they wrote.

    If it is the source that failed, what it gave before is written.
    """
    if not tasks:
        return 0
    try:
        if isinstance(error, Exception) and not any(map(_has_failed, tasks)):
            await asyncio.wait(tasks)
    finally:
        for task in tasks:
            task.cancel()
        await ended(tasks)
    return sum(task.result() for task in tasks if not _has_failed(task))


def _has_failed(task: asyncio.Task[int]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


async def _shifted(source: AsyncGenerator[Batch]) -> AsyncGenerator[tuple[int, Batch]]:
    """Batches with the number of rows before them, which errors about rows are told as well."""
    start = 0
    async with aclosing(source):
        try:
            async for batch in source:
                yield start, batch
                start += batch.rows
        except DataError as error:
            error.shift(start)
            raise


async def _send(
    connection: Connection[Any],
    target: Target,
    batch: Batch,
    start: int,
    timeout: float | None,
    earlier: asyncio.Task[int] | None,
) -> int:
    """Encode and send a batch, and execute it when the earlier one is written."""

    def make(shape: Shape) -> Iterator[Binding]:
        try:
            return shape.bind_columns(columns, target.table_names)
        except DataError as error:
            error.shift(start)
            raise

    async def turn() -> None:
        if earlier is not None:
            await asyncio.wait([earlier])
            if earlier.cancelled() or earlier.exception() is not None:
                raise asyncio.CancelledError

    sql, columns = target.statement(batch)
    deadline = connection._deadline(timeout)
    return await connection._write(
        sql, make, next_req_id(), deadline, turn, in_thread=batch.rows >= _MANY_ROWS
    )

"""Cursor: PEP 249 with awaits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeAlias

from .errors import InterfaceError, ProgrammingError
from .result import Result
from .row_factories import R, RowFactory
from .tabular import Tabular
from .types import DECIMALS, TypeCode

if TYPE_CHECKING:
    from .connection import Connection


ColumnDescription: TypeAlias = tuple[str, TypeCode, None, int, int | None, int | None, bool | None]


class Cursor(Tabular, Generic[R]):
    """One statement at a time, and its rows; made by :meth:`Connection.cursor`.

    Several cursors of one connection may be read in turns.

    Attributes:
        arraysize: Number of rows :meth:`fetchmany` gives if not told otherwise.
        row_factory: What rows are.
    """

    def __init__(self, connection: Connection[Any], row_factory: RowFactory[R]) -> None:
        self._connection = connection
        self._result: Result[R] | None = None
        self._written = -1
        self._closed = False
        self.arraysize = 1
        self.row_factory = row_factory

    def __repr__(self) -> str:
        state = "closed" if self._closed else repr(self._result) if self._result else "idle"
        return f"<Cursor {state}>"

    @property
    def connection(self) -> Connection[Any]:
        """The connection it works on."""
        return self._connection

    @property
    def closed(self) -> bool:
        """Whether the cursor is closed."""
        return self._closed

    @property
    def description(self) -> list[ColumnDescription] | None:
        """For each column: name, type code, None, size, precision, scale, None (PEP 249).

        None if there is no result, or if the statement returned no rows.
        """
        if self._result is None or self._result.is_update:
            return None
        return [
            (
                field.name,
                field.type,
                None,
                field.length,
                field.precision if field.type in DECIMALS else None,
                field.scale if field.type in DECIMALS else None,
                None,
            )
            for field in self._result.fields
        ]

    @property
    def rowcount(self) -> int:
        """Rows written; for queries the number of rows, -1 until the last has come."""
        if self._result is None:
            return self._written
        if self._result.is_update:
            return self._result.affected_rows
        count = self._result.row_count
        return -1 if count is None else count

    @property
    def result(self) -> Result[R] | None:
        """The result of the last statement, for its blocks, fields and timing."""
        return self._result

    async def execute(
        self,
        sql: str,
        params: Sequence[Any] = (),
        *,
        req_id: int | None = None,
        timeout: float | None = None,
    ) -> Cursor[R]:
        """Run a statement; what was left of the last one is given up.

        Args:
            sql: One statement; sent as it is if there are no parameters.
            params: A value for each ``?``.
            req_id: Identifier for tracing, 1 to 2**63 - 1; made up if not given.
            timeout: Seconds; the connection's ``read_timeout`` if not given.

        Returns:
            The cursor itself.
        """
        self._check()
        if isinstance(params, (str, bytes)) or not isinstance(params, Sequence):
            raise InterfaceError(f"params: expected a sequence of values, got {params!r}")
        await self._drop()
        result = await self._connection.query(
            sql, *params, row_factory=self.row_factory, req_id=req_id, timeout=timeout
        )
        if self._closed:
            await result.aclose()
            raise InterfaceError("the cursor was closed during the call", req_id=result.req_id)
        self._result = result
        return self

    async def executemany(
        self,
        sql: str,
        rows: Iterable[Sequence[Any]],
        *,
        req_id: int | None = None,
        timeout: float | None = None,
    ) -> Cursor[R]:
        """Run a statement once for each row of parameters; see :meth:`Connection.executemany`.

        Afterwards ``rowcount`` is the number of rows written.

        Returns:
            The cursor itself.
        """
        self._check()
        await self._drop()
        self._written = await self._connection.executemany(
            sql, rows, req_id=req_id, timeout=timeout
        )
        return self

    async def fetchone(self, *, timeout: float | None = None) -> R | None:
        """The next row, None after the last one."""
        return await self._rows().fetchone(timeout=timeout)

    async def fetchmany(self, size: int | None = None, *, timeout: float | None = None) -> list[R]:
        """Up to ``size`` (``arraysize`` if not given) of the next rows."""
        return await self._rows().fetchmany(
            self.arraysize if size is None else size, timeout=timeout
        )

    async def fetchall(self, *, timeout: float | None = None) -> list[R]:
        """All rows that are not read yet."""
        return await self._rows().fetchall(timeout=timeout)

    def __aiter__(self) -> AsyncIterator[R]:
        return self._rows().__aiter__()

    def setinputsizes(self, sizes: object) -> None:
        """Does nothing (PEP 249)."""

    def setoutputsize(self, size: int, column: int | None = None) -> None:
        """Does nothing (PEP 249)."""

    async def close(self) -> None:
        """Close the cursor and give up what is not read. May be called again."""
        self._closed = True
        await self._drop()

    async def __aenter__(self) -> Cursor[R]:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _drop(self) -> None:
        self._written = -1
        if self._result is not None:
            await self._result.aclose()
            self._result = None

    def _check(self) -> None:
        if self._closed:
            raise InterfaceError("the cursor is closed")

    def _columns(self) -> Result[R]:
        return self._rows()

    def _rows(self) -> Result[R]:
        self._check()
        if self._result is None:
            raise ProgrammingError("no statement was executed on this cursor")
        if self._result.is_update:
            raise ProgrammingError("the last statement returned no rows")
        return self._result

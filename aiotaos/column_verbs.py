"""The verbs of a connection and a pool that give columns instead of rows."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

import numpy.typing as npt

from .protocol.tables import Dictionary, DtypeBackend
from .result import Result
from .row_factories import R, tuple_row
from .tabular import (
    check_pandas,
    import_library,
    read_arrow,
    read_numpy,
    read_pandas,
    read_polars,
)
from .transport.base import Deadline
from .verbs import Verbs, check_sql, checked_req_id

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

T = TypeVar("T")


class ColumnVerbs(Verbs[R]):
    """Running queries whose rows are wanted as numpy arrays, Arrow, pandas or polars."""

    async def to_numpy(
        self, sql: str, *params: Any, req_id: int | None = None, timeout: float | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        """Run a query and return its columns as numpy arrays; see :meth:`Result.to_numpy`.

        Args:
            sql: As :meth:`query`.
            params: As :meth:`query`.
            req_id: As :meth:`query`.
            timeout: Seconds, for the whole: the statement and all of its rows.
        """
        deadline = self._deadline(timeout)
        return await read_numpy(await self._opened(sql, params, req_id, deadline), deadline)

    async def to_arrow(
        self,
        sql: str,
        *params: Any,
        dictionary: Dictionary = False,
        req_id: int | None = None,
        timeout: float | None = None,
    ) -> pyarrow.Table:
        """Run a query and return an Arrow table; see :meth:`Result.to_arrow`, :meth:`to_numpy`."""
        await import_library("pyarrow")
        deadline = self._deadline(timeout)
        result = await self._opened(sql, params, req_id, deadline)
        return await read_arrow(result, deadline, dictionary)

    async def to_pandas(
        self,
        sql: str,
        *params: Any,
        dtype_backend: DtypeBackend = None,
        dictionary: Dictionary = False,
        req_id: int | None = None,
        timeout: float | None = None,
    ) -> pandas.DataFrame:
        """Run a query and return a pandas DataFrame; see :meth:`Result.to_pandas`."""
        await check_pandas(dtype_backend)
        deadline = self._deadline(timeout)
        result = await self._opened(sql, params, req_id, deadline)
        return await read_pandas(result, deadline, dtype_backend, dictionary)

    async def to_polars(
        self,
        sql: str,
        *params: Any,
        dictionary: Dictionary = False,
        req_id: int | None = None,
        timeout: float | None = None,
    ) -> polars.DataFrame:
        """Run a query and return a polars DataFrame; see :meth:`Result.to_polars`."""
        await import_library("polars")
        deadline = self._deadline(timeout)
        result = await self._opened(sql, params, req_id, deadline)
        return await read_polars(result, deadline, dictionary)

    def numpy_batches(
        self, sql: str, *params: Any, req_id: int | None = None, timeout: float | None = None
    ) -> AsyncGenerator[dict[str, npt.NDArray[Any]], None]:
        """Run a query and give its columns some thousand rows at a time.

        When it is left before its end, close it, as with ``contextlib.aclosing``; otherwise the
        result stays open until the generator is collected.

        Args:
            sql: As :meth:`query`.
            params: As :meth:`query`.
            req_id: As :meth:`query`.
            timeout: Seconds until the result stands; each batch may take the ``read_timeout``.
        """
        return self._batches(sql, params, req_id, timeout, lambda result: result.numpy_batches())

    def arrow_batches(
        self,
        sql: str,
        *params: Any,
        dictionary: Dictionary = False,
        req_id: int | None = None,
        timeout: float | None = None,
    ) -> AsyncGenerator[pyarrow.RecordBatch, None]:
        """Run a query and give record batches; see :meth:`to_arrow`, :meth:`numpy_batches`."""
        return self._batches(
            sql,
            params,
            req_id,
            timeout,
            lambda result: result.arrow_batches(dictionary=dictionary),
        )

    def pandas_batches(
        self,
        sql: str,
        *params: Any,
        dtype_backend: DtypeBackend = None,
        dictionary: Dictionary = False,
        req_id: int | None = None,
        timeout: float | None = None,
    ) -> AsyncGenerator[pandas.DataFrame, None]:
        """Run a query and give pandas DataFrames; see :meth:`to_pandas`, :meth:`numpy_batches`."""
        return self._batches(
            sql,
            params,
            req_id,
            timeout,
            lambda result: result.pandas_batches(
                dtype_backend=dtype_backend, dictionary=dictionary
            ),
        )

    def polars_batches(
        self,
        sql: str,
        *params: Any,
        dictionary: Dictionary = False,
        req_id: int | None = None,
        timeout: float | None = None,
    ) -> AsyncGenerator[polars.DataFrame, None]:
        """Run a query and give polars DataFrames; see :meth:`to_polars`, :meth:`numpy_batches`."""
        return self._batches(
            sql,
            params,
            req_id,
            timeout,
            lambda result: result.polars_batches(dictionary=dictionary),
        )

    async def _opened(
        self, sql: str, params: Sequence[Any], req_id: int | None, deadline: Deadline
    ) -> Result[Any]:
        return await self._open(check_sql(sql), params, checked_req_id(req_id), deadline, tuple_row)

    async def _batches(
        self,
        sql: str,
        params: Sequence[Any],
        req_id: int | None,
        timeout: float | None,
        batches: Callable[[Result[Any]], AsyncGenerator[T, None]],
    ) -> AsyncGenerator[T, None]:
        result = await self._opened(sql, params, req_id, self._deadline(timeout))
        async with result, aclosing(batches(result)) as each:
            async for batch in each:
                yield batch

"""Results as what data people use: numpy arrays, Arrow, pandas and polars, whole or in batches."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy.typing as npt

from .arrow_reader import open_reader
from .errors import InterfaceError
from .protocol.block import Block
from .protocol.extras import imported
from .protocol.tables import (
    Dictionary,
    DtypeBackend,
    Tables,
    pandas_frame,
    types_mapper,
)
from .transport.base import Deadline

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

    from .result import Result

T = TypeVar("T")

_SOON = 200_000
"""Values that are converted in the loop's thread; what has more keeps it waiting too long."""


class Tabular(ABC):
    """Something whose rows can be had as columns."""

    @abstractmethod
    def _columns(self) -> Result[Any]:
        """The result that is read."""

    async def to_numpy(self, *, timeout: float | None = None) -> dict[str, npt.NDArray[Any]]:
        """The rows that are not read yet, as numpy arrays.

        Args:
            timeout: Seconds, for all of it; the connection's ``read_timeout`` if not given.

        Returns:
            An array of shape (rows,) for each column, by name. A column with NULLs is a masked
            array. TIMESTAMPs are ``datetime64`` in the result's unit, in UTC; BOOL is ``bool``;
            numbers have the width of their type; texts, binaries and DECIMALs are objects
            (``str``, ``bytes``, ``Decimal``). The arrays are the caller's own.

        Raises:
            ResultError: Some rows of the present block were already taken.
            InterfaceError: Two columns have one name.
        """
        result = self._columns()
        return await read_numpy(result, result._deadline(timeout))

    async def numpy_batches(self) -> AsyncGenerator[dict[str, npt.NDArray[Any]], None]:
        """The rows that are not read yet, some thousand at a time; see :meth:`to_numpy`.

        Arrays of numbers and times are read-only views of what the server sent.
        """
        async for batch in _each(
            self._columns(), lambda tables, block: tables.numpy([block], views=True)
        ):
            yield batch

    async def to_arrow(
        self, *, dictionary: Dictionary = False, timeout: float | None = None
    ) -> pyarrow.Table:
        """The rows that are not read yet, as an Arrow table; needs pyarrow.

        TIMESTAMPs have the result's unit and the connection's zone, DECIMALs are ``decimal128``,
        texts and JSON ``string``, VARBINARY and BLOB ``binary``, GEOMETRY ``binary`` with the
        name of GeoArrow's WKB. The table has a chunk for each block that came.

        Args:
            dictionary: Names of text columns to be dictionary-encoded; True for all of them.
            timeout: Seconds, for all of it; the connection's ``read_timeout`` if not given.

        Raises:
            ResultError: Some rows of the present block were already taken.
            DataError: A text is not Unicode.
            InterfaceError: pyarrow is not installed, or ``dictionary`` names no text column.
        """
        result = self._columns()
        return await read_arrow(result, result._deadline(timeout), dictionary)

    async def arrow_batches(
        self, *, dictionary: Dictionary = False
    ) -> AsyncGenerator[pyarrow.RecordBatch, None]:
        """The rows that are not read yet, some thousand at a time; see :meth:`to_arrow`.

        Each batch has a dictionary of its own.
        """
        result = self._columns()
        await prepare(result, "pyarrow", dictionary)
        async for batch in _each(result, lambda tables, block: tables.batch(block, dictionary)):
            yield batch

    async def arrow_reader(self, *, dictionary: Dictionary = False) -> pyarrow.RecordBatchReader:
        """The rows that are not read yet, for what reads Arrow streams, such as DuckDB or
        ``pyarrow.parquet``; needs pyarrow.

        Such readers block, so they run in another thread, while the loop brings the blocks::

            reader = await result.arrow_reader()
            await asyncio.to_thread(pyarrow.dataset.write_dataset, reader, "out", format="parquet")

        Args:
            dictionary: As :meth:`to_arrow`.

        Raises:
            ResultError: Some rows of the present block were already taken.
            InterfaceError: pyarrow is not installed, or ``dictionary`` names no text column; when
                it is read: by the loop's own thread, which would wait for itself.
        """
        result = self._columns()
        await prepare(result, "pyarrow", dictionary)
        return await open_reader(result, dictionary)

    async def to_pandas(
        self,
        *,
        dtype_backend: DtypeBackend = None,
        dictionary: Dictionary = False,
        timeout: float | None = None,
    ) -> pandas.DataFrame:
        """The rows that are not read yet, as a pandas DataFrame; needs pandas and pyarrow.

        Args:
            dtype_backend: As in pandas' ``read_…`` functions: None for numpy's types, where a
                column of integers with NULLs becomes ``float64``; ``"numpy_nullable"``, or
                ``"pyarrow"``, for types that keep them.
            dictionary: Names of text columns that become categories; True for all of them.
            timeout: Seconds, for all of it; the connection's ``read_timeout`` if not given.

        Raises:
            ResultError: Some rows of the present block were already taken.
            DataError: A text is not Unicode.
            InterfaceError: A library is not installed, there is no such backend, or
                ``dictionary`` names no text column.
        """
        result = self._columns()
        return await read_pandas(result, result._deadline(timeout), dtype_backend, dictionary)

    async def pandas_batches(
        self, *, dtype_backend: DtypeBackend = None, dictionary: Dictionary = False
    ) -> AsyncGenerator[pandas.DataFrame, None]:
        """The rows that are not read yet, some thousand at a time; see :meth:`to_pandas`."""

        def convert(tables: Tables, block: Block) -> pandas.DataFrame:
            table = tables.table([tables.batch(block)], dictionary)
            return pandas_frame(table, dtype_backend)

        result = self._columns()
        with result._given_up_on_error():
            await check_pandas(dtype_backend)
        await prepare(result, "pyarrow", dictionary)
        async for batch in _each(result, convert):
            yield batch

    async def to_polars(
        self, *, dictionary: Dictionary = False, timeout: float | None = None
    ) -> polars.DataFrame:
        """The rows that are not read yet, as a polars DataFrame; needs polars.

        With pyarrow it is several times as fast where there are texts.

        Args:
            dictionary: Names of text columns that become ``Categorical``; True for all of them.
            timeout: Seconds, for all of it; the connection's ``read_timeout`` if not given.

        Raises:
            ResultError: Some rows of the present block were already taken.
            DataError: A text is not Unicode.
            InterfaceError: polars is not installed, two columns have one name, or ``dictionary``
                names no text column.
        """
        result = self._columns()
        return await read_polars(result, result._deadline(timeout), dictionary)

    async def polars_batches(
        self, *, dictionary: Dictionary = False
    ) -> AsyncGenerator[polars.DataFrame, None]:
        """The rows that are not read yet, some thousand at a time; see :meth:`to_polars`."""
        result = self._columns()
        await prepare(result, "polars", dictionary)
        async for batch in _each(result, lambda tables, block: tables.polars([block], dictionary)):
            yield batch


async def read_numpy(result: Result[Any], deadline: Deadline) -> dict[str, npt.NDArray[Any]]:
    """See :meth:`Tabular.to_numpy`."""
    with result._given_up_on_error():
        result._tables().check_names("to_numpy()")
    blocks = await result._take_blocks(deadline, _as_it_is)
    return await _converted(result, lambda: result._tables().numpy(blocks))


async def read_arrow(
    result: Result[Any], deadline: Deadline, dictionary: Dictionary
) -> pyarrow.Table:
    """See :meth:`Tabular.to_arrow`."""
    encoded = await prepare(result, "pyarrow", dictionary)
    batches = await result._take_blocks(deadline, lambda block: result._tables().batch(block))
    if not encoded:
        return result._tables().table(batches)
    return await _converted(result, lambda: result._tables().table(batches, dictionary))


async def read_pandas(
    result: Result[Any], deadline: Deadline, backend: DtypeBackend, dictionary: Dictionary
) -> pandas.DataFrame:
    """See :meth:`Tabular.to_pandas`."""
    with result._given_up_on_error():
        await check_pandas(backend)
    table = await read_arrow(result, deadline, dictionary)
    return await _converted(result, lambda: pandas_frame(table, backend))


async def read_polars(
    result: Result[Any], deadline: Deadline, dictionary: Dictionary
) -> polars.DataFrame:
    """See :meth:`Tabular.to_polars`."""
    await prepare(result, "polars", dictionary)
    blocks = await result._take_blocks(deadline, _as_it_is)
    return await _converted(result, lambda: result._tables().polars(blocks, dictionary))


async def prepare(result: Result[Any], library: str, dictionary: Dictionary) -> Sequence[int]:
    """Check that a result can be converted, before its rows are read.

    Returns:
        The places of the columns that are to be dictionary-encoded.

    Raises:
        InterfaceError: A library is not installed, ``dictionary`` names no text column, or polars
            is wanted and two columns have one name.
    """
    with result._given_up_on_error():
        await import_library(library)
        if library == "polars":
            result._tables().check_names("to_polars()")
        return result._tables().encoded(dictionary)


async def check_pandas(backend: DtypeBackend) -> None:
    """Check that there can be a DataFrame.

    Raises:
        InterfaceError: A library is not installed, or there is no such backend.
    """
    await import_library("pandas")
    await import_library("pyarrow")
    types_mapper(backend)


async def import_library(name: str) -> None:
    """Import a large library in a thread, which leaves the loop its turns.

    pandas and polars are fed through pyarrow, polars only if there is one.
    """
    if sys.modules.get(name) is None:
        await asyncio.to_thread(imported, name)
    if sys.modules.get("pyarrow") is None:
        with contextlib.suppress(InterfaceError):
            await asyncio.to_thread(imported, "pyarrow")


def _as_it_is(block: Block) -> Block:
    return block


async def _converted(result: Result[Any], convert: Callable[[], T]) -> T:
    if (result.row_count or 0) * len(result.fields) <= _SOON:
        return convert()
    return await asyncio.to_thread(convert)


async def _each(
    result: Result[Any], convert: Callable[[Tables, Block], T]
) -> AsyncGenerator[T, None]:
    async with contextlib.aclosing(result.blocks()) as blocks:
        async for block in blocks:
            with result._given_up_on_error():
                batch = convert(result._tables(), block)
            yield batch

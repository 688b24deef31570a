"""Arrow arrays to typed columns, through the PyCapsule interface and pyarrow.

pyarrow is imported when something of Arrow's is met; the extra ``aiotaos[arrow]`` brings it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError
from ..types import TypeCode
from .block import gather
from .columns import Column, Variable, make_column
from .extras import imported
from .values import TEXTS, Described

if TYPE_CHECKING:
    import pyarrow

_BINARIES = frozenset(
    {
        TypeCode.VARCHAR,
        TypeCode.VARBINARY,
        TypeCode.GEOMETRY,
        TypeCode.BLOB,
        TypeCode.MEDIUMBLOB,
    }
)


def is_arrow(value: object) -> bool:
    """Whether a value offers Arrow data: an array, a batch, a table or a stream."""
    return hasattr(value, "__arrow_c_array__") or hasattr(value, "__arrow_c_stream__")


def is_arrow_table(value: object) -> bool:
    """Whether a value offers Arrow data with named columns, as far as it tells.

    pyarrow, polars and pandas name what a table has ``columns`` or ``schema``; a bare stream is
    taken for one.
    """
    return is_arrow(value) and (
        hasattr(value, "schema") or hasattr(value, "columns") or not hasattr(value, "__len__")
    )


def record_batches(source: object) -> Iterator[pyarrow.RecordBatch]:
    """The batches of a table, a batch or a stream, one after the other.

    Raises:
        InterfaceError: pyarrow is not installed.
    """
    pa = imported("pyarrow")
    if hasattr(source, "__arrow_c_stream__"):
        yield from pa.RecordBatchReader.from_stream(source)
    else:
        yield pa.record_batch(source)


def plain_array(source: object) -> Any:
    """One pyarrow array of an array or of chunks; views of strings become strings.

    Raises:
        InterfaceError: pyarrow is not installed.
    """
    pa = imported("pyarrow")
    array: Any = source
    if not isinstance(array, (pa.Array, pa.ChunkedArray)):
        make = pa.array if hasattr(source, "__arrow_c_array__") else pa.chunked_array
        array = make(source)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    return _without_views(pa, array)


def _without_views(pa: Any, array: Any) -> Any:
    if pa.types.is_string_view(array.type):
        return array.cast(pa.large_string())
    if pa.types.is_binary_view(array.type):
        return array.cast(pa.large_binary())
    return array


def arrow_codes(names: object) -> tuple[list[Any], Any] | None:
    """Number the distinct values of a column.

    Returns:
        The values, each once, and for each row the index of its value, shape (rows,); None if
        there are NULLs.
    """
    pa = imported("pyarrow")
    array = plain_array(names)
    if array.null_count:
        return None
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    values = array.dictionary.to_pylist()
    used, codes = np.unique(array.indices.to_numpy(zero_copy_only=False), return_inverse=True)
    places: dict[Any, int] = {}  # a dictionary may hold a value twice
    place_of = [places.setdefault(values[index], len(places)) for index in used.tolist()]
    return list(places), np.array(place_of, np.intp)[codes]


def arrow_taken(values: object, rows: Any) -> Any:
    """Some rows of an array."""
    return plain_array(values).take(imported("pyarrow").array(rows))


def arrow_column(field: Described, source: object) -> Column:
    """Make a column of an Arrow array or chunked array.

    Strings, numbers and times are taken from the array's buffers; a timestamp without a time zone
    counts as UTC.

    Raises:
        DataError: A value does not fit; the message names column, row and value.
        InterfaceError: pyarrow is not installed.
    """
    pa = imported("pyarrow")
    array = plain_array(source)
    if pa.types.is_dictionary(array.type):
        array = _without_views(pa, array.dictionary_decode())
    kind = array.type
    if _is_text(pa, kind) or _is_binary(pa, kind):
        return _strings(pa, field, array)
    if pa.types.is_timestamp(kind):
        values = _buffer(array, np.dtype("<i8")).view(f"<M8[{kind.unit}]")
    elif pa.types.is_boolean(kind):
        values = array.fill_null(False).to_numpy(zero_copy_only=False)
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        values = _buffer(array, np.dtype(kind.to_pandas_dtype()))
    else:
        return make_column(field, array.to_pylist())
    if array.null_count:
        values = np.ma.masked_array(values, _nulls(array))
    return make_column(field, values)


def _is_text(pa: Any, kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_binary(pa: Any, kind: Any) -> bool:
    types = pa.types
    return bool(
        types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    )


def _nulls(array: Any) -> Any:
    return array.is_null().to_numpy(zero_copy_only=False)


def _buffer(array: Any, dtype: np.dtype[Any]) -> Any:
    """The values of an array of fixed width, where they are."""
    raw = array.buffers()[1]
    if raw is None:
        return np.zeros(len(array), dtype)
    return np.frombuffer(raw, dtype, count=array.offset + len(array))[array.offset :]


def _strings(pa: Any, field: Described, array: Any) -> Column:
    text = _is_text(pa, array.type)
    if field.type not in (TEXTS if text else _BINARIES):
        return make_column(field, array.to_pylist())  # which names the first value as wrong
    wide = pa.large_string() if text else pa.large_binary()
    if array.type != wide:
        array = array.cast(wide)
    _, raw_offsets, raw_data = array.buffers()
    if not len(array) or raw_offsets is None:
        return make_column(field, [])
    offsets = np.frombuffer(raw_offsets, "<i8")[array.offset : array.offset + len(array) + 1]
    lengths = np.diff(offsets)
    if int(lengths.max()) > np.iinfo(np.int32).max:
        raise DataError(f"column {field.name!r} has a value of {int(lengths.max())} bytes")
    lengths = lengths.astype(np.int32)
    data = np.frombuffer(raw_data, np.uint8) if raw_data is not None else np.empty(0, np.uint8)
    if not array.null_count:
        return Variable(lengths, data[offsets[0] : offsets[-1]], None)
    nulls = _nulls(array)
    lengths[nulls] = 0
    return Variable(lengths, gather(data, offsets[:-1], lengths), nulls)

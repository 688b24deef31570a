"""Blocks to what data people use: numpy arrays, Arrow, pandas and polars.

pyarrow, pandas and polars are imported when they are asked for; the extras ``aiotaos[arrow]``,
``aiotaos[pandas]`` and ``aiotaos[polars]`` bring them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, tzinfo
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import InterfaceError
from ..types import DECIMALS, Field, Precision, TypeCode
from .block import DTYPES, MAX_DIGITS, PREFIXES, Block, Column, FixedColumn, VariableColumn
from .extras import imported
from .layout import arrange, not_unicode
from .rows import plain_values

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

Dictionary: TypeAlias = bool | Collection[str]
"""Columns to be dictionary-encoded: their names, True for all text columns, False for none."""

DtypeBackend: TypeAlias = Literal["numpy_nullable", "pyarrow"] | None
"""What a DataFrame's columns are, as in pandas' ``read_…`` functions; None is pandas' default."""

_TEXTS = (TypeCode.VARCHAR, TypeCode.NCHAR, TypeCode.JSON)
_OBJECTS = (*PREFIXES, *DECIMALS, TypeCode.NULL)


class Tables:
    """What the blocks of one result become.

    Attributes:
        precision: Unit of the TIMESTAMPs.

    Args:
        fields: The columns.
        precision: Unit of the TIMESTAMPs.
        tz: Time zone that TIMESTAMPs of Arrow, pandas and polars are shown in. A zone without an
            IANA name counts as UTC; the instants are the same.
    """

    def __init__(self, fields: Sequence[Field], precision: Precision, tz: tzinfo = UTC) -> None:
        self.precision = precision
        self._fields = fields
        key = getattr(tz, "key", None)
        self._zone = key if isinstance(key, str) and key != "localtime" else "UTC"

    # numpy.

    def numpy(self, blocks: Sequence[Block], *, views: bool = False) -> dict[str, npt.NDArray[Any]]:
        """Arrays of shape (rows,) by column name; see :meth:`aiotaos.Result.to_numpy`.

        Args:
            blocks: What is to be one.
            views: Whether arrays of a single block may be views of it, which are read-only.

        Raises:
            InterfaceError: Two columns have one name.
        """
        self.check_names("to_numpy()")
        columns = zip(*[block.columns for block in blocks or [self._empty]], strict=True)
        return {
            field.name: _joined(list(map(self._array, parts)), views)
            for field, parts in zip(self._fields, columns, strict=True)
        }

    def _array(self, column: Column) -> npt.NDArray[Any]:
        nulls = column.nulls
        if isinstance(column, VariableColumn) or column.type in _OBJECTS:
            listed = plain_values(column)
            values: npt.NDArray[Any] = np.empty(len(column), object)
            values[:] = listed
            if column.type is TypeCode.JSON and None in listed:  # NULL, or the document null
                nulls = np.array([value is None for value in listed])
        elif column.type is TypeCode.BOOL:
            values = column.values != 0
        elif column.type is TypeCode.TIMESTAMP:
            values = column.values.view(f"<M8[{self.precision.unit}]")
        else:
            values = column.values
        return values if nulls is None else np.ma.masked_array(values, nulls)

    # Arrow.

    @cached_property
    def schema(self) -> pyarrow.Schema:
        """The Arrow schema.

        Raises:
            InterfaceError: pyarrow is not installed.
        """
        pa = imported("pyarrow")
        return pa.schema([self._arrow_field(pa, field) for field in self._fields])

    @cached_property
    def _types(self) -> list[Any]:
        return list(self.schema.types)

    def _arrow_field(self, pa: Any, field: Field) -> Any:
        if field.type is TypeCode.GEOMETRY:  # WKB, which GeoArrow has a name for
            extension = {"ARROW:extension:name": "geoarrow.wkb", "ARROW:extension:metadata": "{}"}
            return pa.field(field.name, pa.binary(), metadata=extension)
        if field.type is TypeCode.TIMESTAMP:
            return pa.field(field.name, pa.timestamp(self.precision.unit, self._zone))
        if field.type in DECIMALS:
            return pa.field(field.name, _decimal128(pa, field))
        return pa.field(field.name, pa.type_for_alias(_ARROW_TYPES[field.type]))

    def batch(self, block: Block, dictionary: Dictionary = False) -> pyarrow.RecordBatch:
        """One block as a record batch.

        Raises:
            DataError: A text is not Unicode.
            InterfaceError: pyarrow is not installed, or ``dictionary`` names no text column.
        """
        pa = imported("pyarrow")
        encoded = self.encoded(dictionary)
        schema = self.schema_with(dictionary)
        arrays = []
        for place, (column, type) in enumerate(zip(block.columns, self._types, strict=True)):
            part = arrange(column, self._fields[place].name)
            if isinstance(column, FixedColumn) and column.type in DECIMALS:
                type = _decimal128(pa, column)  # which an old server announces without digits
                schema = schema.set(place, schema.field(place).with_type(type))
            buffers = [None if data is None else pa.py_buffer(data) for data in part.buffers]
            array = pa.Array.from_buffers(type, part.rows, buffers, null_count=part.null_count)
            arrays.append(array.dictionary_encode() if place in encoded else array)
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def schema_with(self, dictionary: Dictionary) -> pyarrow.Schema:
        """The schema of batches that are dictionary-encoded."""
        schema = self.schema
        encoded = self.encoded(dictionary)
        if not encoded:
            return schema
        pa = imported("pyarrow")
        for place in encoded:
            field = schema.field(place)
            schema = schema.set(place, field.with_type(pa.dictionary(pa.int32(), field.type)))
        return schema

    def table(
        self, batches: Iterable[pyarrow.RecordBatch], dictionary: Dictionary = False
    ) -> pyarrow.Table:
        """Batches as one table, without copying but for its dictionaries.

        Args:
            batches: As :meth:`batch` gives them without ``dictionary``. Those with other units of
                time, which come over REST while all TIMESTAMPs are NULL, are converted.
            dictionary: Columns to be dictionary-encoded, with one dictionary for all batches.
        """
        pa = imported("pyarrow")
        given = list(batches)
        schema = self.schema
        for place, field in enumerate(self._fields):
            if given and field.type in DECIMALS:
                schema = schema.set(place, given[0].schema.field(place))
        table = pa.Table.from_batches(
            [batch if batch.schema == schema else batch.cast(schema) for batch in given], schema
        )
        for place in self.encoded(dictionary):
            column = table.column(place).dictionary_encode()
            table = table.set_column(place, table.field(place).with_type(column.type), column)
        return table

    # polars.

    def polars(self, blocks: Sequence[Block], dictionary: Dictionary = False) -> polars.DataFrame:
        """Blocks as a DataFrame; through Arrow where pyarrow is installed.

        Raises:
            DataError: A text is not Unicode.
            InterfaceError: polars is not installed, two columns have one name, or ``dictionary``
                names no text column.
        """
        pl = imported("polars")
        self.check_names("to_polars()")
        encoded = self.encoded(dictionary)
        try:
            pa = imported("pyarrow")
        except InterfaceError:
            parts = [self._polars_frame(pl, block) for block in blocks or [self._empty]]
            frame: polars.DataFrame = pl.concat(parts)
        else:
            table = self.table(map(self.batch, blocks))
            plain = pa.schema([field.remove_metadata() for field in table.schema])
            frame = pl.DataFrame(pa.Table.from_arrays(table.columns, schema=plain))
        return frame.with_columns(pl.nth(place).cast(pl.Categorical) for place in encoded)

    def _polars_frame(self, pl: Any, block: Block) -> Any:
        columns = zip(self._fields, block.columns, strict=True)
        return pl.DataFrame([self._polars_series(pl, *one) for one in columns])

    def _polars_series(self, pl: Any, field: Field, column: Column) -> Any:
        if field.type is TypeCode.TIMESTAMP:
            dtype = pl.Datetime(self.precision.unit, self._zone)
        elif isinstance(column, FixedColumn) and column.type in DECIMALS:
            dtype = pl.Decimal(column.precision or MAX_DIGITS, column.scale)
        else:
            dtype = getattr(pl, _POLARS_TYPES[field.type])
        if isinstance(column, VariableColumn) or column.type in _OBJECTS:
            try:
                return pl.Series(field.name, plain_values(column), dtype)
            except UnicodeEncodeError:
                raise not_unicode(field.name) from None
        values = column.values != 0 if column.type is TypeCode.BOOL else column.values
        series = pl.Series(field.name, np.ascontiguousarray(values)).cast(dtype)
        nulls = column.nulls
        return series if nulls is None else series.set(pl.Series(nulls), None)

    # What they share.

    @cached_property
    def _empty(self) -> Block:
        columns: list[Column] = [_no_values(field) for field in self._fields]
        return Block(self._fields, self.precision, columns, 0)

    def check_names(self, what: str) -> None:
        """Check that the columns can be told apart by name.

        Raises:
            InterfaceError: Two have one name.
        """
        names = [field.name for field in self._fields]
        for name in names:
            if names.count(name) > 1:
                raise InterfaceError(
                    f"two columns are called {name!r}, and {what} has one of each name; "
                    "name them with `as` in the statement"
                )

    def encoded(self, dictionary: Dictionary) -> Sequence[int]:
        """The places of the columns that are to be dictionary-encoded.

        Raises:
            InterfaceError: ``dictionary`` is nothing of the kind, or names no text column.
        """
        texts = {place: field.name for place, field in enumerate(self._fields) if _is_text(field)}
        if isinstance(dictionary, bool):
            return list(texts) if dictionary else []
        if isinstance(dictionary, str) or not isinstance(dictionary, Collection):
            raise InterfaceError(
                f"dictionary: expected True, or names of columns in a list, got {dictionary!r}"
            )
        unknown = [name for name in dictionary if name not in texts.values()]
        if unknown:
            raise InterfaceError(
                f"dictionary: {unknown[0]!r} is no text column; "
                f"there are {', '.join(map(repr, texts.values())) or 'none'}"
            )
        return [place for place, name in texts.items() if name in dictionary]


def pandas_frame(table: pyarrow.Table, backend: DtypeBackend = None) -> pandas.DataFrame:
    """An Arrow table as a DataFrame.

    Raises:
        InterfaceError: pandas is not installed, or there is no such backend.
    """
    # pyarrow finds the types of pandas by name, and takes the wrong ones where two are the same.
    numbered = table.rename_columns(list(map(str, range(table.num_columns))))
    frame: pandas.DataFrame = numbered.to_pandas(types_mapper=types_mapper(backend))
    frame.columns = table.column_names
    return frame


def types_mapper(backend: DtypeBackend) -> Callable[[pyarrow.DataType], Any] | None:
    """What makes pandas' types of Arrow's; None for the default.

    Raises:
        InterfaceError: pandas is not installed, or there is no such backend.
    """
    pandas = imported("pandas")
    if backend is None:
        return None
    if backend == "pyarrow":
        mapper: Callable[[pyarrow.DataType], Any] = pandas.ArrowDtype
        return mapper
    if backend != "numpy_nullable":
        raise InterfaceError(
            f"dtype_backend: expected 'numpy_nullable', 'pyarrow' or None, got {backend!r}"
        )
    pa = imported("pyarrow")
    return {
        pa.type_for_alias(name): getattr(pandas, dtype)() for name, dtype in _NULLABLE_TYPES.items()
    }.get


def _decimal128(pa: Any, of: Field | FixedColumn) -> Any:
    return pa.decimal128(of.precision or MAX_DIGITS, of.scale)


def _is_text(field: Field) -> bool:
    return field.type in _TEXTS


def _no_values(field: Field) -> Column:
    if field.type in PREFIXES:
        return VariableColumn(field.type, np.empty(0, "<i4"), np.empty(0, np.uint8))
    return FixedColumn(
        field.type,
        np.empty(0, DTYPES[field.type]),
        np.empty(0, np.uint8),
        field.precision,
        field.scale,
    )


def _joined(arrays: Sequence[npt.NDArray[Any]], views: bool) -> npt.NDArray[Any]:
    if len(arrays) == 1:
        return arrays[0] if views else arrays[0].copy()
    if any(isinstance(array, np.ma.MaskedArray) for array in arrays):
        return np.ma.concatenate(arrays)  # type: ignore[no-any-return, no-untyped-call]
    return np.concatenate(arrays)


_ARROW_TYPES = {
    TypeCode.NULL: "null",
    TypeCode.BOOL: "bool",
    TypeCode.TINYINT: "int8",
    TypeCode.SMALLINT: "int16",
    TypeCode.INT: "int32",
    TypeCode.BIGINT: "int64",
    TypeCode.UTINYINT: "uint8",
    TypeCode.USMALLINT: "uint16",
    TypeCode.UINT: "uint32",
    TypeCode.UBIGINT: "uint64",
    TypeCode.FLOAT: "float32",
    TypeCode.DOUBLE: "float64",
    TypeCode.VARCHAR: "string",
    TypeCode.NCHAR: "string",
    TypeCode.JSON: "string",
    TypeCode.VARBINARY: "binary",
    TypeCode.BLOB: "binary",
    TypeCode.MEDIUMBLOB: "binary",
}
_NULLABLE_TYPES = {
    "bool": "BooleanDtype",
    "int8": "Int8Dtype",
    "int16": "Int16Dtype",
    "int32": "Int32Dtype",
    "int64": "Int64Dtype",
    "uint8": "UInt8Dtype",
    "uint16": "UInt16Dtype",
    "uint32": "UInt32Dtype",
    "uint64": "UInt64Dtype",
    "float32": "Float32Dtype",
    "float64": "Float64Dtype",
    "string": "StringDtype",
}
_POLARS_TYPES = {
    TypeCode.NULL: "Null",
    TypeCode.BOOL: "Boolean",
    TypeCode.TINYINT: "Int8",
    TypeCode.SMALLINT: "Int16",
    TypeCode.INT: "Int32",
    TypeCode.BIGINT: "Int64",
    TypeCode.UTINYINT: "UInt8",
    TypeCode.USMALLINT: "UInt16",
    TypeCode.UINT: "UInt32",
    TypeCode.UBIGINT: "UInt64",
    TypeCode.FLOAT: "Float32",
    TypeCode.DOUBLE: "Float64",
    TypeCode.VARCHAR: "String",
    TypeCode.NCHAR: "String",
    TypeCode.JSON: "String",
    TypeCode.VARBINARY: "Binary",
    TypeCode.GEOMETRY: "Binary",
    TypeCode.BLOB: "Binary",
    TypeCode.MEDIUMBLOB: "Binary",
}

"""Raw blocks: what TDengine sends for some thousand rows, column by column, in one buffer.

:func:`parse_block` makes views into the buffer and copies nothing; it checks the whole layout
first, so that a truncated or inconsistent block raises :class:`~aiotaos.errors.ProtocolError`
instead of giving a wrong row. The layout is that of ``blockEncode`` in TDengine's
``source/common/src/tdatablock.c``, as taosAdapter passes it on: all integers little-endian,
unaligned.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from datetime import UTC
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import ProtocolError
from ..types import DECIMALS, Field, Precision, TypeCode

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

    from .rows import RowDecoder
    from .tables import Dictionary, DtypeBackend, Tables

Buffer: TypeAlias = bytes | bytearray | memoryview
Mask: TypeAlias = npt.NDArray[np.bool_]
Row: TypeAlias = tuple[Any, ...]

HEADER = struct.Struct("<iiiiIQ")  # version, total length, rows, columns, flag segment, group id
SCHEMA = struct.Struct("<bi")  # type, bytes
MAX_DIGITS = 38
MAX_BYTES = 2**31 - 1
"""Of all values of a column together; values may overlap, and Arrow counts with 32 bits."""
MAX_ROWS = 2**22
"""A thousand times what TDengine puts into a block; more is a broken one."""
VERSIONS = (1, 2)  # the same layout; 2 is what subscriptions send

DTYPES: dict[TypeCode, np.dtype[Any]] = {
    TypeCode.NULL: np.dtype("V0"),
    TypeCode.BOOL: np.dtype("u1"),
    TypeCode.TINYINT: np.dtype("i1"),
    TypeCode.SMALLINT: np.dtype("<i2"),
    TypeCode.INT: np.dtype("<i4"),
    TypeCode.BIGINT: np.dtype("<i8"),
    TypeCode.FLOAT: np.dtype("<f4"),
    TypeCode.DOUBLE: np.dtype("<f8"),
    TypeCode.TIMESTAMP: np.dtype("<i8"),
    TypeCode.UTINYINT: np.dtype("u1"),
    TypeCode.USMALLINT: np.dtype("<u2"),
    TypeCode.UINT: np.dtype("<u4"),
    TypeCode.UBIGINT: np.dtype("<u8"),
    TypeCode.DECIMAL64: np.dtype("<i8"),
    TypeCode.DECIMAL: np.dtype([("low", "<u8"), ("high", "<i8")]),
}
"""The in-memory type of each fixed-width column."""

PREFIXES: dict[TypeCode, np.dtype[Any]] = {
    TypeCode.VARCHAR: np.dtype("<u2"),
    TypeCode.NCHAR: np.dtype("<u2"),
    TypeCode.JSON: np.dtype("<u2"),
    TypeCode.VARBINARY: np.dtype("<u2"),
    TypeCode.GEOMETRY: np.dtype("<u2"),
    TypeCode.BLOB: np.dtype("<u4"),
    TypeCode.MEDIUMBLOB: np.dtype("<u4"),
}
"""The length prefix that stands before each value of a variable-width column."""


class FixedColumn:
    """A column of fixed-width values.

    Attributes:
        type: Type code.
        values: Array of shape (rows,), a read-only view into the block. BOOL is u1; TIMESTAMP is
            i8 ticks in the result's precision; DECIMAL64 is the unscaled i8; DECIMAL is a record
            of ``low`` u8 and ``high`` i8. Slots of NULL rows hold arbitrary values.
        precision: Decimal digits of a DECIMAL, 0 otherwise.
        scale: Digits behind the point of a DECIMAL, 0 otherwise.
    """

    __slots__ = ("_bitmap", "precision", "scale", "type", "values")

    def __init__(
        self,
        type: TypeCode,
        values: npt.NDArray[Any],
        bitmap: npt.NDArray[np.uint8],
        precision: int = 0,
        scale: int = 0,
    ) -> None:
        self.type = type
        self.values = values
        self.precision = precision
        self.scale = scale
        self._bitmap = bitmap

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        return f"<FixedColumn {self.type.name}, {len(self)} rows>"

    @property
    def nulls(self) -> Mask | None:
        """Which rows are NULL, shape (rows,); None when no row is."""
        if self.type is TypeCode.NULL:
            return np.ones(len(self), dtype=np.bool_)
        if not self._bitmap.any():
            return None
        mask = np.unpackbits(self._bitmap, count=len(self)).view(np.bool_)
        return mask if mask.any() else None

    def cut(self, start: int, stop: int) -> FixedColumn:
        """Some adjacent rows, as views; ``start`` is a multiple of 8."""
        bitmap = self._bitmap[start >> 3 : (stop + 7) >> 3]
        return FixedColumn(self.type, self.values[start:stop], bitmap, self.precision, self.scale)


class VariableColumn:
    """A column of values of varying length.

    Attributes:
        type: Type code.
        offsets: Array i4 of shape (rows,): where each value stands in ``data``, its length prefix
            first; negative for NULL. Need not be increasing, contiguous or distinct.
        data: Array u1 with the values.
    """

    __slots__ = ("data", "offsets", "type")

    def __init__(
        self, type: TypeCode, offsets: npt.NDArray[np.int32], data: npt.NDArray[np.uint8]
    ) -> None:
        self.type = type
        self.offsets = offsets
        self.data = data

    def __len__(self) -> int:
        return len(self.offsets)

    def __repr__(self) -> str:
        return f"<VariableColumn {self.type.name}, {len(self)} rows>"

    @property
    def nulls(self) -> Mask | None:
        """Which rows are NULL, shape (rows,); None when no row is."""
        mask: Mask = self.offsets < 0
        return mask if mask.any() else None

    def cut(self, start: int, stop: int) -> VariableColumn:
        """Some adjacent rows, as views."""
        return VariableColumn(self.type, self.offsets[start:stop], self.data)

    def spans(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Mask | None]:
        """Where the values of the rows that are not NULL begin and end in ``data``.

        Returns:
            Arrays (starts, ends) for the rows that are not NULL, in row order and without the
            length prefix, and the mask of NULL rows.

        Raises:
            ProtocolError: A value reaches beyond the column.
        """
        nulls = self.nulls
        offsets = (self.offsets if nulls is None else self.offsets[~nulls]).astype(np.int64)
        width = PREFIXES[self.type].itemsize
        size = len(self.data)
        if len(offsets) and int(offsets.max()) + width > size:
            raise ProtocolError(
                f"inconsistent block: a {self.type.name} value stands at {int(offsets.max())} "
                f"of a column of {size} bytes"
            )
        lengths = self.data[offsets].astype(np.int64)
        for byte in range(1, width):
            lengths |= self.data[offsets + byte].astype(np.int64) << (8 * byte)
        starts = offsets + width
        ends = starts + lengths
        if len(ends) and int(ends.max()) > size:
            raise ProtocolError(
                f"inconsistent block: a {self.type.name} value ends at {int(ends.max())} "
                f"of a column of {size} bytes"
            )
        return starts, ends, nulls

    def packed(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], Mask | None]:
        """The values one behind the other, without their length prefixes.

        Returns:
            The bytes, a view where the layout allows; the length of each value of the rows that
            are not NULL, bytes; and the mask of NULL rows.

        Raises:
            ProtocolError: A value reaches beyond the column.
        """
        starts, ends, nulls = self.spans()
        lengths = ends - starts
        if not len(starts):
            return self.data[:0], lengths, nulls
        if int(lengths.sum()) > MAX_BYTES:
            raise ProtocolError(
                f"inconsistent block: {self.type.name} values of {int(lengths.sum())} bytes "
                f"in a column of {len(self.data)}"
            )
        width = PREFIXES[self.type].itemsize
        if not (starts[1:] == ends[:-1] + width).all():
            return gather(self.data, starts, lengths), lengths, nulls
        stretch = self.data[starts[0] - width : ends[-1]]
        if int(lengths.min()) == int(lengths.max()):
            return stretch.reshape(len(starts), -1)[:, width:].ravel(), lengths, nulls
        values = np.ones(len(stretch), np.bool_)
        for byte in range(width):
            values[starts - starts[0] + byte] = False
        return stretch[values], lengths, nulls


def gather(
    data: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.integer]
) -> npt.NDArray[np.uint8]:
    """Join slices of a buffer: ``lengths[i]`` bytes from ``starts[i]`` each."""
    ends = np.cumsum(lengths, dtype=np.int64)
    if not len(ends):
        return data[:0]
    index = np.repeat(starts - ends + lengths, lengths)
    index += np.arange(len(index))
    joined: npt.NDArray[np.uint8] = data[index]
    return joined


Column: TypeAlias = FixedColumn | VariableColumn


class Block:
    """Some rows of a result, as columns.

    ``len(block)`` is its number of rows, iterating gives rows.

    Attributes:
        fields: Description of the columns.
        precision: Unit of its TIMESTAMPs.
    """

    __slots__ = ("_columns", "_decoder", "_rows", "fields", "precision")

    def __init__(
        self,
        fields: Sequence[Field],
        precision: Precision,
        columns: Sequence[Column],
        rows: int,
    ) -> None:
        self.fields = tuple(fields)
        self.precision = precision
        self._columns = tuple(columns)
        self._rows = rows
        self._decoder: RowDecoder | None = None

    def __len__(self) -> int:
        return self._rows

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows())

    def __repr__(self) -> str:
        return f"<Block {self._rows} rows x {len(self.fields)} columns>"

    @property
    def columns(self) -> Sequence[Column]:
        """The columns: views into the block's buffer."""
        return self._columns

    @property
    def parts(self) -> Sequence[Column | Sequence[Any]]:
        """The columns, or their values where rows need nothing else."""
        return self._columns

    def rows(self) -> list[Row]:
        """The rows as tuples of Python values, with the conversions of the connection."""
        if self._decoder is None:
            raise TypeError("this block has no row decoder; use RowDecoder.rows(block)")
        return self._decoder.rows(self)

    def decoded_by(self, decoder: RowDecoder) -> Self:
        """Say how :meth:`rows` makes Python values; returns the block itself."""
        self._decoder = decoder
        return self

    def cut(self, start: int, stop: int) -> Block:
        """Some adjacent rows, as views.

        Args:
            start: The first row, a multiple of 8.
            stop: The row behind the last one.
        """
        columns = [column.cut(start, stop) for column in self._columns]
        block = Block(self.fields, self.precision, columns, stop - start)
        block._decoder = self._decoder
        return block

    def to_numpy(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays by column name, read-only views where numpy has the type.

        See :meth:`Result.to_numpy`.
        """
        return self.tables().numpy([self], views=True)

    def to_arrow(self, *, dictionary: Dictionary = False) -> pyarrow.RecordBatch:
        """An Arrow record batch; see :meth:`Result.to_arrow`."""
        return self.tables().batch(self, dictionary)

    def to_pandas(
        self, *, dtype_backend: DtypeBackend = None, dictionary: Dictionary = False
    ) -> pandas.DataFrame:
        """A pandas DataFrame; see :meth:`Result.to_pandas`."""
        from .tables import pandas_frame

        tables = self.tables()
        return pandas_frame(tables.table([tables.batch(self)], dictionary), dtype_backend)

    def to_polars(self, *, dictionary: Dictionary = False) -> polars.DataFrame:
        """A polars DataFrame; see :meth:`Result.to_polars`."""
        return self.tables().polars([self], dictionary)

    def __arrow_c_schema__(self) -> object:
        return self.tables().schema.__arrow_c_schema__()

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        capsules: tuple[object, object] = self.to_arrow().__arrow_c_array__(requested_schema)
        return capsules

    def tables(self) -> Tables:
        """What makes arrays and tables of blocks such as this."""
        from .tables import Tables  # which is made of what is here

        return Tables(
            self.fields, self.precision, UTC if self._decoder is None else self._decoder.tz
        )


def parse_block(
    data: Buffer, *, fields: Sequence[Field] | None = None, precision: Precision | int = 0
) -> Block:
    """Make column views of a raw block, without copying.

    Args:
        data: The whole block, header and trailing byte included, if it has one. It must stay
            unchanged as long as the columns are used.
        fields: The columns that the query announced; without them, names are empty.
        precision: Unit of the TIMESTAMPs (a block does not carry it).

    Raises:
        ProtocolError: The block is truncated, inconsistent, or not what ``fields`` announces.
    """
    view = memoryview(data).toreadonly()
    size = len(view)
    if size < HEADER.size:
        raise ProtocolError(f"truncated block: {size} bytes, a header has {HEADER.size}")
    version, total, rows, count, _, _ = HEADER.unpack_from(view)
    if version not in VERSIONS:
        raise ProtocolError(f"unknown block version {version}, expected 1 or 2")
    if total != size:
        raise ProtocolError(f"inconsistent block: it announces {total} bytes and has {size}")
    if not 0 <= rows <= MAX_ROWS or count < 1 or HEADER.size + 9 * count > size:
        raise ProtocolError(f"inconsistent block: {rows} rows and {count} columns in {size} bytes")
    if fields is not None and len(fields) != count:
        raise ProtocolError(f"block has {count} columns, the query announced {len(fields)}")

    schema = [SCHEMA.unpack_from(view, HEADER.size + SCHEMA.size * index) for index in range(count)]
    lengths = struct.unpack_from(f"<{count}i", view, HEADER.size + SCHEMA.size * count)
    position = HEADER.size + 9 * count
    columns: list[Column] = []
    own_fields: list[Field] = []
    for index, (code, declared) in enumerate(schema):
        try:
            type = TypeCode(code)
        except ValueError:
            raise ProtocolError(f"column {index} of the block has unknown type {code}") from None
        if fields is not None and fields[index].type is not type:
            raise ProtocolError(
                f"column {index} of the block is {type.name}, "
                f"the query announced {fields[index].type.name}"
            )
        column, position = _column(view, position, type, declared, rows, lengths[index])
        columns.append(column)
        if fields is None:
            own_fields.append(make_field("", type, declared))
    if size - position > 1:  # TDengine writes a byte ``blankFill`` there since mid-2024
        raise ProtocolError(
            f"inconsistent block: its columns end at {position}, the block at {size}"
        )
    return Block(own_fields if fields is None else fields, Precision(precision), columns, rows)


def _column(
    view: memoryview, position: int, type: TypeCode, declared: int, rows: int, length: int
) -> tuple[Column, int]:
    variable = type in PREFIXES
    head = 4 * rows if variable else (rows + 7) >> 3
    start = position + head
    end = start + length
    if length < 0 or end > len(view):
        raise ProtocolError(
            f"truncated block: a {type.name} column of {head} + {length} bytes at {position} "
            f"of {len(view)}"
        )
    if variable:
        offsets = np.frombuffer(view, "<i4", rows, position)
        return VariableColumn(type, offsets, np.frombuffer(view, np.uint8, length, start)), end
    dtype = DTYPES[type]
    if length != rows * dtype.itemsize:
        raise ProtocolError(
            f"inconsistent block: {rows} rows of {type.name} in {length} bytes, "
            f"expected {rows * dtype.itemsize}"
        )
    bitmap = np.frombuffer(view, np.uint8, head, position)
    values = np.frombuffer(view, dtype, rows, start) if length else np.zeros(rows, dtype)
    digits, scale = decimal_size(declared) if type in DECIMALS else (0, 0)
    if digits > MAX_DIGITS or scale > digits:
        raise ProtocolError(
            f"inconsistent block: a {type.name} column of ({digits},{scale}) digits"
        )
    return FixedColumn(type, values, bitmap, digits, scale), end


def decimal_size(declared: int) -> tuple[int, int]:
    """Unpack the schema of a DECIMAL column into (precision, scale)."""
    return (declared >> 8) & 0xFF, declared & 0xFF


def make_field(name: str, type: TypeCode, declared: int) -> Field:
    """Describe a column by the ``bytes`` of a schema, which contain the length prefix."""
    if type in DECIMALS:
        return Field(name, type, DTYPES[type].itemsize, *decimal_size(declared))
    if type in (TypeCode.NCHAR, TypeCode.JSON):
        return Field(name, type, max(declared - 2, 0) // 4)
    if type in PREFIXES:
        return Field(name, type, max(declared - PREFIXES[type].itemsize, 0))
    return Field(name, type, declared)

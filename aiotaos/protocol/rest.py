"""Bodies of REST answers: JSON to blocks, as it comes in.

A body is ``{"code":0,"column_meta":[[name,type,length],…],"data":[[…],…],"rows":N}`` (taosAdapter's
``controller/rest``); servers of 2.x write ``"status"`` and ``"head"`` instead of ``"code"``, and
types as numbers. Rows are decoded in pieces that end where a row ends, so that only one piece is
held.
"""

from __future__ import annotations

import array
import functools
import re
from collections.abc import Sequence
from datetime import tzinfo
from decimal import Decimal
from itertools import accumulate, chain, repeat
from operator import is_
from typing import Annotated, Any, Generic, TypeAlias, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from ..errors import ProtocolError
from ..types import DECIMALS, Field, Precision, TypeCode
from .block import DTYPES, FixedColumn, Mask
from .instants import ticks_of_texts
from .listed import ListedBlock, Part, fixed_column, ticks_column

T = TypeVar("T")
_Values: TypeAlias = Sequence[Any]
_Row: TypeAlias = tuple[Any, ...]

MAX_PENDING = 64 * 1024 * 1024
"""Bytes of one row, or of all that stands before the rows; a row of TDengine's has less."""

SHOWN = 200
"""Bytes of a body that errors show."""

_DATA = re.compile(rb'"data"\s*:\s*\[')
_DECIMAL = re.compile(r"DECIMAL\((\d+), ?(\d+)\)")
_CODES = {code.sql_name: code for code in TypeCode if code not in DECIMALS}
_BINARIES = frozenset({TypeCode.VARBINARY, TypeCode.GEOMETRY, TypeCode.BLOB, TypeCode.MEDIUMBLOB})
_JSON_TYPES: dict[TypeCode, Any] = dict.fromkeys(TypeCode, str | None) | {
    code: Annotated[int, msgspec.Meta(ge=int(np.iinfo(dtype).min), le=int(np.iinfo(dtype).max))]
    | None
    for code, dtype in DTYPES.items()
    if dtype.kind in "iu" and code is not TypeCode.UBIGINT  # whose limit msgspec cannot check
}
_JSON_TYPES |= {
    TypeCode.NULL: None,
    TypeCode.BOOL: bool | None,
    TypeCode.UBIGINT: int | None,
    TypeCode.FLOAT: float | None,
    TypeCode.DOUBLE: float | None,
    TypeCode.TIMESTAMP: str | int | None,
    TypeCode.JSON: msgspec.Raw,
    TypeCode.DECIMAL: Decimal | None,
    TypeCode.DECIMAL64: Decimal | None,
}
_LONE = 0xDC80  # the surrogate that stands for the byte 0x80
_WINDOW = 128  # characters that stand for the bytes that are not UTF-8
_PRIVATE = range(0xF0000, 0xFFF80, _WINDOW)
_REALS = frozenset({TypeCode.FLOAT, TypeCode.DOUBLE})
_MINUS_ZERO = re.compile(rb"[\[,]-0[\],]")
_PRIVATE_ESCAPE = re.compile(r"\\u[dD][bB]")
_AFFECTED = "affected_rows"
_PERHAPS_NAN = "; taosAdapter breaks off where it meets NaN or an infinity, which JSON has not"


class Head(msgspec.Struct):
    """What stands before the rows, or, of a refusal, the whole body.

    Attributes:
        code: 0, or the error's low 16 bits.
        desc: The error's text, or a token.
        status: ``succ`` or ``error`` from servers of 2.x, None from others.
        column_meta: Name, type and length of each column.
        rows: Number of rows, where it stands before them.
        timing: Time the server took, ns.
    """

    code: int = 0
    desc: str = ""
    status: str | None = None
    column_meta: list[tuple[str, str | int, int]] = []
    rows: int | None = None
    timing: int = 0

    @property
    def is_refusal(self) -> bool:
        """Whether the server refused the statement."""
        return self.code != 0 or self.status == "error"


def parse_head(body: bytes) -> Head | None:
    """What a short body says; None if it is no JSON object, or none of this kind."""
    if not body.lstrip().startswith(b"{"):
        return None
    try:
        return _decoded(_HEAD, body)
    except ProtocolError:
        return None


class Body:
    """The answer to a statement, fed as it comes in.

    Args:
        reads: Whether the statement is a query; of others, a column ``affected_rows`` tells how
            many rows were written.
        zone: The zone that TIMESTAMPs are written in, if it is another than UTC.

    Attributes:
        head: What stands before the rows; None until it has come.
        fields: The columns.
        is_update: Whether the statement returned no rows.
        affected_rows: Number of rows written.
        precision: Unit of the TIMESTAMPs; None until one has come.
        timing: Time the server took, ns; 0 until the server has said it.
    """

    def __init__(self, *, reads: bool, zone: tzinfo | None = None) -> None:
        self._reads = reads
        self._zone = zone
        self._buffer = bytearray()
        self._start = b""
        self._ended = self._done = False
        self._count = 0
        self._searched = 0  # bytes of the buffer in which no row ends
        self._mark = b"],["
        self._shape: _Shape | None = None
        self.head: Head | None = None
        self.fields: tuple[Field, ...] = ()
        self.is_update = False
        self.affected_rows = 0
        self.precision: Precision | None = None
        self.timing = 0

    @property
    def start(self) -> bytes:
        """The first bytes of the body."""
        return self._start

    @property
    def pending(self) -> int:
        """Bytes that have come and are not decoded."""
        return len(self._buffer)

    @property
    def done(self) -> bool:
        """Whether all of it was read, and is as announced."""
        return self._done

    def feed(self, data: bytes) -> None:
        """Take in what came.

        Raises:
            ProtocolError: It cannot be an answer to a statement.
        """
        if len(self._start) < SHOWN:
            self._start = (self._start + data)[:SHOWN]
            if self._start.lstrip()[:1] not in (b"", b"{"):
                raise ProtocolError("expected a JSON object")
        self._buffer += data
        if self.head is None:
            self._read_head()

    def end(self) -> None:
        """There is nothing more to come.

        Raises:
            ProtocolError: It ended before its rows.
        """
        self._ended = True
        if self.head is None:
            self.head = parse_head(bytes(self._buffer))
            if self.head is None or not self.head.is_refusal:
                raise ProtocolError(f"the body ends before its rows{_PERHAPS_NAN}")
            self._done = True
            self.timing = self.head.timing

    def _read_head(self) -> None:
        found = _DATA.search(self._buffer)
        if found is None:
            self._check_pending("the head of the body")
            return
        before = bytes(self._buffer[: found.start()]) + b'"":0}'
        head = parse_head(before)
        if head is None:
            raise ProtocolError("the columns of the body cannot be understood")
        del self._buffer[: found.end()]
        self.head = head
        self.timing = head.timing
        self.fields = tuple(_field(*meta) for meta in head.column_meta)
        if not self.fields:
            raise ProtocolError("the body names no columns")
        self._shape = _shape(
            tuple(field.type for field in self.fields), tuple(field.name for field in self.fields)
        )
        self.is_update = not self._reads and [
            (field.name, field.type) for field in self.fields
        ] == [(_AFFECTED, TypeCode.INT)]

    def next_block(self) -> ListedBlock | None:
        """The rows that have come as a whole, as a block; None if there are none.

        After :meth:`end` it gives what is left, and checks that all has come.

        Raises:
            ProtocolError: They are not what the columns announce, or not as many as announced.
        """
        if self._done or self._shape is None:
            return None
        rows = self._read_tail(self._shape) if self._ended else self._read_rows(self._shape)
        if not rows:
            return None
        if self.is_update:
            self.affected_rows = rows[0][0] or 0
            return None
        return self._block(rows)

    def _read_rows(self, shape: _Shape) -> list[tuple[Any, ...]]:
        if self._count == 0 and self._buffer.lstrip()[:1] == b"{":
            self._mark = b"},{"
        end = _last_boundary(self._buffer, self._mark, self._searched)
        if end < 0:
            self._searched = max(len(self._buffer) - len(self._mark), 0)
            self._check_pending("a row")
            return []
        self._searched = 0
        piece = b"[%b]" % bytes(self._buffer[: end + 1])
        try:
            rows = shape.rows(piece, with_names=self._mark == b"},{")
        except ProtocolError:
            if not shape.has_documents:
                raise
            self._check_pending("a row")
            return []  # the mark stood in a document
        del self._buffer[: end + 2]
        self._count += len(rows)
        return rows

    def _read_tail(self, shape: _Shape) -> list[tuple[Any, ...]]:
        with_names = self._buffer.lstrip()[:1] == b"{"
        try:
            tail = shape.tail(b'{"data":[' + self._buffer, with_names=with_names)
        except ProtocolError as error:
            error.say(error.message + (_PERHAPS_NAN if "truncated" in error.message else ""))
            raise
        self._buffer.clear()
        self._count += len(tail.data)
        self.timing = tail.timing or self.timing
        announced = self.head.rows if tail.rows is None and self.head is not None else tail.rows
        if announced != self._count:
            raise ProtocolError(f"the body announces {announced} rows and has {self._count}")
        self._done = True
        return tail.data

    def _check_pending(self, what: str) -> None:
        if len(self._buffer) > MAX_PENDING:
            raise ProtocolError(f"{what} has more than {MAX_PENDING >> 20} MiB")

    def _block(self, rows: list[tuple[Any, ...]]) -> ListedBlock:
        columns = list(zip(*rows, strict=True))
        places = [i for i, field in enumerate(self.fields) if field.type is TypeCode.TIMESTAMP]
        times = iter(self._times([columns[place] for place in places]))
        parts: list[Part] = [
            next(times) if field.type is TypeCode.TIMESTAMP else _part(field, values)
            for field, values in zip(self.fields, columns, strict=True)
        ]
        return ListedBlock(self.fields, self.precision or Precision.MILLISECOND, parts, len(rows))

    def _times(self, columns: Sequence[_Values]) -> list[FixedColumn]:
        """TIMESTAMPs, of the precision that the texts of all of them tell."""
        if not columns:
            return []
        masks = [_nulls(values) for values in columns]
        present = [
            values if nulls is None else [value for value in values if value is not None]
            for values, nulls in zip(columns, masks, strict=True)
        ]
        every = present[0] if len(present) == 1 else list(chain.from_iterable(present))
        if int in set(map(type, every)):
            if self.head is None or self.head.status is None:
                raise ProtocolError("expected times as texts, got integers")
            ticks = _integers(every)
        else:
            least = self.precision or Precision.MILLISECOND
            ticks, found = ticks_of_texts(every, least, self._zone)
            if every:
                self.precision = found
        ends = list(accumulate(map(len, present), initial=0))
        return [
            ticks_column(ticks[first:last], nulls)
            for first, last, nulls in zip(ends, ends[1:], masks, strict=False)
        ]


def _nulls(values: _Values) -> Mask | None:
    """Which values are None; None when none is."""
    if None not in values:
        return None
    return np.fromiter(map(is_, values, repeat(None)), np.bool_, len(values))


def _integers(values: _Values) -> npt.NDArray[np.int64]:
    """Ticks, as servers of 2.x can send them."""
    try:
        return np.frombuffer(array.array("q", values), np.int64)
    except (OverflowError, TypeError):
        raise ProtocolError("expected times as 64-bit integers") from None


def _field(name: str, kind: str | int, length: int) -> Field:
    digits = scale = 0
    code: TypeCode | None = None
    if isinstance(kind, str):
        code = _CODES.get(kind)
        if code is None and (match := _DECIMAL.fullmatch(kind)):
            digits, scale = int(match[1]), int(match[2])
            is_small = length == DTYPES[TypeCode.DECIMAL64].itemsize
            code = TypeCode.DECIMAL64 if is_small else TypeCode.DECIMAL
    elif kind in TypeCode._value2member_map_:
        code = TypeCode(kind)
    if code is None:
        raise ProtocolError(f"column {name!r} has the unknown type {kind!r}")
    return Field(name, code, length, digits, scale)


def _part(field: Field, values: _Values) -> Part:
    """What rows are made of: the values as they are, or the column where they need more."""
    code = field.type
    if code is TypeCode.FLOAT:  # the shortest text of 32 bits stands for another double
        return fixed_column(field, values)
    if code is TypeCode.UBIGINT:
        fixed_column(field, values)
    elif code in DECIMALS and field.precision:  # which servers of 2.x do not tell
        _check_digits(field, values)
    elif code in _BINARIES:
        if any(value is not None and " " in value for value in values):
            raise ProtocolError(f"column {field.name!r} has a value that is not hex")
        try:
            return [None if value is None else bytes.fromhex(value) for value in values]
        except ValueError:
            raise ProtocolError(f"column {field.name!r} has a value that is not hex") from None
    elif code is TypeCode.JSON:
        return [_document(bytes(value)) for value in values]
    return values


def _check_digits(field: Field, values: _Values) -> None:
    """Check that DECIMALs are of their column; servers write all digits behind the point."""
    present = [value for value in values if value is not None]
    limit = Decimal(10) ** (field.precision - field.scale)
    if {value.as_tuple().exponent for value in present} - {-field.scale} or any(
        value.copy_abs() >= limit for value in present
    ):
        raise ProtocolError(f"column {field.name!r} has a value that is no {field.type_name}")


def _document(raw: bytes) -> str | None:
    return None if raw == b"null" else raw.decode("utf-8", "surrogateescape")


class _Tail(msgspec.Struct, Generic[T]):
    """The last rows, and what stands behind them."""

    data: list[T]
    rows: int | None = None
    timing: int = 0


_HEAD = msgspec.json.Decoder(Head)
_Named: TypeAlias = dict[str, msgspec.Raw]
_NAMED_ROWS = msgspec.json.Decoder(list[_Named])
_NAMED_TAIL = msgspec.json.Decoder(_Tail[_Named])
_NUMBER = msgspec.json.Decoder(float)


def _has_minus_zero(data: bytes) -> bool:
    """Whether a value may be ``-0``; it is looked for in the cheapest way first."""
    if b"-0" not in data or (b"-0," not in data and b"-0]" not in data):
        return False
    return _MINUS_ZERO.search(data) is not None


class _Shape:
    """Decoders for rows of some types.

    Go writes the zero with a sign as ``-0``, which is an integer to JSON and loses it. Where one
    may stand, numbers are decoded from their texts.
    """

    def __init__(self, types: tuple[TypeCode, ...], names: tuple[str, ...]) -> None:
        self._types = types
        self._names = names
        self._reals = [place for place, code in enumerate(types) if code in _REALS]
        self._plain = _decoders(types)
        self.has_documents = TypeCode.JSON in types

    @functools.cached_property
    def _as_texts(self) -> _Decoders:
        return _decoders([TypeCode.JSON if code in _REALS else code for code in self._types])

    def rows(self, data: bytes, *, with_names: bool) -> list[_Row]:
        """An array of rows.

        Raises:
            ProtocolError: They are not of these types.
        """
        if with_names:
            data = self._without_names(_decoded(_NAMED_ROWS, data))
        if self._reals and _has_minus_zero(data):
            return self._numbered(_decoded(self._as_texts[0], data))
        return _decoded(self._plain[0], data)

    def tail(self, data: bytes, *, with_names: bool) -> _Tail[_Row]:
        """The end of a body, behind a ``{"data":[``.

        Raises:
            ProtocolError: It is cut off, or rows are not of these types.
        """
        if with_names:
            named = _decoded(_NAMED_TAIL, data)
            rows = self.rows(self._without_names(named.data), with_names=False)
            return _Tail(rows, named.rows, named.timing)
        if self._reals and _has_minus_zero(data):
            tail = _decoded(self._as_texts[1], data)
            return _Tail(self._numbered(tail.data), tail.rows, tail.timing)
        return _decoded(self._plain[1], data)

    def _without_names(self, rows: list[_Named]) -> bytes:
        """Rows as arrays, of rows that came as objects."""
        if any(list(row) != list(self._names) for row in rows):
            raise ProtocolError(f"expected rows as objects of {', '.join(self._names)}")
        return b"[%b]" % b",".join(b"[%b]" % b",".join(map(bytes, row.values())) for row in rows)

    def _numbered(self, rows: list[_Row]) -> list[_Row]:
        """Rows in which the texts of numbers are numbers."""
        columns = list(zip(*rows, strict=True))
        for place in self._reals if rows else ():
            columns[place] = tuple(map(_real, columns[place]))
        return list(zip(*columns, strict=True))


_Decoders: TypeAlias = tuple[
    "msgspec.json.Decoder[list[_Row]]", "msgspec.json.Decoder[_Tail[_Row]]"
]


def _decoders(types: Sequence[TypeCode]) -> _Decoders:
    """Those of an array of rows, and of the end of a body."""
    row: Any = tuple[tuple(_JSON_TYPES[code] for code in types)]  # type: ignore[misc]
    return msgspec.json.Decoder(list[row]), msgspec.json.Decoder(_Tail[row])


def _real(raw: msgspec.Raw) -> float | None:
    text = bytes(raw)
    if text in (b"null", b"-0"):
        return None if text == b"null" else -0.0
    try:
        return _NUMBER.decode(text)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"the rows are not what the columns announce: {error}") from None


_shape = functools.lru_cache(maxsize=256)(_Shape)


def _decoded(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    """Decode JSON; bytes in it that are not UTF-8 become lone surrogates.

    TDengine does not validate VARCHAR, and taosAdapter copies it.
    """
    try:
        try:
            return decoder.decode(data)
        except UnicodeDecodeError:
            text = data.decode("utf-8", "surrogateescape")
            first = _free_window(text)
            there = {_LONE + byte: first + byte for byte in range(_WINDOW)}
            back = {to: lone for lone, to in there.items()}
            decoded: T = _translated(decoder.decode(text.translate(there)), back)
            return decoded
    except msgspec.ValidationError as error:
        raise ProtocolError(f"the rows are not what the columns announce: {error}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise ProtocolError(f"the rows cannot be read as JSON: {error}") from None


def _free_window(text: str) -> int:
    """The first of characters that a text has not, nor writes as escapes.

    Raises:
        ProtocolError: There are none.
    """
    if not _PRIVATE_ESCAPE.search(text):
        for first in _PRIVATE:
            if not re.search(f"[{chr(first)}-{chr(first + _WINDOW - 1)}]", text):
                return first
    raise ProtocolError("the rows have bytes that are not UTF-8 beside private characters")


def _translated(value: Any, table: dict[int, int]) -> Any:
    """A decoded value in which characters are replaced."""
    match value:
        case str():
            return value.translate(table)
        case msgspec.Raw():
            text = bytes(value).decode().translate(table)
            return msgspec.Raw(text.encode("utf-8", "surrogateescape"))
        case list():
            return [_translated(item, table) for item in value]
        case tuple():
            return tuple(_translated(item, table) for item in value)
        case Head():
            return msgspec.structs.replace(
                value,
                desc=_translated(value.desc, table),
                column_meta=_translated(value.column_meta, table),
            )
        case dict():
            return {
                _translated(name, table): _translated(item, table) for name, item in value.items()
            }
        case _Tail():
            return _Tail(_translated(value.data, table), value.rows, value.timing)
    return value


def _last_boundary(data: bytearray, mark: bytes, start: int) -> int:
    """Where the last complete row ends, from ``start`` on: at a mark that stands in no string.

    -1 if there is none.
    """
    end = len(data)
    while (place := data.rfind(mark, start, end)) >= 0:
        if _quotes(data, place) % 2 == 0:
            return place
        end = _string_start(data, place) + len(mark) - 1
    return -1


def _quotes(data: bytearray, end: int) -> int:
    """How many strings begin or end before a place."""
    if data.find(b"\\", 0, end) < 0:
        return data.count(b'"', 0, end)
    plain = data[:end].replace(b"\\\\", b"")
    return plain.count(b'"') - plain.count(b'\\"')


def _string_start(data: bytearray, place: int) -> int:
    """Where the string begins in which a place stands."""
    while True:
        place = data.rfind(b'"', 0, place)
        before = place
        while before and data[before - 1] == ord("\\"):
            before -= 1
        if (place - before) % 2 == 0:
            return place

"""Results as the JSON of REST answers, of today and of TDengine 2.x."""

from __future__ import annotations

import msgspec

from ..types import DECIMALS, Field, Precision
from .columns import INT
from .engine import Rows, Update
from .jsoncells import cell_writer
from .timetext import TimeFormat

_encode = msgspec.json.encode


class RowWriter:
    """Writes a result: :meth:`head`, each :meth:`next_chunk`, :meth:`tail`.

    Attributes:
        rows: How many were written so far.
    """

    def __init__(
        self, result: Rows | Update, time_format: TimeFormat, *, with_meta: bool = False
    ) -> None:
        self.rows = 0
        self._result = _as_rows(result)
        fields = self._result.fields
        precision = self._result.precision
        self._writers = [cell_writer(field, precision, time_format) for field in fields]
        self._names = [_encode(field.name) + b":" for field in fields] if with_meta else None

    def head(self) -> bytes:
        meta = [[field.name, _type_name(field), field.length] for field in self._result.fields]
        return b'{"code":0,"column_meta":' + _encode(meta) + b',"data":['

    def next_chunk(self) -> bytes | None:
        """The rows of the next block; None at the end.

        Raises:
            Fault: Reading failed.
        """
        block = self._result.next_block()
        if block is None:
            return None
        columns = [write(column) for write, column in zip(self._writers, block, strict=True)]
        comma = b"," if self.rows else b""
        self.rows += len(columns[0])
        if self._names is None:
            rows = map(b",".join, zip(*columns, strict=True))
            return b"%b[%b]" % (comma, b"],[".join(rows))
        # objects have equal keys where columns have equal names
        named = [
            [name + cell for cell in column]
            for name, column in zip(self._names, columns, strict=True)
        ]
        objects = map(b",".join, zip(*named, strict=True))
        return b"%b{%b}" % (comma, b"},{".join(objects))

    def tail(self, timing: int | None = None) -> bytes:
        """The end; ``timing`` is in nanoseconds."""
        end = f',"timing":{timing}' if timing is not None else ""
        return f'],"rows":{self.rows}{end}}}'.encode()


class LegacyRowWriter(RowWriter):
    """Writes it as TDengine 2.x did."""

    def __init__(self, result: Rows | Update, time_format: TimeFormat) -> None:
        super().__init__(result, time_format)
        self._is_update = isinstance(result, Update)

    def head(self) -> bytes:
        fields = self._result.fields
        names = _encode([field.name for field in fields])
        meta = _encode([[field.name, field.type, field.length] for field in fields])
        rows = b',"rows":1' if self._is_update else b""
        return b'{"status":"succ","head":%b,"column_meta":%b%b,"data":[' % (names, meta, rows)

    def tail(self, timing: int | None = None) -> bytes:
        return b"]}" if self._is_update else super().tail()


def _as_rows(result: Rows | Update) -> Rows:
    if isinstance(result, Rows):
        return result
    field = INT.field("affected_rows")
    return Rows([field], Precision.MILLISECOND, None, [(result.affected,)])


def _type_name(field: Field) -> str:
    if field.type in DECIMALS:
        return f"DECIMAL({field.precision},{field.scale})"
    return field.type.sql_name

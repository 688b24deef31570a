"""Bindings as libtaos takes them: structures that point into the columns' own arrays.

The structures of all tables of a binding are made together, by array operations: of a table only
the addresses differ. What is made here must live until the function that gets it has returned;
libtaos copies the values before that (``stmtBindBatch2`` in ``clientStmt2.c`` of TDengine 3.3.7).
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, c_char_p, c_int, c_size_t
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import NotSupportedError
from ...protocol.bind import Binding
from ...protocol.columns import Column, Fixed
from ...types import DECIMALS, StatementField, TypeCode
from .structs import TAOS_BIND, TAOS_MULTI_BIND, TAOS_STMT2_BIND, TAOS_STMT2_BINDV

_NOT_IN_V1 = frozenset({*DECIMALS, TypeCode.BLOB, TypeCode.MEDIUMBLOB})


def _layout(structure: type[ctypes.Structure]) -> np.dtype[Any]:
    names = [field[0] for field in structure._fields_]
    members = [getattr(structure, name) for name in names]
    return np.dtype(
        {
            "names": names,
            "formats": [f"u{member.size}" for member in members],
            "offsets": [member.offset for member in members],
            "itemsize": ctypes.sizeof(structure),
        }
    )


_BIND = _layout(TAOS_STMT2_BIND)
_MULTI_BIND = _layout(TAOS_MULTI_BIND)


class _Memory:
    """Arrays that C reads, kept alive."""

    def __init__(self) -> None:
        self._kept: list[object] = []

    def address(self, array: npt.NDArray[Any]) -> int:
        """Where an array begins, which is kept; never 0."""
        if not array.size:
            array = np.zeros(1, np.uint64)
        array = np.ascontiguousarray(array)
        self._kept.append(array)
        return array.ctypes.data


class TableBinds(_Memory):
    """The rows of several tables for ``taos_stmt2_bind_param``.

    Args:
        binding: The rows.

    Attributes:
        value: The TAOS_STMT2_BINDV.
    """

    def __init__(self, binding: Binding) -> None:
        super().__init__()
        ends = np.asarray(binding.ends, np.int64)
        counts = np.diff(ends, prepend=0)
        self.value = value = TAOS_STMT2_BINDV(len(ends))
        if binding.names is not None:
            value.tbnames = ctypes.cast(self._names(binding.names), POINTER(c_char_p))
        pointers = POINTER(POINTER(TAOS_STMT2_BIND))
        if binding.tags:
            ones = np.ones(len(ends), np.int64)
            tags = self._binds(binding.tag_fields, binding.tags, np.arange(len(ends)), ones)
            value.tags = ctypes.cast(tags, pointers)
        if binding.columns:
            columns = self._binds(binding.fields, binding.columns, ends - counts, counts)
            value.bind_cols = ctypes.cast(columns, pointers)

    def _names(self, names: Sequence[str]) -> int:
        encoded = [name.encode() for name in names]
        start = self.address(np.frombuffer(b"\0".join(encoded) + b"\0", np.uint8))
        sizes = np.fromiter(map(len, encoded), np.int64, len(encoded)) + 1
        return self.address((start + np.cumsum(sizes) - sizes).astype(np.uintp))

    def _binds(
        self,
        fields: Sequence[StatementField],
        columns: Sequence[Column],
        starts: npt.NDArray[np.int64],
        counts: npt.NDArray[np.int64],
    ) -> int:
        """An array of pointers to the binds of each table, which has so many rows from there on."""
        binds = np.zeros((len(starts), len(fields)), _BIND)
        for place, (field, column) in enumerate(zip(fields, columns, strict=True)):
            of_tables = binds[:, place]
            of_tables["buffer_type"] = field.type
            of_tables["num"] = counts
            if column.nulls is not None:
                of_tables["is_null"] = self.address(column.nulls.view(np.uint8)) + starts
            if isinstance(column, Fixed):
                places = starts * column.values.dtype.itemsize
                of_tables["buffer"] = self.address(column.values) + places
            else:
                lengths = column.lengths.astype(np.int32, copy=False)
                of_tables["length"] = self.address(lengths) + 4 * starts
                sums = np.zeros(len(lengths) + 1, np.int64)
                np.cumsum(lengths, out=sums[1:])
                of_tables["buffer"] = self.address(column.data) + sums[starts]
        tables = self.address(binds) + binds.strides[0] * np.arange(len(starts))
        return self.address(tables.astype(np.uintp))


class ColumnBinds(_Memory):
    """Rows of one table, or its tags, for ``taos_stmt_bind_param_batch`` and the like (stmt v1).

    Args:
        fields: What is bound.
        columns: Their values, those of several tables.
        rows: Which of them.

    Attributes:
        value: The array of TAOS_MULTI_BIND.

    Raises:
        NotSupportedError: stmt v1 does not know the type of a column.
    """

    def __init__(
        self, fields: Sequence[StatementField], columns: Sequence[Column], rows: slice
    ) -> None:
        super().__init__()
        binds = np.zeros(len(fields), _MULTI_BIND)
        for bind, field, whole in zip(binds, fields, columns, strict=True):
            if field.type in _NOT_IN_V1:
                raise NotSupportedError(
                    f"column {field.name!r}: the prepared statements of this libtaos do not know "
                    f"{field.type_name}"
                )
            column = whole.cut(rows)
            bind["buffer_type"], bind["num"] = field.type, len(column)
            if column.nulls is not None:
                bind["is_null"] = self.address(column.nulls.view(np.uint8))
            if isinstance(column, Fixed):
                bind["buffer"] = self.address(column.values)
                bind["buffer_length"] = column.values.dtype.itemsize
                continue
            bind["length"] = self.address(column.lengths.astype(np.int32, copy=False))
            width = max(int(column.lengths.max(initial=0)), 1)
            cells = np.zeros((len(column), width), np.uint8)
            cells[np.arange(width) < column.lengths[:, None]] = column.data
            bind["buffer"], bind["buffer_length"] = self.address(cells), width
        self.value = (TAOS_MULTI_BIND * len(fields)).from_buffer_copy(binds.tobytes())


class ValueBinds(_Memory):
    """One row for ``taos_stmt_bind_param`` of 2.x.

    Args:
        fields: What is bound.
        columns: Their values, one each.

    Attributes:
        value: The array of TAOS_BIND.
    """

    def __init__(self, fields: Sequence[StatementField], columns: Sequence[Column]) -> None:
        super().__init__()
        self.value = (TAOS_BIND * len(fields))()
        for bind, field, column in zip(self.value, fields, columns, strict=True):
            data = column.values if isinstance(column, Fixed) else column.data
            size = c_size_t(data.nbytes)
            is_null = c_int(column.nulls is not None and bool(column.nulls[0]))
            bind.buffer_type, bind.buffer = field.type, self.address(data)
            bind.buffer_length, bind.length = data.nbytes, ctypes.pointer(size)
            bind.is_null = ctypes.pointer(is_null)

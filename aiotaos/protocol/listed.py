"""Blocks whose values came one by one, as text: lists where Python's values are what is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import DataError, ProtocolError
from ..types import Field, Precision, TypeCode
from .block import Block, Column, FixedColumn, Mask, parse_block
from .columns import Fixed, make_column
from .encode import encode_block

Part: TypeAlias = Column | Sequence[Any]
"""A column, or its values as rows have them."""


class ListedBlock(Block):
    """A block of which some columns are lists, and become columns when they are asked for."""

    __slots__ = ("_parts",)

    def __init__(
        self, fields: Sequence[Field], precision: Precision, parts: Sequence[Part], rows: int
    ) -> None:
        super().__init__(fields, precision, (), rows)
        self._parts = list(parts)

    @property
    def parts(self) -> Sequence[Part]:
        return self._parts

    @property
    def columns(self) -> Sequence[Column]:
        """The columns, made of what came.

        Raises:
            ProtocolError: A value does not fit its column.
        """
        self._parts[:] = map(_column, self.fields, self._parts)
        return self._parts  # type: ignore[return-value]  # all of them are columns now

    def cut(self, start: int, stop: int) -> ListedBlock:
        parts = [
            part.cut(start, stop) if isinstance(part, Column) else part[start:stop]
            for part in self._parts
        ]
        block = ListedBlock(self.fields, self.precision, parts, stop - start)
        block._decoder = self._decoder
        return block


def _column(field: Field, part: Part) -> Column:
    if isinstance(part, Column):
        return part
    try:
        return parse_block(encode_block([field], [part]), fields=[field]).columns[0]
    except DataError as error:
        raise ProtocolError(error.message) from None


def ticks_column(ticks: npt.NDArray[np.int64], nulls: Mask | None) -> FixedColumn:
    """A TIMESTAMP column of the ticks of the rows that are not NULL."""
    if nulls is not None:
        spread = np.zeros(len(nulls), np.int64)
        spread[~nulls] = ticks
        ticks = spread
    return FixedColumn(TypeCode.TIMESTAMP, ticks, _bitmap(len(ticks), nulls))


def fixed_column(field: Field, values: Sequence[Any]) -> FixedColumn:
    """A column of numbers.

    Raises:
        ProtocolError: A value does not fit.
    """
    try:
        column = make_column(field, values)
    except DataError as error:
        raise ProtocolError(error.message) from None
    assert isinstance(column, Fixed)
    return FixedColumn(field.type, column.values, _bitmap(len(column), column.nulls))


def _bitmap(rows: int, nulls: Mask | None) -> npt.NDArray[np.uint8]:
    return np.packbits(np.zeros(rows, np.bool_) if nulls is None else nulls)

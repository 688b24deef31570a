"""What all encoding shares: the description of a column, and errors that name a value."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ..errors import DataError
from ..types import FieldKind, TypeCode

INTEGERS = (int, np.integer, np.bool_)
"""What counts as an integer, ``bool`` included."""


TEXTS = frozenset({TypeCode.VARCHAR, TypeCode.NCHAR, TypeCode.JSON})


class Described(Protocol):
    """What a column is to hold: a :class:`~aiotaos.types.Field` or ``StatementField``."""

    @property
    def name(self) -> str: ...
    @property
    def type(self) -> TypeCode: ...
    @property
    def length(self) -> int: ...
    @property
    def precision(self) -> int: ...
    @property
    def scale(self) -> int: ...
    @property
    def type_name(self) -> str: ...


def bad_value(field: Described, row: int, value: object, problem: str) -> DataError:
    """The error for one value, with ``column`` and ``row`` set."""
    try:
        shown = repr(value)
    except ValueError:  # an int of thousands of digits
        shown = f"<{type(value).__name__}>"
    shown = shown if len(shown) <= 60 else shown[:59] + "…"
    is_tag = getattr(field, "kind", None) is FieldKind.TAG
    error = DataError(
        f"{'tag' if is_tag else 'column'} {field.name!r}, row {row}: {shown} {problem}"
    )
    error.column, error.row = field.name, row
    return error


class Refused(Exception):
    """Values that a column does not take, and what it expects."""

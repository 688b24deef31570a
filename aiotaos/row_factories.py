"""What a row is: a tuple, a dict, a named tuple, or an object of a class of yours.

A row factory takes the fields of a result and returns a function from a tuple of values to a row::

    def first_two(fields):
        return lambda values: values[:2]
"""

from __future__ import annotations

import dataclasses
import re
from collections import namedtuple
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import msgspec

from .errors import InterfaceError
from .protocol.block import Row
from .types import Field

T = TypeVar("T")

if TYPE_CHECKING:
    from typing_extensions import TypeVar as DefaultTypeVar

    R = DefaultTypeVar("R", default=Row)
else:
    R = TypeVar("R")  # the default is for type checkers: Connection means Connection[Row]

RowMaker: TypeAlias = Callable[[Row], T]
RowFactory: TypeAlias = Callable[[Sequence[Field]], RowMaker[T]]


def tuple_row(fields: Sequence[Field]) -> RowMaker[Row]:
    """Rows as tuples: the default, and the fastest."""
    return tuple


def dict_row(fields: Sequence[Field]) -> RowMaker[dict[str, Any]]:
    """Rows as dicts by column name; of columns with one name the last wins."""
    names = [field.name for field in fields]
    return lambda values: dict(zip(names, values, strict=True))


def namedtuple_row(fields: Sequence[Field]) -> RowMaker[Any]:
    """Rows as named tuples.

    Names that are no identifiers are changed: ``count(*)`` becomes ``count_``, ``_wstart``
    becomes ``f_wstart``, a repeated or impossible one ``_<position>``.
    """
    names = []
    for field in fields:
        name = re.sub(r"\W+", "_", field.name)
        names.append(f"f{name}" if name.startswith("_") or name[:1].isdigit() else name)
    cls = namedtuple("Row", names, rename=True)  # type: ignore[misc]
    return cls._make


def class_row(cls: type[T]) -> RowFactory[T]:
    """Rows as objects of a dataclass, a msgspec Struct, or any class that takes keywords.

    Raises:
        InterfaceError: The result has a column that the dataclass or Struct has no field for, or
            lacks one for a field without a default.
    """

    def factory(fields: Sequence[Field]) -> RowMaker[T]:
        names = [field.name for field in fields]
        known = _field_names(cls)
        unknown = [name for name in names if known is not None and name not in known]
        if unknown:
            raise InterfaceError(
                f"class_row({cls.__name__}): no field for column {unknown[0]!r}; "
                "name it with `as` in the statement, or select fewer columns"
            )
        missing = [name for name in _required_names(cls) if name not in names]
        if missing:
            raise InterfaceError(
                f"class_row({cls.__name__}): no column for field {missing[0]!r}; "
                "select it, or give the field a default"
            )
        return lambda values: cls(**dict(zip(names, values, strict=True)))

    return factory


def _field_names(cls: type) -> frozenset[str] | None:
    if dataclasses.is_dataclass(cls):
        return frozenset(field.name for field in dataclasses.fields(cls) if field.init)
    if issubclass(cls, msgspec.Struct):
        return frozenset(cls.__struct_fields__)
    return None


def _required_names(cls: type) -> list[str]:
    if dataclasses.is_dataclass(cls):
        absent = dataclasses.MISSING
        return [
            field.name
            for field in dataclasses.fields(cls)
            if field.init and field.default is absent and field.default_factory is absent
        ]
    if issubclass(cls, msgspec.Struct):
        return [field.name for field in msgspec.structs.fields(cls) if field.required]
    return []

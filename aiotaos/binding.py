"""Rows and columns to bindings: which table each row goes to, and what its tags are."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from .errors import DataError, Error, StatementError
from .protocol.arrow import arrow_codes, arrow_taken, is_arrow, plain_array
from .protocol.bind import MAX_TABLE_ROWS, Binding, bind_column, check_name, check_names
from .protocol.columns import Column, concatenate
from .protocol.values import bad_value
from .types import FieldKind, StatementField, TypeCode

PerParameter: TypeAlias = Sequence[Any] | Mapping[str, Any]
Codes: TypeAlias = npt.NDArray[np.intp]
Order: TypeAlias = npt.NDArray[np.intp]

E = TypeVar("E", bound=Error)

MESSAGE_ROWS = 200_000
"""Rows of one bind message; what is more goes in several."""


class TableRows(NamedTuple):
    """Rows of one table, as columns.

    Attributes:
        columns: For each ``?`` of a column its values, in their order or by name: lists, tuples,
            numpy arrays (masked where NULL), Arrow arrays.
        tbname: Name of the table; None where the statement names it.
        tags: A value for each ``?`` of a tag, in their order or by name.
    """

    columns: PerParameter
    tbname: str | None = None
    tags: PerParameter = ()


class Shape:
    """The parameters of an INSERT, by what they are bound to.

    Attributes:
        fields: All of them, in the order of the ``?``.
        columns: The columns.
        tags: The tags.
        has_tbname: Whether the table's name is one of them.
    """

    def __init__(self, fields: Sequence[StatementField], raw_decimals: bool = False) -> None:
        self.fields = tuple(fields)
        self._raw_decimals = raw_decimals
        self.columns = [field for field in fields if field.kind is FieldKind.COLUMN]
        self.tags = [field for field in fields if field.kind is FieldKind.TAG]
        self.has_tbname = any(field.kind is FieldKind.TBNAME for field in fields)
        times = [field for field in self.columns if field.type is TypeCode.TIMESTAMP]
        # Which of several is the table's time only the server knows.
        self._time = times[0] if len(times) == 1 else None

    def bind_tables(self, tables: Iterable[TableRows]) -> Iterator[Binding]:
        """Bindings of rows given table by table.

        Raises:
            StatementError: Names, tags or columns are missing, too many, or of unequal length.
            DataError: A value does not fit.
        """
        given = [TableRows(*table) for table in tables]
        self._check_columns()
        if not given:
            return iter(())
        names = self._names([table.tbname for table in given])
        # Names and tags before the columns, which cost more.
        tags = [_in_order("tag", self.tags, table.tags) for table in given]
        try:
            tag_columns = self._tags([list(column) for column in zip(*tags, strict=True)])
        except DataError as error:
            if error.row is not None:
                table = given[error.row].tbname
                text = error.message.replace(f", row {error.row}:", ":", 1)
                error.say(f"table {table!r}: {text}")
            raise
        values = [self._columns_of(table) for table in given]
        sizes = self._sizes(given, values)
        columns = [
            self._joined(field, parts, given)
            for field, parts in zip(self.columns, zip(*values, strict=True), strict=True)
        ]
        ends = np.cumsum(sizes).tolist()
        self._check_times(columns, ends, given)
        return split(Binding(names, self.tags, tag_columns, self.columns, columns, ends))

    def _columns_of(self, table: TableRows) -> list[Any]:
        try:
            return _in_order("column", self.columns, table.columns)
        except StatementError as error:
            raise _of_table(table, error) from None

    def _sizes(self, tables: Sequence[TableRows], values: Sequence[Sequence[Any]]) -> list[int]:
        """Number of rows of each table."""
        try:
            lengths = [list(map(len, columns)) for columns in values]
        except TypeError:
            lengths = []
        for table, columns, of_table in zip(tables, values, lengths, strict=False):
            if of_table.count(of_table[0]) != len(of_table):
                raise _of_table(table, _unequal(self.columns, columns))
            if not of_table[0]:
                raise _of_table(table, StatementError("there are no rows"))
        if not lengths:  # a column is none, which converting it tells
            for table, columns in zip(tables, values, strict=True):
                for field, column in zip(self.columns, columns, strict=True):
                    try:
                        self._bound(field, column)
                    except (DataError, StatementError) as error:
                        raise _of_table(table, error) from None
        return [of_table[0] for of_table in lengths]

    def _joined(
        self, field: StatementField, parts: Sequence[Any], tables: Sequence[TableRows]
    ) -> Column:
        """One column of those of several tables."""
        if len(parts) > 1 and set(map(type, parts)) <= {list, tuple}:
            with suppress(DataError):  # found again below, with its table
                return self._bound(field, list(chain.from_iterable(parts)))
        columns = []
        for table, values in zip(tables, parts, strict=True):
            try:
                columns.append(self._bound(field, values))
            except (DataError, StatementError) as error:
                raise _of_table(table, error) from None
        return concatenate(columns)

    def _check_times(
        self, columns: Sequence[Column], ends: Sequence[int], tables: Sequence[TableRows]
    ) -> None:
        try:
            self._check_time(columns)
        except DataError as error:
            table = bisect_right(ends, error.row or 0)
            error.shift(-ends[table - 1] if table else 0)
            raise _of_table(tables[table], error) from None

    def bind_rows(self, rows: Iterable[Sequence[Any]]) -> Iterator[Binding]:
        """Bindings of rows with a value for each ``?``; rows of a table keep their order.

        A table's tags are those of its first row.

        Raises:
            StatementError: A row has too few or too many values, or no name of a table.
            DataError: A value does not fit.
        """
        given = rows if isinstance(rows, list) else list(rows)
        if not given:
            return iter(())
        values: list[Any] = []
        if not set(map(type, given)) - {tuple, list} or all(map(_is_row, given)):
            with suppress(ValueError):  # rows of different lengths
                values = list(zip(*given, strict=True))
        if len(values) != len(self.fields):
            raise self._ragged(given)
        return self.bind_columns(values)

    def bind_columns(
        self,
        values: Sequence[Any],
        table_names: Callable[[list[str]], list[str]] | None = None,
    ) -> Iterator[Binding]:
        """Bindings of a column for each ``?``, names and tags included, all of one length.

        Args:
            values: The columns.
            table_names: Makes what is sent of the names of tables.

        Raises:
            StatementError: There are too few or too many columns, or they differ in length.
            DataError: A value does not fit.
        """
        check_number("column", self.fields, values)
        self._check_columns()
        sizes = {len(column) for column in values}
        if len(sizes) != 1:
            raise _unequal(self.fields, values)
        if sizes == {0}:
            return iter(())
        by_kind: dict[FieldKind, list[Any]] = {kind: [] for kind in FieldKind}
        for field, column in zip(self.fields, values, strict=True):
            by_kind[field.kind].append(column)
        columns = self._made(by_kind[FieldKind.COLUMN])
        if not self.has_tbname:
            ends = [len(columns[0])]
            return split(Binding(None, (), (), self.columns, columns, ends))
        tables, codes = table_codes(by_kind[FieldKind.TBNAME][0])
        order, ends, firsts = grouping(codes, len(tables))
        _check_names(tables, firsts)
        names = tables if table_names is None else table_names(tables)
        if order is not None:
            columns = [column.take(order) for column in columns]
        tags = [
            self._tag(field, column, firsts)
            for field, column in zip(self.tags, by_kind[FieldKind.TAG], strict=True)
        ]
        return split(Binding(names, self.tags, tags, self.columns, columns, ends))

    def _check_columns(self) -> None:
        if not self.columns:
            raise StatementError("the statement has no '?' for the value of a column")

    def _names(self, names: Sequence[object]) -> list[str] | None:
        if self.has_tbname:
            return list(map(check_name, names))
        given = next((name for name in names if name is not None), None)
        if given is not None:
            raise StatementError(
                f"tbname: the statement names its table and takes no name, got {given!r}"
            )
        return None

    def _tags(self, values: Sequence[Any]) -> list[Column]:
        return [self._bound(field, v) for field, v in zip(self.tags, values, strict=True)]

    def _bound(self, field: StatementField, values: Any) -> Column:
        return bind_column(field, values, raw_decimals=self._raw_decimals)

    def _tag(self, field: StatementField, values: Any, firsts: Order) -> Column:
        """The value of a tag for each table: that of the table's first row."""
        if is_arrow(values):
            chosen = arrow_taken(values, firsts)
        elif isinstance(values, (list, tuple)):
            chosen = [values[row] for row in firsts.tolist()]
        else:
            chosen = np.asanyarray(values)[firsts]
        try:
            return self._bound(field, chosen)
        except DataError as error:
            if error.row is not None:
                error.shift(int(firsts[error.row]) - error.row)
            raise

    def _made(self, values: Sequence[Any]) -> list[Column]:
        columns = [
            self._bound(field, column) for field, column in zip(self.columns, values, strict=True)
        ]
        self._check_time(columns)
        return columns

    def _check_time(self, columns: Sequence[Column]) -> None:
        if self._time is not None:
            time = columns[self.columns.index(self._time)]
            if time.nulls is not None and time.nulls.any():
                row = int(np.argmax(time.nulls))
                raise bad_value(self._time, row, None, "is no time; every row needs one")

    def _ragged(self, rows: Sequence[Any]) -> StatementError:
        for index, row in enumerate(rows):
            if not _is_row(row):
                return StatementError(
                    f"row {index}: expected a sequence of {len(self.fields)} values, got {row!r}"
                )
            if len(row) != len(self.fields):
                return StatementError(
                    f"row {index} has {len(row)} values, the statement takes {len(self.fields)}"
                )
        raise AssertionError("every row is of the right length")


def _check_names(names: Sequence[object], firsts: Order) -> None:
    try:
        check_names(names)
    except StatementError as error:
        row = next(
            row for name, row in zip(names, firsts.tolist(), strict=True) if not _is_name(name)
        )
        wrong = DataError(f"row {row}: {error.message}")
        wrong.column, wrong.row = "tbname", row
        raise wrong from None


def _is_name(name: object) -> bool:
    try:
        check_names([name])
    except StatementError:
        return False
    return True


def _of_table(table: TableRows, error: E) -> E:
    if table.tbname is not None:
        error.say(f"table {table.tbname!r}: {error.message}")
    return error


def _is_row(row: object) -> bool:
    return isinstance(row, (Sequence, np.ndarray)) and not isinstance(row, (str, bytes))


def split(binding: Binding) -> Iterator[Binding]:
    """Cut a binding into messages: as many rows as a table and a message may have."""
    rows = binding.ends[-1]
    starts = [0, *binding.ends[:-1]]
    longest = max(end - start for start, end in zip(starts, binding.ends, strict=True))
    if rows <= MESSAGE_ROWS and longest <= MAX_TABLE_ROWS:
        yield binding
        return
    pieces: list[tuple[int, int, int]] = []
    count = 0
    for table, (start, end) in enumerate(zip(starts, binding.ends, strict=True)):
        for first in range(start, end, MAX_TABLE_ROWS):
            last = min(first + MAX_TABLE_ROWS, end)
            # Without a name the rows are the statement's own table's, one piece a message.
            if pieces and (binding.names is None or count + last - first > MESSAGE_ROWS):
                yield _message(binding, pieces)
                pieces, count = [], 0
            pieces.append((table, first, last))
            count += last - first
    yield _message(binding, pieces)


def _message(binding: Binding, pieces: Sequence[tuple[int, int, int]]) -> Binding:
    tables = [table for table, _, _ in pieces]
    first, last = pieces[0][1], pieces[-1][2]
    return Binding(
        None if binding.names is None else [binding.names[table] for table in tables],
        binding.tag_fields,
        [column.take(np.array(tables, np.intp)) for column in binding.tags],
        binding.fields,
        [column.cut(slice(first, last)) for column in binding.columns],
        [end - first for _, _, end in pieces],
    )


def table_codes(names: Any) -> tuple[list[Any], Codes]:
    """Number the tables of a column of names.

    Returns:
        The names, each once, in order of appearance, and for each row the index of its name.
    """
    if is_arrow(names):
        found = arrow_codes(names)
        if found is not None:
            return found
        names = plain_array(names).to_pylist()
    if isinstance(names, np.ma.MaskedArray):
        names = names.tolist()
    objects = np.array(names, object) if isinstance(names, (list, tuple)) else names
    if isinstance(objects, np.ndarray) and objects.ndim == 1 and len(objects):
        # Rows of one table often stand together: look at the places where the name changes.
        changes = np.flatnonzero(objects[1:] != objects[:-1]) + 1
        if len(changes) < len(objects) // 4:
            heads = objects[np.concatenate(([0], changes))].tolist()
            unique, codes = _list_codes(heads)
            sizes = np.diff(np.concatenate(([0], changes, [len(objects)])))
            return unique, np.repeat(codes, sizes)
    if not isinstance(names, (list, tuple)):
        names = np.asarray(names).tolist()
    return _list_codes(names)


def _list_codes(names: Sequence[Any]) -> tuple[list[Any], Codes]:
    try:
        places = {name: place for place, name in enumerate(dict.fromkeys(names))}
    except TypeError:
        wrong = next(name for name in names if not isinstance(name, str))
        check_name(wrong)
        raise
    return list(places), np.fromiter(map(places.__getitem__, names), np.intp, len(names))


def grouping(codes: Codes, count: int) -> tuple[Codes | None, list[int], Codes]:
    """Bring the rows of each table together, in their order.

    Returns:
        The order of the rows, None if they stand in it already; the index behind the last row of
        each table; and the row where each table is first met.
    """
    ends = np.cumsum(np.bincount(codes, minlength=count))
    if len(codes) < 2 or not (codes[1:] < codes[:-1]).any():
        return None, ends.tolist(), np.concatenate(([0], ends[:-1])).astype(np.intp)
    # Small integers are sorted by radix, in linear time.
    small = codes.astype(np.uint16) if count <= 2**16 else codes
    order = np.argsort(small, kind="stable")
    return order, ends.tolist(), order[np.concatenate(([0], ends[:-1]))]


def _in_order(what: str, fields: Sequence[StatementField], given: PerParameter | None) -> list[Any]:
    """What is given by name or in order, in order."""
    if isinstance(given, Mapping):
        names = [field.name for field in fields]
        missing = [name for name in names if name not in given]
        unknown = [name for name in given if name not in names]
        if missing or unknown:
            raise StatementError(
                f"{what}s by name: {'missing' if missing else 'unknown'} "
                f"{', '.join(map(repr, missing or unknown))}; expected {', '.join(names)}"
            )
        return [given[name] for name in names]
    if isinstance(given, str):
        raise StatementError(f"{what}s: expected a value for each of them, got {given!r}")
    values = [] if given is None else list(given)
    check_number(what, fields, values)
    return values


def check_number(what: str, fields: Sequence[StatementField], values: Sequence[Any]) -> None:
    """Check that there is one value for each field.

    Raises:
        StatementError: There are more or fewer.
    """
    if len(values) != len(fields):
        names = ", ".join(field.name for field in fields) or "none"
        raise StatementError(f"{what}s: expected {len(fields)} ({names}), got {len(values)}")


def _unequal(fields: Sequence[StatementField], values: Sequence[Any]) -> StatementError:
    sizes = ", ".join(
        f"{field.name} {len(column)}" for field, column in zip(fields, values, strict=True)
    )
    return StatementError(f"columns of unequal length: {sizes}")

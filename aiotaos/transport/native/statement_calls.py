"""Prepared statements of libtaos, stmt2 and stmt v1, behind one face.

All of it runs on threads. When something fails, :class:`~.steps.Refused` is raised with what the
statement says of it.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from ctypes import POINTER, c_int
from typing import Any, NamedTuple

from ...errors import InterfaceError, NotSupportedError, ProtocolError
from ...home import after_fork
from ...protocol.bind import Binding
from ...protocol.sql import binds_table_name, creates_table, first_word, placeholders
from ...types import FieldKind, StatementField, TypeCode
from .binds import ColumnBinds, TableBinds, ValueBinds
from .calls import Failure, Library
from .handles import Handle
from .prototypes import Callback
from .steps import Refused, Step
from .structs import TAOS_ASYNC_FN, TAOS_FIELD_ALL, TAOS_FIELD_E, TAOS_STMT2_OPTION, FieldType
from .taosc import plain_code

_KINDS = {
    FieldType.COL: FieldKind.COLUMN,
    FieldType.TAG: FieldKind.TAG,
    FieldType.TBNAME: FieldKind.TBNAME,
}
_PREFIXED = frozenset({TypeCode.VARCHAR, TypeCode.VARBINARY, TypeCode.GEOMETRY})
_BLOB = 4 * 1024 * 1024  # libtaos tells the size of a pointer
_ANY_TABLE = b"aiotaos"  # stmt v1 tells the fields of a super table only when a table is named
_TBNAME = StatementField("tbname", FieldKind.TBNAME, TypeCode.VARCHAR, 269)

_statements = itertools.count(1)
_executing: dict[int, tuple[Callback, int]] = {}
"""Where the callbacks of executions go on to: the bridge's, and its number for the call."""


def _executed(statement: int | None, result: int | None, code: int) -> None:
    """The callback of all executions: its user data is the statement's, not the call's."""
    entry = _executing.pop(statement or 0, None)
    if entry is not None:
        callback, number = entry
        callback(number, result, code)


_EXECUTED = TAOS_ASYNC_FN(_executed)
after_fork(_executing.clear)


class Description(NamedTuple):
    """What is known of a statement; see :class:`aiotaos.transport.base.ServerStatement`."""

    is_insert: bool
    fields: tuple[StatementField, ...]
    parameter_count: int


class StatementCalls(ABC):
    """A statement of libtaos. Its end is :meth:`Handle.close` of its handle.

    While it is open, its connection is: libtaos goes on using that when a statement is closed.

    Args:
        library: The library.
        connection: The TAOS.
        req_id: Id of the request.

    Attributes:
        version: 2 for stmt2, 1 for stmt v1.
        handle: The statement.
        result: Address of the result, once a query has been executed.
    """

    version: int

    def __init__(self, library: Library, connection: Handle, req_id: int) -> None:
        self._library = library
        self._taosc = library.taosc
        self._is_insert = False
        self.result: int | None = None
        if not connection.hold():
            raise InterfaceError("the connection is closed", req_id=req_id)
        try:
            address = self._init(connection.address, req_id)
            if address is None:
                raise Refused(library.failure(None))
        except BaseException:
            connection.release()
            raise

        def destroy(address: int) -> None:
            try:
                self._close(address)
            finally:
                connection.release()

        self.handle = Handle(address, destroy)

    @property
    def _address(self) -> int:
        return self.handle.address

    @abstractmethod
    def _init(self, connection: int, req_id: int) -> int | None: ...

    @abstractmethod
    def _close(self, address: int) -> None: ...

    @abstractmethod
    def _error(self) -> bytes | None: ...

    @abstractmethod
    def prepare(self, sql: str) -> Description:
        """Give it its SQL."""

    @abstractmethod
    def bind(self, binding: Binding) -> None:
        """Bind rows, or the parameters of a query."""

    @abstractmethod
    def execute(self, step: Step) -> int:
        """Execute; gives the number of rows written, unless it calls back."""

    @property
    def calls_back(self) -> bool:
        """Whether executions end with a callback, whose arguments :meth:`receive` takes."""
        return False

    def receive(self, result: int | None, code: int) -> int:
        """The number of rows written, of what a callback brings."""
        raise NotImplementedError

    def free_result(self, address: int) -> None:
        """Free a result, where it is not the statement's."""
        return

    def _check(self, code: int) -> None:
        if code:
            text = (self._error() or b"").decode(errors="replace")
            raise Refused(Failure(plain_code(code), text))


class Statement2(StatementCalls):
    """A TAOS_STMT2. Its result is its own, and must not be freed (3.3)."""

    version = 2

    def _init(self, connection: int, req_id: int) -> int | None:
        self._number = next(_statements)
        # As over WebSocket: many tables with few rows each, and each table as often as need be.
        option = TAOS_STMT2_OPTION(req_id, True, False, _EXECUTED, self._number)
        return self._taosc.taos_stmt2_init(connection, option)

    def _close(self, address: int) -> None:
        self._taosc.taos_stmt2_close(address)

    def _error(self) -> bytes | None:
        return self._taosc.taos_stmt2_error(self._address)

    def prepare(self, sql: str) -> Description:
        data, taosc = sql.encode(), self._taosc
        self._check(taosc.taos_stmt2_prepare(self._address, data, len(data)))
        is_insert, count = c_int(), c_int()
        self._check(taosc.taos_stmt2_is_insert(self._address, is_insert))
        self._is_insert = bool(is_insert.value)
        if not self._is_insert:
            self._check(taosc.taos_stmt2_get_fields(self._address, count, None))
            return Description(False, (), count.value)
        fields = POINTER(TAOS_FIELD_ALL)()
        self._check(taosc.taos_stmt2_get_fields(self._address, count, fields))
        try:
            found = tuple(
                _field(each, _KINDS[FieldType(each.field_type)]) for each in fields[: count.value]
            )
        finally:
            taosc.taos_stmt2_free_fields(self._address, fields)
        return Description(True, found, len(found))

    def bind(self, binding: Binding) -> None:
        self.result = None
        binds = TableBinds(binding)
        self._check(self._taosc.taos_stmt2_bind_param(self._address, binds.value, -1))

    @property
    def calls_back(self) -> bool:
        return True

    def execute(self, step: Step) -> int:
        self.result = None

        def start(callback: Callback, number: int) -> None:
            _executing[self._number] = callback, number
            code = self._taosc.taos_stmt2_exec(self._address, None)
            if code:  # then it does not call back
                _executing.pop(self._number)
                self._check(code)

        step.bridge.begin(step, start)
        return 0

    def receive(self, result: int | None, code: int) -> int:
        if code or result is None:
            failure = self._library.failure(result, code)
            raise Refused(failure)
        if self._is_insert:
            return int(self._library.affected_rows(result))
        self.result = self._taosc.taos_stmt2_result(self._address)
        return 0


class Statement1(StatementCalls):
    """A TAOS_STMT."""

    version = 1

    def _init(self, connection: int, req_id: int) -> int | None:
        self._written = 0
        self._names_table = self._creates_table = False
        if self._taosc.has("taos_stmt_init_with_reqid"):
            return self._taosc.taos_stmt_init_with_reqid(connection, req_id)
        return self._taosc.taos_stmt_init(connection)

    def _close(self, address: int) -> None:
        self._taosc.taos_stmt_close(address)

    def _error(self) -> bytes | None:
        return self._taosc.taos_stmt_errstr(self._address)

    def prepare(self, sql: str) -> Description:
        data, taosc = sql.encode(), self._taosc
        self._is_insert = first_word(sql) == "insert"
        if self._is_insert and not taosc.has("taos_stmt_get_col_fields"):
            raise NotSupportedError(
                f"libtaos {taosc.version_text} does not tell what the parameters of an INSERT "
                "are; 3.0 does"
            )
        self._check(taosc.taos_stmt_prepare(self._address, data, len(data)))
        fields = self._fields(sql) if self._is_insert else ()
        return Description(self._is_insert, fields, len(placeholders(sql)))

    def _fields(self, sql: str) -> tuple[StatementField, ...]:
        taosc = self._taosc
        found: list[StatementField] = []
        if binds_table_name(sql):
            self._check(taosc.taos_stmt_set_tbname(self._address, _ANY_TABLE))
            found.append(_TBNAME)
        asked = [(taosc.taos_stmt_get_col_fields, FieldKind.COLUMN)]
        if creates_table(sql):
            asked.insert(0, (taosc.taos_stmt_get_tag_fields, FieldKind.TAG))
        for ask, kind in asked:
            count, fields = c_int(), POINTER(TAOS_FIELD_E)()
            self._check(ask(self._address, count, fields))
            if not fields:
                continue
            try:
                found += [_field(each, kind) for each in fields[: count.value]]
            finally:
                taosc.taos_stmt_reclaim_fields(self._address, fields)
        return tuple(found)

    def bind(self, binding: Binding) -> None:
        self.result = None
        start = 0
        for table, end in enumerate(binding.ends):
            if binding.names is not None:
                self._name_table(binding, table)
            self._bind_rows(binding, slice(start, end))
            self._check(self._taosc.taos_stmt_add_batch(self._address))
            start = end

    def _name_table(self, binding: Binding, table: int) -> None:
        assert binding.names is not None
        name = binding.names[table].encode()
        if not binding.tags:
            self._check(self._taosc.taos_stmt_set_tbname(self._address, name))
            return
        tags = ColumnBinds(binding.tag_fields, binding.tags, slice(table, table + 1))
        self._check(self._taosc.taos_stmt_set_tbname_tags(self._address, name, tags.value))

    def _bind_rows(self, binding: Binding, rows: slice) -> None:
        taosc = self._taosc
        if taosc.version < (3,):
            row = ValueBinds(binding.fields, binding.columns)
            self._check(taosc.taos_stmt_bind_param(self._address, row.value))
            return
        columns = ColumnBinds(binding.fields, binding.columns, rows)
        self._check(taosc.taos_stmt_bind_param_batch(self._address, columns.value))

    def execute(self, step: Step) -> int:
        taosc = self._taosc
        self.result = None
        self._check(taosc.taos_stmt_execute(self._address))
        if not self._is_insert:
            self.result = taosc.taos_stmt_use_result(self._address)
            return 0
        if taosc.has("taos_stmt_affected_rows_once"):
            return taosc.taos_stmt_affected_rows_once(self._address)
        before, self._written = self._written, taosc.taos_stmt_affected_rows(self._address)
        return self._written - before

    def free_result(self, address: int) -> None:
        if self._taosc.version < (3,):  # there the statement forgets it when it is asked for
            self._taosc.taos_free_result(address)


def _field(info: Any, kind: FieldKind) -> StatementField:
    """A parameter as libtaos describes it: TAOS_FIELD_E or TAOS_FIELD_ALL.

    Raises:
        ProtocolError: Its type is unknown.
    """
    try:
        type = TypeCode(info.type)
    except ValueError:
        raise ProtocolError(f"a parameter has the unknown type {info.type}") from None
    length: int = info.bytes
    if type is TypeCode.NCHAR:
        length = (length - 2) // 4
    elif type in (TypeCode.BLOB, TypeCode.MEDIUMBLOB):
        length = _BLOB
    elif type in _PREFIXED:
        length -= 2
    name = info.name.decode(errors="replace")
    return StatementField(name, kind, type, length, info.precision, info.scale)


def has_stmt2(library: Library) -> bool:
    """Whether a library has all of stmt2 that is used here.

    Before 3.3.6 some functions had the same names and other arguments.
    """
    if library.taosc.version < (3, 3, 6):
        return False
    names = ("init", "prepare", "is_insert", "get_fields", "bind_param", "exec", "close")
    return all(library.taosc.has(f"taos_stmt2_{name}") for name in names)

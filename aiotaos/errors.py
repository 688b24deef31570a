"""The exceptions, and the one table that maps TDengine's codes to them.

The tree is PEP 249's, with the additional classes that TDengine's Python clients have::

    Warning
    Error
    ├── InterfaceError            the caller's mistake: a bad option, a closed connection
    └── DatabaseError
        ├── DataError             a value that does not fit
        ├── OperationalError      the server, or the way to it
        │   ├── ConnectionError   no session (also a builtin ConnectionError)
        │   │   ├── AuthenticationError
        │   │   └── ConnectionLost
        │   ├── TimeoutError      an await took too long (also a builtin TimeoutError)
        │   ├── PoolFull          too many wait for a connection of a pool
        │   ├── WriteError        rows that a writer could not write
        │   └── ProtocolError     an answer that cannot be understood
        ├── IntegrityError
        ├── InternalError
        ├── ProgrammingError      bad SQL, a missing table
        ├── NotSupportedError
        ├── StatementError        parameters and prepared statements
        ├── ResultError           a result used after its end
        ├── SchemalessError
        └── TmqError
"""

from __future__ import annotations

import builtins
import copy
import re
from typing import Any

_SQL_SHOWN = 200
_PASSWORD = re.compile(
    r"""(\bpass\s*)(?:'(?:[^'\\]|\\.|'')*'?|"(?:[^"\\]|\\.|"")*"?)""", re.I | re.S
)
UNKNOWN_CODE = 0xFFFF
"""The code of errors that taosAdapter itself makes."""


class Warning(builtins.Warning):
    """PEP 249's warning; aiotaos does not raise it."""


class Error(Exception):
    """Base of all errors.

    Attributes:
        message: The text, without code and context.
        code: TDengine's code (its low 16 bits), or None for errors made on this side.
        req_id: Identifier of the request, to be searched for in the server's log.
        sql: The statement, cut after 200 characters.
        endpoint: ``scheme://host:port`` of the server.
        may_have_run: True if the server may have executed the statement although no answer came,
            False if it has not, None where the question does not arise.
        http_status: Status of the HTTP answer that refused a session or a request.
    """

    def __init__(
        self,
        message: str,
        *,
        code: int | None = None,
        req_id: int | None = None,
        sql: str | None = None,
        endpoint: str | None = None,
        may_have_run: bool | None = None,
        http_status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.req_id = req_id
        self.sql = shorten(sql) if sql is not None else None
        self.endpoint = endpoint
        self.may_have_run = may_have_run
        self.http_status = http_status

    def say(self, message: str) -> None:
        """Change the text."""
        self.message = message
        self.args = (message,)

    def __str__(self) -> str:
        text = self.message
        if self.code is not None:
            text = f"[0x{self.code:04X}] {text}"
        facts = [
            f"{name} {value}"
            for name, value in (("at", self.endpoint), ("req_id", self.req_id))
            if value is not None
        ]
        if self.may_have_run:
            facts.append("the statement may have run")
        return f"{text} ({', '.join(facts)})" if facts else text

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.__dict__)


class InterfaceError(Error):
    """The caller's mistake: a bad option, a closed connection, a wrong argument."""


class DatabaseError(Error):
    """Base of the errors that concern the database."""


class DataError(DatabaseError):
    """A value that does not fit: out of range, too long, of a wrong type.

    Attributes:
        column: Name of the column, where this side found the value.
        row: Index of the row in what was given, where this side found the value.
    """

    column: str | None = None
    row: int | None = None

    def shift(self, rows: int) -> None:
        """Count ``row`` from the beginning of what was given, ``rows`` before its part."""
        if self.row is not None and rows:
            self.say(self.message.replace(f"row {self.row}:", f"row {self.row + rows}:", 1))
            self.row += rows


class OperationalError(DatabaseError):
    """The server, or the way to it, failed."""


class ConnectionError(OperationalError, builtins.ConnectionError):
    """No session could be had, or there is none any more.

    Attributes:
        retry_after: Seconds after which the server, overloaded, wants to be asked again; None if
            it did not say.
    """

    retry_after: float | None = None


class AuthenticationError(ConnectionError):
    """The server refused the credentials, or the address."""


class ConnectionLost(ConnectionError):
    """The link broke while something was running; see ``may_have_run``."""


class TimeoutError(OperationalError, builtins.TimeoutError):
    """A wait was longer than allowed."""


class PoolFull(OperationalError):
    """More tasks wait for a connection of the pool than its ``max_waiting``."""


class ProtocolError(OperationalError):
    """The server sent something that cannot be understood: a truncated or inconsistent block."""


class WriteError(OperationalError):
    """Rows that a writer had taken could not be written.

    Attributes:
        rows: The rows, as they were given.
    """

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.rows: list[Any] = []

    def __str__(self) -> str:
        text = super().__str__()
        return f"{len(self.rows)} rows: {text}" if self.rows else text


class IntegrityError(DatabaseError):
    """Something that must be unique exists already."""


class InternalError(DatabaseError):
    """TDengine reports an internal error."""


class ProgrammingError(DatabaseError):
    """Bad SQL, or an object that does not exist."""


class NotSupportedError(DatabaseError):
    """The server, or the chosen road to it, cannot do this."""


class StatementError(DatabaseError):
    """Parameters or a prepared statement were used wrongly."""


class ResultError(DatabaseError):
    """A result was used after its end."""


class SchemalessError(DatabaseError):
    """Schemaless data was refused."""


class TmqError(DatabaseError):
    """A subscription failed."""


def _rebuild(cls: type[Error], message: str, state: dict[str, object]) -> Error:
    error = cls(message)
    error.__dict__.update(state)
    return error


def shorten(sql: str) -> str:
    """Cut a statement to what an error or a log line shows; passwords in it are masked."""
    masked = _PASSWORD.sub(r"\1'***'", sql[: 2 * _SQL_SHOWN])
    is_whole = len(sql) <= 2 * _SQL_SHOWN and len(masked) <= _SQL_SHOWN
    return masked if is_whole else masked[: _SQL_SHOWN - 1] + "…"


def copied(error: Exception) -> Exception:
    """The same error for another task, which gets a traceback and notes of its own."""
    if not isinstance(error, Error):
        return error
    told = copy.copy(error)
    told.__cause__ = error.__cause__
    return told


# Codes: TDengine 3.3.7 include/util/taoserror.h, and taosAdapter's own (0x11xx, 0xFFFx).
# A range is (first, last, class); an exact entry wins over a range.
_BY_CODE: dict[int, type[Error]] = {
    0x0003: AuthenticationError,
    0x0112: DataError,  # out of range
    0x0115: InternalError,
    0x0118: ProgrammingError,  # invalid parameters
    0x0127: DataError,  # invalid timestamp format
    0x0134: AuthenticationError,  # address not in the white list
    0x013D: DataError,  # decimal overflow
    0x0203: DataError,
    0x0207: AuthenticationError,  # user name empty or too long
    0x0208: AuthenticationError,  # password empty or too long
    0x020B: ConnectionError,
    0x0213: ConnectionError,
    0x0215: ConnectionError,
    0x021B: SchemalessError,
    0x0221: SchemalessError,
    0x0222: SchemalessError,
    0x0224: DataError,
    0x020F: OperationalError,  # query cancelled
    0x022A: StatementError,
    0x022B: ProgrammingError,  # the table of a prepared statement does not exist
    0x022C: StatementError,
    0x022D: OperationalError,  # query killed
    0x022E: OperationalError,
    0x0236: StatementError,
    0x0237: NotSupportedError,
    0x02FF: InternalError,
    0x0303: ProgrammingError,  # insufficient privilege
    0x0315: AuthenticationError,
    0x0350: IntegrityError,
    0x0351: AuthenticationError,
    0x0352: ProgrammingError,
    0x0353: ProgrammingError,
    0x0357: AuthenticationError,
    0x0360: IntegrityError,
    0x0381: IntegrityError,
    0x0386: OperationalError,  # database in dropping
    0x0396: OperationalError,  # database in creating
    0x03D3: OperationalError,  # conflicting transaction
    0x03E0: IntegrityError,
    0x03EB: TmqError,
    0x03EF: TmqError,
    0x0603: IntegrityError,
    0x060B: DataError,
    0x0618: ProgrammingError,
    0x0700: ProgrammingError,
    0x0732: InternalError,
    0x1105: AuthenticationError,
    0x1106: ProgrammingError,
    0x1107: ProgrammingError,
    0x110A: AuthenticationError,
    0x1121: ProgrammingError,
    0x1122: AuthenticationError,
    0x1124: AuthenticationError,
    0x1125: AuthenticationError,
    0x2605: DataError,
    0x2653: DataError,
    0x26FF: InternalError,
    0xFFFD: ProgrammingError,  # the statement matches a reject rule of the adapter
    0xFFFE: OperationalError,  # the adapter's query limiter
    UNKNOWN_CODE: OperationalError,
}
_BY_RANGE: tuple[tuple[int, int, type[Error]], ...] = (
    (0x0001, 0x00FF, OperationalError),  # RPC: network, time-outs, broken links
    (0x0100, 0x01FF, OperationalError),  # common: memory, starting, stopping
    (0x0200, 0x02FF, ProgrammingError),  # client: SQL, statements
    (0x0300, 0x03DF, ProgrammingError),  # mnode: databases, stables, functions
    (0x03E0, 0x03EF, TmqError),
    (0x03F0, 0x03FF, ProgrammingError),  # mnode: streams, indexes, views
    (0x0400, 0x05FF, OperationalError),  # dnode, vnode
    (0x0600, 0x06FF, ProgrammingError),  # storage
    (0x0700, 0x07FF, OperationalError),  # query
    (0x0800, 0x08FF, OperationalError),  # grants
    (0x0900, 0x09FF, OperationalError),  # sync
    (0x2600, 0x26FF, ProgrammingError),  # parser
    (0x2700, 0x2FFF, ProgrammingError),  # planner, functions, UDF
    (0x3000, 0x30FF, SchemalessError),
    (0x4000, 0x40FF, TmqError),
)


_TEXTS = {
    0x060B: "timestamp out of the range that the database keeps",
    0x061D: "Table already exists in other stables",
}


def class_of(code: int) -> type[Error]:
    """Return the exception class of a TDengine code (low 16 bits)."""
    exact = _BY_CODE.get(code)
    if exact is not None:
        return exact
    for first, last, cls in _BY_RANGE:
        if first <= code <= last:
            return cls
    return DatabaseError


def server_error(
    code: int,
    message: str,
    *,
    req_id: int | None = None,
    sql: str | None = None,
    endpoint: str | None = None,
) -> Error:
    """Make the exception for a server's refusal, of the class that its code stands for."""
    code &= 0xFFFF
    text = message.strip()
    if text in ("", "success"):  # TDengine has no text for some codes
        text = _TEXTS.get(code, "the server gave no message")
    return class_of(code)(text, code=code, req_id=req_id, sql=sql, endpoint=endpoint)

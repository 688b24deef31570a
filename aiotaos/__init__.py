"""aiotaos: the asyncio-native client for TDengine.

async with aiotaos.connect("ws://root:taosdata@localhost:6041") as conn:
    async for row in await conn.query("select * from power.meters"):
        print(row)
"""

from .binding import TableRows
from .connection import Connecting, Connection, connect
from .cursor import Cursor
from .errors import (
    AuthenticationError,
    ConnectionError,
    ConnectionLost,
    DatabaseError,
    DataError,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    ProtocolError,
    ResultError,
    SchemalessError,
    StatementError,
    TimeoutError,
    TmqError,
    Warning,
    WriteError,
)
from .official_statement import OfficialStatement
from .options import Options
from .protocol.block import Block, FixedColumn, Row, VariableColumn
from .result import Result
from .row_factories import (
    RowFactory,
    RowMaker,
    class_row,
    dict_row,
    namedtuple_row,
    tuple_row,
)
from .schemaless import line
from .statement import Statement
from .types import Field, FieldKind, Precision, SchemalessProtocol, StatementField, TypeCode
from .version import __version__
from .writer import Writer, WriterStats

apilevel = "2.0"
"""PEP 249: the level of the interface."""

threadsafety = 1
"""PEP 249: threads may share the module, not connections (those belong to an event loop)."""

paramstyle = "qmark"
"""PEP 249: parameters are marked with ``?``."""

__all__ = [
    "AuthenticationError",
    "Block",
    "Connecting",
    "Connection",
    "ConnectionError",
    "ConnectionLost",
    "Cursor",
    "DataError",
    "DatabaseError",
    "Error",
    "Field",
    "FieldKind",
    "FixedColumn",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "NotSupportedError",
    "OfficialStatement",
    "OperationalError",
    "Options",
    "Precision",
    "ProgrammingError",
    "ProtocolError",
    "Result",
    "ResultError",
    "Row",
    "RowFactory",
    "RowMaker",
    "SchemalessError",
    "SchemalessProtocol",
    "Statement",
    "StatementError",
    "StatementField",
    "TableRows",
    "TimeoutError",
    "TmqError",
    "TypeCode",
    "VariableColumn",
    "Warning",
    "WriteError",
    "Writer",
    "WriterStats",
    "__version__",
    "apilevel",
    "class_row",
    "connect",
    "dict_row",
    "line",
    "namedtuple_row",
    "paramstyle",
    "threadsafety",
    "tuple_row",
]

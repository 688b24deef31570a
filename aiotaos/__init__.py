"""aiotaos: the asyncio-native client for TDengine.

async with aiotaos.connect("ws://root:taosdata@localhost:6041") as conn:
    async for row in await conn.query("select * from power.meters"):
        print(row)
"""

import logging
from typing import TYPE_CHECKING, Any

from .binding import TableRows
from .connecting import Connecting, connect
from .connection import Connection
from .consumer import Consumer
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
    PoolFull,
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
from .hooks import Hooks, Query
from .member import PoolStats
from .message import Message, MessageKind
from .official_statement import OfficialStatement
from .options import Options
from .pool import Pool, create_pool
from .pooled import PooledConnection
from .protocol.block import Block, FixedColumn, Row, VariableColumn
from .protocol.tmq import TableBlock
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

if TYPE_CHECKING:
    from .transport.native.continuous import ContinuousSubscription

logging.getLogger("aiotaos").addHandler(logging.NullHandler())  # silent unless asked

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
    "Consumer",
    "ContinuousSubscription",
    "Cursor",
    "DataError",
    "DatabaseError",
    "Error",
    "Field",
    "FieldKind",
    "FixedColumn",
    "Hooks",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "Message",
    "MessageKind",
    "NotSupportedError",
    "OfficialStatement",
    "OperationalError",
    "Options",
    "Pool",
    "PoolFull",
    "PoolStats",
    "PooledConnection",
    "Precision",
    "ProgrammingError",
    "ProtocolError",
    "Query",
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
    "TableBlock",
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
    "create_pool",
    "dict_row",
    "line",
    "namedtuple_row",
    "paramstyle",
    "threadsafety",
    "tuple_row",
]


def __getattr__(name: str) -> Any:
    """What is imported when it is asked for: it needs ctypes."""
    if name == "ContinuousSubscription":
        from .transport.native.continuous import ContinuousSubscription

        return ContinuousSubscription
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

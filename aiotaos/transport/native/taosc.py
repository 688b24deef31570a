"""libtaos: each of its functions under its C name, typed, and what every user of it needs.

An object of :class:`Taosc` stands for one loaded library (see
:func:`~aiotaos.transport.native.loading.load`). The functions come in groups, each a class whose
methods say what a function takes, gives and means:

======================================= ===========================================================
:class:`.ProcessFunctions`              the library itself: options of the process, its version
:class:`.ConnectionFunctions`           connections, and what a server tells of itself
:class:`.QueryFunctions`                queries that wait; everything about results
:class:`.CallbackQueryFunctions`        queries that call back: ``taos_query_a`` and the like
:class:`.StatementFunctions`            prepared statements, stmt v1
:class:`.Statement2Functions`           prepared statements, stmt2
:class:`.SchemalessFunctions`           schemaless lines
:class:`.RawFunctions`                  raw blocks and messages, written as they are
:class:`.TopicFunctions`                consumers of topics (TMQ), from 3.0 on
:class:`.LegacyFunctions`               2.x: ``taos_subscribe``, ``taos_consume``,
                                        ``taos_unsubscribe``, and continuous queries
======================================= ===========================================================

Structures, callback types and enumerations are in :mod:`.structs`. Handles (TAOS, TAOS_RES,
TAOS_STMT, tmq_t …) are addresses: int, or None for NULL. Text is bytes. While a function runs,
other threads of Python run too.

The continuous subscription of 2.x, where the library still has it::

    sub = taosc.taos_subscribe(taos, 0, b"new", b"select * from t", SUBSCRIBE(), None, 1000)
    result = taosc.taos_consume(sub)  # waits for the rest of the 1000 ms
    taosc.taos_unsubscribe(sub, 1)

with ``SUBSCRIBE`` for :data:`.structs.TAOS_SUBSCRIBE_CALLBACK`; instead of NULL a callback can be
given, and ``taos_consume`` is not called then. Libraries of 3.x have consumers (TMQ) instead.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, cast

from ...errors import UNKNOWN_CODE, NotSupportedError, ProtocolError
from ...protocol.block import HEADER
from ...types import Field, TypeCode
from ..base import parsed_version
from .functions_queries import CallbackQueryFunctions, QueryFunctions
from .functions_sessions import ConnectionFunctions, ProcessFunctions
from .functions_subscriptions import LegacyFunctions, TopicFunctions
from .functions_writing import (
    RawFunctions,
    SchemalessFunctions,
    Statement2Functions,
    StatementFunctions,
)
from .structs import TAOS_FIELD_2X


def plain_code(code: int) -> int:
    """A code of libtaos as errors have it: its low 16 bits, 0 for success.

    libtaos gives ``0x80000000 | code`` as a negative int32.
    """
    return code and (code & 0xFFFF or UNKNOWN_CODE)


class Taosc(
    ProcessFunctions,
    ConnectionFunctions,
    QueryFunctions,
    CallbackQueryFunctions,
    StatementFunctions,
    Statement2Functions,
    SchemalessFunctions,
    RawFunctions,
    TopicFunctions,
    LegacyFunctions,
):
    """A loaded libtaos.

    A function is looked up when it is used first; NotSupportedError is raised if the library does
    not have it.

    Attributes:
        settings: What :func:`~aiotaos.transport.native.loading.configure` has set.
    """

    settings: dict[str, str]

    def __init__(self, library: ctypes.CDLL, path: str) -> None:
        """Take a library that is loaded.

        Raises:
            NotSupportedError: It is not libtaos.
        """
        self.path = path
        self.version = ()
        self.settings = {}
        self._library = library
        if not self.has("taos_get_client_info"):
            raise NotSupportedError(f"{path} is not libtaos: it has no taos_get_client_info")
        self.version = parsed_version((self.taos_get_client_info() or b"").decode())

    def error(self, result: int | None = None) -> tuple[int, str]:
        """Code and text of a result's failure; for None, of the last one of this thread.

        The code is 0 if there is none, otherwise as in :attr:`aiotaos.Error.code`.
        """
        code = plain_code(self.taos_errno(result))
        text = self.taos_errstr(result) or b""
        return code, text.decode(errors="replace")

    def fields(self, result: int) -> tuple[Field, ...]:
        """The columns of a result; none if it is not a query.

        Raises:
            NotSupportedError: A column is of an unknown type.
        """
        count = self.taos_num_fields(result)
        if count <= 0:
            return ()
        if self.has("taos_fetch_fields_e"):
            return tuple(
                _field(item.name, item.type, item.bytes, item.precision, item.scale)
                for item in self.taos_fetch_fields_e(result)[:count]
            )
        plain = self.taos_fetch_fields(result)
        if self.version < (3,):
            old = cast(plain, POINTER(TAOS_FIELD_2X))
            return tuple(_field(item.name, item.type, item.bytes) for item in old[:count])
        return tuple(_field(item.name, item.type, item.bytes) for item in plain[:count])

    def block(self, result: int) -> bytes | None:
        """A copy of the raw block that was fetched last, None if there is none.

        Raises:
            ProtocolError: It announces less than its own header.
        """
        address = self.taos_get_raw_block(result)
        if address is None:
            return None
        length = ctypes.c_int32.from_address(address + 4).value  # i32 version, i32 length
        if length < HEADER.size:
            raise ProtocolError(f"inconsistent block: it announces {length} bytes")
        return ctypes.string_at(address, length)


def _field(name: bytes, code: int, length: int, precision: int = 0, scale: int = 0) -> Field:
    text = name.decode(errors="replace")
    try:
        type = TypeCode(code)
    except ValueError:
        raise NotSupportedError(f"column {text!r} has the unknown type {code}") from None
    return Field(text, type, length, precision, scale)

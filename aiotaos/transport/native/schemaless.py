"""Schemaless lines over libtaos, by the function that the library has."""

from __future__ import annotations

from ctypes import c_char_p, c_int32

from ...errors import InterfaceError, NotSupportedError
from ...protocol.messages import InsertArgs
from ...types import SchemalessProtocol
from ..base import Deadline
from .calls import Library
from .connection import Connection
from .steps import Refused, Steps
from .structs import SchemalessPrecision
from .taosc import Taosc

_PRECISIONS = {
    "h": SchemalessPrecision.HOURS,
    "m": SchemalessPrecision.MINUTES,
    "s": SchemalessPrecision.SECONDS,
    "ms": SchemalessPrecision.MILLI_SECONDS,
    "u": SchemalessPrecision.MICRO_SECONDS,
    "ns": SchemalessPrecision.NANO_SECONDS,
}
_RAW = "taos_schemaless_insert_raw"


async def schemaless_insert(
    connection: Connection, steps: Steps, arguments: InsertArgs, deadline: Deadline
) -> int:
    """Write lines; see :meth:`aiotaos.transport.base.Transport.schemaless_insert`.

    Raises:
        InterfaceError: The lines have a NUL character.
        NotSupportedError: The library has no function for an argument.
        Error: As :meth:`.Steps.run`.
    """
    data = arguments.data.encode()
    if b"\0" in data:
        raise InterfaceError("lines: they have a NUL character, which would end them")
    return await steps.run(
        arguments.req_id,
        None,
        lambda _: _write(connection.library, connection.address, arguments, data),
        deadline,
        handle=connection.handle,
        executes=True,
    )


def _write(library: Library, connection: int, arguments: InsertArgs, data: bytes) -> int:
    result = _insert(library.taosc, connection, arguments, data)
    if result is None:
        raise Refused(library.failure(None))
    try:
        if library.has_failed(result):
            raise Refused(library.failure(result))
        return int(library.affected_rows(result))
    finally:
        library.taosc.taos_free_result(result)


def _insert(taosc: Taosc, connection: int, arguments: InsertArgs, data: bytes) -> int | None:
    protocol, precision = arguments.protocol, _PRECISIONS[arguments.precision]
    ttl, req_id, key = arguments.ttl, arguments.req_id, arguments.table_name_key
    size, total = len(data), c_int32()
    if taosc.has(f"{_RAW}_ttl_with_reqid_tbname_key"):
        key_data = None if key is None else key.encode()
        return taosc.taos_schemaless_insert_raw_ttl_with_reqid_tbname_key(
            connection, data, size, total, protocol, precision, ttl, req_id, key_data
        )
    if key is not None:
        raise _unknown(taosc, "table_name_key", "3.2")
    if taosc.has(f"{_RAW}_ttl_with_reqid"):
        return taosc.taos_schemaless_insert_raw_ttl_with_reqid(
            connection, data, size, total, protocol, precision, ttl, req_id
        )
    if taosc.has(f"{_RAW}_ttl"):
        return taosc.taos_schemaless_insert_raw_ttl(
            connection, data, size, total, protocol, precision, ttl
        )
    if ttl:
        raise _unknown(taosc, "ttl", "3.0")
    if taosc.has(_RAW):
        return taosc.taos_schemaless_insert_raw(connection, data, size, total, protocol, precision)
    lines = [data]
    if protocol != SchemalessProtocol.JSON:
        lines = [line for line in data.split(b"\n") if line]
    array = (c_char_p * len(lines))(*lines)
    return taosc.taos_schemaless_insert(connection, array, len(lines), protocol, precision)


def _unknown(taosc: Taosc, name: str, since: str) -> NotSupportedError:
    return NotSupportedError(f"libtaos {taosc.version_text} knows no {name}; {since} does")

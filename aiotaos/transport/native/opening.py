"""Opening a session over libtaos."""

from __future__ import annotations

import asyncio
import builtins
import ssl
from concurrent.futures import Future
from typing import NamedTuple

from ...errors import (
    ConnectionError,
    Error,
    InterfaceError,
    NotSupportedError,
    TimeoutError,
    server_error,
)
from ...options import Address, Options
from ..base import Deadline
from ..servers import Place, Servers
from .bridge import Bridge, closed, opened
from .calls import Failure, Library
from .connection import LOST
from .handles import Handle
from .loading import configure, load
from .session import NativeTransport
from .structs import ConnectionMode, ConnectionOption

_UNREACHABLE = LOST | {0x0015}  # its name cannot be resolved


class _Opened(NamedTuple):
    library: Library
    connection: Handle
    version: str


async def open_native(
    options: Options,
    servers: Servers,
    address: Address,
    tls: ssl.SSLContext | None,
    deadline: Deadline,
) -> NativeTransport:
    """Load libtaos and connect to a taosd.

    A connection that is ready only when nobody waits for it any more is closed then.

    Raises:
        AuthenticationError: The server refuses the credentials.
        ConnectionError: It could not be reached.
        TimeoutError: There was no connection in time.
        InterfaceError: libtaos cannot be loaded, or is set up otherwise in this process.
        NotSupportedError: Something is asked for that libtaos cannot do.
        Error: The database does not exist.
    """
    endpoint = options.endpoint(address)
    for name, is_asked in (("token", options.token), ("adapter_ha", options.adapter_ha)):
        if is_asked:
            raise NotSupportedError(
                f"{name} cannot be had over the native road; connect over WebSocket, with ws://"
            )
    place = Place(address)
    bridge = Bridge.enter()
    try:
        await _knock(address, endpoint, deadline)
        found = await _connected(bridge, options, address, endpoint, deadline)
    except BaseException:
        place.leave()
        bridge.leave()
        raise
    return NativeTransport(options, place, bridge, *found)


async def _knock(address: Address, endpoint: str, deadline: Deadline) -> None:
    """See whether somebody listens: libtaos takes 20 s to find out, and cannot be interrupted."""
    try:
        async with asyncio.timeout_at(deadline.when):
            transport, _ = await asyncio.get_running_loop().create_connection(
                asyncio.Protocol, address.host, address.port
            )
    except builtins.TimeoutError as error:
        raise _late(endpoint, deadline) from error
    except ConnectionRefusedError as error:
        raise ConnectionError("connection refused; is taosd running?", endpoint=endpoint) from error
    except OSError as error:
        raise ConnectionError(error.strerror or str(error), endpoint=endpoint) from error
    transport.abort()


def _late(endpoint: str, deadline: Deadline) -> Error:
    return TimeoutError(f"no answer within {deadline.seconds:.3g} s", endpoint=endpoint)


async def _connected(
    bridge: Bridge, options: Options, address: Address, endpoint: str, deadline: Deadline
) -> _Opened:
    work = bridge.waiting(_connect, options, address, endpoint)
    try:
        async with asyncio.timeout_at(deadline.when):
            return await asyncio.wrap_future(work)
    except BaseException as error:
        work.add_done_callback(_close_late)
        if isinstance(error, builtins.TimeoutError) and not isinstance(error, Error):
            raise _late(endpoint, deadline) from error
        raise


def _close_late(work: Future[_Opened]) -> None:
    if not work.cancelled() and work.exception() is None:
        _close(work.result().connection)


def _close(connection: Handle) -> None:
    connection.close()
    closed(connection)


def _connect(options: Options, address: Address, endpoint: str) -> _Opened:
    """Load the library, and connect; waits."""
    taosc = load(options.library_path)
    has_zones = taosc.has("taos_options_connection")
    configure(
        taosc,
        config_dir=options.config_dir,
        charset=options.charset,
        locale=options.locale,
        # Without a time zone of connections, that of the process takes its place.
        timezone=None if has_zones else options.timezone,
    )
    library = Library(taosc)
    host, port = address.host.encode(), address.port
    database = options.database.encode() if options.database is not None else None
    user, password = options.user.encode(), options.password.encode()
    for name, value in (("database", database), ("user", user), ("password", password)):
        if value is not None and b"\0" in value:
            raise InterfaceError(f"{name}: it has a NUL character")
    if options.bearer_token is not None:
        token = options.bearer_token.encode()
        taos = taosc.taos_connect_token(host, token, database, port)
    elif options.totp_code is not None:
        code = options.totp_code.encode()
        taos = taosc.taos_connect_totp(host, user, password, code, database, port)
    else:
        taos = taosc.taos_connect(host, user, password, database, port)
    if taos is None:
        raise _refused(library.failure(None), endpoint)
    connection = Handle(taos, taosc.taos_close)
    opened(connection, taosc)
    try:
        _settle(library, taos, options, endpoint)
        return _Opened(library, connection, _version(taosc.taos_get_server_info(taos)))
    except BaseException:
        _close(connection)
        raise


def _refused(failure: Failure, endpoint: str) -> Error:
    code, message = failure
    if code in _UNREACHABLE:
        return ConnectionError(message, code=code, endpoint=endpoint)
    return server_error(code, message, endpoint=endpoint)


def _settle(library: Library, taos: int, options: Options, endpoint: str) -> None:
    """Tell what holds for the connection alone."""
    taosc = library.taosc
    wanted = {
        ConnectionOption.USER_APP: options.user_app,
        ConnectionOption.USER_IP: options.user_ip,
        ConnectionOption.TIMEZONE: options.timezone,
    }
    if taosc.has("taos_options_connection"):
        for option, value in wanted.items():
            if value is not None and (
                code := taosc.taos_options_connection(taos, option, value.encode())
            ):
                raise _refused(library.failure(None, code), endpoint)
    if options.conn_mode and (code := taosc.taos_set_conn_mode(taos, ConnectionMode.BI, 1)):
        raise _refused(library.failure(None, code), endpoint)


def _version(info: bytes | None) -> str:
    """The version in what a server tells of itself: ``ver:…``, ``build:…``, or it alone (2.x)."""
    first = (info or b"").decode(errors="replace").partition("\n")[0]
    return first.removeprefix("ver:").strip()

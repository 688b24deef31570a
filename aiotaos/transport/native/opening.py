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
    server_error,
)
from ...options import Address, Options
from ..base import Deadline
from ..servers import Place, Servers
from .bridge import Bridge, closed, opened
from .calls import Failure, Library
from .connection import LOST
from .handles import Handle
from .reaching import knock, late, loaded
from .session import NativeTransport
from .structs import ConnectionMode, ConnectionOption

_ADAPTER_PORT = 6041
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
    if options.auth is not None and options.totp_code is not None:
        raise NotSupportedError(
            "auth and totp_code: libtaos takes a second factor with a password alone"
        )
    place = Place(address)
    bridge = Bridge.enter()
    try:
        await knock(address, endpoint, deadline)
        found = await _connected(bridge, options, address, endpoint, deadline)
    except BaseException:
        place.leave()
        bridge.leave()
        raise
    return NativeTransport(options, place, bridge, *found)


async def _connected(
    bridge: Bridge, options: Options, address: Address, endpoint: str, deadline: Deadline
) -> _Opened:
    work = bridge.apart(_connect, options, address, endpoint)
    try:
        async with asyncio.timeout_at(deadline.when):
            return await asyncio.wrap_future(work)
    except BaseException as error:
        work.add_done_callback(_close_late)
        if isinstance(error, builtins.TimeoutError) and not isinstance(error, Error):
            raise late(endpoint, deadline, _hint(options, address)) from error
        raise


def _hint(options: Options, address: Address) -> str:
    if address.port != _ADAPTER_PORT or options.client_driver == "websocket":
        return ""
    return f"; {_ADAPTER_PORT} is taosAdapter's port as a rule, taos:// wants taosd's, 6030"


def _close_late(work: Future[_Opened]) -> None:
    if not work.cancelled() and work.exception() is None:
        _close(work.result().connection)


def _close(connection: Handle) -> None:
    connection.close()
    closed(connection)


def _connect(options: Options, address: Address, endpoint: str) -> _Opened:
    """Load the library, and connect; waits."""
    taosc = loaded(options)
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
    elif options.auth is not None:
        taos = taosc.taos_connect_auth(host, user, options.auth.encode(), database, port)
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

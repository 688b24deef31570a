"""connect(): a connection to be awaited, or entered."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from types import TracebackType
from typing import Any, Generic, TypeAlias, Unpack, overload

from .connection import Connection
from .hooks import Hooks, check_hooks
from .options import OptionArguments, Options
from .protocol.block import Row
from .row_factories import R, RowFactory, tuple_row
from .session import Session
from .transport.servers import Servers

OnReconnect: TypeAlias = Callable[[Connection[Any]], Awaitable[None] | None]


@overload
def connect(
    dsn: str | None = None,
    /,
    *,
    hooks: Hooks | None = None,
    on_reconnect: OnReconnect | None = None,
    **options: Unpack[OptionArguments],
) -> Connecting[Row]: ...
@overload
def connect(
    dsn: str | None = None,
    /,
    *,
    row_factory: RowFactory[R],
    hooks: Hooks | None = None,
    on_reconnect: OnReconnect | None = None,
    **options: Unpack[OptionArguments],
) -> Connecting[R]: ...
def connect(
    dsn: str | None = None,
    /,
    *,
    row_factory: RowFactory[Any] = tuple_row,
    hooks: Hooks | None = None,
    on_reconnect: OnReconnect | None = None,
    **options: Unpack[OptionArguments],
) -> Connecting[Any]:
    """Open a connection: ``async with connect(...) as conn`` or ``conn = await connect(...)``.

    Args:
        dsn: ``driver://[user[:password]@]host[:port][,host…][/database][?key=value]``, for example
            ``ws://root:taosdata@localhost:6041/power``; without it and without ``host``, the
            environment's ``AIOTAOS_DSN``, and ``ws://`` if that is not set.
        row_factory: What rows are: :func:`tuple_row`, :func:`dict_row`, :func:`namedtuple_row`,
            :func:`class_row`.
        hooks: Called before and after each statement.
        on_reconnect: Function or coroutine function that gets the connection each time it was lost
            and opened again, before other calls go on; database and time zone are restored by
            then. If it raises, so do the calls that wait, and the next call tries again.
        options: The same as in a DSN, and beating it; see :class:`aiotaos.options.Options`.

    Raises:
        InterfaceError: An option is unknown or malformed (at once).
        ConnectionError: No server could be reached.
        AuthenticationError: The server refuses the credentials.
        TimeoutError: There was no session within ``connect_timeout``.
        NotSupportedError: The driver is not supported.
    """
    check_hooks(hooks)
    return Connecting(Options.make(dsn, **options), row_factory, hooks, on_reconnect)


class Connecting(Generic[R]):
    """What :func:`connect` returns: await it, or enter it with ``async with``."""

    def __init__(
        self,
        options: Options,
        row_factory: RowFactory[R],
        hooks: Hooks | None,
        on_reconnect: OnReconnect | None,
    ) -> None:
        self._options = options
        self._row_factory = row_factory
        self._hooks = hooks
        self._on_reconnect = on_reconnect
        self._connection: Connection[R] | None = None

    def __repr__(self) -> str:
        endpoints = ", ".join(map(self._options.endpoint, self._options.addresses))
        return f"<Connecting to {endpoints}; await it, or enter it with async with>"

    def __await__(self) -> Generator[Any, None, Connection[R]]:
        return self._open().__await__()

    async def _open(self) -> Connection[R]:
        session = await Session.open(self._options, Servers(self._options.addresses))
        connection = Connection(session, self._row_factory, self._hooks)
        if self._on_reconnect is not None:
            session.on_restored = partial(_restored, self._on_reconnect, weakref.ref(connection))
        return connection

    async def __aenter__(self) -> Connection[R]:
        self._connection = await self._open()
        return self._connection

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._connection is not None:
            await self._connection.close()


async def _restored(on_reconnect: OnReconnect, reference: weakref.ref[Connection[Any]]) -> None:
    connection = reference()
    if connection is not None:
        answer = on_reconnect(connection)
        if inspect.isawaitable(answer):
            await answer

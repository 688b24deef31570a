"""Opening a session: which address, how often, how long."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

from websockets.exceptions import InvalidHandshake, InvalidStatus

from ..errors import (
    AuthenticationError,
    ConnectionError,
    Error,
    NotSupportedError,
    TimeoutError,
)
from ..options import Address, Options, Road
from .base import Deadline, Transport
from .link import Link
from .refusals import FINAL_STATUSES, is_hopeless, link_error, shown, status_error
from .retry import PASSING, Backoff
from .servers import Place, Servers, failed, served
from .websocket import WebSocketTransport

if TYPE_CHECKING:
    from .native.subscription import NativeSubscription
    from .subscription import Subscription

    AnySubscription: TypeAlias = Subscription | NativeSubscription


class _Session(Protocol):
    """What all that is opened tells."""

    @property
    def endpoint(self) -> str: ...
    @property
    def instances(self) -> Sequence[str]: ...


class _OverWebSocket(Protocol):
    """A session that is not open yet."""

    link: Link

    async def login(self, deadline: Deadline) -> None: ...
    def terminate(self) -> None: ...


S = TypeVar("S", bound=_Session)
W = TypeVar("W", bound=_OverWebSocket)
_Open: TypeAlias = Callable[
    [Options, Servers, Address, ssl.SSLContext | None, Deadline], Awaitable[S]
]
_logger = logging.getLogger("aiotaos.connect")


async def open_session(
    options: Options, servers: Servers, only: Address | None = None
) -> Transport:
    """Connect and log in, trying the servers in turn until one serves or the time is over.

    With ``only``, that server is tried, once.

    What may pass is retried ``conn_retries`` times for each server, with pauses that double from
    ``retry_backoff_ms`` to ``retry_backoff_max_ms``, or are as long as the server asks for. A
    refused login is final; an address where there is no taosAdapter is not tried again.

    Raises:
        AuthenticationError: The server refuses the credentials.
        ConnectionError: No server could be reached.
        TimeoutError: There was no session within ``connect_timeout``.
        NotSupportedError: The road is not built.
    """
    open_one: _Open[Transport] = _open_websocket
    if options.road is Road.REST:
        from .rest import open_rest  # aiohttp is imported where it is needed

        open_one = open_rest
    elif options.road is Road.NATIVE:
        from .native.opening import open_native  # so is ctypes

        open_one = open_native
    elif options.road is not Road.WEBSOCKET:
        raise NotSupportedError(f"{options.scheme}:// has no session of its own")
    return await _opened(options, servers, only, open_one)


async def open_subscription(options: Options, servers: Servers) -> AnySubscription:
    """Connect for a consumer; attempts and errors as :func:`open_session`."""
    if options.road is Road.NATIVE:
        from .native.subscription import open_native_subscription

        return await _opened(options, servers, None, open_native_subscription)
    return await _opened(options, servers, None, _open_subscription)


async def _opened(
    options: Options, servers: Servers, only: Address | None, open_one: _Open[S]
) -> S:
    started = asyncio.get_running_loop().time()
    deadline = Deadline(options.connect_timeout)
    tls = await _tls_context(options)
    backoff = Backoff(options)
    last: Error | None = None
    attempts = 0
    hopeless = set[Address]()
    for round_ in range(1 if only else options.conn_retries + 1):
        if round_:
            pause = backoff.next()
            if len(servers) == 1:
                pause = max(pause, getattr(last, "retry_after", None) or 0.0)
            if pause >= deadline.remaining:
                break
            await asyncio.sleep(pause)
        order = [only] if only else servers.order()
        candidates = [address for address in order if address not in hopeless]
        for index, address in enumerate(candidates):
            share = deadline.remaining / (len(candidates) - index)
            if not share:
                break
            attempts += 1
            try:
                session = await open_one(options, servers, address, tls, deadline.sooner(share))
            except Error as error:
                _logger.debug("attempt %d: %s", attempts, error)
                if not _may_pass(error):
                    raise
                last = servers.failure = error
                failed(address, getattr(error, "retry_after", None))
                if error.http_status in FINAL_STATUSES or is_hopeless(error.__cause__):
                    hopeless.add(address)
                    if len(hopeless) == len(servers):
                        raise
            else:
                served(address)
                servers.failure = None
                servers.tell_up(session.endpoint)
                servers.learn(session.instances, tls=options.tls)
                return session
    spent = asyncio.get_running_loop().time() - started
    none = _no_session(options, attempts, deadline, spent, last)
    if only is None:
        servers.tell_down(none)
    raise none


def _may_pass(error: Error) -> bool:
    """Whether another server, or another attempt, may do better."""
    if isinstance(error, AuthenticationError):
        return False
    return isinstance(error, (ConnectionError, TimeoutError)) or error.code in PASSING


def _no_session(
    options: Options, attempts: int, deadline: Deadline, spent: float, last: Error | None
) -> Error:
    endpoints = ", ".join(map(options.endpoint, options.addresses))
    tries = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    reason = last.message if last is not None else "no time for an attempt"
    cls = TimeoutError if not deadline.remaining or last is None else ConnectionError
    error = cls(
        f"no session with {endpoints}: {reason} ({tries} in {spent:.1f} s)",
        endpoint=last.endpoint if last is not None and len(options.addresses) == 1 else None,
        may_have_run=False,
        http_status=last.http_status if last is not None else None,
    )
    if isinstance(error, ConnectionError) and isinstance(last, ConnectionError):
        error.retry_after = last.retry_after
    error.__cause__ = last
    return error


async def _tls_context(options: Options) -> ssl.SSLContext | None:
    if not options.tls:
        return None
    from anyio import to_thread

    from .tls import make_context

    return await to_thread.run_sync(make_context, options)


async def _open_websocket(
    options: Options,
    servers: Servers,
    address: Address,
    tls: ssl.SSLContext | None,
    deadline: Deadline,
) -> Transport:
    session = WebSocketTransport(options, Place(address))
    return await _linked(session, options, address, tls, deadline)


async def _open_subscription(
    options: Options,
    servers: Servers,
    address: Address,
    tls: ssl.SSLContext | None,
    deadline: Deadline,
) -> Subscription:
    from .subscription import Subscription  # most programs have no consumer

    return await _linked(Subscription(options, Place(address)), options, address, tls, deadline)


async def _linked(
    session: W,
    options: Options,
    address: Address,
    tls: ssl.SSLContext | None,
    deadline: Deadline,
) -> W:
    """Connect a session's link, and log in."""
    try:
        async with asyncio.timeout_at(deadline.when):
            await asyncio.get_running_loop().create_connection(
                lambda: session.link,
                address.host,
                address.port,
                ssl=tls,
                server_hostname=address.host if tls is not None else None,
            )
            await session.link.open()
        await session.login(deadline)
    except BaseException as error:
        session.terminate()
        translated = _translated(error, options, options.endpoint(address), deadline)
        if translated is None:
            raise
        raise translated from error
    return session


def _translated(
    error: BaseException, options: Options, endpoint: str, deadline: Deadline
) -> Error | None:
    """The error for what went wrong below; None for what is raised as it is."""
    if isinstance(error, Error):
        return None
    if isinstance(error, InvalidStatus):
        answer = error.response
        return status_error(
            answer.status_code,
            bytes(answer.body or b""),
            answer.headers.get("Retry-After"),
            options,
            endpoint,
            "/ws",
            "a WebSocket handshake",
        )
    if isinstance(error, InvalidHandshake):
        told = shown(str(error).encode(), options)
        return ConnectionError(f"no WebSocket handshake: {told}", endpoint=endpoint)
    return link_error(error, options, endpoint, deadline)

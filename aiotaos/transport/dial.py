"""Opening a session: which address, how often, how long."""

from __future__ import annotations

import asyncio
import builtins
import html
import logging
import ssl
from urllib.parse import quote

from websockets.exceptions import InvalidHandshake, InvalidStatus

from ..errors import AuthenticationError, ConnectionError, Error, NotSupportedError, TimeoutError
from ..options import Address, Options, Road
from .base import Deadline
from .retry import PASSING, Backoff
from .servers import Place, Servers, failed, served
from .websocket import WebSocketTransport

_logger = logging.getLogger("aiotaos.connect")

_BODY_SHOWN = 200
_STATUS_MEANINGS = {
    301: "the server redirects, probably to TLS: use wss://",
    302: "the server redirects, probably to TLS: use wss://",
    307: "the server redirects, probably to TLS: use wss://",
    308: "the server redirects, probably to TLS: use wss://",
    400: "the server does not take this for a WebSocket request; is it taosAdapter's port, 6041?",
    401: "the credentials were refused",
    403: "access was refused",
    404: "there is no /ws here; is this taosAdapter, 3.2.2 or newer?",
    429: "too many requests",
    502: "the gateway does not reach the server",
    503: "the server is overloaded, or pauses for lack of memory",
    504: "the gateway does not reach the server",
}
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"})
_FINAL_STATUSES = frozenset({301, 302, 307, 308, 400, 404})
"""Refusals of an address that asking again will not change; 401 and 403 end the whole."""


async def open_session(
    options: Options, servers: Servers, only: Address | None = None
) -> WebSocketTransport:
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
    if options.road is not Road.WEBSOCKET:
        raise NotSupportedError(
            f"the {options.road.value} road ({options.scheme}://) is not supported yet; "
            "use ws:// or wss://"
        )
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
                session = await _attempt(options, address, tls, deadline.sooner(share))
            except Error as error:
                _logger.debug("attempt %d: %s", attempts, error)
                if not _may_pass(error):
                    raise
                last = servers.failure = error
                failed(address, getattr(error, "retry_after", None))
                if error.http_status in _FINAL_STATUSES or _is_hopeless(error.__cause__):
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


def _is_hopeless(cause: BaseException | None) -> bool:
    """Whether it was a certificate that was refused, or there is no TLS."""
    if isinstance(cause, ssl.SSLCertVerificationError):
        return True
    return isinstance(cause, ssl.SSLError) and cause.reason in _NO_TLS


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


async def _attempt(
    options: Options, address: Address, tls: ssl.SSLContext | None, deadline: Deadline
) -> WebSocketTransport:
    endpoint = options.endpoint(address)
    place = Place(address)
    session = WebSocketTransport(options, place)
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
        translated = _translate(error, endpoint, deadline, options.token)
        if translated is None:
            raise
        raise translated from error
    return session


def _translate(
    error: BaseException, endpoint: str, deadline: Deadline, token: str | None
) -> Error | None:
    """The error for what went wrong below; None for what is raised as it is."""
    if isinstance(error, Error):
        return None
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        meaning = _STATUS_MEANINGS.get(status, "expected a WebSocket handshake")
        whole = bytes(error.response.body or b"").decode("utf-8", "replace")
        body = _masked(whole, token)[:_BODY_SHOWN].strip()
        cls = AuthenticationError if status in (401, 403) else ConnectionError
        refusal = cls(
            f"HTTP status {status}: {meaning}" + (f"; it says: {body}" if body else ""),
            endpoint=endpoint,
            http_status=status,
        )
        seconds = error.response.headers.get("Retry-After", "")
        refusal.retry_after = float(seconds) if seconds.isdecimal() else None
        return refusal
    if isinstance(error, InvalidHandshake):
        told = _masked(str(error), token)
        return ConnectionError(f"no WebSocket handshake: {told}", endpoint=endpoint)
    if isinstance(error, ssl.SSLCertVerificationError):
        remedy = "give its authority as tls_ca"
        if "not valid for" in error.verify_message:
            remedy = "connect by a name that it is for, or with tls_mode='verify_ca'"
        return ConnectionError(
            f"the certificate was refused: {error.verify_message}; {remedy}", endpoint=endpoint
        )
    if isinstance(error, ssl.SSLError) and error.reason in _NO_TLS:
        return ConnectionError("the server does not speak TLS here: use ws://", endpoint=endpoint)
    if isinstance(error, builtins.TimeoutError):
        return TimeoutError(f"no answer within {deadline.seconds:.3g} s", endpoint=endpoint)
    if isinstance(error, ConnectionRefusedError):
        return ConnectionError("connection refused; is taosAdapter running?", endpoint=endpoint)
    if isinstance(error, OSError):
        return ConnectionError(error.strerror or str(error), endpoint=endpoint)
    return None


def _masked(text: str, token: str | None) -> str:
    """What a server sent, without the token of the URL, which it may have sent back."""
    if token:
        for secret in (token, quote(token)):
            text = text.replace(html.escape(secret), "***").replace(secret, "***")
    return text

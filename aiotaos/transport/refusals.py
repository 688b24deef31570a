"""What went wrong on the way to a server, as errors that name the remedy."""

from __future__ import annotations

import base64
import builtins
import html
import ssl
from urllib.parse import quote

from ..errors import AuthenticationError, ConnectionError, Error, TimeoutError
from ..options import Options
from .base import Deadline

BODY_SHOWN = 200
"""Characters of an answer that an error shows."""

_STATUS_MEANINGS = {
    400: "the server does not take this for a request of its own; is it taosAdapter's port, 6041?",
    401: "the credentials were refused",
    403: "access was refused",
    413: "the request is too large",
    429: "too many requests",
    502: "the gateway does not reach the server",
    503: "the server is overloaded, or pauses for lack of memory",
    504: "the gateway does not reach the server",
}
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
FINAL_STATUSES = _REDIRECTS | {200, 400, 404}
"""Refusals of an address that asking again will not change; 401 and 403 end the whole."""


def status_error(
    status: int,
    body: bytes,
    retry_after: str | None,
    options: Options,
    endpoint: str,
    path: str,
    expected: str,
) -> Error:
    """The error for an answer with another status than hoped for.

    Args:
        status: The HTTP status.
        body: The first bytes of the answer.
        retry_after: Its header ``Retry-After``.
        options: How the server was to be reached.
        endpoint: The server.
        path: What was asked for, for example ``/ws``.
        expected: What was hoped for.
    """
    if status in _REDIRECTS:
        meaning = "the server redirects, which is not followed"
        if not options.tls:
            meaning = f"the server redirects, probably to TLS: use {options.scheme}s://"
    elif status == 404:
        meaning = f"there is no {path} here; is this taosAdapter?"
    else:
        meaning = _STATUS_MEANINGS.get(status, f"expected {expected}")
    said = shown(body, options)
    cls = AuthenticationError if status in (401, 403) else ConnectionError
    refusal = cls(
        f"HTTP status {status}: {meaning}" + (f"; it says: {said}" if said else ""),
        endpoint=endpoint,
        http_status=status,
    )
    refusal.retry_after = float(retry_after) if retry_after and retry_after.isdecimal() else None
    return refusal


def shown(body: bytes, options: Options) -> str:
    """The beginning of what a server sent, without the secrets that it may have sent back."""
    text = body.decode("utf-8", "replace")
    login = base64.b64encode(f"{options.user}:{options.password}".encode()).decode()
    for secret in filter(None, (options.token, options.bearer_token, login, options.password)):
        for form in (secret, quote(secret)):
            text = text.replace(html.escape(form), "***").replace(form, "***")
    return text[:BODY_SHOWN].strip()


def link_error(
    error: BaseException, options: Options, endpoint: str, deadline: Deadline
) -> Error | None:
    """The error for what went wrong below; None for what is raised as it is."""
    if isinstance(error, ssl.SSLCertVerificationError):
        remedy = "give its authority as tls_ca"
        if "not valid for" in error.verify_message:
            remedy = "connect by a name that it is for, or with tls_mode='verify_ca'"
        return ConnectionError(
            f"the certificate was refused: {error.verify_message}; {remedy}", endpoint=endpoint
        )
    if isinstance(error, ssl.SSLError) and error.reason in _NO_TLS:
        return ConnectionError(
            f"the server does not speak TLS here: use {options.scheme[:-1]}://", endpoint=endpoint
        )
    if isinstance(error, builtins.TimeoutError):
        return TimeoutError(f"no answer within {deadline.seconds:.3g} s", endpoint=endpoint)
    if isinstance(error, ConnectionRefusedError):
        return ConnectionError("connection refused; is taosAdapter running?", endpoint=endpoint)
    if isinstance(error, OSError):
        return ConnectionError(error.strerror or str(error), endpoint=endpoint)
    return None


def is_hopeless(cause: BaseException | None) -> bool:
    """Whether a certificate was refused, or there is no TLS: asking again will not change it."""
    if isinstance(cause, ssl.SSLCertVerificationError):
        return True
    return isinstance(cause, ssl.SSLError) and cause.reason in _NO_TLS

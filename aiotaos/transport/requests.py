"""Requests with credentials: tokens are got and renewed, refusals become errors without secrets."""

from __future__ import annotations

import asyncio
import base64
import builtins
import zlib
from urllib.parse import quote, urlencode

from ..errors import (
    AuthenticationError,
    Error,
    InterfaceError,
    ProtocolError,
    TimeoutError,
    server_error,
    shorten,
)
from ..options import Options
from ..protocol.rest import parse_head
from .base import Deadline
from .exchange import Exchange, Request
from .http import Http
from .refusals import shown, status_error

_TOKEN_REMEDIES = {
    0x1105: "; is this TDengine Cloud, which token= is for?",
    0x1122: "; servers from 3.4 know bearer tokens",
}
_COMPRESSED_FROM = 4096  # bytes of a request


class Requests:
    """The requests of one session.

    Args:
        options: How to log in.
        endpoint: The server.
        http: The HTTP client, of which the session is a user.

    Attributes:
        token: The token that stands for user and password, if they are not sent themselves.
        may_compress: Whether the server takes compressed requests.
    """

    def __init__(self, options: Options, endpoint: str, http: Http) -> None:
        self._options = options
        self._endpoint = endpoint
        self._http = http
        self._exchanges: set[Exchange] = set()
        self._renewing = asyncio.Lock()
        self._has_token = options.token is not None or options.bearer_token is not None
        self.token = ""
        self.may_compress = options.compression

    def __len__(self) -> int:
        return len(self._exchanges)

    def end(self, reason: Error) -> asyncio.Task[None] | None:
        """Stop what is under way; gives the task that closes the HTTP client, if there is one."""
        for exchange in list(self._exchanges):
            exchange.stop(reason)
        return self._http.leave()

    async def send(self, request: Request, deadline: Deadline) -> Exchange:
        """Send a request, with the credentials; a token that is not taken any more is renewed."""
        if self._options.rest_auth == "taosd" and not self.token and request.takes_token:
            await self.renew(self.token, deadline)
        token = self.token
        exchange = await self._send(request, deadline)
        if exchange.status == 401 and token:
            exchange.close()
            await self.renew(token, deadline)
            exchange = await self._send(request, deadline)
        return exchange

    async def renew(self, token: str, deadline: Deadline) -> None:
        """Have another token than this one; one task gets it for all."""
        try:
            async with asyncio.timeout_at(deadline.when):
                await self._renewing.acquire()
        except builtins.TimeoutError:
            raise TimeoutError(
                f"no token within {deadline.seconds:g} s",
                endpoint=self._endpoint,
                may_have_run=False,
            ) from None
        try:
            if self.token == token:
                await self._get_token(deadline)
        finally:
            self._renewing.release()

    async def _send(self, request: Request, deadline: Deadline) -> Exchange:
        options, parameters, data = self._options, request.parameters, request.data
        headers = {}
        if options.token is not None:
            parameters = {"token": options.token, **parameters}
        elif options.bearer_token is not None:
            headers["Authorization"] = f"Bearer {options.bearer_token}"
        elif self.token and request.takes_token:
            headers["Authorization"] = f"Taosd {self.token}"
        else:
            login = f"{options.user}:{options.password}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(login).decode()}"
        if self.may_compress and len(data) >= _COMPRESSED_FROM:
            headers["Content-Encoding"] = "gzip"
            headers["Accept-Encoding"] = "identity"  # taosAdapter spoils answers if both are
            packer = zlib.compressobj(1, wbits=31)  # of gzip's format
            data = packer.compress(data) + packer.flush()
        url = f"{self._endpoint}{request.path}"
        if parameters:
            url = f"{url}?{urlencode(parameters, quote_via=quote)}"
        exchange = Exchange(self._http, options, self._endpoint, request, self._exchanges.discard)
        self._exchanges.add(exchange)
        try:
            await exchange.send(url, headers, data, deadline)
        except BaseException:
            exchange.close()
            raise
        return exchange

    async def _get_token(self, deadline: Deadline) -> None:
        """Have the server give a token for user and password."""
        user, password = self._options.user, self._options.password
        if "/" in user + password:
            raise InterfaceError(
                "user, password: one with a '/' cannot be sent to /rest/login; "
                "use rest_auth='basic'"
            )
        self.token = ""  # it is not sent with the request for another
        path = f"/rest/login/{quote(user, safe='')}/{quote(password, safe='')}"
        exchange = await self._send(Request("GET", path, {}, b"", 0), deadline)
        try:
            body = await exchange.read(deadline)
            head = parse_head(body)
            token = "" if head is None or head.is_refusal else head.desc
            if exchange.status != 200 or not token.isascii() or not token.isprintable():
                token = ""
            if not token:
                raise self.refusal(exchange, body, "/rest/login")
            self.token = token
        finally:
            exchange.close()

    def refusal(self, exchange: Exchange, body: bytes, path: str) -> Error:
        """The error for an answer that is not what was hoped for."""
        head = parse_head(body)
        if head is not None and head.is_refusal:
            error = self.server_error(head.code, head.desc)
            if exchange.status in (401, 403) and not isinstance(error, AuthenticationError):
                error = AuthenticationError(error.message, code=error.code, endpoint=self._endpoint)
        elif exchange.status == 200:
            said = self.shown(body)
            error = ProtocolError(f"HTTP status 200, but not the JSON that was expected: {said}")
        else:
            error = self.status_error(exchange, body, path)
        return self.placed(error, exchange)

    def status_error(self, exchange: Exchange, body: bytes, path: str) -> Error:
        """The error for an answer with another status than 200."""
        told = self.shown(body).encode()
        retry_after = exchange.retry_after
        return status_error(
            exchange.status, told, retry_after, self._options, self._endpoint, path, "status 200"
        )

    def shown(self, body: bytes) -> str:
        """The beginning of an answer, without secrets."""
        text = shown(body, self._options)
        return text.replace(self.token, "***") if self.token else text

    def server_error(self, code: int, message: str) -> Error:
        """The error for a refusal of TDengine's, with the remedy if it is about tokens."""
        error = server_error(code, message, endpoint=self._endpoint)
        if self._has_token:
            error.say(error.message + _TOKEN_REMEDIES.get(code, ""))
        return error

    def placed(self, error: Error, exchange: Exchange) -> Error:
        """An error with the request that it belongs to."""
        req_id, sql = exchange.request.req_id, exchange.request.sql
        error.http_status = exchange.status
        if error.code is None and sql is not None and exchange.body.head is None:
            error.may_have_run = exchange.status == 200 or exchange.status >= 500
        error.req_id = req_id or None
        error.sql = None if sql is None else shorten(sql)
        error.endpoint = self._endpoint
        return error

    def unreadable(self, error: ProtocolError, exchange: Exchange) -> Error:
        """The error for a body that is not an answer, with the bytes that it begins with."""
        error.say(f"{error.message}; the answer begins with: {self.shown(exchange.body.start)}")
        return self.placed(error, exchange)

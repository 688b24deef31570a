"""One HTTP request and its answer."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
from collections.abc import Callable, Coroutine, Mapping
from datetime import tzinfo
from typing import Any, NamedTuple, TypeVar

import aiohttp

from ..errors import ConnectionLost, Error, ProtocolError, TimeoutError
from ..options import Options
from ..protocol.listed import ListedBlock
from ..protocol.rest import Body
from ..protocol.sql import reads
from .base import Deadline
from .http import MAX_SOCKETS, Http, keep_after_fork
from .refusals import link_error, shown

T = TypeVar("T")
E = TypeVar("E", bound=Error)

_SHORT = 65_536  # bytes of an answer that is not to a statement
_GATHER_SECONDS = 0.005  # how long rows that have come wait for more


class Request(NamedTuple):
    """A request, without credentials.

    Attributes:
        method: Of HTTP.
        path: Behind host and port.
        parameters: Behind the question mark.
        data: The body.
        req_id: Identifier; 0 where there is none.
        sql: The statement; None of other requests.
        zone: The zone that TIMESTAMPs will be written in, if it is another than UTC.
    """

    method: str
    path: str
    parameters: dict[str, str]
    data: bytes
    req_id: int
    sql: str | None = None
    zone: tzinfo | None = None

    @property
    def takes_token(self) -> bool:
        """Whether TDengine's own tokens are known there."""
        return self.path.startswith("/rest/")


class Exchange:
    """One request and its answer, as it comes in.

    Args:
        http: The client.
        options: How the server is reached.
        endpoint: The server.
        request: What is asked.
        on_end: Called once when it is over, with this exchange.

    Attributes:
        request: What is asked.
        body: The answer to a statement.
        block: Rows that were decoded to learn of the result, and are not given out.
    """

    def __init__(
        self,
        http: Http,
        options: Options,
        endpoint: str,
        request: Request,
        on_end: Callable[[Exchange], None],
    ) -> None:
        self._http = http
        self._options = options
        self._endpoint = endpoint
        self.request = request
        self._on_end: Callable[[Exchange], None] | None = on_end
        self._response: aiohttp.ClientResponse | None = None
        self._scope: asyncio.Timeout | None = None
        self._stopped: Error | None = None
        self._has_slot = False
        keep_after_fork(self)
        sql = request.sql
        self.body = Body(reads=sql is not None and reads(sql), zone=request.zone)
        self.block: ListedBlock | None = None

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._answer.status

    @property
    def retry_after(self) -> str | None:
        """The header ``Retry-After``."""
        return self._answer.headers.get("Retry-After")

    @property
    def is_waiting(self) -> bool:
        """Whether somebody waits for a part of the answer."""
        return self._scope is not None

    @property
    def _answer(self) -> aiohttp.ClientResponse:
        assert self._response is not None
        return self._response

    async def send(
        self, url: str, headers: Mapping[str, str], data: bytes, deadline: Deadline
    ) -> None:
        """Send the request, and wait for the status."""
        await self._take_slot(deadline)
        self._response = await self._wait(
            self._http.request(self.request.method, url, headers, data or None), deadline, "answer"
        )

    async def _take_slot(self, deadline: Deadline) -> None:
        try:
            async with asyncio.timeout_at(deadline.when) as self._scope:
                await self._http.slots.acquire()
        except builtins.TimeoutError:
            raise self._stopped or TimeoutError(
                f"the request could not be sent within {deadline.seconds:g} s: {MAX_SOCKETS} "
                "others are under way, or their answers are not read to the end",
                req_id=self.request.req_id or None,
                sql=self.request.sql,
                endpoint=self._endpoint,
                may_have_run=False,
            ) from None
        finally:
            self._scope = None
        self._has_slot = True

    async def read(self, deadline: Deadline) -> bytes:
        """The whole body, or its first 64 KiB."""
        return await self._wait(self._read_start(), deadline, "answer")

    async def _read_start(self) -> bytes:
        start = b""
        while len(start) < _SHORT and (data := await self._answer.content.readany()):
            start += data
        return start[:_SHORT]

    async def fill(self, deadline: Deadline) -> None:
        """Feed the body with what comes next.

        Raises:
            ProtocolError: It is not an answer to a statement.
        """
        await self._wait(self._gather(), deadline, "block")

    async def _gather(self) -> None:
        """Wait for something, and then a moment for as much as is decoded at a time."""
        content = self._answer.content
        self.body.feed(await content.readany())
        with contextlib.suppress(builtins.TimeoutError):
            async with asyncio.timeout(_GATHER_SECONDS):
                while not content.at_eof() and self.body.pending < self._options.read_buffer_size:
                    self.body.feed(await content.readany())
        if content.at_eof():
            self.body.end()

    async def _wait(self, answer: Coroutine[Any, Any, T], deadline: Deadline, what: str) -> T:
        if self._stopped is not None:
            answer.close()
            raise self._stopped
        failure: Error
        cause: Exception | None = None
        try:
            async with asyncio.timeout_at(deadline.when) as self._scope:
                return await answer
        except builtins.TimeoutError:
            failure = self._error(TimeoutError, f"no {what} within {deadline.seconds:g} s")
        except aiohttp.ClientConnectorError as error:
            cause = getattr(error, "certificate_error", None) or error.os_error
            failure = self._unreachable(cause, deadline)
        except aiohttp.ClientResponseError as error:  # which knows the URL, and secrets in it
            told = error.message.partition("\n")[0].rstrip(":")
            said = shown(told.encode(), self._options)
            failure = self._error(ProtocolError, f"no HTTP answer: {said}")
        except (aiohttp.ClientError, OSError) as error:
            cause, failure = error, self._cut_off(error)
        finally:
            self._scope = None
        raise self._stopped or failure from cause

    def _unreachable(self, cause: OSError, deadline: Deadline) -> ConnectionLost:
        told = link_error(cause, self._options, self._endpoint, deadline)
        message = told.message if told is not None else str(cause)
        return self._error(ConnectionLost, message, may_have_run=False)

    def _cut_off(self, error: Exception) -> ConnectionLost:
        moment = "during the call" if self._response is None else "before all of its answer came"
        return self._error(
            ConnectionLost,
            f"the connection was lost {moment}: {str(error) or type(error).__name__}",
            may_have_run=True,
        )

    def _error(self, cls: type[E], message: str, *, may_have_run: bool | None = None) -> E:
        """An error with the request that it belongs to."""
        if may_have_run is None and self.request.req_id and self.body.head is None:
            may_have_run = True
        return cls(
            message,
            req_id=self.request.req_id or None,
            sql=self.request.sql,
            endpoint=self._endpoint,
            may_have_run=may_have_run,
            http_status=None if self._response is None else self.status,
        )

    def stop(self, reason: Error) -> None:
        """End it, with an error for who waits or will wait."""
        self._stopped = reason
        if self._scope is not None:
            self._scope.reschedule(self._http.loop.time())
        self.close()

    def close(self) -> None:
        """End it; what was not read is given up. May be called again."""
        if self._on_end is not None:
            on_end, self._on_end = self._on_end, None
            if self._response is not None:
                self._response.close()  # harmless when all of it was read
            if self._has_slot:
                self._http.slots.release()
            on_end(self)

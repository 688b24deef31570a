"""One HTTP request and its answer."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import aiohttp

from ..errors import ConnectionLost, Error, ProtocolError, TimeoutError
from ..options import Options
from ..protocol.listed import ListedBlock
from ..protocol.rest import Body
from ..protocol.sql import reads
from .base import Deadline
from .http import Http
from .refusals import link_error

T = TypeVar("T")

_SHORT = 65_536  # bytes of an answer that is not to a statement
_GATHER_SECONDS = 0.005  # how long rows that have come wait for more


class Exchange:
    """One request and its answer, as it comes in.

    Args:
        http: The client.
        options: How the server is reached.
        endpoint: The server.
        req_id: Identifier of the request.
        sql: The statement, for errors.
        on_end: Called once when it is over, with this exchange.

    Attributes:
        is_unreachable: Whether there was no connection to be had.
        body: The answer to a statement.
        block: Rows that were decoded to learn of the result, and are not given out.
    """

    def __init__(
        self,
        http: Http,
        options: Options,
        endpoint: str,
        req_id: int,
        sql: str | None,
        on_end: Callable[[Exchange], None],
    ) -> None:
        self._http = http
        self._options = options
        self._endpoint = endpoint
        self._req_id = req_id
        self._sql = sql
        self._on_end: Callable[[Exchange], None] | None = on_end
        self._response: aiohttp.ClientResponse | None = None
        self._scope: asyncio.Timeout | None = None
        self._stopped: Error | None = None
        self.is_unreachable = False
        self.body = Body(reads=sql is not None and reads(sql))
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
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        data: bytes | None,
        deadline: Deadline,
    ) -> None:
        """Send the request, and wait for the status."""
        self._response = await self._wait(
            self._http.request(method, url, headers, data), deadline, "answer"
        )

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

    async def _wait(self, answer: Awaitable[T], deadline: Deadline, what: str) -> T:
        if self._stopped is not None:
            raise self._stopped
        try:
            async with asyncio.timeout_at(deadline.when) as self._scope:
                return await answer
        except builtins.TimeoutError:
            if self._stopped is not None:
                raise self._stopped from None
            raise TimeoutError(
                f"no {what} within {deadline.seconds:g} s",
                req_id=self._req_id,
                sql=self._sql,
                endpoint=self._endpoint,
                may_have_run=None if self._response is not None else True,
            ) from None
        except aiohttp.ClientConnectorError as error:
            cause: OSError = getattr(error, "certificate_error", None) or error.os_error
            raise self._lost(cause, deadline) from cause
        except aiohttp.ClientResponseError as error:
            told = error.message.partition("\n")[0].rstrip(":")
            raise ProtocolError(f"no HTTP answer: {told}") from error
        except (aiohttp.ClientError, OSError) as error:
            if self._stopped is not None:
                raise self._stopped from None
            raise self._cut_off(error) from error
        finally:
            self._scope = None

    def _lost(self, cause: OSError, deadline: Deadline) -> ConnectionLost:
        """The error for a server that cannot be reached."""
        self.is_unreachable = True
        told = link_error(cause, self._options, self._endpoint, deadline)
        return ConnectionLost(
            told.message if told is not None else str(cause),
            req_id=self._req_id,
            sql=self._sql,
            endpoint=self._endpoint,
            may_have_run=False,
        )

    def _cut_off(self, error: Exception) -> ConnectionLost:
        has_status = self._response is not None
        moment = "before all of its answer had come" if has_status else "during the call"
        return ConnectionLost(
            f"the connection was lost {moment}: {str(error) or type(error).__name__}",
            req_id=self._req_id,
            sql=self._sql,
            endpoint=self._endpoint,
            may_have_run=True,
            http_status=self.status if has_status else None,
        )

    def stop(self, reason: Error) -> None:
        """End it, with an error for who waits or will wait."""
        self._stopped = reason
        if self._scope is not None:
            self._scope.reschedule(asyncio.get_running_loop().time())
        self.close()

    def close(self) -> None:
        """End it; what was not read is given up. May be called again."""
        if self._on_end is not None:
            on_end, self._on_end = self._on_end, None
            if self._response is not None:
                self._response.close()  # harmless when all of it was read
            on_end(self)

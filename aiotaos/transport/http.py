"""The HTTP client that the sessions of one connection or pool share."""

from __future__ import annotations

import asyncio
import ssl
import weakref
from collections.abc import Mapping

import aiohttp
from yarl import URL

from ..home import after_fork
from ..options import Options
from .servers import Servers

MAX_SOCKETS = 512
"""Requests that may be under way, or whose answers are not read to the end."""

_IDLE_SECONDS = 15.0
_closing: set[asyncio.Task[None]] = set()
_alive: weakref.WeakSet[object] = weakref.WeakSet()
_inherited: list[object] = []


def keep_after_fork(owner: object) -> None:
    """Never drop an owner of sockets in a process that is forked off.

    aiohttp closes them when it is dropped, and the parent's event loop would lose sight of its own.
    """
    _alive.add(owner)


after_fork(lambda: _inherited.extend(_alive))


class Http:
    """A client with its idle sockets; it ends with the last of its users.

    Args:
        options: How servers are reached.
        servers: Whose sessions share it.
        tls: The TLS context.

    Attributes:
        loop: The event loop.
        slots: A request takes one until its answer is read.
    """

    def __init__(self, options: Options, servers: Servers, tls: ssl.SSLContext | None) -> None:
        self._servers = servers
        self._users = 0
        self.loop = asyncio.get_running_loop()
        self.slots = asyncio.Semaphore(MAX_SOCKETS)
        keep_after_fork(self)
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, keepalive_timeout=_IDLE_SECONDS, ssl=tls or True
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={
                "User-Agent": "aiotaos",
                "Accept-Encoding": "gzip" if options.compression else "identity",
            },
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            read_bufsize=options.read_buffer_size,
        )

    @classmethod
    def of(cls, options: Options, servers: Servers, tls: ssl.SSLContext | None) -> Http:
        """The client of some servers, for one more user."""
        http = servers.http
        if http is None:
            http = servers.http = cls(options, servers, tls)
        http._users += 1
        return http

    def leave(self) -> asyncio.Task[None] | None:
        """One user less; the last one gets the task that closes it."""
        self._users -= 1
        if self._users:
            return None
        self._servers.http = None
        task = self.loop.create_task(self._client.close(), name="aiotaos: HTTP")
        _closing.add(task)
        task.add_done_callback(_closing.discard)
        return task

    async def request(
        self, method: str, url: str, headers: Mapping[str, str], data: bytes | None
    ) -> aiohttp.ClientResponse:
        """Send a request; gives the answer when its status has come."""
        return await self._client.request(
            method, URL(url, encoded=True), headers=headers, data=data, allow_redirects=False
        )

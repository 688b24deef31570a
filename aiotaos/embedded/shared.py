"""The server behind ``embedded://``: one for a file (or for memory) and event loop, shared.

The first connection starts it, the last one stops it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os

from ..options import Address, Options, Road
from ..transport.base import Deadline, Transport, next_req_id
from ..transport.dial import open_session
from ..transport.servers import Servers
from .server import Server


class _Shared:
    """A server and the number of its users.

    Attributes:
        users: Connections that hold it, those that are being opened included.
        ready: Serializes starting and stopping.
    """

    def __init__(self, data: str | None) -> None:
        self.server = Server(data=data)
        self.users = 0
        self.running = False
        self.ready = asyncio.Lock()


_Key = tuple[asyncio.AbstractEventLoop, str | None]
_servers: dict[_Key, _Shared] = {}
_stopping: set[asyncio.Task[None]] = set()


async def hold_embedded(options: Options) -> tuple[Options, Hold]:
    """Hold the shared server, starting it if need be.

    Returns:
        The options of a WebSocket to it, and the hold.
    """
    key = _key(options)
    shared = _servers.setdefault(key, _Shared(key[1]))
    shared.users += 1
    try:
        async with shared.ready:
            if not shared.running:
                await shared.server.start()
                shared.running = True
    except BaseException:
        await _release(key, shared)
        raise
    target = dataclasses.replace(
        options,
        road=Road.WEBSOCKET,
        addresses=(Address("127.0.0.1", shared.server.port),),
        data=None,
    )
    return target, Hold(key, shared)


async def open_embedded(options: Options) -> tuple[Transport, Options, Hold]:
    """Open a session with the shared server.

    A database that the options name is made if it does not exist: in a fresh server none does.

    Returns:
        The session, the options it stands for (those of a WebSocket), and its hold on the server.
    """
    target, hold = await hold_embedded(options)
    try:
        plain = dataclasses.replace(target, database=None)
        session = await open_session(plain, Servers(target.addresses))
        try:
            if options.database is not None:
                deadline = Deadline(options.connect_timeout)
                name = options.database.replace("`", "")
                for sql in (f"create database if not exists `{name}`", f"use `{name}`"):
                    await session.query(sql, next_req_id(), deadline)
        except BaseException:
            session.terminate()
            raise
    except BaseException:
        await hold.release()
        raise
    return session, target, hold


def _key(options: Options) -> _Key:
    """Two names of one file are one server."""
    path = None if options.data is None else os.path.realpath(options.data)
    return asyncio.get_running_loop(), path


async def _release(key: _Key, shared: _Shared) -> None:
    shared.users -= 1
    if shared.users == 0:
        async with shared.ready:
            if shared.users == 0 and shared.running:
                shared.running = False
                if _servers.get(key) is shared:
                    del _servers[key]
                await shared.server.stop()


class Hold:
    """A connection's hold on the shared server, which ends with its last one."""

    def __init__(self, key: _Key, shared: _Shared) -> None:
        self._key = key
        self._shared = shared
        self._released = False

    async def release(self) -> None:
        """Let go; the last one stops the server. May be called again."""
        if not self._released:
            self._released = True
            await asyncio.shield(_release(self._key, self._shared))
            here = [task for task in _stopping if task.get_loop() is self._key[0]]
            others = [task for task in here if task is not asyncio.current_task()]
            if others:
                await asyncio.wait(others)

    def release_soon(self) -> None:
        """Let go without waiting."""
        task = self._key[0].create_task(self.release())
        _stopping.add(task)
        task.add_done_callback(_stopping.discard)

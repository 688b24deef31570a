"""Stopping queries on the server that nobody waits for any more.

TDengine has no message for it. What runs is listed in ``performance_schema.perf_queries``, where
``query_id`` is the request's id; it is filled by libtaos' heartbeat, so a query appears there only
about 1.5 s after its start.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections import Counter
from collections.abc import Callable

from .asking import ask_rows
from .errors import DatabaseError, Error
from .options import Options
from .transport.base import Deadline, Transport
from .transport.dial import open_session
from .transport.servers import Servers

_PATIENCE = 10.0  # seconds that a query is looked for
_INTERVAL = 0.5
_TIMEOUT = 5.0  # seconds for each step
_GRACE = 1.0  # seconds that the end of the session waits for a query to be stopped
_logger = logging.getLogger("aiotaos.kill")


class Killer:
    """Stops queries through a session of its own, which lives while there is something to stop.

    Args:
        options: How to open that session.
        servers: Where.
    """

    def __init__(self, options: Options, servers: Servers) -> None:
        self._options = dataclasses.replace(options, database=None, conn_retries=0)
        self._servers = servers
        self._wanted: dict[int, tuple[float, Callable[[], bool]]] = {}
        self._task: asyncio.Task[None] | None = None

    def stop(self, req_id: int, is_running: Callable[[], bool]) -> None:
        """Stop a query soon, unless it ends before.

        Args:
            req_id: Id of its request.
            is_running: Whether it still runs, as far as this side knows.
        """
        if not is_running():
            return
        loop = asyncio.get_running_loop()
        self._wanted[req_id] = (loop.time() + _PATIENCE, is_running)
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._run(), name="aiotaos: KILL QUERY")

    async def close(self) -> None:
        """End, after a moment for what is to be stopped."""
        if self._task is not None:
            try:
                await asyncio.wait([self._task], timeout=_GRACE)
            finally:
                self._task.cancel()

    def terminate(self) -> None:
        """End at once."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            side = await open_session(self._options, self._servers)
        except Error as error:
            _logger.warning("queries could not be stopped: %s", error)
            self._wanted.clear()
            return
        try:
            while self._pending():
                await self._look(side)
                if self._pending():
                    await asyncio.sleep(_INTERVAL)
        except Error as error:
            _logger.warning("queries could not be stopped: %s", error)
            self._wanted.clear()
        finally:
            side.terminate()

    def _pending(self) -> bool:
        now = asyncio.get_running_loop().time()
        for req_id, (until, is_running) in list(self._wanted.items()):
            if now > until or not is_running():
                del self._wanted[req_id]
        return bool(self._wanted)

    async def _look(self, side: Transport) -> None:
        ids = ", ".join(map(str, self._wanted))
        found = await ask_rows(
            side,
            "select query_id, kill_id from performance_schema.perf_queries "
            f"where query_id in ({ids})",
            Deadline(_TIMEOUT),
        )
        times = Counter(req_id for req_id, _ in found)
        for req_id, kill_id in found:
            if times[req_id] > 1:
                continue  # somebody else uses the same id; it cannot be told which is whose
            entry = self._wanted.pop(req_id, None)
            if entry is None or not entry[1]():
                continue
            try:
                await ask_rows(side, f"kill query '{kill_id}'", Deadline(_TIMEOUT))
            except DatabaseError as error:
                _logger.warning("a query could not be stopped: %s", error)
            else:
                _logger.info("query stopped: req_id %d", req_id)

"""What may be repeated, how often, and after which pauses."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from ..errors import ConnectionLost, Error
from ..options import Options
from .base import Deadline

PASSING = frozenset(
    {0x000B, 0x0015, 0x0018, 0x0019, 0x0020, 0x0021, 0x0022, 0x0023, 0x0024}  # network
    | {0x0102, 0x0125, 0x0126, 0x012C, 0x0130, 0x0131, 0x022E}  # memory, starting, stopping
    | {0x0386, 0x0396, 0x03D3, 0x03EF, 0x0408}  # metadata that is changing, a node that is away
    | {0x0503, 0x0522, 0x0528, 0x0529, 0x0531, 0x0600, 0x061B, 0x070B, 0x0739, 0x073A}  # vnodes
    | {0x0903, 0x090C, 0x0911, 0x0914, 0x0916, 0x0917, 0x09FF}  # replicas
    | {0xFFFE}  # taosAdapter's limiter
)
"""Codes of what passes by itself; see ``retry`` in the table of codes of taoserror.h's users:
libtaos redirects and refreshes upon most of them by its own, so they are repeated sparingly."""

NOT_RUN = frozenset({0x0386, 0x0396, 0x03D3, 0xFFFE})
"""Those of them that are told before anything has been done."""

SESSION_GONE = frozenset({0x020B, 0x0213, 0x0215})
"""Codes that say that the session with taosd is gone, though that with taosAdapter stands."""

_PASSING_STATUSES = frozenset({429, 502, 503, 504})
_JITTER = 0.2


class Backoff:
    """Pauses that double from ``retry_backoff_ms`` to ``retry_backoff_max_ms``, with jitter."""

    __slots__ = ("_longest", "_next")

    def __init__(self, options: Options) -> None:
        self._longest = options.retry_backoff_max_ms / 1000
        self._next = min(options.retry_backoff_ms / 1000, self._longest)

    def next(self) -> float:
        """Seconds of the next pause."""
        pause = self._next * random.uniform(1 - _JITTER, 1 + _JITTER)
        self._next = min(2 * self._next, self._longest)
        return pause


class Attempts:
    """The attempts at one call.

    Args:
        options: How often, and after which pauses, something is repeated.
        deadline: The end of the call.
        safe: Whether it may be run twice: it reads, or the user said so.
        check: Called before it is repeated, with the error; raises if it must not be any more.

    Attributes:
        count: How many there were, the present one included.
        deadline: The end of the call.
        safe: Whether it may be run twice.
        may_have_run: Whether one of those before may have run.
    """

    __slots__ = ("_backoff", "_check", "_options", "count", "deadline", "may_have_run", "safe")

    def __init__(
        self,
        options: Options,
        deadline: Deadline,
        *,
        safe: bool,
        check: Callable[[Error], None] | None = None,
    ) -> None:
        self._options = options
        self._check = check
        self._backoff: Backoff | None = None
        self.count = 1
        self.deadline = deadline
        self.safe = safe
        self.may_have_run = False

    async def pause(self, error: Error) -> None:
        """Wait before the next attempt.

        Raises:
            Error: ``error`` itself, if there is to be none.
        """
        if self.may_have_run:
            error.may_have_run = True
        if self.count > self._options.conn_retries or not self._may_repeat(error):
            raise error
        if self._backoff is None:
            self._backoff = Backoff(self._options)
        if not isinstance(error, ConnectionLost) or self.count > 1:
            wait = self._backoff.next()
            if wait >= self.deadline.remaining:
                raise error
            await asyncio.sleep(wait)
        if self._check is not None:
            self._check(error)
        self.may_have_run = self.may_have_run or error.may_have_run is True
        self.count += 1

    def _may_repeat(self, error: Error) -> bool:
        if isinstance(error, ConnectionLost):
            return self.safe or not error.may_have_run
        if error.http_status in _PASSING_STATUSES:
            wanted = getattr(error, "retry_after", None) or 0.0
            return self.safe and wanted <= self._options.retry_backoff_max_ms / 1000
        if error.code is None:
            return False
        if error.code == 0x0600 and self.count > 1:
            return False
        if error.code in NOT_RUN:
            return True
        return self.safe and (error.code in PASSING or error.code in SESSION_GONE)

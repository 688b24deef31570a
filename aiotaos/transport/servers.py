"""The servers of a DSN: which is asked next.

How many sessions of this process stand with an address, and which addresses failed of late, is
known for the whole process, so that connections and pools spread their sessions together.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..errors import Error
from ..home import after_fork
from ..options import ADAPTER_PORT, Address

if TYPE_CHECKING:
    from .http import Http

_FIRST_ASIDE = 1.0  # seconds that an address is set aside when it fails; doubled each time
_LAST_ASIDE = 60.0
_logger = logging.getLogger("aiotaos.connect")

_lock = threading.RLock()  # there may be a loop in each of several threads
_loads: Counter[Address] = Counter()
_aside: dict[Address, tuple[float, float]] = {}  # until when, and for how long


def failed(address: Address, seconds: float | None = None) -> None:
    """Set an address aside, for longer each time; for ``seconds`` if the server has told them."""
    now = time.monotonic()
    until, delay = _aside.get(address, (0.0, _FIRST_ASIDE / 2))
    if seconds is not None:
        _aside[address] = (now + min(seconds, _LAST_ASIDE), delay)
    elif now >= until:
        delay = min(2 * delay, _LAST_ASIDE)
        _aside[address] = (now + delay, delay)


def served(address: Address) -> None:
    """An address works: it is not aside any more."""
    _aside.pop(address, None)


def is_aside(address: Address) -> bool:
    """Whether an address failed so recently that others are asked first."""
    entry = _aside.get(address)
    return entry is not None and time.monotonic() < entry[0]


class Place:
    """A session's place at a server, counted from the attempt to open it to its end."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._pid: int | None = os.getpid()
        with _lock:
            _loads[address] += 1

    def leave(self) -> None:
        """Give the place up. May be called again."""
        pid, self._pid = self._pid, None
        if pid == os.getpid():
            with _lock:
                _loads[self.address] -= 1

    def __del__(self) -> None:
        self.leave()  # the session of a loop that ended without it


def _forget() -> None:
    """What a parent process knows holds for the parent."""
    _loads.clear()
    _aside.clear()


after_fork(_forget)


class Servers:
    """The servers that one connection or pool may use.

    Args:
        addresses: Those that the options name.

    Attributes:
        failure: Why the last attempt to open a session failed; None if it did not.
        http: The HTTP client that sessions over REST share, while there is one.
    """

    def __init__(self, addresses: Iterable[Address]) -> None:
        self._addresses = list(addresses)
        self.http: Http | None = None
        self.failure: Error | None = None
        self._is_down = False

    def tell_down(self, error: Error) -> None:
        """Log that there is no session to be had; once, until there is one again."""
        if not self._is_down:
            self._is_down = True
            _logger.warning("%s", error)

    def tell_up(self, endpoint: str) -> None:
        """Log that there is one again."""
        if self._is_down:
            self._is_down = False
            _logger.warning("%s: there is a session again", endpoint)

    def reason(self) -> str:
        """Why there was no session of late, to be put behind a text; empty if it is not known."""
        return f": {self.failure.message}" if self.failure is not None else ""

    def __len__(self) -> int:
        return len(self._addresses)

    def order(self) -> list[Address]:
        """All of them, in the order in which they are to be tried.

        Least loaded first, by chance among equals; those that failed of late come last.
        """
        addresses = list(self._addresses)
        random.shuffle(addresses)
        return sorted(addresses, key=lambda address: (is_aside(address), _loads[address]))

    def learn(self, instances: Iterable[str], *, tls: bool) -> None:
        """Take in what the server says of its cluster: ``host:port``, or ``https://host:port``."""
        for instance in instances:
            scheme, _, rest = instance.rpartition("://")
            try:
                parts = urlsplit(f"//{rest}")
                host, port = parts.hostname, parts.port or ADAPTER_PORT
            except ValueError:
                host = None
            if not host or (scheme and (scheme == "https") is not tls):
                _logger.debug("a server of the cluster cannot be used: %r", instance)
                continue
            address = Address(host, port)
            if address not in self._addresses:
                self._addresses.append(address)

    def lighter_than(self, address: Address) -> Address | None:
        """A server that ought to take over a session of ``address``; None if the load is even."""
        lightest = self.order()[0]
        if is_aside(lightest) or _loads[lightest] > _loads[address] - 2:
            return None
        return lightest

"""A connection of libtaos as all of its users see it: whether it stands, and what errors mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from ...errors import Error, server_error
from ..alarm import Alarm
from ..retry import SESSION_GONE
from ..standing import Standing
from .bridge import Bridge
from .calls import Failure, Library
from .handles import Handle

LOST = SESSION_GONE | {0x000B, 0x0018, 0x0021, 0x0023}
"""Codes that say that the connection is gone; the latter: it cannot be established, it broke (to
the node that was asked, or to another), the network failed. See ``TSDB_CODE_RPC_…`` in
``include/util/taoserror.h`` of TDengine 3.3.7."""

EndOfCall: TypeAlias = Callable[[int, str | None, bool | None], Error]
"""Makes the error of a call that the end cuts off: of its req_id, SQL and ``may_have_run``."""


class Connection(Standing):
    """A connection that stands, is closed or lost.

    Args:
        handle: The TAOS.
        library: The library.
        bridge: The way to the loop.
        endpoint: The server, for errors.
        on_lost: Called when a failure says that the connection is gone; then :attr:`lost` is set.

    Attributes:
        handle: The TAOS; not to be used after the end.
        library: The library.
        taosc: Its functions.
        bridge: The way to the loop.
        alarm: The time-outs of what waits.
    """

    def __init__(
        self,
        handle: Handle,
        library: Library,
        bridge: Bridge,
        endpoint: str,
        on_lost: Callable[[Exception], None],
    ) -> None:
        super().__init__(endpoint)
        self.handle = handle
        self.library = library
        self.taosc = library.taosc
        self.bridge = bridge
        self.alarm = Alarm()
        self._on_lost = on_lost

    @property
    def address(self) -> int:
        """The TAOS as libtaos takes it."""
        return self.handle.address

    def stop_queries(self) -> None:
        """Stop what runs on it, where libtaos can; not after it was lost."""
        can_stop = self.taosc.has("taos_kill_query") and self.lost is None
        if can_stop and self.handle.hold():
            if self.library.stands(self.address):
                self.taosc.taos_kill_query(self.address)
            self.handle.release()

    def refusal(
        self, failure: Failure, req_id: int, sql: str | None, may_have_run: bool | None = None
    ) -> Error:
        """The error for a failure of libtaos; when that says so, the connection is lost with it."""
        code, message = failure
        error = server_error(code, message, req_id=req_id, sql=sql, endpoint=self.endpoint)
        if code not in LOST:
            return error
        if not self.ended:
            self._on_lost(error)
        return self.lost_error(req_id, sql, may_have_run) if self.lost is not None else error

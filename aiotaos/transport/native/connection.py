"""A connection of libtaos as all of its users see it: whether it stands, and what errors mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from ...errors import ConnectionLost, Error, InterfaceError, server_error
from ..retry import SESSION_GONE
from .bridge import Bridge
from .calls import Failure, Library
from .handles import Handle

LOST = SESSION_GONE | {0x000B, 0x0018, 0x0021, 0x0023}
"""Codes that say that the connection is gone; the latter: it cannot be established, it broke (to
the node that was asked, or to another), the network failed. See ``TSDB_CODE_RPC_…`` in
``include/util/taoserror.h`` of TDengine 3.3.7."""

EndOfCall: TypeAlias = Callable[[int, str | None, bool | None], Error]
"""Makes the error of a call that the end cuts off: of its req_id, SQL and ``may_have_run``."""


class Connection:
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
        endpoint: The server.
        is_closed: Whether it was closed by this side.
        lost: Why it was lost; None if it was not.
    """

    def __init__(
        self,
        handle: Handle,
        library: Library,
        bridge: Bridge,
        endpoint: str,
        on_lost: Callable[[Exception], None],
    ) -> None:
        self.handle = handle
        self.library = library
        self.taosc = library.taosc
        self.bridge = bridge
        self.endpoint = endpoint
        self.is_closed = False
        self.lost: Exception | None = None
        self._on_lost = on_lost

    @property
    def address(self) -> int:
        """The TAOS as libtaos takes it."""
        return self.handle.address

    @property
    def ended(self) -> bool:
        """Whether it is closed or lost."""
        return self.is_closed or self.lost is not None

    def check_open(self, req_id: int, sql: str | None, *, has_run: bool = False) -> None:
        """Check that it stands.

        Raises:
            InterfaceError: It was closed.
            ConnectionLost: It was lost.
        """
        if self.is_closed:
            raise InterfaceError("the connection is closed", req_id=req_id, sql=sql)
        if self.lost is not None:
            moment = "before its rows were read" if has_run else "before the call"
            raise ConnectionLost(
                f"the connection was lost {moment}: {self.lost}",
                req_id=req_id,
                sql=sql,
                endpoint=self.endpoint,
                may_have_run=None if has_run else False,
            ) from self.lost

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

    def closed_error(self, req_id: int, sql: str | None, may_have_run: bool | None) -> Error:
        """The error of a call during which it is closed."""
        return InterfaceError(
            "the connection was closed during the call",
            req_id=req_id,
            sql=sql,
            endpoint=self.endpoint,
            may_have_run=may_have_run,
        )

    def lost_error(self, req_id: int, sql: str | None, may_have_run: bool | None) -> Error:
        """The error of a call during which it is lost."""
        error = ConnectionLost(
            f"the connection was lost during the call: {self.lost}",
            req_id=req_id,
            sql=sql,
            endpoint=self.endpoint,
            may_have_run=may_have_run,
        )
        error.__cause__ = self.lost
        return error

"""Whether a session stands, and the errors of its end: the same over WebSocket and libtaos."""

from __future__ import annotations

from ..errors import ConnectionLost, InterfaceError


class Standing:
    """A session that stands, is closed or lost.

    Args:
        endpoint: The server, for errors.

    Attributes:
        endpoint: The server.
        is_closed: Whether it was closed by this side.
        lost: Why it was lost; None if it was not.
    """

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.is_closed = False
        self.lost: Exception | None = None

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

    def closed_error(
        self, req_id: int, sql: str | None, may_have_run: bool | None
    ) -> InterfaceError:
        """The error of a call during which it is closed."""
        return InterfaceError(
            "the connection was closed during the call",
            req_id=req_id,
            sql=sql,
            endpoint=self.endpoint,
            may_have_run=may_have_run,
        )

    def lost_error(self, req_id: int, sql: str | None, may_have_run: bool | None) -> ConnectionLost:
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

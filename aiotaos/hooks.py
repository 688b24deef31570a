"""What happens inside, for whoever wants to watch it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from .errors import InterfaceError

T = TypeVar("T")

_logger = logging.getLogger("aiotaos.hooks")


@dataclass(slots=True)
class Query:
    """A statement on its way, as :class:`Hooks` see it.

    Attributes:
        sql: The statement, whole; it may hold values that are not for logs.
        operation: Its first word in capitals; ``SCHEMALESS`` for lines.
        parameters: Number of ``?`` that were given a value; None for bulk writing.
        req_id: Identifier of the request, also in the server's log.
        endpoint: ``scheme://host:port`` of the server, at the end that which answered.
        database: The current database.
        started: When it began, on the event loop's clock.
        attempts: How often it was tried, known at the end.
        seconds: Time it took on this side, until the result stood; None before the end.
        server_seconds: Time it took the server; None if the server did not tell.
        rows: Number of rows written; None before the end, and for queries.
        context: For the hooks' own use.
    """

    sql: str
    operation: str
    parameters: int | None
    req_id: int
    endpoint: str
    database: str | None
    started: float
    attempts: int = 1
    seconds: float | None = None
    server_seconds: float | None = None
    rows: int | None = None
    context: Any = None


class Hooks:
    """Called before and after each statement; override what is of interest.

    They are plain functions, called in the event loop: they must not block. What they raise is
    logged (``aiotaos.hooks``) and does no harm to the statement.
    """

    def query_start(self, query: Query) -> None:
        """A statement is about to be sent."""

    def query_end(self, query: Query) -> None:
        """Its result stands: rows are written, or can be read."""

    def query_error(self, query: Query, error: BaseException) -> None:
        """It failed, timed out or was cancelled."""


def check_hooks(hooks: object) -> None:
    """Check what is given as hooks.

    Raises:
        InterfaceError: They are not.
    """
    if hooks is not None and not isinstance(hooks, Hooks):
        raise InterfaceError(
            f"hooks: expected an instance of a subclass of aiotaos.Hooks, got {hooks!r}"
        )


async def observed(hooks: Hooks, query: Query, operation: Callable[[], Awaitable[T]]) -> T:
    """Run an operation between the calls of its hooks."""
    _call(hooks.query_start, query)
    try:
        value = await operation()
    except BaseException as error:
        query.seconds = asyncio.get_running_loop().time() - query.started
        _call(hooks.query_error, query, error)
        raise
    query.seconds = asyncio.get_running_loop().time() - query.started
    _call(hooks.query_end, query)
    return value


def _call(hook: Callable[..., None], *arguments: object) -> None:
    try:
        hook(*arguments)
    except Exception:
        _logger.exception("%s failed", getattr(hook, "__qualname__", hook))

"""What every road to a server offers to the rest of the package."""

from __future__ import annotations

import asyncio
import itertools
import math
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..errors import NotSupportedError
from ..home import after_fork
from ..options import Address
from ..protocol.bind import Binding
from ..protocol.block import Block
from ..protocol.messages import InsertArgs
from ..types import Field, Precision, StatementField

RUNS_LONG = 2.0
"""Seconds after which a query that is given up is stopped on the server, with ``cancel="auto"``."""


class _ReqIds:
    """Request ids: positive, below 2**63, unlikely to be used by another process."""

    def __init__(self) -> None:
        self.seed()
        after_fork(self.seed)

    def seed(self) -> None:
        """Begin anew; a fork would go on with the numbers of its parent."""
        self._process = secrets.randbits(31) << 32
        self._counter = itertools.count(secrets.randbits(16) + 1)

    def next(self) -> int:
        """Another one."""
        return self._process | (next(self._counter) & 0xFFFF_FFFF)


next_req_id = _ReqIds().next
"""Make a request id."""


def parsed_version(text: str) -> tuple[int, ...]:
    """The first four numbers of a version such as ``3.3.7.5.alpha``."""
    numbers = [int(number) for number in re.findall(r"(?:^|[.-])(\d+)", text)]
    return tuple([*numbers, 0, 0, 0, 0][:4])


class Deadline:
    """The end of a wait; one for the whole of an operation.

    Attributes:
        seconds: How long the operation may take.
        started: Its beginning as a time of the event loop's clock.
        when: The end as a time of the event loop's clock; None for no end.
    """

    __slots__ = ("seconds", "started", "when")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.started = asyncio.get_running_loop().time()
        self.when = None if math.isinf(seconds) else self.started + seconds

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return asyncio.get_running_loop().time() - self.started

    @property
    def remaining(self) -> float:
        """Seconds left, at least 0."""
        if self.when is None:
            return math.inf
        return max(self.when - asyncio.get_running_loop().time(), 0.0)

    def sooner(self, seconds: float) -> Deadline:
        """This deadline, or one ``seconds`` from now, whichever comes first."""
        return Deadline(seconds) if seconds < self.remaining else self


@dataclass(slots=True)
class ServerStatement:
    """A prepared statement on the server.

    Attributes:
        id: The server's id.
        version: 2 for stmt2, 1 for stmt v1.
        sql: The statement.
        is_insert: Whether it writes; otherwise it is a query.
        fields: The parameters of an INSERT.
        parameter_count: Number of ``?`` of a query.
        raw_decimals: Whether DECIMALs are bound as in blocks, and not as text.
        closed: Whether the server has it no more.
    """

    id: int
    version: int
    sql: str
    is_insert: bool = False
    fields: tuple[StatementField, ...] = ()
    parameter_count: int = 0
    raw_decimals: bool = False
    closed: bool = False


@dataclass(slots=True)
class ServerResult:
    """What the server said of a statement, and where its rows stand.

    Attributes:
        transport: The session that has it.
        id: The server's id of the result; 0 for statements without rows.
        req_id: Identifier of the request.
        sql: The statement.
        is_update: Whether the statement returns no rows.
        affected_rows: Number of rows written.
        fields: The columns.
        precision: Unit of the TIMESTAMPs.
        timing: Time the server took for the statement, ns.
        finished: Whether there is nothing on the server any more: all rows came, or it is freed.
        given_up: Whether it was freed before its end.
        ahead: The transport's: the fetch that is under way.
        statement: The prepared statement that it is the result of; when the result is given up
            before its end, the statement is closed with it.
        owns_statement: Whether the statement is closed at the end as well.
    """

    transport: Transport = field(repr=False)
    id: int
    req_id: int
    sql: str
    is_update: bool
    affected_rows: int
    fields: tuple[Field, ...]
    precision: Precision
    timing: int
    finished: bool = False
    given_up: bool = False
    ahead: Any = field(default=None, repr=False)
    statement: ServerStatement | None = None
    owns_statement: bool = False


def written_result(transport: Transport, rows: int, req_id: int, sql: str) -> ServerResult:
    """The result of an INSERT that was bound, and is done."""
    return ServerResult(
        transport, 0, req_id, sql, True, rows, (), Precision.MILLISECOND, timing=0, finished=True
    )


def not_over_rest(what: str, remedy: str = "") -> NotSupportedError:
    """The error for what REST cannot do."""
    remedy = f"{remedy} connect over WebSocket, with ws://".strip()
    return NotSupportedError(f"{what} cannot be had over REST; {remedy}")


class Transport(Protocol):
    """A session with a server, over one of the roads."""

    @property
    def address(self) -> Address:
        """The server."""

    @property
    def endpoint(self) -> str:
        """``scheme://host:port``."""

    @property
    def server_version(self) -> str:
        """Version that the server told, as ``3.3.7.5``; empty if it told none."""

    @property
    def instances(self) -> Sequence[str]:
        """The servers of the cluster, as far as the server told them."""

    @property
    def closed(self) -> bool:
        """Whether the session is closed or lost."""

    async def query(self, sql: str, req_id: int, deadline: Deadline) -> ServerResult:
        """Run one statement."""

    def still_running(self, req_id: int) -> Callable[[], bool]:
        """Whether a request of now is without its answer, to be asked later on."""

    def is_fetching(self, result: ServerResult) -> bool:
        """Whether a block of a result is asked for and has not come."""

    async def set_timezone(self, name: str | None, req_id: int, deadline: Deadline) -> None:
        """Set the time zone of the session; None: the server's."""

    async def current_database(self, deadline: Deadline) -> str | None:
        """Ask the server for the session's database."""

    def request_block(self, result: ServerResult) -> None:
        """Ask for the next block without waiting; does nothing if it has been asked for."""

    async def next_block(self, result: ServerResult, deadline: Deadline) -> Block | None:
        """The next block of a result, None after the last one. One call at a time per result.

        When it is cancelled or fails, the result is freed.
        """

    def free(self, result: ServerResult) -> None:
        """Give a result up; the server drops it. Harmless when it is finished."""

    async def prepare(self, sql: str, deadline: Deadline, req_id: int) -> ServerStatement:
        """Prepare an INSERT or a query.

        ``req_id`` is what TDengine lists the statement's first execution under. When one of its
        steps fails or is cancelled, a statement is closed.
        """

    async def bind(self, statement: ServerStatement, binding: Binding, deadline: Deadline) -> None:
        """Send rows, or the parameters of a query."""

    async def execute_statement(
        self, statement: ServerStatement, req_id: int, deadline: Deadline
    ) -> int:
        """Execute what is bound; gives the number of rows written."""

    async def statement_result(
        self, statement: ServerStatement, req_id: int, deadline: Deadline
    ) -> ServerResult:
        """The result of an executed query."""

    def close_statement(self, statement: ServerStatement) -> None:
        """Let the server drop a statement. Harmless when it is closed."""

    async def schemaless_insert(self, arguments: InsertArgs, deadline: Deadline) -> int:
        """Write lines; gives the number of rows written."""

    async def close(self, timeout: float) -> None:
        """End the session in an orderly manner, within ``timeout`` seconds."""

    def terminate(self) -> None:
        """End the session at once."""

    def drop(self, reason: Exception) -> None:
        """End the session at once, as if it had been lost for ``reason``."""

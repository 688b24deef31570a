"""One statement on its way: run, repeated where that is safe, stopped when nobody waits for it."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Awaitable, Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

from .binding import Shape
from .errors import Error, ProgrammingError
from .hooks import Hooks, Query, observed
from .options import Road
from .prepared import Handle
from .protocol.bind import Binding
from .protocol.messages import InsertArgs
from .protocol.sql import check_count, first_word, placeholders, reads, render
from .session import Session
from .transport.base import Deadline, ServerResult, Transport, written_result
from .transport.retry import Attempts

Check: TypeAlias = Callable[[], None]

_NOT_PREPARED = "stmt only support"
_NANOSECONDS = 1e9


class Run:
    """A statement with its parameters, to be run once and, if need be, again.

    Args:
        session: Where it runs.
        hooks: Who watches.
        sql: The statement.
        params: A value for each ``?``.
        req_id: Identifier of the request.
        deadline: The end of the call.
        check: Raises if the connection cannot be used any more.
        handle: The prepared statement that is run, if there is one.
    """

    __slots__ = (
        "_attempts", "_deadline", "_handle", "_hooks", "_params", "_req_id", "_session", "_sql",
        "_word",
    )  # fmt: skip

    def __init__(
        self,
        session: Session,
        hooks: Hooks | None,
        sql: str,
        params: Sequence[Any],
        req_id: int,
        deadline: Deadline,
        check: Check,
        handle: Handle | None = None,
    ) -> None:
        self._session = session
        self._hooks = hooks
        self._sql = sql
        self._params = params
        self._req_id = req_id
        self._deadline = deadline
        self._handle = handle
        self._word = first_word(sql)
        safe = reads(sql) or self._word == "use" or session.options.retry_writes
        self._attempts = attempts_at(session, deadline, check, safe=safe)

    async def start(self) -> ServerResult:
        """Run the statement."""
        if self._hooks is None:
            return await self._run()
        query = _query(self._session, self._sql, len(self._params), self._req_id)

        async def run() -> ServerResult:
            try:
                result = await self._run()
            finally:
                query.attempts = self._attempts.count
                query.endpoint = self._session.transport.endpoint
            query.server_seconds = result.timing / _NANOSECONDS if result.timing else None
            query.rows = result.affected_rows if result.is_update else None
            return result

        return await observed(self._hooks, query, run)

    async def again(self, error: Error, deadline: Deadline) -> ServerResult:
        """Run it once more, because its first block could not be had.

        Raises:
            Error: ``error`` itself, if it is not to be repeated.
        """
        if not reads(self._sql):
            raise error
        self._deadline = self._attempts.deadline = deadline
        await self._attempts.pause(error)
        return await self._run()

    def left(self, result: ServerResult, deadline: Deadline) -> None:
        """Nobody waits for the next block of the result any more."""
        transport = result.transport
        self._session.stop(self._req_id, deadline.elapsed, lambda: transport.is_fetching(result))

    async def _run(self) -> ServerResult:
        try:
            return await self._session.run(self._once, self._attempts)
        except (asyncio.CancelledError, builtins.TimeoutError):
            if reads(self._sql):
                running = self._session.transport.still_running(self._req_id)
                self._session.stop(self._req_id, self._deadline.elapsed, running)
            raise

    async def _once(self, transport: Transport) -> ServerResult:
        if self._handle is not None:
            return await self._handle.query(self._params, self._req_id, self._deadline)
        sql = self._sql
        if self._params and not self._session.options.road.binds:
            sql = render(sql, self._params)
        elif self._params:
            # libtaos cannot stop a prepared query, and 3.3.7 may crash when one is given up.
            can_prepare = self._session.options.road is not Road.NATIVE
            if (
                can_prepare
                and self._word == "select"
                and not any(isinstance(v, Decimal) for v in self._params)
            ):
                prepared = await self._query_prepared()
                if prepared is not None:
                    return prepared
            if self._word == "insert":
                return await self._insert(transport)
            sql = render(sql, self._params)
        if self._word != "use":
            return await transport.query(sql, self._req_id, self._deadline)
        return await self._session.use(transport, sql, self._req_id, self._deadline)

    async def _query_prepared(self) -> ServerResult | None:
        """Run a query that is prepared for this once; None if it cannot be prepared.

        A DECIMAL cannot be bound, and some queries are refused by the server's prepare though it
        runs them. A prepared query does not notice that its table was made anew.
        """
        handle = Handle(self._session, self._sql)
        try:
            result = await handle.query(self._params, self._req_id, self._deadline)
        except BaseException as error:
            handle.close()
            if isinstance(error, ProgrammingError) and _NOT_PREPARED in error.message:
                return None
            raise
        result.owns_statement = True
        return result

    async def _insert(self, transport: Transport) -> ServerResult:
        sql, params = self._sql, self._params
        check_count(len(placeholders(sql)), params)
        rows = await _write_bound(
            self._session,
            transport,
            sql,
            lambda shape: shape.bind_rows([params]),
            self._req_id,
            self._attempts,
        )
        return written_result(transport, rows, self._req_id, sql)


async def write(
    session: Session,
    hooks: Hooks | None,
    sql: str,
    make: Callable[[Shape], Iterable[Binding]],
    req_id: int,
    attempts: Attempts,
    turn: Callable[[], Awaitable[None]] | None = None,
    *,
    in_thread: bool = False,
) -> int:
    """Run a prepared INSERT for the rows that ``make`` gives; the number of rows written.

    The rows are encoded and sent, then ``turn`` is awaited, then they are executed. What takes
    long to encode is done in a worker thread, so that the loop can go on meanwhile.
    """

    def once(transport: Transport) -> Awaitable[int]:
        return _write_bound(session, transport, sql, make, req_id, attempts, turn, in_thread)

    def run() -> Awaitable[int]:
        return session.run(once, attempts)

    return await _written(session, hooks, sql, req_id, run, attempts)


async def write_lines(
    session: Session, hooks: Hooks | None, arguments: InsertArgs, attempts: Attempts
) -> int:
    """Write schemaless lines; the number of rows written."""

    def once(transport: Transport) -> Awaitable[int]:
        return transport.schemaless_insert(arguments, attempts.deadline)

    def run() -> Awaitable[int]:
        return session.run(once, attempts)

    return await _written(session, hooks, "", arguments.req_id, run, attempts, "SCHEMALESS")


async def execute_bound(
    session: Session, hooks: Hooks | None, handle: Handle, req_id: int, deadline: Deadline
) -> int:
    """Write what is bound to a prepared INSERT; the number of rows written."""
    return await _written(
        session, hooks, handle.sql, req_id, lambda: handle.execute(req_id, deadline)
    )


async def _written(
    session: Session,
    hooks: Hooks | None,
    sql: str,
    req_id: int,
    run: Callable[[], Awaitable[int]],
    attempts: Attempts | None = None,
    operation: str = "",
) -> int:
    """Run what writes rows, between the calls of the hooks."""
    if hooks is None:
        return await run()
    query = _query(session, sql, None, req_id, operation)

    async def noted() -> int:
        try:
            query.rows = rows = await run()
        finally:
            query.attempts = 1 if attempts is None else attempts.count
            query.endpoint = session.transport.endpoint
        return rows

    return await observed(hooks, query, noted)


async def _write_bound(
    session: Session,
    transport: Transport,
    sql: str,
    make: Callable[[Shape], Iterable[Binding]],
    req_id: int,
    attempts: Attempts,
    turn: Callable[[], Awaitable[None]] | None = None,
    in_thread: bool = False,
) -> int:
    deadline = attempts.deadline

    async def use(handle: Handle) -> int:
        await handle.prepared(deadline)
        if in_thread:
            from anyio import to_thread

            bindings = await to_thread.run_sync(make, handle.shape)
        else:
            bindings = make(handle.shape)
        try:
            if not await handle.bind(bindings, deadline):
                return 0
            if turn is not None:
                await turn()
                attempts.deadline = Deadline(deadline.seconds)
            return await handle.execute(req_id, attempts.deadline)
        except BaseException:
            handle.close()  # what is bound must not be written by the next use
            raise

    if not session.database_is_sure:  # a USE was cancelled
        await session.ask_database(transport, deadline)
    return await session.prepared.use(session.database, sql, use)


def attempts_at(session: Session, deadline: Deadline, check: Check, *, safe: bool) -> Attempts:
    """The attempts at a statement, which ends with the database and time zone that it began in.

    Args:
        session: Where it runs.
        deadline: The end of the call.
        check: Raises if the connection cannot be used any more.
        safe: Whether it may be run twice.
    """
    state = session.state_of_names

    def may_go_on(error: Error) -> None:
        check()
        if session.state_of_names != state:
            raise error

    return Attempts(session.options, deadline, safe=safe, check=may_go_on)


def _query(
    session: Session, sql: str, parameters: int | None, req_id: int, operation: str = ""
) -> Query:
    return Query(
        sql=sql,
        operation=operation or first_word(sql).upper(),
        parameters=parameters,
        req_id=req_id,
        endpoint=session.transport.endpoint,
        database=session.database,
        started=asyncio.get_running_loop().time(),
    )

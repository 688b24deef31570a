"""Prepared statements of a session over libtaos: stmt2, and stmt v1 where there is no stmt2.

What waits runs on a thread. A statement whose step failed, timed out or was cancelled is closed,
because it cannot be known in which state it is: at once, or when the step has ended.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TypeVar

from ...errors import InterfaceError, StatementError
from ...protocol.bind import Binding
from ...protocol.sql import without_leading_comments
from ..base import Deadline, ServerResult, ServerStatement, next_req_id
from .connection import Connection
from .handles import Handle
from .statement_calls import Description, Statement1, Statement2, StatementCalls, has_stmt2
from .steps import Step, Steps

T = TypeVar("T")


class NativeStatements:
    """The prepared statements of one session.

    Args:
        connection: The session's connection.
        steps: What runs on threads for the session.
        open_result: Makes the result of a handle, the id of its request, and its SQL.
    """

    def __init__(
        self,
        connection: Connection,
        steps: Steps,
        open_result: Callable[[Handle, int, str], ServerResult],
    ) -> None:
        self._connection = connection
        self._steps = steps
        self._open_result = open_result
        self._kind = Statement2 if has_stmt2(connection.library) else Statement1
        self._numbers = itertools.count(1)
        self._open: dict[int, StatementCalls] = {}
        self._busy: set[int] = set()

    def __len__(self) -> int:
        return len(self._open)

    def end(self) -> Callable[[], None]:
        """All are closed now; gives what does it, to be called on a thread."""
        handles = [calls.handle for calls in self._open.values()]
        self._open.clear()

        def free() -> None:
            for handle in handles:
                handle.close()

        return free

    async def prepare(self, sql: str, deadline: Deadline, req_id: int) -> ServerStatement:
        """Prepare a statement; see :meth:`aiotaos.transport.base.Transport.prepare`.

        Raises:
            InterfaceError: The statement cannot be sent.
            Error: As :meth:`.Steps.run`.
        """
        sql = without_leading_comments(sql)
        try:
            data = sql.encode()
        except UnicodeError as error:
            raise InterfaceError(f"sql: it cannot be sent as UTF-8: {error}") from error
        if b"\0" in data:
            raise InterfaceError("sql: it has a NUL character, which would end it", sql=sql)
        library, connection = self._connection.library, self._connection.handle

        def prepare(_: Step) -> tuple[StatementCalls, Description]:
            calls = self._kind(library, connection, req_id)
            try:
                return calls, calls.prepare(sql)
            except BaseException:
                calls.handle.close()
                raise

        calls, described = await self._steps.run(
            req_id, sql, prepare, deadline, late=lambda made: made[0].handle.close()
        )
        number = next(self._numbers)
        self._open[number] = calls
        return ServerStatement(number, calls.version, sql, *described)

    async def bind(self, statement: ServerStatement, binding: Binding, deadline: Deadline) -> None:
        """Bind rows; see :meth:`aiotaos.transport.base.Transport.bind`."""
        calls = self._present(statement)
        await self._step(statement, calls, next_req_id(), lambda _: calls.bind(binding), deadline)

    async def execute(self, statement: ServerStatement, req_id: int, deadline: Deadline) -> int:
        """Execute; see :meth:`aiotaos.transport.base.Transport.execute_statement`."""
        calls = self._present(statement)
        return await self._step(
            statement,
            calls,
            req_id,
            calls.execute,
            deadline,
            executes=True,
            receive=calls.receive if calls.calls_back else None,
        )

    def result(self, statement: ServerStatement, req_id: int) -> ServerResult:
        """The result of an executed query; it is there already.

        Raises:
            StatementError: There is none, or the statement is closed.
            Error: It cannot be read; then the statement is closed.
        """
        calls = self._present(statement)
        try:
            self._connection.check_open(req_id, statement.sql, has_run=True)
            address, calls.result = calls.result, None
            if address is None or not calls.handle.hold():
                raise StatementError("it has no result", req_id=req_id, sql=statement.sql)
            handle = Handle(address, self._letting_go(calls))
            try:
                result = self._open_result(handle, req_id, statement.sql)
            except BaseException:
                self._connection.bridge.soon(handle.close)
                raise
            result.statement = statement
            return result
        except BaseException:
            self.close(statement)
            raise

    def close(self, statement: ServerStatement) -> None:
        """Close a statement, once what it does has ended; harmless when it is closed."""
        if statement.closed:
            return
        statement.closed = True
        calls = self._open.pop(statement.id, None)
        if calls is not None:
            self._connection.bridge.soon(calls.handle.close)

    def _letting_go(self, calls: StatementCalls) -> Callable[[int], None]:
        """What destroys a result: with its last user, the statement may be closed."""

        def let_go(address: int) -> None:
            calls.free_result(address)
            # Not here: this may be a callback of the result.
            self._connection.bridge.soon(calls.handle.release)

        return let_go

    async def _step(
        self,
        statement: ServerStatement,
        calls: StatementCalls,
        req_id: int,
        work: Callable[[Step], T],
        deadline: Deadline,
        *,
        executes: bool = False,
        receive: Callable[[int | None, int], T] | None = None,
    ) -> T:
        self._busy.add(statement.id)
        try:
            return await self._steps.run(
                req_id,
                statement.sql,
                work,
                deadline,
                handle=calls.handle,
                executes=executes,
                receive=receive,
            )
        except BaseException:
            self.close(statement)
            raise
        finally:
            self._busy.discard(statement.id)

    def _present(self, statement: ServerStatement) -> StatementCalls:
        calls = self._open.get(statement.id)
        if statement.closed or calls is None:
            self._connection.check_open(0, statement.sql)
            raise StatementError("the statement is closed", sql=statement.sql)
        if statement.id in self._busy:
            raise InterfaceError("another task is using this statement", sql=statement.sql)
        return calls

"""What runs at the moment, and how it is stopped."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb

from .columns import BIGINT, BOOL, INT, TIMESTAMP, UBIGINT, UINT, SqlType, text
from .faults import Fault, query_killed

COLUMNS: tuple[tuple[str, SqlType], ...] = (
    ("kill_id", text(26)),
    ("query_id", UBIGINT),
    ("conn_id", UINT),
    ("app", text(24)),
    ("pid", INT),
    ("user", text(24)),
    ("end_point", text(22)),
    ("create_time", TIMESTAMP),
    ("exec_usec", BIGINT),
    ("stable_query", BOOL),
    ("sub_query", BOOL),
    ("sub_num", INT),
    ("sub_status", text(1000)),
    ("sql", text(2048)),
    ("user_app", text(24)),
    ("user_ip", text(22)),
)
"""The columns of ``performance_schema.perf_queries``."""

_APP = "aiotaos.embedded"
_PATIENCE = 1.0  # seconds that KILL waits for the end
_INTERVAL = 0.002


@dataclass(frozen=True, slots=True)
class Client:
    """Who sends statements; 0 stands for all that have no session.

    Attributes:
        app: What it calls itself.
        ip: Where it says that it is.
        end_point: Where its requests come from.
    """

    number: int = 0
    user: str = ""
    app: str = ""
    ip: str = ""
    end_point: str = ""


class Run:
    """A statement from its beginning to its end, which is that of its result if it has one.

    Attributes:
        is_held: It has a result, and goes on until :meth:`end`.
    """

    __slots__ = (
        "_began", "_client", "_created", "_cursor", "_is_busy", "_is_killed", "_listed", "_lock",
        "_req_id", "_sql", "is_held", "kill_id",
    )  # fmt: skip

    def __init__(
        self, listed: dict[str, Run], number: int, sql: str, client: Client, req_id: int
    ) -> None:
        self.kill_id = f"{client.number:x}:{number:x}"
        self.is_held = False
        self._listed = listed
        self._sql = sql
        self._client = client
        self._req_id = req_id
        self._created = time.time_ns()
        self._began = time.perf_counter_ns()
        self._is_busy = self._is_killed = False
        self._cursor: duckdb.DuckDBPyConnection | None = None
        self._lock = threading.Lock()
        listed[self.kill_id] = self

    @contextmanager
    def step(self) -> Iterator[None]:
        """Work on it.

        Raises:
            Fault: It was killed.
        """
        self._is_busy = True
        try:
            if self._is_killed:
                raise query_killed()
            yield
        finally:
            self._is_busy = False

    @contextmanager
    def using(self, cursor: duckdb.DuckDBPyConnection) -> Iterator[None]:
        """Let KILL interrupt a cursor inside of this.

        Raises:
            Fault: It was killed.
        """
        with self._lock:
            if self._is_killed:
                raise query_killed()
            self._cursor = cursor
        try:
            yield
        finally:
            with self._lock:
                self._cursor = None

    def end(self) -> None:
        """Strike it out; may be called again."""
        self._listed.pop(self.kill_id, None)

    def kill(self) -> None:
        """Stop it, and wait a moment for its end.

        DuckDB forgets an interrupt that comes just before a statement begins, so one is not enough.
        """
        self._is_killed = True
        limit = time.monotonic() + _PATIENCE
        while self._is_busy and time.monotonic() < limit:
            with self._lock:
                if self._cursor is not None:
                    self._cursor.interrupt()
            time.sleep(_INTERVAL)
        if not self._is_busy:
            self.end()

    def row(self) -> Sequence[object]:
        """What perf_queries tells of it."""
        client = self._client
        values: tuple[object, ...] = (
            self.kill_id,
            self._req_id & 0xFFFF_FFFF_FFFF_FFFF,
            client.number,
            _APP,
            os.getpid(),
            client.user,
            client.end_point,
            self._created // 1_000_000,
            (time.perf_counter_ns() - self._began) // 1000,
            False,
            False,
            0,
            "",
            self._sql,
            client.app,
            client.ip,
        )
        return [
            _cut(value, type.length) if isinstance(value, str) else value
            for value, (_, type) in zip(values, COLUMNS, strict=True)
        ]


class Runs:
    """All that run, and the clients that are there; any number of threads may use it."""

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}
        self._numbers = itertools.count(1)
        self._clients = {"0"}
        self._client_numbers = itertools.count(1)

    def join(self, user: str, app: str, ip: str, end_point: str) -> Client:
        """Enter a client, who is to :meth:`leave`."""
        client = Client(next(self._client_numbers), user, app, ip, end_point)
        self._clients.add(f"{client.number:x}")
        return client

    def leave(self, client: Client) -> None:
        """Strike out a client."""
        if client.number:
            self._clients.discard(f"{client.number:x}")

    @contextmanager
    def running(self, sql: str, client: Client, req_id: int) -> Iterator[Run]:
        """List a statement while it runs."""
        run = Run(self._runs, next(self._numbers), sql, client, req_id)
        try:
            with run.step():
                yield run
        finally:
            if not run.is_held:
                run.end()

    def kill(self, kill_id: str) -> None:
        """Stop a statement; for one that has ended this does nothing.

        Raises:
            Fault: The id is none, or names a client that is not there.
        """
        client, colon, _ = kill_id.partition(":")
        if not colon:
            raise Fault(0x030C, "Invalid query id")
        run = self._runs.get(kill_id)
        if run is not None:
            run.kill()
        elif client not in self._clients:
            raise Fault(0x030E, "Invalid connection id")

    def rows(self, asking: Run) -> list[Sequence[object]]:
        """What runs, but for the statement that asks."""
        return [run.row() for run in list(self._runs.values()) if run is not asking]


def _cut(value: str, length: int) -> str:
    return value.encode("utf-8", "replace")[:length].decode("utf-8", "ignore")

"""The writer, on the embedded server, with something between them that holds, refuses and cuts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from websockets.asyncio.client import connect as ws_connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

import aiotaos
from aiotaos import (
    DataError,
    InterfaceError,
    OperationalError,
    StatementError,
    WriteError,
    writer,
)
from aiotaos.embedded import Server

T = 1_700_000_000_000
FAR = 10**18  # no database keeps this time: the server refuses it


@dataclass
class Row:
    name: str
    g: int
    ts: int
    v: int


class Proxy:
    """Stands between a client and the server, and does with executions what a test tells it.

    Attributes:
        asked: Executions that clients asked for.
        answered: Executions that clients have an answer to.
        refusals: Codes with which the next executions are refused.
        cut: Number of the execution at which the line is cut, once, and whether the server still
            has it.
    """

    def __init__(self, upstream: int) -> None:
        self._upstream = f"ws://127.0.0.1:{upstream}/ws"
        self._open = asyncio.Event()
        self._open.set()
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.asked = self.answered = 0
        self.refusals: list[int] = []
        self.cut: tuple[int, bool] | None = None

    def hold(self) -> None:
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(condition)

    async def _count(self, **more: int) -> None:
        async with self._changed:
            self.asked += more.get("asked", 0)
            self.answered += more.get("answered", 0)
            self._changed.notify_all()

    async def serve(self, client: Any) -> None:
        async with ws_connect(self._upstream, max_size=None, compression=None) as server:
            back = asyncio.create_task(self._back(server, client))
            with contextlib.suppress(ConnectionClosed):
                async for message in client:
                    if '"action":"stmt2_exec"' in str(message).replace(" ", ""):
                        task = asyncio.create_task(self._execute(message, server, client))
                        self._tasks.add(task)
                        task.add_done_callback(self._tasks.discard)
                    else:
                        await server.send(message)
            for task in (*self._tasks, back):
                task.cancel()
            await asyncio.gather(*self._tasks, back, return_exceptions=True)

    async def _back(self, server: Any, client: Any) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in server:
                is_execution = '"action":"stmt2_exec"' in str(message).replace(" ", "")
                if is_execution and self.cut is not None and self.answered >= self.cut[0]:
                    self.cut = None
                    client.transport.abort()
                    return
                await client.send(message)
                if is_execution:
                    await self._count(answered=1)

    async def _execute(self, message: str, server: Any, client: Any) -> None:
        await self._count(asked=1)
        await self._open.wait()
        if self.cut is not None and self.answered >= self.cut[0] and not self.cut[1]:
            self.cut = None
            client.transport.abort()
        elif self.refusals:
            code = self.refusals.pop(0)
            args = json.loads(message)["args"]
            reply = {"code": code, "message": "not now", "action": "stmt2_exec", **args}
            await client.send(json.dumps(reply))
            await self._count(answered=1)
        else:
            await server.send(message)


@pytest.fixture
async def upstream(clean):
    async with Server() as server:
        yield server


@pytest.fixture
async def proxy(upstream):
    proxy = Proxy(upstream.port)
    async with serve(
        proxy.serve, "127.0.0.1", 0, max_size=None, compression=None, ping_interval=None
    ) as server:
        proxy.port = server.sockets[0].getsockname()[1]
        yield proxy
        proxy.release()


@pytest.fixture
async def reader(upstream):
    """A connection of its own, that sees what is there."""
    dsn = f"ws://root:taosdata@127.0.0.1:{upstream.port}"
    async with aiotaos.connect(dsn, timestamp="int") as conn:
        await conn.execute("create database d")
        await conn.execute("use d")
        await conn.execute("create table m (ts timestamp, v int) tags (g int)")
        yield conn


@pytest.fixture
async def conn(reader, proxy):
    dsn = f"ws://root:taosdata@127.0.0.1:{proxy.port}/d?conn_retries=0"
    async with aiotaos.connect(dsn) as conn:
        yield conn


@pytest.fixture
def open_writer(conn, monkeypatch):
    """Makes writers that write by size, at a flush and at the end alone."""
    monkeypatch.setattr(writer, "_FIRST_DELAY", 0.001)

    def make(**options: Any) -> aiotaos.Writer:
        return conn.writer("m", **({"tbname": "name", "tags": ["g"], "max_delay": 600} | options))

    return make


def row(number: int, name: str = "a") -> Row:
    return Row(name, 1, T + number, number)


async def there(reader) -> list[int]:
    return [v for (v,) in await reader.fetch("select v from m order by v")]


def written_values(rows) -> list[int]:
    return [row.v for row in rows]


# Batches.


async def test_forms_of_rows(open_writer, reader):
    async with open_writer(columns=["name", "g", "ts", "v"]) as writer:
        await writer.write(row(1))
        await writer.write({"name": "b", "ts": T, "v": None, "g": 2})
        await writer.write(("a", 1, T + 2, 2))
        await writer.write_many([["a", 1, T + 3, 3], row(4, "c")])
        await writer.write_many(row(number) for number in (5, 6))
        await writer.write_many([])
    assert await reader.fetch("select tbname, g, ts, v from m order by tbname, ts") == [
        ("a", 1, T + 1, 1),
        ("a", 1, T + 2, 2),
        ("a", 1, T + 3, 3),
        ("a", 1, T + 5, 5),
        ("a", 1, T + 6, 6),
        ("b", 2, T, None),
        ("c", 1, T + 4, 4),
    ]


async def test_a_table_of_its_own(conn, reader):
    await reader.execute("create table t (ts timestamp, v int)")
    async with conn.writer("d.t") as writer:
        await writer.write((T, 1))
        await writer.write({"v": 2, "ts": T + 1})
    assert await reader.fetch("select * from t") == [(T, 1), (T + 1, 2)]


async def test_batches_by_size(open_writer, proxy, reader):
    async with open_writer(max_rows=3) as writer:
        for number in range(2):
            await writer.write(row(number))
        assert proxy.asked == 0
        for number in range(2, 7):
            await writer.write(row(number))
        await proxy.until(lambda: proxy.answered == 2)
        assert await there(reader) == [0, 1, 2, 3, 4, 5]
    assert proxy.answered == 3
    assert await there(reader) == [0, 1, 2, 3, 4, 5, 6]
    assert (writer.stats.rows, writer.stats.batches) == (7, 3)


async def test_many_rows_at_once_are_several_batches(open_writer, proxy, reader):
    async with open_writer(max_rows=10) as writer:
        await writer.write_many([row(number) for number in range(35)])
        await writer.flush()
        assert (writer.stats.rows, writer.stats.batches) == (35, 4)
    assert proxy.answered == 4
    assert await there(reader) == list(range(35))


async def test_batches_by_age(open_writer, proxy, reader):
    async with open_writer(max_delay=0.01) as writer:
        for number in range(3):
            await writer.write(row(number))
            await proxy.until(lambda number=number: proxy.answered == number + 1)
            assert await there(reader) == list(range(number + 1))
        assert writer.stats.batches >= 2


async def test_rows_of_a_sub_table_keep_their_order(open_writer, reader):
    async with open_writer(max_rows=4) as writer:
        for turn in range(30):
            for name in "abc":
                await writer.write(Row(name, 1, T, turn))
    assert await reader.fetch("select tbname, v from m order by tbname") == [
        ("a", 29),
        ("b", 29),
        ("c", 29),
    ]


async def test_many_tasks_at_once(open_writer, reader):
    async with open_writer(max_rows=7, max_pending=10) as writer:
        await asyncio.gather(
            *(writer.write(row(number, f"t{number % 3}")) for number in range(100))
        )
        assert writer.pending <= 10
    assert await there(reader) == list(range(100))


# Back-pressure.


async def test_back_pressure(open_writer, proxy, reader, server_parts):
    proxy.hold()
    async with open_writer(max_rows=2, max_pending=4) as writer:
        for number in range(4):
            await writer.write(row(number))
        await proxy.until(lambda: proxy.asked == 1)
        assert writer.pending == 4
        waiting = [asyncio.create_task(writer.write(row(number))) for number in (4, 5, 6)]
        await server_parts.turns(lambda: any(task.done() for task in waiting))
        assert [task.done() for task in waiting] == [False] * 3
        assert (writer.pending, proxy.asked) == (4, 1)
        proxy.release()
        await asyncio.gather(*waiting)
        assert writer.pending <= 4
    assert await there(reader) == list(range(7))


async def test_more_at_once_than_may_be_pending(open_writer, reader):
    async with open_writer(max_rows=100, max_pending=3) as writer:
        await writer.write_many([row(number) for number in range(9)])
        assert writer.pending == 9
        await writer.flush()
    assert await there(reader) == list(range(9))


async def test_a_write_that_is_cancelled_is_not_taken(open_writer, proxy, reader):
    proxy.hold()
    async with open_writer(max_rows=1, max_pending=2) as writer:
        await writer.write_many([row(0), row(1)])
        waiting = asyncio.create_task(writer.write(row(2)))
        await proxy.until(lambda: proxy.asked == 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        proxy.release()
        await writer.flush()
        await writer.write(row(3))
    assert await there(reader) == [0, 1, 3]
    assert writer.stats.rows == 3


# Flush and the end.


async def test_flush(open_writer, proxy, reader):
    async with open_writer() as writer:
        await writer.flush()
        assert proxy.asked == 0
        for number in range(3):
            await writer.write(row(number))
            await writer.flush()
            assert writer.pending == 0
            assert await there(reader) == list(range(number + 1))


async def test_flush_in_no_time(open_writer, proxy, reader):
    proxy.hold()
    async with open_writer() as writer:
        await writer.write_many([row(0), row(1)])
        with pytest.raises(aiotaos.TimeoutError) as caught:
            await writer.flush(timeout=0.01)
        assert str(caught.value) == "not flushed within 0.01 s: 2 rows are pending"
        with pytest.raises(InterfaceError, match="timeout: expected a positive number"):
            await writer.flush(timeout=0)
        flushing = asyncio.create_task(writer.flush())
        await proxy.until(lambda: proxy.asked == 1)
        flushing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await flushing
        proxy.release()
        await writer.flush()
        assert await there(reader) == [0, 1]


async def test_an_exception_in_the_block(open_writer, reader):
    async def block():
        async with open_writer() as writer:
            await writer.write(row(0))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await block()
    assert await there(reader) == [0]


async def test_an_exception_in_the_block_and_rows_that_cannot_be_written(open_writer):
    async def block():
        async with open_writer() as writer:
            await writer.write(Row("a", 1, FAR, 0))
            raise ZeroDivisionError

    with pytest.raises(WriteError) as caught:
        await block()
    assert written_values(caught.value.rows) == [0]
    assert isinstance(caught.value.__context__, ZeroDivisionError)


async def test_aclose(open_writer, reader):
    writer = open_writer()
    async with writer as same:
        assert same is writer
        await writer.write(row(0))
        await writer.aclose()
        assert await there(reader) == [0]
        await writer.aclose()
        with pytest.raises(InterfaceError, match=r"^the writer is closed$"):
            await writer.write(row(1))
        with pytest.raises(InterfaceError, match=r"^the writer is closed$"):
            await writer.flush()
    with pytest.raises(InterfaceError, match=r"^a writer is used once$"):
        await writer.__aenter__()


async def test_aclose_in_no_time(open_writer, proxy):
    proxy.hold()
    async with open_writer(max_rows=2) as writer:
        await writer.write_many([row(number) for number in range(5)])
        await proxy.until(lambda: proxy.asked == 1)
        with pytest.raises(WriteError) as caught:
            await writer.aclose(timeout=0.01)
    assert written_values(caught.value.rows) == [0, 1, 2, 3, 4]
    assert "the writer ended before 5 rows were acknowledged" in str(caught.value)
    assert (writer.stats.rows, writer.stats.failed, writer.pending) == (0, 5, 0)


async def test_what_is_reported_is_not_reported_again(open_writer, proxy, reports):
    proxy.hold()
    async with open_writer(on_error=reports) as writer:
        await writer.write_many([row(0), Row("a", 1, T, 2**31), row(1)])
        flushing = asyncio.create_task(writer.flush())
        await proxy.until(lambda: proxy.asked == 1)
        await writer.aclose(timeout=0.01)
        await flushing  # every row is reported
    assert reports.values == [0, 1, 2**31]
    assert writer.stats.failed == 3


async def test_aclose_that_is_cancelled(open_writer, proxy):
    """What is left is reported all the same."""
    proxy.hold()
    reported = []
    async with open_writer(max_rows=2, on_error=lambda rows, _: reported.extend(rows)) as writer:
        await writer.write_many([row(number) for number in range(3)])
        closing = asyncio.create_task(writer.aclose())
        await proxy.until(lambda: proxy.asked == 1)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert written_values(reported) == [0, 1, 2]
        assert writer.pending == 0


async def test_a_block_that_is_cancelled(open_writer, reader):
    """What is pending is still written."""
    entered = asyncio.Event()

    async def block():
        async with open_writer() as writer:
            await writer.write_many([row(0), row(1)])
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(block())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await there(reader) == [0, 1]


async def test_a_block_that_is_cancelled_and_cannot_be_written(open_writer, proxy, monkeypatch):
    monkeypatch.setattr(writer, "_CANCELLED", 0.01)
    proxy.hold()
    entered = asyncio.Event()

    async def block():
        async with open_writer() as writer:
            await writer.write_many([row(0), row(1)])
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(block())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    (note,) = caught.value.__notes__
    assert note.startswith("2 rows: not written: the writer ended before 2 rows")


# Rows that cannot be written.


class Reports:
    """What ``on_error`` is told."""

    def __init__(self) -> None:
        self.all: list[tuple[list[int], Exception]] = []

    def __call__(self, rows, error) -> None:
        self.all.append((written_values(rows), error))

    @property
    def values(self) -> list[int]:
        return sorted(value for values, _ in self.all for value in values)


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.mark.parametrize("kind", ["function", "coroutine function"])
async def test_a_value_that_does_not_fit(open_writer, reader, reports, kind):
    async def later(rows, error):
        await asyncio.sleep(0)
        reports(rows, error)

    on_error = reports if kind == "function" else later
    wrong = [Row("a", 1, T, 2**31), Row("", 1, T, 100), Row("b", "x", T, 200)]
    async with open_writer(on_error=on_error) as writer:
        await writer.write_many([row(0), wrong[0], row(1), wrong[1], row(2), wrong[2], row(3)])
        await writer.flush()
        stats = writer.stats
    assert sorted(reports.values) == [100, 200, 2**31]
    assert all(len(values) == 1 for values, _ in reports.all)
    assert {type(error) for _, error in reports.all} == {DataError}
    assert {error.column for _, error in reports.all} == {"v", "tbname", "g"}
    assert await there(reader) == [0, 1, 2, 3]
    assert (stats.rows, stats.batches, stats.failed, stats.retries) == (4, 1, 3, 0)


REFUSED = [[0], [3], [8], [15], [3, 4], [0, 15], [1, 6, 11], list(range(16))]


@pytest.mark.parametrize("refused", REFUSED, ids=str)
async def test_rows_that_the_server_refuses(open_writer, reader, reports, refused):
    """Those beside them are written."""
    async with open_writer(on_error=reports) as writer:
        for number in range(16):
            time = FAR if number in refused else T + number
            await writer.write(Row(f"t{number % 3}", 1, time, number))
    assert reports.values == refused
    assert {error.code for _, error in reports.all} == {0x060B}
    assert await there(reader) == [number for number in range(16) if number not in refused]
    stats = writer.stats
    assert (stats.rows, stats.failed, stats.pending) == (16 - len(refused), len(refused), 0)


@pytest.mark.parametrize("call", ["write", "flush", "aclose"])
async def test_the_next_call_raises(open_writer, reader, call):
    bad = {"name": "a", "g": 1, "ts": FAR, "v": 0}
    async with open_writer(max_rows=3) as writer:
        await writer.write_many([bad, row(1), row(2)])
        while writer.pending:
            await reader.fetchval("select 1")
        calls = {"write": lambda: writer.write(row(4)), "flush": writer.flush}
        with pytest.raises(WriteError) as caught:
            await calls.get(call, writer.aclose)()
        assert writer.pending == 0
    assert caught.value.rows == [bad]
    assert caught.value.rows[0] is bad
    assert caught.value.code == 0x060B
    assert isinstance(caught.value.__cause__, DataError)
    assert str(caught.value).startswith("1 rows: [0x060B] not written: ")
    assert await there(reader) == [1, 2]


@pytest.mark.parametrize("is_async", [False, True])
async def test_on_error_that_fails(open_writer, reader, is_async, caplog):
    """The rows are not lost: the next call raises them."""

    def fail(rows, error):
        raise ZeroDivisionError

    async def fail_later(rows, error):
        raise ZeroDivisionError

    with caplog.at_level("CRITICAL", "aiotaos.writer"):
        async with open_writer(on_error=fail_later if is_async else fail) as writer:
            await writer.write_many([Row("a", 1, FAR, 0), row(1)])
            with pytest.raises(WriteError) as caught:
                await writer.flush()
    assert written_values(caught.value.rows) == [0]
    assert await there(reader) == [1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"g": 1, "ts": T}, "row: it has no 'name': "),
        (5, "row: expected a mapping, a dataclass, a tuple or a list, got 5"),
        ("ab", "row: expected a mapping, a dataclass, a tuple or a list, got 'ab'"),
        (None, "row: expected a mapping, a dataclass, a tuple or a list, got None"),
    ],
)
async def test_what_is_no_row(open_writer, reader, wrong, message):
    async with open_writer() as writer:
        with pytest.raises(StatementError, match=f"^{re.escape(message)}"):
            await writer.write(wrong)
        with pytest.raises(StatementError):
            await writer.write_many([row(1), wrong])  # all or none
        assert writer.pending == 0
        await writer.write(row(2))
    assert await there(reader) == [2]


# Failures that pass, and those that do not.


async def test_failures_that_pass(open_writer, proxy, reader):
    proxy.refusals = [0xFFFE, 0xFFFE]
    async with open_writer() as writer:
        await writer.write_many([row(0), row(1)])
        await writer.flush()
        stats = writer.stats
    assert (stats.rows, stats.batches, stats.retries, stats.failed) == (2, 1, 2, 0)
    assert proxy.answered == 3
    assert await there(reader) == [0, 1]


@pytest.mark.parametrize("retries", [0, 1, 2])
async def test_failures_that_last(open_writer, proxy, reader, reports, retries):
    proxy.refusals = [0xFFFE] * (retries + 1)
    async with open_writer(max_retries=retries, on_error=reports) as writer:
        await writer.write_many([row(0), row(1)])
        await writer.flush()
        await writer.write(row(2))
    ((values, error),) = reports.all
    assert values == [0, 1]
    assert type(error) is OperationalError
    assert error.code == 0xFFFE
    assert writer.stats.retries == retries
    assert await there(reader) == [2]


async def test_no_answer_in_time(open_writer, proxy, reader):
    """An attempt that takes too long is repeated; twice written is once stored."""
    proxy.hold()
    async with open_writer(timeout=0.2, max_retries=1000) as writer:
        await writer.write(row(0))
        flushing = asyncio.create_task(writer.flush())
        await proxy.until(lambda: proxy.asked == 2)
        proxy.release()
        await flushing
        assert writer.stats.retries >= 1
        assert writer.stats.rows == 1
    assert await there(reader) == [0]


@pytest.mark.parametrize("has_run", [False, True])
async def test_a_connection_that_is_lost(open_writer, conn, proxy, reader, reports, has_run):
    """What was not acknowledged is written again; twice written is once stored."""
    proxy.cut = (2, has_run)
    async with open_writer(max_rows=3, on_error=reports) as writer:
        for number in range(12):
            await writer.write(row(number))
        await writer.flush()
        assert repr(conn).endswith(" open>")
        await writer.write(row(12))
    assert reports.all == []
    assert writer.stats.rows == 13
    assert writer.stats.retries == 1
    assert await there(reader) == list(range(13))


async def test_a_connection_that_is_closed(open_writer, conn, reader, reports):
    async with open_writer(on_error=reports) as writer:
        await writer.write(row(0))
        await conn.close()
    ((values, error),) = reports.all
    assert values == [0]
    assert type(error) is InterfaceError
    assert await there(reader) == []


async def test_rows_are_acknowledged_or_reported(open_writer, proxy, reader, reports):
    """With all that can go wrong at once."""
    proxy.refusals = [0xFFFE, 0x0200, 0xFFFE, 0x0200]
    wrong = {5, 17, 23, 40}
    async with open_writer(max_rows=10, max_pending=20, on_error=reports) as writer:
        for number in range(60):
            time = (FAR if number % 2 else None) if number in wrong else T + number
            await writer.write(Row(f"t{number % 4}", 1, time, number))
    stats = writer.stats
    assert stats.rows + stats.failed == 60
    assert stats.rows == len(await there(reader))
    assert sorted([*reports.values, *await there(reader)]) == list(range(60))
    assert wrong <= set(reports.values)


# What it tells, and misuse.


async def test_stats(open_writer, proxy):
    writer = open_writer(max_rows=2)
    assert repr(writer) == "<Writer `m` new, 0 rows pending>"
    assert writer.stats == aiotaos.WriterStats(0, 0, 0, 0, 0, 0.0)
    proxy.hold()
    async with writer:
        await writer.write_many([row(0), row(1), row(2)])
        await proxy.until(lambda: proxy.asked == 1)
        assert repr(writer) == "<Writer `m` open, 3 rows pending>"
        stats = writer.stats
        assert stats.pending == 3
        assert stats.oldest_age > 0
        proxy.release()
        await writer.flush()
        assert writer.stats == aiotaos.WriterStats(3, 2, 0, 0, 0, 0.0)
    assert repr(writer) == "<Writer `m` closed, 0 rows pending>"


async def test_a_writer_that_was_not_entered(open_writer):
    writer = open_writer()
    for call in (writer.write(row(0)), writer.write_many([row(0)]), writer.flush()):
        with pytest.raises(InterfaceError, match="the writer is not open: enter it with async"):
            await call
    await writer.aclose()
    with pytest.raises(InterfaceError, match="a writer is used once"):
        await writer.__aenter__()


async def test_a_writer_that_is_entered_twice(open_writer):
    async with open_writer() as writer:
        with pytest.raises(InterfaceError, match="a writer is used once"):
            await writer.__aenter__()


async def test_a_writer_of_a_closed_connection(open_writer, conn):
    writer = open_writer()
    await conn.close()
    with pytest.raises(InterfaceError, match="is closed"):
        await writer.__aenter__()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_rows": 0}, "max_rows: expected a whole number from 1, got 0"),
        ({"max_rows": True}, "max_rows: expected a whole number from 1, got True"),
        ({"max_pending": 0}, "max_pending: expected a whole number from 1, got 0"),
        ({"max_pending": 1.5}, "max_pending: expected a whole number from 1, got 1.5"),
        ({"max_retries": -1}, "max_retries: expected a whole number from 0, got -1"),
        ({"max_delay": 0}, "max_delay: expected a positive number of seconds, got 0"),
        ({"timeout": -1}, "timeout: expected a positive number of seconds, got -1"),
        ({"columns": ["name", "ts"]}, "columns: expected 'g' among them"),
        ({"tags": "g"}, "tags: expected a sequence of names, got 'g'"),
    ],
)
async def test_wrong_options(open_writer, options, message):
    with pytest.raises(InterfaceError) as caught:
        open_writer(**options)
    assert str(caught.value) == message


async def test_cancelled_twice_while_closing(open_writer, proxy):
    """No row is forgotten, and the note of the error tells."""
    proxy.hold()
    writer = open_writer()
    entered = asyncio.Event()

    async def work():
        async with writer:
            await writer.write_many([row(number) for number in range(5)])
            entered.set()

    task = asyncio.create_task(work())
    await entered.wait()
    await proxy.until(lambda: proxy.asked == 1)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    (note,) = caught.value.__notes__
    assert note.startswith("5 rows: not written: the writer ended before 5 rows were acknowledged")
    assert (writer.stats.failed, writer.pending) == (5, 0)
    with pytest.raises(WriteError) as left:
        await writer.aclose()
    assert written_values(left.value.rows) == [0, 1, 2, 3, 4]


async def test_on_error_that_does_not_return(open_writer):
    async def report(rows, error):
        await asyncio.get_running_loop().create_future()

    async with open_writer(on_error=report) as writer:
        await writer.write_many([Row("a", 1, T, 2**31), row(1)])
        with pytest.raises(WriteError) as caught:
            await writer.aclose(timeout=0.01)
    assert sorted(written_values(caught.value.rows)) == [1, 2**31]
    assert writer.pending == 0


@pytest.mark.parametrize("call", ["aclose", "flush", "write"])
async def test_on_error_cannot_use_the_writer(open_writer, reader, call):
    refused = []

    async def report(rows, error):
        arguments = [row(3)] if call == "write" else []
        with pytest.raises(InterfaceError, match="on_error cannot use the writer") as caught:
            await getattr(writer, call)(*arguments)
        refused.append(caught.value)

    async with open_writer(on_error=report) as writer:
        await writer.write_many([Row("a", 1, T, 2**31), row(1)])
    assert len(refused) == 1
    assert await there(reader) == [1]


async def test_on_error_that_raises_cancelled_error(open_writer, reader):
    def report(rows, error):
        raise asyncio.CancelledError

    with pytest.raises(WriteError) as caught:
        async with open_writer(on_error=report) as writer:
            await writer.write_many([Row("a", 1, T, 2**31), row(1)])
    assert written_values(caught.value.rows) == [2**31]
    assert await there(reader) == [1]


async def test_many_wrong_rows(open_writer, reader, reports):
    async with open_writer(on_error=reports) as writer:
        await writer.write_many(
            [Row("a", 1, T + number, 2**31 if number % 3 else number) for number in range(300)]
        )
    assert len(reports.values) == 200
    assert await there(reader) == list(range(0, 300, 3))


def test_on_error_that_is_no_function(open_writer):
    with pytest.raises(InterfaceError, match="on_error: expected a function, got 5"):
        open_writer(on_error=5)

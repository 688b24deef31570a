"""Prepared statements of a WebSocket session, step by step, with an adapter of their own."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import itertools
import json
import struct
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import serve

import aiotaos
from aiotaos import (
    ConnectionLost,
    DataError,
    Field,
    InterfaceError,
    NotSupportedError,
    ProtocolError,
    StatementError,
    TimeoutError,
    TypeCode,
)
from aiotaos.protocol.encode import encode_block

CAPTURES = Path(__file__).parents[1] / "data" / "captures"
INSERT = "insert into ? using s tags(?) values(?,?,?)"
SELECT = "select v from t where v > ?"
TBNAME = {"name": "tbname", "field_type": 8, "bytes": 271, "bind_type": 4}
TAGS = [{"name": "loc", "field_type": 8, "bytes": 18, "bind_type": 2}]
COLUMNS = [
    {"name": "ts", "field_type": 9, "bytes": 8, "bind_type": 1},
    {"name": "v", "field_type": 4, "bytes": 4, "bind_type": 1},
    {"name": "s", "field_type": 8, "bytes": 10, "bind_type": 1},
]
V = Field("v", TypeCode.BIGINT, 8)
RESULT = {
    "fields_count": 1,
    "fields_names": ["v"],
    "fields_types": [5],
    "fields_lengths": [8],
    "precision": 0,
}
TEXT = Field("x", TypeCode.VARCHAR, 20)
TEXTS = {
    "fields_count": 2,
    "fields_names": ["field", "type"],
    "fields_types": [8, 8],
    "fields_lengths": [20, 20],
}
BINARY = {1: "set_tags", 2: "bind", 6: "query", 7: "fetch", 9: "stmt2_bind"}
UNKNOWN = (0xFFFF, "unknown action stmt2_init")
TABLE = ([1709251200000, 1709251200001], [1, None], ["a", None])


class Hold:
    """Keeps the answers of one action back."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()


class Adapter:
    """Answers the steps of statements, and knows which statements are open.

    Attributes:
        seen: What was asked: action and arguments, or the frame behind its first 24 bytes.
        refused: Action to the code and message it is refused with.
        replies: Action to what its reply has besides or instead.
        held: Action to its hold.
        open: The statements that were made and not closed.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []
        self.refused: dict[str, tuple[int, str]] = {}
        self.replies: dict[str, Any] = {}
        self.held: dict[str, Hold] = {}
        self.open: set[int] = set()
        self.errors: list[str] = []
        self.running: set[int] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.sockets: list[Any] = []
        self.ids = itertools.count(1)
        self.sent_blocks: set[int] = set()
        self.changed = asyncio.Event()
        self.block_of: Any = [V], [[6, None]]

    @property
    def steps(self) -> list[str]:
        return [action for action, _ in self.seen]

    def hold(self, action: str) -> Hold:
        return self.held.setdefault(action, Hold())

    async def until(self, condition: Callable[[], Any]) -> None:
        while not condition():
            self.changed.clear()
            await self.changed.wait()

    async def until_closed(self) -> None:
        await self.until(lambda: not self.open)

    async def serve(self, websocket: Any) -> None:
        self.sockets.append(websocket)
        async for message in websocket:
            action, req_id, id, args = self.read(message)
            if action not in ("version", "conn"):
                self.seen.append((action, args))
                self.changed.set()
            if action in ("close", "stmt2_close"):
                self.open.discard(id)
                if action == "close":
                    continue
            elif id and action != "fetch":
                if id in self.running:
                    self.errors.append(f"two steps of {id} at once")
                self.running.add(id)
            task = asyncio.ensure_future(self.answer(websocket, action, req_id, id))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    def read(self, message: str | bytes) -> tuple[str, int, int, Any]:
        if isinstance(message, bytes):
            req_id, id, action = struct.unpack_from("<QQQ", message)
            return BINARY[action], req_id, id, message[24:]
        body = json.loads(message)
        args = dict(body.get("args", {}))
        return body["action"], args.pop("req_id", 0), args.pop("stmt_id", 0), args

    async def answer(self, websocket: Any, action: str, req_id: int, id: int) -> None:
        if action in self.held:
            self.held[action].reached.set()
            await self.held[action].opened.wait()
        reply = self.reply(action, id)
        self.running.discard(id)
        if isinstance(reply, bytes):
            await websocket.send(reply.replace(b"REQUEST!", struct.pack("<Q", req_id)))
        else:
            await websocket.send(json.dumps({"action": action, "req_id": req_id} | reply))

    def reply(self, action: str, id: int) -> Any:
        if action in self.refused:
            code, message = self.refused[action]
            return {"code": code, "message": message}
        if isinstance(special := self.replies.get(action), bytes):
            return special
        reply: dict[str, Any] = {"code": 0, "message": "", "stmt_id": id}
        if action in ("init", "stmt2_init"):
            reply["stmt_id"] = next(self.ids)
            self.open.add(reply["stmt_id"])
            self.changed.set()
        elif action in ("prepare", "stmt2_prepare"):
            reply |= {"is_insert": True}
            if action == "stmt2_prepare":
                reply |= {"fields": [TBNAME, *TAGS, *COLUMNS], "fields_count": 5}
        elif action in ("stmt2_result", "use_result"):
            self.sent_blocks.discard(77)
            reply |= {"id" if action == "stmt2_result" else "result_id": 77} | RESULT
        elif action == "fetch":
            return self.block(id)
        fixed = {
            "version": {"version": "3.3.8.0"},
            "query": {"is_update": True, "affected_rows": 5},
            "exec": {"affected": 2},
            "stmt2_exec": {"affected": 2},
            "get_tag_fields": {"fields": TAGS},
            "get_col_fields": {"fields": COLUMNS},
        }
        return reply | fixed.get(action, {}) | (special or {})

    def block(self, id: int) -> bytes:
        """One block of a result, then its end."""
        head = (
            struct.pack("<QQHQ", 2**64 - 1, 7, 1, 9) + b"REQUEST!" + struct.pack("<IIQ", 0, 0, id)
        )
        if id in self.sent_blocks:
            return head + b"\1"
        self.sent_blocks.add(id)
        block = encode_block(*self.block_of)
        return head + b"\0" + struct.pack("<I", len(block)) + block


@contextlib.asynccontextmanager
async def serving(adapter):
    """Let an adapter serve, and see afterwards that it has nothing to complain of."""
    async with serve(
        adapter.serve, "127.0.0.1", 0, compression=None, ping_interval=None, close_timeout=1
    ) as server:
        adapter.port = server.sockets[0].getsockname()[1]
        yield adapter
        for task in adapter.tasks:
            task.cancel()
        await asyncio.gather(*adapter.tasks, return_exceptions=True)
    assert adapter.errors == []


@pytest.fixture
async def adapter(clean):
    async with serving(Adapter()) as adapter:
        yield adapter


@pytest.fixture
async def conn(adapter):
    """A connection; at the end of a test it works, and has left no statement open."""
    dsn = f"ws://root:taosdata@127.0.0.1:{adapter.port}?conn_retries=0"
    async with aiotaos.connect(dsn) as connection:
        yield connection
        if not connection.closed:
            adapter.held.clear()
            assert await connection.execute("use d", timeout=5) == 5


@pytest.fixture(params=["stmt2", "stmt1"])
def version(request, adapter):
    if request.param == "stmt1":
        adapter.refused["stmt2_init"] = UNKNOWN
    return request.param


def select(adapter: Adapter) -> None:
    """From now on statements are queries."""
    query = {"is_insert": False, "fields": None, "fields_count": 1}
    adapter.replies |= {"prepare": query, "stmt2_prepare": query}


# The steps of a statement.


async def test_an_insert(adapter, conn):
    statement = await conn.prepare(INSERT)
    await statement.bind(TABLE, tbname="d1", tags=["x"])
    assert statement.bound == 2
    assert await statement.execute() == 2
    assert statement.bound == 0
    assert adapter.seen[:2] == [
        ("stmt2_init", {"single_stb_insert": True, "single_table_bind_once": False}),
        ("stmt2_prepare", {"sql": INSERT, "get_fields": True}),
    ]
    assert adapter.steps[2:] == ["stmt2_bind", "stmt2_exec"]
    await statement.aclose()
    await statement.aclose()
    await adapter.until_closed()
    assert adapter.steps[4:] == ["stmt2_close"]


async def test_a_query(adapter, conn):
    select(adapter)
    async with await conn.prepare(SELECT) as statement:
        assert await statement.fetch(5) == [(6,), (None,)]
    await adapter.until_closed()
    steps = ["stmt2_init", "stmt2_prepare", "stmt2_bind", "stmt2_exec", "stmt2_result"]
    assert adapter.steps == [*steps, "fetch", "fetch", "stmt2_close"]


async def test_a_result_that_is_not_read_closes_its_statement(adapter, conn, version):
    select(adapter)
    statement = await conn.prepare(SELECT)
    result = await statement.query(5)
    await result.aclose()
    await adapter.until_closed()
    assert await statement.fetch(5) == [(6,), (None,)]  # it prepared itself again
    await statement.aclose()
    await adapter.until_closed()


async def test_the_connection_uses_its_statements_again(adapter, conn):
    row = ("d1", "x", 1709251200000, 1, "a")
    assert await conn.execute(INSERT, *row) == 2
    assert await conn.executemany(INSERT, [row]) == 2
    first = ["stmt2_init", "stmt2_prepare", "stmt2_bind", "stmt2_exec"]
    assert adapter.steps == [*first, "stmt2_bind", "stmt2_exec"]


async def test_statements_of_the_connection_that_are_not_kept(adapter, conn):
    """A table that the statement names may be made anew; a result goes with its statement."""
    adapter.replies["stmt2_prepare"] = {"fields": COLUMNS}
    assert await conn.execute("insert into t values(?, ?, ?)", 1, 1, "a") == 2
    await adapter.until_closed()
    select(adapter)
    assert await conn.fetch(SELECT, 5) == [(6,), (None,)]
    await adapter.until_closed()
    async with await conn.query(SELECT, 5) as result:
        assert await result.fetchone() == (6,)
    await adapter.until_closed()


async def test_the_connection_closes_what_was_not_used_for_longest(adapter, conn):
    row = ("d1", "x", 1, 1, "a")
    for number in range(66):
        assert await conn.execute(f"{INSERT} -- {number}", *row) == 2
    await adapter.until(lambda: adapter.steps.count("stmt2_close") == 2)
    assert adapter.open == set(range(3, 67))
    assert await conn.execute(f"{INSERT} -- 2", *row) == 2
    assert adapter.steps.count("stmt2_init") == 66
    assert await conn.execute(f"{INSERT} -- 66", *row) == 2
    await adapter.until(lambda: len(adapter.open) == 64)
    assert adapter.open == {3, *range(5, 68)}


@pytest.mark.parametrize(
    ("value", "literal"), [(5, "5"), ("it's", r"'it\'s'"), (Decimal("1.50"), "1.50")]
)
async def test_queries_that_are_not_prepared(adapter, conn, value, literal):
    """The server prepares not every query that it runs; DECIMALs cannot be bound."""
    adapter.refused["stmt2_prepare"] = (0x2600, "stmt only support 'SELECT' or 'INSERT'")
    assert await conn.execute(SELECT, value) == 5
    ((_, query),) = [seen for seen in adapter.seen if seen[0] == "query"]
    assert query[6:].decode() == f"select v from t where v > {literal}"
    await adapter.until_closed()
    assert ("stmt2_prepare" in adapter.steps) is not isinstance(value, Decimal)


async def test_a_statement_nobody_holds_is_closed(adapter, conn):
    statement = await conn.prepare(INSERT)
    del statement
    gc.collect()
    await adapter.until_closed()


# stmt v1.


def recorded_steps() -> list[tuple[str, Any]]:
    """What the official client asked in its session of stmt v1."""
    found: list[tuple[str, Any]] = []
    for line in (CAPTURES / "stmt1.wire.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["conn"] != 3 or event.get("dir") != "c>s":
            continue
        if event["kind"] == "binary":
            frame = base64.b64decode(event["b64"])
            found.append((BINARY[frame[16]], frame[24:]))
        elif event["kind"] == "text":
            body = json.loads(event["data"])
            args = {k: v for k, v in body.get("args", {}).items() if k not in ("req_id", "stmt_id")}
            found.append((body["action"], args))
    return found[2:]  # after version and conn


async def test_the_older_protocol_as_recorded(adapter, conn):
    adapter.refused["stmt2_init"] = UNKNOWN
    async with await conn.prepare(INSERT) as statement:
        assert [field.name for field in statement.fields] == ["tbname", "loc", "ts", "v", "s"]
        assert statement.parameter_count == 5
        asked = len(adapter.seen)
        await statement.bind(TABLE, tbname="d1", tags=["x"])
        assert await statement.execute() == 2
    preparing = ["stmt2_init", "init", "prepare", "set_table_name", "get_tag_fields"]
    assert adapter.steps[:asked] == [*preparing, "get_col_fields"]
    recorded = recorded_steps()
    assert adapter.seen[1:3] == recorded[:2]
    ours, official = adapter.seen[asked:], recorded[2:7]
    assert [action for action, _ in official] == [
        "set_table_name", "set_tags", "bind", "add_batch", "exec",
    ]  # fmt: skip
    for place in (0, 3, 4):
        assert ours[place] == official[place]
    assert official[1][1] == {"tags": ["x"]}  # where ours is a block
    tag = struct.pack("<iiiiIQ", 1, 28 + 5 + 4 + 7, 1, 1, 0, 0) + struct.pack("<bi", 8, 0)
    assert ours[1] == ("set_tags", tag + struct.pack("<iiH", 3, 0, 1) + b"x")
    assert ours[2][0] == "bind"
    flags_and_width = {*range(16, 20), 39}
    for at, (mine, theirs) in enumerate(zip(ours[2][1], official[2][1], strict=True)):
        assert mine == theirs or at in flags_and_width


async def test_the_older_protocol_is_remembered(adapter, conn):
    adapter.refused["stmt2_init"] = UNKNOWN
    for _ in range(2):
        async with await conn.prepare("insert into t values(?,?,?)"):
            pass
    preparing = ["init", "prepare", "get_col_fields", "close"]
    await adapter.until(lambda: len(adapter.steps) == 9)
    assert adapter.steps == ["stmt2_init", *preparing, *preparing]


async def test_another_error_does_not_mean_the_older_protocol(adapter, conn):
    adapter.refused["stmt2_init"] = (0xFFFF, "server not connected")
    with pytest.raises(aiotaos.Error, match="server not connected"):
        await conn.prepare(INSERT)
    assert adapter.steps == ["stmt2_init"]


async def test_several_tables_over_the_older_protocol(adapter, conn):
    adapter.refused["stmt2_init"] = UNKNOWN
    rows = [("d1", "x", 1, 1, "a"), ("d2", "y", 1, 2, "b"), ("d1", "x", 2, 3, "c")]
    await conn.executemany(INSERT, rows)
    names = [args["name"] for action, args in adapter.seen if action == "set_table_name"]
    assert names[1:] == ["d1", "d2"]  # the first is for asking what the fields are
    one = ["set_table_name", "set_tags", "bind", "add_batch"]
    assert adapter.steps[-9:] == [*one, *one, "exec"]


@pytest.mark.parametrize(
    ("sql", "is_insert"), [("-- a\nINSERT into t values(?)", True), (SELECT, False)]
)
async def test_older_adapters_do_not_tell_what_a_statement_is(adapter, conn, sql, is_insert):
    adapter.refused["stmt2_init"] = UNKNOWN
    adapter.replies["prepare"] = {"is_insert": None}
    async with await conn.prepare(sql) as statement:
        assert statement.is_insert is is_insert


async def test_a_query_over_the_older_protocol(adapter, conn):
    adapter.refused["stmt2_init"] = UNKNOWN
    select(adapter)
    async with await conn.prepare(SELECT) as statement:
        assert (statement.parameter_count, statement.fields) == (1, ())
        assert await statement.fetch(5) == [(6,), (None,)]
    steps = ["init", "prepare", "bind", "add_batch", "exec", "use_result", "fetch", "fetch"]
    await adapter.until_closed()
    assert adapter.steps == ["stmt2_init", *steps, "close"]


async def test_a_type_the_older_protocol_does_not_know(adapter, conn):
    adapter.refused["stmt2_init"] = UNKNOWN
    adapter.replies["get_col_fields"] = {
        "fields": [*COLUMNS[:1], {"name": "b", "field_type": 18, "bytes": 99}]
    }
    async with await conn.prepare("insert into t values(?,?)") as statement:
        with pytest.raises(NotSupportedError, match=r"column 'b': .* do not know BLOB"):
            await statement.bind([[1], [b"x"]])
    assert "bind" not in adapter.steps


# Steps that fail.

STEPS = {
    "stmt2": ["stmt2_init", "stmt2_prepare", "stmt2_bind", "stmt2_exec", "stmt2_result"],
    "stmt1": [
        "init", "prepare", "set_table_name", "get_tag_fields", "get_col_fields", "set_tags", "bind",
        "add_batch", "exec", "use_result",
    ],
}  # fmt: skip
CASES = [(version, step) for version, steps in STEPS.items() for step in steps]


async def use(conn: Any, step: str, timeout: float | None = None) -> Any:
    """Use a statement in the way that has the step."""
    if step.endswith("result"):
        return await conn.fetch(SELECT, 5, timeout=timeout)
    return await conn.execute(INSERT, "d1", "x", 1, 1, "a", timeout=timeout)


@pytest.fixture(params=CASES, ids=[step for _, step in CASES])
def step(request, adapter):
    version, step = request.param
    if version == "stmt1":
        adapter.refused["stmt2_init"] = UNKNOWN
    if step.endswith("result"):
        select(adapter)
    return step


async def test_refused_steps(adapter, conn, step):
    adapter.refused[step] = (0x022A, "Table name not set")
    with pytest.raises(StatementError, match="Table name not set") as caught:
        await use(conn, step)
    assert (caught.value.code, caught.value.endpoint) == (0x022A, conn.endpoint)
    assert caught.value.sql in (INSERT, SELECT)
    assert caught.value.req_id is not None
    await adapter.until_closed()
    del adapter.refused[step]
    assert await use(conn, step)


async def test_steps_that_time_out(adapter, conn, step):
    """The late answer leads to a close of the statement."""
    hold = adapter.hold(step)
    with pytest.raises(TimeoutError) as caught:
        await use(conn, step, timeout=0.1)
    assert caught.value.may_have_run is (True if "exec" in step else None)
    hold.opened.set()
    if step in ("init", "stmt2_init"):
        await adapter.until(lambda: adapter.open)
    await adapter.until_closed()
    assert adapter.steps[-1] in ("close", "stmt2_close")
    assert await use(conn, step)


async def test_cancelled_steps(adapter, conn, step):
    hold = adapter.hold(step)
    task = asyncio.ensure_future(use(conn, step))
    await hold.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    hold.opened.set()
    if step in ("init", "stmt2_init"):
        await adapter.until(lambda: adapter.open)
    await adapter.until_closed()
    assert await use(conn, step)


async def test_lines_that_break(adapter, conn, step):
    hold = adapter.hold(step)
    task = asyncio.ensure_future(use(conn, step))
    await hold.reached.wait()
    adapter.sockets[0].transport.abort()
    with pytest.raises(ConnectionLost) as caught:
        await task
    assert caught.value.may_have_run is (True if "exec" in step else None)
    assert repr(conn).endswith(" lost>")


BLOCK = struct.pack("<QQHQ", 2**64 - 1, 7, 1, 9) + b"REQUEST!" + struct.pack("<IIQB", 0, 0, 1, 1)


@pytest.mark.parametrize("late", [{"code": 0x0118}, {"stmt_id": "x"}, BLOCK], ids=str)
async def test_late_answers_that_name_no_statement(adapter, conn, late):
    hold = adapter.hold("stmt2_init")
    with pytest.raises(TimeoutError):
        await conn.prepare(INSERT, timeout=0.1)
    adapter.replies["stmt2_init"] = late
    hold.opened.set()
    assert await conn.execute("use d") == 5
    assert "stmt2_close" not in adapter.steps


async def test_answers_that_cannot_be_read(adapter, conn):
    adapter.replies["stmt2_prepare"] = BLOCK
    with pytest.raises(ProtocolError, match="a block where none was asked for"):
        await conn.prepare(INSERT)
    await adapter.until_closed()
    adapter.replies["stmt2_prepare"] = {"fields": [{"name": "x", "field_type": 99}]}
    with pytest.raises(ProtocolError, match="unknown type of a parameter"):
        await conn.prepare(INSERT)
    await adapter.until_closed()


# What the statement and the connection make of it.


async def test_a_statement_prepares_itself_again(adapter, conn, version):
    statement = await conn.prepare(INSERT)
    exec = "exec" if version == "stmt1" else "stmt2_exec"
    await statement.bind(TABLE, tbname="d1", tags=["x"])
    adapter.refused[exec] = (0x0125, "need retry")
    with pytest.raises(aiotaos.Error, match="need retry"):
        await statement.execute()
    await adapter.until_closed()
    assert statement.bound == 0
    with pytest.raises(StatementError, match=r"^nothing is bound$"):
        await statement.execute()
    del adapter.refused[exec]
    await statement.bind(TABLE, tbname="d1", tags=["x"])
    assert await statement.execute() == 2
    await statement.aclose()
    await adapter.until_closed()


async def test_a_refused_bind_loses_what_was_bound(adapter, conn):
    statement = await conn.prepare(INSERT)
    await statement.bind(TABLE, tbname="d1", tags=["x"])
    adapter.refused["stmt2_bind"] = (0x0118, "Invalid parameters")
    with pytest.raises(aiotaos.Error, match="Invalid parameters"):
        await statement.bind(TABLE, tbname="d2", tags=["x"])
    await adapter.until_closed()
    assert statement.bound == 0
    with pytest.raises(StatementError, match=r"^nothing is bound$"):
        await statement.execute()
    await statement.aclose()


async def test_two_tasks_on_one_statement(adapter, conn):
    statement = await conn.prepare(INSERT)
    await statement.bind(TABLE, tbname="d1", tags=["x"])
    hold = adapter.hold("stmt2_exec")
    task = asyncio.ensure_future(statement.execute())
    await hold.reached.wait()
    before = len(adapter.seen)
    for call in (
        lambda: statement.bind(TABLE, tbname="d1", tags=["x"]),
        lambda: statement.bind_rows([]),
        statement.execute,
        statement.query,
    ):
        with pytest.raises(InterfaceError, match=r"^another task is using this statement$"):
            await call()
    assert len(adapter.seen) == before
    hold.opened.set()
    assert await task == 2
    await statement.aclose()


async def test_tasks_with_one_text_have_statements_of_their_own(adapter, conn):
    hold = adapter.hold("stmt2_exec")
    tasks = [asyncio.ensure_future(use(conn, "exec")) for _ in range(3)]
    await adapter.until(lambda: adapter.steps.count("stmt2_exec") == 3)
    assert len(adapter.open) == 3
    hold.opened.set()
    assert await asyncio.gather(*tasks) == [2, 2, 2]


async def test_a_statement_from_the_cache_is_tried_once_more(adapter, conn):
    assert await use(conn, "exec") == 2
    adapter.refused["stmt2_bind"] = (0x0236, "bind number")
    with pytest.raises(aiotaos.Error, match="bind number"):
        await use(conn, "exec")
    await adapter.until_closed()
    again = [step for step in adapter.steps[4:] if step != "stmt2_close"]
    assert again == ["stmt2_bind", "stmt2_init", "stmt2_prepare", "stmt2_bind"]


async def test_bad_input_sends_nothing(adapter, conn):
    statement = await conn.prepare(INSERT)
    before = len(adapter.seen)
    for columns, tbname, tags in (
        ([[1], [2**31], ["a"]], "d1", ["x"]),
        ([[1], ["1"], ["a"]], "d1", ["x"]),
        ([[1], [1], ["涛涛涛"]], "d1", ["x"]),
        ([[None], [1], ["a"]], "d1", ["x"]),
        ([[1], [1, 2], ["a"]], "d1", ["x"]),
        ([[1], [1], ["a"]], None, ["x"]),
        ([[1], [1], ["a"]], "", ["x"]),
        ([[1], [1], ["a"]], "d1", []),
        ([[1], [1], ["a"]], "d1", {"place": "x"}),
        ([[1], [1], ["a"]], "d1", ["x" * 17]),
        ([[], [], []], "d1", ["x"]),
    ):
        with pytest.raises((DataError, StatementError)):
            await statement.bind(columns, tbname=tbname, tags=tags)
    assert len(adapter.seen) == before
    assert statement.bound == 0
    await statement.aclose()


async def test_statements_of_a_closed_connection(adapter, conn):
    statement = await conn.prepare(INSERT)
    await conn.close()
    with pytest.raises(InterfaceError, match="is closed"):
        await statement.bind(TABLE, tbname="d1", tags=["x"])
    await statement.aclose()
    assert "stmt2_close" not in adapter.steps


# DECIMALs of adapters that do not tell their digits.

AMOUNTS = [COLUMNS[0], {"name": "d", "field_type": 21, "bytes": 8, "bind_type": 1}]


async def test_digits_of_a_table_that_is_not_named(adapter, conn):
    adapter.replies["stmt2_prepare"] = {"fields": [TBNAME, *AMOUNTS]}
    with pytest.raises(NotSupportedError) as caught:
        await conn.execute("insert into ? values(?, ?)", "t", 1, "1.5")
    assert caught.value.message == (
        "this server does not tell the digits of a DECIMAL whose table is a '?'"
    )
    await adapter.until_closed()


async def test_digits_are_asked_for(adapter, conn):
    adapter.replies["stmt2_prepare"] = {"fields": AMOUNTS}
    adapter.replies["query"] = {"is_update": False, "id": 5} | TEXTS
    adapter.block_of = [TEXT] * 2, [["ts", "d"], ["TIMESTAMP", "DECIMAL(10, 2)"]]
    async with await conn.prepare("insert into d.t values(?, ?)") as statement:
        assert statement.fields[1].type_name == "DECIMAL(10,2)"
        with pytest.raises(DataError, match=r"'1.234' is not a value of DECIMAL"):
            await statement.bind([[1], ["1.234"]])
        await statement.bind([[1], ["1.5"]])
    ((_, query),) = [seen for seen in adapter.seen if seen[0] == "query"]
    assert query[6:] == b"describe d.t"
    (frame,) = [args for action, args in adapter.seen if action == "stmt2_bind"]
    assert frame.endswith(struct.pack("<iq", 8, 150))
    del adapter.replies["query"]

"""Recorded sessions with a real TDengine, replayed over real sockets, through the public API."""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import aiotaos
from aiotaos import DatabaseError, Precision, ProgrammingError, TypeCode

CAPTURES = Path(__file__).parent / "data" / "captures"
ONES = b"\xff" * 8


def expectations(name: str) -> list[dict[str, Any]]:
    return json.loads((CAPTURES / f"{name}.expected.json").read_text())


def value_of(value: Any, kind: str, precision: int) -> Any:
    """A value as the recordings write it, as Python value."""
    match value:
        case {"float": text}:
            return float(text)
        case {"hex": text}:
            return bytes.fromhex(text)
        case {"decimal": text}:
            return Decimal(text)
        case str() if kind == "TIMESTAMP":
            moment, zone = value.rsplit(" ", 1)
            assert zone == "+00:00"
            whole, _, fraction = moment.partition(".")
            second = datetime.fromisoformat(whole).replace(tzinfo=UTC)
            if precision == 2:
                return int(second.timestamp()) * 10**9 + int(fraction.ljust(9, "0"))
            return second.replace(microsecond=int(fraction.ljust(6, "0")))
    return value


def rows_of(statement: dict[str, Any], precision: int) -> list[tuple[Any, ...]]:
    kinds = [kind for _, kind, _ in statement["fields"]]
    return [
        tuple(value_of(value, kind, precision) for value, kind in zip(row, kinds, strict=True))
        for row in statement["rows"]
    ]


def check_fields(result: aiotaos.Result[Any], statement: dict[str, Any]) -> None:
    """The official client says BINARY where TDengine has VARCHAR, also for a bare NULL."""
    assert [
        (
            field.name,
            "BINARY" if field.type is TypeCode.VARCHAR else field.type.sql_name,
            field.length,
        )
        for field in result.fields
    ] == [tuple(field) for field in statement["fields"]]


class Recorded:
    """What the recorded server said to one statement; ids are rewritten, the rest is not."""

    fetch_error = None

    def __init__(self, reply: str) -> None:
        self.text = reply
        self.frames: list[str | bytes] = []
        self.code = json.loads(reply)["code"]
        self.has_rows = not self.code and not json.loads(reply)["is_update"]

    def reply(self, action: str, req_id: int, id: int) -> str:
        return rewrite(self.text, req_id, id)

    def served(self) -> Iterator[str | bytes]:
        return iter(self.frames)


def rewrite(text: str, req_id: int, id: int) -> str:
    text, count = re.subn(r'"req_id":\d+', f'"req_id":{req_id}', text, count=1)
    assert count == 1
    return re.sub(r'"id":\d+', f'"id":{id}', text, count=1)


def rewrite_frame(frame: bytes, req_id: int, id: int) -> bytes:
    changed = bytearray(frame)
    if frame.startswith(ONES):
        struct.pack_into("<Q", changed, 26, req_id)
        (size,) = struct.unpack_from("<I", changed, 38)
        struct.pack_into("<Q", changed, 42 + size, id)
    else:
        struct.pack_into("<Q", changed, 8, id)
    return bytes(changed)


class Replay:
    """Makes a test server answer with the frames of a recording."""

    def __init__(self, name: str) -> None:
        lines = (CAPTURES / f"{name}.wire.jsonl").read_text().splitlines()
        events = [json.loads(line) for line in lines]
        self.version = ""
        self.logins: dict[tuple[str, str], str] = {}
        self.statements: dict[str, Recorded] = {}
        for connection in {event["conn"] for event in events}:
            self._read([event for event in events if event["conn"] == connection])

    def _read(self, events: list[dict[str, Any]]) -> None:
        asked: dict[int, Any] = {}
        results: dict[int, Recorded] = {}
        fetched = 0
        for event in events:
            sent = event.get("dir") == "c>s"
            if event["kind"] == "binary":
                frame = base64.b64decode(event["b64"])
                if sent:
                    req_id, id, action = struct.unpack_from("<QQQ", frame)
                    asked[req_id] = frame[30:].decode() if action == 6 else id
                elif frame.startswith(ONES):
                    (req_id,) = struct.unpack_from("<Q", frame, 26)
                    if asked[req_id] in results:
                        results[asked[req_id]].frames.append(frame)
                else:
                    assert struct.unpack_from("<Q", frame, 8) == (fetched,)
                    results[fetched].frames.append(frame)
            elif event["kind"] == "text":
                message = json.loads(event["data"])
                args = message.get("args", {})
                if sent:
                    asked[args.get("req_id", 0)] = args.get("sql", args)
                    if message.get("action") == "fetch_block":
                        fetched = args["id"]
                else:
                    self._reply(message, event["data"], asked.get(message["req_id"]), results)

    def _reply(
        self, message: dict[str, Any], text: str, asked: Any, results: dict[int, Recorded]
    ) -> None:
        match message["action"]:
            case "version":
                self.version = text
            case "conn" if "user" in asked:
                self.logins.setdefault((asked["user"], asked.get("db", "")), text)
            case "query" | "binary_query":
                recorded = Recorded(text)
                self.statements.setdefault(asked, recorded)
                if recorded.has_rows:
                    results[message["id"]] = recorded
            case "fetch" if asked["id"] in results:
                results[asked["id"]].frames.append(text)

    def install(self, server: Any, version: str | None = None) -> None:
        said = self.version if version is None else self.version.replace("3.3.7.5", version)

        async def answer_version(session: Any, request: Any) -> list[str]:
            return [said]

        async def answer_login(session: Any, request: Any) -> list[str]:
            text = self.logins[request.args["user"], request.args.get("db", "")]
            if version is not None:  # adapters before 3.3.7.2 do not tell it here
                text = text.replace(',"version":"3.3.7.5"', "")
            return [rewrite(text, request.req_id, 0)]

        async def answer_fetch(session: Any, request: Any) -> list[str | bytes]:
            result = session.results[request.id]
            frame = next(result.blocks)
            if isinstance(frame, str):
                if json.loads(frame).get("completed"):
                    del session.results[request.id]
                return [rewrite(frame, request.req_id, request.id)]
            (size,) = struct.unpack_from("<I", frame, 38)
            if frame.startswith(ONES) and frame[50 + size]:
                del session.results[request.id]
            return [rewrite_frame(frame, request.req_id, request.id)]

        server.handlers = {
            "version": answer_version,
            "conn": answer_login,
            "fetch_raw_block": answer_fetch,
            "fetch": answer_fetch,
            "fetch_block": answer_fetch,
        }
        for sql, recorded in self.statements.items():
            server.reply(sql, recorded)


@pytest.mark.parametrize(
    "name", ["connect", "types_ms", "types_us", "types_ns", "decimals_blobs", "tags_json"]
)
async def test_values(server, name):
    replay = Replay(name)
    replay.install(server)
    checked = 0
    async with aiotaos.connect(server.dsn, timezone="UTC") as conn:
        assert conn.server_version == "3.3.7.5"
        for statement in expectations(name):
            if "connect" in statement:
                continue
            sql = statement["sql"]
            checked += 1
            if "rows" not in statement:
                assert await conn.execute(sql) == statement.get("affected", 0)
                continue
            result = await conn.query(sql)
            check_fields(result, statement)
            recorded = json.loads(replay.statements[sql].text)
            assert result.precision is Precision(recorded["precision"])
            assert result.timing == recorded["timing"]
            assert (result.is_update, result.affected_rows) == (False, 0)
            rows = rows_of(statement, recorded["precision"])
            assert [row async for row in result] == rows
            assert result.row_count == len(rows)
            assert await conn.fetch(sql) == rows
            assert await conn.fetchrow(sql) == (rows[0] if rows else None)
            assert await conn.fetchval(sql) == (rows[0][0] if rows else None)
            async with conn.cursor() as cursor:
                await cursor.execute(sql)
                assert [column[0] for column in cursor.description] == [
                    field[0] for field in statement["fields"]
                ]
                assert [column[3] for column in cursor.description] == [
                    field[2] for field in statement["fields"]
                ]
                assert await cursor.fetchall() == rows
                assert cursor.rowcount == len(rows)
    assert checked == sum("sql" in statement for statement in expectations(name))


async def test_decimals_have_precision_and_scale(server):
    Replay("decimals_blobs").install(server)
    async with aiotaos.connect(server.dsn) as conn, conn.cursor() as cursor:
        await cursor.execute("select * from cap_dec.t order by ts")
        assert [column[4:6] for column in cursor.description] == [
            (None, None),
            (10, 3),
            (38, 10),
            (18, 18),
            (19, 0),
        ]
        assert [field.type_name for field in cursor.result.fields] == [
            "TIMESTAMP",
            "DECIMAL(10,3)",
            "DECIMAL(38,10)",
            "DECIMAL(18,18)",
            "DECIMAL(19,0)",
        ]


async def test_refused_logins(server):
    Replay("connect").install(server)
    with pytest.raises(aiotaos.AuthenticationError) as refused:
        await aiotaos.connect(server.dsn, user="nosuch", password="bad")
    assert (refused.value.code, refused.value.message) == (0x0351, "Invalid user")
    assert refused.value.endpoint == server.endpoint
    with pytest.raises(ProgrammingError) as missing:
        await aiotaos.connect(server.dsn, database="nosuchdb")
    assert (missing.value.code, missing.value.message) == (0x0388, "Database not exist")


async def test_many_blocks(server):
    """The rows as they were inserted, and the sums that the official client made."""
    Replay("many_blocks").install(server)
    *updates, query = expectations("many_blocks")
    rows = [
        (
            datetime.fromtimestamp(1709251200 + n // 1000, UTC).replace(
                microsecond=n % 1000 * 1000
            ),
            n * 0.25,
            None if n % 11 == 0 else n % 97,
            f"s{n % 13}",
        )
        for n in range(10_000)
    ]
    async with aiotaos.connect(server.dsn, timezone="UTC") as conn:
        for statement in updates:
            assert await conn.execute(statement["sql"]) == statement["affected"]
        sizes = [len(block) async for block in (await conn.query(query["sql"])).blocks()]
        assert sizes == [4096, 4096, 1808]
        got = await conn.fetch(query["sql"])
        result = await conn.query(query["sql"])
        assert [row async for row in result] == got
    assert len(got) == query["rows_count"]
    assert sum(row[1] for row in got) == query["sum_v"]
    assert sum(row[2] for row in got if row[2] is not None) == query["sum_n"]
    assert sum(row[2] is None for row in got) == query["nulls_n"]
    kinds = ("TIMESTAMP", "", "", "")
    assert got[-1] == tuple(map(value_of, query["last"], kinds, [0] * 4))
    assert got == rows


async def test_errors(server):
    """Codes and messages as the official client shows them; the connection goes on."""
    Replay("errors").install(server)
    codes = []
    async with aiotaos.connect(server.dsn) as conn:
        for statement in expectations("errors"):
            if "rows" in statement:
                result = await conn.query(statement["sql"])
                check_fields(result, statement)
                assert await result.fetchall() == rows_of(statement, 0)
                continue
            told = re.fullmatch(
                r"QueryError: (?:\[0x(\w+)\] )?Internal error: `(.*)`", statement["error"], re.S
            )
            for call in (conn.execute, conn.query, conn.fetch, conn.cursor().execute):
                with pytest.raises(DatabaseError) as raised:
                    await call(statement["sql"], req_id=4711)
                error = raised.value
                assert error.code == int(told[1] or "ffff", 16)
                assert error.message == told[2]
                assert (error.req_id, error.sql) == (4711, statement["sql"])
                assert error.endpoint == server.endpoint
                assert error.may_have_run is None
            codes.append(error.code)
            assert isinstance(error, ProgrammingError) == (error.code != 0xFFFF)
        assert await conn.fetchval("select 1") == 1
    assert codes == [0x2600, 0x2616, 0x388, 0x388, 0x2616, 0x388, 0x388, 0x374, 0xFFFF]


async def test_old_adapter(server):
    """Before 3.3.2.0: JSON queries, ``fetch`` and then ``fetch_block``; the values are the same."""
    Replay("json_ws").install(server, version="3.3.1.0")
    recorded = {statement["sql"]: statement for statement in expectations("types_ms")}
    async with aiotaos.connect(server.dsn, timezone="UTC") as conn:
        assert conn.server_version == "3.3.1.0"
        statement = recorded["select * from cap_ms.t order by ts"]
        result = await conn.query(statement["sql"])
        check_fields(result, statement)
        assert await result.fetchall() == rows_of(statement, 0)
        assert await conn.fetch("select * from cap_ms.t where ts<0") == []
        with pytest.raises(ProgrammingError) as missing:
            await conn.fetch("select * from nosuch.t")
        assert (missing.value.code, missing.value.message) == (0x0388, "Database not exist")
        with pytest.raises(ProgrammingError) as empty:
            await conn.execute("")
        assert (empty.value.code, empty.value.message) == (0x2601, "Incomplete SQL statement")
        async with await conn.query("select * from cap_ms.t"):
            pass  # given up unread, as in the recording
        result = await conn.query("select ts from t order by ts limit 1")
        assert [(field.name, field.type) for field in result.fields] == [("ts", TypeCode.TIMESTAMP)]
        await result.aclose()
        assert await conn.fetch(statement["sql"]) == rows_of(statement, 0)
    assert [request.action for request in server.session.requests] == [
        "version",
        "conn",
        *("query", "fetch", "fetch_block", "fetch"),
        *("query", "fetch"),
        "query",
        "query",
        *("query", "free_result"),
        *("query", "free_result"),
        *("query", "fetch", "fetch_block", "fetch"),
    ]


async def test_old_adapter_tells_its_database(server):
    """A ``use`` is followed up with the server's own word for the database."""
    Replay("json_ws").install(server, version="3.3.1.0")
    async with aiotaos.connect(server.dsn) as conn:
        assert conn.database is None
        await conn.execute("use cap_ms")
        assert conn.database == "cap_ms"

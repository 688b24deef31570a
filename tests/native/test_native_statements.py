"""Prepared statements over libtaos, on the stand-in: what is bound, and what failures leave."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any

import pytest

import aiotaos
from aiotaos import (
    DatabaseError,
    FieldKind,
    InterfaceError,
    NotSupportedError,
    StatementError,
    StatementField,
    TableRows,
    TimeoutError,
    TypeCode,
)
from tests.native.conftest import Native, _native
from tests.native.standin import COLUMN, TAG, TBNAME, Flavour, Parameter, Standin, generated
from tests.native.test_native_exit import run
from tests.type_matrix import COLUMNS, TAGS

INSERT = "insert into ? using s tags(?) values(?, ?)"
PARAMETERS = [
    Parameter("tbname", TBNAME, 8, 271),
    Parameter("loc", TAG, 10, 82),
    Parameter("ts", COLUMN, 9, 8),
    Parameter("n", COLUMN, 8, 18),
]
TABLES = [
    TableRows([[1, 2, 3], ["a", None, ""]], "t1", ["nörth"]),
    TableRows([[4], [None]], "t2", [None]),
    TableRows([[5, 6], ["涛思", "bb"]], "t1", ["other"]),
]
QUERY = "select * from t where a > ? and b < ?"
PREFIXED = (TypeCode.VARCHAR, TypeCode.VARBINARY, TypeCode.GEOMETRY)
FORMATS = {
    TypeCode.BOOL: "<?", TypeCode.TINYINT: "<b", TypeCode.SMALLINT: "<h", TypeCode.INT: "<i",
    TypeCode.BIGINT: "<q", TypeCode.UTINYINT: "<B", TypeCode.USMALLINT: "<H",
    TypeCode.UINT: "<I", TypeCode.UBIGINT: "<Q", TypeCode.FLOAT: "<f", TypeCode.DOUBLE: "<d",
    TypeCode.TIMESTAMP: "<q",
}  # fmt: skip


def ticks(*values: int) -> dict[str, Any]:
    return {"type": 9, "values": [struct.pack("<q", value).hex() for value in values]}


def texts(type: int, *values: str | None) -> dict[str, Any]:
    found = [None if value is None else value.encode().hex() for value in values]
    return {"type": type, "values": found}


BOUND = [
    {
        "table": "t1",
        "tags": [texts(10, "nörth")],
        "column": -1,
        "columns": [ticks(1, 2, 3), texts(8, "a", None, "")],
    },
    {
        "table": "t2",
        "tags": [texts(10, None)],
        "column": -1,
        "columns": [ticks(4), texts(8, None)],
    },
    {
        "table": "t1",
        "tags": [texts(10, "other")],
        "column": -1,
        "columns": [ticks(5, 6), texts(8, "涛思", "bb")],
    },
]


@pytest.fixture
async def old(
    load_standin: Callable[[Flavour], Standin], open_port: int, clean: None
) -> AsyncIterator[Native]:
    """Connections over the library of 3.0."""
    found = load_standin(Flavour.OLD3)
    found.reset()
    async for each in _native(found, open_port):
        yield each
    found.reset()


@pytest.fixture
async def oldest(
    load_standin: Callable[[Flavour], Standin], open_port: int, clean: None
) -> AsyncIterator[Native]:
    """Connections over the library of 2.6."""
    found = load_standin(Flavour.TWO)
    found.reset()
    async for each in _native(found, open_port):
        yield each
    found.reset()


@pytest.fixture(params=["stmt2", "stmt"])
async def either(
    request: pytest.FixtureRequest,
    load_standin: Callable[[Flavour], Standin],
    open_port: int,
    clean: None,
) -> AsyncIterator[Native]:
    """Connections over each library that binds INSERTs."""
    found = load_standin(Flavour.FULL if request.param == "stmt2" else Flavour.OLD3)
    found.reset()
    found.parameters(INSERT, PARAMETERS)
    async for each in _native(found, open_port):
        yield each
    found.reset()


async def until(condition: Any) -> None:
    """Wait for what other threads bring about."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the library has no event
            await asyncio.sleep(0.001)


async def waits(native: Native) -> None:
    await until(lambda: native.standin.count("held") == 1)


async def gone(native: Native) -> None:
    await until(lambda: native.standin.count("statements") == 0)


def raw(type: TypeCode, value: Any) -> str | None:
    """A value as libtaos takes it."""
    if value is None:
        return None
    if isinstance(value, Decimal):
        return f"{value:f}".encode().hex()
    if isinstance(value, str):
        return value.encode().hex()
    return value.hex() if isinstance(value, bytes) else struct.pack(FORMATS[type], value).hex()


def parameter(name: str, kind: int = COLUMN) -> Parameter:
    field = COLUMNS[name].field
    size = field.length + 2 if field.type in PREFIXED else field.length
    if field.type is TypeCode.NCHAR:
        size = 4 * field.length + 2
    elif field.type is TypeCode.BLOB:
        size = 8
    return Parameter(name, kind, field.type, size, field.precision, field.scale)


def matrix(names: list[str]) -> tuple[list[list[Any]], list[dict[str, Any]]]:
    """Values of every type with NULLs, and how they are bound."""
    values, bound = [], []
    for name in names:
        column = COLUMNS[name]
        given = [None, *(getattr(column, k)[1] for k in ("low", "high", "usual", "empty")), None]
        values.append(given)
        type = column.field.type
        bound.append({"type": type, "values": [raw(type, value) for value in given]})
    return values, bound


async def bound(native: Native, sql: str, tables: list[TableRows]) -> list[dict[str, Any]]:
    conn = await native.connect()
    async with await conn.prepare(sql) as statement:
        await statement.bind_tables(tables)
        rows = sum(len(table.columns[0]) for table in tables)
        assert await statement.execute() == rows
    (event,) = native.standin.log("execute")
    assert event["rows"] == rows
    binds: list[dict[str, Any]] = event["binds"]
    return binds


# What is bound.


async def test_every_type(native: Native) -> None:
    names = list(COLUMNS)
    sql = f"insert into e values(?{', ?' * len(names)})"
    native.standin.parameters(sql, [Parameter("ts", COLUMN, 9, 8), *map(parameter, names)])
    values, expected = matrix(names)
    (found,) = await bound(native, sql, [TableRows([list(range(6)), *values])])
    assert (found["table"], found["tags"], found["column"]) == (None, None, -1)
    for name, got, wanted in zip(names, found["columns"][1:], expected, strict=True):
        assert got == wanted, name


async def test_every_type_in_the_first_generation(old: Native) -> None:
    names = [name for name in COLUMNS if name[0] != "d" and name != "x"]
    sql = f"insert into e values(?{', ?' * len(names)})"
    old.standin.parameters(sql, [Parameter("ts", COLUMN, 9, 8), *map(parameter, names)])
    values, expected = matrix(names)
    (found,) = await bound(old, sql, [TableRows([list(range(6)), *values])])
    assert found["columns"] == [ticks(*range(6)), *expected]


@pytest.mark.parametrize("name", ["d5", "d38", "x"])
async def test_types_that_the_first_generation_does_not_know(old: Native, name: str) -> None:
    sql = "insert into e values(?, ?)"
    old.standin.parameters(sql, [Parameter("ts", COLUMN, 9, 8), parameter(name)])
    conn = await old.connect()
    async with await conn.prepare(sql) as statement:
        with pytest.raises(NotSupportedError, match=f"column '{name}'.* do not know"):
            await statement.bind([[1], [COLUMNS[name].low[1]]])
        await gone(old)


async def test_tags_of_every_type(either: Native) -> None:
    sql = f"insert into ? using e tags(?{', ?' * (len(TAGS) - 1)}) values(?)"
    either.standin.parameters(
        sql,
        [
            Parameter("tbname", TBNAME, 8, 271),
            *(parameter(name, TAG) for name in TAGS),
            Parameter("ts", COLUMN, 9, 8),
        ],
    )
    values, expected = matrix(TAGS)
    tables = [
        TableRows([[row]], f"t{row}", list(tags))
        for row, tags in enumerate(zip(*values, strict=True))
    ]
    assert await bound(either, sql, tables) == [
        {
            "table": f"t{row}",
            "tags": [
                {"type": column["type"], "values": [column["values"][row]]} for column in expected
            ],
            "column": -1,
            "columns": [ticks(row)],
        }
        for row in range(6)
    ]


async def test_json_tags(either: Native) -> None:
    sql = "insert into ? using e tags(?) values(?)"
    names = [Parameter("tbname", TBNAME, 8, 271), Parameter("j", TAG, 15, 4095)]
    either.standin.parameters(sql, [*names, Parameter("ts", COLUMN, 9, 8)])
    tables = [TableRows([[1]], "a", [{"k": "é"}]), TableRows([[2]], "b", [None])]
    first, second = await bound(either, sql, tables)
    assert (first["tags"], second["tags"]) == ([texts(15, '{"k":"é"}')], [texts(15, None)])


async def test_decimals_whose_digits_are_not_told(native: Native) -> None:
    """libtaos 3.3.7 takes them as integers then, as in a block."""
    sql = "insert into e values(?, ?, ?)"
    kinds = [Parameter("d", COLUMN, 21, 8), Parameter("e", COLUMN, 17, 16)]
    native.standin.parameters(sql, [Parameter("ts", COLUMN, 9, 8), *kinds])
    described = [
        aiotaos.Field("field", TypeCode.VARCHAR, 64),
        aiotaos.Field("type", TypeCode.VARCHAR, 20),
    ]
    types = ["TIMESTAMP", "DECIMAL(10, 2)", "DECIMAL(38, 3)"]
    native.standin.rows("describe e", described, [["ts", "d", "e"], types])
    values = [[1, 2], [Decimal("-1.5"), None], [None, Decimal(2)]]
    (found,) = await bound(native, sql, [TableRows(values)])
    assert found["columns"][1:] == [
        {"type": 21, "values": [struct.pack("<q", -150).hex(), None]},
        {"type": 17, "values": [None, (2000).to_bytes(16, "little").hex()]},
    ]


async def test_several_tables(either: Native) -> None:
    assert await bound(either, INSERT, TABLES) == BOUND


async def test_many_tables(either: Native) -> None:
    rows = [(f"t{row % 200}", f"g{row % 200}", row, f"v{row}") for row in range(1000)]
    conn = await either.connect()
    async with await conn.prepare(INSERT) as statement:
        await statement.bind_rows(rows)
        assert await statement.execute() == 1000
    (event,) = either.standin.log("execute")
    assert event["binds"] == [
        {
            "table": f"t{table}",
            "tags": [texts(10, f"g{table}")],
            "column": -1,
            "columns": [
                ticks(*range(table, 1000, 200)),
                texts(8, *(f"v{row}" for row in range(table, 1000, 200))),
            ],
        }
        for table in range(200)
    ]


async def test_what_a_statement_tells(either: Native) -> None:
    conn = await either.connect()
    async with await conn.prepare(f"-- why\n{INSERT}") as statement:
        assert statement.fields[1:] == (
            StatementField("loc", FieldKind.TAG, TypeCode.NCHAR, 20),
            StatementField("ts", FieldKind.COLUMN, TypeCode.TIMESTAMP, 8),
            StatementField("n", FieldKind.COLUMN, TypeCode.VARCHAR, 16),
        )
        assert statement.fields[0].kind is FieldKind.TBNAME
        assert statement.is_insert
    async with await conn.prepare(QUERY) as statement:
        assert (statement.is_insert, statement.parameter_count) == (False, 2)


async def test_executed_again_and_again(either: Native) -> None:
    conn = await either.connect()
    async with await conn.prepare(INSERT) as statement:
        for rows in (1, 3, 2):
            for row in range(rows):
                await statement.bind([[row], ["x"]], tbname="t", tags=["y"])
            assert await statement.execute() == rows
    events = either.standin.log("execute")
    assert [(event["rows"], len(event["binds"])) for event in events] == [(1, 1), (3, 3), (2, 2)]


async def test_ids_of_requests(native: Native) -> None:
    conn = await native.connect()
    async with await conn.prepare(f"{QUERY} /* rows=1 */") as statement:
        await statement.fetch(1, 2)
    (event,) = native.standin.log("execute")
    assert event["api"] == "stmt2"
    assert event["reqid"] > 0
    assert (event["one_table"], event["bind_once"]) == (True, False)


# Queries.


async def test_queries(any_native: Native) -> None:
    conn = await any_native.connect()
    sql = f"{QUERY} /* rows=7 cols=3 block=3 */"
    expected = generated(7, 3)
    for _ in range(2):
        async with await conn.prepare(sql) as statement:
            rows = await statement.fetch(4, "é", timeout=5)
        assert [row[1:] for row in rows] == [row[1:] for row in expected]
        await gone(any_native)
    (event, _) = any_native.standin.log("execute")
    assert event["binds"][0]["columns"] == [
        {"type": 5, "values": [struct.pack("<q", 4).hex()]},
        texts(8, "é"),
    ]


async def test_parameters_of_a_query_go_with_its_text(any_native: Native) -> None:
    """libtaos cannot stop a prepared query."""
    conn = await any_native.connect()
    await conn.fetch("select * from t where a > ? and b = ? /* rows=1 */", 4, "it's")
    assert any_native.standin.log("execute") == []
    (event,) = any_native.standin.log("query")
    assert event["sql"] == r"select * from t where a > 4 and b = 'it\'s' /* rows=1 */"


async def test_a_null_parameter(any_native: Native) -> None:
    conn = await any_native.connect()
    async with await conn.prepare("select * from t where a > ? /* rows=0 */") as statement:
        assert await statement.fetch(None) == []
    (event,) = any_native.standin.log("execute")
    assert event["binds"][0]["columns"] == [{"type": 5, "values": [None]}]


async def test_a_query_that_is_run_again(any_native: Native) -> None:
    conn = await any_native.connect()
    async with await conn.prepare(f"{QUERY} /* rows=6 block=2 */") as statement:
        for value in range(3):
            assert len(await statement.fetch(value, 1)) == 6
        assert any_native.standin.count("statements") == 1
        for _ in range(3):  # a result that was not read to its end takes the statement with it
            result = await statement.query(1, 2)
            assert (await result.fetchone())[1] == 0
        assert len(await result.fetchall()) == 5
    await gone(any_native)
    assert len(any_native.standin.log("execute")) == 6


async def test_a_result_that_is_given_up(any_native: Native) -> None:
    """The fetch under way is not stopped: libtaos 3.3.7 would never call back for it."""
    conn = await any_native.connect()
    sql = f"{QUERY} /* rows=6 block=2 fetch_after=1 fetch_hold=gate */"
    statement = await conn.prepare(sql)
    result = await statement.query(1, 2)
    assert (await result.fetchone())[1] == 0
    await waits(any_native)
    await result.aclose()
    assert any_native.standin.count("statements") == 1
    any_native.standin.release("gate")
    await statement.aclose()
    await gone(any_native)


async def test_a_statement_that_is_closed_before_its_result(either: Native) -> None:
    conn = await either.connect()
    statement = await conn.prepare(f"{QUERY} /* rows=6 block=2 */")
    result = await statement.query(1, 2)
    await statement.aclose()
    await gone(either)
    with pytest.raises(aiotaos.ResultError):
        await result.fetchall()


async def test_inserts_of_2x(oldest: Native) -> None:
    conn = await oldest.connect()
    with pytest.raises(NotSupportedError, match=r"2\.6.* does not tell what the parameters"):
        await conn.prepare("insert into t values(?, ?)")
    await gone(oldest)


# Failures.

STEPS = {
    "stmt2": ["prepare", "is_insert", "get_fields", "bind_param", "exec"],
    "stmt": [
        *("prepare", "set_tbname", "get_tag_fields", "get_col_fields"),
        *("set_tbname_tags", "bind_param_batch", "add_batch", "execute"),
    ],
}
EVERY_STEP = [(api, step) for api, steps in STEPS.items() for step in steps]


@pytest.fixture
async def failing(
    request: pytest.FixtureRequest,
    load_standin: Callable[[Flavour], Standin],
    open_port: int,
    clean: None,
) -> AsyncIterator[tuple[Native, str]]:
    """Connections over a library, and the function of it that fails."""
    api, step = request.param
    found = load_standin(Flavour.FULL if api == "stmt2" else Flavour.OLD3)
    found.reset()
    found.parameters(INSERT, PARAMETERS)
    async for each in _native(found, open_port):
        yield each, f"taos_{api}_{step}"
    found.reset()


async def write(conn: aiotaos.Connection[Any], timeout: float | None = None) -> int:
    statement = await conn.prepare(INSERT, timeout=timeout)
    try:
        await statement.bind_tables(TABLES, timeout=timeout)
        return await statement.execute(timeout=timeout)
    finally:
        await statement.aclose()


@pytest.mark.parametrize("failing", EVERY_STEP, indirect=True, ids="_".join)
async def test_refused(failing: tuple[Native, str]) -> None:
    native, function = failing
    conn = await native.connect()
    native.standin.rule(function, code=0x2603, message="because")
    with pytest.raises(DatabaseError, match="because") as caught:
        await write(conn)
    assert (caught.value.code, caught.value.sql) == (0x2603, INSERT)
    assert caught.value.endpoint == conn.endpoint
    await gone(native)
    assert await write(conn) == 6


HELD = [each for each in EVERY_STEP if each[1] not in ("is_insert",)]


@pytest.mark.parametrize("failing", HELD, indirect=True, ids="_".join)
async def test_cancelled(failing: tuple[Native, str]) -> None:
    native, function = failing
    conn = await native.connect()
    native.standin.rule(function, hold=True)
    task = asyncio.create_task(write(conn))
    await waits(native)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert native.standin.count("statements") == 1  # its step is still under way
    native.standin.release(function)
    await gone(native)
    assert await write(conn) == 6


@pytest.mark.parametrize("failing", HELD, indirect=True, ids="_".join)
async def test_too_late(failing: tuple[Native, str]) -> None:
    native, function = failing
    conn = await native.connect()
    native.standin.rule(function, hold=True)
    with pytest.raises(TimeoutError, match=r"no answer within 0\.05 s") as caught:
        await write(conn, timeout=0.05)
    executes = function.endswith(("exec", "execute"))
    assert caught.value.may_have_run is (True if executes else None)
    native.standin.release(function)
    await gone(native)
    assert await write(conn) == 6


@pytest.mark.parametrize("failing", HELD, indirect=True, ids="_".join)
@pytest.mark.parametrize("how", ["close", "terminate"])
async def test_the_session_ends_meanwhile(failing: tuple[Native, str], how: str) -> None:
    native, function = failing
    conn = await native.connect()
    native.standin.rule(function, hold=True)
    task = asyncio.create_task(write(conn))
    await waits(native)
    if how == "close":
        await conn.close()
    else:
        conn.terminate()
    with pytest.raises(InterfaceError, match="closed"):
        await task
    native.standin.release(function)
    await gone(native)
    await until(lambda: native.standin.count("connections") == 0)


@pytest.mark.parametrize("directive", ['error=0x0732:"full"', 'null error=0x0732:"full"'])
async def test_a_refused_execution(either: Native, directive: str) -> None:
    sql = f"{INSERT} /* delay=1ms {directive} */"
    either.standin.parameters(INSERT, PARAMETERS)
    conn = await either.connect()
    statement = await conn.prepare(sql)
    await statement.bind_tables(TABLES)
    with pytest.raises(aiotaos.Error) as caught:
        await statement.execute(req_id=7)
    assert caught.value.message == "full" or "null" in directive
    assert (caught.value.code, caught.value.req_id) == (0x0732, 7)
    await gone(either)


@pytest.mark.parametrize("way", ["inline", "delay=2ms", "hold=gate"])
async def test_how_executions_end(native: Native, way: str) -> None:
    native.standin.parameters(INSERT, PARAMETERS)
    conn = await native.connect()
    async with await conn.prepare(f"{INSERT} /* {way} */") as statement:
        for _ in range(3):
            await statement.bind_tables(TABLES)
            task = asyncio.create_task(statement.execute())
            if way == "hold=gate":
                await waits(native)
                native.standin.release("gate")
            assert await task == 6


async def test_closed_while_it_executes(native: Native) -> None:
    native.standin.parameters(INSERT, PARAMETERS)
    conn = await native.connect()
    statement = await conn.prepare(f"{INSERT} /* hold=gate */")
    await statement.bind_tables(TABLES)
    task = asyncio.create_task(statement.execute())
    await waits(native)
    await statement.aclose()
    assert native.standin.count("statements") == 1
    native.standin.release("gate")
    assert await task == 6
    await gone(native)
    with pytest.raises(StatementError, match="closed"):
        await statement.execute()


async def test_executions_that_never_end(native: Native) -> None:
    native.standin.parameters(INSERT, PARAMETERS)
    conn = await native.connect()
    tasks = []
    for _ in range(3):
        statement = await conn.prepare(f"{INSERT} /* never */")
        await statement.bind_tables(TABLES)
        tasks.append(asyncio.create_task(statement.execute()))
    await until(lambda: native.standin.count("held") == 3)
    tasks[0].cancel()
    await conn.close()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert all(isinstance(e, InterfaceError) and e.may_have_run for e in found[1:])
    await gone(native)


async def test_another_task_uses_the_statement(native: Native) -> None:
    native.standin.parameters(INSERT, PARAMETERS)
    conn = await native.connect()
    transport = conn._session.transport
    deadline = aiotaos.transport.base.Deadline(5)
    statement = await transport.prepare(f"{INSERT} /* hold=gate */", deadline, 1)
    shape = aiotaos.binding.Shape(statement.fields)
    (binding,) = shape.bind_tables(TABLES)
    await transport.bind(statement, binding, deadline)
    task = asyncio.create_task(transport.execute_statement(statement, 2, deadline))
    await waits(native)
    with pytest.raises(InterfaceError, match="another task"):
        await transport.bind(statement, binding, deadline)
    is_running = transport.still_running(2)
    assert is_running()
    native.standin.release("gate")
    assert await task == 6
    assert not is_running()
    transport.close_statement(statement)
    with pytest.raises(StatementError, match="closed"):
        await transport.bind(statement, binding, deadline)


async def test_cancelled_at_any_moment(either: Native) -> None:
    conn = await either.connect()
    chance = random.Random(5)
    cancelled = 0
    for _ in range(150):
        task = asyncio.create_task(write(conn))
        for _ in range(chance.randrange(12)):
            await asyncio.sleep(chance.choice([0, 0, 0.0001]))
        task.cancel()
        try:
            assert await task == 6
        except asyncio.CancelledError:
            cancelled += 1
    assert cancelled > 20
    await gone(either)
    assert await write(conn) == 6


# The end of the process.

ENDS = {
    "in the loop": """
        async def main():
            conn = await opened()
            for n in range(20):
                asyncio.ensure_future(conn.fetch("select * from t where a > ? /* never */", n))
            result = await conn.query("select * from t where a > ? /* rows=9 block=3 */", 1)
            await result.fetchone()
            statement = await conn.prepare("select * from t where a > ?")
            await asyncio.sleep(0.01)
            print("end", flush=True)
            sys.exit(0)

        asyncio.run(main())
    """,
    "the loop stands still": """
        sql = "select * from t where a > ? /* delay=30ms */"
        loop = asyncio.new_event_loop()
        conn = loop.run_until_complete(opened())
        tasks = [loop.create_task(conn.fetch(sql, n)) for n in range(50)]
        loop.run_until_complete(asyncio.sleep(0.01))
        print("end", flush=True)
    """,
    "the loop is closed": """
        async def main():
            conn = await opened()
            for n in range(200):
                sql = f"select * from t where a > ? /* delay={n % 20}ms */"
                asyncio.ensure_future(conn.fetch(sql, n))
            await asyncio.sleep(0.01)
            return conn

        conn = asyncio.run(main())
        time.sleep(0.03)
        print("end", flush=True)
    """,
    "closed in good order": """
        async def main():
            conn = await opened()
            task = asyncio.ensure_future(conn.fetch("select 1 where a > ? /* never */", 1))
            await asyncio.sleep(0.01)
            await conn.close()
            await asyncio.gather(task, return_exceptions=True)

        asyncio.run(main())
        print("end", flush=True)
    """,
}


@pytest.mark.parametrize("way", ENDS)
def test_the_end_of_the_process(standin: Standin, open_port: int, way: str) -> None:
    done = run(ENDS[way], f"taos://127.0.0.1:{open_port}?library_path={standin.path}")
    assert (done.stdout, done.returncode) == ("end\n", 0), done.stderr
    for word in ("Fatal", "Segmentation", "Exception ignored"):
        assert word not in done.stderr

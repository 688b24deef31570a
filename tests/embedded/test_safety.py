"""Users' SQL reaches DuckDB as names we made and parameters, never as text."""

from __future__ import annotations

import asyncio

import pytest

import aiotaos
from aiotaos.embedded.faults import Fault

NASTY = ["x'); drop table data1; --", 'a"b', "a`b", "$p0", "{x}", "%s", "';", "\\", "--", "/* */"]


@pytest.mark.parametrize("text", NASTY)
def test_texts_stay_texts(run, text):
    run("create stable s (ts timestamp, v varchar(64)) tags (g varchar(64))")
    written = text.replace("\\", "\\\\").replace("'", "''")
    run(f"insert into c using s tags ('{written}') values (1, '{written}')")
    assert run("select v, g from s") == [(text, text)]
    assert run(f"select '{written}', v = '{written}' from c") == [(text, True)]
    assert run(f"select count(*) from s where g = '{written}' and v in ('{written}')") == [(1,)]
    assert run(f"select concat(v, '{written}') from c") == [(text * 2,)]


@pytest.mark.parametrize("name", ["a b", 'a"b', "select", "tid", "c0", "x; drop table y", "ü"])
def test_names_stay_names(run, name):
    run(f"create table `{name}` (ts timestamp, `{name}` int)")
    run(f"insert into `{name}` (ts, `{name}`) values (1, 2)")
    assert run(f"select `{name}` as `{name}`, `{name}` from `{name}` order by `{name}`") == [(2, 2)]
    assert run("show tables") == [(name,)]
    assert run(f"drop table `{name}`") == 0


@pytest.mark.parametrize(
    "sql",
    [
        "select * from read_csv('/etc/passwd')",
        "select read_text('/etc/passwd')",
        "select * from '/etc/passwd'",
        "select * from duckdb_settings()",
        "select * from databases",
        "select * from data1",
        "select current_setting('threads')",
        "select getenv('HOME')",
        "copy t to '/tmp/x'",
        "attach '/tmp/x' as y",
        "install httpfs",
        "load httpfs",
        "pragma database_list",
        "set threads = 1",
        "export database '/tmp/x'",
        "call pragma_version()",
        "select 1; drop table t",
        "select 1 from t; select 2",
        "insert into t values (1, 1); drop table t",
        "select v from t where v = 1 or exists (select 1)",
        "select v from t where v in (select 1)",
        "with x as (select 1) select * from x",
        "select v::varchar from t",
        "select v from t tablesample 10%",
        "select v from t qualify true",
        "update t set v = 2",
        "truncate table t",
    ],
)
def test_duckdb_cannot_be_reached(run, sql):
    run("create table t (ts timestamp, v int)")
    run("insert into t values (1, 5)")
    with pytest.raises(Fault):
        run(sql)
    assert run("select v from t") == [(5,)]


@pytest.mark.parametrize(
    "setting", ["enable_external_access", "allow_community_extensions", "autoload_known_extensions"]
)
def test_duckdb_is_locked_down(engine, setting):
    cursor = engine.store.cursor()
    query = f"select current_setting('{setting}'), current_setting('lock_configuration')"
    assert cursor.execute(query).fetchone() == (False, True)
    engine.store.free(cursor)


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("select twa(v) from t", "twa()"),
        ("select interp(v) from t", "interp()"),
        ("select v & 1 from t", "operator &"),
        ("create user u pass 'p'", "CREATE USER"),
        ("create stream s into x as select 1", "CREATE STREAM"),
        ("show users", "SHOW USERS"),
        ("explain select 1", "EXPLAIN"),
        ("kill transaction 1", "KILL"),
        ("select * from t a full join t b on a.ts = b.ts", "JOIN"),
        ("select v from t where v in (1, 2.5)", "fraction"),
        ("select count(*) from t interval(1s) fill(value_f, 1)", "FILL(value_f)"),
        ("insert into t select ts, 1 from t", "INSERT … SELECT of other types"),
        ("insert into t file '/etc/passwd'", "INSERT … FILE"),
        ("select * from performance_schema.perf_apps", "perf_apps"),
        ("select * from information_schema.ins_tables where db_name = 'x'", "* of ins_tables"),
        ("select table_name from information_schema.ins_tables", "without db_name"),
    ],
)
def test_what_is_not_supported_is_named(run, sql, what):
    run("create table t (ts timestamp, v int)")
    with pytest.raises(Fault) as caught:
        run(sql)
    assert caught.value.code == 0x2600
    assert "not supported by the embedded server" in caught.value.message
    assert what in caught.value.message


def test_a_very_deep_statement_does_no_harm(run):
    with pytest.raises(Fault):
        run("select " + "(" * 5000 + "1" + ")" * 5000)
    assert run("select 1") == [(1,)]


@pytest.mark.parametrize(
    "statement",
    [
        "select '\udcff'",
        "insert into t values (1700000000009, 1, '\udcff')",
        "select " + "1" * 5000,
        "select * from t limit " + "9" * 5000,
        "insert into t values (" + "9" * 5000 + ", 1, 'a')",
        "insert into t values (now+99999999999999999999d, 1, 'a')",
        "insert into t values (9223372036854775807, 1, 'a')",
        "select * from t where s match '" + "a" * 40 + "('",
    ],
    ids=range(8),
)
async def test_odd_statements_fail_alone(statement):
    """One that is too odd is refused at once, and the session goes on."""
    async with aiotaos.connect("embedded:///odd") as conn:
        await conn.execute("create table t (ts timestamp, a int, s varchar(9))")
        with pytest.raises(aiotaos.DatabaseError) as raised:
            await conn.execute(statement, timeout=10)
        assert raised.value.code in (0x2600, 0x0216, 0x060B)
        assert await conn.fetchval("select 1") == 1


async def test_a_file_that_is_no_database(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("not a database, " * 1000)
    with pytest.raises(aiotaos.InterfaceError, match=r"notes\.txt' cannot be opened"):
        async with aiotaos.connect("embedded://", data=str(path)):
            pass


def test_terminate_outside_of_the_loop():
    """It must be harmless where nothing runs any more."""
    loop = asyncio.new_event_loop()
    conn = loop.run_until_complete(open_one())
    conn.terminate()
    loop.run_until_complete(asyncio.sleep(0))
    while pending := asyncio.all_tasks(loop):
        loop.run_until_complete(asyncio.gather(*pending))
    loop.close()
    conn.terminate()
    assert conn.closed


async def open_one():
    return await aiotaos.connect("embedded://")

"""The recorded answers of a real server's REST road, compared with this road's, type by type."""

from __future__ import annotations

import json
import math
import re
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aiotaos import Error, Field, TypeCode

RECORDED = Path(__file__).parents[1] / "data" / "conformance" / "tdengine-3.3.7.jsonl"
OWN_NAMES = re.compile(r"\b(conf|conf_us|conf_ns|t_query|t_stable|t_db)\b")
# Their answers hold what other users of the server made.
OF_THE_WHOLE_SERVER = ("show databases", "show topics")
# Their lengths are those of the database's name.
OF_OWN_LENGTH = ("select database()",)


@pytest.fixture
def names() -> dict[str, str]:
    """What databases and topics are called here instead."""
    part = secrets.token_hex(4)
    recorded = ("conf", "conf_us", "conf_ns", "t_query", "t_stable", "t_db")
    return {name: f"aiotaos_{part}_{name}" for name in recorded}


@pytest.fixture
async def tidy(connect: Any, names: dict[str, str]) -> AsyncIterator[None]:
    """Drops what the statements have made, also when they stop half-way."""
    yield
    conn = await connect()
    for name in ("t_query", "t_stable", "t_db"):
        await conn.execute(f"drop topic if exists {names[name]}")
    for name in ("conf", "conf_us", "conf_ns"):
        await conn.execute(f"drop database if exists {names[name]}")


def type_name(field: Field) -> str:
    if field.type in (TypeCode.DECIMAL, TypeCode.DECIMAL64):
        return field.type_name
    return field.type.sql_name


def equal(type: TypeCode, got: Any, recorded: Any) -> bool:
    if got is None or recorded is None:
        return got is recorded
    if type is TypeCode.FLOAT:
        return bool(np.float32(got) == np.float32(recorded))
    if type is TypeCode.DOUBLE:  # sums depend on the order of the rows
        return math.isclose(got, recorded, rel_tol=1e-12)
    return bool(got == recorded)


async def disagreement(
    conn: Any, line: dict[str, Any], names: dict[str, str], neutral_rows: Any
) -> str | None:
    """What is different from the recorded answer, None if nothing is."""
    sql = line["sql"]
    try:
        result = await conn.query(sql)
        rows = await result.fetchall()
    except Error as error:
        if (error.code, error.message) == (line["code"], line.get("desc")):
            return None
        return f"{error!r} instead of {line}"
    if line["code"]:
        return f"{rows} instead of code 0x{line['code']:04X}"
    if result.is_update:
        recorded = line["column_meta"][0][0], line["data"]
        got = "affected_rows", [[result.affected_rows]]
        return None if got == recorded else f"{got} instead of {recorded}"

    lengths = sql not in OF_OWN_LENGTH
    fields = [[field.name, type_name(field), field.length] for field in result.fields]
    wanted = line["column_meta"]
    if not lengths:
        fields, wanted = ([item[:2] for item in items] for items in (fields, wanted))
    if fields != wanted:
        return f"columns {fields} instead of {wanted}"

    types = [field.type for field in result.fields]
    got_rows = neutral_rows(rows, types, result.precision)
    recorded_rows = neutral_rows(line["data"], types, result.precision, json_text=False)
    if sql in OF_THE_WHOLE_SERVER:
        got_rows = [row for row in got_rows if row in recorded_rows]
    if "order by" not in sql:
        got_rows, recorded_rows = (sorted(rows, key=repr) for rows in (got_rows, recorded_rows))
    if len(got_rows) != len(recorded_rows):
        return f"{len(got_rows)} rows instead of {len(recorded_rows)}"
    for row, other in zip(got_rows, recorded_rows, strict=True):
        for type, value, wanted_value in zip(types, row, other, strict=True):
            if not equal(type, value, wanted_value):
                return f"{value!r} instead of {wanted_value!r} in {row}"
    return None


@pytest.mark.usefixtures("tidy")
@pytest.mark.parametrize("compression", [False, True])
async def test_recorded_statements(
    connect: Any, names: dict[str, str], neutral_rows: Any, compression: bool
) -> None:
    text = OWN_NAMES.sub(lambda match: names[match[0]], RECORDED.read_text("utf-8"))
    lines = [json.loads(line) for line in text.splitlines()]
    assert len(lines) == 155
    conn = await connect(timezone="UTC", timestamp="int", compression=compression)
    found = {}
    for number, line in enumerate(lines):
        different = await disagreement(conn, line, names, neutral_rows)
        if different is not None:
            found[number, line["sql"]] = different
    assert found == {}


@pytest.mark.parametrize("schema", ["information_schema", "performance_schema"])
async def test_every_system_table(connect: Any, schema: str) -> None:
    """Blocks must hold what the replies announce; these come from many parts of the server."""
    conn = await connect()
    tables = [row[0] for row in await conn.fetch(f"show {schema}.tables")]
    assert len(tables) >= 5
    refused = {}
    for table in tables:
        try:
            result = await conn.query(f"select * from {schema}.{table} limit 100")
            rows = await result.fetchall()
        except Error as error:
            refused[table] = error
        else:
            assert all(len(row) == len(result.fields) for row in rows)
    # A server may keep some to itself, or to its Enterprise edition, but not misdescribe one.
    assert all(error.code is not None for error in refused.values()), refused


@pytest.mark.parametrize(
    "sql",
    [
        "show databases",
        "show dnodes",
        "show mnodes",
        "show qnodes",
        "show vnodes",
        "show users",
        "show functions",
        "show connections",
        "show queries",
        "show topics",
        "show streams",
        "show subscriptions",
        "show consumers",
        "show transactions",
        "show cluster",
        "show licences",
        "show grants",
        "show apps",
        "show variables",
        "show local variables",
        "show dnode 1 variables",
        "show vgroups",
        "show tables",
        "show stables",
        "show create database {database}",
        "show create stable s",
        "show create table s1",
        "show table distributed s",
        "show tags from s1",
        "show table tags from s",
        "show indexes from s",
        "show alive",
        "show cluster alive",
        "show {database}.disk_info",
        "describe s",
        "desc s1",
        "explain select * from s",
        "explain analyze verbose true select count(*) from s group by tbname",
    ],
)
async def test_every_show(conn: Any, database: str, sql: str) -> None:
    await conn.execute("create stable s (ts timestamp, v int) tags (g int, n nchar(8))")
    await conn.execute("insert into s1 using s tags (1, 'é') values (1, 1) (2, 2)")
    result = await conn.query(sql.format(database=database))
    rows = await result.fetchall()
    assert result.fields
    assert all(len(row) == len(result.fields) for row in rows)


MIXED = [
    "select {a} from s1 union all select {b} from s2",
    "select case when g = 1 then {a} else {b} end from s",
    "select coalesce({a}, {b}) from s1",
    "select {a} + {b} from s1",
    "select max({a}), min({b}), last({a}), first({b}) from s group by tbname",
    "select _wstart, last({a}), max({b}) from s interval(2s)",
    "select a.{a}, b.{b} from s1 a left join s2 b on a.ts = b.ts",
    "select distinct {a}, {b}, null from s",
]


async def test_mixed_types(conn: Any) -> None:
    """Blocks must hold what the replies announce, also where the server converts types."""
    types = {
        "b": "bool",
        "i": "int",
        "u": "bigint unsigned",
        "f": "float",
        "d": "double",
        "v": "varchar(20)",
        "n": "nchar(20)",
        "y": "varbinary(20)",
        "p": "geometry(100)",
        "e": "decimal(10,3)",
        "h": "decimal(30,5)",
        "t": "timestamp",
    }
    columns = ", ".join(f"{name} {type}" for name, type in types.items())
    await conn.execute(f"create stable s (ts timestamp, {columns}) tags (g int)")
    values = r"true, 1, 2, 1.5, 2.5, '12', '34é', '\x3132', 'POINT(1 2)', 1.5, 2.5, 100"
    nulls = ", ".join(["null"] * len(types))
    for g in (1, 2):
        moments = " ".join(f"({1000 * moment}, {values})" for moment in range(g, g + 8))
        await conn.execute(
            f"insert into s{g} using s tags ({g}) values {moments} (100000, {nulls})"
        )
    read = 0
    refused: set[int | None] = set()
    for sql in MIXED:
        for a in types:
            for b in types:
                try:
                    result = await conn.query(sql.format(a=a, b=b))
                    rows = await result.fetchall()
                except Error as error:  # many of them are refused, as they should be
                    refused.add(error.code)
                else:
                    assert all(len(row) == len(result.fields) for row in rows)
                    read += len(rows)
    assert None not in refused, "an answer was not understood"
    assert read > 1000

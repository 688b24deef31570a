from __future__ import annotations

import pytest

import aiotaos
from aiotaos import DataError, StatementError, TableRows

START = 1709251200000
INSERT = "insert into ? using s tags (?) values (?, ?)"


@pytest.fixture
async def power(clean):
    async with aiotaos.connect("embedded:///power", timestamp=int) as conn:
        await conn.execute("create stable s (ts timestamp, v int) tags (location varchar(20))")
        yield conn


async def test_steps_of_the_official_clients(power):
    async with power.stmt2_statement() as stmt:
        await stmt.prepare(INSERT)
        for number, location in enumerate(["Oakland", "Fresno"]):
            await stmt.set_tbname(f"d{number}")
            await stmt.set_tags([location])
            await stmt.bind_param([[START, START + 1], [number, None]])
            await stmt.add_batch()
        assert await stmt.execute() == 4
        assert stmt.affect_rows() == 4
        await stmt.bind([TableRows([[START], [9]], "d4", ["Napa"])])
        assert await stmt.execute() == 1
    assert await power.fetch("select tbname, * from s order by tbname, ts") == [
        ("d0", START, 0, "Oakland"),
        ("d0", START + 1, None, "Oakland"),
        ("d1", START, 1, "Fresno"),
        ("d1", START + 1, None, "Fresno"),
        ("d4", START, 9, "Napa"),
    ]


@pytest.mark.parametrize("value", [[START], START], ids=["a column of one", "a value"])
async def test_query(power, value):
    await power.execute(INSERT, "d0", "Oakland", START, 7)
    stmt = power.statement()
    await stmt.prepare("select v from s where ts = ?")
    await stmt.bind_param([value])
    assert await stmt.execute() == 0
    result = await stmt.result_set()
    assert await result.fetchall() == [(7,)]
    await stmt.close()


async def test_misuse(power):
    stmt = power.statement()
    for call in (stmt.execute(), stmt.result_set(), stmt.set_tbname("d0"), stmt.add_batch()):
        with pytest.raises(StatementError, match="no statement is prepared"):
            await call
    await stmt.prepare(INSERT)
    with pytest.raises(StatementError, match="nothing is bound"):
        await stmt.add_batch()
    with pytest.raises(StatementError, match="no query was executed"):
        await stmt.result_set()
    await stmt.set_tbname("d0")
    await stmt.set_tags(["Oakland"])
    with pytest.raises(DataError, match="column 'v', row 0: 2147483648 is not a value of INT"):
        await stmt.bind_param([[START], [2**31]])
    with pytest.raises(StatementError, match="nothing is bound"):
        await stmt.execute()
    await stmt.close()
    await stmt.close()
    assert await power.fetchval("select count(*) from s") == 0

"""The official clients speak to the embedded server, and read what aiotaos reads.

They block, and taosws keeps the GIL while it waits: the server runs as a process of its own.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest

import aiotaos

taosws = pytest.importorskip("taosws")
taosrest = pytest.importorskip("taosrest")

SETUP = [
    "create database peers precision 'ms'",
    "create stable peers.m (ts timestamp, b bool, i int, big bigint unsigned, f float, d double, "
    "s varchar(20), n nchar(20)) tags (loc nchar(16), grp int)",
    "insert into peers.a using peers.m tags ('北京', 1) values "
    "(1709251200000, true, -2147483648, 18446744073709551615, 1.5, 0.1, 'it''s', '涛思 🚀') "
    "(1709251200001, null, null, null, null, null, null, null) "
    "peers.c using peers.m tags (null, null) values "
    "(1709251200002, false, 7, 0, -1.5, 1e300, '', '')",
]
QUERY = "select ts, b, i, big, f, d, s, n, loc, grp, tbname from peers.m order by ts"
EXPECTED = [
    (True, -2147483648, 18446744073709551615, 1.5, 0.1, "it's", "涛思 🚀", "北京", 1, "a"),
    (None, None, None, None, None, None, None, "北京", 1, "a"),
    (False, 7, 0, -1.5, 1e300, "", "", None, None, "c"),
]
TIMES = [datetime(2024, 3, 1, 0, 0, 0, ms * 1000, tzinfo=UTC) for ms in range(3)]


async def read(embedded_dsn: str) -> list[tuple[Any, ...]]:
    async with aiotaos.connect(embedded_dsn, timezone="UTC") as conn:
        return await conn.fetch(QUERY)


async def test_taosws(embedded_dsn: str) -> None:
    conn = taosws.connect(embedded_dsn)
    for sql, affected in zip(SETUP, [0, 0, 3], strict=True):
        assert conn.execute(sql) == affected
    theirs = [tuple(row) for row in conn.query(QUERY)]
    with pytest.raises(taosws.QueryError, match="0x2603"):
        conn.query("select * from peers.nosuch")
    conn.close()
    ours = await read(embedded_dsn)
    assert [row[1:] for row in theirs] == [row[1:] for row in ours] == EXPECTED
    assert [row[0] for row in ours] == TIMES
    assert [datetime.fromisoformat(row[0].replace(" +", "+")) for row in theirs] == TIMES


async def test_taosrest(embedded_dsn: str) -> None:
    parts = urlsplit(embedded_dsn)
    conn = taosrest.connect(url=f"http://{parts.hostname}:{parts.port}", timezone="UTC")
    for sql in SETUP:
        conn.query(sql)
    theirs = [tuple(row) for row in conn.query(QUERY).data]
    with pytest.raises(taosrest.errors.Error, match="Table does not exist"):
        conn.query("select * from peers.nosuch")
    conn.close()
    ours = await read(embedded_dsn)
    assert [row[1:] for row in theirs] == [row[1:] for row in ours] == EXPECTED
    assert [row[0] for row in theirs] == [row[0] for row in ours] == TIMES


async def test_what_aiotaos_wrote_the_others_read(embedded_dsn: str) -> None:
    async with aiotaos.connect(embedded_dsn, timezone="UTC") as conn:
        for sql in SETUP:
            await conn.execute(sql)
    theirs = taosws.connect(embedded_dsn)
    assert [tuple(row)[1:] for row in theirs.query(QUERY)] == EXPECTED
    theirs.close()

"""The roads to the real server: each gives the same values for the same statements as REST."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

import aiotaos
from aiotaos import AuthenticationError, Precision, ProtocolError, SchemalessProtocol, TypeCode
from tests.roads import ask, columns, compare
from tests.type_matrix import (
    COLUMNS,
    DIGITS,
    PRECISIONS,
    START,
    TAGS,
    TEXT,
    differences,
    write_all,
)

ZONES = ["America/New_York", "Europe/London", "Asia/Kolkata", "Australia/Lord_Howe", "UTC"]
TIMESTAMPS = ["datetime", "int", "datetime64"]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Both = Callable[..., Awaitable[tuple[Any, Any]]]
REST_ALONE = pytest.mark.parametrize("road", ["websocket"], indirect=True)
CHANGES = {
    "New York, March": datetime(2024, 3, 10, 7, tzinfo=UTC),
    "New York, November": datetime(2024, 11, 3, 6, tzinfo=UTC),
    "London, March": datetime(2024, 3, 31, 1, tzinfo=UTC),
    "London, October": datetime(2024, 10, 27, 1, tzinfo=UTC),
    "Lord Howe, April": datetime(2024, 4, 6, 15, tzinfo=UTC),
    "Kolkata, 1945": datetime(1945, 10, 14, 17, 30, tzinfo=UTC),
}


@pytest.fixture
async def both(dsn: str, rest_dsn: str) -> AsyncIterator[Both]:
    """Connections over the road of the test and over REST, with the same options."""
    async with AsyncExitStack() as stack:

        async def open_both(**options: Any) -> tuple[Any, Any]:
            one, other = [
                await stack.enter_async_context(aiotaos.connect(each, **options))
                for each in (dsn, rest_dsn)
            ]
            return one, other

        yield open_both


async def test_the_servers_own_words(both: Both, database: str) -> None:
    one, other = await both(database=database)
    assert other.server_version == one.server_version
    assert other.database == one.database == database
    assert other.endpoint.startswith("http")
    for sql in ("select server_version()", "select 1", "select 1, 'a', 1", "show databases"):
        await compare(one, other, sql)


@pytest.mark.parametrize("precision", PRECISIONS)
async def test_every_type_as_it_was_written(both: Both, make_database: Any, precision: str) -> None:
    one, other = await both(database=await make_database(precision), timestamp="int")
    expected = await write_all(other, precision)
    result = await other.query("select * from everything order by ts")
    assert result.precision.unit == precision
    for field, (name, column) in zip(result.fields[1:], COLUMNS.items(), strict=True):
        assert (field.name, field.type, field.length) == (
            name,
            column.field.type,
            column.field.length,
        )
        assert (field.precision, field.scale) == (column.field.precision, column.field.scale)
    assert differences(await result.fetchall(), expected, ["ts", *COLUMNS]) == []
    for row in expected:  # blocks of one row, some of them without any value
        sql = f"select * from everything where ts = {row[0]}"
        assert differences(await other.fetch(sql), [row], ["ts", *COLUMNS]) == []
        await compare(one, other, sql)


@pytest.mark.parametrize("timestamp", TIMESTAMPS)
@pytest.mark.parametrize("precision", PRECISIONS)
async def test_every_type(both: Both, make_database: Any, precision: str, timestamp: str) -> None:
    database = await make_database(precision)
    writer, _ = await both(database=database, timestamp="int")
    await write_all(writer, precision)
    one, other = await both(database=database, timestamp=timestamp, timezone="UTC")
    names = ", ".join(name for name in COLUMNS if name != "t" or timestamp != "datetime")
    answer = await compare(one, other, f"select ts, {names} from everything order by ts")
    assert answer.precision is Precision(PRECISIONS.index(precision))
    assert len(answer.rows) == 5
    for name in names.split(", "):
        await compare(one, other, f"select {name} from everything order by ts")
        if name != "x":  # TDengine does not compare a BLOB
            await compare(one, other, f"select {name} from everything where {name} is null")
    await compare(one, other, f"select {names} from everything where ts < 0")
    await compare(
        one,
        other,
        "select count(*), sum(i4), avg(f8), max(d38), first(ts), last(ts) from everything",
    )


@pytest.mark.parametrize("precision", PRECISIONS)
async def test_tags_of_every_type(both: Both, make_database: Any, precision: str) -> None:
    one, other = await both(database=await make_database(precision), timestamp="int")
    await one.execute(
        "create stable s (ts timestamp, v int) tags ("
        + ", ".join(f"{name} {COLUMNS[name].sql}" for name in TAGS)
        + ")"
    )
    for row, kind in enumerate(["low", "high", "usual", "empty"]):
        literals = ", ".join(getattr(COLUMNS[name], kind)[0] for name in TAGS)
        sql = f"insert into s{row} using s tags ({literals}) values (now, {row})"
        assert await other.execute(sql) == 1
    nulls = ", ".join(["null"] * len(TAGS))
    await other.execute(f"insert into s4 using s tags ({nulls}) values (now, 4)")
    answer = await compare(one, other, f"select v, tbname, {', '.join(TAGS)} from s order by v")
    assert len(answer.rows) == 5


async def test_json_tags(both: Both, database: str) -> None:
    one, other = await both(database=database)
    await one.execute("create stable j (ts timestamp, v int) tags (info json)")
    documents = [
        '{"name": "],[", "rpm": 1500.5, "on": true, "nested": null}',
        '{"name": "' + TEXT + '"}',
        "{}",
    ]
    for row, document in enumerate(documents):
        await other.execute(f"insert into j{row} using j tags ('{document}') values ({row}, {row})")
    await other.execute("insert into j9 using j tags (null) values (9, 9)")
    await compare(one, other, "select v, info from j order by v")
    sql = "select v, info, info->'name', info->'rpm', info->'on' from j order by v"
    found = []
    for conn in (one, other):
        result = await conn.query(sql)
        assert [field.type for field in result.fields[1:]] == [TypeCode.JSON] * 4
        found.append(
            [
                (v, *(None if text is None else json.loads(text) for text in texts))
                async for v, *texts in result
            ]
        )
    assert found[1] == found[0]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("zone", ZONES)
async def test_time_zones(both: Both, make_database: Any, zone: str, precision: str) -> None:
    """Instants around changes of the clock, with fractions."""
    database = await make_database(precision)
    writer, _ = await both(database=database)
    second = 10 ** DIGITS[precision]
    await writer.execute("create table t (ts timestamp, v timestamp)")
    moments = [
        (change - EPOCH) // timedelta(seconds=1) * second + step * 900 * second + step
        for change in CHANGES.values()
        for step in range(-9, 10)
    ]
    values = " ".join(f"({START * second + n}, {tick})" for n, tick in enumerate(moments))
    assert await writer.execute(f"insert into t values {values}") == len(moments)
    for timestamp in TIMESTAMPS:
        one, other = await both(database=database, timezone=zone, timestamp=timestamp)
        await compare(one, other, "select v from t order by ts")
        found = [v for (v,) in await other.fetch("select v from t order by ts")]
        if timestamp == "datetime64":
            assert found == [np.datetime64(tick, precision) for tick in moments]
        elif timestamp == "int" or precision == "ns":
            assert found == moments
        else:
            micro = timedelta(microseconds=1 if precision == "us" else 1000)
            wanted = [(EPOCH + tick * micro).astimezone(ZoneInfo(zone)) for tick in moments]
            assert [repr((v, v.fold)) for v in found] == [repr((v, v.fold)) for v in wanted]


@pytest.mark.parametrize("zone", ZONES)
async def test_texts_are_of_the_zone(both: Both, database: str, zone: str) -> None:
    one, other = await both(database=database, timezone=zone)
    await other.execute("create table t (ts timestamp, v timestamp)")
    await other.execute(
        "insert into t values ('2024-01-15 10:20:30.5', '2024-07-15 10:20:30.5') "
        "('2024-01-15T10:20:31Z', '2024-07-15T10:20:31+05:30')"
    )
    await compare(one, other, "select * from t order by ts")
    tz = ZoneInfo(zone)
    own = (
        datetime(2024, 1, 15, 10, 20, 30, 500_000, tz),
        datetime(2024, 7, 15, 10, 20, 30, 500_000, tz),
    )
    assert own in await other.fetch("select * from t")
    assert await other.fetch("select ts from t where v = ?", own[1]) == [(own[0],)]
    await other.set_timezone("Asia/Tokyo")
    found = await other.fetch("select ts from t where v = ?", own[1])
    assert found == [(own[0],)]
    assert found[0][0].tzinfo == ZoneInfo("Asia/Tokyo")


@pytest.mark.parametrize("precision", ["ms", "us"])
@pytest.mark.parametrize("zone", ZONES)
async def test_old_instants(both: Both, make_database: Any, zone: str, precision: str) -> None:
    """Offsets had seconds then, which RFC 3339 cannot write."""
    database = await make_database(precision)
    writer, _ = await both(database=database)
    await writer.execute("create table t (ts timestamp, v timestamp)")
    moments = [
        datetime(1700, 1, 1, tzinfo=UTC),
        datetime(1883, 11, 18, 16, 59, 59, tzinfo=UTC),
        datetime(1, 1, 2, tzinfo=UTC),
        datetime(9999, 12, 30, 23, 59, 59, 999000, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999000, tzinfo=UTC),
    ]
    per_second = 10 ** DIGITS[precision]
    for row, moment in enumerate(moments):
        tick = (moment - EPOCH) // timedelta(seconds=1) * per_second
        tick += moment.microsecond * per_second // 1_000_000
        await writer.execute(f"insert into t values ({START * per_second + row}, {tick})")
    one, other = await both(database=database, timezone=zone)
    await compare(one, other, "select v from t order by ts")
    found = await other.fetch("select v from t order by ts")
    assert [v.astimezone(UTC) for (v,) in found] == moments


async def test_many_rows(both: Both, database: str, numbers: Any) -> None:
    writer, _ = await both(database=database)
    count = 30_000
    await numbers(writer, "t", count)
    for options in ({}, {"read_buffer_size": 5000}, {"compression": True}):
        one, _ = await both(database=database, timestamp="int")
        _, other = await both(database=database, timestamp="int", **options)
        answer = await ask(one, "select * from t order by ts")
        assert await ask(other, "select * from t order by ts") == answer
        assert await columns(other, "select * from t") == await columns(one, "select * from t")
        assert answer.row_count == count


@pytest.mark.parametrize("sql", ["/* to */ use -- now\n {}", "use`{}`", "USE {};", " use\t`{}` "])
async def test_forms_of_use(both: Both, database: str, sql: str) -> None:
    for conn in await both():
        await conn.execute(sql.format(database))
        assert conn.database == database
        await conn.execute("create table if not exists t (ts timestamp, v int)")


async def test_texts(both: Both, database: str) -> None:
    """In which the signs of JSON stand for nothing; and names that the server cuts."""
    one, other = await both(database=database)
    texts = [
        *("],[", '"data":[', '\\"', "ends with \\", "}", "]]", '"rows":3}', "\n\r\t", TEXT),
        *("'", '"', "\\\\", "]" * 40, "\x01\x1f\x7f", "\u2028"),
    ]
    await one.execute("create table t (ts timestamp, v int, s varchar(200), n nchar(50))")
    rows = [(n, n, text, text) for n, text in enumerate(texts)]
    assert await other.executemany("insert into t values (?, ?, ?, ?)", rows) == len(rows)
    await compare(one, other, "select v, s, n from t order by v")
    assert await other.fetch("select v, s, n from t order by v") == [row[1:] for row in rows]
    for text in texts:
        assert (text,) in await other.fetch("select s from t where s = ?", text)


async def test_varchar_that_is_no_utf8(both: Both) -> None:
    """The server cuts bytes."""
    one, other = await both()
    sql = "select cast('é🚀' as varchar(4)) as s, cast('涛思' as varchar(4)) as t"
    await compare(one, other, sql)
    row = await other.fetchrow(sql)
    assert [text.encode("utf-8", "surrogateescape") for text in row] == [
        "é🚀".encode()[:4],
        "涛思".encode()[:4],
    ]


@pytest.mark.parametrize("shift", ["", "a", "ab"])
async def test_names_that_the_server_cuts(both: Both, shift: str) -> None:
    """After 64 bytes, also in the middle of a character."""
    text = shift + "涛思" * 14
    for conn in await both():
        result = await conn.query(f"select '{text}'")
        assert result.fields[0].name.startswith(f"'{shift}涛思涛思")
        assert await result.fetchall() == [(text,)]


async def test_what_is_no_number(both: Both, database: str) -> None:
    """NaN is NULL on either road; where infinity is among the rows, REST has an empty body."""
    one, other = await both(database=database)
    await one.execute("create table t (ts timestamp, d double)")
    await one.execute("insert into t values (1, 2) (2, -4)")
    answer = await compare(one, other, "select d / 0, sqrt(d), -0.0 * d from t order by ts")
    assert answer.rows[1].startswith("(None, None, ")
    with pytest.raises(ProtocolError) as raised:
        await other.fetch("select d * 1e308 * 10 from t")
    assert raised.value.http_status == 200
    assert await other.fetchval("select 1") == 1


@pytest.mark.parametrize(
    "sql",
    [
        "selec",
        "select * from nosuch.t",
        "select * from t",
        "use nosuch",
        "drop database nosuch",
        "insert into nosuch.t values (1, 1)",
        "create user root pass 'x'",
    ],
)
async def test_refusals(both: Both, sql: str) -> None:
    errors = []
    for conn in await both():
        with pytest.raises(aiotaos.Error) as raised:
            await conn.execute(sql, req_id=5)
        error = raised.value
        errors.append((type(error), error.code, error.sql, error.req_id))
        assert await conn.fetchval("select 1") == 1
    assert errors[1] == errors[0]


@pytest.mark.parametrize("rest_auth", ["basic", "taosd"])
async def test_logins(rest_dsn: str, rest_auth: str) -> None:
    async with aiotaos.connect(rest_dsn, rest_auth=rest_auth, compression=True) as conn:
        assert await conn.fetchval("select 1") == 1
    for options in ({"password": "wrong"}, {"user": "nosuch", "password": "bad"}):
        with pytest.raises(AuthenticationError) as raised:
            await aiotaos.connect(rest_dsn, rest_auth=rest_auth, **options)
        assert raised.value.code in (3, 0x0351, 0x0357)
    with pytest.raises(aiotaos.ProgrammingError) as missing:
        await aiotaos.connect(rest_dsn, rest_auth=rest_auth, database="nosuch")
    assert missing.value.code == 0x0388


@REST_ALONE
async def test_writes(both: Both, database: str) -> None:
    _, conn = await both(database=database, timezone="America/New_York", compression=True)
    await conn.execute(
        "create table t (ts timestamp, b bool, i bigint, f double, s varchar(50), n nchar(50), "
        "vb varbinary(50), d decimal(20,4))"
    )
    base = datetime(2024, 11, 3, 1, 30, 0, 123000, ZoneInfo("America/New_York"), fold=1)
    row = (base, True, -(2**62), 0.1, "'\"\\\n\t?涛", "🚀'", b"\0\xff'", Decimal("-12.3400"))
    assert await conn.execute("insert into t values (?, ?, ?, ?, ?, ?, ?, ?)", *row) == 1
    assert await conn.fetch("select * from t") == [row]
    rows = [
        (base + timedelta(milliseconds=n), n % 2 == 0, n, n / 7, f"text {n}'", None, b"", None)
        for n in range(1, 20_000)
    ]
    sql = "insert into t values (?, ?, ?, ?, ?, ?, ?, ?)"
    assert await conn.executemany(sql, rows) == len(rows)
    assert await conn.fetch("select * from t where i > 0 order by i") == rows


@REST_ALONE
@pytest.mark.parametrize("rest_auth", ["basic", "taosd"])
async def test_lines(rest_dsn: str, database: str, rest_auth: str) -> None:
    async with aiotaos.connect(
        rest_dsn, database=database, rest_auth=rest_auth, timezone="UTC", user_app="tests"
    ) as conn:
        base = START * 1000
        text = f'm,host=a v=1.5,s="涛" {base}\nm,host=b v=2.5 {base + 1}'
        assert await conn.schemaless_insert(text, SchemalessProtocol.LINE, "ms", ttl=3) == 2
        text = f"u,host=a v=1 {START * 10**6 + 7000}"
        assert await conn.schemaless_insert(text, SchemalessProtocol.LINE, "us") == 1
        telnet = f"telnet {START} 1 host=a\ntelnet {START + 1} 2 host=b"
        assert await conn.schemaless_insert(telnet, SchemalessProtocol.TELNET) == 2
        document = f'[{{"metric":"j","timestamp":{START},"value":1,"tags":{{"host":"a"}}}}]'
        assert await conn.schemaless_insert(document, SchemalessProtocol.JSON) == 1
        for protocol in SchemalessProtocol:
            with pytest.raises(aiotaos.SchemalessError) as raised:
                await conn.schemaless_insert("broken", protocol)
            assert raised.value.code is not None
            assert raised.value.http_status == 500
        assert await conn.fetch("select v, s, `host` from m order by _ts") == [
            (1.5, "涛", "a"),
            (2.5, None, "b"),
        ]
        assert await conn.fetch("select cast(_ts as bigint) from u") == [(base + 7,)]
        assert await conn.fetchval("select count(*) from telnet") == 2
        assert await conn.fetchval("select count(*) from j") == 1


@REST_ALONE
async def test_a_pool(rest_dsn: str, database: str) -> None:
    async with aiotaos.create_pool(rest_dsn, max_size=4, database=database) as pool:
        await pool.execute("create table t (ts timestamp, v int)")
        for n in range(20):
            assert await pool.execute(f"insert into t values ({START * 1000 + n}, {n})") == 1
        assert await pool.fetch("select v from t order by ts") == [(n,) for n in range(20)]


@REST_ALONE
async def test_a_query_that_is_given_up(rest_dsn: str, slow: Any) -> None:
    """It is stopped on the server, and the connection goes on."""
    database = slow._conn.database
    async with aiotaos.connect(rest_dsn, database=database, cancel="kill") as conn:
        req_id = slow.req_id()
        with pytest.raises(aiotaos.TimeoutError):
            await conn.fetch(slow.sql, req_id=req_id, timeout=3)
        assert await conn.fetchval("select 1") == 1

        async def is_gone() -> bool:
            return await slow.found(req_id) is None

        await slow._until(is_gone, seconds=15)
        slow.forget(req_id)

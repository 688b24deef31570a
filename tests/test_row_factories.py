"""What rows are."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import pytest

from aiotaos import (
    Field,
    InterfaceError,
    TypeCode,
    class_row,
    connect,
    dict_row,
    namedtuple_row,
    tuple_row,
)

FIELDS = (Field("id", TypeCode.INT, 4), Field("name", TypeCode.VARCHAR, 20))


@dataclass
class Plain:
    id: int
    name: str | None
    note: str = "none"
    made: str = field(init=False, default="so")


@dataclass(frozen=True, slots=True)
class Frozen:
    id: int
    name: str | None


class Struct(msgspec.Struct):
    id: int
    name: str | None
    note: str = "none"


class Keywords:
    def __init__(self, **values):
        self.values = values


@pytest.fixture
async def named(server):
    server.rows("rows", FIELDS, [[1, 2], ["a", None]], [[3], ["涛"]])
    async with connect(server.dsn) as conn:
        yield conn


VALUES = [(1, "a"), (2, None), (3, "涛")]


async def test_tuples_are_the_default(named):
    rows = await named.fetch("rows")
    assert rows == VALUES
    assert {type(row) for row in rows} == {tuple}
    assert await named.fetch("rows", row_factory=tuple_row) == VALUES
    assert tuple_row(FIELDS)([1, "a"]) == (1, "a")


@pytest.mark.parametrize(
    ("factory", "make"),
    [
        (dict_row, lambda *values: dict(zip(("id", "name"), values, strict=True))),
        (class_row(Plain), Plain),
        (class_row(Frozen), Frozen),
        (class_row(Struct), Struct),
        (
            lambda fields: lambda values: [*(field.name for field in fields), *values],
            lambda *values: ["id", "name", *values],
        ),
    ],
    ids=["dict", "dataclass", "frozen", "struct", "own"],
)
async def test_rows_of_every_call(server, named, factory, make):
    expected = [make(*values) for values in VALUES]
    assert await named.fetch("rows", row_factory=factory) == expected
    assert await named.fetchrow("rows", row_factory=factory) == expected[0]
    result = await named.query("rows", row_factory=factory)
    assert await result.fetchone() == expected[0]
    assert await result.fetchmany(5) == expected[1:]
    assert [row async for row in await named.query("rows", row_factory=factory)] == expected
    async with named.cursor(row_factory=factory) as cursor:
        await cursor.execute("rows")
        assert await cursor.fetchall() == expected
    async with connect(server.dsn, row_factory=factory) as conn:
        assert conn.row_factory is factory
        assert await conn.fetch("rows") == expected
        assert await conn.fetch("rows", row_factory=tuple_row) == VALUES
        assert await conn.fetchval("rows", column=1) == "a"
        blocks = [block async for block in (await conn.query("rows")).blocks()]
        assert [row for block in blocks for row in block] == VALUES


async def test_a_class_that_takes_keywords(named):
    rows = await named.fetch("rows", row_factory=class_row(Keywords))
    assert [row.values for row in rows] == [
        dict(zip(("id", "name"), v, strict=True)) for v in VALUES
    ]


async def test_named_tuples(named):
    rows = await named.fetch("rows", row_factory=namedtuple_row)
    assert rows == VALUES
    assert [(row.id, row.name) for row in rows] == VALUES
    assert type(rows[0]) is type(rows[2])
    assert repr(rows[0]) == "Row(id=1, name='a')"


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        (["count(*)"], ("count_",)),
        (["_wstart", "_wend"], ("f_wstart", "f_wend")),
        (["1", "2nd"], ("f1", "f2nd")),
        (["a", "a", "b"], ("a", "_1", "b")),
        (["class", "def"], ("_0", "_1")),
        (["温度", "naïve"], ("温度", "naïve")),
        (["last(ts)", "info->'name'", ""], ("last_ts_", "info_name_", "_2")),
        (["+", "-"], ("f_", "_1")),
    ],
)
def test_names_of_named_tuples(columns, names):
    make = namedtuple_row([Field(name, TypeCode.INT, 4) for name in columns])
    row = make(tuple(range(len(columns))))
    assert row == tuple(range(len(columns)))
    assert row._fields == names


def test_duplicate_names_in_dicts():
    """The last wins."""
    make = dict_row([Field(name, TypeCode.INT, 4) for name in ("a", "b", "a")])
    assert make((1, 2, 3)) == {"a": 3, "b": 2}


@pytest.mark.parametrize("cls", [Plain, Struct])
def test_duplicate_names_in_objects(cls):
    make = class_row(cls)([Field(name, TypeCode.INT, 4) for name in ("id", "name", "id")])
    assert make((1, "a", 3)) == cls(3, "a")


@pytest.mark.parametrize("cls", [Plain, Frozen, Struct])
async def test_a_column_without_a_field(server, named, cls):
    fields = [*FIELDS, Field("count(*)", TypeCode.BIGINT, 8)]
    server.rows("more", fields, [[1], ["a"], [2]])
    for call in (named.query, named.fetch, named.fetchrow):
        with pytest.raises(InterfaceError) as raised:
            await call("more", row_factory=class_row(cls))
        assert raised.value.message == (
            f"class_row({cls.__name__}): no field for column 'count(*)'; "
            "name it with `as` in the statement, or select fewer columns"
        )
    await server.until(lambda: server.session.freed == ["more"] * 3)
    assert await named.fetchval("select 1") == 1


def test_a_field_that_is_not_for_the_constructor():
    with pytest.raises(InterfaceError, match="no field for column 'made'"):
        class_row(Plain)([Field("made", TypeCode.INT, 4)])


@pytest.mark.parametrize("cls", [Plain, Struct])
async def test_a_field_without_a_column(server, named, cls):
    server.rows(
        "fewer",
        FIELDS[:1],
        [
            [1],
        ],
        [[2]],
    )
    with pytest.raises(InterfaceError, match="no column for field"):
        await named.fetch("fewer", row_factory=class_row(cls))
    await server.until(lambda: server.session.freed == ["fewer"])
    assert await named.fetchval("select 1") == 1


async def test_a_factory_that_fails(server, named):
    def factory(fields):
        raise ZeroDivisionError

    for call in (named.query, named.fetch, named.fetchrow):
        with pytest.raises(ZeroDivisionError):
            await call("rows", row_factory=factory)
    await server.until(lambda: server.session.freed == ["rows"] * 3)


async def test_a_maker_that_fails(server, named):
    def factory(fields):
        return lambda values: 1 // (values[0] - 3)

    result = await named.query("rows", row_factory=factory)
    assert await result.fetchmany(2) == [-1, -1]
    with pytest.raises(ZeroDivisionError):
        await result.fetchone()
    assert result.closed
    server.rows("begin", FIELDS, [[3], ["x"]], [[4], ["x"]])
    with pytest.raises(ZeroDivisionError):
        await named.fetch("begin", row_factory=factory)
    await server.until(lambda: "begin" in server.session.freed)
    assert await named.fetchval("select 1") == 1


def test_class_row_needs_a_column_for_each_field_without_default():
    @dataclass
    class Point:
        ts: int
        v: int = 0

    class Reading(msgspec.Struct):
        ts: int
        v: int = 0

    fields = [Field("v", TypeCode.INT, 4)]
    for cls in (Point, Reading):
        with pytest.raises(InterfaceError, match="no column for field 'ts'"):
            class_row(cls)(fields)


async def test_a_factory_that_raises_stop_iteration(named):
    """It ends nothing silently."""

    def factory(fields):
        def make(values):
            if values[0] == 2:
                raise StopIteration
            return values

        return make

    with pytest.raises(RuntimeError, match="StopIteration"):
        await named.fetch("rows", row_factory=factory)
    assert await named.fetch("rows") == VALUES

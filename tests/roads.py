"""The same questions over two roads, and whether the answers are the same."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from aiotaos import Connection, Precision, TypeCode, dict_row
from aiotaos.protocol.block import DTYPES


class Answer(NamedTuple):
    """All that a result tells; values as texts, in which 1 is not True and 0.0 is not -0.0."""

    fields: tuple[Any, ...]
    precision: Precision | None
    is_update: bool
    affected_rows: int
    row_count: int | None
    rows: list[str]


async def ask(conn: Connection[Any], sql: str, *params: Any) -> Answer:
    result = await conn.query(sql, *params)
    rows = [row async for row in result]
    told = [index for index, field in enumerate(result.fields) if field.type is TypeCode.TIMESTAMP]
    has_instants = any(row[index] is not None for row in rows for index in told)
    return Answer(
        result.fields,
        result.precision if has_instants else None,  # REST has nothing else to tell it by
        result.is_update,
        result.affected_rows,
        result.row_count,
        list(map(repr, rows)),
    )


class Column(NamedTuple):
    """A column of all blocks of a result; NULLs have the value 0."""

    type: TypeCode
    dtype: str
    values: list[Any]
    nulls: list[bool]


async def columns(conn: Connection[Any], sql: str) -> tuple[list[Column], list[str]]:
    """The columns of a result, and the rows that its blocks make of them."""
    result = await conn.query(sql)
    blocks = [block async for block in result.blocks()]
    found = []
    for index, field in enumerate(result.fields):
        parts = [block.columns[index] for block in blocks]
        masks = [
            np.zeros(len(part), np.bool_) if part.nulls is None else np.asarray(part.nulls)
            for part in parts
        ]
        assert all(part.nulls is None or part.nulls.any() for part in parts)
        assert all(mask.shape == (len(part),) for mask, part in zip(masks, parts, strict=True))
        nulls = [bool(null) for mask in masks for null in mask]
        values: list[Any] = []
        dtype = ""
        if field.type in DTYPES and field.type is not TypeCode.NULL:
            arrays = [part.values for part in parts]
            (dtype,) = {str(array.dtype) for array in arrays}
            joined = np.concatenate(arrays)
            joined = joined.copy()
            joined[nulls] = np.zeros((), joined.dtype)
            values = list(map(repr, joined.tolist()))
        found.append(Column(parts[0].type, dtype, values, nulls))
    return found, [repr(row) for block in blocks for row in block.rows()]


def difference(mine: Any, theirs: Any, where: str = "") -> str | None:
    """The first place in which two answers differ; None if they are the same."""
    if isinstance(mine, (list, tuple)) and isinstance(theirs, type(mine)):
        if len(mine) != len(theirs):
            return f"{where}: {len(mine)} and not {len(theirs)}: {mine!r:.300}; {theirs!r:.300}"
        names = getattr(mine, "_fields", range(len(mine)))
        found = (
            difference(one, other, f"{where}.{name}")
            for name, one, other in zip(names, mine, theirs, strict=True)
        )
        return next((text for text in found if text is not None), None)
    return None if mine == theirs else f"{where}: {mine!r} and not {theirs!r}"


async def compare(one: Connection[Any], other: Connection[Any], sql: str) -> Answer:
    """Assert that both roads tell the same of a statement, in every form; returns it."""
    first, second = await ask(one, sql), await ask(other, sql)
    assert difference(second, first) is None, difference(second, first)
    rows = await one.fetch(sql)
    assert list(map(repr, await other.fetch(sql))) == list(map(repr, rows)) == first.rows
    assert repr(await other.fetchrow(sql)) == repr(await one.fetchrow(sql))
    names = [await conn.fetch(sql, row_factory=dict_row) for conn in (one, other)]
    assert list(map(repr, names[1])) == list(map(repr, names[0]))
    described = []
    for conn in (one, other):
        async with conn.cursor() as cursor:
            await cursor.execute(sql)
            described.append((cursor.description, list(map(repr, await cursor.fetchall()))))
    assert described[1] == described[0]
    if rows:
        first_columns, first_rows = await columns(one, sql)
        second_columns, second_rows = await columns(other, sql)
        assert second_rows == first_rows == first.rows
        assert difference(second_columns, first_columns) is None, difference(
            second_columns, first_columns
        )
    return first

"""Statements in order, with the answers of a real TDengine 3.3.7 beside ours."""

from __future__ import annotations

import json
from typing import Any

REFUSED = {
    "select apercentile(voltage, 50) from meters",
    "select twa(voltage) from d1001",
    "select hyperloglog(voltage) from meters",
}
UNORDERED = {"show table tags from meters", "show topics"}
UNSUPPORTED = "not supported by the embedded server"


def by_text(rows: list[list[Any]]) -> list[list[Any]]:
    return sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))


async def test_statements_answer_as_tdengine(rest, recorded, same):
    refused, wrong = set(), []
    for want in recorded("tdengine-3.3.7.jsonl"):
        sql = want["sql"]
        got = await rest(sql, want["db"], tz="UTC")
        if UNSUPPORTED in got.get("desc", ""):
            assert got["code"] == 0x2600
            refused.add(sql)
            continue
        if sql in UNORDERED:
            got["data"], want["data"] = by_text(got["data"]), by_text(want["data"])
        keys = ("http", "code", "desc", "column_meta", "data", "rows")
        if not all(same(got.get(key), want.get(key)) for key in keys):
            wrong.append((sql, {key: got.get(key) for key in keys}))
    assert wrong == []
    assert refused == REFUSED


async def test_query_shapes_answer_as_tdengine(rest, recorded, same):
    """Each line says itself whether its order is free, and whether it is refused here."""
    wrong = []
    for want in recorded("tdengine-3.3.7-shapes.jsonl"):
        sql, kind = want["sql"], want.get("embedded", "exact")
        zone = {"conn_tz": want["tz"]} if want["tz"] else {}
        got = await rest(sql, "emb", **zone)
        if kind == "refused":
            if UNSUPPORTED not in got.get("desc", ""):
                wrong.append((sql, "is not refused any more", got))
            continue
        if kind == "unordered":
            got["data"], want["data"] = by_text(got["data"]), by_text(want["data"])
        keys = ("code", "desc", "column_meta", "data")
        if not all(same(got.get(key), want.get(key)) for key in keys):
            wrong.append((sql, {key: got.get(key) for key in keys}))
    assert wrong == []

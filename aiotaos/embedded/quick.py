"""Whole columns of plain values at once; what is not plain is left to :mod:`.literals`."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC

import numpy as np

from ..types import TypeCode
from .columns import FLOATS, INTEGERS, TEXTS, Column
from .literals import INTEGER_RANGES, Clock

_TIME = re.compile(r"'\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d{1,9})?'", re.ASCII)
_NULLS = frozenset({"null", "NULL"})
_BOOLS = {"true": True, "false": False, "TRUE": True, "FALSE": False}
_FLOAT_LIMIT = 3.4e38


def quick_values(column: Column, tokens: list[str], clock: Clock) -> Sequence[object] | None:
    """Convert values as written; None if they are not all plain, or not all good."""
    try:
        if _NULLS.isdisjoint(tokens):
            return _plain(column, tokens, clock)
        present = [token for token in tokens if token not in _NULLS]
        values = iter(_plain(column, present, clock) or ()) if present else iter(())
        return [None if token in _NULLS else next(values) for token in tokens]
    except (ValueError, KeyError, StopIteration):
        return None


def _plain(column: Column, tokens: list[str], clock: Clock) -> Sequence[object] | None:
    code = column.type.code
    if code in TEXTS:
        return _texts(column, tokens)
    if code is TypeCode.BOOL:
        return [_BOOLS[token] for token in tokens]
    if code is TypeCode.TIMESTAMP and tokens[0][0] == "'":
        return _times(tokens, clock)
    if "_" in "".join(tokens):  # Python reads 1_000 as a number, TDengine does not
        return None
    if code in INTEGERS or code is TypeCode.TIMESTAMP:
        low, high = INTEGER_RANGES.get(code, INTEGER_RANGES[TypeCode.BIGINT])
        integers = list(map(int, tokens))
        return integers if low <= min(integers) and max(integers) <= high else None
    if code in FLOATS:
        floats = list(map(float, tokens))
        limit = _FLOAT_LIMIT if code is TypeCode.FLOAT else math.inf
        within = -limit < min(floats) and max(floats) < limit
        return floats if within and not math.isnan(sum(floats)) else None
    return None


def _texts(column: Column, tokens: list[str]) -> Sequence[object] | None:
    joined = "".join(tokens)
    plain = joined.isascii() and "\\" not in joined and joined.count("'") == 2 * len(tokens)
    if not plain or any(token[0] != "'" for token in tokens):
        return None
    texts = [token[1:-1] for token in tokens]
    return texts if max(map(len, texts)) <= column.type.length else None


def _times(tokens: list[str], clock: Clock) -> Sequence[object] | None:
    if clock.zone is not UTC or not all(map(_TIME.fullmatch, tokens)):
        return None
    texts = [token[1:-1] for token in tokens]
    moments = np.array(texts, dtype=f"datetime64[{clock.precision.unit}]")
    return [int(tick) for tick in moments.astype("i8")]

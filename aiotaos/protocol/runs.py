"""Texts that repeat from row to row, as those of a tag do: found without decoding them."""

from __future__ import annotations

from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Bytes: TypeAlias = npt.NDArray[np.uint8]
Places: TypeAlias = npt.NDArray[np.int64]

_PREFIX = 2  # bytes before each value of a text column
_ROWS_PER_RUN = 8  # with fewer it does not pay
_PROBES = 16


def is_contiguous(starts: Places, ends: Places) -> bool:
    """Whether values stand one behind the other, each behind its length prefix."""
    return bool((starts[1:] == ends[:-1] + _PREFIX).all())


def find_runs(data: Bytes, starts: Places, ends: Places) -> list[int] | None:
    """Where values begin that are not like the one before, if most are.

    Args:
        data: The column's bytes, in which the values are contiguous.
        starts: Where each begins, behind its prefix.
        ends: Where it ends.

    Returns:
        Indexes, the first of which is 0; None if there are so many that it saves nothing.
    """
    if not _seem_repeated(data, starts, ends):
        return None
    sizes = ends - starts
    few = len(sizes) // _ROWS_PER_RUN
    changes = np.flatnonzero(sizes[1:] != sizes[:-1]) + 1
    if len(changes) >= few:
        return None
    firsts: list[int] = []
    for start, stop in pairwise([0, *changes.tolist(), len(sizes)]):
        size = int(sizes[start]) + _PREFIX
        same_size = data[starts[start] - _PREFIX : ends[stop - 1]]
        differ = same_size[size:] != same_size[:-size]
        firsts.append(start)
        if not differ.any():
            continue
        if np.count_nonzero(differ) > few * size:
            return None
        rows = np.flatnonzero(differ) // size  # increasing; np.unique() would import numpy.ma
        firsts += (rows[np.diff(rows, prepend=-1) != 0] + (start + 1)).tolist()
        if len(firsts) > few:
            return None
    return firsts


def _seem_repeated(data: Bytes, starts: Places, ends: Places) -> bool:
    """Whether of some values, picked evenly, most are like the next one."""
    raw = data.data
    picked = np.arange(0, len(starts) - 1, max(len(starts) // _PROBES, 1))
    same = [
        raw[a:b] == raw[c:d]
        for a, b, c, d in zip(
            starts[picked].tolist(),
            ends[picked].tolist(),
            starts[picked + 1].tolist(),
            ends[picked + 1].tolist(),
            strict=True,
        )
    ]
    return 2 * same.count(True) > len(same)

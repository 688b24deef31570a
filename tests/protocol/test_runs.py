"""Where texts that repeat begin, against a look at each of them."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiotaos.protocol.runs import find_runs, is_contiguous


def placed(values, *, before=b""):
    """Values as they stand in a column, and where they begin and end."""
    data, starts, ends = bytearray(before), [], []
    for value in values:
        data += struct.pack("<H", len(value))
        starts.append(len(data))
        data += value
        ends.append(len(data))
    return (
        np.frombuffer(bytes(data), np.uint8),
        np.array(starts, np.int64),
        np.array(ends, np.int64),
    )


def naive(values):
    return [row for row, value in enumerate(values) if row == 0 or values[row - 1] != value]


RUNS = {
    "one": [b"a"] * 100,
    "one, empty": [b""] * 100,
    "two": [b"a"] * 60 + [b"b"] * 40,
    "two, of other lengths": [b"a"] * 60 + [b"bb"] * 40,
    "one value between": [b"ab"] * 50 + [b"ac"] + [b"ab"] * 50,
    "one longer value between": [b"ab"] * 50 + [b"abc"] + [b"ab"] * 50,
    "the last": [b"a"] * 99 + [b"b"],
    "the first": [b"b"] + [b"a"] * 99,
    "neighbours": [b"a"] * 40 + [b"b", b"c", b"d"] + [b"e"] * 60,
    "values that look like prefixes": [b"\1\0"] * 50 + [b"\0\1"] * 50,
    "as many as there may be": [b"%d" % (row // 10) for row in range(80)],
}


@pytest.mark.parametrize("values", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("before", [b"", b"something else"])
def test_runs(values, before):
    data, starts, ends = placed(values, before=before)
    assert is_contiguous(starts, ends)
    assert find_runs(data, starts, ends) == naive(values)


@pytest.mark.parametrize(
    "values",
    [
        [b"%04d" % row for row in range(100)],
        [b"%d" % row for row in range(100)],
        [b"%04d" % (row // 2) for row in range(1000)],
        [b"a" * (row // 2) for row in range(1000)],
        [b"a" if row % 62 in (0, 1) else b"%d" % (row % 10) for row in range(1000)],
        [b"a" if row % 62 in (0, 1) else b"b" * (row % 9) for row in range(1000)],
        [b"a", b"b"],
        [b"a", b"a"],
        [b"a"] * 7,
    ],
)
def test_what_does_not_pay(values):
    assert find_runs(*placed(values)) is None


def test_values_that_do_not_stand_one_behind_the_other():
    _, starts, ends = placed([b"a", b"bc", b""])
    assert is_contiguous(starts, ends)
    assert not is_contiguous(starts[::-1], ends[::-1])
    assert not is_contiguous(starts[[0, 0]], ends[[0, 0]])
    assert not is_contiguous(starts[[0, 2]], ends[[0, 2]])


@settings(max_examples=400, deadline=None)
@given(
    runs=st.lists(
        st.tuples(
            st.sampled_from([b"", b"a", b"b", b"\1\0", b"\0\0", b"ab", b"abc"]),
            st.sampled_from([1, 2, 9, 30, 100]),
        ),
        min_size=1,
        max_size=9,
    )
)
def test_random_runs(runs):
    values = [value for value, count in runs for _ in range(count)]
    if len(values) < 2:
        return
    assert find_runs(*placed(values)) in (None, naive(values))

"""Values of the recording ``stmt2``: every type, as the official client bound them."""

from __future__ import annotations

BASE = 1709251200000
POINT = bytes.fromhex("0101000000000000000000f03f0000000000000040")


def columns(base: int) -> list[object]:
    """The columns of a table whose first row is at ``base`` ms."""
    return [
        [base, base + 1, base + 2],
        [True, None, False],
        [-1, None, 1],
        [-1, None, 1],
        [-1, None, 1],
        [-1, None, 1],
        [0, None, 2**8 - 1],
        [0, None, 2**16 - 1],
        [0, None, 2**32 - 1],
        [0, None, 2**64 - 1],
        [1.5, None, -2.5],
        [1.25, None, -2.25],
        ["a", None, ""],
        ["涛", None, ""],
        [b"\x00\xff", None, b""],
        [POINT, None, POINT],
    ]

"""Names of what is created."""

from __future__ import annotations

from .faults import Fault

MAX_NAME = 192
"""Bytes of the name of a table."""
MAX_SHORT_NAME = 64
"""Bytes of the name of a database, a column or a tag."""


def check_name(name: str, limit: int) -> None:
    """Refuse a name that is too long, or has a dot.

    Raises:
        Fault: It is so.
    """
    if len(name.encode()) > limit or "." in name:
        raise Fault(0x2617, f"Invalid identifier name: {name}")

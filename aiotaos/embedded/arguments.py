"""Requests at ``/ws``: how their arguments are read, and what answers them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias, TypeVar

import msgspec

from ..protocol import frames, messages
from .faults import Fault

UNKNOWN = 0xFFFF
"""The code of what taosAdapter itself refuses."""

Handler: TypeAlias = Callable[[msgspec.Raw], Awaitable[messages.Envelope | None]]
BinaryHandler: TypeAlias = Callable[[frames.Request], Awaitable[messages.Envelope]]
_Args = TypeVar("_Args", bound=msgspec.Struct)


def parse_arguments(raw: bytes | msgspec.Raw, type: type[_Args], wrong: str) -> _Args:
    """Read the arguments of an action.

    Raises:
        Fault: They cannot be read, with ``wrong`` as its text.
    """
    try:
        return msgspec.json.decode(raw, type=type)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise Fault(UNKNOWN, wrong) from None


def sendable(text: str) -> str:
    """A statement quoted in a message may hold what is not UTF-8."""
    return text.encode("utf-8", "replace").decode()

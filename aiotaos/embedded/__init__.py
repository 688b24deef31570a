"""A development server in this process: taosAdapter's protocol in front of DuckDB.

    async with aiotaos.embedded.Server() as server:
        async with aiotaos.connect(server.dsn) as conn:
            ...

It answers what it understands of TDengine's SQL exactly as TDengine does, and refuses the rest as
a syntax error (0x2600) that names what is not supported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import NotSupportedError

if TYPE_CHECKING:
    from .server import Server

__all__ = ["Server"]


def __getattr__(name: str) -> object:
    if name != "Server":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from .server import Server
    except ModuleNotFoundError as error:
        if error.name != "duckdb":
            raise
        raise NotSupportedError(
            'the embedded server needs DuckDB: pip install "aiotaos[embedded]"'
        ) from error
    return Server

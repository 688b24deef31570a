"""Small queries of the client's own."""

from __future__ import annotations

from .protocol.block import Row
from .protocol.rows import RowDecoder
from .transport.base import Deadline, Transport, next_req_id


async def ask_rows(transport: Transport, sql: str, deadline: Deadline) -> list[Row]:
    """Run a query and give all of its rows, times in UTC.

    Raises:
        Error: The server refuses it, or does not answer in time.
    """
    result = await transport.query(sql, next_req_id(), deadline)
    decoder = RowDecoder(result.fields, result.precision)
    rows: list[Row] = []
    while (block := await transport.next_block(result, deadline)) is not None:
        rows += decoder.rows(block)
    return rows

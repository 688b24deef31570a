"""What the REST handlers of today and of TDengine 2.x have in common."""

from __future__ import annotations

from collections.abc import Callable

import anyio.to_thread
import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from .access import RefusedError
from .engine import Engine, Rows, State, Update
from .faults import Fault
from .jsonrows import RowWriter

_JSON = "application/json"
_HTML_SIGNS = {b"<": rb"\u003c", b">": rb"\u003e", b"&": rb"\u0026"}


async def read_statement(request: web.Request) -> str:
    """The statement in a body, which may be compressed.

    Raises:
        RefusedError: There is none.
    """
    try:
        body = await request.read()
    except web.RequestPayloadError:  # it is not what its Content-Encoding says
        raise RefusedError(0x1121, "invalid content length", 400) from None
    if not body:
        raise RefusedError(0x1106, "request is empty", 400)
    sql = body.decode("utf-8", "replace").strip()
    if not sql:
        raise RefusedError(0x1107, "no sql input", 400)
    return sql


async def execute(
    engine: Engine, request: web.Request, sql: str, state: State, req_id: int = 0
) -> Rows | Update:
    """Run a statement in the database that the path names, if there is such a one.

    Raises:
        Fault: It failed.
    """
    database = request.match_info.get("db", "")
    if engine.has_database(database):
        state.database = database
    return await anyio.to_thread.run_sync(engine.execute, sql, state, req_id)


def end_point(request: web.Request) -> str:
    """Address and port of the client."""
    peer = request.transport.get_extra_info("peername") if request.transport else None
    return f"{peer[0]}:{peer[1]}" if peer else ""


def document(body: dict[str, object], status: int = 200) -> web.Response:
    """A small answer, with the signs of HTML escaped as Go's encoder does."""
    raw = msgspec.json.encode(body)
    for sign, escaped in _HTML_SIGNS.items():
        raw = raw.replace(sign, escaped)
    return web.Response(status=status, body=raw, content_type=_JSON, charset="utf-8")


async def stream(
    request: web.Request,
    result: Rows | Update,
    writer: RowWriter,
    tail: Callable[[], bytes],
) -> web.StreamResponse:
    """Write a result block by block, and free it; ``tail`` gives the end."""
    response = web.StreamResponse()
    response.content_type, response.charset = _JSON, "utf-8"
    response.enable_chunked_encoding()
    if _wants_gzip(request):
        response.enable_compression(web.ContentCoding.gzip)
    try:
        await response.prepare(request)
        await response.write(writer.head())
        await _write_rows(response, writer)
        await response.write(tail())
        await response.write_eof()
    except ConnectionError:  # the client went away; nobody reads this
        pass
    finally:
        if isinstance(result, Rows):
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(result.close)
    return response


async def _write_rows(response: web.StreamResponse, writer: RowWriter) -> None:
    """An error in the middle ends the rows, as in taosAdapter."""
    while True:
        try:
            chunk = await anyio.to_thread.run_sync(writer.next_chunk)
        except Fault:
            return
        if chunk is None:
            return
        await response.write(chunk)


@web.middleware
async def compressed(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Compress what is not streamed, errors too, for those who ask."""
    response = await handler(request)
    if isinstance(response, web.Response) and response.body and _wants_gzip(request):
        response.enable_compression(web.ContentCoding.gzip)
    return response


def _wants_gzip(request: web.Request) -> bool:
    return "gzip" in request.headers.get("Accept-Encoding", "")

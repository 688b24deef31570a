"""``POST /rest/sql`` and ``GET /rest/login``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import tzinfo

import anyio.to_thread
import msgspec
from aiohttp import web

from . import times
from .access import Access, RefusedError
from .engine import Engine, Rows, State, Update
from .faults import Fault
from .jsonrows import RowWriter

_JSON = "application/json"
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"", "0", "f", "F", "FALSE", "false", "False"})
_UNKNOWN = 0xFFFF


class _BadRequestError(Exception):
    """A request that never becomes a statement."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Rest:
    """The handlers; every request is a session of its own."""

    def __init__(self, engine: Engine, access: Access) -> None:
        self._engine = engine
        self._access = access

    async def login(self, request: web.Request) -> web.StreamResponse:
        """Give a token for a user and a password."""
        began = time.perf_counter_ns()
        try:
            self._access.check(request.match_info["user"], request.match_info["password"])
        except Fault:
            return _refusal(401, 3, "Authentication failure", began)
        body = msgspec.json.encode({"code": 0, "desc": self._access.token})
        return web.Response(body=body, content_type=_JSON, charset="utf-8")

    async def sql(self, request: web.Request) -> web.StreamResponse:
        """Run the statement in the body."""
        began = time.perf_counter_ns()
        try:
            self._access.check_header(request.headers.get("Authorization"))
            options = _Options(request.query)
            sql = _statement(await request.read())
            state = State(zone=options.session_zone)
            database = request.match_info.get("db", "")
            if self._engine.has_database(database):
                state.database = database
            result = await anyio.to_thread.run_sync(
                self._engine.execute, sql, state, options.req_id
            )
        except RefusedError as error:
            return _refusal(401, error.code, error.message, began)
        except _BadRequestError as error:
            return _refusal(400, error.code, error.message, began)
        except Fault as fault:
            return _refusal(200, fault.code, fault.message, began)
        writer = RowWriter(result, options.zone, with_meta=options.row_with_meta)
        response = web.StreamResponse()
        response.content_type, response.charset = _JSON, "utf-8"
        response.enable_chunked_encoding()
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            response.enable_compression(web.ContentCoding.gzip)
        try:
            await response.prepare(request)
            await response.write(writer.head())
            await self._write_rows(response, writer, result)
            timing = time.perf_counter_ns() - began if options.timing else None
            await response.write(writer.tail(timing))
            await response.write_eof()
        finally:
            if isinstance(result, Rows):
                await _in_thread(result.close)
        return response

    async def _write_rows(
        self, response: web.StreamResponse, writer: RowWriter, result: Rows | Update
    ) -> None:
        """Write block by block; an error in the middle ends the rows, as in taosAdapter."""
        while True:
            try:
                chunk = await anyio.to_thread.run_sync(writer.next_chunk)
            except Fault:
                return
            if chunk is None:
                return
            await response.write(chunk)


class _Options:
    """The parameters behind the question mark."""

    def __init__(self, query: Mapping[str, str]) -> None:
        self.session_zone = _zone(query.get("conn_tz", ""))
        self.zone = self.session_zone if query.get("conn_tz") else _zone(query.get("tz", ""))
        req_id = query.get("req_id", "")
        try:
            self.req_id = int(req_id or 0)
        except ValueError:
            raise _BadRequestError(
                _UNKNOWN, f"illegal param, req_id must be numeric strconv.ParseInt: {req_id}"
            ) from None
        flag = query.get("row_with_meta", "")
        if flag not in _TRUE | _FALSE:
            raise _BadRequestError(
                _UNKNOWN, f"illegal param, row_with_meta must be boolean: {flag}"
            )
        self.row_with_meta = flag in _TRUE
        self.timing = query.get("timing") == "true"


def _zone(name: str) -> tzinfo:
    zone = times.find_zone(name)
    if zone is None:
        raise _BadRequestError(_UNKNOWN, f"unknown time zone {name}")
    return zone


def _statement(body: bytes) -> str:
    if not body:
        raise _BadRequestError(0x1106, "request is empty")
    sql = body.decode("utf-8", "replace").strip()
    if not sql:
        raise _BadRequestError(0x1107, "no sql input")
    return sql


async def _in_thread(function: Callable[[], None]) -> None:
    """Run a clean-up to its end, also if this request was cancelled."""
    with anyio.CancelScope(shield=True):
        await anyio.to_thread.run_sync(function)


def _refusal(status: int, code: int, message: str, began: int) -> web.Response:
    body = {"code": code, "desc": message, "timing": time.perf_counter_ns() - began}
    return web.Response(
        status=status, body=msgspec.json.encode(body), content_type=_JSON, charset="utf-8"
    )

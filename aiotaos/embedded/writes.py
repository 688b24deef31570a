"""InfluxDB lines, OpenTSDB lines and OpenTSDB JSON over HTTP."""

from __future__ import annotations

from collections.abc import Callable

import anyio.to_thread
import msgspec
from aiohttp import web

from ..types import SchemalessProtocol
from .access import Access, RefusedError
from .engine import Engine, State
from .faults import Fault

_JSON = "application/json"
_Refuse = Callable[[int, int, str], web.Response]


class Writes:
    """The handlers; a database that does not exist is made."""

    def __init__(self, engine: Engine, access: Access) -> None:
        self._engine = engine
        self._access = access

    async def influx(self, request: web.Request) -> web.StreamResponse:
        """Write InfluxDB lines."""
        query = request.query
        database = query.get("db", "")
        if not database:
            body = {
                "code": "not found",
                "message": "db is required",
                "op": "",
                "err": "",
                "line": 0,
            }
            return _response(400, body)
        precision = query.get("precision") or "ns"
        return await self._write(
            request, database, SchemalessProtocol.LINE, precision, _influx_refusal
        )

    async def telnet(self, request: web.Request) -> web.StreamResponse:
        """Write OpenTSDB's telnet lines."""
        return await self._put(request, SchemalessProtocol.TELNET)

    async def json(self, request: web.Request) -> web.StreamResponse:
        """Write OpenTSDB's JSON."""
        return await self._put(request, SchemalessProtocol.JSON)

    async def _put(self, request: web.Request, protocol: SchemalessProtocol) -> web.StreamResponse:
        database = request.match_info["db"]
        return await self._write(request, database, protocol, "", _opentsdb_refusal)

    async def _write(
        self,
        request: web.Request,
        database: str,
        protocol: SchemalessProtocol,
        precision: str,
        refuse: _Refuse,
    ) -> web.StreamResponse:
        try:
            self._check(request)
        except RefusedError as error:
            return refuse(401, error.code, error.message)
        except Fault as fault:
            return refuse(401, fault.code, fault.message)
        data = (await request.read()).decode("utf-8", "surrogateescape")
        name_tag = request.query.get("table_name_key", "")

        def work() -> None:
            if not self._engine.has_database(database):
                name = database.replace("`", "``")
                sql = f"create database if not exists `{name}` precision 'ns'"
                self._engine.execute(sql, State())
            self._engine.insert_points(database, data, protocol, precision, name_tag)

        try:
            await anyio.to_thread.run_sync(work)
        except Fault as fault:
            return refuse(500, fault.code, fault.message)
        return web.Response(status=204)

    def _check(self, request: web.Request) -> None:
        """Check who it is, by the header, or by ``u`` and ``p`` in the query."""
        header = request.headers.get("Authorization")
        user = request.query.get("u", "")
        if not header and user:
            self._access.check(user, request.query.get("p", ""))
        else:
            self._access.check_header(header)


def _influx_refusal(status: int, code: int, message: str) -> web.Response:
    kind = "unauthorized" if status == 401 else "internal error"
    text = message if status == 401 else f"[0x{code:04x}] {message}"
    return _response(status, {"code": kind, "message": text})


def _opentsdb_refusal(status: int, code: int, message: str) -> web.Response:
    return _response(status, {"code": code, "message": message})


def _response(status: int, body: dict[str, object]) -> web.Response:
    raw = msgspec.json.encode(body)
    return web.Response(status=status, body=raw, content_type=_JSON, charset="utf-8")

"""REST as a TDengine 2.x speaks it: ``/rest/sql``, ``/rest/sqlt``, ``/rest/sqlutc``."""

from __future__ import annotations

import re

from aiohttp import web

from ..types import Precision
from .access import Access, RefusedError
from .answers import document, end_point, execute, read_statement, stream
from .columns import text
from .engine import Engine, Rows, State
from .faults import Fault
from .jsonrows import LegacyRowWriter
from .rest import MAX_USER
from .running import Client
from .timetext import TimeFormat, numbers, plain, rfc3339_short

VERSION = "2.6.0.34"
_VERSION_QUERY = re.compile(r"select\s+(server_version\s*\(\s*\))\s*;?", re.IGNORECASE)


class LegacyRest:
    """The handlers; nothing but a result or an error is said, always with HTTP status 200."""

    def __init__(self, engine: Engine, access: Access) -> None:
        self._engine = engine
        self._access = access

    async def login(self, request: web.Request) -> web.StreamResponse:
        """Give a token for a user and a password."""
        user, password = request.match_info["user"], request.match_info["password"]
        if max(len(user.encode()), len(password.encode())) > MAX_USER:
            return _refusal(0x110A, "generate taosd token error")
        try:
            self._access.check(user, password)
        except Fault:
            return _refusal(3, "Authentication failure")
        return document({"status": "succ", "code": 0, "desc": self._access.token})

    async def sql(self, request: web.Request) -> web.StreamResponse:
        """Run a statement; times are text without a zone."""
        return await self._run(request, plain)

    async def sqlt(self, request: web.Request) -> web.StreamResponse:
        """Run a statement; times are numbers."""
        return await self._run(request, numbers)

    async def sqlutc(self, request: web.Request) -> web.StreamResponse:
        """Run a statement; times are RFC 3339."""
        return await self._run(request, rfc3339_short)

    async def _run(self, request: web.Request, time_format: TimeFormat) -> web.StreamResponse:
        try:
            user, password = self._access.read_header(request.headers.get("Authorization"))
            sql = await read_statement(request)
            self._access.check(user, password)
            state = State(client=Client(user=user, end_point=end_point(request)))
            result = _version(sql) or await execute(self._engine, request, sql, state)
        except (RefusedError, Fault) as error:
            return _refusal(error.code, error.message)
        writer = LegacyRowWriter(result, time_format)
        return await stream(request, result, writer, writer.tail)


def _version(sql: str) -> Rows | None:
    """The answer to the question for the version, which the engine answers with today's."""
    match = _VERSION_QUERY.fullmatch(sql)
    if match is None:
        return None
    field = text(len(VERSION)).field(match[1])
    return Rows([field], Precision.MILLISECOND, None, [(VERSION,)])


def _refusal(code: int, message: str) -> web.Response:
    return document({"status": "error", "code": code, "desc": message})

"""``POST /rest/sql`` and ``GET /rest/login``."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import tzinfo

import msgspec
from aiohttp import web

from . import times
from .access import Access, RefusedError
from .answers import document, end_point, execute, read_statement, stream
from .engine import Engine, State
from .faults import Fault
from .jsonrows import RowWriter
from .running import Client
from .timetext import rfc3339

MAX_USER = 24
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"", "0", "f", "F", "FALSE", "false", "False"})
_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_MAX_REQ_ID = 2**63
_UNKNOWN = 0xFFFF


class Rest:
    """The handlers; every request is a session of its own."""

    def __init__(self, engine: Engine, access: Access) -> None:
        self._engine = engine
        self._access = access

    async def login(self, request: web.Request) -> web.StreamResponse:
        """Give a token for a user and a password."""
        began = time.perf_counter_ns()
        user = request.match_info["user"]
        if len(user.encode()) > MAX_USER:
            return _refusal(400, 0x110A, "generate taosd token error", began)
        try:
            self._access.check(user, request.match_info["password"])
        except Fault:
            return _refusal(401, 3, "Authentication failure", began)
        return document({"code": 0, "desc": self._access.token})

    async def sql(self, request: web.Request) -> web.StreamResponse:
        """Run the statement in the body."""
        began = time.perf_counter_ns()
        try:
            req_id = _req_id(request.query.get("req_id", ""))
            user, password = self._access.read_header(request.headers.get("Authorization"))
            options = _Options(request.query)
            sql = await read_statement(request)
            self._access.check(user, password)
            client = Client(user=user, app=options.app, ip=options.ip, end_point=end_point(request))
            state = State(zone=options.session_zone, client=client)
            result = await execute(self._engine, request, sql, state, req_id)
        except RefusedError as error:
            return _refusal(error.status, error.code, error.message, began)
        except Fault as fault:
            return _refusal(200, fault.code, fault.message, began)
        writer = RowWriter(result, rfc3339(options.zone), with_meta=options.row_with_meta)

        def tail() -> bytes:
            return writer.tail(time.perf_counter_ns() - began if options.timing else None)

        return await stream(request, result, writer, tail)


class _Options:
    """The parameters behind the question mark, but for the id of the request."""

    def __init__(self, query: Mapping[str, str]) -> None:
        self.session_zone = _zone(query.get("conn_tz", ""))
        self.zone = self.session_zone if "conn_tz" in query else _zone(query.get("tz", ""))
        self.row_with_meta = _flag(query.get("row_with_meta", ""))
        self.timing = query.get("timing") == "true"
        self.app = query.get("app", "")
        self.ip = query.get("ip", "")


def _req_id(text: str) -> int:
    if not text:
        return 0
    why = "invalid syntax"
    if _INTEGER.fullmatch(text):
        if -_MAX_REQ_ID <= int(text) < _MAX_REQ_ID:
            return int(text)
        why = "value out of range"
    raise _illegal("req_id must be numeric strconv.ParseInt", text, why)


def _flag(text: str) -> bool:
    if text not in _TRUE | _FALSE:
        raise _illegal("row_with_meta must be boolean strconv.ParseBool", text, "invalid syntax")
    return text in _TRUE


def _illegal(what: str, text: str, why: str) -> RefusedError:
    quoted = msgspec.json.encode(text).decode()
    return RefusedError(_UNKNOWN, f"illegal param, {what}: parsing {quoted}: {why}", 400)


def _zone(name: str) -> tzinfo:
    zone = times.find_zone(name)
    if zone is None:
        raise RefusedError(_UNKNOWN, f"unknown time zone {name}", 400)
    return zone


def _refusal(status: int, code: int, message: str, began: int) -> web.Response:
    timing = time.perf_counter_ns() - began
    return document({"code": code, "desc": message, "timing": timing}, status)

"""The REST road: statements as HTTP requests to taosAdapter's ``/rest/sql``.

The server keeps nothing between requests: the database goes in the path, the time zone behind the
question mark, and credentials with each.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable, Sequence
from urllib.parse import quote
from zoneinfo import ZoneInfo

import msgspec

from ..errors import (
    ConnectionError,
    ConnectionLost,
    Error,
    InterfaceError,
    NotSupportedError,
    ProtocolError,
    ResultError,
    TimeoutError,
)
from ..options import Address, Options
from ..protocol.bind import Binding
from ..protocol.block import Block
from ..protocol.messages import InsertArgs
from ..protocol.sql import first_word, identifier, used_database
from ..types import Precision, SchemalessProtocol
from .base import (
    Deadline,
    ServerResult,
    ServerStatement,
    next_req_id,
    not_over_rest,
    parsed_version,
)
from .exchange import Exchange, Request
from .http import Http
from .requests import Requests
from .servers import Place, Servers

_NO_DATABASE = frozenset({0x0217, 0x0380, 0x2616})
_REMEDY = (
    "; over REST a database is current after select_db() or USE on this connection, or when the "
    "DSN names it; or write database.table"
)
_TOKEN_REFUSED = frozenset({0x1124, 0x1125})
_TIMEZONE_SINCE = (3, 3, 5, 0)
_LISTED_SECONDS = 5.0  # how long a query that was given up may take to be listed as running
_IN_TEXT = re.compile(r"\[0x([0-9a-fA-F]{1,8})\]\s*(.*)", re.DOTALL)
_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_]*")


async def open_rest(
    options: Options,
    servers: Servers,
    address: Address,
    tls: ssl.SSLContext | None,
    deadline: Deadline,
) -> RestTransport:
    """Ask a server for its version, with the credentials, and for the database.

    Raises:
        AuthenticationError: The server refuses the credentials.
        ConnectionError: It could not be reached, or is no taosAdapter.
        Error: The database does not exist, or something is asked for that REST cannot do.
    """
    for name, is_asked in (
        ("totp_code", options.totp_code is not None),
        ("conn_mode=1", options.conn_mode == 1),
        ("adapter_ha", options.adapter_ha),
    ):
        if is_asked:
            raise not_over_rest(name)
    session = RestTransport(options, Place(address), Http.of(options, servers, tls))
    try:
        await session.login(deadline)
    except (ConnectionLost, ProtocolError) as error:
        session.terminate()
        hint = ""
        if error.http_status is None and not options.tls and error.may_have_run is not False:
            hint = "; does it want https://?"
        raise ConnectionError(
            f"{error.message}{hint}",
            endpoint=session.endpoint,
            http_status=error.http_status if isinstance(error, ProtocolError) else None,
        ) from error.__cause__
    except BaseException:
        session.terminate()
        raise
    return session


class _LinesRefusal(msgspec.Struct):
    """How the InfluxDB and OpenTSDB endpoints refuse."""

    message: str = ""


class RestTransport:
    """A session over REST; see :class:`aiotaos.transport.base.Transport`.

    Args:
        options: How to log in.
        place: The server, and the session's place there.
        http: The HTTP client, of which the session is a user.
    """

    instances: Sequence[str] = ()

    def __init__(self, options: Options, place: Place, http: Http) -> None:
        self._options = options
        self._place = place
        self._endpoint = options.endpoint(place.address)
        self._requests = Requests(options, self._endpoint, http)
        self._version = ""
        self._is_legacy = False
        self._database: str | None = None
        self._timezone = options.timezone
        self._left: dict[int, float] = {}
        self._closed = False
        self._lost: Exception | None = None
        self._closing: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        state = "closed" if self._closed else "lost" if self._lost else "open"
        return f"<RestTransport {self._endpoint} {state}, {len(self._requests)} requests>"

    @property
    def address(self) -> Address:
        return self._place.address

    @property
    def endpoint(self) -> str:
        return self._endpoint

    @property
    def server_version(self) -> str:
        return self._version

    @property
    def closed(self) -> bool:
        return self._closed or self._lost is not None

    # The session.

    async def login(self, deadline: Deadline) -> None:
        """Ask for the version, and make the options' database the current one.

        Raises:
            Error: The server refuses the credentials, or the database does not exist.
        """
        result = await self._ask("select server_version()", deadline, next_req_id(), is_first=True)
        while (block := await self.next_block(result, deadline)) is not None:
            texts = block.parts[0]
            self._version = str(texts[0]) if isinstance(texts, Sequence) else ""
        if self._options.database is not None:
            await self.query(f"use {identifier(self._options.database)}", next_req_id(), deadline)

    def still_running(self, req_id: int) -> Callable[[], bool]:
        until = self._left.get(req_id)
        if until is None:
            return lambda: False
        loop = asyncio.get_running_loop()
        return lambda: loop.time() < until

    def is_fetching(self, result: ServerResult) -> bool:
        return self.still_running(result.req_id)()

    def _leave(self, req_id: int) -> None:
        """Take note of a request without an answer: the server does not notice that it is left."""
        now = asyncio.get_running_loop().time()
        self._left = {other: until for other, until in self._left.items() if until > now}
        self._left[req_id] = now + _LISTED_SECONDS

    async def set_timezone(self, name: str | None, req_id: int, deadline: Deadline) -> None:
        if self._is_legacy or parsed_version(self._version) < _TIMEZONE_SINCE:
            raise NotSupportedError(
                f"TDengine {self._version} knows no time zone of a session over REST; 3.3.5 does",
                endpoint=self._endpoint,
            )
        self._timezone = name

    async def current_database(self, deadline: Deadline) -> str | None:
        return self._database

    async def close(self, timeout: float) -> None:
        self.terminate()
        if self._closing is not None:
            await asyncio.wait([self._closing], timeout=timeout)

    def terminate(self) -> None:
        is_first, self._closed = not self.closed, True
        if is_first:
            self._end(
                InterfaceError("the connection was closed during the call", endpoint=self._endpoint)
            )

    def drop(self, reason: Exception) -> None:
        if not self.closed:
            self._lost = reason
            self._end(
                ConnectionLost(
                    f"the connection was lost before all of its answer came: {reason}",
                    endpoint=self._endpoint,
                )
            )

    def _end(self, reason: Error) -> None:
        """Stop what is under way, and leave the server and the HTTP client."""
        self._place.leave()
        self._closing = self._requests.end(reason)

    def _check_open(self, req_id: int, sql: str | None) -> None:
        if self._closed:
            raise InterfaceError("the connection is closed", req_id=req_id, sql=sql)
        if self._lost is not None:
            raise ConnectionLost(
                f"the connection was lost before the call: {self._lost}",
                req_id=req_id,
                sql=sql,
                endpoint=self._endpoint,
                may_have_run=False,
            ) from self._lost

    # Requests.

    async def _request(self, request: Request, deadline: Deadline) -> Exchange:
        """Send a request; who finds that there is no server loses the session."""
        self._check_open(request.req_id, request.sql)
        try:
            return await self._requests.send(request, deadline)
        except ConnectionLost as error:
            if error.may_have_run is False:
                self.drop(error)
            raise

    def _with_remedy(self, error: Error) -> Error:
        """An error that says what to do where no database is current."""
        if error.code in _NO_DATABASE:
            remedy = _REMEDY
            if self._database is not None:
                remedy = f"; {self._database!r} is the current one here, it may have been dropped"
            error.say(error.message + remedy)
        return error

    # Statements and results.

    async def query(self, sql: str, req_id: int, deadline: Deadline) -> ServerResult:
        if first_word(sql) != "use":
            try:
                return await self._ask(sql, deadline, req_id)
            except (asyncio.CancelledError, TimeoutError) as error:
                self._leave(req_id)
                if isinstance(error, TimeoutError) and len(self._requests):
                    error.say(
                        f"{error.message}; {len(self._requests)} other answers of this connection "
                        "are not read to the end, and hold connections of the server"
                    )
                raise
        database = used_database(sql)
        if database is None:
            raise InterfaceError(f"USE over REST: expected 'use name', got {sql[:200]!r}")
        result = await self._ask(sql, deadline, req_id)
        self._database = database
        return result

    async def _ask(
        self,
        sql: str,
        deadline: Deadline,
        req_id: int,
        *,
        is_first: bool = False,
        is_renewed: bool = False,
    ) -> ServerResult:
        """Run a statement, and wait for its first rows, which tell the precision."""
        try:
            data = sql.encode()
        except UnicodeError as error:
            raise InterfaceError(f"sql: it cannot be sent as UTF-8: {error}") from error
        path = "/rest/sql" if is_first else self._path()
        parameters = {} if is_first or self._is_legacy else self._parameters(req_id)
        zone = ZoneInfo(self._timezone) if self._timezone and not self._is_legacy else None
        request = Request("POST", path, parameters, data, req_id, sql, zone)
        exchange = await self._request(request, deadline)
        body = exchange.body
        try:
            if exchange.status != 200:
                said = await exchange.read(deadline)
                raise self._with_remedy(self._requests.refusal(exchange, said, path))
            while (block := body.next_block()) is None and not body.done:
                await exchange.fill(deadline)
            head = body.head
            if head is not None and head.is_refusal:
                token = self._requests.token
                if head.code in _TOKEN_REFUSED and token and not is_renewed:  # as 2.x says it
                    exchange.close()
                    await self._requests.renew(token, deadline)
                    return await self._ask(
                        sql, deadline, req_id, is_first=is_first, is_renewed=True
                    )
                refusal = self._requests.server_error(head.code, head.desc)
                raise self._with_remedy(self._requests.placed(refusal, exchange))
        except ProtocolError as error:
            exchange.close()
            raise self._requests.unreadable(error, exchange) from None
        except BaseException:
            exchange.close()
            raise
        if is_first and head is not None:
            self._is_legacy = head.status is not None
            if self._is_legacy:
                self._requests.may_compress = False
        finished = block is None and body.done
        if finished:
            exchange.close()
        exchange.block = block
        return ServerResult(
            transport=self,
            id=req_id,
            req_id=req_id,
            sql=sql,
            is_update=body.is_update,
            affected_rows=body.affected_rows,
            fields=() if body.is_update else body.fields,
            precision=body.precision or Precision.MILLISECOND,
            timing=body.timing,
            finished=finished,
            ahead=exchange,
        )

    def _path(self) -> str:
        """Where statements go: servers of 2.x have a place for each form of TIMESTAMPs."""
        form = ""
        if self._is_legacy:
            form = "t" if self._options.timestamp == "int" else "utc"
        database = f"/{quote(self._database, safe='')}" if self._database else ""
        return f"/rest/sql{form}{database}"

    def _parameters(self, req_id: int) -> dict[str, str]:
        options = self._options
        given = {"conn_tz": self._timezone, "app": options.user_app, "ip": options.user_ip}
        told = {name: value for name, value in given.items() if value is not None}
        return {"req_id": str(req_id), "timing": "true", **told}

    def request_block(self, result: ServerResult) -> None:
        """Nothing: the server sends what follows of its own accord, as far as there is room."""

    async def next_block(self, result: ServerResult, deadline: Deadline) -> Block | None:
        if result.given_up:
            raise ResultError("the result was given up", req_id=result.req_id, sql=result.sql)
        if result.finished:
            return None
        exchange: Exchange = result.ahead
        body = exchange.body
        try:
            block, exchange.block = exchange.block, None
            while block is None and not body.done:
                await exchange.fill(deadline)
                block = body.next_block()
        except ProtocolError as error:
            self.free(result)
            raise self._requests.unreadable(error, exchange) from None
        except BaseException as error:
            if isinstance(error, (asyncio.CancelledError, TimeoutError)):
                self._leave(result.req_id)
            self.free(result)
            raise
        if body.precision is not None:
            result.precision = body.precision
        if body.done:
            result.timing = body.timing
            exchange.close()
            if block is None:
                result.finished = True
        return block

    def free(self, result: ServerResult) -> None:
        if result.finished:
            return
        result.finished = result.given_up = True
        exchange: Exchange = result.ahead
        exchange.stop(ResultError("the result was closed while it was read", req_id=result.req_id))

    # What REST has not.

    async def prepare(self, sql: str, deadline: Deadline, req_id: int) -> ServerStatement:
        raise not_over_rest("a prepared statement")

    async def bind(self, statement: ServerStatement, binding: Binding, deadline: Deadline) -> None:
        raise not_over_rest("a prepared statement")

    async def execute_statement(
        self, statement: ServerStatement, req_id: int, deadline: Deadline
    ) -> int:
        raise not_over_rest("a prepared statement")

    async def statement_result(
        self, statement: ServerStatement, req_id: int, deadline: Deadline
    ) -> ServerResult:
        raise not_over_rest("a prepared statement")

    def close_statement(self, statement: ServerStatement) -> None:
        """Nothing: there is none."""

    # Schemaless writing.

    async def schemaless_insert(self, arguments: InsertArgs, deadline: Deadline) -> int:
        req_id, database = arguments.req_id, self._database
        if database is None:
            error = self._requests.server_error(0x2616, "Database not specified")
            error.req_id = req_id
            raise self._with_remedy(error)
        if not _PLAIN_NAME.fullmatch(database):
            database = identifier(database)  # taosAdapter puts it into a USE as it is
        parameters = {"req_id": str(req_id)}
        if self._options.user_app is not None:
            parameters["app"] = self._options.user_app
        if arguments.ttl:
            parameters["ttl"] = str(arguments.ttl)
        if arguments.table_name_key:
            parameters["table_name_key"] = arguments.table_name_key
        if arguments.protocol == SchemalessProtocol.LINE:
            path = "/influxdb/v1/write"
            parameters |= {"db": database, "precision": arguments.precision}
        else:
            kind = "json" if arguments.protocol == SchemalessProtocol.JSON else "telnet"
            path = f"/opentsdb/v1/put/{kind}/{quote(database, safe='')}"
        request = Request("POST", path, parameters, arguments.data.encode(), req_id)
        exchange = await self._request(request, deadline)
        try:
            body = await exchange.read(deadline)
            if exchange.status not in (200, 204):
                raise self._refused_lines(exchange, body, path)
        finally:
            exchange.close()
        return _points(arguments)

    def _refused_lines(self, exchange: Exchange, body: bytes, path: str) -> Error:
        """The error for lines that were refused; its code stands in the text."""
        try:
            message = msgspec.json.decode(body, type=_LinesRefusal).message
        except (msgspec.MsgspecError, UnicodeDecodeError):
            message = ""
        found = _IN_TEXT.search(message)
        if found is None:
            error = self._requests.status_error(exchange, body, path)
        else:
            error = self._with_remedy(self._requests.server_error(int(found[1], 16), found[2]))
        return self._requests.placed(error, exchange)


def _points(arguments: InsertArgs) -> int:
    """How many rows lines are; the server does not tell."""
    if arguments.protocol == SchemalessProtocol.JSON:
        points = msgspec.json.decode(arguments.data)
        return len(points) if isinstance(points, list) else 1
    lines = map(str.strip, arguments.data.split("\n"))
    return sum(1 for line in lines if line and not line.startswith("#"))

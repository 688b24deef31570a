"""The HTTP server: which path leads where, and how it starts and stops."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

import anyio.to_thread
import duckdb
from aiohttp import WSCloseCode, web

from ..errors import InterfaceError
from .access import PASSWORD, USER, Access
from .answers import compressed
from .engine import Engine
from .legacy import LegacyRest
from .rest import Rest
from .session import Session
from .tmq_session import TmqSession
from .writes import Writes

_MAX_BODY = 64 * 1024 * 1024
_CLOSE_SECONDS = 1.0
_PING_SECONDS = 54.0


class Server:
    """A development server that speaks taosAdapter's protocols, WebSocket and HTTP.

    Args:
        port: 0 takes any free one, see :attr:`port` once it runs.
        data: File to keep the data in; without one they live in memory.
        host: Address to listen at.
        legacy: Speak REST as a TDengine 2.x does, which has no ``/ws``.
    """

    def __init__(
        self,
        port: int = 0,
        data: str | None = None,
        host: str = "127.0.0.1",
        *,
        legacy: bool = False,
    ) -> None:
        self._wanted_port = port
        self._data = data
        self._host = host
        self._legacy = legacy
        self._access = Access()
        self._port = 0
        self._engine: Engine | None = None
        self._runner: web.AppRunner | None = None
        self._sockets: set[web.WebSocketResponse] = set()

    def __repr__(self) -> str:
        state = f"{self._host}:{self._port}" if self._runner is not None else "stopped"
        return f"<Server {state}>"

    @property
    def port(self) -> int:
        """The port it listens at.

        Raises:
            InterfaceError: It does not run.
        """
        if self._runner is None:
            raise InterfaceError("the embedded server does not run; await start() first")
        return self._port

    @property
    def dsn(self) -> str:
        """What to connect to: by WebSocket, or by REST if it speaks as a TDengine 2.x."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        scheme = "http" if self._legacy else "ws"
        return f"{scheme}://{USER}:{PASSWORD}@{host}:{self.port}"

    @property
    def http_dsn(self) -> str:
        """What to connect to by REST."""
        return f"http://{self.dsn.partition('://')[2]}"

    def expire_tokens(self) -> None:
        """Make the tokens that ``/rest/login`` gave invalid, to test how a client renews its own.

        Logins after this get another one; connections that are open are not touched.
        """
        self._access.expire_tokens()

    async def start(self) -> None:
        """Open the data and listen.

        Raises:
            InterfaceError: It runs already, or the file cannot be opened.
            OSError: The port is taken.
        """
        if self._runner is not None:
            raise InterfaceError("the embedded server runs already")
        try:
            self._engine = await anyio.to_thread.run_sync(Engine, self._data)
        except (duckdb.Error, ValueError) as error:
            raise InterfaceError(
                f"data: {self._data!r} cannot be opened; is it a file of this server's, and not in "
                f"use by another? {str(error).splitlines()[0]}"
            ) from error
        runner = web.AppRunner(self._app(self._engine), access_log=None, shutdown_timeout=1.0)
        self._runner = runner
        try:
            await runner.setup()
            await web.TCPSite(runner, self._host, self._wanted_port).start()
        except BaseException:
            await self.stop()
            raise
        self._port = runner.addresses[0][1]

    async def stop(self) -> None:
        """Close every connection, stop what runs, and close the data; may be called again."""
        runner, self._runner = self._runner, None
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.interrupt()
        if runner is not None:
            await runner.cleanup()
        if engine is not None:
            await anyio.to_thread.run_sync(engine.close)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    def _app(self, engine: Engine) -> web.Application:
        app = web.Application(client_max_size=_MAX_BODY, middlewares=[compressed])
        writes = Writes(engine, self._access)
        if self._legacy:
            self._add_legacy_routes(app.router, engine)
        else:
            self._add_routes(app.router, engine)
        app.router.add_post("/influxdb/v1/write", writes.influx)
        app.router.add_post("/opentsdb/v1/put/telnet/{db}", writes.telnet)
        app.router.add_post("/opentsdb/v1/put/json/{db}", writes.json)
        app.router.add_get("/-/ping", _ping)
        app.router.add_route("*", "/{path:.*}", _not_found)
        app.on_shutdown.append(self._close_sockets)
        return app

    def _add_routes(self, router: web.UrlDispatcher, engine: Engine) -> None:
        def session(socket: web.WebSocketResponse) -> Session:
            return Session(engine, self._access, socket)

        def consumer(socket: web.WebSocketResponse) -> TmqSession:
            return TmqSession(engine, self._access, socket)

        async def websocket(request: web.Request) -> web.StreamResponse:
            return await converse(request, session)

        async def tmq(request: web.Request) -> web.StreamResponse:
            return await converse(request, consumer)

        async def converse(
            request: web.Request,
            begin: Callable[[web.WebSocketResponse], Session | TmqSession],
        ) -> web.StreamResponse:
            socket = web.WebSocketResponse(
                timeout=_CLOSE_SECONDS, max_msg_size=0, heartbeat=_PING_SECONDS
            )
            try:
                await socket.prepare(request)
            except ConnectionError:  # the client went away in the handshake; nobody reads this
                return web.Response(status=400)
            self._sockets.add(socket)
            try:
                await begin(socket).run()
            finally:
                self._sockets.discard(socket)
            return socket

        rest = Rest(engine, self._access)
        router.add_get("/ws", websocket)
        router.add_get("/rest/tmq", tmq)
        router.add_post("/rest/sql", rest.sql)
        router.add_post("/rest/sql/{db}", rest.sql)
        router.add_get("/rest/login/{user}/{password}", rest.login)

    def _add_legacy_routes(self, router: web.UrlDispatcher, engine: Engine) -> None:
        rest = LegacyRest(engine, self._access)
        for name, handler in (("sql", rest.sql), ("sqlt", rest.sqlt), ("sqlutc", rest.sqlutc)):
            router.add_post(f"/rest/{name}", handler)
            router.add_post(f"/rest/{name}/{{db}}", handler)
        router.add_get("/rest/login/{user}/{password}", rest.login)

    async def _close_sockets(self, _: web.Application) -> None:
        for socket in list(self._sockets):
            await socket.close(code=WSCloseCode.GOING_AWAY)


async def _ping(_: web.Request) -> web.StreamResponse:
    return web.Response()


async def _not_found(_: web.Request) -> web.StreamResponse:
    return web.Response(status=404, body=b"404 page not found", content_type="text/plain")

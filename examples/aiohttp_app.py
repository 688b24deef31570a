"""A web service with aiohttp, on a pool that lives as long as it (AIOTAOS_DSN, or embedded)."""

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

import aiotaos

DSN = os.environ.get("AIOTAOS_DSN", "embedded://")
LIMIT = 2.0  # seconds for a query
TABLE = "(ts timestamp, voltage int) tags (location varchar(50))"
POOL = web.AppKey("pool", aiotaos.Pool[dict[str, Any]])


@dataclass
class Reading:
    device: Annotated[str, msgspec.Meta(pattern=r"^\w{1,32}$")]
    location: str
    ts: Annotated[datetime, msgspec.Meta(tz=True)]
    voltage: int


async def own_pool(app: web.Application) -> AsyncIterator[None]:
    async with aiotaos.connect(DSN) as conn:
        await conn.execute("create database if not exists web")
        async with aiotaos.create_pool(
            DSN, database="web", row_factory=aiotaos.dict_row, max_waiting=100, acquire_timeout=5.0
        ) as pool:
            await pool.execute(f"create stable if not exists readings {TABLE}")
            app[POOL] = pool
            yield


@web.middleware
async def limits(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except (aiotaos.PoolFull, aiotaos.ConnectionError, aiotaos.TimeoutError) as error:
        if isinstance(error, aiotaos.TimeoutError) and error.may_have_run is not False:
            raise web.HTTPGatewayTimeout(text="the database did not answer in time") from error
        # Readings carry their time: one that is sent twice is stored once.
        raise web.HTTPServiceUnavailable(text="try again", headers={"Retry-After": "1"}) from error
    except (msgspec.DecodeError, aiotaos.DataError) as error:
        raise web.HTTPUnprocessableEntity(text=str(error)) from error


def answer(value: object, status: int = 200) -> web.Response:
    return web.json_response(body=msgspec.json.encode(value), status=status)


async def write(request: web.Request) -> web.Response:
    rows = msgspec.json.decode(await request.read(), type=list[Reading])
    pool = request.app[POOL]
    return answer(await pool.insert("readings", rows, tbname="device", tags=["location"]), 201)


async def read(request: web.Request) -> web.Response:
    sql = "select * from readings where tbname = ? order by ts desc limit 100"
    return answer(await request.app[POOL].fetch(sql, request.match_info["device"], timeout=LIMIT))


async def health(request: web.Request) -> web.Response:
    return answer(request.app[POOL].get_stats())


def make_app() -> web.Application:
    app = web.Application(middlewares=[limits])
    app.cleanup_ctx.append(own_pool)
    app.add_routes([web.post("/readings", write), web.get("/readings/{device}", read)])
    app.add_routes([web.get("/health", health)])
    return app


if __name__ == "__main__":
    web.run_app(make_app(), host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))

"""A web service with FastAPI, on a pool that lives as long as it (AIOTAOS_DSN, or embedded)."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import AwareDatetime, BaseModel, Field

import aiotaos

DSN = os.environ.get("AIOTAOS_DSN", "embedded://")
LIMIT = 2.0  # seconds for a query
TABLE = "(ts timestamp, voltage int) tags (location varchar(50))"


class Reading(BaseModel):
    device: str = Field(pattern=r"^\w{1,32}$")
    location: str
    ts: AwareDatetime
    voltage: int


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with aiotaos.connect(DSN) as conn:
        await conn.execute("create database if not exists web")
        async with aiotaos.create_pool(
            DSN, database="web", row_factory=aiotaos.dict_row, max_waiting=100, acquire_timeout=5.0
        ) as pool:
            await pool.execute(f"create stable if not exists readings {TABLE}")
            app.state.pool = pool
            yield


def the_pool(request: Request) -> Any:
    return request.app.state.pool


Pool = Annotated[aiotaos.Pool[dict[str, Any]], Depends(the_pool)]
app = FastAPI(lifespan=lifespan)


@app.exception_handler(aiotaos.PoolFull)
@app.exception_handler(aiotaos.ConnectionError)
@app.exception_handler(aiotaos.TimeoutError)
async def too_much(request: Request, error: aiotaos.Error) -> JSONResponse:
    if isinstance(error, aiotaos.TimeoutError) and error.may_have_run is not False:
        return JSONResponse({"detail": "the database did not answer in time"}, 504)
    # Readings carry their time: one that is sent twice is stored once.
    return JSONResponse({"detail": "try again"}, 503, {"Retry-After": "1"})


@app.exception_handler(aiotaos.DataError)
async def does_not_fit(request: Request, error: aiotaos.Error) -> JSONResponse:
    return JSONResponse({"detail": error.message}, 422)


@app.post("/readings", status_code=201)
async def write(readings: list[Reading], pool: Pool) -> int:
    rows = [reading.model_dump() for reading in readings]
    return await pool.insert("readings", rows, tbname="device", tags=["location"])


@app.get("/readings/{device}")
async def read(device: str, pool: Pool) -> list[dict[str, Any]]:
    sql = "select * from readings where tbname = ? order by ts desc limit 100"
    return await pool.fetch(sql, device, timeout=LIMIT)


@app.get("/health")
async def health(pool: Pool) -> aiotaos.PoolStats:
    return pool.get_stats()


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))

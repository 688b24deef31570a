"""A server for each test, and short ways to talk to it."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from aiotaos.embedded import Server
from aiotaos.embedded.engine import Engine, Rows, State, Update

DATA = Path(__file__).parent.parent / "data" / "conformance"
AUTH = {"Authorization": "Basic cm9vdDp0YW9zZGF0YQ=="}
Rest = Callable[..., Awaitable[dict[str, Any]]]
Run = Callable[..., Any]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server() as server:
        yield server


@pytest.fixture
async def http(server: Server) -> AsyncIterator[aiohttp.ClientSession]:
    base = f"http://127.0.0.1:{server.port}"
    async with aiohttp.ClientSession(base, headers=AUTH) as session:
        yield session


@pytest.fixture
def rest(http: aiohttp.ClientSession) -> Rest:
    """Run a statement over REST; returns the answer with its HTTP status."""

    async def run(sql: str, db: str = "", **params: str) -> dict[str, Any]:
        path = f"/rest/sql/{db}" if db else "/rest/sql"
        async with http.post(path, data=sql.encode(), params=params) as response:
            answer: dict[str, Any] = json.loads(await response.read())
            return {"http": response.status, **answer}

    return run


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine()
    yield engine
    engine.close()


@pytest.fixture
def run(engine: Engine) -> Run:
    """Run statements on the engine: the number of rows affected, or the rows."""
    state = State()

    def execute(sql: str) -> Any:
        result = engine.execute(sql, state)
        if isinstance(result, Update):
            return result.affected
        return read(result)

    execute("create database test")
    execute("use test")
    return execute


def read(result: Rows) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    while (block := result.next_block()) is not None:
        rows += zip(*block, strict=True)
    return rows


@pytest.fixture
def same() -> Callable[[Any, Any], bool]:
    """Equality of answers; floats may differ in the last digits, as sums depend on their order."""
    return _same


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, float) or isinstance(b, float):
        numbers = isinstance(a, int | float) and isinstance(b, int | float)
        return numbers and math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-12)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)


@pytest.fixture
def recorded() -> Callable[[str], list[dict[str, Any]]]:
    """What a real TDengine answered, one statement a line."""

    def load(name: str) -> list[dict[str, Any]]:
        lines = (DATA / name).read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    return load

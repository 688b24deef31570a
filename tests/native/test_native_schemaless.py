"""Schemaless lines over libtaos, on the stand-in."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aiotaos import (
    InterfaceError,
    NotSupportedError,
    SchemalessError,
    SchemalessProtocol,
    TimeoutError,
)
from tests.native.conftest import Native
from tests.native.standin import Flavour

LINES = ['m,t=a v="é" 1', "m,t=b v=2 2"]
PRECISIONS = {"h": 1, "m": 2, "s": 3, "ms": 4, "us": 5, "ns": 6}
FUNCTION = "taos_schemaless_insert"


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the library has no event
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("precision", PRECISIONS)
async def test_lines(any_native: Native, precision: str) -> None:
    conn = await any_native.connect()
    found = await conn.schemaless_insert(
        LINES, SchemalessProtocol.LINE, precision=precision, req_id=77
    )
    assert found == 2
    (event,) = any_native.standin.log("schemaless")
    flavour = any_native.standin.flavour
    assert event == {
        "kind": "schemaless",
        "protocol": 1,
        "precision": PRECISIONS[precision],
        "ttl": 0,
        "reqid": 77 if flavour is Flavour.FULL else 0,
        "table_key": None,
        "raw": flavour is not Flavour.TWO,
        "lines": LINES,
    }


async def test_other_protocols(any_native: Native) -> None:
    conn = await any_native.connect()
    telnet = ["m 1 2 t=a", "m 2 3 t=b"]
    assert await conn.schemaless_insert(telnet, SchemalessProtocol.TELNET) == 2
    document = '{"metric": "m", "timestamp": 1, "value": 2, "tags": {"t": "a"}}'
    assert await conn.schemaless_insert(document, SchemalessProtocol.JSON) == 1
    first, second = any_native.standin.log("schemaless")
    assert (first["protocol"], first["lines"]) == (2, telnet)
    assert (second["protocol"], second["lines"]) == (3, [document])


async def test_everything_else(native: Native) -> None:
    conn = await native.connect()
    await conn.schemaless_insert(LINES, ttl=30, table_name_key="name", req_id=2**41)
    (event,) = native.standin.log("schemaless")
    assert (event["ttl"], event["table_key"], event["reqid"]) == (30, "name", 2**41)


async def test_what_older_libraries_do_not_know(any_native: Native) -> None:
    conn = await any_native.connect()
    flavour = any_native.standin.flavour
    if flavour is not Flavour.FULL:
        with pytest.raises(NotSupportedError, match=r"knows no table_name_key; 3\.2 does"):
            await conn.schemaless_insert(LINES, table_name_key="name")
    if flavour is Flavour.TWO:
        with pytest.raises(NotSupportedError, match=r"knows no ttl; 3\.0 does"):
            await conn.schemaless_insert(LINES, ttl=1)
    else:
        assert await conn.schemaless_insert(LINES, ttl=1) == 2


async def test_refused(any_native: Native) -> None:
    conn = await any_native.connect()
    any_native.standin.rule(FUNCTION, code=0x3002, message="Invalid data")
    with pytest.raises(SchemalessError, match=r"Invalid data; the line: m,t=a") as caught:
        await conn.schemaless_insert(LINES[0], req_id=5)
    error = caught.value
    assert (error.code, error.req_id, error.endpoint) == (0x3002, 5, conn.endpoint)
    assert any_native.standin.count("results") == 0


async def test_a_nul(native: Native) -> None:
    conn = await native.connect()
    with pytest.raises(InterfaceError, match="NUL"):
        await conn.schemaless_insert('m v="\0" 1')
    assert native.standin.log("schemaless") == []


async def test_cancelled(native: Native) -> None:
    conn = await native.connect()
    native.standin.rule(FUNCTION, hold=True)
    task = asyncio.create_task(conn.schemaless_insert(LINES))
    await until(lambda: native.standin.count("held") == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    native.standin.release(FUNCTION)
    await until(lambda: native.standin.count("results") == 0)
    assert await conn.schemaless_insert(LINES) == 2


async def test_too_late(native: Native) -> None:
    conn = await native.connect()
    native.standin.rule(FUNCTION, hold=True)
    with pytest.raises(TimeoutError) as caught:
        await conn.schemaless_insert(LINES, timeout=0.05, req_id=78)
    assert caught.value.may_have_run
    is_running = conn._session.transport.still_running(78)
    assert is_running()
    native.standin.release(FUNCTION)
    await until(lambda: not is_running())


@pytest.mark.parametrize("how", ["close", "terminate"])
async def test_the_session_ends_meanwhile(native: Native, how: str) -> None:
    conn = await native.connect()
    native.standin.rule(FUNCTION, hold=True)
    task = asyncio.create_task(conn.schemaless_insert(LINES))
    await until(lambda: native.standin.count("held") == 1)
    if how == "close":
        await conn.close()
    else:
        conn.terminate()
    with pytest.raises(InterfaceError, match="closed during the call"):
        await task
    native.standin.release(FUNCTION)
    await until(lambda: native.standin.count("connections") == 0)

"""What is written to the embedded server is read back: every type, NULLs, precision and source."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import aiotaos
from tests import roundtrip


@pytest.fixture
async def conn():
    async with aiotaos.connect("embedded://", database="rt_ms", timestamp="int") as conn:
        for unit in ("us", "ns"):
            await conn.execute(f"create database rt_{unit} precision '{unit}'")
        yield conn


@pytest.mark.parametrize("rows", roundtrip.ROWS)
@pytest.mark.parametrize("source", roundtrip.SOURCES)
async def test_samples(conn, source, rows):
    """Each pattern of NULLs meets each number of tables; the precision goes round."""
    for unit, tables, pattern in roundtrip.combinations(rows):
        case = roundtrip.of_pattern(unit, source, rows, tables, pattern)
        await roundtrip.check(conn, f"rt_{unit}", case)


@pytest.mark.parametrize("source", roundtrip.SOURCES)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    unit=st.sampled_from(roundtrip.UNITS),
    rows=st.integers(1, 20),
    tables=st.integers(0, 4),
    pools=roundtrip.POOLS,
)
async def test_any_values(conn, source, unit, rows, tables, pools):
    case = roundtrip.of_pools(unit, source, rows, tables, pools)
    await roundtrip.check(conn, f"rt_{unit}", case)

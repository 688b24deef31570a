"""What is written is read back: the cases of ``tests/test_roundtrip.py``, on a real server."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import roundtrip


@pytest.fixture
async def databases(make_database: Any) -> dict[str, str]:
    """A database for each precision."""
    return {unit: await make_database(unit) for unit in roundtrip.UNITS}


@pytest.fixture
async def conn(connect: Any, databases: dict[str, str]) -> Any:
    return await connect(database=databases["ms"], timestamp="int")


@pytest.mark.parametrize("rows", roundtrip.ROWS)
@pytest.mark.parametrize("source", roundtrip.SOURCES)
async def test_samples(conn: Any, databases: dict[str, str], source: str, rows: int) -> None:
    """Each pattern of NULLs meets each number of tables; the precision goes round."""
    for unit, tables, pattern in roundtrip.combinations(rows):
        case = roundtrip.of_pattern(unit, source, rows, tables, pattern)
        await roundtrip.check(conn, databases[unit], case)


@pytest.mark.parametrize("source", roundtrip.SOURCES)
@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    unit=st.sampled_from(roundtrip.UNITS),
    rows=st.integers(1, 20),
    tables=st.integers(0, 4),
    pools=roundtrip.POOLS,
)
async def test_any_values(
    conn: Any,
    databases: dict[str, str],
    source: str,
    unit: str,
    rows: int,
    tables: int,
    pools: dict[str, list[Any]],
) -> None:
    case = roundtrip.of_pools(unit, source, rows, tables, pools)
    await roundtrip.check(conn, databases[unit], case)

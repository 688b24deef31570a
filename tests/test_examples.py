"""Every example, and every complete program in the README and the docs, runs as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def programs() -> list[object]:
    found = []
    for page in PAGES:
        blocks = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
        whole = [block for block in blocks if "asyncio.run(" in block]
        found += [
            pytest.param(block, id=f"{page.stem}-{number}") for number, block in enumerate(whole, 1)
        ]
    return found


def run(*arguments: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "AIOTAOS_DSN"}
    environment["PYTHONIOENCODING"] = "utf-8"
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", *arguments],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stderr
    assert "Warning" not in done.stderr
    return done.stdout


@pytest.mark.parametrize("program", programs())
def test_programs_of_the_docs(program: str) -> None:
    assert run("-c", program).strip()


def test_weather() -> None:
    output = run(str(ROOT / "examples" / "weather.py"))
    assert "streamed 26,115 rows" in output
    # Means of January and July at Newark, computed from the CSV.
    newark = next(line for line in output.splitlines() if line.startswith("EWR"))
    assert newark.split()[1] == "35.6"
    assert newark.split()[7] == "80.7"


def test_columns() -> None:
    output = run(str(ROOT / "examples" / "columns.py"))
    assert "numpy: 20000 rows" in output
    assert "'Küche': 219.0, 'Bad': 220.0" in output
    assert "Arrow: 50000 rows, timestamp[ms, tz=Europe/Berlin]" in output
    assert "Parquet: 50000 rows" in output


def test_querying() -> None:
    output = run(str(ROOT / "examples" / "querying.py"))
    assert "location='Oakland'" in output
    assert "20000 rows, sum of voltages 2377200" in output


def test_many_tasks() -> None:
    output = run(str(ROOT / "examples" / "many_tasks.py"))
    assert "answers: 39800" in output
    assert "still works: 3" in output


def test_ingest() -> None:
    output = run(str(ROOT / "examples" / "ingest.py"))
    assert "19960 rows in" in output
    assert "40 reported" in output
    assert "stored: 19960" in output
    assert "voltage=1000000000000" in output


def test_bulk_insert() -> None:
    output = run(str(ROOT / "examples" / "bulk_insert.py"))
    assert "200000 rows in" in output
    assert "Fresno 100000 95000" in output
    assert "Oakland 100000 100000" in output


def test_rest() -> None:
    output = run(str(ROOT / "examples" / "rest.py"))
    assert output.splitlines() == [
        "20000 rows written as SQL, http",
        "the most: 4999.75 W at 2024-03-01 05:33:19+00:00",
        "1 line through the InfluxDB endpoint",
        "a prepared statement cannot be had over REST; connect over WebSocket, with ws://",
    ]


def test_native_without_a_server() -> None:
    """With one, on the stand-in for libtaos: tests/native/test_native_docs.py."""
    (line,) = run(str(ROOT / "examples" / "native.py")).splitlines()
    assert '--dsn "taos://' in line


def test_forward() -> None:
    output = run(str(ROOT / "examples" / "forward.py"))
    assert output.splitlines() == [
        "forwarded: 30000 rows",
        "example_in: 30000 rows, 112496250 W",
        "example_out: 30000 rows, 112496250 W",
    ]

"""docs/native.md names every function; its program runs, and so does examples/native.py."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from aiotaos import Field, TypeCode
from aiotaos.transport.native.prototypes import declarations
from aiotaos.transport.native.taosc import Taosc
from tests.native.standin import COLUMN, Parameter, Standin

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "native.md").read_text("utf-8")
TABLES = PAGE.partition("### Every function")[2]
OF_THE_MANUALS, OTHERS = TABLES.split("\nAnd the others")
FUNCTION = r"`((?:taos_|tmq_|getB)\w+)`"


def manuals() -> list[str]:
    """The functions that TDengine's manuals name."""
    lines = (Path(__file__).parent / "manuals.txt").read_text("utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]


def test_the_functions_of_the_manuals() -> None:
    rows = re.findall(rf"(?m)^\| {FUNCTION} \| (.+) \| `Taosc\.(\w+)` \|$", OF_THE_MANUALS)
    assert sorted(name for name, _, _ in rows) == manuals()
    assert [name for name, _, _ in rows] == [name for _, _, name in rows]


def test_the_other_functions() -> None:
    rows = re.findall(r"(?m)^\| .+ \| .+ \| (`.+`) \|$", OTHERS)
    others = [name for row in rows for name in re.findall(FUNCTION, row)]
    assert len(others) == len(set(others))
    assert set(others) == set(declarations(Taosc)) - set(manuals())


@pytest.mark.parametrize("name", sorted({*manuals(), *declarations(Taosc)}))
def test_every_function_is_there(name: str) -> None:
    assert getattr(Taosc, name).__doc__
    assert f"`{name}`" in TABLES


def test_the_program(standin: Standin) -> None:
    (program,) = (
        block
        for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
        if "taos_close" in block
    )
    program = program.replace("load()", f"load({str(standin.path)!r})", 1)
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    version, *rows = done.stdout.splitlines()
    assert version.startswith("libtaos 3.")
    assert rows


def test_the_example(
    standin: Standin,
    open_port: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    insert = "insert into power values (?, ?)"
    standin.parameters(insert, [Parameter("ts", COLUMN, 9, 8), Parameter("watt", COLUMN, 7, 8)])
    fields = [Field("ts", TypeCode.TIMESTAMP, 8), Field("watt", TypeCode.DOUBLE, 8)]
    standin.rows("select ts, watt from power", fields, [[1, 2], [0.5, 1.0]], [[3], [2.0]])
    dsn = f"taos://127.0.0.1:{open_port}?library_path={standin.path}"
    monkeypatch.setattr("sys.argv", ["native.py", "--dsn", dsn])
    runpy.run_path(str(ROOT / "examples" / "native.py"), run_name="__main__")
    version, *told = capsys.readouterr().out.splitlines()
    assert version.startswith("libtaos 3.3.7.0, server 3.3.7")
    assert told == [
        "20000 rows bound",
        "sum: 3.5 W",
        "1 line",
        "200 tasks on one connection, sum of their answers 19900",
    ]
    standin.wait("outstanding", 0)
    assert (standin.misuse(), standin.left()) == ({}, {})

"""What is imported when: the core without extras, and slow modules when they are used."""

from __future__ import annotations

import ast
import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "aiotaos"
OPTIONAL = (
    "aiohttp", "anyio", "duckdb", "matplotlib", "opentelemetry", "pandas", "polars", "pyarrow",
    "pytest", "sqlalchemy", "sqlglot", "taos", "taosws",
)  # fmt: skip


def run(code, *arguments):
    """Run a program in another interpreter, with warnings as errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.split()


def test_optional_modules_are_not_imported():
    found = run("import sys, aiotaos; print(*{name.partition('.')[0] for name in sys.modules})")
    assert "aiotaos" in found
    assert not set(found) & set(OPTIONAL)


def test_a_session_works_where_nothing_optional_is_installed(start_server_in_thread):
    code = """
import asyncio, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in OPTIONAL:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

OPTIONAL = sys.argv[2:]
sys.meta_path.insert(0, Missing())
import aiotaos

async def main():
    async with aiotaos.connect(sys.argv[1], timezone="UTC", compression=True) as conn:
        print(await conn.fetchval("select 1"))
        print(*[row async for row in await conn.query("rows")])

asyncio.run(main())
"""
    assert run(code, start_server_in_thread, *OPTIONAL) == ["1", "(1,)", "(2,)"]


@pytest.fixture
def start_server_in_thread(server_parts):
    """A server in a thread, for programs that run while this one waits for them."""
    make = server_parts.server
    started = threading.Event()
    box = {}

    async def serve():
        server = make()
        server.integers("rows", [1], [2])
        await server.start()
        box.update(dsn=server.dsn, loop=asyncio.get_running_loop(), stop=asyncio.Event())
        started.set()
        await box["stop"].wait()
        await server.stop()
        server.check()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(10)
    yield box["dsn"]
    box["loop"].call_soon_threadsafe(box["stop"].set)
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize("name", ["tls", "dial", "link", "websocket", "base"])
def test_each_module_can_be_imported_alone(name):
    assert run(f"import aiotaos.transport.{name}; print('fine')") == ["fine"]


def test_protocol_knows_nothing_of_sockets():
    """It imports of the rest of the package the types and the errors alone."""
    for path in (PACKAGE / "protocol").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not {"asyncio", "socket", "ssl", "websockets"} & {
                    name.name.partition(".")[0] for name in node.names
                }
            elif isinstance(node, ast.ImportFrom) and node.level == 2:
                assert node.module in ("types", "errors"), path


def test_transports_know_nothing_of_rows():
    for path in (PACKAGE / "transport").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 2:
                room = node.module.partition(".")[0]
                assert room in ("types", "errors", "options", "home", "protocol"), path
                assert node.module != "protocol.rows", path

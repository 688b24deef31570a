"""Fixtures that build and load the stand-in for libtaos."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

import aiotaos
from tests.native.standin import Flavour, Standin, build


@pytest.fixture(scope="session")
def load_standin(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Flavour], Standin]:
    """Build and load a flavour, each once; what does not compile is not tried again."""
    cache = getattr(request.config, "cache", None)
    directory: Path = cache.mkdir("standin") if cache else tmp_path_factory.mktemp("standin")
    loaded: dict[Flavour, Standin] = {}
    failed: list[BaseException] = []

    def load(flavour: Flavour) -> Standin:
        if failed:
            raise failed[0]
        if flavour not in loaded:
            try:
                loaded[flavour] = Standin(flavour, build(flavour, directory))
            except (pytest.fail.Exception, pytest.skip.Exception) as error:
                failed.append(error)
                raise
        return loaded[flavour]

    return load


@pytest.fixture
def standin(load_standin: Callable[[Flavour], Standin]) -> Iterator[Standin]:
    """The library of 3.3; it forgets everything after the test."""
    found = load_standin(Flavour.FULL)
    found.reset()
    yield found
    found.reset()


@pytest.fixture
def old_standin(load_standin: Callable[[Flavour], Standin]) -> Iterator[Standin]:
    """The library of 3.0."""
    found = load_standin(Flavour.OLD3)
    found.reset()
    yield found
    found.reset()


@pytest.fixture
def standin_2x(load_standin: Callable[[Flavour], Standin]) -> Iterator[Standin]:
    """The library of 2.6."""
    found = load_standin(Flavour.TWO)
    found.reset()
    yield found
    found.reset()


@pytest.fixture(scope="session")
def open_port() -> Iterator[int]:
    """A port where somebody listens, and nothing else: the stand-in opens no sockets."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    server.accept()[0].close()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


class Native:
    """Connections over a stand-in.

    Attributes:
        standin: The library.
        port: Where the server seems to be.
    """

    def __init__(self, standin: Standin, port: int, stack: AsyncExitStack) -> None:
        self.standin = standin
        self.port = port
        self._stack = stack

    def dsn(self, **options: Any) -> str:
        told = {"library_path": self.standin.path, "conn_retries": 0} | options
        text = "&".join(f"{name}={value}" for name, value in told.items())
        return f"taos://root:taosdata@127.0.0.1:{self.port}/test?{text}"

    async def connect(self, **options: Any) -> aiotaos.Connection[Any]:
        """A connection that is closed after the test."""
        opened = aiotaos.connect(self.dsn(), **options)
        return await self._stack.enter_async_context(opened)


def native_threads() -> list[str]:
    """The threads that native sessions have."""
    return [each.name for each in threading.enumerate() if each.name.startswith("aiotaos-native")]


async def _native(standin: Standin, port: int) -> AsyncIterator[Native]:
    async with AsyncExitStack() as stack:
        yield Native(standin, port, stack)
    standin.wait("outstanding", 0)
    misuse = standin.misuse()
    if standin.flavour is Flavour.TWO:
        misuse.pop("rows_refused", None)  # nobody can know that a callback has returned; repeated
    assert misuse == {}
    async with asyncio.timeout(5):
        while native_threads():  # noqa: ASYNC110 - they end by themselves, soon
            await asyncio.sleep(0.001)
    assert standin.left() == {}


@pytest.fixture
async def native(standin: Standin, open_port: int, clean: None) -> AsyncIterator[Native]:
    """Connections over the library of 3.3; after the test nothing is left of them."""
    async for each in _native(standin, open_port):
        yield each


@pytest.fixture(params=list(Flavour))
async def any_native(
    request: pytest.FixtureRequest,
    load_standin: Callable[[Flavour], Standin],
    open_port: int,
    clean: None,
) -> AsyncIterator[Native]:
    """The same over each library."""
    found = load_standin(request.param)
    found.reset()
    async for each in _native(found, open_port):
        yield each
    found.reset()

"""What reading costs a process besides time: memory, and turns of its event loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

MIB = 1024 * 1024

T = TypeVar("T")


class Strain(NamedTuple):
    """What reading cost a process.

    Attributes:
        growth: MiB by which the peak of resident memory rose.
        gap: Seconds of the longest time in which the event loop ran nothing else.
    """

    growth: float
    gap: float


def peak() -> int:
    """Peak of resident memory, bytes.

    Linux lets getrusage() begin with the peak of the process that started this one, so there it is
    taken from the kernel's own count.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def forget_peak() -> None:
    """Let the peak begin anew, where the kernel can: what imports took shall not hide anything."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


class Gap:
    """Notes the longest time between two turns of the event loop; includes 1 ms of sleep."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def watch(self) -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            self.longest = max(self.longest, now - last)
            last = now


async def watched(read: Callable[[], Awaitable[T]]) -> tuple[Strain, T]:
    """Watch this process while it reads; what it took, and what reading returned."""
    gap = Gap()
    gc.collect()
    forget_peak()
    before = peak()
    watching = asyncio.create_task(gap.watch())
    await asyncio.sleep(0.01)
    taken = await read()
    await asyncio.sleep(0.01)
    watching.cancel()
    return Strain((peak() - before) / MIB, gap.longest), taken

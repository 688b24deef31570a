"""One timer for many replies."""

from __future__ import annotations

import asyncio
import math

import pytest

from aiotaos import TimeoutError
from aiotaos.transport.alarm import Alarm
from aiotaos.transport.base import Deadline


def late() -> TimeoutError:
    return TimeoutError("too late")


async def lateness(alarm: Alarm, seconds: float) -> float:
    """How much later than wanted a reply that never comes fails, s."""
    loop = asyncio.get_running_loop()
    deadline = Deadline(seconds)
    with pytest.raises(TimeoutError, match="too late"):
        await alarm.within(deadline, loop.create_future(), late)
    assert deadline.when is not None
    return loop.time() - deadline.when


async def test_each_has_its_own_time() -> None:
    alarm = Alarm()
    order: list[float] = []

    async def wait(seconds: float) -> float:
        found = await lateness(alarm, seconds)
        order.append(seconds)
        return found

    wanted = [0.05, 0.01, 0.09, 0.03, 0.07]
    found = await asyncio.gather(*map(wait, wanted))
    assert order == sorted(wanted)
    assert min(found) >= 0


async def test_an_answer_in_time() -> None:
    alarm = Alarm()
    reply = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(reply.set_result, 7)
    assert await alarm.within(Deadline(0.01), reply, late) == 7
    assert await alarm.within(Deadline(0), reply, late) == 7
    other = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(alarm.within(Deadline(math.inf), other, late))
    assert await lateness(alarm, 0.02) >= 0  # the first one's time is over, and it was forgotten
    assert not task.done()
    other.set_result(8)
    assert await task == 8


async def test_a_crowd_is_not_kept_waiting() -> None:
    """Deadlines microseconds apart are looked at together, not each on its own."""
    alarm = Alarm()
    found = await asyncio.gather(*(lateness(alarm, 0.2) for _ in range(3000)))
    assert max(found) < 2  # with a turn for each it was a minute


async def test_nobody_waits_any_more() -> None:
    alarm = Alarm()
    reply = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(alarm.within(Deadline(0.01), reply, late))
    await asyncio.sleep(0)
    alarm.stop()
    reply.set_result(1)
    assert await task == 1
    assert await lateness(alarm, 0.01) >= 0

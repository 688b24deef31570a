"""What is repeated, how often, and after which pauses."""

from __future__ import annotations

import asyncio
import math

import pytest

from aiotaos import ConnectionLost, InterfaceError, TimeoutError
from aiotaos.errors import server_error
from aiotaos.options import Options
from aiotaos.transport import retry
from aiotaos.transport.base import Deadline
from aiotaos.transport.retry import Attempts, Backoff


def options(retries=3, first=100, longest=1000):
    return Options(conn_retries=retries, retry_backoff_ms=first, retry_backoff_max_ms=longest)


@pytest.fixture
def even(monkeypatch):
    """Chance takes the middle."""
    monkeypatch.setattr(retry.random, "uniform", lambda low, high: (low + high) / 2)


@pytest.fixture
def pauses(monkeypatch, even):
    """The pauses that are made; none of them takes any time."""
    made = []

    async def sleep(seconds):
        made.append(round(seconds, 9))

    monkeypatch.setattr(retry.asyncio, "sleep", sleep)
    return made


def attempts(retries=3, seconds=math.inf, *, safe):
    return Attempts(options(retries), Deadline(seconds), safe=safe)


def lost(may_have_run):
    return ConnectionLost("the connection was lost", may_have_run=may_have_run)


async def repeats(tried, error):
    """Whether there is another attempt after an error."""
    before = tried.count
    (raised,) = await asyncio.gather(tried.pause(error), return_exceptions=True)
    assert raised is None or raised is error
    assert tried.count == before + (raised is None)
    return raised is None


# Pauses.


def test_pauses_double_up_to_the_longest(even):
    backoff = Backoff(options(first=100, longest=1000))
    assert [round(backoff.next(), 9) for _ in range(7)] == [0.1, 0.2, 0.4, 0.8, 1, 1, 1]


def test_the_first_pause_may_be_the_longest(even):
    backoff = Backoff(options(first=500, longest=300))
    assert [round(backoff.next(), 9) for _ in range(3)] == [0.3, 0.3, 0.3]


def test_pauses_are_not_all_alike():
    found = [Backoff(options(first=1000, longest=1000)).next() for _ in range(300)]
    assert 0.8 <= min(found) < 0.85
    assert 1.15 < max(found) <= 1.2
    assert len(set(found)) > 250


# Which errors.


@pytest.mark.parametrize(
    ("error", "safe", "expected"),
    [
        (lost(True), True, True),
        (lost(True), False, False),
        (lost(False), True, True),
        (lost(False), False, True),
        (lost(None), False, True),
        (server_error(0x000B, "network"), True, True),
        (server_error(0x000B, "network"), False, False),
        (server_error(0x0018, "broken"), True, True),
        (server_error(0x0125, "starting"), True, True),
        (server_error(0x0125, "starting"), False, False),
        (server_error(0x0531, "vnode"), True, True),
        (server_error(0x020B, "session gone"), True, True),
        (server_error(0x020B, "session gone"), False, False),
        (server_error(0xFFFE, "limited"), True, True),
        (server_error(0xFFFE, "limited"), False, True),
        (server_error(0x03D3, "conflict"), False, True),
        (server_error(0x0386, "in dropping"), False, True),
        (server_error(0x0396, "in creating"), False, True),
        (server_error(0x2600, "syntax"), True, False),
        (server_error(0x2603, "no table"), True, False),
        (server_error(0x0357, "password"), True, False),
        (server_error(0xFFFF, "adapter"), True, False),
        (TimeoutError("no answer", may_have_run=True), True, False),
        (TimeoutError("not sent", may_have_run=False), True, False),
        (InterfaceError("closed"), True, False),
    ],
)
async def test_what_is_repeated(pauses, error, safe, expected):
    assert await repeats(attempts(safe=safe), error) is expected


async def test_what_it_is_repeated_upon_once(pauses):
    """A time-stamp that may be out of range by a change of the schema."""
    tried = attempts(safe=True)
    assert await repeats(tried, server_error(0x0600, "schema is old"))
    assert not await repeats(tried, server_error(0x0600, "schema is old"))


# How often, and when.


@pytest.mark.parametrize("retries", [0, 1, 4])
async def test_the_number_of_attempts(pauses, retries):
    tried = attempts(retries, safe=True)
    assert tried.count == 1
    answers = [await repeats(tried, server_error(0x000B, "network")) for _ in range(6)]
    assert answers == [True] * retries + [False] * (6 - retries)
    assert tried.count == 1 + retries


async def test_the_pauses(pauses):
    tried = attempts(4, safe=True)
    for _ in range(4):
        assert await repeats(tried, server_error(0x000B, "network"))
    assert pauses == [0.1, 0.2, 0.4, 0.8]


async def test_a_lost_link_is_opened_again_at_once(pauses):
    """The second time, the server may need a moment."""
    tried = attempts(4, safe=True)
    for _ in range(3):
        assert await repeats(tried, lost(False))
    assert pauses == [0.1, 0.2]


async def test_no_pause_longer_than_the_time_that_is_left(pauses):
    tried = attempts(9, 0.35, safe=True)
    assert await repeats(tried, server_error(0x000B, "network"))
    assert await repeats(tried, server_error(0x000B, "network"))
    assert not await repeats(tried, server_error(0x000B, "network"))
    assert pauses == [0.1, 0.2]


async def test_a_cancelled_pause():
    tried = Attempts(options(3, 60_000, 60_000), Deadline(math.inf), safe=True)
    task = asyncio.create_task(tried.pause(server_error(0x000B, "network")))
    await asyncio.wait([task], timeout=0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert tried.count == 1


def test_codes_are_in_one_place_each():
    assert retry.NOT_RUN <= retry.PASSING
    assert not retry.SESSION_GONE & retry.PASSING

"""Which server is asked next: loads, failures, and what is learned."""

from __future__ import annotations

from collections import Counter

import pytest

from aiotaos.options import Address
from aiotaos.transport import servers
from aiotaos.transport.servers import Place, Servers, failed, is_aside, served

A, B, C = (Address(name, 6041) for name in "abc")


@pytest.fixture(autouse=True)
def own(monkeypatch):
    """Nothing of other sessions."""
    _kept.clear()
    monkeypatch.setattr(servers, "_loads", Counter())
    monkeypatch.setattr(servers, "_aside", {})


_kept: list[Place] = []


def load(address):
    """A session at an address, which stays."""
    _kept.append(Place(address))


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until it is moved."""

    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(servers, "time", clock)
    return clock


def aside_for(clock, address):
    """Seconds that an address is still aside; the clock stands then at their end."""
    start = clock.now
    while is_aside(address):
        clock.now += 0.25
    return clock.now - start


# Addresses that fail.


def test_an_address_that_failed_is_set_aside(clock):
    assert not is_aside(A)
    failed(A)
    assert is_aside(A)
    assert not is_aside(B)
    clock.now += 0.999
    assert is_aside(A)
    clock.now += 0.001
    assert not is_aside(A)


def test_for_longer_each_time(clock):
    found = []
    for _ in range(9):
        failed(A)
        found.append(aside_for(clock, A))
    assert found == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_failures_of_what_is_aside_already_do_not_count(clock):
    """Ten tasks that fail together have found one failure."""
    for _ in range(10):
        failed(A)
    assert aside_for(clock, A) == 1
    failed(A)
    assert aside_for(clock, A) == 2


def test_an_address_that_serves_is_as_good_as_new(clock):
    failed(A)
    clock.now += 1
    failed(A)
    served(A)
    assert not is_aside(A)
    failed(A)
    assert aside_for(clock, A) == 1
    served(B)
    assert not is_aside(B)


@pytest.mark.parametrize(("told", "kept"), [(7, 7), (0.5, 0.5), (3600, 60), (0, 0)])
def test_the_server_says_how_long(clock, told, kept):
    failed(A, told)
    assert aside_for(clock, A) == kept
    failed(A)
    assert aside_for(clock, A) == 1


def test_the_server_says_so_while_it_is_aside(clock):
    failed(A)
    failed(A, 30)
    assert aside_for(clock, A) == 30


# Loads.


def test_places():
    first, second = Place(A), Place(A)
    assert servers._loads[A] == 2
    first.leave()
    first.leave()
    assert servers._loads[A] == 1
    assert second.address == A
    second.leave()
    assert servers._loads[A] == 0


def test_the_least_loaded_comes_first():
    found = Servers([A, B, C])
    places = [Place(address) for address in (A, A, B)]
    assert found.order() == [C, B, A]
    places[0].leave()
    places[1].leave()
    assert found.order()[2] == B


def test_by_chance_among_equals():
    found = Servers([A, B, C])
    orders = {tuple(found.order()) for _ in range(500)}
    assert len(orders) == 6


def test_those_that_failed_come_last(clock):
    found = Servers([A, B, C])
    load(B)
    load(C)
    load(C)
    failed(A)
    assert found.order() == [B, C, A]
    failed(B)
    assert found.order() == [C, A, B]
    clock.now += 1
    assert found.order() == [A, B, C]


def test_the_order_is_the_callers():
    found = Servers([A, B])
    found.order().clear()
    assert sorted(found.order(), key=str) == [A, B]
    assert len(found) == 2


# Moving.


def test_even_loads_stay():
    found = Servers([A, B])
    assert found.lighter_than(A) is None
    load(A)
    assert found.lighter_than(A) is None
    load(B)
    load(A)
    assert found.lighter_than(A) is None
    assert found.lighter_than(B) is None


def test_a_lighter_one():
    found = Servers([A, B, C])
    places = [Place(A) for _ in range(2)]
    load(C)
    assert found.lighter_than(A) == B
    assert found.lighter_than(C) is None
    places[0].leave()
    assert found.lighter_than(A) is None


def test_one_alone():
    found = Servers([A])
    for _ in range(5):
        load(A)
    assert found.lighter_than(A) is None


def test_a_lighter_one_that_is_aside(clock):
    found = Servers([A, B])
    for _ in range(5):
        load(A)
    failed(B)
    assert found.lighter_than(A) is None
    clock.now += 1
    assert found.lighter_than(A) == B


def test_a_lighter_one_when_all_are_aside(clock):
    found = Servers([A, B])
    for _ in range(5):
        load(A)
    failed(A)
    failed(B)
    assert found.lighter_than(A) is None


def test_an_address_that_is_none_of_them():
    found = Servers([A])
    for _ in range(2):
        load(B)
    assert found.lighter_than(B) == A


# Learning.


@pytest.mark.parametrize(
    ("instances", "tls", "learned"),
    [
        (["b:6042"], False, [Address("b", 6042)]),
        (["b:6042"], True, [Address("b", 6042)]),
        (["b"], False, [Address("b", 6041)]),
        (["[::1]:7000", "[fe80::1]"], False, [Address("::1", 7000), Address("fe80::1", 6041)]),
        (["http://b:1", "https://c:2"], False, [Address("b", 1)]),
        (["http://b:1", "https://c:2"], True, [Address("c", 2)]),
        (["b:1", "b:1", "a:6041", "b:2"], False, [Address("b", 1), Address("b", 2)]),
        (["", ":6041", "b:port", "b:70000", "[::1", "c:1"], False, [Address("c", 1)]),
        ([], False, []),
    ],
)
def test_what_the_server_says_of_its_cluster(instances, tls, learned):
    found = Servers([A])
    found.learn(instances, tls=tls)
    assert len(found) == 1 + len(learned)
    assert set(found.order()) == {A, *learned}


def test_what_is_learned_is_not_everybodys():
    given = [A]
    found, other = Servers(given), Servers(given)
    found.learn(["b:6041"], tls=False)
    assert len(found) == 2
    assert other.order() == [A]
    assert given == [A]

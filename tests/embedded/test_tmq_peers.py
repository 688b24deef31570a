"""The official client subscribes to the embedded server's topics.

It blocks, and keeps the GIL while it waits: the server runs as a process of its own.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

taosws = pytest.importorskip("taosws")

CAPTURES = Path(__file__).parent.parent / "data" / "captures"
T0 = datetime(2024, 3, 1, tzinfo=UTC)
SETUP = [
    "create database peers vgroups 3",
    "create stable peers.s (ts timestamp, v int, n nchar(10), d decimal(10,2)) tags (t int)",
    "create topic q as select ts, v, tbname, t from peers.s where v % 2 = 0",
    "create topic st with meta as stable peers.s",
    "create topic db as database peers",
]
Open = Callable[..., Any]


@pytest.fixture
def conn(embedded_dsn: str) -> Iterator[Any]:
    conn = taosws.connect(embedded_dsn)
    yield conn
    conn.close()


@pytest.fixture
def consumer(embedded_dsn: str) -> Iterator[Open]:
    """Open consumers, which are closed at the end."""
    opened = []

    def open(*topics: str, group: str = "g", **more: str) -> Any:
        options = {"group.id": group, "auto.offset.reset": "earliest", **more}
        options = {"enable.auto.commit": "false", **options}
        query = "&".join(f"{key}={value}" for key, value in options.items())
        consumer = taosws.Consumer(dsn=f"{embedded_dsn}?{query}")
        consumer.subscribe(list(topics))
        opened.append(consumer)
        return consumer

    yield open
    for one in opened:
        one.close()


def insert(conn: Any, *numbers: int) -> None:
    """Write a row for each number, spread over nine sub-tables."""
    for number in numbers:
        table = number % 9
        conn.execute(
            f"insert into peers.t{table} using peers.s tags ({table}) values "
            f"({1709251200000 + number}, {number}, '第{number}', '{number}.25')"
        )


def rows_of(message: Any) -> list[tuple[Any, ...]]:
    return [tuple(row) for block in message for row in block.fetchall()]


def read(consumer: Any, *, commit: bool = False) -> list[tuple[Any, ...]]:
    """All rows that are there."""
    rows = []
    while (message := consumer.poll(timeout=0.1)) is not None:
        rows += rows_of(message)
        if commit:
            consumer.commit(message)
    return rows


def row(number: int) -> tuple[Any, ...]:
    time = T0 + timedelta(milliseconds=number)
    return (time, number, f"第{number}", Decimal(f"{number}.25"))


def numbers(rows: list[tuple[Any, ...]]) -> list[int]:
    return sorted(row[1] for row in rows)


def test_three_kinds_of_topics(conn: Any, consumer: Open) -> None:
    for sql in SETUP:
        conn.execute(sql)
    conn.execute("create table peers.plain (ts timestamp, x bigint, b varbinary(4))")
    insert(conn, *range(30))
    conn.execute(r"insert into peers.plain values (1709251200000, 77, '\x00ff')")
    query = [(T0 + timedelta(milliseconds=n), n, f"t{n % 9}", n % 9) for n in range(0, 30, 2)]
    assert sorted(read(consumer("q"))) == query
    rows = [row(n) for n in range(30)]
    assert sorted(read(consumer("st"))) == rows
    everything = read(consumer("db"))
    assert sorted(one for one in everything if len(one) == 4) == rows
    assert [one for one in everything if len(one) == 3] == [(T0, 77, b"\0\xff")]


def test_commit_and_resume(conn: Any, consumer: Open) -> None:
    for sql in SETUP:
        conn.execute(sql)
    insert(conn, *range(20))
    first = consumer("st")
    assert numbers(read(first, commit=True)) == list(range(20))
    insert(conn, *range(20, 30))
    assert numbers(read(first)) == list(range(20, 30))
    first.unsubscribe()
    second = consumer("st")
    assert numbers(read(second)) == list(range(20, 30))
    assert second.list_topics() == ["st"]


def test_seek(conn: Any, consumer: Open) -> None:
    for sql in SETUP:
        conn.execute(sql)
    insert(conn, *range(20))
    one = consumer("q")
    wanted = list(range(0, 20, 2))
    assert numbers(read(one)) == wanted
    ((topic, places),) = [(a.topic(), a.assignments()) for a in one.assignment()]
    assert (topic, len(places)) == ("q", 3)
    for place in places:
        assert (place.begin(), one.position("q", place.vg_id())) == (0, place.end())
        one.seek("q", place.vg_id(), place.begin())
    assert numbers(read(one)) == wanted
    place = places[0]
    one.commit_offset("q", place.vg_id(), 1)
    assert one.committed("q", place.vg_id()) == 1


def test_a_group_and_another_one(conn: Any, consumer: Open) -> None:
    for sql in SETUP:
        conn.execute(sql)
    first, second = consumer("st"), consumer("st")
    other = consumer("st", group="other")
    insert(conn, *range(40))
    parts = [numbers(read(one, commit=True)) for one in (first, second)]
    assert all(parts)
    assert sorted(parts[0] + parts[1]) == list(range(40))
    assert numbers(read(other)) == list(range(40))


def test_members_come_and_go(conn: Any, consumer: Open) -> None:
    for sql in SETUP:
        conn.execute(sql)
    seen: Counter[int] = Counter()

    def share(*consumers: Any) -> list[int]:
        counts = []
        for one in consumers:
            found = numbers(read(one, commit=True))
            seen.update(found)
            counts.append(len(found))
        return counts

    first = consumer("st")
    insert(conn, *range(30))
    assert share(first) == [30]
    second = consumer("st")
    insert(conn, *range(30, 60))
    assert all(share(first, second))
    first.unsubscribe()
    insert(conn, *range(60, 90))
    assert share(second) == [30]
    assert seen == Counter(range(90))


def test_the_recorded_rows(conn: Any, consumer: Open) -> None:
    """The statements of the recording, and what the same client decoded then."""
    recorded = json.loads((CAPTURES / "tmq_data.expected.json").read_text(encoding="utf-8"))
    for entry in recorded:
        if "sql" in entry:
            conn.execute(entry["sql"])
    topic = ""
    wanted: dict[str, list[str]] = {}
    for entry in recorded:
        topic = entry.get("topic", topic)
        if "seek" in entry:
            topic = ""  # what follows is read again
        elif "message" in entry and topic:
            rows = [row for block in entry["blocks"] for row in block["rows"]]
            wanted.setdefault(topic, []).extend(json.dumps(row) for row in rows)
    assert list(wanted) == ["cap_q", "cap_s", "cap_d"]
    for topic, rows in wanted.items():
        found = [json.dumps([plain(value) for value in row]) for row in read(consumer(topic))]
        assert sorted(found) == sorted(rows)


def plain(value: object) -> object:
    """A value as the recording holds it."""
    if isinstance(value, datetime):
        return {"datetime": value.isoformat(timespec="microseconds")}
    if isinstance(value, float):
        return {"float": repr(value)}
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    return value

"""Statements about topics, and what topics forbid."""

from __future__ import annotations

import duckdb
import pytest

from aiotaos.embedded.engine import Engine, State
from aiotaos.embedded.faults import Fault
from aiotaos.embedded.groups import Groups
from aiotaos.embedded.store import Store
from aiotaos.embedded.tmq_options import ConsumerOptions, Reset

SETUP = [
    "create stable s (ts timestamp, v int, w int, n nchar(4)) tags (t int, loc varchar(8))",
    "create table a using s tags (1, 'x')",
    "create table plain (ts timestamp, v int)",
]


@pytest.fixture
def db(run):
    for statement in SETUP:
        run(statement)
    return run


@pytest.mark.parametrize(
    "statement",
    [
        "create topic t as select ts, v from s where v > 1 and t = 1",
        "create topic t as select * from a",
        "create topic t as select abs(v) k, upper(n), v + 1, now, tbname from test.s",
        "create topic if not exists t as select * from plain",
        "create topic t as stable s",
        "create topic t with meta as stable test.s where t > 1 and tbname = 'a'",
        "create topic t only meta as stable s",
        "create topic t as database test",
        "create topic t with meta as database test",
        "create topic t only meta as database test",
    ],
)
def test_topics_come_and_go(db, statement):
    assert db(statement) == 0
    assert db("show topics") == [("t",)]
    with pytest.raises(Fault, match="Topic already exists") as caught:
        db("create topic t as database test")
    assert caught.value.code == 0x03E0
    assert db("create topic if not exists t as database test") == 0
    assert db("drop topic t") == 0
    assert db("show topics") == []


@pytest.mark.parametrize(
    ("statement", "code", "message"),
    [
        ("create topic t as select count(*) from s", 0x2639, "Invalid topic query"),
        ("create topic t as select ts, v from s order by ts", 0x2639, "Invalid topic query"),
        ("create topic t as select ts, v from s limit 1", 0x2639, "Invalid topic query"),
        ("create topic t as select distinct v from s", 0x2639, "Invalid topic query"),
        ("create topic t as select diff(v) from a", 0x2639, "Invalid topic query"),
        ("create topic t as select v from s partition by tbname", 0x2639, "Invalid topic query"),
        ("create topic t as select v from s group by v", 0x2639, "Invalid topic query"),
        ("create topic t as select * from (select ts, v from a)", 0x2639, "Invalid topic query"),
        (
            "create topic t as select a.ts from a join plain on a.ts = plain.ts",
            0x2639,
            "Invalid topic query",
        ),
        ("create topic t as select * from s union select * from s", 0x2639, "Invalid topic query"),
        (
            "create topic t as select name, precision from information_schema.ins_databases",
            0x2639,
            "Invalid topic query",
        ),
        ("create topic t as select 1", 0x2639, "Invalid topic query"),
        ("create topic t as select nosuch from s", 0x2602, "Invalid column name: nosuch"),
        ("create topic t as select ts from nosuch", 0x2603, "Table does not exist"),
        ("create topic t as stable nosuch", 0x0362, "STable not exist"),
        ("create topic t as stable plain", 0x0362, "STable not exist"),
        ("create topic t as database nosuch", 0x0388, "Database not exist"),
        (
            "create topic t as stable s where v > 1",
            0x2600,
            "Columns are forbidden in where clause",
        ),
        ("create topic t as stable s where nosuch > 1", 0x2602, "Invalid column name: nosuch"),
        (
            "create topic t as stable s with meta where t > 1",
            0x2600,
            'syntax error near "with meta where t > 1"',
        ),
        ("create topic a.t as database test", 0x2600, 'syntax error near ".t as database test"'),
        ("create topic t as table s", 0x2600, 'syntax error near "table s"'),
        (
            "create topic t with meta as select * from s",
            0x2600,
            'syntax error near "select * from s"',
        ),
        ("create topic t", 0x2601, "Incomplete SQL statement"),
        (
            f"create topic {'x' * 193} as database test",
            0x2617,
            f"Invalid identifier name: {'x' * 193}",
        ),
        ("drop topic nosuch", 0x03E1, "Topic not exist"),
        ("drop consumer group g on nosuch", 0x03E8, "Subcribe not exist"),
        ("drop consumer group g nosuch", 0x2600, 'syntax error near "nosuch"'),
        (
            "create database d vgroups 0",
            0x2617,
            "Invalid option vgroups: 0, valid range: [1, 1024]",
        ),
    ],
)
def test_what_is_refused(db, statement, code, message):
    with pytest.raises(Fault) as caught:
        db(statement)
    assert (caught.value.code, caught.value.message) == (code, message)
    assert db("show topics") == []


def test_what_may_lack(db):
    assert db("drop topic if exists nosuch") == 0
    assert db("drop topic if exists force nosuch") == 0
    assert db("drop consumer group if exists g on nosuch") == 0
    assert db("create topic force as database test") == 0
    assert db("drop topic force") == 0
    assert db("show consumers") == db("show subscriptions") == []


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("drop database test", 0x03ED),
        ("drop stable s", 0x03ED),
        ("alter table s drop column v", 0x03C4),
        ("alter table s drop tag t", 0x03C4),
        ("alter table s rename tag t other", 0x03C4),
    ],
)
def test_what_a_query_topic_forbids(db, statement, code):
    db("create topic q as select ts, v from s where t > 1")
    with pytest.raises(Fault) as caught:
        db(statement)
    assert caught.value.code == code
    db("alter table s drop column n")
    db("alter table s rename tag loc place")
    db("drop topic q")
    assert db(statement) == 0


def test_what_other_topics_forbid(db):
    db("create topic st as stable s where t > 1")
    with pytest.raises(Fault, match="Field used by topic"):
        db("alter table s rename tag t other")
    assert db("alter table s drop column v") == 0
    with pytest.raises(Fault, match="Topic must be dropped first"):
        db("drop stable s")
    db("drop topic st")
    db("create topic d as database test")
    db("create topic n as select * from plain")
    assert db("drop stable s") == 0
    assert db("drop table plain") == 0
    with pytest.raises(Fault, match="Topic must be dropped first"):
        db("drop database test")


def test_a_file_of_an_earlier_version(tmp_path):
    path = str(tmp_path / "old.db")
    with duckdb.connect(path) as connection:
        connection.execute("CREATE TABLE databases (name VARCHAR, precision INTEGER)")
        connection.execute("INSERT INTO databases VALUES ('old', 1)")
    engine = Engine(path)
    try:
        assert len(engine.store.catalog.databases["old"].vgroups) == 2
        engine.execute("create database young vgroups 3", State())
    finally:
        engine.close()
    engine = Engine(path)
    try:
        vgroups = [home.vgroups for home in engine.store.catalog.databases.values()]
        assert [len(numbers) for numbers in vgroups] == [2, 3]
        assert len(set().union(*vgroups)) == 5
    finally:
        engine.close()


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def groups(engine, run, clock) -> Groups:
    run("create table plain (ts timestamp, v int)")
    run("create topic d as database test")
    return Groups(engine.store, clock)


def options(seconds: float) -> ConsumerOptions:
    return ConsumerOptions("g", reset=Reset.EARLIEST, poll_interval=seconds)


def test_who_does_not_poll_is_thrown_out(groups, clock):
    first = groups.subscribe(options(10.0), ["d"])
    second = groups.subscribe(options(20.0), ["d"])
    assert [len(one.places) for one in (first, second)] == [1, 1]
    clock.now += 9
    assert groups.hear(second) == 1.0
    assert [len(one.places) for one in (first, second)] == [1, 1]
    clock.now += 1
    assert groups.hear(second) == 20.0
    assert [len(one.places) for one in (first, second)] == [0, 2]
    assert groups.consumers() == [second]
    with pytest.raises(Fault, match="Consumer not exist") as caught:
        groups.poll(first)
    assert caught.value.code == 0x03E6
    assert groups.subscribe(first.options, ["d"], first) is first
    assert [len(one.places) for one in (first, second)] == [1, 1]
    assert groups.poll(first) is None
    clock.now += 20
    groups.sweep()
    assert groups.consumers() == []


def test_who_waits_stays(groups, clock):
    first = groups.subscribe(options(10.0), ["d"])
    clock.now += 1000
    assert groups.hear(first) == 10.0
    assert groups.poll(first) is None


def test_a_log_without_topics_is_not_kept(engine, run):
    store: Store = engine.store
    run("create table n (ts timestamp, v int)")
    run("insert into n values (1, 1)")
    assert not store.journal.keeps("test")
    run("create topic a as database test")
    run("create topic b as select * from n")
    run("drop topic a")
    assert store.journal.keeps("test")
    run("drop topic b")
    assert not store.journal.keeps("test")

"""Spans and metrics, as OpenTelemetry's own SDK has them."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import aiotaos
from aiotaos import Query
from aiotaos.embedded import Server
from aiotaos.otel import OpenTelemetryHooks

DURATION = "db.client.operation.duration"
COUNT = "db.client.connection.count"
MAX = "db.client.connection.max"
PENDING = "db.client.connection.pending_requests"
POOL_NAME = "db.client.connection.pool.name"
STATE = "db.client.connection.state"


class Telemetry:
    """A place where spans and metrics are kept."""

    def __init__(self):
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])

    def hooks(self, **options):
        return OpenTelemetryHooks(self.tracers, self.meters, **options)

    def span(self):
        """The only span that has ended since the last look."""
        (span,) = self.spans()
        return span

    def spans(self):
        spans = self.exporter.get_finished_spans()
        self.exporter.clear()
        return spans

    def metrics(self):
        """The points of each metric, by its name."""
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        (resource,) = data.resource_metrics
        (scope,) = resource.scope_metrics
        assert (scope.scope.name, scope.scope.version) == ("aiotaos", aiotaos.__version__)
        return {metric.name: metric for metric in scope.metrics}

    def points(self, name):
        metric = self.metrics().get(name)
        if metric is None:
            return []
        return [(dict(point.attributes), point.value) for point in metric.data.data_points]


@pytest.fixture
def telemetry():
    telemetry = Telemetry()
    yield telemetry
    telemetry.tracers.shutdown()
    telemetry.meters.shutdown()


@pytest.fixture
async def conn(server, telemetry):
    async with aiotaos.connect(server.dsn, hooks=telemetry.hooks()) as conn:
        yield conn


@pytest.fixture
async def embedded(clean, telemetry):
    """A connection to an embedded server with a database and a table."""
    async with Server() as server, aiotaos.connect(server.dsn, hooks=telemetry.hooks()) as conn:
        await conn.execute("create database d")
        await conn.select_db("d")
        await conn.execute("create table t (ts timestamp, v int)")
        telemetry.exporter.clear()
        yield conn


def text(sql, parameters=0, **options):
    """The text that the span of a statement has."""
    telemetry = Telemetry()
    query = Query(sql, sql.split()[0].upper(), parameters, 1, "ws://localhost:6041", None, 0.0)
    hooks = telemetry.hooks(**options)
    hooks.query_start(query)
    hooks.query_end(query)
    return telemetry.span().attributes.get("db.query.text")


# Spans.


async def test_a_query(server, conn, telemetry):
    server.integers("select v from t where v > 7", [8])
    assert await conn.fetch("select v from t where v > 7", req_id=77) == [(8,)]
    span = telemetry.span()
    assert span.name == f"SELECT 127.0.0.1:{server.port}"
    assert span.kind is SpanKind.CLIENT
    assert span.status.status_code is StatusCode.UNSET
    assert span.events == ()
    assert span.parent is None
    assert span.end_time >= span.start_time
    assert dict(span.attributes) == {
        "db.system.name": "tdengine",
        "db.operation.name": "SELECT",
        "db.query.text": "select v from t where v > ?",
        "server.address": "127.0.0.1",
        "server.port": server.port,
        "tdengine.req_id": 77,
        "tdengine.server_seconds": 1234e-9,
    }


async def test_the_database(server, conn, telemetry):
    await conn.execute("use power")
    telemetry.exporter.clear()
    server.affect("drop table t", 0)
    await conn.execute("drop table t")
    span = telemetry.span()
    assert span.name == "DROP power"
    assert span.attributes["db.namespace"] == "power"


async def test_a_refusal(server, conn, telemetry):
    server.refuse("create user u pass 'x'", 0x2600, "syntax error near 'x'")
    with pytest.raises(aiotaos.ProgrammingError):
        await conn.execute("create user u pass 'x'")
    span = telemetry.span()
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description is None
    assert span.events == ()
    assert span.attributes["db.response.status_code"] == "0x2600"
    assert span.attributes["error.type"] == "0x2600"
    assert "tdengine.server_seconds" not in span.attributes


async def test_too_late(server, conn, telemetry):
    server.integers("slow", [1])
    gate = server.hold("query", "slow")
    with pytest.raises(aiotaos.TimeoutError):
        await conn.fetch("slow", timeout=0.02)
    span = telemetry.span()
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "aiotaos.errors.TimeoutError"
    assert "db.response.status_code" not in span.attributes
    assert span.end_time - span.start_time >= 20_000_000
    gate.open()
    await server.until(lambda: server.session.freed)


async def test_cancelled(server, conn, telemetry):
    server.integers("slow", [1])
    gate = server.hold("query", "slow")
    task = asyncio.ensure_future(conn.fetch("slow"))
    await gate.reached.wait()
    assert telemetry.spans() == ()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    span = telemetry.span()
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "asyncio.exceptions.CancelledError"
    gate.open()
    await server.until(lambda: server.session.freed)


async def test_many_rows(embedded, telemetry):
    rows = [(1_700_000_000_000 + i, i) for i in range(3)]
    await embedded.insert("t", rows)
    span = telemetry.span()
    assert span.name == "BATCH INSERT d"
    assert span.attributes["db.operation.name"] == "BATCH INSERT"
    assert span.attributes["db.operation.batch.size"] == 3
    assert "?" in span.attributes["db.query.text"]
    await embedded.insert("t", rows[:1])
    assert "db.operation.batch.size" not in telemetry.span().attributes


async def test_parameters(embedded, telemetry):
    await embedded.execute("insert into t values (1700000000000, ?)", 7)
    span = telemetry.span()
    assert span.name == "INSERT d"
    assert span.attributes["db.query.text"] == "insert into t values (1700000000000, ?)"
    assert "db.operation.batch.size" not in span.attributes


async def test_lines(embedded, telemetry):
    await embedded.schemaless_insert(["m,g=1 v=1 1700000000000", "m,g=2 v=2 1700000000000"])
    span = telemetry.span()
    assert span.name == "SCHEMALESS d"
    assert "db.query.text" not in span.attributes
    assert "db.operation.batch.size" not in span.attributes


async def test_attempts(server, telemetry):
    answer, refusals = server.answer, 1

    def busy(sql):
        nonlocal refusals
        if sql == "select v from t" and refusals:
            refusals -= 1
            return answer("busy")
        return answer(sql)

    server.integers("select v from t", [1])
    server.refuse("busy", 0xFFFE, "too many queries")
    server.answer = busy
    options = {"conn_retries": 2, "retry_backoff_ms": 1, "hooks": telemetry.hooks()}
    async with aiotaos.connect(server.dsn, **options) as conn:
        assert await conn.fetchval("select v from t") == 1
    span = telemetry.span()
    assert span.attributes["aiotaos.attempts"] == 2
    assert span.status.status_code is StatusCode.UNSET
    assert "error.type" not in span.attributes


async def test_a_span_is_a_child_of_the_current_one(server, conn, telemetry):
    server.integers("select v from t", [1])
    tracer = telemetry.tracers.get_tracer("application")
    with tracer.start_as_current_span("request") as request:
        await asyncio.gather(conn.fetch("select v from t"), conn.fetch("select v from t"))
        spans = telemetry.spans()
        assert len(spans) == 2
        for span in spans:
            assert span.parent.span_id == request.get_span_context().span_id
            assert span.context.trace_id == request.get_span_context().trace_id
        assert trace.get_current_span() is request


async def test_a_span_is_not_the_current_one(telemetry):
    """Nothing of it stays behind if its end is never told."""
    query = Query("select 1", "SELECT", 0, 1, "ws://localhost:6041", None, 0.0)
    telemetry.hooks().query_start(query)
    assert trace.get_current_span() is trace.INVALID_SPAN
    reference = weakref.ref(query.context)
    del query
    gc.collect()
    assert reference() is None
    assert telemetry.spans() == ()


async def test_through_a_pool(server, telemetry):
    server.integers("select v from t", [1])
    tracer = telemetry.tracers.get_tracer("application")
    async with aiotaos.create_pool(server.dsn, hooks=telemetry.hooks()) as pool:
        with tracer.start_as_current_span("request") as request:
            assert await pool.fetchval("select v from t") == 1
    child, _ = telemetry.spans()
    assert child.parent.span_id == request.get_span_context().span_id


def test_endpoints():
    telemetry = Telemetry()
    hooks = telemetry.hooks()
    for endpoint in ("ws://[::1]:6041", "wss://cloud.example"):
        query = Query("(select 1)", "", 0, 1, endpoint, None, 0.0)
        hooks.query_start(query)
        hooks.query_end(query)
    local, cloud = telemetry.spans()
    assert local.name == "[::1]:6041"
    assert local.attributes["server.address"] == "::1"
    assert local.attributes["server.port"] == 6041
    assert "db.operation.name" not in local.attributes
    assert cloud.attributes["server.address"] == "cloud.example"
    assert "server.port" not in cloud.attributes


async def test_without_providers(server):
    """The global ones are taken: if there are none, nothing is recorded."""
    server.integers("select v from t", [1])
    async with aiotaos.create_pool(server.dsn, hooks=OpenTelemetryHooks()) as pool:
        OpenTelemetryHooks().observe_pool(pool)
        assert await pool.fetchval("select v from t") == 1


# Texts.


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select * from d1001 where v > 10 limit 5", "select * from d1001 where v > ? limit ?"),
        ("create user u pass 'S3cret!'", "create user u pass ?"),
        ('alter user u pass "S3cret!"', "alter user u pass ?"),
        ("select 'it''s' , 'it\\'s', \"a \"\"b\"\"\"", "select ? , ?, ?"),
        ("select 'not closed", "select ?"),
        ("select 'not ''closed \\", "select ?"),
        ("select 1.5, .5, 1e-3, 1.5E+10, 0xFF, 0b11, -2", "select ?, ?, ?, ?, ?, ?, -?"),
        ("select 3-2, t2.v1 from t2", "select ?-?, t2.v1 from t2"),
        ("select avg(v) from t interval(10s)", "select avg(v) from t interval(?)"),
        ("select * from t where ts > now - 1h", "select * from t where ts > now - ?"),
        ("select `a 'b' 1` from `2024`", "select `a 'b' 1` from `2024`"),
        ("select TRUE, false, null, truest", "select ?, ?, null, truest"),
        ("select 1 -- 'S3cret!' it's\nfrom t", "select ?  \nfrom t"),
        ("select/* 'S3cret!' */v from t /* open", "select v from t"),
        ("insert into d1 values ('2024-01-01', 1) ('x', 2)", "insert into d1 values (?, ?) (?, ?)"),
        ("select '-- no comment', 'π'", "select ?, ?"),
        ("select 电压1 from 表2", "select 电压1 from 表2"),
    ],
)  # fmt: skip
def test_literals_are_not_in_the_text(sql, expected):
    assert text(sql) == expected


@pytest.mark.parametrize("parameters", [1, None])
def test_a_text_with_parameters_is_as_it_was_written(parameters):
    sql = "insert into t using s tags('x', 1) values (?, ?) -- why"
    assert text(sql, parameters) == sql


def test_a_password_is_never_in_the_text():
    assert text("create user ? pass 'S3cret!'", 1) == "create user ? pass ?"
    assert text("alter user ? pass 'S3cret!'", 1) == "alter user ? pass ?"


def test_long_texts_are_cut():
    assert text(f"select '{'x' * 5000}'") == "select ?…"
    assert text(f"select v{' ' * 5000}from t", 1) == f"select v{' ' * 2040}…"
    assert text("x" * 2048) == "x" * 2048


def test_texts_are_left_out():
    assert text("select 1", capture_text=False) is None


# Metrics.


async def test_durations(server, conn, telemetry):
    server.integers("select v from t", [1])
    for _ in range(3):
        await conn.fetch("select v from t")
    with pytest.raises(aiotaos.ProgrammingError):
        await conn.fetch("select nonsense")
    metric = telemetry.metrics()[DURATION]
    assert metric.unit == "s"
    good, bad = metric.data.data_points
    attributes = {
        "db.system.name": "tdengine",
        "db.operation.name": "SELECT",
        "server.address": "127.0.0.1",
        "server.port": server.port,
    }
    assert dict(good.attributes) == attributes
    assert dict(bad.attributes) == attributes | {
        "db.response.status_code": "0x2600",
        "error.type": "0x2600",
    }
    assert (good.count, bad.count) == (3, 1)
    assert 0 < good.sum < 10
    assert good.explicit_bounds == (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)


async def test_the_figures_of_a_pool(server, server_parts, telemetry):
    hooks = telemetry.hooks()
    async with aiotaos.create_pool(server.dsn, min_size=2, max_size=3) as pool:
        hooks.observe_pool(pool, "readings")
        this = {POOL_NAME: "readings"}
        idle, used = this | {STATE: "idle"}, this | {STATE: "used"}
        assert telemetry.points(COUNT) == [(idle, 2), (used, 0)]
        assert telemetry.points(MAX) == [(this, 3)]
        assert telemetry.points(PENDING) == [(this, 0)]
        taken = [await pool.acquire() for _ in range(3)]
        waiting = asyncio.ensure_future(pool.execute("select 1"))
        await server_parts.turns(lambda: pool.get_stats().waiting)
        assert telemetry.points(COUNT) == [(idle, 0), (used, 3)]
        assert telemetry.points(PENDING) == [(this, 1)]
        for conn in taken:
            await pool.release(conn)
        await waiting
        assert telemetry.points(COUNT) == [(idle, 3), (used, 0)]
        metrics = telemetry.metrics()
        assert (metrics[COUNT].unit, metrics[MAX].unit) == ("{connection}", "{connection}")
        assert metrics[PENDING].unit == "{request}"
    assert telemetry.points(COUNT) == []


async def test_several_pools(server, telemetry):
    hooks = telemetry.hooks()
    one = aiotaos.create_pool(server.dsn, database="power", max_size=1)
    two = aiotaos.create_pool("ws://db1,[::1]:7041", max_size=2)
    three = aiotaos.create_pool("ws://db3", max_size=3)
    for pool in (one, two, three):
        hooks.observe_pool(pool)
    names = [f"127.0.0.1:{server.port}/power", "db1:6041,[::1]:7041", "db3:6041"]
    assert telemetry.points(MAX) == [
        ({POOL_NAME: name}, size) for size, name in enumerate(names, 1)
    ]
    await one.close()
    assert [value for _, value in telemetry.points(MAX)] == [2, 3]
    reference = weakref.ref(two)
    del two, pool
    gc.collect()
    assert reference() is None
    assert [value for _, value in telemetry.points(MAX)] == [3]
    hooks.observe_pool(three, "again")
    assert [dict(attributes)[POOL_NAME] for attributes, _ in telemetry.points(MAX)] == [
        "db3:6041",
        "again",
    ]


async def test_without_pools_there_are_no_figures(server, conn, telemetry):
    await conn.fetch("select 1")
    assert set(telemetry.metrics()) == {DURATION}

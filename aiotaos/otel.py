"""Spans and metrics for OpenTelemetry, by its conventions for database clients.

It needs the extra ``otel``; nothing else of the package imports it.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.metrics import (
    CallbackOptions,
    Histogram,
    Meter,
    MeterProvider,
    Observation,
    get_meter_provider,
)
from opentelemetry.trace import (
    Span,
    SpanKind,
    Status,
    StatusCode,
    TracerProvider,
    get_tracer_provider,
)

from .errors import Error
from .hooks import Hooks, Query
from .member import PoolStats
from .pool import Pool
from .version import __version__

_SCHEMA = "https://opentelemetry.io/schemas/1.33.0"  # its database conventions are stable
_SYSTEM = "tdengine"
_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)  # seconds, those of the conventions
_LONGEST = 2048  # characters of a statement
_HAVE_PASSWORDS = frozenset({"ALTER", "CREATE"})
_LITERALS = re.compile(
    r"""
    (?P<name>`[^`]*(?:`|\Z))
  | (?P<comment>--[^\n]*|/\*.*?(?:\*/|\Z))
  | '(?:[^'\\]|\\(?:.|\Z)|'')*(?:'|\Z)
  | "(?:[^"\\]|\\(?:.|\Z)|"")*(?:"|\Z)
  | \b(?:true|false)\b
  | (?<![\w.])\.?\d[\w.]*(?:(?<=[eE])[+-]\d+)?
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)


class OpenTelemetryHooks(Hooks):
    """A span and a duration for each statement, to be given as ``hooks``.

    One object serves any number of connections and pools; there should be one for a provider.

    A span is a child of the caller's current span. ``db.response.status_code`` is TDengine's code,
    as ``0x2603``; ``error.type`` is the same or, for errors made on this side, the class of the
    exception. Texts of errors are not recorded: the server quotes statements in them. Writing that
    binds rows is the operation ``BATCH INSERT``, with ``db.operation.batch.size`` rows.

    Besides the attributes of the conventions a span has ``tdengine.req_id``, the identifier of the
    request; ``tdengine.server_seconds``, if the server told the time it took; and
    ``aiotaos.attempts``, if it was tried more than once.

    Args:
        tracer_provider: Where spans go; the global one if not given.
        meter_provider: Where metrics go; the global one if not given.
        capture_text: Whether spans have the statement as ``db.query.text``, up to 2048 characters.
            Literals in it are ``?`` and comments are left out; a statement that was given
            parameters is as it was written, unless it is one that could set a password.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        *,
        capture_text: bool = True,
    ) -> None:
        self._capture_text = capture_text
        self._pools: tuple[tuple[weakref.ref[Pool[Any]], str], ...] = ()
        tracers = tracer_provider or get_tracer_provider()
        meters = meter_provider or get_meter_provider()
        self._tracer = tracers.get_tracer("aiotaos", __version__, _SCHEMA)
        self._meter = meters.get_meter("aiotaos", __version__, _SCHEMA)
        self._duration = _duration(self._meter)

    def query_start(self, query: Query) -> None:
        """Start a span."""
        attributes = _attributes(query)
        attributes["tdengine.req_id"] = query.req_id
        if self._capture_text and query.sql:
            attributes["db.query.text"] = _text(query)
        query.context = self._tracer.start_span(
            _name(query), kind=SpanKind.CLIENT, attributes=attributes
        )

    def query_end(self, query: Query) -> None:
        """End it well."""
        self._end(query, {})

    def query_error(self, query: Query, error: BaseException) -> None:
        """End it with what went wrong."""
        code = error.code if isinstance(error, Error) else None
        if code is None:
            cls = type(error)
            told = {"error.type": f"{cls.__module__}.{cls.__qualname__}"}
        else:
            told = {"error.type": f"0x{code:04X}", "db.response.status_code": f"0x{code:04X}"}
        query.context.set_status(Status(StatusCode.ERROR))
        self._end(query, told)

    def _end(self, query: Query, told: dict[str, str]) -> None:
        span: Span = query.context
        attributes = _attributes(query) | told
        if query.seconds is not None:
            self._duration.record(query.seconds, attributes)
        if query.server_seconds is not None:
            attributes["tdengine.server_seconds"] = query.server_seconds
        if query.attempts > 1:
            attributes["aiotaos.attempts"] = query.attempts
        if _is_batch(query) and query.rows is not None and query.rows > 1:
            attributes["db.operation.batch.size"] = query.rows
        span.set_attributes(attributes)
        span.end()

    def observe_pool(self, pool: Pool[Any], name: str | None = None) -> None:
        """Report the figures of a pool until it is closed.

        They are ``db.client.connection.count`` (idle and used), ``db.client.connection.max`` and
        ``db.client.connection.pending_requests``. The conventions do not call these stable yet:
        names and attributes may change with a later version of them.

        Args:
            pool: The pool; it is not kept alive.
            name: What tells it from others, as ``db.client.connection.pool.name``; its servers and
                its database, ``host:port/database``, if not given.
        """
        if not self._pools:
            self._observe()
        known = (entry for entry in self._pools if _is_open(entry[0]()))
        self._pools = (*known, (weakref.ref(pool), name or _pool_name(pool)))

    def _observe(self) -> None:
        counters: tuple[tuple[str, str, str, _Figures], ...] = (
            (
                "count",
                "{connection}",
                "Connections that are in the state.",
                lambda stats: (("idle", stats.idle), ("used", stats.used)),
            ),
            (
                "max",
                "{connection}",
                "Connections that there may be.",
                lambda stats: ((None, stats.max_size),),
            ),
            (
                "pending_requests",
                "{request}",
                "Requests that wait for a connection.",
                lambda stats: ((None, stats.waiting),),
            ),
        )
        for name, unit, description, figures in counters:
            self._meter.create_observable_up_down_counter(
                f"db.client.connection.{name}",
                callbacks=[self._observer(figures)],
                unit=unit,
                description=description,
            )

    def _observer(self, figures: _Figures) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(options: CallbackOptions) -> Iterator[Observation]:
            for reference, name in self._pools:
                pool = reference()
                if pool is None or not _is_open(pool):
                    continue
                for state, number in figures(pool.get_stats()):
                    attributes = {"db.client.connection.pool.name": name}
                    if state is not None:
                        attributes["db.client.connection.state"] = state
                    yield Observation(number, attributes)

        return observe


_Figures = Callable[[PoolStats], tuple[tuple[str | None, int], ...]]


def _is_open(pool: Pool[Any] | None) -> bool:
    return pool is not None and not pool.closed


def _pool_name(pool: Pool[Any]) -> str:
    options = pool._options
    hosts = ",".join(urlsplit(options.endpoint(address)).netloc for address in options.addresses)
    return f"{hosts}/{options.database}" if options.database else hosts


def _duration(meter: Meter) -> Histogram:
    create = partial(
        meter.create_histogram,
        "db.client.operation.duration",
        unit="s",
        description="Duration of database client operations.",
    )
    try:
        return create(explicit_bucket_boundaries_advisory=_BUCKETS)
    except TypeError:  # an API that knows no such advice
        return create()


def _is_batch(query: Query) -> bool:
    return query.parameters is None and query.operation == "INSERT"


def _operation(query: Query) -> str:
    return "BATCH INSERT" if _is_batch(query) else query.operation


def _name(query: Query) -> str:
    target = query.database or urlsplit(query.endpoint).netloc
    return f"{_operation(query)} {target}".strip()


def _attributes(query: Query) -> dict[str, str | int | float]:
    """What both spans and metrics have."""
    attributes: dict[str, str | int | float] = {"db.system.name": _SYSTEM}
    if query.database:
        attributes["db.namespace"] = query.database
    if operation := _operation(query):
        attributes["db.operation.name"] = operation
    server = urlsplit(query.endpoint)
    if server.hostname:
        attributes["server.address"] = server.hostname
    if server.port:
        attributes["server.port"] = server.port
    return attributes


def _text(query: Query) -> str:
    text = query.sql[:_LONGEST]
    if query.parameters == 0 or query.operation in _HAVE_PASSWORDS:
        text = _LITERALS.sub(_without_value, text).strip()
    return text if len(query.sql) <= _LONGEST else f"{text}…"


def _without_value(match: re.Match[str]) -> str:
    if match["name"]:
        return match["name"]
    return " " if match["comment"] else "?"

"""What a consumer is told: the official clients' dictionary, keywords and DSN into one object."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import unquote

import msgspec

from .errors import InterfaceError
from .options import OptionArguments, Options, Road
from .protocol.tmq_messages import SubscribeArgs

OffsetReset = Literal["earliest", "latest", "none"]

_MAX_GROUP = 192  # bytes
_MAX_CLIENT = 255
_YES = frozenset({"true", "1", "yes", "on"})
_NO = frozenset({"false", "0", "no", "off"})


class ConsumerArguments(OptionArguments, total=False):
    """Keyword arguments of :class:`aiotaos.Consumer`, besides those of a connection.

    None stands for not given; then the server's default holds, but for those of auto-commit.
    """

    group_id: str | None
    client_id: str | None
    auto_offset_reset: OffsetReset | None
    enable_auto_commit: bool | None
    auto_commit_interval_ms: int | None
    session_timeout_ms: int | None
    heartbeat_interval_ms: int | None
    max_poll_interval_ms: int | None
    fetch_max_wait_ms: int | None
    min_poll_rows: int | None
    msg_with_table_name: bool | None
    experimental_snapshot_enable: bool | None
    enable_replay: bool | None
    msg_enable_batchmeta: bool | None
    msg_consume_excluded: bool | None


@dataclass(frozen=True, slots=True)
class ConsumerOptions:
    """How a consumer reads.

    Attributes:
        options: How it reaches the server.
        group_id: The group, whose members share the vgroups of a topic.
        client_id: Name of this member, shown by ``show consumers``.
        auto_commit: Whether this side commits what the application has finished with.
        commit_interval: Seconds between two such commits.
        poll_interval: Seconds after which the server drops a member that does not poll.
        rows_of_cut: Rows of a message from which on the server may have cut it.
        search_time: Seconds that the server gathers rows for a message.
        properties: What libtaos is told, by its own keys.
    """

    options: Options
    group_id: str
    client_id: str
    auto_commit: bool
    commit_interval: float
    poll_interval: float
    rows_of_cut: int
    search_time: float
    properties: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def make(
        cls, source: str | Mapping[str, object] | None, arguments: Mapping[str, Any]
    ) -> ConsumerOptions:
        """Read a DSN or the official dictionary, and keyword arguments, which beat it.

        Raises:
            InterfaceError: A keyword is unknown, or something known is malformed or missing.
        """
        given: dict[str, object] = {}
        properties: dict[str, object] = {}
        dsn: str | None = None
        if isinstance(source, str):
            dsn, given, properties = _split_dsn(source)
        elif isinstance(source, Mapping):
            for name, value in source.items():
                if not isinstance(name, str):
                    raise InterfaceError(f"configuration: expected names, got {name!r}")
                target = _CONNECTION_KEYS.get(name)
                if target is not None:
                    if value is not None and value != "":
                        given[target] = value
                elif name in _KEYS or "." in name:
                    properties[name] = value
                else:
                    given[name] = value
        elif source is not None:
            raise InterfaceError(
                f"expected a DSN or a dictionary of options, got {type(source).__name__}"
            )
        for name, value in arguments.items():
            if value is None:
                continue
            if name in _BY_KEYWORD:
                properties[_BY_KEYWORD[name]] = value
            elif "." in name:
                properties[name] = value
            else:
                given[name] = value
        known = {*OptionArguments.__annotations__, *_BY_KEYWORD}
        for name in given:
            if name not in known:
                raise InterfaceError(
                    f"unknown option {name!r}, expected one of {', '.join(sorted(known))}; or a "
                    "property of libtaos, which has a dot in its name"
                )
        options = Options.make(dsn, **given)
        if options.road is Road.REST:
            raise InterfaceError(
                "a consumer reads over WebSocket or libtaos: use ws://, wss:// or taos://"
            )
        return cls._checked(options, properties)

    @classmethod
    def _checked(cls, options: Options, given: Mapping[str, object]) -> ConsumerOptions:
        properties = {
            name: _KEYS[name](name, value) if name in _KEYS else _text(name, value)
            for name, value in given.items()
            if value is not None
        }
        group_id = properties.get("group.id", "")
        if not group_id:
            raise InterfaceError("group_id: expected the name of the group, got none")
        replays = properties.get("enable.replay") == "true"
        return cls(
            options,
            group_id,
            properties.get("client.id", ""),
            properties.get("enable.auto.commit", "true") == "true" and not replays,
            int(properties.get("auto.commit.interval.ms", "5000")) / 1000,
            int(properties.get("max.poll.interval.ms", "300000")) / 1000,
            int(properties.get("min.poll.rows", "4096")),
            int(properties.get("fetch.max.wait.ms", "1000")) / 1000,
            properties,
        )

    def subscribe_arguments(self, topics: list[str]) -> SubscribeArgs:
        """What is sent to subscribe.

        The server never commits by itself: it would commit what was polled, and this side polls
        ahead of the application.
        """
        options, told = self.options, dict(self.properties)
        for name in ("enable.auto.commit", "auto.commit.interval.ms"):
            told.pop(name, None)
        fields = {
            field: told.pop(name) for name, field in _SUBSCRIBE_FIELDS.items() if name in told
        }
        if options.bearer_token is not None:
            told["td.connect.token"] = options.bearer_token
        reset = told.pop("auto.offset.reset", "")
        arguments = SubscribeArgs(
            user=options.user,
            password=options.password,
            db=options.database or "",
            topics=topics,
            offset_rest=reset,
            offset_reset=reset,
            auto_commit="false",
            config=told,
            tz=options.timezone or "",
            app=options.user_app or "",
            ip=options.user_ip or "",
            connector="aiotaos",
            list_instances=options.adapter_ha,
        )
        return msgspec.structs.replace(arguments, **fields)


def _split_dsn(dsn: str) -> tuple[str, dict[str, object], dict[str, object]]:
    """A DSN without the parameters of a consumer; its other parameters by official keys; these."""
    base, _, query = dsn.partition("?")
    kept: list[str] = []
    given: dict[str, object] = {}
    properties: dict[str, object] = {}
    for pair in filter(None, query.split("&")):
        name, _, value = pair.partition("=")
        key = unquote(name)
        key = _BY_KEYWORD.get(key, key)
        if key in _CONNECTION_KEYS:
            given[_CONNECTION_KEYS[key]] = unquote(value)
        elif key in _KEYS or "." in key:
            properties[key] = unquote(value)
        else:
            kept.append(pair)
    return (f"{base}?{'&'.join(kept)}" if kept else base), given, properties


def _text(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise InterfaceError(f"{name}: expected text or a number, got {type(value).__name__}")


def _flag(name: str, value: object) -> str:
    lowered = str(value).lower() if isinstance(value, (bool, str, int)) else ""
    if lowered in _YES:
        return "true"
    if lowered in _NO:
        return "false"
    raise InterfaceError(f"{name}: expected true or false, got {value!r}")


def _switch(name: str, value: object) -> str:
    return "1" if _flag(name, value) == "true" else "0"


def _number(least: int, most: int = 2**31 - 1) -> Callable[[str, object], str]:
    def check(name: str, value: object) -> str:
        number = -1
        if isinstance(value, int) and not isinstance(value, bool):
            number = value
        elif isinstance(value, str) and re.fullmatch(r"[0-9]{1,12}", value):
            number = int(value)
        if not least <= number <= most:
            shown = repr(value)[:40] if not isinstance(value, int) else "another"
            raise InterfaceError(
                f"{name}: expected a whole number from {least} to {most}, got {shown}"
            )
        return str(number)

    return check


def _name(limit: int, forbidden: str = "") -> Callable[[str, object], str]:
    def check(name: str, value: object) -> str:
        if not isinstance(value, str) or not _fits(value, limit):
            raise InterfaceError(f"{name}: expected text of {limit} bytes at most, got {value!r}")
        if any(sign in value for sign in forbidden):
            raise InterfaceError(f"{name}: expected a name without {forbidden!r}, got {value!r}")
        return value

    return check


def _fits(text: str, limit: int) -> bool:
    try:
        return len(text.encode()) <= limit
    except UnicodeEncodeError:
        return False


def _reset(name: str, value: object) -> str:
    if isinstance(value, str) and value in ("earliest", "latest", "none"):
        return value
    raise InterfaceError(f"{name}: expected 'earliest', 'latest' or 'none', got {value!r}")


_KEYS: dict[str, Callable[[str, object], str]] = {
    "group.id": _name(_MAX_GROUP, ":"),
    "client.id": _name(_MAX_CLIENT),
    "auto.offset.reset": _reset,
    "enable.auto.commit": _flag,
    "auto.commit.interval.ms": _number(0),
    "session.timeout.ms": _number(6000, 1_800_000),
    "heartbeat.interval.ms": _number(1000),
    "max.poll.interval.ms": _number(1000),
    "fetch.max.wait.ms": _number(1),
    "min.poll.rows": _number(1),
    "msg.with.table.name": _flag,
    "experimental.snapshot.enable": _flag,
    "enable.replay": _flag,
    "msg.enable.batchmeta": _switch,
    "msg.consume.excluded": _switch,
}
_BY_KEYWORD = {key.replace(".", "_"): key for key in _KEYS}
_SUBSCRIBE_FIELDS = {
    "group.id": "group_id",
    "client.id": "client_id",
    "session.timeout.ms": "session_timeout_ms",
    "max.poll.interval.ms": "max_poll_interval_ms",
    "msg.with.table.name": "with_table_name",
    "experimental.snapshot.enable": "snapshot_enable",
    "msg.enable.batchmeta": "enable_batch_meta",
    "msg.consume.excluded": "msg_consume_excluded",
}
"""Those that have a field of their own in ``subscribe``; the others go into its ``config``."""

_CONNECTION_KEYS = {
    "td.connect.ip": "host",
    "td.connect.host": "host",
    "td.connect.port": "port",
    "td.connect.user": "user",
    "td.connect.pass": "password",
    "td.connect.token": "token",
    "td.connect.bearer_token": "bearer_token",
    "td.connect.db": "database",
    "td.connect.websocket.scheme": "driver",
}

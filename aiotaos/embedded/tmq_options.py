"""What a consumer asks for when it subscribes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ..protocol.tmq_messages import SubscribeArgs
from .arguments import UNKNOWN
from .faults import Fault

_BAD_OPTION = 0x0118
_MAX_GROUP = 192
_MAX_CLIENT = 255
_MAX_INT = 2**31 - 1
_IGNORED = frozenset({"td.connect.user", "td.connect.pass", "td.connect.ip", "td.connect.port"})
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_RANGES = {
    "session.timeout.ms": (6_000, 1_800_000),
    "heartbeat.interval.ms": (1_000, 1_799_999),
    "max.poll.interval.ms": (1_000, _MAX_INT),
    "fetch.max.wait.ms": (1, _MAX_INT),
    "min.poll.rows": (1, _MAX_INT),
}
_BOOLS = frozenset({"msg.with.table.name", "experimental.snapshot.enable", "enable.replay"})
_FLAGS = frozenset({"msg.enable.batchmeta", "msg.consume.excluded", "msg.consume.rawdata"})
_REFUSED = ("experimental.snapshot.enable", "enable.replay", "msg.consume.rawdata")


class Reset(StrEnum):
    """Where a consumer begins in a vgroup of which its group has committed nothing."""

    EARLIEST = "earliest"
    LATEST = "latest"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class ConsumerOptions:
    """Options of a consumer.

    Attributes:
        commit_interval: Seconds between commits that a poll does by itself; None for none.
        shown_interval: The same in ms as it was asked for, even if it is of no use.
        batch_meta: Whether several changes of what exists may come in one message.
        poll_interval: Seconds without a poll after which the consumer is no longer in its group.
        min_rows: Rows after which nothing more is added to a message.
    """

    group: str
    client: str = ""
    reset: Reset = Reset.LATEST
    commit_interval: float | None = None
    shown_interval: int = 5_000
    table_names: bool = False
    batch_meta: bool = False
    poll_interval: float = 300.0
    min_rows: int = 4_096


def consumer_options(args: SubscribeArgs) -> ConsumerOptions:
    """Read the options.

    Raises:
        Fault: One of them is unknown, wrong, or beyond this server.
    """
    given = _given(args)
    auto_commit = _adapter_bool(given.pop("enable.auto.commit", "false"))
    interval = _adapter_int(given.pop("auto.commit.interval.ms", "5000"))
    for key, value in given.items():
        _check(key, value)
    for key in _REFUSED:
        if given.get(key, "0") not in ("0", "false"):
            raise Fault(UNKNOWN, f"not supported by the embedded server: {key}")
    group = given.get("group.id", "")
    if not group:
        raise Fault(UNKNOWN, "malloc tmq element failed or group is empty")
    return ConsumerOptions(
        group=_cut(group, _MAX_GROUP),
        client=_cut(given.get("client.id", ""), _MAX_CLIENT),
        reset=Reset(given.get("auto.offset.reset", Reset.LATEST)),
        commit_interval=interval / 1000 if auto_commit else None,
        shown_interval=interval,
        table_names=given.get("msg.with.table.name") == "true",
        batch_meta=given.get("msg.enable.batchmeta", "0") != "0",
        poll_interval=int(given.get("max.poll.interval.ms", "300000")) / 1000,
        min_rows=int(given.get("min.poll.rows", "4096")),
    )


def _given(args: SubscribeArgs) -> dict[str, str]:
    """What is not empty, by the names that libtaos has for it; ``config`` goes last."""
    named = {
        "group.id": args.group_id,
        "client.id": args.client_id,
        "auto.offset.reset": args.offset_reset or args.offset_rest,
        "enable.auto.commit": args.auto_commit,
        "auto.commit.interval.ms": args.auto_commit_interval_ms,
        "experimental.snapshot.enable": args.snapshot_enable,
        "msg.with.table.name": args.with_table_name,
        "msg.enable.batchmeta": args.enable_batch_meta,
        "msg.consume.excluded": args.msg_consume_excluded,
        "msg.consume.rawdata": args.msg_consume_rawdata,
        "session.timeout.ms": args.session_timeout_ms,
        "max.poll.interval.ms": args.max_poll_interval_ms,
    }
    named |= {key: value for key, value in args.config.items() if key not in _IGNORED}
    return {key: value for key, value in named.items() if value}


def _check(key: str, value: str) -> None:
    """Refuse what libtaos refuses."""
    if key in _RANGES:
        low, high = _RANGES[key]
        good = value.isdecimal() and low <= int(value) <= high
    elif key in _BOOLS:
        good = value in ("true", "false")
    elif key == "auto.offset.reset":
        good = value in list(Reset)
    elif key == "group.id":
        good = ":" not in value
    elif key in _FLAGS or key in ("client.id", "td.connect.db"):
        good = True
    else:
        raise Fault(_BAD_OPTION, f"unknown configuration key: {key}")
    if not good:
        raise Fault(_BAD_OPTION, f"invalid value for key '{key}': {value}")


def _adapter_bool(text: str) -> bool:
    if text not in _TRUE | _FALSE:
        raise Fault(UNKNOWN, f'strconv.ParseBool: parsing "{text}": invalid syntax')
    return text in _TRUE


def _adapter_int(text: str) -> int:
    digits = text.removeprefix("-").removeprefix("+")
    if not (digits.isascii() and digits.isdecimal()):
        raise Fault(UNKNOWN, f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return int(text)


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode("utf-8", "ignore")

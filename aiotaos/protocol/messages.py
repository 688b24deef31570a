"""JSON messages of taosAdapter's ``/ws``, typed, for both sides of the wire.

A request is ``{"action": ..., "args": {...}}``; a reply is an :class:`Envelope` with fields of its
action behind it. A refusal carries the envelope alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec

from ..errors import ProtocolError
from ..types import Field, Precision, TypeCode
from .block import Buffer


class Envelope(msgspec.Struct):
    """What every reply carries.

    Attributes:
        code: 0, or the error's low 16 bits.
        message: The error's text.
        action: The request's action; ``binary_query`` for binary queries.
        req_id: The request's id; 0 if it had none.
        timing: Time the server took, ns.
    """

    code: int = 0
    message: str = ""
    action: str = ""
    req_id: int = 0
    timing: int = 0


class VersionReply(Envelope):
    """Reply to ``version`` and, since adapter 3.3.7.2, to ``conn``."""

    version: str = ""


class QueryReply(Envelope):
    """Reply to a query, JSON or binary; ``id`` is the result's, 0 for updates."""

    id: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0
    is_update: bool = False
    affected_rows: int = 0
    fields_count: int = 0
    fields_names: list[str] | None = None
    fields_types: list[int] | None = None
    fields_lengths: list[int] | None = None
    precision: Precision = Precision.MILLISECOND
    fields_precisions: list[int] | None = None
    fields_scales: list[int] | None = None

    def fields(self) -> tuple[Field, ...]:
        """The columns of the result.

        Raises:
            ProtocolError: Names, types and lengths do not go together, or a type is unknown.
        """
        names, types = self.fields_names or [], self.fields_types or []
        count = self.fields_count
        lengths = self.fields_lengths or []
        # Adapters before 3.3.6.0 say nothing about decimals.
        precisions = self.fields_precisions or [0] * len(names)
        scales = self.fields_scales or [0] * len(names)
        if not len(names) == len(types) == len(lengths) == len(precisions) == len(scales) == count:
            raise ProtocolError(
                f"inconsistent reply: {count} columns, {len(names)} names, {len(types)} types, "
                f"{len(lengths)} lengths"
            )
        try:
            codes = list(map(TypeCode, types))
        except ValueError:
            raise ProtocolError(f"unknown column type among {types}") from None
        return tuple(map(Field, names, codes, lengths, precisions, scales))


class FetchReply(Envelope):
    """Reply to the JSON ``fetch``; unless ``completed``, a block waits for ``fetch_block``."""

    id: int = 0
    completed: bool = False
    lengths: list[int] | None = None
    rows: int = 0


class DatabaseReply(Envelope):
    """Reply to ``get_current_db``; ``db`` is empty if there is none."""

    db: str = ""


class InfoReply(Envelope):
    """Reply to ``get_server_info``: lines ``ver:…``, ``build:…``, ``gitinfo:…``."""

    info: str = ""


class StatusReply(Envelope):
    """Reply to ``check_server_status``: 0 unavailable, 1 network ok, 2 service ok, 3 degraded."""

    status: int = 0
    details: str = ""


class NumFieldsReply(Envelope):
    """Reply to ``num_fields``."""

    num_fields: int = 0


class Request(msgspec.Struct):
    """A JSON request as the server reads it."""

    action: str = ""
    args: msgspec.Raw = msgspec.Raw(b"{}")


class ConnArgs(msgspec.Struct, omit_defaults=True):
    """Arguments of ``conn``; what is not given is left out, older adapters ignore the rest."""

    req_id: int = 0
    user: str = ""
    password: str = ""
    db: str = ""
    mode: int | None = None
    tz: str = ""
    app: str = ""
    ip: str = ""
    connector: str = ""
    totp_code: str = ""
    bearer_token: str = ""


class SqlArgs(msgspec.Struct):
    """Arguments of ``query``."""

    req_id: int = 0
    sql: str = ""


class ResultArgs(msgspec.Struct):
    """Arguments of ``fetch``, ``fetch_block`` and ``free_result``."""

    req_id: int = 0
    id: int = 0


class ResultIdArgs(msgspec.Struct):
    """Arguments of ``num_fields``, which names the result differently."""

    req_id: int = 0
    result_id: int = 0


class ReqIdArgs(msgspec.Struct):
    """Arguments of actions that take nothing else."""

    req_id: int = 0


class ConnectionOption(msgspec.Struct):
    """One option of ``options_connection``; a ``value`` of None resets it."""

    option: int
    value: str | None = None


class OptionsArgs(msgspec.Struct):
    """Arguments of ``options_connection``; the options are applied in order."""

    req_id: int = 0
    options: list[ConnectionOption] = []


Arguments: TypeAlias = ConnArgs | SqlArgs | ResultArgs | ResultIdArgs | ReqIdArgs | OptionsArgs
_Reply = TypeVar("_Reply", bound=Envelope)
_encoder = msgspec.json.Encoder()


def request(action: str, args: Arguments | None = None) -> str:
    """The text frame of a JSON request."""
    body: dict[str, Any] = {"action": action}
    if args is not None:
        body["args"] = args
    return _encoder.encode(body).decode()


def reply(message: Envelope) -> str:
    """The text frame of a JSON reply."""
    return _encoder.encode(message).decode()


def parse(data: str | Buffer, cls: type[_Reply]) -> _Reply:
    """Read a text frame from the server.

    Raises:
        ProtocolError: It is not JSON, or not a reply of this action.
    """
    try:
        return msgspec.json.decode(data, type=cls)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise ProtocolError(f"unreadable reply: {error}") from None


def result_description(
    fields: Sequence[Field],
) -> tuple[list[str], list[int], list[int], list[int], list[int]]:
    """Names, types, lengths, precisions and scales of columns, as in a :class:`QueryReply`."""
    return (
        [field.name for field in fields],
        [int(field.type) for field in fields],
        [field.length for field in fields],
        [field.precision for field in fields],
        [field.scale for field in fields],
    )

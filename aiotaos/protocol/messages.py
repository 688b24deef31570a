"""JSON messages of taosAdapter's ``/ws``, typed, for both sides of the wire.

A request is ``{"action": ..., "args": {...}}``; a reply is an :class:`Envelope` with fields of its
action behind it. A refusal carries the envelope alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

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


class LoginReply(VersionReply):
    """Reply to ``conn``; ``list_instances`` names the cluster's adapters if asked to (3.4.1.10)."""

    list_instances: list[str] | None = None


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
        return described_fields(
            self.fields_count,
            self.fields_names,
            self.fields_types,
            self.fields_lengths,
            self.fields_precisions,
            self.fields_scales,
        )


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


class StatementReply(Envelope):
    """Reply to the steps of a prepared statement that tell nothing but its id."""

    stmt_id: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0


class ParameterInfo(msgspec.Struct):
    """One parameter of a prepared INSERT.

    Attributes:
        field_type: Type code.
        bytes: Size in the schema: with the length prefix, NCHAR as 4 bytes a character.
        bind_type: 1 column, 2 tag, 4 table name; stmt v1 leaves it out.
    """

    name: str = ""
    field_type: int = 0
    precision: int = 0
    scale: int = 0
    bytes: int = 0
    bind_type: int = 0


class PrepareReply(StatementReply):
    """Reply to ``prepare`` and ``stmt2_prepare``; ``fields`` only for a stmt2 INSERT.

    ``is_insert`` is None where an older adapter does not tell.
    """

    is_insert: bool | None = None
    fields: list[ParameterInfo] | None = None
    fields_count: int = 0


class ParametersReply(StatementReply):
    """Reply to ``get_tag_fields`` and ``get_col_fields`` of stmt v1."""

    fields: list[ParameterInfo] | None = None


class ParameterCountReply(StatementReply):
    """Reply to ``stmt_num_params``."""

    num_params: int = 0


class ExecReply(StatementReply):
    """Reply to ``exec`` and ``stmt2_exec``: rows written by this execution."""

    affected: int = 0


class StatementResultReply(QueryReply):
    """Reply to ``stmt2_result``, which names the result ``id``, and ``use_result``."""

    stmt_id: int = 0
    result_id: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0


class InsertReply(Envelope):
    """Reply to a schemaless ``insert``."""

    affected_rows: int = 0
    total_rows: int = 0


class Request(msgspec.Struct):
    """A JSON request as the server reads it."""

    action: str = ""
    args: msgspec.Raw = msgspec.Raw(b"{}")


class Arguments(msgspec.Struct):
    """What every request carries: its id, which the reply repeats."""

    req_id: int = 0


class ConnArgs(Arguments, omit_defaults=True):
    """Arguments of ``conn``; what is not given is left out, older adapters ignore the rest."""

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
    list_instances: bool = False


class SqlArgs(Arguments):
    """Arguments of ``query``."""

    sql: str = ""


class ResultArgs(Arguments):
    """Arguments of ``fetch``, ``fetch_block`` and ``free_result``."""

    id: int = 0


class ResultIdArgs(Arguments):
    """Arguments of ``num_fields``, which names the result differently."""

    result_id: int = 0


class ReqIdArgs(Arguments):
    """Arguments of actions that take nothing else."""


class Stmt2InitArgs(Arguments):
    """Arguments of ``stmt2_init``; both flags set mean one bind per table and execution."""

    single_stb_insert: bool = False
    single_table_bind_once: bool = False


class StatementArgs(Arguments):
    """Arguments of the steps of a statement that need nothing but its id."""

    stmt_id: int = 0


class PrepareArgs(Arguments, omit_defaults=True):
    """Arguments of ``prepare`` and ``stmt2_prepare``; only the latter knows ``get_fields``."""

    stmt_id: int = 0
    sql: str = ""
    get_fields: bool = False


class TableNameArgs(Arguments):
    """Arguments of ``set_table_name``."""

    stmt_id: int = 0
    name: str = ""


class InsertArgs(Arguments):
    """Arguments of a schemaless ``insert``."""

    protocol: int = 0
    precision: str = ""
    ttl: int = 0
    data: str = ""
    table_name_key: str | None = None


OPTION_TIMEZONE = 1


class ConnectionOption(msgspec.Struct):
    """One option of ``options_connection``; a ``value`` of None resets it."""

    option: int
    value: str | None = None


class OptionsArgs(Arguments):
    """Arguments of ``options_connection``; the options are applied in order."""

    options: list[ConnectionOption] = msgspec.field(default_factory=list)


EnvelopeT = TypeVar("EnvelopeT", bound=Envelope)
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


def parse(data: str | Buffer, cls: type[EnvelopeT]) -> EnvelopeT:
    """Read a text frame from the server.

    Raises:
        ProtocolError: It is not JSON, or not a reply of this action.
    """
    try:
        return msgspec.json.decode(data, type=cls)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise ProtocolError(f"unreadable reply: {error}") from None


def described_fields(
    count: int,
    names: list[str] | None,
    types: list[int] | None,
    lengths: list[int] | None,
    precisions: list[int] | None = None,
    scales: list[int] | None = None,
) -> tuple[Field, ...]:
    """Columns as a reply describes them; adapters before 3.3.6.0 say nothing about decimals.

    Raises:
        ProtocolError: Names, types and lengths do not go together, or a type is unknown.
    """
    names, types, lengths = names or [], types or [], lengths or []
    precisions = precisions or [0] * len(names)
    scales = scales or [0] * len(names)
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

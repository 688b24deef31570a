"""The structures, callbacks and enumerations of libtaos, under the names of its ``taos.h``.

Layouts: TDengine 3.3.7.5 ``include/client/taos.h``; what differs in 2.x is from ``src/inc/taos.h``
of those versions, and what newer libraries add from taosAdapter and ``taos-ws-sys``. Enumerations
that the rest of the package has already are in :mod:`aiotaos.types`: type codes are
:class:`~aiotaos.types.TypeCode`, the unit of a result's timestamps is
:class:`~aiotaos.types.Precision`, schemaless protocols are
:class:`~aiotaos.types.SchemalessProtocol`.
"""

# ruff: noqa: N801 - the names are those of taos.h

from __future__ import annotations

from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    Union,
    c_bool,
    c_char,
    c_char_p,
    c_double,
    c_float,
    c_int,
    c_int8,
    c_int16,
    c_int32,
    c_int64,
    c_size_t,
    c_uint,
    c_uint8,
    c_uint16,
    c_uint32,
    c_uint64,
    c_void_p,
)
from enum import IntEnum

# Callbacks. An instance made without an argument, as in ``TAOS_SUBSCRIBE_CALLBACK()``, is NULL.
# The object must be kept until its last call; calls come on threads of the library, and ctypes
# takes the GIL for them. Handles arrive as int, or None for NULL.

TAOS_ASYNC_FN = CFUNCTYPE(None, c_void_p, c_void_p, c_int)
"""``void (void *param, TAOS_RES *res, int code)``; ``code`` is the number of rows for a fetch."""

TAOS_NOTIFY_FN = CFUNCTYPE(None, c_void_p, c_void_p, c_int)
"""``void (void *param, void *ext, int type)``; what ``ext`` points to: :class:`NotifyType`."""

TAOS_WHITELIST_FN = CFUNCTYPE(None, c_void_p, c_int, c_void_p, c_int, POINTER(c_uint64))
"""``void (void *param, int code, TAOS *taos, int count, uint64_t *addresses)``."""

TAOS_WHITELIST_TEXT_FN = CFUNCTYPE(None, c_void_p, c_int, c_void_p, c_int, POINTER(c_char_p))
"""``void (void *param, int code, TAOS *taos, int count, char **entries)``."""

tmq_commit_cb = CFUNCTYPE(None, c_void_p, c_int32, c_void_p)
"""``void (tmq_t *tmq, int32_t code, void *param)``; ``tmq`` is None if the consumer is gone."""

TAOS_SUBSCRIBE_CALLBACK = CFUNCTYPE(None, c_void_p, c_void_p, c_void_p, c_int)
"""2.x: ``void (TAOS_SUB *sub, TAOS_RES *res, void *param, int code)``."""

TAOS_STREAM_FN = CFUNCTYPE(None, c_void_p, c_void_p, POINTER(c_void_p))
"""2.x: ``void (void *param, TAOS_RES *res, TAOS_ROW row)``."""

TAOS_STREAM_CLOSED_FN = CFUNCTYPE(None, c_void_p)
"""2.x: ``void (void *param)``."""


# Columns of results and statements.


class TAOS_FIELD(Structure):
    """A column of a result."""

    _fields_ = (("name", c_char * 65), ("type", c_int8), ("bytes", c_int32))


class TAOS_FIELD_2X(Structure):
    """A column of a result as libraries of 2.x describe it; there it is called TAOS_FIELD."""

    _fields_ = (("name", c_char * 65), ("type", c_uint8), ("bytes", c_int16))


class TAOS_FIELD_E(Structure):
    """A column of a result, or a parameter of a statement."""

    _fields_ = (
        ("name", c_char * 65),
        ("type", c_int8),
        ("precision", c_uint8),
        ("scale", c_uint8),
        ("bytes", c_int32),
    )


class TAOS_FIELD_ALL(Structure):
    """A parameter of a statement (stmt2); ``field_type`` is a :class:`FieldType`."""

    _fields_ = (
        ("name", c_char * 65),
        ("type", c_int8),
        ("precision", c_uint8),
        ("scale", c_uint8),
        ("bytes", c_int32),
        ("field_type", c_uint8),
    )


# Binding.


class _BindValue(Union):
    _fields_ = (
        ("ts", c_int64),
        ("b", c_int8),
        ("v1", c_int8),
        ("v2", c_int16),
        ("v4", c_int32),
        ("v8", c_int64),
        ("f4", c_float),
        ("f8", c_double),
        ("bin", c_void_p),
        ("nchar", c_void_p),
    )


class TAOS_BIND(Structure):
    """One value of a statement of 2.x; NULL is told by ``is_null``, sizes of text by ``length``."""

    _fields_ = (
        ("buffer_type", c_int),
        ("buffer", c_void_p),
        ("buffer_length", c_size_t),
        ("length", POINTER(c_size_t)),
        ("is_null", POINTER(c_int)),
        ("is_unsigned", c_int),
        ("error", POINTER(c_int)),
        ("u", _BindValue),
        ("allocated", c_uint),
    )


class TAOS_MULTI_BIND(Structure):
    """The values of one column (stmt v1).

    Each value of a variable type occupies ``buffer_length`` bytes, its own size is in ``length``;
    ``is_null`` has one byte for each row.
    """

    _fields_ = (
        ("buffer_type", c_int),
        ("buffer", c_void_p),
        ("buffer_length", c_size_t),
        ("length", POINTER(c_int32)),
        ("is_null", c_void_p),
        ("num", c_int),
    )


class TAOS_STMT_OPTIONS(Structure):
    """Options of a statement (stmt v1)."""

    _fields_ = (("reqId", c_int64), ("singleStbInsert", c_bool), ("singleTableBindOnce", c_bool))


class TAOS_STMT2_OPTION(Structure):
    """Options of a statement (stmt2); with ``asyncExecFn``, executing does not wait."""

    _fields_ = (
        ("reqid", c_int64),
        ("singleStbInsert", c_bool),
        ("singleTableBindOnce", c_bool),
        ("asyncExecFn", TAOS_ASYNC_FN),
        ("userdata", c_void_p),
    )


class TAOS_STMT2_BIND(Structure):
    """The values of one column (stmt2).

    Values of variable types follow each other without gaps, NCHAR as UTF-8; ``is_null`` has one
    byte for each row: 0 value, 1 NULL, 2 none (the column keeps what it has).
    """

    _fields_ = (
        ("buffer_type", c_int),
        ("buffer", c_void_p),
        ("length", POINTER(c_int32)),
        ("is_null", c_void_p),
        ("num", c_int),
    )


class TAOS_STMT2_BINDV(Structure):
    """The values of ``count`` tables; for each its name, its tags and its columns."""

    _fields_ = (
        ("count", c_int),
        ("tbnames", POINTER(c_char_p)),
        ("tags", POINTER(POINTER(TAOS_STMT2_BIND))),
        ("bind_cols", POINTER(POINTER(TAOS_STMT2_BIND))),
    )


class TAOS_STMT2_COLUMN_BIND(Structure):
    """The values of one column for all tables; as taosAdapter of 2026 declares it."""

    _fields_ = (
        ("buffer_type", c_int),
        ("buffer", c_void_p),
        ("length", POINTER(c_int32)),
        ("is_null", c_void_p),
    )


class TAOS_STMT2_COLUMN_BINDV(Structure):
    """Columns of many tables at once; as taosAdapter of 2026 declares it."""

    _fields_ = (
        ("num_columns", c_int),
        ("num_rows", c_int),
        ("num_tables", c_int),
        ("columns", POINTER(TAOS_STMT2_COLUMN_BIND)),
    )


# Where data lie, subscriptions, configuration.


class TAOS_VGROUP_HASH_INFO(Structure):
    """The part of a database's hash values that one vgroup has."""

    _fields_ = (("vgId", c_int32), ("hashBegin", c_uint32), ("hashEnd", c_uint32))


class TAOS_DB_ROUTE_INFO(Structure):
    """How tables of a database are spread over vgroups."""

    _fields_ = (
        ("routeVersion", c_int32),
        ("hashPrefix", c_int16),
        ("hashSuffix", c_int16),
        ("hashMethod", c_int8),
        ("vgNum", c_int32),
        ("vgHash", POINTER(TAOS_VGROUP_HASH_INFO)),
    )


class tmq_topic_assignment(Structure):
    """A vgroup of a topic that a consumer has, and its offsets."""

    _fields_ = (
        ("vgId", c_int32),
        ("currentOffset", c_int64),
        ("begin", c_int64),
        ("end", c_int64),
    )


class tmq_raw_data(Structure):
    """A message in the form that can be written elsewhere; passed by value."""

    _fields_ = (("raw", c_void_p), ("raw_len", c_uint32), ("raw_type", c_uint16))


class setConfRet(Structure):
    """What ``taos_set_config`` answers: a :class:`SetConfigCode` and a text."""

    _fields_ = (("retCode", c_int), ("retMsg", c_char * 1024))


class OPTIONS(Structure):
    """Names and values for ``taos_connect_with``; it keeps the pointers that it is given."""

    _fields_ = (("keys", c_char_p * 256), ("values", c_char_p * 256), ("count", c_uint16))


# Enumerations.


class Option(IntEnum):
    """TSDB_OPTION: what ``taos_options`` sets, for the whole process."""

    LOCALE = 0
    CHARSET = 1
    TIMEZONE = 2
    CONFIGDIR = 3
    SHELL_ACTIVITY_TIMER = 4
    USE_ADAPTER = 5
    DRIVER = 6


class ConnectionOption(IntEnum):
    """TSDB_OPTION_CONNECTION: what ``taos_options_connection`` sets."""

    CLEAR = -1
    """All of them, back to their defaults."""
    CHARSET = 0
    TIMEZONE = 1
    USER_IP = 2
    USER_APP = 3
    """At most 23 bytes."""
    CONNECTOR_INFO = 4


class NotifyType(IntEnum):
    """TAOS_NOTIFY_TYPE: what ``taos_set_notify_cb`` is called for."""

    PASSVER = 0
    """``ext`` points to an int32."""
    WHITELIST_VER = 1
    """``ext`` points to an int64."""
    USER_DROPPED = 2
    """``ext`` is NULL."""


class FieldType(IntEnum):
    """TAOS_FIELD_T: what a parameter of a statement is bound to."""

    COL = 1
    TAG = 2
    QUERY = 3
    TBNAME = 4


class ConnectionMode(IntEnum):
    """TAOS_CONN_MODE: what ``taos_set_conn_mode`` switches."""

    BI = 0


class ConnectionInfo(IntEnum):
    """TSDB_CONNECTION_INFO: what ``taos_get_connection_info`` tells."""

    USER = 0
    TOKEN = 1


class ServerStatus(IntEnum):
    """TSDB_SERVER_STATUS, as ``taos_check_server_status`` tells it."""

    UNAVAILABLE = 0
    NETWORK_OK = 1
    SERVICE_OK = 2
    SERVICE_DEGRADED = 3
    EXITING = 4


class SchemalessPrecision(IntEnum):
    """TSDB_SML_TIMESTAMP_TYPE: unit of the timestamps of lines."""

    NOT_CONFIGURED = 0
    HOURS = 1
    MINUTES = 2
    SECONDS = 3
    MILLI_SECONDS = 4
    MICRO_SECONDS = 5
    NANO_SECONDS = 6


class TmqConfResult(IntEnum):
    """tmq_conf_res_t: what ``tmq_conf_set`` answers."""

    UNKNOWN = -2
    INVALID = -1
    OK = 0


class TmqResultType(IntEnum):
    """tmq_res_t: what a message of a subscription holds."""

    INVALID = -1
    DATA = 1
    TABLE_META = 2
    METADATA = 3
    RAWDATA = 4


class SetConfigCode(IntEnum):
    """SET_CONF_RET_CODE: what ``taos_set_config`` answers."""

    SUCC = 0
    ERR_PART = -1
    ERR_INNER = -2
    ERR_JSON_INVALID = -3
    ERR_JSON_PARSE = -4
    ERR_ONLY_ONCE = -5
    ERR_TOO_LONG = -6

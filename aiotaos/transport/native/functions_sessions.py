"""Declarations of libtaos: the process, connections, and what a cluster tells of itself.

"Waits" is said of functions that block until a server has answered; the others are local. Unless
something else is said, an int that is returned is 0 or a negative code.
"""

# mypy: disable-error-code="empty-body"
# The bodies are the library's.

from __future__ import annotations

from ctypes import POINTER
from typing import Annotated

from . import structs
from .prototypes import (
    Callback,
    CharBuffer,
    Functions,
    Handle,
    Int,
    Int8,
    Int32,
    Int32Out,
    IntOut,
    Text,
    Texts,
    TextsOut,
    UInt16,
    function,
)

_BY_PASSWORD = "taos_connect, with user and password"


class ProcessFunctions(Functions):
    """What concerns the whole process."""

    @function()
    def taos_init(self) -> Int:
        """Start the library: reads taos.cfg, opens logs, starts threads. Connecting does it too."""

    @function()
    def taos_cleanup(self) -> None:
        """End the library; nothing of it may be used afterwards. Waits."""

    @function()
    def taos_options(self, option: Int, arg: Text) -> Int:
        """Set an :class:`~.structs.Option` of the process, before the first connection.

        It answers 0 to most things, also to a directory that is not there and when it is too late.
        """

    @function(since="3.0")
    def taos_set_config(self, config: Text) -> structs.setConfRet:
        """Set entries of the configuration, given as JSON; once per process."""

    @function()
    def taos_get_client_info(self) -> Text:
        """Version of the library; starts nothing."""

    @function()
    def taos_data_type(self, type: Int) -> Text:
        """Name of a type code, as ``TSDB_DATA_TYPE_INT``."""

    @function(since="3.0")
    def taos_set_hb_quit(self, quit_by_kill: Int8) -> None:
        """How the thread of the heartbeat ends: 1, it is killed."""

    @function(since="3.0")
    def taos_write_crashinfo(self, signum: Int, sig_info: Handle, context: Handle) -> None:
        """Write what a signal handler knows of a crash; meant for TDengine's own programs."""

    @function(since="3.0", instead="taos_get_client_info")
    def getBuildInfo(self) -> Text:  # noqa: N802
        """How the library was built."""

    @function(since="3.0")
    def taos_check_server_status(
        self, fqdn: Text, port: Int, details: CharBuffer, maxlen: Int
    ) -> Int:
        """The :class:`~.structs.ServerStatus` of a server. Waits."""

    @function(since="3.4")
    def taos_register_instance(self, id: Text, type: Text, desc: Text, expire: Int32) -> Int32:
        """Tell the cluster of an instance, for ``expire`` seconds; 0 for good, -1: it is gone.

        Waits.
        """

    @function(since="3.4")
    def taos_list_instances(self, filter_type: Text, list: TextsOut, count: Int32Out) -> Int32:
        """The ids of the instances that a cluster knows; free them. Waits."""

    @function(since="3.4")
    def taos_free_instances(self, list: TextsOut, count: Int) -> None:
        """Free the answer of ``taos_list_instances``."""


class ConnectionFunctions(Functions):
    """Connections.

    Where a handle is NULL, the code and the text are the thread's own: ``taos_errno(None)`` and
    ``taos_errstr(None)``, to be asked on the thread of the call.
    """

    @function()
    def taos_connect(self, ip: Text, user: Text, password: Text, db: Text, port: UInt16) -> Handle:
        """Open a connection; None is the configuration's first server, and ``root``. Waits.

        Port 0 is 6030. Gives a TAOS, or None.
        """

    @function(since="2.0", instead=_BY_PASSWORD)
    def taos_connect_auth(self, ip: Text, user: Text, auth: Text, db: Text, port: UInt16) -> Handle:
        """The same with the MD5 of the password, as 32 lowercase hexadecimal digits. Waits."""

    @function(since="3.4", instead=_BY_PASSWORD)
    def taos_connect_totp(
        self, ip: Text, user: Text, password: Text, totp: Text, db: Text, port: UInt16
    ) -> Handle:
        """The same with a second factor. Waits."""

    @function(since="3.4", instead=_BY_PASSWORD)
    def taos_connect_token(self, ip: Text, token: Text, db: Text, port: UInt16) -> Handle:
        """The same with a token in place of user and password. Waits."""

    @function(since="3.4", instead=_BY_PASSWORD)
    def taos_connect_test(
        self, ip: Text, user: Text, password: Text, totp: Text, db: Text, port: UInt16
    ) -> Int:
        """Whether a login would be accepted; opens nothing. Waits."""

    @function(since="3.4", instead=_BY_PASSWORD)
    def taos_connect_with_dsn(self, dsn: Text) -> Handle:
        """Open a connection that a DSN describes; the WebSocket driver's. Waits."""

    @function(since="3.4", instead=_BY_PASSWORD)
    def taos_set_option(
        self,
        options: Annotated[structs.OPTIONS | None, POINTER(structs.OPTIONS)],
        key: Text,
        value: Text,
    ) -> None:
        """Add an option for ``taos_connect_with``; both texts must live until that has returned."""

    @function(since="3.4", instead=_BY_PASSWORD)
    def taos_connect_with(
        self, options: Annotated[structs.OPTIONS | None, POINTER(structs.OPTIONS)]
    ) -> Handle:
        """Open a connection that options describe. Waits."""

    @function()
    def taos_close(self, taos: Handle) -> None:
        """Close a connection; the handle must never be used again."""

    @function(since="3.3.6")
    def taos_options_connection(self, taos: Handle, option: Int, arg: Text) -> Int:
        """Set a :class:`~.structs.ConnectionOption`; None: back to the default."""

    @function()
    def taos_select_db(self, taos: Handle, db: Text) -> Int:
        """Choose the current database: ``use db``. Waits."""

    @function(since="3.0", instead="select database()")
    def taos_get_current_db(
        self, taos: Handle, database: CharBuffer, len: Int, required: IntOut
    ) -> Int:
        """The current database; other than 0 if the room is too small for ``required`` bytes."""

    @function()
    def taos_reset_current_db(self, taos: Handle) -> None:
        """Have no current database."""

    @function()
    def taos_get_server_info(self, taos: Handle) -> Text:
        """Version of the server."""

    @function(since="3.0")
    def taos_set_notify_cb(
        self,
        taos: Handle,
        fp: Annotated[Callback, structs.TAOS_NOTIFY_FN],
        param: Handle,
        type: Int,
    ) -> Int:
        """Have a callback called for a :class:`~.structs.NotifyType`, by the heartbeat."""

    @function(since="3.0")
    def taos_fetch_whitelist_a(
        self, taos: Handle, fp: Annotated[Callback, structs.TAOS_WHITELIST_FN], param: Handle
    ) -> None:
        """Ask for the addresses that the user may come from."""

    @function(since="3.3.7")
    def taos_fetch_whitelist_dual_stack_a(
        self, taos: Handle, fp: Annotated[Callback, structs.TAOS_WHITELIST_TEXT_FN], param: Handle
    ) -> None:
        """The same for IPv4 and IPv6, as text."""

    @function(since="3.4")
    def taos_fetch_ip_whitelist_a(
        self, taos: Handle, fp: Annotated[Callback, structs.TAOS_WHITELIST_TEXT_FN], param: Handle
    ) -> None:
        """Ask for the addresses that the user may and may not come from."""

    @function(since="3.4")
    def taos_fetch_datetime_whitelist_a(
        self, taos: Handle, fp: Annotated[Callback, structs.TAOS_WHITELIST_TEXT_FN], param: Handle
    ) -> None:
        """Ask for the times at which the user may and may not come."""

    @function(since="3.0")
    def taos_set_conn_mode(self, taos: Handle, mode: Int, value: Int) -> Int:
        """Switch a :class:`~.structs.ConnectionMode` on (1) or off (0)."""

    @function(since="3.4", instead="select current_user()")
    def taos_get_connection_info(
        self, taos: Handle, info: Int, buffer: CharBuffer, len: IntOut
    ) -> Int:
        """A :class:`~.structs.ConnectionInfo`; ``len`` is the room, and then the length."""

    @function(since="3.4", instead="select 1")
    def taos_connect_is_alive(self, taos: Handle) -> Int32:
        """Whether a connection still stands."""

    @function()
    def taos_load_table_info(self, taos: Handle, table_names: Text) -> Int:
        """Read the schemas of tables, named with commas between, into the client's cache. Waits."""

    @function(since="3.0")
    def taos_get_table_vgId(  # noqa: N802
        self, taos: Handle, db: Text, table: Text, vg_id: IntOut
    ) -> Int:
        """The vgroup that has a table. Waits."""

    @function(since="3.0")
    def taos_get_tables_vgId(  # noqa: N802
        self, taos: Handle, db: Text, tables: Texts, count: Int, vg_ids: IntOut
    ) -> Int:
        """The vgroups that have tables. Waits."""

    @function(since="3.0")
    def taos_get_db_route_info(
        self,
        taos: Handle,
        db: Text,
        info: Annotated[structs.TAOS_DB_ROUTE_INFO | None, POINTER(structs.TAOS_DB_ROUTE_INFO)],
    ) -> Int:
        """How a database spreads its tables over vgroups. Waits."""

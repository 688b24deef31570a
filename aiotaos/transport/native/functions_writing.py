"""Declarations of libtaos: prepared statements, schemaless lines, and raw blocks.

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
    AsyncFn,
    BindV,
    Data,
    Fields,
    FieldsAll,
    FieldsAllOut,
    FieldsE,
    FieldsEOut,
    Functions,
    Handle,
    Int,
    Int32,
    Int32Out,
    Int64,
    IntOut,
    MultiBinds,
    Text,
    Texts,
    ULong,
    function,
)


class StatementFunctions(Functions):
    """Prepared statements (stmt v1); one is used by one thread at a time."""

    @function()
    def taos_stmt_init(self, taos: Handle) -> Handle:
        """Make a statement: a TAOS_STMT."""

    @function(since="3.0", instead="taos_stmt_init")
    def taos_stmt_init_with_reqid(self, taos: Handle, reqid: Int64) -> Handle:
        """The same under an id of the request."""

    @function(since="3.0", instead="taos_stmt_init")
    def taos_stmt_init_with_options(
        self,
        taos: Handle,
        options: Annotated[structs.TAOS_STMT_OPTIONS | None, POINTER(structs.TAOS_STMT_OPTIONS)],
    ) -> Handle:
        """The same with options."""

    @function()
    def taos_stmt_prepare(self, stmt: Handle, sql: Text, length: ULong) -> Int:
        """Give it its SQL, of ``length`` bytes; 0: up to the zero. May wait."""

    @function()
    def taos_stmt_set_tbname(self, stmt: Handle, name: Text) -> Int:
        """Choose the table. May wait."""

    @function()
    def taos_stmt_set_sub_tbname(self, stmt: Handle, name: Text) -> Int:
        """Choose the table, one of the super table of the last. May wait."""

    @function(since="3.0", instead="taos_stmt_set_tbname_tags")
    def taos_stmt_set_tags(self, stmt: Handle, tags: MultiBinds) -> Int:
        """Give the tags of the table."""

    @function()
    def taos_stmt_set_tbname_tags(self, stmt: Handle, name: Text, tags: MultiBinds) -> Int:
        """Choose the table, and give its tags. May wait."""

    @function(since="3.0")
    def taos_stmt_get_tag_fields(self, stmt: Handle, count: IntOut, fields: FieldsEOut) -> Int:
        """The tags that can be bound; hand them back to ``taos_stmt_reclaim_fields``."""

    @function(since="3.0")
    def taos_stmt_get_col_fields(self, stmt: Handle, count: IntOut, fields: FieldsEOut) -> Int:
        """The columns that can be bound; hand them back to ``taos_stmt_reclaim_fields``."""

    @function(since="3.0")
    def taos_stmt_reclaim_fields(self, stmt: Handle, fields: FieldsE) -> None:
        """Free fields."""

    @function()
    def taos_stmt_is_insert(self, stmt: Handle, insert: IntOut) -> Int:
        """Whether it writes."""

    @function()
    def taos_stmt_num_params(self, stmt: Handle, nums: IntOut) -> Int:
        """Number of its ``?``."""

    @function()
    def taos_stmt_get_param(self, stmt: Handle, idx: Int, type: IntOut, bytes: IntOut) -> Int:
        """Type code and size of one of its ``?``."""

    @function()
    def taos_stmt_bind_param(self, stmt: Handle, bind: Data) -> Int:
        """Bind one row: an array of :class:`~.structs.TAOS_MULTI_BIND`, in 2.x of TAOS_BIND."""

    @function()
    def taos_stmt_bind_param_batch(self, stmt: Handle, bind: MultiBinds) -> Int:
        """Bind up to 32767 rows, a column for each ``?``."""

    @function()
    def taos_stmt_bind_single_param_batch(self, stmt: Handle, bind: MultiBinds, col: Int) -> Int:
        """Bind one column."""

    @function()
    def taos_stmt_add_batch(self, stmt: Handle) -> Int:
        """Add what is bound to what will be executed."""

    @function()
    def taos_stmt_execute(self, stmt: Handle) -> Int:
        """Execute it. Waits."""

    @function()
    def taos_stmt_use_result(self, stmt: Handle) -> Handle:
        """The result of a query; from 3.0 on it belongs to the statement."""

    @function()
    def taos_stmt_affected_rows(self, stmt: Handle) -> Int:
        """Number of rows written since it was made."""

    @function(since="3.0", instead="taos_stmt_affected_rows")
    def taos_stmt_affected_rows_once(self, stmt: Handle) -> Int:
        """Number of rows written by the last execution."""

    @function()
    def taos_stmt_errstr(self, stmt: Handle) -> Text:
        """The text for its last failure."""

    @function()
    def taos_stmt_close(self, stmt: Handle) -> Int:
        """Close it; the handle must never be used again."""


class Statement2Functions(Functions):
    """Prepared statements (stmt2); one is used by one thread at a time."""

    @function(since="3.3.5", instead="taos_stmt_init")
    def taos_stmt2_init(
        self,
        taos: Handle,
        option: Annotated[structs.TAOS_STMT2_OPTION | None, POINTER(structs.TAOS_STMT2_OPTION)],
    ) -> Handle:
        """Make a statement: a TAOS_STMT2. The option is copied, its callback must live."""

    @function(since="3.3.5", instead="taos_stmt_prepare")
    def taos_stmt2_prepare(self, stmt: Handle, sql: Text, length: ULong) -> Int:
        """Give it its SQL, of ``length`` bytes; 0: up to the zero. May wait."""

    @function(since="3.3.5", instead="taos_stmt_get_col_fields")
    def taos_stmt2_get_fields(self, stmt: Handle, count: IntOut, fields: FieldsAllOut) -> Int:
        """The parameters of an INSERT, of a query only their number. May wait."""

    @function(since="3.3.5", instead="taos_stmt_reclaim_fields")
    def taos_stmt2_free_fields(self, stmt: Handle, fields: FieldsAll) -> None:
        """Free fields."""

    @function(since="3.3.5", instead="taos_stmt_is_insert")
    def taos_stmt2_is_insert(self, stmt: Handle, insert: IntOut) -> Int:
        """Whether it writes."""

    @function(since="3.3.5", instead="taos_stmt_bind_param_batch")
    def taos_stmt2_bind_param(self, stmt: Handle, bindv: BindV, col_idx: Int32) -> Int:
        """Bind rows; -1: all columns. The values are copied. May wait."""

    @function(since="3.3.6", instead="taos_stmt2_bind_param")
    def taos_stmt2_bind_param_a(
        self, stmt: Handle, bindv: BindV, col_idx: Int32, fp: AsyncFn, param: Handle
    ) -> Int:
        """The same on a thread of the library, then ``fp(param, NULL, code)``.

        What is bound must live until then. One at a time.
        """

    @function(since="3.4", instead="taos_stmt2_bind_param")
    def taos_stmt2_bind_param_column(
        self,
        stmt: Handle,
        bindv: Annotated[
            structs.TAOS_STMT2_COLUMN_BINDV | None, POINTER(structs.TAOS_STMT2_COLUMN_BINDV)
        ],
    ) -> Int:
        """Bind rows of many tables, column by column."""

    @function(since="3.3.5", instead="taos_stmt_execute")
    def taos_stmt2_exec(self, stmt: Handle, affected_rows: IntOut) -> Int:
        """Execute it. Waits, unless it was made with a callback.

        In the callback neither bind nor close: they would wait for its end.
        """

    @function(since="3.3.5", instead="taos_stmt_use_result")
    def taos_stmt2_result(self, stmt: Handle) -> Handle:
        """The result of a query. In 3.3 it belongs to the statement and must not be freed."""

    @function(since="3.3.5", instead="taos_stmt_errstr")
    def taos_stmt2_error(self, stmt: Handle) -> Text:
        """The text for its last failure."""

    @function(since="3.3.5", instead="taos_stmt_close")
    def taos_stmt2_close(self, stmt: Handle) -> Int:
        """Close it, once what it does is done; the handle must never be used again. Waits."""


class SchemalessFunctions(Functions):
    """Schemaless lines. All wait, and give a TAOS_RES that must be freed; None is possible."""

    @function(since="2.2")
    def taos_schemaless_insert(
        self, taos: Handle, lines: Texts, num_lines: Int, protocol: Int, precision: Int
    ) -> Handle:
        """Write lines of a :class:`~aiotaos.types.SchemalessProtocol`.

        ``precision`` is a :class:`~.structs.SchemalessPrecision`.
        """

    @function(since="3.0", instead="taos_schemaless_insert")
    def taos_schemaless_insert_with_reqid(
        self,
        taos: Handle,
        lines: Texts,
        num_lines: Int,
        protocol: Int,
        precision: Int,
        reqid: Int64,
    ) -> Handle:
        """The same under an id of the request."""

    @function(since="3.0", instead="taos_schemaless_insert")
    def taos_schemaless_insert_ttl(
        self, taos: Handle, lines: Texts, num_lines: Int, protocol: Int, precision: Int, ttl: Int32
    ) -> Handle:
        """The same; tables that are made live for ``ttl`` days."""

    @function(since="3.0", instead="taos_schemaless_insert")
    def taos_schemaless_insert_ttl_with_reqid(
        self,
        taos: Handle,
        lines: Texts,
        num_lines: Int,
        protocol: Int,
        precision: Int,
        ttl: Int32,
        reqid: Int64,
    ) -> Handle:
        """Both."""

    @function(since="3.2", instead="taos_schemaless_insert_ttl_with_reqid")
    def taos_schemaless_insert_ttl_with_reqid_tbname_key(
        self,
        taos: Handle,
        lines: Texts,
        num_lines: Int,
        protocol: Int,
        precision: Int,
        ttl: Int32,
        reqid: Int64,
        tbname_key: Text,
    ) -> Handle:
        """Both; the table's name is the value of the tag ``tbname_key``."""

    @function(since="3.0", instead="taos_schemaless_insert")
    def taos_schemaless_insert_raw(
        self,
        taos: Handle,
        lines: Text,
        len: Int,
        total_rows: Int32Out,
        protocol: Int,
        precision: Int,
    ) -> Handle:
        """Write lines that stand in one text of ``len`` bytes; counts them in ``total_rows``."""

    @function(since="3.0", instead="taos_schemaless_insert")
    def taos_schemaless_insert_raw_with_reqid(
        self,
        taos: Handle,
        lines: Text,
        len: Int,
        total_rows: Int32Out,
        protocol: Int,
        precision: Int,
        reqid: Int64,
    ) -> Handle:
        """The same under an id of the request."""

    @function(since="3.0", instead="taos_schemaless_insert")
    def taos_schemaless_insert_raw_ttl(
        self,
        taos: Handle,
        lines: Text,
        len: Int,
        total_rows: Int32Out,
        protocol: Int,
        precision: Int,
        ttl: Int32,
    ) -> Handle:
        """The same; tables that are made live for ``ttl`` days."""

    @function(since="3.0", instead="taos_schemaless_insert")
    def taos_schemaless_insert_raw_ttl_with_reqid(
        self,
        taos: Handle,
        lines: Text,
        len: Int,
        total_rows: Int32Out,
        protocol: Int,
        precision: Int,
        ttl: Int32,
        reqid: Int64,
    ) -> Handle:
        """Both."""

    @function(since="3.2", instead="taos_schemaless_insert_raw_ttl_with_reqid")
    def taos_schemaless_insert_raw_ttl_with_reqid_tbname_key(
        self,
        taos: Handle,
        lines: Text,
        len: Int,
        total_rows: Int32Out,
        protocol: Int,
        precision: Int,
        ttl: Int32,
        reqid: Int64,
        tbname_key: Text,
    ) -> Handle:
        """Both; the table's name is the value of the tag ``tbname_key``."""


class RawFunctions(Functions):
    """Blocks and messages as they are, from one cluster into another. Writing waits."""

    @function(since="3.0")
    def taos_write_raw_block(self, taos: Handle, num_of_rows: Int, data: Data, tbname: Text) -> Int:
        """Write a raw block into a table that has all of its columns."""

    @function(since="3.0", instead="taos_write_raw_block")
    def taos_write_raw_block_with_reqid(
        self, taos: Handle, num_of_rows: Int, data: Data, tbname: Text, reqid: Int64
    ) -> Int:
        """The same under an id of the request."""

    @function(since="3.0", instead="taos_write_raw_block")
    def taos_write_raw_block_with_fields(
        self, taos: Handle, rows: Int, data: Data, tbname: Text, fields: Fields, num_fields: Int
    ) -> Int:
        """Write a raw block whose columns are named."""

    @function(since="3.0", instead="taos_write_raw_block_with_fields")
    def taos_write_raw_block_with_fields_with_reqid(
        self,
        taos: Handle,
        rows: Int,
        data: Data,
        tbname: Text,
        fields: Fields,
        num_fields: Int,
        reqid: Int64,
    ) -> Int:
        """The same under an id of the request."""

    @function(since="3.0")
    def tmq_get_raw(
        self,
        res: Handle,
        raw: Annotated[structs.tmq_raw_data | None, POINTER(structs.tmq_raw_data)],
    ) -> Int32:
        """The raw form of a message; free it."""

    @function(since="3.0")
    def tmq_write_raw(self, taos: Handle, raw: structs.tmq_raw_data) -> Int32:
        """Write a message into the current database."""

    @function(since="3.0")
    def tmq_free_raw(self, raw: structs.tmq_raw_data) -> None:
        """Free the raw form of a message."""

    @function(since="3.0")
    def tmq_get_json_meta(self, res: Handle) -> Handle:
        """What a message says of tables, as JSON: a C string that is to be freed, or None."""

    @function(since="3.0")
    def tmq_free_json_meta(self, json_meta: Handle) -> None:
        """Free that string."""

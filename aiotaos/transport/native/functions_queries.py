"""Declarations of libtaos: queries and their results, waiting and by callback.

"Waits" is said of functions that block until a server has answered; the others are local. Unless
something else is said, an int that is returned is 0 or a negative code.
"""

# mypy: disable-error-code="empty-body"
# The bodies are the library's.

from __future__ import annotations

from typing import Annotated

from . import structs
from .prototypes import (
    AsyncFn,
    Bool,
    BoolOut,
    Callback,
    CharBuffer,
    Fields,
    FieldsE,
    Functions,
    Handle,
    HandleOut,
    Int,
    Int32,
    Int64,
    IntOut,
    Ints,
    Row,
    RowOut,
    Rows,
    Text,
    UInt32,
    function,
)


class QueryFunctions(Functions):
    """Queries, and results of any origin.

    A result is used by one thread at a time. It must be freed, also that of a failed query.
    """

    @function()
    def taos_query(self, taos: Handle, sql: Text) -> Handle:
        """Run one statement. Waits.

        Gives a TAOS_RES; whether it failed tells ``taos_errno``. One statement per call.
        """

    @function(since="3.0", instead="taos_query")
    def taos_query_with_reqid(self, taos: Handle, sql: Text, reqid: Int64) -> Handle:
        """The same under an id of the request. Waits."""

    @function()
    def taos_errno(self, res: Handle) -> Int:
        """The code of a result, or for None of the thread's last failure; 0: none."""

    @function()
    def taos_errstr(self, res: Handle) -> Text:
        """The text for it."""

    @function()
    def taos_num_fields(self, res: Handle) -> Int:
        """Number of columns; 0: it is not a query."""

    taos_num_files = taos_num_fields
    """As the manual of 2.x once calls it."""

    @function()
    def taos_field_count(self, res: Handle) -> Int:
        """The same."""

    @function()
    def taos_fetch_fields(self, res: Handle) -> Fields:
        """The columns; they belong to the result. 2.x: of :class:`~.structs.TAOS_FIELD_2X`."""

    @function(since="3.3.6", instead="taos_fetch_fields")
    def taos_fetch_fields_e(self, res: Handle) -> FieldsE:
        """The columns with precision and scale; they belong to the result."""

    @function()
    def taos_affected_rows(self, res: Handle) -> Int:
        """Number of rows written."""

    @function(since="3.0", instead="taos_affected_rows")
    def taos_affected_rows64(self, res: Handle) -> Int64:
        """Number of rows written, also above 2**31."""

    @function()
    def taos_is_update_query(self, res: Handle) -> Bool:
        """Whether there are no columns."""

    @function()
    def taos_result_precision(self, res: Handle) -> Int:
        """The :class:`~aiotaos.types.Precision` of the TIMESTAMPs."""

    @function()
    def taos_fetch_row(self, res: Handle) -> Row:
        """The next row, as addresses of its values, NULL for NULL; false at the end. Waits.

        It lives until the next call.
        """

    @function()
    def taos_fetch_lengths(self, res: Handle) -> Ints:
        """Sizes of the values of the row fetched last, bytes."""

    @function()
    def taos_fetch_block(self, res: Handle, rows: RowOut) -> Int:
        """The next rows, as addresses of columns; gives their number, 0 at the end. Waits."""

    taos_fetch_rows = taos_fetch_row
    taos_fetch_blocks = taos_fetch_block
    """As the manual of 2.x once calls them."""

    @function(since="3.0", instead="taos_fetch_block")
    def taos_fetch_block_s(self, res: Handle, num_of_rows: IntOut, rows: RowOut) -> Int:
        """The same; tells failures. Waits."""

    @function(since="3.0", instead="taos_fetch_block")
    def taos_fetch_raw_block(self, res: Handle, num_of_rows: IntOut, data: HandleOut) -> Int:
        """The next raw block, of 0 rows at the end. Waits. It lives until the next call."""

    @function(since="3.0")
    def taos_get_column_data_offset(self, res: Handle, column: Int) -> Ints:
        """Where the values of a variable type begin, in the block fetched last; -1 for NULL."""

    @function()
    def taos_is_null(self, res: Handle, row: Int32, col: Int32) -> Bool:
        """Whether a value of the block fetched last is NULL."""

    @function(since="3.0", instead="taos_is_null")
    def taos_is_null_by_column(
        self, res: Handle, column: Int, result: BoolOut, rows: IntOut
    ) -> Int:
        """The same for a column; ``rows`` is the room, and then the number."""

    @function(since="3.0")
    def taos_result_block(self, res: Handle) -> Rows:
        """Address of the array of addresses of the current row."""

    @function()
    def taos_free_result(self, res: Handle) -> None:
        """Free a result or a message; the server stops a query that has not ended."""

    @function()
    def taos_stop_query(self, res: Handle) -> None:
        """Stop a query; what waits for it fails."""

    @function(since="3.0", instead="taos_stop_query")
    def taos_kill_query(self, taos: Handle) -> None:
        """Stop all queries of a connection."""

    @function()
    def taos_validate_sql(self, taos: Handle, sql: Text) -> Int:
        """Whether a statement is understood; does not run it. Waits."""

    @function()
    def taos_print_row(self, str: CharBuffer, row: Row, fields: Fields, num_fields: Int) -> Int:
        """Write a row as text; gives its length."""

    @function(since="3.0", instead="taos_print_row")
    def taos_print_row_with_size(
        self, str: CharBuffer, size: UInt32, row: Row, fields: Fields, num_fields: Int
    ) -> Int:
        """The same into room of ``size`` bytes."""


class CallbackQueryFunctions(Functions):
    """Queries that call back.

    A callback may come on the calling thread before the function has returned: so it does for a
    statement that is refused at once, and for the first fetch of a query that cannot have rows
    (``where 1=0``; seen with 3.3.7.5). Otherwise a thread of the library's pool calls it; it must
    return soon, and nothing that waits may be called in it. SQL must live until the callback: the
    WebSocket driver reads it after the function has returned. A connection that is NULL crashes
    3.3.7.5.
    """

    @function()
    def taos_query_a(self, taos: Handle, sql: Text, fp: AsyncFn, param: Handle) -> None:
        """Run one statement; ``fp(param, res, code)`` is called once.

        ``code`` is 0 or negative; the result is to be freed in either case, None is possible.
        """

    @function(since="3.0", instead="taos_query_a")
    def taos_query_a_with_reqid(
        self, taos: Handle, sql: Text, fp: AsyncFn, param: Handle, reqid: Int64
    ) -> None:
        """The same under an id of the request."""

    @function()
    def taos_fetch_rows_a(self, res: Handle, fp: AsyncFn, param: Handle) -> None:
        """Get the next rows; ``fp(param, res, rows)`` is called once.

        ``rows`` above 0: so often ``taos_fetch_row`` may be called in the callback; 0 is the end,
        or a failure that ``taos_errno`` tells; negative a code.
        """

    @function(since="3.0", instead="taos_fetch_rows_a")
    def taos_fetch_raw_block_a(self, res: Handle, fp: AsyncFn, param: Handle) -> None:
        """Get the next raw block; afterwards :meth:`taos_get_raw_block` has it.

        The callback is that of :meth:`taos_fetch_rows_a`. One fetch of a result at a time.
        """

    @function(since="3.0")
    def taos_get_raw_block(self, res: Handle) -> Handle:
        """The block fetched last; it lives until the next fetch, or until the result is freed."""

    @function(until="2.0", instead="taos_fetch_rows_a")
    def taos_fetch_row_a(
        self, res: Handle, fp: Annotated[Callback, structs.TAOS_STREAM_FN], param: Handle
    ) -> None:
        """Get the next row; ``fp(param, res, row)`` is called once."""

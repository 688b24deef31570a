"""Stmt v1: a prepared statement that is told its table, its tags and its rows one by one."""

from __future__ import annotations

from typing import Any

from ..protocol.bound import BoundColumn, BoundTable, parse_raw_block
from .arguments import UNKNOWN
from .binding import json_values
from .columns import Column
from .faults import Fault
from .statements import Statement, misused
from .template import BIND_COLUMN, BIND_TAG, Template


class Steps(Statement):
    """A statement of stmt v1; its table and its tags stay until others are set."""

    def _reset(self) -> None:
        super()._reset()
        self._table: str | None = None
        self._tag_values: list[BoundColumn] = []
        self._has_open_rows = False

    def known_template(self) -> Template:
        """What is to be bound to the table that was set.

        Raises:
            Fault: There is no such table, or this is no INSERT.
        """
        return self.template_of(self._table or "")

    def set_table_name(self, name: str) -> None:
        """Choose the table for what is bound from now on.

        Raises:
            Fault: The statement names its table itself.
        """
        with self._step():
            names_itself = self._template is not None and self._template.name is not None
            if not self.is_insert or names_itself:
                raise misused()
            self._table, self._tag_values = name, []

    def set_tags(self, tags: list[Any] | memoryview) -> None:
        """Set the tags that the table gets if it is new: JSON values, or a raw block of one row.

        Raises:
            Fault: Their number is wrong, or they are of no use.
            ProtocolError: The block is.
        """
        template = self.known_template()
        wanted = template.of_kind(BIND_TAG)
        if not wanted:
            return
        if isinstance(tags, list):
            columns = self._from_json(template, wanted, [[tag] for tag in tags], "tags")
        else:
            columns = parse_raw_block(tags, [tag.type.code for tag in wanted])
        if any(len(column.values) != 1 for column in columns):
            raise Fault(UNKNOWN, "rows not equal 1")
        self._tag_values = columns

    def bind_rows(self, columns: list[list[Any]] | memoryview) -> None:
        """Bind rows: JSON values by column, or a raw block; for a query a block of one row.

        Raises:
            Fault: Their number is wrong, or they are of no use.
            ProtocolError: The block is.
        """
        if not self.is_insert:
            if isinstance(columns, list):
                raise misused()
            self.bind([BoundTable(None, [], parse_raw_block(columns))])
            return
        template = self.known_template()
        wanted = template.of_kind(BIND_COLUMN)
        if not wanted:
            return
        if isinstance(columns, list):
            bound = self._from_json(template, wanted, columns, "column")
        else:
            bound = parse_raw_block(columns, [column.type.code for column in wanted])
        self.bind([BoundTable(self._table, self._tag_values, bound)])
        self._has_open_rows = True

    def _from_json(
        self, template: Template, wanted: list[Column], values: list[list[Any]], what: str
    ) -> list[BoundColumn]:
        if len(values) != len(wanted):
            raise Fault(UNKNOWN, f"stmt {what} count not match")
        precision = self.precision(template)
        return [
            json_values(column, given, precision)
            for column, given in zip(wanted, values, strict=True)
        ]

    def add_batch(self) -> None:
        """End a bind; without this nothing is executed.

        Raises:
            Fault: Nothing was bound.
        """
        with self._step():
            if self.is_insert and not self._has_open_rows:
                raise misused()
            self._has_open_rows = False

    def execute(self) -> int:
        if self._has_open_rows:
            with self._step():
                raise misused()
        return super().execute()

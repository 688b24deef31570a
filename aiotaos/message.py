"""Message: what a subscription brings at a time, and where it stands in its vgroup."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from .errors import InterfaceError
from .protocol.block import Row
from .protocol.tables import Dictionary, DtypeBackend, Tables, pandas_frame
from .protocol.tmq import TableBlock
from .types import Precision

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow


class MessageKind(StrEnum):
    """What a message holds."""

    DATA = "data"
    """Rows."""
    META = "meta"
    """Changes of tables, as JSON; from topics ``with meta``."""
    METADATA = "metadata"
    """Both: rows, and the tables that were made for them."""


class Message:
    """Some rows of one vgroup of a topic, or changes of its tables.

    Iterate it for blocks, of one table each and with columns of their own; ``len`` is the number
    of rows.

    Attributes:
        topic: Name of the topic.
        database: Name of its database.
        vgroup_id: The vgroup.
        offset: Where the message begins in the vgroup; of META where it ends; None in a snapshot.
        end: Where the vgroup goes on behind the message; None in a snapshot.
        next_offset: What is committed: ``end``, or, where that may be in the middle of what one
            INSERT wrote, an offset before it. None in a snapshot.
        kind: What it holds.
        blocks: Its rows.
        metas: Its changes of tables, as TDengine's JSON tells them.
        size: Bytes that came.
        is_cut: Whether it may end in the middle of what one INSERT wrote; what follows has the
            rest.
        came: All blocks that came; those that were given out before a reconnect are not in
            ``blocks``.
    """

    __slots__ = (
        "blocks", "came", "database", "end", "id", "is_cut", "kind", "metas", "next_offset",
        "offset", "size", "topic", "vgroup_id",
    )  # fmt: skip

    def __init__(
        self,
        id: int,
        topic: str,
        database: str,
        vgroup_id: int,
        offset: int | None,
        end: int | None,
        kind: MessageKind,
        blocks: Sequence[TableBlock],
        metas: Sequence[dict[str, Any]],
        size: int,
        is_cut: bool,
        came: Sequence[TableBlock],
    ) -> None:
        self.id = id
        self.topic = topic
        self.database = database
        self.vgroup_id = vgroup_id
        self.offset = offset
        self.end = self.next_offset = end
        self.kind = kind
        self.blocks = blocks
        self.metas = metas
        self.size = size
        self.is_cut = is_cut
        self.came = came

    def __repr__(self) -> str:
        return (
            f"<Message {self.kind} of {self.topic!r}, vgroup {self.vgroup_id}, "
            f"offset {self.offset}, {len(self)} rows>"
        )

    def __iter__(self) -> Iterator[TableBlock]:
        return iter(self.blocks)

    def __len__(self) -> int:
        return sum(map(len, self.blocks))

    def __bool__(self) -> bool:
        return True  # a message without rows is one

    @property
    def place(self) -> tuple[str, int]:
        """Topic and vgroup."""
        return self.topic, self.vgroup_id

    def rows(self) -> list[Row]:
        """The rows of all blocks, as tuples with the conversions of the consumer.

        Raises:
            DataError: A TIMESTAMP is outside what a datetime holds.
        """
        rows: list[Row] = []
        for block in self.blocks:
            rows += block.rows()
        return rows

    def to_numpy(self) -> dict[str, npt.NDArray[Any]]:
        """The rows of all blocks, as numpy arrays; see :meth:`Result.to_numpy`.

        Raises:
            InterfaceError: The blocks differ in their columns, as those of different super tables
                do; convert them one by one. Or two columns have one name.
        """
        return self._tables().numpy(self.blocks)

    def to_arrow(self, *, dictionary: Dictionary = False) -> pyarrow.Table:
        """The rows of all blocks, as an Arrow table; see :meth:`Result.to_arrow`.

        Raises:
            InterfaceError: As :meth:`to_numpy`; pyarrow is not installed, or ``dictionary`` names
                no text column.
            DataError: A text is not Unicode.
        """
        tables = self._tables()
        return tables.table(map(tables.batch, self.blocks), dictionary)

    def to_pandas(
        self, *, dtype_backend: DtypeBackend = None, dictionary: Dictionary = False
    ) -> pandas.DataFrame:
        """The rows of all blocks, as a pandas DataFrame; see :meth:`Result.to_pandas`.

        Raises:
            Error: As :meth:`to_arrow`; there is no such backend.
        """
        return pandas_frame(self.to_arrow(dictionary=dictionary), dtype_backend)

    def to_polars(self, *, dictionary: Dictionary = False) -> polars.DataFrame:
        """The rows of all blocks, as a polars DataFrame; see :meth:`Result.to_polars`.

        Raises:
            Error: As :meth:`to_arrow`.
        """
        return self._tables().polars(self.blocks, dictionary)

    def _tables(self) -> Tables:
        if not self.blocks:
            return Tables((), Precision.MILLISECOND)
        first = self.blocks[0]
        for block in self.blocks:
            if block.fields != first.fields:
                raise InterfaceError(
                    f"the message has blocks of different columns, of {first.table!r} and of "
                    f"{block.table!r}; convert them one by one"
                )
        return first.tables()

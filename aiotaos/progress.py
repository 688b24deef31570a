"""How far a vgroup was read, and where it can be read on from without a gap.

TDengine cuts the answer to a poll of a topic on a query as soon as it has ``min.poll.rows`` rows,
also in the middle of what one INSERT wrote; the offset that it tells is the one behind that INSERT
(``tqScanData`` in ``tqScan.c``). As long as the subscription stands the rest comes next. But who
begins at that offset, after a restart or a seek, never gets it. So what is committed is an offset
before which everything has been given out, and what comes a second time when this side reads on
from there is left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from .protocol.tmq import TableBlock


class Progress:
    """The progress in one vgroup of a topic.

    Args:
        offset: Where it begins.

    Attributes:
        end: The offset behind what was given out.
        safe: The offset to read on from: everything before it was given out.
    """

    __slots__ = ("_again", "_given", "end", "safe")

    def __init__(self, offset: int) -> None:
        self.end = self.safe = offset
        self._given: list[TableBlock] = []  # blocks, some of which stand behind ``safe``
        self._again: list[TableBlock] | None = None  # what may come a second time

    def restart(self, offset: int) -> None:
        """Reading begins again at an offset: at ``safe``, or at another one."""
        if offset == self.safe:
            self._again = self._given
        else:
            self._again, self._given = None, []
        self.end = self.safe = offset

    def advance(
        self,
        offset: int,
        end: int,
        blocks: Sequence[TableBlock],
        fresh: Sequence[TableBlock],
        is_cut: bool,
    ) -> None:
        """A message is given out.

        Args:
            offset: Where it begins.
            end: The offset behind it.
            blocks: Its rows, also those that came before.
            fresh: Its rows without those.
            is_cut: Whether it may end in the middle of an INSERT.
        """
        self.end = end
        if not is_cut:
            self.safe, self._given = end, []
        elif end > offset or offset == self.safe:
            # It has the rest of the INSERT before ``offset``, if there was one, and more.
            self.safe, self._given = offset, list(blocks)
        else:
            self._given = [*self._given, *fresh]

    def settle(self) -> None:
        """Nothing followed for so long that there is no rest of an INSERT to come."""
        self.safe, self._given = self.end, []

    def repeat(self, end: int) -> None:
        """A message has come again of which nothing is fresh."""
        self.end = end

    def fresh(self, blocks: Sequence[TableBlock]) -> list[TableBlock]:
        """The blocks of a message that were not given out before a restart."""
        again, self._again = self._again, None
        for first in range(len(again or ()) - 1, -1, -1):
            # What was given out before ``safe`` stands first, and does not come again.
            tail = (again or [])[first:]
            common = min(len(tail), len(blocks))
            if all(map(_are_equal, tail[:common], blocks[:common])):
                self._again = tail[common:]
                return list(blocks[common:])
        return list(blocks)


def _are_equal(block: TableBlock, other: TableBlock) -> bool:
    return block.raw == other.raw

"""How far a vgroup was read, where the server cuts messages in the middle of an INSERT."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aiotaos.embedded.tmq_frames import message
from aiotaos.progress import Progress
from aiotaos.protocol.tmq import MessageParser, RawType, TableBlock
from tests.subscribing import block


def blocks(*contents: Sequence[int]) -> list[TableBlock]:
    """Blocks of a topic on a query, as they come out of a message."""
    raw = message(0, 1, [block(values) for values in contents], with_names=False)
    return MessageParser().parse(raw, RawType.DATA).blocks


def contents(given: Sequence[TableBlock]) -> list[list[int]]:
    return [one.columns[1].values.tolist() for one in given]


def places(progress: Progress) -> tuple[int, int]:
    return progress.safe, progress.end


# Messages that end where an INSERT does.


def test_it_begins_where_it_is_told():
    assert places(Progress(7)) == (7, 7)


def test_clean_messages():
    progress = Progress(0)
    progress.advance(0, 4, blocks([1], [2]), blocks([1], [2]), False)
    assert places(progress) == (4, 4)
    progress.advance(4, 9, blocks([3]), blocks([3]), False)
    assert places(progress) == (9, 9)
    assert contents(progress.fresh(blocks([4]))) == [[4]]


def test_nothing_is_left_out_without_a_restart():
    progress = Progress(0)
    progress.advance(0, 1, blocks([1]), blocks([1]), True)
    assert contents(progress.fresh(blocks([1]))) == [[1]]


# Messages that may be cut.


def test_the_first_half_is_not_behind():
    progress = Progress(0)
    progress.advance(0, 1, blocks([1], [2]), blocks([1], [2]), True)
    assert places(progress) == (0, 1)
    progress.advance(1, 1, blocks([3]), blocks([3]), True)
    assert places(progress) == (0, 1)


def test_the_rest_and_nothing_else():
    progress = Progress(0)
    progress.advance(0, 1, blocks([1], [2]), blocks([1], [2]), True)
    progress.advance(1, 1, blocks([3]), blocks([3]), False)
    assert places(progress) == (1, 1)


def test_the_rest_and_more_that_is_cut_again():
    progress = Progress(0)
    progress.advance(0, 1, blocks([1], [2]), blocks([1], [2]), True)
    progress.advance(1, 2, blocks([3], [4]), blocks([3], [4]), True)
    assert places(progress) == (1, 2)
    progress.advance(2, 3, blocks([5], [6]), blocks([5], [6]), True)
    assert places(progress) == (2, 3)
    progress.advance(3, 3, blocks([7]), blocks([7]), False)
    assert places(progress) == (3, 3)


def test_several_inserts_before_the_cut():
    progress = Progress(0)
    progress.advance(0, 3, blocks([1], [2], [3], [4]), blocks([1], [2], [3], [4]), True)
    assert places(progress) == (0, 3)
    progress.advance(3, 5, blocks([5], [6], [7]), blocks([5], [6], [7]), True)
    assert places(progress) == (3, 5)


# A restart where nothing is missing.


def test_what_comes_again_is_left_out():
    progress = Progress(0)
    progress.advance(0, 1, blocks([1], [2]), blocks([1], [2]), True)
    progress.restart(0)
    assert places(progress) == (0, 0)
    assert contents(progress.fresh(blocks([1], [2], [3]))) == [[3]]


def test_the_same_cut_again():
    progress = Progress(0)
    progress.advance(0, 1, blocks([1], [2]), blocks([1], [2]), True)
    progress.restart(0)
    assert contents(progress.fresh(blocks([1], [2]))) == []
    assert contents(progress.fresh(blocks([3]))) == [[3]]
    progress.advance(1, 1, blocks([3]), blocks([3]), False)
    assert places(progress) == (1, 1)


def test_a_message_without_anything_fresh():
    """The rest of its INSERT is still to come, so nothing more is safe."""
    progress = Progress(0)
    progress.advance(0, 1, blocks([1], [2]), blocks([1], [2]), True)
    progress.restart(0)
    assert contents(progress.fresh(blocks([1], [2]))) == []
    progress.repeat(1)
    assert places(progress) == (0, 1)
    progress.restart(0)
    assert contents(progress.fresh(blocks([1], [2], [3]))) == [[3]]


def test_smaller_pieces_than_before():
    progress = Progress(0)
    progress.advance(0, 1, blocks([1], [2], [3]), blocks([1], [2], [3]), True)
    progress.restart(0)
    assert contents(progress.fresh(blocks([1]))) == []
    assert contents(progress.fresh(blocks([2]))) == []
    assert contents(progress.fresh(blocks([3], [4]))) == [[4]]
    assert contents(progress.fresh(blocks([1]))) == [[1]]


def test_a_larger_piece_than_before():
    progress = Progress(0)
    progress.advance(0, 1, blocks([1]), blocks([1]), True)
    progress.advance(1, 1, blocks([2]), blocks([2]), True)
    progress.restart(0)
    assert contents(progress.fresh(blocks([1], [2], [3]))) == [[3]]


def test_what_stood_before_the_safe_offset_does_not_come_again():
    progress = Progress(0)
    progress.advance(0, 1, blocks([1], [2]), blocks([1], [2]), True)
    progress.advance(
        1, 2, blocks([3], [4]), blocks([3], [4]), True
    )  # 3 belongs to the first INSERT
    progress.restart(1)
    assert contents(progress.fresh(blocks([4], [5]))) == [[5]]
    assert places(progress) == (1, 1)


def test_a_message_of_which_a_part_came_before():
    """That part stands behind the safe offset, too, and comes again after the next restart."""
    progress = Progress(0)
    progress.advance(
        0, 2, blocks([1], [2], [3]), blocks([1], [2], [3]), True
    )  # 1 and 2 are the first INSERT
    progress.restart(0)
    assert contents(progress.fresh(blocks([1], [2]))) == []
    progress.repeat(1)
    assert contents(progress.fresh(blocks([3], [4]))) == [[4]]
    progress.advance(1, 2, blocks([3], [4]), blocks([4]), True)
    progress.restart(progress.safe)
    assert contents(progress.fresh(blocks([3], [4], [5]))) == [[5]]


def test_two_restarts():
    progress = Progress(0)
    progress.advance(0, 1, blocks([1], [2]), blocks([1], [2]), True)
    progress.restart(0)
    assert contents(progress.fresh(blocks([1], [2], [3]))) == [[3]]
    progress.advance(0, 1, blocks([1], [2], [3]), blocks([3]), True)
    assert places(progress) == (0, 1)
    progress.restart(0)
    assert contents(progress.fresh(blocks([1], [2], [3], [4]))) == [[4]]


def test_a_restart_before_anything_has_come_again():
    progress = Progress(0)
    progress.advance(0, 1, blocks([1], [2]), blocks([1], [2]), True)
    progress.restart(0)
    progress.restart(0)
    assert contents(progress.fresh(blocks([1], [2], [3]))) == [[3]]


def test_a_restart_while_things_come_again():
    progress = Progress(0)
    progress.advance(0, 1, blocks([1], [2], [3]), blocks([1], [2], [3]), True)
    progress.restart(0)
    assert contents(progress.fresh(blocks([1]))) == []
    progress.restart(0)
    assert contents(progress.fresh(blocks([1], [2], [3], [4]))) == [[4]]


def test_a_restart_after_a_clean_message():
    progress = Progress(0)
    progress.advance(0, 1, blocks([1]), blocks([1]), False)
    progress.restart(1)
    assert contents(progress.fresh(blocks([1]))) == [[1]]


@pytest.mark.parametrize("offset", [1, 5])
def test_a_restart_elsewhere(offset):
    """Somebody else has committed: what comes is new, whatever it looks like."""
    progress = Progress(0)
    progress.advance(0, 1, blocks([1], [2]), blocks([1], [2]), True)
    progress.restart(offset)
    assert places(progress) == (offset, offset)
    assert contents(progress.fresh(blocks([1], [2]))) == [[1], [2]]


def test_something_else_than_expected_is_given_out():
    progress = Progress(0)
    progress.advance(0, 1, blocks([1], [2]), blocks([1], [2]), True)
    progress.restart(0)
    assert contents(progress.fresh(blocks([8], [9]))) == [[8], [9]]


def test_equal_blocks_may_come_twice_but_none_is_missing():
    """Blocks of an INSERT that are equal cannot be told apart."""
    progress = Progress(0)
    progress.advance(0, 1, blocks([7], [7]), blocks([7], [7]), True)
    progress.restart(0)
    assert contents(progress.fresh(blocks([7], [7], [7], [8]))) == [[7], [7], [8]]


# Any stream of INSERTs, cut anywhere, with losses anywhere.


@dataclass
class Vgroup:
    """A vgroup as a TDengine serves it.

    Attributes:
        inserts: The blocks of each INSERT.
        limit: Rows from which on a message is cut.
    """

    inserts: list[list[list[int]]]
    limit: int
    offset: int = 0
    rest: int = 0  # blocks of the INSERT before ``offset`` that are still to come

    def poll(self) -> tuple[int, int, list[list[int]], bool] | None:
        """Offset, end, blocks, and whether it may be cut."""
        start = self.offset
        found: list[list[int]] = []
        while sum(map(len, found)) < self.limit:
            if self.rest:
                found.append(self.inserts[self.offset - 1][-self.rest])
                self.rest -= 1
            elif self.offset < len(self.inserts):
                self.rest = len(self.inserts[self.offset])
                self.offset += 1
            else:
                break
        if not found:
            return None
        return start, self.offset, found, sum(map(len, found)) >= self.limit

    def seek(self, offset: int) -> None:
        self.offset, self.rest = offset, 0


def numbered(sizes: list[list[int]]) -> list[list[list[int]]]:
    """INSERTs of blocks of these sizes; all rows are different."""
    values = itertools.count()
    return [[list(itertools.islice(values, size)) for size in insert] for insert in sizes]


SIZES = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=6), max_size=6)
ALIKE = st.lists(
    st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=2), min_size=1, max_size=6),
    max_size=6,
)
STEPS = st.lists(st.tuples(st.integers(1, 7), st.integers(0, 4)), max_size=12)


def read(inserts: list[list[list[int]]], steps: list[tuple[int, int]]) -> list[list[int]]:
    """What an application gets that loses its connection after some messages, again and again.

    Each step is the limit of the server at that time, and the messages until the loss.
    """
    progress = Progress(0)
    got: list[list[int]] = []

    def take(vgroup: Vgroup) -> bool:
        polled = vgroup.poll()
        if polled is None:
            return False
        offset, end, found, is_cut = polled
        came = blocks(*found)
        fresh = progress.fresh(came)
        if fresh:
            progress.advance(offset, end, came, fresh, is_cut)
            got.extend(contents(fresh))
        else:
            progress.repeat(end)
        assert progress.safe <= progress.end == end
        return True

    for limit, count in steps:
        vgroup = Vgroup(inserts, limit, progress.safe)
        progress.restart(progress.safe)
        for _ in range(count):
            take(vgroup)
    vgroup = Vgroup(inserts, 4, progress.safe)
    progress.restart(progress.safe)
    while take(vgroup):
        pass
    return got


@given(SIZES, STEPS)
@example([[1, 1, 1, 1], [1, 1]], [(5, 1), (2, 3)])
def test_each_block_once_in_order(sizes, steps):
    inserts = numbered(sizes)
    assert read(inserts, steps) == [one for insert in inserts for one in insert]


@given(ALIKE, STEPS)
def test_equal_blocks_without_a_gap(inserts, steps):
    got = iter(read(inserts, steps))
    assert all(one in got for insert in inserts for one in insert)  # in this order, with others


@given(SIZES, st.integers(1, 7))
def test_who_begins_at_the_safe_offset_misses_nothing(sizes, limit):
    """After each message: what was given out, and what another reader gets from there."""
    inserts = numbered(sizes)
    everything = [one for insert in inserts for one in insert]
    progress, vgroup = Progress(0), Vgroup(inserts, limit)
    got: list[list[int]] = []
    while (polled := vgroup.poll()) is not None:
        offset, end, found, is_cut = polled
        progress.advance(offset, end, blocks(*found), blocks(*found), is_cut)
        got += found
        rest = [one for insert in inserts[progress.safe :] for one in insert]
        assert got == everything[: len(got)]
        assert len(got) + len(rest) >= len(everything)
        assert progress.end == end
    assert got == everything

"""Consumers, their groups, and where they stand."""

from __future__ import annotations

from dataclasses import dataclass, field

from .log import Log
from .tmq_options import ConsumerOptions
from .topics import Topic

Key = tuple[str, int]
"""A topic and a vgroup of it."""


@dataclass(slots=True, eq=False)
class Place:
    """Where a consumer stands in a vgroup that belongs to it.

    Attributes:
        began: Where the last message of it began, or where it was sought to.
        position: The version that comes next; None until reading begins.
        is_read: The consumer polled it or sought in it, so there is something to commit.
    """

    topic: Topic
    log: Log
    began: int = 0
    position: int | None = None
    is_read: bool = False


@dataclass(slots=True, eq=False)
class Consumer:
    """A member of a group.

    Attributes:
        places: By topic and vgroup; the one that waits longest for its turn comes first.
        knows_ranges: It has polled, or asked for its assignment.
        is_lost: It was thrown out of its group.
        subscribed: When it subscribed, in ms since 1970; ``rebalanced`` and ``polled`` likewise.
        heard: When it polled last, by the clock of the groups.
    """

    number: int
    options: ConsumerOptions
    topics: tuple[str, ...] = ()
    places: dict[Key, Place] = field(default_factory=dict)
    knows_ranges: bool = False
    is_lost: bool = False
    subscribed: int = 0
    rebalanced: int = 0
    polled: int | None = None
    heard: float = 0.0

    @property
    def expires(self) -> float:
        """When it is thrown out unless it polls."""
        return self.heard + self.options.poll_interval


class Group:
    """Consumers that share the vgroups of their topics.

    Attributes:
        committed: The version to go on from, by topic and vgroup.
        delivered: Rows that were delivered, likewise.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.members: list[Consumer] = []
        self.committed: dict[Key, int] = {}
        self.delivered: dict[Key, int] = {}

    def readers(self, topic: str) -> list[Consumer]:
        return [member for member in self.members if topic in member.topics]

    def forget(self, topic: str) -> None:
        """Forget all about a topic."""
        for known in (self.committed, self.delivered):
            for key in [key for key in known if key[0] == topic]:
                del known[key]

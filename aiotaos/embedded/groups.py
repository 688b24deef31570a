"""Groups of consumers: who reads which vgroup, how far it came, and what is committed."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from ..protocol.tmq_messages import NO_OFFSET
from .consumers import Consumer, Group, Place
from .delivery import Delivery, Reader
from .faults import Fault
from .store import Store
from .tmq_options import ConsumerOptions, Reset
from .topics import Topic

_FIRST_ID = 0x1000_0000_0000_0001


class Groups:
    """All groups; any thread may use them.

    Reading goes on outside of the lock. What it finds counts only if the place still belongs to
    the consumer, and was not moved meanwhile.

    Args:
        store: Where the topics and their logs are.
        clock: Seconds, to tell who has not polled for too long.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._reader = Reader(store)
        self._groups: dict[str, Group] = {}
        self._lock = threading.RLock()
        self._numbers = itertools.count(_FIRST_ID)

    def subscribe(
        self, options: ConsumerOptions, topics: Sequence[str], again: Consumer | None = None
    ) -> Consumer:
        """Let a consumer into its group.

        Args:
            again: A consumer that has left, or was thrown out, to be used again.

        Raises:
            Fault: There is no such topic.
        """
        names = tuple(sorted(set(topics)))
        with self._lock:
            for name in names:
                self._topic(name)
            consumer = again or Consumer(next(self._numbers), options)
            consumer.topics = names
            consumer.is_lost = False
            consumer.subscribed = _now()
            consumer.heard = self._clock()
            group = self._groups.setdefault(options.group, Group(options.group))
            for name in names:
                for vgroup in self._vgroups(self._topic(name)):
                    group.delivered.setdefault((name, vgroup), 0)
            group.members.append(consumer)
            self._rebalance(group, names)
            return consumer

    def leave(self, consumer: Consumer) -> None:
        """Let a consumer out; may be called again. Nothing is committed."""
        with self._lock:
            group = self._groups[consumer.options.group]
            topics, consumer.topics = consumer.topics, ()
            consumer.places.clear()
            if consumer in group.members:
                group.members.remove(consumer)
                self._rebalance(group, topics)

    def _topic(self, name: str) -> Topic:
        topic = self._store.topics.find(name)
        if topic is None:
            raise no_topic()
        return topic

    def _vgroups(self, topic: Topic) -> tuple[int, ...]:
        return self._store.catalog.databases[topic.database].vgroups

    def _rebalance(self, group: Group, names: Sequence[str]) -> None:
        """Spread the vgroups of topics evenly; a consumer keeps what it may keep.

        A vgroup that changes hands goes on from what is committed.
        """
        for name in names:
            topic = self._store.topics.find(name)
            if topic is not None:
                self._spread(group, topic)
        self._store.journal.wake()

    def _spread(self, group: Group, topic: Topic) -> None:
        readers = group.readers(topic.name)
        if not readers:
            return
        vgroups = self._vgroups(topic)
        share, extra = divmod(len(vgroups), len(readers))
        free = list(vgroups)
        wanting: list[tuple[Consumer, int]] = []
        # who has more keeps more
        for reader in sorted(readers, key=lambda r: -len(_held(r, topic.name))):
            quota = share + (extra > 0)
            extra -= 1
            held = _held(reader, topic.name)
            for vgroup in held[quota:]:
                del reader.places[topic.name, vgroup]
            free = [vgroup for vgroup in free if vgroup not in held[:quota]]
            wanting.append((reader, quota - len(held[:quota])))
            reader.rebalanced = _now()
        for reader, count in wanting:
            for vgroup in free[:count]:
                log = self._store.journal.log(topic.database, vgroup)
                place = Place(topic, log, position=group.committed.get((topic.name, vgroup)))
                place.began = place.position or 0
                reader.places[topic.name, vgroup] = place
            free = free[count:]

    def sweep(self) -> None:
        """Throw out who has not polled for too long."""
        with self._lock:
            now = self._clock()
            for group in self._groups.values():
                for member in list(group.members):
                    if member.expires <= now:
                        member.is_lost = True
                        self.leave(member)

    def hear(self, consumer: Consumer) -> float:
        """Note that a consumer waits for messages, which keeps it in its group.

        Returns:
            Seconds until another one may have to be thrown out.
        """
        with self._lock:
            consumer.heard = now = self._clock()
            self.sweep()
            others = self._groups[consumer.options.group].members
            rest = [member.expires - now for member in others if member is not consumer]
            return min(rest, default=consumer.options.poll_interval)

    def poll(self, consumer: Consumer) -> Delivery | None:
        """Take the next message; None if there is none at the moment.

        Raises:
            Fault: The consumer was thrown out, or the rows cannot be read.
        """
        with self._lock:
            if consumer.is_lost:
                raise Fault(0x03E6, "Consumer not exist")
            consumer.knows_ranges = True
            consumer.polled = _now()
            self._locate(consumer)
            places = list(consumer.places.items())
            for _, place in places:
                place.is_read = place.is_read or place.position is not None
        for key, place in places:
            begin = place.position
            if begin is None or begin >= place.log.end:
                continue
            found = self._reader.read(place.topic, key[1], place.log, begin, consumer.options)
            with self._lock:
                if consumer.places.get(key) is not place or place.position != begin:
                    continue
                place.position = found.end
                if not found.blocks and not found.metas:
                    continue
                place.began = begin
                consumer.places[key] = consumer.places.pop(key)
                group = self._groups[consumer.options.group]
                group.delivered[key] = group.delivered.get(key, 0) + found.rows
                return found
        return None

    def _locate(self, consumer: Consumer) -> None:
        """Find where to begin in the vgroups that were not read yet."""
        for place in consumer.places.values():
            if place.position is None:
                if consumer.options.reset is Reset.EARLIEST:
                    place.position = 0
                elif consumer.options.reset is Reset.LATEST:
                    place.position = place.began = place.log.end

    def commit(self, consumer: Consumer) -> None:
        """Commit everything that the consumer has read."""
        with self._lock:
            committed = self._groups[consumer.options.group].committed
            for key, place in consumer.places.items():
                if place.is_read and place.position is not None:
                    committed[key] = place.position

    def commit_offset(self, consumer: Consumer, topic: str, vgroup: int, offset: int) -> None:
        """Commit an offset of a vgroup.

        Raises:
            Fault: It is none of the consumer's, or out of range.
        """
        with self._lock:
            place = self._ranged(consumer, topic, vgroup)
            _check_range(place, offset)
            self._groups[consumer.options.group].committed[topic, vgroup] = offset

    def seek(self, consumer: Consumer, topic: str, vgroup: int, offset: int) -> None:
        """Go on from an offset.

        Raises:
            Fault: The vgroup is none of the consumer's, or the offset out of range.
        """
        with self._lock:
            place = self._ranged(consumer, topic, vgroup)
            _check_range(place, offset)
            place.position = place.began = offset
            place.is_read = True

    def assignment(self, consumer: Consumer, topic: str) -> list[tuple[int, int, int]]:
        """Number, begin of the last message, and end of the consumer's vgroups of a topic.

        Raises:
            Fault: The topic is none of the consumer's.
        """
        with self._lock:
            _check_topic(consumer, topic)
            consumer.knows_ranges = True
            self._locate(consumer)
            return [
                (vgroup, place.began, place.log.end)
                for (name, vgroup), place in consumer.places.items()
                if name == topic
            ]

    def position(self, consumer: Consumer, topic: str, vgroup: int) -> int:
        """The version that comes next.

        Raises:
            Fault: The vgroup is none of the consumer's.
        """
        with self._lock:
            return self._ranged(consumer, topic, vgroup).position or 0

    def committed(self, consumer: Consumer, topic: str, vgroup: int) -> int:
        """What is committed, or :data:`NO_OFFSET`.

        Raises:
            Fault: The vgroup is none of the consumer's.
        """
        with self._lock:
            _place(consumer, topic, vgroup)
            group = self._groups[consumer.options.group]
            return group.committed.get((topic, vgroup), NO_OFFSET)

    def _ranged(self, consumer: Consumer, topic: str, vgroup: int) -> Place:
        place = _place(consumer, topic, vgroup)
        if not consumer.knows_ranges:
            raise Fault(0x4010, "Assignment or poll interface need to be called first")
        return place

    def drop_topic(self, topic: Topic, *, force: bool) -> None:
        """Strike out a topic, and all that is known of it.

        Raises:
            Fault: It has consumers; with ``force`` they are thrown out instead.
        """
        with self._lock:
            self.sweep()
            readers = [(g, r) for g in self._groups.values() for r in g.readers(topic.name)]
            if readers and not force:
                raise Fault(0x03EB, "Topic subscribed cannot be dropped")
            for _, reader in readers:
                reader.is_lost = True
                self.leave(reader)
            self._store.topics.remove(topic)
            for group in self._groups.values():
                group.forget(topic.name)

    def drop_group(self, name: str, topic: str, *, exists: bool) -> None:
        """Forget what a group has committed of a topic.

        Args:
            exists: Do nothing if there is no such group.

        Raises:
            Fault: There is none, or it has consumers.
        """
        with self._lock:
            self.sweep()
            group = self._groups.get(name)
            if group is None or all(key[0] != topic for key in group.delivered):
                if exists:
                    return
                raise Fault(0x03E8, "Subcribe not exist")  # spelt like that
            if group.readers(topic):
                raise Fault(0x03EC, "Consumer group being used by some consumer")
            group.forget(topic)

    def consumers(self) -> list[Consumer]:
        """All that are in a group."""
        with self._lock:
            self.sweep()
            return [member for group in self._groups.values() for member in group.members]

    def subscriptions(self) -> Iterator[tuple[str, str, int, Consumer | None, str | None, int]]:
        """Topic, group, vgroup, its consumer, where that stands, and rows delivered."""
        with self._lock:
            self.sweep()
            for group in self._groups.values():
                for key, rows in group.delivered.items():
                    owner = next((m for m in group.members if key in m.places), None)
                    at = group.committed.get(key)
                    if owner is not None:
                        at = owner.places[key].position
                    shown = None if at is None else f"wal:{at}/{at}"
                    yield key[0], group.name, key[1], owner, shown, rows


def no_topic() -> Fault:
    return Fault(0x03E1, "Topic not exist")


def _held(consumer: Consumer, topic: str) -> list[int]:
    return [vgroup for name, vgroup in consumer.places if name == topic]


def _check_topic(consumer: Consumer, topic: str) -> None:
    if topic not in consumer.topics:
        raise Fault(0x4009, "Topic does not belong to this consumer")


def _place(consumer: Consumer, topic: str, vgroup: int) -> Place:
    _check_topic(consumer, topic)
    place = consumer.places.get((topic, vgroup))
    if place is None:
        raise Fault(0x4008, "VgId does not belong to this consumer")
    return place


def _check_range(place: Place, offset: int) -> None:
    if not 0 <= offset <= place.log.end:
        raise Fault(0x4007, "Offset out of range")


def _now() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000

"""Consumer: a subscription to topics (TMQ)."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import logging
import math
import warnings
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeAlias, Unpack

from .consumer_options import ConsumerArguments, ConsumerOptions
from .errors import Error, InterfaceError, TmqError
from .home import Home
from .message import Message
from .options import Road, seconds, whole_number
from .reader import Place, Reader
from .tasks import ended
from .transport.base import Deadline
from .transport.servers import Servers

if TYPE_CHECKING:
    from .embedded.shared import Hold
    from .transport.dial import AnySubscription

Offsets: TypeAlias = Mapping[Place, int]
OnChange: TypeAlias = Callable[[frozenset[Place]], Awaitable[None] | None]

_READ_AHEAD = 16 * 1024 * 1024
_COMMIT_TIMEOUT = 10.0
_CLOSE_TIMEOUT = 5.0
_LEAST_INTERVAL = 0.05  # seconds between automatic commits
_NOT_KNOWN_YET = frozenset({0x4008, 0x4010})  # to the server, until it is asked for the assignment
_logger = logging.getLogger("aiotaos.consumer")


class Consumer:
    """A member of a group that reads topics: ``async for message in consumer``.

    Delivery is at least once: what is not committed comes again after a restart, a loss of the
    connection, or when another member takes over. One task reads at a time; it belongs to the
    event loop that made it.

    Args:
        source: A DSN, or the official clients' dictionary (``{"group.id": "g1", …}``); properties
            of libtaos that are not known here are passed on.
        on_assigned: Function or coroutine function, called with the ``(topic, vgroup)`` that this
            member reads from now on. It may seek.
        on_revoked: The same with those that it reads no more.
        read_ahead: Bytes of messages that are fetched before they are asked for.
        options: ``group_id``, which is needed, ``client_id``, ``auto_offset_reset``,
            ``enable_auto_commit`` (true), ``auto_commit_interval_ms`` (5000),
            ``session_timeout_ms``, ``max_poll_interval_ms``, ``fetch_max_wait_ms``,
            ``min_poll_rows`` and others, and the options of :func:`aiotaos.connect`.

    Raises:
        InterfaceError: An option is unknown, malformed or missing (at once).
    """

    def __init__(
        self,
        source: str | Mapping[str, object] | None = None,
        /,
        *,
        on_assigned: OnChange | None = None,
        on_revoked: OnChange | None = None,
        read_ahead: int = _READ_AHEAD,
        **options: Unpack[ConsumerArguments],
    ) -> None:
        self._told = ConsumerOptions.make(source, options)
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._read_ahead = whole_number("read_ahead", read_ahead, 1)
        self._servers = Servers(self._told.options.addresses)
        self._home: Home | None = None
        self._hold: Hold | None = None
        self._reader: Reader | None = None
        self._done: dict[Place, Message] = {}  # what the application has finished with
        self._committed: dict[Place, int] = {}
        self._committer: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()
        self._is_reading = False
        self._closed = False

    def __repr__(self) -> str:
        return f"<Consumer of group {self._told.group_id!r} {self.state}>"

    # What it is.

    @property
    def group_id(self) -> str:
        """The group."""
        return self._told.group_id

    @property
    def state(self) -> str:
        """``idle``, ``subscribed``, ``reconnecting``, ``failed`` or ``closed``."""
        if self._closed:
            return "closed"
        if self._reader is None:
            return "idle"
        if self._reader.failure is not None:
            return "failed"
        return "subscribed" if self._reader.is_connected else "reconnecting"

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    @property
    def last_poll(self) -> datetime | None:
        """When the server was last polled, for health checks; None before."""
        if self._reader is None or self._reader.last_poll is None:
            return None
        ago = asyncio.get_running_loop().time() - self._reader.last_poll
        return datetime.fromtimestamp(datetime.now(UTC).timestamp() - ago, UTC)

    def subscription(self) -> list[str]:
        """The topics that it is subscribed to."""
        return list(self._reader.topics) if self._reader is not None else []

    async def list_topics(self, *, timeout: float | None = None) -> list[str]:
        """The topics that it is subscribed to, as the server knows them.

        Args:
            timeout: Seconds; ``read_timeout`` if not given.
        """
        deadline = self._deadline(timeout)
        return await (await self._live(deadline)).topics(deadline)

    # Subscribing.

    async def subscribe(self, topics: str | Iterable[str], *, timeout: float | None = None) -> None:
        """Subscribe to topics, in place of those before, and begin to read ahead.

        Args:
            topics: Names of topics.
            timeout: Seconds; ``read_timeout`` if not given. The server can take some to find out
                which members of the group read what.

        Raises:
            TmqError: A topic does not exist, or the server refuses an option.
            AuthenticationError: The server refuses the credentials.
            ConnectionError: No server could be reached.
        """
        self._check()
        self._check_outside()
        names = [topics] if isinstance(topics, str) else list(topics)
        if not names or not all(isinstance(name, str) and name for name in names):
            raise InterfaceError(f"topics: expected names of topics, got {topics!r}")
        deadline = self._deadline(timeout)
        if self._home is None:
            self._home = Home()
        async with self._changing:
            await self._leave(None, min(_CLOSE_TIMEOUT, deadline.remaining))
            await self._subscribe(names, deadline)

    async def _subscribe(self, names: list[str], deadline: Deadline) -> None:
        told = await self._reachable()
        tell = partial(_tell, self._on_assigned, self._on_revoked)
        reader = Reader(told, self._servers, names, self._read_ahead, tell)
        try:
            await reader.start(deadline)
            if self._closed:  # meanwhile
                reader.terminate()
                self._check()
        finally:
            if self._closed and self._hold is not None:
                await self._hold.release()
        self._reader = reader
        if self._told.auto_commit:
            self._committer = asyncio.create_task(
                _commit_now_and_then(weakref.ref(self), self._told.commit_interval),
                name=f"aiotaos: commits of {self.group_id}",
            )

    async def _reachable(self) -> ConsumerOptions:
        """How the server is reached; an embedded one is held from now on."""
        if self._told.options.road is not Road.EMBEDDED:
            return self._told
        from .embedded.shared import hold_embedded

        options, hold = await hold_embedded(self._told.options)
        if self._hold is not None:
            await hold.release()
        else:
            self._hold = hold
            self._servers = Servers(options.addresses)
        return dataclasses.replace(self._told, options=options)

    async def unsubscribe(self, *, commit: bool | None = None) -> None:
        """Give the topics up; iteration ends. What was read ahead is thrown away.

        Args:
            commit: As :meth:`close`.
        """
        self._check()
        self._check_outside()
        async with self._changing:
            await self._leave(commit, _CLOSE_TIMEOUT)

    async def _leave(self, commit: bool | None, timeout: float) -> None:
        reader, self._reader = self._reader, None
        committer, self._committer = self._committer, None
        try:
            if committer is not None:
                committer.cancel()
                await ended([committer])
            if reader is not None:
                await self._commit_last(reader, commit, Deadline(timeout))
        except BaseException:
            if reader is not None:
                reader.terminate()
            raise
        finally:
            self._done.clear()
            self._committed.clear()
        if reader is not None:
            await reader.stop(timeout)

    async def _commit_last(self, reader: Reader, commit: bool | None, deadline: Deadline) -> None:
        """Commit before the end; only who asked for it is told that it could not be."""
        if commit:
            if reader.held is not None:
                await reader.commit_held(reader.held, deadline)
            await self._commit_changed(reader, reader.offsets(), deadline)
        elif commit is None and self._told.auto_commit and reader.is_connected:
            try:
                await self._commit_changed(reader, self._offsets_done(reader), deadline)
            except Error as error:
                _logger.warning("%r: not committed at the end: %s", self, error)

    async def wait_assigned(self, timeout: float | None = None) -> frozenset[Place]:
        """Wait until the server has assigned vgroups to this member; gives them.

        Args:
            timeout: Seconds; ``read_timeout`` if not given.

        Raises:
            TimeoutError: There was none in time; so it is when a group has more members than the
                topic has vgroups.
        """
        return await self._subscribed().wait_assigned(self._deadline(timeout))

    async def assignment(self) -> frozenset[Place]:
        """The ``(topic, vgroup)`` that this member reads, as far as known."""
        return self._subscribed().assigned

    # Reading.

    async def __aiter__(self) -> AsyncIterator[Message]:
        reader = self._subscribed()
        while self._reader is reader:
            message = await self._next(Deadline(math.inf))
            if message is None:
                return
            yield message

    async def poll(self, timeout: float | None = None) -> Message | None:
        """The next message; None if there is none in time.

        Args:
            timeout: Seconds; ``read_timeout`` if not given, 0 for what is there.

        Raises:
            TmqError: Reading has failed.
            ConnectionError: The connection was lost, and no other could be had.
        """
        self._subscribed()
        if timeout == 0:
            return await self._next(None)
        return await self._next(self._deadline(timeout))

    async def getmany(
        self, timeout: float | None = None, max_rows: int | None = None
    ) -> list[Message]:
        """The messages that are there; waits for the first one.

        Args:
            timeout: Seconds that it waits; ``read_timeout`` if not given, 0 for what is there.
            max_rows: No more messages are taken than have so many rows together, but one is.
        """
        if max_rows is not None:
            whole_number("max_rows", max_rows, 1)
        messages: list[Message] = []
        rows = 0
        message = await self.poll(timeout)
        while message is not None:
            messages.append(message)
            rows += len(message)
            following = self._subscribed().waiting
            if following is None or (max_rows is not None and rows + len(following) > max_rows):
                break
            message = await self._next(None)
        return messages

    async def _next(self, deadline: Deadline | None) -> Message | None:
        """The next message, within the deadline; without one only what is there."""
        reader = self._subscribed()
        if reader.is_current:
            raise InterfaceError("inside of on_assigned and on_revoked nothing can be read")
        if self._is_reading:
            raise InterfaceError("another task is reading this consumer")
        self._is_reading = True
        try:
            if reader.last is not None:
                self._finish(reader.last)
            if deadline is None:
                return reader.take_now()
            return await reader.take(deadline)
        finally:
            self._is_reading = False

    def _finish(self, message: Message) -> None:
        """The application has asked for more: it is done with this one."""
        if message.next_offset is not None and self._reader is not None:
            self._forget_revoked(self._reader)
            self._done[message.place] = message

    def _forget_revoked(self, reader: Reader) -> None:
        """What another member has read meanwhile is no more this one's to commit."""
        for place in reader.take_revoked():
            self._done.pop(place, None)

    def _offsets_done(self, reader: Reader) -> dict[Place, int]:
        """What is to be committed of what the application has finished with."""
        self._forget_revoked(reader)
        return {place: reader.offset_behind(message) for place, message in self._done.items()}

    def pause(self) -> None:
        """Give out nothing more; the consumer stays a member of its group."""
        self._subscribed().pause(True)

    def resume(self) -> None:
        """Go on after :meth:`pause`."""
        self._subscribed().pause(False)

    # Positions.

    async def commit(
        self, what: Message | Offsets | None = None, *, timeout: float | None = None
    ) -> None:
        """Say how far the application has come; the group goes on there after a restart.

        Args:
            what: A message, to be committed with all before it in its vgroup; or offsets by
                ``(topic, vgroup)``; if not given, all that was given out.
            timeout: Seconds, 10 if not given.

        Raises:
            TmqError: The server refuses it, for example because another member has the vgroup now.
            TimeoutError: There was no answer in time.
        """
        reader = self._subscribed()
        deadline = Deadline(_COMMIT_TIMEOUT if timeout is None else seconds("timeout", timeout))
        if isinstance(what, Message):
            if what.next_offset is None:
                await reader.commit_held(what, deadline)
                return
            offsets: Offsets = {what.place: reader.offset_behind(what)}
        elif what is None:
            held = reader.held
            if held is not None:
                await reader.commit_held(held, deadline)
            offsets = reader.offsets()
        elif isinstance(what, Mapping):
            offsets = {
                _place(place): whole_number("offset", offset) for place, offset in what.items()
            }
        else:
            raise InterfaceError(f"commit: expected a message or offsets, got {what!r}")
        await self._commit_changed(reader, offsets, deadline, always=what is not None)

    async def commit_offset(
        self, topic: str, vgroup_id: int, offset: int, *, timeout: float | None = None
    ) -> None:
        """Commit an offset of a vgroup: that of the next message to be read.

        Args:
            topic: Name of the topic.
            vgroup_id: The vgroup.
            offset: As :attr:`Message.next_offset`.
            timeout: Seconds, 10 if not given.
        """
        await self.commit({(topic, vgroup_id): offset}, timeout=timeout)

    async def _commit_changed(
        self, reader: Reader, offsets: Offsets, deadline: Deadline, *, always: bool = False
    ) -> None:
        """Commit what differs from what is committed."""
        wanted = {
            place: offset
            for place, offset in offsets.items()
            if always or self._committed.get(place) != offset
        }
        if wanted:
            transport = await reader.live(deadline)
            for place, offset in wanted.items():
                try:
                    await transport.commit_offset(*place, offset, deadline)
                except TmqError as error:
                    if error.code not in _NOT_KNOWN_YET:
                        raise
                    await transport.assignment(place[0], deadline)
                    await transport.commit_offset(*place, offset, deadline)
                self._committed[place] = offset

    async def _commit_done(self) -> None:
        """Commit what the application has finished with."""
        reader = self._reader
        if reader is None:
            return
        for place, offset in self._offsets_done(reader).items():
            try:
                await self._commit_changed(reader, {place: offset}, Deadline(_COMMIT_TIMEOUT))
            except Error as error:
                _logger.warning("%r: not committed: %s", self, error)
                if isinstance(error, TmqError) and place not in reader.assigned:
                    self._done.pop(place, None)  # it is another member's

    async def committed(
        self, places: Iterable[Place] | None = None, *, timeout: float | None = None
    ) -> dict[Place, int | None]:
        """The committed offsets of the group; None where there is none.

        Args:
            places: ``(topic, vgroup)``; those that are assigned if not given.
            timeout: Seconds; ``read_timeout`` if not given.
        """
        deadline = self._deadline(timeout)
        wanted = self._places(places)
        if not wanted:
            return {}
        offsets = await (await self._ranged(wanted, deadline)).committed(wanted, deadline)
        return dict(zip(wanted, offsets, strict=True))

    async def position(
        self, places: Iterable[Place] | None = None, *, timeout: float | None = None
    ) -> dict[Place, int]:
        """The offsets of what is given out next; what was read ahead does not count.

        Args:
            places: ``(topic, vgroup)``; those that are assigned if not given.
            timeout: Seconds; ``read_timeout`` if not given.
        """
        return await self._positions(self._places(places), self._deadline(timeout))

    async def _positions(self, wanted: Sequence[Place], deadline: Deadline) -> dict[Place, int]:
        reader = self._subscribed()
        unknown = [place for place in wanted if place not in reader.starts()]
        found: dict[Place, int] = {}
        if unknown:
            transport = await self._ranged(unknown, deadline)
            offsets = await transport.position(unknown, deadline)
            found = dict(zip(unknown, offsets, strict=True))
        known = reader.starts()
        return {place: known.get(place, found.get(place, 0)) for place in wanted}

    async def seek(
        self, topic: str, vgroup_id: int, offset: int, *, timeout: float | None = None
    ) -> None:
        """Go on at an offset of a vgroup; nothing is committed by it.

        Args:
            topic: Name of the topic.
            vgroup_id: The vgroup.
            offset: Where to go on.
            timeout: Seconds; ``read_timeout`` if not given.

        Raises:
            TmqError: The offset is out of the range that the server has (0x4007), or the vgroup is
                not assigned to this member.
        """
        place = _place((topic, vgroup_id))
        whole_number("offset", offset)
        await self._subscribed().seek(place, offset, self._deadline(timeout))
        self._done.pop(place, None)

    async def seek_to_beginning(
        self, places: Iterable[Place] | None = None, *, timeout: float | None = None
    ) -> None:
        """Go back to the first offset that the server has, of some vgroups or of all assigned."""
        await self._seek_all(places, self._deadline(timeout), to_end=False)

    async def seek_to_end(
        self, places: Iterable[Place] | None = None, *, timeout: float | None = None
    ) -> None:
        """Go on with what is written from now on, in some vgroups or in all assigned."""
        await self._seek_all(places, self._deadline(timeout), to_end=True)

    async def _seek_all(
        self, places: Iterable[Place] | None, deadline: Deadline, *, to_end: bool
    ) -> None:
        wanted = self._places(places)
        for place, range_ in (await self._ranges(wanted, deadline)).items():
            await self._subscribed().seek(place, range_[to_end], deadline)
            self._done.pop(place, None)

    async def lag(
        self, places: Iterable[Place] | None = None, *, timeout: float | None = None
    ) -> dict[Place, int]:
        """How many offsets of the log are still to be given out; not each of them is a message.

        Args:
            places: ``(topic, vgroup)``; those that are assigned if not given.
            timeout: Seconds; ``read_timeout`` if not given.
        """
        deadline = self._deadline(timeout)
        wanted = self._places(places)
        ranges = await self._ranges(wanted, deadline)
        positions = await self._positions(wanted, deadline)
        return {place: max(end - positions[place], 0) for place, (_, end) in ranges.items()}

    async def _ranges(
        self, places: Sequence[Place], deadline: Deadline
    ) -> dict[Place, tuple[int, int]]:
        """The first and the last offset that the server has of vgroups."""
        transport = await self._live(deadline)
        found: dict[Place, tuple[int, int]] = {}
        for topic in {topic for topic, _ in places}:
            for one in await transport.assignment(topic, deadline):
                found[topic, one.vgroup_id] = (one.begin, one.end)
        missing = [place for place in places if place not in found]
        if missing:
            raise TmqError(f"not assigned to this consumer: {missing}", code=0x4008)
        return {place: found[place] for place in places}

    async def _ranged(self, places: Sequence[Place], deadline: Deadline) -> AnySubscription:
        """The session, when the server knows the range of these vgroups, which it asks for."""
        transport = await self._live(deadline)
        for topic in {topic for topic, _ in places}:
            await transport.assignment(topic, deadline)
        return transport

    def _places(self, places: Iterable[Place] | None) -> list[Place]:
        if places is None:
            return sorted(self._subscribed().assigned)
        return [_place(place) for place in places]

    # The end.

    async def close(self, *, commit: bool | None = None, timeout: float | None = None) -> None:
        """Leave the group. May be called again.

        Args:
            commit: True: commit all that was given out; False: nothing; if not given, with
                auto-commit what the application has finished with.
            timeout: Seconds for each step of saying goodbye, 5 if not given.

        Raises:
            Error: It was to commit, and could not; the consumer is closed all the same.
        """
        if self._closed:
            return
        limit = _CLOSE_TIMEOUT if timeout is None else seconds("timeout", timeout)
        if self._home is not None:
            self._home.check(repr(self))
        self._check_outside()
        self._closed = True
        try:
            await self._leave(commit, limit)
        finally:
            if self._hold is not None:
                await self._hold.release()

    async def __aenter__(self) -> Self:
        self._check()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        if getattr(self, "_closed", True) or self._home is None or self._home.is_gone:
            return
        reader, committer = self._reader, self._committer
        if self._hold is not None:
            self._home.loop.call_soon_threadsafe(self._hold.release_soon)
        if reader is None:
            return
        warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
        self._home.loop.call_soon_threadsafe(reader.terminate)
        if committer is not None:
            self._home.loop.call_soon_threadsafe(committer.cancel)

    # Inside.

    def _check(self) -> None:
        if self._closed:
            raise InterfaceError("the consumer is closed")
        if self._home is not None:
            self._home.check("the consumer")

    def _check_outside(self) -> None:
        if self._reader is not None and self._reader.is_current:
            raise InterfaceError(
                "inside of on_assigned and on_revoked a consumer can seek, but not change its "
                "subscription or be closed"
            )

    def _subscribed(self) -> Reader:
        self._check()
        if self._reader is None:
            raise InterfaceError(
                "the consumer is not subscribed to a topic; call subscribe() first"
            )
        return self._reader

    async def _live(self, deadline: Deadline) -> AnySubscription:
        return await self._subscribed().live(deadline)

    def _deadline(self, timeout: float | None) -> Deadline:
        if timeout is None:
            return Deadline(self._told.options.read_timeout)
        return Deadline(seconds("timeout", timeout))


async def _tell(
    on_assigned: OnChange | None,
    on_revoked: OnChange | None,
    assigned: frozenset[Place],
    revoked: frozenset[Place],
) -> None:
    """Tell the application which vgroups it reads from now on, and which no more."""
    for call, places in ((on_revoked, revoked), (on_assigned, assigned)):
        if call is not None and places:
            answer = call(places)
            if inspect.isawaitable(answer):
                await answer


async def _commit_now_and_then(reference: weakref.ref[Consumer], interval: float) -> None:
    """Commit what the application has finished with, for as long as there is a consumer."""
    while True:
        await asyncio.sleep(max(interval, _LEAST_INTERVAL))
        consumer = reference()
        if consumer is None:
            return
        await consumer._commit_done()
        del consumer


def _place(place: object) -> Place:
    match place:
        case (str(topic), int(vgroup_id)):
            return topic, vgroup_id
    raise InterfaceError(f"expected (topic, vgroup_id), got {place!r}")

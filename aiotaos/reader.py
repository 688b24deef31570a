"""Reading ahead: the task that polls for a consumer, and what it has got and not given out."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import dataclasses
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from .consumer_options import ConsumerOptions
from .errors import ConnectionLost, Error, InterfaceError, TimeoutError, TmqError, copied
from .message import Message, MessageKind
from .progress import Progress
from .protocol.block import Block
from .protocol.rows import RowDecoder
from .protocol.tmq import MessageParser, TableBlock
from .protocol.tmq_messages import MessageType, PollReply
from .tasks import ended
from .transport.base import Deadline
from .transport.dial import open_session, open_subscription
from .transport.retry import PASSING, Backoff
from .transport.servers import Servers
from .transport.subscription import NO_LOGIN
from .types import Field

if TYPE_CHECKING:
    from .transport.dial import AnySubscription

Place: TypeAlias = tuple[str, int]
"""Topic and vgroup."""

_POLL_MS = 100  # how long the server waits for a message; other requests wait behind it
_WATCH_SECONDS = 3.0  # between two looks at which vgroups are assigned
_INSISTENCE = 3  # messages from before a seek that are thrown away
_LONG_LOG = 1000  # offsets
_SEARCH_TIME = 1.0  # seconds; the default of fetch.max.wait.ms
_KNOWN_DECODERS = 256
_GONE = frozenset({0x03E6, 0x4002})  # the server has dropped this member
_NOT_READY = frozenset({0x03EA, 0x4008, 0x4010})
_OUT_OF_RANGE = 0x4007
_KINDS = {
    MessageType.DATA: MessageKind.DATA,
    MessageType.META: MessageKind.META,
    MessageType.METADATA: MessageKind.METADATA,
}
_logger = logging.getLogger("aiotaos.consumer")


class Reader:
    """Polls ahead of the application, within a number of bytes.

    It owns the session and opens another when it is lost. What it polled and the application has
    not taken is thrown away then, and read again.

    Args:
        told: How the consumer reads.
        servers: Where it may read.
        topics: What it reads.
        limit: Bytes of messages that may wait.
        on_change: Called with the vgroups that were assigned and those that were revoked.

    Attributes:
        progress: How far the application is, by topic and vgroup.
        assigned: The vgroups that this consumer reads, as far as known.
        last_poll: When the server was last polled, as a time of the event loop; None before.
        last: The message that was given out last.
        is_paused: Whether nothing is polled and given out.
    """

    def __init__(
        self,
        told: ConsumerOptions,
        servers: Servers,
        topics: list[str],
        limit: int,
        on_change: Callable[[frozenset[Place], frozenset[Place]], Awaitable[None]],
    ) -> None:
        self._told = told
        self._options = told.options
        self._servers = servers
        self.topics = topics
        self._tz = told.options.tz
        self._limit = limit
        self._on_change = on_change
        self._parser = MessageParser()
        self._decoders: dict[int, tuple[tuple[Field, ...], RowDecoder]] = {}
        self._transport: AnySubscription | None = None
        self._waiting: deque[Message] = deque()
        self._bytes = 0
        self._last_id = 0
        self._turn = asyncio.Lock()  # held for a poll and its fetch, and for what must not meet one
        self._changed = asyncio.Event()  # something came, was taken, or ended
        self._task: asyncio.Task[None] | None = None
        self._failure: Exception | None = None
        self._resume: set[Place] = set()  # where the server must be told to go on
        self._sought_places: set[Place] = set()  # by the application
        self._revoked: set[Place] = set()  # since somebody asked
        self._expected: dict[Place, tuple[int, int]] = {}  # offsets sought, and how often to insist
        self._next_watch = 0.0
        self._began = asyncio.get_running_loop().time()
        self._newest: dict[Place, Message] = {}  # the last one that was given out
        self._came: dict[Place, float] = {}  # when the last message of a vgroup did
        self._held: Message | None = None  # of a snapshot: nothing is polled until it is done with
        self._finished: int | None = None  # its id, when the application is done with it
        self.progress: dict[Place, Progress] = {}
        self.assigned: frozenset[Place] = frozenset()
        self.last_poll: float | None = None
        self.last: Message | None = None
        self.is_paused = False

    # The session.

    async def start(self, deadline: Deadline) -> None:
        """Subscribe, and begin to poll.

        Raises:
            TmqError: The server refuses a topic or an option.
            ConnectionError: No server could be reached.
        """
        try:
            async with asyncio.timeout_at(deadline.when) as limit:
                await self._start(deadline)
        except builtins.TimeoutError:
            if not limit.expired():
                raise
            raise TimeoutError(f"not subscribed within {deadline.seconds:g} s") from None
        self._task = asyncio.create_task(self._run(), name=f"aiotaos: consumer of {self.topics}")

    async def _start(self, deadline: Deadline) -> None:
        backoff = Backoff(self._options)
        for is_last in [False] * self._options.conn_retries + [True]:
            try:
                self._transport = await self._opened(deadline)
            except ConnectionLost:  # while it subscribed
                if is_last:
                    raise
                await asyncio.sleep(backoff.next())
            else:
                return

    async def _opened(self, deadline: Deadline) -> AnySubscription:
        transport = await open_subscription(self._options, self._servers)
        try:
            await transport.subscribe(self._told.subscribe_arguments(self.topics), deadline)
        except BaseException as error:
            transport.terminate()
            if isinstance(error, TmqError) and NO_LOGIN in error.message:
                await self._try_login()
            raise
        self._servers.learn(transport.instances, tls=self._options.tls)
        transport.on_end = self._changed.set
        self._last_id = 0
        return transport

    async def _try_login(self) -> None:
        """Find out why a consumer could not log in, which libtaos does not tell.

        Raises:
            AuthenticationError: The server refuses the credentials.
        """
        plain = dataclasses.replace(self._options, database=None, conn_retries=0)
        (await open_session(plain, self._servers)).terminate()

    @property
    def endpoint(self) -> str:
        """``scheme://host:port`` of the server."""
        return self._transport.endpoint if self._transport is not None else ""

    @property
    def is_connected(self) -> bool:
        """Whether there is a session."""
        return self._transport is not None and not self._transport.closed

    @property
    def failure(self) -> Exception | None:
        """Why nothing more comes; None while it does."""
        return self._failure

    async def live(self, deadline: Deadline) -> AnySubscription:
        """The session, waiting for another if it was lost.

        Raises:
            TimeoutError: There was none in time.
            Error: Reading has failed for good.
        """
        while not self.is_connected:
            self._check()
            await self._change(deadline)
        assert self._transport is not None
        return self._transport

    def _check(self) -> None:
        """Check that it reads still, or tries to."""
        if self._failure is not None:
            raise copied(self._failure)
        if self._task is None:
            raise InterfaceError("the consumer has given its topics up")

    async def _change(self, deadline: Deadline) -> None:
        """Wait until something has come, was taken or ended."""
        self._changed.clear()
        try:
            async with asyncio.timeout_at(deadline.when):
                await self._changed.wait()
        except builtins.TimeoutError:
            raise TimeoutError(
                f"nothing within {deadline.seconds:g} s{self._servers.reason()}",
                endpoint=self.endpoint,
            ) from None

    async def _run(self) -> None:
        try:
            backoff, failures = Backoff(self._options), 0
            while True:
                try:
                    if not self.is_connected:
                        await self._reopen()
                    await self._round()
                    backoff, failures = Backoff(self._options), 0
                except Error as error:
                    if self._failure is not None:
                        raise
                    failures += 1
                    if failures > self._options.conn_retries + 1 or not self._may_go_on(error):
                        raise
                    _logger.info("consumer of %s: %s", self.topics, error)
                    if self.is_connected or failures > 1:
                        await asyncio.sleep(backoff.next())
        except Exception as error:  # also what on_assigned raises: the iterator tells it
            self._failure = error
            self._drop(error)
        except asyncio.CancelledError:
            if self._task is not None:  # not by stop(): by what on_assigned awaited
                self._failure = InterfaceError("reading was cancelled")
                self._drop(self._failure)
            raise
        finally:
            self._changed.set()

    def _may_go_on(self, error: Error) -> bool:
        """Whether reading can go on after an error, on another session if this one is lost."""
        if isinstance(error, ConnectionLost):
            return True
        if isinstance(error, TimeoutError) or error.code in _GONE:  # an answer that is lost
            self._drop(error)
            return True
        return error.code in _NOT_READY or error.code in PASSING

    def _drop(self, reason: Exception) -> None:
        if self._transport is not None:
            self._transport.drop(reason)

    async def _reopen(self) -> None:
        """Subscribe again; go on where the application is, or where somebody else has committed."""
        async with self._turn:
            for message in self._waiting:  # which nobody has got
                if message.offset is not None and message.kind is not MessageKind.META:
                    self.progress.setdefault(message.place, Progress(message.offset))
            self._forget(None)
            self._resume |= set(self.progress)
            self._held = self._finished = None
            self._expected.clear()
            self._came.clear()  # what did not come while there was no session proves nothing
            self._transport = await self._opened(self._deadline())
            self._next_watch = 0.0
            self._changed.set()
            _logger.info("consumer of %s: reads again from %s", self.topics, self.endpoint)
        await self._assign(frozenset())

    # Reading.

    async def _round(self) -> None:
        """Poll once, if there is room; otherwise stay a member of the group."""
        assert self._transport is not None
        transport = self._transport
        if transport.closed:
            raise ConnectionLost("the connection was lost", endpoint=self.endpoint)
        await self._watch(transport)
        is_full = self.is_paused or self._held is not None or self._bytes >= self._limit
        if is_full and not await self._needs_poll():
            return
        async with self._turn:
            for place in self._resume & self.assigned:
                await self._sought(transport, place)
            if self._finished is not None and self._told.auto_commit:
                await transport.commit_all(self._finished, self._deadline())
            self._finished = None
            milliseconds = 1 if is_full else _POLL_MS
            reply = await transport.poll(milliseconds, self._last_id)
            self.last_poll = asyncio.get_running_loop().time()
            if not reply.have_message:
                self._settle()
                return
            self._last_id = reply.message_id
            place = (reply.topic, reply.vgroup_id)
            if self._resume and await self._sought(transport, place):
                return
            is_data = reply.message_type == MessageType.DATA and reply.offset >= 0
            if is_data and not await self._is_expected(transport, place, reply.offset):
                return
            if is_full and is_data and not self._is_cut_at(place):
                await transport.seek(*place, reply.offset, self._deadline())
                return  # it comes again when there is room
            message = await self._message(transport, reply)
            self._came[place] = asyncio.get_running_loop().time()
            if message is None:
                return
            self._waiting.append(message)
            self._bytes += message.size
            if message.end is None:
                self._held = message
        self._changed.set()
        if place not in self.assigned:  # in a snapshot the server does not tell them
            await self._assign(self.assigned | {place})

    async def _is_expected(self, transport: AnySubscription, place: Place, offset: int) -> bool:
        """Whether a message follows a seek; libtaos may have got one from before it already."""
        wanted, tries = self._expected.pop(place, (offset, 0))
        if offset == wanted or not tries:
            return True
        await transport.seek(*place, wanted, self._deadline())
        self._expected[place] = (wanted, tries - 1)
        return False

    def _is_cut_at(self, place: Place) -> bool:
        """Whether the rest of an INSERT is still to come, which a seek would lose."""
        of_place = [message for message in self._waiting if message.place == place]
        if of_place:
            return of_place[-1].is_cut
        progress = self.progress.get(place)
        return progress is not None and progress.end != progress.safe

    async def _needs_poll(self) -> bool:
        """Wait until there is room, or it is time for a sign of life; whether it is the latter."""
        waited = self._told.poll_interval / 3
        now = asyncio.get_running_loop().time()
        due = (self.last_poll or self._began) + waited
        if now >= due:
            return self._held is None
        with contextlib.suppress(TimeoutError):
            await self._change(Deadline(max(min(due, self._next_watch) - now, 0.0)))
        return False

    async def _message(self, transport: AnySubscription, reply: PollReply) -> Message | None:
        """What a poll has brought; None if all of it was given out before."""
        try:
            kind = _KINDS[MessageType(reply.message_type)]
        except (KeyError, ValueError):
            raise TmqError(
                f"a message of type {reply.message_type} of topic {reply.topic!r}, which is for "
                "replication alone",
                endpoint=self.endpoint,
            ) from None
        blocks: list[TableBlock] = []
        came = blocks
        metas: list[dict[str, object]] = []
        size = 0
        is_cut = False
        end: int | None = reply.offset
        offset = reply.offset if reply.offset >= 0 else None
        if kind is not MessageKind.DATA:
            metas = await transport.fetch_meta(reply.message_id, self._deadline())
            size = len(msgspec.json.encode(metas))
        if kind is not MessageKind.META:
            raw = await transport.fetch(reply.message_id, self._deadline())
            blocks, end = self._parser.parse(raw.data, raw.raw_type)
            came, size = blocks, size + len(raw.data)
            is_cut = self._may_be_cut(reply, blocks, end)
            progress = self.progress.get((reply.topic, reply.vgroup_id))
            if progress is not None:
                blocks = progress.fresh(came)
                if came and not blocks and end is not None:
                    progress.repeat(end)
                    return None
            for block in blocks:
                block.decoded_by(self._decoder_of(block))
        return Message(
            reply.message_id,
            reply.topic,
            reply.database,
            reply.vgroup_id,
            offset,
            end if end is None or end >= 0 else None,
            kind,
            blocks,
            metas,
            size,
            is_cut,
            came,
        )

    def _may_be_cut(self, reply: PollReply, blocks: Sequence[TableBlock], end: int | None) -> bool:
        """Whether a message may end in the middle of what one INSERT wrote.

        The server cuts those of queries, when they have enough rows, or when it has searched for
        longer than ``fetch.max.wait.ms``; to search that long takes a long log, or a short wait.
        """
        if end is None or not blocks or blocks[0].table is not None:
            return False
        if sum(map(len, blocks)) >= self._told.rows_of_cut:
            return True
        now = asyncio.get_running_loop().time()
        place = (reply.topic, reply.vgroup_id)
        has_searched = now - self._came.get(place, self._began) >= self._told.search_time
        is_long = end - reply.offset >= _LONG_LOG or self._told.search_time < _SEARCH_TIME
        return has_searched and is_long

    def _settle(self) -> None:
        """Nothing has come: what had a rest to come would have got it by now."""
        now = asyncio.get_running_loop().time()
        for place in self.assigned & self.progress.keys() - self._resume:
            progress = self.progress[place]
            quiet = now - self._came.get(place, now)
            if progress.end != progress.safe and quiet > 2 * max(self._told.search_time, 1.0):
                progress.settle()

    def _decoder_of(self, block: Block) -> RowDecoder:
        """What decodes a block; consecutive ones have the same columns."""
        known = self._decoders.get(id(block.fields))
        if known is None:
            if len(self._decoders) >= _KNOWN_DECODERS:
                self._decoders.clear()
            decoder = RowDecoder(block.fields, block.precision, self._tz, self._options.timestamp)
            known = self._decoders[id(block.fields)] = (block.fields, decoder)
        return known[1]

    async def _sought(self, transport: AnySubscription, place: Place) -> bool:
        """After a loss: whether a vgroup was set to where the application is, so that the message
        that has come comes again, or is not wanted.

        Somebody else may have read on meanwhile, and committed.
        """
        if place not in self._resume:
            return False
        progress = self.progress[place]
        wanted = progress.safe
        if place not in self._sought_places:  # who seeks back wants what was committed again
            [committed] = await transport.committed([place], self._deadline())
            wanted = max(wanted, committed or 0)
        try:
            await transport.seek(*place, wanted, self._deadline())
        except TmqError as error:
            if error.code != _OUT_OF_RANGE:
                raise
            _logger.warning("consumer of %s: %s", self.topics, error)  # it is gone for good
            self._resume.discard(place)
            del self.progress[place]
            return False
        self._resume.discard(place)
        progress.restart(wanted)
        return True

    def _deadline(self) -> Deadline:
        return Deadline(self._options.read_timeout)

    async def _watch(self, transport: AnySubscription) -> None:
        """Look now and then at which vgroups are assigned."""
        now = asyncio.get_running_loop().time()
        if now < self._next_watch:
            return
        found: set[Place] = set()
        try:
            for topic in self.topics:
                for one in await transport.assignment(topic, self._deadline()):
                    found.add((topic, one.vgroup_id))
        except TmqError as error:
            _logger.debug("consumer of %s: no assignment: %s", self.topics, error)
            found = set(self.assigned)
        self._next_watch = now + (_WATCH_SECONDS if found else _POLL_MS / 1000)
        await self._assign(frozenset(found))
        for place in found - self.progress.keys() - {one.place for one in self._waiting}:
            await self._note_start(transport, place)

    async def _note_start(self, transport: AnySubscription, place: Place) -> None:
        """Learn where a vgroup begins: after a loss ``latest`` would be another place."""
        with contextlib.suppress(TmqError):  # the server does not know before it has polled
            [offset] = await transport.position([place], self._deadline())
            if offset >= 0:
                self.progress[place] = Progress(offset)

    async def _assign(self, found: frozenset[Place]) -> None:
        before, self.assigned = self.assigned, found
        for place in before - found - self._resume:  # it is another member's
            self.progress.pop(place, None)
            self._newest.pop(place, None)
            self._sought_places.discard(place)
            self._revoked.add(place)
            self._forget(place)
        if found != before:
            self._changed.set()
            try:
                await self._on_change(found - before, before - found)
            except Exception as error:
                self._failure = error  # it is the application's, whatever it is
                raise

    # What the application does.

    async def take(self, deadline: Deadline) -> Message | None:
        """The next message; None if there is none in time, or nothing more to come.

        Raises:
            Error: Reading has failed, and all that came before is given out.
        """
        self._release()
        while not self._waiting or self.is_paused:
            if self._failure is not None and not self._waiting:
                raise copied(self._failure)
            if self._task is None:
                return None
            try:
                await self._change(deadline)
            except TimeoutError:
                return None
        return self._taken()

    def take_now(self) -> Message | None:
        """The next message, if there is one without waiting; raises as :meth:`take`."""
        self._release()
        if self._failure is not None and not self._waiting:
            raise copied(self._failure)
        return self._taken() if self.waiting is not None else None

    def _release(self) -> None:
        """The application asks for more: what it held is done with."""
        if self._held is not None and self._held is self.last:
            self._finished, self._held = self._held.id, None
            self._changed.set()
        self.last = None

    def _taken(self) -> Message:
        message = self._waiting.popleft()
        self._bytes -= message.size
        self._changed.set()
        self.last = message
        if message.end is not None:
            start = message.end if message.offset is None else message.offset
            progress = self.progress.setdefault(message.place, Progress(start))
            progress.advance(start, message.end, message.came, message.blocks, message.is_cut)
            message.next_offset = progress.safe
            self._newest[message.place] = message
        return message

    @property
    def waiting(self) -> Message | None:
        """The message that can be taken without waiting."""
        return self._waiting[0] if self._waiting and not self.is_paused else None

    @property
    def held(self) -> Message | None:
        """The message of a snapshot that was given out last, until the next is asked for."""
        return self._held if self._held is self.last else None

    def starts(self) -> dict[Place, int]:
        """Where the application is, by vgroup: behind what it got, or before what waits for it."""
        starts = {place: progress.end for place, progress in self.progress.items()}
        for message in self._waiting:
            if message.offset is not None and message.kind is not MessageKind.META:
                starts.setdefault(message.place, message.offset)
        return starts

    def take_revoked(self) -> set[Place]:
        """The vgroups that became another member's since this was last asked."""
        revoked, self._revoked = self._revoked, set()
        return revoked

    def offset_behind(self, message: Message) -> int:
        """What is to be committed when the application is done with a message."""
        assert message.next_offset is not None
        progress = self.progress.get(message.place)
        if progress is not None and self._newest.get(message.place) is message:
            return progress.safe  # which may have come to its end since
        return message.next_offset

    def offsets(self) -> dict[Place, int]:
        """What is to be committed when the application is done with all that it got."""
        return {place: self.progress[place].safe for place in self._newest.keys() & self.progress}

    async def commit_held(self, message: Message, deadline: Deadline) -> None:
        """Commit a message of a snapshot, which has no offset: everything polled is committed.

        Raises:
            TmqError: It is not the last one that was given out.
        """
        if self._held is not message:
            raise TmqError(
                "a message of a snapshot has no offset; commit it before the next is asked for"
            )
        await (await self.live(deadline)).commit_all(message.id, deadline)

    def pause(self, is_paused: bool) -> None:
        """Give nothing out any more, or go on."""
        self.is_paused = is_paused
        self._changed.set()

    async def seek(self, place: Place, offset: int, deadline: Deadline) -> None:
        """Go on at an offset of a vgroup; what was read ahead of it is thrown away."""
        transport = await self.live(deadline)
        async with self._turn_within(deadline):
            await transport.assignment(place[0], deadline)  # it must know the range
            await transport.seek(*place, offset, deadline)
            self._forget(place)
            self._resume.discard(place)
            self._expected[place] = (offset, _INSISTENCE)
            self._sought_places.add(place)
            self.progress[place] = Progress(offset)
            self._newest.pop(place, None)
            if self.last is not None and self.last.place == place:
                self.last = None  # it is not done with: it may come again

    @contextlib.asynccontextmanager
    async def _turn_within(self, deadline: Deadline) -> AsyncIterator[None]:
        """Hold the turn; what is polled now comes first."""
        try:
            async with asyncio.timeout_at(deadline.when):
                await self._turn.acquire()
        except builtins.TimeoutError:
            raise TimeoutError(
                f"the server did not answer a poll within {deadline.seconds:g} s",
                endpoint=self.endpoint,
            ) from None
        try:
            yield
        finally:
            self._turn.release()

    def _forget(self, place: Place | None) -> None:
        """Throw away what was read ahead, of one vgroup or of all."""
        kept = [] if place is None else [one for one in self._waiting if one.place != place]
        self._waiting = deque(kept)
        self._bytes = sum(one.size for one in kept)

    async def wait_assigned(self, deadline: Deadline) -> frozenset[Place]:
        """Wait until vgroups are assigned."""
        while not self.assigned:
            self._check()
            await self._change(deadline)
        return self.assigned

    @property
    def is_current(self) -> bool:
        """Whether this is called by the reader itself, as callbacks are."""
        return self._task is not None and asyncio.current_task() is self._task

    async def stop(self, timeout: float) -> None:
        """Stop polling, and end the session."""
        task, self._task = self._task, None
        self._forget(None)
        self._changed.set()
        try:
            if task is not None:
                task.cancel()
                await ended([task])
            if self._transport is not None:
                with contextlib.suppress(Error):
                    if not self._transport.closed:
                        await self._transport.unsubscribe(Deadline(timeout))
                await self._transport.close(timeout)
        except BaseException:
            self.terminate()
            raise

    def terminate(self) -> None:
        """Stop at once."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        self._changed.set()
        if self._transport is not None:
            self._transport.terminate()

"""A consumer whose connection is cut again and again: what must be so of the rows it gives out.

Each row has a number, which its time and its table follow from, so that a row is known again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import aiotaos
from aiotaos import ConnectionError, Consumer, TimeoutError
from aiotaos.message import Message
from tests.trouble import HOST, Mode, Proxy

START = 1_700_000_000_000
TABLES = 20
TOPICS = {"query": "as select ts, v, g from {database}.m", "stable": "as stable {database}.m"}
QUICK: dict[str, Any] = {
    "conn_retries": 20,
    "retry_backoff_ms": 2,
    "retry_backoff_max_ms": 50,
    "timestamp": "int",
    "auto_offset_reset": "earliest",
}
_READ_AHEAD = 1024 * 1024
_LONGEST_FRAME = 50_000  # bytes of a message, or fewer
_SMALLEST_INSERT, _LARGEST_INSERT = 1_000, 20_000
_ASK_EVERY = 10  # messages from question to question about what was committed automatically


def seeded() -> random.Random:
    """A source of chance; pytest shows its seed when the test fails."""
    seed = int(os.environ.get("AIOTAOS_CUT_SEED", secrets.randbits(32)))
    print(f"AIOTAOS_CUT_SEED={seed}")
    return random.Random(seed)


async def fill(dsn: str, database: str, rows: int, chance: random.Random) -> None:
    """Make a database with two vgroups and topics, and write rows, many tables with each INSERT."""
    async with aiotaos.connect(dsn) as conn:
        await conn.execute(f"create database {database} vgroups 2 keep 36500")
        await conn.select_db(database)
        await conn.execute("create stable m (ts timestamp, v int, w double) tags (g int)")
        for kind, sql in TOPICS.items():
            await conn.execute(f"create topic {database}_{kind} {sql.format(database=database)}")
        names = np.array([f"d{table}" for table in range(TABLES)])
        begin = 0
        while begin < rows:
            end = min(begin + chance.randrange(_SMALLEST_INSERT, _LARGEST_INSERT), rows)
            number = np.arange(begin, end)
            table = number % TABLES
            columns = {
                "n": names[table],
                "ts": START + number,
                "v": number.astype(np.int32),
                "w": number / 3,
                "g": table.astype(np.int32),
            }
            await conn.insert("m", columns, tbname="n", tags=["g"], batch_rows=_LARGEST_INSERT)
            begin = end


class Log(NamedTuple):
    """Where rows stand in the log, by their numbers.

    Attributes:
        vgroup: The vgroup.
        behind: The offset behind the INSERT that wrote the row.
    """

    vgroup: NDArray[np.int64]
    behind: NDArray[np.int64]


async def survey(dsn: str, database: str, rows: int) -> Log:
    """Read the log undisturbed, an INSERT at a time; a topic of a super table never cuts one."""
    log = Log(np.full(rows, -1), np.full(rows, -1))
    options: dict[str, Any] = {"group_id": f"survey_{database}", "min_poll_rows": 1}
    missing = rows
    async with Consumer(dsn, enable_auto_commit=False, **QUICK | options) as consumer:
        await consumer.subscribe(f"{database}_stable", timeout=60)
        while missing:
            message = await consumer.poll(30)
            assert message is not None
            for block in message:
                numbers = _numbers(block)
                assert (log.vgroup[numbers] == -1).all()
                log.vgroup[numbers] = message.vgroup_id
                log.behind[numbers] = message.end
            missing -= len(message)
    return log


class Seen:
    """What has come, and what of it was committed.

    Args:
        log: Where the rows stand.

    Attributes:
        rows: How many there are.
        missing: How many have not come.
        again: How many came when they had come before.
        messages: How many there were.
    """

    def __init__(self, log: Log) -> None:
        self.rows = self.missing = len(log.vgroup)
        self.again = 0
        self.messages = 0
        self._log = log
        self._seen = np.zeros(self.rows, bool)
        self._committed: dict[int, int] = {}
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def take(self, message: Message) -> None:
        """A message has come: nothing of it may have been committed."""
        committed = self._committed.get(message.vgroup_id, 0)
        for block in message:
            numbers = _numbers(block)
            assert len(np.unique(numbers)) == len(numbers)
            assert (self._log.vgroup[numbers] == message.vgroup_id).all()
            behind = self._log.behind[numbers]
            assert (behind > committed).all(), (
                f"{message!r} has rows before offset {behind.min()}; committed is {committed}"
            )
            again = int(self._seen[numbers].sum())
            self.again += again
            self.missing -= len(numbers) - again
            self._seen[numbers] = True
        self.messages += 1
        for rows, future in self._waiting:
            if rows <= self.rows - self.missing and not future.done():
                future.set_result(None)

    def commit(self, place: tuple[str, int], offset: int) -> None:
        """An offset is committed: all rows before it must have come."""
        _, vgroup = place
        before = (self._log.vgroup == vgroup) & (self._log.behind <= offset)
        lost = np.flatnonzero(before & ~self._seen)
        assert not len(lost), (
            f"vgroup {vgroup} is committed at {offset}, but {len(lost)} rows before it have not "
            f"come, the first one before {self._log.behind[lost].min()}"
        )
        self._committed[vgroup] = max(self._committed.get(vgroup, 0), offset)

    async def until(self, rows: int) -> None:
        """Wait until so many different rows have come."""
        if rows > self.rows - self.missing:
            future = asyncio.get_running_loop().create_future()
            self._waiting.append((rows, future))
            await future

    def check(self) -> None:
        """Every row has come."""
        gaps = np.flatnonzero(~self._seen)
        assert not len(gaps), (
            f"{len(gaps)} rows are missing, from {gaps[0]} to {gaps[-1]}, "
            f"of tables {sorted(set((gaps % TABLES).tolist()))}"
        )


def _numbers(block: Any) -> NDArray[Any]:
    """The numbers of the rows of a block, whose columns must be right."""
    times, values, *more = (column.values for column in block.columns)
    numbers = values.astype(np.int64)
    assert (times == START + numbers).all()
    if block.table is None:
        assert (more[0] == numbers % TABLES).all()
    else:
        assert {f"d{table}" for table in np.unique(numbers % TABLES)} == {block.table}
        assert (more[0] == numbers / 3).all()
    return numbers


class Cutter:
    """Cuts the connections through a proxy at random, in every way.

    Attributes:
        proxy: What it cuts.
        done: How often, by kind.
        is_done: Whether there will be no more.
        crash: Whether the consumer shall be given up now, and another one take its place.
    """

    def __init__(self, proxy: Proxy, seen: Seen, cuts: int, chance: random.Random) -> None:
        self.proxy = proxy
        self._seen = seen
        self._cuts = cuts
        self._chance = chance
        self.done: Counter[str] = Counter()
        self.is_done = False
        self.crash = asyncio.Event()

    async def run(self) -> None:
        kinds = [
            self._reset,
            self._in_a_frame,
            self._twice,
            self._stall,
            self._refuse,
            self._crash,
        ]
        ways = [kinds[number % len(kinds)] for number in range(self._cuts)]
        self._chance.shuffle(ways)
        places = sorted(self._chance.sample(range(self._seen.rows * 9 // 10), self._cuts))
        for rows, cut in zip(places, ways, strict=True):
            await self._seen.until(rows)
            await self.proxy.until(lambda: len(self.proxy))
            await asyncio.sleep(self._chance.uniform(0, 0.02))
            accepted = self.proxy.accepted
            await cut()
            self.done[cut.__name__] += 1
            await self.proxy.until(lambda before=accepted: self.proxy.accepted > before)
        self.is_done = True

    async def _reset(self) -> None:
        self.proxy.cut(once=True)

    async def _in_a_frame(self) -> None:
        self.proxy.cut(after=self._chance.randrange(1, _LONGEST_FRAME), once=True)
        await self.proxy.until(lambda: self.proxy.mode is Mode.PASS)

    async def _twice(self) -> None:
        """The next session is cut as well, while it subscribes."""
        self.proxy.cut()
        self.proxy.cut(after=self._chance.randrange(200, 600), once=True)
        await self.proxy.until(lambda: self.proxy.mode is Mode.PASS)

    async def _stall(self) -> None:
        """Nothing comes for a moment, then goes on for a moment, and then all is lost."""
        self.proxy.stall()
        await asyncio.sleep(self._chance.uniform(0.01, 0.1))
        await self.proxy.heal()
        await asyncio.sleep(self._chance.uniform(0, 0.01))
        self.proxy.stall()
        await asyncio.sleep(self._chance.uniform(0.01, 0.1))
        self.proxy.cut(once=True)

    async def _refuse(self) -> None:
        self.proxy.refuse()
        await asyncio.sleep(self._chance.uniform(0.01, 0.1))
        await self.proxy.heal()

    async def _crash(self) -> None:
        self.crash.set()


async def consume(
    port: int,
    topic: str,
    log: Log,
    cuts: int,
    chance: random.Random,
    *,
    auto_commit: bool,
    patience: float,
    **options: Any,
) -> Seen:
    """Read a topic to its end while the connection is cut.

    Args:
        port: The server's, on the loopback.
        topic: Its name.
        log: Where the rows stand.
        cuts: How often it is cut; with every sixth one the consumer is given up as well.
        chance: When, and how.
        auto_commit: Leave committing to the consumer; otherwise each message is committed.
        patience: Seconds without a message after which there are no more.
        options: Of the consumer.
    """
    seen = Seen(log)
    group = f"{topic}_{secrets.token_hex(4)}"
    options = QUICK | options | {"group_id": group, "enable_auto_commit": auto_commit}
    async with Proxy(port) as proxy:
        dsn = f"ws://root:taosdata@{HOST}:{proxy.port}"
        cutter = Cutter(proxy, seen, cuts, chance)
        cutting = asyncio.create_task(cutter.run())
        try:
            while await read_on(dsn, topic, seen, cutter, patience, options):
                pass
            seen.check()
            await cutting
            assert cutter.done.total() == cuts
            # What was not committed comes again to the next member of the group, and nothing else.
            await read_on(dsn, topic, seen, cutter, patience / 5, options, rest=True)
        finally:
            cutting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await cutting
            print(f"{seen.messages} messages, {seen.again} rows again, {dict(cutter.done)}")
    return seen


async def read_on(
    dsn: str,
    topic: str,
    seen: Seen,
    cutter: Cutter,
    patience: float,
    options: dict[str, Any],
    *,
    rest: bool = False,
) -> bool:
    """Read until all is there and all cuts are done, or nothing more comes.

    Args:
        dsn: Of the proxy.
        topic: What is read.
        seen: What has come.
        cutter: What cuts.
        patience: Seconds without a message after which nothing more comes.
        options: Of the consumer.
        rest: All is there; read what comes again.

    Returns:
        Whether another consumer shall go on.
    """
    cutter.crash.clear()
    consumer = Consumer(dsn, read_ahead=_READ_AHEAD, **options)
    committed = _ask if options["enable_auto_commit"] else _commit
    try:
        try:
            await consumer.subscribe(topic, timeout=60)
        except (ConnectionError, TimeoutError):  # cut in this moment
            return True
        while rest or seen.missing or not cutter.is_done:
            is_over = not rest and not seen.missing  # but for the cuts
            message = await consumer.poll(0.1 if is_over else patience)
            if message is not None:
                seen.take(message)
                await committed(consumer, message, seen)
            elif not is_over:
                break
            if cutter.crash.is_set():
                cutter.proxy.cut(once=True)
                return True
        return False
    finally:
        await consumer.close(commit=False)


async def _commit(consumer: Consumer, message: Message, seen: Seen) -> None:
    try:
        await consumer.commit(message, timeout=60)
    except (ConnectionError, TimeoutError):
        return  # nobody knows whether it is committed
    assert message.next_offset is not None
    seen.commit(message.place, message.next_offset)


async def _ask(consumer: Consumer, message: Message, seen: Seen) -> None:
    """Ask now and then what was committed."""
    if seen.messages % _ASK_EVERY:
        return
    try:
        committed = await consumer.committed(timeout=60)
    except (ConnectionError, TimeoutError):
        return
    for place, offset in committed.items():
        if offset is not None:
            seen.commit(place, offset)

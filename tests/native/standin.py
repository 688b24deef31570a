"""The stand-in for libtaos: it is compiled when tests want it, and told what to answer.

``standin.h`` describes the library: flavours, directives in SQL, counters, events of the log. A
library is one per path and process: what loads :attr:`Standin.path` gets what is scripted here.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import struct
import subprocess
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from aiotaos import Field
from aiotaos.protocol.encode import encode_block

HERE = Path(__file__).parent
FLAGS = [
    *("-shared", "-fPIC", "-O1", "-g", "-pthread", "-fvisibility=hidden"),
    *("-Wall", "-Wextra", "-Werror"),
]
LIVE = (
    "connections",
    "results",
    "statements",
    "consumers",
    "confs",
    "lists",
    "subscriptions",
    "fields",
    "assignments",
    "texts",
    "outstanding",
)
MISUSE = (
    "double_frees",
    "double_closes",
    "use_after_free",
    "wrong_handles",
    "sql_changed",
    "overlapping_fetches",
    "freed_while_fetching",
    "concurrent_uses",
    "poll_threads",
    "blocking_in_callback",
    "deadlocks",
    "rows_refused",
    "raw_and_rows",
)
COLUMN, TAG, QUERY, TBNAME = 1, 2, 3, 4  # kinds of parameters

_FIELD = struct.Struct("<65sbBBiB3x")  # TAOS_FIELD_ALL
_GENERATED_START = 1_700_000_000_000


class Flavour(StrEnum):
    """The libraries there are."""

    FULL = "STANDIN_FULL"
    OLD3 = "STANDIN_OLD3"
    TWO = "STANDIN_2X"


class Parameter(NamedTuple):
    """A parameter of a prepared statement as ``taos_stmt2_get_fields`` tells it.

    Attributes:
        kind: COLUMN, TAG or TBNAME.
        bytes: Of the schema, with the prefix of a variable type.
        precision: Unit of a TIMESTAMP, digits of a DECIMAL.
    """

    name: str
    kind: int
    type: int
    bytes: int
    precision: int = 0
    scale: int = 0


class Block(NamedTuple):
    """A block of a message: its columns, the raw block, and the table it is from."""

    fields: Sequence[Field]
    data: bytes
    table: str | None = None


def compiler() -> list[str] | None:
    """The command of a C compiler: that of ``CC``, or the first that is found."""
    named = os.environ.get("CC", "").split()
    if named and shutil.which(named[0]):
        return named
    return next(([name] for name in ("cc", "gcc", "clang") if shutil.which(name)), None)


def build(flavour: Flavour, directory: Path) -> Path:
    """Compile the library, unless the directory has it from these sources and flags.

    The test is skipped where there is no C compiler, and fails where the library does not compile.
    """
    command = compiler()
    if command is None:
        pytest.skip("the stand-in for libtaos needs a C compiler: CC, cc, gcc or clang")
    sources = sorted(HERE.glob("*.c"))
    flags = [*FLAGS, f"-D{flavour.value}"]
    seen = hashlib.sha256(repr((command, flags)).encode())
    for path in [*sources, *sorted(HERE.glob("*.h"))]:
        seen.update(path.read_bytes())
    target = directory / f"libtaos-{flavour.name.lower()}-{seen.hexdigest()[:16]}.so"
    if target.exists():
        return target
    made = target.with_suffix(f".{os.getpid()}")  # another process may be at it as well
    done = subprocess.run(
        [*command, *flags, "-o", str(made), *map(str, sources)],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        pytest.fail(f"the stand-in for libtaos does not compile:\n{done.stderr}", pytrace=False)
    made.replace(target)
    return target


def generated(rows: int, cols: int = 2) -> list[tuple[Any, ...]]:
    """The rows of ``/* rows=N cols=K */``, TIMESTAMPs as ticks."""
    makers = [
        lambda row: row,
        lambda row: None if row % 5 == 4 else row / 2,
        lambda row: None if row % 3 == 2 else f"s{row}",
        lambda row: f"é😀{row}",
    ]
    return [
        (_GENERATED_START + row, *(makers[k % 4](row) for k in range(cols - 1)))
        for row in range(rows)
    ]


def _pack(fields: Iterable[Field]) -> bytes:
    return b"".join(
        _FIELD.pack(
            field.name.encode(), field.type, field.precision, field.scale, field.length, QUERY
        )
        for field in fields
    )


def _text(value: str | None) -> bytes | None:
    return None if value is None else value.encode()


def _lengths(blocks: Sequence[bytes]) -> ctypes.Array[ctypes.c_int64]:
    return (ctypes.c_int64 * len(blocks))(*map(len, blocks))


class Standin:
    """A library that is loaded, and what tests tell it and ask it.

    Attributes:
        flavour: Which library it is.
        path: Its file.
        lib: The library; its functions of libtaos have no types yet.
    """

    def __init__(self, flavour: Flavour, path: Path) -> None:
        self.flavour = flavour
        self.path = path
        self.lib = lib = ctypes.CDLL(str(path))
        text, number, wide = ctypes.c_char_p, ctypes.c_int, ctypes.c_int64
        pointer = ctypes.c_void_p
        signatures: dict[str, tuple[Any, ...]] = {
            "answer": (None, text, text, number, number, text, pointer, number, wide, number, text),
            "fields": (None, text, text, number),
            "script": (None, text, text),
            "rule": (None, text, number, text, wide, number),
            "release": (number, text),
            "count": (wide, text),
            "counters": (text,),
            "wait": (number, text, wide, number, wide),
            "log": (wide, text, pointer, wide),
            "set": (number, text, wide),
            "reset": (None,),
        }
        if flavour is not Flavour.TWO:
            signatures |= {
                "topic": (number, text, text, number),
                "message": (
                    *(wide, text, number, wide, number, number),
                    *(text, pointer, text, pointer, number, pointer, text),
                ),
                "notify": (number, pointer, number, wide),
            }
        for name, (result, *arguments) in signatures.items():
            function = getattr(lib, f"standin_{name}")
            function.restype, function.argtypes = result, arguments

    def has(self, function: str) -> bool:
        """Whether the library exports a function."""
        return hasattr(self.lib, function)

    # Answers.

    def answer(
        self,
        sql: str,
        fields: Sequence[Field] = (),
        blocks: Sequence[bytes] = (),
        *,
        precision: int = 0,
        affected: int = 0,
        code: int = 0,
        message: str = "",
    ) -> None:
        """Answer a statement: raw blocks, a number of rows written, or (``code``) an error."""
        self.lib.standin_answer(
            *(sql.encode(), _pack(fields), len(fields), precision),
            *(b"".join(blocks), _lengths(blocks), len(blocks)),
            *(affected, code, message.encode()),
        )

    def rows(
        self, sql: str, fields: Sequence[Field], *blocks: Sequence[Any], precision: int = 0
    ) -> None:
        """Answer a statement with blocks, each given as its columns."""
        raw = [encode_block(fields, columns) for columns in blocks]
        self.answer(sql, fields, raw, precision=precision)

    def affect(self, sql: str, rows: int) -> None:
        """Answer a statement as a write of so many rows."""
        self.answer(sql, affected=rows)

    def refuse(self, sql: str, code: int, message: str = "") -> None:
        """Answer a statement with an error; ``code`` as documented, such as 0x2600."""
        self.answer(sql, code=code, message=message)

    def script(self, sql: str, directives: str) -> None:
        """Directives for a statement that the code under test makes; "" takes them back."""
        self.lib.standin_script(sql.encode(), directives.encode())

    def parameters(self, sql: str, parameters: Iterable[Parameter]) -> None:
        """What a prepared statement is bound to; how much is bound is known from this alone."""
        packed = [
            _FIELD.pack(each.name.encode(), each.type, *each[4:], each.bytes, each.kind)
            for each in parameters
        ]
        self.lib.standin_fields(sql.encode(), b"".join(packed), len(packed))

    def rule(
        self,
        call: str,
        *,
        code: int = 0,
        message: str = "",
        delay: float = 0,
        hold: bool = False,
        times: int = 1,
    ) -> None:
        """The next calls of a function are slow, or fail.

        Args:
            call: Such as ``taos_connect``; ``taos_schemaless_insert`` is all of that family.
            code: As documented; 0 not to fail.
            message: The text of the error, where it is not the usual one.
            delay: Seconds that the call takes.
            hold: The call lasts until ``release(call)``.
            times: For how many calls, -1 for all.
        """
        milliseconds = -1 if hold else int(delay * 1000)
        self.lib.standin_rule(call.encode(), code, message.encode(), milliseconds, times)

    def release(self, gate: str) -> int:
        """End what a ``hold=gate`` or a rule holds back; the number of what was held."""
        return int(self.lib.standin_release(gate.encode()))

    def notify(self, taos: int, type: int, value: int = 0) -> bool:
        """Call what ``taos_set_notify_cb`` registered; False where nothing is."""
        return bool(self.lib.standin_notify(taos, type, value))

    # Subscriptions.

    def topic(self, name: str, database: str = "test", vgroups: int = 1) -> None:
        """Make a topic; its vgroups are 2, 3, ..."""
        assert self.lib.standin_topic(name.encode(), database.encode(), vgroups) == 0

    def message(
        self,
        topic: str,
        *blocks: Block,
        vgroup: int = 2,
        offset: int = -1,
        type: int = 1,
        precision: int = 0,
        json: str | None = None,
    ) -> int:
        """Put a message in a topic, which wakes polls; its offset.

        Args:
            topic: Its name.
            blocks: Of one table each; version 2 is what libtaos has in messages.
            vgroup: Which one.
            offset: Not before the next one, which is the default.
            type: 1 data, 2 table meta, 3 both, 4 raw data.
            precision: Of the TIMESTAMPs.
            json: What ``tmq_get_json_meta`` tells.
        """
        raw = [block.data for block in blocks]
        found = self.lib.standin_message(
            *(topic.encode(), vgroup, offset, type, precision),
            b"".join(_pack(block.fields) for block in blocks),
            (ctypes.c_int * len(blocks))(*(len(block.fields) for block in blocks)),
            *(b"".join(raw), _lengths(raw), len(raw)),
            (ctypes.c_char_p * len(blocks))(*(_text(block.table) for block in blocks)),
            _text(json),
        )
        assert found >= 0, f"no vgroup {vgroup} in {topic}, or offset {offset} is in the past"
        return int(found)

    # Account.

    def count(self, name: str) -> int:
        """A counter."""
        value = int(self.lib.standin_count(name.encode()))
        assert value != -1, f"no counter {name!r}"
        return value

    def counts(self) -> dict[str, int]:
        """All counters."""
        names = self.lib.standin_counters().decode().split()
        return {name: int(self.lib.standin_count(name.encode())) for name in names}

    def wait(self, name: str, value: int, *, at_least: bool = False, timeout: float = 5) -> None:
        """Block until a counter has a value, for example ``wait("outstanding", 0)``."""
        met = self.lib.standin_wait(name.encode(), value, at_least, int(timeout * 1000))
        assert met == 1, f"{name} is {self.count(name)}, not {value}, after {timeout} s"

    def log(self, kind: str | None = None) -> list[dict[str, Any]]:
        """What happened, all of it or of one kind."""
        size = 0
        while True:
            buffer = ctypes.create_string_buffer(size + 1)
            length = int(self.lib.standin_log(_text(kind), buffer, size + 1))
            if length <= size:
                text = buffer.raw[:length].decode("utf-8", "surrogateescape")
                found: list[dict[str, Any]] = json.loads(text)
                return found
            size = length + 4096  # more may come meanwhile

    def written(self) -> list[str]:
        """The INSERTs that were sent as text."""
        return [event["sql"] for event in self.log("insert")]

    def stop_logging(self) -> None:
        """Log nothing until :meth:`reset`, for tests of many statements."""
        self.lib.standin_set(b"log", 0)

    def misuse(self) -> dict[str, int]:
        """What was done that must not be done."""
        counts = self.counts()
        return {name: counts[name] for name in MISUSE if counts[name]}

    def left(self) -> dict[str, int]:
        """What is still open: handles, memory to give back, callbacks.

        A callback counts until it has returned: ``wait("outstanding", 0)`` comes first.
        """
        counts = self.counts()
        return {name: counts[name] for name in LIVE if counts[name]}

    def reset(self) -> None:
        """Forget everything; callbacks that run are waited for, the others are not called."""
        self.lib.standin_reset()

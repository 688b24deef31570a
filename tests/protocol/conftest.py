"""Recordings of real sessions, and blocks built by hand with struct alone."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from aiotaos.protocol.block import Block, parse_block
from aiotaos.protocol.rows import RowDecoder
from aiotaos.types import Precision

CAPTURES = Path(__file__).parents[1] / "data" / "captures"

EXAMPLE = bytes.fromhex(
    """
    01 00 00 00 7e 00 00 00 02 00 00 00 04 00 00 00
    00 00 00 80 00 00 00 00 00 00 00 00 09 08 00 00
    00 04 04 00 00 00 08 0c 00 00 00 0a 2a 00 00 00
    10 00 00 00 08 00 00 00 07 00 00 00 0c 00 00 00
    00 00 68 e5 cf 8b 01 00 00 01 68 e5 cf 8b 01 00
    00 40 f9 ff ff ff 00 00 00 00 00 00 00 00 ff ff
    ff ff 05 00 68 65 6c 6c 6f 00 00 00 00 0a 00 00
    00 08 00 e9 00 00 00 00 f6 01 00 00 00 00
    """
)


class RawColumn(NamedTuple):
    """A column body: bitmap or offsets, then data; ``length`` overrides the announced length."""

    type: int
    declared: int
    head: bytes
    data: bytes
    length: int | None = None


def build_block(columns: Sequence[RawColumn], rows: int, *, version: int = 1) -> bytes:
    schema = b"".join(struct.pack("<bi", column.type, column.declared) for column in columns)
    lengths = b"".join(
        struct.pack("<i", len(column.data) if column.length is None else column.length)
        for column in columns
    )
    bodies = b"".join(column.head + column.data for column in columns)
    total = 28 + len(schema) + len(lengths) + len(bodies) + 1
    header = struct.pack("<iiiiIQ", version, total, rows, len(columns), 0x80000000, 0)
    return header + schema + lengths + bodies + b"\0"


def values_of(expected: Any) -> Any:
    """A value as the recordings write it."""
    match expected:
        case {"float": text}:
            return float(text)
        case {"hex": text}:
            return bytes.fromhex(text)
        case {"decimal": text}:
            return Decimal(text)
    return expected


def timestamp_of(text: str, precision: int) -> object:
    """``2024-03-01 00:00:00.001 +00:00`` as a datetime, as ticks for nanoseconds."""
    moment, zone = text.rsplit(" ", 1)
    assert zone == "+00:00"
    whole, _, fraction = moment.partition(".")
    second = datetime.fromisoformat(whole).replace(tzinfo=UTC)
    if precision == 2:
        return int(second.timestamp()) * 1_000_000_000 + int(fraction.ljust(9, "0"))
    return second.replace(microsecond=int(fraction.ljust(6, "0")))


class Recording:
    """A recorded session: its frames in order, and what the official client made of them."""

    def __init__(self, name: str) -> None:
        lines = (CAPTURES / f"{name}.wire.jsonl").read_text().splitlines()
        self.events = [json.loads(line) for line in lines]
        path = CAPTURES / f"{name}.expected.json"
        self.expected = json.loads(path.read_text()) if path.exists() else []

    def frames(self, direction: str) -> list[str | bytes]:
        found: list[str | bytes] = []
        for event in self.events:
            if event.get("dir") == direction and event["kind"] == "text":
                found.append(event["data"])
            elif event.get("dir") == direction and event["kind"] == "binary":
                found.append(base64.b64decode(event["b64"]))
        return found


@pytest.fixture(scope="session")
def recording() -> Callable[[str], Recording]:
    cache: dict[str, Recording] = {}

    def load(name: str) -> Recording:
        if name not in cache:
            cache[name] = Recording(name)
        return cache[name]

    return load


@pytest.fixture(scope="session")
def example() -> bytes:
    """Two rows of ``ts TIMESTAMP, v INT, s VARCHAR(10), n NCHAR(10)``, taken apart by hand."""
    return EXAMPLE


@pytest.fixture(scope="session")
def raw_column() -> type[RawColumn]:
    return RawColumn


@pytest.fixture(scope="session")
def raw_block() -> Callable[..., bytes]:
    return build_block


@pytest.fixture(scope="session")
def expected_rows() -> Callable[..., list[tuple[Any, ...]]]:
    """Rows of a recording as Python values."""

    def convert(statement: dict[str, Any], precision: int) -> list[tuple[Any, ...]]:
        kinds = [field[1] for field in statement["fields"]]
        return [
            tuple(
                timestamp_of(value, precision)
                if kind == "TIMESTAMP" and value is not None
                else values_of(value)
                for kind, value in zip(kinds, row, strict=True)
            )
            for row in statement["rows"]
        ]

    return convert


@pytest.fixture(scope="session")
def decode() -> Callable[..., list[tuple[Any, ...]]]:
    """Rows of a raw block."""

    def rows(data: bytes, *, precision: int = 0, **options: Any) -> list[tuple[Any, ...]]:
        block: Block = parse_block(data, precision=precision)
        return RowDecoder(block.fields, Precision(precision), **options).rows(block)

    return rows


@pytest.fixture(scope="session")
def value_column(
    raw_block: Callable[..., bytes], decode: Callable[..., list[tuple[Any, ...]]]
) -> Callable[..., list[Any]]:
    """Values of a block of one column, given as its body."""

    def values(column: RawColumn, rows: int, **options: Any) -> list[Any]:
        return [row[0] for row in decode(raw_block([column], rows), **options)]

    return values


@pytest.fixture(scope="session")
def variable() -> Callable[..., RawColumn]:
    """A column of variable width from raw values; None is NULL."""

    def make(type: int, values: Sequence[bytes | None], *, prefix: str = "<H") -> RawColumn:
        head, data = b"", b""
        for value in values:
            head += struct.pack("<i", -1 if value is None else len(data))
            if value is not None:
                data += struct.pack(prefix, len(value)) + value
        return RawColumn(type, 0, head, data)

    return make


@pytest.fixture(scope="session")
def fixed() -> Callable[..., RawColumn]:
    """A column of fixed width from one struct code and values; NULL slots hold garbage."""

    def make(
        type: int, code: str, values: Sequence[Any], *, declared: int = 0, garbage: int = 0x55
    ) -> RawColumn:
        bitmap = bytearray((len(values) + 7) // 8)
        data = b""
        for row, value in enumerate(values):
            if value is None:
                bitmap[row // 8] |= 0x80 >> row % 8
                data += bytes([garbage]) * struct.calcsize("<" + code)
            else:
                data += struct.pack("<" + code, value)
        return RawColumn(type, declared, bytes(bitmap), data)

    return make

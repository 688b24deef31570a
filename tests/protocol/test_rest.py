"""Bodies of REST answers, fed in pieces of all sizes, against what ``json`` makes of them."""

from __future__ import annotations

import base64
import json
import math
import struct
from datetime import UTC, datetime
from decimal import Decimal
from itertools import chain, pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aiotaos.errors import ProtocolError
from aiotaos.protocol import rest
from aiotaos.protocol.block import Block
from aiotaos.protocol.rest import Body, parse_head
from aiotaos.protocol.rows import RowDecoder
from aiotaos.types import Field, Precision, TypeCode

# Writing bodies as taosAdapter does.

ESCAPES = {b'"': b'\\"', b"\\": b"\\\\", b"\n": b"\\n", b"\r": b"\\r", b"\t": b"\\t"}


def string(value: str | bytes) -> bytes:
    """A string of JSON: control characters escaped, all bytes from 0x80 on as they are."""
    raw = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    cells = (bytes([byte]) for byte in raw)
    return b'"%b"' % b"".join(
        ESCAPES.get(cell) or (cell if cell >= b" " else b"\\u%04x" % cell[0]) for cell in cells
    )


def body_of(columns, rows, *, shape="arrays", announced=None, end=b""):
    """A body: columns as (name, type, length), rows of cells as JSON."""
    names = [string(name) for name, _, _ in columns]
    meta = b",".join(
        b"[%b,%b,%d]" % (name, kind if isinstance(kind, bytes) else string(kind), length)
        for name, (_, kind, length) in zip(names, columns, strict=True)
    )
    if shape == "objects":
        rows = [[b"%b:%b" % pair for pair in zip(names, row, strict=True)] for row in rows]
    left, right = b"{}" if shape == "objects" else b"[]"
    data = b",".join(b"%c%b%c" % (left, b",".join(row), right) for row in rows)
    head = b'"code":0'
    if shape == "legacy":
        head = b'"status":"succ","head":[%b]' % b",".join(names)
    count = len(rows) if announced is None else announced
    return b'{%b,"column_meta":[%b],"data":[%b],"rows":%d%b}' % (head, meta, data, count, end)


def one_column(kind, cells, length=8, **more):
    return body_of([("c", kind, length)], [[cell] for cell in cells], **more)


NOT_UNDERSTOOD = "the rows (are not what the columns announce|cannot be read as JSON): "

# Reading them.


def pieces_of(body, size):
    return [body[at : at + size] for at in range(0, len(body), size)]


def fed(pieces, *, reads=True):
    """Give a body its pieces, and take its blocks as they come."""
    body, blocks = Body(reads=reads), []
    for piece in pieces:
        body.feed(piece)
        while (block := body.next_block()) is not None:
            blocks.append(block)
    body.end()
    while (block := body.next_block()) is not None:
        blocks.append(block)
    assert body.done
    assert body.pending == 0 or body.head.is_refusal
    assert body.next_block() is None
    return body, blocks


def in_one(text):
    """A body and its rows, all of them in one block."""
    body = Body(reads=True)
    body.feed(text)
    body.end()
    return body, body.next_block()


def typed(rows):
    """Rows in a form in which 1 is not True, nor 0.0 is -0.0, and NaN is itself."""
    return list(map(repr, rows))


def rows_of(blocks, **options):
    """The rows of blocks, which must be those that their columns have."""
    if not blocks:
        return []
    decoder = RowDecoder(blocks[0].fields, blocks[0].precision, **options)
    rows = []
    for block in blocks:
        found = decoder.rows(block)
        assert len(found) == len(block) > 0
        plain = Block(block.fields, block.precision, list(block.columns), len(block))
        assert [len(column) for column in plain.columns] == [len(block)] * len(block.fields)
        other = RowDecoder(block.fields, block.precision, **options)
        assert typed(other.rows(plain)) == typed(found)
        assert typed(decoder.rows(block)) == typed(found)
        rows += found
    return rows


def read(body, size=1 << 20, **options):
    return rows_of(fed(pieces_of(body, size))[1], **options)


def values_of(kind, cells, size=1 << 20, length=8, **more):
    """The values of a body of one column."""
    return [row[0] for row in read(one_column(kind, cells, length, **more), size)]


FOREIGN = {
    "TIMESTAMP": lambda text: datetime.fromisoformat(text).astimezone(UTC),
    "FLOAT": lambda value: struct.unpack("<f", struct.pack("<f", value))[0],
    "DOUBLE": float,
    "JSON": lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":")),
    **dict.fromkeys(["VARBINARY", "GEOMETRY", "BLOB", "MEDIUMBLOB"], bytes.fromhex),
    "DECIMAL": Decimal,
}


def as_json_reads(body):
    """The rows of a body by the standard library alone."""
    document = json.loads(body.decode("utf-8", "surrogateescape"))
    convert = [
        FOREIGN.get(
            TypeCode(kind).name if isinstance(kind, int) else kind.partition("(")[0],
            lambda value: value,
        )
        for _, kind, _ in document["column_meta"]
    ]
    return [
        tuple(
            None if value is None else make(value)
            for make, value in zip(
                convert, row.values() if isinstance(row, dict) else row, strict=True
            )
        )
        for row in document["data"]
    ]


# Every type: its name, its code, its length, and values as they are sent and as they are.

SAYINGS = [
    "",
    "ASCII ~!@#",
    "a],[b",
    "],[",
    '"],["',
    '\\"],[\\"',
    "},{",
    '"},{"',
    '}],"rows":1}',
    '"data":[',
    '{"data":[[',
    "\\",
    "\\\\",
    '\\"',
    '\\\\"',
    '"',
    '""',
    "ends with \\",
    "ends with ],[\\\\",
    "\0",
    "\0\0],[\0",
    "".join(map(chr, range(32))) + "\x7f\x80\x9f",
    "涛思数据 🚀 naïve",
    "\U000f0000\U000f007f\U000ffffd\U0010ffff\ue000\ufffd\ufeff\u2028",
    "null",
    "\\u0041",
]
TYPES = [
    (
        "TIMESTAMP",
        9,
        8,
        [
            (b'"2024-03-01T00:00:00.001Z"', datetime(2024, 3, 1, microsecond=1000, tzinfo=UTC)),
            (b'"0001-01-01T00:00:00.000Z"', datetime(1, 1, 1, tzinfo=UTC)),
            (
                b'"9999-12-31T23:59:59.999Z"',
                datetime(9999, 12, 31, 23, 59, 59, 999000, tzinfo=UTC),
            ),
            (b'"2024-07-01T02:00:00.500+02:00"', datetime(2024, 7, 1, 0, 0, 0, 500000, tzinfo=UTC)),
        ],
    ),
    ("BOOL", 1, 1, [(b"true", True), (b"false", False)]),
    ("TINYINT", 2, 1, [(b"-128", -128), (b"127", 127), (b"0", 0)]),
    ("SMALLINT", 3, 2, [(b"-32768", -32768), (b"32767", 32767)]),
    ("INT", 4, 4, [(b"-2147483648", -(2**31)), (b"2147483647", 2**31 - 1)]),
    (
        "BIGINT",
        5,
        8,
        [(b"-9223372036854775808", -(2**63)), (b"9223372036854775807", 2**63 - 1), (b"0", 0)],
    ),
    ("TINYINT UNSIGNED", 11, 1, [(b"0", 0), (b"255", 255)]),
    ("SMALLINT UNSIGNED", 12, 2, [(b"0", 0), (b"65535", 65535)]),
    ("INT UNSIGNED", 13, 4, [(b"0", 0), (b"4294967295", 2**32 - 1)]),
    (
        "BIGINT UNSIGNED",
        14,
        8,
        [(b"0", 0), (b"9223372036854775808", 2**63), (b"18446744073709551615", 2**64 - 1)],
    ),
    (
        "FLOAT",
        6,
        4,
        [
            (b"-1.5", -1.5),
            (b"3.4028235e+38", 3.4028234663852886e38),
            (b"-3.4028235e+38", -3.4028234663852886e38),
            (b"1e-45", 1.401298464324817e-45),
            (b"0.1", 0.10000000149011612),
            (b"16777216", 16777216.0),
        ],
    ),
    (
        "DOUBLE",
        7,
        8,
        [
            (b"1.7976931348623157e+308", 1.7976931348623157e308),
            (b"-1.7976931348623157e+308", -1.7976931348623157e308),
            (b"5e-324", 5e-324),
            (b"0.1", 0.1),
            (b"1", 1.0),
            (b"9007199254740993", 9007199254740992.0),
            (b"100000000000000000000", 1e20),
        ],
    ),
    ("VARCHAR", 8, 64, [(string(text), text) for text in SAYINGS]),
    ("NCHAR", 10, 64, [(string(text), text) for text in reversed(SAYINGS)]),
    (
        "VARBINARY",
        16,
        32,
        [(b'""', b""), (b'"00ff10"', b"\0\xff\x10"), (b'"5d2c5b"', b"],["), (b'"22"', b'"')],
    ),
    ("GEOMETRY", 20, 100, [(b'"0101000000"', b"\1\1\0\0\0"), (b'"FF"', b"\xff")]),
    ("BLOB", 18, 4194304, [(b'"%b"' % (b"ab" * 70000), b"\xab" * 70000), (b'""', b"")]),
    ("MEDIUMBLOB", 19, 4194304, [(b'"00"', b"\0")]),
    (
        "DECIMAL(10,3)",
        21,
        8,
        [
            (b'"-1234567.891"', Decimal("-1234567.891")),
            (b'"0.000"', Decimal("0.000")),
            (b'"9999999.999"', Decimal("9999999.999")),
            (b'"0.100"', Decimal("0.100")),
        ],
    ),
    (
        "DECIMAL(38,10)",
        17,
        16,
        [
            (
                b'"-9999999999999999999999999999.9999999999"',
                Decimal("-9999999999999999999999999999.9999999999"),
            ),
            (b'"0.0000000001"', Decimal("0.0000000001")),
        ],
    ),
    ("DECIMAL(38,0)", 17, 16, [(b'"1234567890"', Decimal("1234567890"))]),
    (
        "JSON",
        15,
        4095,
        [
            (b'{"n":null,"name":"\xe6\xb3\xb5","on":true}', '{"n":null,"name":"泵","on":true}'),
            (b"{}", "{}"),
            (b'{"k":"],["}', '{"k":"],["}'),
            (b'{"k":"},{","l":"\\\\"}', '{"k":"},{","l":"\\\\"}'),
            (b'"null"', '"null"'),
            (b"1500.5", "1500.5"),
            (b"false", "false"),
        ],
    ),
    ("NULL", 0, 0, []),
]
NULL = (b"null", None)
COLUMNS = [(f"c{number}", kind, length) for number, (kind, _, length, _) in enumerate(TYPES)]


def table(large):
    """Cells and rows of all types with NULLs at both ends, between, and in whole rows."""
    columns = []
    for kind, _, _, samples in TYPES:
        if kind == "BLOB" and not large:
            samples = [(b'"abcd"', b"\xab\xcd")]
        values = [NULL, *samples, NULL]
        while len(values) < len(SAYINGS) + 4:
            values += [*samples[:1], NULL]
        columns.append([*values[: len(SAYINGS) + 4], NULL])
    rows = list(zip(*columns, strict=True))
    return [[cell for cell, _ in row] for row in rows], [
        tuple(value for _, value in row) for row in rows
    ]


CELLS, ROWS = table(large=False)
BODIES = {shape: body_of(COLUMNS, CELLS, shape=shape) for shape in ("arrays", "objects", "legacy")}
CODED = body_of(
    [
        (name, b"%d" % code, length)
        for (name, _, length), (_, code, *_) in zip(COLUMNS, TYPES, strict=True)
    ],
    CELLS,
    shape="legacy",
)


@pytest.mark.parametrize("shape", BODIES)
def test_the_standard_library_reads_the_same(shape):
    """What the tests expect, compared with ``json``; it has no other way to be wrong twice."""
    assert typed(as_json_reads(BODIES[shape])) == typed(ROWS)


@pytest.mark.parametrize("shape", BODIES)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 1000, 1 << 20])
def test_every_type(shape, size):
    body, blocks = fed(pieces_of(BODIES[shape], size))
    assert body.fields == tuple(
        Field(
            name,
            TypeCode(code),
            length,
            *map(int, kind[8:-1].split(",") if kind.startswith("DECIMAL") else ()),
        )
        for (name, kind, length), (_, code, *_) in zip(COLUMNS, TYPES, strict=True)
    )
    assert all(block.fields == body.fields for block in blocks)
    assert (body.is_update, body.affected_rows, body.timing) == (False, 0, 0)
    assert body.precision is Precision.MILLISECOND
    assert typed(rows_of(blocks)) == typed(ROWS)
    if size < 100:
        assert len(blocks) > 20


def test_every_type_by_its_code():
    """Servers of 2.x write types as numbers, whose DECIMALs then have no scale."""
    body, blocks = fed(pieces_of(CODED, 50))
    assert [field.type for field in body.fields] == [code for _, code, *_ in TYPES]
    assert body.head.status == "succ"
    [block, *_] = blocks
    assert [field.precision for field in block.fields] == [0] * len(TYPES)
    decoder = RowDecoder(block.fields, block.precision)
    assert typed(row for block in blocks for row in decoder.rows(block)) == typed(ROWS)


def test_large_values():
    cells, rows = table(large=True)
    body = body_of(COLUMNS, cells)
    assert typed(read(body)) == typed(read(body, 16352)) == typed(rows)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(BODIES)), st.lists(st.integers(0, 20_000), max_size=40))
def test_random_pieces(shape, cuts):
    body = BODIES[shape]
    ends = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    pieces = [body[a:b] for a, b in pairwise(ends)]
    assert typed(rows_of(fed(pieces)[1])) == typed(as_json_reads(body))


@pytest.mark.parametrize("size", [1, 5, 1 << 20])
@pytest.mark.parametrize(("kind", "length"), [(kind, length) for _, kind, length in COLUMNS])
def test_columns_of_nothing_but_null(kind, length, size):
    assert values_of(kind, [b"null"] * 11, size, length) == [None] * 11
    assert values_of(kind, [b"null"] * 3, size, length, shape="objects") == [None] * 3


@pytest.mark.parametrize("shape", ["arrays", "objects", "legacy"])
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_no_rows(shape, size):
    body, blocks = fed(pieces_of(body_of([("c", "INT", 4)], [], shape=shape), size))
    assert blocks == []
    assert body.fields == (Field("c", TypeCode.INT, 4),)
    assert body.precision is None


@pytest.mark.parametrize("size", [1, 3, 1 << 20])
def test_blanks_between_all_words(size):
    document = {
        "code": 0,
        "column_meta": [["c", "INT", 4], ["d", "VARCHAR", 9]],
        "data": [[1, "], ["], [None, "},\n {"]],
        "rows": 2,
    }
    text = "\n \t" + json.dumps(document, indent=2) + "\n"
    assert read(text.encode(), size) == [(1, "], ["), (None, "},\n {")]
    document["data"] = [{"c": 1, "d": "a"}, {"c": 2, "d": None}]
    assert read(json.dumps(document, indent=1).encode(), size) == [(1, "a"), (2, None)]


def test_keys_in_another_order():
    """Servers of 2.x may tell the number of rows first; keys that are new do no harm."""
    text = (
        b'{"new":{"data":1},"rows":2,"timing":7,"column_meta":[["c","INT",4]],'
        b'"data":[[1],[2]],"later":[[3]]}'
    )
    for size in (1, 1000):
        body, blocks = fed(pieces_of(text, size))
        assert rows_of(blocks) == [(1,), (2,)]
        assert body.timing == 7


def test_names_of_columns():
    names = ["data", '"data":[', "],[", "a\\", '"', "涛", "", "x", "x"]
    columns = [(name, "INT", 4) for name in names]
    text = body_of(columns, [[b"%d" % number for number in range(9)]])
    for size in (1, 1000):
        body, blocks = fed(pieces_of(text, size))
        assert [field.name for field in body.fields] == names
        assert rows_of(blocks) == [tuple(range(9))]
    objects = body_of(columns[:-1], [[b"0"] * 8, [b"1"] * 8], shape="objects")
    assert read(objects, 1) == read(objects) == [(0,) * 8, (1,) * 8]


@pytest.mark.parametrize("size", [1, 1000])
def test_rows_as_objects_with_equal_names(size):
    """The second of two equal keys is all that would be left of both."""
    columns = [("a", "INT", 4), ("a", "INT", 4)]
    text = body_of(columns, [[b"1", b"2"]] * 3, shape="objects")
    with pytest.raises(ProtocolError, match="expected rows as objects of a, a"):
        read(text, size)


def test_what_is_known_while_it_comes():
    body = Body(reads=True)
    assert (body.head, body.fields, body.start, body.pending, body.done) == (
        None,
        (),
        b"",
        0,
        False,
    )
    assert body.next_block() is None
    body.feed(b'{"code":0,"column_meta":[["c","INT",4]],"da')
    assert (body.head, body.pending) == (None, 43)
    assert body.next_block() is None
    body.feed(b'ta":[[1],')
    assert body.head.column_meta == [("c", "INT", 4)]
    assert body.fields == (Field("c", TypeCode.INT, 4),)
    assert body.pending == 4
    assert body.next_block() is None
    body.feed(b"[2],[3")
    assert list(rows_of([body.next_block()])) == [(1,), (2,)]
    assert (body.pending, body.done) == (2, False)
    body.feed(b'],[4]],"rows":4,"timing":99}')
    assert rows_of([body.next_block()]) == [(3,)]
    body.end()
    assert (body.timing, body.done) == (0, False)
    assert rows_of([body.next_block()]) == [(4,)]
    assert (body.timing, body.done, body.pending) == (99, True, 0)
    assert body.next_block() is None


def test_the_start_of_a_body():
    text = one_column("INT", [b"%d" % number for number in range(1000)])
    for size in (1, 150, 1000, 1 << 20):
        body, _ = fed(pieces_of(text, size))
        assert body.start == text[:200]


# Updates.


@pytest.mark.parametrize(
    ("text", "timing"),
    [
        (b'{"code":0,"column_meta":[["affected_rows","INT",4]],"data":[[7]],"rows":1}', 0),
        (
            b'{"code":0,"column_meta":[["affected_rows","INT",4]],"data":[[7]],"rows":1,'
            b'"timing":815}',
            815,
        ),
        (
            b'{"code":0,"column_meta":[["affected_rows","INT",4]],'
            b'"data":[{"affected_rows":7}],"rows":1}',
            0,
        ),
        (
            b'{"status":"succ","head":["affected_rows"],"column_meta":[["affected_rows",4,4]],'
            b'"rows":1,"data":[[7]]}',
            0,
        ),
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_updates(text, timing, size):
    body, blocks = fed(pieces_of(text, size), reads=False)
    assert blocks == []
    assert (body.is_update, body.affected_rows, body.timing) == (True, 7, timing)
    body, blocks = fed(pieces_of(text, size), reads=True)
    assert rows_of(blocks) == [(7,)]
    assert (body.is_update, body.affected_rows) == (False, 0)


def test_statements_that_return_rows_and_are_no_queries():
    for name, count in (("affected", 1), ("affected_rows", 2)):
        text = body_of([(name, "INT", 4)] * count, [[b"5"] * count])
        body, blocks = fed([text], reads=False)
        assert rows_of(blocks) == [(5,) * count]
        assert body.is_update is False


# Refusals, and short bodies.


@pytest.mark.parametrize(
    ("text", "code", "desc", "status", "timing"),
    [
        (b'{"code":9728,"desc":"syntax error","timing":947}', 9728, "syntax error", None, 947),
        (b'{"status":"error","code":3,"desc":"\xe6\xb6\x9b"}', 3, "涛", "error", 0),
        (b'{"status":"error","code":0,"desc":""}', 0, "", "error", 0),
        (b' {"code":5,"desc":"\\"data\\":[","new":[1]}\n', 5, '"data":[', None, 0),
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_refusals(text, code, desc, status, timing, size):
    body, blocks = fed(pieces_of(text, size))
    head = body.head
    assert blocks == []
    assert (head.code, head.desc, head.status, head.is_refusal) == (code, desc, status, True)
    assert body.timing == timing


def test_short_bodies():
    head = parse_head(b'{"code":0,"desc":"token"}')
    assert (head.code, head.desc, head.is_refusal) == (0, "token", False)
    assert parse_head(b' {"status":"succ"}').is_refusal is False
    for text in (
        *(b"", b" ", b"404 page not found", b'"memory exceeds threshold"', b"[1]", b"null", b"0"),
        *(b"{", b'{"code":"x"}', b'{"code":1,"desc":2}', b"{}{}"),
        *(b'{"code":1}x', b'{"column_meta":[["a",1]]}', b'{"code":1.5}', b'{"code":null}'),
    ):
        assert parse_head(text) is None


@pytest.mark.parametrize("text", [b"404 page not found", b'"memory exceeds threshold"', b"[1]"])
def test_bodies_that_are_no_objects(text):
    """They are refused with the first of their bytes."""
    for pieces in ([text], [b" \n", text], [b" " * 199, text], [text[:1]]):
        with pytest.raises(ProtocolError, match="expected a JSON object"):
            fed(pieces)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" \r\n",
        b" " * 300 + b"[1]",
        b"{",
        b"{}",
        b'{"code":0}',
        b'{"code":0,"desc":"token"}',
        b'{"status":"succ"}',
        b'{"code":1',
        b'{"code":"1"}',
        b'{"code":0,"column_meta":[["c","INT",4]]}',
        b'{"code":0,"column_meta":[["c","INT",4]],"data":null,"rows":0}',
    ],
)
def test_bodies_without_rows(text):
    for size in (1, 1000):
        with pytest.raises(ProtocolError, match="the body ends before its rows"):
            fed(pieces_of(text, size))


# What is cut off, or announced wrongly.

SHORT = [
    ("ts", "TIMESTAMP", 8),
    ("v", "INT", 4),
    ("s", "VARCHAR", 9),
    ("j", "JSON", 4095),
]
SHORT_CELLS = [
    [b'"2024-03-01T00:00:00.001Z"', b"12", string('],["'), b'{"a":1}'],
    [b"null", b"-34", string("}\\"), b"null"],
    [b'"2024-03-01T00:00:00.1Z"', b"null", string("\\],["), b'{"b":"],["}'],
    [b'"2024-03-01T00:00:00.100Z"', b"567", b"null", b"{}"],
]


@pytest.mark.parametrize("shape", ["arrays", "objects", "legacy"])
@pytest.mark.parametrize("size", [1, 9, 1 << 20])
def test_cut_anywhere(shape, size):
    """At the end it is told, and no row before it is wrong."""
    text = body_of(SHORT, SHORT_CELLS, shape=shape, end=b',"timing":123')
    expected = typed(as_json_reads(text))
    assert typed(read(text, size)) == expected
    counts = set()
    for cut in range(len(text)):
        body, seen = Body(reads=True), []
        for piece in pieces_of(text[:cut], size):
            body.feed(piece)
            if (block := body.next_block()) is not None:
                seen += rows_of([block])
        with pytest.raises(ProtocolError):  # noqa: PT012
            body.end()
            body.next_block()
        assert not body.done
        assert typed(seen) == expected[: len(seen)]
        counts.add(len(seen))
    assert counts == {0, 1, 2, 3}


@pytest.mark.parametrize("text", [b'{"code":9,"desc":"no","timing":12}', b'{"status":"error"}'])
def test_refusals_cut_anywhere(text):
    for cut in range(len(text)):
        with pytest.raises(ProtocolError, match="the body ends before its rows"):
            fed([text[:cut]])


@pytest.mark.parametrize("announced", [0, 1, 3, 2**40, -2])
@pytest.mark.parametrize("size", [1, 1000])
def test_rows_announced_wrongly(announced, size):
    text = one_column("INT", [b"1", b"2"], announced=announced)
    with pytest.raises(ProtocolError) as caught:
        read(text, size)
    assert str(caught.value) == f"the body announces {announced} rows and has 2"


def test_a_wrong_number_of_rows_is_not_done():
    body = Body(reads=True)
    body.feed(one_column("INT", [b"1", b"2"], announced=5))
    body.end()
    with pytest.raises(ProtocolError, match="announces 5 rows and has 2"):
        body.next_block()
    assert not body.done


def test_rows_that_nobody_announced():
    text = b'{"code":0,"column_meta":[["c","INT",4]],"data":[[1]]}'
    with pytest.raises(ProtocolError, match="the body announces None rows and has 1"):
        read(text)


@pytest.mark.parametrize(
    "end",
    [
        b'],"rows":1',
        b'],"rows":1}}',
        b'],"rows":1}{}',
        b'],"rows":"1"}',
        b"]",
        b"]]",
        b'],"rows":}',
        b"",
        b",]}",
        b'}],"rows":1}',
        b'],"rows":1.5}',
        b'],"rows":1,"timing":"x"}',
        b"\x00",
    ],
)
def test_wrong_ends(end):
    for size in (1, 1000):
        with pytest.raises(ProtocolError, match=NOT_UNDERSTOOD):
            read(b'{"code":0,"column_meta":[["c","INT",4]],"data":[[1]' + end, size)


# Limits.


def test_too_much_before_the_rows(monkeypatch):
    monkeypatch.setattr(rest, "MAX_PENDING", 100)
    text = b'{"code":0,"column_meta":[["' + b"x" * 100
    body = Body(reads=True)
    body.feed(text[:100])
    with pytest.raises(ProtocolError, match="the head of the body has more than 0 MiB"):
        body.feed(text[100:101])
    monkeypatch.undo()
    body = Body(reads=True)
    body.feed(text + b" " * (1 << 20))
    assert body.pending > 1 << 20


@pytest.mark.parametrize("shape", ["arrays", "objects"])
def test_a_row_that_is_too_long(monkeypatch, shape):
    monkeypatch.setattr(rest, "MAX_PENDING", 5 << 20)
    text = one_column("VARCHAR", [b'"a"', b'"%b"' % (b"],[" * (2 << 20))], shape=shape)
    body = Body(reads=True)
    body.feed(text[:200])
    assert rows_of([body.next_block()]) == [("a",)]
    at = 200 + (5 << 20) - body.pending
    body.feed(text[200:at])
    assert body.pending == 5 << 20
    assert body.next_block() is None
    body.feed(text[at : at + 1])
    with pytest.raises(ProtocolError, match="a row has more than 5 MiB"):
        body.next_block()


def test_rows_are_decoded_as_they_come(monkeypatch):
    """A body may be as long as it likes; what is held is one row and a piece."""
    monkeypatch.setattr(rest, "MAX_PENDING", 600)
    cells = [b'"%04d%b"' % (number, b"],[" * 30) for number in range(3000)]
    text = one_column("VARCHAR", cells)
    body, seen, held = Body(reads=True), 0, 0
    for piece in pieces_of(text, 400):
        body.feed(piece)
        if (block := body.next_block()) is not None:
            seen += len(block)
        held = max(held, body.pending)
    assert held < 150
    assert seen == 2999


# Values that are not what their column announces.

WRONG = [
    ("BOOL", [b"0", b"1", b'"true"', b"[]", b"{}"]),
    ("TINYINT", [b"128", b"-129", b"1.5", b"1.0", b'"1"', b"true", b"1e2", b"[1]"]),
    ("SMALLINT", [b"32768", b"-32769", b"1.5"]),
    ("INT", [b"2147483648", b"-2147483649", b"1e1", b"01", b"+1", b"NaN"]),
    ("BIGINT", [b"9223372036854775808", b"-9223372036854775809", b"1.5"]),
    ("TINYINT UNSIGNED", [b"256", b"-1"]),
    ("SMALLINT UNSIGNED", [b"65536", b"-1"]),
    ("INT UNSIGNED", [b"4294967296", b"-1"]),
    ("BIGINT UNSIGNED", [b"1.5", b'"1"', b"false"]),
    ("FLOAT", [b'"1"', b"true", b"NaN", b"Infinity", b"1e400"]),
    ("DOUBLE", [b'"1"', b"false", b"nan", b"-Infinity", b"1e309", b".5"]),
    ("VARCHAR", [b"1", b"true", b"[]", b'{"a":1}', b"'a'", b'"\\x41"', b'"\\ud800"', b'"\n"']),
    ("NCHAR", [b"1", b"false", b'"\\udc00"']),
    ("TIMESTAMP", [b"true", b"1.5", b"[]"]),
    ("VARBINARY", [b"0", b"[]"]),
    ("BLOB", [b"1"]),
    ("DECIMAL(10,3)", [b"true", b'"x"', b'""', b"[]", b'"1,5"', b'"1.5.0"']),
    ("JSON", [b"undefined", b"{a:1}", b"[1", b'{"a":1,}', b"'a'"]),
    ("NULL", [b"0", b'""', b"false"]),
]


@pytest.mark.parametrize(
    ("kind", "cell"), [(kind, cell) for kind, cells in WRONG for cell in cells]
)
@pytest.mark.parametrize("shape", ["arrays", "objects"])
def test_values_of_other_types(kind, cell, shape):
    good = b'{"a":1}' if kind == "JSON" else b"null"
    for cells in ([cell], [good, cell, good]):
        for size in (1, 1000):
            with pytest.raises(ProtocolError, match=NOT_UNDERSTOOD):
                read(one_column(kind, cells, shape=shape), size)


@pytest.mark.parametrize(
    ("kind", "cell", "problem"),
    [
        ("BIGINT UNSIGNED", b"18446744073709551616", "is not a value of BIGINT UNSIGNED"),
        ("BIGINT UNSIGNED", b"-1", "is not a value of BIGINT UNSIGNED"),
        ("BIGINT UNSIGNED", b"1" * 30, "is not a value of BIGINT UNSIGNED"),
        ("FLOAT", b"3.4028236e+38", "is not a value of FLOAT"),
        ("FLOAT", b"-1e39", "is not a value of FLOAT"),
        ("VARBINARY", b'"0"', "has a value that is not hex"),
        ("VARBINARY", b'"0x00"', "has a value that is not hex"),
        ("GEOMETRY", b'"0g"', "has a value that is not hex"),
        ("BLOB", '"٠٠"'.encode(), "has a value that is not hex"),
        ("MEDIUMBLOB", b'"00\xff"', "has a value that is not hex"),
        ("TIMESTAMP", b'"now"', "expected a time as RFC 3339 writes it, got 'now'"),
        ("TIMESTAMP", b'""', "expected a time as RFC 3339 writes it, got ''"),
        ("TIMESTAMP", b'"\xff"', r"expected a time as RFC 3339 writes it, got '\\udcff'"),
        ("TIMESTAMP", b'"2024-03-01 00:00:00.000"', "expected a time as RFC 3339 writes it"),
        ("TIMESTAMP", b'"2023-02-29T00:00:00.000Z"', "there is no such day"),
        ("TIMESTAMP", b'"2024-02-29T24:00:00.000Z"', "there is no such time of day"),
        ("TIMESTAMP", b'"2500-01-01T00:00:00.000000001Z"', "a time beyond 64 bits of ns"),
        ("TIMESTAMP", b"0", "expected times as texts, got integers"),
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_values_beyond_their_types(kind, cell, problem, size):
    for cells in ([cell], [b"null", cell, b"null"]):
        with pytest.raises(ProtocolError, match=problem):
            fed(pieces_of(one_column(kind, cells), size))


def test_the_row_of_a_value_beyond_its_type():
    with pytest.raises(ProtocolError) as caught:
        in_one(one_column("BIGINT UNSIGNED", [b"1", b"null", b"-5"]))
    assert str(caught.value) == "column 'c', row 2: -5 is not a value of BIGINT UNSIGNED"


@pytest.mark.parametrize("cell", [b'"10000000.000"', b'"0.0001"', b'"NaN"', b'"Infinity"'])
def test_decimals_beyond_their_columns(cell):
    """Rows do not have what columns refuse."""
    with pytest.raises(ProtocolError, match=r"has a value that is no DECIMAL\(10,3\)"):
        fed([one_column("DECIMAL(10,3)", [cell])])


@pytest.mark.parametrize(
    "row",
    [b"[1]", b"[1,2,3]", b"[]", b"1", b"null", b'{"a":1}', b'{"a":1,"b":2,"c":3}', b'"1"', b"[1,]"],
)
def test_rows_of_another_width(row):
    meta = b'{"code":0,"column_meta":[["a","INT",4],["b","INT",4]],"data":['
    for rows in ([row], [row, row], [b"[1,2]", row], [row, b"[1,2]"]):
        text = meta + b",".join(rows) + b'],"rows":%d}' % len(rows)
        for size in (1, 1000):
            with pytest.raises(ProtocolError, match=f"{NOT_UNDERSTOOD}|expected rows as objects"):
                read(text, size)


def test_rows_of_two_kinds():
    meta = b'{"code":0,"column_meta":[["a","INT",4]],"data":['
    for rows in (b'[1],{"a":2},[3]', b'{"a":1},[2],{"a":3}', b'{"a":1},[2]', b'[1],{"a":2}'):
        for size in (1, 1000):
            with pytest.raises(ProtocolError, match=NOT_UNDERSTOOD):
                read(meta + rows + b'],"rows":%d}' % (rows.count(b",") + 1), size)


@pytest.mark.parametrize(
    "kind",
    [
        "int",
        "INT4",
        "",
        "VARCHAR(64)",
        "DECIMAL",
        "DECIMAL(10)",
        "DECIMAL(a,b)",
        "DECIMAL(1,1) ",
        "DECIMAL64",
        "UTINYINT",
        b"22",
        b"-1",
        b"100",
    ],
)
def test_unknown_types(kind):
    named = repr(kind) if isinstance(kind, str) else kind.decode()
    for size in (1, 1000):
        with pytest.raises(ProtocolError) as caught:
            read(body_of([("a", "INT", 4), ("b", kind, 4)], []), size)
        assert str(caught.value) == f"column 'b' has the unknown type {named}"


@pytest.mark.parametrize(
    ("meta", "problem"),
    [
        (b"[]", "the body names no columns"),
        (b'[["a","INT"]]', "the columns of the body cannot be understood"),
        (b'[["a","INT",4,4]]', "the columns of the body cannot be understood"),
        (b'["a"]', "the columns of the body cannot be understood"),
        (b'[["a",null,4]]', "the columns of the body cannot be understood"),
        (b'[["a",4.5,4]]', "the columns of the body cannot be understood"),
        (b'[[1,"INT",4]]', "the columns of the body cannot be understood"),
        (b'[["a","INT","4"]]', "the columns of the body cannot be understood"),
        (b'[["a","INT",4]', "the columns of the body cannot be understood"),
        (b"null", "the columns of the body cannot be understood"),
    ],
)
def test_wrong_columns(meta, problem):
    for size in (1, 1000):
        with pytest.raises(ProtocolError) as caught:
            read(b'{"code":0,"column_meta":%b,"data":[],"rows":0}' % meta, size)
        assert str(caught.value) == problem
    with pytest.raises(ProtocolError, match="the body names no columns"):
        read(b'{"code":0,"data":[],"rows":0}')


def test_decimals_with_a_blank():
    """So the manual writes them."""
    body, blocks = fed([one_column("DECIMAL(10, 3)", [b'"1.500"'])])
    assert body.fields == (Field("c", TypeCode.DECIMAL64, 8, 10, 3),)
    assert typed(rows_of(blocks)) == ["(Decimal('1.500'),)"]


# Numbers.


def go_float(value: float) -> bytes:
    """A double as Go writes it: exponents only where numbers are very small or large."""
    if value and not 1e-6 <= abs(value) < 1e21:
        return repr(value).replace(".0e", "e").encode()
    text = format(Decimal(repr(value)), "f")
    return (text.removesuffix(".0")).encode()


def is_not_minus_zero(value: float) -> bool:
    """It has a test of its own."""
    return value != 0 or math.copysign(1, value) > 0


FINITE = st.floats(allow_nan=False, allow_infinity=False)
SINGLE = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(max_examples=200, deadline=None)
@given(st.lists(FINITE.filter(is_not_minus_zero), min_size=1))
@example([1e20, 123456789012345678901.0, 2.0**63, 2.0**64, 2.0**53 + 2, 1e-6, 9.9e-7])
def test_doubles(values):
    assert typed(values_of("DOUBLE", map(go_float, values))) == typed(values)


@settings(max_examples=200, deadline=None)
@given(st.lists(SINGLE.filter(is_not_minus_zero), min_size=1))
def test_floats(values):
    """The shortest text of 32 bits is not the double that is meant."""
    texts = [b"%.9g" % value for value in values]
    assert typed(values_of("FLOAT", texts)) == typed(
        struct.unpack("<f", struct.pack("<f", float(text)))[0] for text in texts
    )


@pytest.mark.parametrize("kind", ["FLOAT", "DOUBLE"])
def test_the_sign_of_zero(kind):
    """Go writes it without a point."""
    values = values_of(kind, [b"-0.0", b"0.0", b"0", b"-0"])
    assert typed(values) == ["-0.0", "0.0", "0.0", "-0.0"]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1) | st.none(), min_size=1))
def test_large_integers(values):
    cells = [json.dumps(value).encode() for value in values]
    assert values_of("BIGINT UNSIGNED", cells) == values
    lower = [None if value is None else value - 2**63 for value in values]
    assert values_of("BIGINT", [json.dumps(value).encode() for value in lower]) == lower


# Texts.

BYTES = [b"\xff", b"\x80", b"\xc3", b"\xe6\xb6", b"\xf0\x9f\x9a", b"\xed\xa0\x80", b"a\xff],[b"]
PRIVATE = [
    "\U000f0000",
    "\U000f007f\U000f0080",
    "".join(map(chr, range(0xF0000, 0xF0400))),
    "".join(map(chr, range(0xF0000, 0xFFF00, 128))),
    "\U0010fffd",
]


@pytest.mark.parametrize("kind", ["VARCHAR", "NCHAR"])
@pytest.mark.parametrize("raw", BYTES)
@pytest.mark.parametrize("size", [1, 1000, 1 << 20])
@pytest.mark.parametrize("shape", ["arrays", "objects"])
def test_bytes_that_are_not_utf8(kind, raw, size, shape):
    """TDengine stores any bytes; the text gives them back."""
    texts = [raw, b"plain", raw + "涛".encode(), *(raw + text.encode() for text in PRIVATE), b""]
    values = values_of(kind, [*map(string, texts), b"null"], size, 32, shape=shape)
    assert values.pop() is None
    assert [value.encode("utf-8", "surrogateescape") for value in values] == texts
    assert values == [text.decode("utf-8", "surrogateescape") for text in texts]


def test_private_characters_of_all_windows():
    """No range of them is left to stand for the bytes that are not UTF-8."""
    text = "".join(map(chr, range(0xF0000, 0x10FFFE, 64)))
    assert values_of("VARCHAR", [string(text.encode())]) == [text]
    with pytest.raises(ProtocolError, match="not UTF-8 beside private characters"):
        values_of("VARCHAR", [string(text.encode() + b"\xff")])


def test_private_characters_as_escapes():
    """What JSON escapes is not among the characters of the body."""
    assert values_of("VARCHAR", [b'"\\udb80\\udc00"']) == ["\U000f0000"]
    with pytest.raises(ProtocolError, match="not UTF-8 beside private characters"):
        values_of("VARCHAR", [b'"\\udb80\\udc00\xff"'])


def test_bytes_that_are_not_utf8_in_other_columns():
    """Neighbours are not changed by them."""
    columns = [
        ("a", "VARCHAR", 9),
        ("b", "INT", 4),
        ("t", "TIMESTAMP", 8),
        ("d", "DECIMAL(5,2)", 8),
    ]
    columns += [("x", "BLOB", 9), ("f", "DOUBLE", 8), ("o", "BOOL", 1), ("j", "JSON", 4095)]
    rest_of_row = [b"1", b'"1970-01-01T00:00:00.001Z"', b'"1.50"', b'"ff"', b"0.5", b"true"]
    cells = [[string(b"\xff"), *rest_of_row, '{"k":"\U000f0000"}'.encode()]]
    for shape in ("arrays", "objects"):
        text = body_of(columns, cells * 2, shape=shape)
        for size in (1, 1000):
            assert typed(read(text, size)) == typed(as_json_reads(text))


def test_bytes_that_are_not_utf8_in_names():
    """TDengine cuts long ones inside a character."""
    rows = (b'[["\xfe"],["b"]]', b'[{"\xff":"\xfe"},{"\xff":"b"}]')
    for data in rows:
        text = b'{"code":0,"column_meta":[["\xff","VARCHAR",9]],"data":%b,"rows":2}' % data
        for size in (1, 1000):
            body, blocks = fed(pieces_of(text, size))
            assert body.fields == (Field("\udcff", TypeCode.VARCHAR, 9),)
            assert rows_of(blocks) == [("\udcfe",), ("b",)]


def test_a_refusal_that_is_not_utf8():
    head = parse_head(b'{"code":1,"desc":"a\xff"}')
    assert (head.code, head.desc) == (1, "a\udcff")


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.none()
        | st.lists(
            st.sampled_from([*map(bytes, BYTES), b"],[", b"},{", b"\\", b'"', b"\0", b"\n"])
            | st.binary(max_size=4)
            | st.text(max_size=4).map(lambda text: text.encode("utf-8", "replace")),
            max_size=6,
        ).map(b"".join),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from(["arrays", "objects"]),
    st.integers(1, 60),
)
def test_any_bytes(texts, shape, size):
    cells = [b"null" if text is None else string(text) for text in texts]
    columns = [("s", "VARCHAR", 9), ("t", "VARCHAR", 9)]
    pairs = list(zip(cells, reversed(cells), strict=True))
    text = body_of(columns, pairs, shape=shape)
    expected = [None if text is None else text.decode("utf-8", "surrogateescape") for text in texts]
    assert read(text, size) == list(zip(expected, reversed(expected), strict=True))
    assert read(text, size) == as_json_reads(text)


# JSON.

DOCUMENTS = [
    '{"a":1.000000000,"b":1e3}',
    '{"a":"\\u6d9b\\n\\"\\\\","b":"涛"}',
    '{ "a" : [ ] }',
    '{"a":1,"a":2}',
    "12345678901234567890123",
    "-0",
    '""',
    '"null"',
    "true",
    "[]",
]


@pytest.mark.parametrize("shape", ["arrays", "objects"])
@pytest.mark.parametrize("size", [1, 10, 1000])
def test_documents_are_their_text(shape, size):
    cells = [text.encode() for text in DOCUMENTS]
    values = values_of("JSON", [b"null", *cells, b"null"], size, shape=shape)
    assert values == [None, *DOCUMENTS, None]


@pytest.mark.parametrize("shape", ["arrays", "objects"])
@pytest.mark.parametrize("size", [1, 1000])
def test_documents_that_are_not_utf8(shape, size):
    """As rows, and as columns."""
    documents = [b'{"a":"\xff"}', '{"a":"\U000f0000"}'.encode(), b'{"\x80":1}']
    expected = [text.decode("utf-8", "surrogateescape") for text in documents]
    _, blocks = fed(pieces_of(one_column("JSON", documents, shape=shape), size))
    decoder = RowDecoder(blocks[0].fields, blocks[0].precision)
    assert [row[0] for block in blocks for row in decoder.rows(block)] == expected
    assert [row[0] for row in rows_of(blocks)] == expected


@pytest.mark.parametrize("shape", ["arrays", "objects"])
@pytest.mark.parametrize("size", [1, 5, 1000])
def test_nested_documents(shape, size):
    """What ends a row may stand in a document."""
    documents = ["[[1],[2]]", '{"a":[{"b":1},{"b":2}]}', '[{"a":[[1],[2]]},{"a":[]}]', "[]"]
    cells = [text.encode() for text in documents]
    assert values_of("JSON", cells, size, shape=shape) == documents


@pytest.mark.parametrize("shape", ["arrays", "objects"])
def test_documents_of_endless_depth(shape):
    with pytest.raises(ProtocolError):
        values_of("JSON", [b"[" * 100_000 + b"]" * 100_000], shape=shape)


def test_heads_of_endless_depth():
    text = b'{"a":%b}' % (b"[" * 100_000 + b"]" * 100_000)
    assert parse_head(text) is None


# Times.


@pytest.mark.parametrize(
    ("texts", "precision", "ticks"),
    [
        (["2024-03-01T00:00:00.001Z"], 0, [1709251200001]),
        (["2024-03-01T00:00:00.000001Z"], 1, [1709251200000001]),
        (["2024-03-01T00:00:00.000000001Z"], 2, [1709251200000000001]),
        (["1970-01-01T00:00:01Z", None, "1970-01-01T00:00:00.5Z"], 0, [1000, None, 500]),
        (["1970-01-01T00:00:00.5Z", "1970-01-01T01:00:00.0001+01:00"], 1, [500000, 100]),
        (["1970-01-01T00:00:01Z", None, "1970-01-01T00:00:00.0000001Z"], 2, [10**9, None, 100]),
        (["1969-12-31T23:59:59.9999999Z", "1970-01-01T00:00:00Z"], 2, [-100, 0]),
    ],
)
def test_digits_tell_the_precision(texts, precision, ticks):
    cells = [json.dumps(text).encode() for text in texts]
    body, block = in_one(one_column("TIMESTAMP", cells))
    assert body.precision is block.precision is Precision(precision)
    assert [row[0] for row in rows_of([block], timestamp="int")] == ticks


def test_several_columns_of_times():
    """All of them have the precision of the finest."""
    columns = [("a", "TIMESTAMP", 8), ("v", "INT", 4), ("b", "TIMESTAMP", 8), ("c", "TIMESTAMP", 8)]
    cells = [
        [b'"1970-01-01T00:00:01.5Z"', b"1", b"null", b"null"],
        [b'"1970-01-01T00:00:00Z"', b"2", b'"1970-01-01T00:00:00.000002Z"', b"null"],
        [b"null", b"3", b'"1970-01-01T01:00:00.25+01:00"', b"null"],
    ]
    text = body_of(columns, cells)
    _, block = in_one(text)
    assert block.precision is Precision.MICROSECOND
    assert rows_of([block], timestamp="int") == [
        (1_500_000, 1, None, None),
        (0, 2, 2, None),
        (None, 3, 250_000, None),
    ]
    # Row by row, each block has its own; the times are the same.
    body, blocks = fed(pieces_of(text, 1))
    assert [(block.precision, len(block)) for block in blocks] == [(0, 1), (1, 1), (1, 1)]
    assert body.precision is Precision.MICROSECOND
    assert rows_of(blocks) == as_json_reads(text)
    assert rows_of(blocks, timestamp="int") == [
        (1500, 1, None, None),
        (0, 2, 2, None),
        (None, 3, 250_000, None),
    ]


@pytest.mark.parametrize("digits", [3, 6, 9])
def test_times_after_many_nulls(digits):
    fraction = "0" * (digits - 1) + "7"
    cells = [b"null"] * 5 + [f'"1970-01-01T00:00:00.{fraction}Z"'.encode(), b"null"]
    body = Body(reads=True)
    text = one_column("TIMESTAMP", cells)
    at = text.index(b'"1970')
    body.feed(text[:at])
    early = body.next_block()
    assert (body.precision, early.precision) == (None, Precision.MILLISECOND)
    body.feed(text[at:])
    body.end()
    late = body.next_block()
    assert body.precision is late.precision is Precision(digits // 3 - 1)
    values = [row[0] for row in rows_of([early, late], timestamp="int")]
    assert values == [None, None, None, None, None, 7, None]
    assert [len(early), len(late)] == [5, 2]


def test_ticks_of_old_servers():
    """``/rest/sqlt`` writes integers, which do not tell what they count."""
    cells = [b"null", b"9223372036854775807", b"-9223372036854775808", b"0", b"null"]
    for size in (1, 1000):
        body, blocks = fed(pieces_of(one_column(b"9", cells, shape="legacy"), size))
        assert body.precision is None
        assert {block.precision for block in blocks} == {Precision.MILLISECOND}
        assert [row[0] for row in rows_of(blocks, timestamp="int")] == [
            *(None, 2**63 - 1, -(2**63), 0, None),
        ]


def test_ticks_and_texts_in_one_block():
    for cells in ([b"1", b'"1970-01-01T00:00:00Z"'], [b'"1970-01-01T00:00:00Z"', b"1"]):
        with pytest.raises(ProtocolError, match="expected times as 64-bit integers"):
            in_one(one_column(b"9", cells, shape="legacy"))


@pytest.mark.parametrize("cell", [b"9223372036854775808", b"-9223372036854775809"])
def test_ticks_beyond_64_bits(cell):
    with pytest.raises(ProtocolError, match="expected times as 64-bit integers"):
        in_one(one_column(b"9", [cell], shape="legacy"))


def test_far_times():
    cells = [b'"0000-01-01T00:00:00.000Z"', b'"-0001-12-31T23:59:59.999Z"']
    cells += [b'"10000-01-01T00:00:00.000Z"', b'"292278994-08-17T07:12:55.807Z"']
    _, blocks = fed(pieces_of(one_column("TIMESTAMP", cells), 9))
    assert list(chain.from_iterable(rows_of(blocks, timestamp="int"))) == [
        *(-62167219200000, -62167219200001, 253402300800000, 2**63 - 1),
    ]


# Recordings.


@pytest.fixture(scope="module")
def exchanges(recording):
    return recording("rest").events


def test_recorded_bodies(exchanges):
    """Each is fed whole, byte by byte, and in pieces; its rows are those of ``json``."""
    seen = rows = refusals = updates = 0
    for event in exchanges:
        text = base64.b64decode(event["resp_b64"])
        if not text.startswith(b'{"code":') or event["status"] == 500:
            continue
        document = json.loads(text)
        seen += 1
        if "login" in event["path"] and document["code"] == 0:
            assert parse_head(text).desc == document["desc"]
            with pytest.raises(ProtocolError, match="the body ends before its rows"):
                fed([text])
            continue
        for size in (1, 13, 1 << 20):
            body, blocks = fed(pieces_of(text, size), reads=event["req_body"][:6] == "select")
            if document["code"]:
                assert (body.head.code, body.head.desc) == (document["code"], document["desc"])
                assert body.timing == document["timing"]
                assert blocks == []
                continue
            assert [[field.name, field.type.sql_name, field.length] for field in body.fields] == [
                [name, kind.partition("(")[0], length]
                for name, kind, length in document["column_meta"]
            ]
            if body.is_update:
                assert body.affected_rows == document["data"][0][0]
            elif "cap_ns" in event["req_body"]:
                assert body.precision is Precision.NANOSECOND
                start = 1_709_251_200_000_000_000
                assert rows_of(blocks) == [(start + 1,), (start + 2,), (start + 3,)]
            else:
                assert typed(rows_of(blocks)) == typed(as_json_reads(text))
        refusals += document["code"] != 0
        updates += body.is_update
        rows += len(document.get("data", ()))
    assert (seen, refusals, updates, rows) == (23, 8, 2, 43)


@pytest.mark.parametrize("shape", ["arrays", "objects"])
def test_a_zero_with_a_sign_beside_others(shape):
    """Where one stands, all numbers of its piece are read from their texts."""
    rows = [("-0", "1.5", '",-0,"'), ("null", "-0", '"b"'), ("1e300", "7", '"c"')]
    meta = b'{"code":0,"column_meta":[["a","DOUBLE",8],["b","FLOAT",4],["c","VARCHAR",9]],"data":['
    if shape == "arrays":
        texts = [f"[{a},{b},{c}]" for a, b, c in rows]
    else:
        texts = [f'{{"a":{a},"b":{b},"c":{c}}}' for a, b, c in rows]
    body = meta + ",".join(texts).encode() + b'],"rows":3}'
    for size in (1, 1000):
        assert repr(read(body, size)) == repr(
            [(-0.0, 1.5, ",-0,"), (None, -0.0, "b"), (1e300, 7.0, "c")]
        )


def test_a_number_out_of_range_beside_a_zero_with_a_sign():
    with pytest.raises(ProtocolError, match="not what the columns announce"):
        values_of("DOUBLE", [b"-0", b"1e400", b"1"])
    with pytest.raises(ProtocolError, match="not what the columns announce"):
        values_of("DOUBLE", [b"-0", b'"x"'])


def test_hex_with_blanks():
    """Python would take it."""
    with pytest.raises(ProtocolError, match="column 'c' has a value that is not hex"):
        values_of("VARBINARY", [b'" 00"'])

"""A server that answers with blocks which are ready beforehand, so that only the client works.

    python benchmarks/canned.py [--port 0] [--rows 400000]

It speaks taosAdapter's ``/ws``, and ``/rest/sql``, as far as reading needs it: any login is right,
a query is recognised by the table it names (those of ``datasets.py``, ``limit`` and ``union all``
included) or is ``select <n>``, and every other statement changes nothing. A table is encoded when
it is first asked for; an answer then costs no more than a header. The first line it prints is the
port.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import re
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache, cached_property, partial
from itertools import chain, repeat
from typing import Any, cast

import datasets
import msgspec
import numpy as np
from datasets import DATABASE, Columns, DataSet

from aiotaos.protocol import frames, messages
from aiotaos.protocol.encode import encode_block
from aiotaos.types import Field, TypeCode

BLOCK_ROWS = 4096  # as TDengine sends them
VERSION = "3.3.7.5"
TIMING = 1_000  # ns that every answer says it took
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10

TABLE = re.compile(rf"from\s+{DATABASE}\.(\w+)")
LIMIT = re.compile(r"\slimit\s+(\d+)$")
NUMBER = re.compile(r"select\s+(-?\d+)$")
REQ_ID = struct.Struct("<Q")
REQ_ID_AT = 26  # in the answer to a binary fetch
RESULT_AT = 42
HEAD = 55  # bytes before its block


def websocket_head(opcode: int, size: int) -> bytes:
    """What stands before the payload of a whole message of the server."""
    if size < 126:
        return bytes((0x80 | opcode, size))
    if size < 65536:
        return struct.pack(">BBH", 0x80 | opcode, 126, size)
    return struct.pack(">BBQ", 0x80 | opcode, 127, size)


def unmasked(data: bytes, key: bytes) -> bytes:
    size = len(data)
    mask = int.from_bytes((key * (size // 4 + 1))[:size], "little")
    return (int.from_bytes(data, "little") ^ mask).to_bytes(size, "little")


class Block:
    """A block, and the heads of the messages that carry it but for their ids."""

    def __init__(self, raw: bytes, rows: int) -> None:
        self.raw = raw
        self.rows = rows
        whole = frames.fetch_reply(0, 0, block=raw, timing=TIMING)
        head = websocket_head(BINARY, len(whole))
        self._head = head + whole[:HEAD]
        self._req_id_at = len(head) + REQ_ID_AT
        self._result_at = len(head) + RESULT_AT

    def head(self, req_id: int, result_id: int) -> bytearray:
        """What goes before the block in the answer to a binary fetch."""
        head = bytearray(self._head)
        REQ_ID.pack_into(head, self._req_id_at, req_id)
        REQ_ID.pack_into(head, self._result_at, result_id)
        return head

    def old_head(self, result_id: int) -> bytes:
        """The same for ``fetch_block``."""
        whole = frames.old_block_reply(result_id, b"", timing=TIMING)
        return websocket_head(BINARY, len(whole) + len(self.raw)) + whole


def description(fields: tuple[Field, ...], *, is_update: bool = False) -> str:
    """The end of the answer to a query: what the columns are."""
    names, types, lengths, precisions, scales = messages.result_description(fields)
    told: dict[str, Any] = {
        "is_update": is_update,
        "affected_rows": 0,
        "fields_count": len(names),
        "fields_names": names or None,
        "fields_types": types or None,
        "fields_lengths": lengths or None,
        "precision": 0,
        "fields_precisions": precisions or None,
        "fields_scales": scales or None,
    }
    return msgspec.json.encode(told).decode()[1:]


UPDATE = description((), is_update=True)


class Answer:
    """A result: what it is, and its blocks, which may come several times."""

    def __init__(self, fields: tuple[Field, ...], blocks: list[Block], times: int = 1) -> None:
        self.description = description(fields)
        self._fields = fields
        self._blocks = blocks
        self._times = times

    @property
    def lengths(self) -> list[int]:
        return [field.length for field in self._fields]

    def blocks(self) -> Iterator[Block]:
        return chain.from_iterable(repeat(self._blocks, self._times))


class Table:
    """A table whose answers are made once."""

    def __init__(self, data: DataSet) -> None:
        self._data = data

    @cached_property
    def _columns(self) -> Columns:
        return self._data.make(self._data.rows)

    @cached_property
    def blocks(self) -> list[Block]:
        starts = range(0, self._data.rows, BLOCK_ROWS)
        return [self._block(start, start + BLOCK_ROWS) for start in starts]

    @cached_property
    def document(self) -> bytes:
        """The rows as REST gives them, without the brackets around all of them."""
        return self._document(self._data.rows)

    def _block(self, start: int, end: int) -> Block:
        columns = [column[start:end] for column in self._columns.values()]
        return Block(encode_block(self._data.fields, columns), len(columns[0]))

    def _document(self, rows: int) -> bytes:
        lists: list[list[Any]] = []
        for field, column in zip(self._data.fields, self._columns.values(), strict=True):
            if field.type is TypeCode.TIMESTAMP:
                texts = np.datetime_as_string(column[:rows].astype("datetime64[ms]"))
                lists.append([f"{text}Z" for text in texts])
            else:
                lists.append(column[:rows].tolist())
        return msgspec.json.encode(list(zip(*lists, strict=True)))[1:-1]

    def answer(self, limit: int | None, times: int) -> Answer:
        whole = self.blocks  # they are made by the query that warms up
        blocks = whole if limit is None else [self._block(0, min(limit, BLOCK_ROWS))]
        return Answer(self._data.fields, blocks, times)

    def body(self, limit: int | None, times: int) -> list[bytes]:
        """The answer of REST, in pieces."""
        whole = self.document
        rows = self._data.rows * times if limit is None else min(limit, self._data.rows)
        pieces = [whole] if limit is None else [self._document(rows)]
        between = [piece for one in pieces * times for piece in (b",", one)][1:]
        meta = [[field.name, field.type.sql_name, field.length] for field in self._data.fields]
        head = b'{"code":0,"column_meta":%s,"data":[' % msgspec.json.encode(meta)
        return [head, *between, b'],"rows":%d}' % rows]


class Library:
    """All that is ready."""

    def __init__(self, rows: int) -> None:
        self._tables = {data.name: Table(data) for data in datasets.all_of(rows)}

    def find(self, sql: str) -> tuple[Table, int | None, int] | None:
        """The table a query names, its limit, and how often it is wanted."""
        names = TABLE.findall(sql)
        table = self._tables.get(names[0]) if names else None
        if table is None:
            return None
        limit = LIMIT.search(sql)
        return table, int(limit[1]) if limit else None, len(names)

    def answer(self, sql: str) -> Answer | None:
        """What a query returns; None for what only changes something."""
        number = NUMBER.match(sql)
        if number is not None:
            return small_answer(int(number[1]))
        found = self.find(sql)
        return None if found is None else found[0].answer(*found[1:])

    def body(self, sql: str) -> list[bytes]:
        """The same for REST."""
        number = NUMBER.match(sql)
        if number is not None:
            form = b'{"code":0,"column_meta":[["%s","BIGINT",8]],"data":[[%s]],"rows":1}'
            value = number[1].encode()
            return [form % (value, value)]
        found = self.find(sql)
        if found is None:
            return [b'{"code":0,"column_meta":[["affected_rows","INT",4]],"data":[[0]],"rows":1}']
        return found[0].body(*found[1:])


SMALL = (Field("?", TypeCode.BIGINT, 8),)
SMALL_BLOCK = encode_block(SMALL, [[0]])
SMALL_DESCRIPTION = description(SMALL)


class SmallAnswer(Answer):
    """One row of one number."""

    def __init__(self, number: int) -> None:
        self.description = SMALL_DESCRIPTION.replace("?", str(number), 1)
        self._fields = SMALL
        self._times = 1
        # the number stands at the end, with one byte behind it
        self._blocks = [Block(SMALL_BLOCK[:-9] + struct.pack("<qx", number), 1)]


@cache
def small_answer(number: int) -> Answer:
    return SmallAnswer(number)


class Peer(asyncio.Protocol):
    """One client: its requests over HTTP, or its conversation over WebSocket."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._buffer = b""
        self._is_websocket = False
        self._last_id = 0
        self._results: dict[int, tuple[Answer, Iterator[Block]]] = {}
        self._waiting: dict[int, Block] = {}
        self._handlers: dict[str, Callable[[str, int, int], str | None]] = {
            "query": lambda sql, _, req_id: self._run(sql, "query", req_id),
            "fetch": self._fetch,
            "fetch_block": self._fetch_block,
            "free_result": self._free,
            "version": partial(self._told, "version", f',"version":"{VERSION}"'),
            "conn": partial(self._told, "conn", f',"version":"{VERSION}"'),
            "options_connection": partial(self._told, "options_connection", ""),
            "get_current_db": partial(self._told, "get_current_db", f',"db":"{DATABASE}"'),
            "get_server_info": partial(self._told, "get_server_info", f',"info":"ver:{VERSION}"'),
            "check_server_status": partial(self._told, "check_server_status", ',"status":2'),
        }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._write = self._transport.write

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        while self._buffer and (self._next_frame() if self._is_websocket else self._next_request()):
            pass

    # HTTP.

    def _next_request(self) -> bool:
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return False
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        size = int(headers.get("content-length", "0"))
        if len(rest) < size:
            return False
        self._buffer = rest[size:]
        if "sec-websocket-key" in headers:
            self._upgrade(headers["sec-websocket-key"].encode())
        elif first.startswith("POST /rest/sql"):
            body = self._library.body(rest[:size].decode().strip())
            self._write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\n"
                b"Content-Length: %d\r\n\r\n" % sum(map(len, body))
            )
            for piece in body:
                self._write(piece)
        else:
            self._write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        return True

    def _upgrade(self, key: bytes) -> None:
        accepted = base64.b64encode(hashlib.sha1(key + GUID).digest())
        self._write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %s\r\n\r\n" % accepted
        )
        self._is_websocket = True

    # WebSocket.

    def _next_frame(self) -> bool:
        """Take one message, which the clients send in one frame, masked."""
        buffer = self._buffer
        if len(buffer) < 6:
            return False
        size, start = buffer[1] & 0x7F, 2
        if size >= 126:
            width = 2 if size == 126 else 8
            if len(buffer) < 6 + width:
                return False
            size, start = int.from_bytes(buffer[2 : 2 + width], "big"), 2 + width
        end = start + 4 + size
        if len(buffer) < end:
            return False
        data = unmasked(buffer[start + 4 : end], buffer[start : start + 4])
        opcode, self._buffer = buffer[0] & 0x0F, buffer[end:]
        if opcode == BINARY:
            self._binary(data)
        elif opcode == TEXT:
            self._text(data)
        elif opcode == PING:
            self._write(websocket_head(PONG, size) + data)
        elif opcode == CLOSE:
            self._write(websocket_head(CLOSE, size) + data)
            self._transport.close()
        return True

    def _binary(self, data: bytes) -> None:
        request = frames.parse_request(data)
        if request.action == frames.Action.FETCH:
            self._fetch_raw(request.req_id, request.id)
        elif request.action == frames.Action.QUERY:
            sql = frames.parse_query_body(request.body)
            self._say(self._run(sql, "binary_query", request.req_id))
        else:
            self._say(self._refusal("", request.req_id, "not among the canned answers"))

    def _text(self, data: bytes) -> None:
        request = msgspec.json.decode(data)
        action, arguments = request["action"], request.get("args") or {}
        req_id = arguments.get("req_id", 0)
        handler = self._handlers.get(action)
        if handler is None:
            self._say(self._refusal(action, req_id, f"unknown action {action}"))
            return
        said = handler(arguments.get("sql", ""), arguments.get("id", 0), req_id)
        if said is not None:
            self._say(said)

    def _say(self, text: str) -> None:
        data = text.encode()
        self._write(websocket_head(TEXT, len(data)) + data)

    def _fetch_raw(self, req_id: int, id: int) -> None:
        block = self._next_block(id)
        if block is not None:
            self._write(block.head(req_id, id))
            self._write(block.raw)
            return
        data = frames.fetch_reply(req_id, id, timing=TIMING)
        self._write(websocket_head(BINARY, len(data)) + data)

    def _next_block(self, id: int) -> Block | None:
        """The next block of a result, which is forgotten behind the last one."""
        found = self._results.get(id)
        block = None if found is None else next(found[1], None)
        if block is None:
            self._results.pop(id, None)
        return block

    # Replies.

    def _envelope(self, action: str, req_id: int) -> str:
        return f'{{"code":0,"message":"","action":"{action}","req_id":{req_id},"timing":{TIMING}'

    def _told(self, action: str, rest: str, _sql: str, _id: int, req_id: int) -> str:
        return f"{self._envelope(action, req_id)}{rest}}}"

    def _refusal(self, action: str, req_id: int, message: str) -> str:
        return messages.reply(messages.Envelope(0xFFFF, message, action, req_id, TIMING))

    def _run(self, sql: str, action: str, req_id: int) -> str:
        sql = sql.strip()
        answer = self._library.answer(sql)
        if answer is None:
            if sql.lower().startswith(("select", "show")):
                return self._refusal(action, req_id, "not among the canned answers")
            return f'{self._envelope(action, req_id)},"id":0,{UPDATE}'
        self._last_id += 1
        self._results[self._last_id] = (answer, answer.blocks())
        return f'{self._envelope(action, req_id)},"id":{self._last_id},{answer.description}'

    def _fetch(self, _: str, id: int, req_id: int) -> str:
        answer = self._results.get(id)
        block = self._next_block(id)
        if answer is None or block is None:
            told = messages.FetchReply(action="fetch", req_id=req_id, id=id, completed=True)
        else:
            self._waiting[id] = block
            told = messages.FetchReply(
                action="fetch", req_id=req_id, id=id, lengths=answer[0].lengths, rows=block.rows
            )
        return messages.reply(told)

    def _fetch_block(self, _: str, id: int, req_id: int) -> str | None:
        block = self._waiting.pop(id, None)
        if block is None:
            return self._refusal("fetch_block", req_id, "block is nil")
        self._write(block.old_head(id))
        self._write(block.raw)
        return None

    def _free(self, _: str, id: int, _req_id: int) -> None:
        self._results.pop(id, None)
        self._waiting.pop(id, None)


async def serve(port: int, rows: int) -> None:
    """Answer until the standard input ends."""
    loop = asyncio.get_running_loop()
    library = Library(rows)
    over = asyncio.Event()

    def wait() -> None:
        sys.stdin.buffer.read()
        loop.call_soon_threadsafe(over.set)

    server = await loop.create_server(lambda: Peer(library), "127.0.0.1", port)
    print(server.sockets[0].getsockname()[1], flush=True)
    threading.Thread(target=wait, daemon=True).start()
    await over.wait()
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--rows", type=int, default=400_000)
    arguments = parser.parse_args()
    run: Callable[..., None] = asyncio.run
    try:
        import uvloop
    except ImportError:
        pass
    else:
        run = uvloop.run
    run(serve(arguments.port, arguments.rows))


if __name__ == "__main__":
    main()

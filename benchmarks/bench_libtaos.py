"""What libtaos can do at most, in a process of its own; started by ``bench.py``.

One thread keeps so many queries under way, copies the block of each answer, and decodes nothing.
libtaos runs no Python: its callback is the C library's ``eventfd_write()``, which takes a number
of the size of a pointer as its second argument, as the callback takes the result. The counter of
the eventfd is then the address of the result. Only Linux has that.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from ctypes import CDLL, PyDLL, byref, c_bool, c_char_p, c_int, c_int32, c_void_p, cast, string_at
from typing import Any

CONFIG_DIR = 3  # of TSDB_OPTION
SIZE_AT, ROWS_AT = 4, 8  # in a block
PATIENCE = 20  # seconds without any answer


def library() -> PyDLL:
    taos = PyDLL("libtaos.so")  # nothing waits for the GIL here, so nothing has to release it
    for name, result, *arguments in (
        ("connect", c_void_p, c_char_p, c_char_p, c_char_p, c_char_p, c_int),
        ("query_a", None, c_void_p, c_char_p, c_void_p, c_void_p),
        ("fetch_raw_block_a", None, c_void_p, c_void_p, c_void_p),
        ("get_raw_block", c_void_p, c_void_p),
        ("is_null_by_column", c_int, c_void_p, c_int, c_void_p, c_void_p),
        ("errno", c_int, c_void_p),
        ("free_result", None, c_void_p),
    ):
        function = getattr(taos, f"taos_{name}")
        function.restype, function.argtypes = result, arguments
    return taos


def ask(taos: PyDLL, conns: list[int], at_once: int, sql: list[bytes]) -> list[list[bytes]]:
    """The blocks of each answer."""
    callback = cast(CDLL(None).eventfd_write, c_void_p)
    no_values, rows = (c_bool * 1)(), c_int()
    blocks: list[list[bytes]] = [[] for _ in sql]
    waiting, running = iter(range(len(sql))), 0
    number: dict[int, int] = {}  # of the query that an eventfd is for
    fetching: set[int] = set()  # those whose query is answered
    poll = select.epoll()

    def begin(event: int) -> int:
        if (following := next(waiting, None)) is None:
            return 0
        number[event] = following
        taos.taos_query_a(conns[event % len(conns)], sql[following], callback, event)
        return 1

    events = [os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(at_once)]
    for event in events:
        poll.register(event, select.EPOLLIN)
        running += begin(event)
    while running:
        if not (ready := poll.poll(PATIENCE)):
            raise SystemExit("libtaos does not answer")
        for event, _ in ready:
            result = os.eventfd_read(event)
            if taos.taos_errno(result):
                raise SystemExit(f"{sql[number[event]]!r} failed")
            if event in fetching:
                rows.value = 1  # the callback is told how many there are, an eventfd is not
                taos.taos_is_null_by_column(result, 0, no_values, byref(rows))
                if not rows.value:
                    taos.taos_free_result(result)
                    fetching.remove(event)
                    running += begin(event) - 1
                    continue
                block = taos.taos_get_raw_block(result)
                size = c_int32.from_address(block + SIZE_AT).value
                blocks[number[event]].append(string_at(block, size))
            fetching.add(event)
            taos.taos_fetch_raw_block_a(result, callback, event)
    for event in events:
        os.close(event)
    return blocks


def measured(question: dict[str, Any]) -> dict[str, Any]:
    if not hasattr(os, "eventfd"):
        return {"missing": "needs Linux"}
    try:
        taos = library()
    except OSError:
        return {"missing": "there is no libtaos.so"}
    if config := question["config"]:
        taos.taos_options(CONFIG_DIR, config.encode())
    login = [question[name].encode() for name in ("host", "user", "password", "database")]
    conns = [taos.taos_connect(*login, 0) for _ in range(question["connections"])]
    if not all(conns):
        return {"missing": "no native connection"}
    at_once = question["at_once"]
    warm_up, sql = ([text.encode() for text in question[kind]] for kind in ("warm_up", "sql"))
    ask(taos, conns, at_once, warm_up)
    cpu, wall = time.process_time(), time.perf_counter()
    found = ask(taos, conns, at_once, sql)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    for text, blocks, answer in zip(sql, found, question["answers"], strict=True):
        rows = [int.from_bytes(block[ROWS_AT : ROWS_AT + 4], "little") for block in blocks]
        if rows != [1] or answer.to_bytes(4, "little") not in blocks[0]:
            raise SystemExit(f"{text!r} returned {blocks}")
    return {"wall": wall, "cpu": cpu}


if __name__ == "__main__":
    print(json.dumps(measured(json.load(sys.stdin))), flush=True)

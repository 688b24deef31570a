"""taospy's native client, in a process of its own; started by ``bench.py``.

taospy loads TDengine's client library when it is imported, and the loader looks for it only where
it was told before the process started.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrency import BlockingFetch

Connect = Callable[[], Any]


def read(connect: Connect, question: dict[str, Any]) -> dict[str, Any]:
    """A table."""
    conn = connect()
    cursor = conn.cursor()
    cursor.execute(question["warm_up"])
    cursor.fetchall()
    cpu, wall = time.process_time(), time.perf_counter()
    cursor.execute(question["sql"])
    rows = cursor.fetchall()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    place, is_text = question["summed"], question["is_text"]
    values = (row[place] for row in rows)
    total = sum(len(value) if is_text else value or 0 for value in values)
    return {"wall": wall, "cpu": cpu, "count": len(rows), "total": total}


def ask(connect: Connect, question: dict[str, Any]) -> dict[str, Any]:
    """Small queries, with threads (one of them asks one after the other)."""
    # Only now: taospy has its library, and who reads a table has none of the other clients.
    from concurrency import QUESTIONS, asked_by_threads

    @contextmanager
    def connected() -> Iterator[BlockingFetch]:
        conn = connect()
        cursor = conn.cursor()

        def fetch(sql: str) -> list[Any]:
            cursor.execute(sql)
            rows: list[Any] = cursor.fetchall()
            return rows

        yield fetch
        cursor.close()
        conn.close()

    asked = QUESTIONS[question["question"]]
    return asked_by_threads(connected, asked, question["queries"], question["workers"])._asdict()


def measured(question: dict[str, Any]) -> dict[str, Any]:
    try:
        import taos  # type: ignore[import-untyped]
    except Exception as error:  # it says by various exceptions that there is no library
        return {"missing": f"taospy does not find its library ({type(error).__name__})"}
    names = ("host", "user", "password", "config", "database")
    login = {name: question[name] for name in names if question.get(name)}

    def connect() -> Any:
        return taos.connect(**login)

    try:
        connect().close()
    except taos.Error as error:
        return {"missing": f"no native connection ({error})"}
    return (ask if question["kind"] == "ask" else read)(connect, question)


if __name__ == "__main__":
    print(json.dumps(measured(json.load(sys.stdin))), flush=True)

"""Reads a table with taospy's native client, in a process of its own; started by ``bench.py``.

taospy loads TDengine's client library when it is imported, and the loader looks for it only where
it was told before the process started.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def measured(question: dict[str, Any]) -> dict[str, Any]:
    try:
        import taos  # type: ignore[import-untyped]
    except Exception as error:  # it says by various exceptions that there is no library
        return {"missing": f"taospy does not find its library ({type(error).__name__})"}
    login = {name: question[name] for name in ("host", "user", "password")}
    if question["config"]:
        login["config"] = question["config"]
    try:
        conn = taos.connect(**login)
    except taos.Error as error:
        return {"missing": f"no native connection ({error})"}
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


if __name__ == "__main__":
    print(json.dumps(measured(json.load(sys.stdin))), flush=True)

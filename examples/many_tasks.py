"""Many tasks on one connection, a time-out and a cancelled query (AIOTAOS_DSN, or embedded)."""

from __future__ import annotations

import asyncio
import os

import aiotaos

DSN = os.environ.get("AIOTAOS_DSN", "embedded://")


async def main() -> None:
    async with aiotaos.connect(DSN) as conn:
        async with asyncio.TaskGroup() as tasks:
            answers = [tasks.create_task(conn.fetchval(f"select {i} * 2")) for i in range(200)]
        print("200 queries at once, the sum of their answers:", sum(a.result() for a in answers))

        try:
            await conn.fetch("select 1", timeout=1e-6)
        except aiotaos.TimeoutError as error:
            print("too late:", error.message)

        task = asyncio.create_task(conn.fetch("select 2"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        print("cancelled:", task.cancelled())

        print("and the connection still works:", await conn.fetchval("select 3"))


asyncio.run(main())

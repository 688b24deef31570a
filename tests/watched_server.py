"""An embedded server that tells what it holds for its clients.

It prints its DSN, then answers each line of stdin with one of JSON; at the end of stdin it stops.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from aiotaos.embedded import Server
from aiotaos.embedded import server as module
from aiotaos.embedded.session import Session

sessions: set[Session] = set()


class WatchedSession(Session):
    """A session that is known while it runs.

    Attributes:
        requests: Number of requests that are being answered.
    """

    requests = 0

    async def _answer(self, message: Any) -> None:
        self.requests += 1
        try:
            await super()._answer(message)
        finally:
            self.requests -= 1

    async def run(self) -> None:
        sessions.add(self)
        try:
            await super().run()
        finally:
            sessions.discard(self)


def held() -> dict[str, int]:
    """How many sessions there are, and what they do and hold."""
    return {
        "sessions": len(sessions),
        "requests": sum(session.requests for session in sessions),
        "results": sum(len(session._results) for session in sessions),
        "statements": sum(len(session._statements._entries) for session in sessions),
    }


async def main() -> None:
    module.Session = WatchedSession
    async with Server() as server:
        print(server.dsn, flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(held()), flush=True)


if __name__ == "__main__":
    asyncio.run(main())

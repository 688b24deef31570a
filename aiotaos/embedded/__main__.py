"""``python -m aiotaos.embedded``: run the server until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal

from ..errors import InterfaceError
from . import Server


async def _serve(server: Server) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C raises KeyboardInterrupt
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
    async with server:
        print(server.dsn, flush=True)
        await stop.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m aiotaos.embedded", description=__doc__)
    parser.add_argument("--port", type=int, default=6041, help="0 for any free one")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--data", metavar="FILE", help="keep the data in this file")
    parser.add_argument("--legacy", action="store_true", help="speak REST as a TDengine 2.x")
    server = Server(**vars(parser.parse_args()))
    try:
        asyncio.run(_serve(server))
    except KeyboardInterrupt:
        pass
    except (OSError, InterfaceError) as error:  # the port is taken, the file is no database
        parser.exit(1, f"{parser.prog}: {str(error).splitlines()[0]}\n")


if __name__ == "__main__":
    main()

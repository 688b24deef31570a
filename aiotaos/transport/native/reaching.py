"""What every session over libtaos begins with: somebody who listens, and the library."""

from __future__ import annotations

import asyncio
import builtins

from ...errors import ConnectionError, Error, TimeoutError
from ...options import Address, Options
from ..base import Deadline
from .loading import configure, load
from .taosc import Taosc


async def knock(address: Address, endpoint: str, deadline: Deadline) -> None:
    """See whether somebody listens: libtaos takes 20 s to find out, and cannot be interrupted.

    Raises:
        ConnectionError: Nobody does.
        TimeoutError: That took too long.
    """
    try:
        async with asyncio.timeout_at(deadline.when):
            transport, _ = await asyncio.get_running_loop().create_connection(
                asyncio.Protocol, address.host, address.port
            )
    except builtins.TimeoutError as error:
        raise late(endpoint, deadline) from error
    except ConnectionRefusedError as error:
        raise ConnectionError("connection refused; is taosd running?", endpoint=endpoint) from error
    except OSError as error:
        raise ConnectionError(error.strerror or str(error), endpoint=endpoint) from error
    transport.abort()


def late(endpoint: str, deadline: Deadline, hint: str = "") -> Error:
    """The error for a session that is not there in time."""
    return TimeoutError(f"no answer within {deadline.seconds:.3g} s{hint}", endpoint=endpoint)


def loaded(options: Options) -> Taosc:
    """Load the library, and set it up as the options say; may take a while.

    Raises:
        InterfaceError: It cannot be loaded, or is set up otherwise in this process.
        NotSupportedError: It is too old to have drivers.
    """
    taosc = load(options.library_path)
    known = taosc.settings
    configure(
        taosc,
        driver=options.client_driver,
        config_dir=options.config_dir,
        # All text goes to libtaos and comes from it in UTF-8, whatever taos.cfg and system say.
        charset=options.charset or (None if "charset" in known or taosc.started else "UTF-8"),
        locale=options.locale,
        # Without a time zone of connections, that of the process takes its place.
        timezone=None if taosc.has("taos_options_connection") else options.timezone,
    )
    return taosc

"""Cutting what libtaos has open, from within its process.

A proxy would not do on the native road: libtaos goes where the server tells it that the nodes are.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat

_INTERNET = (socket.AF_INET, socket.AF_INET6)


def cut(port: int) -> int:
    """Shut down every connection of this process to a port; libtaos finds them broken.

    Returns:
        How many there were.
    """
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # closed meanwhile, or not connected
            if not stat.S_ISSOCK(os.stat(f"/proc/self/fd/{name}").st_mode):
                continue
            with socket.socket(fileno=os.dup(int(name))) as link:
                if link.family in _INTERNET and link.getpeername()[1] == port:
                    link.shutdown(socket.SHUT_RDWR)
                    count += 1
    return count

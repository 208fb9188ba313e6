"""A process that vanishes as if its host had frozen, for tests and benchmarks of what notices that.

A stopped process is not enough: its kernel goes on acknowledging what its peers send, keepalives included. So every
TCP socket is given a filter that drops all that arrives, before TCP sees it, and then the process stops. Linux only.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import stat
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

#: Linux' number, which Python does not name.
_SO_ATTACH_FILTER: Final = 26
#: One instruction of classic BPF: return 0, which keeps nothing of the packet.
_DROP: Final = struct.pack("HBBI", 0x06, 0, 0, 0)


def freeze_this_host() -> None:
    """Answer nobody any more, and stop; only SIGKILL ends it, and SIGCONT wakes it to connections that are dead."""
    program = ctypes.create_string_buffer(_DROP)
    described = struct.pack("HP", len(_DROP) // 8, ctypes.addressof(program))
    for entry in Path("/proc/self/fd").iterdir():
        # The folder's own descriptor is gone by the time it is looked at.
        with suppress(OSError):
            _deafen(int(entry.name), described)
    os.kill(os.getpid(), signal.SIGSTOP)


def _deafen(descriptor: int, described: bytes) -> None:
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        return
    with socket.socket(fileno=os.dup(descriptor)) as duplicate:
        if duplicate.family in (socket.AF_INET, socket.AF_INET6):
            duplicate.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)

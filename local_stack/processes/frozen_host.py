"""Makes a process vanish as if its host had frozen, for tests and benchmarks of code that must notice.

Stopping the process is not enough, because its kernel still acknowledges what peers send, even keepalives. So every TCP
socket first gets a filter that drops all that arrives before TCP sees it. SIGCONT wakes the process and removes the
filters, like a host that has thawed. Linux only.
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

#: From Linux' asm-generic/socket.h; Python has no names for them.
_SO_ATTACH_FILTER: Final = 26
_SO_DETACH_FILTER: Final = 27
#: One instruction of classic BPF: return 0, which keeps nothing of the packet.
_DROP: Final = struct.pack("HBBI", 0x06, 0, 0, 0)


def freeze_this_host() -> None:
    """Answer nobody any more, and stop; return after SIGCONT."""
    program = ctypes.create_string_buffer(_DROP)
    _filter(_SO_ATTACH_FILTER, struct.pack("HP", len(_DROP) // 8, ctypes.addressof(program)))
    os.kill(os.getpid(), signal.SIGSTOP)
    _filter(_SO_DETACH_FILTER, bytes(4))


def _filter(option: int, value: bytes) -> None:
    """Set the option on every TCP socket of this process."""
    for entry in Path("/proc/self/fd").iterdir():
        # The descriptor with which the folder was read is closed by now.
        with suppress(OSError):
            _set(int(entry.name), option, value)


def _set(descriptor: int, option: int, value: bytes) -> None:
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        return
    with socket.socket(fileno=os.dup(descriptor)) as duplicate:
        if duplicate.family in (socket.AF_INET, socket.AF_INET6):
            duplicate.setsockopt(socket.SOL_SOCKET, option, value)

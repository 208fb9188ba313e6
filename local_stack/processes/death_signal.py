"""The kernel's death signal: Linux sends it to a process when the thread that started it ends, however it ended."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # from linux/prctl.h


def die_with_parent(parent: int, death_signal: signal.Signals) -> None:
    """Ask for the signal when the parent ends; exit at once if the parent has ended already."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        sys.exit("the parent ended before this process began")

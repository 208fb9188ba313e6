"""Becomes another program that ends with its parent; run as a file, never imported.

    python -I -S launcher.py PARENT_PID DEATH_SIGNAL UID GID PROGRAM [ARGUMENT…]

What the program writes is for its user alone. Where they are not `-`, it drops from root to UID and GID, and asks Linux
for DEATH_SIGNAL when the parent ends. Then it executes PROGRAM. It is a program and no `preexec_fn`, which can deadlock
in a process with threads. The order matters: Linux forgets the death signal when the user changes. A parent that ended
before we asked is found by comparing pids.
On other systems the watchdog alone ends what is left (watchdog.py).

It runs before every child, so it imports only what starts fast: the standard library, and nothing of ours. That is why
it has its own copy of what death_signal.py does.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1  # from linux/prctl.h
UMASK = 0o077  # as in child.py


def main(parent: int, death_signal: str, uid: str, gid: str, command: list[str]) -> None:
    """Replace this process with the command; returns only by raising."""
    os.umask(UMASK)  # here, because uvloop starts no process with one
    if uid != "-":
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    if death_signal != "-":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
        if os.getppid() != parent:
            sys.exit("the parent ended before this child began")
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5:])

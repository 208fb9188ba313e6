"""Ends a supervisor's children when the supervisor dies, on any system; run as a file, never imported.

    python -I -S watchdog_process.py GRACE [PID:SIGNAL…]   with the end of the supervisor's pipe as standard input

GRACE is in seconds, `-` for GRACE_SECONDS; the pairs are the children that run already.

The supervisor writes one line for each change: `+PID SIGNAL` for a child that runs, `-PID` for one that has ended. End
of file means that the supervisor is gone, however it ended: each child left gets its signal and, after GRACE, SIGKILL
for its whole process group. A supervisor that ends in order writes `end` first.

The kernel's death signal (launcher.py) is faster, but only Linux has it, and a child may ignore it.
"""

import os
import signal
import sys
import time

#: As long as the slowest child takes to end in order.
GRACE_SECONDS = 20.0
POLL_SECONDS = 0.05


def main() -> None:
    """Follow the supervisor's lines to their end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends with the supervisor and not with the terminal
    grace, *known = sys.argv[1:]
    children = {int(pid): int(death_signal) for pid, _, death_signal in (pair.partition(":") for pair in known)}
    for line in sys.stdin:
        if line == "end\n":
            return
        pid, _, death_signal = line[1:].strip().partition(" ")
        if line.startswith("+"):
            children[int(pid)] = int(death_signal)
        else:
            children.pop(int(pid), None)
    end_children(children, GRACE_SECONDS if grace == "-" else float(grace))


def end_children(children: dict[int, int], grace: float) -> None:
    """Ask all of them to end; after the grace, kill what is left of their groups."""
    for pid, number in children.items():
        _send(pid, number)
    deadline = time.monotonic() + grace
    while any(_send(pid, 0) for pid in children) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    for pid in children:
        _send(pid, signal.SIGKILL)


def _send(pid: int, number: int) -> bool:
    """Signal the process group that a child leads; tell whether anybody was in it."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    main()

"""Which process may use which core: the server under test has one of its own, databases and load the rest.

Without it the scheduler decides anew in every round who disturbs whom. Where the system has no affinities (macOS)
nothing is pinned, and the machine's facts say so.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import psutil


def _available() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


#: Read before anything is pinned.
ALL_CORES: Final = frozenset(_available())
SERVER_CORES: Final = frozenset(_available()[:1])
OTHER_CORES: Final = ALL_CORES - SERVER_CORES or SERVER_CORES


def pin(pid: int, cores: frozenset[int]) -> None:
    """Let a process and its descendants use these cores only; every thread, for each has an affinity of its own."""
    if not hasattr(os, "sched_setaffinity"):
        return
    process = psutil.Process(pid)
    for member in (process, *process.children(recursive=True)):
        _pin(member, cores)


@contextmanager
def pinned(cores: frozenset[int]) -> Iterator[None]:
    """Let this process use these cores only, within the block; what it starts there begins on them.

    Not its children that run already: they are the servers, each on the cores that it was given.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    process, before = psutil.Process(), frozenset(os.sched_getaffinity(0))
    _pin(process, cores)
    try:
        yield
    finally:
        _pin(process, before)


def _pin(process: psutil.Process, cores: frozenset[int]) -> None:
    # Threads and children come and go.
    with suppress(psutil.NoSuchProcess):
        for thread in process.threads():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(thread.id, cores)

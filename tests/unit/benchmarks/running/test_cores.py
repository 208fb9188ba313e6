"""Who may use which core: a process that moves leaves those alone that it started."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from benchmarks.running.cores import ALL_CORES, SERVER_CORES, pin, pinned

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(ALL_CORES) == 1, reason="nothing can be pinned here"
)


@pytest.fixture
def server() -> Iterator[int]:
    waiting = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(waiting, stdin=subprocess.PIPE) as process:
        yield process.pid
        process.kill()


def test_pinning_this_process_leaves_a_server_on_its_cores(server: int) -> None:
    pin(server, SERVER_CORES)

    with pinned(ALL_CORES - SERVER_CORES):
        assert os.sched_getaffinity(0) == ALL_CORES - SERVER_CORES
        assert os.sched_getaffinity(server) == SERVER_CORES

    assert os.sched_getaffinity(0) == ALL_CORES
    assert os.sched_getaffinity(server) == SERVER_CORES

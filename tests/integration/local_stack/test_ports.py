import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_stack.errors import LocalStackError
from local_stack.ports import LOCALHOST, free_port, free_ports, obstacle, require_free

ROOT = Path(__file__).parents[3]


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server((LOCALHOST, 0)) as server:
        yield server.getsockname()[1]


def test_accepts_free_ports() -> None:
    port = free_port()

    require_free({"--one-port": port})

    assert obstacle(port) is None


def test_refuses_a_taken_port_and_names_its_holder_and_the_option_that_moves_it(taken_port: int) -> None:
    with pytest.raises(LocalStackError) as refusal:
        require_free({"--one-port": taken_port})

    assert f"Port {taken_port} is taken by process {os.getpid()}" in str(refusal.value)
    assert "--one-port" in str(refusal.value)


def test_names_every_taken_port_in_one_message(taken_port: int) -> None:
    with socket.create_server((LOCALHOST, 0)) as other, pytest.raises(LocalStackError) as refusal:
        require_free({"--one-port": taken_port, "--two-port": other.getsockname()[1], "--three-port": free_port()})

    assert "--one-port" in str(refusal.value)
    assert "--two-port" in str(refusal.value)
    assert "--three-port" not in str(refusal.value)


def test_refuses_one_port_for_two_servers() -> None:
    port = free_port()

    with pytest.raises(LocalStackError, match=f"Port {port} is wanted twice, by --one-port and --two-port"):
        require_free({"--one-port": port, "--two-port": port})


def test_many_free_ports_are_all_different() -> None:
    assert len(set(free_ports(200))) == 200


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="a network without a loopback address takes root to make"
)
def test_a_machine_without_127_0_0_1_is_told_so_in_one_sentence() -> None:
    """As where localhost means IPv6 alone."""
    program = (
        "from local_stack.ports import require_free\n"
        "from local_stack.errors import LocalStackError\n"
        "try:\n    require_free({'--one-port': 8000})\n"
        "except LocalStackError as error:\n    print(error)"
    )
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )

    assert "This machine has no address 127.0.0.1" in done.stdout


@pytest.mark.skipif(os.geteuid() == 0, reason="root may listen on any port")
def test_a_port_kept_for_root_is_told_so() -> None:
    with pytest.raises(LocalStackError, match="kept for root"):
        require_free({"--one-port": 80})

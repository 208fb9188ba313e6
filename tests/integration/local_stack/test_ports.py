import os
import socket
from collections.abc import Iterator

import pytest

from local_stack.errors import PortTakenError
from local_stack.ports import LOCALHOST, free_port, is_free, require_free


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server((LOCALHOST, 0)) as server:
        yield server.getsockname()[1]


def test_accepts_free_ports() -> None:
    port = free_port()

    require_free({"--one-port": port})

    assert is_free(port)


def test_refuses_a_taken_port_and_names_its_holder_and_the_option_that_moves_it(taken_port: int) -> None:
    with pytest.raises(PortTakenError) as refusal:
        require_free({"--one-port": taken_port})

    assert f"Port {taken_port} is taken by process {os.getpid()}" in str(refusal.value)
    assert "--one-port" in str(refusal.value)


def test_names_every_taken_port_in_one_message(taken_port: int) -> None:
    with socket.create_server((LOCALHOST, 0)) as other, pytest.raises(PortTakenError) as refusal:
        require_free({"--one-port": taken_port, "--two-port": other.getsockname()[1], "--three-port": free_port()})

    assert "--one-port" in str(refusal.value)
    assert "--two-port" in str(refusal.value)
    assert "--three-port" not in str(refusal.value)


def test_refuses_one_port_for_two_servers() -> None:
    port = free_port()

    with pytest.raises(PortTakenError, match=f"Port {port} is wanted twice, by --one-port and --two-port"):
        require_free({"--one-port": port, "--two-port": port})

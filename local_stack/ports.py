"""TCP ports on 127.0.0.1: find a free one, or say who has the one that is wanted."""

import socket
from collections.abc import Mapping
from contextlib import ExitStack

import psutil

from local_stack.errors import PortTakenError

LOCALHOST = "127.0.0.1"


def free_port() -> int:
    """Return a port nobody listens on now; the kernel cycles, so it is unlikely to be handed out again soon."""
    with socket.socket() as probe:
        probe.bind((LOCALHOST, 0))
        return int(probe.getsockname()[1])


def free_ports(count: int) -> list[int]:
    """Return so many ports nobody listens on now, no two the same."""
    with ExitStack() as probes:
        sockets = [probes.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind((LOCALHOST, 0))
        return [int(probe.getsockname()[1]) for probe in sockets]


def is_free(port: int) -> bool:
    """Tell whether a server could listen on the port; connections that are closing do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOCALHOST, port))
        except OSError:
            return False
    return True


def require_free(wanted: Mapping[str, int]) -> None:
    """Check every port before anything is started.

    `wanted` maps the option that moves a port to the port. All taken ports are named in one message.

    Raises:
        PortTakenError: one of them is taken, or two options name the same port.
    """
    complaints = [*_doubles(wanted)]
    complaints += [
        f"Port {port} is taken by {holder(port)}: stop it, or choose another port with {option}."
        for option, port in wanted.items()
        if not is_free(port)
    ]
    if complaints:
        raise PortTakenError("\n".join(complaints))


def holder(port: int) -> str:
    """Name the process that listens on the port, as far as this user may know."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:  # macOS lets only root look
        return "another process"
    for connection in connections:
        address = connection.laddr
        if connection.status == psutil.CONN_LISTEN and address and address.port == port and connection.pid:
            return _describe(connection.pid)
    return "another process"


def _describe(pid: int) -> str:
    try:
        command = " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return f"process {pid}"
    shown = 100  # characters: enough to recognise a command, short enough for one line
    return f"process {pid} ({command[:shown]})"


def _doubles(wanted: Mapping[str, int]) -> list[str]:
    by_port: dict[int, list[str]] = {}
    for option, port in wanted.items():
        by_port.setdefault(port, []).append(option)
    return [
        f"Port {port} is wanted twice, by {' and '.join(options)}: choose another for one of them."
        for port, options in by_port.items()
        if len(options) > 1
    ]

"""TCP ports on 127.0.0.1: finds free ones, and tells who has one that is taken."""

import asyncio
import errno
import socket
from collections.abc import Mapping
from contextlib import ExitStack, suppress

import psutil

from local_stack.errors import LocalStackError

LOCALHOST = "127.0.0.1"

CONNECT_SECONDS = 2.0  # a connection within the machine takes microseconds

# Everything here says 127.0.0.1, since `localhost` means different addresses on different machines; so IPv4 is needed.
NO_LOCALHOST = (
    f"This machine has no address {LOCALHOST}, through which the processes of the stack talk to each other: bring the "
    "loopback interface up with IPv4 (on Linux: ip link set lo up)."
)


def free_port() -> int:
    """Return a port on which nobody listens now; the kernel gives others first before it gives this one again."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Return so many different ports on which nobody listens now."""
    with ExitStack() as probes:
        sockets = [probes.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind((LOCALHOST, 0))
        return [int(probe.getsockname()[1]) for probe in sockets]


def obstacle(port: int) -> OSError | None:
    """Return why no server could listen on the port, None if one could; connections that are closing do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOCALHOST, port))
        except OSError as error:
            return error
    return None


def localhost_works() -> bool:
    """Tell whether a process can reach another on 127.0.0.1."""
    try:
        with socket.create_server((LOCALHOST, 0)) as server:
            socket.create_connection(server.getsockname(), timeout=CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def require_free(wanted: Mapping[str, int]) -> None:
    """Refuse ports on which no server could listen; one message names all of them.

    `wanted` maps the option that moves a port to the port.

    Raises:
        LocalStackError: one is taken or forbidden, two options name the same one, or there is no 127.0.0.1.
    """
    if not localhost_works():
        raise LocalStackError(NO_LOCALHOST)
    taken = [_complaint(option, port, error) for option, port in wanted.items() if (error := obstacle(port))]
    if complaints := [*_doubles(wanted), *taken]:
        raise LocalStackError("\n".join(complaints))


def _complaint(option: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} is taken by {listener_on(port)}: stop it, or choose another port with {option}."
    if error.errno == errno.EACCES:
        return f"Port {port} is kept for root: choose one above 1023 with {option}."
    return f"Port {port} cannot be listened on ({error.strerror}): choose another one with {option}."


async def listens(port: int) -> bool:
    """Tell whether a process accepts connections on the port."""
    try:
        _, writer = await asyncio.open_connection(LOCALHOST, port)
    except OSError:
        return False
    writer.close()
    with suppress(OSError):  # reset by a server that is going down
        await writer.wait_closed()
    return True


def listener_on(port: int) -> str:
    """Name the process that listens on the port, as far as this user may see it."""
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
    shown = 100  # characters: enough to recognise a command, and short enough for a line
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

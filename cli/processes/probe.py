"""`python -m cli.processes.probe [PORT…]`: is the process in this container ready? For the image's HEALTHCHECK.

The image has no curl and may run any of our processes, so every port on which one of them listens is tried; the one
that answers is the one that runs. Exit code 0 if it is ready, 1 if it is not or nobody listens; what it said is printed
and kept by the container engine.
"""

from __future__ import annotations

import os
import sys
from http.client import HTTPConnection, HTTPException
from typing import Final

#: The variable that moves each process's port, and where it is without: asked here without the settings classes, since
#: a probe that imports pydantic costs more than what it asks.
PORTS: Final = {"COMMAND_API_PORT": 8000, "QUERY_API_PORT": 8001, "RELAY_HTTP_PORT": 8002, "PROJECTORS_HTTP_PORT": 8003}
#: A process checks for at most 2 s (chassis/http/health.py); a container engine gives a probe five.
SECONDS: Final = 4.0


def answers(port: int) -> tuple[bool, str] | None:
    """Whether the process behind a port of this machine is ready, and what it said; None if nobody listens there."""
    connection = HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        return answer.status == 200, answer.read().decode(errors="replace")
    except ConnectionRefusedError:
        return None
    except (OSError, HTTPException) as error:
        return False, f"port {port}: {str(error) or type(error).__name__}"
    finally:
        connection.close()


def main(arguments: list[str]) -> int:
    """Ask, print, and give the exit code."""
    ports = [int(word) for word in arguments] or [int(os.environ.get(name) or port) for name, port in PORTS.items()]
    found = [answer for answer in map(answers, ports) if answer is not None]
    for _, said in found:
        print(said)  # noqa: T201 - the container engine keeps it
    if not found:
        print(f"nobody listens on {', '.join(map(str, ports))}")  # noqa: T201 - as above
    return 0 if found and all(ready for ready, _ in found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

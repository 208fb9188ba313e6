"""`python -m cli.processes.probe [PORT…]`: the image's HEALTHCHECK; tells whether the container's process is ready.

The image has no curl, and may run any process of Muster. So the probe asks every port of the inside on which one of
them says how it is; the one that answers is the one that runs. The exit code is 0 if it is ready, and 1 if it is not or
nobody listens. The answer, with its reasons, is printed, and kept by the container engine.
"""

from __future__ import annotations

import os
import sys
from http.client import HTTPConnection, HTTPException
from typing import Final

#: The variable of each process's port, and its default. The settings classes would tell both, but importing pydantic
#: costs more than the whole probe.
PORTS: Final = {
    "COMMAND_API_OPS_PORT": 8010,
    "QUERY_API_OPS_PORT": 8011,
    "EVENT_API_OPS_PORT": 8012,
    "CONSOLE_OPS_PORT": 8009,
    "RELAY_HTTP_PORT": 8002,
    "PROJECTORS_HTTP_PORT": 8003,
}
#: A process takes at most 3 s for its answer (chassis/http/workers.py), and the engine gives the probe 15 s.
ANSWER_SECONDS: Final = 4.0


def ask(port: int) -> tuple[bool, str] | None:
    """Return whether the process on this port is ready, and its answer; None if nobody listens there."""
    connection = HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
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
    """Ask, print, and return the exit code."""
    ports = [int(word) for word in arguments] or [int(os.environ.get(name) or port) for name, port in PORTS.items()]
    found = [answer for answer in map(ask, ports) if answer is not None]
    for _, text in found:
        print(text)  # noqa: T201 - the container engine keeps it
    if not found:
        print(f"nobody listens on {', '.join(map(str, ports))}")  # noqa: T201 - as above
    return 0 if found and all(ready for ready, _ in found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Stands in for `muster` where the test is about the stack and not about what runs on it.

Takes Muster's command lines: `migrate`, `topics` and their like end, the others serve `/readyz` on their port until
SIGTERM and write down when they end. `STAND_IN_FAILS=relay` makes that command fail.
"""

import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _Ready(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()


def main(arguments: list[str]) -> None:
    if os.environ.get("STAND_IN_FAILS") == arguments[0]:
        sys.exit(f"{arguments[0]} cannot work")
    match arguments[0]:
        case "serve":
            serve(int(arguments[-1]))
        case "relay":
            serve(int(os.environ["RELAY_HTTP_PORT"]))
        case "project":
            serve(int(os.environ["PROJECTORS_HTTP_PORT"]))
        case _:
            return


def serve(port: int) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", port), _Ready)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=0.01)
    sys.stdout.write("ended in order\n")


if __name__ == "__main__":
    main(sys.argv[1:])

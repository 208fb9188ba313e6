"""A stand-in for the Docker daemon: answers what a client that starts containers asks, and notes what it is told."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

IDENTIFIER = "c" * 64


@dataclass(slots=True)
class Daemon:
    """What it has, and what was asked of it."""

    images: set[str]
    created: list[dict[str, Any]] = field(default_factory=list)
    started: int = 0
    removed: int = 0

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:  # noqa: PLR0911 - one a request
        """Status and document of one request; the version in the path is left out."""
        match method, re.sub(r"^/v1\.\d+", "", path).partition("?")[0].strip("/").split("/"):
            case "GET", ["_ping"]:
                return 200, "OK"
            case "GET", ["version"]:
                return 200, {"ApiVersion": "1.48", "MinAPIVersion": "1.24", "Version": "28.0"}
            case "GET", ["images", *name, "json"]:
                found = "/".join(name) in self.images
                return (200, {"Id": "sha256:0", "RepoTags": []}) if found else (404, {"message": "No such image"})
            case "POST", ["containers", "create"]:
                self.created.append(body)
                return 201, {"Id": IDENTIFIER, "Warnings": []}
            case "POST", ["containers", _, "start"]:
                self.started += 1
                return 204, None
            case "DELETE", ["containers", _]:
                self.removed += 1
                return 204, None
            case "GET", ["containers", _, "json"]:
                return 200, {"Id": IDENTIFIER, "Config": {}, "State": {"Status": "running"}}
            case _:
                return 500, {"message": f"the stand-in does not know {method} {path}"}


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    daemon: Daemon


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the signature is the library's
        pass

    def handle_any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        status, document = self.server.daemon.answer(self.command, self.path, body)
        data = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815 - as above


@contextmanager
def docker_daemon(socket: Path, images: set[str]) -> Iterator[Daemon]:
    """Listen on a Unix socket until the block ends."""
    server = _Server(str(socket), _Handler)
    server.daemon = Daemon(images)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.daemon
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

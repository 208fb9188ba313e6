"""`muster serve command|query`: serves one of the APIs, by uvicorn with as many workers as the settings say.

The port is bound before any worker starts, so that a taken one is told in one sentence; and the settings are looked at
before the port, so that nobody reaches an API that does not know whom to let in. Each of several workers is a
process of its own; they share the socket, and their metrics through files that are removed at the end.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Final

import typer
import uvicorn
from uvicorn.supervisors import Multiprocess

from chassis.http.protocol import HttpProtocol
from chassis.lifecycle import freeze_loaded_objects
from chassis.settings import Http, load
from chassis.telemetry import configure_logging
from cli.terminal.output import fail

if TYPE_CHECKING:
    from fastapi import FastAPI

#: Time to finish for requests under way when the process is told to stop.
REQUEST_GRACE_SECONDS: Final = 10
#: A worker that does not answer its parent for this long is replaced. It does not answer while it imports, which takes
#: seconds when all workers start at once on a loaded machine.
WORKER_SECONDS: Final = 60
#: Connections that may wait to be accepted while every worker is busy.
ACCEPT_BACKLOG: Final = 2048

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Serve one of the APIs.", rich_markup_mode="rich")

#: At most five batches of an import are alive, of 8,000 objects each; the collector looks through so many in 2 ms.
IMPORTED_OBJECTS: Final = 50_000

HostOption = Annotated[str | None, typer.Option(help="Address to listen on; overrides the environment.")]
PortOption = Annotated[int | None, typer.Option(min=1, max=65535, help="Port to listen on; overrides the environment.")]


@app.command()
def command(host: HostOption = None, port: PortOption = None) -> None:
    """Serve the command API (default 127.0.0.1:8000)."""
    from command_api.settings import CommandApiSettings  # noqa: PLC0415 - one API does not import the other

    _override("COMMAND_API", host, port)
    settings = load(CommandApiSettings)
    settings.expectations(settings.command_api_host)
    _serve("cli.processes.serve:command_app", settings, settings.command_api_host, settings.command_api_port)


@app.command()
def query(host: HostOption = None, port: PortOption = None) -> None:
    """Serve the query API (default 127.0.0.1:8001)."""
    from query_api.settings import QueryApiSettings  # noqa: PLC0415 - one API does not import the other

    _override("QUERY_API", host, port)
    settings = load(QueryApiSettings)
    settings.expectations(settings.query_api_host)
    _serve("cli.processes.serve:query_app", settings, settings.query_api_host, settings.query_api_port)


def command_app() -> FastAPI:
    """Create the command API, in a worker process."""
    from command_api.app import create_app  # noqa: PLC0415 - in the worker only
    from command_api.settings import CommandApiSettings  # noqa: PLC0415 - in the worker only

    settings = load(CommandApiSettings)
    configure_logging("command-api", settings.log_level)
    app = create_app(settings)
    freeze_loaded_objects(IMPORTED_OBJECTS)
    return app


def query_app() -> FastAPI:
    """Create the query API, in a worker process."""
    from query_api.app import create_app  # noqa: PLC0415 - in the worker only
    from query_api.settings import QueryApiSettings  # noqa: PLC0415 - in the worker only

    settings = load(QueryApiSettings)
    configure_logging("query-api", settings.log_level)
    app = create_app(settings)
    freeze_loaded_objects()
    return app


def server_config(factory: str, *, host: str, port: int, workers: int) -> uvicorn.Config:
    """Return the settings with which uvicorn serves either API."""
    return uvicorn.Config(
        factory,
        factory=True,
        host=host,
        port=port,
        workers=workers,
        http=HttpProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        # Nothing here depends on who the client is or which scheme it used.
        proxy_headers=False,
        date_header=True,
        backlog=ACCEPT_BACKLOG,
        timeout_graceful_shutdown=REQUEST_GRACE_SECONDS,
        timeout_worker_healthcheck=WORKER_SECONDS,
    )


def _override(prefix: str, host: str | None, port: int | None) -> None:
    """Put the options into the environment, so that worker processes see them too."""
    if host is not None:
        os.environ[f"{prefix}_HOST"] = host
    if port is not None:
        os.environ[f"{prefix}_PORT"] = str(port)


def _serve(factory: str, settings: Http, host: str, port: int) -> None:
    listening = _bind(host, port)
    configure_logging("supervisor", settings.log_level)
    config = server_config(factory, host=host, port=port, workers=settings.workers)
    if settings.workers == 1:
        uvicorn.Server(config).run(sockets=[listening])
        return
    with _shared_metrics():
        Multiprocess(config, sockets=[listening]).run()


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        fail(
            f"Cannot listen on {host}:{port}: {error.strerror or error}. Choose another address with --host or --port."
        )
    listening.set_inheritable(True)
    return listening


@contextmanager
def _shared_metrics() -> Iterator[None]:
    """Give the workers a folder for their counters, so that /metrics of any worker shows the sum."""
    with tempfile.TemporaryDirectory(prefix="muster-metrics-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        yield

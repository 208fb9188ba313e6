"""`muster serve command|query|events|console`: serves one of the APIs or the console, by uvicorn with its workers.

Both ports, the public and the inner one, are bound before any worker starts, so that a taken one is told in one
sentence; and the settings are looked at before the ports, so that nobody reaches an API that does not know whom to let
in. Each of several workers is a process of its own; they share the public socket, and a folder with their metrics and
with the sockets on which their supervisor, who serves the inner port, asks them.
"""

from __future__ import annotations

import os
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias, TypeVar

import structlog
import typer
import uvicorn
from uvicorn.supervisors import Multiprocess

from chassis.http.health import Health
from chassis.http.listening import ACCEPT_BACKLOG, listen, server_config, serving_inside, serving_inside_from_a_thread
from chassis.http.workers import Workers, telling_supervisor
from chassis.last_words import CRASHED
from chassis.lifecycle import freeze_loaded_objects
from chassis.settings import load
from chassis.telemetry import configure_logging
from cli.terminal.output import fail

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.applications import Starlette

    from chassis.access.settings import GuardedHttp
    from chassis.settings import Http
    from console.settings import ConsoleSettings

#: Time to finish for requests under way when the process is told to stop.
REQUEST_GRACE_SECONDS: Final = 10
#: A worker that does not answer its parent for this long is replaced. It does not answer while it imports, which takes
#: seconds when all workers start at once on a loaded machine.
WORKER_SECONDS: Final = 60
app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Serve one of the APIs, or the console.", rich_markup_mode="rich"
)

#: An answer is some thousand objects, and at most five batches of an import are alive, of 8,000 objects each; reference
#: counting frees them. The collector looks through so many in 2 ms. Not for the console, whose client leaves cycles.
YOUNG_OBJECTS: Final = 50_000
#: The exit code after a second signal, as of every process of Muster (chassis/lifecycle.py).
CUT_SHORT: Final = 130
#: Uvicorn exits with this where an app cannot start.
STARTUP_FAILURE: Final = 3

#: An app tells here how it is: on the inner port's socket; where it has siblings, in the folder that all share.
Inside: TypeAlias = socket.socket | Path | None

App = TypeVar("App", bound="Starlette")
Served = TypeVar("Served", bound="GuardedHttp | ConsoleSettings")

HostOption = Annotated[str | None, typer.Option(help="Address to listen on; overrides the environment.")]
PortOption = Annotated[int | None, typer.Option(min=1, max=65535, help="Port to listen on; overrides the environment.")]


class _Server(uvicorn.Server):
    """uvicorn that ends like the other processes: with exit code 0 once it has stopped, whichever signal told it to.

    uvicorn's own raises the signal again when it has finished.
    """

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class _Supervisor(Multiprocess):
    """uvicorn's, which sees at once that a worker ended while it started.

    uvicorn's own asks each whether it lives and waits `WORKER_SECONDS` for the answer, also of one that ends meanwhile.
    """

    def init_processes(self) -> None:
        super().init_processes()
        for process in self.processes:
            process.wait_until_ready(WORKER_SECONDS, self.should_exit)


@app.command()
def command(host: HostOption = None, port: PortOption = None) -> None:
    """Serve the command API (default 127.0.0.1:8000)."""
    from command_api.settings import CommandApiSettings  # noqa: PLC0415 - one API does not import the other

    _serve(command_app, CommandApiSettings, "COMMAND_API", host, port)


@app.command()
def query(host: HostOption = None, port: PortOption = None) -> None:
    """Serve the query API (default 127.0.0.1:8001)."""
    from query_api.settings import QueryApiSettings  # noqa: PLC0415 - one API does not import the other

    _serve(query_app, QueryApiSettings, "QUERY_API", host, port)


@app.command()
def events(host: HostOption = None, port: PortOption = None) -> None:
    """Serve the event API (default 127.0.0.1:8005)."""
    from event_api.settings import EventApiSettings  # noqa: PLC0415 - one API does not import the other

    _serve(events_app, EventApiSettings, "EVENT_API", host, port)


@app.command()
def console(host: HostOption = None, port: PortOption = None) -> None:
    """Serve the console (default 127.0.0.1:8004)."""
    from console.assets import assets  # noqa: PLC0415 - the APIs have no pages of their own
    from console.settings import ConsoleSettings  # noqa: PLC0415 - as above

    assets()
    _serve(console_app, ConsoleSettings, "CONSOLE", host, port)


def command_app(inside: Inside = None) -> FastAPI:
    """Create the command API, in a worker process."""
    from command_api.app import create_app  # noqa: PLC0415 - in the worker only
    from command_api.settings import CommandApiSettings  # noqa: PLC0415 - in the worker only

    return _create(create_app, CommandApiSettings, "command-api", inside)


def query_app(inside: Inside = None) -> FastAPI:
    """Create the query API, in a worker process."""
    from query_api.app import create_app  # noqa: PLC0415 - in the worker only
    from query_api.settings import QueryApiSettings  # noqa: PLC0415 - in the worker only

    return _create(create_app, QueryApiSettings, "query-api", inside)


def events_app(inside: Inside = None) -> FastAPI:
    """Create the event API, in a worker process."""
    from event_api.app import create_app  # noqa: PLC0415 - in the worker only
    from event_api.settings import EventApiSettings  # noqa: PLC0415 - in the worker only

    return _create(create_app, EventApiSettings, "event-api", inside)


def console_app(inside: Inside = None) -> Starlette:
    """Create the console."""
    from console.app import create_app  # noqa: PLC0415 - the APIs do not import it
    from console.settings import ConsoleSettings  # noqa: PLC0415 - as above

    return _create(create_app, ConsoleSettings, "console", inside, young_objects=None)


def api_config(factory: Callable[[], Starlette], settings: Http | ConsoleSettings) -> uvicorn.Config:
    """Return the settings with which uvicorn serves any of them."""
    return server_config(
        factory,
        settings,
        factory=True,
        workers=settings.workers,
        backlog=ACCEPT_BACKLOG,
        timeout_graceful_shutdown=REQUEST_GRACE_SECONDS,
        timeout_worker_healthcheck=WORKER_SECONDS,
        loop=settings.event_loop,
    )


def _create(
    create_app: Callable[[Served], App],
    kind: type[Served],
    name: str,
    inside: Inside,
    *,
    young_objects: int | None = YOUNG_OBJECTS,
) -> App:
    settings = load(kind)
    configure_logging(name, settings.log_level)
    app = create_app(settings)
    freeze_loaded_objects(young_objects)
    return _telling(app, inside, settings)


def _telling(app: App, inside: Inside, settings: Http | ConsoleSettings) -> App:
    """Let the app say how it is for as long as it runs: on the inner port itself, or to its supervisor."""
    if inside is None:
        return app
    run = app.router.lifespan_context
    health: Health = app.state.health

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[Mapping[str, Any]]:
        if isinstance(inside, Path):
            telling = telling_supervisor(health, inside)
        else:
            telling = serving_inside(health, inside, settings)
        try:
            async with run(app) as state, telling:
                yield state or {}
        except Exception:
            # Starlette hands the whole traceback to uvicorn as one text, of which our log keeps the first line.
            structlog.get_logger("process").critical(CRASHED, exc_info=True)
            raise

    app.router.lifespan_context = lifespan
    return app


def _serve(
    factory: Callable[[Inside], Starlette], kind: type[Served], prefix: str, host: str | None, port: int | None
) -> None:
    """Serve the one whose variables have that prefix; the options go before them, for worker processes too."""
    for name, given in (("HOST", host), ("PORT", port)):
        if given is not None:
            os.environ[f"{prefix}_{name}"] = str(given)
    settings = load(kind)
    named = ("host", "port", "ops_host", "ops_port")
    host, port, inner_host, inner_port = (getattr(settings, f"{prefix.lower()}_{name}") for name in named)
    settings.expectations(host)
    inside_moves = f"{prefix}_OPS_HOST or {prefix}_OPS_PORT"
    if port == inner_port:
        fail(f"Port {port} is wanted twice, for clients and for the inside: choose another with {inside_moves}.")
    with _bind(host, port, "--host or --port") as public, _bind(inner_host, inner_port, inside_moves) as inner:
        configure_logging("supervisor", settings.log_level)
        if settings.workers == 1:
            server = _Server(api_config(partial(factory, inner), settings))
            server.run(sockets=[public])
            if server.force_exit:
                raise typer.Exit(CUT_SHORT)
        else:
            _supervise(factory, settings, public, inner)


def _supervise(
    factory: Callable[[Inside], Starlette],
    settings: Http | ConsoleSettings,
    public: socket.socket,
    inner: socket.socket,
) -> None:
    """Serve by several workers; where one cannot start, end with the exit code that a single one has."""
    with _shared_folder() as folder:
        supervisor = _Supervisor(api_config(partial(factory, folder), settings), sockets=[public])
        workers = Workers(folder, lambda: [process.pid for process in supervisor.processes])
        with serving_inside_from_a_thread(workers, inner, settings):
            supervisor.run()
    # uvicorn then stops all workers, and its `run` returns as after a signal.
    if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
        raise typer.Exit(STARTUP_FAILURE)


def _bind(host: str, port: int, moved_by: str) -> socket.socket:
    try:
        listening = listen(host, port)
    except OSError as error:
        fail(f"Cannot listen on {host}:{port}: {error.strerror or error}. Choose another address with {moved_by}.")
    listening.set_inheritable(True)
    return listening


@contextmanager
def _shared_folder() -> Iterator[Path]:
    """Give the workers a folder for their counters, whose sum the metrics are, and for what they tell of themselves."""
    with tempfile.TemporaryDirectory(prefix="muster-workers-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        yield Path(folder)

"""`muster project`: feeds the read tables; Kafka spreads the partitions over as many processes as there are."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from chassis.lifecycle import freeze_loaded_objects, run_until_stopped
from chassis.settings import load
from chassis.telemetry import configure_logging
from cli.terminal.output import fail
from projectors.app import YOUNG_OBJECTS, UnknownProjectionError, serve
from projectors.settings import ProjectorSettings


def project(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Projections; all without.")] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port of health and metrics; overrides PROJECTORS_HTTP_PORT.")
    ] = None,
) -> None:
    """Follow the events and keep the read tables up to date."""
    if port is not None:
        os.environ["PROJECTORS_HTTP_PORT"] = str(port)
    settings = load(ProjectorSettings)
    configure_logging("projectors", settings.log_level)
    freeze_loaded_objects(YOUNG_OBJECTS)
    try:
        code = run_until_stopped(lambda stopping: serve(settings, stopping, names or None))
    except UnknownProjectionError as error:
        fail(str(error), code=2)
    except OSError as error:
        where = f"{settings.projectors_http_host}:{settings.projectors_http_port}"
        fail(f"Cannot listen on {where}: {error.strerror or error}. Choose another port with --port.")
    raise typer.Exit(code)

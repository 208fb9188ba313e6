"""`muster relay`: publishes the outbox to Kafka; of several relays one is active and the others stand by."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from chassis.lifecycle import freeze_loaded_objects, run_until_stopped
from chassis.settings import load
from chassis.telemetry import configure_logging
from cli.terminal.output import fail
from command_api.credentials.purge import PURGE_ATTEMPTS, PURGE_TOKENS
from command_api.idempotency.purge import PURGE
from events.user_events import USER_EVENTS
from outbox.damage import Examiner
from outbox.relay.process import serve
from outbox.settings import RelaySettings


def relay(
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port of health and metrics; overrides RELAY_HTTP_PORT.")
    ] = None,
) -> None:
    """Publish the outbox to Kafka, each event exactly once; a second relay is a hot standby."""
    if port is not None:
        os.environ["RELAY_HTTP_PORT"] = str(port)
    settings = load(RelaySettings)
    configure_logging("relay", settings.log_level)
    freeze_loaded_objects()
    try:
        jobs = [PURGE, PURGE_TOKENS, PURGE_ATTEMPTS]
        code = run_until_stopped(lambda stopping: serve(settings, stopping, jobs, examiner=Examiner(USER_EVENTS)))
    except OSError as error:
        where = f"{settings.relay_http_host}:{settings.relay_http_port}"
        fail(f"Cannot listen on {where}: {error.strerror or error}. Choose another port with --port.")
    raise typer.Exit(code)

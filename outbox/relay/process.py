"""The relay's process: the relay, its maintenance and its probes, until it is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from chassis.http.health import Health
from chassis.http.listening import serve_health
from chassis.tracing.process import ProcessTracer, exporting
from outbox.damage import Examiner
from outbox.publishing.page_marker import RelayStopError
from outbox.relay.loop import Relay
from outbox.relay.maintenance import Job, maintaining
from outbox.settings import RelaySettings

log = structlog.get_logger("outbox.relay")


async def serve(
    settings: RelaySettings, stopping: asyncio.Event, jobs: Sequence[Job] = (), *, examiner: Examiner | None = None
) -> int:
    """Relay until `stopping` is set; while this relay leads, it runs `jobs` beside its own maintenance.

    `examiner` knows which types of events there are.

    Returns:
        The exit code: 0 after a stop, 1 if only an operator can say how to go on (the log says what and why).

    Raises:
        OSError: the port of the probes is taken.
    """
    tracer = ProcessTracer.of(settings, "relay")
    relay = Relay(settings, while_leading=lambda: maintaining(settings, jobs), examiner=examiner, tracer=tracer)
    health = Health(ready={"relay": relay.state.check_ready}, live={"relay": relay.state.check_live})
    host, port = settings.relay_http_host, settings.relay_http_port
    async with exporting(tracer), serve_health(health, host=host, port=port, transport=settings):
        try:
            await relay.run(stopping)
        except RelayStopError as stop:
            log.critical("relay.cannot_go_on", reason=str(stop))
            return 1
    return 0

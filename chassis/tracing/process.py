"""The tracer of one process, made from its settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

from chassis import __version__
from chassis.tracing.exporting import Exporter
from chassis.tracing.otlp import encode_resource
from chassis.tracing.sampling import sampler
from chassis.tracing.settings import Tracing
from chassis.tracing.spans import Attributes, Tracer


class ProcessTracer(Tracer):
    """A tracer whose spans go to the collector of the settings, while `exporting` says so."""

    def __init__(self, settings: Tracing, url: str, service: str) -> None:
        """Use `of`."""
        resource = encode_resource(_resource(settings, service))
        self.exporter = Exporter(url, headers=settings.traces_headers, resource=resource)
        super().__init__(sampler(settings.otel_traces_sampler, settings.otel_traces_sampler_arg), self.exporter.record)

    @classmethod
    def of(cls, settings: Tracing, service: str) -> ProcessTracer | None:
        """The tracer of a process of this name; None where traces have nowhere to go."""
        url = settings.traces_url
        return None if url is None else cls(settings, url, service)


@asynccontextmanager
async def exporting(tracer: ProcessTracer | None) -> AsyncIterator[None]:
    """Send a process's spans until the block ends; do nothing where it has no tracer."""
    if tracer is None:
        yield
        return
    async with tracer.exporter.open():
        yield


def _resource(settings: Tracing, service: str) -> Attributes:
    """Semantic conventions, "Resource"; what an operator says goes before what we would."""
    return {
        "service.namespace": "muster",
        "service.name": service,
        "service.version": __version__,
        "service.instance.id": str(uuid4()),
        "telemetry.sdk.name": "muster",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": __version__,
        **settings.resource_attributes,
    }

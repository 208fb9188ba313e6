"""Which traces are recorded: the samplers of the OpenTelemetry specification, by their names in OTEL_TRACES_SAMPLER."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from chassis.tracing.context import SpanContext

SamplerName = Literal[
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
]
#: Whether a trace is recorded, by the last 64 bits of its id, and by what its caller decided, if one did.
Sampler = Callable[[int, SpanContext | None], bool]

_PARENT_BASED: Final = "parentbased_"
_SHARES: Final = {"always_on": 1.0, "always_off": 0.0}


def sampler(name: SamplerName, ratio: float) -> Sampler:
    """The sampler of that name; `ratio`, from 0 to 1, counts for the two whose name ends with it.

    It decides by the end of the trace's id, as other languages' SDKs do: where all have the same ratio, they record the
    same traces.
    """
    asks_parent = name.startswith(_PARENT_BASED)
    bound = round(_SHARES.get(name.removeprefix(_PARENT_BASED), ratio) * 2**64)

    def samples(end_of_id: int, parent: SpanContext | None) -> bool:
        if asks_parent and parent is not None:
            return parent.is_sampled
        return end_of_id < bound

    return samples

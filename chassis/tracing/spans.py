"""Spans: steps of the work, each with its beginning, its end and what it belongs to. Only what is sampled is one.

A span is active inside its `with`, and `step` makes a part of whatever is active. Where nothing is, because tracing is
off or this trace is not recorded, a step costs one look at a variable.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar, Token
from enum import IntEnum
from types import TracebackType
from typing import Final, Self

from chassis.tracing.context import SpanContext
from chassis.tracing.sampling import Sampler

Attribute = str | int | bool
Attributes = Mapping[str, Attribute]


class SpanKind(IntEnum):
    """What a span is to its parent; the numbers are OTLP's."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3
    CONSUMER = 5


class Span:
    """One step. Its `with` makes it active and ends it; an error that leaves the block is its error, by class alone."""

    __slots__ = (
        *("_active", "_tracer", "attributes", "error", "kind", "links", "name"),
        *("parent_id", "span_id", "start", "trace_id"),
    )

    def __init__(  # noqa: PLR0913, PLR0917 - what a span is made of; by place, which costs least
        self,
        tracer: Tracer,
        name: str,
        kind: SpanKind,
        trace_id: bytes,
        parent_id: bytes,
        start: int,
        attributes: Attributes | None = None,
        links: Sequence[SpanContext] = (),
    ) -> None:
        """Use a tracer's methods; `start` is in nanoseconds since 1970, and `parent_id` empty for a root."""
        self.name = name
        self.kind = kind
        self.trace_id = trace_id
        self.span_id = tracer.new_id()
        self.parent_id = parent_id
        self.start = start
        self.attributes: dict[str, Attribute] = dict(attributes) if attributes else {}
        self.links = links
        #: The class of what went wrong; empty where nothing did. Messages may quote people's data.
        self.error = ""
        self._tracer = tracer
        self._active: Token[Span | None] | None = None

    @property
    def context(self) -> SpanContext:
        """Its place in its trace."""
        return SpanContext(self.trace_id, self.span_id)

    def part(self, name: str, kind: SpanKind, attributes: Attributes | None = None) -> Span:
        """A step within this one, that begins now."""
        return Span(self._tracer, name, kind, self.trace_id, self.span_id, self._tracer.now(), attributes)

    def end(self, at: int | None = None) -> None:
        """Record it; `at` is in nanoseconds since 1970, None is now."""
        if self.error:
            self.attributes["error.type"] = self.error
        self._tracer.record(self, self._tracer.now() if at is None else at)

    def __enter__(self) -> Self:
        self._active = _active.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._active is not None, "entered"
        _active.reset(self._active)
        if kind is not None:
            self.error = self.error or kind.__name__
        self.end()


class Tracer:
    """Begins spans and hands those that end to `record`, with the time of their end."""

    def __init__(
        self,
        samples: Sampler,
        record: Callable[[Span, int], None],
        *,
        now: Callable[[], int] = time.time_ns,
        rng: random.Random | None = None,
    ) -> None:
        """`now` gives nanoseconds since 1970; `rng` makes ids, which guard nothing."""
        self.record = record
        self.now = now
        self._samples = samples
        self._rng = rng or random.Random()  # noqa: S311 - see above

    def begin(self, name: str, kind: SpanKind, parent: SpanContext | None) -> Span | None:
        """A span that begins now, below a caller's or as the root of a trace; None where the trace is not recorded."""
        if parent is not None:
            return self.below(parent, name, kind) if self.is_recorded(parent) else None
        # No more of its id than is asked for, as most traces are not recorded.
        end_of_id = self._rng.getrandbits(64)
        if not self._samples(end_of_id, None):
            return None
        return Span(self, name, kind, self.new_id() + end_of_id.to_bytes(8, "big"), b"", self.now())

    def is_recorded(self, context: SpanContext) -> bool:
        """Whether its trace is recorded: every process with the same sampler says the same."""
        return self._samples(context.end_of_id, context)

    def below(
        self,
        parent: SpanContext,
        name: str,
        kind: SpanKind,
        attributes: Attributes | None = None,
        start: int | None = None,
    ) -> Span:
        """A step below a recorded one; it begins at `start`, in nanoseconds since 1970, or now."""
        begun = self.now() if start is None else start
        return Span(self, name, kind, parent.trace_id, parent.span_id, begun, attributes)

    def linked(self, name: str, kind: SpanKind, links: Sequence[SpanContext], attributes: Attributes) -> Span:
        """The root of a trace of its own, recorded since what it links to is."""
        return Span(self, name, kind, self.new_id() + self.new_id(), b"", self.now(), attributes, links)

    def new_id(self) -> bytes:
        """The id of a span, or half of a trace's."""
        return self._rng.getrandbits(64).to_bytes(8, "big")


_active: ContextVar[Span | None] = ContextVar("span", default=None)
_NOTHING: Final[AbstractContextManager[None]] = nullcontext()


def active() -> Span | None:
    """The step that is being worked on; None where nothing is recorded."""
    return _active.get()


def step(
    name: str, kind: SpanKind = SpanKind.INTERNAL, attributes: Attributes | None = None
) -> AbstractContextManager[Span | None]:
    """A part of the active step, for as long as a `with` block takes; nothing where there is none."""
    span = _active.get()
    return _NOTHING if span is None else span.part(name, kind, attributes)

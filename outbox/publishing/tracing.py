"""What traces tell of a page: how long each event waited in the outbox, and the transaction that published them.

A row keeps the context in which its event was made. Of the recorded ones of a page's first `LOOKED_AT` rows
`MOST_LINKS` are told of, each by its first row: in a backlog, whose pages have thousands, and after an import, the
relay has better things to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Final

from chassis.tracing.context import SpanContext, read_traceparent
from chassis.tracing.messaging import LOOKED_AT, MOST_LINKS, send_span
from chassis.tracing.spans import Span, SpanKind, Tracer
from outbox.headers import traceparent_in
from outbox.table import OutboxRow

#: A row, and when it was appended, in nanoseconds since 1970.
Created = tuple[SpanContext, int]

_NOTHING: Final[AbstractContextManager[None]] = nullcontext()


class PageTraces:
    """The recorded traces of one page."""

    def __init__(self, tracer: Tracer | None, rows: Sequence[OutboxRow]) -> None:
        """Of a page of these rows; of none where there is no tracer."""
        self._tracer = tracer
        self._rows = len(rows)
        self._created = [] if tracer is None else _recorded(tracer, rows)

    def sending(self, topic: str) -> AbstractContextManager[Span | None]:
        """The transaction that publishes the page, for a `with` block that ends when it is committed."""
        if self._tracer is None or not self._created:
            return _NOTHING
        return send_span(self._tracer, topic, [context for context, _ in self._created], self._rows)

    def published(self) -> None:
        """Say how long each event waited, now that it is on Kafka."""
        if self._tracer is None:
            return
        now = self._tracer.now()
        for context, appended_at in self._created:
            self._tracer.below(context, "outbox wait", SpanKind.INTERNAL, start=appended_at).end(now)


def _recorded(tracer: Tracer, rows: Sequence[OutboxRow]) -> list[Created]:
    found: list[Created] = []
    seen: set[str | None] = {None}
    for row in islice(rows, LOOKED_AT):
        traceparent = traceparent_in(row["headers"])
        if traceparent in seen:
            continue
        seen.add(traceparent)
        context = read_traceparent(traceparent)
        if context is not None and tracer.is_recorded(context):
            found.append((context, int(row["appended_at"] * 1e9)))
            if len(found) == MOST_LINKS:
                break
    return found

"""The CloudEvents 1.0 envelope in its Kafka binding, binary mode: attributes are headers, data is the value.

Source: CloudEvents 1.0.2 and its Kafka Protocol Binding, sections 3.1 and 3.2. Nothing personal goes into headers:
a tombstone has headers too, and outlives what it erases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from events.times import rfc3339

SPEC_VERSION: Final = "1.0"
DATA_CONTENT_TYPE: Final = "application/json"
#: The headers that every event has, in their order; `traceparent` follows where the request brought one.
HEADER_NAMES: Final = (
    "ce_specversion", "ce_id", "ce_source", "ce_type", "ce_subject", "ce_time", "ce_sequence", "ce_correlationid",
    "ce_causationid", "ce_dataschema", "content-type",
)  # fmt: skip

Headers = list[tuple[str, bytes]]


class EnvelopeError(ValueError):
    """A record's headers are not those of an event of ours; the message names the header and what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """The attributes of one event; all of them survive a republication unchanged."""

    event_id: UUID
    source: str
    type: str
    subject_id: UUID
    #: The subject's version after the event.
    version: int
    time: datetime
    correlation_id: str
    causation_id: str
    traceparent: str | None = None

    def headers(self) -> Headers:
        """The Kafka headers of this event, in a fixed order."""
        values = (
            SPEC_VERSION,
            str(self.event_id),
            self.source,
            self.type,
            str(self.subject_id),
            rfc3339(self.time),
            # Consumers compare it as text; 20 digits hold any version that a bigint can have.
            f"{self.version:020d}",
            self.correlation_id,
            self.causation_id,
            data_schema(self.type),
            DATA_CONTENT_TYPE,
        )
        headers = list(zip(HEADER_NAMES, map(str.encode, values), strict=True))
        if self.traceparent:
            headers.append(("traceparent", self.traceparent.encode()))
        return headers


def data_schema(event_type: str) -> str:
    """Where the JSON schema of a type is, relative to the command API."""
    return f"/schemas/{event_type}.json"


def read_envelope(headers: Sequence[tuple[str, bytes | None]]) -> Envelope:
    """The envelope of a record.

    Raises:
        EnvelopeError: a required header is missing, not UTF-8, or not what its name promises.
    """
    values = _decode(headers)
    try:
        return Envelope(
            event_id=UUID(values["ce_id"]),
            # Nobody decides anything by these three, so a record without them is still read.
            source=values.get("ce_source", ""),
            correlation_id=values.get("ce_correlationid", ""),
            causation_id=values.get("ce_causationid", ""),
            type=values["ce_type"],
            subject_id=UUID(values["ce_subject"]),
            version=int(values["ce_sequence"]),
            time=datetime.fromisoformat(values["ce_time"]),
            traceparent=values.get("traceparent"),
        )
    except KeyError as error:
        raise EnvelopeError(f"the header {error.args[0]} is missing") from error
    except ValueError as error:
        raise EnvelopeError(f"a header is not what its name promises: {error}") from error


def _decode(headers: Sequence[tuple[str, bytes | None]]) -> dict[str, str]:
    try:
        return {name: value.decode() for name, value in headers if value is not None}
    except UnicodeDecodeError as error:
        raise EnvelopeError(f"a header is not UTF-8: {error}") from error

"""The CloudEvents 1.0 envelope in its Kafka binding, binary mode: attributes are headers, data is the value.

Source: CloudEvents 1.0.2 and its Kafka Protocol Binding, sections 3.1 and 3.2. Nothing personal goes into headers:
a tombstone has headers too, and outlives what it erases.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from .times import rfc3339

SPEC_VERSION: Final = "1.0"
DATA_CONTENT_TYPE: Final = "application/json"
#: The headers that every event has, in their order; those of OPTIONAL_HEADERS that it has follow, in theirs.
HEADER_NAMES: Final = (
    "ce_specversion", "ce_id", "ce_source", "ce_type", "ce_subject", "ce_time", "ce_sequence", "ce_correlationid",
    "ce_causationid", "ce_dataschema", "content-type",
)  # fmt: skip
OPTIONAL_HEADERS: Final = ("ce_actor", "ce_onbehalfof", "traceparent")
#: An actor as it is published: an id, `self`, or `sha256:` and a digest; what else it may have is percent-encoded.
ACTOR_PATTERN: Final = r"[A-Za-z0-9._:|%-]{1,255}"
#: Whether a text is one.
is_actor: Final = re.compile(ACTOR_PATTERN).fullmatch
_is_sequence: Final = re.compile(r"[0-9]{1,20}").fullmatch

KafkaHeaders = list[tuple[str, bytes]]


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
    #: The one who made the change, as ACTOR_PATTERN has it: `self` for the subject; None where access was off.
    actor: str | None = None
    #: The one for whom it was made, where the actor acted for somebody else.
    on_behalf_of: str | None = None
    traceparent: str | None = None

    def headers(self) -> KafkaHeaders:
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
        optional = zip(OPTIONAL_HEADERS, (self.actor, self.on_behalf_of, self.traceparent), strict=True)
        headers += [(name, value.encode()) for name, value in optional if value]
        return headers


def data_schema(event_type: str) -> str:
    """The address of the JSON schema of a type, relative to the command API."""
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
            version=_sequence(values["ce_sequence"]),
            time=datetime.fromisoformat(values["ce_time"]),
            actor=_actor(values, "ce_actor"),
            on_behalf_of=_actor(values, "ce_onbehalfof"),
            traceparent=values.get("traceparent"),
        )
    except KeyError as error:
        raise EnvelopeError(f"the header {error.args[0]} is missing") from error
    except ValueError as error:
        raise EnvelopeError(f"a header is not what its name promises: {error}") from error


def _sequence(text: str) -> int:
    # `int` takes signs, spaces, underlines and the digits of every script, too.
    if not _is_sequence(text):
        raise ValueError("ce_sequence is no number of at most 20 digits")
    return int(text)


def _actor(values: dict[str, str], name: str) -> str | None:
    found = values.get(name)
    if found is not None and not is_actor(found):
        raise ValueError(f"{name} is no actor")
    return found


def _decode(headers: Sequence[tuple[str, bytes | None]]) -> dict[str, str]:
    try:
        return {name: value.decode() for name, value in headers if value is not None}
    except UnicodeDecodeError as error:
        raise EnvelopeError(f"a header is not UTF-8: {error}") from error

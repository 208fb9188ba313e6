"""The CloudEvents 1.0 envelope in its Kafka binding, binary mode: attributes in headers, data in the value.

Source: CloudEvents 1.0.2 and its Kafka Protocol Binding, sections 3.1 and 3.2. Nothing personal goes into headers:
a tombstone has headers too, and outlives what it erases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final
from uuid import UUID

from events.user_events import rfc3339

SPEC_VERSION: Final = "1.0"
SOURCE: Final = "/muster/users"
DATA_CONTENT_TYPE: Final = "application/json"

Headers = list[tuple[str, bytes]]

_SPEC_VERSION: Final = ("ce_specversion", SPEC_VERSION.encode())
_SOURCE: Final = ("ce_source", SOURCE.encode())
_CONTENT_TYPE: Final = ("content-type", DATA_CONTENT_TYPE.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """The attributes of one event; all of them survive a republication unchanged."""

    event_id: UUID
    type: str
    user_id: UUID
    version: int
    time: datetime
    correlation_id: str
    causation_id: str
    traceparent: str | None = None

    def headers(self) -> Headers:
        """The Kafka headers of this event, in a fixed order."""
        return kafka_headers(
            str(self.event_id).encode(),
            self.type,
            str(self.user_id).encode(),
            self.version,
            rfc3339(self.time).encode(),
            self.correlation_id,
            self.causation_id,
            self.traceparent,
        )


def kafka_headers(  # noqa: PLR0913, PLR0917 - the relay calls it for every event: one argument a header, none by name
    event_id: bytes,
    type_: str,
    user_id: bytes,
    version: int,
    time: bytes,
    correlation_id: str,
    causation_id: str,
    traceparent: str | None,
) -> Headers:
    """The Kafka headers of one event, in a fixed order; ids and time as text in ASCII."""
    of_type, of_schema = _headers_of_type(type_)
    headers = [
        _SPEC_VERSION,
        ("ce_id", event_id),
        _SOURCE,
        of_type,
        ("ce_subject", user_id),
        ("ce_time", time),
        # Compared as text by consumers; 20 digits hold any version a bigint can have.
        ("ce_sequence", b"%020d" % version),
        ("ce_correlationid", correlation_id.encode()),
        ("ce_causationid", causation_id.encode()),
        of_schema,
        _CONTENT_TYPE,
    ]
    if traceparent:
        headers.append(("traceparent", traceparent.encode()))
    return headers


@lru_cache(maxsize=64)
def _headers_of_type(type_: str) -> tuple[tuple[str, bytes], tuple[str, bytes]]:
    return ("ce_type", type_.encode()), ("ce_dataschema", data_schema(type_).encode())


class EnvelopeError(ValueError):
    """A record's headers are not those of an event of ours; the message names the header and what is wrong."""


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
            type=values["ce_type"],
            user_id=UUID(values["ce_subject"]),
            version=int(values["ce_sequence"]),
            time=datetime.fromisoformat(values["ce_time"]),
            correlation_id=values.get("ce_correlationid", ""),
            causation_id=values.get("ce_causationid", ""),
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

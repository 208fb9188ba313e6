"""Damage of rows of the outbox: the relay looks for it before it publishes, the operator's commands say it.

Whatever is no event must not go out. Kafka would refuse some of it, and with it the whole page; the rest it would keep
for ever, a change without its value as the erasure of its subject. What is wrong is logged, so it is said without the
row's values, but for its ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

from pydantic_core import from_json

from chassis.last_words import without_values
from events.catalogue import Catalogue
from events.envelope import Envelope, EnvelopeError, read_envelope
from events.topics import MAX_MESSAGE_BYTES
from outbox.headers import decode_headers
from outbox.table import OutboxRow

#: The places of the event's id in a row's headers; source and type follow, each with its length, and then the subject.
_ID, _BEHIND_ID = 27, 63
_SUBJECT: Final = b"\x14ce_subject\x48"
_SUBJECT_BYTES: Final = len(_SUBJECT)
#: Kinds that are remembered; a catalogue has a dozen.
_MOST_KINDS: Final = 256
#: The damage of a row in which nothing wrong could be seen here begins so.
KAFKA_REFUSES: Final = "Kafka refuses it"

_looked_at: Final = itemgetter("event_id", "subject_id", "value", "headers")


class Examiner:
    """Examines rows; what it knows of types comes from the catalogues, by their CloudEvents source."""

    def __init__(self, *catalogues: Catalogue[Any, Any]) -> None:
        """Every type is taken of a source that none of the catalogues has."""
        self._catalogues: Mapping[str, Catalogue[Any, Any]] = {one.source: one for one in catalogues}
        #: Kinds of events that were looked at whole: source and type, and how the value begins.
        self._seen: set[tuple[bytes, bytes | None]] = set()

    def first_damaged(self, rows: Sequence[OutboxRow]) -> tuple[int, str] | None:
        """The place of the first row that may not be published, and what is wrong with it.

        A kind of event is looked at whole once; after that only whether the headers name this event and its subject,
        and how the value begins and ends, because this is done for each event. Kafka refuses a page in which headers
        are damaged elsewhere.
        """
        seen = self._seen
        for place, (event_id, subject_id, value, headers) in enumerate(map(_looked_at, rows)):
            headers = headers or b""  # noqa: PLW2901 - a damaged row may have none
            subject = headers.find(_SUBJECT, _BEHIND_ID)
            kind = headers[_BEHIND_ID:subject], value and value[:1]
            if (
                kind in seen
                and (value is None or (value.endswith(b"}") and len(value) < MAX_MESSAGE_BYTES))
                and (event_id and headers.startswith(event_id.encode(), _ID))
                and (subject_id and headers.startswith(subject_id.encode(), subject + _SUBJECT_BYTES))
            ):
                continue
            damage = self.damage_of(rows[place])
            if damage is not None:
                return place, damage
            if len(seen) < _MOST_KINDS:
                seen.add(kind)
        return None

    def damage_of(self, row: OutboxRow) -> str | None:
        """The damage of a row, as far as it can be seen without Kafka; None where there is none."""
        missing = [name for name in ("event_id", "subject_id", "headers") if row[name] is None]
        if missing:
            return f"its {missing[0]} is null"
        try:
            envelope = read_envelope(decode_headers(row["headers"]))
        except EnvelopeError as error:
            return without_values(str(error))
        except ValueError as error:
            return f"its headers are no headers: {without_values(str(error))}"
        return self._other_than(row, envelope) or _damage_of_value(row)

    def _other_than(self, row: OutboxRow, envelope: Envelope) -> str | None:
        """The difference where headers, columns and value are of different events."""
        if str(envelope.event_id) != str(row["event_id"]):
            return f"its headers are those of event {envelope.event_id}"
        if str(envelope.subject_id) != str(row["subject_id"]):
            return f"its headers name the subject {envelope.subject_id}"
        catalogue = self._catalogues.get(envelope.source)
        if catalogue is None:
            return None
        if envelope.type not in catalogue.types():
            return "its type (ce_type) is unknown"
        if (row["value"] is None) != (envelope.type == catalogue.tombstone_type):
            return f"its type is {envelope.type} and its value is {'' if row['value'] is None else 'not '}null"
        return None


def _damage_of_value(row: OutboxRow) -> str | None:
    value = row["value"] or b""
    size = len(value) + len(row["headers"])
    if size > MAX_MESSAGE_BYTES:
        return f"it has {size:,} bytes, {MAX_MESSAGE_BYTES:,} are allowed"
    if row["value"] is None:
        return None
    try:
        data = from_json(value)
    except ValueError as error:
        return f"its value is no JSON: {without_values(str(error))}"
    return None if isinstance(data, dict) else "its value is no JSON object"

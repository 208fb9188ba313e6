"""The page marker: which page of the outbox a Kafka transaction holds, written by the relay in that very transaction.

It is on the relay's own compacted topic, with the relay's name as its key. So for a read_committed reader the newest
record names the newest page that is surely on the events topic. A relay that starts uses it to settle what its
predecessor left in doubt (outbox/relay/settlement.py).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

FORMAT: Final = 1


class RelayStopError(Exception):
    """Going on could lose or repeat events, so an operator must decide; the message says the facts and the ways out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageMarker:
    """One page: its outbox ids, and a digest of its event ids in the same order."""

    ids: tuple[int, ...]
    digest: str
    #: PostgreSQL's system identifier and database name: ids mean nothing in another database.
    system_identifier: str
    #: When it was published, RFC 3339; for people, never compared.
    time: str


def digest(event_ids: Sequence[str]) -> str:
    """SHA-256 over the event ids as text, joined by commas, in outbox order, as hex."""
    return hashlib.sha256(",".join(event_ids).encode()).hexdigest()


def encode_page_marker(record: PageMarker) -> bytes:
    """The record as JSON. Ids are runs (`[[first, last], ...]`): a full page is mostly one run, not 8,000 numbers."""
    return json.dumps(
        {
            "format": FORMAT,
            "ids": _runs(record.ids),
            "digest": record.digest,
            "system_identifier": record.system_identifier,
            "time": record.time,
        },
        separators=(",", ":"),
    ).encode()


def decode_page_marker(value: bytes) -> PageMarker:
    """Read a record.

    Raises:
        RelayStopError: another program wrote it, or another version of the relay.
    """
    try:
        document: dict[str, Any] = json.loads(value)
        if document["format"] != FORMAT:
            raise RelayStopError(
                f"the relay's record has format {document['format']!r}, this relay knows {FORMAT}: a newer relay wrote"
                " it. Run that version, or let it publish everything and stop before going back."
            )
        return PageMarker(
            ids=tuple(number for first, last in document["ids"] for number in range(first, last + 1)),
            digest=document["digest"],
            system_identifier=document["system_identifier"],
            time=document["time"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise RelayStopError(
            f"the relay's record cannot be read ({error!r}): something else writes to the relay's topic or uses this"
            " RELAY_NAME. Give this installation a RELAY_NAME or RELAY_TOPIC of its own."
        ) from error


def rows_in_doubt(record: PageMarker, found: Sequence[tuple[int, str]], system_identifier: str) -> list[int]:
    """The ids that must be deleted before anything is published: the record's page, if it is still in the outbox.

    `found` is what the outbox holds of the record's ids, in id order. One statement deletes a page, so all of it is
    there or nothing; anything else means that record and outbox do not belong together.

    Raises:
        RelayStopError: they do not.
    """
    if record.system_identifier != system_identifier:
        raise RelayStopError(
            f"the relay's record is about database {record.system_identifier}, this relay serves {system_identifier}."
            " If this database replaces that one and its outbox is to be published from here on, start with a new"
            " RELAY_NAME; if it is another installation, give it a RELAY_NAME of its own."
        )
    if not found:
        return []
    if len(found) == len(record.ids) and digest([event_id for _, event_id in found]) == record.digest:
        return [number for number, _ in found]
    raise RelayStopError(
        f"the relay's record of {record.time} names {len(record.ids)} events with ids {record.ids[0]} to"
        f" {record.ids[-1]}; the outbox holds {len(found)} rows with these ids, and they are other events. The database"
        " was probably restored from a backup: compare with `muster audit`, then start with a new RELAY_NAME to publish"
        " what the outbox holds; consumers ignore what they have seen by its version."
    )


def _runs(ids: Sequence[int]) -> list[list[int]]:
    runs: list[list[int]] = []
    for number in ids:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return runs

"""The places of subscribers, and the erasures still before them; pure, of what the event API and Kafka said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Json = Mapping[str, Any]

#: Whoever is so many positions before an end may have read all records: ends of transactions and what was aborted, also
#: by the relay to close a quiet segment, take positions that no reader is given and some do not count.
NEAR: Final = 200


@dataclass(frozen=True, slots=True)
class PartitionStanding:
    """One partition, as one subscriber has read it."""

    number: int
    #: The next position; None where it has said none.
    offset: int | None
    #: The records that it is behind; None where that cannot be told.
    behind: int | None


@dataclass(frozen=True, slots=True)
class Standing:
    """One subscriber."""

    name: str
    group: str | None
    owner: str | None
    acknowledged_at: str | None
    #: The standing in each partition; None where nothing is known of it on the topic that there is.
    partitions: Sequence[PartitionStanding] | None
    #: Erasures that it has not read, of those that were looked at.
    unread: int

    @property
    def behind(self) -> int | None:
        """Positions in all partitions together; None where one cannot be told."""
        known = [each.behind for each in self.partitions or () if each.behind is not None]
        return sum(known) if self.partitions and len(known) == len(self.partitions) else None

    @property
    def is_up_to_date(self) -> bool:
        """True where no record is before it."""
        return self.behind == 0


def standings(subscribers: Sequence[Json], ends: Mapping[int, int] | None, erasures: Sequence[Json]) -> list[Standing]:
    """Each subscriber, those furthest behind first, and among those what is not known before what is.

    `ends` is behind the last record of each partition, None where that is not known.
    """
    made = [_standing(each, ends, erasures) for each in subscribers]
    return sorted(made, key=lambda each: (-each.unread, each.is_up_to_date, -(each.behind or 0), each.name))


def near_the_end(subscribers: Sequence[Json], ends: Mapping[int, int]) -> dict[int, int]:
    """The first place, in each partition, of those that are NEAR positions before its end at most, and not there."""
    places: dict[int, int] = {}
    for said in subscribers:
        for number, offset in enumerate(said["offsets"] or ()):
            at, end = offset or 0, ends.get(number, 0)
            if end - NEAR <= at < end:
                places[number] = min(at, places.get(number, end))
    return places


def may_be_pending(erasure: Json, subscribers: Sequence[Json]) -> bool:
    """True where a subscriber may not have read it; its receipt says it for certain."""
    return any(not _has_read(each, erasure) for each in subscribers)


def pending_with(receipt: Json) -> tuple[list[str], list[str]]:
    """The subscribers that have not read an erasure, and those of whom that cannot be told, as its receipt says it."""
    said = receipt["subscribers"]
    return [each["name"] for each in said if each["past"] is False], [
        each["name"] for each in said if each["past"] is None
    ]


def _standing(said: Json, ends: Mapping[int, int] | None, erasures: Sequence[Json]) -> Standing:
    offsets: Sequence[int | None] | None = said["offsets"]
    partitions = None if offsets is None else [_partition(number, at, ends) for number, at in enumerate(offsets)]
    unread = sum(not _has_read(said, erasure) for erasure in erasures)
    return Standing(said["name"], said["group"], said["owner"], said["acknowledged_at"], partitions, unread)


def _partition(number: int, offset: int | None, ends: Mapping[int, int] | None) -> PartitionStanding:
    end = None if ends is None else ends.get(number)
    # A subscriber that has said nothing of a partition has read nothing of it.
    return PartitionStanding(number, offset, None if end is None else max(end - (offset or 0), 0))


def _has_read(said: Json, erasure: Json) -> bool:
    """True by positions on the topic that there is; of an erasure without a position nobody can tell."""
    partition, at, offsets = erasure["partition"], erasure["offset"], said["offsets"]
    if partition is None or at is None:
        return True
    if offsets is None or partition >= len(offsets):
        return False
    return bool((offsets[partition] or 0) > at)

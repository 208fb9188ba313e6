"""What is not ours is parked and holds nobody back; what compaction, a snapshot or a first look explains is ours."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from chassis.postgres.database import Database
from events.user_events import PublicUser, UserErased, UserProfileChanged, UserRegistered
from projectors.app import serve
from projectors.consumer import parking
from projectors.operations import parked
from projectors.operations.parked import SuspiciousError, WorkedOff
from projectors.settings import ProjectorSettings
from tests.integration.projectors.conftest import running
from tests.integration.projectors.consumer.test_effectively_once import NAMES, Member, contents
from tests.integration.projectors.folds import CONTENTS, FOLDS, changes_of
from tests.integration.projectors.stream import FakeRecord, Publisher, new_user, record
from tests.waiting import until

HUGE = 10**9


def state(user: PublicUser, version: int, **changes: Any) -> FakeRecord:
    """The event that brings this version."""
    after = user.model_copy(update={"version": version, "display_name": f"at {version}", **changes})
    return record(UserProfileChanged(user=after, previous={"display_name": None}))


def registered(user: PublicUser) -> FakeRecord:
    return record(UserRegistered(user=user))


def erased(user: PublicUser, version: int) -> FakeRecord:
    return record(UserErased(user.id, version))


def from_elsewhere(item: FakeRecord, source: bytes | None = b"/evil") -> FakeRecord:
    headers = [(known, source if known == "ce_source" else value) for known, value in item.headers]
    return replace(item, headers=[(known, value) for known, value in headers if value is not None])


def on_a_log(*records: FakeRecord) -> list[FakeRecord]:
    """In the order of one partition."""
    return [replace(item, offset=offset) for offset, item in enumerate(records)]


async def applied(database: Database, projection: str, records: Sequence[FakeRecord], portion: int) -> Member:
    member = Member(database, projection)
    await member.place([0])
    for start in range(0, len(records), portion):
        await member.apply(records[start : start + portion])
    return member


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("portion", [1, 10], ids=["one by one", "in one batch"])
async def test_what_is_not_ours_changes_nobody_and_holds_nobody_back(
    database: Database, name: str, portion: int
) -> None:
    ann, bob, eve = (new_user(number) for number in range(3))
    forged = [
        state(ann, HUGE),
        erased(ann, 2**63 - 1),
        from_elsewhere(state(ann, 2)),
        from_elsewhere(erased(ann, 2)),
        from_elsewhere(state(ann, 2), None),
        replace(state(ann, HUGE), value=b"{"),
        from_elsewhere(registered(eve)),
        replace(registered(eve), key=b"no id"),
        from_elsewhere(replace(registered(eve), key=None)),
    ]
    ours = [registered(ann), registered(bob), state(ann, 2), state(ann, 3), state(bob, 2)]
    await applied(database, name, on_a_log(*ours[:2], *forged, *ours[2:]), portion)

    assert await contents(database, name) == FOLDS[name](changes_of(ours))
    found = await parked.summaries(database)
    assert [one.suspicious for one in found] == [True] * len(forged)
    assert [one.subject_id for one in found] == [ann.id] * 6 + [eve.id, None, None]
    assert "version 1000000000 comes after version 1" in (found[0].error or "")
    assert "ce_source is '/evil'" in (found[2].error or "")


async def test_the_first_record_of_a_user_may_have_any_version(database: Database) -> None:
    ann = new_user(1)
    ours = [state(ann, 7), state(ann, 8)]
    await applied(database, "users", on_a_log(*ours, state(ann, 10)), 1)
    assert await contents(database, "users") == FOLDS["users"](changes_of(ours))


@pytest.mark.parametrize(("lag_ms", "version"), [(0, 5), (7 * 86_400_000, 1)], ids=["older", "younger"])
async def test_a_gap_is_explained_where_compaction_may_have_come(
    settings: ProjectorSettings, database: Database, publisher: Publisher, lag_ms: int, version: int
) -> None:
    settings = settings.model_copy(update={"topic_min_compaction_lag_ms": lag_ms})
    ann = new_user(1)
    await publisher.publish([registered(ann), state(ann, 5)])
    async with running(partial(serve, settings, projections=["users"])):

        async def read() -> bool:
            found = (await contents(database, "users"))["users"].get(ann.id, {})
            return bool(found.get("version") == version and len(await parked.summaries(database)) == (version < 5))

        await until(read, within=60, what="both records")


async def test_a_version_that_was_parked_and_discarded_was_read(database: Database) -> None:
    ann = new_user(1)
    records = on_a_log(
        registered(ann), replace(state(ann, 2), value=b"{"), replace(state(ann, 3), value=b"{"), state(ann, 4)
    )
    member = await applied(database, "users", records[:3], 1)
    for one in await parked.summaries(database):
        assert not one.suspicious
        await parked.discard_record(database, one.id)
    await member.apply(records[3:])
    assert (await contents(database, "users"))["users"][ann.id]["version"] == 4
    assert await parked.summaries(database) == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("portion", [1, 10], ids=["one by one", "in one batch"])
@pytest.mark.parametrize("is_discarded", [True, False], ids=["discarded", "still parked"])
async def test_whoever_has_only_something_parked_cannot_be_hidden_either(
    database: Database, name: str, portion: int, is_discarded: bool
) -> None:
    """Nothing was applied of her yet, and yet it is known which version comes next: in each generation alike."""
    ann = new_user(1)
    damaged = replace(registered(ann), value=b"{")
    log = on_a_log(damaged, state(ann, HUGE), state(ann, 2), state(ann, 3))
    before = 1 if is_discarded else 2
    member = await applied(database, name, log[:before], portion)
    [first] = [one for one in await parked.summaries(database) if one.id.offset == 0]
    if is_discarded:
        await parked.discard_record(database, first.id)
    await member.apply(log[before:])
    if not is_discarded:
        assert await parked.retry_all(database) == WorkedOff(0, 0, 3), "what waits behind the damaged one"
        await parked.discard_record(database, first.id)
    assert [one.subject_id for one in await parked.summaries(database) if one.suspicious] == [ann.id]
    assert await contents(database, name) == FOLDS[name](changes_of(log[2:]))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("portion", [1, 10], ids=["one by one", "in one batch"])
async def test_a_tombstone_acts_whatever_its_version_and_leaves_the_greater_one_behind(
    database: Database, name: str, portion: int
) -> None:
    ann, bob = new_user(1), new_user(2)
    records = [
        state(ann, 9), registered(bob), erased(ann, 4), state(ann, 5), state(ann, 9), state(bob, 2), erased(bob, 3),
        state(bob, 4),
    ]  # fmt: skip
    await applied(database, name, on_a_log(*records), portion)
    async with database.connection() as connection:
        found = await CONTENTS[name](connection)
        if name == "signups":
            rows = await connection.fetch("SELECT id, version FROM signups_g1_users WHERE day IS NULL")
            assert [tuple(row) for row in rows] == [(ann.id, 9)]
        else:
            assert found["erased"][ann.id] == 9
            living = found["users" if name == "users" else "entries"]
            assert set(living) == {bob.id}


async def test_a_suspicious_record_is_not_retried_and_can_be_discarded(database: Database) -> None:
    ann = new_user(1)
    await applied(database, "users", on_a_log(registered(ann), state(ann, HUGE)), 1)
    [one] = await parked.summaries(database)
    with pytest.raises(SuspiciousError, match=f"muster repair {ann.id}"):
        await parked.retry_record(database, one.id)
    assert (await parked.retry_all(database)).applied == 0
    assert (await parked.discard_record(database, one.id)).discarded == 1
    assert await values(database) == 0


async def test_what_names_nobody_is_suspicious_too_and_the_remedy_takes_it_away(database: Database) -> None:
    garbage = [
        replace(registered(new_user()), key=b"no id"),
        from_elsewhere(replace(registered(new_user()), key=None)),
        FakeRecord(None, b"x", []),
    ]
    await applied(database, "users", on_a_log(*garbage), 1)
    found = await parked.summaries(database)
    assert [one.suspicious for one in found] == [True] * 3
    with pytest.raises(SuspiciousError, match="is no id"):
        await parked.retry_record(database, found[0].id)
    assert await parked.retry_all(database) == WorkedOff(0, 0, 0)
    assert await parked.discard_suspicious(database) == 3
    async with database.connection() as connection:
        assert await parking.suspicious(connection) == {}


async def test_a_flood_is_parked_up_to_a_cap_and_then_counted_by_position(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parking, "SUSPICIOUS_RECORDS", 5)
    ann = new_user(1)
    flood = [from_elsewhere(registered(new_user(number))) for number in range(12)]
    keyless = [replace(registered(new_user()), key=b"no id") for _ in range(3)]
    await applied(database, "users", on_a_log(*flood, *keyless, registered(ann)), 4)
    assert set((await contents(database, "users"))["users"]) == {ann.id}
    assert len(await parked.summaries(database)) == 5
    [counted] = await parked.counted(database)
    assert (counted.records, counted.first_offset, counted.last_offset) == (10, 5, 14)
    assert await parked.discard_suspicious(database) == 15
    assert await parked.counted(database) == []


@pytest.mark.parametrize("lost", ["ce_id", "ce_type", "ce_subject", "ce_sequence", "ce_time"])
async def test_a_flood_in_our_name_is_bounded_and_holds_no_user_back(
    database: Database, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """Our `ce_source` is no secret; but our relay publishes no event without its headers."""
    monkeypatch.setattr(parking, "SUSPICIOUS_RECORDS", 5)
    ann = new_user(1)
    flood = [without(registered(new_user(number)), lost) for number in range(8)]
    aimed = [without(state(ann, 2), lost), replace(state(ann, 2), key=str(new_user(2).id).encode())]
    await applied(database, "users", on_a_log(registered(ann), *flood, *aimed, state(ann, 2)), 4)
    assert (await contents(database, "users"))["users"][ann.id]["version"] == 2
    assert [one.suspicious for one in await parked.summaries(database)] == [True] * 5
    [counted] = await parked.counted(database)
    assert counted.records == 5


async def test_a_flood_that_forges_every_header_is_bounded_and_what_is_ours_flows_on(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parking, "WAITING_RECORDS", 3)
    ann = new_user(1)
    flood = [replace(registered(new_user(number)), value=b"{") for number in range(10, 18)]
    aimed = replace(state(ann, 2), value=b"{")
    await applied(database, "users", on_a_log(registered(ann), *flood, aimed, state(ann, 3)), 5)
    assert (await contents(database, "users"))["users"][ann.id]["version"] == 3
    assert [one.suspicious for one in await parked.summaries(database)] == [False] * 3
    [counted] = await parked.counted(database)
    assert (counted.records, counted.first_offset, counted.last_offset) == (6, 4, 9)
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM parked_versions") == 3 + 1, "a row for none of the rest"


def without(item: FakeRecord, name: str) -> FakeRecord:
    return replace(item, headers=[(known, value) for known, value in item.headers if known != name])


async def test_a_parked_value_is_kept_once_and_goes_with_the_last_record_that_has_it(database: Database) -> None:
    ann = new_user(1)
    log = on_a_log(registered(ann), from_elsewhere(state(ann, 2)), erased(ann, 2))
    members = [await applied(database, projection, log[:2], 5) for projection in FOLDS]
    found = await parked.summaries(database)
    assert len(found) == len(FOLDS)
    assert await values(database) == 1
    assert (await parked.find(database, found[0].id)).value == log[1].value
    for left, member in enumerate(members, start=1):
        await member.apply(log[2:])
        assert await values(database) == (left < len(members)), "an erasure forgets what named the person"


async def values(database: Database) -> int:
    async with database.connection() as connection:
        return int(await connection.fetchval("SELECT count(*) FROM parked_values"))

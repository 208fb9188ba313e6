"""The checker on a small history made by hand: in order it has nothing to say; each planted bug it calls by name."""

from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.bugs import ALL, broken_by
from tests.chaos.checker import INVARIANTS, check
from tests.chaos.history import SNAPSHOT, Command, History, Read, Record, Sides, Told, Walk, events
from tests.chaos.planted import PLANTED, plant

DAY = "2026-11-29"


def document(user: str, version: int) -> dict[str, Any]:
    return {
        "id": user,
        "email": f"{user}@example.com",
        "username": user,
        "status": "active",
        "version": version,
        "created_at": f"{DAY}T12:00:00.000000Z",
    }


def history() -> History:
    """Ada and Bob register and change their profiles; both are read and listed; Eve is erased."""
    seen = History()
    for partition, (user, versions) in enumerate({"ada": 3, "bob": 3, "eve": 2}.items()):
        for version in range(1, versions + 1):
            erases = user == "eve" and version == versions
            kind = "register" if version == 1 else "erase" if erases else "profile"
            began, cause = 10.0 * version + partition, f"{user}-{version}"
            shown = None if erases else document(user, version)
            seen.commands.append(Command(cause, kind, 1, began, began + 1, 200, user, version, shown))
            seen.log.append(Record(partition, version, user, version, cause, f"muster.user.{kind}.v1", cause, shown))
            read = Read(1, user, version, began + 2, began + 3, 404 if erases else 200, version, shown)
            seen.reads.append(read if erases else Read(**{**fields(read), "as_of": began, "came": began + 3}))
    seen.walks.append(Walk("created_at", 50.0, 51.0, ("ada", "bob")))
    seen.streams.append([Told(record.user, record.version, record.event, record.type) for record in seen.log])
    living = {user: document(user, 3) for user in ("ada", "bob")}
    seen.sides = Sides(
        users=living,
        erased={"eve": 2},
        read_users=dict(living),
        read_erased={"eve": 2},
        timeline={user: [1, 2, 3] for user in living},
        signups={f"{DAY} active": 2},
    )
    return seen


def fields(read: Read) -> dict[str, Any]:
    return {name: getattr(read, name) for name in Read.__slots__}


def test_a_history_in_order_breaks_no_promise() -> None:
    assert check(history()) == {}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_caught_by_the_name_of_its_invariant(name: str) -> None:
    invariant, _ = PLANTED[name]

    assert invariant in check(plant(name, history()))


def test_every_invariant_has_a_bug_in_a_history_and_one_in_a_process() -> None:
    assert {invariant for invariant, _ in PLANTED.values()} == INVARIANTS.keys()
    assert broken_by(ALL) == INVARIANTS.keys()


def test_what_was_not_answered_may_have_happened_or_not() -> None:
    seen = history()
    asked = Command("ada-4", "profile", 1, 60.0, 61.0, None, "ada")
    seen.commands += [asked, Command("bob-4", "profile", 1, 60.0, 61.0, None, "bob")]
    after = document("ada", 4)
    seen.log.append(Record(0, 4, "ada", 4, "ada-4", "muster.user.profile.v1", "ada-4", after))
    seen.sides.users["ada"] = seen.sides.read_users["ada"] = after
    seen.sides.timeline["ada"].append(4)
    seen.streams[0].append(Told("ada", 4, "ada-4", "muster.user.profile.v1"))

    assert check(seen) == {}


def refilled() -> History:
    """The topic was lost before anybody had read Ada's third version, and filled again; then Bob changes once more."""
    seen = history()
    again = [
        replace(one, event=f"{one.user} again", cause="refill", type=SNAPSHOT) for one in seen.log if one.version == 3
    ]
    again += [replace(one, cause="refill") for one in seen.log if one.document is None]
    after = document("bob", 4)
    seen.commands.append(Command("bob-4", "profile", 1, 60.0, 61.0, 200, "bob", 4, after))
    again.append(Record(1, 0, "bob", 4, "bob-4", "muster.user.profile.v1", "bob-4", after))
    seen.log += [replace(one, offset=number, topic=1) for number, one in enumerate(again)]
    seen.streams.append([Told(one.user, one.version, one.event, one.type) for one in seen.log if one.topic])
    seen.unread["ada"] = [3]
    seen.sides.users["bob"] = seen.sides.read_users["bob"] = after
    seen.sides.timeline |= {"ada": [1, 2], "bob": [1, 2, 3, 4]}
    return seen


def test_a_topic_that_was_lost_and_filled_again_is_no_breach() -> None:
    assert check(refilled()) == {}
    assert [one.version for one in events(refilled().log) if one.topic] == [4]


def test_what_is_missing_after_a_refill_is_called_by_name() -> None:
    seen = refilled()
    seen.sides.timeline["bob"].remove(2)
    seen.streams[1].clear()
    seen.log.append(Record(0, 9, "ada", 4, "ada-4", "muster.user.profile.v1", "nobody", document("ada", 4), topic=1))

    assert {"timeline-differs-from-log", "stream-left-out-an-event", "unknown-write"} <= check(seen).keys()


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_caught_after_a_refill_too(name: str) -> None:
    invariant, _ = PLANTED[name]

    assert invariant in check(plant(name, refilled()))


def test_what_a_death_of_postgresql_took_back_is_no_breach() -> None:
    seen = history()
    seen.deaths.append(24.5)
    last = seen.reads[-1]
    seen.walks.append(Walk("created_at", 24.0, 25.0, ("ada", "bob", "eve")))
    seen.reads.append(
        Read(
            **{
                **fields(last),
                "status": 200,
                "asked": 0,
                "began": 24.6,
                "ended": 24.7,
                "version": 1,
                "document": document("eve", 1),
            }
        )
    )

    assert check(seen) == {}


def test_a_history_is_kept_as_it_was(tmp_path: Any) -> None:
    history().save(tmp_path / "history.json")

    assert History.load(tmp_path / "history.json") == history()

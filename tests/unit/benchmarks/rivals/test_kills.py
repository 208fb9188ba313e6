"""What kills cost is counted: events that a consumer lost, met twice, or met after a later one of their user."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.relay.backlog import envelopes
from benchmarks.rivals.kills import Counts, counted
from chassis.identifiers import new_id
from events.envelope import Envelope


@dataclass(frozen=True)
class Record:
    headers: Sequence[tuple[str, bytes]]


def records(*events: Envelope) -> list[Record]:
    return [Record(event.headers()) for event in events]


def history(versions: int) -> list[Envelope]:
    [first] = envelopes(1)
    return [replace(first, event_id=new_id(), version=version) for version in range(1, versions + 1)]


def test_what_came_once_and_in_order_costs_nothing() -> None:
    sent = history(3)

    assert counted(sent, records(*sent)) == Counts(3, lost=0, repeated=0, inverted=0)


def test_what_never_came_is_lost() -> None:
    sent = history(3)

    assert counted(sent, records(sent[0], sent[2])) == Counts(3, lost=1, repeated=0, inverted=0)


def test_what_came_again_is_repeated_and_no_inversion() -> None:
    sent = history(3)

    assert counted(sent, records(*sent, sent[0])) == Counts(3, lost=0, repeated=1, inverted=0)


def test_what_came_after_a_later_one_of_its_user_is_inverted() -> None:
    sent = history(3)

    assert counted(sent, records(sent[0], sent[2], sent[1])) == Counts(3, lost=0, repeated=0, inverted=1)


def test_users_have_orders_of_their_own() -> None:
    one, other = envelopes(2)
    later = replace(one, event_id=new_id(), version=7)

    assert counted([one, later, other], records(later, other, one)).inverted == 1

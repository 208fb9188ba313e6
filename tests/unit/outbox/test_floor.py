"""The floor rises only when no transaction can still bring a lower id, and a poll has looked since."""

import random
from dataclasses import dataclass, field

from outbox.relay.floor import Floor


def test_rises_once_every_transaction_of_that_time_has_ended_and_a_poll_has_looked() -> None:
    floor = Floor()
    floor.deleted(100)
    floor.observe(xmin=10, xmax=20)
    floor.polled(None, complete=True)
    assert floor.value == 0

    floor.observe(xmin=20, xmax=25)
    assert floor.value == 0
    floor.polled(None, complete=True)

    assert floor.value == 100


def test_stays_while_an_old_transaction_is_open() -> None:
    floor = Floor()
    floor.deleted(100)
    floor.observe(xmin=10, xmax=20)
    for xmax in range(21, 40):
        floor.observe(xmin=19, xmax=xmax)
        floor.polled(None, complete=True)

    assert floor.value == 0


def test_stays_while_a_page_was_cut_before_it() -> None:
    floor = Floor()
    floor.deleted(100)
    floor.observe(xmin=10, xmax=20)
    floor.observe(xmin=20, xmax=30)
    floor.polled(90, complete=False)
    assert floor.value == 0

    floor.polled(150, complete=False)

    assert floor.value == 100


def test_rises_at_the_first_poll_where_nobody_writes() -> None:
    floor = Floor()
    floor.deleted(100)
    floor.observe(xmin=20, xmax=20)
    floor.polled(None, complete=True)

    assert floor.value == 100


@dataclass
class Database:
    """A model of PostgreSQL: transactions take an xid, then an id, and commit in any order."""

    rng: random.Random
    next_xid: int = 1
    next_id: int = 1
    ended_xid: int = 0
    open: dict[int, int | None] = field(default_factory=dict)
    visible: set[int] = field(default_factory=set)

    def step(self) -> None:
        choice = self.rng.random()
        if choice < 0.4 or not self.open:
            self.open[self.next_xid] = None
            self.next_xid += 1
        elif choice < 0.7:
            xid = self.rng.choice(list(self.open))
            if self.open[xid] is None:
                self.open[xid] = self.next_id
                self.next_id += 1
        else:
            xid = self.rng.choice(list(self.open))
            row = self.open.pop(xid)
            self.ended_xid = max(self.ended_xid, xid)
            if row is not None and self.rng.random() < 0.8:
                self.visible.add(row)

    def snapshot(self) -> tuple[int, int]:
        """Xmin and xmax: who has a later xid than the last that has ended is open, and in neither."""
        xmax = self.ended_xid + 1
        return min((xid for xid in self.open if xid < xmax), default=xmax), xmax

    def delete(self) -> None:
        self.ended_xid = self.next_xid
        self.next_xid += 1


def test_no_row_ever_appears_below_it_whatever_the_transactions_do() -> None:
    highest = 0
    for seed in range(300):
        database, floor = Database(random.Random(seed)), Floor()
        published: set[int] = set()
        in_flight: list[int] = []
        for _ in range(400):
            database.step()
            if database.rng.random() < 0.3:
                floor.observe(*database.snapshot())
            if database.rng.random() < 0.3:
                rows = sorted(row for row in database.visible - published if row > floor.value)
                page = rows[:3]
                floor.polled(page[-1] if page else None, complete=len(rows) <= 3)
                published |= set(page)
                in_flight += page
            if in_flight and database.rng.random() < 0.3:
                database.delete()
                floor.deleted(max(in_flight))
                in_flight.clear()
            assert not {row for row in database.visible - published if row <= floor.value}, seed
        highest = max(highest, floor.value)

    assert highest > 50, "the floor must rise for the test to mean anything"

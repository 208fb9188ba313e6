"""The checker: a history in, broken promises out, each by the name of its invariant. Pure.

An invariant is a function whose docstring is the promise; it gives one sentence for each breach. What a client was not
answered may have happened or not: nothing is concluded from it.
"""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, pairwise
from typing import Any, Final

from events.user_events import USER_EVENTS
from tests.chaos.history import SNAPSHOT, Command, Document, History, Read, by_user, events

Breaches = Iterator[str]

#: What a server's death takes from the read tables is at most 0.6 s old (decision 15); the rest is for a slow machine.
LOSS_SECONDS: Final = 2.0
#: Both times are of one machine's clock; As-Of is rounded to microseconds.
ROUNDING_SECONDS: Final = 0.001
#: The field by which a list is sorted, and the commands that move a user in it.
MOVES: Final = {"created_at": frozenset[str](), "username": frozenset({"username"}), "email": frozenset({"email"})}


def check(history: History) -> dict[str, list[str]]:
    """Every breach, by the name of the invariant; empty where all promises were kept."""
    found = {name: list(invariant(history)) for name, invariant in INVARIANTS.items()}
    return {name: breaches for name, breaches in found.items() if breaches}


# -- what was acknowledged ---------------------------------------------------------------------------------------------


def acknowledged_write_lost(history: History) -> Breaches:
    """A command that was acknowledged is on the log, at the version that its answer named."""
    there = {(record.user, record.version) for record in events(history.log)}
    for command in _accepted(history):
        if (command.user, command.version) not in there:
            yield f"{_told(command)} is not on the log"


def answer_differs_from_event(history: History) -> Breaches:
    """The user whom an acknowledgement shows is the one in the event of that version."""
    documents = _documents(history)
    for command in _accepted(history):
        document = documents.get((str(command.user), command.version or 0))
        if command.document is not None and document is not None and document != command.document:
            yield f"{_told(command)} was answered with another user than its event has"


def command_ran_twice(history: History) -> Breaches:
    """A command leads to at most one event, however often it was sent with its Idempotency-Key."""
    for cause, count in Counter(record.cause for record in events(history.log)).items():
        if count > 1:
            yield f"{cause} led to {count} events"


def answers_differ(history: History) -> Breaches:
    """Once a command is acknowledged, the same with its Idempotency-Key gets the same answer, whatever came between."""
    for name, tries in _tries(history).items():
        done = next((number for number, one in enumerate(tries) if one.accepted), len(tries))
        # Of an erased person nothing is told again.
        later = [one for one in tries[done + 1 :] if (one.accepted or one.refused) and one.status not in {410, 503}]
        if any(_answer(one) != _answer(tries[done]) for one in later):
            yield f"{name} was acknowledged, and answered otherwise when it came again"


def refused_write_applied(history: History) -> Breaches:
    """A command that was refused each time it was sent has no event."""
    causes = {record.cause for record in history.log}
    for name, tries in _tries(history).items():
        if name in causes and all(one.refused for one in tries):
            yield f"{name} was refused ({tries[-1].status} {tries[-1].problem}) and is on the log"


def unknown_write(history: History) -> Breaches:
    """Every event comes from a command that was sent."""
    sent = {command.name for command in history.commands}
    for record in events(history.log):
        if record.cause not in sent:
            yield f"nobody sent {record.cause}, which led to version {record.version} of {record.user}"


def if_match_ignored(history: History) -> Breaches:
    """A command with If-Match is applied to that version and to no other."""
    causes = {record.cause for record in history.log}
    for command in _accepted(history):
        wanted = (command.expected or 0) + (command.name in causes)
        if command.expected is not None and command.version != wanted:
            yield f"{_told(command)} was sent for version {command.expected}"


def later_command_before_earlier(history: History) -> Breaches:
    """A command that begins after another's acknowledgement gets a later version of the same user."""
    changed = {record.cause for record in history.log}
    done: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for tries in _tries(history).values():
        if first := next((one for one in tries if one.accepted), None):
            done[str(first.user)].append((first.ended, first.version or 0))
    latest = {user: _running_maximum(sorted(ends)) for user, ends in done.items()}
    for name, tries in _tries(history).items():
        first = next((one for one in tries if one.accepted), None)
        if first is None:
            continue
        times, versions = latest[str(first.user)]
        before = bisect_left(times, tries[0].began)
        if before and (first.version or 0) < versions[before - 1] + (name in changed):
            yield f"{_told(first)} began after version {versions[before - 1]} was acknowledged"


def internal_error(history: History) -> Breaches:
    """Whatever fails below, the answer says "later": 503 or 504, and never another 5xx."""
    for answer in _answers(history):
        if answer.status is not None and answer.status >= 500 and answer.status not in {503, 504}:
            yield f"{answer.status} {answer.problem} to {_asked(answer)}"


def later_without_when(history: History) -> Breaches:
    """An answer that says "later" says when, in Retry-After."""
    for answer in _answers(history):
        # 503 outcome-unknown asks for the same request again, which needs no pause.
        if answer.status in {503, 504} and not answer.retry_after and answer.problem != "outcome-unknown":
            yield f"{answer.status} {answer.problem} to {_asked(answer)} had no Retry-After"


def not_recovered(history: History) -> Breaches:
    """Once a fault is over, changes are acknowledged and read back again, by themselves and in time."""
    for fault in history.unrecovered:
        yield f"{fault}: no change was acknowledged and read back in time"


# -- the log -----------------------------------------------------------------------------------------------------------


def event_published_twice(history: History) -> Breaches:
    """A read_committed subscriber reads each event once."""
    for (user, version), count in Counter((record.user, record.version) for record in events(history.log)).items():
        if count > 1:
            yield f"version {version} of {user} is on the log {count} times"
    for event, count in Counter(record.event for record in events(history.log)).items():
        if count > 1:
            yield f"event {event} is on the log {count} times"


def out_of_order(history: History) -> Breaches:
    """A user's events are on one partition, in the order of their versions."""
    for user, records in by_user(history.log).items():
        if len({record.partition for record in records}) > 1:
            yield f"{user} is on several partitions"
        if any(after.version < before.version for before, after in pairwise(records)):
            yield f"the versions of {user} are on the log as {[record.version for record in records]}"


def version_gap(history: History) -> Breaches:
    """A user's versions have no gap."""
    for user, records in by_user(events(history.log)).items():
        versions = {record.version for record in records}
        if missing := set(range(1, max(versions) + 1)) - versions:
            yield f"{user} has no version {sorted(missing)}"


def event_after_erasure(history: History) -> Breaches:
    """Nothing follows a user's tombstone."""
    for user, records in by_user(events(history.log)).items():
        if any(before.document is None for before, _ in pairwise(records)):
            yield f"{user} has events after the tombstone"


# -- what was read -----------------------------------------------------------------------------------------------------


def read_older_than_token(history: History) -> Breaches:
    """A query that brings a Consistency-Token is never answered from an older row."""
    erased = {command.user for command in history.commands if command.kind == "erase"}
    for read in history.reads:
        if read.status == 200 and (read.version or 0) < read.asked:
            yield f"{_asked(read)} was answered with version {read.version}"
        if read.status == 404 and read.asked and read.user not in erased:
            yield f"{_asked(read)} was answered with nobody"


def read_differs_from_event(history: History) -> Breaches:
    """What is read of a user is what the event of that version says."""
    documents = _documents(history)
    for read in history.reads:
        if read.document is not None and read.document != documents.get((read.user, read.version or 0)):
            yield f"{_asked(read)} showed a version {read.version} that the log does not have so"


def erased_is_read(history: History) -> Breaches:
    """Once an erasure has been read, or its token is sent, nobody reads the person again."""
    gone = {command.user: command.version or 0 for command in _accepted(history) if command.kind == "erase"}
    unseen: dict[str, float] = {}
    for read in history.reads:
        erasure = gone.get(read.user)
        if erasure and read.status == 404 and read.asked >= erasure and not _lost(history, read.ended):
            unseen[read.user] = min(read.ended, unseen.get(read.user, read.ended))
    for read in history.reads:
        erasure = gone.get(read.user)
        seen_gone = read.began > unseen.get(read.user, float("inf"))
        if erasure and read.status == 200 and (read.asked >= erasure or seen_gone):
            yield f"{_asked(read)} was answered with a person erased at version {erasure}"


def page_missed_a_user(history: History) -> Breaches:
    """A user who is there from the first page to the last, and is not moved, is on one of them."""
    sights, touched = _sights(history), _touched(history)
    for walk in history.walks:
        missed = sights.keys() - set(walk.ids)
        moves = MOVES[walk.sort.removeprefix("-")] | {"erase"}
        for user in missed:
            stays = not any(kind in moves and began < walk.ended for kind, began in touched[user])
            if stays and bisect_right(sights[user], walk.began):
                yield f"the list by {walk.sort} that began at {walk.began:.3f} left out {user}"


def page_repeated_a_user(history: History) -> Breaches:
    """A user who is not moved meanwhile is on one page of a list only."""
    touched = _touched(history)
    for walk in history.walks:
        moves = MOVES[walk.sort.removeprefix("-")]
        for user, count in Counter(walk.ids).items():
            if count > 1 and not any(kind in moves and began < walk.ended for kind, began in touched[user]):
                yield f"the list by {walk.sort} that began at {walk.began:.3f} has {user} {count} times"


def as_of_is_ahead(history: History) -> Breaches:
    """As-Of is never later than now."""
    for read in history.reads:
        if read.as_of is not None and read.as_of > read.came + ROUNDING_SECONDS:
            yield f"{_asked(read)} had an As-Of {read.as_of - read.came:.3f} s in the future"


def as_of_went_back(history: History) -> Breaches:
    """As-Of does not go back, unless PostgreSQL died and took the newest rows along."""
    dated = sorted((read for read in history.reads if read.as_of is not None), key=lambda read: read.ended)
    ends = [read.ended for read in dated if not _lost(history, read.ended)]
    _, highest = _running_maximum([(r.ended, r.as_of or 0.0) for r in dated if not _lost(history, r.ended)])
    for read in dated:
        before = bisect_left(ends, read.began)
        if before and (read.as_of or 0.0) < highest[before - 1] - ROUNDING_SECONDS:
            yield f"{_asked(read)} had an As-Of {highest[before - 1] - (read.as_of or 0.0):.3f} s before an earlier one"


# -- what the event API told -------------------------------------------------------------------------------------------


def stream_left_out_an_event(history: History) -> Breaches:
    """A client of the event API that began at the beginning, and comes back with its position, is told every event."""
    if not history.streams:
        return
    told = {one.event for one in history.streams[-1]}
    topic = max((record.topic for record in history.log), default=0)
    for record in events(history.log):
        if record.topic == topic and record.event not in told:
            yield f"version {record.version} of {record.user} was not told"


def stream_invented_an_event(history: History) -> Breaches:
    """What it is told is on the log."""
    there = {(record.user, record.version, record.event, record.type) for record in history.log}
    for one in chain.from_iterable(history.streams):
        if (one.user, one.version, one.event, one.type) not in there:
            yield f"{one} is not on the log"


def stream_repeated_an_event(history: History) -> Breaches:
    """It is told each event once, whatever was killed meanwhile; only what fills a lost topic may come again."""
    filling = {SNAPSHOT, USER_EVENTS.tombstone_type}
    for number, told in enumerate(history.streams):
        for one, count in Counter(told).items():
            if count > 1 and not (number and one.type in filling):
                yield f"{one} was told {count} times"


def stream_out_of_order(history: History) -> Breaches:
    """It is told of each user's events in the order of their versions."""
    for told in history.streams:
        latest: dict[str, int] = {}
        for one in told:
            if one.version < latest.get(one.user, 0):
                yield f"{one} was told after version {latest[one.user]}"
            latest[one.user] = max(one.version, latest.get(one.user, 0))


def position_lost(history: History) -> Breaches:
    """A position is good for as long as its topic is there."""
    lost = max((record.topic for record in history.log), default=0)
    if len(history.streams) > lost + 1:
        yield f"a client had to begin anew {len(history.streams) - 1} times, and the topic was lost {lost} times"


# -- both sides in the end ---------------------------------------------------------------------------------------------


def command_side_differs_from_log(history: History) -> Breaches:
    """In the end the command database holds what a fold of the log gives."""
    documents, erased = _fold(history)
    yield from _differences("command database", history.sides.users, documents)
    yield from _differences("erased of the command database", history.sides.erased, erased)


def read_side_differs_from_log(history: History) -> Breaches:
    """In the end the read table of users holds what a fold of the log gives."""
    documents, erased = _fold(history)
    yield from _differences("read table", history.sides.read_users, documents)
    yield from _differences("erased of the read table", history.sides.read_erased, erased)


def timeline_differs_from_log(history: History) -> Breaches:
    """In the end the timeline has all events of users who are not erased, but what was lost with a topic unread."""
    _, erased = _fold(history)
    found, wanted = history.sides.timeline, dict[str, list[int]]()
    for user, records in by_user(events(history.log)).items():
        missing = {*history.unread.get(user, ())} - {*found.get(user, ())}
        versions = [record.version for record in records if record.version not in missing]
        if user not in erased and versions:
            wanted[user] = versions
    yield from _differences("timeline", found, wanted)


def signups_differ_from_log(history: History) -> Breaches:
    """In the end the sign-ups count every user who is not erased, by day and status."""
    documents, _ = _fold(history)
    wanted = Counter(f"{one['created_at'][:10]} {one['status']}" for one in documents.values())
    yield from _differences("sign-ups", history.sides.signups, wanted)


def name_taken_twice(history: History) -> Breaches:
    """No two users have one address or one name."""
    for field in ("email", "username"):
        for value, count in Counter(one[field].casefold() for one in history.sides.users.values()).items():
            if count > 1:
                yield f"{count} users have the {field} {value}"


def events_left_behind(history: History) -> Breaches:
    """In the end every event is published."""
    if history.sides.waiting:
        yield f"{history.sides.waiting} events are still in the outbox"


def records_parked(history: History) -> Breaches:
    """Nothing that Muster itself has published is parked."""
    if history.sides.parked:
        yield f"{history.sides.parked} records are parked"


INVARIANTS: Final[dict[str, Callable[[History], Breaches]]] = {
    invariant.__name__.replace("_", "-"): invariant
    for invariant in (
        acknowledged_write_lost,
        answer_differs_from_event,
        command_ran_twice,
        answers_differ,
        refused_write_applied,
        unknown_write,
        if_match_ignored,
        later_command_before_earlier,
        internal_error,
        later_without_when,
        not_recovered,
        event_published_twice,
        out_of_order,
        version_gap,
        event_after_erasure,
        read_older_than_token,
        read_differs_from_event,
        erased_is_read,
        page_missed_a_user,
        page_repeated_a_user,
        as_of_is_ahead,
        as_of_went_back,
        stream_left_out_an_event,
        stream_invented_an_event,
        stream_repeated_an_event,
        stream_out_of_order,
        position_lost,
        command_side_differs_from_log,
        read_side_differs_from_log,
        timeline_differs_from_log,
        signups_differ_from_log,
        name_taken_twice,
        events_left_behind,
        records_parked,
    )
}


# -- what the invariants share -----------------------------------------------------------------------------------------


def _accepted(history: History) -> Iterator[Command]:
    return (command for command in history.commands if command.accepted)


def _answers(history: History) -> Iterator[Command | Read]:
    yield from history.commands
    yield from history.reads


def _tries(history: History) -> dict[str, list[Command]]:
    """The tries of each command, in the order in which they were sent."""
    tries: dict[str, list[Command]] = {}
    for command in sorted(history.commands, key=lambda command: command.began):
        tries.setdefault(command.name, []).append(command)
    return tries


def _answer(command: Command) -> tuple[int | None, int | None, Document | None]:
    return command.status, command.version, command.document


def _documents(history: History) -> dict[tuple[str, int], Document | None]:
    return {(record.user, record.version): record.document for record in events(history.log)}


def _fold(history: History) -> tuple[dict[str, Document], dict[str, int]]:
    """Who is there after the log's last event, and who is erased at which version."""
    documents: dict[str, Document] = {}
    erased: dict[str, int] = {}
    for user, records in by_user(history.log).items():
        last = max(records, key=lambda record: record.version)
        if last.document is None:
            erased[user] = last.version
        else:
            documents[user] = last.document
    return documents, erased


def _differences(name: str, found: dict[str, Any], wanted: dict[str, Any]) -> Breaches:
    for key in sorted(found.keys() | wanted.keys()):
        if found.get(key) != wanted.get(key):
            yield f"{name}: {key} is {found.get(key)}, and the log says {wanted.get(key)}"


def _lost(history: History, moment: float) -> bool:
    """Whether a death of PostgreSQL may have taken back what was read at that moment."""
    return any(moment <= death + LOSS_SECONDS and death - LOSS_SECONDS <= moment for death in history.deaths)


def _sights(history: History) -> dict[str, list[float]]:
    """When each user was read, in order, without what a death of PostgreSQL may have taken back."""
    sights: dict[str, list[float]] = defaultdict(list)
    for read in sorted(history.reads, key=lambda read: read.ended):
        if read.status == 200 and not _lost(history, read.ended):
            sights[read.user].append(read.ended)
    return sights


def _touched(history: History) -> dict[str, list[tuple[str, float]]]:
    """Which commands were sent about each user, and when."""
    touched: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for command in history.commands:
        if command.user is not None:
            touched[command.user].append((command.kind, command.began))
    return touched


def _running_maximum(pairs: Iterable[tuple[float, Any]]) -> tuple[list[float], list[Any]]:
    """The times, and the greatest value up to each."""
    times: list[float] = []
    greatest: list[Any] = []
    for moment, value in pairs:
        times.append(moment)
        greatest.append(max(value, greatest[-1]) if greatest else value)
    return times, greatest


def _told(command: Command) -> str:
    return f"{command.name} ({command.kind}), acknowledged as version {command.version} of {command.user},"


def _asked(answer: Command | Read) -> str:
    if isinstance(answer, Command):
        return f"{answer.name} ({answer.kind})"
    return f"the read of {answer.user} from version {answer.asked} at {answer.began:.3f}"

"""Bugs planted in recorded histories: each changes what a run has seen as a broken Muster would have.

Every invariant has one at least; the checker must give its name. They look for their victim in the history, so they
work on any that has seen something of each kind.
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from tests.chaos.history import Command, History, Read, Record, by_user, events

Plant = Callable[[History], None]


def plant(name: str, history: History) -> History:
    """A copy of the history with the bug of that name in it."""
    broken = copy.deepcopy(history)
    PLANTED[name][1](broken)
    return broken


# -- victims -----------------------------------------------------------------------------------------------------------


def _long_lived(history: History) -> list[Record]:
    """The records of a user who lives and has several versions, of which the last was acknowledged."""
    told = {(command.user, command.version) for command in history.commands if command.accepted}
    return next(
        records
        for records in by_user(events(history.log)).values()
        if len(records) > 2 and records[-1].document and (records[-1].user, records[-1].version) in told
    )


def _erased(history: History) -> list[Record]:
    return next(records for records in by_user(events(history.log)).values() if records[-1].document is None)


def _change(history: History, key: str, wanted: Callable[[Any], bool], **changes: Any) -> None:
    """Change the first command, read, walk or record that is wanted."""
    items = getattr(history, key)
    number = next(number for number, item in enumerate(items) if wanted(item))
    items[number] = replace(items[number], **changes)


def _done(command: Command) -> bool:
    return command.accepted and command.document is not None


def _later(command: Command) -> Command:
    return replace(command, began=command.began + 1000, ended=command.ended + 1000)


def _read_with_token(read: Read) -> bool:
    return read.status == 200 and read.asked > 1


# -- what was acknowledged ---------------------------------------------------------------------------------------------


def _forget_the_last_event(history: History) -> None:
    history.log.remove(_long_lived(history)[-1])


def _answer_with_another_name(history: History) -> None:
    _change(history, "commands", _done, document={"id": "somebody else"})


def _run_again(history: History) -> None:
    last = _long_lived(history)[-1]
    history.log.append(replace(last, version=last.version + 1, offset=last.offset + 10**6, event="another"))


def _answer_the_second_time_otherwise(history: History) -> None:
    first = next(filter(_done, history.commands))
    history.commands.append(replace(_later(first), version=(first.version or 0) + 1))


def _answer_the_second_time_with_a_refusal(history: History) -> None:
    first = next(filter(_done, history.commands))
    history.commands.append(replace(_later(first), status=409, problem="email-taken", version=None, document=None))


def _refuse_what_was_done(history: History) -> None:
    name = next(filter(_done, history.commands)).name
    history.commands[:] = [
        replace(one, status=503, problem="unavailable", retry_after=True) if one.name == name else one
        for one in history.commands
    ]


def _invent_a_command(history: History) -> None:
    name = next(filter(_done, history.commands)).name
    history.commands[:] = [one for one in history.commands if one.name != name]


def _apply_to_another_version(history: History) -> None:
    _change(history, "commands", lambda one: _done(one) and one.kind == "profile", expected=10**6)


def _swap_in_time(history: History) -> None:
    """A command that began when all was over got the first version."""
    end = max(command.ended for command in history.commands) + 1
    name = next(one for one in history.commands if one.kind == "register" and one.accepted and _grew(history, one)).name
    history.commands[:] = [
        replace(one, began=one.began + end, ended=one.ended + end) if one.name == name else one
        for one in history.commands
    ]


def _grew(history: History, registration: Command) -> bool:
    return any(one.accepted and one.user == registration.user and one.version != 1 for one in history.commands)


def _fail(history: History) -> None:
    _change(history, "commands", _done, status=500, problem="internal-error")


def _say_later_without_when(history: History) -> None:
    _change(history, "reads", _read_with_token, status=503, problem="unavailable")


def _never_come_back(history: History) -> None:
    history.unrecovered.append("kill relay")


# -- the log -----------------------------------------------------------------------------------------------------------


def _publish_twice(history: History) -> None:
    # A tombstone comes again where a lost topic was filled.
    *_, last = (record for record in events(history.log) if record.document)
    history.log.append(replace(last, offset=last.offset + 10**6))


def _publish_an_id_twice(history: History) -> None:
    first, *_, last = events(history.log)
    history.log[history.log.index(last)] = replace(last, event=first.event)


def _swap_two_events(history: History) -> None:
    *_, before, last = _long_lived(history)
    history.log[history.log.index(before)] = replace(before, offset=last.offset, topic=last.topic)
    history.log[history.log.index(last)] = replace(last, offset=before.offset, topic=before.topic)


def _move_to_another_partition(history: History) -> None:
    last = _long_lived(history)[-1]
    history.log[history.log.index(last)] = replace(last, partition=last.partition + 1)


def _skip_a_version(history: History) -> None:
    history.log.remove(_long_lived(history)[1])


def _live_on_after_the_tombstone(history: History) -> None:
    last = _erased(history)[-1]
    alive = history.log[0].document
    history.log.append(
        replace(last, offset=last.offset + 10**6, version=last.version + 1, document=alive, event="another")
    )


# -- what was read -----------------------------------------------------------------------------------------------------


def _read_an_older_row(history: History) -> None:
    read = next(filter(_read_with_token, history.reads))
    _change(history, "reads", lambda one: one is read, version=read.asked - 1)


def _read_nobody(history: History) -> None:
    erased = {command.user for command in history.commands if command.kind == "erase"}
    _change(history, "reads", lambda one: _read_with_token(one) and one.user not in erased, status=404, document=None)


def _read_something_else(history: History) -> None:
    _change(history, "reads", _read_with_token, document={"id": "somebody else"})


def _read_the_erased(history: History) -> None:
    erasure = next(one for one in history.commands if one.kind == "erase" and one.accepted)
    read = next(filter(_read_with_token, history.reads))
    history.reads.append(replace(read, user=str(erasure.user), asked=erasure.version or 0))


def _miss_a_user_on_a_page(history: History) -> None:
    """Whoever was read first stays until the end, and the last list does not have them."""
    erased = {command.user for command in history.commands if command.kind == "erase"}
    victim = next(read.user for read in history.reads if read.status == 200 and read.user not in erased)
    end = max(read.ended for read in history.reads) + 1
    ids = tuple(one for one in history.walks[-1].ids if one != victim)
    history.walks.append(replace(history.walks[-1], sort="created_at", began=end, ended=end + 1, ids=ids))


def _repeat_a_user_on_a_page(history: History) -> None:
    _change(history, "walks", lambda walk: len(walk.ids) > 1, sort="created_at", ids=("somebody", "somebody"))


def _promise_the_future(history: History) -> None:
    read = next(read for read in history.reads if read.as_of is not None)
    _change(history, "reads", lambda one: one is read, as_of=read.came + 5)


def _turn_the_clock_back(history: History) -> None:
    last = max((read for read in history.reads if read.as_of is not None), key=lambda read: read.ended)
    history.reads.append(replace(last, as_of=(last.as_of or 0.0) - 5, began=last.ended + 10, ended=last.ended + 11))
    history.deaths.clear()


# -- what the event API told -------------------------------------------------------------------------------------------


def _tell_all_but_the_last(history: History) -> None:
    *_, last = events(history.log)
    told = history.streams[-1]
    told[:] = [one for one in told if one.event != last.event]


def _tell_what_never_was(history: History) -> None:
    told = history.streams[-1]
    told.append(replace(told[-1], version=told[-1].version + 1, event="another"))


def _tell_the_first_again(history: History) -> None:
    told = history.streams[0]
    told.insert(1, told[0])


def _tell_the_first_last(history: History) -> None:
    told, first = history.streams[0], _long_lived(history)[0]
    told.append(next(one for one in told if one.event == first.event))


def _lose_a_position(history: History) -> None:
    history.streams += [[] for _ in range(1 + max(record.topic for record in history.log))]


# -- both sides in the end ---------------------------------------------------------------------------------------------


def _lose_a_row_of_the_command_side(history: History) -> None:
    history.sides.users.popitem()


def _forget_who_was_erased(history: History) -> None:
    history.sides.erased.popitem()


def _lose_a_row_of_the_read_side(history: History) -> None:
    history.sides.read_users.popitem()


def _bring_back_the_erased(history: History) -> None:
    user, _ = history.sides.read_erased.popitem()
    history.sides.read_users[user] = {"id": user}


def _lose_an_entry_of_a_timeline(history: History) -> None:
    max(history.sides.timeline.values(), key=len).pop()


def _count_a_signup_twice(history: History) -> None:
    day = next(iter(history.sides.signups))
    history.sides.signups[day] += 1


def _give_a_name_to_two(history: History) -> None:
    first, second, *_ = history.sides.users.values()
    second["username"] = first["username"].upper()


def _leave_an_event_behind(history: History) -> None:
    history.sides.waiting = 1


def _park_a_record(history: History) -> None:
    history.sides.parked = 1


PLANTED: Final[dict[str, tuple[str, Plant]]] = {
    plant.__name__.strip("_").replace("_", "-"): (invariant, plant)
    for invariant, plant in (
        ("acknowledged-write-lost", _forget_the_last_event),
        ("answer-differs-from-event", _answer_with_another_name),
        ("command-ran-twice", _run_again),
        ("answers-differ", _answer_the_second_time_otherwise),
        ("answers-differ", _answer_the_second_time_with_a_refusal),
        ("refused-write-applied", _refuse_what_was_done),
        ("unknown-write", _invent_a_command),
        ("if-match-ignored", _apply_to_another_version),
        ("later-command-before-earlier", _swap_in_time),
        ("internal-error", _fail),
        ("later-without-when", _say_later_without_when),
        ("not-recovered", _never_come_back),
        ("event-published-twice", _publish_twice),
        ("event-published-twice", _publish_an_id_twice),
        ("out-of-order", _swap_two_events),
        ("out-of-order", _move_to_another_partition),
        ("version-gap", _skip_a_version),
        ("event-after-erasure", _live_on_after_the_tombstone),
        ("read-older-than-token", _read_an_older_row),
        ("read-older-than-token", _read_nobody),
        ("read-differs-from-event", _read_something_else),
        ("erased-is-read", _read_the_erased),
        ("page-missed-a-user", _miss_a_user_on_a_page),
        ("page-repeated-a-user", _repeat_a_user_on_a_page),
        ("as-of-is-ahead", _promise_the_future),
        ("as-of-went-back", _turn_the_clock_back),
        ("stream-left-out-an-event", _tell_all_but_the_last),
        ("stream-invented-an-event", _tell_what_never_was),
        ("stream-repeated-an-event", _tell_the_first_again),
        ("stream-out-of-order", _tell_the_first_last),
        ("position-lost", _lose_a_position),
        ("command-side-differs-from-log", _lose_a_row_of_the_command_side),
        ("command-side-differs-from-log", _forget_who_was_erased),
        ("read-side-differs-from-log", _lose_a_row_of_the_read_side),
        ("read-side-differs-from-log", _bring_back_the_erased),
        ("timeline-differs-from-log", _lose_an_entry_of_a_timeline),
        ("signups-differ-from-log", _count_a_signup_twice),
        ("name-taken-twice", _give_a_name_to_two),
        ("events-left-behind", _leave_an_event_behind),
        ("records-parked", _park_a_record),
    )
}

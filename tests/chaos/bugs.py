"""`python bugs.py NAMES ARGUMENTS…`: `muster ARGUMENTS…` with bugs planted in it, to see that the checker names them.

Only the tests know of this program; it changes the modules of a process of its own before they are used. Each bug is in
one process only, so that many can be planted at once.
"""

import asyncio
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import count
from typing import Any, Final

from msgspec import structs

#: A bug that strikes some strikes one of so many.
_SOME: Final = 7
_MANY: Final = 50
#: For so long events gather.
_SLOW_SECONDS: Final = 0.5


def _relay_sends_twice() -> None:
    from outbox.publishing.publisher import Publisher  # noqa: PLC0415 - each process imports what it needs

    prepare = Publisher.prepare

    async def twice(self: Publisher, rows: Sequence[Any]) -> Any:
        return await prepare(self, [*rows, *rows[-1:]])

    Publisher.prepare = twice  # type: ignore[method-assign] # that is the bug


def _projectors_keep_the_erased() -> None:
    from projectors.projections.users import UsersWriter  # noqa: PLC0415 - as above

    apply = UsersWriter.apply

    async def living(self: UsersWriter, connection: Any, events: Sequence[Any]) -> None:
        await apply(self, connection, [event for event in events if event.state is not None])

    UsersWriter.apply = living  # type: ignore[method-assign] # as above


def _timeline_forgets() -> None:
    from projectors.projections.timeline import TimelineWriter  # noqa: PLC0415 - as above

    apply = TimelineWriter.apply

    async def nearly_all(self: TimelineWriter, connection: Any, events: Sequence[Any]) -> None:
        await apply(self, connection, [event for event in events if event.version % 3])

    TimelineWriter.apply = nearly_all  # type: ignore[method-assign] # as above


def _query_ignores_tokens() -> None:
    from query_api.reading import consistency  # noqa: PLC0415 - as above

    consistency._wanted_versions = lambda exchange: {}  # noqa: ARG005 - it is called so


def _query_promises_the_future() -> None:
    from query_api.reading import serving  # noqa: PLC0415 - as above

    serving._VIEWS_SQL = serving._VIEWS_SQL.replace(  # type: ignore[misc] # as above
        "least(min(c.seen_until), now())", "now() + interval '5 s'"
    )


def _command_ignores_if_match() -> None:
    from command_api.http import headers  # noqa: PLC0415 - as above
    from command_api.users.context import Precondition  # noqa: PLC0415 - as above

    headers.parse_if_match = lambda header: Precondition(None)  # noqa: ARG005 - it is called so


def _command_forgets_keys() -> None:
    from command_api.idempotency.keys import Keys  # noqa: PLC0415 - as above
    from command_api.users import decisions  # noqa: PLC0415 - as above

    # Otherwise nothing is left to do for a command that comes again.
    vars(decisions)["encoded"] = lambda _: object()

    make, numbers = Keys.make, count()

    def another(self: Keys, header: str, **what: Any) -> Any:
        return make(self, f"{header}-{next(numbers)}", **what)

    Keys.make = another  # type: ignore[method-assign] # as above


def _events_are_told_twice() -> None:
    from event_api.http.stream import EventStream  # noqa: PLC0415 - as above

    written = EventStream._written

    def twice(self: EventStream, items: Iterable[Any]) -> Iterable[bytes]:
        return written(self, [one for item in items for one in (item, item)])

    EventStream._written = twice  # type: ignore[method-assign] # as above


def _relay_loses() -> None:
    from outbox.publishing.publisher import Publisher  # noqa: PLC0415 - as above

    prepare, numbers = Publisher.prepare, count(1)

    async def nearly_all(self: Publisher, rows: Sequence[Any]) -> Any:
        return await prepare(self, [row for row in rows if next(numbers) % _SOME])

    Publisher.prepare = nearly_all  # type: ignore[method-assign] # as above


def _relay_reverses() -> None:
    from outbox.publishing.publisher import Publisher  # noqa: PLC0415 - as above

    prepare = Publisher.prepare

    async def backwards(self: Publisher, rows: Sequence[Any]) -> Any:
        # Of the next page, so that it has several of one user.
        await asyncio.sleep(_SLOW_SECONDS)
        return await prepare(self, rows[::-1])

    Publisher.prepare = backwards  # type: ignore[method-assign] # as above


def _signups_forget() -> None:
    from projectors.projections.signups import SignupsWriter  # noqa: PLC0415 - as above

    apply = SignupsWriter.apply

    async def nearly_all(self: SignupsWriter, connection: Any, events: Sequence[Any]) -> None:
        await apply(self, connection, [event for event in events if int(event.subject_id) % _SOME])

    SignupsWriter.apply = nearly_all  # type: ignore[method-assign] # as above


def _query_goes_back() -> None:
    from query_api.reading import serving  # noqa: PLC0415 - as above

    serving._VIEWS_SQL = serving._VIEWS_SQL.replace(  # type: ignore[misc] # as above
        "least(min(c.seen_until), now())", "least(min(c.seen_until), now()) - random() * interval '5 s'"
    )


def _change_bounds(change: Callable[[list[str]], list[str]]) -> None:
    from query_api.users.statements import _PageParts  # noqa: PLC0415 - as above

    make = _PageParts.__init__

    def changed(self: _PageParts, shape: Any, *, many: bool = False) -> None:
        make(self, shape, many=many)
        self._bounds = change(self._bounds)

    _PageParts.__init__ = changed  # type: ignore[method-assign] # as above


def _pages_leave_out() -> None:
    _change_bounds(lambda bounds: [*bounds, "right(id::text, 1) <> '7'"])


def _pages_repeat() -> None:
    _change_bounds(lambda bounds: [one.replace(") < (", ") <= (").replace(") > (", ") >= (") for one in bounds])


def _command_fails() -> None:
    from command_api.idempotency.keys import Keys  # noqa: PLC0415 - as above

    make, numbers = Keys.make, count(1)

    def sometimes(self: Keys, header: str, **what: Any) -> Any:
        if not next(numbers) % _SOME:
            raise RuntimeError("a test planted this")
        return make(self, header, **what)

    Keys.make = sometimes  # type: ignore[method-assign] # as above


def _events_are_left_out() -> None:
    from event_api.http.stream import EventStream  # noqa: PLC0415 - as above

    written, numbers = EventStream._written, count(1)

    def nearly_all(self: EventStream, items: Iterable[Any]) -> Iterable[bytes]:
        return written(self, [item for item in items if next(numbers) % _SOME])

    EventStream._written = nearly_all  # type: ignore[method-assign] # as above


def _events_are_reversed() -> None:
    from event_api.http.stream import EventStream  # noqa: PLC0415 - as above

    written = EventStream._written

    def backwards(self: EventStream, items: Iterable[Any]) -> Iterable[bytes]:
        # So many that one user is among them twice.
        held: list[Any] = vars(self).setdefault("held", [])
        held += items
        if len(held) < _MANY:
            return ()
        vars(self)["held"] = []
        return written(self, held[::-1])

    EventStream._written = backwards  # type: ignore[method-assign] # as above


def _projectors_misread() -> None:
    from projectors.projections import users  # noqa: PLC0415 - as above

    columns = users._columns

    def misread(events: Sequence[Any]) -> Any:
        return columns([structs.replace(event, document=event.document.replace(b"Ada ", b"Eve ")) for event in events])

    users._columns = misread


def _projectors_misfile() -> None:
    from projectors.projections import users  # noqa: PLC0415 - as above

    vars(users)["text_keys"] = lambda names: [name[::-1] for name in names]


def _projectors_stumble() -> None:
    from projectors.projections import users  # noqa: PLC0415 - as above

    columns = users._columns

    def stumble(events: Sequence[Any]) -> Any:
        if any(not int(event.subject_id) % _SOME for event in events):
            raise ValueError("a test planted this")
        return columns(events)

    users._columns = stumble


def _relay_revives() -> None:
    from outbox.publishing.publisher import Publisher  # noqa: PLC0415 - as above

    prepare, living = Publisher.prepare, dict[str, Any]()

    async def revived(self: Publisher, rows: Sequence[Any]) -> Any:
        living.update({row["subject_id"]: row for row in rows if row["value"] is not None})
        gone = [living[row["subject_id"]] for row in rows if row["value"] is None and row["subject_id"] in living]
        return await prepare(self, [*rows, *gone])

    Publisher.prepare = revived  # type: ignore[method-assign] # as above


def _relay_publishes_nothing() -> None:
    from outbox.publishing.publisher import Publisher  # noqa: PLC0415 - as above

    prepare = Publisher.prepare

    async def nothing(self: Publisher, rows: Sequence[Any]) -> Any:
        if rows:
            raise RuntimeError("a test planted this")
        return await prepare(self, rows)  # so it starts

    Publisher.prepare = nothing  # type: ignore[method-assign] # as above


def _events_are_invented() -> None:
    from event_api.users.messages import UserRecord  # noqa: PLC0415 - as above

    write, numbers = UserRecord.json, count(1)

    def another(self: UserRecord, *, full: bool) -> bytes:
        told = write(self, full=full)
        return told if next(numbers) % _SOME else told.replace(b'"version":', b'"version":9')

    UserRecord.json = another  # type: ignore[method-assign] # as above


def _events_lose_positions() -> None:
    from event_api.http.stream import EventStream  # noqa: PLC0415 - as above
    from event_api.log.continuity import LogGoneError  # noqa: PLC0415 - as above
    from event_api.log.log import EventLog  # noqa: PLC0415 - as above

    written, numbers = EventStream._written, count(1)

    def breaks_off(self: EventStream, items: Iterable[Any]) -> Iterable[bytes]:
        yield from written(self, items)
        if not next(numbers) % _SOME:
            raise ConnectionResetError("a test planted this")

    async def gone(self: EventLog, wanted: Any, text: str) -> Any:
        raise LogGoneError("a test planted this")

    EventStream._written = breaks_off  # type: ignore[method-assign] # as above
    EventLog.resume = gone  # type: ignore[method-assign] # as above


def _change_some(
    first: int, *, before: Callable[[], None] | None = None, after: Callable[[Any], Any] | None = None
) -> None:
    """Have some changes of users meet this: `before` may raise, `after` makes another answer of theirs.

    Bugs that are planted together have different first ones: on the same changes one would hide the other.
    """
    from command_api.users.handlers import UserHandlers  # noqa: PLC0415 - as above

    change, numbers = UserHandlers.change, count(first)

    async def changed(self: UserHandlers, *arguments: Any) -> Any:
        is_one = not next(numbers) % _SOME
        if is_one and before:
            before()
        answer = await change(self, *arguments)
        return after(answer) if is_one and after else answer

    UserHandlers.change = changed  # type: ignore[method-assign, assignment] # as above


def _command_tells_another() -> None:
    def another(answer: Any) -> Any:
        return replace(answer, body=answer.body and answer.body.replace(b'"display_name":', b'"former_name":'))

    _change_some(1, after=another)


def _command_refuses_what_it_did() -> None:
    from command_api.users.refusals import UserNotFoundError  # noqa: PLC0415 - as above

    def refused(_: Any) -> Any:
        raise UserNotFoundError

    _change_some(4, after=refused)


def _command_tells_an_older_version() -> None:
    def older(answer: Any) -> Any:
        version = int(answer.headers["ETag"].strip('"'))
        return replace(answer, headers={**answer.headers, "ETag": f'"{version - 1}"'})

    _change_some(1, after=older)


def _command_does_not_say_when() -> None:
    from chassis.postgres.database import DatabaseUnavailableError  # noqa: PLC0415 - as above
    from command_api.http import errors  # noqa: PLC0415 - as above

    def away() -> None:
        raise DatabaseUnavailableError("a test planted this")

    errors._PASSING = frozenset()  # type: ignore[misc] # as above
    _change_some(4, before=away)


def _command_takes_another_cause() -> None:
    from command_api.users.handlers import UserHandlers  # noqa: PLC0415 - as above

    make, numbers = UserHandlers._change, count(1)

    def another(self: UserHandlers, event: Any, user: Any, cause: Any, password_hash: Any) -> Any:
        if not next(numbers) % _SOME:
            cause = replace(cause, correlation_id=f"{cause.correlation_id}-x")
        return make(self, event, user, cause, password_hash)

    UserHandlers._change = another  # type: ignore[method-assign] # as above


def _command_names_twice() -> None:
    from command_api.users import rows  # noqa: PLC0415 - as above

    numbers = count()
    vars(rows)["text_key"] = lambda name: f"{name}-{next(numbers)}"


Bugs = dict[str, tuple[str, Callable[[], None], Sequence[str]]]

#: What is planted in which process, and the invariants by whose names it is caught. Each dict is planted at once, in a
#: stack of its own: none of its bugs hides another, and none is caught for what others have left.
BUGS: Final[tuple[Bugs, ...]] = (
    {
        "relay-sends-twice": ("relay", _relay_sends_twice, ["event-published-twice"]),
        "projectors-keep-the-erased": (
            "project", _projectors_keep_the_erased, ["read-side-differs-from-log", "erased-is-read"],
        ),
        "timeline-forgets": ("project", _timeline_forgets, ["timeline-differs-from-log"]),
        "query-ignores-tokens": ("query", _query_ignores_tokens, ["read-older-than-token"]),
        "query-promises-the-future": ("query", _query_promises_the_future, ["as-of-is-ahead"]),
        "events-are-told-twice": ("events", _events_are_told_twice, ["stream-repeated-an-event"]),
        "command-ignores-if-match": ("command", _command_ignores_if_match, ["if-match-ignored"]),
        "command-forgets-keys": ("command", _command_forgets_keys, ["answers-differ", "command-ran-twice"]),
    },
    {
        "relay-loses": (
            "relay", _relay_loses, ["acknowledged-write-lost", "version-gap", "command-side-differs-from-log"],
        ),
        "projectors-misread": (
            "project", _projectors_misread, ["read-differs-from-event", "read-side-differs-from-log"],
        ),
        "signups-forget": ("project", _signups_forget, ["signups-differ-from-log"]),
        "query-goes-back": ("query", _query_goes_back, ["as-of-went-back"]),
        "pages-leave-out": ("query", _pages_leave_out, ["page-missed-a-user"]),
        "command-fails": ("command", _command_fails, ["internal-error"]),
        "events-are-reversed": ("events", _events_are_reversed, ["stream-out-of-order"]),
    },
    {
        "relay-reverses": ("relay", _relay_reverses, ["out-of-order"]),
        "pages-repeat": ("query", _pages_repeat, ["page-repeated-a-user"]),
        "events-are-left-out": ("events", _events_are_left_out, ["stream-left-out-an-event"]),
        "projectors-stumble": ("project", _projectors_stumble, ["records-parked"]),
        "command-names-twice": ("command", _command_names_twice, ["name-taken-twice"]),
    },
    {
        "relay-revives": ("relay", _relay_revives, ["event-after-erasure"]),
        "events-are-invented": ("events", _events_are_invented, ["stream-invented-an-event"]),
        "projectors-misfile": ("project", _projectors_misfile, ["read-side-differs-from-log"]),
        "command-tells-another": ("command", _command_tells_another, ["answer-differs-from-event"]),
        "command-refuses-what-it-did": ("command", _command_refuses_what_it_did, ["refused-write-applied"]),
    },
    {
        "events-lose-positions": ("events", _events_lose_positions, ["position-lost"]),
        "command-tells-an-older-version": (
            "command", _command_tells_an_older_version, ["later-command-before-earlier"],
        ),
        "command-does-not-say-when": ("command", _command_does_not_say_when, ["later-without-when"]),
        "command-takes-another-cause": ("command", _command_takes_another_cause, ["unknown-write"]),
    },
    {
        "relay-publishes-nothing": ("relay", _relay_publishes_nothing, ["not-recovered", "events-left-behind"]),
    },
)  # fmt: skip


#: All of them, by name.
ALL: Final = {name: bug for together in BUGS for name, bug in together.items()}


def broken_by(bugs: Bugs) -> frozenset[str]:
    """The invariants by whose names these are caught."""
    return frozenset(name for _, _, names in bugs.values() for name in names)


def main() -> None:
    """Plant those that belong to this process, and be `muster`."""
    names, sys.argv = sys.argv[1], ["muster", *sys.argv[2:]]
    for name in names.split(","):
        process, plant, _ = ALL[name]
        if process in sys.argv:
            plant()
    from cli.main import main as muster  # noqa: PLC0415 - after what it uses

    muster()


if __name__ == "__main__":
    # The first of the path is this folder, whose modules are no library's.
    del sys.path[0]
    main()

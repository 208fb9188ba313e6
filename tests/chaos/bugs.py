"""`python bugs.py NAMES ARGUMENTS…`: `muster ARGUMENTS…` with bugs planted in it, to see that the checker names them.

Only the tests know of this program; it changes the modules of a process of its own before they are used. Each bug is in
one process only, so that many can be planted at once.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any, Final

#: A bug that strikes some strikes one of so many.
_SOME: Final = 7


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
        return written(self, list(items)[::-1])

    EventStream._written = backwards  # type: ignore[method-assign] # as above


Bugs = dict[str, tuple[str, Callable[[], None], Sequence[str]]]

#: What is planted in which process, and the invariants by whose names it is caught. Each dict is planted at once: none
#: of its bugs hides another.
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
        "command-forgets-keys": ("command", _command_forgets_keys, ["answers-differ"]),
    },
    {
        "relay-loses": (
            "relay", _relay_loses, ["acknowledged-write-lost", "version-gap", "command-side-differs-from-log"],
        ),
        "signups-forget": ("project", _signups_forget, ["signups-differ-from-log"]),
        "query-goes-back": ("query", _query_goes_back, ["as-of-went-back"]),
        "pages-leave-out": ("query", _pages_leave_out, ["page-missed-a-user"]),
        "command-fails": ("command", _command_fails, ["internal-error"]),
        "events-are-left-out": ("events", _events_are_left_out, ["stream-left-out-an-event"]),
    },
    {
        "relay-reverses": ("relay", _relay_reverses, ["out-of-order"]),
        "pages-repeat": ("query", _pages_repeat, ["page-repeated-a-user"]),
        "events-are-reversed": ("events", _events_are_reversed, ["stream-out-of-order"]),
    },
)  # fmt: skip


#: All of them, by name.
ALL: Final = {name: bug for together in BUGS for name, bug in together.items()}


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

"""The rules: which change of a published schema breaks a subscriber, and how to make it without.

Pure: two JSON Schemas, as pydantic writes them, go in, and sentences come out. A change must hold in both directions:
today's code reads yesterday's records, which stay on the log, and yesterday's subscribers read today's records.
The contract says that subscribers ignore unknown fields and unknown values of open enumerations (`x-extensible-enum`),
so adding these is allowed, other than where a schema registry checks for "full" compatibility. So is raising a limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any, Final

Schema = Mapping[str, Any]

OPEN_ENUMERATION: Final = "x-extensible-enum"
#: What most may be: a greater one is allowed, as the contract names no limit that would stay.
_UPPER_LIMITS: Final = ("maxLength", "maximum", "exclusiveMaximum", "maxItems", "maxProperties")
#: What may not change at all, in whatever direction.
_FIXED: Final = ("format", "pattern", "const", "minLength", "minimum", "exclusiveMinimum", "minItems", "multipleOf")
_ANYTHING: Final = "anything"

_NEW_VERSION: Final = (
    "if it must be, publish a new version of the type beside this one until its sunset (docs/how-to/change-an-event.md)"
)


def changed_types(
    released: Mapping[str, Schema], current: Mapping[str, Schema], *, sunsets: Mapping[str, date], today: date
) -> Iterator[str]:
    """What is wrong with today's schemas of all types, by type; nothing where every subscriber goes on."""
    for type_, old in released.items():
        if type_ in current:
            yield from changed(old, current[type_], at=type_)
        elif type_ not in sunsets:
            yield (
                f"{type_}: it is not published any more, and subscribers wait for it: publish it beside its successor,"
                " and announce its end in contract/sunsets.json (docs/how-to/change-an-event.md)"
            )
        elif today < sunsets[type_]:
            yield f"{type_}: its sunset is on {sunsets[type_]}: publish it until then, beside its successor"


def changed(released: Schema, current: Schema, *, at: str) -> Iterator[str]:
    """What is wrong with today's schema of one value, each with its place below `at`."""
    yield from _Comparison(released, current).of(released, current, at)


class _Comparison:
    """Of two documents, each with its own definitions."""

    def __init__(self, released: Schema, current: Schema) -> None:
        self._released = released.get("$defs", {})
        self._current = current.get("$defs", {})

    def of(self, released: Schema, current: Schema, at: str) -> Iterator[str]:
        old, new = _by_type(released, self._released), _by_type(current, self._current)
        if lost := sorted(old.keys() - new.keys()):
            yield f"{at}: it may not be {_words(lost)} any more, but records on the log are: keep it; {_NEW_VERSION}"
        if added := sorted(new.keys() - old.keys()):
            yield (
                f"{at}: it may be {_words(added)} now, which yesterday's subscribers cannot read: add another field"
                f" that is optional, and keep this one; {_NEW_VERSION}"
            )
        for type_ in sorted(old.keys() & new.keys()):
            yield from self._of_type(old[type_], new[type_], at)

    def _of_type(self, old: Schema, new: Schema, at: str) -> Iterator[str]:
        yield from _fixed(old, new, at)
        yield from _limits(old, new, at)
        yield from _enumerations(old, new, at)
        yield from self._members(old, new, at)
        yield from self._others(old, new, at)
        if "items" in old or "items" in new:
            yield from self.of(old.get("items", {}), new.get("items", {}), f"{at}[]")

    def _members(self, old: Schema, new: Schema, at: str) -> Iterator[str]:
        before, after = old.get("properties", {}), new.get("properties", {})
        needed, needs = set(old.get("required", ())), set(new.get("required", ()))
        for name in sorted(before.keys() - after.keys()):
            added = after.keys() - before.keys()
            yield _removed(f"{at}.{name}", [other for other in added if _alike(before[name], after[other])])
        for name in sorted((after.keys() - before.keys()) & needs):
            yield f"{at}.{name}: the new field is required, and yesterday's records do not have it: give it a default"
        for name in sorted(before.keys() & after.keys()):
            if name in needed - needs:
                yield f"{at}.{name}: it may be absent now, and yesterday's subscribers need it: go on writing it always"
            elif name in needs - needed:
                yield f"{at}.{name}: it is required now, and yesterday's records may not have it: leave it optional"
            yield from self.of(before[name], after[name], f"{at}.{name}")

    def _others(self, old: Schema, new: Schema, at: str) -> Iterator[str]:
        """Members that have no names of their own."""
        before, after = old.get("additionalProperties", True), new.get("additionalProperties", True)
        if after is False and before is not False:
            yield f"{at}: it takes no unknown fields any more, which the contract lets you add: leave it open"
        elif isinstance(before, Mapping) or isinstance(after, Mapping):
            yield from self.of(_schema(before), _schema(after), f"{at}.*")


def _removed(at: str, alike: list[str]) -> str:
    if len(alike) == 1:
        return f"{at}: it was renamed to {alike[0]}, and subscribers read the old name: write both; {_NEW_VERSION}"
    return f"{at}: it was removed, and subscribers read it: keep it; {_NEW_VERSION}"


def _alike(one: Schema, other: Schema) -> bool:
    return {**one, "title": None, "description": None} == {**other, "title": None, "description": None}


def _fixed(old: Schema, new: Schema, at: str) -> Iterator[str]:
    for what in _FIXED:
        if old.get(what) != new.get(what):
            yield (
                f"{at}: its {what} was {old.get(what)!r} and is {new.get(what)!r}: one side cannot read the other's"
                f" values; leave it as it was; {_NEW_VERSION}"
            )


def _limits(old: Schema, new: Schema, at: str) -> Iterator[str]:
    for what in _UPPER_LIMITS:
        before, after = old.get(what), new.get(what)
        if after is not None and (before is None or after < before):
            yield (
                f"{at}: its {what} is {after} now, and was {'none' if before is None else before}: records on the log"
                " may have more; limit what commands take (command_api/users/values.py), not what events hold"
            )


def _enumerations(old: Schema, new: Schema, at: str) -> Iterator[str]:
    closed_before, closed = old.get("enum"), new.get("enum")
    open_before, opened = old.get(OPEN_ENUMERATION), new.get(OPEN_ENUMERATION)
    if (closed_before is None, open_before is None) != (closed is None, opened is None):
        yield f"{at}: whether its values are an enumeration, open or closed, was promised: leave it as it was"
    elif lost := [value for value in (closed_before or open_before or ()) if value not in (closed or opened or ())]:
        yield f"{at}: it loses {_words(lost)}, which records on the log have: keep the value, though nobody writes it"
    elif closed and (added := [value for value in closed if value not in (closed_before or ())]):
        yield (
            f"{at}: it gains {_words(added)}, and is no open enumeration: subscribers refuse what they do not know;"
            f" add another field that is optional; {_NEW_VERSION}"
        )


def _by_type(schema: Schema, definitions: Schema) -> dict[str, Schema]:
    """What a value may be: the schema of each JSON type, `anything` where there is no type."""
    if "$ref" in schema:
        return _by_type(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        return {type_: found for choice in choices for type_, found in _by_type(choice, definitions).items()}
    types = schema.get("type", _ANYTHING)
    return dict.fromkeys(types if isinstance(types, list) else [types], schema)


def _schema(others: Any) -> Schema:
    return others if isinstance(others, Mapping) else {}


def _words(values: list[Any]) -> str:
    return " or ".join(map(str, values))

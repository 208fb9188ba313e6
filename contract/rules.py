"""The rules: which change of a published schema breaks a subscriber, and how to make it without.

Pure: two JSON Schemas, as pydantic writes them, go in, and sentences come out. A change must hold in both directions:
today's code reads yesterday's records, which stay on the log, and yesterday's subscribers read today's records.
The contract says that subscribers ignore unknown fields and unknown values of open enumerations (`x-extensible-enum`),
so adding these is allowed, other than where a schema registry checks for "full" compatibility. So is raising a limit.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import Any, Final

Schema = Mapping[str, Any]

OPEN_ENUMERATION: Final = "x-extensible-enum"
#: What most may be: a greater one is allowed, as the contract names no limit that would stay.
_UPPER_LIMITS: Final = ("maxLength", "maximum", "exclusiveMaximum", "maxItems", "maxProperties")
#: What changes nothing that is read.
_NOTES: Final = {"title", "description", "default", "examples", "deprecated", "$comment", "$schema", "$id", "$defs"}
#: What has a rule of its own. Every other keyword may not change at all, in whatever direction.
_RULED: Final = {
    *("type", "properties", "required", "additionalProperties", "items", "enum", OPEN_ENUMERATION),
    *_UPPER_LIMITS,
}
#: How long before its end a type's sunset is released: six months, of the longest.
NOTICE: Final = timedelta(days=184)
_ANYTHING: Final = "anything"

_NEW_VERSION: Final = (
    "if it must be, publish a new version of the type beside this one until its sunset (docs/how-to/change-an-event.md)"
)


def changed_types(
    released: Mapping[str, Schema],
    current: Mapping[str, Schema],
    *,
    announced: Mapping[str, date],
    sunsets: Mapping[str, date],
    today: date,
) -> Iterator[str]:
    """What is wrong with today's schemas of all types, by type; nothing where every subscriber goes on.

    `announced` are the sunsets that the last release had, `sunsets` today's.
    """
    yield from _new_sunsets(announced, sunsets, today)
    for type_, old in released.items():
        if type_ in current:
            yield from changed(old, current[type_], at=type_)
        elif type_ not in announced:
            yield (
                f"{type_}: it is not published any more, and subscribers wait for it: publish it beside its successor,"
                " announce its end in contract/sunsets.json, and release that (docs/how-to/change-an-event.md)"
            )
        elif today < (sunset := max(announced[type_], sunsets.get(type_, date.min))):
            yield f"{type_}: its sunset is on {sunset}: publish it until then, beside its successor"


def _new_sunsets(announced: Mapping[str, date], sunsets: Mapping[str, date], today: date) -> Iterator[str]:
    for type_, sunset in sunsets.items():
        if sunset < min(announced.get(type_, date.max), today + NOTICE):
            yield (
                f"{type_}: its sunset on {sunset} is new, and less than six months ahead: subscribers need that long"
                f" to move; let it be on {today + NOTICE} or later, counted from the release that announces it"
            )


def changed(released: Schema, current: Schema, *, at: str) -> Iterator[str]:
    """What is wrong with today's schema of one value, each with its place below `at`."""
    yield from _Comparison(released, current).of(released, current, at)


class _Comparison:
    """Of two documents, each with its own definitions."""

    def __init__(self, released: Schema, current: Schema) -> None:
        self._released = released.get("$defs", {})
        self._current = current.get("$defs", {})

    def of(self, released: Schema, current: Schema, at: str) -> Iterator[str]:
        old, new = _choices(released, self._released), _choices(current, self._current)
        if lost := sorted(old.keys() - new.keys()):
            yield f"{at}: it may not be {_words(lost)} any more, but records on the log are: keep it; {_NEW_VERSION}"
        if added := sorted(new.keys() - old.keys()):
            yield (
                f"{at}: it may be {_words(added)} now, which yesterday's subscribers cannot read: add another field"
                f" that is optional, and keep this one; {_NEW_VERSION}"
            )
        for type_ in sorted(old.keys() & new.keys()):
            yield from self._of_choices(old[type_], new[type_], at, type_)

    def _of_choices(self, old: list[Schema], new: list[Schema], at: str, type_: str) -> Iterator[str]:
        """Choices of one JSON type: each has one on the other side that nobody can tell from it."""
        if len(old) == len(new) == 1:
            yield from self._of_type(old[0], new[0], at)
            return
        alike = [(a, b) for a, one in enumerate(old) for b, two in enumerate(new) if not [*self._of_type(one, two, at)]]
        if {a for a, _ in alike} != set(range(len(old))) or {b for _, b in alike} != set(range(len(new))):
            yield (
                f"{at}: what it may be as {type_} was {old} and is {new}: one side cannot read the other's values;"
                f" leave it as it was; {_NEW_VERSION}"
            )

    def _of_type(self, old: Schema, new: Schema, at: str) -> Iterator[str]:
        yield from self._fixed(old, new, at)
        yield from _limits(old, new, at)
        yield from _enumerations(old, new, at)
        yield from self._members(old, new, at)
        yield from self._others(old, new, at)
        if "items" in old or "items" in new:
            yield from self.of(_schema(old.get("items")), _schema(new.get("items")), f"{at}[]")

    def _fixed(self, old: Schema, new: Schema, at: str) -> Iterator[str]:
        for what in sorted((old.keys() | new.keys()) - _RULED - _NOTES):
            before, after = _text(old, what, self._released), _text(new, what, self._current)
            if before != after:
                yield (
                    f"{at}: its {what} was {before} and is {after}: one side cannot read the other's values; leave it"
                    f" as it was; {_NEW_VERSION}"
                )

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
            yield from self.of(_schema(before[name]), _schema(after[name]), f"{at}.{name}")
        for name in sorted((needed ^ needs) - before.keys() - after.keys()):
            yield f"{at}.{name}: whether it is required was promised, though it is not described: leave it as it was"

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


def _choices(schema: Schema, definitions: Schema) -> dict[str, list[Schema]]:
    """What a value may be: the schemas of each JSON type, `anything` where there is no type."""
    found: dict[str, list[Schema]] = defaultdict(list)
    ways = [way for way in ("$ref", "anyOf", "oneOf") if way in schema]
    if not ways:
        types = schema.get("type", _ANYTHING)
        return {type_: [schema] for type_ in (types if isinstance(types, list) else [types])}
    inner = [definitions[_name(schema["$ref"])]] if ways[0] == "$ref" else schema[ways[0]]
    beside = {what: value for what, value in schema.items() if what != ways[0] and what not in _NOTES}
    for choice in inner:
        for type_, schemas in _choices(_schema(choice), definitions).items():
            # `allOf` is compared as a whole, so that what stands beside a choice is, too.
            found[type_] += [{**each, "allOf": [each.get("allOf"), beside]} if beside else each for each in schemas]
    return found


def _whole(value: Any, definitions: Schema, within: tuple[str, ...] = ()) -> Any:
    """A keyword's value with what it refers to in its place, but for what refers to itself."""
    if isinstance(value, list):
        return [_whole(each, definitions, within) for each in value]
    if not isinstance(value, Mapping):
        return value
    name = _name(str(value.get("$ref", "")))
    if name in definitions and name not in within:
        rest = {what: each for what, each in value.items() if what != "$ref"}
        return [_whole(definitions[name], definitions, (*within, name)), _whole(rest, definitions, within)]
    return {what: _whole(each, definitions, within) for what, each in value.items()}


def _name(reference: str) -> str:
    return reference.rpartition("/")[2]


def _schema(value: Any) -> Schema:
    """A schema of what may be true, false or absent instead."""
    if value is False:
        return {"not": {}}
    return value if isinstance(value, Mapping) else {}


def _text(schema: Schema, keyword: str, definitions: Schema) -> str:
    """A keyword's value as JSON, in which null is not `none`, nor true 1 as in Python."""
    return json.dumps(_whole(schema[keyword], definitions), sort_keys=True) if keyword in schema else "none"


def _words(values: list[Any]) -> str:
    return " or ".join(map(str, values))

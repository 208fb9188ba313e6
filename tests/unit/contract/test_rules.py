"""Planted changes of a schema: those that break a subscriber are refused with the way to do it right, others pass."""

from collections.abc import Callable
from copy import deepcopy
from datetime import date
from typing import Any

import pytest

from contract.rules import changed, changed_types
from events.schemas import event_schemas
from events.user_events import USER_EVENTS

TYPE = "muster.user.deactivated.v1"
RELEASED = event_schemas(USER_EVENTS)[TYPE]
TODAY = date(2026, 12, 1)

Change = Callable[[dict[str, Any], dict[str, Any]], object]


def _sentences(change: Change, released: dict[str, Any] = RELEASED) -> list[str]:
    """What the gate says when the change is made to the schema and its user."""
    current = deepcopy(released)
    change(current, current["$defs"]["PublicUser"])
    return list(changed(released, current, at=TYPE))


def _rename(members: dict[str, Any], old: str, new: str) -> None:
    members[new] = members.pop(old)


BREAKING: dict[str, tuple[Change, str]] = {
    "field removed": (lambda _, user: user["properties"].pop("email"), "PublicUser.email: it was removed"),
    "field renamed": (lambda _, user: _rename(user["properties"], "email", "mail"), "it was renamed to mail"),
    "reason removed": (lambda event, _: event["properties"].pop("reason"), ".reason: it was removed"),
    "type narrowed": (
        lambda _, user: user["properties"].update(display_name={"type": "string"}),
        ".display_name: it may not be null any more",
    ),
    "null allowed": (
        lambda _, user: user["properties"].update(email={"anyOf": [{"type": "string"}, {"type": "null"}]}),
        ".email: it may be null now",
    ),
    "text becomes number": (
        lambda _, user: user["properties"]["username"].update(type="integer"),
        "may be integer now",
    ),
    "truth becomes text": (lambda _, user: user["properties"]["is_active"].update(type="string"), "add another field"),
    "number becomes fraction": (lambda _, user: user["properties"]["version"].update(type="number"), "number now"),
    "new required field": (
        lambda _, user: (user["properties"].update(phone={"type": "string"}), user["required"].append("phone")),
        ".phone: the new field is required, and yesterday's records do not have it: give it a default",
    ),
    "optional becomes required": (lambda event, _: event["required"].append("previous"), "leave it optional"),
    "required becomes optional": (lambda _, user: user["required"].remove("email"), "go on writing it always"),
    "value removed": (
        lambda _, user: user["properties"]["status"].update({"x-extensible-enum": ["active"]}),
        ".status: it loses deactivated",
    ),
    "enumeration closed": (
        lambda _, user: user["properties"].update(status={"type": "string", "enum": ["active", "deactivated"]}),
        ".status: whether its values are an enumeration, open or closed, was promised",
    ),
    "time of another format": (
        lambda _, user: user["properties"]["created_at"].update(format="date"),
        "its format was",
    ),
    "format dropped": (lambda _, user: user["properties"]["id"].pop("format"), '"uuid" and is none'),
    "pattern added": (
        lambda _, user: user["properties"]["username"].update(pattern="^[a-z]+$"),
        "its pattern was none",
    ),
    "limit added": (
        lambda _, user: user["properties"]["email"].update(maxLength=100),
        "its maxLength is 100 now, and was none: records on the log may have more; limit what commands take",
    ),
    "minimum raised": (lambda _, user: user["properties"]["version"].update(minimum=2), "its minimum was 1 and is 2"),
    "object closed": (lambda _, user: user.update(additionalProperties=False), "leave it open"),
    "attributes narrowed": (
        lambda _, user: user["properties"]["attributes"].update(additionalProperties={"type": "string"}),
        ".attributes.*: it may not be anything any more",
    ),
    "a rule for the fields' names": (
        lambda _, user: user["properties"]["attributes"].update(propertyNames={"maxLength": 9}),
        '.attributes: its propertyNames was none and is {"maxLength": 9}',
    ),
    "a limit beside a reference": (
        lambda event, _: event["properties"]["user"].update(minProperties=20),
        ".user: its allOf was none",
    ),
    "a field that is not described": (lambda event, _: event["required"].append("other"), ".other: whether it is"),
    "null alone": (lambda _, user: user["properties"]["email"].update(const=None), "its const was none and is null"),
    "constant": (lambda _, user: user["properties"]["is_active"].update(const=True), "its const was none and is true"),
}

ALLOWED: dict[str, Change] = {
    "optional field": lambda _, user: user["properties"].update(phone={"type": "string"}),
    "optional member of the event": lambda event, _: event["properties"].update(source={"type": "string"}),
    "value of an open enumeration": lambda _, user: user["properties"]["status"]["x-extensible-enum"].append(
        "suspended"
    ),
    "another order of fields": lambda _, user: user["properties"].update(email=user["properties"].pop("email")),
    "another order of the required": lambda _, user: user["required"].reverse(),
    "description": lambda event, user: (event.update(description="x"), user.update(description="y")),
    "title": lambda _, user: user["properties"]["email"].update(title="Address"),
    "examples": lambda _, user: user["properties"]["email"].update(examples=["ada@example.com"]),
    "optional object": lambda _, user: user["properties"].update(
        address={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    ),
    "definition renamed": lambda event, user: event.update(
        {
            "$defs": {**event["$defs"], "User": user},
            "properties": event["properties"] | {"user": {"$ref": "#/$defs/User"}},
        }
    ),
}


@pytest.mark.parametrize(("change", "sentence"), BREAKING.values(), ids=BREAKING)
def test_a_breaking_change_is_refused_with_the_way_to_do_it_right(change: Change, sentence: str) -> None:
    said = _sentences(change)

    assert said
    assert any(sentence.removeprefix("PublicUser") in each for each in said), said
    assert all(each.startswith((f"{TYPE}.", f"{TYPE}:")) for each in said), "it says where"


@pytest.mark.parametrize("change", ALLOWED.values(), ids=ALLOWED)
def test_an_allowed_change_passes(change: Change) -> None:
    assert _sentences(change) == []


def test_a_limit_may_be_raised_or_dropped_and_not_lowered() -> None:
    def limited(most: int | None) -> dict[str, Any]:
        schema = deepcopy(RELEASED)
        if most:
            schema["$defs"]["PublicUser"]["properties"]["email"]["maxLength"] = most
        return schema

    assert list(changed(limited(10), limited(20), at=TYPE)) == []
    assert list(changed(limited(10), limited(None), at=TYPE)) == []
    assert len(list(changed(limited(20), limited(10), at=TYPE))) == 1


def test_a_closed_enumeration_may_not_gain_a_value() -> None:
    released = {"type": "string", "enum": ["a", "b"]}

    [said] = changed(released, {"type": "string", "enum": ["a", "b", "c"]}, at="x")

    assert "it gains c, and is no open enumeration" in said


def test_items_of_lists_are_compared() -> None:
    texts = {"type": "array", "items": {"type": "string"}}
    or_null = {"type": "array", "items": {"type": ["string", "null"]}}

    [said] = changed(texts, or_null, at="x")

    assert said.startswith("x[]: it may be null now")


@pytest.mark.parametrize(
    "keyword",
    [
        "uniqueItems",
        "propertyNames",
        "patternProperties",
        "dependentRequired",
        "allOf",
        "not",
        "contains",
        "prefixItems",
    ],
)
def test_a_keyword_without_a_rule_may_not_come_go_or_change(keyword: str) -> None:
    """Whatever its value: none of them is looked into."""
    without, one, other = {"type": "array"}, {"type": "array", keyword: 1}, {"type": "array", keyword: 2}

    for before, after in ((without, one), (one, without), (one, other)):
        [said] = changed(before, after, at="x")
        assert f"its {keyword} was" in said
    assert list(changed(one, dict(one), at="x")) == []


def test_what_a_keyword_without_a_rule_refers_to_may_not_change() -> None:
    def named(most: int) -> dict[str, Any]:
        return {"propertyNames": {"$ref": "#/$defs/Name"}, "$defs": {"Name": {"maxLength": most}}}

    assert list(changed(named(1), named(1), at="x")) == []
    assert "its propertyNames was" in next(changed(named(1), named(2), at="x"))


def test_every_choice_of_a_type_is_compared() -> None:
    text, day, id_ = {"type": "string"}, {"type": "string", "format": "date"}, {"type": "string", "format": "uuid"}

    def said(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[str]:
        return list(changed({"anyOf": before}, {"anyOf": after}, at="x"))

    assert said([day, text], [text, day]) == []
    for before, after in (([day, text], [id_, text]), ([day, text], [text]), ([text], [text, day])):
        [sentence] = said(before, after)
        assert "what it may be as string was" in sentence


def test_a_type_may_be_added_and_end_only_at_its_sunset() -> None:
    both = {TYPE: RELEASED, "muster.user.deactivated.v2": {"type": "object"}}
    newest = {"muster.user.deactivated.v2": {"type": "object"}}

    def said(current: dict[str, Any], **announced: date) -> list[str]:
        released = {TYPE: RELEASED}
        return list(changed_types(released, current, announced=announced, sunsets=announced, today=TODAY))

    assert said(both) == []
    assert "announce its end in contract/sunsets.json" in said(newest)[0]
    assert "its sunset is on 2027-01-01: publish it until then" in said(newest, **{TYPE: date(2027, 1, 1)})[0]
    assert said(newest, **{TYPE: TODAY}) == []


def test_a_sunset_is_announced_six_months_ahead_and_only_postponed_at_shorter_notice() -> None:
    soon, later = date(2027, 2, 1), date(2027, 7, 1)

    def said(announced: dict[str, date], sunsets: dict[str, date], current: dict[str, Any]) -> list[str]:
        released = {TYPE: RELEASED}
        return list(changed_types(released, current, announced=announced, sunsets=sunsets, today=TODAY))

    published = {TYPE: RELEASED}
    assert said({}, {TYPE: later}, published) == []
    assert said({TYPE: soon}, {TYPE: date(2027, 3, 1)}, published) == []
    for announced in ({}, {TYPE: later}):
        [sentence] = said(announced, {TYPE: soon}, published)
        assert "its sunset on 2027-02-01 is new, and less than six months ahead" in sentence
    assert "release that" in said({}, {TYPE: date(2026, 1, 1)}, {})[1], "added in the past, with the type gone"
    assert "its sunset is on 2027-02-01" in said({TYPE: TODAY}, {TYPE: soon}, {})[0]

"""JSON in which each member comes once."""

import json

import pytest

from chassis.strict_json import RepeatedMemberError, UnreadableJsonError, read_json


def test_a_document_is_read() -> None:
    assert read_json('{"a": [1, {"b": null}], "c": {"a": "ü"}}') == {"a": [1, {"b": None}], "c": {"a": "ü"}}


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('{"a": 1, "a": 1}', ["a"]),
        ('{"a": 1, "\\u0061": 2}', ["a"]),
        ('{"a": [0, {"b": {"c": 1, "d": 2, "c": 3}}]}', ["a", 1, "b", "c"]),
        # What an outer repetition drops cannot be pointed at, so the outer one is.
        ('{"a": {"b": 1, "b": 2}, "a": 1}', ["a"]),
        ("[" * 63 + '{"a": 1, "a": 1}' + "]" * 63, [*[0] * 63, "a"]),
        ('{"a": {"b": 1}, "c": {"d": [1, {"e": 1, "e": 1}]}, "f": {"g": 1}}', ["c", "d", 1, "e"]),
    ],
)
def test_a_member_that_comes_twice_is_pointed_at(text: str, path: list[str | int]) -> None:
    with pytest.raises(RepeatedMemberError, match="comes twice") as caught:
        read_json(text)

    assert caught.value.path == path


def test_a_repetition_behind_very_many_members_is_found_in_one_pass() -> None:
    names = [f"m{number}" for number in range(300_000)]
    text = "{" + ",".join(f'"{name}":1' for name in [*names, names[-1]]) + "}"

    with pytest.raises(RepeatedMemberError) as caught:
        read_json(text)  # comparing each with each would take an hour

    assert caught.value.path == [names[-1]]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not JSON: Expecting value at character 1"),
        ('{"a": NaN}', "is not JSON, which has no NaN"),
        ('{"a": -Infinity}', "is not JSON, which has no -Infinity"),
        ("[" * 100_000, "is nested deeper than 64 levels; flatten it"),
        ("1" * 5000, "has a number of too many digits"),
    ],
)
def test_what_is_no_json_of_ours_says_why(text: str, why: str) -> None:
    with pytest.raises(UnreadableJsonError) as caught:
        read_json(text)

    assert str(caught.value) == why


@pytest.mark.parametrize("level", [("[", "]"), ('{"a":', "}"), ('[{"a":1},', "]"), ('["]]]\\"]",', "]")])
def test_the_bound_of_nesting_is_ours_and_not_pythons(level: tuple[str, str]) -> None:
    begin, end = level

    def nested(levels: int) -> str:
        return begin * levels + "1" + end * levels

    read_json(nested(63))
    for levels in (65, 900, 1100, 5000, 100_000):
        for text in (nested(levels), begin * levels):
            with pytest.raises(UnreadableJsonError, match="nested deeper than 64 levels"):
                read_json(text)


def test_a_document_at_the_bound_is_read() -> None:
    for text in ("[" * 64 + "]" * 64, '{"a":' * 64 + "1" + "}" * 64):
        assert read_json(text) == json.loads(text)


def test_brackets_in_a_text_nest_nothing_and_wide_documents_are_not_deep() -> None:
    wide = [{"a": ["[{" * 100, '\\"[[', "\\"]} for _ in range(1000)]

    assert read_json(json.dumps(wide)) == wide


def test_an_endless_text_is_looked_at_once() -> None:
    text = "[" * 64 + "[" + '"' + '\\"' * 1_000_000

    with pytest.raises(UnreadableJsonError):
        read_json(text)  # looking for its end from each quote anew would take an hour

"""What is read from headers: If-Match, Idempotency-Key, traceparent."""

import pytest

from command_api.causes import valid_traceparent
from command_api.idempotency.replay import (
    Answer,
    InvalidKeyError,
    KeyReusedError,
    Keys,
    KeySubjectErasedError,
    StoredAnswer,
    canonical_json,
    read_key,
)
from command_api.preconditions import InvalidPreconditionError, Precondition


@pytest.mark.parametrize(
    ("header", "holds", "fails"),
    [
        ('"5"', [5], [4, 6, 55]),
        ('"5.2"', [5], [2]),
        ('"5.any thing"'.replace(" ", "-"), [5], [4]),
        ('"4", "5"', [4, 5], [3]),
        ('"4","5.1" , "6"', [4, 5, 6], [3]),
        ("*", [1, 99], []),
        ('W/"5"', [], [5]),
        ('W/"5", "6"', [6], [5]),
        ('"abc"', [], [1]),
        ('""', [], [1]),
        ('"05"', [], [5]),
        ('"5x"', [], [5]),
    ],
)
def test_if_match_names_versions(header: str, holds: list[int], fails: list[int]) -> None:
    precondition = Precondition.parse(header)

    assert all(precondition.holds(version) for version in holds)
    assert not any(precondition.holds(version) for version in fails)


@pytest.mark.parametrize("header", ["5", '"5', '5"', '"5" "6"', "", "  ", '*, "5"', 'w/"5"', '"a b"'])
def test_what_is_no_list_of_entity_tags_is_refused(header: str) -> None:
    with pytest.raises(InvalidPreconditionError):
        Precondition.parse(header)


def test_a_key_is_the_same_quoted_or_bare() -> None:
    assert read_key('"abc"') == read_key("abc") == read_key("  abc ") == "abc"
    assert read_key('"a\\"b\\\\c"') == 'a"b\\c'


@pytest.mark.parametrize("header", ["", '""', '"', "  ", "x" * 256, '"' + "x" * 256 + '"'])
def test_a_key_that_is_empty_or_too_long_is_refused(header: str) -> None:
    with pytest.raises(InvalidKeyError):
        read_key(header)


def test_a_key_of_255_characters_is_taken() -> None:
    assert len(read_key('"' + "x" * 255 + '"')) == 255


KEYS = Keys("a secret of thirty-two characters")


def test_a_digest_is_of_key_method_and_path() -> None:
    base = {"method": "PUT", "path": "/users/1/email", "body": b"{}", "if_match": None}
    first = KEYS.make("k", **base)  # type: ignore[arg-type]

    assert KEYS.make("k", **base).digest == first.digest  # type: ignore[arg-type]
    for other in ({"method": "POST"}, {"path": "/users/2/email"}):
        assert KEYS.make("k", **{**base, **other}).digest != first.digest  # type: ignore[arg-type]
    assert KEYS.make("l", **base).digest != first.digest  # type: ignore[arg-type]
    assert Keys("another secret of thirty-two char").make("k", **base).digest != first.digest  # type: ignore[arg-type]


def test_a_fingerprint_is_of_the_canonical_body_and_if_match() -> None:
    def fingerprint(body: bytes, if_match: str | None = None) -> bytes:
        return KEYS.make("k", method="PUT", path="/", body=body, if_match=if_match).fingerprint

    assert fingerprint(b'{"a":1,"b":"\xc3\xbc"}') == fingerprint(b'{ "b": "\\u00fc", "a": 1 }')
    assert fingerprint(b'{"a":1}') != fingerprint(b'{"a":1.0}')
    assert fingerprint(b'{"a":1}') != fingerprint(b'{"a":1}', '"5"')
    assert fingerprint(b'{"a":1}', '"4"') != fingerprint(b'{"a":1}', '"5"')
    assert fingerprint(b"") != fingerprint(b"{}")


def test_what_is_no_json_is_its_own_canonical_form() -> None:
    assert canonical_json(b"{") == b"{"


def test_only_the_request_it_was_stored_for_gets_an_answer_replayed() -> None:
    key = KEYS.make("k", method="PUT", path="/", body=b"1", if_match=None)
    other = KEYS.make("k", method="PUT", path="/", body=b"2", if_match=None)
    stored = StoredAnswer(Answer(200, {"ETag": '"1"'}, b"{}"), key.fingerprint)

    assert stored.replay(key) == Answer(200, {"ETag": '"1"', "Idempotent-Replayed": "true"}, b"{}")
    with pytest.raises(KeyReusedError):
        stored.replay(other)
    with pytest.raises(KeySubjectErasedError):
        StoredAnswer(Answer(410, {}), None).replay(other)


@pytest.mark.parametrize(
    ("header", "valid"),
    [
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", True),
        ("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", True),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", False),
        ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", False),
        ("00-00000000000000000000000000000000-b7ad6b7169203331-01", False),
        ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", False),
        ("00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", False),
        ("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-" + "x" * 200, False),
        ("", False),
        (None, False),
    ],
)
def test_only_valid_trace_contexts_are_taken(header: str | None, valid: bool) -> None:
    assert valid_traceparent(header) == (header if valid else None)

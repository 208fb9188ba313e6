"""Idempotency keys: how they are read, what they stand for, and which request gets an answer replayed."""

import re

import pytest

from chassis.access.caller import Caller
from command_api.idempotency.keys import KEY_PATTERN, InvalidKeyError, Keys, canonical_json, read_key
from command_api.idempotency.replay import CommandAnswer, KeyReusedError, KeySubjectErasedError, StoredAnswer


def test_a_key_is_the_same_quoted_or_bare() -> None:
    assert read_key('"abc"') == read_key("abc") == read_key("  abc ") == "abc"
    assert read_key('"a\\"b\\\\c"') == 'a"b\\c'


@pytest.mark.parametrize("header", ["", '""', '"', "  ", "x" * 256, '"' + "x" * 256 + '"'])
def test_a_key_that_is_empty_or_too_long_is_refused(header: str) -> None:
    with pytest.raises(InvalidKeyError):
        read_key(header)


def test_a_key_of_255_characters_is_taken() -> None:
    assert len(read_key('"' + "x" * 255 + '"')) == 255


@pytest.mark.parametrize(
    "header",
    [
        *('""', '"', '" "', "a", '"a', '"a\\"b"', 'a"', '"' + '\\"' * 127 + 'a"', '"' + '\\"' * 128 + '"'),
        *("x" * 255, "x" * 256, "x" * 257, '"' + "x" * 255 + '"', '"' + "x" * 256 + '"', '"' + "x" * 255),
    ],
)
def test_the_document_says_what_is_a_key(header: str) -> None:
    try:
        read_key(header)
    except InvalidKeyError:
        is_key = False
    else:
        is_key = True

    assert bool(re.search(KEY_PATTERN, header)) == is_key


KEYS = Keys("a secret of thirty-two characters")


def test_a_digest_is_of_key_method_and_path() -> None:
    base = {"caller": None, "method": "PUT", "path": "/users/1/email", "body": b"{}", "if_match": None}
    first = KEYS.make("k", **base)  # type: ignore[arg-type]

    assert KEYS.make("k", **base).digest == first.digest  # type: ignore[arg-type]
    for other in ({"method": "POST"}, {"path": "/users/2/email"}):
        assert KEYS.make("k", **{**base, **other}).digest != first.digest  # type: ignore[arg-type]
    assert KEYS.make("l", **base).digest != first.digest  # type: ignore[arg-type]
    assert Keys("another secret of thirty-two char").make("k", **base).digest != first.digest  # type: ignore[arg-type]


def test_a_key_belongs_to_the_issuer_and_the_subject_that_sent_it() -> None:
    def digest(caller: Caller | None) -> bytes:
        return KEYS.make("k", caller=caller, method="PUT", path="/", body=b"", if_match=None).digest

    shop, again = (Caller(issuer="i", subject="shop", scopes=frozenset(scopes)) for scopes in ((), ("users:write",)))
    others = [None, Caller(issuer="i", subject="till"), Caller(issuer="is", subject="hop")]

    assert digest(shop) == digest(again)
    assert len({digest(caller) for caller in (shop, *others)}) == 4


def test_a_fingerprint_is_of_the_canonical_body_and_if_match() -> None:
    def fingerprint(body: bytes, if_match: str | None = None) -> bytes:
        return KEYS.make("k", caller=None, method="PUT", path="/", body=body, if_match=if_match).fingerprint

    assert fingerprint(b'{"a":1,"b":"\xc3\xbc"}') == fingerprint(b'{ "b": "\\u00fc", "a": 1 }')
    assert fingerprint(b'{"a":1}') != fingerprint(b'{"a":1.0}')
    assert fingerprint(b'{"a":1}') != fingerprint(b'{"a":1}', '"5"')
    assert fingerprint(b'{"a":1}', '"4"') != fingerprint(b'{"a":1}', '"5"')
    assert fingerprint(b"") != fingerprint(b"{}")


def test_what_is_no_json_is_its_own_canonical_form() -> None:
    assert canonical_json(b"{") == b"{"


def test_only_the_request_it_was_stored_for_gets_an_answer_replayed() -> None:
    key = KEYS.make("k", caller=None, method="PUT", path="/", body=b"1", if_match=None)
    other = KEYS.make("k", caller=None, method="PUT", path="/", body=b"2", if_match=None)
    stored = StoredAnswer(CommandAnswer(200, {"ETag": '"1"'}, b"{}"), key.fingerprint)

    assert stored.replay(key) == CommandAnswer(200, {"ETag": '"1"', "Idempotent-Replayed": "true"}, b"{}")
    with pytest.raises(KeyReusedError):
        stored.replay(other)
    with pytest.raises(KeySubjectErasedError):
        StoredAnswer(CommandAnswer(410, {}), None).replay(other)

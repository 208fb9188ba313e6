"""One-time tokens: 256 bits, found by a digest, never shown by what holds them."""

from base64 import urlsafe_b64decode

from command_api.credentials.tokens import RedeemToken, digest_of, new_token


def test_a_token_has_256_bits_and_no_two_are_the_same() -> None:
    tokens = {new_token() for _ in range(100)}

    assert {len(urlsafe_b64decode(f"{token}=")) for token in tokens} == {32}
    assert len(tokens) == len({digest_of(token) for token in tokens}) == 100


def test_any_text_has_a_digest() -> None:
    assert len(digest_of("\ud800")) == len(digest_of("")) == 32


def test_a_request_that_is_shown_has_no_secret_in_it() -> None:
    shown = repr(RedeemToken.model_validate({"token": "canary", "password": "canary"}))

    assert "canary" not in shown

"""Masks, numbers and seals."""

from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from console.assets import assets
from console.events.tail import messages
from console.sign_in.sealing import BrokenSealError, csrf_token, digest, new_id, seal, unseal
from console.users.masking import mask, shown
from console.words import count, moment, seconds

SECRETS = ["a secret of thirty-two characters", "another of thirty-two characters."]


@pytest.mark.parametrize(
    ("value", "masked"),
    [("ada", "a•••"), ("ada@example.com", "a•••@e•••"), ("", "•••"), ({"phone": 1}, "•••"), (None, "")],
)
def test_a_mask_shows_a_beginning_alone(value: object, masked: str) -> None:
    assert mask(value) == masked


def test_what_is_not_about_a_person_is_not_masked() -> None:
    assert shown("version", 3, clear=False) == "3"
    assert shown("email_verified", value=False, clear=False) == "no"
    assert shown("attributes", {"a": 1}, clear=True) == '{\n "a": 1\n}'


def test_times_have_the_unit_that_fits_them_and_grow() -> None:
    texts = [seconds(value) for value in (0.004, 2.54, 61, 150, 8000, 200_000)]

    assert texts == ["4 ms", "2.5 s", "61 s", "2 min", "2 h", "2 days"]
    assert all(before != after for before, after in pairwise(texts))
    assert seconds(None) == count(None) == moment(None) == "–"
    assert (count(0.25), count(1234567)) == ("0.2", "1,234,567")
    assert moment("2026-11-30T09:15:02.123456Z") == "2026-11-30 09:15:02 UTC"


def test_a_seal_opens_for_its_id_and_one_of_the_secrets_alone() -> None:
    mine, other = new_id(), new_id()
    sealed = seal(SECRETS[1:], mine, b"token")

    assert unseal(SECRETS, mine, sealed) == b"token"
    for secrets, identifier in ((SECRETS, other), (SECRETS[:1], mine)):
        with pytest.raises(BrokenSealError):
            unseal(secrets, identifier, sealed)


def test_neither_the_row_nor_the_form_gives_an_id_away() -> None:
    identifier = new_id()

    assert identifier not in {csrf_token(identifier), digest(identifier).hex()}
    assert csrf_token(identifier) != csrf_token(new_id())


def test_all_that_pages_load_is_small() -> None:
    import gzip  # noqa: PLC0415 - for the one test

    assert sum(len(gzip.compress(asset.content)) for asset in assets().values()) <= 60_000


async def test_a_stream_is_read_whatever_parts_it_comes_in() -> None:
    sent = 'id: 1\n\nevent: a\ndata: {"n":"\u2028 ä"}\nid: 2\n\n: still here\nid: 3\n\n'.encode()

    async def parts() -> AsyncIterator[bytes]:
        for begin in range(0, len(sent), 3):
            yield sent[begin : begin + 3]

    found = [tuple(message) async for message in messages(parts())]

    assert found == [("", b"", "1"), ("a", '{"n":"\u2028 ä"}'.encode(), "2"), ("", b"", "3")]

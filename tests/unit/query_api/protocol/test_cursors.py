import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.http.problems import Problem
from query_api.protocol.cursors import CursorSeal

KEY, OTHER_KEY = os.urandom(32), os.urandom(32)


@given(content=st.binary(max_size=2000), bound_to=st.binary(max_size=40))
def test_what_was_sealed_opens_for_its_list(content: bytes, bound_to: bytes) -> None:
    seal = CursorSeal({"k1": KEY})

    assert seal.open(seal.seal(content, bound_to=bound_to), bound_to=bound_to) == content


@given(position=st.integers(min_value=0), replacement=st.sampled_from("Aa0-_Z9"))
def test_any_changed_character_is_refused(position: int, replacement: str) -> None:
    seal = CursorSeal({"k1": KEY})
    cursor = seal.seal(b"ann@example.com", bound_to=b"users")
    place = position % len(cursor)
    altered = cursor[:place] + replacement + cursor[place + 1 :]
    if altered == cursor:
        return

    with pytest.raises(Problem):
        seal.open(altered, bound_to=b"users")


@given(length=st.integers(min_value=0, max_value=60))
def test_a_cursor_cut_short_is_refused(length: int) -> None:
    seal = CursorSeal({"k1": KEY})
    cursor = seal.seal(b"ann@example.com", bound_to=b"users")

    with pytest.raises(Problem):
        seal.open(cursor[:length], bound_to=b"users")


@given(text=st.text(max_size=200))
def test_any_text_that_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(Problem):
        CursorSeal({"k1": KEY}).open(text, bound_to=b"users")


def test_content_cannot_be_read_from_the_text() -> None:
    import base64  # noqa: PLC0415 - only to look inside

    cursor = CursorSeal({"k1": KEY}).seal(b"ann@example.com", bound_to=b"users")

    assert b"ann" not in base64.urlsafe_b64decode(cursor + "==")


def test_a_cursor_of_another_list_is_refused() -> None:
    seal = CursorSeal({"k1": KEY})

    with pytest.raises(Problem, match="another address"):
        seal.open(seal.seal(b"x", bound_to=b"timeline"), bound_to=b"users")


def test_other_processes_and_older_keys_open_until_their_key_has_gone() -> None:
    old = CursorSeal({"k1": KEY}).seal(b"x", bound_to=b"users")
    rotated = CursorSeal({"k2": OTHER_KEY, "k1": KEY})

    assert rotated.open(old, bound_to=b"users") == b"x"
    assert (
        CursorSeal({"k1": KEY, "k2": OTHER_KEY}).open(rotated.seal(b"y", bound_to=b"users"), bound_to=b"users") == b"y"
    )
    with pytest.raises(Problem, match="does not have"):
        CursorSeal({"k2": OTHER_KEY}).open(old, bound_to=b"users")


def test_the_same_content_is_never_sealed_to_the_same_text() -> None:
    seal, twin = CursorSeal({"k1": KEY}), CursorSeal({"k1": KEY})

    assert len({maker.seal(b"x", bound_to=b"users") for maker in (seal, twin) for _ in range(100)}) == 200

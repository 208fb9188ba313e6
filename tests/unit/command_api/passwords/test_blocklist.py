"""The list of passwords that nobody may choose: built in, and built from any list."""

import random
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha1
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zxcvbn.frequency_lists import FREQUENCY_LISTS

from command_api.passwords.blocklist import Blocklist
from command_api.passwords.blocklist_build import LINE_BYTES, Built, WrongLineError, build
from command_api.passwords.blocklist_file import ENTRY_BYTES, HEAD_BYTES, BlocklistFile, BlocklistFileError, entry_of
from command_api.passwords.policy import PasswordPolicy
from command_api.passwords.rules import LEAST_CHARACTERS

#: Its NFC has two characters less, and its casefold others.
CAFE = "Cafe\u0301 Stra\u00dfe"
FOLDED = "caf\u00e9 strasse"
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), min_size=1, max_size=20)


def sha1_of(text: str) -> str:
    return sha1(text.encode()).hexdigest()


@contextmanager
def listed(folder: Path, *lines: str) -> Iterator[Blocklist]:
    build(BytesIO("\n".join(lines).encode()), folder / "list")
    with Blocklist.open(folder / "list") as blocklist:
        yield blocklist


@settings(max_examples=40)
@given(texts=st.lists(TEXTS, min_size=1), others=st.lists(TEXTS), run=st.integers(1, 5), ending=st.sampled_from("\n\r"))
def test_what_is_built_is_sorted_and_has_what_the_list_has_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], others: list[str], run: int, ending: str
) -> None:
    target = tmp_path_factory.getbasetemp() / "property"
    ending = "\n" if ending == "\n" else "\r\n"
    hashed = {sha1_of(text) for text in texts}

    built = build(BytesIO(ending.join(sorted(hashed)).encode()), target, run_entries=run)

    content = target.read_bytes()
    entries = [*array("Q", content[HEAD_BYTES:])]
    assert entries == sorted({entry_of(text) for text in texts})
    assert built == Built(len(hashed), len(entries), len(content))
    with BlocklistFile.open(target) as file:
        assert len(file) == len(entries)
        assert all(entry_of(text) in file for text in texts)
        assert not any(entry_of(text) in file for text in others if text not in texts)


def test_listed_passwords_are_refused_and_random_ones_are_not(tmp_path: Path) -> None:
    chance = random.Random(19)
    common = [password for password in FREQUENCY_LISTS["passwords"] if len(password) >= LEAST_CHARACTERS]
    ours, others = ([f"{chance.getrandbits(80):020x}" for _ in range(10_000)] for _ in range(2))

    with listed(tmp_path, *ours) as blocklist:
        policy = PasswordPolicy(blocklist)

        def fault(password: str) -> str:
            return policy.fault(password, email="ann@example.com", username="ann", display_name=None) or ""

        for password in [*common, *map(str.title, common), *map(str.upper, ours)]:
            assert "on a list" in fault(password), password
        assert not any(map(fault, others))
    assert len(common) > 10_000


@pytest.mark.parametrize("password", [CAFE, CAFE.upper(), "CAF\u00c9 STRASSE"])
def test_a_password_is_found_whatever_its_form_and_case(tmp_path: Path, password: str) -> None:
    with listed(tmp_path, CAFE) as blocklist:
        assert password in blocklist
        assert password + "!" not in blocklist


@pytest.mark.parametrize("hashed", [CAFE, "Caf\u00e9 Stra\u00dfe", FOLDED])
def test_a_list_of_sha1_is_asked_for_the_password_as_given_its_nfc_and_its_casefold(
    tmp_path: Path, hashed: str
) -> None:
    with listed(tmp_path, f"{sha1_of(hashed).upper()}:4711") as blocklist:
        assert CAFE in blocklist
        assert "cafe strasse" not in blocklist


def test_the_built_in_list_holds_beside_a_file(tmp_path: Path) -> None:
    with listed(tmp_path, "one of ours") as blocklist:
        assert "PassWord1" in blocklist
        assert "one of ours" in blocklist


def test_an_entry_takes_at_most_16_bytes_and_a_repeated_one_none(tmp_path: Path) -> None:
    built = build(BytesIO(b"\xef\xbb\xbfone\r\n\r\nTwo\ntwo\n"), tmp_path / "list")

    assert built == Built(lines=3, entries=2, bytes=HEAD_BYTES + 2 * ENTRY_BYTES)
    assert built.bytes <= 16 * built.entries
    with BlocklistFile.open(tmp_path / "list") as file:
        assert entry_of("one") in file


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "the list is empty"),
        (b"\n\n", "the list is empty"),
        (b"one\ncaf\xe9\n", "line 2 is not UTF-8"),
        (b"one\ntwo\n" + b"x" * LINE_BYTES, "line 3 has 16384 bytes or more"),
    ],
)
def test_a_list_that_is_none_is_refused_and_the_older_file_stays(tmp_path: Path, content: bytes, why: str) -> None:
    target = tmp_path / "list"
    target.write_bytes(b"older")

    with pytest.raises(WrongLineError, match=why):
        build(BytesIO(content), target)

    assert target.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_that_is_replaced_while_it_is_mapped_is_seen_by_whoever_opens_it_next(tmp_path: Path) -> None:
    with listed(tmp_path, "older") as blocklist:
        build(BytesIO(b"newer"), tmp_path / "list")

        assert "older" in blocklist
        assert "newer" not in blocklist
        with Blocklist.open(tmp_path / "list") as reopened:
            assert "newer" in reopened


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "cannot be read"),
        (b"", "no block list"),
        (b"123456\npassword\n", "no block list"),
        (b"cut", "has 23 bytes, not the 24"),
        (b"more", "has 25 bytes, not the 24"),
        (b"swapped", f"has 24 bytes, not the {16 + 8 * 2**56}"),
    ],
)
def test_a_file_that_is_no_block_list_is_not_opened(tmp_path: Path, content: bytes | None, why: str) -> None:
    file = tmp_path / "list"
    build(BytesIO(b"one"), file)
    whole = file.read_bytes()
    damaged = {
        b"cut": whole[:-1],
        b"more": whole + b"x",
        # As a machine would write it that has its numbers the other way round.
        b"swapped": whole[:8] + whole[8:16][::-1] + whole[16:],
    }
    if content is None:
        file.unlink()
    else:
        file.write_bytes(damaged.get(content, content))

    with pytest.raises(BlocklistFileError, match=why), Blocklist.open(file):
        pass

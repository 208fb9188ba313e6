"""The gate over the whole: today's code keeps what was released, files only come, a second version can be planted."""

import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, Final, get_args

import pytest

from contract import gate
from contract.corpus import SUMS, CorpusRecord, changed_files, read_corpus, read_sums, sums_of
from contract.gate import CORPUS, Promise, broken, promise_of
from events import Unknown, UserEvent, decode
from events.catalogue import Catalogue
from events.decoding import Decoder
from events.user_events import USER_EVENTS, ChangeEvent, UserEmailChanged, UserErased, UserSnapshot
from tests.integration.projectors.stream import new_user, record
from tests.integration.subjects.second_version import EmailChanged2, planted

TODAY = date(2026, 12, 1)
RELEASED = promise_of(USER_EVENTS)
SUNSETS: Final = {"muster.user.email_changed.v1": date(2027, 7, 1)}


def test_the_contract_is_kept() -> None:
    assert gate.broken_promises(TODAY) == []


@pytest.mark.parametrize("item", read_corpus(CORPUS), ids=lambda item: item.name)
def test_the_kit_reads_every_record_that_was_ever_published(item: CorpusRecord) -> None:
    found = decode(item.key, item.headers, item.value)

    assert not isinstance(found, Unknown), found
    headers = dict(item.headers)
    assert str(found.user_id).encode() == item.key
    assert found.id.encode() == headers["ce_id"]
    assert found.version == int(headers["ce_sequence"] or b"")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A copy of the corpus, to spoil."""
    return Path(shutil.copytree(CORPUS, tmp_path / "corpus"))


def _note_sums(corpus: Path) -> None:
    (corpus / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in sums_of(corpus).items()))


NAME = "muster.user.erased.v1.json"


@pytest.mark.parametrize("noted", [False, True])
def test_a_file_of_the_corpus_may_not_change_or_go(corpus: Path, *, noted: bool) -> None:
    released = read_sums(CORPUS / SUMS)
    (corpus / NAME).write_text("{}")
    if noted:
        _note_sums(corpus)
    assert any("the file was changed" in said for said in changed_files(corpus, released))

    (corpus / NAME).unlink()
    if noted:
        _note_sums(corpus)
    assert any("the file is missing" in said for said in changed_files(corpus, released))


def test_a_new_file_needs_its_line_and_a_line_its_file(corpus: Path) -> None:
    released = read_sums(CORPUS / SUMS)
    shutil.copy(corpus / NAME, corpus / "new.json")

    [said] = changed_files(corpus, released)
    assert "new.json: SHA256SUMS does not have it" in said

    _note_sums(corpus)
    assert list(changed_files(corpus, released)) == []
    (corpus / "new.json").unlink()
    [said] = changed_files(corpus, released)
    assert "new.json: SHA256SUMS says otherwise" in said


def _broken(catalogue: Catalogue[Any, Any], corpus: list[CorpusRecord], *, on: date = TODAY, **how: Any) -> list[str]:
    released = replace(RELEASED, sunsets=how.get("announced", {}))
    return list(broken(released, catalogue, corpus, sunsets=how.get("sunsets", {}), today=on))


def test_an_event_without_a_record_is_named() -> None:
    without = [item for item in read_corpus(CORPUS) if item.type != "muster.user.erased.v1"]

    assert _broken(USER_EVENTS, without) == [
        "muster.user.erased.v1: the corpus has no record of it: add one to events/corpus, and its line to SHA256SUMS"
    ]


def test_what_is_written_otherwise_than_it_was_described_is_named() -> None:
    headers = {type_: {**each, "required": [*each["required"], "ce_new"]} for type_, each in RELEASED.headers.items()}
    released = Promise(RELEASED.values, headers)

    said = list(broken(released, USER_EVENTS, read_corpus(CORPUS), sunsets={}, today=TODAY))

    assert any("its headers, as written today, break the released schema" in each for each in said)


USER = new_user(1).model_copy(update={"version": 2})
FIRST = record(UserEmailChanged(user=USER, previous={"email": "old@example.com"}))
SECOND = CorpusRecord(
    "muster.user.email_changed.v2",
    FIRST.key,
    [(name, value.replace(b".v1", b".v2") if value else value) for name, value in FIRST.headers],
    EmailChanged2(user=USER, previous={"email": "old@example.com"}, proof="mail").model_dump_json().encode(),
)


def test_a_second_version_is_published_beside_the_first_until_its_sunset() -> None:
    both, second = planted(UserEmailChanged, EmailChanged2), planted(EmailChanged2)
    corpus = [*read_corpus(CORPUS), SECOND]

    assert _broken(both, corpus) == []
    assert "announce its end" in _broken(second, corpus)[0]
    assert _broken(both, corpus, sunsets=SUNSETS) == []
    assert "release that" in _broken(second, corpus, sunsets=SUNSETS)[0], "not in the release that announces it"
    assert "publish it until then" in _broken(second, corpus, announced=SUNSETS)[0]
    assert _broken(second, corpus, announced=SUNSETS, on=date(2027, 7, 1)) == []


def test_a_release_notes_what_is_promised_and_nothing_that_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sunsets.json").write_text('{"muster.user.email_changed.v1": "2027-07-01"}')
    monkeypatch.setattr(gate, "SUNSETS", tmp_path / "sunsets.json")
    (tmp_path / "released" / "schemas").mkdir(parents=True)
    (tmp_path / "released" / "schemas" / "ended.v1.json").write_text("{}")

    gate.release(tmp_path / "released")

    noted = gate.read_released(tmp_path / "released")
    assert noted.values == RELEASED.values
    assert noted.sunsets == SUNSETS


def test_a_second_version_needs_a_record_and_an_upcaster() -> None:
    without = Catalogue[Any, Any](
        subject="user",
        source="/muster/users",
        classes=(*get_args(ChangeEvent), UserSnapshot, EmailChanged2),
        tombstone=UserErased,
    )

    said = _broken(without, read_corpus(CORPUS))

    assert any("muster.user.email_changed.v2: the corpus has no record of it" in each for each in said)
    assert any("email_changed.v1: today's kit cannot read it" in each and "upcaster" in each for each in said)


def test_with_both_versions_on_the_topic_every_subscriber_sees_the_change_once() -> None:
    """The newer version is published first, so that the log keeps of each user what every subscriber can read."""
    later = Decoder(planted(UserEmailChanged, EmailChanged2)).read
    topic = [(SECOND.key, SECOND.headers, SECOND.value), (FIRST.key, FIRST.headers, FIRST.value)]

    for read in (decode, later):
        seen: dict[Any, int] = {}
        applied = []
        for item in topic:
            event = read(*item)
            if isinstance(event, UserEvent) and event.version > seen.get(event.user_id, 0):
                seen[event.user_id] = event.version
                applied.append(event.type)
        assert len(applied) == 1, applied
        assert not isinstance(read(*topic[-1]), Unknown)

    found = decode(*topic[0])
    assert isinstance(found, Unknown)
    assert "is newer than this Muster knows" in found.reason

"""Tokens, keys, ids, times, delays, statements: the small promises that larger ones stand on."""

import asyncio
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from unicodedata import normalize
from uuid import UUID

import idna
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from idna.idnadata import codepoint_classes
from pydantic import validate_email
from sqlalchemy import Column, Integer, MetaData, Table, Text, bindparam, insert, select

from chassis.clock import rfc3339
from chassis.consistency import ConsistencyToken, InvalidConsistencyTokenError
from chassis.identifiers import new_id
from chassis.lifecycle import Backoff, end_task, run_until_stopped, wait_at_most
from chassis.postgres.statements import compile_statement
from chassis.text_keys import email_key, email_keys, text_key, text_keys


@given(st.uuids(), st.integers(1, 2**63 - 1))
def test_a_token_reads_back(subject: UUID, version: int) -> None:
    token = ConsistencyToken(subject, version)

    assert ConsistencyToken.decode(token.encode()) == token
    assert token.encode().replace("-", "").replace("_", "").isalnum()


@given(st.datetimes(timezones=st.timezones()))
def test_a_time_is_written_in_utc_with_microseconds_and_reads_back(time: datetime) -> None:
    try:
        written = rfc3339(time)
    except OverflowError:
        return  # in UTC it would be before the first day or after the last
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", written)
    assert datetime.fromisoformat(written) == time.astimezone(UTC)


@given(st.text())
def test_no_text_breaks_the_token_reader(text: str) -> None:
    try:
        token = ConsistencyToken.decode(text)
    except InvalidConsistencyTokenError:
        return
    assert token.version > 0


@pytest.mark.parametrize("text", ["", "AAAA", "=", "é", ConsistencyToken(UUID(int=1 << 77), 1).encode()[:-2]])
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(InvalidConsistencyTokenError):
        ConsistencyToken.decode(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ann@Example.com", "ann@example.com"),
        ("STRASSE", "straße"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος"),
        ("\N{ANGSTROM SIGN}sa", "åsa"),
        ("e\N{COMBINING ACUTE ACCENT}", "é"),
        ("\N{LATIN SMALL LETTER LONG S}am", "Sam"),
        ("ﬁle", "FILE"),
    ],
)
def test_names_that_people_take_for_the_same_have_one_key(one: str, other: str) -> None:
    assert text_key(one) == text_key(other)


@given(st.text(max_size=60))
def test_a_key_is_its_own_key(text: str) -> None:
    assert text_key(text_key(text)) == text_key(text)


@given(st.lists(st.text(st.characters(exclude_characters="\0")), min_size=1))
@example(["A", "", "b"])
@example(["", "İ"])
def test_keys_of_many_texts_are_those_of_each(texts: list[str]) -> None:
    assert text_keys(texts) == [text_key(text) for text in texts]


@pytest.mark.parametrize(
    "spelling",
    [
        *("x@münchen.de", "X@MÜNCHEN.DE", "x@mu\N{COMBINING DIAERESIS}nchen.de", "x@xn--mnchen-3ya.de"),
        *(
            "x@XN--MNCHEN-3YA.DE",
            "x@münchen\N{IDEOGRAPHIC FULL STOP}de",
            "x@\N{FULLWIDTH LATIN SMALL LETTER M}ünchen.de",
        ),
    ],
)
def test_every_spelling_of_a_domain_has_one_key(spelling: str) -> None:
    assert email_key(spelling) == "x@xn--mnchen-3ya.de"


def test_domains_of_different_owners_have_different_keys() -> None:
    assert email_key("ann@straße.de") == "ann@xn--strae-oqa.de"
    assert email_key("ann@strasse.de") == "ann@strasse.de"


@given(st.text(st.characters(exclude_characters="\0"), max_size=20).map(lambda end: f"ann@{end}"))
def test_whoever_registers_an_address_is_found_by_it_and_by_what_is_stored(text: str) -> None:
    with suppress(ValueError):
        assert email_key(validate_email(text)[1]) == email_key(text)


def test_a_domain_as_it_is_stored_has_a_key_of_its_own() -> None:
    # What migration 0005 relies on: mapping a domain changes nothing of one that is written as IDNA 2008 has it.
    allowed = intranges_of(codepoint_classes["PVALID"])
    # Of a range of thousands, which are ideographs and syllables, some.
    characters = [chr(code) for first, last in allowed for code in range(first, last, 1 if last - first < 2000 else 97)]
    labels = [label for label in (f"a{character}b" for character in characters) if _is_label(label)]

    keys = {label: email_key(f"x@{label}").removeprefix("x@") for label in labels}

    assert len(labels) > 16_000
    assert [label for label, key in keys.items() if not key.isascii() or idna.decode(key) != label] == []


def _is_label(text: str) -> bool:
    try:
        return idna.decode(idna.alabel(text)) == text
    except UnicodeError:
        return False


def intranges_of(packed: Sequence[int]) -> list[tuple[int, int]]:
    return [(pair >> 32, pair & 0xFFFFFFFF) for pair in packed]


@given(st.lists(st.text(st.characters(exclude_characters="\0")), min_size=1))
def test_keys_of_many_addresses_are_those_of_each(texts: list[str]) -> None:
    assert email_keys(texts) == [email_key(text) for text in texts]


def test_the_short_way_to_a_key_gives_what_the_long_one_gives() -> None:
    text = "".join(map(chr, range(128)))
    assert text_key(text) == normalize("NFKC", normalize("NFKC", text).casefold())


def test_ids_are_uuid7_and_grow() -> None:
    ids = [new_id() for _ in range(1000)]

    assert ids == sorted(ids)
    assert {made.version for made in ids} == {7}


def test_an_id_is_like_any_other_uuid() -> None:
    made = new_id()
    other = UUID(str(made))

    assert isinstance(made, UUID)
    assert (made, hash(made), made.bytes, repr(made)) == (other, hash(other), other.bytes, repr(other))


def test_delays_grow_to_their_cap_and_begin_again_after_a_success() -> None:
    backoff = Backoff(first=0.1, cap=5.0, rng=random.Random(1))
    delays = [backoff.next() for _ in range(200)]

    assert delays[0] <= 0.1
    assert max(delays) <= 5.0
    assert max(delays[10:]) > 4.0
    assert min(delays[10:]) >= 0.5
    backoff.reset()
    assert backoff.next() <= 0.1


def test_a_statement_knows_its_parameters_and_keeps_its_literals() -> None:
    table = Table("t", MetaData(), Column("id", Integer), Column("name", Text))
    inserting = compile_statement(insert(table).values(id=bindparam("b"), name=bindparam("a")))
    selecting = compile_statement(select(table.c.id).where(table.c.name == "fixed"))

    assert inserting.args(a="x", b=1) == (1, "x")
    assert "$1::INTEGER" in inserting.sql
    assert selecting.args() == ("fixed",)
    with pytest.raises(KeyError):
        inserting.args(a="x")


PROGRAM = """
import asyncio, sys
from chassis.lifecycle import run_until_stopped

async def main(stopping):
    print("started", file=sys.stderr)
    await stopping.wait()
    print("finishing", file=sys.stderr)
    if "stubborn" in sys.argv:
        await asyncio.Event().wait()
    return 0

sys.exit(run_until_stopped(main))
"""


@pytest.fixture
def process(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """The program above, started; ended at the latest with the test."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *getattr(request, "param", ())],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert line(process) == "started\n"
        yield process
        process.kill()


def line(process: subprocess.Popen[str]) -> str:
    """The next line it prints."""
    assert process.stderr is not None
    return process.stderr.readline()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_finishes_what_it_began_when_told_to_stop(
    process: subprocess.Popen[str], number: signal.Signals
) -> None:
    process.send_signal(number)

    assert line(process) == "finishing\n"
    assert process.wait(20) == 0


@pytest.mark.parametrize("process", [["stubborn"]], indirect=True)
def test_a_second_signal_cuts_it_short(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    assert line(process) == "finishing\n"
    process.send_signal(signal.SIGTERM)

    assert process.wait(20) == 130


def test_run_gives_the_exit_code() -> None:
    async def main(stopping: asyncio.Event) -> int:
        assert not stopping.is_set()
        return 3

    assert run_until_stopped(main) == 3


async def test_ending_a_task_waits_for_it_and_raises_what_it_failed_with() -> None:
    ended: list[str] = []

    async def work(error: Exception | None) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("ended")
            if error:
                raise error

    for error in (None, ZeroDivisionError()):
        task = asyncio.ensure_future(work(error))
        await asyncio.sleep(0)
        with pytest.raises(ZeroDivisionError) if error else nullcontext():
            await end_task(task)
    assert ended == ["ended", "ended"]


async def test_a_cancellation_that_comes_together_with_the_answer_is_not_forgotten() -> None:
    answer = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(wait_at_most(answer, 60))
    await asyncio.sleep(0)
    answer.set_result(None)
    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_cancellation_comes_out_of_what_swallows_it() -> None:
    async def swallowing() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    waiting = asyncio.create_task(wait_at_most(swallowing(), 60))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_who_waits_gets_the_answer_its_error_or_that_it_took_too_long() -> None:
    async def failing() -> None:
        raise LookupError

    assert await wait_at_most(asyncio.sleep(0, "answer"), 60) == "answer"
    with pytest.raises(LookupError):
        await wait_at_most(failing(), 60)
    with pytest.raises(TimeoutError):
        await wait_at_most(asyncio.Event().wait(), 0.01)


async def test_who_is_cancelled_while_ending_a_task_is_cancelled() -> None:
    slow = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await slow.wait()

    async def ending() -> None:
        await end_task(task)
        raise AssertionError("went on as if nobody had cancelled it")

    task = asyncio.ensure_future(work())
    await asyncio.sleep(0)
    caller = asyncio.ensure_future(ending())
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    slow.set()
    await end_task(task)

"""Parked records in the console: why, who waits, bytes on request, a discard that is shown before it is done."""

import json
import re
from base64 import b64encode

import pytest

from console.parked import page
from events.user_events import PublicUser, UserProfileChanged, UserRegistered
from projectors.operations import parked
from tests.integration.console.conftest import Console
from tests.integration.projectors.stream import FakeRecord, new_user, record
from tests.integration.query_api.read_side import ReadSide

NAUGHTY = '{"user":"<script>alert(1)</script> \x00'
FIRST, SECOND = "/parked/users/1/0/1", "/parked/users/1/0/2"

_PARK = """
INSERT INTO parked_records (projection, generation, topic, partition, record_offset, user_id, error, key, headers,
    value, recorded_at)
VALUES ('users', 1, 'users.events', 0, $1, $2, $3, $4, $5, $6, now())
"""


async def park(read_side: ReadSide, offset: int, user: PublicUser, item: FakeRecord, error: str | None) -> None:
    """As a feed does."""
    headers = json.dumps([[name, value and b64encode(value).decode()] for name, value in item.headers]).encode()
    await read_side.connection.execute(_PARK, offset, user.id, error, item.key, headers, item.value)


async def park_two(read_side: ReadSide) -> PublicUser:
    """A damaged record, and a good one of the same user behind it."""
    ann = new_user(1)
    good = record(UserRegistered(user=ann))
    await park(
        read_side, 1, ann, FakeRecord(good.key, NAUGHTY.encode() + b"\xff", good.headers), "no JSON\nDETAIL: ann"
    )
    changed = ann.model_copy(update={"version": 2, "display_name": "Ann"})
    await park(read_side, 2, ann, record(UserProfileChanged(user=changed, previous={"display_name": None})), None)
    return ann


async def test_bytes_are_shown_on_request_alone_and_looking_is_recorded(console: Console, read_side: ReadSide) -> None:
    ann = await park_two(read_side)
    async with console.signed_in(subject="eve") as browser, console.signed_in("operations:read") as reader:
        listed, shown = (await browser.get("/parked")).text, (await browser.get(FIRST)).text
        clear = (await browser.send(f"{FIRST}/reveal", page=FIRST)).text
        read = (await reader.get(FIRST)).text
        refused = [await reader.send(f"{FIRST}/{deed}") for deed in ("reveal", "retry", "preview", "discard")]
        lost = [await browser.get(f"/parked/users/1/0/{offset}") for offset in ("3", "x", "9" * 40)]
        recorded = await read_side.connection.fetchrow("SELECT actor, deed, targets FROM console_operations")

    assert "no JSON" in listed
    assert "DETAIL" not in listed + shown
    assert str(ann.id) in shown
    assert "1 of the same user waits behind it" in shown
    assert "alert(1)" not in listed + shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt; \\x00\\xff" in clear
    assert "0000  7b 22 75 73 65 72 22 3a" in clear
    assert "muster.user.registered.v1" in clear
    assert "<button>Retry</button>" not in read
    assert [answer.status_code for answer in refused] == [403] * 4
    assert [answer.status_code for answer in lost] == [404] * 3
    assert recorded is not None
    assert tuple(recorded) == ("eve", "reveal a parked record", ["users/1/0/1"])


async def test_a_discard_is_shown_before_it_is_done_and_does_what_was_shown(
    console: Console, read_side: ReadSide
) -> None:
    ann = await park_two(read_side)
    async with console.signed_in() as browser:
        retried = (await browser.send("/parked/retry", page="/parked")).text
        preview = (await browser.send(f"{FIRST}/preview", page=FIRST)).text
        kept = await read_side.connection.fetchval("SELECT count(*) FROM parked_records")
        done = (await browser.send(f"{FIRST}/discard", page=FIRST)).text
        again = await browser.send(f"{FIRST}/discard")
    version = await read_side.connection.fetchval("SELECT version FROM users_g1 WHERE id = $1", ann.id)
    recorded = await read_side.connection.fetch("SELECT deed, outcome FROM console_operations ORDER BY id")

    assert "0 applied, 0 discarded, 2 still parked" in retried
    assert "1 that waits behind it would be applied" in preview
    assert "Nothing of this user would stay parked" in preview
    assert kept == 2
    assert "1 applied, 1 discarded, 0 still parked" in done
    assert "Nothing is parked" in done
    assert version == 2
    assert [tuple(row) for row in recorded] == [
        ("retry parked records", "done"),
        ("discard a parked record", "done"),
        ("discard a parked record", "refused: Nothing is parked there (404)"),
    ]
    assert again.status_code == 404


async def test_a_long_list_is_leafed_through_and_what_is_not_on_the_page_is_counted(
    console: Console, read_side: ReadSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "PAGE_RECORDS", 2)
    monkeypatch.setattr(parked, "LIST_RECORDS", 2)
    ann, good = new_user(1), record(UserRegistered(user=new_user(1)))
    for offset in range(1, 6):
        await park(read_side, offset, ann, good, "no JSON")
    await read_side.connection.execute(
        "UPDATE parked_records SET suspect_id = user_id, user_id = NULL WHERE record_offset = 5"
    )
    async with console.signed_in() as browser:
        pages = [(await browser.get(f"/parked{after}")).text for after in ("", *map(_after, (2, 4, 5)))]
        first, last = (await browser.get(FIRST)).text, (await browser.get("/parked/users/1/0/4")).text
        refused = [await browser.get(f"/parked?after={text}") for text in ("x", "users/1/0/x", "users/1/0/-1")]

    assert [_listed(each) for each in pages] == [[1, 2], [3, 4], [5], []]
    assert [_after(offset) in each for each, offset in zip(pages, (2, 4, 5, 5), strict=True)] == [
        *(True, True, False, False)
    ]
    assert all("5 in all, 1 of them suspicious" in each for each in pages)
    assert all("Retry all" in each and "Discard what is suspicious" in each for each in pages)
    assert "Nothing is parked further on" in pages[-1]
    assert "3 of the same user wait behind it" in first
    assert _listed(first) == [2, 3]
    assert "It waits itself, behind 3 of the same user" in last
    assert "Nobody waits behind it" in last
    assert all("Only the first 2 are shown" in each for each in (first, last))
    assert [answer.status_code for answer in refused] == [400] * 3


def _after(offset: int) -> str:
    return f"?after=users/1/0/{offset}"


def _listed(text: str) -> list[int]:
    return [int(offset) for offset in re.findall(r'href="/parked/users/1/0/(\d+)"', text)]


async def test_what_is_suspicious_is_not_retried_and_discarded_at_once(console: Console, read_side: ReadSide) -> None:
    ann = await park_two(read_side)
    await read_side.connection.execute("UPDATE parked_records SET suspect_id = user_id, user_id = NULL")
    async with console.signed_in() as browser:
        shown = (await browser.get(SECOND)).text
        refused = await browser.send(f"{SECOND}/retry", page=SECOND)
        done = (await browser.send("/parked/discard-suspicious", page="/parked")).text

    assert f"muster repair {ann.id}" in shown
    assert "Nobody waits behind it" in shown
    assert refused.status_code == 409
    assert "0 applied, 2 discarded, 0 still parked" in done

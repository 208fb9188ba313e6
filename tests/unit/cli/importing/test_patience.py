"""A chunk is sent again after as long as the API asks for, and not for ever."""

import json
from collections.abc import Iterable
from io import BytesIO

import httpx
import pytest

from cli.access.patience import ATTEMPTS, LONGEST_PAUSE_SECONDS, PAUSE_CAP_SECONDS
from cli.importing.progress import ImportProgress
from cli.importing.sending import GaveUpError, Import

LINE = b'{"email": "ann@example.com", "username": "ann", "password": "correct horse"}\n'
DONE = b"\n".join(json.dumps(each).encode() for each in ({"line": 1, "status": "created"}, {"complete": True})) + b"\n"


def sent(answers: Iterable[httpx.Response]) -> tuple[ImportProgress, list[float]]:
    """How far an import of one line gets with these answers, and how long it waited between them."""
    turns, pauses, progress = iter(answers), list[float](), ImportProgress(len(LINE), 0)
    transport = httpx.MockTransport(lambda _: next(turns))
    with httpx.Client(base_url="http://muster", transport=transport) as client:
        one = Import(BytesIO(LINE), client, progress, pause=pauses.append)
        for chunk in one.chunks():
            one.send(chunk)
    return progress, pauses


def refusal(status: int, **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"title": "Later", "detail": "come back"}, headers=headers)


@pytest.mark.parametrize("status", [429, 503])
def test_a_chunk_is_sent_again_after_as_long_as_the_api_says(status: int) -> None:
    answers = [refusal(status, **{"Retry-After": "17"}), refusal(status), httpx.Response(200, content=DONE)]

    progress, pauses = sent(answers)

    assert progress.created == 1
    assert pauses[0] == 17
    assert 0 < pauses[1] <= PAUSE_CAP_SECONDS


def test_an_api_that_wants_to_be_left_alone_for_long_ends_the_import_at_once() -> None:
    long = {"Retry-After": f"{LONGEST_PAUSE_SECONDS + 1:g}"}

    with pytest.raises(GaveUpError, match=r"Gave up: 429 Later: come back; it wants to be asked again in 61 s"):
        sent([refusal(429, **long)])


def test_an_api_that_never_has_time_is_asked_so_often() -> None:
    with pytest.raises(GaveUpError, match=f"Gave up after {ATTEMPTS} attempts: 503"):
        sent(refusal(503) for _ in range(ATTEMPTS))

"""Calls an API for a command of ours: with its token, and with one sentence for whatever stands in its way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import httpx

from chassis.outages import describe
from cli.access.bearer import REMEDY, NoTokenError, bearer_for
from cli.access.patience import PatientTransport
from cli.terminal.output import fail, legible

#: A query may wait for its database for some seconds, and a command for a lock; a minute is an outage.
ANSWER_SECONDS: Final = 60.0


class CallRefusedError(Exception):
    """An API did not do what was asked; the message is a sentence."""


def client(address: str, *, patient: bool = False) -> httpx.Client:
    """A client of the API at this address; a `patient` one sends again what is refused for now.

    Raises:
        NoTokenError: the token that is to be sent cannot be had.
    """
    transport = PatientTransport(httpx.HTTPTransport(trust_env=False)) if patient else None
    auth = bearer_for(address)
    return httpx.Client(base_url=address, timeout=ANSWER_SECONDS, trust_env=False, auth=auth, transport=transport)


def answer(api: str, ask: Callable[[], httpx.Response]) -> Any:
    """The JSON of a success.

    Raises:
        RefusedError: it was none.
    """
    got = ask()
    if got.is_success:
        return got.json()
    try:
        problem = got.json()
        detail = f"{problem['title']}: {problem['detail']}"
    except (ValueError, KeyError, TypeError):
        detail = got.reason_phrase
    remedy = f" {REMEDY}." if got.status_code in {401, 403} else ""
    raise CallRefusedError(f"The {api} API answers {got.status_code}: {legible(detail).rstrip('.')}.{remedy}")


@contextmanager
def explained() -> Iterator[None]:
    """End the command with one sentence, whatever it was that stood in its way."""
    try:
        yield
    except CallRefusedError as error:
        fail(str(error))
    except NoTokenError as error:
        fail(str(error), code=2)
    except httpx.HTTPError as error:
        fail(f"{error.request.url.copy_with(raw_path=b'/')} does not answer: {describe(error)}.")

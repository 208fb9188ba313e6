"""What a page tells that follows a change: in its address, so that it can be loaded again, with the session's proof.

Without the proof an address that anybody has made up could tell that somebody was erased.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from console.pages import HEADERS, session_of
from console.sign_in.sealing import proof
from console.sign_in.sessions import Session

_PROOF: Final = "proof"


def lead_to(session: Session, path: str, *, part: str = "", **told: object) -> Response:
    """Lead to a page of ours, which is told this; `part` is where in it."""
    given = {name: str(value) for name, value in told.items() if value != ""}
    query = f"?{urlencode({**given, _PROOF: _proof(session, path, given)})}" if given else ""
    return RedirectResponse(f"{path}{query}{f'#{part}' if part else ''}", 303, dict(HEADERS))


def told_to(request: Request) -> Mapping[str, str]:
    """What a page is told; nothing where this session has not led there."""
    given = dict(request.query_params)
    shown = given.pop(_PROOF, "")
    expected = _proof(session_of(request), request.url.path, given)
    return given if hmac.compare_digest(shown.encode(), expected.encode()) else {}


def _proof(session: Session, path: str, told: Mapping[str, str]) -> str:
    return proof(session.id, f"{path}?{urlencode(sorted(told.items()))}")

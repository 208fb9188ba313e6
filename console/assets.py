"""The files that pages load: our style sheet, two scripts for what is live or no more, and two that make it so.

The last two are not in the repository: `python -m local_stack.webjars` puts them into `vendor` in a checkout, the build
into a wheel. Each has its digest in its address, so browsers keep it for good and a new version is another address.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chassis.settings_error import SettingsError

_HERE: Final = Path(__file__).parent
_FILES: Final = {
    "console.css": ("static", "text/css"),
    "live.js": ("static", "text/javascript"),
    "stale.js": ("static", "text/javascript"),
    "icon.svg": ("static", "image/svg+xml"),
    "htmx.min.js": ("vendor", "text/javascript"),
    "sse.js": ("vendor", "text/javascript"),
}
#: Enough to tell two versions apart.
_DIGITS: Final = 12


@dataclass(frozen=True, slots=True)
class Asset:
    """One file."""

    content: bytes
    media_type: str
    address: str


@lru_cache(maxsize=1)
def assets() -> Mapping[str, Asset]:
    """All of them, by name.

    Raises:
        SettingsError: one is missing, in a checkout that was not made ready.
    """
    found = {}
    for name, (folder, media_type) in _FILES.items():
        try:
            content = (_HERE / folder / name).read_bytes()
        except FileNotFoundError as error:
            remedy = "`make up` puts it into a checkout, as does python -m local_stack.webjars"
            raise SettingsError([f"the console lacks {name}: {remedy}"]) from error
        digits = hashlib.sha256(content).hexdigest()[:_DIGITS]
        found[name] = Asset(content, media_type, f"/assets/{digits}/{name}")
    return found


async def _show(request: Request) -> Response:
    asset = assets().get(request.path_params["name"])
    if asset is None or asset.address != request.url.path:
        raise HTTPException(404)
    return Response(
        asset.content, media_type=asset.media_type, headers={"Cache-Control": "public, max-age=31536000, immutable"}
    )


routes: Final = [Route("/assets/{digits}/{name}", _show)]

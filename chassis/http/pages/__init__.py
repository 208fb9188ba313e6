"""The pages that an API shows in a browser; all they need comes from the API itself, and their policy says so."""

from __future__ import annotations

from typing import Final

from starlette.responses import HTMLResponse

#: Whatever a page does not name is forbidden to it, and no other page may frame it.
_POLICY: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def page(html: str, needs: str) -> HTMLResponse:
    """A page whose Content-Security-Policy allows what it `needs`, and nothing else."""
    return HTMLResponse(html, headers={"Content-Security-Policy": f"{_POLICY}; {needs}"})

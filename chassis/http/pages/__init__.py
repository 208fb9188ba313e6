"""The pages that an API shows in a browser; all they need comes from the API itself, and their policy says so."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import Final

from starlette.responses import HTMLResponse

#: Anything that a page does not name is forbidden to it, and no other page may frame it.
_POLICY: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_STYLE: Final = """
body { font: 1rem/1.6 system-ui, sans-serif; max-width: 42rem; margin: 3rem auto; padding: 0 1rem; color: #1a1a1a; }
code, pre { background: #f2f2f2; padding: .1rem .3rem; border-radius: .2rem; }
pre { overflow-x: auto; padding: .6rem; font-size: .85rem; line-height: 1.4; }
a { color: #0550ae; }
dt { font-weight: 600; margin-top: 1rem; }
dd { margin: 0; }
"""
_STYLE_DIGEST: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_FRAME: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
{body}
</html>
"""


def page(html: str, needs: str) -> HTMLResponse:
    """A page whose Content-Security-Policy allows what it `needs`, and nothing else."""
    return HTMLResponse(html, headers={"Content-Security-Policy": f"{_POLICY}; {needs}"})


def text_page(title: str, body: str) -> HTMLResponse:
    """A page of plain text, under its title; `body` is HTML without style and script."""
    html = _FRAME.format(style=_STYLE, title=escape(title), body=f"<h1>{escape(title)}</h1>\n{body}")
    return page(html, f"style-src 'sha256-{_STYLE_DIGEST}'")

"""The readable pages under `/problems/`: what each type means and what to do, without any asset from elsewhere."""

import base64
import hashlib
from html import escape
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from chassis.http.pages import page
from chassis.http.problems import ProblemType

_STYLE: Final = """
body { font: 1rem/1.6 system-ui, sans-serif; max-width: 42rem; margin: 3rem auto; padding: 0 1rem; color: #1a1a1a; }
code { background: #f2f2f2; padding: .1rem .3rem; border-radius: .2rem; }
a { color: #0550ae; }
dt { font-weight: 600; margin-top: 1rem; }
dd { margin: 0; }
"""
_NEEDS: Final = f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'"
_FRAME: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
{body}
</html>
"""


def problem_routes(types: tuple[ProblemType, ...]) -> list[Route]:
    """The list at `/problems/` and one page a type; of several with one slug the last, which may say more."""
    known = {kind.slug: kind for kind in types}
    by_slug = {slug: _page(kind) for slug, kind in known.items()}
    index = _index([*known.values()])

    async def show_index(_: Request) -> HTMLResponse:
        return page(index, _NEEDS)

    async def show(request: Request) -> HTMLResponse:
        found = by_slug.get(request.path_params["slug"])
        if found is None:
            raise HTTPException(404)
        return page(found, _NEEDS)

    return [Route("/problems/", show_index), Route("/problems/{slug}", show)]


def _page(kind: ProblemType) -> str:
    body = (
        f"<h1>{escape(kind.title)}</h1>\n<p><code>{kind.status}</code> <code>{kind.uri}</code></p>\n"
        f"<dl><dt>What happened</dt><dd>{escape(kind.meaning)}</dd>\n"
        f"<dt>What to do</dt><dd>{escape(kind.remedy)}</dd></dl>\n"
        '<p><a href="/problems/">All problem types</a></p>'
    )
    return _FRAME.format(style=_STYLE, title=escape(kind.title), body=body)


def _index(types: list[ProblemType]) -> str:
    ordered = sorted(types, key=lambda kind: (kind.status, kind.slug))
    rows = "\n".join(
        f'<dt><a href="{kind.uri}">{escape(kind.title)}</a></dt>\n'
        f"<dd><code>{kind.status}</code> {escape(kind.meaning)}</dd>"
        for kind in ordered
    )
    return _FRAME.format(style=_STYLE, title="Problem types", body=f"<h1>Problem types</h1>\n<dl>\n{rows}\n</dl>")

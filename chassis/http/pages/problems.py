"""The readable pages under `/problems/`: what each type means and what to do, without any asset from elsewhere."""

from html import escape

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from chassis.http.pages import text_page
from chassis.http.problems import ProblemType


def problem_routes(types: tuple[ProblemType, ...]) -> list[Route]:
    """The list at `/problems/` and one page a type; of several with one slug the last, which may say more."""
    known = {kind.slug: kind for kind in types}
    by_slug = {slug: _body(kind) for slug, kind in known.items()}
    index = _index([*known.values()])

    async def show_index(_: Request) -> HTMLResponse:
        return text_page("Problem types", index)

    async def show(request: Request) -> HTMLResponse:
        found = known.get(request.path_params["slug"])
        if found is None:
            raise HTTPException(404)
        return text_page(found.title, by_slug[found.slug])

    return [Route("/problems/", show_index), Route("/problems/{slug}", show)]


def _body(kind: ProblemType) -> str:
    return (
        f"<p><code>{kind.status}</code> <code>{kind.uri}</code></p>\n"
        f"<dl><dt>What happened</dt><dd>{escape(kind.meaning)}</dd>\n"
        f"<dt>What to do</dt><dd>{escape(kind.remedy)}</dd></dl>\n"
        '<p><a href="/problems/">All problem types</a></p>'
    )


def _index(types: list[ProblemType]) -> str:
    ordered = sorted(types, key=lambda kind: (kind.status, kind.slug))
    rows = "\n".join(
        f'<dt><a href="{kind.uri}">{escape(kind.title)}</a></dt>\n'
        f"<dd><code>{kind.status}</code> {escape(kind.meaning)}</dd>"
        for kind in ordered
    )
    return f"<dl>\n{rows}\n</dl>"

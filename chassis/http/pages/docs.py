"""`/docs` and `/redoc`: Swagger UI and ReDoc, with every asset from here and no script within the page.

Addresses are relative, so that the pages also work below a prefix of a proxy's.
"""

from __future__ import annotations

from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Final

import fastapi_offline
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from chassis.http.pages import page

_ASSETS: Final = Path(fastapi_offline.__file__).with_name("static")
_ASSETS_URL: Final = "/static-offline-docs"

_FRAME: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="static-offline-docs/favicon.png">
<title>{title}</title>
{body}
</html>
"""
_SWAGGER: Final = """<link rel="stylesheet" href="static-offline-docs/swagger-ui.css">
<div id="swagger-ui"></div>
<script src="static-offline-docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>"""
_START_SWAGGER: Final = """\
SwaggerUIBundle({url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true});
"""
_REDOC: Final = """<redoc spec-url="openapi.json"></redoc>
<script src="static-offline-docs/redoc.standalone.js"></script>"""
#: ReDoc's only wish from elsewhere, its maker's logo; where there is no image it shows none.
_LOGO: Final = b"https://cdn.redoc.ly/redoc/logo-mini.svg"

_SWAGGER_NEEDS: Final = "script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'"
#: ReDoc fills empty style elements by script, which the hash of nothing allows, and has one that is not empty.
_REDOC_STYLES: Final = (
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' 'sha256-QMIg+bpjm3JdElJ388KYke01izlUW0UoNOeKjpMxdgc='"
)
#: It searches in a worker.
_REDOC_NEEDS: Final = (
    f"script-src 'self'; style-src {_REDOC_STYLES}; img-src 'self' data:; connect-src 'self'; worker-src blob:"
)


def doc_routes(title: str) -> list[BaseRoute]:
    """Both pages of the API with that title, and what they load."""
    swagger = _FRAME.format(title=f"{escape(title)} – Swagger UI", body=_SWAGGER)
    redoc = _FRAME.format(title=f"{escape(title)} – ReDoc", body=_REDOC)

    async def show_swagger(_: Request) -> HTMLResponse:
        return page(swagger, _SWAGGER_NEEDS)

    async def start_swagger(_: Request) -> Response:
        return Response(_START_SWAGGER, media_type="text/javascript")

    async def show_redoc(_: Request) -> HTMLResponse:
        return page(redoc, _REDOC_NEEDS)

    async def show_redoc_script(_: Request) -> Response:
        return Response(_redoc_script(), media_type="text/javascript")

    return [
        Route("/docs", show_swagger),
        Route("/docs/start.js", start_swagger),
        Route("/redoc", show_redoc),
        Route(f"{_ASSETS_URL}/redoc.standalone.js", show_redoc_script),
        Mount(_ASSETS_URL, StaticFiles(directory=_ASSETS)),
    ]


@lru_cache(maxsize=1)
def _redoc_script() -> bytes:
    return (_ASSETS / "redoc.standalone.js").read_bytes().replace(_LOGO, b"data:,")

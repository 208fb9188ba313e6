"""A login page for Muster: sign in, sign out, reset by mail. Mails are printed. See docs/how-to/log-people-in.md.

Run it beside `make up`:  MUSTER_TOKEN=$(.venv/bin/muster token --sub login-page --scope \
    "credentials:verify credentials:issue credentials:redeem users:read") .venv/bin/python -m examples.login_app
"""

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from typing import Any, Final
from urllib.parse import parse_qs

import httpx
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

YEAR_SECONDS: Final = 365 * 24 * 3600
#: Over https add `secure=True`, and name the cookies `__Host-session` and `__Host-device`.
COOKIE: Final[dict[str, Any]] = {"httponly": True, "samesite": "lax"}
PURPOSE: Final = {"purpose": "password-reset"}
HEADERS: Final = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
#: What stands behind the # of a link comes to no server until the person sends the form.
FILL_IN: Final = "<script>document.forms[0].token.value = location.hash.slice(1)</script>"


@dataclass
class Session:
    """What a browser's cookie stands for; it is nobody's until somebody signs in."""

    user: dict[str, Any] | None = None
    csrf: str = field(default_factory=secrets.token_urlsafe)

    def form(self, action: str, button: str, *fields: str) -> str:
        """A form with the session's secret, which no other site knows; each field is of the kind of its name."""
        inputs = "".join(f'<p><label>{name} <input name="{name}" type="{name}"></label>' for name in fields)
        csrf = f'<input type="hidden" name="csrf" value="{self.csrf}">'
        return f'<form method="post" action="/{action}">{csrf}{inputs}<p><button>{button}</button></form>'


class LoginPages:
    """The pages; both clients bring their access token to Muster's APIs."""

    def __init__(self, muster: httpx.AsyncClient, queries: httpx.AsyncClient, mail: Callable[[str, str], None]) -> None:
        """With several processes keep the sessions in a database; and let them end after some hours."""
        self._muster = muster
        self._queries = queries
        self._mail = mail
        self._sessions: dict[str, Session] = {}

    async def front(self, request: Request) -> Response:
        return self._page(request)

    async def log_in(self, request: Request) -> Response:
        sent = await self._sent(request)
        given = {name: sent.get(name) for name in ("identifier", "password")}
        given["device_token"] = request.cookies.get("device")
        answer = await self._muster.post("/credentials/verify", json=given)
        if answer.status_code == 429:
            minutes = -(-int(answer.headers["Retry-After"]) // 60)
            return self._page(request, f"Too many attempts. Try again in {minutes} min, or reset your password.", 429)
        if answer.status_code != 200:
            said = "The name or the password is wrong." if answer.status_code < 500 else "Try again in a moment."
            return self._page(request, said, answer.status_code)
        self._sessions.pop(request.cookies.get("session", ""), None)
        welcome = RedirectResponse("/", 303)
        self._begin(welcome, answer.json()["user"])
        welcome.set_cookie("device", answer.json()["device_token"], max_age=YEAR_SECONDS, **COOKIE)
        return welcome

    async def log_out(self, request: Request) -> Response:
        if await self._sent(request):
            del self._sessions[request.cookies["session"]]  # the device stays a known one
        return RedirectResponse("/", 303)

    async def forgot(self, request: Request) -> Response:
        if email := (await self._sent(request)).get("email"):
            # A real page does this behind its answer, whose time else tells who is there; and a few times an hour.
            found = await self._queries.post("/users/search", json={"email": email, "status": "active"})
            for user in found.json().get("data", []):
                issued = await self._muster.post(f"/users/{user['id']}/one-time-tokens", json=PURPOSE)
                self._mail(user["email"], f"{request.base_url}reset#{issued.raise_for_status().json()['token']}")
        return self._page(request, "If we know this address, a mail is on its way.")

    async def reset_form(self, request: Request) -> Response:
        return self._shown(request, lambda session: session.form("reset", "Set it", "token", "password") + FILL_IN)

    async def reset(self, request: Request) -> Response:
        sent = await self._sent(request)
        answer = await self._muster.post(
            "/one-time-tokens/redeem", json={name: sent.get(name) for name in ("token", "password")}
        )
        if answer.status_code != 200:
            used_up = "This link is used up or too old."
            return self._page(request, answer.json()["detail"] if answer.status_code == 422 else used_up, 400)
        theirs = [one for one, known in self._sessions.items() if (known.user or {}).get("id") == answer.json()["id"]]
        for identifier in theirs:
            del self._sessions[identifier]
        done = self._page(request, "Your password has been changed. Sign in with it.")
        done.set_cookie("device", answer.headers["Device-Token"], max_age=YEAR_SECONDS, **COOKIE)
        return done

    def _begin(self, answer: Response, user: dict[str, Any] | None = None) -> Session:
        """Begin a session under a new id: one that somebody planted in the browser stays nobody's."""
        identifier, session = secrets.token_urlsafe(), Session(user)
        self._sessions[identifier] = session
        answer.set_cookie("session", identifier, **COOKIE)
        return session

    async def _sent(self, request: Request) -> dict[str, str]:
        """The form's fields; none where it is not a form of this session's."""
        sent = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        session = self._sessions.get(request.cookies.get("session", ""))
        ours = session and secrets.compare_digest(sent.get("csrf", "").encode(), session.csrf.encode())
        return sent if ours else {}

    def _page(self, request: Request, said: str = "", status: int = 200) -> Response:
        def front(session: Session) -> str:
            if session.user:
                return f"<h1>Hello, {escape(session.user['username'])}</h1>" + session.form("logout", "Sign out")
            return session.form("login", "Sign in", "identifier", "password") + session.form("forgot", "Reset", "email")

        return self._shown(request, lambda session: f"<p>{escape(said)}</p>{front(session)}", status)

    def _shown(self, request: Request, make: Callable[[Session], str], status: int = 200) -> Response:
        begun = Response()  # its cookie, where a session begins
        session = self._sessions.get(request.cookies.get("session", "")) or self._begin(begun)
        answer = HTMLResponse(f"<!doctype html><title>Muster</title>{make(session)}", status, HEADERS)
        answer.raw_headers += [header for header in begun.raw_headers if header[0] == b"set-cookie"]
        return answer


def create_app(pages: LoginPages) -> FastAPI:
    """The app."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    shown = {"/": pages.front, "/reset": pages.reset_form}
    sent = {"/login": pages.log_in, "/logout": pages.log_out, "/forgot": pages.forgot, "/reset": pages.reset}
    for method, routes in (("GET", shown), ("POST", sent)):
        for path, page in routes.items():
            app.add_api_route(path, page, methods=[method])
    return app


if __name__ == "__main__":
    bearer = {"Authorization": f"Bearer {os.environ['MUSTER_TOKEN']}"}
    command = httpx.AsyncClient(base_url=os.environ.get("MUSTER_COMMAND_URL", "http://127.0.0.1:8000"), headers=bearer)
    query = httpx.AsyncClient(base_url=os.environ.get("MUSTER_QUERY_URL", "http://127.0.0.1:8001"), headers=bearer)
    uvicorn.run(create_app(LoginPages(command, query, lambda to, link: print(f"Mail to {to}: {link}"))), port=8080)  # noqa: T201 - instead of a mail

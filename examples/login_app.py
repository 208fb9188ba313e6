"""A login page for Muster: sign in, sign out, reset by mail. Mails are printed. See docs/how-to/log-people-in.md."""

import hmac
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs

import httpx
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

SESSION_SECONDS: Final = 12 * 3600
YEAR_SECONDS: Final = 365 * 24 * 3600
COOKIE: Final[dict[str, Any]] = {"httponly": True, "samesite": "lax"}  # over https also secure, named `__Host-…`
HEADERS: Final = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
LATER: Final = "Try again in a moment."  # also where a proxy answers in Muster's place, or nobody
#: What stands behind the # of a link comes to no server until the person sends the form, and stays for another try.
FILL_IN: Final = "<script>let f=document.forms[0];f.token.value=location.hash.slice(1);f.action+=location.hash</script>"


class Session(NamedTuple):
    user: dict[str, Any]
    token: str  # a consistency token: no read with it is older than the sign-in
    ends: float


def form(csrf: str, action: str, button: str, *fields: str) -> str:
    """A form with the browser's secret, which no other site knows; each field is of the kind of its name."""
    inputs = "".join(f'<p><label>{name} <input name="{name}" type="{name}"></label>' for name in fields)
    hidden = f'<input type="hidden" name="csrf" value="{csrf}">'
    return f'<form method="post" action="/{action}">{hidden}{inputs}<p><button>{button}</button></form>'


@dataclass
class LoginPages:
    """The pages; both clients bring their access token to Muster's APIs. Several processes share sessions and key."""

    muster: httpx.AsyncClient
    queries: httpx.AsyncClient
    mail: Callable[[str, str], None] = lambda to, link: print(f"Mail to {to}: {link}")
    sessions: dict[str, Session] = field(default_factory=dict)
    key: bytes = field(default_factory=secrets.token_bytes)
    address: str = "http://127.0.0.1:8080"  # of links in mails: the Host of a request is whatever its sender says

    async def front(self, request: Request) -> Response:
        if session := self._session(request):
            found = await self.queries.get(f"/users/{session.user['id']}", headers={"Consistency-Token": session.token})
            if found.status_code == 404 or (found.status_code == 200 and not found.json()["is_active"]):
                self.sessions.pop(request.cookies["session"], None)
        return self.page(request)

    async def login(self, request: Request) -> Response:
        given = await self._sent(request, "identifier", "password") | {"device_token": request.cookies.get("device")}
        answer = await self.muster.post("/credentials/verify", json=given)
        if answer.status_code != 200:
            said = "The name or password is wrong." if answer.status_code in {403, 422} else LATER
            if answer.status_code == 429 and (wait := answer.headers.get("Retry-After", "")).isdigit():
                said = f"Too many attempts. Try again in {-(-int(wait) // 60)} min, or reset your password."
            return self.page(request, said, answer.status_code)
        # A new id: one that somebody planted in the browser stays nobody's. Sessions that have ended go.
        new, now, old = secrets.token_urlsafe(), time.monotonic(), request.cookies.get("session")
        self.sessions = {one: known for one, known in self.sessions.items() if known.ends > now and one != old}
        self.sessions[new] = Session(answer.json()["user"], answer.headers["Consistency-Token"], now + SESSION_SECONDS)
        welcome = RedirectResponse("/", 303)
        welcome.set_cookie("session", new, **COOKIE)
        welcome.set_cookie("device", answer.json()["device_token"], max_age=YEAR_SECONDS, **COOKIE)
        return welcome

    async def logout(self, request: Request) -> Response:
        await self._sent(request)
        self.sessions.pop(request.cookies["session"], None)  # the device stays a known one
        return RedirectResponse("/", 303)

    async def forgot(self, request: Request) -> Response:
        # A real page does this behind its answer, whose time else tells who is there; and a few times an hour.
        found = await self.queries.post("/users/search", json={"status": "active"} | await self._sent(request, "email"))
        done = found.status_code in {200, 422}  # no address at all
        for user in found.json()["data"] if found.status_code == 200 else []:
            issued = await self.muster.post(f"/users/{user['id']}/one-time-tokens", json={"purpose": "password-reset"})
            done = done and issued.status_code in {201, 404, 409}  # erased or deactivated since
            if issued.status_code == 201:
                self.mail(user["email"], f"{self.address.rstrip('/')}/reset#{issued.json()['token']}")
        return self.page(request, *(("If we know this address, a mail is on its way.",) if done else (LATER, 503)))

    async def reset(self, request: Request) -> Response:
        answer = await self.muster.post("/one-time-tokens/redeem", json=await self._sent(request, "token", "password"))
        if answer.status_code != 200:
            said = answer.json()["errors"][0]["detail"] if answer.status_code == 422 else LATER
            said = "This link is used up or too old." if answer.status_code == 400 else said
            return self.page(request, said, answer.status_code)
        self.sessions = {one: known for one, known in self.sessions.items() if known.user["id"] != answer.json()["id"]}
        done = self.page(request, "Your password has been changed. Sign in with it.")
        done.set_cookie("device", answer.headers["Device-Token"], max_age=YEAR_SECONDS, **COOKIE)
        return done

    def _session(self, request: Request) -> Session | None:
        session = self.sessions.get(request.cookies.get("session", ""))
        return session if session and session.ends > time.monotonic() else None

    def _csrf(self, identifier: str) -> bytes:
        return hmac.digest(self.key, identifier.encode(), "sha256").hex().encode()

    async def _sent(self, request: Request, *names: str) -> dict[str, str | None]:
        """These fields of the form; PermissionError where it is not a form of this browser's."""
        sent = {name: values[0] for name, values in parse_qs((await request.body()).decode(errors="replace")).items()}
        if not hmac.compare_digest(sent.get("csrf", "").encode(), self._csrf(request.cookies.get("session", ""))):
            raise PermissionError
        return {name: sent.get(name, "") for name in names}

    def page(self, request: Request, said: str = "", status: int = 200) -> Response:
        identifier = request.cookies.get("session") or secrets.token_urlsafe()
        csrf, session = self._csrf(identifier).decode(), self._session(request)
        forms = form(csrf, "login", "Sign in", "identifier", "password") + form(csrf, "forgot", "Reset", "email")
        # The form of a reset stays until its link is used up.
        if request.url.path == "/reset" and (request.method, status) not in {("POST", 200), ("POST", 400)}:
            forms = form(csrf, "reset", "Set it", "token", "password") + FILL_IN
        elif session:
            forms = f"<h1>Hello, {escape(session.user['username'])}</h1>" + form(csrf, "logout", "Sign out")
        answer = HTMLResponse(f"<!doctype html><title>Muster</title><p>{escape(said)}</p>{forms}", status, HEADERS)
        if identifier != request.cookies.get("session"):
            answer.set_cookie("session", identifier, **COOKIE)
        return answer


def create_app(pages: LoginPages) -> FastAPI:
    later: Any = dict.fromkeys((httpx.HTTPError, ValueError), lambda request, _: pages.page(request, LATER, 503))
    later[PermissionError] = lambda request, _: pages.page(request, "This form was too old. Please send it again.", 403)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, exception_handlers=later)
    app.add_api_route("/", pages.front)
    app.add_api_route("/reset", pages.front)
    for page in (pages.login, pages.logout, pages.forgot, pages.reset):
        app.add_api_route(f"/{page.__name__}", page, methods=["POST"])
    return app


if __name__ == "__main__":
    bearer, at = {"Authorization": f"Bearer {os.environ['MUSTER_TOKEN']}"}, os.environ.get
    # No proxy sees the token.
    api = httpx.AsyncClient(base_url=at("MUSTER_COMMAND_URL", "http://127.0.0.1:8000"), headers=bearer, trust_env=False)
    query = httpx.AsyncClient(base_url=at("MUSTER_QUERY_URL", "http://127.0.0.1:8001"), headers=bearer, trust_env=False)
    local = LoginPages(api, query, address=at("LOGIN_URL", LoginPages.address))
    uvicorn.run(create_app(local), port=8080)

"""An identity provider in a process of its own: Authlib's, which knows OAuth 2, PKCE and OpenID Connect, with a page.

It is no imitation of what the console expects: what Authlib refuses it refuses. Codes and refresh tokens work once.
Whoever signs in says in the page's form as whom, and what of its answer is to be wrong.
"""

import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl

import httpx
import uvicorn
from authlib.oauth2.rfc6749 import AuthorizationServer, OAuth2Request
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant, RefreshTokenGrant
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oidc.core.grants import OpenIDCode
from joserfc import jwt
from joserfc.jwk import ECKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from local_stack.ports import free_port, listens
from tests.forks import Fork
from tests.waiting import until

CLIENT: Final = "console"
SECRET: Final = "of-the-console"
AUDIENCE: Final = "muster"
#: On a loaded machine.
START_SECONDS: Final = 60


class Client:
    """The console, as the provider knows it."""

    id_token_signed_response_alg = "ES256"

    def __init__(self, redirect: str, secret: str | None) -> None:
        self.redirect, self.secret = redirect, secret

    def get_client_id(self) -> str:
        return CLIENT

    def get_default_redirect_uri(self) -> str:
        return self.redirect

    def get_allowed_scope(self, scope: str) -> str:
        return scope

    def check_redirect_uri(self, uri: str) -> bool:
        return uri == self.redirect

    def check_client_secret(self, secret: str) -> bool:
        return self.secret is not None and secrets.compare_digest(self.secret, secret)

    def check_endpoint_auth_method(self, method: str, _endpoint: str) -> bool:
        return method == ("none" if self.secret is None else "client_secret_basic")

    def check_response_type(self, kind: str) -> bool:
        return kind == "code"

    def check_grant_type(self, kind: str) -> bool:
        return kind in {"authorization_code", "refresh_token"}


@dataclass
class User:
    """Who signed in, and what is to be wrong about it."""

    subject: str
    scopes: str
    lifetime: int
    fault: str


@dataclass
class Granted:
    """A code, or a refresh token."""

    user: User
    scope: str
    redirect: str = ""
    nonce: str | None = None
    code_challenge: str | None = None
    code_challenge_method: str | None = None

    def get_redirect_uri(self) -> str:
        return self.redirect

    def get_scope(self) -> str:
        return self.scope

    def get_nonce(self) -> str | None:
        return "another" if self.user.fault == "nonce" else self.nonce

    def get_auth_time(self) -> None:
        return None

    def get_acr(self) -> None:
        return None

    def get_amr(self) -> None:
        return None

    def check_client(self, _client: Client) -> bool:
        return True


@dataclass
class Memory:
    """What the provider knows."""

    issuer: str
    client: Client
    key: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256", {"kid": "1", "alg": "ES256", "use": "sig"}))
    strange_key: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256"))
    codes: dict[str, Granted] = field(default_factory=dict)
    refresh: dict[str, Granted] = field(default_factory=dict)
    refreshes: int = 0


class Server(AuthorizationServer):  # type: ignore[misc] # untyped
    """Authlib's server beside Starlette."""

    def __init__(self, memory: Memory) -> None:
        super().__init__()
        self.memory = memory
        self.register_token_generator("default", self._make_token)

    def query_client(self, client_id: str) -> Client | None:
        return self.memory.client if client_id == CLIENT else None

    def save_token(self, token: dict[str, Any], request: OAuth2Request) -> None:
        if "refresh_token" in token:
            self.memory.refresh[token["refresh_token"]] = Granted(request.user, token["scope"])

    def create_oauth2_request(self, request: OAuth2Request) -> OAuth2Request:
        return request

    def handle_response(self, status: int, body: Any, headers: list[tuple[str, str]]) -> Response:
        text = json.dumps(body) if isinstance(body, dict) else body
        return Response(text, status, dict(headers))

    def send_signal(self, *_: Any, **__: Any) -> None:
        """Nobody listens."""

    def _make_token(self, *, user: User, scope: str, **_: Any) -> dict[str, Any]:
        now = int(time.time())
        claims = {
            "iss": self.memory.issuer,
            "aud": "another" if user.fault == "audience" else AUDIENCE,
            "sub": user.subject,
            "scope": user.scopes,
            "iat": now,
            "exp": now + user.lifetime,
            "jti": secrets.token_hex(8),
        }
        token = jwt.encode({"alg": "ES256", "typ": "at+jwt", "kid": "1"}, claims, self.memory.key)
        if user.fault == "opaque":
            token = secrets.token_urlsafe(32)
        return {
            "token_type": "Bearer",
            "access_token": token,
            "expires_in": user.lifetime,
            "scope": scope,
            "refresh_token": secrets.token_urlsafe(32),
        }


class Code(AuthorizationCodeGrant):  # type: ignore[misc] # untyped
    """Codes, which work once."""

    TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_basic", "none")

    def save_authorization_code(self, code: str, request: OAuth2Request) -> None:
        asked = request.payload.data
        self.server.memory.codes[code] = Granted(
            request.user,
            request.scope,
            asked["redirect_uri"],
            asked.get("nonce"),
            asked.get("code_challenge"),
            asked.get("code_challenge_method"),
        )

    def query_authorization_code(self, code: str, _client: Client) -> Granted | None:
        return self.server.memory.codes.pop(code, None)  # type: ignore[no-any-return]

    def delete_authorization_code(self, _code: Granted) -> None:
        """It went when it was looked at."""

    def authenticate_user(self, code: Granted) -> User:
        return code.user


class Refresh(RefreshTokenGrant):  # type: ignore[misc] # untyped
    """Refresh tokens, which work once."""

    TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_basic", "none")
    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, token: str) -> Granted | None:
        self.server.memory.refreshes += 1
        return self.server.memory.refresh.pop(token, None)  # type: ignore[no-any-return]

    def authenticate_user(self, granted: Granted) -> User:
        return granted.user

    def revoke_old_credential(self, _granted: Granted) -> None:
        """It went when it was looked at."""


class Identity(OpenIDCode):  # type: ignore[misc] # untyped
    """ID tokens."""

    def __init__(self, memory: Memory) -> None:
        super().__init__(require_nonce=True)
        self.memory = memory
        self.fault = ""

    def exists_nonce(self, _nonce: str, _request: OAuth2Request) -> bool:
        return False

    def generate_user_info(self, user: User, _scope: str) -> dict[str, Any]:
        now = int(time.time())
        wrong: dict[str, dict[str, Any]] = {
            "issuer": {"iss": "https://evil.example"},
            "client": {"aud": "another"},
            "several": {"aud": [CLIENT, "another"]},
            "expired": {"exp": now - 3600, "iat": now - 7200},
        }
        return {"sub": user.subject, **wrong.get(user.fault, {})}

    def get_client_claims(self, client: Client) -> dict[str, Any]:
        return {"iss": self.memory.issuer, "aud": client.get_client_id()}

    def encode_id_token(self, token: dict[str, Any], request: OAuth2Request) -> str:
        self.fault = request.user.fault
        return super().encode_id_token(token, request)  # type: ignore[no-any-return]

    def resolve_client_private_key(self, _client: Client) -> ECKey:
        return self.memory.strange_key if self.fault == "signature" else self.memory.key

    def get_encode_header(self, _client: Client) -> dict[str, Any]:
        return {"alg": "ES256", "kid": "1"}


def _asked(request: Request, given: dict[str, str]) -> OAuth2Request:
    made = OAuth2Request(request.method, str(request.url), headers=dict(request.headers))
    made.headers = {"Authorization": request.headers.get("authorization", "")}
    made.payload = BasicOAuth2Payload(given)
    made._body = given
    return made


def make_app(memory: Memory) -> Starlette:
    server = Server(memory)
    server.register_grant(Code, [CodeChallenge(required=True), Identity(memory)])
    server.register_grant(Refresh)

    async def metadata(_: Request) -> Response:
        return JSONResponse(
            {
                "issuer": memory.issuer,
                "authorization_endpoint": f"{memory.issuer}/authorize",
                "token_endpoint": f"{memory.issuer}/token",
                "jwks_uri": f"{memory.issuer}/keys",
                "end_session_endpoint": f"{memory.issuer}/logout",
                "code_challenge_methods_supported": ["S256"],
            }
        )

    async def keys(_: Request) -> Response:
        return JSONResponse({"keys": [memory.key.as_dict(private=False)]})

    async def page(request: Request) -> Response:
        server.get_consent_grant(_asked(request, dict(request.query_params)), end_user=None)
        return HTMLResponse(
            '<!doctype html><html lang="en"><title>Who are you?</title><form method="post">'
            '<label>Name <input name="subject"></label><button name="decision" value="allow">Go on</button>'
            '<button name="decision" value="deny">No</button></form>'
        )

    async def decide(request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode(), keep_blank_values=True))
        scopes = form.get("scopes", request.query_params.get("scope", ""))
        user = User(form["subject"], scopes, int(form.get("lifetime", "3600")), form.get("fault", ""))
        asked = _asked(request, dict(request.query_params))
        made: Response = server.create_authorization_response(
            asked, user if form.get("decision") != "deny" else None, server.get_authorization_grant(asked)
        )
        return made

    async def token(request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode(), keep_blank_values=True))
        known = memory.refresh.get(form.get("refresh_token", ""))
        if known is not None and known.user.fault == "busy":
            memory.refreshes += 1
            return JSONResponse({"error": "too_many_requests"}, 429)
        made: Response = server.create_token_response(_asked(request, form))
        return made

    async def seen(_: Request) -> Response:
        return JSONResponse({"refreshes": memory.refreshes})

    return Starlette(
        routes=[
            Route("/.well-known/openid-configuration", metadata),
            Route("/keys", keys),
            Route("/authorize", page),
            Route("/authorize", decide, methods=["POST"]),
            Route("/token", token, methods=["POST"]),
            Route("/seen", seen),
        ]
    )


def serve(port: int, redirect: str, secret: str | None) -> None:
    memory = Memory(f"http://127.0.0.1:{port}", Client(redirect, secret))
    uvicorn.run(make_app(memory), host="127.0.0.1", port=port, log_level="warning")


@dataclass
class OidcProvider:
    """The process."""

    port: int
    process: Fork

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def refreshes(self) -> int:
        """How often somebody asked for newer tokens."""
        async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
            return int((await http.get(f"{self.issuer}/seen")).json()["refreshes"])

    async def end(self) -> None:
        """Have it away from now on."""
        self.process.kill()
        await self.process.wait()


async def start_provider(redirect: str, secret: str | None) -> OidcProvider:
    """Start one that knows the console by this address."""
    port = free_port()
    provider = OidcProvider(port, await Fork.start(serve, port, redirect, secret))

    async def answers() -> bool:
        return await listens(port)

    await until(answers, within=START_SECONDS, what="the identity provider answers")
    return provider

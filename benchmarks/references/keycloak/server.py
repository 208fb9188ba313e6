"""Keycloak, an issuer that is not ours: a child process, from Maven's repository, on the local stack's Java runtime.

As a test's issuer it runs in its development mode, with a database in a file; with a database on a PostgreSQL it runs
as in production, but for TLS. The archive is fetched once, and unpacked only with the SHA-256 that is pinned here, into
the cache of Kafka's jars.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

import httpx
import psutil
from jgo.maven import MavenContext, PythonResolver

from local_stack.cache import cache_folder
from local_stack.errors import LocalStackError
from local_stack.kafka.broker import java
from local_stack.kafka.jars import REPOSITORY_VARIABLE, sha256_of
from local_stack.ports import free_port, listens
from local_stack.postgres.server import ServerAddress

VERSION: Final = "26.7.3"
SHA256: Final = "27a6535553c3cdcd083872ba40629efafb3475e3b758e0c6f691395561dd0f1f"
AUDIENCE: Final = "muster"
SCOPES: Final = ("users:read", "users:register")
#: It builds itself at its first start: half a minute on two cores that do nothing else.
START_SECONDS: Final = 400
SCRIPT_SECONDS: Final = 10
#: Of our tokens: longer than all tests together.
LIFESPAN_SECONDS: Final = 3600
REALM: Final = "muster"
DATABASE: Final = "keycloak"
_PASSWORD: Final = "of-the-administrator"  # noqa: S105 - of a server that lasts as long as a test
_SECRET: Final = "of-the-caller"  # noqa: S105 - as above
_CALLER: Final = "caller"


class KeycloakMissingError(LocalStackError):
    """It cannot be had here; the message says why."""


def fetch() -> Path:
    """The folder of the server, which keeps what its first start builds.

    Raises:
        KeycloakMissingError: it could not be fetched, or is not what is pinned.
    """
    home = cache_folder() / f"keycloak-{VERSION}"
    if home.exists():
        return home
    mirror = os.environ.get(REPOSITORY_VARIABLE)
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=home.parent) as staging:
        context = MavenContext(
            resolver=PythonResolver(),
            repo_cache=Path(staging),
            remote_repos={"mirror": mirror.rstrip("/")} if mirror else None,
        )
        project = context.project("org.keycloak", "keycloak-quarkus-dist")
        try:
            arrived = project.at_version(VERSION).artifact("", "zip").resolve()
        except Exception as error:
            raise KeycloakMissingError(f"Maven's repository did not give it: {error}") from error
        if (found := sha256_of(arrived)) != SHA256:
            raise KeycloakMissingError(f"its archive has the SHA-256 {found} and not {SHA256}")
        with zipfile.ZipFile(arrived) as archive:
            archive.extractall(staging)
        (Path(staging) / home.name).replace(home)
    return home


class Keycloak:
    """A running Keycloak with a realm for Muster; `url` is what it calls itself, where the test's door stands.

    `database` is the server of an empty database of the name DATABASE.
    """

    def __init__(self, url: str, folder: Path, database: ServerAddress | None = None) -> None:
        self.port = free_port()
        self.issuer = f"{url}/realms/{REALM}"
        self._log = folder / "keycloak.log"
        home = fetch()
        shutil.rmtree(home / "data", ignore_errors=True)  # what an earlier run left: users and keys
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60, trust_env=False)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own options
                ["/bin/bash", home / "bin" / "kc.sh", *self._options(url, database)],
                env=os.environ | self._environment(database),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _options(self, url: str, database: ServerAddress | None) -> list[str]:
        # Nobody looks at its pages; without them it is built and started sooner.
        pages = ["--cache=local", "--features-disabled=admin,account"]
        http = ["--http-host=127.0.0.1", f"--http-port={self.port}", f"--hostname={url}"]
        if database is None:
            return ["start-dev", *pages, *http]
        where = f"--db-url=jdbc:postgresql://{database.host}:{database.port}/{DATABASE}"
        return ["start", *pages, *http, "--http-enabled=true", "--db=postgres", where]

    def _environment(self, database: ServerAddress | None) -> dict[str, str]:
        login = {"KC_DB_USERNAME": database.user, "KC_DB_PASSWORD": database.password} if database else {}
        return {
            **login,
            "JAVA_HOME": str(java().parents[1]),
            "JAVA_OPTS_KC_HEAP": "-Xms64m -Xmx768m",
            "KC_BOOTSTRAP_ADMIN_USERNAME": "admin",
            "KC_BOOTSTRAP_ADMIN_PASSWORD": _PASSWORD,
        }

    async def answers(self) -> bool:
        """Whether it has started."""
        if self._process.poll() is not None:
            raise KeycloakMissingError(f"it ended: {self._log.read_text(errors='replace')[-2000:]}")
        return await listens(self.port) and self._http.get("/realms/master").status_code == 200

    def set_up(self) -> None:
        """What docs/how-to/connect-an-identity-provider.md has an administrator do."""
        self._ask("POST", "/admin/realms", {"realm": REALM, "enabled": True, "defaultSignatureAlgorithm": "ES256"})
        self._ask("PUT", f"/admin/realms/{REALM}", {"accessTokenLifespan": LIFESPAN_SECONDS})
        for name in SCOPES:
            shown = {"include.in.token.scope": "true"}
            self._ask("POST", "client-scopes", {"name": name, "protocol": "openid-connect", "attributes": shown})
        mapper = {
            "name": "audience",
            "protocol": "openid-connect",
            "protocolMapper": "oidc-audience-mapper",
            "config": {"included.custom.audience": AUDIENCE, "access.token.claim": "true"},
        }
        self._ask(
            "POST", "client-scopes", {"name": AUDIENCE, "protocol": "openid-connect", "protocolMappers": [mapper]}
        )
        for client, scopes in ((_CALLER, ["basic", AUDIENCE]), ("stranger", ["basic"])):
            described = {
                "clientId": client,
                "secret": _SECRET,
                "serviceAccountsEnabled": True,
                "standardFlowEnabled": False,
                "defaultClientScopes": scopes,
                "optionalClientScopes": SCOPES,
            }
            self._ask("POST", "clients", described)

    def administrator(self) -> str:
        """A token of its administrator that lasts as long as ours; and from now on every such token does."""
        self._ask("PUT", "/admin/realms/master", {"accessTokenLifespan": LIFESPAN_SECONDS})
        return self._login()

    def register_console(self, redirect: str, secret: str, scope: str) -> None:
        """What the same page has an administrator do for the console."""
        shown = {"include.in.token.scope": "true"}
        self._ask("POST", "client-scopes", {"name": scope, "protocol": "openid-connect", "attributes": shown})
        described = {
            "clientId": "console",
            "secret": secret,
            "standardFlowEnabled": True,
            "redirectUris": [redirect],
            "attributes": {"pkce.code.challenge.method": "S256"},
            "defaultClientScopes": ["basic", AUDIENCE],
            "optionalClientScopes": [scope],
        }
        self._ask("POST", "clients", described)

    def add_person(self, name: str, password: str) -> None:
        """Somebody who can sign in; Keycloak asks for what a profile lacks."""
        self._ask(
            "POST",
            "users",
            {
                "username": name,
                "email": f"{name}@example.com",
                "emailVerified": True,
                "firstName": name,
                "lastName": name,
                "enabled": True,
                "credentials": [{"type": "password", "value": password, "temporary": False}],
            },
        )

    def token(self, scope: str = "users:read", client: str = _CALLER) -> str:
        """A token that it signs now; a stranger's is for nobody."""
        asked = {"grant_type": "client_credentials", "client_id": client, "client_secret": _SECRET, "scope": scope}
        answer = self._http.post(f"/realms/{REALM}/protocol/openid-connect/token", data=asked)
        answer.raise_for_status()
        token: str = answer.json()["access_token"]
        return token

    def publish_key(self, priority: int, *, signs: bool) -> str:
        """Give it another key, which signs if it has the highest priority of all that do; returns the key's name."""
        realm = self._ask("GET", f"/admin/realms/{REALM}").json()["id"]
        config = {"priority": [str(priority)], "active": [str(signs).lower()], "ecdsaEllipticCurveKey": ["P-256"]}
        made = self._ask(
            "POST",
            "components",
            {
                "name": f"key-{priority}",
                "providerId": "ecdsa-generated",
                "providerType": "org.keycloak.keys.KeyProvider",
                "parentId": realm,
                "config": config,
            },
        )
        return made.headers["Location"].rpartition("/")[2]

    def sign_with(self, key: str) -> None:
        """Have it sign with a key that was published before."""
        described = self._ask("GET", f"components/{key}").json()
        described["config"]["active"] = ["true"]
        self._ask("PUT", f"components/{key}", described)

    def kill(self) -> None:
        """End it as a crash would; harmless to repeat."""
        if self._process.poll() is None:
            # The server first: then the script that waits for it ends too, and what it used counts as ours.
            for server in psutil.Process(self._process.pid).children():
                server.kill()
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(SCRIPT_SECONDS)
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._http.close()

    def _ask(self, method: str, path: str, document: Any = None) -> httpx.Response:
        """Ask as its administrator, whose tokens last a minute; a path without a slash is below the realm's."""
        where = path if path.startswith("/") else f"/admin/realms/{REALM}/{path}"
        answer = self._http.request(method, where, json=document, headers={"Authorization": f"Bearer {self._login()}"})
        answer.raise_for_status()
        return answer

    def _login(self) -> str:
        asked = {"grant_type": "password", "client_id": "admin-cli", "username": "admin", "password": _PASSWORD}
        answer = self._http.post("/realms/master/protocol/openid-connect/token", data=asked)
        token: str = answer.raise_for_status().json()["access_token"]
        return token

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

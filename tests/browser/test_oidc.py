"""Signing in by an identity provider in a real Chromium: under the page's own policy, there and back, and out again."""

import subprocess
from pathlib import Path

from chassis.settings import PostgresAddress
from console.app import create_app
from local_stack.ports import free_port
from tests.browser.office import AXE, Operator
from tests.integration.console.conftest import make_settings
from tests.integration.console.test_oidc import oidc
from tests.integration.query_api.real_server import served
from tests.servers.oidc_provider import SECRET, start_provider


async def test_a_person_signs_in_at_the_provider_is_held_to_their_scopes_and_signs_out(
    browser: "subprocess.Popen[str]", command_database: PostgresAddress, query_database: PostgresAddress, tmp_path: Path
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    provider = await start_provider(f"{url}/sign-in/callback", SECRET)
    try:
        told = oidc(provider, PUBLIC_CONSOLE_URL=url, CONSOLE_OIDC_SCOPES="openid operations:read")
        with served(create_app(make_settings(command_database, query_database, **told)), port=port):
            # What is refused is an error to the browser's console.
            said = await Operator(url, browser).do(
                "sign_in_by_a_provider",
                expected=("status of 403", "status of 503"),
                axe=str(AXE),
                folder=str(tmp_path),
            )
    finally:
        await provider.end()

    assert said["denied"] == "You were not let in"
    assert said["who"] == "olga"
    assert "Users" not in said["pages"]
    assert "It lacks the scope users:read" in said["refused"]
    assert said["out"] == "You are signed out here"
    assert said["way"].startswith(f"{provider.issuer}/logout?client_id=console")
    assert said["wrong"] == []

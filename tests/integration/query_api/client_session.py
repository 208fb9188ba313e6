"""What a program does with generated clients; run by the environment that has them, and nothing of ours (see the test).

    python client_session.py FOLDER_OF_THE_CLIENTS QUERY_URL COMMAND_URL TOKEN

Its one line of output is JSON: the ids in the order of the pages, the first user by id, and the one it registered.
"""

import json
import sys
from importlib import import_module
from typing import Any

LIMIT = 200


def client(package: str, url: str, token: str) -> Any:
    """The generated client; an answer that its document does not declare is an error."""
    return import_module(package).AuthenticatedClient(base_url=url, token=token, raise_on_unexpected_status=True)


def operation(package: str, name: str) -> Any:
    """The generated module of one operation on users."""
    return import_module(f"{package}.api.users.{name}")


def every_user(api: Any) -> list[Any]:
    """All users, page by page."""
    seen: list[Any] = []
    given: dict[str, str] = {}
    while True:
        page = operation("query_client", "list_users").sync(client=api, limit=LIMIT, **given)
        seen += page.data
        if not page.has_more:
            return seen
        given = {"cursor": page.next_cursor}


def main(folder: str, query_url: str, command_url: str, token: str) -> None:
    """Page through everybody, look at the first, and register one more."""
    sys.path.insert(0, folder)
    with client("query_client", query_url, token) as api:
        seen = every_user(api)
        one = operation("query_client", "get_user").sync(seen[0].id, client=api)
    wanted = import_module("command_client.models").RegisterUser(
        email="ann@example.com", username="ann", password="correct horse"
    )
    with client("command_client", command_url, token) as api:
        registered = operation("command_client", "register_user").sync(client=api, body=wanted)
    said = {"seen": [str(user.id) for user in seen], "one": one.to_dict(), "registered": registered.to_dict()}
    sys.stdout.write(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])

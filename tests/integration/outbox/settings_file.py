"""Handing a test's relay settings to another process."""

import json
from pathlib import Path

from pydantic import SecretStr

from outbox.settings import RelaySettings


def write_settings(settings: RelaySettings, path: Path) -> None:
    """Write the settings, password included, for `read_settings` in another process."""
    values = settings.model_dump() | {
        "command_postgres_password": settings.command_postgres_password.get_secret_value()
    }
    path.write_text(json.dumps(values))


def read_settings(path: Path) -> RelaySettings:
    """The settings that `write_settings` wrote."""
    values = json.loads(path.read_text())
    values["command_postgres_password"] = SecretStr(values["command_postgres_password"])
    return RelaySettings.model_construct(**values)

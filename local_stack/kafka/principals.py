"""Who may connect to a local broker: its principals, and their passwords, made once and kept beside the data.

Kafka learns them when the folder is formatted, and never again: so data that was formatted without them cannot be used.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from local_stack.errors import LocalStackError
from local_stack.private_file import read_or_make

#: May do everything: the broker itself, and whoever sets it up.
SUPERUSER: Final = "muster"
MECHANISM: Final = "SCRAM-SHA-512"
PASSWORDS_FILE: Final = "passwords.json"
PASSWORD_BYTES = 32

# Whoever is not a superuser may do what an ACL allows, and nothing else. The controller asks for a password too: it
# takes commands.
SECURE_PROPERTIES: Final = """\
sasl.enabled.mechanisms={mechanism}
sasl.mechanism.inter.broker.protocol={mechanism}
sasl.mechanism.controller.protocol={mechanism}
{logins}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
super.users=User:{user}
"""
PLAIN_CONTROLLERS: Final = """\
listener.name.controller.sasl.enabled.mechanisms=PLAIN
sasl.mechanism.controller.protocol=PLAIN
listener.name.controller.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
username="{user}" password="{password}" user_{user}="{password}";
"""
_LOGINS: Final = (
    'listener.name.{listener}.{mechanism}.sasl.jaas.config={login} username="{user}" password="{password}";'
)
LOGIN: Final = "org.apache.kafka.common.security.scram.ScramLoginModule required"
#: The names of the listeners of a broker on this machine, in lower case.
LISTENERS: Final = ("sasl_plaintext", "controller")


def passwords_of(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Return the password of the superuser and of each of these names; make them where nothing is there yet.

    Raises:
        LocalStackError: the data in the folder was made without one of them.
    """
    wanted = (SUPERUSER, *names)
    file = folder / PASSWORDS_FILE
    if file.exists() or not (folder / "data" / "meta.properties").exists():
        known: dict[str, str] = json.loads(read_or_make(file, lambda: _make(wanted)))
        if known.keys() >= set(wanted):
            return known
    raise LocalStackError(
        f"The Kafka data in {folder} is of an earlier version, whose broker does not ask for the passwords of today: "
        "`muster reset` (or `make reset`) deletes it, and the next start makes a new stack."
    )


def secure_properties(passwords: Mapping[str, str], listeners: Sequence[str] = LISTENERS) -> str:
    """Return the configuration by which every listener of the broker asks for one of the passwords."""
    login = {"login": LOGIN, "user": SUPERUSER, "password": passwords[SUPERUSER]}
    logins = [_LOGINS.format(listener=name, mechanism=MECHANISM.lower(), **login) for name in listeners]
    return SECURE_PROPERTIES.format(mechanism=MECHANISM, user=SUPERUSER, logins="\n".join(logins))


def plain_controllers(passwords: Mapping[str, str]) -> str:
    """Return the configuration by which the voters of a quorum know each other.

    They connect before there is metadata, which would hold a SCRAM password.
    """
    return PLAIN_CONTROLLERS.format(user=SUPERUSER, password=passwords[SUPERUSER])


def client_properties(bootstrap_servers: str, passwords: Mapping[str, str]) -> str:
    """Return the file that Kafka's own tools take to connect as the superuser (`--command-config`)."""
    return (
        f"bootstrap.servers={bootstrap_servers}\n"
        "security.protocol=SASL_PLAINTEXT\n"
        f"sasl.mechanism={MECHANISM}\n"
        f'sasl.jaas.config={LOGIN} username="{SUPERUSER}" password="{passwords[SUPERUSER]}";\n'
    )


def credentials(passwords: Mapping[str, str]) -> list[str]:
    """Return the arguments by which Kafka's formatting tool stores what checks each password."""
    return [
        argument
        for name, password in passwords.items()
        for argument in ("--add-scram", f"{MECHANISM}=[name={name},password={password}]")
    ]


def _make(names: Sequence[str]) -> str:
    # The formatting tool cuts its arguments at commas, which these have not.
    return json.dumps({name: secrets.token_urlsafe(PASSWORD_BYTES) for name in names}, indent=2) + "\n"

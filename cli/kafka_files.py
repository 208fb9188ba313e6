"""What the broker in containers is started with: who may log in, and as what. docker-compose.yml says all else of it.

The image's own formatting knows no logins, so a new volume is formatted with the arguments that are written here. Kafka
learns the passwords then and never again; so nothing but this makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from local_stack.kafka.principals import SUPERUSER, credentials, passwords_of, secure_properties

#: The settings of whoever connects have this password's file in their own folder.
PASSWORD: Final = "KAFKA_SASL_PASSWORD"  # noqa: S105 - a file's name
#: As whom each part logs in.
LOGINS: Final = {
    "migrate": SUPERUSER,
    "operator": SUPERUSER,
    "relay": "relay",
    "projectors": "projectors",
    "event-api": "events",
    # It reads the topic as they do.
    "console": "projectors",
}
PRINCIPALS: Final = ("relay", "projectors", "events")
BROKER_FILE: Final = "server.properties"
FORMAT_FILE: Final = "format.args"
#: Where the broker finds these files.
THERE: Final = "/secrets/kafka"
#: As CLUSTER_ID, which the image's own formatting asks for.
CLUSTER_ID: Final = "bXVzdGVyLWNvbXBvc2UtMQ"

#: Where it listens and keeps its data: formatting needs these as well.
_PROPERTIES: Final = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@localhost:9093
controller.listener.names=CONTROLLER
inter.broker.listener.name=INTERNAL
listeners=INTERNAL://:19092,HOST://:9092,CONTROLLER://localhost:9093
listener.security.protocol.map=INTERNAL:SASL_PLAINTEXT,HOST:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT
log.dirs=/var/lib/kafka/data
"""
_LISTENERS: Final = ("internal", "host", "controller")


def broker_files(folder: Path) -> Mapping[str, str]:
    """Return the text of each file that the broker reads; they hold passwords."""
    passwords = passwords_of(folder, PRINCIPALS)
    main = [
        "kafka.tools.StorageTool",
        "format",
        "--cluster-id",
        CLUSTER_ID,
        "--config",
        f"{THERE}/{BROKER_FILE}",
    ]
    return {
        BROKER_FILE: _PROPERTIES + secure_properties(passwords, _LISTENERS),
        FORMAT_FILE: "\n".join([*main, *credentials(passwords)]) + "\n",
    }


def logins(folder: Path) -> Mapping[str, str]:
    """Return the password of each part that logs in, made once and kept in this folder."""
    passwords = passwords_of(folder, PRINCIPALS)
    return {part: passwords[name] for part, name in LOGINS.items()}

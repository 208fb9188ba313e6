"""Which servers a stack has: one broker or three, and a standby of PostgreSQL or none.

Options choose it, and the stack's folder keeps it for starts without options. Kafka's data fix the number of brokers; a
standby may come and go.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from local_stack.errors import LocalStackError
from local_stack.kafka.broker import KafkaServer
from local_stack.kafka.cluster import KafkaCluster
from local_stack.postgres.server import PostgresServer
from local_stack.postgres.standby import PostgresStandby, remove_copy
from local_stack.private_file import write_private

FILE_NAME: Final = "servers.json"
#: Three have a majority when one of them is away; two have none, and more are no use here.
BROKERS: Final = (1, 3)
#: The standby listens one above its primary, as the second broker does above the first.
LAST_PORT: Final = 65_535
#: The primary keeps so much of its log for a standby that was away.
KEPT_LOG: Final = "256MB"


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What somebody asked for; None means as before."""

    brokers: int | None = None
    standby: bool | None = None
    synchronous: bool | None = None


#: Without options.
AS_BEFORE: Final = ServerOptions()


@dataclass(frozen=True, slots=True)
class ServerSet:
    """What a stack has. If `synchronous`, a commit waits until the standby has it."""

    brokers: int = 1
    standby: bool = False
    synchronous: bool = False

    def kafka_ports(self, first: int) -> list[int]:
        """The brokers' ports, beginning with this one."""
        return [first + above for above in range(self.brokers)]

    def more_ports(self, kafka: int, postgres: int) -> dict[str, int]:
        """The ports beside these two, by the option that moves them.

        Raises:
            LocalStackError: a number is not a port.
        """
        brokers = enumerate(self.kafka_ports(kafka)[1:], start=2)
        more = {f"--kafka-port (broker {number} is above it)": port for number, port in brokers}
        if self.standby:
            more["--postgres-port (the standby is above it)"] = postgres + 1
        for option, port in more.items():
            if port > LAST_PORT:
                raise LocalStackError(f"There is no port {port}: choose a lower one with {option}.")
        return more


#: What a new stack has without options.
ONE_OF_EACH: Final = ServerSet()


def chosen_servers(folder: Path, asked: ServerOptions) -> ServerSet:
    """Return what the stack on the folder is to have: what is asked for now, else what it had.

    Raises:
        LocalStackError: its data, or any stack, cannot be so.
    """
    before = _read(folder / FILE_NAME)
    chosen = replace(before, **{name: value for name, value in asdict(asked).items() if value is not None})
    if chosen.brokers != before.brokers and (folder / "kafka" / "data" / "meta.properties").exists():
        raise LocalStackError(
            f"The stack in {folder} was made with {_counted(before.brokers)}, and its topics stay as they are: leave "
            f"--brokers out; or start another with --folder and ports of its own; or delete this one's data with "
            f"`muster reset`, and start anew with --brokers {chosen.brokers}."
        )
    if asked.synchronous and not chosen.standby:
        raise LocalStackError("--synchronous makes commits wait for a standby, and there is none: add --standby.")
    return replace(chosen, synchronous=chosen.synchronous and chosen.standby)


class Servers:
    """The servers of one stack; nothing is started here."""

    def __init__(  # noqa: PLR0913 - each is a property of the servers
        self,
        folder: Path,
        chosen: ServerSet,
        *,
        postgres_port: int,
        kafka_port: int,
        logs: Path,
        principals: Sequence[str],
    ) -> None:
        self._folder = folder
        self.chosen = chosen
        log = {"wal_keep_size": KEPT_LOG} if chosen.standby else {}
        # Without a standby nobody waits for one, whatever an earlier start set.
        alone = {} if chosen.synchronous else {"synchronous_standby_names": ""}
        self.postgres = PostgresServer(
            folder / "postgres", postgres_port, log=logs / "postgres.log", settings=log | alone
        )
        self.standby = (
            PostgresStandby(
                folder / "postgres-standby",
                self.postgres,
                postgres_port + 1,
                log=logs / "postgres-standby.log",
                # Otherwise the primary's clean-up cancels reads; a primary that was restarted waits five seconds for
                # its standby, and so do commits; and once promoted it is alone.
                settings={
                    "hot_standby_feedback": "on",
                    "wal_retrieve_retry_interval": "200ms",
                    "synchronous_standby_names": "",
                },
            )
            if chosen.standby
            else None
        )
        self.kafka: KafkaServer | KafkaCluster = (
            KafkaServer(folder / "kafka", kafka_port, log=logs / "kafka.log", principals=principals)
            if chosen.brokers == 1
            else KafkaCluster(folder, chosen.kafka_ports(kafka_port), logs=logs, principals=principals)
        )

    @property
    def databases(self) -> list[PostgresServer]:
        """The primary, and its standby where there is one."""
        return [self.postgres, *([self.standby] if self.standby else [])]

    @property
    def brokers(self) -> Sequence[KafkaServer]:
        """The brokers."""
        return self.kafka.brokers

    def remember(self) -> None:
        """Keep what was chosen, and remove the copy of a standby that was given up.

        Raises:
            LocalStackError: that standby was promoted.
        """
        if self.standby is None:
            remove_copy(self._folder / "postgres-standby")
        write_private(self._folder / FILE_NAME, json.dumps(asdict(self.chosen)) + "\n")


def _read(file: Path) -> ServerSet:
    try:
        kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return ServerSet(**kept)
    except FileNotFoundError:  # a first start, or the data of a version that knew nothing else
        return ONE_OF_EACH
    except (ValueError, TypeError) as error:
        raise LocalStackError(
            f"{file} cannot be read, which says how many servers the stack has: put it back, or delete the stack's "
            "data with `muster reset`."
        ) from error


def _counted(brokers: int) -> str:
    return "1 broker" if brokers == 1 else f"{brokers} brokers"

"""Several brokers in one cluster: each votes in the quorum of its metadata, and has a copy of everything.

For three: a record is acknowledged once two have it (`TOPIC_MIN_INSYNC_REPLICAS=2`), so any one may end, or freeze.
They are for trying that; on one machine a cluster is no safer than a broker.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from local_stack.kafka.broker import KafkaServer, cluster_id
from local_stack.kafka.principals import SUPERUSER, passwords_of, plain_controllers, secure_properties
from local_stack.ports import LOCALHOST, free_ports

#: A tail of one record and the metadata take 100 MB; three of these are to fit where one does.
HEAP: Final = "-Xmx256m"


@dataclass(frozen=True, slots=True)
class Quorum:
    """What every broker of a cluster is told."""

    cluster: str
    ports: tuple[int, ...]
    controller_ports: tuple[int, ...]
    #: The first broker's folder, which has the passwords of all.
    folder: Path

    @property
    def bootstrap_servers(self) -> str:
        """Where clients connect: to any of them."""
        return ",".join(f"{LOCALHOST}:{port}" for port in self.ports)

    def settings(self, node: int) -> dict[str, str]:
        """The lines in which this broker differs from a single one."""
        count = len(self.ports)
        voters = (f"{voter}@{LOCALHOST}:{port}" for voter, port in enumerate(self.controller_ports, start=1))
        return {
            "node.id": str(node),
            "controller.quorum.voters": ",".join(voters),
            **{
                f"{topic}.replication.factor": str(count)
                for topic in ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic")
            },
            "transaction.state.log.min.isr": str(count // 2 + 1),
            # Brokers talk by a network, if only this machine's, so a stall is no death.
            "broker.session.timeout.ms": "6000",
        }


class ClusterBroker(KafkaServer):
    """One broker of the cluster. It is ready once a majority runs, so start them together."""

    def __init__(
        self, folder: Path, node: int, quorum: Quorum, *, log: Path | None = None, principals: Sequence[str] = ()
    ) -> None:
        super().__init__(
            folder,
            quorum.ports[node - 1],
            log=log,
            learn=False,
            settings=quorum.settings(node),
            principals=principals,
        )
        self.name = _name(node)
        self.node = node
        self._quorum = quorum

    @property
    def client_servers(self) -> str:
        """Where clients connect: to any of the cluster."""
        return self._quorum.bootstrap_servers

    def command(self) -> list[str]:
        """Return the JVM with a smaller heap: of two options the later counts."""
        program, *options = super().command()
        return [program, *options[:-2], HEAP, *options[-2:]]

    @property
    def _passwords(self) -> dict[str, str]:
        return passwords_of(self._quorum.folder, self._principals) if self._principals else {}

    def _secure_properties(self, passwords: Mapping[str, str]) -> str:
        return secure_properties(passwords) + plain_controllers(passwords)

    def _cluster_id(self) -> str:
        return self._quorum.cluster

    def _controller_port(self) -> int:
        """The port at which the others vote."""
        return self._quorum.controller_ports[self.node - 1]

    async def _fence_former_self(self) -> None:
        """Do nothing: the quorum's leader fences it, and it comes back as a follower that leads nothing.

        A lone controller, which fences a single broker, would wait in vain for the other voters.
        """


class KafkaCluster:
    """A broker for each of these ports, in folders below one: `kafka`, `kafka-2` and so on.

    `principals` mean what they mean to a single broker.
    """

    learning = False  # none of them writes a start-up cache

    def __init__(
        self, folder: Path, ports: Sequence[int], *, logs: Path | None = None, principals: Sequence[str] = ()
    ) -> None:
        folders = [folder / _name(node) for node in range(1, len(ports) + 1)]
        cluster = next(filter(None, map(_cluster_of, folders)), None) or cluster_id()
        quorum = Quorum(cluster, tuple(ports), tuple(free_ports(len(ports))), folders[0])
        self.brokers: Sequence[ClusterBroker] = [
            ClusterBroker(below, node, quorum, log=logs and logs / f"{_name(node)}.log", principals=principals)
            for node, below in enumerate(folders, start=1)
        ]

    @property
    def bootstrap_servers(self) -> str:
        """Where clients connect: to any of them."""
        return self.brokers[0].client_servers

    def client_settings(self, principal: str = SUPERUSER) -> dict[str, str]:
        """As a broker's, for all of them."""
        return self.brokers[0].client_settings(principal)

    def client_properties(self) -> str:
        """As a broker's, for all of them."""
        return self.brokers[0].client_properties()

    def broker(self, node: int) -> ClusterBroker:
        """Return the broker with this id."""
        return self.brokers[node - 1]

    async def __aenter__(self) -> Self:
        """Start them at the same time, since each waits for a majority."""
        try:
            await asyncio.gather(*(broker.start() for broker in self.brokers))
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        """End all at once: an orderly stop hands over first, and the last broker has nobody to hand over to."""
        await asyncio.gather(*(broker.kill() for broker in self.brokers))


def _name(node: int) -> str:
    """The name of a broker and its folder; the first has the name of a single broker."""
    return "kafka" if node == 1 else f"kafka-{node}"


def _cluster_of(folder: Path) -> str | None:
    """The id of the cluster that a broker's folder was formatted for; None: not yet."""
    try:
        lines = (folder / "data" / "meta.properties").read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return None
    return next((line.partition("=")[2] for line in lines if line.startswith("cluster.id=")), None)

"""Several brokers that are one cluster: each votes in its metadata's quorum, and has a copy of everything.

For three: a record is acknowledged once two have it (`TOPIC_MIN_INSYNC_REPLICAS=2`), so any one may end, or freeze.
They are for tests of that; on one machine a cluster is no safer than a broker.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from local_stack.kafka.broker import KafkaServer, cluster_id
from local_stack.ports import LOCALHOST, free_ports

#: A tail of one record and the metadata take 100 MB; three of these are to fit where one does.
HEAP: Final = "-Xmx256m"


@dataclass(frozen=True, slots=True)
class Quorum:
    """What all brokers of a cluster are told alike."""

    cluster: str
    controller_ports: tuple[int, ...]

    def settings(self, number: int) -> dict[str, str]:
        """The lines in which broker `number` of them differs from a single one."""
        count = len(self.controller_ports)
        voters = (f"{node}@{LOCALHOST}:{port}" for node, port in enumerate(self.controller_ports, start=1))
        return {
            "node.id": str(number),
            "controller.quorum.voters": ",".join(voters),
            **{
                f"{topic}.replication.factor": str(count)
                for topic in ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic")
            },
            "transaction.state.log.min.isr": str(count // 2 + 1),
            # Between brokers there is a network after all, if only this machine's: a stall is no death.
            "broker.session.timeout.ms": "6000",
        }


class ClusterBroker(KafkaServer):
    """One of them. It is ready once a majority runs, so they are started together."""

    def __init__(self, folder: Path, number: int, quorum: Quorum) -> None:
        super().__init__(folder, learn=False, settings=quorum.settings(number))
        self._quorum = quorum
        self._number = number

    def command(self) -> list[str]:
        """Return the JVM with a smaller heap: of two options the later counts."""
        program, *options = super().command()
        return [program, *options[:-2], HEAP, *options[-2:]]

    def _cluster_id(self) -> str:
        return self._quorum.cluster

    def _controller_port(self) -> int:
        """The one that the others vote at."""
        return self._quorum.controller_ports[self._number - 1]

    async def _fence_former_self(self) -> None:
        """Nothing: the quorum's leader fences it, and it comes back as a follower, to whom nothing is led.

        A controller alone, which a single broker is fenced by, would wait in vain for the other voters.
        """


class KafkaCluster:
    """So many brokers, in folders below one."""

    def __init__(self, folder: Path, brokers: int) -> None:
        quorum = Quorum(cluster_id(), tuple(free_ports(brokers)))
        self.brokers: Sequence[ClusterBroker] = [
            ClusterBroker(folder / f"broker-{number}", number, quorum) for number in range(1, brokers + 1)
        ]

    @property
    def bootstrap_servers(self) -> str:
        """Where clients connect: to any of them."""
        return ",".join(broker.bootstrap_servers for broker in self.brokers)

    def broker(self, node: int) -> ClusterBroker:
        """The one with this id."""
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
        """At once: a broker that stops in order hands over first, and the last one has nobody to hand over to."""
        await asyncio.gather(*(broker.kill() for broker in self.brokers))

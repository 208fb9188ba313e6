"""After `kill -9` of the broker: has the controller fence the killed broker before it is started again.

Otherwise the broker comes back as leader of everything it led. Then its old session runs out (3 s) and it is fenced,
and then it leads again. While it leads nothing, Kafka 4.3.1 takes partitions for deleted whose transaction markers are
still to be written (KAFKA-20734, a regression, open upstream). It completes those transactions without markers, and no
`read_committed` consumer ever gets past their events. Of six restarts, each after a kill at the moment when 24
transactions had committed, one lost a marker in this way. With this step none does, and no restart waits for the
session.

The controller alone is started on the same data, with a session of 100 ms. It fences the broker at once and is stopped.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from local_stack.ports import LOCALHOST
from local_stack.processes.child import Child

CONTROLLER_PROPERTIES: Final = """\
process.roles=controller
node.id=1
controller.quorum.voters=1@{host}:{port}
listeners=CONTROLLER://{host}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT
log.dirs=data
broker.heartbeat.interval.ms=50
broker.session.timeout.ms=100
# It takes commands from nobody while it runs, nor does it need any.
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
"""

# The broker writes this file last in an orderly end, and removes it when it starts.
CLEAN_END_FILE: Final = ".kafka_cleanshutdown"

# What the controller logs when it becomes active and when it fences. Lines before its activation only replay history.
LOGGER: Final = "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.controller.ClusterControlManager=info"
ACTIVATED: Final = "Performing controller activation"
FENCED: Final = "fenced=1"

# A broker that was killed while it started is fenced already and not fenced again. So after this long without a line
# the step is done; ten times the session, so that a loaded machine is not mistaken for that case.
NO_FENCING_SECONDS: Final = 1.0

# Enough lines to hold the few that follow the activation.
LINES_READ = 200


def ended_in_order(data: Path) -> bool:
    """Tell whether the broker that last ran on this data ended by itself, or none ever ran."""
    return (data / CLEAN_END_FILE).exists() or not (data / "__cluster_metadata-0").exists()


class Fencing(Child):
    """A controller without its broker; ready once it has fenced the broker that was killed."""

    def __init__(self, folder: Path, command: list[str], environment: Mapping[str, str], port: int) -> None:
        super().__init__("kafka's recovery", folder / "recovery.log")
        self._folder = folder
        self._command = command
        self._environment = environment
        self._port = port
        self._active_since: float | None = None

    async def prepare(self) -> None:
        """Write its configuration beside the broker's."""
        text = CONTROLLER_PROPERTIES.format(host=LOCALHOST, port=self._port)
        (self._folder / "recovery.properties").write_text(text, encoding="ascii")

    def command(self) -> list[str]:
        """Return the JVM it was given, with the recovery's configuration."""
        return [*self._command, LOGGER, "kafka.Kafka", "recovery.properties"]

    def environment(self) -> Mapping[str, str]:
        """Return the environment it was given."""
        return self._environment

    def working_folder(self) -> Path:
        """Return the broker's folder."""
        return self._folder

    async def is_ready(self) -> bool:
        """Tell whether the broker is fenced."""
        news = self._since_activation()
        if news is None:
            return False
        now = asyncio.get_running_loop().time()
        self._active_since = self._active_since or now
        return any(FENCED in line for line in news) or now - self._active_since > NO_FENCING_SECONDS

    def _since_activation(self) -> list[str] | None:
        lines = self.last_lines(LINES_READ)
        for index, line in enumerate(lines):
            if ACTIVATED in line:
                return lines[index:]
        return None

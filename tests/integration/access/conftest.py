"""What the tests of access use of the two APIs' own."""

from tests.integration.command_api.conftest import ann, database, logs
from tests.integration.query_api.conftest import read_side

__all__ = ["ann", "database", "logs", "read_side"]

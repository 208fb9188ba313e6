"""The references of the commands' benchmark run the statement that Muster runs, whatever columns it gets."""

import re

from benchmarks.commands import run
from command_api.users import statements


def test_the_driver_alone_gives_each_value_of_a_registration() -> None:
    assert set(run._values()) == set(statements.REGISTER.names)


def test_pgbench_makes_each_value_of_a_registration() -> None:
    script = run._as_script(statements.REGISTER.sql)
    assert not re.search(r"\$\d", script)
    assert "INSERT INTO outbox" in script

"""What Prometheus itself says of the alerts: `make test-deploy`."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.unit.deploy.files import DEPLOY

PROMTOOL = Path(os.environ["DEPLOY_TOOLS"]) / "promtool"


@pytest.mark.parametrize("arguments", [("check", "rules", "alerts.yaml"), ("test", "rules", "alerts.test.yaml")])
def test_promtool_finds_nothing_wrong(arguments: tuple[str, ...]) -> None:
    answer = subprocess.run(
        [PROMTOOL, *arguments], cwd=DEPLOY / "prometheus", capture_output=True, text=True, check=False
    )

    assert answer.returncode == 0, answer.stdout + answer.stderr

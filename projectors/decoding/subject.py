"""A kind of subject, as far as a consumer has to know it; each projection names its own.

A consumer knows only what the events of every kind of subject have: the public document after the change, under the
subject's noun, and the old values of what changed, as `previous`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from pydantic import BaseModel

from chassis.settings import Topics
from events.catalogue import Catalogue


@dataclass(frozen=True, slots=True)
class Subject:
    """Its events, and which setting names their topic."""

    catalogue: Catalogue[Any, Any]
    topic: Callable[[Topics], str]
    #: The type of the events that say the present state once more, whatever was before; None where there are none.
    snapshot: str | None = None

    @property
    def noun(self) -> str:
        """The member of an event's data that holds the public document."""
        return self.catalogue.subject

    @property
    def document(self) -> type[BaseModel]:
        """The class of the public document; it has an `id` and a `version`."""
        models: set[Any] = {each.model_fields[self.noun].annotation for each in self.catalogue.classes.values()}
        [model] = models
        return cast("type[BaseModel]", model)

"""The file that describes the public status page: its title and its components.

    title: Example AI status
    components:
      - name: Chat API
        about: Answers of all chat models        # optional
        scope: {model: [example-large, example-small]}
      - name: Europe
        scope: {region: [eu-west-1]}

The page shows only what this file names. Any mistake is a ConfigError.
"""

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from slo.policy.scope import ScopeFilter
from slo.policy.units import Percent, Text
from streams.config.validation import shown, validated
from streams.config.yaml_file import parse_document, read_text
from streams.errors import ConfigError
from streams.state.measures import SERIES_DIMENSIONS

COMPONENTS_MAX = 50


class _Part(BaseModel):
    """A part of the file; an unknown key is an error, as it is nearly always a typing error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _series_scope(scope: ScopeFilter) -> ScopeFilter:
    if "customer" in scope.dimensions():
        raise ValueError("a public page names no customer; scope by model, region or channel")
    return scope


class Component(_Part):
    """One line of the page: a name that readers know, and the requests that it stands for."""

    name: Text
    about: Text | None = None
    scope: Annotated[ScopeFilter, AfterValidator(_series_scope)] = ScopeFilter()

    @property
    def slug(self) -> str:
        """The name in lower case, with hyphens: the component's id in addresses and JSON."""
        # A name of other scripts alone leaves no letter.
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-") or "component"

    def selects(self, series: Sequence[str]) -> bool:
        """Return whether requests of a series, (model, region, channel, tier), belong to it."""
        values: Mapping[str, str] = dict(zip(SERIES_DIMENSIONS, series, strict=False))
        return all(values[dimension] in names for dimension, names in self.scope.names().items())


class StatusPage(_Part):
    """The whole file."""

    title: Text
    url: Text | None = None  # where readers find the page; for the feed's links
    components: tuple[Component, ...] = Field(min_length=1, max_length=COMPONENTS_MAX)
    show_uptime: bool = False  # whether the page prints percentages beside the bars
    # A day's availability below these colours its bar.
    degraded_below: Percent = Fraction(99, 100)
    outage_below: Percent = Fraction(95, 100)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.outage_below > self.degraded_below:
            raise ValueError("outage_below is above degraded_below; swap or correct them")
        # Stored incidents name components by slug.
        slugs = [component.slug for component in self.components]
        for slug in slugs:
            if slugs.count(slug) > 1:
                raise ValueError(f"two components are called {slug!r}; rename one")
        return self

    def component(self, name: str) -> Component | None:
        """Return the component with a name or slug; None if there is none."""
        matches = (part for part in self.components if name in (part.name, part.slug))
        return next(matches, None)


def load_status_page(path: Path) -> StatusPage:
    """Read the file. Raises ConfigError, one line a mistake."""
    text = read_text(path, f"exporter.status_page: {path}", fix="give a YAML file")
    document = parse_document(text, str(path), exact=True)
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: got {shown(document)}; write `title` and `components`")
    unknown_key = "no such key here; docs/status.md lists them all"
    return validated(StatusPage, document, str(path), unknown_key)

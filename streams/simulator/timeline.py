"""Timelines: lists of scenarios with their times.

Pure: no clock, no Kafka; only `load_timeline` reads a file. Scenarios are applied in the order of
the list; docs/simulator.md describes each kind.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as replaced
from datetime import timedelta
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from streams.config.validation import Location, findings
from streams.config.yaml_file import parse_document, read_text
from streams.simulator.scenarios import EPOCH, KINDS, Scenario, TimelineError, Where


@dataclass(frozen=True, slots=True)
class Timeline:
    """Scenarios in the order in which they are applied. `source`: the file, for error messages."""

    scenarios: tuple[Scenario, ...] = ()
    source: str = "timeline"

    def beginning_at(self, beginning_ms: int) -> "Timeline":
        """Return a copy with every relative start counted from `beginning_ms` (epoch ms)."""
        beginning = EPOCH + timedelta(milliseconds=beginning_ms)
        return replaced(
            self,
            scenarios=tuple(
                scenario.model_copy(update={"start": beginning + scenario.start})
                if isinstance(scenario.start, timedelta)
                else scenario
                for scenario in self.scenarios
            ),
        )

    def with_scenario(
        self,
        kind: str,
        start_ms: int,
        duration_s: float,
        where: Mapping[str, str] | None = None,
        **parameters: Any,
    ) -> "Timeline":
        """Return a copy with one more scenario, from `start_ms` (epoch ms) for `duration_s`.

        Raises TimelineError as `load_timeline` does.
        """
        entry = {
            "kind": kind,
            "start": EPOCH + timedelta(milliseconds=start_ms),
            "duration": duration_s,
            "where": dict(where or {}),
            **parameters,
        }
        return self.with_entry(entry)

    def with_entry(self, entry: object) -> "Timeline":
        """Return a copy with one more scenario, written as in a file. Raises TimelineError."""
        scenario = _scenario(entry, self.source, f"scenarios[{len(self.scenarios)}]")
        return replaced(self, scenarios=(*self.scenarios, scenario))

    def limited(self, place: int, start_ms: int, end_ms: int) -> "Timeline":
        """Return a copy in which the scenario at `place` is limited to [start_ms, end_ms).

        It keeps its place even if no time is left, as later ones draw random numbers by place.
        """
        scenario = self.scenarios[place]
        start_ms = max(start_ms, scenario.start_ms)
        # A scenario without time left has length 0.
        left_ms = max(0, min(end_ms, scenario.end_ms) - start_ms)
        update = {
            "start": EPOCH + timedelta(milliseconds=start_ms),
            "duration": timedelta(milliseconds=left_ms),
        }
        scenarios = list(self.scenarios)
        scenarios[place] = scenario.model_copy(update=update)
        return replaced(self, scenarios=tuple(scenarios))

    def check_names(self, names: Mapping[str, Sequence[str]]) -> None:
        """Raise TimelineError if a filter has a name that is not in `names` (by field)."""
        problems = []
        for index, scenario in enumerate(self.scenarios):
            for field, name in scenario.where.model_dump(exclude_none=True).items():
                known = names[field]
                if name not in known:
                    # Of a long list, such as the customers, the first and the last name do.
                    shown = ", ".join(known) if len(known) < 12 else f"{known[0]} to {known[-1]}"
                    problems.append(
                        f"{self.source}: scenarios[{index}].where.{field}: got {name!r}, which "
                        f"this traffic does not have; use {shown}"
                    )
        if problems:
            raise TimelineError("\n".join(problems))


def shipped_timelines() -> list[str]:
    """Return the names that `load_timeline` accepts besides paths."""
    folder = resources.files("streams.simulator") / "scenarios"
    return sorted(
        entry.name.removesuffix(".yaml")
        for entry in folder.iterdir()
        if entry.name.endswith(".yaml")
    )


def load_timeline(path_or_name: str | Path) -> Timeline:
    """Read a timeline from a YAML file, or a shipped one by its name.

    Raises TimelineError, one line per finding: `file: key: found; fix`.
    """
    source = str(path_or_name)
    if source in shipped_timelines():
        text = (resources.files("streams.simulator") / "scenarios" / f"{source}.yaml").read_text()
    else:
        text = read_text(
            Path(source),
            fix="give the path of a YAML file, or one of the shipped timelines: "
            + ", ".join(shipped_timelines()),
            error=TimelineError,
        )
    document = parse_document(text, source, error=TimelineError)
    entries = document.get("scenarios") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise TimelineError(f"{source}: scenarios: got no list; start the file with `scenarios:`")
    # A key of YAML may be a number; texts can be sorted.
    if extra := sorted(str(key) for key in document if key not in ("scenarios", "description")):
        raise TimelineError(f"{source}: {extra[0]}: no such key; use description and scenarios")
    scenarios, problems = [], []
    # All entries are read before failing, so that one run shows all problems.
    for index, entry in enumerate(entries):
        try:
            scenarios.append(_scenario(entry, source, f"scenarios[{index}]"))
        except TimelineError as error:
            problems.append(str(error))
    if problems:
        raise TimelineError("\n".join(problems))
    return Timeline(tuple(scenarios), source)


def _scenario(entry: object, source: str, within: str) -> Scenario:
    """Return a scenario from its YAML mapping, which stands at `within` in `source`."""
    at = f"{source}: {within}"
    if not isinstance(entry, dict):
        raise TimelineError(f"{at}: got {entry!r}; write keys, e.g. kind: outage")
    kind = entry.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise TimelineError(f"{at}.kind: got {kind!r}; use one of {', '.join(KINDS)}")

    def unknown_key(location: Location) -> str:
        known = Where.model_fields if location[0] == "where" else KINDS[kind].model_fields
        return f"no such key; use one of {', '.join(known)}"

    try:
        return KINDS[kind].model_validate(entry)
    except ValidationError as error:
        raise TimelineError(
            "\n".join(findings(error.errors(), source, unknown_key, entry, within))
        ) from error

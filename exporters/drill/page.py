"""The page of one place as HTML: its present state, charts, and a table beside each chart.

Pure. The charts are drawn by drill.js from the tables, so a page without a script shows the same
values. All text goes through Jinja's escaping.
"""

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from jinja2 import Environment

from exporters import formatting as fmt
from exporters.board.alerts import CLIENT_ERRORS, OUTAGE, RATE_LIMITED
from exporters.board.facts import (
    BreakdownRow,
    Incident,
    LiveFacts,
    LiveState,
    ObjectiveRow,
    PastIncident,
    Severity,
    names_by_dimension,
)
from exporters.board.incidents.notifications import (
    notification_tone,
    notification_words,
    past_notification,
)
from exporters.board.live.banner import with_incident_states
from exporters.board.live.page import TEMPLATE_GLOBALS, KeyedIncident, with_keys
from exporters.drill.affected import Parts
from exporters.drill.current import CustomerList
from exporters.drill.heatmap import heatmaps
from exporters.drill.place import Chart, Place, PlaceHistory, Step
from exporters.drill.ranges import DEFAULT_RANGE, RANGES
from exporters.drill.runbooks import INDEX, runbook_html
from exporters.drill.slowest import SlowRequest
from exporters.place_links import DIMENSION_OF, OTHERS, place_address
from exporters.static_files import static_files
from exporters.templates import templates
from streams.events.fields import OTHER

KIND_WORDS: Mapping[str, str] = {
    "model": "Model",
    "region": "Region",
    "channel": "Channel",
    "tier": "Service tier",
    "customer": "Customer",
}
# Steps of the command, and the age in seconds up to which the state has them for certain.
_REPORT_STEPS = ((10, "10s", 800.0), (60, "1m", 10_000.0), (600, "10m", float("inf")))
_SILENCED_BY_PLACE = {OUTAGE, RATE_LIMITED, CLIENT_ERRORS}
_KIND_OF = {dimension: kind for kind, dimension in DIMENSION_OF.items()}
NEAR_MAX = 5


@dataclass(frozen=True, slots=True)
class PlaceView:
    """All that the page of a place shows."""

    place: Place
    title: str  # the place's name, of a customer that of the directory
    live: LiveState
    now: BreakdownRow | None  # None without requests in the board's window
    history: PlaceHistory | None  # None before the first reading
    charts: Sequence[Chart]
    parts: Sequence[Parts] = ()
    name_of: Callable[[str], str] = str  # token of a customer -> its name
    slowest: Sequence[SlowRequest] = ()

    @property
    def facts(self) -> LiveFacts | None:
        """Return the facts of the live board with only the incidents that are about this place."""
        facts = self.live.facts
        if facts is None:
            return None
        here = set(self.place.where)
        return replace(
            facts,
            incidents=tuple(one for one in facts.incidents if here & set(one.where)),
            past_incidents=tuple(one for one in facts.past_incidents if here & set(one.where)),
        )

    @property
    def incidents(self) -> list[KeyedIncident]:
        """Return the incidents of the live board that are about this place."""
        facts = self.facts
        return with_keys(facts.incidents if facts else ())

    @property
    def row(self) -> BreakdownRow | None:
        """Return the place as the live board lists it, not greener than its incidents."""
        facts = self.live.facts
        if self.now is None or facts is None:
            return self.now
        (row,) = with_incident_states((self.now,), self.place.dimension, facts.incidents)
        return row

    @property
    def objectives(self) -> list[ObjectiveRow]:
        """Return the objectives that this place is in: its own, then those of the fleet."""
        facts = self.live.facts
        named = _naming(self.title)
        rows = facts.objectives if facts else ()
        # By the shown name, as the row has no other: its scope is in words.
        own = [row for row in rows if named.search(row.scope)]
        return own + [row for row in rows if row.scope == "fleet"]


@dataclass(frozen=True, slots=True)
class IncidentView:
    """All that the page of an incident shows."""

    incident: Incident | PastIncident
    live: LiveState
    made_at_s: float
    history: PlaceHistory | None  # None before the first reading
    charts: Sequence[Chart]
    name_of: Callable[[str], str] = str  # token of a customer -> its name
    parts: Sequence[Parts] = ()

    @property
    def start_s(self) -> float:
        incident = self.incident
        if isinstance(incident, PastIncident):
            return incident.start_s
        return self.made_at_s if incident.since_s is None else incident.since_s

    @property
    def end_s(self) -> float | None:
        """Return when it ended; None while it lasts."""
        return self.incident.end_s if isinstance(self.incident, PastIncident) else None

    @property
    def tone(self) -> Severity:
        """Return the severity that `notified` is shown with."""
        if isinstance(self.incident, PastIncident):
            return "info" if self.incident.firing_since_s is None else self.incident.severity
        return notification_tone(self.incident)

    @property
    def report_command(self) -> str:
        """Return the command that prints the numbers of its time, by its kind of place."""
        known = [dimension for dimension, _ in self.incident.where if dimension in _KIND_OF]
        by = ",".join(dict.fromkeys(known)) or "model,region"
        age_s = self.made_at_s - self.start_s
        step_s, step = next((s, words) for s, words, kept_s in _REPORT_STEPS if age_s < kept_s)
        begin = fmt.rfc3339(self.start_s - self.start_s % step_s)
        until = ""
        if self.end_s is not None:
            until = f" --to {fmt.rfc3339(self.end_s - self.end_s % step_s + step_s)}"
        return f"tokenpulse report --from {begin}{until} --step {step} --by {by}"

    @property
    def silence_command(self) -> str | None:
        """Return the command that silences its alert in its place; None if that needs more labels.

        Alerts about objectives have them, and labels of customers may be names.
        """
        incident = self.incident
        if incident.alert not in _SILENCED_BY_PLACE or self.end_s is not None:
            return None
        names = names_by_dimension(incident.where)
        if not names or any(len(each) > 1 for each in names.values()):
            return None
        if not names.keys() <= {"model", "region"}:
            return None
        # Senders choose the names, and the command is copied into a shell.
        matchers = " ".join(shlex.quote(_matcher(*place)) for place in incident.where)
        comment = "--comment='why, and who works on it'"
        return f"amtool silence add --duration=1h {comment} alertname={incident.alert} {matchers}"

    @property
    def notified(self) -> str:
        """Return whether a person is or was notified, in words."""
        if isinstance(self.incident, PastIncident):
            return past_notification(self.incident)
        return notification_words(self.incident, self.made_at_s)

    @property
    def places(self) -> list[tuple[str, str, str]]:
        """Return the words, the shown name and the address of each place with a page."""
        return [
            (KIND_WORDS[kind], self._display_name(dimension, name), place_address(kind, name))
            for dimension, name in self.incident.where
            if (kind := _KIND_OF.get(dimension))
        ]

    def _display_name(self, dimension: str, name: str) -> str:
        return self.name_of(name) if dimension == "customer" else shown_name(name)


def place_page(view: PlaceView, range_name: str, base: str) -> str:
    """Return the page. `base`: path from the page to the root of the exporter, such as `../`."""
    return _ENVIRONMENT.get_template("place.html").render(
        view=view,
        kind=KIND_WORDS[view.place.kind],
        range_name=range_name,
        base=base,
        aged=False,
        runbooks_url=_runbooks_url(view.live),
        assets=_addresses(base),
        address=base + place_address(view.place.kind, view.place.name),
    )


def customers_page(
    found: CustomerList | None, live: LiveState, name_of: Callable[[str], str]
) -> str:
    """Return the page that lists the customers of the board's window; it is at `/customers`."""
    return _ENVIRONMENT.get_template("customers.html").render(
        customers=found or CustomerList(0, ()),
        facts=live.facts,
        problem=live.problem,
        customer_name=lambda token: OTHERS if token == OTHER else name_of(token),
        aged=False,
        base="",
        assets=_addresses(""),
    )


def incident_page(view: IncidentView) -> str:
    """Return the page of an incident; it is at `/incident/<id>`."""
    return _ENVIRONMENT.get_template("incident.html").render(
        view=view,
        history=view.history,
        range_name=DEFAULT_RANGE if view.history is None else view.history.range.name,
        band=(view.start_s, view.end_s or view.made_at_s),
        base="../",
        runbooks_url=_runbooks_url(view.live),
        assets=_addresses("../"),
    )


def _runbooks_url(live: LiveState) -> str:
    return (live.runbooks_url or "").rstrip("/")


def runbook_page(name: str) -> str:
    """Return the page of a runbook, or of INDEX. Raises KeyError if there is none of this name."""
    return _ENVIRONMENT.get_template("runbook.html").render(
        title="All alerts" if name == INDEX else name,
        is_index=name == INDEX,
        body=runbook_html(name),
        base="../",
        assets=_addresses("../"),
    )


def part_name(view: PlaceView | IncidentView, parts: Parts, name: str) -> str:
    """Return the name of a part of a place, of a customer that of the directory."""
    return view.name_of(name) if parts.kind == "customer" else shown_name(name)


def _matcher(label: str, value: str) -> str:
    """Return a matcher of Alertmanager for one label."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'{label}="{escaped}"'


def _naming(name: str) -> re.Pattern[str]:
    """Return a pattern of the whole name: `aurora-4` is not named by `aurora-4-large`."""
    return re.compile(rf"(?<![\w.:/@-]){re.escape(name)}(?![\w:/@-]|\.\w)")


def shown_name(name: str) -> str:
    """Return the name of a place on pages."""
    return OTHERS if name == OTHER else name


def near_names(name: str, known: Sequence[str]) -> list[str]:
    """Return the known names that are like a mistyped one, the nearest first."""
    # Typing errors are mostly of case, which difflib takes for other letters.
    by_folded = {one.casefold(): one for one in known}
    near = get_close_matches(name.casefold(), list(by_folded), NEAR_MAX, 0.5)
    return [by_folded[one] for one in near]


def value_text(chart: Chart, value: float | None) -> str:
    """Return a value of a chart as its table has it."""
    match chart.unit:
        case "percent":
            return fmt.percent(value, chart.target)
        case "latency":
            return fmt.latency(value, chart.target)
        case "tokens":
            return fmt.tokens(value)
        case "count":
            return fmt.count(value)


def step_text(step: Step) -> str:
    """Return the begin of a step as the table has it: a date, or a time of day with its date."""
    if step.end_s - step.start_s >= 86_400:
        return fmt.minute(step.start_s)[:10]
    # Without the year: no range reaches over two.
    return f"{fmt.minute(step.start_s)[5:10]} {fmt.clock(step.start_s)}"


def _addresses(base: str) -> dict[str, str]:
    found = {}
    for package in ("exporters.board", "exporters.drill"):
        for name, asset in static_files(package).items():
            found[name] = base + asset.address
    return found


def _environment() -> Environment:
    environment = templates("exporters.drill", "exporters.board")
    environment.globals.update(
        {
            **TEMPLATE_GLOBALS,
            "KIND_WORDS": KIND_WORDS,
            "RANGES": RANGES,
            "heatmaps": heatmaps,
            "part_name": part_name,
            "step_text": step_text,
            "value_text": value_text,
        }
    )
    return environment


_ENVIRONMENT = _environment()

"""An alerting rule before it is written to a file, and the texts and labels that rules share.

Pure: text in, text out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple
from zlib import crc32

from alerts.promql import INSTALLATION
from exporters.catalogue.requests import FAILING_CUSTOMERS, WINDOW_REQUESTS
from slo.policy.policy import Objective, Policy

# One bad scrape, or an exporter that dies, must not look like a recovery: stale data is told
# before this has passed.
KEEP_FIRING_S = 60
# The delay of an alert is up to one interval longer than that of the numbers.
EVERY_S = 5


class Read(NamedTuple):
    """A window that a rule reads; the settings of the exporter must publish it."""

    scope: str
    window: str


def panel_id(title: str) -> int:
    """Return the id of a panel of a dashboard: by its title, so that it outlasts other panels."""
    return crc32(title.encode()) % 10**6 + 1


def dashboard(uid: str, *labels: str, panel: str = "") -> str:
    """Return a template for a dashboard's URL, its variables set from the labels of the alert.

    `panel`: title of the panel that is opened over the whole screen; else the dashboard is.
    """
    view = f"&viewPanel={panel_id(panel)}" if panel else ""
    chosen = "".join(
        f"{{{{ with $labels.{label} }}}}&var-{label}={{{{ . | urlquery }}}}{{{{ end }}}}"
        for label in labels
    )
    return f"tokenpulse-{uid}?orgId=1{view}{chosen}"


LIVE = dashboard("live", "model", "region")  # of the place that the alert names
REQUESTS_OF_PLACE = dashboard("live", "model", "region", panel="Requests of the chosen by outcome")


@dataclass(frozen=True, slots=True)
class Alert:
    """One alerting rule. Texts may hold Prometheus' templates."""

    name: str
    severity: str
    expr: str
    summary: str
    description: str
    value: str  # the number now
    target: str  # the number as it should be
    for_s: int = 0
    keep_firing_s: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    budget_left: str = ""  # of the error budget, if there is one
    affected: str = ""  # share of the traffic in the alert's place, if it has one
    customers: str = ""  # number of customers with failures, of alerts about failures
    link: str = dashboard("pipeline")  # uid and variables
    reads: tuple[Read, ...] = ()


CUSTOMERS_WINDOW = "5m"  # always summed by customer, for the live board


@dataclass(frozen=True, slots=True)
class RecordingRule:
    """One recording rule: the value of an expression under a name that rules after it read."""

    name: str
    expr: str


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated together, the records before the alerts."""

    name: str
    alerts: tuple[Alert, ...]
    records: tuple[RecordingRule, ...] = ()


@dataclass(frozen=True, slots=True)
class Links:
    """Where alerts lead to."""

    runbooks: str = "https://tokenpulse.example/docs/runbooks"
    dashboards: str = "https://grafana.example"
    board: str = ""  # address of the live board; without it no alert links to it
    job: str = "tokenpulse-exporter"  # regular expression of the exporters' scrape jobs


def query_template(selector: str, *labels: str) -> str:
    """Return the pipeline of a template that queries a metric of the alert's own Tokenpulse.

    `selector`: the metric with its matchers, without the closing brace. `labels`: those of the
    alert that must be the same too.
    """
    equal = (*INSTALLATION, *labels)
    matchers = "".join(f",{label}=%q" for label in equal)
    values = " ".join(f"$labels.{label}" for label in equal)
    return f'printf "{selector}{matchers}}}" {values} | query'


def traffic_share(window: str, *labels: str, scope: str = "%q") -> str:
    """Return a template for the share of all requests that the alert's place has in a window.

    `labels`: those that name the place. `scope`: of the place; by default the alert's label.
    """
    metric, fleet = WINDOW_REQUESTS.name, f"scope='fleet',window='{window}'"
    own = "".join(f",{label}=%q" for label in labels)
    same = "".join(f",{label}=%q" for label in INSTALLATION)
    query = (
        f"sum({metric}{{scope={scope},window='{window}'{own}{same}}})"
        f" / sum({metric}{{{fleet}{same}}})"
    )
    # Both sums have the labels of the installation, so those values come twice.
    names = (*(("scope",) if scope == "%q" else ()), *labels, *INSTALLATION, *INSTALLATION)
    values = " ".join(f"$labels.{label}" for label in names)
    share = "{{ . | first | value | humanizePercentage }} of all requests"
    begin = f'{{{{ with printf "{query}" {values} | query }}}}'
    return f"{begin}{share}{{{{ else }}}}unknown{{{{ end }}}}"


def customers_affected() -> str:
    """Return a template for the number of customers with failures.

    In all places: the state has no customers by region.
    """
    selector = f"{FAILING_CUSTOMERS.name}{{scope='fleet',window='{CUSTOMERS_WINDOW}'"
    return (
        f"{{{{ with {query_template(selector)} }}}}{{{{ . | first | value }}}} with failures in "
        f"the last {CUSTOMERS_WINDOW}, in all places{{{{ else }}}}unknown{{{{ end }}}}"
    )


def _alert(
    severity: str,
    name: str,
    expr: str,
    summary: str,
    description: str,
    value: str,
    target: str,
    for_s: int = 0,
    keep_firing_s: int = 0,
    **labels: str,
) -> Alert:
    """Return an alert on Tokenpulse itself, for the people who operate it."""
    routed = {"route": "sre", **labels}
    return Alert(
        name, severity, expr, summary, description, value, target, for_s, keep_firing_s, routed
    )


page, ticket, silent = (partial(_alert, severity) for severity in ("page", "ticket", "none"))


def whom(labels: tuple[str, ...]) -> str:
    """Return a template that names the subject of an alert; empty for the fleet."""
    return "".join(f", {label} {{{{ $labels.{label} }}}}" for label in labels)


def about_text(objective: Objective) -> str:
    """Return the objective's `about` in one line, with a blank behind it; empty without one."""
    return f"{' '.join(objective.about.split())} " if objective.about else ""


def objective_labels(policy: Policy, objective: Objective) -> dict[str, str]:
    """Return the labels for routing that all alerts of policies have."""
    return {
        "policy": policy.name,
        "objective": objective.name,
        "route": objective.route,
        # Inhibitions of alertmanager.yml compare it: alerts from the state are silent while it is
        # stale.
        "derived_from": "state",
        "digest": "cro",
    }

"""What the status page shows at one moment; the page, the feed and the JSON render these facts.

Pure.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from exporters.status_page.components import Component, StatusPage
from exporters.status_page.incidents import Impact, IncidentBook, worst_impact
from exporters.status_page.uptime import DAYS, StatusDay, overall
from slo.engine.maintenance import Maintenance

ComponentStatus = Literal[
    "operational", "degraded_performance", "partial_outage", "major_outage", "under_maintenance"
]
# The words of the common status-page API, so that its clients read them.
STATUS_OF: Mapping[Impact, ComponentStatus] = {
    "none": "operational",
    "minor": "degraded_performance",
    "major": "partial_outage",
    "critical": "major_outage",
}
DESCRIPTIONS: Mapping[Impact, str] = {
    "none": "All Systems Operational",
    "minor": "Minor Service Outage",
    "major": "Partial System Outage",
    "critical": "Major Service Outage",
}
AHEAD_S = 14 * 86_400  # maintenance is announced this long before it begins
SHOWN_S = DAYS * 86_400


@dataclass(frozen=True, slots=True)
class ComponentFacts:
    """A component, how it is now, and its days, oldest first."""

    component: Component
    status: ComponentStatus
    days: tuple[StatusDay, ...]

    @property
    def uptime(self) -> Fraction | None:
        """Availability over all its days; None if it had no requests."""
        return overall(self.days)


@dataclass(frozen=True, slots=True)
class StatusFacts:
    """The whole page."""

    page: StatusPage
    now_s: float
    components: tuple[ComponentFacts, ...]
    book: IncidentBook
    maintenance: tuple[Maintenance, ...]  # announced and not over yet, by begin
    uptime_problem: str | None  # why there are no bars; None if there are

    @property
    def indicator(self) -> Impact:
        """The worst impact of all open incidents."""
        return worst_impact(incident.impact for incident in self.book.unresolved)

    @property
    def description(self) -> str:
        """The state of the whole in words."""
        if self.indicator == "none" and any(map(self.is_running, self.maintenance)):
            return "Service Under Maintenance"
        return DESCRIPTIONS[self.indicator]

    def is_running(self, window: Maintenance) -> bool:
        """Return whether maintenance is under way."""
        return window.from_s <= self.now_s < window.to_s


def status_facts(
    page: StatusPage,
    days: Mapping[str, tuple[StatusDay, ...]],
    book: IncidentBook,
    windows: Iterable[Maintenance],
    now_s: float,
    uptime_problem: str | None = None,
) -> StatusFacts:
    """Return the facts of a moment.

    `days`: by the component's slug. `windows`: only those that concern all policies are public, as
    others may name a customer's contract.
    """
    announced = public_maintenance(windows, now_s)
    running = any(window.from_s <= now_s for window in announced)
    components = []
    for component in page.components:
        status = STATUS_OF[book.impact_on(component.slug)]
        # An incident during maintenance is worse than the maintenance, and stays visible.
        if status == "operational" and running:
            status = "under_maintenance"
        components.append(ComponentFacts(component, status, days.get(component.slug, ())))
    return StatusFacts(page, now_s, tuple(components), book, tuple(announced), uptime_problem)


def public_maintenance(windows: Iterable[Maintenance], now_s: float) -> Sequence[Maintenance]:
    """Return the maintenance of all policies that is not over and begins soon, by begin."""
    return sorted(
        (
            window
            for window in windows
            if window.policy is None
            and window.cancelled_at_s is None
            and window.from_s - AHEAD_S <= now_s < window.to_s
        ),
        key=lambda window: (window.from_s, window.id),
    )

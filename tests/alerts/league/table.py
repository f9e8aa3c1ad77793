"""The table of the league in docs/alerting.md: `python -m tests.alerts.league.table` writes it."""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alerts.backtest.alertmanager import load
from alerts.backtest.notifications import simulate
from tests.alerts.league.delivery import Delivered, Labels, deliver
from tests.alerts.league.incident import LeagueIncident, Page
from tests.alerts.league.incidents import INCIDENTS
from tests.alerts.league.play import POLICIES, Played, kinds_of, play
from tests.alerts.league.traffic import TrafficCounter
from tests.support.paths import ROOT

DOC = ROOT / "docs" / "alerting.md"
BEGIN, END = "<!-- league: begin -->\n", "<!-- league: end -->\n"
GENERATORS = ("sloth", "pyrra")
_SHORT = len("Tokenpulse")


@dataclass(frozen=True, slots=True)
class Result:
    """An incident and its pages: (seconds after the start, labels of the group)."""

    incident: LeagueIncident
    pages: tuple[tuple[float, Labels], ...]
    burns_s: dict[str, float]

    @property
    def came_s(self) -> list[float | None]:
        """Return when each expected page came; None if it did not."""
        return [
            next((at_s for at_s, group in self.pages if is_about(group, page)), None)
            for page in self.incident.pages
        ]

    @property
    def other_pages(self) -> list[Labels]:
        """Return the pages that the incident must not cause, and second ones of the same fault."""
        left = [group for _, group in self.pages]
        for page in self.incident.pages:
            first = next((group for group in left if is_about(group, page)), None)
            if first is not None:
                left.remove(first)
        return left

    @property
    def is_right(self) -> bool:
        """Return whether each expected page came in time, and none beside them."""
        came_s = self.came_s
        in_time = all(at_s is not None and at_s <= self.incident.within_s for at_s in came_s)
        return in_time and not self.other_pages


def is_about(group: Labels, page: Page) -> bool:
    """Return whether a page's group has the expected labels."""
    return page.items() <= dict(group).items()


def play_all(incidents: Sequence[LeagueIncident]) -> list[Played]:
    """Return the alerts of each incident."""
    counter = TrafficCounter(POLICIES, kinds_of(incidents))
    return [play(incident, counter) for incident in incidents]


def simulate_pages(incident: LeagueIncident, alerts: Played) -> Result:
    """Return the pages as `tokenpulse backtest` simulates Alertmanager, with their exact times."""
    is_open: set[Labels] = set()
    pages = []
    for message in simulate(load(), alerts.alerts, incident.end_s).messages:
        # Tickets and digests wake no person.
        if message.receiver != "pages":
            continue
        group = tuple(sorted(message.group.items()))
        if message.kind == "resolved" and not message.alerts:
            is_open.discard(group)
        elif group not in is_open:
            is_open.add(group)
            pages.append((message.at_s, group))
    return Result(incident, tuple(pages), alerts.burns_s)


def without_cluster(delivered: Delivered) -> list[Labels]:
    """Return the delivered pages, sorted, without the label that keeps incidents apart."""
    return sorted(
        tuple(pair for pair in group if pair[0] != "cluster") for group in delivered.paged
    )


def run() -> tuple[list[Result], list[Delivered]]:
    """Play all incidents, and deliver their alerts by a real Alertmanager."""
    by_rules = play_all(INCIDENTS)
    with tempfile.TemporaryDirectory() as folder:
        delivered = deliver(Path(folder), [alerts.alerts for alerts in by_rules])
    results = [
        simulate_pages(incident, alerts)
        for incident, alerts in zip(INCIDENTS, by_rules, strict=True)
    ]
    return results, delivered


def markdown(results: Sequence[Result]) -> str:
    """Return the table and the line that sums it up."""
    head = "| incident | pages that must come | after | other pages | sloth | pyrra |"
    lines = [head, "|---|---|---|---|---|---|"]
    for result in results:
        cells = (
            result.incident.name,
            "; ".join(map(_page_text, result.incident.pages)) or "none",
            "; ".join(_after(result.incident, at_s) for at_s in result.came_s),
            "; ".join(map(_group_text, result.other_pages)) or "0",
            *(_seconds(result.burns_s.get(generator)) for generator in GENERATORS),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + f"\n\n{_summary(results)}\n"


def _summary(results: Sequence[Result]) -> str:
    wrong = sum(not result.is_right for result in results)
    expected = sum(bool(result.incident.pages) for result in results)
    texts = [
        f"{len(results)} incidents, of which {expected} must page. Tokenpulse: "
        f"{wrong or 'none'} with a page missing, late or too many."
    ]
    for generator in GENERATORS:
        missed = sum(
            bool(result.incident.pages) and generator not in result.burns_s for result in results
        )
        false = sum(not result.incident.pages and generator in result.burns_s for result in results)
        texts.append(f"{generator}: {missed} without any page, {false} with a false one.")
    return " ".join(texts)


def _page_text(page: Page) -> str:
    """Return the name of a page and its place or cause."""
    rest = [value for label, value in page.items() if label not in ("alertname", "objective")]
    return " ".join([f"`{page['alertname'][_SHORT:]}`", *rest])


def _group_text(group: Labels) -> str:
    hidden = ("job", "policy", "objective")
    return _page_text({label: value for label, value in group if label not in hidden})


def _after(incident: LeagueIncident, at_s: float | None) -> str:
    is_late = at_s is not None and at_s > incident.within_s
    return _seconds(at_s) + (", late" if is_late else "")


def _seconds(at_s: float | None) -> str:
    """Return whole seconds; a dash for never."""
    if at_s is None or math.isinf(at_s):
        return "-"
    return f"{at_s:g} s"


def main() -> None:
    """Write the table into the page, and print the incidents with wrong pages."""
    results, delivered = run()
    for result, received in zip(results, delivered, strict=True):
        by_simulation = sorted(group for _, group in result.pages)
        if not result.is_right:
            print(result.incident.name, result.came_s, *result.other_pages, sep="\n    ")
        if without_cluster(received) != by_simulation:
            print(result.incident.name, "ALERTMANAGER", *received.paged, sep="\n    ")
    before, _, rest = DOC.read_text().partition(BEGIN)
    DOC.write_text(before + BEGIN + "\n" + markdown(results) + "\n" + END + rest.partition(END)[2])


if __name__ == "__main__":
    main()

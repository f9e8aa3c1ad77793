"""Every kind of fault: what the board says is what the real rules do, and what reaches a person.

Simulated traffic, workers, exporter, Prometheus with the compiled rules and Alertmanager with the
shipped routes. The board, the alerts of Prometheus and those of Alertmanager are compared at every
look. `make scenarios` stretches the timeline, so that the alerts with a long `for` fire too.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from streams.simulator.scenarios import KINDS
from tests.support.alerting_stack import PROMETHEUS, AlertingStack, scenario
from tests.support.alertmanager import AMTOOL, SERVER
from tests.support.programs import needed_programs
from tests.support.truth_checks import Truth, first_named
from tests.support.truth_watch import Shown, TruthWatch

pytestmark = needed_programs(prometheus=PROMETHEUS, amtool=AMTOOL, alertmanager=SERVER)

STRETCH = float(os.environ.get("SCENARIO_STRETCH", "1"))  # of all times of the timeline
CALM_S = 25.0  # before the first fault
START_S = 8.0  # of the simulator
END_S = 30.0  # after the last fault
SLOWEST_LOOK_S = 20.0  # on a machine with longer pauses nothing can be compared
# The shipped policy judges the cache by an hour, for margins; this one by the minute.
CACHE_NOW = """
version: 1
name: cache-now
objectives:
  - name: cache-hit-now
    scope: fleet
    indicator: {kind: cache_hit_ratio, window: 1m}
    levels: [{severity: page, below: 20%, for: 15s}]
"""


@dataclass(frozen=True)
class Fault:
    """One scenario of the timeline, and how the board names it."""

    kind: str
    begin_s: float
    length_s: float
    options: dict[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] = ()  # all of them in one incident; empty if nothing is to be named
    # The same in the incident of its alert, which takes over from the early sign of the minute.
    alert_words: tuple[str, ...] = ()
    within_s: float = 0.0  # on a busy machine
    alert: str = ""  # that fires within the fault

    def is_named(self, incident: Shown) -> bool:
        """Return whether an incident is about this fault, not about its end."""
        ways = [words for words in (self.words, self.alert_words) if words]
        is_worded = any(all(word in incident.words for word in words) for words in ways)
        return not incident.is_over and is_worded

    def is_notified(self, incident: Shown) -> bool:
        """Return whether an incident says that the alert of this fault fires."""
        return incident.alert == self.alert and incident.notification == "firing"


REGION, LARGE, MEDIUM = "ap-northeast-1", "aurora-4-large", "aurora-4-medium"
# Faults of different measures overlap; two of the same measure follow each other.
FAULTS = (
    Fault(
        "outage",
        begin_s=0,
        length_s=45,
        options={"where": {"region": REGION}},
        words=(f"egion {REGION}", "failed", "server_error"),
        within_s=30,
        alert="TokenpulseOutage",
    ),
    Fault("late", begin_s=0, length_s=45),
    Fault(
        "cache_failure",
        begin_s=5,
        length_s=60,
        options={"where": {"model": MEDIUM}},
        words=(f"The cache fails in model {MEDIUM}: ",),
        within_s=60,
    ),
    Fault(
        "overload",
        begin_s=45,
        length_s=45,
        options={"where": {"model": LARGE}},
        words=(f"odel {LARGE}", "failed", "overloaded"),
        within_s=30,
    ),
    Fault("duplicates", begin_s=45, length_s=45),
    Fault(
        "malformed",
        begin_s=50,
        length_s=80,
        options={"share": 0.3},
        words=("newest records are rejected",),
        within_s=45,
        alert="TokenpulseRecordsRefused",
    ),
    Fault(
        "latency",
        begin_s=90,
        length_s=50,
        options={"ttft_factor": 8},
        words=("P95 time to first token is",),
        within_s=50,
        alert="TokenpulseTtftHigh",
    ),
    Fault(
        "flood",
        begin_s=90,
        length_s=45,
        options={"where": {"customer_id": "acct-0042"}, "extra_ratio": 0.5},
    ),
    Fault(
        "stream_errors",
        begin_s=140,
        length_s=40,
        words=("treaming", "failed", "stream_error"),
        within_s=30,
    ),
    Fault(
        "cache_failure",
        begin_s=140,
        length_s=60,
        words=("The cache fails: ", "in all regions and models alike"),
        alert_words=("Cache hit ratio is ", "over the last minute"),
        within_s=60,
        alert="TokenpulseCacheHitLow",
    ),
    Fault("unreported_cache", begin_s=200, length_s=20),
)


@pytest.mark.timeout(600 * max(STRETCH, 1))
def test_board_rules_and_pager_agree_in_every_scenario(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    assert {fault.kind for fault in FAULTS} == set(KINDS)
    policy = tmp_path / "cache-now.yaml"
    policy.write_text(CACHE_NOW)
    with AlertingStack(tmp_path, ["default", str(policy)]) as stack:
        stack.pages.expect({})
        urls = stack.board_url, stack.prometheus_url, stack.alertmanager_url
        with TruthWatch(*urls) as watch:
            watch.until(time.time() + CALM_S)
            begin_s = time.time() + START_S
            stack.send([_timeline_entry(fault, begin_s) for fault in FAULTS])
            last_s = max(fault.begin_s + fault.length_s for fault in FAULTS)
            moments = watch.until(begin_s + last_s * STRETCH + END_S)

    truth = Truth(moments)
    table = [f"a look every {truth.sight_s:.1f} s at most", *truth.minutes()]
    late = []
    for fault in FAULTS:
        start_s = begin_s + fault.begin_s * STRETCH
        named = first_named(moments, start_s, fault.is_named) if fault.words else None
        notified = first_named(moments, start_s, fault.is_notified) if fault.alert else None
        table.append(_line(fault, named, notified))
        if fault.words and (named is None or named[0] > fault.within_s):
            late.append(table[-1])
        if fault.alert and notified is None:
            late.append(f"{fault.kind}: {fault.alert} never fires")
    record_property("told", "\n".join(table))

    assert truth.sight_s < SLOWEST_LOOK_S
    assert truth.summary() == [], "\n".join(table)
    assert late == [], "\n".join(table)


def _timeline_entry(fault: Fault, begin_s: float) -> dict[str, Any]:
    start_s = begin_s + fault.begin_s * STRETCH
    return scenario(fault.kind, start_s, fault.length_s * STRETCH, **fault.options)


def _line(
    fault: Fault, named: tuple[float, Shown] | None, notified: tuple[float, Shown] | None
) -> str:
    """Return after how many seconds a fault was named, and after how many its alert fired."""
    words = "not named" if named is None else f"named after {named[0]:.1f} s"
    if notified is not None:
        words += f", {notified[1].severity} after {notified[0]:.1f} s"
    return f"{fault.kind:<16} {words}{'' if named is None else f': {named[1].words}'}"

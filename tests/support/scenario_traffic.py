"""Scenarios, and simulated traffic for them."""

from typing import Any

from streams.simulator.profile import Profile
from streams.simulator.scenario_requests import ScenarioRequest, new_request

NOON = 1_773_230_400_000  # 2026-03-11T12:00:00Z
#  0 min      3:10 ........ 6:10          10 min
#  calm       the scenario   calm again             (it begins and ends in the midst of a slot)
START, END = NOON + 190_000, NOON + 370_000
RATE = 30
PROFILE = Profile.default(events_per_s=RATE)


def order(kind: str, start_ms: int = NOON, duration: str = "1m", **entry: Any) -> ScenarioRequest:
    entry = {"kind": kind, "start": "0s", "duration": duration, **entry}
    return new_request(entry, start_ms, "somebody@here")

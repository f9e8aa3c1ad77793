"""Scenarios requested while the traffic runs: when they act, and when they end."""

from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streams.simulator.generator import SimulatedRecord, Traffic
from streams.simulator.profile import Profile
from streams.simulator.scenario_requests import Follower, ScenarioRequest
from streams.simulator.scenarios import TimelineError
from tests.support.scenario_traffic import NOON, order

SPAN_MS, REACH_MS = 120_000, 30_000
PROFILE = Profile.default(events_per_s=30)


class Running:
    """A simulator without a clock: it sends up to a time, under the orders of that moment."""

    def __init__(self) -> None:
        self.traffic = Traffic(PROFILE, 11)
        self.follower = Follower(PROFILE.names())
        self.present_ms = NOON
        self.sent: list[SimulatedRecord] = []

    def send_to(self, until_ms: int, *orders: ScenarioRequest) -> None:
        timeline = self.follower.follow(self.traffic.timeline, orders, self.present_ms)
        if timeline is not self.traffic.timeline:
            self.traffic = self.traffic.with_timeline(timeline)
        self.sent += self.traffic.records(self.present_ms, until_ms)
        self.present_ms = until_ms


@cache
def calm() -> dict[bytes, SimulatedRecord]:
    sent = Traffic(PROFILE, 11).records(NOON, NOON + SPAN_MS + REACH_MS)
    return {record.key: record for record in sent}


def changed(running: Running) -> set[int]:
    """When the requests ended whose records are not those of a calm day."""
    return {r.ended_at_ms for r in running.sent if r.value != calm()[r.key].value}


def test_an_order_acts_from_the_moment_it_is_seen_until_its_end() -> None:
    running = Running()
    late_seen = order("outage", NOON + 20_000, "30s")
    running.send_to(NOON + 27_300)
    running.send_to(NOON + SPAN_MS, late_seen)
    assert [r.key for r in running.sent] == [r.key for r in calm().values()][: len(running.sent)]
    times = changed(running)
    assert len(times) > 400
    assert min(times) >= NOON + 27_300
    assert NOON + 49_000 < max(times) < NOON + 50_000


def test_an_order_for_later_is_taken_now_and_acts_then() -> None:
    running, planned = Running(), order("outage", NOON + 60_000, "30s")
    running.send_to(NOON + 10_000, planned)
    assert running.follower.active_ids == [planned.id]
    running.send_to(NOON + SPAN_MS, planned)
    assert min(changed(running)) >= NOON + 60_000
    assert running.follower.messages == [f"scenario {planned.id} was requested by somebody@here"]


def test_an_order_that_left_the_list_is_over_and_never_taken_again() -> None:
    running, outage = Running(), order("outage", NOON + 10_000, "100s")
    running.send_to(NOON + 40_000, outage)
    running.send_to(NOON + 60_000)
    running.send_to(NOON + SPAN_MS, outage)
    times = changed(running)
    assert len(times) > 700
    assert min(times) >= NOON + 10_000
    assert max(times) < NOON + 40_000
    assert running.follower.messages[1:] == [f"scenario {outage.id} was stopped"]


def test_an_order_that_is_over_already_is_not_taken() -> None:
    running = Running()
    running.send_to(NOON + 60_000)
    running.send_to(NOON + SPAN_MS, order("outage", NOON, "30s"))
    assert changed(running) == set()
    assert running.follower.messages == []


def test_an_order_for_names_that_the_traffic_lacks_is_told_once_and_ignored() -> None:
    running, wrong = Running(), order("outage", where={"region": "mars-1"})
    for seconds in (10, 20):
        running.send_to(NOON + seconds * 1_000, wrong)
    [line] = running.follower.messages
    assert line.startswith(f"scenario {wrong.id}: scenarios[0].where.region: got 'mars-1', which")
    assert running.follower.active_ids == []


KEEPING = ("outage", "latency", "cache_failure", "stream_errors", "overload", "late", "malformed")
SHORT = {"late": {"min_delay": "1s", "max_delay": "20s"}}
SECONDS = st.integers(0, 110)
# (kind, on the list from, to; start, duration), in seconds.
ORDERED = st.tuples(st.sampled_from(KEEPING), SECONDS, SECONDS, SECONDS, st.integers(1, 60))


@settings(max_examples=25, deadline=None)
@example([("late", 5, 110, 5, 60)], [])  # taken when a part of it was sent
@example([("outage", 0, 30, 100, 10), ("late", 0, 110, 0, 60)], [])  # stopped before it began
@given(st.lists(ORDERED, max_size=4), st.lists(st.integers(1, 119), max_size=4))
def test_no_request_is_lost_or_sent_twice_however_orders_come_and_go(
    ordered: list[tuple[str, int, int, int, int]], looks: list[int]
) -> None:
    on = [
        (order(kind, NOON + start * 1_000, f"{length}s", **SHORT.get(kind, {})), given, leaves)
        for kind, given, leaves, start, length in ordered
    ]
    running = Running()
    for look in sorted({*looks, 30, 60, 90, (SPAN_MS + REACH_MS) // 1_000}):
        present_s = (running.present_ms - NOON) / 1_000
        wanted = [one for one, given, leaves in on if given <= present_s < leaves]
        running.send_to(NOON + look * 1_000, *wanted)
    keys = [r.key for r in running.sent if r.ended_at_ms < NOON + SPAN_MS]
    assert len(keys) == len(set(keys))
    assert set(keys) == {r.key for r in calm().values() if r.ended_at_ms < NOON + SPAN_MS}


def test_an_order_is_stored_as_text_and_read_back() -> None:
    given = order("late", NOON, "90s", where={"region": "eu-west-1"}, share=0.5, max_delay="5m")
    assert ScenarioRequest.unpack(given.id, given.pack()) == given
    assert (given.scenario.start_ms, given.scenario.end_ms) == (NOON, NOON + 90_000)
    for text in ("", "[]", '{"entry": {"kind": "no such kind"}, "by": "me"}'):
        with pytest.raises(TimelineError, match=r"^outage-1"):
            ScenarioRequest.unpack("outage-1", text)

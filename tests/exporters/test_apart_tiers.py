"""`latency.apart_tiers` decides on every surface which service tiers enter the latencies."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import msgspec
import pytest

from alerts.backtest.recording import Recording
from alerts.backtest.run import run, thresholds
from exporters.metrics.objectives import engine_for
from slo.engine.minute_status import Attainment
from slo.policy.loading import as_policy
from streams.config.settings import Latency, Settings
from streams.query.report import Question, make_report
from streams.store.reader import StateReader
from tests.support.exporter_state import NOW_S, event, samples_of, value
from tests.support.live_facts import World, in_world

INDICATOR = {"kind": "latency_ratio", "measure": "ttft", "limit": "300ms"}
COMMON = {"indicator": INDICATOR, "target": "99%", "period": {"rolling_days": 1}}
POLICY = as_policy(
    {
        "version": 1,
        "name": "p",
        "objectives": [
            COMMON | {"name": "all"},
            COMMON | {"name": "flex", "scope": {"service_tier": "flex"}},
        ],
    },
    "here",
)
# Three requests of the usual tier, and one of a tier that takes its time.
EVENTS = [
    *(event(NOW_S - 60 + at, request_id=f"r{at}") for at in range(3)),
    event(NOW_S - 50, request_id="slow", service_tier="flex", ttft_ms=900),
]


async def counts_of(world: World) -> dict[str, Any]:
    """Return the samples of all tiers on each surface, and both objectives."""
    settings, kafka = world.settings, world.settings.kafka
    await world.writer.write(0, EVENTS, NOW_S)
    question = Question(apart_tiers=settings.latency.apart_tiers)
    report = await make_report(world.client, kafka.group, kafka.topic, question)
    engine = engine_for(settings, [POLICY], world.client)
    snapshot = await StateReader(world.client, kafka.group, kafka.topic).snapshot()
    results = await engine.refresh(snapshot, NOW_S)
    assert results is not None
    facts = await world.facts()
    return {
        "report": report["total"]["ttft_seconds"]["count"],
        "board": facts.ttft_p95_s.samples,
        "objectives": [one.status.attainment for one in results],
    }


def backtested(settings: Settings) -> list[Attainment]:
    recording = Recording(settings, thresholds([POLICY], settings.worker), None)
    recording.add("test", [msgspec.json.encode(one) for one in EVENTS], None)
    found = run([POLICY], settings, recording, None)
    return [one.status("", found.to_s).attainment for one in found.objectives]


@pytest.mark.parametrize(("apart", "together"), [({"batch"}, 4), ({"flex"}, 3), (set(), 4)])
def test_a_tier_apart_is_in_no_latency_of_several_tiers(
    configured: Callable[..., Any], apart: set[str], together: int
) -> None:
    latency = Latency(apart_tiers=frozenset(apart))
    settings = configured().model_copy(update={"latency": latency})
    counts = in_world(settings, counts_of)
    assert (counts["report"], counts["board"]) == (together, together)
    samples = samples_of(settings)
    count = value(samples, "tokenpulse_ttft_samples", scope="fleet", window="5m")
    assert count == together
    # An objective whose scope names the tier counts it.
    expected = [Attainment(Fraction(3), together), Attainment(Fraction(0), 1)]
    assert counts["objectives"] == expected
    assert backtested(settings) == expected

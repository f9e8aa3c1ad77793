"""The tables of a page against a recount of the events, step by step."""

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable, Iterable

import numpy as np
import pytest

from exporters.drill.history import HistoryCache
from exporters.drill.place import Place, place_history
from exporters.drill.ranges import DEFAULT_RANGE, RANGES
from exporters.place_links import DIMENSION_OF
from streams.config.settings import Settings
from streams.events.fields import ELIGIBLE
from streams.state import histogram
from tests.support.drill_pages import answers, chart_values
from tests.support.exporter_state import NOW_S, StateWriter, event, some_events, token_of
from tests.support.oracle import row_of
from tests.support.oracle_counts import Row

DAY_S = 86_400
EVENTS = sorted(
    [
        *some_events(1, 900, NOW_S - 900, NOW_S),
        *some_events(2, 900, NOW_S - 3_600, NOW_S),
        *some_events(3, 900, NOW_S - DAY_S, NOW_S),
        *some_events(4, 900, NOW_S - 20 * DAY_S, NOW_S),
    ],
    key=lambda event: event["ended_at"],
)
PLACES = ("model/opus", "region/eu-west-1", "channel/direct", "tier/standard", "customer/acme")


def rows_of(kind: str, name: str) -> list[Row]:
    """Return the events of a place as the contract reads them."""
    field = "customer_id" if kind == "customer" else DIMENSION_OF[kind]
    return [row_of(one) for one in EVENTS if one[field] == name]


def percentile_s(values_ns: Iterable[int], ratio: float) -> float:
    """Return the nearest-rank percentile, to the precision of a histogram."""
    ranked = sorted(values_ns)
    value = ranked[max(1, math.ceil(round(ratio * len(ranked), 6))) - 1]
    return int(histogram.highest_in(histogram.bucket_of(np.array([value])))[0]) / 1e9


def expected(rows: list[Row], is_customer: bool) -> dict[tuple[str, str], float | None]:
    """Return the values of one step by (chart, line)."""
    # Of customers, probes are not counted.
    counted = [row for row in rows if not (is_customer and row.probe)]
    requests = [row for row in rows if not row.probe]
    eligible = [row for row in counted if row.outcome in ELIGIBLE]
    successes = sum(row.outcome == "success" for row in counted)
    input_of = sum(row.known["cached_input_of"] for row in requests)
    cached = sum(row.tokens["cached_input"] for row in requests)
    found: dict[tuple[str, str], float | None] = {
        ("availability", "Availability"): successes / len(eligible) if eligible else None,
        ("requests", "Requests"): len(requests),
        ("cache", "Cache hit rate"): cached / input_of if input_of else None,
        ("tokens", "Input"): sum(row.tokens["input"] for row in requests),
        ("tokens", "Output"): sum(row.tokens["output"] for row in requests),
        ("outcomes", "Server error"): sum(row.outcome == "server_error" for row in counted),
    }
    if is_customer:
        return found
    for latency in ("ttft", "tpot", "duration"):
        values_ns = [row.latencies_ns[latency] for row in rows if latency in row.latencies_ns]
        for label, ratio in (("P50", 0.5), ("P95", 0.95), ("P99", 0.99)):
            found[latency, label] = percentile_s(values_ns, ratio) if values_ns else None
    return found


@pytest.mark.parametrize(
    "range_name",
    [
        pytest.param(name, marks=() if name == DEFAULT_RANGE else pytest.mark.slow)
        for name in RANGES
    ],
)
def test_every_value_of_every_step_equals_a_recount(
    configured: Callable[..., Settings], range_name: str
) -> None:
    paths = {
        place: place.replace("customer/acme", f"customer/{token_of('acme')}") for place in PLACES
    }
    # Two partitions, and a second checkpoint for neither: the state merged its slices by itself.
    pages = answers(
        configured(),
        {0: EVENTS[::2], 1: EVENTS[1::2]},
        [f"/{path}?range={range_name}" for path in paths.values()],
    )
    step_s = RANGES[range_name].step_s
    compared = 0
    for place, page in zip(PLACES, pages, strict=True):
        assert page.status == 200, place
        kind, _, name = place.partition("/")
        by_step: dict[int, list[Row]] = defaultdict(list)
        for row in rows_of(kind, name):
            by_step[row.at_ms // 1_000 // step_s * step_s].append(row)
        tables = chart_values(page.text)
        starts = set(tables["requests"]["Requests"])
        assert max(starts) == NOW_S // step_s * step_s
        assert len(starts) >= RANGES[range_name].span_s // step_s - 1
        for start_s in starts:
            for (chart, line), value in expected(by_step[start_s], kind == "customer").items():
                assert tables[chart][line][start_s] == value, (place, chart, line, start_s)
                compared += 1
    assert compared > 300


def test_a_step_that_is_not_over_is_marked(configured: Callable[..., Settings]) -> None:
    (page,) = answers(configured(), {0: EVENTS}, ["/model/opus?range=1h"])
    running = page.text.count(f'<tr data-at="{NOW_S // 60 * 60}" data-running>')
    assert running == len(chart_values(page.text))
    assert page.text.count("data-running>") == running
    assert "The last step is not over" in page.text


@pytest.mark.parametrize("age_s", [1_800, 120])
def test_late_events_change_a_step_that_was_read(
    configured: Callable[..., Settings], age_s: int
) -> None:
    """A step is read again if a slice of it changed, also after its sums were dropped."""
    settings = configured()
    early, late = event(NOW_S - age_s), event(NOW_S - age_s + 2, request_id="late")

    async def counts() -> list[int]:
        writer = StateWriter(settings)
        history = HistoryCache(settings)
        found = []
        for events in ([early, event(NOW_S, request_id="now")], [late]):
            await writer.write(0, events, NOW_S)
            await history.read(NOW_S)
            read = history.history(RANGES["1h"])
            assert read is not None
            steps = place_history(read, Place("model", "opus").where).steps
            found.append(sum(step.measured.requests for step in steps))
        await writer.close()
        return found

    assert asyncio.run(counts()) == [2, 3]

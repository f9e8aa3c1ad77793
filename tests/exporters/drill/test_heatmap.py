"""The latency heatmap against a count of the events."""

import re
from collections import Counter
from collections.abc import Callable

from exporters.drill.heatmap import LEVELS
from streams.config.settings import Settings
from tests.support.drill_pages import answers
from tests.support.exporter_state import NOW_S, event, token_of

# TTFT in ms and the band that the page names; a bucket is at most 0.8 % above its values.
BANDS = {20: "up to 50 ms", 240: "200 ms to 300 ms", 700: "500 ms to 1 s", 90_000: "over 60 s"}


def rows_of(page: str) -> dict[str, list[tuple[int, int]]]:
    """The (level, requests) of each cell of the TTFT heatmap, by band, top to bottom."""
    table = page.partition('id="heat-ttft"')[2].partition("</section>")[0].replace("\u00a0", " ")
    cell = r'<td data-level="(\d)"[^>]*><span class="hidden">([\d,]+)</span>'
    return {
        label: [(int(level), int(count)) for level, count in re.findall(cell, cells)]
        for label, cells in re.findall(r'<th scope="row">(.*?)</th>(.*?)</tr>', table)
    }


def test_a_cell_is_the_number_of_requests_of_its_step_and_band(
    configured: Callable[..., Settings],
) -> None:
    latencies = [20, 240, 240, 240, 700, 90_000]
    events = [
        event(NOW_S - 600, ttft_ms=ttft_ms, duration_ms=ttft_ms + 1_000, request_id=str(at))
        for at, ttft_ms in enumerate(latencies)
    ]
    events.append(event(NOW_S - 60, ttft_ms=240, duration_ms=1_240, request_id="alone"))
    (page,) = answers(configured(), {0: events}, ["/model/opus"])
    rows = rows_of(page.text)
    labels = list(rows)
    assert (labels[0], labels[-1]) == (BANDS[90_000], BANDS[20])
    counts = {label: sum(count for _, count in cells) for label, cells in rows.items()}
    expected = Counter(BANDS[ttft_ms] for ttft_ms in [*latencies, 240])
    assert {label: count for label, count in counts.items() if count} == expected
    # Shades are shares of the step: half of the first step, and all of the second one.
    assert sorted(cell for cell in rows[BANDS[240]] if cell[1]) == [(5, 3), (LEVELS, 1)]
    lengths = {len(cells) for cells in rows.values()}
    assert lengths == {
        page.text.count(
            '<th scope="col">',
            page.text.index('id="heat-ttft"'),
            page.text.index('id="heat-duration"'),
        )
        - 1
    }


def test_a_customer_has_no_heatmap(configured: Callable[..., Settings]) -> None:
    paths = [f"/customer/{token_of('acme')}", "/model/opus"]
    events = [event(NOW_S, customer_id="acme")]
    of_customer, of_model = answers(configured(), {0: events}, paths)
    assert 'class="card heat"' in of_model.text
    assert of_customer.status == 200
    assert 'class="card heat"' not in of_customer.text

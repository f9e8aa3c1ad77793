"""Which samples leave a page that is too long."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from exporters.catalogue.cost import UNPRICED_TOKENS
from exporters.catalogue.latencies import FLEET_HISTOGRAM, REQUEST_HISTOGRAMS
from exporters.catalogue.pipeline import PARTITION_OFFSET
from exporters.catalogue.requests import COUNTED_TOTAL, REQUESTS_TOTAL, WINDOW_REQUESTS
from exporters.metrics.exposition import Page, exemplar_text, label_text
from exporters.metrics.group_shares import FEWEST_SAMPLES
from slo.health_limits import MAX_PAGE_LENGTH
from tests.support.exporter_state import NOW_S, Samples, event, export, parsed, write_state
from tests.support.paths import TESTS

ROOMY = 10**9
BOOK = str(TESTS / "prices" / "models.yaml")
# Quotes and commas within a value look like the end of another one.
NAMES = st.text('a",\\={} ', min_size=1, max_size=4)
GROUPS = st.dictionaries(
    NAMES, st.tuples(st.integers(0, 5), st.integers(1, 4)), min_size=1, max_size=6
)


def model(name: str) -> str:
    return label_text({"model": name})


def page_of(groups: dict[str, tuple[int, int]], alone: int) -> Page:
    """Groups as name -> (requests, samples), and samples that are in no group."""
    page = Page()
    for name, (requests, _) in groups.items():
        page.rank(model(name), requests / 10)
    for number in range(4):
        for name, (_, samples) in groups.items():
            if number < samples:
                page.add(REQUESTS_TOTAL, f'{model(name)},outcome="{number}"', 1)
    for number in range(alone):
        page.add(PARTITION_OFFSET, label_text({"partition": str(number)}), number)
    return page


def left_of(page: Page) -> dict[str, int]:
    """Return the samples of each model that the page still has."""
    left: dict[str, int] = {}
    for line in page.lines(REQUESTS_TOTAL.name):
        labels = line[len(REQUESTS_TOTAL.name) + 1 : line.rindex(",outcome=")]
        left[labels] = left.get(labels, 0) + 1
    return left


@settings(max_examples=200, deadline=None)
@given(GROUPS, st.integers(0, 5), st.integers(0, 20))
@example({"a": (3, 2), 'a",': (1, 2)}, 1, 3)
def test_the_least_used_leave_and_no_more_than_must(
    groups: dict[str, tuple[int, int]], alone: int, most: int
) -> None:
    page = page_of(groups, alone)
    before = page.samples
    dropped = page.limit(most, ROOMY)
    assert page.samples == before - dropped
    assert len(page.lines(PARTITION_OFFSET.name)) == alone
    left = left_of(page)
    assert page.samples <= most or not left
    gone = {name: one for name, one in groups.items() if model(name) not in left}
    stay = {name: one for name, one in groups.items() if model(name) in left}
    # Groups stay and leave as a whole.
    assert left == {model(name): samples for name, (_, samples) in stay.items()}
    assert max((one[0] for one in gone.values()), default=0) <= min(
        (one[0] for one in stay.values()), default=5
    )
    if gone:
        # With the last one that left, the page would be too long.
        last = max(gone, key=lambda name: (gone[name][0], model(name)))
        assert page.samples + gone[last][1] > most


def test_the_length_of_the_page_is_limited_too() -> None:
    page = page_of({"a" * 90: (1, 1), "b" * 90: (2, 1)}, 1)
    length = len(page.lines(REQUESTS_TOTAL.name)[0])
    assert page.limit(ROOMY, 2 * length) == 1
    assert list(left_of(page)) == [model("b" * 90)]


def test_exemplars_stay_with_their_buckets() -> None:
    page, spec = Page(), REQUEST_HISTOGRAMS["ttft"]
    for name, requests in (("rare", 1), ("usual", 9)):
        page.rank(model(name), requests / 10)
        exemplars = {1: exemplar_text(name, 0.5, NOW_S)}
        page.add_histogram(spec, model(name), ["0.1", "1", "+Inf"], [1, 2, 3], 4.5, exemplars)
    page.add_histogram(FLEET_HISTOGRAM, label_text({"latency": "ttft"}), ["+Inf"], [6], 9, {})
    assert page.limit(9, ROOMY) == 5
    found = {
        (sample.labels.get("model"), sample.labels["le"]): sample.exemplar.labels["trace_id"]
        for family in text_string_to_metric_families(page.text(openmetrics=True).decode())
        for sample in family.samples
        if sample.exemplar
    }
    assert found == {("usual", "1"): "usual"}


def models_with(samples: Samples, metric: str, **labels: str) -> set[str]:
    """Return the models that have samples of a metric with these labels."""
    return {
        dict(pairs)["model"]
        for name, pairs in samples
        if name == metric and labels.items() <= dict(pairs).items()
    }


def flood(count: int) -> list[dict[str, Any]]:
    """Requests of two models in use, among one request each of invented ones."""
    # Those in use come first: a partition counts further names than worker.limits as `__other__`.
    used = [event(NOW_S - 9, model=name) for name in ("opus", "haiku") * 5]
    invented = [event(NOW_S - 5, model=f"invented-{number}") for number in range(count)]
    # Only attempts: these have samples of windows, and no request.
    tried = [{**one, "final": False, "outcome": "timeout"} for one in invented[::2]]
    for number, one in enumerate(tried):
        one["model"] = f"tried-{number}"
    return [*used, *tried, *invented]


@pytest.mark.parametrize("invented", [60, 400])
def test_a_flood_of_names_costs_no_name_in_use_its_samples(
    configured: Callable[..., Any], invented: int
) -> None:
    asked = configured(max_samples=5_000)
    write_state(asked, {0: flood(invented)})
    whole = parsed(export(configured()).page.text(openmetrics=False))
    page = export(asked).page
    dropped = page.limit(asked.exporter.max_samples, MAX_PAGE_LENGTH)
    limited = parsed(page.text(openmetrics=False))
    assert len(limited) <= 5_000 < len(whole)
    # The fewest samples that each name may have.
    assert 0.2 < dropped / (len(whole) - len(limited)) <= 1
    # No number changed, and all that is missing is about a name.
    assert limited.items() <= whole.items()
    for _, pairs in whole.keys() - limited.keys():
        assert dict(pairs).keys() & {"model", "gen_ai_request_model", "customer"}
    for window in ("1m", "30d"):
        found = models_with(limited, WINDOW_REQUESTS.name, scope="model", window=window)
        assert {"opus", "haiku"} <= found
    assert {"opus", "haiku"} <= models_with(limited, REQUESTS_TOTAL.name)


def test_a_new_model_keeps_its_totals_before_names_that_were_used_more_until_yesterday(
    configured: Callable[..., Any],
) -> None:
    asked = configured(max_samples=5_000)
    retired = [
        event(NOW_S - 86_400, model=f"retired-{number}") for _ in range(40) for number in range(80)
    ]
    launched = [event(NOW_S - 60, model="launched") for _ in range(20)]
    write_state(asked, {0: [*retired, *launched]})
    page = export(asked).page
    page.limit(asked.exporter.max_samples, MAX_PAGE_LENGTH)
    limited = parsed(page.text(openmetrics=False))
    total = models_with(limited, REQUESTS_TOTAL.name)
    assert "launched" in total
    assert len(total) < 81
    # What the alerts on rejected and uncounted records read is of all names.
    assert limited[COUNTED_TOTAL.name, frozenset()] == len(retired) + len(launched)


def test_models_that_are_left_out_have_no_samples_of_prices(
    configured: Callable[..., Any],
) -> None:
    asked = configured(max_samples=5_000, price_book=BOOK)
    write_state(asked, {0: flood(120)})
    page = export(asked).page
    page.limit(asked.exporter.max_samples, MAX_PAGE_LENGTH)
    limited = parsed(page.text(openmetrics=False))
    assert len(limited) <= 5_000
    for window in ("1m", "30d"):
        labels = {"scope": "model", "window": window}
        unpriced = models_with(limited, UNPRICED_TOKENS.name, **labels)
        assert unpriced <= models_with(limited, WINDOW_REQUESTS.name, **labels)
        assert {"opus", "haiku"} <= models_with(limited, WINDOW_REQUESTS.name, **labels)


def test_every_group_has_the_samples_that_the_selection_relies_on(
    configured: Callable[..., Any],
) -> None:
    asked = configured(series_windows=["5m"])
    # Without tokens, a stream or a success a group has the fewest samples.
    write_state(
        asked, {0: [event(NOW_S), event(NOW_S, model="rare", outcome="timeout", stream=False)]}
    )
    page = export(asked).page
    of_rare = Counter(
        line[line.index("{") : line.index("rare")]
        for line in page.text(openmetrics=False).decode().splitlines()
        if "rare" in line
    )
    assert min(of_rare.values()) >= FEWEST_SAMPLES, of_rare

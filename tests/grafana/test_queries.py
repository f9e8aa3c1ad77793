"""PromQL is put together from the catalogue; what a metric cannot answer is refused."""

import pytest

from exporters.catalogue import latencies as latency_metrics
from exporters.catalogue import objectives as objective_metrics
from exporters.catalogue import pipeline as pipeline_metrics
from exporters.catalogue import requests as request_metrics
from grafana.frame import Variable, board, uid_of
from grafana.queries import AnyOf, Chosen, increase, largest_sum, newest, rate, select, window
from grafana.thresholds import NEUTRAL, bad_above, bad_below


def test_a_window_is_read_by_its_scope() -> None:
    assert window(request_metrics.CACHE_HIT_RATIO, "model", "5m", model=Chosen("model")) == (
        'max by (model) (tokenpulse_cache_hit_ratio{job=~"$job", scope="model", window="5m", '
        'model=~"$model"})'
    )


def test_of_two_exporters_that_show_one_state_one_is_counted() -> None:
    """The maximum over instances first, then the sum."""
    assert rate(request_metrics.CACHE_WRITE_TOKENS_TOTAL, ("model",)) == (
        "sum by (model) (max by (model, region, channel, service_tier) "
        '(rate(tokenpulse_cache_write_tokens_total{job=~"$job"}[$__rate_interval])))'
    )
    assert increase(request_metrics.REFUSED_TOTAL, ("reason",)) == (
        'max by (reason) (increase(tokenpulse_refused_total{job=~"$job"}[$__range]))'
    )


def test_of_two_exporters_the_larger_sum_of_many_series_is_shown() -> None:
    found = largest_sum(request_metrics.WINDOW_REQUESTS, "series", "5m", ("outcome",), model="a")
    assert found == (
        "max by (outcome) (sum by (job, instance, outcome) "
        '(tokenpulse_window_requests{job=~"$job", scope="series", window="5m", model="a"}))'
    )
    with pytest.raises(ValueError, match="has no label colour"):
        largest_sum(request_metrics.WINDOW_REQUESTS, "series", "5m", ("colour",))


def test_names_are_quoted() -> None:
    found = select(
        request_metrics.TOKENS_TOTAL,
        "",
        {"model": 'a"b\\c', "type": AnyOf(("x.y", "z"))},
    )
    assert found == ('tokenpulse_tokens_total{job=~"$job", model="a\\"b\\\\c", type=~"x\\\\.y|z"}')


def test_what_a_metric_cannot_answer_is_refused() -> None:
    for wrong in (
        lambda: newest(latency_metrics.TTFT_SECONDS, ("colour",)),
        lambda: newest(latency_metrics.TTFT_SECONDS, colour="red"),
        lambda: newest(request_metrics.REQUESTS_TOTAL),
        lambda: newest(latency_metrics.TTFT_HISTOGRAM),
        lambda: rate(latency_metrics.TTFT_SECONDS),
        lambda: rate(latency_metrics.TTFT_HISTOGRAM),
        lambda: rate(request_metrics.REQUESTS_TOTAL, ("le",), "_bucket"),
        lambda: increase(pipeline_metrics.PARTITION_LAG),
        lambda: window(latency_metrics.TTFT_SECONDS, "fleet", "5m", model=Chosen("model")),
        lambda: window(latency_metrics.TTFT_SECONDS, "model", "5m", ("region",)),
        lambda: window(objective_metrics.BURN_RATE, "model", "1h"),
        lambda: Variable("colour", "", "", latency_metrics.TTFT_SECONDS, {}).model(),
        lambda: Variable("model", "", "", latency_metrics.TTFT_SECONDS, {"colour": "red"}).model(),
        lambda: uid_of("paint"),
        lambda: board("paint", "", (), since="now-1h", refresh="1m"),
    ):
        with pytest.raises(ValueError, match=r"is a|has no|no such"):
            wrong()


def test_what_nobody_judges_has_no_colour() -> None:
    assert bad_above(None) == bad_below(None) == NEUTRAL


def test_a_warning_lies_between_good_and_bad() -> None:
    assert bad_above(14.4, 1) == ((None, "green"), (1, "orange"), (14.4, "red"))
    assert bad_above(1, 2) == ((None, "green"), (1, "red"))
    assert bad_below(0.3, 0.4) == ((None, "red"), (0.3, "orange"), (0.4, "green"))
    assert bad_below(0.3) == ((None, "red"), (0.3, "green"))

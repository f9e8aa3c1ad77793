"""The served page has no more samples than it may have, and tells how many are left out."""

from collections.abc import Callable

import pytest

from exporters.server.refresher import Refresher
from streams.config.settings import Settings
from tests.support.exporter_state import NOW_S, event, parsed, write_state

DROPPED = "tokenpulse_exporter_dropped_samples"


@pytest.mark.parametrize(("names", "is_too_long"), [(3, False), (100, True)])
def test_a_served_page_is_short_enough_and_says_what_is_left_out(
    configured: Callable[..., Settings],
    ready_refresher: Callable[[Settings], Refresher],
    names: int,
    is_too_long: bool,
) -> None:
    settings = configured(max_samples=5_000)
    write_state(settings, {1: [event(NOW_S, model=f"invented-{at}") for at in range(names)]})
    refresher = ready_refresher(settings)
    samples = parsed(refresher.export().body(openmetrics=False, zipped=False))
    assert len(samples) <= 5_000
    assert (samples[DROPPED, frozenset()] > 0) is is_too_long

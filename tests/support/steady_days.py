"""Days of steady traffic, and the customers in it."""

from typing import Any

from exporters.reference.customers import Customer
from tests.support.daily_state import DAY_S, at
from tests.support.exporter_state import event, token_of

MIDNIGHT = at("2026-11-10 00:00")
DIRECTORY = {
    token_of("acme"): Customer("Acme", "enterprise", None, 10_000),
    token_of("globex"): Customer("Globex", "smb"),
}


def steady(number: int, count: int = 60, **changes: Any) -> list[dict[str, Any]]:
    """A day's traffic that differs from other days' only by chance, and little."""
    start = MIDNIGHT + number * DAY_S
    step = DAY_S / count
    return [
        event(
            start + at * step,
            model=("large", "small")[at % 2],
            region=("eu", "us", "ap")[at % 3],
            customer_id=("acme", "globex", "initech")[at % 3],
            ttft_ms=100 + at % 50,
            duration_ms=1_100 + at % 50,
        )
        | changes
        for at in range(count)
    ]

"""What a worker's settings mean for decoding."""

from streams.config.worker import Worker
from streams.state.limits import event_limits


def test_event_limits_are_those_of_the_settings() -> None:
    assert not event_limits(Worker()).names_last_part
    limits = event_limits(Worker(names_last_part=True, future_tolerance_s=7, max_event_bytes=300))
    assert limits.names_last_part
    assert (limits.future_tolerance_ms, limits.max_event_bytes) == (7_000, 300)

"""A wall clock and the clock of Redis, as a test sets them."""

from streams.clock import ClockReading, RedisClock


class TwoClocks(RedisClock):
    """Gives the times that the test sets; a real Redis gives its own."""

    def __init__(self, wall_s: float, redis_s: float | None) -> None:
        self.wall_s, self.redis_s = wall_s, redis_s

    async def read(self) -> ClockReading:
        return ClockReading(self.wall_s, self.redis_s, 0.001, 5)


def right_clock(now_s: float) -> TwoClocks:
    """Return a wall clock that agrees with that of Redis."""
    return TwoClocks(now_s, now_s)

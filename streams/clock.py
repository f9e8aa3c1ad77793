"""Compares the wall clock of this process with the clock of Redis.

Nothing becomes final by a wall clock alone: see docs/reliability.md, "Clocks". Both clocks are read
here; every decision is one of a `ClockReading`, which is plain data.
"""

import logging
import time
from dataclasses import dataclass, replace

import redis.asyncio as aioredis
from redis.exceptions import RedisError

from streams.errors import one_line

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ClockReading:
    """A wall clock and Redis' clock at one moment, in seconds since 1970."""

    wall_s: float
    redis_s: float | None  # None if Redis did not give its time
    round_trip_s: float  # of the question for it; the time is right to half of this
    max_offset_s: float  # `redis.max_clock_offset_s`

    @property
    def offset_s(self) -> float | None:
        """Return by how much the wall clock is ahead of Redis'; negative if it is behind."""
        return None if self.redis_s is None else self.wall_s - self.redis_s

    @property
    def agrees(self) -> bool:
        """Return True if the two clocks are proven to differ by at most `max_offset_s`."""
        offset_s = self.offset_s
        return offset_s is not None and abs(offset_s) + self.round_trip_s / 2 <= self.max_offset_s

    def likely_s(self, log_s: float) -> float:
        """Return the present time: the wall clock's, if it agrees with Redis'.

        If the two differ, the one that is nearer to `log_s` is taken: the newest event time that
        was counted. Without events this is the earlier one, after which less is over.
        """
        if self.redis_s is None or self.agrees:
            return self.wall_s
        return min(self.redis_s, self.wall_s, key=lambda at_s: abs(at_s - log_s))

    def problem(self) -> str | None:
        """Return in one line why nothing may become final by this clock; None if it may."""
        if self.agrees:
            return None
        offset_s = self.offset_s
        if offset_s is None:
            return "Redis does not give its time, so this process cannot check its own clock"
        side = "ahead of" if offset_s > 0 else "behind"
        if abs(offset_s) <= self.max_offset_s:
            return (
                f"the clock of this process is about {abs(offset_s):.2f} s {side} that of Redis, "
                f"which took {self.round_trip_s:.2f} s to give its time: they may differ by more "
                f"than redis.max_clock_offset_s ({self.max_offset_s:g} s)"
            )
        return (
            f"the clock of this process is {abs(offset_s):.1f} s {side} that of Redis, more than "
            f"redis.max_clock_offset_s ({self.max_offset_s:g} s)"
        )


class SteadyChoice:
    """Chooses between the wall clock and Redis' clock, reading after reading.

    If the newest event lies about halfway between the two, `likely_s` alone would take one and
    then the other, and alert rules need times that rise.
    """

    def __init__(self) -> None:
        self._takes_redis = False

    def likely_s(self, reading: ClockReading, log_s: float) -> float:
        """Return the present time, of the clock that was taken before.

        The other one is taken if it is nearer to `log_s`, the newest event time that was counted,
        by half of their offset; the wall clock also if they hardly differ.
        """
        wall_s, redis_s = reading.wall_s, reading.redis_s
        if redis_s is None:
            return wall_s
        offset_s = abs(wall_s - redis_s)
        redis_nearer_by_s = abs(wall_s - log_s) - abs(redis_s - log_s)
        # A round trip decides at the limit whether they agree; well below it they do.
        if offset_s <= reading.max_offset_s / 2 or redis_nearer_by_s < -offset_s / 2:
            self._takes_redis = False
        elif redis_nearer_by_s > offset_s / 2 and not reading.agrees:
            self._takes_redis = True
        return redis_s if self._takes_redis else wall_s


class RedisClock:
    """The clock of Redis, as this process last read it."""

    def __init__(self, client: "aioredis.Redis", max_offset_s: float) -> None:
        """`max_offset_s`: of `redis.max_clock_offset_s`."""
        self._client, self._max_offset_s = client, max_offset_s
        self._read: ClockReading | None = None
        self._read_at_s = 0.0  # monotonic
        self._is_reported = False

    async def read(self) -> ClockReading:
        """Ask Redis for its time, and return both clocks."""
        sent_s = time.monotonic()
        try:
            # The client has time limits of its own.
            seconds, microseconds = await self._client.time()
        except (RedisError, OSError) as error:
            # One line until it answers again, as it is asked every few seconds.
            if not self._is_reported:
                log.warning("Redis does not give its time (TIME): %s", one_line(error))
            self._is_reported = True
            self._read = None
            return self.reading()
        self._is_reported = False
        self._read_at_s = time.monotonic()
        round_trip_s = self._read_at_s - sent_s
        # Redis answered half of the round trip ago, as far as can be known.
        redis_s = seconds + microseconds / 1e6 + round_trip_s / 2
        self._read = ClockReading(time.time(), redis_s, round_trip_s, self._max_offset_s)
        return self._read

    def reading(self) -> ClockReading:
        """Return the wall clock of now, and Redis' time continued since the last `read`."""
        if self._read is None or self._read.redis_s is None:
            return ClockReading(time.time(), None, 0.0, self._max_offset_s)
        # Monotonic, so that a wall clock that is set between two readings is seen at once.
        redis_s = self._read.redis_s + time.monotonic() - self._read_at_s
        return replace(self._read, wall_s=time.time(), redis_s=redis_s)

"""The settings of the embedded stack and of its simulated traffic. Pure."""

from pydantic import Field

from streams.config.base import Section

# The default past is limited to what can be sent in about three seconds.
PAST_S, PAST_EVENTS = 3_600.0, 200_000


class Local(Section):
    """The embedded stack of `tokenpulse up` and `tokenpulse replay`."""

    kafka_port: int = Field(
        0, ge=0, le=65_535, description="Port of the broker; 0 chooses a free port."
    )
    redis_port: int = Field(0, ge=0, le=65_535, description="Port of Redis; 0 chooses a free port.")
    workers: int = Field(1, ge=1, le=16, description="Number of worker processes.")
    events_per_s: float = Field(
        50, gt=0, le=20_000, description="Mean rate of the simulated traffic."
    )
    history_s: float | None = Field(
        None,
        ge=0,
        le=35 * 86_400,
        description="Length of the simulated past that `up` sends first, so that the boards "
        "have data at once; 0 for none. Default: an hour, or less if that is "
        "more than 200,000 requests.",
    )

    @property
    def past_s(self) -> float:
        """Return the length of the simulated past that `up` sends, in seconds."""
        if self.history_s is not None:
            return self.history_s
        return min(PAST_S, PAST_EVENTS / self.events_per_s)

"""The settings of the embedded stack and of its simulated traffic. Pure."""

from pydantic import Field

from streams.config.sections import Section

# What comes at once when nobody says how much: about three seconds of work.
PAST_S, PAST_EVENTS = 3_600.0, 200_000


class Local(Section):
    """The embedded stack of `tokenpulse up` and `tokenpulse replay`."""

    kafka_port: int = Field(0, ge=0, le=65_535, description="Broker port; 0 takes a free one.")
    redis_port: int = Field(0, ge=0, le=65_535, description="Redis port; 0 takes a free one.")
    workers: int = Field(1, ge=1, le=16, description="Worker processes.")
    events_per_s: float = Field(
        50, gt=0, le=20_000, description="Mean rate of the simulated traffic."
    )
    history_s: float | None = Field(
        None,
        ge=0,
        le=35 * 86_400,
        description="Simulated past that `up` sends first, so that boards do not begin empty; 0 "
        "for none. Default an hour, or less where that would be more than 200,000 requests.",
    )

    @property
    def past_s(self) -> float:
        """Return the length of the simulated past that `up` sends, in seconds."""
        if self.history_s is not None:
            return self.history_s
        return min(PAST_S, PAST_EVENTS / self.events_per_s)

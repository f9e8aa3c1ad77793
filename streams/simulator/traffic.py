"""Calm traffic: the requests of a profile, drawn at random.

Pure: no clock, no Kafka. Times are milliseconds since the Unix epoch, latencies milliseconds,
tokens are counts. Whole arrays are drawn at a time, one entry a request, from a generator that the
caller seeds, so the same generator always gives the same requests.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import numpy.typing as npt

from streams.events.fields import OUTCOMES
from streams.simulator.profile import Profile

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

HOUR_MS, DAY_MS, WEEK_MS = 3_600_000, 86_400_000, 604_800_000

BUSIEST_HOUR = 15  # of the region's own day
DAILY_SWING = 0.45  # the busiest hour has 1.45 times the day's mean
WEEKLY_SWING = 0.20  # Wednesday noon against Saturday midnight
FIRST_MONDAY_MS = 4 * DAY_MS  # 5 January 1970; the epoch was a Thursday

TTFT_SIGMA = 0.35  # of the logarithm: P95 is 1.78 times the median
TPOT_SIGMA = 0.15
INPUT_MEDIAN, INPUT_SIGMA, INPUT_MAX = 1_400, 1.4, 200_000
OUTPUT_SIGMA, OUTPUT_MAX = 0.9, 16_000
TRANSIT_MEDIAN_MS, TRANSIT_SIGMA, TRANSIT_MAX_MS = 30.0, 0.8, 500

# Providers cache no prefix shorter than this (their documentation says 1,024 to 4,096).
CACHE_MIN_TOKENS = 1_024
CACHE_HIT_RATIO = 0.95  # requests of a caching customer that find their prefix
CACHE_WRITE_RATIO = 0.5  # of what was not cached, written for the next turn
# Cached share of a hit, by customer rank and round again: agents and chats with long stable
# prefixes, batch jobs with none, and some between. By rank, not at random: the first ten customers
# are a third of the traffic, and the fleet's hit rate must not depend on the seed.
CACHE_BY_RANK = (0.88, 0.0, 0.84, 0.50, 0.92, 0.0, 0.80, 0.60, 0.86, 0.0)

TIMEOUT_MS = 60_000.0  # without a first token the gateway gives up
REFUSED_MEDIAN_MS, REFUSED_SIGMA = 25.0, 0.6  # answers that never reached a model
PROBE_INPUT_TOKENS, PROBE_OUTPUT_TOKENS = 12, 8


@dataclass(slots=True)
class Requests:
    """Finished requests, one array per property, one entry a request.

    The five names are indices into `Profile.names()`, `customer_id` -1 for none. `ttft_ms` and
    `tpot_ms` are the times that the model would have taken; `refused_after_ms` is the duration of a
    request that reached none. `transit_ms` passes between the end and the sending of the record,
    `again_after_ms` until it is sent once more (-1: never). `broken` is -1 for a valid record, else
    a draw in [0, 1) that decides in which way it is malformed.
    """

    ended_at_ms: Ints
    transit_ms: Ints
    model: Ints
    region: Ints
    channel: Ints
    service_tier: Ints
    customer_id: Ints
    outcome: Ints  # index into OUTCOMES
    stream: Bools
    probe: Bools
    traced: Bools
    ttft_ms: Floats
    tpot_ms: Floats
    refused_after_ms: Floats
    input_tokens: Ints
    cached_input_tokens: Ints
    cache_write_tokens: Ints
    cache_reported: Bools  # False: the record has no tokens of the cache
    output_tokens: Ints
    reasoning_tokens: Ints
    again_after_ms: Ints
    broken: Floats
    identity: npt.NDArray[np.uint8]  # 28 random bytes: 12 of request id, 16 of trace id

    def __len__(self) -> int:
        return len(self.ended_at_ms)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Concatenate the requests of all parts."""
        if len(parts) == 1:
            return parts[0]
        names = [field.name for field in fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def cut_short(self, chosen: Bools, progress: Floats) -> None:
        """End the chosen answers after `progress` (0 to 1) of their output tokens."""
        kept = np.maximum(1, (self.output_tokens * progress).astype(np.int64))
        np.copyto(self.output_tokens, kept, where=chosen)
        # Reasoning comes first in an answer.
        np.minimum(self.reasoning_tokens, self.output_tokens, out=self.reasoning_tokens)


class Population:
    """Draws the requests of a profile."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self._model = _cumulative([model.weight for model in profile.models])
        self._channel = _cumulative([channel.weight for channel in profile.channels])
        self._tier = _cumulative([tier.weight for tier in profile.tiers])
        # Zipf-Mandelbrot: a plain Zipf law would give the first customer a fifth of everything.
        ranks = np.arange(1, profile.customers + 1)
        self._customer = _cumulative(1 / (ranks + 2.0))
        # np.resize repeats the list for all customers.
        self._cache = np.resize(np.array(CACHE_BY_RANK), profile.customers)
        self._region_weights = np.array([region.weight for region in profile.regions])
        self._region_weights /= self._region_weights.sum()
        self._offsets_ms = np.array([region.utc_offset_h * HOUR_MS for region in profile.regions])
        self._ttft = np.array([model.ttft_ms for model in profile.models])
        self._tpot = np.array([model.tpot_ms for model in profile.models])
        self._output = np.array([float(model.output_tokens) for model in profile.models])
        self._reasons = np.array([model.reasons for model in profile.models])
        self._region_factor = np.array([region.ttft_factor for region in profile.regions])
        self._channel_factor = np.array([channel.ttft_factor for channel in profile.channels])
        self._tier_factor = np.array([tier.ttft_factor for tier in profile.tiers])
        self._streams = np.array([tier.stream_ratio for tier in profile.tiers])
        failing = [ratio for _, ratio in profile.failures]
        self._outcome_edges = np.cumsum(failing)
        self._outcomes = np.array(
            [OUTCOMES.index(outcome) for outcome, _ in profile.failures]
            + [OUTCOMES.index("success")]
        )

    def expected(self, start_ms: int, end_ms: int) -> float:
        """Return the mean number of requests that end in [start, end), by time of day and week."""
        activity = self._activity((start_ms + end_ms) // 2).sum()
        return float(self.profile.events_per_s * (end_ms - start_ms) / 1000 * activity)

    def draw(
        self,
        rng: np.random.Generator,
        count: int,
        start_ms: int,
        end_ms: int,
        fixed: dict[str, int] | None = None,
    ) -> Requests:
        """Draw `count` requests that end in [start, end), in order of their end.

        `fixed` pins names: event field to index in `Profile.names()`.
        """
        # The middle of the slot decides, as slots are short against a day.
        region = _cumulative(self._activity((start_ms + end_ms) // 2))
        drawn = {
            "model": _pick(self._model, rng, count),
            "region": _pick(region, rng, count),
            "channel": _pick(self._channel, rng, count),
            "service_tier": _pick(self._tier, rng, count),
            "customer_id": _pick(self._customer, rng, count),
        }
        for field, index in (fixed or {}).items():
            drawn[field] = np.full(count, index)
        stream = rng.random(count) < self._streams[drawn["service_tier"]]
        requests = self._draw_successes(rng, drawn, stream, start_ms, end_ms)
        self._fail(rng, requests)
        return requests

    def probes(self, rng: np.random.Generator, start_ms: int, end_ms: int) -> Requests:
        """Draw the probes that end in [start, end): each model in each region in turn.

        They use the first channel and tier, and belong to no customer.
        """
        interval_ms = round(self.profile.probe_interval_s * 1000)
        targets = len(self.profile.models) * len(self.profile.regions)
        # Turn k ends at k * interval / targets, rounded down; ceiling division finds the first.
        turn = np.arange(-(-start_ms * targets // interval_ms), -(-end_ms * targets // interval_ms))
        zeros = np.zeros(len(turn), np.int64)
        drawn = {
            "model": turn % targets % len(self.profile.models),
            "region": turn % targets // len(self.profile.models),
            "channel": zeros,
            "service_tier": zeros,
            "customer_id": zeros,
        }
        requests = self._draw_successes(rng, drawn, np.ones(len(turn), np.bool_), start_ms, end_ms)
        # Probes come at exact intervals, not at random times.
        requests.ended_at_ms = turn * interval_ms // targets
        requests.probe[:] = True
        requests.traced[:] = False
        requests.customer_id[:] = -1
        requests.input_tokens[:] = PROBE_INPUT_TOKENS
        requests.output_tokens[:] = PROBE_OUTPUT_TOKENS
        for tokens in (
            requests.cached_input_tokens,
            requests.cache_write_tokens,
            requests.reasoning_tokens,
        ):
            tokens[:] = 0
        failed = rng.random(len(turn)) < dict(self.profile.failures).get("server_error", 0.0)
        requests.outcome[failed] = OUTCOMES.index("server_error")
        return requests

    def _activity(self, time_ms: int) -> Floats:
        """Return the share of the mean rate for each region.

        Over a week the sum has mean 1, as the two cosines are orthogonal.
        """
        local_ms = time_ms + self._offsets_ms
        day = np.cos(2 * np.pi * (local_ms / DAY_MS - BUSIEST_HOUR / 24))
        # Wednesday noon is 2.5 days after Monday begins.
        week = np.cos(2 * np.pi * ((local_ms - FIRST_MONDAY_MS) / WEEK_MS - 2.5 / 7))
        rhythm: Floats = self._region_weights * (1 + DAILY_SWING * day) * (1 + WEEKLY_SWING * week)
        return rhythm

    def _draw_successes(
        self,
        rng: np.random.Generator,
        drawn: dict[str, Ints],
        stream: Bools,
        start_ms: int,
        end_ms: int,
    ) -> Requests:
        """Draw requests with these names that all succeed."""
        count = len(stream)
        ended_at_ms = np.sort(rng.integers(start_ms, end_ms, count))
        model = drawn["model"]
        ttft_ms = (
            self._ttft[model]
            * self._region_factor[drawn["region"]]
            * self._channel_factor[drawn["channel"]]
            * self._tier_factor[drawn["service_tier"]]
            * np.exp(TTFT_SIGMA * rng.standard_normal(count))
        )
        tpot_ms = self._tpot[model] * np.exp(TPOT_SIGMA * rng.standard_normal(count))
        # Log-normal latencies and lengths, as those of real requests.
        output = self._output[model] * np.exp(OUTPUT_SIGMA * rng.standard_normal(count))
        output_tokens = np.clip(output, 1, OUTPUT_MAX).astype(np.int64)
        thought = rng.uniform(0.3, 0.8, count) * self._reasons[model]
        prompt = INPUT_MEDIAN * np.exp(INPUT_SIGMA * rng.standard_normal(count))
        input_tokens = np.clip(prompt, 8, INPUT_MAX).astype(np.int64)
        cached, written = self._draw_cache_use(rng, input_tokens, drawn["customer_id"])
        transit = TRANSIT_MEDIAN_MS * np.exp(TRANSIT_SIGMA * rng.standard_normal(count))
        refused = REFUSED_MEDIAN_MS * np.exp(REFUSED_SIGMA * rng.standard_normal(count))
        return Requests(
            **drawn,
            ended_at_ms=ended_at_ms,
            transit_ms=np.minimum(transit, TRANSIT_MAX_MS).astype(np.int64),
            outcome=np.full(count, OUTCOMES.index("success")),
            stream=stream,
            probe=np.zeros(count, np.bool_),
            traced=rng.random(count) < self.profile.trace_ratio,
            ttft_ms=ttft_ms,
            tpot_ms=tpot_ms,
            refused_after_ms=refused,
            input_tokens=input_tokens,
            cached_input_tokens=cached,
            cache_write_tokens=written,
            cache_reported=np.ones(count, np.bool_),
            output_tokens=output_tokens,
            reasoning_tokens=(output_tokens * thought).astype(np.int64),
            again_after_ms=np.full(count, -1),
            broken=np.full(count, -1.0),
            identity=np.frombuffer(rng.bytes(28 * count), np.uint8).reshape(count, 28),
        )

    def _draw_cache_use(
        self, rng: np.random.Generator, input_tokens: Ints, customer: Ints
    ) -> tuple[Ints, Ints]:
        """Draw the input tokens read from the cache and written to it; at most the input."""
        share = self._cache[customer] * rng.uniform(0.95, 1.05, len(customer))
        # A short prompt is never cached.
        cacheable = (share > 0) & (input_tokens >= CACHE_MIN_TOKENS)
        hit = cacheable & (rng.random(len(customer)) < CACHE_HIT_RATIO)
        prefix = (input_tokens * share).astype(np.int64)
        cached = np.where(hit, prefix, 0)
        rest = ((input_tokens - cached) * CACHE_WRITE_RATIO).astype(np.int64)
        return cached, np.where(hit, rest, np.where(cacheable, prefix, 0))

    def _fail(self, rng: np.random.Generator, requests: Requests) -> None:
        """Mark the failures of a normal day."""
        # One draw selects a failure by its share, or else success.
        drawn = np.searchsorted(self._outcome_edges, rng.random(len(requests)), side="right")
        outcome = self._outcomes[drawn]
        # Only a stream can break after HTTP 200.
        broken = outcome == OUTCOMES.index("stream_error")
        outcome[broken & ~requests.stream] = OUTCOMES.index("server_error")
        requests.outcome = outcome
        cut = (broken & requests.stream) | (outcome == OUTCOMES.index("cancelled"))
        requests.cut_short(cut, rng.random(len(requests)))


def _cumulative(weights: Sequence[float] | Floats) -> Floats:
    """Return the cumulative shares, without the last one, which is 1."""
    sums: Floats = np.cumsum(weights)
    shares: Floats = sums[:-1] / sums[-1]
    return shares


def _pick(cumulative: Floats, rng: np.random.Generator, count: int) -> Ints:
    picked: Ints = np.searchsorted(cumulative, rng.random(count), side="right").astype(np.int64)
    return picked

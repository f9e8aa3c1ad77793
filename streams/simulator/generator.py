"""Simulated traffic: an endless, seeded stream of events that resembles a company's traffic.

Pure: no clock, no Kafka; times are milliseconds since the Unix epoch. The same seed, profile and
timeline give the same bytes, however the time is cut into calls:

    slot (by the END of a request)      10:00        10:01        10:02
    own generator, (seed, slot)          | draw 3,000 | draw 3,000 | ...
    sent                                 ..x.x.xx..x.xx..          a late one: x

Each slot has generators of its own, one for the calm traffic, one for the probes, one per
scenario. So any slot can be drawn alone, and a scenario does not change other requests.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from dataclasses import replace as replaced
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np

from streams.events.fields import MAX_LATENCY_MS, OUTCOMES
from streams.simulator.profile import Profile
from streams.simulator.scenarios import (
    OVERLOADED,
    RATE_LIMITED,
    SERVER_ERROR,
    Flood,
    Scenario,
    TimelineError,
)
from streams.simulator.timeline import Timeline, load_timeline, shipped_timelines
from streams.simulator.traffic import (
    DAY_MS,
    TIMEOUT_MS,
    TRANSIT_MAX_MS,
    Bools,
    Population,
    Requests,
)

__all__ = [
    "MALFORMATIONS",
    "Profile",
    "SimulatedRecord",
    "Timeline",
    "TimelineError",
    "Traffic",
    "load_timeline",
    "shipped_timelines",
]

SLOT_CHOICES_MS = (60_000, 10_000, 1_000)
SLOT_MAX_EVENTS = 10_000  # per slot, so that a live sender does not wait long for the next slot
CALM, PROBES, FIRST_SCENARIO = 0, 1, 2  # which generator of a slot

# Requests with these outcomes never reached a model, so they have no tokens and no TTFT.
REFUSED = (SERVER_ERROR, OVERLOADED, RATE_LIMITED, OUTCOMES.index("client_error"))
NOTHING_PLANNED = Timeline()
TIMEOUT = OUTCOMES.index("timeout")


@dataclass(frozen=True, slots=True)
class SimulatedRecord:
    """One Kafka record: `key` is the request id, `value` the event as JSON.

    `ended_at_ms` is the true end of the request, even if `value` is malformed or differs.
    """

    key: bytes
    value: bytes
    ended_at_ms: int
    send_at_ms: int


class _Wire(msgspec.Struct, omit_defaults=True, gc=False):
    """The event as JSON; None is left out."""

    request_id: str
    ended_at: int
    model: str
    outcome: str
    region: str
    channel: str
    service_tier: str
    stream: bool
    customer_id: str | None = None
    ttft_ms: float | None = None
    duration_ms: float | None = None
    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    probe: bool = False
    trace_id: str | None = None


def _without(field: str) -> Callable[[dict[str, Any]], Any]:
    return lambda event: {key: value for key, value in event.items() if key != field}


# Ways in which a `malformed` scenario breaks a record: each breaks one rule of the contract.
MALFORMATIONS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a required field is missing": _without("request_id"),
    "not an object": lambda event: [event],
    "true for a time": lambda event: event | {"ended_at": True},
    "text for a time": lambda event: event | {"ended_at": "yesterday"},
    "a negative time": lambda event: event | {"ended_at": -1},
    "an empty request id": lambda event: event | {"request_id": ""},
    "a list for a request id": lambda event: event | {"request_id": [event["request_id"]]},
    "neither outcome nor status": _without("outcome"),
    "an unknown outcome": lambda event: event | {"outcome": "fine"},
    "an end in the far future": lambda event: event | {"ended_at": event["ended_at"] + 30 * DAY_MS},
    "cut off": lambda event: msgspec.Raw(msgspec.json.encode(event)[:-20]),
    "not UTF-8": lambda event: msgspec.Raw(b'{"request_id":"\xff\xfe"}'),
    "nested too deeply": lambda event: msgspec.Raw(b"[" * 300 + b"]" * 300),
    "empty": lambda event: msgspec.Raw(b""),
}


_SENT = attrgetter("send_at_ms")
_ENCODER = msgspec.json.Encoder()
_OUTCOME_NAMES = np.array(OUTCOMES, object)


class Traffic:
    """The records of a profile, a seed and a timeline.

    It keeps the records that it has drawn and not returned yet, so consecutive ranges are cheap.
    Raises TimelineError if the timeline does not fit the profile or has relative starts.
    """

    def __init__(self, profile: Profile, seed: int, timeline: Timeline = NOTHING_PLANNED) -> None:
        if seed < 0:
            raise ValueError(f"seed: got {seed}; use 0 or a positive whole number")
        names = profile.names()
        timeline.check_names(names)
        self.profile, self.seed, self.timeline = profile, seed, timeline
        self._spans = [(entry.start_ms, entry.end_ms) for entry in timeline.scenarios]
        self._population = Population(profile)
        self._names = {field: np.array(known, object) for field, known in names.items()}
        self._index = {
            field: {name: index for index, name in enumerate(known)}
            for field, known in names.items()
        }
        # The longest slot whose events a live sender can draw without a pause.
        self.slot_ms = next(
            (
                slot_ms
                for slot_ms in SLOT_CHOICES_MS
                if profile.events_per_s * slot_ms / 1000 <= SLOT_MAX_EVENTS
            ),
            SLOT_CHOICES_MS[-1],
        )
        # Slot of end -> slot of sending -> records.
        self._drawn: dict[int, dict[int, list[SimulatedRecord]]] = {}
        # Slot of sending, its records.
        self._newest: tuple[int, list[SimulatedRecord]] = (-1, [])

    def with_timeline(self, timeline: Timeline) -> "Traffic":
        """Return the same traffic with another timeline."""
        return Traffic(self.profile, self.seed, timeline)

    def records(self, from_ms: int, to_ms: int) -> Iterator[SimulatedRecord]:
        """Yield the records sent in [from_ms, to_ms), in the order of sending.

        The cuts between consecutive ranges do not change the records. There is no traffic before
        the epoch.
        """
        for slot in range(from_ms // self.slot_ms, -(-to_ms // self.slot_ms)):
            sent = self._slot_records(slot)
            first = bisect_left(sent, from_ms, key=_SENT)
            yield from sent[first : bisect_left(sent, to_ms, key=_SENT)]

    def _slot_records(self, slot: int) -> list[SimulatedRecord]:
        """Return the records sent in one slot, in order."""
        newest, sent = self._newest
        if slot == newest:
            return sent
        # The caller went back in time.
        if slot < newest:
            self._drawn.clear()  # its records were returned and dropped: draw them again
        start_ms = slot * self.slot_ms
        # Records sent in this slot may belong to requests of earlier slots.
        sources = set(range(max(0, (start_ms - TRANSIT_MAX_MS) // self.slot_ms), slot + 1))
        # Delays of several scenarios add up: a late record may also be sent twice.
        reach_ms = TRANSIT_MAX_MS + sum(entry.reach_ms for entry in self.timeline.scenarios)
        for entry, (begin_ms, end_ms) in zip(self.timeline.scenarios, self._spans, strict=True):
            if entry.reach_ms:
                first = max(begin_ms, start_ms - reach_ms, 0) // self.slot_ms
                sources.update(range(first, min((end_ms - 1) // self.slot_ms, slot) + 1))
        sent = []
        for source in sorted(sources):
            if source not in self._drawn:
                self._drawn[source] = self._draw(source)
            sent += self._drawn[source].get(slot, [])
        sent.sort(key=_SENT)
        # Keep only records for later slots, of slots from which later ones may still need records.
        self._drawn = {
            source: {later: kept for later, kept in parts.items() if later > slot}
            for source, parts in self._drawn.items()
            if source * self.slot_ms + reach_ms + 2 * self.slot_ms > start_ms
        }
        self._newest = (slot, sent)
        return sent

    def _draw(self, slot: int) -> dict[int, list[SimulatedRecord]]:
        """Draw the requests that end in a slot; return their records by slot of sending."""
        start_ms, end_ms = slot * self.slot_ms, (slot + 1) * self.slot_ms
        calm = self._generator(slot, CALM)
        count = int(calm.poisson(self._population.expected(start_ms, end_ms)))
        parts = [
            self._population.draw(calm, count, start_ms, end_ms),
            self._population.probes(self._generator(slot, PROBES), start_ms, end_ms),
        ]
        # The number of a scenario in the timeline seeds its generator.
        active = [
            (entry, self._generator(slot, FIRST_SCENARIO + number), max(begin_ms, start_ms), until)
            for number, (entry, (begin_ms, until)) in enumerate(
                zip(self.timeline.scenarios, self._spans, strict=True)
            )
            if begin_ms < end_ms and until > start_ms
        ]
        # Floods come after the calm requests, whose random draws thus stay the same.
        for entry, rng, begin_ms, until in active:
            if isinstance(entry, Flood):
                parts.append(self._flood(entry, rng, begin_ms, min(until, end_ms)))
        requests = Requests.joined(parts)
        for entry, rng, _, _ in active:
            if not isinstance(entry, Flood):
                draws = rng.random((len(requests), 2))
                entry.apply(requests, self._hit(entry, requests), draws)
        by_slot = defaultdict(list)
        for record in self._records_of(requests):
            by_slot[record.send_at_ms // self.slot_ms].append(record)
        return dict(by_slot)

    def _records_of(self, requests: Requests) -> Iterator[SimulatedRecord]:
        """Yield the records of these requests, with malformed and repeated ones."""
        ways = tuple(MALFORMATIONS.values())
        for record, draw, again_after_ms in zip(
            self._encode(requests),
            requests.broken.tolist(),
            requests.again_after_ms.tolist(),
            strict=True,
        ):
            # The draw selects one of the malformations.
            if draw >= 0:
                event = msgspec.json.decode(record.value)
                value = msgspec.json.encode(ways[int(draw * len(ways))](event))
                record = replaced(record, value=value)
            yield record
            if again_after_ms >= 0:
                yield replaced(record, send_at_ms=record.send_at_ms + again_after_ms)

    def _generator(self, slot: int, stream: int) -> np.random.Generator:
        # A seed for each slot and purpose: no draw depends on how many came before it.
        sequence = np.random.SeedSequence(self.seed, spawn_key=(slot, stream))
        return np.random.Generator(np.random.PCG64(sequence))

    def _flood(
        self, flood: Flood, rng: np.random.Generator, start_ms: int, end_ms: int
    ) -> Requests:
        rate_per_ms = flood.extra_ratio * self.profile.events_per_s / 1000
        count = int(rng.poisson(rate_per_ms * (end_ms - start_ms)))
        requests = self._population.draw(rng, count, start_ms, end_ms, self._filter_indices(flood))
        flood.refuse(requests, rng.random(count))
        return requests

    def _filter_indices(self, scenario: Scenario) -> dict[str, int]:
        """Return the names of the filter as indices, by event field."""
        named = scenario.where.model_dump(exclude_none=True)
        return {field: self._index[field][name] for field, name in named.items()}

    def _hit(self, scenario: Scenario, requests: Requests) -> Bools:
        """Mark the requests in the scenario's time and filter."""
        ended_at_ms = requests.ended_at_ms
        hit: Bools = (ended_at_ms >= scenario.start_ms) & (ended_at_ms < scenario.end_ms)
        for field, index in self._filter_indices(scenario).items():
            hit &= getattr(requests, field) == index
        return hit

    def _encode(self, requests: Requests) -> Iterator[SimulatedRecord]:
        """Yield one valid record for each request, in their order."""
        outcome, output = requests.outcome, requests.output_tokens
        answered = ~np.isin(outcome, REFUSED)
        # A timeout has no output and lasts until the gateway gives up.
        timed_out = outcome == TIMEOUT
        output = np.where(timed_out, 0, output)
        reasoning = np.where(timed_out, 0, requests.reasoning_tokens)
        ttft_ms = np.round(np.minimum(requests.ttft_ms, MAX_LATENCY_MS), 3)
        answer_ms = ttft_ms + requests.tpot_ms * np.maximum(output - 1, 0)
        answer_ms[timed_out] = TIMEOUT_MS
        # A request that never reached a model has a duration of its own.
        took_ms = np.where(
            answered, np.minimum(answer_ms, MAX_LATENCY_MS), requests.refused_after_ms
        )
        took_ms = np.round(took_ms, 3)
        # Only a stream shows when its first token came.
        first_token_seen = answered & ~timed_out & requests.stream
        reported = answered & requests.cache_reported
        ids = [f"req_{name}" for name in _hex(requests.identity[:, :12])]
        traces = np.array(_hex(requests.identity[:, 12:]), object)
        names = self._names
        events = map(
            _Wire,
            ids,
            requests.ended_at_ms.tolist(),
            names["model"][requests.model].tolist(),
            _OUTCOME_NAMES[outcome].tolist(),
            names["region"][requests.region].tolist(),
            names["channel"][requests.channel].tolist(),
            names["service_tier"][requests.service_tier].tolist(),
            requests.stream.tolist(),
            _present(names["customer_id"][requests.customer_id], requests.customer_id >= 0),
            _present(ttft_ms, first_token_seen),
            took_ms.tolist(),
            _present(requests.input_tokens, answered),
            _present(requests.cached_input_tokens, reported & ~requests.probe),
            _present(requests.cache_write_tokens, reported & (requests.cache_write_tokens > 0)),
            _present(output, answered),
            _present(reasoning, answered & (reasoning > 0)),
            requests.probe.tolist(),
            _present(traces, requests.traced),
        )
        return map(
            SimulatedRecord,
            map(str.encode, ids),
            map(_ENCODER.encode, events),
            requests.ended_at_ms.tolist(),
            (requests.ended_at_ms + requests.transit_ms).tolist(),
        )


def _hex(rows: np.typing.NDArray[np.uint8]) -> list[str]:
    """Return each row of bytes in hexadecimal."""
    # One conversion for all rows, instead of one for each.
    digits, width = rows.tobytes().hex(), 2 * rows.shape[1]
    return [digits[at : at + width] for at in range(0, len(digits), width)]


def _present(values: Any, where: Bools) -> list[Any]:
    """Return the values as a list, with None for those that are absent."""
    cells = values.astype(object)
    cells[~where] = None
    present: list[Any] = cells.tolist()
    return present

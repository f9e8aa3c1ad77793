"""Simulated traffic of an incident: real events, decoded and counted, laid end to end.

An incident is a row of phases. In a phase the faults stay the same, so five minutes of its events
are decoded and counted once, and their slices are repeated until the phase ends. Three healthy
days lie before each incident:

    -3 d ........................ -2 h ............ 0 ....... lasts_s ....... + recovery
    healthy, a slice each 5 min    healthy, a slice each 10 s, then the phases
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from alerts.backtest.recording import Recording
from alerts.backtest.run import thresholds
from alerts.backtest.stack import STEP_S, KeyedRows, SliceRows, joined
from slo.policy.policy import Policy
from streams.config.settings import Settings
from streams.state.histogram import BUCKET_BITS

START_S = 1_767_225_600  # of every incident: 2026-01-01T00:00:00Z
TILE_S = 300
_HOUR_S = 3_600  # of the counter's time, for each kind of traffic
_FINE_S, _HISTORY_S = 7_200, 3 * 86_400
MODELS = {"large": 0.5, "small": 0.3, "mini": 0.2}
REGIONS = {"eu": 0.5, "us": 0.35, "ap": 0.15}
WIDE_REGIONS = {"eu": 0.35, "us": 0.3, "ap": 0.15, "sa": 0.1, "af": 0.1}
# The largest customer sends a fifth of all requests.
CUSTOMERS = {"acme": 0.2, **{f"customer-{number}": 0.1 for number in range(8)}}
RATE = 20.0  # requests per second
# A fleet that meets its target of 99.9 % also fails now and then.
USUAL_FAILING = 0.0002


_ANSWER = {
    "outcome": "success",
    "stream": True,
    "ttft_ms": 200,
    "duration_ms": 3_170,  # 30 ms for each token after the first
    "input_tokens": 1_000,
    "cached_input_tokens": 500,
    "output_tokens": 100,
}
# What the requests that a fault hits are, and what is different in their answers.
_OUTCOMES: dict[str, dict[str, Any]] = {
    "failing": {"outcome": "server_error"},
    "timeout": {"outcome": "timeout"},
    "not_found": {"outcome": "client_error", "status_code": 404},
    "rate_limited": {"outcome": "rate_limited", "status_code": 429},
}
_ANSWERS: dict[str, dict[str, Any]] = {
    "slow": {"ttft_ms": 2_000, "duration_ms": 4_970},
    "slow_tokens": {"duration_ms": 10_100},
    "cold": {"cached_input_tokens": 0},
    "unreported": {"cached_input_tokens": None},
}


@dataclass(frozen=True, slots=True)
class Fault:
    """A change of a share of the requests of a place; empty names mean all."""

    kind: str  # a key of _OUTCOMES or _ANSWERS, ; "never" (sent) or "absent"
    share: float = 1.0
    model: str = ""
    region: str = ""
    customer: str = ""


@dataclass(frozen=True, slots=True)
class TrafficKind:
    """Traffic that stays the same."""

    faults: tuple[Fault, ...] = ()
    rate: float = RATE
    is_wide: bool = False  # five regions in place of three


def _events(traffic: TrafficKind, begin_s: int) -> list[dict[str, Any]]:
    """Return the events of one tile that begins at a second."""
    # The same names for all kinds of one rate, so that only the faults differ.
    random = np.random.default_rng(0)
    total = int(traffic.rate * TILE_S)
    names = {
        label: random.choice(list(shares), total, p=list(shares.values()))
        for label, shares in (
            ("model", MODELS),
            ("region", WIDE_REGIONS if traffic.is_wide else REGIONS),
            ("customer", CUSTOMERS),
        )
    }
    usual = Fault("failing", USUAL_FAILING)
    hits = {fault: _hits(fault, names, total) for fault in (*traffic.faults, usual)}
    events = []
    for at in range(total):
        kinds = {fault.kind for fault, hit in hits.items() if hit[at]}
        if kinds & {"absent", "never"}:
            continue
        event: dict[str, Any] = {
            "request_id": f"{begin_s}-{at}",
            "ended_at": begin_s * 1_000 + int(at * 1_000 / traffic.rate),
            "model": str(names["model"][at]),
            "region": str(names["region"][at]),
            "customer_id": str(names["customer"][at]),
        }
        outcome = next((_OUTCOMES[kind] for kind in _OUTCOMES if kind in kinds), None)
        if outcome is None:
            outcome = dict(_ANSWER)
            for kind in _ANSWERS.keys() & kinds:
                outcome |= _ANSWERS[kind]
            if outcome["cached_input_tokens"] is None:
                del outcome["cached_input_tokens"]
        event |= outcome
        events.append(event)
    return events


def _hits(fault: Fault, names: Mapping[str, Any], total: int) -> Any:
    """Return which requests a fault hits: exactly its share of the place, evenly spread."""
    is_there = np.ones(total, np.bool_)
    for label in ("model", "region", "customer"):
        name = getattr(fault, label)
        if name:
            is_there &= names[label] == name
    # A share of 0.05 hits each twentieth request of the place.
    before = np.floor(np.cumsum(is_there) * fault.share)
    return is_there & (np.diff(before, prepend=0.0) > 0)


class TrafficCounter:
    """Counts each kind of traffic once, in one registry of names."""

    def __init__(self, policies: Sequence[Policy], kinds: Sequence[TrafficKind]) -> None:
        self.settings = Settings()
        self.thresholds = thresholds(policies, self.settings.worker)
        self._recording = Recording(self.settings, self.thresholds, None)
        begins_s = {kind: START_S + at * _HOUR_S for at, kind in enumerate(dict.fromkeys(kinds))}
        for kind, begin_s in begins_s.items():
            events = [msgspec.json.encode(event) for event in _events(kind, begin_s)]
            self._recording.add(kind, [*events], None)
        # A rejected event would be missing traffic.
        assert not self._recording.refused
        rows = self._recording.read(START_S + len(begins_s) * _HOUR_S)
        self._recording.close()
        self.registry = self._recording.registry
        self._tiles = {
            kind: {
                name: _shift(part.select(part.starts_s // _HOUR_S == begin_s // _HOUR_S), -begin_s)
                for name, part in rows.items()
            }
            for kind, begin_s in begins_s.items()
        }

    def repeat(self, kind: TrafficKind, begin_s: int, end_s: int) -> list[SliceRows]:
        """Return the slices of a kind of traffic from one second to another."""
        tile = self._tiles[kind]
        return [
            {
                name: _shift(part.select(part.starts_s < end_s - at_s), at_s)
                for name, part in tile.items()
            }
            for at_s in range(begin_s, end_s, TILE_S)
        ]

    def history(self, kind: TrafficKind) -> list[SliceRows]:
        """Return three days until the start; only the last two hours are in fine slices."""
        tile = self._tiles[kind]
        whole = {}
        for name, part in tile.items():
            keys = part.keys
            if name == "cells":  # no percentile is read of them
                keys = keys >> BUCKET_BITS << BUCKET_BITS
            whole[name] = KeyedRows(part.starts_s * 0, keys, part.values).summed()
        starts_s = np.arange(START_S - _HISTORY_S, START_S - _FINE_S, TILE_S)
        early = {
            name: KeyedRows(
                np.repeat(starts_s, len(part.keys)),
                np.tile(part.keys, len(starts_s)),
                np.tile(part.values, (len(starts_s), *[1] * (part.values.ndim - 1))),
            )
            for name, part in whole.items()
        }
        return [early, *self.repeat(kind, START_S - _FINE_S, START_S)]


def _shift(part: KeyedRows, by_s: int) -> KeyedRows:
    return part._replace(starts_s=part.starts_s + by_s)


class TiledRecording(Recording):
    """The slices of one incident, as if its events had been recorded."""

    def __init__(self, counter: TrafficCounter, parts: Sequence[SliceRows], end_s: int) -> None:
        super().__init__(counter.settings, counter.thresholds, end_s)
        self.registry = counter.registry
        self.begin_s = self.first_s = START_S - _HISTORY_S
        self._rows: SliceRows = joined(parts)

    def read(self, until_s: int) -> SliceRows:
        """Return the rows of the slices that start before a second, each row once."""
        rows = self._rows
        self._rows = {name: part.select(part.starts_s >= until_s) for name, part in rows.items()}
        return {name: part.select(part.starts_s < until_s) for name, part in rows.items()}


assert TILE_S % STEP_S == 0

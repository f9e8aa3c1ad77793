"""The parsed events of a batch, one array a field, before they are judged.

Pure. Fields with few values are interned, so that they are judged once a value, not once an event.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from operator import attrgetter
from typing import Any

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_128_digest

from streams.events.faults import fault_bit, fault_bits
from streams.events.fields import FIELDS, LATENCY, NOT_MEASURED, OUTCOMES, TOKENS, outcome_of
from streams.events.parser import FieldFaults, Verdicts, events_of, time_ms

_CHUNK = 512  # events alive at a time: they stay in the core's cache until their columns are made


@dataclass(slots=True)
class Rows:
    """The parsed events of a batch, column by column, before they are judged as wholes."""

    position: npt.NDArray[np.int64]
    request: npt.NDArray[np.uint64]  # shape (n, 2)
    ended_at_ms: npt.NDArray[np.int64]  # or BAD_TIME, NO_DATE
    outcome: npt.NDArray[np.int8]  # or NO_OUTCOME, NO_MEANING
    kind: npt.NDArray[np.int32]  # index into `kinds`
    pair: npt.NDArray[np.int32]  # index into `pairs`
    numbers: dict[str, npt.NDArray[Any]]  # latencies and tokens; -1 if not known
    kinds: list[tuple[Any, ...]]  # distinct values of KIND_FIELDS
    pairs: list[tuple[Any, ...]]  # distinct values of _PAIR_FIELDS
    alive: npt.NDArray[np.bool_]  # not rejected yet
    faults: npt.NDArray[np.uint64]  # bits, see faults.py
    wrong: FieldFaults  # the same of the parser, with details
    verdicts: Verdicts

    def reject(
        self,
        bad: npt.NDArray[Any],
        reason: str,
        detail: str,
        amount: npt.NDArray[Any] | None = None,
    ) -> None:
        """Reject the rows of `bad` that are still alive.

        `amount`: one number a row, put where `detail` has its {}.
        """
        rows = np.flatnonzero(bad & self.alive)
        amounts = rows if amount is None else amount[rows]
        for position, shown in zip(self.position[rows].tolist(), amounts.tolist(), strict=True):
            self.verdicts[position] = reason, detail.format(shown)
        self.alive[rows] = False

    def mark(self, bad: npt.NDArray[np.bool_], field: str, reason: str) -> None:
        """Note a fault of the rows of `bad`."""
        if bad.any():
            self.faults[bad] |= fault_bit(field, reason)

    def forget(self, bad: npt.NDArray[np.bool_], field: str, reason: str) -> None:
        """Make a number of the rows of `bad` unknown, and note why."""
        if bad.any():
            self.mark(bad, field, reason)
            self.numbers[field][bad] = NOT_MEASURED

    def flag(self, name: str, value: object) -> npt.NDArray[np.bool_]:
        """Return the rows in which a field of KIND_FIELDS has this value."""
        at = KIND_FIELDS.index(name)
        return np.fromiter((kind[at] == value for kind in self.kinds), np.bool_)[self.kind]


NO_OUTCOME, NO_MEANING = -1, -2
_OUTCOME_INDEX: dict[str | None, int] = {outcome: at for at, outcome in enumerate(OUTCOMES)}
_OUTCOME_INDEX[None] = NO_OUTCOME
SUCCESS = _OUTCOME_INDEX["success"]
# Fields with few values are interned first and judged once a value.
SERIES_FIELDS = ("model", "region", "channel", "service_tier", "requested_service_tier")
LABEL_FIELDS = (*SERIES_FIELDS, "use_case")
KIND_FIELDS = (*LABEL_FIELDS, "stream", "probe", "estimated_tokens", "served_from")
_PAIR_FIELDS = ("customer_id", "model")
_get_kind, _get_pair = attrgetter(*KIND_FIELDS), attrgetter(*_PAIR_FIELDS)
_get_ended_at, _get_outcome = attrgetter("ended_at"), attrgetter("outcome")
_get_request = attrgetter("request_id")
_NUMBERS: dict[str, tuple[Callable[[Any], Any], Any, type]] = {
    field.name: (
        attrgetter(field.name),
        field.absent,
        np.float64 if field.kind is LATENCY else np.int64,
    )
    for field in FIELDS
    if field.kind in (LATENCY, TOKENS)
}


def parse_rows(
    records: Sequence[bytes], positions: npt.NDArray[np.int64], verdicts: Verdicts
) -> Rows:
    """Return every record that is JSON with the required fields, as columns."""
    kinds: defaultdict[Any, int] = defaultdict(count().__next__)
    pairs: defaultdict[Any, int] = defaultdict(count().__next__)
    faults: FieldFaults = {}
    chunks = []
    for start in range(0, max(len(records), 1), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        events, kept = events_of(records[chunk], positions[chunk], verdicts, faults)
        size = len(events)
        chunks.append(
            [
                kept,
                _hashes(events),
                _times(events),
                _outcomes(events),
                np.fromiter(map(kinds.__getitem__, map(_get_kind, events)), np.int32, size),
                np.fromiter(map(pairs.__getitem__, map(_get_pair, events)), np.int32, size),
                *(_numbers(events, *number) for number in _NUMBERS.values()),
            ]
        )
    position, request, ended_at_ms, outcome, kind, pair, *numbers = map(
        np.concatenate, zip(*chunks, strict=True)
    )
    bits = np.zeros(len(position), np.uint64)
    if faults:
        places = np.searchsorted(position, np.fromiter(faults, np.int64))
        bits[places] = [
            fault_bits((field, reason) for field, reason, _ in wrong) for wrong in faults.values()
        ]
    return Rows(
        position,
        request,
        ended_at_ms,
        outcome,
        kind,
        pair,
        dict(zip(_NUMBERS, numbers, strict=True)),
        list(kinds),
        list(pairs),
        np.ones(len(position), np.bool_),
        bits,
        faults,
        verdicts,
    )


def _hashes(events: Sequence[Any]) -> npt.NDArray[np.uint64]:
    try:
        digests = b"".join(map(xxh3_128_digest, map(str.encode, map(_get_request, events))))
    except TypeError:  # a number among them
        ids = [str(request_id).encode() for request_id in map(_get_request, events)]
        digests = b"".join(map(xxh3_128_digest, ids))
    return np.frombuffer(digests, np.uint64).reshape(-1, 2)


def _times(events: Sequence[Any]) -> npt.NDArray[np.int64]:
    given = list(map(_get_ended_at, events))
    if str in set(map(type, given)):
        given = [time if isinstance(time, int) else time_ms(time) for time in given]
    return np.fromiter(given, np.int64, len(given))


def _outcomes(events: Sequence[Any]) -> npt.NDArray[np.int8]:
    given = map(_OUTCOME_INDEX.__getitem__, map(_get_outcome, events))
    outcomes = np.fromiter(given, np.int8, len(events))
    for at in np.flatnonzero(outcomes == NO_OUTCOME).tolist():
        event = events[at]
        if event.status_code is not None:
            derived = outcome_of(event.status_code, event.error)
            outcomes[at] = _OUTCOME_INDEX[derived] if derived else NO_MEANING
    return outcomes


def _numbers(
    events: Sequence[Any], get: Callable[[Any], Any], absent: Any, to: type
) -> npt.NDArray[Any]:
    """Return one number of each event; `absent` for a null."""
    try:
        numbers: npt.NDArray[Any] = np.fromiter(map(get, events), to, len(events))
    except TypeError:  # a null among integers
        given = [absent if number is None else number for number in map(get, events)]
        return np.fromiter(given, to, len(given))
    if to is np.float64:
        numbers[np.isnan(numbers)] = absent  # a null; JSON has no NaN of its own
    return numbers

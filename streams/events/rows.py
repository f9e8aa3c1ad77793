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
from streams.events.fields import (
    ENDINGS,
    ERROR_CLASSES,
    FIELDS,
    LATENCY_KINDS,
    NOT_MEASURED,
    OUTCOMES,
    RARE_FIELDS,
    TOKEN_KINDS,
    end_of,
)
from streams.events.parser import FieldFaults, Verdicts, events_of, time_ms, usual_events

_CHUNK = 512  # events alive at a time: they stay in the core's cache until their columns are made


@dataclass(slots=True)
class Rows:
    """The parsed events of a batch, column by column, before they are judged as wholes."""

    position: npt.NDArray[np.int64]
    request: npt.NDArray[np.uint64]  # shape (n, 2)
    ended_at_ms: npt.NDArray[np.int64]  # or BAD_TIME, NO_DATE, TOO_EARLY
    outcome: npt.NDArray[np.int8]  # or NO_OUTCOME, NO_MEANING
    error_class: npt.NDArray[np.int8]  # index into ERROR_CLASSES; -1: none
    ending: npt.NDArray[np.int8]  # index into ENDINGS; -1: none
    kind: npt.NDArray[np.int32]  # index into `kinds`
    pair: npt.NDArray[np.int32]  # index into `pairs`
    numbers: dict[str, npt.NDArray[Any]]  # latencies and tokens; -1 if not known
    kinds: list[tuple[Any, ...]]  # distinct values of KIND_FIELDS
    pairs: list[tuple[Any, ...]]  # distinct values of _PAIR_FIELDS
    alive: npt.NDArray[np.bool_]  # not rejected yet
    faults: npt.NDArray[np.uint64]  # bits, see faults.py
    wrong: FieldFaults  # the same of the parser, with details
    verdicts: Verdicts
    has_rare: bool  # some event may have a field of RARE_FIELDS

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
        if name in RARE_FIELDS and not self.has_rare:
            return np.full(len(self.kind), _ABSENT[name] == value)
        at = KIND_FIELDS.index(name)
        return np.fromiter((kind[at] == value for kind in self.kinds), np.bool_)[self.kind]

    def ternary(self, name: str) -> npt.NDArray[np.int8]:
        """Return a flag of the usual KIND_FIELDS in each row: 1, 0, or -1 if it is not known."""
        at = KIND_FIELDS.index(name)
        return np.fromiter((_TERNARY[kind[at]] for kind in self.kinds), np.int8)[self.kind]


NO_OUTCOME, NO_MEANING = -1, -2
_OUTCOME_INDEX: dict[str | None, int] = {outcome: at for at, outcome in enumerate(OUTCOMES)}
_OUTCOME_INDEX[None] = NO_OUTCOME
SUCCESS, _CLIENT_ERROR = _OUTCOME_INDEX["success"], _OUTCOME_INDEX["client_error"]
_CLASS_INDEX: dict[str | None, int] = {name: at for at, name in enumerate(ERROR_CLASSES)}
_ENDING_INDEX: dict[str | None, int] = {name: at for at, name in enumerate(ENDINGS)}
_CLASS_INDEX[None] = _ENDING_INDEX[None] = -1
# Fields with few values are interned first and judged once a value.
SERIES_FIELDS = ("model", "region", "channel", "service_tier", "requested_service_tier")
LABEL_FIELDS = (*SERIES_FIELDS, "use_case")
_USUAL_KIND_FIELDS = (*LABEL_FIELDS, "stream", "probe")
_RARE_KIND_FIELDS = ("estimated_tokens", "served_from", "final")
KIND_FIELDS = (*_USUAL_KIND_FIELDS, *_RARE_KIND_FIELDS)
_TERNARY = {True: 1, False: 0, None: -1}
_ABSENT = {field.name: field.absent for field in FIELDS}
_RARE_KIND_ABSENT = tuple(_ABSENT[name] for name in _RARE_KIND_FIELDS)
_PAIR_FIELDS = ("customer_id", "model")
_END_FIELDS = ("outcome", "status_code", "error", "error_class", "ending")
_get_kind, _get_pair = attrgetter(*KIND_FIELDS), attrgetter(*_PAIR_FIELDS)
_get_usual_kind, _get_end = attrgetter(*_USUAL_KIND_FIELDS), attrgetter(*_END_FIELDS)
_get_ended_at, _get_outcome = attrgetter("ended_at"), attrgetter("outcome")
_get_request = attrgetter("request_id")
_NUMBERS: dict[str, tuple[Callable[[Any], Any], Any, type]] = {
    field.name: (
        attrgetter(field.name),
        field.absent,
        np.float64 if field.kind in LATENCY_KINDS else np.int64,
    )
    for field in FIELDS
    if field.kind in (*LATENCY_KINDS, *TOKEN_KINDS)
}


def parse_rows(
    records: Sequence[bytes], positions: npt.NDArray[np.int64], verdicts: Verdicts
) -> Rows:
    """Return every record that is JSON with the required fields, as columns."""
    kinds: defaultdict[Any, int] = defaultdict(count().__next__)
    pairs: defaultdict[Any, int] = defaultdict(count().__next__)
    faults: FieldFaults = {}
    has_rare, chunks = False, []
    for start in range(0, max(len(records), 1), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        events, kept = None if has_rare else usual_events(records[chunk]), positions[chunk]
        if events is None:
            # One producer usually sends the same fields in all its events, so that the rest of the
            # batch is not tried again.
            has_rare = True
            events, kept = events_of(records[chunk], kept, verdicts, faults)
        size = len(events)
        get_kind = _get_kind if has_rare else _get_usual_kind
        chunks.append(
            [
                kept,
                _hashes(events),
                _times(events),
                *(_ends(events, faults, kept) if has_rare else _usual_ends(events)),
                np.fromiter(map(kinds.__getitem__, map(get_kind, events)), np.int32, size),
                np.fromiter(map(pairs.__getitem__, map(_get_pair, events)), np.int32, size),
                *(
                    _numbers(events, *number)
                    if has_rare or name not in RARE_FIELDS
                    else np.full(size, number[1], number[2])
                    for name, number in _NUMBERS.items()
                ),
            ]
        )
    position, request, ended_at_ms, outcome, error_class, ending, kind, pair, *numbers = map(
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
        error_class,
        ending,
        kind,
        pair,
        dict(zip(_NUMBERS, numbers, strict=True)),
        [key if len(key) == len(KIND_FIELDS) else (*key, *_RARE_KIND_ABSENT) for key in kinds],
        list(pairs),
        np.ones(len(position), np.bool_),
        bits,
        faults,
        verdicts,
        has_rare,
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


def _usual_ends(events: Sequence[Any]) -> tuple[npt.NDArray[np.int8], ...]:
    """Return outcome, error class and ending of events without rare fields."""
    given = map(_OUTCOME_INDEX.__getitem__, map(_get_outcome, events))
    outcomes = np.fromiter(given, np.int8, len(events))
    classes, endings = np.full(len(events), -1, np.int8), np.full(len(events), -1, np.int8)
    # Only these two need the status.
    for at in np.flatnonzero((outcomes == NO_OUTCOME) | (outcomes == _CLIENT_ERROR)).tolist():
        event = events[at]
        outcomes[at], classes[at], _ = _end(
            event.outcome, event.status_code, event.error, None, None
        )
    return outcomes, classes, endings


def _ends(
    events: Sequence[Any], faults: FieldFaults, positions: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int8], ...]:
    """Return outcome, error class and ending of events; add classes that contradict to `faults`."""
    ends: defaultdict[Any, int] = defaultdict(count().__next__)
    end = np.fromiter(map(ends.__getitem__, map(_get_end, events)), np.int32, len(events))
    table = np.array([_end(*key) for key in ends], np.int8).reshape(-1, 3)
    outcomes, classes, endings = table[end].T
    # The class is then none, or that of the status: another than the one that was sent.
    sent = np.fromiter((_CLASS_INDEX[key[3]] for key in ends), np.int8)[end]
    contradicts = (sent >= 0) & (classes != sent)
    for position in positions[contradicts & (outcomes >= 0)].tolist():
        detail = "error_class: another outcome's"
        faults.setdefault(position, []).append(("error_class", "inconsistent", detail))
    return outcomes, classes, endings


def _end(
    given: str | None,
    status_code: int | None,
    error: str | None,
    error_class: str | None,
    ending: str | None,
) -> tuple[int, int, int]:
    """Return the numbers of outcome, error class and ending."""
    outcome, resolved = end_of(given, status_code, error, error_class, ending)
    number = _OUTCOME_INDEX[outcome]
    if outcome is None and status_code is not None:
        number = NO_MEANING
    return number, _CLASS_INDEX[resolved], _ENDING_INDEX[ending]


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

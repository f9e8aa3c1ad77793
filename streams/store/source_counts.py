"""The counts of the intake's sources in the last days, by slots of ten minutes of arrival.

Pure. All intakes of a topic add their counts up in one place, so that a source has one history
whichever process it sends to, and the exporter's numbers outlast its restarts.

    silence      last event |-------------------| now
    a day ago               |-------------------|      the events of this span are expected
    a week ago              |-------------------|      ... or of this one, if these are fewer

On its first day a source is compared with its own mean rate instead.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

SLOT_S = 600
DAY_S, WEEK_S = 86_400, 604_800
# The silence of a day, a week ago; and some slots for reports that come late.
KEEP_S = WEEK_S + DAY_S + 6 * SLOT_S
_SAME_TIME_S = (DAY_S, WEEK_S)
# On its first day a source is silent after this time, if it had sent for as long: whether it sends
# at night is not known yet.
FIRST_DAY_SILENCE_S = 3_600

# What is counted of a source. Successes are those that a provider answered and that are no probes.
RECORDS, EVENTS, REJECTED, SAMPLED = "records", "events", "rejected", "sampled"
SUCCESSES, WITH_USAGE = "successes", "with_usage"
UNREAD_SPANS = "unread_spans"  # by scope: spans that no profile of the source takes
_LAST_EVENT = "last_event"  # not a count: milliseconds since the Unix epoch
DECLARED = "declared"  # 1 in each slot in which the settings of an intake name the source


class SourceCount(NamedTuple):
    """Identifies a count."""

    kind: str
    source: str  # sender or topic: a name without the separator
    scope: str = ""  # of UNREAD_SPANS; of a last event, the intake that wrote it

    def field(self) -> str:
        """Return the name of the stored field."""
        return f"{self.kind}|{self.source}|{self.scope}"


class SourceReport(NamedTuple):
    """The counts to be added to one slot."""

    counts: Mapping[str, int]  # by stored field
    last_events_ms: Mapping[str, int]  # by source

    def fields(self, intake: str) -> dict[str, int]:
        """Return the stored fields of the last events that `intake` writes."""
        return {
            SourceCount(_LAST_EVENT, source, intake).field(): at_ms
            for source, at_ms in self.last_events_ms.items()
        }


class PendingCounts:
    """The counts of one intake that are not stored yet."""

    def __init__(self) -> None:
        self._counts: dict[int, Counter[str]] = {}
        # By slot and source. Those of the newest slots stay here, as an intake's clock may be set
        # back within a slot.
        self._last_ms: dict[int, dict[str, int]] = {}
        self._declared: tuple[int, set[str]] = 0, set()  # in the newest slot

    def declare(self, sources: Iterable[str], now_s: float) -> None:
        """Note once a slot which sources the settings name, whether or not they send."""
        slot = slot_of(now_s)
        if self._declared[0] != slot:
            self._declared = slot, set()
        for source in set(sources) - self._declared[1]:
            self._declared[1].add(source)
            self.add({SourceCount(DECLARED, source): 1}, now_s)

    def add(self, counts: Mapping[SourceCount, int], now_s: float) -> None:
        """Add counts of one source at `now_s`; events make it the time of its last one."""
        slot = slot_of(now_s)
        into = self._counts.setdefault(slot, Counter())
        for what, count in counts.items():
            if count:
                into[what.field()] += count
                if what.kind == EVENTS:
                    self._note_last(slot, {what.source: int(now_s * 1_000)})

    def _note_last(self, slot: int, last_ms: Mapping[str, int]) -> None:
        known = self._last_ms.setdefault(slot, {})
        for source, at_ms in last_ms.items():
            known[source] = max(known.get(source, 0), at_ms)

    def take(self) -> dict[int, SourceReport]:
        """Return all pending counts by slot, which are then no longer pending."""
        reports = {
            slot: SourceReport(counts, dict(self._last_ms.get(slot, {})))
            for slot, counts in self._counts.items()
            if counts
        }
        newest = max(self._last_ms, default=0)
        self._last_ms = {slot: ms for slot, ms in self._last_ms.items() if slot > newest - DAY_S}
        self._counts = {}
        return reports

    def give_back(self, reports: Mapping[int, SourceReport], now_s: float) -> None:
        """Add counts that could not be stored again, but for slots that are not kept any more."""
        for slot, (counts, last_ms) in reports.items():
            if slot >= slot_of(now_s - KEEP_S):
                self._counts.setdefault(slot, Counter()).update(counts)
                self._note_last(slot, last_ms)


def slot_of(at_s: float) -> int:
    """Return the start of the slot of an instant, in seconds since the Unix epoch."""
    return int(at_s // SLOT_S) * SLOT_S


class SourceHistory:
    """The counts of all sources, by slot."""

    def __init__(self) -> None:
        self._of_source: dict[str, dict[SourceCount, dict[int, int]]] = {}
        self._slots: set[int] = set()

    def put(self, slot: int, fields: Mapping[str, int]) -> None:
        """Take the stored fields of a slot in place of all that it had."""
        self._forget({slot})
        self._slots.add(slot)
        for field, count in fields.items():
            kind, _, rest = field.partition("|")
            source, _, scope = rest.partition("|")
            counts = self._of_source.setdefault(source, {})
            counts.setdefault(SourceCount(kind, source, scope), {})[slot] = count

    def forget_before(self, slot: int) -> None:
        """Forget the slots that begin before `slot`, and sources that then have none."""
        self._forget({old for old in self._slots if old < slot})

    def _forget(self, slots: set[int]) -> None:
        if self._slots.isdisjoint(slots):
            return
        self._slots -= slots
        for source, counts in list(self._of_source.items()):
            for what, by_slot in list(counts.items()):
                for slot in slots & by_slot.keys():
                    del by_slot[slot]
                if not by_slot:
                    del counts[what]
            if not counts:
                del self._of_source[source]

    def sources(self) -> list[str]:
        """Return the sources that have counts, in alphabetical order."""
        return sorted(self._of_source)

    def scopes(self, source: str) -> list[str]:
        """Return the scopes of the source's spans that no profile takes, in alphabetical order."""
        counts = self._of_source.get(source, {})
        return sorted(what.scope for what in counts if what.kind == UNREAD_SPANS)

    def total(self, what: SourceCount, span_s: int, now_s: float) -> int:
        """Return the count of the last `span_s`: of all slots that began in it."""
        by_slot = self._by_slot(what)
        first = slot_of(now_s - span_s) + SLOT_S
        # One slot more, as the clocks of intakes may be ahead.
        return sum(by_slot.get(slot, 0) for slot in range(first, int(now_s) + SLOT_S, SLOT_S))

    def since_s(self, what: SourceCount) -> int | None:
        """Return the start of the first slot that has the count."""
        return min(self._by_slot(what), default=None)

    def _by_slot(self, what: SourceCount) -> Mapping[int, int]:
        return self._of_source.get(what.source, {}).get(what, {})

    def last_event_s(self, source: str) -> float | None:
        """Return when Kafka confirmed the last event of a source, of all intakes."""
        counts = self._of_source.get(source, {})
        last_ms = [
            max(by_slot.values()) for what, by_slot in counts.items() if what.kind == _LAST_EVENT
        ]
        return max(last_ms) / 1_000 if last_ms else None

    def expected_events(self, source: str, now_s: float) -> float | None:
        """Return how many events the source would have sent since its last one.

        These are its events in the same span a day ago, or a week ago if those are fewer. If the
        silence is longer than a day, only its last day counts. If the source was first seen less
        than a day before, they follow from its mean rate, once it is silent for
        FIRST_DAY_SILENCE_S. None before that, and for a source that sent for less.
        """
        last_s, since_s = self.last_event_s(source), self.since_s(SourceCount(EVENTS, source))
        if last_s is None or since_s is None:
            return None
        from_s = max(last_s, now_s - DAY_S)
        known = [
            self._events(source, from_s - ago_s, now_s - ago_s)
            for ago_s in _SAME_TIME_S
            if since_s <= from_s - ago_s
        ]
        return min(known) if known else self._expected_on_first_day(source, since_s, last_s, now_s)

    def _expected_on_first_day(
        self, source: str, since_s: float, last_s: float, now_s: float
    ) -> float | None:
        """Return the events that a source without a known day would have sent in its silence."""
        sent_for_s, silent_for_s = last_s - since_s, now_s - last_s
        if min(sent_for_s, silent_for_s) < FIRST_DAY_SILENCE_S:
            return None
        return self._events(source, since_s, last_s) / sent_for_s * silent_for_s

    def never_seen(self, now_s: float) -> list[str]:
        """Return the sources that an intake names and that have sent nothing, in eight days.

        Only those named in the last hour: a source that was removed is not expected any more.
        """
        return [
            source
            for source in self.sources()
            if self.since_s(SourceCount(RECORDS, source)) is None
            and self.total(SourceCount(DECLARED, source), 3_600, now_s)
        ]

    def _events(self, source: str, from_s: float, to_s: float) -> float:
        """Return the events of a span, those of a slot spread evenly over it."""
        counts = self._by_slot(SourceCount(EVENTS, source))
        return sum(
            counts.get(slot, 0) * (min(to_s, slot + SLOT_S) - max(from_s, slot)) / SLOT_S
            for slot in range(slot_of(from_s), slot_of(to_s) + SLOT_S, SLOT_S)
            if min(to_s, slot + SLOT_S) > max(from_s, slot)
        )

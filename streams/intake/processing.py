"""The way of converted records to Kafka, shared by the HTTP server and the source topics.

The worker's decoder judges every event, so that a rejection and its fix are known here.
Rejected parts become dead letters in the same delivery as the events.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from streams.config.settings import Worker
from streams.intake.conversion import Converted, RejectedPart
from streams.intake.delivery import DeadLetter
from streams.intake.judgement import judge, without_horizon
from streams.intake.metrics import IntakeMetrics
from streams.intake.otlp.batch import OTHER_PROFILE, UNKNOWN_SCOPE
from streams.intake.otlp.batch import SAMPLED as SAMPLED_NOTE
from streams.kafka.dead_letters import DeadLetterHeaders
from streams.kafka.producer import Event, now_ms
from streams.state.limits import event_limits
from streams.store.source_counts import (
    EVENTS,
    RECORDS,
    REJECTED,
    SAMPLED,
    SUCCESSES,
    UNREAD_SPANS,
    WITH_USAGE,
    PendingCounts,
    SourceCount,
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where records come from, for the headers of their dead letters: one offset and time each."""

    topic: str
    partition: int
    offsets: Sequence[int]
    timestamps_ms: Sequence[int]


@dataclass(frozen=True, slots=True)
class Processed:
    """Records that are ready for Kafka."""

    events: list[Event]
    rejected: list[RejectedPart]
    letters: list[DeadLetter]
    successes: int  # events of answers by a provider, without probes
    with_usage: int  # of these, the ones whose input tokens are known


class Processor:
    """Judges events, writes dead letters, and counts the delivered records.

    `pending`: the counts for the stored history of the sources.
    """

    def __init__(self, worker: Worker, metrics: IntakeMetrics) -> None:
        self._limits = without_horizon(event_limits(worker))
        self._metrics = metrics
        self.pending = PendingCounts()

    def process(self, converted: Converted, origin: Origin) -> Processed:
        """Return the events with their keys, and the dead letters of the rejected parts."""
        judged = judge(converted.events, now_ms(), self._limits)
        rejected = list(converted.rejected)
        for position, reason, detail, fix in judged.rejected:
            place, value = converted.places[position], converted.events[position]
            # Broker and dead-letter topic have limits, too: such a record is not sent on.
            is_small = len(value) <= self._limits.max_event_bytes
            rejected.append(RejectedPart(place, reason, detail, fix, value if is_small else None))
        rejected.sort(key=lambda part: part.place)
        return Processed(
            judged.events,
            rejected,
            [_letter(part, origin) for part in rejected],
            judged.successes,
            judged.with_usage,
        )

    def count(self, source: str, records: int, converted: Converted, processed: Processed) -> None:
        """Count records whose events Kafka has confirmed."""
        metrics = self._metrics
        metrics.records.labels(source).inc(records)
        metrics.spans.labels(source).inc(converted.spans)
        metrics.events.labels(source).inc(len(processed.events))
        if processed.events:
            metrics.last_event.labels(source).set_to_current_time()
        for reason, count in Counter(part.reason for part in processed.rejected).items():
            metrics.rejected.labels(source, reason).inc(count)
        for (reason, scope), count in converted.skipped.items():
            metrics.count_skipped(source, reason, scope, count)
        for (note, scope), count in converted.notes.items():
            metrics.count_note(source, note, scope, count)
        self.pending.add(
            self._history_counts(source, records, converted, processed), now_ms() / 1_000
        )

    def _history_counts(
        self, source: str, records: int, converted: Converted, processed: Processed
    ) -> Counter[SourceCount]:
        sampled = sum(count for (note, _), count in converted.notes.items() if note == SAMPLED_NOTE)
        counts = Counter(
            {
                SourceCount(RECORDS, source): records,
                SourceCount(EVENTS, source): len(processed.events),
                SourceCount(REJECTED, source): len(processed.rejected),
                SourceCount(SAMPLED, source): sampled,
                SourceCount(SUCCESSES, source): processed.successes,
                SourceCount(WITH_USAGE, source): processed.with_usage,
            }
        )
        for (reason, scope), count in converted.skipped.items():
            if reason in (UNKNOWN_SCOPE, OTHER_PROFILE):
                scope = self._metrics.scope_label(reason, scope)
                counts[SourceCount(UNREAD_SPANS, source, scope)] += count
        return counts


def _letter(part: RejectedPart, origin: Origin) -> DeadLetter:
    record, number = part.place
    headers = DeadLetterHeaders(
        # Parts of one record share its offset: the number keeps them apart.
        f"{origin.topic}#{number}" if number else origin.topic,
        origin.partition,
        origin.offsets[record],
        origin.timestamps_ms[record],
        part.reason,
        part.detail,
        has_value=part.value is not None,
    )
    return DeadLetter(headers, None, part.value)

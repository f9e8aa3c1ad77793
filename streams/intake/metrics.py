"""The metrics of one intake process, at its own `/metrics`.

The label `source` is the name of the sender, from the file of the tokens, or the source topic.
"""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

# Names of scopes and routes come from senders: more of them count under `__other__`.
MOST_SCOPES = 200
OTHER = "__other__"
_SCOPE_LENGTH = 100
_PREFIX = "tokenpulse_intake_"
# Names that alert rules read.
ANSWERS_TOTAL = f"{_PREFIX}answers_total"
UNDELIVERED_TOTAL = f"{_PREFIX}undelivered_total"
EVENTS_TOTAL = f"{_PREFIX}events_total"
WAITING_FOR_SCHEMA = f"{_PREFIX}waiting_for_schema"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class IntakeMetrics:
    """Counters of one process; they start at zero with it."""

    def __init__(self, in_flight_bytes: Callable[[], int]) -> None:
        # The default registry would add metrics of Python and of the process.
        self.registry = CollectorRegistry()
        self._scopes: set[tuple[str, str]] = set()
        self.answers = self._counter(ANSWERS_TOTAL, "Requests by status of the answer", "code")
        self.undelivered = self._counter(
            UNDELIVERED_TOTAL,
            "Requests answered with 503 as Kafka did not confirm their events, or no room was left",
        )
        self.records = self._counter(
            f"{_PREFIX}records_total", "Records received, before they became events"
        )
        self.spans = self._counter(f"{_PREFIX}spans_total", "Spans in the records received")
        self.events = self._counter(EVENTS_TOTAL, "Events that Kafka confirmed")
        self.rejected = self._counter(
            f"{_PREFIX}rejected_total", "Parts of records that cannot be counted", "reason"
        )
        self.skipped = self._counter(
            f"{_PREFIX}skipped_total",
            "Parts of records that are no request, by the scope that they name",
            "reason",
            "scope",
        )
        self.notes = self._counter(
            f"{_PREFIX}notes_total",
            "Events that count less surely than usual, and why",
            "note",
            "scope",
        )
        self.last_event = Gauge(
            f"{_PREFIX}last_event_timestamp_seconds",
            "Time at which Kafka last confirmed an event, in seconds since the epoch",
            ["source"],
            registry=self.registry,
        )
        self.lag = Gauge(
            f"{_PREFIX}lag_records",
            "Records of a source topic that are not events yet",
            ["source", "partition"],
            registry=self.registry,
        )
        self.waiting = Gauge(
            WAITING_FOR_SCHEMA,
            "1 if a partition of a source topic waits for the schema of its records, else 0",
            ["source", "partition"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            f"{_PREFIX}answer_seconds",
            "Time from the first byte of a request to its answer",
            ["source"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.delay = Histogram(
            f"{_PREFIX}delay_seconds",
            "Age of the oldest record of a batch of a source topic when Kafka confirmed its events",
            ["source"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        in_flight = Gauge(
            f"{_PREFIX}in_flight_bytes",
            "Bytes of requests that are not answered, or not confirmed by Kafka",
            registry=self.registry,
        )
        in_flight.set_function(in_flight_bytes)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, ["source", *labels], registry=self.registry)

    def count_skipped(self, source: str, reason: str, scope: str, count: int) -> None:
        """Count parts of records that are no request."""
        self.skipped.labels(source, reason, self.scope_label(reason, scope)).inc(count)

    def count_note(self, source: str, note: str, scope: str, count: int) -> None:
        """Count events that count less surely than usual."""
        self.notes.labels(source, note, self.scope_label(note, scope)).inc(count)

    def scope_label(self, reason: str, scope: str) -> str:
        """Return the label of a scope; the same one for all scopes beyond MOST_SCOPES."""
        if (reason, scope) not in self._scopes:
            if len(self._scopes) >= MOST_SCOPES:
                return OTHER
            self._scopes.add((reason, scope))
        return scope[:_SCOPE_LENGTH]

    def page(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        return generate_latest(self.registry)

"""The metrics about the sources of the intake. A part of the catalogue."""

from exporters.catalogue.spec import MetricGroup, Spec

_PER_WINDOW = ("source", "window")
SOURCE_SINCE = Spec(
    "tokenpulse_source_since_timestamp_seconds",
    "gauge",
    "Start of the first ten minutes in which a source sent a record.",
    ("source",),
    "Of the last eight days, which are stored.",
    "0.2.0",
)
SOURCE_LAST_EVENT = Spec(
    "tokenpulse_source_last_event_timestamp_seconds",
    "gauge",
    "Time at which Kafka confirmed the last event of a source.",
    ("source",),
    "Absent if it had none in eight days.",
    "0.2.0",
)
SOURCE_NEVER_SEEN = Spec(
    "tokenpulse_source_never_seen",
    "gauge",
    "1 for a source that the settings of an intake name, and that has sent nothing.",
    ("source",),
    "Senders of `intake.tokens_file` and topics of `intake.sources`, in the last eight days. No "
    "alert: it may be meant for later.",
    "0.2.0",
)
SOURCE_EXPECTED = Spec(
    "tokenpulse_source_expected_events",
    "gauge",
    "Events that a source would have sent since its last one: as many as in the same time of the "
    "day before, or of the week before if that is less.",
    ("source",),
    "Near 0 while events arrive. If it rises, the source is silent at a time at which it usually "
    "sends. On the first day of a source: by its mean rate, after an hour of silence, if it had "
    "sent for an hour. 0 after two days of silence.",
    "0.2.0",
)
SOURCE_RECORDS = Spec(
    "tokenpulse_source_records",
    "gauge",
    "Records of a source in a window of arrival.",
    _PER_WINDOW,
    "A record of OTLP has many spans; the skipped ones are at `/metrics` of the intake.",
    "0.2.0",
)
SOURCE_EVENTS = Spec(
    "tokenpulse_source_events",
    "gauge",
    "Events of a source that Kafka confirmed in a window of arrival.",
    _PER_WINDOW,
    "An event that was sent twice counts twice here, and once in the numbers of requests.",
    "0.2.0",
)
SOURCE_REJECTED = Spec(
    "tokenpulse_source_rejected",
    "gauge",
    "Parts of a source's records that cannot be counted, in a window of arrival.",
    _PER_WINDOW,
    "They are on the dead-letter topic.",
    "0.2.0",
)
SOURCE_SUCCESSES = Spec(
    "tokenpulse_source_successes",
    "gauge",
    "Events of answers by a provider, without probes, in a window of arrival.",
    _PER_WINDOW,
    "These can have usage.",
    "0.2.0",
)
SOURCE_WITH_USAGE = Spec(
    "tokenpulse_source_successes_with_usage",
    "gauge",
    "Of the successes of a source, those whose input tokens are known.",
    _PER_WINDOW,
    "If it falls against the successes, the source stopped sending usage.",
    "0.2.0",
)
SOURCE_SAMPLED = Spec(
    "tokenpulse_source_sampled_events",
    "gauge",
    "Events from traces of which a sampler dropped spans, in a window of arrival.",
    _PER_WINDOW,
    "Must be 0: counts of requests and tokens are too small.",
    "0.2.0",
)
SOURCE_UNREAD_SPANS = Spec(
    "tokenpulse_source_unread_spans",
    "gauge",
    "Spans of a scope that no profile of the source takes, in a window of arrival.",
    ("source", "span_scope", "window"),
    "Usual for scopes of databases and HTTP. Requests in such spans are not counted.",
    "0.2.0",
)
SOURCE_SCOPE_SINCE = Spec(
    "tokenpulse_source_unread_scope_since_timestamp_seconds",
    "gauge",
    "Start of the first ten minutes with spans of a scope that no profile of the source takes.",
    ("source", "span_scope"),
    "Of the last eight days. A new one may be a producer that was updated or replaced.",
    "0.2.0",
)

SOURCES = MetricGroup(
    "Sources",
    "What the sources of the intake sent, by the name of the sender or the source topic. All "
    "intakes of a topic are added up, and no restart resets them. A window of arrival begins at a "
    "full ten minutes: `1h` and `24h` hold the last 6 and 144 of them, the present one included. "
    "Absent without an intake.",
    (
        SOURCE_SINCE,
        SOURCE_LAST_EVENT,
        SOURCE_NEVER_SEEN,
        SOURCE_EXPECTED,
        SOURCE_RECORDS,
        SOURCE_EVENTS,
        SOURCE_REJECTED,
        SOURCE_SUCCESSES,
        SOURCE_WITH_USAGE,
        SOURCE_SAMPLED,
        SOURCE_UNREAD_SPANS,
        SOURCE_SCOPE_SINCE,
    ),
)

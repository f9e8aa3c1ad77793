"""All published metrics. Dashboards, rules, docs and tests take their names from here.

Pure declarations; pipeline.py has those about Tokenpulse itself. Names follow Prometheus' rules:
prefix, subject, base unit; `_total` for counters, `_timestamp_seconds` for instants, ratios from 0
to 1. A metric can be added up over all its labels, so token types and outcomes exclude one another.

document.py generates docs/metrics.md from here.
"""

from itertools import chain

from exporters.catalogue.cost import MONEY
from exporters.catalogue.counters import COUNTER_SPECS, WINDOW_COUNTER_SPECS
from exporters.catalogue.latencies import (
    FLEET_HISTOGRAM,
    REQUEST_HISTOGRAMS,
    WINDOW_QUANTILES,
    WINDOW_SAMPLES,
)
from exporters.catalogue.objectives import OBJECTIVES
from exporters.catalogue.pipeline import EXPORTER, PIPELINE
from exporters.catalogue.sources import SOURCES
from exporters.catalogue.spec import SERIES_LABELS, WINDOW_LABELS, MetricGroup, Spec
from streams.config.latency import Latency

UNKNOWN_INPUT = "unknown_input"  # input of which it is not known how much was cached
TOKEN_TYPES = ("uncached_input", "cached_input", "output", UNKNOWN_INPUT)
INPUT_TOKEN_TYPES = ("uncached_input", "cached_input", UNKNOWN_INPUT)

# The default is an example: the settings of an exporter are not known here.
_APART_TIERS = sorted(Latency().apart_tiers)
_APART = ", ".join(f"`{tier}`" for tier in _APART_TIERS)
_APART_PATTERN = "|".join(_APART_TIERS)

# -- totals ----------------------------------------------------------------------------------------

REQUESTS_TOTAL = Spec(
    "tokenpulse_requests_total",
    "counter",
    "Finished requests, without probes.",
    (*SERIES_LABELS, "outcome"),
    "Traffic and errors over any range that Prometheus keeps.",
)
PROBES_TOTAL = Spec(
    "tokenpulse_probes_total",
    "counter",
    "Synthetic checks; they count for availability, not for tokens or latency.",
    (*SERIES_LABELS, "outcome"),
    "Only series with at least one probe have it.",
)
COUNTED_TOTAL = Spec(
    "tokenpulse_counted_total",
    "counter",
    "Finished requests and probes of all series.",
    (),
    "Beside the rejected records. It stays on a page that leaves out names, and is always there "
    "once the state is read.",
    "0.2.0",
)
TOKENS_TOTAL = Spec(
    "tokenpulse_tokens_total",
    "counter",
    "Tokens processed: uncached input, input read from the cache, and output (including "
    "reasoning).",
    (*SERIES_LABELS, "type"),
    "The types exclude one another. Their sum is all tokens; cached_input / (cached_input + "
    "uncached_input) is the cache hit ratio. Input whose cached part is not known has the type "
    "unknown_input, which is absent at 0.",
)
ESTIMATED_TOKENS_TOTAL = Spec(
    "tokenpulse_estimated_tokens_total",
    "counter",
    "Tokens of requests whose token counts are estimates.",
    SERIES_LABELS,
    "The part of tokenpulse_tokens_total that no provider has counted.",
    "0.2.0",
)
RESPONSE_CACHE_TOTAL = Spec(
    "tokenpulse_response_cache_total",
    "counter",
    "Successes that a gateway answered from its cache of whole answers.",
    SERIES_LABELS,
    "No model served these requests: they count for availability, not for tokens or latency.",
    "0.2.0",
)
CACHE_WRITE_TOKENS_TOTAL = Spec(
    "tokenpulse_cache_write_tokens_total",
    "counter",
    "Tokens written to the prompt cache.",
    SERIES_LABELS,
    "The cost of caching. Not an additional part of tokenpulse_tokens_total, which has these "
    "tokens as input.",
)
REASONING_TOKENS_TOTAL = Spec(
    "tokenpulse_reasoning_tokens_total",
    "counter",
    "Output tokens that were spent on reasoning.",
    SERIES_LABELS,
    'A part of tokenpulse_tokens_total{type="output"}.',
)
WITHIN_TARGET_TOTAL = Spec(
    "tokenpulse_latency_within_target_total",
    "counter",
    "Requests at or under a latency target, counted exactly.",
    (*SERIES_LABELS, "latency", "target_seconds"),
    "The good events of a latency objective, independent of histogram buckets. Leave out the same "
    "tiers as in tokenpulse_latency_measured_total.",
)
MEASURED_TOTAL = Spec(
    "tokenpulse_latency_measured_total",
    "counter",
    "Requests whose latency is known.",
    (*SERIES_LABELS, "latency"),
    "All events of a latency objective, whatever its target. Percentiles and objectives of several "
    f"tiers are without those of `latency.apart_tiers` (default: {_APART}), so select "
    f'service_tier!~"{_APART_PATTERN}" before you add up tiers.',
)
REFUSED_TOTAL = Spec(
    "tokenpulse_refused_total",
    "counter",
    "Rejected records, which are in the dead-letter topic, by reason.",
    ("reason",),
    "If it rises, a producer breaks the event contract (docs/events.md).",
)
DUPLICATES_TOTAL = Spec(
    "tokenpulse_duplicates_total",
    "counter",
    "Records that were not counted, because a record with the same request_id was counted shortly "
    "before.",
    (),
    "Producers that send records again. A jump: a producer restarted, or records are mirrored "
    "twice.",
)
FIELD_REJECTED_TOTAL = Spec(
    "tokenpulse_field_rejected_total",
    "counter",
    "Wrong fields of records that were counted, by field and reason.",
    ("field", "reason"),
    "The request counts for all measures that do not need the field. Reason `renamed`: the value "
    "was changed; `suspicious`: it was kept. The cost of each field: docs/events.md. Absent until "
    "it occurs.",
    "0.2.0",
)
FOLDED_TOTAL = Spec(
    "tokenpulse_folded_total",
    "counter",
    "Events counted under __other__, because a dimension has too many distinct values.",
    ("dimension",),
    "Raise worker.limits, or find the producer that invents names.",
)

# -- windows ---------------------------------------------------------------------------------------

WITHIN_TARGET_RATIO = Spec(
    "tokenpulse_within_target_ratio",
    "gauge",
    "Share of measured requests at or under a latency target in a window, counted exactly.",
    (*WINDOW_LABELS, "latency", "target_seconds"),
    "After a target was added: only over the part of the window that was counted with it.",
)
CACHE_HIT_RATIO = Spec(
    "tokenpulse_cache_hit_ratio",
    "gauge",
    "Share of the input tokens in a window that were read from the cache, among the requests "
    "whose cached tokens are known.",
    WINDOW_LABELS,
    "A ratio of sums; tokenpulse_known_ratio shows how much is known. 0.4 to 0.6 is best in "
    "class, below 0.3 is a failure.",
)
WINDOW_INPUT_TOKENS = Spec(
    "tokenpulse_window_input_tokens",
    "gauge",
    "Input tokens in a window of the requests whose cached tokens are known, cached ones included: "
    "the denominator of the cache hit ratio.",
    WINDOW_LABELS,
    "Number of tokens behind the ratio.",
)
KNOWN_RATIO = Spec(
    "tokenpulse_known_ratio",
    "gauge",
    "Share of the requests or tokens in a window for which a measure is known.",
    (*WINDOW_LABELS, "measure"),
    "Label `measure`: tokens: successes with input tokens; cached_input: input tokens whose "
    "cached part is known; ttft: streamed successes with a TTFT (not for customers). Near 0, the "
    "measure is based on few requests.",
    "0.2.0",
)
AVAILABILITY_RATIO = Spec(
    "tokenpulse_availability_ratio",
    "gauge",
    "Share of successes among the requests and probes in a window that count for availability.",
    WINDOW_LABELS,
    "Rate-limited, client-error and cancelled requests do not count. Customers: without probes.",
)
WINDOW_ELIGIBLE_REQUESTS = Spec(
    "tokenpulse_window_eligible_requests",
    "gauge",
    "Requests and probes behind the availability ratio of a window.",
    WINDOW_LABELS,
    "Number of requests behind the ratio.",
)
WINDOW_REQUESTS = Spec(
    "tokenpulse_window_requests",
    "gauge",
    "Requests in a window by outcome, without probes.",
    (*WINDOW_LABELS, "outcome"),
    "Absent if there was none. The lag shows whether that is because of no traffic or a stuck "
    "pipeline.",
)
FAILING_CUSTOMERS = Spec(
    "tokenpulse_window_failing_customers",
    "gauge",
    "Customers with at least one failed request in a window, of those that availability counts.",
    WINDOW_LABELS,
    "Who is affected, in alert messages. Only scope fleet, as customers are not counted by region. "
    "Customers beyond worker.limits count as one.",
    "0.2.0",
)
WINDOW_TOKENS = Spec(
    "tokenpulse_window_tokens",
    "gauge",
    "Tokens in a window; the types exclude one another.",
    (*WINDOW_LABELS, "type"),
    "See tokenpulse_tokens_total.",
)
WINDOW_CACHE_WRITE_TOKENS = Spec(
    "tokenpulse_window_cache_write_tokens",
    "gauge",
    "Tokens written to the prompt cache in a window.",
    WINDOW_LABELS,
    "Writes without later hits are a cost without benefit.",
)
WINDOW_REASONING_TOKENS = Spec(
    "tokenpulse_window_reasoning_tokens",
    "gauge",
    "Output tokens spent on reasoning in a window.",
    WINDOW_LABELS,
    "A part of the output tokens.",
)
WINDOW_START = Spec(
    "tokenpulse_window_start_timestamp_seconds",
    "gauge",
    "Start of a window, in event time.",
    ("window",),
    "Moves in steps of the resolution that is still kept there.",
)
WINDOW_COVERAGE = Spec(
    "tokenpulse_window_coverage_ratio",
    "gauge",
    "Share of a window that lies after the first event in the state.",
    ("window",),
    "Below 1 the window is not full yet: two days of data say little about 30 days.",
)
WINDOW_COMPLETE = Spec(
    "tokenpulse_window_complete",
    "gauge",
    "0 if records of a window are known to be missing or are older than the state, else 1.",
    ("window",),
    "At 0 every number of that window covers only a part of the traffic. Records that wait in "
    "Kafka are not missing: the lag counts them.",
)

GROUPS = (
    MetricGroup(
        "Totals",
        "Counters from the state in Redis. A restart of an exporter does not reset them. Two "
        "exporters show the same values, so add up those of one exporter only. They restart "
        "at 0 only if the state is rebuilt.",
        (
            REQUESTS_TOTAL,
            PROBES_TOTAL,
            COUNTED_TOTAL,
            TOKENS_TOTAL,
            CACHE_WRITE_TOKENS_TOTAL,
            REASONING_TOKENS_TOTAL,
            ESTIMATED_TOKENS_TOTAL,
            RESPONSE_CACHE_TOTAL,
            *COUNTER_SPECS,
            WITHIN_TARGET_TOTAL,
            MEASURED_TOTAL,
            REFUSED_TOTAL,
            DUPLICATES_TOTAL,
            FIELD_REJECTED_TOTAL,
            FOLDED_TOTAL,
        ),
    ),
    MetricGroup(
        "Histograms",
        "The names `gen_ai_...` are those of the OpenTelemetry GenAI conventions (1.41.1), with "
        "their bucket "
        "edges and further edges around each configured target. The counts come from the state, "
        "as the totals do. If a target is changed they restart at 0. The label `region` is an "
        "addition. In OpenMetrics a bucket may have an exemplar: the `trace_id` of a recent "
        "request in it, if events contain one. Exemplars are a sample, at most 200 per partition, "
        "kept by the workers while they run.",
        (*REQUEST_HISTOGRAMS.values(), FLEET_HISTOGRAM),
    ),
    MetricGroup(
        "Windows",
        "Sums over a span of event time that ends now: rolling (`1m` to `30d`), or the calendar "
        "`day` and `month` so far. Alerts read these for two reasons: a pipeline that catches up "
        "after an outage does not look like a burst of errors, and 30 days are available even if "
        "Prometheus is empty. Percentiles cannot be averaged, so read the scope you need. A "
        "sample has only the labels that name its scope. An unknown value is absent, never 0 and "
        "never NaN.",
        (
            *WINDOW_QUANTILES.values(),
            *WINDOW_SAMPLES.values(),
            WITHIN_TARGET_RATIO,
            CACHE_HIT_RATIO,
            WINDOW_INPUT_TOKENS,
            KNOWN_RATIO,
            AVAILABILITY_RATIO,
            WINDOW_ELIGIBLE_REQUESTS,
            WINDOW_REQUESTS,
            FAILING_CUSTOMERS,
            WINDOW_TOKENS,
            WINDOW_CACHE_WRITE_TOKENS,
            WINDOW_REASONING_TOKENS,
            *WINDOW_COUNTER_SPECS,
            WINDOW_START,
            WINDOW_COVERAGE,
            WINDOW_COMPLETE,
        ),
    ),
    MONEY,
    OBJECTIVES,
    PIPELINE,
    SOURCES,
    EXPORTER,
)
SPECS = tuple(chain.from_iterable(group.specs for group in GROUPS))

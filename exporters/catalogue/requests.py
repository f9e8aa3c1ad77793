"""Every metric we publish, declared once. Dashboards, rules, docs and tests take names from here.

Pure declarations; those about Tokenpulse itself are in pipeline.py. Names follow
Prometheus' rules: prefix, subject, base unit; `_total` for counters, `_timestamp_seconds` for
points in time, ratios from 0 to 1. Adding up a metric over all its labels makes sense, so token
types and outcomes exclude one another.

docs/metrics.md is generated from here (document.py).
"""

from itertools import chain

from exporters.catalogue.cost import MONEY
from exporters.catalogue.objectives import OBJECTIVES
from exporters.catalogue.pipeline import EXPORTER, PIPELINE
from exporters.catalogue.spec import MetricGroup, Spec

SERIES_LABELS = ("model", "region", "channel", "service_tier")
GEN_AI_LABELS = (
    *("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"),
    "region",
)
# A window's samples carry `scope`, `window` and of the others only those that name their scope.
SCOPE_LABELS = {
    "fleet": (),
    "model": ("model",),
    "region": ("region",),
    "channel": ("channel",),
    "service_tier": ("service_tier",),
    "series": SERIES_LABELS,
    "customer": ("customer", "segment"),
}
WINDOW_LABELS = ("scope", "window", *SERIES_LABELS, "customer", "segment")
TOKEN_TYPES = ("uncached_input", "cached_input", "output")

# -- totals ----------------------------------------------------------------------------------------

REQUESTS_TOTAL = Spec(
    "tokenpulse_requests_total",
    "counter",
    "Finished requests, probes not included.",
    (*SERIES_LABELS, "outcome"),
    "Traffic and errors over any range that Prometheus keeps.",
)
PROBES_TOTAL = Spec(
    "tokenpulse_probes_total",
    "counter",
    "Synthetic checks; they count for availability, not for tokens or latency.",
    (*SERIES_LABELS, "outcome"),
    "Only series that were ever probed have it.",
)
TOKENS_TOTAL = Spec(
    "tokenpulse_tokens_total",
    "counter",
    "Tokens processed: input read fresh, input read from the cache, output (reasoning included).",
    (*SERIES_LABELS, "type"),
    "The types exclude one another: their sum is what was processed, and cached_input over "
    "cached_input + uncached_input is the cache hit ratio.",
)
CACHE_WRITE_TOKENS_TOTAL = Spec(
    "tokenpulse_cache_write_tokens_total",
    "counter",
    "Tokens written to the prompt cache.",
    SERIES_LABELS,
    "What caching costs; not part of tokenpulse_tokens_total, which has these tokens as input.",
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
    "The good events of a latency objective; no bucket edge blurs it.",
)
MEASURED_TOTAL = Spec(
    "tokenpulse_latency_measured_total",
    "counter",
    "Requests whose latency is known.",
    (*SERIES_LABELS, "latency"),
    "All events of a latency objective, whatever its target.",
)
REFUSED_TOTAL = Spec(
    "tokenpulse_refused_total",
    "counter",
    "Records refused and put on the dead-letter topic, by reason.",
    ("reason",),
    "Anything but a flat line is a producer that breaks the event contract (docs/events.md).",
)
DUPLICATES_TOTAL = Spec(
    "tokenpulse_duplicates_total",
    "counter",
    "Records not counted, as a record with the same request_id was counted shortly before.",
    (),
    "Producers that send again. A jump: a producer restarted, or records are mirrored twice.",
)
FOLDED_TOTAL = Spec(
    "tokenpulse_folded_total",
    "counter",
    "Events counted under __other__, as a dimension has too many distinct values.",
    ("dimension",),
    "Raise worker.limits, or find who invents names.",
)

# -- histograms ------------------------------------------------------------------------------------

TTFT_HISTOGRAM = Spec(
    "gen_ai_server_time_to_first_token_seconds",
    "histogram",
    "Time to generate first token for successful responses.",
    GEN_AI_LABELS,
    "Streaming successes only.",
)
TPOT_HISTOGRAM = Spec(
    "gen_ai_server_time_per_output_token_seconds",
    "histogram",
    "Time per output token generated after the first token for successful responses.",
    GEN_AI_LABELS,
    "Where TTFT is known and there was more than one output token.",
)
DURATION_HISTOGRAM = Spec(
    "gen_ai_server_request_duration_seconds",
    "histogram",
    "Generative AI server request duration such as time-to-last byte or last output token.",
    GEN_AI_LABELS,
    "Successful requests only, unlike the convention: a fast error must not look like speed.",
)

# -- windows ---------------------------------------------------------------------------------------

TTFT_SECONDS = Spec(
    "tokenpulse_ttft_seconds",
    "summary",
    "Time to first token, percentiles over a window; at most 0.8 % above the true value.",
    (*WINDOW_LABELS, "quantile"),
    "The number to judge and to page on. Too few samples make it jump: see "
    "tokenpulse_ttft_samples.",
)
TPOT_SECONDS = Spec(
    "tokenpulse_tpot_seconds",
    "summary",
    "Time per output token, percentiles over a window; at most 0.8 % above the true value.",
    (*WINDOW_LABELS, "quantile"),
    "(duration - TTFT) / (output tokens - 1).",
)
DURATION_SECONDS = Spec(
    "tokenpulse_duration_seconds",
    "summary",
    "Request duration, percentiles over a window; at most 0.8 % above the true value.",
    (*WINDOW_LABELS, "quantile"),
    "Successful requests only.",
)
TTFT_SAMPLES = Spec(
    "tokenpulse_ttft_samples",
    "gauge",
    "Requests behind the TTFT percentiles of a window.",
    WINDOW_LABELS,
    "Below 20 samples a P95 is the largest value.",
)
TPOT_SAMPLES = Spec(
    "tokenpulse_tpot_samples",
    "gauge",
    "Requests behind the TPOT percentiles of a window.",
    WINDOW_LABELS,
    "As for TTFT.",
)
DURATION_SAMPLES = Spec(
    "tokenpulse_duration_samples",
    "gauge",
    "Requests behind the duration percentiles of a window.",
    WINDOW_LABELS,
    "As for TTFT.",
)
WITHIN_TARGET_RATIO = Spec(
    "tokenpulse_within_target_ratio",
    "gauge",
    "Share of measured requests at or under a latency target in a window, counted exactly.",
    (*WINDOW_LABELS, "latency", "target_seconds"),
    "Where a target is new, over the part of the window that was counted with it.",
)
CACHE_HIT_RATIO = Spec(
    "tokenpulse_cache_hit_ratio",
    "gauge",
    "Cached input tokens of all input tokens in a window.",
    WINDOW_LABELS,
    "A ratio of sums. 0.4 to 0.6 is best in class, below 0.3 is a failure.",
)
WINDOW_INPUT_TOKENS = Spec(
    "tokenpulse_window_input_tokens",
    "gauge",
    "Input tokens in a window, cached included: what the cache hit ratio is a share of.",
    WINDOW_LABELS,
    "How much the ratio weighs.",
)
AVAILABILITY_RATIO = Spec(
    "tokenpulse_availability_ratio",
    "gauge",
    "Successes of all requests and probes that count for availability, in a window.",
    WINDOW_LABELS,
    "Rate-limited, client-error and cancelled requests do not count. Customers: without probes.",
)
WINDOW_ELIGIBLE_REQUESTS = Spec(
    "tokenpulse_window_eligible_requests",
    "gauge",
    "Requests and probes behind the availability ratio of a window.",
    WINDOW_LABELS,
    "How much the ratio weighs.",
)
WINDOW_REQUESTS = Spec(
    "tokenpulse_window_requests",
    "gauge",
    "Requests in a window by outcome, probes not included.",
    (*WINDOW_LABELS, "outcome"),
    "Absent when nothing was seen: whether that is silence or a stuck pipeline, the lag tells.",
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
    "Writes without later hits are money lost.",
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
    "Where a window begins, in event time.",
    ("window",),
    "Moves in steps of the resolution that is still kept there.",
)
WINDOW_COVERAGE = Spec(
    "tokenpulse_window_coverage_ratio",
    "gauge",
    "Share of a window that lies after the first event in the state.",
    ("window",),
    "Below 1 a window is not whole yet: a state of two days says little about 30 days.",
)
WINDOW_COMPLETE = Spec(
    "tokenpulse_window_complete",
    "gauge",
    "0 where records of a window are known to be missing or to be older than the state, else 1.",
    ("window",),
    "At 0 every number of that window is of a part of the traffic only. What still waits in Kafka "
    "is not missing: the lag tells of it.",
)

REQUEST_HISTOGRAMS = {
    "ttft": TTFT_HISTOGRAM,
    "tpot": TPOT_HISTOGRAM,
    "duration": DURATION_HISTOGRAM,
}
WINDOW_QUANTILES = {"ttft": TTFT_SECONDS, "tpot": TPOT_SECONDS, "duration": DURATION_SECONDS}
WINDOW_SAMPLES = {"ttft": TTFT_SAMPLES, "tpot": TPOT_SAMPLES, "duration": DURATION_SAMPLES}
GROUPS = (
    MetricGroup(
        "Totals",
        "Counters from the state in Redis: restarting an exporter resets nothing, and two "
        "exporters show the same (add them up over one of them only). They begin again at zero "
        "only if the state is rebuilt.",
        (
            REQUESTS_TOTAL,
            PROBES_TOTAL,
            TOKENS_TOTAL,
            CACHE_WRITE_TOKENS_TOTAL,
            REASONING_TOKENS_TOTAL,
            WITHIN_TARGET_TOTAL,
            MEASURED_TOTAL,
            REFUSED_TOTAL,
            DUPLICATES_TOTAL,
            FOLDED_TOTAL,
        ),
    ),
    MetricGroup(
        "Histograms",
        "Under the names of the OpenTelemetry GenAI conventions (1.41.1), with their bucket edges "
        "and further ones around each configured target. Counts from the state, as the totals. "
        "Changing a target begins them again at zero. `region` is our addition. In OpenMetrics a "
        "bucket may carry an exemplar: the `trace_id` of a recent request in it, if events have "
        "one. They are a sample, at most 200 a partition, kept by the workers while they run.",
        tuple(REQUEST_HISTOGRAMS.values()),
    ),
    MetricGroup(
        "Windows",
        "Sums over a stretch of event time that ends now: rolling (`1m` to `30d`), or the calendar "
        "`day` and `month` so far. Alerts read these: a pipeline that catches up after an outage "
        "does not look like a burst of errors, and 30 days survive an empty Prometheus. "
        "Percentiles cannot be averaged: read the scope you mean. A scope has only the labels that "
        "name it. What is not known is absent, never 0 and never NaN.",
        (
            *WINDOW_QUANTILES.values(),
            *WINDOW_SAMPLES.values(),
            WITHIN_TARGET_RATIO,
            CACHE_HIT_RATIO,
            WINDOW_INPUT_TOKENS,
            AVAILABILITY_RATIO,
            WINDOW_ELIGIBLE_REQUESTS,
            WINDOW_REQUESTS,
            WINDOW_TOKENS,
            WINDOW_CACHE_WRITE_TOKENS,
            WINDOW_REASONING_TOKENS,
            WINDOW_START,
            WINDOW_COVERAGE,
            WINDOW_COMPLETE,
        ),
    ),
    MONEY,
    OBJECTIVES,
    PIPELINE,
    EXPORTER,
)
SPECS = tuple(chain.from_iterable(group.specs for group in GROUPS))

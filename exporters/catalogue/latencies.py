"""Metrics of the latencies: histograms since the start, percentiles and samples of windows.

Pure declarations.
"""

from exporters.catalogue.spec import WINDOW_LABELS, Spec

# The labels of OpenTelemetry's conventions for generative AI, so that dashboards for them fit.
GEN_AI_LABELS = (
    *("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"),
    "region",
)

TTFT_HISTOGRAM = Spec(
    "gen_ai_server_time_to_first_token_seconds",
    "histogram",
    "Time to generate first token for successful responses.",
    GEN_AI_LABELS,
    "Only streamed successes.",
)
TPOT_HISTOGRAM = Spec(
    "gen_ai_server_time_per_output_token_seconds",
    "histogram",
    "Time per output token generated after the first token for successful responses.",
    GEN_AI_LABELS,
    "Only if TTFT is known and there was more than one output token.",
)
DURATION_HISTOGRAM = Spec(
    "gen_ai_server_request_duration_seconds",
    "histogram",
    "Generative AI server request duration such as time-to-last byte or last output token.",
    GEN_AI_LABELS,
    "Only successful requests, unlike the convention: a fast error must not look like speed.",
)
FIRST_VISIBLE_HISTOGRAM = Spec(
    "tokenpulse_time_to_first_visible_token_seconds",
    "histogram",
    "Time to the first token that a person sees, for successful responses.",
    GEN_AI_LABELS,
    "Only if events have `first_visible_token_ms`; not part of the TTFT. Not in the convention.",
    "0.2.0",
)
FLEET_HISTOGRAM = Spec(
    "tokenpulse_latency_seconds",
    "histogram",
    "Latencies of all models and regions together, for successful responses.",
    ("latency",),
    "For heatmaps: a query of the histograms above reads a series for each bucket, model and "
    "region. Not in the convention.",
    "0.2.0",
)
TTFT_SECONDS = Spec(
    "tokenpulse_ttft_seconds",
    "summary",
    "Time to first token, percentiles over a window; at most 0.8 % above the true value.",
    (*WINDOW_LABELS, "quantile"),
    "The number to judge and to page on. It varies with few samples: see tokenpulse_ttft_samples.",
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
FIRST_VISIBLE_SECONDS = Spec(
    "tokenpulse_first_visible_seconds",
    "summary",
    "Time to the first visible token, percentiles over a window; at most 0.8 % above the true "
    "value.",
    (*WINDOW_LABELS, "quantile"),
    "Reasoning models: the time that a person waits. Absent without samples.",
    "0.2.0",
)
TTFT_SAMPLES = Spec(
    "tokenpulse_ttft_samples",
    "gauge",
    "Requests behind the TTFT percentiles of a window.",
    WINDOW_LABELS,
    "With fewer than 20 samples a P95 is the largest value.",
)
TPOT_SAMPLES = Spec(
    "tokenpulse_tpot_samples",
    "gauge",
    "Requests behind the TPOT percentiles of a window.",
    WINDOW_LABELS,
    "As tokenpulse_ttft_samples.",
)
DURATION_SAMPLES = Spec(
    "tokenpulse_duration_samples",
    "gauge",
    "Requests behind the duration percentiles of a window.",
    WINDOW_LABELS,
    "As tokenpulse_ttft_samples.",
)
FIRST_VISIBLE_SAMPLES = Spec(
    "tokenpulse_first_visible_samples",
    "gauge",
    "Requests behind the percentiles of the first visible token of a window.",
    WINDOW_LABELS,
    "Absent without samples.",
    "0.2.0",
)

REQUEST_HISTOGRAMS = {
    "ttft": TTFT_HISTOGRAM,
    "tpot": TPOT_HISTOGRAM,
    "duration": DURATION_HISTOGRAM,
    "first_visible": FIRST_VISIBLE_HISTOGRAM,
}
# Percentiles cannot be added up over labels, so each has its own metric of samples beside it.
WINDOW_QUANTILES = {
    "ttft": TTFT_SECONDS,
    "tpot": TPOT_SECONDS,
    "duration": DURATION_SECONDS,
    "first_visible": FIRST_VISIBLE_SECONDS,
}
WINDOW_SAMPLES = {
    "ttft": TTFT_SAMPLES,
    "tpot": TPOT_SAMPLES,
    "duration": DURATION_SAMPLES,
    "first_visible": FIRST_VISIBLE_SAMPLES,
}
# Most gateways do not send it: its samples are left out if there are none.
OPTIONAL_LATENCIES = frozenset({"first_visible"})

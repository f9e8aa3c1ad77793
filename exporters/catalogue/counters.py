"""Metrics of the amounts that most events do not have: attempts, error classes, endings, tiers.

Pure declarations. A sample is absent until its amount occurs, so that they cost nothing before.
"""

from exporters.catalogue.spec import SERIES_LABELS, WINDOW_LABELS, Spec

ATTEMPTS_TOTAL = Spec(
    "tokenpulse_attempts_total",
    "counter",
    "Attempts that were not final (`final: false`), without probes.",
    (*SERIES_LABELS, "outcome"),
    "tokenpulse_requests_total is the customers' view; the sum of both, less "
    "tokenpulse_response_cache_total, is the provider's. Absent until it occurs.",
    "0.2.0",
)
ATTEMPT_TOKENS_TOTAL = Spec(
    "tokenpulse_attempt_tokens_total",
    "counter",
    "Tokens of attempts that were not final: input, cached included, and output.",
    (*SERIES_LABELS, "type"),
    "Not in tokenpulse_tokens_total. Absent until it occurs.",
    "0.2.0",
)
CLIENT_ERRORS_TOTAL = Spec(
    "tokenpulse_client_errors_total",
    "counter",
    "Requests with the outcome client_error whose class is known, by class.",
    (*SERIES_LABELS, "class"),
    "Why requests fail at the client: auth and payment are faults of the account, not_found of "
    "the name of a model. Absent until it occurs.",
    "0.2.0",
)
FAILURES_TOTAL = Spec(
    "tokenpulse_failures_total",
    "counter",
    "Requests that an SLA counts as failed, without probes, by whether their answer was streamed.",
    (*SERIES_LABELS, "stream"),
    "`streamed` or `unstreamed`; without the failures of which that is not known. Absent until it "
    "occurs.",
    "0.2.0",
)
ENDINGS_TOTAL = Spec(
    "tokenpulse_endings_total",
    "counter",
    "Requests whose ending is known, by ending.",
    (*SERIES_LABELS, "ending"),
    "Absent until it occurs.",
    "0.2.0",
)
ENDING_TOKENS_TOTAL = Spec(
    "tokenpulse_ending_output_tokens_total",
    "counter",
    "Output tokens of the requests with an ending.",
    (*SERIES_LABELS, "ending"),
    "For `cut` and `cancelled_after_first`: what was delivered until then. Absent until it occurs.",
    "0.2.0",
)
TIER_CHANGED_TOTAL = Spec(
    "tokenpulse_tier_changed_total",
    "counter",
    "Requests that were served in another service tier than the requested one.",
    SERIES_LABELS,
    "Label `service_tier` is the tier that served. Absent until it occurs.",
    "0.2.0",
)
COUNTER_SPECS = (
    ATTEMPTS_TOTAL,
    ATTEMPT_TOKENS_TOTAL,
    CLIENT_ERRORS_TOTAL,
    FAILURES_TOTAL,
    ENDINGS_TOTAL,
    ENDING_TOKENS_TOTAL,
    TIER_CHANGED_TOTAL,
)

# The same amounts of a window. Totals can be summed by Prometheus over any time; windows follow
# event time, so they are right also after an outage of the pipeline.
WINDOW_PROVIDER_ATTEMPTS = Spec(
    "tokenpulse_window_provider_attempts",
    "gauge",
    "All attempts in a window by outcome, final or not, without probes and answers from a response "
    "cache.",
    (*WINDOW_LABELS, "outcome"),
    "The providers' view: a request with a failed attempt and an answered one counts twice. Absent "
    "if all attempts of the window were final and none was answered from a response cache, as "
    "tokenpulse_window_requests is the same; outcomes that did not occur are absent. Not for "
    "customers.",
    "0.2.0",
)
WINDOW_PROVIDER_ELIGIBLE = Spec(
    "tokenpulse_window_provider_eligible_attempts",
    "gauge",
    "Attempts and probes behind the provider availability ratio of a window.",
    WINDOW_LABELS,
    "Absent as tokenpulse_window_provider_attempts; 0 if a response cache answered all requests.",
    "0.2.0",
)
PROVIDER_AVAILABILITY_RATIO = Spec(
    "tokenpulse_provider_availability_ratio",
    "gauge",
    "Share of successes among the attempts and probes in a window that count for availability.",
    WINDOW_LABELS,
    "What customers would see without retries, fallbacks and response cache. Absent if no provider "
    "was asked, and if the attempts of the window are its requests, so query "
    "`tokenpulse_provider_availability_ratio or (tokenpulse_availability_ratio unless "
    "tokenpulse_window_provider_eligible_attempts)`.",
    "0.2.0",
)
WINDOW_CLIENT_ERRORS = Spec(
    "tokenpulse_window_client_errors",
    "gauge",
    "Requests in a window with the outcome client_error whose class is known, by class.",
    (*WINDOW_LABELS, "class"),
    "As tokenpulse_client_errors_total. Absent at 0, and for customers.",
    "0.2.0",
)
WINDOW_ENDINGS = Spec(
    "tokenpulse_window_endings",
    "gauge",
    "Requests in a window whose ending is known, by ending.",
    (*WINDOW_LABELS, "ending"),
    "As tokenpulse_endings_total. Absent at 0, and for customers.",
    "0.2.0",
)
WINDOW_ENDING_TOKENS = Spec(
    "tokenpulse_window_ending_output_tokens",
    "gauge",
    "Output tokens of the requests in a window with an ending.",
    (*WINDOW_LABELS, "ending"),
    "As tokenpulse_ending_output_tokens_total. Absent at 0, and for customers.",
    "0.2.0",
)
WINDOW_TIER_CHANGED = Spec(
    "tokenpulse_window_tier_changed",
    "gauge",
    "Requests in a window that were served in another service tier than the requested one.",
    WINDOW_LABELS,
    "As tokenpulse_tier_changed_total. Absent at 0, and for customers.",
    "0.2.0",
)
WINDOW_COUNTER_SPECS = (
    WINDOW_PROVIDER_ATTEMPTS,
    WINDOW_PROVIDER_ELIGIBLE,
    PROVIDER_AVAILABILITY_RATIO,
    WINDOW_CLIENT_ERRORS,
    WINDOW_ENDINGS,
    WINDOW_ENDING_TOKENS,
    WINDOW_TIER_CHANGED,
)

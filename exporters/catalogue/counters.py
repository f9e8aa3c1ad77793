"""Metrics of the amounts that most events do not have: attempts, error classes, endings, tiers.

Pure declarations. A sample is absent until its amount occurs, so that they cost nothing before.
"""

from exporters.catalogue.spec import SERIES_LABELS, Spec

ATTEMPTS_TOTAL = Spec(
    "tokenpulse_attempts_total",
    "counter",
    "Attempts that were not final (`final: false`), without probes.",
    (*SERIES_LABELS, "outcome"),
    "tokenpulse_requests_total is the customers' view; the sum of both is the provider's. Absent "
    "until it occurs.",
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
    ENDINGS_TOTAL,
    ENDING_TOKENS_TOTAL,
    TIER_CHANGED_TOTAL,
)

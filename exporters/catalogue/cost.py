"""The metrics about dollars: what the prompt cache saves, and what it could. A part of the
catalogue."""

from exporters.catalogue.spec import MetricGroup, Spec

MONEY_SCOPES = ("fleet", "model", "customer")
LABELS = ("scope", "window", "model", "customer", "segment")

CACHE_SAVED = Spec(
    "tokenpulse_window_cache_saved_usd",
    "gauge",
    "US dollars of input price that the prompt cache saved in a window, its writes paid for.",
    LABELS,
    "Below 0 writing costs more than reading saves. Of models with a price only.",
)
CACHE_LOST = Spec(
    "tokenpulse_window_cache_lost_usd",
    "gauge",
    "US dollars more that would have been saved in a window at the target cache hit ratio.",
    LABELS,
    "Each model by itself against the fleet's target: one model's surplus pays for no other.",
)
UNPRICED_TOKENS = Spec(
    "tokenpulse_window_unpriced_tokens",
    "gauge",
    "Input tokens in a window of models that the price book has no price for.",
    LABELS,
    "Above 0 the dollars are of a part of the traffic: add the model to the price book. By model "
    "only where it has no price.",
)
MONEY = MetricGroup(
    "Cache dollars",
    "Of the windows above, in the scopes `fleet`, `model` and `customer`, where "
    "`exporter.price_book` names prices (prices.md says what is computed); else absent. "
    "tokenpulse_window_cache_lost_usd also needs a policy with a cache hit target for the fleet.",
    (CACHE_SAVED, CACHE_LOST, UNPRICED_TOKENS),
)

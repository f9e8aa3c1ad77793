"""The metrics in dollars: savings of the prompt cache, and missed ones. A part of the catalogue."""

from exporters.catalogue.spec import MetricGroup, Spec

MONEY_SCOPES = ("fleet", "model", "customer")
LABELS = ("scope", "window", "model", "customer", "segment")

CACHE_SAVED = Spec(
    "tokenpulse_window_cache_saved_usd",
    "gauge",
    "US dollars of input price that the prompt cache saved in a window, minus the price of its "
    "writes.",
    LABELS,
    "Below 0, writing costs more than reading saves. Only models with a price, and input tokens "
    "whose cached part is known.",
)
CACHE_LOST = Spec(
    "tokenpulse_window_cache_lost_usd",
    "gauge",
    "Additional US dollars that the target cache hit ratio would have saved in a window.",
    LABELS,
    "Each model is compared with the fleet's target by itself, so a good model does not "
    "compensate for a bad one. Input tokens whose cached part is unknown have lost nothing.",
)
UNPRICED_TOKENS = Spec(
    "tokenpulse_window_unpriced_tokens",
    "gauge",
    "Input tokens in a window of models without a price.",
    LABELS,
    "Above 0, the dollars cover only a part of the traffic: add the model to the price book. In "
    "scope `model` only for models without a price.",
)
MONEY = MetricGroup(
    "Cache dollars",
    "For the windows above, in the scopes `fleet`, `model` and `customer`, if "
    "`exporter.price_book` gives prices (definitions: prices.md); else absent. "
    "tokenpulse_window_cache_lost_usd also needs a policy with a cache hit target for the fleet.",
    (CACHE_SAVED, CACHE_LOST, UNPRICED_TOKENS),
)

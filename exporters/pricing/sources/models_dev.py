"""The price data of models.dev (MIT): its `api.json`, with the models of each provider.

Pure. Its prices have no dates, so they hold from the day on which the file was fetched.
"""

from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from exporters.pricing.sources.entries import Entry, ModelEntries

_COMPONENTS = ("input", "cache_read", "cache_write", "output", "reasoning")
_LONG, _LONG_TOKENS = "context_over_200k", 200_000


def models_of(document: Mapping[str, Any], recorded_at: date) -> Iterator[ModelEntries]:
    """Yield the models that have prices per token of text."""
    for provider, entry in document.items():
        for name, model in entry["models"].items():
            cost = model.get("cost") or {}
            prices = {
                component: _tiers(cost, component)
                for component in _COMPONENTS
                if cost.get(component) is not None
            }
            if prices:
                entries = (Entry(prices, recorded_at.isoformat()),)
                yield ModelEntries(provider, name, entries)


def _tiers(cost: Mapping[str, Any], component: str) -> dict[int, Decimal]:
    long = (cost.get(_LONG) or {}).get(component)
    tiers = {0: Decimal(str(cost[component]))}
    return tiers if long is None else {**tiers, _LONG_TOKENS: Decimal(str(long))}

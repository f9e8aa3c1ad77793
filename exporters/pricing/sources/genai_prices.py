"""The data of genai-prices (pydantic, MIT): the YAML file of a provider, or a table of its prices.

Pure.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from exporters.pricing.contexts import tier_of_context
from exporters.pricing.sources.entries import BEGINNING, Entry, ModelEntries

# Names of prices that are for tokens of text.
COMPONENTS = {
    "input_mtok": "input",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_long",
    "output_mtok": "output",
}


def from_table(lines: Iterable[Mapping[str, str]]) -> Iterator[ModelEntries]:
    """Yield the models of a table with the columns provider, model, start_date, start_time_utc,
    end_time_utc, when_json, price_key, tier_start_input_tokens and usd_per_mtok."""
    models: dict[tuple[str, str], dict[tuple[str, ...], dict[str, dict[int, Decimal]]]] = {}
    for line in lines:
        entry = (
            line["start_date"],
            line["start_time_utc"],
            line["end_time_utc"],
            line["when_json"],
        )
        entries = models.setdefault((line["provider"], line["model"]), {})
        component = COMPONENTS.get(line["price_key"])
        if component is not None:
            tiers = entries.setdefault(entry, {}).setdefault(component, {})
            tiers[int(line["tier_start_input_tokens"])] = Decimal(line["usd_per_mtok"])
    for (provider, model), entries in models.items():
        yield ModelEntries(
            provider,
            model,
            tuple(
                Entry(
                    prices,
                    start or BEGINNING,
                    f"{begin[:5]}-{end[:5]}" if begin else None,
                    service_tier=tier_of_context(json.loads(when)) if when else None,
                )
                for (start, begin, end, when), prices in entries.items()
            ),
        )


def from_provider(document: Mapping[str, Any]) -> Iterator[ModelEntries]:
    """Yield the models of a provider's YAML file."""
    for model in document["models"]:
        conditional = model.get("prices", {})
        if isinstance(conditional, Mapping):
            conditional = [{"prices": conditional}]
        entries = [_entry(one, None) for one in conditional]
        entries += [
            _entry(one, tier_of_context(one["when"])) for one in model.get("price_variants", ())
        ]
        yield ModelEntries(str(document["id"]), str(model["id"]), tuple(entries))


def _entry(conditional: Mapping[str, Any], service_tier: str | None) -> Entry:
    constraint = conditional.get("constraint") or {}
    prices = {
        COMPONENTS[key]: _tiers(price)
        for key, price in conditional["prices"].items()
        if key in COMPONENTS
    }
    entry = Entry(prices, str(constraint.get("start_date", BEGINNING)), service_tier=service_tier)
    if "start_time" in constraint:
        hours = f"{constraint['start_time'][:5]}-{constraint['end_time'][:5]}"
        return replace(entry, hours_utc=hours)
    return entry


def _tiers(price: Any) -> dict[int, Decimal]:
    if not isinstance(price, Mapping):
        return {0: Decimal(price)}
    tiers = {int(tier["start"]): Decimal(tier["price"]) for tier in price["tiers"]}
    return {0: Decimal(price["base"]), **tiers}

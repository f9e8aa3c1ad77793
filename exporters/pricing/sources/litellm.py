"""The price table of LiteLLM (MIT): a JSON object with an entry for each model.

Pure. Its prices have no dates, so they hold from the day on which the file was fetched.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from decimal import Context, Decimal
from typing import Any

from exporters.pricing.price_list import WEEKDAYS
from exporters.pricing.sources.entries import Entry, ModelEntries

_COMPONENTS = {
    "input_cost_per_token": "input",
    "cache_read_input_token_cost": "cache_read",
    "cache_creation_input_token_cost": "cache_write",
    "output_cost_per_token": "output",
    "output_cost_per_reasoning_token": "reasoning",
}
_KEY = re.compile(
    rf"({'|'.join(_COMPONENTS)})(_above_1hr|_above_12hr)?(?:_above_(\d+)k_tokens)?(?:_([a-z]+))?"
)
_TIERS = {None: None, "batches": "batch"}  # others have their own name
_EXAMPLE = "sample_spec"  # an entry of the table that explains its keys
# Some prices were computed in binary floating point: 1.0000000000000001e-07.
_WITHOUT_DUST = Context(prec=12)


def models_of(document: Mapping[str, Any], recorded_at: date) -> Iterator[ModelEntries]:
    """Yield the models that have prices per token of text."""
    for name, model in document.items():
        prices = _prices(model)
        if not prices or name == _EXAMPLE:
            continue
        start = recorded_at.isoformat()
        entries = [Entry(found, start, service_tier=tier) for tier, found in prices.items()]
        off_peak = model.get("off_peak_pricing", {})
        # It names the prices that differ.
        cheap = {**prices.get(None, {}), **_prices(off_peak).get(None, {})}
        for window in off_peak.get("windows", ()):
            entries += _off_peak(window, Entry(cheap, start))
        yield ModelEntries(str(model["litellm_provider"]), name, tuple(entries))


def _prices(model: Mapping[str, Any]) -> dict[str | None, dict[str, dict[int, Decimal]]]:
    """Return the prices by service tier, component and the input tokens above which they hold."""
    found: dict[str | None, dict[str, dict[int, Decimal]]] = {}
    for key, price in model.items():
        match = _KEY.fullmatch(key)
        if match is None or price is None:
            continue
        name, is_long, thousands, tier = match.groups()
        component = "cache_write_long" if is_long else _COMPONENTS[name]
        tiers = found.setdefault(_TIERS.get(tier, tier), {}).setdefault(component, {})
        tiers[int(thousands or 0) * 1_000] = _usd_per_mtok(price)
    return {
        tier: complete for tier, prices in found.items() if (complete := _with_base(prices, found))
    }


def _with_base(
    prices: Mapping[str, Mapping[int, Decimal]],
    found: Mapping[str | None, Mapping[str, Mapping[int, Decimal]]],
) -> dict[str, dict[int, Decimal]]:
    """Return prices of which each has one for short requests, that of the standard tier at least.

    A price for long requests alone is left out if there is none.
    """
    standard = found.get(None, {})
    complete = {}
    for component, tiers in prices.items():
        base = tiers.get(0, standard.get(component, {}).get(0))
        if base is not None:
            complete[component] = {0: base, **tiers}
    return complete


def _off_peak(window: Mapping[str, Any], entry: Entry) -> Iterator[Entry]:
    """Yield the entries of a window, one for each of its spans of hours."""
    hours: str | Sequence[str] = window.get("hours_utc", "00:00-00:00")
    weekdays = tuple(WEEKDAYS[number - 1] for number in window.get("weekdays", ()))
    for span in [hours] if isinstance(hours, str) else hours:
        begin, end = span.split("-")
        yield Entry(
            entry.prices,
            entry.start,
            None if begin == end else f"{begin}-{'24:00' if end == '00:00' else end}",
            weekdays,
        )


def _usd_per_mtok(usd_per_token: Any) -> Decimal:
    return _WITHOUT_DUST.create_decimal(str(usd_per_token)).scaleb(6)

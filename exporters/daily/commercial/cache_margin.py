"""Compute the dollars that the prompt cache saved and lost on a day, by model and customer.

Pure. The rules are those of exporters/reference/prices.py: dollars are lost if the hit rate of a
model is below the target. Customers are counted without their tier, so they have base prices.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from exporters.daily.day.facts import CacheMargin, CacheRow
from exporters.daily.day.stretches import StretchSums
from exporters.reference.prices import CacheTokens, PriceBook, cache_dollars
from exporters.windows.incremental import CUSTOMER, CUSTOMER_MODEL, MODEL_TIER, Grouping, Sums
from streams.state.registry import OTHER

NAMES_SHOWN = 5  # models, and customers


def cache_margin(
    parts: Sequence[StretchSums],
    scopes: Mapping[str, Grouping],
    book: PriceBook,
    target: Fraction | None,
) -> CacheMargin:
    """Return the margin of some traffic; `target`: the hit ratio that is good enough."""
    by_model = _tokens(MODEL_TIER, parts, scopes)
    by_customer = _tokens(CUSTOMER_MODEL, parts, scopes)
    fleet = [tokens for rows in by_model.values() for tokens in rows]
    rows = [_row("fleet", "", fleet, book, target)]
    for dimension, names in (("model", by_model), (CUSTOMER, by_customer)):
        of_dimension = [
            _row(dimension, name, tokens, book, target)
            for name, tokens in names.items()
            if name != OTHER
        ]
        # The largest losses first, as they are what a reader can act on; then the savings.
        of_dimension.sort(key=lambda row: (-(row.lost_usd or 0), -(row.saved_usd or 0), row.name))
        rows += [row for row in of_dimension if row.saved_usd is not None][:NAMES_SHOWN]
    return CacheMargin(
        target_ratio=None if target is None else float(target),
        rows=tuple(rows),
        unpriced_tokens=cache_dollars(fleet, book, target).unpriced_tokens,
    )


def with_week_before(margin: CacheMargin | None, before: CacheMargin | None) -> CacheMargin | None:
    """Return the margin of a day with the dollars that were saved a week before."""
    if margin is None or before is None:
        return margin
    return replace(margin, saved_week_before_usd=before.rows[0].saved_usd)


def stored_margin(days: Sequence[CacheMargin | None]) -> CacheMargin | None:
    """Return the dollars of all traffic of some final days; None if a day has none stored.

    The rows of names are those of each day's largest ones only, so they do not add up.
    """
    stored = [day for day in days if day is not None]
    if not stored or len(stored) < len(days):
        return None
    rows = [day.rows[0] for day in stored]
    saved = [row.saved_usd for row in rows if row.saved_usd is not None]
    lost = [row.lost_usd for row in rows if row.lost_usd is not None]
    # A hit rate is not the mean of those of the days, and their tokens are not stored with it.
    total = CacheRow("fleet", "", None, sum(saved) if saved else None, sum(lost) if lost else None)
    return CacheMargin(
        target_ratio=stored[-1].target_ratio,
        rows=(total,),
        unpriced_tokens=sum(day.unpriced_tokens for day in stored),
    )


def _tokens(
    scope: str, parts: Sequence[StretchSums], scopes: Mapping[str, Grouping]
) -> dict[str, list[CacheTokens]]:
    """Return the input tokens by the first name of the scope's groups: model, or customer."""
    counts = Sums.merge([Sums.empty(scope), *(part.summary[scope] for part in parts)]).counts
    names: dict[str, list[CacheTokens]] = {}
    for group, row in zip(counts.keys.tolist(), counts.values.tolist(), strict=True):
        first, second = scopes[scope].keys[group]
        model, tier = (second, None) if scope == CUSTOMER_MODEL else (first, second)
        names.setdefault(first, []).append(CacheTokens(model, tier, *row))
    return names


def _row(
    dimension: str,
    name: str,
    tokens: Sequence[CacheTokens],
    book: PriceBook,
    target: Fraction | None,
) -> CacheRow:
    dollars = cache_dollars(tokens, book, target)
    known = sum(one.known for one in tokens)
    return CacheRow(
        dimension=dimension,
        name=name,
        hit_ratio=sum(one.cached for one in tokens) / known if known else None,
        saved_usd=None if dollars.saved_usd is None else float(dollars.saved_usd),
        lost_usd=None if dollars.lost_usd is None else float(dollars.lost_usd),
    )

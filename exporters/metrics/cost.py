"""From token sums to dollars of the prompt cache, as samples. Unknown values are left out.

Pure. prices.py computes dollars from tokens. The windows have sums by model and tier, and by
customer and model, which are not published: a price depends on the model, and the published sums
have none.
"""

from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction

import numpy as np

from exporters.catalogue import cost as cost_metrics
from exporters.catalogue.spec import SCOPE_LABELS
from exporters.metrics.exposition import Page, label_text
from exporters.reference.prices import CacheDollars, CacheTokens, PriceBook, cache_dollars
from exporters.windows.incremental import CUSTOMER, CUSTOMER_MODEL, MODEL_TIER, Grouping, Sums
from streams.state.measures import SERIES_DIMENSIONS


class CacheMoney:
    """Adds the dollars of windows to pages."""

    def __init__(self, book: PriceBook, target: Fraction | None) -> None:
        """Prepare the groups; `target`: the hit ratio that is good enough, if a policy has one."""
        self._book, self._target = book, target
        self.groupings = {
            MODEL_TIER: Grouping(MODEL_TIER, ("model", "service_tier"), SERIES_DIMENSIONS),
            CUSTOMER_MODEL: Grouping(CUSTOMER_MODEL, (CUSTOMER, "model"), (CUSTOMER, "model")),
        }
        self._rows_of: dict[str, list[int]] = {}  # customer -> its groups in CUSTOMER_MODEL
        self._followed = 0

    @staticmethod
    def extend_plan(plan: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        """Return, by window, the scopes with those that its dollars need."""
        return {
            name: [
                *scopes,
                *([MODEL_TIER] if "fleet" in scopes else []),
                *([CUSTOMER_MODEL] if CUSTOMER in scopes else []),
            ]
            for name, scopes in plan.items()
        }

    def add_window(
        self, page: Page, window: str, sums: Sums, shown: Collection[str] | None
    ) -> None:
        """Add fleet and models of one window; `sums` are of the scope MODEL_TIER.

        `shown`: labels of the models that the page has in this window; None for all models.
        """
        keys = self.groupings[MODEL_TIER].keys
        by_model: dict[str, list[CacheTokens]] = {}
        for group, tokens in zip(
            sums.counts.keys.tolist(), sums.counts.values.tolist(), strict=True
        ):
            model, tier = keys[group]
            by_model.setdefault(model, []).append(CacheTokens(model, tier, *tokens))
        if not by_model:
            return
        everything = [row for rows in by_model.values() for row in rows]
        fleet = self._dollars(everything)
        base = label_text({"scope": "fleet", "window": window})
        _add(page, base, fleet)
        page.add(cost_metrics.UNPRICED_TOKENS, base, fleet.unpriced_tokens)
        (label,) = SCOPE_LABELS["model"]
        for model, rows in by_model.items():
            base = label_text({"scope": "model", "window": window, label: model})
            if shown is not None and base not in shown:
                continue
            found = self._dollars(rows)
            _add(page, base, found)
            if self._book.price(model) is None:
                page.add(cost_metrics.UNPRICED_TOKENS, base, found.unpriced_tokens)

    def add_customers(self, page: Page, shown: Sequence[tuple[str, str]], sums: Sums) -> None:
        """Add customers of one window, at base prices: customers are counted without their tier.

        `shown`: their tokens in the state and their labels. `sums`: of the scope CUSTOMER_MODEL.
        """
        keys = self.groupings[CUSTOMER_MODEL].keys
        # Groups only grow, so each refresh indexes the new ones only.
        for group in range(self._followed, len(keys)):
            self._rows_of.setdefault(keys[group][0], []).append(group)
        self._followed = len(keys)
        counts = sums.counts
        for token, base in shown:
            groups = np.array(self._rows_of.get(token, ()), np.int64)
            # Keys are sorted; a group without counts in this window is found at a place of another.
            at = np.searchsorted(counts.keys, groups)
            rows = [
                CacheTokens(keys[group][1], None, *counts.values[place].tolist())
                for group, place in zip(groups.tolist(), at.tolist(), strict=True)
                if place < len(counts) and counts.keys[place] == group
            ]
            _add(page, base, self._dollars(rows))

    def _dollars(self, rows: Sequence[CacheTokens]) -> CacheDollars:
        return cache_dollars(rows, self._book, self._target)


def _add(page: Page, base: str, found: CacheDollars) -> None:
    # Unknown without prices, and then absent: 0 dollars would be a claim.
    if found.saved_usd is not None:
        page.add(cost_metrics.CACHE_SAVED, base, float(found.saved_usd))
    if found.lost_usd is not None:
        page.add(cost_metrics.CACHE_LOST, base, float(found.lost_usd))

"""Published prices as rows of price lists."""

import csv
import json
from datetime import date, datetime
from decimal import Decimal
from itertools import product
from typing import Any

from exporters.pricing.price_list import PriceList
from exporters.pricing.rating import Cost, RatedRequest, RatedTokens, rate
from exporters.pricing.request_table import rate_lines
from exporters.pricing.sources import genai_prices, litellm, models_dev
from exporters.pricing.sources.entries import ModelEntries, rows_of
from tests.support.traces import TRACES, needs_traces

BUSINESS = TRACES / "business"
DAY = date(2026, 11, 30)


def listed(*models: ModelEntries) -> PriceList:
    rows = [row for model in models for row in rows_of(model, DAY, "test")]
    found = PriceList.model_validate({"version": 2, "tier_fallback": "standard", "prices": rows})
    assert list(found.conflicts()) == []
    return found


def cost(prices: PriceList, at: str, tokens: int = 1_000_000, **keys: Any) -> Decimal:
    asked = RatedRequest("m", datetime.fromisoformat(at), RatedTokens(tokens, 0), **keys)
    found = rate(prices, asked)
    assert isinstance(found, Cost)
    return found.total_usd


@needs_traces
def test_published_costs_of_requests_come_out_to_the_last_digit() -> None:
    """An independent oracle: the costs were computed by the package that publishes the prices."""
    folder = BUSINESS / "genai_prices"
    with (folder / "price_rows.csv").open() as rows, (folder / "vectors.csv").open() as vectors:
        prices = listed(*genai_prices.from_table(csv.DictReader(rows)))
        lines = list(csv.DictReader(vectors))
    assert len(lines) == 420
    for rated, line in zip(rate_lines(prices, enumerate(lines)), lines, strict=True):
        assert rated.cost is not None, rated.problem
        for name in ("input_usd", "output_usd", "total_usd"):
            assert getattr(rated.cost, name) == Decimal(line[name]), line


@needs_traces
def test_every_file_of_the_sources_can_be_read() -> None:
    table = json.loads(
        (BUSINESS / "litellm_prices" / "model_prices_sample.json").read_text(),
        parse_float=Decimal,
    )
    prices = listed(*litellm.models_of(table, DAY))
    # Those that are priced by the second, or by tiers of their own, are left out.
    assert len(prices.by_model) == 49


def test_the_last_active_entry_counts_and_a_variant_replaces_what_it_names() -> None:
    document = {
        "id": "p",
        "models": [
            {
                "id": "m",
                "prices": [
                    {"prices": {"input_mtok": 4, "output_mtok": 8, "web_searches_kcount": 10}},
                    {
                        "constraint": {"start_date": "2026-03-13"},
                        "prices": {
                            "input_mtok": {"base": 3, "tiers": [{"start": 9, "price": 6}]},
                            "cache_read_mtok": 1,
                        },
                    },
                ],
                "price_variants": [
                    {
                        "when": {"processing": "batch"},
                        "constraint": {"start_date": "2026-10-14"},
                        "prices": {"input_mtok": 2},
                    }
                ],
            }
        ],
    }
    prices = listed(*genai_prices.from_provider(document))
    assert cost(prices, "2026-03-12T23:59:59Z") == 4
    assert cost(prices, "2026-03-13T00:00:00Z") == 6
    assert cost(prices, "2026-03-13T00:00:00Z", 9) == Decimal("0.000027")
    # Before the variant a batch request has the standard price.
    assert cost(prices, "2026-10-13T00:00:00Z", service_tier="batch") == 6
    assert cost(prices, "2026-10-14T00:00:00Z", service_tier="batch") == 2


def test_prices_of_litellm_hold_from_the_day_on_and_have_no_float_dust() -> None:
    table = {
        "m": {
            "litellm_provider": "p",
            "input_cost_per_token": Decimal("0.0000010000000000000001"),
            "input_cost_per_token_above_200k_tokens": Decimal("2E-6"),
            "input_cost_per_token_batches": Decimal("5E-7"),
            "off_peak_pricing": {
                "input_cost_per_token": Decimal("3E-7"),
                "windows": [
                    {"hours_utc": ["00:00-01:00", "10:00-00:00"], "weekdays": [1, 2, 3, 4, 5]},
                    {"hours_utc": "00:00-00:00", "weekdays": [6, 7]},
                ],
            },
        },
        "by the second": {"litellm_provider": "p", "input_cost_per_second": Decimal(1)},
    }
    prices = listed(*litellm.models_of(table, DAY))
    monday, saturday = "2026-11-30", "2026-12-05"
    assert cost(prices, f"{monday}T05:00:00Z", 100) == Decimal("0.0001")
    assert cost(prices, f"{monday}T05:00:00Z") == 2
    assert cost(prices, f"{monday}T05:00:00Z", 100, service_tier="batch") == Decimal("0.00005")
    for at in (f"{monday}T00:59:59Z", f"{monday}T23:59:59Z", f"{saturday}T05:00:00Z"):
        assert cost(prices, at, 100) == Decimal("0.00003")


def test_prices_of_models_dev_have_one_step_of_long_requests() -> None:
    document = {
        "p": {
            "models": {
                "m": {"cost": {"input": 2, "output": 8, "context_over_200k": {"input": 4}}},
                "free": {},
            }
        }
    }
    prices = listed(*models_dev.models_of(document, DAY))
    for tokens, usd in product((200_000, 200_001), (2, 4)):
        is_right = (tokens > 200_000) == (usd == 4)
        assert (
            cost(prices, "2026-12-01T00:00:00Z", tokens) == Decimal(tokens * usd).scaleb(-6)
        ) is (is_right)

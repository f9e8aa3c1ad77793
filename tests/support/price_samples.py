"""Rows of price lists, and requests, for tests."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from exporters.pricing.price_list import PriceList
from exporters.pricing.rating import RatedRequest, RatedTokens

NOON = "2026-11-20T12:00:00Z"  # a Friday


def row(usd: Any = 1, **keys: Any) -> dict[str, Any]:
    """Return a row of model m whose input costs so much; `begin` is its first instant."""
    prices = usd if isinstance(usd, Mapping) else {"input": usd, "output": usd}
    begin = keys.pop("begin", "2026-01-01T00:00:00Z")
    return {"model": "m", "from": begin, "usd_per_mtok": prices, **keys}


def price_list(*rows: Mapping[str, Any], **keys: Any) -> PriceList:
    """Return a list of rows, conflicts unseen."""
    return PriceList.model_validate({"version": 2, "prices": list(rows), **keys})


def conflicts(*rows: Mapping[str, Any]) -> Sequence[str]:
    """Return the conflicts of a list."""
    return list(price_list(*rows).conflicts())


def request(at: str = NOON, input_tokens: int = 1_000_000, **keys: Any) -> RatedRequest:
    """Return a request for model m with input tokens alone."""
    tokens = RatedTokens(input=input_tokens, output=0, **keys.pop("tokens", {}))
    return RatedRequest("m", datetime.fromisoformat(at), tokens, **keys)

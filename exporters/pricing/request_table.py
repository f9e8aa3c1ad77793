"""Requests in a CSV file, and the cost of each.

Pure. The columns are those of published tables of priced requests: provider, model_matched (or
model_asked, or model), at (ISO 8601), context_json (or service_tier),
input_tokens_incl_cached_and_written, cache_read, cache_write_all, cache_write_1h and output_tokens.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from exporters.pricing.contexts import tier_of_context
from exporters.pricing.price_list import PriceList
from exporters.pricing.rating import Cost, RatedRequest, RatedTokens, Unpriced, rate
from streams.config.validation import shown
from streams.errors import RequestError

INPUT = "input_tokens_incl_cached_and_written"
_MODELS = ("model_matched", "model_asked", "model")


@dataclass(frozen=True, slots=True)
class RatedLine:
    """A line of the table with its cost; without one, `problem` says why."""

    line: int
    model: str
    cost: Cost | None
    problem: str = ""


def check_columns(columns: Iterable[str] | None, origin: str) -> None:
    """Raise RequestError if a table lacks a column that each request needs."""
    present = set(columns or ())
    missing = [name for name in ("at", INPUT, "output_tokens") if name not in present]
    if not present & set(_MODELS):
        missing.append("model")
    if missing:
        raise RequestError(
            f"{origin}: got no column {', '.join(missing)}; "
            "docs/price-lists.md lists the columns of requests"
        )


def rate_lines(
    prices: PriceList, lines: Iterable[tuple[int, Mapping[str, str]]]
) -> Iterator[RatedLine]:
    """Yield the cost of each line; `lines` are pairs of a number and the columns."""
    for number, line in lines:
        model = next((line[name] for name in _MODELS if line.get(name)), "")
        try:
            cost = rate(prices, _request(line, model))
        except ValueError as error:
            yield RatedLine(number, model, None, str(error))
            continue
        if isinstance(cost, Unpriced):
            yield RatedLine(number, model, None, cost.reason)
        else:
            yield RatedLine(number, model, cost)


def _request(line: Mapping[str, str], model: str) -> RatedRequest:
    """Return the request of a line. Raises ValueError."""
    at = datetime.fromisoformat(line["at"])
    context = _context(line.get("context_json"))
    return RatedRequest(
        model,
        at if at.tzinfo else at.replace(tzinfo=UTC),
        RatedTokens(
            input=_tokens(line, INPUT),
            output=_tokens(line, "output_tokens"),
            cache_read=_tokens(line, "cache_read"),
            cache_write=_tokens(line, "cache_write_all"),
            cache_write_long=_tokens(line, "cache_write_1h"),
            reasoning=_tokens(line, "reasoning_tokens"),
        ),
        provider=line.get("provider") or None,
        channel=line.get("channel") or None,
        region=line.get("region") or None,
        service_tier=line.get("service_tier") or tier_of_context(context),
    )


def _context(text: str | None) -> Mapping[str, Any]:
    found = json.loads(text) if text else {}
    if not isinstance(found, dict):
        raise ValueError("context_json is no JSON object")
    return found


def _tokens(line: Mapping[str, str], column: str) -> int:
    text = line.get(column) or "0"
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise ValueError(f"{column}: got {shown(text)}; write a whole number of at most 18 digits")
    return int(text)

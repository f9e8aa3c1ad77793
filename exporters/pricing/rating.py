"""The exact cost of a request by a price list.

Pure. Quantities are whole tokens, money is a Decimal that is never rounded.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Context, Decimal, Inexact

from exporters.pricing.price_list import STANDARD, WEEKDAYS, PriceList, PriceRow

# Names that producers give to the standard tier.
_STANDARD_NAMES = {None, "", "default", "auto", "on_demand", STANDARD}
# Room for 18 digits of tokens and 23 of a price; rounding would raise Inexact.
_EXACT = Context(prec=60, traps=[Inexact])


@dataclass(frozen=True, slots=True)
class RatedTokens:
    """Tokens of one request.

    Input includes tokens read from and written to the cache, written ones those written for long,
    and output includes reasoning.
    """

    input: int
    output: int
    cache_read: int = 0
    cache_write: int = 0
    cache_write_long: int = 0
    reasoning: int = 0

    def problem(self) -> str | None:
        """Return why the numbers are contradictory; None if they are not."""
        if min(self.input, self.output, self.cache_read, self.cache_write) < 0:
            return "tokens are below 0"
        if self.cache_read + self.cache_write > self.input:
            return "more tokens were read from and written to the cache than there are input tokens"
        if not 0 <= self.cache_write_long <= self.cache_write:
            return "more tokens were written to the cache for long than were written"
        if not 0 <= self.reasoning <= self.output:
            return "there are more reasoning tokens than output tokens"
        return None


@dataclass(frozen=True, slots=True)
class RatedRequest:
    """All that decides which price a request has."""

    model: str
    at: datetime  # with a zone
    tokens: RatedTokens
    provider: str | None = None
    channel: str | None = None
    region: str | None = None
    service_tier: str | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """US dollars of one request, and the row that says so."""

    input_usd: Decimal
    output_usd: Decimal
    row: PriceRow

    @property
    def total_usd(self) -> Decimal:
        """Return the dollars of input and output."""
        return _EXACT.add(self.input_usd, self.output_usd)


@dataclass(frozen=True, slots=True)
class Unpriced:
    """A request without a price, and why."""

    reason: str


def tier_name(service_tier: str | None) -> str:
    """Return the tier as price lists name it."""
    return STANDARD if service_tier in _STANDARD_NAMES else str(service_tier)


def applies(row: PriceRow, request: RatedRequest) -> bool:
    """Return whether a row applies to a request of its model, the service tier aside."""
    at = request.at.astimezone(UTC)
    return (
        row.from_ <= at < row.until
        and row.provider in (None, request.provider)
        and row.channel in (None, request.channel)
        and row.region in (None, request.region)
        and row.least_input_tokens <= request.tokens.input
        and at.hour * 60 + at.minute in row.minutes
        and WEEKDAYS[at.weekday()] in row.weekdays
    )


def find_price(prices: PriceList, request: RatedRequest) -> PriceRow | Unpriced:
    """Return the row that counts for a request, or why there is none."""
    rows = prices.by_model.get(request.model)
    if rows is None:
        return Unpriced(f"the list has no model {request.model}")
    providers = {row.provider for row in rows}
    if request.provider is None and len(providers) == 1:
        request = replace(request, provider=providers.pop())
    matching = [row for row in rows if applies(row, request)]
    tier = tier_name(request.service_tier)
    of_tier = [row for row in matching if row.service_tier == tier]
    if not of_tier and prices.tier_fallback == STANDARD:
        of_tier = [row for row in matching if row.service_tier == STANDARD]
    if of_tier:
        return most_specific(of_tier)
    return Unpriced(_why(rows, matching, request))


def most_specific(rows: Iterable[PriceRow]) -> PriceRow:
    """Return the row whose conditions imply those of all rows.

    A list that was read has one for each request (`PriceList.conflicts`).
    """
    rows = list(rows)
    return next(row for row in rows if all(other.contains(row) for other in rows))


def _why(rows: list[PriceRow], matching: list[PriceRow], request: RatedRequest) -> str:
    model = f"model {request.model}"
    if matching:
        return f"{model} has no price of the service tier {tier_name(request.service_tier)}"
    providers = sorted({row.provider for row in rows if row.provider is not None})
    if providers and request.provider not in providers:
        given = "no provider is given" if request.provider is None else request.provider
        return f"{model} has prices of {', '.join(providers)}, and {given}"
    return f"{model} has no price that applies at {request.at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def rate(prices: PriceList, request: RatedRequest) -> Cost | Unpriced:
    """Return the cost of a request. Raises ValueError for contradictory tokens."""
    tokens = request.tokens
    problem = tokens.problem()
    if problem is not None:
        raise ValueError(problem)
    row = find_price(prices, request)
    if isinstance(row, Unpriced):
        return row
    price = row.usd_per_mtok
    written_short = tokens.cache_write - tokens.cache_write_long
    write = _first(price.cache_write, price.input)
    input_usd = _dollars(
        (tokens.input - tokens.cache_read - tokens.cache_write, price.input),
        (tokens.cache_read, _first(price.cache_read, price.input)),
        (written_short, write),
        (tokens.cache_write_long, _first(price.cache_write_long, write)),
    )
    output_usd = _dollars(
        (tokens.output - tokens.reasoning, price.output),
        (tokens.reasoning, _first(price.reasoning, price.output)),
    )
    if input_usd is None or output_usd is None:
        side = "input" if input_usd is None else "output"
        return Unpriced(f"model {request.model} has no price of {side} tokens")
    return Cost(input_usd, output_usd, row)


def _first(price: Decimal | None, otherwise: Decimal | None) -> Decimal | None:
    """Return a price, 0 too, or the one that holds without it."""
    return otherwise if price is None else price


def _dollars(*parts: tuple[int, Decimal | None]) -> Decimal | None:
    """Return the sum of tokens times price per million; None if some tokens have no price."""
    total = Decimal(0)
    for tokens, price in parts:
        if not tokens:
            continue
        if price is None:
            return None
        total = _EXACT.add(total, _EXACT.multiply(tokens, price))
    return _EXACT.scaleb(total, -6)


def money_text(usd: Decimal) -> str:
    """Return all digits of an amount, without an exponent."""
    text = f"{usd:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text

"""Prices of input tokens, and the savings of the prompt cache.

Pure, but for `load_price_book`. A price book (docs/prices.md) is a YAML file:

    version: 1
    models:
      aurora-4-large:
        input_usd_per_mtok: 3
        cache_read_ratio: 0.1      # of the input price, for a token read from the cache
        cache_write_ratio: 1.25    # of the input price, for a token written to it
        service_tiers: {priority: 1.75, batch: 0.5}    # optional; of the input price, 1 elsewhere
    default: {...}                 # optional: for models without an entry

Money is exact: whole units of 10**-24 dollars inside, Fractions outside. Any mistake in a book is a
ConfigError, one line per finding: dollars that are quietly wrong would be believed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from importlib import resources
from importlib.resources.abc import Traversable
from itertools import groupby
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from slo.policy.loading import read_document
from slo.policy.targets import Targets
from streams.config.validation import validated
from streams.config.yaml_file import read_text
from streams.errors import ConfigError

BEST_IN_CLASS = "best in class"
_DIGITS = 6  # after the decimal point, of every number in a book
_UNITS_A_USD = 10 ** (4 * _DIGITS)  # a million tokens, a price, a ratio and a tier multiplied

Usd = Annotated[Decimal, Field(ge=0, le=100_000, decimal_places=_DIGITS)]
Factor = Annotated[Decimal, Field(ge=0, le=100, decimal_places=_DIGITS)]


class _PricePart(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Price(_PricePart):
    """Prices of one model. Ratios are of its input price."""

    input_usd_per_mtok: Usd
    cache_read_ratio: Annotated[Decimal, Field(ge=0, le=1, decimal_places=_DIGITS)]
    cache_write_ratio: Factor
    service_tiers: dict[str, Factor] = {}

    def units(self, service_tier: str | None) -> tuple[int, int]:
        """(saved by a token read from the cache, paid more for one written), in units of 10**-24
        dollars. None: no tier is known, so the base price."""
        # A tier without an entry has the base price.
        factor = self.service_tiers.get(service_tier, Decimal(1)) if service_tier else Decimal(1)
        price = Fraction(self.input_usd_per_mtok) * Fraction(factor) * _UNITS_A_USD / 10**6
        return int(price * (1 - Fraction(self.cache_read_ratio))), int(
            price * (Fraction(self.cache_write_ratio) - 1)
        )


class PriceBook(_PricePart):
    """Prices of models."""

    version: Literal[1]
    models: dict[str, Price] = {}
    default: Price | None = None

    def price(self, model: str) -> Price | None:
        """Return the price of a model; None if the book has none."""
        return self.models.get(model, self.default)

    @cached_property
    def _known(self) -> dict[tuple[str, str | None], tuple[int, int] | None]:
        return {}

    def units(self, model: str, service_tier: str | None) -> tuple[int, int] | None:
        """Return `Price.units` of a model; None if it has no price."""
        # Fractions are slow, and the same few prices are needed for every group of every window.
        key = (model, service_tier)
        if key not in self._known:
            price = self.price(model)
            self._known[key] = None if price is None else price.units(service_tier)
        return self._known[key]


class CacheTokens(NamedTuple):
    """Tokens of one model in one service tier."""

    model: str
    service_tier: str | None  # None: not known, as for customers
    input: int  # cached ones included
    cached: int
    written: int
    known: int  # of `input`, the tokens of which it is known how many were cached


@dataclass(frozen=True, slots=True)
class CacheDollars:
    """Savings and losses of the cache for some traffic, of the models that have a price."""

    saved_usd: Fraction | None  # None without a price, or if no cached part is known
    lost_usd: Fraction | None  # None without a target, too
    unpriced_tokens: int  # input tokens of models without a price


def cache_dollars(
    rows: Iterable[CacheTokens], book: PriceBook, target: Fraction | None
) -> CacheDollars:
    """Return dollars saved, and dollars lost against a cache hit ratio of `target`.

    saved = sum(cached x p x (1 - read ratio)) - sum(written x p x (write ratio - 1))
    lost = sum over models(max(0, target x known - cached) x mean of p x (1 - read ratio))

    with p the input price of model and tier, and the mean over the model's known input tokens:
    input whose cached part is unknown has neither saved nor lost. Each model is held to the target
    by itself, so that none makes up for another.
    """
    saved = lost = unpriced = all_input = all_known = 0
    is_priced = False
    # groupby needs its input sorted by the same key.
    for model, tiers in groupby(sorted(rows, key=lambda row: row.model), lambda row: row.model):
        # `worth`: the savings if all known input were read from the cache, in units.
        total_known = total_cached = worth = 0
        for row in tiers:
            units = book.units(model, row.service_tier)
            if units is None:
                unpriced += row.input
                continue
            is_priced = True
            read_gain, write_cost = units
            all_input += row.input
            saved += row.cached * read_gain - row.written * write_cost
            total_known += row.known
            total_cached += row.cached
            worth += row.known * read_gain
        all_known += total_known
        if target is not None and total_known:
            # Whole numbers: tokens short of the target, times the denominator of the target.
            missing = target.numerator * total_known - target.denominator * total_cached
            lost += max(0, missing) * worth // (target.denominator * total_known)
    # Without known input, 0 dollars would be a guess; without any input, they are a fact.
    is_known = is_priced and bool(all_known or not all_input)
    return CacheDollars(
        Fraction(saved, _UNITS_A_USD) if is_known else None,
        Fraction(lost, _UNITS_A_USD) if is_known and target is not None else None,
        unpriced,
    )


def cache_target(targets: Targets) -> Fraction | None:
    """Return the cache hit ratio that is good enough; None if no policy has one.

    It is the begin of the band "best in class", else the threshold of the ticket.
    """
    for band in targets.cache_hit_bands:
        if band.name.lower() == BEST_IN_CLASS:
            return band.from_ratio
    ticket = targets.cache_hit_ticket_ratio
    return None if ticket is None else Fraction(str(ticket))


def shipped_books() -> dict[str, Traversable]:
    """Return the price books that come with the package, by name."""
    return {
        entry.name.removesuffix(".yaml"): entry
        for entry in (resources.files("exporters.reference") / "price_books").iterdir()
        if entry.name.endswith(".yaml")
    }


def load_price_book(path_or_name: str) -> PriceBook:
    """Read a price book from a file, or a shipped one by its name. Raises ConfigError."""
    books = shipped_books()
    if path_or_name in books:
        return read_price_book(books[path_or_name].read_text(encoding="utf-8"), path_or_name)
    path = Path(path_or_name)
    fix = f"give the path of a price book, or one of the shipped ones: {', '.join(sorted(books))}"
    return read_price_book(read_text(path, f"exporter.price_book: {path}", fix=fix), str(path))


def read_price_book(text: str, origin: str) -> PriceBook:
    """Read a price book from its text; `origin` names it in errors. Raises ConfigError."""
    unknown_key = "no such key here; docs/prices.md lists them all"
    book = validated(PriceBook, read_document(text, origin), origin, unknown_key)
    if not book.models and book.default is None:
        raise ConfigError(f"{origin}: models: got none; give at least one, or a default")
    return book

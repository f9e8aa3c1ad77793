"""From the prices of a source to rows of price lists.

Pure. In a source the last entry that is active at an instant counts, and an entry for a context
(batch, a service tier, fast mode) replaces the prices it names. A price list says each of these
combinations in a row of its own, so that no order counts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

# For a source that applies a price to all of the past.
BEGINNING = "1970-01-01"

# Component -> input tokens above which a price holds (0: all) -> US dollars per million tokens.
Tiers = Mapping[str, Mapping[int, Decimal]]
_Window = tuple[str | None, tuple[str, ...]]
_ALWAYS: _Window = (None, ())


@dataclass(frozen=True, slots=True)
class Entry:
    """Prices of a model from a day on, at some hours, for one context."""

    prices: Tiers
    start: str = BEGINNING
    hours_utc: str | None = None
    weekdays: tuple[str, ...] = ()  # of the UTC day; empty: all
    service_tier: str | None = None

    @property
    def window(self) -> _Window:
        """Return the hours and weekdays at which the prices hold."""
        return self.hours_utc, self.weekdays


@dataclass(frozen=True, slots=True)
class ModelEntries:
    """All entries of a model in the order of the source."""

    provider: str
    model: str
    entries: tuple[Entry, ...]


def rows_of(model: ModelEntries, recorded_at: date, source: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a model as plain data."""
    contexts = dict.fromkeys(entry.service_tier for entry in model.entries)
    windows = {_ALWAYS: None} | dict.fromkeys(entry.window for entry in model.entries)
    # A row for some hours needs one for each length of requests that a row for all hours has.
    limits = {above for entry in model.entries for above in _limits(entry.prices)}
    for service_tier in contexts:
        for window in windows:
            for start, end, prices in _stretches(model.entries, service_tier, window):
                for above in sorted(limits if window != _ALWAYS else _limits(prices)):
                    yield {
                        "model": model.model,
                        "provider": model.provider,
                        **({"service_tier": service_tier} if service_tier else {}),
                        **({"above_input_tokens": above} if above else {}),
                        **({"hours_utc": window[0]} if window[0] else {}),
                        **({"weekdays": list(window[1])} if window[1] else {}),
                        "from": f"{start}T00:00:00Z",
                        **({"to": f"{end}T00:00:00Z"} if end else {}),
                        "recorded_at": f"{recorded_at}",
                        "usd_per_mtok": _at(prices, above),
                        "source": source,
                    }


def _limits(prices: Tiers) -> set[int]:
    """Return the input tokens above which a price changes."""
    return {above for tiers in prices.values() for above in tiers}


def _stretches(
    entries: Sequence[Entry], service_tier: str | None, window: _Window
) -> Iterator[tuple[str, str | None, Tiers]]:
    """Yield (first day, day after the last, prices) of a context in some hours of the day."""
    days = sorted({entry.start for entry in entries})
    found: list[tuple[str, str | None, Tiers]] = []
    for day in days:
        prices = _active(entries, day, service_tier, window)
        if found and found[-1][1] is None:
            start, _, before = found[-1]
            if prices == before:
                continue
            found[-1] = (start, day, before)
        if prices is not None:
            found.append((day, None, prices))
    yield from found


def _active(
    entries: Sequence[Entry], day: str, service_tier: str | None, window: _Window
) -> Tiers | None:
    """Return the prices of a context on a day; None if none of its own is active."""

    def last(tier: str | None) -> Entry | None:
        active = [
            entry
            for entry in entries
            if entry.service_tier == tier
            and entry.start <= day
            and entry.window in (_ALWAYS, window)
        ]
        return active[-1] if active else None

    base, variant = last(None), last(service_tier) if service_tier else None
    if service_tier and variant is None:
        return None
    if window != _ALWAYS and not any(entry and entry.window == window for entry in (base, variant)):
        return None  # the row without hours says the same
    found = {**(base.prices if base else {}), **(variant.prices if variant else {})}
    return found or None


def _at(prices: Tiers, above: int) -> dict[str, Decimal]:
    """Return the price of each component for requests with more than `above` input tokens."""
    return {
        component: tiers[max(start for start in tiers if start <= above)]
        for component, tiers in prices.items()
    }

"""Price lists: dated prices of models, as docs/price-lists.md describes them.

Pure, but for `load_price_list`. Each row has the conditions under which it applies. Of the rows
that apply to a request the most specific one counts: its conditions imply those of the rest. A
list in which two rows can apply and neither is more specific is refused, as either price would be
a guess.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import cache, cached_property
from itertools import combinations, pairwise
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from slo.policy.loading import read_document
from streams.config.validation import validated
from streams.config.yaml_file import read_text
from streams.errors import ConfigError

STANDARD = "standard"  # tier of rows and requests that name none
_DAY_MINUTES = 1_440
# Later than any price; a row without an end is valid until then.
_END = datetime.max.replace(tzinfo=UTC)

# More digits than any published price has: those per token, converted, have up to 18.
Usd = Annotated[Decimal, Field(ge=0, le=100_000, decimal_places=18)]
Name = Annotated[str, Field(min_length=1)]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)


class _ListPart(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TokenPrices(_ListPart):
    """US dollars per million tokens of each kind; 0 is a price.

    Without a price of their own, tokens read from or written to the cache have the price of input,
    those written for long that of written ones, and reasoning that of output.
    """

    input: Usd | None = None
    cache_read: Usd | None = None
    cache_write: Usd | None = None
    cache_write_long: Usd | None = None
    output: Usd | None = None
    reasoning: Usd | None = None


@cache
def _minutes(hours_utc: str | None) -> frozenset[int]:
    if hours_utc is None:
        return frozenset(range(_DAY_MINUTES))
    begin, end = (int(text[:2]) * 60 + int(text[3:]) for text in hours_utc.split("-"))
    if begin < end:
        return frozenset(range(begin, end))
    return frozenset((*range(begin, _DAY_MINUTES), *range(end)))  # over midnight


class PriceRow(_ListPart):
    """Prices of a model, and the requests to which they apply."""

    model: Name
    provider: Name | None = None
    channel: Name | None = None
    region: Name | None = None
    service_tier: Name = STANDARD
    above_input_tokens: Annotated[int, Field(gt=0)] | None = None
    inclusive: bool = False  # whether `above_input_tokens` itself is above
    hours_utc: Annotated[str, Field(pattern=r"^\d\d:\d\d-\d\d:\d\d$")] | None = None
    weekdays: Annotated[tuple[Weekday, ...], Field(min_length=1)] = WEEKDAYS  # of the UTC day
    from_: Annotated[AwareDatetime, Field(alias="from")]
    to: AwareDatetime | None = None
    recorded_at: date | None = None
    usd_per_mtok: TokenPrices
    source: str | None = None

    @field_validator("hours_utc")
    @classmethod
    def _is_time(cls, hours: str | None) -> str | None:
        for text in hours.split("-") if hours else ():
            if text != "24:00":
                time.fromisoformat(text)
        return hours

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.to is not None and self.to <= self.from_:
            raise ValueError("`to` must be later than `from`; a row is valid before `to`")
        if self.inclusive and self.above_input_tokens is None:
            raise ValueError("`inclusive` is about above_input_tokens; leave it out")
        if self.usd_per_mtok.input is None and self.usd_per_mtok.output is None:
            raise ValueError("usd_per_mtok needs a price of input or output")
        return self

    @cached_property
    def least_input_tokens(self) -> int:
        """Return the fewest input tokens of a request to which the row applies."""
        if self.above_input_tokens is None:
            return 0
        return self.above_input_tokens + (not self.inclusive)

    @property
    def minutes(self) -> frozenset[int]:
        """Return the minutes of the UTC day at which the row applies."""
        return _minutes(self.hours_utc)

    @property
    def until(self) -> datetime:
        """Return the instant at which the row ends."""
        return self.to or _END

    @property
    def names(self) -> tuple[str | None, ...]:
        """Return the names that a request must have too; None for any."""
        return self.provider, self.channel, self.region

    @property
    def conditions(self) -> tuple[object, ...]:
        """Return all that decides to which requests the row applies, without its dates."""
        tokens = self.least_input_tokens
        return (self.model, *self.names, self.service_tier, tokens, self.hours_utc, self.weekdays)

    def contains(self, other: "PriceRow") -> bool:
        """Return whether the conditions of another row of the model and tier imply this row's."""
        return (
            all(own in (None, its) for own, its in zip(self.names, other.names, strict=True))
            and self.least_input_tokens <= other.least_input_tokens
            and self.minutes >= other.minutes
            and set(self.weekdays) >= set(other.weekdays)
        )

    def overlaps(self, other: "PriceRow") -> bool:
        """Return whether a request exists to which this and another row of the model apply."""
        return (
            self.service_tier == other.service_tier
            and all(
                own is None or its is None or own == its
                for own, its in zip(self.names, other.names, strict=True)
            )
            and max(self.from_, other.from_) < min(self.until, other.until)
            and not self.minutes.isdisjoint(other.minutes)
            and not set(self.weekdays).isdisjoint(other.weekdays)
        )


class PriceList(_ListPart):
    """Dated prices of models.

    `tier_fallback`: whether requests of a service tier without a row have the standard price, or
    none.
    """

    version: Literal[2]
    tier_fallback: Literal["standard", "unpriced"] = "unpriced"
    prices: Annotated[tuple[PriceRow, ...], Field(min_length=1)]

    @cached_property
    def by_model(self) -> dict[str, list[PriceRow]]:
        """Return the rows of each model."""
        rows: dict[str, list[PriceRow]] = {}
        for row in self.prices:
            rows.setdefault(row.model, []).append(row)
        return rows

    def conflicts(self) -> Iterator[str]:
        """Yield a line for each pair of rows of which neither is more specific."""
        numbers = {id(row): number for number, row in enumerate(self.prices)}
        for rows in self.by_model.values():
            for row, other in combinations(rows, 2):
                if row.overlaps(other) and not _is_decided(row, other, rows):
                    later, earlier = numbers[id(other)], numbers[id(row)]
                    yield (
                        f"prices.{later}: model {row.model}: applies together with "
                        f"prices.{earlier}, and neither is more specific; give the earlier one "
                        "`to`, or add a row with the conditions of both"
                    )


def _is_decided(row: PriceRow, other: PriceRow, rows: Sequence[PriceRow]) -> bool:
    """Return whether one row is more specific, or further rows decide if both apply."""
    if row.contains(other) != other.contains(row):
        return True
    if row.contains(other):  # both have the same conditions
        return False
    deciding = sorted(
        (
            third
            for third in rows
            if row.contains(third) and other.contains(third) and _covers(third, row, other)
        ),
        key=lambda third: third.from_,
    )
    begin, end = max(row.from_, other.from_), min(row.until, other.until)
    if not deciding or deciding[0].from_ > begin or deciding[-1].until < end:
        return False
    return all(earlier.until >= later.from_ for earlier, later in pairwise(deciding))


def _covers(third: PriceRow, row: PriceRow, other: PriceRow) -> bool:
    """Return whether a row applies whenever two given rows do, dates aside."""
    return (
        all(
            own in (None, first, second)
            for own, first, second in zip(third.names, row.names, other.names, strict=True)
        )
        and third.service_tier == row.service_tier
        and third.least_input_tokens <= max(row.least_input_tokens, other.least_input_tokens)
        and third.minutes >= row.minutes & other.minutes
        and set(third.weekdays) >= set(row.weekdays) & set(other.weekdays)
    )


def load_price_list(path: Path) -> PriceList:
    """Read a price list from a file. Raises ConfigError."""
    return read_price_list(read_text(path), str(path))


def read_price_list(text: str, origin: str) -> PriceList:
    """Read a price list from its text; `origin` names it in errors. Raises ConfigError."""
    unknown_key = "no such key here; docs/price-lists.md lists them all"
    found = validated(PriceList, read_document(text, origin), origin, unknown_key)
    conflicts = [f"{origin}: {line}" for line in found.conflicts()]
    if conflicts:
        raise ConfigError("\n".join(conflicts))
    return found

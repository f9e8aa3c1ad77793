"""Net revenue of accounts in spans of days, from a CSV file.

Pure. Columns: account, segment, from, to (UTC days; `to` is not included) and net_usd: revenue
after discounts and credits, without taxes and one-off fees.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from fractions import Fraction

from streams.errors import RequestError

COLUMNS = ("account", "segment", "from", "to", "net_usd")


@dataclass(frozen=True, slots=True)
class DaySpan:
    """Whole days; the last one is not included."""

    begin: date
    end: date

    @property
    def days(self) -> int:
        """Return how many days the span has."""
        return (self.end - self.begin).days

    def __str__(self) -> str:
        return f"{self.begin}..{self.end}"

    def contains(self, other: "DaySpan") -> bool:
        """Return whether all days of another span are in this one."""
        return self.begin <= other.begin and other.end <= self.end

    def overlaps(self, other: "DaySpan") -> bool:
        """Return whether a day is in both spans."""
        return self.begin < other.end and other.begin < self.end


@dataclass(frozen=True, slots=True)
class Revenue:
    """Net revenue of an account in a span, and its segment then."""

    account: str
    segment: str
    span: DaySpan
    net_usd: Fraction


def parse_span(text: str) -> DaySpan:
    """Return the span of `2026-06-01..2026-07-01`. Raises ValueError."""
    begin, separator, end = text.partition("..")
    if not separator:
        raise ValueError(f"got {text}; write 2026-06-01..2026-07-01, the last day not included")
    return _span(begin, end)


def _span(begin: str, end: str) -> DaySpan:
    span = DaySpan(date.fromisoformat(begin.strip()), date.fromisoformat(end.strip()))
    if span.days <= 0:
        raise ValueError(f"got {span}; the end must be later than the begin")
    return span


def parse_history(
    lines: Iterable[tuple[int, Mapping[str, str]]], columns: Sequence[str] | None, origin: str
) -> list[Revenue]:
    """Return the revenue of each line; `origin` names the file. Raises RequestError."""
    missing = [name for name in COLUMNS if name not in (columns or ())]
    if missing:
        raise RequestError(
            f"{origin}: got no column {', '.join(missing)}; a history has the columns "
            f"{', '.join(COLUMNS)}"
        )
    history = []
    for number, line in lines:
        try:
            history.append(_revenue(line))
        except ValueError as error:
            raise RequestError(f"{origin}: line {number}: {error}") from error
    _check_overlaps(history, origin)
    return history


def _revenue(line: Mapping[str, str]) -> Revenue:
    if not line["account"]:
        raise ValueError("account: got nothing; write the name of the account")
    try:
        usd = Decimal(line["net_usd"])
    except InvalidOperation:
        usd = Decimal("nan")
    if not usd.is_finite():
        raise ValueError(f"net_usd: got {line['net_usd']!r}; write an amount such as 1200.50")
    return Revenue(line["account"], line["segment"], _span(line["from"], line["to"]), Fraction(usd))


def _check_overlaps(history: Iterable[Revenue], origin: str) -> None:
    """Raise RequestError if two lines of an account are about the same day."""
    last: dict[str, DaySpan] = {}
    for revenue in sorted(history, key=lambda one: one.span.begin):
        before = last.get(revenue.account)
        if before is not None and before.overlaps(revenue.span):
            raise RequestError(
                f"{origin}: account {revenue.account}: {before} and {revenue.span} have days in "
                "common; each day may be in one line only"
            )
        last[revenue.account] = revenue.span


def sums(history: Iterable[Revenue], window: DaySpan) -> dict[str, Fraction]:
    """Return the revenue of each account in a window.

    Raises RequestError for a line that lies partly in it: its days are not known one by one.
    """
    found: dict[str, Fraction] = {}
    for revenue in history:
        if not window.overlaps(revenue.span):
            continue
        if not window.contains(revenue.span):
            raise RequestError(
                f"window {window}: the revenue of {revenue.account} in {revenue.span} lies partly "
                "in it; choose a window of whole lines"
            )
        found[revenue.account] = found.get(revenue.account, Fraction(0)) + revenue.net_usd
    return found


def first_gap(history: Iterable[Revenue], window: DaySpan) -> DaySpan | None:
    """Return the first days of a window that no line of any account is about; None without any."""
    known_until = window.begin
    for span in sorted((revenue.span for revenue in history), key=lambda span: span.begin):
        if span.begin > known_until:
            break
        known_until = max(known_until, span.end)
    if known_until >= window.end:
        return None
    later = [revenue.span.begin for revenue in history if revenue.span.begin > known_until]
    return DaySpan(known_until, min([*later, window.end]))

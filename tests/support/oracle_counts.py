"""What accepted events count as, and what an aggregate says, in one shape; see oracle.py.

Names stand in the place of numbers: `told(rows, rejected)` is what must be, and
`readable(aggregate, ...)` what an aggregate says.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from streams.events.columns import SeriesKey
from streams.events.fields import OUTCOMES, REASONS
from streams.state.histogram import BUCKET_BITS
from streams.state.slices import (
    CELL_BITS,
    CLOCKS,
    COUNTER_BITS,
    COUNTERS,
    CUSTOMER_TOKENS_AT,
    DUPLICATE_KEY,
    KNOWN,
    LATENCIES,
    LATENCY_BITS,
    PROBES_AT,
    SUM_COLUMNS,
    THRESHOLD_BITS,
    THRESHOLD_COUNT_BITS,
    TOKENS,
    TOKENS_AT,
    Aggregate,
    Thresholds,
    faults_by_field,
)
from streams.state.tables import Table

DUPLICATE = "duplicate"  # beside the reasons
LIMITS = Thresholds((100_000, 300_000), (50_000,), (), (400_000,), (20_000,))  # microseconds
N = TypeVar("N", bound=tuple[str, ...])


@dataclass(frozen=True)
class Row:
    """One accepted event."""

    at_ms: int
    series: SeriesKey
    customer: tuple[str, str]
    outcome: str
    probe: bool
    tokens: dict[str, int]
    latencies_ns: dict[str, int]  # only those that are known; of CLOCKS
    final: bool
    counters: dict[str, int]  # by COUNTERS
    known: dict[str, int]  # by KNOWN
    faults: list[tuple[str, str]]  # field, reason


def told(
    rows: Iterable[Row], refused: Iterable[str] = (), limits: Thresholds = LIMITS
) -> dict[str, Any]:
    """The counts of some rows. Buckets and thresholds are those of single values."""
    series: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    customer: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    buckets: defaultdict[tuple[tuple[str, ...], str], Counter[int]] = defaultdict(Counter)
    within: Counter[tuple[tuple[str, ...], str, int]] = Counter()
    faults: Counter[str] = Counter()
    counters: Counter[tuple[tuple[str, ...], str]] = Counter()
    customer_counters: Counter[tuple[tuple[str, ...], str]] = Counter()
    for row in rows:
        series[row.series]["probe " * row.probe + row.outcome] += row.final
        counters.update({(row.series, name): n for name, n in row.counters.items()})
        if not row.probe:
            customer_counters.update({(row.customer, name): n for name, n in row.counters.items()})
        amounts = Counter({f"{name} tokens": n for name, n in row.tokens.items()})
        amounts.update({f"known {name}": n for name, n in row.known.items()})
        series[row.series].update(amounts)
        faults.update(f"{field} {reason}" for field, reason in row.faults)
        if not row.probe and row.final:
            customer[row.customer][row.outcome] += 1
            customer[row.customer].update(amounts)
        for name, value_ns in row.latencies_ns.items():
            if name in LATENCIES:
                series[row.series][f"{name} us"] += (value_ns + 500) // 1_000
                buckets[row.series, name][bucket(value_ns)] += 1
            for limit_us in limits[CLOCKS.index(name)]:
                within[row.series, name, limit_us] += value_ns <= limit_us * 1_000
    return {
        "series": {key: dict(+count) for key, count in series.items()},
        "buckets": {key: dict(count) for key, count in buckets.items()},
        "within": dict(within),
        "customers": {key: dict(+count) for key, count in customer.items()},
        "refused": dict(Counter(refused)),
        "faults": dict(faults),
        "counters": dict(counters),
        "customer_counters": dict(customer_counters),
    }


def bucket(value: int) -> int:
    """HdrHistogram's index at two digits: 256 single values, then 128 buckets an octave."""
    shift = max(0, value.bit_length() - 8)
    return 128 * (shift + 1) + (value >> shift) - 128


def nearest_rank(values: list[int], percent: int) -> int:
    """The smallest value with at least `percent` of all at or below it; `percent` is whole."""
    rank = max(1, -(-percent * len(values) // 100))
    return sorted(values)[rank - 1]


def readable(
    aggregate: Aggregate, series: list[SeriesKey], customers: list[tuple[str, str]]
) -> dict[str, Any]:
    """A aggregate in the shape of `told`, with the names that its numbers stand for."""
    latency = (1 << LATENCY_BITS) - 1
    buckets: defaultdict[tuple[tuple[str, ...], str], dict[int, int]] = defaultdict(dict)
    for key, count in pairs(aggregate.cells):
        name = LATENCIES[key >> BUCKET_BITS & latency]
        buckets[series[key >> CELL_BITS], name][key & ((1 << BUCKET_BITS) - 1)] = count
    columns = [
        *OUTCOMES,
        *(f"probe {outcome}" for outcome in OUTCOMES),
        *(f"{name} tokens" for name in TOKENS),
        *(f"{name} us" for name in LATENCIES[:3]),
        *(f"known {name}" for name in KNOWN),
        *(f"{name} us" for name in LATENCIES[3:]),
    ]
    assert [columns.index("probe success"), columns.index("input tokens")] == [PROBES_AT, TOKENS_AT]
    assert tuple(columns.index(f"{name} us") for name in LATENCIES) == SUM_COLUMNS
    customer_columns = [
        *OUTCOMES,
        *(f"{name} tokens" for name in TOKENS),
        *(f"known {name}" for name in KNOWN),
    ]
    assert customer_columns.index("input tokens") == CUSTOMER_TOKENS_AT
    return {
        "series": {series[key]: filled(columns, row) for key, row in pairs(aggregate.series)},
        "buckets": dict(buckets),
        "within": {
            (
                series[key >> THRESHOLD_COUNT_BITS],
                CLOCKS[key >> THRESHOLD_BITS & latency],
                key & ((1 << THRESHOLD_BITS) - 1),
            ): count
            for key, count in pairs(aggregate.threshold_counts)
        },
        "customers": {
            customers[key]: filled(customer_columns, row) for key, row in pairs(aggregate.customers)
        },
        "refused": {
            DUPLICATE if key == DUPLICATE_KEY else REASONS[key]: count
            for key, count in pairs(aggregate.rejected)
            if key <= DUPLICATE_KEY
        },
        "faults": {" ".join(fault): n for fault, n in faults_by_field(aggregate).items()},
        "counters": named_counters(aggregate.counters, series),
        "customer_counters": named_counters(aggregate.customer_counters, customers),
    }


def named_counters(table: Table, names: Sequence[N]) -> dict[tuple[N, str], int]:
    """Return counters by name and counter."""
    mask = (1 << COUNTER_BITS) - 1
    return {
        (names[key >> COUNTER_BITS], COUNTERS[key & mask]): count for key, count in pairs(table)
    }


def pairs(table: Table) -> Any:
    keys = table.keys.tolist()
    assert keys == sorted(set(keys)), "keys of a table rise strictly"
    return zip(keys, table.values.tolist(), strict=True)


def filled(columns: list[str], row: list[int]) -> dict[str, int]:
    return {name: value for name, value in zip(columns, row, strict=True) if value}

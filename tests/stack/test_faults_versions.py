"""Programs of two versions at one state: the newer goes on with it, the older leaves it alone."""

import base64
import json
from dataclasses import replace
from typing import Any

import msgspec

from streams.state.registry import padded_series
from streams.state.slices import (
    CUSTOMER_KNOWN_AT,
    KNOWN_AT,
    LATENCY_BITS,
    THRESHOLD_BITS,
    Aggregate,
)
from streams.state.snapshot import SCHEMA
from streams.state.tables import Table
from tests.support.paths import TESTS
from tests.support.shelf import (
    KINDS_OF_SCHEMA_1,
    NOON,
    Shelf,
    checkpoint,
    count,
    loaded,
    log_of,
    shelf_after,
)

# Written by the last program of schema 1 after the first records of `told`.
WRITTEN = TESTS / "golden/state-schema-1.json"


def told() -> list[Any]:
    """Events of all kinds, some of them late, some broken."""
    return log_of(
        [
            (
                number * 7_001 % 90_000,
                number * 31_000 % 400_000,
                KINDS_OF_SCHEMA_1[number % len(KINDS_OF_SCHEMA_1)],
                "ab"[number % 2],
                ["ann", "bob", None][number % 3],
                "odd" if number % 11 == 5 else "in time",
            )
            for number in range(120)
        ],
        NOON,
    )


def counted(shelf: Shelf) -> dict[str, Any]:
    """All that lasts, without the columns, tables and limits that schema 1 did not have.

    Schema 1 took absent cached tokens for none, so what was known then cannot be told again. A
    chunk of its names of series stays as it was written until a name is added.
    """
    lasting: dict[str, Any] = shelf.lasting()
    for name in [name for name in lasting if name.startswith("s:") or name == "totals"]:
        aggregate = Aggregate.unpack(lasting[name])
        lasting[name] = replace(
            aggregate,
            series=columns(aggregate.series, KNOWN_AT),
            customers=columns(aggregate.customers, CUSTOMER_KNOWN_AT),
            threshold_counts=of_first_clocks(aggregate.threshold_counts),
            counters=Table.empty(),
            customer_counters=Table.empty(),
        ).pack()
    for name in [name for name in lasting if name.startswith("series:")]:
        lasting[name] = [padded_series(key) for key in msgspec.msgpack.decode(lasting[name])]
    return lasting


def of_first_clocks(table: Table) -> Table:
    """The counts at limits of TTFT, TPOT and duration."""
    kept = (table.keys >> THRESHOLD_BITS) & ((1 << LATENCY_BITS) - 1) < 3
    return Table(table.keys[kept], table.values[kept])


def columns(table: Table, until: int) -> Table:
    """A table with 0 in all columns from `until` on."""
    values = table.values.copy()
    values[:, until:] = 0
    return Table(table.keys, values)


def test_a_state_of_the_schema_before_is_read_and_counted_on() -> None:
    written = json.loads(WRITTEN.read_text())
    shelf = Shelf()
    shelf.offset = written["offset"]
    shelf.fields = {name: base64.b64decode(data) for name, data in written["fields"].items()}
    assert shelf.meta.schema == 1
    log, state = told(), loaded(shelf)
    assert 0 < state.next_offset == shelf.offset < len(log)
    count(state, shelf, log, len(log))
    checkpoint(state, shelf)
    assert shelf.meta.schema == SCHEMA
    assert counted(shelf) == counted(shelf_after(log))

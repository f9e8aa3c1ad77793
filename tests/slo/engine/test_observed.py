"""A quiet partition whose few events have wrong clocks does not decide for the others."""

from msgspec.structs import replace

from slo.engine.observed import floors_s
from streams.query.completeness import complete_until_s
from streams.state.slices import Aggregate
from streams.store.heartbeat import Heartbeat
from streams.store.reader import PartitionView
from tests.support.shelf import NOON, plain, shelf_after

YEAR_2100_MS = 4_102_444_800_000


def views() -> tuple[PartitionView, PartitionView]:
    """A busy partition, and one with an event of the year 2100 only, stamped by its sender."""
    shelf = shelf_after([plain(NOON + at) for at in range(40)])
    totals = Aggregate.unpack(shelf.fields["totals"])
    busy = PartitionView(0, shelf.offset, shelf.meta, shelf.index, totals)
    meta = replace(busy.meta, watermark_ms=YEAR_2100_MS, newest_ms=(YEAR_2100_MS,), anchor_ms=None)
    return busy, PartitionView(1, 1, meta, {}, totals)


def test_slices_are_kept_by_the_watermarks_that_no_longer_fall() -> None:
    busy, quiet = views()
    assert floors_s([busy, quiet]) == floors_s([busy])


def test_a_watermark_that_may_fall_completes_no_minute() -> None:
    busy, quiet = views()
    assert complete_until_s([busy, quiet], []) == [NOON + 39, 0]
    read = Heartbeat(1, {"at_ms": str((NOON + 50) * 1_000), "highwater": "1", "halted": ""})
    assert complete_until_s([busy, quiet], [read]) == [NOON + 39, NOON + 50]

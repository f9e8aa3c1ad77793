"""The range of a report that its question leaves open."""

from msgspec.structs import replace

from streams.query.report import Question, choose_range
from streams.state.slices import Aggregate
from streams.store.reader import PartitionView
from tests.support.shelf import NOON, plain, shelf_after


def test_one_wild_event_in_a_quiet_partition_does_not_set_the_end() -> None:
    """Its watermark may still fall, as that of every log that senders stamp may at its begin."""
    shelf = shelf_after([plain(NOON + at) for at in range(40)])
    totals = Aggregate.unpack(shelf.fields["totals"])
    busy = PartitionView(0, shelf.offset, shelf.meta, shelf.index, totals)
    year_2100_ms = 4_102_444_800_000
    meta = replace(busy.meta, watermark_ms=year_2100_ms, newest_ms=(year_2100_ms,), anchor_ms=None)
    quiet = PartitionView(1, 1, meta, {}, busy.totals)
    alone = choose_range(Question(), [busy])
    assert choose_range(Question(), [busy, quiet]) == alone
    assert choose_range(Question(), [quiet]).as_of_s == year_2100_ms // 1_000

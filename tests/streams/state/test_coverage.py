"""What is known to be missing: a stretch of time is whole only if every partition says so."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.state.coverage import Coverage
from streams.state.slices import LEVELS, Thresholds
from streams.state.snapshot import SCHEMA, Gap, Meta

QUICK = settings(max_examples=300, deadline=None)
NOON = 1_700_049_600
META = Meta(
    schema=SCHEMA,
    sequence=1,
    watermark_ms=NOON * 1_000,
    merged_until_s=(0,) * len(LEVELS),
    unplaced={},
    overflowed={},
    series=1,
    customers=1,
    edges=Thresholds((), (), ()),
    written_at_ms=0,
    since_ms=NOON * 1_000,
)
SECONDS = st.integers(0, 12)
MS = st.integers(0, 12_000)
GAPS = st.tuples(MS, st.integers(1, 4_000) | st.none(), st.integers(0, 9)).map(
    lambda one: Gap(one[0], None if one[1] is None else one[0] + one[1], one[2])
)
METAS = st.builds(
    lambda gaps, begun_at, since_ms: msgspec.structs.replace(
        META,
        gaps=tuple(gaps),
        lost_records=sum(gap.records for gap in gaps),
        begun_at=begun_at,
        since_ms=since_ms,
    ),
    st.lists(GAPS, max_size=4),
    st.sampled_from([0, 0, 0, 17]),
    MS | st.none(),
)


def with_gaps(*gaps: Any, **changes: Any) -> Meta:
    return msgspec.structs.replace(META, gaps=tuple(gaps), **changes)


def whole_everywhere(metas: list[Meta], from_s: int, to_s: int) -> bool:
    """The definition, millisecond by millisecond and partition by partition."""
    for meta in metas:
        if meta.begun_at and (meta.since_ms is None or from_s * 1_000 < meta.since_ms):
            return False
        for gap in meta.gaps:
            end_ms = to_s * 1_000 if gap.to_ms is None else gap.to_ms
            if any(from_s * 1_000 <= at < to_s * 1_000 for at in range(gap.from_ms, end_ms)):
                return False
    return True


@QUICK
@given(st.lists(METAS, max_size=4), SECONDS, st.integers(1, 6))
def test_a_stretch_is_complete_if_every_partition_has_every_instant_of_it(
    metas: list[Meta], from_s: int, span_s: int
) -> None:
    found = Coverage.of(metas).complete(from_s, from_s + span_s)
    assert found == whole_everywhere(metas, from_s, from_s + span_s)


@QUICK
@given(st.lists(METAS, max_size=4))
def test_gaps_of_all_partitions_are_told_once_in_order_and_lose_no_record(
    metas: list[Meta],
) -> None:
    coverage, forever_ms = Coverage.of(metas), 20_000

    def instants(gaps: tuple[Gap, ...] | Iterator[Any]) -> set[int]:
        ends = [(gap.from_ms, gap.to_ms or forever_ms) for gap in gaps]
        return {at for from_ms, to_ms in ends for at in range(from_ms, to_ms)}

    assert instants(coverage.gaps) == instants(gap for meta in metas for gap in meta.gaps)
    for one, after in zip(coverage.gaps, coverage.gaps[1:], strict=False):
        assert one.to_ms is not None
        assert one.to_ms <= after.from_ms
    assert sum(gap.records for gap in coverage.gaps) == coverage.lost_records


@pytest.mark.parametrize(
    ("from_s", "to_s", "complete"),
    [
        (NOON - 10, NOON, True),  # ends where the gap begins
        (NOON, NOON + 10, False),
        (NOON + 4, NOON + 5, False),
        (NOON + 5, NOON + 15, True),  # begins where it ends
        (NOON - 10, NOON + 60, False),
    ],
)
def test_a_gap_spoils_just_the_stretches_that_it_touches(
    from_s: int, to_s: int, complete: bool
) -> None:
    coverage = Coverage.of([META, with_gaps(Gap(NOON * 1_000, NOON * 1_000 + 5_000, 3))])
    assert coverage.complete(from_s, to_s) is complete


def test_a_gap_after_which_nothing_came_spoils_everything_since() -> None:
    coverage = Coverage.of([with_gaps(Gap(NOON * 1_000, None, 3)), META])
    assert coverage.complete(NOON - 60, NOON)
    assert not coverage.complete(NOON, NOON + 10)
    assert not coverage.complete(NOON + 86_400, NOON + 86_410)


def test_a_state_that_begins_with_its_log_is_whole_from_the_beginning_of_time() -> None:
    young = msgspec.structs.replace(META, since_ms=NOON * 1_000)
    assert Coverage.of([young]).complete(-30 * 86_400, NOON)


def test_a_state_that_begins_within_its_log_is_whole_from_its_first_event_on() -> None:
    begun = msgspec.structs.replace(META, begun_at=900, since_ms=NOON * 1_000 + 1)
    assert not Coverage.of([META, begun]).complete(NOON, NOON + 10)
    assert Coverage.of([META, begun]).complete(NOON + 1, NOON + 10)
    # No event yet: when what was not counted happened, nobody knows.
    begun = msgspec.structs.replace(META, begun_at=900, since_ms=None)
    assert not Coverage.of([META, begun]).complete(NOON + 86_400, NOON + 86_410)


def test_gaps_that_overlap_are_one_and_gaps_that_follow_each_other_are_not() -> None:
    metas = [with_gaps(Gap(0, 10, 1), Gap(15, None, 4)), with_gaps(Gap(10, 20, 2))]
    assert Coverage.of(metas).gaps == (Gap(0, 10, 1), Gap(10, None, 6))


def test_what_was_lost_is_remembered_longer_than_where() -> None:
    assert Coverage.of([with_gaps(lost_records=7), with_gaps(lost_records=1)]).lost_records == 8

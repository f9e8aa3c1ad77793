"""A watermark that an operator sets back: every count stays, and no event is counted twice."""

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from streams.state.coverage import Coverage
from streams.state.levels import awaits_merging
from streams.state.partition import PartitionState
from streams.state.set_back import SetBack, incomplete_stretches, rearrange
from streams.state.slices import LEVELS, TOKENS_AT, Aggregate, SliceId
from streams.state.snapshot import slice_field
from streams.state.windows import ROLLING_S, cover, rolling
from tests.support.oracle import judge
from tests.support.shelf import (
    DAY_S,
    HOUR_S,
    LATENESS_S,
    NOON,
    Shelf,
    answerable,
    checkpoint,
    count,
    loaded,
    plain,
)

YEAR_2100 = 4_102_444_800
MANY = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)

# Seconds after the present, and how often an event ended then.
PAST = st.lists(st.integers(-2 * DAY_S, 0) | st.integers(-600, 0), max_size=25).map(sorted)
AHEAD = st.lists(
    st.integers(0, 3 * HOUR_S)
    | st.integers(0, 40 * DAY_S)
    | st.sampled_from([YEAR_2100 - NOON, YEAR_2100 - NOON + 70]),
    min_size=1,
    max_size=6,
)
LATER = st.lists(st.integers(-HOUR_S, 60) | st.integers(0, 2 * DAY_S), max_size=25).map(sorted)
CUTS = st.lists(st.sampled_from(["", "checkpoint", "restart", "crash", "evict"]), max_size=20)


def log_of(*parts: list[int]) -> list[Any]:
    numbers = [at_s for part in parts for at_s in part]
    return [plain(NOON + at_s, request_id=str(at)) for at, at_s in enumerate(numbers)]


class Life:
    """A partition whose watermark is set back after `before` records."""

    def __init__(
        self, log: list[Any], before: int, to_s: int, lateness_s: int, cuts: list[str]
    ) -> None:
        self.log, self.before, self.to_s, self.lateness_s = log, before, to_s, lateness_s
        self.cuts, self.shelf, self.accepted_s = cuts, Shelf(), dict[int, int]()
        self.ends_s = [NOON, *(event["ended_at"] // 1_000 for event, _ in log)]
        self.state = loaded(self.shelf, lateness_s=lateness_s)
        self.live()

    def live(self) -> None:
        for number, what in enumerate([*self.cuts, "end"]):
            left = len(self.log) - self.state.next_offset
            step = left if what == "end" else min(left, 1 + number % 5)
            for until in self.stops(self.state.next_offset + step):
                self.count(until)
                if until == self.before:
                    self.set_back()
            if what in ("checkpoint", "restart"):
                checkpoint(self.state, self.shelf)
            if what in ("restart", "crash"):
                self.state = loaded(self.shelf, lateness_s=self.lateness_s)
                if self.state.next_offset == self.before:
                    self.set_back()
            if what == "evict":
                self.state.evict(0)
        while self.state.next_offset < len(self.log):
            for until in self.stops(len(self.log)):
                self.count(until)
                if until == self.before:
                    self.set_back()
        checkpoint(self.state, self.shelf)

    def stops(self, until: int) -> list[int]:
        begin = self.state.next_offset
        return [self.before, until] if begin < self.before < until else [until]

    def count(self, until: int) -> None:
        begin, state = self.state.next_offset, self.state
        for at in range(begin, until):
            self.accepted_s.pop(at, None)
        if begin < until:
            decoded = judge(self.log[begin:until], state.watermark)
            for position in decoded.columns.position.tolist():
                at = begin + position
                self.accepted_s[at] = self.log[at][0]["ended_at"] // 1_000
            count(state, self.shelf, self.log, until)

    def set_back(self) -> None:
        """Apply the command, once: as the worker does, the state shows if it was applied."""
        state, to_ms = self.state, self.to_s * 1_000
        if state.last_set_back is not None:
            return
        missing = state.missing_to_set_back(to_ms)
        state.provide({of: self.shelf.fields[slice_field(of)] for of in missing})
        now_s = max(at_s for at_s in self.ends_s[: self.before + 1] if at_s < YEAR_2100)
        state.set_back("7", to_ms, now_s * 1_000, 0)


def requests(aggregate: Aggregate) -> int:
    return int(aggregate.series.values[:, :TOKENS_AT].sum())


def in_window(shelf: Shelf, from_s: int, to_s: int) -> int:
    slices = cover(shelf.index, shelf.meta.merged_until_s, from_s, to_s)
    return requests(Aggregate.merged([shelf.aggregate(of) for of in slices]))


@MANY
@given(PAST, AHEAD, LATER, st.sampled_from([0, 0, -45, -900, 3_000]), LATENESS_S, CUTS)
def test_windows_after_it_equal_a_recount_or_are_incomplete(
    past: list[int],
    ahead: list[int],
    later: list[int],
    to_s: int,
    lateness_s: int,
    cuts: list[str],
) -> None:
    log, before = log_of(past, ahead, later), len(past) + len(ahead)
    if max(past + ahead) <= to_s:
        return
    life = Life(log, before, NOON + to_s, lateness_s, cuts)
    shelf, meta = life.shelf, life.shelf.meta
    accepted = list(life.accepted_s.values())
    assert set(range(before, len(log))) <= life.accepted_s.keys()  # nothing is too late after it
    assert requests(Aggregate.unpack(shelf.fields["totals"])) == len(accepted)
    coverage = Coverage.of([meta])
    watermark_s = (meta.watermark_ms or 0) // 1_000
    spans = [rolling(span_s, watermark_s, watermark_s) for span_s in ROLLING_S.values()]
    spans += [(NOON - DAY_S, NOON + DAY_S), (YEAR_2100 - HOUR_S, YEAR_2100 + HOUR_S)]
    spans += [(NOON + at - 300, NOON + at + 60) for at in (*ahead, *later[:3])]
    for span in spans:
        from_s, until_s = answerable(*span, watermark_s)
        counted = in_window(shelf, from_s, until_s)
        recount = sum(from_s <= at < until_s for at in accepted)
        if coverage.complete(from_s, until_s):
            assert counted == recount, (from_s - NOON, until_s - NOON)
    # Whatever is displaced, no event is in the state twice, and every level reaches only so far.
    for level, until_s in enumerate(meta.merged_until_s):
        assert all(of.start_s < until_s for of in shelf.index if of.level == level > 0)
    finest = [of for of in shelf.index if awaits_merging(of, meta.merged_until_s)]
    assert sum(requests(shelf.aggregate(of)) for of in finest) <= len(accepted)


@MANY
@given(PAST, AHEAD, LATER, LATENESS_S, CUTS)
def test_cuts_and_restarts_change_no_byte(
    past: list[int], ahead: list[int], later: list[int], lateness_s: int, cuts: list[str]
) -> None:
    log, before = log_of(past, ahead, later), len(past) + len(ahead)
    if max(past + ahead) <= 0:
        return
    whole = Life(log, before, NOON, lateness_s, [])
    assert Life(log, before, NOON, lateness_s, cuts).shelf.lasting() == whole.shelf.lasting()


def poisoned(*ends_s: int) -> tuple[PartitionState, Shelf]:
    """A state with these events, of which one moved the watermark."""
    shelf = Shelf()
    state = loaded(shelf)
    log = log_of([at_s - NOON for at_s in ends_s])
    count(state, shelf, log, len(log))
    checkpoint(state, shelf)
    return state, shelf


def test_an_event_of_the_year_2100_stays_there_and_honest_events_count_again() -> None:
    state, shelf = poisoned(NOON, YEAR_2100)
    assert judge([plain(NOON + 10)], state.watermark).rejections[0].reason == "too_late"
    checkpoints = state.sequence
    state.set_back("7", (NOON + 5) * 1_000, (NOON + 5) * 1_000, 0)
    log = [b"", b"", plain(NOON + 10, request_id="3")]
    count(state, shelf, log, 3)
    checkpoint(state, shelf)
    assert in_window(shelf, YEAR_2100, YEAR_2100 + 10) == 1
    assert in_window(shelf, NOON + 10, NOON + 20) == 1
    assert shelf.meta.watermark_ms == (NOON + 10) * 1_000
    from_ms = YEAR_2100 * 1_000
    assert shelf.meta.set_back == SetBack(
        "7", from_ms, (NOON + 5) * 1_000, 2, 0, checkpoint=checkpoints + 1, furthest_ms=from_ms
    )
    # What it has expired is not shown as whole: the event of noon is gone.
    coverage = Coverage.of([shelf.meta])
    assert not coverage.complete(NOON, NOON + 10)
    assert coverage.complete(NOON + 20, NOON + 80)


@pytest.mark.parametrize("to_s", [YEAR_2100, YEAR_2100 + 1])
def test_a_watermark_is_not_set_ahead(to_s: int) -> None:
    state, _ = poisoned(NOON, YEAR_2100)
    with pytest.raises(ValueError, match="its watermark, 2100-01-01T00:00:00Z, is not after"):
        state.set_back("7", to_s * 1_000, NOON * 1_000, 0)


def test_a_watermark_that_may_still_fall_is_not_set_back() -> None:
    state = loaded(Shelf())
    state.apply(judge([plain(YEAR_2100)], by_sender=True), 1)
    with pytest.raises(ValueError, match="still follows its first events"):
        state.set_back("7", NOON * 1_000, NOON * 1_000, 0)


def test_coarse_slices_give_way_to_the_finer_ones_that_hold_their_events() -> None:
    minute, tens = SliceId(1, NOON), [SliceId(0, NOON + at) for at in (0, 50)]
    merged_until_s = [0] * len(LEVELS)
    origin, removed = rearrange([minute, *tens], merged_until_s, NOON + 60)
    assert (origin, set(removed)) == ({}, {minute})


def test_a_coarse_slice_takes_the_place_of_finer_ones_of_which_some_expired() -> None:
    minute, kept = SliceId(1, NOON), SliceId(0, NOON + 50)
    merged_until_s = [0] * len(LEVELS)
    watermark_s = NOON + 30 + LEVELS[0].keep_s
    origin, removed = rearrange([minute, kept], merged_until_s, watermark_s)
    assert (origin, set(removed)) == ({SliceId(0, NOON): minute}, {minute, kept})


def test_a_slice_that_its_level_still_reaches_stays() -> None:
    stored = [SliceId(1, NOON), SliceId(0, NOON)]
    assert rearrange(stored, [0, NOON + 60, 0, 0, 0], NOON + 3_600) == ({}, [])


def test_the_incomplete_stretches_are_those_whose_expected_slices_had_expired() -> None:
    assert incomplete_stretches(YEAR_2100, NOON, NOON, ()) == [(NOON - LEVELS[-1].keep_s, NOON)]
    ahead = incomplete_stretches(NOON + 600, NOON, NOON, [SliceId(1, NOON + 60)])
    assert ahead[-1] == (NOON - LEVELS[0].keep_s, NOON + 120)
    assert [end_s - begin_s for begin_s, end_s in ahead[:-1]] == [600] * 4

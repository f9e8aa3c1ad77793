"""A partition whose senders stamp their records, some of them with wrong clocks.

A life is made up from a seed: honest events, an idle time, a share of wrong clocks, and where the
worker's batches, checkpoints and restarts lie.
"""

import random

import numpy as np
import pytest

from streams.events.decoder import Decoded, decode
from streams.events.watermark import JUMP_MS
from streams.state.partition import PartitionState
from streams.state.slices import TOKENS_AT
from streams.state.snapshot import slice_field
from tests.support.oracle import RULES, encoded
from tests.support.shelf import NOON, Shelf, checkpoint, loaded, plain

EVENTS = 500
WRONG_MS = (
    3_600_000,  # another time zone
    -3 * 3_600_000,
    1_200_000,
    20 * 86_400_000,
    -366 * 86_400_000,
    74 * 366 * 86_400_000,  # the year 2100
)


class Life:
    """The log of one partition, and which of its events have a right clock."""

    def __init__(self, seed: int, share: float) -> None:
        self.dice = random.Random(seed)
        self.log: list[tuple[bytes, int]] = []
        self.honest_ms: list[int | None] = []  # the end of an honest event, else None
        pace_ms = self.dice.choice([50, 2_000, 30_000])
        idle_at, at_ms = self.dice.randrange(50, EVENTS - 200), NOON * 1_000
        for number in range(EVENTS):
            at_ms += self.dice.randrange(2 * pace_ms)
            if number == idle_at:
                at_ms += self.dice.choice([0, 5 * 3_600_000, 9 * 86_400_000])
            is_wrong = self.dice.random() < share
            end_ms = at_ms - self.dice.choice([0, 0, 500])
            if is_wrong:
                end_ms += self.dice.choice(WRONG_MS) + self.dice.choice([0, pace_ms * 400])
            value, _ = plain(NOON, ended_at=end_ms, request_id=str(number))
            self.log.append((encoded(value), end_ms))
            self.honest_ms.append(None if is_wrong else end_ms)

    def count(self, state: PartitionState, shelf: Shelf, until: int) -> Decoded:
        """Count one batch up to `until`, and hold that no honest event of it is rejected."""
        begin = state.next_offset
        values = [value for value, _ in self.log[begin:until]]
        stamps = np.array([stamp for _, stamp in self.log[begin:until]], np.int64)
        by_sender = np.ones(len(values), np.bool_)
        decoded = decode(list(values), stamps, state.watermark, RULES, by_sender)
        for rejection in decoded.rejections:
            assert self.honest_ms[begin + rejection.position] is None, rejection
        state.provide({of: shelf.fields[slice_field(of)] for of in state.missing(decoded)})
        state.apply(decoded, until)
        return decoded

    def shelf(self, batch_max: int, restart_share: float) -> Shelf:
        """Return the stored state after the whole log."""
        shelf, newest_ms, rejected = Shelf(), 0, 0
        state = loaded(shelf)
        while state.next_offset < EVENTS:
            begin = state.next_offset
            until = min(begin + self.dice.randint(1, batch_max), EVENTS)
            decoded = self.count(state, shelf, until)
            rejected += len(decoded.rejections)
            newest_ms = max(newest_ms, *(at_ms or 0 for at_ms in self.honest_ms[begin:until]))
            settled_ms = state.watermark.settled_ms
            assert settled_ms is None or settled_ms <= newest_ms + JUMP_MS
            if self.dice.random() < restart_share:
                checkpoint(state, shelf)
                state = loaded(shelf)
        checkpoint(state, shelf)
        # The partition is not left behind either: it follows its newest honest event.
        assert shelf.meta.watermark_ms is not None
        assert shelf.meta.watermark_ms >= newest_ms
        totals = state._totals[0].series.values
        assert int(totals[:, :TOKENS_AT].sum()) + rejected == EVENTS
        return shelf


SHARES, SEEDS, QUICK_SEEDS = (0, 0.01, 0.1, 0.3), 8, 2
LIVES = [
    pytest.param(
        *(share, seed),
        marks=() if share in (0, 0.3) and seed < QUICK_SEEDS else pytest.mark.slow,
    )
    for share in SHARES
    for seed in range(SEEDS)
]


@pytest.mark.parametrize(("share", "seed"), LIVES)
def test_no_honest_event_is_lost_and_cuts_change_nothing(share: float, seed: int) -> None:
    life = Life(seed, share)
    whole = life.shelf(EVENTS, 0)
    for batch_max, restart_share in ((5, 0.02), (60, 0.3)):
        assert life.shelf(batch_max, restart_share).lasting() == whole.lasting()

"""What may be counted of a partition; the simulation lives through what these tests name."""

from dataclasses import replace
from typing import Any

import pytest

from streams.kafka.fetch import Unreadable
from streams.state.snapshot import LogFingerprint, Snapshot, Stored
from streams.store.contract import Answer, Claimed, Lost
from streams.store.heartbeat import HaltReason
from streams.worker.admission import CERTAIN, Count, Drop, Halt, OffsetAdmission, Seek
from tests.support.checkpoint_simulation import Counts, Fetched

LAST = LogFingerprint(99, 1_700_000_000_000, 7)


class Log(Fetched):
    """A batch whose record at 99 is the one that was counted, or another."""

    __slots__ = ("record_99",)
    record_99: LogFingerprint | None

    def fingerprint(self, offset: int) -> LogFingerprint | None:
        return getattr(self, "record_99", LAST) if offset == 99 else None


class Remembering(Counts):
    witness = LAST


def claimed(offset: int = 100, read_from: int = 100) -> OffsetAdmission[Any]:
    counts: Any = Remembering(offset, {})
    held = OffsetAdmission(0, 4, Claimed("k", "1:a", Stored(offset)), counts, read_from)
    held.note_seek(2)
    return held


def batch(begin: int, end: int, highwater: int = 1_000, generation: int = 4, epoch: int = 2) -> Log:
    return Log(generation, epoch, begin, end, highwater, highwater)


def test_the_next_batch_is_counted_from_where_the_counts_end() -> None:
    #   read again: 99 | counted: 100 ... 109
    assert claimed().admit(batch(99, 110)) == Count(100)
    assert claimed().admit(batch(100, 110)) == Count(100)


def test_what_was_counted_before_is_only_remembered() -> None:
    held = claimed(read_from=80)
    assert held.admit(batch(80, 99)) == Count(100)


@pytest.mark.parametrize(
    "stale", [batch(100, 110, generation=3), batch(100, 110, epoch=1)], ids=["group", "seek"]
)
def test_batches_from_before_a_rebalance_or_a_seek_are_dropped(stale: Log) -> None:
    assert claimed().admit(stale) == Drop()


def test_when_somebody_else_moved_the_position_it_is_moved_back() -> None:
    held = claimed()
    assert held.admit(batch(300, 310, epoch=3)) == Seek(100)


def test_records_are_given_up_only_when_they_are_missing_again_and_again() -> None:
    held = claimed()
    for epoch in range(2, 1 + CERTAIN):
        assert held.admit(batch(150, 160, epoch=epoch)) == Seek(100)
        held.note_seek(epoch + 1)
    assert held.admit(batch(150, 160, epoch=1 + CERTAIN)) == Count(150, gone=50)


def test_a_hole_in_what_is_read_again_is_asked_for_and_then_passed_over_without_a_loss() -> None:
    #   read again from 80 on, but Kafka begins at 90 | counted: 100 ...
    held = claimed(read_from=80)
    for epoch in range(2, 1 + CERTAIN):
        assert held.admit(batch(90, 110, epoch=epoch)) == Seek(80)
        held.note_seek(epoch + 1)
    assert held.admit(batch(90, 110, epoch=1 + CERTAIN)) == Count(100)


def test_after_a_part_was_read_again_reading_goes_on_behind_it() -> None:
    held = claimed(read_from=80)
    assert held.admit(batch(80, 90)) == Count(100)
    assert held.admit(batch(95, 110)) == Seek(90)
    assert held.admit(batch(300, 310, epoch=3)) == Seek(90)


def test_a_batch_in_between_takes_the_doubts_away() -> None:
    held = claimed()
    assert held.admit(batch(150, 160)) == Seek(100)
    held.note_seek(3)
    assert held.admit(batch(100, 150, epoch=3)) == Count(100)
    held.counts.next_offset = 150
    assert held.admit(batch(170, 180, epoch=3)) == Seek(150)


def test_a_log_that_ends_before_what_was_counted_halts_the_partition() -> None:
    held = claimed()
    for epoch in range(2, 1 + CERTAIN):
        assert held.admit(batch(0, 40, highwater=40, epoch=epoch)) == Seek(100)
        held.note_seek(epoch + 1)
    halt = held.admit(batch(0, 40, highwater=40, epoch=1 + CERTAIN))
    assert isinstance(halt, Halt)
    assert (halt.reason, halt.offset) == (HaltReason.LOG_TRUNCATED, 100)
    assert "ends at offset 40" in halt.detail


@pytest.mark.parametrize(
    "other", [LAST._replace(timestamp_ms=1), LAST._replace(crc=8)], ids=["time", "content"]
)
def test_another_log_of_the_same_name_is_never_counted_onto_the_old_one(
    other: LogFingerprint,
) -> None:
    made_again = batch(99, 110)
    made_again.record_99 = other
    halt = claimed().admit(made_again)
    assert isinstance(halt, Halt)
    assert (halt.reason, halt.offset) == (HaltReason.LOG_RECREATED, 100)
    assert "offset 99" in halt.detail


def test_a_last_record_that_kafka_no_longer_has_proves_nothing() -> None:
    compacted = batch(99, 110)
    compacted.record_99 = None
    assert claimed().admit(compacted) == Count(100)
    assert claimed().admit(batch(100, 110)) == Count(100)


def test_the_log_is_recognised_once_and_then_believed() -> None:
    held = claimed(read_from=90)
    assert held.admit(batch(90, 95)) == Count(100)
    assert held.admit(batch(95, 100)) == Count(100)
    held.counts.next_offset = 120
    other = batch(99, 130)
    other.record_99 = LAST._replace(crc=8)
    assert held.admit(other) == Count(120)


def broken(at: int) -> Log:
    return replace(batch(at, at), unreadable=Unreadable("wrong checksum", None))


def test_a_batch_that_cannot_be_read_halts_the_partition_where_it_is_to_be_counted() -> None:
    halt = claimed().admit(broken(100))
    assert halt == Halt(HaltReason.UNREADABLE, 100, "wrong checksum")


def test_a_batch_that_cannot_be_read_again_is_passed_over() -> None:
    assert claimed(read_from=80).admit(broken(80)) == Seek(100)


def test_a_halted_partition_takes_nothing_until_somebody_resumes_it() -> None:
    held = claimed()
    held.halted = Halt(HaltReason.DEAD_LETTERS, 100, "too many")
    assert held.admit(batch(100, 110)) == Drop()
    held.resume()
    assert held.admit(batch(100, 110)) == Count(100)


@pytest.mark.parametrize("answer", Answer)
def test_only_a_written_checkpoint_is_confirmed(answer: Answer) -> None:
    held, snapshot = claimed(), Snapshot(1, 100, 120, {}, ())
    if answer in (Answer.OK, Answer.ALREADY):
        held.confirm(snapshot, answer)
        assert held.counts.stored_offset == 120
    else:
        with pytest.raises(Lost, match=answer):
            held.confirm(snapshot, answer)
        assert held.counts.stored_offset == 100


def test_an_empty_batch_changes_nothing() -> None:
    held = claimed()
    assert held.admit(batch(100, 100)) == Drop()
    assert held.counts.next_offset == 100

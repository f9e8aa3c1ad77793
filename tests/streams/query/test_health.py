"""When a worker is well: its own signs of life, and checkpoints while records wait."""

from streams.query.health import STALLED_S, Progress, ill
from streams.store.heartbeat import Heartbeat

NOW_S = 1_000_000.0
STALE_AFTER_S = 15.0


def progress(
    partition: int,
    worker: str,
    age_s: float = 1,
    waiting: int = 0,
    written_s_ago: float = 1,
    halted: str = "",
) -> Progress:
    fields = {
        "worker": worker,
        "at_ms": str((NOW_S - age_s) * 1_000),
        "readable": str(100 + waiting),
        "halted": halted,
    }
    return Progress(Heartbeat(partition, fields), 100, NOW_S - written_s_ago)


def judged(*found: Progress) -> str | None:
    return ill(found, "here", NOW_S, STALE_AFTER_S)


def test_a_worker_with_fresh_signs_and_nothing_waiting_is_well_however_old_its_checkpoint() -> None:
    assert judged(progress(0, "here:7", written_s_ago=10 * STALLED_S)) is None


def test_a_worker_whose_sign_of_one_partition_is_old_is_ill() -> None:
    found = judged(progress(0, "here:7"), progress(1, "here:7", age_s=STALE_AFTER_S + 1))
    assert found == "partition 1: last sign of life: 16 s ago"


def test_a_worker_that_writes_nothing_while_records_wait_is_ill() -> None:
    waiting = progress(2, "here:7", waiting=5, written_s_ago=STALLED_S + 1)
    assert judged(waiting) == "partition 2: records wait, and nothing was written for 61 s"


def test_a_halted_partition_is_no_reason_to_start_a_worker_again() -> None:
    halted = progress(2, "here:7", waiting=5, written_s_ago=STALLED_S + 1, halted="unreadable")
    assert judged(halted) is None


def test_the_partitions_of_others_are_their_business_while_one_has_some_of_its_own() -> None:
    assert judged(progress(0, "here:7"), progress(1, "there:7", age_s=60)) is None


def test_a_spare_worker_is_well_as_long_as_others_serve_all() -> None:
    assert judged(progress(0, "there:7"), progress(1, "elsewhere:9")) is None
    abandoned = judged(progress(0, "there:7"), progress(1, "elsewhere:9", age_s=60))
    assert abandoned == "partition 1: last sign of life: 60 s ago"


def test_a_host_whose_name_begins_like_ours_is_another() -> None:
    assert judged(progress(0, "here:7"), progress(1, "here-2:7", age_s=60)) is None


def test_before_the_first_claim_nobody_is_well() -> None:
    assert judged() == "no worker has claimed a partition yet"


def test_a_partition_that_was_claimed_and_is_silent_since_is_told_so() -> None:
    assert judged(Progress(Heartbeat(3, {"worker": "here:7"}), None, None)) == (
        "partition 3: last sign of life: none"
    )

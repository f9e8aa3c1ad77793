"""A worker makes progress: its heartbeats, and checkpoints while records wait."""

from streams.query.health import STALLED_S, Progress, worker_problem
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


def problem(*partitions: Progress) -> str | None:
    return worker_problem(partitions, "here", NOW_S, STALE_AFTER_S)


def test_an_old_checkpoint_is_no_problem_while_no_records_wait() -> None:
    assert problem(progress(0, "here:7", written_s_ago=10 * STALLED_S)) is None


def test_a_worker_with_an_old_heartbeat_of_one_partition_has_a_problem() -> None:
    found = problem(progress(0, "here:7"), progress(1, "here:7", age_s=STALE_AFTER_S + 1))
    assert found == "partition 1: last heartbeat: 16 s ago"


def test_a_worker_that_writes_no_checkpoint_while_records_wait_has_a_problem() -> None:
    waiting = progress(2, "here:7", waiting=5, written_s_ago=STALLED_S + 1)
    assert problem(waiting) == "partition 2: records wait, and no checkpoint was written for 61 s"


def test_a_halted_partition_is_no_reason_to_restart_a_worker() -> None:
    halted = progress(2, "here:7", waiting=5, written_s_ago=STALLED_S + 1, halted="unreadable")
    assert problem(halted) is None


def test_a_worker_with_partitions_of_its_own_is_not_judged_by_those_of_other_workers() -> None:
    assert problem(progress(0, "here:7"), progress(1, "there:7", age_s=60)) is None


def test_a_spare_worker_works_if_other_workers_serve_all_partitions() -> None:
    assert problem(progress(0, "there:7"), progress(1, "elsewhere:9")) is None
    abandoned = problem(progress(0, "there:7"), progress(1, "elsewhere:9", age_s=60))
    assert abandoned == "partition 1: last heartbeat: 60 s ago"


def test_a_host_whose_name_begins_like_ours_is_another() -> None:
    assert problem(progress(0, "here:7"), progress(1, "here-2:7", age_s=60)) is None


def test_before_the_first_claim_nobody_is_well() -> None:
    assert problem() == "no worker has claimed a partition yet"


def test_a_partition_that_was_claimed_and_is_silent_since_is_told_so() -> None:
    assert problem(Progress(Heartbeat(3, {"worker": "here:7"}), None, None)) == (
        "partition 3: last heartbeat: none"
    )

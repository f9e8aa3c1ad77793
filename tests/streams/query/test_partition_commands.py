"""Which operator commands are valid for a partition, and how they are written."""

from typing import Any

import pytest

from streams.errors import RequestError
from streams.query.partitions import (
    PartitionStatus,
    check,
    check_set_back,
    new_command,
)
from streams.store.heartbeat import HaltReason

BEGIN_S = 1_700_000_000  # 2023-11-14 22:13:20 UTC
STALE_AFTER_S = 15.0


def status(**changes: Any) -> PartitionStatus:
    """Partition 3, halted at offset 120 of a log that ends at 500, its worker well."""
    fields: dict[str, Any] = {
        "partition": 3,
        "offset": 120,
        "lag": 380,
        "watermark_ms": BEGIN_S * 1_000,
        "settled_ms": BEGIN_S * 1_000,
        "worker": "host:7",
        "pulse_age_s": 0.4,
        "halted": HaltReason.UNREADABLE,
        "halted_at": 120,
        "halted_detail": "the batch at 120 has a wrong checksum",
        "log_end": 500,
        "lost_records": 0,
        "duplicates": 0,
    }
    return PartitionStatus(**fields | changes)


def checked(found: PartitionStatus, to: int | None) -> PartitionStatus:
    return check([status(partition=0, halted=None), found], 3, to, STALE_AFTER_S)


@pytest.mark.parametrize(
    ("changes", "to", "told"),
    [
        ({"partition": 4}, None, "partition 3: unknown; workers have claimed: 0, 4"),
        ({"halted": None}, None, "is not halted"),
        ({"halted": None}, 200, "is not halted"),
        (
            {"halted": HaltReason.STORE_POLICY, "halted_detail": "set it"},
            None,
            "by itself when .*: set it",
        ),
        ({"pulse_age_s": 16.0}, None, "no worker is there .* host:7 is 16 s old; start a worker"),
        ({"pulse_age_s": None}, None, "no worker is there"),
        ({}, 0, "--to: got 0, but the partition is halted at 120"),
        ({}, 120, "--to: got 120"),
        ({"halted": HaltReason.DEAD_LETTERS}, 119, "--to: got 119"),
        ({}, 501, "--to: got 501, but the log ends at 500"),
    ],
)
def test_a_command_that_no_worker_can_apply_or_that_counts_twice_is_refused_in_one_line(
    changes: dict[str, Any], to: int | None, told: str
) -> None:
    with pytest.raises(RequestError, match=told) as raised:
        checked(status(**changes), to)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "to"),
    [
        ({}, None),
        ({"halted": HaltReason.DEAD_LETTERS}, None),
        ({}, 121),
        ({}, 500),
        ({"log_end": None}, 7_000),
        ({"halted_at": None}, 7),
        # Another log: its offsets have nothing to do with those that are counted.
        ({"halted": HaltReason.LOG_RECREATED}, 0),
        ({"halted": HaltReason.LOG_TRUNCATED}, 120),
        ({"halted": HaltReason.LOG_TRUNCATED}, 501),
    ],
)
def test_a_valid_command_is_accepted(changes: dict[str, Any], to: int | None) -> None:
    assert checked(status(**changes), to) == status(**changes)


@pytest.mark.parametrize(
    ("changes", "to_s", "told"),
    [
        ({"partition": 4}, 0, "partition 3: unknown; workers have claimed: 0, 4"),
        ({"pulse_age_s": 16.0}, 0, "no worker is there .* host:7 is 16 s old; start a worker"),
        ({}, 0, "got 2023-11-14T22:13:20.000Z .* its watermark, 2023-11-14T22:13:20Z, is not"),
        ({}, 1, "is not after that time"),
        ({"settled_ms": None}, -60, "it has no watermark yet, or one that still follows"),
        ({}, -400 * 86_400, "no slice is kept for longer than 400 days"),
    ],
)
def test_a_watermark_that_cannot_be_set_back_is_refused_in_one_line(
    changes: dict[str, Any], to_s: int, told: str
) -> None:
    statuses = [status(partition=0), status(**changes)]
    with pytest.raises(RequestError, match=told) as raised:
        check_set_back(statuses, 3, (BEGIN_S + to_s) * 1_000, BEGIN_S + 10, STALE_AFTER_S)
    assert "\n" not in str(raised.value)


def test_a_watermark_can_be_set_back_whether_the_partition_is_halted_or_not() -> None:
    for halted_by in (None, HaltReason.UNREADABLE):
        found = status(halted=halted_by)
        to_ms = (BEGIN_S - 60) * 1_000
        assert check_set_back([found], 3, to_ms, BEGIN_S + 10, STALE_AFTER_S) == found


def test_a_command_has_author_and_reason_in_one_line_and_a_unique_id() -> None:
    orders = [new_command("move", 7, "poison\n  at 120 ") for _ in range(3)]
    assert {one.reason for one in orders} == {"poison at 120"}
    assert len({one.id for one in orders}) == 3
    login, _, host = orders[0].by.partition("@")
    assert login
    assert host
    with pytest.raises(RequestError, match="--reason: got an empty text"):
        new_command("resume", None, " \n ")

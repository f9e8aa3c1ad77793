"""Every log record about a partition has its number and, if there is one, an offset."""

import logging

import pytest

from streams.logs.formats import TextFormatter
from streams.logs.partition_log import PartitionLog

LOG = logging.getLogger("tests.partition_log")


def test_a_line_begins_with_partition_and_offset(caplog: pytest.LogCaptureFixture) -> None:
    PartitionLog(LOG, 3).at(1200).warning("%d of %d records: %s", 5, 7, "100% lost")
    [record] = caplog.records
    line = TextFormatter().format(record)
    assert line.endswith(
        "WARNING tests.partition_log: partition=3 offset=1200: 5 of 7 records: 100% lost"
    )
    assert (vars(record)["partition"], vars(record)["offset"]) == (3, 1200)


def test_without_an_offset_only_the_partition_is_named(caplog: pytest.LogCaptureFixture) -> None:
    PartitionLog(LOG, 3).warning("trying again")
    [record] = caplog.records
    assert "partition=3: trying again" in TextFormatter().format(record)
    assert "offset" not in vars(record)

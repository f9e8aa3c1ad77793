"""The HdrHistogram log of a report, read back with the package's own reader."""

import math
from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

from streams.errors import RequestError
from streams.query.hdr_log import write_hdr_log
from streams.query.report import Question, ReportData, build, choose_range, combine
from streams.state.histogram import DIGITS, HIGHEST, LOWEST
from streams.state.measures import QUANTILES
from streams.state.slices import Aggregate
from streams.store.reader import PartitionView
from tests.support.shelf import NOON, plain, shelf_after

REGIONS = ("eu-west-1", "us east/2")
LOG = [
    plain(
        NOON + 7 * number,
        region=REGIONS[number % 3 == 0],
        ttft_ms=40.5 * (number + 1),
        duration_ms=1_000 + 977 * number,
    )
    for number in range(120)
]


def answer(*by: str) -> ReportData:
    shelf = shelf_after(LOG)
    totals = Aggregate.unpack(shelf.fields["totals"])
    view = PartitionView(0, shelf.offset, shelf.meta, shelf.index, totals)
    slices = {slice_id: shelf.aggregate(slice_id) for slice_id in view.index}
    question = Question(by=by)
    range_ = choose_range(question, [view], NOON)
    return combine(question, range_, [(view, slices)], *shelf.names())


def read(text: str, path: Path) -> list[tuple[float, float, str, HdrHistogram]]:
    """Return start, end (epoch seconds), tag and histogram of each line."""
    path.write_text(text)
    reader = HistogramLogReader(str(path), HdrHistogram(LOWEST, HIGHEST, DIGITS))
    lines = []
    while (found := reader.get_next_interval_histogram()) is not None:
        times = (found.get_start_time_stamp() / 1_000, found.get_end_time_stamp() / 1_000)
        lines.append((*times, found.get_tag(), found))
    reader.close()
    return lines


def assert_same(histogram: HdrHistogram, measures: dict[str, Any]) -> None:
    assert histogram.get_total_count() == measures["count"] > 0
    for name, ratio in QUANTILES.items():
        # The package rounds ranks to the nearest, the report rounds them up.
        rank = math.ceil(round(ratio * measures["count"], 6))
        value_ns = histogram.get_value_at_percentile(100 * rank / measures["count"])
        assert value_ns / 1e9 == pytest.approx(measures[name], abs=1e-12)


def test_the_log_of_a_report_without_groups_has_its_counts_and_percentiles(tmp_path: Path) -> None:
    answered, file = answer(), StringIO()
    write_hdr_log(answered, file)
    steps = build(answered)["steps"]
    lines = read(file.getvalue(), tmp_path / "report.hlog")
    expected = [
        (datetime.fromisoformat(step["start"]).timestamp(), latency, step["measures"])
        for step in steps
        for latency in ("ttft", "tpot", "duration")
        if step["measures"][f"{latency}_seconds"]["count"]
    ]
    assert len(steps) > 2
    assert [(start_s, tag) for start_s, _, tag, _ in lines] == [row[:2] for row in expected]
    for (start_s, end_s, tag, histogram), (*_, measures) in zip(lines, expected, strict=True):
        assert end_s - start_s == 300
        assert_same(histogram, measures[f"{tag}_seconds"])


def test_the_log_of_a_report_by_groups_has_a_tag_for_each_group(tmp_path: Path) -> None:
    answered, file = answer("model", "region"), StringIO()
    write_hdr_log(answered, file)
    histograms = {
        (start_s, tag): histogram
        for start_s, _, tag, histogram in read(file.getvalue(), tmp_path / "report.hlog")
    }
    assert len({tag for _, tag in histograms}) == 6
    checked = 0
    for group in build(answered)["groups"]:
        region = group["key"]["region"].replace(" ", "%20")
        for step in group["steps"]:
            start_s = datetime.fromisoformat(step["start"]).timestamp()
            for latency in ("ttft", "tpot", "duration"):
                tag = f"model=a;region={region};{latency}"
                assert_same(histograms[start_s, tag], step["measures"][f"{latency}_seconds"])
                checked += 1
    assert checked == len(histograms) > 6


def test_the_log_has_the_head_and_columns_that_processors_read() -> None:
    file = StringIO()
    write_hdr_log(answer("region"), file)
    head, line = file.getvalue().split('"Interval_Compressed_Histogram"\n')
    assert "#[Histogram log format version 1.3]\n" in head
    assert f"#[StartTime: {NOON}.000 (seconds since epoch), 2023-11-15 12:00:00+00:00]\n" in head
    assert "nanoseconds" in head
    tag, start, length, longest, encoded = line.splitlines()[0].split(",")
    assert tag == "Tag=region=eu-west-1;ttft"
    assert (float(start), float(length)) == (NOON, 300)
    # Milliseconds of the largest value, as the processors expect.
    largest_ns = HdrHistogram.decode(encoded).get_max_value()
    assert float(longest) == largest_ns // 1_000_000 > 0


def test_latencies_by_customer_are_refused_as_they_are_not_counted() -> None:
    with pytest.raises(RequestError, match="--hdr: latencies are not counted by customer"):
        write_hdr_log(answer("customer"), StringIO())

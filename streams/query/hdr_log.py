"""A report's latencies as an HdrHistogram interval log, for the log processors and plotters.

Pure. One tagged histogram for each step, group and latency, in the log format 1.3. The values of
the histograms are nanoseconds; the column Interval_Max is in whole milliseconds, as is usual.
"""

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TextIO
from urllib.parse import quote

from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogWriter

from streams.errors import RequestError
from streams.query.report import ReportData
from streams.state import histogram
from streams.state.slices import CELL_BITS, LATENCIES, Aggregate

NS_PER_MS = 1e6
COMMENTS = (
    "[Logged by tokenpulse report]",
    "[Values: nanoseconds; Interval_Max: milliseconds; Tag: dimension=value;...;latency]",
    "[Histogram log format version 1.3]",
)


def write_hdr_log(answer: ReportData, file: TextIO) -> None:
    """Write the log. Raises RequestError if the answer is by customer, as latencies are not."""
    if "customer" in answer.by:
        raise RequestError("--hdr: latencies are not counted by customer; use other groups in --by")
    writer = HistogramLogWriter(file)
    for comment in COMMENTS:
        writer.output_comment(comment)
    from_s = answer.range.from_s
    # The writer's own output_start_time calls a method that does not exist (0.10.8).
    writer.output_comment(
        f"[StartTime: {from_s:.3f} (seconds since epoch), {datetime.fromtimestamp(from_s, UTC)}]"
    )
    writer.output_legend()
    for start_s, step in answer.steps.items():
        for group, aggregate in _groups(answer, step):
            for latency, encoded in _histograms(aggregate):
                # The writer of the package writes no tags; they stand before its columns.
                file.write(f"Tag={group}{latency},")
                writer.output_interval_histogram(
                    HdrHistogram.decode(base64.b64encode(encoded)),
                    start_s,
                    start_s + answer.range.step_s,
                    NS_PER_MS,
                )


def _groups(answer: ReportData, step: Aggregate) -> Iterator[tuple[str, Aggregate]]:
    """Yield the tag prefix and the aggregate of each group in a step."""
    if not answer.by:
        yield "", answer.whole(step)
        return
    for key, aggregate in sorted(answer.groups(step).items()):
        # A name may contain a space, and a tag must not.
        names = [quote(name, safe="/:@") for name in key]
        parts = [f"{dimension}={name};" for dimension, name in zip(answer.by, names, strict=True)]
        yield "".join(parts), aggregate


def _histograms(aggregate: Aggregate) -> Iterator[tuple[str, bytes]]:
    """Yield name and V2 encoding of each latency with samples, of an aggregate of one group."""
    cells = aggregate.cells.keys & ((1 << CELL_BITS) - 1)
    numbers, encoded = histogram.encode(
        cells >> histogram.BUCKET_BITS,
        cells & ((1 << histogram.BUCKET_BITS) - 1),
        aggregate.cells.values,
    )
    for number, data in zip(numbers.tolist(), encoded, strict=True):
        yield LATENCIES[number], data

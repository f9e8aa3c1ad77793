"""Fates of the records: counted, rejected, recognised as duplicates. Pure.

These samples are of no name, so that they stay on a page that leaves out names.
"""

from collections.abc import Mapping

from exporters.catalogue import requests as request_metrics
from exporters.metrics.exposition import Page, label_text
from exporters.metrics.group_shares import requests_of
from streams.events.fields import REASONS
from streams.state.registry import SERIES_DIMENSIONS
from streams.state.slices import Aggregate, duplicates_of, faults_by_field

OVERFLOW_DIMENSIONS = (*SERIES_DIMENSIONS, "series", "customer", "customer_model")


def add_records(page: Page, totals: Aggregate, overflowed: Mapping[str, int]) -> None:
    """Add the fates of records: counted, rejected by reason, duplicates, faults of fields and
    overflowed events.
    """
    page.add(request_metrics.COUNTED_TOTAL, "", int(requests_of(totals.series).sum()))
    refused = dict(zip(totals.rejected.keys.tolist(), totals.rejected.values.tolist(), strict=True))
    for at, reason in enumerate(REASONS):
        page.add(request_metrics.REFUSED_TOTAL, label_text({"reason": reason}), refused.get(at, 0))
    page.add(request_metrics.DUPLICATES_TOTAL, "", duplicates_of(totals))
    for (field, reason), count in sorted(faults_by_field(totals).items()):
        labels = label_text({"field": field, "reason": reason})
        page.add(request_metrics.FIELD_REJECTED_TOTAL, labels, count)
    for dimension in OVERFLOW_DIMENSIONS:
        page.add(
            request_metrics.FOLDED_TOTAL,
            label_text({"dimension": dimension}),
            overflowed.get(dimension, 0),
        )

"""Shares of the requests, by which groups of samples stay on a page that has too many.

Pure. A group is a name, or a combination of names, in one window or in all time.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from exporters.metrics.exposition import Page
from exporters.windows.incremental import Sums
from streams.state.slices import COUNTER_BITS, TOKENS_AT
from streams.state.tables import Ints, Table

FEWEST_SAMPLES = 16  # of a group


def least_share(max_samples: int, counts: Sequence[Table]) -> float:
    """Return the share of the requests below which no group can be on a page of `max_samples`.

    `counts`: requests by group, of each time and scope that the page is about. Such groups would be
    taken out by `Page.limit`; a hundred thousand of them take seconds to write.
    """
    most = max_samples // FEWEST_SAMPLES
    if sum(map(len, counts)) <= most:
        return 0.0
    shares = np.sort(np.concatenate([_shares(table) for table in counts]))
    least = float(shares[-most])
    # Invented names often have one request each: of so many equal groups none is added.
    equal = np.searchsorted(shares, least), np.searchsorted(shares, least, "right")
    return least if equal[1] - equal[0] <= most else float(np.nextafter(least, 1))


def _shares(counts: Table) -> npt.NDArray[np.float64]:
    requests: Ints = counts.values[:, :TOKENS_AT].sum(axis=1)
    shares: npt.NDArray[np.float64] = requests / max(int(requests.sum()), 1)
    return shares


def groups_to_add(page: Page, counts: Table) -> tuple[Table, list[float]]:
    """Return the rows of the groups that are used enough for the page, and their shares."""
    shares = _shares(counts)
    added = shares >= page.least_share
    page.samples_left_out += FEWEST_SAMPLES * int((~added).sum())
    return Table(counts.keys[added], counts.values[added]), shares[added].tolist()


def rows_of_groups(rows: Table, table: Table, low_bits: int) -> Table:
    """Return the part of a table by group that belongs to the groups of some rows."""
    kept = np.isin(table.keys >> low_bits, rows.keys)
    return Table(table.keys[kept], table.values[kept])


def labels_to_add(
    page: Page, sums: Sums, label: Callable[[int], str], always: bool
) -> tuple[dict[int, str], Sums]:
    """Return the labels of the groups that are used enough for a page, and their sums.

    `always`: whether they stay on a page that is too long.
    """
    rows, shares = groups_to_add(page, sums.counts)
    counters = sums.counters
    if page.least_share:
        counters = rows_of_groups(rows, counters, COUNTER_BITS)
    labels = {group: label(group) for group in rows.keys.tolist()}
    if not always:
        for base, share in zip(labels.values(), shares, strict=True):
            page.rank(base, share)
        # Groups of which only attempts ended in the window have no row of requests.
        for group in _groups_without_rows(rows, counters):
            page.rank(label(group), 0.0)
    return labels, replace(sums, counts=rows, counters=counters)


def _groups_without_rows(rows: Table, counters: Table) -> list[int]:
    groups: list[int] = np.setdiff1d(counters.keys >> COUNTER_BITS, rows.keys).tolist()
    return groups

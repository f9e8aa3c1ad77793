"""Shares of the requests, by which groups of samples stay on a page that has too many.

Pure. A group is a name, or a combination of names, in one window or in all time. The share of a
window's group is that of its requests in the window. A group of all time has the larger one of its
shares of a recent window and of all time: a new model soon has its samples, an hour without
requests costs no name its own, and invented names of the past leave before those in use.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from exporters.metrics.exposition import Page
from exporters.windows.incremental import Grouping, Sums
from streams.state.slices import COUNTER_BITS, TOKENS_AT
from streams.state.tables import Ints, Table

FEWEST_SAMPLES = 16  # of a group


Shares = npt.NDArray[np.float64]  # 0 to 1, by group


def least_share(max_samples: int, shares: Sequence[Shares]) -> float:
    """Return the share of the requests below which no group can be on a page of `max_samples`.

    `shares`: of the groups, of each time and scope that the page is about. Such groups would be
    taken out by `Page.limit`; a hundred thousand of them take seconds to write.
    """
    most = max_samples // FEWEST_SAMPLES
    if sum(map(len, shares)) <= most:
        return 0.0
    ordered = np.sort(np.concatenate(shares))
    least = float(ordered[-most])
    # Invented names often have one request each: of so many equal groups none is added.
    equal = np.searchsorted(ordered, least), np.searchsorted(ordered, least, "right")
    return least if equal[1] - equal[0] <= most else float(np.nextafter(least, 1))


def requests_of(counts: Table) -> Ints:
    """Return the requests and probes of each row."""
    requests: Ints = counts.values[:, :TOKENS_AT].sum(axis=1)
    return requests


def shares_of(counts: Table) -> Shares:
    """Return the share of each row in the requests of all."""
    requests = requests_of(counts)
    shares: Shares = requests / max(int(requests.sum()), 1)
    return shares


def shares_of_totals(counts: Table, recent: Table, grouping: Grouping) -> Shares:
    """Return the share of each group of all time: in a recent window or ever, the larger one.

    `counts`: by group. `recent`: of the window, by stored series.
    """
    lately = grouping.regroup(recent, 0)
    shares = shares_of(counts)
    # Each group of a window has counts of all time, but not in a state that was set back.
    known = np.isin(lately.keys, counts.keys)
    at = np.searchsorted(counts.keys, lately.keys[known])
    shares[at] = np.maximum(shares[at], shares_of(lately)[known])
    return shares


def groups_to_add(page: Page, counts: Table, shares: Shares) -> tuple[Table, list[float]]:
    """Return the rows of the groups that are used enough for the page, and their shares."""
    added = shares >= page.least_share
    page.samples_left_out += FEWEST_SAMPLES * int((~added).sum())
    return Table(counts.keys[added], counts.values[added]), shares[added].tolist()


def rows_of_groups(groups: Ints, table: Table, low_bits: int = 0) -> Table:
    """Return the part of a table by group that belongs to some groups."""
    kept = np.isin(table.keys >> low_bits, groups)
    return Table(table.keys[kept], table.values[kept])


def labels_to_add(
    page: Page, sums: Sums, label: Callable[[int], str], always: bool
) -> tuple[dict[int, str], Sums]:
    """Return the labels of the groups that are used enough for a page, and their sums.

    `always`: whether they stay on a page that is too long.
    """
    rows, shares = groups_to_add(page, sums.counts, shares_of(sums.counts))
    counters = sums.counters
    if page.least_share:
        counters = rows_of_groups(rows.keys, counters, COUNTER_BITS)
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

"""Our histograms are HdrHistogram's: same buckets, same bytes, same percentiles."""

import base64
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.state import histogram
from streams.state.slices import Aggregate, unpack_histograms
from tests.support.oracle_counts import bucket, nearest_rank
from tests.support.shelf import NOON, plain, shelf_after

QUICK = settings(max_examples=60, deadline=None)
VALUES = (
    st.integers(0, 600)
    | st.integers(0, histogram.HIGHEST)
    | st.sampled_from(
        [2**power + d for power in range(7, 46) for d in (-1, 0, 1)] + [histogram.HIGHEST]
    )
)
GROUPS = st.dictionaries(
    st.integers(0, 40),
    st.dictionaries(
        st.integers(0, 3) | st.integers(0, histogram.BUCKETS - 1),
        st.integers(1, 3) | st.integers(1, 2**40),
        min_size=1,
        max_size=20,
    )
    # long enough to be deflated
    | st.integers(1, 12).map(
        lambda gap: {at: 1 + at % 5 for at in range(0, histogram.BUCKETS, gap)}
    ),
    max_size=4,
)


def theirs() -> HdrHistogram:
    return HdrHistogram(histogram.LOWEST, histogram.HIGHEST, histogram.DIGITS)


def read_by_the_package(data: bytes) -> HdrHistogram:
    """A stored histogram as the `hdrhistogram` package reads it."""
    return HdrHistogram.decode(base64.b64encode(data))


def filled(read: HdrHistogram) -> dict[int, int]:
    """{highest value of a bucket: count}, as the package tells them."""
    return {
        item.value_iterated_to: item.count_at_value_iterated_to
        for item in read.get_recorded_iterator()
    }


def arrays(groups: dict[int, dict[int, int]]) -> list[npt.NDArray[Any]]:
    rows = [(g, b, n) for g in sorted(groups) for b, n in sorted(groups[g].items())]
    return [np.array(column, np.int64) for column in zip(*rows, strict=True)] or [
        np.empty(0, np.int64)
    ] * 3


@QUICK
@given(st.lists(VALUES, min_size=1, max_size=50))
def test_a_value_falls_into_the_bucket_that_the_package_puts_it_in(values: list[int]) -> None:
    package = theirs()
    found = histogram.bucket_of(np.array(values, np.int64))
    assert found.tolist() == [bucket(value) for value in values]
    highest = histogram.highest_in(found).tolist()
    assert highest == [package.get_highest_equivalent_value(value) for value in values]
    for value in values:
        package.record_value(value)
    counts = [package.get_count_at_value(value) for value in values]
    assert counts == [found.tolist().count(at) for at in found.tolist()]


def test_every_bucket_begins_where_the_one_before_ends() -> None:
    buckets = np.arange(histogram.BUCKETS)
    highest = histogram.highest_in(buckets)
    assert histogram.bucket_of(highest).tolist() == buckets.tolist()
    assert histogram.bucket_of(highest[:-1] + 1).tolist() == buckets[1:].tolist()
    assert highest[-1] >= histogram.HIGHEST
    assert 1 << histogram.BUCKET_BITS >= histogram.BUCKETS


@QUICK
@given(GROUPS)
def test_the_package_reads_what_we_write(groups: dict[int, dict[int, int]]) -> None:
    order, encoded = histogram.encode(*arrays(groups))
    assert order.tolist() == sorted(groups)
    for group, data in zip(order.tolist(), encoded, strict=True):
        highest = histogram.highest_in(np.array(sorted(groups[group]), np.int64)).tolist()
        counts = [count for _, count in sorted(groups[group].items())]
        assert filled(read_by_the_package(data)) == dict(zip(highest, counts, strict=True))


@QUICK
@given(GROUPS)
def test_decoding_gives_back_what_was_encoded(groups: dict[int, dict[int, int]]) -> None:
    order, encoded = histogram.encode(*arrays(groups))
    index, buckets, counts = histogram.decode(encoded)
    found: dict[int, dict[int, int]] = {group: {} for group in groups}
    for at, number, count in zip(index.tolist(), buckets.tolist(), counts.tolist(), strict=True):
        found[int(order[at])][number] = count
    assert found == groups


@QUICK
@given(st.lists(VALUES, min_size=1, max_size=120), st.sampled_from([0, 50, 90, 95, 99, 100]))
def test_a_percentile_is_the_nearest_rank_value_or_at_most_its_128th_part_more(
    values: list[int], percent: int
) -> None:
    buckets, counts = np.unique(histogram.bucket_of(np.array(values, np.int64)), return_counts=True)
    (found,) = histogram.percentiles(buckets, counts, [percent / 100])
    true = nearest_rank(values, percent)
    assert true <= found <= true * (1 + histogram.ERROR_RATIO)


def test_a_rank_that_is_a_whole_number_is_not_rounded_up() -> None:
    # 0.95 * 20 is 19.0, 0.95 * 100 would be 95.00000000000001 if floats had their way
    for samples in (20, 100, 1_000, 1_000_000):
        buckets = np.array([1, 2], np.int64)
        counts = np.array([samples * 95 // 100, samples - samples * 95 // 100], np.int64)
        assert histogram.percentiles(buckets, counts, [0.95]) == [1]
        assert histogram.percentiles(buckets, counts + np.array([-1, 1]), [0.95]) == [2]


def test_a_stored_histogram_gives_the_package_the_same_percentiles() -> None:
    ttfts_ms = [20 + 13 * number % 4_000 for number in range(200)]
    log = [plain(NOON, ttft_ms=ttft, duration_ms=5_000) for ttft in ttfts_ms]
    shelf = shelf_after(log)
    stored = unpack_histograms(shelf.fields[f"s:10:{NOON}"])
    assert set(stored) == {(0, "ttft"), (0, "tpot"), (0, "duration")}
    package = read_by_the_package(stored[0, "ttft"])
    assert package.get_total_count() == len(log)

    _, buckets, counts = histogram.decode([stored[0, "ttft"]])
    for percent in (50, 90, 95, 99, 100):
        # The package takes rank int(percent * n / 100 + 0.5); with 200 samples that is ours.
        (ours,) = histogram.percentiles(buckets, counts, [percent / 100])
        assert ours == package.get_value_at_percentile(percent)
        true = nearest_rank([ttft * 1_000_000 for ttft in ttfts_ms], percent)
        assert true <= ours <= true * (1 + 1 / 128)


def one_encoded(buckets: int = 5) -> bytes:
    entries = np.arange(buckets) * 3
    _, (data,) = histogram.encode(
        np.zeros(buckets, np.int64), entries, np.arange(1, buckets + 1) * 1_000
    )
    return data


@pytest.mark.parametrize("buckets", [5, 400], ids=["stored", "deflated"])
def test_damaged_bytes_are_an_error_and_never_other_counts(buckets: int) -> None:
    data = one_encoded(buckets)
    true = [column.tolist() for column in histogram.decode([data])]
    for length in range(0, len(data), 1 if buckets == 5 else 37):
        with pytest.raises(ValueError, match="histogram"):
            histogram.decode([data[:length]])
    for at in range(0, len(data), 1 if buckets == 5 else 37):
        for flip in (0x01, 0x80):
            damaged = data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :]
            try:
                found = histogram.decode([damaged])
            except ValueError:
                continue
            assert [column.tolist() for column in found] == true  # a bit that means nothing


@pytest.mark.parametrize("data", [b"", b"\x00" * 40, b"not a histogram at all, but long enough"])
def test_foreign_bytes_are_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="histogram"):
        histogram.decode([data])


def test_a_histogram_of_other_settings_is_an_error() -> None:
    package = HdrHistogram(1, 3_600_000_000, 3)
    package.record_value(1_000)
    with pytest.raises(ValueError, match="not one of our histograms"):
        histogram.decode([base64.b64decode(package.encode())])


def test_a_tally_without_histograms_has_none() -> None:
    assert unpack_histograms(Aggregate.empty().pack()) == {}

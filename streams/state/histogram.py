"""HdrHistogram on arrays: which bucket a value falls into, percentiles, the standard encoding.

Pure. Values are nanoseconds, from 0 to seven days, of two significant decimal digits. A bucket is
at most 1/128 of its values wide: a reported value is never below the true one, and at most 0.8 %
above it. Layout and bytes follow HdrHistogram (http://hdrhistogram.org), V2 encoding, so that any
of its libraries reads what we store.
"""

import itertools
import struct
import zlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from streams.state.tables import Ints, leb128_decode, leb128_encode

LOWEST, HIGHEST, DIGITS = 1, 7 * 86_400 * 10**9, 2
_HIGHEST_BEFORE = 86_400 * 10**9  # of state schema 2; the buckets below it are the same
ERROR_RATIO = 1 / 128

# 2 * 10**DIGITS values need single-unit resolution: 200, rounded up to a power of two.
_SUB_BUCKETS = 256
_HALF = _SUB_BUCKETS // 2
BUCKETS = ((HIGHEST // _SUB_BUCKETS).bit_length() + 1 + 1) * _HALF
BUCKET_BITS = 13  # 2**13 > BUCKETS

_PAYLOAD = struct.Struct(">IIIIQQd")  # cookie, length, index offset, digits, lowest, highest, ratio
_COMPRESSED = struct.Struct(">II")  # cookie, length
_COOKIE, _COMPRESSED_COOKIE = 0x1C849303 | 0x10, 0x1C849304 | 0x10
_STORE_BELOW = 512  # bytes; deflating less costs more time than it saves space


def bucket_of(values: Ints) -> Ints:
    """Bucket index of each value in [0, HIGHEST]."""
    # frexp's exponent is the bit length, exact as the values stay below 2**53.
    bits = np.frexp((values | (_SUB_BUCKETS - 1)).astype(np.float64))[1].astype(np.int64)
    shift = bits - 8
    buckets: Ints = ((shift + 1) << 7) + ((values >> shift) - _HALF)
    return buckets


def highest_in(buckets: Ints) -> Ints:
    """Return the largest value of each bucket, which HdrHistogram reports for it."""
    shift = np.maximum((buckets >> 7) - 1, 0)
    sub = np.where(buckets < _SUB_BUCKETS, buckets, (buckets & (_HALF - 1)) + _HALF)
    highest: Ints = ((sub + 1) << shift) - 1
    return highest


def percentiles(buckets: Ints, counts: Ints, ratios: Sequence[float]) -> list[int]:
    """Nearest-rank percentiles: the value at rank ceil(ratio * n), at least rank 1.

    `buckets` rises strictly, `counts` > 0, at least one; `ratios` in [0, 1]. Nanoseconds.
    """
    running = np.cumsum(counts)
    found = buckets[np.searchsorted(running, nearest_ranks(running[-1:], ratios))]
    return [int(value) for value in highest_in(found)]


def nearest_ranks(counts: Ints, ratios: npt.ArrayLike) -> Ints:
    """Return the nearest ranks of percentiles among some counts, at least 1; both broadcast."""
    # Rounding first keeps 0.95 * 100 = 95.00000000000001 from asking for rank 96.
    ranks: Ints = np.maximum(np.ceil(np.round(counts * np.asarray(ratios), 6)).astype(np.int64), 1)
    return ranks


def encode(groups: Ints, buckets: Ints, counts: Ints) -> tuple[Ints, list[bytes]]:
    """Write many sparse histograms at once.

    Three equal-long arrays, one entry a filled bucket, sorted by (group, bucket). Returns the
    distinct groups in rising order and each one's histogram in the compressed V2 encoding.
    """
    if len(groups) == 0:
        return groups, []
    first = np.concatenate(([True], groups[1:] != groups[:-1]))
    previous = np.where(first, -1, np.concatenate(([-1], buckets[:-1])))
    gaps = buckets - previous - 1
    # A gap of one empty bucket is written as a count of 0, a longer one as -gap; numbers are
    # zigzag-coded: n >= 0 becomes 2n, n < 0 becomes -2n - 1.
    numbers = np.empty(2 * len(groups), np.int64)
    numbers[0::2] = np.where(gaps == 1, 0, 2 * gaps - 1)
    numbers[1::2] = 2 * counts
    written = np.ones(2 * len(groups), bool)
    written[0::2] = gaps > 0
    heads = np.flatnonzero(first)
    places = np.concatenate((np.zeros(1, np.int64), np.cumsum(written)))  # of the written numbers
    data, starts = leb128_encode(numbers[written], places[2 * heads])
    cuts = [*starts.tolist(), len(data)]
    return groups[heads], [_wrap(data[start:end]) for start, end in itertools.pairwise(cuts)]


def _wrap(counts: bytes) -> bytes:
    if len(counts) >= _STORE_BELOW:
        deflated = zlib.compress(_payload_head(len(counts)) + counts, 1)
        return _COMPRESSED.pack(_COMPRESSED_COOKIE, len(deflated)) + deflated
    # A zlib stream of one stored block: read by every inflater, written without deflating.
    head, checksum = _stored_head(len(counts))
    return head + counts + zlib.adler32(counts, checksum).to_bytes(4, "big")


@lru_cache(maxsize=_STORE_BELOW)
def _stored_head(length: int) -> tuple[bytes, int]:
    """Return the header before `length` bytes of counts, and the checksum up to there."""
    payload_head = _payload_head(length)
    size = len(payload_head) + length
    block = b"\x78\x01\x01" + struct.pack("<HH", size, size ^ 0xFFFF)
    deflated_size = len(block) + size + 4
    head = _COMPRESSED.pack(_COMPRESSED_COOKIE, deflated_size) + block + payload_head
    return head, zlib.adler32(payload_head)


def _payload_head(length: int) -> bytes:
    return _PAYLOAD.pack(_COOKIE, length, 0, DIGITS, LOWEST, HIGHEST, 1.0)


def decode(encoded: Sequence[bytes]) -> tuple[Ints, Ints, Ints]:
    """Read histograms that `encode` wrote: (index, bucket, count) a filled bucket."""
    if not encoded:
        nothing = np.empty(0, np.int64)
        return nothing, nothing, nothing
    try:
        bodies = [zlib.decompress(memoryview(one)[_COMPRESSED.size :]) for one in encoded]
        heads = [_PAYLOAD.unpack_from(body) for body in bodies]
    except (zlib.error, struct.error) as error:
        raise ValueError(f"not a histogram: {error}") from error
    for body, head in zip(bodies, heads, strict=True):
        cookie, length, _, digits, lowest, highest, _ = head
        ours = (cookie, digits, lowest) == (_COOKIE, DIGITS, LOWEST)
        if not ours or highest not in (HIGHEST, _HIGHEST_BEFORE):
            raise ValueError(f"not one of our histograms: {cookie=:#x} {digits=} {highest=}")
        if length != len(body) - _PAYLOAD.size:
            raise ValueError(f"a histogram of {len(body) - _PAYLOAD.size} bytes claims {length}")
    data = np.frombuffer(b"".join(body[_PAYLOAD.size :] for body in bodies), np.uint8)
    sizes = np.array([len(body) - _PAYLOAD.size for body in bodies], np.int64)
    numbers = leb128_decode(data)
    number_ends = np.flatnonzero(data < 0x80)
    per_group = np.diff(np.searchsorted(number_ends, np.cumsum(sizes)), prepend=0)
    group = np.repeat(np.arange(len(bodies)), per_group)
    gap = np.where(numbers & 1, (numbers + 1) >> 1, 0)  # odd: a run of empty buckets
    count = np.where(numbers & 1, 0, numbers >> 1)
    step = np.where(gap > 0, gap, 1)
    after = np.cumsum(step)
    before_group = np.concatenate(([0], after))[np.cumsum(per_group) - per_group]
    bucket = after - step - np.repeat(before_group, per_group)
    filled = count > 0
    return group[filled], bucket[filled], count[filled]

"""Decompression within a limit of memory, whatever size the data declares.

Each codec fills a buffer of limited size, behind a given head. A declared size only decides how
large a buffer is tried first.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

import cramjam

# First try for codecs that do not declare a size, as JSON seldom shrinks by more. The second try is
# the limit itself.
USUAL_RATIO = 16
# Streams in a row in one gzip body. Kafka's producers write one; each further one costs a copy of
# the rest.
GZIP_MEMBERS = 16
# Zeros behind the data: aiokafka's reader reads a number before it checks the end of the data.
SPARE_BYTES = 32
# Java clients frame snappy: these bytes, two versions, then blocks of raw snappy, each behind its
# length. Some clients write one block of raw snappy.
_XERIAL, _XERIAL_HEADER_BYTES = b"\x82SNAPPY\x00", 16


class DecompressionError(Exception):
    """Data that does not decompress within the limit; the message is one line."""


class _BrokenError(Exception):
    """A fault that zlib and cramjam do not report."""


def decompress(codec: int, head: memoryview, packed: memoryview, max_bytes: int) -> memoryview:
    """Return `head` and the decompressed content of `packed` in one writable buffer.

    `codec` is Kafka's number of the codec. Raises DecompressionError, also if the content has more
    than `max_bytes`.
    """
    if codec not in _CODECS:
        raise DecompressionError(f"unknown compression codec {codec}")
    name, unpack = _CODECS[codec]
    try:
        return unpack(head, packed, max_bytes)
    except (cramjam.DecompressionError, zlib.error, _BrokenError) as error:
        raise DecompressionError(
            f"{len(packed):,} bytes of {name} do not decompress within {max_bytes:,} bytes "
            f"(worker.max_batch_mb): {error}"
        ) from error


def _gzip(head: memoryview, packed: memoryview, max_bytes: int) -> memoryview:
    parts: list[bytes | memoryview] = [head]
    left, rest = max_bytes + 1, bytes(packed)  # one byte more shows that there is too much
    for _ in range(GZIP_MEMBERS):
        member = zlib.decompressobj(wbits=31)
        parts.append(member.decompress(rest, left))
        left -= len(parts[-1])
        if left == 0:
            raise _BrokenError("there is more")
        if not member.eof:
            raise _BrokenError("it ends too early")
        rest = member.unused_data
        if not rest:
            parts.append(bytes(SPARE_BYTES))
            return memoryview(bytearray().join(parts))[:-SPARE_BYTES]
    raise _BrokenError(f"more than {GZIP_MEMBERS} streams in a row")


def _snappy(head: memoryview, packed: memoryview, max_bytes: int) -> memoryview:
    blocks = list(_xerial_blocks(packed)) if packed[: len(_XERIAL)] == _XERIAL else [packed]
    sizes = [cramjam.snappy.decompress_raw_len(block) for block in blocks]
    if sum(sizes) > max_bytes:
        raise _BrokenError(f"it declares {sum(sizes):,} bytes")
    buffer, end = _buffer(head, sum(sizes)), len(head)
    for block, size in zip(blocks, sizes, strict=True):
        cramjam.snappy.decompress_raw_into(block, buffer[end : end + size])
        end += size
    return buffer[:end]


def _xerial_blocks(packed: memoryview) -> Iterator[memoryview]:
    at = _XERIAL_HEADER_BYTES
    while at < len(packed):
        size = int.from_bytes(packed[at : at + 4], "big", signed=True)
        at += 4
        if not 0 < size <= len(packed) - at:
            raise _BrokenError(f"a block of {size:,} bytes does not fit in")
        yield packed[at : at + size]
        at += size


_Unpack = Callable[[memoryview, memoryview, int], memoryview]


def _frame_codec(into: Callable[[memoryview, memoryview], int]) -> _Unpack:
    """Return a function for lz4 or zstd, whose frames need not declare the size of the data."""

    def within(head: memoryview, packed: memoryview, max_bytes: int) -> memoryview:
        buffer = _buffer(head, max_bytes)
        written = into(packed, buffer[len(head) : len(head) + max_bytes])
        return buffer[: len(head) + written]

    def unpack(head: memoryview, packed: memoryview, max_bytes: int) -> memoryview:
        usual = USUAL_RATIO * len(packed)
        if usual < max_bytes:
            with suppress(cramjam.DecompressionError):
                return within(head, packed, usual)
        return within(head, packed, max_bytes)

    return unpack


def _buffer(head: memoryview, size: int) -> memoryview:
    """Return `head` with room behind it. Pages that are never written take no memory."""
    buffer = memoryview(bytearray(len(head) + size + SPARE_BYTES))
    buffer[: len(head)] = head
    return buffer


_CODECS: Mapping[int, tuple[str, _Unpack]] = {
    1: ("gzip", _gzip),
    2: ("snappy", _snappy),
    3: ("lz4", _frame_codec(cramjam.lz4.decompress_into)),
    4: ("zstd", _frame_codec(cramjam.zstd.decompress_into)),
}

"""Checksums of the fields in the hashes beside the state (`hash_archive.KINDS`).

Pure. JSON values are sealed by `checksums.seal_json` under the name of their field. Per-minute
counts are zlib streams, which have a checksum of their own. The field `reach` of a ledger is a map
by partition, and has its checksum under a partition that no topic has.
"""

import logging
import zlib
from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec

from streams.checksums import DamagedError, check_json, checksum, open_json, seal_json
from streams.errors import one_line
from streams.store.keys import LEDGER

log = logging.getLogger(__name__)

T = TypeVar("T")
Reach = Mapping[int, tuple[int, int]]  # partition -> (times rebuilt, checkpoint)

REACH = "reach"
TOKENS_CHANGE = "change"  # the field that differs after each write of tokens; no hash is so short
_EMPTY = zlib.compress(b"")
_SEAL_PARTITION = -1
_SEAL_REBUILT = -2  # below that of every reach, so that a version without checksums ignores it


def read_json(field: str, data: bytes, decode: Callable[[bytes], T]) -> T:
    """Return a decoded JSON value. Raises DamagedError."""
    check_json(field, data)
    try:
        return decode(data)
    except (ValueError, TypeError, LookupError) as error:
        raise DamagedError(field, f"cannot be read: {one_line(error)}") from error


def whole_fields(key: str, stored: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Return the JSON fields of a hash without checksums and damaged ones, which are logged."""
    whole = {}
    for field, data in stored.items():
        try:
            whole[field] = open_json(field.decode(errors="replace"), data)
        except DamagedError as error:
            log.error("%s: left out: %s", key, error)
    return whole


def pack_tokens(tokens: Mapping[str, str], change: str) -> dict[str, bytes]:
    """Return the fields of `unpack_tokens`; `change`: unique, so that readers notice the write."""
    values = {**tokens, TOKENS_CHANGE: change}
    return {name: seal_json(name, msgspec.json.encode(value)) for name, value in values.items()}


def unpack_tokens(key: str, stored: Mapping[bytes, bytes]) -> dict[str, str]:
    """Return the tokens in a hash, by the hash of the customer's id; without damaged ones."""
    return {
        name.decode(): msgspec.json.decode(value, type=str)
        for name, value in whole_fields(key, stored).items()
        if name != TOKENS_CHANGE.encode()
    }


def pack_reach(reach: Reach) -> bytes:
    """Return the bytes of `unpack_reach`."""
    crc = checksum(REACH, msgspec.msgpack.encode(dict(reach)))
    return msgspec.msgpack.encode({**reach, _SEAL_PARTITION: (_SEAL_REBUILT, crc)})


def unpack_reach(data: bytes) -> dict[int, tuple[int, int]]:
    """Read how far a ledger includes the state. Raises DamagedError."""
    try:
        reach = msgspec.msgpack.decode(data, type=dict[int, tuple[int, int]])
    except ValueError as error:
        raise DamagedError(REACH, f"cannot be read: {one_line(error)}") from error
    seal = reach.pop(_SEAL_PARTITION, None)
    crc = checksum(REACH, msgspec.msgpack.encode(reach))
    is_wrong = seal is not None and seal != (_SEAL_REBUILT, crc)
    # A wrong bit may also make another partition of the checksum's.
    if is_wrong or any(partition < 0 or rebuilt < 0 for partition, (rebuilt, _) in reach.items()):
        raise DamagedError(REACH, "its checksum is wrong")
    return reach


def check_field(name: str, field: bytes, data: bytes) -> None:
    """Check a field of the hash `name`, without its prefix of the topic. Raises DamagedError."""
    text = field.decode(errors="replace")
    if name.startswith(LEDGER) and text[:2] in ("c:", "s:"):
        try:
            # A name without counts has an empty field.
            zlib.decompress(data or _EMPTY)
        except zlib.error as error:
            raise DamagedError(text, f"cannot be read: {error}") from error
    elif name.startswith(LEDGER) and text == REACH:
        unpack_reach(data)
    else:
        check_json(text, data)

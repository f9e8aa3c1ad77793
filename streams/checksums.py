"""Checksums of stored values, in forms that a program without checksums reads as before.

Pure. A MessagePack array gets its CRC-32 as one more item, and a JSON text gets it as white space
at its end: the decoders of every version skip both. A value without a checksum was written by such
a program, and is read without the check. The CRC includes the name of the field, so that a value
is also noticed under another name.

    98 c4 02 … c0                      an array of 8 items
    99 c4 02 … c0 d6 43 5f 1b 09 e2    the same array, sealed: an extension of type `C`, 4 bytes
"""

import zlib

from streams.errors import Unavailable

_MARK = b"\xd6C"
_CRC_BYTES = 4
_SEAL_BYTES = len(_MARK) + _CRC_BYTES
_ARRAY_4, _ARRAY_16 = 0x90, 0xDC  # MessagePack's headers of arrays of up to 15 items, and of more
# Two bits of the CRC each; white space that JSON allows after a value.
_BLANKS = b" \t\n\r"
_BLANKS_OF_CRC = _CRC_BYTES * 4


class DamagedError(Unavailable):
    """A stored value is not the one that was written. `field`: its name in the store."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}")
        self.field, self.detail = field, detail


def checksum(field: str, data: bytes | memoryview) -> int:
    """Return the CRC-32 of a value under its name."""
    return zlib.crc32(data, zlib.crc32(field.encode()))


def seal_array(field: str, data: bytes) -> bytes:
    """Return a MessagePack array of fewer than 65,535 items with its checksum."""
    if data[0] == _ARRAY_16:
        body = data[:1] + (int.from_bytes(data[1:3]) + 1).to_bytes(2) + data[3:]
    elif data[0] < _ARRAY_4 + 15:
        body = bytes([data[0] + 1]) + data[1:]
    else:  # of 15 items: the longer header begins at 16
        body = bytes([_ARRAY_16, 0, 16]) + data[1:]
    return body + _MARK + checksum(field, body).to_bytes(_CRC_BYTES)


def check_array(field: str, data: bytes) -> bool:
    """Return whether a MessagePack array has a checksum. Raises DamagedError if it is wrong."""
    if data[-_SEAL_BYTES:-_CRC_BYTES] != _MARK:
        return False
    body = memoryview(data)[:-_SEAL_BYTES]
    if checksum(field, body) != int.from_bytes(data[-_CRC_BYTES:]):
        raise DamagedError(field, "its checksum is wrong")
    return True


def seal_json(field: str, data: bytes) -> bytes:
    """Return a JSON text with its checksum."""
    crc = checksum(field, data)
    return data + bytes(_BLANKS[crc >> 2 * at & 3] for at in range(_BLANKS_OF_CRC))


def check_json(field: str, data: bytes) -> bool:
    """Return whether a JSON text has a checksum. Raises DamagedError if it is wrong."""
    text = data.rstrip(_BLANKS)
    blanks = data[len(text) :]
    # A wrong bit in the last blank leaves an object with something behind it.
    if text.startswith(b"{") and not text.endswith(b"}"):
        raise DamagedError(field, "is no JSON text")
    if not blanks:
        return False
    if data != seal_json(field, text):
        raise DamagedError(field, "its checksum is wrong")
    return True


def open_json(field: str, data: bytes) -> bytes:
    """Return a JSON text without its checksum, if it has one. Raises DamagedError."""
    check_json(field, data)
    return data.rstrip(_BLANKS)

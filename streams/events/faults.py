"""The faults of single fields of counted records, as bits of one integer a record.

Pure. A fault is a (field, reason) pair: one of FIELDS, one of FIELD_REASONS.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from streams.events.fields import FIELDS

Fault = tuple[str, str]  # field, reason
# The bits are in memory only; the state stores the places of field and reason.
FAULTS: tuple[Fault, ...] = tuple(
    (field.name, reason) for field in FIELDS for reason in field.kind.reasons
)
_BITS: dict[Fault, np.uint64] = {
    fault: np.uint64(1) << np.uint64(at) for at, fault in enumerate(FAULTS)
}


def fault_bit(field: str, reason: str) -> np.uint64:
    """Return the bit of a fault; raises KeyError for a pair that cannot occur."""
    return _BITS[field, reason]


def fault_bits(faults: Iterable[Fault]) -> np.uint64:
    """Return the bits of several faults."""
    bits = np.uint64(0)
    for fault in faults:
        bits |= _BITS[fault]
    return bits


def faults_in(bits: npt.NDArray[np.uint64]) -> list[tuple[Fault, npt.NDArray[np.bool_]]]:
    """Return the faults that occur in some records, each with the mask of its records."""
    if not bits.any():
        return []
    present = int(np.bitwise_or.reduce(bits))
    return [
        (fault, (bits & _BITS[fault]) != 0) for at, fault in enumerate(FAULTS) if present >> at & 1
    ]


def faults_of(bits: int) -> list[Fault]:
    """Return the faults of one record."""
    return [fault for at, fault in enumerate(FAULTS) if bits >> at & 1]

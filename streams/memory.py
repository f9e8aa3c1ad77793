"""Memory of this process, and the limit that its container sets.

Linux only: on other systems both are unknown. Sources:
https://docs.kernel.org/filesystems/proc.html and
https://docs.kernel.org/admin-guide/cgroup-v2.html
"""

import os
from pathlib import Path
from typing import NamedTuple

_STATM = Path("/proc/self/statm")
# In a container its own group is at the root: version 2, then version 1.
_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
# Version 1 writes "no limit" as about 2^63; no machine has a pebibyte.
_UNLIMITED = 1 << 50


class MemoryUse(NamedTuple):
    """Memory of one process or server, in bytes."""

    used: int
    limit: int | None  # None if there is none


def process_memory() -> MemoryUse | None:
    """Return the resident memory of this process; None if the system does not report it."""
    try:
        # The second number of statm is that of the resident pages.
        pages = int(_STATM.read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return MemoryUse(pages * os.sysconf("SC_PAGE_SIZE"), _container_limit())


def _container_limit() -> int | None:
    for path in _LIMITS:
        try:
            limit = int(path.read_text())
        except (OSError, ValueError):  # no such group, or the word `max`
            continue
        return limit if limit < _UNLIMITED else None
    return None

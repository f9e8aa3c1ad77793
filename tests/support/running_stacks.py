"""The directory that a `tokenpulse up` has while it lives, without the stack."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tokenpulse.local.discovery import RunningStack, write_state
from tokenpulse.local.embedded import TEMP_MARK, TEMP_PREFIX


@contextmanager
def stack_directory(temporary: Path, stack: RunningStack, alive: bool = True) -> Iterator[Path]:
    """Yield the directory of a stack that runs, or that was killed."""
    directory = Path(tempfile.mkdtemp(prefix=TEMP_PREFIX, dir=temporary))
    (directory / TEMP_MARK).touch()
    lock = os.open(directory, os.O_RDONLY)
    if alive:
        fcntl.flock(lock, fcntl.LOCK_EX)
    write_state(directory, stack)
    try:
        yield directory
    finally:
        os.close(lock)

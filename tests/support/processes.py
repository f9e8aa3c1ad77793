"""Processes of the machine: whether one is running, and waiting for it to end."""

import os
from collections.abc import Callable
from pathlib import Path


def is_running(pid: int) -> bool:
    """Whether a process lives; one that only waits to be reaped does not."""
    status = Path(f"/proc/{pid}/stat")
    if status.parent.parent.joinpath("self").exists():
        try:
            return status.read_text().rpartition(")")[2].split()[0] != "Z"
        except (FileNotFoundError, ProcessLookupError):
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def gone(pids: list[int]) -> Callable[[], bool]:
    return lambda: not any(is_running(pid) for pid in pids)

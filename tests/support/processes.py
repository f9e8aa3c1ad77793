"""Processes of the machine: starting a stack, whether one is running, and waiting for its end."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.paths import ROOT


@contextmanager
def started_stack(
    arguments: list[str], temporary: Path, **variables: str
) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Python with these arguments, which starts a stack: the process, and what it printed.

    It is killed at the end.
    """
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env={**os.environ, "TMPDIR": str(temporary), **variables},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    printed = ""
    try:
        for line in process.stdout:
            printed += line
            if "Ctrl-C" in line:
                break
        yield process, printed
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


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

"""Which `tokenpulse up` runs on this machine, for commands that are to find it.

A shell around the file system. The note lies in the stack's own directory, which only its user can
read, which is locked as long as the stack lives, and which goes when it does. So a note without a
lock is of a stack that was killed, whatever process has its number now.
"""

import fcntl
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from tokenpulse.local.embedded import TEMP_MARK, TEMP_PREFIX

NOTE = "up.json"


@dataclass(frozen=True, slots=True)
class RunningStack:
    """A stack that runs: where its board is and where scenarios are ordered."""

    pid: int
    started_at_ms: int
    board_url: str
    redis_url: str
    group: str
    topic: str


def leave_note(directory: Path, stack: RunningStack) -> None:
    """Say that a stack runs, in its directory; the note is there as a whole or not at all."""
    draft = directory / f"{NOTE}.draft"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(stack), file)
    draft.rename(directory / NOTE)


def running_stacks() -> list[RunningStack]:
    """The stacks of this user that run, the newest first."""
    found = []
    for note in Path(tempfile.gettempdir()).glob(f"{TEMP_PREFIX}*/{NOTE}"):
        try:
            if note.stat().st_uid == os.getuid() and _is_locked(note.parent):
                found.append(RunningStack(**json.loads(note.read_text(encoding="utf-8"))))
        except (OSError, ValueError, TypeError):
            continue  # gone meanwhile, or of another version
    return sorted(found, key=lambda stack: -stack.started_at_ms)


def _is_locked(directory: Path) -> bool:
    if not (directory / TEMP_MARK).exists() or directory.stat().st_uid != os.getuid():
        return False
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)

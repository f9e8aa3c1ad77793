"""Which `tokenpulse up` runs on this machine: a state file in the directory of each stack.

Only the user of a stack can read its directory. A stack locks its directory while it lives and
removes it at its end, so a state file without a lock is that of a killed stack, even if another
process has its id now.
"""

import fcntl
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tokenpulse.local.embedded import TEMP_MARK, TEMP_PREFIX

STATE_FILE = "up.json"


@dataclass(frozen=True, slots=True)
class RunningStack:
    """A running stack.

    `settings`: its settings that differ from the defaults, by section, as `load_settings` takes
    them; with its addresses and its secrets.
    """

    pid: int
    started_at_ms: int
    board_url: str
    settings: Mapping[str, Any]

    @property
    def redis_url(self) -> str:
        return str(self.settings["redis"]["url"])


def write_state(directory: Path, stack: RunningStack) -> None:
    """Write the state file of a stack atomically."""
    draft = directory / f"{STATE_FILE}.draft"
    # Only the user may read it: it has secrets, and the addresses lead to all data.
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(stack), file)
    # A reader sees the whole file or none.
    draft.rename(directory / STATE_FILE)


def running_stacks() -> list[RunningStack]:
    """Return the running stacks of this user, the newest first."""
    stacks = []
    for file in Path(tempfile.gettempdir()).glob(f"{TEMP_PREFIX}*/{STATE_FILE}"):
        try:
            if file.stat().st_uid == os.getuid() and _is_locked(file.parent):
                stack = RunningStack(**json.loads(file.read_text(encoding="utf-8")))
                _ = stack.redis_url  # a stack of another version may have none
                stacks.append(stack)
        except (OSError, ValueError, TypeError, KeyError):
            continue  # removed meanwhile, or of another version
    return sorted(stacks, key=lambda stack: -stack.started_at_ms)


def _is_locked(directory: Path) -> bool:
    # Another user could create a directory with a well-chosen name.
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

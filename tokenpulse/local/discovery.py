"""Which `tokenpulse up` runs on this machine: a state file in the directory of each stack.

The directory of a stack is below the temporary directory of its terminal. Another terminal may have
another one (TMPDIR), so the links to all are in a directory that depends on the user only.

Only the user of a stack can read its directory. A stack locks its directory while it lives and
removes it at its end, so a state file without a lock is that of a killed stack, even if another
process has its id now.
"""

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
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


def user_directory() -> Path | None:
    """Return the directory with the links to the stacks of this user; None if it cannot be written.

    It is below XDG_RUNTIME_DIR, or ~/.cache if that is not set or not writable.
    """
    bases = [Path(runtime)] if (runtime := os.environ.get("XDG_RUNTIME_DIR")) else []
    with suppress(RuntimeError):  # a user of a container may have no home directory
        bases.append(Path.home() / ".cache")
    for base in bases:
        directory = base / "tokenpulse"
        with suppress(OSError):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if directory.stat().st_uid == os.getuid() and os.access(directory, os.W_OK | os.X_OK):
                return directory
    return None


def remove_dead_links() -> None:
    """Remove the links to the directories of stacks that have ended."""
    for link in _links():
        if not link.exists():
            with suppress(OSError):
                link.unlink()


def write_state(directory: Path, stack: RunningStack) -> None:
    """Write the state file of a stack atomically, and link its directory for other terminals."""
    draft = directory / f"{STATE_FILE}.draft"
    # Only the user may read it: it has secrets, and the addresses lead to all data.
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(stack), file)
    # A reader sees the whole file or none.
    draft.rename(directory / STATE_FILE)
    if links := user_directory():
        # Without the link the stack runs as well; commands with the same TMPDIR find it.
        with suppress(OSError):
            (links / directory.name).symlink_to(directory.absolute())


def running_stacks() -> list[RunningStack]:
    """Return the running stacks of this user, the newest first."""
    stacks = []
    for directory in _stack_directories():
        file = directory / STATE_FILE
        try:
            if file.stat().st_uid == os.getuid() and _is_locked(file.parent):
                stack = RunningStack(**json.loads(file.read_text(encoding="utf-8")))
                _ = stack.redis_url  # a stack of another version may have none
                stacks.append(stack)
        except (OSError, ValueError, TypeError, KeyError):
            continue  # removed meanwhile, or of another version
    return sorted(stacks, key=lambda stack: -stack.started_at_ms)


def _stack_directories() -> Iterator[Path]:
    """Yield each directory that may be of a stack once."""
    near = Path(tempfile.gettempdir()).glob(f"{TEMP_PREFIX}*")
    yield from {directory.resolve() for directory in (*near, *_links())}


def _links() -> list[Path]:
    directory = user_directory()
    return [] if directory is None else list(directory.glob(f"{TEMP_PREFIX}*"))


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

"""Files that a command writes: checked before its work begins, written at its end."""

import os
from pathlib import Path

from streams.errors import ConfigError

_FIX = "give a path in a directory that exists, and that this user may write to"


def check_output(option: str, path: Path) -> None:
    """Raise ConfigError if a file cannot be written; `option` names it in the message.

    Without the check the work of minutes would be lost for a misspelt folder.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(None, "it is a directory")
        # A new file needs the right to write to its directory, an old one only its own.
        place = path if path.exists() else path.parent
        if not place.exists():
            raise FileNotFoundError(None, f"no directory {place}")
        if not path.exists() and not place.is_dir():
            raise NotADirectoryError(None, f"{place} is no directory")
        if not os.access(place, os.W_OK):
            raise PermissionError(None, f"no permission to write {place}")
    except OSError as error:
        raise ConfigError(f"{option}: cannot write {path}: {error.strerror}; {_FIX}") from error


def write_output(option: str, path: Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8. Raises ConfigError if that fails."""
    try:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise ConfigError(f"{option}: cannot write {path}: {error.strerror}; {_FIX}") from error

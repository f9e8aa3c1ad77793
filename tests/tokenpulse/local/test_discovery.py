"""Finding the stacks of a user from terminals with other temporary directories."""

import os
import tempfile
from pathlib import Path

import pytest

from tests.support.running_stacks import stack_directory
from tokenpulse.local.discovery import (
    RunningStack,
    remove_dead_links,
    running_stacks,
    user_directory,
)

STACK = RunningStack(os.getpid(), 5, "http://127.0.0.1:1/", {"redis": {"url": "redis://x"}})


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without other stacks, whose XDG_RUNTIME_DIR is `runtime`."""
    runtime, home = tmp_path / "runtime", tmp_path / "home"
    for directory in (runtime, home, tmp_path / "here", tmp_path / "there"):
        directory.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setenv("HOME", str(home))
    return home


def test_a_stack_is_found_from_a_terminal_with_another_tmpdir(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "there"))
    with stack_directory(tmp_path / "here", STACK):
        assert running_stacks() == [STACK]
        # With the same TMPDIR it is found twice, and is one stack.
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "here"))
        assert running_stacks() == [STACK]
    assert running_stacks() == []  # no process holds the lock any longer


def test_links_of_ended_stacks_are_removed_and_those_of_others_stay(
    home: Path, tmp_path: Path
) -> None:
    links = tmp_path / "runtime" / "tokenpulse"
    with stack_directory(tmp_path / "here", STACK) as ended:
        pass
    with stack_directory(tmp_path / "here", STACK) as alive:
        for file in ended.iterdir():
            file.unlink()
        ended.rmdir()
        remove_dead_links()
        assert [link.name for link in links.iterdir()] == [alive.name]


def test_the_cache_of_the_user_is_the_place_without_a_runtime_directory(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert user_directory() == tmp_path / "runtime" / "tokenpulse"
    (tmp_path / "file").touch()
    for absent in ("", str(tmp_path / "file")):
        monkeypatch.setenv("XDG_RUNTIME_DIR", absent)
        assert user_directory() == home / ".cache" / "tokenpulse"
    (home / ".cache" / "tokenpulse").rmdir()
    (home / ".cache").rmdir()
    (home / ".cache").touch()
    assert user_directory() is None

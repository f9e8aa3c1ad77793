"""The program of the version before this one, installed from a wheel of its own commit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

# The last version that was released. Give the commit of the next one once that is released.
COMMIT = "95ec68a661e1afbf010443a3b4c0d204d08c8204"


def install_earlier_release(directory: Path) -> Path:
    """Build the wheel of COMMIT, and return the directory below `directory` where it is installed.

    Its dependencies are those of this version. The test is skipped if the clone is too shallow to
    have the commit.
    """
    asked = subprocess.run(
        ["git", "cat-file", "-e", f"{COMMIT}^{{commit}}"], cwd=ROOT, capture_output=True
    )
    if asked.returncode != 0:
        pytest.skip(f"this clone has no commit {COMMIT[:8]}: run `git fetch --unshallow`")
    source, wheels, installed = (directory / name for name in ("source", "wheels", "installed"))
    source.mkdir(parents=True)
    archive = directory / "source.tar"
    run("git", "archive", "--output", archive, COMMIT, in_directory=ROOT)
    run("tar", "-xf", archive, "-C", source, in_directory=directory)
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    offline = ("--no-index", "--no-deps")
    options = ("--no-build-isolation", "--wheel-dir", wheels)
    run(*pip, "wheel", *offline, *options, source, in_directory=directory)
    [wheel] = wheels.glob("*.whl")
    run(*pip, "install", *offline, "--target", installed, wheel, in_directory=directory)
    # An installation of this version in the same environment must not take its place.
    show = "import streams; print(streams.__file__)"
    used = run(sys.executable, "-c", show, in_directory=directory, PYTHONPATH=str(installed))
    assert Path(used.strip()).is_relative_to(installed)
    return installed


def run(*command: str | Path, in_directory: Path, **variables: str) -> str:
    """Return what a program printed; its errors are in the failure, if it fails."""
    done = subprocess.run(
        command, cwd=in_directory, env={**os.environ, **variables}, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout

"""Programs beyond Python and PyPI that tests start. `bash tests/provision.sh` installs them.

A test that starts one is marked `stack`, so that `make test` runs without any of them.
"""

import shutil
from collections.abc import Callable
from typing import TypeVar

import pytest

T = TypeVar("T", bound=Callable[..., object])

_running: list[bool] = []  # of the test that is set up or run: marked `stack`?


def needs_programs(**paths: str | None) -> Callable[[T], T]:
    """Return a decorator for tests that start these programs; None is one that is absent."""
    return lambda test: pytest.mark.stack(_skip_without(paths)(test))


def needed_programs(**paths: str | None) -> list[pytest.MarkDecorator]:
    """Return the marks of a module whose tests start these programs, for its `pytestmark`."""
    return [pytest.mark.stack, _skip_without(paths)]


def _skip_without(paths: dict[str, str | None]) -> pytest.MarkDecorator:
    missing = [name.replace("_", "-") for name, path in paths.items() if path is None]
    reason = f"not on PATH: {', '.join(missing)}; run `bash tests/provision.sh`"
    return pytest.mark.skipif(bool(missing), reason=reason)


def begin_test(stack: bool) -> None:
    """Note whether the test that begins may start programs beyond PyPI."""
    _running[:] = [stack]


def demand_stack_mark(need: str) -> None:
    """Fail a test that needs more than PyPI and is not marked for it."""
    assert all(_running), f"needs {need}: mark this test `stack`"


def find_program(*names: str) -> str:
    """Return the path of the first of these programs that is there; skip the test without one."""
    demand_stack_mark(names[0])
    for name in names:
        if path := shutil.which(name):
            return path
    pytest.skip(f"{names[0]} is not on PATH: run `bash tests/provision.sh`")

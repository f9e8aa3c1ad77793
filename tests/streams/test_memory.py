"""The memory of a process and its limit, from files as the kernel writes them."""

import os
from pathlib import Path

import pytest

from streams import memory
from streams.memory import MemoryUse, process_memory

PAGE = os.sysconf("SC_PAGE_SIZE")


def test_this_process_has_memory() -> None:
    use = process_memory()
    assert use is None or 1_000_000 < use.used < 1 << 40


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"statm": "nonsense"}, None),
        ({"statm": "900 25 3"}, MemoryUse(25 * PAGE, None)),
        ({"statm": "900 25 3", "v2": "4096000\n"}, MemoryUse(25 * PAGE, 4_096_000)),
        ({"statm": "900 25 3", "v2": "max\n"}, MemoryUse(25 * PAGE, None)),
        ({"statm": "900 25 3", "v1": "8192000\n"}, MemoryUse(25 * PAGE, 8_192_000)),
        ({"statm": "900 25 3", "v1": "9223372036854771712\n"}, MemoryUse(25 * PAGE, None)),
    ],
)
def test_the_memory_and_its_limit_are_those_of_the_kernel(
    files: dict[str, str],
    expected: MemoryUse | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(memory, "_STATM", tmp_path / "statm")
    monkeypatch.setattr(memory, "_LIMITS", (tmp_path / "v2", tmp_path / "v1"))
    assert process_memory() == expected

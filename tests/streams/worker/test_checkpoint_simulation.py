"""The checkpoint protocol over a hundred thousand made-up lives; see checkpoint_simulation.py."""

import multiprocessing
import os
import subprocess
import sys

import pytest

from tests.support.checkpoint_simulation import Life, all_broken, broken
from tests.support.paths import ROOT

LIVES = int(os.environ.get("SIMULATED_LIVES", "100000"))
# Without one of the protections, at most two hundred lives pass before one breaks a promise.
QUICK_LIVES = min(LIVES, 2_000)
PART = 500


def assert_kept(first: int, end: int) -> None:
    """No life with a seed in [first, end) breaks a promise."""
    parts = [range(at, min(at + PART, end)) for at in range(first, end, PART)]
    with multiprocessing.get_context("spawn").Pool() as pool:
        found = [one for part in pool.imap_unordered(all_broken, parts) for one in part]
    how = "python -m tests.support.checkpoint_simulation SEED tells a life step by step"
    assert not found, f"{len(found)} of the lives: {'; '.join(sorted(found)[:5])}; {how}"


def test_no_life_breaks_a_promise() -> None:
    assert_kept(0, QUICK_LIVES)


@pytest.mark.slow
def test_none_of_all_further_lives_breaks_a_promise() -> None:
    assert_kept(QUICK_LIVES, LIVES)


@pytest.mark.parametrize(
    ("without", "seen"),
    [
        ("owner", "who is not the owner has written"),
        ("offset", "stored at"),
        ("flush_id", "that was written is said to be in conflict"),
        ("trim", "stored at"),
    ],
)
def test_every_protection_is_needed(without: str, seen: str) -> None:
    found = [one for seed in range(200) if (one := broken(seed, without))]
    assert any(seen in one for one in found), f"nothing breaks without {without}"


def test_a_life_is_the_same_whenever_its_seed_is_lived() -> None:
    assert list(Life(7).steps()) == list(Life(7).steps())


def test_a_broken_life_can_be_told_step_by_step() -> None:
    seed = next(seed for seed in range(200) if broken(seed, "trim"))
    told = subprocess.run(
        [sys.executable, "-m", "tests.support.checkpoint_simulation", str(seed), "trim"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert "worker" in told.stdout
    assert "BrokenPromiseError: stored at" in told.stderr


def test_lives_meet_what_they_are_about() -> None:
    told = [step for seed in range(300) for step in Life(seed).steps()]
    for what in (
        "a late checkpoint lands",
        "the partition moves",
        "the store goes back",
        "the store loses everything",
        "Kafka forgets",
        "is killed",
        "claims at",
    ):
        assert any(what in step for step in told), what

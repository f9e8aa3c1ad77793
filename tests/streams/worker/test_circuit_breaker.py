"""When too much of a partition is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.worker.circuit_breaker import CircuitBreaker


def cut(marks: list[bool], sizes: list[int]) -> list[tuple[int, list[int]]]:
    """The marks as batches: (size, refused positions), sizes taken in turn."""
    at = 0
    batches: list[tuple[int, list[int]]] = []
    while at < len(marks):
        part = marks[at : at + sizes[len(batches) % len(sizes)]]
        batches.append((len(part), [place for place, bad in enumerate(part) if bad]))
        at += len(part)
    return batches


def trips(breaker: CircuitBreaker, batches: list[tuple[int, list[int]]]) -> bool:
    return any(breaker.check(size, refused) is not None for size, refused in batches)


def wrong(marks: list[bool], ratio: float, records: int, run: int) -> bool:
    """The definition, recounted: any `run` in a row, or more than `ratio` of any `records`."""
    runs = run and any(all(marks[at : at + run]) for at in range(len(marks) - run + 1))
    most = max((sum(marks[at : at + records]) for at in range(len(marks) - records + 1)), default=0)
    return bool(runs) or most > ratio * records


@given(
    st.lists(st.booleans(), max_size=60),
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.sampled_from([0.1, 0.5, 0.75, 1.0]),
    st.integers(1, 12),
    st.integers(0, 9),
)
def test_it_trips_exactly_where_a_recount_says_however_the_log_is_cut(
    marks: list[bool], sizes: list[int], ratio: float, records: int, run: int
) -> None:
    batches = cut(marks, sizes)
    breaker = CircuitBreaker(ratio, records, run)
    assert trips(breaker, batches) == wrong(marks, ratio, records, run)


def test_it_says_what_it_saw() -> None:
    assert CircuitBreaker(0.5, 4, 0).check(4, [0, 1, 2]) == "3 of 4 records were rejected"
    assert CircuitBreaker(1, 1_000, 3).check(5, [1, 2, 3]) == "3 records in a row were rejected"


def test_a_ratio_of_one_and_a_run_of_none_never_trip() -> None:
    assert CircuitBreaker(1, 10, 0).check(1_000, range(1_000)) is None


def test_a_batch_that_trips_it_trips_it_again() -> None:
    breaker = CircuitBreaker(0.5, 4, 0)
    assert breaker.check(3, []) is None
    for _ in range(3):
        assert breaker.check(4, [1, 2, 3]) is not None


@pytest.mark.parametrize("let_through", [False, True])
def test_what_somebody_lets_through_is_not_held_against_what_follows(let_through: bool) -> None:
    breaker = CircuitBreaker(0.5, 4, 0)
    assert breaker.check(3, [1, 2]) is None
    if let_through:
        breaker.reset()
    assert (breaker.check(1, [0]) is None) == let_through

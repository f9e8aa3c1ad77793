"""Requests are classified by their input tokens between the limits that are counted."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.events.fields import MAX_TOKENS
from streams.events.input_length import class_names, class_numbers, lengths_of
from tests.support.contract import read_record
from tests.support.event_samples import RULES, accepted, judge, raw

LIMITS = st.lists(st.integers(1, 50), max_size=4, unique=True).map(
    lambda found: tuple(sorted(found))
)


@given(LIMITS, st.lists(st.integers(-1, 60)))
def test_a_class_contains_the_tokens_of_its_requests(
    limits: tuple[int, ...], tokens: list[int]
) -> None:
    names = class_names(limits)
    assert len(set(names)) == len(names)
    for count, at in zip(tokens, class_numbers(np.array(tokens, np.int64), limits), strict=True):
        lengths = lengths_of(names[at])
        if count < 0 or not limits:
            assert lengths is None
        else:
            assert lengths is not None
            assert lengths[0] <= count <= (MAX_TOKENS if lengths[1] is None else lengths[1])


def test_the_names_of_classes_are_their_bounds() -> None:
    assert class_names((8_000, 128_000)) == ["<=8000", ">8000 <=128000", ">128000", "unknown"]


@pytest.mark.parametrize(
    ("changes", "length"),
    [
        ({"input_tokens": 400}, "<=400"),
        ({"input_tokens": 401}, ">400"),
        ({"input_tokens": None}, "unknown"),
        ({"input_tokens": -1}, "unknown"),
        ({"input_tokens": 10**13}, "unknown"),
        ({"outcome": "timeout", "input_tokens": 500}, ">400"),
        ({"probe": True, "input_tokens": 500}, ">400"),
    ],
)
def test_the_length_is_part_of_the_series_if_a_limit_is_counted(
    changes: dict[str, Any], length: str
) -> None:
    value = raw(cached_input_tokens=None, **changes)
    row = accepted(value, rules=replace(RULES, input_limits=(400,)))
    assert row["series"][-1] == length
    must = read_record(value, input_limits=(400,))
    assert isinstance(must, dict)
    assert row["series"] == must["series"]
    assert accepted(value)["series"][-1] == ""


def test_events_of_one_name_and_length_are_one_series() -> None:
    values = [raw(input_tokens=tokens, cached_input_tokens=0) for tokens in (1, 900, 2, 901)]
    decoded = judge(values, rules=replace(RULES, input_limits=(400, 800)))
    assert [key[-1] for key in decoded.columns.series] == ["<=400", ">800"]
    assert decoded.columns.series_index.tolist() == [0, 1, 0, 1]

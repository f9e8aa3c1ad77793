"""The published documents say what the decoder does."""

import itertools
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from streams.events.decoder import EventLimits, decode
from streams.events.epoch import EARLIEST_MS
from streams.events.faults import faults_of
from streams.events.fields import (
    CLASS_OUTCOMES,
    ENDINGS,
    ERROR_CLASSES,
    FIELD_REASONS,
    FIELDS,
    MAX_LATENCY_MS,
    MAX_TIME_MS,
    MAX_TOKENS,
    OUTCOMES,
    REASONS,
)
from streams.events.page import FIELD_COSTS, FIELD_REASON_HELP, REASON_HELP
from streams.events.schema import documents, json_schema
from tests.support.contract import read_record
from tests.support.paths import ROOT

EVENT = {
    "request_id": "r1",
    "ended_at": 1_700_000_000_000,
    "model": "opus",
    "outcome": "success",
    "input_tokens": 10,
}
SCHEMA = Draft202012Validator(json_schema())
ANY_TIME = EventLimits(max_event_bytes=1_000_000, future_tolerance_ms=2**60, horizon_ms=2**60)


def decoder_accepts(event: object) -> bool:
    """Whether an event is counted with all its fields."""
    values = [json.dumps(event).encode()]
    decoded = decode(values, np.zeros(1, np.int64), None, ANY_TIME)
    faults = [fault for bits in decoded.columns.faults.tolist() for fault in faults_of(bits)]
    return not decoded.rejections and not [one for one in faults if one[1] != "suspicious"]


def test_the_documents_in_the_project_are_the_generated_ones() -> None:
    for path, text in documents().items():
        assert (ROOT / path).read_text() == text, f"{path} is out of date; run `make docs`"


def test_the_schema_is_a_valid_schema() -> None:
    Draft202012Validator.check_schema(json_schema())


def test_every_reason_is_explained_once() -> None:
    assert tuple(REASON_HELP) == REASONS
    assert tuple(FIELD_REASON_HELP) == FIELD_REASONS
    page = documents()["docs/events.md"]
    assert all(f"| `{reason}` |" in page for reason in (*REASONS, *FIELD_REASONS))


def test_the_page_says_what_each_field_costs() -> None:
    assert list(FIELD_COSTS) == [field.name for field in FIELDS]
    page = documents()["docs/events.md"]
    assert all(f"| {cost} |" in page for cost in FIELD_COSTS.values())


WORDS = (
    *("", "a", "us-east-1", "a\n", "\n", "é", "a" * 96, "a" * 97, "a" * 128, "a" * 129),
    *("a b", "a/b:c@d._-", "a,b", "\x00", "null", "1", "unknown", *OUTCOMES),
    *(*ERROR_CLASSES, *ENDINGS),
)
# No 30 February: that it is none, a pattern cannot say (the $comment of the schema admits it).
TIMES = (
    *("2026-11-22T10:00:00Z", "2026-11-22t10:00:00z", "2026-11-22T10:00:60.5+05:30"),
    *("2026-11-22 10:00:00Z", "2026-11-22T10:00:00", "2026-11-22T24:00:00Z", "2026-11-22"),
    *("2026-11-22T10:00:00Z\n", "2026-11-22T10:00:00.Z", "2026-11-22T10:00:00+0530"),
    *("2026-11-22T10:00:00.123456789Z", "2026-13-22T10:00:00Z", "٢026-11-22T10:00:00Z"),
)
EDGES = (
    *(-1, 0, 1, 199, 200, 204, 299, 300, 404, 499, 503, 599, 600, 999, 1000, 2**64, 10**30),
    *(edge + step for edge in (MAX_LATENCY_MS, MAX_TIME_MS, MAX_TOKENS) for step in (0, 1)),
    *(EARLIEST_MS - 1, EARLIEST_MS, 1_700_000_000, 1_700_000_000_000_000),
    *(0.5, -0.5, 86_399_999.5, 86_400_000.5, 1e-300),
)
VALUES = (None, True, False, [], {}, [1], {"a": 1}, *WORDS, *TIMES, *EDGES)


def likely(name: str) -> st.SearchStrategy[object]:
    """Values that a field takes, more often than those it refuses."""
    kind = next(field.kind for field in FIELDS if field.name == name)
    right = {
        "boolean": st.booleans(),
        "number": st.integers(0, 9),
        "integer": st.sampled_from([0, 1, 200, 204, 404, 503]),
        "string": st.sampled_from(["a", "unknown"])
        | st.sampled_from([*OUTCOMES, *ERROR_CLASSES, *ENDINGS]),
    }[kind.json_types[0]]
    return right | st.none() | st.sampled_from(VALUES)


EVENTS = st.fixed_dictionaries(
    {},
    optional={field.name: likely(field.name) for field in FIELDS}
    | {"unheard_of": st.sampled_from(VALUES)},
)
ABSENT = st.sets(st.sampled_from(sorted(EVENT)), max_size=2)


def parts_fit_their_wholes(event: dict[str, object]) -> bool:
    def number(name: str, absent: float) -> float:
        value = event.get(name)
        return value if isinstance(value, int | float) and value >= 0 else absent

    given, output, total = (number(f"{name}_tokens", -1) for name in ("input", "output", "total"))
    duration_ms = number("duration_ms", float("inf"))
    return (
        # A part of an unknown whole is unknown too, which is no fault.
        (given < 0 or number("cached_input_tokens", 0) <= given)
        and (given < 0 or number("cache_write_tokens", 0) <= given)
        and (output < 0 or number("reasoning_tokens", 0) <= output)
        and (min(given, output, total) < 0 or total == given + output)
        and number("ttft_ms", 0) <= duration_ms + max(1, duration_ms / 1_000) + 1e-6
        and _first_visible_fits(event, number)
        and _class_fits(event)
    )


def _first_visible_fits(event: dict[str, object], number: Callable[[str, float], float]) -> bool:
    visible_ms = number("first_visible_token_ms", -1)
    duration_ms = number("duration_ms", float("inf"))
    if visible_ms < 0:
        return True
    if visible_ms > duration_ms + max(1, duration_ms / 1_000) + 1e-6:
        return False
    visible_ms = min(visible_ms, duration_ms)
    ttft_ms = min(number("ttft_ms", 0), duration_ms)
    return ttft_ms <= visible_ms + max(1, visible_ms / 1_000) + 1e-6


def _class_fits(event: dict[str, object]) -> bool:
    """Whether the class is one of the outcome of an event whose fields are valid."""
    given = event.get("error_class")
    read = read_record(json.dumps(event).encode(), 10**6)
    if given is None or given not in CLASS_OUTCOMES or isinstance(read, str):
        return True
    return read["outcome"] in CLASS_OUTCOMES[str(given)]


def agree(event: dict[str, object]) -> bool:
    said = SCHEMA.is_valid(event) and parts_fit_their_wholes(event)
    return decoder_accepts(event) == said


@pytest.mark.parametrize("name", [field.name for field in FIELDS])
def test_schema_and_decoder_agree_whatever_one_field_of_a_good_event_holds(name: str) -> None:
    good = EVENT | {"input_tokens": 10**12, "output_tokens": 10**12}
    assert agree({key: value for key, value in good.items() if key != name})
    assert [value for value in VALUES if not agree(good | {name: value})] == []


ABSENT_FIELD = object()
OUTCOME_CHOICES: dict[str, tuple[object, ...]] = {
    "outcome": (ABSENT_FIELD, None, "success", "timeout"),
    "status_code": (ABSENT_FIELD, None, 200, 302, 404, "200", 1000),
    "error": (ABSENT_FIELD, None, "", "reset", 3),
    "error_class": (ABSENT_FIELD, None, "auth", "upstream", "odd"),
    "ending": (ABSENT_FIELD, None, "empty", "complete", 1),
}
# They decide what an event counts for, not its outcome: with the two that mostly give it.
COUNTED_CHOICES: dict[str, tuple[object, ...]] = {
    "outcome": OUTCOME_CHOICES["outcome"],
    "status_code": OUTCOME_CHOICES["status_code"],
    "probe": (ABSENT_FIELD, None, True, False, 1),
    "input_tokens": (ABSENT_FIELD, None, -1, 5),
}


@pytest.mark.parametrize("choices", [OUTCOME_CHOICES, COUNTED_CHOICES], ids=["outcome", "counted"])
def test_schema_and_decoder_agree_on_what_an_outcome_follows_from_and_asks_for(
    choices: dict[str, tuple[object, ...]],
) -> None:
    for values in itertools.product(*choices.values()):
        changes = dict(zip(choices, values, strict=True))
        event = {
            key: value for key, value in (EVENT | changes).items() if value is not ABSENT_FIELD
        }
        assert agree(event), event


@given(EVENTS, ABSENT)
def test_schema_and_decoder_agree_on_any_mixture_of_fields(
    changes: dict[str, Any], absent: set[str]
) -> None:
    event = {key: value for key, value in (EVENT | changes).items() if key not in absent}
    assert agree(event)


@pytest.mark.parametrize("event", [[], [EVENT], None, 1, "text", True])
def test_schema_and_decoder_agree_that_an_event_is_an_object(
    event: list[dict[str, Any]] | str | int | None,
) -> None:
    assert not decoder_accepts(event)
    assert not SCHEMA.is_valid(event)


def test_what_the_schema_leaves_to_the_decoder_is_what_its_comment_says() -> None:
    for beyond in (
        {"ended_at": 1_700_000_000_000.0},
        {"customer_id": "é" * 257},
        {"model": "__other__"},
        {"cache_write_tokens": 11},
        {"total_tokens": 1, "output_tokens": 0},
        {"ended_at": "2026-02-30T10:00:00Z"},
        {"ended_at": "2014-12-31T23:59:59Z"},
        {"cached_input_tokens": 11},
        {"reasoning_tokens": 1, "output_tokens": 0},
        {"ttft_ms": 3, "duration_ms": 1},
        {"first_visible_token_ms": 3, "duration_ms": 1},
        {"first_visible_token_ms": 3, "ttft_ms": 5},
        {"error_class": "auth"},
    ):
        assert SCHEMA.is_valid(EVENT | beyond), beyond
        assert not decoder_accepts(EVENT | beyond), beyond


@given(st.datetimes(min_value=datetime(2015, 1, 1)))
def test_every_date_of_the_calendar_that_the_schema_takes_the_decoder_takes(
    moment: datetime,
) -> None:
    event = EVENT | {"ended_at": moment.isoformat() + "Z"}
    assert SCHEMA.is_valid(event)
    assert decoder_accepts(event)

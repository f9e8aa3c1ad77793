"""What real gateways send, with the right answer worked out by hand: ../shared/cases.

Each case is counted as a worker counts it. Cases in files of another shape go through the mapping
that is beside them.
"""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streams.events.decoder import EventLimits, decode
from streams.sources.files import RowError
from streams.sources.reading import load_mapping, read_rows
from streams.sources.rows import Row
from streams.state.measures import by_series, measures, whole, without_apart_tiers
from streams.state.slices import Aggregate
from tests.support.aggregates import parts_of
from tests.support.paths import ROOT

CASES = ROOT.parent / "shared" / "cases"
ANY_TIME = EventLimits(max_event_bytes=262_144, future_tolerance_ms=2**60, horizon_ms=2**60)

pytestmark = pytest.mark.skipif(
    not CASES.is_dir(), reason=f"needs the recorded cases, which are not in the project: {CASES}"
)


class Case:
    """The measures of one file of a case."""

    def __init__(self, file: str, mapping: str | None = None) -> None:
        values = _mapped(file, mapping) if mapping else _lines(CASES / file)
        decoded = decode(values, np.zeros(len(values), np.int64), None, ANY_TIME)
        assert decoded.rejections == []
        parts = [part for _, part in parts_of(decoded.columns)]
        self._aggregate, self._series = Aggregate.merged(parts), decoded.columns.series
        usual = without_apart_tiers(self._aggregate, self._series, {"batch"})
        self.total = measures(whole(usual))

    def by(self, dimension: str) -> dict[str, dict[str, Any]]:
        groups = by_series(self._aggregate, self._series, (dimension,))
        return {name: measures(group) for (name,), group in groups.items()}


def _lines(path: Path) -> list[bytes]:
    data = path.read_bytes()
    data = gzip.decompress(data) if path.suffix == ".gz" else data
    return [line for line in data.splitlines() if line.strip()]


def _mapped(file: str, mapping: str) -> list[bytes]:
    rows = list(read_rows(CASES / file, load_mapping(str(CASES / mapping))))
    assert [str(row) for row in rows if isinstance(row, RowError)] == []
    return [row.encode() for row in rows if isinstance(row, Row)]


def failed(outcomes: dict[str, int]) -> int:
    names = ("server_error", "timeout", "overloaded", "stream_error")
    return sum(outcomes[name] for name in names)


def test_successes_without_usage_count_for_availability_and_latency() -> None:
    case = Case("08-success-without-usage/events.jsonl")
    assert case.total["availability_ratio"] == 0.75
    models = case.by("model")
    ratios = {name: model["availability_ratio"] for name, model in models.items()}
    assert ratios == {
        "whisper-1": 2 / 3,
        "llama-3.3-70b": 2 / 3,
        "text-embedding-3-small": 1,
        "dall-e-3": 1,
    }
    assert case.total["known"]["tokens"] == 1
    assert case.total["tokens"]["input"] == 12
    assert case.total["duration_seconds"]["count"] == 6
    assert case.total["ttft_seconds"]["count"] == 2


def test_names_that_are_no_labels_cost_no_request() -> None:
    case = Case("12-names/events.jsonl")
    assert (case.total["requests"], case.total["availability_ratio"]) == (9, 1)
    assert case.total["tokens"]["input"] == 90
    assert case.total["field_faults"] == {"model": {"renamed": 2}}


def test_a_batch_of_a_day_counts_and_its_hours_are_not_in_the_percentile() -> None:
    case = Case("13-batch-hours/events.jsonl")
    assert (case.total["requests"], case.total["tokens"]["total"]) == (4, 4 * 1_050)
    assert case.total["duration_seconds"]["count"] == 1
    assert 1.3 <= case.total["duration_seconds"]["p95"] <= 1.3 * (1 + 1 / 128)
    batch = case.by("service_tier")["batch"]
    assert batch["duration_seconds"]["count"] == 3
    assert 90_061 <= batch["duration_seconds"]["max"] <= 90_061 * (1 + 1 / 128)


def test_a_rounding_error_in_a_ttft_costs_no_failure() -> None:
    case = Case("17-ttft-rounding/events.jsonl")
    assert (case.total["requests"], case.total["availability_ratio"]) == (6, 5 / 6)
    assert case.total["duration_seconds"]["count"] == 5
    assert case.total["field_faults"] == {"ttft_ms": {"suspicious": 1}}


@pytest.mark.parametrize(
    ("file", "ratio", "known"),
    [
        ("18-unknown-cached/events.jsonl", 0.6, 0.5),
        ("18-unknown-cached/never.jsonl", None, 0.0),
    ],
)
def test_unknown_cached_tokens_are_not_zero(file: str, ratio: float | None, known: float) -> None:
    total = Case(file).total
    assert total.get("cache_hit_ratio") == ratio
    assert total["known_ratio"]["cached_input"] == pytest.approx(known, abs=0.01)


@pytest.mark.parametrize("mapping", ["litellm", "litellm-stream-null"])
def test_an_answer_that_did_not_stream_has_no_ttft(mapping: str) -> None:
    folder = "03-litellm-nonstream-ttft"
    total = Case(f"{folder}/payloads.jsonl", f"{folder}/{mapping}.yaml").total
    assert total["requests"] == 5
    assert total["tokens"]["input"] == 6_849
    assert total["ttft_seconds"]["count"] == 3
    assert 0.4 <= total["ttft_seconds"]["p95"] <= 0.4 * (1 + 1 / 128)


def test_cached_tokens_that_are_in_either_place_are_added_up() -> None:
    folder = "03-litellm-nonstream-ttft"
    total = Case(f"{folder}/payloads.jsonl", f"{folder}/litellm-cached-sum.yaml").total
    assert total["requests"] == 5
    # One row has the same tokens in both places: their sum exceeds its input and is unknown.
    assert total["field_faults"] == {"cached_input_tokens": {"inconsistent": 1}}
    assert total["cache_hit_ratio"] == (384 + 2_455) / (500 + 800 + 90 + 2_459)


def test_an_access_log_with_flags() -> None:
    folder = "06-envoy-access-log"
    total = Case(f"{folder}/access.jsonl", f"{folder}/flags.yaml").total
    assert total["availability_ratio"] == 0.6
    assert total["outcomes"]["cancelled"] == 2
    assert (total["tokens"]["input"], total["tokens"]["output"]) == (3_300, 340)


def test_an_access_log_without_its_flags_counts_every_row() -> None:
    folder = "06-envoy-access-log"
    total = Case(f"{folder}/access.jsonl", f"{folder}/status.yaml").total
    # Without the flags a client that left a stream cannot be told from a stream that broke.
    assert (total["requests"], total["outcomes"]["cancelled"]) == (7, 1)
    assert total["availability_ratio"] == 3 / 6


def test_rows_whose_mapping_gives_them_neither_outcome_nor_status_are_named() -> None:
    folder = CASES / "09-litellm-failure-rows"
    rows = list(read_rows(folder / "payloads.jsonl", load_mapping(str(folder / "litellm.yaml"))))
    problem = "no outcome and no status_code: map a column that has one, or give it a constant"
    unmapped = [RowError(line, problem) for line in (4, 8, 10)]
    assert [row for row in rows if isinstance(row, RowError)] == unmapped


@pytest.mark.parametrize("mapping", ["litellm-best", "litellm-table"])
def test_failure_rows_count_without_model_and_code(mapping: str) -> None:
    folder = "09-litellm-failure-rows"
    total = Case(f"{folder}/payloads.jsonl", f"{folder}/{mapping}.yaml").total
    assert (total["outcomes"]["success"], failed(total["outcomes"])) == (1, 6)
    assert (total["requests"], total["availability_ratio"]) == (10, 1 / 7)


def test_attempts_with_ids_of_their_own_all_count() -> None:
    total = Case("07-retries-fallback/own-ids.jsonl").total
    assert (total["requests"], total["tokens"]["input"]) == (4, 2_200)

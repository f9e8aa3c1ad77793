"""What a report must say, in the words of the references and of a recount.

Latencies are held against nearest-rank values, within the 1 % that a report promises; everything
else must be equal.
"""

import hashlib
import hmac
from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest

from tests.support.worker_process import SECRET

Answer = dict[str, Any]
FIVE_MIN_S = 300
MINUTES_KEPT_S = 3 * 3_600  # for so long before the newest event there are steps of 5 minutes
BASE = {"claude_code_sessions": 1_735_689_600, "mooncake_conversation": 1_735_689_600}
VLLM_BASE_S = 1_704_067_200
FILES = {
    "azure_llm_2023": "AzureLLMInferenceTrace_conv.csv",
    "mooncake_conversation": "reference_cached_tokens.csv.gz",
    "claude_code_sessions": "requests_with_cached_tokens.csv.gz",
    "exgentic_agent_spans": "spans_2026-04-19_to_21.jsonl",
}


def hashed(customer: str) -> str:
    """How a customer is named in the state: HMAC-SHA-256, 96 bits of it."""
    return hmac.new(SECRET.encode(), customer.encode(), hashlib.sha256).hexdigest()[:24]


def seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def steps(part: Answer) -> dict[int, Answer]:
    """The steps in which something happened, by their start."""
    return {
        seconds(step["start"]): step["measures"]
        for step in part["steps"]
        if step["measures"]["requests"]
    }


def summed(per_5min: Mapping[int, Counter[str]], step_s: int) -> dict[int, Counter[str]]:
    """Five-minute counts added up to longer steps."""
    found: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for start_s, counts in per_5min.items():
        found[start_s // step_s * step_s].update(counts)
    return dict(found)


def errors(measures: Answer) -> int:
    return int(measures["requests"] - measures["outcomes"]["success"])


def assert_counts(measures: Answer, expected: Mapping[str, Any]) -> None:
    """What the reference knows of rows, tokens and errors, in any of its spellings."""
    tokens = measures["tokens"]
    told = {
        "rows": measures["requests"],
        "requests": measures["requests"],
        "errors": errors(measures),
        "failure_share": errors(measures) / measures["requests"],
        "input_tokens": tokens["input"],
        "total_input_tokens": tokens["input"],
        "cached_input_tokens": tokens["cached_input"],
        "output_tokens": tokens["output"],
        "total_output_tokens": tokens["output"],
        "total_tokens": tokens["total"],
        "hit_rate": measures.get("cache_hit_ratio"),
        "hit_rate_token_weighted": measures.get("cache_hit_ratio"),
    }
    known = {name: expected[name] for name in told if isinstance(expected.get(name), int | float)}
    assert {name: told[name] for name in known} == known
    assert sum(measures["outcomes"].values()) == measures["requests"]


def assert_latency(found: Answer, answer: Mapping[str, Any], unit_s: float = 1) -> None:
    """Within 1 % of the nearest-rank values, from as many samples."""
    assert found["count"] == answer["n"]
    if answer["n"]:
        exact = {p: answer[f"{p}_nearest_rank"] * unit_s for p in ("p50", "p90", "p95", "p99")}
        exact["max"] = answer["max"] * unit_s
        for name, value in exact.items():
            assert found[name] == pytest.approx(value, rel=0.01), name


def assert_per_5min(
    whole: Answer, recent: Answer, per_5min: Mapping[int, Mapping[str, Any]]
) -> None:
    """All steps of the whole report, and the five minutes themselves where they are still kept."""
    plain = {
        start_s: Counter({name: n for name, n in counts.items() if isinstance(n, int)})
        for start_s, counts in per_5min.items()
    }
    for part in (whole, recent):
        expected = {
            start_s: counts
            for start_s, counts in summed(plain, part["step_s"]).items()
            if start_s >= seconds(part["from"])
        }
        found = steps(part)
        assert found.keys() == expected.keys()
        for start_s, counts in expected.items():
            assert_counts(found[start_s], counts)
    assert recent["step_s"] == FIVE_MIN_S
    for start_s, measures in steps(recent).items():
        assert_counts(measures, per_5min[start_s])  # with the ratios, which do not add up


def by(answer: Answer) -> dict[str, Answer]:
    """The groups of a report by one dimension."""
    return {"/".join(group["key"].values()): group["total"] for group in answer["groups"]}

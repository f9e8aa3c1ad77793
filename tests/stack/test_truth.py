"""The whole path on real requests: file -> Kafka -> worker -> Redis -> report equals the answers
that came with each trace.
"""

import csv
import gzip
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from streams.config.settings import Settings
from tests.support.answers import (
    BASE,
    FILES,
    FIVE_MIN_S,
    MINUTES_KEPT_S,
    VLLM_BASE_S,
    Answer,
    assert_counts,
    assert_latency,
    assert_per_5min,
    by,
    hashed,
    seconds,
)
from tests.support.servers import Broker, RedisServer
from tests.support.traces import TRACES, needs_traces, reference
from tests.support.worker_process import WorkerProcess, report, tokenpulse, worker_settings

pytestmark = pytest.mark.slow


@dataclass
class Through:
    """One worker and one topic, through which files go one after another, oldest first."""

    settings: Settings
    scratch: Path

    def replay(self, path: Path, mapping: str, *options: str) -> Answer:
        """Replay a file with the command; its report."""
        target = self.scratch / "report.json"
        done = tokenpulse(
            *(
                "replay",
                path,
                "--mapping",
                mapping,
                "--as-recorded",
                "--onto-state",
                "--report-json",
                target,
            ),
            *("--bootstrap", self.settings.kafka.bootstrap),
            *("--redis-url", self.settings.redis.url, *options),
            settings=self.settings,
        )
        assert done.returncode == 0, done.stderr
        rows, _, rest = done.stdout.splitlines()[0].partition(" rows: ")
        assert rest == f"{rows} counted, 0 rejected, 0 could not be mapped"
        answer: Answer = json.loads(target.read_text())
        return answer

    def asked(self, **question: Any) -> Answer:
        return report(self.settings, **question)


@pytest.fixture(scope="module")
def path(
    broker: Broker, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Through]:
    scratch = tmp_path_factory.mktemp("truth")
    settings = worker_settings(broker, redis_server.url, partitions=2)
    with WorkerProcess(settings, scratch / "worker.log"):
        yield Through(settings, scratch)


def recent_from_s(whole: Answer) -> int:
    """Since when the five minutes are kept."""
    oldest_s = max(seconds(whole["from"]), seconds(whole["as_of"]) - MINUTES_KEPT_S)
    return -(-oldest_s // FIVE_MIN_S) * FIVE_MIN_S


# --- the traces, oldest first: one worker counts them all -----------------------------------------


@needs_traces
def test_azure_with_one_command_that_brings_its_own_broker_redis_and_worker(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    file = TRACES / "azure_llm_2023" / FILES["azure_llm_2023"]
    done = tokenpulse(
        *("replay", file, "--mapping", "azure_llm_2023", "--as-recorded"),
        *("--report-json", target),
        TMPDIR=str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("19366 rows: 19366 counted, 0 rejected, 0 could not be mapped\n")
    assert [one.name for one in tmp_path.iterdir()] == ["report.json"]  # nothing is left behind
    answer, expected = json.loads(target.read_text()), reference("azure_llm_2023")
    assert_counts(answer["total"], expected)
    counts = expected["requests_per_5min_window_utc_epoch_start"]
    tokens = expected["tokens_per_5min_window_utc_epoch_start"]
    assert_per_5min(
        answer,
        answer,
        {
            int(start): {
                "requests": requests,
                "input_tokens": tokens[start][0],
                "output_tokens": tokens[start][1],
            }
            for start, requests in counts.items()
        },
    )


@needs_traces
def test_llmperf_runs_one_by_one_and_errors_stay_out_of_the_percentiles(path: Through) -> None:
    expected = reference("llmperf_leaderboard")
    folder = TRACES / "llmperf_leaderboard" / "individual"
    for run in expected["runs"]:
        path.replay(folder / f"{run}.json", "llmperf_leaderboard")
    answer = path.asked(by=("model",))
    assert_counts(answer["total"], expected)
    runs = by(answer)
    assert runs.keys() == expected["runs"].keys()
    for run, told in expected["runs"].items():
        assert_counts(runs[run], told)
        codes = {"stream_error": "-100", "rate_limited": "429", "server_error": "-1"}
        failed = {
            codes[name]: n for name, n in runs[run]["outcomes"].items() if name in codes and n
        }
        assert failed == told["error_codes"]
        assert_latency(runs[run]["ttft_seconds"], told["ttft_s_no_error"])
        assert_latency(runs[run]["duration_seconds"], told["end_to_end_latency_s_no_error"])
        rows = json.loads((folder / f"{run}.json").read_text())
        for ours, theirs in (
            ("ttft_seconds", "ttft_s"),
            ("duration_seconds", "end_to_end_latency_s"),
        ):
            good = sorted(row[theirs] for row in rows if row["error_code"] is None)
            for percent in (50, 95, 99):
                published = told["published"][f"{theirs}_p{percent}"]
                # Theirs lies between two neighbouring rows, ours is the upper one of the two.
                at = (len(good) - 1) * percent / 100
                low, high = good[math.floor(at)], good[math.ceil(at)]
                assert low <= published <= high
                assert 0.99 * low <= runs[run][ours][f"p{percent}"] <= 1.01 * high


@needs_traces
def test_vllm_logs_file_by_file(path: Through) -> None:
    for number, (name, told) in enumerate(reference("vllm_overload_logs")["files"].items()):
        base_s = VLLM_BASE_S + (number + 1) * 6 * 3_600
        answer = path.replay(
            TRACES / "vllm_overload_logs" / name,
            "vllm_overload_logs",
            *("--base", str(base_s), "--from", str(base_s)),
        )
        assert_counts(answer["total"], told)
        assert_latency(answer["total"]["ttft_seconds"], told["ttft_s"])
        assert_latency(answer["total"]["duration_seconds"], told["duration_s"])
        assert answer["total"]["tpot_seconds"] == {"count": 0}  # characters are no tokens
        per_5min = {
            base_s + int(start): {"requests": n}
            for start, n in told["requests_per_5min_window_by_derived_start_s"].items()
        }
        assert_per_5min(answer, answer, per_5min)


@needs_traces
def test_claude_sessions_per_model_and_per_customer(path: Through) -> None:
    base_s, told = BASE["claude_code_sessions"], reference("claude_code_sessions")
    file = TRACES / "claude_code_sessions" / FILES["claude_code_sessions"]
    whole = path.replay(file, "claude_code_sessions", "--from", str(base_s), "--by", "model")
    assert_counts(whole["total"], told)
    models = by(whole)
    assert models.keys() == told["by_model"].keys()
    for expected, found in ((told, whole["total"]), *zip_by(told["by_model"], models)):
        assert_counts(found, expected)
        assert_latency(found["ttft_seconds"], expected["ttft_s"])
        assert_latency(found["duration_seconds"], expected["api_time_s"])
    windows = told["requests_per_5min_window_all_conversations_started_at_t0"]
    assert_per_5min(
        whole,
        path.asked(from_s=recent_from_s(whole)),
        {base_s + int(start): {"requests": n} for start, n in windows.items()},
    )
    with gzip.open(file, "rt") as rows:
        conversations: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for row in csv.DictReader(rows):
            names = ("input_tokens", "cached_input_tokens", "output_tokens")
            counts = {name: int(row[name]) for name in names}
            conversations[row["conversation"]].update(counts | {"rows": 1})
    customers = by(path.asked(from_s=base_s, by=("customer",)))
    assert customers.keys() == {hashed(name) for name in conversations}
    for name, counts in conversations.items():
        assert_counts(customers[hashed(name)], counts)


@needs_traces
def test_mooncake_cached_tokens_in_every_five_minutes(
    broker: Broker, redis_server: RedisServer, tmp_path: Path
) -> None:
    # A topic of its own: it lies at the same time as the Claude sessions.
    settings = worker_settings(broker, redis_server.url)
    with WorkerProcess(settings, tmp_path / "worker.log"):
        answer = Through(settings, tmp_path).replay(
            TRACES / "mooncake_conversation" / FILES["mooncake_conversation"],
            "mooncake_conversation",
        )
    told = reference("mooncake_conversation")
    assert_counts(answer["total"], told)
    windows = told["per_5min_window_start_s"]
    base_s = BASE["mooncake_conversation"]
    assert_per_5min(answer, answer, {base_s + int(at): counts for at, counts in windows.items()})


@needs_traces
def test_exgentic_errors_per_model_and_per_session(path: Through) -> None:
    told = reference("exgentic_agent_spans")
    start_s = int(datetime.fromisoformat(told["first"]).timestamp()) // 86_400 * 86_400
    file = TRACES / "exgentic_agent_spans" / FILES["exgentic_agent_spans"]
    whole = path.replay(file, "exgentic_agent_spans", "--from", str(start_s), "--by", "model")
    models = by(whole)
    for expected, found in ((told, whole["total"]), *zip_by(told["by_model"], models)):
        assert_counts(found, expected)
        assert_latency(found["duration_seconds"], expected["duration_ms_no_error"], 0.001)
    assert whole["total"]["availability_ratio"] == 1 - told["errors"] / told["rows"]
    windows = told["per_5min_window_utc_epoch_start"]
    assert_per_5min(
        whole,
        path.asked(from_s=recent_from_s(whole)),
        {int(start): counts for start, counts in windows.items()},
    )
    sessions = by(path.asked(from_s=start_s, by=("customer",)))
    assert sessions.keys() == {hashed(session) for session in told["by_session"]}
    for session, expected in told["by_session"].items():
        assert_counts(sessions[hashed(session)], expected)


def zip_by(expected: Mapping[str, Any], found: Mapping[str, Answer]) -> list[tuple[Any, Answer]]:
    """Reference and report of each group; the same groups on both sides."""
    assert expected.keys() == found.keys()
    return [(expected[name], found[name]) for name in expected]

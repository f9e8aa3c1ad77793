"""The whole path on real requests: file -> Kafka -> worker -> Redis -> report equals the answers
that came with each trace, and nothing that happens to a worker on the way changes a digit.

Latencies are held against nearest-rank values of the file, within the 1 % that a report promises;
everything else must be equal.
"""

import asyncio
import csv
import gzip
import hashlib
import hmac
import json
import math
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from streams.config import Kafka, Settings
from streams.sources.mapping import Row, load_mapping, read_rows
from streams.sources.producer import EventProducer
from streams.sources.profile import Profile
from streams.sources.simulate import Traffic, load_timeline
from tests.servers import Broker, RedisServer
from tests.traces import TRACES, needs_traces, reference
from tests.worker_process import (
    SECRET,
    State,
    WorkerProcess,
    dead_letters,
    make_topics,
    origin,
    regrouped,
    report,
    tokenpulse,
    worker_settings,
)

pytestmark = pytest.mark.stack

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
        "hit_rate": measures["cache_hit_ratio"],
        "hit_rate_token_weighted": measures["cache_hit_ratio"],
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


@dataclass
class Through:
    """One worker and one topic, through which files go one after another, oldest first."""

    settings: Settings
    scratch: Path

    def replay(self, path: Path, mapping: str, *options: str) -> Answer:
        """Replay a file with the command; its report."""
        target = self.scratch / "report.json"
        done = tokenpulse(
            *("replay", path, "--mapping", mapping, "--as-recorded", "--report-json", target),
            *("--bootstrap", self.settings.kafka.bootstrap),
            *("--redis-url", self.settings.redis.url, *options),
            settings=self.settings,
        )
        assert done.returncode == 0, done.stderr
        rows, _, rest = done.stdout.splitlines()[0].partition(" rows: ")
        assert rest == f"{rows} counted, 0 refused, 0 could not be mapped"
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
    assert done.stdout.startswith("19366 rows: 19366 counted, 0 refused, 0 could not be mapped\n")
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


# --- killed workers -------------------------------------------------------------------------------

KILLS = 5
SIMULATED_AT_MS = 1_735_866_000_000  # two days after the Claude sessions
COPIES = 3


PARTITIONS = 3
PACE_S = 0.05


def flow() -> list[tuple[int, list[tuple[bytes, bytes]]]]:
    """All that is sent in the test below, in parts of about a thousand with their timestamps."""
    sessions, minutes = session_rows(), list(simulated_minutes())
    return [
        *((minutes[0][0], sessions[at : at + 1_000]) for at in range(0, len(sessions), 1_000)),
        *minutes,
    ]


def session_rows() -> list[tuple[bytes, bytes]]:
    """The Claude sessions as often as COPIES says, under other request ids; none without them."""
    trace = "claude_code_sessions"
    if not TRACES.is_dir():
        return []
    rows = list(read_rows(TRACES / trace / FILES[trace], load_mapping(trace)))
    return [
        (name.encode(), json.dumps(row.event | {"request_id": name}).encode())
        for copy in range(COPIES)
        for row in rows
        if isinstance(row, Row)
        for name in [f"{row.event['request_id']}-{copy}"]
    ]


def simulated_minutes() -> Iterator[tuple[int, list[tuple[bytes, bytes]]]]:
    """An hour of simulated traffic with late, doubled and broken records, minute by minute."""
    timeline = load_timeline("tour").beginning_at(SIMULATED_AT_MS)
    for kind, share in (("malformed", 0.02), ("duplicates", 0.05)):
        timeline = timeline.with_scenario(kind, SIMULATED_AT_MS, 3_600, share=share)
    traffic = Traffic(Profile.default(30), 11, timeline)
    for minute in range(60):
        at_ms = SIMULATED_AT_MS + minute * 60_000
        yield (
            at_ms + 60_000,
            [(one.key, one.value) for one in traffic.records(at_ms, at_ms + 60_000)],
        )


def stored(redis_server: RedisServer, settings: Settings) -> dict[int, dict[bytes, bytes]]:
    """The state, without what says who wrote it when."""
    with redis_server.client() as client:
        found: dict[int, dict[bytes, bytes]] = {}
        for partition in range(settings.kafka.partitions):
            fields: dict[bytes, bytes] = client.hgetall(State(settings, client).key(partition))  # type: ignore[assignment]
            for name in (b"owner", b"flush", b"meta", b"index"):
                del fields[name]
            found[partition] = fields
        return found


class Feed:
    """Sends to a topic at a pace, but never beyond what is allowed so far."""

    def __init__(
        self, kafka: Kafka, parts: Sequence[tuple[int, list[tuple[bytes, bytes]]]]
    ) -> None:
        self.total = sum(len(records) for _, records in parts)
        self.allowed = 0
        self.sent = 0
        self.ends: dict[int, int] = {}
        self._kafka, self._parts = kafka, parts
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()

    def finish(self) -> dict[int, int]:
        """Send the rest; the ends of the partitions."""
        self.allowed = self.total
        self._thread.join()
        return self.ends

    async def _run(self) -> None:
        async with EventProducer(self._kafka, linger_ms=20) as producer:
            for stamp_ms, records in self._parts:
                while self.sent + len(records) > self.allowed:  # noqa: ASYNC110 - another thread's
                    await asyncio.sleep(0.01)
                await producer.send_many(records, stamp_ms)
                self.sent += len(records)
                if self.allowed < self.total:
                    await asyncio.sleep(PACE_S)
            await producer.flush()
            self.ends = dict(producer.end_offsets)


def test_a_worker_killed_five_times_while_events_flow_gives_the_identical_report(
    broker: Broker, redis_server: RedisServer, tmp_path: Path
) -> None:
    killed = worker_settings(
        *(broker, redis_server.url, PARTITIONS),
        kafka={"session_timeout_s": 1, "heartbeat_interval_s": 0.2},
        flush_interval_s=0.05,
    )
    undisturbed = with_dead_letters_of_its_own(regrouped(killed, "undisturbed"))
    partitions, dice = range(PARTITIONS), random.Random(20_261_122)
    feed = Feed(killed.kafka, flow())
    with redis_server.client() as client:
        state, before = State(killed, client), 0
        for number in range(1, KILLS + 1):
            window = feed.total // (KILLS + 1)
            feed.allowed = number * window
            target = feed.allowed - dice.uniform(0.1, 0.9) * window
            with WorkerProcess(killed, tmp_path / "killed.log") as worker:
                state.wait_past(partitions, max(before, target))
                worker.kill()
            now = state.counted(partitions)
            assert before < now < feed.total
            before = now
        ends = feed.finish()
        assert sum(ends.values()) == feed.total
        with WorkerProcess(killed, tmp_path / "killed.log"):
            state.wait_for(ends)
        with WorkerProcess(undisturbed, tmp_path / "undisturbed.log"):
            State(undisturbed, client).wait_for(ends)
    questions: list[dict[str, Any]] = [
        {},
        {"by": ("model", "region", "channel", "service_tier")},
        {"by": ("customer", "model")},
        {"from_s": SIMULATED_AT_MS // 1_000 + 3_000, "step_s": 10},
    ]
    for question in questions:
        assert report(killed, **question) == report(undisturbed, **question)
    assert stored(redis_server, killed) == stored(redis_server, undisturbed)
    # Every refused record is at the other topic, at least once; the kills made some of them double.
    refused = sum(report(killed)["total"]["refused"].values())
    assert refused > 1_000
    letters = [dead_letters(settings.kafka, refused) for settings in (killed, undisturbed)]
    assert {origin(one) for one in letters[0]} == {origin(one) for one in letters[1]}
    assert len(letters[1]) == refused <= len(letters[0])
    if TRACES.is_dir():
        day = report(killed, to_s=SIMULATED_AT_MS // 1_000 - 3_600, step_s=86_400)["total"]
        told = reference("claude_code_sessions")
        names = ("rows", "input_tokens", "cached_input_tokens", "output_tokens")
        assert_counts(day, {name: COPIES * told[name] for name in names})


def with_dead_letters_of_its_own(settings: Settings) -> Settings:
    kafka = settings.kafka.model_copy(update={"dlq_topic": f"{settings.kafka.group}.dlq"})
    settings = settings.model_copy(update={"kafka": kafka})
    make_topics(settings)
    return settings


# --- a simulated file, where the traces are not there, and always ---------------------------------

MAPPING = """
format: jsonl
time: {column: ended_at, kind: epoch, unit: ms, marks: end}
fields:
"""
FIELDS = (
    *("request_id", "model", "outcome", "region", "channel", "service_tier", "customer_id"),
    *("stream", "ttft_ms", "duration_ms", "input_tokens", "cached_input_tokens"),
    *("cache_write_tokens", "output_tokens", "reasoning_tokens", "probe"),
)
LINES_AT_MS = 1_760_000_000_000
IN_2099_MS = 4_070_908_800_000


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[Answer]]:
    """A file of a quarter of an hour, its mapping, and its good rows.

    Three more rows cannot be mapped, and two are so far in the future that the worker refuses them.
    """
    folder = tmp_path_factory.mktemp("simulated")
    mapping = folder / "mapping.yaml"
    optional = "".join(f"  {name}: {{column: {name}, optional: true}}\n" for name in FIELDS)
    mapping.write_text(MAPPING + optional)
    records = Traffic(Profile.default(12), 7).records(LINES_AT_MS, LINES_AT_MS + 900_000)
    good = [json.loads(one.value) for one in records]
    bad = [good[0] | {"ended_at": "soon"}] * 3
    future = [event | {"ended_at": IN_2099_MS} for event in good[:2]]
    lines = [json.dumps(event) for event in (*good[:500], *bad, *future, *good[500:])]
    file = folder / "simulated.jsonl"
    file.write_text("\n".join(lines) + "\n")
    return file, mapping, good


def nearest_rank(values: list[float]) -> Answer:
    """Answers in the shape of the references."""
    ranked = sorted(values)
    shares = {f"p{p}_nearest_rank": ranked[math.ceil(p * len(ranked) / 100) - 1] for p in PERCENTS}
    return {"n": len(ranked), "max": ranked[-1], **shares}


PERCENTS = (50, 90, 95, 99)


def assert_recounted(found: Answer, events: list[Answer]) -> None:
    """Measures equal a recount of these events, one by one."""
    real = [event for event in events if not event.get("probe", False)]
    good = [event for event in real if event["outcome"] == "success"]
    outcomes = Counter(event["outcome"] for event in real)
    assert {name: n for name, n in found["outcomes"].items() if n} == outcomes
    tokens = {
        name: sum(event.get(f"{name}_tokens", 0) for event in real)
        for name in ("input", "cached_input", "cache_write", "output", "reasoning")
    }
    tokens["total"] = tokens["input"] + tokens["output"]
    assert found["tokens"] == tokens
    assert found["cache_hit_ratio"] == tokens["cached_input"] / tokens["input"]
    if "ttft_seconds" not in found:  # customers have counts only
        return
    streamed = [event for event in good if event.get("stream", True) and "ttft_ms" in event]
    lasting = [event for event in good if "duration_ms" in event]
    written = [
        (event["duration_ms"] - event["ttft_ms"]) / (event["output_tokens"] - 1)
        for event in streamed
        if "duration_ms" in event and event.get("output_tokens", 0) > 1
    ]
    assert_latency(
        found["ttft_seconds"], nearest_rank([event["ttft_ms"] for event in streamed]), 0.001
    )
    assert_latency(
        found["duration_seconds"], nearest_rank([event["duration_ms"] for event in lasting]), 0.001
    )
    assert_latency(found["tpot_seconds"], nearest_rank(written), 0.001)
    eligible = ("success", "server_error", "timeout", "overloaded", "stream_error")
    judged = [event["outcome"] for event in events if event["outcome"] in eligible]
    assert found["availability_ratio"] == judged.count("success") / len(judged)


def test_a_simulated_file_equals_a_recount_and_every_row_is_counted_or_reported(
    simulated: tuple[Path, Path, list[Answer]], tmp_path: Path
) -> None:
    file, mapping, events = simulated
    target = tmp_path / "report.json"
    done = tokenpulse(
        *("replay", file, "--mapping", mapping, "--as-recorded", "--report-json", target),
        *("--by", "model", "--step", "1m"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        f"{len(events) + 5} rows: {len(events)} counted, 2 refused (from_the_future 2), "
        "3 could not be mapped\n"
    )
    lines = [501, 502, 503]
    assert [
        line.partition(f"{file}: line ")[2].split(":")[0] for line in done.stderr.splitlines()
    ] == [str(line) for line in lines]
    answer = json.loads(target.read_text())
    assert answer["step_s"] == 60
    assert answer["total"]["refused"] == {"from_the_future": 2}
    assert_recounted(answer["total"], events)
    assert by(answer).keys() == {event["model"] for event in events}
    for model, found in by(answer).items():
        assert_recounted(found, [event for event in events if event["model"] == model])
    per_minute: defaultdict[int, list[Answer]] = defaultdict(list)
    for event in events:
        per_minute[event["ended_at"] // 60_000 * 60].append(event)
    assert steps(answer).keys() == per_minute.keys()
    for start_s, found in steps(answer).items():
        assert_recounted(found, per_minute[start_s])


# --- the command ----------------------------------------------------------------------------------


def test_without_as_recorded_a_file_ends_now(
    simulated: tuple[Path, Path, list[Answer]],
    broker: Broker,
    redis_server: RedisServer,
    tmp_path: Path,
) -> None:
    _, mapping, events = simulated
    file = tmp_path / "good.jsonl"
    file.write_text("".join(json.dumps(event) + "\n" for event in events))
    settings = worker_settings(broker, redis_server.url)
    began_s = time.time()
    with WorkerProcess(settings, tmp_path / "worker.log"):
        done = tokenpulse("replay", file, "--mapping", mapping, settings=settings)
    assert done.returncode == 0, done.stderr
    answer = report(settings)
    assert int(began_s) <= seconds(answer["as_of"]) <= time.time()
    assert_recounted(answer["total"], events)
    # All were moved by the same time: what lay apart lies as far apart as before.
    span_s = (max(event["ended_at"] for event in events) - events[0]["ended_at"]) // 1_000
    [records] = broker.read(settings.kafka.topic, len(events)).values()
    sent = [json.loads(record.value)["ended_at"] for record in records]
    assert {now - then["ended_at"] for now, then in zip(sent, events, strict=True)} == {
        sent[0] - events[0]["ended_at"]
    }
    assert (max(sent) - sent[0]) // 1_000 == span_s


def test_at_a_speed_no_row_is_sent_before_its_time(
    broker: Broker, redis_server: RedisServer, tmp_path: Path
) -> None:
    # Rows at 0, 10, 30 and 60 s, twenty times as fast: sent 0, 0.5, 1.5 and 3 s after the first.
    mapping, file = tmp_path / "mapping.yaml", tmp_path / "rows.csv"
    mapping.write_text(
        "format: csv\ntime: {column: at, kind: relative, unit: s, base: 2026-01-01T00:00:00Z, "
        "marks: end}\nfields:\n  model: {constant: m}\n  outcome: {constant: success}\n"
        "  input_tokens: tokens\n"
    )
    file.write_text("at,tokens\n0,1\n10,2\n30,3\n60,4\n")
    settings = worker_settings(broker, redis_server.url)
    with WorkerProcess(settings, tmp_path / "worker.log"):
        done = tokenpulse("replay", file, "--mapping", mapping, "--speed", 20, settings=settings)
    assert done.returncode == 0, done.stderr
    [records] = broker.read(settings.kafka.topic, 4).values()
    # The file is shifted to end when its last row is due, which tells when the replay began.
    ended_ms = [json.loads(record.value)["ended_at"] for record in records]
    began_ms = ended_ms[-1] - 3_000
    for record, due_ms in zip(records, (0, 500, 1_500, 3_000), strict=True):
        assert record.timestamp >= began_ms + due_ms - CLOCK_STEP_MS
    assert ended_ms == [ended_ms[-1] - before_ms for before_ms in (60_000, 50_000, 30_000, 0)]


CLOCK_STEP_MS = 20  # a sleep may end that much early where clocks are coarse


@pytest.mark.parametrize(
    ("file", "mapping", "told"),
    [
        ("absent.csv", "azure_llm_2023", "absent.csv: "),
        ("{here}", "nobody_made_this", "nobody_made_this"),
    ],
)
def test_what_cannot_be_read_is_one_line_and_status_2(
    tmp_path: Path, file: str, mapping: str, told: str
) -> None:
    done = tokenpulse("replay", file.format(here=Path(__file__)), "--mapping", mapping)
    assert done.returncode == 2
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("tokenpulse: ")
    assert told in line

"""`tokenpulse replay` on files made here: the whole path recounted, times, speeds, exit status."""

import gzip
import json
import math
import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import zstandard

from streams.events.fields import TIME
from streams.simulator.generator import Traffic
from streams.simulator.profile import Profile
from tests.support.answers import Answer, assert_latency, by, seconds, steps
from tests.support.command import assert_one_line, run
from tests.support.servers import Broker, RedisServer
from tests.support.worker_process import WorkerProcess, report, tokenpulse, worker_settings
from tokenpulse.local.replay import MOVED, MOVED_AGAIN

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
    # Batches are answered when there is room: their latencies count in their own tier only.
    prompt = [event for event in good if event.get("service_tier") != "batch"]
    streamed = [event for event in prompt if event.get("stream", True) and "ttft_ms" in event]
    lasting = [event for event in prompt if "duration_ms" in event]
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
        *("--by", "model", "--step", "1m", "--max-unmapped", 3),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        f"{len(events) + 5} rows: {len(events)} counted, 2 rejected (from_the_future 2), "
        "3 could not be mapped\n"
    )
    lines = [501, 502, 503, 504, 505]  # the last two are those that the worker rejects
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
        done = run("replay", file, "--mapping", mapping, settings=settings)
    assert done.exit_code == 0, done.stderr
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
        done = run("replay", file, "--mapping", mapping, "--speed", 20, settings=settings)
    assert done.exit_code == 0, done.stderr
    [records] = broker.read(settings.kafka.topic, 4).values()
    # The file is shifted to end when its last row is due, which tells when the replay began.
    ended_ms = [json.loads(record.value)["ended_at"] for record in records]
    began_ms = ended_ms[-1] - 3_000
    for record, due_ms in zip(records, (0, 500, 1_500, 3_000), strict=True):
        assert record.timestamp >= began_ms + due_ms - CLOCK_STEP_MS
    assert ended_ms == [ended_ms[-1] - before_ms for before_ms in (60_000, 50_000, 30_000, 0)]


CLOCK_STEP_MS = 20  # a sleep may end that much early where clocks are coarse


def test_without_a_mapping_a_file_contains_events_of_the_contract(
    broker: Broker, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Lines go to the worker as they are; only `ended_at` moves, to end now."""
    text = {"ended_at": "2025-10-09T08:53:20.250Z", "model": "m", "status_code": 500, "a": 1.50}
    events: list[Answer] = [
        {"request_id": "one", **text},
        {"request_id": "two", **text, "status_code": 200, "ended_at": LINES_AT_MS},
        {"request_id": "two", **text, "status_code": 200, "ended_at": LINES_AT_MS},
        {"request_id": "one-b", **text, "final": False},
        {"request_id": "three", **text, "status_code": None},
        {"request_id": "four", **text, "ended_at": "soon"},
    ]
    lines = [*map(json.dumps, events), "", "{"]
    file = tmp_path / "events.jsonl.gz"
    file.write_bytes(gzip.compress("\r\n".join(lines).encode()))
    settings = worker_settings(broker, redis_server.url)
    began_s = time.time()
    with WorkerProcess(settings, tmp_path / "worker.log"):
        done = run("replay", file, settings=settings)
        # Sent again as recorded: known ids are duplicates, and no row is counted.
        (tmp_path / "again").write_text(json.dumps(events[1]))
        refused = run("replay", tmp_path / "again", settings=settings)
        again = run("replay", tmp_path / "again", "--onto-state", settings=settings)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith(
        "7 rows: 3 counted, 1 duplicates, 3 rejected (bad_type 1, missing_field 1, not_json 1), "
        "0 could not be mapped\n"
    )
    assert [line.removeprefix(f"{file}: ") for line in done.stderr.splitlines()] == [
        MOVED,
        "line 5: rejected, missing_field: outcome: give it, or status_code",
        f"line 6: rejected, bad_type: ended_at: needs {TIME.range}",
        "line 8: rejected, not_json: malformed",
    ]
    assert refused.exit_code == 2
    assert "have counted 7 other records, which the report would include; " in refused.stderr
    assert again.exit_code == 1
    assert again.stdout.startswith("1 row: 0 counted, 1 duplicates, 0 rejected, 0 could not be")
    assert again.stderr.splitlines() == [MOVED_AGAIN, "tokenpulse: no row was counted"]
    [records] = broker.read(settings.kafka.topic, 8).values()
    assert [record.key for record in records[:6]] == [
        *(b"one", b"two", b"two"),
        *(b"one-b", b"three", b"four"),
    ]
    sent = [json.loads(record.value) for record in records[:6]]
    assert began_s * 1_000 <= sent[0]["ended_at"] <= time.time() * 1_000
    assert sent[0]["ended_at"] - sent[1]["ended_at"] == 250
    moved = {"ended_at": None}
    assert [one | moved for one in sent] == [one | moved for one in events]
    assert records[5].value == lines[5].encode()
    assert records[6].value == b"{"


@pytest.mark.slow
def test_a_file_that_is_replayed_twice_counts_once_only_as_recorded(
    broker: Broker, redis_server: RedisServer, tmp_path: Path
) -> None:
    ended_at = round(time.time() * 1_000) - 3_600_000
    common = {"ended_at": ended_at, "model": "m"}
    events = [
        {"request_id": "good", **common, "outcome": "success"},
        {"request_id": "bad", **common, "outcome": "timeout"},
    ]
    file = tmp_path / "events.jsonl"
    file.write_text("\n".join(map(json.dumps, events)))
    settings = worker_settings(broker, redis_server.url)
    with WorkerProcess(settings, tmp_path / "worker.log"):
        runs = [
            run("replay", file, *options, settings=settings)
            for options in ((), ("--onto-state",), *[("--as-recorded", "--onto-state")] * 2)
        ]
    # Moved, the failure has another end in each run; a success is known by its id alone. As
    # recorded the failure has its own end, which is new in the third run only.
    assert [done.stdout.partition(", 0 rejected")[0] for done in runs] == [
        "2 rows: 2 counted",
        *["2 rows: 1 counted, 1 duplicates"] * 2,
        "2 rows: 0 counted, 2 duplicates",
    ]
    assert [done.exit_code for done in runs] == [0, 0, 0, 1]
    assert [MOVED_AGAIN in done.stderr for done in runs] == [False, True, False, False]


def test_too_many_unmapped_rows_are_status_3_and_few_lines(
    broker: Broker, redis_server: RedisServer, tmp_path: Path
) -> None:
    mapping, file = tmp_path / "mapping.yaml", tmp_path / "rows.csv"
    mapping.write_text(
        "format: csv\ntime: {column: at, kind: epoch, unit: s, marks: end}\n"
        "fields:\n  model: {constant: m}\n  outcome: {constant: success}\n"
        "  input_tokens: tokens\n"
    )
    bad = [f"x{n},1" for n in range(12)]
    half = "1760000002,x"
    file.write_text("\n".join(["at,tokens", "1760000000,1", *bad, half, "1760000001,2"]))
    settings = worker_settings(broker, redis_server.url)
    with WorkerProcess(settings, tmp_path / "worker.log"):
        done = run("replay", file, "--mapping", mapping, settings=settings)
        enough = run(
            *("replay", file, "--mapping", mapping, "--max-unmapped", 12, "--onto-state"),
            settings=settings,
        )
    assert done.exit_code == 3
    assert done.stdout.startswith(
        "15 rows: 3 counted, 0 rejected, 12 could not be mapped, 1 fields left out\n"
    )
    moved, *shown, left_out, more, verdict = done.stderr.splitlines()
    assert moved == MOVED
    problem = "ended_at: found 'x0'; write a number, or make it null"
    assert shown[0] == f"{file}: line 3: {problem}"
    assert len(shown) == 10
    assert left_out.startswith(f"{file}: line 15: input_tokens: found 'x'")
    assert left_out.endswith("; the row counts without it")
    assert more == f"{file}: 2 more like line 3: {problem}"
    assert verdict.startswith("tokenpulse: 12 rows could not be mapped; ")
    # The rows have the ids of before: all of them are duplicates.
    assert enough.exit_code == 1
    assert enough.stdout.startswith("15 rows: 0 counted, 3 duplicates, 0 rejected, 12 could not")


def test_a_replay_says_that_times_without_a_zone_are_read_as_utc(
    broker: Broker, redis_server: RedisServer, tmp_path: Path
) -> None:
    mapping, file = tmp_path / "mapping.sql", tmp_path / "rows.csv"
    fields = "line, epoch_ms_of(r->>'at') AS ended_at, 'm' AS model, 'success' AS outcome"
    mapping.write_text(f"SELECT {fields} FROM records")
    file.write_text("at\n2026-11-20 10:00:02\n")
    settings = worker_settings(broker, redis_server.url)
    with WorkerProcess(settings, tmp_path / "worker.log"):
        done = run("replay", file, "--mapping", mapping, "--as-recorded", settings=settings)
    assert done.stderr.startswith("note: times without a zone are read as UTC, as 2026-11-20 10:00")


@pytest.mark.slow
def test_a_mapping_in_sql_counts_a_compressed_file(
    broker: Broker, redis_server: RedisServer, tmp_path: Path
) -> None:
    mapping, file = tmp_path / "mapping.sql", tmp_path / "rows.bin"
    mapping.write_text(
        "SELECT line, epoch_ms_of(r->>'at') AS ended_at, 'm' AS model, 'success' AS outcome, "
        "(r->>'tokens')::BIGINT AS input_tokens FROM records"
    )
    rows = "".join(f"{1_760_000_000 + n},{n}\n" for n in range(50))
    file.write_bytes(zstandard.compress(f"at,tokens\n{rows}1760000000,x\n".encode()))
    settings = worker_settings(broker, redis_server.url)
    with WorkerProcess(settings, tmp_path / "worker.log"):
        done = run("replay", file, "--mapping", mapping, settings=settings)
    assert done.exit_code == 3
    assert done.stdout.startswith("51 rows: 50 counted, 0 rejected, 1 could not be mapped\n")
    moved, problem, *_ = done.stderr.splitlines()
    assert moved == MOVED
    assert problem.startswith(f"{file}: line 52: Conversion Error: ")


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
    done = run("replay", file.format(here=Path(__file__)), "--mapping", mapping)
    assert done.exit_code == 2
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("tokenpulse: ")
    assert told in line


def test_a_file_that_has_no_events_is_refused_with_the_mapping_that_fits(tmp_path: Path) -> None:
    azure, other, list_ = tmp_path / "azure.csv", tmp_path / "other.csv", tmp_path / "list.json"
    azure.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n"
    )
    # A table is no list of events, even if a column is called like a field.
    other.write_text("when,id,request_id\n1760000000,me,a\n")
    list_.write_text("[1, 2]\n")
    named = "--mapping FILE that names its columns; `tokenpulse try"
    for file, advice in (
        (azure, "give --mapping azure_llm_2023, which fits"),
        (other, f"give {named} {other}` drafts one; it has when, id, request_id"),
        (list_, f"give {named} {list_}` drafts one"),
    ):
        done = run("replay", file)
        assert_one_line(done, f"{file}: its rows are no events (docs/events.md), which are ")
        assert done.stderr.endswith(f"; {advice}\n")


def test_records_that_are_no_requests_are_counted_apart(
    broker: Broker, redis_server: RedisServer, tmp_path: Path
) -> None:
    def entry(number: int, ai: object) -> dict[str, object]:
        times = {"started_at": 1_795_168_800_000 + number, "latencies": {"request": 5}}
        return {**times, "request": {"id": f"k{number}"}, "response": {"status": 200}, "ai": ai}

    file = tmp_path / "kong.log"
    entries = [entry(1, {"proxy": {"usage": {}}}), entry(2, None), entry(3, None)]
    file.write_text("".join(json.dumps(one) + "\n" for one in entries))
    settings = worker_settings(broker, redis_server.url)
    with WorkerProcess(settings, tmp_path / "worker.log"):
        done = run("replay", file, "--mapping", "kong", settings=settings)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(
        "1 row: 1 counted, 0 rejected, 0 could not be mapped, 2 records left out (no requests)\n"
    )

"""`tokenpulse rejected` on dead letters that a real worker sent."""

import json
from typing import Any

import pytest

from streams.config.settings import Settings
from tests.support.command import run
from tests.support.servers import Broker, RedisServer, wait_until
from tests.support.worker_process import (
    START_S,
    WorkerProcess,
    dead_letters,
    send_raw,
    worker_settings,
)

GOOD = {"request_id": "good", "ended_at": 1_767_225_600_000, "model": "m", "status_code": 500}
BROKEN: list[tuple[bytes | None, bytes | None]] = [
    (b"k0", b"{"),
    (b"k1", None),
    (None, json.dumps(GOOD | {"ended_at": "a-secret-time"}).encode()),
    (b"k3", json.dumps({name: GOOD[name] for name in GOOD if name != "request_id"}).encode()),
    (b"k4", json.dumps(GOOD | {"ended_at": 4_070_908_800_000}).encode()),
]
FAULTY: list[dict[str, Any]] = [
    {"ttft_ms": "a-secret-ttft", "request_id": "f0"},
    {"input_tokens": 10, "cached_input_tokens": 11, "request_id": "f1"},
    {"region": "eu west!", "request_id": "f2"},
]


@pytest.fixture(scope="module")
def settings(
    broker: Broker, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    """A topic of which a worker rejected five records, the odd offsets, and two fields."""
    settings = worker_settings(broker, redis_server.url)
    good = b"good", json.dumps(GOOD).encode()
    broken = (record for bad in BROKEN for record in (bad, good))
    faulty = ((b"f", json.dumps({**GOOD, "request_id": "f", **fault}).encode()) for fault in FAULTY)
    send_raw(settings.kafka, [good, *broken, *faulty])
    with WorkerProcess(settings, tmp_path_factory.mktemp("rejected") / "worker.log"):
        dead_letters(settings.kafka, len(BROKEN))
        wait_until(
            lambda: len(samples(settings)) == len(FAULTY), "the heartbeat has samples", START_S
        )
    return settings


def samples(settings: Settings) -> list[Any]:
    return [one for one in as_json(settings) if one["kind"] == "field"]


def as_json(settings: Settings, *options: object) -> Any:
    done = run("rejected", "--format", "json", *options, settings=settings)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_each_record_has_its_place_reason_and_fix_but_no_value(settings: Settings) -> None:
    done = run("rejected", settings=settings)
    assert done.exit_code == 0, done.output
    first, second = done.stdout.splitlines()[:4], done.stdout.splitlines()[8:12]
    assert first[0].startswith(f"{settings.kafka.topic}, partition 0, offset 1, 20")
    assert first[0].endswith("Z: not_json")
    assert first[1:] == [
        "  rule   malformed",
        "  found  1 bytes that are not JSON in UTF-8",
        "  fix    encode with a JSON library, one event a record",
    ]
    assert ", offset 5, " in second[0]
    assert second[1].startswith("  rule   ended_at: needs ")
    assert second[2] == "  found  a text of 13 characters"
    assert "secret" not in done.output
    assert "k0" not in done.output


def test_as_json_with_values_on_request(settings: Settings) -> None:
    documents = as_json(settings)[: len(BROKEN)]
    assert [one["offset"] for one in documents] == [1, 3, 5, 7, 9]
    reasons = [one["reason"] for one in documents]
    assert reasons == ["not_json", "empty", "bad_type", "missing_field", "from_the_future"]
    fields = [one["field"] for one in documents]
    assert fields == [None, None, "ended_at", "request_id", "ended_at"]
    found = [one["found"] for one in documents]
    assert found[1:] == [
        *("no value", "a text of 13 characters", "no value", "an integer of 13 characters")
    ]
    assert {one["kind"] for one in documents} == {"record"}
    assert all(one["fix"] and one["detail"] for one in documents)
    assert "secret" not in json.dumps(documents)
    values = as_json(settings, "--show-values")[: len(BROKEN)]
    assert [one["value"] for one in values] == [
        *("{", None, '"a-secret-time"', None, "4070908800000")
    ]
    assert [one["key"] for one in values] == ["k0", "k1", None, "k3", "k4"]
    without = [{key: one[key] for key in documents[0]} for one in values]
    assert without == documents


def test_a_field_that_cost_only_itself_is_sampled_and_read_from_the_event_topic(
    settings: Settings,
) -> None:
    by_field = {one["field"]: one for one in samples(settings)}
    assert by_field.keys() == {"ttft_ms", "cached_input_tokens", "region"}
    region = by_field["region"]
    assert (region["reason"], region["cost"]) == ("renamed", None)  # it counts, as `eu west_`
    ttft, cached = by_field["ttft_ms"], by_field["cached_input_tokens"]
    assert (ttft["reason"], ttft["offset"], ttft["found"]) == (
        *("bad_type", 11, "a text of 13 characters"),
    )
    assert (cached["reason"], cached["offset"]) == ("inconsistent", 12)
    assert ttft["rejected_at"] is None
    assert ttft["cost"] == "no TTFT and no TPOT"
    assert "secret" not in json.dumps([ttft, cached])
    [shown] = as_json(settings, "--reason", "inconsistent", "--show-values")
    assert (shown["value"], shown["key"]) == ("11", "f")
    text = run("rejected", "--last", 3, settings=settings).stdout.splitlines()
    assert "  cost   no TTFT and no TPOT" in text


def test_the_report_counts_the_wrong_fields_that_are_sampled(settings: Settings) -> None:
    done = run("report", settings=settings)
    faults = "region renamed 1, ttft_ms bad_type 1, cached_input_tokens inconsistent 1"
    assert f"  faults      {faults}\n" in done.stdout


def test_only_the_last_ones_and_those_of_a_reason(settings: Settings) -> None:
    assert [one["offset"] for one in as_json(settings, "--last", 3)] == [11, 12, 13]
    assert [one["offset"] for one in as_json(settings, "--reason", "empty", "--last", 1)] == [3]
    assert as_json(settings, "--reason", "too_large") == []
    none = run("rejected", "--reason", "too_large", settings=settings)
    assert none.stdout == "no rejected records or fields\n"
    assert run("rejected", "--reason", "no_such", settings=settings).exit_code == 2


def test_dead_letters_need_no_codec_that_a_plain_client_lacks(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without cramjam aiokafka decompresses gzip only."""
    monkeypatch.setattr("aiokafka.codec.cramjam", None)
    assert len(as_json(settings)) == len(BROKEN) + len(FAULTY)


def test_a_topic_that_is_missing_is_one_line(settings: Settings) -> None:
    absent = settings.model_copy(
        update={"kafka": settings.kafka.model_copy(update={"dlq_topic": "absent.dlq"})}
    )
    done = run("rejected", settings=absent)
    assert done.exit_code == 2
    assert done.stderr.splitlines() == [
        f"tokenpulse: absent.dlq: no such topic at {settings.kafka.bootstrap}; run `tokenpulse "
        "topics create`, or correct the setting"
    ]

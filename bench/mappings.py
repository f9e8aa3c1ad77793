"""Records per second from JSON text to events ready to send, through mappings, on one core.

    python -m bench.mappings [--rounds 7]

Access log lines are those of Envoy AI Gateway; payloads are those of LiteLLM, padded to 12 kB.
Seconds are those of the process's own CPU time; the best round counts.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streams.sources.reading import BATCH_BYTES, BATCH_RECORDS, load_mapping
from streams.sources.sql_mapping import Record, Source, SqlMapping

YAML = str(Path(__file__).with_name("litellm.yaml"))
PAYLOAD_BYTES = 12_000
START_S = 1_795_168_800


def access_line(number: int) -> dict[str, Any]:
    """Return a line of the access log."""
    return {
        "start_time": f"2026-11-20T10:{number // 60 % 60:02}:{number % 60:02}.120Z",
        "method": "POST",
        "x-envoy-origin-path": "/v1/chat/completions",
        "response_code": 200,
        "response_flags": "-",
        "duration": 5_230 + number % 100,
        "response_duration": 410,
        "x-request-id": f"5f0d6a10-0001-4000-8000-{number:012}",
        "gen_ai.request.model": "llama-3.3-70b",
        "gen_ai.provider.name": "default/tars/route/aigw-run/rule/0/ref/0",
        "gen_ai.usage.input_tokens": 1_200,
        "gen_ai.usage.output_tokens": 240,
        "user-agent": "curl/8.7.1",
    }


def payload(number: int) -> dict[str, Any]:
    """Return a payload of LiteLLM's loggers."""
    details = {
        "prompt_tokens_details": {"cached_tokens": 1_536},
        "completion_tokens_details": {"reasoning_tokens": 64},
    }
    found = {
        "litellm_call_id": f"call-{number}",
        "call_type": "acompletion",
        "stream": True,
        "status": "success",
        "model": "gpt-4o",
        "startTime": START_S + number,
        "endTime": START_S + number + 1.9,
        "completionStartTime": START_S + number + 0.2,
        "prompt_tokens": 2_048,
        "completion_tokens": 120,
        "metadata": {"usage_object": details, "user_api_key_team_id": "red"},
        "model_parameters": {"stream": True},
        "hidden_params": {},
    }
    found["hidden_params"] = {"padding": "x" * (PAYLOAD_BYTES - len(json.dumps(found)))}
    return found


def rate(name: str, record: Callable[[int], dict[str, Any]], rounds: int) -> tuple[float, int]:
    """Return the records per second through a mapping, and the bytes of a record."""
    mapping = load_mapping(name)
    assert isinstance(mapping, SqlMapping)
    size = len(json.dumps(record(0)))
    # As many as a file's batch has.
    count = min(BATCH_RECORDS, BATCH_BYTES // size)
    records = [Record(number, json.dumps(record(number)).encode()) for number in range(count)]
    best = 0.0
    for _ in range(rounds):
        started = time.process_time()
        batch = mapping.map(records, Source("bench"))
        values = [row.encode() for row in batch.rows]
        best = max(best, count / (time.process_time() - started))
        assert len(values) == count
    return best, size


def main() -> None:
    """Print the rates."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    mappings = {"envoy_ai_gateway": access_line, "litellm": payload, YAML: payload}
    for name, record in mappings.items():
        best, size = rate(name, record, rounds)
        print(f"{Path(name).name:<17} {size:>6,} bytes a record {best:>10,.0f} records/s")


if __name__ == "__main__":
    main()

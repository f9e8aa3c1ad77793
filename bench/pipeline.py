"""Events per second of the whole path, beside plain clients on the same topic in the same run.

A backlog of EVENTS events (about 320 bytes of JSON, 8 partitions, 100 series, 500 customers, ten
minutes of event time) is written to the embedded broker. Then, one after another, each alone:

    raw getmany   aiokafka's getmany, counting records only
    plain agent   a Faust agent that gets one event at a time and counts it (on a part of the topic)
    pipeline      one Tokenpulse worker: decode, check, look for duplicates, count into all
                  windows, checkpoint to Redis; and once more without looking for duplicates

The pipeline's rate is taken from the store: from the first checkpoint to the one that holds all.
The last line is for machines, so `make bench` runs this after the benchmarks of the intake.
"""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import redis
from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.config.settings import Settings, load_settings
from streams.kafka.producer import EventProducer
from streams.store.keys import Keys
from tokenpulse.local.stack import LocalStack

EVENTS = int(os.environ.get("BENCH_EVENTS", "2000000"))
PLAIN_EVENTS = 40_000
PARTITIONS = 8
SPAN_S = 600
SERIES = [
    (f"model-{m}", f"region-{r}", channel, tier)
    for m in range(5)
    for r in range(5)
    for channel in ("direct", "reseller")
    for tier in ("standard", "priority")
]
CUSTOMERS = 500


def make_events(first: int, count: int, total: int, end_ms: int) -> list[tuple[bytes, bytes]]:
    """Return (key, value) of events `first` to `first + count` of `total`.

    They cover the ten minutes before `end_ms` (epoch ms), in order of time but for half a second.
    """
    # Seeded by the first number, so that each run sends the same events.
    rng = np.random.default_rng(first)
    place_ms = SPAN_S * 1_000 * np.arange(first, first + count) // total
    ended = (end_ms - SPAN_S * 1_000 + place_ms - rng.integers(0, 500, count)).tolist()
    series = rng.integers(0, len(SERIES), count).tolist()
    # Few customers send most of the requests.
    customer = (rng.zipf(1.3, count) % CUSTOMERS).tolist()
    ttft = rng.lognormal(-1.6, 0.4, count) * 1_000
    output = (1 + rng.lognormal(5, 0.8, count)).astype(int)
    duration = np.round(ttft + 25 * (output - 1) * rng.lognormal(0, 0.1, count), 3).tolist()
    ttft = np.round(ttft, 3).tolist()
    inputs = (50 + rng.lognormal(6.5, 1, count)).astype(int)
    cached = (inputs * rng.choice([0, 0.5, 0.9], count)).astype(int).tolist()
    failed = rng.random(count) < 0.005
    encode = msgspec.json.encode
    events = []
    for i in range(count):
        model, region, channel, tier = SERIES[series[i]]
        key = f"req-{first + i:012d}"
        events.append(
            (
                key.encode(),
                encode(
                    {
                        "request_id": key,
                        "ended_at": ended[i],
                        "model": model,
                        "outcome": "server_error" if failed[i] else "success",
                        "region": region,
                        "channel": channel,
                        "service_tier": tier,
                        "customer_id": f"customer-{customer[i]:04d}",
                        "stream": True,
                        "ttft_ms": ttft[i],
                        "duration_ms": duration[i],
                        "input_tokens": int(inputs[i]),
                        "cached_input_tokens": cached[i],
                        "output_tokens": int(output[i]),
                    }
                ),
            )
        )
    return events


async def fill(settings: Settings) -> float:
    """Write the backlog; the mean size of a value in bytes."""
    size = 0
    # Uncompressed, so that the codec is not what is measured.
    async with EventProducer(settings.kafka, compression="none") as producer:
        end_ms = time.time_ns() // 1_000_000
        for first in range(0, EVENTS, 200_000):
            events = make_events(first, min(200_000, EVENTS - first), EVENTS, end_ms)
            size += sum(len(value) for _, value in events)
            await producer.send_many(events)
        await producer.flush()
    return size / EVENTS


async def raw_getmany(settings: Settings) -> float:
    """Records per second of a consumer that only counts."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka.bootstrap,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=settings.kafka.fetch_max_partition_bytes,
    )
    await consumer.start()
    try:
        tps = [TopicPartition(settings.kafka.topic, number) for number in range(PARTITIONS)]
        consumer.assign(tps)
        for tp in tps:
            consumer.seek(tp, 0)
        seen, began = 0, time.perf_counter()
        while seen < EVENTS:
            seen += sum(map(len, (await consumer.getmany(timeout_ms=1_000)).values()))
        return seen / (time.perf_counter() - began)
    finally:
        await consumer.stop()


def plain_agent(settings: Settings) -> float:
    """Events per second of an ordinary Faust agent that only counts."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.plain_agent", settings.kafka.bootstrap, settings.kafka.topic,
         str(PLAIN_EVENTS)],
        capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    lines = done.stdout.strip().splitlines()
    if not lines:
        raise RuntimeError(f"the plain agent printed no rate: {done.stderr[-2_000:]}")
    return float(lines[-1].split()[-1])


def pipeline(
    stack: LocalStack, settings: Settings, group: str, **variables: str
) -> tuple[float, float, float]:
    """(events per second, largest resident memory in MB, processor seconds) of one worker of a
    consumer group of its own, with these settings in its environment."""
    store = redis.Redis.from_url(stack.redis_url)
    keys = [Keys(group, settings.kafka.topic).partition(number) for number in range(PARTITIONS)]
    log_path = stack.log_dir / f"{group}.log"
    with log_path.open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "tokenpulse.cli.main", "worker"],
            env={**stack.environment, "TOKENPULSE_KAFKA__GROUP": group, **variables},
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        first: tuple[int, float] | None = None
        deadline = time.monotonic() + 300
        while True:
            pipe = store.pipeline(transaction=False)
            for key in keys:
                pipe.hget(key, "offset")
            stored = sum(int(offset or 0) for offset in pipe.execute())
            now = time.perf_counter()
            # Start of the process and joining the group are not measured.
            if stored and first is None:
                first = (stored, now)
            if stored >= EVENTS and first is not None:
                status = Path(f"/proc/{worker.pid}/status").read_text()
                peak_kb = int(status.split("VmHWM:")[1].split()[0])
                # The program's name stands in parentheses and may contain blanks.
                ticks = Path(f"/proc/{worker.pid}/stat").read_text().rsplit(")", 1)[1].split()
                # User and system time are fields 14 and 15, counted from the process id.
                cpu_s = (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")
                return (stored - first[0]) / (now - first[1]), peak_kb * 1_024 / 1e6, cpu_s
            if worker.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the worker did not drain: {log_path.read_text()[-3_000:]}")
            time.sleep(0.02)
    finally:
        worker.terminate()
        worker.wait(30)


def main() -> None:
    """Run all three and print the rates."""
    settings = load_settings(overrides={"kafka": {"partitions": PARTITIONS}})
    with LocalStack(settings, workers=0, exporter=False, simulate=False) as stack:
        settings = stack.settings
        size = asyncio.run(fill(settings))
        print(f"backlog: {EVENTS:,} events of {size:.0f} bytes, {PARTITIONS} partitions")
        raw = asyncio.run(raw_getmany(settings))
        print(f"raw getmany, counting only:       {raw:>9,.0f} events/s")
        plain = plain_agent(settings)
        print(f"plain Faust agent, counting only: {plain:>9,.0f} events/s")
        rate, rss_mb, cpu_s = pipeline(stack, settings, "everything")
        print(f"pipeline, everything:             {rate:>9,.0f} events/s")
        print(f"worker: {cpu_s:.1f} s of processor time; {rate / plain:.0f} times the plain agent")
        bare, bare_mb, bare_s = pipeline(
            stack, settings, "without-duplicates", TOKENPULSE_WORKER__DEDUP_WINDOW_S="0"
        )
        print(f"pipeline, duplicates not sought:  {bare:>9,.0f} events/s")
        print(
            f"de-duplication: {(cpu_s - bare_s) / EVENTS * 1e6:.2f} us of processor "
            f"time an event, {rss_mb - bare_mb:.0f} MB for {EVENTS:,} request ids"
        )
    print(
        f"pipeline_events_per_s={rate:.0f} raw_getmany_events_per_s={raw:.0f} "
        f"ratio={rate / raw:.3f} worker_rss_mb={rss_mb:.0f}"
    )


if __name__ == "__main__":
    main()

"""Memory of workers and of Redis on the page, from the heartbeats."""

from exporters.metrics.exposition import Page
from exporters.metrics.pipeline import add_workers
from streams.store.heartbeat import Heartbeat


def heartbeat(worker: str, at_ms: int, **fields: int) -> Heartbeat:
    texts = {name: str(value) for name, value in fields.items()}
    return Heartbeat(0, {"worker": worker, "at_ms": str(at_ms), **texts})


def memory_lines(*signs: Heartbeat) -> set[str]:
    page = Page()
    add_workers(page, signs)
    text = page.text(openmetrics=False).decode()
    return {line for line in text.splitlines() if "_memory_" in line and line[0] != "#"}


def test_each_running_worker_has_its_memory_and_redis_that_of_the_newest_heartbeat() -> None:
    first = heartbeat(
        *("a", 100_000),
        memory_bytes=5,
        memory_limit_bytes=9,
        store_memory_bytes=70,
        store_memory_limit_bytes=100,
    )
    second = heartbeat("b", 100_900, memory_bytes=6, memory_limit_bytes=0, store_memory_bytes=71)
    assert memory_lines(first, second) == {
        'tokenpulse_worker_memory_bytes{worker="a"} 5',
        'tokenpulse_worker_memory_limit_bytes{worker="a"} 9',
        'tokenpulse_worker_memory_bytes{worker="b"} 6',
        "tokenpulse_redis_memory_bytes 71",
    }


def test_a_worker_that_ended_uses_no_memory_and_an_older_worker_reports_none() -> None:
    ended = heartbeat("a", 100_000, memory_bytes=5)
    assert memory_lines(ended, heartbeat("b", 131_000)) == set()
    assert memory_lines(ended, heartbeat("b", 129_000)) == {
        'tokenpulse_worker_memory_bytes{worker="a"} 5'
    }

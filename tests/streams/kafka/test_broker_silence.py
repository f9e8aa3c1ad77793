"""How long a broker has not answered: what the heartbeat of a worker reports."""

from types import SimpleNamespace
from typing import Any

import pytest

from streams.kafka.transport import BatchThread
from streams.store.heartbeat import BROKER_SILENT_AFTER_S, Heartbeat


def test_the_newest_answer_of_any_connection_is_kept_after_it_closed() -> None:
    thread: Any = BatchThread.__new__(BatchThread)
    thread.answered_at = None
    connections: dict[int, Any] = {}
    consumer: Any = SimpleNamespace(_client=SimpleNamespace(_conns=connections))
    thread._note_answer(consumer)
    assert thread.answered_at is None
    connections |= {0: SimpleNamespace(_last_action=5.0), 1: SimpleNamespace(_last_action=7.0)}
    thread._note_answer(consumer)
    assert thread.answered_at == 7.0
    connections.clear()
    thread._note_answer(consumer)
    assert thread.answered_at == 7.0


@pytest.mark.parametrize(
    ("broker_at_ms", "lag"),
    [(99_000, 5), (100_000 - BROKER_SILENT_AFTER_S * 1_000 - 1, None), ("", 5), (0, 5)],
)
def test_the_lag_is_unknown_while_the_broker_is_silent(broker_at_ms: Any, lag: int | None) -> None:
    fields = {"at_ms": "100000", "highwater": "15", "broker_at_ms": str(broker_at_ms)}
    assert Heartbeat(0, fields).lag(10, 100.0, 30.0) == lag

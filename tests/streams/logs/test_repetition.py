"""Repeated messages: few lines, and sums that together with them count every record."""

import logging
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.logs.repetition import ALLOWED, INTERVAL_S, MOST_KEYS, RepetitionHandler


class Lines(logging.Handler):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.written.append(record)

    @property
    def texts(self) -> list[str]:
        return [record.getMessage() for record in self.written]


class Log:
    """A log whose clock the test sets."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.lines = Lines()
        self.handler = RepetitionHandler(self.lines, clock=lambda: self.now_s)

    def say(
        self, message: str, *args: object, level: int = logging.WARNING, **fields: object
    ) -> None:
        record = {"msg": message, "args": args, "name": "a", "levelno": level, **fields}
        self.handler.handle(logging.makeLogRecord(record))


@pytest.fixture
def log() -> Log:
    return Log()


def test_the_first_lines_are_written_and_the_rest_is_summed_up_after_a_minute(log: Log) -> None:
    for number in range(73):
        log.say("attempt %d failed", number)
    assert log.lines.texts == [f"attempt {number} failed" for number in range(ALLOWED)]
    log.now_s = INTERVAL_S
    log.handler.sum_up()
    assert log.lines.texts[ALLOWED:] == ["attempt 72 failed (repeated 63 times in the last 60 s)"]
    assert vars(log.lines.written[-1])["repeated"] == 63


def test_a_message_that_goes_on_has_one_line_a_minute(log: Log) -> None:
    for minute in range(10):
        for second in range(60):
            log.now_s = minute * 60.0 + second
            log.say("away")
    log.now_s = 600.0
    log.handler.sum_up()
    assert len(log.lines.written) == ALLOWED + 10


def test_after_a_minute_without_it_a_message_is_new(log: Log) -> None:
    for _ in range(50):
        log.say("away")
    for log.now_s in (60.0, 120.0, 180.0):
        log.handler.sum_up()
    log.lines.written.clear()
    log.say("away")
    assert log.lines.texts == ["away"]


def test_levels_loggers_partitions_and_texts_are_apart(log: Log) -> None:
    kinds: list[dict[str, Any]] = [{}, {"name": "b"}, {"partition": 1}, {"partition": 2}]
    for fields in kinds:
        for _ in range(ALLOWED):
            log.say("away", **fields)
    for _ in range(ALLOWED):
        log.say("away", level=logging.INFO)
        log.say("back")
    assert len(log.lines.written) == ALLOWED * (len(kinds) + 2)


def test_numbers_in_a_finished_text_make_no_new_message(log: Log) -> None:
    for number in range(100):
        log.say(f"node {number} at port {9_000 + number} does not answer")
    assert len(log.lines.written) == ALLOWED


def test_a_critical_record_is_always_written(log: Log) -> None:
    for _ in range(50):
        log.say("ending", level=logging.CRITICAL)
    assert len(log.lines.written) == 50


def test_texts_without_end_cost_no_memory(log: Log) -> None:
    for number in range(3 * MOST_KEYS):
        log.say("x" * (number + 1))
    assert len(log.lines.written) == MOST_KEYS + ALLOWED
    assert len(log.handler._repeated) <= MOST_KEYS + 1


@given(
    st.lists(st.tuples(st.floats(0, 40), st.sampled_from(["away", "back", "%d of 7"])), max_size=80)
)
def test_lines_and_sums_count_every_record(story: list[tuple[float, str]]) -> None:
    log = Log()
    for pause_s, message in story:
        log.now_s += pause_s
        log.say(message, *([3] if "%" in message else []))
    log.handler.flush()
    for message in ("away", "back", "3 of 7"):
        said = sum((text.replace("%d", "3") == message) for _, text in story)
        repeated = [
            int(found[1])
            for text in log.lines.texts
            if (found := re.fullmatch(rf"{message} \(repeated (\d+) times? in .*\)", text))
        ]
        assert log.lines.texts.count(message) + sum(repeated) == said

"""Both formats say the same; each record of JSON is one line."""

import json
import logging
import sys

import pytest

from streams.logs.formats import JsonFormatter, TextFormatter, fields_of


def record_of(message: str, *args: object, **fields: object) -> logging.LogRecord:
    return logging.makeLogRecord(
        {
            "name": "streams.worker",
            "levelno": logging.WARNING,
            "levelname": "WARNING",
            "msg": message,
            "args": args,
            "created": 1_769_860_800.0625,
            **fields,
        }
    )


def failed() -> logging.LogRecord:
    try:
        raise OSError(24, "too many\nopen files")
    except OSError:
        return record_of("cannot read", exc_info=sys.exc_info())


def test_text_has_time_level_logger_fields_and_message() -> None:
    record = record_of("%s: trying again", "no answer", partition=3, offset=1_200)
    assert TextFormatter().format(record) == (
        "2026-01-31T12:00:00.062Z WARNING streams.worker: partition=3 offset=1200: "
        "no answer: trying again"
    )


def test_json_has_the_same_as_keys() -> None:
    record = record_of("%s: trying again", "no answer", partition=3, offset=1_200)
    assert json.loads(JsonFormatter().format(record)) == {
        "time": "2026-01-31T12:00:00.062Z",
        "level": "warning",
        "logger": "streams.worker",
        "message": "no answer: trying again",
        "partition": 3,
        "offset": 1_200,
    }


@pytest.mark.parametrize("text", ["a\nb", '"quoted"', "ü 世界", "\x00\x1b[31m", "a\u2028b"])
def test_a_message_of_any_text_is_one_line(text: str) -> None:
    record = record_of(text)
    assert json.loads(JsonFormatter().format(record))["message"] == text
    assert len(JsonFormatter().format(record).split("\n")) == 1
    assert len(TextFormatter().format(record).split("\n")) == 1


def test_a_traceback_follows_in_text_and_is_a_key_in_json() -> None:
    record = failed()
    first, *trace = TextFormatter().format(record).splitlines()
    assert first.endswith("streams.worker: cannot read")
    assert trace[0].startswith("Traceback")
    [line] = JsonFormatter().format(record).splitlines()
    assert json.loads(line)["exception"].startswith("Traceback")


def test_a_field_replaces_no_part_of_the_line() -> None:
    record = record_of("here", level="none", time="never", data=object())
    assert dict(fields_of(record)) == {"level": "none", "time": "never"}
    assert json.loads(JsonFormatter().format(record))["level"] == "warning"

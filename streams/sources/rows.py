"""The rows that mappings return: events ready for the topic."""

from typing import Any, NamedTuple

import msgspec

from streams.events.fields import outcome_of

# A row has its outcome from one of these; without all of them it cannot be counted.
OUTCOME_FIELDS = ("outcome", "status_code", "ending", "error_class")
# Each of them gives an outcome, whatever its word is; a status may give none.
GIVES_OUTCOME = {"outcome", "ending", "error_class"}


_encode = msgspec.json.Encoder().encode


class Row(NamedTuple):
    """One event. `event`: ready for JSON, without None; it includes `ended_at_ms`.

    `problems`: one message for each field that was left out because its value cannot be used.
    """

    line: int
    event: dict[str, Any]
    ended_at_ms: int
    problems: tuple[str, ...] = ()

    @property
    def key(self) -> bytes:
        """The record's key: the request id."""
        return str(self.event["request_id"]).encode()

    def encode(self, shift_ms: int = 0) -> bytes:
        """Return the record's value, with `ended_at` moved by `shift_ms`."""
        return _encode({**self.event, "ended_at": self.ended_at_ms + shift_ms})


def find_problem(event: dict[str, Any], left_out: dict[str, str]) -> str | None:
    """Return why the worker would reject the event for its id or outcome; None if it would not.

    `left_out`: the message of each field whose value cannot be used.
    """
    if "request_id" in left_out:
        return left_out["request_id"]
    if GIVES_OUTCOME & event.keys():
        return None
    if "status_code" in event:
        status = event["status_code"]
        if outcome_of(status, None) is not None:
            return None
        return f"status_code: found {status}, for which no outcome is known; map an outcome"
    for name in OUTCOME_FIELDS:
        if name in left_out:
            return left_out[name]
    return "no outcome and no status_code: map a column that has one, or give it a constant"

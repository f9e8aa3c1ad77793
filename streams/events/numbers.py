"""Numbers of events that cannot be right: out of range, or against a number they are a part of.

Pure. Such a number becomes unknown, and is a fault of its record.
"""

import numpy as np

from streams.events.fields import (
    FIELDS,
    LATENCY_KINDS,
    MAX_LATENCY_MS,
    MAX_TOKENS,
    NOT_MEASURED,
    RARE_FIELDS,
    TOKEN_KINDS,
)
from streams.events.rows import Rows

# TTFT and duration come from two clocks or two roundings: up to this they are the same moment.
_ROUNDING_MS, _ROUNDING_RATIO = 1.0, 0.001
_RANGE, _PARTS = "out_of_range", "inconsistent"
# (part, whole): a part cannot exceed its whole, and is unknown if its whole is.
_PARTS_OF: tuple[tuple[str, str], ...] = (
    ("cached_input_tokens", "input_tokens"),
    ("cache_write_tokens", "input_tokens"),
    ("reasoning_tokens", "output_tokens"),
)
_RANGES: dict[str, float] = {
    field.name: MAX_LATENCY_MS if field.kind in LATENCY_KINDS else MAX_TOKENS
    for field in FIELDS
    if field.kind in (*LATENCY_KINDS, *TOKEN_KINDS)
}


def judge_numbers(rows: Rows) -> None:
    """Make numbers unknown that are out of range, or contradict the number they are a part of."""
    numbers = rows.numbers
    for name, largest in _RANGES.items():
        if name in RARE_FIELDS and not rows.has_rare:
            continue
        values = numbers[name]
        if len(values) and (values.min() < 0 or values.max() > largest):
            rows.forget(
                ((values < 0) & (values != NOT_MEASURED)) | (values > largest), name, _RANGE
            )

    for part, whole in _PARTS_OF:
        exceeds = numbers[part] > numbers[whole]
        if exceeds.any():
            # -1 is below any part: an unknown whole makes its parts unknown, which is no fault.
            known = numbers[whole] >= 0
            rows.forget(exceeds & known, part, _PARTS)
            numbers[part][exceeds & ~known] = NOT_MEASURED
    total = numbers["total_tokens"]
    # Few senders give a total, so most batches need no sum.
    if len(total) and total.max() >= 0:
        given, output = numbers["input_tokens"], numbers["output_tokens"]
        known = (given >= 0) & (output >= 0) & (total >= 0)
        rows.forget(known & (total != given + output), "total_tokens", _PARTS)

    _judge_order(rows, "ttft_ms", "duration_ms", "ttft_ms")
    if rows.has_rare:
        _judge_order(rows, "first_visible_token_ms", "duration_ms", "first_visible_token_ms")
        _judge_order(rows, "ttft_ms", "first_visible_token_ms", "first_visible_token_ms")


def _judge_order(rows: Rows, earlier: str, later: str, doubted: str) -> None:
    """Make the time `doubted` unknown if `earlier` is after `later`; the same if it is rounding."""
    earlier_ms, later_ms = rows.numbers[earlier], rows.numbers[later]
    wrong = (earlier_ms > later_ms) & (later_ms >= 0)
    if not wrong.any():
        return
    slack_ms = np.maximum(_ROUNDING_MS, later_ms * _ROUNDING_RATIO) + 1e-6
    rounded = wrong & (earlier_ms - later_ms <= slack_ms)
    other_ms = later_ms if doubted == earlier else earlier_ms
    rows.numbers[doubted][rounded] = other_ms[rounded]
    rows.forget(wrong & ~rounded, doubted, _PARTS)

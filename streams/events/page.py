"""The event contract as a page for people: docs/events.md.

Pure: tables built from fields.py between fixed text.
"""

from collections.abc import Iterable

from streams.events.fields import (
    CUSTOMER,
    ENDING_OUTCOMES,
    ENDINGS,
    FIELD_REASONS,
    FIELDS,
    LATENCY_KINDS,
    MAX_DEPTH,
    REASONS,
    STATUS_CLASSES,
    STATUS_OUTCOMES,
    VERSION,
    Kind,
)

# What each reason to reject a record means, and what the sender does about it.
REASON_HELP: dict[str, tuple[str, str]] = {
    "empty": ("the record has no value: a tombstone or zero bytes", "send the event as the value"),
    "too_large": (
        "more bytes than `worker.max_event_bytes`",
        "send measurements only, no prompts and no answers",
    ),
    "too_deep": (f"nested deeper than {MAX_DEPTH} levels", "flatten; the event itself is flat"),
    "not_json": (
        "not one JSON text, or a `request_id` that is not UTF-8 or has half a surrogate pair",
        "encode with a JSON library, one event a record",
    ),
    "missing_field": (
        "no `request_id`, no `ended_at`, or nothing that gives an outcome",
        "fill it in",
    ),
    "bad_type": (
        "the record is no object, or `request_id`, `ended_at` or the only outcome has another type "
        "than the table says",
        "note that `true` is not 1; send `ended_at` as an integer in milliseconds, without quotes: "
        "the detail names the unit that the number is in",
    ),
    "out_of_range": (
        "`request_id` is empty, `ended_at` is no date, before 2015 or in another unit, or "
        "`outcome` and `status_code` are not values that the table allows",
        "send `ended_at` in milliseconds: seconds, microseconds and nanoseconds are named in the "
        "detail; outcomes are written in small letters",
    ),
    "bad_label": ("not used any more: such names are renamed", "-"),
    "inconsistent": ("not used any more: it costs the field", "-"),
    "no_timestamp": (
        "the record carries no Kafka timestamp",
        "use a client and a message format from after 2016",
    ),
    "from_the_future": (
        "`ended_at` lies after the record's timestamp by more than `worker.future_tolerance_s`",
        "set the sender's clock",
    ),
    "too_late": (
        "`ended_at` lies so far behind the partition's newest event that no slice is kept for it",
        "send sooner; look for a sender whose clock runs ahead",
    ),
}
# What each fault of a field means, and what the sender does about it.
FIELD_REASON_HELP: dict[str, tuple[str, str]] = {
    "bad_type": (
        "the field has another type than the table says; it is unknown",
        "send the type that docs/events.md names; note that numbers in quotes are texts",
    ),
    "out_of_range": (
        "the value is not one the table allows; it is unknown",
        "check the unit: latencies are in milliseconds",
    ),
    "inconsistent": (
        "the part exceeds its known whole, `total_tokens` is not the sum, or `error_class` does "
        "not belong to the outcome; it is unknown, and the class follows from the status",
        "check what is mapped: cached tokens are a part of the input, reasoning of the output, and "
        "the first token comes before the end",
    ),
    "renamed": (
        "the name is no label, or was cut to its last part; the request counts under another name",
        "rename it at the source, or use the name under which it counts",
    ),
    "suspicious": (
        "the TTFT is 0, or that of a stream of more than 5 tokens is its duration: it was probably "
        "not measured. Or it is below 10 ms and at most a thousandth of the duration: it is "
        "probably in seconds. It counts",
        "take the time of the first token when it arrives, and send it in milliseconds",
    ),
}
# What the request still counts for if a field is missing or wrong.
FIELD_COSTS: dict[str, str] = {
    "request_id": "the record is rejected",
    "ended_at": "the record is rejected",
    "model": "counts under the model `unknown`",
    "outcome": "follows from `status_code`, `ending` or `error_class`; without all of them the "
    "record is rejected",
    "status_code": "digits in a text count as the number; else the outcome must follow from "
    "`outcome`, `ending` or `error_class`",
    "error": "a 2xx status is a success; an error that is an object is an error",
    "region": "counts under the region `unknown`",
    "channel": "counts under the channel `unknown`",
    "service_tier": "counts under the tier `unknown`",
    "customer_id": "counts under the customer `unknown`",
    "use_case": "nothing changes: it is not counted",
    "stream": "TTFT counts only if it is below a known duration",
    "ttft_ms": "no TTFT and no TPOT",
    "duration_ms": "no duration and no TPOT; without `stream` no TTFT",
    "input_tokens": "no input, cached and written tokens, no part in the cache hit ratio",
    "cached_input_tokens": "no part in the cache hit ratio; its input tokens are `unknown_input`",
    "cache_write_tokens": "no tokens written to the cache",
    "output_tokens": "no output and reasoning tokens, no TPOT",
    "reasoning_tokens": "no reasoning tokens",
    "probe": "counts as a request of a customer",
    "trace_id": "no exemplar",
    "total_tokens": "no check of the sum",
    "estimated_tokens": "the tokens count as exact",
    "served_from": "counts as answered by the model",
    "requested_service_tier": "counts as requested at the tier that served it",
    "attempt_of": "nothing changes: `final` decides what the attempt counts for",
    "final": "counts as a request of a customer",
    "first_visible_token_ms": "no time to the first visible token",
    "error_class": "that of a client error follows from `status_code`",
    "ending": "no part in the endings; a success stays one",
}


def event_page() -> str:
    """Return the text of docs/events.md."""
    fields = [
        (
            f"`{field.name}`",
            " or ".join(_json_types(field.kind)),
            field.kind.range,
            field.meaning,
            FIELD_COSTS[field.name],
        )
        for field in FIELDS
    ]
    outcomes = [("2xx or 101 with a non-empty `error`", "stream_error")]
    for first, last, outcome in STATUS_OUTCOMES:
        # A line before this one took a part of the span.
        narrower = any(first <= low and high < last for low, high, _ in STATUS_OUTCOMES)
        other = "other " if narrower else ""
        outcomes.append((f"{other}{first}-{last}" if first < last else str(first), outcome))
    classes = [
        (f"{first}-{last}" if first < last else str(first), error_class)
        for first, last, error_class in STATUS_CLASSES
        if error_class
    ]
    endings = [(f"`{ending}`", ENDING_OUTCOMES[ending]) for ending in ENDINGS]
    reasons = [(f"`{reason}`", *REASON_HELP[reason]) for reason in REASONS]
    faults = [(f"`{reason}`", FIELD_REASON_HELP[reason][0]) for reason in FIELD_REASONS]
    return _PAGE.format(
        version=VERSION,
        fields=markdown_table(("field", "type", "range", "meaning", "if missing or wrong"), fields),
        outcomes=markdown_table(("status", "outcome"), outcomes),
        classes=markdown_table(("status", "class"), classes),
        endings=markdown_table(("ending", "outcome"), endings),
        faults=markdown_table(("reason", "means"), faults),
        reasons=markdown_table(("reason", "means", "fix"), reasons),
    )


def _json_types(kind: Kind) -> tuple[str, ...]:
    return tuple(name for name in kind.json_types if not (name == "integer" and kind in _NUMBERS))


_NUMBERS = (*LATENCY_KINDS, CUSTOMER)  # "number" includes "integer"
_PAGE = """\
# The event

Generated by `make docs` from `streams/events/fields.py`; the same as
[JSON Schema](event.schema.json). This is version {version} of the contract.

One finished inference request is one JSON object, one object a Kafka record. Send at least
`request_id`, `ended_at`, and an `outcome`, a `status_code`, an `ending` or an `error_class`. Any
other field may be missing or wrong: the request then counts for all that does not need the field.
null means missing.

{fields}

- Unknown fields are ignored. Of a key given twice, the last one counts.
- RFC 3339 times have a zone and any number of fraction digits, rounded down to milliseconds; a
  leap second `:60` is read as the second after `:59`. Other times are integers: `1.0` and `1e3`
  are not.
- TTFT and duration count for successes only, TTFT only of streams; TPOT is
  `(duration - TTFT) / (output_tokens - 1)` if there is more than one output token and the TTFT
  is below the duration.
- Without `stream`, a TTFT counts only if it is below a known duration: many gateways write the end
  of an answer that was not streamed for its first token.
- A TTFT above the duration by up to 1 ms or 0.1 % is taken as the duration. In the same way a
  `first_visible_token_ms` a little above the duration is taken as the duration, and a little below
  the TTFT as the TTFT. It counts for any success, streamed or not.
- A byte order mark before the object is ignored.
- NaN, Infinity, half surrogate pairs and bytes that are not UTF-8 are not JSON, but cost their
  field only: it becomes unknown. A name that is a label counts with `_` in their place. In a
  `request_id` they cost the record.
- A label that is a number counts under its digits.
- A record timestamp before 2015 is of a machine without a clock. It is not compared with
  `ended_at`, and confirms a time no more than that of a sender ([Time](#time)).
- A probe counts for uptime only: its latencies and tokens are checked and left out. Its class of
  client error counts for objectives with `error_classes` and `probes`, not among the client errors
  of requests.
- An answer that is `served_from` a `response_cache` also counts for uptime only, and apart. It does
  not count for the provider, which was not asked.
- The cache hit ratio is of the requests whose cached tokens are known. Send
  `cached_input_tokens: 0` if there were none: a missing field is not 0.
- Any text or number is a customer id; `7`, `7.0` and `"7"` are one. In other names, characters
  that are not letters, digits, space and `. _ : / @ -` become `_`. If the result is longer than 96
  characters, reserved (`__other__`) or without a letter, it ends in `-` and 8 hexadecimal digits of
  the SHA-256 of its text. With `worker.names_last_part` an ARN or a path counts under its last
  part: `a/b/gemini-2` under `gemini-2`.

## Outcome from the HTTP status

The status is read if there is no usable `outcome`. A record with a status that is not in this
table, and without ending and class, is rejected (`out_of_range`).

{outcomes}

## Ending and error class

An ending replaces the outcome `success`, whether that is given or follows from the status: an
answer that ended without output, or with an error as its finish reason, is not a success. It does
not replace any other outcome. Without outcome and status, the outcome follows from the ending;
without an ending, from the error class. `output_tokens` are those delivered until the end. A
success with 0 output tokens and no ending stays a success: embeddings have no output tokens.

{endings}

Each class belongs to certain outcomes: `rate` to `rate_limited`; `upstream` to `server_error`,
`timeout`, `overloaded` and `stream_error`; the others to `client_error`. A class of another outcome
is dropped (`inconsistent`). If a client error has no class, it follows from the status:

{classes}

## Attempts

A gateway that tries again, at the same provider or at another one, sends an event for each attempt.
The attempts may share a `request_id` or have one each: a failed attempt is recognised by its id and
its `ended_at` ([Duplicates](#duplicates)). `attempt_of` names the customer's request, the same in
all its attempts. All attempts but the last have `final: false`. The last one counts as the
customer's request. The others count for the provider only: they are in `provider` of the report and
in `tokenpulse_attempts_total`, but not in requests, availability, tokens and bills of a customer. A
success that is not final, such as the slower of two parallel attempts, counts in the latencies. A
probe with `final: false` counts for the availability of the provider only.

## Duplicates

Gateways and Kafka clients send records again. A repeated event does not count if it arrives within
`worker.dedup_window_s` of the one before, however long ago the request ended. Arrival is the
partition's watermark when the record is read. A final success is recognised by its `request_id`,
since a request is answered once; any other event by its `request_id` and `ended_at`.

After an idle time the watermark moves far at once: with the first new event, or, if the senders
stamp the records (`CreateTime`), once later events confirm it ([Time](#time)). Of the 4,096 records
before that move, those that arrived within the window arrive again with it, so copies sent before
and after it count once.

Duplicates are recognised within one partition: the same id in two partitions counts twice. Use
`request_id` as the key of the record, so that a repeated event is in the same partition.

## What is wrong with a field

A wrong field of a record that counts adds one to
`tokenpulse_field_rejected_total{{field,reason}}`, and to `field_faults` of the report.

{faults}

`tokenpulse_known_ratio` on `/metrics`, and `known_ratio` in the report, are the share of the
traffic for which a measure is known.

## Why a record is rejected

A record is rejected if it cannot be identified, placed in time or given an outcome. It goes byte
for byte to the dead-letter topic and never moves the watermark. It is judged in this order: its
bytes, each required field from top to bottom, its outcome, its time. The first broken rule is the
reason.

{reasons}

## Time

Late and future are judged by the record's Kafka timestamp and the partition's watermark, never by
a worker's clock.

If the broker stamps the records (`LogAppendTime`), the watermark is the latest `ended_at` so far.
If the senders stamp them (`CreateTime`), a sender's clock may be wrong, and its timestamp with it.
The watermark then follows the events that other events confirm: one event with a wild time does not
move it, however often it is sent; it is counted at its own time. A clock that is wrong for most
requests in a row still moves it.

`LogAppendTime` is better: give the topic `message.timestamp.type=LogAppendTime`, as
`tokenpulse topics create` does. With `CreateTime` set at least `message.timestamp.after.max.ms`, so
that the broker rejects records from the future; `tokenpulse config check` warns without it.

## Versions

Version 2 counts many records that version 1 rejected. An event that is valid in version 1 needs no
change, but four of its numbers may differ: a missing `cached_input_tokens` is unknown, not 0; a
missing `stream` is unknown, not `true`; `cache_write_tokens` above or without `input_tokens` are
unknown; a TTFT that is the duration gives no TPOT. New fields are `total_tokens`,
`estimated_tokens`, `served_from`, `requested_service_tier`, `attempt_of`, `final`,
`first_visible_token_ms`, `error_class` and `ending`.
"""


def markdown_table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)

"""The JSON Schema of the report, generated from the names in the code by `make docs`."""

from typing import Any

from streams.events.fields import CLIENT_CLASSES, ENDINGS, FIELDS, OUTCOMES, REASONS
from streams.state.measures import QUANTILES, SERIES_DIMENSIONS
from streams.state.slices import LATENCIES, TOKENS

_COUNT = {"type": "integer", "minimum": 0}
_RATIO = {"type": "number", "minimum": 0, "maximum": 1}
_INSTANT = {"type": "string", "format": "date-time"}


def _object(properties: dict[str, Any], required: "list[str] | None" = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
    }


def json_schema() -> dict[str, Any]:
    """Return the schema (draft 2020-12). Unknown values are absent; counts are always present."""
    latency = _object(
        {"count": _COUNT, **{name: {"type": "number", "minimum": 0} for name in QUANTILES}},
        required=["count"],
    )
    latency["description"] = (
        "Seconds; nearest-rank percentiles of `count` samples, at most 0.8 % above the exact value."
    )
    measures = _object(
        {
            "requests": {**_COUNT, "description": "Without probes."},
            "outcomes": _object(dict.fromkeys(OUTCOMES, _COUNT)),
            "refused": {
                **_object(dict.fromkeys(REASONS, _COUNT), required=[]),
                "description": "Records refused, by reason; not in groups.",
            },
            "duplicates": {
                **_COUNT,
                "description": "Records not counted, as their request was counted before; not in "
                "groups.",
            },
            "field_faults": {
                **_object(
                    {
                        field.name: _object(dict.fromkeys(field.kind.reasons, _COUNT), required=[])
                        for field in FIELDS
                        if field.kind.reasons
                    },
                    required=[],
                ),
                "description": "Counted records with a wrong field, by field and reason: the field "
                "is unknown, or was renamed or marked; not in groups.",
            },
            "complete": {
                "type": "boolean",
                "description": "False if records of this stretch of time are known to be "
                "missing (see `gaps`), if the state began later, and after `settled_until`; "
                "not in groups.",
            },
            "tokens": {
                **_object(dict.fromkeys((*TOKENS, "total"), _COUNT)),
                "description": "`input` includes cached, `output` includes reasoning; "
                "`total` is input + output.",
            },
            "known": {
                **_object(dict.fromkeys(("tokens", "cached_input", "cached_input_of"), _COUNT)),
                "description": "Successes whose input tokens, and whose cached input tokens, are "
                "known; `cached_input_of`: input tokens of all requests whose cached ones are "
                "known.",
            },
            "known_ratio": {
                **_object(dict.fromkeys(("tokens", "cached_input", "ttft"), _RATIO), required=[]),
                "description": "`tokens`: share of the successes with input tokens. "
                "`cached_input`: share of the input tokens whose cached part is known. `ttft`: "
                "share of the streamed successes with a TTFT; not of customers.",
            },
            "estimated": {
                **_object({"requests": _COUNT, "tokens": _COUNT}),
                "description": "Requests whose tokens are estimates, and these tokens; they are in "
                "`tokens` too.",
            },
            "response_cache": {
                **_COUNT,
                "description": "Successes answered from a gateway's response cache: not in "
                "`tokens`, nor in the latencies.",
            },
            "provider": {
                **_object(
                    {
                        "attempts": _COUNT,
                        "outcomes": _object(dict.fromkeys(OUTCOMES, _COUNT)),
                        "tokens": _object(dict.fromkeys((*TOKENS, "total"), _COUNT)),
                        "availability_ratio": _RATIO,
                    },
                    required=["attempts", "outcomes", "tokens"],
                ),
                "description": "All attempts, as their providers see them: the requests, and the "
                "attempts before the final ones, which no other measure counts. Answers from a "
                "response cache are left out. Without an attempt that counts, there is no ratio.",
            },
            "failures": {
                **_object(dict.fromkeys(("streamed", "unstreamed", "unknown"), _COUNT)),
                "description": "Requests that an SLA counts as failed, without probes, by whether "
                "their answer was streamed. `unknown`: the event did not say it, or the group is a "
                "customer.",
            },
            "client_errors": {
                **_object(dict.fromkeys(CLIENT_CLASSES, _COUNT), required=[]),
                "description": "Requests with the outcome client_error, by class; those of an "
                "unknown class are left out.",
            },
            "endings": {
                **_object(
                    dict.fromkeys(ENDINGS, _object({"requests": _COUNT, "output_tokens": _COUNT})),
                    required=[],
                ),
                "description": "Requests whose ending is known, and the output tokens that were "
                "delivered until then.",
            },
            "tier_changed": {
                **_COUNT,
                "description": "Requests served in another service tier than the requested one.",
            },
            "cache_hit_ratio": {
                **_RATIO,
                "description": "cached_input / known.cached_input_of, of the sums.",
            },
            **{f"{name}_seconds": {"$ref": "#/$defs/latency"} for name in LATENCIES},
            "availability_ratio": {
                **_RATIO,
                "description": "success / (success + server_error + timeout + overloaded + "
                "stream_error), probes included.",
            },
        },
        required=[
            *("requests", "outcomes", "tokens"),
            *("known", "known_ratio", "estimated", "response_cache"),
            *("provider", "failures", "client_errors", "endings", "tier_changed"),
        ],
    )
    gap = _object(
        {
            "from": {**_INSTANT, "description": "Begin, included."},
            "to": {
                "type": ["string", "null"],
                "format": "date-time",
                "description": "End, not included; null: no event has come since.",
            },
            "records": {**_COUNT, "description": "How many are missing, as far as it is known."},
        }
    )
    steps = {
        "type": "array",
        "items": _object({"start": _INSTANT, "measures": {"$ref": "#/$defs/measures"}}),
    }
    group = _object(
        {
            "key": _object(
                {name: {"type": "string"} for name in (*SERIES_DIMENSIONS, "customer")},
                required=[],
            ),
            "total": {"$ref": "#/$defs/measures"},
            "steps": {**steps, "description": "Only steps in which the group occurs."},
        }
    )
    top = _object(
        {
            "from": {**_INSTANT, "description": "Begin, included."},
            "to": {**_INSTANT, "description": "End, not included."},
            "step_s": {
                **_COUNT,
                "description": "Length of a step in seconds: the one asked for, or the next longer "
                "one that divides a day into slices still kept at `from`.",
            },
            "as_of": {**_INSTANT, "description": "The instant the answer is for."},
            "settled_until": {
                **_INSTANT,
                "description": "The end of the last step that is over and that every partition has "
                "counted, or `to` if that is earlier, or `from` if there is none: the steps after "
                "it may still grow, and are not complete.",
            },
            "later": {
                "type": ["object", "null"],
                "properties": {
                    "requests": {**_COUNT, "description": "Without probes."},
                    "until": {**_INSTANT, "description": "End, not included."},
                },
                "required": ["requests", "until"],
                "additionalProperties": False,
                "description": "Requests stored after `to`, if the report chose its end itself: "
                "clocks that are far ahead of the time of the report; null: none.",
            },
            "gaps": {
                "type": "array",
                "items": gap,
                "description": "All stretches of event time, also beyond this report, in which "
                "records are missing: gone from Kafka before they were counted, or skipped.",
            },
            "lost_records": {
                **_COUNT,
                "description": "Missing records since the state began, also those of gaps too old "
                "to be listed.",
            },
            "total": {"$ref": "#/$defs/measures"},
            "steps": steps,
            "groups": {"type": "array", "items": {"$ref": "#/$defs/group"}},
        },
        required=[
            *("from", "to", "step_s", "as_of", "settled_until", "later"),
            *("gaps", "lost_records", "total", "steps"),
        ],
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Tokenpulse report",
        **top,
        "$defs": {"latency": latency, "measures": measures, "group": group},
    }
